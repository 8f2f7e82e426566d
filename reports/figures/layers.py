"""The figure of a network's layers."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from reports.figures import look


@look.svg
def network(layers: Sequence[tuple[str, Sequence[int | None], int]]) -> Figure:
    """Draw a chain of layers from left to right, a full line wide.

    The height of a block is proportional to the square root of its units. Layers without parameters are grey.

    Args:
        layers: name, output shape (None for a variable size) and number of parameters of each layer.

    Returns:
        The figure as SVG, with names, shapes and parameters under the blocks.
    """
    units = np.array([np.prod([size or 1 for size in shape], dtype=float) for _, shape, _ in layers])
    # All lengths below are in points.
    line, margin, tallest = 9.0, 54.0, 72.0
    slot = (look.PAGE - margin) / len(layers)
    names = [name.replace("_", " ") for name, _, _ in layers]
    rows = {
        "layer": [[name] if look.width_of(name) < slot - 4 else name.split() for name in names],
        "output": [[" × ".join("n" if size is None else f"{size:,}" for size in shape)] for _, shape, _ in layers],
        "parameters": [[f"{parameters:,}"] for _, _, parameters in layers],
    }
    figure, axes = look.in_points(tallest)
    centres = margin + slot * (np.arange(len(layers)) + 0.5)
    heights = np.maximum(tallest * np.sqrt(units / units.max()), 6)
    half = min(0.25 * slot, 16)
    for start, end in itertools.pairwise(range(len(layers))):
        corners = [(centres[start] + half, heights[start] / 2), (centres[end] - half, heights[end] / 2)]
        axes.add_patch(Polygon([*corners, *((x, -y) for x, y in reversed(corners))], color="#e9eef2", linewidth=0))
    for centre, height, (_, _, parameters) in zip(centres, heights, layers, strict=True):
        outline = FancyBboxPatch(
            (centre - half, -height / 2),
            2 * half,
            height,
            "round,pad=0,rounding_size=2",
            linewidth=0,
            color=look.PALETTE[0] if parameters else look.QUIET,
        )
        axes.add_patch(outline)
    bottom = -tallest / 2 - 8
    for title, cells in rows.items():
        turned = max(look.width_of(text) for cell in cells for text in cell) > slot - 2
        axes.text(2, bottom, title, color=look.QUIET, fontsize=7, va="top")
        for centre, cell in zip(centres, cells, strict=True):
            text = (" " if turned else "\n").join(cell)
            axes.text(centre, bottom, text, fontsize=7, va="top", ha="center", rotation=90 if turned else 0)
        deep = max(look.width_of(" ".join(cell)) for cell in cells) if turned else max(map(len, cells)) * line
        bottom -= deep + 5
    axes.set_ylim(bottom, tallest / 2 + 4)
    figure.set_figheight((tallest / 2 + 4 - bottom) / 72)
    return figure

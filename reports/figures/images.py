"""The figure of pictures, or of weights as pictures."""

import math
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reports.figures import look


def _colours(images: ArrayLike, signed: bool) -> tuple[np.ndarray, float]:
    """Pictures (n, h, w, 1 or 3) as (n, h, w, 3) from 0 to 1, and the magnitude at the ends of the colour scale."""
    values = np.asarray(images)
    values = np.asarray(values / 255 if values.dtype == np.uint8 else values, float)
    if not signed:
        return np.broadcast_to(values.clip(0, 1), (*values.shape[:3], 3)), 1.0
    # Otherwise, a few large weights would leave the others pale.
    limit = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    share = np.clip(0.5 + values / (2 * limit), 0, 1)
    return (share if values.shape[-1] == 3 else matplotlib.colormaps["RdBu_r"](share[..., 0])[..., :3]), limit


@look.svg
def pictures(
    images: ArrayLike,
    captions: Sequence[str],
    *,
    columns: int,
    overlays: ArrayLike | None = None,
    marks: Sequence[bool] | None = None,
    row_names: Sequence[str] | None = None,
    signed: bool = False,
) -> Figure:
    """Draw small pictures in rows, each pixel a square of one colour, a full line wide.

    Args:
        images: (n, height, width, 1 or 3), uint8 or from 0 to 1.
        captions: (n,), under the pictures; they take no space if all are empty.
        columns: pictures in a row.
        overlays: (n, height, width) from 0 to 1, such as Grad-CAM maps, drawn over a paler copy of each picture to its
            right.
        marks: (n,), whether captions are bold and coloured, such as those of wrong predictions.
        row_names: a name for each row, to its left.
        signed: whether the pictures are signed values of any magnitude, such as weights: one channel is drawn from blue
            over white to red, three channels as colours around grey. All pictures have the same scale, which clips the
            0.5 % of largest magnitude.

    Returns:
        The figure as SVG, with each picture as an embedded PNG of its own pixels.
    """
    colors, limit = _colours(images, signed)
    number, rows, (high, wide) = len(colors), math.ceil(len(colors) / columns), colors.shape[1:3]
    marked = [False] * number if marks is None else marks
    tiles = [colors]
    if overlays is not None:
        grey = 0.35 * colors.mean(axis=-1, keepdims=True)
        maps = np.asarray(overlays, float).clip(0, 1)
        tiles.append(0.65 * matplotlib.colormaps["viridis"](maps)[..., :3] + grey)
    # All lengths below are in points.
    names = [textwrap.fill(name, 14) for name in row_names or ()]
    left = look.widest(names) + 8 if names else 0.0
    slot = (look.PAGE - left) / columns
    gap = 5.0 if any(captions) else 3.0
    side = min((slot - gap) / len(tiles), 62.0)  # the width of a picture
    tall = side * high / wide
    letters = max(int((slot - 2) / 3.9), 1)
    texts = [textwrap.wrap(text, letters, max_lines=3, placeholder="…") for text in captions]
    deep = [8.0 * max(map(len, texts[row * columns : (row + 1) * columns])) for row in range(rows)]
    explained = 14.0 if signed or overlays is not None else 0.0
    height = sum(deep) + rows * (tall + gap) + explained + 2
    figure, axes = look.in_points(height)
    top = height - 1
    for row in range(rows):
        if names:
            axes.text(0, top - tall / 2, names[row], fontsize=7, va="center")
        for column, index in enumerate(range(row * columns, min((row + 1) * columns, number))):
            centre = left + (column + 0.5) * slot
            for place, of_kind in enumerate(tiles):
                start = centre + (place - len(tiles) / 2) * side
                pixels = np.round(255 * of_kind[index]).astype(np.uint8)
                end = start + side - (1 if place < len(tiles) - 1 else 0)
                axes.imshow(pixels, extent=(start, end, top - tall, top), interpolation="none", aspect="auto")
            axes.text(
                centre,
                top - tall - 1.5,
                "\n".join(texts[index]),
                fontsize=6.5,
                ha="center",
                va="top",
                linespacing=1.1,
                color=look.PALETTE[1] if marked[index] else look.INK,
                weight="bold" if marked[index] else "normal",
            )
        top -= tall + gap + deep[row]
    shades = np.linspace(0, 1, 64)
    if signed and colors.shape[-1] == np.asarray(images).shape[-1]:
        axes.text(left, 5, f"grey is 0; the ends of the scale are ±{limit:.2g}", fontsize=7, va="center_baseline")
    elif signed:
        ends = (f"−{limit:.2g}", f"{limit:.2g}")
        look.colour_scale(axes, left, 1.5, matplotlib.colormaps["RdBu_r"](shades)[:, :3], ends)
    elif overlays is not None:
        look.colour_scale(axes, left, 1.5, matplotlib.colormaps["viridis"](shades)[:, :3], ("least", "most"))
    return figure

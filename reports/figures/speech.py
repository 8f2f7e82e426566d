"""The figure of a recording: its spectrogram above rows of labelled segments."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from reports.figures import look


def _label_places(
    segments: Sequence[tuple[float, float, str, bool]], scale: float, width: float
) -> list[tuple[float, int | None]]:
    """The centre of each label in points, and its line: 0 in the box, 1 and 2 below, None if there is no space."""
    places = []
    filled = {1: -2.0, 2: -2.0}  # the occupied width of each line
    for start, end, label, right in segments:
        half = look.width_of(label) * (0.47 if right else 0.54)  # 6.5 points rather than 7, and bold is wider
        centre, line = (start + end) / 2 * scale, 0
        if 2 * half + 1.5 > (end - start) * scale:
            centre = min(max(centre, half), width - half)
            line = next((below for below, reached in filled.items() if reached + 2 <= centre - half), None)
            if line is not None:
                filled[line] = centre + half
        places.append((centre, line))
    return places


@look.svg
def spectrogram(
    frames: ArrayLike,
    *,
    step: float,
    centres: ArrayLike,
    tracks: Mapping[str, Sequence[tuple[float, float, str, bool]]],
) -> Figure:
    """Draw a spectrogram and under it rows of labelled segments, a full line wide.

    A label that is wider than its segment is below it, or left out if there is no space.

    Args:
        frames: (n, bands), log energy; high values are bright.
        step: seconds from one frame to the next.
        centres: (bands,), the centre frequencies of the bands in hertz, ascending; all bands have the same height.
        tracks: the segments of each row in order: start and end in seconds, label, and whether it is right. Wrong ones
            are dark, with bold labels.

    Returns:
        The figure as SVG.
    """
    energy, frequencies = np.asarray(frames, float), np.asarray(centres, float)
    duration = len(energy) * step
    # All lengths below are in points.
    box, line, picture, bottom = 12.0, 7.5, 100.0, 27.0
    names = [textwrap.fill(name, 22) for name in tracks]
    left = max(34, look.widest(names) + 8)
    width = look.PAGE - left - 12
    scale = width / duration  # of a second
    places = [_label_places(segments, scale, width) for segments in tracks.values()]
    heights = [
        max(box + line * max((below or 0 for _, below in row), default=0), 9 * (1 + name.count("\n"))) + 5
        for row, name in zip(places, names, strict=True)
    ]
    *tops, rows = np.cumsum([5, *heights])
    page = np.array([left + width + 12, bottom + rows + picture + 6])
    figure = Figure(figsize=tuple(page / 72))
    above = figure.add_axes((left / page[0], (bottom + rows) / page[1], width / page[0], picture / page[1]))
    axes = figure.add_axes((left / page[0], bottom / page[1], width / page[0], rows / page[1]))
    low, high = np.percentile(energy, [1, 99.9])
    above.imshow(
        energy.T,
        cmap="magma",
        vmin=low,
        vmax=high,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, duration, -0.5, len(frequencies) - 0.5),
    )
    ticks = [tick for tick in 250 * 2.0 ** np.arange(7) if frequencies[0] <= tick <= frequencies[-1]]
    ticks = ticks if len(ticks) > 1 else sorted({frequencies[0], frequencies[-1]})
    above.set_yticks(
        np.interp(ticks, frequencies, np.arange(len(frequencies))), [f"{tick / 1e3:.3g}" for tick in ticks]
    )
    above.set_ylabel("frequency [kHz]")
    above.set_xticks([])
    above.grid(visible=False)
    for top, segments, row in zip(tops, tracks.values(), places, strict=True):
        for (start, end, label, right), (centre, below) in zip(segments, row, strict=True):
            fill = "#dfe6ec" if right else look.PALETTE[1]
            axes.add_patch(Rectangle((start, top), end - start, box, facecolor=fill, edgecolor="white", linewidth=0.4))
            if below is None:
                continue
            middle = top + box + (below - 0.5) * line if below else top + box / 2
            weight, ink = ("normal", look.INK) if right else ("bold", look.PALETTE[1] if below else "white")
            axes.text(
                centre / scale, middle, label, fontsize=6.5, weight=weight, color=ink, ha="center", va="center_baseline"
            )
    axes.set_yticks(np.array(tops) + 3, names, va="top")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlabel="time [s]", xlim=(0, duration), ylim=(rows, 0))
    if not all(right for segments in tracks.values() for *_, right in segments):
        wrong = Rectangle((0, 0), 1, 1, color=look.PALETTE[1])
        axes.legend([wrong], ["wrong"], loc="upper right", bbox_to_anchor=(1, -14 / rows), borderaxespad=0)
    return figure

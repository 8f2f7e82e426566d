"""Figures of classes: a scatter plot, a confusion matrix, a reliability diagram."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.colors
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from reports.figures import look


@look.svg
def scatter(points: ArrayLike, labels: ArrayLike, *, class_names: Sequence[str], axis_names: tuple[str, str]) -> Figure:
    """Draw points in the plane, coloured by class, half a line wide; rare classes are on top.

    The points are rasterised, to keep the file small.

    Args:
        points: (n, 2).
        labels: (n,), the index of each point's class.
        class_names: the name of each class.
        axis_names: names of the two axes.

    Returns:
        The figure as SVG.
    """
    places, truth = np.asarray(points, float), np.asarray(labels, int)
    counts = np.bincount(truth, minlength=len(class_names))
    figure = look.laid_out(look.HALF, 5.6)
    axes = figure.subplots()
    for layer, index in enumerate(np.argsort(-counts, kind="stable")):
        members = places[truth == index]
        common = counts[index] > 2000
        axes.scatter(
            *members.T,
            s=3 if common else 7,
            alpha=0.25 if common else 0.85,
            color=f"C{index}",
            marker=look.MARKERS[index // len(look.PALETTE) % 3],
            linewidths=0,
            zorder=2 + layer,
            rasterized=True,
        )
    for index, name in enumerate(class_names):
        marker = look.MARKERS[index // len(look.PALETTE) % 3]
        axes.plot([], [], marker, color=f"C{index}", markersize=4, label=f"{name}: {counts[index]:,}")
    axes.set(xlabel=look.wrapped(axis_names[0], 7), ylabel=look.wrapped(axis_names[1], 5))
    look.legend(figure, "outside lower left")
    return figure


@look.svg
def confusion_matrix(counts: ArrayLike, names: Sequence[str], *, groups: Mapping[str, int] | None = None) -> Figure:
    """Draw a confusion matrix, a full line wide.

    Each row is normalised to 100 %, and colours follow the share to the power of 0.4, to keep rare confusions visible.
    A row without samples is grey. Without groups, the counts are written in the cells if all of them fit.

    Args:
        counts: (classes, classes), rows are true and columns predicted classes.
        names: (classes,).
        groups: the number of consecutive classes in each group, in order; groups are separated by thin lines and named
            at the side.

    Returns:
        The figure as SVG.
    """
    table = np.asarray(counts, float)
    sizes = np.array([len(table)] if groups is None else list(groups.values()))
    totals = table.sum(axis=1, keepdims=True)
    shares = np.divide(table * 100, totals, out=np.full_like(table, np.nan), where=totals > 0)
    classes = [look.short(name) for name in names]
    named = (groups or {"": 0}).items()
    group_names = [textwrap.fill(look.short(name), 12 if size > 1 else 24) for name, size in named]
    # All lengths below are in points.
    top = 30.0
    bottom = left = max(map(look.width_of, classes)) + 20
    right = look.widest(group_names) + 10
    cell = min((look.PAGE - left - right) / len(table), 26 if groups is None else 40)
    side = cell * len(table)
    height = bottom + side + top
    figure = Figure(figsize=(look.PAGE / 72, height / 72))
    axes = figure.add_axes((left / look.PAGE, bottom / height, side / look.PAGE, side / height))
    colors = matplotlib.colormaps["Blues"].with_extremes(bad="#c9cdd1")
    norm = matplotlib.colors.PowerNorm(0.4, 0, 100)
    image = axes.imshow(shares, cmap=colors, norm=norm, interpolation="nearest")
    turned = max(map(look.width_of, classes)) > cell - 4
    axes.set_xticks(range(len(table)), classes, rotation=90 if turned else 0)
    axes.set_yticks(range(len(table)), classes)
    axes.tick_params(length=0, pad=2, labelsize=min(7, cell - 1.5))
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=look.INK)
    axes.set(xlabel="predicted class", ylabel="true class")
    ends = np.cumsum(sizes) - 0.5
    for end, size, name in zip(ends, sizes, group_names, strict=True):
        if end < ends[-1]:
            axes.axhline(end, color=look.INK, linewidth=0.5)
            axes.axvline(end, color=look.INK, linewidth=0.5)
        font = min(7, (cell * size - 1) / (name.count("\n") + 1) / 1.2)
        axes.text(ends[-1] + 4 / cell, end - size / 2, name, fontsize=font, va="center", linespacing=1.1)
    written = [f"{count:,.0f}" for count in table.ravel()]
    if groups is None and max(map(look.width_of, set(written))) < cell - 3:
        places = np.ndindex(*table.shape)
        for (row, column), share, text in zip(places, norm(shares).ravel(), written, strict=True):
            if text != "0":
                ink = "white" if share > 0.6 else look.INK
                axes.text(column, row, text, color=ink, fontsize=7, ha="center", va="center")
    bar = figure.add_axes((left / look.PAGE, 1 - 10 / height, 150 / look.PAGE, 7 / height))
    scale = figure.colorbar(image, cax=bar, orientation="horizontal", ticks=[0, 1, 5, 10, 25, 50, 100])
    for part in bar.collections:
        part.set_rasterized(True)
    scale.outline.set_visible(False)
    note = "" if (totals > 0).all() else "; grey: no sample"
    bar.text(1.05, 0.5, f"share of the true class [%]{note}", transform=bar.transAxes, va="center", fontsize=7)
    return figure


@look.svg
def reliability_diagram(models: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw a reliability diagram, accuracy over confidence, a full line wide.

    Beside it is the share of the pictures in each bin of the first model, to show the weight of each point.

    Args:
        models: by model, the bins of `reports.classification.reliability`.

    Returns:
        The figure as SVG. Below the diagonal, a model is overconfident. The axes of the diagonal begin at the last
        multiple of ten below all points.
    """
    figure = look.laid_out(look.FULL, 6.6)
    axes, histogram = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.15]})
    axes.plot([0, 100], [0, 100], color=look.QUIET, linewidth=0.9, linestyle=look.DASHED, label="perfect calibration")
    lowest, keys = 100.0, ("low", "high", "count", "confidence", "accuracy")
    for index, (model, bins) in enumerate(models.items()):
        low, high, count, confidence, accuracy = np.array([[point[key] for key in keys] for point in bins], float).T
        line = {"marker": look.MARKERS[index % 3], "markersize": 3.5, "linewidth": 1.8 if index == 0 else 1.0}
        axes.plot(100 * confidence, 100 * accuracy, color=f"C{index}", label=model, zorder=4 - index / 10, **line)
        lowest = min(lowest, 100 * confidence.min(), 100 * accuracy.min())
        if index == 0:
            shares = 100 * count / count.sum()
            bars = histogram.bar(100 * low, shares, 100 * (high - low), align="edge", color="C0", alpha=0.75)
            labels = [f"{share:.0f}" if share >= 1 else "<1" for share in shares]
            histogram.bar_label(bars, labels, fontsize=6.5, padding=1)
    start = 10 * math.floor(min(lowest, 89) / 10)
    margin = (100 - start) / 50
    span, ticks = (start - margin, 100 + margin), MaxNLocator(5, steps=look.STEPS)
    axes.set(xlabel="confidence [%]", ylabel="accuracy [%]", xlim=span, ylim=span)
    axes.xaxis.set_major_locator(ticks)
    axes.yaxis.set_major_locator(ticks)
    axes.set_aspect("equal")
    first = look.short(next(iter(models)))
    histogram.set(xlabel=f"{first} confidence [%]", ylabel="share of images [%]", xlim=(-2, 102))
    histogram.set_xticks(range(0, 101, 20))
    histogram.set_ylim(0, 1.1 * histogram.get_ylim()[1])
    look.legend(figure, "outside lower left")
    return figure

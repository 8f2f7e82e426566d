"""Figures of models' values with intervals, and of shares."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.colors
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from reports.figures import look


@look.svg
def grouped_bars(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    x_label: str,
    y_label: str,
    counts: Mapping[str, float] | None = None,
) -> Figure:
    """Draw one bar per model in each group, with its interval, a full line wide.

    Args:
        values: by model and group, the value and the lower and upper ends of its interval; all models have the same
            groups in the same order.
        x_label: name of the groups.
        y_label: name of the values, with their unit.
        counts: the size of each group, such as its words, written above it.

    Returns:
        The figure as SVG.
    """
    groups = list(next(iter(values.values())))
    figure = look.laid_out(look.FULL, 5.6)
    axes = figure.subplots()
    width = 0.8 / len(values)
    for index, (model, by_group) in enumerate(values.items()):
        value, low, high = np.array([by_group[group] for group in groups], float).T
        places = np.arange(len(groups)) + (index - (len(values) - 1) / 2) * width
        axes.bar(places, value, width * 0.88, color=f"C{index}", label=model)
        # Around the middle of the interval, which may not contain the value.
        middle, reach = (low + high) / 2, (high - low) / 2
        axes.errorbar(places, middle, reach, fmt="none", ecolor=look.INK, elinewidth=0.9, capsize=1.8, capthick=0.9)
    letters = int(look.PAGE / len(groups) / 4.7)  # fit under a group
    if all(len(word) <= letters for group in groups for word in group.split()):
        axes.set_xticks(range(len(groups)), [textwrap.fill(group, letters) for group in groups])
    else:  # rotated, in short lines
        axes.set_xticks(range(len(groups)), [textwrap.fill(group, 16) for group in groups], rotation=90)
        figure.set_figheight(figure.get_figheight() + 0.6)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel=x_label, ylabel=look.wrapped(y_label, 4.5))
    axes.axhline(0, color=look.QUIET, linewidth=0.6)
    if not any(number for by_group in values.values() for spans in by_group.values() for number in spans):
        axes.set_ylim(0, 1)  # if all values are 0, the axis would begin below 0
    if counts is not None:
        texts = [f"{counts[group]:,.0f}" for group in groups]
        turned = max(map(look.width_of, texts)) > (look.FULL - 1.6) * look.POINTS / len(groups)
        above = {"fontsize": 6, "va": "bottom", "transform": axes.get_xaxis_transform()}
        for place, text in enumerate(texts):
            axes.text(place, 1.01, text, ha="center", rotation=90 if turned else 0, **above)
        axes.text(axes.get_xlim()[0], 1.01, "n =", ha="right", **above)
    look.legend(figure, "outside upper left")
    return figure


@look.svg
def interval_dots(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]], *, higher_is_better: Mapping[str, bool]
) -> Figure:
    """Draw several measures of models with intervals, a full line wide.

    Each measure has its own panel, in which a thin line marks the best value.

    Args:
        values: by model and measure, the value and the lower and upper ends of its interval.
        higher_is_better: by measure, in the order of the panels.

    Returns:
        The figure as SVG.
    """
    names = [textwrap.fill(model, 26) for model in values]
    lines = max(name.count("\n") + 1 for name in names)
    figure = look.laid_out(look.FULL, 1.8 + (0.15 + 0.3 * lines) * len(names))
    panels = figure.subplots(1, len(higher_is_better), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.1})[0]
    for axes, (measure, higher) in zip(panels, higher_is_better.items(), strict=True):
        rows = np.array([by_measure[measure] for by_measure in values.values()], float)
        for index, (value, low, high) in enumerate(rows):
            axes.plot([low, high], [index, index], color=f"C{index}", linewidth=1.6, linestyle="-", zorder=3)
            axes.plot(value, index, "o", color=f"C{index}", markersize=4.5, zorder=4)
        axes.axvline(rows[:, 0].max() if higher else rows[:, 0].min(), color=look.INK, linewidth=0.7, zorder=2)
        axes.set_title(textwrap.fill(measure, 72 // len(panels)))
        axes.set_xlabel("higher is better →" if higher else "← lower is better")
        axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3, steps=look.STEPS))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


@look.svg
def share_bars(rows: Sequence[str], shares: ArrayLike, names: Sequence[str], *, x_label: str, y_label: str) -> Figure:
    """Draw the composition of rows as stacked bars, a full line wide.

    Args:
        rows: the name of each row, from the top.
        shares: (rows, features), each feature's share of its row, from 0 to 1; the remainder is "other".
        names: (features,); the seven with the highest total shares are drawn, the others as "other".
        x_label: name of the total; its unit, per cent, is added.
        y_label: name of the rows.

    Returns:
        The figure as SVG; shares of 8 % and more are labelled.
    """
    table = np.asarray(shares, float) * 100
    order = np.argsort(-table.sum(axis=0), kind="stable")
    kept, rest = order[:7], order[7:]
    parts = [(names[index], table[:, index], look.PALETTE[place]) for place, index in enumerate(kept)]
    other = np.where(table.any(axis=1), 100 - table[:, kept].sum(axis=1), 0)
    if rest.size or other.max() >= 1:
        parts.append(("other", np.maximum(other, 0), "#d5dade"))
    figure = look.laid_out(look.FULL, 1.6 + 0.45 * len(rows))
    axes = figure.subplots()
    left = np.zeros(len(rows))
    for name, part, color in parts:
        bars = axes.barh(
            range(len(rows)), part, 0.74, left=left, color=color, edgecolor="white", linewidth=0.6, label=name
        )
        dark = np.dot(matplotlib.colors.to_rgb(color), (0.3, 0.59, 0.11)) < 0.55
        written = [f"{share:.0f}" if share >= 8 else "" for share in part]
        axes.bar_label(bars, written, label_type="center", color="white" if dark else "black", fontsize=6.5)
        left += part
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"{x_label} [%]", ylabel=y_label, xlim=(0, max(100, left.max())))
    look.legend(figure, "outside upper left")
    return figure

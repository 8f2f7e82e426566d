"""Figures of quantities over steps: epochs, modules, amounts of data."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from reports.figures import look


def _columns(points: Sequence[tuple[float, ...]]) -> np.ndarray:
    """The columns of points, sorted by the first one."""
    table = np.array(points, float)
    return table[np.argsort(table[:, 0], kind="stable")].T


def _levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draw horizontal lines in axes that are 3.6 cm high, with names to the right that don't overlap."""
    values = np.array(list(levels.values()), float)
    for value in values:
        axes.axhline(value, color=look.INK, linewidth=0.7, linestyle=look.DASHED, zorder=1.5)
    axes.set_ylim(axes.get_ylim())
    # As shares of the height, as the axis may be logarithmic.
    scaled = axes.transScale.transform(np.column_stack([np.ones(len(values)), values]))
    places = axes.transLimits.transform(scaled)[:, 1]
    order, gap = np.argsort(places, kind="stable"), 8.0 / (3.6 * look.POINTS)
    apart = places[order]
    for _ in range(500):  # push names apart
        near = np.maximum(gap - np.diff(apart), 0) / 2
        apart[:-1] -= near
        apart[1:] += near
        apart = apart.clip(0, 1)
    names = list(levels)
    for index, place in zip(order, apart, strict=True):
        axes.annotate(
            names[index],
            (1, places[index]),
            (1.02, place),
            xycoords="axes fraction",
            fontsize=6.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": look.QUIET, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0},
        )


@look.svg
def interval_curves(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    wide: bool = False,
) -> Figure:
    """Draw one or more curves, with shaded intervals, half a line wide.

    Args:
        curves: the points of each curve: x, y and the lower and upper ends of its interval.
        x_label: name of the x values, with their unit.
        y_label: name of the y values, with their unit.
        logarithmic: whether the x axis is logarithmic above 1; from 0 to 1 it is linear.
        wide: a full line wide instead.

    Returns:
        The figure as SVG. With more than three curves, intervals are left out, as they would overlap.
    """
    figure = look.laid_out(look.FULL if wide else look.HALF, 5.6)
    axes = figure.subplots()
    for index, (name, points) in enumerate(curves.items()):
        place, value, low, high = _columns(points)
        (line,) = axes.plot(place, value, marker=look.MARKERS[index % 3], markersize=3.5, label=name, zorder=3)
        if len(curves) > 3:
            continue
        axes.fill_between(place, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        if len(place) == 1:  # a single point spans no area
            axes.vlines(place, low, high, color=line.get_color(), alpha=0.2, linewidth=4)
    if logarithmic:
        axes.set_xscale("symlog", linthresh=1)
        places = sorted({float(point[0]) for points in curves.values() for point in points})
        axes.set_xticks(places, [f"{place:,g}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=look.STEPS))
    axes.set(xlabel=look.wrapped(x_label, 15 if wide else 7), ylabel=look.wrapped(y_label, 4.5))
    look.legend(figure, "outside lower left")
    return figure


@look.svg
def learning_curves(
    curves: Mapping[str, Mapping[str, ArrayLike]],
    *,
    y_label: str,
    best_epoch: int | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draw a quantity over the epochs of one or more runs, a full line wide.

    Args:
        curves: by run and series (such as training and validation), a value per epoch. The first run is drawn thick,
            the others thin.
        y_label: name of the values, with their unit.
        best_epoch: the epoch, counted from 1, whose weights were kept in the first run.
        levels: reference values, such as those of baselines, drawn as lines with their names to the right.

    Returns:
        The figure as SVG; the axis is logarithmic if the values range over more than two decades.
    """
    arrays = {run: {name: np.asarray(values, float) for name, values in of.items()} for run, of in curves.items()}
    values = [array for of_run in arrays.values() for array in of_run.values()]
    names = list(dict.fromkeys(name for of_run in arrays.values() for name in of_run))
    first, *others = arrays
    figure = look.laid_out(look.FULL, 5.2)
    axes = figure.subplots()
    for run, of_run in arrays.items():
        for name, array in of_run.items():
            label = f"{run}, {name}" if run == first else None
            width = 1.8 if run == first else 0.6
            epochs = np.arange(1, len(array) + 1)
            marker = "o" if len(array) == 1 else None  # one epoch isn't a line
            color = f"C{names.index(name)}"
            axes.plot(epochs, array, marker=marker, color=color, label=label, linewidth=width, zorder=1 + width)
    if others:
        axes.plot([], [], color=look.QUIET, linewidth=0.6, label=f"thin: {', '.join(others)}")
    if best_epoch is not None:
        axes.axvline(best_epoch, color=look.INK, linewidth=0.9, linestyle=":", label=f"best epoch {best_epoch}")
    if look.ranges_widely(np.concatenate(values)):
        look.make_logarithmic(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=look.STEPS))
    axes.set_xlim(0.5, max(map(len, values)) + 0.5)
    axes.set(xlabel="epoch", ylabel=look.wrapped(y_label, 4))
    if levels:
        _levels(axes, levels)
    look.legend(figure, "outside upper left")
    return figure


@look.svg
def series(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    *,
    x_label: str,
    mark: tuple[float, str] | None = None,
) -> Figure:
    """Draw quantities over the same steps, such as modules or epochs, each in a panel, a full line wide.

    The axis of a quantity is logarithmic if its largest value is above 1 and more than 10 times the smallest.

    Args:
        panels: by quantity, with its unit, and series, the points (step, value). Series of the same name look alike in
            all panels.
        x_label: name of the steps.
        mark: a step to mark, and its label.

    Returns:
        The figure as SVG; without a legend if there is a single series.
    """
    names = list(dict.fromkeys(name for of_panel in panels.values() for name in of_panel))
    figure = look.laid_out(look.FULL, 5.2)
    drawn = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={"wspace": 0.05})[0]
    for axes, (quantity, of_panel) in zip(drawn, panels.items(), strict=True):
        for name, points in of_panel.items():
            step, value = _columns(points)
            place = names.index(name)
            marker = look.MARKERS[place % 3] if len(step) <= 30 else None
            axes.plot(step, value, color=f"C{place}", marker=marker, markersize=3, linewidth=1.4)
        values = np.concatenate([line.get_ydata() for line in axes.lines])
        if values.max() > 1 and look.ranges_widely(values, 10):
            look.make_logarithmic(axes, "y")
        if mark is not None:
            axes.axvline(mark[0], color=look.INK, linewidth=0.9, linestyle=look.DASHED)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=look.STEPS))
        axes.set(xlabel=x_label, ylabel=look.wrapped(quantity, 4.5))
    for place, name in enumerate(names if len(names) > 1 else ()):
        drawn[0].plot([], [], color=f"C{place}", marker=look.MARKERS[place % 3], markersize=3, label=name)
    if mark is not None:
        drawn[0].plot([], [], color=look.INK, linewidth=0.9, linestyle=look.DASHED, label=mark[1])
    if len(names) > 1 or mark is not None:
        look.legend(figure, "outside upper left")
    return figure

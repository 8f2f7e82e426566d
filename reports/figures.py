"""Figures of a report: one look, drawn with matplotlib, returned as SVG bytes.

Every function returns the same bytes for the same arguments and leaves matplotlib's settings as they were. Figures
are as wide as the report sets them, a full line (17 cm) or half of one (8.3 cm), so that their letters keep their
size. Colours follow the order of the arguments: the same models in the same order look alike in all figures.
"""

import functools
import io
import itertools
import math
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, ParamSpec

import matplotlib.colors
import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from reports import fonts
from reports.characters import code_point, shown, used

_FULL, _HALF = 17.0, 8.3  # centimetres
_POINTS = 72 / 2.54  # in a centimetre
_INK = "#33404b"
_QUIET = "#8a949d"
_DASHED = (0, (4, 3))
_SANS, _MONOSPACED = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib
# Okabe and Ito: told apart with any kind of colour vision. The faintest and the one that is ink come last.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_MARKERS = "o^s"  # where the colours begin again
_LOOK = {
    "axes.axisbelow": True,
    "axes.edgecolor": _QUIET,
    "axes.formatter.use_mathtext": False,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=_PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "font.family": _SANS,
    "font.size": 7.5,
    "grid.color": "#e4e8eb",
    "grid.linewidth": 0.5,
    "image.composite_image": False,  # each picture keeps its own pixels
    "legend.columnspacing": 1.2,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.title_fontsize": 7,
    "lines.linewidth": 1.0,
    "savefig.dpi": 200,  # of the parts that are drawn as pixels
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
    "text.color": _INK,
    "text.parse_math": False,  # names come from data and may hold a dollar sign
    "xtick.color": _INK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.color": _INK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
}
_Arguments = ParamSpec("_Arguments")


def _svg(draw: Callable[_Arguments, Figure], *, naming: bool = True) -> Callable[_Arguments, bytes]:
    """A function that draws as SVG bytes; with `naming`, characters that no font draws are named in its arguments."""

    @functools.wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> bytes:
        families, missing = _fonts_for((args, kwargs))
        missing = missing if naming else ()
        # "default" first, so that a reader's own matplotlibrc changes nothing.
        with matplotlib.style.context(["default", _LOOK, {"font.family": [_SANS, *families]}]):
            buffer = io.BytesIO()
            figure = draw(*shown(args, missing), **shown(kwargs, missing))  # pyright: ignore[reportCallIssue]
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    return drawn


def _fonts_for(value: object) -> tuple[list[str], set[str]]:
    """The families that draw what the figures' own font lacks of a value's characters, and what none of them draws."""
    own = get_font(findfont(_SANS))
    return fonts.choose(
        {c for c in used(shown(value)) if c not in "\n\t" and not own.get_char_index(ord(c))}, as_outlines=True
    )


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width / 2.54, height / 2.54), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))


def _width(text: str) -> float:
    """The width in points of a text in the size of a legend, 7 points."""
    return max(0.0, TextPath((0, 0), text, size=7).get_extents().width)


def _legend(figure: Figure, place: Literal["outside upper left", "outside lower left"], title: str = "") -> None:
    """Add a legend outside the axes, where it hides nothing, in as many columns as fit; the figure grows by it."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    widths = [_width(label) + 16 for label in labels]  # 16: the handle and its distance

    def taken(columns: int) -> float:
        return sum(part.max() for part in np.array_split(widths, columns)) + 9 * (columns - 1) + 8

    fitting = [columns for columns in range(2, len(labels) + 1) if taken(columns) <= figure.get_figwidth() * 72]
    columns = max(fitting, default=1)
    figure.legend(handles, labels, loc=place, ncols=columns, title=title, alignment="left")
    lines = math.ceil(len(labels) / columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + lines * 0.165)


def _wrapped(label: str, length: float) -> str:
    """An axis label in lines that fit an axis of this length in centimetres."""
    return textwrap.fill(label, int(length * _POINTS / 4.7))


def _numbers(name: str, values: ArrayLike, dimensions: int = 1) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name}: expected {dimensions} dimension(s) and some values, got the shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: some values are not finite")
    return array


def _same_length(**arrays: np.ndarray | Sequence) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ValueError(f"lengths differ: {lengths}")


def _intervals(name: str, rows: ArrayLike) -> np.ndarray:
    """Rows whose last two numbers are the ends of an interval."""
    table = _numbers(name, rows, 2)
    if (table[:, -2] > table[:, -1]).any():
        raise ValueError(f"{name}: an interval ends below its beginning")
    return table


def _wide(values: np.ndarray, ratio: float = 100) -> bool:
    return values.min() > 0 and values.max() / values.min() > ratio


def _log(axes: Axes, *directions: Literal["x", "y"]) -> None:
    for direction in directions:
        getattr(axes, f"set_{direction}scale")("log")
        low, high = getattr(axes, f"get_{direction}lim")()
        axis = getattr(axes, f"{direction}axis")
        axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5), numticks=7))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _levels(axes: Axes, levels: Mapping[str, float], height: float) -> None:
    """Lines across axes of this height in centimetres, with their names to the right of it, apart from each other."""
    if not levels:
        return
    values = _numbers("levels", list(levels.values()))
    for value in values:
        axes.axhline(value, color=_INK, linewidth=0.7, linestyle=_DASHED, zorder=1.5)
    axes.set_ylim(axes.get_ylim())
    # As parts of the height, since the axis may be logarithmic.
    scaled = axes.transScale.transform(np.column_stack([np.ones(len(values)), values]))
    places = axes.transLimits.transform(scaled)[:, 1]
    order, gap = np.argsort(places, kind="stable"), 8.0 / (height * _POINTS)
    apart = places[order]
    for _ in range(500):  # names that are too near push each other away
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
            arrowprops={"arrowstyle": "-", "color": _QUIET, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0},
        )


def _detection(labels: ArrayLike, scores: Mapping[str, ArrayLike], emphasis: str) -> tuple[np.ndarray, dict]:
    truth = _numbers("labels", labels)
    if set(np.unique(truth)) != {0, 1}:
        raise ValueError("labels: both classes, 0 and 1, are needed and no other")
    if emphasis not in scores:
        raise ValueError(f"emphasis: no scores of {emphasis!r} among {list(scores)}")
    arrays = {model: _numbers(f"scores of {model}", values) for model, values in scores.items()}
    for array in arrays.values():
        _same_length(labels=truth, scores=array)
    return truth, arrays


@_svg
def roc_curves(labels: ArrayLike, scores: Mapping[str, ArrayLike], *, emphasis: str) -> Figure:
    """Draw the receiver operating characteristic of several models, half a line wide.

    An inset shows the low false-positive rates, where a rare class is looked for, on a logarithmic axis.

    Args:
        labels: (n,), 1 for the class to be found and 0 for the other.
        scores: of each model, (n,), higher for class 1.
        emphasis: the model drawn with a thick line.

    Returns:
        The figure as SVG; the legend gives the area under each curve.

    Raises:
        ValueError: an array is empty, not finite or of another length, a class is missing or `emphasis` is unknown.
    """
    truth, arrays = _detection(labels, scores, emphasis)
    figure = _figure(_HALF, 5.4)
    axes = figure.subplots()
    axes.add_patch(Rectangle((0.36, 0.02), 0.63, 0.65, color="white", zorder=4))
    inset = axes.inset_axes((0.47, 0.13, 0.5, 0.43))
    lowest = min(0.1, max(1e-4, 1 / np.sum(truth == 0)))
    for model, array in arrays.items():
        width = 2.2 if model == emphasis else 1.0
        false_positive, true_positive, _ = roc_curve(truth, array)
        label = f"{model}  {auc(false_positive, true_positive):.3f}"
        axes.plot(false_positive, true_positive, label=label, linewidth=width, zorder=1 + width)
        inset.plot(false_positive, true_positive, drawstyle="steps-post", linewidth=width, zorder=1 + width)
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.9, linestyle=_DASHED, label="chance  0.500", zorder=1)
    inset.set(xlim=(lowest, min(1, 1000 * lowest)), ylim=(0, 1))
    _log(inset, "x")
    inset.set_title("the same at low rates", fontsize=7, pad=3)
    inset.tick_params(labelsize=6)
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.005))
    _legend(figure, "outside lower left", "area under the curve")
    return figure


@_svg
def precision_recall_curves(labels: ArrayLike, scores: Mapping[str, ArrayLike], *, emphasis: str) -> Figure:
    """Draw precision over recall of several models, half a line wide.

    Args:
        labels: (n,), 1 for the class to be found and 0 for the other.
        scores: of each model, (n,), higher for class 1.
        emphasis: the model drawn with a thick line.

    Returns:
        The figure as SVG; the legend gives each average precision, a dashed line the share of class 1.

    Raises:
        ValueError: an array is empty, not finite or of another length, a class is missing or `emphasis` is unknown.
    """
    truth, arrays = _detection(labels, scores, emphasis)
    figure = _figure(_HALF, 5.4)
    axes = figure.subplots()
    for model, array in arrays.items():
        width = 2.2 if model == emphasis else 1.0
        precision, recall, _ = precision_recall_curve(truth, array)
        label = f"{model}  {average_precision_score(truth, array):.3f}"
        axes.plot(recall, precision, label=label, drawstyle="steps-post", linewidth=width, zorder=1 + width)
    base_rate = truth.mean()
    axes.axhline(base_rate, color=_QUIET, linewidth=0.9, linestyle=_DASHED, label=f"base rate  {base_rate:.2g}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.005))
    _legend(figure, "outside lower left", "average precision")
    return figure


@_svg
def score_histogram(
    scores: ArrayLike, labels: ArrayLike, threshold: float, *, class_names: Sequence[str], score_name: str
) -> Figure:
    """Draw how the scores of each class spread around the threshold, half a line wide.

    The axis is logarithmic where the scores are positive and range over more than two decades.

    Args:
        scores: (n,).
        labels: (n,), the index of each score's class.
        threshold: where an alert begins, in units of the scores.
        class_names: the name of each class.
        score_name: the label of the axis, with its unit.

    Returns:
        The figure as SVG; the legend gives the number of each class and its share above the threshold.

    Raises:
        ValueError: an array is empty, not finite or of another length, or a class has no name.
    """
    values, truth = _numbers("scores", scores), _classes(labels, class_names)
    _same_length(scores=values, labels=truth)
    _numbers("threshold", [threshold])
    ends = np.append(values, threshold)
    logarithmic = _wide(ends)
    space = np.geomspace if logarithmic else np.linspace
    edges = space(ends.min(), ends.max(), 41)
    figure = _figure(_HALF, 5.6)
    axes = figure.subplots()
    for index, name in enumerate(class_names):
        members = values[truth == index]
        if not members.size:
            continue
        label = f"{name}: {members.size:,}, {np.mean(members > threshold) * 100:.3g} % above"
        shares = np.histogram(members, edges)[0] / members.size * 100
        axes.stairs(shares, edges, color=f"C{index}", fill=True, alpha=0.25)
        axes.stairs(shares, edges, color=f"C{index}", linewidth=1.1, label=label)
    if logarithmic:
        _log(axes, "x")
    axes.axvline(threshold, color=_INK, linewidth=1, linestyle=_DASHED, label=f"threshold {threshold:.3g}")
    axes.set(xlabel=_wrapped(score_name, 7), ylabel="share of the class\nper bin [%]")
    axes.set_ylim(bottom=0)
    _legend(figure, "outside lower left")
    return figure


def _classes(labels: ArrayLike, class_names: Sequence[str]) -> np.ndarray:
    truth = _numbers("labels", labels)
    if not np.isin(truth, np.arange(len(class_names))).all():
        raise ValueError(f"labels: some are not the index of one of the {len(class_names)} class names")
    return truth.astype(int)


@_svg
def grouped_bars(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    x_label: str,
    y_label: str,
    counts: Mapping[str, float] | None = None,
) -> Figure:
    """Draw one bar per model in each group, with its interval, a full line wide.

    Args:
        values: of each model and group, the value and the lower and the upper end of its interval.
        x_label: what the groups are.
        y_label: what the values are, with their unit.
        counts: how much there is in each group, such as words, written above it.

    Returns:
        The figure as SVG.

    Raises:
        ValueError: nothing to draw, models differ in their groups, an interval is not finite or reversed, or the counts
            are of other groups or not finite.
    """
    if not values:
        raise ValueError("values: no model")
    groups = list(next(iter(values.values())))
    figure = _figure(_FULL, 5.6)
    axes = figure.subplots()
    width = 0.8 / len(values)
    for index, (model, by_group) in enumerate(values.items()):
        if list(by_group) != groups:
            raise ValueError(f"{model}: groups {list(by_group)} instead of {groups}")
        value, low, high = _intervals(f"values of {model}", list(by_group.values())).T
        places = np.arange(len(groups)) + (index - (len(values) - 1) / 2) * width
        axes.bar(places, value, width * 0.88, color=f"C{index}", label=model)
        # Around the middle of the interval, since the value of a bootstrap may lie outside its interval.
        middle, reach = (low + high) / 2, (high - low) / 2
        axes.errorbar(places, middle, reach, fmt="none", ecolor=_INK, elinewidth=0.9, capsize=1.8, capthick=0.9)
    letters = int(_FULL * _POINTS / len(groups) / 4.7)  # that fit under a group
    if all(len(word) <= letters for group in groups for word in group.split()):
        axes.set_xticks(range(len(groups)), [textwrap.fill(group, letters) for group in groups])
    else:  # upright, in lines of so many letters, one below the other in the width of a group
        axes.set_xticks(range(len(groups)), [textwrap.fill(group, 16) for group in groups], rotation=90)
        figure.set_figheight(figure.get_figheight() + 0.6)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel=x_label, ylabel=_wrapped(y_label, 4.5))
    axes.axhline(0, color=_QUIET, linewidth=0.6)
    if not any(number for by_group in values.values() for spans in by_group.values() for number in spans):
        axes.set_ylim(0, 1)  # of nothing but 0 matplotlib's axis would go below it
    if counts is not None:
        if list(counts) != groups:
            raise ValueError(f"counts: groups {list(counts)} instead of {groups}")
        texts = [f"{count:,.0f}" for count in _numbers("counts", list(counts.values()))]
        turned = max(map(_width, texts)) > (_FULL - 1.6) * _POINTS / len(groups)
        above = {"fontsize": 6, "va": "bottom", "transform": axes.get_xaxis_transform()}
        for place, text in enumerate(texts):
            axes.text(place, 1.01, text, ha="center", rotation=90 if turned else 0, **above)
        axes.text(axes.get_xlim()[0], 1.01, "n =", ha="right", **above)
    _legend(figure, "outside upper left")
    return figure


@_svg
def interval_curves(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    wide: bool = False,
) -> Figure:
    """Draw one or more curves, with the intervals of their points as a shade, half a line wide.

    Args:
        curves: of each curve its points: place, value and the lower and the upper end of its interval.
        x_label: what the places are, with their unit.
        y_label: what the values are, with their unit.
        logarithmic: whether the axis of the places is, above 1; below it is linear, so that 0 has a place.
        wide: a full line wide instead.

    Returns:
        The figure as SVG. More than three curves have no shades, which would hide each other.

    Raises:
        ValueError: nothing to draw, a number is not finite, an interval is reversed, or a place on a logarithmic axis
            is below 0.
    """
    if not curves:
        raise ValueError("curves: none")
    figure = _figure(_FULL if wide else _HALF, 5.6)
    axes = figure.subplots()
    for index, (name, points) in enumerate(curves.items()):
        table = _intervals(name, points)
        place, value, low, high = table[np.argsort(table[:, 0], kind="stable")].T
        if logarithmic and place[0] < 0:
            raise ValueError(f"{name}: the place {place[0]:g} isn't on a logarithmic axis")
        (line,) = axes.plot(place, value, marker=_MARKERS[index % 3], markersize=3.5, label=name, zorder=3)
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
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.set(xlabel=_wrapped(x_label, 15 if wide else 7), ylabel=_wrapped(y_label, 4.5))
    _legend(figure, "outside lower left")
    return figure


@_svg
def interval_dots(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]], *, higher_is_better: Mapping[str, bool]
) -> Figure:
    """Draw models beside one another by several measures, with intervals, a full line wide.

    Each measure has a panel of its own, in which a thin line marks the best value.

    Args:
        values: of each model and measure, the value and the lower and the upper end of its interval.
        higher_is_better: of each measure, in the order of the panels, whether high values are good ones.

    Returns:
        The figure as SVG.

    Raises:
        ValueError: nothing to draw, models differ in their measures, or an interval is not finite or reversed.
    """
    if not values or not higher_is_better:
        raise ValueError("values: no model or no measure")
    for model, by_measure in values.items():
        if set(by_measure) != set(higher_is_better):
            raise ValueError(f"{model}: measures {list(by_measure)} instead of {list(higher_is_better)}")
    names = [textwrap.fill(model, 26) for model in values]
    lines = max(name.count("\n") + 1 for name in names)
    figure = _figure(_FULL, 1.8 + (0.15 + 0.3 * lines) * len(names))
    panels = figure.subplots(1, len(higher_is_better), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.1})[0]
    for axes, (measure, higher) in zip(panels, higher_is_better.items(), strict=True):
        rows = _intervals(measure, [by_measure[measure] for by_measure in values.values()])
        for index, (value, low, high) in enumerate(rows):
            axes.plot([low, high], [index, index], color=f"C{index}", linewidth=1.6, linestyle="-", zorder=3)
            axes.plot(value, index, "o", color=f"C{index}", markersize=4.5, zorder=4)
        axes.axvline(rows[:, 0].max() if higher else rows[:, 0].min(), color=_INK, linewidth=0.7, zorder=2)
        axes.set_title(textwrap.fill(measure, 72 // len(panels)))
        axes.set_xlabel("higher is better →" if higher else "← lower is better")
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


@_svg
def share_bars(rows: Sequence[str], shares: ArrayLike, names: Sequence[str], *, x_label: str, y_label: str) -> Figure:
    """Draw of what each row is made up, as stacked bars, a full line wide.

    Args:
        rows: the name of each row, drawn from the top.
        shares: (rows, features), each feature's share of its row, from 0 to 1.
        names: (features,); the seven with the highest shares over all rows are drawn, the rest together as "other".
        x_label: what is shared out; its unit, per cent, is added.
        y_label: what the rows are.

    Returns:
        The figure as SVG; shares of 8 % and more carry their number.

    Raises:
        ValueError: an array is empty, not finite, of another shape or has negative shares.
    """
    table = _numbers("shares", shares, 2) * 100
    _same_length(rows=rows, shares=table)
    _same_length(names=names, features=table.T)
    if (table < 0).any():
        raise ValueError("shares: some are negative")
    order = np.argsort(-table.sum(axis=0), kind="stable")
    kept, rest = order[:7], order[7:]
    parts = [(names[index], table[:, index], _PALETTE[place]) for place, index in enumerate(kept)]
    if rest.size:
        parts.append(("other", table[:, rest].sum(axis=1), "#d5dade"))
    figure = _figure(_FULL, 1.6 + 0.45 * len(rows))
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
    _legend(figure, "outside upper left")
    return figure


@_svg
def scatter(points: ArrayLike, labels: ArrayLike, *, class_names: Sequence[str], axis_names: tuple[str, str]) -> Figure:
    """Draw points in the plane, coloured by class, half a line wide; rare classes lie on top.

    The points are drawn as pixels, so that the file stays small however many there are.

    Args:
        points: (n, 2).
        labels: (n,), the index of each point's class.
        class_names: the name of each class.
        axis_names: the labels of the two axes.

    Returns:
        The figure as SVG.

    Raises:
        ValueError: an array is empty, not finite or of another length, or a class has no name.
    """
    places, truth = _numbers("points", points, 2), _classes(labels, class_names)
    if places.shape[1] != 2:
        raise ValueError(f"points: expected two columns, got {places.shape[1]}")
    _same_length(points=places, labels=truth)
    counts = np.bincount(truth, minlength=len(class_names))
    figure = _figure(_HALF, 5.6)
    axes = figure.subplots()
    for layer, index in enumerate(np.argsort(-counts, kind="stable")):
        members = places[truth == index]
        common = counts[index] > 2000
        axes.scatter(
            *members.T,
            s=3 if common else 7,
            alpha=0.25 if common else 0.85,
            color=f"C{index}",
            marker=_MARKERS[index // len(_PALETTE) % 3],
            linewidths=0,
            zorder=2 + layer,
            rasterized=True,
        )
    for index, name in enumerate(class_names):
        marker = _MARKERS[index // len(_PALETTE) % 3]
        axes.plot([], [], marker, color=f"C{index}", markersize=4, label=f"{name}: {counts[index]:,}")
    axes.set(xlabel=_wrapped(axis_names[0], 7), ylabel=_wrapped(axis_names[1], 5))
    _legend(figure, "outside lower left")
    return figure


@_svg
def budget_calibration(
    expected: ArrayLike,
    observed: ArrayLike,
    *,
    validation: Mapping[str, ArrayLike],
    test: Mapping[str, ArrayLike],
    chosen: int,
    unit: str,
) -> Figure:
    """Draw whether a budget of alerts holds on later data, and what it buys, a full line wide.

    Each budget stands for the threshold that spends it on the validation data.

    Args:
        expected: (n,), alerts per unit on the validation data, above 0.
        observed: (n,), alerts per unit on the test data at the same thresholds; where 0, marked at the lower edge.
        validation: measures such as recall and precision, each (n,), from 0 to 1, on the validation data.
        test: the same measures on the test data.
        chosen: the index of the budget in use.
        unit: what alerts are counted per, such as "day".

    Returns:
        The figure as SVG.

    Raises:
        ValueError: an array is empty, not finite or of another length, a number of alerts is negative, or the
            measures differ.
        IndexError: `chosen` is not an index.
    """
    spent, seen = _numbers("expected", expected), _numbers("observed", observed)
    _same_length(expected=spent, observed=seen)
    if (spent <= 0).any() or (seen < 0).any():
        raise ValueError("alerts must not be negative, and those expected must be above 0")
    if not validation or list(validation) != list(test):
        raise ValueError(f"measures differ: {list(validation)} on validation, {list(test)} on test")
    figure = _figure(_FULL, 7.2)
    left, right = figure.subplots(1, 2)
    drawn = seen > 0
    ends = np.array([min(spent.min(), seen[drawn].min(initial=np.inf)), max(spent.max(), seen.max())])
    if ends[0] == ends[1]:  # one budget that held exactly
        ends *= 0.5, 2
    left.plot(ends, ends, color=_QUIET, linewidth=0.9, linestyle=_DASHED, label="as many as expected")
    left.plot(spent[drawn], seen[drawn], color="C0", marker="o", markersize=3, label="observed")
    if not drawn.all():
        none = np.full(len(spent) - np.count_nonzero(drawn), 0.02)
        left.plot(spent[~drawn], none, "v", color="C0", transform=left.get_xaxis_transform(), label="none observed")
    if drawn[chosen]:
        mark = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.4, "linestyle": ""}
        label = f"chosen: {_number_of(spent[chosen])} expected, {_number_of(seen[chosen])} observed"
        left.plot(spent[chosen], seen[chosen], color="C1", label=label, **mark)
    _log(left, "x", "y")
    left.set(xlabel=f"expected on validation [alerts per {unit}]", ylabel=f"observed on test\n[alerts per {unit}]")
    for index, measure in enumerate(validation):
        before, after = _numbers(measure, validation[measure]), _numbers(measure, test[measure])
        _same_length(expected=spent, validation=before, test=after)
        right.plot(spent, before, color=f"C{index}", linestyle="--", label=f"{measure}, validation")
        right.plot(spent, after, color=f"C{index}", linestyle="-", linewidth=1.6, label=f"{measure}, test")
    right.axvline(spent[chosen], color=_INK, linewidth=0.9, linestyle=":", label="chosen budget")
    _log(right, "x")
    right.set(xlabel=f"budget [alerts per {unit}]", ylabel="share", ylim=(0, 1))
    for axes, columns in ((left, 1), (right, 2)):
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=columns)
    return figure


def _number_of(number: float) -> str:
    """A number of alerts with three digits that mean something, and all of a larger one."""
    return f"{number:,.0f}" if number >= 1_000 else f"{number:.3g}"


@_svg
def learning_curves(
    curves: Mapping[str, Mapping[str, ArrayLike]],
    *,
    y_label: str,
    best_epoch: int | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draw a quantity over the epochs of one or more runs, a full line wide.

    Args:
        curves: of each run, of each series (such as training and validation), a value per epoch. The first run is
            drawn thick, the others thin.
        y_label: what the values are, with their unit.
        best_epoch: the epoch, counted from 1, whose weights were kept in the first run.
        levels: values to compare with and what has them, such as baselines: lines with their names to the right.

    Returns:
        The figure as SVG; the axis is logarithmic where the values range over more than two decades.

    Raises:
        ValueError: nothing to draw, or a series is empty or not finite, or a level isn't finite.
    """
    arrays = {
        run: {name: _numbers(f"{name} of {run}", values) for name, values in series.items()}
        for run, series in curves.items()
    }
    values = [array for series in arrays.values() for array in series.values()]
    if not values:
        raise ValueError("curves: no series")
    names = list(dict.fromkeys(name for series in arrays.values() for name in series))
    first, *others = arrays
    figure = _figure(_FULL, 5.2)
    axes = figure.subplots()
    for run, series in arrays.items():
        for name, array in series.items():
            label = f"{run}, {name}" if run == first else None
            width = 1.8 if run == first else 0.6
            epochs = np.arange(1, len(array) + 1)
            marker = "o" if len(array) == 1 else None  # one epoch makes no line
            color = f"C{names.index(name)}"
            axes.plot(epochs, array, marker=marker, color=color, label=label, linewidth=width, zorder=1 + width)
    if others:
        axes.plot([], [], color=_QUIET, linewidth=0.6, label=f"thin: {', '.join(others)}")
    if best_epoch is not None:
        axes.axvline(best_epoch, color=_INK, linewidth=0.9, linestyle=_DASHED, label=f"best epoch {best_epoch}")
    if _wide(np.concatenate(values)):
        _log(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlim(0.5, max(map(len, values)) + 0.5)
    axes.set(xlabel="epoch", ylabel=_wrapped(y_label, 4))
    _levels(axes, levels or {}, 3.6)
    _legend(figure, "outside upper left")
    return figure


@_svg
def network(layers: Sequence[tuple[str, Sequence[int | None], int]]) -> Figure:
    """Draw a chain of layers from left to right, a full line wide; a block is the higher the more units it has.

    Heights follow the square root of the number of units. Layers without parameters are grey.

    Args:
        layers: of each layer its name, the shape of its output (None where it varies) and its number of parameters.

    Returns:
        The figure as SVG; names, shapes and parameters stand under the blocks.

    Raises:
        ValueError: there is no layer or a size is not positive.
    """
    if not layers:
        raise ValueError("layers: none")
    units = _numbers("layers", [np.prod([size or 1 for size in shape], dtype=float) for _, shape, _ in layers])
    if (units < 1).any():
        raise ValueError("layers: a size is not positive")
    # All lengths below are in points.
    line, margin, tallest = 9.0, 54.0, 72.0
    slot = (_FULL * _POINTS - margin) / len(layers)
    names = [name.replace("_", " ") for name, _, _ in layers]
    rows = {
        "layer": [[name] if _width(name) < slot - 4 else name.split() for name in names],
        "output": [[" × ".join("n" if size is None else str(size) for size in shape)] for _, shape, _ in layers],
        "parameters": [[f"{parameters:,}"] for _, _, parameters in layers],
    }
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
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
            color=_PALETTE[0] if parameters else _QUIET,
        )
        axes.add_patch(outline)
    bottom = -tallest / 2 - 8
    for title, cells in rows.items():
        turned = max(_width(text) for cell in cells for text in cell) > slot - 2
        axes.text(2, bottom, title, color=_QUIET, fontsize=7, va="top")
        for centre, cell in zip(centres, cells, strict=True):
            text = (" " if turned else "\n").join(cell)
            axes.text(centre, bottom, text, fontsize=7, va="top", ha="center", rotation=90 if turned else 0)
        deep = max(_width(" ".join(cell)) for cell in cells) if turned else max(map(len, cells)) * line
        bottom -= deep + 5
    axes.set(xlim=(0, _FULL * _POINTS), ylim=(bottom, tallest / 2 + 4))
    figure.set_size_inches(_FULL / 2.54, (tallest / 2 + 4 - bottom) / 72)
    return figure


def _label_places(
    segments: Sequence[tuple[float, float, str, bool]], scale: float, width: float
) -> list[tuple[float, int | None]]:
    """The centre of each label in points, and its line: 0 in the box, 1 and 2 below, None where there is no room."""
    places = []
    filled = {1: -2.0, 2: -2.0}  # up to where
    for start, end, label, right in segments:
        half = _width(label) * (0.47 if right else 0.54)  # 6.5 points rather than 7, and bold is wider
        centre, line = (start + end) / 2 * scale, 0
        if 2 * half + 1.5 > (end - start) * scale:
            centre = min(max(centre, half), width - half)
            line = next((below for below, reached in filled.items() if reached + 2 <= centre - half), None)
            if line is not None:
                filled[line] = centre + half
        places.append((centre, line))
    return places


@_svg
def spectrogram(
    frames: ArrayLike,
    *,
    step: float,
    centres: ArrayLike,
    tracks: Mapping[str, Sequence[tuple[float, float, str, bool]]],
) -> Figure:
    """Draw a spectrogram and under it rows of labelled segments, a full line wide.

    A label that is wider than its segment stands below it, and is left out where there is no room for it either.

    Args:
        frames: (n, bands), the logarithm of the energy; what is high is bright.
        step: seconds from one frame to the next.
        centres: (bands,), the frequencies of the bands' centres in hertz, ascending; all bands are drawn equally high.
        tracks: of each row its segments in order: beginning and end in seconds, label, and whether it is right. Wrong
            ones are dark, and their labels bold.

    Returns:
        The figure as SVG.

    Raises:
        ValueError: an array is empty, not finite or of another length, frequencies do not ascend, the step is not
            above 0, there is no track, or a segment is not within the spectrogram or begins before the end of the one
            before.
    """
    energy, frequencies = _numbers("frames", frames, 2), _numbers("centres", centres)
    _same_length(bands=energy.T, centres=frequencies)
    if (np.diff(frequencies) <= 0).any():
        raise ValueError("centres: the frequencies do not ascend")
    if not tracks:
        raise ValueError("tracks: none")
    if not step > 0:
        raise ValueError(f"step: {step} s")
    duration = len(energy) * step
    for name, segments in tracks.items():
        reached = 0.0
        for start, end, label, _ in segments:
            # Times are multiples of the step, rounded.
            if not reached - 1e-6 <= start < end <= duration + 1e-6:
                raise ValueError(f"{name}: {label!r}, {start:g} to {end:g} s, isn't within {reached:g} to {duration:g}")
            reached = end
    # All lengths below are in points.
    box, line, picture, bottom = 12.0, 7.5, 100.0, 27.0
    names = [textwrap.fill(name, 22) for name in tracks]
    left = max(34, *(_width(part) + 8 for name in names for part in name.splitlines()))
    width = _FULL * _POINTS - left - 12
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
            fill = "#dfe6ec" if right else _PALETTE[1]
            axes.add_patch(Rectangle((start, top), end - start, box, facecolor=fill, edgecolor="white", linewidth=0.4))
            if below is None:
                continue
            middle = top + box + (below - 0.5) * line if below else top + box / 2
            weight, ink = ("normal", _INK) if right else ("bold", _PALETTE[1] if below else "white")
            axes.text(
                centre / scale, middle, label, fontsize=6.5, weight=weight, color=ink, ha="center", va="center_baseline"
            )
    axes.set_yticks(np.array(tops) + 3, names, va="top")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlabel="time [s]", xlim=(0, duration), ylim=(rows, 0))
    if not all(right for segments in tracks.values() for *_, right in segments):
        wrong = Rectangle((0, 0), 1, 1, color=_PALETTE[1])
        axes.legend([wrong], ["wrong"], loc="upper right", bbox_to_anchor=(1, -14 / rows), borderaxespad=0)
    return figure


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:23]}…"


@_svg
def confusion_matrix(counts: ArrayLike, names: Sequence[str], *, groups: Mapping[str, int] | None = None) -> Figure:
    """Draw how often each true class was found as each class, a full line wide.

    Each row is shared out to 100 %, and colours follow the share to the power of 0.4, which keeps rare confusions
    visible. A row without any sample is grey. Without groups the counts stand in the cells where all of them fit.

    Args:
        counts: (classes, classes), rows are true and columns are found.
        names: (classes,).
        groups: of each group, in order, how many consecutive classes belong to it; thin lines lie between groups, and
            their names beside them.

    Returns:
        The figure as SVG.

    Raises:
        ValueError: an array is empty, not finite, negative or of another length, or the groups do not add up to the
            classes.
    """
    table = _numbers("counts", counts, 2)
    _same_length(rows=table, columns=table.T, names=names)
    if (table < 0).any():
        raise ValueError("counts: some are negative")
    sizes = np.array([len(table)] if groups is None else list(groups.values()))
    if sizes.sum() != len(table) or (sizes < 1).any():
        raise ValueError(f"groups: {dict(groups or {})} for {len(table)} classes")
    totals = table.sum(axis=1, keepdims=True)
    shares = np.divide(table * 100, totals, out=np.full_like(table, np.nan), where=totals > 0)
    classes = [_short(name) for name in names]
    group_names = [textwrap.fill(_short(name), 12 if size > 1 else 24) for name, size in (groups or {"": 0}).items()]
    # All lengths below are in points.
    page, top = _FULL * _POINTS, 30.0
    bottom = left = max(map(_width, classes)) + 20
    right = max((_width(part) for name in group_names for part in name.splitlines()), default=0) + 10
    cell = min((page - left - right) / len(table), 26 if groups is None else 40)
    side = cell * len(table)
    height = bottom + side + top
    figure = Figure(figsize=(page / 72, height / 72))
    axes = figure.add_axes((left / page, bottom / height, side / page, side / height))
    colors = matplotlib.colormaps["Blues"].with_extremes(bad="#c9cdd1")
    norm = matplotlib.colors.PowerNorm(0.4, 0, 100)
    image = axes.imshow(shares, cmap=colors, norm=norm, interpolation="nearest")
    turned = max(map(_width, classes)) > cell - 4
    axes.set_xticks(range(len(table)), classes, rotation=90 if turned else 0)
    axes.set_yticks(range(len(table)), classes)
    axes.tick_params(length=0, pad=2, labelsize=min(7, cell - 1.5))
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=_INK)
    axes.set(xlabel="found", ylabel="true")
    ends = np.cumsum(sizes) - 0.5
    for end, size, name in zip(ends, sizes, group_names, strict=True):
        if end < ends[-1]:
            axes.axhline(end, color=_INK, linewidth=0.5)
            axes.axvline(end, color=_INK, linewidth=0.5)
        lines = name.count("\n") + 1
        axes.text(
            ends[-1] + 4 / cell,
            end - size / 2,
            name,
            fontsize=min(7, (cell * size - 1) / lines / 1.2),
            va="center",
            linespacing=1.1,
        )
    written = [f"{count:,.0f}" for count in table.ravel()]
    if groups is None and max(map(_width, set(written))) < cell - 3:
        places = np.ndindex(*table.shape)
        for (row, column), share, text in zip(places, norm(shares).ravel(), written, strict=True):
            if text != "0":
                ink = "white" if share > 0.6 else _INK
                axes.text(column, row, text, color=ink, fontsize=7, ha="center", va="center")
    bar = figure.add_axes((left / page, 1 - 10 / height, 150 / page, 7 / height))
    scale = figure.colorbar(image, cax=bar, orientation="horizontal", ticks=[0, 1, 5, 10, 25, 50, 100])
    for part in bar.collections:
        part.set_rasterized(True)
    scale.outline.set_visible(False)
    note = "" if (totals > 0).all() else "; grey: no sample"
    bar.text(1.05, 0.5, f"share of the true class [%]{note}", transform=bar.transAxes, va="center", fontsize=7)
    return figure


@_svg
def reliability_diagram(models: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw how often models are right over how sure they are of it, a full line wide.

    Beside it stands the share of the pictures in each bin of the first model, without which a point of few pictures
    would weigh as much as one of many.

    Args:
        models: of each model, the bins that `reports.classification.reliability` gives.

    Returns:
        The figure as SVG. Below the diagonal a model is surer than it should be. The axes of the diagonal begin at the
        last multiple of ten below all points.

    Raises:
        ValueError: there is no model or no bin, or a number is not finite.
    """
    if not models:
        raise ValueError("models: none")
    figure = _figure(_FULL, 6.6)
    axes, histogram = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.15]})
    axes.plot([0, 100], [0, 100], color=_QUIET, linewidth=0.9, linestyle=_DASHED, label="as often right as sure")
    lowest, keys = 100.0, ("low", "high", "count", "confidence", "accuracy")
    for index, (model, bins) in enumerate(models.items()):
        table = _numbers(f"bins of {model}", [[point[key] for key in keys] for point in bins], 2)
        low, high, count, confidence, accuracy = table.T
        line = {"marker": _MARKERS[index % 3], "markersize": 3.5, "linewidth": 1.8 if index == 0 else 1.0}
        axes.plot(100 * confidence, 100 * accuracy, color=f"C{index}", label=model, zorder=4 - index / 10, **line)
        lowest = min(lowest, 100 * confidence.min(), 100 * accuracy.min())
        if index == 0:
            shares = 100 * count / count.sum()
            bars = histogram.bar(100 * low, shares, 100 * (high - low), align="edge", color="C0", alpha=0.75)
            labels = [f"{share:.0f}" if share >= 1 else "<1" for share in shares]
            histogram.bar_label(bars, labels, fontsize=6.5, padding=1)
    start = 10 * math.floor(min(lowest, 89) / 10)
    margin = (100 - start) / 50
    span, ticks = (start - margin, 100 + margin), MaxNLocator(5, steps=[1, 2, 5, 10])
    axes.set(xlabel="confidence [%]", ylabel="accuracy [%]", xlim=span, ylim=span)
    axes.xaxis.set_major_locator(ticks)
    axes.yaxis.set_major_locator(ticks)
    axes.set_aspect("equal")
    first = _short(next(iter(models)))
    histogram.set(xlabel=f"confidence of the {first} [%]", ylabel="share of the pictures [%]", xlim=(-2, 102))
    histogram.set_xticks(range(0, 101, 20))
    histogram.set_ylim(0, 1.1 * histogram.get_ylim()[1])
    _legend(figure, "outside lower left")
    return figure


@_svg
def series(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    *,
    x_label: str,
    mark: tuple[float, str] | None = None,
    levels: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draw quantities over the same steps, such as modules or epochs, each in a panel, a full line wide.

    A quantity of which the largest value is more than 10 times the smallest has a logarithmic axis, unless none is
    above 1, as in shares.

    Args:
        panels: of each quantity, with its unit, and of each series its points (step, value). Series of the same name
            look alike in all panels.
        x_label: what the steps are.
        mark: a step to point out, and what it is.
        levels: of quantities, values to compare with and what has them, such as a baseline that needs no steps: lines
            across the panel, with their names to its right.

    Returns:
        The figure as SVG; the legend is left out where one series alone is drawn.

    Raises:
        ValueError: nothing to draw, a number is not finite, or there are levels of a quantity without a panel.
    """
    levels = levels or {}
    if not set(levels) <= set(panels):
        raise ValueError(f"levels: of {list(levels)} where there are panels of {list(panels)}")
    names = list(dict.fromkeys(name for of_panel in panels.values() for name in of_panel))
    if not names:
        raise ValueError("panels: no series")
    figure = _figure(_FULL, 5.2)
    drawn = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={"wspace": 0.05})[0]
    for axes, (quantity, of_panel) in zip(drawn, panels.items(), strict=True):
        for name, points in of_panel.items():
            table = _numbers(f"{name} of {quantity}", points, 2)
            step, value = table[np.argsort(table[:, 0], kind="stable")].T
            place = names.index(name)
            marker = _MARKERS[place % 3] if len(step) <= 30 else None
            axes.plot(step, value, color=f"C{place}", marker=marker, markersize=3, linewidth=1.4)
        drawn_values = np.concatenate([line.get_ydata() for line in axes.lines])
        if drawn_values.max() > 1 and _wide(drawn_values, 10):
            _log(axes, "y")
        if mark is not None:
            axes.axvline(mark[0], color=_INK, linewidth=0.9, linestyle=_DASHED)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set(xlabel=x_label, ylabel=_wrapped(quantity, 4.5))
        _levels(axes, levels.get(quantity, {}), 3.6)
    for place, name in enumerate(names if len(names) > 1 else ()):
        drawn[0].plot([], [], color=f"C{place}", marker=_MARKERS[place % 3], markersize=3, label=name)
    if mark is not None:
        drawn[0].plot([], [], color=_INK, linewidth=0.9, linestyle=_DASHED, label=mark[1])
    if len(names) > 1 or mark is not None:
        _legend(figure, "outside upper left")
    return figure


def _colours(images: ArrayLike, signed: bool) -> tuple[np.ndarray, float]:
    """Pictures (n, h, w, 1 or 3) as (n, h, w, 3) from 0 to 1, and the magnitude that has the deepest colour."""
    values = np.asarray(images)
    if values.ndim != 4 or values.shape[-1] not in (1, 3):
        raise ValueError(f"images: expected (n, height, width, 1 or 3), got {values.shape}")
    values = _numbers("images", values / 255 if values.dtype == np.uint8 else values, 4)
    if not signed:
        if values.min() < -1e-6 or values.max() > 1 + 1e-6:
            raise ValueError(f"images: {values.min():g} to {values.max():g} instead of 0 to 1 or uint8")
        return np.broadcast_to(values.clip(0, 1), (*values.shape[:3], 3)), 1.0
    # A few weights of great magnitude would leave the others pale.
    limit = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    share = np.clip(0.5 + values / (2 * limit), 0, 1)
    return (share if values.shape[-1] == 3 else matplotlib.colormaps["RdBu_r"](share[..., 0])[..., :3]), limit


def _scale(axes: Axes, left: float, bottom: float, colors: np.ndarray, low: str, high: str) -> None:
    """A bar of colours (n, 3) with the meaning of its ends beside it, in an axes of points."""
    axes.text(left, bottom + 3.5, low, fontsize=7, va="center_baseline")
    start = left + _width(low) + 4
    axes.imshow(colors[None], extent=(start, start + 80, bottom, bottom + 7), interpolation="none", aspect="auto")
    axes.text(start + 84, bottom + 3.5, high, fontsize=7, va="center_baseline")


@_svg
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
        captions: (n,), what stands under each picture; where all are empty they take no room.
        columns: pictures in a row.
        overlays: (n, height, width) from 0 to 1, such as the maps of Grad-CAM: drawn over a paler copy of the picture,
            to its right.
        marks: (n,), whose captions are bold and coloured, such as those of wrong answers.
        row_names: a name for each row, to its left.
        signed: whether the pictures are weights or the like, of any magnitude and both signs: those of one channel are
            drawn from blue over white to red, those of three as colours around grey. The scale is that of all
            together; the 0.5 % of greatest magnitude are drawn as the end of it.

    Returns:
        The figure as SVG, with each picture in it as a PNG of its own pixels.

    Raises:
        ValueError: an array is of another shape or length, not finite or beyond its bounds, or there is no column.
    """
    colors, limit = _colours(images, signed)
    _same_length(images=colors, captions=captions)
    if columns < 1:
        raise ValueError(f"columns: {columns}")
    number, rows, (high, wide) = len(colors), math.ceil(len(colors) / columns), colors.shape[1:3]
    if row_names is not None and len(row_names) != rows:
        raise ValueError(f"row_names: {len(row_names)} for {rows} rows")
    flags = np.zeros(number, bool) if marks is None else np.asarray(marks, bool)
    _same_length(images=colors, marks=flags)
    tiles = [colors]
    if overlays is not None:
        maps = _numbers("overlays", overlays, 3)
        if maps.shape != colors.shape[:3] or maps.min() < -1e-6 or maps.max() > 1 + 1e-6:
            raise ValueError(f"overlays: {maps.shape}, {maps.min():g} to {maps.max():g}, for images {colors.shape}")
        grey = 0.35 * colors.mean(axis=-1, keepdims=True)
        tiles.append(0.65 * matplotlib.colormaps["viridis"](maps.clip(0, 1))[..., :3] + grey)
    # All lengths below are in points.
    names = [] if row_names is None else [textwrap.fill(name, 14) for name in row_names]
    left = max((_width(part) for name in names for part in name.splitlines()), default=-8) + 8
    slot = (_FULL * _POINTS - left) / columns
    gap = 5.0 if any(captions) else 3.0
    side = min((slot - gap) / len(tiles), 62.0)  # the width of a picture
    tall = side * high / wide
    letters = max(int((slot - 2) / 3.9), 1)
    texts = [textwrap.wrap(text, letters, max_lines=3, placeholder="…") for text in captions]
    deep = [8.0 * max(map(len, texts[row * columns : (row + 1) * columns])) for row in range(rows)]
    explained = 14.0 if signed or overlays is not None else 0.0
    height = sum(deep) + rows * (tall + gap) + explained + 2
    figure = Figure(figsize=(_FULL / 2.54, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
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
                color=_PALETTE[1] if flags[index] else _INK,
                weight="bold" if flags[index] else "normal",
            )
        top -= tall + gap + deep[row]
    shades = np.linspace(0, 1, 64)
    if signed and colors.shape[-1] == np.asarray(images).shape[-1]:
        axes.text(left, 5, f"grey is 0; the ends of the scale are ±{limit:.2g}", fontsize=7, va="center_baseline")
    elif signed:
        _scale(axes, left, 1.5, matplotlib.colormaps["RdBu_r"](shades)[:, :3], f"−{limit:.2g}", f"{limit:.2g}")
    elif overlays is not None:
        _scale(axes, left, 1.5, matplotlib.colormaps["viridis"](shades)[:, :3], "least", "most")
    axes.set(xlim=(0, _FULL * _POINTS), ylim=(0, height))
    return figure


_VISIBLE = {"\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": " "}
_ZWJ = "\u200d"  # joins what is around it, as in emoji of several people
_JOINERS = f"{_ZWJ}\ufe0e\ufe0f"


def _is_joined(before: str, character: str) -> bool:
    """Whether a character is drawn into the one before it: marks, and the vowels and finals of Korean syllables."""
    joins = unicodedata.category(character)[0] == "M" or character in _JOINERS or "\u1160" <= character <= "\u11ff"
    return joins or before == _ZWJ


def _visible(text: str) -> str:
    """A text as it can be drawn by itself, as a label."""
    text = "".join(_VISIBLE.get(c, code_point(c) if unicodedata.category(c) == "Cf" else c) for c in text)
    # A mark by itself; one of another font is drawn so by that font, if it has the circle.
    own = text and get_font(findfont(_SANS)).get_char_index(ord(text[0]))
    return f"◌{text}" if own and unicodedata.category(text[0])[0] == "M" else text


def _monospaced(size: float) -> FontProperties:
    """The font of letters of one width, with those of the figure behind it."""
    return FontProperties(family=[_MONOSPACED, *matplotlib.rcParams["font.family"]], size=size)


@functools.partial(_svg, naming=False)  # it has no room for the names of characters
def surprise(passages: Mapping[str, Sequence[tuple[str, float]]], *, columns: int = 100) -> Figure:
    """Draw passages of text in letters of one width, on a ground that is the darker the more it surprised a model.

    A line break is drawn as ↵, a tab as ⇥. Wide letters, such as Chinese ones, take two places, and marks are drawn
    into the letter before them. A character that no font draws is drawn as the digits of its code point. The bits of a
    token of several characters are shared out evenly.

    Args:
        passages: of each passage, under its title, its tokens: their text and bits.
        columns: places in a line.

    Returns:
        The figure as SVG, a full line wide. The scale of colours is that of all passages together; the 1 % of greatest
        surprise are drawn as the end of it.

    Raises:
        ValueError: there is no passage or column, a passage has no text, or bits are negative or not finite.
    """
    if not passages or columns < 1:
        raise ValueError(f"passages: {len(passages)} in {columns} columns")
    letters: dict[str, list[str]] = {}
    costs: dict[str, np.ndarray] = {}
    for title, tokens in passages.items():
        bits = _numbers(f"bits of {title}", [cost for _, cost in tokens])
        sizes = [len(text) for text, _ in tokens]
        text = "".join(text for text, _ in tokens)
        if (bits < 0).any() or not text:
            raise ValueError(f"bits of {title}: some are negative, or there is no text")
        starts = [place for place in range(len(text)) if not place or not _is_joined(text[place - 1], text[place])]
        letters[title] = [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]
        costs[title] = np.add.reduceat(np.repeat(bits / np.maximum(sizes, 1), sizes), starts)
    all_costs = np.concatenate(list(costs.values()))
    limit = max(1, math.ceil(np.quantile(all_costs, 0.99)))
    # Light enough at its end for black letters.
    colors = matplotlib.colormaps["YlOrBr"](np.linspace(0, 0.62, 64))[:, :3]
    # All lengths below are in points.
    size = min(7.5, _FULL * _POINTS / columns / 0.60205)  # a letter is as wide as this part of its height
    wide, tall, head, foot = 0.60205 * size, 1.3 * size, 11.0, 14.0
    places = {title: _places(of_passage, columns) for title, of_passage in letters.items()}
    height = sum((of_passage[-1][0] + 1) * tall + head + 5 for of_passage in places.values()) + foot
    figure = Figure(figsize=(_FULL / 2.54, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = height
    font, regular, missing = _monospaced(size), get_font(findfont(_MONOSPACED)), _fonts_for(passages)[1]
    for title, of_passage in places.items():
        axes.text(0, top - head / 2, shown(title, missing), fontsize=7, va="center_baseline")
        top -= head
        rows = of_passage[-1][0] + 1
        bottom = top - rows * tall
        shades = np.round(255 * colors[np.round(63 * (costs[title] / limit).clip(0, 1)).astype(int)])
        cells = np.full((rows, columns, 3), 255, np.uint8)
        lines = [[" "] * columns for _ in range(rows)]
        for letter, shade, (row, column, span) in zip(letters[title], shades, of_passage, strict=True):
            cells[row, column : column + span] = shade
            sign = _VISIBLE.get(letter, letter)
            if span == 1 and len(sign) == 1 and regular.get_char_index(ord(sign)) and _runs_on(sign):
                lines[row][column] = sign
                continue
            # By itself, as it has another width or direction.
            middle, base = (column + span / 2) * wide, top - row * tall
            if missing.isdisjoint(letter):
                sign = _visible(sign)
                fitting = min(size, 7 * span * wide / max(_width(sign), 0.1))
                axes.text(middle, base - 0.98 * size, sign, color="black", ha="center", va="baseline", fontsize=fitting)
            else:
                digits = f"{ord(letter[0]):04X}"
                digits = f"{digits[:-2]}\n{digits[-2:]}"
                style = {"fontsize": 0.45 * size, "linespacing": 1}
                axes.text(middle, base - tall / 2, digits, color=_INK, ha="center", va="center", **style)
        axes.imshow(cells, extent=(0, columns * wide, bottom, top), interpolation="none", aspect="auto")
        for row, line in enumerate(lines):
            base = top - row * tall - 0.98 * size
            axes.text(0, base, "".join(line).rstrip(), fontproperties=font, color="black", va="baseline")
        top = bottom - 5
    more = " and more" if all_costs.max() > limit else ""
    _scale(axes, 0, 2.5, colors, "0", f"{limit} bits a character{more}")
    axes.set(xlim=(0, _FULL * _POINTS), ylim=(0, height))
    return figure


def _runs_on(letter: str) -> bool:
    """Whether a letter can be written in one run with others, from left to right."""
    kind, direction = unicodedata.category(letter), unicodedata.bidirectional(letter)
    return letter == " " or (kind[0] in "LNPS" and direction not in ("R", "AL"))


def _places(letters: Sequence[str], columns: int) -> list[tuple[int, int, int]]:
    """Row, column and number of places of each letter, filled line by line."""
    places, row, column = [], 0, 0
    for letter in letters:
        span = min(columns, 2 if unicodedata.east_asian_width(letter[0]) in "WF" else 1)
        if column + span > columns:
            row, column = row + 1, 0
        places.append((row, column, span))
        column += span
    return places


def _lines(text: str, columns: int) -> list[str]:
    return [text[first : first + columns] for first in range(0, len(text), columns)]


@_svg
def attention(maps: Sequence[ArrayLike], tokens: Sequence[str], sources: Sequence[str] | None = None) -> Figure:
    """Draw where each head of each layer looked while it read a passage, a full line wide.

    A row of a map is a token that was read, from the top, and a column one that it looked at; a column that is dark all
    the way down is looked at from everywhere. Colours follow the square root of the share. What lies after a token,
    which a causal model cannot see, is grey. Where there is room the tokens stand at the maps; else the maps have
    their places, and the passage stands below.

    Args:
        maps: of each layer (heads, time, time), shares that sum to 1 in a row; with sources (heads, time, sources).
        tokens: (time,), the texts of the tokens.
        sources: (sources,), the texts of what was looked at where that is another sequence, as in cross-attention: the
            columns. None of it is grey.

    Returns:
        The figure as SVG, a row of maps for each layer, a column for each head.

    Raises:
        ValueError: there is no map, shapes differ or don't fit the tokens, or a share isn't from 0 to 1.
    """
    if not len(maps):
        raise ValueError("maps: none")
    layers = [_numbers(f"maps of layer {index}", of_layer, 3) for index, of_layer in enumerate(maps, 1)]
    expected = (layers[0].shape[0], len(tokens), len(tokens if sources is None else sources))
    for index, shares in enumerate(layers, 1):
        if shares.shape != expected or shares.min() < -1e-6 or shares.max() > 1 + 1e-3:
            found = f"{shares.shape}, {shares.min():g} to {shares.max():g}"
            raise ValueError(f"maps of layer {index}: {found}, expected shares of {expected}")
    heads, time, seen = expected
    hidden = np.zeros((time, seen), bool)
    if sources is None and not any(np.triu(shares, 1).any() for shares in layers):  # causal
        hidden = np.triu(~hidden, 1)
    rows, columns = (
        [_visible(token).replace(" ", "␣") for token in of] for of in (tokens, tokens if sources is None else sources)
    )
    # All lengths below are in points.
    # These letters are wider than those of a legend.
    row_text, column_text = (1.1 * max(map(_width, texts)) for texts in (rows, columns))
    page, gap, head, title = _FULL * _POINTS, 6.0, 12.0, 14.0

    def cell(margin: float) -> float:
        """The side of a cell with such a margin, so that all layers take no more than half a page."""
        room = (page - title - margin - (heads - 1) * gap) / heads
        return min(min(room, 150) / seen, min(150, 360 / len(layers)) / time)

    margin = max(row_text + 6, 20)
    written = cell(margin) >= 5.5 and max(row_text, column_text) < 60
    margin = margin if written else 20.0
    side = cell(margin)
    wide, tall = side * seen, side * time
    size = min(6.5, 0.95 * side) if written else 6.0
    turned = written and column_text * size / 7 > side
    below = []
    if not written:
        passages = ["".join(rows)] if sources is None else [f"rows: {' '.join(rows)}", f"columns: {' '.join(columns)}"]
        below = [line for passage in passages for line in _lines(passage, 110)]
    left, foot = title + margin, (column_text if turned else 14) + 20 + 9 * len(below)
    height = head + len(layers) * (tall + gap) + foot
    figure = Figure(figsize=(page / 72, height / 72))
    background = figure.add_axes((0, 0, 1, 1))
    background.set_axis_off()
    shades = matplotlib.colormaps["Blues"]
    font = _monospaced(size) if written else FontProperties(size=size)

    def ticks(texts: list[str]) -> tuple[np.ndarray, list[str]]:
        if written:
            return np.arange(len(texts)), texts
        most = max(1, min(5, int(len(texts) * side / 9)))
        counted = MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]).tick_values(1, len(texts))
        places = np.array([tick - 1 for tick in counted if 1 <= tick <= len(texts)], int)
        return places, [str(place + 1) for place in places]

    (row_ticks, row_names), (column_ticks, column_names) = ticks(rows), ticks(columns)
    for row, shares in enumerate(layers):
        bottom = height - head - (row + 1) * tall - row * gap
        for column in range(heads):
            place = ((left + column * (wide + gap)) / page, bottom / height, wide / page, tall / height)
            axes = figure.add_axes(place)
            pixels = np.round(255 * shades(np.sqrt(shares[column].clip(0, 1)))[..., :3]).astype(np.uint8)
            pixels[hidden] = 225
            axes.imshow(pixels, interpolation="none", aspect="auto")
            axes.grid(visible=False)
            axes.spines[:].set(visible=True)
            last = row == len(layers) - 1
            axes.set_xticks(column_ticks, column_names if last else [""] * len(column_names), fontproperties=font)
            axes.set_yticks(row_ticks, [""] * len(row_names) if column else row_names, fontproperties=font)
            axes.tick_params(axis="x", length=0 if written else 2, pad=2, rotation=90 if turned else 0)
            axes.tick_params(axis="y", length=0 if written else 2, pad=2)
            if row == 0:
                axes.set_title(f"head {column + 1}", fontsize=7, pad=3)
        background.text(5, bottom + tall / 2, f"layer {row + 1}", fontsize=7, rotation=90, ha="center", va="center")
    for row, line in enumerate(reversed(below)):
        background.text(left, 16 + 9 * row, line, fontproperties=_monospaced(6.5), va="baseline")
    colors = shades(np.sqrt(np.linspace(0, 1, 64)))[:, :3]
    _scale(
        background,
        left,
        2.5,
        colors,
        "0",
        f"1: share of what a token looks at{'; grey: not seen' if hidden.any() else ''}",
    )
    background.set(xlim=(0, page), ylim=(0, height))
    return figure

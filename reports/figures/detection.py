"""Figures of a detector of a rare class: ROC and precision-recall curves, scores, budget of alerts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from reports.figures import look


def _models(scores: Mapping[str, ArrayLike], emphasis: str) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Yield each model, its scores and the style of its line."""
    for model, values in scores.items():
        width = 2.2 if model == emphasis else 1.0
        yield model, np.asarray(values, float), {"linewidth": width, "zorder": 1 + width}


@look.svg
def roc_curves(labels: ArrayLike, scores: Mapping[str, ArrayLike], *, emphasis: str) -> Figure:
    """Draw the receiver operating characteristic of several models, half a line wide.

    An inset shows low false-positive rates, which matter for a rare class, on a logarithmic axis.

    Args:
        labels: (n,), 1 for the class to detect and 0 for the other; both occur.
        scores: by model, (n,), higher for class 1.
        emphasis: the model drawn with a thick line.

    Returns:
        The figure as SVG; the legend gives the area under each curve.
    """
    figure = look.laid_out(look.HALF, 5.4)
    axes = figure.subplots()
    axes.add_patch(Rectangle((0.36, 0.02), 0.63, 0.65, color="white", zorder=4))
    inset = axes.inset_axes((0.47, 0.13, 0.5, 0.43))
    lowest = min(0.1, max(1e-4, 1 / np.sum(np.asarray(labels) == 0)))
    for model, values, style in _models(scores, emphasis):
        false_positive, true_positive, _ = roc_curve(labels, values)
        label = f"{model}  {auc(false_positive, true_positive):.3f}"
        axes.plot(false_positive, true_positive, label=label, **style)
        inset.plot(false_positive, true_positive, drawstyle="steps-post", **style)
    axes.plot([0, 1], [0, 1], color=look.QUIET, linewidth=0.9, linestyle=look.DASHED, label="chance  0.500", zorder=1)
    inset.set(xlim=(lowest, min(1, 1000 * lowest)), ylim=(0, 1))
    look.make_logarithmic(inset, "x")
    inset.set_title("the same at low rates", fontsize=7, pad=3)
    inset.tick_params(labelsize=6)
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.005))
    look.legend(figure, "outside lower left", "area under the curve")
    return figure


@look.svg
def precision_recall_curves(labels: ArrayLike, scores: Mapping[str, ArrayLike], *, emphasis: str) -> Figure:
    """Draw precision over recall of several models, half a line wide; for the arguments, see `roc_curves`.

    Returns:
        The figure as SVG; the legend gives each average precision, and a dashed line the share of class 1.
    """
    figure = look.laid_out(look.HALF, 5.4)
    axes = figure.subplots()
    for model, values, style in _models(scores, emphasis):
        precision, recall, _ = precision_recall_curve(labels, values)
        label = f"{model}  {average_precision_score(labels, values):.3f}"
        axes.plot(recall, precision, label=label, drawstyle="steps-post", **style)
    base_rate = np.asarray(labels).mean()
    axes.axhline(base_rate, color=look.QUIET, linewidth=0.9, linestyle=look.DASHED, label=f"base rate  {base_rate:.2g}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.005))
    look.legend(figure, "outside lower left", "average precision")
    return figure


@look.svg
def score_histogram(
    scores: ArrayLike, labels: ArrayLike, threshold: float, *, class_names: Sequence[str], score_name: str
) -> Figure:
    """Draw the distribution of the scores of each class, with the threshold, half a line wide.

    The axis is logarithmic if the scores are positive and range over more than two decades.

    Args:
        scores: (n,).
        labels: (n,), the index of each score's class.
        threshold: scores above it are alerts.
        class_names: the name of each class.
        score_name: the label of the axis, with its unit.

    Returns:
        The figure as SVG; the legend gives the number of each class and its share above the threshold.
    """
    values, truth = np.asarray(scores, float), np.asarray(labels)
    ends = np.append(values, threshold)
    logarithmic = look.ranges_widely(ends)
    space = np.geomspace if logarithmic else np.linspace
    edges = space(ends.min(), ends.max(), 41)
    figure = look.laid_out(look.HALF, 5.6)
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
        look.make_logarithmic(axes, "x")
    axes.axvline(threshold, color=look.INK, linewidth=1, linestyle=look.DASHED, label=f"threshold {threshold:.3g}")
    axes.set(xlabel=look.wrapped(score_name, 7), ylabel="share of the class\nper bin [%]")
    axes.set_ylim(bottom=0)
    look.legend(figure, "outside lower left")
    return figure


@look.svg
def budget_calibration(
    expected: ArrayLike,
    observed: ArrayLike,
    *,
    validation: Mapping[str, ArrayLike],
    test: Mapping[str, ArrayLike],
    chosen: int,
    unit: str,
) -> Figure:
    """Draw observed over expected alerts, and measures over the budget of alerts, a full line wide.

    Each budget corresponds to the threshold that gives that many alerts on the validation data.

    Args:
        expected: (n,), alerts per unit on the validation data, above 0.
        observed: (n,), alerts per unit on the test data at the same thresholds; 0 is marked at the lower edge.
        validation: measures such as recall and precision, each (n,), from 0 to 1, on the validation data.
        test: the same measures on the test data.
        chosen: the index of the budget in use.
        unit: unit of the counts of alerts, such as "day".

    Returns:
        The figure as SVG.
    """
    spent, seen = np.asarray(expected, float), np.asarray(observed, float)
    figure = look.laid_out(look.FULL, 7.2)
    left, right = figure.subplots(1, 2)
    drawn = seen > 0
    ends = np.array([min(spent.min(), seen[drawn].min(initial=np.inf)), max(spent.max(), seen.max())])
    if ends[0] == ends[1]:  # a single budget whose alerts are as expected
        ends *= 0.5, 2
    left.plot(ends, ends, color=look.QUIET, linewidth=0.9, linestyle=look.DASHED, label="as expected")
    left.plot(spent[drawn], seen[drawn], color="C0", marker="o", markersize=3, label="observed")
    if not drawn.all():
        none = np.full(len(spent) - np.count_nonzero(drawn), 0.02)
        left.plot(spent[~drawn], none, "v", color="C0", transform=left.get_xaxis_transform(), label="none observed")
    if drawn[chosen]:
        mark = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.4, "linestyle": ""}
        label = f"chosen: {_alerts(spent[chosen])} expected, {_alerts(seen[chosen])} observed"
        left.plot(spent[chosen], seen[chosen], color="C1", label=label, **mark)
    look.make_logarithmic(left, "x", "y")
    left.set(xlabel=f"expected on validation [alerts per {unit}]", ylabel=f"observed on test\n[alerts per {unit}]")
    for index, measure in enumerate(validation):
        right.plot(spent, validation[measure], color=f"C{index}", linestyle="--", label=f"{measure}, validation")
        right.plot(spent, test[measure], color=f"C{index}", linestyle="-", linewidth=1.6, label=f"{measure}, test")
    right.axvline(spent[chosen], color=look.INK, linewidth=0.9, linestyle=":", label="chosen budget")
    look.make_logarithmic(right, "x")
    right.set(xlabel=f"budget [alerts per {unit}]", ylabel="share", ylim=(0, 1))
    for axes, columns in ((left, 1), (right, 2)):
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=columns)
    return figure


def _alerts(number: float) -> str:
    """A number of alerts with three significant digits, or all digits from 1,000 on."""
    return f"{number:,.0f}" if number >= 1_000 else f"{number:.3g}"

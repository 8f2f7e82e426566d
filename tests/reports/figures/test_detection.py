import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.reports.figures.drawing import LABELS, SCORES, figure_of, legend_of


def test_roc_legend_gives_the_area_of_each_model():
    expected = [f"{model}  {roc_auc_score(LABELS, scores):.3f}" for model, scores in SCORES.items()]
    assert legend_of(figure_of("roc_curves")) == [*expected, "chance  0.500"]


def test_roc_inset_widens_the_low_rates():
    axes = figure_of("roc_curves").axes[0]
    (inset,) = axes.child_axes
    assert inset.get_xscale() == "log"
    assert inset.get_xlim() == pytest.approx((1 / 1960, 1000 / 1960))
    np.testing.assert_array_equal(inset.lines[0].get_xydata(), axes.lines[0].get_xydata())


def test_precision_recall_legend_gives_average_precision_and_base_rate():
    expected = [f"{model}  {average_precision_score(LABELS, scores):.3f}" for model, scores in SCORES.items()]
    figure = figure_of("precision_recall_curves")
    assert legend_of(figure) == [*expected, "base rate  0.02"]
    np.testing.assert_array_equal(figure.axes[0].lines[-1].get_ydata(), 0.02)


@pytest.mark.parametrize("name", ["roc_curves", "precision_recall_curves"])
def test_the_emphasised_model_is_drawn_thick(name):
    lines = figure_of(name, LABELS, SCORES, emphasis="isolation forest").axes[0].lines[:3]
    assert [line.get_linewidth() for line in lines] == [1.0, 2.2, 1.0]


def test_the_area_of_the_drawn_precision_recall_steps_is_the_average_precision():
    line = figure_of("precision_recall_curves").axes[0].lines[0]
    assert line.get_drawstyle() == "steps-post"  # from right to left: each precision holds down to the next recall
    recall, precision = np.asarray(line.get_xydata()).T
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(average_precision_score(LABELS, SCORES["autoencoder"]))


def test_histogram_counts_shares_of_each_class():
    scores = np.array([1.0, 2, 3, 4, 10, 10, 10, 1])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    figure = figure_of("score_histogram", scores, labels, 3.0, class_names=("low", "high"), score_name="score")
    assert legend_of(figure) == ["low: 4, 25 % above", "high: 4, 75 % above", "threshold 3"]
    outlines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert [patch.get_data().values.sum() for patch in outlines] == pytest.approx([100, 100])
    assert figure.axes[0].get_xscale() == "linear"
    assert figure_of("score_histogram").axes[0].get_xscale() == "log"


def test_budget_marks_the_chosen_point_and_budgets_that_raised_no_alert():
    figure = figure_of("budget_calibration")
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert list(lines) == ["as expected", "observed", "none observed", "chosen: 10 expected, 9 observed"]
    assert lines["observed"].get_xydata().tolist() == [[3, 4], [10, 9], [30, 33]]
    assert lines["none observed"].get_xdata().tolist() == [1]
    assert lines["chosen: 10 expected, 9 observed"].get_xydata().tolist() == [[10, 9]]
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
    styles = {line.get_label(): line.get_linestyle() for line in right.lines}
    assert styles == {
        "recall, validation": "--",
        "recall, test": "-",
        "precision, validation": "--",
        "precision, test": "-",
        "chosen budget": ":",
    }

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.legend import Legend

from tests.reports.figures.drawing import assert_apart, boxes_of, figure_of, legend_of, strings


def test_bars_have_their_heights_and_intervals():
    axes = figure_of("grouped_bars").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.2, 0.6, 0.1]
    whiskers = [
        segment[:, 1]
        for container in axes.containers
        if isinstance(container, ErrorbarContainer)
        for segment in container.lines[2][0].get_segments()
    ]
    np.testing.assert_allclose(whiskers, [(0.4, 0.7), (0.1, 0.3), (0.5, 0.7), (0.0, 0.3)])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert centres == pytest.approx([-0.2, 0.8, 0.2, 1.2])


@pytest.mark.parametrize(("groups", "upright"), [(12, True), (30, False)])
def test_counts_stand_above_their_groups(groups, upright):
    values = {str(index): (0.5, 0.4, 0.6) for index in range(groups)}
    counts = {str(index): 1234.4 * (index + 1) for index in range(groups)}
    figure = figure_of("grouped_bars", {"one": values}, x_label="letters", y_label="error", counts=counts)
    axes = figure.axes[0]
    *written, name = axes.texts
    assert strings(written) == [f"{count:,.0f}" for count in counts.values()]
    assert written[0].get_text() == "1,234"
    assert name.get_text() == "n ="
    boxes = boxes_of((*axes.texts, *figure.findobj(Legend)[0].get_texts()))
    assert_apart(boxes)
    assert all(box.y0 > axes.bbox.y1 for box in boxes)
    assert all((box.width > box.height) == upright for box in boxes[:groups])
    places = [(box.x0 + box.x1) / 2 for box in boxes[:groups]]
    np.testing.assert_allclose(
        places, axes.transData.transform([(index, 0) for index in range(groups)])[:, 0], atol=0.5
    )


def intervals_of(axes: Axes) -> list[list[float]]:
    return [np.asarray(line.get_xdata()).tolist() for line in axes.lines if line.get_marker() == "None"]


def test_interval_dots_mark_the_best_value_of_each_measure():
    accuracy, error = figure_of("interval_dots").axes
    assert (accuracy.get_title(), error.get_title()) == ("accuracy [%]", "error rate [%]")
    assert (accuracy.get_xlabel(), error.get_xlabel()) == ("higher is better →", "← lower is better")
    assert intervals_of(accuracy) == [[69, 71], [74, 76], [75, 75]]  # the last is the line
    assert intervals_of(error) == [[29, 31.5], [25, 27], [26, 26]]
    dots = [np.asarray(line.get_xydata()).tolist() for line in error.lines if line.get_marker() == "o"]
    assert dots == [[[30, 0]], [[26, 1]]]
    names = strings(accuracy.get_yticklabels())
    assert names == ["one", "a model with a name of\nsome length"]
    top, bottom = accuracy.get_ylim()
    assert top > bottom  # the first model is above


@pytest.mark.parametrize("number", [1, 20])
def test_the_names_of_models_do_not_overlap(number):
    values = {f"a model with a name of some length, {index}": {"accuracy": (0.5, 0.4, 0.6)} for index in range(number)}
    (axes,) = figure_of("interval_dots", values, higher_is_better={"accuracy": True}).axes
    boxes = boxes_of(axes.get_yticklabels())
    assert len(boxes) == number
    assert_apart(boxes)


def test_share_bars_keep_the_seven_greatest_features_and_fill_up_with_the_rest():
    shares = np.array([[0.02, 0.3, 0.1, 0.08, 0.2, 0.09, 0.06, 0.05, 0.1]])
    names = list("abcdefghi")
    figure = figure_of("share_bars", ["row"], shares, names, x_label="share", y_label="row")
    assert legend_of(figure) == ["b", "e", "c", "i", "f", "d", "g", "other"]
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([30, 20, 10, 10, 9, 8, 6, 7])
    written = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert written == ["30", "20", "10", "10", "9", "8"]


def test_what_the_features_of_a_row_lack_to_the_whole_is_other():
    shares = np.array([[0.5, 0.2], [0.1, 0.3], [0.0, 0.0]])
    figure = figure_of("share_bars", ["a", "b", "nothing"], shares, ["x", "y"], x_label="share", y_label="row")
    assert legend_of(figure) == ["x", "y", "other"]
    assert [bar.get_width() for bar in figure.axes[0].patches[-3:]] == pytest.approx([30, 60, 0])


def test_bars_of_nothing_but_zero_stand_on_an_axis_above_it():
    values = {"m": {"a": (0.0, 0.0, 0.0), "b": (0.0, 0.0, 0.0)}}
    assert figure_of("grouped_bars", values, x_label="class", y_label="error [%]").axes[0].get_ylim() == (0, 1)

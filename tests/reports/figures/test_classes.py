import matplotlib.colors
import numpy as np
import pytest

from reports import figures
from tests.reports.figures.drawing import (
    BINS,
    RANDOM,
    assert_apart,
    boxes_of,
    brightness_of,
    figure_of,
    legend_of,
    strings,
)


def test_confusion_rows_are_shared_out_and_a_row_without_samples_is_masked():
    figure = figure_of("confusion_matrix")
    axes, scale = figure.axes
    (image,) = axes.images
    shares = image.get_array()
    np.testing.assert_allclose(shares[[0, 2]], [[80, 10, 10], [25, 0, 75]])
    assert shares.mask[1].all()
    red, green, blue, _ = image.cmap(shares)[1, 0]
    assert red == pytest.approx(green, abs=0.05) == pytest.approx(blue, abs=0.05)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert image.get_clim() == (0, 100)
    assert strings(scale.texts) == ["share of the true class [%]; grey: no sample"]
    assert axes.get_ylim() == (2.5, -0.5)  # the first class is above


def test_a_rare_confusion_is_visible():
    figure = figure_of("confusion_matrix", [[99, 1], [0, 100]], ["a", "b"], groups={"all": 2})
    (image,) = figure.axes[0].images
    none, rare = (brightness_of(image.cmap(image.norm(share))) for share in (0, 1))
    assert none - rare > 0.05


def test_lines_and_names_divide_the_groups():
    counts = np.eye(6)
    figure = figure_of("confusion_matrix", counts, list("abcdef"), groups={"vowels": 3, "stops": 2, "silence": 1})
    axes = figure.axes[0]
    assert [line.get_ydata()[0] for line in axes.lines[::2]] == [2.5, 4.5]
    assert [line.get_xdata()[0] for line in axes.lines[1::2]] == [2.5, 4.5]
    places = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert places == {"vowels": 1, "stops": 3.5, "silence": 5}


def test_counts_stand_in_the_cells_without_groups_where_they_fit():
    counts = np.array([[1_135, 7], [0, 980]])
    (axes, _) = figure_of("confusion_matrix", counts, ["a", "b"]).axes
    written = {text.get_position(): text.get_text() for text in axes.texts if text.get_text()}
    assert written == {(0, 0): "1,135", (1, 0): "7", (1, 1): "980"}
    assert not axes.lines
    cell = axes.get_window_extent().width / 2
    assert max(text.get_window_extent().width for text in axes.texts) < cell
    (image,) = axes.images
    for text in axes.texts:  # letters and ground are told apart
        if text.get_text():
            row, column = text.get_position()[::-1]
            ground = np.mean(image.cmap(image.norm(image.get_array()[row, column]))[:3])
            assert abs(ground - np.mean(matplotlib.colors.to_rgb(text.get_color()))) > 0.4
    many = figure_of("confusion_matrix", 100 * np.eye(60), [str(index) for index in range(60)]).axes[0]
    assert not [text for text in many.texts if text.get_text()]
    with_groups = figure_of("confusion_matrix", counts, ["a", "b"], groups={"all": 2}).axes[0].texts
    assert strings(with_groups) == ["all"]


@pytest.mark.parametrize("number", [1, 2, 39, 61])
def test_names_at_a_confusion_matrix_do_not_overlap(number):
    names = [f"c{index}" for index in range(number)]
    groups = {f"the group of index {index}": 1 for index in range(min(number - 1, 3))}
    groups["those that remain together"] = number - len(groups)
    axes = figure_of("confusion_matrix", np.eye(number), names, groups=groups).axes[0]
    for texts in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts):
        # The space around the letters of two lines may touch.
        boxes = boxes_of(texts, -1)
        assert len(boxes) in (number, len(groups))
        assert_apart(boxes)
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height)


def test_scatter_draws_the_rare_class_last_and_stays_small():
    points = RANDOM.normal(size=(100_000, 2))
    labels = (np.arange(100_000) % 500 != 0).astype(int)
    options = {"class_names": ("rare", "common"), "axis_names": ("x", "y")}
    assert len(figures.scatter(points, labels, **options)) < 300_000
    below, above = sorted(
        figure_of("scatter", points, labels, **options).axes[0].collections,
        key=lambda collection: collection.get_zorder(),
    )
    np.testing.assert_array_equal(below.get_offsets(), points[labels == 1])
    np.testing.assert_array_equal(above.get_offsets(), points[labels == 0])


def test_reliability_is_drawn_in_per_cent_with_the_shares_of_the_first_model():
    figure = figure_of("reliability_diagram")
    axes, histogram = figure.axes
    assert legend_of(figure) == ["perfect calibration", "a network", "RBF-SVM"]
    diagonal, *lines = (np.asarray(line.get_xydata()) for line in axes.lines)
    assert diagonal.tolist() == [[0, 0], [100, 100]]
    np.testing.assert_allclose(lines[0], [[55, 60], [97, 90]])
    np.testing.assert_allclose(lines[1], [[97, 90]])
    assert [bar.get_height() for bar in histogram.patches] == [25, 75]
    assert [bar.get_x() for bar in histogram.patches] == pytest.approx([40, 80])
    assert [bar.get_width() for bar in histogram.patches] == pytest.approx([20, 20])
    assert histogram.get_xlabel() == "a network confidence [%]"
    assert axes.get_xlim() == axes.get_ylim() == (49, 101)
    high = [BINS[0] | {"confidence": 0.91, "accuracy": 0.93}, BINS[1]]
    assert figure_of("reliability_diagram", {"m": high}).axes[0].get_xlim() == (80 - 0.4, 100.4)
    assert figure_of("reliability_diagram", {"m": [BINS[0] | {"accuracy": 0.0}]}).axes[0].get_xlim() == (-2, 102)

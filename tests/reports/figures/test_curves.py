import numpy as np
import pytest
from matplotlib.text import Text

from tests.reports.figures.drawing import figure_of, legend_of, strings


def test_interval_curves_are_drawn_in_the_order_of_their_places():
    figure = figure_of("interval_curves")
    (axes,) = figure.axes
    assert legend_of(figure) == ["past only", "past and future"]
    assert axes.lines[0].get_xydata().tolist() == [[0, 0.4], [1, 0.5], [4, 0.6]]
    assert axes.lines[1].get_xydata().tolist() == [[0, 0.4], [4, 0.8]]
    assert axes.lines[0].get_marker() != axes.lines[1].get_marker()
    corners = {tuple(corner) for corner in axes.collections[0].get_paths()[0].vertices}
    assert corners == {(0, 0.3), (0, 0.5), (1, 0.4), (1, 0.6), (4, 0.5), (4, 0.7)}
    assert axes.get_xscale() == "linear"


def test_interval_curves_on_a_logarithmic_axis():
    points = [(place, 1, 0, 2) for place in (0, 1, 100, 10_000)]
    options = {"x_label": "frames", "y_label": "accuracy", "logarithmic": True}
    (axes,) = figure_of("interval_curves", {"one": points}, **options).axes
    assert strings(axes.get_xticklabels()) == ["0", "1", "100", "10,000"]
    where = axes.transData.transform([(place, 0) for place in (0, 1, 100, 10_000)])[:, 0]
    assert np.diff(where)[1] == pytest.approx(np.diff(where)[2])
    assert np.diff(where)[0] > 0


def test_many_interval_curves_have_no_shades():
    curves = {str(index): [(0, index, index - 1, index + 1), (1, index, index - 1, index + 1)] for index in range(4)}
    (axes,) = figure_of("interval_curves", curves, x_label="x", y_label="y").axes
    assert len(axes.lines) == 4
    assert not axes.collections


def test_the_interval_of_a_single_point_is_drawn():
    (axes,) = figure_of("interval_curves", {"one": [(3, 0.5, 0.4, 0.7)]}, x_label="x", y_label="y").axes
    (segment,) = axes.collections[-1].get_segments()
    assert segment.tolist() == [[3, 0.4], [3, 0.7]]


def test_interval_curves_are_a_full_line_wide_if_asked():
    options = {"x_label": "x", "y_label": "y"}
    curves = {"one": [(1, 1, 0, 2), (2, 1, 0, 2)]}
    half, full = (figure_of("interval_curves", curves, **options, wide=wide) for wide in (False, True))
    assert half.get_figwidth() * 2.54 == pytest.approx(8.3)
    assert full.get_figwidth() * 2.54 == pytest.approx(17)
    assert half.axes[0].lines[0].get_xydata().tolist() == full.axes[0].lines[0].get_xydata().tolist()


def test_learning_curves_show_the_first_run_thick():
    figure = figure_of("learning_curves")
    assert legend_of(figure) == ["seed 0, training", "seed 0, validation", "thin: seed 1, seed 2", "best epoch 2"]
    lines = figure.axes[0].lines
    assert [line.get_linewidth() for line in lines[:4]] == [1.8, 1.8, 0.6, 0.6]
    assert [line.get_color() for line in lines[:4]] == ["C0", "C1", "C0", "C0"]
    assert lines[0].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]


def test_learning_curve_of_one_epoch_is_a_point():
    (line,) = figure_of("learning_curves", {"seed 0": {"training": [3.0]}}, y_label="loss").axes[0].lines
    assert line.get_marker() == "o"


def test_series_of_a_name_look_alike_in_all_panels():
    figure = figure_of("series")
    left, right = figure.axes
    assert legend_of(figure) == ["training", "validation", "chosen"]
    assert left.lines[0].get_color() == right.lines[0].get_color() != right.lines[1].get_color()
    assert right.lines[1].get_xydata().tolist() == [[1, 91], [2, 94], [3, 93]]
    for axes in (left, right):
        assert next(list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--") == [2, 2]
    alone = figure_of("series", {"error": {"training": [(1, 2.0), (2, 1.0)]}}, x_label="epoch")
    assert legend_of(alone) == []


@pytest.mark.parametrize(("last", "scale"), [(2.9, "log"), (3.1, "linear"), (0, "linear"), (-1, "linear")])
def test_a_series_that_falls_far_has_a_logarithmic_axis(last, scale):
    panels = {
        "distance": {"seed 0": [(1, 30), (2, 4)], "seed 1": [(2, last)]},
        "recall": {"seed 0": [(1, 0.05), (2, 1)]},
    }
    left, right = figure_of("series", panels, x_label="epoch").axes
    assert (left.get_yscale(), right.get_yscale()) == (scale, "linear")


def test_levels_are_lines_with_their_names_apart_beside_them():
    levels = {"xz": 1.74, "zstd": 1.77, "5-gram": 1.71, "PPMd": 1.42, "unigram": 4.6}
    runs = {"seed 0": {"training": [4.5, 3.0, 1.9, 1.8]}}
    figure = figure_of("learning_curves", runs, y_label="bits", levels=levels)
    (axes,) = figure.axes
    assert {text.get_text(): text.xy[1] for text in axes.texts} == pytest.approx(
        {level: axes.transLimits.transform((0, value))[1] for level, value in levels.items()}
    )
    heights = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata())]
    assert sorted(levels.values()) == sorted(set(heights))
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the line to the level
    for box, text in zip(boxes, axes.texts, strict=True):
        assert box.x0 > axes.bbox.x1
        assert box.x1 < figure.bbox.x1
        assert box.y0 > 0, text
    order = sorted(axes.texts, key=lambda text: levels[text.get_text()])
    centres = [text.get_position()[1] * axes.bbox.height * 72 / figure.dpi for text in order]
    assert min(np.diff(centres)) > 7  # points

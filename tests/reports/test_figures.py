import base64
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from reports import figures

RANDOM = np.random.default_rng(3)
LABELS = (np.arange(2000) % 50 == 0).astype(int)
SCORES = {
    "autoencoder": np.exp(RANDOM.normal(size=2000) + 2 * LABELS),
    "isolation forest": RANDOM.normal(size=2000) + LABELS,
    "a $model$ with a name of some length": RANDOM.normal(size=2000),
}
POINTS = RANDOM.normal(size=(2000, 2))
BUDGETS = np.array([1.0, 3.0, 10.0, 30.0])
LONG = "a label that goes on for longer than its axis is wide, with a unit at its end [m/s]"
FREQUENCIES = [120.0, 300.0, 600.0, 1500.0, 3000.0, 6000.0]
TRACKS = {
    "true": [(0.0, 0.5, "sil", True), (0.5, 0.52, "b", True), (0.52, 1.2, "iy", True)],
    "a network of a name that is wrapped": [(0.0, 0.4, "sil", True), (0.4, 0.42, "d", False), (0.42, 1.2, "ih", False)],
}
GREY = RANDOM.random((5, 8, 6, 1))
BINS = [
    {"low": 0.4, "high": 0.6, "count": 10, "confidence": 0.55, "accuracy": 0.6},
    {"low": 0.8, "high": 1.0, "count": 30, "confidence": 0.97, "accuracy": 0.9},
]
CALLS = {
    "roc_curves": ((LABELS, SCORES), {"emphasis": "autoencoder"}),
    "precision_recall_curves": ((LABELS, SCORES), {"emphasis": "autoencoder"}),
    "score_histogram": (
        (SCORES["autoencoder"], LABELS, 4.2),
        {"class_names": ("genuine", "fraud"), "score_name": LONG},
    ),
    "grouped_bars": (
        ({"one": {"a": (0.5, 0.4, 0.7), "b": (0.2, 0.1, 0.3)}, "two": {"a": (0.6, 0.5, 0.7), "b": (0.1, 0.0, 0.3)}},),
        {"x_label": "scenario", "y_label": LONG},
    ),
    "interval_curves": (
        (
            {
                "past only": [(4, 0.6, 0.5, 0.7), (0, 0.4, 0.3, 0.5), (1, 0.5, 0.4, 0.6)],
                "past and future": [(0, 0.4, 0.3, 0.5), (4, 0.8, 0.7, 0.9)],
            },
        ),
        {"x_label": LONG, "y_label": LONG},
    ),
    "interval_dots": (
        (
            {
                "one": {"accuracy [%]": (70.0, 69.0, 71.0), "error rate [%]": (30.0, 29.0, 31.5)},
                "a model with a name of some length": {
                    "accuracy [%]": (75.0, 74.0, 76.0),
                    "error rate [%]": (26.0, 25.0, 27.0),
                },
            },
        ),
        {"higher_is_better": {"accuracy [%]": True, "error rate [%]": False}},
    ),
    "spectrogram": ((RANDOM.normal(size=(120, 6)),), {"step": 0.01, "centres": FREQUENCIES, "tracks": TRACKS}),
    "confusion_matrix": (
        ([[8, 1, 1], [0, 0, 0], [1, 0, 3]], ["iy", "ih", LONG]),
        {"groups": {"vowels": 2, "a group with a long name": 1}},
    ),
    "share_bars": (
        (["1", "2"], RANDOM.dirichlet(np.ones(12), 2), [f"feature of index {index}" for index in range(12)]),
        {"x_label": "share of the error", "y_label": "alert"},
    ),
    "scatter": ((POINTS, LABELS), {"class_names": ("genuine", "fraud"), "axis_names": (LONG, LONG)}),
    "budget_calibration": (
        (BUDGETS, [0.0, 4.0, 9.0, 33.0]),
        {
            "validation": {"recall": BUDGETS / 40, "precision": 1 / BUDGETS},
            "test": {"recall": BUDGETS / 50, "precision": 0.9 / BUDGETS},
            "chosen": 2,
            "unit": "day",
        },
    ),
    "learning_curves": (
        (
            {
                "seed 0": {"training": [3.0, 2.0, 1.0], "validation": [3.1, 2.2, 2.3]},
                "seed 1": {"training": [3.2, 2.1, 0.9]},
                "seed 2": {"training": [3.3, 2.4]},
            },
        ),
        {"y_label": LONG, "best_epoch": 2},
    ),
    "reliability_diagram": (({"a network": BINS, "RBF-SVM": BINS[1:]},), {}),
    "series": (
        (
            {
                "squared error": {"training": [(1, 0.3), (2, 0.2), (3, 0.1)]},
                LONG: {"training": [(1, 90.0), (2, 95.0), (3, 99.0)], "validation": [(3, 93.0), (1, 91.0), (2, 94.0)]},
            },
        ),
        {"x_label": "module", "mark": (2, "chosen")},
    ),
    "pictures": (
        (GREY, ["7 → 9, 0.98", "T-shirt/top → Ankle boot, 0.71", "", "2 → 3, 0.51", "4 → 4, 1.00"]),
        {
            "columns": 3,
            "overlays": RANDOM.random((5, 8, 6)),
            "marks": [True, True, True, True, False],
            "row_names": ["wrong", "right but a little unsure"],
        },
    ),
    "surprise": (
        (
            {
                "block 3, 2.1 bits a character": [("a", 1.0), ("\n", 4.0), ("bcd", 9.0), ("⚡", 2.0)],
                LONG: [(letter, float(index)) for index, letter in enumerate("fi $x_1$ \t~ A\u030a שלום")],
            },
        ),
        {"columns": 12},
    ),
    "attention": (([np.eye(5)[None].repeat(3, axis=0)] * 2, ["The", " while", " state", "ment", "\n"]), {}),
    "network": (
        ([("features", (15,), 0), ("encoder", (16,), 256), ("code", (2,), 34), ("reconstruction", (15,), 45)],),
        {},
    ),
}


def figure_of(name: str, *arguments: object, **options: object) -> Figure:
    """The matplotlib figure behind a function that returns SVG, with the look and drawn once to settle the layout."""
    if not arguments:
        arguments, options = CALLS[name]
    with matplotlib.style.context(["default", figures._LOOK]):
        figure = getattr(figures, name).__wrapped__(*arguments, **options)
        FigureCanvasAgg(figure).draw()
    return figure


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


def texts_of(figure: Figure) -> list[Text]:
    """All texts but those at the ticks."""
    legends = [text for legend in figure.findobj(Legend) for text in (legend.get_title(), *legend.get_texts())]
    parts = [
        text for axes in figure.findobj(Axes) for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
    ]
    return [text for text in legends + parts if text.get_text().strip()]


@pytest.mark.parametrize("name", CALLS)
def test_figure_is_svg_of_the_width_of_the_page_and_the_same_each_time(name):
    arguments, options = CALLS[name]
    svg = getattr(figures, name)(*arguments, **options)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    half = name in ("roc_curves", "precision_recall_curves", "score_histogram", "scatter", "interval_curves")
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx((8.3 if half else 17) / 2.54 * 72, abs=0.01)
    assert b"<text" not in svg  # letters are paths: no font is needed to show them
    assert b"<dc:date>" not in svg
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        assert getattr(figures, name)(*arguments, **options) == svg
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", CALLS)
def test_axes_are_labelled_and_no_text_is_cut(name):
    figure = figure_of(name)
    if name not in ("network", "interval_dots", "spectrogram", "confusion_matrix", "pictures", "surprise", "attention"):
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    width, height = figure.bbox.size
    for text in texts_of(figure):
        box = text.get_window_extent()
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < width + 1, text
        assert box.y1 < height + 1, text


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
    assert [text.get_text() for text in written] == [f"{count:,.0f}" for count in counts.values()]
    assert written[0].get_text() == "1,234"
    assert name.get_text() == "n ="
    boxes = [text.get_window_extent() for text in (*axes.texts, *figure.findobj(Legend)[0].get_texts())]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert all(box.y0 > axes.bbox.y1 for box in boxes)
    assert all((box.width > box.height) == upright for box in boxes[:groups])
    places = [(box.x0 + box.x1) / 2 for box in boxes[:groups]]
    np.testing.assert_allclose(
        places, axes.transData.transform([(index, 0) for index in range(groups)])[:, 0], atol=0.5
    )


def intervals_of(axes: Axes) -> list[list[float]]:
    return [np.asarray(line.get_xdata()).tolist() for line in axes.lines if line.get_marker() == "None"]


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
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "100", "10,000"]
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


def test_interval_dots_mark_the_best_value_of_each_measure():
    accuracy, error = figure_of("interval_dots").axes
    assert (accuracy.get_title(), error.get_title()) == ("accuracy [%]", "error rate [%]")
    assert (accuracy.get_xlabel(), error.get_xlabel()) == ("higher is better →", "← lower is better")
    assert intervals_of(accuracy) == [[69, 71], [74, 76], [75, 75]]  # the last is the line
    assert intervals_of(error) == [[29, 31.5], [25, 27], [26, 26]]
    dots = [np.asarray(line.get_xydata()).tolist() for line in error.lines if line.get_marker() == "o"]
    assert dots == [[[30, 0]], [[26, 1]]]
    names = [text.get_text() for text in accuracy.get_yticklabels()]
    assert names == ["one", "a model with a name of\nsome length"]
    top, bottom = accuracy.get_ylim()
    assert top > bottom  # the first model is above


@pytest.mark.parametrize("number", [1, 20])
def test_the_names_of_models_do_not_overlap(number):
    values = {f"a model with a name of some length, {index}": {"accuracy": (0.5, 0.4, 0.6)} for index in range(number)}
    (axes,) = figure_of("interval_dots", values, higher_is_better={"accuracy": True}).axes
    boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
    assert len(boxes) == number
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_spectrogram_is_an_image_of_seconds_and_kilohertz():
    frames = RANDOM.normal(size=(120, 6))
    above, below = figure_of("spectrogram", frames, step=0.01, centres=FREQUENCIES, tracks=TRACKS).axes
    (image,) = above.images
    np.testing.assert_array_equal(image.get_array(), frames.T)
    assert image.origin == "lower"
    assert image.get_extent() == pytest.approx([0, 1.2, -0.5, 5.5])
    ticks = {text.get_text(): place for text, place in zip(above.get_yticklabels(), above.get_yticks(), strict=True)}
    # 500 Hz lies two thirds of the way from the centre of band 1 to that of band 2.
    assert ticks == pytest.approx(
        {"0.25": 13 / 18, "0.5": 5 / 3, "1": 2 + 4 / 9, "2": 3 + 1 / 3, "4": 4 + 1 / 3},
    )
    assert above.get_ylabel() == "frequency [kHz]"
    assert below.get_xlabel() == "time [s]"
    assert below.get_xlim() == above.get_xlim()


def test_wrong_segments_are_dark_and_their_labels_bold():
    figure = figure_of("spectrogram")
    axes = figure.axes[1]
    assert legend_of(figure) == ["wrong"]
    boxes = [patch.get_bbox() for patch in axes.patches]
    spans = [(start, end) for segments in TRACKS.values() for start, end, _, _ in segments]
    np.testing.assert_allclose([(box.x0, box.x1) for box in boxes], spans)
    brightness = np.array([np.dot(patch.get_facecolor()[:3], (0.3, 0.59, 0.11)) for patch in axes.patches])
    right = np.array([right for segments in TRACKS.values() for *_, right in segments])
    assert brightness[right].min() > 0.85
    assert brightness[~right].max() < 0.5
    assert [(text.get_text(), text.get_weight()) for text in axes.texts] == [
        ("sil", "normal"),
        ("b", "normal"),
        ("iy", "normal"),
        ("sil", "normal"),
        ("d", "bold"),
        ("ih", "bold"),
    ]


def test_no_legend_where_nothing_is_wrong():
    options = {"step": 0.01, "centres": FREQUENCIES, "tracks": {"true": TRACKS["true"]}}
    assert legend_of(figure_of("spectrogram", RANDOM.normal(size=(120, 6)), **options)) == []


def random_track(seed: int, frames: int, segments: int) -> list[tuple[float, float, str, bool]]:
    random = np.random.default_rng(seed)
    cuts = [0, *np.sort(random.choice(np.arange(1, frames), segments - 1, replace=False)), frames]
    labels = random.choice(["sil", "w", "iy", "ch", "ih", "uh"], segments)
    return [
        (start * 0.01, end * 0.01, str(label), bool(random.random() < 0.7))
        for (start, end), label in zip(itertools.pairwise(cuts), labels, strict=True)
    ]


@pytest.mark.parametrize(("frames", "segments"), [(1, 1), (300, 40), (450, 60), (600, 60), (100, 100)])
def test_labels_of_segments_do_not_overlap_and_fit_their_boxes(frames, segments):
    tracks = {f"model {seed}": random_track(seed, frames, segments) for seed in range(2)}
    energy = np.random.default_rng(1).normal(size=(frames, 6))
    figure = figure_of("spectrogram", energy, step=0.01, centres=FREQUENCIES, tracks=tracks)
    figure.set_dpi(400)  # where the widths of letters are hardly rounded
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[1]
    assert len(axes.texts) > (1.7 if segments <= 60 else 1) * segments  # of two tracks
    boxes = [text.get_window_extent() for text in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-0.3).overlaps(other.padded(-0.3))
    outlines = [patch.get_window_extent() for patch in axes.patches]
    for box in boxes:
        for outline in outlines:
            if outline.y0 < (box.y0 + box.y1) / 2 < outline.y1 and box.overlaps(outline):
                assert outline.x0 < box.x0 < box.x1 < outline.x1
        assert box.x0 > axes.bbox.x0 - 6  # about a point
        assert box.x1 < axes.bbox.x1 + 6


def test_confusion_rows_are_shared_out_and_a_row_without_samples_is_masked():
    figure = figure_of("confusion_matrix")
    axes, scale = figure.axes
    (image,) = axes.images
    shares = image.get_array()
    np.testing.assert_allclose(shares[[0, 2]], [[80, 10, 10], [25, 0, 75]])
    assert shares.mask[1].all()
    red, green, blue, _ = image.cmap(shares)[1, 0]
    assert red == pytest.approx(green, abs=0.05) == pytest.approx(blue, abs=0.05)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("found", "true")
    assert image.get_clim() == (0, 100)
    assert [text.get_text() for text in scale.texts] == ["share of the true class [%]; grey: no sample"]
    assert axes.get_ylim() == (2.5, -0.5)  # the first class is above


def test_a_rare_confusion_is_visible():
    figure = figure_of("confusion_matrix", [[99, 1], [0, 100]], ["a", "b"], groups={"all": 2})
    (image,) = figure.axes[0].images
    none, rare = (np.dot(image.cmap(image.norm(share))[:3], (0.3, 0.59, 0.11)) for share in (0, 1))
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
    assert [text.get_text() for text in with_groups] == ["all"]


@pytest.mark.parametrize("number", [1, 2, 39, 61])
def test_names_at_a_confusion_matrix_do_not_overlap(number):
    names = [f"c{index}" for index in range(number)]
    groups = {f"the group of index {index}": 1 for index in range(min(number - 1, 3))}
    groups["those that remain together"] = number - len(groups)
    axes = figure_of("confusion_matrix", np.eye(number), names, groups=groups).axes[0]
    for texts in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts):
        # The space around the letters of two lines may touch.
        boxes = [text.get_window_extent().padded(-1) for text in texts]
        assert len(boxes) in (number, len(groups))
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height)


def test_share_bars_keep_the_seven_greatest_features_and_fill_up_with_the_rest():
    shares = np.array([[0.02, 0.3, 0.1, 0.08, 0.2, 0.09, 0.06, 0.05, 0.1]])
    names = list("abcdefghi")
    figure = figure_of("share_bars", ["row"], shares, names, x_label="share", y_label="row")
    assert legend_of(figure) == ["b", "e", "c", "i", "f", "d", "g", "other"]
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([30, 20, 10, 10, 9, 8, 6, 7])
    written = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert written == ["30", "20", "10", "10", "9", "8"]


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


def test_budget_marks_the_chosen_point_and_budgets_that_raised_no_alert():
    figure = figure_of("budget_calibration")
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert list(lines) == ["as many as expected", "observed", "none observed", "chosen: 10 expected, 9 observed"]
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


@pytest.mark.parametrize("number", [1, 5, 10, 15])
def test_network_has_no_overlapping_texts_and_heights_follow_the_units(number):
    shapes = [(2 ** (number - index), 8) for index in range(number)]
    layers = [(f"dense_layer_with_number_{index}", shape, 10**index % 10**9) for index, shape in enumerate(shapes)]
    figure = figure_of("network", layers)
    boxes = [text.get_window_extent().padded(-0.5) for text in texts_of(figure)]
    assert len(boxes) == 3 + 3 * number
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    heights = [patch.get_height() for patch in figure.axes[0].patches if hasattr(patch, "get_height")]
    assert heights == sorted(heights, reverse=True)
    if number > 1:
        assert heights[1] / heights[0] == pytest.approx(np.sqrt(0.5))


def test_network_writes_shapes_and_parameters():
    texts = [
        text.get_text()
        for text in texts_of(figure_of("network", [("input", (None, 28, 3), 0), ("dense", (10,), 12345)]))
    ]
    assert texts == ["layer", "input", "dense", "output", "n × 28 × 3", "10", "parameters", "0", "12,345"]


def test_bars_of_nothing_but_zero_stand_on_an_axis_above_it():
    values = {"m": {"a": (0.0, 0.0, 0.0), "b": (0.0, 0.0, 0.0)}}
    assert figure_of("grouped_bars", values, x_label="class", y_label="error [%]").axes[0].get_ylim() == (0, 1)


def test_reliability_is_drawn_in_per_cent_with_the_shares_of_the_first_model():
    figure = figure_of("reliability_diagram")
    axes, histogram = figure.axes
    assert legend_of(figure) == ["as often right as sure", "a network", "RBF-SVM"]
    diagonal, *lines = (np.asarray(line.get_xydata()) for line in axes.lines)
    assert diagonal.tolist() == [[0, 0], [100, 100]]
    np.testing.assert_allclose(lines[0], [[55, 60], [97, 90]])
    np.testing.assert_allclose(lines[1], [[97, 90]])
    assert [bar.get_height() for bar in histogram.patches] == [25, 75]
    assert [bar.get_x() for bar in histogram.patches] == pytest.approx([40, 80])
    assert [bar.get_width() for bar in histogram.patches] == pytest.approx([20, 20])
    assert histogram.get_xlabel() == "confidence of the a network [%]"
    assert axes.get_xlim() == axes.get_ylim() == (49, 101)
    high = [BINS[0] | {"confidence": 0.91, "accuracy": 0.93}, BINS[1]]
    assert figure_of("reliability_diagram", {"m": high}).axes[0].get_xlim() == (80 - 0.4, 100.4)
    assert figure_of("reliability_diagram", {"m": [BINS[0] | {"accuracy": 0.0}]}).axes[0].get_xlim() == (-2, 102)


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


@pytest.mark.parametrize("name", ["series", "learning_curves"])
def test_levels_are_lines_with_their_names_apart_beside_them(name):
    levels = {"xz": 1.74, "zstd": 1.77, "5-gram": 1.71, "PPMd": 1.42, "unigram": 4.6}
    values = [4.5, 3.0, 1.9, 1.8]
    if name == "series":
        panels = {"bits": {"training": list(enumerate(values))}, "accuracy": {"training": [(1, 0.5)]}}
        figure = figure_of(name, panels, x_label="step", levels={"bits": levels})
        axes, other = figure.axes
        assert not other.texts
    else:
        figure = figure_of(name, {"seed 0": {"training": values}}, y_label="bits", levels=levels)
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


def pixels_of(svg: bytes) -> list[np.ndarray]:
    """The pictures that an SVG holds, as pixels."""
    found = re.findall(rb"data:image/png;base64,\s*([^\"]+)", svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB")) for code in found]


def test_pictures_keep_their_own_pixels():
    grey = RANDOM.integers(0, 256, (3, 8, 6, 1), dtype=np.uint8)
    color = RANDOM.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    for images in (grey, color):
        svg = figures.pictures(images, [""] * 3, columns=2)
        expected = np.broadcast_to(images, (3, 8, 6, 3))
        np.testing.assert_array_equal(pixels_of(svg), expected)
        np.testing.assert_array_equal(pixels_of(figures.pictures(images / 255, [""] * 3, columns=2)), expected)
        assert svg.count(b"image-rendering:pixelated") == 3 or svg.count(b"image-rendering:crisp-edges") == 3


def test_many_pictures_make_a_small_file():
    # Noise, which no file format makes smaller: six bytes a pixel.
    assert len(figures.pictures(RANDOM.random((100, 28, 28, 1)), [""] * 100, columns=20)) < 6 * 100 * 28 * 28


def test_pictures_stand_in_rows_with_their_captions_below():
    figure = figure_of("pictures")
    (axes,) = figure.axes
    pairs = [np.array(image.get_extent()) for image in axes.images[:10]]  # the last one is the scale
    assert len(axes.images) == 11
    for picture, overlay in zip(pairs[::2], pairs[1::2], strict=True):
        assert picture[1] <= overlay[0] < picture[1] + 2  # beside one another
        assert picture[2:].tolist() == overlay[2:].tolist()
        assert (picture[3] - picture[2]) / (overlay[1] - overlay[0]) == pytest.approx(8 / 6)
    first, second = pairs[0], pairs[6]
    assert pairs[4][3] == first[3]  # the third is in the first row
    assert second[3] < first[2]  # the fourth below it
    texts = {text.get_text(): text for text in axes.texts}
    assert texts["7 → 9, 0.98"].get_position()[1] < first[2]
    assert texts["7 → 9, 0.98"].get_weight() == "bold"
    assert texts["4 → 4, 1.00"].get_weight() == "normal"
    assert texts["wrong"].get_position()[1] == pytest.approx(first[2:].mean())
    boxes = [text.get_window_extent().padded(-0.5) for text in axes.texts if text.get_text()]
    assert len(boxes) == 8  # captions, names and the ends of the scale
    boxes += [image.get_window_extent().padded(-0.5) for image in axes.images]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_an_overlay_is_bright_where_it_is_high():
    overlay = np.zeros((1, 4, 4))
    overlay[0, 1, 2] = 1
    picture, heat, _ = pixels_of(figures.pictures(np.full((1, 4, 4, 1), 0.5), ["a"], columns=1, overlays=overlay))
    assert (picture == 128).all()
    brightness = heat @ (0.3, 0.59, 0.11)
    assert np.unravel_index(brightness.argmax(), (4, 4)) == (1, 2)
    assert brightness.max() > np.sort(brightness.ravel())[-2] + 80


def test_signed_pictures_are_white_at_zero_and_as_deep_on_either_side():
    weights = np.array([0.0, -2.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
    picture, _ = pixels_of(figures.pictures(weights, [""], columns=1, signed=True))
    zero, low, high, half = picture.reshape(4, 3).astype(int)
    assert zero.min() > 235
    assert low[2] > low[0] + 50  # blue
    assert high[0] > high[2] + 50  # red
    assert half.sum() > high.sum() + 50
    figure = figure_of("pictures", weights, [""], columns=1, signed=True)
    assert {text.get_text() for text in figure.axes[0].texts} == {"", "−2", "2"}
    colors = np.array([0.0, -2.0, 2.0] * 4).reshape(1, 2, 2, 3)
    (picture,) = pixels_of(figures.pictures(colors, [""], columns=1, signed=True))
    assert picture[0, 0].tolist() == [128, 0, 255]
    nothing, _ = pixels_of(figures.pictures(np.zeros((1, 2, 2, 1)), [""], columns=1, signed=True))
    assert nothing.min() > 235


def test_surprise_colours_each_character_and_draws_it_in_its_cell():
    tokens = [("def", 6.0), ("\n", 0.0), ("x", 1.0), ("fi", 16.0), ("\t", 2.0), ("e\u0301⚡א", 0.0)]
    svg = figures.surprise({"one": tokens}, columns=5)
    cells, scale = pixels_of(svg)
    assert cells.shape == (3, 5, 3)
    brightness = cells.reshape(15, 3) @ (0.3, 0.59, 0.11)
    # The mark shares a cell with its letter; the wide sign takes two, and so begins in the next line.
    bits = np.array([2, 2, 2, 0, 1, 8, 8, 2, 0, 0, 0, 0])
    filled = np.r_[:9, 10:13]
    assert (np.delete(brightness, filled) == 255).all()
    assert len({(cost, tuple(cell)) for cost, cell in zip(bits, cells.reshape(15, 3)[filled], strict=True)}) == 4
    darkness = -brightness[filled]
    assert (np.diff(darkness[np.argsort(bits)]) >= 0).all()
    assert brightness.min() > 110  # black letters stay readable
    assert (np.diff(scale[0] @ (0.3, 0.59, 0.11)) < 1).all()
    figure = figure_of("surprise", {"one": tokens}, columns=5)
    title, *others, low, high = [text.get_text() for text in figure.axes[0].texts]
    assert (title, low, high) == ("one", "0", "8 bits a character")
    assert others == ["e\u0301", "⚡", "א", "def↵x", "fi⇥", ""]


def test_letters_of_a_line_stand_in_its_cells():
    text = "office fluffy WAVE ...... iiiiii A" * 2
    figure = figure_of("surprise", {"one": [(letter, 1.0) for letter in text]}, columns=100)
    figure.set_dpi(800)  # where the widths of letters are hardly rounded
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    (line,) = [drawn for drawn in axes.texts if drawn.get_text() == text]
    box, (cells, _) = line.get_window_extent(), [image.get_window_extent() for image in axes.images]
    assert box.x1 - box.x0 == pytest.approx(cells.width * len(text) / 100, rel=0.01)
    assert cells.y0 < box.y0 < box.y1 < cells.y1 + 1


def test_three_passages_make_a_small_file():
    random = np.random.default_rng(0)
    letters = [chr(code) for code in random.integers(32, 127, 1800)]
    tokens = list(zip(letters, random.exponential(2, 1800), strict=True))
    svg = figures.surprise({str(part): tokens[600 * part : 600 * part + 600] for part in range(3)})
    assert len(svg) < 300_000


@pytest.mark.parametrize("time", [6, 60])
def test_attention_shows_each_head_and_what_is_not_seen(time):
    shares = np.tril(np.random.default_rng(1).random((2, 3, time, time))) + 1e-3 * np.eye(time)
    shares /= shares.sum(axis=-1, keepdims=True)
    shares[1, 2] = np.eye(time)
    letters = [chr(97 + index % 26) for index in range(time - 1)] + ["\n"]
    _, *panels = pixels_of(figures.attention(list(shares), letters))
    assert [panel.shape for panel in panels] == [(time, time, 3)] * 6
    future = np.triu(np.ones((time, time), bool), 1)
    for panel, of_head in zip(panels, shares.reshape(6, time, time), strict=True):
        assert {tuple(pixel) for pixel in panel[future]} == {(225, 225, 225)}
        dark = -(panel[~future] @ (0.3, 0.59, 0.11))[np.argsort(of_head[~future])]
        assert (np.diff(dark) > -1).all()
        assert dark[-1] - dark[0] > 20
    figure = figure_of("attention", list(shares), letters)
    background, *axes = figure.axes
    assert [one.get_title() for one in axes] == ["head 1", "head 2", "head 3", "", "", ""]
    texts = [text.get_text() for text in background.texts]
    assert texts[:2] == ["layer 1", "layer 2"]
    labels = [text.get_text() for text in axes[3].get_yticklabels()]
    if time == 6:
        assert labels == [text.get_text() for text in axes[5].get_xticklabels()] == [*"abcde", "↵"]
        assert len(texts) == 4
    else:
        assert labels == ["20", "40", "60"]
        assert texts[2] == "".join(letters[:-1]) + "↵"
    assert not any(text.get_text() for text in axes[1].get_yticklabels() + axes[0].get_xticklabels())
    boxes = [text.get_window_extent().padded(-0.5) for text in background.texts]
    for one in axes:
        labels = [*one.get_xticklabels(), *one.get_yticklabels(), one.title]
        boxes += [text.get_window_extent().padded(-0.5) for text in labels if text.get_text()]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_attention_that_looks_ahead_is_not_grey():
    _, panel = pixels_of(figures.attention([np.full((1, 4, 4), 0.25)], list("abcd")))
    assert len({tuple(pixel) for pixel in panel.reshape(-1, 3)}) == 1


@pytest.mark.parametrize(("layers", "heads", "written"), [(2, 3, True), (1, 9, False)])
def test_cross_attention_has_a_row_for_each_token_and_a_column_for_each_source(layers, heads, written):
    shares = np.random.default_rng(2).dirichlet(np.ones(10), (layers, heads, 4))
    phones, letters = ["N", "AY", "T", "end"], list("knighthood")
    _, *panels = pixels_of(figures.attention(list(shares), phones, letters))
    assert [panel.shape for panel in panels] == [(4, 10, 3)] * layers * heads
    for panel, of_head in zip(panels, shares.reshape(-1, 4, 10), strict=True):
        dark = -(panel.reshape(-1, 3) @ (0.3, 0.59, 0.11))[np.argsort(of_head, axis=None)]
        assert (np.diff(dark) > -1).all()
        assert dark[-1] - dark[0] > 20
    figure = figure_of("attention", list(shares), phones, letters)
    background, *axes = figure.axes
    texts = [text.get_text() for text in background.texts]
    rows, columns = axes[-heads].get_yticklabels(), axes[-1].get_xticklabels()
    names = [[text.get_text() for text in labels] for labels in (rows, columns)]
    assert names == ([phones, letters] if written else [["2", "4"], ["5", "10"]])
    below = [] if written else ["columns: k n i g h t h o o d", "rows: N AY T end"]
    assert texts[layers:] == [*below, "0", "1: share of what a token looks at"]
    for labels in (rows, columns):
        boxes = [text.get_window_extent() for text in labels]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    box = axes[0].bbox
    assert box.width / box.height == pytest.approx(10 / 4)
    assert background.bbox.y0 < min(text.get_window_extent().y0 for text in background.texts)
    assert max(text.get_window_extent().y1 for text in background.texts[layers:]) < columns[0].get_window_extent().y0


NAN = np.full(2000, np.nan)
ONE = np.zeros((1, 2, 2, 1))
ONES = {"class_names": ("a", "b"), "axis_names": ("x", "y")}
SHARES = {"x_label": "share", "y_label": "row"}
CURVE = {"x_label": "x", "y_label": "y"}
HIGH = {"higher_is_better": {"a": True}}
SOUND = {"step": 0.01, "centres": [100, 200], "tracks": {"t": [(0, 0.01, "a", True)]}}
MEASURES = {"validation": {"recall": [0.1, 0.2]}, "test": {"recall": [0.1, 0.2]}, "chosen": 0, "unit": "day"}


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("roc_curves", ([], {"m": []}), {"emphasis": "m"}, "labels"),
        ("roc_curves", (np.zeros(2000), SCORES), {"emphasis": "autoencoder"}, "both classes"),
        ("roc_curves", (LABELS, {"m": NAN}), {"emphasis": "m"}, "scores of m: some values are not finite"),
        ("roc_curves", (LABELS, SCORES), {"emphasis": "unknown"}, "'unknown'"),
        ("precision_recall_curves", (LABELS, {"m": [1.0]}), {"emphasis": "m"}, "labels 2000, scores 1"),
        ("score_histogram", ([], [], 1), {"class_names": ("a",), "score_name": "s"}, "scores"),
        ("score_histogram", ([1], [1], 1), {"class_names": ("a",), "score_name": "s"}, "class names"),
        ("score_histogram", ([1], [0], np.nan), {"class_names": ("a",), "score_name": "s"}, "threshold"),
        ("grouped_bars", ({},), SHARES, "no model"),
        ("grouped_bars", ({"m": {}},), SHARES, "values of m"),
        ("grouped_bars", ({"m": {"a": (np.nan, 0, 1)}},), SHARES, "not finite"),
        ("grouped_bars", ({"m": {"a": (0.5, 0.6, 0.4)}},), SHARES, "below its beginning"),
        ("grouped_bars", ({"m": {"a": (0, 0, 0)}, "k": {"b": (0, 0, 0)}},), SHARES, "k: groups"),
        ("grouped_bars", ({"m": {"a": (0, 0, 0)}},), SHARES | {"counts": {"b": 1}}, "counts: groups ['b']"),
        ("grouped_bars", ({"m": {"a": (0, 0, 0)}},), SHARES | {"counts": {"a": np.nan}}, "counts: some values"),
        ("interval_curves", ({},), CURVE, "none"),
        ("interval_curves", ({"m": []},), CURVE, "m: expected"),
        ("interval_curves", ({"m": [(1, 0.5, np.nan, 1)]},), CURVE, "m: some values are not finite"),
        ("interval_curves", ({"m": [(1, 0.5, 0.6, 0.4)]},), CURVE, "m: an interval ends below"),
        ("interval_curves", ({"m": [(-1, 0.5, 0.4, 0.6)]},), CURVE | {"logarithmic": True}, "place -1"),
        ("interval_dots", ({},), HIGH, "no model"),
        ("interval_dots", ({"m": {}},), {"higher_is_better": {}}, "no measure"),
        ("interval_dots", ({"m": {"b": (0, 0, 0)}},), HIGH, "m: measures ['b'] instead of ['a']"),
        ("interval_dots", ({"m": {"a": (0, 1, 0)}},), HIGH, "a: an interval ends below"),
        ("interval_dots", ({"m": {"a": (0, 0, np.inf)}},), HIGH, "a: some values are not finite"),
        ("spectrogram", (np.zeros((0, 2)),), SOUND, "frames"),
        ("spectrogram", ([[0, np.nan]],), SOUND, "frames: some values are not finite"),
        ("spectrogram", ([[0, 0, 0]],), SOUND, "bands 3, centres 2"),
        ("spectrogram", ([[0, 0]],), SOUND | {"centres": [200, 200]}, "do not ascend"),
        ("spectrogram", ([[0, 0]],), SOUND | {"tracks": {}}, "tracks: none"),
        ("spectrogram", ([[0, 0]],), SOUND | {"step": 0}, "step: 0"),
        ("spectrogram", ([[0, 0]],), SOUND | {"step": 0.005}, "t: 'a', 0 to 0.01 s"),
        ("spectrogram", ([[0, 0]],), SOUND | {"tracks": {"t": [(0.01, 0, "a", True)]}}, "t: 'a', 0.01 to 0 s"),
        (
            "spectrogram",
            ([[0, 0], [0, 0]],),
            SOUND | {"tracks": {"t": [(0, 0.02, "a", True), (0.01, 0.02, "b", True)]}},
            "t: 'b', 0.01 to 0.02 s, isn't within 0.02 to 0.02",
        ),
        ("confusion_matrix", (np.zeros((0, 0)), []), {"groups": {}}, "counts"),
        ("confusion_matrix", (np.zeros((2, 3)), ["a", "b"]), {"groups": {"g": 2}}, "rows 2, columns 3"),
        ("confusion_matrix", (np.eye(2), ["a"]), {"groups": {"g": 2}}, "names 1"),
        ("confusion_matrix", (-np.eye(2), ["a", "b"]), {"groups": {"g": 2}}, "negative"),
        ("confusion_matrix", (np.eye(2), ["a", "b"]), {"groups": {"g": 1}}, "{'g': 1} for 2 classes"),
        ("confusion_matrix", (np.eye(2), ["a", "b"]), {"groups": {"g": 2, "h": 0}}, "'h': 0"),
        ("share_bars", ([], np.zeros((0, 2)), ["a", "b"]), SHARES, "shares"),
        ("share_bars", (["r"], [[0.5, 0.5]], ["a"]), SHARES, "names 1, features 2"),
        ("share_bars", (["r", "s"], [[0.5, 0.5]], ["a", "b"]), SHARES, "rows 2, shares 1"),
        ("share_bars", (["r"], [[1.5, -0.5]], ["a", "b"]), SHARES, "negative"),
        ("scatter", (np.zeros((0, 2)), []), ONES, "points"),
        ("scatter", ([[0, 0, 0]], [0]), ONES, "two columns"),
        ("scatter", ([[0, np.inf]], [0]), ONES, "not finite"),
        ("scatter", ([[0, 0]], [2]), ONES, "class names"),
        ("scatter", ([[0, 0]], [0, 1]), ONES, "points 1, labels 2"),
        ("budget_calibration", ([0, 1], [1, 1]), MEASURES, "above 0"),
        ("budget_calibration", ([1, 2], [1]), MEASURES, "expected 2, observed 1"),
        ("budget_calibration", ([1, 2], [1, 1]), MEASURES | {"test": {"precision": [1, 1]}}, "measures differ"),
        ("budget_calibration", ([1, 2], [1, 1]), MEASURES | {"test": {"recall": [1]}}, "test 1"),
        ("learning_curves", ({},), {"y_label": "loss"}, "no series"),
        ("learning_curves", ({"run": {"training": []}},), {"y_label": "loss"}, "training of run"),
        ("learning_curves", ({"run": {"training": [np.nan]}},), {"y_label": "loss"}, "training of run"),
        ("confusion_matrix", (np.eye(2), ["a"]), {}, "names 1"),
        ("reliability_diagram", ({},), {}, "none"),
        ("reliability_diagram", ({"m": []},), {}, "bins of m"),
        ("reliability_diagram", ({"m": [BINS[0] | {"accuracy": np.nan}]},), {}, "bins of m: some values are not"),
        ("series", ({},), {"x_label": "x"}, "no series"),
        ("series", ({"q": {}},), {"x_label": "x"}, "no series"),
        ("series", ({"q": {"a": []}},), {"x_label": "x"}, "a of q"),
        ("series", ({"q": {"a": [(1, np.nan)]}},), {"x_label": "x"}, "a of q: some values are not finite"),
        ("pictures", (np.zeros((0, 2, 2, 1)), []), {"columns": 1}, "images"),
        ("pictures", (np.zeros((1, 2, 2)), ["a"]), {"columns": 1}, "(1, 2, 2)"),
        ("pictures", (np.zeros((1, 2, 2, 2)), ["a"]), {"columns": 1}, "(1, 2, 2, 2)"),
        ("pictures", (np.full((1, 2, 2, 1), 2.0), ["a"]), {"columns": 1}, "2 to 2 instead of 0 to 1"),
        ("pictures", (np.full((1, 2, 2, 1), np.nan), ["a"]), {"columns": 1}, "not finite"),
        ("pictures", (ONE, []), {"columns": 1}, "captions 0"),
        ("pictures", (ONE, ["a"]), {"columns": 0}, "columns: 0"),
        ("pictures", (ONE, ["a"]), {"columns": 1, "marks": []}, "marks 0"),
        ("pictures", (ONE, ["a"]), {"columns": 1, "row_names": ["a", "b"]}, "2 for 1 rows"),
        ("pictures", (ONE, ["a"]), {"columns": 1, "overlays": np.zeros((1, 3, 2))}, "overlays: (1, 3, 2)"),
        ("pictures", (ONE, ["a"]), {"columns": 1, "overlays": np.full((1, 2, 2), 2.0)}, "2 to 2"),
        ("series", ({"q": {"a": [(1, 1)]}},), {"x_label": "x", "levels": {"r": {"b": 1.0}}}, "levels: of ['r']"),
        ("series", ({"q": {"a": [(1, 1)]}},), {"x_label": "x", "levels": {"q": {"b": np.nan}}}, "levels: some values"),
        ("surprise", ({},), {}, "passages: 0"),
        ("surprise", ({"p": [("a", 1.0)]},), {"columns": 0}, "in 0 columns"),
        ("surprise", ({"p": []},), {}, "bits of p"),
        ("surprise", ({"p": [("", 1.0)]},), {}, "there is no text"),
        ("surprise", ({"p": [("a", -1.0)]},), {}, "negative"),
        ("surprise", ({"p": [("a", np.inf)]},), {}, "not finite"),
        ("attention", ([], ["a"]), {}, "maps: none"),
        ("attention", ([np.ones((2, 1, 1)), np.ones((1, 1, 1))], ["a"]), {}, "maps of layer 2: (1, 1, 1)"),
        ("attention", ([np.ones((1, 1, 1))], ["a", "b"]), {}, "expected shares of (1, 2, 2)"),
        ("attention", ([np.ones((1, 1, 1))], ["a"], ["b", "c"]), {}, "expected shares of (1, 1, 2)"),
        ("attention", ([np.full((1, 1, 1), 2.0)], ["a"]), {}, "2 to 2"),
        ("attention", ([np.full((1, 1, 1), np.nan)], ["a"]), {}, "not finite"),
        ("network", ([],), {}, "none"),
        ("network", ([("dense", (-1,), 0)],), {}, "not positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name, arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(figures, name)(*arguments, **options)

"""What holds for every figure."""

import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from reports import figures
from tests.reports.figures.drawing import CALLS, figure_of, texts_of

HALF = {"roc_curves", "precision_recall_curves", "score_histogram", "scatter", "interval_curves"}
NO_AXES = {"network", "interval_dots", "spectrogram", "confusion_matrix", "pictures", "surprise", "attention"}


def test_every_figure_has_an_example():
    assert sorted(CALLS) == sorted(figures.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_figure_is_svg_of_the_width_of_the_page_and_the_same_each_time(name):
    arguments, options = CALLS[name]
    svg = getattr(figures, name)(*arguments, **options)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    width = 8.3 if name in HALF else 17
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(width / 2.54 * 72, abs=0.01)
    assert b"<text" not in svg  # letters are paths: no font is needed to show them
    assert b"<dc:date>" not in svg
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        assert getattr(figures, name)(*arguments, **options) == svg
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", CALLS)
def test_axes_are_labelled_and_no_text_is_cut(name):
    figure = figure_of(name)
    assert name in NO_AXES or all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    width, height = figure.bbox.size
    for text in texts_of(figure):
        box = text.get_window_extent()
        assert -1 < box.x0 < box.x1 < width + 1, text
        assert -1 < box.y0 < box.y1 < height + 1, text

import numpy as np
import pytest

from tests.reports.figures.drawing import assert_apart, boxes_of, figure_of, strings, texts_of


@pytest.mark.parametrize("number", [1, 5, 10, 15])
def test_network_has_no_overlapping_texts_and_heights_follow_the_units(number):
    shapes = [(2 ** (number - index), 8) for index in range(number)]
    layers = [(f"dense_layer_with_number_{index}", shape, 10**index % 10**9) for index, shape in enumerate(shapes)]
    figure = figure_of("network", layers)
    boxes = boxes_of(texts_of(figure), -0.5)
    assert len(boxes) == 3 + 3 * number
    assert_apart(boxes)
    heights = [patch.get_height() for patch in figure.axes[0].patches if hasattr(patch, "get_height")]
    assert heights == sorted(heights, reverse=True)
    if number > 1:
        assert heights[1] / heights[0] == pytest.approx(np.sqrt(0.5))


def test_network_writes_shapes_and_parameters():
    texts = strings(texts_of(figure_of("network", [("input", (None, 28, 3), 0), ("dense", (10,), 12345)])))
    assert texts == ["layer", "input", "dense", "output", "n × 28 × 3", "10", "parameters", "0", "12,345"]

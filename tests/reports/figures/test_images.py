import numpy as np
import pytest

from reports import figures
from tests.reports.figures.drawing import RANDOM, assert_apart, boxes_of, brightness_of, figure_of, pixels_of


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
    assert texts["4 → 4, 1"].get_weight() == "normal"
    assert texts["wrong"].get_position()[1] == pytest.approx(first[2:].mean())
    boxes = boxes_of(axes.texts, -0.5)
    assert len(boxes) == 8  # captions, names and the ends of the scale
    boxes += boxes_of(axes.images, -0.5)
    assert_apart(boxes)


def test_an_overlay_is_bright_where_it_is_high():
    overlay = np.zeros((1, 4, 4))
    overlay[0, 1, 2] = 1
    picture, heat, _ = pixels_of(figures.pictures(np.full((1, 4, 4, 1), 0.5), ["a"], columns=1, overlays=overlay))
    assert (picture == 128).all()
    brightness = brightness_of(heat)
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

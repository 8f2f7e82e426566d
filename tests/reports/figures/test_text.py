import numpy as np
import pytest

from reports import figures
from tests.reports.figures.drawing import assert_apart, boxes_of, brightness_of, figure_of, pixels_of, strings


def test_surprise_colours_each_character_and_draws_it_in_its_cell():
    tokens = [("def", 6.0), ("\n", 0.0), ("x", 1.0), ("fi", 16.0), ("\t", 2.0), ("e\u0301⚡א", 0.0)]
    svg = figures.surprise({"one": tokens}, columns=5)
    cells, scale = pixels_of(svg)
    assert cells.shape == (3, 5, 3)
    brightness = brightness_of(cells).ravel()
    # The mark shares a cell with its letter; the wide sign takes two, and so begins in the next line.
    bits = np.array([2, 2, 2, 0, 1, 8, 8, 2, 0, 0, 0, 0])
    filled = np.r_[:9, 10:13]
    assert (np.delete(brightness, filled) == 255).all()
    assert len({(cost, tuple(cell)) for cost, cell in zip(bits, cells.reshape(15, 3)[filled], strict=True)}) == 4
    darkness = -brightness[filled]
    assert (np.diff(darkness[np.argsort(bits)]) >= 0).all()
    assert brightness.min() > 110  # black letters stay readable
    assert (np.diff(brightness_of(scale[0])) < 1).all()
    figure = figure_of("surprise", {"one": tokens}, columns=5)
    title, *others, low, high = strings(figure.axes[0].texts)
    assert (title, low, high) == ("one", "0", "8 bits per character")
    assert others == ["e\u0301", "⚡", "א", "def↵x", "fi⇥", ""]


def test_letters_of_a_line_stand_in_its_cells():
    text = "office fluffy WAVE ...... iiiiii A" * 2
    figure = figure_of("surprise", {"one": [(letter, 1.0) for letter in text]}, columns=100, dpi=800)
    (axes,) = figure.axes
    (line,) = [drawn for drawn in axes.texts if drawn.get_text() == text]
    box, (cells, _) = line.get_window_extent(), boxes_of(axes.images)
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
        dark = -brightness_of(panel[~future])[np.argsort(of_head[~future])]
        assert (np.diff(dark) > -1).all()
        assert dark[-1] - dark[0] > 20
    figure = figure_of("attention", list(shares), letters)
    background, *axes = figure.axes
    assert [one.get_title() for one in axes] == ["head 1", "head 2", "head 3", "", "", ""]
    texts = strings(background.texts)
    assert texts[:2] == ["layer 1", "layer 2"]
    labels = strings(axes[3].get_yticklabels())
    if time == 6:
        assert labels == strings(axes[5].get_xticklabels()) == [*"abcde", "↵"]
        assert len(texts) == 4
    else:
        assert labels == ["20", "40", "60"]
        assert texts[2] == "".join(letters[:-1]) + "↵"
    assert not any(text.get_text() for text in axes[1].get_yticklabels() + axes[0].get_xticklabels())
    boxes = boxes_of(background.texts, -0.5)
    for one in axes:
        labels = [*one.get_xticklabels(), *one.get_yticklabels(), one.title]
        boxes += boxes_of(labels, -0.5)
    assert_apart(boxes)


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
        dark = -brightness_of(panel).ravel()[np.argsort(of_head, axis=None)]
        assert (np.diff(dark) > -1).all()
        assert dark[-1] - dark[0] > 20
    figure = figure_of("attention", list(shares), phones, letters)
    background, *axes = figure.axes
    texts = strings(background.texts)
    rows, columns = axes[-heads].get_yticklabels(), axes[-1].get_xticklabels()
    names = [strings(labels) for labels in (rows, columns)]
    assert names == ([phones, letters] if written else [["2", "4"], ["5", "10"]])
    below = [] if written else ["columns: k n i g h t h o o d", "rows: N AY T end"]
    assert texts[layers:] == [*below, "0", "1: attention weight"]
    for labels in (rows, columns):
        assert_apart(boxes_of(labels))
    box = axes[0].bbox
    assert box.width / box.height == pytest.approx(10 / 4)
    assert background.bbox.y0 < min(box.y0 for box in boxes_of(background.texts))
    assert max(box.y1 for box in boxes_of(background.texts[layers:])) < columns[0].get_window_extent().y0

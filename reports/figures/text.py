"""Figures of a text: the surprise of each character, and the attention of each head."""

import functools
import itertools
import math
import unicodedata
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from reports.characters import code_point, shown
from reports.figures import look

_VISIBLE = {"\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": " "}
_ZWJ = "\u200d"  # joins its neighbours, as in emoji of several people
_JOINERS = f"{_ZWJ}\ufe0e\ufe0f"


def _is_joined(before: str, character: str) -> bool:
    """Whether a character combines with the one before it: marks, and vowels and finals of Korean syllables."""
    joins = unicodedata.category(character)[0] == "M" or character in _JOINERS or "\u1160" <= character <= "\u11ff"
    return joins or before == _ZWJ


def _visible(text: str) -> str:
    """A text with visible control characters, to be drawn as a label."""
    text = "".join(_VISIBLE.get(c, code_point(c) if unicodedata.category(c) == "Cf" else c) for c in text)
    # A single mark needs a circle; other fonts draw one themselves if they have it.
    own = text and get_font(findfont(look.SANS)).get_char_index(ord(text[0]))
    return f"◌{text}" if own and unicodedata.category(text[0])[0] == "M" else text


@functools.partial(look.svg, naming=False)  # there is no space for code points
def surprise(passages: Mapping[str, Sequence[tuple[str, float]]], *, columns: int = 100) -> Figure:
    """Draw passages of text in monospaced characters, with backgrounds that are darker for higher surprise.

    A line break is drawn as ↵, a tab as ⇥. Wide characters, such as Chinese ones, take two columns, and marks combine
    with the character before them. A character that no font has is drawn as the digits of its code point. The bits of a
    token are distributed evenly over its characters.

    Args:
        passages: by title, the tokens of each passage: their text and bits.
        columns: characters in a line.

    Returns:
        The figure as SVG, a full line wide. All passages have the same colour scale, which clips the highest 1 %.
    """
    letters: dict[str, list[str]] = {}
    costs: dict[str, np.ndarray] = {}
    for title, tokens in passages.items():
        bits, sizes = np.array([cost for _, cost in tokens], float), [len(text) for text, _ in tokens]
        text = "".join(text for text, _ in tokens)
        starts = [place for place in range(len(text)) if not place or not _is_joined(text[place - 1], text[place])]
        letters[title] = [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]
        costs[title] = np.add.reduceat(np.repeat(bits / np.maximum(sizes, 1), sizes), starts)
    all_costs = np.concatenate(list(costs.values()))
    limit = max(1, math.ceil(np.quantile(all_costs, 0.99)))
    # Light enough for black letters.
    colors = matplotlib.colormaps["YlOrBr"](np.linspace(0, 0.62, 64))[:, :3]
    # All lengths below are in points.
    size = min(7.5, look.PAGE / columns / 0.60205)  # the ratio of a letter's width to the font size
    wide, tall, head, foot = 0.60205 * size, 1.3 * size, 11.0, 14.0
    places = {title: _places(of_passage, columns) for title, of_passage in letters.items()}
    height = sum((of_passage[-1][0] + 1) * tall + head + 5 for of_passage in places.values()) + foot
    figure, axes = look.in_points(height)
    top = height
    font, regular, missing = look.monospaced(size), get_font(findfont(look.MONOSPACED)), look.fonts_for(passages)[1]
    for title, of_passage in places.items():
        axes.text(0, top - head / 2, shown(title, missing), fontsize=7, va="center_baseline")
        top -= head
        rows = of_passage[-1][0] + 1
        bottom = top - rows * tall
        shades = np.round(255 * colors[np.round(63 * (costs[title] / limit).clip(0, 1)).astype(int)])
        cells = np.full((rows, columns, 3), 255, np.uint8)
        lines = [[" "] * columns for _ in range(rows)]
        for letter, shade, (row, column, span) in zip(letters[title], shades, of_passage, strict=True):
            cells[row, column : column + span] = shade
            sign = _VISIBLE.get(letter, letter)
            if span == 1 and len(sign) == 1 and regular.get_char_index(ord(sign)) and _is_plain(sign):
                lines[row][column] = sign
                continue
            # Drawn separately, as it has another width or direction.
            middle, base = (column + span / 2) * wide, top - row * tall
            if missing.isdisjoint(letter):
                sign = _visible(sign)
                fitting = min(size, 7 * span * wide / max(look.width_of(sign), 0.1))
                axes.text(middle, base - 0.98 * size, sign, color="black", ha="center", va="baseline", fontsize=fitting)
            else:
                digits = f"{ord(letter[0]):04X}"
                digits = f"{digits[:-2]}\n{digits[-2:]}"
                style = {"fontsize": 0.45 * size, "linespacing": 1}
                axes.text(middle, base - tall / 2, digits, color=look.INK, ha="center", va="center", **style)
        axes.imshow(cells, extent=(0, columns * wide, bottom, top), interpolation="none", aspect="auto")
        for row, line in enumerate(lines):
            base = top - row * tall - 0.98 * size
            axes.text(0, base, "".join(line).rstrip(), fontproperties=font, color="black", va="baseline")
        top = bottom - 5
    more = " and more" if all_costs.max() > limit else ""
    look.colour_scale(axes, 0, 2.5, colors, ("0", f"{limit} bits per character{more}"))
    return figure


def _is_plain(letter: str) -> bool:
    """Whether a letter can be drawn in one string with others, from left to right."""
    kind, direction = unicodedata.category(letter), unicodedata.bidirectional(letter)
    return letter == " " or (kind[0] in "LNPS" and direction not in ("R", "AL"))


def _places(letters: Sequence[str], columns: int) -> list[tuple[int, int, int]]:
    """Row, column and number of columns of each letter, line by line."""
    places, row, column = [], 0, 0
    for letter in letters:
        span = min(columns, 2 if unicodedata.east_asian_width(letter[0]) in "WF" else 1)
        if column + span > columns:
            row, column = row + 1, 0
        places.append((row, column, span))
        column += span
    return places


@look.svg
def attention(maps: Sequence[ArrayLike], tokens: Sequence[str], sources: Sequence[str] | None = None) -> Figure:
    """Draw the attention of each head of each layer, a full line wide.

    Rows of a map are queries, from the top, and columns keys. Colours follow the square root of the weight. Later
    tokens, which a causal model cannot see, are grey. If there is space, the maps are labelled with tokens; else with
    positions, and the passage is written below.

    Args:
        maps: for each layer, (heads, time, time), weights that sum to 1 in a row; with sources (heads, time, sources).
        tokens: (time,), the texts of the tokens.
        sources: (sources,), the texts of the keys in cross-attention, where nothing is grey.

    Returns:
        The figure as SVG, with a row of maps for each layer and a column for each head.
    """
    layers = [np.asarray(of_layer, float) for of_layer in maps]
    heads, time, seen = layers[0].shape
    hidden = np.zeros((time, seen), bool)
    if sources is None and not any(np.triu(shares, 1).any() for shares in layers):  # causal
        hidden = np.triu(~hidden, 1)
    rows, columns = (
        [_visible(token).replace(" ", "␣") for token in of] for of in (tokens, tokens if sources is None else sources)
    )
    # All lengths below are in points. Monospaced letters are wider than those of a legend.
    row_text, column_text = (1.1 * max(map(look.width_of, texts)) for texts in (rows, columns))
    gap, head, title = 6.0, 12.0, 14.0

    def cell(margin: float) -> float:
        """The side of a cell for which all layers take at most half a page."""
        room = (look.PAGE - title - margin - (heads - 1) * gap) / heads
        return min(min(room, 150) / seen, min(150, 360 / len(layers)) / time)

    margin = max(row_text + 6, 20)
    written = cell(margin) >= 5.5 and max(row_text, column_text) < 60
    margin = margin if written else 20.0
    side = cell(margin)
    wide, tall = side * seen, side * time
    size = min(6.5, 0.95 * side) if written else 6.0
    turned = written and column_text * size / 7 > side
    below = []
    if not written:
        passages = ["".join(rows)] if sources is None else [f"rows: {' '.join(rows)}", f"columns: {' '.join(columns)}"]
        below = [text[first : first + 110] for text in passages for first in range(0, len(text), 110)]
    left, foot = title + margin, (column_text if turned else 14) + 20 + 9 * len(below)
    height = head + len(layers) * (tall + gap) + foot
    figure, background = look.in_points(height)
    shades = matplotlib.colormaps["Blues"]
    font = look.monospaced(size) if written else FontProperties(size=size)

    def ticks(texts: list[str]) -> tuple[np.ndarray, list[str]]:
        if written:
            return np.arange(len(texts)), texts
        most = max(1, min(5, int(len(texts) * side / 9)))
        counted = MaxNLocator(most, integer=True, steps=look.STEPS).tick_values(1, len(texts))
        places = np.array([tick - 1 for tick in counted if 1 <= tick <= len(texts)], int)
        return places, [str(place + 1) for place in places]

    (row_ticks, row_names), (column_ticks, column_names) = ticks(rows), ticks(columns)
    for row, shares in enumerate(layers):
        bottom = height - head - (row + 1) * tall - row * gap
        for column in range(heads):
            place = ((left + column * (wide + gap)) / look.PAGE, bottom / height, wide / look.PAGE, tall / height)
            axes = figure.add_axes(place)
            pixels = np.round(255 * shades(np.sqrt(shares[column].clip(0, 1)))[..., :3]).astype(np.uint8)
            pixels[hidden] = 225
            axes.imshow(pixels, interpolation="none", aspect="auto")
            axes.grid(visible=False)
            axes.spines[:].set(visible=True)
            last = row == len(layers) - 1
            axes.set_xticks(column_ticks, column_names if last else [""] * len(column_names), fontproperties=font)
            axes.set_yticks(row_ticks, [""] * len(row_names) if column else row_names, fontproperties=font)
            axes.tick_params(axis="x", length=0 if written else 2, pad=2, rotation=90 if turned else 0)
            axes.tick_params(axis="y", length=0 if written else 2, pad=2)
            if row == 0:
                axes.set_title(f"head {column + 1}", fontsize=7, pad=3)
        background.text(5, bottom + tall / 2, f"layer {row + 1}", fontsize=7, rotation=90, ha="center", va="center")
    for row, line in enumerate(reversed(below)):
        background.text(left, 16 + 9 * row, line, fontproperties=look.monospaced(6.5), va="baseline")
    colors = shades(np.sqrt(np.linspace(0, 1, 64)))[:, :3]
    note = "; grey: masked" if hidden.any() else ""
    look.colour_scale(background, left, 2.5, colors, ("0", f"1: attention weight{note}"))
    return figure

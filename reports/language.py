"""Measures of language models and of generated text, for a bootstrap over blocks.

Blocks of the test text are more independent of each other than letters are. The quality of samples is measured by
counts, and the same counts of held-out real text are the reference.
"""

import codecs
import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reports.metrics import Difference, Measure, bootstrap, differences, mean, over_seeds
from reports.tagging import accuracy_by

MEASURES = ("bits_per_character", "bits_per_byte", "perplexity", "accuracy")
SAMPLE_MEASURES = (
    *("known_words", "distinct_1", "distinct_2", "distinct_3", "distinct_4"),
    *("longest_copy", "mean_copy", "balanced_brackets", "balanced_quotes"),
)
_CHUNK = 1 << 20  # bytes of training text searched at once
_SHORT = 24  # bytes; few matches of samples in a training text are longer


class Prediction:
    """A model's predictions of the tokens of blocks, whose measures can be computed for many weights.

    In all measures, `weights` (blocks,), not all 0, say how often each block counts, by default once. Bits per
    character and per byte are comparable between models with different tokens; perplexity and accuracy are not.

    Args:
        bits: (n,), -log2 of the predicted probability of each token.
        hits: (n,), whether each token was the most probable one.
        block: (n,), the block of each token, codes from 0.
        characters: (blocks,), number of characters of each block.
        size: (blocks,), number of bytes of each block in UTF-8.

    Attributes:
        block_bits: (blocks,), bits per character of each block.

    Raises:
        ValueError: Lengths differ, a block has no token or no character, or bits are not finite or negative.
    """

    def __init__(self, bits: np.ndarray, hits: np.ndarray, block: np.ndarray, characters: np.ndarray, size: np.ndarray):
        bits, hits, block = np.asarray(bits, np.float64), np.asarray(hits), np.asarray(block)
        sums = np.asarray(characters, np.float64), np.asarray(size, np.float64)
        if not (bits.shape == hits.shape == block.shape and bits.ndim == 1 and sums[0].shape == sums[1].shape):
            raise ValueError(f"{bits.shape} bits, {hits.shape} hits, {block.shape} blocks of tokens")
        if not (np.isfinite(bits) & (bits >= 0)).all():
            raise ValueError("bits: some are negative or not finite")
        blocks = len(sums[0])
        tokens = np.bincount(block, minlength=blocks) if len(block) and block.min() >= 0 else np.zeros(0)
        if not blocks or len(tokens) != blocks or not (np.stack([tokens, *sums]) > 0).all():
            raise ValueError(f"block: expected codes from 0 to {blocks - 1}, each with tokens, characters and bytes")
        right, total = np.bincount(block, hits, blocks), np.bincount(block, bits, blocks)
        self._sums = np.stack([total, right, tokens, *sums])
        self.block_bits = total / sums[0]

    def _ratio(self, numerator: int, denominator: int, weights: np.ndarray | None) -> float:
        pair = self._sums[[numerator, denominator]]
        above, below = pair.sum(axis=1) if weights is None else pair @ np.asarray(weights, np.float64)
        return float(above / below)

    def bits_per_character(self, weights: np.ndarray | None = None) -> float:
        """Bits per character of an ideal arithmetic coder with the model."""
        return self._ratio(0, 3, weights)

    def bits_per_byte(self, weights: np.ndarray | None = None) -> float:
        """Bits per byte of UTF-8."""
        return self._ratio(0, 4, weights)

    def perplexity(self, weights: np.ndarray | None = None) -> float:
        """2 to the power of the mean bits of a token."""
        return 2.0 ** self._ratio(0, 2, weights)

    def accuracy(self, weights: np.ndarray | None = None) -> float:
        """Share of the tokens that were predicted as the most probable ones."""
        return self._ratio(1, 2, weights)

    def measures(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """All measures by name."""
        return {measure: getattr(self, measure)(weights) for measure in MEASURES}


def compare(
    predictions: Mapping[str, Sequence[Prediction]], pairs: Iterable[tuple[str, str]], *, resamples: int = 500
) -> tuple[dict[str, dict[str, Measure]], list[Difference]]:
    """All measures of models and differences between models, with intervals from one bootstrap over the same blocks.

    Args:
        predictions: the trainings of each model, all on the same blocks.
        pairs: models to compare, the one expected to be better first.
        resamples: draws of the bootstrap.

    Returns:
        The measures of each model, means over its trainings, see `reports.metrics.over_seeds`; and the bits per
        character that the first model of each pair saves.

    Raises:
        ValueError: There is no model, one has no training, or they differ in their number of blocks.
    """
    pairs = list(pairs)
    numbers = {len(one.block_bits) for of_model in predictions.values() for one in of_model}
    if len(numbers) != 1 or not all(predictions.values()):
        raise ValueError(f"blocks of the models: {sorted(numbers)}, expected the same of each")

    def statistic(weights: np.ndarray) -> dict[str, Any]:
        means = {model: mean([one.measures(weights) for one in of_model]) for model, of_model in predictions.items()}
        bits = {model: of_model["bits_per_character"] for model, of_model in means.items()}
        return {"metrics": means, "differences": [bits[worse] - bits[better] for better, worse in pairs]}

    estimates = bootstrap(statistic, numbers.pop(), resamples=resamples)
    results = {
        model: over_seeds([one.measures() for one in of_model], estimates["metrics"][model])
        for model, of_model in predictions.items()
    }
    return results, differences(pairs, "bits_per_character", estimates["differences"])


def bits_by_position(
    bits: np.ndarray, position: np.ndarray, block: np.ndarray, edges: Sequence[int], *, resamples: int = 500
) -> list[tuple[float, float, float, float]]:
    """Mean bits of a token by the number of context tokens, with intervals from a bootstrap over blocks.

    Args:
        bits: (n,), of each token.
        position: (n,), number of tokens before it that the model saw.
        block: (n,), codes from 0.
        edges: the beginning of each bin, ascending from the lowest position; the last bin has no end.
        resamples: draws of the bootstrap.

    Returns:
        For each bin that isn't empty, the mean position, the mean bits and the ends of their interval, for
        `reports.figures.interval_curves`.

    Raises:
        ValueError: There is no token, lengths differ, the edges don't ascend, or a position is below the first.
    """
    bits, position, block = np.asarray(bits, np.float64), np.asarray(position), np.asarray(block)
    if not len(edges) or not len(position) or (np.diff(edges) <= 0).any() or position.min() < edges[0]:
        raise ValueError(f"edges: {list(edges)} do not ascend from the lowest position")
    _, group = np.unique(np.searchsorted(edges, position, side="right"), return_inverse=True)
    groups, blocks = group.max() + 1, block.max() + 1
    mean_bits = accuracy_by(bits, group, block, groups, blocks)
    estimates = bootstrap(lambda weights: mean_bits(weights).tolist(), blocks, resamples=resamples)
    places = np.bincount(group, position) / np.bincount(group)
    return [(float(at), one["value"], one["low"], one["high"]) for at, one in zip(places, estimates, strict=True)]


def hardest(bits: np.ndarray, starts: np.ndarray, length: int, most: int) -> list[tuple[int, int, float]]:
    """The passages with the highest mean bits, which don't overlap or cross the beginning of a block.

    Args:
        bits: (n,), of each token.
        starts: (blocks,), where each block begins, ascending from 0.
        length: tokens of a passage, 1 or more.
        most: maximum number of passages.

    Returns:
        For each passage, its first token, the one after its last and its mean bits, hardest first. They are chosen
        greedily; there may be fewer.
    """
    bits = np.asarray(bits, np.float64)
    sums = np.concatenate([[0], np.cumsum(bits)])
    means = (sums[length:] - sums[:-length]) / length  # of the passage that begins at each token
    for start in starts[1:]:
        means[max(0, start - length + 1) : start] = -np.inf
    passages = []
    while len(passages) < most and len(means) and np.isfinite(means.max()):
        first = int(means.argmax())
        passages.append((first, first + length, float(means[first])))
        means[max(0, first - length + 1) : first + length] = -np.inf
    return passages


def readable(pieces: Iterable[bytes], bits: Iterable[float]) -> list[tuple[str, float]]:
    """Tokens as text with their bits; tokens of parts of a character are joined, and their bits added.

    Args:
        pieces: the bytes of each token, UTF-8 when joined.
        bits: bits of each token.

    Returns:
        Texts and their bits. Invalid UTF-8, such as a truncated character, becomes U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts, text, cost = [], "", 0.0
    for piece, own in zip(pieces, bits, strict=True):
        text, cost = text + decoder.decode(piece), cost + float(own)
        if not decoder.getstate()[0]:  # no incomplete character
            texts.append((text, cost))
            text, cost = "", 0.0
    text += decoder.decode(b"", final=True)
    return [*texts, (text, cost)] if text else texts


# --- Samples ---


def excerpts(text: str, length: int, most: int) -> list[str]:
    """Evenly spread excerpts of a text: samples of real text.

    Args:
        text: such as the test blocks.
        length: characters of an excerpt, 1 or more.
        most: maximum number of excerpts.

    Returns:
        The excerpts, in order; fewer if they would overlap.
    """
    number = min(most, len(text) // length)
    starts = np.linspace(0, len(text) - length, number).astype(int) if number else []
    return [text[start : start + length] for start in starts]


def measure_samples(samples: Sequence[str], training: str) -> list[dict[str, float]]:
    """Measures of generated text; all samples are compared with the training text in one pass.

    Args:
        samples: generated texts, or excerpts of real text as a reference, which should be equally long, as shares of
            distinct n-grams fall with the length.
        training: the text that the model was trained on. It is searched at about 2 MB per second.

    Returns:
        For each sample, with NaN for shares of nothing:
            known_words: the share of its words that occur in the training text, ignoring case. A word is a run of
                letters, digits, underscores and inner apostrophes, not only digits. Words at the ends of the sample,
                which may be cut, don't count.
            distinct_1 to distinct_4: the share of distinct n-grams among all its n-grams of words (Li et al. 2016).
            longest_copy: characters of its longest substring that occurs in the training text.
            mean_copy: the mean over its characters of the length of the longest such substring that begins there.
            balanced_brackets: the share of its round, square and curly brackets in pairs. Brackets nest: a closing one
                matches the last open one of its kind, and those opened in between are unpaired. No pair crosses an
                empty line.
            balanced_quotes: the share of its quotation marks (straight, single or double, and backticks) in pairs
                within a paragraph. The neighbouring characters tell whether a mark opens or closes; a single one within
                or after a word is an apostrophe unless it closes another.
    """
    corpus = set(_words(training))
    measured = []
    for sample, runs in zip(samples, copied_runs(samples, training), strict=True):
        first = re.match(r"[\w'’]*", sample)
        last = re.search(r"[\w'’]*$", sample)
        uncut = sample[first.end() if first else 0 : last.start() if last else None]
        known = [word in corpus for word in _words(uncut)]
        words = list(_words(sample))
        measured.append(
            {
                "known_words": _mean(known),
                **{f"distinct_{number}": distinct(words, number) for number in (1, 2, 3, 4)},
                "longest_copy": int(runs.max(initial=0)),
                "mean_copy": _mean(runs),
                "balanced_brackets": _share(_brackets(sample)),
                "balanced_quotes": _share(_quotes(sample)),
            }
        )
    return measured


def _mean(values: Sequence[Any] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _share(counts: tuple[int, int]) -> float:
    return counts[0] / counts[1] if counts[1] else np.nan


def _words(text: str) -> Iterable[str]:
    for match in re.finditer(r"\w+(?:['’]\w+)*", text):
        if not match[0].isnumeric():
            yield match[0].casefold()


def distinct(words: Sequence[str], number: int) -> float:
    """The share of distinct runs among all runs of `number` words (Li et al. 2016); NaN if there are none."""
    runs = list(zip(*(words[first:] for first in range(number)), strict=False))
    return len(set(runs)) / len(runs) if runs else np.nan


def _brackets(text: str) -> tuple[int, int]:
    """The number of paired brackets, and of all brackets."""
    opened, partners, number = [], 0, 0
    for mark in re.findall(r"[()\[\]{}]|\n[^\S\n]*\n", text):
        if mark.isspace():
            opened = []
            continue
        number += 1
        if mark in "([{":
            opened.append(mark)
            continue
        partner = "([{"[")]}".index(mark)]
        if partner in opened:
            while opened.pop() != partner:
                pass
            partners += 2
    return partners, number


def _quotes(text: str) -> tuple[int, int]:
    """The number of paired quotation marks, and of all quotation marks."""
    opened, partners, number = set(), 0, 0
    for match in re.finditer(r"[\"'`]|\n[^\S\n]*\n", text):
        mark = match[0]
        if mark.isspace():
            opened = set()
            continue
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        opens = not before or before.isspace() or unicodedata.category(before) in ("Ps", "Pd", "Sm")
        closes = not after or after.isspace() or unicodedata.category(after) in ("Pe", "Po", "Pd")
        if mark == "'" and (_is_letter(before) and (_is_letter(after) or mark not in opened)):
            continue  # an apostrophe
        number += 1
        if mark in opened and (closes or not opens):
            opened.remove(mark)
            partners += 2
        elif opens or not closes:
            opened.add(mark)
    return partners, number


def _is_letter(text: str) -> bool:
    return text.isalnum() or text == "_"


@dataclasses.dataclass(frozen=True)
class _Table:
    """The distinct substrings of one length in the samples."""

    keys: np.ndarray  # (substrings,), ascending: the index of the substring that is a byte shorter, and the last byte
    places: np.ndarray  # (m,), positions in the samples where one begins
    number: np.ndarray  # (m,), its index


def copied_runs(samples: Sequence[str], training: str) -> list[np.ndarray]:
    """The length of the longest copy from the training text that begins at each character of each sample.

    The search is exact. A table for each length has the distinct substrings of the samples, as the index of the
    substring that is one byte shorter and a byte; all positions of the training text are followed through these tables
    and dropped at the first mismatch. Texts are compared as UTF-8, in which no character is a part of another.

    Args:
        samples: texts.
        training: the text to search.

    Returns:
        For each sample, the length in characters of the longest substring from each character on that occurs in the
        training text, (characters,).
    """
    encoded = [np.frombuffer(sample.encode(), np.uint8) for sample in samples]
    text = np.frombuffer(training.encode(), np.uint8)
    own = np.concatenate([*encoded, np.zeros(0, np.uint8)]).astype(np.int64)
    ends = np.repeat(np.cumsum([len(sample) for sample in encoded]), [len(sample) for sample in encoded])
    reached = np.zeros(len(own), np.int64)  # bytes of the longest substring found so far

    def follow(table: _Table, length: int, at: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The positions in the training text after substrings that are in the table, and the substrings' indices."""
        key = state << 8 | text[at]
        state = np.searchsorted(table.keys, key)
        seen = table.keys[np.minimum(state, len(table.keys) - 1)] == key
        at, state = at[seen] + 1, state[seen]
        there = np.zeros(len(table.keys), bool)
        there[state] = True
        reached[table.places[there[table.number]]] = length
        inside = at < len(text)
        return at[inside], state[inside]

    def longer(table: _Table, length: int, kept: np.ndarray) -> _Table:
        """The table of the next length, `length`, from the kept positions that are long enough."""
        kept = kept & (table.places + length <= ends[table.places])
        places = table.places[kept]
        keys, number = np.unique(table.number[kept] << 8 | own[places + length - 1], return_inverse=True)
        return _Table(keys, places, number)

    # First short lengths in chunks of the text, for all positions of the samples; then the remaining matches together.
    tables = [_Table(np.zeros(1, np.int64), np.arange(len(own)), np.zeros(len(own), np.int64))]
    while len(tables) <= _SHORT and len(tables[-1].keys):
        tables.append(longer(tables[-1], len(tables), np.ones(len(tables[-1].places), bool)))
    longest = np.zeros(len(own), np.int64)
    left = []
    for first in range(0, len(text), _CHUNK):
        at = np.arange(first, min(first + _CHUNK, len(text)))
        state = np.zeros(len(at), np.int64)
        reached[:] = 0
        for length, table in enumerate(tables[1:], 1):
            if not len(at) or not len(table.keys):
                at, state = at[:0], state[:0]
                break
            at, state = follow(table, length, at, state)
        np.maximum(longest, reached, out=longest)
        left.append((at, state))
    reached = longest
    at, state = (np.concatenate(part) for part in zip(*left, strict=True)) if left else (own[:0], own[:0])
    table, length = tables[-1], len(tables)
    while len(at):
        table = longer(table, length, reached[table.places] == length - 1)
        if not len(table.keys):
            break
        at, state = follow(table, length, at, state)
        length += 1
    runs = []
    first = 0
    for sample in encoded:
        starts = np.flatnonzero((sample & 0xC0) != 0x80)  # where characters begin
        stops = starts + reached[first + starts]
        runs.append(np.searchsorted(np.append(starts, len(sample)), stops, side="right") - 1 - np.arange(len(starts)))
        first += len(sample)
    return runs

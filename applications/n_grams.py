"""An n-gram model with interpolated modified Kneser-Ney smoothing: the strongest classical language model."""

import dataclasses
from typing import Self

import numpy as np

MOST_GRAMS = 20_000_000  # that an n-gram model may hold: some seconds, and less than 1 GB


@dataclasses.dataclass(frozen=True)
class _Order:
    """The n-grams of one length that were seen, and what follows each context, an n-gram that is one shorter.

    An n-gram is a number: its place in `keys`. A key joins the number of its context and its last token, so that it
    stays below 2^63 for any order and vocabulary.
    """

    keys: np.ndarray  # (n-grams,), ascending
    probability: np.ndarray  # (n-grams,), of the last token given the context
    remainder: np.ndarray  # (contexts,), the weight of the shorter context's probabilities
    best: np.ndarray  # (contexts,), the most probable token
    best_probability: np.ndarray  # (contexts,)


class NGram:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999) over tokens.

    A shorter context counts in how many different places an n-gram was seen rather than how often; the beginning of
    a block counts as one such place. What the discounts take is given to the shorter context, at last to all tokens
    alike, so that no probability is 0. Where the counts allow no estimate of the three discounts, they are 0.5, 1 and
    1.5. Contexts lie within a block.

    Args:
        order: tokens of the longest n-gram, its last one included: 1 looks at no context at all.

    Raises:
        ValueError: if the order is below 1.
    """

    def __init__(self, order: int = 5):
        if order < 1:
            raise ValueError(f"order: {order}, expected 1 or more")
        self.order = order
        self._orders: list[_Order] = []

    @property
    def parameters(self) -> int:
        """How many n-grams the fitted model holds."""
        return sum(len(order.keys) for order in self._orders)

    def fit(self, tokens: np.ndarray, starts: np.ndarray, vocabulary: int) -> Self:
        """Count n-grams; of more tokens than give `MOST_GRAMS` the last ones alone.

        Args:
            tokens: (n,), integers from 0; may be memory-mapped.
            starts: (blocks,), where each block begins, ascending from 0.
            vocabulary: how many different tokens there are.

        Raises:
            ValueError: if there is no token, one is not below `vocabulary`, or the first block doesn't start at 0.
        """
        left_out = max(0, len(tokens) - MOST_GRAMS // self.order)
        later = _checked_starts(starts, len(tokens)) - left_out
        tokens, position = _checked(tokens[left_out:], np.append(0, later[later > 0]), vocabulary)
        self._vocabulary = vocabulary
        keys: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        shorter: list[np.ndarray] = []  # of each n-gram the number of the one without its first token
        at_start = np.zeros(0, np.int64)  # of each n-gram 1 where a block begins with it
        grams = np.zeros(len(tokens), np.int32)  # the n-gram that ends with each token; the empty one has the number 0
        for length in range(1, self.order + 1):
            places = np.flatnonzero(position >= length - 1)
            if not len(places):
                break  # no block is so long
            joined = (grams[places - 1] if length > 1 else np.int64(0)) * np.int64(vocabulary) + tokens[places]
            found, number = np.unique(joined, return_inverse=True)
            suffix = np.zeros(len(found), np.int32)
            suffix[number] = grams[places]
            keys.append(found)
            counts.append(np.bincount(number))
            shorter.append(suffix)
            grams = np.full(len(tokens), -1, np.int32)
            grams[places] = number
            if length > 1:  # the places in which those that are one shorter were seen
                counts[-2] = np.bincount(suffix, minlength=len(keys[-2])) + at_start
            at_start = np.zeros(len(found), np.int64)
            at_start[grams[position == length - 1]] = 1
        self._orders = []
        for level, (found, often) in enumerate(zip(keys, counts, strict=True)):
            context = found // vocabulary
            contexts = len(keys[level - 1]) if level else 1
            below = self._orders[-1].probability[shorter[level]] if level else 1 / vocabulary
            discount = _discounts(often)[np.minimum(often, 3)]
            total = np.bincount(context, often, contexts)
            taken = np.bincount(context, discount, contexts)
            remainder = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
            probability = (often - discount) / total[context] + remainder[context] * below
            # What is most probable after a context was seen after it, or is most probable after the shorter one.
            last = shorter[level - 1] if level > 1 else np.zeros(contexts, np.int64)
            best = self._orders[-1].best[last] if level else np.zeros(1, np.int64)
            best_probability = remainder * (self._orders[-1].best_probability[last] if level else 1 / vocabulary)
            followed, first = np.unique(context, return_index=True)
            highest = np.maximum.reduceat(probability, first)
            tops = np.flatnonzero(probability == np.repeat(highest, np.diff(first, append=len(context))))
            winner = tops[np.searchsorted(tops, first)]  # the first of several
            higher = highest >= best_probability[followed]
            followed, winner = followed[higher], winner[higher]
            best[followed], best_probability[followed] = found[winner] % vocabulary, probability[winner]
            self._orders.append(_Order(found, probability, remainder, best, best_probability))
        return self

    def evaluate(self, tokens: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How well each token is foretold from those before it in its block.

        Args:
            tokens: (n,), integers from 0 below the vocabulary.
            starts: (blocks,), where each block begins, ascending from 0.

        Returns:
            The bits of each token, -log2 of its probability, (n,); whether it is the most probable one, (n,) bool.

        Raises:
            ValueError: as `fit`.
        """
        tokens, position = _checked(tokens, starts, self._vocabulary)
        probability = np.full(len(tokens), 1 / self._vocabulary)
        best = np.zeros(len(tokens), np.int64)
        grams = np.zeros(len(tokens), np.int64)  # -1 where it was never seen
        for level, order in enumerate(self._orders):
            # The number of the context of each token, -1 where the block or what was seen is shorter.
            context = np.where(position >= level, np.roll(grams, 1), -1) if level else grams
            known = context >= 0
            key = context * self._vocabulary + tokens
            place = np.minimum(np.searchsorted(order.keys, key), len(order.keys) - 1)
            seen = known & (order.keys[place] == key)
            probability = np.where(known, order.remainder[context] * probability, probability)
            probability = np.where(seen, order.probability[place], probability)
            best = np.where(known, order.best[context], best)
            grams = np.where(seen, place, -1)
        return -np.log2(probability), best == tokens


def _checked(tokens: np.ndarray, starts: np.ndarray, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens and the place of each in its block, both (n,)."""
    tokens = np.asarray(tokens).astype(np.int64)
    if not len(tokens) or tokens.min() < 0 or tokens.max() >= vocabulary:
        found = f"{tokens.min()} to {tokens.max()}" if len(tokens) else "none"
        raise ValueError(f"tokens: found {found}, expected integers from 0 to {vocabulary - 1}")
    starts = _checked_starts(starts, len(tokens))
    lengths = np.diff(np.append(starts, len(tokens)))
    return tokens, np.arange(len(tokens)) - np.repeat(starts, lengths)


def _checked_starts(starts: np.ndarray, tokens: int) -> np.ndarray:
    starts = np.asarray(starts)
    if not len(starts) or starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= max(tokens, 1):
        raise ValueError(f"starts: expected places that ascend from 0 to below {tokens}")
    return starts


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from n-grams that were counted 0, 1, 2 and 3 or more times (Chen and Goodman 1999, equation 26)."""
    once, twice, thrice, four = (int(np.sum(counts == number)) for number in (1, 2, 3, 4))
    if once and twice and thrice:
        share = once / (once + 2 * twice)
        found = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
        if all(0 < discount < number for number, discount in enumerate(found, 1)):
            return np.array([0, *found])
    return np.array([0, 0.5, 1, 1.5])

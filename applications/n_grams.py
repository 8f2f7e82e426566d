"""An n-gram model with interpolated modified Kneser-Ney smoothing: the strongest classical language model."""

import dataclasses
from typing import Self

import numpy as np

MOST_GRAMS = 20_000_000  # of a model: takes seconds and less than 1 GB


@dataclasses.dataclass(frozen=True)
class _Order:
    """The observed n-grams of one length, and what follows each context, an n-gram that is one token shorter.

    An n-gram is represented by its index in `keys`. A key combines the index of its context and its last token, so that
    it stays below 2^63 for any order and vocabulary.
    """

    keys: np.ndarray  # (n-grams,), ascending
    probability: np.ndarray  # (n-grams,), of the last token given the context
    remainder: np.ndarray  # (contexts,), the weight of the shorter context's probabilities
    best: np.ndarray  # (contexts,), the most probable token
    best_probability: np.ndarray  # (contexts,)


class NGram:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999) over tokens.

    Shorter n-grams count different preceding tokens instead of occurrences; the beginning of a block counts as one. The
    discounted probability goes to the shorter context, and finally to all tokens equally, so that no probability is 0.
    If the counts don't allow an estimate of the three discounts, they are 0.5, 1 and 1.5. Contexts don't cross blocks.

    Args:
        order: tokens of the longest n-gram, including the last: 1 uses no context.

    Raises:
        ValueError: The order is below 1.
    """

    def __init__(self, order: int = 5):
        if order < 1:
            raise ValueError(f"order: {order}, expected 1 or more")
        self.order = order
        self._orders: list[_Order] = []

    @property
    def parameters(self) -> int:
        """Number of n-grams of the fitted model."""
        return sum(len(order.keys) for order in self._orders)

    def fit(self, tokens: np.ndarray, starts: np.ndarray, vocabulary: int) -> Self:
        """Count n-grams, in at most the last `MOST_GRAMS` / `order` tokens.

        Args:
            tokens: (n,), integers from 0; may be memory-mapped.
            starts: (blocks,), where each block begins, ascending from 0.
            vocabulary: number of different tokens.

        Raises:
            ValueError: There is no token, one is not below `vocabulary`, or the first block doesn't start at 0.
        """
        left_out = max(0, len(tokens) - MOST_GRAMS // self.order)
        later = _checked_starts(starts, len(tokens)) - left_out
        tokens, position = _checked(tokens[left_out:], np.append(0, later[later > 0]), vocabulary)
        self._vocabulary = vocabulary
        keys: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        shorter: list[np.ndarray] = []  # for each n-gram, the index of the one without its first token
        at_start = np.zeros(0, np.int64)  # for each n-gram, 1 if a block begins with it
        grams = np.zeros(len(tokens), np.int32)  # the n-gram that ends at each token; the empty one has the index 0
        for length in range(1, self.order + 1):
            places = np.flatnonzero(position >= length - 1)
            if not len(places):
                break  # no block is this long
            joined = (grams[places - 1] if length > 1 else np.int64(0)) * np.int64(vocabulary) + tokens[places]
            unique, number = np.unique(joined, return_inverse=True)
            suffix = np.zeros(len(unique), np.int32)
            suffix[number] = grams[places]
            keys.append(unique)
            counts.append(np.bincount(number))
            shorter.append(suffix)
            grams = np.full(len(tokens), -1, np.int32)
            grams[places] = number
            if length > 1:  # counts of different preceding tokens
                counts[-2] = np.bincount(suffix, minlength=len(keys[-2])) + at_start
            at_start = np.zeros(len(unique), np.int64)
            at_start[grams[position == length - 1]] = 1
        self._orders = []
        for level, (of_level, often) in enumerate(zip(keys, counts, strict=True)):
            context = of_level // vocabulary
            contexts = len(keys[level - 1]) if level else 1
            below = self._orders[-1].probability[shorter[level]] if level else 1 / vocabulary
            discount = _discounts(often)[np.minimum(often, 3)]
            total = np.bincount(context, often, contexts)
            taken = np.bincount(context, discount, contexts)
            remainder = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
            probability = (often - discount) / total[context] + remainder[context] * below
            # The most probable token after a context was observed there, or is the most probable after the shorter one.
            last = shorter[level - 1] if level > 1 else np.zeros(contexts, np.int64)
            best = self._orders[-1].best[last] if level else np.zeros(1, np.int64)
            best_probability = remainder * (self._orders[-1].best_probability[last] if level else 1 / vocabulary)
            followed, first = np.unique(context, return_index=True)
            highest = np.maximum.reduceat(probability, first)
            tops = np.flatnonzero(probability == np.repeat(highest, np.diff(first, append=len(context))))
            winner = tops[np.searchsorted(tops, first)]  # the first of several
            higher = highest >= best_probability[followed]
            followed, winner = followed[higher], winner[higher]
            best[followed], best_probability[followed] = of_level[winner] % vocabulary, probability[winner]
            self._orders.append(_Order(of_level, probability, remainder, best, best_probability))
        return self

    def evaluate(self, tokens: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How well each token is predicted from those before it in its block.

        Args:
            tokens: (n,), integers from 0 below the vocabulary.
            starts: (blocks,), where each block begins, ascending from 0.

        Returns:
            The bits of each token, -log2 of its probability, (n,); whether it is the most probable one, (n,) bool.

        Raises:
            ValueError: As in `fit`.
        """
        tokens, position = _checked(tokens, starts, self._vocabulary)
        probability = np.full(len(tokens), 1 / self._vocabulary)
        best = np.zeros(len(tokens), np.int64)
        grams = np.zeros(len(tokens), np.int64)  # -1 if never observed
        for level, order in enumerate(self._orders):
            # The index of each token's context, -1 if it crosses the block or was never observed.
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
    """The tokens and the position of each in its block, both (n,)."""
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
        raise ValueError(f"starts: expected ascending positions from 0 to below {tokens}")
    return starts


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Discounts of n-grams with counts of 0, 1, 2 and 3 or more (Chen and Goodman 1999, equation 26)."""
    once, twice, thrice, four = (int(np.sum(counts == number)) for number in (1, 2, 3, 4))
    if once and twice and thrice:
        share = once / (once + 2 * twice)
        discounts = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
        if all(0 < discount < number for number, discount in enumerate(discounts, 1)):
            return np.array([0, *discounts])
    return np.array([0, 0.5, 1, 1.5])

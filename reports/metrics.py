"""Metrics as pure functions of labels and scores, and bootstrap intervals around them.

scikit-learn's functions are the reference, and the tests compare with them. A bootstrap asks for the same metric some
hundred times on reweighted rows; `Ranking` sorts the scores once for all of them.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and its bootstrap interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name, for metrics.json."""
        return dataclasses.asdict(self)


def bootstrap(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    units: int,
    *,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> list[Estimate]:
    """Percentile bootstrap intervals (Efron 1979) of one or several figures.

    What is drawn with replacement are units: whatever is independent of the others, such as customers rather than the
    payments of a customer.

    Args:
        statistic: from weights (units,), how often each unit was drawn, to one figure or (figures,).
        units: how many there are.
        resamples: number of draws.
        level: coverage of the interval.
        seed: of the draws; the same seed gives the same draws, which makes two models' intervals comparable.
    """
    random = np.random.default_rng(seed)
    value = np.atleast_1d(statistic(np.ones(units)))
    draws = np.array(
        [
            np.atleast_1d(statistic(np.bincount(random.integers(0, units, units), minlength=units).astype(float)))
            for _ in range(resamples)
        ]
    )
    # A draw without any positive has no figure.
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Estimate(float(v), float(lo), float(hi)) for v, lo, hi in zip(value, low, high, strict=True)]


def over_seeds(
    names: Sequence[str], of_seeds: np.ndarray, estimates: Iterator[Estimate]
) -> dict[str, dict[str, float | list[float]]]:
    """Each metric of a model for metrics.json: the mean of its trainings, the interval, each training's, their spread.

    Args:
        names: of the metrics.
        of_seeds: each metric of each training, (trainings, metrics).
        estimates: of the means, in the order of the names; as many as there are names are taken.
    """
    return {
        name: next(estimates).to_dict()
        | {"seeds": values.tolist(), "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
        for name, values in zip(names, of_seeds.T, strict=True)
    }


class Ranking:
    """Binary labels in the order of their scores, ready to be weighted again and again.

    Args:
        labels: (rows,) of 0 and 1.
        scores: (rows,), higher is more suspicious; equal scores count as one threshold.
        units: (rows,) which unit of the bootstrap a row belongs to; by default each row is its own.

    Raises:
        ValueError: if a score is not finite, the lengths differ, or one of the two classes is missing.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, units: np.ndarray | None = None):
        labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
        if labels.shape != scores.shape:
            raise ValueError(f"{len(labels)} labels for {len(scores)} scores")
        if not np.isfinite(scores).all():
            raise ValueError("a score is not finite")
        if not (labels == 1).any() or (labels == 1).all():
            raise ValueError("labels hold one class only")
        order = np.argsort(-scores, kind="stable")
        self.unit = (np.arange(len(labels)) if units is None else np.asarray(units))[order]
        self.positives = np.flatnonzero(labels[order] == 1)
        # All figures follow from the thresholds at which a positive lies, of which there are few.
        first = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
        threshold = np.searchsorted(first, self.positives, side="right") - 1
        which, self.member = np.unique(threshold, return_inverse=True)
        self.start, self.end = first[which], np.append(first[1:], len(order))[which]
        self._cumulated = np.zeros(len(order) + 1)  # reused, since allocating it costs more than the sums

    def _counts(self, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Of each threshold with a positive: the positives there, all rows above and up to it; then the rows in all."""
        weights = np.ones(self.unit.max() + 1) if weights is None else np.asarray(weights, np.float64)
        rows = self._cumulated[1:]
        np.take(weights, self.unit, out=rows, mode="clip")  # "raise" would copy
        positives = np.bincount(self.member, rows[self.positives])
        np.cumsum(rows, out=rows)
        return positives, self._cumulated[self.start], self._cumulated[self.end], float(rows[-1])

    def auc_roc(self, weights: np.ndarray | None = None) -> float:
        """Area under the receiver operating characteristic, weights (units,); NaN where a class has no weight."""
        positives, above, up_to, rows = self._counts(weights)
        total = positives.sum()
        negatives = rows - total
        if total <= 0 or negatives <= 0:
            return np.nan
        before = np.cumsum(positives) - positives
        negatives_above, negatives_tied = above - before, up_to - above - positives
        # A positive outranks the negatives below it, and half of those it is tied with.
        return float(np.sum(positives * (negatives - negatives_above - negatives_tied / 2)) / (total * negatives))

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """Mean of the precision over the steps in recall, as scikit-learn defines it; NaN without any positive."""
        positives, _, up_to, _ = self._counts(weights)
        total = positives.sum()
        if total <= 0:
            return np.nan
        hit = positives > 0
        return float(np.sum(positives[hit] * np.cumsum(positives)[hit] / up_to[hit]) / total)

    def recall_at_rate(self, rate: float, weights: np.ndarray | None = None) -> float:
        """Share of the positives among the `rate` share of rows with the highest scores; ties are shared evenly."""
        positives, above, up_to, rows = self._counts(weights)
        total = positives.sum()
        if total <= 0:
            return np.nan
        found = np.cumsum(positives)
        alerts = np.column_stack([above, up_to]).ravel()
        return float(np.interp(rate * rows, alerts, np.column_stack([found - positives, found]).ravel()) / total)


class CardPrecision:
    """Card precision top-k (handbook of Le Borgne et al. 2022): what analysts find who check k cards a day.

    Each day the cards are ranked by their highest score of that day, and the k first are checked; the precision is the
    number of them with a fraud on that day divided by k, even where there are fewer cards, averaged over the days. A
    card found compromised is blocked and counts no more on later days.

    Args:
        labels: (rows,) of 0 and 1.
        scores: (rows,), higher is more suspicious.
        cards: (rows,) integer codes from 0, the units of the bootstrap.
        days: (rows,) the day of each row.
        k: cards checked a day.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, cards: np.ndarray, days: np.ndarray, k: int = 100):
        self.k = k
        self.days = []
        for day in np.unique(days):
            rows = np.flatnonzero(days == day)
            rows = rows[np.argsort(-scores[rows], kind="stable")]
            card, first, inverse = np.unique(cards[rows], return_index=True, return_inverse=True)
            fraud = np.bincount(inverse, labels[rows] == 1) > 0
            order = np.argsort(first)  # the first row of a card is its highest score
            self.days.append((card[order], fraud[order]))

    def __call__(self, weights: np.ndarray | None = None) -> float:
        """The mean precision; a card of weight w, (cards,), stands for w cards."""
        size = 1 + max(int(card.max()) for card, _ in self.days)
        remaining = np.ones(size) if weights is None else np.array(weights, np.float64)
        precisions = []
        for card, fraud in self.days:
            weight = remaining[card]
            found = np.clip(self.k - (np.cumsum(weight) - weight), 0, weight) * fraud
            precisions.append(found.sum() / self.k)
            remaining[card] -= found
        return float(np.mean(precisions))

"""Metrics as pure functions of labels and scores, and bootstrap intervals around them.

scikit-learn's functions are the reference, and the tests compare with them. A bootstrap asks for the same metric some
hundred times on reweighted rows; `Ranking` sorts the scores once for all of them.
"""

import dataclasses
from collections.abc import Callable, Container, Iterator, Sequence

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
    biased: Container[int] = (),
) -> list[Estimate]:
    """Percentile bootstrap intervals (Efron 1979) of one or several figures, in which the figures lie.

    What is drawn with replacement are units: whatever is independent of the others, such as customers rather than the
    payments of a customer.

    Drawing biases some figures: a mean of distances, such as a calibration error, only grows by the noise that it adds.
    The intervals of those, and any that its figure would lie outside of, are moved by the bias, so that the middle of
    the draws lies at the figure; but not below 0 or above 1 if neither the figure nor any draw lies there.

    Args:
        statistic: from weights (units,), how often each unit was drawn, to one figure or (figures,).
        units: how many there are.
        resamples: number of draws.
        level: coverage of the interval.
        seed: of the draws; the same seed gives the same draws, which makes two models' intervals comparable.
        biased: the places of figures that drawing biases.
    """
    random = np.random.default_rng(seed)
    value = np.atleast_1d(statistic(np.ones(units)))
    draws = np.array(
        [
            np.atleast_1d(statistic(np.bincount(random.integers(0, units, units), minlength=units).astype(float)))
            for _ in range(resamples)
        ]
    )
    return [
        _estimate(float(figure), of_figure[np.isfinite(of_figure)], level, place in biased)
        for place, (figure, of_figure) in enumerate(zip(value, draws.T, strict=True))
    ]


def _estimate(value: float, draws: np.ndarray, level: float, biased: bool) -> Estimate:
    """The figure with the interval of those draws that have one: a draw without any positive may have none."""
    if not len(draws):
        return Estimate(value, value, value)
    low, middle, high = (float(end) for end in np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2]))
    if biased or not low <= value <= high:
        lowest, highest = min(value, draws.min()), max(value, draws.max())
        low, high = low + value - middle, high + value - middle
        low = max(low, 0.0) if lowest >= 0 else low
        high = min(high, 1.0) if highest <= 1 else high
    return Estimate(value, min(low, value), max(high, value))


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

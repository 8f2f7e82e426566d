"""The schema of metrics.json, bootstrap intervals, and metrics of labels and scores.

The metrics are tested against scikit-learn. A bootstrap computes a metric several hundred times with different weights
of rows; `Ranking` sorts the scores only once.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import optree

# --- The schema of metrics.json ---
#
# All six programs write these keys. Each program declares its own keys in its evaluation.py, in typed dictionaries that
# extend these; tests check the file of each program.

SCHEMA = 2  # version of metrics.json; reports are only typeset from files of this version


class Estimate(TypedDict):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


class Measure(Estimate):
    """A measure of a model: the mean over its trainings with its interval, the value of each, and their deviation."""

    seeds: list[float]
    deviation: float


class Headline(Estimate):
    """The main result of the run."""

    model: str
    metric: str


class Difference(TypedDict):
    """How much better one model is than another in a measure; without an interval if there is one training."""

    better: str
    worse: str
    measure: str
    value: float
    low: float | None
    high: float | None


class Result(TypedDict):
    """A model with its measures by name."""

    model: str
    baseline: bool
    uses_labels: bool
    parameters: int
    metrics: Mapping[str, Measure]


class Data(TypedDict):
    """Provenance of the data, and how the user's own files were read."""

    name: str
    source: str
    licence: str
    rows: int
    size_bytes: int
    sha256: str
    units: str
    seed: int | None
    notes: list[str]
    understood: list[str]


class Evaluation(TypedDict):
    """Number of resamples and unit of the bootstrap."""

    resamples: int
    unit: str


class Figure(TypedDict):
    """A figure of the report: its file in the run's folder, and its alternative text."""

    file: str
    alt: str


class Timing(TypedDict):
    """Start, duration and machine of the run."""

    started: str
    machine: str
    resumed: bool
    fit_seconds: float
    examples_per_second: int
    total_seconds: float
    peak_memory_mb: int


class Metrics(TypedDict):
    """metrics.json."""

    schema: int
    application: str
    backend: str
    seed: int
    versions: dict[str, str]
    settings: dict[str, Any]
    command: str
    data: Data
    evaluation: Evaluation
    headline: Headline
    results: Sequence[Result]
    differences: Sequence[Difference]
    figures: dict[str, Figure]
    model: Mapping[str, Any]
    limits: list[str]
    timing: Timing


# --- Intervals ---


def bootstrap(
    statistic: Callable[[np.ndarray], Any],
    units: int,
    *,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
    biased: Container[str] = (),
) -> Any:
    """Percentile bootstrap intervals (Efron 1979) of a number, or of all numbers of a tree; each contains its value.

    Independent units are drawn with replacement, such as customers rather than the payments of a customer.

    Resampling biases some values: a mean of distances, such as a calibration error, grows with the added noise. The
    intervals of those, and any that would not contain its value, are shifted by the bias, so that the median of the
    draws is at the value; but not below 0 or above 1 if neither the value nor any draw is.

    Args:
        statistic: from weights (units,), the number of times each unit was drawn, to a number or a tree of numbers:
            dictionaries and lists, with the same structure for all weights.
        units: number of units.
        resamples: number of draws.
        level: coverage of the interval.
        seed: seed of the draws; the same seed gives the same draws, which makes two models' intervals comparable.
        biased: keys in the tree below which values are biased by resampling.

    Returns:
        The tree with an `Estimate` in place of each number.
    """
    random = np.random.default_rng(seed)
    value = statistic(np.ones(units))
    draws = [
        statistic(np.bincount(random.integers(0, units, units), minlength=units).astype(float))
        for _ in range(resamples)
    ]

    def estimate(path: tuple, figure: float, *drawn: float) -> Estimate:
        of_figure = np.array(drawn, np.float64)
        return _estimate(float(figure), of_figure[np.isfinite(of_figure)], level, any(key in biased for key in path))

    return optree.tree_map_with_path(estimate, value, *draws)


def _estimate(value: float, draws: np.ndarray, level: float, biased: bool) -> Estimate:
    """The value with the interval of the finite draws."""
    if not len(draws):
        return {"value": value, "low": value, "high": value}
    low, middle, high = (float(end) for end in np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2]))
    if biased or not low <= value <= high:
        lowest, highest = min(value, draws.min()), max(value, draws.max())
        low, high = low + value - middle, high + value - middle
        low = max(low, 0.0) if lowest >= 0 else low
        high = min(high, 1.0) if highest <= 1 else high
    return {"value": value, "low": min(low, value), "high": max(high, value)}


def mean(trees: Sequence[Any]) -> Any:
    """The mean of trees with the same structure, such as the measures of each training of a model."""
    return optree.tree_map(lambda *values: float(np.mean(values)), *trees)


def over_seeds(of_seeds: Sequence[Mapping[str, float]], estimates: Mapping[str, Estimate]) -> dict[str, Measure]:
    """The measures of a model for metrics.json.

    Args:
        of_seeds: the measures of each training by name.
        estimates: estimates of the means over trainings.
    """
    measures: dict[str, Measure] = {}
    for name, estimate in estimates.items():
        values = [float(measures_of[name]) for measures_of in of_seeds]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        measures[name] = {**estimate, "seeds": values, "deviation": deviation}
    return measures


def differences(pairs: Sequence[tuple[str, str]], measure: str, estimates: Sequence[Estimate]) -> list[Difference]:
    """How much better the first model of each pair is than the second in a measure, for metrics.json."""
    return [
        {"better": better, "worse": worse, "measure": measure, **estimate}
        for (better, worse), estimate in zip(pairs, estimates, strict=True)
    ]


def headline(result: Result, metric: str) -> Headline:
    """The main result of the run, from the result of its model."""
    own = result["metrics"][metric]
    return {"model": result["model"], "metric": metric, "value": own["value"], "low": own["low"], "high": own["high"]}


def span(estimate: Mapping[str, Any], scale: float = 1) -> tuple[float, float, float]:
    """A value and the ends of its interval for figures; a scale of 100 gives per cent."""
    return scale * estimate["value"], scale * estimate["low"], scale * estimate["high"]


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent, for alternative texts."""
    return f"{100 * share:.{digits}f}\u00a0%"


class Ranking:
    """Binary labels sorted by their scores, whose measures can be computed for many weights.

    Args:
        labels: (rows,) of 0 and 1.
        scores: (rows,), higher is more suspicious; equal scores count as one threshold.
        units: (rows,) the bootstrap unit of each row; by default each row is its own unit.

    Raises:
        ValueError: A score is not finite, the lengths differ, or one of the two classes is missing.
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
        # All measures follow from the thresholds with a positive, which are few.
        first = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
        threshold = np.searchsorted(first, self.positives, side="right") - 1
        which, self.member = np.unique(threshold, return_inverse=True)
        self.start, self.end = first[which], np.append(first[1:], len(order))[which]
        self._cumulated = np.zeros(len(order) + 1)  # reused, as allocation would take longer than the sums

    def _counts(self, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """For each threshold with a positive: positives there, rows above it and up to it; and the number of rows."""
        weights = np.ones(self.unit.max() + 1) if weights is None else np.asarray(weights, np.float64)
        rows = self._cumulated[1:]
        np.take(weights, self.unit, out=rows, mode="clip")  # "raise" would copy
        positives = np.bincount(self.member, rows[self.positives])
        np.cumsum(rows, out=rows)
        return positives, self._cumulated[self.start], self._cumulated[self.end], float(rows[-1])

    def auc_roc(self, weights: np.ndarray | None = None) -> float:
        """Area under the receiver operating characteristic; weights (units,); NaN if a class has no weight."""
        positives, above, up_to, rows = self._counts(weights)
        total = positives.sum()
        negatives = rows - total
        if total <= 0 or negatives <= 0:
            return np.nan
        before = np.cumsum(positives) - positives
        negatives_above, negatives_tied = above - before, up_to - above - positives
        # A positive outranks the negatives below it, and half of the tied ones.
        return float(np.sum(positives * (negatives - negatives_above - negatives_tied / 2)) / (total * negatives))

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """Mean precision over the steps in recall, as in scikit-learn; NaN without positives."""
        positives, _, up_to, _ = self._counts(weights)
        total = positives.sum()
        if total <= 0:
            return np.nan
        hit = positives > 0
        return float(np.sum(positives[hit] * np.cumsum(positives)[hit] / up_to[hit]) / total)

    def recall_at_rate(self, rate: float, weights: np.ndarray | None = None) -> float:
        """Share of the positives among the `rate` share of rows with the highest scores; ties are interpolated."""
        positives, above, up_to, rows = self._counts(weights)
        total = positives.sum()
        if total <= 0:
            return np.nan
        found = np.cumsum(positives)
        alerts = np.column_stack([above, up_to]).ravel()
        return float(np.interp(rate * rows, alerts, np.column_stack([found - positives, found]).ravel()) / total)


class CardPrecision:
    """Card precision top-k (handbook of Le Borgne et al. 2022): the precision of analysts who check k cards a day.

    Each day, the cards are ranked by their highest score of that day, and the first k are checked; the precision is the
    number of them with a fraud on that day divided by k, even if there are fewer cards, averaged over the days. A
    detected card is blocked and doesn't count on later days.

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
        """The mean precision; a card of weight w, (cards,), counts as w cards."""
        size = 1 + max(int(card.max()) for card, _ in self.days)
        remaining = np.ones(size) if weights is None else np.array(weights, np.float64)
        precisions = []
        for card, fraud in self.days:
            weight = remaining[card]
            found = np.clip(self.k - (np.cumsum(weight) - weight), 0, weight) * fraud
            precisions.append(found.sum() / self.k)
            remaining[card] -= found
        return float(np.mean(precisions))

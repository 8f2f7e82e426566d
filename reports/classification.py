"""Measures of a classifier's probabilities for the bootstrap, and the reliability of its confidence."""

from typing import Any

import numpy as np

BINS = 15  # of the calibration error, as in Guo et al. 2017
CASES = 20  # at each point of a reliability diagram, at least
LEAST = 1e-12  # lower bound of the true class's probability in the log-loss


class Classification:
    """The true classes and predicted probabilities of rows, whose measures can be computed for many weights.

    The predicted class is the first most probable one; its probability is the confidence. In all measures, `weights`
    (n,), not all 0, say how often each row counts, by default once.

    Args:
        labels: (n,), the true classes, integers from 0.
        probabilities: (n, classes), whose rows sum to 1.

    Raises:
        ValueError: There is no row, shapes don't match, or a label or a row of probabilities is invalid.
    """

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray):
        labels, probabilities = _checked(labels, probabilities)
        self._loss = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST))
        self._correct, confidence = _judged(labels, probabilities)
        self._bin, self._gap = _bins(confidence, BINS), self._correct - confidence

    def accuracy(self, weights: np.ndarray | None = None) -> float:
        """Share of the rows with the right class."""
        return _mean(self._correct, weights)

    def log_loss(self, weights: np.ndarray | None = None) -> float:
        """Mean of -ln p in nats, where p is the probability of the true class, at least `LEAST`."""
        return _mean(self._loss, weights)

    def calibration_error(self, weights: np.ndarray | None = None) -> float:
        """Expected calibration error (Naeini et al. 2015; Guo et al. 2017), from 0 to 1.

        It is the weighted mean of the distance between accuracy and mean confidence over `BINS` bins of equal width.
        """
        weights = np.ones(len(self._gap)) if weights is None else np.asarray(weights, np.float64)
        return float(np.abs(np.bincount(self._bin, self._gap * weights)).sum() / weights.sum())


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS, cases: int = CASES
) -> list[dict[str, Any]]:
    """Accuracy by confidence: the points of a reliability diagram.

    Args:
        labels: (n,), the true classes, integers from 0.
        probabilities: (n, classes), whose rows sum to 1.
        bins: number of bins of equal width between 0 and 1. A confidence on an edge is in the lower bin.
        cases: least number of rows in a bin: from the highest confidence down, smaller bins are merged with those below
            them, and the last one with those above.

    Returns:
        For each bin that isn't empty, in ascending order: "low" and "high", its ends; "count", its rows; "confidence",
        their mean confidence; "accuracy", the share of them with the right class.

    Raises:
        ValueError: As in `Classification`, or there is no bin.
    """
    if bins < 1:
        raise ValueError(f"{bins} bins, expected 1 or more")
    correct, confidence = _judged(*_checked(labels, probabilities))
    bin_of = _bins(confidence, bins)
    counts = np.bincount(bin_of, minlength=bins)
    merged: list[list[int]] = []
    for index in np.flatnonzero(counts)[::-1]:
        if merged and counts[merged[-1]].sum() < cases:
            merged[-1].append(index)
        else:
            merged.append([index])
    if len(merged) > 1 and counts[merged[-1]].sum() < cases:
        rest = merged.pop()
        merged[-1] += rest
    points = []
    for indices in merged[::-1]:
        members = np.isin(bin_of, indices)
        points.append(
            {
                "low": float(min(indices) / bins),
                "high": float((max(indices) + 1) / bins),
                "count": int(members.sum()),
                "confidence": float(confidence[members].mean()),
                "accuracy": float(correct[members].mean()),
            }
        )
    return points


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not probabilities.size:
        raise ValueError(f"labels of {labels.shape} and probabilities of {probabilities.shape}")
    classes = probabilities.shape[1]
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: found {labels.min()} to {labels.max()}, expected integers from 0 to {classes - 1}")
    # Far above float32 rounding errors, even with many classes. NaN fails the comparisons.
    valid = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(f"probabilities: row {row} is {probabilities[row]}, expected numbers from 0 that sum to 1")
    return labels, probabilities


def _judged(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, 1 if its class is right, else 0; and the confidence."""
    return (probabilities.argmax(axis=1) == labels).astype(np.float64), probabilities.max(axis=1)


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row: bin i is from i / bins, exclusive, to (i + 1) / bins, inclusive."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    return float(values.mean() if weights is None else values @ weights / np.sum(weights))

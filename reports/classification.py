"""Measures of a classifier's probabilities, ready for the bootstrap, and how far its confidence can be believed."""

from typing import Any

import numpy as np

BINS = 15  # of the calibration error, as Guo et al. 2017 have it
CASES = 20  # that a point of a reliability diagram stands for at least
LEAST = 1e-12  # a lower probability of the true class counts as this in the log-loss


class Classification:
    """Rows with their true class and the probabilities of all classes, judged once and weighted again and again.

    The class found is the most probable one, the first of several that are equally probable. Its probability is the
    confidence. In all measures `weights` (n,) say how often each row counts, by default once; some are above 0.

    Args:
        labels: (n,), the true classes, integers from 0.
        probabilities: (n, classes), whose rows sum to 1.

    Raises:
        ValueError: if there is no row, shapes don't fit, a label is no class, or a row holds no probabilities.
    """

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray):
        labels, probabilities = _checked(labels, probabilities)
        self._loss = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST))
        self._correct, confidence = _judged(labels, probabilities)
        self._bin, self._gap = _bins(confidence, BINS), self._correct - confidence

    def accuracy(self, weights: np.ndarray | None = None) -> float:
        """Share of the rows whose class was found."""
        return _mean(self._correct, weights)

    def log_loss(self, weights: np.ndarray | None = None) -> float:
        """Mean of -ln p in nats, p the probability of the true class, or `LEAST` where it's lower than that."""
        return _mean(self._loss, weights)

    def calibration_error(self, weights: np.ndarray | None = None) -> float:
        """Expected calibration error (Naeini et al. 2015; Guo et al. 2017), from 0 to 1.

        The rows are put into `BINS` bins of equal width by their confidence. Of each bin the distance between its
        accuracy and its mean confidence is taken; the error is the mean of these, a bin counting as its rows do.
        """
        weights = np.ones(len(self._gap)) if weights is None else np.asarray(weights, np.float64)
        return float(np.abs(np.bincount(self._bin, self._gap * weights)).sum() / weights.sum())


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS, cases: int = CASES
) -> list[dict[str, Any]]:
    """How often the class found is right, by the confidence in it: the points of a reliability diagram.

    Args:
        labels: (n,), the true classes, integers from 0.
        probabilities: (n, classes), whose rows sum to 1.
        bins: how many bins of equal width there are between 0 and 1. A confidence on an edge is in the lower bin.
        cases: rows that a bin has at least, for an accuracy of few is chance: from the highest confidence down, bins
            with fewer are merged with those below them, and what remains at the lower end with those above.

    Returns:
        Of each bin, merged or not, that isn't empty, in order: "low" and "high", its ends; "count", its rows;
        "confidence", their mean confidence; "accuracy", the share of them whose class was found.

    Raises:
        ValueError: as `Classification`, or if there is no bin.
    """
    if bins < 1:
        raise ValueError(f"{bins} bins, expected 1 or more")
    correct, confidence = _judged(*_checked(labels, probabilities))
    bin_of = _bins(confidence, bins)
    counts = np.bincount(bin_of, minlength=bins)
    found = np.flatnonzero(counts)
    merged: list[list[int]] = []
    for index in found[::-1]:
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
    # Rounding in single precision grows with the classes, but stays far below this. Not a number is no probability.
    sound = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not sound.all():
        row = int(np.argmin(sound))
        raise ValueError(f"probabilities: row {row} is {probabilities[row]}, expected numbers from 0 that sum to 1")
    return labels, probabilities


def _judged(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row 1 where its class was found and 0 elsewhere, and the confidence."""
    return (probabilities.argmax(axis=1) == labels).astype(np.float64), probabilities.max(axis=1)


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row: bin i holds what is above i / bins and not above (i + 1) / bins."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    return float(values.mean() if weights is None else values @ weights / np.sum(weights))

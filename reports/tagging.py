"""Measures of sequences that are labelled frame by frame, such as phones of speech, for a bootstrap over sentences.

The counts of each sentence are computed once; a bootstrap draw only weights them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from sklearn.metrics import confusion_matrix


def collapse(labels: np.ndarray) -> np.ndarray:
    """Labels of frames (n,) without repeats, (m,): the sequence of phones."""
    labels = np.asarray(labels)
    first = np.ones(len(labels), bool)
    first[1:] = labels[1:] != labels[:-1]
    return labels[first]


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """The frames, (m,), whose label differs from that of the frame before."""
    labels = np.asarray(labels)
    return np.flatnonzero(labels[1:] != labels[:-1]) + 1


def _matched(true: np.ndarray, found: np.ndarray, tolerance: int) -> int:
    """The maximum number of one-to-one pairs of two ascending series within the tolerance.

    Greedy pairing is optimal, as the tolerance is the same for all.
    """
    pairs = i = j = 0
    while i < len(true) and j < len(found):
        if abs(true[i] - found[j]) <= tolerance:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif true[i] < found[j]:
            i += 1
        else:
            j += 1
    return pairs


class Tagging:
    """The true and predicted labels of sentences, whose measures can be computed for many weights.

    The sequence of phones is that of the labels without repeats. Frames without a true label don't count: any
    prediction is right for the phones, and their ends aren't boundaries.

    Args:
        truth: for each sentence, the true labels (n,), integers from 0, or -1 for none.
        found: for each sentence, the predicted labels (n,).
        tolerance: distance in frames within which a predicted boundary matches a true one.

    Attributes:
        sentence_accuracy: (sentences,), the share of frames with the right label.
        sentence_error: (sentences,), the phone error rate.

    Raises:
        ValueError: There is no sentence, one has no label, or lengths differ.
    """

    def __init__(self, truth: Sequence[np.ndarray], found: Sequence[np.ndarray], *, tolerance: int):
        if len(truth) != len(found) or not len(truth):
            raise ValueError(f"{len(truth)} true and {len(found)} found sentences")
        counts = []
        for index, (true, guess) in enumerate(zip(truth, found, strict=True)):
            known = np.asarray(true) >= 0
            if np.shape(true) != np.shape(guess) or not known.any():
                raise ValueError(f"sentence {index}: {known.sum()} true and {len(guess)} found labels")
            guess = np.where(known, guess, true)
            inside = np.flatnonzero(known[1:] & known[:-1]) + 1
            phones = collapse(true).tolist()
            starts, guessed_starts = (np.intersect1d(_boundaries(one), inside).tolist() for one in (true, guess))
            counts.append(
                (
                    np.sum(known & (np.asarray(true) == guess)),
                    known.sum(),
                    Levenshtein.distance(phones, collapse(guess).tolist()),
                    sum(phone >= 0 for phone in phones),
                    _matched(starts, guessed_starts, tolerance),
                    len(starts) + len(guessed_starts),
                )
            )
        self._counts = np.array(counts, np.float64).T
        right, frames, edits, phones, *_ = self._counts
        self.sentence_accuracy, self.sentence_error = right / frames, edits / phones

    def _ratio(self, numerator: int, denominator: int, weights: np.ndarray | None) -> float:
        pair = self._counts[[numerator, denominator]]
        above, below = pair.sum(axis=1) if weights is None else pair @ np.asarray(weights, np.float64)
        return float(above / below) if below > 0 else np.nan

    def frame_accuracy(self, weights: np.ndarray | None = None) -> float:
        """Share of the frames with the right label; weights (sentences,); NaN if all weights are 0."""
        return self._ratio(0, 1, weights)

    def phone_error_rate(self, weights: np.ndarray | None = None) -> float:
        """Edits from the predicted to the true phones (Levenshtein 1966) per true phone; may exceed 1.

        Substitutions, insertions and deletions count as one each. NaN if all weights are 0.
        """
        return self._ratio(2, 3, weights)

    def boundary_f1(self, weights: np.ndarray | None = None) -> float:
        """F1 of the predicted boundaries, paired one to one with true ones within the tolerance.

        A boundary is a change of label, not the beginning or end of a sentence. Without any true or predicted boundary,
        it is 1; NaN if all weights are 0.
        """
        f1 = 2 * self._ratio(4, 5, weights)
        return f1 if np.isfinite(f1) or np.isnan(self._ratio(0, 1, weights)) else 1.0


def accuracy_by(
    correct: np.ndarray, group: np.ndarray, sentence: np.ndarray, groups: int, sentences: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The accuracy of each group of frames, as a statistic for `reports.metrics.bootstrap` over sentences.

    Args:
        correct: (frames,), whether a frame has the right label.
        group: (frames,), codes from 0, such as the frame's phone or the distance to a boundary.
        sentence: (frames,), codes from 0.
        groups: number of groups.
        sentences: number of sentences.

    Returns:
        A function from weights (sentences,) to accuracies (groups,), NaN for groups without weight.

    Raises:
        ValueError: Lengths differ, or a code is not below the number of groups or sentences.
    """
    correct, group, sentence = np.asarray(correct), np.asarray(group), np.asarray(sentence)
    if not len(correct) == len(group) == len(sentence):
        raise ValueError(f"lengths differ: correct {len(correct)}, group {len(group)}, sentence {len(sentence)}")
    _check_codes("group", group, groups)
    _check_codes("sentence", sentence, sentences)
    cell = group * sentences + sentence
    shape = (groups, sentences)
    frames = np.bincount(cell, minlength=groups * sentences).reshape(shape).astype(np.float64)
    right = np.bincount(cell, correct, minlength=groups * sentences).reshape(shape)

    def accuracy(weights: np.ndarray) -> np.ndarray:
        below = frames @ weights
        return np.divide(right @ weights, below, out=np.full(groups, np.nan), where=below > 0)

    return accuracy


def _check_codes(name: str, codes: np.ndarray, number: int) -> None:
    if len(codes) and not (codes.min() >= 0 and codes.max() < number):
        raise ValueError(f"{name}: codes from {codes.min()} to {codes.max()} instead of 0 to {number - 1}")


def boundary_distance(labels: np.ndarray) -> np.ndarray:
    """The number of frames between each frame and the nearest boundary, (n,).

    Args:
        labels: (n,), the true labels of one sentence. Its beginning and end aren't boundaries.

    Returns:
        0 for the frames next to a boundary, on either side; n for all frames if there is no boundary.
    """
    frame, length = np.arange(len(labels)), len(labels)
    # The two ends are farther away than any boundary.
    starts = np.concatenate([[-length], _boundaries(labels), [2 * length]])
    after = np.searchsorted(starts, frame, side="right")
    return np.minimum(np.minimum(frame - starts[after - 1], starts[after] - 1 - frame), length)


def confusion(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix (classes, classes), integers: rows are true classes, columns predicted ones.

    Args:
        truth: (n,), codes from 0.
        found: (n,), codes from 0.
        classes: number of classes.

    Raises:
        ValueError: Arrays are empty, the lengths differ, or a code is not below `classes`.
    """
    _check_codes("truth", np.asarray(truth), classes)
    _check_codes("found", np.asarray(found), classes)
    return confusion_matrix(truth, found, labels=np.arange(classes))


def most_confused(counts: np.ndarray, most: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent errors of a confusion matrix, in order: true class, predicted class and count."""
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(counts)) for index in largest]
    return [(true, found, int(wrong[true, found])) for true, found in pairs if wrong[true, found]]

import warnings

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import accuracy_score

from reports.metrics import bootstrap
from reports.tagging import Tagging, accuracy_by, boundary_distance, collapse, confusion


def sentences(seed: int, number: int = 12, classes: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """True labels in runs, and found ones that differ here and there."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(number):
        runs = random.integers(1, 9)
        true = np.repeat(random.integers(0, classes, runs), random.integers(1, 7, runs))
        other = np.roll(true, random.integers(-2, 3))
        truth.append(true)
        found.append(np.where(random.random(len(true)) < 0.15, random.integers(0, classes, len(true)), other))
    return truth, found


def repeated(parts: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
    return [part for part, weight in zip(parts, weights, strict=True) for _ in range(int(weight))]


def edits(true: list[int], found: list[int]) -> int:
    """The edit distance by its recurrence, all three operations at cost one."""
    table = np.zeros((len(true) + 1, len(found) + 1), int)
    table[:, 0], table[0] = np.arange(len(true) + 1), np.arange(len(found) + 1)
    for i, a in enumerate(true, 1):
        for j, b in enumerate(found, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
    return int(table[-1, -1])


def phones(labels: np.ndarray) -> list[int]:
    return [label for index, label in enumerate(labels.tolist()) if index == 0 or label != labels[index - 1]]


def changes(labels: np.ndarray) -> list[int]:
    return [index for index in range(1, len(labels)) if labels[index] != labels[index - 1]]


def most_pairs(true: list[int], found: list[int], tolerance: int) -> int:
    """The largest matching, by the assignment that leaves out the fewest."""
    if not true or not found:
        return 0
    close = np.abs(np.subtract.outer(true, found)) <= tolerance
    return int(close[linear_sum_assignment(close, maximize=True)].sum())


# Sequences


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([], []), ([3], [3]), ([3, 3, 3], [3]), ([1, 1, 2, 1, 1, 0], [1, 2, 1, 0]), ([0, 1], [0, 1])],
)
def test_repeats_are_removed(labels, expected):
    collapsed = collapse(np.array(labels, int))
    assert collapsed.tolist() == expected
    assert collapsed.dtype == int


def test_measures_by_hand():
    # a a b b c c against a b b b c d: the boundary between a and b comes one frame early and d is inserted.
    truth, found = [np.array([0, 0, 1, 1, 2, 2])], [np.array([0, 1, 1, 1, 2, 3])]
    exact, near = Tagging(truth, found, tolerance=0), Tagging(truth, found, tolerance=1)
    assert exact.frame_accuracy() == pytest.approx(4 / 6)
    assert exact.phone_error_rate() == pytest.approx(1 / 3)
    # Boundaries at 2 and 4 against those at 1, 4 and 5.
    assert exact.boundary_f1() == pytest.approx(2 * 1 / (2 + 3))
    assert near.boundary_f1() == pytest.approx(2 * 2 / (2 + 3))


def test_a_phone_error_rate_of_more_than_one():
    tagging = Tagging([np.array([0, 0, 0, 0])], [np.array([1, 2, 1, 2])], tolerance=0)
    assert tagging.phone_error_rate() == 4
    assert tagging.frame_accuracy() == 0


def test_perfect_tagging():
    truth, _ = sentences(1)
    tagging = Tagging(truth, truth, tolerance=0)
    assert tagging.frame_accuracy() == 1
    assert tagging.phone_error_rate() == 0
    assert tagging.boundary_f1() == 1
    assert tagging.sentence_accuracy.tolist() == [1] * len(truth)
    assert tagging.sentence_error.tolist() == [0] * len(truth)


@pytest.mark.parametrize("seed", range(5))
def test_errors_agree_with_the_recurrence(seed):
    truth, found = sentences(seed)
    tagging = Tagging(truth, found, tolerance=2)
    distances = [edits(phones(true), phones(guess)) for true, guess in zip(truth, found, strict=True)]
    numbers = [len(phones(true)) for true in truth]
    assert sum(distances) > 5
    assert tagging.phone_error_rate() == pytest.approx(sum(distances) / sum(numbers))
    np.testing.assert_allclose(tagging.sentence_error, np.divide(distances, numbers))


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_agrees_with_scikit_learn(seed):
    truth, found = sentences(seed)
    tagging = Tagging(truth, found, tolerance=2)
    assert tagging.frame_accuracy() == pytest.approx(accuracy_score(np.concatenate(truth), np.concatenate(found)))
    expected = [accuracy_score(true, guess) for true, guess in zip(truth, found, strict=True)]
    np.testing.assert_allclose(tagging.sentence_accuracy, expected)


@pytest.mark.parametrize("tolerance", [0, 1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_as_many_boundaries_are_paired_as_can_be(seed, tolerance):
    truth, found = sentences(seed, number=30)
    places = [(changes(true), changes(guess)) for true, guess in zip(truth, found, strict=True)]
    pairs = sum(most_pairs(true, guess, tolerance) for true, guess in places)
    total = sum(len(true) + len(guess) for true, guess in places)
    assert Tagging(truth, found, tolerance=tolerance).boundary_f1() == pytest.approx(2 * pairs / total)


def test_a_boundary_is_paired_once():
    # One true boundary, at 4, and found ones at 3, 4 and 5.
    truth, found = [np.array([0, 0, 0, 0, 1, 1, 1, 1])], [np.array([0, 0, 0, 2, 3, 1, 1, 1])]
    assert Tagging(truth, found, tolerance=2).boundary_f1() == pytest.approx(2 * 1 / (1 + 3))


def test_pairing_leaves_the_nearest_to_another_where_that_pairs_more():
    # True boundaries at 3 and 5, found ones at 1 and 3: pairing 3 with 3 would leave 5 and 1 alone.
    truth, found = [np.array([0, 0, 0, 1, 1, 2, 2])], [np.array([0, 1, 1, 2, 2, 2, 2])]
    assert Tagging(truth, found, tolerance=2).boundary_f1() == 1


# Weights


@pytest.mark.parametrize("seed", range(5))
def test_whole_weights_are_repeated_sentences(seed):
    truth, found = sentences(seed)
    weights = np.random.default_rng(seed + 100).integers(0, 4, len(truth)).astype(float)
    tagging = Tagging(truth, found, tolerance=1)
    other = Tagging(repeated(truth, weights), repeated(found, weights), tolerance=1)
    assert tagging.frame_accuracy(weights) == pytest.approx(other.frame_accuracy())
    assert tagging.phone_error_rate(weights) == pytest.approx(other.phone_error_rate())
    assert tagging.boundary_f1(weights) == pytest.approx(other.boundary_f1())
    assert tagging.frame_accuracy(np.ones(len(truth))) == tagging.frame_accuracy()


def test_without_weight_there_is_no_figure():
    truth, found = [np.array([0, 0]), np.array([0, 1])], [np.array([0, 0]), np.array([1, 1])]
    tagging = Tagging(truth, found, tolerance=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for measure in (tagging.frame_accuracy, tagging.phone_error_rate, tagging.boundary_f1):
            assert np.isnan(measure(np.zeros(2)))
        assert tagging.boundary_f1(np.array([1.0, 0.0])) == 1  # there is none, and none was found
        assert tagging.boundary_f1(np.array([0.0, 1.0])) == 0
    assert tagging.frame_accuracy(np.array([1.0, 0.0])) == 1


def test_frames_without_a_label_count_for_nothing():
    truth = np.array([0, 0, 1, 1, -1, -1, -1, 1, 2, 2])
    found = np.array([0, 0, 1, 3, 4, 5, 0, 1, 1, 2])
    tagging = Tagging([truth], [found], tolerance=0)
    assert tagging.frame_accuracy() == 5 / 7
    assert tagging.phone_error_rate() == 1 / 4  # of 0 1 – 1 2, to which 3 was added
    assert tagging.boundary_f1() == 2 * 1 / (2 + 3)  # of those at 2 and 8 found at 2, 3 and 9
    assert tagging.sentence_accuracy.tolist() == [5 / 7]
    whole = Tagging([np.array([0, 0, 1, 1]), np.array([1, 2, 2])], [found[:4], found[7:]], tolerance=0)
    assert whole.frame_accuracy() == tagging.frame_accuracy()
    assert whole.boundary_f1() == tagging.boundary_f1()


def test_intervals_of_a_measure_hold_it():
    truth, found = sentences(3, number=60)
    estimate = bootstrap(Tagging(truth, found, tolerance=2).phone_error_rate, 60, resamples=200)
    assert estimate["low"] < estimate["value"] < estimate["high"]


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([], [], "0 true and 0 found sentences"),
        ([[0]], [[0], [1]], "1 true and 2 found sentences"),
        ([[0], [0, 1]], [[0], [0]], "sentence 1: 2 true and 1 found labels"),
        ([[0], []], [[0], []], "sentence 1: 0 true"),
        ([[0], [-1, -1]], [[0], [0, 0]], "sentence 1: 0 true and 2 found labels"),
    ],
)
def test_sentences_that_cannot_be_compared_are_refused(truth, found, message):
    with pytest.raises(ValueError, match=message):
        Tagging([np.array(true, int) for true in truth], [np.array(guess, int) for guess in found], tolerance=2)


# Groups of frames


def test_accuracy_by_group_is_that_of_the_repeated_sentences():
    random = np.random.default_rng(4)
    correct, group, sentence = random.random(500) < 0.7, random.integers(0, 5, 500), random.integers(0, 20, 500)
    weights = random.integers(0, 4, 20).astype(float)
    accuracy = accuracy_by(correct, group, sentence, 6, 20)(weights)
    assert accuracy.shape == (6,)
    for index in range(5):
        members = group == index
        expected = np.average(correct[members], weights=weights[sentence[members]])
        assert accuracy[index] == pytest.approx(expected)
    assert np.isnan(accuracy[5])


def test_accuracy_by_group_is_a_statistic_of_the_bootstrap():
    correct = np.array([True, False, True, True])
    statistic = accuracy_by(correct, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2, 2)
    first, second = bootstrap(lambda weights: statistic(weights).tolist(), 2, resamples=50)
    assert first == {"value": 0.5, "low": 0, "high": 1}
    assert second == {"value": 1, "low": 1, "high": 1}


def test_a_group_without_weight_has_no_accuracy():
    statistic = accuracy_by(np.array([True, True]), np.array([0, 1]), np.array([0, 1]), 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(statistic(np.array([0.0, 2.0])), [np.nan, 1])


@pytest.mark.parametrize(
    ("group", "sentence", "message"),
    [
        ([0], [0, 0], "group 1, sentence 2"),
        ([0, 2], [0, 0], "group: codes from 0 to 2 instead of 0 to 1"),
        ([0, 1], [0, 3], "sentence: codes from 0 to 3 instead of 0 to 2"),
        ([-1, 1], [0, 0], "group: codes from -1"),
    ],
)
def test_codes_out_of_range_are_refused(group, sentence, message):
    with pytest.raises(ValueError, match=message):
        accuracy_by(np.array([True, False]), np.array(group), np.array(sentence), 2, 3)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 1, 1, 2, 2, 2, 2, 2], [2, 1, 0, 0, 1, 2, 3, 4]),
        ([1, 1, 1, 2, 2, 2, 3], [2, 1, 0, 0, 1, 0, 0]),
        ([0, 1, 0], [0, 0, 0]),
        ([5, 5, 5], [3, 3, 3]),
        ([5], [1]),
        ([], []),
    ],
)
def test_distance_to_the_nearest_boundary(labels, expected):
    distance = boundary_distance(np.array(labels, int))
    assert distance.tolist() == expected
    assert np.issubdtype(distance.dtype, np.integer)


@pytest.mark.parametrize("seed", range(5))
def test_distance_agrees_with_its_definition(seed):
    for labels in sentences(seed)[1]:
        starts = changes(labels)
        expected = [
            min((frame - start if frame >= start else start - 1 - frame for start in starts), default=len(labels))
            for frame in range(len(labels))
        ]
        assert boundary_distance(labels).tolist() == expected


def test_confusion_counts_true_classes_in_rows():
    truth, found = np.array([0, 0, 0, 2, 2]), np.array([0, 1, 1, 2, 0])
    counts = confusion(truth, found, 4)
    assert counts.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert np.issubdtype(counts.dtype, np.integer)


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([0, 2], [0, 1], "truth: codes from 0 to 2 instead of 0 to 1"),
        ([0, 1], [0, -1], "found: codes from -1 to 0"),
        ([0, 1], [0], "inconsistent numbers of samples"),
        ([], [], "empty"),
    ],
)
def test_a_confusion_that_cannot_be_counted_is_refused(truth, found, message):
    with pytest.raises(ValueError, match=message):
        confusion(np.array(truth, int), np.array(found, int), 2)

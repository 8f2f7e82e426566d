import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from reports.classification import BINS, LEAST, Classification, reliability
from reports.metrics import bootstrap


def answers(seed: int, number: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that follow them here and there."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, number)
    scores = random.normal(size=(number, classes)) + 1.5 * np.eye(classes)[labels]
    exponents = np.exp(2 * scores)
    return labels, exponents / exponents.sum(axis=1, keepdims=True)


def calibration_error(labels, probabilities, bins):
    """Guo et al. 2017, equation 3, as it stands there: bin m is from (m - 1) / M, without it, to m / M."""
    error = 0.0
    for m in range(1, bins + 1):
        members = [row for row in range(len(labels)) if (m - 1) / bins < max(probabilities[row]) <= m / bins]
        if members:
            accuracy = sum(int(np.argmax(probabilities[row]) == labels[row]) for row in members) / len(members)
            confidence = sum(max(probabilities[row]) for row in members) / len(members)
            error += len(members) / len(labels) * abs(accuracy - confidence)
    return error


def all_measures(classification, weights=None):
    return [
        classification.accuracy(weights),
        classification.log_loss(weights),
        classification.calibration_error(weights),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_measures_agree_with_scikit_learn_and_a_loop(seed):
    labels, probabilities = answers(seed)
    accuracy, loss, error = all_measures(Classification(labels, probabilities))
    assert accuracy == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))
    assert 0.5 < accuracy < 0.95
    assert loss == pytest.approx(log_loss(labels, probabilities, labels=range(5)))
    assert error == pytest.approx(calibration_error(labels, probabilities, BINS))
    assert error > 0.02


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_as_good_as_repeated_rows(seed):
    labels, probabilities = answers(seed, 60)
    weights = np.random.default_rng(seed).multinomial(60, np.ones(60) / 60)
    repeated = Classification(labels.repeat(weights), probabilities.repeat(weights, axis=0))
    weighted = all_measures(Classification(labels, probabilities), weights)
    assert weighted == pytest.approx(all_measures(repeated))
    assert weighted != pytest.approx(all_measures(Classification(labels, probabilities)), rel=1e-3)
    doubled = all_measures(Classification(labels, probabilities), np.full(60, 2.0))
    assert doubled == pytest.approx(all_measures(Classification(labels, probabilities)))


def test_measures_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.25, 0.75]])
    classification = Classification(np.array([0, 1, 0, 0]), probabilities)
    assert classification.accuracy() == 0.5
    assert classification.log_loss() == pytest.approx(-np.log([0.9, 0.1, 0.55, 0.25]).mean())
    # Bins 13/15..14/15 (two), 8/15..9/15, 11/15..12/15.
    assert classification.calibration_error() == pytest.approx((2 * 0.4 + 0.45 + 0.75) / 4)


def test_a_lower_probability_of_the_true_class_counts_as_the_least():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert Classification(np.array([0, 0]), sure).log_loss() == 0
    assert Classification(np.array([0, 1]), sure).log_loss() == pytest.approx(-np.log(LEAST) / 2)
    assert Classification(np.array([1, 1]), np.array([[1 - 1e-9, 1e-9]] * 2)).log_loss() == pytest.approx(-np.log(1e-9))


def test_the_first_of_equal_probabilities_is_found():
    classification = Classification(np.array([1, 2]), np.full((2, 3), 1 / 3))
    assert classification.accuracy() == 0
    assert Classification(np.array([0, 0]), np.full((2, 3), 1 / 3)).accuracy() == 1


def test_a_calibrated_classifier_has_a_small_error():
    random = np.random.default_rng(7)
    confidence = random.uniform(0.5, 1, 100_000)
    probabilities = np.column_stack([confidence, 1 - confidence])
    labels = (random.random(100_000) > confidence).astype(int)
    assert Classification(labels, probabilities).calibration_error() < 0.01
    # One that is surer than it should be, always by a tenth.
    surer = np.minimum(confidence + 0.1, 1)
    expected = (surer - confidence).mean()
    shifted = Classification(labels, np.column_stack([surer, 1 - surer])).calibration_error()
    assert shifted == pytest.approx(expected, abs=0.01)


def test_intervals_hold_the_value():
    labels, probabilities = answers(3)
    classification = Classification(labels, probabilities)
    accuracy, loss = bootstrap(lambda weights: all_measures(classification, weights)[:2], len(labels), resamples=200)
    for estimate in (accuracy, loss):
        assert estimate["low"] < estimate["value"] < estimate["high"]
    deviation = np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / len(labels))
    assert accuracy["high"] - accuracy["low"] == pytest.approx(2 * 1.96 * deviation, rel=0.2)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_reliability_counts_what_the_error_is_made_of(bins):
    labels, probabilities = answers(11)
    points = reliability(labels, probabilities, bins, cases=1)
    found, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    assert sum(point["count"] for point in points) == len(labels)
    for point in points:
        members = (point["low"] < confidence) & (confidence <= point["high"])
        assert point["count"] == members.sum() > 0
        assert point["confidence"] == pytest.approx(confidence[members].mean())
        assert point["accuracy"] == pytest.approx(np.mean(found[members] == labels[members]))
        assert point["high"] - point["low"] == pytest.approx(1 / bins)
    error = sum(point["count"] * abs(point["accuracy"] - point["confidence"]) for point in points) / len(labels)
    assert error == pytest.approx(calibration_error(labels, probabilities, bins))
    assert [point["low"] for point in points] == sorted(point["low"] for point in points)


def test_a_confidence_on_an_edge_is_in_the_lower_bin_and_empty_bins_are_left_out():
    probabilities = np.array([[0.6, 0.4], [0.61, 0.39], [1.0, 0.0]])
    points = reliability(np.array([0, 1, 0]), probabilities, 5, cases=1)
    assert [(point["low"], point["high"], point["count"]) for point in points] == [
        (0.4, 0.6, 1),
        (0.6, 0.8, 1),
        (0.8, 1.0, 1),
    ]
    assert [point["accuracy"] for point in points] == [1, 0, 1]


@pytest.mark.parametrize(
    ("counts", "merged"),
    [  # rows of each fifth of the confidence, from the second, and the ends and rows of the bins
        ([20, 20, 20, 20], [(0.2, 0.4, 20), (0.4, 0.6, 20), (0.6, 0.8, 20), (0.8, 1.0, 20)]),
        ([0, 19, 20, 400], [(0.4, 0.8, 39), (0.8, 1.0, 400)]),
        ([0, 30, 1, 400], [(0.4, 0.8, 31), (0.8, 1.0, 400)]),
        ([30, 0, 1, 400], [(0.2, 0.8, 31), (0.8, 1.0, 400)]),
        ([1, 2, 3, 4], [(0.2, 1.0, 10)]),
        ([0, 0, 0, 3], [(0.8, 1.0, 3)]),
        ([50, 0, 0, 3], [(0.2, 1.0, 53)]),
    ],
)
def test_bins_of_few_rows_are_merged(counts, merged):
    confidence = np.repeat([0.3, 0.5, 0.7, 0.9], counts)
    rest = (1 - confidence[:, None]) / 4  # of five classes, none as probable as the first
    probabilities = np.column_stack([confidence, np.repeat(rest, 4, axis=1)])
    labels = np.arange(len(confidence)) % 2
    points = reliability(labels, probabilities, 5)
    assert [(point["low"], point["high"], point["count"]) for point in points] == merged
    for point in points:
        inside = (confidence > point["low"]) & (confidence <= point["high"])
        assert point["accuracy"] == pytest.approx(np.mean(labels[inside] == 0))
        assert point["confidence"] == pytest.approx(confidence[inside].mean())


HALVES = [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.zeros((0, 2)), "labels of (0,) and probabilities of (0, 2)"),
        ([0], [0.5, 0.5], "probabilities of (2,)"),
        ([0, 1], HALVES, "labels of (2,)"),
        ([[0]], HALVES, "labels of (1, 1)"),
        ([2], HALVES, "found 2 to 2, expected integers from 0 to 1"),
        ([-1], HALVES, "found -1 to -1"),
        ([0.5], HALVES, "expected integers"),
        ([0, 0], [*HALVES, [0.5, 0.4]], "row 1 is [0.5 0.4], expected numbers from 0 that sum to 1"),
        ([0], [[1.5, -0.5]], "row 0"),
        ([0], [[np.nan, 0.5]], "row 0 is [nan 0.5]"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels, probabilities, message):
    for judge in (Classification, reliability):
        with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")):
            judge(np.array(labels, float if 0.5 in labels else int), np.array(probabilities))


def test_there_is_a_bin():
    with pytest.raises(ValueError, match="0 bins"):
        reliability(np.array([0]), np.array(HALVES), 0)

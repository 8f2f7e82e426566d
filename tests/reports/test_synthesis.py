import numpy as np
import pytest
from scipy import linalg

from reports import synthesis


def sample(rows, features=4, *, seed=0, shift=0.0, scale=1.0):
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, features)) @ np.diag(np.arange(1, features + 1)) * scale + shift


# Fréchet distance


def test_frechet_distance_is_that_of_the_two_normal_distributions():
    real, generated = sample(50), sample(40, seed=1, shift=0.3, scale=1.2)
    first, second = (np.cov(features, rowvar=False) for features in (real, generated))
    expected = ((real.mean(0) - generated.mean(0)) ** 2).sum()
    expected += np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert synthesis.frechet_distance(real, generated) == pytest.approx(expected, rel=1e-8)
    assert synthesis.frechet_distance(generated, real) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_in_one_dimension_is_that_of_means_and_deviations():
    real, generated = sample(30, 1), sample(20, 1, seed=1, shift=2.0, scale=3.0)
    expected = (real.mean() - generated.mean()) ** 2 + (real.std(ddof=1) - generated.std(ddof=1)) ** 2
    assert synthesis.frechet_distance(real, generated) == pytest.approx(expected)


def test_frechet_distance_of_a_shift_is_its_square_and_of_equal_samples_zero():
    real = sample(60)
    shift = np.array([3, 0, 4, 0])
    assert synthesis.frechet_distance(real, real + shift) == pytest.approx(25)
    assert synthesis.frechet_distance(real, real[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_bears_features_that_never_vary_and_few_pictures():
    real, generated = sample(3, 8), sample(3, 8, seed=1)
    real[:, 2] = generated[:, 2] = 5.0
    assert 0 < synthesis.frechet_distance(real, generated) < np.inf


# Precision and recall


def test_within_follows_the_definition():
    pictures, others = sample(40, seed=1, scale=2.0), sample(30)
    between = np.linalg.norm(others[:, None] - others[None], axis=-1)
    radii = np.sort(between, axis=1)[:, 3]
    distances = np.linalg.norm(pictures[:, None] - others[None], axis=-1)
    expected = (distances <= radii).any(axis=1)
    assert 0 < expected.sum() < len(pictures)
    np.testing.assert_array_equal(synthesis.within(pictures, others), expected)


def test_within_in_blocks_is_within_at_once(monkeypatch):
    pictures, others = sample(25, seed=1, scale=2.0), sample(30)
    expected = synthesis.within(pictures, others)
    monkeypatch.setattr(synthesis, "_DISTANCES", 90)
    np.testing.assert_array_equal(synthesis.within(pictures, others), expected)


def test_a_lost_mode_costs_recall_and_pictures_of_nothing_cost_precision():
    one, other = sample(100, shift=0.0), sample(100, seed=1, shift=100.0)
    real = np.concatenate([one, other])
    collapsed = sample(200, seed=2)
    assert synthesis.within(collapsed, real).mean() > 0.8
    assert synthesis.within(real, collapsed)[:100].mean() > 0.8
    assert not synthesis.within(real, collapsed)[100:].any()
    noise = np.concatenate([sample(100, seed=3), sample(100, seed=4, shift=-100.0)])
    assert not synthesis.within(noise, real)[100:].any()


# Neighbours


def test_nearest_is_the_nearest_in_pixels():
    random = np.random.default_rng(0)
    pictures, others = random.integers(0, 255, (7, 3, 3, 1)), random.integers(0, 255, (11, 3, 3, 1))
    distances, numbers = synthesis.nearest(pictures, others)
    between = np.sqrt(((pictures[:, None] - others[None]) ** 2).sum((2, 3, 4)))
    np.testing.assert_array_equal(numbers, between.argmin(1))
    np.testing.assert_allclose(distances, between.min(1))


@pytest.mark.parametrize("measure", [synthesis.frechet_distance, synthesis.within])
@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (sample(9), sample(9, 3), r"\(9, 4\) and \(9, 3\)"),
        (sample(9)[0], sample(9), r"\(4,\)"),
        (sample(9) * np.nan, sample(9), "finite"),
        (sample(9), sample(9)[:1], "two pictures or more"),
    ],
)
def test_samples_that_cannot_be_compared_are_refused(measure, first, second, said):
    with pytest.raises(ValueError, match=said):
        measure(first, second)


def test_a_sample_without_enough_neighbours_is_refused():
    with pytest.raises(ValueError, match="3 pictures have no 3 neighbours"):
        synthesis.within(sample(9), sample(3), 3)
    # By default all the others, if they are fewer than three.
    points = np.array([[0.0], [1.0], [3.0]])  # whose farthest others are at 3, 2 and 3
    assert synthesis.within(np.array([[-3.1], [-2.9], [5.9], [6.1]]), points).tolist() == [False, True, True, False]

import itertools

import keras
import numpy as np
import pytest

from templates.dbn import RBM, dbn, generate, stack

SMALL = {"visible_units": 4, "hidden_units": 3}
KINDS = ("bernoulli", "gaussian")


def values(tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def states(units: int) -> np.ndarray:
    """Every binary state of so many units, (2 ** units, units)."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=units)))


def build(*, scale: float = 1.0, seed: int = 0, **options) -> RBM:
    """A small RBM of random weights, biases included."""
    rbm = RBM(**{**SMALL, "seed": seed, **options})
    random = np.random.default_rng(seed)
    for variable in (rbm.kernel, rbm.visible_bias, rbm.hidden_bias):
        variable.assign(random.normal(scale=scale, size=variable.shape))
    return rbm


def parameters(rbm: RBM) -> list[np.ndarray]:
    return [values(variable).astype(np.float64) for variable in (rbm.kernel, rbm.visible_bias, rbm.hidden_bias)]


def energies(rbm: RBM, v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The definition, unit by unit, of each row of v with each row of h: (len(v), len(h))."""
    kernel, visible_bias, hidden_bias = parameters(rbm)
    found = np.zeros((len(v), len(h)))
    for (row, a), (column, b) in itertools.product(enumerate(v), enumerate(h)):
        for i in range(len(a)):
            gaussian = rbm.visible == "gaussian"
            found[row, column] += (a[i] - visible_bias[i]) ** 2 / 2 if gaussian else -a[i] * visible_bias[i]
            for j in range(len(b)):
                found[row, column] -= a[i] * kernel[i, j] * b[j]
        found[row, column] -= b @ hidden_bias
    return found


def joint(rbm: RBM) -> np.ndarray:
    """P(v, h) of all states of a Bernoulli RBM, by enumeration: (2 ** visible_units, 2 ** hidden_units)."""
    found = np.exp(-energies(rbm, states(rbm.visible_units), states(rbm.hidden_units)))
    return found / found.sum()


def exact_log_partition(rbm: RBM) -> float:
    """By enumeration of both layers, or of the hidden one and the integral over Gaussian units in closed form."""
    h = states(rbm.hidden_units)
    if rbm.visible == "bernoulli":
        return float(np.log(np.exp(-energies(rbm, states(rbm.visible_units), h)).sum()))
    kernel, visible_bias, hidden_bias = parameters(rbm)
    # ∫ exp(-|v - b|²/2 + v·m) dv = (2π)^(n/2) exp(b·m + |m|²/2) with m = W h.
    m = h @ kernel.T
    inner = h @ hidden_bias + m @ visible_bias + (m**2).sum(1) / 2
    return float(np.log(np.exp(inner).sum()) + rbm.visible_units / 2 * np.log(2 * np.pi))


def exact_log_likelihood(rbm: RBM, v: np.ndarray) -> float:
    """Mean log P(v) by enumeration."""
    weights = np.exp(-energies(rbm, v, states(rbm.hidden_units))).sum(1)
    return float(np.log(weights).mean() - exact_log_partition(rbm))


def frequencies(samples: np.ndarray) -> np.ndarray:
    """Share of each binary state among rows, in the order of `states`."""
    numbers = samples.astype(int) @ (2 ** np.arange(samples.shape[1])[::-1])
    return np.bincount(numbers, minlength=2 ** samples.shape[1]) / len(samples)


def rows(kind: str, count: int, units: int = 4, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, units)) if kind == "gaussian" else random.random((count, units)).round()


# Energies and probabilities against enumeration


@pytest.mark.parametrize("kind", KINDS)
def test_free_energy_sums_over_the_hidden_states(kind):
    rbm = build(visible=kind)
    v = rows(kind, 20)
    expected = -np.log(np.exp(-energies(rbm, v, states(3))).sum(axis=1))
    np.testing.assert_allclose(values(rbm.free_energy(v)), expected, rtol=1e-5, atol=1e-5)


def test_free_energy_of_large_inputs_stays_finite():
    rbm = build(scale=300.0)
    kernel, visible_bias, hidden_bias = parameters(rbm)
    v = states(4)
    expected = -v @ visible_bias - np.maximum(v @ kernel + hidden_bias, 0).sum(1)
    np.testing.assert_allclose(values(rbm.free_energy(v)), expected, rtol=1e-5, atol=0.5)  # float32 at 1e3


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_probabilities_are_those_of_the_energy(kind):
    rbm = build(visible=kind)
    v, h = rows(kind, 20), states(3)
    weights = np.exp(-energies(rbm, v, h))
    expected = weights @ h / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(values(rbm.hidden_probabilities(v)), expected, atol=1e-6)
    np.testing.assert_allclose(rbm.predict(v, verbose=0), expected, atol=1e-6)


def test_visible_mean_is_that_of_the_energy():
    rbm = build()
    v, h = states(4), states(3)
    weights = np.exp(-energies(rbm, v, h)).T
    np.testing.assert_allclose(values(rbm.visible_mean(h)), weights @ v / weights.sum(axis=1, keepdims=True), atol=1e-6)


def test_gaussian_densities_by_numeric_integration():
    rbm = build(visible="gaussian", visible_units=2, seed=2)
    step = 0.1
    axis = np.arange(-12, 12, step)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)  # (places, 2)
    h = states(3)
    weights = np.exp(-energies(rbm, grid, h))  # (places, 8)
    log_partition = np.log(weights.sum() * step**2)
    assert log_partition == pytest.approx(exact_log_partition(rbm), abs=1e-6)
    assert rbm.log_partition(steps=2000, seed=0).value == pytest.approx(log_partition, abs=0.1)

    np.testing.assert_allclose(values(rbm.visible_mean(h)), (weights.T @ grid) / weights.sum(0)[:, None], atol=1e-5)
    density = np.exp(rbm.log_likelihood(grid, log_partition))
    assert density.sum() * step**2 == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(density, np.exp(-values(rbm.free_energy(grid)) - log_partition), rtol=1e-3, atol=1e-7)
    # The chain's samples have the density's moments: conditional variance 1, and all that the hidden units add.
    samples = values(rbm.gibbs(np.zeros((20000, 2)), 30, seed=3))
    mean = density @ grid * step**2
    covariance = (density[:, None] * (grid - mean)).T @ (grid - mean) * step**2
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.12)


# Likelihood


def test_log_likelihood_is_exact_and_sums_to_one():
    rbm = build()
    found = rbm.log_likelihood(states(4), exact_log_partition(rbm))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.log(joint(rbm).sum(axis=1)), atol=1e-6)
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_annealed_importance_sampling_finds_the_partition_function(kind, with_data):
    rbm = build(visible=kind, visible_units=8, hidden_units=5, seed=5, scale=0.5 if kind == "gaussian" else 1.0)
    data = rows(kind, 50, 8) if with_data else None
    found = rbm.log_partition(chains=100, steps=1000, seed=0, data=data)
    exact = exact_log_partition(rbm)
    assert found.value == pytest.approx(exact, abs=0.1)
    assert found.low < exact < found.high
    assert found.low < found.value < found.high
    assert found == rbm.log_partition(chains=100, steps=1000, seed=0, data=data)
    assert found != rbm.log_partition(chains=100, steps=1000, seed=1, data=data)


def test_partition_function_without_weights_needs_no_sampling():
    rbm = build()
    rbm.kernel.assign(np.zeros((4, 3)))
    biases = parameters(rbm)[1:]
    expected = sum(np.log1p(np.exp(bias)).sum() for bias in biases)
    assert exact_log_partition(rbm) == pytest.approx(expected, abs=1e-9)
    # Data of the mean that the visible biases have: only the hidden biases are left to anneal, which is exact.
    rbm.visible_bias.assign(np.zeros(4))
    expected += 4 * np.log(2) - np.log1p(np.exp(biases[0])).sum()
    found = rbm.log_partition(chains=2, steps=3, seed=0, data=np.full((10, 4), 0.5))
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.standard_error == pytest.approx(0, abs=1e-9)


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    rbm = build(visible_units=8, hidden_units=5, seed=5)
    found = [rbm.log_partition(chains=50, steps=50, seed=seed) for seed in range(60)]
    spread = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.3)
    np.testing.assert_allclose(np.exp(found[0].high - found[0].value), 1 + 3 * found[0].standard_error)
    np.testing.assert_allclose(np.exp(found[0].low - found[0].value), 1 - 3 * found[0].standard_error)


def test_few_unlike_chains_have_no_lower_bound():
    rbm = build(scale=4.0, visible_units=8, hidden_units=5)
    assert rbm.log_partition(chains=3, steps=2, seed=0).low == -np.inf
    assert rbm.log_partition(chains=1, steps=2, seed=0).high == np.inf


# Samples


def test_gibbs_step_has_the_distribution_of_the_conditionals():
    rbm = build()
    table = joint(rbm)
    given_v, given_h = table / table.sum(1, keepdims=True), (table / table.sum(0)).T
    start = 5
    v = np.tile(states(4)[start], (40000, 1))
    found = frequencies(values(rbm.gibbs(v, 1, seed=0)))
    np.testing.assert_allclose(found, given_v[start] @ given_h, atol=0.01)


def test_long_chains_have_the_marginal_distribution():
    rbm = build(scale=0.7)
    found = frequencies(values(rbm.gibbs(np.zeros((40000, 4)), 25, seed=0)))
    np.testing.assert_allclose(found, joint(rbm).sum(1), atol=0.01)


def test_sample_means_approach_the_probabilities():
    rbm = build()
    p_hidden, p_visible = values(rbm.hidden_probabilities(states(4)[[6]])), values(rbm.visible_mean(states(3)[[5]]))
    h = values(rbm.sample_hidden(np.tile(p_hidden, (40000, 1)), 1))
    v = values(rbm.sample_visible(np.tile(p_visible, (40000, 1)), 2))
    assert set(np.unique(h)) == set(np.unique(v)) == {0.0, 1.0}
    np.testing.assert_allclose(h.mean(0), p_hidden[0], atol=0.01)
    np.testing.assert_allclose(v.mean(0), p_visible[0], atol=0.01)
    np.testing.assert_allclose(np.corrcoef(h.T), np.eye(3), atol=0.02)  # independent of each other
    gaussian = values(build(visible="gaussian").sample_visible(np.tile([0.0, 1.0, -2.0, 5.0], (40000, 1)), 3))
    np.testing.assert_allclose(gaussian.mean(0), [0, 1, -2, 5], atol=0.02)
    np.testing.assert_allclose(np.cov(gaussian.T), np.eye(4), atol=0.03)


def test_samples_follow_the_seed_and_the_models_generator_moves_on():
    rbm = build(scale=0.1)
    v = np.zeros((50, 4))
    first, again, other = (values(rbm.gibbs(v, 2, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    own = [values(rbm.gibbs(v, 2)) for _ in range(2)]
    assert np.any(own[0] != own[1])
    np.testing.assert_array_equal(values(build(scale=0.1).gibbs(v, 2)), own[0])
    np.testing.assert_array_equal(values(rbm.gibbs(v, 0)), v)


# The gradient


def replay(rbm: RBM, x: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The means of the reconstruction, and v_k, that an RBM's next training step will draw from each row."""
    mean = rbm.visible_mean(rbm.sample_hidden(rbm.hidden_probabilities(x)))
    v = rbm.gibbs(rbm.sample_visible(mean), steps - 1)
    return values(mean).astype(np.float64), values(v).astype(np.float64)


def analytic(rbm: RBM, x: np.ndarray, end: np.ndarray) -> list[np.ndarray]:
    """⟨v P(h|v)⟩, ⟨v⟩ and ⟨P(h|v)⟩ of the data less those at the chains' ends."""
    kernel, _, hidden_bias = parameters(rbm)

    def moments(v):
        h = 1 / (1 + np.exp(-(v @ kernel + hidden_bias)))
        return v.T @ h / len(v), v.mean(0), h.mean(0)

    return [data - model for data, model in zip(moments(x), moments(end), strict=True)]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_training_step_is_contrastive_divergence(kind, steps):
    options = {"visible": kind, "gibbs_steps": steps, "seed": 3}
    rbm, twin = build(**options), build(**options)
    x = rows(kind, 64).astype(np.float32)
    mean, end = replay(twin, x, steps)
    expected = analytic(twin, x, end)
    assert all(np.abs(change).max() > 0.02 for change in expected)

    rbm.compile(keras.optimizers.SGD(1.0))
    logs = rbm.train_on_batch(x, return_dict=True)
    for old, new, change in zip(parameters(twin), parameters(rbm), expected, strict=True):
        np.testing.assert_allclose(new - old, change, atol=2e-6)
    assert logs["reconstruction_error"] == pytest.approx(((x - mean) ** 2).mean(), rel=1e-5)
    free_energy = values(twin.free_energy(x)).mean() - values(twin.free_energy(end)).mean()
    assert logs["loss"] == pytest.approx(free_energy, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_step_with_persistent_chains(kind):
    rbm = build(visible=kind, gibbs_steps=2, chains=50)
    x = rows(kind, 64)
    rbm.compile(keras.optimizers.SGD(1.0))
    ends = [values(rbm.chain_states)]
    assert np.std(ends[0]) == pytest.approx(1.0 if kind == "gaussian" else 0.5, abs=0.1)
    for _ in range(2):
        twin = build(visible=kind)
        for copy, variable in zip(twin.trainable_variables, rbm.trainable_variables, strict=True):
            copy.assign(values(variable).copy())
        rbm.train_on_batch(x)
        ends.append(values(rbm.chain_states))
        for old, new, change in zip(
            parameters(twin), parameters(rbm), analytic(twin, x, ends[-1].astype(np.float64)), strict=True
        ):
            np.testing.assert_allclose(new - old, change, atol=2e-6)
    assert np.any(ends[0] != ends[1]) and np.any(ends[1] != ends[2])
    rbm.test_on_batch(x)
    np.testing.assert_array_equal(values(rbm.chain_states), ends[2])


def test_persistent_chains_go_on_from_where_they_are():
    # So strongly tied, a chain stays what it is: both of its units 0, or both 1.
    rbm = RBM(visible_units=2, hidden_units=1, chains=40, gibbs_steps=3, seed=0)
    rbm.kernel.assign([[40.0], [40.0]])
    rbm.visible_bias.assign([-20.0, -20.0])
    rbm.hidden_bias.assign([-40.0])
    start = np.repeat([[0.0, 0.0], [1.0, 1.0]], [13, 27], axis=0)
    rbm.chain_states.assign(start)
    rbm.compile(keras.optimizers.SGD(0.0))
    rbm.fit(np.zeros((6, 2)), batch_size=2, epochs=2, verbose=0)
    np.testing.assert_array_equal(values(rbm.chain_states), start)


def test_weight_decay_and_sparsity_add_their_gradients():
    x = rows("bernoulli", 64)
    rate = {"sparsity_target": 0.1, "sparsity_cost": 0.3}
    plain, decayed, sparse = build(), build(weight_decay=0.2), build(**rate)
    kernel, _, hidden_bias = parameters(plain)
    losses = []
    for rbm in (plain, decayed, sparse):
        rbm.compile(keras.optimizers.SGD(1.0))
        losses.append(rbm.train_on_batch(x, return_dict=True)["loss"])
    np.testing.assert_allclose(parameters(decayed)[0], parameters(plain)[0] - 0.2 * kernel, atol=2e-6)
    np.testing.assert_allclose(parameters(decayed)[2], parameters(plain)[2], atol=1e-6)
    assert losses[1] - losses[0] == pytest.approx(0.1 * (kernel**2).sum(), abs=1e-5)

    def penalty(kernel, hidden_bias):
        q = (1 / (1 + np.exp(-(x @ kernel + hidden_bias)))).mean(0)
        return 0.3 * (0.1 * np.log(0.1 / q) + 0.9 * np.log(0.9 / (1 - q))).sum()

    assert losses[2] - losses[0] == pytest.approx(penalty(kernel, hidden_bias), abs=1e-5)
    small = 1e-6
    for place in np.ndindex(kernel.shape):
        nudge = np.zeros_like(kernel)
        nudge[place] = small
        slope = (penalty(kernel + nudge, hidden_bias) - penalty(kernel - nudge, hidden_bias)) / (2 * small)
        assert parameters(plain)[0][place] - parameters(sparse)[0][place] == pytest.approx(slope, abs=2e-6)
    for place in range(3):
        nudge = small * np.eye(3)[place]
        slope = (penalty(kernel, hidden_bias + nudge) - penalty(kernel, hidden_bias - nudge)) / (2 * small)
        assert parameters(plain)[2][place] - parameters(sparse)[2][place] == pytest.approx(slope, abs=2e-6)


def test_sparsity_draws_the_activation_to_the_target():
    x = rows("bernoulli", 200)
    rbm = RBM(**SMALL, sparsity_target=0.1, sparsity_cost=3.0, seed=0)
    rbm.compile(keras.optimizers.SGD(0.3))
    rbm.fit(x, batch_size=50, epochs=20, verbose=0)
    np.testing.assert_allclose(values(rbm.hidden_probabilities(x)).mean(0), 0.1, atol=0.04)


# Training


def patterns(copies: int, flips: float = 0.05) -> np.ndarray:
    """Two patterns of six binary units in equal number, of whose units this share is flipped."""
    random = np.random.default_rng(0)
    clean = np.repeat([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], copies, axis=0)
    return np.where(random.random(clean.shape) < flips, 1 - clean, clean).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"gibbs_steps": 5}, {"chains": 100}], ids=["CD-1", "CD-5", "persistent"])
def test_exact_likelihood_rises_in_training(options):
    x = patterns(50)
    rbm = RBM(visible_units=6, hidden_units=4, seed=0, **options)
    rbm.compile(keras.optimizers.SGD(0.2))
    likelihood, errors = [exact_log_likelihood(rbm, x)], []
    for _ in range(2):
        errors += rbm.fit(x, batch_size=10, epochs=10, verbose=0).history["reconstruction_error"]
        likelihood.append(exact_log_likelihood(rbm, x))
    assert likelihood[0] == pytest.approx(-6 * np.log(2), abs=0.01)
    assert likelihood[2] > likelihood[1] > likelihood[0] + 0.1
    # What two patterns with flips have: one bit for the pattern, and the entropy of six flips.
    flips = np.abs(x - patterns(50, flips=0.0)).mean()
    best = -np.log(2) + 6 * (flips * np.log(flips) + (1 - flips) * np.log(1 - flips))
    assert best + 0.1 > likelihood[2] > best - 0.5
    assert errors[-1] < 0.1 < 0.24 < errors[0]
    estimate = rbm.log_partition(seed=0, data=x).value
    assert rbm.log_likelihood(x, estimate).mean() == pytest.approx(likelihood[2], abs=0.1)


@pytest.mark.slow
def test_exact_likelihood_of_gaussian_units_rises_in_training():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3)) + 2 * random.integers(0, 2, (400, 1)) * [1, -1, 1]
    x = x - x.mean(0)
    rbm = RBM(visible_units=3, hidden_units=2, visible="gaussian", seed=0)
    before = exact_log_likelihood(rbm, x)
    rbm.compile(keras.optimizers.SGD(0.1))
    rbm.fit(x, batch_size=20, epochs=15, verbose=0)
    normal = -((x**2).sum(1) / 2 + 1.5 * np.log(2 * np.pi)).mean()
    assert before == pytest.approx(normal, abs=0.01)
    assert exact_log_likelihood(rbm, x) > before + 0.3


def test_seeds():
    def train(seed):
        rbm = RBM(**SMALL, seed=seed, chains=5)
        start = rbm.get_weights()
        rbm.compile("sgd")
        rbm.fit(rows("bernoulli", 20), shuffle=False, verbose=0)
        return start, rbm.get_weights()

    for one, same, other in zip(*(train(seed) for seed in (1, 1, 2)), strict=True):
        for a, b in zip(one, same, strict=True):
            np.testing.assert_array_equal(a, b)
        assert any(np.any(a != b) for a, b in zip(one, other, strict=True))
    kernel = RBM(visible_units=100, hidden_units=100, seed=0).get_weights()[0]
    assert kernel.std() == pytest.approx(0.01, rel=0.05)
    assert np.any(RBM(**SMALL).get_weights()[0] != RBM(**SMALL).get_weights()[0])


def test_batches_may_come_from_generators_and_datasets():
    x = rows("bernoulli", 40).astype(np.float32)
    batches = [(x[start : start + 10],) for start in range(0, 40, 10)]

    def train(data, **options):
        rbm = RBM(**SMALL, seed=0, chains=5)
        rbm.compile(keras.optimizers.SGD(0.1, momentum=0.5))
        rbm.fit(data, epochs=2, verbose=0, **options)
        return rbm.get_weights()

    sources = [(batch for batch in batches * 2)]
    tf = pytest.importorskip("tensorflow")
    for data in (x, (x,)):
        sources.append(tf.data.Dataset.from_tensor_slices(data).batch(10).repeat())
    expected = train(x, batch_size=10, shuffle=False)
    for source in sources:
        for a, b in zip(expected, train(source, steps_per_epoch=4), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_variables_are_all_that_training_goes_on_from():
    x = rows("bernoulli", 40)

    def make():
        rbm = RBM(**SMALL, seed=0, chains=5, gibbs_steps=2)
        optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
        rbm.compile(optimizer)
        optimizer.build(rbm.trainable_variables)
        return rbm, [*rbm.variables, *optimizer.variables]

    def train(rbm):
        rbm.fit(x, batch_size=10, epochs=2, shuffle=False, verbose=0)

    rbm, variables = make()
    train(rbm)
    checkpoint = [values(variable).copy() for variable in variables]
    train(rbm)
    assert any("seed_generator_state" in variable.path for variable in variables)
    other, other_variables = make()
    for variable, value in zip(other_variables, checkpoint, strict=True):
        variable.assign(value)
    train(other)
    for one, two in zip(variables, other_variables, strict=True):
        np.testing.assert_array_equal(values(one), values(two), err_msg=one.path)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_whole_and_trained_on(kind, tmp_path):
    options = {"visible": kind, "chains": 5, "gibbs_steps": 2, "weight_decay": 0.01}
    options |= {"sparsity_target": 0.2, "sparsity_cost": 0.1, "seed": 7}
    rbm = RBM(**SMALL, **options, name="mine")
    x = rows(kind, 40)
    rbm.compile(keras.optimizers.SGD(0.1, momentum=0.5))
    rbm.fit(x, batch_size=10, epochs=3, verbose=0)
    rbm.save(tmp_path / "rbm.keras")
    again = keras.saving.load_model(tmp_path / "rbm.keras")
    assert again.name == "mine"
    assert {name: getattr(again, name) for name in (*SMALL, *options)} == SMALL | options
    kept = rbm.get_weights()
    assert len(kept) == 4  # with the chains
    for old, new in zip(kept, again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(again.predict(x, verbose=0), rbm.predict(x, verbose=0))
    history = again.fit(x, batch_size=10, epochs=2, verbose=0).history
    assert set(history) == {"loss", "reconstruction_error"}
    assert np.isfinite(history["loss"]).all()
    assert all(np.any(old != new) for old, new in zip(kept, again.get_weights(), strict=True))


# The deep belief network


def test_stack_has_the_sizes_kinds_and_seeds_asked_for():
    rbms = stack(features=5, widths=(4, 3, 2), visible="gaussian", seed=10, weight_decay=0.1)
    assert [(rbm.visible_units, rbm.hidden_units) for rbm in rbms] == [(5, 4), (4, 3), (3, 2)]
    assert [rbm.visible for rbm in rbms] == ["gaussian", "bernoulli", "bernoulli"]
    assert [rbm.seed for rbm in rbms] == [10, 11, 12]
    assert {rbm.weight_decay for rbm in rbms} == {0.1}
    assert [rbm.name for rbm in rbms] == ["rbm_1", "rbm_2", "rbm_3"]
    assert [rbm.seed for rbm in stack(widths=(2,))] == [None]


def test_classifier_starts_from_the_stack():
    rbms = [build(visible_units=4, hidden_units=3), build(visible_units=3, hidden_units=5, seed=1)]
    model = dbn(features=4, outputs=2, widths=(3, 5), dropout=0.5, input_dropout=0.5, rbms=rbms)
    kept = [rbm.get_weights() for rbm in rbms]
    names = ["row", "input_dropout", "hidden_1", "hidden_1_dropout", "hidden_2", "hidden_2_dropout", "output"]
    assert [layer.name for layer in model.layers] == names
    x = rows("bernoulli", 10)
    hidden = x
    for rbm in rbms:
        kernel, _, bias = parameters(rbm)
        hidden = 1 / (1 + np.exp(-(hidden @ kernel + bias)))
    kernel, bias = model.get_layer("output").get_weights()
    scores = np.exp(hidden @ kernel + bias)
    np.testing.assert_allclose(values(model(x)), scores / scores.sum(1, keepdims=True), atol=1e-6)
    assert np.any(values(model(x, training=True)) != values(model(x)))

    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(x, np.zeros(10))
    for rbm, weights in zip(rbms, kept, strict=True):  # fine-tuning has copies
        for old, new in zip(weights, rbm.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_classifier_of_random_weights():
    model = dbn()
    assert [layer.name for layer in model.layers] == ["row", "hidden_1", "hidden_2", "output"]
    assert model.count_params() == 785 * 500 + 501 * 500 + 501 * 10
    assert model.name == "dbn"


@pytest.mark.slow
def test_greedy_training_as_the_documentation_has_it():
    rbms = stack(features=6, widths=(4, 3), seed=0)
    inputs = patterns(100)
    for rbm in rbms:
        rbm.compile(keras.optimizers.SGD(0.2, momentum=0.5))
        rbm.fit(inputs, batch_size=10, epochs=15, verbose=0)
        inputs = rbm.predict(inputs, verbose=0)
    assert inputs.shape == (200, 3)
    pictures = generate(rbms, 500, steps=20, seed=0)
    assert pictures.shape == (500, 6) and pictures.dtype == np.float32
    near = np.abs(pictures[:, None] - [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).mean(axis=2).min(axis=1)
    assert np.mean(near < 0.25) > 0.8  # nearly all of them one of the two patterns
    labels = np.repeat([0, 1], 100)
    keras.utils.set_random_seed(0)
    model = dbn(features=6, outputs=2, widths=(4, 3), rbms=rbms)
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(patterns(100), labels, epochs=3, verbose=0)
    assert model.evaluate(patterns(100), labels, verbose=0)[1] > 0.97


# Generation


def down(rbms: list[RBM]) -> tuple[np.ndarray, np.ndarray]:
    """By enumeration, the distribution over the states of the lowest hidden layer, and the means below each."""
    probabilities = joint(rbms[-1]).sum(0 if len(rbms) == 1 else 1)
    for rbm in reversed(rbms[1:-1]):
        table = joint(rbm)
        probabilities = (table / table.sum(0)) @ probabilities
    kernel, visible_bias, _ = parameters(rbms[0])
    h = states(rbms[0].hidden_units)
    mean = h @ kernel.T + visible_bias
    return probabilities, 1 / (1 + np.exp(-mean)) if rbms[0].visible == "bernoulli" else mean


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_generated_rows_have_the_distribution_of_the_network(kind, depth):
    if depth == 1 and kind == "gaussian":
        pytest.skip("covered by the numeric integration")
    sizes = [4, 3, 4, 3][: depth + 1]
    rbms = [
        build(visible_units=below, hidden_units=above, seed=number, visible="bernoulli" if number else kind)
        for number, (below, above) in enumerate(itertools.pairwise(sizes))
    ]
    probabilities, means = down(rbms)
    found = generate(rbms, 10000, steps=15, seed=0)
    assert np.unique(found.round(5), axis=0).shape[0] <= len(means)  # each row is the mean of one hidden state
    nearest = np.abs(found[:, None] - means).sum(2).argmin(1)
    np.testing.assert_allclose(found, means[nearest], atol=1e-5)
    np.testing.assert_allclose(np.bincount(nearest, minlength=len(means)) / 10000, probabilities, atol=0.02)


def test_generation_starts_where_it_is_told():
    # Two layers tied so strongly that a chain never leaves its pattern.
    def tied():
        rbm = RBM(visible_units=2, hidden_units=2, seed=0)
        rbm.kernel.assign(40 * np.eye(2))
        rbm.visible_bias.assign([-20.0, -20.0])
        rbm.hidden_bias.assign([-20.0, -20.0])
        return rbm

    rbms = [tied(), tied()]
    start = states(2)
    np.testing.assert_allclose(generate(rbms, 4, steps=5, start=start, seed=0), start, atol=1e-6)
    noise = generate(rbms, 2000, steps=5, seed=0)
    np.testing.assert_allclose(frequencies(noise.round()), 0.25, atol=0.04)
    np.testing.assert_array_equal(noise, generate(rbms, 2000, steps=5, seed=0))
    assert np.any(noise != generate(rbms, 2000, steps=5, seed=1))


# What can't be


@pytest.mark.parametrize(
    "options",
    [
        {"visible_units": 0},
        {"hidden_units": 0},
        {"gibbs_steps": 0},
        {"chains": -1},
        {"weight_decay": -0.1},
        {"sparsity_cost": -1.0},
        {"sparsity_target": 1.0},
        {"visible": "binomial"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_unusable_arguments_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))) as caught:
        RBM(**SMALL | options)
    assert str(next(iter(options.values()))) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_unusable_arguments_are_named():
    rbms = stack(features=4, widths=(3, 2), seed=0)
    with pytest.raises(ValueError, match=r"\(4, 3\), \(3, 2\).*\(4, 3\), \(3, 5\)"):
        dbn(features=4, outputs=2, widths=(3, 5), rbms=rbms)
    with pytest.raises(ValueError, match="the RBMs have the sizes"):
        dbn(features=4, outputs=2, widths=(3,), rbms=rbms)
    for sizes in ({"widths": ()}, {"widths": (3, 0)}, {"outputs": 0}, {"features": 0}):
        with pytest.raises(ValueError, match=next(iter(sizes))):
            dbn(**sizes)
    with pytest.raises(ValueError, match="widths"):
        stack(features=4, widths=())
    with pytest.raises(ValueError, match=r"start has the shape \(2, 3\), expected \(2, 4\)"):
        generate(rbms, 2, start=np.zeros((2, 3)))
    for count, steps, found in ((0, 1, "count 0"), (1, 0, "steps 0")):
        with pytest.raises(ValueError, match=f"{found} must be at least 1"):
            generate(rbms, count, steps=steps)
    with pytest.raises(ValueError, match="at least one RBM"):
        generate([], 1)
    with pytest.raises(ValueError, match="chains 0"):
        rbms[0].log_partition(chains=0)

import itertools

import keras
import numpy as np
import pytest

from templates.dsn import (
    SMALLEST_RIDGE,
    RidgeOutput,
    assemble,
    classifier,
    dsn,
    fit_temperature,
    module,
    output_weights,
    solve,
)

ROWS, FEATURES, OUTPUTS, HIDDEN = 60, 5, 3, 8
COMPILED = keras.backend.backend() == "jax"  # for a few steps, what TensorFlow gains is less than the wait for it


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def answers(model: keras.Model, x: np.ndarray):
    return keras.tree.map_structure(values, model(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def one_hot(labels, outputs: int = OUTPUTS) -> np.ndarray:
    return np.eye(outputs, dtype=np.float32)[labels]


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Points and one-hot classes that depend on them in a way no line can tell."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return x, one_hot((np.abs(x[:, 0]) + x[:, 1] > 1).astype(int) + (x[:, 2] * x[:, 3] > 0))


def small(**options) -> keras.Model:
    """A module whose hidden layer starts from the same numbers always."""
    random = np.random.default_rng(1)
    sizes = {"features": FEATURES, "outputs": OUTPUTS, "hidden_units": HIDDEN} | options
    kernel = random.normal(size=(sizes["features"], sizes["hidden_units"]))
    return module(**{"ridge": 0.3, "kernel": kernel, "bias": random.normal(size=sizes["hidden_units"])} | sizes)


def stacked(x, targets, count: int, *, epochs: int = 5, rate: float = 0.05, **options) -> list[keras.Model]:
    """Modules trained one after the other, as the template's docstring says."""
    trained = []
    for _ in range(count):
        one = module(features=x.shape[1], outputs=targets.shape[1], **options)
        one.compile(optimizer=keras.optimizers.Adam(rate), jit_compile=COMPILED)
        one.fit(x, targets, batch_size=len(x), epochs=epochs, verbose=0)
        solve(one, [(x, targets)])
        x = np.concatenate([x, values(one(x))], axis=1)
        trained.append(one)
    return trained


# The definitions, in float64


def best_weights(hidden, targets, ridge):
    """The ridge regression as least squares, with a row of sqrt(ridge) for each weight; no normal equations."""
    rows = np.concatenate([hidden, np.sqrt(ridge) * np.eye(hidden.shape[1])])
    return np.linalg.lstsq(rows, np.concatenate([targets, np.zeros((hidden.shape[1], targets.shape[1]))]))[0]


def remaining_error(kernel, bias, x, targets, ridge):
    """Squared error and penalty of a hidden layer with its best output weights, a row."""
    hidden = sigmoid(x.astype(np.float64) @ kernel + bias)
    weights = best_weights(hidden, targets, ridge)
    return (np.sum((targets - hidden @ weights) ** 2) + ridge * np.sum(weights**2)) / len(x)


def published_gradient(kernel, bias, x, targets):
    """Deng & Yu's gradient of the summed squared error by W, for a ridge of 0; their X and T have a column a case."""
    columns, cases = x.T.astype(np.float64), targets.T.astype(np.float64)
    hidden = sigmoid(kernel.T @ columns + bias[:, None])  # (hidden_units, rows)
    inverse = hidden.T @ np.linalg.inv(hidden @ hidden.T)  # their H with a dagger, (rows, hidden_units)
    inner = inverse @ (hidden @ cases.T) @ (cases @ inverse) - cases.T @ (cases @ inverse)  # (rows, hidden_units)
    return 2 * columns @ (hidden.T * (1 - hidden).T * inner)


def slopes(function, array: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central finite differences of a function, by each element of an array that it reads."""
    found = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + step
        above = function()
        array[place] = kept - step
        found[place] = (above - function()) / (2 * step)
        array[place] = kept
    return found


def step_of_descent(one: keras.Model, x, targets) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss, and the gradient by kernel and bias, which descent at a rate of 1 subtracts."""
    one.compile(optimizer=keras.optimizers.SGD(1.0), jit_compile=COMPILED)
    kernel, bias = (weight.astype(np.float64) for weight in one.get_layer("hidden").get_weights())
    loss = float(one.train_on_batch(x, targets))
    new_kernel, new_bias = one.get_layer("hidden").get_weights()
    return loss, kernel - new_kernel, bias - new_bias


def started_from(one: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = one.get_layer("hidden").get_weights()
    return kernel.astype(np.float64), bias.astype(np.float64)


# The gradient of the hidden layer


@pytest.mark.parametrize("ridge", [0.01, 0.3, 5.0])
def test_gradient_and_loss_are_those_of_the_remaining_error(rows, ridge):
    one = small(ridge=ridge)
    kernel, bias = started_from(one)
    loss, by_kernel, by_bias = step_of_descent(one, *rows)

    def error():
        return remaining_error(kernel, bias, *rows, ridge)

    assert loss == pytest.approx(error(), rel=1e-5)
    np.testing.assert_allclose(by_kernel, slopes(error, kernel), rtol=2e-3, atol=2e-6)
    np.testing.assert_allclose(by_bias, slopes(error, bias), rtol=2e-3, atol=2e-6)
    assert np.abs(by_kernel).max() > 1e-3


def test_gradient_is_the_published_one_as_the_ridge_goes_to_zero(rows):
    x, targets = rows
    one = small(ridge=1e-12, hidden_units=4)  # float32 then takes its own smallest ridge
    kernel, bias = started_from(one)
    expected = published_gradient(kernel, bias, x, targets) / len(x)
    _, by_kernel, _ = step_of_descent(one, x, targets)
    np.testing.assert_allclose(by_kernel, expected, atol=0.01 * np.abs(expected).max())
    # The formula itself, by finite differences: what is compared with is not a misprint.
    by_hand = slopes(lambda: remaining_error(kernel, bias, x, targets, 0.0), kernel)
    np.testing.assert_allclose(expected, by_hand, atol=1e-6 * np.abs(expected).max())


def test_gradient_is_the_one_through_the_solution(rows):
    """Holding the output weights constant drops a term that is zero only where they minimise the same error."""
    x, targets = rows
    one = small()
    kernel, bias = started_from(one)
    _, by_kernel, _ = step_of_descent(one, x, targets)
    constant = best_weights(sigmoid(x.astype(np.float64) @ kernel + bias), targets, 0.3)

    def error():
        return np.sum((targets - sigmoid(x.astype(np.float64) @ kernel + bias) @ constant) ** 2) / len(x)

    np.testing.assert_allclose(by_kernel, slopes(error, kernel), rtol=2e-3, atol=2e-6)


def test_a_step_leaves_the_weights_that_it_solved_for(rows):
    x, targets = rows
    one = small()
    kernel, bias = started_from(one)
    step_of_descent(one, x, targets)
    expected = best_weights(sigmoid(x.astype(np.float64) @ kernel + bias), targets, 0.3)
    np.testing.assert_allclose(one.get_layer("output").get_weights()[0], expected, rtol=1e-3, atol=1e-4)


def test_evaluation_measures_the_answers_and_changes_nothing(rows):
    x, targets = rows
    one = small()
    step_of_descent(one, x, targets)
    before = one.get_weights()
    error = np.sum((values(one(x)) - targets) ** 2, axis=1).mean()
    assert one.evaluate(x, targets, verbose=0) == pytest.approx(error, rel=1e-5)
    assert all((old == new).all() for old, new in zip(before, one.get_weights(), strict=True))


@pytest.mark.parametrize("ridge", [1e-30, 1e-3])
def test_float32_gets_the_smallest_ridge_that_it_can_solve_with(ridge):
    random = np.random.default_rng(3)
    hidden = np.repeat(random.uniform(size=(50, 5)), 8, axis=1).astype(np.float32)  # rank 5 of 40
    targets = random.uniform(size=(50, 2)).astype(np.float32)
    weights, used = (values(part) for part in RidgeOutput(2, ridge=ridge).solve(hidden, targets))
    smallest = SMALLEST_RIDGE * np.sum(hidden**2)
    assert used == pytest.approx(max(ridge, smallest), rel=1e-5)
    expected = best_weights(hidden.astype(np.float64), targets, float(used))
    np.testing.assert_allclose(hidden @ weights, hidden @ expected, atol=5e-3)


def test_dropout_is_for_training_alone(rows):
    x, targets = rows
    losses = []
    for dropout in (0.0, 0.5):
        keras.utils.set_random_seed(0)
        one = small(input_dropout=dropout)
        solve(one, [(x, targets)])
        answers = values(one(x))
        losses.append(step_of_descent(one, x, targets)[0])
        hidden = sigmoid(x @ started_from(small())[0] + started_from(small())[1])
        np.testing.assert_allclose(answers, hidden @ best_weights(hidden, targets, 0.3), atol=1e-4)
    assert losses[1] > losses[0]


# The output weights


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_output_weights_are_the_ridge_regression(ridge):
    random = np.random.default_rng(2)
    hidden = sigmoid(random.normal(size=(500, 64)) @ random.normal(scale=0.3, size=(64, 120))).astype(np.float32)
    targets = one_hot(random.integers(0, 10, 500), 10)
    found = output_weights([(hidden, targets)], ridge=ridge)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, best_weights(hidden.astype(np.float64), targets, ridge), atol=2e-8)


@pytest.mark.parametrize("size", [1, 7, 64, 299, 300])
def test_output_weights_do_not_depend_on_the_batches(size):
    random = np.random.default_rng(4)
    hidden, targets = random.uniform(size=(300, 20)).astype(np.float32), one_hot(random.integers(0, 3, 300))
    batches = ((hidden[i : i + size], targets[i : i + size]) for i in range(0, 300, size))  # read once, as a stream is
    expected = best_weights(hidden.astype(np.float64), targets, 0.01)
    np.testing.assert_allclose(output_weights(batches, ridge=0.01), expected, atol=1e-10)


def test_solve_gives_a_module_the_exact_weights(rows):
    x, targets = rows
    whole, divided = small(), small()
    solve(whole, [(x, targets)])
    solve(divided, ((x[i : i + 11], targets[i : i + 11]) for i in range(0, ROWS, 11)))
    kernel, bias = started_from(whole)
    expected = best_weights(sigmoid(x.astype(np.float64) @ kernel + bias), targets, 0.3)
    for one in (whole, divided):
        np.testing.assert_allclose(one.get_layer("output").get_weights()[0], expected, rtol=1e-5, atol=1e-5)


# The stack


def test_the_assembled_network_answers_as_its_modules_do(rows):
    keras.utils.set_random_seed(5)
    x, targets = rows
    trained = stacked(x, targets, 3, hidden_units=HIDDEN)
    found = answers(assemble(trained), x)
    assert sorted(found) == ["module_1", "module_2", "module_3"]
    inputs = x.astype(np.float64)
    for number, one in enumerate(trained, 1):
        kernel, bias = started_from(one)
        assert len(kernel) == FEATURES + (number - 1) * OUTPUTS
        scores = sigmoid(inputs @ kernel + bias) @ one.get_layer("output").get_weights()[0]
        np.testing.assert_allclose(found[f"module_{number}"], scores, atol=1e-5)
        inputs = np.concatenate([inputs, scores], axis=1)  # the raw input first, then the outputs in order


@pytest.mark.slow
def test_training_error_falls_from_module_to_module():
    keras.utils.set_random_seed(6)
    random = np.random.default_rng(6)
    x = random.uniform(-1, 1, size=(400, 2)).astype(np.float32)
    targets = one_hot(np.floor(2 * np.linalg.norm(x, axis=1)).astype(int))  # rings
    trained = stacked(x, targets, 3, hidden_units=20, ridge=1e-3, epochs=15, kernel_deviation=2.0)
    found = answers(assemble(trained), x)
    errors = [np.sum((found[f"module_{number}"] - targets) ** 2) / 400 for number in range(1, 4)]
    assert all(after < 0.9 * before for before, after in itertools.pairwise(errors))
    assert errors[0] < 0.3  # three classes known only by their shares leave more than 0.6
    assert np.mean(found["module_3"].argmax(axis=1) == targets.argmax(axis=1)) > 0.97


def test_refinement_lowers_the_error_that_random_features_leave(rows):
    x, targets = rows
    keras.utils.set_random_seed(7)
    one = module(features=FEATURES, outputs=OUTPUTS, hidden_units=HIDDEN, ridge=0.1)
    one.compile(optimizer=keras.optimizers.Adam(0.05), jit_compile=COMPILED)
    losses = one.fit(x, targets, batch_size=ROWS, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert losses[-1] == pytest.approx(remaining_error(*started_from(one), x, targets, 0.1), rel=0.05)


def test_weights_of_a_boltzmann_machine_are_where_training_starts():
    random = np.random.default_rng(8)
    kernel, bias = random.normal(size=(4, HIDDEN)), random.normal(size=HIDDEN)
    keras.utils.set_random_seed(8)
    one = module(features=4, outputs=OUTPUTS, hidden_units=HIDDEN, kernel=kernel, bias=bias)
    found = one.get_layer("hidden").get_weights()
    np.testing.assert_allclose(found[0], kernel, rtol=1e-6)
    np.testing.assert_allclose(found[1], bias, rtol=1e-6)
    later = module(
        features=4 + 200, outputs=OUTPUTS, hidden_units=HIDDEN, kernel=kernel, bias=bias, kernel_deviation=0.5
    )
    found = later.get_layer("hidden").get_weights()[0]
    np.testing.assert_allclose(found[:4], kernel, rtol=1e-6)
    assert found[4:].std() == pytest.approx(0.5, rel=0.1)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network(rows):
    found = []
    for seed in (9, 9, 10):
        keras.utils.set_random_seed(seed)
        model = assemble(stacked(*rows, 2, epochs=2, hidden_units=HIDDEN, input_dropout=0.2))
        found.append(answers(model, rows[0])["module_2"])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


@pytest.mark.parametrize("modules", [1, 10])
def test_every_module_has_an_output_of_its_name(modules):
    keras.utils.set_random_seed(11)
    model = dsn(features=FEATURES, outputs=OUTPUTS, modules=modules, hidden_units=4)
    x = np.random.default_rng(11).normal(size=(6, FEATURES)).astype(np.float32)
    found = answers(model, x)
    assert set(found) == {f"module_{number}" for number in range(1, modules + 1)}
    hidden, expected = x, []
    for number in range(1, modules + 1):
        kernel, bias = model.get_layer(f"hidden_{number}").get_weights()
        expected.append(sigmoid(hidden @ kernel + bias) @ model.get_layer(f"output_{number}").get_weights()[0])
        hidden = np.concatenate([x, *expected], axis=1)
        np.testing.assert_allclose(found[f"module_{number}"], expected[-1], atol=1e-5)
    probability = values(classifier(model, temperature=0.5)(x))
    shares = np.exp(2 * expected[-1])
    np.testing.assert_allclose(probability, shares / shares.sum(axis=1, keepdims=True), atol=1e-5)


# Probabilities


def test_the_temperature_is_where_the_log_loss_is_smallest():
    random = np.random.default_rng(12)
    scores = random.normal(size=(400, 5))
    shares = np.exp(scores / 0.4) / np.exp(scores / 0.4).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(5, p=share) for share in shares])
    found = fit_temperature(scores, one_hot(labels, 5))

    def log_loss(temperature):
        logits = scores / temperature
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(400), labels])

    assert found == pytest.approx(0.4, rel=0.15)  # of 400 drawn labels
    grid = np.geomspace(0.1, 2, 2001)
    assert found == pytest.approx(grid[np.argmin([log_loss(point) for point in grid])], rel=3e-3)


def test_the_temperature_stays_within_its_limits():
    right = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(right, np.eye(2)) == pytest.approx(1e-3)
    assert fit_temperature(right, np.eye(2)[::-1]) == pytest.approx(1e3)


# Saving


def test_a_module_is_saved_whole_and_trains_on(rows, tmp_path):
    keras.utils.set_random_seed(13)
    x, targets = rows
    one = small(ridge=0.7)
    one.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=COMPILED)
    one.fit(x, targets, batch_size=ROWS, epochs=2, verbose=0)
    one.save(tmp_path / "module.keras")
    again = keras.saving.load_model(tmp_path / "module.keras")
    np.testing.assert_array_equal(values(again(x)), values(one(x)))
    assert again.get_layer("output").ridge == 0.7
    for each in (one, again):
        each.fit(x, targets, batch_size=ROWS, epochs=2, verbose=0)
        solve(each, [(x, targets)])
    for old, new in zip(one.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-6)
    assert not again.get_layer("output").trainable


def test_the_network_and_its_classifier_are_saved_whole(rows, tmp_path):
    keras.utils.set_random_seed(14)
    x, targets = rows
    model = assemble(stacked(x, targets, 2, hidden_units=HIDDEN))
    for each in (model, classifier(model, temperature=0.2)):
        each.save(tmp_path / "model.keras")
        again = answers(keras.saving.load_model(tmp_path / "model.keras"), x)
        keras.tree.map_structure(np.testing.assert_array_equal, again, answers(each, x))


# What is refused


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dsn(modules=0), "modules 0"),
        (lambda: dsn(features=0), "features 0"),
        (lambda: small(hidden_units=0, kernel=None, bias=None), "hidden_units 0"),
        (lambda: small(ridge=0.0), "ridge 0.0 must be above 0"),
        (lambda: small(input_dropout=1.0), "input_dropout 1.0"),
        (lambda: small(kernel=np.zeros((6, HIDDEN))), r"kernel \(6, 8\) must have at most 5 rows, of 8 numbers"),
        (lambda: small(kernel=np.zeros((5, 9))), r"kernel \(5, 9\)"),
        (lambda: small(bias=np.zeros(9)), r"bias \(9,\) must have the shape \(8,\)"),
        (lambda: output_weights([], ridge=1.0), "no batch"),
        (lambda: output_weights([(np.ones((3, 2)), np.ones((2, 2)))], ridge=1.0), "3 rows .* 2 targets"),
        (lambda: output_weights([(np.ones((3, 2)), np.ones((3, 2)))], ridge=-1.0), "ridge -1.0"),
        (lambda: output_weights([(np.full((3, 2), np.nan), np.ones((3, 2)))], ridge=1.0), "not finite"),
        (lambda: assemble([]), "no module"),
        (lambda: assemble([small(), small()]), r"module 2 has .* \(5, 8, 3\), not \(8, 8, 3\)"),
        (lambda: fit_temperature(np.ones((3, 2)), np.ones(3)), r"scores \(3, 2\) and targets \(3,\)"),
        (lambda: classifier(dsn(hidden_units=2), temperature=0.0), "temperature 0.0"),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_targets_must_be_one_hot_and_unweighted(rows):
    x, targets = rows
    one = small()
    one.compile(optimizer="sgd")
    with pytest.raises(ValueError, match="one-hot"):
        one.train_on_batch(x, targets.argmax(axis=1))
    with pytest.raises(ValueError, match="sample weights"):
        one.train_on_batch(x, targets, sample_weight=np.ones(ROWS))

import itertools
import json

import keras
import numpy as np
import pytest
from sklearn.decomposition import PCA

from templates.autoencoder import AnomalyScore, anomaly_scorer, autoencoder

METADATA = {
    "features": ["amount", "größe"],
    "encoder": {"columns": [{"name": "amount", "fill": 2.5, "varies": True, "missing": None}], "nested": [[1, 2], []]},
    "class_name": "not a class",
}


def random_rows(rows: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


def curved_rows(rows: int, features: int, seed: int = 0) -> np.ndarray:
    """Standardised rows on a curved surface of two dimensions."""
    random = np.random.default_rng(seed)
    place = random.normal(size=(rows, 2))
    x = np.tanh(place @ random.normal(size=(2, features))) + 0.05 * random.normal(size=(rows, features))
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers of both sub-models, in the order of the data."""
    return [
        layer
        for part in ("encoder", "decoder")
        for layer in model.get_layer(part).layers
        if isinstance(layer, keras.layers.Dense)
    ]


def make_identity(model: keras.Model) -> keras.Model:
    """Set square dense layers so that a model of linear activations returns its input."""
    for layer in dense_layers(model):
        kernel, bias = layer.get_weights()
        layer.set_weights([np.eye(*kernel.shape), np.zeros_like(bias)])
    return model


# Architecture


def test_encoder_and_decoder_compose_to_the_whole():
    model = autoencoder(
        features=7, widths=(6, 5), code_size=3, dropout=0.3, input_noise=0.2, input_dropout=0.1, code_penalty=0.01
    )
    x = random_rows(11, 7)
    code = model.get_layer("encoder")(x)
    rebuilt = model.get_layer("decoder")(code)
    assert values(code).shape == (11, 3)
    assert np.std(values(rebuilt)) > 0
    np.testing.assert_allclose(values(rebuilt), values(model(x)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("widths", [(), (4,), [9, 6], (16, 8, 4)])
def test_widths_are_mirrored_and_parameters_follow_the_formula(widths):
    features, code_size = 13, 3
    model = autoencoder(features=features, widths=widths, code_size=code_size)
    sizes = [features, *widths, code_size, *reversed(widths), features]
    assert [layer.units for layer in dense_layers(model)] == sizes[1:]
    assert model.count_params() == sum((before + 1) * after for before, after in itertools.pairwise(sizes))
    assert model.input_shape == model.output_shape == (None, features)
    assert model.get_layer("encoder").output_shape == model.get_layer("decoder").input_shape == (None, code_size)


def test_default_size_and_name():
    model = autoencoder()
    assert model.count_params() == (30 + 1) * 64 + (64 + 1) * 8 + (8 + 1) * 64 + (64 + 1) * 30
    assert model.name == "autoencoder"
    assert autoencoder(name="other").name == "other"


def test_activations_stand_where_they_are_said_to():
    model = autoencoder(
        features=4,
        widths=(6, 5),
        code_size=2,
        activation="tanh",
        code_activation="sigmoid",
        output_activation="softplus",
    )
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    functions = (np.tanh, np.tanh, lambda x: 1 / (1 + np.exp(-x)), np.tanh, np.tanh, lambda x: np.log1p(np.exp(x)))
    x = random_rows(9, 4)
    expected = x.astype(np.float64)
    for layer, function in zip(dense_layers(model), functions, strict=True):
        kernel, bias = layer.get_weights()
        expected = function(expected @ kernel + bias)
    np.testing.assert_allclose(values(model(x)), expected, rtol=1e-4, atol=1e-5)


def test_default_activations_are_relu_within_and_linear_at_code_and_output():
    model = autoencoder(features=4, widths=(6,), code_size=2)
    x = random_rows(9, 4)
    expected = x
    for layer, function in zip(
        dense_layers(model), [lambda x: np.maximum(x, 0), lambda x: x] * 2, strict=True
    ):  # encoder_1, code, decoder_1, reconstruction
        kernel, bias = layer.get_weights()
        expected = function(expected @ kernel + bias)
    np.testing.assert_allclose(values(model(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "sizes",
    [{"features": 0}, {"code_size": 0}, {"code_size": -2}, {"widths": (5, 0)}, {"widths": (-1,)}],
)
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        autoencoder(**sizes)


def test_sizes_of_one_work():
    model = autoencoder(features=1, widths=(1,), code_size=1)
    assert values(model(np.ones((2, 1), np.float32))).shape == (2, 1)


# Corruption and regularisation


def test_corruption_of_the_input_is_active_in_training_alone_and_leaves_the_encoder_alone():
    model = autoencoder(features=8, widths=(6,), code_size=3, input_noise=0.5, input_dropout=0.3)
    x = random_rows(20, 8)
    clean = values(model(x, training=False))
    np.testing.assert_array_equal(clean, values(model(x)))
    corrupted = [values(model(x, training=True)) for _ in range(2)]
    assert np.abs(corrupted[0] - clean).max() > 0.01
    assert np.abs(corrupted[0] - corrupted[1]).max() > 0.01
    encoder = model.get_layer("encoder")
    np.testing.assert_array_equal(values(encoder(x, training=True)), values(encoder(x, training=False)))


def test_input_dropout_masks_its_share_and_scales_the_rest():
    keras.utils.set_random_seed(2)
    model = make_identity(autoencoder(features=10, widths=(), code_size=10, input_dropout=0.2))
    x = np.abs(random_rows(500, 10)) + 1
    masked = values(model(x, training=True))
    kept = masked != 0
    assert np.mean(kept) == pytest.approx(0.8, abs=0.025)  # 4 standard deviations of 5000 draws
    np.testing.assert_allclose(masked[kept], (x / 0.8)[kept], rtol=1e-5)
    np.testing.assert_allclose(values(model(x)), x, rtol=1e-6)


def test_input_noise_has_its_standard_deviation():
    keras.utils.set_random_seed(3)
    model = make_identity(autoencoder(features=10, widths=(), code_size=10, input_noise=0.5))
    x = random_rows(500, 10)
    noise = values(model(x, training=True)) - x
    assert np.mean(noise) == pytest.approx(0, abs=0.03)
    assert np.std(noise) == pytest.approx(0.5, abs=0.02)
    assert np.abs(np.corrcoef(noise.ravel(), x.ravel())[0, 1]) < 0.06
    np.testing.assert_allclose(values(model(x)), x, rtol=1e-6)


def test_dropout_acts_on_every_hidden_layer_and_neither_on_code_nor_output():
    keras.utils.set_random_seed(4)
    model = make_identity(autoencoder(features=10, widths=(10, 10), code_size=10, activation="linear", dropout=0.5))
    x = np.abs(random_rows(500, 10)) + 1
    for part in ("encoder", "decoder"):
        dropped = values(model.get_layer(part)(x, training=True))
        kept = dropped != 0
        # Two hidden layers, one after the other: a quarter is left, scaled by four; the last layer drops nothing.
        assert np.mean(kept) == pytest.approx(0.25, abs=0.025)
        np.testing.assert_allclose(dropped[kept], (4 * x)[kept], rtol=1e-5)
        np.testing.assert_allclose(values(model.get_layer(part)(x, training=False)), x, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 16])
def test_code_penalty_is_added_to_the_loss(rows):
    model = autoencoder(features=6, widths=(5,), code_size=4, code_penalty=0.3)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    x = random_rows(rows, 6)
    code = values(model.get_layer("encoder")(x))
    squared = np.mean((values(model(x)) - x) ** 2)
    penalty = 0.3 * np.mean(np.sum(np.abs(code), axis=1))
    assert penalty > 0.01
    assert model.test_on_batch(x, x) == pytest.approx(squared + penalty, rel=1e-4)
    assert model.train_on_batch(x, x) == pytest.approx(squared + penalty, rel=1e-4)


def test_without_code_penalty_the_loss_is_the_squared_error():
    model = autoencoder(features=6, widths=(5,), code_size=4)
    model.compile(optimizer="sgd", loss="mse")
    x = random_rows(16, 6)
    assert model.losses == []
    assert model.test_on_batch(x, x) == pytest.approx(np.mean((values(model(x)) - x) ** 2), rel=1e-4)


# Learning


def test_linear_autoencoder_reaches_the_optimum_of_principal_components():
    keras.utils.set_random_seed(5)
    random = np.random.default_rng(5)
    x = random.normal(size=(512, 2)) * [2.0, 1.5] @ np.linalg.qr(random.normal(size=(6, 2)))[0].T
    x = (x + 0.3 * random.normal(size=x.shape)).astype(np.float32)
    x -= x.mean(axis=0)
    components = PCA(2).fit(x)
    optimum = np.mean((x - components.inverse_transform(components.transform(x))) ** 2)

    model = autoencoder(features=6, widths=(), code_size=2)
    # A rate that falls to 0 reaches the optimum whichever weights a backend draws at first.
    rate = keras.optimizers.schedules.CosineDecay(0.1, 40 * len(x) // 64)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="mse")
    many = np.tile(x, (40, 1))  # one long epoch costs less than many short ones
    model.fit(many, many, batch_size=64, verbose=0)
    error = np.mean((x - model.predict(x, verbose=0)) ** 2)
    assert optimum <= error * (1 + 1e-5)
    assert error < 1.03 * optimum
    decoder_kernel = model.get_layer("decoder").get_layer("reconstruction").get_weights()[0]
    cosines = np.linalg.svd(np.linalg.qr(decoder_kernel.T)[0].T @ components.components_.T, compute_uv=False)
    assert cosines.min() > 0.995


def test_loss_falls_on_structured_data_and_every_weight_learns():
    keras.utils.set_random_seed(6)
    x = curved_rows(1024, 10)
    model = autoencoder(features=10, widths=(32,), code_size=2, activation="tanh")
    model.compile(optimizer=keras.optimizers.Adam(0.005), loss="mse")
    before = model.get_weights()
    first = model.evaluate(x, x, verbose=0)
    model.train_on_batch(x[:64], x[:64])
    for old, new, variable in zip(before, model.get_weights(), model.weights, strict=True):
        assert np.all(np.isfinite(new))
        assert np.any(old != new), variable.path
    model.fit(np.tile(x, (10, 1)), np.tile(x, (10, 1)), verbose=0)
    linear = PCA(2).fit(x)
    last = model.evaluate(x, x, verbose=0)
    assert last < 0.25 * first
    assert last < np.mean((x - linear.inverse_transform(linear.transform(x))) ** 2)  # the surface is curved


# Saving


def test_a_reloaded_autoencoder_is_the_same_and_trains_further(tmp_path):
    keras.utils.set_random_seed(7)
    x = curved_rows(256, 10)
    model = autoencoder(
        features=10, widths=(8,), code_size=2, dropout=0.1, input_noise=0.1, input_dropout=0.1, code_penalty=1e-3
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    model.fit(x, x, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        values(again.get_layer("encoder")(x)), values(model.get_layer("encoder")(x)), rtol=1e-6, atol=1e-6
    )
    assert int(values(again.optimizer.iterations)) == 2 * 8
    before = again.evaluate(x, x, verbose=0)
    assert before == pytest.approx(model.evaluate(x, x, verbose=0), rel=1e-5)
    again.fit(x, x, epochs=10, verbose=0)
    assert again.evaluate(x, x, verbose=0) < 0.95 * before


# Anomaly scorer


def test_scorer_computes_score_share_and_alert():
    random = np.random.default_rng(8)
    model = autoencoder(features=5, widths=(4,), code_size=2)
    mean, deviation = random.normal(3, 2, 5), random.uniform(0.7, 3, 5)
    raw = (mean + deviation * random.normal(size=(40, 5))).astype(np.float32)
    row = (raw - mean) / deviation
    error = (row - values(model(row.astype(np.float32)))) ** 2
    score = error.mean(axis=1)
    threshold = float(np.sort(score)[[29, 30]].mean())

    found = {
        name: values(x)
        for name, x in anomaly_scorer(model, mean=mean, deviation=deviation, threshold=threshold)(raw).items()
    }
    assert sorted(found) == ["alert", "score", "share"]
    np.testing.assert_allclose(found["score"], score, rtol=1e-3)
    np.testing.assert_allclose(found["share"], error / error.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["share"].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["alert"], score > threshold)
    assert np.issubdtype(found["alert"].dtype, np.integer)
    assert found["alert"].sum() == 10


def test_exact_reconstruction_has_no_share_and_no_alert():
    model = make_identity(autoencoder(features=3, widths=(), code_size=3, output_activation="relu"))
    scorer = anomaly_scorer(model, mean=[1.0, 2.0, 3.0], deviation=[1.0, 2.0, 0.5], threshold=0.0)
    raw = np.array([[1, 2, 3], [2, 8, 4], [0, -2, 4]], np.float32)  # the third is -1, -2 and 2 deviations off
    found = {name: values(x) for name, x in scorer(raw).items()}
    np.testing.assert_array_equal(found["score"][:2], 0)
    assert found["score"][2] == pytest.approx(5 / 3)
    np.testing.assert_allclose(found["share"], [[0, 0, 0], [0, 0, 0], [0.2, 0.8, 0]], rtol=1e-6)
    np.testing.assert_array_equal(found["alert"], [0, 0, 1])


def test_a_score_at_the_threshold_is_no_alert():
    model = make_identity(autoencoder(features=4, widths=(), code_size=4))
    output = model.get_layer("decoder").get_layer("reconstruction")
    output.set_weights([np.eye(4), np.array([3.0, 0, 0, 0])])  # every row of whole numbers scores 9 / 4 exactly
    raw = np.arange(8, dtype=np.float32).reshape(2, 4)
    for threshold, alert in ((2.25, 0), (np.nextafter(np.float32(2.25), np.float32(0)), 1), (2.26, 0), (-1, 1)):
        scorer = anomaly_scorer(model, mean=[0.0] * 4, deviation=[1.0] * 4, threshold=threshold)
        found = scorer(raw)
        np.testing.assert_array_equal(values(found["score"]), [2.25, 2.25])
        np.testing.assert_array_equal(values(found["share"]), [[1, 0, 0, 0]] * 2)
        np.testing.assert_array_equal(values(found["alert"]), [alert, alert])


def test_saved_scorer_keeps_outputs_threshold_and_metadata(tmp_path):
    model = autoencoder(features=5, widths=(4,), code_size=2)
    scorer = anomaly_scorer(
        model, mean=np.arange(5), deviation=np.sqrt(np.arange(1, 6)), threshold=0.7, metadata=METADATA
    )
    raw = 3 * random_rows(30, 5) + 2
    scorer.save(tmp_path / "scorer.keras")
    again = keras.saving.load_model(tmp_path / "scorer.keras")
    before, after = scorer.predict(raw, verbose=0), again.predict(raw, verbose=0)
    for name in ("score", "share", "alert"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)
    assert 0 < before["alert"].sum() < 30
    layer = again.get_layer("anomaly_score")
    assert isinstance(layer, AnomalyScore)
    assert layer.threshold == 0.7
    assert layer.metadata == METADATA
    assert json.loads(json.dumps(layer.metadata)) == METADATA
    np.testing.assert_allclose(values(again.get_layer("autoencoder")(raw)), values(model(raw)), rtol=1e-5, atol=1e-6)


def test_metadata_may_be_left_out(tmp_path):
    model = autoencoder(features=2, widths=(), code_size=1)
    scorer = anomaly_scorer(model, mean=[0.0, 0.0], deviation=[1.0, 1.0], threshold=1)
    scorer.save(tmp_path / "scorer.keras")
    assert keras.saving.load_model(tmp_path / "scorer.keras").get_layer("anomaly_score").metadata == {}


def test_scorer_standardises_tiny_numbers_like_others():
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    model = autoencoder(features=3, widths=(4,), code_size=2)
    plain = anomaly_scorer(model, mean=[0.0] * 3, deviation=[1.0] * 3, threshold=1)(rows)
    tiny = anomaly_scorer(model, mean=[0.0] * 3, deviation=[1e-12] * 3, threshold=1)(rows * np.float32(1e-12))
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(x["score"]) for x in (plain, tiny)), rtol=1e-4)

"""Every template under Keras's global settings: precisions, and the order of a picture's axes."""

import contextlib
import functools
import importlib

import keras
import numpy as np
import pytest

from templates import architectures, autoencoder, cnn, dbn, decoding, dsn, gan, names, recurrent, transformer

EAGERLY = keras.backend.backend() != "jax"  # the quickest for a single step
# By how much the answers may differ from those in float32, as a share of the largest.
SETTINGS = {"mixed_float16": 0.01, "mixed_bfloat16": 0.05, "policy_float64": 1e-5, "float64": 1e-5, "channels_first": 0}
RECURRENT = {"features": 4, "outputs": 3, "units": (5,)}
PICTURES = {"height": 8, "width": 8, "channels": 3}
ADVERSARIAL = {"latent": 4, "generator_filters": (4,), "discriminator_filters": (4,)}
BLOCKS = {"width": 8, "depth": 1, "heads": 2, "dropout": 0.1}
# Small ones; a template that isn't here is tried as it is.
SIZES: dict[str, dict] = {
    "autoencoder": {"features": 6, "code_size": 3, "code_penalty": 0.01, "input_noise": 0.1, "input_dropout": 0.1},
    "cnn": PICTURES | {"outputs": 3, "filters": (4, 6), "residual": True, "dense": (5,), "flip": True},
    "dbn": {"features": 6, "outputs": 3, "widths": (5, 4), "dropout": 0.1},
    "dsn": {"features": 6, "outputs": 3, "modules": 2, "hidden_units": 8},
    "gan": PICTURES | ADVERSARIAL | {"augmentation": ("translation", "cutout", "color")},
    "conditional_gan": PICTURES | ADVERSARIAL | {"classes": 3, "loss": "non_saturating"},
    "generator": PICTURES | {"latent": 4, "filters": (4,), "upsampling": "transposed", "normalization": "layer"},
    "discriminator": PICTURES | {"classes": 3, "filters": (4,), "label_input": "plane"},
    "simple_rnn": RECURRENT | {"layer_normalization": True},
    "lstm": RECURRENT | {"bidirectional": True},
    "gru": RECURRENT | {"head": "classification", "dropout": 0.1},
    "lstm_encoder_decoder": {"source_vocabulary": 6, "target_vocabulary": 7, "embedding_size": 4, "units": 6},
    "encoder": BLOCKS | {"features": 4, "outputs": 3, "context": 9, "head": "classification"},
    "decoder": BLOCKS | {"vocabulary": 7, "context": 9},
    "encoder_decoder": BLOCKS | {"source_vocabulary": 6, "target_vocabulary": 7},
}


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(0)


@contextlib.contextmanager
def under(setting: str):
    """Set one of `SETTINGS`, and what was set before again."""
    before = keras.config.floatx(), keras.config.dtype_policy(), keras.config.image_data_format()
    wide = setting.endswith("float64") and keras.backend.backend() == "jax"
    if wide:
        import jax

        jax.config.update("jax_enable_x64", True)
    if setting == "channels_first":
        keras.config.set_image_data_format(setting)
    else:
        if setting == "float64":
            keras.config.set_floatx(setting)
        keras.config.set_dtype_policy(setting.removeprefix("policy_"))
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
        keras.config.set_image_data_format(before[2])
        if wide:
            jax.config.update("jax_enable_x64", False)


def draw(tensor, seed: int = 0) -> np.ndarray:
    """A batch of 4 for an input or output of a model, of 6 steps if their number is free; tokens below 3."""
    random = np.random.default_rng(seed)
    shape = (4, *(6 if size is None else size for size in tensor.shape[1:]))
    if keras.backend.is_float_dtype(tensor.dtype):
        return random.random(shape).astype("float32")
    return random.integers(0, 3, shape).astype("int32")


def values(outputs) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(x)) for x in keras.tree.flatten(outputs)]


def agree(found, expected, share: float) -> None:
    for one, other in zip(values(found), values(expected), strict=True):
        assert one.shape == other.shape
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=0, atol=(share or 1e-6) * max(1e-9, np.abs(other).max()))


@pytest.mark.parametrize(
    ("name", "architecture"), [(name, architecture) for name in names() for architecture in architectures(name)]
)
def test_every_template_under_every_setting(name, architecture, tmp_path):
    function = getattr(importlib.import_module(f"templates.{name}"), architecture)
    build = functools.partial(function, **SIZES.get(architecture, {}))
    plain = build()
    inputs = keras.tree.map_structure(draw, plain.input)
    expected = plain(inputs)
    targets = keras.tree.map_structure(lambda x: draw(x, seed=1), expected)
    for setting, share in SETTINGS.items():
        with under(setting):
            model = build()
            model.set_weights(plain.get_weights())
            found = model(inputs)
            agree(found, expected, share)
            exact = "float64" if setting.endswith("float64") else "float32"
            assert {keras.backend.standardize_dtype(x.dtype) for x in keras.tree.flatten(found)} == {exact}

            loss = None if isinstance(model, gan.GAN) else keras.tree.map_structure(lambda _: "mse", expected)
            model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=EAGERLY)
            assert np.isfinite(model.train_on_batch(inputs, None if loss is None else targets)).all()
            assert all(np.isfinite(weight).all() for weight in model.get_weights())
            model.save(tmp_path / "model.keras")
            again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
            for one, other in zip(values(again(inputs)), values(model(inputs)), strict=True):
                np.testing.assert_array_equal(one, other)


# What the templates have besides


@pytest.mark.parametrize("setting", SETTINGS)
def test_anomaly_scorer(setting, tmp_path):
    net = autoencoder.autoencoder(features=3, widths=(4,), code_size=2)
    options: dict = {"mean": [1, 2, 3], "deviation": [1, 0.5, 2], "threshold": 1e4}
    rows = np.array([[1, 2, 3], [700, 2, 1], [1e9, 2, 3], [np.nan, 2, 3], [np.inf, 0, 0]], "float32")
    expected = autoencoder.anomaly_scorer(net, **options)(rows)
    with under(setting):
        one = autoencoder.autoencoder(features=3, widths=(4,), code_size=2)
        one.set_weights(net.get_weights())
        scorer = autoencoder.anomaly_scorer(one, **options)
        scorer.save(tmp_path / "scorer.keras")
        for model in (scorer, keras.saving.load_model(tmp_path / "scorer.keras")):
            found = model(rows)
            agree(found["score"][:2], expected["score"][:2], SETTINGS[setting])
            agree(found["share"][:2], expected["share"][:2], SETTINGS[setting])
            # Whatever is too large for half precision, or no number, is an alert.
            np.testing.assert_array_equal(values(found["alert"])[0], [0, 1, 1, 1, 1])


@pytest.mark.parametrize("setting", SETTINGS)
def test_grad_cam(setting):
    sizes = SIZES["cnn"] | {"pooling": "average"}
    plain = cnn.cnn(**sizes)
    pictures = draw(plain.input)
    with under(setting):
        model = cnn.cnn(**sizes)
        model.set_weights(plain.get_weights())
        found = cnn.grad_cam(model, pictures, [0, 1, 2, 0])
    assert found.dtype == np.float32
    assert np.abs(found - cnn.grad_cam(plain, pictures, [0, 1, 2, 0])).mean() <= (SETTINGS[setting] or 1e-6)


@pytest.mark.parametrize("setting", ["mixed_float16", "policy_float64"])
@pytest.mark.parametrize(
    ("visible", "options"), [("bernoulli", {"sparsity_target": 0.1, "sparsity_cost": 0.1}), ("gaussian", {"chains": 3})]
)
def test_boltzmann_machines(visible, options, setting, tmp_path):
    rows = draw(keras.KerasTensor((None, 6)))

    def trained():
        rbms = dbn.stack(features=6, widths=(5, 4), visible=visible, seed=0, weight_decay=0.01, **options)
        inputs = rows
        for rbm in rbms:
            rbm.compile(keras.optimizers.SGD(1e-3), run_eagerly=EAGERLY)
            history = rbm.fit(inputs, epochs=1, verbose=0).history
            assert np.isfinite(history["loss"]).all() and np.isfinite(history["reconstruction_error"]).all()
            inputs = keras.ops.convert_to_numpy(rbm(inputs))
        return rbms, inputs, rbms[0].log_likelihood(rows.round(), 3.0)

    _, expected, likelihood = trained()
    with under(setting):
        rbms, found, own_likelihood = trained()
        # The draws of another precision are others, but weights and steps are small.
        share = 0.05 if setting.endswith("float64") else SETTINGS[setting]
        agree(found, expected, share)
        np.testing.assert_allclose(own_likelihood, likelihood, atol=5 * share or 1e-5)
        drawn = dbn.generate(rbms, 2, steps=2, seed=0)
        assert drawn.shape == (2, 6) and drawn.dtype == np.float32 and np.isfinite(drawn).all()
        model = dbn.dbn(features=6, outputs=3, widths=(5, 4), rbms=rbms)
        assert np.isfinite(values(model(rows))[0]).all()
        rbms[0].save(tmp_path / "rbm.keras")
        again = keras.saving.load_model(tmp_path / "rbm.keras")
        np.testing.assert_array_equal(values(again(rows))[0], values(rbms[0](rows))[0])


@pytest.mark.parametrize("setting", ["mixed_float16", "policy_float64"])
def test_modules_of_a_deep_stacking_network(setting):
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(40, 6)).astype("float32"), np.eye(3, dtype="float32")[np.arange(40) % 3]
    kernel = random.normal(size=(6, 8))

    def trained():
        one = dsn.module(features=6, outputs=3, hidden_units=8, kernel=kernel, input_dropout=0.0)
        one.compile(keras.optimizers.SGD(0.01), run_eagerly=EAGERLY)
        assert np.isfinite(one.fit(rows, targets, batch_size=40, epochs=2, verbose=0).history["loss"]).all()
        dsn.solve(one, [(rows[:20], targets[:20]), (rows[20:], targets[20:])])
        return dsn.classifier(dsn.assemble([one]), temperature=0.5)(rows)

    expected = trained()
    with under(setting):
        found = trained()
        agree(found, expected, SETTINGS[setting] or 1e-5)
        assert keras.backend.standardize_dtype(found.dtype) == ("float64" if "float64" in setting else "float32")


@pytest.mark.parametrize("setting", SETTINGS)
def test_generated_pictures(setting):
    plain = gan.conditional_gan(**SIZES["conditional_gan"])
    expected = gan.generate(plain, 3, labels=[0, 1, 2], seed=0)
    pictures, labels = keras.tree.map_structure(draw, plain.input)
    with under(setting):
        model: keras.Model = gan.conditional_gan(**SIZES["conditional_gan"])
        model.set_weights(plain.get_weights())
        agree(gan.generate(model, 3, labels=[0, 1, 2], seed=0), expected, SETTINGS[setting])
        rates = {name: keras.optimizers.SGD(0.01) for name in ("generator", "discriminator")}
        model.compile(gan.separate_optimizers(model, **rates), run_eagerly=EAGERLY)
        assert np.isfinite(model.train_on_batch([pictures, labels])).all()
        found = gan.generate(model, 3, labels=[0, 1, 2], seed=0)
        assert found.dtype == np.float32 and np.isfinite(found).all()


@pytest.mark.parametrize("setting", ["mixed_float16", "policy_float64"])
def test_padding_is_no_small_number(setting):
    x = np.full((1, 4, 2), 1e-12, "float32")
    x[0, 3:] = 0.0
    other = np.full((1, 4, 2), 0.1, "float32")
    with under(setting):
        for layer in (recurrent.PaddingMask, transformer.RealSteps):
            for sequence, mask_value in ((x, 0.0), (1 - other * (x == 0), 0.9)):
                one = layer(mask_value)
                real = one(sequence) if layer is transformer.RealSteps else one.compute_mask([sequence, sequence])
                np.testing.assert_array_equal(values(real)[0], [[True, True, True, False]])


@pytest.mark.parametrize("setting", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize("kind", ["lstm", "decoder"])
def test_streams(kind, setting):
    if kind == "decoder":
        module, build = decoding, functools.partial(transformer.decoder, vocabulary=7, context=5, **BLOCKS)
    else:
        options: dict = {"vocabulary": 7, "head": "next_token", "units": (5, 4), "output_activation": None}
        module, build = recurrent, functools.partial(getattr(recurrent, kind), mask_value=None, **options)
    plain = build()
    tokens = draw(plain.input)[:2, :4]
    expected = values(plain(tokens))[0][:, -1]
    with under(setting):
        model = build()
        model.set_weights(plain.get_weights())
        stream = module.Stream(model)
        stream(tokens[:, :3])
        agree(stream(tokens[:, 3]), expected, SETTINGS[setting] or 1e-5)
        drawn = np.stack(list(decoding.generate(stream, tokens, 4, seed=1)), axis=1)
        assert drawn.shape == (2, 4) and ((drawn >= 0) & (drawn < 7)).all()


@pytest.mark.parametrize("setting", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize("module", [recurrent, transformer], ids=lambda module: module.__name__.split(".")[1])
def test_translations(module, setting):
    kind = "lstm_encoder_decoder" if module is recurrent else "encoder_decoder"
    reader = decoding.LSTMReader if module is recurrent else decoding.Reader
    build = functools.partial(getattr(module, kind), **SIZES[kind])
    plain = build()
    random = np.random.default_rng(0)
    plain.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in plain.get_weights()])
    sources = draw(plain.inputs[0])
    with under(setting):
        model = build()
        model.set_weights(plain.get_weights())
        tokens, scores = decoding.Translator(reader(model), longest=3)(sources)
        assert scores.dtype == np.float32 and np.isfinite(scores).all()
        for source, found, score in zip(sources, tokens[:, 0], scores[:, 0], strict=True):
            found = found[found != 0]
            target = np.concatenate([[1], found, [2]])
            logits = values(plain([source[None], target[None, :-1]]))[0][0]
            expected = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(len(found) + 1), target[1:]]
            assert score == pytest.approx(expected.sum(), rel=5 * SETTINGS[setting] or 1e-5)

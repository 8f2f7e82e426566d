"""What a stranger may try: odd sizes, single outputs, weights, labels and tokens that a template has no use for."""

import keras
import numpy as np
import pytest

from templates import autoencoder, cnn, dbn, decoding, dsn, gan, recurrent, transformer

EAGERLY = keras.backend.backend() != "jax"
PICTURES = {"height": 8, "width": 8, "channels": 1}
SMALL_CNN = PICTURES | {"filters": (3,), "dense": (4,)}
SMALL_GAN = PICTURES | {"latent": 2, "generator_filters": (2,), "discriminator_filters": (2,)}
TRANSFORMER = {"width": 8, "depth": 1, "heads": 2}
RANDOM = np.random.default_rng(0)


def values(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)


def scorer(**options):
    net = autoencoder.autoencoder(features=3, widths=(2,), code_size=1)
    return autoencoder.anomaly_scorer(net, **{"mean": [0] * 3, "deviation": [1] * 3, "threshold": 1} | options)


def rbm(**options):
    return dbn.RBM(**{"visible_units": 4, "hidden_units": 3, "seed": 0} | options)


# Sizes


@pytest.mark.parametrize(
    ("build", "options", "name"),
    [
        (autoencoder.autoencoder, {"code_size": 1}, "features"),
        (cnn.cnn, SMALL_CNN, "outputs"),
        (dbn.RBM, {"visible_units": 4}, "hidden_units"),
        (dbn.dbn, {"features": 3, "widths": (2,)}, "outputs"),
        (dsn.dsn, {"features": 3, "hidden_units": 4, "modules": 1}, "outputs"),
        (dsn.module, {"features": 3, "hidden_units": 4}, "outputs"),
        (gan.generator, PICTURES | {"filters": (2,)}, "latent"),
        (gan.discriminator, PICTURES | {"filters": (2,)}, "classes"),
        (recurrent.lstm, {"features": 3, "units": (2,)}, "outputs"),
        (recurrent.gru, {"units": (2,)}, "vocabulary"),
        (recurrent.lstm_encoder_decoder, {"units": 2}, "source_vocabulary"),
        (transformer.encoder, TRANSFORMER, "outputs"),
        (transformer.decoder, TRANSFORMER, "vocabulary"),
        (transformer.encoder_decoder, TRANSFORMER, "target_context"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_sizes_are_whole_numbers_of_any_kind(build, options, name, tmp_path):
    model = build(**options | {name: np.int64(5)})  # such as of `labels.max() + 1`
    model.save(tmp_path / "model.keras")  # which NumPy's numbers are not for
    assert keras.saving.load_model(tmp_path / "model.keras").count_params() == model.count_params()
    for size, message in (
        (0, "0 must be at least 1"),
        (-2, "-2 must"),
        (2.5, "2.5 must be a whole"),
        ("5", "'5' must"),
    ):
        with pytest.raises(ValueError, match=f"^{name} {message}"):
            build(**options | {name: size})


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (autoencoder.autoencoder, {"widths": 64}, "widths 64 must be a list of whole numbers"),
        (autoencoder.autoencoder, {"dropout": 1.0}, "dropout 1.0 must be at least 0 and below 1"),
        (cnn.cnn, {"filters": 32}, "filters 32 must be a list"),
        (cnn.cnn, {"dropout": "0.3"}, "dropout '0.3' must be"),
        (cnn.cnn, {"zoom": 1.5}, "zoom 1.5 must be"),
        (dbn.dbn, {"widths": 500}, "widths 500 must be a list"),
        (dbn.stack, {"widths": "500"}, "widths '500' must be a list"),
        (gan.generator, {"filters": 8}, "filters 8 must be a list"),
        (
            gan.gan,
            SMALL_GAN | {"augmentation": "cutout"},
            r"augmentation 'cutout' must be a list, such as \['cutout'\]",
        ),
        (recurrent.lstm, {"units": 128}, "units 128 must be a list"),
        (recurrent.lstm, {"vocabulary": 5, "mask_value": -1}, "mask_value -1 must be one of the 5 tokens"),
        (recurrent.lstm, {"mask_value": np.nan}, "mask_value nan must be a number"),
        (transformer.encoder, {"mask_value": np.nan}, "mask_value nan must be a number"),
        (transformer.decoder, {"dropout": 1}, "dropout 1 must be"),
        (scorer, {"deviation": [1, 0, 1]}, "deviation 0.0 of feature 1 .* above 0; 1 suits a constant feature"),
        (scorer, {"deviation": [1, 1, -2]}, "deviation -2.0 of feature 2"),
        (scorer, {"mean": [np.nan, 0, 0]}, "mean nan of feature 0 must be a finite number"),
        (scorer, {"mean": [0, 0]}, r"mean has the shape \(2,\), expected \(3,\)"),
        (scorer, {"mean": 0.0}, r"mean has the shape \(\), expected \(3,\)"),
        (scorer, {"threshold": np.nan}, "threshold nan must be a number"),
    ],
)
def test_other_arguments_that_make_no_sense(build, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


# A single output


@pytest.mark.parametrize("build", [lambda: cnn.cnn(**SMALL_CNN, outputs=1), lambda: dbn.dbn(outputs=1, widths=(3,))])
def test_a_single_output_is_the_probability_of_yes(build):
    model = build()
    x = RANDOM.normal(size=(6, *model.input_shape[1:])).astype("float32")
    found = values(model(x))
    assert found.shape == (6, 1) and ((found > 0) & (found < 1)).all() and found.std() > 0
    model.compile("sgd", "binary_crossentropy", run_eagerly=EAGERLY)
    assert np.isfinite(model.train_on_batch(x, np.arange(6)[:, None] % 2))


@pytest.mark.parametrize(
    "build",
    [
        lambda **options: recurrent.lstm(units=(3,), outputs=1, **options),
        lambda **options: recurrent.gru(units=(3,), vocabulary=1, head="next_token", **options),
        lambda **options: transformer.encoder(**TRANSFORMER, outputs=1, **options),
    ],
)
def test_a_softmax_of_a_single_output_is_refused(build):
    with pytest.raises(ValueError, match="the softmax of a single output is always 1"):
        build()
    assert build(output_activation="sigmoid").output_shape[-1] == 1


def test_a_network_of_a_single_score_is_no_classifier():
    with pytest.raises(ValueError, match="the softmax of a single output is always 1"):
        dsn.classifier(dsn.dsn(features=2, outputs=1, hidden_units=3), temperature=1.0)
    with pytest.raises(ValueError, match="at least two outputs"):
        dsn.fit_temperature(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="has a single output"):
        recurrent.tagger(recurrent.lstm(units=(2,), outputs=1, output_activation="sigmoid"), names=["yes"])


def test_grad_cam_of_a_single_output_and_of_wrapped_models():
    model = cnn.cnn(**SMALL_CNN, outputs=1, rotation=0, translation=0, zoom=0)
    x = RANDOM.random((5, 8, 8, 1)).astype("float32")
    yes, no = cnn.grad_cam(model, x, [1] * 5), cnn.grad_cam(model, x, [0] * 5)
    predicted = values(model(x))[:, 0] > 0.5
    np.testing.assert_allclose(cnn.grad_cam(model, x), np.where(predicted[:, None, None], yes, no), atol=1e-6)
    assert (yes != no).any()
    pictures = keras.Input((8, 8, 1))
    outer = keras.Model(pictures, model(keras.layers.Rescaling(1 / 255)(pictures)), name="outer")
    with pytest.raises(ValueError, match=r"outer was not built by `cnn`.* model.get_layer\('cnn'\)"):
        cnn.grad_cam(outer, x)
    np.testing.assert_array_equal(cnn.grad_cam(outer.get_layer("cnn"), x[:0]), np.zeros((0, 8, 8)))
    for classes in ([0.0] * 5, [2] * 5, 1, ["yes"] * 5):
        with pytest.raises(ValueError, match="classes must be 5 numbers from 0 to 1"):
            cnn.grad_cam(model, x, classes)


# What can't be learnt from


def test_boltzmann_machines_take_rows_alone():
    machine = rbm()
    machine.compile("sgd", run_eagerly=EAGERLY)
    x = np.eye(4, dtype="float32")
    assert np.isfinite(machine.fit(x, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="accepts no labels or targets"):
        machine.fit(x, np.arange(4), verbose=0)
    with pytest.raises(ValueError, match="accepts no sample or class weights"):
        machine.fit(x, sample_weight=np.ones(4), verbose=0)
    with pytest.raises(ValueError, match="accepts no sample or class weights"):
        machine.fit(x, np.arange(4), class_weight={i: 1.0 for i in range(4)}, verbose=0)


def test_gans_name_the_way_to_fit_them():
    pictures, labels = np.zeros((4, 8, 8, 1), "float32"), np.zeros(4, "int32")
    for build, x, y, message in (
        (gan.gan, pictures, labels, r"has no targets: use fit\(images\); a conditional_gan reads both in a list"),
        (gan.gan, [pictures, labels], None, r"expects images alone, fit\(images\)"),
        (gan.conditional_gan, pictures, labels, r"expects images and labels, fit\(\[images, labels\]\)"),
        (gan.conditional_gan, [pictures, labels], labels, r"has no targets: use fit\(\[images, labels\]\)"),
    ):
        model = build(**SMALL_GAN)
        model.compile("sgd", run_eagerly=EAGERLY)
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0)
    model = gan.gan(**SMALL_GAN)
    model.compile("sgd", run_eagerly=EAGERLY)
    with pytest.raises(ValueError, match="accepts no sample or class weights"):
        model.fit(pictures, sample_weight=np.ones(4), verbose=0)
    for wrong in ([0.5] * 2, ["a"] * 2, None):
        with pytest.raises(ValueError, match="labels must be 2 numbers from 0 to 9"):
            gan.generate(gan.conditional_gan(**SMALL_GAN), 2, labels=wrong)
    for count in (-1, 2.5, "2"):
        with pytest.raises(ValueError, match=r"^count "):
            gan.generate(model, count)
    assert gan.generate(model, np.int64(1)).shape == (1, 8, 8, 1)


def test_a_single_boltzmann_machine_is_a_stack():
    machine = rbm()
    np.testing.assert_array_equal(
        dbn.generate(machine, 3, steps=2, seed=1), dbn.generate([machine], 3, steps=2, seed=1)
    )
    model = dbn.dbn(features=4, widths=(3,), outputs=2, rbms=machine)
    np.testing.assert_array_equal(values(model.get_layer("hidden_1").kernel), values(machine.kernel))
    with pytest.raises(ValueError, match="RBM 1 has 3 hidden units, the next has 4 visible units"):
        dbn.generate([machine, machine], 1)


def test_rows_of_a_likelihood():
    machine = rbm()
    for rows in (np.full((2, 4), 0.5), np.full((2, 4), 255)):
        with pytest.raises(ValueError, match="rows must be 0 or 1"):
            machine.log_likelihood(rows, 0.0)
    for rows in (np.ones(4), np.ones((2, 3)), np.full((2, 4), np.nan)):
        with pytest.raises(ValueError, match=r"must be finite numbers, \(rows, 4\)"):
            machine.log_likelihood(rows, 0.0)
        with pytest.raises(ValueError, match=r"must be finite numbers, \(rows, 4\)"):
            machine.log_partition(steps=1, data=rows)
    with pytest.raises(ValueError, match="data has no rows"):
        machine.log_partition(steps=1, data=np.ones((0, 4)))
    assert machine.log_likelihood(np.ones((0, 4)), 0.0).shape == (0,)


def test_batches_to_solve_for():
    module = dsn.module(features=2, outputs=3, hidden_units=4)
    x, targets = RANDOM.normal(size=(6, 2)).astype("float32"), np.eye(3)[np.arange(6) % 3]
    for batches in ((x, targets), [(x, np.arange(6))], [(x,)], [(x[0], targets[0])]):
        with pytest.raises(ValueError, match=r"batches must be pairs of rows and one-hot targets \(batch, 3\)"):
            dsn.solve(module, batches)
    with pytest.raises(ValueError, match="no batch"):
        dsn.output_weights([(np.ones((0, 4)), np.ones((0, 3)))], ridge=1.0)
    with pytest.raises(ValueError, match="targets one-hot"):
        dsn.output_weights([(np.ones((6, 4)), np.arange(6))], ridge=1.0)
    with pytest.raises(ValueError, match="finite"):
        dsn.fit_temperature(np.full((3, 2), np.nan), np.ones((3, 2)))


# Sequences


@pytest.mark.parametrize("module", [recurrent, decoding], ids=["recurrent", "transformer"])
def test_tokens_and_steps_of_a_stream(module):
    options: dict = {"units": (3,), "head": "next_token", "output_activation": None}
    model = (
        recurrent.gru(vocabulary=5, **options)
        if module is recurrent
        else transformer.decoder(vocabulary=5, **TRANSFORMER)
    )
    for tokens, message in (
        ([5], "token 5 is outside the vocabulary, 0 to 4"),
        ([[1, -1]], "token -1 is outside"),
        ([1.5], "tokens must be whole numbers"),
        (np.zeros((2, 0), int), r"\(2, 0\) must be"),
        ([], r"\(0,\) must be"),
        (3, r"\(\) must be"),
    ):
        with pytest.raises(ValueError, match=message):
            module.Stream(model)(tokens)
    for prompts, options, message in (
        ([[1], [7]], {}, "token 7"),
        ([1, 2], {}, "a list of lists"),
        (["ab"], {}, "a list of lists"),
        ([["a"]], {}, "whole numbers"),
        ([[1]], {"tokens": -1}, "tokens -1"),
        ([[1]], {"tokens": 2.5}, "tokens 2.5"),
        ([[1]], {"temperature": np.nan}, "temperature nan"),
        ([[1]], {"temperature": "1"}, "temperature 1"),
        ([[1]], {"top_k": 2.5}, "top_k 2.5"),
    ):
        with pytest.raises(ValueError, match=message):
            list(decoding.generate(module.Stream(model), prompts, **{"tokens": 2} | options))


def test_steps_of_numbers():
    stream = recurrent.Stream(recurrent.gru(features=3, units=(2,), outputs=2))
    for steps in (np.ones((2, 4)), np.ones((2, 0, 3)), np.ones(3), np.ones((0, 3)), np.ones((1, 2, 4))):
        with pytest.raises(ValueError, match=r"must be \(batch, ...\) or \(batch, time, ...\), each step \(3,\)"):
            stream(steps)
    with pytest.raises(ValueError, match="reads 2 sequences"):
        recurrent.Stream(recurrent.lstm_encoder_decoder(units=2))


@pytest.mark.parametrize("module", [recurrent, transformer], ids=["recurrent", "transformer"])
def test_tokens_of_a_translation(module):
    sizes = {"source_vocabulary": 5, "target_vocabulary": 6}
    model = (
        recurrent.lstm_encoder_decoder(units=2, **sizes)
        if module is recurrent
        else transformer.encoder_decoder(**TRANSFORMER, **sizes)
    )
    reader = (decoding.LSTMReader if module is recurrent else decoding.Reader)(model)
    translator = decoding.Translator(reader, longest=np.int64(3))
    for sources, message in (
        ([[1, 5]], "token 5 is outside the vocabulary, 0 to 4"),
        ([[-1]], "token -1"),
        ([1, 2], r"sources \(2,\) must be"),
        (np.zeros((2, 0), int), r"sources \(2, 0\) must be"),
        ([[0.5]], "whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            translator(sources)
    with pytest.raises(ValueError, match=r"beams 1\.5 must be a whole number"):
        translator([[1]], beams=1.5)
    with pytest.raises(ValueError, match=r"longest 2\.5 must be a whole number"):
        decoding.Translator(reader, longest=2.5)
    if module is transformer:
        with pytest.raises(ValueError, match="token 6"):
            decoding.cross_attention_maps(model, [1], [6])
        with pytest.raises(ValueError, match="one sequence"):
            decoding.attention_maps(transformer.decoder(vocabulary=5, **TRANSFORMER), [[1]])


@pytest.mark.parametrize(
    "build",
    [
        lambda: recurrent.lstm(features=2, outputs=3, units=(3,), bidirectional=True),
        lambda: recurrent.gru(features=2, outputs=3, units=(3,), head="classification"),
        lambda: transformer.encoder(**TRANSFORMER, features=2, outputs=3),
        lambda: transformer.encoder(**TRANSFORMER, features=2, outputs=3, head="classification"),
    ],
)
def test_short_and_empty_sequences(build):
    model = build()
    x = RANDOM.normal(size=(1, 4, 2)).astype("float32")
    alone = values(model(x))
    both = values(model(np.concatenate([x, np.zeros_like(x)])))  # beside a sequence that is all padding
    np.testing.assert_allclose(both[:1], alone, atol=1e-6)
    assert np.isfinite(both).all()
    assert values(model(x[:, :1])).shape[0] == 1
    assert values(model(x[:0])).shape[0] == 0

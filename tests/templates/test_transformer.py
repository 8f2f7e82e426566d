import math

import keras
import numpy as np
import pytest

from templates.transformer import decoder, encoder, encoder_decoder
from tests.templates.transformers import (
    EAGERLY,
    SIZES,
    SIZES_OF,
    build,
    constant,
    cut,
    draw,
    example,
    loss_function,
    named,
    padded,
    pairs,
    reference,
    reference_encoder,
    reference_loss,
    reference_of_both,
    slope,
    softmax,
    values,
)


@pytest.fixture
def float64():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    on_jax = keras.backend.backend() == "jax"
    if on_jax:
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    if on_jax:
        jax.config.update("jax_enable_x64", False)


def size_of_blocks(*, width, depth, feed_forward=None, attentions=1, **_) -> int:
    hidden = feed_forward or 4 * width
    attention = 2 * width + 4 * (width + 1) * width
    block = attentions * attention + 2 * width + (width + 1) * hidden + (hidden + 1) * width
    return depth * block + 2 * width


# The decoder


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 1, "heads": 1, "activation": "relu", "output_activation": "softmax"},
        {"width": 12, "depth": 3, "heads": 4, "feed_forward": 5, "mask_value": 6},
    ],
    ids=["shallow", "deep"],
)
def test_outputs_follow_the_definition_and_sizes_the_formula(options, tmp_path):
    options = SIZES | options
    model = build(**options)
    model.save(tmp_path / "model.keras")
    weights = named(model)
    again = keras.saving.load_model(tmp_path / "model.keras")
    for time in (6, 3):
        tokens = draw(3, time, vocabulary=6)
        expected = np.array([reference(weights, sequence, **options)[0] for sequence in tokens])
        if "output_activation" in options:
            expected = softmax(expected)
        outputs = values(model(tokens))
        assert outputs.shape == (3, time, 7)
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(values(again(tokens)), outputs, rtol=0, atol=1e-6)

    # The matrix of the tokens is there once, for both ends.
    assert model.count_params() == (7 + 6) * options["width"] + size_of_blocks(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vocabulary": 5, "mask_value": 4, "head": "classification", "depth": 1, "heads": 4, "feed_forward": 5},
        {"mask_value": None, "depth": 1, "heads": 1, "activation": "relu", "output_activation": None},
    ],
    ids=["default", "tokens", "unpadded"],
)
def test_an_encoder_follows_the_definition_and_its_size_the_formula(options, tmp_path):
    model = build(encoder, **options)
    model.save(tmp_path / "model.keras")
    options = SIZES_OF[encoder] | options
    mask_value, width = options.get("mask_value", 0), options["width"]
    random = np.random.default_rng(2)
    sequences = []
    for length in (6, 3, 1, 0, 4) if mask_value is not None else (6, 6):
        tokens = random.integers(0, 4, length).astype(np.int32)
        sequences.append(tokens if "vocabulary" in options else random.normal(size=(length, 3)).astype(np.float32))
    if mask_value is not None:
        sequences[0][2] = mask_value  # not at the end, so it's real
    inputs = padded(sequences, 6, mask_value or 0)
    outputs = values(model(inputs))
    assert np.isfinite(outputs).all()
    for sequence, output, row in zip(sequences, outputs, inputs, strict=True):
        real = sequence if len(sequence) else row[:1]
        expected = reference_encoder(named(model), real, **options)
        output = output if options.get("head") == "classification" else output[: len(real)]
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(values(again(inputs)), outputs, rtol=0, atol=1e-6)

    first = 5 * width if "vocabulary" in options else (3 + 1) * width
    assert model.count_params() == first + 6 * width + size_of_blocks(**options) + (width + 1) * 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "depth": 1,
            "heads": 1,
            "feed_forward": 5,
            "activation": "tanh",
            "output_activation": "softmax",
            "mask_value": 5,
        },
    ],
    ids=["default", "shallow"],
)
def test_an_encoder_decoder_follows_the_definition_and_its_size_the_formula(options, tmp_path):
    model = build(encoder_decoder, **options)
    model.save(tmp_path / "model.keras")
    options = SIZES_OF[encoder_decoder] | options
    width, mask_value = options["width"], options.get("mask_value", 0)
    sources, targets = pairs()
    sources = [(source + mask_value) % 6 for source in sources]
    targets = [(target + mask_value) % 7 for target in targets]
    inputs = [padded(sources, 6, mask_value), padded(targets, 5, mask_value)]
    outputs = values(model(inputs))
    for source, target, output in zip(sources, targets, outputs, strict=True):
        expected, _ = reference_of_both(named(model), source, target, **options)
        expected = softmax(expected) if "output_activation" in options else expected
        np.testing.assert_allclose(output[: len(target)], expected, rtol=0, atol=1e-5)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(values(again(inputs)), outputs, rtol=0, atol=1e-6)

    tables = (6 + 6 + 7 + 5) * width
    assert model.count_params() == tables + size_of_blocks(**options) + size_of_blocks(**options, attentions=2)


@pytest.mark.parametrize("builder", [decoder, encoder_decoder])
def test_a_later_token_changes_nothing_before_it(builder):
    time = 6 if builder is decoder else 5
    tokens = draw(1, time)
    variants = np.repeat(tokens, time + 1, axis=0)  # in the variant i the tokens from i on are others
    for place in range(time):
        variants[place, place:] = (variants[place, place:] + 1 + np.arange(time - place)) % 7
    source = np.repeat(draw(1, 6, vocabulary=6), time + 1, axis=0)
    outputs = values(constant(builder)(variants if builder is decoder else [source, variants]))
    for place in range(time):
        np.testing.assert_allclose(outputs[place, :place], outputs[-1, :place], rtol=0, atol=1e-6)
        assert np.abs(outputs[place, place:] - outputs[-1, place:]).max(axis=-1).min() > 1e-3


@pytest.mark.parametrize("builder", [encoder, encoder_decoder])
def test_each_step_of_a_source_counts_everywhere(builder):
    source = draw(1, 6, vocabulary=5) + 1
    variants = np.repeat(source, 7, axis=0)  # in the variant i the token i is another
    variants[range(6), range(6)] = variants[range(6), range(6)] % 5 + 1
    if builder is encoder:
        inputs = np.random.default_rng(0).normal(size=(6, 3))[variants]
    else:
        inputs = [variants, np.repeat(draw(1, 5), 7, axis=0)]
    outputs = values(constant(builder)(inputs))
    assert np.abs(outputs[:-1] - outputs[-1]).max(axis=-1).min() > 1e-4


@pytest.mark.parametrize("kind", ["decoder", "decoder with padding", "encoder_decoder"])
def test_gradients_are_finite_differences_of_the_loss(kind, float64):
    small = {"width": 4, "depth": 1, "feed_forward": 3}
    if kind == "encoder_decoder":
        model = build(encoder_decoder, target_context=4, target_vocabulary=5, **small)
        sources, targets = [[3, 1, 5, 5, 2, 4], [2, 1]], [[1, 4, 4, 3], [1, 2]]
        inputs = [padded(sources, 6), padded(targets, 4)]
    else:
        mask_value = 4 if kind.endswith("padding") else None
        model = build(vocabulary=5, context=4, mask_value=mask_value, **small)
        targets = [[1, 2, 0, 3], [0, 1]] if mask_value else [[1, 2, 0, 3], [0, 1, 4, 4]]
        inputs = padded(targets, 4, 4)
    labels = draw(2, 4, vocabulary=5)
    before = named(model)
    model.compile(keras.optimizers.SGD(1.0), loss_function(), run_eagerly=EAGERLY)
    loss = model.train_on_batch(inputs, labels)
    after = named(model)

    def by_definition():
        if kind == "encoder_decoder":
            logits = [reference_of_both(before, *pair)[0] for pair in zip(sources, targets, strict=True)]
        else:
            logits = [reference(before, target)[0] for target in targets]
        return reference_loss(logits, labels)

    np.testing.assert_allclose(loss, by_definition(), rtol=1e-6)
    random = np.random.default_rng(0)
    for name, weight in before.items():
        gradient = weight - after[name]
        # What is added to all keys alike changes no softmax.
        assert name.endswith("attention/key/bias") or np.all(gradient.any(axis=0)), name
        for _ in range(2):
            direction = random.normal(size=weight.shape)
            expected = slope(by_definition, weight, direction)
            np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-5, atol=1e-7, err_msg=name)
    for name in {"positions/table", "source_positions/table"} & set(before):
        assert np.all((before[name] != after[name]).all(axis=1))  # every place


@pytest.mark.parametrize("builder", [decoder, encoder, encoder_decoder])
def test_padding_and_order_change_nothing_and_a_training_step_lowers_the_loss(builder):
    model = build(builder, mask_value=0, output_activation=None, depth=1)
    inputs, alone = example(builder)
    references = alone(named(model))
    rows = len(references)
    outputs = values(model(inputs))
    assert np.isfinite(outputs).all()
    for output, expected in zip(outputs, references, strict=True):
        np.testing.assert_allclose(output[: len(expected)], expected, rtol=0, atol=1e-5)
    order = np.arange(rows)[::-1]
    np.testing.assert_allclose(values(model(cut(inputs, order))), outputs[order], rtol=0, atol=1e-5)
    short = [row for row in range(rows) if all(not array[row, 4:].any() for array in keras.tree.flatten(inputs))]
    assert 0 < len(short) < rows
    shorter = values(model(cut(inputs, np.ix_(short, range(4)))))  # less padding
    for row, output in zip(short, shorter, strict=True):
        np.testing.assert_allclose(output[: len(references[row])], references[row], rtol=0, atol=1e-5)

    labels = draw(rows, outputs.shape[1], seed=2, vocabulary=4)
    model.compile(keras.optimizers.SGD(0.03), loss_function(), run_eagerly=EAGERLY)
    assert model.train_on_batch(inputs, labels) == pytest.approx(reference_loss(references, labels), rel=1e-5)
    after = reference_loss(alone(named(model)), labels)
    assert after < reference_loss(references, labels) - 0.01
    if builder is encoder:
        return  # which keeps the first step of nothing but padding
    weights = model.get_weights()
    model.reset_metrics()
    assert model.train_on_batch(keras.tree.map_structure(np.zeros_like, inputs), labels) == 0
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("builder", [decoder, encoder_decoder])
def test_initial_weights_suit_the_width_and_follow_the_seed(builder):
    if builder is decoder:
        options = {"vocabulary": 300, "context": 200, "depth": 2}
    else:
        options = {"source_vocabulary": 200, "target_vocabulary": 300, "source_context": 100, "target_context": 200}
        options |= {"depth": 1}
    models = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        models.append(named(builder(width=64, heads=4, **options)))
    seen = set()
    for name, weight in models[0].items():
        np.testing.assert_array_equal(weight, models[1][name])
        if name.endswith(("bias", "beta")):
            assert not weight.any()
        elif name.endswith("gamma"):
            assert np.all(weight == 1)
        else:
            assert np.any(weight != models[2][name])
            expected = 64**-0.5
            if name.endswith(("attention_output/kernel", "contract/kernel")):
                parts = 3 if builder is encoder_decoder and not name.startswith("source_") else 2
                expected /= math.sqrt(parts * options["depth"])  # as often something is added
            # Of n draws the estimate of the deviation has a relative error of 1 / √(2 n).
            assert weight.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.size)), name
            assert abs(weight.mean()) < 5 * expected / math.sqrt(weight.size), name
            seen.add(weight.flat[0] / expected)
    assert len(seen) == (2 + 6 * 2 if builder is decoder else 4 + 6 + 10)  # no two are equal


@pytest.mark.parametrize("builder", [decoder, encoder, encoder_decoder])
def test_dropout_is_built_only_where_asked_for_and_only_trains(builder):
    without, model = build(builder), constant(builder)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in without.layers)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    attentions = [layer.dropout for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
    assert rates == [0.3] * (12 if builder is encoder_decoder else 5)
    assert attentions == [0.3] * (6 if builder is encoder_decoder else 2)
    inputs, _ = example(builder)
    expected = values(without(inputs))
    np.testing.assert_allclose(values(model(inputs)), expected, rtol=0, atol=1e-5)
    first, second = (values(model(inputs, training=True)) for _ in range(2))
    assert np.all(np.abs(first - second).max(axis=-1) > 1e-4)  # in every place
    np.testing.assert_array_equal(values(without(inputs, training=True)), expected)


@pytest.mark.parametrize("builder", [decoder, encoder, encoder_decoder])
def test_mixed_precision_trains_on_finite_numbers(builder, half_precision):
    model = build(builder, mask_value=0, output_activation=None, depth=1)
    assert model.get_layer("block_1_attention").compute_dtype == half_precision[0]
    inputs, alone = example(builder)
    references = alone(named(model))
    outputs = values(model(inputs))
    assert outputs.dtype == np.float32
    for output, expected in zip(outputs, references, strict=True):
        np.testing.assert_allclose(output[: len(expected)], expected, rtol=0, atol=half_precision[1])
    labels = draw(len(references), outputs.shape[1], vocabulary=4)
    model.compile(keras.optimizers.SGD(0.03), loss_function(), run_eagerly=EAGERLY)
    for _ in range(2):
        loss = model.train_on_batch(inputs, labels)
        assert np.isfinite(loss)
    after = named(model)
    assert reference_loss(alone(after), labels) < reference_loss(references, labels) - 0.01
    big = [1000 * weight if "query" in name else weight for name, weight in after.items()]
    model.set_weights(big)  # products beyond what float16 holds
    assert np.isfinite(values(model(inputs))).all()


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (decoder, {"vocabulary": 0}, "vocabulary 0"),
        (decoder, {"context": 0}, "at least 1"),
        (decoder, {"depth": 0}, "at least 1"),
        (decoder, {"feed_forward": 0}, "feed_forward 0"),
        (decoder, {"width": 10, "heads": 4}, "4 heads don't divide the width 10"),
        (decoder, {"mask_value": 7}, "mask_value 7 must be one of the 7 tokens"),
        (decoder, {"mask_value": -1}, "mask_value -1"),
        (encoder, {"features": 0}, "features 0"),
        (encoder, {"outputs": 0}, "outputs 0"),
        (encoder, {"heads": 3}, "3 heads don't divide the width 8"),
        (encoder, {"head": "next_token"}, "head 'next_token' must be one of tagging, classification"),
        (encoder, {"vocabulary": 5, "mask_value": 1.5}, "mask_value 1.5 must be one of the 5 tokens"),
        (encoder_decoder, {"source_vocabulary": 0}, "source_vocabulary 0"),
        (encoder_decoder, {"target_context": 0}, "target_context 0"),
        (encoder_decoder, {"mask_value": 6}, "mask_value 6 must be one of the 6 tokens"),  # of the source
    ],
)
def test_impossible_models_are_refused(builder, options, message):
    with pytest.raises(ValueError, match=message):
        builder(**SIZES_OF[builder] | options)


def test_a_sequence_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="7 tokens is longer than the context of 6"):
        decoder(**SIZES)(draw(1, 7))


@pytest.mark.slow
def test_attention_finds_what_stood_before_and_what_the_source_says():
    keras.utils.set_random_seed(0)
    source, own = np.random.default_rng(0).integers(1, 9, (2, 6800, 4))
    target = np.concatenate([np.full((6800, 1), 9), own, own, source[:, ::-1]], axis=1)
    model = encoder_decoder(
        source_vocabulary=9, target_vocabulary=10, source_context=4, target_context=12, width=32, depth=1, heads=2
    )
    model.compile(keras.optimizers.Adam(0.005), loss_function())
    model.fit([source[:6400], target[:6400, :-1]], target[:6400, 1:], batch_size=64, verbose=0)
    found = values(model([source[6400:], target[6400:, :-1]])).argmax(axis=-1) == target[6400:, 1:]
    assert found[:, :4].mean() < 0.2  # nobody knows: 1 / 8, 1600 coins
    assert found[:, 4:8].mean() > 0.98
    assert found[:, 8:].mean() > 0.95

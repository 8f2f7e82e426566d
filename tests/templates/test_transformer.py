import functools
import itertools
import math
import types

import keras
import numpy as np
import pytest

from templates import recurrent
from templates.transformer import (
    Reader,
    Stream,
    Translator,
    _Compiled,
    attention_maps,
    cross_attention_maps,
    decoder,
    encoder,
    encoder_decoder,
    generate,
)

EAGERLY = keras.backend.backend() != "jax"  # the quickest for a single step
SIZES = {"vocabulary": 7, "context": 6, "width": 8, "depth": 2, "heads": 2}
BLOCKS = {"width": 8, "depth": 2, "heads": 2}
SIZES_OF = {
    decoder: SIZES,
    encoder: BLOCKS | {"features": 3, "outputs": 4, "context": 6},
    encoder_decoder: BLOCKS
    | {"source_vocabulary": 6, "target_vocabulary": 7, "source_context": 6, "target_context": 5},
}
ACTIVATIONS = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def build(builder=decoder, *, seed: int = 0, **options) -> keras.Model:
    """A small model of random weights, biases included."""
    model = builder(**SIZES_OF[builder] | options)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    return model


@functools.cache
def constant(builder) -> keras.Model:
    """A small model that no test changes."""
    return build(builder, dropout=0.3)


def draw(rows: int, time: int, *, seed: int = 1, vocabulary: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocabulary, (rows, time)).astype(np.int32)


def named(model: keras.Model) -> dict[str, np.ndarray]:
    """Each weight in float64, by its layer's name and its own."""
    return {variable.path: np.asarray(values(variable), np.float64) for variable in model.weights}


def loss_function():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# The definition, for one sequence without padding


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def normalise(x, gamma, beta):
    return gamma * (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) + beta


def attend(weights, name, x, memory, *, causal=False) -> tuple[np.ndarray, np.ndarray]:
    """What attention adds to x, (time, width), and how much each token looks at each of the memory, by head."""
    added = weights[f"{name}/attention_output/bias"].copy()
    looks = np.zeros((weights[f"{name}/query/bias"].shape[0], len(x), len(memory)))
    for head in range(len(looks)):
        query, key, value = (
            y @ weights[f"{name}/{kind}/kernel"][:, head] + weights[f"{name}/{kind}/bias"][head]
            for kind, y in (("query", x), ("key", memory), ("value", memory))
        )
        scores = query @ key.T / math.sqrt(query.shape[1])
        looks[head] = softmax(np.where(np.tri(len(x)), scores, -np.inf) if causal else scores)
        added = added + looks[head] @ value @ weights[f"{name}/attention_output/kernel"][head]
    return added, looks


def blocks(weights, x, *, prefix="", memory=None, causal=False, activation="gelu"):
    """All blocks on what is embedded, (time, width): the output, and the maps of both kinds of attention."""

    def norm(name, x):
        return normalise(x, weights[f"{name}/gamma"], weights[f"{name}/beta"])

    x = x + weights[f"{prefix}positions/table"][: len(x)]
    maps, cross_maps = [], []
    for block in (f"{prefix}block_{number}" for number in itertools.count(1)):
        if f"{block}_expand/kernel" not in weights:
            return norm(f"{prefix}normalization", x), maps, cross_maps
        y = norm(f"{block}_attention_normalization", x)
        added, looks = attend(weights, f"{block}_attention", y, y, causal=causal)
        x = x + added
        maps.append(looks)
        if memory is not None:
            y = norm(f"{block}_cross_attention_normalization", x)
            added, looks = attend(weights, f"{block}_cross_attention", y, memory)
            x = x + added
            cross_maps.append(looks)
        y = norm(f"{block}_feed_forward_normalization", x)
        y = ACTIVATIONS[activation](y @ weights[f"{block}_expand/kernel"] + weights[f"{block}_expand/bias"])
        x = x + y @ weights[f"{block}_contract/kernel"] + weights[f"{block}_contract/bias"]


def reference(weights, tokens, *, activation="gelu", **_) -> tuple[np.ndarray, list[np.ndarray]]:
    """Of a decoder: logits (time, vocabulary), and of each block how much each token looks at each, by head."""
    embedding = weights["embedding/embeddings"]
    x, maps, _ = blocks(weights, embedding[tokens], causal=True, activation=activation)
    return x @ embedding.T, maps


def reference_encoder(weights, sequence, *, head="tagging", activation="gelu", output_activation="softmax", **_):
    """Of an encoder: the output (time, outputs) or (outputs,)."""
    if sequence.ndim == 1:
        x = weights["embedding/embeddings"][sequence]
    else:
        x = sequence @ weights["projection/kernel"] + weights["projection/bias"]
    x, _, _ = blocks(weights, x, activation=activation)
    x = x.mean(axis=0) if head == "classification" else x
    logits = x @ weights["output/kernel"] + weights["output/bias"]
    return softmax(logits) if output_activation else logits


def reference_of_both(weights, source, target, *, activation="gelu", mask_value=0, **_):
    """Of an encoder with a decoder: logits (time, vocabulary), and the maps of the cross-attention."""
    source = source if len(source) else [mask_value]
    x = weights["source_embedding/embeddings"][source]
    memory, _, _ = blocks(weights, x, prefix="source_", activation=activation)
    embedding = weights["embedding/embeddings"]
    x, _, maps = blocks(weights, embedding[target], memory=memory, causal=True, activation=activation)
    return x @ embedding.T, maps


def reference_loss(logits, labels) -> float:
    """Cross-entropy, the mean over the real tokens of all sequences; there may be labels of padding as well."""
    chances = [
        softmax(rows)[np.arange(len(rows)), label[: len(rows)]] for rows, label in zip(logits, labels, strict=True)
    ]
    return float(-np.log(np.concatenate(chances)).mean())


def slope(function, array: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> float:
    """Central finite difference of a function along a direction of an array that it reads."""
    kept = array.copy()
    array[...] = kept + step * direction
    above = function()
    array[...] = kept - step * direction
    below = function()
    array[...] = kept
    return (above - below) / (2 * step)


def padded(sequences, time: int, mask_value=0) -> np.ndarray:
    """All in one array, filled up at the end."""
    first = np.asarray(sequences[0])
    filled = np.full((len(sequences), time, *first.shape[1:]), mask_value, first.dtype)
    for row, sequence in zip(filled, sequences, strict=True):
        row[: len(sequence)] = sequence
    return filled


def pairs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sources and targets of all lengths, also none, without padding, which is 0; a target begins with a 1."""
    random = np.random.default_rng(5)
    sources = [random.integers(1, 6, length).astype(np.int32) for length in (4, 1, 6, 0, 2, 3)]
    targets = [np.append(1, random.integers(1, 7, length - 1)).astype(np.int32) for length in (5, 3, 4, 2, 1, 5)]
    return sources, targets


def example(builder):
    """Inputs of a model, padded with 0, and a function of its weights: the logits of each of the sequences alone."""
    if builder is encoder_decoder:
        sources, targets = pairs()
        inputs = [padded(sources, 6), padded(targets, 5)]
        return inputs, lambda weights: [
            reference_of_both(weights, *pair)[0] for pair in zip(sources, targets, strict=True)
        ]
    random = np.random.default_rng(5)
    if builder is encoder:
        # What float16 takes for zeros is no padding.
        sequences = [random.normal(size=(6, 3)), np.full((4, 3), 1e-30), random.normal(size=(1, 3))]
        sequences = [sequence.astype(np.float32) for sequence in sequences]
        return padded(sequences, 6), lambda weights: [
            reference_encoder(weights, sequence, output_activation=None) for sequence in sequences
        ]
    sequences = [random.integers(1, 7, length).astype(np.int32) for length in (6, 3, 0, 1)]
    return padded(sequences, 6), lambda weights: [reference(weights, sequence)[0] for sequence in sequences]


def cut(inputs, places):
    """Some or other rows, or a part of them, of each input."""
    return keras.tree.map_structure(lambda array: array[places], inputs)


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


@pytest.fixture
def uncompiled(monkeypatch):
    """On TensorFlow, where that takes longest, nothing is compiled in a test."""
    original = _Compiled.compile
    monkeypatch.setattr(_Compiled, "compile", lambda self, **_: original(self, run_eagerly=EAGERLY))


@pytest.fixture
def half_precision():
    """Set mixed precision for a test, and give the half one's name and how exact it is."""
    # On a CPU JAX has no attention in float16.
    dtype, exactness = ("bfloat16", 0.06) if keras.backend.backend() == "jax" else ("float16", 0.01)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    yield dtype, exactness
    keras.config.set_dtype_policy(policy)


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
        (decoder, {"mask_value": 7}, "mask_value 7 is none of the 7 tokens"),
        (decoder, {"mask_value": -1}, "mask_value -1"),
        (encoder, {"features": 0}, "features 0"),
        (encoder, {"outputs": 0}, "outputs 0"),
        (encoder, {"heads": 3}, "3 heads don't divide the width 8"),
        (encoder, {"head": "next_token"}, "head 'next_token' is none of tagging, classification"),
        (encoder, {"vocabulary": 5, "mask_value": 1.5}, "mask_value 1.5 is none of the 5 tokens"),
        (encoder_decoder, {"source_vocabulary": 0}, "source_vocabulary 0"),
        (encoder_decoder, {"target_context": 0}, "target_context 0"),
        (encoder_decoder, {"mask_value": 6}, "mask_value 6 is none of the 6 tokens"),  # of the source
    ],
)
def test_impossible_models_are_refused(builder, options, message):
    with pytest.raises(ValueError, match=message):
        builder(**SIZES_OF[builder] | options)


def test_a_sequence_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="7 tokens is longer than the context of 6"):
        decoder(**SIZES)(draw(1, 7))


def test_attention_maps_follow_the_definition():
    model = constant(decoder)
    tokens = draw(1, 5)[0]
    maps = attention_maps(model, tokens)
    expected = reference(named(model), tokens)[1]
    assert [found.shape for found in maps] == [(2, 5, 5)] * 2
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6)


def test_cross_attention_maps_follow_the_definition():
    model = constant(encoder_decoder)
    source, target = [2, 5, 1, 3], [1, 4, 6]
    expected = reference_of_both(named(model), source, target)[1]
    maps = cross_attention_maps(model, [*source, 0, 0], target)  # of padding nobody sees anything
    assert [found.shape for found in maps] == [(2, 3, 6)] * 2
    np.testing.assert_allclose(np.array(maps)[..., :4], expected, rtol=0, atol=1e-6)
    assert not np.array(maps)[..., 4:].any()


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


# Streaming


def window(time: int, context: int = 6) -> int:
    """Where the context begins after so many tokens, one at a time."""
    start = 0
    for count in range(1, time + 1):
        if count - start > context:
            start = count - 1 - context // 2
    return start


@pytest.fixture(scope="module")
def shared_stream() -> tuple[keras.Model, Stream]:
    model = build(dropout=0.3, mask_value=6)
    return model, Stream(model)


def test_a_stream_says_what_the_whole_sequence_says_also_beyond_the_context(shared_stream, monkeypatch):
    model, stream = shared_stream
    weights = model.get_weights()
    tokens = draw(3, 20)
    expected = []
    for time in range(1, 21):
        start = window(time)
        assert time - start <= 6
        if start:
            assert time - start > 3  # half of the context is kept
        expected.append([reference(named(model), row[start:time])[0][-1] for row in tokens])

    stream.reset()
    for time in range(20):
        np.testing.assert_allclose(stream(tokens[:, time]), expected[time], rtol=0, atol=1e-5)
        assert stream.tokens.shape[1] <= 6
    reader = stream.reader
    assert reader.jit_compile == (keras.backend.backend() != "torch")
    if keras.backend.backend() != "torch":
        monkeypatch.setattr(type(reader), "call", None)  # all is compiled by now
    for cuts in ([0, 4, 5, 6, 7, 20], [0, 20], [0, 2, 5, 9, 19, 20]):
        stream.reset()
        for first, last in itertools.pairwise(cuts):
            np.testing.assert_allclose(stream(tokens[:, first:last]), expected[last - 1], rtol=0, atol=1e-5)
    assert stream.reader is reader

    with pytest.raises(ValueError, match="1 sequences after 3"):
        stream(tokens[:1, 0])
    model.set_weights([weight / 2 for weight in weights])  # they are shared
    stream.reset()
    stream(tokens[:, :3])
    halved = stream(tokens[:, 3])
    model.set_weights(weights)
    stream.reset()
    stream(tokens[:, :3])
    np.testing.assert_allclose(stream(tokens[:, 3]), expected[3], rtol=0, atol=1e-5)
    small = {name: weight / 2 for name, weight in named(model).items()}
    np.testing.assert_allclose(halved, [reference(small, row[:4])[0][-1] for row in tokens], rtol=0, atol=1e-5)
    assert np.abs(halved - expected[3]).max() > 0.01


def test_a_stream_in_mixed_precision_says_what_the_whole_sequence_says(half_precision, uncompiled):
    model = build(depth=1)
    tokens = draw(2, 4)
    stream, whole = Stream(model), values(model(tokens))
    for time in range(4):
        np.testing.assert_allclose(stream(tokens[:, time]), whole[:, time], rtol=0, atol=half_precision[1])


# Sampling


def ranked(logits, temperature=1.0, top_k=None, top_p=None) -> dict[int, float]:
    """What each token is drawn with, of those that can be, the most probable first."""
    if temperature == 0:
        return {int(np.argmax(logits)): 1.0}
    chances = {token: math.exp(logit / temperature) for token, logit in enumerate(logits)}
    order = sorted(chances, key=lambda token: -chances[token])[:top_k]
    total = sum(chances[token] for token in order)
    kept, share = {}, 0.0
    for token in order:
        if top_p is not None and share >= top_p:
            break
        kept[token] = chances[token]
        share += chances[token] / total
    return {token: chance / sum(kept.values()) for token, chance in kept.items()}


def drawn(random: np.random.Generator, logits, **sampling) -> int:
    """One token, the next of a row's random numbers says which."""
    chances = ranked(np.asarray(logits, np.float64), **sampling)
    place = np.searchsorted(np.cumsum(list(chances.values())), random.random(), side="right")
    return list(chances)[min(int(place), len(chances) - 1)]


class Scripted:
    """A stream whose logits are a table's row for the sum of all tokens so far."""

    def __init__(self, vocabulary: int):
        self.table = np.random.default_rng(0).normal(size=(vocabulary, vocabulary))
        self.reset()

    def reset(self):
        self.total: np.ndarray | int = 0

    def __call__(self, tokens):
        self.total = self.total + tokens.reshape(len(tokens), -1).sum(axis=1)
        return self.table[self.total % len(self.table)]


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 1},
        {"temperature": 0.6, "top_k": 4},
        {"temperature": 1.5, "top_p": 0.7},
        {"top_k": 3, "top_p": 0.8},
        {"top_k": 20, "top_p": 1.0},
        {"top_p": 0.01},
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_probable(sampling):
    stream = Scripted(6)
    found = np.array(list(generate(stream, [[0]] * 12, 800, seed=1, **sampling)))
    states = np.cumsum(np.insert(found, 0, 0, axis=0), axis=0)[:-1] % 6
    states, found = states.ravel(), found.ravel()
    for state in np.unique(states):
        draws = found[states == state]
        expected = np.zeros(6)
        for token, chance in ranked(stream.table[state], **sampling).items():
            expected[token] = chance
        often = np.bincount(draws, minlength=6) / len(draws)
        np.testing.assert_array_equal(often > 0, expected > 0)
        assert np.all(np.abs(often - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(draws)))


def test_each_prompt_gets_what_it_would_get_alone():
    prompts = [[1, 2, 3], [4], [0, 1, 5, 2, 2, 3, 4, 1], [4]]
    together = np.array(list(generate(Scripted(6), prompts, 12, seed=5)))
    assert together.shape == (12, 4)
    assert together.dtype == np.int32
    for row, prompt in enumerate(prompts):
        expected, random = list(prompt), np.random.default_rng([5, row])
        for _ in range(12):
            expected.append(drawn(random, Scripted(6).table[sum(expected) % 6]))
        np.testing.assert_array_equal(together[:, row], expected[len(prompt) :])
    assert np.any(together[:, 1] != together[:, 3])  # the same prompt in another row
    others = np.array(list(generate(Scripted(6), [[0] * 9, *prompts[1:]], 12, seed=5)))
    np.testing.assert_array_equal(others[:, 1:], together[:, 1:])
    assert np.any(np.array(list(generate(Scripted(6), prompts, 12, seed=6))) != together)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}], ids=["greedy", "all", "cut"]
)
def test_a_decoder_goes_on_from_prompts_of_any_lengths_as_the_whole_sequence_says(sampling, shared_stream):
    model, stream = shared_stream
    weights = named(model)
    prompts = [draw(1, length, seed=length)[0] for length in (2, 5, 9)]
    found = np.array(list(generate(stream, prompts, 40, seed=3, **sampling)))
    for row, prompt in enumerate(prompts):
        told, random = list(prompt), np.random.default_rng([3, row])
        for token in found[:, row]:
            logits, _ = reference(weights, told[window(len(told)) :])
            assert token == drawn(random, logits[-1], **sampling)
            told.append(token)
    again = np.array(list(generate(stream, prompts, 23, seed=3, **sampling)))
    np.testing.assert_array_equal(again, found[:23])


def test_a_recurrent_network_goes_on_as_the_whole_sequence_says():
    model = recurrent.gru(vocabulary=7, head="next_token", units=(5,), mask_value=None, output_activation=None)
    random = np.random.default_rng(4)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    prompts = [[1, 2, 3], [4]]
    found = np.array(list(generate(recurrent.Stream(model), prompts, 5, temperature=0)))
    for row, prompt in enumerate(prompts):
        told = list(prompt)
        for _ in range(5):
            whole = np.array([told + [0] * (8 - len(told))], np.int32)  # of one length; what comes later doesn't count
            told.append(int(values(model(whole))[0, len(told) - 1].argmax()))
        np.testing.assert_array_equal(found[:, row], told[len(prompt) :])


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "must be a prompt"),
        ([[1], []], {}, "at least one token"),
        ([[1]], {"temperature": -1}, "temperature -1"),
        ([[1]], {"top_k": 0}, "top_k 0"),
        ([[1]], {"top_p": 0}, "top_p 0"),
        ([[1]], {"top_p": 1.1}, "top_p 1.1"),
    ],
)
def test_impossible_generation_is_refused_at_once(prompts, options, message):
    with pytest.raises(ValueError, match=message):
        generate(Scripted(6), prompts, 5, **options)


def test_no_tokens_are_none():
    assert list(generate(Scripted(6), [[1], [2, 3]], 0)) == []


# Translation


def read(reader, sources, targets) -> np.ndarray:
    """The logits that a reader gives step by step, (batch, time, vocabulary)."""
    state = reader.begin(keras.ops.convert_to_tensor(sources))
    logits = []
    for place in range(targets.shape[1]):
        new, state = reader.step(state, keras.ops.convert_to_tensor(targets[:, place]), place)
        logits.append(values(new))
    return np.stack(logits, axis=1)


def test_a_reader_says_step_by_step_what_the_whole_pair_says_and_reads_the_source_once():
    model = constant(encoder_decoder)
    reader = Reader(model)
    (sources, targets), alone = example(encoder_decoder)
    logits = read(reader, sources, targets)
    np.testing.assert_allclose(logits, values(model([sources, targets])), rtol=0, atol=1e-5)
    for found, expected in zip(logits, alone(named(model)), strict=True):
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-5)

    state = reader.begin(keras.ops.convert_to_tensor(sources))
    assert all(leaf.shape[0] == len(sources) for leaf in keras.tree.flatten(state))
    _, after = reader.step(state, keras.ops.convert_to_tensor(targets[:, 0]), 0)
    kept = [new is old for old, new in zip(keras.tree.flatten(state), keras.tree.flatten(after), strict=True)]
    assert kept.count(True) == 2 * 2 + 1  # of two blocks keys and values, and which steps are real
    assert kept.count(False) == 2 * 2


def test_a_reader_in_mixed_precision_says_what_the_whole_pair_says(half_precision):
    model = build(encoder_decoder)
    (sources, targets), _ = example(encoder_decoder)
    whole = values(model([sources, targets]))
    np.testing.assert_allclose(read(Reader(model), sources, targets), whole, rtol=0, atol=half_precision[1])


LONGEST = 4


def log_probabilities(model, sources, targets) -> np.ndarray:
    """Of whole targets with their ends, by the whole model."""
    told = padded([np.array([1, *target, 2]) for target in targets], LONGEST + 2)
    chances = np.log(softmax(values(model([sources, told[:, :-1]])).astype(np.float64)))
    chances = np.take_along_axis(chances, told[:, 1:, None], axis=2)[..., 0]
    return (chances * (told[:, 1:] != 0)).sum(axis=1)


def greedily(model, sources) -> list[list[int]]:
    """Always the most probable token, by the whole model."""
    told = [[1] for _ in sources]
    for _ in range(LONGEST):
        logits = values(model([sources, padded(told, LONGEST + 1).astype(np.int32)]))
        for row, target in zip(logits, told, strict=True):
            if target[-1] != 2:
                target.append(2 + int(np.argmax(row[len(target) - 1, 2:])))
    return [[token for token in target if token > 2] for target in told]


@pytest.fixture(scope="module")
def shared_translator() -> tuple[keras.Model, Translator, np.ndarray]:
    """A model that tells an end and three other tokens, and by the source ends soon or late; and sources."""
    model = build(encoder_decoder, depth=1, target_vocabulary=6, seed=14)
    model.set_weights([3 * weight if "cross_attention" in name else weight for name, weight in named(model).items()])
    return model, Translator(Reader(model), longest=LONGEST), example(encoder_decoder)[0][0]


def test_greedy_search_takes_the_most_probable_token_each_time(shared_translator, uncompiled):
    model, translator, sources = shared_translator
    tokens, found = translator(sources)
    expected = greedily(model, sources)
    np.testing.assert_array_equal(tokens[:, 0], padded(expected, LONGEST))
    assert tokens.dtype == np.int32
    np.testing.assert_allclose(found[:, 0], log_probabilities(model, sources, expected), rtol=0, atol=1e-5)
    assert len({len(target) for target in expected}) >= 4  # some go on where others have ended


def test_a_wide_beam_finds_all_targets_in_the_order_of_their_probabilities(shared_translator, monkeypatch):
    model, translator, sources = shared_translator
    targets = [target for length in range(LONGEST + 1) for target in itertools.product((3, 4, 5), repeat=length)]
    filled = [tuple(row) for row in padded(targets[::-1], LONGEST)][::-1]
    weights = model.get_weights()
    for factor in (1, -1):
        model.set_weights([factor * weight for weight in weights])  # they are shared
        tokens, found = translator(sources, beams=125)
        for source, rows, chances in zip(sources, tokens, found, strict=True):
            expected = log_probabilities(model, np.repeat(source[None], 121, axis=0), targets)
            places = [filled.index(tuple(row)) for row in rows[:121]]
            assert sorted(places) == list(range(121))  # 1 + 3 + 9 + 27 + 81
            np.testing.assert_allclose(chances[:121], expected[places], rtol=0, atol=1e-5)
            np.testing.assert_allclose(chances[:121], np.sort(expected)[::-1], rtol=0, atol=1e-5)
            assert np.all(chances[121:] == -np.inf)  # there are no more
            assert not rows[121:].any()
        compiled = translator.compiled[125, 6, 6]
        assert compiled.jit_compile == (keras.backend.backend() != "torch")
        if keras.backend.backend() != "torch":
            monkeypatch.setattr(type(compiled), "call", None)  # all is compiled by now
    model.set_weights(weights)


class Told:
    """A reader whose logits are a table's row for what the source and all tokens so far come to."""

    def __init__(self, rows: int, vocabulary: int):
        self.table = np.random.default_rng(3).normal(size=(rows, vocabulary)).astype(np.float32)
        self.model = types.SimpleNamespace(variables=[])

    def begin(self, sources):
        return {"sum": keras.ops.sum(sources, axis=1), "source": sources}

    def step(self, state, tokens, place):
        total = state["sum"] * 3 + tokens + place + state["source"][:, 0]
        logits = keras.ops.take(keras.ops.convert_to_tensor(self.table), total % len(self.table), axis=0)
        return logits, {"sum": total, "source": state["source"]}


def beam_search(reader, source, beams) -> list[tuple[float, list[int]]]:
    """By the definition, one source: (log probability, target), the best first."""
    kept = [(0.0, [1], int(sum(source)))]  # a log probability, tokens with start and end, the reader's sum
    for place in range(LONGEST + 1):
        longer = []
        for chance, tokens, total in kept:
            if tokens[-1] == 2:
                longer.append((chance, tokens, total))
                continue
            total = 3 * total + tokens[-1] + place + int(source[0])
            chances = np.log(softmax(reader.table[total % len(reader.table)].astype(np.float64)))
            possible = [2] if place == LONGEST else range(2, len(chances))
            longer += [(chance + chances[token], [*tokens, token], total) for token in possible]
        kept = sorted(longer, reverse=True)[:beams]
    return [(chance, tokens[1:-1]) for chance, tokens, _ in kept]


def test_a_narrow_beam_keeps_the_best_beginnings(uncompiled):
    reader = Told(23, 7)
    sources = draw(40, 3, vocabulary=9)
    translator = Translator(reader, longest=LONGEST)
    tokens, found = translator(sources, beams=3)
    others = 0
    for source, rows, chances in zip(sources, tokens, found, strict=True):
        expected = beam_search(reader, source, 3)
        for row, chance, (expected_chance, target) in zip(rows, chances, expected, strict=True):
            np.testing.assert_array_equal(row, target + [0] * (LONGEST - len(target)))
            assert chance == pytest.approx(expected_chance, abs=1e-5)
        others += expected[0][1] != beam_search(reader, source, 1)[0][1]
    assert others > 3  # than greedy search finds


@pytest.mark.parametrize(
    ("longest", "beams", "message"),
    [(0, 1, "longest 0 must be at least 1"), (5, 1, "smaller than the context of 5"), (4, 0, "beams 0")],
)
def test_impossible_translation_is_refused(longest, beams, message):
    with pytest.raises(ValueError, match=message):
        Translator(Reader(constant(encoder_decoder)), longest=longest)(draw(1, 6), beams=beams)

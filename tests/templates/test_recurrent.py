import itertools

import keras
import numpy as np
import pytest

from templates.decoding import LSTMReader, Translator
from templates.recurrent import (
    LSTM,
    PaddingMask,
    Stream,
    gru,
    lstm,
    lstm_encoder_decoder,
    simple_rnn,
    streaming,
    tagger,
)

BUILDERS = {"simple_rnn": simple_rnn, "lstm": lstm, "gru": gru}
GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}
SIZES = {"features": 3, "outputs": 4, "units": (5,)}
# Of the four choices any three are met in every combination.
CASES = [
    {"head": head, "bidirectional": both, "units": units, "layer_normalization": (head == "tagging") ^ both ^ deep}
    for head, both, (deep, units) in itertools.product(
        ("tagging", "classification"), (False, True), ((False, (5,)), (True, (5, 4)))
    )
]
EAGERLY = keras.backend.backend() != "jax"  # the quickest for a single step
ALL = {"bidirectional": True, "units": (5, 4), "layer_normalization": True}
TOKENS = {"vocabulary": 7, "embedding_size": 3, "mask_value": 2, "head": "next_token", "units": (5, 4)}


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def build(kind: str, *, seed: int = 0, **options) -> keras.Model:
    """A small network of random weights, biases included."""
    model = BUILDERS[kind](**SIZES | options)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in model.get_weights()])
    return model


def padded(lengths: list[int], time: int, features: int = 3, seed: int = 1) -> np.ndarray:
    """Random sequences with rows of zeros after their lengths, and one in the middle of each long one."""
    x = np.random.default_rng(seed).normal(size=(len(lengths), time, features)).astype(np.float32)
    for sequence, length in zip(x, lengths, strict=True):
        sequence[length:] = 0
        if length > 3:
            sequence[1] = 0
    return x


def real_length(sequence: np.ndarray, mask_value: float | np.float32 = 0.0) -> int:
    """Steps up to the last that isn't padding, and at least one: the rule of `PaddingMask`, step by step."""
    length = len(sequence)
    while length > 1 and np.all(sequence[length - 1] == mask_value):
        length -= 1
    return length


# The definitions, one step and one sequence at a time


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def simple_rnn_step(x, state, kernel, recurrent_kernel, bias):
    output = np.tanh(x @ kernel + state[0] @ recurrent_kernel + bias)
    return [output]


def lstm_step(x, state, kernel, recurrent_kernel, bias):
    output, carry = state
    enter, forget, candidate, leave = np.split(x @ kernel + output @ recurrent_kernel + bias, 4)
    carry = sigmoid(forget) * carry + sigmoid(enter) * np.tanh(candidate)
    return [sigmoid(leave) * np.tanh(carry), carry]


def gru_step(x, state, kernel, recurrent_kernel, bias):
    update, reset, candidate = np.split(x @ kernel + bias[0], 3)
    from_update, from_reset, from_candidate = np.split(state[0] @ recurrent_kernel + bias[1], 3)
    update, reset = sigmoid(update + from_update), sigmoid(reset + from_reset)
    return [update * state[0] + (1 - update) * np.tanh(candidate + reset * from_candidate)]


STEPS = {"simple_rnn": simple_rnn_step, "lstm": lstm_step, "gru": gru_step}


def recur(kind: str, x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    state = [np.zeros(len(weights[1]))] * 2
    outputs = []
    for step in x:
        state = STEPS[kind](step, state, *weights)
        outputs.append(state[0])
    return np.array(outputs)


def reference(
    kind, weights, x, *, units=(5,), bidirectional=False, layer_normalization=False, head="tagging", **_
) -> np.ndarray:
    """The network's output for one sequence without padding, (time, features) or (time,) of tokens."""
    left = [np.asarray(weight, np.float64) for weight in reversed(weights)]
    x = left.pop()[x] if x.ndim == 1 else x.astype(np.float64)
    for number in range(1, len(units) + 1):
        directions = [recur(kind, x, [left.pop() for _ in range(3)])]
        if bidirectional:
            directions.append(recur(kind, x[::-1], [left.pop() for _ in range(3)])[::-1])
        x = np.concatenate(directions, axis=1)
        if head == "classification" and number == len(units):  # what each direction ends with
            x = np.concatenate([outputs[end] for outputs, end in zip(directions, (-1, 0), strict=False)])
        if layer_normalization:
            gamma, beta = left.pop(), left.pop()
            variance = x.var(axis=-1, keepdims=True) + 1e-3  # Keras's epsilon
            x = gamma * (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance) + beta
    kernel, bias = left.pop(), left.pop()
    assert not left
    return softmax(x @ kernel + bias)


def reference_loss(kind, weights, x, lengths, labels, **options) -> float:
    """Cross-entropy, the mean over the real steps of all sequences (over the sequences for classification)."""
    losses = []
    for sequence, length, label in zip(x, lengths, labels, strict=True):
        output = np.atleast_2d(reference(kind, weights, sequence[:length], **options))
        losses += list(-np.log(output[np.arange(len(output)), np.atleast_1d(label)[: len(output)]]))
    return float(np.mean(losses))


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


@pytest.fixture
def tolerance():
    """Set everything to float64 for a test, and say how exact a gradient is then."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    on_jax = keras.backend.backend() == "jax"
    if on_jax:
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    # Keras's tanh returns float32 all the same, except on TensorFlow.
    yield {"rtol": 1e-6, "atol": 1e-9} if keras.backend.backend() == "tensorflow" else {"rtol": 1e-4, "atol": 1e-6}
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    if on_jax:
        jax.config.update("jax_enable_x64", False)


# Values, padding and size of every network


@pytest.mark.parametrize("options", CASES, ids=lambda options: "-".join(str(value) for value in options.values()))
@pytest.mark.parametrize("kind", BUILDERS)
def test_padded_sequences_follow_the_definitions_and_sizes_the_formula(kind, options, tmp_path):
    model = build(kind, **options)
    x = padded([6, 3, 1, 0, 5], 6)
    outputs = values(model(x))
    assert np.isfinite(outputs).all()
    for sequence, output in zip(x, outputs, strict=True):
        length = real_length(sequence)
        if options["head"] == "tagging":
            output = output[:length]
        expected = reference(kind, model.get_weights(), sequence[:length], **options)
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)

    inputs, expected = 3, 0
    for size in options["units"]:
        biases = 2 if kind == "gru" else 1
        expected += (1 + options["bidirectional"]) * GATES[kind] * size * (inputs + size + biases)
        inputs = (1 + options["bidirectional"]) * size
        expected += options["layer_normalization"] * 2 * inputs
    assert model.count_params() == expected + (inputs + 1) * 4

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.to_json() == model.to_json()
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", BUILDERS)
def test_more_padding_changes_no_real_step_and_reloading_nothing(kind, tmp_path):
    model = build(kind, **ALL)
    lengths = [6, 3, 1, 5]
    x = padded(lengths, 6)
    longer = np.pad(x, ((0, 0), (0, 3), (0, 0)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for output, other, length in zip(values(model(x)), values(again(longer)), lengths, strict=True):
        np.testing.assert_allclose(other[:length], output[:length], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", BUILDERS)
def test_tokens_are_embedded_and_their_padding_is_a_token_of_its_own(kind):
    model = build(kind, **TOKENS)
    tokens = np.array([[1, 2, 0, 3, 2, 2], [6, 5, 4, 3, 1, 0], [2, 2, 2, 2, 2, 2], [2, 2, 5, 2, 2, 2]], np.int32)
    outputs = values(model(tokens))
    assert outputs.shape == (4, 6, 7)
    for sequence, output, length in zip(tokens, outputs, (4, 6, 1, 3), strict=True):
        expected = reference(kind, model.get_weights(), sequence[:length], **TOKENS)
        np.testing.assert_allclose(output[:length], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", BUILDERS)
def test_without_mask_value_every_step_is_real(kind):
    options = {"mask_value": None, "bidirectional": True}
    model = build(kind, **options)
    x = padded([6, 2, 0], 6)
    for sequence, output in zip(x, values(model(x)), strict=True):
        expected = reference(kind, model.get_weights(), sequence, **options)
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", BUILDERS)
def test_one_step_and_default_sizes(kind):
    model = build(kind, output_activation=None, name="other")
    kernel, recurrent_kernel, bias, *head = model.get_weights()
    x = padded([1], 1)
    state = STEPS[kind](x[0, 0], [np.zeros(5)] * 2, kernel, recurrent_kernel, bias)
    np.testing.assert_allclose(values(model(x))[0, 0], state[0] @ head[0] + head[1], rtol=1e-5, atol=1e-5)
    assert model.name == "other"
    model = BUILDERS[kind]()
    biases = 2 if kind == "gru" else 1
    assert model.count_params() == GATES[kind] * 128 * (40 + 128 + biases) + (128 + 1) * 39
    assert model.name == kind


def test_initial_weights_and_their_seed():
    def draw(seed):
        keras.utils.set_random_seed(seed)
        return lstm(**SIZES | {"bidirectional": True}).get_weights()

    weights = draw(3)
    for kernel, recurrent_kernel, bias in (weights[:3], weights[3:6]):
        assert 0.1 < np.abs(kernel).max() <= np.sqrt(6 / (3 + 4 * 5))  # Glorot & Bengio's bound
        np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(5), atol=1e-5)
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 5))  # Gers et al.: the forget gate starts open
    assert np.all(weights[0] != weights[3])  # the directions differ
    for same, other, before in zip(draw(3), draw(4), weights, strict=True):
        np.testing.assert_array_equal(same, before)
        assert before.ndim == 1 or np.any(other != before)


# Gradients and loss


@pytest.mark.parametrize("head", ["tagging", "classification"])
@pytest.mark.parametrize("kind", BUILDERS)
def test_gradients_are_finite_differences_of_the_loss(kind, head, tolerance):
    options = {"features": 2, "outputs": 3, "units": (3, 2), "bidirectional": True, "layer_normalization": True}
    options |= {"head": head}
    model = build(kind, **options)
    x = padded([4, 2, 0], 4, features=2).astype(np.float64)
    labels = np.random.default_rng(2).integers(0, 3, (3, 4) if head == "tagging" else 3)
    # One step of gradient descent at rate 1 changes each weight by its gradient; the inputs are weights as well.
    places = keras.Input((4,), dtype="int32")
    table = keras.layers.Embedding(12, 2)
    whole = keras.Model(places, model(table(places)))
    table.set_weights([x.reshape(12, 2)])
    weights = model.get_weights()
    whole.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    loss = whole.train_on_batch(np.arange(12).reshape(3, 4), labels)
    inputs_gradient = x - table.get_weights()[0].reshape(3, 4, 2)
    gradients = [old - new for old, new in zip(weights, model.get_weights(), strict=True)]

    def by_definition():
        return reference_loss(kind, weights, x, lengths, labels, **options)

    lengths = [real_length(sequence) for sequence in x]
    assert lengths == [4, 2, 1]
    np.testing.assert_allclose(loss, by_definition(), rtol=1e-6)
    np.testing.assert_allclose(inputs_gradient, slopes(by_definition, x), **tolerance)
    assert np.all(inputs_gradient[1, 2:] == 0)
    assert np.all(inputs_gradient[0] != 0)
    for gradient, weight in zip(gradients, weights, strict=True):
        np.testing.assert_allclose(gradient, slopes(by_definition, weight), **tolerance)
        assert np.any(gradient != 0)


@pytest.mark.parametrize("kind", BUILDERS)
def test_gradients_of_tokens_are_finite_differences_of_the_loss(kind, tolerance):
    options = TOKENS | {"vocabulary": 5, "embedding_size": 2, "units": (3,)}
    model = build(kind, **options)
    tokens = np.array([[1, 2, 0, 3], [4, 1, 2, 2], [2, 2, 2, 2]], np.int32)
    labels = np.random.default_rng(2).integers(0, 5, (3, 4))
    weights = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    loss = model.train_on_batch(tokens, labels)

    def by_definition():
        return reference_loss(kind, weights, tokens, [4, 2, 1], labels, **options)

    np.testing.assert_allclose(loss, by_definition(), rtol=1e-6)
    for old, new, weight in zip([weight.copy() for weight in weights], model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(old - new, slopes(by_definition, weight), **tolerance)


@pytest.mark.parametrize("kind", BUILDERS)
def test_padding_does_not_count_in_the_loss_and_may_be_everything(kind):
    options = {"bidirectional": True, "layer_normalization": True}
    model = build(kind, **options)
    weights = model.get_weights()
    x = padded([6, 3, 0, 1], 6)
    labels = np.random.default_rng(3).integers(0, 4, (4, 6))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    loss = model.train_on_batch(x, labels)
    assert loss == pytest.approx(reference_loss(kind, weights, x, [6, 3, 1, 1], labels, **options), rel=1e-5)
    for old, new, variable in zip(weights, model.get_weights(), model.weights, strict=True):
        assert np.isfinite(new).all()
        assert np.any(old != new), variable.path
    weights = model.get_weights()
    model.reset_metrics()
    loss = model.train_on_batch(0 * x, labels)  # nothing but padding: the first steps are left
    assert loss == pytest.approx(reference_loss(kind, weights, 0 * x, [1] * 4, labels, **options), rel=1e-5)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_padding_does_not_count_in_the_accuracy_of_an_evaluation():
    # While JAX trains, Keras loses the mask on the way to the metrics, so there padding counts in them.
    model = build("lstm")
    x = padded([6, 3, 0, 1], 6)
    labels = np.random.default_rng(3).integers(0, 4, (4, 6))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    right = [
        output[:length].argmax(axis=1) == label[:length]
        for output, label, length in zip(values(model(x)), labels, (6, 3, 1, 1), strict=True)
    ]
    assert model.test_on_batch(x, labels)[1] == pytest.approx(np.concatenate(right).mean(), rel=1e-5)


# Padding mask


@pytest.mark.parametrize("mask_value", [0.0, 0.1, -1.0, 2])
@pytest.mark.parametrize("features", [None, 1, 3])
def test_mask_covers_all_but_the_padding_at_the_end(features, mask_value):
    random = np.random.default_rng(4)
    shape = (300, 5) if features is None else (300, 5, features)
    dtype = np.int32 if features is None else np.float32
    x = np.where(random.random(shape) < 0.7, mask_value, random.integers(-1, 4, shape)).astype(dtype)
    found = values(PaddingMask(mask_value).compute_mask([x, keras.ops.convert_to_tensor(x)]))
    lengths = [real_length(sequence, np.float32(mask_value)) for sequence in x]
    assert found.dtype == bool
    np.testing.assert_array_equal(found, [[step < length for step in range(5)] for length in lengths])
    assert features is None or set(lengths) == {1, 2, 3, 4, 5}


def test_mask_returns_the_values_unchanged():
    x = padded([4, 0], 4)
    layer = PaddingMask(0.0)
    np.testing.assert_array_equal(values(layer([2 * x, x])), 2 * x)
    assert PaddingMask.from_config(PaddingMask(0.25).get_config()).mask_value == 0.25


# The LSTM layer


LAYERS = [
    {},
    {"go_backwards": True},
    {"return_sequences": False},
    {"return_sequences": False, "go_backwards": True},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    {"use_bias": False},
    {"unroll": True},
    {"zero_output_for_mask": True, "go_backwards": True},
    {"return_state": True},
    {"dtype": "mixed_bfloat16"},
]


def twins(options: dict, seed: int = 0) -> list[keras.layers.Layer]:
    """The template's layer and Keras's with the same weights."""
    random = np.random.default_rng(seed)
    layers = [layer(4, **{"return_sequences": True} | options) for layer in (LSTM, keras.layers.LSTM)]
    for layer in layers:
        layer.build((None, 6, 3))
    weights = [random.normal(scale=0.7, size=weight.shape) for weight in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def assert_same(found, expected, tolerance: float = 1e-6):
    found, expected = keras.tree.flatten(found), keras.tree.flatten(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        one, other = (values(keras.ops.cast(tensor, "float32")) for tensor in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
        assert np.std(one) > 0.01


@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_layer_equals_that_of_keras(options):
    layer, other = twins(options)
    random = np.random.default_rng(5)
    x = random.normal(size=(5, 6, 3)).astype(np.float32)
    tolerance = 0.02 if "dtype" in options else 1e-6
    at_the_end = np.arange(6) < np.array([6, 4, 1, 2, 5])[:, None]
    for mask in (None, at_the_end, at_the_end[:, ::-1], random.random((5, 6)) < 0.5):
        mask = None if mask is None else keras.ops.convert_to_tensor(mask)
        assert_same(layer(x, mask=mask), other(x, mask=mask), tolerance)
    start = [random.normal(size=(5, 4)).astype(np.float32) for _ in range(2)]
    assert_same(layer(x, initial_state=start), other(x, initial_state=start), tolerance)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_stateful_layer_goes_on_where_it_stopped_like_that_of_keras():
    x = padded([6, 6], 6)
    whole = twins({})[0]
    for kind in (LSTM, keras.layers.LSTM):
        layer = kind(4, stateful=True, return_sequences=True)
        layer.build((2, 6, 3))
        layer.cell.set_weights(whole.get_weights())
        for _ in range(2):
            assert_same(keras.ops.concatenate([layer(x[:, :3]), layer(x[:, 3:])], axis=1), whole(x))
            layer.reset_state()


@pytest.mark.parametrize("options", [{"dropout": 0.4}, {"recurrent_dropout": 0.4}], ids=str)
def test_layer_drops_what_that_of_keras_drops(options):
    layer, other = twins(options | {"seed": 7})
    x = padded([6] * 5, 6)
    plain = layer(x)
    assert_same(plain, other(x))
    for _ in range(2):
        dropped = layer(x, training=True)
        assert_same(dropped, other(x, training=True))
        assert np.abs(values(dropped) - values(plain)).max() > 0.01


# Dropout


def transparent(kind: str, *, recurrent: bool, **options) -> keras.Model:
    """A network that returns its input, or the sum of all inputs so far: open gates and identities."""
    size = 10
    model = BUILDERS[kind](
        features=size,
        outputs=size,
        units=(size,),
        activation="linear",
        output_activation=None,
        mask_value=None,
        **options,
    )
    kernel, recurrent_kernel, bias, *_ = (np.zeros_like(weight) for weight in model.get_weights())
    candidate = {"simple_rnn": slice(0, size), "lstm": slice(2 * size, 3 * size), "gru": slice(2 * size, None)}[kind]
    kernel[:, candidate] = np.eye(size)
    recurrent_kernel[:, candidate] = recurrent * np.eye(size)
    if kind == "lstm":  # enter, forget, candidate, leave
        bias[:] = np.repeat([100, -100, 0, 100], size)
    if kind == "gru":  # update, reset, candidate
        bias[0] = np.repeat([-100, 100, 0], size)
    model.set_weights([kernel, recurrent_kernel, bias, np.eye(size), np.zeros(size)])
    return model


@pytest.mark.parametrize("kind", BUILDERS)
def test_dropout_hides_the_same_share_of_the_input_at_all_steps_of_training(kind):
    keras.utils.set_random_seed(5)
    model = transparent(kind, recurrent=False, dropout=0.3)
    x = 1 + np.random.default_rng(6).random((300, 4, 10), np.float32)
    np.testing.assert_allclose(values(model(x)), x, rtol=1e-5)
    outputs = values(model(x, training=True))
    kept = outputs != 0
    assert np.mean(kept[:, 0]) == pytest.approx(0.7, abs=0.034)  # 4 standard deviations of 3000 draws
    np.testing.assert_array_equal(kept, np.repeat(kept[:, :1], 4, axis=1))
    assert len(np.unique(kept[:, 0], axis=0)) > 100  # each sequence has a mask of its own
    np.testing.assert_allclose(outputs[kept], (x / 0.7)[kept], rtol=1e-5)
    assert np.mean(outputs) == pytest.approx(np.mean(x), rel=0.05)
    assert np.any((values(model(x, training=True)) != 0) != kept)


@pytest.mark.parametrize("kind", BUILDERS)
def test_recurrent_dropout_hides_the_same_share_of_the_state_at_all_steps_of_training(kind):
    keras.utils.set_random_seed(5)
    model = transparent(kind, recurrent=True, recurrent_dropout=0.3)
    x = np.zeros((300, 4, 10), np.float32)
    x[:, 0] = 1
    np.testing.assert_allclose(values(model(x)), np.ones_like(x), rtol=1e-5)
    outputs = values(model(x, training=True))
    kept = outputs[:, 1] != 0
    assert np.mean(kept) == pytest.approx(0.7, abs=0.034)
    np.testing.assert_allclose(outputs, np.where(kept[:, None], 0.7 ** -np.arange(4.0)[:, None], x), rtol=1e-5)
    assert np.any((values(model(x, training=True))[:, 1] != 0) != kept)


# Streaming


def one_by_one(stream: Stream, x: np.ndarray) -> np.ndarray:
    return np.stack([values(stream(x[:, step])) for step in range(x.shape[1])], axis=1)


@pytest.mark.parametrize("options", [ALL | {"bidirectional": False}, TOKENS], ids=["numbers", "tokens"])
@pytest.mark.parametrize("kind", BUILDERS)
def test_stream_says_what_the_whole_sequence_says(kind, options, tmp_path):
    model = build(kind, **options)
    x = padded([5, 5, 5], 5)
    if "vocabulary" in options:
        x = np.random.default_rng(7).integers(3, 7, (3, 5)).astype(np.int32)
    model.save(tmp_path / "before.keras")
    model.save_weights(tmp_path / "before.weights.h5")
    expected = values(model(x))
    stream = Stream(model)
    np.testing.assert_allclose(one_by_one(stream, x), expected, rtol=0, atol=1e-6)
    assert np.abs(one_by_one(stream, x) - expected).max() > 1e-3  # it goes on from the end
    stream.reset()
    np.testing.assert_allclose(one_by_one(stream, x), expected, rtol=0, atol=1e-6)

    model.save(tmp_path / "after.keras")  # making a stream leaves a model that can be saved
    for name in ("before", "after"):
        stream = Stream(keras.saving.load_model(tmp_path / f"{name}.keras"))
        stream.model.compile(run_eagerly=EAGERLY)
        np.testing.assert_allclose(one_by_one(stream, x), expected, rtol=0, atol=1e-6)
    step_model = streaming(model)
    step_model.save(tmp_path / "step.keras")
    stream.model = keras.saving.load_model(tmp_path / "step.keras")
    stream.model.compile(run_eagerly=EAGERLY)
    assert [tensor.name for tensor in stream.model.inputs] == [tensor.name for tensor in step_model.inputs]
    stream.reset()
    np.testing.assert_allclose(one_by_one(stream, x), expected, rtol=0, atol=1e-6)

    stream = Stream(model)
    model.set_weights([weight / 2 for weight in model.get_weights()])
    halved = one_by_one(stream, x)
    for sequence, output in zip(x, halved, strict=True):  # the weights are shared
        expected_now = reference(kind, model.get_weights(), sequence, **options)
        np.testing.assert_allclose(output, expected_now, rtol=0, atol=1e-6)
    assert np.abs(halved - expected).max() > 0.01
    model.load_weights(tmp_path / "before.weights.h5")  # though the cells have other names by now
    stream.reset()
    np.testing.assert_allclose(one_by_one(stream, x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, TOKENS], ids=["numbers", "tokens"])
def test_stream_takes_several_steps_at_once(options):
    model = build("gru", **options)
    x = padded([7, 7], 7)
    if "vocabulary" in options:
        x = np.random.default_rng(7).integers(3, 7, (2, 7)).astype(np.int32)
    stream, expected = Stream(model), values(model(x))
    for first, last in itertools.pairwise([0, 3, 4, 7]):
        np.testing.assert_allclose(stream(x[:, first:last]), expected[:, last - 1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        stream(x[:, 0]), values(model(np.concatenate([x, x[:, :1]], axis=1)))[:, -1], rtol=0, atol=1e-6
    )


def test_stream_follows_the_training_of_its_model():
    model = build("lstm")
    stream = Stream(model)
    x = padded([4, 4], 4)
    before = one_by_one(stream, x)
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    model.train_on_batch(x, np.zeros((2, 4), np.int32))
    stream.reset()
    after = one_by_one(stream, x)
    np.testing.assert_allclose(after, values(model(x)), rtol=0, atol=1e-6)
    assert np.all(after[..., 0] > before[..., 0])


def test_a_step_is_compiled():
    assert Stream(build("gru")).model.jit_compile == (keras.backend.backend() != "torch")


def test_stream_of_a_classification_classifies_what_came_so_far():
    options = {"head": "classification", "units": (5, 4)}
    model = build("gru", **options)
    x = padded([3, 3], 3)
    for sequence, outputs in zip(x, one_by_one(Stream(model), x), strict=True):
        for length, output in enumerate(outputs, 1):
            expected = reference("gru", model.get_weights(), sequence[:length], **options)
            np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)


def test_stream_drops_nothing():
    model = build("lstm", dropout=0.5, recurrent_dropout=0.5, units=(5, 4))
    x = padded([4, 4], 4)
    np.testing.assert_allclose(one_by_one(Stream(model), x), values(model(x)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", BUILDERS)
def test_both_directions_cannot_stream(kind):
    with pytest.raises(ValueError, match="both directions"):
        Stream(build(kind, bidirectional=True))


# Heads and sizes


@pytest.mark.parametrize("kind", BUILDERS)
def test_next_token_does_not_see_it(kind):
    model = build(kind, **TOKENS | {"mask_value": None})
    tokens = np.random.default_rng(8).integers(0, 7, (1, 6)).astype(np.int32)
    variants = np.repeat(tokens, 6, axis=0)  # in the variant i the tokens from i on are others
    for place in range(6):
        variants[place, place:] = (variants[place, place:] + 1 + np.arange(6 - place)) % 7
    outputs = values(model(np.concatenate([tokens, variants])))
    np.testing.assert_allclose(outputs.sum(axis=-1), 1, rtol=1e-5)
    for place in range(6):
        np.testing.assert_allclose(outputs[1 + place, :place], outputs[0, :place], rtol=0, atol=1e-6)
        assert np.abs(outputs[1 + place, place] - outputs[0, place]).max() > 1e-4
    assert len(outputs[0, 0]) == TOKENS["vocabulary"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": ()}, "must not be empty"),
        ({"units": (5, 0)}, "at least 1"),
        ({"units": (-1,)}, "at least 1"),
        ({"features": 0}, "at least 1"),
        ({"outputs": 0}, "at least 1"),
        ({"vocabulary": 5, "embedding_size": 0}, "at least 1"),
        ({"head": "next_token"}, "needs a vocabulary"),
        ({"head": "next_token", "vocabulary": 5, "bidirectional": True}, "must not see future steps"),
    ],
)
@pytest.mark.parametrize("kind", BUILDERS)
def test_impossible_networks_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        BUILDERS[kind](**options)


# Tagger


def test_tagger_names_the_most_probable_tag(tmp_path):
    model = build("gru")
    metadata = {"mean": [0.5, 2.5], "file": "größe", "nested": {"names": [["a"], []]}}
    tags = tagger(model, names=["a", "b", "c", "d"], metadata=metadata)
    x = padded([5, 2], 5)
    probabilities = values(model(x))
    tags.save(tmp_path / "tagger.keras")
    again = keras.saving.load_model(tmp_path / "tagger.keras")
    for each in (tags, again):
        found = {name: values(output) for name, output in each(x).items()}
        assert sorted(found) == ["probability", "tag"]
        np.testing.assert_allclose(found["probability"], probabilities, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found["tag"], probabilities.argmax(axis=-1))
        assert found["tag"].dtype == np.int32
        layer = each.get_layer("tags")
        assert (layer.names, layer.metadata) == (["a", "b", "c", "d"], metadata)
    with pytest.raises(ValueError, match="3 names for 4 outputs"):
        tagger(model, names=["a", "b", "c"])


# Learning


def learned(model: keras.Model, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Train on all but the last 500 sequences and return which labels of those are found."""
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x[:-500], labels[:-500], batch_size=64, verbose=0)
    return model.predict(x[-500:], batch_size=500, verbose=0).argmax(axis=-1) == labels[-500:]


def signed(rows: int, time: int, seed: int) -> np.ndarray:
    """Random numbers that aren't near zero."""
    random = np.random.default_rng(seed)
    x = random.choice([-1, 1], (rows, time, 1)) * random.uniform(0.5, 1.5, (rows, time, 1))
    return x.astype(np.float32)


@pytest.mark.slow
def test_both_directions_see_the_future_and_one_does_not():
    keras.utils.set_random_seed(9)
    x = signed(8500, 8, seed=9)
    labels = (np.roll(x, -1, axis=1)[..., 0] > 0).astype(np.int32)  # the sign of the next number
    labels[:, -1] = 0
    options = {"features": 1, "outputs": 2, "units": (8,)}
    assert learned(lstm(**options, bidirectional=True), x, labels).mean() > 0.95
    one = learned(lstm(**options), x, labels)
    assert 0.45 < one[:, :-1].mean() < 0.55  # 3500 coins: 0.008 is a standard deviation


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gates_remember_the_first_of_thirty_steps(kind):
    keras.utils.set_random_seed(10)
    x = signed(20_000, 30, seed=10)
    labels = np.repeat(x[:, :1, 0] > 0, 30, axis=1).astype(np.int32)
    found = learned(BUILDERS[kind](features=1, outputs=2, units=(16,)), x, labels)
    assert found[:, -1].mean() > 0.95


def test_a_stream_keeps_its_batch_size():
    stream = Stream(lstm(features=3, outputs=2, units=(4,)))
    stream(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="1 sequences after 2"):
        stream(np.ones((1, 3), np.float32))
    stream.reset()
    assert keras.ops.shape(stream(np.ones((1, 3), np.float32))) == (1, 2)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="tager"):
        lstm(head="tager")  # pyright: ignore[reportArgumentType]


# Encoder–decoder

TRANSLATION = {"source_vocabulary": 7, "target_vocabulary": 6, "embedding_size": 3, "units": 4}


def build_translation(*, seed: int = 0, **options) -> keras.Model:
    """A small encoder–decoder of random weights, biases included."""
    model = lstm_encoder_decoder(**TRANSLATION | options)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in model.get_weights()])
    return model


def pairs(mask_value: int = 0) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Sources and targets, padded, and their lengths; the token of padding is also one of the first pair's own."""
    random = np.random.default_rng(1)
    lengths = [(6, 5), (3, 7), (1, 1), (5, 2)]
    sources, targets = np.full((4, 6), mask_value, np.int32), np.full((4, 7), mask_value, np.int32)
    for source, target, (source_time, time) in zip(sources, targets, lengths, strict=True):
        source[:source_time] = (mask_value + random.integers(1, 7, source_time)) % 7
        target[:time] = (mask_value + random.integers(1, 6, time)) % 6
    sources[0, 2] = targets[0, 1] = mask_value
    return sources, targets, lengths


def lstm_outputs(x: np.ndarray, weights: list[np.ndarray], state=None) -> tuple[np.ndarray, list[np.ndarray]]:
    """The outputs (time, units) and the last output and carry."""
    state = [np.zeros(len(weights[1]))] * 2 if state is None else state
    outputs = []
    for step in x:
        state = lstm_step(step, state, *weights)
        outputs.append(state[0])
    return np.array(outputs), state


def translation_reference(model: keras.Model, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The logits for one pair without padding, (time, target_vocabulary)."""

    def weights(name: str) -> list[np.ndarray]:
        return [weight.astype(np.float64) for weight in model.get_layer(name).get_weights()]

    encoded, x = weights("source_embedding")[0][source], weights("target_embedding")[0][target]
    for number in range(1, sum(layer.name.startswith("decoder") for layer in model.layers) + 1):
        of_encoder = weights(f"encoder_{number}")
        forward, forward_end = lstm_outputs(encoded, of_encoder[:3])
        backward, backward_end = lstm_outputs(encoded[::-1], of_encoder[3:])
        encoded = np.concatenate([forward, backward[::-1]], axis=1)
        start = [np.concatenate(ends) for ends in zip(forward_end, backward_end, strict=True)]
        x, _ = lstm_outputs(x, weights(f"decoder_{number}"), start)
    context = softmax(x @ encoded.T) @ encoded
    combined = np.tanh(np.concatenate([context, x], axis=1) @ weights("combination")[0])
    kernel, bias = weights("output")
    return combined @ kernel + bias


def translate(model: keras.Model, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    model.compile(run_eagerly=EAGERLY)
    return model.predict_on_batch([sources, targets])


def test_translation_follows_the_definition_whatever_the_padding_and_the_order(tmp_path):
    mask_value = 3
    model = build_translation(depth=2, mask_value=mask_value, dropout=0.3)
    model.save(tmp_path / "model.keras")
    sources, targets, lengths = pairs(mask_value)
    outputs = translate(model, sources, targets)
    for source, target, (source_time, time), output in zip(sources, targets, lengths, outputs, strict=True):
        expected = translation_reference(model, source[:source_time], target[:time])
        np.testing.assert_allclose(output[:time], expected, rtol=0, atol=1e-5)

    again = keras.saving.load_model(tmp_path / "model.keras")
    order = [2, 0, 3, 1]
    more = [np.pad(x[order], ((0, 0), (0, 4)), constant_values=mask_value) for x in (sources, targets)]
    for row, output in zip(order, translate(again, *more), strict=True):
        np.testing.assert_allclose(output[: lengths[row][1]], outputs[row, : lengths[row][1]], rtol=0, atol=1e-5)

    expected = (7 + 6) * 3 + 8 * 4 + (4 + 1) * 6  # embeddings, combination, output
    for inputs in (3, 4):
        expected += 2 * 4 * 2 * (inputs + 2 + 1) + 4 * 4 * (inputs + 4 + 1)
    assert model.count_params() == expected


def test_translation_loss_leaves_padding_out_and_reaches_every_weight():
    model = build_translation()
    sources, targets, lengths = pairs()
    labels = np.random.default_rng(3).integers(0, 6, targets.shape)
    losses = []
    for source, target, label, (source_time, time) in zip(sources, targets, labels, lengths, strict=True):
        chances = softmax(translation_reference(model, source[:source_time], target[:time]))
        losses += list(-np.log(chances[np.arange(time), label[:time]]))
    assert model.count_params() == (7 + 6) * 3 + 2 * 4 * 2 * (3 + 2 + 1) + 4 * 4 * (3 + 4 + 1) + 8 * 4 + (4 + 1) * 6
    weights = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert model.train_on_batch([sources, targets], labels) == pytest.approx(np.mean(losses), rel=1e-5)
    for old, new, variable in zip(weights, model.get_weights(), model.weights, strict=True):
        assert np.any(old != new), variable.path
    model.train_on_batch([0 * sources, 0 * targets], labels)  # nothing but padding
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


class Steps(keras.Model):
    """An `LSTMReader`, compiled: the outputs at each step of the targets, with the rows reordered after two."""

    def __init__(self, reader: LSTMReader, order: list[int]):
        super().__init__()
        self.reader, self.order = reader, order

    def call(self, inputs):
        sources, targets = inputs
        state, outputs = self.reader.begin(sources), []
        for place in range(targets.shape[1]):
            if place == 2:
                state = keras.tree.map_structure(lambda leaf: keras.ops.take(leaf, self.order, axis=0), state)
            output, state = self.reader.step(state, targets[:, place], place)
            outputs.append(output)
        return keras.ops.stack(outputs, axis=1)


def test_reader_says_step_by_step_what_the_whole_target_says():
    model = build_translation(depth=2)
    sources, targets = pairs()[0], pairs()[1][:, :4]
    order = [3, 0, 0, 2]  # one is left out, one there twice, as in a search
    read = targets.copy()
    read[:, 2:] = targets[order, 2:]
    outputs = Steps(LSTMReader(model), order).predict_on_batch((sources, read))
    expected = translate(model, sources, targets)
    np.testing.assert_allclose(outputs[:, :2], expected[:, :2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs[:, 2:], expected[order, 2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_vocabulary": 0}, "at least 1"),
        ({"target_vocabulary": 0}, "at least 1"),
        ({"embedding_size": 0}, "at least 1"),
        ({"units": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"units": 5}, "even"),
        ({"mask_value": 6}, "mask_value 6 is not among"),
        ({"mask_value": -1}, "mask_value -1 is not among"),
    ],
)
def test_impossible_translations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lstm_encoder_decoder(**TRANSLATION | options)


@pytest.mark.slow
def test_translation_learns_to_reverse():
    keras.utils.set_random_seed(11)
    random = np.random.default_rng(11)
    lengths = random.integers(2, 7, 3_500)
    sources, targets = np.zeros((3_500, 6), np.int32), np.zeros((3_500, 8), np.int32)
    for source, target, length in zip(sources, targets, lengths, strict=True):
        source[:length] = random.integers(3, 8, length)
        target[: length + 2] = [1, *source[:length][::-1], 2]
    model = lstm_encoder_decoder(source_vocabulary=8, target_vocabulary=8, embedding_size=16, units=48)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit([sources[500:], targets[500:, :-1]], targets[500:, 1:], batch_size=32, epochs=2, verbose=0)
    found = model.predict([sources[:500], targets[:500, :-1]], batch_size=500, verbose=0).argmax(axis=-1)
    right = (found == targets[:500, 1:]) | (targets[:500, :-1] == 0)
    assert right.all(axis=1).mean() > 0.9  # all tokens of a sequence
    # Token by token, without the true targets to go on from.
    written, _ = Translator(LSTMReader(model), longest=6)(sources[:100])
    assert (written[:, 0] == np.where(targets[:100, 1:7] == 2, 0, targets[:100, 1:7])).all(axis=1).mean() > 0.9

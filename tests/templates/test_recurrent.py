import itertools

import keras
import numpy as np
import pytest

from templates.recurrent import LSTM, PaddingMask, Stream, gru, lstm, simple_rnn, streaming, tagger

BUILDERS = {"simple_rnn": simple_rnn, "lstm": lstm, "gru": gru}
GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}
SIZES = {"features": 3, "outputs": 4, "units": (5,)}
CASES = [
    {"bidirectional": both, "units": units, "layer_normalization": normal, "head": head}
    for head, both, units, normal in itertools.product(
        ("tagging", "classification"), (False, True), ((5,), (5, 4)), (False, True)
    )
]
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


def real_length(sequence: np.ndarray, mask_value: float = 0.0) -> int:
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


def reference_loss(kind, weights, x, labels, **options) -> float:
    """Cross-entropy, the mean over the real steps of all sequences (over the sequences for classification)."""
    losses = []
    for sequence, label in zip(x, labels, strict=True):
        length = real_length(sequence, options.get("mask_value", 0.0))
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
def double():
    """Everything in float64, for a test."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    jax = None
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    if jax:
        jax.config.update("jax_enable_x64", False)


# Values, padding and size of every network


@pytest.mark.parametrize("options", CASES, ids=lambda options: "-".join(str(value) for value in options.values()))
@pytest.mark.parametrize("kind", BUILDERS)
def test_outputs_follow_the_definitions_whatever_the_padding(kind, options):
    model = build(kind, **options)
    lengths = [6, 3, 1, 0, 5]
    x = padded(lengths, 6)
    outputs = values(model(x))
    longer = values(model(np.pad(x, ((0, 0), (0, 3), (0, 0)))))
    weights = model.get_weights()
    assert np.isfinite(longer).all()
    np.testing.assert_allclose(longer.sum(axis=-1), 1, rtol=1e-5)
    for sequence, output, other in zip(x, outputs, longer, strict=True):
        length = real_length(sequence)
        expected = reference(kind, weights, sequence[:length], **options)
        if options["head"] == "tagging":
            output, other = output[:length], other[:length]
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other, output, rtol=0, atol=1e-6)
    assert np.std(outputs, axis=0).max() > 0.03  # the sequences differ

    inputs, expected = 3, 0
    for size in options["units"]:
        biases = 2 if kind == "gru" else 1
        expected += (1 + options["bidirectional"]) * GATES[kind] * size * (inputs + size + biases)
        inputs = (1 + options["bidirectional"]) * size
        expected += options["layer_normalization"] * 2 * inputs
    assert model.count_params() == expected + (inputs + 1) * 4


@pytest.mark.parametrize("kind", BUILDERS)
def test_tokens_are_embedded_and_their_padding_is_a_token_of_its_own(kind):
    model = build(kind, **TOKENS)
    tokens = np.array([[1, 2, 0, 3, 2, 2], [6, 5, 4, 3, 1, 0], [2, 2, 2, 2, 2, 2], [2, 2, 5, 2, 2, 2]], np.int32)
    outputs = values(model(tokens))
    assert outputs.shape == (4, 6, 7)
    for sequence, output, length in zip(tokens, outputs, (4, 6, 1, 3), strict=True):
        expected = reference(kind, model.get_weights(), sequence[:length], **TOKENS)
        np.testing.assert_allclose(output[:length], expected, rtol=1e-4, atol=1e-5)
    assert model.count_params() - build(kind, **TOKENS | {"mask_value": None}).count_params() == 0


@pytest.mark.parametrize("kind", BUILDERS)
def test_without_mask_value_every_step_is_real(kind):
    options = {"mask_value": None, "bidirectional": True, "units": (5, 4)}
    model = build(kind, **options)
    x = padded([6, 2, 0], 6)
    for sequence, output in zip(x, values(model(x)), strict=True):
        expected = reference(kind, model.get_weights(), sequence, **options)
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, PaddingMask) for layer in model.layers)


@pytest.mark.parametrize("kind", BUILDERS)
def test_one_step_by_hand(kind):
    model = build(kind, output_activation=None)
    kernel, recurrent_kernel, bias, *head = model.get_weights()
    x = padded([1], 1)
    state = STEPS[kind](x[0, 0], [np.zeros(5)] * 2, kernel, recurrent_kernel, bias)
    np.testing.assert_allclose(values(model(x))[0, 0], state[0] @ head[0] + head[1], rtol=1e-4, atol=1e-5)


def test_default_sizes():
    for kind, gates, biases in (("simple_rnn", 1, 1), ("lstm", 4, 1), ("gru", 3, 2)):
        model = BUILDERS[kind]()
        assert model.count_params() == gates * 128 * (40 + 128 + biases) + (128 + 1) * 39
        assert model.name == kind


def test_initial_weights():
    model = lstm(**SIZES | {"bidirectional": True})
    layer = model.get_layer("bidirectional_1")
    for kernel, recurrent_kernel, bias in (layer.get_weights()[:3], layer.get_weights()[3:]):
        assert np.abs(kernel).max() <= np.sqrt(6 / (3 + 20))  # Glorot & Bengio's bound
        np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(5), atol=1e-5)
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 5))  # the forget gate starts open

import itertools
import math

import keras
import numpy as np
import pytest

from templates import recurrent
from templates.transformer import Stream, attention_maps, decoder, generate

EAGERLY = keras.backend.backend() != "jax"  # the quickest for a single step
SIZES = {"vocabulary": 7, "context": 6, "width": 8, "depth": 2, "heads": 2}
ACTIVATIONS = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def build(*, seed: int = 0, **options) -> keras.Model:
    """A small decoder of random weights, biases included."""
    model = decoder(**SIZES | options)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    return model


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


def reference(weights, tokens, *, heads=2, activation="gelu", **_) -> tuple[np.ndarray, list[np.ndarray]]:
    """The logits (time, vocabulary), and of each block how much each token looks at each, (heads, time, time)."""

    def norm(name, x):
        return normalise(x, weights[f"{name}/gamma"], weights[f"{name}/beta"])

    x = weights["embedding/embeddings"][tokens] + weights["positions/table"][: len(tokens)]
    maps = []
    for block in (f"block_{number}" for number in itertools.count(1)):
        if f"{block}_expand/kernel" not in weights:
            break
        y = norm(f"{block}_attention_normalization", x)
        added = weights[f"{block}_attention/attention_output/bias"].copy()
        looks = np.zeros((heads, len(tokens), len(tokens)))
        for head in range(heads):
            query, key, value = (
                y @ weights[f"{block}_attention/{kind}/kernel"][:, head]
                + weights[f"{block}_attention/{kind}/bias"][head]
                for kind in ("query", "key", "value")
            )
            for place in range(len(tokens)):
                seen = slice(0, place + 1)
                looks[head, place, seen] = softmax(key[seen] @ query[place] / math.sqrt(query.shape[1]))
            added = added + looks[head] @ value @ weights[f"{block}_attention/attention_output/kernel"][head]
        x = x + added
        maps.append(looks)
        y = norm(f"{block}_feed_forward_normalization", x)
        y = ACTIVATIONS[activation](y @ weights[f"{block}_expand/kernel"] + weights[f"{block}_expand/bias"])
        x = x + y @ weights[f"{block}_contract/kernel"] + weights[f"{block}_contract/bias"]
    return norm("normalization", x) @ weights["embedding/embeddings"].T, maps


def reference_loss(weights, sequences, labels, *, mask_value=None, **options) -> float:
    """Cross-entropy, the mean over the real tokens of all sequences, which end where the padding begins."""
    losses = []
    for sequence, label in zip(sequences, labels, strict=True):
        real = int(np.sum(sequence != mask_value))
        chances = softmax(reference(weights, sequence[:real], **options)[0])
        losses += list(-np.log(chances[np.arange(real), label[:real]]))
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
def half_precision():
    """Set mixed precision for a test, and give the half one's name and how exact it is."""
    # On a CPU JAX has no attention in float16.
    dtype, exactness = ("bfloat16", 0.06) if keras.backend.backend() == "jax" else ("float16", 0.01)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    yield dtype, exactness
    keras.config.set_dtype_policy(policy)


# The decoder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 1, "heads": 1, "activation": "relu", "output_activation": "softmax"},
        {"width": 12, "depth": 3, "heads": 4, "feed_forward": 5, "activation": "tanh", "mask_value": 6},
    ],
    ids=["default", "shallow", "deep"],
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

    width, hidden = options["width"], options.get("feed_forward", 4 * options["width"])
    block = 2 * 2 * width + 4 * (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width
    # The matrix of the tokens is there once, for both ends.
    assert model.count_params() == (7 + 6) * width + options["depth"] * block + 2 * width


def test_a_later_token_changes_nothing_before_it():
    model = build()
    tokens = draw(1, 6)
    variants = np.repeat(tokens, 6, axis=0)  # in the variant i the tokens from i on are others
    for place in range(6):
        variants[place, place:] = (variants[place, place:] + 1 + np.arange(6 - place)) % 7
    outputs = values(model(np.concatenate([tokens, variants])))
    for place in range(6):
        np.testing.assert_allclose(outputs[1 + place, :place], outputs[0, :place], rtol=0, atol=1e-6)
        assert np.abs(outputs[1 + place, place:] - outputs[0, place:]).max(axis=-1).min() > 1e-3


@pytest.mark.parametrize("mask_value", [None, 4])
def test_gradients_are_finite_differences_of_the_loss(mask_value, float64):
    options = {"vocabulary": 5, "context": 4, "width": 4, "depth": 1, "feed_forward": 3, "mask_value": mask_value}
    model = build(**options)
    tokens = np.array([[1, 2, 0, 3], [0, 1, 4, 4]], np.int32)
    labels = draw(2, 4, vocabulary=5)
    before = named(model)
    model.compile(keras.optimizers.SGD(1.0), loss_function(), run_eagerly=EAGERLY)
    loss = model.train_on_batch(tokens, labels)
    after = named(model)

    def by_definition():
        return reference_loss(before, tokens, labels, **options)

    np.testing.assert_allclose(loss, by_definition(), rtol=1e-6)
    for name, weight in before.items():
        gradient = weight - after[name]
        # What is added to all keys alike changes no softmax.
        assert name == "block_1_attention/key/bias" or np.all(gradient.any(axis=0)), name
        np.testing.assert_allclose(gradient, slopes(by_definition, weight), rtol=1e-5, atol=1e-7, err_msg=name)
    assert np.all((before["positions/table"] != after["positions/table"]).all(axis=1))  # every place


def test_padding_is_hidden_and_may_be_everything():
    model = build(mask_value=6)
    tokens = draw(4, 6, vocabulary=6)
    for sequence, length in zip(tokens, (6, 3, 0, 1), strict=True):
        sequence[length:] = 6
    labels = draw(4, 6, seed=2)
    outputs, weights = values(model(tokens)), named(model)
    assert np.isfinite(outputs).all()
    for sequence, output in zip(tokens, outputs, strict=True):
        real = sequence[sequence != 6]
        expected = reference(weights, real)[0]
        np.testing.assert_allclose(output[: len(real)], expected, rtol=0, atol=1e-5)
    model.compile(keras.optimizers.SGD(0.1), loss_function(), run_eagerly=EAGERLY)
    loss = model.train_on_batch(tokens, labels)
    real_rows = [0, 1, 3]
    expected = reference_loss(weights, tokens[real_rows], labels[real_rows], mask_value=6)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    weights = model.get_weights()
    model.reset_metrics()
    assert model.train_on_batch(0 * tokens + 6, labels) == 0  # nothing but padding
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_initial_weights_suit_the_width_and_follow_the_seed():
    options = {"vocabulary": 300, "context": 200, "width": 64, "depth": 2, "heads": 4}
    models = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        models.append(named(decoder(**options)))
    seen = set()
    for name, weight in models[0].items():
        np.testing.assert_array_equal(weight, models[1][name])
        if name.endswith(("bias", "beta")):
            assert not weight.any()
        elif name.endswith("gamma"):
            assert np.all(weight == 1)
        else:
            assert np.any(weight != models[2][name])
            added = name.endswith(("attention_output/kernel", "contract/kernel"))
            expected = options["width"] ** -0.5 / (2 if added else 1)  # 2 = √(2 · depth)
            # Of n draws the estimate of the deviation has a relative error of 1 / √(2 n).
            assert weight.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.size)), name
            assert abs(weight.mean()) < 5 * expected / math.sqrt(weight.size), name
            seen.add(weight.flat[0] / expected)
    assert len(seen) == 2 + 6 * 2  # no two are equal


def test_dropout_is_built_only_where_asked_for_and_only_trains():
    without, model = build(), build(dropout=0.4)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in without.layers)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.4] * 5
    assert [model.get_layer(f"block_{number}_attention").dropout for number in (1, 2)] == [0.4, 0.4]
    tokens = draw(3, 6)
    np.testing.assert_allclose(values(model(tokens)), values(without(tokens)), rtol=0, atol=1e-5)
    first, second = (values(model(tokens, training=True)) for _ in range(2))
    assert np.all(np.abs(first - second).max(axis=-1) > 1e-4)  # in every place
    np.testing.assert_array_equal(values(without(tokens, training=True)), values(without(tokens)))


@pytest.mark.parametrize("mask_value", [None, 6])
def test_mixed_precision_trains_on_finite_numbers(mask_value, half_precision):
    keras.utils.set_random_seed(0)
    options = SIZES | {"width": 32, "mask_value": mask_value}
    model = decoder(**options)
    assert model.get_layer("block_1_attention").compute_dtype == half_precision[0]
    tokens = draw(16, 6, vocabulary=6)
    tokens[3, 2:] = tokens[4] = 6
    outputs = values(model(tokens))
    assert outputs.dtype == np.float32
    weights = named(model)
    for sequence, output in zip(tokens, outputs, strict=True):
        real = sequence[sequence != mask_value]
        expected = reference(weights, real)[0]
        np.testing.assert_allclose(output[: len(real)], expected, rtol=0, atol=half_precision[1])
    model.compile(keras.optimizers.Adam(0.01), loss_function(), run_eagerly=EAGERLY)
    # Each is the mean of all so far.
    losses = [float(model.train_on_batch(tokens, np.roll(tokens, 1))) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.05
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    big = [1000 * weight if "query" in name else weight for name, weight in named(model).items()]
    model.set_weights(big)  # products beyond what float16 holds
    outputs = values(model(tokens))
    assert np.isfinite(outputs[:3]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 0}, "vocabulary 0"),
        ({"context": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"feed_forward": 0}, "feed_forward 0"),
        ({"width": 10, "heads": 4}, "4 heads don't divide the width 10"),
        ({"mask_value": 7}, "mask_value 7 is none of the 7 tokens"),
        ({"mask_value": -1}, "mask_value -1"),
    ],
)
def test_impossible_decoders_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        decoder(**SIZES | options)


def test_a_sequence_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="7 tokens is longer than the context of 6"):
        decoder(**SIZES)(draw(1, 7))


def test_attention_maps_follow_the_definition():
    model = build(dropout=0.1)
    tokens = draw(1, 5)[0]
    maps = attention_maps(model, tokens)
    expected = reference(named(model), tokens)[1]
    assert [found.shape for found in maps] == [(2, 5, 5)] * 2
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_attention_finds_what_stood_a_period_before():
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    tokens = np.stack([np.tile(random.integers(0, 8, 5), 4) for _ in range(6400)])
    model = decoder(vocabulary=8, context=19, width=16, depth=1, heads=2)
    model.compile(keras.optimizers.Adam(0.02), loss_function())
    model.fit(tokens[:-400, :-1], tokens[:-400, 1:], batch_size=64, verbose=0)
    found = model.predict(tokens[-400:, :-1], batch_size=400, verbose=0).argmax(axis=-1) == tokens[-400:, 1:]
    assert found[:, 4:].mean() > 0.98
    assert found[:, :4].mean() < 0.2  # nobody knows: 1 / 8, 1600 coins


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


def test_a_stream_in_mixed_precision_says_what_the_whole_sequence_says(half_precision):
    model = build()
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

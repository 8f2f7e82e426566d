import itertools
import math
import types

import keras
import numpy as np
import pytest

from templates import recurrent
from templates.decoding import Reader, Stream, Translator, _Compiled, attention_maps, cross_attention_maps, generate
from templates.transformer import decoder, encoder_decoder
from tests.templates.transformers import (
    EAGERLY,
    build,
    constant,
    draw,
    example,
    named,
    padded,
    reference,
    reference_of_both,
    softmax,
    values,
)


@pytest.fixture
def uncompiled(monkeypatch):
    """On TensorFlow, where that takes longest, nothing is compiled in a test."""
    original = _Compiled.compile
    monkeypatch.setattr(_Compiled, "compile", lambda self, **_: original(self, run_eagerly=EAGERLY))


# Attention to look at


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
        ([], {}, "not empty"),
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

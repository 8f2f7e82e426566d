"""Decoding: generates sequences token by token by sampling or beam search, and computes attention maps.

Paper: Lowerre 1976 and Sutskever et al. 2014 (beam search); Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p)
Input: (batch, time) int, prompts to continue or sources to translate
Output: (batch,) int, the next token of each prompt, step by step; (batch, beams, time) int, the most probable targets

This file is copied beside `transformer.py` or `recurrent.py` and works with the models of both. It imports neither: it
finds layers by name, and the functions that run a transformer step by step in the module that defines its layers. A
stream is any object with a `reset` method and a call that maps tokens to the logits of the next token.

Sources: A. Fan, M. Lewis and Y. Dauphin, "Hierarchical neural story generation", ACL 2018. A. Holtzman et al., "The
curious case of neural text degeneration", ICLR 2020. B. Lowerre, "The Harpy speech recognition system", Carnegie Mellon
University 1976; I. Sutskever, O. Vinyals and Q. Le, "Sequence to sequence learning with neural networks", NIPS 2014:
beam search with a neural decoder.

Deviations: beam search ranks by probability alone, without a length penalty.

    model = transformer.decoder(vocabulary=100, context=128)            # trained
    for token in generate(Stream(model), [prompt], 500, temperature=0.8):
        print(token[0])

    model = transformer.encoder_decoder(source_vocabulary=30, target_vocabulary=42)      # or of recurrent.py:
    translator = Translator(Reader(model), longest=30)                                   # LSTMReader(model)
    tokens, log_probabilities = translator(sources, beams=4)
"""

import collections
import functools
import inspect
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

_ZERO = np.int32(0)  # in double precision, JAX gives a Python int another type than the other indices
_AHEAD = 16  # tokens drawn per call in `Stream.extend`


class Stream:
    """Runs a decoder token by token with a key-value cache: `stream(tokens)` returns the logits of the next token.

    Each call runs one compiled function. When the context is full, the stream continues with the second half of the
    context, which it reads again in one call.

    Args:
        model: a `transformer.decoder`. The stream shares its weights and gives the same logits as the model on the
            whole sequence. It supports no padding and ignores `output_activation`.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.variables = model.variables
        self.template = _template(model)
        self.attentions = self.template.attentions(model)
        self.context: int = model.get_layer("positions").context
        self.reader: Any = None
        self.tokens: Any = None  # tokens in the context, (batch, time)

    def reset(self) -> None:
        """Clear the context; the next token begins a new sequence."""
        self.tokens = None

    def __call__(self, tokens: Any) -> np.ndarray:
        """Read tokens, (batch,) or (batch, time), and return the logits (batch, vocabulary) of the next token.

        Raises:
            ValueError: if the batch size differs from earlier calls, there are no tokens, or a token is outside the
                vocabulary.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim not in (1, 2) or not tokens.size:
            raise ValueError(f"tokens {tokens.shape} must be (batch,) or (batch, time), at least one")
        _check_tokens(tokens, self.model.get_layer("embedding").input_dim)
        tokens = tokens.astype(np.int32).reshape(len(tokens), -1)  # (batch, time)
        if self.tokens is None:
            self.tokens = tokens[:, :0]
        if len(tokens) != len(self.tokens):
            raise ValueError(f"{len(tokens)} sequences after {len(self.tokens)}; reset() begins new ones")
        if self.reader is None or self.reader.cache.shape[2] != len(tokens):
            first = self.attentions[0]
            shape = (len(self.attentions), 2, len(tokens), first.num_heads, self.context, first.key_dim)
            self.reader = _Cached(self._read, shape, first.compute_dtype)
        read = self.tokens.shape[1]
        self.tokens = np.concatenate([self.tokens, tokens], axis=1)
        if (excess := self.tokens.shape[1] - self.context) > 0:
            # The part that is kept depends on the number of tokens alone, not on how many are read per call.
            hop = self.context - self.context // 2
            self.tokens, read = self.tokens[:, -(-excess // hop) * hop :], 0
        time = self.tokens.shape[1]
        if time - read == 1:
            return self._call(self.tokens[:, read:], read, 0)
        # The whole context is read again, padded to a single length, because every length is compiled separately.
        return self._call(np.pad(self.tokens, ((0, 0), (0, self.context - time))), 0, time - 1)

    def extend(self, tokens: np.ndarray, chances: np.ndarray, sampling: np.ndarray) -> np.ndarray:
        """Read tokens (batch,), then draw and read further ones; return the drawn tokens (batch, count).

        The last drawn token is not read yet. Up to `_AHEAD` tokens are drawn in one call of a compiled function, which
        is several times as fast as one call per token.

        Args:
            tokens: tokens that follow those read so far.
            chances: a random number from [0, 1) for each draw, (batch, count).
            sampling: sampling settings, see `_draw`.
        """
        drawn = np.empty((len(tokens), 0), np.int32)
        while (left := chances[:, drawn.shape[1] :]).size:
            if room := self.context - self.tokens.shape[1]:
                left = left[:, : min(room, _AHEAD)]
                count = left.shape[1]
                left = np.pad(left, ((0, 0), (0, _AHEAD - count)))
                new = self._call(tokens[:, None], self.tokens.shape[1], count, left, sampling)[:, :count]
                self.tokens = np.concatenate([self.tokens, tokens[:, None], new[:, :-1]], axis=1)
            else:
                new = _draw(np, self(tokens), left[:, 0], sampling)[:, None].astype(np.int32)
            drawn, tokens = np.concatenate([drawn, new], axis=1), new[:, -1]
        return drawn

    def _call(self, tokens: np.ndarray, first: int, second: int, *sampling: np.ndarray) -> np.ndarray:
        weights = _weights(self.variables)
        positions = np.array([first, second], np.int32)
        return self.reader.predict_on_batch((tokens, positions, weights, *(x.astype(np.float32) for x in sampling)))

    def _read(self, cache, tokens, positions, weights, *sampling):
        """Return an output and the new cache. The output is logits or, with `sampling`, tokens drawn one by one.

        Args:
            cache: keys and values of the earlier tokens, (depth, 2, batch, heads, context, key_dim).
            tokens: new tokens, (batch, time); with `sampling`, (batch, 1).
            positions: position in the context of the first new token, and the index among the new tokens whose logits
                are returned, (2,). With `sampling`, the second number is the number of draws.
            weights: weights of the model, or an empty list to use its variables.
            sampling: nothing, or random numbers (batch, _AHEAD) and settings for `_draw`.
        """
        with keras.StatelessScope(state_mapping=list(zip(self.variables, weights, strict=False))):
            if not sampling:
                return self._attend(cache, tokens, positions[0], positions[1])
            chances, settings = sampling

            def step(number, state):
                drawn, cache, token = state  # (batch, _AHEAD), the cache, (batch, 1)
                logits, cache = self._attend(cache, token, positions[0] + number, 0)
                chance = keras.ops.take(chances, number, axis=1)
                exact = [keras.ops.cast(x, logits.dtype) for x in (chance, settings)]
                token = keras.ops.cast(_draw(keras.ops, logits, *exact), "int32")
                token = keras.ops.expand_dims(token, 1)
                return keras.ops.slice_update(drawn, (_ZERO, number), token), cache, token

            drawn = keras.ops.zeros_like(chances, "int32")
            state: Any = keras.ops.fori_loop(0, positions[1], step, (drawn, cache, tokens))
            return state[:2]

    def _attend(self, cache: Any, tokens, start, index):
        """Return the logits (batch, vocabulary) after the token at `index` of (batch, time), and the new cache."""

        def keep(number, keys, values):
            nonlocal cache
            new: Any = keras.ops.stack([keys, values])
            cache = keras.ops.slice_update(cache, (np.int32(number), _ZERO, _ZERO, _ZERO, start, _ZERO), new[None])
            return cache[number, 0], cache[number, 1]

        return self.template.step(self.model, tokens, start, index, keep), cache


def generate(
    stream: Any,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Continue each prompt: yield the next token of every prompt, (batch,) int32, `tokens` times.

    The result for a prompt does not depend on the other prompts.

    Args:
        stream: a `Stream`, or an object with the same `reset` and call, such as `Stream` in `recurrent.py` for a model
            that outputs logits.
        prompts: tokens of each prompt, at least one; prompts may differ in length.
        tokens: number of tokens to generate per prompt.
        temperature: divides the logits; 0 always selects the most probable token.
        top_k: number of most probable tokens to sample from, or None for all.
        top_p: sample from the fewest most probable tokens that together have at least this probability, or None.
            Applied after `top_k`.
        seed: random seed; the prompt in row `r` uses `numpy.random.default_rng([seed, r])`.

    Raises:
        ValueError: if there is no prompt or an empty one, `tokens` or `temperature` is negative, `top_k` is less than 1
            or `top_p` is outside (0, 1].
    """
    if not len(prompts) or not all(np.ndim(prompt) == 1 and len(prompt) for prompt in prompts):
        raise ValueError("prompts must be a list of lists, not empty, with at least one token in each")
    if any(np.asarray(prompt).dtype.kind not in "iu" for prompt in prompts):
        raise ValueError("the tokens of a prompt must be whole numbers")
    tokens = _size("tokens", tokens) if tokens else 0
    top_k = None if top_k is None else _size("top_k", top_k)
    real = all(isinstance(number, numbers.Real) for number in (temperature, 1 if top_p is None else top_p))
    if not real or not temperature >= 0 or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError(f"temperature {temperature} must not be negative, top_p {top_p} in (0, 1]")
    sampling = np.array([temperature or 1, 2**24 if top_k is None else top_k, 1 if top_p is None else top_p])
    if temperature == 0:
        sampling[1] = 1
    return _generate(stream, [np.asarray(prompt, np.int32) for prompt in prompts], tokens, sampling, seed)


def _generate(
    stream: Any, prompts: list[np.ndarray], tokens: int, sampling: np.ndarray, seed: int
) -> Iterator[np.ndarray]:
    random = [np.random.default_rng([seed, row]) for row in range(len(prompts))]
    waiting = [collections.deque() for _ in prompts]  # tokens drawn while longer prompts are still being read
    position = min(len(prompt) for prompt in prompts)
    stream.reset()
    logits = stream(np.stack([prompt[:position] for prompt in prompts]))
    while tokens > 0:
        drawing = [position >= len(prompt) for prompt in prompts]
        chances = np.array([row.random() if draws else 0 for row, draws in zip(random, drawing, strict=True)])
        new = _draw(np, logits, chances, sampling)[:, None].astype(np.int32)  # (batch, 1)
        for row, prompt in enumerate(prompts):
            if drawing[row]:
                waiting[row].append(new[row, 0])
            else:
                new[row] = prompt[position]
        position += 1
        while tokens > 0 and all(waiting):
            yield np.array([queue.popleft() for queue in waiting], np.int32)
            tokens -= 1
            if tokens > 0 and hasattr(stream, "extend") and not all(waiting):
                chances = np.stack([row.random(min(tokens, _AHEAD)) for row in random])
                new = stream.extend(new[:, -1], chances, sampling)
                for queue, row in zip(waiting, new, strict=True):
                    queue.extend(row)
        if tokens > 0:
            logits = stream(new[:, -1])


def _draw(ops: Any, logits: Any, chances: Any, sampling: Any) -> Any:
    """Draw a token (batch,) from logits (batch, vocabulary) with one random number in [0, 1) each, `chances` (batch,).

    `ops` is NumPy or `keras.ops`; `sampling` is temperature, top_k and top_p, see `generate`.
    """
    order = ops.argsort(-logits, axis=-1)  # the most probable first
    logits = ops.take_along_axis(logits, order, axis=-1)
    shares = ops.exp((logits - logits[:, :1]) / sampling[0])
    ranks = ops.arange(logits.shape[1], dtype=logits.dtype)
    shares = ops.where(ranks < sampling[1], shares, 0.0)
    shares = shares / ops.sum(shares, axis=-1, keepdims=True)
    before = ops.cumsum(shares, axis=-1) - shares  # total probability of all more probable tokens
    shares = ops.where(before < sampling[2], shares, 0.0)
    sums = ops.cumsum(shares, axis=-1)
    passed = ops.sum(ops.where(sums <= chances[:, None] * sums[:, -1:], 1, 0), axis=-1, keepdims=True)
    last = ops.sum(ops.where(shares > 0, 1, 0), axis=-1, keepdims=True) - 1  # guards against rounding
    return ops.take_along_axis(order, ops.minimum(passed, last), axis=-1)[:, 0]


class Reader:
    """Runs a transformer encoder–decoder step by step for `Translator`, whose compiled function traces its methods.

    Args:
        model: a `transformer.encoder_decoder`, whose weights are shared.
    """

    def __init__(self, model: keras.Model):
        self.model, self.template = model, _template(model)
        self.context: int = model.get_layer("positions").context
        self.vocabulary: int = model.get_layer("source_embedding").input_dim
        outputs = [model.get_layer(f"source_{name}").output for name in ("normalization", "real_steps")]
        self.encoder = keras.Model(model.inputs[0], outputs)

    def begin(self, sources) -> Any:
        """Return the state before the first target token, for sources (rows, source_time).

        The state is a tree of tensors whose first axis is the rows. Tensors that `step` returns unchanged belong to the
        source.
        """
        memory, real = self.encoder(sources)  # (rows, source_time, width), (rows, source_time)
        state = {"real": real, "memory": [], "past": []}
        for attention, cross in zip(
            *(self.template.attentions(self.model, kind) for kind in ("attention", "cross_attention")), strict=True
        ):
            state["memory"].append(self.template.keys_and_values(cross, memory))
            shape = (sources.shape[0], attention.num_heads, self.context, attention.key_dim)
            state["past"].append([keras.ops.zeros(shape, attention.compute_dtype)] * 2)
        return state

    def step(self, state: Any, tokens, place) -> tuple[Any, Any]:
        """Read tokens (rows,) at position `place`; return the next logits (rows, target_vocabulary) and the state."""
        past = []

        def keep(number, *new):
            pairs = zip(state["past"][number], new, strict=True)
            past.append([keras.ops.slice_update(cache, (_ZERO, _ZERO, place, _ZERO), one) for cache, one in pairs])
            return past[number]

        logits = self.template.step(self.model, tokens[:, None], place, 0, keep, state["memory"], state["real"])
        return logits, state | {"past": past}


class Translator:
    """Finds probable targets for sources by greedy or beam search, for a whole batch in one compiled call.

    Beam search keeps a fixed number of the most probable partial targets, extends each by every token and keeps the
    best results; finished targets remain candidates. Greedy search is beam search with one beam.

    Args:
        reader: a `Reader`, or an object with the same `begin`, `step` and `model`, such as an `LSTMReader`.
        start: token that begins a target.
        end: token that ends a target.
        mask_value: token that pads sequences at the end; results never contain it or `start`.
        longest: length of the longest target, without `start` and `end`.

    Raises:
        ValueError: if `longest` is less than 1 or not less than the model's context.
    """

    def __init__(self, reader: Any, *, start: int = 1, end: int = 2, mask_value: int = 0, longest: int):
        context = getattr(reader, "context", math.inf)
        longest = _size("longest", longest)
        if not longest < context:
            raise ValueError(f"longest {longest} must be at least 1 and smaller than the context of {context}")
        self.reader = reader
        self.start, self.end, self.mask_value, self.longest = start, end, mask_value, longest
        self.variables = reader.model.variables
        self.vocabulary = getattr(reader, "vocabulary", 2**31)  # number of source tokens
        self.compiled: dict[tuple[int, ...], _Compiled] = {}  # by number of beams and shape of the sources

    def __call__(self, sources: Any, *, beams: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable targets found, best first, and the natural logarithms of their probabilities.

        Every shape of `sources` is compiled separately, so use few different shapes.

        Args:
            sources: tokens, (batch, source_time), padded at the end.
            beams: number of partial targets to keep and of targets to return; 1 is greedy search.

        Returns:
            tokens (batch, beams, longest) int32, padded and without the end token; log probabilities (batch, beams) of
            whole targets including the end token, -inf where there are fewer targets than beams.

        Raises:
            ValueError: if `beams` is less than 1, or `sources` is empty, not two-dimensional or contains a token
                outside the vocabulary.
        """
        beams, sources = _size("beams", beams), np.asarray(sources)
        if sources.ndim != 2 or not sources.size:
            raise ValueError(f"sources {sources.shape} must be (batch, source_time), at least one token")
        _check_tokens(sources, self.vocabulary)
        sources = sources.astype(np.int32)
        key = (beams, *sources.shape)
        if key not in self.compiled:
            self.compiled[key] = _Compiled(functools.partial(self._search, beams))
        return self.compiled[key].predict_on_batch((sources, _weights(self.variables)))

    def _search(self, beams: int, sources, weights):
        with keras.StatelessScope(state_mapping=list(zip(self.variables, weights, strict=False))):
            ops: Any = keras.ops
            batch = sources.shape[0]
            first = self.reader.begin(sources)
            leaves = [ops.repeat(leaf, beams, axis=0) for leaf in keras.tree.flatten(first)]  # (batch * beams, ...)
            tokens = ops.full((batch, beams, self.longest + 1), self.mask_value, "int32")
            last = ops.full((batch * beams,), self.start, "int32")
            scores = ops.tile(ops.array([[0.0] + [-math.inf] * (beams - 1)], "float32"), (batch, 1))
            ended = ops.zeros((batch, beams), "bool")
            before = ops.arange(batch, dtype="int32")[:, None] * beams  # index of each source's first row

            def unfinished(position, ended, *_):
                return ops.logical_and(position <= self.longest, ops.logical_not(ops.all(ended)))

            def step(position, ended, scores, tokens, last, *leaves):
                logits, state = self.reader.step(keras.tree.pack_sequence_as(first, leaves), last, position)
                chances = ops.log_softmax(ops.cast(logits, "float32"))  # (batch * beams, vocabulary)
                vocabulary = chances.shape[-1]
                known = ops.arange(vocabulary, dtype="int32")
                # A target of the maximum length must end.
                possible = ops.logical_and(known != self.start, known != self.mask_value)
                possible = ops.logical_or(ops.logical_and(possible, position < self.longest), known == self.end)
                chances = ops.reshape(ops.where(possible, chances, -math.inf), (batch, beams, vocabulary))
                filled = ops.cast(ops.where(known == self.mask_value, 0.0, -math.inf), "float32")  # padding is free
                chances = scores[:, :, None] + ops.where(ended[:, :, None], filled, chances)
                scores, best = ops.top_k(ops.reshape(chances, (batch, beams * vocabulary)), beams)  # (batch, beams)
                best = ops.cast(best, "int32")
                parents, new = best // vocabulary, best % vocabulary
                new_leaves = keras.tree.flatten(state)
                if beams > 1:
                    ended = ops.take_along_axis(ended, parents, axis=1)
                    tokens = ops.take_along_axis(tokens, parents[:, :, None], axis=1)
                    rows = ops.reshape(before + parents, (-1,))
                    # Tensors that `step` leaves unchanged belong to the source and are the same in all its beams.
                    new_leaves = [
                        new_leaf if new_leaf is leaf else ops.take(new_leaf, rows, axis=0)
                        for leaf, new_leaf in zip(leaves, new_leaves, strict=True)
                    ]
                ended = ops.logical_or(ops.logical_or(ended, new == self.end), scores == -math.inf)
                new = ops.where(ended, self.mask_value, new)
                tokens = ops.slice_update(tokens, (_ZERO, _ZERO, position), new[:, :, None])
                return position + 1, ended, scores, tokens, ops.reshape(new, (-1,)), *new_leaves

            state = (ops.array(0, "int32"), ended, scores, tokens, last, *leaves)
            _, _, scores, tokens, *_ = ops.while_loop(unfinished, step, state)
            tokens = ops.where(scores[:, :, None] == -math.inf, self.mask_value, tokens)
            return tokens[:, :, : self.longest], scores


class LSTMReader:
    """Runs an `lstm_encoder_decoder` of `recurrent.py` step by step for `Translator`.

    Both methods use `keras.ops` and can be traced in a compiled function. A state is a tuple of tensors whose first
    axis is the rows; rows may be repeated, dropped or reordered between two steps.

    Args:
        model: a `recurrent.lstm_encoder_decoder`, whose weights are shared.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.decoders = [layer for layer in model.layers if layer.name.startswith("decoder_")]
        outputs = [model.get_layer("attention").input[1]]
        for number in range(1, len(self.decoders) + 1):
            outputs += [model.get_layer(f"encoder_{number}_{kind}").output for kind in ("output", "carry")]
        self.encoder = keras.Model(model.inputs[0], outputs)
        self.vocabulary: int = model.get_layer("source_embedding").input_dim

    def begin(self, sources: Any) -> Any:
        """Return the state before the first token, for sources (rows, source_time)."""
        encoded, *states = self.encoder(sources)  # (rows, source_time, units), each (rows, units)
        return encoded, self.model.get_layer("source_mask").compute_mask([sources, sources]), *states

    def step(self, state: Any, tokens: Any, place: Any) -> tuple[Any, Any]:
        """Read tokens (rows,); return the output (rows, target_vocabulary) and the new state; `place` is not used."""
        layer = self.model.get_layer
        encoded, mask, *states = state
        x = layer("target_embedding")(tokens)  # (rows, embedding)
        after = []
        for number, decoder in enumerate(self.decoders):
            x, new = decoder.cell(x, states[2 * number : 2 * number + 2])  # (rows, units)
            after += new
        context = layer("attention")([keras.ops.expand_dims(x, 1), encoded], mask=[None, mask])  # (rows, 1, units)
        x = layer("combination")(keras.ops.concatenate([context[:, 0], x], axis=-1))
        return layer("output")(x), (encoded, mask, *after)


def attention_maps(model: keras.Model, tokens: Any) -> list[np.ndarray]:
    """Return a decoder's attention weights for a sequence (time,): an array (heads, time, time) for each block.

    Each row belongs to the token that attends and sums to 1.

    Raises:
        ValueError: if `tokens` is not one non-empty sequence or contains a token outside the vocabulary.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not tokens.size:
        raise ValueError(f"tokens {tokens.shape} must be one sequence, (time,)")
    _check_tokens(tokens, model.get_layer("embedding").input_dim)
    attentions = _template(model).attentions(model)
    outputs = [model.get_layer(f"{layer.name}_normalization").output for layer in attentions]
    queries = keras.tree.flatten(keras.Model(model.input, outputs)(np.asarray(tokens, np.int32)[None]))
    return [_map(layer, x, x, use_causal_mask=True) for layer, x in zip(attentions, queries, strict=True)]


def cross_attention_maps(model: keras.Model, source: Any, target: Any) -> list[np.ndarray]:
    """Return an encoder–decoder's cross-attention weights for a target (time,) and a source (source_time,).

    There is an array (heads, time, source_time) for each block. Each row belongs to the target token that attends and
    sums to 1.

    Raises:
        ValueError: if source or target is not one non-empty sequence or contains a token outside its vocabulary.
    """
    source, target = np.asarray(source), np.asarray(target)
    for what, tokens, embedding in (("source", source, "source_embedding"), ("target", target, "embedding")):
        if tokens.ndim != 1 or not tokens.size:
            raise ValueError(f"{what} {tokens.shape} must be one sequence, (time,)")
        _check_tokens(tokens, model.get_layer(embedding).input_dim)
    attentions = _template(model).attentions(model, "cross_attention")
    names = [*(f"{layer.name}_normalization" for layer in attentions), "source_normalization", "source_real_steps"]
    outputs = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    *queries, memory, real = outputs([np.asarray(tokens, np.int32)[None] for tokens in (source, target)])
    return [_map(layer, x, memory, key_mask=real) for layer, x in zip(attentions, queries, strict=True)]


def _map(layer: Any, *inputs: Any, **options: Any) -> Any:
    _, weights = layer(*inputs, return_attention_scores=True, **options)  # (1, heads, time, time of the keys)
    return keras.ops.convert_to_numpy(weights[0])


class _Compiled(keras.Model):
    """Wraps a function in a model, so that Keras compiles it."""

    def __init__(self, function: Callable):
        super().__init__(name="compiled", dtype="float32")  # random numbers stay as exact as the logits
        self.function = function
        options: Any = {"jit_compile": keras.backend.backend() != "torch"}
        self.compile(**options)

    def call(self, inputs):
        """Return the function's output."""
        return self.function(*inputs)


class _Cached(_Compiled):
    """Wraps a function whose first argument is a cache that is kept between calls."""

    def __init__(self, function: Callable, shape: tuple[int, ...], dtype: str):
        super().__init__(function)
        self.cache = self.add_weight(shape=shape, initializer="zeros", dtype=dtype, trainable=False, name="cache")

    def call(self, inputs):
        """Return the function's output."""
        output, cache = self.function(self.cache.value, *inputs)
        self.cache.assign(cache)
        return output


def _weights(variables: Sequence[Any]) -> list:
    """Return the weights to pass to a compiled function as inputs: on JAX all of them, otherwise none.

    JAX would compile the current values of weights that the function does not own into it. If it owned them, Keras
    would visit all layers on each call, which takes longer than reading a token.
    """
    return [variable.value for variable in variables] if keras.backend.backend() == "jax" else []


def _template(model: keras.Model) -> Any:
    """Return the module that defines a transformer's layers: the copy of transformer.py that built or loaded it."""
    return inspect.getmodule(type(model.get_layer("positions")))


def _size(name: str, size: Any) -> int:
    """Return a size, such as a NumPy integer, as an int; raise ValueError if it is not an integer of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _check_tokens(tokens: np.ndarray, vocabulary: int) -> None:
    """Raise ValueError for tokens outside the vocabulary, which some backends accept or index from its end."""
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise ValueError(f"tokens must be whole numbers, not {tokens.dtype}")
    if (unknown := tokens[(tokens < 0) | (tokens >= vocabulary)]).size:
        raise ValueError(f"token {unknown[0]} is outside the vocabulary, 0 to {vocabulary - 1}")

"""Transformer: blocks of self-attention and feed-forward layers; here the decoder, a language model.

Paper: Vaswani et al. 2017; Radford et al. 2019 (GPT-2, the pre-norm decoder)
Input: (batch, time) int, tokens, at most `context` of them
Output: (batch, time, vocabulary) float, logits of the token that follows each

In a block each token looks at itself and those before it, weighs them by how well their keys match its query, and adds
the weighted sum of their values to what is known of it (attention); then a small network works on each token by itself
(feed-forward). What a token's place is tells a vector that is learned for each place.

Sources: A. Vaswani et al., "Attention is all you need", NIPS 2017. A. Radford et al., "Language models are unsupervised
multitask learners", 2019 (GPT-2): normalisation before each part of a block and once at the end, initial weights.
O. Press and L. Wolf, "Using the output embedding to improve language models", EACL 2017: one matrix for both ends.
A. Fan, M. Lewis and Y. Dauphin, "Hierarchical neural story generation", ACL 2018: top-k. A. Holtzman et al., "The
curious case of neural text degeneration", ICLR 2020: top-p.

Deviations: of the 2017 paper, only the decoder, without the attention to an encoder; places are learned instead of
sines, normalisation is before instead of after. Of GPT-2, its GELU is the tanh approximation, here it is exact; its
weights are drawn with a deviation of 0.02, here of 1 / √width, which is the same at a width of 2,500 and lets a narrow
model learn in half the steps.

    model = decoder(vocabulary=100, context=128)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens[:, :-1], tokens[:, 1:])
    for token in generate(Stream(model), [prompt], 500, temperature=0.8):
        print(token[0])
"""

import collections
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np


def decoder(
    *,
    vocabulary: int = 100,
    context: int = 128,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    feed_forward: int | None = None,
    activation: str = "gelu",
    dropout: float = 0.0,
    mask_value: int | None = None,
    output_activation: str | None = None,
    name: str = "decoder",
) -> keras.Model:
    """Build a decoder; compile it with a sparse categorical cross-entropy from logits, the target is the next token.

    Args:
        vocabulary: number of tokens, which are integers from 0.
        context: tokens that the longest sequence has.
        width: numbers that stand for a token.
        depth: number of blocks.
        heads: of each attention; they share the width between them.
        feed_forward: units of the hidden layer in each block; None for four times the width.
        activation: of that layer.
        dropout: share that is set to zero while training, of the embedding, the attention and what each part adds.
        mask_value: the token that fills sequences up at the end, or None if there is none. The loss leaves it out; the
            attention looks back only, so that no real token ever sees it.
        output_activation: of the output; None gives logits.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1, the heads don't divide the width, or `mask_value` isn't a token.
    """
    feed_forward = 4 * width if feed_forward is None else feed_forward
    if min(vocabulary, context, width, depth, heads, feed_forward) < 1:
        raise ValueError(
            f"vocabulary {vocabulary}, context {context}, width {width}, depth {depth}, heads {heads} and feed_forward "
            f"{feed_forward} must be at least 1"
        )
    if width % heads:
        raise ValueError(f"{heads} heads don't divide the width {width}")
    if mask_value is not None and not 0 <= mask_value < vocabulary:
        raise ValueError(f"mask_value {mask_value} is none of the {vocabulary} tokens")

    tokens = keras.Input((None,), dtype="int32", name="tokens")  # (batch, time)
    exact = keras.config.floatx()  # float32: in mixed precision float16 is too coarse for logits
    embedding = keras.layers.ReversibleEmbedding(
        vocabulary, width, embeddings_initializer=_normal(width), reverse_dtype=exact, name="embedding"
    )
    x = Positions(context, name="positions")(embedding(tokens))  # (batch, time, width)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    for number in range(1, depth + 1):
        x = _block(
            x,
            name=f"block_{number}",
            heads=heads,
            feed_forward=feed_forward,
            activation=activation,
            dropout=dropout,
            causal=True,
        )
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="normalization")(x)
    output = embedding(x, reverse=True)  # (batch, time, vocabulary)
    if mask_value is not None:
        output = LossMask(mask_value, dtype=exact, name="loss_mask")([output, tokens])
    if output_activation:
        output = keras.layers.Activation(output_activation, dtype=exact, name="output")(output)
    model = keras.Model(tokens, output, name=name)
    for number in range(1, depth + 1):
        # Each block adds two sums to x; like this its variance doesn't grow with the depth (GPT-2).
        for layer in (
            model.get_layer(f"block_{number}_attention").output_dense,
            model.get_layer(f"block_{number}_contract"),
        ):
            layer.kernel.assign(layer.kernel / math.sqrt(2 * depth))
    return model


def _normal(width: int) -> Any:
    return keras.initializers.RandomNormal(stddev=width**-0.5)


def _block(x, *, name: str, heads: int, feed_forward: int, activation: str, dropout: float, causal: bool):
    """Attention and feed-forward network, each added to `x`, (batch, time, width)."""
    width = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_attention_normalization")(x)
    attention = keras.layers.MultiHeadAttention(
        heads, width // heads, dropout=dropout, kernel_initializer=_normal(width), name=f"{name}_attention"
    )
    y = attention(y, y, use_causal_mask=causal)  # (batch, time, width)
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{name}_attention_dropout")(y)
    x = keras.layers.Add(name=f"{name}_attention_sum")([x, y])
    y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_feed_forward_normalization")(x)
    y = keras.layers.Dense(feed_forward, activation, kernel_initializer=_normal(width), name=f"{name}_expand")(y)
    y = keras.layers.Dense(width, kernel_initializer=_normal(width), name=f"{name}_contract")(y)  # (batch, time, width)
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{name}_feed_forward_dropout")(y)
    return keras.layers.Add(name=f"{name}_feed_forward_sum")([x, y])


@keras.saving.register_keras_serializable(package="templates")
class Positions(keras.layers.Layer):
    """Add to each token of a sequence, (batch, time, width), the vector learned for its place.

    Args:
        context: number of places.
    """

    def __init__(self, context: int, **kwargs):
        super().__init__(**kwargs)
        self.context = context
        self.supports_masking = True

    def build(self, input_shape):
        """Make the table, (context, width)."""
        width = input_shape[-1]
        self.table = self.add_weight(shape=(self.context, width), initializer=_normal(width), name="table")

    def call(self, inputs, start=0):
        """The sum; the first token is at the place `start`.

        Raises:
            ValueError: if the sequence is longer than the context.
        """
        shape: Any = keras.ops.shape(inputs)
        time = shape[1]
        if isinstance(time, int) and time > self.context:
            raise ValueError(f"a sequence of {time} tokens is longer than the context of {self.context}")
        places: Any = keras.ops.arange(time)
        return inputs + keras.ops.take(self.table, places + start, axis=0)

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"context": self.context}


@keras.saving.register_keras_serializable(package="templates")
class LossMask(keras.layers.Layer):
    """Hide from the loss the places whose token is `mask_value`.

    Called with the pair (outputs, tokens), (batch, time, vocabulary) and (batch, time), it returns the outputs.
    """

    def __init__(self, mask_value: int, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs):
        """The outputs."""
        return keras.ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        """Whether a token is real: (batch, time) bool."""
        return keras.ops.not_equal(inputs[1], self.mask_value)

    def compute_output_shape(self, input_shape):
        """That of the outputs."""
        return input_shape[0]

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"mask_value": self.mask_value}


# Generation


class Stream:
    """Reads token by token and remembers: `stream(tokens)` gives the logits of what follows all tokens so far.

    Each call is one of a compiled function, which keeps the keys and values of the tokens it has read. When the context
    is full, it goes on from the last half of it, which it reads again in one call.

    Args:
        model: a decoder; its weights are shared, and it says in a stream what it says of the whole sequence. There is
            no padding, and an `output_activation` is left out.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.variables = model.variables
        self.attentions = [layer for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
        self.context: int = model.get_layer("positions").context
        self.reader: Any = None
        self.tokens: Any = None  # (batch, time), those in the context

    def reset(self) -> None:
        """Forget all tokens; the next one begins a new sequence."""
        self.tokens = None

    def __call__(self, tokens: Any) -> np.ndarray:
        """The logits (batch, vocabulary) of what follows the last of the tokens, (batch,) or (batch, time).

        Raises:
            ValueError: if the batch is of another size than before.
        """
        tokens = np.asarray(tokens, np.int32)
        tokens = tokens.reshape(len(tokens), -1)  # (batch, time)
        if self.tokens is None:
            self.tokens = tokens[:, :0]
        if len(tokens) != len(self.tokens):
            raise ValueError(f"{len(tokens)} sequences after {len(self.tokens)}; reset() begins new ones")
        if self.reader is None or self.reader.cache.shape[2] != len(tokens):
            first = self.attentions[0]
            shape = (len(self.attentions), 2, len(tokens), self.context, first.num_heads, first.key_dim)
            self.reader = _Reader(self._read, shape, first.compute_dtype)
            self.reader.compile(jit_compile=keras.backend.backend() != "torch")
        read = self.tokens.shape[1]
        self.tokens = np.concatenate([self.tokens, tokens], axis=1)
        if (excess := self.tokens.shape[1] - self.context) > 0:
            # What is kept depends on the number of tokens alone, not on how many came at once.
            hop = self.context - self.context // 2
            self.tokens, read = self.tokens[:, -(-excess // hop) * hop :], 0
        time = self.tokens.shape[1]
        if time - read == 1:
            return self._call(self.tokens[:, read:], read, 0)
        # All is read again, at one length, since each is compiled for itself.
        return self._call(np.pad(self.tokens, ((0, 0), (0, self.context - time))), 0, time - 1)

    def extend(self, tokens: np.ndarray, chances: np.ndarray, sampling: np.ndarray) -> np.ndarray:
        """Read tokens (batch,) and those drawn after them, which are returned: (batch, count), the last isn't read yet.

        Up to `_AHEAD` tokens are one call of a compiled function, several times as fast as one call each.

        Args:
            tokens: that follow those read so far.
            chances: a number from [0, 1) for each draw, (batch, count).
            sampling: see `_draw`.
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
        # JAX needs the weights as an input: those that the reader doesn't own would be compiled in as they are now, and
        # if it owned them Keras would visit all layers at each token, which takes longer than the token itself.
        weights = [variable.value for variable in self.variables] if keras.backend.backend() == "jax" else []
        places = np.array([first, second], np.int32)
        return self.reader.predict_on_batch((tokens, places, weights, *(x.astype(np.float32) for x in sampling)))

    def _read(self, cache, tokens, places, weights, *sampling):
        """The output and the new cache: logits, or with `sampling` tokens drawn from them and read one by one.

        Args:
            cache: keys and values of the tokens before, (depth, 2, batch, context, heads, key_dim).
            tokens: (batch, time), with `sampling` one each.
            places: of the first of the tokens in the context, and of the asked one among the tokens, (2,); with
                `sampling` the second is the number of draws instead.
            weights: of the model, or none to take them as they are.
            sampling: nothing, or chances (batch, _AHEAD) and settings for `_draw`.
        """
        with keras.StatelessScope(state_mapping=list(zip(self.variables, weights, strict=False))):
            if not sampling:
                return self._attend(cache, tokens, places[0], places[1])
            chances, settings = sampling

            def step(number, state):
                drawn, cache, token = state  # (batch, _AHEAD), the cache, (batch, 1)
                logits, cache = self._attend(cache, token, places[0] + number, 0)
                chance = keras.ops.take(chances, number, axis=1)
                token = keras.ops.cast(_draw(keras.ops, logits, chance, settings), "int32")
                token = keras.ops.expand_dims(token, 1)
                return keras.ops.slice_update(drawn, (0, number), token), cache, token

            drawn = keras.ops.zeros_like(chances, "int32")
            state: Any = keras.ops.fori_loop(0, places[1], step, (drawn, cache, tokens))
            return state[:2]

    def _attend(self, cache: Any, tokens, start, asked):
        """The logits (batch, vocabulary) after the token `asked` of (batch, time), and the new cache."""
        layer = self.model.get_layer
        x = layer("positions")(layer("embedding")(tokens), start=start)  # (batch, time, width)
        shape: Any = keras.ops.shape(tokens)
        places = keras.ops.expand_dims(start + keras.ops.arange(shape[1]), 1)  # (time, 1)
        seen: Any = keras.ops.less_equal(keras.ops.arange(self.context), places)  # (time, context)
        for number, attention in enumerate(self.attentions):
            block = attention.name.removesuffix("_attention")
            y = layer(f"{block}_attention_normalization")(x)
            new: Any = keras.ops.stack([attention.key_dense(y), attention.value_dense(y)])
            cache = keras.ops.slice_update(cache, (number, 0, 0, start, 0, 0), new[None])
            query = attention.query_dense(y)  # (batch, time, heads, key_dim)
            y = keras.ops.dot_product_attention(query, cache[number, 0], cache[number, 1], mask=seen[None, None])
            x = x + attention.output_dense(y)
            y = layer(f"{block}_feed_forward_normalization")(x)
            x = x + layer(f"{block}_contract")(layer(f"{block}_expand")(y))
        x = layer("normalization")(keras.ops.take(x, asked, axis=1))  # (batch, width)
        return layer("embedding")(x, reverse=True), cache


class _Reader(keras.Model):
    """A function of a cache that is kept and of what else it is called with: as a model, Keras compiles it."""

    def __init__(self, read: Callable, shape: tuple[int, ...], dtype: str):
        super().__init__(name="reader", dtype="float32")  # chances stay as exact as the logits
        self.read = read
        self.cache = self.add_weight(shape=shape, initializer="zeros", dtype=dtype, trainable=False, name="cache")

    def call(self, inputs):
        """The function's output."""
        output, cache = self.read(self.cache.value, *inputs)
        self.cache.assign(cache)
        return output


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
    """Go on from each prompt, which gets what it would get alone: yields the next token of each, (batch,) int32.

    Args:
        stream: a `Stream`, or anything else with its `reset` and call, such as that of `recurrent.py` of a model
            whose output is logits.
        prompts: tokens to begin with, as many as one likes of each.
        tokens: number of tokens that each prompt gets.
        temperature: the logits are divided by it; 0 always takes the most probable token.
        top_k: if not None, only so many of the most probable tokens are left.
        top_p: if not None, of these only the fewest, the most probable first, that have this share together.
        seed: of the draws; the prompt in the row `r` draws from `numpy.random.default_rng([seed, r])`.

    Raises:
        ValueError: if there is no prompt or an empty one, the temperature is negative, `top_k` smaller than 1 or
            `top_p` outside (0, 1].
    """
    if not len(prompts) or not all(len(prompt) for prompt in prompts):
        raise ValueError("there must be a prompt, and at least one token in each")
    if temperature < 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError(
            f"temperature {temperature} must not be negative, top_k {top_k} at least 1, top_p {top_p} in (0, 1]"
        )
    sampling = np.array([temperature or 1, 2**24 if top_k is None else top_k, 1 if top_p is None else top_p])
    if temperature == 0:
        sampling[1] = 1
    return _generate(stream, [np.asarray(prompt, np.int32) for prompt in prompts], tokens, sampling, seed)


_AHEAD = 16  # tokens that `Stream.extend` draws in one call


def _generate(
    stream: Any, prompts: list[np.ndarray], tokens: int, sampling: np.ndarray, seed: int
) -> Iterator[np.ndarray]:
    random = [np.random.default_rng([seed, row]) for row in range(len(prompts))]
    waiting = [collections.deque() for _ in prompts]  # drawn while longer prompts are still being read
    place = min(len(prompt) for prompt in prompts)
    stream.reset()
    logits = stream(np.stack([prompt[:place] for prompt in prompts]))
    while tokens > 0:
        drawing = [place >= len(prompt) for prompt in prompts]
        chances = np.array([row.random() if draws else 0 for row, draws in zip(random, drawing, strict=True)])
        new = _draw(np, logits, chances, sampling)[:, None].astype(np.int32)  # (batch, 1)
        for row, prompt in enumerate(prompts):
            if drawing[row]:
                waiting[row].append(new[row, 0])
            else:
                new[row] = prompt[place]
        place += 1
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
    """The token (batch,) that each of the chances (batch,), from [0, 1), draws by its logits (batch, vocabulary).

    `ops` is NumPy or `keras.ops`; `sampling` is temperature, top_k and top_p, see `generate`.
    """
    order = ops.argsort(-logits, axis=-1)  # the most probable first
    logits = ops.take_along_axis(logits, order, axis=-1)
    shares = ops.exp((logits - logits[:, :1]) / sampling[0])
    ranks = ops.arange(logits.shape[1], dtype=logits.dtype)
    shares = ops.where(ranks < sampling[1], shares, 0.0)
    shares = shares / ops.sum(shares, axis=-1, keepdims=True)
    before = ops.cumsum(shares, axis=-1) - shares  # what all that are more probable have together
    shares = ops.where(before < sampling[2], shares, 0.0)
    sums = ops.cumsum(shares, axis=-1)
    passed = ops.sum(ops.where(sums <= chances[:, None] * sums[:, -1:], 1, 0), axis=-1, keepdims=True)
    last = ops.sum(ops.where(shares > 0, 1, 0), axis=-1, keepdims=True) - 1  # against rounding
    return ops.take_along_axis(order, ops.minimum(passed, last), axis=-1)[:, 0]


def attention_maps(model: keras.Model, tokens: Any) -> list[np.ndarray]:
    """How much each token looks at each, of a sequence (time,): an array (heads, time, time) for each block.

    A row is a token that looks, and sums to 1.
    """
    attentions = [layer for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
    inputs = keras.Model(model.input, [model.get_layer(f"{layer.name}_normalization").output for layer in attentions])
    maps = []
    for layer, x in zip(attentions, keras.tree.flatten(inputs(np.asarray(tokens, np.int32)[None])), strict=True):
        _, weights = layer(x, x, use_causal_mask=True, return_attention_scores=True)
        maps.append(keras.ops.convert_to_numpy(weights[0]))
    return maps

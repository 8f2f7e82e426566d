"""Transformer: blocks of attention and feed-forward layers; an encoder, a decoder, and both together.

Paper: Vaswani et al. 2017; Radford et al. 2019 (GPT-2, the pre-norm decoder); Devlin et al. 2019 (BERT, the encoder)
Input: (batch, time) int, tokens; encoder: also (batch, time, features) float; encoder_decoder: source and target tokens
Output: (batch, time, vocabulary) float, logits of the token that follows each; encoder: probabilities of classes

In a block each token weighs tokens by how well their keys match its query, and adds the weighted sum of their values to
what is known of it (attention); then a small network works on each token by itself (feed-forward). What a token's place
is tells a vector that is learned for each place. In the encoder each token, or step of numbers, looks at all of its
sequence; the decoder, a language model, looks at the token itself and those before it; in `encoder_decoder` each block
of the decoder then also looks at what the encoder has made of the source (cross-attention).

The encoder's head "tagging" gives (batch, time, outputs), a label a step; "classification" (batch, outputs), a label a
sequence. Padding is at the end, of any length, and changes nothing.

Sources: A. Vaswani et al., "Attention is all you need", NIPS 2017. A. Radford et al., "Language models are unsupervised
multitask learners", 2019 (GPT-2): normalisation before each part of a block and once at the end, initial weights.
J. Devlin et al., "BERT: pre-training of deep bidirectional transformers for language understanding", NAACL 2019: the
encoder alone, with learned places. O. Press and L. Wolf, "Using the output embedding to improve language models", EACL
2017: one matrix for both ends. A. Fan, M. Lewis and Y. Dauphin, "Hierarchical neural story generation", ACL 2018:
top-k. A. Holtzman et al., "The curious case of neural text degeneration", ICLR 2020: top-p. B. Lowerre, "The Harpy
speech recognition system", Carnegie Mellon University 1976: beam search; I. Sutskever, O. Vinyals and Q. Le, "Sequence
to sequence learning with neural networks", NIPS 2014: as here, on what a decoder says.

Deviations: of the 2017 paper, places are learned instead of sines; normalisation is before instead of after, and once
more at the end of encoder and decoder; the target's embedding is tied to the output, but the source has its own, and
neither is multiplied by √width; attention has dropout too, as in the authors' program; beam search ranks by probability
alone, without a penalty of length. Of GPT-2, its GELU is the tanh approximation, here it is exact; its weights are
drawn with a deviation of 0.02, here of 1 / √width, which is the same at a width of 2,500 and lets a narrow model learn
in half the steps. Of BERT, there is neither pretraining nor a token for the class: the mean over all steps stands for
the sequence.

    model = decoder(vocabulary=100, context=128)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens[:, :-1], tokens[:, 1:])
    for token in generate(Stream(model), [prompt], 500, temperature=0.8):
        print(token[0])

    model = encoder_decoder(source_vocabulary=30, target_vocabulary=42)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit([sources, targets[:, :-1]], targets[:, 1:])      # a target is a 1, its tokens, a 2, and zeros as padding
    tokens, log_probabilities = Translator(Reader(model), longest=30)(sources, beams=4)
"""

import collections
import functools
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

Head = Literal["tagging", "classification"]

_ZERO = np.int32(0)  # in double precision JAX takes Python's numbers for another type than the other places


def encoder(
    *,
    features: int = 40,
    vocabulary: int | None = None,
    outputs: int = 39,
    head: Head = "tagging",
    context: int = 512,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    feed_forward: int | None = None,
    activation: str = "gelu",
    dropout: float = 0.0,
    mask_value: float | None = 0.0,
    output_activation: str | None = "softmax",
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder, in which every step sees all steps; compile it with a classification loss.

    Weigh the classes of steps by `sample_weight`, (batch, time): for Keras's `class_weight` such labels are one-hot.

    Args:
        features: numbers in a step.
        vocabulary: number of tokens, where a step is one token (an integer from 0) instead of numbers. Other tokens are
            an error on TensorFlow, no number on JAX; negative ones count from the end on both.
        outputs: classes of a step or a sequence.
        head: what is predicted: a label for each step, or one for the sequence, from the mean over its steps.
        context: steps that the longest sequence has.
        width: numbers that stand for a step.
        depth: number of blocks.
        heads: of each attention; they share the width between them.
        feed_forward: units of the hidden layer in each block; None for four times the width.
        activation: of that layer.
        dropout: share that is set to zero while training, of the first block's input, the attention and what each part
            adds.
        mask_value: what padding is filled with (see `RealSteps`), or None if there is none. Nothing looks at padding,
            and the loss leaves it out. With a vocabulary it is a token of its own.
        output_activation: of the head; None gives logits.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1, the heads don't divide the width, the head is unknown, `mask_value`
            isn't a token, or there is a softmax of a single output.
    """
    features, outputs, context = _size("features", features), _size("outputs", outputs), _size("context", context)
    vocabulary = None if vocabulary is None else _size("vocabulary", vocabulary)
    width, depth, heads, feed_forward = _blocks_sizes(width, depth, heads, feed_forward, dropout)
    if vocabulary is not None:
        _check_mask_value(mask_value, vocabulary)
    elif mask_value != mask_value:
        raise ValueError(f"mask_value {mask_value} must be a number")
    if outputs == 1 and output_activation == "softmax":
        raise ValueError(
            "the softmax of a single output is always 1: for yes or no take output_activation='sigmoid' and a binary "
            "cross-entropy, or two outputs"
        )
    if head not in get_args(Head):
        raise ValueError(f"head {head!r} is none of {', '.join(get_args(Head))}")

    exact = _exact()
    if vocabulary is None:
        sequence = keras.Input((None, features), name="sequence")  # (batch, time, features)
        x = keras.layers.Dense(width, name="projection")(sequence)  # (batch, time, width)
    else:
        sequence = keras.Input((None,), dtype="int32", name="sequence")  # (batch, time)
        x = keras.layers.Embedding(vocabulary, width, embeddings_initializer=_normal(width), name="embedding")(sequence)
    real = None
    if mask_value is not None:
        real = RealSteps(mask_value, name="real_steps")(sequence)  # (batch, time)
    x = _blocks(
        x,
        context=context,
        depth=depth,
        heads=heads,
        feed_forward=feed_forward,
        activation=activation,
        dropout=dropout,
        real=real,
    )
    if head == "classification":
        mean = keras.layers.GlobalAveragePooling1D("channels_last", dtype=exact, name="mean")
        x = mean(x, mask=real)  # (batch, width)
    output = keras.layers.Dense(outputs, output_activation, dtype=exact, name="output")(x)  # (batch, time, outputs)
    if head == "tagging" and real is not None:
        output = LossMask(False, dtype=exact, name="loss_mask")([output, real])  # padding is where `real` is False
    return keras.Model(sequence, output, name=name)


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
        vocabulary: number of tokens, which are integers from 0. Others are an error on TensorFlow, no number on JAX;
            negative ones count from the end on both.
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
    vocabulary, context = _size("vocabulary", vocabulary), _size("context", context)
    width, depth, heads, feed_forward = _blocks_sizes(width, depth, heads, feed_forward, dropout)
    _check_mask_value(mask_value, vocabulary)

    tokens = keras.Input((None,), dtype="int32", name="tokens")  # (batch, time)
    exact = _exact()
    embedding = keras.layers.ReversibleEmbedding(
        vocabulary, width, embeddings_initializer=_normal(width), reverse_dtype=exact, name="embedding"
    )
    x = _blocks(
        embedding(tokens),
        context=context,
        depth=depth,
        heads=heads,
        feed_forward=feed_forward,
        activation=activation,
        dropout=dropout,
        causal=True,
    )
    output = embedding(x, reverse=True)  # (batch, time, vocabulary)
    if mask_value is not None:
        output = LossMask(mask_value, dtype=exact, name="loss_mask")([output, tokens])
    if output_activation:
        output = keras.layers.Activation(output_activation, dtype=exact, name="output")(output)
    return keras.Model(tokens, output, name=name)


def encoder_decoder(
    *,
    source_vocabulary: int = 30,
    target_vocabulary: int = 42,
    source_context: int = 32,
    target_context: int = 32,
    width: int = 128,
    depth: int = 2,
    heads: int = 4,
    feed_forward: int | None = None,
    activation: str = "gelu",
    dropout: float = 0.0,
    mask_value: int = 0,
    output_activation: str | None = None,
    name: str = "encoder_decoder",
) -> keras.Model:
    """Build an encoder and a decoder that also looks at what the encoder made of the source; compile it as a decoder.

    Input: [source (batch, source_time), target (batch, time)], the target so far; it begins with a token that says so.

    Args:
        source_vocabulary: number of the source's tokens, which are integers from 0.
        target_vocabulary: number of the target's tokens, which are integers from 0.
        source_context: tokens that the longest source has.
        target_context: tokens that the longest target has.
        width: numbers that stand for a token.
        depth: number of blocks in the encoder, and as many in the decoder.
        heads: of each attention; they share the width between them.
        feed_forward: units of the hidden layer in each block; None for four times the width.
        activation: of that layer.
        dropout: share that is set to zero while training, of the embeddings, the attention and what each part adds.
        mask_value: the token that fills sources and targets up at the end. Nothing real looks at it, and the loss
            leaves it out.
        output_activation: of the output; None gives logits.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1, the heads don't divide the width, or `mask_value` isn't a token.
    """
    source_vocabulary = _size("source_vocabulary", source_vocabulary)
    target_vocabulary = _size("target_vocabulary", target_vocabulary)
    source_context, target_context = _size("source_context", source_context), _size("target_context", target_context)
    width, depth, heads, feed_forward = _blocks_sizes(width, depth, heads, feed_forward, dropout)
    _check_mask_value(mask_value, min(source_vocabulary, target_vocabulary))
    options: Any = {"depth": depth, "heads": heads, "activation": activation, "dropout": dropout}
    options |= {"feed_forward": feed_forward}

    exact = _exact()
    source = keras.Input((None,), dtype="int32", name="source")  # (batch, source_time)
    target = keras.Input((None,), dtype="int32", name="target")  # (batch, time)
    real = RealSteps(mask_value, name="source_real_steps")(source)  # (batch, source_time)
    x = keras.layers.Embedding(
        source_vocabulary, width, embeddings_initializer=_normal(width), name="source_embedding"
    )(source)
    memory = _blocks(x, prefix="source_", context=source_context, real=real, **options)  # (batch, source_time, width)
    embedding = keras.layers.ReversibleEmbedding(
        target_vocabulary, width, embeddings_initializer=_normal(width), reverse_dtype=exact, name="embedding"
    )
    x = _blocks(
        embedding(target), context=target_context, causal=True, memory=memory, memory_real=real, **options
    )  # (batch, time, width)
    output = embedding(x, reverse=True)  # (batch, time, target_vocabulary)
    output = LossMask(mask_value, dtype=exact, name="loss_mask")([output, target])
    if output_activation:
        output = keras.layers.Activation(output_activation, dtype=exact, name="output")(output)
    return keras.Model([source, target], output, name=name)


def _size(name: str, size: Any) -> int:
    """A size as Python's own whole number, of NumPy's too; refused if it is none of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _blocks_sizes(width: Any, depth: Any, heads: Any, feed_forward: Any, dropout: Any) -> tuple[int, int, int, int]:
    """Width, depth, heads and the hidden layer's size of the feed-forward networks, if all is possible."""
    width, depth, heads = _size("width", width), _size("depth", depth), _size("heads", heads)
    if width % heads:
        raise ValueError(f"{heads} heads don't divide the width {width}")
    if not isinstance(dropout, numbers.Real) or not 0 <= float(dropout) < 1:
        raise ValueError(f"dropout {dropout!r} must be at least 0 and below 1")
    return width, depth, heads, 4 * width if feed_forward is None else _size("feed_forward", feed_forward)


def _check_mask_value(mask_value: Any, tokens: int) -> None:
    if mask_value is not None and mask_value not in range(tokens):
        raise ValueError(f"mask_value {mask_value} is none of the {tokens} tokens")


def _check_tokens(tokens: np.ndarray, vocabulary: int) -> None:
    """Refuse tokens that a vocabulary lacks: not all backends do, and some count negative ones from its end."""
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise ValueError(f"tokens must be whole numbers, not {tokens.dtype}")
    if (unknown := tokens[(tokens < 0) | (tokens >= vocabulary)]).size:
        raise ValueError(f"token {unknown[0]} is none of the vocabulary's, 0 to {vocabulary - 1}")


def _exact() -> str:
    """What outputs are computed in: float32 in mixed precision too, or float64 if that is the policy."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


def _normal(width: int) -> Any:
    return keras.initializers.RandomNormal(stddev=width**-0.5)


def _blocks(
    x,
    *,
    context: int,
    depth: int,
    heads: int,
    feed_forward: int,
    activation: str,
    dropout: float,
    causal: bool = False,
    real=None,
    memory=None,
    memory_real=None,
    prefix: str = "",
):
    """What encoder and decoder have in common: places, blocks and a normalisation, on `x`, (batch, time, width).

    Args:
        x: embedded tokens or projected features.
        context: steps that the longest sequence has.
        depth: number of blocks.
        heads: of each attention.
        feed_forward: units of the hidden layer in each block.
        activation: of that layer.
        dropout: share that is set to zero while training.
        causal: whether a step sees itself and those before it alone.
        real: which steps are no padding, (batch, time), or None if nobody needs to know.
        memory: what each block looks at besides, (batch, source_time, width), or None.
        memory_real: which steps of it are no padding, (batch, source_time).
        prefix: of the layers' names.
    """
    x = Positions(context, name=f"{prefix}positions")(x)  # (batch, time, width)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{prefix}dropout")(x)
    width = x.shape[-1]
    added = []  # the layers that end what is added to x
    for number in range(1, depth + 1):
        name = f"{prefix}block_{number}"
        x, attention = _attend(x, name=f"{name}_attention", heads=heads, dropout=dropout, causal=causal, real=real)
        added.append(attention.output_dense)
        if memory is not None:
            x, attention = _attend(
                x, memory, name=f"{name}_cross_attention", heads=heads, dropout=dropout, real=memory_real
            )
            added.append(attention.output_dense)
        y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_feed_forward_normalization")(x)
        y = keras.layers.Dense(feed_forward, activation, kernel_initializer=_normal(width), name=f"{name}_expand")(y)
        contract = keras.layers.Dense(width, kernel_initializer=_normal(width), name=f"{name}_contract")
        added.append(contract)
        y = contract(y)  # (batch, time, width)
        if dropout:
            y = keras.layers.Dropout(dropout, name=f"{name}_feed_forward_dropout")(y)
        x = keras.layers.Add(name=f"{name}_feed_forward_sum")([x, y])
    for layer in added:
        # Like this the variance of the sums doesn't grow with their number (GPT-2).
        layer.kernel.assign(layer.kernel / math.sqrt(len(added)))
    return keras.layers.LayerNormalization(epsilon=1e-5, name=f"{prefix}normalization")(x)


def _attend(x, memory=None, *, name: str, heads: int, dropout: float, causal: bool = False, real=None) -> tuple:
    """The sum of `x`, (batch, time, width), and its attention to itself or to `memory`; and the attention's layer."""
    width = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_normalization")(x)
    attention = keras.layers.MultiHeadAttention(
        heads, width // heads, dropout=dropout, kernel_initializer=_normal(width), name=name
    )
    # The mask is of what is looked at alone: if padding saw nothing at all, its softmax could be no number.
    y = attention(y, y if memory is None else memory, key_mask=real, use_causal_mask=causal)  # (batch, time, width)
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return keras.layers.Add(name=f"{name}_sum")([x, y]), attention


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
        places: Any = keras.ops.arange(time, dtype="int32")
        return inputs + keras.ops.take(self.table, places + start, axis=0)

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"context": self.context}


@keras.saving.register_keras_serializable(package="templates")
class RealSteps(keras.layers.Layer):
    """Tell which steps of a sequence, (batch, time) or (batch, time, features), are no padding: (batch, time) bool.

    Padding is the run of steps at the end of a sequence in which all features equal `mask_value`; such steps before it
    are real. A sequence that is all padding keeps its first step, since a mean of nothing is no number.
    """

    def __init__(self, mask_value: float, **kwargs):
        # In mixed precision small numbers would be cast to zeros, which are padding.
        super().__init__(autocast=False, **kwargs)
        self.mask_value = mask_value

    def call(self, inputs):
        """Whether a step is real."""
        other = keras.ops.not_equal(inputs, self.mask_value)
        if len(inputs.shape) == 3:
            other = keras.ops.any(other, axis=-1)  # (batch, time)
        # How many steps from here to the end are none of padding.
        remaining = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(keras.ops.cast(other, "int32"), 1), 1), 1)
        first = keras.ops.equal(keras.ops.cumsum(keras.ops.ones_like(remaining), 1), 1)
        return keras.ops.logical_or(keras.ops.greater(remaining, 0), first)

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"mask_value": self.mask_value}


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
        self.attentions = _attentions(model)
        self.context: int = model.get_layer("positions").context
        self.reader: Any = None
        self.tokens: Any = None  # (batch, time), those in the context

    def reset(self) -> None:
        """Forget all tokens; the next one begins a new sequence."""
        self.tokens = None

    def __call__(self, tokens: Any) -> np.ndarray:
        """The logits (batch, vocabulary) of what follows the last of the tokens, (batch,) or (batch, time).

        Raises:
            ValueError: if the batch is of another size than before, there is no token, or one is none of the model's.
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
            self.reader = _Remembering(self._read, shape, first.compute_dtype)
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
        weights = _weights(self.variables)
        places = np.array([first, second], np.int32)
        return self.reader.predict_on_batch((tokens, places, weights, *(x.astype(np.float32) for x in sampling)))

    def _read(self, cache, tokens, places, weights, *sampling):
        """The output and the new cache: logits, or with `sampling` tokens drawn from them and read one by one.

        Args:
            cache: keys and values of the tokens before, (depth, 2, batch, heads, context, key_dim).
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
                exact = [keras.ops.cast(x, logits.dtype) for x in (chance, settings)]
                token = keras.ops.cast(_draw(keras.ops, logits, *exact), "int32")
                token = keras.ops.expand_dims(token, 1)
                return keras.ops.slice_update(drawn, (_ZERO, number), token), cache, token

            drawn = keras.ops.zeros_like(chances, "int32")
            state: Any = keras.ops.fori_loop(0, places[1], step, (drawn, cache, tokens))
            return state[:2]

    def _attend(self, cache: Any, tokens, start, asked):
        """The logits (batch, vocabulary) after the token `asked` of (batch, time), and the new cache."""

        def keep(number, keys, values):
            nonlocal cache
            new: Any = keras.ops.stack([keys, values])
            cache = keras.ops.slice_update(cache, (np.int32(number), _ZERO, _ZERO, _ZERO, start, _ZERO), new[None])
            return cache[number, 0], cache[number, 1]

        return _read(self.model, tokens, start, asked, keep), cache


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
        ValueError: if there is no prompt or an empty one, the number of tokens or the temperature is negative, `top_k`
            smaller than 1 or `top_p` outside (0, 1].
    """
    if not len(prompts) or not all(np.ndim(prompt) == 1 and len(prompt) for prompt in prompts):
        raise ValueError("there must be a prompt, and at least one token in each: a list of lists")
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


# Translation


class Reader:
    """What `Translator` needs of an encoder with a decoder; its functions are traced inside a compiled one.

    Args:
        model: that of `encoder_decoder`; its weights are shared.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.context: int = model.get_layer("positions").context
        self.vocabulary: int = model.get_layer("source_embedding").input_dim
        outputs = [model.get_layer(f"source_{name}").output for name in ("normalization", "real_steps")]
        self.encoder = keras.Model(model.inputs[0], outputs)

    def begin(self, sources) -> Any:
        """The state before the first token of the targets of some sources, (rows, source_time).

        The state is a tree of tensors with the rows first. What a step returns as it was given is the source's.
        """
        memory, real = self.encoder(sources)  # (rows, source_time, width), (rows, source_time)
        state = {"real": real, "memory": [], "past": []}
        for own, cross in zip(_attentions(self.model), _attentions(self.model, "cross_attention"), strict=True):
            state["memory"].append(_keys_and_values(cross, memory))
            shape = (sources.shape[0], own.num_heads, self.context, own.key_dim)
            state["past"].append([keras.ops.zeros(shape, own.compute_dtype)] * 2)
        return state

    def step(self, state: Any, tokens, place) -> tuple[Any, Any]:
        """The logits (rows, target_vocabulary) of what follows the token at a place, (rows,), and the new state."""
        past = []

        def keep(number, *new):
            pairs = zip(state["past"][number], new, strict=True)
            past.append([keras.ops.slice_update(cache, (_ZERO, _ZERO, place, _ZERO), one) for cache, one in pairs])
            return past[number]

        logits = _read(self.model, tokens[:, None], place, 0, keep, state["memory"], state["real"])
        return logits, state | {"past": past}


class Translator:
    """Finds the most probable targets of sources by greedy or beam search, a whole batch in one compiled call.

    Beam search keeps so many of the most probable beginnings, lengthens each by every token and keeps the best of all
    these; what has ended stays among them as it is. Greedy search is that with a single one.

    Args:
        reader: a `Reader`, or anything else with its `begin`, `step` and `model`, such as that of `recurrent.py`.
        start: the token that a target begins with.
        end: the token that ends a target.
        mask_value: the token that fills sequences up at the end; neither it nor `start` is ever part of a result.
        longest: tokens that the longest target has, `start` and `end` not counted.

    Raises:
        ValueError: if `longest` is smaller than 1 or the model can't read so many.
    """

    def __init__(self, reader: Any, *, start: int = 1, end: int = 2, mask_value: int = 0, longest: int):
        context = getattr(reader, "context", math.inf)
        longest = _size("longest", longest)
        if not longest < context:
            raise ValueError(f"longest {longest} must be at least 1 and smaller than the context of {context}")
        self.reader = reader
        self.start, self.end, self.mask_value, self.longest = start, end, mask_value, longest
        self.variables = reader.model.variables
        self.vocabulary = getattr(reader, "vocabulary", 2**31)  # of the sources
        self.compiled: dict[tuple[int, ...], _Compiled] = {}  # by beams and the sources' shape

    def __call__(self, sources: Any, *, beams: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The most probable targets that were found, the best first, and the natural logarithms of their probabilities.

        Each shape of the sources is compiled for itself, so there should be few.

        Args:
            sources: tokens, (batch, source_time), filled up at the end.
            beams: how many are kept and returned; 1 is greedy search.

        Returns:
            tokens (batch, beams, longest) int32, without the end, filled up; log probabilities (batch, beams) of whole
            targets with their end, -inf where there are fewer targets than beams.

        Raises:
            ValueError: if `beams` is smaller than 1, or the sources are no such tokens, each in the vocabulary.
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
            before = ops.arange(batch, dtype="int32")[:, None] * beams  # rows of the sources before

            def goes_on(place, ended, *_):
                return ops.logical_and(place <= self.longest, ops.logical_not(ops.all(ended)))

            def step(place, ended, scores, tokens, last, *leaves):
                logits, state = self.reader.step(keras.tree.pack_sequence_as(first, leaves), last, place)
                chances = ops.log_softmax(ops.cast(logits, "float32"))  # (batch * beams, vocabulary)
                vocabulary = chances.shape[-1]
                known = ops.arange(vocabulary, dtype="int32")
                # Whatever is as long as it may be has to end.
                possible = ops.logical_and(known != self.start, known != self.mask_value)
                possible = ops.logical_or(ops.logical_and(possible, place < self.longest), known == self.end)
                chances = ops.reshape(ops.where(possible, chances, -math.inf), (batch, beams, vocabulary))
                filled = ops.cast(ops.where(known == self.mask_value, 0.0, -math.inf), "float32")  # costs ends nothing
                chances = scores[:, :, None] + ops.where(ended[:, :, None], filled, chances)
                scores, best = ops.top_k(ops.reshape(chances, (batch, beams * vocabulary)), beams)  # (batch, beams)
                best = ops.cast(best, "int32")
                parents, new = best // vocabulary, best % vocabulary
                new_leaves = keras.tree.flatten(state)
                if beams > 1:
                    ended = ops.take_along_axis(ended, parents, axis=1)
                    tokens = ops.take_along_axis(tokens, parents[:, :, None], axis=1)
                    rows = ops.reshape(before + parents, (-1,))
                    # What no step has changed is the source's, the same in all of its beams.
                    new_leaves = [
                        new_leaf if new_leaf is leaf else ops.take(new_leaf, rows, axis=0)
                        for leaf, new_leaf in zip(leaves, new_leaves, strict=True)
                    ]
                ended = ops.logical_or(ops.logical_or(ended, new == self.end), scores == -math.inf)
                new = ops.where(ended, self.mask_value, new)
                tokens = ops.slice_update(tokens, (_ZERO, _ZERO, place), new[:, :, None])
                return place + 1, ended, scores, tokens, ops.reshape(new, (-1,)), *new_leaves

            state = (ops.array(0, "int32"), ended, scores, tokens, last, *leaves)
            _, _, scores, tokens, *_ = ops.while_loop(goes_on, step, state)
            tokens = ops.where(scores[:, :, None] == -math.inf, self.mask_value, tokens)
            return tokens[:, :, : self.longest], scores


# What generation and translation share


def _read(model: keras.Model, tokens, start, asked, keep: Callable, memory: Any = None, real: Any = None):
    """The logits (batch, vocabulary) after the token `asked` of some tokens (batch, time) that follow `start` others.

    Args:
        model: a decoder, or one with an encoder.
        tokens: those that haven't been read yet.
        start: number of tokens that have been read.
        asked: a place among the new tokens.
        keep: a function of a block's number and of the keys and values of the new tokens, (batch, heads, time,
            key_dim); it puts them into their places and returns those of all places, (batch, heads, context, key_dim).
        memory: of each block keys and values of the source, (batch, heads, source_time, key_dim), if there is one.
        real: which steps of the source are no padding, (batch, source_time).
    """
    layer = model.get_layer
    positions = layer("positions")
    x = positions(layer("embedding")(tokens), start=start)  # (batch, time, width)
    shape: Any = keras.ops.shape(tokens)
    places = keras.ops.expand_dims(start + keras.ops.arange(shape[1], dtype="int32"), 1)  # (time, 1)
    seen: Any = keras.ops.less_equal(keras.ops.arange(positions.context, dtype="int32"), places)  # (time, context)
    for number, attention in enumerate(_attentions(model)):
        block = attention.name.removesuffix("_attention")
        y = layer(f"{attention.name}_normalization")(x)
        past = keep(number, *_keys_and_values(attention, y))
        x = x + _look(attention, y, past, seen)
        if memory is not None:
            attention = layer(f"{block}_cross_attention")
            y = layer(f"{attention.name}_normalization")(x)
            x = x + _look(attention, y, memory[number], real[:, None, None])
        y = layer(f"{block}_feed_forward_normalization")(x)
        x = x + layer(f"{block}_contract")(layer(f"{block}_expand")(y))
    x = layer("normalization")(keras.ops.take(x, asked, axis=1))  # (batch, width)
    return layer("embedding")(x, reverse=True)


def _keys_and_values(attention: Any, x) -> Any:
    """Those of some tokens (batch, time, width), each (batch, heads, time, key_dim)."""
    return [keras.ops.transpose(layer(x), (0, 2, 1, 3)) for layer in (attention.key_dense, attention.value_dense)]


def _look(attention: Any, x, past: Sequence[Any], seen):
    """What an attention's layer says of tokens (batch, time, width), from the keys and values of what they look at.

    Few tokens look at many, which is several times as fast with the heads before the time as in the layer's own order.
    """
    keys, values = past  # (batch, heads, context, key_dim)
    query: Any = keras.ops.transpose(attention.query_dense(x), (0, 2, 1, 3))  # (batch, heads, time, key_dim)
    scores = keras.ops.matmul(query / math.sqrt(attention.key_dim), keras.ops.transpose(keys, (0, 1, 3, 2)))
    weights = keras.ops.softmax(keras.ops.where(seen, keras.ops.cast(scores, "float32"), -math.inf))
    y = keras.ops.matmul(keras.ops.cast(weights, values.dtype), values)  # (batch, heads, time, key_dim)
    return attention.output_dense(keras.ops.transpose(y, (0, 2, 1, 3)))


def _attentions(model: keras.Model, kind: str = "attention") -> list[Any]:
    """The layers of one kind of attention, the first block's first: "attention" to oneself or "cross_attention"."""
    found = []
    names = {layer.name for layer in model.layers}
    while (name := f"block_{len(found) + 1}_{kind}") in names:
        found.append(model.get_layer(name))
    return found


class _Compiled(keras.Model):
    """A function of its inputs: as a model, Keras compiles it."""

    def __init__(self, function: Callable):
        super().__init__(name="compiled", dtype="float32")  # chances stay as exact as the logits
        self.function = function
        options: Any = {"jit_compile": keras.backend.backend() != "torch"}
        self.compile(**options)

    def call(self, inputs):
        """The function's output."""
        return self.function(*inputs)


class _Remembering(_Compiled):
    """A function of a cache that is kept and of what else it is called with."""

    def __init__(self, function: Callable, shape: tuple[int, ...], dtype: str):
        super().__init__(function)
        self.cache = self.add_weight(shape=shape, initializer="zeros", dtype=dtype, trainable=False, name="cache")

    def call(self, inputs):
        """The function's output."""
        output, cache = self.function(self.cache.value, *inputs)
        self.cache.assign(cache)
        return output


def _weights(variables: Sequence[Any]) -> list:
    """What a compiled function needs of a model's weights as an input: on JAX all of them, else none.

    Those that it doesn't own JAX would compile in as they are now, and if it owned them Keras would visit all layers at
    each call, which takes longer than reading a token does.
    """
    return [variable.value for variable in variables] if keras.backend.backend() == "jax" else []


# Attention to look at


def attention_maps(model: keras.Model, tokens: Any) -> list[np.ndarray]:
    """How much each token looks at each, of a decoder's sequence (time,): an array (heads, time, time) for each block.

    A row is a token that looks, and sums to 1.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not tokens.size:
        raise ValueError(f"tokens {tokens.shape} must be those of one sequence, (time,)")
    _check_tokens(tokens, model.get_layer("embedding").input_dim)
    looking = _attentions(model)
    outputs = [model.get_layer(f"{layer.name}_normalization").output for layer in looking]
    queries = keras.tree.flatten(keras.Model(model.input, outputs)(np.asarray(tokens, np.int32)[None]))
    return [_map(layer, x, x, use_causal_mask=True) for layer, x in zip(looking, queries, strict=True)]


def cross_attention_maps(model: keras.Model, source: Any, target: Any) -> list[np.ndarray]:
    """How much each token of a target (time,) looks at each of a source (source_time,), of an encoder with a decoder.

    It is an array (heads, time, source_time) for each block. A row is a token that looks, and sums to 1.
    """
    source, target = np.asarray(source), np.asarray(target)
    for what, tokens, embedding in (("source", source, "source_embedding"), ("target", target, "embedding")):
        if tokens.ndim != 1 or not tokens.size:
            raise ValueError(f"{what} {tokens.shape} must be one sequence, (time,)")
        _check_tokens(tokens, model.get_layer(embedding).input_dim)
    looking = _attentions(model, "cross_attention")
    names = [*(f"{layer.name}_normalization" for layer in looking), "source_normalization", "source_real_steps"]
    outputs = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    *queries, memory, real = outputs([np.asarray(tokens, np.int32)[None] for tokens in (source, target)])
    return [_map(layer, x, memory, key_mask=real) for layer, x in zip(looking, queries, strict=True)]


def _map(layer: Any, *inputs: Any, **options: Any) -> Any:
    _, weights = layer(*inputs, return_attention_scores=True, **options)  # (1, heads, time, time of what it looks at)
    return keras.ops.convert_to_numpy(weights[0])

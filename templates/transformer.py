"""Transformer: blocks of attention and feed-forward layers; an encoder, a decoder, and both together.

Paper: Vaswani et al. 2017; Radford et al. 2019 (GPT-2, the pre-norm decoder); Devlin et al. 2019 (BERT, the encoder)
Input: (batch, time) int, tokens; encoder: also (batch, time, features) float; encoder_decoder: source and target tokens
Output: (batch, time, vocabulary) float, logits of the token that follows each; encoder: probabilities of classes
Beside: decoding.py, which generates and translates with it and shows its attention

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
2017: one matrix for both ends.

Deviations: of the 2017 paper, places are learned instead of sines; normalisation is before instead of after, and once
more at the end of encoder and decoder; the target's embedding is tied to the output, but the source has its own, and
neither is multiplied by √width; attention has dropout too, as in the authors' program. Of GPT-2, its GELU is the tanh
approximation, here it is exact; its weights are drawn with a deviation of 0.02, here of 1 / √width, which is the same
at a width of 2,500 and lets a narrow model learn in half the steps. Of BERT, there is neither pretraining nor a token
for the class: the mean over all steps stands for the sequence.

    model = decoder(vocabulary=100, context=128)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens[:, :-1], tokens[:, 1:])

    model = encoder_decoder(source_vocabulary=30, target_vocabulary=42)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit([sources, targets[:, :-1]], targets[:, 1:])      # a target is a 1, its tokens, a 2, and zeros as padding
"""

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import keras

Head = Literal["tagging", "classification"]


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


# What a decoder needs to run step by step, with keys and values kept: see decoding.py


def step(model: keras.Model, tokens, start, asked, keep: Callable, memory: Any = None, real: Any = None):
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
    for number, attention in enumerate(attentions(model)):
        block = attention.name.removesuffix("_attention")
        y = layer(f"{attention.name}_normalization")(x)
        past = keep(number, *keys_and_values(attention, y))
        x = x + _look(attention, y, past, seen)
        if memory is not None:
            attention = layer(f"{block}_cross_attention")
            y = layer(f"{attention.name}_normalization")(x)
            x = x + _look(attention, y, memory[number], real[:, None, None])
        y = layer(f"{block}_feed_forward_normalization")(x)
        x = x + layer(f"{block}_contract")(layer(f"{block}_expand")(y))
    x = layer("normalization")(keras.ops.take(x, asked, axis=1))  # (batch, width)
    return layer("embedding")(x, reverse=True)


def keys_and_values(attention: Any, x) -> Any:
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


def attentions(model: keras.Model, kind: str = "attention") -> list[Any]:
    """The layers of one kind of attention, the first block's first: "attention" to oneself or "cross_attention"."""
    found = []
    names = {layer.name for layer in model.layers}
    while (name := f"block_{len(found) + 1}_{kind}") in names:
        found.append(model.get_layer(name))
    return found

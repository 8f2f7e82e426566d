"""Transformer: blocks of attention and feed-forward layers, as encoder, decoder or encoder–decoder.

Paper: Vaswani et al. 2017; Radford et al. 2019 (GPT-2, the pre-norm decoder); Devlin et al. 2019 (BERT, the encoder)
Input: (batch, time) int, tokens; encoder: also (batch, time, features) float; encoder_decoder: source and target tokens
Output: (batch, time, vocabulary) float, logits of the token that follows each; encoder: probabilities of classes
Parameters: encoder 869,159; decoder 822,528; encoder_decoder 943,616
Beside: decoding.py, for generation, beam search and attention maps
Loading: `import transformer` (this module), then `keras.saving.load_model("model.keras")`

In each block, a token weighs other tokens by how well their keys match its query and adds the weighted sum of their
values to its own vector (attention); then a small network processes each token separately (feed-forward). A learned
vector per position encodes where a token is. In the encoder, each token or step of numbers attends to the whole
sequence. In the decoder, a language model, a token attends to itself and to earlier tokens. In `encoder_decoder`, each
block of the decoder also attends to the output of the encoder (cross-attention).

The encoder's head "tagging" outputs (batch, time, outputs), one label per step; "classification" outputs (batch,
outputs), one label per sequence. Padding is at the end of a sequence, of any length, and has no effect.

Sources: A. Vaswani et al., "Attention is all you need", NIPS 2017. A. Radford et al., "Language models are unsupervised
multitask learners", 2019 (GPT-2): normalisation before each part of a block and once at the end, initial weights.
J. Devlin et al., "BERT: pre-training of deep bidirectional transformers for language understanding", NAACL 2019: the
encoder alone, with learned positions. O. Press and L. Wolf, "Using the output embedding to improve language models",
EACL 2017: tied embeddings.

Deviations from the 2017 paper: positions are learned, not sinusoidal. Normalisation comes before each part of a block,
and once more at the end of encoder and decoder. The target embedding is tied to the output, the source has its own
embedding, and neither is multiplied by √width. Attention has dropout, as in the authors' code. From GPT-2: it uses the
tanh approximation of GELU, here GELU is exact; its initial weights have a standard deviation of 0.02, here 1 / √width,
which is the same at a width of 2,500 and lets a narrow model learn in half the steps. From BERT: there is no
pretraining and no class token; the mean over all steps represents the sequence.

    model = decoder(vocabulary=100, context=128)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens[:, :-1], tokens[:, 1:])

    model = encoder_decoder(source_vocabulary=30, target_vocabulary=42)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit([sources, targets[:, :-1]], targets[:, 1:])      # target: 1, its tokens, 2, zeros as padding
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
    """Build an encoder, in which every step attends to all steps. Compile it with a classification loss.

    To weight the classes of steps, use `sample_weight` (batch, time): Keras reads (batch, time) labels as one-hot when
    `class_weight` is set.

    Args:
        features: number of features per step.
        vocabulary: number of tokens if each step is a token (an integer from 0) instead of features. Tokens outside the
            vocabulary raise an error on TensorFlow and give NaN on JAX; negative ones index from the end on both.
        outputs: number of classes.
        head: "tagging" predicts a label for each step; "classification" predicts one for the sequence, from the mean
            over its steps.
        context: length of the longest sequence, in steps.
        width: size of the vector that represents a step.
        depth: number of blocks.
        heads: attention heads, which divide the width between them.
        feed_forward: units of the hidden layer in each block; None for four times the width.
        activation: activation of that layer.
        dropout: dropout rate of the first block's input, the attention weights and the output of each part of a block,
            in [0, 1).
        mask_value: value of padding steps (see `RealSteps`), or None for no padding. Padding is not attended to, and
            the loss ignores it. With a vocabulary, it is a token reserved for padding.
        output_activation: activation of the head; None outputs logits.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, `heads` does not divide `width`, `head` is unknown, `mask_value` is not a
            token (or, without a vocabulary, NaN), `dropout` is outside [0, 1), or a single output has a softmax.
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
            "the softmax of a single output is always 1: use output_activation='sigmoid' with binary cross-entropy, or "
            "two outputs"
        )
    if head not in get_args(Head):
        raise ValueError(f"head {head!r} must be one of {', '.join(get_args(Head))}")

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
    """Build a decoder. Compile it with sparse categorical cross-entropy from logits; the target is the next token.

    Args:
        vocabulary: number of tokens, which are integers from 0. Tokens outside the vocabulary raise an error on
            TensorFlow and give NaN on JAX; negative ones index from the end on both.
        context: length of the longest sequence, in tokens.
        width: size of the vector that represents a token.
        depth: number of blocks.
        heads: attention heads, which divide the width between them.
        feed_forward: units of the hidden layer in each block; None for four times the width.
        activation: activation of that layer.
        dropout: dropout rate of the embedding, the attention weights and the output of each part of a block, in [0, 1).
        mask_value: token that pads sequences at the end, or None for no padding. The loss ignores it. Attention only
            looks back, so no real token attends to padding.
        output_activation: activation of the output; None outputs logits.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, `heads` does not divide `width`, `mask_value` is not a token, or `dropout`
            is outside [0, 1).
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
    """Build an encoder and a decoder that also attends to the encoder's output. Compile it like a decoder.

    Input: [source (batch, source_time), target (batch, time)]; the target begins with a start token.

    Args:
        source_vocabulary: number of source tokens, which are integers from 0.
        target_vocabulary: number of target tokens, which are integers from 0.
        source_context: length of the longest source, in tokens.
        target_context: length of the longest target, in tokens.
        width: size of the vector that represents a token.
        depth: number of blocks in the encoder, and in the decoder.
        heads: attention heads, which divide the width between them.
        feed_forward: units of the hidden layer in each block; None for four times the width.
        activation: activation of that layer.
        dropout: dropout rate of the embeddings, the attention weights and the output of each part of a block, in
            [0, 1).
        mask_value: token that pads sources and targets at the end. No real token attends to it, and the loss ignores
            it.
        output_activation: activation of the output; None outputs logits.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, `heads` does not divide `width`, `mask_value` is not a token, or `dropout`
            is outside [0, 1).
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
    """Return a size, such as a NumPy integer, as an int; raise ValueError if it is not an integer of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _blocks_sizes(width: Any, depth: Any, heads: Any, feed_forward: Any, dropout: Any) -> tuple[int, int, int, int]:
    """Return width, depth, heads and feed-forward size; raise ValueError if any of them or `dropout` is invalid."""
    width, depth, heads = _size("width", width), _size("depth", depth), _size("heads", heads)
    if width % heads:
        raise ValueError(f"{heads} heads don't divide the width {width}")
    if not isinstance(dropout, numbers.Real) or not 0 <= float(dropout) < 1:
        raise ValueError(f"dropout {dropout!r} must be at least 0 and below 1")
    return width, depth, heads, 4 * width if feed_forward is None else _size("feed_forward", feed_forward)


def _check_mask_value(mask_value: Any, tokens: int) -> None:
    if mask_value is not None and mask_value not in range(tokens):
        raise ValueError(f"mask_value {mask_value} must be one of the {tokens} tokens")


def _exact() -> str:
    """The dtype of outputs: float64 if the policy is float64, else float32, also in mixed precision."""
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
    """Add positions, blocks and a final normalisation to `x`, (batch, time, width), for encoder and decoder.

    Args:
        x: embedded tokens or projected features.
        context: length of the longest sequence, in steps.
        depth: number of blocks.
        heads: attention heads.
        feed_forward: units of the hidden layer in each block.
        activation: activation of that layer.
        dropout: dropout rate.
        causal: whether a step attends only to itself and earlier steps.
        real: which steps are not padding, (batch, time), or None if there is no mask.
        memory: output of the encoder for cross-attention, (batch, source_time, width), or None.
        memory_real: which steps of it are not padding, (batch, source_time).
        prefix: prefix of the layer names.
    """
    x = Positions(context, name=f"{prefix}positions")(x)  # (batch, time, width)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{prefix}dropout")(x)
    width = x.shape[-1]
    nonlinearity: Any = gelu if activation == "gelu" else activation
    added = []  # the last layer of each part that is added to x
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
        y = keras.layers.Dense(feed_forward, nonlinearity, kernel_initializer=_normal(width), name=f"{name}_expand")(y)
        contract = keras.layers.Dense(width, kernel_initializer=_normal(width), name=f"{name}_contract")
        added.append(contract)
        y = contract(y)  # (batch, time, width)
        if dropout:
            y = keras.layers.Dropout(dropout, name=f"{name}_feed_forward_dropout")(y)
        x = keras.layers.Add(name=f"{name}_feed_forward_sum")([x, y])
    for layer in added:
        # This scaling keeps the variance of the sum independent of the number of parts (GPT-2).
        layer.kernel.assign(layer.kernel / math.sqrt(len(added)))
    return keras.layers.LayerNormalization(epsilon=1e-5, name=f"{prefix}normalization")(x)


def _attend(x, memory=None, *, name: str, heads: int, dropout: float, causal: bool = False, real=None) -> tuple:
    """Add to `x`, (batch, time, width), its attention to itself or `memory`; return the sum and the attention layer."""
    width = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_normalization")(x)
    attention = keras.layers.MultiHeadAttention(
        heads, width // heads, dropout=dropout, kernel_initializer=_normal(width), name=name
    )
    # Only keys are masked. If padding queries had no keys at all, their softmax could be NaN.
    y = attention(y, y if memory is None else memory, key_mask=real, use_causal_mask=causal)  # (batch, time, width)
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return keras.layers.Add(name=f"{name}_sum")([x, y]), attention


@keras.saving.register_keras_serializable(package="templates")
def gelu(x):
    """Exact GELU, x Φ(x), by erf: on TensorFlow, Keras computes it by erfc, which ONNX does not have."""
    erf: Any = keras.ops.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


@keras.saving.register_keras_serializable(package="templates")
class Positions(keras.layers.Layer):
    """Adds the learned vector of its position to each token of a sequence, (batch, time, width).

    Args:
        context: number of positions.
    """

    def __init__(self, context: int, **kwargs):
        super().__init__(**kwargs)
        self.context = context
        self.supports_masking = True

    def build(self, input_shape):
        """Create the table, (context, width)."""
        width = input_shape[-1]
        self.table = self.add_weight(shape=(self.context, width), initializer=_normal(width), name="table")

    def call(self, inputs, start=0):
        """Return the sum; `start` is the position of the first token.

        Raises:
            ValueError: if the sequence is longer than the context.
        """
        shape: Any = keras.ops.shape(inputs)
        time = shape[1]
        if isinstance(time, int) and time > self.context:
            raise ValueError(f"a sequence of {time} tokens is longer than the context of {self.context}")
        positions: Any = keras.ops.arange(time, dtype="int32")
        return inputs + keras.ops.take(self.table, positions + start, axis=0)

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"context": self.context}


@keras.saving.register_keras_serializable(package="templates")
class RealSteps(keras.layers.Layer):
    """Marks the steps of a sequence, (batch, time) or (batch, time, features), that are real: (batch, time) bool.

    Padding is the run of steps at the end of a sequence whose features all equal `mask_value`; earlier steps with these
    values are real. In a sequence that is all padding, the first step counts as real, because the mean of no steps
    would be NaN.
    """

    def __init__(self, mask_value: float, **kwargs):
        # In mixed precision, autocast would round small numbers to zero, which may be the padding value.
        super().__init__(autocast=False, **kwargs)
        self.mask_value = mask_value

    def call(self, inputs):
        """Return whether each step is real."""
        other = keras.ops.not_equal(inputs, self.mask_value)
        if len(inputs.shape) == 3:
            other = keras.ops.any(other, axis=-1)  # (batch, time)
        # Number of steps from here to the end that differ from the padding value.
        remaining = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(keras.ops.cast(other, "int32"), 1), 1), 1)
        first = keras.ops.equal(keras.ops.cumsum(keras.ops.ones_like(remaining), 1), 1)
        return keras.ops.logical_or(keras.ops.greater(remaining, 0), first)

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"mask_value": self.mask_value}


@keras.saving.register_keras_serializable(package="templates")
class LossMask(keras.layers.Layer):
    """Masks the positions whose token is `mask_value` in the loss.

    Called with (outputs, tokens), of shapes (batch, time, vocabulary) and (batch, time), it returns the outputs.
    """

    def __init__(self, mask_value: int, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs):
        """Return the outputs."""
        return keras.ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        """Return whether each token is real, (batch, time) bool."""
        return keras.ops.not_equal(inputs[1], self.mask_value)

    def compute_output_shape(self, input_shape):
        """Return the shape of the outputs."""
        return input_shape[0]

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"mask_value": self.mask_value}


# Running a decoder step by step with a key-value cache, for decoding.py


def step(model: keras.Model, tokens, start, index, keep: Callable, memory: Any = None, real: Any = None):
    """Read new tokens (batch, time) after `start` earlier ones; return the logits (batch, vocabulary) after one.

    Args:
        model: a decoder or encoder–decoder.
        tokens: the new tokens.
        start: number of tokens read before.
        index: index among the new tokens of the one whose logits are returned.
        keep: function of a block's number and the keys and values of the new tokens, (batch, heads, time, key_dim). It
            stores them in the cache and returns those of all positions, (batch, heads, context, key_dim).
        memory: keys and values of the source for each block, (batch, heads, source_time, key_dim), or None.
        real: which steps of the source are not padding, (batch, source_time).
    """
    layer = model.get_layer
    positions = layer("positions")
    x = positions(layer("embedding")(tokens), start=start)  # (batch, time, width)
    shape: Any = keras.ops.shape(tokens)
    queries = keras.ops.expand_dims(start + keras.ops.arange(shape[1], dtype="int32"), 1)  # positions, (time, 1)
    seen: Any = keras.ops.less_equal(keras.ops.arange(positions.context, dtype="int32"), queries)  # (time, context)
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
    x = layer("normalization")(keras.ops.take(x, index, axis=1))  # (batch, width)
    return layer("embedding")(x, reverse=True)


def keys_and_values(attention: Any, x) -> Any:
    """Return keys and values of tokens (batch, time, width), each (batch, heads, time, key_dim)."""
    return [keras.ops.transpose(layer(x), (0, 2, 1, 3)) for layer in (attention.key_dense, attention.value_dense)]


def _look(attention: Any, x, past: Sequence[Any], seen):
    """Return the output of an attention layer for tokens (batch, time, width) and the keys and values they attend to.

    For few queries and many keys, axes with the heads before the time are several times as fast as the layer's own
    order.
    """
    keys, values = past  # (batch, heads, context, key_dim)
    query: Any = keras.ops.transpose(attention.query_dense(x), (0, 2, 1, 3))  # (batch, heads, time, key_dim)
    scores = keras.ops.matmul(query / math.sqrt(attention.key_dim), keras.ops.transpose(keys, (0, 1, 3, 2)))
    weights = keras.ops.softmax(keras.ops.where(seen, keras.ops.cast(scores, "float32"), -math.inf))
    y = keras.ops.matmul(keras.ops.cast(weights, values.dtype), values)  # (batch, heads, time, key_dim)
    return attention.output_dense(keras.ops.transpose(y, (0, 2, 1, 3)))


def attentions(model: keras.Model, kind: str = "attention") -> list[Any]:
    """Return the attention layers of one kind, "attention" or "cross_attention", from the first block to the last."""
    layers = []
    names = {layer.name for layer in model.layers}
    while (name := f"block_{len(layers) + 1}_{kind}") in names:
        layers.append(model.get_layer(name))
    return layers

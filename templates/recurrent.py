"""Recurrent networks: simple recurrent, LSTM and GRU layers, in one direction or both, any number of them deep.

Paper: Hochreiter & Schmidhuber 1997 (LSTM); Cho et al. 2014 (GRU); Schuster & Paliwal 1997 (bidirectional)
Input: (batch, time, features) float, padded at the end; or (batch, time) int, tokens; encoder–decoder: two of these
Output: (batch, time, outputs) float, probabilities at each step; (batch, outputs) from the classification head
Beside: decoding.py, which generates with a `Stream` and translates with an encoder–decoder

A recurrent layer reads a sequence step by step and carries a state along; two of them, one in each direction, see all
of the sequence from every step. Heads: "tagging", a label a step; "classification", a label a sequence; "next_token",
the distribution of the token that follows each step. An encoder–decoder turns one sequence into another: one network
reads the source, a second one begins with what the first knows at its end and writes the target.

Sources: J. Elman, "Finding structure in time", Cognitive Science 14, 1990. S. Hochreiter and J. Schmidhuber, "Long
short-term memory", Neural Computation 9, 1997, with the forget gate of F. Gers, J. Schmidhuber and F. Cummins,
"Learning to forget", Neural Computation 12, 2000. K. Cho et al., "Learning phrase representations using RNN
encoder–decoder", EMNLP 2014. M. Schuster and K. Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions
on Signal Processing 45, 1997. A. Graves and J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM",
Neural Networks 18, 2005. Y. Gal and Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural
networks", NIPS 2016: one dropout mask for all steps of a sequence. J. Ba, J. Kiros and G. Hinton, "Layer
normalization", 2016. I. Sutskever, O. Vinyals and Q. Le, "Sequence to sequence learning with neural networks", NIPS
2014. M.-T. Luong, H. Pham and C. Manning, "Effective approaches to attention-based neural machine translation", EMNLP
2015: global attention, the score a dot product.

Deviations: the LSTM has no peepholes, which Graves & Schmidhuber had; the GRU applies the reset gate after the matrix
product, as cuDNN does; layer normalisation follows each layer instead of sitting inside its cell, which keeps the GPU
kernels; of a deep network both directions meet after each layer. The encoder reads the source in both directions
instead of reversed; what the attention found is not fed to the decoder's next step, so that training has all at once.

    model = lstm(features=40, outputs=39, units=(128, 128), bidirectional=True)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(x, labels)                      # x (batch, time, 40), rows of zeros at the end are padding
    stream = Stream(lstm(features=40, outputs=39))
    probabilities = stream(step)              # step (batch, 40), the state is kept for the next one
    translator = lstm_encoder_decoder(source_vocabulary=30, target_vocabulary=42)
    translator.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    translator.fit([source, target[:, :-1]], target[:, 1:])      # tokens; the target has a start and an end
"""

import operator
import types
from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

Head = Literal["tagging", "classification", "next_token"]


def simple_rnn(
    *,
    features: int = 40,
    vocabulary: int | None = None,
    embedding_size: int = 64,
    outputs: int = 39,
    head: Head = "tagging",
    units: Sequence[int] = (128,),
    bidirectional: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
    activation: str = "tanh",
    output_activation: str | None = "softmax",
    mask_value: float | None = 0.0,
    name: str = "simple_rnn",
) -> keras.Model:
    """Build a network of simple recurrent layers (Elman 1990); the arguments are those of `lstm`."""
    return _network(keras.layers.SimpleRNN, **locals())


def lstm(
    *,
    features: int = 40,
    vocabulary: int | None = None,
    embedding_size: int = 64,
    outputs: int = 39,
    head: Head = "tagging",
    units: Sequence[int] = (128,),
    bidirectional: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    output_activation: str | None = "softmax",
    mask_value: float | None = 0.0,
    name: str = "lstm",
) -> keras.Model:
    """Build a network of LSTM layers; compile it with a classification loss.

    Weigh the classes of steps by `sample_weight`, (batch, time): for Keras's `class_weight` such labels are one-hot.

    Args:
        features: numbers in a step.
        vocabulary: number of tokens, where a step is one token (an integer from 0) instead of numbers. Other tokens are
            an error on TensorFlow, no number on JAX; negative ones count from the end on both.
        embedding_size: numbers that stand for a token.
        outputs: classes of a step or a sequence; the head "next_token" has one for each token instead.
        head: what is predicted: a label for each step, a label for the sequence, or the token after each step.
        units: of each layer, the lowest first; with `bidirectional` each direction has as many.
        bidirectional: whether each layer reads the sequence in both directions.
        dropout: share of a layer's input that is set to zero while training, the same at all steps.
        recurrent_dropout: share of a layer's state that is set to zero while training, the same at all steps; the
            fast GPU kernels can't be used then.
        layer_normalization: whether each layer's output is normalised.
        activation: of the cell; the fast GPU kernels know only "tanh".
        recurrent_activation: of the gates; the fast GPU kernels know only "sigmoid".
        output_activation: of the head; None gives logits.
        mask_value: what padding is filled with (see `PaddingMask`), or None if there is none. With a vocabulary it is
            a token of its own.
        name: of the model.

    Raises:
        ValueError: if there is no layer, a size is smaller than 1, the head is unknown, it is "next_token" without a
            vocabulary or in both directions, `mask_value` isn't a token, or there is a softmax of a single output.
    """
    return _network(LSTM, **locals())


def gru(
    *,
    features: int = 40,
    vocabulary: int | None = None,
    embedding_size: int = 64,
    outputs: int = 39,
    head: Head = "tagging",
    units: Sequence[int] = (128,),
    bidirectional: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    output_activation: str | None = "softmax",
    mask_value: float | None = 0.0,
    name: str = "gru",
) -> keras.Model:
    """Build a network of GRU layers; the arguments are those of `lstm`."""
    return _network(keras.layers.GRU, **locals())


def lstm_encoder_decoder(
    *,
    source_vocabulary: int = 30,
    target_vocabulary: int = 42,
    embedding_size: int = 64,
    units: int = 256,
    depth: int = 1,
    dropout: float = 0.0,
    mask_value: int = 0,
    output_activation: str | None = None,
    name: str = "lstm_encoder_decoder",
) -> keras.Model:
    """Build an encoder–decoder with attention; compile it with a sparse categorical cross-entropy from logits.

    Input: [source, target], (batch, source_time) and (batch, time) int, both padded at the end. Output: (batch, time,
    target_vocabulary), logits of the target token that follows each.

    Args:
        source_vocabulary: number of source tokens, which are integers from 0.
        target_vocabulary: number of target tokens.
        embedding_size: numbers that stand for a token.
        units: of each decoder layer; the encoder's have half as many in each direction, and begin it with both.
        depth: layers of the encoder, and of the decoder.
        dropout: share that is set to zero while training, of each layer's input, the same at all steps, and of what the
            output is computed from.
        mask_value: the token of padding, in both (see `PaddingMask`). The loss leaves it out.
        output_activation: of the output; None gives logits.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1, the units are odd, or `mask_value` isn't a token of both.
    """
    source_vocabulary = _size("source_vocabulary", source_vocabulary)
    target_vocabulary = _size("target_vocabulary", target_vocabulary)
    embedding_size, depth = _size("embedding_size", embedding_size), _size("depth", depth)
    units = _size("units", units)
    if units % 2:
        raise ValueError(f"units {units} must be even: the encoder's two directions have half of them each")
    if mask_value not in range(min(source_vocabulary, target_vocabulary)):
        raise ValueError(
            f"mask_value {mask_value} is not among the {source_vocabulary} source and {target_vocabulary} target tokens"
        )

    source = keras.Input((None,), dtype="int32", name="source")  # (batch, source_time)
    target = keras.Input((None,), dtype="int32", name="target")  # (batch, time)
    encoded = keras.layers.Embedding(source_vocabulary, embedding_size, name="source_embedding")(source)
    encoded = PaddingMask(mask_value, name="source_mask")([encoded, source])  # (batch, source_time, embedding)
    x = keras.layers.Embedding(target_vocabulary, embedding_size, name="target_embedding")(target)
    for number in range(1, depth + 1):
        half = LSTM(units // 2, return_sequences=True, return_state=True, dropout=dropout, name="lstm")
        encoder = keras.layers.Bidirectional(half, name=f"encoder_{number}")
        encoded, *ends = encoder(encoded)  # (batch, source_time, units), and what each direction ends with
        start = [
            keras.layers.Concatenate(name=f"encoder_{number}_{kind}")(pair)  # (batch, units)
            for kind, pair in (("output", ends[::2]), ("carry", ends[1::2]))
        ]
        # The target's padding comes last, so that no real step ever sees it: no mask is needed here.
        x = LSTM(units, return_sequences=True, dropout=dropout, name=f"decoder_{number}")(x, initial_state=start)
    context = keras.layers.Attention(name="attention")([x, encoded])  # (batch, time, units)
    x = keras.layers.Concatenate(name="context_and_output")([context, x])
    x = keras.layers.Dense(units, "tanh", use_bias=False, name="combination")(x)  # (batch, time, units)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    exact = _exact()
    output = keras.layers.Dense(target_vocabulary, output_activation, dtype=exact, name="output")(x)
    output = PaddingMask(mask_value, dtype=exact, name="loss_mask")([output, target])  # (batch, time, vocabulary)
    return keras.Model([source, target], output, name=name)


def _network(
    layer: Any,
    *,
    features: int,
    vocabulary: int | None,
    embedding_size: int,
    outputs: int,
    head: Head,
    units: Sequence[int],
    bidirectional: bool,
    layer_normalization: bool,
    output_activation: str | None,
    mask_value: float | None,
    name: str,
    **cell: Any,
) -> keras.Model:
    features, embedding_size = _size("features", features), _size("embedding_size", embedding_size)
    outputs, units = _size("outputs", outputs), _sizes("units", units)
    vocabulary = None if vocabulary is None else _size("vocabulary", vocabulary)
    possible = mask_value == mask_value if vocabulary is None else mask_value in (None, *range(vocabulary))
    if not possible:
        tokens = f"one of the {vocabulary} tokens" if vocabulary else "a number"
        raise ValueError(f"mask_value {mask_value} must be {tokens}")
    if head not in get_args(Head):
        raise ValueError(f"head {head!r} is none of {', '.join(get_args(Head))}")
    if head == "next_token" and (vocabulary is None or bidirectional):
        raise ValueError("the head 'next_token' needs a vocabulary and must not see the future: bidirectional=False")

    if head == "next_token" and vocabulary is not None:
        outputs = vocabulary
    if outputs == 1 and output_activation == "softmax":
        raise ValueError(
            "the softmax of a single output is always 1: for yes or no take output_activation='sigmoid' and a binary "
            "cross-entropy, or two outputs"
        )

    if vocabulary is None:
        sequence = keras.Input((None, features), name="sequence")  # (batch, time, features)
        x = sequence
    else:
        sequence = keras.Input((None,), dtype="int32", name="sequence")  # (batch, time)
        x = keras.layers.Embedding(vocabulary, embedding_size, name="embedding")(sequence)  # (batch, time, embedding)
    if mask_value is not None:
        x = PaddingMask(mask_value, name="padding_mask")([x, sequence])
    for number, size in enumerate(units, 1):
        every_step = number < len(units) or head != "classification"
        recurrent = layer(size, return_sequences=every_step, name=f"recurrent_{number}", **cell)
        if bidirectional:
            recurrent = keras.layers.Bidirectional(recurrent, name=f"bidirectional_{number}")
        x = recurrent(x)  # (batch, time, units), twice the units of a bidirectional one
        if layer_normalization:
            x = keras.layers.LayerNormalization(name=f"normalization_{number}")(x)
    output = keras.layers.Dense(outputs, output_activation, dtype=_exact(), name="output")(x)  # (batch, time, outputs)
    return keras.Model(sequence, output, name=name)


def _size(name: str, size: Any) -> int:
    """A size as Python's own whole number, of NumPy's too; refused if it is none of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """One or several sizes, of a list or an array too."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    if not len(sizes):
        raise ValueError(f"{name} () must not be empty, and all of them must be at least 1")
    return tuple(_size(name, size) for size in sizes)


def _check_tokens(tokens: np.ndarray, vocabulary: int) -> None:
    """Refuse tokens that a vocabulary lacks: not all backends do, and some count negative ones from its end."""
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise ValueError(f"tokens must be whole numbers, not {tokens.dtype}")
    if (unknown := tokens[(tokens < 0) | (tokens >= vocabulary)]).size:
        raise ValueError(f"token {unknown[0]} is none of the vocabulary's, 0 to {vocabulary - 1}")


def _exact() -> str:
    """What outputs are computed in: float32 in mixed precision too, or float64 if that is the policy."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable(package="templates")
class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` that on TensorFlow without a GPU multiplies the inputs of all steps with the kernel at once.

    That is faster, and the result is the same up to rounding; what is left to the steps is the recurrent kernel.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """All steps: the last output (batch, units), the outputs (batch, time, units) and the states."""
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if not on_tensorflow or keras.distribution.list_devices("gpu") or self.recurrent_dropout or not self.use_bias:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        cell: Any = self.cell
        mask = mask[0] if isinstance(mask, list) else mask
        if training and self.dropout:
            sequences = sequences * keras.ops.expand_dims(cell.get_dropout_mask(sequences[:, 0]), 1)
        inputs = keras.ops.add(keras.ops.matmul(sequences, cell.kernel), cell.bias)  # (batch, time, 4 * units)

        def step(inputs, states):
            output, carry = states  # (batch, units)
            gates = inputs + keras.ops.matmul(output, cell.recurrent_kernel)
            parts: Any = keras.ops.split(gates, 4, axis=-1)
            enter, forget, leave = (cell.recurrent_activation(parts[i]) for i in (0, 1, 3))
            carry = forget * carry + enter * cell.activation(parts[2])
            output = leave * cell.activation(carry)
            return output, [output, carry]

        names = ("stateful", "go_backwards", "unroll", "zero_output_for_mask", "return_sequences")
        loop: Any = types.SimpleNamespace(cell=step, **{name: getattr(self, name) for name in names})
        return keras.layers.RNN.inner_loop(loop, inputs, initial_state, mask)


@keras.saving.register_keras_serializable(package="templates")
class PaddingMask(keras.layers.Layer):
    """Hide the padding at the end of each sequence from the layers above.

    Called with the pair (values, sequence), it returns the values. Padding is the run of steps at the end of a sequence
    in which all features equal `mask_value`; such steps before it are real. A sequence that is all padding keeps its
    first step, since the GPU kernels refuse an empty one.
    """

    def __init__(self, mask_value: float = 0.0, **kwargs):
        # In mixed precision small numbers would be cast to zeros, which are padding.
        super().__init__(autocast=False, **kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs):
        """The values, (batch, time, features)."""
        return keras.ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        """Whether a step is real: (batch, time) bool."""
        sequence = inputs[1]
        other = keras.ops.not_equal(sequence, self.mask_value)  # (batch, time) or (batch, time, features)
        if len(sequence.shape) == 3:
            other = keras.ops.any(other, axis=-1)  # (batch, time)
        # How many steps from here to the end are none of padding.
        remaining = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(keras.ops.cast(other, "int32"), 1), 1), 1)
        first = keras.ops.equal(keras.ops.cumsum(keras.ops.ones_like(remaining), 1), 1)
        return keras.ops.logical_or(keras.ops.greater(remaining, 0), first)

    def compute_output_shape(self, input_shape):
        """That of the values."""
        return input_shape[0]

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"mask_value": self.mask_value}


def tagger(model: keras.Model, *, names: Sequence[str], metadata: dict | None = None) -> keras.Model:
    """Wrap a trained network with the names of its tags, to be saved whole.

    Output: a dictionary with "probability" (batch, time, outputs) and "tag" (batch, time) int32, an index into `names`.

    Args:
        model: of this file, with the head "tagging".
        names: of the outputs, in order.
        metadata: anything JSON can hold that must travel with the model, such as how its inputs are scaled; read it
            back as `model.get_layer("tags").metadata`.

    Raises:
        ValueError: if there is not one name for each output, or a single output, of which no tag is the most probable.
    """
    if isinstance(names, str):
        raise ValueError(f"names {names!r} must be a list")
    if model.output_shape[-1] == 1:
        raise ValueError(f"{model.name} has a single output: there is nothing to choose a tag from")
    if len(names) != model.output_shape[-1]:
        raise ValueError(f"{len(names)} names for {model.output_shape[-1]} outputs")
    tags = Tags(names=names, metadata=metadata, dtype=_exact(), name="tags")(model.output)
    return keras.Model(model.input, tags, name=f"{model.name}_tagger")


@keras.saving.register_keras_serializable(package="templates")
class Tags(keras.layers.Layer):
    """Probability and most probable tag from probabilities (batch, time, outputs); see `tagger`."""

    def __init__(self, *, names: Sequence[str], metadata: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        self.names = list(names)
        self.metadata = metadata or {}
        self.supports_masking = True

    def call(self, inputs):
        """Both, by name."""
        return {"probability": inputs, "tag": keras.ops.argmax(inputs, axis=-1)}

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"names": self.names, "metadata": self.metadata}


def streaming(model: keras.Model) -> keras.Model:
    """The network of a single step, which shares the weights of `model` and takes and returns the states.

    Input: [step, *states], step (batch, features) or (batch,) of tokens, each state (batch, units); zeros to begin
    with. Output: [output, *states], output (batch, outputs): what `model` says at this step. There is no padding.

    Args:
        model: of this file, in one direction.

    Raises:
        ValueError: if the model reads in both directions, so that its output waits for the end of the sequence, or
            reads two sequences.
    """
    if len(model.inputs) != 1:
        raise ValueError(f"{model.name} reads {len(model.inputs)} sequences; see `LSTMReader` in decoding.py")
    step = keras.Input(model.input_shape[2:], dtype=model.inputs[0].dtype, name="step")
    x = step
    before, after = [], []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            raise ValueError(f"{model.name} reads in both directions, so it can't answer before the sequence ends")
        if isinstance(layer, keras.layers.RNN):
            layer.cell.name = f"{layer.name}_cell"  # Keras gives the cells of all layers the same one
            sizes = keras.tree.flatten(layer.cell.state_size)
            states = [keras.Input((size,), name=f"{layer.name}_state_{i}") for i, size in enumerate(sizes, 1)]
            x, new_states = layer.cell(x, states)  # (batch, units)
            before += states
            after += keras.tree.flatten(new_states)
        elif not isinstance(layer, keras.layers.InputLayer | PaddingMask):
            x = layer(x)
    return keras.Model([step, *before], [x, *after], name=f"{model.name}_step")


class Stream:
    """Answers step by step and remembers: `stream(step)` is what the model says after all steps so far.

    Each step is one call of a compiled function.

    Args:
        model: of this file, in one direction; its weights are shared.
    """

    def __init__(self, model: keras.Model):
        self.model: Any = streaming(model)
        self.model.compile(jit_compile=keras.backend.backend() != "torch")
        self.states: list[np.ndarray] = []
        embeddings = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Embedding)]
        self.vocabulary: int | None = embeddings[0].input_dim if embeddings else None

    def reset(self) -> None:
        """Forget all steps; the next one begins a new sequence."""
        self.states = []

    def __call__(self, steps: Any) -> np.ndarray:
        """The output (batch, outputs) at a step, (batch, features) or (batch,) of tokens, or at the last of several.

        Several are (batch, time, features) or (batch, time).

        Raises:
            ValueError: if the batch is of another size than at the step before, there is no step or one of another
                size, or a token is outside the vocabulary.
        """
        steps = np.asarray(keras.ops.convert_to_numpy(steps))
        if self.vocabulary is not None:
            _check_tokens(steps, self.vocabulary)
        shape = tuple(self.model.inputs[0].shape)  # (batch, ...)
        several = steps.ndim - len(shape)
        if several not in (0, 1) or steps.shape[several + 1 :] != shape[1:] or not steps.size:
            raise ValueError(f"steps {steps.shape} must be (batch, time, ...) or one of them, each {shape[1:]}")
        steps = steps.astype(self.model.inputs[0].dtype)
        steps = steps if several else steps[:, None]  # (batch, time, ...)
        if not self.states:
            self.states = [np.zeros((len(steps), state.shape[1]), state.dtype) for state in self.model.inputs[1:]]
        if len(steps) != len(self.states[0]):
            raise ValueError(f"{len(steps)} sequences after {len(self.states[0])}; reset() begins new ones")
        output = np.empty(0)
        for step in np.moveaxis(steps, 1, 0):
            output, *self.states = self.model.predict_on_batch([step, *self.states])
        return output

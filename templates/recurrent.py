"""Recurrent networks: simple recurrent, LSTM and GRU layers, unidirectional or bidirectional, of any depth.

Paper: Hochreiter & Schmidhuber 1997 (LSTM); Cho et al. 2014 (GRU); Schuster & Paliwal 1997 (bidirectional)
Input: (batch, time, features) float, padded at the end; or (batch, time) int, tokens; encoder–decoder: two of these
Output: (batch, time, outputs) float, probabilities at each step; (batch, outputs) from the classification head
Parameters: simple_rnn 26,663; lstm 91,559; gru 70,311; lstm_encoder_decoder 672,810
Beside: decoding.py, which generates from a `Stream` and runs beam search with an encoder–decoder
Loading: `import recurrent` (this module), then `keras.saving.load_model("model.keras")`

A recurrent layer reads a sequence step by step and updates a state. In a bidirectional layer, two of them read in
opposite directions, so that the output at each step depends on the whole sequence. Heads: "tagging" predicts a label
for each step, "classification" one for the sequence, "next_token" the distribution of the next token at each step. An
encoder–decoder maps one sequence to another: one network reads the source; a second one starts from its final states
and generates the target.

Sources: J. Elman, "Finding structure in time", Cognitive Science 14, 1990. S. Hochreiter and J. Schmidhuber, "Long
short-term memory", Neural Computation 9, 1997, with the forget gate of F. Gers, J. Schmidhuber and F. Cummins,
"Learning to forget", Neural Computation 12, 2000. K. Cho et al., "Learning phrase representations using RNN
encoder–decoder", EMNLP 2014. M. Schuster and K. Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions
on Signal Processing 45, 1997. A. Graves and J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM",
Neural Networks 18, 2005. Y. Gal and Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural
networks", NIPS 2016: one dropout mask for all steps of a sequence. J. Ba, J. Kiros and G. Hinton, "Layer
normalization", 2016. I. Sutskever, O. Vinyals and Q. Le, "Sequence to sequence learning with neural networks", NIPS
2014. M.-T. Luong, H. Pham and C. Manning, "Effective approaches to attention-based neural machine translation", EMNLP
2015: global attention with dot-product scores.

Deviations: the LSTM has no peepholes; that of Graves & Schmidhuber has. The GRU applies the reset gate after the matrix
product, as cuDNN does. Layer normalisation follows each layer instead of being inside the cell, so that the fast GPU
kernels can be used. In a deep bidirectional network, both directions are concatenated after each layer. The encoder
reads the source in both directions instead of reversed. The attention output is not fed to the decoder's next step, so
that training can process all steps at once.

    model = lstm(features=40, outputs=39, units=(128, 128), bidirectional=True)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(x, labels)                      # x (batch, time, 40), rows of zeros at the end are padding
    stream = Stream(lstm(features=40, outputs=39))
    probabilities = stream(step)              # step (batch, 40); the state is kept for the next step
    translator = lstm_encoder_decoder(source_vocabulary=30, target_vocabulary=42)
    translator.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    translator.fit([source, target[:, :-1]], target[:, 1:])      # tokens; targets have a start and an end token
"""

import math
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
    """Build a network of simple recurrent layers (Elman 1990); for the arguments see `lstm`."""
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
    """Build a network of LSTM layers. Compile it with a classification loss.

    To weight the classes of steps, use `sample_weight` (batch, time): Keras reads (batch, time) labels as one-hot when
    `class_weight` is set.

    Args:
        features: number of features per step.
        vocabulary: number of tokens if each step is a token (an integer from 0) instead of features. Tokens outside the
            vocabulary raise an error on TensorFlow and give NaN on JAX; negative ones index from the end on both.
        embedding_size: size of the vector that represents a token.
        outputs: number of classes; the head "next_token" has one output per token instead.
        head: "tagging" predicts a label for each step, "classification" one for the sequence, "next_token" the token
            that follows each step.
        units: units of each layer, from the lowest to the top; with `bidirectional`, units per direction.
        bidirectional: whether each layer reads the sequence in both directions.
        dropout: dropout rate of each layer's input; all steps of a sequence share one mask.
        recurrent_dropout: dropout rate of each layer's state; all steps share one mask. Disables the fast GPU kernels.
        layer_normalization: whether to normalise each layer's output.
        activation: activation of the cell; the fast GPU kernels support only "tanh".
        recurrent_activation: activation of the gates; the fast GPU kernels support only "sigmoid".
        output_activation: activation of the head; None outputs logits.
        mask_value: value of padding steps (see `PaddingMask`), or None for no padding. With a vocabulary, it is a token
            reserved for padding.
        name: model name.

    Raises:
        ValueError: if `units` is empty, a size is less than 1, `head` is unknown, `head` is "next_token" without a
            vocabulary or in a bidirectional network, `mask_value` is not a token (or, without a vocabulary, NaN), or a
            single output has a softmax.
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
    """Build a network of GRU layers; for the arguments see `lstm`."""
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
    """Build an encoder–decoder with attention. Compile it with sparse categorical cross-entropy from logits.

    Input: [source, target], (batch, source_time) and (batch, time) int, both padded at the end. Output: (batch, time,
    target_vocabulary), logits of the next target token.

    Args:
        source_vocabulary: number of source tokens, which are integers from 0.
        target_vocabulary: number of target tokens, which are integers from 0.
        embedding_size: size of the vector that represents a token.
        units: units of each decoder layer, even. Each encoder layer has half as many per direction; the final states of
            both directions initialise the decoder layer.
        depth: number of layers in the encoder, and in the decoder.
        dropout: dropout rate of each layer's input, with one mask for all steps, and of the input of the output layer.
        mask_value: padding token of source and target (see `PaddingMask`). The loss ignores it.
        output_activation: activation of the output; None outputs logits.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, `units` is odd, or `mask_value` is not a token of both vocabularies.
    """
    source_vocabulary = _size("source_vocabulary", source_vocabulary)
    target_vocabulary = _size("target_vocabulary", target_vocabulary)
    embedding_size, depth = _size("embedding_size", embedding_size), _size("depth", depth)
    units = _size("units", units)
    if units % 2:
        raise ValueError(f"units {units} must be even: each direction of the encoder has half of them")
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
        encoded, *ends = encoder(encoded)  # (batch, source_time, units), and the final states of each direction
        start = [
            keras.layers.Concatenate(name=f"encoder_{number}_{kind}")(pair)  # (batch, units)
            for kind, pair in (("output", ends[::2]), ("carry", ends[1::2]))
        ]
        # The target is padded at the end, so no real step reads padding and no mask is needed here.
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
        raise ValueError(f"head {head!r} must be one of {', '.join(get_args(Head))}")
    if head == "next_token" and (vocabulary is None or bidirectional):
        raise ValueError("the head 'next_token' needs a vocabulary and must not see future steps: bidirectional=False")

    if head == "next_token" and vocabulary is not None:
        outputs = vocabulary
    if outputs == 1 and output_activation == "softmax":
        raise ValueError(
            "the softmax of a single output is always 1: use output_activation='sigmoid' with binary cross-entropy, or "
            "two outputs"
        )

    if cell["activation"] == "gelu":
        cell["activation"] = gelu
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
        x = recurrent(x)  # (batch, time, units), or (batch, time, 2 × units) if bidirectional
        if layer_normalization:
            x = keras.layers.LayerNormalization(name=f"normalization_{number}")(x)
    output = keras.layers.Dense(outputs, output_activation, dtype=_exact(), name="output")(x)  # (batch, time, outputs)
    return keras.Model(sequence, output, name=name)


def _size(name: str, size: Any) -> int:
    """Return a size, such as a NumPy integer, as an int; raise ValueError if it is not an integer of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """Return a non-empty sequence or array of sizes as a tuple of ints."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    if not len(sizes):
        raise ValueError(f"{name} () must not be empty, and each must be at least 1")
    return tuple(_size(name, size) for size in sizes)


def _check_tokens(tokens: np.ndarray, vocabulary: int) -> None:
    """Raise ValueError for tokens outside the vocabulary, which some backends accept or index from its end."""
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise ValueError(f"tokens must be whole numbers, not {tokens.dtype}")
    if (unknown := tokens[(tokens < 0) | (tokens >= vocabulary)]).size:
        raise ValueError(f"token {unknown[0]} is outside the vocabulary, 0 to {vocabulary - 1}")


def _exact() -> str:
    """The dtype of outputs: float64 if the policy is float64, else float32, also in mixed precision."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable(package="templates")
def gelu(x):
    """Exact GELU, x Φ(x), by erf: on TensorFlow, Keras computes it by erfc, which ONNX does not have."""
    erf: Any = keras.ops.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


@keras.saving.register_keras_serializable(package="templates")
class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` that, on TensorFlow without a GPU, multiplies the inputs of all steps by the kernel at once.

    This is faster, and the result is the same up to rounding. Only the recurrent kernel is applied step by step. Keras'
    own layer, and the GRU and simple layers here, multiply by both kernels in each step of the loop. Weights and
    configuration are those of Keras' layer.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run all steps; return the last output (batch, units), the outputs (batch, time, units) and the states."""
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
            input_gate, forget_gate, output_gate = (cell.recurrent_activation(parts[i]) for i in (0, 1, 3))
            carry = forget_gate * carry + input_gate * cell.activation(parts[2])
            output = output_gate * cell.activation(carry)
            return output, [output, carry]

        names = ("stateful", "go_backwards", "unroll", "zero_output_for_mask", "return_sequences")
        loop: Any = types.SimpleNamespace(cell=step, **{name: getattr(self, name) for name in names})
        return keras.layers.RNN.inner_loop(loop, inputs, initial_state, mask)


@keras.saving.register_keras_serializable(package="templates")
class PaddingMask(keras.layers.Layer):
    """Masks the padding at the end of each sequence for the layers above.

    Called with (values, sequence), it returns the values. Padding is the run of steps at the end of a sequence whose
    features all equal `mask_value`; earlier steps with these values are real. In a sequence that is all padding, the
    first step counts as real, because the GPU kernels reject empty sequences.
    """

    def __init__(self, mask_value: float = 0.0, **kwargs):
        # In mixed precision, autocast would round small numbers to zero, which may be the padding value.
        super().__init__(autocast=False, **kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs):
        """Return the values, (batch, time, features)."""
        return keras.ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        """Return whether each step is real, (batch, time) bool."""
        sequence = inputs[1]
        other = keras.ops.not_equal(sequence, self.mask_value)  # (batch, time) or (batch, time, features)
        if len(sequence.shape) == 3:
            other = keras.ops.any(other, axis=-1)  # (batch, time)
        # Number of steps from here to the end that differ from the padding value.
        remaining = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(keras.ops.cast(other, "int32"), 1), 1), 1)
        first = keras.ops.equal(keras.ops.cumsum(keras.ops.ones_like(remaining), 1), 1)
        return keras.ops.logical_or(keras.ops.greater(remaining, 0), first)

    def compute_output_shape(self, input_shape):
        """Return the shape of the values."""
        return input_shape[0]

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"mask_value": self.mask_value}


def tagger(model: keras.Model, *, names: Sequence[str], metadata: dict | None = None) -> keras.Model:
    """Wrap a trained network and the names of its tags in a model that can be saved as one file.

    Output: a dictionary with "probability" (batch, time, outputs) and "tag" (batch, time) int32, an index into `names`.

    Args:
        model: a network with the head "tagging".
        names: name of each output, in order.
        metadata: JSON-serialisable data to store in the model, such as how its inputs are scaled; read it back with
            `model.get_layer("tags").metadata`.

    Raises:
        ValueError: if `names` does not have one name per output, or the model has a single output.
    """
    if isinstance(names, str):
        raise ValueError(f"names {names!r} must be a list")
    if model.output_shape[-1] == 1:
        raise ValueError(f"{model.name} has a single output: a tagger needs at least two")
    if len(names) != model.output_shape[-1]:
        raise ValueError(f"{len(names)} names for {model.output_shape[-1]} outputs")
    tags = Tags(names=names, metadata=metadata, dtype=_exact(), name="tags")(model.output)
    return keras.Model(model.input, tags, name=f"{model.name}_tagger")


@keras.saving.register_keras_serializable(package="templates")
class Tags(keras.layers.Layer):
    """Adds the most probable tag to probabilities (batch, time, outputs); see `tagger`."""

    def __init__(self, *, names: Sequence[str], metadata: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        self.names = list(names)
        self.metadata = metadata or {}
        self.supports_masking = True

    def call(self, inputs):
        """Return probabilities and tags by name."""
        # On TensorFlow, argmax of floats becomes Bitcast, which ONNX does not have.
        places: Any = keras.ops.top_k(inputs, 1)
        tag: Any = keras.ops.cast(places[1], "int32")
        return {"probability": inputs, "tag": tag[..., 0]}

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"names": self.names, "metadata": self.metadata}


def streaming(model: keras.Model) -> keras.Model:
    """Build the network of a single step, which shares the weights of `model` and reads and returns its states.

    Input: [step, *states]; step is (batch, features) or, for tokens, (batch,); each state is (batch, units), initially
    zeros. Output: [output, *states]; output is the output of `model` at this step, (batch, outputs). Padding is not
    supported.

    Args:
        model: a unidirectional network.

    Raises:
        ValueError: if the model is bidirectional, so that its output depends on the end of the sequence, or reads two
            sequences.
    """
    if len(model.inputs) != 1:
        raise ValueError(f"{model.name} reads {len(model.inputs)} sequences: use `LSTMReader` in decoding.py")
    step = keras.Input(model.input_shape[2:], dtype=model.inputs[0].dtype, name="step")
    x = step
    before, after = [], []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            raise ValueError(f"{model.name} reads in both directions: it has no output before the sequence ends")
        if isinstance(layer, keras.layers.RNN):
            layer.cell.name = f"{layer.name}_cell"  # Keras gives all cells the same name
            sizes = keras.tree.flatten(layer.cell.state_size)
            states = [keras.Input((size,), name=f"{layer.name}_state_{i}") for i, size in enumerate(sizes, 1)]
            x, new_states = layer.cell(x, states)  # (batch, units)
            before += states
            after += keras.tree.flatten(new_states)
        elif not isinstance(layer, keras.layers.InputLayer | PaddingMask):
            x = layer(x)
    return keras.Model([step, *before], [x, *after], name=f"{model.name}_step")


class Stream:
    """Runs a network step by step and keeps its state: `stream(step)` returns the output after all steps so far.

    Each step runs one compiled function.

    Args:
        model: a unidirectional network, whose weights are shared.
    """

    def __init__(self, model: keras.Model):
        self.model: Any = streaming(model)
        self.model.compile(jit_compile=keras.backend.backend() != "torch")
        self.states: list[np.ndarray] = []
        embeddings = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Embedding)]
        self.vocabulary: int | None = embeddings[0].input_dim if embeddings else None

    def reset(self) -> None:
        """Clear the state; the next step begins a new sequence."""
        self.states = []

    def __call__(self, steps: Any) -> np.ndarray:
        """Read one or several steps and return the output (batch, outputs) at the last one.

        One step is (batch, features) or, for tokens, (batch,); several are (batch, time, features) or (batch, time).

        Raises:
            ValueError: if the batch size differs from earlier calls, there are no steps, a step has the wrong shape or
                a token is outside the vocabulary.
        """
        steps = np.asarray(keras.ops.convert_to_numpy(steps))
        if self.vocabulary is not None:
            _check_tokens(steps, self.vocabulary)
        shape = tuple(self.model.inputs[0].shape)  # (batch, ...)
        several = steps.ndim - len(shape)
        if several not in (0, 1) or steps.shape[several + 1 :] != shape[1:] or not steps.size:
            raise ValueError(f"steps {steps.shape} must be (batch, ...) or (batch, time, ...), each step {shape[1:]}")
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

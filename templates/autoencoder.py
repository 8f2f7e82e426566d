"""Autoencoder: compresses its input to a short code and reconstructs the input from it.

Paper: Hinton & Salakhutdinov 2006; Vincent et al. 2008 (denoising)
Input: (batch, features) float, standardised
Output: (batch, features) float, the reconstruction
Parameters: autoencoder 5,030
Loading: `import autoencoder` (this module), then `keras.saving.load_model("model.keras")`

The encoder maps the input to a code of a few numbers; the decoder maps the code back to the input. Rows that resemble
the training data are reconstructed well, others badly, so the reconstruction error is an anomaly score. The code is a
non-linear reduction of dimension.

Sources: G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006.
P. Vincent, H. Larochelle, Y. Bengio and P.-A. Manzagol, "Extracting and composing robust features with denoising
autoencoders", ICML 2008: the input is corrupted during training, the target is not. A. Ng, "Sparse autoencoder",
CS294A lecture notes, 2011: a penalty on the code.

Deviations: all layers are trained together from random weights; the 2006 paper pretrains them one by one. Encoder and
decoder weights are not tied. Masking noise is `keras.layers.Dropout`, which scales the remaining inputs by
1 / (1 - rate); the 2008 paper does not scale them. The sparsity penalty is L1; Ng uses a Kullback–Leibler divergence.

    model = autoencoder(features=30, widths=(64,), code_size=8)
    model.compile(optimizer="adam", loss="mse")
    model.fit(x, x)
    code = model.get_layer("encoder").predict(x)
    scorer = anomaly_scorer(model, mean=mean, deviation=deviation, threshold=2.5)
"""

import json
import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def autoencoder(
    *,
    features: int = 30,
    widths: Sequence[int] = (64,),
    code_size: int = 8,
    activation: str = "relu",
    code_activation: str | None = None,
    output_activation: str | None = None,
    dropout: float = 0.0,
    input_noise: float = 0.0,
    input_dropout: float = 0.0,
    code_penalty: float = 0.0,
    name: str = "autoencoder",
) -> keras.Model:
    """Build a dense autoencoder. Compile it with a regression loss and fit it on (x, x).

    It has two sub-models: `model.get_layer("encoder")` maps (batch, features) to (batch, code_size), and
    `model.get_layer("decoder")` maps (batch, code_size) to (batch, features).

    Args:
        features: number of input features.
        widths: units of the encoder's hidden layers, from the input inwards; the decoder mirrors them. May be empty.
        code_size: units of the code.
        activation: activation of the hidden layers.
        code_activation: activation of the code. None is linear; with no hidden layers and a squared loss, a linear code
            spans the same space as principal component analysis (Baldi & Hornik 1989).
        output_activation: activation of the output: None for standardised inputs, "sigmoid" for inputs in [0, 1].
        dropout: dropout rate of the hidden layers, in [0, 1).
        input_noise: standard deviation of the Gaussian noise added to the input during training.
        input_dropout: fraction of the input set to zero during training, in [0, 1) (the masking noise of Vincent et al.
            2008).
        code_penalty: weight of the L1 penalty on the code, summed over the code and averaged over the batch.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, or a rate or fraction is outside [0, 1).
    """
    features, code_size, widths = _size("features", features), _size("code_size", code_size), _sizes("widths", widths)
    _share("dropout", dropout)
    _share("input_dropout", input_dropout)

    nonlinearity: Any = gelu if activation == "gelu" else activation
    row = keras.Input((features,), name="row")
    x = row
    for number, units in enumerate(widths, 1):
        x = keras.layers.Dense(units, nonlinearity, name=f"encoder_{number}")(x)  # (batch, units)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"encoder_{number}_dropout")(x)
    exact = _exact()
    code = keras.layers.Dense(
        code_size,
        gelu if code_activation == "gelu" else code_activation,
        activity_regularizer=CodePenalty(code_penalty) if code_penalty else None,
        dtype=exact,
        name="code",
    )(x)  # (batch, code_size)
    encoder = keras.Model(row, code, name="encoder")

    code_input = keras.Input((code_size,), name="code_input")
    x = code_input
    for number, units in reversed(list(enumerate(widths, 1))):
        x = keras.layers.Dense(units, nonlinearity, name=f"decoder_{number}")(x)  # (batch, units)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"decoder_{number}_dropout")(x)
    rebuilt = keras.layers.Dense(features, output_activation, dtype=exact, name="reconstruction")
    decoder = keras.Model(code_input, rebuilt(x), name="decoder")  # (batch, features)

    # The corruption is outside the encoder, so that the encoder is the same function in training and in use.
    inputs = keras.Input((features,), name="inputs")
    x = inputs
    if input_noise:
        x = keras.layers.GaussianNoise(input_noise, name="input_noise")(x)
    if input_dropout:
        x = keras.layers.Dropout(input_dropout, name="input_dropout")(x)
    return keras.Model(inputs, decoder(encoder(x)), name=name)


def anomaly_scorer(
    autoencoder: keras.Model,
    *,
    mean: Sequence[float],
    deviation: Sequence[float],
    threshold: float,
    metadata: dict | None = None,
) -> keras.Model:
    """Wrap a trained autoencoder in a model that maps raw rows to anomaly scores and can be saved as one file.

    Input: (batch, features), not standardised. Output: a dictionary with "score" (batch,), the mean squared error of
    the reconstruction; "share" (batch, features), each feature's share of that error, summing to 1 (all zero where
    the error is zero); "alert" (batch,), 1 where the score exceeds the threshold or is NaN, else 0.

    Args:
        autoencoder: model from standardised rows to standardised rows.
        mean: mean of each feature in the training data.
        deviation: standard deviation of each feature in the training data, greater than 0.
        threshold: a score above it raises an alert.
        metadata: JSON-serialisable data to store in the model, such as feature names; read it back with
            `model.get_layer("anomaly_score").metadata`.

    Raises:
        ValueError: if `mean` or `deviation` does not have one value per feature, a mean is not finite, a deviation is
            not a finite number greater than 0, or the threshold is not a number.
    """
    shape = autoencoder.input_shape[1:]
    if autoencoder.output_shape[1:] != shape:
        raise ValueError(f"{autoencoder.name} maps {shape} to {autoencoder.output_shape[1:]}: not an autoencoder")
    centres, scales = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    with np.errstate(all="ignore"):
        usable = np.isfinite(scales) & (scales > 0) & np.isfinite(1 / scales)
    for what, array, fits, expected in (
        ("mean", centres, np.isfinite(centres), "a finite number"),
        ("deviation", scales, usable, "a finite number above 0; 1 suits a constant feature"),
    ):
        if array.shape != shape:
            raise ValueError(f"{what} has the shape {array.shape}, expected {shape}: one number per feature")
        if not fits.all():
            feature = int(fits.argmin())
            raise ValueError(f"{what} {array[feature]} of feature {feature} must be {expected}")
    if not isinstance(threshold, numbers.Real) or math.isnan(threshold):
        raise ValueError(f"threshold {threshold!r} must be a number")
    exact = _exact()
    raw = keras.Input(autoencoder.input_shape[1:], dtype=exact, name="raw")
    # Two layers, because keras.layers.Normalization replaces deviations below 1e-7 by 1e-7.
    offset: Any = [-float(value) for value in centres]
    row = keras.layers.Rescaling(1.0, offset, dtype=exact, name="centre")(raw)
    row = Division([float(value) for value in scales], dtype=exact, name="standardise")(row)
    # Inputs: the row and its reconstruction, both (batch, features).
    score = AnomalyScore(threshold=threshold, metadata=metadata, dtype=exact, name="anomaly_score")
    return keras.Model(raw, score([row, autoencoder(row)]), name="anomaly_scorer")


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
    """Return a sequence or array of sizes as a tuple of ints."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    return tuple(_size(name, size) for size in sizes)


def _share(name: str, share: Any) -> None:
    """Raise ValueError unless `share` is a number in [0, 1)."""
    if not isinstance(share, numbers.Real) or not 0 <= float(share) < 1:
        raise ValueError(f"{name} {share!r} must be at least 0 and below 1")


def _exact() -> str:
    """The dtype of outputs and scores: float64 if the policy is float64, else float32, also in mixed precision."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable(package="templates")
def gelu(x):
    """Exact GELU, x Φ(x), by erf: on TensorFlow, Keras computes it by erfc, which ONNX does not have."""
    erf: Any = keras.ops.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


@keras.saving.register_keras_serializable(package="templates")
class CodePenalty(keras.regularizers.L1L2):
    """`keras.regularizers.L1` in the precision of the loss it is added to.

    It is derived from L1L2, because L1 itself holds its weight as a tensor, which makes the export to ONNX fail.
    """

    def __call__(self, x):
        """Return the penalty of a tensor."""
        return keras.ops.cast(super().__call__(x), keras.config.floatx())


@keras.saving.register_keras_serializable(package="templates")
class Division(keras.layers.Layer):
    """Divides each feature by its own divisor, whatever Keras' default image data format is."""

    def __init__(self, divisors: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.divisors = list(divisors)

    def call(self, inputs):
        """Return the quotients (batch, features)."""
        return inputs * keras.ops.convert_to_tensor([1 / divisor for divisor in self.divisors], inputs.dtype)

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"divisors": self.divisors}


@keras.saving.register_keras_serializable(package="templates")
class AnomalyScore(keras.layers.Layer):
    """Computes score, shares and alert from (row, reconstruction), both (batch, features); see `anomaly_scorer`."""

    def __init__(self, *, threshold: float, metadata: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        self.threshold = float(threshold)
        self._metadata = json.dumps(metadata or {})  # as text, since Keras follows each part of a dictionary

    @property
    def metadata(self) -> dict:
        """The data stored in the model."""
        return json.loads(self._metadata)

    def call(self, inputs):
        """Return score, shares and alert of each row."""
        row, rebuilt = inputs
        error = keras.ops.square(keras.ops.subtract(row, rebuilt))  # (batch, features)
        total = keras.ops.sum(error, axis=-1, keepdims=True)  # (batch, 1)
        score = keras.ops.mean(error, axis=-1)  # (batch,)
        return {
            "score": score,
            "share": keras.ops.divide_no_nan(error, total),
            # A score of NaN is an alert.
            "alert": keras.ops.cast(keras.ops.logical_not(keras.ops.less_equal(score, self.threshold)), "int32"),
        }

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"threshold": self.threshold, "metadata": self.metadata}

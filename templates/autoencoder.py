"""Autoencoder: a network that squeezes its input through a narrow code and rebuilds it.

Paper: Hinton & Salakhutdinov 2006; Vincent et al. 2008 (denoising)
Input: (batch, features) float, standardised
Output: (batch, features) float, the reconstruction

The encoder maps the input to a code of a few numbers, the decoder maps the code back. Rows like those it was trained on
are rebuilt well, others badly: the reconstruction error is an anomaly score, the code a non-linear reduction of the
dimensions.

Sources: G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006.
P. Vincent, H. Larochelle, Y. Bengio and P.-A. Manzagol, "Extracting and composing robust features with denoising
autoencoders", ICML 2008: the input is corrupted while training, the target is not. A. Ng, "Sparse autoencoder", CS294A
lecture notes, 2011: a penalty on the code.

Deviations: layers are trained together from random weights, not pretrained one by one as in 2006; encoder and decoder
weights are not tied; masking noise is `keras.layers.Dropout`, which scales what it keeps by 1 / (1 - rate) where the
2008 paper leaves it as it is; the sparsity penalty is L1 where Ng's is a Kullback–Leibler divergence.

    model = autoencoder(features=30, widths=(64,), code_size=8)
    model.compile(optimizer="adam", loss="mse")
    model.fit(x, x)
    code = model.get_layer("encoder").predict(x)
    scorer = anomaly_scorer(model, mean=mean, deviation=deviation, threshold=2.5)
"""

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
    """Build a dense autoencoder; compile it with a regression loss and fit it on (x, x).

    Its sub-models are `model.get_layer("encoder")`, (batch, features) to (batch, code_size), and
    `model.get_layer("decoder")`, the way back.

    Args:
        features: numbers in a row.
        widths: units of the encoder's hidden layers, outermost first; the decoder mirrors them. May be empty.
        code_size: units of the code.
        activation: of the hidden layers.
        code_activation: of the code; None is linear, which with no hidden layers and a squared loss spans the same
            space as principal component analysis (Baldi & Hornik 1989).
        output_activation: of the output; None for standardised inputs, "sigmoid" for inputs in [0, 1].
        dropout: rate on the hidden layers while training.
        input_noise: standard deviation of Gaussian noise added to the input while training.
        input_dropout: share of the input set to zero while training (the masking noise of Vincent et al. 2008).
        code_penalty: weight of the L1 penalty on the code, summed over the code and averaged over the batch.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1 or a share not from 0, below 1.
    """
    features, code_size, widths = _size("features", features), _size("code_size", code_size), _sizes("widths", widths)
    _share("dropout", dropout)
    _share("input_dropout", input_dropout)

    row = keras.Input((features,), name="row")
    x = row
    for number, units in enumerate(widths, 1):
        x = keras.layers.Dense(units, activation, name=f"encoder_{number}")(x)  # (batch, units)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"encoder_{number}_dropout")(x)
    exact = _exact()
    code = keras.layers.Dense(
        code_size,
        code_activation,
        activity_regularizer=CodePenalty(code_penalty) if code_penalty else None,
        dtype=exact,
        name="code",
    )(x)  # (batch, code_size)
    encoder = keras.Model(row, code, name="encoder")

    code_input = keras.Input((code_size,), name="code_input")
    x = code_input
    for number, units in reversed(list(enumerate(widths, 1))):
        x = keras.layers.Dense(units, activation, name=f"decoder_{number}")(x)  # (batch, units)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"decoder_{number}_dropout")(x)
    rebuilt = keras.layers.Dense(features, output_activation, dtype=exact, name="reconstruction")
    decoder = keras.Model(code_input, rebuilt(x), name="decoder")  # (batch, features)

    # The corruption stays outside the encoder, which then is the same function in training and in use.
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
    """Wrap a trained autoencoder as a model from raw rows to anomaly scores, to be saved whole.

    Input: (batch, features), not standardised. Output: a dictionary with "score" (batch,), the mean squared error of
    the reconstruction; "share" (batch, features), each feature's share of that error, which sums to 1 (all zero where
    the error is zero); "alert" (batch,), 1 where the score exceeds the threshold or is no number, else 0.

    Args:
        autoencoder: from standardised rows to standardised rows.
        mean: of each feature in training.
        deviation: standard deviation of each feature in training, above 0.
        threshold: a score above it raises an alert.
        metadata: anything JSON can hold that must travel with the model, such as the names of the features; read it
            back as `model.get_layer("anomaly_score").metadata`.

    Raises:
        ValueError: if there isn't a mean and a deviation for each feature, a deviation is not above 0, or a number is
            none.
    """
    shape = autoencoder.input_shape[1:]
    if autoencoder.output_shape[1:] != shape:
        raise ValueError(f"{autoencoder.name} turns {shape} into {autoencoder.output_shape[1:]}: it is no autoencoder")
    centres, scales = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    with np.errstate(all="ignore"):
        usable = np.isfinite(scales) & (scales > 0) & np.isfinite(1 / scales)
    for what, array, fits, expected in (
        ("mean", centres, np.isfinite(centres), "a finite number"),
        ("deviation", scales, usable, "a finite number above 0; 1 suits a constant feature"),
    ):
        if array.shape != shape:
            raise ValueError(f"{what} has the shape {array.shape}, expected {shape}: a number for each feature")
        if not fits.all():
            feature = int(fits.argmin())
            raise ValueError(f"{what} {array[feature]} of feature {feature} must be {expected}")
    if not isinstance(threshold, numbers.Real) or math.isnan(threshold):
        raise ValueError(f"threshold {threshold!r} must be a number")
    exact = _exact()
    raw = keras.Input(autoencoder.input_shape[1:], dtype=exact, name="raw")
    # Two steps, since keras.layers.Normalization takes deviations below 1e-7 for 1e-7.
    offset: Any = [-float(value) for value in centres]
    row = keras.layers.Rescaling(1.0, offset, dtype=exact, name="centre")(raw)
    row = Division([float(value) for value in scales], dtype=exact, name="standardise")(row)
    # (batch, features), twice
    score = AnomalyScore(threshold=threshold, metadata=metadata, dtype=exact, name="anomaly_score")
    return keras.Model(raw, score([row, autoencoder(row)]), name="anomaly_scorer")


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
    """Several sizes, of a list or an array too."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    return tuple(_size(name, size) for size in sizes)


def _share(name: str, share: Any) -> None:
    """Refuse what is no number from 0, below 1."""
    if not isinstance(share, numbers.Real) or not 0 <= float(share) < 1:
        raise ValueError(f"{name} {share!r} must be at least 0 and below 1")


def _exact() -> str:
    """What outputs and scores are computed in: float32 in mixed precision too, or float64 if that is the policy."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable(package="templates")
class CodePenalty(keras.regularizers.L1):
    """`keras.regularizers.L1` in the precision of the losses that it is added to."""

    def __call__(self, x):
        """The penalty of a tensor."""
        return keras.ops.cast(super().__call__(x), keras.config.floatx())


@keras.saving.register_keras_serializable(package="templates")
class Division(keras.layers.Layer):
    """Divides each feature by a number of its own, whatever Keras is told of the order of a picture's axes."""

    def __init__(self, divisors: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.divisors = list(divisors)

    def call(self, inputs):
        """The quotients (batch, features)."""
        return inputs * keras.ops.convert_to_tensor([1 / divisor for divisor in self.divisors], inputs.dtype)

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"divisors": self.divisors}


@keras.saving.register_keras_serializable(package="templates")
class AnomalyScore(keras.layers.Layer):
    """Score, shares and alert from the pair (row, reconstruction), each (batch, features); see `anomaly_scorer`."""

    def __init__(self, *, threshold: float, metadata: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        self.threshold = float(threshold)
        self.metadata = metadata or {}

    def call(self, inputs):
        """Score, share and alert of each row."""
        row, rebuilt = inputs
        error = keras.ops.square(keras.ops.subtract(row, rebuilt))  # (batch, features)
        total = keras.ops.sum(error, axis=-1, keepdims=True)  # (batch, 1)
        score = keras.ops.mean(error, axis=-1)  # (batch,)
        return {
            "score": score,
            "share": keras.ops.divide_no_nan(error, total),
            # A score that is no number is an alert.
            "alert": keras.ops.cast(keras.ops.logical_not(keras.ops.less_equal(score, self.threshold)), "int32"),
        }

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"threshold": self.threshold, "metadata": self.metadata}

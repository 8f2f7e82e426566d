"""Deep stacking network, also called deep convex network: modules whose output weights have a closed form.

Paper: Deng & Yu 2011; Deng, Yu & Platt 2012
Input: (batch, features) float, of about unit range
Output: (batch, outputs) float from each module, scores near 0 or 1; the last module's largest is the answer

A module is one hidden layer of sigmoids, H = sigmoid(X W + b), and a linear output Y = H U. Given H, the best U for the
targets T (0 and 1, one-hot) is a ridge regression, U = (H'H + ridge I)^-1 H'T. W starts from random numbers or from a
restricted Boltzmann machine and then follows the gradient of the squared error that remains with the best U. A module
reads the raw input and the outputs of all earlier modules; modules are trained one after the other, never together.

Sources: L. Deng and D. Yu, "Deep convex net: a scalable architecture for speech pattern classification", Interspeech
2011. L. Deng, D. Yu and J. Platt, "Scalable stacking and learning for building deep architectures", ICASSP 2012. D. Yu
and L. Deng, "Efficient and effective algorithms for training single-hidden-layer neural networks", Pattern Recognition
Letters 33, 2012: the gradient. G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
squares problems whose variables separate", SIAM Journal on Numerical Analysis 10, 1973.

Deviations: the hidden layer has a bias, which a Boltzmann machine gives; the ridge is part of the error that is
minimised (the papers' gradient is its limit for a ridge of 0); any optimizer follows the gradient, the papers have
plain and accelerated descent; in training the input may be corrupted by dropout.

    inputs, trained = x, []                             # x (rows, features); targets (rows, outputs), one-hot
    for _ in range(3):
        one = module(features=inputs.shape[1], outputs=targets.shape[1])
        one.compile(optimizer="adam")
        one.fit(inputs, targets, batch_size=len(inputs), epochs=20)
        solve(one, [(inputs, targets)])                 # or batches of a set that does not fit in memory
        inputs = np.concatenate([inputs, one.predict(inputs)], axis=1)
        trained.append(one)                             # stop here when validation no longer improves
    model = assemble(trained)
    scores = model.predict(x_validation)["module_3"]    # scores.argmax(axis=1) is the answer
    sure = classifier(model, temperature=fit_temperature(scores, validation_targets))
"""

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

# The smallest ridge that float32 can solve with, as a share of the trace of H'H: some ten roundings.
SMALLEST_RIDGE = 1e-6


def dsn(
    *,
    features: int = 784,
    outputs: int = 10,
    modules: int = 3,
    hidden_units: int = 1000,
    name: str = "dsn",
) -> keras.Model:
    """Build the assembled network with random weights; `assemble` builds it with those of trained modules.

    Its output is a dictionary: "module_1", "module_2", …, the scores of each module, (batch, outputs); the last is the
    network's. Its layers are `hidden_1`, `output_1`, then `input_2` (the raw input and the outputs of the modules
    before), `hidden_2`, `output_2`, ….

    Args:
        features: numbers in a row of the raw input.
        outputs: of each module: classes.
        modules: how many.
        hidden_units: of each module.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1.
    """
    features, outputs, modules = _size("features", features), _size("outputs", outputs), _size("modules", modules)
    hidden_units = _size("hidden_units", hidden_units)
    raw = keras.Input((features,), name="raw")
    scores = []
    for number in range(1, modules + 1):
        x = raw
        if scores:
            x = keras.layers.Concatenate(name=f"input_{number}")([raw, *scores])  # (batch, features + earlier outputs)
        x = keras.layers.Dense(hidden_units, "sigmoid", name=f"hidden_{number}")(x)  # (batch, hidden_units)
        x = keras.layers.Dense(outputs, use_bias=False, dtype=_exact(), name=f"output_{number}")(x)  # (batch, outputs)
        scores.append(x)
    return keras.Model(raw, {f"module_{number}": x for number, x in enumerate(scores, 1)}, name=name)


def module(
    *,
    features: int,
    outputs: int,
    hidden_units: int = 1000,
    ridge: float = 1.0,
    kernel_deviation: float = 0.1,
    input_dropout: float = 0.0,
    kernel: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    name: str = "module",
) -> keras.Model:
    """Build one module to train: compile it with an optimizer and no loss, fit it on (x, one-hot targets).

    In a training step the output weights are solved for from the batch, and the hidden layer follows the gradient of
    the error that remains. A batch must hold well more rows than there are hidden units, or the solution fits that
    batch alone; the whole set at once is the papers' way. Between steps the module answers with the weights of the last
    batch, which lag one step behind the hidden layer; end training with `solve`.

    Args:
        features: numbers in a row: the raw input's, then `outputs` for each earlier module.
        outputs: classes.
        hidden_units: sigmoids.
        ridge: added to the diagonal of H'H, which is a sum over the rows of a batch: with half of the rows, half of the
            ridge weighs the same. While training it is at least 1e-6 of the trace of H'H, which float32 needs.
        kernel_deviation: standard deviation of the random weights that the hidden layer starts from.
        input_dropout: share of the input that is set to zero while training.
        kernel: weights that the hidden layer starts from instead, (rows, hidden_units), such as a Boltzmann machine's.
            Features past its rows (the outputs of earlier modules) start from random weights.
        bias: that of the hidden layer at the start, (hidden_units,); zero if it is None.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1, the ridge is not above 0, the dropout not from 0 up to 1, or the kernel
            or bias has another shape.
    """
    features, outputs = _size("features", features), _size("outputs", outputs)
    hidden_units = _size("hidden_units", hidden_units)
    if not 0 <= input_dropout < 1:
        raise ValueError(f"input_dropout {input_dropout} must be at least 0 and below 1")

    row = keras.Input((features,), name="row")
    x = row
    if input_dropout:
        x = keras.layers.Dropout(input_dropout, name="input_dropout")(x)
    start: Any = keras.initializers.RandomNormal(0.0, kernel_deviation)
    hidden: Any = keras.layers.Dense(hidden_units, "sigmoid", kernel_initializer=start, name="hidden")
    x = hidden(x)  # (batch, hidden_units)
    x = RidgeOutput(outputs, ridge=ridge, dtype=_exact(), name="output")(x)  # (batch, outputs)
    if kernel is not None:
        kernel = np.asarray(kernel)
        if kernel.ndim != 2 or len(kernel) > features or kernel.shape[1] != hidden_units:
            raise ValueError(f"kernel {kernel.shape} must be at most {features} rows of {hidden_units}")
        random: Any = keras.ops.convert_to_numpy(hidden.kernel)
        hidden.kernel.assign(np.concatenate([kernel, random[len(kernel) :]]))
    if bias is not None:
        if np.shape(bias) != (hidden_units,):
            raise ValueError(f"bias {np.shape(bias)} must be {hidden_units} numbers")
        hidden.bias.assign(bias)
    return Module(row, x, name=name)


@keras.saving.register_keras_serializable(package="templates")
class RidgeOutput(keras.layers.Dense):
    """A linear layer without bias whose weights are a ridge regression on its inputs, not found by gradient."""

    def __init__(self, units: int, *, ridge: float, **kwargs):
        if not ridge > 0:
            raise ValueError(f"ridge {ridge} must be above 0")
        super().__init__(units, **{"use_bias": False, "kernel_initializer": "zeros", "trainable": False} | kwargs)
        self.ridge = ridge

    def solve(self, hidden, targets):
        """The output weights (hidden_units, outputs) for a batch, and the ridge that they were found with.

        Args:
            hidden: (batch, hidden_units).
            targets: (batch, outputs).
        """
        gram: Any = keras.ops.matmul(keras.ops.transpose(hidden), hidden)  # (hidden_units, hidden_units)
        trace: Any = keras.ops.trace(gram)
        ridge: Any = keras.ops.maximum(self.ridge, SMALLEST_RIDGE * trace)
        moment = keras.ops.matmul(keras.ops.transpose(hidden), targets)  # (hidden_units, outputs)
        return keras.ops.solve(gram + ridge * keras.ops.eye(gram.shape[0], dtype=gram.dtype), moment), ridge

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"ridge": self.ridge}


@keras.saving.register_keras_serializable(package="templates")
class Module(keras.Model):
    """A module that trains its hidden layer for the best output weights; see `module`."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight=None, training=True):
        """Squared error with the best output weights, the ridge's part included, a row; without training, as it stands.

        Raises:
            ValueError: if there are sample weights, or the targets are not one number an output.
        """
        output: Any = self.layers[-1]
        if sample_weight is not None:
            raise ValueError("a module takes no sample weights")
        if len(y.shape) != 2 or y.shape[1] != output.units:
            raise ValueError(f"targets {tuple(y.shape)} must be one-hot, (batch, {output.units})")
        targets: Any = keras.ops.cast(y, y_pred.dtype)
        if not training:
            return keras.ops.mean(keras.ops.sum(keras.ops.square(targets - y_pred), axis=1))
        hidden = x
        for layer in self.layers[1:-1]:
            hidden = layer(hidden, training=True)  # (batch, hidden_units)
        hidden = keras.ops.cast(hidden, targets.dtype)  # half precision is too coarse to solve with
        # The error's derivative by its own minimum's place is zero: with the weights held constant, the gradient is the
        # one through the closed form, and the solution need not be differentiated.
        parts: Any = [keras.ops.stop_gradient(part) for part in output.solve(hidden, targets)]
        weights, ridge = parts
        output.kernel.assign(weights)
        error: Any = keras.ops.sum(keras.ops.square(targets - keras.ops.matmul(hidden, weights)))
        penalty: Any = keras.ops.sum(keras.ops.square(weights))
        shape: Any = keras.ops.shape(targets)
        return (error + ridge * penalty) / keras.ops.cast(shape[0], targets.dtype)


def output_weights(batches: Iterable[tuple[Any, Any]], *, ridge: float) -> np.ndarray:
    """The weights U (hidden_units, outputs) that minimise |T - H U|² + ridge |U|² over all batches, in float64.

    Only sums over the batches are kept, hidden_units x (hidden_units + outputs) numbers, so that the rows may be more
    than fit in memory. The result does not depend on how they are divided.

    Args:
        batches: of pairs: hidden activations (batch, hidden_units) and targets (batch, outputs).
        ridge: above 0.

    Raises:
        ValueError: if the ridge is not above 0, there is no batch, a pair differs in rows, or a number is not finite.
    """
    if not ridge > 0:
        raise ValueError(f"ridge {ridge} must be above 0")
    gram: Any = 0.0
    moment: Any = 0.0
    rows = 0
    for pair in batches:
        if len(pair) != 2:
            raise ValueError("batches must be pairs of rows and targets")
        h = np.asarray(pair[0], np.float64)  # (batch, hidden_units)
        t = np.asarray(pair[1], np.float64)  # (batch, outputs)
        if h.ndim != 2 or t.ndim != 2:
            raise ValueError(f"rows {h.shape} and targets {t.shape} must be (batch, numbers) both, targets one-hot")
        if len(h) != len(t):
            raise ValueError(f"{len(h)} rows of hidden activations, but {len(t)} targets")
        gram = gram + h.T @ h  # (hidden_units, hidden_units)
        moment = moment + h.T @ t  # (hidden_units, outputs)
        rows += len(h)
    if not rows:
        raise ValueError("there is no batch to solve for")
    if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
        raise ValueError("hidden activations or targets are not finite")
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), moment)


def solve(module: keras.Model, batches: Iterable[tuple[Any, Any]]) -> None:
    """Give a module the exact output weights for its hidden layer: `output_weights` over all batches.

    Args:
        module: of this file.
        batches: of pairs: rows (batch, features) and one-hot targets (batch, outputs).

    Raises:
        ValueError: if a batch is no such pair, or as `output_weights` does.
    """
    output = module.get_layer("output")
    hidden = keras.Model(module.input, module.get_layer("hidden").output)

    def pairs() -> Iterator[tuple[Any, Any]]:
        for pair in batches:
            if len(pair) != 2 or np.ndim(pair[0]) != 2 or np.shape(pair[1])[1:] != (output.units,):
                raise ValueError(f"batches must be pairs of rows and one-hot targets (batch, {output.units})")
            yield keras.ops.convert_to_numpy(hidden(pair[0], training=False)), pair[1]

    output.kernel.assign(output_weights(pairs(), ridge=output.ridge))


def assemble(modules: Sequence[keras.Model], *, name: str = "dsn") -> keras.Model:
    """Put trained modules, the first trained first, together as one network with an output a module; see `dsn`.

    Raises:
        ValueError: if there is no module, they differ in size, or one does not read what the modules before it leave.
    """
    if not modules:
        raise ValueError("there is no module to assemble")
    features, outputs = modules[0].input_shape[1], modules[0].output_shape[1]
    units = modules[0].get_layer("hidden").units
    for number, one in enumerate(modules):
        found = (one.input_shape[1], one.get_layer("hidden").units, one.output_shape[1])
        expected = (features + number * outputs, units, outputs)
        if found != expected:
            raise ValueError(f"module {number + 1} has (features, hidden units, outputs) {found}, not {expected}")
    model = dsn(features=features, outputs=outputs, modules=len(modules), hidden_units=units, name=name)
    for number, one in enumerate(modules, 1):
        for layer in ("hidden", "output"):
            model.get_layer(f"{layer}_{number}").set_weights(one.get_layer(layer).get_weights())
    return model


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """The temperature at which softmax(scores / temperature) has the smallest log-loss, between 0.001 and 1000.

    The scores of a module are least-squares estimates of 0 and 1, neither probabilities nor logits; fit this on
    validation data (Guo et al. 2017, "On calibration of modern neural networks").

    Args:
        scores: (rows, outputs), of rows that the network was not trained on.
        targets: (rows, outputs), one-hot.

    Raises:
        ValueError: if the two differ in shape, or there is no row, a single output or a number that is none.
    """
    if np.shape(scores) != np.shape(targets):
        raise ValueError(f"scores {np.shape(scores)} and targets {np.shape(targets)} must have the same shape")
    s = np.asarray(scores, np.float64)
    if s.ndim != 2 or not len(s) or s.shape[1] < 2 or not np.isfinite(s).all():
        raise ValueError(f"scores {s.shape} must be finite numbers, at least one row of at least two outputs")
    margins = s - (s * targets).sum(axis=1, keepdims=True)  # above the true class, (rows, outputs)

    def slope(sharpness: float) -> float:
        """Derivative of the log-loss, which is convex in 1 / temperature."""
        logits = sharpness * (margins - margins.max(axis=1, keepdims=True))
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return float((share * margins).sum(axis=1).mean())

    low, high = np.log(1e-3), np.log(1e3)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-low))


def classifier(model: keras.Model, *, temperature: float) -> keras.Model:
    """Wrap a network as a model from rows (batch, features) to probabilities (batch, outputs), to be saved whole.

    Args:
        model: of `dsn` or `assemble`; its last module answers.
        temperature: of the softmax, above 0; see `fit_temperature`.

    Raises:
        ValueError: if the temperature is not above 0, or the network has a single output.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0")
    outputs: Any = model.output
    if outputs["module_1"].shape[-1] == 1:
        raise ValueError("the softmax of a single output is always 1: for yes or no take two outputs")
    x = keras.layers.Rescaling(1 / temperature, dtype=_exact(), name="sharpen")(outputs[f"module_{len(outputs)}"])
    probability = keras.layers.Softmax(dtype=_exact(), name="probability")(x)  # (batch, outputs)
    return keras.Model(model.input, probability, name=f"{model.name}_classifier")


def _exact() -> str:
    """What scores and weights are computed in: float32 in mixed precision too, or float64 if that is the policy."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


def _size(name: str, size: Any) -> int:
    """A size as Python's own whole number, of NumPy's too; refused if it is none of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole

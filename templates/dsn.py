"""Deep stacking network (deep convex network): a stack of modules whose output weights have a closed form.

Paper: Deng & Yu 2011; Deng, Yu & Platt 2012
Input: (batch, features) float, of about unit range
Output: (batch, outputs) float from each module, scores near 0 or 1; the last module's largest score is the prediction
Parameters: dsn 2,415,000
Loading: `import dsn` (this module), then `keras.saving.load_model("model.keras")`

A module has one hidden layer of sigmoids, H = sigmoid(X W + b), and a linear output Y = H U. Given H, the best U for
the one-hot targets T is a ridge regression, U = (H'H + ridge I)^-1 H'T. W starts from random numbers or from a
restricted Boltzmann machine and is then trained by gradient descent on the squared error that remains with the best U.
A module reads the raw input and the outputs of all earlier modules. Modules are trained one after another, never
jointly.

Sources: L. Deng and D. Yu, "Deep convex net: a scalable architecture for speech pattern classification", Interspeech
2011. L. Deng, D. Yu and J. Platt, "Scalable stacking and learning for building deep architectures", ICASSP 2012. D. Yu
and L. Deng, "Efficient and effective algorithms for training single-hidden-layer neural networks", Pattern Recognition
Letters 33, 2012: the gradient. G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
squares problems whose variables separate", SIAM Journal on Numerical Analysis 10, 1973.

Deviations: the hidden layer has a bias, as a Boltzmann machine does. The ridge is part of the error that is minimised;
the papers' gradient is the limit for a ridge of 0. Any optimizer can be used; the papers use plain and accelerated
gradient descent. Dropout may corrupt the input during training.

    inputs, trained = x, []                             # x (rows, features); targets (rows, outputs), one-hot
    for _ in range(3):
        one = module(features=inputs.shape[1], outputs=targets.shape[1])
        one.compile(optimizer="adam")
        one.fit(inputs, targets, batch_size=len(inputs), epochs=20)
        solve(one, [(inputs, targets)])                 # or batches of a data set that does not fit in memory
        inputs = np.concatenate([inputs, one.predict(inputs)], axis=1)
        trained.append(one)                             # stop here when validation no longer improves
    model = assemble(trained)
    scores = model.predict(x_validation)["module_3"]    # scores.argmax(axis=1) is the prediction
    probabilities = classifier(model, temperature=fit_temperature(scores, validation_targets))
"""

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

# The smallest ridge at which float32 can solve, as a fraction of the trace of H'H: about ten rounding errors.
SMALLEST_RIDGE = 1e-6


def dsn(
    *,
    features: int = 784,
    outputs: int = 10,
    modules: int = 3,
    hidden_units: int = 1000,
    name: str = "dsn",
) -> keras.Model:
    """Build the whole network with random weights; `assemble` builds it from trained modules.

    Its output is a dictionary "module_1", "module_2", … with the scores of each module, (batch, outputs); the last
    entry is the prediction of the network. Layer names: `hidden_1`, `output_1`, then `input_2` (the raw input and the
    outputs of the earlier modules), `hidden_2`, `output_2`, ….

    Args:
        features: number of features of the raw input.
        outputs: outputs of each module, the number of classes.
        modules: number of modules.
        hidden_units: hidden units of each module.
        name: model name.

    Raises:
        ValueError: if a size is less than 1.
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
    """Build one module to train. Compile it with an optimizer and no loss; fit it on (x, one-hot targets).

    A training step solves for the output weights on the batch and moves the hidden layer along the gradient of the
    error that remains. A batch must have many more rows than there are hidden units, or the solution overfits the
    batch; the papers use the whole training set as one batch. Between steps the module predicts with the output weights
    of the last batch, which lag one step behind the hidden layer. Finish training with `solve`.

    Args:
        features: number of input features: those of the raw input, plus `outputs` for each earlier module.
        outputs: number of classes.
        hidden_units: sigmoid units of the hidden layer.
        ridge: added to the diagonal of H'H. H'H is a sum over the rows of a batch, so half the rows need half the ridge
            for the same effect. During training it is at least 1e-6 of the trace of H'H, which float32 needs.
        kernel_deviation: standard deviation of the hidden layer's random initial weights.
        input_dropout: dropout rate of the input, in [0, 1).
        kernel: initial weights of the hidden layer instead of random ones, (rows, hidden_units), for example those of a
            Boltzmann machine. Features beyond its rows (the outputs of earlier modules) start from random weights.
        bias: initial bias of the hidden layer, (hidden_units,); None is zero.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, `ridge` is not greater than 0, `input_dropout` is outside [0, 1), or
            `kernel` or `bias` has the wrong shape.
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
            raise ValueError(f"kernel {kernel.shape} must have at most {features} rows, of {hidden_units} numbers each")
        random: Any = keras.ops.convert_to_numpy(hidden.kernel)
        hidden.kernel.assign(np.concatenate([kernel, random[len(kernel) :]]))
    if bias is not None:
        if np.shape(bias) != (hidden_units,):
            raise ValueError(f"bias {np.shape(bias)} must have the shape ({hidden_units},)")
        hidden.bias.assign(bias)
    return Module(row, x, name=name)


@keras.saving.register_keras_serializable(package="templates")
class RidgeOutput(keras.layers.Dense):
    """A linear layer without bias whose weights are solved by ridge regression on its inputs, not trained."""

    def __init__(self, units: int, *, ridge: float, **kwargs):
        if not ridge > 0:
            raise ValueError(f"ridge {ridge} must be above 0")
        super().__init__(units, **{"use_bias": False, "kernel_initializer": "zeros", "trainable": False} | kwargs)
        self.ridge = ridge

    def solve(self, hidden, targets):
        """Return the output weights (hidden_units, outputs) for a batch, and the ridge used to solve for them.

        Args:
            hidden: activations of the hidden layer, (batch, hidden_units).
            targets: one-hot targets, (batch, outputs).
        """
        gram: Any = keras.ops.matmul(keras.ops.transpose(hidden), hidden)  # (hidden_units, hidden_units)
        trace: Any = keras.ops.trace(gram)
        ridge: Any = keras.ops.maximum(self.ridge, SMALLEST_RIDGE * trace)
        moment = keras.ops.matmul(keras.ops.transpose(hidden), targets)  # (hidden_units, outputs)
        return keras.ops.solve(gram + ridge * keras.ops.eye(gram.shape[0], dtype=gram.dtype), moment), ridge

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"ridge": self.ridge}


@keras.saving.register_keras_serializable(package="templates")
class Module(keras.Model):
    """A model that trains its hidden layer given the best output weights; see `module`."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight=None, training=True):
        """Return the squared error per row.

        In training, the error is that of the best output weights and includes the ridge penalty. Otherwise it is that
        of the module's current weights.

        Raises:
            ValueError: if there are sample weights, or the targets do not have the shape (batch, outputs).
        """
        output: Any = self.layers[-1]
        if sample_weight is not None:
            raise ValueError("a module accepts no sample weights")
        if len(y.shape) != 2 or y.shape[1] != output.units:
            raise ValueError(f"targets {tuple(y.shape)} must be one-hot, (batch, {output.units})")
        targets: Any = keras.ops.cast(y, y_pred.dtype)
        if not training:
            return keras.ops.mean(keras.ops.sum(keras.ops.square(targets - y_pred), axis=1))
        hidden = x
        for layer in self.layers[1:-1]:
            hidden = layer(hidden, training=True)  # (batch, hidden_units)
        hidden = keras.ops.cast(hidden, targets.dtype)  # half precision is too coarse for the solution
        # At the minimum, the derivative of the error with respect to the output weights is zero. So the gradient with
        # these weights held constant equals the one through the closed form: the solve needs no gradient.
        parts: Any = [keras.ops.stop_gradient(part) for part in output.solve(hidden, targets)]
        weights, ridge = parts
        output.kernel.assign(weights)
        error: Any = keras.ops.sum(keras.ops.square(targets - keras.ops.matmul(hidden, weights)))
        penalty: Any = keras.ops.sum(keras.ops.square(weights))
        shape: Any = keras.ops.shape(targets)
        return (error + ridge * penalty) / keras.ops.cast(shape[0], targets.dtype)


def output_weights(batches: Iterable[tuple[Any, Any]], *, ridge: float) -> np.ndarray:
    """Return the weights U (hidden_units, outputs) that minimise |T - H U|² + ridge |U|² over all batches, in float64.

    Only sums over the batches are kept, hidden_units x (hidden_units + outputs) numbers, so the data need not fit in
    memory. The result does not depend on how the rows are split into batches.

    Args:
        batches: pairs of hidden activations (batch, hidden_units) and targets (batch, outputs).
        ridge: ridge penalty, greater than 0.

    Raises:
        ValueError: if `ridge` is not greater than 0, there are no rows, activations and targets differ in number of
            rows or are not both two-dimensional, or a number is not finite.
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
            raise ValueError(f"rows {h.shape} and targets {t.shape} must both be two-dimensional, targets one-hot")
        if len(h) != len(t):
            raise ValueError(f"{len(h)} rows of hidden activations, but {len(t)} targets")
        gram = gram + h.T @ h  # (hidden_units, hidden_units)
        moment = moment + h.T @ t  # (hidden_units, outputs)
        rows += len(h)
    if not rows:
        raise ValueError("batches are empty: no batch has a row")
    if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
        raise ValueError("hidden activations or targets are not finite")
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), moment)


def solve(module: keras.Model, batches: Iterable[tuple[Any, Any]]) -> None:
    """Set a module's output weights to the exact solution over all batches; see `output_weights`.

    Args:
        module: a model built by `module`.
        batches: pairs of rows (batch, features) and one-hot targets (batch, outputs).

    Raises:
        ValueError: if a batch is not such a pair, or as in `output_weights`.
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
    """Combine trained modules, in the order of training, into one network with an output per module; see `dsn`.

    Raises:
        ValueError: if there is no module, the modules differ in hidden units or outputs, or a module's input size is
            not that of the raw input plus the outputs of the earlier modules.
    """
    if not modules:
        raise ValueError("modules is empty: no module to assemble")
    features, outputs = modules[0].input_shape[1], modules[0].output_shape[1]
    units = modules[0].get_layer("hidden").units
    for number, trained in enumerate(modules):
        sizes = (trained.input_shape[1], trained.get_layer("hidden").units, trained.output_shape[1])
        expected = (features + number * outputs, units, outputs)
        if sizes != expected:
            raise ValueError(f"module {number + 1} has (features, hidden units, outputs) {sizes}, not {expected}")
    model = dsn(features=features, outputs=outputs, modules=len(modules), hidden_units=units, name=name)
    for number, trained in enumerate(modules, 1):
        for layer in ("hidden", "output"):
            model.get_layer(f"{layer}_{number}").set_weights(trained.get_layer(layer).get_weights())
    return model


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature between 0.001 and 1000 that minimises the log-loss of softmax(scores / temperature).

    The scores of a module are least-squares estimates of 0 and 1, neither probabilities nor logits. Fit the temperature
    on validation data (Guo et al. 2017, "On calibration of modern neural networks").

    Args:
        scores: scores of rows that the network was not trained on, (rows, outputs).
        targets: one-hot targets, (rows, outputs).

    Raises:
        ValueError: if scores and targets differ in shape, there are no rows, there is a single output, or a score is
            not finite.
    """
    if np.shape(scores) != np.shape(targets):
        raise ValueError(f"scores {np.shape(scores)} and targets {np.shape(targets)} must have the same shape")
    s = np.asarray(scores, np.float64)
    if s.ndim != 2 or not len(s) or s.shape[1] < 2 or not np.isfinite(s).all():
        raise ValueError(f"scores {s.shape} must be finite numbers, at least one row of at least two outputs")
    margins = s - (s * targets).sum(axis=1, keepdims=True)  # score minus that of the true class, (rows, outputs)

    def slope(sharpness: float) -> float:
        """Return the derivative of the log-loss with respect to 1 / temperature, in which it is convex."""
        logits = sharpness * (margins - margins.max(axis=1, keepdims=True))
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return float((share * margins).sum(axis=1).mean())

    low, high = np.log(1e-3), np.log(1e3)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-low))


def classifier(model: keras.Model, *, temperature: float) -> keras.Model:
    """Wrap a network in a model from rows (batch, features) to probabilities (batch, outputs), to save as one file.

    Args:
        model: a network from `dsn` or `assemble`; the probabilities are those of its last module.
        temperature: temperature of the softmax, greater than 0; see `fit_temperature`.

    Raises:
        ValueError: if `temperature` is not greater than 0, or the network has a single output.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0")
    outputs: Any = model.output
    if outputs["module_1"].shape[-1] == 1:
        raise ValueError("the softmax of a single output is always 1: use two outputs for two classes")
    x = keras.layers.Rescaling(1 / temperature, dtype=_exact(), name="sharpen")(outputs[f"module_{len(outputs)}"])
    probability = keras.layers.Softmax(dtype=_exact(), name="probability")(x)  # (batch, outputs)
    return keras.Model(model.input, probability, name=f"{model.name}_classifier")


def _exact() -> str:
    """The dtype of scores and weights: float64 if the policy is float64, else float32, also in mixed precision."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


def _size(name: str, size: Any) -> int:
    """Return a size, such as a NumPy integer, as an int; raise ValueError if it is not an integer of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole

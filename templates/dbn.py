"""Deep belief network: restricted Boltzmann machines trained layer by layer, which initialise a classifier.

Paper: Hinton, Osindero & Teh 2006; Hinton & Salakhutdinov 2006 (fine-tuning)
Input: (batch, features) float, in 0..1 for Bernoulli units, standardised for Gaussian ones
Output: (batch, outputs) float, probabilities of the classes
Parameters: dbn 648,010
Loading: `import dbn` (this module), then `keras.saving.load_model("model.keras")`

A restricted Boltzmann machine (RBM) is a model of its input: visible units v and hidden units h with the energy
E(v, h) = -b·v - c·h - v·W·h. It is trained without labels. The hidden probabilities of one RBM are the input of the
next; such a stack is a deep belief network. Its weights initialise a classifier, which is then fine-tuned by
back-propagation; this helps when few labels are available. The stack also generates data: Gibbs sampling in the top
RBM, then one pass down through the layers below.

Bernoulli visible units read inputs in 0..1 as the probabilities of binary units, as Hinton does with grey values.
Gaussian units have unit variance: E(v, h) = |v - b|²/2 - c·h - v·W·h. Standardise each feature to mean 0, variance 1.

Sources: G. Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14, 2002;
"A practical guide to training restricted Boltzmann machines", UTML TR 2010-003. G. Hinton, S. Osindero and Y. Teh, "A
fast learning algorithm for deep belief nets", Neural Computation 18, 2006. G. Hinton and R. Salakhutdinov, "Reducing
the dimensionality of data with neural networks", Science 313, 2006. T. Tieleman, "Training restricted Boltzmann
machines using approximations to the likelihood gradient", ICML 2008: persistent chains. R. Salakhutdinov and I. Murray,
"On the quantitative analysis of deep belief networks", ICML 2008: annealed importance sampling.

Deviations: fine-tuning is back-propagation in a classifier, as in the Science paper, not the up–down algorithm; labels
are not part of the top RBM. Momentum is a setting of the optimizer. The sparsity penalty uses the mean activation in
the batch; the practical guide uses a decaying average. The variance of Gaussian units is fixed, not learned.

    rbms = stack(features=784, widths=(500, 500), seed=0)
    inputs = x                                      # (rows, 784) in 0..1, no labels
    for rbm in rbms:
        rbm.compile(keras.optimizers.SGD(0.1, momentum=0.5))
        rbm.fit(inputs, batch_size=50, epochs=20)
        inputs = rbm.predict(inputs)                # P(h = 1 | v), the input of the next RBM
    model = dbn(features=784, outputs=10, widths=(500, 500), rbms=rbms)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(labelled, labels)
    images = generate(rbms, 10, steps=1000, seed=0)
    log_partition = rbms[0].log_partition(steps=4000, seed=0, data=x).value
    nats = rbms[0].log_likelihood(binary, log_partition).mean()
"""

import itertools
import numbers
import operator
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import keras
import numpy as np

Visible = Literal["bernoulli", "gaussian"]


class LogPartition(NamedTuple):
    """An annealed importance sampling estimate of the logarithm of a partition function, in nats."""

    value: float
    standard_error: float  # of `value`, to first order
    low: float  # log(Z - 3σ); minus infinity if 3σ exceeds Z
    high: float  # log(Z + 3σ)


@keras.saving.register_keras_serializable(package="templates")
class RBM(keras.Model):
    """Restricted Boltzmann machine: `compile(optimizer)` without a loss, `fit(v)` without labels or sample weights.

    The loss is mean F(v) - mean F(v_k), where F is the free energy and v_k, treated as a constant, is the end of a
    Gibbs chain. Its gradient is contrastive divergence; its value says little about progress. `history` also has
    "reconstruction_error", the mean squared difference between v and E[v | h] for h drawn from P(h | v). Calling the
    model returns P(h = 1 | v).

    Args:
        visible_units: number of visible units, the features of a row.
        hidden_units: number of binary hidden units.
        visible: kind of visible units: "bernoulli", in 0..1, or "gaussian", of unit variance.
        gibbs_steps: Gibbs steps from v to v_k (the k of CD-k).
        chains: 0 starts a chain at each row (contrastive divergence). A larger number keeps that many chains from batch
            to batch, started from noise (persistent contrastive divergence).
        weight_decay: adds weight_decay / 2 times the sum of squared weights to the loss.
        sparsity_target: target in 0..1 for the mean activation of each hidden unit, or None.
        sparsity_cost: weight of the sum over hidden units of the Kullback–Leibler divergence from target to activation.
        seed: seed of the initial weights and the chains; None draws one.

    Raises:
        ValueError: if a size or number of steps is less than 1, `chains`, `weight_decay` or `sparsity_cost` is
            negative, `visible` is unknown or `sparsity_target` is not between 0 and 1.
    """

    def __init__(
        self,
        *,
        visible_units: int,
        hidden_units: int,
        visible: Visible = "bernoulli",
        gibbs_steps: int = 1,
        chains: int = 0,
        weight_decay: float = 0.0,
        sparsity_target: float | None = None,
        sparsity_cost: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        visible_units, hidden_units = _size("visible_units", visible_units), _size("hidden_units", hidden_units)
        gibbs_steps, chains = _size("gibbs_steps", gibbs_steps), _size("chains", chains) if chains else 0
        for what, number in (("weight_decay", weight_decay), ("sparsity_cost", sparsity_cost)):
            if not isinstance(number, numbers.Real) or not number >= 0:
                raise ValueError(f"{what} {number!r} must be at least 0")
        if visible not in get_args(Visible):
            raise ValueError(f"visible {visible!r} must be one of {', '.join(get_args(Visible))}")
        if sparsity_target is not None and not 0 < sparsity_target < 1:
            raise ValueError(f"sparsity_target {sparsity_target} must be between 0 and 1")
        # Half precision is too coarse for energies, which are sums over all units: float32 also in mixed precision.
        super().__init__(**{"dtype": _exact()} | kwargs)
        self.visible_units = visible_units
        self.hidden_units = hidden_units
        self.visible = visible
        self.gibbs_steps = gibbs_steps
        self.chains = chains
        self.weight_decay = weight_decay
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.reconstruction_error = keras.metrics.Mean(name="reconstruction_error")
        self.build((None, visible_units))

    def build(self, input_shape):
        """Create the weights and any persistent chains."""
        # The practical guide recommends small random weights of this size.
        initializer = keras.initializers.RandomNormal(stddev=0.01, seed=self.seed)
        self.kernel = self.add_weight((self.visible_units, self.hidden_units), initializer, name="kernel")
        self.visible_bias = self.add_weight((self.visible_units,), "zeros", name="visible_bias")
        self.hidden_bias = self.add_weight((self.hidden_units,), "zeros", name="hidden_bias")
        if self.chains:
            shape = (self.chains, self.visible_units)
            self.chain_states = self.add_weight(shape, "zeros", trainable=False, name="chain_states")
            noise = np.random.default_rng(self.seed)
            start = noise.integers(0, 2, shape) if self.visible == "bernoulli" else noise.normal(size=shape)
            self.chain_states.assign(start.astype(self.variable_dtype))
        self.built = True

    def call(self, inputs):
        """Return P(h = 1 | v), (batch, hidden_units)."""
        return self.hidden_probabilities(inputs)

    def hidden_probabilities(self, v: Any) -> Any:
        """Return P(h = 1 | v), (batch, hidden_units), for v (batch, visible_units)."""
        return keras.ops.sigmoid(self._hidden_inputs(v))

    def visible_mean(self, h: Any) -> Any:
        """Return E[v | h], (batch, visible_units), for h (batch, hidden_units): probabilities or Gaussian means."""
        mean = keras.ops.add(keras.ops.matmul(self._float(h), keras.ops.transpose(self.kernel)), self.visible_bias)
        return keras.ops.sigmoid(mean) if self.visible == "bernoulli" else mean

    def free_energy(self, v: Any) -> Any:
        """Return the free energy F(v) = -log Σ_h exp(-E(v, h)) of each row in nats, (batch,)."""
        return self._free_energy(self._float(v), self._hidden_inputs(v))

    def sample_hidden(self, h_probabilities: Any, seed: Any = None) -> Any:
        """Draw binary hidden units with the given probabilities; for `seed` see `gibbs`."""
        return _bernoulli(self._float(h_probabilities), self.seed_generator if seed is None else seed)

    def sample_visible(self, mean: Any, seed: Any = None) -> Any:
        """Draw visible units with the given means, binary or Gaussian with unit variance; for `seed` see `gibbs`."""
        mean, seed = self._float(mean), self.seed_generator if seed is None else seed
        if self.visible == "bernoulli":
            return _bernoulli(mean, seed)
        return mean + keras.random.normal(keras.ops.shape(mean), dtype=mean.dtype, seed=seed)

    def gibbs(self, v: Any, steps: int, seed: Any = None) -> Any:
        """Run Gibbs chains for `steps` steps of v → h → v, sampling every unit; return rows (batch, visible_units).

        Args:
            v: start of the chains, (batch, visible_units).
            steps: number of steps, 0 or more.
            seed: an int, a `keras.random.SeedGenerator`, or None for the model's own generator.
        """
        generator = keras.random.SeedGenerator(seed) if isinstance(seed, int) else seed
        v = self._float(v)
        for _ in range(steps):
            h = self.sample_hidden(self.hidden_probabilities(v), generator)
            v = self.sample_visible(self.visible_mean(h), generator)
        return v

    def fit(self, x=None, y=None, *args, **options):
        """As `keras.Model.fit`, but rejects weights, which Keras silently ignores when there are no targets."""
        for name in ("sample_weight", "class_weight"):
            if options.get(name) is not None:
                raise ValueError(f"{self.name} accepts no sample or class weights: {name} would have no effect")
        return super().fit(x, y, *args, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the contrastive divergence loss plus weight decay and sparsity penalty; `y_pred` is not used."""
        if y is not None or sample_weight is not None:
            given = "labels or targets" if sample_weight is None else "sample or class weights"
            raise ValueError(f"{self.name} is trained on rows alone, fit(v): it accepts no {given}")
        x = self._float(x)
        hidden_inputs = self._hidden_inputs(x)  # shared by the chain, the free energy and its gradient
        h = keras.ops.sigmoid(hidden_inputs)  # (batch, hidden_units)
        mean = self.visible_mean(self.sample_hidden(h))  # (batch, visible_units)
        self.reconstruction_error.update_state(keras.ops.mean(keras.ops.square(x - mean), axis=-1))
        if self.chains and training:
            end = self.gibbs(self.chain_states, self.gibbs_steps)  # (chains, visible_units)
            self.chain_states.assign(end)
        else:
            end = self.gibbs(self.sample_visible(mean), self.gibbs_steps - 1)  # (batch, visible_units)
        energy = self._free_energy(x, hidden_inputs)  # (batch,)
        negative = self.free_energy(keras.ops.stop_gradient(end))
        loss: Any = keras.ops.subtract(keras.ops.mean(energy), keras.ops.mean(negative))
        if self.weight_decay:
            loss += keras.ops.multiply(self.weight_decay / 2, keras.ops.sum(keras.ops.square(self.kernel)))
        if self.sparsity_target is not None and self.sparsity_cost:
            target = self.sparsity_target
            active: Any = keras.ops.clip(keras.ops.mean(h, axis=0), 1e-6, 1 - 1e-6)  # (hidden_units,)
            on: Any = keras.ops.log(target / active)
            off: Any = keras.ops.log((1 - target) / (1 - active))
            loss += keras.ops.multiply(self.sparsity_cost, keras.ops.sum(target * on + (1 - target) * off))
        return loss

    def log_partition(
        self, *, chains: int = 100, steps: int = 1000, seed: int | None = None, data: Any = None
    ) -> LogPartition:
        """Estimate log Z, Z = Σ_v exp(-F(v)), by annealed importance sampling in float64.

        The chains start from an RBM with zero weights and pass through `steps` intermediate RBMs to this one. The
        estimate of Z is unbiased. The estimate of log Z tends to be too low, which makes likelihoods look too high.

        Args:
            chains: number of independent runs.
            steps: number of temperatures. 1,000 suit a small RBM; the paper uses 14,500 for 500 hidden units. Increase
                it until the estimate no longer changes: an estimate that is far too low can have a small standard
                error.
            seed: seed of the chains; None draws one.
            data: rows (any number, visible_units) to which the visible biases of the first RBM are fitted; None sets
                these biases to zero. Pass data for all but toy models: for 784 × 500 units trained on MNIST, the
                estimate from 4,000 steps was 67 nats lower without data than with them.

        Raises:
            ValueError: if `chains` or `steps` is less than 1, or `data` does not have this shape, has no row or is not
                finite.
        """
        chains, steps = _size("chains", chains), _size("steps", steps)
        kernel, visible_bias, hidden_bias = self._arrays()
        random = np.random.default_rng(seed)
        bernoulli = self.visible == "bernoulli"
        base = np.zeros(self.visible_units)
        if data is not None:
            data = self._rows(data)
            if not len(data):
                raise ValueError("data has no rows")
            base = data.mean(axis=0)
            if bernoulli:  # log odds, with one extra row of 0.5 so that they are finite
                base = (base * len(data) + 0.5) / (len(data) + 1)
                base = np.log(base) - np.log1p(-base)

        def draw(h, beta):
            mean = (1 - beta) * base + beta * (visible_bias + h @ kernel.T)
            if bernoulli:
                return (random.random(mean.shape) < _sigmoid(mean)).astype(np.float64)
            return mean + random.normal(size=mean.shape)

        def log_weight(v, hidden_inputs, beta):  # unnormalised log-probability of v in the RBM at temperature beta
            if bernoulli:
                visible_term = v @ ((1 - beta) * base + beta * visible_bias)
            else:
                visible_term = -((1 - beta) * ((v - base) ** 2).sum(1) + beta * ((v - visible_bias) ** 2).sum(1)) / 2
            return visible_term + np.logaddexp(0, beta * hidden_inputs).sum(axis=1)

        # The paper uses 500 temperatures from 0 to 0.5, 4,000 from 0.5 to 0.9 and 10,000 from 0.9 to 1.
        betas = np.interp(np.linspace(0, 1, steps + 1), [0, 500 / 14500, 4500 / 14500, 1], [0, 0.5, 0.9, 1])
        v = draw(np.zeros((chains, self.hidden_units)), 0.0)
        total = np.zeros(chains)
        for before, beta in itertools.pairwise(betas):
            hidden_inputs = v @ kernel + hidden_bias
            total += log_weight(v, hidden_inputs, beta) - log_weight(v, hidden_inputs, before)
            h = random.random(hidden_inputs.shape) < _sigmoid(beta * hidden_inputs)
            v = draw(h.astype(np.float64), beta)
        first = np.logaddexp(0, base).sum() if bernoulli else self.visible_units / 2 * np.log(2 * np.pi)
        first += self.hidden_units * np.log(2)

        top = total.max()
        weights = np.exp(total - top)
        mean = weights.mean()
        error = weights.std(ddof=1) / np.sqrt(chains) / mean if chains > 1 else np.inf  # relative to Z
        value = float(first + top + np.log(mean))
        low = value + float(np.log1p(-3 * error)) if 3 * error < 1 else -np.inf
        return LogPartition(value, float(error), low, value + float(np.log1p(3 * error)))

    def log_likelihood(self, v: Any, log_partition: float) -> np.ndarray:
        """Return log P(v) of each row in nats, (batch,) float64; for Gaussian units P is a density.

        Raises:
            ValueError: if the rows do not have `visible_units` finite numbers each, or the units are Bernoulli and a
                value is not 0 or 1: other values have no likelihood.
        """
        kernel, visible_bias, hidden_bias = self._arrays()
        v = self._rows(v)
        if self.visible == "bernoulli" and not np.isin(v, (0, 1)).all():
            raise ValueError("rows must be 0 or 1: other values have no likelihood under Bernoulli units")
        visible_term = v @ visible_bias if self.visible == "bernoulli" else -((v - visible_bias) ** 2).sum(axis=1) / 2
        return visible_term + np.logaddexp(0, v @ kernel + hidden_bias).sum(axis=1) - log_partition

    def get_config(self):
        """Return the configuration for saving."""
        names = ("visible_units", "hidden_units", "visible", "gibbs_steps", "chains", "weight_decay")
        names += ("sparsity_target", "sparsity_cost", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def _hidden_inputs(self, v: Any) -> Any:
        return keras.ops.add(keras.ops.matmul(self._float(v), self.kernel), self.hidden_bias)  # (batch, hidden_units)

    def _free_energy(self, v: Any, hidden_inputs: Any) -> Any:
        if self.visible == "bernoulli":
            visible_term = keras.ops.negative(keras.ops.matmul(v, self.visible_bias))
        else:
            visible_term = keras.ops.multiply(0.5, keras.ops.sum(keras.ops.square(v - self.visible_bias), axis=-1))
        return keras.ops.subtract(visible_term, keras.ops.sum(keras.ops.softplus(hidden_inputs), axis=-1))

    def _rows(self, v: Any) -> np.ndarray:
        v = np.asarray(v, np.float64)
        if v.ndim != 2 or v.shape[1] != self.visible_units or not np.isfinite(v).all():
            raise ValueError(f"rows {v.shape} must be finite numbers, (rows, {self.visible_units})")
        return v

    def _float(self, x: Any) -> Any:
        return keras.ops.cast(keras.ops.convert_to_tensor(x), self.variable_dtype)

    def _arrays(self) -> list[np.ndarray]:
        variables = (self.kernel, self.visible_bias, self.hidden_bias)
        return [np.array(keras.ops.convert_to_numpy(variable), np.float64) for variable in variables]


def stack(
    *, features: int = 784, widths: Sequence[int] = (500, 500), visible: Visible = "bernoulli", **options: Any
) -> list[RBM]:
    """Build the RBMs of a deep belief network from the lowest to the top; each reads the hidden units of the one below.

    Args:
        features: visible units of the lowest RBM.
        widths: hidden units of each RBM.
        visible: kind of visible units of the lowest RBM; the others have Bernoulli units.
        options: arguments of each `RBM`; a seed increases by one per layer.

    Raises:
        ValueError: if `widths` is empty, or for invalid arguments of `RBM`.
    """
    features, widths = _size("features", features), _sizes("widths", widths)
    rbms = []
    for number, (below, above) in enumerate(itertools.pairwise((features, *widths))):
        seed = options.get("seed")
        overrides = {"visible": "bernoulli" if number else visible, "seed": seed if seed is None else seed + number}
        rbms.append(RBM(visible_units=below, hidden_units=above, name=f"rbm_{number + 1}", **options | overrides))
    return rbms


def dbn(
    *,
    features: int = 784,
    outputs: int = 10,
    widths: Sequence[int] = (500, 500),
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    rbms: Sequence[RBM] | RBM | None = None,
    name: str = "dbn",
) -> keras.Model:
    """Build the classifier. Compile it with a classification loss.

    Args:
        features: number of input features.
        outputs: number of classes. With 1, the output is the probability of the positive class, for binary
            cross-entropy.
        widths: sigmoid units of each hidden layer, from the lowest to the top.
        dropout: dropout rate of the hidden layers, in [0, 1).
        input_dropout: dropout rate of the input, in [0, 1).
        rbms: RBMs from `stack`, whose weights initialise the hidden layers; None uses random weights.
        name: model name.

    Raises:
        ValueError: if `widths` is empty, a size is less than 1, a rate is outside [0, 1), or the RBMs do not match the
            sizes of the layers.
    """
    features, outputs, widths = _size("features", features), _size("outputs", outputs), _sizes("widths", widths)
    _share("dropout", dropout)
    _share("input_dropout", input_dropout)
    rbms = [rbms] if isinstance(rbms, RBM) else rbms
    sizes = list(itertools.pairwise((features, *widths)))
    if rbms is not None and sizes != (rbm_sizes := [(rbm.visible_units, rbm.hidden_units) for rbm in rbms]):
        raise ValueError(f"the RBMs have the sizes {rbm_sizes}, the hidden layers {sizes}")

    row = keras.Input((features,), name="row")
    x = row
    if input_dropout:
        x = keras.layers.Dropout(input_dropout, name="input_dropout")(x)
    for number, units in enumerate(widths, 1):
        x = keras.layers.Dense(units, "sigmoid", name=f"hidden_{number}")(x)  # (batch, units)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"hidden_{number}_dropout")(x)
    last = "softmax" if outputs > 1 else "sigmoid"  # a softmax of one number is always 1
    output = keras.layers.Dense(outputs, last, dtype=_exact(), name="output")(x)  # (batch, outputs)
    model = keras.Model(row, output, name=name)
    for number, rbm in enumerate(rbms or (), 1):
        kernel, _, hidden_bias = rbm._arrays()  # copies: on JAX, training would invalidate the RBM's own arrays
        model.get_layer(f"hidden_{number}").set_weights([kernel, hidden_bias])
    return model


def generate(
    rbms: Sequence[RBM] | RBM, count: int, *, steps: int = 1000, seed: int | None = None, start: Any = None
) -> np.ndarray:
    """Draw rows from a deep belief network: Gibbs sampling in the top RBM, then one pass down.

    Args:
        rbms: trained RBMs from `stack`, or a single RBM.
        count: number of rows, each from a separate chain.
        steps: Gibbs steps, at least 1.
        seed: random seed; None draws one.
        start: rows (count, features) that are propagated up to the top RBM to start the chains; None starts from noise.

    Returns:
        Rows (count, features) float32: the means given the layer above, which look cleaner than samples.

    Raises:
        ValueError: if there is no RBM, the sizes of consecutive RBMs do not match, `count` or `steps` is less than 1,
            or `start` has the wrong shape.
    """
    rbms = [rbms] if isinstance(rbms, RBM) else list(rbms)
    if not rbms:
        raise ValueError("rbms is empty: at least one RBM is needed")
    count, steps = _size("count", count), _size("steps", steps)
    for number, (lower, upper) in enumerate(itertools.pairwise(rbms), 1):
        if lower.hidden_units != upper.visible_units:
            raise ValueError(
                f"RBM {number} has {lower.hidden_units} hidden units, the next has {upper.visible_units} visible units"
            )
    *below, top = rbms
    generator = keras.random.SeedGenerator(seed)
    if start is None:
        x = top.sample_visible(keras.ops.full((count, top.visible_units), 0.5), generator)
    else:
        x = top._float(start)
        if tuple(x.shape) != (count, rbms[0].visible_units):
            raise ValueError(f"start has the shape {tuple(x.shape)}, expected {(count, rbms[0].visible_units)}")
        for rbm in below:
            x = rbm.sample_hidden(rbm.hidden_probabilities(x), generator)
    x = top.gibbs(x, steps - 1, generator)
    mean = top.visible_mean(top.sample_hidden(top.hidden_probabilities(x), generator))
    for rbm in reversed(below):
        mean = rbm.visible_mean(rbm.sample_hidden(mean, generator))
    return np.asarray(keras.ops.convert_to_numpy(mean), np.float32)


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


def _share(name: str, share: Any) -> None:
    """Raise ValueError unless `share` is a number in [0, 1)."""
    if not isinstance(share, numbers.Real) or not 0 <= float(share) < 1:
        raise ValueError(f"{name} {share!r} must be at least 0 and below 1")


def _exact() -> str:
    """The dtype of energies and outputs: float64 if the policy is float64, else float32, also in mixed precision."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


def _bernoulli(probabilities: Any, seed: Any) -> Any:
    uniform = keras.random.uniform(keras.ops.shape(probabilities), dtype=probabilities.dtype, seed=seed)
    return keras.ops.cast(keras.ops.less(uniform, probabilities), probabilities.dtype)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2

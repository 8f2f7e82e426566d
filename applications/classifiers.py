"""The image classifiers: settings, recipes and training for each template."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from applications import lazy, run
from data.dataset import BadInput
from data.ranges import Count, NotNegative, Positive, Range, Share, at_least, between

with lazy.imports():
    import keras
    import numpy as np

    from data import batches as batching
    from templates import cnn as cnn_template
    from templates import dbn as dbn_template
    from templates import dsn as dsn_template

LONGEST_STRETCH = 2  # with few labels, a training has up to this many times the epochs
MONITORED = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # shares of the pretraining after which the likelihood is estimated
LARGE_MACHINE, LARGE_MONITORED = 100_000, (0.1, 0.4, 1.0)  # estimates take long for RBMs with this many weights
# During pretraining, the likelihood of held-out rows is estimated less precisely than at the end.
HELD_OUT_CHAINS, HELD_OUT_STEPS, MOST_HELD_OUT = 50, 500, 2_000
LEAST_HELD_OUT, LEAST_EPOCHS = 5, 3  # pictures and epochs; with fewer, every RBM is trained for all its epochs
PREDICTED = 1_024  # pictures at once
COPIES = 5  # of a picture with its shifted copies
MODULE_PATIENCE = 2  # modules without a higher validation accuracy after which stacking ends
FEWEST_STEPS = 4  # in an epoch, with smaller batches if necessary


@run.choices("cnn", "cnn")
class Cnn:
    """Choices of templates/cnn.py."""

    filters: Annotated[tuple[Count, ...], at_least(1)] | None = None
    convolutions: Count
    kernel_size: Count
    activation: Literal["relu", "tanh", "elu", "selu", "gelu", "silu"]
    normalization: Literal["batch", "layer"] | None
    pooling: Literal["max", "average"]
    residual: bool
    dense: tuple[Count, ...]
    dropout: Share
    rotation: Annotated[float, between(0, 0.5)]
    translation: Share
    zoom: Share
    flip: bool


@run.choices("dbn", "dbn", "RBM")
class Dbn:
    """Choices of templates/dbn.py."""

    widths: Annotated[tuple[Count, ...], at_least(1)] | None = None
    visible: Literal["bernoulli", "gaussian"]
    pretrain: bool = True
    """Whether to pretrain the RBMs before the classifier."""
    rbm_epochs: Count | None = None
    """Maximum number of epochs of each RBM's pretraining."""
    rbm_learning_rate: Positive | None = None
    """Learning rate of each RBM's pretraining, by stochastic gradient descent."""
    rbm_momentum: Share = 0.9
    """Momentum of the pretraining."""
    rbm_batch_size: Count | None = None
    """Images in a step of contrastive divergence."""
    gibbs_steps: Count
    chains: Annotated[int, at_least(0)]
    weight_decay: NotNegative | None = None
    sparsity_target: Annotated[float, Range(0, 1, above=True, below=True)] | None
    sparsity_cost: NotNegative
    dropout: Share | None = None
    input_dropout: Share | None = None
    shift: Annotated[float, between(0, 1)] | None = None
    """Pixels, up to 1, by which four copies of each labelled image are shifted in fine-tuning; 0 for none."""


@run.choices("dsn", "module")
class Dsn:
    """Choices of templates/dsn.py."""

    modules: Count | None = None
    """Maximum number of modules; stacking ends when validation accuracy stops rising."""
    hidden_units: Count | None = None
    ridge: Positive | None = None
    kernel_deviation: Positive | None = None
    shift: Annotated[float, between(0, 1)] | None = None
    """Pixels, up to 1, by which four copies of each training image are shifted: up, down, left, right; 0 for none."""


@dataclasses.dataclass(frozen=True)
class Networks:
    """Settings of the networks that classify images."""

    template: Literal["cnn", "dbn", "dsn"] = "cnn"
    """The architecture: convolutional, deep belief or deep stacking network."""
    compare: bool = False
    """Train the other two as well."""
    preset: Literal["small", "medium", "mnist"] | None = None
    """Sizes and recipe. By default small below 16 pixels, mnist (up to an hour) above 20,000 images, else medium."""
    cnn: Cnn = dataclasses.field(default_factory=Cnn)
    """Settings of the convolutional network."""
    dbn: Dbn = dataclasses.field(default_factory=Dbn)
    """Settings of the deep belief network."""
    dsn: Dsn = dataclasses.field(default_factory=Dsn)
    """Settings of the deep stacking network; its batch is the whole training set unless a batch size is given."""


# Defaults of the training settings, by preset and template. "small" and the deep belief network of "medium" were chosen
# on validation pictures of digits and digits-28, the others by small runs, from the literature and, for "mnist", by
# what is possible in an hour on two cores. A batch size of None is the whole training set; epochs are a maximum, for
# deep stacking networks that of each module.
RECIPES: dict[str, dict[str, Any]] = {
    "small cnn": dict(optimizer="adam", learning_rate=3e-3, batch_size=32, epochs=40),
    "small dbn": dict(optimizer="adam", learning_rate=2e-2, batch_size=128, epochs=60),
    "small dsn": dict(optimizer="adam", learning_rate=2e-2, batch_size=None, epochs=20),
    "medium cnn": dict(optimizer="adam", learning_rate=3e-3, batch_size=64, epochs=25),
    "medium dbn": dict(optimizer="adam", learning_rate=3e-3, batch_size=50, epochs=100),
    "medium dsn": dict(optimizer="adam", learning_rate=3e-3, batch_size=None, epochs=30),
    "mnist cnn": dict(optimizer="adam", learning_rate=2e-3, batch_size=128, epochs=22),
    "mnist dbn": dict(optimizer="adam", learning_rate=1e-3, batch_size=128, epochs=8),
    "mnist dsn": dict(optimizer="adam", learning_rate=3e-3, batch_size=10_000, epochs=4),
}
# Defaults of the other settings, by preset.
PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "seeds": 3,
        "cnn": {"filters": (32, 64)},
        "dbn": {
            **{"widths": (256, 256), "rbm_epochs": 100, "rbm_learning_rate": 0.1, "rbm_batch_size": 20},
            **{"weight_decay": 0.0, "dropout": 0.2, "input_dropout": 0.0, "shift": 0.5},
        },
        "dsn": {"hidden_units": 200, "ridge": 0.3, "kernel_deviation": 0.3, "shift": 0.5},
    },
    "medium": {
        "seeds": 3,
        "cnn": {"filters": (32, 64, 128)},
        # Without shifted copies, to show the effect of unlabelled pictures. Copies shifted by a pixel add 1 point, or 3
        # without pretraining (validation pictures of digits-28, 500 labels).
        "dbn": {
            **{"widths": (500, 500), "rbm_epochs": 20, "rbm_learning_rate": 0.05, "rbm_batch_size": 50},
            **{"weight_decay": 2e-4, "dropout": 0.5, "input_dropout": 0.2, "shift": 0.0},
        },
        "dsn": {"hidden_units": 600, "ridge": 5.0, "kernel_deviation": 0.1, "shift": 1.0},
    },
    "mnist": {
        "seeds": 1,
        "cnn": {"filters": (24, 48, 96)},
        "dbn": {
            **{"widths": (1000, 1000), "rbm_epochs": 20, "rbm_learning_rate": 0.05, "rbm_batch_size": 100},
            **{"weight_decay": 2e-4, "dropout": 0.4, "input_dropout": 0.2, "shift": 1.0},
        },
        "dsn": {"hidden_units": 3000, "ridge": 90.0, "kernel_deviation": 0.1, "shift": 1.0},
    },
}
ALWAYS = {"dsn": {"modules": 3}}
QUICK = {"epochs": 2, "seeds": 2, "dbn": {"rbm_epochs": 2}, "dsn": {"modules": 2}}
SMALL_SIDE = 16  # pixels; pictures of a smaller side are small
MEDIUM_PICTURES = 20_000  # the recipe of MNIST is for more


def preset_for(height: int, width: int, number: int) -> str:
    """The preset for a number of training pictures of this size."""
    if number > MEDIUM_PICTURES:
        return "mnist"
    return "small" if min(height, width) < SMALL_SIDE else "medium"


def with_recipe(settings: Any, height: int, width: int, number: int, template: str | None = None) -> Any:
    """The settings with defaults filled in, optionally for another template.

    The default preset depends on the number and size of the training pictures. By default, the convolutional network
    has no more stages than the pictures can be halved.
    """
    preset = settings.preset or preset_for(height, width, number)
    settings = dataclasses.replace(settings, preset=preset, template=template or settings.template)
    of_preset = PRESETS[preset]
    stages = {"cnn": {"filters": of_preset["cnn"]["filters"][: max(1, int(np.log2(min(height, width))))]}}
    quick = QUICK | {"seeds": min(QUICK["seeds"], of_preset["seeds"])} if settings.quick else {}
    return run.filled(settings, quick, stages, of_preset, RECIPES[f"{preset} {settings.template}"], ALWAYS)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures (n, height, width, channels) uint8 and their labels (n,)."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> Pictures:
        return Pictures(self.inputs[rows], self.labels[rows])

    def __add__(self, other: Pictures) -> Pictures:
        return Pictures(np.concatenate([self.inputs, other.inputs]), np.concatenate([self.labels, other.labels]))


@dataclasses.dataclass
class Trained:
    """A trained classifier.

    `model` maps pictures (n, height, width, channels), 0 to 255, to probabilities (n, classes); `length` is the number
    of epochs or modules chosen on validation; `parts` are the template's own models.
    """

    model: Any
    parameters: int
    length: int
    fits: dict[str, run.Fit]
    parts: Any

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """(n, classes) float64."""
        return in_batches(self.model.predict_on_batch, pictures).astype(np.float64)


def in_batches(predict: Any, inputs: np.ndarray) -> Any:
    """Apply a prediction function in batches: returns an array, or a dictionary of arrays."""
    parts = [predict(inputs[i : i + PREDICTED]) for i in range(0, len(inputs), PREDICTED)]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


class Trainer:
    """Common code of the three trainers; all settings must have values."""

    def __init__(self, template: str, settings: Any, this_run: run.Run, classes: int):
        self.choices = getattr(settings, template)
        self.settings = settings
        self.this_run = this_run
        self.classes = classes

    def stretched(self, epochs: int, share: float) -> int:
        """Epochs for a share of the pictures: more for fewer pictures, so that there are enough steps."""
        return max(1, round(epochs * min(1 / share, LONGEST_STRETCH)))

    def batch_size(self, rows: int, wanted: int | None) -> int:
        """Rows in a step; all rows if no number is given."""
        return rows if wanted is None else max(1, min(wanted, rows // FEWEST_STEPS))

    def _fit_classifier(
        self,
        stage: str,
        model: Any,
        take: Callable[[np.ndarray], np.ndarray],
        labels: np.ndarray,
        seed: int,
        epochs: int,
        validation: tuple[np.ndarray, np.ndarray] | None,
    ) -> run.Fit:
        """Compile and fit a classifier; `take` returns its inputs for row indices."""
        batch_size = self.batch_size(len(labels), self.settings.batch_size)
        steps, execution = batching.steps_of(len(labels), batch_size, 1 if keras.backend.backend() == "torch" else 32)
        model.compile(
            run.optimizer(self.settings.optimizer, self.settings.learning_rate, epochs * steps),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=execution,
            jit_compile=run.jit_compile(),
        )

        batches = batching.shuffled_batches(
            lambda order: (take(order), labels[order]), len(labels), batch_size=batch_size, steps=steps, seed=seed
        )
        return self.this_run.fit(stage, model, batches, epochs=epochs, steps=steps, validation=validation)


def _enough(fit: run.Fit, validation: Pictures | None) -> int:
    """Epochs for the final models: the last one within one standard error of the highest validation accuracy.

    As the learning rate falls to 0, the last epochs are the best on average, while with few validation pictures the
    highest accuracy may occur early by chance.
    """
    if validation is None:
        return len(fit.history["loss"])
    accuracy = np.array(fit.history["val_accuracy"])
    error = np.sqrt(accuracy.max() * (1 - accuracy.max()) / len(validation))
    return int(np.flatnonzero(accuracy >= accuracy.max() - error)[-1]) + 1


def _scaled(pictures: np.ndarray) -> np.ndarray:
    return pictures.astype(np.float32) / 255


class CnnTrainer(Trainer):
    """Trains the convolutional network."""

    name = "CNN"

    def train(
        self,
        stage: str,
        labelled: Pictures,
        *,
        seed: int,
        share: float = 1.0,
        unlabelled: np.ndarray | None = None,
        validation: Pictures | None = None,
        length: int | None = None,
        start_weights: Sequence[np.ndarray] | None = None,
    ) -> Trained:
        """Train on labelled pictures: with `validation` to choose the length, or for a given `length`.

        Args:
            stage: name of the training in the run.
            labelled: the pictures.
            seed: determines the weights and the order.
            share: the share of all training pictures in `labelled`.
            unlabelled: all training pictures, for templates that use unlabelled ones.
            validation: pictures on which the length is chosen.
            length: epochs or modules chosen by an earlier training.
            start_weights: of --init-from.
        """
        keras.utils.set_random_seed(seed)
        height, width, channels = labelled.inputs.shape[1:]
        net: Any = cnn_template.cnn(
            height=height,
            width=width,
            channels=channels,
            outputs=self.classes,
            **run.arguments(cnn_template.cnn, self.choices),
        )
        run.start_from(net, start_weights, self.settings, "these images, classes and --cnn settings")
        epochs = self.stretched(length or self.settings.epochs, share)
        held_out = None if validation is None else (_scaled(validation.inputs), validation.labels)
        take = lambda order: _scaled(labelled.inputs[order])  # noqa: E731
        fit = self._fit_classifier(stage, net, take, labelled.labels, seed, epochs, held_out)
        model = _packaged(labelled.inputs.shape[1:], net, flat=False)
        return Trained(model, net.count_params(), _enough(fit, validation), {stage: fit}, net)


class DbnTrainer(Trainer):
    """Trains the deep belief network: the RBMs on all pictures, then the classifier on the labelled ones."""

    name = "DBN"

    def __init__(self, template: str, settings: Any, this_run: run.Run, classes: int):
        super().__init__(template, settings, this_run, classes)
        self.stacks: dict[tuple[int, int], tuple[Any, dict[str, run.Fit]]] = {}
        self.monitored: dict[str, list[Any]] = {}
        # For each RBM, the likelihood of held-out pictures during training, and the chosen number of epochs.
        self.held_out: list[dict[str, Any]] = []
        self.held_out_fits: dict[str, run.Fit] = {}

    def train(
        self,
        stage: str,
        labelled: Pictures,
        *,
        seed: int,
        share: float = 1.0,
        unlabelled: np.ndarray | None = None,
        validation: Pictures | None = None,
        length: int | None = None,
        start_weights: Sequence[np.ndarray] | None = None,
        pretrain: bool | None = None,
    ) -> Trained:
        """See `CnnTrainer.train`; `pretrain` says whether the RBMs are trained first."""
        unlabelled = labelled.inputs if unlabelled is None else unlabelled
        inputs = self._inputs(unlabelled)
        rbms, fits = None, {}
        if (self.choices.pretrain if pretrain is None else pretrain) and start_weights is None:
            rbms, fits = self.stack(unlabelled, seed)
        keras.utils.set_random_seed(seed)
        net: Any = dbn_template.dbn(
            features=int(np.prod(labelled.inputs.shape[1:])),
            outputs=self.classes,
            rbms=rbms,
            **run.arguments(dbn_template.dbn, self.choices),
        )
        run.start_from(net, start_weights, self.settings, "these images, classes and --dbn.widths")
        epochs = self.stretched(length or self.settings.epochs, share)
        rows, labels = with_copies(labelled, self.choices.shift)
        rows = inputs(rows)
        held_out = None if validation is None else (inputs(_scaled(validation.inputs)), validation.labels)
        fit = self._fit_classifier(stage, net, lambda order: rows[order], labels, seed, epochs, held_out)
        model = _packaged(labelled.inputs.shape[1:], net, flat=True, standardise=self._statistics(unlabelled))
        if rbms is not None and validation is not None:
            fits = self.held_out_fits | fits
        return Trained(model, net.count_params(), _enough(fit, validation), fits | {stage: fit}, rbms)

    def stack(self, pictures: np.ndarray, seed: int) -> tuple[Any, dict[str, run.Fit]]:
        """The RBMs trained on these pictures with this seed, cached."""
        key = (len(pictures), seed)
        if key not in self.stacks:
            self.stacks[key] = self._pretrain(pictures, seed)
        return self.stacks[key]

    @property
    def lengths(self) -> list[int]:
        """Epochs of each RBM."""
        return [machine["kept"] for machine in self.held_out] or [self.choices.rbm_epochs] * len(self.choices.widths)

    def _machines(self, features: int, seed: int) -> list[Any]:
        options = run.arguments(dbn_template.RBM, self.choices)
        return dbn_template.stack(features=features, widths=self.choices.widths, seed=seed, **options)

    def _pretrain(self, pictures: np.ndarray, seed: int) -> tuple[Any, dict[str, run.Fit]]:
        enough = len(pictures) >= 5 * LEAST_HELD_OUT and self.choices.rbm_epochs >= LEAST_EPOCHS
        if enough and not self.held_out:
            self._hold_out(pictures, seed)
        inputs: Any = self._inputs(pictures)(_scaled(pictures))
        rbms = self._machines(inputs.shape[1], seed)
        fits = {}
        for number, (rbm, epochs) in enumerate(zip(rbms, self.lengths, strict=True), 1):
            stage = f"rbm-{number}-of-{len(pictures)}-{seed}"

            def keep(end: int, stage: str = stage, rbm: Any = rbm) -> bool:
                self.monitored.setdefault(stage, []).append((end, rbm.get_weights()[:3]))  # without the chains
                return False

            # The likelihood is estimated at some epochs of the first RBM, so its training pauses there.
            first = number == 1
            ends = _monitored_epochs(rbm, epochs) if first else [epochs]
            fits[stage] = self._fit_rbm(stage, rbm, inputs, seed, ends, keep if first else lambda end: False)
            inputs = in_batches(rbm.predict_on_batch, inputs)
        return rbms, fits

    def _hold_out(self, pictures: np.ndarray, seed: int) -> None:
        """Choose the epochs of each RBM: those before the likelihood of held-out pictures falls.

        A fifth of the pictures is held out. Their likelihood falls when an RBM memorises its training pictures, or
        when its chains no longer reach all probable states.
        """
        order = np.random.default_rng(seed).permutation(len(pictures))
        held, rest = np.split(pictures[order], [min(MOST_HELD_OUT, len(pictures) // 5)])
        rows = self._inputs(rest)
        inputs, x = rows(_scaled(rest)), rows(_scaled(held))
        random = np.random.default_rng(0)
        for number, rbm in enumerate(self._machines(inputs.shape[1], seed), 1):
            stage = f"held-out-{number}-of-{len(pictures)}-{seed}"
            # A binary RBM has a likelihood only for binary rows.
            judged = x if rbm.visible == "gaussian" else (random.random(x.shape) < x).astype(np.float64)
            watch = HeldOut()

            def look(
                end: int, stage: str = stage, rbm: Any = rbm, data: Any = inputs, judged: Any = judged, watch=watch
            ) -> bool:
                estimate = self.this_run.stage(f"{stage}-at-{end}", lambda: _likelihood(rbm, data, judged))
                return watch.fell(end, estimate["likelihoods"], float(estimate["error"]), rbm.get_weights())

            most = self.choices.rbm_epochs
            ends = _monitored_epochs(rbm, most)
            self.held_out_fits[stage] = self._fit_rbm(stage, rbm, inputs, seed, ends, look)
            rbm.set_weights(watch.weights)
            self.held_out.append({"kept": watch.kept, "most": most, "points": watch.points})
            name = f"RBM {number} of the {self.name}"
            if watch.kept < most:
                self.this_run.say(
                    f"{name}: the likelihood of held-out images fell after {watch.kept} of {most} epochs, so it is "
                    f"trained for {watch.kept}"
                )
            elif watch.rose:
                self.this_run.at_limit(f"the best epoch of {name}", most, most, "--dbn.rbm-epochs")
            inputs, x = (in_batches(rbm.predict_on_batch, part) for part in (inputs, x))

    def _fit_rbm(
        self, stage: str, rbm: Any, inputs: np.ndarray, seed: int, ends: Sequence[int], look: Callable[[int], bool]
    ) -> run.Fit:
        """Train an RBM up to each of the epochs `ends` in turn, until `look` returns true at one."""
        choices = self.choices
        batch_size = self.batch_size(len(inputs), choices.rbm_batch_size)
        steps, execution = batching.steps_of(len(inputs), batch_size, 1 if keras.backend.backend() == "torch" else 32)
        rbm.compile(
            keras.optimizers.SGD(choices.rbm_learning_rate, momentum=choices.rbm_momentum),
            steps_per_execution=execution,
        )
        batches = batching.shuffled_batches(
            lambda order: (inputs[order],), len(inputs), batch_size=batch_size, steps=steps, seed=seed
        )
        done, parts = 0, []
        for end in ends:
            name = stage if end == ends[-1] else f"{stage}-to-{end}"
            rest = lambda epoch, done=done: batches(done + epoch)  # noqa: E731
            parts.append(self.this_run.fit(name, rbm, rest, epochs=end - done, steps=steps))
            done = end
            if look(end):
                break
        history = {key: [value for part in parts for value in part.history[key]] for key in parts[0].history}
        seconds, examples = sum(part.seconds for part in parts), sum(part.examples for part in parts)
        return run.Fit(history, done, seconds, examples=examples)

    def _statistics(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and deviation (features,) of each pixel for Gaussian units; None for Bernoulli units."""
        if self.choices.visible == "bernoulli":
            return None
        flat = _scaled(pictures).reshape(len(pictures), -1)
        return flat.mean(0), np.maximum(flat.std(0), 0.01)  # a pixel that is always black stays 0

    def _inputs(self, pictures: np.ndarray) -> Any:
        """A function from pictures of 0 to 1 to rows of visible units, given the uint8 training pictures."""
        statistics = self._statistics(pictures)

        def rows(pictures: np.ndarray) -> np.ndarray:
            flat = pictures.reshape(len(pictures), -1)
            return flat if statistics is None else (flat - statistics[0]) / statistics[1]

        return rows


def _monitored_epochs(rbm: Any, epochs: int) -> list[int]:
    """The epochs after which an RBM's likelihood is estimated, including the last one."""
    monitored = LARGE_MONITORED if is_large(rbm.visible_units, rbm.hidden_units) else MONITORED
    return sorted({max(1, round(part * epochs)) for part in monitored})


def _likelihood(rbm: Any, data: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Log-likelihoods of rows in nats, (rows,), and the standard error of the log partition function."""
    steps = HELD_OUT_STEPS * (2 if is_large(rbm.visible_units, rbm.hidden_units) else 1)
    partition = rbm.log_partition(chains=HELD_OUT_CHAINS, steps=steps, seed=0, data=data)
    return {
        "likelihoods": rbm.log_likelihood(rows, partition.value),
        "error": np.array(partition.standard_error),
    }


@dataclasses.dataclass
class HeldOut:
    """The likelihood of held-out rows during training; keeps the last weights that aren't clearly worse than the best.

    "Clearly" means by more than two standard errors, of the difference over the same rows and of both partition
    functions.
    """

    points: list[dict[str, float]] = dataclasses.field(default_factory=list)
    kept: int = 0
    weights: Any = None
    rose: bool = False  # clearly, between the last two estimates
    _best: tuple[np.ndarray, float] | None = None
    _last: tuple[np.ndarray, float] | None = None

    def fell(self, epoch: int, likelihoods: np.ndarray, error: float, weights: Any) -> bool:
        """Record the likelihoods (rows,) after an epoch; true if they are clearly lower than the best so far."""
        current = (likelihoods, error)
        self.points.append({"epoch": epoch, "log_likelihood": float(likelihoods.mean())})
        if self._best is not None and _clearly_lower(current, self._best):
            return True
        self.rose = self._last is not None and _clearly_lower(self._last, current)
        self.kept, self.weights, self._last = epoch, weights, current
        if self._best is None or likelihoods.mean() > self._best[0].mean():
            self._best = current
        return False


def _clearly_lower(one: tuple[np.ndarray, float], other: tuple[np.ndarray, float]) -> bool:
    difference = one[0] - other[0]
    error = np.sqrt(difference.var(ddof=1) / len(difference) + one[1] ** 2 + other[1] ** 2)
    return bool(difference.mean() + 2 * error < 0)


def is_large(visible_units: int, hidden_units: int) -> bool:
    """Whether an RBM is so large that its likelihood takes long to estimate."""
    return visible_units * hidden_units > LARGE_MACHINE


class DsnTrainer(Trainer):
    """Trains the deep stacking network, module by module."""

    name = "DSN"

    def __init__(self, template: str, settings: Any, this_run: run.Run, classes: int):
        super().__init__(template, settings, this_run, classes)
        self.temperature = 1.0

    def train(
        self,
        stage: str,
        labelled: Pictures,
        *,
        seed: int,
        share: float = 1.0,
        unlabelled: np.ndarray | None = None,
        validation: Pictures | None = None,
        length: int | None = None,
        start_weights: Sequence[np.ndarray] | None = None,
    ) -> Trained:
        """See `CnnTrainer.train`; `length` counts modules, and the temperature is fitted on `validation`, too."""
        if start_weights is not None:
            raise BadInput(
                "found --init-from for a deep stacking network, whose output is solved for, expected cnn or dbn"
            )
        choices = self.choices
        keras.utils.set_random_seed(seed)
        copies, labels = with_copies(labelled, choices.shift)
        inputs = copies.reshape(len(copies), -1)
        targets = np.eye(self.classes, dtype=np.float32)[labels]
        held_out = None if validation is None else _scaled(validation.inputs).reshape(len(validation), -1)
        modules, fits, accuracies = [], {}, []
        x, x_held_out = inputs, held_out
        for number in range(1, (length or choices.modules) + 1):
            module = dsn_template.module(
                features=x.shape[1],
                outputs=self.classes,
                hidden_units=choices.hidden_units,
                ridge=choices.ridge * self.batch_size(len(x), self.settings.batch_size) / len(x),  # for a batch
                kernel_deviation=choices.kernel_deviation,
            )
            fits[name] = self._fit_module(name := f"{stage}-module-{number}", module, x, targets, seed)
            module.get_layer("output").ridge = choices.ridge
            rows = range(0, len(x), PREDICTED)
            dsn_template.solve(module, ((x[i : i + PREDICTED], targets[i : i + PREDICTED]) for i in rows))
            modules.append(module)
            x = np.concatenate([x, in_batches(module.predict_on_batch, x)], axis=1)
            if validation is not None and x_held_out is not None:
                scores = in_batches(module.predict_on_batch, x_held_out)
                x_held_out = np.concatenate([x_held_out, scores], axis=1)
                accuracies.append(float((scores.argmax(1) == validation.labels).mean()))
                if len(accuracies) - _best(accuracies) >= MODULE_PATIENCE:
                    break
        if validation is not None and x_held_out is not None:
            modules = modules[: _best(accuracies)]
            first = inputs.shape[1] + (len(modules) - 1) * self.classes  # after the pixels and earlier modules
            scores = x_held_out[:, first : first + self.classes]
            self.temperature = dsn_template.fit_temperature(scores, np.eye(self.classes)[validation.labels])
        net: Any = dsn_template.assemble(modules)
        classifier = dsn_template.classifier(net, temperature=self.temperature)
        model = _packaged(labelled.inputs.shape[1:], classifier, flat=True)
        return Trained(model, net.count_params(), len(modules), fits, net)

    def _fit_module(self, name: str, module: Any, x: np.ndarray, targets: np.ndarray, seed: int) -> run.Fit:
        batch_size = self.batch_size(len(x), self.settings.batch_size)
        steps = len(x) // batch_size
        epochs = self.settings.epochs
        module.compile(
            run.optimizer(self.settings.optimizer, self.settings.learning_rate, epochs * steps),
            jit_compile=run.jit_compile(),
        )

        batches = batching.shuffled_batches(
            lambda order: (x[order], targets[order]), len(x), batch_size=batch_size, steps=steps, seed=seed
        )
        return self.this_run.fit(name, module, batches, epochs=epochs, steps=steps)


def _best(accuracies: Sequence[float]) -> int:
    """The number, from 1, of the module with the highest accuracy, the last of several."""
    return max(range(1, len(accuracies) + 1), key=lambda number: (accuracies[number - 1], number))


def with_copies(pictures: Pictures, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of 0 to 1 and their labels, then four copies shifted by a distance of up to 1 pixel; 0 for no copies.

    Brightness is interpolated linearly; pixels shifted in at the edge are black.
    """
    copies = [scaled := _scaled(pictures.inputs)]
    for axis, step in itertools.product((1, 2), (-1, 1)) if distance else ():
        moved = np.roll(scaled, step, axis)
        edge: list[Any] = [slice(None)] * scaled.ndim
        edge[axis] = 0 if step == 1 else -1
        moved[tuple(edge)] = 0
        copies.append((1 - distance) * scaled + distance * moved)
    return np.concatenate(copies).astype(np.float32, copy=False), np.tile(pictures.labels, len(copies))


TRAINERS: Mapping[str, Any] = {"cnn": CnnTrainer, "dbn": DbnTrainer, "dsn": DsnTrainer}


def _packaged(
    shape: Sequence[int], net: Any, *, flat: bool, standardise: tuple[np.ndarray, np.ndarray] | None = None
) -> keras.Model:
    """The model of pictures of 0 to 255, to be saved."""
    pictures = keras.Input(tuple(shape), name="pictures")
    x = keras.layers.Rescaling(1 / 255, name="scale")(pictures)
    if flat:
        x = keras.layers.Flatten(name="flatten")(x)
    if standardise:
        mean, deviation = standardise
        x = keras.layers.Normalization(mean=mean, variance=deviation**2, name="standardise")(x)
    return keras.Model(pictures, net(x), name=f"{net.name}_of_pictures")

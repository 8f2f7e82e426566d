"""The networks of the synthesis application: the judge of pictures and the generator, and their training."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from applications import classifiers, lazy, run
from applications.classifiers import Pictures
from data.dataset import BadInput
from data.ranges import Count, Share, at_least

with lazy.imports():
    import keras
    import numpy as np
    from sklearn import decomposition

    from data import batches as batching
    from reports import synthesis as measured
    from templates import gan as template

NAMES = {"gan": "GAN", "conditional_gan": "conditional GAN"}
ROUNDS = 12  # parts of a training, after each of which samples are measured
JUDGED = 2_000  # pictures measured after each round, at most
JUDGES_PICTURES = 5_000  # training pictures of the judge, at most
COMPONENTS, MOST_COMPONENTS = "principal_components", 64  # the features of pictures without classes
LEAST_TESTED = 2  # pictures to compare with, needed for a covariance
MOMENTS = (1, 3, 6)  # rounds whose samples are shown, besides the best
SHOWN = 10  # pictures of a moment, of a class, of an interpolation
COLLAPSED = 0.01  # recall of the training pictures below which training stops after half of the rounds


@run.choices("gan", "generator", "discriminator", "GAN")
class Gan:
    """Choices of templates/gan.py."""

    latent: Count
    generator_filters: Annotated[tuple[Count, ...], at_least(1)] = (64, 64)
    discriminator_filters: Annotated[tuple[Count, ...], at_least(1)] = (64, 64)
    upsampling: Literal["resize", "transposed"]
    normalization: Literal["batch", "layer"] | None
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"]
    discriminator_activation: Literal["leaky_relu", "relu", "elu", "gelu", "silu", "tanh"]
    spectral_normalization: bool
    dropout: Share
    label_input: Literal["projection", "plane"]
    loss: Literal["hinge", "non_saturating", "least_squares", "wasserstein"]
    label_smoothing: Share
    average_decay: Share
    augmentation: tuple[Literal["translation", "cutout", "color"], ...]


# Total number of pictures seen in a training, and defaults of the settings by preset and template.
PICTURES = {"short": 90_000, "long": 539_000}
RECIPES = {
    "short conditional_gan": dict(learning_rate=5e-4, discriminator_learning_rate_ratio=4.0),
    "short gan": dict(learning_rate=1e-3, discriminator_learning_rate_ratio=1.0),
    "long conditional_gan": dict(learning_rate=2e-4, discriminator_learning_rate_ratio=4.0),
    "long gan": dict(learning_rate=5e-4, discriminator_learning_rate_ratio=1.0),
}
ALWAYS = {"optimizer": "adam", "batch_size": 32, "seeds": 3}
QUICK = {"epochs": 2, "seeds": 2}


def with_recipe(settings: Any, pictures: int) -> Any:
    """The settings with defaults filled in, for a number of training pictures."""
    sizes = {
        "epochs": max(1, round(PICTURES[settings.preset] / pictures)),
        "batch_size": min(ALWAYS["batch_size"], pictures),
    }
    recipe = RECIPES[f"{settings.preset} {settings.template}"]
    return run.filled(settings, QUICK if settings.quick else {}, sizes, recipe, ALWAYS)


def scaled(pictures: np.ndarray) -> np.ndarray:
    """Scale 0 to 255 to 0 to 1, float32."""
    return pictures.astype(np.float32) / 255


def unscaled(pictures: np.ndarray) -> np.ndarray:
    """Scale 0 to 1 to 0 to 255, uint8."""
    return np.round(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


# --- The judge ---


class Judge:
    """A network trained on real pictures that computes the features for comparing pictures.

    With classes, it is a classifier whose last hidden layer gives the features. Without classes, the features are the
    first principal components.

    Args:
        net: of templates/cnn.py or of `components`, from pictures of 0 to 1.
    """

    def __init__(self, net: Any):
        self.net = net
        self.knows_classes = not _has_layer(net, COMPONENTS)
        outputs = {"features": net.output}
        if self.knows_classes:
            outputs = {"features": net.get_layer("dense_1").output, "probabilities": net.output}
        self._all = keras.Model(net.input, outputs)

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, features) and probabilities (n, classes) of pictures (n, height, width, channels) of 0 to 1.

        Without classes, probabilities are ones, (n, 1).
        """
        outputs = classifiers.in_batches(self._all.predict_on_batch, pictures)
        probabilities = outputs.get("probabilities", np.ones((len(pictures), 1)))
        return outputs["features"].astype(np.float64), probabilities.astype(np.float64)

    def accuracy(self, real: Pictures) -> float:
        """Accuracy on real pictures."""
        return float((self(scaled(real.inputs))[1].argmax(1) == real.labels).mean())


def check_judge(net: Any) -> None:
    """Raise ValueError if a network can't be used in a `Judge`."""
    if not _has_layer(net, COMPONENTS):
        net.get_layer("dense_1")


def _has_layer(net: Any, name: str) -> bool:
    return any(layer.name == name for layer in net.layers)


def components(pictures: Pictures) -> tuple[keras.Model, float]:
    """The first principal components of pictures as a network, and their share of the variance.

    Chosen on digits and digits-28, where the Fréchet distance in them grows with the distortion of real pictures (blur,
    noise, mixtures), and is larger for other kinds of pictures. In the features of a network trained to predict
    rotations, a GAN's pictures were nearer than the real pictures it was trained on.
    """
    some = np.sort(np.random.default_rng(0).permutation(len(pictures))[:JUDGES_PICTURES])
    flat = scaled(pictures.inputs[some]).reshape(len(some), -1)
    pca: Any = decomposition.PCA(
        min(MOST_COMPONENTS, len(flat) - 1, flat.shape[1]), svd_solver="full", random_state=0
    ).fit(flat)
    inputs = keras.Input(pictures.inputs.shape[1:], name="pictures")
    flattened = keras.layers.Flatten(name="flatten")(inputs)
    # Always float32, as the features are used for measures.
    layer = keras.layers.Dense(pca.n_components_, dtype="float32", name=COMPONENTS)
    net = keras.Model(inputs, layer(flattened), name="judge")
    layer.set_weights([pca.components_.T, -pca.components_ @ pca.mean_])
    return net, float(pca.explained_variance_ratio_.sum())


@dataclasses.dataclass(frozen=True)
class Classifier(run.Training, classifiers.Networks):
    """The settings of a classifier."""


def settings_for(pictures: np.ndarray, **given: Any) -> Any:
    """The settings of a classifier for pictures of this number and size."""
    number, height, width = pictures.shape[:3]
    return classifiers.with_recipe(Classifier(**given), height, width, number)


def train_classifier(this_run: run.Run, stage: str, pictures: Pictures, settings: Any, classes: int, seed: int) -> Any:
    """Train a convolutional classifier on at most JUDGES_PICTURES of the pictures; returns it and its `Fit`."""
    pictures = pictures[np.sort(np.random.default_rng(seed).permutation(len(pictures))[:JUDGES_PICTURES])]
    own = settings_for(pictures.inputs, quick=settings.quick)
    trainer = classifiers.CnnTrainer("cnn", own, this_run, classes)
    trained = trainer.train(stage, pictures, seed=seed)
    return trained.parts, trained.fits[stage]


# --- The generator ---


@dataclasses.dataclass
class Artist:
    """A GAN and the names of its classes."""

    model: Any
    classes: tuple[str, ...]

    @property
    def conditional(self) -> bool:
        """Whether it can generate pictures of a given class."""
        return len(self.model.generator.inputs) > 1

    def draw(self, labels: np.ndarray, *, seed: int, noise: np.ndarray | None = None) -> np.ndarray:
        """Generate pictures (n, height, width, channels) of 0 to 1, of these classes if it is conditional."""
        given = labels if self.conditional else None
        return template.generate(self.model, len(labels), labels=given, noise=noise, seed=seed)


def load(path: Path) -> Artist:
    """Load a model that a run saved.

    Raises:
        BadInput: There is none.
    """
    model = run.load_model(path, lambda model: model.average.get_layer("picture"))
    notes = run.model_notes(path)
    if "classes" not in notes:
        raise BadInput(f"{path}: found a model without the names of its classes, expected one of this program")
    return Artist(model, tuple(notes["classes"]))


class Trainer:
    """A GAN that is trained on pictures."""

    def __init__(self, settings: Any, seed: int, pool: Pictures, classes: tuple[str, ...], judge: Judge, start: Any):
        self.settings, self.seed, self.pool, self.judge = settings, seed, pool, judge
        self.stage = f"{settings.template}-{seed}"
        choices: Gan = settings.gan
        keras.utils.set_random_seed(seed)
        height, width, channels = pool.inputs.shape[1:]
        conditional = settings.template == "conditional_gan"
        common: dict[str, Any] = {"height": height, "width": width, "channels": channels}
        common["classes"] = len(classes) if conditional else None
        model = template.GAN(
            template.generator(
                **common,
                **run.arguments(template.generator, choices),
            ),
            template.discriminator(**common, **run.arguments(template.discriminator, choices)),
            **run.arguments(template.GAN, choices),
            seed=seed,
        )
        run.start_from(model, start and start.get_weights(), settings, "these images, classes and --gan settings")
        self.artist = Artist(model, classes)
        self.batch_size = min(settings.batch_size, len(pool))
        seen = len(pool) * settings.epochs
        self.rounds = min(2 if settings.quick else ROUNDS, seen // self.batch_size)
        rows = seen // self.rounds  # in a round
        self.steps, execution = batching.steps_of(
            rows, self.batch_size, 1 if keras.backend.backend() == "torch" else 32
        )
        total = self.steps * self.rounds
        rate, ratio = settings.learning_rate, settings.discriminator_learning_rate_ratio
        # No momentum, as in Miyato et al. 2018: each network responds to the other's latest step.
        options = {"beta_1": 0.0, "beta_2": 0.9} if settings.optimizer in ("adam", "adamw") else {}
        model.compile(
            template.separate_optimizers(
                model,
                generator=run.optimizer(settings.optimizer, rate, total, **options),
                discriminator=run.optimizer(settings.optimizer, rate * ratio, total, **options),
            ),
            steps_per_execution=execution,
            jit_compile=run.jit_compile(),
        )

    def fit(self, this_run: run.Run, moments: np.ndarray | None = None) -> run.Fit:
        """Train, and keep the weights of the round whose samples are nearest to the training pictures.

        Args:
            this_run: stores the checkpoints.
            moments: noise (n, latent) whose pictures are stored after some rounds; see `moment`.
        """
        pictures = scaled(self.pool.inputs)
        rows = np.random.default_rng(0).permutation(len(self.pool))[:JUDGED]
        real, labels = self.judge(pictures[rows])[0], self.pool.labels[rows]

        def take(rows: np.ndarray) -> tuple[Any]:
            return ((pictures[rows], self.pool.labels[rows]) if self.artist.conditional else pictures[rows],)

        def judge(rounds: int) -> Mapping[str, float]:
            if moments is not None and rounds in MOMENTS:
                self.moment(this_run, rounds, moments)
            drawn = self.judge(self.artist.draw(labels, seed=0))[0]
            measures = {
                "frechet_distance": measured.frechet_distance(real, drawn),
                "recall": float(measured.within(real, drawn).mean()),
            }
            if rounds > self.rounds // 2 and measures["recall"] < COLLAPSED:
                self.artist.model.stop_training = True
            return measures

        return this_run.fit(
            self.stage,
            self.artist.model,
            _rounds(take, len(self.pool), batch_size=self.batch_size, steps=self.steps, seed=self.seed),
            epochs=self.rounds,
            steps=self.steps,
            after_epoch=judge,
        )

    def moment(self, this_run: run.Run, rounds: int, noise: np.ndarray) -> np.ndarray:
        """The pictures generated from this noise after a round, stored in the run."""
        labels = np.arange(len(noise)) % len(self.artist.classes)
        draw = functools.partial(self.artist.draw, labels, seed=0, noise=noise)
        return this_run.stage(f"moment-{rounds}", lambda: {"pictures": draw()})["pictures"]


def _rounds(take: Callable[[np.ndarray], Any], rows: int, *, batch_size: int, steps: int, seed: int) -> batching.Epochs:
    """`shuffled_batches` for rounds, which may have any number of steps."""
    in_order = rows // batch_size
    orders = -(-steps // in_order)  # in a round
    batches = batching.shuffled_batches(take, rows, batch_size=batch_size, steps=in_order, seed=seed)

    def of_round(number: int) -> Iterator[Any]:
        in_turn = map(batches, range(number * orders, (number + 1) * orders))
        return itertools.islice(itertools.chain.from_iterable(in_turn), steps)

    return of_round


def check_pictures(pool: Pictures, tested: int, classes: tuple[str, ...], settings: Any) -> None:
    """Raise BadInput if pictures don't fill a batch, a class has none, or there are too few to compare with."""
    if len(pool) < settings.batch_size:
        raise BadInput(
            f"--batch-size: found {settings.batch_size} with {len(pool)} training images, expected at most as many"
        )
    missing = [name for label, name in enumerate(classes) if not (pool.labels == label).any()]
    if missing:
        raise BadInput(f"found no training image of the class {missing[0]!r}, expected one or more of each")
    if min(len(pool), tested) < LEAST_TESTED:
        raise BadInput(
            f"found {len(pool)} training image{'s' * (len(pool) != 1)} and {tested} to compare with, expected "
            f"{LEAST_TESTED} or more of each"
        )

"""The evaluation of the synthesis application: generated against real pictures, baselines, and figures."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from applications import classifiers, run
from applications.classifiers import Pictures
from applications.synthesis import models
from applications.synthesis.models import Artist, Judge
from data.dataset import Dataset
from reports import figures
from reports import metrics as schema
from reports.metrics import percent, span
from reports.synthesis import frechet_distance, nearest, within
from templates import dbn as dbn_template

MOST_PICTURES = 5_000  # to measure
BANDWIDTH_PICTURES = 5_000  # for choosing the bandwidth of the kernel density, which is then fitted on all pictures
KDE_COMPONENTS, MIXTURE_COMPONENTS, MIXTURE_MODES = 15, 40, 30
BANDWIDTHS = np.logspace(-1.5, 0.5, 15)  # of the kernels, in units of a pixel's range
GIBBS_STEPS = 1_000
COPIED = 0.01  # quantile of the real test pictures' distances to training pictures, below which a picture is a copy
# Titles of the measures.
MEASURES = {
    "frechet_distance": "Fréchet distance",
    "precision": "Precision",
    "recall": "Recall",
    "copied": "Near-copies",
    "rarest": "Rarest class",
    "conditional_accuracy": "Conditional accuracy",
    "classification_accuracy": "Classification accuracy",
}
UNBOUNDED = ("frechet_distance", "rarest")  # the other measures are shares
SHOWN = {
    "Fréchet distance": ("frechet_distance", 1),
    "precision [%]": ("precision", 100),
    "recall [%]": ("recall", 100),
}
FOUND, PATHS = 8, 5  # nearest neighbours and interpolations to show


# --- The schema of this application's metrics.json ---


class Data(schema.Data):
    """Images of each split, their classes, and their shape (height, width, channels)."""

    classes: list[str]
    shape: list[int]
    train: int
    validation: int
    test: int


class Evaluation(schema.Evaluation):
    """The titles of the measures, and the judge; without classes, `variance` is the share in its components.

    The intervals are Student's over the trainings; nothing is resampled.
    """

    measures: dict[str, str]
    pictures: int
    learnt_from: int
    judge_accuracy: float | None
    majority: float | None
    judge_seconds: float | None
    judge_pictures: int
    features: int
    variance: float | None
    copied: float
    threshold: float


class Result(schema.Result):
    """A model with the mean time of a training and its chosen settings."""

    fit_seconds: float
    settings: str


class Training(TypedDict):
    """A training: its planned and finished rounds, the best of them (from 1), and how it ended."""

    seed: int
    rounds: int
    done: int
    best: int
    diverged: bool
    collapsed: bool
    seconds: float


class Classes(TypedDict):
    """For each class, how often its images are recognised, None if none was generated, and its share of all images."""

    recognised: list[float | None]
    share: list[float]
    real_share: list[float]


class Model(TypedDict):
    """The layers of both networks as name, shape and parameters."""

    layers: list[list[Any]]
    discriminator_layers: list[list[Any]]


class Metrics(schema.Metrics):
    """metrics.json of this application."""

    data: Data
    evaluation: Evaluation
    results: list[Result]
    real: dict[str, float]
    training: list[Training]
    by_class: Classes | None
    model: Model


# --- The task ---


def likeness(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """The measures of generated pictures that are computed from features, (pictures, features) each."""
    return {
        "frechet_distance": frechet_distance(real, generated),
        "precision": float(within(generated, real).mean()),
        "recall": float(within(real, generated).mean()),
    }


@dataclasses.dataclass(frozen=True)
class Task:
    """Real pictures with their features.

    `pool` are the training pictures, `test` those to compare samples with, `known` an equal number from the pool;
    `features` are the judge's features of the test pictures; `threshold` is the pixel distance within which a picture
    counts as a copy.
    """

    judge: Judge
    pool: Pictures
    test: Pictures
    known: Pictures
    features: np.ndarray
    threshold: float

    @classmethod
    def of(cls, judge: Judge, pool: Pictures, test: Pictures) -> "Task":
        """Choose equal numbers of test and training pictures, as the measures depend on the numbers."""
        count = min(len(pool), len(test), MOST_PICTURES)
        test, known = (part[np.linspace(0, len(part) - 1, count).astype(int)] for part in (test, pool))
        distances = nearest(models.scaled(test.inputs), models.scaled(pool.inputs))[0]
        features = judge(models.scaled(test.inputs))[0]
        return cls(judge, pool, test, known, features, float(np.quantile(distances, COPIED)))

    def measures(self, pictures: np.ndarray, labels: np.ndarray | None = None) -> dict[str, float]:
        """All measures of generated pictures (n, height, width, channels) of 0 to 1; `labels` are their classes.

        "copied" is the share of near-copies of training pictures; "rarest", if there are classes, is the frequency of
        the rarest class relative to its frequency among real pictures.
        """
        features, probabilities = self.judge(pictures)
        recognised = probabilities.argmax(1)
        classes = probabilities.shape[1]
        copied = nearest(pictures, models.scaled(self.pool.inputs))[0] <= self.threshold
        measured = likeness(self.features, features) | {"copied": float(copied.mean())}
        if self.judge.knows_classes:
            shares = [np.bincount(each, minlength=classes) / len(each) for each in (recognised, self.test.labels)]
            measured["rarest"] = float((shares[0] / np.maximum(shares[1], 1e-12))[shares[1] > 0].min())
        if labels is not None:
            measured["conditional_accuracy"] = float((recognised == labels).mean())
        return measured


# --- Baselines ---


def baselines(
    this_run: run.Run, task: Task, settings: Any, dataset: Dataset
) -> dict[str, tuple[list[np.ndarray], float, str, int]]:
    """Samples of each baseline for each seed, and its seconds of training, settings and parameters.

    They are trained on the same pictures as the network.
    """
    pictures = models.scaled(task.pool.inputs)
    flat, shape, count = pictures.reshape(len(pictures), -1), pictures.shape[1:], len(task.test)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    results = {}

    def keep(name: str, space: PCA, sample: Any, began: float, chosen: str, parameters: int) -> None:
        drawn = [np.clip(space.inverse_transform(sample(seed)), 0, 1) for seed in seeds]
        pictures = [each.reshape(-1, *shape).astype(np.float32) for each in drawn]
        results[name] = pictures, time.perf_counter() - began, chosen, parameters

    began = time.perf_counter()
    space = PCA(min(KDE_COMPONENTS, *flat.shape), random_state=0).fit(flat)
    inside = space.transform(flat)
    some = np.sort(np.random.default_rng(0).permutation(len(flat))[:BANDWIDTH_PICTURES])
    folds = min(5, len(some))
    search = GridSearchCV(KernelDensity(), {"bandwidth": BANDWIDTHS}, cv=folds).fit(inside[some])
    kernels = KernelDensity(bandwidth=search.best_params_["bandwidth"]).fit(inside)
    this_run.at_end("the bandwidth of the kernel density", float(kernels.bandwidth), BANDWIDTHS.tolist())
    chosen = f"bandwidth {kernels.bandwidth:.2g} in {space.n_components_} principal components, by cross-validation"
    keep("kernel density", space, lambda seed: kernels.sample(count, random_state=seed), began, chosen, 0)

    began = time.perf_counter()
    space = PCA(min(MIXTURE_COMPONENTS, *flat.shape), random_state=0).fit(flat)
    modes = max(1, min(MIXTURE_MODES, len(flat) // 10))
    inside = space.transform(flat).astype(np.float64)  # float32 covariances are not symmetric enough to sample from
    mixture = GaussianMixture(modes, reg_covar=1e-3, random_state=0).fit(inside)

    def draw(seed: int) -> np.ndarray:
        mixture.set_params(random_state=seed)
        return mixture.sample(count)[0]

    chosen = f"{modes} full covariances in {space.n_components_} principal components"
    size = modes * (1 + space.n_components_ * (space.n_components_ + 3) // 2)
    keep("Gaussian mixture", space, draw, began, chosen, int(size))

    own = models.settings_for(pictures, template="dbn", quick=settings.quick)
    trainer = classifiers.DbnTrainer("dbn", own, this_run, len(dataset.classes))
    rbms, fits = trainer.stack(task.pool.inputs, settings.seed)
    steps = 20 if settings.quick else GIBBS_STEPS
    drawn = [dbn_template.generate(rbms, count, steps=steps, seed=seed).reshape(-1, *shape) for seed in seeds]
    epochs = " and ".join(map(str, sorted(set(trainer.lengths))))
    chosen = f"{' and '.join(map(str, own.dbn.widths))} hidden units, {epochs} epochs each"
    seconds = sum(fit.seconds for fit in fits.values())
    results["deep belief network"] = drawn, seconds, chosen, sum(int(rbm.count_params()) for rbm in rbms)
    return results


# --- Measures ---


def over_seeds(values: Sequence[float], most: float = np.inf) -> schema.Measure:
    """Mean over trainings and its Student 95 % interval, of width 0 for one training, clipped to 0 and `most`."""
    mean, deviation, reach = float(np.mean(values)), 0.0, 0.0
    if len(values) > 1:
        deviation = float(np.std(values, ddof=1))
        reach = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / np.sqrt(len(values))
    low, high = max(0.0, mean - reach), min(most, mean + reach)
    return {"value": mean, "low": low, "high": high, "seeds": list(map(float, values)), "deviation": deviation}


def result(
    model: str,
    of_seeds: Sequence[Mapping[str, float]],
    *,
    baseline: bool,
    uses_labels: bool,
    parameters: int,
    fit_seconds: float,
    settings: str,
) -> Result:
    """A model's entry in the results."""
    bounds = {name: np.inf if name in UNBOUNDED else 1.0 for name in of_seeds[0]}
    return {
        "model": model,
        "baseline": baseline,
        "uses_labels": uses_labels,
        "parameters": parameters,
        "fit_seconds": fit_seconds,
        "settings": settings,
        "metrics": {name: over_seeds([measures[name] for measures in of_seeds], most) for name, most in bounds.items()},
    }


def nearer(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """By how much one model's Fréchet distance is less than another's, and Welch's 95 % interval over seeds, if any."""
    first, second = (model["metrics"]["frechet_distance"] for model in (other, own))
    difference = {
        "better": own["model"],
        "worse": other["model"],
        "measure": "frechet_distance",
        "value": first["value"] - second["value"],
    }
    if len(first["seeds"]) < 2 or not first["deviation"] + second["deviation"]:
        return difference | {"low": None, "high": None}
    interval = stats.ttest_ind(first["seeds"], second["seeds"], equal_var=False).confidence_interval(0.95)
    return difference | {"low": float(interval.low), "high": float(interval.high)}


def by_class(task: Task, samples: Sequence[np.ndarray], labels: np.ndarray | None) -> dict[str, list[Any]] | None:
    """For each class, how often its samples are recognised, and its share of all samples; None without classes.

    No samples are generated for a class without test pictures: how often it is recognised is None.
    """
    if not task.judge.knows_classes:
        return None
    seen = np.concatenate([task.judge(pictures)[1].argmax(1) for pictures in samples])
    classes = range(task.judge.net.output_shape[-1])
    recognised = []
    if labels is not None:
        requested = np.tile(labels, len(samples))
        of_class = [seen[requested == c] == c for c in classes]
        recognised = [float(right.mean()) if len(right) else None for right in of_class]
    return {
        "recognised": recognised,
        "share": [float((seen == c).mean()) for c in classes],
        "real_share": [float((task.test.labels == c).mean()) for c in classes],
    }


# --- Figures ---


def draw(
    this_run: run.Run,
    task: Task,
    metrics: Mapping[str, Any],
    artist: Artist,
    moments: Mapping[str, np.ndarray],
    fits: Mapping[str, run.Fit],
) -> dict[str, Any]:
    """Write the figures; returns their entries in metrics.json."""
    names, model, results = metrics["data"]["classes"], metrics["headline"]["model"], metrics["results"]
    rows = min(len(names), 10) if artist.conditional else 5
    grid = artist.draw(np.repeat(np.arange(rows), models.SHOWN) % len(names), seed=1)
    row_names = names[:rows] if artist.conditional else None
    drawn = {
        "samples": (
            figures.pictures(grid, [""] * len(grid), columns=models.SHOWN, row_names=row_names),
            f"Images generated by the {model}, in rows of ten",
        ),
        "interpolations": (
            figures.pictures(interpolations(artist), [""] * (PATHS * models.SHOWN), columns=models.SHOWN),
            "Interpolations between images, one per row",
        ),
        "copies": (
            _neighbours(task, grid[:: max(1, len(grid) // FOUND)][:FOUND]),
            "Samples, each above its nearest training image",
        ),
        "moments": (
            figures.pictures(
                np.concatenate(list(moments.values())),
                [""] * sum(map(len, moments.values())),
                columns=models.SHOWN,
                row_names=list(moments),
            ),
            "Images from the same noise at several points in training, one row each",
        ),
        "measures": (
            figures.interval_dots(
                {
                    entry["model"]: {title: span(entry["metrics"][key], scale) for title, (key, scale) in SHOWN.items()}
                    for entry in results
                },
                higher_is_better={title: scale > 1 for title, (_, scale) in SHOWN.items()},
            ),
            "Fréchet distance, precision and recall of all models: " + "; ".join(map(_in_words, results)),
        ),
        "network": (
            figures.network(metrics["model"]["layers"]),
            "Generator layers: " + ", ".join(f"{name} {size:,}" for name, _, size in metrics["model"]["layers"]),
        ),
    }
    if max(of_seed["done"] for of_seed in metrics["training"]) > 1:  # a single point isn't a curve
        of_round = metrics["settings"]["epochs"] / metrics["training"][0]["rounds"]
        best = ", ".join(epochs_in_words(of_seed["best"] * of_round) for of_seed in metrics["training"])
        drawn["training"] = (
            figures.series(_curves(metrics, fits), x_label="epoch"),
            "Fréchet distance from the training images, recall and both losses by epoch; smallest distance "
            f"after epochs {best}",
        )
    return {"figures": this_run.draw(drawn)}


def epochs_in_words(number: float) -> str:
    """A number of epochs, with a fraction if there are few."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _in_words(result: Mapping[str, Any]) -> str:
    distance, precision, recall = (result["metrics"][key]["value"] for key, _ in SHOWN.values())
    return f"{result['model']} {distance:,.2f}, {percent(precision)}, {percent(recall)}"


def interpolations(artist: Artist) -> np.ndarray:
    """Pictures on arcs between two noise vectors, of one class each, (PATHS × SHOWN, height, width, channels)."""
    ends = np.random.default_rng(2).normal(size=(2, PATHS, 1, artist.model.latent))
    angles = np.linspace(0, np.pi / 2, models.SHOWN)[:, None]
    noise = (np.cos(angles) * ends[0] + np.sin(angles) * ends[1]).reshape(-1, artist.model.latent)
    labels = np.repeat(np.arange(PATHS), models.SHOWN) % len(artist.classes)
    return artist.draw(labels, seed=0, noise=noise)


def _neighbours(task: Task, samples: np.ndarray) -> bytes:
    """Samples, and below each the nearest training picture."""
    known = models.scaled(task.pool.inputs)
    distances, numbers = nearest(samples, known)
    captions = [*[""] * len(samples), *(f"{distance:.2f}" for distance in distances)]
    return figures.pictures(
        np.concatenate([samples, known[numbers]]), captions, columns=len(samples), row_names=["sample", "nearest"]
    )


def _curves(metrics: Mapping[str, Any], fits: Mapping[str, run.Fit]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Distance, recall and losses of each training after each round."""
    epochs = metrics["settings"]["epochs"]
    first = next(iter(fits.values()))

    def points(fit: run.Fit, key: str) -> list[tuple[float, float]]:
        of_round = epochs / metrics["training"][0]["rounds"]
        return [((number + 1) * of_round, value) for number, value in enumerate(fit.history[key])]

    return {
        "Fréchet distance": {
            f"seed {name.split('-')[-1]}": points(fit, "frechet_distance") for name, fit in fits.items()
        },
        "recall": {f"seed {name.split('-')[-1]}": points(fit, "recall") for name, fit in fits.items()},
        f"loss, seed {metrics['seed']}": {
            "generator": points(first, "generator_loss"),
            "discriminator": points(first, "discriminator_loss"),
        },
    }

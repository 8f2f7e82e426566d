"""The evaluation of the image application: splits, baselines, measures with intervals, and figures."""

import dataclasses
import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from applications import classifiers as models
from applications import run
from data.dataset import Dataset, Split
from reports import figures
from reports import metrics as schema
from reports.classification import BINS, CASES, Classification, reliability
from reports.metrics import Difference, Estimate, bootstrap, differences, headline, mean, over_seeds, percent, span
from reports.tagging import confusion, most_confused
from templates import cnn as cnn_template
from templates import dbn as dbn_template
from templates import dsn as dsn_template

SHARES = (0.1, 0.3, 1.0)  # of the labelled training pictures
MANY_PICTURES = 20_000  # with more, the middle share is left out, as trainings are long
CHOICE_PICTURES, CHOICE_WORK = 10_000, 10**11  # limits for choosing the baselines' settings; pictures² × features
# Rows² × features × the share of support vectors: about ten minutes on a core. If more is needed, the support vector
# machine is replaced by least squares on Nystroem features, which scales linearly with the rows.
EXACT_WORK = 2 * 10**12
LANDMARKS, LANDMARK_NUMBERS = 2_000, 2 * 10**8  # number of Nystroem features; of values in their matrix
REGRESSION_STEPS, REGRESSION_WORK = 300, 10**13  # of the logistic regression: iterations, total multiplications
MEASURES = {"accuracy": "Accuracy", "log_loss": "Log-loss [nats]", "calibration_error": "Calibration error"}
BIASED = ("calibration_error",)  # by bootstrap draws
ANSWERED = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # shares of the pictures, the most confident first
MOST_CLASSES = 20  # in a bar chart; with more, the report lists the confusions
LEAST_BINS = 3  # of at least one model, for a reliability diagram
PRECISE = 1_000  # test pictures, with which two decimals of a per cent are meaningful
MOST_ERRORS, IN_A_ROW = 24, 8
MAPS = 6  # correct and wrong pictures each with Grad-CAM
FIELDS, SAMPLES, GIBBS_STEPS = 64, 40, 1_000
LIKELIHOOD_CHAINS, LIKELIHOOD_STEPS, LIKELIHOOD_PICTURES = 100, 1_000, 2_000
LARGE_TIMES = 4  # factor on the steps of large RBMs


# --- The schema of this application's metrics.json ---


class Data(schema.Data):
    """The pictures: counts by split and class, and of used labels; shape is height, width, channels."""

    train: int
    validation: int
    test: int
    labelled: int
    classes: list[str]
    shape: list[int]
    counts: dict[str, list[int]]


class Evaluation(schema.Evaluation):
    """Titles of the measures, how they are computed, and how they are shown.

    `majority` is the accuracy of the most frequent class; `digits` are the decimals of shares in per cent; `by_class`
    says whether classes are compared by "accuracy" or "error", whichever is smaller.
    """

    measures: dict[str, str]
    bins: int
    cases: int
    choice_pictures: int
    majority: float
    digits: int
    by_class: str


class Result(schema.Result):
    """A model; the settings of a baseline are those chosen on validation."""

    fit_seconds: float
    settings: str


class PictureDifference(Difference):
    """A difference in accuracy, also as a number of test pictures."""

    pictures: float


class Point(Estimate):
    """An accuracy, or a gain, by the number of labelled pictures."""

    pictures: int


class Answered(Estimate):
    """The accuracy on a share of the pictures, those with the highest confidence."""

    share: float


class Sizes(TypedDict):
    """Accuracies by the number of labels, and the DBN's gain from pretraining."""

    shares: list[float]
    pictures: list[int]
    models: dict[str, list[Point]]
    pretraining: list[Point] | None


class Confusion(TypedDict):
    """Number of pictures of a class that were classified as another, and their share of the class."""

    true: str
    found: str
    pictures: int
    share: float


class Bin(TypedDict):
    """A bin of confidence with the mean confidence and the accuracy of its pictures."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class Answer(TypedDict):
    """A test picture with its true class, the predicted one, and its probability."""

    index: int
    row: int
    file: str | None
    true: str
    found: str
    confidence: float


class Cnn(TypedDict):
    """Details of the convolutional network for the report."""

    filters: int
    kernel_size: int
    grad_cam: list[Answer]


class RbmEpoch(TypedDict):
    """An epoch of the first RBM."""

    epoch: int
    reconstruction_error: float
    log_likelihood: float | None


class HeldOutPoint(TypedDict):
    """The log-likelihood of held-out pictures after an epoch."""

    epoch: int
    log_likelihood: float


class HeldOut(TypedDict):
    """The chosen and the maximum epochs of an RBM, and the likelihood of held-out pictures at some epochs."""

    kept: int
    most: int
    points: list[HeldOutPoint]


class Likelihood(Estimate):
    """Log-likelihood of the test pictures in nats, its estimate of ln Z, and that of independent pixels."""

    pictures: int
    log_partition: float
    standard_error: float
    chains: int
    steps: int
    independent: float


class Dbn(TypedDict):
    """Details of the deep belief network for the report."""

    widths: list[int]
    visible: str
    fields: int
    samples: int
    gibbs_steps: int
    epochs: list[RbmEpoch]
    held_out: list[HeldOut]
    log_likelihood: Likelihood | None


class Module(TypedDict):
    """Errors and accuracies of the network after a module."""

    train_error: float
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float


class Dsn(TypedDict):
    """Details of the deep stacking network for the report."""

    modules: list[Module]
    chosen: int
    hidden_units: int
    ridge: float
    temperature: float


class Recipe(TypedDict):
    """How a network was trained."""

    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int
    most_epochs: int
    varied: str
    steps_per_epoch: NotRequired[int]
    modules: NotRequired[int]
    rbm_epochs: NotRequired[int]
    rbm_learning_rate: NotRequired[float]
    rbm_momentum: NotRequired[float]
    rbm_batch_size: NotRequired[int]
    rbm_epochs_trained: NotRequired[list[int]]


class Model(TypedDict):
    """The first network's layers as name, shape and parameters, and the recipe of each network."""

    layers: list[list[Any]]
    recipe: dict[str, Recipe]


class Metrics(schema.Metrics):
    """metrics.json of this application; `losses` are the last ones of the training for choices."""

    data: Data
    evaluation: Evaluation
    results: list[Result]
    differences: list[PictureDifference]
    sizes: Sizes
    confusion_matrix: list[list[int]]
    confusions: list[Confusion]
    accuracy_by_class: dict[str, Estimate]
    reliability: dict[str, list[Bin]]
    answered: list[Answered]
    errors: list[Answer]
    cnn: Cnn | None
    dbn: Dbn | None
    dsn: Dsn | None
    model: Model
    losses: dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Task:
    """The pictures of a run: `pool` has the training pictures and, at the end, the validation pictures."""

    pool: models.Pictures
    train: int
    test: models.Pictures
    test_split: Split
    classes: int
    labels: int | None

    @classmethod
    def of(cls, dataset: Dataset, labels: int | None) -> "Task":
        """The task of a dataset; `labels` limits the number of used labels."""
        parts = {name: models.Pictures(part.inputs, part.labels) for name, part in dataset.splits.items()}
        train, validation, test = (parts[name] for name in ("train", "validation", "test"))
        return cls(train + validation, len(train), test, dataset.splits["test"], len(dataset.classes), labels)

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the labels to train on, with different numbers of pictures, in ascending order up to 1."""
        shares = SHARES if len(self.pool) <= MANY_PICTURES else SHARES[::2]
        numbers = [len(self._rows(0, share)) for share in shares]
        return tuple(
            share for share, own, after in zip(shares, numbers, [*numbers[1:], 0], strict=True) if own != after
        )

    def choosing(self, seed: int) -> tuple[models.Pictures, models.Pictures]:
        """Pictures to train on and to validate on while choices are made; with `labels`, a fifth of them validates."""
        if self.labels is None:
            rows = np.arange(len(self.pool))
            return self.pool[rows[: self.train]], self.pool[rows[self.train :]]
        rows = self._rows(seed, 1.0)
        inside = stratified(self.pool.labels[rows], 0.8, seed)
        return self.pool[rows[inside]], self.pool[np.delete(rows, inside)]

    def labelled(self, seed: int, share: float) -> models.Pictures:
        """The labelled pictures for a final model with this seed."""
        return self.pool[self._rows(seed, share)]

    def _rows(self, seed: int, share: float) -> np.ndarray:
        share *= (self.labels or len(self.pool)) / len(self.pool)
        return np.arange(len(self.pool)) if share == 1 else stratified(self.pool.labels, share, seed)


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sorted rows with a share of each class, at least one of each; smaller shares are subsets of larger ones."""
    random = np.random.default_rng(seed)
    rows = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        rows.append(members[: max(1, round(share * len(members)))])
    return np.sort(np.concatenate(rows))


# --- Baselines, on the same pictures ---


@dataclasses.dataclass
class Answers:
    """A baseline's predictions for the test pictures by share of the labels, and its settings chosen on validation.

    For each share, there is one prediction for each drawing of the pictures.
    """

    probabilities: list[list[np.ndarray]]
    parameters: int
    settings: str
    seconds: float


def _logistic_regression(features: int, strength: float) -> Any:
    return LogisticRegression(C=strength, max_iter=REGRESSION_STEPS)


def _nearest_neighbours(features: int, neighbours: int) -> Any:
    return KNeighborsClassifier(neighbours)


def _support_vectors(features: int, strength: float, width: float) -> Any:
    # With break_ties, the prediction is the largest decision value.
    return SVC(C=strength, gamma=width / features, break_ties=True)  # pyright: ignore[reportArgumentType]


# The baselines, and the settings to choose from on validation. The kernel's gamma is a multiple of 1 / features, for
# pixels from 0 to 1; scikit-learn's own example uses 16 on digits.
BASELINES: dict[str, tuple[Callable[..., Any], dict[str, tuple[float, ...]]]] = {
    "logistic regression": (_logistic_regression, {"C": (0.01, 0.1, 1, 10)}),
    "RBF-SVM": (_support_vectors, {"C": (1, 10), "gamma × features": (4, 8, 16, 32)}),
    "k-NN": (_nearest_neighbours, {"k": (1, 3, 5)}),
}


def fit_baselines(this_run: run.Run, task: Task, settings: Any) -> dict[str, Answers]:
    """Choose the settings of each baseline on validation, then fit it on the labels that the networks use.

    With very many pictures, the settings are chosen on a part of them; the final fits use all.
    """
    train, validation = (_flat(_some(part, settings.seed)) for part in task.choosing(settings.seed))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    # With all labels there is nothing to draw, and the baselines have no other randomness.
    drawings = [seeds[:1] if share == 1 and task.labels is None else seeds for share in task.shares]
    parts = zip(task.shares, drawings, strict=True)
    sets = [(share, s) for share, drawn in parts for s in drawn]
    test = _flat(task.test)[0]
    fitted, ends = {}, {}
    for name, (make, choices) in BASELINES.items():
        kept = this_run.stage(
            name.replace(" ", "-"),
            lambda make=make, choices=choices: _fit_baseline(
                make,
                choices,
                train,
                validation,
                [lambda share=share, s=s: _flat(task.labelled(s, share)) for share, s in sets],
                test,
                task.classes,
                len(task.labelled(settings.seed, 1.0)),
            ),
        )
        answers = iter(kept["probabilities"])
        probabilities = [[next(answers) for _ in drawn] for drawn in drawings]
        chosen = ", ".join(f"{key} {value:g}" for key, value in zip(choices, kept["chosen"], strict=True))
        if kept["landmarks"]:
            chosen += f"; least squares on {int(kept['landmarks']):,} Nystroem features"
        fitted[name] = Answers(probabilities, int(kept["parameters"]), chosen, float(kept["seconds"]))
        for key, value, ended in zip(choices, kept["chosen"], kept["ended"], strict=True):
            if ended and (key, value) != ("k", 1):  # the smallest possible
                ends.setdefault((key, float(value), value == max(choices[key])), []).append(name)
    for (key, value, _), names in ends.items():
        this_run.at_end(f"{key} of the {' and of the '.join(names)}", value, BASELINES[names[0]][1][key])
    return fitted


def _fitted(model: Any, features: np.ndarray, labels: np.ndarray) -> Any:
    if isinstance(model, Pipeline):
        model["kernel"].n_components = min(model["kernel"].n_components, len(features))
    if isinstance(model, LogisticRegression):
        work = 4 * features.size * len(np.unique(labels))  # of a step
        model.max_iter = int(np.clip(REGRESSION_WORK // work, 20, REGRESSION_STEPS))
    with warnings.catch_warnings():
        # With many pictures, the logistic regression is stopped early, which hardly affects its accuracy.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")  # with few pictures per class
        return model.fit(features, labels)


def _fit_baseline(
    make: Callable[..., Any],
    choices: Mapping[str, Sequence[float]],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    sets: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]],
    test: np.ndarray,
    classes: int,
    most: int,
) -> dict[str, np.ndarray]:
    """Choose settings on validation, then fit on each of the sets, with at most `most` rows, and predict the test."""
    features = train[0].shape[1]
    candidates = []
    for values in itertools.product(*choices.values()):
        model = _fitted(make(features, *values), *train)
        scores = _scores(model, validation[0], classes)
        support = len(model.support_) / len(train[0]) if isinstance(model, SVC) else 0.0
        candidates.append((float((scores.argmax(1) == validation[1]).mean()), values, scores, support))
    best, chosen, scores, support = max(candidates, key=lambda candidate: candidate[0])  # the first of several
    accuracies = {values: accuracy for accuracy, values, *_ in candidates}
    ended = []
    for place, grid in enumerate(choices.values()):
        # Whether a setting that is strictly the best is at an end of its grid.
        others = [accuracies[*chosen[:place], value, *chosen[place + 1 :]] for value in grid if value != chosen[place]]
        ended.append(chosen[place] in (grid[0], grid[-1]) and max(others, default=best) < best)
    landmarks = 0
    if support * most**2 * features > EXACT_WORK:
        landmarks = min(LANDMARKS, LANDMARK_NUMBERS // most)
        scores = _scores(_fitted(_approximate(make(features, *chosen), landmarks), *train), validation[0], classes)
    temperature = dsn_template.fit_temperature(scores, np.eye(scores.shape[1])[validation[1]])
    answers = []
    for rows in sets:
        began = time.perf_counter()
        fresh = make(features, *chosen)
        model = _fitted(_approximate(fresh, landmarks) if landmarks else fresh, *rows())
        seconds = time.perf_counter() - began
        scores = _scores(model, test, classes) / temperature
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        answers.append(probabilities / probabilities.sum(axis=1, keepdims=True))
    return {
        "chosen": np.array(chosen, float),
        "ended": np.array(ended),
        "landmarks": np.array(landmarks),
        "probabilities": np.array(answers),
        "parameters": np.array(_numbers(model)),
        "seconds": np.array(seconds),
    }


def _approximate(machine: SVC, landmarks: int) -> Pipeline:
    """A linear classifier on features whose products approximate the kernel of a support vector machine."""
    kernel = Nystroem(gamma=machine.gamma, n_components=landmarks, random_state=0)
    return Pipeline([("kernel", kernel), ("linear", RidgeClassifier(alpha=1 / machine.C))])


def _scores(model: Any, inputs: np.ndarray, classes: int) -> np.ndarray:
    """Scores (n, classes) whose softmax, with a temperature fitted on validation, gives probabilities."""
    if isinstance(model, KNeighborsClassifier):
        fitted = model.n_samples_fit_
        model.n_neighbors = min(model.n_neighbors, fitted)  # pyright: ignore[reportArgumentType]
        # One additional neighbour is shared by all classes, so that no probability is 0.
        count = model.n_neighbors
        scores = np.log((count * np.asarray(model.predict_proba(inputs)) + 1 / classes) / (count + 1))
    else:
        scores = model.decision_function(inputs)
        if scores.ndim == 1:  # of two classes
            scores = np.stack([-scores, scores], axis=1)
    all_scores = np.full((len(inputs), classes), scores.min() - 10)  # for classes without training pictures
    all_scores[:, model.classes_] = scores
    return all_scores


def _numbers(model: Any) -> int:
    """The number of values that a fitted baseline stores."""
    if isinstance(model, SVC):
        return model.support_vectors_.size + model.dual_coef_.size + model.intercept_.size
    if isinstance(model, LogisticRegression):
        return model.coef_.size + len(model.coef_)
    if isinstance(model, Pipeline):
        kernel, linear = model["kernel"], model["linear"]
        return kernel.components_.size + kernel.normalization_.size + linear.coef_.size + len(linear.coef_)
    return model._fit_X.size


def _some(pictures: models.Pictures, seed: int) -> models.Pictures:
    """The pictures, or a share of each class if there are too many for choosing settings."""
    features = int(np.prod(pictures.inputs.shape[1:]))
    most = choice_pictures(features)
    return pictures if len(pictures) <= most else pictures[stratified(pictures.labels, most / len(pictures), seed)]


def choice_pictures(features: int) -> int:
    """Maximum number of pictures for choosing the baselines' settings, by values per picture."""
    return min(CHOICE_PICTURES, int((CHOICE_WORK / features) ** 0.5))


def _flat(pictures: models.Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, features) from 0 to 1 and their labels; float32 if there are many."""
    flat = pictures.inputs.reshape(len(pictures), -1)
    return flat / 255 if len(flat) <= CHOICE_PICTURES else flat.astype(np.float32) / 255, pictures.labels


# --- Evaluation ---


def describe(dataset: Dataset, task: Task) -> dict[str, Any]:
    """The data for metrics.json: provenance, and the size of each split."""
    splits = dataset.splits
    return (
        dataset.provenance.to_dict()
        | {name: len(part) for name, part in splits.items()}
        | {
            "classes": list(dataset.classes),
            "shape": list(task.test.inputs.shape[1:]),
            "labelled": task.labels or len(task.pool),
            "counts": {
                name: np.bincount(part.labels, minlength=task.classes).tolist() for name, part in splits.items()
            },
        }
    )


def _all_measures(judged: Classification, weights: np.ndarray) -> dict[str, float]:
    return {name: getattr(judged, name)(weights) for name in MEASURES}


def measures(test: Split, probabilities: np.ndarray) -> dict[str, Estimate]:
    """All measures of one model with intervals from a bootstrap over pictures."""
    judged = Classification(test.labels, probabilities)
    return bootstrap(lambda weights: _all_measures(judged, weights), len(test), biased=BIASED)


def compare(
    task: Task,
    dataset: Dataset,
    found: Mapping[str, Sequence[np.ndarray]],
    by_size: Mapping[str, Mapping[float, Sequence[np.ndarray]]],
    costs: Mapping[str, tuple[int, float, str]],
    resamples: int,
) -> dict[str, Any]:
    """Comparable results of all models, with intervals from one bootstrap over pictures.

    Args:
        task: the pictures.
        dataset: their source.
        found: by model, for each of its trainings, the probabilities (test pictures, classes); the first model is the
            headline.
        by_size: the same by model and share of the labels.
        costs: by model, its parameters, seconds of training and settings.
        resamples: draws of the bootstrap.
    """
    labels = task.test.labels
    own = next(iter(found))
    judged = {model: [Classification(labels, p) for p in of_seeds] for model, of_seeds in found.items()}
    networks = [model for model in found if model not in BASELINES]
    pairs = [(own, model) for model in found if model != own]
    pairs += [pair for pair in itertools.combinations(networks, 2) if own not in pair]
    # The share of trainings in which each picture is right, (test pictures,).
    right = {
        (model, share): np.mean([p.argmax(1) == labels for p in of_seeds], axis=0)
        for model, shares in by_size.items()
        for share, of_seeds in shares.items()
    }
    pretrained = [share for share in task.shares if ("DBN without pretraining", share) in right]
    classes = {name: np.flatnonzero(labels == index) for index, name in enumerate(dataset.classes)}
    classes = {name: rows for name, rows in classes.items() if len(rows)}

    surest = np.argsort(-found[own][0].max(axis=1), kind="stable")
    surest_right = (found[own][0].argmax(axis=1) == labels)[surest]

    def answered(share: float, weights: np.ndarray) -> float:
        weights = weights[surest]
        # A picture that is only in part within the share counts in part.
        weights = np.diff(np.minimum(np.cumsum(weights), share * weights.sum()), prepend=0)
        return _share(surest_right, weights)

    def of_seeds(model: str, weights: np.ndarray) -> list[dict[str, float]]:
        return [_all_measures(one, weights) for one in judged[model]]

    def statistic(weights: np.ndarray) -> dict[str, Any]:
        means = {model: mean(of_seeds(model, weights)) for model in judged}
        sizes = {
            model: {share: right[model, share] @ weights / weights.sum() for share in shares}
            for model, shares in by_size.items()
        }
        return {
            "metrics": means,
            "differences": [means[better]["accuracy"] - means[worse]["accuracy"] for better, worse in pairs],
            "sizes": sizes,
            "gains": {share: sizes["DBN"][share] - sizes["DBN without pretraining"][share] for share in pretrained},
            "by_class": {name: _share(right[own, 1.0][rows], weights[rows]) for name, rows in classes.items()},
            "answered": {share: answered(share, weights) for share in ANSWERED},
        }

    estimates = bootstrap(statistic, len(labels), resamples=resamples, biased=BIASED)
    results = []
    for model in found:
        parameters, seconds, settings = costs[model]
        results.append(
            {
                "model": model,
                "baseline": model in BASELINES,
                "uses_labels": True,
                "parameters": parameters,
                "fit_seconds": seconds,
                "settings": settings,
                "metrics": over_seeds(of_seeds(model, np.ones(len(labels))), estimates["metrics"][model]),
            }
        )
    pictures = {share: len(task.labelled(0, share)) for share in task.shares}
    sizes = {
        model: [{"pictures": pictures[share], **estimate} for share, estimate in of_model.items()]
        for model, of_model in estimates["sizes"].items()
    }
    gains = [{"pictures": pictures[share], **estimate} for share, estimate in estimates["gains"].items()]
    counts = confusion(labels, found[own][0].argmax(1), task.classes)
    shown = [own, max((r for r in results if r["baseline"]), key=lambda r: r["metrics"]["accuracy"]["value"])["model"]]
    return {
        "evaluation": {
            "resamples": resamples,
            "unit": "images",
            "measures": MEASURES,
            "bins": BINS,
            "cases": CASES,
            "choice_pictures": choice_pictures(int(np.prod(task.test.inputs.shape[1:]))),
            "majority": float(np.bincount(labels).max() / len(labels)),
            "digits": shown_digits(max(result["metrics"]["accuracy"]["value"] for result in results), len(labels)),
            "by_class": shown_by_class([estimate["value"] for estimate in estimates["by_class"].values()]),
        },
        "headline": headline(results[0], "accuracy"),
        "results": results,
        "differences": [
            {**difference, "pictures": abs(difference["value"]) * len(labels)}
            for difference in differences(pairs, "accuracy", estimates["differences"])
        ],
        "sizes": {
            "shares": list(task.shares),
            "pictures": list(pictures.values()),
            "models": sizes,
            "pretraining": gains or None,
        },
        "confusion_matrix": counts.tolist(),
        "confusions": _confusions(counts, dataset.classes),
        "accuracy_by_class": estimates["by_class"],
        "reliability": {model: reliability(labels, found[model][0]) for model in [*networks, shown[1]]},
        "answered": [{"share": share, **estimate} for share, estimate in estimates["answered"].items()],
        "errors": _errors(task, dataset, found[own][0]),
    }


def shown_digits(accuracy: float, tested: int) -> int:
    """Decimals of shares in per cent: 2 if less than 1 % is wrong and there are enough pictures, else 1."""
    return 2 if 1 - accuracy < 0.01 and tested >= PRECISE else 1


def shown_by_class(accuracies: Sequence[float]) -> str:
    """Whether classes are compared by accuracy or by error: as bars begin at 0, high accuracies would look the same."""
    return "error" if float(np.mean(accuracies)) > 0.5 else "accuracy"


def _share(correct: np.ndarray, weights: np.ndarray) -> float:
    total = weights.sum()
    return float(correct @ weights / total) if total else math.nan


def _confusions(counts: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The ten most frequent confusions."""
    return [
        {"true": classes[true], "found": classes[guess], "pictures": number, "share": number / int(counts[true].sum())}
        for true, guess, number in most_confused(counts)
    ]


def _errors(task: Task, dataset: Dataset, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """The most confident errors of the first training."""
    guess, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(guess != task.test.labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_ERRORS]
    return [_described(task, dataset, int(row), int(guess[row]), float(confidence[row])) for row in wrong]


def _described(task: Task, dataset: Dataset, row: int, guess: int, confidence: float) -> dict[str, Any]:
    extra = task.test_split.extra
    return {
        "index": int(row),
        "row": int(extra["row"][row]),
        "file": str(extra["file"][row]) if "file" in extra else None,
        "true": dataset.classes[task.test.labels[row]],
        "found": dataset.classes[guess],
        "confidence": confidence,
    }


# --- Details of each template ---


def cnn_details(
    this_run: run.Run, trainer: Any, chosen: models.Trained, first: models.Trained, task: Task, dataset: Dataset
) -> dict[str, Any]:
    """Pictures for Grad-CAM: a correct one of each of the first classes, and the most confident errors."""
    probabilities = first.probabilities(task.test.inputs)
    guess, confidence = probabilities.argmax(1), probabilities.max(1)
    right = guess == task.test.labels
    rows = np.concatenate([np.flatnonzero(right & (guess == index))[:1] for index in range(task.classes)])
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    chosen_rows = [int(row) for row in [*rows[:MAPS], *wrong[:MAPS]]]
    return {
        "filters": int(first.parts.get_layer("stage_1_convolution_1").kernel.shape[-1]),
        "kernel_size": trainer.choices.kernel_size,
        "grad_cam": [_described(task, dataset, row, int(guess[row]), float(confidence[row])) for row in chosen_rows],
    }


def dbn_details(
    this_run: run.Run, trainer: Any, chosen: models.Trained, first: models.Trained, task: Task, dataset: Dataset
) -> dict[str, Any] | None:
    """The first RBM's likelihood during and after training, by annealed importance sampling."""
    if first.parts is None:
        return None
    choices = trainer.choices
    stage = next(name for name in first.fits if name.startswith("rbm-1"))
    history = first.fits[stage].history["reconstruction_error"]
    epochs = [
        {"epoch": epoch, "reconstruction_error": error, "log_likelihood": None}
        for epoch, error in enumerate(history, 1)
    ]
    details = {
        "widths": list(choices.widths),
        "visible": choices.visible,
        "fields": min(FIELDS, choices.widths[0]),
        "samples": SAMPLES,
        "gibbs_steps": GIBBS_STEPS,
        "epochs": epochs,
        "held_out": trainer.held_out,
        "log_likelihood": None,
    }
    if choices.visible != "bernoulli":
        return details
    # A binary RBM has a likelihood only for binary pictures: pixels are drawn with their brightness as probability.
    random = np.random.default_rng(0)

    def binary(pictures: np.ndarray) -> np.ndarray:
        flat = pictures[:LIKELIHOOD_PICTURES].reshape(min(len(pictures), LIKELIHOOD_PICTURES), -1) / 255
        return (random.random(flat.shape) < flat).astype(np.float64)

    train, test = binary(task.pool.inputs), binary(task.test.inputs)
    likelihoods = np.zeros(len(test))
    partition: Any = None
    large = models.is_large(train.shape[1], choices.widths[0]) and not trainer.settings.quick
    steps = LIKELIHOOD_STEPS * (LARGE_TIMES if large else 1)
    for epoch, weights in trainer.monitored[stage]:
        machine = dbn_template.RBM(visible_units=train.shape[1], hidden_units=choices.widths[0], seed=0)
        machine.set_weights(weights)
        kept = this_run.stage(
            f"{stage}-likelihood-{epoch}",
            lambda machine=machine: machine.log_partition(
                chains=LIKELIHOOD_CHAINS, steps=steps, seed=0, data=train
            )._asdict(),
        )
        partition = {key: float(value) for key, value in kept.items()}
        likelihoods = machine.log_likelihood(test, partition["value"])
        epochs[epoch - 1]["log_likelihood"] = float(likelihoods.mean())
    estimate = bootstrap(lambda weights: float(likelihoods @ weights / weights.sum()), len(test))
    share = (train.sum(0) + 0.5) / (len(train) + 1)
    independent = test @ np.log(share) + (1 - test) @ np.log1p(-share)
    return details | {
        "log_likelihood": {
            **estimate,
            "pictures": len(test),
            "log_partition": partition["value"],
            "standard_error": partition["standard_error"],
            "chains": LIKELIHOOD_CHAINS,
            "steps": steps,
            "independent": float(independent.mean()),
        }
    }


def dsn_details(
    this_run: run.Run, trainer: Any, chosen: models.Trained, first: models.Trained, task: Task, dataset: Dataset
) -> dict[str, Any]:
    """Error and accuracy after each module of the network trained without the validation pictures."""
    train, validation = task.choosing(trainer.settings.seed)
    outputs = {}
    for name, part in {"train": train, "validation": validation, "test": task.test}.items():
        rows = part.inputs.reshape(len(part), -1).astype(np.float32) / 255
        outputs[name] = (models.in_batches(chosen.parts.predict_on_batch, rows), part.labels)
    modules = []
    for number in range(1, chosen.length + 1):
        entry = {}
        for name, (scores, labels) in outputs.items():
            of_module = scores[f"module_{number}"]
            entry[f"{name}_accuracy"] = float((of_module.argmax(1) == labels).mean())
            if name == "train":
                targets = np.eye(of_module.shape[1])[labels]
                entry["train_error"] = float(np.mean(np.sum((of_module - targets) ** 2, axis=1)))
        modules.append(entry)
    return {
        "modules": modules,
        "chosen": chosen.length,
        "hidden_units": trainer.choices.hidden_units,
        "ridge": trainer.choices.ridge,
        "temperature": trainer.temperature,
    }


DETAILS = {"cnn": cnn_details, "dbn": dbn_details, "dsn": dsn_details}


def recipe(trainer: Any, chosen: models.Trained, task: Task) -> dict[str, Any]:
    """The training settings of a template, for the report."""
    choices = trainer.choices
    rows = len(task.labelled(0, 1.0))
    shift = 0.0 if trainer.name == "CNN" else choices.shift
    if shift:
        rows *= models.COPIES
    settings = trainer.settings
    values = {
        "optimizer": settings.optimizer,
        "learning_rate": settings.learning_rate,
        "batch_size": trainer.batch_size(rows, settings.batch_size),
        "epochs": settings.epochs,
        "most_epochs": settings.epochs,
        "varied": f"each image also shifted by {shift:g} pixels up, down, left and right" if shift else "",
    }
    if trainer.name == "DSN":
        return values | {"modules": chosen.length}
    values |= {"epochs": chosen.length, "steps_per_epoch": rows // values["batch_size"]}
    if trainer.name == "DBN":
        if chosen.parts is None:  # not pretrained
            return values
        names = ("rbm_epochs", "rbm_learning_rate", "rbm_momentum", "rbm_batch_size")
        return values | {name: getattr(choices, name) for name in names} | {"rbm_epochs_trained": trainer.lengths}
    varied = [
        (choices.rotation, f"rotation by up to {choices.rotation:g} of a full turn"),
        (choices.translation, f"shift by up to {choices.translation:g} of the image size"),
        (choices.zoom, f"zoom in or out by up to {choices.zoom:g} of the image size"),
        (choices.flip, "mirroring"),
    ]
    text = ", ".join(text for size, text in varied if size)
    return values | {"varied": f"random {text}" if text else ""}


# --- Figures ---

Drawn = dict[str, tuple[bytes, str]]  # each figure's SVG and its alternative text


def _answer(answer: Answer) -> str:
    return f"{answer['true']} → {answer['found']}, {answer['confidence']:.2f}"


def draw(
    this_run: run.Run,
    task: Task,
    metrics: Mapping[str, Any],
    first: Mapping[str, models.Trained],
    fits: Mapping[str, run.Fit],
) -> dict[str, Any]:
    """Write the figures; returns their entries in metrics.json, and the last losses."""
    own, classes, digits = metrics["headline"]["model"], metrics["data"]["classes"], metrics["evaluation"]["digits"]
    template, layers = metrics["settings"]["template"], metrics["model"]["layers"]
    drawn = _draw_results(metrics, digits)
    leading = ", ".join(f"{e['true']} as {e['found']} {e['pictures']:,}" for e in metrics["confusions"][:3])
    drawn["confusion"] = (
        figures.confusion_matrix(metrics["confusion_matrix"], classes),
        f"Confusion matrix of the {len(classes)} classes; the most frequent confusions, in images: {leading or 'none'}",
    )
    if errors := metrics["errors"]:
        number = f"{len(errors)} error{'s' * (len(errors) != 1)}"
        drawn["errors"] = (
            figures.pictures(
                task.test.inputs[[entry["index"] for entry in errors]],
                [_answer(entry) for entry in errors],
                columns=math.ceil(len(errors) / math.ceil(len(errors) / IN_A_ROW)),  # rows of about equal length
            ),
            f"The {number} of the {own} with the highest confidence; true class, predicted class and confidence of the "
            "first ones: " + "; ".join(_answer(entry) for entry in errors[:5]),
        )
    drawn["network"] = (
        figures.network(blocks(layers)),
        f"The {own}, size of each layer's output: "
        + ", ".join(f"{name} {math.prod(size or 1 for size in shape):,}" for name, shape, _ in layers),
    )
    names = {"loss": "training", "val_loss": "validation"}
    losses = {
        name.removeprefix(f"{template}-choice").strip("-").replace("-", " ") or own: {
            names[key]: values for key, values in fit.history.items() if key in names
        }
        for name, fit in fits.items()
        if name.startswith(f"{template}-choice")
    }
    if any(len(values) > 1 for of_stage in losses.values() for values in of_stage.values()):
        drawn["learning"] = (
            figures.learning_curves(losses, y_label="squared error" if template == "dsn" else "cross-entropy [nats]"),
            f"Learning curves of the {own}, trained without the validation images",
        )
    for name, draw_more in {"cnn": _draw_cnn, "dbn": _draw_dbn, "dsn": _draw_dsn}.items():
        if metrics[name] is not None:
            drawn |= draw_more(task, metrics[name], first[name])
    return {
        "figures": this_run.draw(drawn),
        "losses": {
            stage: {name: float(values[-1]) for name, values in of_stage.items()} for stage, of_stage in losses.items()
        },
    }


def _draw_results(metrics: Mapping[str, Any], digits: int) -> Drawn:
    """Figures of the measures."""
    own, results, sizes = metrics["headline"]["model"], metrics["results"], metrics["sizes"]
    titles = {"accuracy": "accuracy [%]", "log_loss": "log-loss [nats]", "calibration_error": "calibration error [%]"}

    scales = {"accuracy": 100, "log_loss": 1, "calibration_error": 100}

    def measured(result: Mapping[str, Any]) -> str:
        accuracy, loss, calibration = (result["metrics"][name]["value"] for name in MEASURES)
        return f"{result['model']} {percent(accuracy, digits)}, {loss:.3f} nats, {percent(calibration, digits)}"

    drawn = {
        "models": (
            figures.interval_dots(
                {
                    result["model"]: {
                        titles[name]: span(value, scales[name]) for name, value in result["metrics"].items()
                    }
                    for result in results
                },
                higher_is_better={title: name == "accuracy" for name, title in titles.items()},
            ),
            "Accuracy, log-loss and calibration error of all models with their intervals: "
            + "; ".join(measured(result) for result in results),
        )
    }
    if len(sizes["shares"]) > 1:
        few = [f"{model} {percent(points[0]['value'], digits)}" for model, points in sizes["models"].items()]
        drawn["sizes"] = (
            figures.interval_curves(
                {
                    model: [(point["pictures"], *span(point, 100)) for point in points]
                    for model, points in sizes["models"].items()
                },
                x_label="labelled training images",
                y_label="accuracy [%]",
                logarithmic=True,
                wide=True,
            ),
            "Accuracy of each model by number of labelled training images; with "
            f"{sizes['pictures'][0]:,}: {', '.join(few)}",
        )
    if len(metrics["data"]["classes"]) <= MOST_CLASSES:
        measure = metrics["evaluation"]["by_class"]
        spans = {name: span(value, 100) for name, value in metrics["accuracy_by_class"].items()}
        if measure == "error":
            spans = {name: (100 - value, 100 - high, 100 - low) for name, (value, low, high) in spans.items()}
        drawn["by_class"] = (
            figures.grouped_bars({own: spans}, x_label="true class", y_label=f"{measure} [%]"),
            f"{'Error rate' if measure == 'error' else 'Accuracy'} of each class; {own}: "
            + ", ".join(f"{name} {percent(value / 100, digits)}" for name, (value, *_) in spans.items()),
        )
    if max(map(len, metrics["reliability"].values())) >= LEAST_BINS:
        surest = {model: bins[-1] for model, bins in metrics["reliability"].items()}
        drawn["reliability"] = (
            figures.reliability_diagram(metrics["reliability"]),
            "Accuracy by confidence, in bins. "
            + "; ".join(
                f"{model}, confidence of at least {percent(last['low'], 0)}: {last['count']:,} images, "
                f"{percent(last['accuracy'])} correct"
                for model, last in surest.items()
            ),
        )
    answered = metrics["answered"]
    drawn["answered"] = (
        figures.interval_curves(
            {own: [(100 * point["share"], *span(point, 100)) for point in answered]},
            x_label="most confident images [%]",
            y_label="accuracy [%]",
            wide=True,
        ),
        f"Accuracy of the {own} on its most confident images: "
        + ", ".join(f"{percent(point['value'], digits)} on {percent(point['share'], 0)}" for point in answered),
    )
    return drawn


def blocks(layers: Sequence[Sequence[Any]]) -> list[tuple[str, Sequence[int], int]]:
    """Layers to draw; normalizations and activations are merged with the layer before them."""
    drawn: list[tuple[str, Sequence[int], int]] = []
    for name, shape, parameters in layers:
        if drawn and drawn[-1][1] == shape and {"normalization", "activation"} & set(name.split("_")):
            before, _, own = drawn.pop()
            drawn.append((before, shape, own + parameters))
        else:
            drawn.append((name, shape, parameters))
    return drawn


def _draw_cnn(task: Task, details: Cnn, first: models.Trained) -> Drawn:
    kernel = np.asarray(first.parts.get_layer("stage_1_convolution_1").get_weights()[0])  # (size, size, channels, n)
    # Each filter as a picture; unless pictures are grey or in colour, the channels are summed.
    filters = np.moveaxis(kernel if kernel.shape[2] in (1, 3) else kernel.sum(axis=2, keepdims=True), -1, 0)
    shown = details["grad_cam"]
    pictures = task.test.inputs[[entry["index"] for entry in shown]]
    size = details["kernel_size"]
    return {
        "cnn_filters": (
            figures.pictures(filters, [""] * len(filters), columns=16, signed=True),
            f"{len(filters)} filters of the first layer, {size} × {size} pixels each",
        ),
        "cnn_grad_cam": (
            figures.pictures(
                pictures,
                [_answer(entry) for entry in shown],
                columns=MAPS,
                marks=[entry["true"] != entry["found"] for entry in shown],
                overlays=cnn_template.grad_cam(first.parts, pictures.astype(np.float32) / 255),
            ),
            "Test images, each next to its Grad-CAM map; true class, predicted class, confidence: "
            + "; ".join(_answer(entry) for entry in shown),
        ),
    }


def _draw_dbn(task: Task, details: Dbn, first: models.Trained) -> Drawn:
    shape = task.test.inputs.shape[1:]
    weights = np.asarray(first.parts[0].get_weights()[0])  # (features, hidden units)
    # The hidden units with the largest weights, averaged over channels.
    largest = np.argsort(-np.square(weights).sum(0), kind="stable")[: details["fields"]]
    fields = weights[:, largest].T.reshape(-1, *shape).mean(axis=-1, keepdims=True)
    samples = dbn_template.generate(first.parts, SAMPLES, steps=GIBBS_STEPS, seed=0)
    if details["visible"] == "gaussian":
        layer: Any = first.model.get_layer("standardise")
        samples = np.clip(samples * np.sqrt(layer.variance) + layer.mean, 0, 1)
    epochs, likelihood = details["epochs"], details["log_likelihood"]
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {
        "reconstruction error": {"first RBM": [(e["epoch"], e["reconstruction_error"]) for e in epochs]}
    }
    if likelihood is not None:
        measured: list[tuple[float, float]] = [
            (e["epoch"], e["log_likelihood"]) for e in epochs if e["log_likelihood"] is not None
        ]
        panels["log-likelihood [nats per image]"] = {
            "first RBM": measured,
            "independent pixels": [(epoch, likelihood["independent"]) for epoch, _ in (measured[0], measured[-1])],
        }
    ends = (f"{e['reconstruction_error']:.3g} in epoch {e['epoch']}" for e in (epochs[0], epochs[-1]))
    return {
        "dbn_fields": (
            figures.pictures(fields, [""] * len(fields), columns=16, signed=True),
            f"Weights of {len(fields)} hidden units of the first RBM, as images",
        ),
        "dbn_samples": (
            figures.pictures(samples.reshape(-1, *shape), [""] * SAMPLES, columns=20),
            f"{SAMPLES} images generated by the stack",
        ),
        "dbn_training": (
            figures.series(panels, x_label="epoch"),
            f"Training of the first RBM: reconstruction error from {' to '.join(ends)}",
        ),
    }


def _draw_dsn(task: Task, details: Dsn, first: models.Trained) -> Drawn:
    def curve(key: str, scale: float = 100) -> list[tuple[float, float]]:
        return [(number, scale * entry[key]) for number, entry in enumerate(details["modules"], 1)]

    panels = {
        "squared error": {"training": curve("train_error", 1)},
        "accuracy [%]": {
            "training": curve("train_accuracy"),
            "validation": curve("validation_accuracy"),
            "test": curve("test_accuracy"),
        },
    }
    by_module = (f"module {number} {percent(m['test_accuracy'])}" for number, m in enumerate(details["modules"], 1))
    return {
        "dsn_modules": (
            figures.series(panels, x_label="module", mark=(details["chosen"], "chosen")),
            f"Training error and accuracy after each module; test accuracy: {'; '.join(by_module)}",
        )
    }

"""Find card fraud with an autoencoder that was shown genuine payments only, and report how well that works.

Simulates card payments (or reads yours), trains the autoencoder, compares it with classical detectors on the same
payments and writes a PDF report, the model and every number to a run's folder.

    python applications/fraud_autoencoder.py
    python applications/fraud_autoencoder.py --csv creditcard.csv --label Class --time Time
    python applications/fraud_autoencoder.py score --model runs/.../model.keras --csv new.csv --out scored.csv
"""

import applications  # isort: skip  # noqa: F401 - first, for it imports the backend without its start-up lines

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from applications import fraud_report, run
from data import fraud, table
from data.batches import shuffled_batches, steps_of
from data.dataset import BadInput, Dataset, Split
from reports import figures
from reports.metrics import CardPrecision, Ranking, bootstrap
from templates import autoencoder as template

APPLICATION = "fraud_autoencoder"
# Forests and regressions gain little from more rows, and would take longer than the network.
BASELINE_ROWS = 200_000
CHUNK = 65_536
BUDGETS = (0.1, 0.2, 0.5, 1, 2, 5, 10)  # multiples of the chosen number of alerts, for the calibration


@dataclasses.dataclass(frozen=True)
class Train:
    """Train on simulated payments or on your own, compare with classical detectors, and write the report."""

    csv: tuple[Path, ...] = ()
    """Your own payments: CSV or Parquet files, or folders of them. Without it, payments are simulated."""
    label: str | None = None
    """Column that says which payments were fraud. Tables in the handbook's layout need no column names."""
    time: str | None = None
    """Column of the payment's time, seconds or dates; the split is then by time."""
    customer: str | None = None
    """Column of the customer or card, for the card precision; never an input."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    unlabelled: bool = False
    """Train on all payments, as if no label were known; labels then serve the evaluation alone."""

    alerts_per_day: float | None = None
    """Payments that analysts can check in a day: sets the threshold. 100 if nothing else is given."""
    false_positive_rate: float | None = None
    """Instead: share of the genuine payments that may raise an alert, on validation."""
    cost_ratio: float | None = None
    """Instead: cost of a missed fraud in units of a false alert's cost; the cheapest threshold on validation."""

    widths: tuple[int, ...] = (128,)
    """Units of the encoder's hidden layers; the decoder mirrors them."""
    code_size: int = 12
    """Units of the code."""
    activation: Literal["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"] = "tanh"
    """Of the hidden layers."""
    code_activation: Literal["linear", "relu", "tanh", "sigmoid"] = "linear"
    """Of the code."""
    dropout: float = 0.0
    """Dropout rate on the hidden layers."""
    input_noise: float = 0.0
    """Standard deviation of noise on the standardised input while training."""
    input_dropout: float = 0.2
    """Share of the input that is set to zero while training."""
    code_penalty: float = 0.0
    """Weight of an L1 penalty on the code."""

    loss: Literal["mean_squared_error", "mean_absolute_error", "huber"] = "mean_squared_error"
    """What training minimises; the anomaly score is the mean squared error in any case."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    """Of the training."""
    learning_rate: float = 1e-3
    """Of the optimizer."""
    batch_size: int = 256
    """Payments in a training step."""
    epochs: int = 20
    """At most; the epoch with the lowest validation loss decides how long the final models train."""
    patience: int = 5
    """Epochs without a lower validation loss after which training stops."""
    seed: int = 0
    """Of the first final model; the others have the seeds after it."""
    seeds: int = 3
    """Final models, whose mean and spread are reported."""
    init_from: Path | None = None
    """Start from the weights of this model.keras of an earlier run."""

    simulation: fraud.Simulation = dataclasses.field(default_factory=fraud.Simulation)
    """Of the payments that are simulated when --csv is not given."""
    protocol: fraud.Protocol = dataclasses.field(default_factory=fraud.Protocol)
    """Weeks of training and test, for simulated payments and tables in the handbook's layout."""

    quick: bool = False
    """A smoke run of seconds: fewer customers, terminals, epochs and bootstrap draws."""
    out: Path | None = None
    """The run's folder; by default runs/fraud_autoencoder/<time>."""
    resume: bool = False
    """Go on with a run that was stopped: the one in --out, else the newest with these settings."""


@dataclasses.dataclass(frozen=True)
class Score:
    """Score new payments with a trained model: a score, an alert and each feature's share, in the order of the rows."""

    model: Path
    """The model.keras of a run."""
    csv: tuple[Path, ...]
    """CSV or Parquet files, or folders of them, with the model's input columns; others are ignored."""
    out: Path
    """The CSV file to write."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a trained model on labelled payments, without training."""

    model: Path
    """The model.keras of a run."""
    csv: tuple[Path, ...]
    """CSV or Parquet files, or folders of them, with the model's input columns and labels."""
    label: str
    """Column that says which payments were fraud."""
    time: str | None = None
    """Column of the payment's time, for the card precision."""
    customer: str | None = None
    """Column of the customer or card, for the card precision and the intervals."""


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Write simulated payments with their features to a CSV or Parquet file, in the handbook's layout."""

    out: Path
    """The file to write; its name ends in .csv or .parquet."""
    simulation: fraud.Simulation = dataclasses.field(default_factory=fraud.Simulation)
    """Sizes, rates and seed."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Typeset the report of a finished run again, from its files."""

    run: Path
    """The run's folder."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {"train": Train, "score": Score, "evaluate": Evaluate, "simulate": Simulate, "report": Report}
    settings = run.parse(
        commands,
        sys.argv[1:] if arguments is None else arguments,
        program="fraud_autoencoder.py",
        description=__doc__ or "",
    )
    return {Train: train, Score: score, Evaluate: evaluate, Simulate: simulate, Report: report}[type(settings)](
        settings
    )


# --- Train ------------------------------------------------------------------------------------------------------------


def train(settings: Train) -> dict[str, Any]:
    """Data, model, fit, evaluation, report."""
    began = time.perf_counter()
    command = run.command("applications/fraud_autoencoder.py", settings)
    if settings.quick:
        simulation = dataclasses.replace(settings.simulation, customers=1_000, terminals=2_000, radius=10.0)
        settings = dataclasses.replace(settings, simulation=simulation, epochs=2, seeds=2)
    _check(settings)
    start_weights = _weights_of(settings.init_from) if settings.init_from else None
    this_run = run.Run(APPLICATION, settings)

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s  {text}", flush=True)

    dataset, encoder = _load(settings, this_run.folder)
    splits = dataset.splits
    test = splits["test"]
    say("data: " + ", ".join(f"{name} {len(part):,}" for name, part in splits.items()))

    # Every choice is made on the validation weeks, before the final models are trained.
    selection = Detector(settings, splits["validation_train"], settings.seed, start_weights)
    selection_fit = selection.fit(this_run, "selection", settings.epochs, splits["validation"])
    validation_scores = selection.scores(splits["validation"])
    alert_rate, rule = _alert_rate(settings, splits["validation"], validation_scores)
    say(f"chosen on validation: {selection_fit.best_epoch} epochs; {rule}")

    fits = {"selection": selection_fit}
    detectors = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        detectors.append(Detector(settings, splits["train"], seed, start_weights))
        fits[f"seed {seed}"] = fit = detectors[-1].fit(this_run, f"seed-{seed}", selection_fit.best_epoch)
        say(f"autoencoder, seed {seed}: loss {fit.history['loss'][-1]:.4f}")
    first = detectors[0]

    scores = {"autoencoder": [detector.scores(test) for detector in detectors]}
    parameters = {"autoencoder": first.model.count_params()}
    for name, fit_baseline in BASELINES.items():
        found = this_run.stage(name, lambda fit_baseline=fit_baseline: fit_baseline(splits, settings))
        scores[name], parameters[name] = [found["scores"]], int(found["parameters"])
        say(name)

    # The rate carries over as a quantile of the final model's own scores of the validation payments.
    own_scores = first.scores(splits["validation"])
    threshold = float(np.quantile(own_scores, 1 - alert_rate))
    scorer = first.scorer(threshold, {"encoder": encoder.to_config(), "alert_rate": alert_rate})
    resamples = 100 if settings.quick or len(test) > BASELINE_ROWS else 500

    metrics = {
        "application": APPLICATION,
        "backend": keras.backend.backend(),
        "seed": settings.seed,
        "versions": run.versions("keras", keras.backend.backend(), "numpy", "scikit-learn"),
        "settings": this_run.settings,
        "command": command,
        "data": _describe(dataset),
        **_compare(test, scores, parameters, alert_rate, resamples),
        "threshold": {"rule": rule, "alert_rate": alert_rate, "value": threshold, "resamples": resamples}
        | _calibration(splits["validation"], test, validation_scores, own_scores, scores["autoencoder"][0], alert_rate),
        "alerts": _extremes(test, scores["autoencoder"][0], scorer, dataset.feature_names),
        "model": {
            "layers": [
                [layer.name, list(layer.output.shape[1:]), layer.count_params()]
                for part in ("encoder", "decoder")
                for layer in first.model.get_layer(part).layers
                if layer.name != "code_input"
            ],
            "epochs": selection_fit.best_epoch,
            "batch_size": first.batch_size,
            "steps_per_epoch": first.steps,
        },
    }
    metrics["code"] = _draw(this_run, dataset, scores, metrics, scorer, fits)
    fit_seconds = sum(fit.seconds for fit in fits.values())
    examples = sum(
        detector.steps * detector.batch_size * len(fit.history["loss"])
        for detector, fit in zip([selection, *detectors], fits.values(), strict=True)
    )
    say("writing the report")
    this_run.write("history.csv", _history(fits))
    this_run.save_model(scorer)
    metrics["timing"] = {
        "started": this_run.started.isoformat(),
        "machine": run.machine(),
        "fit_seconds": round(fit_seconds, 2),
        "examples_per_second": round(examples / fit_seconds),
        "total_seconds": round(time.perf_counter() - began, 2),
        "peak_memory_mb": round(run.peak_memory_mb()),
    }
    this_run.write_json("metrics.json", metrics)
    this_run.write("report.pdf", fraud_report.typeset(metrics, this_run.folder))
    this_run.finish()
    headline = metrics["headline"]
    say(
        f"{this_run.folder / 'report.pdf'}: average precision {headline['value']:.3f} "
        f"({headline['low']:.3f} to {headline['high']:.3f})"
    )
    return metrics


class Detector:
    """An autoencoder with the scaling of the payments that it is trained on."""

    def __init__(self, settings: Train, split: Split, seed: int, start_weights: list[np.ndarray] | None):
        self.split = split
        self.rows = np.arange(len(split)) if settings.unlabelled else np.flatnonzero(split.labels == 0)
        self.seed = seed
        self.patience = settings.patience
        self.unlabelled = settings.unlabelled
        self.scaler = StandardScaler()
        for start in range(0, len(self.rows), CHUNK):
            self.scaler.partial_fit(split.inputs[self.rows[start : start + CHUNK]].astype(np.float64))

        self.batch_size = min(settings.batch_size, len(self.rows))
        backend = keras.backend.backend()
        self.steps, execution = steps_of(len(self.rows), self.batch_size, 1 if backend == "torch" else 32)
        keras.utils.set_random_seed(seed)
        self.model = template.autoencoder(
            features=split.inputs.shape[1],
            widths=settings.widths,
            code_size=settings.code_size,
            activation=settings.activation,
            code_activation=settings.code_activation,
            dropout=settings.dropout,
            input_noise=settings.input_noise,
            input_dropout=settings.input_dropout,
            code_penalty=settings.code_penalty,
        )
        if start_weights is not None:
            expected = [weight.shape for weight in self.model.get_weights()]
            if [weight.shape for weight in start_weights] != expected:
                raise BadInput(
                    f"--init-from {settings.init_from}: found weights of {[w.shape for w in start_weights]}, "
                    f"expected {expected} for these columns, --widths and --code-size"
                )
            self.model.set_weights(start_weights)
        self.model.compile(
            keras.optimizers.get(
                {"class_name": settings.optimizer, "config": {"learning_rate": settings.learning_rate}}
            ),
            loss=settings.loss,
            steps_per_execution=execution,
            # Measured: XLA makes small dense layers slower on TensorFlow; JAX needs it.
            jit_compile=False if backend == "tensorflow" else "auto",
        )

    def fit(self, this_run: run.Run, name: str, epochs: int, validation: Split | None = None) -> run.Fit:
        """Train for `epochs` epochs, or with `validation` up to the epoch that is best there."""
        held_out = None
        if validation is not None:
            rows = np.arange(len(validation)) if self.unlabelled else np.flatnonzero(validation.labels == 0)
            if len(rows) > BASELINE_ROWS:
                rows = np.sort(np.random.default_rng(self.seed).choice(rows, BASELINE_ROWS, replace=False))
            held_out = self._standardise(validation.inputs[rows])
            held_out = (held_out, held_out)
        return this_run.fit(
            name,
            self.model,
            lambda first_epoch, last_epoch: shuffled_batches(
                lambda order: self._standardise(self.split.inputs[self.rows[order]]),
                len(self.rows),
                batch_size=self.batch_size,
                steps=self.steps,
                seed=self.seed,
                first_epoch=first_epoch,
                last_epoch=last_epoch,
            ).map(lambda batch: (batch, batch)),
            epochs=epochs,
            steps=self.steps,
            validation=held_out,
            patience=self.patience,
        )

    def _standardise(self, inputs: np.ndarray) -> np.ndarray:
        return ((inputs - self.scaler.mean_) / self.scaler.scale_).astype(np.float32)

    def scorer(self, threshold: float, metadata: dict | None = None) -> keras.Model:
        """The model from raw rows to scores, to be saved."""
        return template.anomaly_scorer(
            self.model,
            mean=self.scaler.mean_.tolist(),
            variance=(self.scaler.scale_**2).tolist(),
            threshold=threshold,
            metadata=metadata,
        )

    def scores(self, split: Split) -> np.ndarray:
        """Anomaly scores (rows,)."""
        scorer = self.scorer(math.inf)
        return _in_chunks(lambda inputs: _outputs(scorer, inputs)["score"], split.inputs)


def _outputs(scorer: keras.Model, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What the scorer says of a chunk of rows; called directly, it compiles nothing anew for a chunk of another size."""
    return {name: keras.ops.convert_to_numpy(value) for name, value in scorer(inputs).items()}


def _in_chunks(function: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Apply a function of rows to a matrix that may be larger than memory; the values come as float64."""
    parts = [function(np.asarray(inputs[start : start + CHUNK])) for start in range(0, len(inputs), CHUNK)]
    return np.concatenate(parts).astype(np.float64)


def _check(settings: Train) -> None:
    rules = [settings.alerts_per_day, settings.false_positive_rate, settings.cost_ratio]
    if sum(rule is not None for rule in rules) > 1:
        raise BadInput("found several of --alerts-per-day, --false-positive-rate and --cost-ratio, expected one")
    for flag, low, high in (
        ("alerts_per_day", 0, math.inf),
        ("false_positive_rate", 0, 1),
        ("cost_ratio", 0, math.inf),
        ("learning_rate", 0, math.inf),
        ("epochs", 0, math.inf),
        ("seeds", 0, math.inf),
        ("batch_size", 0, math.inf),
        ("patience", 0, math.inf),
    ):
        value = getattr(settings, flag)
        if value is not None and not low < value < high:
            expected = f"between {low} and {high}" if high < math.inf else f"above {low}"
            raise BadInput(f"--{flag.replace('_', '-')}: found {value}, expected a number {expected}")
    if not settings.csv and (settings.label or settings.time or settings.customer or settings.drop):
        raise BadInput("found --label, --time, --customer or --drop without --csv, expected a table to go with them")


def _load(settings: Train, folder: Path) -> tuple[Dataset, table.Encoder]:
    if not settings.csv:
        return fraud.load_simulated(settings.simulation, settings.protocol)
    if settings.label is None:
        files = table.find_files(settings.csv)
        columns = table.read_kinds(files)
        if set(fraud.RAW_COLUMNS) <= set(columns):
            return fraud.load_tables(settings.csv, settings.protocol)
        raise BadInput(f"{files[0]}: found no --label, expected the name of the column of labels: {', '.join(columns)}")
    return table.load(
        settings.csv,
        label=settings.label,
        time=settings.time,
        customer=settings.customer,
        drop=settings.drop,
        seed=settings.seed,
        work_folder=folder,
    )


def _load_scorer(path: Path) -> keras.Model:
    try:
        scorer = keras.models.load_model(path)
        table.Encoder.from_config(scorer.get_layer("anomaly_score").metadata["encoder"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        found = "no such file" if not path.exists() else str(error).splitlines()[0]
        raise BadInput(f"{path}: found {found}, expected the model.keras of a run of this program") from None
    return scorer


def _weights_of(path: Path) -> list[np.ndarray]:
    return _load_scorer(path).get_layer("autoencoder").get_weights()


def _days_of(split: Split) -> int | None:
    return len(np.unique(split.extra["day"])) if "day" in split.extra else None


def _alert_rate(settings: Train, validation: Split, scores: np.ndarray) -> tuple[float, str]:
    """The share of payments that raise an alert on validation, and in words the rule that gave it."""
    fraud_rows = validation.labels == 1
    days = _days_of(validation)
    if settings.cost_ratio is not None:
        order = np.argsort(-scores, kind="stable")
        missed = fraud_rows.sum() - np.cumsum(fraud_rows[order])
        false = np.cumsum(~fraud_rows[order])
        alerts = int(np.argmin(settings.cost_ratio * missed + false)) + 1
        return alerts / len(scores), f"a missed fraud costs {settings.cost_ratio:g} times as much as a false alert"
    if settings.false_positive_rate is not None or (days is None and settings.alerts_per_day is None):
        rate = settings.false_positive_rate or 0.01
        threshold = np.quantile(scores[~fraud_rows], 1 - rate)
        return float(np.mean(scores > threshold)), f"{rate:.2%} of the genuine payments may raise an alert"
    if days is None:
        raise BadInput("--alerts-per-day: found no --time column that says what a day is, expected one")
    alerts_per_day = 100.0 if settings.alerts_per_day is None else settings.alerts_per_day
    rate = alerts_per_day * days / len(validation)
    if rate >= 1:
        raise BadInput(
            f"--alerts-per-day: found {alerts_per_day:g}, expected fewer than the {len(validation) / days:,.0f} "
            "payments a day of the validation data"
        )
    return rate, f"{alerts_per_day:g} alerts a day"


# --- Baselines, on the same payments ----------------------------------------------------------------------------------


def _baseline_rows(split: Split, settings: Train, uses_labels: bool) -> np.ndarray:
    rows = np.flatnonzero(split.labels == 0) if not (uses_labels or settings.unlabelled) else np.arange(len(split))
    if len(rows) > BASELINE_ROWS:
        rows = np.sort(np.random.default_rng(settings.seed).choice(rows, BASELINE_ROWS, replace=False))
    return rows


def isolation_forest(splits: Mapping[str, Split], settings: Train) -> dict[str, np.ndarray]:
    """Isolation forest (Liu, Ting & Zhou 2008) with scikit-learn's defaults."""
    train = splits["train"].inputs[_baseline_rows(splits["train"], settings, uses_labels=False)]
    forest = IsolationForest(random_state=settings.seed).fit(train)
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    return {
        "scores": _in_chunks(lambda inputs: -forest.score_samples(inputs), splits["test"].inputs),
        "parameters": np.array(nodes),
    }


def pca_reconstruction(splits: Mapping[str, Split], settings: Train) -> dict[str, np.ndarray]:
    """Reconstruction error from principal components, whose number gives the best average precision on validation."""

    def errors(train: Split) -> Callable[[np.ndarray], np.ndarray]:
        rows = train.inputs[_baseline_rows(train, settings, uses_labels=False)]
        scaler = StandardScaler().fit(rows)
        pca = PCA().fit(scaler.transform(rows))

        def error(inputs: np.ndarray) -> np.ndarray:
            # The error with k components is what the components after k hold: (rows, k = 0 ... features).
            held = np.square(pca.transform(scaler.transform(inputs)))
            return np.cumsum(held[:, ::-1], axis=1)[:, ::-1]

        return error

    validation = splits["validation"]
    validation_errors = _in_chunks(errors(splits["validation_train"]), validation.inputs)
    precisions = [Ranking(validation.labels, column).average_precision() for column in validation_errors.T]
    components = int(np.argmax(precisions))
    error = errors(splits["train"])
    features = splits["train"].inputs.shape[1]
    return {
        "scores": _in_chunks(lambda inputs: error(inputs)[:, components], splits["test"].inputs),
        "parameters": np.array(features * (components + 1)),
    }


def logistic_regression(splits: Mapping[str, Split], settings: Train) -> dict[str, np.ndarray]:
    """Logistic regression on standardised inputs; it is shown the labels."""
    rows = _baseline_rows(splits["train"], settings, uses_labels=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    model.fit(splits["train"].inputs[rows], splits["train"].labels[rows])
    return {
        "scores": _in_chunks(model.decision_function, splits["test"].inputs),
        "parameters": np.array(splits["train"].inputs.shape[1] + 1),
    }


def random_forest(splits: Mapping[str, Split], settings: Train) -> dict[str, np.ndarray]:
    """Random forest (Breiman 2001) with scikit-learn's defaults; it is shown the labels."""
    rows = _baseline_rows(splits["train"], settings, uses_labels=True)
    forest = RandomForestClassifier(random_state=settings.seed, n_jobs=-1)
    forest.fit(splits["train"].inputs[rows], splits["train"].labels[rows])
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    return {
        "scores": _in_chunks(lambda inputs: forest.predict_proba(inputs)[:, 1], splits["test"].inputs),
        "parameters": np.array(nodes),
    }


BASELINES = {
    "isolation forest": isolation_forest,
    "PCA reconstruction": pca_reconstruction,
    "logistic regression": logistic_regression,
    "random forest": random_forest,
}
USES_LABELS = ("logistic regression", "random forest")


# --- Evaluation -------------------------------------------------------------------------------------------------------


def _describe(dataset: Dataset) -> dict[str, Any]:
    provenance = dataclasses.asdict(dataset.provenance)
    sizes = {name: len(part) for name, part in dataset.splits.items()}
    frauds = {name: int(part.labels.sum()) for name, part in dataset.splits.items()}
    days = {name: _days_of(part) for name, part in dataset.splits.items()}
    return provenance | sizes | {"frauds": frauds, "days": days, "features": list(dataset.feature_names)}


def _compare(
    test: Split,
    scores: Mapping[str, list[np.ndarray]],
    parameters: Mapping[str, int],
    alert_rate: float,
    resamples: int,
) -> dict[str, Any]:
    """Results of all models with intervals from one bootstrap over customers (else payments), so that they compare."""
    units = np.arange(len(test))
    if "customer" in test.extra:
        units = np.unique(test.extra["customer"], return_inverse=True)[1]
    by_card = {"customer", "day"} <= set(test.extra)
    names = ["auc_roc", "average_precision", "recall_at_budget", *(["card_precision_at_100"] if by_card else [])]

    rankings, cards = {}, {}
    for model, of_seeds in scores.items():
        rankings[model] = [Ranking(test.labels, s, units) for s in of_seeds]
        if by_card:
            cards[model] = [CardPrecision(test.labels, s, units, test.extra["day"]) for s in of_seeds]

    def of_model(model: str, weights: np.ndarray) -> np.ndarray:
        """Every metric of every seed: (seeds, metrics)."""
        rows = []
        for index, ranking in enumerate(rankings[model]):
            row = [
                ranking.auc_roc(weights),
                ranking.average_precision(weights),
                ranking.recall_at_rate(alert_rate, weights),
            ]
            rows.append([*row, cards[model][index](weights)] if by_card else row)
        return np.array(rows)

    groups = _scenarios(test)
    alerted = {model: [_top(s, alert_rate) for s in of_seeds] for model, of_seeds in scores.items()}
    rivals = [model for model in scores if model not in ("autoencoder", *USES_LABELS)]
    precision = names.index("average_precision")

    def statistic(weights: np.ndarray) -> np.ndarray:
        means = {model: of_model(model, weights).mean(axis=0) for model in scores}
        differences = [means["autoencoder"][precision] - means[model][precision] for model in rivals]
        row_weights = weights[units]
        detected = [
            np.mean([_share(alert, row_weights, rows) for alert in alerted[model]])
            for model in scores
            for rows in groups.values()
        ]
        return np.concatenate([*means.values(), differences, detected])

    estimates = iter(bootstrap(statistic, units.max() + 1, resamples=resamples))
    every_seed = {model: of_model(model, np.ones(units.max() + 1)) for model in scores}
    results = []
    for model in scores:
        values = {}
        for name, of_seeds in zip(names, every_seed[model].T, strict=True):
            deviation = float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else 0.0
            values[name] = next(estimates).to_dict() | {"seeds": of_seeds.tolist(), "deviation": deviation}
        results.append(
            {
                "model": model,
                "baseline": model != "autoencoder",
                "uses_labels": model in USES_LABELS,
                "parameters": parameters[model],
                "metrics": values,
            }
        )
    differences = {model: next(estimates).to_dict() for model in rivals}
    detection = {model: {group: next(estimates).to_dict() for group in groups} for model in scores}
    own = {key: results[0]["metrics"]["average_precision"][key] for key in ("value", "low", "high")}
    return {
        "headline": {"model": "autoencoder", "metric": "average_precision", **own},
        "results": results,
        "differences": differences,
        "detection": detection if groups else {},
    }


def _share(alert: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> float:
    total = weights[rows].sum()
    return float((weights[rows] * alert[rows]).sum() / total) if total else math.nan


def _top(scores: np.ndarray, rate: float) -> np.ndarray:
    """Whether a row is among the `rate` share with the highest scores."""
    alert = np.zeros(len(scores), bool)
    alert[np.argsort(-scores, kind="stable")[: round(rate * len(scores))]] = True
    return alert


def _scenarios(split: Split) -> dict[str, np.ndarray]:
    """Row numbers of the frauds of each scenario; none where the data don't say."""
    scenario = split.extra.get("scenario")
    if scenario is None:
        return {}
    rows = {name: np.flatnonzero(scenario == code) for code, name in fraud.SCENARIOS.items()}
    return {name: found for name, found in rows.items() if len(found)}


def _calibration(
    validation: Split,
    test: Split,
    validation_scores: np.ndarray,
    own_scores: np.ndarray,
    test_scores: np.ndarray,
    alert_rate: float,
) -> dict[str, Any]:
    """What thresholds set on validation did on test, for budgets around the chosen one."""

    def outcome(split: Split, scores: np.ndarray, threshold: float) -> dict[str, float]:
        alert = scores > threshold
        found = int((alert & (split.labels == 1)).sum())
        return {
            # Without days the unit is a thousand payments.
            "alerts": float(alert.sum() / (_days_of(split) or len(split) / 1_000)),
            "recall": found / int(split.labels.sum()),
            "precision": found / max(int(alert.sum()), 1),
        }

    budgets = []
    for multiple in BUDGETS:
        rate = alert_rate * multiple
        if rate < 0.5 and rate * len(validation) >= 1:
            budgets.append(
                {
                    "multiple": multiple,
                    "validation": outcome(validation, validation_scores, np.quantile(validation_scores, 1 - rate)),
                    "test": outcome(test, test_scores, np.quantile(own_scores, 1 - rate)),
                }
            )
    return {"unit": "day" if _days_of(test) else "1,000 payments", "budgets": budgets}


def _extremes(split: Split, scores: np.ndarray, scorer: keras.Model, features: Sequence[str]) -> dict[str, list]:
    """The ten highest alerts with each feature's share, and the five frauds that were ranked lowest."""
    order = np.argsort(-scores, kind="stable")
    highest = order[:10]
    missed = [row for row in order[::-1] if split.labels[row] == 1][:5]
    rank = np.empty(len(order), int)
    rank[order] = np.arange(1, len(order) + 1)

    def entries(rows: Sequence[int]) -> list[dict[str, Any]]:
        inputs = np.asarray(split.inputs[rows])
        shares = _outputs(scorer, inputs)["share"]
        return [
            {
                "row": int(split.extra["row"][row]),
                "rank": int(rank[row]),
                "score": float(scores[row]),
                "fraud": bool(split.labels[row] == 1),
                "scenario": fraud.SCENARIOS.get(int(split.extra["scenario"][row]))
                if "scenario" in split.extra
                else None,
                "values": {name: float(value) for name, value in zip(features, inputs[index], strict=True)},
                "shares": {name: float(value) for name, value in zip(features, shares[index], strict=True)},
            }
            for index, row in enumerate(rows)
        ]

    return {"highest": entries(highest), "missed": entries(missed)}


def _history(fits: Mapping[str, run.Fit]) -> bytes:
    parts = [pd.DataFrame(fit.history).rename_axis("epoch").assign(stage=stage) for stage, fit in fits.items()]
    frame = pd.concat(parts).reset_index()
    frame["epoch"] += 1
    return frame[["stage", "epoch", *(c for c in frame if c not in ("stage", "epoch"))]].to_csv(index=False).encode()


def _draw(
    this_run: run.Run,
    dataset: Dataset,
    scores: Mapping[str, list[np.ndarray]],
    metrics: dict[str, Any],
    scorer: keras.Model,
    fits: Mapping[str, run.Fit],
) -> dict[str, Any]:
    """Write the figures; returns what the plane of the code shows."""
    test = dataset.splits["test"]
    first = {model: of_seeds[0] for model, of_seeds in scores.items()}
    own = first["autoencoder"]
    drawn = {
        "roc": figures.roc_curves(test.labels, first, emphasis="autoencoder"),
        "precision_recall": figures.precision_recall_curves(test.labels, first, emphasis="autoencoder"),
        "scores": figures.score_histogram(
            own,
            test.labels,
            metrics["threshold"]["value"],
            class_names=dataset.classes,
            score_name="anomaly score (mean squared error)",
        ),
    }
    if metrics["detection"]:
        drawn["detection"] = figures.grouped_bars(
            {
                model: {group: (e["value"], e["low"], e["high"]) for group, e in groups.items()}
                for model, groups in metrics["detection"].items()
            },
            x_label="fraud scenario",
            y_label="share of the frauds found",
        )
    highest = metrics["alerts"]["highest"]
    drawn["alerts"] = figures.share_bars(
        [f"{entry['rank']}" for entry in highest],
        np.array([list(entry["shares"].values()) for entry in highest]),
        [fraud_report.feature_label(name) for name in dataset.feature_names],
        x_label="share of the anomaly score",
        y_label="alert",
    )

    rows = np.arange(len(test))
    if len(rows) > 20_000:
        rows = np.sort(np.random.default_rng(0).choice(rows, 20_000, replace=False))
    standardised = scorer.get_layer("standardise")(np.asarray(test.inputs[rows]))
    encoder = scorer.get_layer("autoencoder").get_layer("encoder")
    code = keras.ops.convert_to_numpy(encoder(standardised)).astype(np.float64)
    if code.shape[1] > 2:
        pca = PCA(2, svd_solver="full").fit(code)
        points, held = pca.transform(code), float(pca.explained_variance_ratio_.sum())
        axes = ("first principal component of the code", "second principal component")
    else:
        # A code of one number is drawn against the score.
        points = code if code.shape[1] == 2 else np.column_stack([code, own[rows]])
        held = 1.0
        axes = ("first number of the code", "second number" if code.shape[1] == 2 else "anomaly score")
    drawn["code"] = figures.scatter(points, test.labels[rows], class_names=dataset.classes, axis_names=axes)

    budgets = metrics["threshold"]["budgets"]
    drawn["budget"] = figures.budget_calibration(
        [budget["validation"]["alerts"] for budget in budgets],
        [budget["test"]["alerts"] for budget in budgets],
        validation={key: [budget["validation"][key] for budget in budgets] for key in ("recall", "precision")},
        test={key: [budget["test"][key] for budget in budgets] for key in ("recall", "precision")},
        chosen=[budget["multiple"] for budget in budgets].index(1),
    )
    names = {"loss": "training", "val_loss": "validation"}
    drawn["learning"] = figures.learning_curves(
        {stage: {names[k]: v for k, v in fit.history.items() if k in names} for stage, fit in fits.items()},
        y_label=f"loss ({metrics['settings']['loss'].replace('_', ' ')})",
        best_epoch=metrics["model"]["epochs"],
    )
    drawn["network"] = figures.network([(name, shape, count) for name, shape, count in metrics["model"]["layers"]])
    for name, svg in drawn.items():
        this_run.write(f"figures/{name}.svg", svg)
    return {"variance_shown": held, "points": len(rows)}


# --- After training ---------------------------------------------------------------------------------------------------


def score(settings: Score) -> dict[str, Any]:
    """Stream tables through a saved model to a CSV file; memory does not grow with the number of rows."""
    scorer = _load_scorer(settings.model)
    if settings.out.exists():
        raise BadInput(f"--out {settings.out}: found an existing file, expected a new name")
    encoder = table.Encoder.from_config(scorer.get_layer("anomaly_score").metadata["encoder"])
    rows = alerts = 0
    with run.replacing(settings.out) as partial, partial.open("wb") as file:
        for batch in table.stream(table.find_files(settings.csv), encoder.kinds):
            found = _outputs(scorer, encoder.encode(batch))
            shares = {f"share of {name}": found["share"][:, i] for i, name in enumerate(encoder.feature_names)}
            lines = pa.table({"score": found["score"], "alert": found["alert"], **shares})
            pa.csv.write_csv(lines, file, pa.csv.WriteOptions(include_header=rows == 0))
            rows += len(batch)
            alerts += int(found["alert"].sum())
    print(f"{settings.out}: {rows:,} payments scored, {alerts:,} alerts")
    return {"rows": rows, "alerts": alerts}


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model on labelled tables and print the figures with their intervals."""
    scorer = _load_scorer(settings.model)
    metadata = scorer.get_layer("anomaly_score").metadata
    split = table.read_labelled(
        settings.csv,
        table.Encoder.from_config(metadata["encoder"]),
        label=settings.label,
        time=settings.time,
        customer=settings.customer,
    )
    scores = _in_chunks(lambda inputs: _outputs(scorer, inputs)["score"], split.inputs)
    resamples = 100 if len(split) > BASELINE_ROWS else 500
    found = _compare(split, {"autoencoder": [scores]}, {"autoencoder": 0}, metadata["alert_rate"], resamples)
    values = found["results"][0]["metrics"]
    print(f"{len(split):,} payments, {int(split.labels.sum()):,} of them fraud")
    for name, value in values.items():
        label = fraud_report.METRICS[name].format(rate=metadata["alert_rate"])
        print(f"{label:<40} {value['value']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")
    alert = scores > scorer.get_layer("anomaly_score").threshold
    right = int(split.labels[alert].sum())
    print(f"{'alerts at the saved threshold':<40} {int(alert.sum()):,}, {right:,} of them fraud")
    return {"metrics": values, "alerts": int(alert.sum())}


def simulate(settings: Simulate) -> dict[str, Any]:
    """Write simulated payments with their features to a file."""
    writers = {".csv": pd.DataFrame.to_csv, ".parquet": pd.DataFrame.to_parquet}
    if settings.out.suffix not in writers:
        raise BadInput(f"--out {settings.out}: found {settings.out.suffix!r}, expected a name in .csv or .parquet")
    if settings.out.exists():
        raise BadInput(f"--out {settings.out}: found an existing file, expected a new name")
    payments = fraud.add_features(fraud.simulate(settings.simulation))
    with run.replacing(settings.out) as partial:
        writers[settings.out.suffix](payments, partial, index=False)
    print(f"{settings.out}: {len(payments):,} payments, {int(payments['TX_FRAUD'].sum()):,} of them fraud")
    return {"rows": len(payments)}


def report(settings: Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    try:
        metrics = json.loads((settings.run / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{settings.run}: found no usable metrics.json ({error}), expected a finished run") from None
    run.write(settings.run / "report.pdf", fraud_report.typeset(metrics, settings.run))
    print(settings.run / "report.pdf")
    return metrics


if __name__ == "__main__":
    run.execute(main)

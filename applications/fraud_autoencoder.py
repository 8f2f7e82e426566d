"""Detect card fraud with an autoencoder trained on genuine payments only, and report how well it works.

Simulates card payments (or reads yours), trains the autoencoder, compares it with classical detectors on the same
payments and writes a PDF report, the model and all results to a run's folder.

    python applications/fraud_autoencoder.py
    python applications/fraud_autoencoder.py --csv creditcard.csv --label Class --time Time
    python applications/fraud_autoencoder.py score --model runs/.../model.keras --csv new.csv --out scored.csv
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # data/, reports/ and templates/ are those beside applications/


from applications import exporting, lazy, run
from data import embedded
from data.dataset import BadInput, Dataset, Split, escaped
from data.ranges import Count, NotNegative, Positive, Range, Share

with lazy.imports():
    import keras
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from sklearn import preprocessing

    from applications.fraud import evaluation
    from data import batches as batching
    from data import fraud, table, table_files
    from templates import autoencoder as template

APPLICATION = "fraud_autoencoder"
REPORT = Path(__file__).parent / "fraud" / "report.typ"
TimeUnit = Literal[
    "nanoseconds", "microseconds", "milliseconds", "seconds", "minutes", "hours", "days", "weeks", "months"
]
EXAMPLES = 256  # rows that an exported model is compared on
ALERTS = 100  # per day, the default rule
FALSE_POSITIVE_RATE = 0.01  # the default if there are no days, or too few payments per day for that many alerts


@dataclasses.dataclass(frozen=True)
class Simulation(embedded.Simulation):
    """Settings of the simulated payments, used without --csv."""

    customers: Count | None = None
    terminals: Count | None = None
    radius: NotNegative | None = None
    """A customer pays at the terminals within this distance on the 100 × 100 grid."""


@run.choices("autoencoder", "autoencoder")
class Autoencoder:
    """The choices of templates/autoencoder.py."""

    widths: tuple[Count, ...] = (128,)
    code_size: Count = 12
    activation: Literal["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"] = "tanh"
    code_activation: Literal["linear", "relu", "tanh", "sigmoid"] = "linear"
    dropout: Share
    input_noise: NotNegative
    input_dropout: Share = 0.2
    code_penalty: NotNegative


@dataclasses.dataclass(frozen=True)
class Payments:
    """Which payments, and how many alerts."""

    csv: tuple[Path, ...] = ()
    """Your own payments: CSV or Parquet files, or folders of them. Without it, payments are simulated."""
    label: str | None = None
    """Column of labels that mark fraud. Tables in the handbook's layout need no column names."""
    fraud_value: tuple[str, ...] = ()
    """Label values that mean fraud; all others mean genuine. By default known words, else the rarer of two values."""
    time: str | None = None
    """Column of the time of payment, numbers or dates. The data are then split by time."""
    time_unit: TimeUnit | None = None
    """Unit of a numeric time column. By default seconds, or inferred from the size of numbers since 1970."""
    customer: str | None = None
    """Column of the customer or card, for the card precision; never used as an input."""
    drop: tuple[str, ...] = ()
    """Columns to ignore; '' is the column without a name."""
    encoding: str | None = None
    """Encoding of CSV files, such as latin-1, cp1252 or utf-16. By default UTF-8, or as the byte order mark says."""
    skip_bad: bool = False
    """Skip and count invalid rows instead of rejecting the table."""
    unlabelled: bool = False
    """Train on all payments, not only on genuine ones; labels are then used for validation and test only."""
    simulation: Simulation = dataclasses.field(default_factory=Simulation)
    """Settings of the simulated payments, used without --csv."""
    protocol: embedded.Protocol = dataclasses.field(default_factory=embedded.Protocol)
    """Weeks of training and test, for simulated payments and tables in the handbook's layout."""

    alerts_per_day: Positive | None = None
    """Sets the threshold by the number of payments that analysts can check in a day. Default: 100; needs --time."""
    false_positive_rate: Annotated[float, Range(0, 1, above=True, below=True)] | None = None
    """Alternatively: share of genuine validation payments with an alert; 0.01 without times or with few payments."""
    cost_ratio: Positive | None = None
    """Alternatively: cost of a missed fraud relative to a false alert; takes the cheapest threshold on validation."""


@dataclasses.dataclass(frozen=True)
class Train(run.Training, Autoencoder, Payments):
    """Train on simulated payments or on your own, compare with classical detectors, and write the report."""

    loss: Literal["mean_squared_error", "mean_absolute_error", "huber"] = "mean_squared_error"
    """Training loss; the anomaly score is always the mean squared error."""
    patience: Count = 5
    """Epochs without a lower validation loss after which training stops."""


RECIPE = {
    **{"optimizer": "adam", "learning_rate": 2e-3, "batch_size": 256, "seeds": 3},
    "simulation": {"customers": 5_000, "terminals": 10_000, "radius": 5.0},
}
LARGE = {"epochs": 12}
STEPS_PER_EPOCH = 100  # or more, but for a quick run; a small table is passed through several times in an epoch
LEAST_STEPS = 2_000  # about; with far fewer, a network ranks the rows of a small table hardly better than no model
QUICK = {"epochs": 2, "seeds": 2, "simulation": {"customers": 1_000, "terminals": 2_000, "radius": 10.0}}


@dataclasses.dataclass(frozen=True)
class Score(run.Trained):
    """Score new payments with a trained model: a score, an alert and each feature's share, in the order of the rows."""

    csv: tuple[Path, ...]
    """CSV or Parquet files, or folders of them, with the model's input columns; others are ignored."""
    out: Path
    """The CSV file to write."""
    encoding: str | None = None
    """Encoding of CSV files, as in training."""
    skip_bad: bool = False
    """Leave the fields of invalid rows empty and count them instead of rejecting the table."""


@dataclasses.dataclass(frozen=True)
class Evaluate(run.Trained):
    """Measure a trained model on labelled payments, without training."""

    csv: tuple[Path, ...]
    """CSV or Parquet files, or folders of them, with the model's input columns and labels."""
    label: str
    """Column of labels that mark fraud."""
    fraud_value: tuple[str, ...] = ()
    """Label values that mean fraud; all others mean genuine. By default as in training."""
    time: str | None = None
    """Column of the time of payment, for the card precision."""
    time_unit: TimeUnit | None = None
    """Unit of a numeric time column. By default as in training."""
    customer: str | None = None
    """Column of the customer or card, for the card precision and the intervals."""
    encoding: str | None = None
    """Encoding of CSV files, as in training."""
    skip_bad: bool = False
    """Skip and count invalid rows instead of rejecting the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What an exported model is compared on."""

    csv: tuple[Path, ...] = ()
    """Rows to compare on: CSV or Parquet files, or folders of them. Without it, simulated payments."""
    encoding: str | None = None
    """Encoding of CSV files, as in training."""


@dataclasses.dataclass(frozen=True)
class Export(exporting.Export, Rows):
    """Export a trained model to run without Keras, with the code that scores a row, and compare its scores."""


@dataclasses.dataclass(frozen=True)
class Serve(exporting.Serve, Rows):
    """Serve a trained model over HTTP, after it was exported to ONNX and its scores were compared."""


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Write simulated payments with their features to a CSV or Parquet file, in the handbook's layout."""

    out: Path
    """The file to write; its name ends in .csv or .parquet."""
    simulation: embedded.Simulation = dataclasses.field(default_factory=embedded.Simulation)
    """Sizes, rates and seed of the simulation."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {
        Train: train,
        Score: score,
        Evaluate: evaluate,
        Export: export,
        Serve: export,
        Simulate: simulate,
        run.Report: report,
    }
    return run.dispatch(
        commands,
        arguments,
        program="fraud_autoencoder.py",
        description=__doc__ or "",
        recipes={
            "--quick": QUICK,
            "always": RECIPE,
            "from 167 steps per epoch on; with fewer, up to 20 epochs of at least 100 steps": LARGE,
        },
    )


# --- Train ---


def completed(settings: Train) -> Any:
    """The settings with those defaults filled in that don't depend on the data."""
    return run.filled(settings, QUICK if settings.quick else {}, RECIPE)


def sized(settings: Any, rows: int) -> Any:
    """The settings with the epochs filled in, for a number of training payments."""
    steps = max(rows // settings.batch_size, STEPS_PER_EPOCH)
    return run.filled(settings, {"epochs": max(math.ceil(LEAST_STEPS / steps), LARGE["epochs"])})


def train(settings: Train) -> dict[str, Any]:
    """Data, model, fit, evaluation, report."""
    _check(settings)
    settings = completed(settings)
    start_weights = _weights_of(settings.init_from) if settings.init_from else None
    with run.Run(APPLICATION, settings) as this_run:
        return _train(settings, start_weights, this_run)


def _train(settings: Any, start_weights: list[np.ndarray] | None, this_run: run.Run) -> dict[str, Any]:
    dataset, encoder = _load(settings, this_run.folder)
    this_run.check_data(dataset.provenance)
    splits = dataset.splits
    test = splits["test"]
    this_run.say("data: " + ", ".join(f"{name} {len(part):,}" for name, part in splits.items()))
    settings = sized(settings, len(evaluation.unsupervised_rows(splits["validation_train"], settings.unlabelled)))

    _, reason = budget(settings, splits["validation"])
    if reason:
        this_run.say(f"{_share_rule(settings)}{reason}")

    # Every choice is made on the validation weeks, before the final models are trained.
    selection = Detector(settings, splits["validation_train"], settings.seed, start_weights)
    selection_fit = selection.fit(this_run, "selection", settings.epochs, splits["validation"])
    validation_scores = selection.scores(splits["validation"])
    this_run.at_limit("the best epoch", selection_fit.best_epoch, settings.epochs, "--epochs")
    rate, rule = alert_rate(settings, splits["validation"], validation_scores)
    this_run.say(f"chosen on validation: {_counted(selection_fit.best_epoch, 'epoch')}; {rule}")

    fits = {"selection": selection_fit}
    detectors = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        detectors.append(Detector(settings, splits["train"], seed, start_weights))
        fits[f"seed {seed}"] = fit = detectors[-1].fit(this_run, f"seed-{seed}", selection_fit.best_epoch)
        this_run.say(f"autoencoder, seed {seed}: loss {fit.history['loss'][-1]:.4f}")
    first = detectors[0]

    scores = {"autoencoder": [detector.scores(test) for detector in detectors]}
    parameters = {"autoencoder": first.model.count_params()}
    for name, fit_baseline in evaluation.BASELINES.items():
        fitted = this_run.stage(
            name, lambda fit_baseline=fit_baseline: fit_baseline(splits, settings.unlabelled, settings.seed)
        )
        scores[name], parameters[name] = [fitted["scores"]], int(fitted["parameters"])
        this_run.say(name)

    # The threshold is the quantile for this rate of the final model's own validation scores.
    own_scores = first.scores(splits["validation"])
    threshold = evaluation.threshold_of(own_scores, rate)
    metadata = {
        "encoder": encoder.to_config(),
        "label_values": dataset.label_values,
        "fraud_values": settings.fraud_value,
        "alert_rate": rate,
    }
    scorer = first.scorer(threshold, metadata)
    resamples = 100 if settings.quick or len(test) > evaluation.SAMPLE_ROWS else 500

    metrics = {
        **this_run.header(settings, "numpy", "scikit-learn"),
        "data": evaluation.describe(dataset, learned_from=len(first.rows)),
        **evaluation.compare(test, scores, parameters, rate, resamples),
        "threshold": {"rule": rule, "alert_rate": rate, "value": threshold}
        | evaluation.calibration(
            splits["validation"], test, validation_scores, own_scores, scores["autoencoder"][0], rate
        ),
        "alerts": evaluation.extremes(test, scores["autoencoder"][0], scorer, dataset.feature_names),
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
    this_run.write("history.csv", run.history(fits))
    this_run.save_model(scorer)
    metrics |= evaluation.draw(this_run, dataset, scores, metrics, scorer, fits)
    this_run.say("writing the report")
    this_run.finish(metrics, REPORT, fits.values())
    headline = metrics["headline"]
    this_run.say(
        f"{this_run.folder / 'report.pdf'}: average precision {headline['value']:.3f} "
        f"({headline['low']:.3f} to {headline['high']:.3f})"
    )
    return metrics


class Detector:
    """An autoencoder with the scaling of its training payments."""

    def __init__(self, settings: Any, split: Split, seed: int, start_weights: list[np.ndarray] | None):
        self.split = split
        self.rows = evaluation.unsupervised_rows(split, settings.unlabelled)
        self.seed = seed
        self.patience = settings.patience
        self.unlabelled = settings.unlabelled
        scaler = preprocessing.StandardScaler()
        size = evaluation.chunk_rows(split.inputs)
        for start in range(0, len(self.rows), size):
            scaler.partial_fit(split.inputs[self.rows[start : start + size]].astype(np.float64))

        self.mean, self.scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
        self.batch_size = min(settings.batch_size, len(self.rows))
        backend = keras.backend.backend()
        enough = len(self.rows) if settings.quick else max(len(self.rows), STEPS_PER_EPOCH * self.batch_size)
        self.steps, execution = batching.steps_of(enough, self.batch_size, 1 if backend == "torch" else 32)
        keras.utils.set_random_seed(seed)
        self.model = template.autoencoder(
            features=split.inputs.shape[1],
            **run.arguments(template.autoencoder, settings),
        )
        run.start_from(self.model, start_weights, settings, "these columns, --widths and --code-size")
        self.model.compile(
            run.optimizer(settings.optimizer, settings.learning_rate, settings.epochs * self.steps),
            loss=settings.loss,
            steps_per_execution=execution,
            jit_compile=run.jit_compile(),
        )

    def fit(self, this_run: run.Run, name: str, epochs: int, validation: Split | None = None) -> run.Fit:
        """Train for `epochs` epochs; with `validation`, keep the weights of the best epoch."""
        held_out = None
        if validation is not None:
            rows = evaluation.sample(evaluation.unsupervised_rows(validation, self.unlabelled), self.seed)
            held_out = self._standardise(validation.inputs[rows])
            held_out = (held_out, held_out)

        def pairs(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = self._standardise(self.split.inputs[self.rows[order]])
            return rows, rows

        return this_run.fit(
            name,
            self.model,
            batching.shuffled_batches(
                pairs, len(self.rows), batch_size=self.batch_size, steps=self.steps, seed=self.seed
            ),
            epochs=epochs,
            steps=self.steps,
            validation=held_out,
            patience=self.patience,
        )

    def _standardise(self, inputs: np.ndarray) -> np.ndarray:
        return ((inputs - self.mean) / self.scale).astype(np.float32)

    def scorer(self, threshold: float, metadata: dict | None = None) -> keras.Model:
        """The model of raw rows that computes scores, to be saved."""
        return template.anomaly_scorer(
            self.model,
            mean=self.mean.tolist(),
            deviation=self.scale.tolist(),
            threshold=threshold,
            metadata=metadata,
        )

    def scores(self, split: Split) -> np.ndarray:
        """Anomaly scores (rows,)."""
        scorer = self.scorer(math.inf)
        return evaluation.in_chunks(lambda inputs: evaluation.outputs(scorer, inputs)["score"], split.inputs)


def _check(settings: Train) -> None:
    rules = [settings.alerts_per_day, settings.false_positive_rate, settings.cost_ratio]
    if sum(rule is not None for rule in rules) > 1:
        raise BadInput("found several of --alerts-per-day, --false-positive-rate and --cost-ratio, expected one")
    flags = ("label", "fraud_value", "time", "time_unit", "customer", "drop", "encoding", "skip_bad")
    if not settings.csv and (given := [f"--{flag.replace('_', '-')}" for flag in flags if getattr(settings, flag)]):
        raise BadInput(f"found {' and '.join(given)} without --csv, expected a table to go with them")
    if settings.time_unit and not settings.time:
        raise BadInput("found --time-unit without --time, expected the column that has this unit")


def _load(settings: Train, folder: Path) -> tuple[Dataset, table.Encoder]:
    if not settings.csv:
        return fraud.load_simulated(settings.simulation, settings.protocol)
    reading: dict[str, Any] = {"encoding": settings.encoding, "skip_bad": settings.skip_bad}
    files = table_files.find_files(settings.csv, **reading)
    if set(fraud.RAW_COLUMNS) <= set(files[0].columns) and settings.label in (None, "TX_FRAUD"):
        if settings.time or settings.customer or settings.drop or settings.fraud_value:
            raise BadInput(
                f"{files[0]}: found a table in the handbook's layout, expected no --time, --customer or --drop with it"
                + ", nor --fraud-value" * bool(settings.fraud_value)
            )
        return fraud.load_tables(settings.csv, settings.protocol, **reading)
    if settings.label is None:
        columns = table_files.some(files[0].columns, 40)
        raise BadInput(f"{files[0]}: found no --label, expected the name of the column of labels: {columns}")
    if settings.alerts_per_day is not None and settings.time is None:
        raise BadInput("--alerts-per-day: found no --time, expected the column of times, which gives the days")
    return table.load(
        settings.csv,
        label=settings.label,
        time=settings.time,
        customer=settings.customer,
        drop=settings.drop,
        seed=settings.seed,
        work_folder=folder,
        **reading,
        time_unit=settings.time_unit,
        fraud_values=settings.fraud_value,
    )


def _load_scorer(path: Path) -> Any:
    return run.load_model(
        path, lambda model: table.Encoder.from_config(model.get_layer("anomaly_score").metadata["encoder"])
    )


def _weights_of(path: Path) -> list[np.ndarray]:
    return _load_scorer(path).get_layer("autoencoder").get_weights()


def budget(settings: Train, validation: Split) -> tuple[float | None, str]:
    """Alerts per day, if they decide the threshold; else None, with the reason if the default of 100 can't be used.

    Raises:
        BadInput: --alerts-per-day is more than the payments per day in the validation data.
    """
    days = evaluation.days_of(validation)
    if settings.false_positive_rate is not None or settings.cost_ratio is not None or days is None:
        return None, ""
    a_day = len(validation) / days
    if settings.alerts_per_day is not None:
        if settings.alerts_per_day >= a_day:
            raise BadInput(
                f"--alerts-per-day: found {settings.alerts_per_day:g}, expected fewer than the {a_day:,.0f} payments "
                "per day in the validation data"
            )
        return settings.alerts_per_day, ""
    if a_day < 2 * ALERTS:
        return None, (
            f", since {ALERTS} alerts per day, the default of --alerts-per-day, are too many for {a_day:,.0f} "
            "payments per day"
        )
    if ALERTS * days < 1:
        minutes = days * 24 * 60
        return None, (
            f", since {ALERTS} alerts per day, the default of --alerts-per-day, are less than one in the "
            f"{minutes:,.2g} minutes of validation data"
        )
    return ALERTS, ""


def _share_rule(settings: Train) -> str:
    rate = FALSE_POSITIVE_RATE if settings.false_positive_rate is None else settings.false_positive_rate
    return f"{evaluation.rate_in_words(rate)} of the genuine payments may raise an alert"


def alert_rate(settings: Train, validation: Split, scores: np.ndarray) -> tuple[float, str]:
    """The share of validation payments that raise an alert, and the rule behind it in words."""
    fraud_rows = validation.labels == 1
    if settings.cost_ratio is not None:
        order = np.argsort(-scores, kind="stable")
        missed = fraud_rows.sum() - np.cumsum(fraud_rows[order])
        false = np.cumsum(~fraud_rows[order])
        alerts = int(np.argmin(settings.cost_ratio * missed + false)) + 1
        return alerts / len(scores), f"a missed fraud costs {settings.cost_ratio:g} times as much as a false alert"
    alerts_per_day, reason = budget(settings, validation)
    days = evaluation.days_of(validation)
    if alerts_per_day is None or days is None:
        rate = FALSE_POSITIVE_RATE if settings.false_positive_rate is None else settings.false_positive_rate
        threshold = evaluation.threshold_of(scores[~fraud_rows], rate)
        raised = scores[~fraud_rows] > threshold
        # There is at least one alert; equal scores may give more than the rate allows.
        if raised.mean() > 2 * rate and raised.sum() > 1:
            reason += f"; {evaluation.rate_in_words(raised.mean())} do, since their scores are equal"
        return float(np.mean(scores > threshold)), f"{_share_rule(settings)}{reason}"
    return alerts_per_day * days / len(validation), f"{alerts_per_day:g} alerts per day"


# --- After training ---


def score(settings: Score) -> dict[str, Any]:
    """Stream tables through a saved model to a CSV file, in bounded memory."""
    scorer = _load_scorer(settings.model)
    run.check_new(settings.out)
    encoder = table.Encoder.from_config(scorer.get_layer("anomaly_score").metadata["encoder"])
    files = table_files.find_files(settings.csv, encoding=settings.encoding, skip_bad=settings.skip_bad)
    _say(files.understood)
    rows = alerts = bad_rows = incomplete = 0
    never_missing: dict[str, None] = {}
    with run.replacing(settings.out) as partial, partial.open("wb") as file:
        for batch in table_files.stream(files, encoder.kinds, mark_bad=True):
            lacking: dict[str, np.ndarray] = {}
            inputs = encoder.encode(batch, lacking)
            bad = np.zeros(len(batch), bool) if batch.bad is None else batch.bad
            inputs[bad] = 0
            outputs = evaluation.outputs(scorer, inputs)
            # Training had no such rows, so the score of the substituted values is meaningless: always an alert.
            unlike = np.any([*lacking.values(), np.zeros(len(batch), bool)], axis=0)
            outputs["alert"] = np.where(unlike, 1, outputs["alert"])
            incomplete += int(unlike[~bad].sum())
            never_missing |= dict.fromkeys(lacking)
            shares = {f"share of {name}": outputs["share"][:, i] for i, name in enumerate(encoder.feature_names)}
            columns = {"score": outputs["score"], "alert": outputs["alert"], **shares}
            # The fields of an unusable row are empty.
            lines = pa.table({name: pa.array(values, mask=bad) for name, values in columns.items()})
            arrow_csv.write_csv(lines, file, arrow_csv.WriteOptions(include_header=rows == 0))
            rows += len(batch)
            bad_rows += int(bad.sum())
            alerts += int(outputs["alert"][~bad].sum())
    if bad_rows:
        _say([files.describe_bad(bad_rows, rows)])
    if incomplete:
        columns_named = table_files.some(list(never_missing))
        counted = _counted(incomplete, "payment")
        _say([f"alerts regardless of score, {counted}: no value in {columns_named}, which always had one in training"])
    print(f"{settings.out}: {rows - bad_rows:,} payments scored, {_counted(alerts, 'alert')}")
    return {"rows": rows, "alerts": alerts, "bad_rows": bad_rows}


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        print(escaped(sentence).replace("\u00a0", " "))


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model on labelled tables and print the results with their intervals."""
    scorer = _load_scorer(settings.model)
    metadata = scorer.get_layer("anomaly_score").metadata
    split, understood = table.read_labelled(
        settings.csv,
        table.Encoder.from_config(metadata["encoder"]),
        label=settings.label,
        label_values=metadata["label_values"],
        time=settings.time,
        customer=settings.customer,
        encoding=settings.encoding,
        skip_bad=settings.skip_bad,
        time_unit=settings.time_unit,
        fraud_values=settings.fraud_value or metadata.get("fraud_values", ()),
    )
    _say(understood)
    scores = evaluation.in_chunks(lambda inputs: evaluation.outputs(scorer, inputs)["score"], split.inputs)
    resamples = 100 if len(split) > evaluation.SAMPLE_ROWS else 500
    results = evaluation.compare(
        split, {"autoencoder": [scores]}, {"autoencoder": 0}, metadata["alert_rate"], resamples
    )
    values = results["results"][0]["metrics"]
    spelled = f"{settings.label} = {' or '.join(settings.fraud_value) or metadata['label_values'][1]}"
    print(f"{len(split):,} payments, {int(split.labels.sum()):,} of them fraud ({spelled})")
    for name, value in values.items():
        label = results["evaluation"]["measures"][name]
        most = results["best_possible"].get(name, 1.0)
        of = f", {most:.3f} for a perfect ranking" if most < 1 else ""
        print(f"{label:<40} {value['value']:.3f}  ({value['low']:.3f} to {value['high']:.3f}){of}")
    alert = scores > scorer.get_layer("anomaly_score").threshold
    right = int(split.labels[alert].sum())
    print(f"{'alerts at the saved threshold':<40} {int(alert.sum()):,}, {right:,} of them fraud")
    return {"metrics": values, "alerts": int(alert.sum())}


def export(settings: Export | Serve) -> dict[str, Any]:
    """Export a saved model with preprocess.py, whose answers to rows of a table equal those of `score`."""
    scorer = _load_scorer(settings.model)
    layer = scorer.get_layer("anomaly_score")
    encoder = table.Encoder.from_config(layer.metadata["encoder"])
    with tempfile.TemporaryDirectory() as folder:
        paths = settings.csv
        if not paths:
            paths = (Path(folder) / "simulated.parquet",)
            fraud.add_features(fraud.simulate(embedded.Simulation(customers=100, terminals=100, days=30))).to_parquet(
                paths[0]
            )
        batch = next(table_files.stream(table_files.find_files(paths, encoding=settings.encoding), encoder.kinds))
        rows = batch.rows.slice(0, EXAMPLES).to_pylist()
        lacking: dict[str, np.ndarray] = {}
        found = evaluation.outputs(scorer, encoder.encode(batch, lacking)[: len(rows)])
    unlike = np.any([*lacking.values(), np.zeros(len(batch), bool)], axis=0)
    answers = [
        {
            "score": float(found["score"][row]),
            "alert": bool(found["alert"][row] or unlike[row]),
            "shares": dict(zip(encoder.feature_names, found["share"][row].tolist(), strict=True)),
        }
        for row in range(len(rows))
    ]
    return exporting.export(
        settings,
        scorer,
        Path(__file__).parent / "fraud" / "preprocess.py",
        about={
            "raw": {"features": list(encoder.feature_names)},
            "score": {"unit": "mean squared error of standardised features", "threshold": layer.threshold},
            "share": {"unit": "share of each feature in the score"},
            "alert": {"values": "1 above the threshold, else 0"},
        },
        preparation=encoder.preparation() | {"largest_score": float(evaluation.LARGEST_SCORE)},
        examples=rows,
        answers=answers,
    )


def simulate(settings: Simulate) -> dict[str, Any]:
    """Write simulated payments with their features to a file."""
    writers = {".csv": pd.DataFrame.to_csv, ".parquet": pd.DataFrame.to_parquet}
    if settings.out.suffix not in writers:
        raise BadInput(f"--out {settings.out}: found {settings.out.suffix!r}, expected a name in .csv or .parquet")
    run.check_new(settings.out)
    payments = fraud.add_features(fraud.simulate(settings.simulation))
    with run.replacing(settings.out) as partial:
        writers[settings.out.suffix](payments, partial, index=False)
    print(f"{settings.out}: {len(payments):,} payments, {np.sum(payments['TX_FRAUD']):,} of them fraud")
    return {"rows": len(payments)}


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def report(settings: run.Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    return run.typeset_again(settings.run, APPLICATION, REPORT)


if __name__ == "__main__":
    run.execute(main)

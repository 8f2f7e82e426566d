"""The evaluation of the fraud application: baselines, measures with intervals, and figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from applications import run
from data import fraud
from data.dataset import Dataset, Split
from reports import figures
from reports import metrics as schema
from reports.metrics import (
    CardPrecision,
    Ranking,
    Result,
    bootstrap,
    differences,
    headline,
    mean,
    over_seeds,
    percent,
    span,
)

CHUNK = 65_536
# Detectors that need their rows in memory are fitted on parts of this size; enough for choosing a setting.
SAMPLE_ROWS = 100_000
LARGEST_SCORE = np.finfo(np.float32).max
TREES = 100  # of a forest, scikit-learn's default
NAMED = 7  # features in a figure of shares
KEPT = 100  # features whose values and shares are stored for each alert, at most
COMPONENTS = 256  # numbers of principal components to try, at most
WIDE = 2_000  # features; with more, principal components take too long, as the time grows with the cube
WIDE_ROWS = 1_000
BUDGETS = (0.1, 0.2, 0.5, 1, 2, 5, 10)  # multiples of the chosen number of alerts, for the calibration
SPREAD_OUT = 0.2  # least share of the scores in the named features for a figure of shares to be useful
LONGEST_NAME = 40  # of a feature in a short label

# Titles of the measures; the rate is that of the alerts.
MEASURES = {
    "auc_roc": "AUC-ROC",
    "average_precision": "Average precision",
    "card_precision_at_100": "Card precision@100",
    "recall_at_budget": "Recall at {rate} alerts",
}
_LABELS = {
    "TX_AMOUNT": "amount",
    "TX_DURING_WEEKEND": "weekend",
    "TX_DURING_NIGHT": "night",
}
_WINDOWED = {
    "CUSTOMER_ID_NB_TX_": "customer's payments",
    "CUSTOMER_ID_AVG_AMOUNT_": "customer's mean amount",
    "TERMINAL_ID_NB_TX_": "terminal's payments",
    "TERMINAL_ID_RISK_": "terminal's fraud share",
}


# --- The schema of this application's metrics.json ---


class Data(schema.Data):
    """Rows, frauds and days of each split, and the features with their names for readers."""

    validation_train: int
    validation: int
    train: int
    test: int
    features: list[str]
    labels: list[str]
    frauds: dict[str, int]
    days: dict[str, float | None]
    learned_from: int


class Evaluation(schema.Evaluation):
    """The titles of the measures, and the size of the test data."""

    measures: dict[str, str]
    defrauded: int
    sample_rows: int


class Outcome(TypedDict):
    """The results of a threshold; alerts are per day, or per thousand payments."""

    alerts: float
    recall: float
    precision: float


class Budget(TypedDict):
    """A multiple of the chosen number of alerts, on validation and on test."""

    multiple: float
    validation: Outcome
    test: Outcome


class Threshold(TypedDict):
    """The threshold, the rule behind it, and thresholds of other budgets."""

    rule: str
    alert_rate: float
    value: float
    unit: str
    budgets: list[Budget]


class Part(TypedDict):
    """A feature's share in a score."""

    feature: str
    value: float
    share: float


class Payment(TypedDict):
    """A payment with its score, the values and shares of its features, and the largest shares for the report."""

    row: int
    rank: int
    score: float
    fraud: bool
    scenario: str | None
    values: dict[str, float]
    shares: dict[str, float]
    largest: list[Part]


class Alerts(TypedDict):
    """The payments with the highest scores, the frauds with the lowest, and the named features' share of the scores."""

    highest: list[Payment]
    missed: list[Payment]
    named_share: float


class Code(TypedDict):
    """The content of the figure of the codes."""

    variance_shown: float
    points: int


class Model(TypedDict):
    """The autoencoder's layers as name, shape and parameters, and its training."""

    layers: list[list[Any]]
    epochs: int
    batch_size: int
    steps_per_epoch: int


class Metrics(schema.Metrics):
    """metrics.json of this application."""

    data: Data
    evaluation: Evaluation
    best_possible: dict[str, float]
    detection: dict[str, dict[str, schema.Estimate]]
    threshold: Threshold
    alerts: Alerts
    code: Code
    model: Model


def outputs(scorer: keras.Model, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The scorer's outputs for a chunk of rows, without compiling for each size of chunk.

    A row whose score isn't finite gets the largest float32, and raises an alert.
    """
    arrays = {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in scorer(inputs).items()}
    finite = np.isfinite(arrays["score"])
    return {
        "score": np.where(finite, arrays["score"], LARGEST_SCORE),
        "alert": np.where(finite, arrays["alert"], 1),
        "share": np.nan_to_num(arrays["share"], nan=0.0),
    }


def codes(scorer: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """The codes of raw rows, (rows, code size) float64, computed by the scorer's layers."""
    row, _ = scorer.get_layer("anomaly_score").input
    encoder = keras.Model(scorer.input, scorer.get_layer("autoencoder").get_layer("encoder")(row))
    return in_chunks(lambda chunk: np.asarray(keras.ops.convert_to_numpy(encoder(chunk))), inputs)


def chunk_rows(inputs: np.ndarray) -> int:
    """Number of rows of the matrix to process at a time."""
    return max(1, min(CHUNK, 2**25 // inputs.shape[1]))


def in_chunks(function: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Apply a function of rows to a matrix that may be larger than memory; returns float64."""
    chunk = chunk_rows(inputs)
    parts = [function(np.asarray(inputs[start : start + chunk])) for start in range(0, len(inputs), chunk)]
    return np.concatenate(parts).astype(np.float64)


# --- Baselines, on the same payments ---


def days_of(split: Split) -> float | None:
    """Days from the first to the last payment; None without times."""
    if "time" not in split.extra:
        return None
    return max(float(np.ptp(split.extra["time"])), 1.0) / 86_400


def sample(rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows, or SAMPLE_ROWS of them drawn at random, sorted."""
    if len(rows) > SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE_ROWS, replace=False))
    return rows


def unsupervised_rows(split: Split, unlabelled: bool) -> np.ndarray:
    """The training rows of unsupervised detectors: genuine ones, or all."""
    return np.arange(len(split)) if unlabelled else np.flatnonzero(split.labels == 0)


def parts_of(rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """The rows, split into random parts of about equal size with at most SAMPLE_ROWS each, sorted."""
    if len(rows) <= SAMPLE_ROWS:
        return [rows]
    mixed = np.random.default_rng(seed).permutation(rows)
    return [np.sort(part) for part in np.array_split(mixed, -(-len(rows) // SAMPLE_ROWS))]


def supervised_parts(split: Split, seed: int) -> list[np.ndarray]:
    """Parts of the rows for training classifiers: each has all frauds, and a share of the genuine payments."""
    frauds = np.flatnonzero(split.labels == 1)
    return [np.concatenate([frauds, part]) for part in parts_of(np.flatnonzero(split.labels == 0), seed)]


def threshold_of(scores: np.ndarray, rate: float) -> float:
    """The threshold that the `rate` share of the scores exceeds, at least one score, including ties."""
    count = max(1, round(rate * len(scores)))
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    # The next smaller float32, the type of the scores, so that the lowest is above it.
    return float(np.nextafter(np.float32(lowest), np.float32(-np.inf)))


def _grow(forest: Any, parts: Sequence[np.ndarray], fit: Callable[[np.ndarray], Any]) -> None:
    """Fit the trees of a forest, an equal number on each part of the rows."""
    fitted = 0
    for number, part in enumerate(parts, 1):
        trees = TREES * number // len(parts)
        if trees > fitted:  # if there are more parts than trees, some have none
            forest.set_params(n_estimators=trees)
            fit(part)
        fitted = trees


def isolation_forest(splits: Mapping[str, Split], unlabelled: bool, seed: int) -> dict[str, np.ndarray]:
    """Isolation forest (Liu, Ting & Zhou 2008) with scikit-learn's defaults."""
    train = splits["train"]
    forest = IsolationForest(random_state=seed, warm_start=True)
    parts = parts_of(unsupervised_rows(train, unlabelled), seed)
    _grow(forest, parts, lambda rows: forest.fit(train.inputs[rows]))
    return {
        "scores": in_chunks(lambda inputs: -forest.score_samples(inputs), splits["test"].inputs),
        "parameters": np.array(sum(tree.tree_.node_count for tree in forest.estimators_)),
    }


def _components(train: Split, rows: np.ndarray) -> tuple[StandardScaler, np.ndarray]:
    """The scaling of the rows, and their principal components (features, components), largest first.

    With more features than `WIDE`, there are as many components as rows, at most `WIDE_ROWS`.
    """
    size = chunk_rows(train.inputs)
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    scaler = StandardScaler()
    for chunk in chunks:
        scaler.partial_fit(train.inputs[chunk].astype(np.float64))
    if train.inputs.shape[1] > WIDE:
        scaled = np.asarray(scaler.transform(train.inputs[rows[:: -(-len(rows) // WIDE_ROWS)]].astype(np.float64)))
        squares, left = np.linalg.eigh(scaled @ scaled.T)
        known = squares > 1e-10 * squares[-1]  # equal rows add no component
        weights = np.where(known, left / np.sqrt(np.where(known, squares, 1)), 0)
        return scaler, scaled.T @ weights[:, ::-1]
    spread = np.zeros((train.inputs.shape[1],) * 2)
    for chunk in chunks:
        scaled = np.asarray(scaler.transform(train.inputs[chunk].astype(np.float64)))
        spread += scaled.T @ scaled
    return scaler, np.linalg.eigh(spread)[1][:, ::-1]


def pca_reconstruction(splits: Mapping[str, Split], unlabelled: bool, seed: int) -> dict[str, np.ndarray]:
    """Reconstruction error from principal components, whose number gives the best average precision on validation."""
    features = splits["train"].inputs.shape[1]
    most = max(features - 1, 1)
    if features > WIDE:
        most = min(most, WIDE_ROWS, len(unsupervised_rows(splits["validation_train"], unlabelled)))
    # All components leave no residual, so with a single feature the row itself is the residual.
    numbers = np.unique(np.linspace(1, most, min(features, COMPONENTS)).astype(int))

    def errors(train: Split) -> Callable[[np.ndarray], np.ndarray]:
        scaler, components = _components(train, unsupervised_rows(train, unlabelled))

        def error(inputs: np.ndarray) -> np.ndarray:
            """Squared residual of each row for each number of components, (rows, candidates)."""
            row = np.asarray(scaler.transform(inputs.astype(np.float64)))
            total = np.square(row).sum(axis=1, keepdims=True)
            if features == 1:
                return total
            held = np.cumsum(np.square(row @ components[:, :most]), axis=1)
            return np.maximum(total - held[:, numbers - 1], 0)

        return error

    validation = splits["validation"]
    rows = np.concatenate(
        [np.flatnonzero(validation.labels == 1), sample(np.flatnonzero(validation.labels == 0), seed)]
    )
    validation_errors = in_chunks(errors(splits["validation_train"]), validation.inputs[rows])
    precisions = [Ranking(validation.labels[rows], column).average_precision() for column in validation_errors.T]
    best = int(np.argmax(precisions))
    error = errors(splits["train"])
    return {
        "scores": in_chunks(lambda inputs: error(inputs)[:, best], splits["test"].inputs),
        "parameters": np.array(features * (int(numbers[best]) + 1)),
    }


def logistic_regression(splits: Mapping[str, Split], unlabelled: bool, seed: int) -> dict[str, np.ndarray]:
    """Logistic regression on standardised inputs, the mean of a model per part of the rows (McDonald et al. 2009).

    It is trained on frauds, too, regardless of `unlabelled`.
    """
    train = splits["train"]
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(train.inputs[rows], train.labels[rows])
        for rows in supervised_parts(train, seed)
    ]
    return {
        "scores": in_chunks(
            lambda inputs: np.mean([model.decision_function(inputs) for model in models], axis=0),
            splits["test"].inputs,
        ),
        "parameters": np.array(train.inputs.shape[1] + 1),
    }


def random_forest(splits: Mapping[str, Split], unlabelled: bool, seed: int) -> dict[str, np.ndarray]:
    """Random forest (Breiman 2001) with scikit-learn's defaults; it is trained on frauds, too."""
    train = splits["train"]
    forest = RandomForestClassifier(random_state=seed, n_jobs=-1, warm_start=True)
    _grow(forest, supervised_parts(train, seed), lambda rows: forest.fit(train.inputs[rows], train.labels[rows]))
    return {
        "scores": in_chunks(lambda inputs: np.asarray(forest.predict_proba(inputs))[:, 1], splits["test"].inputs),
        "parameters": np.array(sum(tree.tree_.node_count for tree in forest.estimators_)),
    }


BASELINES = {
    "isolation forest": isolation_forest,
    "PCA reconstruction": pca_reconstruction,
    "logistic regression": logistic_regression,
    "random forest": random_forest,
}
USES_LABELS = ("logistic regression", "random forest")


# --- Evaluation ---


def feature_label(name: str) -> str:
    """A feature's name for the report: the handbook's columns in words, others as they are."""
    for prefix, words in _WINDOWED.items():
        if name.startswith(prefix) and name.endswith("DAY_WINDOW"):
            return f"{words}, {name.removeprefix(prefix).removesuffix('DAY_WINDOW')} d"
    return _LABELS.get(name, name)


def short_label(name: str) -> str:
    """`feature_label`, shortened if necessary."""
    label = feature_label(name)
    return label if len(label) <= LONGEST_NAME else f"{label[: LONGEST_NAME - 1]}…"


def rate_in_words(rate: float) -> str:
    """A share of the payments in per cent, with three significant digits."""
    return f"{100 * rate:.3g}\u00a0%"


def describe(dataset: Dataset, learned_from: int) -> dict[str, Any]:
    """The data for metrics.json: provenance, and the size and frauds of each split."""
    provenance = dataset.provenance.to_dict()
    sizes = {name: len(part) for name, part in dataset.splits.items()}
    frauds = {name: int(part.labels.sum()) for name, part in dataset.splits.items()}
    days = {name: days_of(part) for name, part in dataset.splits.items()}
    features = list(dataset.feature_names)
    labels = [feature_label(name) for name in features]
    return (
        provenance
        | sizes
        | {"features": features, "labels": labels, "frauds": frauds, "days": days, "learned_from": learned_from}
    )


def compare(
    test: Split,
    scores: Mapping[str, list[np.ndarray]],
    parameters: Mapping[str, int],
    alert_rate: float,
    resamples: int,
) -> dict[str, Any]:
    """Comparable results of all models, with intervals from one bootstrap over customers, or else payments."""
    units, unit = np.arange(len(test)), "payments"
    if "customer" in test.extra:
        unit = "customers"
        units = np.unique(test.extra["customer"], return_inverse=True)[1]
    by_card = {"customer", "day"} <= set(test.extra)
    measures = {
        model: [_measures(test, s, units, alert_rate, by_card) for s in of_seeds] for model, of_seeds in scores.items()
    }

    def of_seeds(model: str, weights: np.ndarray) -> list[dict[str, float]]:
        return [{name: measure(weights) for name, measure in of_seed.items()} for of_seed in measures[model]]

    groups = _scenarios(test)
    alerted = {model: [_top(s, alert_rate) for s in of_seeds] for model, of_seeds in scores.items()}
    rivals = [model for model in scores if model not in ("autoencoder", *USES_LABELS)]

    def statistic(weights: np.ndarray) -> dict[str, Any]:
        means = {model: mean(of_seeds(model, weights)) for model in scores}
        precision = {model: of_model["average_precision"] for model, of_model in means.items()}
        return {
            "metrics": means,
            "differences": [precision["autoencoder"] - precision[model] for model in rivals],
            "detection": {
                model: {
                    group: np.mean([_share(alert[rows], weights[units[rows]]) for alert in alerted[model]])
                    for group, rows in groups.items()
                }
                for model in scores
            },
        }

    estimates = bootstrap(statistic, units.max() + 1, resamples=resamples)
    results: list[Result] = [
        {
            "model": model,
            "baseline": model != "autoencoder",
            "uses_labels": model in USES_LABELS,
            "parameters": parameters[model],
            "metrics": over_seeds(of_seeds(model, np.ones(units.max() + 1)), estimates["metrics"][model]),
        }
        for model in scores
    ]
    return {
        "evaluation": {
            "resamples": resamples,
            "unit": unit,
            "measures": {
                name: title.format(rate=rate_in_words(alert_rate))
                for name, title in MEASURES.items()
                if name in results[0]["metrics"]
            },
            "defrauded": len(np.unique(units[test.labels == 1])),
            "sample_rows": SAMPLE_ROWS,
        },
        "headline": headline(results[0], "average_precision"),
        "best_possible": _best_possible(test, units, alert_rate, by_card),
        "results": results,
        "differences": differences(
            [("autoencoder", model) for model in rivals], "average_precision", estimates["differences"]
        ),
        "detection": estimates["detection"] if groups else {},
    }


def _measures(
    test: Split, scores: np.ndarray, units: np.ndarray, alert_rate: float, by_card: bool
) -> dict[str, Callable[[np.ndarray], float]]:
    """All measures of one training's scores, as functions of the weights of the units."""
    ranking = Ranking(test.labels, scores, units)
    measures: dict[str, Callable[[np.ndarray], float]] = {
        "auc_roc": ranking.auc_roc,
        "average_precision": ranking.average_precision,
        "recall_at_budget": lambda weights: ranking.recall_at_rate(alert_rate, weights),
    }
    if by_card:
        measures["card_precision_at_100"] = CardPrecision(test.labels, scores, units, test.extra["day"])
    return measures


def _best_possible(test: Split, units: np.ndarray, alert_rate: float, by_card: bool) -> dict[str, float]:
    """The values of a perfect ranking for measures that are bounded by the budget."""
    truth = (test.labels == 1).astype(float)
    best = {"recall_at_budget": Ranking(test.labels, truth).recall_at_rate(alert_rate)}
    if by_card:
        best["card_precision_at_100"] = CardPrecision(test.labels, truth, units, test.extra["day"])()
    return best


def _share(alert: np.ndarray, weights: np.ndarray) -> float:
    total = weights.sum()
    return float((weights * alert).sum() / total) if total else math.nan


def _top(scores: np.ndarray, rate: float) -> np.ndarray:
    """Whether a row is among the `rate` share with the highest scores."""
    alert = np.zeros(len(scores), bool)
    alert[np.argsort(-scores, kind="stable")[: round(rate * len(scores))]] = True
    return alert


def _scenarios(split: Split) -> dict[str, np.ndarray]:
    """Row indices of the frauds of each scenario; {} if the data have no scenarios."""
    scenario = split.extra.get("scenario")
    if scenario is None:
        return {}
    rows_of = {name: np.flatnonzero(scenario == code) for code, name in fraud.SCENARIOS.items()}
    return {name: rows for name, rows in rows_of.items() if len(rows)}


def calibration(
    validation: Split,
    test: Split,
    validation_scores: np.ndarray,
    own_scores: np.ndarray,
    test_scores: np.ndarray,
    alert_rate: float,
) -> dict[str, Any]:
    """The test results of thresholds set on validation, for budgets around the chosen one."""

    def outcome(split: Split, scores: np.ndarray, threshold: float) -> dict[str, float]:
        alert = scores > threshold
        detected = int((alert & (split.labels == 1)).sum())
        return {
            # Without days the unit is a thousand payments.
            "alerts": float(alert.sum() / (days_of(split) or len(split) / 1_000)),
            "recall": detected / int(split.labels.sum()),
            "precision": detected / max(int(alert.sum()), 1),
        }

    budgets = []
    for multiple in BUDGETS:
        rate = alert_rate * multiple
        if multiple == 1 or (rate < 0.5 and rate * len(validation) >= 1):
            budgets.append(
                {
                    "multiple": multiple,
                    "validation": outcome(validation, validation_scores, threshold_of(validation_scores, rate)),
                    "test": outcome(test, test_scores, threshold_of(own_scores, rate)),
                }
            )
    return {"unit": "day" if days_of(test) else "1,000 payments", "budgets": budgets}


def extremes(split: Split, scores: np.ndarray, scorer: keras.Model, features: Sequence[str]) -> Alerts:
    """The ten highest alerts with the features' shares, and the five frauds ranked lowest."""
    order = np.argsort(-scores, kind="stable")
    highest = order[:10]
    missed = order[::-1][split.labels[order[::-1]] == 1][:5]
    rank = np.empty(len(order), int)
    rank[order] = np.arange(1, len(order) + 1)

    inputs = np.asarray(split.inputs[np.concatenate([highest, missed])])
    shares = outputs(scorer, inputs)["share"]
    # The features with the largest share in any row, up to KEPT, in their own order.
    places = np.argsort(np.argsort(-shares, axis=1, kind="stable"), axis=1).min(axis=0)
    kept = np.sort(np.argsort(places, kind="stable")[:KEPT])
    names = [features[int(index)] for index in kept]
    inputs, shares = inputs[:, kept], shares[:, kept]

    def entries(rows: np.ndarray, first: int) -> list[Payment]:
        return [
            {
                "row": int(split.extra["row"][row]),
                "rank": int(rank[row]),
                "score": float(scores[row]),
                "fraud": bool(split.labels[row] == 1),
                "scenario": fraud.SCENARIOS.get(int(split.extra["scenario"][row]))
                if "scenario" in split.extra
                else None,
                "values": {name: float(value) for name, value in zip(names, inputs[index], strict=True)},
                "shares": {name: float(value) for name, value in zip(names, shares[index], strict=True)},
                "largest": [
                    {
                        "feature": short_label(names[place]),
                        "value": float(inputs[index, place]),
                        "share": float(shares[index, place]),
                    }
                    for place in np.argsort(-shares[index], kind="stable")[:2].tolist()
                ],
            }
            for index, row in enumerate(rows, first)
        ]

    of_highest = entries(highest, 0)
    of_features = np.mean([list(payment["shares"].values()) for payment in of_highest], axis=0)
    named_share = float(np.sort(of_features)[::-1][:NAMED].sum())
    return {"highest": of_highest, "missed": entries(missed, len(highest)), "named_share": named_share}


def draw(
    this_run: run.Run,
    dataset: Dataset,
    scores: Mapping[str, list[np.ndarray]],
    metrics: Mapping[str, Any],
    scorer: keras.Model,
    fits: Mapping[str, run.Fit],
) -> dict[str, Any]:
    """Write the figures; returns their entries in metrics.json, and that of the code."""
    test, threshold, model = dataset.splits["test"], metrics["threshold"], metrics["model"]
    first = {model: of_seeds[0] for model, of_seeds in scores.items()}
    own = first["autoencoder"]

    def values(measure: str) -> str:
        return ", ".join(
            f"{result['model']} {result['metrics'][measure]['value']:.3f}" for result in metrics["results"]
        )

    drawn = {
        "roc": (
            figures.roc_curves(test.labels, first, emphasis="autoencoder"),
            f"ROC curves of all models; {values('auc_roc')}",
        ),
        "precision_recall": (
            figures.precision_recall_curves(test.labels, first, emphasis="autoencoder"),
            f"Precision-recall curves of all models; {values('average_precision')}",
        ),
        "scores": (
            figures.score_histogram(
                own,
                test.labels,
                threshold["value"],
                class_names=dataset.classes,
                score_name="anomaly score (mean squared error)",
            ),
            "Histogram of the anomaly scores of genuine and fraudulent test payments, with the threshold at "
            f"{threshold['value']:.4g}",
        ),
    }
    if metrics["detection"]:
        own_detection = metrics["detection"]["autoencoder"].items()
        drawn["detection"] = (
            figures.grouped_bars(
                {
                    model: {group: span(e) for group, e in groups.items()}
                    for model, groups in metrics["detection"].items()
                },
                x_label="fraud scenario",
                y_label="recall",
            ),
            "Recall of each model by fraud scenario; autoencoder: "
            + "; ".join(f"{scenario} {percent(share['value'])}" for scenario, share in own_detection),
        )
    if metrics["alerts"]["named_share"] >= SPREAD_OUT:
        highest = metrics["alerts"]["highest"]
        drawn["alerts"] = (
            figures.share_bars(
                [f"{entry['rank']}" for entry in highest],
                np.array([list(entry["shares"].values()) for entry in highest]),
                [short_label(name) for name in highest[0]["shares"]],
                x_label="share of the anomaly score",
                y_label="alert",
            ),
            "For each of the highest scores, the share of each feature in the anomaly score",
        )

    rows = np.arange(len(test))
    if len(rows) > 20_000:
        rows = np.sort(np.random.default_rng(0).choice(rows, 20_000, replace=False))
    code = codes(scorer, np.asarray(test.inputs[rows]))
    if code.shape[1] > 2:
        pca = PCA(2, svd_solver="full").fit(code)
        points = pca.transform(code)
        points[np.abs(points) < 1e-9 * np.abs(points).max()] = 0  # rounding errors of a code on a line
        total = code.var(axis=0, ddof=1).sum()
        held = float(pca.explained_variance_.sum() / total) if total else 1.0  # a collapsed code has no variance
        axes = ("first principal component of the code", "second principal component")
    else:
        # A code of size 1 is drawn against the score.
        points = code if code.shape[1] == 2 else np.column_stack([code, own[rows]])
        held = 1.0
        axes = ("first component of the code", "second component" if code.shape[1] == 2 else "anomaly score")
    drawn["code"] = (
        figures.scatter(points, test.labels[rows], class_names=dataset.classes, axis_names=axes),
        f"Codes of {len(rows):,} test payments in two dimensions, coloured by class",
    )

    budgets = threshold["budgets"]
    if len({budget["validation"]["alerts"] for budget in budgets}) > 1:  # equal if most scores are equal
        drawn["budget"] = (
            figures.budget_calibration(
                [budget["validation"]["alerts"] for budget in budgets],
                [budget["test"]["alerts"] for budget in budgets],
                validation={key: [budget["validation"][key] for budget in budgets] for key in ("recall", "precision")},
                test={key: [budget["test"][key] for budget in budgets] for key in ("recall", "precision")},
                chosen=[budget["multiple"] for budget in budgets].index(1),
                unit=threshold["unit"],
            ),
            "Alerts expected from validation and raised on test; recall and precision by budget",
        )
    names = {"loss": "training", "val_loss": "validation"}
    drawn["learning"] = (
        figures.learning_curves(
            {stage: {names[k]: v for k, v in fit.history.items() if k in names} for stage, fit in fits.items()},
            y_label=f"loss ({metrics['settings']['loss'].replace('_', ' ')})",
            best_epoch=model["epochs"],
        ),
        "Loss by epoch for the selection run and the final models",
    )
    drawn["network"] = (
        figures.network(model["layers"]),
        "The autoencoder: " + ", ".join(f"{name} {math.prod(shape)}" for name, shape, _ in model["layers"]),
    )
    return {
        "figures": this_run.draw(drawn),
        "code": {"variance_shown": held, "points": len(rows)},
    }

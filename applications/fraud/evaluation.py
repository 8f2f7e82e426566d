"""What the fraud application compares and draws: the baselines, the measures with their intervals, the figures."""

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
# A detector that must hold its rows in memory is fitted on parts of this size in turn; a choice needs no more.
SAMPLE_ROWS = 100_000
LARGEST_SCORE = np.finfo(np.float32).max
TREES = 100  # of a forest, scikit-learn's number
NAMED = 7  # features in a figure of shares
KEPT = 100  # features at most whose values and shares are kept for each alert
COMPONENTS = 256  # numbers of principal components that are tried at most
WIDE = 2_000  # features; the principal components of more take a time that grows with their cube
WIDE_ROWS = 1_000
BUDGETS = (0.1, 0.2, 0.5, 1, 2, 5, 10)  # multiples of the chosen number of alerts, for the calibration
SPREAD_OUT = 0.2  # of the scores, that the features named in a figure must hold at least for it to say something
LONGEST_NAME = 40  # of a feature, where there is little room

# What the measures are called; the rate is that of the alerts.
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


# --- What metrics.json has beside what all programs write ---


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
    """The measures by what they are called, and of how much the test data tell."""

    measures: dict[str, str]
    defrauded: int
    sample_rows: int


class Outcome(TypedDict):
    """What a threshold did; alerts are those of a day, or of a thousand payments."""

    alerts: float
    recall: float
    precision: float


class Budget(TypedDict):
    """A multiple of the chosen number of alerts, on validation and on test."""

    multiple: float
    validation: Outcome
    test: Outcome


class Threshold(TypedDict):
    """The threshold, the rule that gave it, and those around it."""

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
    """A payment with its score, the values and shares of features in it, and the largest shares for readers."""

    row: int
    rank: int
    score: float
    fraud: bool
    scenario: str | None
    values: dict[str, float]
    shares: dict[str, float]
    largest: list[Part]


class Alerts(TypedDict):
    """The payments with the highest scores, the frauds with the lowest, and what a few features hold of the scores."""

    highest: list[Payment]
    missed: list[Payment]
    named_share: float


class Code(TypedDict):
    """What the figure of the codes shows."""

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
    """What the scorer says of a chunk of rows; called directly, nothing is compiled anew for each size of chunk.

    A row so far out that its score is no finite number has the largest score that there is, and raises an alert.
    """
    found = {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in scorer(inputs).items()}
    known = np.isfinite(found["score"])
    return {
        "score": np.where(known, found["score"], LARGEST_SCORE),
        "alert": np.where(known, found["alert"], 1),
        "share": np.nan_to_num(found["share"], nan=0.0),
    }


def codes(scorer: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """The codes of raw rows, (rows, code size) float64, by the scorer's own path from row to encoder."""
    row, _ = scorer.get_layer("anomaly_score").input
    encoder = keras.Model(scorer.input, scorer.get_layer("autoencoder").get_layer("encoder")(row))
    return in_chunks(lambda chunk: np.asarray(keras.ops.convert_to_numpy(encoder(chunk))), inputs)


def chunk_rows(inputs: np.ndarray) -> int:
    """So many rows of the matrix are worked on at a time."""
    return max(1, min(CHUNK, 2**25 // inputs.shape[1]))


def in_chunks(function: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Apply a function of rows to a matrix that may be larger than memory; the values come as float64."""
    chunk = chunk_rows(inputs)
    parts = [function(np.asarray(inputs[start : start + chunk])) for start in range(0, len(inputs), chunk)]
    return np.concatenate(parts).astype(np.float64)


# --- Baselines, on the same payments ---


def days_of(split: Split) -> float | None:
    """Days from the first to the last payment, where the data say."""
    if "time" not in split.extra:
        return None
    return max(float(np.ptp(split.extra["time"])), 1.0) / 86_400


def sample(rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows, or SAMPLE_ROWS of them drawn at random, in order."""
    if len(rows) > SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE_ROWS, replace=False))
    return rows


def unsupervised_rows(split: Split, unlabelled: bool) -> np.ndarray:
    """Row numbers that the detectors without fraud are trained on: the genuine ones, or all."""
    return np.arange(len(split)) if unlabelled else np.flatnonzero(split.labels == 0)


def parts_of(rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """The rows, in order; of more than SAMPLE_ROWS, random parts of about equal size that are no larger."""
    if len(rows) <= SAMPLE_ROWS:
        return [rows]
    mixed = np.random.default_rng(seed).permutation(rows)
    return [np.sort(part) for part in np.array_split(mixed, -(-len(rows) // SAMPLE_ROWS))]


def supervised_parts(split: Split, seed: int) -> list[np.ndarray]:
    """Parts of the rows that the classifiers are trained on: every fraud, and of the genuine payments each in one."""
    frauds = np.flatnonzero(split.labels == 1)
    return [np.concatenate([frauds, part]) for part in parts_of(np.flatnonzero(split.labels == 0), seed)]


def threshold_of(scores: np.ndarray, rate: float) -> float:
    """The threshold above which the `rate` share of the scores lies, at least one, and what is tied with the last."""
    count = max(1, round(rate * len(scores)))
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    # The next smaller float32, which is the type of the scores, so that the lowest is above it.
    return float(np.nextafter(np.float32(lowest), np.float32(-np.inf)))


def _grow(forest: Any, parts: Sequence[np.ndarray], fit: Callable[[np.ndarray], Any]) -> None:
    """Grow the trees of a forest, as many on each part of the rows."""
    planted = 0
    for number, part in enumerate(parts, 1):
        trees = TREES * number // len(parts)
        if trees > planted:  # of more parts than trees some have none
            forest.set_params(n_estimators=trees)
            fit(part)
        planted = trees


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
    """The scaling of the rows, and their principal components (features, components), the largest first.

    Of more features than `WIDE` there are as many components as rows, at most `WIDE_ROWS`.
    """
    size = chunk_rows(train.inputs)
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    scaler = StandardScaler()
    for chunk in chunks:
        scaler.partial_fit(train.inputs[chunk].astype(np.float64))
    if train.inputs.shape[1] > WIDE:
        scaled = np.asarray(scaler.transform(train.inputs[rows[:: -(-len(rows) // WIDE_ROWS)]].astype(np.float64)))
        squares, left = np.linalg.eigh(scaled @ scaled.T)
        known = squares > 1e-10 * squares[-1]  # equal rows have no component of their own
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
    # With every component nothing is left, so of a single feature the row itself is taken.
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
    """Logistic regression on standardised inputs, the mean of one for each part of the rows (McDonald et al. 2009).

    It is trained on frauds too, whatever `unlabelled` says.
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
    """Random forest (Breiman 2001) with scikit-learn's defaults; it is trained on frauds too."""
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
    """A feature's name for readers: the handbook's columns in words, others as they are."""
    for prefix, words in _WINDOWED.items():
        if name.startswith(prefix) and name.endswith("DAY_WINDOW"):
            return f"{words}, {name.removeprefix(prefix).removesuffix('DAY_WINDOW')} d"
    return _LABELS.get(name, name)


def short_label(name: str) -> str:
    """The same, cut where it is long."""
    label = feature_label(name)
    return label if len(label) <= LONGEST_NAME else f"{label[: LONGEST_NAME - 1]}…"


def rate_in_words(rate: float) -> str:
    """A share of the payments in per cent, with three digits that mean something."""
    return f"{100 * rate:.3g}\u00a0%"


def describe(dataset: Dataset, learned_from: int) -> dict[str, Any]:
    """The data for metrics.json: where they come from, and the size and the frauds of each split."""
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
    """Results of all models with intervals from one bootstrap over customers (else payments), so that they compare."""
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

    found = bootstrap(statistic, units.max() + 1, resamples=resamples)
    results: list[Result] = [
        {
            "model": model,
            "baseline": model != "autoencoder",
            "uses_labels": model in USES_LABELS,
            "parameters": parameters[model],
            "metrics": over_seeds(of_seeds(model, np.ones(units.max() + 1)), found["metrics"][model]),
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
            [("autoencoder", model) for model in rivals], "average_precision", found["differences"]
        ),
        "detection": found["detection"] if groups else {},
    }


def _measures(
    test: Split, scores: np.ndarray, units: np.ndarray, alert_rate: float, by_card: bool
) -> dict[str, Callable[[np.ndarray], float]]:
    """Every measure of the scores of a training, as a function of the weights of the units."""
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
    """What a perfect ranking would reach in those measures that are bounded by the budget."""
    truth = (test.labels == 1).astype(float)
    found = {"recall_at_budget": Ranking(test.labels, truth).recall_at_rate(alert_rate)}
    if by_card:
        found["card_precision_at_100"] = CardPrecision(test.labels, truth, units, test.extra["day"])()
    return found


def _share(alert: np.ndarray, weights: np.ndarray) -> float:
    total = weights.sum()
    return float((weights * alert).sum() / total) if total else math.nan


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


def calibration(
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
            "alerts": float(alert.sum() / (days_of(split) or len(split) / 1_000)),
            "recall": found / int(split.labels.sum()),
            "precision": found / max(int(alert.sum()), 1),
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
    """The ten highest alerts with the features' shares, and the five frauds that were ranked lowest."""
    order = np.argsort(-scores, kind="stable")
    highest = order[:10]
    missed = order[::-1][split.labels[order[::-1]] == 1][:5]
    rank = np.empty(len(order), int)
    rank[order] = np.arange(1, len(order) + 1)

    inputs = np.asarray(split.inputs[np.concatenate([highest, missed])])
    shares = outputs(scorer, inputs)["share"]
    # Those with the largest share of some row, as far as there is room, in their own order.
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
    """Write the figures; returns what metrics.json says of them, and what the plane of the code shows."""
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
            f"Receiver operating characteristic of all models; {values('auc_roc')}",
        ),
        "precision_recall": (
            figures.precision_recall_curves(test.labels, first, emphasis="autoencoder"),
            f"Precision over recall of all models; {values('average_precision')}",
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
        found = metrics["detection"]["autoencoder"].items()
        drawn["detection"] = (
            figures.grouped_bars(
                {
                    model: {group: span(e) for group, e in groups.items()}
                    for model, groups in metrics["detection"].items()
                },
                x_label="fraud scenario",
                y_label="share of the frauds found",
            ),
            "Share of the frauds of each scenario found by each model; autoencoder: "
            + "; ".join(f"{scenario} {percent(share['value'])}" for scenario, share in found),
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
        points[np.abs(points) < 1e-9 * np.abs(points).max()] = 0  # rounding, of a code that lies on a line
        total = code.var(axis=0, ddof=1).sum()
        held = float(pca.explained_variance_.sum() / total) if total else 1.0  # a code may have collapsed
        axes = ("first principal component of the code", "second principal component")
    else:
        # A code of one number is drawn against the score.
        points = code if code.shape[1] == 2 else np.column_stack([code, own[rows]])
        held = 1.0
        axes = ("first number of the code", "second number" if code.shape[1] == 2 else "anomaly score")
    drawn["code"] = (
        figures.scatter(points, test.labels[rows], class_names=dataset.classes, axis_names=axes),
        f"The codes of {len(rows):,} test payments in the plane, coloured by class",
    )

    budgets = threshold["budgets"]
    if len({budget["validation"]["alerts"] for budget in budgets}) > 1:  # where most scores are equal they are one
        drawn["budget"] = (
            figures.budget_calibration(
                [budget["validation"]["alerts"] for budget in budgets],
                [budget["test"]["alerts"] for budget in budgets],
                validation={key: [budget["validation"][key] for budget in budgets] for key in ("recall", "precision")},
                test={key: [budget["test"][key] for budget in budgets] for key in ("recall", "precision")},
                chosen=[budget["multiple"] for budget in budgets].index(1),
                unit=threshold["unit"],
            ),
            "Alerts expected from validation against alerts raised on test, with recall and precision over the budget",
        )
    names = {"loss": "training", "val_loss": "validation"}
    drawn["learning"] = (
        figures.learning_curves(
            {stage: {names[k]: v for k, v in fit.history.items() if k in names} for stage, fit in fits.items()},
            y_label=f"loss ({metrics['settings']['loss'].replace('_', ' ')})",
            best_epoch=model["epochs"],
        ),
        "Loss over the epochs of the selection run and of the final models",
    )
    drawn["network"] = (
        figures.network(model["layers"]),
        "The autoencoder: " + ", ".join(f"{name} {math.prod(shape)}" for name, shape, _ in model["layers"]),
    )
    return {
        "figures": this_run.draw(drawn),
        "code": {"variance_shown": held, "points": len(rows)},
    }

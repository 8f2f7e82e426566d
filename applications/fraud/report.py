"""The fraud report: from the numbers of metrics.json to a document, so that no figure is in one and not the other."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import wording
from reports.wording import counted, percent, percent_span, result_of

PROMISING = 0.6  # an AUC-ROC that may be more than chance, though so few frauds don't show it
SPREAD_OUT = 0.2  # of the scores, that the features named in a figure must hold at least for it to say something
LONGEST_NAME = 40  # of a feature, where there is little room
FEW = 10  # customers with a fraud, or frauds, in the test data; of fewer nothing is to be said

METRICS = {
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


def named_share(alerts: Mapping[str, Any], most: int) -> float:
    """The share of the highest scores that those features hold together which hold most of them."""
    shares = [list(entry["shares"].values()) for entry in alerts["highest"]]
    return sum(sorted((sum(column) / len(shares) for column in zip(*shares, strict=True)), reverse=True)[:most])


def differ(budgets: Sequence[Mapping[str, Any]]) -> bool:
    """Whether budgets are told apart by their alerts; where most scores are equal they are not."""
    return len({budget["validation"]["alerts"] for budget in budgets}) > 1


def rate(share: float) -> str:
    """A share of the payments in per cent, with three digits that mean something."""
    return f"{100 * share:.3g}\u00a0%"


def typeset(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The report as PDF, with the figures in `folder`; its date is the run's own."""
    return wording.typeset(document(metrics), metrics, folder)


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what the numbers support, and no more.

    The autoencoder is compared with the best detector that uses no labels, by the difference of their average
    precisions and its interval. Where even the rank of frauds is not better than chance, that comes first.
    """
    own = result_of(metrics, "autoencoder")["metrics"]
    auc, precision, recall = (own[name] for name in ("auc_roc", "average_precision", "recall_at_budget"))
    base_rate = metrics["data"]["frauds"]["test"] / metrics["data"]["test"]
    few = metrics["evaluation"].get("defrauded", FEW) < FEW
    if auc["low"] <= 0.5:
        said = f"its AUC-ROC of {_span(auc)} {'includes' if auc['high'] >= 0.5 else 'lies below'} 0.5"
        said += ", the value of a ranking by chance."
        by_chance = f"Its average precision is {_span(precision)}, where chance gives {base_rate:.4f}."
        if few and auc["value"] >= PROMISING:
            return [
                f"{_few(metrics)} Whether it finds fraud cannot be said: {said}",
                by_chance,
                *wording.quick(metrics),
            ]
        advice = "Before it is used, check the labels and whether the columns can tell fraud at all."
        if auc["high"] < 0.5:
            advice = "Frauds look more usual to it than genuine payments: see first whether the labels are exchanged."
        return [
            f"The autoencoder does not find fraud in these data: {said}",
            by_chance,
            *([_few(metrics)] if few else []),
            advice,
            *wording.quick(metrics),
        ]
    difference = max(
        metrics["differences"],
        key=lambda entry: result_of(metrics, entry["worse"])["metrics"]["average_precision"]["value"],
    )
    rival = difference["worse"]
    against = f"{rival}, the best of the other detectors that learn from {_lesson(metrics, same=True)}"
    digits = wording.digits_of_difference(difference, 3)
    gap = f"by {abs(difference['value']):.{digits}f} of average precision "
    gap += f"({_interval(difference, digits, absolute=True)})"
    if wording.is_none(difference):
        first = f"The autoencoder is level with {against}: their average precisions are equal."
    elif difference["low"] > 0 and few:
        first = f"On these the autoencoder is ahead of {against}, {gap}."
    elif difference["low"] > 0:
        first = f"The autoencoder finds fraud better than {against}: ahead {gap}."
    elif difference["high"] < 0 and few:
        first = f"On these the autoencoder is behind {against}, {gap}."
    elif difference["high"] < 0:
        first = f"The autoencoder is not the detector to take here: it is behind {against}, {gap}."
    else:
        value, low, high = (wording.with_sign(difference[key], digits) for key in ("value", "low", "high"))
        first = (
            f"The autoencoder cannot be told from {against}: the difference in average precision, {value} ({low} to "
            f"{high}), may be chance."
        )
    labelled = {r["model"]: r["metrics"]["average_precision"]["value"] for r in metrics["results"] if r["uses_labels"]}
    best = max(labelled, key=lambda model: labelled[model])
    advice = (
        f"with frauds at hand to learn from, {best} ({labelled[best]:.3f}) ranks better and should be tried first"
        if labelled[best] > precision["high"]
        else f"{best}, which learns from frauds too, gives {labelled[best]:.3f}"
    )
    return [
        *([_few(metrics)] if few else []),
        first,
        f"Checking {_rate(metrics)} of the payments finds {percent_span(recall)} of the frauds{_most(metrics)}; the "
        f"threshold set on validation raised {_alerts_raised(metrics)}.",
        f"Its average precision is {_span(precision)} where chance gives {base_rate:.4f}; {advice}.",
        *wording.quick(metrics),
    ]


def _few(metrics: Mapping[str, Any]) -> str:
    frauds, unit = metrics["data"]["frauds"]["test"], metrics["evaluation"]["unit"]
    held = counted(frauds, "fraud")
    if unit == "customers":
        held += f" of {counted(metrics['evaluation']['defrauded'], 'customer')}"
    return f"The test data hold {held}, too few to judge a detector by: others may be found more or less often."


def _most(metrics: Mapping[str, Any]) -> str:
    """That no ranking could find all frauds with the budget, where that is so."""
    most = metrics.get("best_possible", {}).get("recall_at_budget", 1.0)
    if most >= 1:
        return ""
    return f", where a perfect ranking finds {percent(most)}, since there are more frauds than checks"


def _alerts_raised(metrics: Mapping[str, Any]) -> str:
    """The alerts on test at the chosen threshold, and how many of them were right."""
    found, unit = _chosen(metrics)["test"], metrics["threshold"]["unit"]
    if not found["alerts"]:
        return "no alert on test"
    return f"{_number(found['alerts'])} alerts per {unit} on test, {percent(found['precision'])} of them fraud"


def document(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report as `reports.report.render` takes it."""
    return {
        "title": "Fraud detection with an autoencoder",
        "subtitle": f"{metrics['data']['name']}: {metrics['data']['test']:,} payments tested, "
        f"{metrics['data']['frauds']['test']:,} of them fraud",
        "language": "en",
        "verdict": verdict(metrics),
        "sections": [
            {"heading": "Results", "blocks": _results(metrics)},
            {"heading": "Scores and the alert budget", "blocks": _scores(metrics)},
            {"heading": "What an analyst would see", "blocks": _alerts(metrics)},
            {"heading": "Data", "blocks": _data(metrics)},
            {"heading": "Model and training", "blocks": _model(metrics)},
            {"heading": "Limits", "blocks": _limits(metrics)},
            {"heading": "How to repeat", "blocks": wording.repeat(metrics)},
        ],
    }


def _results(metrics: Mapping[str, Any]) -> list[dict]:
    rate = _rate(metrics)
    names = [name for name in METRICS if name in metrics["results"][0]["metrics"]]
    columns = [("Model", "left"), *((METRICS[name].format(rate=rate), "right") for name in names)]
    spans = {name: [result["metrics"][name] for result in metrics["results"]] for name in names}
    digits = {name: wording.digits(of_name, 3) for name, of_name in spans.items()}
    rows = []
    for result in metrics["results"]:
        label = result["model"] + (" (with frauds)" if result["uses_labels"] else "")
        cells: list[Any] = [label]
        for name in names:
            value = result["metrics"][name]
            cells.append({"value": f"{value['value']:.{digits[name]}f}", "detail": _interval(value, digits[name])})
        rows.append(cells)
    seeds = len(metrics["results"][0]["metrics"][names[0]]["seeds"])
    spread = ", ".join(
        f"{METRICS[name].format(rate=rate)} {metrics['results'][0]['metrics'][name]['deviation']:.4f}" for name in names
    )
    unlabelled = [i for i, result in enumerate(metrics["results"]) if not result["uses_labels"]]
    note = (
        f"Below each figure its 95\u00a0% bootstrap interval ({metrics['evaluation']['resamples']} draws of "
        f"{metrics['evaluation']['unit']}, the same for all models). The detectors in the upper part learn from "
        f"{_lesson(metrics)}, those with frauds from both classes."
    )
    if seeds > 1:
        note += f" The autoencoder is the mean of {seeds} seeds; their standard deviations: {spread}."
    most = metrics["evaluation"]["sample_rows"]
    if metrics["data"].get("learned_from", 0) > most:
        note += (
            f" No model had a sample of the rows: each tree of the forests, and each of the logistic regressions whose "
            f"mean is taken, had a part of {most:,} at most, and the parts together are all rows. Every part of those "
            "with frauds holds every fraud."
        )
    if "card_precision_at_100" in names:
        note += (
            " Card precision@100: share of compromised cards among the 100 cards with the highest score of a day, "
            "cards already found left out."
        )
    bounded = {name: most for name, most in metrics.get("best_possible", {}).items() if most < 1}
    if bounded:
        said = " and ".join(f"{METRICS[name].format(rate=rate)} {most:.3f}" for name, most in bounded.items())
        note += f" The budget bounds what can be reached: a perfect ranking has {said}."
    return [
        {
            "table": {
                "caption": "All models on the same test payments",
                "columns": wording.columns(columns),
                "rows": rows,
                "emphasis": [0],
                "rules": [max(unlabelled)],
                "note": note,
            }
        },
        {
            "figures": [
                {
                    "file": "figures/roc.svg",
                    "alt": "Receiver operating characteristic of all models; " + _all_values(metrics, "auc_roc"),
                    "caption": "Frauds found against false alarms; the inset shows the few false alarms that a team "
                    f"can afford (autoencoder: seed\u00a0{metrics['seed']}).",
                },
                {
                    "file": "figures/precision_recall.svg",
                    "alt": "Precision over recall of all models; " + _all_values(metrics, "average_precision"),
                    "caption": "Precision against recall: how many alerts are right while more frauds are found "
                    f"(autoencoder: seed\u00a0{metrics['seed']}).",
                },
            ]
        },
    ]


def _scores(metrics: Mapping[str, Any]) -> list[dict]:
    threshold, unit, rate = metrics["threshold"], metrics["threshold"]["unit"], _rate(metrics)
    chosen = _chosen(metrics)
    blocks: list[dict] = [
        {
            "text": f"The threshold was chosen on validation by the rule: {threshold['rule']}. That is an alert for "
            f"{rate} of the payments. The rate was carried over to the final "
            f"model as the matching quantile of its own scores, {threshold['value']:.4g}. On test it raised "
            f"{_number(chosen['test']['alerts'])} alerts per {unit} where {_number(chosen['validation']['alerts'])} "
            f"were expected, with a precision of {chosen['test']['precision']:.3f} (validation "
            f"{chosen['validation']['precision']:.3f}) and a recall of {chosen['test']['recall']:.3f} (validation "
            f"{chosen['validation']['recall']:.3f})."
        },
        {
            "figures": [
                {
                    "file": "figures/scores.svg",
                    "alt": f"Histogram of the anomaly scores of genuine and fraudulent test payments, with the "
                    f"threshold at {threshold['value']:.4g}",
                    "caption": "Anomaly scores of the test payments and the threshold.",
                },
                {
                    "file": "figures/code.svg",
                    "alt": f"The codes of {metrics['code']['points']:,} test payments in the plane, coloured by class",
                    "caption": "The code against the anomaly score."
                    if metrics["settings"]["code_size"] == 1
                    else "The code in two dimensions, which hold "
                    f"{percent(metrics['code']['variance_shown'], 0)} of its variance.",
                },
            ]
        },
    ]
    budgets = threshold["budgets"]
    if differ(budgets):
        blocks.append(
            {
                "figures": [
                    {
                        "file": "figures/budget.svg",
                        "alt": "Alerts expected from validation against alerts raised on test, with recall and "
                        "precision over the budget",
                        "caption": f"Does a budget hold? Thresholds set on validation, from "
                        f"{budgets[0]['multiple']:g} to {budgets[-1]['multiple']:g} times the chosen one.",
                    }
                ]
            }
        )
    if metrics["detection"]:
        own = metrics["detection"]["autoencoder"]
        said = "; ".join(f"{group} {percent(value['value'])}" for group, value in own.items())
        blocks.append(
            {
                "figures": [
                    {
                        "file": "figures/detection.svg",
                        "alt": f"Share of the frauds of each scenario found by each model; autoencoder: {said}",
                        "caption": f"Frauds found by scenario when {rate} of the payments are "
                        f"checked, with 95\u00a0% intervals. Autoencoder: {said}.",
                    }
                ]
            }
        )
    return blocks


def _alerts(metrics: Mapping[str, Any]) -> list[dict]:
    highest, missed = metrics["alerts"]["highest"], metrics["alerts"]["missed"]

    def row(entry: Mapping[str, Any]) -> list[str]:
        truth = (entry["scenario"] or "fraud") if entry["fraud"] else "genuine"
        leading = sorted(entry["shares"], key=lambda name: -entry["shares"][name])[:2]
        return [
            f"{entry['rank']:,}",
            f"{entry['row']:,}",
            f"{entry['score']:.3g}",
            truth,
            "; ".join(
                f"{short_label(n)} = {entry['values'][n]:.4g} ({percent(entry['shares'][n], 0)})" for n in leading
            ),
        ]

    columns = [("Rank", "right"), ("Row", "right"), ("Score", "right"), ("Truth", "left"), ("Largest shares", "left")]
    headers = wording.columns(columns)
    right = sum(entry["fraud"] for entry in highest)
    why: dict[str, Any] = {
        "figures": [
            {
                "file": "figures/alerts.svg",
                "alt": "For each of the highest scores, the share of each feature in the anomaly score",
                "caption": "Why these payments: each feature's share of the reconstruction error.",
            }
        ]
    }
    if metrics["alerts"].get("named_share", 1.0) < SPREAD_OUT:
        why = {
            "text": f"The reconstruction error is spread over the {len(metrics['data']['features'])} features: no few "
            "of them explain these alerts. Those that hold most of it hold "
            f"{percent(metrics['alerts']['named_share'])} together."
        }
    return [
        {
            "table": {
                "caption": f"The {len(highest)} highest scores of the test data; {right} "
                + ("is a fraud" if right == 1 else "are frauds"),
                "columns": headers,
                "rows": [row(entry) for entry in highest],
                "note": "Largest shares: the two features that the model rebuilt worst, their values, and their share "
                "of the score.",
            }
        },
        why,
        {
            "table": {
                "caption": f"The {len(missed)} frauds that were ranked lowest"
                if len(missed) > 1
                else "The fraud that was ranked lowest",
                "columns": headers,
                "rows": [row(entry) for entry in missed],
                "note": f"Rank among the {metrics['data']['test']:,} test payments.",
            }
        },
    ]


def _data(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    names = {
        "validation_train": "trained for choices",
        "validation": "validation (choices)",
        "train": "trained for the result",
        "test": "test (result)",
    }
    rows = []
    for key, name in names.items():
        frauds = data["frauds"][key]
        days = data["days"][key]
        rows.append(
            [
                name,
                f"{data[key]:,}",
                f"{frauds:,}",
                f"{percent(frauds / data[key], 3)}",
                "–" if days is None else f"{days:.1f}",
            ]
        )
    features = [feature_label(name) for name in data["features"]]
    facts = [
        *wording.provenance(data, f"{data['rows']:,} payments, {data['size_bytes'] / 1e6:,.1f} MB"),
        ["Units", data["units"]],
        [
            "Features",
            f"{len(features)}: {'; '.join(features[:40])}{f'; and {len(features) - 40} more' * (len(features) > 40)}",
        ],
    ]
    columns = [("Split", "left"), ("Payments", "right"), ("Frauds", "right"), ("Share", "right"), ("Days", "right")]
    return [
        {
            "table": {
                "caption": "The split",
                "columns": wording.columns(columns),
                "rows": rows,
            }
        },
        {"facts": facts},
    ]


def _model(metrics: Mapping[str, Any]) -> list[dict]:
    settings, model, timing = metrics["settings"], metrics["model"], metrics["timing"]
    extras = [
        (
            settings["input_dropout"],
            f"{percent(settings['input_dropout'], 0)} of the input set to zero while training",
        ),
        (settings["input_noise"], f"noise of {settings['input_noise']:g} on the input while training"),
        (settings["dropout"], f"dropout {settings['dropout']:g}"),
        (settings["code_penalty"], f"L1 penalty {settings['code_penalty']:g} on the code"),
    ]
    facts = [
        [
            "Model",
            f"autoencoder, {metrics['results'][0]['parameters']:,} parameters, "
            + (f"{settings['activation']} hidden layers, " if settings["widths"] else "no hidden layer, ")
            + f"{settings['code_activation']} code",
        ],
        ["Trained on", _lesson(metrics)],
        *wording.regularisation(extras),
        [
            "Loss, optimizer",
            f"{settings['loss'].replace('_', ' ')}; {settings['optimizer']}, learning rate "
            f"{settings['learning_rate']:g} falling along a cosine; {model['batch_size']} payments a step, "
            f"{counted(model['steps_per_epoch'], 'step')} an epoch, {counted(model['epochs'], 'epoch')}",
        ],
        *wording.cost(timing, "payments"),
    ]
    return [
        {
            "figures": [
                {
                    "file": "figures/network.svg",
                    "alt": "The autoencoder: "
                    + ", ".join(f"{name} {math.prod(shape)}" for name, shape, _ in model["layers"]),
                    "caption": "The model: units and parameters of each layer.",
                }
            ]
        },
        {
            "figures": [
                {
                    "file": "figures/learning.svg",
                    "alt": "Loss over the epochs of the selection run and of the final models",
                    "caption": f"Learning curves. The selection run chose {counted(model['epochs'], 'epoch')} by its "
                    "validation loss, which is taken without the corruption of the input; the final models train that "
                    "long.",
                }
            ]
        },
        {"facts": facts},
    ]


def _limits(metrics: Mapping[str, Any]) -> list[dict]:
    limits = [
        "The score says how unusual a payment is, not that it is fraud: an unusual genuine payment raises an alert, a "
        "fraud that looks usual does not.",
        "The figures hold for the payments that were tested. Customers and fraudsters change; measure again on new "
        "labels (the evaluate command) and train again when alerts or precision drift.",
        f"Intervals cover the choice of the tested {metrics['evaluation']['unit']}, not that of the training data.",
    ]
    if metrics["data"]["days"]["test"] is None:
        limits.append(
            "The split is random, since no time is known. Fraud comes in series, so that a model which is tested on "
            "later payments will do worse."
        )
    if not metrics["settings"]["csv"]:
        limits.append(
            "The payments are simulated by simple rules, and three of the features are a terminal's share of known "
            "frauds. Real payments are harder; take these figures as a check of the method, not as a promise."
        )
    if metrics["evaluation"]["unit"] == "payments":
        limits.append("The intervals take each payment for independent, which payments of one customer are not.")
    return [{"list": [*limits, *wording.limits(metrics)]}]


def _chosen(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return next(budget for budget in metrics["threshold"]["budgets"] if budget["multiple"] == 1)


def _rate(metrics: Mapping[str, Any]) -> str:
    """The share of payments that raise an alert, with three digits that mean something."""
    return rate(metrics["threshold"]["alert_rate"])


def _lesson(metrics: Mapping[str, Any], *, same: bool = False) -> str:
    """What the autoencoder and the detectors like it were trained on."""
    unlabelled, rows = metrics["settings"]["unlabelled"], metrics["data"].get("learned_from")
    many = f"the same {rows:,} " if same and rows else "all " * unlabelled
    return f"{many}payments, without their labels" if unlabelled else f"{many}genuine payments alone"


def _all_values(metrics: Mapping[str, Any], name: str) -> str:
    return ", ".join(f"{result['model']} {result['metrics'][name]['value']:.3f}" for result in metrics["results"])


def _span(value: Mapping[str, float]) -> str:
    digits = wording.digits([value], 3)
    return f"{value['value']:.{digits}f} ({_interval(value, digits)})"


def _interval(value: Mapping[str, float], digits: int = 3, absolute: bool = False) -> str:
    low, high = sorted(abs(value[key]) if absolute else value[key] for key in ("low", "high"))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"

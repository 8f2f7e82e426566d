import re
from pathlib import Path

import numpy as np
import pytest

import applications
from applications.fraud import evaluation
from data.dataset import Split

DOCUMENT = Path(applications.__file__).parent / "fraud" / "report.typ"
NAMES = ("value", "low", "high")
GOOD = (0.87, 0.84, 0.9)


@pytest.fixture
def said(report_text, changed):
    """The text of the report on metrics with other results, each a (value, low, high), and other values at paths."""

    def text(metrics, auc, own, rival, values=None):
        (own_result,) = (r["metrics"] for r in metrics["results"] if r["model"] == "autoencoder")
        for name, estimate in (("auc_roc", auc), ("average_precision", own)):
            own_result[name].update(zip(NAMES, estimate, strict=True))
        for difference in metrics["differences"]:
            difference.update(zip(NAMES, rival, strict=True))
        return report_text(DOCUMENT, changed(metrics, values or {}))

    return text


def test_the_real_run_has_the_schema(metrics, assert_schema):
    assert_schema(metrics, evaluation.Metrics)


def test_every_number_of_the_report_is_measured(metrics, report_text, assert_numbers_are_measured):
    frauds = metrics["data"]["frauds"]
    shares = [count / metrics["data"][part] for part, count in frauds.items()]
    assert_numbers_are_measured(
        report_text(DOCUMENT, metrics), metrics, derived=shares, known=("0.5", "100", f"{shares[-1]:.4f}")
    )


@pytest.mark.parametrize(
    ("auc", "own", "rival", "words"),
    [
        (GOOD, (0.5, 0.4, 0.6), (0.2, 0.1, 0.3), ["better than", "by 0.200", "(0.100 to 0.300)"]),
        (GOOD, (0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), ["not the best choice", "by 0.200", "(0.100 to 0.300)"]),
        (GOOD, (0.4, 0.3, 0.5), (0.02, -0.1, 0.1), ["not significantly different from", "+0.020 (-0.100 to +0.100)"]),
        ((0.9, 0.8, 1), (0.9, 0.8, 1), (-0.0012, -0.004, -0.0002), ["behind", "0.0012", "(0.0002 to 0.0040)"]),
        ((1, 1, 1), (1, 1, 1), (0, 0, 0), ["have the same average precision"]),
        ((0.51, 0.47, 0.55), (0.01, 0, 0.02), (0.1, 0.05, 0.2), ["does not detect fraud", "0.510 (0.470 to 0.550)"]),
        ((0.1, 0.05, 0.2), (0.01, 0, 0.02), (0, 0, 0), ["does not detect fraud", "below 0.5", "labels are swapped"]),
    ],
    ids=["ahead", "behind", "overlap", "hardly behind", "perfect", "by chance", "exchanged labels"],
)
def test_the_verdict_follows_the_numbers(metrics, said, auc, own, rival, words):
    text = said(metrics, auc, own, rival)
    assert [word for word in words if word not in text] == []
    readings = {
        "better than",
        "not the best choice",
        "not significantly different from",
        "have the same average",
        "does not detect",
    }
    assert sum(reading in text for reading in readings) == 1
    assert "+0.000" not in text


@pytest.mark.parametrize(
    ("auc", "rival", "words"),
    [
        ((0.9, 0.8, 1), (0.2, 0.1, 0.3), "On these data, the autoencoder is ahead"),
        ((0.9, 0.8, 1), (-0.2, -0.3, -0.1), "On these data, the autoencoder is behind"),
        ((0.7, 0.4, 0.9), (0, -1, 1), "is unclear: its AUC-ROC of 0.700 (0.400 to 0.900) includes 0.5"),
    ],
)
def test_little_is_said_of_few_frauds(metrics, said, auc, rival, words):
    text = said(metrics, auc, (0.3, 0.2, 0.6), rival, {("evaluation", "defrauded"): 1})
    assert "too few to evaluate a detector reliably" in text
    assert words in text


def test_a_small_budget_and_a_silent_threshold_are_said(metrics, said):
    chosen = [budget["multiple"] for budget in metrics["threshold"]["budgets"]].index(1)
    text = said(
        metrics,
        GOOD,
        (0.5, 0.4, 0.6),
        (0.2, 0.1, 0.3),
        {("best_possible", "recall_at_budget"): 1 / 3, ("threshold", "budgets", chosen, "test", "alerts"): 0.0},
    )
    assert "a perfect ranking: 33.3 %" in text
    assert "a perfect ranking has Recall at" in text
    assert "raised no alert on test." in text


def test_what_the_data_do_not_have_is_left_out(metrics, report_text, changed):
    scores = {("data", "days"): dict.fromkeys(metrics["data"]["days"]), ("evaluation", "unit"): "payments"}
    names = ["# *a* $b$ @c <d>", "line one\nline two \x1b", "漢字 \U0001f600", *map(str, range(40))]
    text = report_text(
        DOCUMENT,
        changed(
            metrics,
            scores
            | {("data", "seed"): None, ("data", "features"): names, ("data", "labels"): names}
            | {("settings", "csv"): ["a.csv"], ("settings", "quick"): False, ("settings", "widths"): []}
            | {("settings", "learning_rate"): 1e-5, ("settings", "code_penalty"): 2.5e-4, ("detection",): {}}
            | {("figures",): {name: metrics["figures"][name] for name in ("roc", "network")}}
            | {("limits",): ["the best epoch is the last one"], ("timing", "resumed"): True},
        ),
    )
    for word in ("split is random", "independent", "and 3 more", "The best epoch is the last one.", "after a resume"):
        assert word in text
    assert "# *a* $b$ @c <d>" in text  # plain text
    assert "‹U+001B›" in text
    assert "learning rate 1e-05" in text
    assert "L1 penalty 0.00025" in text
    for word in ("quick run", "simulated by simple rules", "Figure 3", "hidden layers"):
        assert word not in text


@pytest.mark.parametrize("seed", range(12))
def test_the_report_holds_on_any_small_data(metrics, report_text, assert_schema, seed):
    random = np.random.default_rng(seed)
    rows = int(random.integers(2, 40))
    labels = (random.random(rows) < random.choice([0.05, 0.3, 0.95])).astype(np.int8)
    labels[:2] = 0, 1
    extra = {"row": np.arange(rows)}
    if seed % 3:
        extra |= {"time": np.sort(random.random(rows)) * 86_400, "day": np.zeros(rows, np.int32)}
    if seed % 2:
        extra |= {"customer": random.integers(0, 5, rows)}
    test = Split(np.zeros((rows, 1), np.float32), labels, extra)
    ways = [
        lambda: random.normal(size=rows),
        lambda: labels.astype(float),
        lambda: np.ones(rows),
        lambda: -labels.astype(float),
        lambda: labels + random.normal(size=rows),
    ]
    scores = {result["model"]: [ways[random.integers(5)]()] for result in metrics["results"]}
    rate = float(random.choice([1 / rows, 0.3, 1]))
    found = evaluation.compare(test, scores, dict.fromkeys(scores, 1), rate, resamples=20)
    other = scores["autoencoder"][0]
    threshold = {"alert_rate": rate, "rule": "any", "value": 0.5}
    threshold |= evaluation.calibration(test, test, other, other, other, rate)
    data = metrics["data"] | {"test": rows, "frauds": metrics["data"]["frauds"] | {"test": int(labels.sum())}}
    found = metrics | found | {"data": data, "threshold": metrics["threshold"] | threshold}
    if not found["detection"]:
        found["figures"].pop("detection")
    assert_schema(found, evaluation.Metrics)
    for result in found["results"]:
        for value in result["metrics"].values():
            assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    for value in found["differences"]:
        assert value["low"] <= value["value"] <= value["high"]
    assert not re.search(r"\bnan\b|\binf\b|[+-]0\.0+ [(]", report_text(DOCUMENT, found))

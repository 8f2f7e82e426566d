import copy
from pathlib import Path

import pytest

import applications
from applications.speech import evaluation

DOCUMENT = Path(applications.__file__).parent / "speech" / "report.typ"
NAMES = ("value", "low", "high")
ENCODER = "transformer encoder"


@pytest.fixture
def said(report_text, changed):
    """The text of the report on metrics with other values at paths."""
    return lambda metrics, values=None: report_text(DOCUMENT, changed(metrics, values or {}))


def accuracies(metrics, values):
    """The paths of some models' frame accuracies, and other values of these."""
    places = {result["model"]: place for place, result in enumerate(metrics["results"])}
    return {("results", places[model], "metrics", "frame_accuracy", "value"): v for model, v in values.items()}


def differences(metrics, values):
    """The paths of some pairs' differences, and others, each a (value, low, high)."""
    places = {(entry["better"], entry["worse"]): place for place, entry in enumerate(metrics["differences"])}
    return {
        ("differences", places[pair], name): value
        for pair, estimate in values.items()
        for name, value in zip(NAMES, estimate, strict=True)
    }


def of_baselines(metrics, rival, *, best="perceptron", constant=(0.5, 0.4, 0.6)):
    """A run in which one of the baselines is best, and what the network's differences from it and the constant are."""
    order = sorted(("majority phone", "logistic regression", "perceptron"), key=lambda name: name == best)
    pairs = {("BLSTM", "majority phone"): constant} | ({("BLSTM", best): rival} if rival else {})
    return accuracies(metrics, dict(zip(order, (0.1, 0.2, 0.3), strict=True))) | differences(metrics, pairs)


def alone(metrics):
    """The same run without the rest of the family."""
    metrics = copy.deepcopy(metrics)
    kept = [result for result in metrics["results"] if result["baseline"] or result["model"] == "BLSTM"]
    models = {result["model"] for result in kept}
    return metrics | {
        "results": kept,
        "differences": [d for d in metrics["differences"] if {d["better"], d["worse"]} <= models],
        "context": {"BLSTM": metrics["context"]["BLSTM"]},
        "figures": {name: figure for name, figure in metrics["figures"].items() if not name.startswith("context_")},
    }


def without(metrics, *figures):
    return {name: figure for name, figure in metrics["figures"].items() if name not in figures}


def test_the_real_run_has_the_schema(metrics, assert_schema):
    assert_schema(metrics, evaluation.Metrics)


def test_every_number_of_the_report_is_measured(metrics, said, assert_numbers_are_measured):
    matrix = metrics["confusion_matrix"]
    wrong = sum(map(sum, matrix)) - sum(row[place] for place, row in enumerate(matrix))
    derived = [sum(entry["frames"] for entry in metrics["confusions"]) / wrong, len(metrics["data"]["classes"])]
    assert_numbers_are_measured(said(metrics), metrics, derived=derived, known=("25", "99", "100"))


# --- The verdict ---


@pytest.mark.parametrize(
    ("rival", "constant", "words"),
    [
        ((0.106, 0.085, 0.127), (0.5, 0.4, 0.6), ["better than the perceptron", "by 10.6", "(8.5 to 12.7)"]),
        ((-0.046, -0.067, -0.025), (0.5, 0.4, 0.6), ["not the best choice", "by 4.6", "(2.5 to 6.7)"]),
        (
            (0.008, -0.013, 0.029),
            (0.5, 0.4, 0.6),
            ["not significantly different from the perceptron", "+0.8 (-1.3 to +2.9)"],
        ),
        ((0, 0, 0), (0.5, 0.4, 0.6), ["frame accuracy is equal in every bootstrap draw"]),
        ((0.1, 0.05, 0.15), (0.003, -0.018, 0.024), ["is not above the 10.0 % of", "check the labels"]),
    ],
    ids=["ahead", "behind", "overlap", "equal", "not above the constant"],
)
def test_the_verdict_follows_the_numbers(metrics, said, rival, constant, words):
    text = said(metrics, of_baselines(metrics, rival, constant=constant))
    assert [word for word in words if word not in text] == []
    readings = (
        "unseen speakers better than",
        "not the best choice",
        "unseen speakers, the BLSTM is not",
        "has not learned to tag",
    )
    assert sum(reading in text for reading in readings) == 1
    assert ("better than the perceptron, the best baseline, which sees 5 frames on either side, by" in text) == (
        "by 10.6" in words
    )
    assert "quick run" in text


def test_the_verdict_takes_the_best_baseline(metrics, said):
    clear = (0.1, 0.05, 0.15)
    text = said(metrics, of_baselines(metrics, clear, best="logistic regression"))
    assert "better than the logistic regression, the best baseline, which sees" in text
    text = said(metrics, of_baselines(metrics, None, best="majority phone", constant=clear))
    assert "better than the majority phone, the best baseline, by" in text


def test_the_verdict_and_a_table_compare_the_family(metrics, said):
    networks = {result["model"]: 0.5 for result in metrics["results"] if not result["baseline"]}
    text = said(
        metrics,
        of_baselines(metrics, (0.1, 0.05, 0.15))
        | accuracies(metrics, networks | {"RNN": 0.763, "LSTM": 0.709, "BLSTM": 0.713})
        | differences(
            metrics,
            {
                ("BLSTM", "RNN"): (-0.05, -0.071, -0.029),
                ("BLSTM", "LSTM"): (0.004, -0.017, 0.025),
                ("LSTM", "RNN"): (-0.054, -0.075, -0.033),
                ("BLSTM", "GRU"): (0, 0, 0),
            },
        ),
    )
    assert f"Of the {len(networks)} networks of similar size, the RNN has the highest" in text
    assert "76.3 %: the BLSTM is behind the RNN by 5.0 points (2.9 to 7.1)" in text
    assert "the BLSTM is not significantly different from the LSTM (+0.4 points, -1.7 to +2.5)" in text
    assert "the LSTM is behind the RNN by 5.4 points" in text
    for row in ("BLSTM RNN -5.0 -7.1 to -2.9 behind", "BLSTM LSTM +0.4 -1.7 to +2.5 not significant"):
        assert row in text
    assert "BLSTM GRU 0.0 0.0 to 0.0 equal" in text
    assert "without further tuning" in text
    single = said(alone(metrics))
    for word in ("networks", "Differences in", "All networks"):
        assert word not in single


def test_a_pair_is_compared_once_whichever_was_expected_to_be_better(metrics, said):
    (entry,) = (d for d in metrics["differences"] if (d["better"], d["worse"]) == ("BLSTM", "LSTM"))
    reverse = entry | {"better": "LSTM", "worse": "BLSTM", "value": -entry["value"]}
    reverse |= {"low": -entry["high"], "high": -entry["low"]}
    assert said(metrics | {"differences": [*metrics["differences"], reverse]}) == said(metrics)


@pytest.mark.parametrize(
    ("speakers", "heard", "words"),
    [
        (2, 0, ["unseen speakers", "The split, by speaker", "Each speaker is in one split only", "are 2 test"]),
        (
            2,
            1,
            ["speakers partly seen in training", "1 of the 2 test speakers are also in", "The split is by sentence"],
        ),
        (1, 1, ["speakers seen in training", "The test speaker is also in", "The split, by sentence"]),
        (1, 0, ["unseen speakers", "There is only one test speaker"]),
    ],
)
def test_own_recordings_are_reported_by_who_was_heard(metrics, said, speakers, heard, words):
    metrics = alone(metrics)
    shown = {"FPAS0": [0.7, 0.6, 0.8], "MABC0": [0.6, 0.5, 0.7]}
    groups = {n: dict(zip(NAMES, e, strict=True)) for n, e in list(shown.items())[:speakers]}
    example = metrics["examples"][0] | {"speaker": "FPAS0", "text": "", "noise": "", "kind": "only"}
    drawn = without(metrics, "by_noise", *(["by_speaker"] if speakers == 1 else []))
    drawn["example_only"] = drawn["example_good"]
    text = said(
        metrics,
        of_baselines(metrics, (0.1, 0.05, 0.15))
        | {("settings", "timit"): "TIMIT/", ("settings", "quick"): False, ("figures",): drawn}
        | {("data", "speakers", "test"): speakers, ("data", "heard"): heard, ("data", "test_speakers"): list(groups)}
        | {("accuracy_by", "speaker"): {"BLSTM": groups, "perceptron": groups}, ("hardest_speakers",): list(groups)}
        | {("accuracy_by", "noise"): {"BLSTM": {"": groups["FPAS0"]}, "perceptron": {"": groups["FPAS0"]}}}
        | {("examples",): [example], ("data", "sentences", "test"): 1, ("data", "scored", "test"): 3},
    )
    assert [word for word in words if word not in text] == []
    assert f"The test sentence, rank {example['rank']} of 1: {example['name']}, speaker" in text
    assert ("1 FPAS0 70.0 % 60.0 to 80.0 %" in text) == (speakers > 1)
    assert f"{metrics['data']['test'] - 3:,} frames have a label that is not a phone" in text
    assert "With 1 test sentence the intervals are too narrow" in text
    assert "There is only one test sentence" in text
    for word in ("signal-to-noise", "synthetic:", "quick run", "espeak"):
        assert word not in text.replace(metrics["data"]["source"], "").replace(metrics["data"]["licence"], "")


# --- The rest ---


def test_the_transformer_is_reported_with_its_context(metrics, said):
    assert "which positions are neighbours" in said(metrics)
    assert "neighbours" not in said(alone(metrics))
    curves = metrics["context"]["BLSTM"]
    shorter = curves | {"both": curves["both"][:4]}
    text = said(
        metrics,
        of_baselines(metrics, (0.1, 0.05, 0.15))
        | {("model", "context"): 64, ("context", "BLSTM"): shorter, ("results", 0, "layers"): 1}
        | {("results", 0, "dropout"): 0.2, ("results", 0, "units"): 93},
    )
    for word in ("windows of 64 frames, its maximum context. Here", "64 frames; longer sentences are split"):
        assert word in text
    for word in ("1 block of width 93", "dropout 0.2 on attention", "windows, ", "with 3 on either side "):
        assert word in text
    own = said(metrics)
    for word in ("trained on whole sentences", "in each direction", " sentences, ", "on each layer's input"):
        assert word in own.replace("’", "'")
    assert "with warm-up in the first 10.0 % of the steps" in own


def test_what_is_left_out_is_not_said(metrics, said):
    values = {
        ("settings", "bidirectional"): False,
        ("settings", "layer_normalization"): True,
        ("settings", "init_from"): "a/model.keras",
        ("figures",): without(metrics, "learning"),
        ("confusions",): [],
        ("limits",): ["the best epoch is the last one"],
        ("examples", 0, "text"): "# *a* $b$ @c <d>",
        ("examples", 1, "noise"): "clean",
        ("examples", 2, "seconds"): 12.34,
    }
    text = said(metrics, values | of_baselines(metrics, (0.1, 0.05, 0.15)))
    for word in ("since it is unidirectional", "following frames have no effect", "layer normalisation"):
        assert word in text
    for word in ("Started from a/model.keras", "The best epoch is the last one.", "“# *a* $b$ @c <d>”, speaker"):
        assert word in text
    assert "without noise; frame accuracy" in text
    assert "The first 6 of 12.3 seconds." in text
    for word in ("in each direction", "uses following frames", "Learning curves", "with the most frames"):
        assert word not in text

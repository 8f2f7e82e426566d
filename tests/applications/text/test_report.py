import io
import json
from pathlib import Path

import pytest
from pypdf import PdfReader

from applications.text import report as text_report

HEADINGS = [
    *("Results", "What it writes", "Where it is surprised", "Where it looks", "Data", "Model and training", "Limits"),
    "How to repeat",
]
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
FIGURES = ("learning", "position", "surprise", "attention", "network")
MEASURES = ("bits_per_character", "bits_per_byte", "perplexity", "accuracy")
COMPRESSORS = {"xz": 1.753, "bz2": 1.912, "zstd": 1.804, "PPMd": 1.412}
UNUSUAL = "Ελληνικά 漢字 שלום 🎉 e\u0301 \u202eabc \x00\x07\x1b[0m \ufffd #let x = $1$ <b> \\u{41}\r\n\t\u2028`*_"
NO_QUALITY = dict.fromkeys(("known_words", "distinct_2", "distinct_4", "balanced_brackets", "balanced_quotes"))


def span(value, width=0.021):
    return {"value": value, "low": value - width, "high": value + width}


def made_up(
    *,
    model="transformer",
    bits=None,
    width=0.021,
    seeds=1,
    compressors=None,
    quick=False,
    text=(),
    tokenizer="char",
    written="the statement is (a list) of ",
    quality=None,
    unknown=0,
    init_from=None,
    hardest=True,
    measured=18,
    gain=0.142,
    other=0.217,
    most=298_734,
    sampled=298_734,
):
    """The metrics of a run that never was; `bits` changes those of some models, `width` is half of an interval."""
    bits = {model: 1.824, "5-gram": 2.013, "16-gram": 2.041, "unigram": 4.517} | (bits or {})
    results = []
    for name in bits:
        own_seeds = seeds if name == model else 1
        values = {
            "bits_per_character": span(bits[name], width),
            "bits_per_byte": span(bits[name] / 1.013, width),
            "perplexity": span(2 ** bits[name]),
            "accuracy": span(0.713 - bits[name] / 10),
        }
        for value in values.values():
            value |= {"seeds": [value["value"] + place / 100 for place in range(own_seeds)]}
            value |= {"deviation": 0.0137 if own_seeds > 1 else 0.0}
        results.append(
            {
                "model": name,
                "baseline": name != model,
                "uses_labels": False,
                "parameters": {model: 823_296, "5-gram": 431_877, "16-gram": 1_904_233, "unigram": 97}[name],
                "fit_seconds": 241.7 if name == model else 0.0,
                "best_epochs": [7] * own_seeds if name == model else [],
                "metrics": values,
            }
        )
    curves = {
        name: [{"position": edge, **span(3.3 - place / 4 + bits[name] / 10)} for place, edge in enumerate((1, 8, 64))]
        for name in (model, "5-gram")
    }
    texts = {name: written for name in ("0.5", "0.8", "1")}
    row = {
        **{"known_words": 0.876, "distinct_1": 0.52, "distinct_2": 0.813, "distinct_3": 0.947, "distinct_4": 0.981},
        **{"longest_copy": 33.25, "mean_copy": 8.41, "balanced_brackets": 0.731, "balanced_quotes": 0.652},
    } | (quality or {})
    real = row | {"known_words": 0.912, "longest_copy": 41.5}
    return {
        "application": "text_generation",
        "backend": "tensorflow",
        "seed": 0,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "settings": {
            **{"text": list(text), "encoding": None, "tokenizer": tokenizer, "vocabulary": 2_000, "preset": "short"},
            **{"template": "transformer" if model == "transformer" else model.lower(), "layers": 4, "units": 128},
            **{"heads": 4, "context": 128, "activation": "gelu", "dropout": 0.1, "optimizer": "adamw"},
            **{"learning_rate": 0.003, "batch_size": 16, "epochs": 8, "patience": 6, "precision": "float32"},
            **{"seed": 0, "seeds": seeds, "init_from": init_from, "quick": quick},
        },
        "command": "python applications/text_generation.py",
        "data": {
            **{"name": "Python's language reference", "source": "pydoc_data.topics", "licence": "PSF", "seed": None},
            **{"rows": 373_412, "size_bytes": 378_011, "sha256": "8b57" * 16, "units": "characters"},
            **{"notes": ["read as UTF-8"], "train": 298_733, "validation": 37_341, "test": 37_338},
            **{"tokenizer": tokenizer, "vocabulary": 98},
            "characters": {"train": 298_734, "validation": 37_342, "test": 37_339},
            "bytes": {"train": 299_911, "validation": 37_511, "test": 37_523},
            "blocks": {"train": 151, "validation": 19, "test": 18},
            "unknown": {"train": 0, "validation": 3, "test": unknown},
            "measured": {"blocks": measured, "characters": 37_339, "tokens": 37_338},
        },
        "evaluation": {
            "resamples": 500,
            "unit": "blocks",
            "training_characters": {"5-gram": 298_734, "16-gram": most},
            "sampled_characters": sampled,
        },
        "headline": {"model": model, "metric": "bits_per_character", **span(bits[model], width)},
        "results": results,
        "compressors": [
            {"name": name, "bits_per_character": value, "bits_per_byte": value / 1.013}
            for name, value in (COMPRESSORS if compressors is None else compressors).items()
        ],
        "mixture": {
            **{"parameters": 2_727_529, "shares": [0.65, 0.7, 0.6][:seeds]},
            "gains": [{"worse": model, **span(gain, 0.021)}, {"worse": "16-gram", **span(other, 0.032)}],
            "metrics": {
                "bits_per_character": span(bits[model] - gain),
                "bits_per_byte": span((bits[model] - gain) / 1.013),
                "perplexity": span(2 ** (bits[model] - gain)),
            },
        },
        "levels": {"5-gram": 1.987, "PPMd": 1.402, "xz": 1.743},
        "differences": [
            {"better": model, "worse": worse, **span(bits[worse] - bits[model], width)}
            for worse in ("5-gram", "16-gram", "unigram")
        ],
        "by_position": curves,
        "hardest": [
            {
                "block": place,
                "first_token": 411 * place,
                "bits_per_token": 3.7 - place / 9,
                "pieces": [[written, 7.123]],
            }
            for place in range(3 if hardest else 0)
        ],
        "samples": [
            {"temperature": float(t), "prompt": written[:9], "text": content, "longest_copy": 27 + place}
            for t, content in texts.items()
            for place in range(2)
        ],
        "sample_length": 600,
        "sample_quality": [
            {"name": "held-out text", "samples": 8, **real},
            *({"name": f"temperature\u00a0{t}", "samples": 8, **row} for t in texts),
        ],
        "generated_tokens_per_second": 2_941,
        "moments": [{"epoch": epoch, "text": f"{written}{epoch}"} for epoch in (1, 2, 7)],
        "model": {
            "layers": [["embedding", [128], 12_544], ["block_1", [128], 198_272]],
            "look_back": 128,
            "batch_size": 16,
            "steps_per_epoch": 145,
        },
        "attention": {"text": written[:24], "layers": 4, "heads": 4} if model == "transformer" else None,
        "timing": {
            **{"started": "2026-03-04T05:06:07+00:00", "machine": "x86_64, 2 cores, Linux", "resumed": False},
            **{"fit_seconds": 241.74, "examples_per_second": 9_837, "total_seconds": 301.55, "peak_memory_mb": 1_951},
        },
    }


RUNS = {
    "embedded": made_up(),
    "a recurrent network": made_up(model="LSTM"),
    "three seeds": made_up(seeds=3),
    "a quick run": made_up(quick=True),
    "own text": made_up(text=["novel.txt"], unknown=11, measured=12, most=166_551),
    "large text": made_up(text=["novel.txt"], unknown=2_311, most=166_551, sampled=211_009, bits={"16-gram": 1.9}),
    "bytes": made_up(tokenizer="byte"),
    "byte pairs": made_up(tokenizer="bpe", init_from="runs/a/model.keras"),
    "unusual text": made_up(written=f"{UNUSUAL} ", text=[f"{UNUSUAL!r}.txt"]),
    "nothing but signs": made_up(written="??!? ", quality=NO_QUALITY),
    "short blocks": made_up(hardest=False),
    "behind": made_up(bits={"5-gram": 1.7}),
    "nothing learnt": made_up(bits={"transformer": 4.51}),
}
every_run = pytest.mark.parametrize("metrics", RUNS.values(), ids=RUNS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / "figures" / f"{name}.svg").write_bytes(PICTURE)
    return tmp_path


def spoken(metrics):
    return [sentence.replace("\u00a0", " ") for sentence in text_report.verdict(metrics)]


def blocks(metrics, heading):
    (section,) = [part for part in text_report.document(metrics)["sections"] if part["heading"] == heading]
    return section["blocks"]


def figures(metrics):
    sections = text_report.document(metrics)["sections"]
    found = [block["figures"] for section in sections for block in section["blocks"] if "figures" in block]
    return {Path(figure["file"]).stem: figure for pair in found for figure in pair}


def words(metrics, heading):
    return json.dumps(blocks(metrics, heading), ensure_ascii=False).replace("\u00a0", " ")


# --- The verdict ---


def test_verdict_follows_the_numbers():
    ahead, behind, equal, useless = (
        spoken(made_up(bits=changes)) for changes in ({}, {"5-gram": 1.759}, {"5-gram": 1.835}, {"transformer": 4.53})
    )
    assert ahead[:2] == [
        "The transformer predicts text that it never saw better than the 5-gram model: it needs fewer by 0.189 bits a "
        "character (0.168 to 0.210).",
        "It needs 1.824 (1.803 to 1.845) bits a character, and the character that it holds most probable is the right "
        "one 53.1 % (51.0 to 55.2 %) of the time; its perplexity per character is 3.54.",
    ]
    assert behind[0] == (
        "The transformer is not the model to take for this text: it needs more than the 5-gram model, by 0.065 bits a "
        "character (0.044 to 0.086)."
    )
    assert equal[0] == (
        "On text that neither saw, the transformer cannot be told from the 5-gram model: the difference, +0.011 bits a "
        "character (-0.010 to +0.032), may be chance."
    )
    assert useless[:2] == [
        "The transformer has not learnt this text: its 4.530 (4.509 to 4.551) bits a character are no fewer than the "
        "4.517 that the frequencies of the tokens alone would need.",
        "Before it is used, check whether the learning curves had levelled out, and whether the text has any order "
        "that could be learnt.",
    ]
    assert ahead[2] == (
        "Together with the 16-gram model, which knows the phrases of the training text by heart, it needs 1.682 (1.661 "
        "to 1.703), fewer than either alone: by 0.142 (0.121 to 0.163) than the transformer, by 0.217 (0.185 to 0.249) "
        "than the 16-gram model. The transformer's share in the mixture, 65.0 %, was chosen on validation."
    )
    assert "The transformer's shares in the mixture, 65.0 %, 70.0 %, 60.0 %, were chosen" in spoken(made_up(seeds=3))[2]
    for gains in ({"gain": 0.02}, {"other": 0.03}):
        assert not any("Together" in sentence for sentence in useless + spoken(made_up(**gains)))
    long = spoken(made_up(bits={"16-gram": 1.759}))
    assert long[0].startswith("The transformer is not the model to take for this text: it needs more than the 16-gram")
    # Fewer bits than the frequencies, but by no more than chance.
    assert spoken(made_up(bits={"transformer": 4.51}))[0].startswith("The transformer has not learnt this text")
    assert not spoken(made_up(bits={"transformer": 4.49}))[0].startswith("The transformer has not learnt this text")


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (1.824, "fewer bits than bz2 (1.912), but more than PPMd (1.412), xz (1.753) and zstd (1.804)"),
        (1.753, "fewer bits than zstd (1.804) and bz2 (1.912), but more than PPMd (1.412) and xz (1.753)"),
        (1.4, "fewer bits than PPMd (1.412), xz (1.753), zstd (1.804) and bz2 (1.912)"),
        (1.95, "more than PPMd (1.412), xz (1.753), zstd (1.804) and bz2 (1.912)"),
    ],
)
def test_verdict_ranks_the_compressors(bits, said):
    sentence = spoken(made_up(bits={"transformer": bits}))[3]
    assert sentence == f"As a compressor of the same text, after the same training text, it needs {said}."


def test_verdict_says_what_it_writes_if_there_are_words():
    assert spoken(RUNS["embedded"])[-1] == (
        "Of the words that it writes at temperature 0.8, 87.6 % are words of the training text (of real text 91.2 %); "
        "the longest run that a sample of 600 characters copies from it has 33 characters on average, where real text "
        "has 42."
    )
    assert "Of the words" in spoken(RUNS["nothing learnt"])[-1]
    assert not [sentence for sentence in spoken(RUNS["nothing but signs"]) if "words" in sentence]


def test_verdict_says_that_a_run_was_quick():
    assert "quick run" in spoken(RUNS["a quick run"])[-1]
    assert "quick run" in spoken(made_up(quick=True, bits={"transformer": 4.53}))[-1]
    assert not [
        name for name, metrics in RUNS.items() if "quick run" in " ".join(spoken(metrics)) and "quick" not in name
    ]


def test_verdict_says_where_the_terms_are_not_equal_and_characters_unknown():
    own, large = spoken(RUNS["own text"]), spoken(RUNS["large text"])
    assert not any("terms" in sentence or "count as one" in sentence for sentence in own)  # of 11 in 37,339
    fitted = (
        "The terms are not equal: the 16-gram model was fitted on 166,551 of the 298,734 characters of training text"
    )
    assert f"{fitted}, in blocks that are evenly spread over it, and with all of them it may need fewer bits." in large
    assert any(s.startswith("Of the test text, 6.2 % are characters that the model does not know.") for s in large)
    assert "those of 211,009 of the 298,734 characters of the training text and" in words(RUNS["large text"], "Results")
    said = " Words and copies were looked for in 211,009 of the 298,734 characters of training text."
    assert said in words(RUNS["large text"], "What it writes")
    assert said not in words(RUNS["own text"], "What it writes")


def test_verdict_says_that_one_block_is_no_sample():
    said = "There is one test block, beside which a bootstrap draws no other: how much of this is chance is not known."
    assert spoken(made_up(measured=1))[-1] == said
    assert said not in spoken(made_up(measured=2))


def test_verdict_names_the_tokens():
    assert "the token that it holds most probable" in spoken(RUNS["bytes"])[1]
    assert "perplexity per token" in spoken(RUNS["byte pairs"])[1]


# --- The document ---


@every_run
def test_every_number_of_the_report_stands_in_metrics(metrics, assert_numbers_stand_in):
    derived = [
        [len(metrics[name]) for name in ("hardest", "moments")],
        len(metrics["samples"][0]["prompt"]),
        metrics["data"]["unknown"]["test"] / metrics["data"]["characters"]["test"],
    ]
    words = ("95", "2", "256")  # the level of the intervals, the base of the logarithm, the name of the hash
    forms = (",.0f", ",.1f", ",.2f", ",.3f", "g")
    assert_numbers_stand_in(text_report.document(metrics), metrics, derived, words, forms=forms, least=60)


@every_run
def test_sections_are_in_order_and_every_run_is_typeset(metrics, folder):
    expected = [name for name in HEADINGS if name != "Where it looks" or metrics["attention"]]
    assert [section["heading"] for section in text_report.document(metrics)["sections"]] == expected
    pages = PdfReader(io.BytesIO(text_report.typeset(metrics, folder))).pages
    said = " ".join(" ".join(page.extract_text().split()) for page in pages)
    for result in metrics["results"]:
        assert f"{result['metrics']['bits_per_character']['value']:.3f}" in said
    assert metrics["command"] in said


def test_the_same_numbers_give_the_same_bytes(folder):
    one, same, other = (text_report.typeset(metrics, folder) for metrics in (made_up(), made_up(), made_up(seeds=2)))
    assert one == same != other


def test_figures_are_those_that_say_something():
    assert set(figures(RUNS["embedded"])) == set(FIGURES)
    assert set(figures(RUNS["a recurrent network"])) == set(FIGURES) - {"attention"}
    assert set(figures(RUNS["short blocks"])) == set(FIGURES) - {"surprise"}


def test_alternative_texts_carry_the_numbers():
    said = {name: figure["alt"].replace("\u00a0", " ") for name, figure in figures(RUNS["embedded"]).items()}
    assert said["learning"].endswith("kept: epoch 7")
    assert said["position"].endswith("transformer from 3.48 to 2.98, 5-gram from 3.50 to 3.00")
    assert "The 3 passages" in said["surprise"]
    assert said["surprise"].endswith("3.70 bits a token, 3.59 bits a token, 3.48 bits a token")
    assert said["attention"] == "Attention of 4 heads in each of 4 layers for the text 'the statement is (a list'"
    assert said["network"].endswith("embedding 12,544, block_1 198,272")


def test_table_holds_models_and_compressors():
    table = blocks(RUNS["three seeds"], "Results")[1]["table"]
    rows = table["rows"]
    assert [row[0] for row in rows] == [
        *("transformer", "mixed with 16-gram", "5-gram", "16-gram", "unigram", "PPMd", "xz", "zstd", "bz2")
    ]
    assert table["rules"] == [1, 4]
    assert rows[0][1:4] == ["823,296", "242", {"value": "1.824", "detail": "1.803 to 1.845"}]
    assert rows[0][5] == {"value": "3.54", "detail": "3.52 to 3.56"}
    assert rows[0][6] == {"value": "53.1\u00a0%", "detail": "51.0 to 55.2\u00a0%"}
    assert rows[1][1:4] == ["2,727,529", "–", {"value": "1.682", "detail": "1.661 to 1.703"}]
    assert rows[1][6] == rows[2][2] == "–"
    assert rows[5] == ["PPMd", "–", "–", "1.412", "1.394", "–", "–"]
    assert "mean of 3 trainings (1.824, 1.834, 1.844; standard deviation 0.014)" in table["note"]
    note = blocks(RUNS["embedded"], "Results")[1]["table"]["note"]
    assert "trainings" not in note
    assert "fitted on 298,734 characters; below" in note
    note = blocks(RUNS["own text"], "Results")[1]["table"]["note"]
    assert "fitted on 298,734 characters (5-gram), 166,551 characters (16-gram); below" in note


def test_samples_are_shown_with_their_prompts():
    found = blocks(RUNS["embedded"], "What it writes")
    codes = [block["code"] for block in found if "code" in block]
    assert codes[:3] == ["▸the state◂the statement is (a list) of "] * 3
    assert codes[3:] == [f"▸the state◂the statement is (a list) of {epoch}" for epoch in (1, 2, 7)]
    texts = [block["text"] for block in found if "text" in block]
    assert "the beginnings of test blocks, 9 characters, marked ▸ ◂" in texts[0]
    assert texts[1:4] == [f"At temperature {t}; it copies 27 characters at most." for t in ("0.5", "0.8", "1")]
    assert texts[5:8] == ["After epoch 1:", "After epoch 2:", "After epoch 7, whose weights were kept:"]
    table = next(block["table"] for block in found if "table" in block)
    assert table["rows"][0] == [
        "held-out text",
        "91.2\u00a0%",
        "81.3\u00a0%",
        "98.1\u00a0%",
        "8.4",
        "42",
        *table["rows"][0][6:],
    ]
    assert [row[1] for row in blocks(RUNS["nothing but signs"], "What it writes")[0]["table"]["rows"]][1:] == ["–"] * 3
    long = blocks(made_up(written="so it is. " * 90), "What it writes")
    assert {len(block["code"]) for block in long if "code" in block} == {2 + 9 + 600 + 2}


def test_model_is_the_one_of_the_settings():
    assert "transformer: 4 blocks of width 128, 4 heads, gelu, 823,296 parameters" in words(
        RUNS["embedded"], "Model and training"
    )
    assert "LSTM: 4 layers of 128 units, gelu" in words(RUNS["a recurrent network"], "Model and training")
    assert "Started from" not in words(RUNS["embedded"], "Model and training")
    assert '["Started from", "runs/a/model.keras"]' in words(RUNS["byte pairs"], "Model and training")
    assert "dropout 0.1" in words(RUNS["embedded"], "Model and training")


def test_tokens_are_said_with_where_they_come_from():
    assert "98 characters, fitted on the training text" in words(RUNS["embedded"], "Data")
    assert "98 bytes" in words(RUNS["bytes"], "Data")
    of_another = words(RUNS["byte pairs"], "Data")
    assert "98 pieces found by byte-pair encoding, those of runs/a/model.keras" in of_another
    assert "characters that the tokens lack" in of_another
    assert "Measured: 12 test blocks, evenly spread" in words(RUNS["own text"], "Data")
    assert "Measured:" not in words(RUNS["embedded"], "Data")


def test_limits_are_those_of_the_data():
    assert "comes with Python" in words(RUNS["embedded"], "Limits")
    assert "unknown to the model" not in words(RUNS["embedded"], "Limits")
    own = words(RUNS["own text"], "Limits")
    assert "comes with Python" not in own
    assert "11 characters of the test text are unknown to the model" in own

from pathlib import Path

import pytest

import applications
from applications.text import evaluation

DOCUMENT = Path(applications.__file__).parent / "text" / "report.typ"
BITS = {"transformer": 1.824, "5-gram": 2.013, "16-gram": 2.041, "unigram": 4.517}
COMPRESSORS = {"xz": 1.753, "bz2": 1.912, "zstd": 1.804, "PPMd": 1.412}
UNUSUAL = "Ελληνικά 漢字 שלום 🎉 e\u0301 \u202eabc \x00\x07\x1b[0m \ufffd #let x = $1$ <b> \\u{41}\r\n\t\u2028`*_"


def span(value, width=0.021):
    return {"value": value, "low": value - width, "high": value + width}


@pytest.fixture
def said(metrics, report_text, changed):
    """The text of the report where models need other bits a character and other values stand at paths."""

    def text(bits=None, values=None):
        bits = BITS | (bits or {})
        found = changed(metrics, values or {})
        for result in found["results"]:
            result["metrics"]["bits_per_character"].update(span(bits[result["model"]]))
        for difference in found["differences"]:
            difference.update(span(bits[difference["worse"]] - bits[difference["better"]]))
        found["compressors"] = [
            {"name": name, "bits_per_character": value, "bits_per_byte": value / 1.013}
            for name, value in COMPRESSORS.items()
        ]
        return report_text(DOCUMENT, found)

    return text


def missing(text, words):
    return [word for word in words if word not in text]


def test_the_real_run_has_the_schema(metrics, assert_schema):
    assert_schema(metrics, evaluation.Metrics)


def test_every_number_of_the_report_is_measured(metrics, report_text, assert_numbers_are_measured):
    assert_numbers_are_measured(
        report_text(DOCUMENT, metrics), metrics, derived=[len(metrics["samples"][0]["prompt"])], known=("256",)
    )


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (
            {},
            [
                *("better than the 5-gram model, by 0.189 bits", "(0.168 to 0.210)"),
                *("It needs 1.824 (1.803 to 1.845) bits per character", "predicts the next character correctly"),
                "fewer bits than bz2 (1.912), but more than PPMd (1.412), xz (1.753) and zstd (1.804).",
            ],
        ),
        (
            {"transformer": 1.753},
            ["better than the 5-gram", "than zstd (1.804) and bz2 (1.912), but more than PPMd (1.412) and xz (1.753)."],
        ),
        (
            {"transformer": 1.4},
            ["better than the 5-gram", "needs fewer bits than PPMd (1.412), xz (1.753), zstd (1.804) and bz2 (1.912)."],
        ),
        (
            {"transformer": 1.95, "16-gram": 1.885},
            [
                *("not the best choice", "behind the 16-gram model, by 0.065 bits", "(0.044 to 0.086)"),
                "it needs more than PPMd (1.412), xz (1.753), zstd (1.804) and bz2 (1.912).",
            ],
        ),
        ({"5-gram": 1.759}, ["not the best choice", "behind the 5-gram model, by 0.065"]),
        (
            {"5-gram": 1.835},
            ["not significantly different from the 5-gram", "+0.011 bits per character (-0.010 to +0.032)."],
        ),
        (
            {"transformer": 4.53},
            ["has not learned this text: its 4.530 (4.509 to 4.551)", "not below the 4.517", "Before using it"],
        ),
        ({"transformer": 4.51}, ["has not learned"]),  # fewer bits than the frequencies, but by no more than chance
        ({"transformer": 4.49}, ["not the best choice"]),
    ],
)
def test_the_verdict_follows_the_numbers(said, bits, words):
    text = said(bits)
    assert missing(text, [*words, "of the generated words", "This was a quick run"]) == []
    readings = {"better than the", "not the best choice", "not significantly different from", "has not learned"}
    assert sum(reading in text for reading in readings) == 1
    assert ("As a compressor" in text) != ("has not learned" in text)


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_the_mixture_gains_is_said(said, seeds):
    gains = [{"worse": "transformer", **span(0.142)}, {"worse": "16-gram", **span(0.217)}]
    values = {
        ("mixture", "gains"): gains,
        ("mixture", "shares"): [0.65, 0.7, 0.6][:seeds],
        ("mixture", "metrics", "bits_per_character"): span(1.682),
        ("results", 0, "metrics", "bits_per_character", "seeds"): [1.824, 1.834, 1.844][:seeds],
        ("results", 0, "metrics", "bits_per_character", "deviation"): 0.0137,
        ("results", 0, "best_epochs"): [7, 8, 9][:seeds],
    }
    text = said(values=values)
    share = (
        "weight of the transformer, 65.0 %, was"
        if seeds == 1
        else "weights of the transformer, 65.0 %, 70.0 %, 60.0 %, were"
    )
    words = ["needs 1.682 (1.661 to 1.703) bits", "0.142 (0.121 to 0.163) fewer", "0.217 (0.196 to 0.238) fewer", share]
    assert missing(text, words) == []
    repeated = "mean of 3 seeds (1.824, 1.834, 1.844; standard deviation 0.014)"
    assert (repeated in text) == (seeds == 3)
    if seeds == 1:
        for place in (0, 1):
            few = [gain | span(0.02) if index == place else gain for index, gain in enumerate(gains)]
            assert "A mixture with" not in said(values=values | {("mixture", "gains"): few})


def test_unequal_terms_and_unknown_characters_are_said(metrics, said):
    characters = metrics["data"]["characters"]
    train = characters["train"]
    text = said(
        {"16-gram": 1.9},
        {
            ("evaluation", "training_characters", "16-gram"): 166_551,
            ("evaluation", "sampled_characters"): 211_009,
            ("data", "unknown", "test"): 2_311,
        },
    )
    words = [
        f"the 16-gram model was fitted on only 166,551 of the {train:,} training characters",
        f"{100 * 2_311 / characters['test']:.1f} % of the characters are unknown to the model",
        "166,551 characters (16-gram), ",
        f"size of 211,009 of the {train:,} characters",
        f"searched for in 211,009 of the {train:,} training characters",
        "2,311 characters of the test text are unknown",
    ]
    assert missing(text, words) == []
    text = said(values={("data", "unknown", "test"): 11})
    assert "11 characters of the test text are unknown" in text
    assert [
        word for word in ("not on equal terms", "of the characters are unknown", "searched for in") if word in text
    ] == []


def test_few_blocks_are_said(said):
    text = said(values={("data", "measured", "blocks"): 1})
    assert (
        missing(text, ["There is only one test block", "With 1 test block the intervals", "Evaluated: 1 test block,"])
        == []
    )
    text = said(values={("data", "measured", "blocks"): 10})
    assert "There is only one" not in text
    assert "With 10" not in text


def test_what_the_data_and_the_settings_say(metrics, said):
    text = said()
    words = [
        *("1 block of width 64, 4 heads, gelu", "characters, fitted on the training text", "comes with Python"),
        *("PPMd – – 1.412 1.394 – –", "not in the training text", "A dash: nothing to count."),
    ]
    assert missing(text, words) == []
    assert [
        word
        for word in ("Started from", "Regularisation", "Precision", "standard deviation", "Evaluated:")
        if word in text
    ] == []
    own = {
        **{("settings", name): value for name, value in {"text": ["a.txt"], "dropout": 0.1, "quick": False}.items()},
        **{("settings", name): value for name, value in {"template": "lstm", "layers": 4, "units": 1_280}.items()},
        **{("settings", "init_from"): "runs/a/model.keras", ("settings", "precision"): "mixed_float16"},
        **{("data", "tokenizer"): "bpe", ("figures",): {"network": metrics["figures"]["network"]}},
        **{("attention",): None, ("hardest",): [], ("limits",): ["the best epoch is the last one"]},
    }
    text = said(values=own)
    words = [
        *("4 layers of 1,280 units", "Started from runs/a/model.keras", "dropout 0.1", "Precision mixed_float16"),
        *("predicts the next token", "byte-pair encoding tokens, those of runs/a/model.keras", "not in the vocabulary"),
        "The best epoch is the last one.",
    ]
    assert missing(text, words) == []
    absent = ("quick run", "comes with Python", "Attention", "Figure 2", "heads", "fitted on the training text")
    assert [word for word in absent if word in text] == []


def test_samples_are_shown_with_their_prompts(metrics, said):
    samples = [sample | {"prompt": "the state", "text": "so it is. \n" * 90} for sample in metrics["samples"]]
    moments = [{"epoch": epoch, "text": f"written {epoch}"} for epoch in (1, 2, 7)]
    text = said(values={("samples",): samples, ("moments",): moments})
    assert "first 9 characters of test blocks, marked ▸ ◂" in text
    assert text.count("▸the state◂so it is.␣↵ so it is.␣↵") == 3  # once a temperature
    assert text.count("so it is.") == 3 * 54  # in 600 characters
    assert text.count("↵ so it …") == 3
    assert missing(text, [f"At temperature {t}; longest copied passage:" for t in ("0.5", "0.8", "1")]) == []
    assert "The same prompt at 3 points in training" in text
    for epoch, kept in ((1, ""), (2, ""), (7, " (final weights)")):
        assert f"After epoch {epoch}{kept}: ▸the state◂written {epoch}" in text
    assert "points in training" not in said(values={("moments",): moments[-1:]})


def test_samples_without_words_and_unusual_ones_are_typeset(metrics, said):
    nothing = dict.fromkeys(("known_words", "distinct_2", "distinct_4", "balanced_brackets", "balanced_quotes"))
    quality = [row | nothing for row in metrics["sample_quality"]]
    samples = [sample | {"prompt": UNUSUAL[:9], "text": UNUSUAL} for sample in metrics["samples"]]
    text = said(values={("samples",): samples, ("sample_quality",): quality, ("settings", "text"): [UNUSUAL]})
    assert "generated words" not in text
    assert missing(text, ["‹U+0007›", "‹U+001B›", "#let x = $1$ <b>", "held-out text – – – "]) == []

import re
from pathlib import Path

import pytest

import applications
from applications.pronounce import evaluation

DOCUMENT = Path(applications.__file__).parent / "pronounce" / "report.typ"
FORMER, LSTM, BASELINE = "transformer", "LSTM encoder–decoder", evaluation.BASELINE
GREEDY = f"{FORMER}, greedy"
UNUSUAL = "Ελληνικά漢字שלוםe\u0301\u202eabc\x07\ufffd#let$1$<b>\\u{41}`*_"
NAMES = ("value", "low", "high")


@pytest.fixture
def said(metrics, report_text, changed):
    """The text of the report with another word error rate, gains over other models, and other values at paths.

    By default a part of the words is wrong, and no difference is significant; minus signs are hyphens.
    """

    def text(values=None, *, wrong=(0.437, 0.424, 0.45), **gains):
        found = changed(metrics, {("settings", "quick"): False, **(values or {})})
        found["results"][0]["metrics"]["word_error_rate"].update(zip(NAMES, wrong, strict=True))
        found["results"][0]["metrics"]["phone_error_rate"].update(zip(NAMES, (0.112, 0.108, 0.116), strict=True))
        of_models = {GREEDY: "greedy", LSTM: "lstm", BASELINE: "baseline"}
        for difference in found["differences"]:
            if difference["better"] == FORMER and difference["measure"] == "word_error_rate":
                gain = gains.get(of_models.get(difference["worse"]), (0.007, -0.006, 0.02))
                difference.update(zip(NAMES, gain, strict=True))
        return report_text(DOCUMENT, found).replace("−", "-")

    return text


def test_the_real_run_has_the_schema(metrics, assert_schema):
    assert_schema(metrics, evaluation.Metrics)


def test_every_number_of_the_report_is_measured(metrics, report_text, assert_numbers_are_measured):
    longest = metrics["model"]["longest"] - 1  # the end takes a place
    assert_numbers_are_measured(report_text(DOCUMENT, metrics), metrics, derived=[longest], known=("256",))


@pytest.mark.parametrize(
    ("wrong", "gain", "words"),
    [
        ((0.437, 0.424, 0.45), (0.116, 0.103, 0.129), ["better than letters in context", "11.6 points (10.3 to 12.9)"]),
        ((0.437, 0.424, 0.45), (-0.036, -0.049, -0.023), ["not the best choice", "3.6 points (2.3 to 4.9)"]),
        (
            (0.437, 0.424, 0.45),
            (0.004, -0.009, 0.017),
            ["not significantly different from letters", "+0.4 (-0.9 to +1.7)"],
        ),
        (
            (0, 0, 0),
            (0, 0, 0),
            ["not significantly different from letters", "word accuracy is equal in every bootstrap draw"],
        ),
        (
            (0.911, 0.898, 0.924),
            (0, -0.1, 0.1),
            ["not significantly different from letters"],
        ),  # may be nine words in ten
        ((0.92, 0.907, 0.933), (0.1, 0.09, 0.11), ["has not learned", "92.0 % (90.7 to 93.3 %)", "learning curves"]),
    ],
    ids=["ahead", "behind", "overlap", "perfect", "hardly", "nothing learnt"],
)
def test_the_verdict_follows_the_numbers(metrics, said, wrong, gain, words):
    text = said(wrong=wrong, baseline=gain)
    assert [word for word in words if word not in text] == []
    readings = ("better than", "not the best choice", "not significantly different from letters", "has not learned")
    assert sum(reading in text for reading in readings) == 1
    assert "quick run" not in text
    if "has not learned" not in text:
        value, low, high = (f"{100 * one:.1f}" for one in wrong)
        assert (
            f"On {metrics['data']['test']:,} test words, the word error rate is {value} % ({low} to {high} %)" in text
        )
        assert "the phone error rate 11.2 % (10.8 to 11.6 %)" in text


@pytest.mark.parametrize(
    ("gain", "beams", "networks", "readings"),
    [
        (
            (0.031, 0.018, 0.044),
            "increases word accuracy by 3.1 points (1.8 to 4.4)",
            "is ahead of the {} by 3.1",
            "ahead",
        ),
        (
            (-0.031, -0.044, -0.018),
            "decreases word accuracy by 3.1 points (1.8 to 4.4)",
            "is behind the {} by 3.1",
            "behind",
        ),
        (
            (0.007, -0.006, 0.02),
            "makes no significant difference in word accuracy (+0.7 (",
            "is not significantly different from the {} (+0.7",
            "not significant",
        ),
        (
            (-0.007, -0.02, 0.006),
            "makes no significant difference in word accuracy (-0.7 (",
            "is not significantly different from the {} (-0.7",
            "not significant",
        ),
    ],
)
def test_searches_and_networks_are_compared(said, gain, beams, networks, readings):
    text = said({("evaluation", "beams"): 6}, greedy=gain, lstm=gain)
    assert f"Compared with greedy search, beam search with 6 beams {beams}" in text
    assert f"the transformer {networks.format(LSTM)}" in text
    value, low, high = (f"{100 * one:+.1f}" for one in gain)
    assert f"{FORMER} {LSTM} {value} {low} to {high} {readings}" in text
    assert f"{FORMER} {GREEDY} {value} {low} to {high} {readings}" in text


def test_tables_hold_all_models(metrics, said):
    text = said({("results", 0, "metrics", "word_error_rate", "seeds"): [0.427, 0.437, 0.447],
                 ("results", 0, "metrics", "word_error_rate", "deviation"): 0.01})  # fmt: skip
    for result in metrics["results"]:
        name, search = result["model"].removesuffix(", greedy"), result["search"]
        row = f"{name} {'–' if search is None else 'greedy' if search == 1 else f'{search} beams'} "
        assert re.search(re.escape(f"{row}{result['parameters']:,} ") + r"\d+ \d+\.\d %", text)
    assert "43.7 % 42.4 to 45.0 % 11.2 % 10.8 to 11.6 %" in text
    assert "3 seeds; word error rate of the transformer 42.7 %, 43.7 %, 44.7 %, standard deviation 1.0 %" in text
    assert metrics["results"][-1]["settings"] in text
    for listed, found, times in metrics["confusions"]["most"]:
        assert f"{listed} {found} {times:,}" in text
    for part in ("train", "validation", "test"):
        assert f"{metrics['data'][part]:,} {metrics['data']['entries'][part]:,}" in text
    fifths = [f"{100 * one['word_error_rate']['value']:.1f} %" for one in metrics["by_spelling"].values()]
    assert (
        f"is {fifths[0]} for the fifth of the words with the most regular spelling and {fifths[-1]} for the fifth"
        in text
    )
    for name, of in metrics["model"]["settings"].items():
        kind = "block" if name == FORMER else "layer"
        heads = ", 4 heads" * (name == FORMER)
        kind += "s" * (of["layers"] != 1)
        assert f"{of['layers']} {kind} each in encoder and decoder, width {of['units']}{heads}, " in text
    assert "--compare, the networks" not in text
    assert "--stress keeps it" in text


def test_one_network_that_searches_greedily(metrics, said, changed):
    """Without --compare, and with --beams 1."""
    models = (FORMER, BASELINE)
    text = said(
        {
            ("results",): [
                result | {"search": 1 if result["search"] else None}
                for result in metrics["results"]
                if result["model"] in models
            ],
            ("differences",): [one for one in metrics["differences"] if {one["better"], one["worse"]} == {*models}],
            ("model", "settings"): {FORMER: metrics["model"]["settings"][FORMER]},
            ("settings", "compare"): False,
            ("settings", "quick"): True,
        }
    )
    assert f"{FORMER} greedy " in text
    assert "With --compare, the networks are also trained on the smaller subsets" in text
    assert "quick run" in text
    for word in ("LSTM", "beam search", "mean of"):
        assert word not in text


def test_what_a_run_does_not_have_is_left_out(metrics, said):
    example = {"word": UNUSUAL, "said": "", "listed": ["N AY T", "K N IH G"], "probability": 0.0312}
    text = said(
        {
            ("figures",): {name: metrics["figures"][name] for name in ("length", "spelling", "sizes", "network")},
            ("attention",): None,
            ("by_spelling",): dict(list(metrics["by_spelling"].items())[:3]),
            ("examples",): {"right": [], "wrong": [example], "sure": []},
            ("confusions", "most"): [],
            ("data", "form"): "NFD",
            ("data", "size_bytes"): 12_345,
            ("settings", "dictionary"): f"{UNUSUAL!r}.tsv",
            ("settings", "test_words"): "test.txt",
            ("settings", "init_from"): "runs/a/model.keras",
            ("settings", "precision"): "mixed_bfloat16",
            ("timing", "resumed"): True,
            ("limits",): ["the best epoch is the last one"],
        }
    )
    assert "#let$1$<b>\\u{41}" in text.replace(" ", "")  # it is longer than its column
    for word in (
        *(
            "nothing 3.1 % N AY T / K N IH G",
            "decomposed form",
            "12.3 kB",
            "are listed separately",
        ),
        *(
            "Started from runs/a/model.keras",
            "--init-from",
            "mixed_bfloat16",
            "after a resume",
            "best epoch is the last",
        ),
    ):
        assert word in text
    for word in (
        *("Cross-attention", "Figure 5", "fifth of the words", "Correct words", "highest confidence"),
        *("--stress", "most are names"),
    ):
        assert word not in text


def test_attention_is_explained_where_it_is_drawn(metrics, said):
    shown = {"word": "knight", "said": "N AY T", "layers": 2, "heads": 4}
    figure = {"file": "figures/attention.svg", "alt": "attention"}
    text = said({("attention",): shown, ("figures",): metrics["figures"] | {"attention": figure}})
    assert "Attention" in text
    assert "from phones (rows) to letters (columns) of “knight”" in text

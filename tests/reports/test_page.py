import json
import math
import random
import statistics
from pathlib import Path

import pytest
import typst

import reports

PAGE = Path(reports.__file__).with_name("page.typ").read_bytes()
NUMBERS = [
    *(0, 1, -1, 7, 12, 999, 1_000, 1_234_567, 1e-7, 2.5e-5, 1e-5, 0.0001, 0.000123456, 0.1, 0.999, 9.996, 0.0004),
    *(-0.0004, -0.5004, 123.456, 1e6, 3.3e8, 31.168270111, 12_970, 0.09991),
    *(random.Random(0).uniform(-2_000, 2_000) for _ in range(100)),
]


def values(expression, metrics=None, **known):
    """What an expression is in a document on the metrics that knows some values by name."""
    assignments = "".join(f"#let {name} = json(bytes({json.dumps(json.dumps(it))}))\n" for name, it in known.items())
    files = {
        "main.typ": f'#import "page.typ": *\n{assignments}#metadata({expression}) <found>'.encode(),
        "page.typ": PAGE,
        "metrics.json": json.dumps(metrics or {}).encode(),
    }
    compiler = typst.Compiler(files, sys_inputs={"families": "[]", "missing": "[]", "date": ""})
    return json.loads(compiler.query("<found>", field="value", one=True))


def printed(text):
    """As Python prints a number, but with a minus sign, and no sign of what is rounded to 0."""
    text = text if float(text.replace(",", "")) else text.lstrip("+-")
    return text.replace("-", "−", 1) if text.startswith("-") else text


@pytest.mark.parametrize("digits", range(5))
def test_fixed_digits_are_those_of_python(digits):
    numbers = [*NUMBERS, 81.55, 97.65, 1_073.85, -0.125, 0.5, 1.5]  # ties in decimals, of which some are none in bits
    expected = [printed(f"{number:,.{digits}f}") for number in numbers]
    assert values(f"numbers.map(it => fixed(it, {digits}))", numbers=numbers) == expected
    expected = [printed(f"{number:+,.{digits}f}") for number in numbers]
    assert values(f"numbers.map(it => signed(it, {digits}))", numbers=numbers) == expected


@pytest.mark.parametrize("digits", [3, 4, 6])
def test_significant_digits_are_those_of_python(digits):
    expected = [printed(f"{number:.{digits}g}") for number in NUMBERS]
    assert values(f"numbers.map(it => significant(it, digits: {digits}))", numbers=NUMBERS) == expected


def test_counts_shares_and_intervals():
    span = {"value": 0.1234, "low": -0.05, "high": 0.2}
    assert values('(count(1234567), counted(1, "epoch"), counted(1200, "epoch"), percent(0.4567, digits: 2))') == [
        *("1,234,567", "1 epoch", "1,200 epochs", "45.67\u00a0%")
    ]
    forms = (
        "(span(it, 3), interval(it, 1, scale: 100, form: signed), interval(it, 2, absolute: true), percent-span(it))"
    )
    assert values(forms, it=span) == [
        *("0.123 (−0.050 to 0.200)", "−5.0 to +20.0", "0.05 to 0.20", "12.3\u00a0% (−5.0 to 20.0\u00a0%)")
    ]


def test_digits_show_the_width_of_an_interval():
    generator = random.Random(2)
    for _ in range(10):
        widths = [10 ** generator.uniform(-6, 0) for _ in range(generator.randint(1, 5))]
        spans = [{"value": 0.5, "low": 0.1, "high": 0.1 + width} for width in [*widths, 0]]
        typical = statistics.median(span["high"] - span["low"] for span in spans[:-1])
        expected = min(5, max(1, math.ceil(-math.log10(typical / 2))))
        assert values("digits-of(spans, 1)", spans=spans) == expected
    assert values("digits-of(spans, 3)", spans=[{"value": 1, "low": 1, "high": 1}]) == 3
    clear = {"value": 0.0012, "low": 0.00004, "high": 0.3}
    assert values("digits-of-difference(it, 1)", it=clear) == 5  # the first that shows that it isn't 0
    assert values("digits-of-difference(it, 1)", it=clear | {"low": -0.00004}) == 1


@pytest.mark.parametrize(
    ("difference", "said", "sentence"),
    [
        ({"value": 0.2, "low": 0.1, "high": 0.3}, "ahead", "the a is ahead of the b by 20.0 points (10.0 to 30.0)"),
        ({"value": -0.2, "low": -0.3, "high": -0.1}, "behind", "the a is behind the b by 20.0 points (10.0 to 30.0)"),
        (
            {"value": 0.1, "low": -0.1, "high": 0.3},
            "not significant",
            "is not significantly different from the b (+10.0 points, −10.0 to",
        ),
        ({"value": 0, "low": 0, "high": 0}, "equal", "the a and the b are exactly equal"),
        ({"value": 0.2, "low": 0.1, "high": 0.3, "pictures": 5}, "not significant", "not significantly different from"),
        ({"value": 0.2, "low": 0.1, "high": 0.3, "pictures": 6}, "ahead", "ahead of"),
        ({"value": 0.2, "low": 0, "high": 0.3}, "not significant", "not significantly different from"),
    ],
)
def test_a_difference_is_read_once_for_all_reports(difference, said, sentence, tmp_path):
    difference = difference | {"better": "a", "worse": "b", "measure": "accuracy"}
    assert values("reading(it)", it=difference) == said
    text = texts(values("relation(it)", it=difference))
    assert sentence in text
    assert ("the difference in accuracy is" in texts(values('chance("accuracy", it)', it=difference))) == (
        said != "equal"
    )


def texts(content):
    """The text of content, as a query returns it."""
    if isinstance(content, list):
        return "".join(map(texts, content))
    if content.get("func") == "space":
        return " "
    return content.get("text") or texts(
        content.get("children") or [content[key] for key in ("body", "child") if key in content]
    )


def test_pairs_of_models_are_listed_once():
    names = [("a", "b"), ("b", "a"), ("a", "c")]
    differences = [{"better": better, "worse": worse, "value": place} for place, (better, worse) in enumerate(names)]
    assert [entry["value"] for entry in values("distinct(it)", it=differences)] == [0, 2]

import numpy as np
import pyarrow as pa
import pytest

from data.labels import label_key, means_fraud, which_is_fraud
from data.values import CLOCK, Look, Unclear, guess_unit, in_seconds, is_plain, parse

POINT, COMMA = "number with decimal point", "number with decimal comma"
GROUPED_POINT, GROUPED_COMMA = f"{POINT}, comma between thousands", f"{COMMA}, point between thousands"


def look(values, **options) -> Look:
    found = Look(**options)
    found.add(pa.array(values, pa.string()), 0)
    return found


def read(text: str, kind: str) -> float | None:
    """The value, or None where it isn't of the kind."""
    values, bad = parse(pa.array([text]), kind)
    assert np.isnan(values[0]) or not bad[0]
    return None if bad[0] else float(values[0])


# Numbers


@pytest.mark.parametrize(
    ("text", "point", "grouped_point", "comma", "grouped_comma"),
    [
        ("1234.5", 1234.5, 1234.5, None, None),
        ("1234,5", None, None, 1234.5, 1234.5),
        ("1,234.5", 1234.5, 1234.5, None, None),
        ("1.234,5", None, None, 1234.5, 1234.5),
        ("1,234", None, 1234, 1.234, 1.234),
        ("1.234", 1.234, 1.234, None, 1234),
        ("1,234,567", 1234567, 1234567, None, None),
        ("1.234.567", None, None, 1234567, 1234567),
        ("12,34,567.8", 1234567.8, 1234567.8, None, None),
        ("0,123", None, None, 0.123, 0.123),
        ("1 234", 1234, 1234, 1234, 1234),
        ("1\u202f234,5 €", None, None, 1234.5, 1234.5),
        ("1\u00a0234.5", 1234.5, 1234.5, None, None),
        ("CHF 1’234.50", 1234.5, 1234.5, None, None),
        ("1'234", 1234, 1234, 1234, 1234),
        ("$-5", -5, -5, -5, -5),
        ("(5)", -5, -5, -5, -5),
        ("($5.00)", -5, -5, None, None),
        ("5-", -5, -5, -5, -5),
        ("−5", -5, -5, -5, -5),
        ("+5", 5, 5, 5, 5),
        ("Rs.5", 5, 5, 5, 5),
        ("US$5", 5, 5, 5, 5),
        ("5 kr.", 5, 5, 5, 5),
        ("EUR5", 5, 5, 5, 5),
        ("5.-", 5, 5, 5, 5),
        ("5,--", 5, 5, 5, 5),
        ("1e3", 1000, 1000, 1000, 1000),
        ("1,5E-1", None, None, 0.15, 0.15),
        (" 5 ", 5, 5, 5, 5),
        ("\u200e5\ufeff", 5, 5, 5, 5),
        *((text, *[None] * 4) for text in ("5%", "-(5)", "--5", "5kg", "A5", "1.2.3", "1,2,3", "12,3456,7", "x", "5,")),
        *((text, *[np.nan] * 4) for text in ("", " NA ", "\\N", "N.A.", "#DIV/0!", "(Null)", "-", ".", "UNKNOWN", "—")),
    ],
)
def test_numbers(text, point, grouped_point, comma, grouped_comma):
    found = [read(text, kind) for kind in (POINT, GROUPED_POINT, COMMA, GROUPED_COMMA)]
    assert found == pytest.approx([point, grouped_point, comma, grouped_comma], nan_ok=True)


def test_per_cent():
    assert read("45 %", f"{POINT}, in per cent") == 45
    assert read("-1.234,5%", f"{GROUPED_COMMA}, in per cent") == -1234.5
    assert read("0", f"{POINT}, in per cent") == 0
    assert read("0.45", f"{POINT}, in per cent") is None


def test_numbers_beyond_all_bounds_are_infinite():
    assert read("inf", POINT) == read("1e999999", POINT) == read("9" * 400, COMMA) == np.inf


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", " 3 ", "NA", None], "number"),
        (["1", "?"], POINT),
        (["1", "2.5", "1,000"], GROUPED_POINT),
        (["776", "1,226"], GROUPED_POINT),
        (["1,226", "12,50"], COMMA),
        (["1.226", "12,50"], GROUPED_COMMA),
        (["1.226", "12.50"], "number"),
        (["1.226"] * 30, "number"),
        # Whole numbers up to 999, and all others with three digits behind the point.
        (["776", *[f"{i}.226" for i in range(1, 30)]], GROUPED_COMMA),
        (["776", *[f"{i}.226" for i in range(1, 30)], "1.5"], "number"),
        (["1776", *[f"{i}.226" for i in range(1, 30)]], "number"),
        (["45%", "0"], f"{POINT}, in per cent"),
        (["06:21", "6:21 pm", "23:59:59.5"], CLOCK),
        (["2024-01-31", "2024-02-01 13:00"], "time"),
        (["31 Jan 2024", "Feb 3, 2024 13:00"], "time"),
        (["31/01/2024", "01/02/2024"], "day-first time"),
        (["01/31/2024", "01/02/2024"], "month-first time"),
        (["01.02.2024"], "day-first time"),
        (["TRUE", "false"], "boolean"),
        (["a", "?", "unknown"], "category"),
        (["A1", "12", "B7"], "category"),
        ([f"Shop {i}" for i in range(40)], "category"),
        ([f"{i}A" for i in range(40)], "category"),
        ([f"192.168.1.{i}" for i in range(40)], "category"),
        ([f"{i},{i},{i}" for i in range(40)], "category"),
        ([f"12{i:02d}-{i:02d}" for i in range(40)], "category"),
        (["?", None, ""], "empty"),
    ],
)
def test_kinds(values, kind):
    seen = look(values)
    assert seen.kind() == kind
    assert seen.settled() in (kind, None)


def test_a_table_of_decimal_commas_decides_of_what_may_be_thousands():
    assert look(["776", "1,226"]).kind(commas_elsewhere=True) == COMMA
    assert look(["1.226"]).kind(commas_elsewhere=True) == GROUPED_COMMA
    assert look(["12,5", "1.226"]).has_decimal_comma()
    assert not look(["776", "1,226"]).has_decimal_comma()


@pytest.mark.parametrize(
    ("values", "row", "wanted"),
    [
        ([*["1.5"] * 20, "oops"], 20, "a finite number"),
        ([*[f"{i}.5" for i in range(40)], *["not recorded"] * 60], 40, "as 40 of the column's 100 values are numbers"),
        ([*["1.5"] * 20, "2,5"], 20, "a decimal point as in '1.5'"),
        (["1,5", "1,5", "2.5"], 2, "a decimal comma as in '1,5'"),
        (["1,234", "1.234"], 0, "consistent points and commas: it also holds '1.234'"),
        (["45%", "46%", "0.45"], 2, "per cent as in '45%'"),
        (["0.45", "0.46", "45%"], 2, "no per cent, as in '0.45'"),
        (["31/01/2024", "30/01/2024", "01/31/2024"], 2, "the day first as in '31/01/2024'"),
        (["03/03/2024", "01/02/2024"], 1, "whether the day or the month is first"),
        ([f"{i}.5 kg" for i in range(40)], 0, "numbers without 'kg'"),
        ([f"RM{i}.50" for i in range(40)], 0, "numbers without 'RM'"),
    ],
)
def test_contradictions_are_named(values, row, wanted):
    with pytest.raises(Unclear) as caught:
        look(values).kind()
    assert caught.value.row == row
    assert wanted in caught.value.wanted


def test_a_few_others_are_left_to_the_reader_where_rows_may_be_left_out():
    assert look([*["1.5"] * 20, "oops"], lenient=True).kind() == POINT
    assert look([*["1,5"] * 20, "2.5"], lenient=True).kind() == COMMA
    with pytest.raises(Unclear):
        look([*["1,5"] * 20, *["2.5"] * 20], lenient=True).kind()


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        (["1", "2"], True),
        (["1.5", None], True),
        (["776", "1.226"], False),
        (["1776", "1.226"], True),
        (["1,5"], False),
        ([None], False),
        (["a"], False),
    ],
)
def test_plain_numbers_are_told_at_once(values, plain):
    assert is_plain(pa.array(values, pa.string())) is plain


# Times


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("06:21", CLOCK, 6 * 3600 + 21 * 60),
        ("06:21:33", CLOCK, 6 * 3600 + 21 * 60 + 33),
        ("12:05 am", CLOCK, 300),
        ("12:05 P.M.", CLOCK, 43_500),
        ("36:00", CLOCK, 36 * 3600),
        ("47:22.5", CLOCK, 47 * 60 + 22.5),
        ("06:61", CLOCK, None),
        ("01/02/1970 25:00", "month-first time", None),
        ("13:00 pm", CLOCK, None),
        ("1970-01-02", "time", 86_400),
        ("1970/1/2 01:00", "time", 90_000),
        ("2 Jan 1970 00:01:00 GMT", "time", 86_460),
        ("2-JAN-70", "time", 86_400),
        ("January 2nd, 1970", "time", 86_400),
        ("02/01/1970", "time", None),
        ("02/01/1970", "day-first time", 86_400),
        ("2.1.70 1:00 PM", "day-first time", 86_400 + 13 * 3600),
        ("01/02/1970", "month-first time", 86_400),
        ("13/02/1970", "month-first time", None),
        ("30.02.1970", "day-first time", None),
        ("now", "time", None),
        ("1970", "time", None),
    ],
)
def test_times(text, kind, expected):
    assert read(text, kind) == expected


@pytest.mark.parametrize(
    ("times", "unit", "seconds"),
    [
        ([1.6e9, 1.7e9], "seconds", [1.6e9, 1.7e9]),
        ([1.6e12, 1.7e12], "milliseconds", [1.6e9, 1.7e9]),
        ([1.6e15, 1.7e15], "microseconds", [1.6e9, 1.7e9]),
        ([1.6e18, 1.7e18], "nanoseconds", [1.6e9, 1.7e9]),
        ([19700102, 20000101], "YYYYMMDD", [86_400, 946_684_800]),
        ([197001020102, 200001010000], "YYYYMMDDhhmm", [86_400 + 3720, 946_684_800]),
        ([19700102010203, 20000101000000], "YYYYMMDDhhmmss", [86_400 + 3723, 946_684_800]),
        ([19700102, 20000199], None, None),
        ([1, 743], None, None),
        ([0, 1.7e12], None, None),
    ],
)
def test_units(times, unit, seconds):
    assert guess_unit(np.array(times, float)) == unit
    if unit:
        np.testing.assert_allclose(in_seconds(np.array(times, float), unit), seconds)


# Labels


def test_equal_labels():
    assert label_key(" Yes ") == label_key("YES") == "yes"
    assert label_key("1") == label_key("1.0") == label_key("1,0") == label_key("True") == "1"


@pytest.mark.parametrize(
    ("label", "meaning"),
    [
        *(
            (label, True)
            for label in ("Fraud", "is_fraud", "isFraud", "YES", "attack", "Fraudulent Transaction", "not genuine")
        ),
        *(
            (label, False)
            for label in ("isNotFraud", "0", "BENIGN", "not fraud", "non-fraud", "NotFraud", "no fraud", "normal user")
        ),
        *((label, None) for label in ("1", "-1", "DDoS", "class 1", "maybe", "not red")),
    ],
)
def test_words_of_labels(label, meaning):
    assert means_fraud(label) is meaning


@pytest.mark.parametrize(
    ("counts", "fraud"),
    [
        ({"0": 10, "1": 90}, "1"),
        ({"fraud": 90, "other": 10}, "fraud"),
        ({"benign": 10, "ddos": 90}, "ddos"),
        ({"no": 50, "yes": 50}, "yes"),
        ({"a": 10, "b": 20}, "a"),
        ({"a": 11, "b": 20}, None),
        ({"a": 50, "b": 50}, None),
        ({"x": 50, "y": 50}, None),
        ({"n": 50, "y": 50}, "y"),
        ({"1": 10, "2": 90}, "1"),
        ({"-1": 90, "1": 10}, "1"),
        ({"fraud": 50, "attack": 50}, None),
    ],
)
def test_which_label_is_fraud(counts, fraud):
    assert which_is_fraud(counts) == fraud

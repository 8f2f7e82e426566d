"""The code that travels with an exported detector reads values as the program does."""

import datetime
import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from applications.fraud.preprocess import Column
from data import table, table_files, values

TEXTS = {
    "number": [
        *("12.5", "-3", "+4", "1e5", "1.5E-3", ".5", "5.", "", "NA", "n/a", "?", "-", "$12.50", "12.50 EUR", "(3.00)"),
        *("US$ 5", "5.-", "Rs.5", "−7", "12 345", "1'234'567", "1,234", "abc", "1.2.3", "12,5", "45%", "0%", "--5"),
        *("\u200b7", " 8 ", "1_000", "٣", "USD5", "5 XYZ", "(-5)", "5$$", "#DIV/0!", "kr 5", "5kr.", "1 2", "0x10"),
    ],
    "number with decimal comma": [
        "12,5",
        "1.234",
        "1234",
        "12.345.678,9",
        "(1,5)",
        "1,5 €",
        "1,5%",
        ",5",
        "5,--",
        "a,b",
    ],
    "number with decimal comma, point between thousands": ["1.234", "1.234,5", "12,5", "1234,5", "1.23", "€ 1.000"],
    "number with decimal point, comma between thousands": ["1,234", "1,234.5", "12,34,567", "1,23", "$1,000.00", "5"],
    "number with decimal point, in per cent": ["45%", "4.5 %", "45", "0", "-3%", "(3%)", "% 5", "5 % EUR"],
    "boolean": ["true", "False", "TRUE", "0", "1", "yes", "", "none"],
    "time of day": ["06:21", "6:21:05", "6:21 PM", "12:00 am", "13:00 PM", "25:10", "47:22.1", "24:00", "6:61", "noon"],
    "time": [
        *("2024-01-31", "2024-01-31 13:45:00", "2024-01-31T13:45:00Z", "2024-01-31T13:45:00+02:00", "2024/01/31"),
        *("31 Jan 2024", "January 31, 2024", "Mon, 31 Jan 2024 10:00", "31/01/2024", "now", "2024", "", "NaT"),
        *("2024-01-31 13:45:00.250", "2024-13-01", "2024-02-30"),
    ],
    "day-first time": [
        "31/01/2024",
        "1.2.2024",
        "01-02-24 13:00",
        "1/2/70",
        "32/01/2024",
        "31/01/2024 25:00",
        "1/13/2024",
    ],
    "month-first time": ["01/31/2024", "1/2/2024 1:05 pm", "13/01/2024", "12/31/99"],
}


def column(kind: str) -> Column:
    preparation = table.Encoder((table.Column("x", kind, missing=True),)).preparation()
    return Column(preparation["columns"][0], preparation)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in TEXTS.items() for text in texts])
def test_a_text_is_read_as_in_training(kind, text):
    expected, bad = values.parse(pa.array([text]), kind)
    plain = values.printed(pa.array([text])) if kind == "number" else None
    if plain is not None:
        expected, bad = plain, [False]
    if bad[0] or abs(expected[0]) > table.LARGEST:
        with pytest.raises(ValueError, match=r"column 'x': found .*, expected "):
            column(kind).encode({"x": text})
    else:
        (number, missing), lacking = column(kind).encode({"x": text})
        assert not lacking
        assert missing == np.isnan(expected[0])
        assert number == (0 if missing else pytest.approx(expected[0], rel=1e-12))


def test_amounts_of_every_spelling_are_read_as_in_training():
    kinds = [kind for kind in values.NUMBERS if kind != "number"]
    bodies = [
        "0",
        "7",
        "1234",
        "1,234",
        "1.234",
        "1,234.5",
        "1.234,5",
        "12.25",
        "12,25",
        "1 234",
        "1'234.5",
        "1,23,456",
    ]
    texts = [
        before + body + after
        for before, body, after in itertools.product(
            ["", "-", "$", "(", "EUR ", "%"], bodies, ["", "%", ")", " €", "-"]
        )
    ]
    for kind in kinds:
        expected, bad = values.parse(pa.array(texts), kind)
        own = column(kind)
        for text, number, is_bad in zip(texts, expected, bad, strict=True):
            try:
                found = own._number(text)
            except ValueError:
                found = math.nan
                assert is_bad, (kind, text)
            assert found == pytest.approx(number, nan_ok=True), (kind, text)


def test_values_with_a_type():
    assert column("number").encode({"x": 3})[0] == [3.0, 0.0]
    assert column("number").encode({"x": None})[0] == [0.0, 1.0]
    assert column("number").encode({"x": math.nan})[0] == [0.0, 1.0]
    assert column("boolean").encode({"x": True})[0] == [1.0, 0.0]
    noon = datetime.datetime(2024, 1, 31, 12, tzinfo=datetime.UTC)
    assert column("time").encode({"x": noon})[0] == [noon.timestamp(), 0.0]
    for kind, value in (("time of day", 5.0), ("time", 5.0), ("number with decimal point, in per cent", 0.5)):
        with pytest.raises(ValueError, match="column 'x': found"):
            column(kind).encode({"x": value})
    with pytest.raises(ValueError, match="column 'x': found no value, expected one"):
        column("number").encode({"y": 1})


def test_categories_and_missing_values(tmp_path):
    columns = (
        table.Column("known", "category", missing=False, vocabulary=("a", "b")),
        table.Column("hashed", "category", missing=True),
        table.Column("number", "number", missing=False, fill=2.5),
    )
    encoder = table.Encoder(columns)
    rows = list(itertools.product(["a", "b", "z", "NA", " a"], ["p", "q", ""], ["1", "?"]))
    path = tmp_path / "rows.csv"
    path.write_text("known,hashed,number\n" + "".join(",".join(row) + "\n" for row in rows))
    (batch,) = table_files.stream(table_files.find_files([path]), encoder.kinds)
    lacking: dict[str, np.ndarray] = {}
    expected = encoder.encode(batch, lacking)
    preparation = encoder.preparation()
    own = [Column(described, preparation) for described in preparation["columns"]]
    for index, row in enumerate(rows):
        found = [one.encode(dict(zip(("known", "hashed", "number"), row, strict=True))) for one in own]
        assert [value for features, _ in found for value in features] == expected[index].tolist()
        assert [lacks for _, lacks in found] == [lacking["known"][index], False, lacking["number"][index]]

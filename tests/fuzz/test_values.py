"""Columns as people write them, mixed and mutated: read, or refused in one line, and new rows read the same way."""

import csv
import datetime
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import table
from data.table_files import find_files, stream
from data.values import CLOCK, NUMBERS, TIMES, Look, Unclear, guess_unit, in_seconds, parse

pytestmark = pytest.mark.slow

AMOUNTS = st.floats(-1e7, 1e7, allow_nan=False)
DAYS = st.datetimes(datetime.datetime(1995, 1, 1), datetime.datetime(2035, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0)
)
MARKS = st.sampled_from(["", "?", "NA", "n.a.", "-", "\\N", "#DIV/0!", " null ", "unknown", "."])
COLUMNS = [
    AMOUNTS.map(lambda x: f"{x:.2f}"),
    AMOUNTS.map(lambda x: f"{x:,.3f}"),
    AMOUNTS.map(lambda x: f"{x:,.2f}".translate(str.maketrans(",.", ".,"))),
    AMOUNTS.map(lambda x: f"({abs(x):,.0f})" if x < 0 else f"${x:,.0f}"),
    AMOUNTS.map(lambda x: f"{x:.1f} %"),
    AMOUNTS.map(lambda x: f"{x:g} kg"),
    AMOUNTS.map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(0, 20).map(str),
    DAYS.map(str),
    DAYS.map(lambda day: f"{day:%Y-%m-%d %H:%M}"),
    DAYS.map(lambda day: f"{day:%d/%m/%Y %H:%M}"),
    DAYS.map(lambda day: f"{day:%m-%d-%y %I:%M %p}"),
    DAYS.map(lambda day: f"{day:%d %b %Y}"),
    DAYS.map(lambda day: f"{day:%H:%M:%S}"),
    DAYS.map(lambda day: f"{day:%Y%m%d}"),
    st.integers(10**11, 2 * 10**12).map(str),
    st.sampled_from(["Yes", "no", "FRAUD", "benign", "1", "0.0", "True"]),
    st.text(max_size=12),
    st.text("0123456789.,-+%$€()eE:/' \u00a0KMprAN", max_size=12),
]


@st.composite
def columns(draw, rows):
    kind = draw(st.sampled_from(COLUMNS))
    values = draw(st.lists(kind, min_size=rows, max_size=rows))
    if draw(st.booleans()):
        others = st.one_of(MARKS, draw(st.sampled_from(COLUMNS)))
        for row, value in draw(st.lists(st.tuples(st.integers(0, rows - 1), others), max_size=8)):
            values[row] = value
    return values


@st.composite
def tables(draw):
    """A table's text, and how it is to be read: mostly with labels and times that can be."""
    rows = draw(st.integers(10, 40))
    times = draw(st.one_of(st.lists(DAYS.map(str), min_size=rows, max_size=rows), columns(rows)))
    inputs = [draw(columns(rows)) for _ in range(draw(st.integers(1, 3)))]
    words, fraud_values = draw(
        st.sampled_from([("01", ()), ("YN", ()), ("ab", ("a",)), ("abc", ("b", "c")), ("ab", ())])
    )
    labels = [words[i % len(words)] for i in range(rows)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["when", "fraud", *(f"x{i}" for i in range(len(inputs)))])
    writer.writerows(zip(times, labels, *inputs, strict=True))
    time = draw(st.sampled_from(["when", None]))
    unit = draw(st.sampled_from([None, None, None, "hours", "nanoseconds", "months"])) if time else None
    return text.getvalue(), {"time": time, "time_unit": unit, "fraud_values": fraud_values}


def load_all(folder, skip_bad, reading):
    path = folder / "a.csv"
    options = {"label": "fraud", "skip_bad": skip_bad, **reading}
    data, encoder = table.load([path], **options)
    assert all("\n" not in sentence and len(sentence) < 1_000 for sentence in data.provenance.understood)
    assert all(np.isfinite(part.inputs).all() for part in data.splits.values())
    again = table.Encoder.from_config(encoder.to_config())
    if not skip_bad:
        found = np.concatenate([again.encode(batch) for batch in stream(find_files([path]), again.kinds)])
        for part in data.splits.values():
            np.testing.assert_array_equal(found[part.extra["row"]], part.inputs)
    split, _ = table.read_labelled([path], again, label_values=data.label_values, **options)
    assert len(split) == len(data.splits["train"]) + len(data.splits["test"])


@given(tables(), st.booleans())
def test_tables_of_any_values(tmp_path, judge, drawn, skip_bad):
    text, reading = drawn
    (tmp_path / "a.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    judge(load_all, tmp_path, skip_bad, reading)


@given(st.integers(1, 30).flatmap(columns))
def test_a_column_is_read_or_is_unclear(values):
    texts = pa.array([value.encode("utf-8", "replace").decode() or None for value in values], pa.string())
    seen = Look()
    seen.add(texts, 0)
    try:
        kind = seen.kind()
    except Unclear as problem:
        assert 0 <= problem.row < len(values)
    else:
        if kind not in ("empty", "category") and seen.share(kind) in (0, 1):
            found, bad = parse(texts, kind)
            assert not bad.any()
            assert len(found) == len(values)
    for kind in (*NUMBERS, *TIMES, CLOCK, "boolean"):
        found, bad = parse(texts, kind)
        assert found.dtype == np.float64
        assert np.isnan(found[bad]).all()
        for unit in [guess_unit(found)] if np.isfinite(found).all() else []:
            in_seconds(found, unit or "days")

"""Tables as strangers have them, and damaged ones: each is read, or refused in one line."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import table
from data.table_files import find_files, stream

pytestmark = pytest.mark.slow

NAMES = ("when", "amount", "shop", "card", "note", "fraud")
NUMBERS = [
    "1",
    "-2.5",
    "1e3",
    "1,234.56",
    "1.234,56",
    "12,34",
    "$134.09",
    "45%",
    "(12.00)",
    "USD 5",
    " 7",
    "+3",
    "0x1F",
]
NUMBERS += ["1_000", "１２", "1e400", "inf", "-Infinity", "nan", "9" * 19, "9" * 400, "1e-320", "--1", "1.2.3", "²", ""]
MISSING = ["", "?", r"\N", "-", ".", "na", "none", "N.A.", "NIL", "#DIV/0!", "(null)", "unknown", " ", "NULL"]
TIMES = ["2024-01-31", "2024-02-30", "2024-01-31 13:45:00", "2024-01-31T13:45:00+02:00", "31/01/2024", "06:21", "24:61"]
TIMES += ["1700000000", "1700000000000", "9999-12-31", "0000-00-00", "1e300", "12", "-1", "Jan 5 2024", "now", ""]
LABELS = ["0", "1", "yes", "No", "TRUE", "false", "fraud", "genuine", "2", "", "1.0", "-1", "Y"]
ODD = ['"', '""', "'", "a\nb", "a\r\nb", "\0", "\ufeff", "=1+1", "é", "日本", "x" * 300, "a,b", "a;b", "\t", "\\", "#"]

words = st.one_of(st.sampled_from(ODD), st.text(max_size=8))
columns = {
    "when": st.sampled_from(TIMES),
    "amount": st.sampled_from(NUMBERS + MISSING),
    "shop": st.one_of(st.sampled_from(["bakery", "kiosk"]), words),
    "card": st.integers(0, 3).map(str),
    "note": words,
    "fraud": st.sampled_from(LABELS),
}


usual = {
    "when": [f"2024-01-{day:02d} {hour:02d}:00:00" for day in range(1, 16) for hour in (3, 15)],
    "amount": [str(i * i % 31 / 4) for i in range(30)],
    "shop": ["bakery", "kiosk", "garage"] * 10,
    "card": [str(i % 4) for i in range(30)],
    "note": [""] * 30,
    "fraud": [str(i % 3 // 2) for i in range(30)],
}


def few(values: st.SearchStrategy[str]) -> st.SearchStrategy[st.SearchStrategy[str]]:
    """A column of few different values, so that a column may be all of a kind."""
    return st.lists(values, min_size=1, max_size=3).map(st.sampled_from)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A table as CSV, more or less: dialects, ragged rows, quotes, names that repeat or are missing."""
    delimiter = draw(st.sampled_from([",", ",", ";", "\t", "|", " ", "^"]))
    ending = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"]))
    always = draw(st.booleans())
    names = [draw(st.sampled_from([name] * 40 + ["", f" {name} ", "x"])) for name in NAMES]
    odd = draw(st.sets(st.sampled_from(NAMES), max_size=2))
    values = [
        draw(draw(few(columns[name]).map(lambda of: st.lists(of, min_size=30, max_size=30))))
        if name in odd
        else usual[name]
        for name in NAMES
    ]
    rows = [names, *(list(row) for row in zip(*values, strict=True))]
    for _ in range(draw(st.integers(0, 2))):
        row = draw(st.sampled_from(rows))
        row[:] = draw(st.sampled_from([row[:-1], [*row, "more"], [], [""] * len(row), ['"open', *row[1:]]]))

    def field(value: str) -> str:
        quoted = always or any(sign in value for sign in (delimiter, '"', "\n", "\r"))
        return '"' + value.replace('"', '""') + '"' if quoted and not value.startswith('"open') else value

    lines = [delimiter.join(map(field, row)) for row in rows]
    return draw(st.sampled_from(["", "", "\n", " \n", f"sep={delimiter}\n"])) + ending.join(lines) + ending


@st.composite
def mutated(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were cut, flipped, doubled or put in."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 8, 100]))
        match draw(st.sampled_from(["cut", "flip", "put", "double", "remove"])):
            case "cut":
                del content[place:]
            case "flip":
                content[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "put":
                content[place:place] = draw(st.binary(max_size=8))
            case "double":
                content[place:place] = content[place : place + length]
            case "remove":
                del content[place : place + length]
    return bytes(content)


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
        archive.writestr("b.csv", content)
    return buffer.getvalue()


def zstandard(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def as_parquet(compression: str) -> bytes:
    count = 60
    buffer = io.BytesIO()
    columns = {
        "when": pa.array(range(count), pa.timestamp("ms", "Europe/Paris")),
        "amount": pa.array([i / 3 if i % 7 else None for i in range(count)]),
        "shop": pa.array(["bakery", "kiosk", None] * 20).dictionary_encode(),
        "card": pa.array([i % 5 for i in range(count)], pa.int8()),
        "note": pa.array([b"x", b"y", b"z"] * 20),
        "fraud": pa.array([i % 4 == 0 for i in range(count)]),
    }
    pa.parquet.write_table(pa.table(columns), buffer, compression=compression, row_group_size=25)
    return buffer.getvalue()


VALID = "when,amount,shop,card,note,fraud\n" + "".join(
    f"{i},{i / 4},{'bakery' if i % 3 else 'kiosk'},{i % 5},,{i % 4 // 3}\n" for i in range(60)
)


def load(path: Path, options: dict) -> None:
    table.load([path], label="fraud", **options)


def score(path: Path, options: dict) -> None:
    tables = find_files([path], skip_bad=options.get("skip_bad", False))
    kinds = {"amount": "number", "card": "number", "shop": "category"}
    encoder = table.Encoder(tuple(table.Column(name, kind, missing=True) for name, kind in kinds.items()))
    for batch in stream(tables, kinds, mark_bad=True):
        encoder.encode(batch)


options = st.fixed_dictionaries(
    {},
    optional={
        "time": st.just("when"),
        "customer": st.just("card"),
        "drop": st.sampled_from([["note"], [""], ["x"], ["note", "shop"]]),
        "skip_bad": st.just(True),
    },
)
encodings = st.sampled_from(["utf-8", "utf-8", "latin-1", "utf-16", "utf-8-sig", "utf-16-be"])


@given(texts(), encodings, options, st.sampled_from([None, None, "utf-8", "latin-1", "utf-16", "cp1252", "shift_jis"]))
def test_text(judge, tmp_path, text, encoding, options, said):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding, "replace"))
    judge(load, tmp_path / "a.csv", options | {"encoding": said})


packings = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped, ".zst": zstandard}


@pytest.mark.parametrize("suffix", packings)
def test_packings_are_read(judge, tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(packings[suffix](VALID.encode()))
    assert judge(load, tmp_path / f"a{suffix}", {}) == ""


formats = {name: pack(VALID.encode()) for name, pack in packings.items()}
formats |= {f"-{name}.parquet": as_parquet(name) for name in ("none", "snappy", "gzip", "zstd")}


damaged = st.sampled_from(sorted(formats)).flatmap(
    lambda name: st.tuples(st.just(name), mutated(st.just(formats[name])))
)


@given(
    st.one_of(damaged, st.tuples(st.just(".csv"), mutated(texts().map(str.encode)))),
    options,
    st.sampled_from([load, score]),
)
def test_damaged_files(judge, tmp_path, damaged, options, load):
    name, content = damaged
    (tmp_path / f"a{name}").write_bytes(content)
    judge(load, tmp_path / f"a{name}", options)

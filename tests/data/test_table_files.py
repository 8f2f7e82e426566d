import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from data import table, table_files
from data.dataset import BadInput
from data.table_files import find_files, stream
from tests.bad_input import refusal, write

ROWS = [f"{i},{i / 2},{'rød' if i % 3 else 'blå'},{int(i % 5 == 0)}" for i in range(60)]
TABLE = "x,y,colour,fraud\n" + "\n".join(ROWS) + "\n"


def archive(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def marked(packed: bytes, field: int, value: int) -> bytes:
    """An archive of one file with another value at a place of its local header, and at that of its directory entry."""
    changed = bytearray(packed)
    changed[packed.index(b"PK\x03\x04") + field] = value
    changed[packed.index(b"PK\x01\x02") + field + 2] = value
    return bytes(changed)


def parquet(**columns) -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def columns(tables: table_files.Tables, *names: str) -> list[list]:
    batches = list(stream(tables, names))
    return [[value for batch in batches for value in batch.rows.column(name).to_pylist()] for name in names]


def message(*paths: Path, **options) -> str:
    return refusal(lambda: columns(find_files(paths, **options), "x", "y"))


# Formats


@pytest.mark.parametrize(
    ("name", "content", "understood"),
    [
        ("a.CSV", TABLE, ()),
        ("a.txt", TABLE, ()),
        ("a.csv", TABLE.replace("\n", "\r\n"), ()),
        ("a.csv", TABLE.replace("\n", "\r"), ()),
        ("a.csv", " \n\r\n\n" + TABLE, ()),
        ("a.csv", TABLE.replace("x,y", " x, y ", 1), ()),
        ("a.tsv", TABLE.replace(",", "\t"), ("a tab separates the fields of a.tsv",)),
        ("a.csv", TABLE.replace(",", ";"), ("';' separates the fields of a.csv",)),
        ("a.csv", "sep=;\r\n" + TABLE.replace(",", ";"), ("';' separates the fields of a.csv",)),
        ("a.csv", TABLE.replace(",", "|"), ("'|' separates the fields of a.csv",)),
        ("a.csv", TABLE.replace(",", "#"), ("'#' separates the fields of a.csv",)),
        ("a.csv", TABLE.encode("utf-8-sig"), ()),
        ("a.csv", TABLE.encode("utf-16"), ("utf-16 is the encoding of a.csv",)),
        ("a.csv", TABLE.encode("utf-16-be"), ("utf-16-be is the encoding of a.csv",)),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0), ()),
        ("a.CSV.BZ2", bz2.compress(TABLE.encode()), ()),
        ("a.csv.xz", lzma.compress(TABLE[:99].encode()) + lzma.compress(TABLE[99:].encode()), ()),
        ("a.csv.gz", TABLE, ()),
        ("a.csv", gzip.compress(TABLE.encode(), mtime=0), ()),
        ("part-00000", TABLE, ()),
        ("a.zip", archive({"one.CSV": TABLE}), ("read in a.zip: one.CSV",)),
        (
            "a.zip",
            archive({"m/2.csv": "x,y,colour,fraud\n", "m/1.csv": TABLE, "__MACOSX/m/._1.csv": "x", "read.me": "x"}),
            (
                "not read in a.zip: __MACOSX/m/._1.csv, read.me",
                "read in a.zip: m/1.csv",
                "skipped, as they have no rows: 2.csv",
            ),
        ),
    ],
)
def test_forms_of_one_table(tmp_path, name, content, understood):
    tables = find_files([write(tmp_path / name, content)])
    assert tables.understood == understood
    x, y, colour = columns(tables, "x", "y", "colour")
    assert [float(value) for value in x] == list(range(60))
    assert [float(value) for value in y] == [i / 2 for i in range(60)]
    assert colour[:3] == ["blå", "rød", "rød"]


def test_encoding_by_the_users_word(tmp_path):
    path = write(tmp_path / "a.csv", TABLE.encode("latin-1"))
    assert "line 2: the byte 0xe5 isn't UTF-8" in message(path)
    assert "--encoding, such as latin-1" in message(path)
    tables = find_files([path], encoding="Latin_1")
    assert columns(tables, "colour")[0][:2] == ["blå", "rød"]
    assert tables.understood == ("iso8859-1 is the encoding of a.csv",)
    path = write(tmp_path / "b.csv", TABLE)
    said = find_files([path], encoding="cp1252").understood
    assert said == ("cp1252 is the encoding of b.csv", "b.csv may be UTF-8 after all, judging by the bytes")
    marked = find_files([write(tmp_path / "c.csv", TABLE.encode("utf-8-sig"))], encoding="cp1252")
    assert (columns(marked, "x")[0][:2], marked.understood) == (["0", "1"], ())
    assert "line 2: the byte 0xc3 isn't ASCII" in message(path, encoding="ascii")
    assert "stream does not start with BOM" in message(path, encoding="utf-16")
    for wrong in ("klingon", "rot13", "hex", "utf\0"):
        assert message(path, encoding=wrong).startswith("--encoding: found ")


def test_a_folder_names_what_it_passes_over(tmp_path):
    folder = tmp_path / "months"
    for name, content in {
        **{"jan.csv": TABLE, "FEB.CSV": TABLE, "mar.csv": "", "apr.csv": "x,y,colour,fraud\n\n", "readme.txt": "no"},
        **{"_SUCCESS": "", ".jan.csv.crc": "x", ".hidden.csv": "x", "notes.docx": "x"},
    }.items():
        write(folder / name, content)
    (folder / "old").mkdir()
    tables = find_files([folder])
    assert [file.name for file in tables] == ["FEB.CSV", "jan.csv"]
    assert tables.understood == (
        "not read in months/: old/, .hidden.csv, notes.docx, readme.txt",
        "skipped, as they have no rows: apr.csv, mar.csv",
    )
    assert len(columns(tables, "x")[0]) == 120
    for name in ("jan.csv", "FEB.CSV"):
        (folder / name).unlink()
    assert "apr.csv: no rows" in message(folder)
    for path in folder.glob("*.csv"):
        path.unlink()
    (folder / "readme.txt").unlink()
    assert "no table in this folder; it has old/, notes.docx; expected" in message(folder)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.zip", archive({"xl/workbook.xml": "x", "a.csv": TABLE}), "found an Excel workbook"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "found an Excel workbook"),
        ("a.csv.gz", gzip.compress(bytes(257) + b"ustar" + bytes(500), mtime=0), "found a tar file in it, expected a"),
        ("a.zip", archive({"a.csv.gz": gzip.compress(b"x", mtime=0)}), "a.csv.gz: found a gzip file in it, expected"),
        ("a.zip", archive({"read.me": "x"}), "no table in this archive; it has read.me"),
        ("a.zip", archive({"a.csv": TABLE})[:150], "can't be read (File is not a zip file)"),
        ("a.zip", marked(archive({"a.csv": TABLE}), 6, 1), "a.csv: is encrypted, expected an archive that needs no"),
        ("a.zip", marked(archive({"a.csv": TABLE}), 8, 9), "a.csv: can't be read (That compression method is not"),
        ("a.zip", marked(archive({"a.csv": TABLE}), 4, 99), "can't be read (zip file version 9.9)"),
        ("a.csv.xz", lzma.compress(TABLE.encode())[:-20], "can't be read (unexpected end)"),
        ("a.parquet", TABLE, "can't be read (Parquet magic bytes not found"),
        ("a.csv", "\t\n  \n", "only blank lines"),
        ("a.csv", "x,y\n" + "1," * 5_000_000, "line 2 is longer than 8 MiB, expected the row of a table"),
        ("a.csv", "x,y\n" + " " * 10_000_000, "line 2 is longer than 8 MiB, expected the row of a table"),
        ("a.csv", TABLE + '1,"2,' + "x\n" * 200_000, "line 62: field larger than field limit"),
        (
            "a.zip",
            archive({"a.csv": b"1," * 150_000_000}),
            "bytes decompress to 300,000,000 or more, expected at most 200",
        ),
        ("a.csv", TABLE + "1,2\n", "line 62 has 2 fields, expected 4 as in the header; --skip-bad leaves such rows"),
        ("a.csv", "x,y,x\n1,2,3\n", "columns 1 and 3 are both named 'x', expected one; leave them out with --drop x"),
    ],
)
def test_unusable_files(tmp_path, name, content, expected):
    path = write(tmp_path / name, content)
    text = message(path)
    assert text.startswith(str(path))
    assert expected in text


def test_a_bomb_is_stopped_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "FREE_BYTES", 2**20)
    text = b"x,y\n" + b"1,2\n" * 400_000
    for name, packed in {"a.csv.gz": gzip.compress(text), "a.csv.bz2": bz2.compress(text)}.items():
        assert "bytes decompress to " in message(write(tmp_path / name, packed))


def test_odd_names_of_files(tmp_path):
    assert "no such file" in message(tmp_path / "a\0.csv")
    assert "can't be read (File name too long)" in message(tmp_path / ("a" * 300 + ".csv"))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.csv"))
    tables = find_files([write(odd, TABLE)])
    assert columns(tables, "x")[0][1] == "1"
    assert table_files.describe(tables).endswith(r"caf\udce9\n.csv")


# Parquet


@pytest.mark.parametrize(
    ("column", "kind", "value"),
    [
        (pa.array([61, 62], pa.time32("s")), "number", 61.0),
        (pa.array([1_500], pa.time32("ms")), "number", 1.5),
        (pa.array([2_500_000], pa.time64("us")), "number", 2.5),
        (pa.array([90_000], pa.duration("ms")), "number", 90.0),
        (pa.array([pd.Timestamp("1970-01-02", tz="Asia/Tokyo")]), "time", 54_000.0),
        (pa.array([3_000], pa.timestamp("ms", "Mars/Crater")), "time", 3.0),
        (pa.array([1], pa.date32()), "time", 86_400.0),
        (pa.array([12]).cast(pa.decimal128(30, 4)), "number", 12.0),
        (pa.array(np.array([1.5], np.float16)), "number", 1.5),
        (pa.array([7, 8]).dictionary_encode(), "number", 7.0),
    ],
)
def test_types_of_parquet(tmp_path, column, kind, value):
    tables = find_files([write(tmp_path / "a.parquet", parquet(x=column))])
    assert table_files.parquet_kinds(tables[0], ["x"]) == {"x": kind}
    batch = next(stream(tables, ["x"]))
    assert table.numbers(batch, "x", kind)[0] == value


def test_bytes_are_text_and_long_numbers_stay_whole(tmp_path):
    content = parquet(**{"a.b": pa.array([b"x", None]), "a": pa.array([2**60 + 1, 2]), "b": pa.nulls(2)})
    assert columns(find_files([write(tmp_path / "a.parquet", content)]), "b", "a", "a.b") == [
        *([None, None], [2**60 + 1, 2], ["x", None])
    ]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[1]]), "column 'x' is of type list<element: int64>, expected numbers"),
        (pa.array([{"a": 1}]), "column 'x' is of type struct<a: int64>, expected numbers"),
        (pa.array([b"\xff"]), "column 'x' can't be read (Invalid UTF8 payload), expected text in UTF-8; leave"),
        (pa.array([10**15], pa.timestamp("s")), "column 'x' can't be read (Casting from timestamp"),
    ],
)
def test_parquet_columns_that_are_of_no_use(tmp_path, column, expected):
    path = write(tmp_path / "a.parquet", parquet(x=column, y=pa.array([1])))
    assert f"{path}: {expected}" in message(path)
    assert columns(find_files([path]), "y") == [[1]]


def test_a_parquet_name_that_is_not_utf8(tmp_path):
    content = parquet(name=pa.array([1])).replace(b"name", b"n\xff\xfee").replace(b"ARROW:schema", b"ARROW:schemb")
    assert "can't be read ('utf-8' codec" in message(write(tmp_path / "a.parquet", content))


# Rows that can't be used


@pytest.mark.parametrize("block", [2**20, 300])
def test_ragged_rows_keep_their_place(tmp_path, monkeypatch, block):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", block)
    lines = TABLE.splitlines()
    bad = [0, 7, 8, 30, 62, 63]
    for number in bad:
        lines.insert(number + 1, "1,2" if number % 2 else "\n1,2,3,4,5")
    tables = find_files([write(tmp_path / "a.csv", "\n".join(lines))], skip_bad=True)
    batches = list(stream(tables, ["x"], mark_bad=True))
    assert np.concatenate([batch.numbers for batch in batches]).tolist() == list(range(66))
    marks = np.concatenate([batch.bad for batch in batches])
    assert np.flatnonzero(marks).tolist() == bad
    values = [value for batch in batches for value in batch.rows.column("x").to_pylist()]
    assert [value for value in values if value is not None] == [str(i) for i in range(60)]
    assert all(values[number] is None for number in bad)
    assert tables.examples[0] == "a.csv: line 3 has 5 fields, expected 4 as in the header"

    table_files.leave_out(tables, ["x"], lambda batch: None)
    assert columns(tables, "x") == [[str(i) for i in range(60)]]
    assert tables.understood[0].startswith("6 of 66 rows can't be used and are left out: a.csv: line 3 has 5 fields")
    kept = tables.kept_rows(60)
    assert kept.tolist() == [i for i in range(66) if i not in bad]


def test_bytes_late_in_a_file_that_are_not_of_its_encoding(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 300)
    path = write(tmp_path / "a.csv", TABLE.encode() + b"1,2,r\xf8d\n")
    assert "line 62: the byte 0xf8 isn't UTF-8" in message(path, skip_bad=True)
    path = write(tmp_path / "a.csv", TABLE.encode("cp1252") + b"1,2,\x81,0\n")
    assert "line 62: the byte 0x81 isn't CP1252" in message(path, encoding="cp1252")


def test_an_open_quotation_mark_is_not_a_bad_row(tmp_path):
    path = write(tmp_path / "a.csv", TABLE + '1,"open,a,0\n' + ROWS[0] + "\n")
    assert "line 62 has 2 fields, expected 4 as in the header; is a quotation mark" in message(path, skip_bad=True)


def test_a_table_of_ragged_rows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "MANY_RAGGED", 10)
    path = write(tmp_path / "a.csv", "x,y\n" + "1,2\n" * 5 + "1\n" * 99)
    assert "line 17 has 1 fields, expected 2 as in the header, as most rows before it" in message(path, skip_bad=True)


def test_bad_values_are_left_out_of_training(tmp_path):
    bad = ["inf,2,rød,0", "1e99,2,rød,1", "1,much,rød,0", "1,2,rød,", "1,2"]
    whole, _ = table.load([write(tmp_path / "a.csv", TABLE)], label="fraud", seed=3)
    path = write(tmp_path / "b.csv", "\n".join([TABLE.strip(), *bad]))
    with pytest.raises(BadInput):
        table.load([path], label="fraud")
    data, _ = table.load([path], label="fraud", seed=3, skip_bad=True)
    np.testing.assert_array_equal(data.splits["train"].inputs, whole.splits["train"].inputs)
    assert data.provenance.rows == 60
    said = next(sentence for sentence in data.provenance.understood if "left out" in sentence)
    assert said.startswith("5 of 65 rows can't be used and are left out: b.csv: line 66 has 2 fields")


@pytest.mark.parametrize("header", [",,x,fraud", "a,a,x,fraud", "index, index ,x,fraud"])
def test_columns_without_a_name_of_their_own(tmp_path, header):
    name = header.split(",")[0]
    path = write(tmp_path / "a.csv", f"{header}\n" + "\n".join(f"{i},{i},{i},{i % 5 // 4}" for i in range(60)))
    with pytest.raises(BadInput, match=r"columns 1 and 2 (are both named|have no name)"):
        table.load([path], label="fraud")
    assert table.load([path], label="fraud", drop=[name])[0].feature_names == ("x",)


@pytest.mark.slow
def test_ten_thousand_columns(tmp_path):
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.integers(0, 99, (40, 10_000)), columns=[f"v{i}" for i in range(10_000)])
    wide["fraud"] = np.arange(40) % 4 == 0
    wide.to_csv(tmp_path / "a.csv", index=False)
    data, _ = table.load([tmp_path / "a.csv"], label="fraud")
    assert data.splits["train"].inputs.shape == (32, 10_000)
    np.testing.assert_array_equal(data.splits["test"].inputs, wide.iloc[data.splits["test"].extra["row"], :-1])

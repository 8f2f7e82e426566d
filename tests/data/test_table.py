import functools
import gzip
import hashlib
import io
import json
import re
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import table, table_files
from data.dataset import BadInput
from data.table import Encoder, load, read_kinds
from data.table_files import find_files, stream
from tests.bad_input import refusal, write

ROWS = 1000


@pytest.fixture
def frame() -> pd.DataFrame:
    """Rows in order of time, two a second, with 5 % fraud."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "seconds": np.arange(ROWS) // 2 * 600,
            "amount": rng.lognormal(size=ROWS).round(2),
            "shop": rng.choice(["bakery", "garage", "kiosk"], ROWS),
            "card": rng.integers(0, 200, ROWS),
            "fraud": (np.arange(ROWS) % 20 == 7).astype(int),
        }
    )


def small(header: str, rows: list[str], count: int = 100) -> str:
    """A CSV of `count` rows that repeat `rows`, with a label of its own: each 5th row is fraud."""
    lines = [f"{rows[i % len(rows)]},{int(i % 5 == 0)}" for i in range(count)]
    return "\n".join([f"{header},fraud", *lines]) + "\n"


def encode(encoder: Encoder, path: Path) -> np.ndarray:
    return np.concatenate([encoder.encode(batch) for batch in stream(find_files([path]), encoder.kinds)])


message = functools.partial(refusal, load)


def check(text: str, *parts: str) -> None:
    for part in parts:
        assert part in text


# Splits


def test_splits_by_time(tmp_path, frame):
    shuffled = frame.sample(frac=1, random_state=3)
    path = write(tmp_path / "a.csv", shuffled)
    data, _ = load([path], label="fraud", time="seconds", drop=["shop", "card"])
    parts = data.splits
    assert [(name, len(part)) for name, part in parts.items()] == [
        ("validation_train", 600),
        ("validation", 200),
        ("train", 800),
        ("test", 200),
    ]
    assert data.feature_names == ("amount",)
    assert data.classes == ("genuine", "fraud")
    everything = np.concatenate([parts["train"].inputs, parts["test"].inputs])
    rows = np.concatenate([parts["train"].extra["row"], parts["test"].extra["row"]])
    # Rows of equal time keep the order of the file.
    expected = np.argsort(shuffled.seconds.to_numpy(), kind="stable")
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(everything[:, 0], shuffled.amount.to_numpy(np.float32)[expected])
    labels = np.concatenate([parts["train"].labels, parts["test"].labels])
    np.testing.assert_array_equal(labels, shuffled.fraud.to_numpy()[expected])
    assert labels.dtype == np.int8
    assert everything.dtype == np.float32
    np.testing.assert_array_equal(parts["test"].extra["day"], frame.seconds[800:] // 86_400)
    assert {key: values.dtype for key, values in parts["test"].extra.items()} == {
        **{"row": np.int64, "day": np.int32, "time": np.float64}
    }
    np.testing.assert_array_equal(parts["test"].extra["time"], frame.seconds[800:])


def test_splits_are_views_of_one_matrix(tmp_path, frame):
    data, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds")
    base = data.splits["train"].inputs.base
    assert base is not None
    for part in data.splits.values():
        assert part.inputs.base is base
    assert np.shares_memory(data.splits["validation"].inputs, data.splits["train"].inputs)


def test_equal_times_stay_on_one_side(tmp_path, frame):
    frame["seconds"] = 86_400 * np.repeat([0, 1, 2, 3, 4], [250, 300, 60, 130, 260])
    data, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds")
    # The boundaries at 600 and 800 lie in groups of 550 to 610 and 740 to 1000, and move to the nearer end.
    assert len(data.splits["validation_train"]) == 610
    assert len(data.splits["train"]) == 740


@pytest.mark.parametrize(
    "times",
    [
        [f"2024-03-{d:02d} {h:02d}:30:00" for d in range(1, 26) for h in range(4)],
        [f"2024-03-{d:02d}T{h:02d}:30:00Z" for d in range(1, 26) for h in range(4)],
        [f"2024-03-{d:02d}T{h + 2:02d}:30:00+02:00" for d in range(1, 26) for h in range(4)],
    ],
)
@pytest.mark.parametrize("as_parquet", [False, True])
def test_days_of_date_text_and_timestamps(tmp_path, times, as_parquet):
    content = pd.DataFrame({"when": times, "x": range(100), "fraud": [0, 0, 0, 1] * 25})
    if as_parquet:
        content["when"] = pd.to_datetime(content["when"])
    path = write(tmp_path / ("a.parquet" if as_parquet else "a.csv"), content)
    data, _ = load([path], label="fraud", time="when")
    np.testing.assert_array_equal(data.splits["train"].extra["day"], np.arange(80) // 4)


def test_random_split_is_stratified_and_seeded(tmp_path, frame):
    path = write(tmp_path / "a.csv", frame)
    data, _ = load([path], label="fraud", seed=5)
    assert [int(part.labels.sum()) for part in data.splits.values()] == [30, 10, 40, 10]
    again, _ = load([path], label="fraud", seed=5)
    other, _ = load([path], label="fraud", seed=6)
    rows = data.splits["train"].extra["row"]
    np.testing.assert_array_equal(rows, again.splits["train"].extra["row"])
    assert not np.array_equal(rows, other.splits["train"].extra["row"])
    np.testing.assert_array_equal(np.sort(np.concatenate([rows, data.splits["test"].extra["row"]])), np.arange(ROWS))
    np.testing.assert_array_equal(data.splits["train"].labels, frame.fraud.to_numpy()[rows])
    assert set(data.splits["test"].extra) == {"row"}
    # Fraud isn't at even distances within a part.
    assert len(set(np.diff(np.flatnonzero(data.splits["train"].labels)))) > 5


def test_no_customer_is_on_two_sides(tmp_path, frame):
    data, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", customer="card", drop=["seconds"])
    parts = [data.splits[name] for name in ("validation_train", "validation", "test")]
    customers = [set(part.extra["customer"]) for part in parts]
    assert not customers[0] & customers[1]
    assert not customers[0] & customers[2]
    assert not customers[1] & customers[2]
    assert [abs(len(part) - size) < 10 for part, size in zip(parts, (600, 200, 200), strict=True)] == [True] * 3
    # Codes count the customers in the order of the file.
    codes, _ = pd.factorize(frame.card)
    np.testing.assert_array_equal(parts[2].extra["customer"], codes[parts[2].extra["row"]])
    assert parts[2].extra["customer"].dtype == np.int64
    assert not any(name.startswith("card") for name in data.feature_names)


def test_customers_with_fraud_are_spread(tmp_path):
    rows = np.arange(1000)
    content = pd.DataFrame({"x": rows, "card": rows // 10, "fraud": (rows // 10 % 10 == 3).astype(int)})
    data, _ = load([write(tmp_path / "a.csv", content)], label="fraud", customer="card")
    assert [int(part.labels.sum()) for part in data.splits.values()] == [60, 20, 80, 20]


def test_time_goes_before_customer(tmp_path, frame):
    data, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds", customer="card")
    np.testing.assert_array_equal(data.splits["train"].extra["row"], np.arange(800))
    assert set(data.splits["test"].extra) == {"row", "time", "day", "customer"}


# Labels


@pytest.mark.parametrize(
    ("genuine", "fraud", "share", "positive"),
    [
        ("0", "1", 0.25, "1"),
        ("1", "0", 0.25, "1"),
        ("0.0", "1.0", 0.25, "1"),
        ("False", "True", 0.25, "1"),
        ("TRUE", "false", 0.25, "1"),
        ("legit", "stolen", 0.25, "stolen"),
        ("stolen", "legit", 0.25, "stolen"),
        ("Legit", "Fraud", 0.75, "Fraud"),
        ("BENIGN", "DDoS", 0.75, "DDoS"),
        ("blue", "red", 0.25, "red"),
        ("2", "1", 0.25, "1"),
        ("no", "yes", 0.5, "yes"),
    ],
)
def test_labels(tmp_path, genuine, fraud, share, positive):
    values = [fraud if i % 20 < 20 * share else genuine for i in range(200)]
    content = pd.DataFrame({"x": range(200), "label": values})
    data, _ = load([write(tmp_path / "a.csv", content)], label="label")
    part = data.splits["train"]
    spelled = {"0.0": "0", "1.0": "1", "false": "0", "true": "1"}
    expected = [spelled.get(values[row].lower(), values[row]) == positive for row in part.extra["row"]]
    np.testing.assert_array_equal(part.labels, expected)
    assert f"label label: {positive} is fraud, " in data.provenance.understood[0]


def test_quoted_and_boolean_labels_of_two_files(tmp_path):
    write(tmp_path / "a.csv", "x,fraud\n" + '1,"0"\n2,"1"\n3,0.0\n' * 10)
    pd.DataFrame({"x": [1, 5] * 15, "fraud": [0, 1] * 15}).to_parquet(tmp_path / "b.pq")
    data, _ = load([tmp_path], label="fraud")
    assert sum(int(data.splits[name].labels.sum()) for name in ("train", "test")) == 25


# Encoder


def test_encoder_by_hand(tmp_path):
    rows = [
        "1.5,true,red,2024-01-01,7",
        "2.5,false,green,2024-01-02,7",
        ",true,,2024-01-03,7",
        "9,false,red,2024-01-04,7",
    ]
    path = write(tmp_path / "a.csv", small("size,new,colour,since,same", rows))
    data, encoder = load([path], label="fraud")
    assert encoder.feature_names == data.feature_names
    assert data.feature_names == (
        "size",
        "size is missing",
        "new",
        "colour = green",
        "colour = red",
        "colour is other",
        "colour is missing",
        "since",
    )
    assert "left out, as constant in training: same" in data.provenance.understood
    new = write(
        tmp_path / "new.csv",
        "since,colour,new,size,unused\n2024-01-01,red,TRUE,1.5,?\n1970-01-02,blue,0,NA,?\n1970-01-01T00:01:00Z,,1,-3e2,?\n"
        ",green,,1,?\n",
    )
    training = data.splits["validation_train"].inputs
    medians = np.median(training[training[:, 1] == 0], axis=0)
    day = np.float32(pd.Timestamp("2024-01-01").timestamp())
    expected = np.array(
        [
            [1.5, 0, 1, 0, 1, 0, 0, day],
            [medians[0], 1, 0, 0, 0, 1, 0, 86_400],
            [-300, 0, 1, 0, 0, 0, 1, 60],
            [1, 0, np.median(training[:, 2]), 1, 0, 0, 0, np.median(training[:, 7])],
        ],
        np.float32,
    )
    np.testing.assert_array_equal(encode(encoder, new), expected)


def test_missing_value_where_training_had_none(tmp_path):
    path = write(tmp_path / "a.csv", small("x,colour", ["1,red", "2,red", "30,blue"]))
    _, encoder = load([path], label="fraud")
    assert encoder.feature_names == ("x", "colour = blue", "colour = red", "colour is other")
    new = write(tmp_path / "new.csv", "x,colour\nnull,NaN\n")
    np.testing.assert_array_equal(encode(encoder, new), [[2, 0, 0, 1]])


def test_large_vocabulary_is_hashed(tmp_path):
    path = write(tmp_path / "a.csv", small("id", [f"n{i}" for i in range(100)]))
    data, encoder = load([path], label="fraud")
    assert len(encoder.feature_names) == table.HASH_BUCKETS
    assert encoder.feature_names[3] == "id in bucket 3"
    row = data.splits["test"].extra["row"][0]
    expected = np.zeros(table.HASH_BUCKETS)
    expected[zlib.crc32(f"n{row}".encode()) % table.HASH_BUCKETS] = 1
    np.testing.assert_array_equal(data.splits["test"].inputs[0], expected)
    unseen = encode(encoder, write(tmp_path / "new.csv", "id\nunseen\n"))
    np.testing.assert_array_equal(np.flatnonzero(unseen[0]), [zlib.crc32(b"unseen") % table.HASH_BUCKETS])


def test_vocabulary_at_its_limit(tmp_path):
    at = write(tmp_path / "at.csv", small("id", [f"n{i}" for i in range(table.VOCABULARY_SIZE)], 1000))
    above = write(tmp_path / "above.csv", small("id", [f"n{i}" for i in range(table.VOCABULARY_SIZE + 1)], 1000))
    assert len(load([at], label="fraud")[1].feature_names) == table.VOCABULARY_SIZE + 1
    assert len(load([above], label="fraud")[1].feature_names) == table.HASH_BUCKETS


def test_fitted_on_the_training_part_alone(tmp_path, frame):
    changed = frame.copy()
    later = frame.index >= 600
    changed.loc[later, "amount"] = 1e6
    changed.loc[later & (frame.index % 7 == 0), "amount"] = np.nan
    changed.loc[later, "shop"] = "tavern"
    changed["late"] = np.where(later, frame.index, 4)
    frame["late"] = 4
    _, fitted = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds")
    data, encoder = load([write(tmp_path / "b.csv", changed)], label="fraud", time="seconds")
    assert encoder == fitted
    assert "left out, as constant in training: late" in data.provenance.understood
    amounts = data.splits["test"].inputs[:, 0]
    assert set(amounts) == {np.float32(1e6), np.float32(frame.amount[:600].median())}


def test_constants_and_empty_columns(tmp_path):
    rows = ["1,,5,red,", "2,,,red,x"]
    data, encoder = load([write(tmp_path / "a.csv", small("x,empty,five,colour,mark", rows))], label="fraud")
    # A column that is constant where it's given still tells by its missing values.
    assert encoder.feature_names == ("x", "five is missing", "mark = x", "mark is other", "mark is missing")
    assert "left out, as constant in training: empty, colour" in data.provenance.understood
    np.testing.assert_array_equal(
        encode(encoder, write(tmp_path / "new.csv", "x,five,mark\n1,6,\n1,,x\n")), [[1, 0, 0, 0, 1], [1, 1, 1, 0, 0]]
    )


def test_median_of_a_sample(tmp_path, frame, monkeypatch):
    monkeypatch.setattr(table, "MEDIAN_ROWS", 11)
    path = write(tmp_path / "a.csv", frame)
    _, encoder = load([path], label="fraud", time="seconds")
    fill = encoder.columns[0].fill
    assert fill in frame.amount[:600].to_numpy(np.float32)
    assert frame.amount[:600].quantile(0.1) < fill < frame.amount[:600].quantile(0.9)
    assert fill == load([path], label="fraud", time="seconds")[1].columns[0].fill


def test_fill_of_a_column_that_the_sample_misses(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MEDIAN_ROWS", 1)
    content = pd.DataFrame({"t": range(100), "x": [8.0, 9.0] + [None] * 98, "fraud": [0, 1] * 50})
    _, encoder = load([write(tmp_path / "a.csv", content)], label="fraud", time="t", time_unit="seconds")
    assert encoder.columns[0].fill in (8.0, 9.0)


def test_config_round_trip(tmp_path, frame):
    frame.loc[3, "amount"] = np.nan
    path = write(tmp_path / "a.csv", frame)
    _, encoder = load([path], label="fraud", time="seconds")
    again = Encoder.from_config(json.loads(json.dumps(encoder.to_config(), allow_nan=False)))
    assert again == encoder
    np.testing.assert_array_equal(encode(again, path), encode(encoder, path))


def test_mapped_matrix_equals_the_one_in_memory(tmp_path, frame, monkeypatch):
    path = write(tmp_path / "a.csv", frame)
    here, _ = load([path], label="fraud")
    assert not isinstance(here.splits["train"].inputs, np.memmap)
    monkeypatch.setattr(table, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 4096)
    folder = tmp_path / "work" / "folder"
    mapped, _ = load([path], label="fraud", work_folder=folder)
    for name, part in here.splits.items():
        assert isinstance(mapped.splits[name].inputs, np.memmap)
        np.testing.assert_array_equal(mapped.splits[name].inputs, part.inputs)
        np.testing.assert_array_equal(mapped.splits[name].labels, part.labels)
    assert list(folder.iterdir()) == []


def test_no_room_for_the_matrix(tmp_path, frame, monkeypatch):
    monkeypatch.setattr(table, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(table.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 5000}))
    text = message([write(tmp_path / "a.csv", frame)], label="fraud", work_folder=tmp_path)
    check(text, f"{tmp_path}: 0.0 GB are free, expected 0.0 GB for the encoded table")


# Reading


def test_credit_card_layout(tmp_path):
    rng = np.random.default_rng(0)
    names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    lines = [",".join(f'"{name}"' for name in names)]
    for i in range(300):
        values = ",".join(f"{value:.14f}" for value in rng.normal(size=28))
        lines.append(f'{i * 600},{values},{i / 100},"{int(i % 10 == 0)}"')
    path = write(tmp_path / "creditcard.csv", "\r\n".join(lines))
    data, encoder = load([path], label="Class", time="Time")
    assert data.feature_names == (*(f"V{i}" for i in range(1, 29)), "Amount")
    assert encoder.kinds == dict.fromkeys(data.feature_names, "number")
    assert data.splits["test"].inputs[-1, -1] == np.float32(2.99)
    assert data.splits["test"].extra["day"][-1] == 2
    provenance = data.provenance
    assert provenance.rows == 300
    assert provenance.size_bytes == path.stat().st_size
    assert provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (provenance.name, provenance.source, provenance.seed) == ("creditcard.csv", str(path), 0)
    names = ", ".join(f"V{i}" for i in range(1, 9))
    assert provenance.understood == (
        "label Class: 1 is fraud, 30 of 300 rows (10.00\u00a0%); 0 is genuine",
        "Time read as seconds: from day 0.0 to day 2.1, 2.1 days",
        "split by Time: 180 training, 60 validation and 60 test rows; validation begins day 1.2, test day 1.7",
        f"read as numbers (29): {names} and 21 more",
    )


def test_text_as_spreadsheets_write_it(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 50)
    plain = small("x,name", ["1,a", "2,b", "3,c"])
    odd = plain.replace("name", '"name"').replace(",b,", ',"b",').replace(",a,", ',"a, ""A""\r\nline",')
    content = b"\xef\xbb\xbf" + odd.replace("\n", "\r\n").replace("\r\r", "\r").encode() + b"\r\n\r\n\r\n"
    _, encoder = load([write(tmp_path / "a.csv", content)], label="fraud")
    assert encoder.feature_names[0] == "x"
    assert encoder.columns[1].vocabulary == ('a, "A"\r\nline', "b", "c")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.gz", "a.csv.bz2", "a.parquet", "a.pq"])
def test_formats_agree(tmp_path, frame, name):
    plain, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds")
    path = tmp_path / name
    if name.endswith(("parquet", "pq")):
        frame["shop"] = frame.shop.astype("category")
        frame.to_parquet(path, row_group_size=300)
    else:
        frame.to_csv(path, index=False, compression="gzip" if name.endswith("gz") else "infer")
    data, _ = load([path], label="fraud", time="seconds")
    assert data.feature_names == plain.feature_names
    np.testing.assert_array_equal(data.splits["test"].inputs, plain.splits["test"].inputs)


def test_several_files_are_one_table(tmp_path, frame):
    whole, _ = load([write(tmp_path / "whole.csv", frame)], label="fraud", time="seconds")
    folder = tmp_path / "months"
    folder.mkdir()
    write(folder / "1.csv", frame[:300])
    frame[300:700].to_parquet(folder / "2.parquet")
    write(folder / "3.csv", frame[700:900][frame.columns[::-1]])
    write(folder / ".hidden.csv", "no table")
    write(folder / "notes.txt", "no table")
    last = write(tmp_path / "4.csv", frame[900:])
    data, _ = load([folder, last], label="fraud", time="seconds")
    assert data.provenance.source == f"{folder / '1.csv'} and 3 more"
    np.testing.assert_array_equal(data.splits["train"].inputs, whole.splits["train"].inputs)
    np.testing.assert_array_equal(data.splits["test"].extra["row"], np.arange(800, 1000))
    files = [folder / "1.csv", folder / "2.parquet", folder / "3.csv", last]
    assert data.provenance.sha256 == hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_stream_counts_rows_and_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'x,y\n1,a\n\n2,"b\nb"\n3,c\n')
    batches = list(stream(find_files([path]), {"x": "number"}, rows_per_batch=2))
    assert [(batch.file.path, list(batch.numbers)) for batch in batches] == [(path, [0, 1]), (path, [2])]
    assert batches[0].rows.column("x").to_pylist() == ["1", "2"]
    assert batches[0].rows.schema.names == ["x"]
    for batch, bad, place in ((batches[0], [0, 1], "line 4"), (batches[1], [1], "line 6")):
        assert f"{path}: {place}, column 'x'" in refusal(table_files.reject, batch, "x", np.array(bad) > 0, "none")
    pd.DataFrame({"x": [1, 2, 3]}).to_parquet(tmp_path / "a.pq")
    batches = list(stream(find_files([tmp_path / "a.pq"]), {"x": "number"}, rows_per_batch=2))
    assert "a.pq: row 3, column 'x' holds 3" in refusal(table_files.reject, batches[1], "x", np.array([True]), "none")


def test_kinds_beyond_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 1000)
    rows = [f"{i}{'.5' if i > 400 else ''},{'late' if i > 400 else ''},,w{i % 3},{i % 2 == 0}" for i in range(500)]
    path = write(tmp_path / "a.csv", small("x,late,empty,word,even", rows, 500))
    assert read_kinds(find_files([path])) == {
        "x": "number",
        "late": "category",
        "empty": "empty",
        "word": "category",
        "even": "boolean",
        "fraud": "number",
    }
    data, _ = load([path], label="fraud")
    xs = np.concatenate([data.splits["train"].inputs[:, 0], data.splits["test"].inputs[:, 0]])
    assert sorted(xs) == [i + 0.5 * (i > 400) for i in range(500)]


def test_kinds_of_parquet(tmp_path):
    content = pd.DataFrame(
        {
            "whole": [1, 2],
            "flag": [True, False],
            "when": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "word": ["a", "b"],
            "none": [None, None],
        }
    )
    path = write(tmp_path / "a.parquet", content)
    kinds = {"whole": "number", "flag": "boolean", "when": "time", "word": "category", "none": "empty"}
    assert read_kinds(find_files([path])) == kinds
    # A column without values in the first file takes its kind from the next.
    second = write(tmp_path / "b.csv", "none,word,when,flag,whole\n7,c,2024-01-01,true,1\n")
    assert read_kinds(find_files([path, second])) == kinds | {"none": "number"}


def test_a_long_table_is_never_whole_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 2**15)
    monkeypatch.setattr(table, "IN_MEMORY_BYTES", 2**16)
    monkeypatch.setattr(table, "MEDIAN_ROWS", 100)
    rows = 40_000
    values = np.random.default_rng(0).normal(size=(rows, 20)).astype(np.float32).round(4)
    content = pd.DataFrame(values, columns=[f"v{i}" for i in range(20)])
    content["fraud"] = np.arange(rows) % 9 == 0
    path = write(tmp_path / "a.parquet", content)
    content.to_csv(tmp_path / "a.csv", index=False)
    del content, values
    path.unlink()
    tracemalloc.start()
    data, _ = load([tmp_path / "a.csv"], label="fraud", work_folder=tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows * 20 * 4
    assert data.splits["train"].inputs.shape == (32_000, 20)


# Bad input: files


def test_missing_paths(tmp_path):
    check(
        message([tmp_path / "no.csv"], label="y"), str(tmp_path / "no.csv"), "no such file, expected a CSV or Parquet"
    )
    check(message([], label="y"), "no file was given")
    check(message([tmp_path], label="y"), f"{tmp_path}: no table in this folder", ".csv, ")
    path = write(tmp_path / "a.xlsx", "x")
    check(message([path], label="y"), f"{path}: unknown kind of file", ".parquet")
    path = write(tmp_path / "a.csv", "x,y\n1,0\n")
    check(message([tmp_path, path], label="y"), f"{path}: given twice, expected each file once")
    assert find_files([tmp_path]).paths == [path]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty, expected a table"),
        ("\n\n", "only blank lines, expected a header"),
        ("x,fraud\n", "no rows, expected some after the names of the columns"),
        ("x,fraud", "no rows, expected some after the names of the columns"),
        ("x,y,x,fraud\n1,2,3,0\n", "columns 1 and 3 are both named 'x', expected one; leave them out with --drop x"),
        (",x,fraud\n1,2,0\n", "column 1 has no name, expected one in the header; or leave it out with --drop ''"),
        (small("x", ["1", "2"]) + "\n3,0,9\n", "line 103 has 3 fields, expected 2 as in the header"),
        (small("x", ["1", "2"]) + "3\n", "line 102 has 1 fields, expected 2 as in the header"),
        (small("x", ["1"]).encode() + b"caf\xe9,0\n", "line 102: the byte 0xe9 isn't UTF-8, expected a table in UTF-8"),
        (b"x,\xff\xfe\n1,0\n", "line 1: the byte 0xff isn't UTF-8, expected a table in UTF-8"),
        (small("x", ["1", "2"]) + "oops,0\n", "line 102, column 'x' holds 'oops', expected a finite number"),
        (small("x", ["1.25", "2"]) + '"1,5",0\n', "line 102, column 'x' holds '1,5', expected a decimal point as in"),
        (small("x", ["1", "inf"]), "line 3, column 'x' holds 'inf', expected a finite number"),
        (small("x", ["1", "2"]) + "1e39,0\n", "line 102, column 'x' holds '1e39', expected a finite number"),
        (small("x", ["true", "false"]) + "maybe,0\n", "line 102, column 'x' holds 'maybe', expected true or false"),
        (small("x", ["2024-01-01", "2024-01-02"]) + "soon,0\n", "line 102, column 'x' holds 'soon', expected an ISO"),
        (small("x", ["2024-01-01", "2024-01-02"]) + "now,0\n", "line 102, column 'x' holds 'now', expected an ISO"),
        (small("x", ["7"]), "no column except fraud varies, expected one to learn from"),
        ("fraud\n" + "0\n1\n" * 50, "no column except fraud varies, expected one to learn from"),
        ("x,fraud\n1,0\n2,1\n3,0\n", "3 rows are too few to split, expected at least 10"),
    ],
)
def test_bad_csv(tmp_path, content, expected):
    path = write(tmp_path / "a.csv", content)
    check(message([path], label="fraud"), f"{path}: {expected}")


def test_text_late_in_a_number_column(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 2000)
    rows = ["1,word", *(f"{i},word" for i in range(2000)), "word,word"]
    path = write(tmp_path / "a.csv", small("x,y", rows, len(rows)))
    check(message([path], label="fraud"), f"{path}: line 2003, column 'x' holds 'word', expected a finite number")


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_cut_gzip(tmp_path, frame, keep):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as stream_:
        stream_.write(frame.to_csv(index=False).encode())
    whole = buffer.getvalue()
    path = write(tmp_path / "a.csv.gz", whole[: int(keep * len(whole))])
    check(
        message([path], label="fraud"), f"{path}: can't be read (Truncated compressed stream), expected a complete CSV"
    )
    path = write(tmp_path / "b.csv.gz", whole[:20] + b"x" * 50)
    check(message([path], label="fraud"), f"{path}: can't be read (", "expected a complete CSV")


def test_broken_parquet(tmp_path, frame):
    path = write(tmp_path / "a.parquet", frame)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"x,fraud\n1,0\n" * 5, b"PAR1"):
        check(
            message([write(path, content)], label="fraud"),
            f"{path}: can't be read (Parquet ",
            "a complete Parquet file",
        )
    # The footer is whole, but not the pages.
    write(path, whole[:4] + bytes(2000) + whole[2004:])
    check(message([path], label="fraud"), f"{path}: can't be read (", "expected a complete Parquet file")
    frame[:0].to_parquet(path)
    check(message([path], label="fraud"), f"{path}: no rows")


def test_bad_parquet_values(tmp_path, frame):
    path = tmp_path / "a.parquet"
    frame.loc[41, "amount"] = -np.inf
    frame.to_parquet(path)
    check(message([path], label="fraud"), f"{path}: row 42, column 'amount' holds -inf, expected a finite number")
    frame["amount"] = [[1.0]] * ROWS
    frame.to_parquet(path)
    check(message([path], label="fraud"), f"{path}: column 'amount' is of type list", "leave it out with --drop")
    assert load([path], label="fraud", drop=["amount"])[0].provenance.rows == ROWS


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.rename(columns={"shop": "store"}), "column 'shop' is missing, expected the same columns as in"),
        (lambda f: f.assign(zone=1), "column 'zone' is only here, expected the same columns as in"),
        (lambda f: f.assign(shop=5), "column 'shop' holds a number, expected a category as in"),
        (lambda f: f.assign(amount=f.amount > 1), "column 'amount' holds a boolean, expected a number as in"),
    ],
)
def test_files_of_different_columns(tmp_path, frame, change, expected):
    first = write(tmp_path / "a.csv", frame)
    second = tmp_path / "b.parquet"
    change(frame).to_parquet(second)
    check(message([tmp_path], label="fraud"), f"{second}: {expected} {first}")


def test_text_in_the_number_column_of_a_second_csv(tmp_path, frame):
    write(tmp_path / "a.csv", frame)
    second = write(tmp_path / "b.csv", frame.assign(amount="much"))
    check(
        message([tmp_path], label="fraud"), f"{second}: line 2, column 'amount' holds 'much', expected a finite number"
    )


# Bad input: columns and labels


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "Fraud"}, "no column 'Fraud' (--label), expected it in the table: is it 'fraud'?"),
        ({"label": "zzz"}, "'zzz' (--label), expected it in the table: it has seconds, amount, shop, card, fraud"),
        ({"label": "fraud", "time": "second"}, "'second' (--time), expected it in the table: is it 'seconds'?"),
        ({"label": "fraud", "customer": "cart"}, "'cart' (--customer), expected it in the table: is it 'card'?"),
        ({"label": "fraud", "drop": ["amounts"]}, "'amounts' (--drop), expected it in the table: is it 'amount'?"),
        ({"label": "fraud", "time": "fraud"}, "'fraud' has two uses, expected one of --label, --time and --drop"),
        ({"label": "fraud", "drop": ["fraud"]}, "column 'fraud' has two uses, expected one of --label and --drop"),
        ({"label": "shop"}, "'shop' holds 'kiosk', expected one of two classes, as 'garage' and 'bakery' before"),
        ({"label": "fraud", "time": "shop"}, "line 2, column 'shop' holds 'garage', expected an ISO 8601 date or time"),
    ],
)
def test_bad_columns(tmp_path, frame, options, expected):
    frame.loc[:2, "shop"] = ["garage", "bakery", "kiosk"]
    path = write(tmp_path / "a.csv", frame)
    text = message([path], **options)
    check(text, f"{path}: ", expected)
    if options["label"] == "shop":
        check(text, f"{path}: line 4,")


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("fraud", None, "line 9, column 'fraud' is empty, expected a label in every row"),
        ("seconds", None, "line 9, column 'seconds' is empty, expected a time in every row"),
        ("seconds", "later", "line 9, column 'seconds' holds 'later', expected a finite number"),
        ("seconds", np.inf, "line 9, column 'seconds' holds 'inf', expected a finite number"),
        ("card", None, "line 9, column 'card' is empty, expected a customer in every row"),
        ("fraud", 2, "line 9, column 'fraud' holds '2', expected one of two classes, as '0' and '1' before"),
    ],
)
def test_bad_label_time_or_customer(tmp_path, frame, column, value, expected):
    frame = frame.astype(object)
    frame.loc[7, "fraud"] = 0
    frame.loc[5, "fraud"] = 1
    frame.loc[7, column] = value
    path = write(tmp_path / "a.csv", frame)
    check(message([path], label="fraud", time="seconds", customer="card"), f"{path}: {expected}")


def test_one_class(tmp_path, frame):
    path = write(tmp_path / "a.csv", frame.assign(fraud=0))
    check(message([path], label="fraud"), f"{path}: column 'fraud' holds only '0', expected two classes")


@pytest.mark.parametrize(("part", "rows"), [("training", 600), ("validation", 200), ("test", 200)])
def test_no_fraud_in_a_part(tmp_path, frame, part, rows):
    start, stop = {"training": (0, 600), "validation": (600, 800), "test": (800, 1000)}[part]
    frame.loc[start : stop - 1, "fraud"] = 0
    path = write(tmp_path / "a.csv", frame)
    count = (ROWS - rows) // 20
    check(
        message([path], label="fraud", time="seconds"),
        f"{path}: none of the {rows} rows of the {part} part is fraud (of all 1,000 rows {count} are), "
        "expected both classes in every part",
    )


# Times


@pytest.mark.parametrize(
    ("times", "unit", "first", "days"),
    [
        (np.linspace(1.6e9, 1.61e9, ROWS), None, "2020-09-13 12:26:40", 115.7),
        (np.linspace(1.6e12, 1.61e12, ROWS).round(), None, "2020-09-13 12:26:40", 115.7),
        (np.linspace(1.6e15, 1.61e15, ROWS).round(), None, "2020-09-13 12:26:40", 115.7),
        (np.linspace(1.6e18, 1.61e18, ROWS).round(), None, "2020-09-13 12:26:40", 115.7),
        (np.repeat([20240131, 20240201, 20240301, 20240302], ROWS // 4), None, "2024-01-31 00:00:00", 31.0),
        (
            np.repeat([20240131235959, 20240201000001, 20240301000000, 20240302235959], ROWS // 4),
            None,
            "2024-01-31 23:59:59",
            31.0,
        ),
        (np.arange(ROWS) * 743 // ROWS, "hours", "day 0.0", 30.9),
        (np.arange(ROWS) * 8 // ROWS, "months", "day 0.0", 213.1),
        (np.arange(ROWS), "seconds", "day 0.0", 0.0),
        ([f"{i % 28 + 1:02d}/{i // 28 % 12 + 1:02d}/2023" for i in range(ROWS)], None, "2023-01-01 00:00:00", 361.0),
        ([f"{i // 28 % 12 + 1}/{i % 28 + 1}/23 1:30 PM" for i in range(ROWS)], None, "2023-01-01 13:30:00", 361.0),
        ([f"{i % 28 + 1}. Feb 2023".replace(".", "") for i in range(ROWS)], None, "2023-02-01 00:00:00", 27.0),
        ([f"01.{i % 12 + 1:02d}.2023" for i in range(ROWS)], None, "2023-01-01 00:00:00", 334.0),
    ],
)
def test_units_and_dates(tmp_path, frame, times, unit, first, days):
    path = write(tmp_path / "a.csv", frame.assign(seconds=times))
    data, encoder = load([path], label="fraud", time="seconds", time_unit=unit)
    assert f"from {first} to " in data.provenance.understood[1]
    assert f", {days:,.1f} days" in data.provenance.understood[1]
    found = np.concatenate([data.splits[part].extra["time"] for part in ("train", "test")])
    np.testing.assert_allclose(np.ptp(found) / 86_400, days, atol=0.05)
    again, _ = table.read_labelled([path], encoder, label="fraud", label_values=("0", "1"), time="seconds")
    np.testing.assert_array_equal(np.sort(again.extra["time"]), found)


@pytest.mark.parametrize(
    ("times", "unit", "expected"),
    [
        (np.arange(ROWS) % 743, None, "runs from 0 to 742; as seconds that is 0.21 hours, expected days"),
        (np.arange(ROWS) % 8, None, "0.0019 hours, expected days; give its unit with --time-unit"),
        (np.linspace(0, 1e12, ROWS), None, "as seconds that is 11,574,074 days, expected at most 36,525; give its"),
        (2 * np.arange(ROWS), "months", "as months that is 60,814 days"),
        (["06:21"] * ROWS, None, "column 'seconds' holds times of day without dates, expected dates, too"),
        ([f"2024-01-0{i % 9 + 1}" for i in range(ROWS)], "hours", "--time-unit hours: column 'seconds' holds dates"),
        (["01/02/2024", "03/04/2024"] * (ROWS // 2), None, "line 2, column 'seconds' holds '01/02/2024', expected"),
        (["13/02/2024", "02/14/2024"] * (ROWS // 2), None, "line 3, column 'seconds' holds '02/14/2024', expected the"),
    ],
)
def test_times_that_make_no_days(tmp_path, frame, times, unit, expected):
    path = write(tmp_path / "a.csv", frame.assign(seconds=times))
    check(message([path], label="fraud", time="seconds", time_unit=unit), expected)


# Bad input: new rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("shop\nkiosk\n", "no column 'amount', expected it in the table: it has shop"),
        ("Amount,shop\n1,kiosk\n", "no column 'amount', expected it in the table: is it 'Amount'?"),
        ("amount,shop\n1,kiosk\nabc,kiosk\n", "line 3, column 'amount' holds 'abc', expected a finite number"),
        ("amount,shop\n1,kiosk\n-inf,kiosk\n", "line 3, column 'amount' holds '-inf', expected a finite number"),
    ],
)
def test_bad_new_rows(tmp_path, frame, content, expected):
    _, encoder = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds", customer="card")
    path = write(tmp_path / "new.csv", content)
    check(refusal(encode, encoder, path), f"{path}: {expected}")


def test_new_parquet_rows_of_other_types(tmp_path, frame):
    _, encoder = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds", customer="card")
    path = tmp_path / "new.parquet"
    pd.DataFrame({"amount": ["1.5", ""], "shop": ["kiosk", "kiosk"]}).to_parquet(path)
    median = encoder.columns[0].fill
    np.testing.assert_array_equal(encode(encoder, path)[:, 0], np.float32([1.5, median]))
    pd.DataFrame({"amount": ["1.5", "much"], "shop": ["kiosk", "kiosk"]}).to_parquet(path)
    check(refusal(encode, encoder, path), f"{path}: row 2, column 'amount' holds 'much', expected a finite number")
    pd.DataFrame({"amount": pd.to_datetime(["2024-01-01"]), "shop": ["kiosk"]}).to_parquet(path)
    check(refusal(encode, encoder, path), f"{path}: column 'amount' holds a time, expected a number")


# Values as people write them


def german(x: float) -> str:
    return f"{x:,.2f}".translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize(
    ("write_amount", "said"),
    [
        (lambda x: f"{x:,.2f}", "with commas between thousands: amount"),
        (german, "with a decimal comma: amount"),
        (lambda x: f"{german(x)} €", "amount is in €"),
        (lambda x: f"(${-x:,.2f})" if x < 0 else f"${x:,.2f}", "amount is in $"),
        (lambda x: f"{-x:.2f}-" if x < 0 else f"{x:.2f}", ""),
        (lambda x: f"CHF {x:,.2f}".replace(",", "’"), "amount is in CHF"),
        (lambda x: f"{x:.2f}%", "in per cent: amount"),
        (lambda x: f" {x:.2f} ", ""),
    ],
)
def test_amounts_are_the_same_however_they_are_written(tmp_path, frame, write_amount, said):
    frame["amount"] = (frame.amount * 1000 - 1500).round(2)
    frame.loc[frame.index % 9 == 4, "amount"] = np.nan
    plain, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds", customer="card")
    marks = ["?", "", "\\N", "-", "N.A.", "#DIV/0!", "(null)", " unknown "]
    cells = [marks[i % 8] if np.isnan(x) else write_amount(x) for i, x in enumerate(frame.amount)]
    path = write(tmp_path / "b.csv", frame.assign(amount=cells))
    data, encoder = load([path], label="fraud", time="seconds", customer="card")
    assert data.feature_names == plain.feature_names
    for part, split in plain.splits.items():
        np.testing.assert_allclose(data.splits[part].inputs, split.inputs, rtol=1e-6)
    assert any(sentence.startswith(said) for sentence in data.provenance.understood)
    assert any("'?' in amount" in sentence for sentence in data.provenance.understood)
    again = Encoder.from_config(json.loads(json.dumps(encoder.to_config())))
    rows = data.splits["test"].extra["row"]
    np.testing.assert_array_equal(encode(again, path)[rows], data.splits["test"].inputs)


def test_spellings_that_come_late(tmp_path, frame, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 2_000)
    monkeypatch.setattr(table_files, "FEW_ROWS", 10)
    frame["amount"] = (frame.amount * np.where(frame.index > 900, 1000, 1)).round()
    plain, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds")
    cells = ["?" if i == 950 else f"{x:,.0f}" for i, x in enumerate(frame.amount)]
    data, _ = load([write(tmp_path / "b.csv", frame.assign(amount=cells))], label="fraud", time="seconds")
    different = np.flatnonzero(data.splits["test"].inputs[:, 0] != plain.splits["test"].inputs[:, 0])
    assert list(different) == [150]
    assert "with commas between thousands: amount" in data.provenance.understood
    assert "read as missing values: '?' in amount" in data.provenance.understood


def test_a_table_of_decimal_commas_has_points_between_thousands(tmp_path):
    rows = ["1.226;12,5", "2.500;7,25", "776;1,75"]
    text = small("x;y", rows).replace(",0\n", ";0\n").replace(",1\n", ";1\n").replace("y,fraud", "y;fraud")
    data, _ = load([write(tmp_path / "a.csv", text)], label="fraud")
    assert set(map(tuple, data.splits["train"].inputs.tolist())) == {(1226, 12.5), (2500, 7.25), (776, 1.75)}


@pytest.mark.parametrize(
    ("trained", "new", "expected"),
    [
        (["12,50", "7,25"], "12.50", "holds '12.50', expected a finite number, up to 1e15, such as 1234,5"),
        (["12,50", "7,25"], "1.250", "holds '1.250', expected a finite number"),
        (["12,50", "7,25"], "12,75", 12.75),
        (["12,50", "1.007,25"], "1.250", 1250),
        (["12.50", "7.25"], "12,50", "holds '12,50', expected a finite number"),
        (["12.50", "7.25"], "1,250", "holds '1,250', expected a finite number"),
        (["12.50", "7.25"], "$1,250.00", 1250),
        (["12.50", "7.25"], "12%", "holds '12%', expected a finite number"),
        (["12%", "7%"], "0.12", "holds '0.12', expected a finite number, up to 1e15, such as 1234.5%"),
        (["06:21", "07:00"], "22860", "holds '22860', expected a time of day"),
        (["06:21", "07:00"], "6:22 PM", 66_120),
        (["31/01/2024", "01/02/2024"], "2024-01-31", 1_706_659_200),
        (["31/01/2024", "01/02/2024"], "01/31/2024", "holds '01/31/2024', expected a date such as 31/01/2024"),
        (["2024-01-31", "2024-02-01"], "31/01/2024", "holds '31/01/2024', expected an ISO 8601"),
    ],
)
def test_new_rows_are_read_as_in_training_or_refused(tmp_path, trained, new, expected):
    cells = [f'"{text}"' for text in trained]
    _, encoder = load([write(tmp_path / "a.csv", small("x", cells))], label="fraud")
    path = write(tmp_path / "new.csv", f'x\n"{new}"\n')
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=re.escape(f"line 2, column 'x' {expected}")):
            encode(encoder, path)
    else:
        assert encode(encoder, path)[0, 0] == np.float32(expected)


def test_an_encoder_of_before_is_read(tmp_path):
    config = {
        "columns": [{"name": "x", "kind": "number", "missing": False, "fill": 1.0, "varies": True, "vocabulary": []}]
    }
    path = write(tmp_path / "new.csv", "x\n2\n\n?\n")
    np.testing.assert_array_equal(encode(Encoder.from_config(config), path), [[2], [1]])


def test_numbers_with_a_few_words_are_not_categories(tmp_path, frame):
    amounts = frame.amount.astype(object)
    amounts[frame.index % 3 == 0] = "not recorded"
    path = write(tmp_path / "a.csv", frame.assign(amount=amounts))
    check(
        message([path], label="fraud"),
        f"{path}: line 2, column 'amount' holds 'not recorded', expected a finite number",
    )
    codes = [f"A{i}" if i % 3 else f"{i}" for i in range(ROWS)]
    data, _ = load([write(path, frame.assign(amount=codes))], label="fraud")
    assert (
        "amount is a category: 33\N{NO-BREAK SPACE}% of its values are numbers, but 'A1' is not"
        in data.provenance.understood
    )


def test_identifiers(tmp_path, frame):
    frame["id"] = np.arange(ROWS) + 7
    frame["key"] = np.random.default_rng(0).permutation(10**6)[:ROWS]
    frame["hash"] = [f"{zlib.crc32(b'%d' % i):08x}z" for i in range(ROWS)]
    data, _ = load([write(tmp_path / "a.csv", frame)], label="fraud", time="seconds", customer="card")
    way_out = "as an input it may be memorised; leave it out with --drop"
    assert data.provenance.understood[-3:] == (
        f"id rises from row to row, like a row number: {way_out} 'id'",
        f"key has a different value in every row: {way_out} 'key'",
        f"hash has a different value in every row: {way_out} 'hash'",
    )
    frame["id"] += 436_786_825_523_169_463
    expected = "line 2, column 'id' holds '436786825523169470', expected a finite number, up to 1e15"
    check(message([write(tmp_path / "a.csv", frame)], label="fraud"), expected, "leave it out with --drop 'id'")


def test_rows_of_other_spellings_are_left_out(tmp_path, frame):
    amounts = [german(x) for x in frame.amount * 1000]
    amounts[500] = "12.5"
    path = write(tmp_path / "a.csv", frame.assign(amount=amounts))
    check(message([path], label="fraud"), f"{path}: line 502, column 'amount' holds '12.5', expected a decimal comma")
    data, _ = load([path], label="fraud", skip_bad=True)
    assert data.provenance.rows == ROWS - 1
    assert any("1 of 1,000 rows can't be used" in sentence for sentence in data.provenance.understood)


# Labels of more than two values


def test_fraud_values(tmp_path, frame):
    frame["fraud"] = np.array(["BENIGN", "DDoS", "ddos", "Bot"])[frame.index % 4]
    path = write(tmp_path / "a.csv", frame)
    expected = (
        "line 5, column 'fraud' holds 'Bot', expected one of two classes, as 'BENIGN' and 'DDoS' before, or --fraud"
    )
    check(message([write(tmp_path / "a.csv", frame.drop(index=3))], label="fraud"), "holds 'Bot'")
    check(message([write(path, frame)], label="fraud"), expected)
    data, encoder = load([path], label="fraud", fraud_values=["DDOS"])
    part = data.splits["train"]
    np.testing.assert_array_equal(part.labels, np.isin(part.extra["row"] % 4, [1, 2]))
    expected = "label fraud: DDoS is fraud, 500 of 1,000 rows (50.00\N{NO-BREAK SPACE}%); BENIGN, Bot is genuine"
    assert data.provenance.understood[0] == expected
    again, _ = table.read_labelled(
        [path], encoder, label="fraud", label_values=data.label_values, fraud_values=["bot", "ddos"]
    )
    np.testing.assert_array_equal(again.labels, frame.index % 4 > 0)
    check(
        message([path], label="fraud", fraud_values=["worm"]), "column 'fraud' has no 'worm' (--fraud-value), expected"
    )


def test_a_tie_of_unknown_words(tmp_path, frame):
    path = write(tmp_path / "a.csv", frame.assign(fraud=np.where(frame.index % 2, "x", "y")))
    expected = (
        "column 'fraud' holds 'y' 500 times and 'x' 500 times, expected it to be clear which is fraud: name it with"
    )
    check(message([path], label="fraud"), expected)
    data, _ = load([path], label="fraud", fraud_values=["x"])
    assert data.label_values == ("y", "x")

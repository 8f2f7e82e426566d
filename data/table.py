"""The user's own labelled table, as CSV or Parquet: checked, encoded and split for fraud detection.

A table may be larger than memory, so it's read in passes, batch by batch: one for labels, times and customers, one to
fit the encoder, one to encode every row to its final place. The same `stream` and `Encoder` serve new rows to score.

The time column orders the rows and gives the days of the evaluation; it isn't an input, as each later row lies beyond
every time seen in training. The customer column groups rows; as an input it would only be memorised.
"""

import dataclasses
import itertools
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.dataset import BadInput, Dataset, Provenance, Split, escaped
from data.table_files import (
    Batch,
    TableFile,
    Tables,
    describe,
    find_files,
    kind_of,
    leave_out,
    parquet_kinds,
    read,
    reject,
    require,
    sha256,
    some,
    stream,
)

IN_MEMORY_BYTES = 256 * 2**20
MEDIAN_ROWS = 200_000
VOCABULARY_SIZE = 32
HASH_BUCKETS = 64
MINIMUM_ROWS = 10
CLASSES = ("genuine", "fraud")
LONGEST_DAYS = 36_525
LARGEST = 1e15  # its square, and a sum of such squares, still fits float32
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "NaT", "null", "NULL", "Null", "None")

# A text column is of the first kind that most of its values look like; the others are then errors to report, not a
# reason to take a column of amounts with one misprint for a category.
KIND_SHARE = 0.9
KIND_PATTERNS = {
    "number": r"(?i)^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$|^\s*[+-]?inf(inity)?\s*$",
    "boolean": r"(?i)^\s*(true|false)\s*$",
    "time": r"^\s*\d{4}-\d\d-\d\d([T ]\d\d:\d\d|\s*$)",
}
KIND_EXPECTED = {
    "number": "a finite number, up to 1e15",
    "boolean": "true or false",
    "time": "an ISO 8601 date or time such as 2024-01-31 13:45:00",
}


def read_kinds(files: Tables, drop: Collection[str] = ()) -> dict[str, str]:
    """Find what each column holds, less those in `drop`, in the order of the first file.

    A Parquet file states it. For a CSV nine in ten of the values decide, in the first file and the first MiB
    with any. The kinds are "number", "boolean", "time", "category", and "empty" for a column without any value.

    Raises:
        BadInput: A file can't be read, or its columns or their types differ from the files before it.
    """
    kinds: dict[str, str] = {}
    dropped = set(drop)
    for file in files:
        columns = [name for name in file.columns if name not in dropped]
        _check_names(file, columns)
        if file is files[0]:
            kinds = dict.fromkeys(columns, "empty")
        elif different := sorted(set(columns) ^ set(kinds)):
            state = "is only here" if different[0] in columns else "is missing"
            raise BadInput(f"{file}: column {different[0]!r} {state}, expected the same columns as in {files[0]}")
        if file.is_parquet:
            found = parquet_kinds(file, columns)
        else:
            found = _csv_kinds(file, files.skip_bad, [name for name in columns if kinds[name] == "empty"])
        for name, kind in found.items():
            if "empty" not in (kind, kinds[name]) and kind != kinds[name]:
                raise BadInput(f"{file}: column {name!r} holds a {kind}, expected a {kinds[name]} as in {files[0]}")
            if kinds[name] == "empty":
                kinds[name] = kind
    return kinds


def _check_names(file: TableFile, columns: Sequence[str]) -> None:
    """Refuse columns that are to be used without a name, or with that of another."""
    if "" in file.positions and "" in columns:
        places = [place + 1 for place in file.positions[""]]
        found = f"column {places[0]} has" if len(places) == 1 else f"columns {places[0]} and {places[1]} have"
        raise BadInput(f"{file}: {found} no name, expected one in the header; or leave it out with --drop ''")
    if len(set(columns)) < len(columns):
        require(file, next(name for name in columns if len(file.positions[name]) > 1))


@dataclasses.dataclass(frozen=True)
class Column:
    """How one input column becomes features.

    A number, a boolean (as 0 and 1) or a time (as seconds since 1970, which float32 holds to about two minutes) is one
    feature if it `varies` in training, with `fill` for missing values. A category is one-hot: of its `vocabulary`
    and "other", or, with an empty vocabulary, of hash buckets. `missing` adds a 0/1 feature for missing values.
    """

    name: str
    kind: str
    missing: bool
    fill: float = 0.0
    varies: bool = True
    vocabulary: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        if self.kind != "category":
            values = [self.name] if self.varies else []
        elif self.vocabulary:
            values = [*(f"{self.name} = {value}" for value in self.vocabulary), f"{self.name} is other"]
        else:
            values = [f"{self.name} in bucket {bucket}" for bucket in range(HASH_BUCKETS)]
        return (*values, f"{self.name} is missing") if self.missing else tuple(values)

    def encode(self, batch: Batch, features: np.ndarray) -> None:
        """Write the column into `features`, (rows, features) of zeros."""
        if self.kind != "category":
            values = numbers(batch, self.name, self.kind)
            absent = np.isnan(values)
            if self.varies:
                features[:, 0] = np.where(absent, self.fill, values)
            if self.missing:
                features[:, -1] = absent
            return
        texts = _texts(batch, self.name).dictionary_encode()
        slots = [self._slot(value) for value in texts.dictionary.to_pylist()]
        slots.append(features.shape[1] - 1 if self.missing else self._slot(""))
        codes = texts.indices.fill_null(len(slots) - 1).to_numpy()
        features[np.arange(len(batch)), np.array(slots)[codes]] = 1

    def _slot(self, value: str) -> int:
        if not self.vocabulary:
            return zlib.crc32(value.encode()) % HASH_BUCKETS
        return self.vocabulary.index(value) if value in self.vocabulary else len(self.vocabulary)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """How a table becomes a float32 matrix, as fitted on training rows and kept with a trained model."""

    columns: tuple[Column, ...]

    @property
    def kinds(self) -> dict[str, str]:
        """The input columns and what each holds, for `stream`."""
        return {column.name: column.kind for column in self.columns}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the matrix's columns, in order."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def encode(self, batch: Batch) -> np.ndarray:
        """Turn the rows of a batch, which `stream` read with this encoder's `kinds`, into (rows, features) float32.

        A missing value becomes the median of the training rows, and marks the column's "is missing" where training
        had missing values. An unseen category is "other", or falls into its hash bucket.

        Raises:
            BadInput: A value isn't of its column's kind, or is infinite; the message names file, row and column.
        """
        matrix = np.zeros((len(batch), len(self.feature_names)), np.float32)
        start = 0
        for column in self.columns:
            stop = start + len(column.feature_names)
            column.encode(batch, matrix[:, start:stop])
            start = stop
        return matrix

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON."""
        columns = [dataclasses.asdict(column) | {"vocabulary": list(column.vocabulary)} for column in self.columns]
        return {"columns": columns}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Encoder":
        """Rebuild the encoder that gave this config."""
        return cls(
            tuple(Column(**{**column, "vocabulary": tuple(column["vocabulary"])}) for column in config["columns"])
        )


def load(
    paths: Sequence[Path],
    *,
    label: str,
    time: str | None = None,
    customer: str | None = None,
    drop: Sequence[str] = (),
    seed: int = 0,
    work_folder: Path | None = None,
    encoding: str | None = None,
    skip_bad: bool = False,
) -> tuple[Dataset, Encoder]:
    """Read, check, encode and split a labelled table.

    The splits are slices of one ordered matrix: "validation_train" (the first 60 % of the rows), "validation" (the
    next 20 %), "train" (these two together) and "test" (the last 20 %). The order is that of `time`, if given, and
    rows of equal time stay on one side of a boundary. Without it the order is random, with an equal share of fraud in
    every part; with `customer`, it's random by customer, and no customer is on two sides. The encoder is fitted on
    "validation_train" alone; its medians are of at most 200,000 of these rows, drawn at random.

    Labels are int8: 0 is "genuine", 1 is "fraud". The fraud label is 1 or true, else the rarer of the two values.
    Each split's `extra` has "row" (int64, the position in the files as read), with `time` also "time" (seconds) and
    "day" (int32, whole days of 86,400 seconds since the first day) and with `customer` also "customer" (int64 codes).

    Args:
        paths: CSV and Parquet files, and folders of them.
        label: The column of the two classes.
        time: The column of times: seconds as a number, or ISO 8601 text (UTC where it names no zone), or timestamps.
        customer: The column that says whose row it is.
        drop: Columns to leave out.
        seed: Draws the random order and the rows for the medians.
        work_folder: Where a matrix beyond `IN_MEMORY_BYTES` is kept, in a file without a name that goes with it; the
            system's temporary folder if not given.
        encoding: Of CSV files, as Python names it; UTF-8, or what a byte order mark says, if not given.
        skip_bad: Leave rows out that can't be used, and count them, instead of refusing the table.

    Raises:
        BadInput: Whatever is wrong with the table: the message names the file, the place, what was found and expected.
    """
    files = find_files(paths, encoding=encoding, skip_bad=skip_bad)
    label = label.strip()
    time, customer = (name and name.strip() for name in (time, customer))
    drop = list(dict.fromkeys(name.strip() for name in drop))
    flags = {"--label": label, "--time": time, "--customer": customer}
    roles = {flag: name for flag, name in flags.items() if name is not None}
    uses = [*roles.values(), *drop]
    if len(set(uses)) < len(uses):
        twice = next(name for name in uses if uses.count(name) > 1)
        raise BadInput(f"{files[0]}: column {twice!r} has two uses, expected one of {', '.join(roles)} and --drop")
    for flag, name in roles.items():
        require(files[0], name, f" ({flag})")
    for name in drop:
        if name not in files[0].positions:
            require(files[0], name, " (--drop)")
    kinds = read_kinds(files, drop)
    taken = set(uses)
    inputs = {name: kind for name, kind in kinds.items() if name not in taken and kind != "empty"}
    if skip_bad:
        _leave_out(files, kinds, inputs, roles)

    keys = _read_keys(files, label, time, "number" if time and kinds[time] == "number" else "time", customer)
    if len(keys.labels) < MINIMUM_ROWS:
        found = f"{len(keys.labels)} rows are too few to split"
        raise BadInput(f"{describe(files)}: {found}, expected at least {MINIMUM_ROWS}")
    rng = np.random.default_rng(seed)
    order, (first, second) = _order(keys, rng)
    parts = {"training": order[:first], "validation": order[first:second], "test": order[second:]}
    for part, rows in parts.items():
        for code, name in enumerate(CLASSES):
            if not np.any(keys.labels[rows] == code):
                found = f"none of the {len(rows):,} rows of the {part} part is {name}"
                whole = f"of all {len(order):,} rows {np.sum(keys.labels == code):,} are"
                raise BadInput(f"{describe(files)}: {found} ({whole}), expected both classes in every part")

    encoder = _fit(files, inputs, parts["training"], len(order), rng) if inputs else Encoder(())
    if not encoder.columns:
        raise BadInput(f"{describe(files)}: no column but {', '.join(uses)} varies, expected one to learn from")
    matrix = _encode(files, encoder, order, work_folder)
    labels = keys.labels[order]
    extra = {"row": files.kept_rows(len(order))[order]}
    if keys.times is not None:
        extra |= {"time": keys.times[order], "day": _days(describe(files), keys.times[order])}
    if keys.customers is not None:
        extra["customer"] = keys.customers[order]
    ranges = {
        "validation_train": slice(0, first),
        "validation": slice(first, second),
        "train": slice(0, second),
        "test": slice(second, None),
    }
    splits = {
        name: Split(matrix[rows], labels[rows], {key: values[rows] for key, values in extra.items()})
        for name, rows in ranges.items()
    }

    by = "in random order, with equal shares of fraud"
    if customer is not None:
        by = f"by {customer}, at random"
    if time is not None:
        by = f"by {time}"
    known = {*encoder.kinds, *roles.values()}
    lists = {
        "left out, as asked": drop,
        "left out, as constant in training": [name for name in kinds if name not in known],
        "categories": [name for name, kind in encoder.kinds.items() if kind == "category"],
        "times as seconds": [name for name, kind in encoder.kinds.items() if kind == "time"],
    }
    notes = (
        f"fraud is {label} = {keys.fraud}, genuine is {label} = {keys.genuine}",
        f"split {by}: {first:,} rows and {second - first:,} to validate on, then {len(order) - second:,} to test on",
        *(f"{what}: {some(names)}" for what, names in lists.items() if names),
    )
    provenance = Provenance(
        name=escaped(files[0].name if len(files) == 1 else files[0].path.parent.name),
        source=describe(files),
        licence="the user's own data",
        rows=len(order),
        size_bytes=sum(path.stat().st_size for path in files.paths),
        sha256=sha256(files),
        units="as in the table",
        seed=seed,
        notes=notes,
        understood=files.understood,
    )
    return Dataset(splits, encoder.feature_names, CLASSES, provenance, (keys.genuine, keys.fraud)), encoder


def read_labelled(
    paths: Sequence[Path],
    encoder: Encoder,
    *,
    label: str,
    label_values: Sequence[str],
    time: str | None = None,
    customer: str | None = None,
    encoding: str | None = None,
    skip_bad: bool = False,
) -> tuple[Split, tuple[str, ...]]:
    """Read a labelled table whole, in the order of its rows, as an encoder sees it; and what was understood of it.

    See `load` for the columns; `label_values` spells genuine and fraud, as a `Dataset` does.

    Raises:
        BadInput: Whatever is wrong with the table.
    """
    files = find_files(paths, encoding=encoding, skip_bad=skip_bad)
    label = label.strip()
    time, customer = (name and name.strip() for name in (time, customer))
    roles = {"--label": label, "--time": time, "--customer": customer}
    roles = {flag: name for flag, name in roles.items() if name is not None}
    for flag, name in roles.items():
        require(files[0], name, f" ({flag})")
    others = set(files[0].columns) - {time}
    time_kind = "number" if time is not None and read_kinds(files, others)[time] == "number" else "time"
    if skip_bad:
        _leave_out(files, encoder.kinds | ({} if time is None else {time: time_kind}), encoder.kinds, roles)
    keys = _read_keys(files, label, time, time_kind, customer, label_values)
    rows = np.arange(len(keys.labels))
    extra = {"row": files.kept_rows(len(rows))}
    if keys.times is not None:
        extra |= {"time": keys.times, "day": _days(describe(files), keys.times)}
    if keys.customers is not None:
        extra["customer"] = keys.customers
    return Split(_encode(files, encoder, rows, None), keys.labels, extra), files.understood


def _leave_out(files: Tables, kinds: Mapping[str, str], inputs: Mapping[str, str], roles: Mapping[str, str]) -> None:
    """Find the rows that can't be used, so that no stream has them, and say so.

    These are rows of too many or too few fields, with a value that is not of its column's kind, or without a label,
    time or customer.
    """

    def check(batch: Batch) -> None:
        for name, kind in inputs.items():
            if kind != "category":
                numbers(batch, name, kind)
        for flag, name in roles.items():
            if flag == "--time":
                kind = kinds[name] if kinds[name] == "number" else "time"
                reject(batch, name, np.isnan(numbers(batch, name, kind)), "a time in every row")
            else:
                texts(batch, name, f"a {flag.removeprefix('--')}")

    leave_out(files, {*inputs, *roles.values()}, check)


def numbers(batch: Batch, name: str, kind: str) -> np.ndarray:
    """Read a column as (rows,) float64, NaN where a value is missing; times are in seconds since 1970.

    Raises:
        BadInput: A value isn't of the kind ("number", "boolean" or "time"), or is beyond float32.
    """
    column = batch.rows.column(name)
    found = kind_of(batch.file, batch.rows.schema.field(name))
    # Text is parsed as CSV text is, but a time is no number.
    if {kind, found} & {"time"} and {kind, found} & {"number", "boolean"}:
        raise BadInput(f"{batch.file}: column {name!r} holds a {found}, expected a {kind}")
    if found == "time":
        column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return column.to_numpy(zero_copy_only=False) / 1e6
    if found != "category":
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        bad = np.abs(values) > LARGEST
    else:
        values, bad = _parse(column, kind)
        bad |= np.abs(values) > LARGEST
    reject(batch, name, bad, KIND_EXPECTED[kind])
    return values


def _csv_kinds(file: TableFile, skip_bad: bool, columns: Sequence[str]) -> dict[str, str]:
    """Find the kinds of a CSV's columns by the first block in which each has a value."""
    kinds = dict.fromkeys(columns, "empty")
    undecided = list(columns)
    # The first block decides about nearly all; the rest of the file is read for the others alone.
    for blocks in (1, None):
        if undecided:
            for rows in itertools.islice(read(file, undecided, skip_bad), blocks):
                kinds |= {name: _text_kind(_present(rows.rows.column(name))) for name in undecided}
                undecided = [name for name in undecided if kinds[name] == "empty"]
                if not undecided:
                    break
    return kinds


def _text_kind(column: pa.StringArray) -> str:
    values = column.drop_null()
    if len(values) == 0:
        return "empty"
    for kind, pattern in KIND_PATTERNS.items():
        if pc.sum(pc.match_substring_regex(values, pattern)).as_py() >= KIND_SHARE * len(values):
            return kind
    return "category"


def _texts(batch: Batch, name: str) -> pa.StringArray:
    """Read a column as text, null where a value is missing."""
    return _present(batch.rows.column(name).cast(pa.string()))


def _present(texts: pa.StringArray) -> pa.StringArray:
    """Make the missing values null."""
    return pc.if_else(pc.is_in(texts, pa.array(MISSING)), None, texts)


def _parse(texts: pa.StringArray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn text into (rows,) float64, NaN where it's missing or isn't of the kind, and say where it isn't."""
    if kind == "number":
        try:  # the usual spellings, at once
            values = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
            return values, np.zeros(len(values), bool)
        except pa.ArrowInvalid:
            pass
    texts = _present(texts)
    if kind == "boolean":
        codes = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), pa.array(["false", "true", "0", "1"]))
        values = codes.to_numpy(zero_copy_only=False) % 2
    elif kind == "number":
        values = np.asarray(pd.to_numeric(texts.to_pandas(), errors="coerce"), np.float64)
    else:
        # pandas also takes words such as "now" for times.
        dated = pc.if_else(pc.match_substring_regex(texts, r"^\s*\d{4}-"), texts, None)
        stamps = pd.to_datetime(dated.to_pandas(), utc=True, format="ISO8601", errors="coerce")
        values = np.where(stamps.isna(), np.nan, pd.DatetimeIndex(stamps).as_unit("us").asi8 / 1e6)
    return values, np.isnan(values) & texts.is_valid().to_numpy(zero_copy_only=False)


def _numbered(files: Tables, kinds: Mapping[str, str]) -> Iterator[tuple[slice, Batch]]:
    """Stream batches along with their rows' positions in all the files as read."""
    start = 0
    for batch in stream(files, kinds):
        yield slice(start, start + len(batch)), batch
        start += len(batch)


@dataclasses.dataclass(frozen=True)
class _Keys:
    """The columns that order and split the rows: each (rows,), in the order of the files."""

    labels: np.ndarray
    genuine: str
    fraud: str
    times: np.ndarray | None
    customers: np.ndarray | None


def _read_keys(
    files: Tables,
    label: str,
    time: str | None,
    time_kind: str,
    customer: str | None,
    label_values: Sequence[str] = (),
) -> _Keys:
    kinds = {label: "category"}
    if time is not None:
        kinds[time] = time_kind
    if customer is not None:
        kinds[customer] = "category"
    codes: dict[str, int] = {value: code for code, value in enumerate(label_values)}
    code_parts: list[np.ndarray] = []
    times: list[np.ndarray] = []
    customers: list[pa.StringArray] = []
    for batch in stream(files, kinds):
        encoded = texts(batch, label, "a label").dictionary_encode()
        rows = encoded.indices.to_numpy()
        values = [_label_value(text) for text in encoded.dictionary.to_pylist()]
        for index, value in enumerate(values):
            if codes.setdefault(value, len(codes)) > 1:
                reject(batch, label, rows == index, "one of two classes, as {!r} and {!r} before".format(*codes))
        code_parts.append(np.array([codes[value] for value in values], np.int8)[rows])
        if time is not None:
            seconds = numbers(batch, time, time_kind)
            reject(batch, time, np.isnan(seconds), "a time in every row")
            times.append(seconds)
        if customer is not None:
            customers.append(texts(batch, customer, "a customer"))

    found = np.concatenate(code_parts)
    if len(np.unique(found)) < 2:
        raise BadInput(
            f"{describe(files)}: column {label!r} holds only {list(codes)[found[0]]!r}, expected two classes"
        )
    genuine, fraud = label_values or sorted(codes)
    if (
        not label_values
        and (genuine, fraud) != ("0", "1")
        and np.sum(found == codes[genuine]) < np.sum(found == codes[fraud])
    ):
        genuine, fraud = fraud, genuine
    customer_codes = None
    if customer is not None:
        chunks = pa.chunked_array(customers).dictionary_encode().chunks
        customer_codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
    labels = (found == codes[fraud]).astype(np.int8)
    return _Keys(labels, genuine, fraud, np.concatenate(times) if time is not None else None, customer_codes)


def texts(batch: Batch, name: str, expected: str) -> pa.StringArray:
    """Read a column as text; a row without a value is rejected, as `expected` "in every row"."""
    column = _texts(batch, name)
    reject(batch, name, column.is_null().to_numpy(zero_copy_only=False), f"{expected} in every row")
    return column


def _label_value(text: str) -> str:
    """Spell equal labels alike: 1, 1.0 and True."""
    text = {"true": "1", "false": "0"}.get(text.strip().lower(), text.strip())
    try:
        return repr(float(text)).removesuffix(".0")
    except ValueError:
        return text


def _order(keys: _Keys, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Order the rows, and find where the validation and the test part begin."""
    if keys.times is not None:
        order = np.argsort(keys.times, kind="stable")
        groups = keys.times[order]
    elif keys.customers is not None:
        defrauded = np.zeros(keys.customers.max() + 1, np.int8)
        defrauded[keys.customers[keys.labels == 1]] = 1
        places = np.empty(len(defrauded), np.int64)
        places[_mix(defrauded, rng)] = np.arange(len(defrauded))
        order = np.argsort(places[keys.customers], kind="stable")
        groups = places[keys.customers[order]]
    else:
        order = _mix(keys.labels, rng)
        groups = np.arange(len(order))
    cuts = []
    for share in (0.6, 0.8):
        cut = round(share * len(order))
        # A group that lies across goes to the side that has more of it.
        start, stop = np.searchsorted(groups, groups[cut], "left"), np.searchsorted(groups, groups[cut], "right")
        cuts.append(int(start if cut - start <= stop - cut else stop))
    if keys.times is None:
        for part in np.split(order, cuts):
            rng.shuffle(part)
    return order, cuts


def _mix(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an order in which the members of each of the classes 0 and 1 come at even distances."""
    shuffled = rng.permutation(len(classes))
    ranks = np.empty(len(classes))
    for code in (0, 1):
        members = shuffled[classes[shuffled] == code]
        ranks[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.argsort(ranks, kind="stable")


def _days(source: str, times: np.ndarray) -> np.ndarray:
    days = np.floor(times / 86_400)
    days -= days.min()
    if days.max() > LONGEST_DAYS:
        raise BadInput(f"{source}: the times span {days.max():,.0f} days, expected seconds: are they milliseconds?")
    return days.astype(np.int32)


def _fit(files: Tables, kinds: Mapping[str, str], training: np.ndarray, rows: int, rng: np.random.Generator) -> Encoder:
    """Fit the encoder on the rows at the positions `training`, of so many `rows` in all."""
    is_training, is_sampled = np.zeros((2, rows), bool)
    is_training[training] = True
    is_sampled[rng.choice(training, min(MEDIAN_ROWS, len(training)), replace=False)] = True
    names = [name for name, kind in kinds.items() if kind != "category"]
    lowest = np.full(len(names), np.inf, np.float32)
    highest = -lowest
    absent = np.zeros(len(names), bool)
    with_missing: set[str] = set()
    sample: list[np.ndarray] = []
    vocabularies: dict[str, set[str]] = {name: set() for name, kind in kinds.items() if kind == "category"}
    for here, batch in _numbered(files, kinds):
        chosen = is_training[here]
        block = np.empty((len(batch), len(names)), np.float32)
        for index, name in enumerate(names):
            block[:, index] = numbers(batch, name, kinds[name])
        sample.append(block[is_sampled[here]])
        block = block[chosen]
        lowest = np.fmin(lowest, np.fmin.reduce(block, axis=0, initial=np.inf))
        highest = np.fmax(highest, np.fmax.reduce(block, axis=0, initial=-np.inf))
        absent |= np.isnan(block).any(axis=0)
        for name, vocabulary in vocabularies.items():
            texts = _texts(batch, name).filter(pa.array(chosen))
            if texts.null_count:
                with_missing.add(name)
            if len(vocabulary) <= VOCABULARY_SIZE:
                vocabulary.update(texts.drop_null().unique().to_pylist())

    facts = dict(zip(names, zip(lowest, highest, absent, np.concatenate(sample).T, strict=True), strict=True))
    columns: list[Column] = []
    for name, kind in kinds.items():
        if kind == "category":
            words, missing = vocabularies[name], name in with_missing
            if words and len(words) + missing > 1:
                vocabulary = tuple(sorted(words)) if len(words) <= VOCABULARY_SIZE else ()
                columns.append(Column(name, kind, missing, vocabulary=vocabulary))
        else:
            low, high, missing, values = facts[name]
            if low < high or (low == high and missing):
                present = values[~np.isnan(values)]
                # A value so rare that the sample has none: any value of the column does.
                fill = float(np.median(present)) if len(present) else float(low)
                columns.append(Column(name, kind, bool(missing), fill, varies=bool(low < high)))
    return Encoder(tuple(columns))


def _encode(files: Tables, encoder: Encoder, order: np.ndarray, folder: Path | None) -> np.ndarray:
    """Encode all rows to their places in the order: (rows, features) float32, mapped to a file if it's large."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    shape = (len(order), len(encoder.feature_names))
    size = shape[0] * shape[1] * 4
    if size <= IN_MEMORY_BYTES:
        matrix = np.empty(shape, np.float32)
        for rows, batch in _numbered(files, encoder.kinds):
            matrix[places[rows]] = encoder.encode(batch)
        return matrix
    folder = folder or Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    # Writing to a mapped file on a full disk would end the program without a word.
    if (free := shutil.disk_usage(folder).free) < size:
        raise BadInput(f"{folder}: {free / 1e9:.1f} GB are free, expected {size / 1e9:.1f} GB for the encoded table")
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        for rows, batch in _numbered(files, encoder.kinds):
            # Mapped afresh for each batch, since the pages of one mapping would all stay in memory.
            np.memmap(file, np.float32, "r+", shape=shape)[places[rows]] = encoder.encode(batch)
        return np.memmap(file, np.float32, "r+", shape=shape)

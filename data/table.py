"""Check, encode and split the user's own labelled table, CSV or Parquet, for fraud detection.

A table may be larger than memory, so it's read in batches in several passes: one for labels, times and customers, one
to fit the encoder, one to encode every row to its final position. New rows use the same `stream` and `Encoder`.

The time column orders the rows and gives the days of the evaluation; it isn't an input, as later times never occur in
training. The customer column groups rows; as an input it would only be memorised.
"""

import contextlib
import dataclasses
import itertools
import reprlib
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.dataset import BadInput, Dataset, Provenance, Split, escaped
from data.labels import label_key, which_is_fraud
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
    some,
    stream,
)
from data.values import (
    CLOCK,
    COMMA,
    NUMBERS,
    POINT,
    TIMES,
    UNITS,
    USUAL_MARKS,
    VOCABULARY_SIZE,
    Look,
    Unclear,
    expected_of,
    family,
    fits,
    guess_unit,
    in_seconds,
    is_plain,
    parse,
    printed,
    spelling,
    spellings,
)

IN_MEMORY_BYTES = 256 * 2**20
MEDIAN_ROWS = 200_000
HASH_BUCKETS = 64
MINIMUM_ROWS = 10
CLASSES = ("genuine", "fraud")
LONGEST_DAYS = 36_525
LARGEST = 1e15  # its square, and a sum of such squares, still fits float32
UNIX_YEARS = 1e8  # from 1973 on a number of seconds is a date
MOST_LABELS = 1_000
ROWS_TO_TELL = 1_000
ROWS_COMPARED = 100_000


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The kind of each column, and statistics of those whose values had to be examined."""

    kinds: dict[str, str]
    looks: dict[str, Look]


class _Unprinted(Exception):  # noqa: N818
    """A column that begins with plain numbers has others further down."""


def read_kinds(files: Tables, drop: Collection[str] = ()) -> dict[str, str]:
    """The kind of each column except those in `drop`, in the order of the first file: see `data.values`.

    A Parquet file states it, except for text. For text, the first MiB of each file decides if all its values are
    clearly of one kind, else all values of the column.

    Raises:
        BadInput: A file can't be read, or its columns or their types differ from the files before it; most values of a
            column are numbers or dates and some aren't, or they are ambiguous.
    """
    return _see(files, drop).kinds


def _see(files: Tables, drop: Collection[str], as_text: Sequence[str] = (), *, thorough: bool = False) -> _Seen:
    """See `read_kinds`; columns in `as_text` are categories unread. If `thorough`, more than the first MiB decides."""
    kinds: dict[str, str] = {}
    dropped = set(drop)
    typed: dict[str, tuple[str, TableFile]] = {}
    text_of: dict[str, TableFile] = {}
    looks: dict[str, Look] = {}
    plain: set[str] = set()
    for file in files:
        columns = [name for name in file.columns if name not in dropped]
        _check_names(file, columns)
        if file is files[0]:
            kinds = dict.fromkeys(columns, "empty")
        elif different := sorted(set(columns) ^ set(kinds)):
            state = "is only here" if different[0] in columns else "is missing"
            raise BadInput(f"{file}: column {different[0]!r} {state}, expected the same columns as in {files[0]}")
        file_kinds = parquet_kinds(file, columns) if file.is_parquet else dict.fromkeys(columns, "category")
        for name, kind in file_kinds.items():
            if kind == "category":
                text_of.setdefault(name, file)
            elif kind != "empty":
                first, before = typed.setdefault(name, (kind, file))
                if kind != first:
                    raise BadInput(f"{file}: column {name!r} holds a {kind}, expected a {first} as in {before}")
        unread = [name for name, kind in file_kinds.items() if kind == "category" and name not in as_text]
        for batch in itertools.islice(read(file, unread, files.skip_bad), None if thorough else 1) if unread else ():
            for name in unread:
                column = _strings(batch, name)
                # Most columns are plain numbers, and there may be thousands of them.
                if is_plain(column):
                    plain.add(name)
                else:
                    looks.setdefault(name, Look()).add(column, 0)

    settled = {name: "number" for name in plain - set(looks)}
    settled |= {name: None if name in plain else look.settled() for name, look in looks.items()}
    doubtful = {name: None for name in text_of if name not in as_text and settled.get(name) in ("empty", None)}
    looks |= {name: Look(lenient=files.skip_bad) for name in doubtful}
    for rows, batch in _numbered(files, doubtful) if doubtful else ():
        for name in doubtful:
            if kind_of(batch.file, batch.rows.schema.field(name)) == "category":
                looks[name].add(_strings(batch, name), rows.start)
    commas = any(looks[name].has_decimal_comma() for name in doubtful)
    for name in kinds:
        kind = "category" if name in as_text else settled.get(name) or "empty"
        if name in doubtful:
            try:
                kind = looks[name].kind(commas)
            except Unclear as problem:
                raise _unclear(files, name, problem) from None
        if name in typed and name not in as_text:
            stated, file = typed[name]
            if kind == "empty":
                kind = stated
            elif family(kind) != stated or not fits(kind, stated):
                first, second, place = (stated, kind, text_of[name]) if file == files[0] else (kind, stated, file)
                raise BadInput(f"{place}: column {name!r} holds a {second}, expected a {first} as in {files[0]}")
        kinds[name] = kind
    return _Seen(kinds, looks)


def _unclear(files: Tables, name: str, problem: Unclear) -> BadInput:
    for rows, batch in _numbered(files, [name]):
        if problem.row < rows.stop:
            bad = np.arange(rows.start, rows.stop) == problem.row
            try:
                reject(batch, name, bad, problem.wanted)
            except BadInput as found:
                return found
    raise AssertionError("the row was seen before")


def _check_names(file: TableFile, columns: Sequence[str]) -> None:
    """Raise BadInput for used columns without a name, or with the same name."""
    if "" in file.positions and "" in columns:
        places = [place + 1 for place in file.positions[""]]
        found = f"column {places[0]} has" if len(places) == 1 else f"columns {places[0]} and {places[1]} have"
        raise BadInput(f"{file}: {found} no name, expected one in the header; or leave it out with --drop ''")
    if len(set(columns)) < len(columns):
        require(file, next(name for name in columns if len(file.positions[name]) > 1))


@dataclasses.dataclass(frozen=True)
class Column:
    """How one input column becomes features.

    A number, a boolean (as 0 and 1) or a time (as seconds since 1970, to about two minutes in float32) is one feature
    if it `varies` in training, with `fill` for missing values. A category is one-hot over its `vocabulary` and "other",
    or, with an empty vocabulary, over hash buckets. `missing` adds a 0/1 feature for missing values.
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

    def encode(self, batch: Batch, features: np.ndarray) -> np.ndarray:
        """Write the column into `features`, (rows, features) of zeros; return where they are missing, (rows,) bool."""
        if self.kind != "category":
            values = numbers(batch, self.name, self.kind)
            absent = np.isnan(values)
            if self.varies:
                features[:, 0] = np.where(absent, self.fill, values)
            if self.missing:
                features[:, -1] = absent
            return absent
        texts = _texts(batch, self.name).dictionary_encode()
        slots = [self._slot(value) for value in texts.dictionary.to_pylist()]
        slots.append(features.shape[1] - 1 if self.missing else self._slot(""))
        codes = texts.indices.fill_null(len(slots) - 1).to_numpy()
        features[np.arange(len(batch)), np.array(slots)[codes]] = 1
        return texts.indices.is_null().to_numpy(zero_copy_only=False)

    def _slot(self, value: str) -> int:
        if not self.vocabulary:
            return zlib.crc32(value.encode()) % HASH_BUCKETS
        return self.vocabulary.index(value) if value in self.vocabulary else len(self.vocabulary)


@dataclasses.dataclass(frozen=True)
class TimeColumn:
    """How the time column is read: its kind, and for a number its unit or calendar; see `data.values`."""

    name: str
    kind: str
    unit: str | None = None


@dataclasses.dataclass(frozen=True)
class Encoder:
    """How a table becomes a float32 matrix, fitted on training rows and stored with a trained model.

    `time` isn't an input; it says how the times of a labelled table are read.
    """

    columns: tuple[Column, ...]
    time: TimeColumn | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """The input columns and their kinds, for `stream`."""
        return {column.name: column.kind for column in self.columns}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the matrix's columns, in order."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def encode(self, batch: Batch, lacking: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """Turn the rows of a batch, which `stream` read with this encoder's `kinds`, into (rows, features) float32.

        A missing value becomes the median of the training rows, and sets the column's "is missing" if training had
        missing values. An unseen category is "other", or in its hash bucket. If given, `lacking` collects the columns
        that lack values but never did in training, by name, with a mask of the rows, (rows,) bool.

        Raises:
            BadInput: A value isn't of its column's kind, or is infinite; the message names file, row and column.
        """
        matrix = np.zeros((len(batch), len(self.feature_names)), np.float32)
        start = 0
        for column in self.columns:
            stop = start + len(column.feature_names)
            absent = column.encode(batch, matrix[:, start:stop])
            if lacking is not None and not column.missing and absent.any():
                lacking[column.name] = absent
            start = stop
        return matrix

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON."""
        columns = [dataclasses.asdict(column) | {"vocabulary": list(column.vocabulary)} for column in self.columns]
        return {"columns": columns, "time": dataclasses.asdict(self.time) if self.time else None}

    def preparation(self) -> dict[str, Any]:
        """What code without this module needs to encode a row as `encode` does, as plain JSON."""
        return {
            "columns": [
                dataclasses.asdict(column)
                | {
                    "features": list(column.feature_names),
                    "family": family(column.kind),
                    "spelling": spelling(column.kind),
                    "takes_numbers": fits(column.kind, "number"),
                    "expected": "" if column.kind == "category" else expected_of(column.kind),
                }
                for column in self.columns
            ],
            "hash_buckets": HASH_BUCKETS,
            "largest": LARGEST,
            **spellings(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Encoder":
        """Rebuild the encoder from its config."""
        columns = (Column(**{**column, "vocabulary": tuple(column["vocabulary"])}) for column in config["columns"])
        time = config.get("time")
        return cls(tuple(columns), TimeColumn(**time) if time else None)


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
    time_unit: str | None = None,
    fraud_values: Sequence[str] = (),
) -> tuple[Dataset, Encoder]:
    """Read, check, encode and split a labelled table.

    The splits are slices of one ordered matrix: "validation_train" (the first 60 % of the rows), "validation" (the
    next 20 %), "train" (these two together) and "test" (the last 20 %). With `time`, rows are ordered by time, and rows
    with equal times stay together. Without it the order is random, with an equal share of fraud in every part; with
    `customer`, whole customers are drawn, so that parts share none. The encoder is fitted on "validation_train" only;
    its medians are of at most 200,000 of these rows, drawn at random.

    Labels are int8: 0 is "genuine", 1 is "fraud". Which of the two values is fraud follows from `data.labels`. The
    provenance describes how the table was read and names columns that seem to number the rows.
    Each split's `extra` has "row" (int64, the position in the files), with `time` also "time" (seconds) and "day"
    (int32, whole days of 86,400 seconds since the first day) and with `customer` also "customer" (int64 codes).

    Args:
        paths: CSV and Parquet files, and folders of them.
        label: The column of the two classes.
        time: The column of times: numbers, dates as text (UTC if without a zone), or timestamps.
        customer: The column of customers.
        drop: Columns to leave out.
        seed: Draws the random order and the rows for the medians.
        work_folder: Where an unnamed file holds a matrix larger than `IN_MEMORY_BYTES`; by default, the system's
            temporary folder.
        encoding: Python's name of the encoding of CSV files; by default, UTF-8 or that of a byte order mark.
        skip_bad: Leave out unusable rows and count them, instead of raising.
        time_unit: The unit of numeric times, one of `data.values.UNITS`. By default, times since 1970 are recognised by
            their size, and others are seconds.
        fraud_values: Labels that are fraud; all others are genuine.

    Raises:
        BadInput: The table can't be used.
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
    arguments = (files, label, time, customer, drop, seed, work_folder, time_unit, fraud_values)
    as_text = [label] if customer is None else [label, customer]
    if not skip_bad:
        with contextlib.suppress(_Unprinted):
            return _load(_see(files, drop, as_text), *arguments, printed_only=True)
    return _load(_see(files, drop, as_text, thorough=True), *arguments, printed_only=False)


def _load(
    seen: _Seen,
    files: Tables,
    label: str,
    time: str | None,
    customer: str | None,
    drop: Sequence[str],
    seed: int,
    work_folder: Path | None,
    time_unit: str | None,
    fraud_values: Sequence[str],
    *,
    printed_only: bool,
) -> tuple[Dataset, Encoder]:
    kinds = seen.kinds
    roles = [name for name in (label, time, customer) if name is not None]
    inputs = {name: kind for name, kind in kinds.items() if name not in roles and kind != "empty"}

    time_column = _time_column(files, time, kinds[time], time_unit) if time is not None else None
    if files.skip_bad:
        _leave_out(files, inputs, label, time_column, customer)
    keys = _read_keys(files, label, time_column, customer, fraud_values=fraud_values, printed_only=printed_only)
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
                total = f"of all {len(order):,} rows {np.sum(keys.labels == code):,} are"
                raise BadInput(f"{describe(files)}: {found} ({total}), expected both classes in every part")

    columns, numbering = _fit(files, inputs, parts["training"], len(order), rng, printed_only) if inputs else ((), ())
    if not columns:
        uses = ", ".join([*roles, *drop])
        raise BadInput(f"{describe(files)}: no column except {uses} varies, expected one to learn from")
    encoder = Encoder(columns, keys.time)
    matrix = _encode(files, encoder, order, work_folder)
    labels = keys.labels[order]
    extra = {"row": files.kept_rows(len(order))[order]}
    if keys.times is not None:
        extra |= {"time": keys.times[order], "day": _days(keys.times[order])}
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

    understood = [
        keys.understood,
        *_understood_split(keys, order, (first, second), customer),
        *_understood_columns(seen, encoder, [*roles, *drop]),
        *([f"left out by --drop: {some(list(drop))}"] if drop else []),
        *numbering,
    ]
    provenance = Provenance.of_files(
        files.paths,
        name=escaped(files[0].name if len(files) == 1 else files[0].path.parent.name),
        source=describe(files),
        rows=len(order),
        units="as in the table",
        seed=seed,
        understood=(*files.understood, *understood),
    )
    return Dataset(splits, encoder.feature_names, CLASSES, provenance, (keys.genuine, keys.fraud)), encoder


def _understood_times(time: TimeColumn, times: np.ndarray) -> str:
    """A sentence on the range of the times."""
    unit = "" if time.unit is None else f" read as {time.unit}"
    unit += {"day-first time": ", the day first", "month-first time": ", the month first"}.get(time.kind, "")
    first, last = float(times.min()), float(times.max())
    span = f"from {_moment(time, first, first)} to {_moment(time, last, first)}"
    return f"{time.name}{unit}: {span}, {(last - first) / 86_400:,.1f} days"


def _moment(time: TimeColumn, seconds: float, first: float) -> str:
    """The date, or, if unknown, the days since the first time."""
    if time.kind in TIMES or first >= UNIX_YEARS:
        return str(np.datetime64(int(seconds), "s")).replace("T", " ")
    return f"day {(seconds - first) / 86_400:,.1f}"


def _understood_split(keys: "_Keys", order: np.ndarray, cuts: tuple[int, int], customer: str | None) -> Iterator[str]:
    first, second = cuts
    sizes = f"{first:,} training, {second - first:,} validation and {len(order) - second:,} test rows"
    if keys.time is None or keys.times is None:
        by = f"by {customer}, at random" if customer is not None else "in random order, with equal shares of fraud"
        yield f"split {by}: {sizes}"
        return
    times = keys.times[order]
    starts = [_moment(keys.time, times[cut], times[0]) for cut in cuts]
    yield _understood_times(keys.time, times)
    yield f"split by {keys.time.name}: {sizes}; validation begins {starts[0]}, test {starts[1]}"


def _understood_columns(seen: _Seen, encoder: Encoder, not_inputs: Sequence[str]) -> Iterator[str]:
    """Sentences on the kinds of the columns, and on their spellings."""
    inputs = {column.name: column for column in encoder.columns}
    hashed = [name for name, column in inputs.items() if column.kind == "category" and not column.vocabulary]
    numeric = [name for name, column in inputs.items() if column.kind in NUMBERS]
    lists = {
        "numbers": numeric,
        "times of day, in seconds": [name for name, column in inputs.items() if column.kind == CLOCK],
        "true or false": [name for name, column in inputs.items() if column.kind == "boolean"],
        "times, in seconds": [name for name, column in inputs.items() if column.kind in TIMES],
        "categories": [name for name, column in inputs.items() if column.vocabulary],
        f"categories of more than {VOCABULARY_SIZE} values, hashed to {HASH_BUCKETS} buckets": hashed,
    }
    found = [f"{what} ({len(names)}): {some(names)}" for what, names in lists.items() if names]
    yield f"read as {'; as '.join(found)}"
    spellings = {name: NUMBERS[inputs[name].kind] for name in numeric}
    spelled = {
        "with a decimal comma": [name for name, spelling in spellings.items() if spelling.decimal == COMMA],
        "with points between thousands": [n for n, s in spellings.items() if s.decimal == COMMA and s.grouped],
        "with commas between thousands": [n for n, s in spellings.items() if s.decimal == POINT and s.grouped],
        "in per cent": [name for name, spelling in spellings.items() if spelling.percent],
        "dates with the day first": [name for name, column in inputs.items() if column.kind == "day-first time"],
        "dates with the month first": [name for name, column in inputs.items() if column.kind == "month-first time"],
    }
    yield from (f"{what}: {some(names)}" for what, names in spelled.items() if names)
    for column in encoder.columns:
        if (look := seen.looks.get(column.name)) is None:
            continue
        if column.kind in NUMBERS and len(look.currencies) > 1:
            found = some([f"{name} {count:,} times" for name, count in look.currencies.most_common()])
            yield f"{column.name} holds several currencies, which are read as one: {found}"
        elif column.kind in NUMBERS and look.currencies:
            yield f"{column.name} is in {next(iter(look.currencies))}"
        if column.kind == "category" and look.counts["number"] >= 0.1 * look.counts["value"]:
            share = look.counts["number"] / look.counts["value"]
            word = look.first["other"][1]
            share = f"{100 * share:.0f}\u00a0%"
            yield f"{column.name} is a category: {share} of its values are numbers, but {reprlib.repr(word)} is not"
    marked: dict[str, list[str]] = {}
    for column in encoder.columns:
        if column.kind != "category" and (look := seen.looks.get(column.name)):
            for mark in look.unusual_marks:
                marked.setdefault(mark, []).append(column.name)
    if marked:
        found = [f"{mark!r} in {some(names)}" for mark, names in marked.items()]
        yield f"read as missing values: {some(found)}"
    known = {*inputs, *not_inputs}
    constant = [name for name in seen.kinds if name not in known]
    if constant:
        yield f"left out, as constant in training: {some(constant)}"


def _time_column(files: Tables, name: str, kind: str, unit: str | None) -> TimeColumn:
    if kind == CLOCK:
        found = f"column {name!r} holds times of day without dates"
        raise BadInput(f"{describe(files)}: {found}, expected dates, too (--time)")
    if kind not in (*NUMBERS, *TIMES):
        kind = "time"
    if unit is not None and kind in TIMES:
        raise BadInput(f"--time-unit {unit}: column {name!r} holds dates, expected numbers or no unit")
    return TimeColumn(name, kind, unit)


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
    time_unit: str | None = None,
    fraud_values: Sequence[str] = (),
) -> tuple[Split, tuple[str, ...]]:
    """Read all rows of a labelled table, in order, with a fitted encoder; and sentences on how it was read.

    See `load` for the columns; `label_values` are those of the `Dataset`, used if `fraud_values` are not given.

    Raises:
        BadInput: The table can't be used.
    """
    files = find_files(paths, encoding=encoding, skip_bad=skip_bad)
    label = label.strip()
    time, customer = (name and name.strip() for name in (time, customer))
    roles = {"--label": label, "--time": time, "--customer": customer}
    roles = {flag: name for flag, name in roles.items() if name is not None}
    for flag, name in roles.items():
        require(files[0], name, f" ({flag})")
    time_column = None
    if time is not None:
        if encoder.time is not None and encoder.time.name == time and time_unit is None:
            time_column = encoder.time
        else:
            kind = read_kinds(files, set(files[0].columns) - {time})[time]
            time_column = _time_column(files, time, kind, time_unit)
    if skip_bad:
        _leave_out(files, encoder.kinds, label, time_column, customer)
    keys = _read_keys(files, label, time_column, customer, label_values, fraud_values)
    understood = files.understood
    rows = np.arange(len(keys.labels))
    extra = {"row": files.kept_rows(len(rows))}
    if keys.time is not None and keys.times is not None:
        understood = (*understood, _understood_times(keys.time, keys.times))
        extra |= {"time": keys.times, "day": _days(keys.times)}
    if keys.customers is not None:
        extra["customer"] = keys.customers
    return Split(_encode(files, encoder, rows, None), keys.labels, extra), understood


def _leave_out(
    files: Tables, inputs: Mapping[str, str], label: str, time: TimeColumn | None, customer: str | None
) -> None:
    """Exclude rows with too many or too few fields, a value of another kind, or no label, time or customer."""

    def check(batch: Batch) -> None:
        for name, kind in inputs.items():
            if kind != "category":
                numbers(batch, name, kind)
        texts(batch, label, "a label")
        if time is not None:
            _times(batch, time)
        if customer is not None:
            texts(batch, customer, "a customer")

    leave_out(files, {*inputs, label, *([time.name] if time else []), *([customer] if customer else [])}, check)


def numbers(batch: Batch, name: str, kind: str, *, largest: float = LARGEST, printed_only: bool = False) -> np.ndarray:
    """Read a column as (rows,) float64, NaN where a value is missing; times are in seconds since 1970.

    Raises:
        BadInput: A value isn't of the kind, any but "category", or is beyond `largest`.
    """
    column = batch.rows.column(name)
    stored_kind = kind_of(batch.file, batch.rows.schema.field(name))
    # Text is parsed as in a CSV file, but a time is not a number, and a number may or may not be in per cent.
    if stored_kind not in ("category", "empty") and not fits(kind, stored_kind):
        raise BadInput(f"{batch.file}: column {name!r} holds a {stored_kind}, expected a {kind}")
    if stored_kind == "time":
        column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return column.to_numpy(zero_copy_only=False) / 1e6
    if stored_kind == "category":
        texts = _strings(batch, name)
        values, bad = printed(texts) if kind == "number" else None, np.zeros(len(batch), bool)
        if values is None:
            if printed_only and kind == "number":
                raise _Unprinted
            values, bad = parse(texts, kind)
    else:
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        bad = np.zeros(len(batch), bool)
    large = np.abs(values) > largest
    expected = expected_of(kind)
    if not bad.any() and large.any() and np.isfinite(values[np.argmax(large)]):
        expected += f"; if the column identifies rows, leave it out with --drop {name!r}"
    reject(batch, name, bad | large, expected)
    return values


def _times(batch: Batch, time: TimeColumn, *, printed_only: bool = False) -> np.ndarray:
    """Read the times of a batch in their own unit, (rows,) float64; a row without one is rejected."""
    times = numbers(batch, time.name, time.kind, largest=np.inf, printed_only=printed_only)
    reject(batch, time.name, np.isinf(times), expected_of(time.kind))
    reject(batch, time.name, np.isnan(times), "a time in every row")
    return times


def _strings(batch: Batch, name: str) -> pa.StringArray:
    column = batch.rows.column(name)
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _texts(batch: Batch, name: str) -> pa.StringArray:
    """Read a column as text, null where a value is missing."""
    texts = _strings(batch, name)
    return pc.if_else(pc.is_in(texts, pa.array(USUAL_MARKS)), None, texts)


def _numbered(files: Tables, columns: Collection[str]) -> Iterator[tuple[slice, Batch]]:
    """Stream batches with the positions of their rows among those of all files."""
    start = 0
    for batch in stream(files, columns):
        yield slice(start, start + len(batch)), batch
        start += len(batch)


@dataclasses.dataclass(frozen=True)
class _Keys:
    """The columns that order and split the rows: each (rows,), in the order of the files."""

    labels: np.ndarray
    genuine: str
    fraud: str
    understood: str
    time: TimeColumn | None
    times: np.ndarray | None
    customers: np.ndarray | None


def _read_keys(
    files: Tables,
    label: str,
    time: TimeColumn | None,
    customer: str | None,
    label_values: Sequence[str] = (),
    fraud_values: Sequence[str] = (),
    *,
    printed_only: bool = False,
) -> _Keys:
    columns = [label, *([time.name] if time else []), *([customer] if customer else [])]
    fraud_keys = {label_key(value) for value in fraud_values}
    known = {label_key(value): value for value in label_values} if not fraud_keys else {}
    codes = {key: code for code, key in enumerate(known)}
    spelled = list(known.values())
    code_parts: list[np.ndarray] = []
    times: list[np.ndarray] = []
    customers: list[pa.StringArray] = []
    for batch in stream(files, columns):
        encoded = texts(batch, label, "a label").dictionary_encode()
        rows = encoded.indices.to_numpy()
        spellings = encoded.dictionary.to_pylist()
        keys = [label_key(text) for text in spellings]
        for index, key in enumerate(keys):
            if key not in codes:
                spelled.append(key if key in ("0", "1") else spellings[index].strip())
            code = codes.setdefault(key, len(codes))
            if not fraud_keys and code > 1:
                expected = "one of two classes, as {} and {} before".format(*map(reprlib.repr, spelled))
                reject(batch, label, rows == index, f"{expected}, or --fraud-value to say which are fraud")
            if code >= MOST_LABELS:
                reject(batch, label, rows == index, f"at most {MOST_LABELS:,} different labels")
        code_parts.append(np.array([codes[key] for key in keys], np.int16)[rows])
        if time is not None:
            times.append(_times(batch, time, printed_only=printed_only))
        if customer is not None:
            customers.append(texts(batch, customer, "a customer"))

    label_codes = np.concatenate(code_parts)
    amounts = np.bincount(label_codes, minlength=len(spelled)).tolist()
    counts = dict(zip(spelled, amounts, strict=True))
    genuine, fraud = _classes(files, label, counts, fraud_values, len(known) > 0)
    is_fraud = np.array([name in fraud for name in spelled])
    labels = is_fraud[label_codes].astype(np.int8)
    frauds = int(labels.sum())
    others = some([name for name in counts if name not in fraud])
    understood = (
        f"label {label}: {some(fraud)} is fraud, {frauds:,} of {len(labels):,} rows "
        f"({100 * frauds / len(labels):.2f}\u00a0%); {others} is genuine"
    )
    seconds, time = _seconds(files, time, np.concatenate(times)) if time else (None, None)
    customer_codes = None
    if customer is not None:
        chunks = pa.chunked_array(customers).dictionary_encode().chunks
        customer_codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
    return _Keys(labels, genuine, " or ".join(fraud), understood, time, seconds, customer_codes)


def _classes(
    files: Tables, label: str, counts: Mapping[str, int], fraud_values: Sequence[str], known: bool
) -> tuple[str, list[str]]:
    """The spelling of genuine, and the labels that are fraud, given the counts of all labels."""
    place = f"{describe(files)}: column {label!r}"
    names = [name for name, count in counts.items() if count]
    for value in fraud_values:
        if label_key(value) not in {label_key(name) for name in names}:
            raise BadInput(f"{place} has no {value!r} (--fraud-value), expected one of its labels: {some(names)}")
    if len(names) < 2:
        raise BadInput(f"{place} holds only {reprlib.repr(names[0])}, expected two classes")
    if fraud_values:
        fraud_keys = {label_key(value) for value in fraud_values}
        fraud = [name for name in names if label_key(name) in fraud_keys]
        others = [name for name in names if name not in fraud]
        if not others:
            raise BadInput(f"{place} holds only {some(fraud)} (--fraud-value), expected other labels too")
        return others[0] if len(others) == 1 else "any other", fraud
    if known:
        genuine, fraud_name = counts
        return genuine, [fraud_name]
    fraud_key = which_is_fraud({label_key(name): count for name, count in counts.items()})
    if fraud_key is None:
        held = " and ".join(f"{reprlib.repr(name)} {count:,} times" for name, count in counts.items())
        raise BadInput(f"{place} holds {held}, expected it to be clear which is fraud: name it with --fraud-value")
    genuine, fraud_name = sorted(counts, key=lambda name: label_key(name) == fraud_key)
    return genuine, [fraud_name]


def _seconds(files: Tables, time: TimeColumn, times: np.ndarray) -> tuple[np.ndarray, TimeColumn]:
    """Convert the times to seconds, and complete the unit of the time column."""
    place = f"{describe(files)}: column {time.name!r}"
    if time.kind in TIMES:
        seconds, unit = times, None
    else:
        unit = time.unit or guess_unit(times) or "seconds"
        seconds = in_seconds(times, unit)
        if np.isnan(seconds).any():
            raise BadInput(f"{place} holds {times[np.isnan(seconds)][0]:.0f}, expected a time as {unit}")
    days = np.ptp(seconds) / 86_400
    remedy = f"give its unit with --time-unit {', '.join(UNITS)}"
    counted = f"from {times.min():.15g} to {times.max():.15g}"
    if days > LONGEST_DAYS:
        as_read = f"runs {counted}; as {unit} that" if unit else "holds times; that"
        found = f"{as_read} is {days:,.0f} days, expected at most {LONGEST_DAYS:,}"
        raise BadInput(f"{place} {found}{f'; {remedy}' if unit else ''}")
    if time.unit is None and unit == "seconds" and days < 1 and seconds.min() < UNIX_YEARS:
        raise BadInput(f"{place} runs {counted}; as seconds that is {days * 24:.2g} hours, expected days; {remedy}")
    return seconds, dataclasses.replace(time, unit=unit)


def texts(batch: Batch, name: str, expected: str) -> pa.StringArray:
    """Read a column as text; a row without a value is rejected, with the `expected` value named."""
    column = _texts(batch, name)
    reject(batch, name, column.is_null().to_numpy(zero_copy_only=False), f"{expected} in every row")
    return column


def _order(keys: _Keys, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Order the rows, and choose where validation and test begin."""
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
        # A group that crosses the boundary goes to the side that has more of it.
        start, stop = np.searchsorted(groups, groups[cut], "left"), np.searchsorted(groups, groups[cut], "right")
        cuts.append(int(start if cut - start <= stop - cut else stop))
    if keys.times is None:
        for part in np.split(order, cuts):
            rng.shuffle(part)
    return order, cuts


def _mix(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an order in which the members of each of the classes 0 and 1 are evenly spaced."""
    shuffled = rng.permutation(len(classes))
    ranks = np.empty(len(classes))
    for code in (0, 1):
        members = shuffled[classes[shuffled] == code]
        ranks[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.argsort(ranks, kind="stable")


def _days(times: np.ndarray) -> np.ndarray:
    days = np.floor(times / 86_400)
    return (days - days.min()).astype(np.int32)


class _Identity:
    """Whether all values of a column differ: it's a row number or a key."""

    def __init__(self) -> None:
        self.differs = True
        self.rises = True
        self.last = -np.inf
        self.rows = 0
        self.kept: list[Any] = []

    def add(self, values: np.ndarray | pa.StringArray) -> None:
        """Take in the next rows: numbers, or text."""
        if not self.differs:
            return
        if isinstance(values, np.ndarray):
            self.differs = bool(np.all(values == np.floor(values)))  # a missing value isn't equal to itself
            self.rises &= self.differs and values[0] > self.last and bool(np.all(np.diff(values) > 0))
            self.last = values[-1]
            self.differs &= self.rises or len(np.unique(values)) == len(values)
        else:
            self.rises = False
            self.differs = values.null_count == 0 and len(values.unique()) == len(values)
        if self.rows < ROWS_COMPARED:
            self.kept.append(pa.array(values))
        self.rows += len(values)

    def note(self, name: str) -> str | None:
        """A sentence on the column, if so."""
        remedy = f"as an input it may be memorised; leave it out with --drop {name!r}"
        if self.differs and self.rises:
            return f"{name} rises from row to row, like a row number: {remedy}"
        if not self.differs or self.rows < ROWS_TO_TELL:
            return None
        kept = pa.chunked_array(self.kept)
        return f"{name} has a different value in every row: {remedy}" if len(kept.unique()) == len(kept) else None


def _fit(
    files: Tables,
    kinds: Mapping[str, str],
    training: np.ndarray,
    rows: int,
    rng: np.random.Generator,
    printed_only: bool,
) -> tuple[tuple[Column, ...], list[str]]:
    """Fit the columns on the rows at the positions `training`, and describe columns that only number the rows."""
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
    identities = {name: _Identity() for name, kind in kinds.items() if kind in NUMBERS or kind == "category"}
    for here, batch in _numbered(files, kinds):
        chosen = is_training[here]
        block = np.empty((len(batch), len(names)), np.float32)
        for index, name in enumerate(names):
            column = numbers(batch, name, kinds[name], printed_only=printed_only)
            block[:, index] = column
            if name in identities:
                identities[name].add(column)
        sample.append(block[is_sampled[here]])
        block = block[chosen]
        lowest = np.fmin(lowest, np.fmin.reduce(block, axis=0, initial=np.inf))
        highest = np.fmax(highest, np.fmax.reduce(block, axis=0, initial=-np.inf))
        absent |= np.isnan(block).any(axis=0)
        for name, vocabulary in vocabularies.items():
            texts = _texts(batch, name)
            identities[name].add(texts)
            texts = texts.filter(pa.array(chosen))
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
                # If values are so rare that the sample has none, any value of the column will do.
                fill = float(np.median(present)) if len(present) else float(low)
                columns.append(Column(name, kind, bool(missing), fill, varies=bool(low < high)))
    notes = [identities[column.name].note(column.name) for column in columns if column.name in identities]
    return tuple(columns), [note for note in notes if note]


def _encode(files: Tables, encoder: Encoder, order: np.ndarray, folder: Path | None) -> np.ndarray:
    """Encode all rows in the given order: (rows, features) float32, memory-mapped if it's large."""
    positions = np.empty(len(order), np.int64)
    positions[order] = np.arange(len(order))
    shape = (len(order), len(encoder.feature_names))
    size = shape[0] * shape[1] * 4
    if size <= IN_MEMORY_BYTES:
        matrix = np.empty(shape, np.float32)
        for rows, batch in _numbered(files, encoder.kinds):
            matrix[positions[rows]] = encoder.encode(batch)
        return matrix
    folder = folder or Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    # Writing to a mapped file on a full disk would kill the program without a message.
    if (free := shutil.disk_usage(folder).free) < size:
        raise BadInput(f"{folder}: {free / 1e9:.1f} GB are free, expected {size / 1e9:.1f} GB for the encoded table")
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        for rows, batch in _numbered(files, encoder.kinds):
            # A new mapping for each batch, as all pages of a mapping stay in memory.
            np.memmap(file, np.float32, "r+", shape=shape)[positions[rows]] = encoder.encode(batch)
        return np.memmap(file, np.float32, "r+", shape=shape)

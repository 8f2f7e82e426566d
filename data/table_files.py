"""Files of tables, CSV or Parquet: found, opened, and streamed in bounded memory.

What the values mean is no matter of this module: the columns of a CSV come as text, those of a Parquet file as typed.
"""

import csv
import dataclasses
import difflib
import hashlib
import io
import itertools
import re
import reprlib
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from data.dataset import BadInput

PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (".csv", ".gz", ".bz2", ".zst", *PARQUET_SUFFIXES)
BLOCK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Batch:
    """Consecutive rows of one file; `first_row` counts the rows of the file before them."""

    file: Path
    first_row: int
    rows: pa.RecordBatch

    def __len__(self) -> int:
        return self.rows.num_rows

    def place(self, index: int) -> str:
        """Name the row at `index` of this batch as the user finds it: the line of a CSV, the row of a Parquet."""
        row = self.first_row + index
        if is_parquet(self.file):
            return f"{self.file}: row {row + 1}"
        # Blank lines and line ends inside quotes make lines differ from rows, so the file is walked up to the row.
        line, _ = next(itertools.islice(_walk(self.file), row + 1, None))
        return f"{self.file}: line {line}"


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the tables at `paths`, with each folder replaced by the CSV and Parquet files in it, in order of name.

    Raises:
        BadInput: A path is missing, or isn't a CSV or Parquet file by its name, or is given twice; a folder holds no
            table; a file is empty.
    """
    files: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(f for f in path.iterdir() if f.name.endswith(SUFFIXES) and f.name[0] not in "._")
            if not found:
                raise BadInput(f"{path}: no table in this folder, expected files that end in {', '.join(SUFFIXES)}")
        files += found
    if not files:
        raise BadInput("no file was given, expected a CSV or Parquet file, or a folder of them")
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file}: no such file, expected a CSV or Parquet file, or a folder of them")
        if not file.name.endswith(SUFFIXES):
            raise BadInput(f"{file}: unknown kind of file, expected a name that ends in {', '.join(SUFFIXES)}")
        if file.stat().st_size == 0:
            raise BadInput(f"{file}: the file is empty, expected a table")
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise BadInput(f"{twice}: given twice, expected each file once")
    return files


def stream(files: Sequence[Path], columns: Collection[str], *, rows_per_batch: int = 65_536) -> Iterator[Batch]:
    """Read some columns in bounded memory, in order, in batches of at most `rows_per_batch` rows.

    The columns of a CSV are text, null where a field is empty. Those of a Parquet file are text, numbers, booleans,
    times, or null where the file has no value of the column.

    Raises:
        BadInput: A file can't be read, has no rows or lacks a column, or a column of a Parquet file is of another type;
            a row of a CSV has too many or too few fields.
    """
    for file in files:
        names = column_names(file)
        for name in columns:
            require(file, names, name)
        row = 0
        for rows in (_parquet_batches if is_parquet(file) else _csv_batches)(file, list(columns)):
            for start in range(0, rows.num_rows, rows_per_batch):
                yield Batch(file, row + start, rows.slice(start, rows_per_batch))
            row += rows.num_rows
        if row == 0:
            raise _no_rows(file)


def describe(files: Sequence[Path]) -> str:
    """Name the files in a few words."""
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def sha256(files: Sequence[Path]) -> str:
    """Hash the bytes of all files, in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def reject(batch: Batch, name: str, bad: np.ndarray, expected: str) -> None:
    """Raise BadInput for the first row of the batch where `bad`, (rows,), is true, if any."""
    if bad.any():
        index = int(np.argmax(bad))
        value = batch.rows.column(name)[index].as_py()
        found = "is empty" if value is None else f"holds {reprlib.repr(value)}"
        raise BadInput(f"{batch.place(index)}, column {name!r} {found}, expected {expected}")


def column_names(file: Path) -> list[str]:
    """Read the names of a file's columns."""
    if is_parquet(file):
        try:
            names = pa.parquet.read_schema(file).names
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from None
    else:
        _, names = next(_walk(file), (0, []))
        if not names:
            raise BadInput(f"{file}: no line but blank ones, expected a header with the names of the columns")
        if len(names) == 1 and (other := re.search(r"[;\t|]", names[0])):
            raise BadInput(
                f"{file}: line 1 has one column, expected commas between them: is the delimiter {other[0]!r}?"
            )
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"{file}: two columns are named {twice[0]!r}, expected each name once")
    return names


def is_parquet(file: Path) -> bool:
    """Tell by its name whether a file is Parquet."""
    return file.name.endswith(PARQUET_SUFFIXES)


def _damaged(file: Path, error: Exception) -> BadInput:
    kind = "Parquet" if is_parquet(file) else "CSV"
    return BadInput(f"{file}: can't be read ({str(error).splitlines()[0]}), expected a whole {kind} file")


def _no_rows(file: Path) -> BadInput:
    return BadInput(f"{file}: no rows, expected some after the names of the columns")


def require(file: Path, columns: Sequence[str], name: str, flag: str = "") -> None:
    """Raise BadInput where a file lacks a column, which `flag` named; a column of a similar name is proposed."""
    if name in columns:
        return
    names = {column.lower(): column for column in columns}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"is it {names[close[0]]!r}?" if close else f"it has {textwrap.shorten(', '.join(columns), 200)}"
    raise BadInput(f"{file}: no column {name!r}{flag}, expected it in the table: {hint}")


def _walk(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV slowly, with the number of the line where each row begins: for its header and for error messages."""

    def lines() -> Iterator[str]:
        with pa.input_stream(file, compression="detect") as stream:
            for number, line in enumerate(io.BufferedReader(stream), start=1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    found = f"the byte 0x{line[error.start]:02x} isn't UTF-8"
                    raise BadInput(f"{file}: line {number}: {found}, expected a table in UTF-8") from None

    reader = csv.reader(lines())
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        expected = "a shorter field; is a quotation mark left open?"
        raise BadInput(f"{file}: line {line}: {error}, expected {expected}") from None
    except OSError as error:
        raise _damaged(file, error) from None


def _csv_batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of a CSV as text, block by block."""
    try:
        with pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=columns,
                null_values=[""],
                strings_can_be_null=True,
            ),
        ) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise _explain(file, error) from None
    except OSError as error:
        raise _damaged(file, error) from None


def _explain(file: Path, error: pa.ArrowInvalid) -> BadInput:
    """Find the line of the error that the fast reader only describes."""
    header: list[str] = []
    line = 0
    for line, fields in _walk(file):
        header = header or fields
        if len(fields) != len(header):
            return BadInput(f"{file}: line {line} has {len(fields)} fields, expected {len(header)} as in the header")
    return _damaged(file, error) if line > 1 else _no_rows(file)


def parquet_kinds(file: Path, columns: Sequence[str]) -> dict[str, str]:
    """Find what columns of a Parquet file hold: "number", "boolean", "time", "category", or "empty".

    Raises:
        BadInput: A column is of another type.
    """
    schema = pa.parquet.read_schema(file)
    return {name: kind_of(file, schema.field(name)) for name in columns}


def kind_of(file: Path, field: pa.Field) -> str:
    """Find what a column of a file holds by its type; text is a "category".

    Raises:
        BadInput: The column is of another type.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    tests = {
        "empty": pa.types.is_null,
        "boolean": pa.types.is_boolean,
        "number": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "time": lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind),
        "category": lambda kind: kind in (pa.string(), pa.large_string(), pa.string_view()),
    }
    for name, test in tests.items():
        if test(kind):
            return name
    expected = "numbers, booleans, text or timestamps; leave it out with --drop"
    raise BadInput(f"{file}: column {field.name!r} is of type {field.type}, expected {expected}")


def _parquet_batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    parquet_kinds(file, columns)
    try:
        with pa.parquet.ParquetFile(file) as table:
            for rows in table.iter_batches(columns=columns):
                yield rows.select(columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None

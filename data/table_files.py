"""Find, open and stream tables, CSV or Parquet, in bounded memory.

This module doesn't interpret values: the columns of a CSV are text, those of a Parquet file have its types. Unlike
`pyarrow.dataset`, it reads zip archives and xz, limits the size of decompressed files, and tracks row numbers, so that
messages can name a bad row. pyarrow's readers of CSV and Parquet read one file at a time.
"""

import codecs
import collections
import contextlib
import csv
import dataclasses
import difflib
import functools
import io
import itertools
import lzma
import re
import reprlib
import shlex
import shutil
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from data.dataset import BadInput, escaped, listed

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".psv")
# Files with these suffixes are tables if they are given by name, or if a folder has no others.
LOOSE_SUFFIXES = (".txt", ".dat", ".data")
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}
MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PAR1": "parquet",
}
FOREIGN = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook",
    b"ARROW1": "an Arrow file",
    b"ORC": "an ORC file",
    b"SQLite format 3": "a SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF",
}
SUFFIXES = (*TEXT_SUFFIXES, ".zip", *COMPRESSIONS, *PARQUET_SUFFIXES)
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DELIMITERS = {",": "a comma", ";": "';'", "\t": "a tab", "|": "'|'"}
RARE_DELIMITERS = {sign: repr(sign) for sign in "\x01\x1f\x1e^~#&!*:"} | {" ": "a space"}

BLOCK_BYTES = 2**20
# Also the longest row. The fast reader is up to 32 blocks ahead.
LONGEST_BLOCK = 2**23
ROWS_PER_BLOCK = 64
# Blocks of wide tables have few rows; smaller batches are joined, as each has a cost per column.
FEW_ROWS = 1_024
BATCH_VALUES = 2**22
# The largest size of a decompressed file: these bytes, or this many times its compressed size.
FREE_BYTES = 2**28
LARGEST_RATIO = 200
# The most rows of a Parquet file per byte: a column that varies has at least one bit per row.
ROWS_PER_BYTE = 1_000
XZ_MEMORY = 2**28
EXAMPLES = 3  # of rows left out
MANY_RAGGED = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class TableFile:
    """One table, a file or a member of a zip archive, with its columns in order.

    Column names are stripped of blanks. `delimiter` is "" for Parquet.
    """

    path: Path
    member: str
    compression: str
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    delimiter: str = ""
    start: int = 0
    """Bytes of the text, as UTF-8, before the header."""
    start_line: int = 1
    """The line of the header."""
    block_bytes: int = BLOCK_BYTES
    is_empty: bool = False
    """Whether it has no rows."""
    seems_utf8: bool = False
    """Whether it is read in another encoding, but its characters beyond ASCII are valid UTF-8."""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """The file name without folders."""
        return PurePath(self.member).name if self.member else self.path.name

    @property
    def is_parquet(self) -> bool:
        """Whether it is a Parquet file."""
        return self.compression == "parquet"

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are the text itself."""
        return not self.compression and self.encoding == "utf-8" and not self.start

    @functools.cached_property
    def positions(self) -> dict[str, list[int]]:
        """The positions of columns by name; two columns may have the same name."""
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(self.columns):
            positions.setdefault(name, []).append(position)
        return positions


@dataclasses.dataclass(eq=False)
class Tables(Sequence[TableFile]):
    """Several tables, read as one.

    `understood` has sentences on how they are read and what was skipped. With `skip_bad`, unusable rows are left out:
    `left_out` has their numbers, by the index of their file, `bad` marks them among all rows, (rows,), and `examples`
    gives the reasons for a few.
    """

    files: tuple[TableFile, ...]
    understood: tuple[str, ...] = ()
    skip_bad: bool = False
    left_out: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    bad: np.ndarray | None = None
    examples: list[str] = dataclasses.field(default_factory=list)

    def __getitem__(self, index: Any) -> Any:
        return self.files[index]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> list[Path]:
        """The files on disk, each once."""
        return list(dict.fromkeys(file.path for file in self.files))

    def kept_rows(self, count: int) -> np.ndarray:
        """The positions, (rows,), among all rows, from 0, of the `count` rows that are kept."""
        return np.arange(count) if self.bad is None else np.flatnonzero(~self.bad)

    def describe_bad(self, count: int, rows: int) -> str:
        """Say how many rows are left out, with examples."""
        return f"{count:,} of {rows:,} rows can't be used and are left out: {'; '.join(self.examples)}" + (
            "; ..." if count > len(self.examples) else ""
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one file and their `numbers` in it, (rows,), from 0.

    If unusable rows are to be left out, `bad`, (rows,), marks them, and `examples` gives reasons; if it is None, such a
    row is an error.
    """

    file: TableFile
    numbers: np.ndarray
    rows: pa.RecordBatch
    bad: np.ndarray | None = None
    examples: list[str] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return self.rows.num_rows


# --- Finding ---


def find_files(paths: Sequence[Path], *, encoding: str | None = None, skip_bad: bool = False) -> Tables:
    """Find the tables at `paths`, and detect how to read each.

    A folder or zip archive stands for the tables in it, sorted by name; sub-folders are skipped. Tables without rows
    are skipped if there are others. A CSV's delimiter is detected from its first rows; its encoding is UTF-8 unless a
    byte order mark says otherwise.

    Args:
        paths: CSV and Parquet files, also compressed; folders; zip archives.
        encoding: Python's name of the encoding of CSV files.
        skip_bad: whether to leave out unusable rows instead of raising.

    Raises:
        BadInput: A path is missing, doesn't have the name of a table, or is given twice; a folder has no table; a file
            can't be read, is empty, or has no header; the encoding is unknown.
    """
    if encoding is not None:
        encoding = _known_encoding(encoding)
    chosen: list[Path] = []
    understood: list[str] = []
    for path in paths:
        if _exists(path) and path.is_dir():
            inside, ignored = _of_folder(path)
            chosen += inside
            if ignored:
                understood.append(f"not read in {escaped(path.name)}/: {some(ignored)}")
        else:
            chosen.append(path)
    if not chosen:
        raise BadInput("no file was given, expected a CSV or Parquet file, or a folder of them")
    for path in chosen:
        if not _exists(path):
            raise BadInput(f"{path}: no such file, expected a CSV or Parquet file, or a folder of them")
        if not _is_table(path.name, loose=True):
            raise BadInput(f"{path}: unknown kind of file, expected a name that ends in {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise BadInput(f"{path}: found something that isn't a file, expected a CSV or Parquet file")
    if twice := _twice(chosen) or _twice([path.resolve() for path in chosen]):
        raise BadInput(f"{twice}: given twice, expected each file once")

    files: list[TableFile] = []
    empty: list[TableFile] = []
    for path in chosen:
        members, ignored = _members(path)
        if ignored:
            understood.append(f"not read in {escaped(path.name)}: {some(ignored)}")
        for member in members:
            file = _opened(member, encoding, may_be_empty=len(chosen) + len(members) > 2)
            (empty if file.is_empty else files).append(file)
    if not files:
        raise _no_rows(empty[0])
    for path in dict.fromkeys(file.path for file in files if file.member):
        understood.append(f"read in {escaped(path.name)}: {some([file.member for file in files if file.path == path])}")
    if empty:
        understood.append(f"skipped, as they have no rows: {some([file.name for file in empty])}")
    for delimiter, spelled in (DELIMITERS | RARE_DELIMITERS).items():
        if delimiter != "," and (those := [file.name for file in files if file.delimiter == delimiter]):
            understood.append(f"{spelled} separates the fields of {some(those)}")
    for name in sorted({file.encoding for file in files} - {"utf-8"}):
        understood.append(f"{name} is the encoding of {some([file.name for file in files if file.encoding == name])}")
    if those := [file.name for file in files if file.seems_utf8]:
        understood.append(f"{some(those)} may be UTF-8 after all, judging by the bytes")
    return Tables(tuple(files), tuple(understood), skip_bad)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # such as a name that is too long, or a folder without permission
        raise BadInput(f"{path}: can't be read ({error.strerror}), expected a CSV or Parquet file") from None


def some(names: Sequence[str], most: int = 8) -> str:
    """List at most `most` names; control characters are escaped."""
    cut = [escaped(textwrap.shorten(name, 60, placeholder="...") or "(no name)") for name in names[:most]]
    return listed([*cut, *names[most:]], most, longest=1_000)


def _twice(values: Iterable[Any]) -> Any:
    """The first value that occurs more than once, or None."""
    counts = collections.Counter(values)
    return next((value for value, count in counts.items() if count > 1), None)


def _known_encoding(encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
        if not getattr(codec, "_is_text_encoding", True) or codec.name in ("idna", "punycode", "undefined"):
            raise LookupError
    except (LookupError, ValueError):
        expected = "one that Python knows, such as latin-1, cp1252 or utf-16"
        raise BadInput(f"--encoding: found {encoding!r}, expected {expected}") from None
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def _is_table(name: str, *, loose: bool = False) -> bool:
    """Whether a file may be a table, by its name."""
    path = PurePath(name.lower())
    compressed = path.suffix in COMPRESSIONS
    inner = PurePath(path.stem).suffix if compressed else path.suffix
    if inner in (*TEXT_SUFFIXES, *PARQUET_SUFFIXES) or (inner == ".zip" and not compressed):
        return True
    # Hadoop's files have no suffix.
    return (inner == "" and (compressed or path.name.startswith("part-"))) or (loose and inner in LOOSE_SUFFIXES)


def _choose(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the names in a folder or an archive into tables and others worth mentioning."""
    shown = [name for name in names if PurePath(name).name[:1] not in ("", ".", "_") and "__MACOSX" not in name]
    tables = [name for name in shown if _is_table(name)] or [name for name in shown if _is_table(name, loose=True)]
    chosen = set(tables)
    silent = ("_SUCCESS", ".DS_Store")
    others = [n for n in names if n not in chosen and PurePath(n).name not in silent and not n.lower().endswith(".crc")]
    return tables, others


def _of_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The tables of a folder, and the names of everything else."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder}: can't be read ({error.strerror}), expected a folder of tables") from None
    inner = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    tables, others = _choose([entry.name for entry in entries if not entry.is_dir()])
    if not tables:
        found = f"; it has {some([*inner, *others])}" if inner or others else ""
        raise BadInput(f"{folder}: no table in this folder{found}; expected files that end in {', '.join(SUFFIXES)}")
    return [folder / name for name in tables], [*inner, *others]


def _members(path: Path) -> tuple[list[TableFile], list[str]]:
    """The tables of a file: itself, or those of a zip archive, and the names of everything else in the archive."""
    with _reading(path):
        with path.open("rb") as stream:
            head = stream.read(16)
        if not head:
            return [TableFile(path, "", "", is_empty=True)], []
        kind = _kind(head)
        if foreign := next((foreign for magic, foreign in FOREIGN.items() if head.startswith(magic)), ""):
            raise BadInput(f"{path}: found {foreign}, expected a table as CSV or Parquet")
        if kind != "zip":
            return [TableFile(path, "", "parquet" if path.name.lower().endswith(PARQUET_SUFFIXES) else kind)], []
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    if any(name.startswith("xl/") for name in entries):
        raise BadInput(f"{path}: found an Excel workbook, expected a table as CSV or Parquet")
    names, others = _choose(list(entries))
    if not names:
        found = f"; it has {some(others)}" if others else ""
        raise BadInput(f"{path}: no table in this archive{found}; expected files that end in .csv or .parquet")
    for name in names:
        if entries[name].flag_bits & 1:
            raise BadInput(f"{path}/{name}: is encrypted, expected an archive that needs no password")
        _within_budget(f"{path}/{name}", entries[name].file_size, entries[name].compress_size)
    kinds = {name: "parquet" if name.lower().endswith(PARQUET_SUFFIXES) else "zip" for name in sorted(names)}
    return [TableFile(path, name, kind) for name, kind in kinds.items()], others


def _kind(head: bytes) -> str:
    """The kind of a binary file, by its first bytes."""
    return next((kind for magic, kind in MAGICS.items() if head.startswith(magic)), "")


def _opened(file: TableFile, encoding: str | None, may_be_empty: bool) -> TableFile:
    """Detect how to read a file, and its columns."""
    if file.is_empty:
        if may_be_empty:
            return file
        raise BadInput(f"{file}: the file is empty, expected a table")
    if file.is_parquet:
        with _parquet(file) as table:
            names, rows = table.schema_arrow.names, table.metadata.num_rows
        most = ROWS_PER_BYTE * file.path.stat().st_size
        if rows > most:
            raise BadInput(f"{file}: claims to have {rows:,} rows, expected at most {most:,} in a file of its size")
        if rows == 0 and not may_be_empty:
            raise _no_rows(file)
        return dataclasses.replace(file, columns=tuple(name.strip() for name in names), is_empty=rows == 0)

    head = next(_decompressed(file), b"")
    inner = "tar" if head[257:262] == b"ustar" else _kind(head)
    if inner:
        raise BadInput(f"{file}: found a {inner} file in it, expected a table; unpack it first")
    encoding = _encoding(head, encoding)
    file = dataclasses.replace(file, encoding=encoding, seems_utf8=encoding != "utf-8" and _seems_utf8(head))
    # Skip blank lines at the start, then read enough for the first rows.
    start, line, head = 0, 1, b""
    for block in _utf8(file):
        head += block
        blank = head[: len(head) - len(head.lstrip(b" \r\n"))]
        end = max(blank.rfind(b"\n"), blank.rfind(b"\r")) + 1
        start, line, head = start + end, line + _line_ends(blank[:end]), head[end:]
        if start > FREE_BYTES or len(head) > LONGEST_BLOCK or (len(head) >= BLOCK_BYTES and _line_ends(head) > 2):
            break
    if not head.strip():
        if may_be_empty:
            return dataclasses.replace(file, is_empty=True)
        raise BadInput(f"{file}: only blank lines, expected a header with the names of the columns")
    delimiter = ""
    if stated := re.match(rb"sep=(.)\r?\n", head):  # a hint for spreadsheets
        delimiter, start, line = stated[1].decode("latin-1"), start + stated.end(), line + 1
        head = head[stated.end() :]
    text = head.decode("utf-8", "replace")
    file = dataclasses.replace(file, delimiter=delimiter or _delimiter(text), start=start, start_line=line)
    rows = _walk(file)
    _, names = next(rows, (0, []))
    is_empty = next(rows, None) is None
    if is_empty and not may_be_empty:
        raise _no_rows(file)
    row_bytes = len(head) // max(_line_ends(head), 1)
    block_bytes = min(max(BLOCK_BYTES, row_bytes * ROWS_PER_BLOCK), LONGEST_BLOCK)
    columns = tuple(name.strip() for name in names)
    return dataclasses.replace(file, columns=columns, block_bytes=block_bytes, is_empty=is_empty)


def _line_ends(text: bytes | str) -> int:
    if isinstance(text, str):
        return text.count("\n") + text.count("\r") - text.count("\r\n")
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _seems_utf8(head: bytes) -> bool:
    """Whether a text, which may be cut, has characters beyond ASCII and is valid UTF-8."""
    try:
        return not codecs.getincrementaldecoder("utf-8")().decode(head).isascii()
    except UnicodeDecodeError:
        return False


def _encoding(head: bytes, encoding: str | None) -> str:
    """The encoding by a byte order mark, else by the user's setting, else by the zeros of UTF-16."""
    if marked := next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None):
        return marked
    if encoding in (None, "utf-16"):
        even, odd = head[:4096:2].count(0), head[1:4096:2].count(0)
        if max(even, odd) > min(len(head), 4096) * 0.3:
            return "utf-16-le" if odd > even else "utf-16-be"
    return encoding or "utf-8"


def _delimiter(text: str) -> str:
    """Detect the delimiter: the one that splits the header and most rows into the same number of fields."""
    fallback = ""
    for candidates in (DELIMITERS, RARE_DELIMITERS):
        best = (0.0, 0, "")
        for delimiter in candidates:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            try:
                counts = [len(row) for row in itertools.islice((row for row in reader if row), 100)]
            except csv.Error:
                continue
            # The last row may be cut.
            rest = counts[1:-1] or counts[1:]
            if counts[0] > 1:
                agreeing = sum(count == counts[0] for count in rest) / len(rest) if rest else 1.0
                best = max(best, (round(agreeing, 1), counts[0], delimiter), key=lambda found: found[:2])
        if best[0] >= 0.5:
            return best[2]
        fallback = fallback or best[2]
    return fallback or ","


# --- Bytes ---


@contextlib.contextmanager
def _reading(file: TableFile | Path) -> Iterator[None]:
    """Turn errors in a file's bytes into BadInput."""
    damaged = (OSError, EOFError, UnicodeError, zlib.error, lzma.LZMAError, pa.ArrowException, zipfile.BadZipFile)
    unsupported = NotImplementedError  # by zipfile: a compression method or version of the format
    try:
        yield
    except (*damaged, unsupported) as error:
        raise _damaged(file, error) from None


def _within_budget(place: object, size: int, packed: int) -> None:
    if size > max(FREE_BYTES, LARGEST_RATIO * packed):
        found = f"{packed:,} bytes decompress to {size:,} or more"
        raise BadInput(f"{place}: {found}, expected at most {LARGEST_RATIO} times as many; unpack it first")


def _decompressed(file: TableFile) -> Generator[bytes]:
    """The bytes of a file, in blocks."""
    with _reading(file), contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(file.path.open("rb"))
        packed = file.path.stat().st_size
        if file.member:
            archive = stack.enter_context(zipfile.ZipFile(raw))
            packed = archive.getinfo(file.member).compress_size
            raw = stack.enter_context(archive.open(file.member))
        elif file.compression not in ("", "xz"):
            raw = stack.enter_context(pa.input_stream(raw, compression=file.compression))
        size = 0
        for block in _unpacked_xz(raw) if file.compression == "xz" else iter(lambda: raw.read(BLOCK_BYTES), b""):
            size += len(block)
            if file.compression:
                _within_budget(file, size, packed)
            yield block


def _unpacked_xz(raw: IO[bytes]) -> Iterator[bytes]:
    # lzma.open has no memory limit, and a file may need gigabytes.
    decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
    packed = raw.read(BLOCK_BYTES)
    while True:
        if block := decompressor.decompress(packed, max_length=BLOCK_BYTES):
            yield block
        if decompressor.eof:  # another stream may follow
            packed = decompressor.unused_data or raw.read(BLOCK_BYTES)
            if not packed.strip(b"\0"):
                return
            decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            continue
        packed = raw.read(BLOCK_BYTES) if decompressor.needs_input else b""
        if decompressor.needs_input and not packed:
            raise EOFError("unexpected end")


def _utf8(file: TableFile, *, checked: bool = False) -> Generator[bytes]:
    """The text of a file from its header on, as UTF-8 without byte order mark; with `checked`, UTF-8 is validated."""
    decoder = None
    if checked or file.encoding != "utf-8":
        decoder = codecs.getincrementaldecoder(file.encoding)()
    line = 1
    skip = file.start
    is_first = True
    for block in itertools.chain(_decompressed(file), [b""]):
        if decoder is not None:
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                if not isinstance(error, UnicodeDecodeError):
                    raise _damaged(file, error) from None
                before = error.object[: error.start].decode(file.encoding, "ignore")
                found = f"the byte 0x{error.object[error.start]:02x} isn't {file.encoding.upper()}"
                remedy = "name another encoding with --encoding, such as latin-1 or cp1252"
                place = f"{file}: line {line + _line_ends(before)}"
                raise BadInput(f"{place}: {found}, expected a table in {file.encoding.upper()}; {remedy}") from None
            line += _line_ends(text)
            block = text.encode("utf-8", "replace")
        if is_first and block:
            block = block.removeprefix(codecs.BOM_UTF8)
            is_first = False
        if skip:
            skip, block = skip - min(skip, len(block)), block[skip:]
        if block:
            yield block


class _Stream(io.RawIOBase):
    """A readable file of blocks of bytes."""

    def __init__(self, blocks: Generator[bytes]):
        self.blocks = blocks
        self.rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.rest:
            self.rest = memoryview(next(self.blocks, b""))
        size = min(len(buffer), len(self.rest))
        buffer[:size] = self.rest[:size]
        self.rest = self.rest[size:]
        return size

    def close(self) -> None:
        self.blocks.close()
        super().close()


def _walk(file: TableFile) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV slowly, with the line number of each row: for its header and for error messages."""

    def lines() -> Iterator[str]:
        with io.TextIOWrapper(io.BufferedReader(_Stream(_utf8(file, checked=True))), "utf-8", newline="") as text:
            for number in itertools.count(file.start_line):
                line = text.readline(LONGEST_BLOCK + 1)
                if len(line) > LONGEST_BLOCK:
                    found = f"is longer than {LONGEST_BLOCK / 2**20:g} MiB"
                    raise BadInput(f"{file}: line {number} {found}, expected the row of a table")
                if not line:
                    return
                yield line

    reader = csv.reader(lines(), delimiter=file.delimiter)
    line = 0
    try:
        for fields in reader:
            if fields:
                yield file.start_line + line, fields
            line = reader.line_num
    except csv.Error as error:
        expected = "a shorter field; is a quotation mark left open?"
        raise BadInput(f"{file}: line {file.start_line + line}: {error}, expected {expected}") from None


# --- Rows ---


def stream(
    tables: Tables, columns: Collection[str], *, rows_per_batch: int = 65_536, mark_bad: bool = False
) -> Iterator[Batch]:
    """Read some columns in bounded memory, in order, in batches of at most `rows_per_batch` rows.

    The columns of a CSV are text, null where a field is empty. Those of a Parquet file are text, numbers, booleans,
    times, or null where the file has no value of the column.

    Rows that are left out are skipped, unless `mark_bad`: then batches have every row and mark the bad ones; those with
    too many or too few fields have no values.

    Raises:
        BadInput: A file can't be read, has no rows or lacks a column, or a column of a Parquet file is of another type;
            a row of a CSV has too many or too few fields.
    """
    for index, file in enumerate(tables):
        left_out = tables.left_out.get(index, np.zeros(0, np.int64))
        for batch in read(file, columns, tables.skip_bad, tables.examples if mark_bad else None):
            for start in range(0, len(batch), rows_per_batch):
                here = slice(start, start + rows_per_batch)
                numbers, rows = batch.numbers[here], batch.rows.slice(start, rows_per_batch)
                if mark_bad and tables.skip_bad:
                    bad = np.zeros(len(numbers), bool) if batch.bad is None else batch.bad[here]
                    yield Batch(file, numbers, rows, bad, tables.examples)
                    continue
                if len(left_out):
                    kept = ~np.isin(numbers, left_out)
                    numbers, rows = numbers[kept], rows.filter(pa.array(kept))
                if len(numbers):
                    yield Batch(file, numbers, rows)


def leave_out(tables: Tables, columns: Collection[str], check: Callable[[Batch], object]) -> None:
    """Exclude unusable rows from later streams: ragged ones, and those that `check` rejects in a batch of the columns.

    `tables.understood` counts them.

    Raises:
        BadInput: No row is left.
    """
    marks = [np.zeros(0, bool)]
    for batch in stream(tables, columns, mark_bad=True):
        check(batch)
        if batch.bad is not None and batch.bad.any():
            index = tables.files.index(batch.file)
            before = tables.left_out.get(index, np.zeros(0, np.int64))
            tables.left_out[index] = np.append(before, batch.numbers[batch.bad])
        marks.append(batch.bad if batch.bad is not None else np.zeros(len(batch), bool))
    tables.bad = np.concatenate(marks)
    count = int(tables.bad.sum())
    if count == len(tables.bad):
        raise BadInput(f"{describe(tables)}: {tables.describe_bad(count, count)}; expected some rows that can be used")
    if count:
        tables.understood += (tables.describe_bad(count, len(tables.bad)),)


def read(
    file: TableFile, columns: Collection[str], skip_bad: bool = False, examples: list[str] | None = None
) -> Iterator[Batch]:
    """Read some columns of one file, like `stream`; with `skip_bad`, all rows, with ragged ones marked."""
    for name in columns:
        require(file, name)
    if file.is_parquet:
        yield from _parquet_batches(file, list(columns))
    else:
        yield from _csv_batches(file, list(columns), skip_bad, examples)


def _csv_batches(file: TableFile, columns: list[str], skip_bad: bool, examples: list[str] | None) -> Iterator[Batch]:
    """Read columns of a CSV as text, block by block."""
    names = [f"f{file.positions[name][0]}" for name in columns]
    ragged: list[int] = []
    problems: list[BadInput] = []

    count = 0

    def handle_ragged(row: Any) -> str:
        nonlocal count
        count += 1
        number = row.number - 2  # it counts from 1, with the header
        ragged.append(number)
        found = f"has {row.actual_columns} fields, expected {row.expected_columns} as in the header"
        if row.text.count('"') % 2:
            problems.append(BadInput(f"{file}: {_place(file, number)} {found}; is a quotation mark left open?"))
            return "error"
        if count > MANY_RAGGED and 2 * count > number:
            problems.append(BadInput(f"{file}: {_place(file, number)} {found}, as most rows before it"))
            return "error"
        if examples is not None and len(examples) < EXAMPLES:
            examples.append(f"{file.name}: {_place(file, number)} {found}")
        return "skip"

    first = 0
    few: list[Batch] = []
    enough = min(FEW_ROWS, max(BATCH_VALUES // max(len(columns), 1), 1))
    if file.is_plain and not skip_bad:
        text: Any = file.path.open("rb")
    else:  # the reader silently loses a ragged row that isn't UTF-8
        text = io.BufferedReader(_Stream(_utf8(file, checked=skip_bad)), BLOCK_BYTES)
    try:
        with (
            text,
            pa.csv.open_csv(
                text,
                read_options=pa.csv.ReadOptions(
                    block_size=file.block_bytes,
                    autogenerate_column_names=True,
                    skip_rows_after_names=1,
                    use_threads=not skip_bad,  # with threads, rows have no numbers
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=file.delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=handle_ragged if skip_bad else None,
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=names,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            ) as reader,
        ):
            for rows in reader:
                batch = _with_ragged(file, first, rows.rename_columns(columns), ragged)
                first += len(batch)
                few.append(batch)
                if sum(map(len, few)) >= enough:
                    yield _joined(few)
                    few.clear()
    except pa.ArrowInvalid as error:
        raise problems[0] if problems else _explain(file, error) from None
    except OSError as error:
        raise _damaged(file, error) from None
    nothing = pa.record_batch([pa.nulls(0, pa.string()) for _ in columns], names=columns)
    yield _joined([*few, _with_ragged(file, first, nothing, ragged)])


def _joined(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(
        batches[0].file,
        np.concatenate([batch.numbers for batch in batches]),
        pa.concat_batches([batch.rows for batch in batches]),
        np.concatenate([batch.bad for batch in batches if batch.bad is not None]),
    )


def _with_ragged(file: TableFile, first: int, rows: pa.RecordBatch, ragged: list[int]) -> Batch:
    """Insert rows without values for those that the reader skipped, and remove these from the list."""
    before = np.array(ragged, np.int64) - first - np.arange(len(ragged))  # good rows before each
    here = before[before <= len(rows)]
    del ragged[: len(here)]
    index = np.insert(np.arange(len(rows)), here, -1)
    if len(here):
        rows = rows.take(pa.array(index, mask=index < 0))
    return Batch(file, np.arange(first, first + len(index)), rows, index < 0)


def _explain(file: TableFile, error: pa.ArrowInvalid) -> BadInput:
    """Find the line of an error of the fast reader."""
    line = 0
    for line, fields in _walk(file):
        if len(fields) != len(file.columns):
            found = f"has {len(fields)} fields, expected {len(file.columns)} as in the header"
            return BadInput(f"{file}: line {line} {found}; --skip-bad leaves such rows out")
        if sum(map(len, fields)) + len(fields) > file.block_bytes:
            expected = "a shorter row; is a quotation mark left open?"
            return BadInput(f"{file}: line {line} begins a row of more than {file.block_bytes:,} bytes, {expected}")
    return _damaged(file, error)


@contextlib.contextmanager
def _parquet(file: TableFile) -> Iterator[pa.parquet.ParquetFile]:
    with _reading(file), contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(file.path.open("rb"))
        if file.member:  # reading Parquet needs to seek, which is slow in an archive
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            with zipfile.ZipFile(raw) as archive, archive.open(file.member) as member:
                shutil.copyfileobj(member, unpacked)
            raw = unpacked
        yield stack.enter_context(pa.parquet.ParquetFile(raw, coerce_int96_timestamp_unit="us"))


def parquet_kinds(file: TableFile, columns: Collection[str]) -> dict[str, str]:
    """The kinds of columns of a Parquet file: "number", "boolean", "time", "category", or "empty".

    Raises:
        BadInput: A column is of another type.
    """
    with _parquet(file) as table:
        schema = table.schema_arrow
    return {name: kind_of(file, schema.field(file.positions[name][0])) for name in columns}


def kind_of(file: TableFile, field: pa.Field) -> str:
    """The kind of a column by its type; text is a "category", a time of day or a duration a "number".

    Raises:
        BadInput: The column is of another type.
    """
    if kind := _kind_of_type(field.type):
        return kind
    found = f"column {field.name!r} is of type {textwrap.shorten(str(field.type), 60)}"
    raise BadInput(f"{file}: {found}, expected numbers, booleans, text or timestamps; leave it out with --drop")


@functools.cache  # called for each column of each batch, which may be thousands
def _kind_of_type(kind: pa.DataType) -> str | None:
    types = pa.types
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view)  # as some write text
    tests = {
        "empty": [types.is_null],
        "boolean": [types.is_boolean],
        "number": [types.is_integer, types.is_floating, types.is_decimal, types.is_time, types.is_duration],
        "time": [types.is_timestamp, types.is_date],
        "category": [types.is_string, types.is_large_string, types.is_string_view, *binary],
    }
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return next((name for name, fits in tests.items() if any(test(kind) for test in fits)), None)


def _parquet_batches(file: TableFile, columns: list[str]) -> Iterator[Batch]:
    kinds = parquet_kinds(file, columns)
    size = max(BATCH_VALUES // max(len(columns), 1), 1)
    first = 0
    with _parquet(file) as table:
        spelled = [table.schema_arrow.names[file.positions[name][0]] for name in columns]
        for rows in table.iter_batches(min(size, 65_536), columns=spelled):
            arrays = [_plain(file, rows, name, kinds[column]) for name, column in zip(spelled, columns, strict=True)]
            yield Batch(file, np.arange(first, first + len(rows)), pa.record_batch(arrays, names=columns))
            first += len(rows)


def _plain(file: TableFile, rows: pa.RecordBatch, name: str, kind: str) -> pa.Array:
    """A column as one of a few types: integers, floats, booleans, timestamps, text or null."""
    try:
        if kind == "category":
            rows.column(name).validate(full=True)  # for text that isn't UTF-8
        return _cast(rows.column(name), kind)
    except pa.ArrowInvalid as error:
        found = f"column {name!r} can't be read ({str(error).splitlines()[0]})"
        expected = "text in UTF-8" if kind == "category" else f"a {kind} within range"
        raise BadInput(f"{file}: {found}, expected {expected}; leave it out with --drop") from None


def _cast(column: Any, kind: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kind == "category":
        return column.cast(pa.string())
    if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        per_second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
        whole = column.cast(pa.int32()) if pa.types.is_time32(column.type) else column
        return pc.divide(whole.cast(pa.int64()).cast(pa.float64(), safe=False), per_second)
    if kind == "time":
        unit = getattr(column.type, "unit", "s")
        return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=unit != "ns")
    if pa.types.is_decimal(column.type) or pa.types.is_float16(column.type):
        return column.cast(pa.float64(), safe=False)
    return column


# --- Messages ---


def describe(tables: Tables) -> str:
    """Name the files, in short."""
    return escaped(str(tables[0]) if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more")


def reject(batch: Batch, name: str, bad: np.ndarray, expected: str) -> None:
    """Raise BadInput for the first row of the batch where `bad`, (rows,), is true; or, with `Batch.bad`, mark all."""
    if batch.bad is not None:
        bad = bad & ~batch.bad
    if bad.any():
        index = int(np.argmax(bad))
        if batch.bad is not None:
            batch.bad[bad] = True
            if len(batch.examples) >= EXAMPLES:
                return
        value = batch.rows.column(name)[index].as_py()
        found = "is empty" if value is None else f"holds {reprlib.repr(value)}"
        message = f"{_place(batch.file, int(batch.numbers[index]))}, column {name!r} {found}, expected {expected}"
        if batch.bad is None:
            raise BadInput(f"{batch.file}: {message}")
        batch.examples.append(f"{batch.file.name}: {message}")


def require(file: TableFile, name: str, flag: str = "") -> None:
    """Raise BadInput if a file lacks a column, or has two of the name; the message suggests a similar name."""
    places = file.positions.get(name, [])
    if len(places) == 1:
        return
    if places:
        found = f"columns {places[0] + 1} and {places[1] + 1} are both named {name!r}"
        remedy = "" if flag else f"; leave them out with --drop {shlex.quote(name)}"
        raise BadInput(f"{file}: {found}, expected one{flag}{remedy}")
    names = {column.lower(): column for column in file.columns}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"is it {names[close[0]]!r}?" if close else f"it has {textwrap.shorten(', '.join(file.columns), 200)}"
    raise BadInput(f"{file}: no column {name!r}{flag}, expected it in the table: {hint}")


def _place(file: TableFile, row: int) -> str:
    """Name a row, counted from 0, for the user: the line of a CSV, or the row of a Parquet file."""
    if file.is_parquet:
        return f"row {row + 1}"
    # Blank lines and line ends inside quotes make lines differ from rows, so the file is read up to the row.
    line, _ = next(itertools.islice(_walk(file), row + 1, None))
    return f"line {line}"


def _damaged(file: TableFile | Path, error: Exception) -> BadInput:
    kind = "Parquet" if str(file).lower().endswith(PARQUET_SUFFIXES) else "CSV"
    found = (str(error) or type(error).__name__).splitlines()[0]
    return BadInput(f"{file}: can't be read ({found}), expected a complete {kind} file")


def _no_rows(file: TableFile) -> BadInput:
    return BadInput(f"{file}: no rows, expected some after the names of the columns")

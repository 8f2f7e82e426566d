"""The dataset that every data pipeline returns, and the error that it raises for input it can't use."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class BadInput(Exception):  # noqa: N818 - the error is the user's, not the program's
    """The user's input can't be used.

    The message is one line that names the file, the place in it, what was found there and what was expected.
    Programs print it and exit with code 2. Control characters, for example in a file name, are escaped.
    """

    def __init__(self, message: str):
        super().__init__(escaped(message))


def require(extra: str, *packages: str) -> None:
    """Check that packages of one of this project's extras are installed.

    Raises:
        BadInput: One is missing; the message names it and the extra.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise BadInput(f'{package}: found no such package, expected it installed: pip install -e ".[{extra}]"')


def escaped(text: str) -> str:
    r"""The text in one line, with line ends, control characters and stray bytes as \n, \x1b, \udcff."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in hidden else character
        for character in text
    )


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 image, 2 images."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(names: Iterable[str], most: int = 8, longest: int = 80) -> str:
    """List at most `most` names, shorten long ones, and count the rest."""
    names = list(names)
    shown = ", ".join(name if len(name) <= longest else f"{name[:longest]}…" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where the data came from, as the report states it.

    `understood` holds sentences on how the program read the user's files: kinds of columns, which value is which class,
    first and last day, what was left out. They are printed before training and repeated in the report.
    """

    name: str
    source: str
    licence: str
    rows: int
    size_bytes: int
    sha256: str
    units: str
    seed: int | None = None
    notes: tuple[str, ...] = ()
    understood: tuple[str, ...] = ()

    @classmethod
    def of_files(cls, paths: Sequence[Path], **fields: Any) -> Provenance:
        """Provenance of the user's own files: `fields` are all but licence, size and checksum."""
        size = sum(path.stat().st_size for path in paths)
        return cls(licence="the user's own data", size_bytes=size, sha256=sha256_of(paths), **fields)

    def to_dict(self) -> dict[str, Any]:
        """As in metrics.json."""
        return dataclasses.asdict(self) | {"notes": list(self.notes), "understood": list(self.understood)}


def sha256_of(paths: Iterable[Path]) -> str:
    """The SHA-256 of the content of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows that are used together.

    `inputs` is (rows, features) float32, in memory or memory-mapped, or pictures (rows, height, width, channels)
    uint8; `labels` is (rows,) of class indices; `extra` holds further columns, (rows,) each, that only evaluation uses.
    """

    inputs: np.ndarray
    labels: np.ndarray
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Named splits of one source; `label_values` is how the source spells the classes.

    For pictures, `levels` holds the values that became black and white, by kind of number, so that a saved model reads
    new pictures in the same way; see `data.picture_files`.
    """

    splits: Mapping[str, Split]
    feature_names: tuple[str, ...]
    classes: tuple[str, ...]
    provenance: Provenance
    label_values: tuple[str, ...] = ("0", "1")
    levels: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

"""What every data pipeline returns, and the one error that it raises for input it can't use."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class BadInput(Exception):  # noqa: N818 - it names what the user did, not what the program did
    """The user's input can't be used.

    The message is one line that names the file, the place in it, what was found there and what was expected.
    Programs print it and exit with code 2. Control characters, as in a file's name, are shown escaped.
    """

    def __init__(self, message: str):
        super().__init__(escaped(message))


def escaped(text: str) -> str:
    r"""The text as it can be shown in one line: line ends, control characters and stray bytes as \n, \x1b, \udcff."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in hidden else character
        for character in text
    )


def counted(number: int, noun: str) -> str:
    """Say how many there are, as 1 picture or 2 pictures."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(names: Iterable[str], most: int = 8, longest: int = 80) -> str:
    """List at most `most` names, cut long ones, and count the rest."""
    names = list(names)
    shown = ", ".join(name if len(name) <= longest else f"{name[:longest]}…" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where the numbers came from, as the report states it.

    `understood` says what the program made of the user's files, a sentence each: kinds of columns, which value is
    which class, first and last day, what was left out. It is printed before training and stands in the report.
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
    def of_files(cls, paths: Sequence[Path], **fields: Any) -> "Provenance":
        """That of the user's own files: `fields` are the others than licence, size and checksum of all their bytes."""
        size = sum(path.stat().st_size for path in paths)
        return cls(licence="the user's own data", size_bytes=size, sha256=sha256_of(paths), **fields)

    def to_dict(self) -> dict[str, Any]:
        """As metrics.json holds it."""
        return dataclasses.asdict(self) | {"notes": list(self.notes), "understood": list(self.understood)}


def sha256_of(paths: Iterable[Path]) -> str:
    """The checksum of the bytes of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows that are used together.

    `inputs` is (rows, features) float32, in memory or memory-mapped, or pictures (rows, height, width, channels)
    uint8; `labels` is (rows,) of class indices; `extra` holds further columns of (rows,), by name, that evaluation
    needs and the model never sees.
    """

    inputs: np.ndarray
    labels: np.ndarray
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Named splits of one source; `label_values` is how the source spells the classes.

    Of pictures, `levels` says for each kind of number which values became black and white, for a saved model to read
    others alike; see `data.picture_files`.
    """

    splits: Mapping[str, Split]
    feature_names: tuple[str, ...]
    classes: tuple[str, ...]
    provenance: Provenance
    label_values: tuple[str, ...] = ("0", "1")
    levels: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

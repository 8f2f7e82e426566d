"""The code that travels with an exported classifier reads pictures as the program does."""

import io
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from applications import exporting
from applications.images import preprocess as source
from data.images import read_pictures
from tests.data.test_picture_files import png16, tiff

SHAPE = {"height": 9, "width": 7}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The exported file, as a module."""
    path = tmp_path_factory.mktemp("exported") / "preprocess.py"
    path.write_text(exporting.single_file(Path(source.__file__)), encoding="utf-8")
    return exporting._module(path)


def model(module, levels, channels):
    """A model whose network is never called."""
    signature = {"inputs": {"pictures": {"shape": [None, *SHAPE.values(), channels]}}}
    preparation = {"classes": ["a"], "levels": levels}
    module.Network = lambda folder: types.SimpleNamespace(signature=signature, preparation=preparation)
    return module.Model(Path())


def values(*shape, high=256):
    return np.random.default_rng(0).integers(0, high, shape)


def written(folder):
    """Files of every mode, depth and orientation, that are larger or smaller than the model's pictures."""
    colours = values(23, 31, 4).astype(np.uint8)
    for mode in MODES:
        image = Image.fromarray(colours)
        if mode in ("I;16", "I", "F"):
            image = Image.fromarray(values(23, 31, high=4_000).astype({"I;16": "uint16", "I": "int32", "F": "f"}[mode]))
        if image.mode != mode:
            image = (image if mode == "LA" else image.convert("RGB")).convert(mode)
        image.save(folder / f"{mode.replace(';', '')}.tiff")
    for name, mode in (("grey", "L"), ("palette", "P"), ("colour", "RGB"), ("opacity", "RGBA"), ("both", "LA")):
        Image.fromarray(colours).convert(mode).save(folder / f"{name}.png")
    Image.fromarray(colours[:2, :3]).convert("P").save(folder / "transparent.gif", transparency=3)
    Image.fromarray(colours[..., 0] // 16).save(folder / "dark.png")
    large = Image.fromarray(colours[..., :3]).resize((310, 230))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        large.save(folder / f"turned{orientation}.jpg", exif=exif)
    for channels in (1, 2, 3, 4):
        png16(folder / f"deep{channels}.png", values(12, 8, channels, high=5_000).astype(np.uint16))
    for kind, channels in (("uint16", 3), ("int16", 1), ("uint32", 1), ("float32", 1)):
        tiff(folder / f"{kind}.tif", values(12, 8, channels, high=3_000).astype(kind))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "levels", [{}, {"uint8": (0.0, 16.0), "integer": (100.0, 4_000.0)}, {"uint8": (0.0, 255.0), "float": (0.0, 500.0)}]
)
def test_pictures_are_read_as_by_the_program(tmp_path, single, channels, levels):
    files = written(tmp_path)
    expected = np.concatenate([read_pictures([file], **SHAPE, channels=channels, levels=levels) for file in files])
    kept = {kind: list(pair) for kind, pair in levels.items()}  # as JSON has them
    own = model(single, kept, channels)
    np.testing.assert_array_equal(own.inputs(files), expected)
    np.testing.assert_array_equal(own.inputs([file.read_bytes() for file in files]), expected)
    assert len(np.unique(expected)) > 100


def test_a_picture_that_cannot_be_read_is_an_error_of_one_line(tmp_path, single):
    own = model(single, {}, 1)
    stream = io.BytesIO()
    Image.fromarray(values(40, 40).astype(np.uint8)).save(stream, "PNG")
    cut, picture = stream.getvalue()[:300], tmp_path / "a\n.png"
    picture.write_bytes(cut)
    for file, said in (
        (b"", "^0 bytes: found an empty file, expected PNG, JPEG"),
        (b"\x1f\x8b" + bytes(1_000), r"^1,002 bytes: found a file that begins with b'\\x1f\\x8b.* expected PNG"),
        (cut, r"^300 bytes: found an image that can't be read \(.*\), expected PNG"),
        (picture, r"a\\n\.png: found an image that can't be read"),
        (tmp_path / "none.png", r"none\.png: found no such file, expected PNG"),
        (tmp_path, "found an image that can't be read"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            own.inputs([file])
        assert "\n" not in str(caught.value)
    assert own.answers([]) == []

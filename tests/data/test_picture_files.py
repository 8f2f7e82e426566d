import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import picture_files
from data.dataset import BadInput
from data.images import levels_of_files, load_folder, read_labelled, read_pictures
from data.picture_files import levels_of


def random(*shape: int, high: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape)


def png16(path: Path, values: np.ndarray) -> None:
    """Write a PNG of 16 bits a channel, which Pillow can't: grey, grey and opacity, colours, colours and opacity."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    )


def tiff(path: Path, values: np.ndarray) -> None:
    """Write a TIFF of the values' own type, one strip of one or three channels."""
    height, width, channels = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits = 8 * values.dtype.itemsize
    after = 8 + 2 + 12 * 10 + 4
    many = struct.pack("<3H", *[bits] * 3) + struct.pack("<3H", *[kind] * 3)
    pixels = after + len(many)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits if channels == 1 else after)]
    tags += [(259, 3, 1, 1), (262, 3, 1, 1 if channels == 1 else 2), (273, 4, 1, pixels), (277, 3, 1, channels)]
    tags += [(278, 4, 1, height), (279, 4, 1, values.nbytes), (339, 3, channels, kind if channels == 1 else after + 6)]
    content = b"II*\0" + struct.pack("<IH", 8, len(tags))
    content += b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0) + many
    path.write_bytes(content + values.astype(values.dtype.newbyteorder("<")).tobytes())


def read(path: Path, height: int = 6, width: int = 5, channels: int = 1, **settings) -> np.ndarray:
    return read_pictures([path], height=height, width=width, channels=channels, **settings)[0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 65_535, (0, 65_535)),
        (3, 60_000, (0, 65_535)),
        (0, 1_020, (0, 1_020)),
        (7_000, 9_000, (7_000, 9_000)),
        (-1_024, 3_071, (-1_024, 3_071)),
        (0, 255, (0, 255)),
        (0, 200, (0, 255)),
        (0, 16, (0, 16)),
        (0, 1, (0, 1)),
        (0.01, 0.9, (0, 1)),
        (0, 0.02, (0, 0.02)),
        (-1, 1, (-1, 1)),
        (-0.9, 0.2, (-1, 1)),
        (-0.1, 0.2, (-0.1, 0.2)),
        (7, 7, (0, 255)),
    ],
)
def test_levels(low, high, expected):
    assert levels_of(low, high) == expected


@pytest.mark.parametrize(
    ("write", "dtype", "channels", "high"),
    [
        (png16, np.uint16, 1, 1_021),
        (png16, np.uint16, 3, 1_021),
        (png16, np.uint16, 3, 65_536),
        (tiff, np.uint16, 1, 4_096),
        (tiff, np.int16, 1, 4_096),
        (tiff, np.uint16, 3, 4_096),
        (tiff, np.int32, 1, 2_000_000_000),
        (tiff, np.uint32, 1, 4_000_000_000),
        (tiff, np.float32, 1, 1_000),
    ],
)
def test_deep_pictures_spread_one_range_over_0_to_255(tmp_path, write, dtype, channels, high):
    values = random(2, 6, 5, channels, high=high)
    values[0, 0, 0], values[1, 0, 0] = 0, high - 1
    for i in range(2):
        write(tmp_path / f"{i}.{write.__name__[:3]}", values[i].astype(dtype))
    paths = sorted(tmp_path.iterdir())
    levels, _ = levels_of_files(paths, channels=channels)
    assert list(levels.values()) == [(0, high - 1)]
    found = read_pictures(paths, height=6, width=5, channels=channels)
    np.testing.assert_array_equal(found, np.rint(values * (255 / (high - 1))))
    other = read(paths[1], channels=channels, levels={kind: (0, 2 * high - 2) for kind in levels})
    np.testing.assert_allclose(other, values[1] * (255 / (2 * high - 2)), atol=0.51)


def test_deep_colours_become_grey_and_lie_over_white(tmp_path):
    colour, alpha = random(6, 5, 3, high=1_021), random(6, 5, 1, high=256, seed=1)
    png16(tmp_path / "a.png", colour.astype(np.uint16))
    levels = {"integer": (0.0, 1_020.0)}
    np.testing.assert_allclose(
        read(tmp_path / "a.png", levels=levels)[..., 0], colour @ [0.299, 0.587, 0.114] / 4, atol=0.51
    )
    png16(tmp_path / "b.png", np.concatenate([colour, 257 * alpha], axis=2).astype(np.uint16))
    expected = alpha / 255 * colour / 4 + (1 - alpha / 255) * 255
    np.testing.assert_allclose(read(tmp_path / "b.png", channels=3, levels=levels), expected, atol=0.51)


def deep_folder(folder: Path, values: np.ndarray) -> Path:
    for i, value in enumerate(values):
        path = folder / ("disc", "square")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if value.dtype == np.uint16:
            png16(path, value)
        else:
            Image.fromarray(value[..., 0]).save(path)
    return folder


@pytest.mark.parametrize(
    ("dtype", "high", "said"),
    [
        (np.uint16, 1_020, "24 images of 16 or 32 bits: brightness 0 is read as black and 1,020 as white"),
        (np.uint8, 16, "24 images of 8 bits: brightness 0 is read as black and 16 as white"),
        (np.uint8, 1, "24 images of 8 bits: brightness 0 is read as black and 1 as white"),
    ],
)
def test_a_folder_that_uses_few_bits_is_as_bright_as_one_that_uses_all(tmp_path, dtype, high, said):
    values = random(24, 9, 10, 1, high=high + 1)
    folder = deep_folder(tmp_path / "set", values.astype(dtype))
    dataset = load_folder(folder, size=None, skip_bad=False, seed=0)
    assert any(sentence.startswith(said) for sentence in dataset.provenance.understood)
    assert list(dataset.levels.items())[-1] == ("integer" if dtype == np.uint16 else "uint8", (0, high))
    by_file = {}
    for split in dataset.splits.values():
        by_file |= dict(zip(split.extra["file"].tolist(), split.inputs, strict=True))
    for i, value in enumerate(values):
        np.testing.assert_array_equal(by_file[f"{('disc', 'square')[i % 2]}/{i:02}.png"], np.rint(value * 255 / high))
    # A darker part of the same source is as dark beside it, when the model reads it.
    dark = deep_folder(tmp_path / "dark", (values[:4] // 2).astype(dtype))
    settings = {"height": 9, "width": 10, "channels": 1, "levels": dataset.levels}
    split, _, understood = read_labelled(dark, skip_bad=False, **settings)
    np.testing.assert_array_equal(split.inputs[0], np.rint(values[0] // 2 * 255 / high))
    assert any(f"{high:,} as white" in sentence for sentence in understood)
    np.testing.assert_array_equal(read_pictures([dark / "disc" / "00.png"], **settings)[0], split.inputs[0])
    assert len(levels_of_files([dark / "disc" / "00.png"], channels=1, levels=dataset.levels)[1]) == 1
    bright = deep_folder(tmp_path / "bright", (values[:1] * 3).astype(dtype)) / "disc" / "00.png"
    said = levels_of_files([bright], channels=1, levels=dataset.levels)[1]
    assert said[-1] == (
        f"their values, {3 * values[0].min():,} to {3 * values[0].max():,}, are far outside the range that the "
        "model was trained on, and are clipped"
    )


def test_a_set_of_both_depths(tmp_path):
    deep_folder(tmp_path, random(6, 9, 10, 1, high=1_021).astype(np.uint16))
    bright = random(4, 9, 10, 1).astype(np.uint8)
    for i, value in enumerate(bright):
        Image.fromarray(value[..., 0]).save(tmp_path / "disc" / f"b{i}.png")
    dataset = load_folder(tmp_path, size=None, skip_bad=False, seed=0)
    assert any(sentence.startswith("6 images of 16 or 32 bits") for sentence in dataset.provenance.understood)
    assert all(split.inputs.max() > 230 for split in dataset.splits.values())


@pytest.mark.parametrize(
    "name",
    ["a.jfif", "a.JPE", "a.JPEG", "a.gif", "a.GIF", "a.tif", "a.TIFF", "a.ppm", "a.pgm", "a.PNM", "a.dib", "a.Bmp"],
)
def test_formats_and_endings(tmp_path, name):
    grey = np.add.outer(np.arange(0, 160, 16), np.arange(0, 96, 8)).astype(np.uint8)
    formats = {"jf": "JPEG", "jp": "JPEG", "gi": "GIF", "ti": "TIFF", "pp": "PPM", "pg": "PPM", "pn": "PPM"}
    kind = formats.get(name[2:4].lower(), "BMP")
    for i in range(6):
        path = tmp_path / "ab"[i % 2] / f"{i}{name[1:]}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(path, format=kind, **({"quality": 100} if kind == "JPEG" else {}))
    dataset = load_folder(tmp_path, size=None, skip_bad=False, seed=0)
    assert dataset.provenance.understood == ("2 classes: a (3 images), b (3 images)",)
    np.testing.assert_allclose(dataset.splits["train"].inputs[0, ..., 0], grey, atol=2)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "I;16", "I", "F"])
def test_every_mode_of_a_tiff(tmp_path, mode):
    grey = np.where(random(6, 5, high=2) == 1, 255, 0).astype(np.uint8)
    image = Image.fromarray(grey)
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(grey.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    path = tmp_path / "a.tiff"
    (image if image.mode == mode else image.convert(mode)).save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    np.testing.assert_allclose(read(path)[..., 0], grey, atol=2)


def test_the_first_picture_of_an_animation_and_of_the_pages_of_a_tiff(tmp_path):
    first, second = (Image.fromarray(random(6, 5, seed=seed).astype(np.uint8)) for seed in (1, 2))
    for name in ("a.gif", "a.tiff", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
        np.testing.assert_array_equal(read(tmp_path / name)[..., 0], np.asarray(first))


def test_one_pixel_and_extreme_proportions(tmp_path):
    for name, shape in (("a", (1, 1)), ("b", (1, 30_000)), ("c", (30_000, 1))):
        Image.fromarray(np.full(shape, 200, np.uint8)).save(tmp_path / f"{name}.png")
        assert (read(tmp_path / f"{name}.png", 8, 8) == 200).all()


def header_only(path: Path, width: int, height: int, kind: str) -> Path:
    if kind == "gif":
        path.write_bytes(b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0" + b",\0\0\0\0" + bytes(20))
    elif kind == "png16":
        png16(path, np.zeros((1, 1, 3), np.uint16))
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
    else:
        path.write_bytes(f"P5 {width} {height} 65535\n".encode())
    return path


@pytest.mark.parametrize(
    ("kind", "width", "height", "said"),
    [
        ("gif", 60_000, 60_000, "3,600,000,000 pixels"),
        ("png16", 7_000, 7_000, "7,000 × 7,000 pixels, which take 0.6 GB decoded, expected at most 0.4 GB"),
        ("pgm", 7_000, 7_000, "take 0.6 GB decoded"),
    ],
)
def test_a_budget_before_decoding(tmp_path, monkeypatch, kind, width, height, said):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    path = header_only(tmp_path / "a.png", width, height, kind)
    with pytest.raises(BadInput, match=said):
        read(path)


def test_values_that_are_no_brightness(tmp_path):
    values = np.ones((6, 5, 1), np.float32)
    values[2, 3] = np.nan
    tiff(tmp_path / "a.tif", values)
    with pytest.raises(BadInput, match=r"a\.tif: found values that aren't finite numbers, expected brightness"):
        read(tmp_path / "a.tif")


def test_what_begins_a_file_is_all_that_is_read_of_another_kind(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(BadInput, match=r"a\.png: found a file that begins with .* expected PNG, JPEG"):
        picture_files.read_header(tmp_path / "a.png")

"""Read a picture file of any usual format as an array of a given size and number of channels.

Brightness becomes 0 (black) to 255 (white), as in 8-bit files. The meaning of 16-bit, 32-bit and floating-point
values depends on the camera, so one range for the data set is scaled to 0 to 255: a customary one (0 to 1, 0 to 255,
0 to 65,535, -1 to 1) if the data set uses more than its lower half, else its own, from its least to its greatest value.
The same applies to 8-bit pictures that use only the lower half.

A picture that would take more than `LARGEST_DECODED` bytes isn't decoded.
"""

import contextlib
import dataclasses
import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.dataset import BadInput

LARGEST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's limit against decompression bombs
LARGEST_BYTES = 8 * 10**9  # of all pictures of a source in memory
SMALL = 10**8  # bytes; a file that claims to hold more may hold at most
MOST_COMPRESSED = 100  # times its size; MNIST's files compress by 5
LARGEST_DECODED = 400_000_000  # bytes of a decoded picture
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
EXPECTED = "expected PNG, JPEG, BMP, WebP, GIF, TIFF or PNM"

Image.init()  # every format, which Pillow does anyway at the first file of a rarer one

File = Path | bytes  # its name, or all that it holds
Kind = Literal["uint8", "integer", "float"]
Levels = Mapping[str, tuple[float, float]]  # the values that become black and white, by kind
BYTES = (0.0, 255.0)

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_CUSTOMARY = (1, 255, 65_535)
_KINDS = {"uint8": "8 bits", "integer": "16 or 32 bits", "float": "floating-point numbers"}
# Pillow reads the upper byte of 16-bit colours. In the other byte order, that's the lower one.
_LOWER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


@dataclasses.dataclass(frozen=True)
class Header:
    """The properties of a picture before decoding; height and width are those of the upright picture."""

    height: int
    width: int
    coloured: bool
    transparent: bool
    kind: Kind


# Levels


def levels_of(low: float, high: float) -> tuple[float, float]:
    """Choose which values become black and white, given the least and greatest value of a data set."""
    for white in _CUSTOMARY:
        if low >= 0 and white / 2 < high <= white:
            return 0.0, float(white)
    if -1 <= low < 0 and 0.5 < max(-low, high) <= 1:
        return -1.0, 1.0
    return (float(low), float(high)) if low < high else BYTES


def scaled(values: np.ndarray, levels: tuple[float, float]) -> np.ndarray:
    """Scale values to 0 to 255, float32, and clip those beyond the levels."""
    black, white = levels
    shifted = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    shifted -= black
    shifted *= 255 / (white - black)
    return np.clip(shifted, 0, 255, out=shifted).astype(np.float32, copy=False)


def describe(levels: Levels, counts: Mapping[str, int] | None = None) -> list[str]:
    """Sentences on the values that became black and white, unless they are 0 and 255 of 8 bits."""
    sentences = []
    for kind, (black, white) in levels.items():
        if (kind, (black, white)) != ("uint8", BYTES):
            number = f"{counts[kind]:,} " if counts else ""
            sentences.append(
                f"{number}images of {_KINDS[kind]}: brightness {_number(black)} is read as black and "
                f"{_number(white)} as white in all of them"
            )
    return sentences


def describe_excess(levels: tuple[float, float], low: float, high: float) -> list[str]:
    """A sentence if the values of pictures are far beyond the levels that a model was trained on."""
    black, white = levels
    if max(high - white, black - low) <= (white - black) / 4:
        return []
    values = f"{_number(low)} to {_number(high)}"
    return [f"their values, {values}, are far outside the range that the model was trained on, and are clipped"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"


# Files


def read_header(path: File) -> Header:
    """Read the properties of a picture without decoding it.

    Raises:
        BadInput: As in `read_picture`.
    """
    with _opened(path) as (image, raw):
        width, height = image.size
        # Pillow would decode a whole PNG to look for EXIF data after it.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        if exif.get(0x0112, 1) in _TURNED:
            height, width = width, height
        coloured = image.mode not in _GREY_MODES and not image.mode.startswith("I;16")
        kind = _kind(image, raw)
        transparent = image.has_transparency_data and (kind == "uint8" or "A" in image.getbands())
        return Header(height, width, coloured, transparent, kind)


def read_range(path: File, channels: int) -> tuple[float, float]:
    """Decode a picture and return its least and its greatest value, before any scaling.

    Raises:
        BadInput: As in `read_picture`.
    """
    with _opened(path) as (image, raw):
        _check_size(path, image, raw)
        planes = [plane for plane, is_alpha in _planes(path, image, raw, channels) if not is_alpha]
        return min(float(plane.min()) for plane in planes), max(float(plane.max()) for plane in planes)


def read_picture(path: File, *, height: int, width: int, channels: int, levels: Levels) -> np.ndarray:
    """Read a picture as (height, width, channels) uint8.

    It is rotated by its EXIF orientation, composited over white if transparent, and resized without keeping its aspect
    ratio, by bilinear interpolation with antialiasing. Only the first frame or page is read. For 1 channel, colours
    become grey by the ITU-R 601 weights.

    Raises:
        BadInput: The file is missing, of another kind (whatever its name), truncated or damaged, holds values that
            aren't numbers, or has more than `LARGEST_PIXELS` pixels or than `LARGEST_DECODED` bytes.
    """
    with _opened(path) as (image, raw):
        # Decodes a large JPEG at 1/2, 1/4 or 1/8 of its size, at least twice the size needed.
        image.draft(None, (2 * max(height, width), 2 * max(height, width)))
        _check_size(path, image, raw)
        image.load()
        orientation = image.getexif().get(0x0112, 1)
        size = (height, width) if orientation in _TURNED else (width, height)
        kind = _kind(image, raw)
        if kind == "uint8" and levels.get("uint8", BYTES) == BYTES:
            picture = _bytes(image, size, channels)
        else:
            resized = []
            for plane, is_alpha in _planes(path, image, raw, channels):
                plane = scaled(plane, BYTES if is_alpha else levels[kind])
                resized.append(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
            picture = np.stack([np.asarray(plane) for plane in resized], axis=-1)
            if picture.shape[-1] == channels + 1:
                alpha = picture[..., -1:] / 255
                picture = alpha * picture[..., :-1] + (1 - alpha) * 255
            picture = np.rint(picture).astype(np.uint8)
        return np.ascontiguousarray(_upright(picture, orientation))


def _bytes(image: Any, size: tuple[int, int], channels: int) -> np.ndarray:
    """Convert an 8-bit picture to an array of the size (width, height)."""
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size[1], size[0], channels)


def _planes(path: File, image: Any, raw: str, channels: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Decode a picture plane by plane at full depth; yield with each plane whether it's the 8-bit opacity."""
    if change := _deep_colour(image, raw):
        names = image.getbands()
        with Image.open(_source(path), formats=_FORMATS) as lower:
            lower.tile = [
                tile._replace(args=change if isinstance(tile.args, str) else (change, *tuple(tile.args or ())[1:]))
                for tile in lower.tile
            ]
            lower.load()
        colours = [
            (np.asarray(image.getchannel(name)).astype(np.uint16) << 8) | np.asarray(lower.getchannel(name))
            for name in names[:3]
        ]
        if channels == 1:
            red, green, blue = colours
            yield 0.299 * red + 0.587 * green + 0.114 * blue, False
        else:
            yield from ((plane, False) for plane in colours)
        if "A" in names:
            yield np.asarray(image.getchannel("A")), True
        return
    if _kind(image, raw) == "uint8":
        plain = _bytes(image, image.size, channels)
        yield from ((plain[..., channel], False) for channel in range(channels))
        return
    plane = np.asarray(image)
    if image.mode == "I" and image.format == "TIFF" and image.tag_v2.get(339, 1) in (1, (1,)):
        plane = plane.view(np.uint32)  # Pillow reads it as signed
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        raise BadInput(f"{_place(path)}: found values that aren't finite numbers, expected brightness")
    yield from ((plane, False) for _ in range(channels))


def _deep_colour(image: Any, raw: str) -> str | None:
    """The raw mode that reads the lower bytes of a picture with 16 bits per channel, else None."""
    if image.mode in ("RGB", "RGBA") and raw in (f"{image.mode}{end}" for end in _LOWER):
        return image.mode + _LOWER[raw.removeprefix(image.mode)]
    return None


def _raw_mode(image: Any) -> str:
    """Pillow's raw mode of the stored values, "" if unknown."""
    args = image.tile[0].args if getattr(image, "tile", None) else ""
    args = args[0] if isinstance(args, tuple) and args else args
    return args if isinstance(args, str) else ""


def _kind(image: Any, raw: str) -> Kind:
    if image.mode == "F":
        return "float"
    return "integer" if image.mode.startswith("I") or _deep_colour(image, raw) else "uint8"


_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Apply one of EXIF's eight orientations."""
    if orientation in _TURNED:
        picture = picture.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return picture


def _check_size(path: File, image: Any, raw: str) -> None:
    """Raise BadInput if decoding would take too much memory."""
    many = image.mode in ("I", "F") or image.format == "WEBP" or _deep_colour(image, raw)
    each = 12 if many else 1 if image.mode in ("1", "L", "P") else 4
    size = each * image.width * image.height
    if size > LARGEST_DECODED:
        found = f"{image.height:,} × {image.width:,} pixels, which take {size / 1e9:.1f} GB decoded"
        raise BadInput(f"{_place(path)}: found {found}, expected at most {LARGEST_DECODED / 1e9:g} GB")


def _place(path: File) -> str:
    """What errors call a picture."""
    return f"{len(path):,} bytes" if isinstance(path, bytes) else str(path)


def _source(path: File) -> Any:
    return io.BytesIO(path) if isinstance(path, bytes) else path


@contextlib.contextmanager
def _opened(path: File) -> Iterator[tuple[Any, str]]:
    """Open a picture, with its raw mode; errors of decoding inside the `with` become BadInput."""
    place = _place(path)
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file() and not path.is_dir():
            raise BadInput(f"{place}: found a pipe or a device, {EXPECTED}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(_source(path), formats=_FORMATS) as image:
                yield image, _raw_mode(image)  # lost by decoding
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        found = f"{int(pixels[0]):,} pixels" if pixels else "a decompression bomb"
        expected = f"expected at most {LARGEST_PIXELS:,}, Pillow's limit against decompression bombs"
        raise BadInput(f"{place}: found {found}, {expected}") from None
    except UnidentifiedImageError:
        with path.open("rb") if isinstance(path, Path) else io.BytesIO(path) as stream:
            start = stream.read(8)
        found = f"a file that begins with {start!r}" if start else "an empty file"
        raise BadInput(f"{place}: found {found}, {EXPECTED}") from None
    except FileNotFoundError:
        raise BadInput(f"{place}: found no such file, {EXPECTED}") from None
    except Exception as error:  # damaged files can raise OSError, SyntaxError, ValueError, struct.error and others
        raise BadInput(f"{place}: found an image that can't be read ({reason(error)}), {EXPECTED}") from None


def reason(error: Exception) -> str:
    """The message of an error, shortened to part of a line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = text.splitlines()[0].rstrip(".")
    return line if len(line) <= 100 else f"{line[:100]}…"  # some contain the damaged bytes


def check_bytes(place: str, size: int, stored: int | None = None, budget: int | None = None) -> None:
    """Raise BadInput for a size beyond the budget, or implausible for a file of `stored` bytes."""
    if size > (LARGEST_BYTES if budget is None else budget):
        expected = f"expected at most {LARGEST_BYTES / 1e9:g} GB, as all of it is held in memory"
        raise BadInput(f"{place}: found images of {size / 1e9:.1f} GB, {expected}")
    if stored is not None and size > SMALL and size > MOST_COMPRESSED * stored:
        found = f"{size / 1e9:.1f} GB, said to be in {stored / 1e6:.1f} MB"
        raise BadInput(f"{place}: found {found}, expected at most {MOST_COMPRESSED} times the size of the file")


def require_file(path: Path, expected: str) -> None:
    """Raise BadInput if a file doesn't exist."""
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, {expected}")

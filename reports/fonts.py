"""Choose fonts for characters that a report's own fonts lack: Chinese, Japanese, Korean, Arabic, Devanagari, emoji.

Figures and the PDF choose fonts by the same rule, so that they look alike: of the installed regular fonts and those of
matplotlib, the one with the most of the characters, then the one with the most of the others, and so on. The choice is
deterministic on a machine.
"""

import functools
from collections.abc import Collection
from pathlib import Path

import matplotlib
import typst
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font, LoadFlags

_BOXES = ("LastResort", "Last Resort", "Unicode BMP Fallback")  # draw a placeholder for the block of a character
_ROUGH = "Unifont"  # a bitmap font of all scripts: the last choice
_KANA, _HANGUL = ((0x3040, 0x30FF),), ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7FF))


def choose(characters: Collection[str], *, as_outlines: bool = False) -> tuple[list[str], set[str]]:
    """Choose fonts for characters.

    Args:
        characters: to be drawn.
        as_outlines: for figures: leave out bitmap and colour fonts, and register the chosen ones in matplotlib.

    Returns:
        The families, most useful first, and the characters that none of them has.
    """
    missing = set(characters)
    if not missing:
        return [], missing
    region = next(
        (
            region
            for region, ranges in (("JP", _KANA), ("KR", _HANGUL), ("SC", ()))
            if any(first <= ord(c) <= last for c in missing for first, last in ranges)
        ),
        "SC",
    )
    covered: dict[tuple[str, str, int], set[str]] = {}
    for font in _candidates():
        if drawn := _drawn(font, frozenset(missing), as_outlines):
            covered[font] = drawn
    families: list[str] = []
    while covered:
        # Prefer sans serif, like the figures, and the region of the script, as far as names tell.
        best = min(
            covered,
            key=lambda font: (
                _ROUGH in font[0],
                -len(covered[font] & missing),
                "Sans" not in font[0],
                not font[0].endswith(f" {region}"),
                font,
            ),
        )
        drawn = covered.pop(best) & missing
        if drawn and (not as_outlines or _is_known(best[0], best[1])):
            families.append(best[0])
            missing -= drawn
    return families, missing


@functools.cache
def everything() -> typst.Fonts:
    """All fonts, for Typst."""
    return typst.Fonts(font_paths=[Path(matplotlib.get_data_path(), "fonts", "ttf")])


@functools.cache
def _candidates() -> tuple[tuple[str, str, int], ...]:
    """Family, file and index in the file of each regular font."""
    fonts = everything().fonts()
    return tuple(
        sorted(
            (font.family, str(font.path), font.index)
            for font in fonts
            if font.path and font.style == "normal" and 350 <= font.weight <= 450
            if not any(name in font.family for name in _BOXES)
        )
    )


@functools.cache
def _opened(file: str, index: int) -> FT2Font | None:
    try:
        return FT2Font(file, face_index=index)
    except (OSError, RuntimeError):  # damaged, or not supported by FreeType
        return None


@functools.lru_cache(10_000)
def _drawn(font: tuple[str, str, int], characters: frozenset[str], as_outlines: bool) -> set[str]:
    """The characters that a font has."""
    _, file, index = font
    opened = _opened(file, index)
    if opened is None or (as_outlines and not opened.scalable):
        return set()
    return {c for c in characters if opened.get_char_index(ord(c)) and not (as_outlines and _is_blank(opened, c))}


def _is_blank(font: FT2Font, character: str) -> bool:
    """Whether a visible character has no outline, as in fonts of coloured layers."""
    font.load_char(ord(character), flags=LoadFlags.NO_SCALE)
    return not character.isspace() and not len(font.get_path()[0])


@functools.cache
def _is_known(family: str, file: str) -> bool:
    """Register a file in matplotlib; true if matplotlib uses it for the family."""
    if not any(str(entry.fname) == file for entry in fontManager.ttflist):
        fontManager.addfont(file)
    return str(findfont(FontProperties(family=[family]))) == file

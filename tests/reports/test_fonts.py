"""Characters that the reports' own fonts lack, on a machine without other fonts, and on one that has some."""

import io
import warnings
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pypdf
import pytest
import typst
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from reports import figures, fonts

NONE_HAS = "漢초🥐\u1100\ue000"  # of the fonts that come with Typst and matplotlib


def make(path, family: str, characters: str, *, blank: str = "") -> None:
    """A font of squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    square, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    names = {character: f"u{ord(character):X}" for character in characters + blank}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap({ord(character): name for character, name in names.items()})
    builder.setupGlyf({".notdef": nothing} | {name: nothing if c in blank else square for c, name in names.items()})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in (".notdef", *names.values())})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular", "psName": family.replace(" ", "")})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Installs fonts on a machine that has none: of each family its characters."""

    def install(blank: str = "", **families: str):
        folder = tmp_path / "fonts"
        folder.mkdir()
        for number, (family, characters) in enumerate(families.items()):
            make(folder / f"{number}.ttf", family.replace("_", " "), characters)
        if blank:
            make(folder / "coloured.ttf", "Colours", "", blank=blank)
        found = typst.Fonts(include_system_fonts=False, font_paths=[folder])
        monkeypatch.setattr(fonts, "everything", lambda: found)
        monkeypatch.setattr(fonts, "_candidates", fonts._candidates.__wrapped__)

    return install


@pytest.fixture
def pdf_of(typeset_body):
    """Typesets a text as prose and as code, twice the same; returns the text of the report and its fonts."""

    def make(text: str) -> tuple[str, set[str]]:
        body = "#metrics.text\n#code(metrics.text)"
        pdf = typeset_body(body, text=text)
        assert typeset_body(body, text=text) == pdf
        pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
        resources: list[Any] = [page["/Resources"] for page in pages]
        names = {str(font["/BaseFont"]) for of_page in resources for font in of_page["/Font"].values()}
        return "".join(page.extract_text() for page in pages), {name.split("+")[1] for name in names}

    return make


def drawn(characters: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.confusion_matrix(np.eye(2), [f"a{characters}", "b"])
    ElementTree.fromstring(svg)
    return svg


def test_without_fonts_characters_are_named(machine, pdf_of):
    machine()
    assert fonts.choose(NONE_HAS) == ([], set(NONE_HAS))
    text, _ = pdf_of("漢 ɪəʃθ 🥐 \0 \u200d.")
    assert text.count("‹U+6F22› ɪəʃθ ‹U+1F950› ‹U+0000› ") == 2
    assert "missing from all fonts are shown as code points, such as ‹U+6F22›" in text.replace("\n", " ")
    assert "own fonts lack" not in text
    assert drawn("漢초") == drawn("‹U+6F22›‹U+CD08›")


def test_installed_fonts_draw_them(machine, pdf_of):
    machine(Rare="🥐", Serif_of_much="漢초", Sans_of_much="漢초", Ruin_Unifont=NONE_HAS, LastResort=NONE_HAS)
    # The one with most of them, without serifs; those of all scripts and those that draw boxes last, or never.
    assert fonts.choose(NONE_HAS) == (["Sans of much", "Rare", "Ruin Unifont"], set())
    text, names = pdf_of("漢 초 🥐 x \U0001f9ff")
    assert text.count("漢 초 🥐 x ‹U+1F9FF›") == 2
    text = " ".join(text.split())
    assert "missing from the embedded fonts are set in Sans of much and Rare." in text
    assert "code points, such as ‹U+1F9FF›" in text
    assert {"Sansofmuch", "Rare"} < names
    svg = drawn("漢초")
    assert svg == drawn("漢초")
    assert "‹U+" not in svg.decode()
    assert svg != drawn("‹U+6F22›‹U+CD08›")


def test_figures_take_no_font_whose_glyphs_are_pictures(machine):
    machine(First_Sans="漢", blank="🥐")
    assert fonts.choose("漢🥐") == (["First Sans", "Colours"], set())
    assert fonts.choose("漢🥐", as_outlines=True) == (["First Sans"], {"🥐"})


def test_figures_take_no_font_whose_name_matplotlib_gives_to_another(machine):
    machine(DejaVu_Sans="漢")
    assert fonts.choose("漢") == (["DejaVu Sans"], set())
    assert fonts.choose("漢", as_outlines=True) == ([], {"漢"})
    assert drawn("漢") == drawn("‹U+6F22›")


def test_the_script_tells_the_region(machine):
    machine(**dict.fromkeys(("Noto_Sans_CJK_JP", "Noto_Sans_CJK_KR", "Noto_Sans_CJK_SC"), "漢あ초"))
    for characters, region in (("漢", "SC"), ("漢あ", "JP"), ("漢초", "KR")):
        assert fonts.choose(characters)[0] == [f"Noto Sans CJK {region}"]


def test_passages_show_wide_letters_and_the_code_points_of_others(machine):
    machine(Second_Sans="漢")
    svg = figures.surprise({"漢\ue000": [("a漢", 1.0), ("\ue000\n", 2.0), ("\u0928\u093f", 3.0)]}, columns=3)
    comments = [node.split(b" -->")[0].decode() for node in svg.split(b"<!-- ")[1:]]
    for text in ("漢‹U+E000›", "漢", "E0", "00", "09", "a"):
        assert text in comments, comments
    assert drawn("漢")


@pytest.mark.parametrize("text", ["\u1100\u1161\u11a8", "e\u0301", "\u093f"])
def test_labels_of_parts_of_letters(machine, text):
    machine(**{f"Sans_of_{ord(text[0])}": "\u1100\u1161\u11a8\u093f"})
    maps = [np.full((2, 1, len(text)), 1 / len(text))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.attention(maps, ["x"], list(text)).decode()
    for character in text:
        assert f"<!-- {'◌' if character == chr(0x301) else ''}{character} -->" in svg

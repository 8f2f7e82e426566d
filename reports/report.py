"""A report as a tagged PDF: a plain document, typeset offline by Typst with its embedded fonts."""

import datetime
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import typst

from reports import fonts
from reports.characters import shown

_PAGE = Path(__file__).with_name("page.typ")
_TEMPLATE = Path(__file__).with_suffix(".typ")
_BLOCK_KINDS = ("text", "list", "code", "table", "facts", "figures")
_ALIGNMENTS = ("left", "right", "center")


def render(document: Mapping[str, Any], folder: Path, timestamp: datetime.datetime) -> bytes:
    """Typeset a document as a PDF that meets PDF/UA-1.

    All strings are plain text: no character has a meaning as markup. One that Typst's own fonts cannot draw is set in
    an installed font that can, which the last line of the report names, or as its code point, such as ‹U+6F22›. The
    same arguments, the same figure files and the same installed fonts give the same bytes.

    The document is what JSON can hold::

        {"title": str, "subtitle": str, "language": "en", "author": str (may be left out),
         "verdict": [str, ...],      the first sentence is set as the headline of the box
         "sections": [{"heading": str, "blocks": [block, ...]}, ...]}

    A block is a mapping with one key, its kind::

        {"text": str}                a paragraph
        {"list": [str, ...]}
        {"code": str}                commands, monospaced
        {"table": {"caption": str, "columns": [{"name": str, "align": "left" | "right" | "center"}, ...],
                   "rows": [[cell, ...], ...],
                   "emphasis": [row index, ...], "rules": [row index, ...], "note": str}}
        {"facts": [[name, value], ...]}
        {"figures": [{"file": str, "alt": str, "caption": str}]}, or two of them, side by side

    A cell is a string or ``{"value": str, "detail": str}``, the detail set small under the value. Rows in
    ``emphasis`` are bold, and a thin rule is drawn after the rows in ``rules``; these two and ``note`` may be left
    out. A figure's ``file`` is relative to ``folder``, and its ``alt`` says to a reader who cannot see it what it
    shows.

    Args:
        document: the report, as above.
        folder: where the figures lie (SVG or PNG); nothing is written there.
        timestamp: the date of the report, with a time zone.

    Returns:
        The PDF file.

    Raises:
        FileNotFoundError: a figure's file is missing.
        KeyError: a part that must not be left out is missing.
        ValueError: a part is not as above, such as an unknown kind of block or a figure without alt text, or the
            timestamp has no time zone.
    """
    if not document["verdict"]:
        raise ValueError("the verdict holds no sentence")
    for section in document["sections"]:
        for block in section["blocks"]:
            _check(block, folder)
    return _with_glyphs(lambda families, missing: _typeset(document, folder, timestamp, families, missing))


def typeset(document: Path, metrics: Mapping[str, Any], folder: Path) -> bytes:
    """Typeset a run's report as a PDF that meets PDF/UA-1, tagged and with its fonts embedded.

    The document is a Typst file that imports `page.typ`, which gives it the metrics; their strings are plain text: no
    character of them has a meaning as markup. A character that Typst's own fonts cannot draw is set in an installed
    font that can, which the last line of the report names, or as its code point, such as ‹U+6F22›. The date is the
    run's own: the same arguments, the same figures and the same installed fonts give the same bytes.

    Args:
        document: the Typst file.
        metrics: those of the run.
        folder: of the run, where the figures lie; nothing is written there.

    Returns:
        The PDF file.

    Raises:
        typst.TypstError: the metrics are not those that the document is of, or a figure's file is missing.
    """
    started = datetime.datetime.fromisoformat(metrics["timing"]["started"]).replace(microsecond=0)
    files = {
        "main.typ": document.read_bytes(),
        "page.typ": _PAGE.read_bytes(),
        "metrics.json": json.dumps(shown(metrics)).encode(),
    }

    def compile_with(families: Sequence[str], missing: Collection[str]) -> bytes:
        return typst.compile(
            files,  # pyright: ignore[reportArgumentType] - the stub doesn't know that it takes several
            root=folder,
            font_paths=fonts.everything() if families else [],
            ignore_system_fonts=True,
            sys_inputs={
                "date": f"{started:%Y-%m-%d %H:%M %Z}",
                "families": json.dumps(families),
                "missing": json.dumps(sorted(map(ord, missing))),
            },
            pdf_standards=["ua-1"],
            timestamp=started,
        )

    return _with_glyphs(compile_with)


def _with_glyphs(compile_with: Callable[[list[str], set[str]], bytes]) -> bytes:
    """Compile with further fonts, and characters named by their code points, where the own fonts have no glyph.

    PDF/UA forbids characters without a glyph, and only Typst knows which ones its fonts lack: it names them all.
    """
    families, missing = [], set()
    try:
        return compile_with(families, missing)
    except typst.TypstError as error:
        families, missing = fonts.choose(_without_glyph(error))
    try:
        return compile_with(families, missing)
    except typst.TypstError as error:  # characters that a font has by themselves, but not joined to their neighbours
        missing |= _without_glyph(error)
    return compile_with(families, missing)


def _without_glyph(error: typst.TypstError) -> set[str]:
    r"""The characters that an error names, control characters as \u{1b}; anything else is raised again."""
    texts = re.findall('the text `"(.+?)"` could not be displayed', error.diagnostic)
    missing = {re.sub(r"\\u\{([0-9a-f]+)\}", lambda it: chr(int(it[1], 16)), text) for text in texts}
    if not missing:
        raise error
    return set("".join(missing))


def _typeset(
    document: Mapping[str, Any], folder: Path, timestamp: datetime.datetime, families: Sequence[str], missing: set[str]
) -> bytes:
    return typst.compile(
        _TEMPLATE.read_bytes(),
        root=folder,  # pyright: ignore[reportArgumentType] - the stub wants the template and the folder of one type
        font_paths=fonts.everything() if families else [],
        ignore_system_fonts=True,
        sys_inputs={
            "document": json.dumps(shown(document)),
            "date": f"{timestamp:%Y-%m-%d %H:%M %Z}",
            "families": json.dumps(families),
            "missing": json.dumps(sorted(map(ord, missing))),
        },
        pdf_standards=["ua-1"],
        timestamp=timestamp,
    )


def _check(block: Mapping[str, Any], folder: Path) -> None:
    if len(block) != 1:
        raise ValueError(f"a block has one key, its kind, but this one has {list(block)}")
    kind, content = next(iter(block.items()))
    if kind not in _BLOCK_KINDS:
        raise ValueError(f"unknown kind of block: {kind!r}; the kinds are {', '.join(_BLOCK_KINDS)}")
    if kind == "table":
        _check_table(content)
    if kind == "facts":
        for pair in content:
            if len(pair) != 2:
                raise ValueError(f"a fact is a name and a value, not {pair!r}")
    if kind == "figures":
        _check_figures(content, folder)


def _check_table(table: Mapping[str, Any]) -> None:
    for column in table["columns"]:
        if column["align"] not in _ALIGNMENTS:
            raise ValueError(f"column {column['name']!r} is aligned {column['align']!r}, not {', '.join(_ALIGNMENTS)}")
    for row in table["rows"]:
        if len(row) != len(table["columns"]):
            raise ValueError(f"{len(row)} cells for {len(table['columns'])} columns: {row!r}")
        for cell in row:
            detailed = isinstance(cell, Mapping) and set(cell) == {"value", "detail"}
            if not (isinstance(cell, str) or detailed):
                raise ValueError(f"a cell is a string or a value and a detail, not {cell!r}")


def _check_figures(figures: Sequence[Mapping[str, str]], folder: Path) -> None:
    if len(figures) not in (1, 2):
        raise ValueError(f"one figure or two stand side by side, not {len(figures)}")
    for figure in figures:
        if not figure.get("alt"):
            raise ValueError(f"figure {figure['file']!r} has no alt text")
        if not (folder / figure["file"]).is_file():
            raise FileNotFoundError(f"no figure {figure['file']!r} in {folder}")

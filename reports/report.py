"""Typeset a report as a tagged PDF, from a Typst document and metrics.json, offline with Typst's embedded fonts."""

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


def typeset(document: Path, metrics: Mapping[str, Any], folder: Path) -> bytes:
    """Typeset a run's report as a PDF that meets PDF/UA-1, tagged and with embedded fonts.

    The document is a Typst file that imports `page.typ`, which loads the metrics; their strings are never interpreted
    as markup. Characters that Typst's own fonts lack are set in an installed font, which the last line of the report
    names, or as code points, such as ‹U+6F22›. The date is that of the run: the same arguments, figures and installed
    fonts give the same bytes.

    Args:
        document: the Typst file.
        metrics: the run's metrics.
        folder: the run's folder, with the figures; nothing is written there.

    Returns:
        The PDF file.

    Raises:
        typst.TypstError: The metrics don't fit the document, or a figure's file is missing.
    """
    started = datetime.datetime.fromisoformat(metrics["timing"]["started"]).replace(microsecond=0)
    files = {
        "main.typ": document.read_bytes(),
        "page.typ": _PAGE.read_bytes(),
        "metrics.json": json.dumps(shown(metrics)).encode(),
    }

    def compile_with(families: Sequence[str], missing: Collection[str]) -> bytes:
        return typst.compile(
            files,  # pyright: ignore[reportArgumentType] - the stub lacks several files
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
    """Compile with additional fonts, or code points, for characters that Typst's own fonts lack.

    PDF/UA forbids characters without a glyph, and only Typst knows which ones its fonts lack: its error lists them all.
    """
    families, missing = [], set()
    try:
        return compile_with(families, missing)
    except typst.TypstError as error:
        families, missing = fonts.choose(_without_glyph(error))
    try:
        return compile_with(families, missing)
    except typst.TypstError as error:  # characters that a font has only if they aren't joined to their neighbours
        missing |= _without_glyph(error)
    return compile_with(families, missing)


def _without_glyph(error: typst.TypstError) -> set[str]:
    r"""The characters that an error lists, with control characters as \u{1b}; any other error is raised again."""
    texts = re.findall('the text `"(.+?)"` could not be displayed', error.diagnostic)
    missing = {re.sub(r"\\u\{([0-9a-f]+)\}", lambda it: chr(int(it[1], 16)), text) for text in texts}
    if not missing:
        raise error
    return set("".join(missing))

import datetime
import io
import re
from pathlib import Path

import pypdf
import pytest
import typst

from reports.report import typeset

ROOT = Path(__file__).parents[2]
SHA256 = "9f2c4d7be01a5c3388d1f0a4b6e7c2d95a1b3c4d5e6f708192a3b4c5d6e7f809"
SPECIAL = r"""#let x = $1$ *bold* _under_ @label <tag> \emph{a} "quoted" 'single' `raw` -- ~ [x] // /* */ äöüß €"""
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="{}" height="9"/></svg>'
# Every part of a page, whose strings are one word; a figure that isn't drawn, and a sentence that isn't said.
EVERY_PART = """
#import "page.typ": *
#let word = metrics.word
#show: report.with(title: word, subtitle: word)
#verdict(word, none, word)
#heading(word)
#word
#limits(word, none)
#code(word)
#facts((word, word), none)
#data-table(word, ((word, left), ([b], right)), ((word, detailed(word, word)),), bold: (0,), rules: (0,), note: word)
= Figures
#figures(first: word, absent: [nowhere], second: word)
"""


def read(pdf: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf))


def text_of(reader: pypdf.PdfReader) -> str:
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def unspaced(text: str) -> str:
    return "".join(text.split())


def elements(node: object) -> list[dict]:
    """All structure elements under a node of the structure tree, in reading order."""
    node = node.get_object() if isinstance(node, pypdf.generic.IndirectObject) else node
    if isinstance(node, list):
        return [element for child in node for element in elements(child)]
    if not isinstance(node, dict):
        return []
    return [node] * ("/S" in node) + elements(node.get("/K"))


def tagged(reader: pypdf.PdfReader, kind: str) -> list[dict]:
    return [element for element in elements(reader.root_object["/StructTreeRoot"]) if element["/S"] == kind]


@pytest.fixture
def every_part(tmp_path):
    """Typesets a report of all parts whose strings are a word."""

    def make(word, started="2026-03-02T14:05:00+00:00"):
        (tmp_path / "report.typ").write_text(EVERY_PART)
        (tmp_path / "plot.svg").write_text(SQUARE.format(9))
        figures = {name: {"file": "plot.svg", "alt": f"{name} {word}"} for name in ("first", "second")}
        metrics = {"word": word, "figures": figures, "limits": ["the best is the last"], "timing": {"started": started}}
        return typeset(tmp_path / "report.typ", metrics, tmp_path)

    return make


def test_report_is_tagged_and_says_what_it_is(every_part):
    reader = read(every_part("A word"))
    root = reader.root_object
    assert root["/MarkInfo"]["/Marked"].value is True
    assert root["/Lang"] == "en"
    assert "pdfuaid:part" in root["/Metadata"].get_data().decode()
    assert reader.metadata.title == "A word"
    assert reader.metadata.creation_date == datetime.datetime(2026, 3, 2, 14, 5, tzinfo=datetime.UTC)
    width, height = reader.pages[0].mediabox[2:]
    assert (float(width), float(height)) == pytest.approx((595.28, 841.89), abs=0.01)
    assert [entry.title for entry in reader.outline] == ["A word", "Figures"]
    assert len(tagged(reader, "/H1")) == 2
    assert len(tagged(reader, "/Title")) == 1
    assert [element["/Alt"] for element in tagged(reader, "/Figure")] == ["first A word", "second A word"]
    header = [cell for cell in tagged(reader, "/TH") if any("/Scope" in attribute for attribute in cell["/A"])]
    assert len(header) == 2
    assert len(tagged(reader, "/THead")) == 1
    text = text_of(reader)
    for said in (
        "2026-03-02 14:05 UTC",
        "Table 1 A word",
        "Figure 1 A word",
        "Figure 2 A word",
        "The best is the last.",
    ):
        assert said in text
    assert "nowhere" not in text


def test_footer_counts_the_pages(typeset_body):
    pages = read(typeset_body("#lorem(1200)")).pages
    assert len(pages) > 1
    for number, page in enumerate(pages, 1):
        assert page.extract_text().endswith(f"Title {number} / {len(pages)}")


def test_special_characters_come_out_literally(every_part):
    reader = read(every_part(SPECIAL))
    # title, footers, subtitle, verdict, heading, text, item, code, fact, table, figures
    times = 1 + len(reader.pages) + 1 + 2 + 1 + 1 + 1 + 1 + 2 + 6 + 2
    plain = text_of(reader).translate(str.maketrans("“”‘’", "\"\"''"))  # quotation marks of prose
    assert unspaced(plain).count(unspaced(SPECIAL)) == times
    assert reader.metadata.title == SPECIAL
    assert [entry.title for entry in reader.outline] == [SPECIAL, "Figures"]
    assert [element["/Alt"] for element in tagged(reader, "/Figure")] == [f"first {SPECIAL}", f"second {SPECIAL}"]


def test_long_words_wrap_and_are_copied_whole(typeset_body):
    body = """
    #metrics.t
    #code(metrics.c)
    #facts(([name], metrics.sha256))
    #data-table([Caption], (([left], left), ([right], right)), ((metrics.r, ""),))
    """
    words = {"t": "t" * 200, "c": "c" * 200, "sha256": SHA256 * 2, "r": "r" * 200}
    (page,) = read(typeset_body(body, **words)).pages
    for word in words.values():
        assert word not in page.extract_text()
        assert word in unspaced(page.extract_text())


def test_long_table_repeats_its_header_and_a_short_one_stays_whole(typeset_body):
    table = "#data-table([Caption], (([left], left), ([right], right)), metrics.rows)"
    rows = [[f"row {number}", str(number)] for number in range(90)]
    pages = [page.extract_text() for page in read(typeset_body(table, rows=rows)).pages]
    assert len(pages) > 1
    assert all("left right" in " ".join(page.split()) for page in pages)
    filler = "#for _ in array.range(44) [line \\ ]\n\n"
    first, second = read(typeset_body(filler + table, rows=rows[:10])).pages
    assert "row" not in first.extract_text()
    assert "Caption" not in first.extract_text()
    assert "row 9" in second.extract_text()


def test_the_same_files_give_the_same_bytes_and_others_do_not(every_part, typeset_body, tmp_path):
    before = every_part("A word")
    assert every_part("A word") == before
    assert every_part("A word", started="2026-03-03T14:05:00+00:00") != before
    plot, figures = "#figures(plot: [A plot])", {"plot": {"file": "plot.svg", "alt": "a plot"}}
    drawn = []
    for width in (3, 6):
        (tmp_path / "plot.svg").write_text(SQUARE.format(width))
        drawn.append(typeset_body(plot, figures=figures))
    assert drawn[0] != drawn[1]


def test_a_missing_figure_or_value_is_named(typeset_body):
    absent = {"plot": {"file": "absent.svg", "alt": "nothing"}}
    with pytest.raises(typst.TypstError, match=r"absent\.svg"):
        typeset_body("#figures(plot: [A plot])", figures=absent)
    with pytest.raises(typst.TypstError, match="results"):
        typeset_body("#metrics.results")


def test_per_cent_is_spelled_in_one_way():
    # A format of "%" leaves out the space before the sign.
    for path in [*ROOT.glob("applications/**/*.py"), *ROOT.glob("reports/*.py"), *ROOT.glob("data/*.py")]:
        found = re.findall(r".*\{[^{}]*:[.\d]*%\}.*|.*\}%.*", path.read_text())
        assert not found, f"{path.name}: {found}"

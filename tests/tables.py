"""Tables of documents that tests measure: a cell that differs fails the test, or is written."""

import dataclasses
import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCUMENTS = Path(__file__).parents[1] / "docs"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a document in docs/, which is found by the head of its first column.

    Args:
        document: its file name.
        head: of the first column.
        rows: their names, in order.
        columns: their heads, in order.
        variable: of the environment, under which measured cells are written.
    """

    document: str
    head: str
    rows: Sequence[str]
    columns: Sequence[str]
    variable: str

    def settle(self, measured: Mapping[tuple[str, str], str]) -> None:
        """Compare the cells that were measured, by row and column, with those of the document, or write them."""
        path = DOCUMENTS / self.document
        text = path.read_text(encoding="utf-8")
        found = re.search(rf"^\| {self.head} \|.*\n(?:\|.*\n)*", text, re.MULTILINE)
        assert found, f"{self.document} has no table of each {self.head}"
        (_, *columns), _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in found[0].split("\n")[:-1]
        ]
        kept = {(row, column): cell for row, *cells in rows for column, cell in zip(columns, cells, strict=True)}
        if not os.environ.get(self.variable):
            assert {place: kept.get(place) for place in measured} == measured
            assert ([row for row, *_ in rows], columns) == (list(self.rows), list(self.columns))
            return
        cells = kept | dict(measured)
        lines = [[self.head, *self.columns], ["---"] * (1 + len(self.columns))]
        lines += [[row, *(cells.get((row, column), "not measured") for column in self.columns)] for row in self.rows]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        text = re.sub(r"^- (\S+) [\d.]+$", _version, text.replace(found[0], table), flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")


def _version(line: re.Match) -> str:
    """A line of the packages that a document was measured with, as they are now."""
    try:
        return f"- {line[1]} {importlib.metadata.version(line[1]).split('+')[0]}"
    except importlib.metadata.PackageNotFoundError:  # of columns that this environment doesn't measure
        return line[0]

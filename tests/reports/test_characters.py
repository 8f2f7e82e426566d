import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pypdf
import pytest

from reports import figures
from reports.characters import shown

UNFIT = "\x00\x07\x1b\x85\udcff\ufeff\uffff"


def test_unfit_characters_are_named_wherever_a_string_stands():
    assert shown("a\x1b[31mb\tc\nd €漢") == "a‹U+001B›[31mb\tc\nd €漢"
    assert shown(("\x00", 1.5, {"\udcff": ["\ufeff", None]})) == ("‹U+0000›", 1.5, {"‹U+DCFF›": ["‹U+FEFF›", None]})
    array = np.array(["\x00"])
    assert shown(array) is array


@pytest.mark.parametrize("character", UNFIT)
def test_figures_and_documents_take_any_name(tmp_path, typeset_body, character):
    name = f"a{character}b"
    picture = figures.confusion_matrix(np.eye(2), [name, "c"])
    ElementTree.fromstring(picture)
    (tmp_path / "a.svg").write_bytes(picture)
    body = "#set document(title: metrics.name)\n#heading(metrics.name)\n#figures(a: metrics.name)"
    pdf = typeset_body(body, name=name, figures={"a": {"file": "a.svg", "alt": name}})
    assert f"a‹U+{ord(character):04X}›b" in pypdf.PdfReader(io.BytesIO(pdf)).pages[0].extract_text()

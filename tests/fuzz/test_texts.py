"""Texts in any encoding, packed or not, whole and spoilt: read, or refused in one line."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.text import Tokenizer, as_in_text, load_files, load_for

pytestmark = pytest.mark.slow

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "big5", "shift_jis", "koi8-r"]
ASKED = [None] * 12 + ENCODINGS + ["utf-7", "idna", "punycode", "undefined", "unicode_escape", "hex", "a\0b", "", "hz"]
PIECES = [
    *"é한中Ω\ufeff\x0c\u2028\x85\x1b\ufffd😀",
    "the ",
    "of ",
    "\n",
    "\n\n",
    "\r\n\r\n",
    " \t\n",
    "e\u0301",
    "\u1112\u1161",
]
PIECES += ["0123456789", "a" * 5_000, " " * 9_000, "\n" * 3_000, " \n" * 3_000, "x\n\n" * 500]
texts = st.lists(st.sampled_from(PIECES), min_size=5, max_size=60).flatmap(
    lambda pieces: st.integers(1, 9).map(lambda times: "".join(pieces) * times)
)


@st.composite
def contents(draw) -> bytes:
    content = draw(texts).encode(draw(st.sampled_from(["utf-8"] * 9 + ENCODINGS)), "replace")
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(max_size=8)) + content[place + draw(st.integers(0, 8)) :]
    if draw(st.integers(0, 3)) == 0:
        content = gzip.compress(content, 1)
        if draw(st.booleans()):
            place = draw(st.integers(0, len(content)))
            content = content[:place] + draw(st.binary(max_size=2)) + content[place + 1 :]
    return content


def load(files: dict[str, bytes], kind: str, encoding: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        corpus = load_files([Path(folder)], kind, vocabulary=300, encoding=encoding)
        assert all(sentence.isprintable() for sentence in [corpus.provenance.name, corpus.provenance.source])
        assert sum(part.characters.sum() for part in corpus.splits.values()) == corpus.provenance.rows
        for part in corpus.splits.values():
            assert kind == "char" or not part.unknown
        again = load_for([Path(folder)], Tokenizer.from_config(corpus.tokenizer.to_config()), encoding=encoding)
        assert again.characters.sum() == corpus.provenance.rows


names = st.sampled_from(
    ["a.txt", "B.TXT", "c.txt.gz", "d.md", "e.pdf", "\x1b[31m.txt", "\udcff.txt", ".hidden.txt", "f\n.txt"]
)


@given(
    files=st.dictionaries(names, contents(), min_size=1, max_size=3),
    kind=st.sampled_from(["char", "byte", "bpe"]),
    encoding=st.sampled_from(ASKED),
)
def test_texts(judge, files, kind, encoding):
    judge(load, files, kind, encoding)


@given(st.text() | texts)
def test_prompts_keep_their_form(prompt):
    once = as_in_text(prompt)
    assert as_in_text(once) == once or "\ufeff" in prompt  # of several byte order marks one goes at a time

"""Dictionaries as other programs write them, mutated, and files that are none: accepted, or refused in one line."""

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import pronunciation

pytestmark = pytest.mark.slow

FORMS = (
    "{w} {p}",
    "{w}\t{p}",
    "{w}  [{w}]  {p}",
    "{w} {n} {p}",
    "{w}\t{n}\t{n}\t{n}\t{n}\t{p}",
    "{n}\t{w}\t{p}\t{n}",
    "{w}\t/{p}/, /{p}/",
    "{w}\t[{p}]",
    "{w}(2)\t{p} # x",
    "{w}\t{p}\tnoun",
)
PHONES = ("AE1 B K", "K AE1 T", "B IY0", "hɛˈloʊ", "t͡ʃiː.ə", "ka(ə)t", "a ~ b", "ㄱ ㅏ", "t_S 2: @", "a1 a5 n")
ODD_PHONES = ("", "ˈ", "( x", "/", "[]", "((", "[a", ". -", "#", "~ ,", "1", "(a)(b)(c)(d)(e)")
HEADINGS = ("", "word\tphones\n", "Wort\tAussprache\n", "a\tb\tc\n", ";;; x\n", "\ufeff", "word\n", "pron\tword\n")
ENCODINGS = ("utf-8", "latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252", "utf-7", "shift_jis", "utf-8-sig")
ASKED = (*ENCODINGS, "punycode", "idna", "undefined", "unicode_escape", "hz", "rot13", "x")
SPLICES = (
    *(b"\t", b"\n", b"\r", b"\0", b"\xff", b"\x1b[31m", b"(", b")", b"[", b"]", b"/", b"#", b" # ", b"~", b", "),
    *(b"\xc2\xa0", b"\xe2\x80\xa8", b"\xe2\x80\x8b", b"\xed\xa0\x80", b"\xcc\x81", b"\xcd\xa1", b"\xcb\x88"),
    *(b" " * 70_000, b"\n" * 70_000, b"9" * 400, b"1e400 ", b"x" * 300, b" A" * 600, b"\xe1\x84\x80" * 50, b"\xc4\xb0"),
)
letters = st.sampled_from(["abcdefg", "abéñ", "한국어초콜릿", "漢字", "अआकि", "aА'’-", "Iİßǅ", "🙂a"])


rarely = st.integers(0, 9).map(lambda number: number == 0)


@st.composite
def files(draw) -> tuple[bytes, str | None]:
    """Words in some form, with splices and cuts at random places, and the encoding to be asked for."""
    alphabet, random_ = draw(letters), random.Random(draw(st.integers(0, 2**16)))
    forms = draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=1 + draw(rarely)))
    phones = draw(st.lists(st.sampled_from(PHONES), min_size=2, max_size=6, unique=True))
    lines = [
        random_.choice(forms).format(
            w="".join(random_.choices(alphabet, k=random_.randint(3, 7))),
            p=random_.choice(phones),
            n=random_.choice(["1", "0.5", "1e-05", "-3.2"]),
        )
        for _ in range(draw(st.sampled_from([1, 30, 400, 800])))
    ]
    for odd in draw(st.lists(st.sampled_from(ODD_PHONES), max_size=2)):
        lines[draw(st.integers(0, len(lines) - 1))] = draw(st.sampled_from(FORMS)).format(w="odd", p=odd, n="nan")
    text = draw(st.sampled_from(HEADINGS)) + draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines)
    encoding = draw(st.sampled_from(ENCODINGS))
    content = text.encode(encoding, "replace")
    for splice in draw(st.lists(st.sampled_from(SPLICES), max_size=2)):
        place = draw(st.integers(0, len(content)))
        content = content[:place] + splice + content[place + draw(st.integers(0, 3)) :]
    if draw(rarely):
        content = gzip.compress(content, 1)
        content = content[: draw(st.integers(2, len(content)))] if draw(rarely) else content
    if draw(rarely):
        content = draw(st.binary(max_size=400))
    asked = draw(st.sampled_from(ASKED)) if draw(rarely) else draw(st.sampled_from([encoding, None]))
    return content, asked


choices = st.fixed_dictionaries(
    {"stress": st.booleans(), "skip_bad": st.booleans(), "form": st.sampled_from(["NFC", "NFD"])}
)


def load(path: str, options: dict) -> None:
    lexicon = pronunciation.load_dictionary(Path(path), **options)
    coder = pronunciation.Coder.from_config(lexicon.coder.to_config())
    for part in lexicon.splits.values():
        assert all(part.spellings)
        assert all(phones for of_word in part.pronunciations for phones in of_word)
        assert all(phone.strip() == phone != "" for of in part.pronunciations for one in of for phone in one)
        coder.pairs(part)
    assert not any(coder.strange(word) for word in lexicon.splits["train"].spellings)
    assert all(len(sentence) < 1_000 and "\n" not in sentence for sentence in lexicon.provenance.understood)


def load_words(path: str) -> None:
    pronunciation.load_words(Path(path))


@given(file=files(), options=choices)
def test_dictionaries(judge, tmp_path_factory, file, options):
    content, encoding = file
    path = tmp_path_factory.getbasetemp() / "dictionary"
    path.write_bytes(content)
    judge(load, str(path), options | {"encoding": encoding})


def load_listed(path: str, words: str) -> None:
    pronunciation.load_dictionary(Path(path), test_words=Path(words))


@settings(max_examples=60)
@given(file=files())
def test_lists_of_test_words(judge, tmp_path_factory, file):
    folder = tmp_path_factory.getbasetemp()
    draw = random.Random(0)
    entries = {"".join(draw.choices("abcdefg", k=3)): None for _ in range(2_000)}
    (folder / "entries").write_text("".join(f"{word}\tA B\n" for word in entries))
    (folder / "list").write_bytes(file[0])
    judge(load_listed, str(folder / "entries"), str(folder / "list"))


@pytest.mark.parametrize(
    "content",
    [
        b" " * 60_000_000,
        b"\n" * 60_000_000,
        b" \r\n" * 20_000_000,
        b"a A\n" + b"\t" * 60_000_000,
        b"x" * 50_000_000,
        b"a " + b"AH0 " * 12_000_000,
        b"#" * 50_000_000,
        b"a A # " + b"x" * 50_000_000,
        b"# x\n" * 15_000_000,
    ],
    ids=["blanks", "lines", "lines of blanks", "tabs", "letters", "phones", "comment", "entry's comment", "comments"],
)
def test_large_files_of_nothing(judge, tmp_path, content):
    (tmp_path / "dictionary").write_bytes(content)
    assert "expected" in judge(load_words, str(tmp_path / "dictionary"))

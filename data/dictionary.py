"""Read a pronouncing dictionary from a file, whose layout is detected.

Each line is an entry: a word and its phones, separated by a tab or by spaces, whichever most of the first lines use.
Another pronunciation of a word is listed as `word(1)` or `word(2)`, under the word itself, or on the same line after a
comma, a semicolon or one of " ~ ", " | " and " / ", as in `/a/, /b/`; slashes or square brackets around a pronunciation
are removed. Phones in round brackets are optional and give two pronunciations. If most lines have them, columns of
numbers (Kaldi's lexiconp, the Montreal Forced Aligner, Phonetisaurus, Sequitur) and HTK's output symbol, as in
`HELLO [HELLO] hh ah l ow`, are removed. The first line may be a heading, which may name further columns. Comments are
lines that begin with `#`, `;` or `//`, or follow ` #` in an entry.

If spaces don't separate the phones, as often in IPA, each letter is a phone, together with the combining marks, length
marks and other modifier letters after it; tie bars join two letters. Syllable marks (`.`, `-`, `‿`) are removed.
"""

import codecs
import collections
import dataclasses
import io
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from data.dataset import BadInput, Provenance, counted, listed
from data.text import opened

LONGEST, LONGEST_PHONES = 256, 1_024  # letters in a word, and characters in a pronunciation
UNITS = "entries"

_LINE = 2**16  # characters
_BLANKS = 1_000_000  # lines in a row without an entry
_SAMPLE = 5_000  # lines from which the form is detected
_MOST = 0.9  # share of the lines that must have a feature of the form
_ARPABET_SHARE = 0.95  # share of the phones that must look like ARPAbet for digits to be stress
_MOST_OPTIONAL = 3  # bracketed parts of a pronunciation
_COMMENTS = ("#", ";", "//")
_COMMENT = re.compile(r"[ \t]#.*")
NUMBERED = re.compile(r"(?<=.)\(\d+\)$")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_OUTPUT = re.compile(r"\[[^\]]*\]\s*(?=[^\s,;~|/\[])")
_SLASHES = re.compile(r"/([^/]*)/")
_BRACKETS = re.compile(r"\[([^\]]*)\]")
_BETWEEN = re.compile(r",\s*|;\s+|\s[~|/]\s")
_OPTIONAL = re.compile(r"\(([^()]*)\)")
_SPECIAL = re.compile(r"<.*>|\[.*\]|\{.*\}|!\S+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Soft hyphens, zero-width spaces, byte order marks and direction marks.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_APOSTROPHES = "'’‘ʼ"
_ARPABET = re.compile(r"[A-Za-z]+[0-2]?")
STRESS_MARKS = "ˈˌ"
_SYLLABLES = ".-‿·‐"
_TIES = "\u0361\u035c\u0362"
_RHOTICITY = "\u02de"
_WORDS = {
    *("word", "words", "grapheme", "graphemes", "spelling", "orthography", "orth", "entry", "headword", "lemma"),
    *("token", "written", "text"),
}
_PHONES = {
    *("phone", "phones", "phoneme", "phonemes", "pronunciation", "pronunciations", "transcription", "transcriptions"),
    *("ipa", "arpabet", "x-sampa", "sampa", "pron", "prons", "phonetic", "phonetics"),
}


class Entries:
    """Words and their pronunciations, phones separated by spaces; `more` has the words with several pronunciations."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        self.more: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self.first)

    def add(self, word: str, phones: str) -> bool:
        """Add a pronunciation; False if the word has it already."""
        if word not in self.first:
            self.first[word] = phones
            return True
        alternates = self.more.setdefault(word, {self.first[word]: None})
        if phones in alternates:
            return False
        alternates[phones] = None
        return True

    def of(self, word: str) -> Iterable[str]:
        """The pronunciations of a word, in order."""
        return self.more.get(word) or (self.first[word],)

    def phones(self) -> collections.Counter[str]:
        """How often each phone is listed."""
        counts: collections.Counter[str] = collections.Counter()
        for phones in self.first.values():
            counts.update(phones.split(" "))
        for alternates in self.more.values():
            for phones in itertools.islice(alternates, 1, None):
                counts.update(phones.split(" "))
        return counts


def normalised(word: str) -> str:
    """The lookup key of a word: lower case, in Unicode's composed form (NFC).

    Lower case, not Unicode's case folding, which would make "Maße" the same word as "Masse".
    """
    return word.lower() if word.isascii() else unicodedata.normalize("NFC", word.lower())


def read(
    path: Path, *, stress: bool = False, encoding: str | None = None, skip_bad: bool = False
) -> tuple[Entries, Provenance]:
    """Read a dictionary and normalise words and phones.

    Args:
        path: the file; it may be compressed by gzip.
        stress: keep the stress marks: IPA's ˈ and ˌ, and the digits 0 to 2 at the end of phones if nearly all phones
            are ASCII letters with or without one. Without them, pronunciations that differ only in stress become one.
        encoding: a Python codec; the default is UTF-8, or UTF-16 with a byte order mark, or, if spaces separate the
            columns, Latin-1.
        skip_bad: leave out lines that aren't entries, and count them.

    Raises:
        BadInput: The dictionary can't be used.
    """
    raw = _Raw(path, encoding, skip_bad)
    change, changes = _phone_changer(raw, stress)
    entries = Entries()
    became_one, repeated = 0, raw.repeated
    for spelling in raw.entries.first:
        word = normalised(spelling)
        is_known = word in entries.first
        became_one += is_known
        for phones in raw.entries.of(spelling):
            is_new = entries.add(word, change(phones))
            repeated += not is_new and not is_known
    pronunciations = len(entries) + sum(len(alternates) - 1 for alternates in entries.more.values())
    phones = entries.phones()
    if len(phones) == 1:
        only = next(iter(phones))
        raise BadInput(f"{path}: found only the phone {only!r} in {len(entries):,} words, expected several phones")
    understood = [
        f"a dictionary in the form {raw.form}",
        f"{pronunciations:,} pronunciations of {len(entries):,} words",
        f"{len(phones):,} phones: {named(sorted(phones))}",
        *changes,
        *raw.understood,
    ]
    if repeated:
        understood.append(f"left out: {counted(repeated, 'repeated pronunciation')}")
    if became_one:
        spellings = counted(became_one, "spelling")
        understood.append(f"merged with others of the same lower-case, composed form (NFC): {spellings}")
    named_so = {"name": path.name, "source": str(path), "rows": raw.count, "units": UNITS}
    return entries, Provenance.of_files([path], **named_so, understood=tuple(understood))


def named(names: Sequence[str], most: int = 8) -> str:
    """List a few names and count the rest."""
    return listed([name[:30] for name in names], most)


# Phones


def _phone_changer(raw: "_Raw", stress: bool) -> tuple[Callable[[str], str], list[str]]:
    """A function that separates the phones of a pronunciation and removes marks, and sentences on what it does."""
    names = raw.entries.phones()
    changes: list[str] = []
    bare: collections.Counter[str] = collections.Counter()  # without syllable marks
    for name, count in names.items():
        bare[name.strip("".join(_SYLLABLES))] += count
    del bare[""]
    digits = _are_stress(bare) if raw.are_separate else False
    marks = [mark for mark in STRESS_MARKS if any(mark in name for name in names)]
    drop = str.maketrans("", "", "" if stress else "".join(marks))
    for kind in ["stress digits at the end of phones"] * digits + ["the stress marks ˈ and ˌ"] * bool(marks):
        changes.append(f"{kind} were {'kept' if stress else 'dropped'}")
    if raw.are_separate:
        syllables = sorted({mark for name in names for mark in _SYLLABLES if name != name.strip(mark)})
        changed = {name: name.translate(drop).strip("".join(syllables)) for name in names}
        odd = {new for new in changed.values() if new and not _ARPABET.fullmatch(new)}
        if digits and odd:
            changes.append(f"phones in another form were kept unchanged: {named(sorted(odd))}")
        if digits and not stress:
            changed = {name: new if new in odd else new.rstrip("012") for name, new in changed.items()}
        if syllables:
            changes.append(f"the marks between syllables {' '.join(syllables)} were left out")
        if all(name == new for name, new in changed.items()):
            return str, changes
        return lambda phones: " ".join(filter(None, [changed[phone] for phone in phones.split(" ")])), changes
    characters = set().union(*names)
    syllables = sorted(characters & set(_SYLLABLES))
    modifiers = {c for c in characters if unicodedata.category(c) in ("Mn", "Mc", "Me", "Lm")} - set(STRESS_MARKS)
    modifiers = re.escape("".join(modifiers) + _TIES + _RHOTICITY)
    letter = f"[^{modifiers}][{modifiers}]*"
    # A tie bar joins a letter to the next; marks before any letter are a phone.
    pattern = re.compile(f"(?:{letter}(?<=[{_TIES}]))*{letter}|[{modifiers}]+")
    drop |= dict.fromkeys(map(ord, [" ", *syllables]))
    changes.insert(
        0,
        "no spaces separate the phones: each letter is one, with the combining, length and other modifier marks after "
        "it, and tie bars join two letters to one",
    )
    if syllables:
        changes.append(f"the marks between syllables {' '.join(syllables)} were left out")
    return lambda phones: " ".join(pattern.findall(phones.translate(drop))), changes


def _are_stress(names: collections.Counter[str]) -> bool:
    """Whether digits at the end of phones mark stress: nearly all phones are letters, with or without a 0, 1 or 2.

    Tones go up to 4 or more, and X-SAMPA uses other digits and signs.
    """
    plain = sum(count for name, count in names.items() if _ARPABET.fullmatch(name))
    stressed = sum(count for name, count in names.items() if _ARPABET.fullmatch(name) and name[-1].isdigit())
    with_digit = sum(count for name, count in names.items() if any(map(str.isdigit, name)))
    return 0 < stressed >= _ARPABET_SHARE * with_digit and plain >= _ARPABET_SHARE * names.total()


# Forms


@dataclasses.dataclass(frozen=True)
class _Form:
    """How to read the lines of a file.

    Attributes:
        is_table: tabs separate the columns, not spaces.
        columns: the indices of word and phones, if a heading names them among other columns.
        indexed: there is a number before the word.
        numbers: how many numbers are before the phones, or, in a table, how many columns of numbers there are.
        outputs: there are HTK's output symbols before the phones.
        heading: the first line, if it is one.
    """

    is_table: bool
    columns: tuple[int, int] | None = None
    indexed: bool = False
    numbers: int = 0
    outputs: bool = False
    heading: str = ""

    def __str__(self) -> str:
        parts = ["a word", *["its output symbol in [ ]"] * self.outputs]
        parts += ["a number" if self.numbers == 1 else f"{self.numbers} numbers"] * bool(self.numbers)
        parts = ["a number"] * self.indexed + parts
        left_out = ", of which word and phones were used" if len(parts) > 1 else ""
        if self.columns:
            left_out = "; its heading names them among other columns, which were left out"
        return f"“{', '.join(parts)}, {'a tab' if self.is_table else 'spaces'}, its phones”{left_out}"

    def entry(self, line: str) -> tuple[str, list[str]]:
        """Parse a line into the word and its pronunciations, or raise ValueError."""
        word, phones = self._halves(_less_comment(line))
        if self.outputs:
            phones = _OUTPUT.sub("", phones, count=1) if phones.startswith("[") else phones
            word = word.strip('"').removeprefix("\\") or word
        if self.numbers:
            phones = _less_numbers(phones, self.numbers)
        if self.outputs and phones.startswith("["):  # after the number
            phones = _OUTPUT.sub("", phones, count=1)
        alternates = [_tidy(word, one) for one in _alternates(phones)]
        return word, [one for of in alternates for one in _with_and_without(of)]

    def _halves(self, line: str) -> tuple[str, str]:
        if not self.is_table:
            word, *phones = line.split(maxsplit=1)
            return word, "".join(phones).strip()
        columns = [_unquoted(" ".join(column.split())) for column in line.split("\t")]
        if self.columns:
            if len(columns) <= max(self.columns):
                raise ValueError(f"found {_counted(len(columns))}, {line[:40]!r}, expected those of the heading")
            word, phones = (columns[place] for place in self.columns)
        else:
            word, *others = columns[self.indexed :] or [""]
            others = [column for column in others if column]
            if self.numbers:
                others = [column for column in others if not _NUMBER.fullmatch(column)]
            if self.outputs and len(others) > 1:
                others = [column for column in others if not _BRACKETS.fullmatch(column)]
            if len(others) > 1:
                found = f"found {_counted(len(columns))}, {line[:40]!r}"
                raise ValueError(f"{found}, expected a word, a tab and its phones")
            if not others and len(columns) == 1:
                raise ValueError(f"found one column, {line[:40]!r}, expected a word, a tab and its phones")
            phones = "".join(others)
        if not word:
            raise ValueError("found no word before the tab, expected one")
        return word, phones


def is_heading(name: str) -> bool:
    """Whether a word is the usual name of a column of words."""
    return name.casefold() in _WORDS


def _less_comment(line: str) -> str:
    return _COMMENT.sub("", line) if "#" in line else line


def _unquoted(column: str) -> str:
    return column[1:-1].strip() if len(column) > 1 and column[0] == column[-1] == '"' else column


def _counted(columns: int) -> str:
    return "one column" if columns == 1 else f"{columns:,} columns"


def _less_numbers(phones: str, most: int) -> str:
    """Remove up to `most` numbers before the phones."""
    for _ in range(most):
        number, *rest = phones.split(maxsplit=1) or [""]
        if not rest or not _NUMBER.fullmatch(number):
            break
        phones = rest[0]
    return phones


def _alternates(phones: str) -> list[str]:
    """The pronunciations of one entry."""
    groups = [phones]
    if phones.startswith(("/", "[")):
        groups = (_SLASHES if phones[0] == "/" else _BRACKETS).findall(phones) or groups
    alternates = [one for group in groups for one in _BETWEEN.split(group)]
    return [one for one in alternates if one.strip()] or [""]


def _with_and_without(phones: str) -> list[str]:
    """The pronunciations with and without each part in round brackets."""
    if "(" not in phones and ")" not in phones:
        return [phones]
    parts = _OPTIONAL.split(phones)  # those in brackets have odd indices
    optional = len(parts) // 2
    if any(sign in part for part in parts for sign in "()"):
        raise ValueError(f"found {phones[:40]!r}, expected round brackets in pairs")
    choices = itertools.product((True, False), repeat=optional)
    if optional > _MOST_OPTIONAL:
        choices = [(True,) * optional, (False,) * optional]
    pronunciations = []
    for chosen in choices:
        spoken = [part for index, part in enumerate(parts) if index % 2 == 0 or chosen[index // 2]]
        pronunciations.append(" ".join("".join(spoken).split()))
    return [one for one in pronunciations if _has_phones(one)]


def _has_phones(phones: str) -> bool:
    return bool(phones.strip(STRESS_MARKS + _SYLLABLES + " "))


def _tidy(word: str, phones: str) -> str:
    """Put one space between phones, in NFC; ValueError if there are none or too many."""
    phones = " ".join(phones.split())
    if not _has_phones(phones.replace("(", "").replace(")", "")):
        raise ValueError(f"found {word[:40]!r} without phones, expected them after it")
    if len(word) > LONGEST or len(phones) > LONGEST_PHONES:
        found = f"found {len(word):,} letters and {len(phones):,} characters of phones"
        raise ValueError(f"{found}, expected at most {LONGEST:,} and {LONGEST_PHONES:,}: is it an entry?")
    return phones if phones.isascii() else unicodedata.normalize("NFC", phones)


def _form_of(lines: Sequence[str]) -> _Form:
    """Detect the form that most of the first lines have."""
    lines = [_less_comment(line) for line in lines]
    form = _Form(2 * sum("\t" in line for line in lines) >= len(lines))
    names = [name.strip().casefold() for name in (lines[0].split("\t") if form.is_table else lines[0].split())]
    words = [place for place, name in enumerate(names) if name in _WORDS]
    phones = [place for place, name in enumerate(names) if name in _PHONES]
    is_pair = len(names) == 2 and phones == [1]
    if is_pair or (words and phones and (form.is_table or (words[0] == 0 and phones[0] == len(names) - 1))):
        form = dataclasses.replace(form, heading=lines[0])
        if form.is_table and not is_pair:
            return dataclasses.replace(form, columns=(words[0], phones[0]))
    bodies = lines[1:] if form.heading else lines
    rows: list[tuple[str, list[str]]] = []
    for line in bodies:
        columns = [column.strip() for column in line.split("\t" if form.is_table else None)]
        rows.append((columns[0], [column for column in columns[1:] if column]))
    if form.is_table and _most(_NUMBER.fullmatch(word) and len(rest) > 1 for word, rest in rows):
        form = dataclasses.replace(form, indexed=True)
        rows = [(rest[0], rest[1:]) for _, rest in rows if rest]
    texts = [" ".join(rest) for _, rest in rows]
    if 2 * sum(bool(_OUTPUT.match(_less_numbers(text, 1))) for text in texts) > len(texts):
        form = dataclasses.replace(form, outputs=True)
        texts = [_OUTPUT.sub("", text, count=1) for text in texts]
    columns = [sum(bool(_NUMBER.fullmatch(column)) for column in rest) for _, rest in rows]
    columns = [count if count < len(rest) else 0 for count, (_, rest) in zip(columns, rows, strict=True)]
    if not (form.is_table and any(columns)):
        columns = [_numbers_before(text) for text in texts]  # and if tabs don't separate them
    # Some entries may have none, as in the Montreal Forced Aligner's dictionaries.
    if 2 * sum(count > 0 for count in columns) > len(columns):
        form = dataclasses.replace(form, numbers=collections.Counter(filter(None, columns)).most_common(1)[0][0])
    if not form.heading and len(rows) > 20:
        form = dataclasses.replace(form, heading=lines[0] if _is_heading(form, lines) else "")
    return form


def _most(conditions: Iterable[object]) -> bool:
    """Whether there are conditions and most of them hold."""
    held = [bool(condition) for condition in conditions]
    return bool(held) and sum(held) >= _MOST * len(held)


def _numbers_before(phones: str) -> int:
    """How many numbers precede the phones."""
    tokens = phones.split()
    count = len(list(itertools.takewhile(_NUMBER.fullmatch, tokens)))
    return count if count < len(tokens) else 0


def _foreign(lines: Sequence[str]) -> str:
    """The sign that separates word and phones in most lines, or surrounds the phones, if it isn't a space."""
    signs: collections.Counter[str] = collections.Counter()
    for line in lines:
        word, *phones = line.split()
        inside = next((sign for sign in ",;|=:" if sign in word[1:]), "")
        if inside or not phones:
            signs[inside] += 1
        elif not any(map(str.isalnum, phones[0])) and not phones[0].startswith(("[", "/", "(")):
            signs[phones[0]] += 1
        elif phones[0][0] == phones[-1][-1] == '"':
            signs['"'] += 1
    sign, held = signs.most_common(1)[0] if signs else ("", 0)
    return sign if 2 * held > len(lines) else ""


def _is_heading(form: _Form, lines: Sequence[str]) -> bool:
    """Whether the first line is a heading of unknown names: its "phones" are in no other line."""
    rows: list[list[str]] = []
    for line in lines:
        try:
            rows.append(form.entry(line)[1])
        except ValueError:
            rows.append([])
    first, *others = rows
    if not _most(others):
        return False
    if not first:
        return form.is_table and "\t" in lines[0] and not any(map(str.isdigit, lines[0]))
    texts = [one for of in others for one in of]
    if 2 * sum(" " in one for one in texts) >= sum(len(one) > 1 for one in texts):
        known = {phone for one in texts for phone in one.split(" ")}
        return all(len(phone) > 1 and phone not in known for one in first for phone in one.split(" "))
    known = set().union(*texts)
    return all(re.fullmatch(r"[\w ()/.-]+", one, re.ASCII) and not known.issuperset(one) for one in first)


# Files


class _Raw:
    """The content of a dictionary before normalisation."""

    def __init__(self, path: Path, encoding: str | None, skip_bad: bool) -> None:
        self.entries = Entries()
        self.count = self.repeated = 0
        self.understood: list[str] = []
        notes = _Notes()
        lines = content(checked(path, "a dictionary"), encoding, notes)
        sample = collections.deque(itertools.islice(lines, _SAMPLE))
        if not sample:
            raise BadInput(f"{path}: found no entry, expected words and their phones, one word per line")
        self.form = _form_of([line for _, line in sample])
        if not self.form.is_table and len(sample) > 1 and (sign := _foreign([line for _, line in sample])):
            number, line = sample[0]
            found = f"found {sign!r} at the word or the phones in most lines, {line[:40]!r}"
            raise BadInput(f"{path}: line {number:,}: {found}, expected only a tab or spaces between the two")
        of_several = separate = left_out = several = optional = bad = 0
        first_bad = ""
        is_first = True
        for number, line in itertools.chain((sample.popleft() for _ in range(len(sample))), lines):
            if is_first:
                is_first = False
                if self.form.heading:
                    continue
                if not self.form.is_table and (" " not in line or "," in line.split()[0][1:]):
                    expected = "expected a word and its phones, with a tab or spaces between"
                    raise BadInput(f"{path}: line {number:,}: found one column, {line[:40]!r}, {expected}")
            try:
                if control := _CONTROL.search(line):
                    raise ValueError(f"found the control character {control[0]!r}, expected text")
                word, alternates = self.form.entry(line)
            except ValueError as error:
                if not skip_bad:
                    raise BadInput(f"{path}: line {number:,}: {error}") from None
                bad += 1
                first_bad = first_bad or f"line {number:,}: {error}"
                continue
            special = _SPECIAL.fullmatch(word)
            if special or (not self.form.is_table and not word[0].isalnum() and word[0] not in _APOSTROPHES):
                left_out += 1
                continue
            self.count += 1
            base = NUMBERED.sub("", word).strip() if word[-1] == ")" else word
            several += len(alternates) > 1
            optional += "(" in line and "(" in _less_comment(line).removeprefix(word)
            for phones in alternates:
                of_several += len(phones) > 1
                separate += " " in phones
                self.repeated += not self.entries.add(base, phones)
        if not self.count:
            found = f"; {bad:,} lines were skipped, the first: {first_bad}" if bad else ""
            raise BadInput(f"{path}: found no entry, expected words and their phones, one word per line{found}")
        self.are_separate = 2 * separate >= of_several
        if self.form.heading:
            self.understood.append(f"the first line, “{' '.join(self.form.heading.split())[:60]}”, is a heading")
        if notes.encoding:
            self.understood.append(notes.encoding)
        if several:
            self.understood.append(f"several pronunciations on one line: in {counted(several, 'line')}")
        if optional:
            self.understood.append(
                f"phones in round brackets, read with and without them: in {counted(optional, 'line')}"
            )
        if left_out:
            self.understood.append(
                f"{left_out:,} entries that begin with neither a letter, a digit nor an apostrophe, such as the names "
                "of punctuation marks and of noises, were left out"
            )
        if notes.comments:
            self.understood.append(f"left out: {counted(notes.comments, 'comment line')}")
        if notes.invisible:
            self.understood.append(f"invisible characters were removed from {counted(notes.invisible, 'line')}")
        if bad:
            self.understood.append(f"left out: {counted(bad, 'line')} without an entry, the first: {first_bad}")


class _Notes:
    """Observations made while reading lines."""

    encoding = ""
    comments = invisible = 0


def checked(file: Path, expected: str) -> Path:
    """Check that a file exists and isn't empty."""
    if file.is_dir():
        raise BadInput(f"{file}: found a folder, expected {expected}, one file")
    if not file.is_file():
        raise BadInput(f"{file}: found no such file, expected {expected}")
    if file.stat().st_size == 0:
        raise BadInput(f"{file}: found an empty file, expected {expected}")
    return file


def content(file: Path, encoding: str | None = None, notes: _Notes | None = None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, without comments and blank lines."""
    notes = notes or _Notes()
    with opened(file) as stream:
        buffered = io.BufferedReader(stream)  # pyright: ignore[reportArgumentType] - it reads as a raw stream does
        head = buffered.peek(2)[:2]
        if encoding is None and head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            encoding = "utf-16"
            notes.encoding = "read as UTF-16, by its byte order mark"
        elif encoding:
            notes.encoding = f"read as {encoding}, as set by --encoding"
        try:
            # Bytes that aren't UTF-8 become halves of surrogate pairs, which are checked line by line.
            errors = "strict" if encoding else "surrogateescape"
            reader = io.TextIOWrapper(buffered, encoding or "utf-8", errors)
        except (LookupError, ValueError):
            expected = "one that Python knows, such as utf-8, utf-16 or cp1252"
            raise BadInput(f"--encoding: found {encoding!r}, expected {expected}") from None
        yield from _lines(reader, file, encoding, notes)


def _lines(reader: io.TextIOWrapper, file: Path, encoding: str | None, notes: _Notes) -> Iterator[tuple[int, str]]:
    first_of: dict[str, int] = {}  # the first line in each encoding
    blanks = 0
    for number in itertools.count(1):
        place = f"{file}: line {number:,}"
        try:
            line = reader.readline(_LINE)
        except UnicodeError as error:
            found = f"a byte that isn't {encoding}"
            if isinstance(error, UnicodeDecodeError):
                found = f"the byte 0x{error.object[error.start]:02x}, which isn't {encoding}"
            raise BadInput(f"{file}: after line {number - 1:,}: found {found}, expected {encoding}") from None
        if not line:
            return
        if len(line) == _LINE:
            found = f"found {_LINE:,} bytes without a line end"
            raise BadInput(f"{place}: {found}, expected one entry per line")
        if not line.isascii():
            if encoding is None:
                line = _decoded(line, file, number, first_of)
                if "Latin-1" in first_of:
                    notes.encoding = "read as Latin-1, as it isn't UTF-8"
            elif any("\ud800" <= character <= "\udfff" for character in line):
                raise BadInput(f"{place}: found half of a surrogate pair, expected characters of Unicode")
            if _INVISIBLE.search(line):
                notes.invisible += number > 1 or _INVISIBLE.search(line, 1) is not None  # not a byte order mark
                line = _INVISIBLE.sub("", line)
        if "\0" in line:
            expected = "expected text in UTF-8: is it UTF-16 (--encoding utf-16-le), or not text at all?"
            raise BadInput(f"{place}: found a NUL byte, {expected}")
        line = line.strip(" \r\n")
        is_comment = line.startswith(_COMMENTS)
        if line and not is_comment and not line.isspace():
            blanks = 0
            yield number, line
            continue
        notes.comments += is_comment
        blanks += 1
        if blanks > _BLANKS:
            raise BadInput(f"{place}: found {_BLANKS:,} lines in a row without an entry, expected one per line")


def _decoded(line: str, file: Path, number: int, first_of: dict[str, int]) -> str:
    """Decode a line that isn't ASCII as UTF-8 or Latin-1; `first_of` holds the first line in each encoding."""
    place = f"{file}: line {number:,}"
    stray = next((character for character in line if "\udc80" <= character <= "\udcff"), None)
    if stray is None:
        if "Latin-1" in first_of:
            raise BadInput(f"{place}: found UTF-8, expected Latin-1 as in line {first_of['Latin-1']:,}")
        first_of.setdefault("UTF-8", number)
        return line
    found = f"found the byte 0x{ord(stray) - 0xDC00:02x}, which isn't UTF-8"
    other = "(--encoding names another)"
    if "\t" in line:
        raise BadInput(f"{place}: {found}, expected UTF-8 {other}")
    line = line.encode("utf-8", "surrogateescape").decode("latin-1")
    if any("\x7f" < character < "\xa0" for character in line):
        raise BadInput(f"{place}: {found}, expected UTF-8 or Latin-1 {other}")
    if "UTF-8" in first_of:
        raise BadInput(f"{place}: {found}, expected UTF-8 as in line {first_of['UTF-8']:,} {other}")
    first_of.setdefault("Latin-1", number)
    return line

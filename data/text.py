r"""Text as tokens: Python's own language reference, or the user's files, in blocks for training, validation and test.

A text is split into paragraphs at blank lines. Repeated paragraphs are left out, as they could be in training and in
test. The others are joined to blocks of at most `BLOCK` characters. Of every ten blocks, the 5th is for test, the 10th
for validation, and the others for training: the language of a text changes, so its end alone would not be
representative. Each paragraph ends with one blank line. One longer than two blocks is cut into pieces, at a line end or
a space if possible. In a text of fewer than 20 blocks, a block is a twentieth. Line ends of all systems become "\n",
text is normalised to NFC, and at most `LONGEST` consecutive blanks in a line are kept.

Files are streamed, as often as needed. The tokens of a text of more than `IN_MEMORY` characters are in memory-mapped
files; 13 bytes per paragraph are in memory, to detect repeated ones. The vocabulary of characters or the merges of byte
pairs are fitted on training blocks only.
"""

import codecs
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import json
import os
import platform
import re
import tempfile
import unicodedata
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from data.dataset import BadInput, Provenance, counted, escaped, listed, require, sha256_of

BLOCK = 2_000  # characters
LONGEST = 2 * BLOCK  # characters of a paragraph
FEWEST_BLOCKS = 20
PARTS = ("train", "validation", "test")
# Files with the tokens of a large text.
KEPT = (*(f"{name}.npy" for name in PARTS), "corpus.npz", "corpus.npz.partial")
PLACES = {4: "test", 9: "validation"}  # of every ten blocks; all others are for training
IN_MEMORY = 2**25  # characters
BPE_SAMPLE = 2**22  # characters of training text from which merges are learned, at most
SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".py")
UNKNOWN = "\ufffd"
UNITS = "characters"
MOST_UNKNOWN = 0.02  # share of unknown characters; with more, a model's measures are meaningless

Kind = Literal["char", "byte", "bpe"]

_CHUNK = 2**20  # bytes read at once
_BATCH = 256  # blocks encoded at once
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LEADING_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)+")
_LONG_BLANKS = re.compile(rf"([^\S\n]{{{LONGEST}}})[^\S\n]+")
_PARAGRAPH_END = "\n\n"
_USES = {"train": "training", "validation": "validation", "test": "test"}
_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\b\t\n\v\f\r\x1b")
_MARKS = {  # UTF-32 first, as its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


# Tokens


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Encodes text as tokens and decodes tokens.

    `pieces` holds the bytes of each token, in UTF-8: the characters of the training text in order of their code points,
    with U+FFFD for all others ("char"), the 256 bytes ("byte"), or repeatedly merged byte pairs ("bpe").
    """

    kind: Kind
    pieces: list[bytes]
    library: Any = dataclasses.field(default=None, compare=False, repr=False)  # the tokenizers.Tokenizer of "bpe"

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.pieces)

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint8, uint16 and int32 that holds each token."""
        return np.dtype(np.uint8 if self.vocabulary <= 2**8 else np.uint16 if self.vocabulary <= 2**16 else np.int32)

    def encode(self, text: str) -> np.ndarray:
        """Turn a prompt into tokens, (n,) int32.

        Raises:
            BadInput: A character is not in the vocabulary, or is half of a surrogate pair.
        """
        try:
            (tokens,) = self._encode([text])
        except UnicodeEncodeError as error:
            raise _unknown(text, error.start, "a character of Unicode") from None
        if (tokens < 0).any():
            expected = f"one of the {self.vocabulary - 1:,} characters of the training text"
            raise _unknown(text, int(np.argmax(tokens < 0)), expected)
        return tokens

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Turn tokens into text; invalid UTF-8 becomes U+FFFD."""
        return b"".join([self.pieces[token] for token in np.asarray(tokens).tolist()]).decode("utf-8", "replace")

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON."""
        if self.kind == "char":
            return {"kind": "char", "characters": b"".join(self.pieces).decode()}
        if self.kind == "byte":
            return {"kind": "byte"}
        return {"kind": "bpe", "tokenizer": json.loads(self.library.to_str())}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Tokenizer":
        """Rebuild the tokenizer from its config."""
        if config["kind"] == "char":
            return cls("char", [character.encode() for character in config["characters"]])
        if config["kind"] == "byte":
            return cls("byte", [bytes([byte]) for byte in range(256)])
        require("text", "tokenizers")
        import tokenizers

        library = tokenizers.Tokenizer.from_str(json.dumps(config["tokenizer"]))
        tokens = library.get_vocab()
        spelt = sorted(tokens, key=tokens.__getitem__)
        return cls("bpe", [bytes(_BYTES[character] for character in piece) for piece in spelt], library)

    def preparation(self) -> dict[str, Any]:
        """What code without this module and its library needs to encode and decode text, as plain JSON."""
        merges = []
        if self.kind == "bpe":
            merges = [
                [bytes(_BYTES[character] for character in piece).hex() for piece in pair]
                for pair in json.loads(self.library.to_str())["model"]["merges"]
            ]
        return {"kind": self.kind, "pieces": [piece.hex() for piece in self.pieces], "merges": merges}

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Turn each text into tokens, (n,) int32, -1 for a character that the vocabulary lacks."""
        if self.kind == "char":
            return [self._numbers[_codes(text)] for text in texts]
        if self.kind == "byte":
            return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]
        for text in texts:
            text.encode()  # raises for halves of surrogate pairs, for which the library's errors are misleading
        return [np.array(encoding.ids, np.int32) for encoding in self.library.encode_batch_fast(texts)]

    @functools.cached_property
    def _numbers(self) -> np.ndarray:
        """The token of each code point, -1 for those without one."""
        numbers = np.full(0x110000, -1, np.int32)
        for number, piece in enumerate(self.pieces):
            numbers[ord(piece.decode())] = number
        return numbers


def decoded(tokens: Iterable[int], pieces: Sequence[bytes], stop: Sequence[str] = ()) -> Iterator[str]:
    """Turn tokens into text, piece by piece as they come, up to one of the strings in `stop`."""
    # A token may be part of a character; text that may begin a stop string is held back.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    longest = max(map(len, stop), default=1)
    waiting = ""
    for token in tokens:
        waiting += decoder.decode(pieces[token])
        if places := [waiting.find(string) for string in stop if string in waiting]:
            yield waiting[: min(places)]
            return
        ready = len(waiting) - longest + 1
        if ready > 0:
            yield waiting[:ready]
            waiting = waiting[ready:]
    yield waiting + decoder.decode(b"", final=True)


def as_in_text(prompt: str) -> str:
    """Normalise a prompt as texts are when read: line ends, blank lines, byte order mark, NFC."""
    prompt = io.IncrementalNewlineDecoder(None, translate=True).decode(prompt.removeprefix("\ufeff"), final=True)
    *complete, last = _BLANK_LINES.split(prompt)
    return unicodedata.normalize("NFC", _PARAGRAPH_END.join([*(paragraph.rstrip() for paragraph in complete), last]))


def _unknown(text: str, index: int, expected: str) -> BadInput:
    character = text[index]
    return BadInput(f"prompt: character {index + 1}: found {character!r} (U+{ord(character):04X}), expected {expected}")


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _byte_characters() -> dict[str, int]:
    """The bytes of the library's vocabulary by character, as in GPT-2: printable ones, and the others from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_characters()


def _fit_tokenizer(kind: Kind, vocabulary: int, blocks: Iterable[str], characters: int) -> Tokenizer:
    """Fit a tokenizer on the training blocks of a text with `characters` characters."""
    if kind == "byte":
        return Tokenizer.from_config({"kind": "byte"})
    if kind == "char":
        seen = np.zeros(0x110000, bool)
        seen[ord(UNKNOWN)] = True
        for block in blocks:
            seen[_codes(block)] = True
        return Tokenizer.from_config({"kind": "char", "characters": "".join(map(chr, np.flatnonzero(seen)))})
    require("text", "tokenizers")
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    library = tokenizers.Tokenizer(models.BPE())
    # Line ends are separate words, so that those at the end of a block are the same tokens as those within it.
    line_ends = pre_tokenizers.Split("\n", "contiguous")
    library.pre_tokenizer = pre_tokenizers.Sequence([line_ends, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(itertools.islice(blocks, 0, None, _sample_step(characters)), trainer)
    return Tokenizer.from_config({"kind": "bpe", "tokenizer": json.loads(library.to_str())})


def _sample_step(characters: int) -> int:
    """The step between training blocks in the sample for byte pairs."""
    return -(-characters // BPE_SAMPLE)


# Parts


@dataclasses.dataclass(frozen=True)
class Part:
    """Blocks of text that are used together.

    `tokens` is (n,) of `tokenizer.dtype`, in memory or memory-mapped; `starts`, `characters` and `bytes`, (blocks,)
    int64, are the position of each block's first token, its number of characters, and of bytes in UTF-8. `unknown`
    counts the characters that the vocabulary lacks, which became U+FFFD; `missing` counts each of them, but is empty if
    the tokens come from an earlier run.
    """

    tokens: np.ndarray
    starts: np.ndarray
    characters: np.ndarray
    bytes: np.ndarray
    unknown: int
    tokenizer: Tokenizer
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self) -> str:
        """The text, with U+FFFD for each unknown character."""
        return self.tokenizer.decode(self.tokens)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The parts "train", "validation" and "test" of a text, and the tokenizer, fitted on "train" or given."""

    provenance: Provenance
    tokenizer: Tokenizer
    splits: dict[str, Part]


def load_embedded(tokenizer: Kind | Tokenizer, *, vocabulary: int = 1_024, context: int = 1) -> Corpus:
    """Load Python's own language reference, which Python has for `help()`: about 373,000 characters.

    It differs between versions of Python. The arguments are as in `load_files`.

    Raises:
        BadInput: This Python has no `pydoc_data.topics`, or a part is shorter than a context.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise BadInput("pydoc_data.topics: found no such module, expected a full Python; or use text files") from None
    kept = _Kept("pydoc_data.topics", lambda: ([topics[key]] for key in sorted(topics)))
    content = "".join(kept).encode()
    splits, fitted, notes = _split("pydoc_data.topics", kept, tokenizer, vocabulary, None)
    _check_length("pydoc_data.topics", splits, context)
    provenance = Provenance(
        name="Python's language reference",
        source=f"pydoc_data.topics of Python {platform.python_version()}, {len(topics)} topics in order of their names",
        licence="Python Software Foundation License 2.0",
        rows=kept.characters,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        units=UNITS,
        notes=tuple(notes),
        understood=tuple(notes[-1:]) if isinstance(tokenizer, Tokenizer) else (),
    )
    return Corpus(provenance, fitted, splits)


def load_files(
    paths: Sequence[Path],
    tokenizer: Kind | Tokenizer,
    *,
    vocabulary: int = 1_024,
    context: int = 1,
    encoding: str | None = None,
    folder: Path | None = None,
) -> Corpus:
    """Read, check, split and encode the user's own text.

    Files are in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, or in `encoding`; each may be compressed by
    gzip. White space before a blank line is removed.

    Args:
        paths: text files, and folders, which are searched recursively for files that end in one of `SUFFIXES`,
            optionally with .gz, sorted by path. Names that begin with a dot and empty files are ignored.
        tokenizer: "char", "byte" or "bpe", to be fitted on the training blocks; or a fitted one, for which up to
            `MOST_UNKNOWN` of all characters may be unknown.
        vocabulary: tokens of "bpe", at least 256; fewer if the text has no more pairs that occur twice.
        context: a part must have this many tokens, and one more to predict.
        encoding: a Python codec, for all files.
        folder: where the tokens of a text of more than `IN_MEMORY` characters are stored, as train.npy, validation.npy,
            test.npy and corpus.npz, which is written last. If they exist for the same bytes and settings, they are used
            again. Without a folder, tokens are in unnamed temporary files.

    Raises:
        BadInput: The text can't be used.
    """
    files = find_files(paths)
    marks = _check_files(files, encoding)
    where = _describe(files)
    sizes = [file.stat().st_size for file in files]
    key: dict[str, Any] = {"sha256": sha256_of(files), "sizes": sizes, "encoding": encoding}
    key |= {"tokenizer": tokenizer.to_config() if isinstance(tokenizer, Tokenizer) else tokenizer}
    key |= {"vocabulary": vocabulary if tokenizer == "bpe" else None, "block": BLOCK, "form": "NFC"}
    known = folder and _load_known(folder, key)
    if known:
        splits, fitted, characters, notes = known
    else:
        kept = _Kept(where, lambda: (_read(file, encoding or marks[file]) for file in files))
        splits, fitted, notes = _split(where, kept, tokenizer, vocabulary, folder)
        characters = kept.characters
        if folder and isinstance(splits["train"].tokens, np.memmap):
            _save_known(folder, key, splits, characters, notes)
    _check_length(where, splits, context)
    provenance = Provenance(
        name=escaped((files[0] if len(files) == 1 else files[0].parent).name),
        source=escaped(where),
        licence="the user's own data",
        rows=characters,
        size_bytes=sum(sizes),
        sha256=key["sha256"],
        units=UNITS,
        understood=(*describe_files(paths, encoding), *notes),
    )
    return Corpus(provenance, fitted, splits)


def load_for(paths: Sequence[Path], tokenizer: Tokenizer, *, context: int = 1, encoding: str | None = None) -> Part:
    """Read text as one part, to evaluate a trained model; repeated paragraphs are left out.

    The arguments are as in `load_files`.

    Raises:
        BadInput: As in `load_files`.
    """
    files = find_files(paths)
    marks = _check_files(files, encoding)
    kept = _Kept(_describe(files), lambda: (_read(file, encoding or marks[file]) for file in files))
    parts = _encode(((block, "all") for block in kept.blocks()), ["all"], tokenizer, kept.is_large, None)
    _check_known(_describe(files), parts)
    _check_length(_describe(files), parts, context)
    return parts["all"]


def describe_files(paths: Sequence[Path], encoding: str | None = None) -> list[str]:
    """Sentences on how the files of `load_files` are read, and which files in folders are not.

    Raises:
        BadInput: As in `load_files`.
    """
    files = find_files(paths)
    return [_describe_encodings(files, encoding, _check_files(files, encoding)), *_describe_ignored(paths)]


def name_characters(missing: Mapping[str, int]) -> str:
    """Name characters that a vocabulary lacks, most frequent first, with their code points."""
    named = sorted(missing, key=lambda character: -missing[character])
    return listed(f"{character!r} (U+{ord(character):04X})" for character in named)


def _check_known(where: str, parts: Mapping[str, Part]) -> None:
    unknown = sum(part.unknown for part in parts.values())
    characters = sum(int(part.characters.sum()) for part in parts.values())
    if unknown > MOST_UNKNOWN * characters:
        found = f"{unknown:,} of {characters:,} characters that the model does not know"
        expected = f"at most {100 * MOST_UNKNOWN:g} %, or a model that was trained on such text"
        raise BadInput(f"{where}: found {found}, {name_characters(_missing(parts))}; expected {expected}")


def _missing(parts: Mapping[str, Part]) -> Counter[str]:
    return sum((Counter(part.missing) for part in parts.values()), Counter[str]())


def _check_length(where: str, parts: Mapping[str, Part], context: int) -> None:
    for name, part in parts.items():
        if len(part) < context + 1:
            found = f"{sum(map(len, parts.values())):,} tokens"
            if len(parts) > 1:
                found += f", only {len(part):,} of them for {_USES[name]}"
            raise BadInput(f"{where}: found {found}, expected at least {context + 1:,}, for one context")


def _split(
    where: str, kept: "_Kept", kind: Kind | Tokenizer, vocabulary: int, folder: Path | None
) -> tuple[dict[str, Part], Tokenizer, list[str]]:
    """Split into parts, fit the tokenizer unless it is given, encode all parts, and describe them."""
    if kind == "bpe" and vocabulary < 256:
        raise ValueError(f"vocabulary is {vocabulary}, expected at least 256, the bytes that pairs are merged from")
    if folder and kept.is_large:
        (folder / "corpus.npz").unlink(missing_ok=True)
    if isinstance(kind, Tokenizer):
        tokenizer = kind
    else:
        training = (block for block, part in kept.split() if part == "train")
        tokenizer = _fit_tokenizer(kind, vocabulary, training, kept.characters)
    parts = _encode(kept.split(), PARTS, tokenizer, kept.is_large, folder)
    if isinstance(kind, Tokenizer):
        _check_known(where, parts)
    count = {name: len(part.starts) for name, part in parts.items()}
    notes = [
        *kept.notes(),
        f"{sum(count.values()):,} blocks of up to {kept.block:,} characters; of every ten, the 5th is for test "
        f"({count['test']:,}), the 10th for validation ({count['validation']:,}) and the others for training "
        f"({count['train']:,})",
    ]
    if kind == "bpe":
        step = _sample_step(kept.characters)
        sample = "all" if step == 1 else f"one in {step:,}"
        notes.append(f"{tokenizer.vocabulary:,} tokens: byte pairs, merged as learned from {sample} training blocks")
    unknown = {name: part.unknown for name, part in parts.items()}
    missing = _missing(parts)
    named = f": {name_characters(missing)}" if missing else ""
    if isinstance(kind, Tokenizer):
        notes.append(
            f"{tokenizer.vocabulary:,} tokens of an earlier tokenizer; characters that it lacks, "
            f"{unknown['train']:,} in training, {unknown['validation']:,} in validation and {unknown['test']:,} in "
            f"test, became U+FFFD{named}"
        )
    if kind == "char":
        notes.append(
            f"{tokenizer.vocabulary - 1:,} characters in training; others, {unknown['validation']:,} in validation and "
            f"{unknown['test']:,} in test, became U+FFFD{named}"
        )
    return parts, tokenizer, notes


# Paragraphs and blocks


class _Kept:
    """The paragraphs of a text without repeated ones, each with the blank line after it.

    `documents` returns the text at each call: for each document, which ends a paragraph, its chunks.
    """

    def __init__(self, where: str, documents: Callable[[], Iterator[Iterable[str]]]) -> None:
        self._documents = documents
        self._held: list[str] | None = []
        hashes, lengths = bytearray(), array("I")
        characters, cut, composed = 0, 0, 0
        different: Counter[str] = Counter()
        for raw in self._raw():
            paragraph = unicodedata.normalize("NFC", raw)
            composed += paragraph != raw
            hashes += hashlib.blake2b(paragraph.encode(), digest_size=8).digest()
            lengths.append(len(paragraph))
            characters += len(paragraph)
            cut += not paragraph.endswith(_PARAGRAPH_END)
            if self._held is not None:
                self._held.append(paragraph)
                if characters > IN_MEMORY:
                    self._held = None
            if len(different) < 2:
                different.update("".join(paragraph.split()))
        if not different:
            raise BadInput(f"{where}: found nothing but white space, expected text")
        if len(different) == 1:
            ((character, count),) = different.items()
            found = f"only the character {character!r}, {'once' if count == 1 else f'{count:,} times'}"
            raise BadInput(f"{where}: found {found}, expected several different characters")
        self.is_large = self._held is None
        self._first = _first_occurrences(np.frombuffer(hashes, np.uint64))
        self.paragraphs = len(lengths)
        self.repeats = self.paragraphs - int(self._first.sum())
        self.characters = int(np.frombuffer(lengths, np.uintc)[self._first].sum())
        self.repeated_characters = characters - self.characters
        self.cut, self.composed = cut, composed
        self.block = max(1, min(BLOCK, self.characters // FEWEST_BLOCKS))

    def __iter__(self) -> Iterator[str]:
        read = (unicodedata.normalize("NFC", raw) for raw in self._raw()) if self._held is None else self._held
        return itertools.compress(read, self._first)

    def _raw(self) -> Iterator[str]:
        for chunks in self._documents():
            yield from _paragraphs(chunks)

    def blocks(self) -> Iterator[str]:
        """Join paragraphs to blocks."""
        gathered: list[str] = []
        size = 0
        for paragraph in self:
            places = [0, *_cuts(paragraph, self.block, len(paragraph.rstrip())), len(paragraph)]
            for start, stop in itertools.pairwise(places):
                if gathered and size + stop - start > self.block:
                    yield "".join(gathered)
                    gathered, size = [], 0
                gathered.append(paragraph[start:stop])
                size += stop - start
        if gathered:
            yield "".join(gathered)

    def split(self) -> Iterator[tuple[str, str]]:
        """Yield each block and its part."""
        for place, block in enumerate(self.blocks()):
            yield block, PLACES.get(place % 10, "train")

    def notes(self) -> list[str]:
        """Sentences on what was left out, composed and cut."""
        share = self.repeated_characters / (self.characters + self.repeated_characters)
        notes = [
            f"{self.repeats:,} of {self.paragraphs:,} paragraphs, {100 * share:.1f}\u00a0% of the characters, occurred "
            "before and were left out"
        ]
        if self.composed:
            notes.append(f"separate letters and accents were composed (NFC) in {counted(self.composed, 'paragraph')}")
        if self.cut:
            notes.append(f"paragraphs of more than {LONGEST:,} characters were cut, at {self.cut:,} places")
        return notes


def _paragraphs(chunks: Iterable[str]) -> Iterator[str]:
    """Split one document at blank lines, and cut paragraphs that are too long, in bounded memory.

    The result doesn't depend on where chunks end.
    """
    rest = ""
    begins = True  # whether `rest` is the beginning of a paragraph, not a later piece
    for chunk in chunks:
        *complete, rest = _BLANK_LINES.split(_LONG_BLANKS.sub(r"\1", rest + chunk))
        for paragraph in complete:
            yield from _pieces(paragraph, begins)
            begins = True
        if begins and (blank := _LEADING_BLANK_LINES.match(rest)):
            rest = rest[blank.end() :]
        places = [0, *_cuts(rest, BLOCK, len(rest.rstrip()))]
        for start, stop in itertools.pairwise(places):
            yield rest[start:stop]
            begins = False
        rest = rest[places[-1] :]
    yield from _pieces(rest, begins)


def _pieces(paragraph: str, begins: bool) -> Iterator[str]:
    """Cut a complete paragraph if it's too long, and end it with a blank line."""
    if begins and (blank := _LEADING_BLANK_LINES.match(paragraph)):
        paragraph = paragraph[blank.end() :]
    paragraph = paragraph.rstrip()
    if paragraph:
        places = [0, *_cuts(paragraph, BLOCK, len(paragraph))]
        for start, stop in itertools.pairwise(places):
            yield paragraph[start:stop]
        yield paragraph[places[-1] :] + _PARAGRAPH_END


def _cuts(text: str, length: int, stop: int) -> Iterator[int]:
    """Yield where to cut text[:stop] into pieces of at most `length`, the last of at most twice that.

    A cut is after the last line end in the second half of a piece, else after the last space there, else at `length`.
    """
    start = 0
    while stop - start > 2 * length:
        middle, end = start + length // 2, start + length
        place = text.rfind("\n", middle, end)
        if place < 0:
            place = text.rfind(" ", middle, end)
        start = place + 1 if place >= 0 else end
        yield start


def _first_occurrences(hashes: np.ndarray) -> np.ndarray:
    """Mark the first of equal hashes, (n,) bool; to save memory, a sixteenth of them is sorted at a time."""
    first = np.zeros(len(hashes), bool)
    shares = hashes.view(np.uint8)[::8] % 16
    for share in range(16):
        rows = np.flatnonzero(shares == share)
        first[rows[np.unique(hashes[rows], return_index=True)[1]]] = True
    return first


# Files of tokens


class _Writer:
    """Collects the tokens of one part in memory, or in a .npy file that appears when complete."""

    def __init__(self, tokenizer: Tokenizer, is_large: bool, path: Path | None) -> None:
        self.tokenizer = tokenizer
        self.lengths, self.characters, self.bytes = array("q"), array("q"), array("q")
        self.unknown = 0
        self.missing: Counter[str] = Counter()
        self.path = path if is_large else None
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.partial = self.path.with_name(f"{self.path.name}.partial")
            self.stream: IO[bytes] = self.partial.open("wb")
        else:
            self.stream = tempfile.TemporaryFile() if is_large else io.BytesIO()  # noqa: SIM115 - it outlives this
        self._write_header(0)
        self.offset = self.stream.tell()

    def _write_header(self, length: int) -> None:
        descr = np.lib.format.dtype_to_descr(self.tokenizer.dtype)
        # NumPy leaves room for a longer shape.
        np.lib.format.write_array_header_1_0(self.stream, {"descr": descr, "fortran_order": False, "shape": (length,)})

    def add(self, block: str, tokens: np.ndarray) -> None:
        unknown = tokens < 0
        if unknown.any():
            self.unknown += int(unknown.sum())
            self.missing.update(map(chr, _codes(block)[unknown].tolist()))  # only "char" has unknown tokens
            tokens = np.where(unknown, self.tokenizer.pieces.index(UNKNOWN.encode()), tokens)
        self.stream.write(tokens.astype(self.tokenizer.dtype).tobytes())
        self.lengths.append(len(tokens))
        self.characters.append(len(block))
        self.bytes.append(len(block.encode()))

    def part(self) -> Part:
        lengths = np.array(self.lengths, np.int64)
        length = int(lengths.sum())
        self.stream.seek(0)
        self._write_header(length)
        self.stream.flush()
        if self.path:
            os.fsync(self.stream.fileno())
            self.stream.close()
            self.partial.replace(self.path)
            tokens = np.load(self.path, mmap_mode="r")
        elif isinstance(self.stream, io.BytesIO):
            tokens = np.frombuffer(self.stream.getvalue(), self.tokenizer.dtype, offset=self.offset)
        else:
            tokens = np.memmap(self.stream, self.tokenizer.dtype, "r", offset=self.offset, shape=(length,))
        return Part(
            tokens=tokens,
            starts=np.cumsum(lengths) - lengths,
            characters=np.array(self.characters, np.int64),
            bytes=np.array(self.bytes, np.int64),
            unknown=self.unknown,
            tokenizer=self.tokenizer,
            missing=dict(self.missing),
        )


def _encode(
    blocks: Iterable[tuple[str, str]], names: Sequence[str], tokenizer: Tokenizer, is_large: bool, folder: Path | None
) -> dict[str, Part]:
    """Encode blocks that come with the names of their parts."""
    writers = {name: _Writer(tokenizer, is_large, folder and folder / f"{name}.npy") for name in names}
    blocks = iter(blocks)
    while batch := list(itertools.islice(blocks, _BATCH)):
        for (block, name), tokens in zip(batch, tokenizer._encode([block for block, _ in batch]), strict=True):
            writers[name].add(block, tokens)
    return {name: writer.part() for name, writer in writers.items()}


def _save_known(
    folder: Path, key: Mapping[str, Any], splits: Mapping[str, Part], characters: int, notes: Sequence[str]
) -> None:
    """Write corpus.npz: the description of the token files, and the key of their source."""
    described = {"key": key, "tokenizer": splits["train"].tokenizer.to_config(), "characters": characters}
    described |= {"notes": notes, "unknown": {name: part.unknown for name, part in splits.items()}}
    arrays: dict[str, Any] = {"described": np.array(json.dumps(described))}
    for name, part in splits.items():
        arrays |= {f"{name}_{field}": getattr(part, field) for field in ("starts", "characters", "bytes")}
        arrays[f"{name}_length"] = np.array(len(part))
    partial = folder / "corpus.npz.partial"
    with partial.open("wb") as stream:
        np.savez(stream, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(folder / "corpus.npz")


def _load_known(folder: Path, key: Mapping[str, Any]) -> tuple[dict[str, Part], Tokenizer, int, list[str]] | None:
    """Read what `_save_known` wrote, if it exists with the same key."""
    # If anything is wrong with these files, they are made again.
    with (
        contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile),
        np.load(folder / "corpus.npz") as arrays,
    ):
        described = json.loads(str(arrays["described"]))
        if described["key"] == key:
            tokenizer = Tokenizer.from_config(described["tokenizer"])
            splits = {}
            for name in PARTS:
                tokens = np.load(folder / f"{name}.npy", mmap_mode="r")
                if tokens.shape != (int(arrays[f"{name}_length"]),):
                    return None
                fields = {field: arrays[f"{name}_{field}"] for field in ("starts", "characters", "bytes")}
                splits[name] = Part(tokens, **fields, unknown=described["unknown"][name], tokenizer=tokenizer)
            return splits, tokenizer, described["characters"], described["notes"]
    return None


# Files of text


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the text files at `paths`, with each folder replaced by those in it and below it, sorted by path.

    Raises:
        BadInput: A path is missing, or given twice; a file is empty; a folder has only empty files, or none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            texts = [file for file in sorted(path.rglob("*")) if _is_text(file.relative_to(path)) and file.is_file()]
            if not texts:
                endings = ", ".join(SUFFIXES)
                raise BadInput(f"{path}: found no text in this folder, expected files that end in {endings} (or .gz)")
            if not any(file.stat().st_size for file in texts):
                raise BadInput(f"{path}: found {len(texts):,} files that are all empty, expected text")
            files += [file for file in texts if file.stat().st_size]
        elif not path.is_file():
            raise BadInput(f"{path}: found no such file, expected a text file or a folder of them")
        elif path.stat().st_size == 0:
            raise BadInput(f"{path}: found an empty file, expected text")
        else:
            files.append(path)
    if not files:
        raise BadInput("found no path, expected a text file or a folder of them")
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise BadInput(f"{twice}: found it twice among the files, expected each once")
    return files


def _describe_ignored(paths: Sequence[Path]) -> list[str]:
    """A sentence on the files in folders that don't have the name of a text, if any."""
    ignored = [
        file.name
        for folder in paths
        if folder.is_dir()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not _is_text(file.relative_to(folder))
    ]
    if not ignored:
        return []
    endings = ", ".join(SUFFIXES)
    return [f"{len(ignored):,} files were ignored, as their names do not end in {endings} (or .gz): {listed(ignored)}"]


def _is_text(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(SUFFIXES) and not any(part.startswith(".") for part in path.parts)


def _describe(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1:,} more"


def _check_files(files: Sequence[Path], encoding: str | None) -> dict[Path, str | None]:
    """Check the name of the encoding, and return the encoding of each file's byte order mark, if any."""
    if encoding is not None:
        try:
            # Incrementally, too, as files are read.
            b" ".decode(encoding, "replace")
            codecs.getincrementaldecoder(encoding)("replace").decode(b" ")
        except (LookupError, ValueError):  # ValueError for the codec "undefined"
            expected = "one that Python knows, such as utf-8, utf-16 or cp1252"
            raise BadInput(f"--encoding: found {encoding!r}, expected {expected}") from None
    marks: dict[Path, str | None] = {}
    for file in files:
        with opened(file) as stream:
            head = stream.read(4)
        marks[file] = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    return marks


def _describe_encodings(files: Sequence[Path], encoding: str | None, marks: Mapping[Path, str | None]) -> str:
    if encoding is not None:
        return f"read as {encoding}, as set by --encoding"
    marked = [file for file in files if marks[file]]
    if not marked:
        return "read as UTF-8"
    names = ", ".join(sorted({(marks[file] or "").upper() for file in marked}))
    others = "" if len(marked) == len(files) else "; the others as UTF-8"
    return f"{_describe(marked)} read as {names} by byte order mark{others}"


@contextlib.contextmanager
def opened(file: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, decompressing it if its content is gzip; errors of reading become BadInput."""
    try:
        with file.open("rb") as plain:
            zipped = plain.peek(2)[:2] == b"\x1f\x8b"
            if file.suffix.lower() == ".gz" and not zipped:
                raise BadInput(f"{file}: found no gzip data, expected some by its name")
            with gzip.open(plain) if zipped else plain as stream:
                yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(f"{file}: found truncated or damaged gzip data ({reason}), expected a complete file") from None
    except OSError as error:
        raise BadInput(f"{file}: found a file that can't be read ({error.strerror or error}), expected text") from None


def _read(file: Path, encoding: str | None) -> Iterator[str]:
    r"""Read a file in chunks, with line ends as "\n" and without its byte order mark."""
    encoding = encoding or "utf-8"
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    decoder = codecs.getincrementaldecoder(encoding)()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    size, controls, begins, is_last = 0, 0, True, False
    with opened(file) as stream:
        while not is_last:
            chunk = stream.read(_CHUNK)
            is_last = not chunk
            if not wide and (place := chunk.find(0)) >= 0:
                expected = "text; is it UTF-16 without a byte order mark (--encoding utf-16-le), or not text at all"
                raise BadInput(f"{file}: byte {size + place:,}: found a NUL byte, expected {expected}?")
            size += len(chunk)
            try:
                text = decoder.decode(chunk, is_last)
            except UnicodeDecodeError as error:
                place = size - len(error.object) + error.start
                raise _undecodable(file, place, error.object[error.start], encoding) from None
            except UnicodeError as error:  # some codecs don't say where
                raise BadInput(f"{file}: found bytes that aren't {encoding} ({error}), expected {encoding}") from None
            text = newlines.decode(text, is_last)
            if begins and text:
                text, begins = text.removeprefix("\ufeff"), False
            try:
                content = text.encode()
            except UnicodeEncodeError as error:  # possible in UTF-7, for example
                found = f"half of a surrogate pair (U+{ord(text[error.start]):04X}) before byte {size:,}"
                raise BadInput(f"{file}: found {found}, expected characters of Unicode") from None
            controls += len(content) - len(content.translate(None, _CONTROLS))
            if controls > max(10, size / 20):
                found = f"{controls:,} control characters in the first {size:,} bytes"
                raise BadInput(f"{file}: found {found}, expected text: is it a binary file?")
            yield text


def _undecodable(file: Path, place: int, byte: int, encoding: str) -> BadInput:
    name = encoding.upper() if encoding.lower().startswith("utf") else encoding
    expected = f"{name}; if the file is in another encoding, name it, such as --encoding cp1252"
    return BadInput(f"{file}: byte {place:,}: found 0x{byte:02x}, which isn't {name}, expected {expected}")

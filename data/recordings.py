"""Find, check, read and split the user's own recordings with their phones.

Audio is WAV in RIFF or NIST SPHERE, or another format that libsndfile reads. Phones come from TIMIT's `.PHN` files or
Praat TextGrids, as forced aligners write them. A segment is (start, end, class): times in seconds, and an index into
`data.phones.PHONES`, or `IGNORED` if the label isn't a phone, such as noise.
"""

import codecs
import dataclasses
import io
import os
import re
import reprlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid
from praatio.utilities.constants import Interval
from praatio.utilities.errors import PraatioException
from praatio.utilities.textgrid_io import parseTextgridStr

from data.acoustics import RATE, STEP, WINDOW, frame_labels, stream_resample
from data.dataset import BadInput, counted, escaped, listed
from data.phones import IGNORED, SILENCE, is_mark, phone_of

Segment = tuple[float, float, int]

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
LARGEST_SAMPLE = 1.25  # resampling and filters slightly overshoot full scale
OVERHANG = 0.05  # seconds by which an annotation may be longer than the audio, as some of TIMIT's are
MOST_FOREIGN = 0.25  # share of unknown labels; with more, it's another phone set
# In order of preference, if a recording exists in two formats.
SUFFIXES = (".wav", ".wave", ".flac", ".w64", ".rf64", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist")
SUFFIXES += (".ogg", ".oga", ".opus", ".mp3")
REPEATED_SENTENCES = ("SA1", "SA2")
CORE_TEST_SPEAKERS = {
    *("MDAB0", "MWBT0", "FELC0", "MTAS1", "MWEW0", "FPAS0", "MJMP0", "MLNT0", "FPKT0", "MLLL0", "MTLS0", "FJLM0"),
    *("MBPM0", "MKLT0", "FNLP0", "MCMJ0", "MJDH0", "FMGD0", "MGRT0", "MNJM0", "FDHC0", "MJLN0", "MPAM0", "FMLD0"),
}
CORE_TEST_SENTENCES = 8  # of each speaker

_EXPECTED = "expected audio such as WAV, FLAC or NIST SPHERE"
_FORGIVEN = 128  # bytes by which a header may be wrong: less than a frame
_EXACT = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # lossless samples
_DECODED = ("FLAC", "OGG", "MP3")  # whose length is known only after decoding
_ROUNDING = 1e-4  # seconds (less than a sample) by which a segment may overlap the one before


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording of one speaker and its annotation.

    `part` is "train", "test" or ""; `text` is the transcript, if known; `tier` is that of a TextGrid, "" for the usual.
    """

    audio: Path
    annotation: Path
    speaker: str
    part: str = ""
    text: str = ""
    tier: str = ""


@dataclasses.dataclass
class Noticed:
    """Counts of notable things in recordings and annotations."""

    audio: Counter[str] = dataclasses.field(default_factory=Counter)
    tiers: Counter[str] = dataclasses.field(default_factory=Counter)
    ignored_labels: Counter[str] = dataclasses.field(default_factory=Counter)
    phones: int = 0  # intervals with one
    unlabelled: int = 0  # recordings whose end has no labels

    def foreign(self) -> Counter[str]:
        """The ignored labels that aren't known marks, such as noise."""
        return Counter({label: count for label, count in self.ignored_labels.items() if not is_mark(label)})


@dataclasses.dataclass(frozen=True)
class Found:
    """The recordings of a folder, sorted by path.

    `skipped` has a line for each bad one, and one, beginning with the folder, for all of TIMIT's SA1 and SA2; `ignored`
    names other files.
    """

    recordings: list[Recording]
    skipped: list[str]
    ignored: list[str]
    noticed: Noticed

    def understood(self) -> list[str]:
        """Sentences on how the files were read."""
        noticed, speakers = self.noticed, list(dict.fromkeys(r.speaker for r in self.recordings))
        sentences = [
            f"{counted(len(self.recordings), 'recording')} of {counted(len(speakers), 'speaker')}, by the name of the "
            f"folder: {listed(speakers)}"
        ]
        sentences += [f"{counted(count, 'recording')}: {what}" for what, count in noticed.audio.items()]
        if noticed.tiers:
            sentences.append(f"phones of TextGrids are those of the tier {_counted(noticed.tiers)}")
        if noticed.ignored_labels:
            count = noticed.ignored_labels.total()
            sentences.append(
                f"labels that aren't phones, {count:,} of {count + noticed.phones:,}, are left out of training and "
                f"scoring: {_counted(noticed.ignored_labels)}"
            )
        if noticed.unlabelled:
            sentences.append(
                f"{counted(noticed.unlabelled, 'recording')} without labels for more than half a second at the end, "
                "which is read as silence"
            )
        if self.ignored:
            sentences.append(f"ignored: {counted(len(self.ignored), 'file')}, {listed(self.ignored)}")
        return sentences


def _counted(counter: Counter[str]) -> str:
    named = [(escaped(reprlib.repr(name)), count) for name, count in counter.most_common()]
    return listed([f"{name} ({'once' if count == 1 else f'{count:,} times'})" for name, count in named])


# Audio


def read_audio(path: Path) -> tuple[np.ndarray, float]:
    """Read all samples of a recording, (n,) float32 in -1..1 at `data.acoustics.RATE`, and its duration in seconds.

    Reads every format of libsndfile, at 8,000 to 192,000 Hz; channels are averaged. A header of unknown length, as
    streams have, is accepted; otherwise the length shows whether the file is truncated. Floats have a full scale of 1,
    which filters may have overshot up to `LARGEST_SAMPLE`.

    Raises:
        BadInput: The file is missing, truncated or not audio; its rate is beyond these limits, it is shorter than one
            window, or it has a sample that isn't finite or is a float beyond `LARGEST_SAMPLE`.
    """
    return np.concatenate(list(stream_audio(path))), duration(path)


def duration(path: Path) -> float:
    """The length of a recording in seconds.

    Raises:
        BadInput: As in `read_audio`, except for errors that only the samples show.
    """
    frames, rate = _length(path)
    return frames / rate


def notes_on(path: Path) -> list[str]:
    """Notes on unusual properties of a recording: its header, channels and encoding.

    Raises:
        BadInput: As in `duration`.
    """
    with _open(path) as file:
        several, inexact = file.channels > 1, file.subtype not in _EXACT
        notes = [file.wrong] if file.wrong else []
        notes += [f"{file.channels} channels, which were averaged"] * several
        return notes + [f"lossy or 8-bit samples ({file.subtype_info})"] * inexact


def stream_audio(path: Path, seconds: int = 30) -> Iterator[np.ndarray]:
    """`read_audio` in bounded memory, in blocks of a given length in seconds.

    Raises:
        BadInput: As in `read_audio`, at the first block, or at the block with a bad sample.
    """
    with _open(path) as file:
        yield from stream_resample(_blocks(path, file, seconds), file.samplerate)


def _open(path: Path) -> "_Sound":
    """Open a recording and check its header."""
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, {_EXPECTED}")
    try:
        wrong, patch = _check_header(path)
        source: Any = _Patched(path, *patch) if patch else os.fsencode(path)
        file = _Sound(source)
        file.wrong = wrong
    except OSError as error:
        raise BadInput(f"{path}: found a file that can't be read ({error.strerror}), {_EXPECTED}") from None
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".") or "unknown encoding"
        raise BadInput(f"{path}: found audio that can't be read ({reason}), {_EXPECTED}") from None
    try:
        _check_format(path, file)
    except BadInput:
        file.close()
        raise
    return file


class _Sound(soundfile.SoundFile):
    """Audio that is read sequentially, as FLAC of unknown length requires.

    `wrong` describes a harmless error in its header.
    """

    wrong = ""

    def seekable(self) -> bool:
        return False


class _Patched(io.FileIO):
    """A file with a few bytes replaced, where its header has a wrong size of the audio."""

    def __init__(self, path: Path, place: int, content: bytes) -> None:
        super().__init__(path)
        self.place, self.content = place, content

    def readinto(self, buffer) -> int:
        begin = self.tell()
        count = super().readinto(buffer) or 0
        for place in range(max(begin, self.place), min(begin + count, self.place + len(self.content))):
            memoryview(buffer).cast("B")[place - begin] = self.content[place - self.place]
        return count


def _check_format(path: Path, file: soundfile.SoundFile) -> None:
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        limits = f"{LOWEST_RATE:,} to {HIGHEST_RATE:,}"
        raise BadInput(f"{path}: found {file.samplerate:,} samples per second, expected {limits}")
    _check_samples(path, file.frames, file.samplerate)


def _check_samples(path: Path, samples: int, rate: int) -> None:
    if samples * RATE < WINDOW * rate:
        found = f"{1000 * samples / rate:.3g} ms of audio"
        raise BadInput(f"{path}: found {found}, expected at least {1000 * WINDOW / RATE:.0f} ms, one window")


def _length(path: Path) -> tuple[int, int]:
    """The number of samples of a recording and its rate; decodes the samples if the header isn't reliable."""
    with _open(path) as file:
        if file.format in _DECODED or file.subtype in ("FLOAT", "DOUBLE"):
            return sum(map(len, _blocks(path, file))), file.samplerate
        return file.frames, file.samplerate


def _check_header(path: Path) -> tuple[str, tuple[int, bytes] | None]:
    """Compare the lengths in the header with the size of the file, which libsndfile does not.

    Returns:
        A description of a harmless error, and the position of a wrong size with the bytes to replace it.

    Raises:
        BadInput: The file is truncated or not audio.
    """
    size = path.stat().st_size
    if size == 0:
        raise BadInput(f"{path}: found an empty file, {_EXPECTED}")
    with path.open("rb") as stream:
        start = stream.read(32)
        if start.startswith(b"NIST_1A"):
            held, declared = _sphere_sizes(path, start + stream.read(2**16), size)
            if held != declared:
                raise _is_cut(path, f"{held:,} samples of audio", declared)
            return "", None
        if start[:4] in (b"RIFF", b"RF64", b"BW64") and start[8:12] == b"WAVE":
            return _check_riff(path, stream, size)
    declared = size
    if start[:4] in (b"FORM", b"RIFX"):
        declared = 8 + int.from_bytes(start[4:8], "big")
    elif start[:4] == b"riff":
        declared = int.from_bytes(start[16:24], "little")
    elif start[:4] == b".snd":
        declared = int.from_bytes(start[4:8], "big") + int.from_bytes(start[8:12], "big")
    elif start[:4] == b"caff":
        declared = _end_of_caf(path)
    elif start[:4] not in (b"fLaC", b"OggS") and not start.startswith(b"ID3") and start[:2] < b"\xff\xe0":  # MP3
        raise BadInput(f"{path}: found a file that begins with {start[:8]!r}, {_EXPECTED}")
    if declared <= size + _FORGIVEN:
        return "", None
    if _is_unknown(declared):
        return "a header of unknown or wrong length, read to the end of the file", None
    raise _is_cut(path, f"{size:,} bytes", declared)


def _end_of_caf(path: Path) -> int:
    position = 8
    with path.open("rb") as stream:
        while True:
            stream.seek(position)
            name, length = stream.read(4), int.from_bytes(stream.read(8), "big", signed=True)
            if name == b"data" or not name or length < 0:
                return position + 12 + max(0, length)  # -1 is unknown
            position += 12 + length


def _check_riff(path: Path, stream: io.BufferedReader, size: int) -> tuple[str, tuple[int, bytes] | None]:
    wrong = "a header of unknown or wrong length, read to the end of the file"
    stream.seek(0)
    start = stream.read(36)
    end, position = 8 + int.from_bytes(start[4:8], "little"), 12
    while True:
        if position + 8 > size:
            raise BadInput(
                f"{path}: found no audio after the header, expected a complete WAV file: is the file truncated?"
            )
        stream.seek(position)
        name, length = stream.read(4), int.from_bytes(stream.read(4), "little")
        if name == b"data":
            break
        position += 8 + length
        if length % 2 and (_is_chunk(stream, position + 1, size) or not _is_chunk(stream, position, size)):
            position += 1
    held = size - position - 8
    unknown = position + 4, b"\xff" * 4
    if start[12:16] == b"ds64":  # of RF64, whose sizes have 64 bits
        end, length = (int.from_bytes(start[place : place + 8], "little") for place in (20, 28))
        end, unknown = end + 8, (28, held.to_bytes(8, "little"))
    if length > held:
        if _is_unknown(length) or length - held <= _FORGIVEN or abs(end - size) <= 1:
            return wrong, unknown
        raise _is_cut(path, f"{held:,} bytes of audio", length)
    after = position + 8 + length
    if size - after <= 1 or _is_chunk(stream, after, size) or _is_chunk(stream, after + length % 2, size):
        return "", None
    if length and 0 <= end - after <= 1:
        return "bytes after the audio that the header doesn't mention, left out", None
    return wrong, unknown


def _is_chunk(stream: io.BufferedReader, place: int, size: int) -> bool:
    stream.seek(place)
    name, length = stream.read(4), int.from_bytes(stream.read(4), "little")
    return len(name) == 4 and name.isascii() and name.decode().isprintable() and length <= size - place


def _is_unknown(length: int) -> bool:
    """Whether a length is a placeholder of programs that don't know it yet: about the largest that fits the field."""
    return any(most - 2**16 <= length <= most + 2**8 for most in (2**31, 2**32)) or length >= 2**62


def _is_cut(path: Path, found: str, expected: int) -> BadInput:
    return BadInput(f"{path}: found {found}, expected {expected:,} as its header says: is the file complete?")


def _sphere_sizes(path: Path, start: bytes, size: int) -> tuple[int, int]:
    header = start.partition(b"end_head")[0].decode("latin-1")
    fields = dict(re.findall(r"^(\w+) -\w+ (.*?)\s*$", header, re.MULTILINE))
    coding = fields.get("sample_coding", "pcm")
    if "," in coding:
        raise BadInput(
            f"{path}: found SPHERE compressed by {coding.split(',')[1]}, expected it uncompressed: sph2pipe -p"
        )
    try:
        header_bytes = int(header.split("\n")[1])
        sample_bytes = int(fields["channel_count"]) * int(fields["sample_n_bytes"])
        return max(0, size - header_bytes) // sample_bytes, int(fields["sample_count"])
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        expected = "sample_count, channel_count and sample_n_bytes"
        raise BadInput(
            f"{path}: found a broken SPHERE header, expected {expected} in it: is the file truncated?"
        ) from None


def _blocks(path: Path, file: soundfile.SoundFile, seconds: int = 30) -> Iterator[np.ndarray]:
    """Read samples at the file's rate, averaged over channels, and check their values and their number."""
    position = 0
    largest = LARGEST_SAMPLE if file.subtype in ("FLOAT", "DOUBLE") else np.inf
    length = max(1, seconds * file.samplerate // file.channels)
    while True:
        try:
            block = file.read(length, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            place = f"after {position / file.samplerate:.3f} s"
            reason = error.error_string.strip().rstrip(".") or "damaged"
            raise BadInput(
                f"{path}: {place}: found audio that can't be read ({reason}), expected a complete file"
            ) from None
        if not len(block):
            break
        good = (np.abs(block) <= largest) & np.isfinite(block)
        if not good.all():
            index = int(np.argmin(good.all(axis=1)))
            place = f"at {(position + index) / file.samplerate:.3f} s"
            sample = block[index][~good[index]][0]
            raise BadInput(f"{path}: {place}: found a sample of {sample:g}, expected a number in -1..1")
        position += len(block)
        yield block[:, 0] if file.channels == 1 else block.mean(axis=1)
    if position < file.frames - OVERHANG * file.samplerate and file.frames < 2**62:
        raise _is_cut(path, f"{position:,} samples", file.frames)
    _check_samples(path, position, file.samplerate)  # again, for a header of unknown length


# Annotations


def read_phn(path: Path, samples: int, rate: int, noticed: Noticed | None = None) -> list[Segment]:
    """Read the segments of a TIMIT `.PHN` file: lines of "start end label", in samples of its audio.

    A glottal stop "q" is added to the segment directly before it, if any, else left out. An end up to `OVERHANG` after
    that of the audio becomes the end of the audio. Labels that aren't phones have the class `IGNORED`.

    Args:
        path: the annotation.
        samples: length of the audio at its own rate.
        rate: samples per second of the audio.
        noticed: updated with counts of notable things.

    Returns:
        The segments in order, without overlap; neighbours may have the same class, such as a closure after a pause.

    Raises:
        BadInput: The file is missing, empty or not UTF-8; a line has another form, ends before it starts, overlaps the
            line before, or ends after the audio; or most labels are unknown.
    """
    entries = []
    content = _read_bytes(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            found = f"the byte 0x{line[error.start]:02x}, which isn't UTF-8"
            raise BadInput(f"{path}: line {number}: found {found}, expected text in UTF-8") from None
        if not text:
            continue
        fields = re.fullmatch(r"(\d{1,15})\s+(\d{1,15})\s+(\S+)", text, re.ASCII)
        if not fields:
            found = reprlib.repr(text)
            raise BadInput(f"{path}: line {number}: found {found}, expected a start, an end (in samples) and a label")
        entries.append((f"line {number}", int(fields[1]), int(fields[2]), fields[3]))
    return _segments(path, entries, samples, rate, noticed)


def read_textgrid(path: Path, duration: float, tier: str = "", noticed: Noticed | None = None) -> list[Segment]:
    """Read the segments of a Praat TextGrid, in its long or short text format, as `read_phn` does.

    Args:
        path: the annotation.
        duration: seconds of the audio.
        tier: the name of the interval tier, in upper or lower case. By default, it is "phones" or "phone", or a name
            with such a word in it ("Anna - phones", "MAU"), or the only interval tier.
        noticed: updated with counts of notable things.

    Raises:
        BadInput: The file is missing, truncated or not a TextGrid; there is no tier of phones, or several; or an
            interval is wrong as in `read_phn`.
    """
    text = _decoded(_read_bytes(path)).lstrip()
    if text.startswith("ooBinaryFile"):
        raise BadInput(f"{path}: found a binary TextGrid, expected one as text: Praat saves it as a text file, too")
    if not text.startswith('File type = "ooTextFile'):
        found = reprlib.repr(text.split("\n")[0].strip())
        raise BadInput(f"{path}: line 1: found {found}, expected 'File type = \"ooTextFile\"', as a TextGrid begins")
    try:
        tiers = parseTextgridStr(text, includeEmptyIntervals=True)["tiers"]
        chosen = _phone_tier(path, [tier for tier in tiers if tier["class"] == "IntervalTier"], tier)
        entries = [
            (f"interval {number} of tier {chosen['name']!r}", float(start), float(end), label)
            for number, (start, end, label) in enumerate(chosen["entries"], start=1)
        ]
    except (PraatioException, ValueError, IndexError, AttributeError):
        # The parser's own message doesn't help.
        raise BadInput(
            f"{path}: found an incomplete TextGrid, expected a complete one: is the file truncated?"
        ) from None
    segments = _segments(path, entries, duration, 1, noticed)
    # Praat's tiers have no gaps, so one that ends too early lost intervals.
    if entries[-1][2] < chosen["xmax"] - OVERHANG:
        found = f"intervals up to {entries[-1][2]:g} s in tier {chosen['name']!r}"
        raise BadInput(
            f"{path}: found {found}, expected {chosen['xmax']:g} s as its header says: is the file truncated?"
        )
    if noticed is not None:
        noticed.tiers[chosen["name"]] += 1
    return segments


def _decoded(content: bytes) -> str:
    """Decode a TextGrid; Praat writes UTF-8 or UTF-16, and old versions Latin-1."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if b"\0" in content[:2]:
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def write_textgrid(
    path: Path, segments: Iterable[tuple[float, float, str]], duration: float, tier: str = "phones"
) -> None:
    """Write segments (start and end in seconds, label) as a Praat TextGrid in the long text format, in UTF-8.

    Times are rounded to microseconds, and gaps become empty intervals, as Praat expects.

    Args:
        path: file to write.
        segments: in order, without overlap, up to `duration`.
        duration: seconds of the audio.
        tier: name of the tier.
    """
    grid = Textgrid(0, round(duration, 6))
    entries = [Interval(round(start, 6), round(end, 6), label) for start, end, label in segments]
    grid.addTier(IntervalTier(tier, entries, 0, round(duration, 6)))
    grid.save(str(path), "long_textgrid", includeBlankSpaces=True)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, expected a .PHN or .TextGrid file")
    return path.read_bytes()


def _phone_tier(path: Path, tiers: Sequence[Mapping], name: str) -> Mapping:
    names = ", ".join(repr(tier["name"]) for tier in tiers)
    found = f"the interval tiers {names}" if tiers else "no interval tier"
    if name:
        chosen = [tier for tier in tiers if tier["name"].strip().lower() == name.strip().lower()]
        if len(chosen) != 1:
            raise BadInput(f"{path}: found {found}, expected {name!r} once among them, as set by --tier")
        return chosen[0]
    for usual in (r"phones?", r".*\bphones?", r".*\b(phones?|phonemes?|mau|segments?)\b.*", r".*"):
        chosen = [tier for tier in tiers if re.fullmatch(usual, tier["name"].strip().lower(), re.DOTALL)]
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            break
    raise BadInput(f"{path}: found {found}, expected one that is named 'phones', or the name of one in --tier")


def _segments(
    path: Path, entries: Sequence[tuple[str, float, float, str]], length: float, rate: int, noticed: Noticed | None
) -> list[Segment]:
    """Check (place, start, end, label) in order, with times in units of 1/`rate` s, and convert them to segments."""
    if not entries:
        raise BadInput(f"{path}: found no segment, expected some")
    segments: list[Segment] = []
    before, phones = 0.0, 0
    ignored: Counter[str] = Counter()
    foreign: list[tuple[str, str]] = []
    # NaN fails each comparison.
    for place, start, end, label in entries:
        if not end > start:
            raise BadInput(f"{path}: {place}: found {start:g} to {end:g}, expected an end after the start")
        if not start >= before - _ROUNDING:
            expected = f"{before:g} or later, where the segment before ends"
            raise BadInput(f"{path}: {place}: found a start at {start:g}, expected {expected}")
        if not end <= length + OVERHANG * rate:
            raise BadInput(
                f"{path}: {place}: found an end at {end:g}, expected the audio's end, {length:g}, or earlier"
            )
        start = max(start, before)
        try:
            phone = phone_of(label)
        except KeyError:
            phone = IGNORED
            ignored[label.strip()] += 1
            if not is_mark(label):
                foreign.append((place, label))
        phones += phone not in (SILENCE, IGNORED)
        if start < min(end, length):
            first, last = start / rate, min(end, length) / rate
            if phone is not None:
                segments.append((first, last, phone))
            elif segments and segments[-1][1] == first:
                segments[-1] = (segments[-1][0], last, segments[-1][2])
        before = max(before, end)
    if len(foreign) > phones:
        place, label = foreign[0]
        found = f"the label {reprlib.repr(label)}"
        raise BadInput(f"{path}: {place}: found {found}, expected one of TIMIT or ARPAbet")
    if noticed is not None:
        noticed.ignored_labels += ignored
        noticed.phones += phones
        noticed.unlabelled += before < length - rate / 2
    return segments


# Folders


def find_recordings(folder: Path, skip_bad: bool, tier: str = "") -> Found:
    """Find and check all recordings below a folder laid out like TIMIT: NAME.WAV beside NAME.PHN or NAME.TextGrid.

    Audio ends in one of `SUFFIXES`; the case of names is ignored. A .PHN is preferred to a .TextGrid, and NAME.WAV to
    the NAME.WAV.wav of some copies of TIMIT. The speaker is the name of the file's folder, the part comes from a folder
    TRAIN or TEST above it, and the text from NAME.TXT. Names that begin with a dot are ignored.

    The sentences SA1 and SA2 are left out: every speaker of TIMIT reads them, so they would be in training and in test.
    The checks are those of `read`, without decoding integer samples, which are always valid.

    Args:
        folder: contains the recordings.
        skip_bad: leave out bad recordings.
        tier: the name of the tier of the phones in TextGrids; "" for the usual.

    Raises:
        BadInput: There is no such folder, or no usable recording in it; more than `MOST_FOREIGN` of the labels are
            unknown; without `skip_bad`, also for the first bad recording, or one without annotation, or annotation
            without a recording.
    """
    expected = "expected NAME.WAV with NAME.PHN or NAME.TextGrid in it, or in folders in it"
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of recordings")
    audio, annotations, texts, ignored = _list_files(folder)
    recordings: list[Recording] = []
    skipped: list[str] = []
    noticed = Noticed()
    repeated = 0
    for name in sorted({*audio, *annotations}):
        if name.name.upper() in REPEATED_SENTENCES:
            repeated += 1
            continue
        try:
            if name not in annotations:
                found = f"{audio[name]}: found no annotation"
                raise BadInput(f"{found}, expected {name.name}.PHN or .TextGrid beside it")
            if name not in audio:
                raise BadInput(f"{annotations[name]}: found no recording, expected {name.name}.WAV beside it")
            folders = [part.lower() for part in name.relative_to(folder).parts[:-1]]
            recording = Recording(
                audio=audio[name],
                annotation=annotations[name],
                speaker=escaped(name.parent.name),
                part=next((part for part in folders if part in ("train", "test")), ""),
                text=_read_text(texts[name]) if name in texts else "",
                tier=tier,
            )
            _check(recording, noticed)
        except BadInput as problem:
            if not skip_bad:
                raise
            skipped.append(str(problem))
        else:
            recordings.append(recording)
    if not recordings:
        if skipped:
            raise BadInput(f"{folder}: found {len(skipped)} recordings, all of them bad; the first is {skipped[0]}")
        raise BadInput(f"{folder}: found no recording, {expected}")
    foreign = noticed.foreign()
    if foreign.total() > MOST_FOREIGN * (foreign.total() + noticed.phones):
        found = f"{foreign.total():,} of {foreign.total() + noticed.phones:,} labels that aren't phones"
        raise BadInput(f"{folder}: found {found}: {_counted(foreign)}, expected labels of TIMIT or ARPAbet")
    if repeated:
        what = f"{counted(repeated, 'recording')} of SA1 or SA2"
        skipped.append(f"{folder}: left out: {what}, which every speaker of TIMIT reads")
    return Found(recordings, skipped, ignored, noticed)


def read(recording: Recording) -> tuple[np.ndarray, list[Segment]]:
    """Read a recording's samples, (n,) float32 at `data.acoustics.RATE`, and its segments.

    Raises:
        BadInput: As in `read_audio`, `read_phn` and `read_textgrid`.
    """
    segments = _read_segments(recording, *_length(recording.audio))
    return read_audio(recording.audio)[0], segments


@dataclasses.dataclass(frozen=True)
class Splits:
    """The recordings of "train", "validation" and "test", each sorted by path, and a note on how they were split."""

    parts: Mapping[str, list[Recording]]
    note: str

    def shared_speakers(self) -> list[str]:
        """The speakers of test who are also in training."""
        train, test = ({r.speaker for r in self.parts[split]} for split in ("train", "test"))
        return sorted(train & test)


def split_recordings(recordings: Sequence[Recording], seed: int) -> Splits:
    """Split by speaker if there are enough, else by sentence.

    If there are parts TRAIN and TEST, as in TIMIT, test is the core test set of 24 speakers with 8 sentences each, if
    it's complete, else all of TEST; validation is a tenth of the speakers of TRAIN, at least one. Otherwise a tenth of
    the speakers is for validation and a fifth for test, at least one each.

    With fewer than three speakers, the split is by sentence; so is that of TRAIN if it has one speaker, or shares one
    with TEST. Recordings with the same text are one sentence.

    Args:
        recordings: as `find_recordings` returns them.
        seed: draws the speakers or sentences.

    Raises:
        BadInput: There are too few sentences; or, with both parts, a recording in neither.
    """
    generator = np.random.default_rng(seed)
    speakers = {part: sorted({r.speaker for r in recordings if r.part == part}) for part in ("train", "test")}
    by_speaker, by_sentence = _units(recordings, sentences=False), _units(recordings, sentences=True)
    if speakers["train"] and speakers["test"]:
        if neither := [r for r in recordings if not r.part]:
            raise BadInput(f"{neither[0].audio}: found in neither TRAIN nor TEST, expected it in one, like the others")
        both = {*speakers["train"]} & {*speakers["test"]}
        unit_of = by_sentence if both or len(speakers["train"]) < 2 else by_speaker
        count = Counter(r.speaker.upper() for r in recordings if r.part == "test")
        core = not both and all(count[speaker] == CORE_TEST_SENTENCES for speaker in CORE_TEST_SPEAKERS)
        test = [r for r in recordings if r.part == "test" and (not core or r.speaker.upper() in CORE_TEST_SPEAKERS)]
        others = sorted({unit_of[r.audio] for r in recordings if r.part == "train"})
        if len(others) < 2:
            raise BadInput(f"{_where(recordings)}: found 1 sentence in TRAIN, expected at least 2, one for validation")
        validation = {*generator.permutation(others).tolist()[: max(1, round(len(others) / 10))]}
        train = [r for r in recordings if r.part == "train"]
        tested = len({r.speaker for r in test})
        note = f"tested on all {tested} speakers of TEST, as TIMIT's core test set of 24 is missing or incomplete"
        if core:
            note = "tested on the 24 speakers of TIMIT's core test set"
        elif unit_of is by_sentence:
            note = f"tested on all {len(test):,} recordings of TEST, validated on sentences of TRAIN drawn at random"
    else:
        unit_of = by_speaker if len({*by_speaker.values()}) > 2 else by_sentence
        units = sorted({*unit_of.values()})
        if len(units) < 3:
            expected = "at least 3, one each for training, validation and test"
            raise BadInput(f"{_where(recordings)}: found {counted(len(units), 'sentence')}, expected {expected}")
        drawn = generator.permutation(units).tolist()
        tested, validated = max(1, round(len(units) / 5)), max(1, round(len(units) / 10))
        validation, tests = {*drawn[tested : tested + validated]}, {*drawn[:tested]}
        test = [r for r in recordings if unit_of[r.audio] in tests]
        train = [r for r in recordings if unit_of[r.audio] not in tests]
        note = f"speakers drawn at random, {tested} of them for test"
        if unit_of is by_sentence:
            speaker_count = len({*by_speaker.values()})
            there_are = f"there {'is' if speaker_count == 1 else 'are'} {counted(speaker_count, 'speaker')}"
            note = f"sentences drawn at random, as {there_are}; {tested} of them for test"
    parts = {
        "train": [r for r in train if unit_of[r.audio] not in validation],
        "validation": [r for r in train if unit_of[r.audio] in validation],
        "test": test,
    }
    return Splits(parts, note)


def _units(recordings: Sequence[Recording], *, sentences: bool) -> dict[Path, str]:
    """The unit of the split for each recording: its speaker, or its text if it has one, else itself."""
    if not sentences:
        return {r.audio: r.speaker for r in recordings}
    texts = {r.audio: " ".join(re.findall(r"\w+", r.text.casefold())) for r in recordings}
    if len({*texts.values()}) < 3:  # repetitions of a word can only be split by recording
        texts = {}
    return {r.audio: texts.get(r.audio) or f"{r.audio}" for r in recordings}


def _list_files(folder: Path) -> tuple[dict[Path, Path], dict[Path, Path], dict[Path, Path], list[str]]:
    """Audio, annotations and texts by the path of their recording without suffix; and the names of other files."""
    # The files of each name, with the rank of their suffix.
    audio, annotations, texts = (defaultdict[Path, list[tuple[int, Path]]](list) for _ in range(3))
    ignored = []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        name, suffix = path.with_suffix(""), path.suffix.lower()
        if suffix in SUFFIXES:
            copied = name.suffix.lower() == ".wav"
            audio[name.with_suffix("") if copied else name].append((SUFFIXES.index(suffix) + copied, path))
        elif suffix in (".phn", ".textgrid"):
            annotations[name].append((suffix == ".textgrid", path))
        elif suffix == ".txt":
            texts[name].append((0, path))
        else:
            ignored.append(escaped(path.name))
    for files in (audio, annotations, texts):
        ignored += [escaped(path.name) for of_name in files.values() for _, path in sorted(of_name)[1:]]
    first, *others = (
        {name: min(of_name)[1] for name, of_name in files.items()} for files in (audio, annotations, texts)
    )
    of_phones, of_words = (_paired(files, first) for files in others)
    ignored += [escaped(path.name) for name, path in of_words.items() if name not in first]
    return first, of_phones, of_words, ignored


def _paired(files: Mapping[Path, Path], audio: Mapping[Path, Path]) -> dict[Path, Path]:
    """Rename files to the name of their recording, if it differs in case or Unicode form."""

    def plain(name: Path) -> tuple[Path, str]:
        return name.parent, unicodedata.normalize("NFC", name.name).casefold()

    alone = Counter(plain(name) for name in {*files} - {*audio})
    partners = Counter(plain(name) for name in {*audio} - {*files})
    other = {plain(name): name for name in audio if alone[plain(name)] == partners[plain(name)] == 1}
    return {name if name in audio else other.get(plain(name), name): path for name, path in files.items()}


def _read_text(path: Path) -> str:
    """Read a transcript; TIMIT writes the first and the last sample before it."""
    text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    return escaped(re.sub(r"^\d+ \d+ ", "", text))


def _read_segments(recording: Recording, samples: int, rate: int, noticed: Noticed | None = None) -> list[Segment]:
    if recording.annotation.suffix.lower() == ".phn":
        return read_phn(recording.annotation, samples, rate, noticed)
    return read_textgrid(recording.annotation, samples / rate, recording.tier, noticed)


def _check(recording: Recording, noticed: Noticed) -> None:
    """Raise BadInput if `read` would, but faster, or if no frame has a phone."""
    samples, rate = _length(recording.audio)
    own = Noticed()
    segments = _read_segments(recording, samples, rate, own)
    frames = 1 + (-(-samples * RATE // rate) - WINDOW) // STEP
    if (frame_labels(segments, frames, SILENCE) == IGNORED).all():
        raise BadInput(f"{recording.annotation}: found no label that is a phone, expected some")
    noticed.audio.update(notes_on(recording.audio))
    noticed.tiers += own.tiers
    noticed.ignored_labels += own.ignored_labels
    noticed.phones += own.phones
    noticed.unlabelled += own.unlabelled


def _where(recordings: Sequence[Recording]) -> str:
    return os.path.commonpath([r.audio.parent for r in recordings])

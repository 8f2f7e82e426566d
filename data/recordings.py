"""The user's own recordings with their phones: found, checked, read and split by speaker.

The audio is WAV in RIFF or NIST SPHERE. The phones are TIMIT's `.PHN` or a Praat TextGrid, as forced aligners write it.
A segment is (start, end, class): the times in seconds, the class an index into `data.phones.PHONES`.
"""

import codecs
import dataclasses
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid
from praatio.utilities.constants import Interval
from praatio.utilities.errors import PraatioException
from praatio.utilities.textgrid_io import parseTextgridStr

from data.acoustics import RATE, WINDOW, stream_resample
from data.dataset import BadInput
from data.phones import phone_of

Segment = tuple[float, float, int]

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT")
LARGEST_SAMPLE = 1.25  # resampling and filters overshoot full scale by a little
OVERHANG = 0.05  # seconds that an annotation may go on after the audio, as some of TIMIT's do
REPEATED_SENTENCES = ("SA1", "SA2")
CORE_TEST_SPEAKERS = {
    *("MDAB0", "MWBT0", "FELC0", "MTAS1", "MWEW0", "FPAS0", "MJMP0", "MLNT0", "FPKT0", "MLLL0", "MTLS0", "FJLM0"),
    *("MBPM0", "MKLT0", "FNLP0", "MCMJ0", "MJDH0", "FMGD0", "MGRT0", "MNJM0", "FDHC0", "MJLN0", "MPAM0", "FMLD0"),
}
CORE_TEST_SENTENCES = 8  # of each speaker

_ENCODINGS = {
    "PCM_U8": "8-bit samples",
    "PCM_S8": "8-bit samples",
    "ULAW": "8-bit mu-law samples",
    "ALAW": "8-bit A-law samples",
    "DOUBLE": "64-bit float samples",
}


@dataclasses.dataclass(frozen=True)
class Recording:
    """One sentence or more of one speaker: the audio, and the file that says which phone is when.

    `part` is "train", "test" or "" and `text` what was said, if known.
    """

    audio: Path
    annotation: Path
    speaker: str
    part: str = ""
    text: str = ""


# Audio


def read_audio(path: Path) -> tuple[np.ndarray, float]:
    """Read a recording whole: its samples, (n,) float32 in -1..1 at `data.acoustics.RATE`, and its seconds.

    RIFF WAV and uncompressed NIST SPHERE are read, with one channel of 16-, 24- or 32-bit integers or 32-bit floats, at
    8,000 to 192,000 samples a second. Floats are right as they are: full scale is 1, and filters may have overshot it
    up to `LARGEST_SAMPLE`.

    Raises:
        BadInput: The file is missing, cut or of another kind; it has several channels, 8-bit samples, a rate beyond
            these limits, less than one window of audio, or a sample that isn't finite or is beyond `LARGEST_SAMPLE`.
    """
    return np.concatenate(list(stream_audio(path))), duration(path)


def duration(path: Path) -> float:
    """The length of a recording in seconds.

    Raises:
        BadInput: As `read_audio`, but for what only the samples show.
    """
    with _open(path) as file:
        return file.frames / file.samplerate


def stream_audio(path: Path, seconds: int = 30) -> Iterator[np.ndarray]:
    """Read a recording as `read_audio` does, but in bounded memory: in blocks of about so many seconds.

    Raises:
        BadInput: As `read_audio`, as soon as the first block is asked for, or the block with the wrong sample.
    """
    with _open(path) as file:
        yield from stream_resample(_blocks(path, file, seconds), file.samplerate)


def _open(path: Path) -> soundfile.SoundFile:
    """Open a recording, with all checked that its header says."""
    expected = "expected WAV (RIFF) or NIST SPHERE"
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, {expected}")
    try:
        unit, declared, held = _sizes(path)
        if held != declared:
            found = f"{held:,} {unit} of audio"
            raise BadInput(f"{path}: found {found}, expected {declared:,} as its header says: is the file whole?")
        file = soundfile.SoundFile(path)
    except OSError as error:
        raise BadInput(f"{path}: found a file that can't be read ({error.strerror}), {expected}") from None
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".") or "unknown encoding"
        raise BadInput(f"{path}: found audio that can't be read ({reason}), {expected}") from None
    try:
        _check_format(path, file)
    except BadInput:
        file.close()
        raise
    return file


def _check_format(path: Path, file: soundfile.SoundFile) -> None:
    if file.subtype not in SUBTYPES:
        found = _ENCODINGS.get(file.subtype, f"{file.subtype_info} samples")
        raise BadInput(f"{path}: found {found}, expected 16-, 24- or 32-bit integers or 32-bit floats")
    if file.channels != 1:
        raise BadInput(f"{path}: found {file.channels} channels, expected 1")
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        limits = f"{LOWEST_RATE:,} to {HIGHEST_RATE:,}"
        raise BadInput(f"{path}: found {file.samplerate:,} samples a second, expected {limits}")
    if file.frames * RATE < WINDOW * file.samplerate:
        found = f"{1000 * file.frames / file.samplerate:.3g} ms of audio"
        raise BadInput(f"{path}: found {found}, expected at least {1000 * WINDOW / RATE:.0f} ms, one window")


def _sizes(path: Path) -> tuple[str, int, int]:
    """Find how much audio the header declares, and how much the file holds after it; libsndfile reads what's there."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(16)
        if start.startswith(b"NIST_1A"):
            return "samples", *_sphere_sizes(path, start + stream.read(2**16), size)
        if size == 0:
            raise BadInput(f"{path}: found an empty file, expected WAV (RIFF) or NIST SPHERE")
        if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
            raise BadInput(f"{path}: found a file that begins with {start[:8]!r}, expected WAV (RIFF) or NIST SPHERE")
        position = 12
        while position + 8 <= size:
            stream.seek(position)
            name, length = stream.read(4), int.from_bytes(stream.read(4), "little")
            if name == b"data":
                return "bytes", length, min(length, size - position - 8)
            position += 8 + length + length % 2
    raise BadInput(f"{path}: found no audio after the header, expected a whole WAV file: is the file cut?")


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
        return int(fields["sample_count"]), max(0, size - header_bytes) // sample_bytes
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        expected = "sample_count, channel_count and sample_n_bytes"
        raise BadInput(f"{path}: found a broken SPHERE header, expected {expected} in it: is the file cut?") from None


def _blocks(path: Path, file: soundfile.SoundFile, seconds: int = 30) -> Iterator[np.ndarray]:
    """Read samples as they are in the file, and check their values."""
    position = 0
    for block in file.blocks(seconds * file.samplerate, dtype="float32"):
        bad = ~(np.abs(block) <= LARGEST_SAMPLE)  # so that NaN is bad, too
        if bad.any():
            index = int(np.argmax(bad))
            place = f"at {(position + index) / file.samplerate:.3f} s"
            raise BadInput(f"{path}: {place}: found a sample of {block[index]:g}, expected a number in -1..1")
        position += len(block)
        yield block


# Annotations


def read_phn(path: Path, samples: int, rate: int) -> list[Segment]:
    """Read the segments of a TIMIT `.PHN` file: lines of "start end label", counted in samples of its audio.

    A glottal stop "q" belongs to the segment before it, if there is one without a gap; else it's left out. An end up to
    `OVERHANG` after that of the audio becomes the end of the audio.

    Args:
        path: the annotation.
        samples: length of the audio at its own rate.
        rate: samples a second of the audio.

    Returns:
        The segments in order, without overlap; neighbours may be of one class, such as a closure after a pause.

    Raises:
        BadInput: The file is missing, empty or not UTF-8; a line isn't of that form, or has an unknown label, or ends
            before it starts, or starts before the line before it ends, or ends after the audio.
    """
    entries = []
    for number, line in enumerate(_read_bytes(path).splitlines(), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            found = f"the byte 0x{line[error.start]:02x}, which isn't UTF-8"
            raise BadInput(f"{path}: line {number}: found {found}, expected text in UTF-8") from None
        if not text:
            continue
        fields = re.fullmatch(r"(\d+)\s+(\d+)\s+(\S+)", text, re.ASCII)
        if not fields:
            found = reprlib.repr(text)
            raise BadInput(f"{path}: line {number}: found {found}, expected a start, an end (in samples) and a label")
        entries.append((f"line {number}", int(fields[1]), int(fields[2]), fields[3]))
    return _segments(path, entries, samples, rate)


def read_textgrid(path: Path, duration: float) -> list[Segment]:
    """Read the segments of a Praat TextGrid, in its long or short text format, as `read_phn` does.

    They are those of the interval tier "phones" or "phone", in either case, or of the only interval tier.

    Args:
        path: the annotation.
        duration: seconds of the audio.

    Raises:
        BadInput: The file is missing, cut, in neither UTF-8 nor UTF-16 or no TextGrid; none of its tiers is that of the
            phones, or several are; an interval is wrong as a line of `read_phn` can be.
    """
    content = _read_bytes(path)
    try:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: found bytes that aren't UTF-8 or UTF-16, expected a TextGrid as text") from None
    if not text.startswith('File type = "ooTextFile'):
        found = reprlib.repr(text.split("\n")[0].strip())
        raise BadInput(f"{path}: line 1: found {found}, expected 'File type = \"ooTextFile\"', as a TextGrid begins")
    try:
        tiers = parseTextgridStr(text, includeEmptyIntervals=True)["tiers"]
        tier = _phone_tier(path, [tier for tier in tiers if tier["class"] == "IntervalTier"])
        entries = [
            (f"interval {number} of tier {tier['name']!r}", float(start), float(end), label)
            for number, (start, end, label) in enumerate(tier["entries"], start=1)
        ]
    except (PraatioException, ValueError, IndexError, AttributeError):
        # The parser says where it was in its own code, which is no help.
        raise BadInput(f"{path}: found a TextGrid that breaks off, expected a whole one: is the file cut?") from None
    segments = _segments(path, entries, duration, 1)
    # Praat's tiers have no gaps, so one that ends too early lost intervals.
    if entries[-1][2] < tier["xmax"] - OVERHANG:
        found = f"intervals up to {entries[-1][2]:g} s in tier {tier['name']!r}"
        raise BadInput(f"{path}: found {found}, expected {tier['xmax']:g} s as its header says: is the file cut?")
    return segments


def write_textgrid(
    path: Path, segments: Iterable[tuple[float, float, str]], duration: float, tier: str = "phones"
) -> None:
    """Write segments (start and end in seconds, label) as a Praat TextGrid in the long text format, in UTF-8.

    Times are rounded to microseconds, and gaps become intervals without label, as Praat expects.

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


def _phone_tier(path: Path, tiers: Sequence[Mapping]) -> Mapping:
    named = [tier for tier in tiers if tier["name"].lower() in ("phones", "phone")]
    chosen = named or tiers
    if len(chosen) != 1:
        names = ", ".join(repr(tier["name"]) for tier in chosen)
        found = f"the interval tiers {names}" if chosen else "no interval tier"
        raise BadInput(f"{path}: found {found}, expected one that is named 'phones'")
    return chosen[0]


def _segments(path: Path, entries: Sequence[tuple[str, float, float, str]], length: float, rate: int) -> list[Segment]:
    """Check (place, start, end, label) in order, in units of which there are `rate` a second, and turn to segments."""
    if not entries:
        raise BadInput(f"{path}: found no segment, expected some")
    segments: list[Segment] = []
    before = 0.0
    # Comparisons are such that NaN fails them.
    for place, start, end, label in entries:
        if not end > start:
            raise BadInput(f"{path}: {place}: found {start:g} to {end:g}, expected an end after the start")
        if not start >= before:
            expected = f"{before:g} or later, where the segment before ends"
            raise BadInput(f"{path}: {place}: found a start at {start:g}, expected {expected}")
        if not end <= length + OVERHANG * rate:
            raise BadInput(
                f"{path}: {place}: found an end at {end:g}, expected the audio's end, {length:g}, or earlier"
            )
        try:
            phone = phone_of(label)
        except KeyError:
            found = f"the label {reprlib.repr(label)}"
            raise BadInput(f"{path}: {place}: found {found}, expected one of TIMIT or ARPAbet") from None
        if start < length:
            first, last = start / rate, min(end, length) / rate
            if phone is not None:
                segments.append((first, last, phone))
            elif segments and segments[-1][1] == first:
                segments[-1] = (segments[-1][0], last, segments[-1][2])
        before = end
    return segments


# Folders


def find_recordings(folder: Path, skip_bad: bool) -> tuple[list[Recording], list[str]]:
    """Find and check all recordings below a folder laid out as TIMIT is: NAME.WAV beside NAME.PHN or NAME.TextGrid.

    Suffixes are in either case. A .PHN is taken before a .TextGrid, and NAME.WAV before the NAME.WAV.wav of some
    copies of TIMIT. The speaker is the name of the folder that holds the file, the part that of a folder TRAIN or TEST
    above it, the text that of NAME.TXT. Names that begin with a dot are ignored.

    The sentences SA1 and SA2 are left out: as every speaker of TIMIT reads them, they would be in training and in test.
    All else is checked as by `read`, so that what is returned can be read; only integer samples aren't looked at, as
    none of them can be wrong.

    Returns:
        The recordings, in order of their paths, and a line for each one that was skipped, with one line for all of
        SA1 and SA2, which begins with the folder.

    Raises:
        BadInput: There is no such folder, or no recording in it that can be used; without `skip_bad`, also for the
            first recording that is bad, or lacks its annotation, or annotation that lacks its recording.
    """
    expected = "expected NAME.WAV with NAME.PHN or NAME.TextGrid in it, or in folders in it"
    if not folder.is_dir():
        raise BadInput(f"{folder}: found no such folder, expected one of recordings")
    audio, annotations, texts = _list_files(folder)
    recordings: list[Recording] = []
    skipped: list[str] = []
    repeated = 0
    for name in sorted({*audio, *annotations}):
        if name.name.upper() in REPEATED_SENTENCES:
            repeated += 1
            continue
        try:
            if name not in annotations:
                raise BadInput(f"{audio[name]}: found no annotation, expected {name.name}.PHN or .TextGrid beside it")
            if name not in audio:
                raise BadInput(f"{annotations[name]}: found no recording, expected {name.name}.WAV beside it")
            folders = [part.lower() for part in name.relative_to(folder).parts[:-1]]
            recording = Recording(
                audio=audio[name],
                annotation=annotations[name],
                speaker=name.parent.name,
                part=next((part for part in folders if part in ("train", "test")), ""),
                text=_read_text(texts[name]) if name in texts else "",
            )
            _check(recording)
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
    if repeated:
        skipped.append(f"{folder}: {repeated:,} times SA1 or SA2 left out, which every speaker of TIMIT reads")
    return recordings, skipped


def read(recording: Recording) -> tuple[np.ndarray, list[Segment]]:
    """Read a recording's samples, (n,) float32 at `data.acoustics.RATE`, and its segments.

    Raises:
        BadInput: As `read_audio`, `read_phn` and `read_textgrid` do.
    """
    segments = _read_segments(recording)
    return read_audio(recording.audio)[0], segments


def split_recordings(recordings: Sequence[Recording], seed: int) -> dict[str, list[Recording]]:
    """Split by speaker into "train", "validation" and "test", each in the order of `recordings`.

    Where there is a TRAIN and a TEST part, as in TIMIT, the test part is the core test set of 24 speakers with 8
    sentences each if it's whole, else all of TEST; a tenth of the speakers of TRAIN, at least one, is to validate on.
    Otherwise a tenth of the speakers is to validate on and two tenths to test on, at least one each. `describe_split`
    says which it was.

    Args:
        recordings: as `find_recordings` returns them.
        seed: draws the speakers.

    Raises:
        BadInput: There are too few speakers; or, with both parts, a speaker is in both, or a recording in neither.
    """
    generator = np.random.default_rng(seed)
    speakers = {part: sorted({r.speaker for r in recordings if r.part == part}) for part in ("train", "test")}
    if speakers["train"] and speakers["test"]:
        if both := sorted({*speakers["train"]} & {*speakers["test"]}):
            raise BadInput(
                f"{_where(recordings)}: found speaker {both[0]} in TRAIN and TEST, expected it in one of them"
            )
        if neither := [r for r in recordings if not r.part]:
            raise BadInput(f"{neither[0].audio}: found in neither TRAIN nor TEST, expected it in one as others are")
        count = Counter(r.speaker.upper() for r in recordings if r.part == "test")
        whole = all(count[speaker] == CORE_TEST_SENTENCES for speaker in CORE_TEST_SPEAKERS)
        test = [s for s in speakers["test"] if not whole or s.upper() in CORE_TEST_SPEAKERS]
        others = speakers["train"]
        validation_size = max(1, round(len(others) / 10))
        if len(others) < 2:
            raise BadInput(f"{_where(recordings)}: found 1 speaker in TRAIN, expected at least 2, one to validate on")
        others = generator.permutation(others).tolist()
    else:
        everyone = sorted({r.speaker for r in recordings})
        if len(everyone) < 3:
            found = f"{len(everyone)} speaker{'s' * (len(everyone) != 1)} ({', '.join(everyone)})"
            expected = "at least 3, one each to train, validate and test on, each in a folder of their own"
            raise BadInput(f"{_where(recordings)}: found {found}, expected {expected}")
        validation_size = max(1, round(len(everyone) / 10))
        test_size = max(1, round(len(everyone) / 5))
        shuffled = generator.permutation(everyone).tolist()
        test, others = shuffled[:test_size], shuffled[test_size:]
    chosen = {"train": others[validation_size:], "validation": others[:validation_size], "test": test}
    return {split: [r for r in recordings if r.speaker in {*names}] for split, names in chosen.items()}


def describe_split(splits: Mapping[str, Sequence[Recording]]) -> str:
    """Say in one sentence how `split_recordings` made these splits."""
    test = {r.speaker.upper() for r in splits["test"]}
    if splits["train"][0].part != "train" or splits["test"][0].part != "test":
        return f"speakers drawn at random, {len(test)} of them to test on"
    if test == CORE_TEST_SPEAKERS and len(splits["test"]) == CORE_TEST_SENTENCES * len(test):
        return "tested on the 24 speakers of TIMIT's core test set"
    return f"tested on all {len(test)} speakers of TEST, as TIMIT's core test set of 24 isn't there or isn't whole"


def _list_files(folder: Path) -> tuple[dict[Path, Path], dict[Path, Path], dict[Path, Path]]:
    """List audio, annotations and texts, by their paths without suffix."""
    audio: dict[Path, Path] = {}
    annotations: dict[Path, Path] = {}
    texts: dict[Path, Path] = {}
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        name, suffix = path.with_suffix(""), path.suffix.lower()
        if suffix == ".wav":
            if name.suffix.lower() == ".wav":
                audio.setdefault(name.with_suffix(""), path)
            else:
                audio[name] = path
        elif suffix == ".phn":
            annotations[name] = path
        elif suffix == ".textgrid":
            annotations.setdefault(name, path)
        elif suffix == ".txt":
            texts[name] = path
    return audio, annotations, texts


def _read_text(path: Path) -> str:
    """Read what was said; TIMIT writes the first and the last sample before it."""
    text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    return re.sub(r"^\d+ \d+ ", "", text)


def _read_segments(recording: Recording) -> list[Segment]:
    with _open(recording.audio) as file:
        samples, rate = file.frames, file.samplerate
    if recording.annotation.suffix.lower() == ".phn":
        return read_phn(recording.annotation, samples, rate)
    return read_textgrid(recording.annotation, samples / rate)


def _check(recording: Recording) -> None:
    """Raise BadInput where `read` would, but faster."""
    _read_segments(recording)
    with _open(recording.audio) as file:
        if file.subtype == "FLOAT":
            for _ in _blocks(recording.audio, file):
                pass


def _where(recordings: Sequence[Recording]) -> str:
    return os.path.commonpath([r.audio.parent for r in recordings])

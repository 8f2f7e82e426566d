"""Speech with a phone for each frame: a synthetic corpus generated offline, and the user's own recordings.

The synthetic speakers are voices of espeak-ng (see `data.espeak`) that read sentences of `data.sentences`, with noise.
Splits share neither speakers nor sentences.
"""

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np
import platformdirs
import soundfile

from data import espeak, ranges
from data.acoustics import (
    BANDS,
    RATE,
    STEP,
    Normalizer,
    add_noise,
    frame_labels,
    log_mel,
    moments,
    resample,
    telephone_band,
)
from data.dataset import BadInput, Dataset, Provenance, Split, escaped
from data.embedded import Synthesis
from data.phones import IGNORED, PHONES, SILENCE
from data.recordings import Found, Recording, Segment, find_recordings, read, split_recordings
from data.sentences import sentences

FEATURES = tuple(f"band {band}" for band in range(1, BANDS + 1))
UNITS = "natural logarithm of the power in mel bands, normalised by speaker; a frame every 10 ms"

# Variants of espeak-ng that differ in their formants, not only in pitch, and use its own synthesizer, for which the
# label corrections were measured.
FEMALE = (
    "f1",
    "f2",
    "f3",
    "f4",
    "Alicia",
    "Andrea",
    "Annie",
    "anika",
    "aunty",
    "belinda",
    "grandma",
    "shelby",
    "steph",
)
MALE = ("m1", "m2", "m3", "m4", "m6", "m7", "m8", "Alex", "Denis", "Diogo", "Gene", "Mario", "ed")
ACCENTS = ("en-us", "en-gb-x-rp", "en-us", "en-gb-scotland", "en-us", "en")  # half of them with a flap, dx
RATES = (140, 191)  # words a minute
PITCHES = (35, 66)  # of 0 to 99
PLAYBACKS = (388, 501)  # in units of 50 Hz: formants 12 % lower to 13 % higher, as for vocal tracts of 15 to 20 cm

CACHE_VARIABLE = "KERAS_APPLICATION_TEMPLATES_CACHE"
FORMAT = 2  # of the cache; raise it whenever the way the cache is generated changes
_SHORTEST = 1.5  # seconds, less than the mean of any speaker's sentences


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One sentence or recording: its rows are `start` to `end` of its split."""

    name: str
    speaker: str
    text: str
    noise: str
    """"20 dB" or "clean"; empty for the user's own recordings."""
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Speech:
    """A corpus: the frames of all utterances, concatenated by split, and the normaliser that was applied to them."""

    dataset: Dataset
    utterances: Mapping[str, tuple[Utterance, ...]]
    normalizer: Normalizer


@dataclasses.dataclass(frozen=True)
class _Sound:
    """Samples at `RATE` with their segments and description."""

    name: str
    speaker: str
    text: str
    noise: str
    samples: np.ndarray
    segments: Sequence[Segment]


@dataclasses.dataclass
class _Frames:
    """Features and labels of one split, before normalisation."""

    features: list[np.ndarray]
    labels: list[np.ndarray]
    utterances: list[Utterance]


def load_synthetic(settings: Synthesis) -> Speech:
    """Generate the synthetic corpus or load it from the cache, and extract its frames.

    The splits "train", "validation" and "test" share no speaker, variant (timbre) or sentence, and each has women and
    men. Inputs are (frames, 40) float32, labels (frames,) int32 of `PHONES`.

    Raises:
        BadInput: A setting is out of its range, espeak-ng isn't installed, or the cache can't be written.
    """
    ranges.check(settings, "--synthesis.")
    speakers = draw_speakers(settings)
    corpus = _corpus(settings, speakers)
    digest = hashlib.sha256()
    parts = {
        split: _frames(_noisy(corpus, settings, {speaker.name for speaker in chosen}), digest)
        for split, chosen in speakers.items()
    }
    seconds = sum(len(sound.samples) for sound in corpus) / RATE
    noise = f"pink noise at {', '.join(f'{snr:g}' for snr in settings.snr)} dB" if settings.snr else "no noise"
    provenance = Provenance(
        name="synthetic English speech",
        source=f"this project's own sentences, spoken by espeak-ng (espeakng-loader {_version()})",
        licence="none needed: it contains no recording of a person; espeak-ng, GPL-3.0-or-later, was only run",
        rows=sum(len(labels) for part in parts.values() for labels in part.labels),
        size_bytes=sum(sound.samples.nbytes for sound in corpus),
        sha256=digest.hexdigest(),
        units=UNITS,
        seed=settings.seed,
        notes=(
            f"{settings.speakers} speakers in {len({s.voice for all_ in speakers.values() for s in all_})} accents, "
            + ", ".join(f"{len(chosen)} for {split}" for split, chosen in speakers.items()),
            f"{seconds / 60:.1f} minutes, {len(corpus):,} sentences, all different",
            noise + (", limited to the band of a telephone line" if settings.telephone else ""),
        ),
    )
    return _speech(parts, provenance)


def load_recordings(folder: Path, *, skip_bad: bool, seed: int, tier: str = "") -> Speech:
    """Read the user's own recordings, laid out like TIMIT, and split them by speaker or sentence.

    Frames whose label isn't a phone have the label `IGNORED`. See `data.recordings` for everything else.

    Raises:
        BadInput: There are no recordings, too few, or, without `skip_bad`, a bad one.
    """
    found = find_recordings(folder, skip_bad, tier)
    splits = split_recordings(found.recordings, seed)
    digest = hashlib.sha256()
    parts = {split: _frames(_sounds(folder, chosen), digest) for split, chosen in splits.parts.items()}
    rows = sum(len(labels) for part in parts.values() for labels in part.labels)
    used = [recording for chosen in splits.parts.values() for recording in chosen]
    provenance = Provenance(
        name="recordings with phones",
        source=escaped(str(folder)),
        licence="the user's own data",
        rows=rows,
        size_bytes=sum(recording.audio.stat().st_size for recording in used),
        sha256=digest.hexdigest(),
        units=UNITS,
        seed=seed,
        notes=(f"{rows / 6000:.1f} minutes",),
        understood=(
            *found.understood(),
            splits.note,
            *_ignored_notes(parts),
            *_shared_notes(splits.shared_speakers()),
            *_skipped_notes(folder, found),
        ),
    )
    return _speech(parts, provenance)


def read_labelled(
    folder: Path, normalizer: Normalizer, *, skip_bad: bool, tier: str = ""
) -> tuple[Split, tuple[Utterance, ...], list[str]]:
    """Read all recordings of a folder as one split, normalised by speaker, to evaluate a saved model.

    Returns:
        The frames, their recordings, and sentences on how the files were read.

    Raises:
        BadInput: There are no recordings, or, without `skip_bad`, a bad one.
    """
    found = find_recordings(folder, skip_bad, tier)
    part = _frames(_sounds(folder, found.recordings), hashlib.sha256())
    understood = [*found.understood(), *_ignored_notes({"": part}), *_skipped_notes(folder, found)]
    return _split(part, normalizer), tuple(part.utterances), understood


def examples() -> list[bytes]:
    """Short sentences that espeak-ng speaks as a woman and a man, without noise, as WAV files.

    Raises:
        BadInput: espeak-ng isn't installed.
    """
    _version()
    speakers = draw_speakers(Synthesis(speakers=6))["test"]
    files = []
    for sentence in espeak.synthesize(speakers, sentences(len(speakers), 0), 0.1, 0):
        with io.BytesIO() as file:
            soundfile.write(file, sentence.samples, espeak.RATE, "PCM_16", format="WAV")
            files.append(file.getvalue())
    return files


def draw_speakers(settings: Synthesis) -> dict[str, list[espeak.Speaker]]:
    """Draw the speakers of each split: splits share no variants, and accents alternate in each."""
    random = np.random.default_rng([settings.seed, 0])
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    women = settings.speakers // 2
    for variants, count in ((FEMALE, women), (MALE, settings.speakers - women)):
        tested, validated = max(1, round(0.25 * count)), max(1, round(0.15 * count))
        counts = {"test": tested, "validation": validated, "train": count - tested - validated}
        drawn = random.permutation(variants).tolist()
        for split, share in (("test", 0.25), ("validation", 0.15), ("train", 1.0)):
            own = [drawn.pop() for _ in range(min(len(drawn), max(1, round(share * len(variants)))))]
            splits[split] += [own[i % len(own)] for i in range(counts[split])]
    return {
        split: [
            espeak.Speaker(
                ACCENTS[i % len(ACCENTS)],
                variant,
                int(random.integers(*RATES)),
                int(random.integers(*PITCHES)),
                int(random.integers(*PLAYBACKS)) * 50,
            )
            for i, variant in enumerate(variants)
        ]
        for split, variants in splits.items()
    }


# Synthesis and its cache


def _corpus(settings: Synthesis, splits: Mapping[str, Sequence[espeak.Speaker]]) -> list[_Sound]:
    """Get the sentences, without noise, from the cache or from espeak-ng; samples are int16."""
    speakers = [speaker for chosen in splits.values() for speaker in chosen]
    seconds = settings.minutes * 60 / settings.speakers
    # Each speaker's last sentence may begin with just one sample left.
    texts = sentences(settings.speakers * (int(seconds / _SHORTEST) + 2), settings.seed)
    job = [[dataclasses.asdict(speaker) for speaker in speakers], texts, seconds, settings.seed, _version(), FORMAT]
    name = hashlib.sha256(json.dumps(job).encode()).hexdigest()[:32]
    folder = Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("keras-application-templates"))
    path = folder / f"speech-{name}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            stored = _stored(path)
            if stored is None:
                stored = _pack(espeak.synthesize(speakers, texts, seconds, settings.seed), speakers)
                _store(path, stored)
    except OSError as error:
        raise BadInput(
            f"{folder}: found a folder that can't be used ({error.strerror or error}), expected one for the speech; "
            f"{CACHE_VARIABLE} can name another"
        ) from None
    return _unpack(stored)


def _version() -> str:
    try:
        return importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError:
        raise BadInput("espeak-ng: found none, expected it installed: pip install espeakng-loader") from None


def _pack(spoken: Sequence[espeak.Spoken], speakers: Sequence[espeak.Speaker]) -> dict[str, np.ndarray]:
    samples, segments = [], []
    for sentence in spoken:
        speaker = speakers[sentence.speaker]
        resampled = resample(sentence.samples.astype(np.float32) / 2**15, speaker.playback)
        # The end is silence. Multiples of the step make the Fourier transform of noise ten times faster than primes.
        resampled = resampled[: len(resampled) // STEP * STEP]
        samples.append(np.clip(np.round(resampled * 2**15), -(2**15), 2**15 - 1).astype(np.int16))
        stretch = espeak.RATE / speaker.playback
        spoken_segments = espeak.segments(sentence, speaker.voice)
        segments.append([(start * stretch, end * stretch, phone) for start, end, phone in spoken_segments])
    times = np.array([segment for sentence in segments for segment in sentence])
    return {
        "samples": np.concatenate(samples),
        "ends": np.cumsum([len(part) for part in samples]),
        "times": times[:, :2],
        "phones": times[:, 2].astype(np.int32),
        "segment_ends": np.cumsum([len(part) for part in segments]),
        "speakers": np.array([speakers[sentence.speaker].name for sentence in spoken]),
        "texts": np.array([sentence.text for sentence in spoken]),
    }


def _unpack(stored: Mapping[str, np.ndarray]) -> list[_Sound]:
    samples = np.split(stored["samples"], stored["ends"][:-1])
    times = np.split(stored["times"], stored["segment_ends"][:-1])
    phones = np.split(stored["phones"], stored["segment_ends"][:-1])
    return [
        _Sound(
            name=f"sentence {i + 1}",
            speaker=str(stored["speakers"][i]),
            text=str(text),
            noise="clean",
            samples=samples[i],
            segments=[(start, end, int(phone)) for (start, end), phone in zip(times[i], phones[i], strict=True)],
        )
        for i, text in enumerate(stored["texts"])
    ]


def _stored(path: Path) -> dict[str, np.ndarray] | None:
    """Read the cache file; None if there is none or its checksums show that it's damaged."""
    try:
        with np.load(path) as stored:
            return {
                name: stored[name]
                for name in ("samples", "ends", "times", "phones", "segment_ends", "speakers", "texts")
            }
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _store(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
        try:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows can't replace an open file
            Path(file.name).replace(path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise


def _noisy(corpus: Sequence[_Sound], settings: Synthesis, speakers: set[str]) -> Iterable[_Sound]:
    """Add noise to the sentences of some speakers; each sentence's noise is independent of the others."""
    for number, sound in enumerate(corpus):
        if sound.speaker not in speakers:
            continue
        random = np.random.default_rng([settings.seed, 1, number])
        samples, noise = sound.samples.astype(np.float32) / 2**15, "clean"
        if settings.snr:
            snr = settings.snr[random.integers(len(settings.snr))]
            samples, noise = add_noise(samples, snr, random), f"{snr:g} dB"
        if settings.telephone:
            samples = telephone_band(samples)
        yield dataclasses.replace(sound, samples=samples, noise=noise)


# Frames


def _sounds(folder: Path, recordings: Sequence[Recording]) -> Iterable[_Sound]:
    for recording in recordings:
        samples, segments = read(recording)
        name = escaped(recording.audio.relative_to(folder).with_suffix("").as_posix())
        yield _Sound(name, recording.speaker, recording.text, "", samples, segments)


def _frames(sounds: Iterable[_Sound], digest) -> _Frames:
    part = _Frames([], [], [])
    start = 0
    for sound in sounds:
        features = log_mel(sound.samples)
        labels = frame_labels(sound.segments, len(features), SILENCE)
        digest.update(sound.samples.tobytes())
        digest.update(labels.tobytes())
        part.features.append(features)
        part.labels.append(labels)
        end = start + len(features)
        part.utterances.append(Utterance(sound.name, sound.speaker, sound.text, sound.noise, start, end))
        start = end
    return part


def _speech(parts: Mapping[str, _Frames], provenance: Provenance) -> Speech:
    normalizer = Normalizer.fit(parts["train"].features)  # sums over utterances are those over speakers
    splits = {split: _split(part, normalizer) for split, part in parts.items()}
    dataset = Dataset(splits, FEATURES, PHONES, provenance, label_values=PHONES)
    return Speech(dataset, {split: tuple(part.utterances) for split, part in parts.items()}, normalizer)


def _split(part: _Frames, normalizer: Normalizer) -> Split:
    """Normalise each speaker, freeing the features on the way to save memory."""
    sums: dict[str, list] = {}
    for utterance, features in zip(part.utterances, part.features, strict=True):
        own = moments(features)
        before = sums.get(utterance.speaker)
        sums[utterance.speaker] = [a + b for a, b in zip(before, own, strict=True)] if before else list(own)
    statistics = {speaker: normalizer.statistics(*total) for speaker, total in sums.items()}
    inputs = np.empty((part.utterances[-1].end, BANDS), np.float32)
    for i, utterance in enumerate(part.utterances):
        mean, deviation = statistics[utterance.speaker]
        inputs[utterance.start : utterance.end] = (part.features[i] - mean) / deviation
        part.features[i] = inputs[:0]
    return Split(inputs=inputs, labels=np.concatenate(part.labels))


def _ignored_notes(parts: Mapping[str, _Frames]) -> Iterable[str]:
    """A sentence on the frames whose label isn't a phone, if any."""
    counts = [(np.sum(labels == IGNORED), len(labels)) for part in parts.values() for labels in part.labels]
    ignored, frames = (int(sum(column)) for column in zip(*counts, strict=True))
    if ignored:
        yield f"{ignored:,} of {frames:,} frames are left out of training and scoring"


def _shared_notes(speakers: Sequence[str]) -> Iterable[str]:
    if speakers:
        count = f"{len(speakers):,} test speaker{'s are' if len(speakers) > 1 else ' is'} also in training"
        yield f"{count}: {', '.join(speakers[:8])}{f' and {len(speakers) - 8:,} more' if len(speakers) > 8 else ''}"


def _skipped_notes(folder: Path, found: Found) -> Iterable[str]:
    """A line that counts the bad files and names the first, and lines on those left out for other reasons."""
    counts = Counter(line.startswith(f"{folder}: ") for line in found.skipped)
    if counts[False]:
        first = next(line for line in found.skipped if not line.startswith(f"{folder}: "))
        yield f"{counts[False]:,} bad recordings skipped, the first: {escaped(first)}"
    yield from (escaped(line) for line in found.skipped if line.startswith(f"{folder}: "))

"""English speech from espeak-ng, with the sample at which each phone begins.

espeak-ng is a separate program (GPL-3.0-or-later), called through the C interface of `speak_lib.h`; its library and
voices come in the wheel `espeakng-loader`. The library keeps global state, and its output depends on what it spoke
before. So each corpus is synthesized in a new process: `synthesize` runs `python -m data.espeak JOB.json OUT.npz`.
"""

import ctypes
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.dataset import BadInput
from data.phones import PHONES

RATE = 22_050  # Hz, espeak-ng's output
MARGINS = (0.1, 0.3)  # seconds of silence before and after a sentence, drawn between these

# Offsets between espeak-ng's events and the audible start of a phone, measured where the spectrum changes fastest: the
# same at 150 to 190 words a minute in all accents.
VOWEL_LATE = 0.018  # seconds by which a vowel's event is late after a nasal or a liquid
VOICE_BAR = 0.042  # seconds of closure at the start of a voiced stop after a vowel
LIQUID_SHARE = {"l": 0.4, "r": 0.3}  # of the preceding vowel, for a liquid that is part of the vowel's event
QUIET = -30.0  # dB relative to the loudest: a quieter stretch before a stop or a pause is its closure
_STEP = 88  # samples, 4 ms, in which loudness is measured

# The phones of espeak-ng's phonemes, without stress. Two phones take half of the event each.
_SHARED = {
    **{name: name for name in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z")},
    **{"D": "dh", "N": "ng", "S": "sh", "T": "th", "Z": "sh", "dZ": "jh", "h": "hh", "j": "y", "n-": "n", "r-": "r"},
    **{"t2": "t", "t#": "dx", "tS": "ch", "w#": "w", "?": "sil", "_": "sil", "_:": "sil", "_!": "sil"},
    ";": "iy",  # the glide between a final iy and another vowel
    **{"i": "iy", "i:": "iy", "I": "ih", "I2": "ih", "I#": "ih", "E": "eh", "a": "ae", "aa": "ae", "V": "ah"},
    **{"@": "ah", "@2": "ah", "@-": "ah", "a#": "ah", "u:": "uw", "U": "uh", "0": "aa", "A:": "aa", "A@": "aa"},
    **{"O": "aa", "O2": "aa", "O:": "aa", "O@": "aa", "o@": "aa", "3:": "er", "3": "ah", "e@": "eh"},
    **{"eI": "ey", "aI": "ay", "aI2": "ay", "OI": "oy", "aU": "aw", "oU": "ow"},
    **{"@L": "ah l", "aI@": "ay ah", "aI3": "ay ah", "aU@": "aw ah", "i@": "ih ah", "i@3": "ih ah", "U@": "uh ah"},
}
_ACCENTS = {
    "en-us": {
        **{"3": "er", "A@": "aa r", "O@": "aa r", "o@": "aa r", "e@": "eh r", "i@3": "ih r", "U@": "uh r"},
        **{"aI3": "ay er", "i@": "iy ah"},
    },
    "en": {},
    "en-gb-x-rp": {"aa": "aa", "i": "ih"},
    # Scots has no uh (pull and pool have the same vowel), and has [e] in happy, there and girl.
    "en-gb-scotland": {
        **{"aa": "aa", "U": "uw", "i": "ey", "e@": "ey", "3:": "ey", "i@3": "ih", "U@": "uw r"},
        **{"VR": "ah r", "IR": "ah r"},
    },
}
ACCENTS = tuple(_ACCENTS)
_VOWELS = frozenset(PHONES[: PHONES.index("l")])
_LATE_AFTER = frozenset(("l", "r", "w", "y", "m", "n", "ng"))
_VOICED_STOPS = frozenset(("b", "d", "g", "jh"))
_CLOSED = frozenset(("p", "t", "k", "ch", "b", "d", "g", "jh", "sil"))

# From speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS = 0x0001
INITIALIZE_DONT_EXIT = 0x8000
EVENT_LIST_TERMINATED, EVENT_PHONEME = 0, 7
PARAMETER_RATE, PARAMETER_PITCH = 1, 3
CHARS_UTF8 = 1


@dataclasses.dataclass(frozen=True)
class Speaker:
    """Who speaks: an accent, a variant (a timbre), words a minute, a pitch of 0 to 99, and a playback rate in Hz.

    A faster `playback` than `RATE` raises all formants, as a shorter vocal tract does, and with them pitch and tempo.
    """

    voice: str
    variant: str
    rate: int
    pitch: int
    playback: int = RATE

    @property
    def name(self) -> str:
        """espeak-ng's name of the voice, with rate, pitch and the factor of the formants: en-us+f2 170 54 ×1.08."""
        return f"{self.voice}+{self.variant} {self.rate} {self.pitch} ×{self.playback / RATE:.2f}"


@dataclasses.dataclass(frozen=True)
class Spoken:
    """One sentence: int16 `samples` at RATE; `phonemes` are espeak-ng's mnemonics and the samples where they begin."""

    speaker: int
    text: str
    samples: np.ndarray
    phonemes: tuple[tuple[str, int], ...]


def synthesize(speakers: Sequence[Speaker], texts: Sequence[str], seconds: float, seed: int) -> list[Spoken]:
    """Synthesize sentences of `texts` in a new process, at least `seconds` for each speaker in turn.

    This includes the silence of `MARGINS`. No sentence is used twice. Equal arguments give equal bytes on the same
    machine with the same version of espeak-ng.

    Raises:
        BadInput: espeak-ng isn't installed or lacks a voice, or there are too few `texts`.
    """
    with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
        job, out = Path(folder) / "job.json", Path(folder) / "out.npz"
        job.write_text(
            json.dumps(
                {
                    "speakers": [dataclasses.asdict(speaker) for speaker in speakers],
                    "texts": list(texts),
                    "seconds": seconds,
                    "seed": seed,
                }
            ),
            encoding="utf-8",
        )
        root = str(Path(__file__).resolve().parents[1])
        result = subprocess.run(
            [sys.executable, "-m", "data.espeak", str(job), str(out)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            raise BadInput(f"espeak-ng: {lines[-1] if lines else f'it ended with code {result.returncode}'}")
        with np.load(out) as stored:
            return _unpack({name: stored[name] for name in stored}, texts)


def _unpack(stored: dict[str, np.ndarray], texts: Sequence[str]) -> list[Spoken]:
    samples = np.split(stored["samples"], stored["ends"][:-1])
    names = np.split(stored["names"], stored["phoneme_ends"][:-1])
    starts = np.split(stored["starts"], stored["phoneme_ends"][:-1])
    return [
        Spoken(int(speaker), texts[i], samples[i], tuple(zip(names[i].tolist(), starts[i].tolist(), strict=True)))
        for i, speaker in enumerate(stored["speakers"])
    ]


def segments(spoken: Spoken, voice: str) -> list[tuple[float, float, int]]:
    """The phones of a sentence: start and end in seconds, and the index in `data.phones.PHONES`.

    There are no gaps from the first to the last sample. As in TIMIT, the closure of a stop is silence and the stop is
    what follows it; the flap dx includes its closure. The events of espeak-ng are corrected by the constants above; a
    vowel with an r or l in one event is divided.

    Raises:
        ValueError: A phoneme isn't in the tables above.
    """
    phones: list[tuple[str, int]] = []  # and the samples where they begin
    quiet = _quiet_steps(spoken.samples)
    events = [*spoken.phonemes, ("", len(spoken.samples))]
    for (name, start), (_, end) in itertools.pairwise(events):
        parts = _phones(name, voice, spoken.text)
        previous = phones[-1][0] if phones else "sil"
        if end == start and parts[0] in LIQUID_SHARE and previous in _VOWELS:
            start -= round(LIQUID_SHARE[parts[0]] * (start - phones[-1][1]))
        elif end == start:
            continue
        elif parts[0] in _VOWELS and previous in _LATE_AFTER:
            start = max(start - round(VOWEL_LATE * RATE), phones[-1][1] + 1)
        elif parts[0] in _CLOSED:
            closed = _closure_start(quiet, start, phones[-1][1] if phones else 0)
            if closed < start:
                phones.append(("sil", closed))
            if parts[0] in _VOICED_STOPS and previous in _VOWELS:
                phones.append(("sil", start))
                start = min(start + round(VOICE_BAR * RATE), (start + end) // 2)
        phones += [(part, start + i * (end - start) // len(parts)) for i, part in enumerate(parts)]
    if not phones or phones[0][1] > 0:
        phones.insert(0, ("sil", 0))
    ends = [start for _, start in phones[1:]] + [len(spoken.samples)]
    return [
        (start / RATE, end / RATE, PHONES.index(phone))
        for (phone, start), end in zip(phones, ends, strict=True)
        if end > start
    ]


def _phones(name: str, voice: str, text: str) -> list[str]:
    bare = name.lstrip("',%=")
    phones = _ACCENTS[voice].get(bare) or _SHARED.get(bare)
    if phones is None:
        raise ValueError(f"found no phone for the phoneme {name!r} of espeak-ng, voice {voice}, in {text!r}")
    return phones.split()


def _quiet_steps(samples: np.ndarray) -> np.ndarray:
    steps = samples[: len(samples) // _STEP * _STEP].reshape(-1, _STEP).astype(np.float64)
    power = np.square(steps).mean(axis=1)
    return power < np.percentile(power, 99) * 10 ** (QUIET / 10)


def _closure_start(quiet: np.ndarray, event: int, earliest: int) -> int:
    """Go back from the event while it's quiet; the event's own step may contain the release."""
    step = event // _STEP
    while step > 0 and (step - 1) * _STEP >= earliest and quiet[step - 1]:
        step -= 1
    return step * _STEP if step < event // _STEP else event


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Library:
    """espeak-ng in this process."""

    def __init__(self, seed: int):
        try:
            import espeakng_loader
        except ImportError:
            sys.exit("found no espeak-ng, expected it installed: pip install espeakng-loader")
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        options = INITIALIZE_PHONEME_EVENTS | INITIALIZE_DONT_EXIT
        rate = self.library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, options)
        if rate != RATE:
            sys.exit(f"found a sample rate of {rate} Hz, expected {RATE}")
        # Breath, flutter and fricatives are random.
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self.audio: list[bytes] = []
        self.phonemes: list[tuple[str, int]] = []
        self.callback = _Callback(self._receive)  # kept here, as the library holds no reference to it
        self.library.espeak_SetSynthCallback(self.callback)

    def _receive(self, samples, count: int, events) -> int:
        if samples and count:
            self.audio.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != EVENT_LIST_TERMINATED:
            if events[i].type == EVENT_PHONEME:
                self.phonemes.append((events[i].id.string.decode(), events[i].sample))
            i += 1
        return 0

    def choose(self, speaker: Speaker) -> None:
        if self.library.espeak_SetVoiceByName(f"{speaker.voice}+{speaker.variant}".encode()) != 0:
            sys.exit(f"found no voice {speaker.voice}+{speaker.variant}, expected one that espeak-ng has")
        self.library.espeak_SetParameter(PARAMETER_RATE, speaker.rate, 0)
        self.library.espeak_SetParameter(PARAMETER_PITCH, speaker.pitch, 0)

    def speak(self, text: str) -> tuple[np.ndarray, list[tuple[str, int]]]:
        self.audio, self.phonemes = [], []
        raw = text.encode()
        if self.library.espeak_Synth(raw, ctypes.c_size_t(len(raw) + 1), 0, 1, 0, CHARS_UTF8, None, None) != 0:
            sys.exit(f"could not say {text!r}")
        return np.frombuffer(b"".join(self.audio), np.int16), self.phonemes


def _main(job_path: str, out_path: str) -> None:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    library = _Library(job["seed"])
    random = np.random.default_rng(job["seed"])
    texts = iter(job["texts"])
    spoken: list[tuple[int, np.ndarray, list[tuple[str, int]]]] = []
    for number, settings in enumerate(job["speakers"]):
        library.choose(Speaker(**settings))
        samples_left = job["seconds"] * RATE
        while samples_left > 0:
            text = next(texts, None)
            if text is None:
                sys.exit(f"found {len(job['texts'])} sentences, expected enough for {job['seconds']} s of each speaker")
            samples, phonemes = library.speak(text)
            before, after = (random.uniform(*MARGINS, 2) * RATE).astype(int).tolist()
            samples = np.pad(samples, (before, after))
            phonemes = [("_:", 0), *((name, before + start) for name, start in phonemes)]
            samples_left -= len(samples)
            spoken.append((number, samples, phonemes))
    np.savez(
        out_path,
        speakers=np.array([number for number, _, _ in spoken]),
        samples=np.concatenate([samples for _, samples, _ in spoken]),
        ends=np.cumsum([len(samples) for _, samples, _ in spoken]),
        names=np.array([name for _, _, phonemes in spoken for name, _ in phonemes]),
        starts=np.array([start for _, _, phonemes in spoken for _, start in phonemes]),
        phoneme_ends=np.cumsum([len(phonemes) for _, _, phonemes in spoken]),
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])

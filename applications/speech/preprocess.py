"""Tag speech with phones, using an exported network; needs only numpy and the runtime of the export.

    model = Model(Path("exported"))
    model.answers(["speech.wav"])  # [{"seconds": 1.2, "segments": [{"start": 0.0, "end": 0.1, "phone": "sil", ...}]}]

or from a terminal: python exported/preprocess.py speech.wav
"""

import io
import math
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.runtime import Network
from applications.speech.windows import described, tag_windows
from data.acoustics import RATE, WINDOW, Normalizer, log_mel
from data.recordings import HIGHEST_RATE, LARGEST_SAMPLE, LOWEST_RATE

EXAMPLE = "sound"  # what `Model.answers` takes a list of
Sound = str | Path | bytes | tuple[np.ndarray, int]  # a WAV file or its content, or samples with their rate
BLOCK = 2**16  # samples that are resampled at once
UNKNOWN = 2**31 - 2**16  # bytes: larger sizes are of headers that were written before the size was known


class Model:
    """The tagger: sound in, segments with phones out."""

    def __init__(self, folder: Path):
        self.network = Network(folder)
        self.normalizer = Normalizer.from_config(self.network.preparation["normalizer"])

    def answers(self, sounds: Sequence[Sound]) -> list[dict[str, Any]]:
        """Tag recordings of one speaker each, of any length.

        Args:
            sounds: WAV files of 8 to 32 bits PCM, by name or as their bytes, or samples with their rate in hertz:
                (n,), or (n, channels), whose mean is taken, floats in -1..1 or signed integers.

        Returns:
            For each, its length in seconds, and segments: start and end in seconds, phone, and its mean probability.

        Raises:
            ValueError: if a recording can't be read.
        """
        answers = []
        for samples, rate in [samples_of(sound) for sound in sounds]:
            frames = self.normalizer.apply(log_mel(resampled(samples, rate)))
            windows = tag_windows(self._probabilities, iter([frames]), self.network.preparation["context"], windows=1)
            seconds = len(samples) / rate
            answers.append(described(np.concatenate(list(windows)), self.network.preparation["phones"], seconds))
        return answers

    def _probabilities(self, windows: np.ndarray) -> np.ndarray:
        return self.network(sequence=windows)["probability"]


def samples_of(sound: Sound) -> tuple[np.ndarray, int]:
    """The samples of a recording, (n,) float32 in -1..1, and its rate in hertz."""
    if isinstance(sound, tuple):
        name, (samples, rate) = "samples", sound
        samples = np.asarray(samples)
        if samples.ndim not in (1, 2) or samples.dtype.kind not in "fi":
            raise ValueError(f"{name}: found {samples.dtype} {samples.shape}, expected one row per time")
        if samples.dtype.kind == "i":
            samples = samples / np.float32(np.iinfo(samples.dtype).max + 1)
        largest = LARGEST_SAMPLE
    else:
        name = "sound" if isinstance(sound, bytes) else str(sound)
        samples, rate = _read_wav(name, sound)
        largest = math.inf
    if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):
        raise ValueError(f"{name}: found {rate:,} Hz, expected {LOWEST_RATE:,} to {HIGHEST_RATE:,}")
    samples = samples.astype(np.float32)
    if samples.ndim == 2:
        samples = samples.mean(axis=1) if samples.shape[1] else samples.ravel()
    bad = ~(np.abs(samples) <= largest) | ~np.isfinite(samples)
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(f"{name}: at {place / rate:.3f} s: found a sample of {samples[place]:g}, expected it in -1..1")
    if len(samples) * RATE < WINDOW * rate:
        found, least = 1000 * len(samples) / rate, 1000 * WINDOW / RATE
        raise ValueError(f"{name}: found {found:.3g} ms of audio, expected at least {least:.0f} ms, one window")
    return samples, int(rate)


def _read_wav(name: str, sound: str | Path | bytes) -> tuple[np.ndarray, int]:
    """Samples (n, channels) float32 and their rate."""
    try:
        with wave.open(io.BytesIO(sound) if isinstance(sound, bytes) else str(sound)) as file:
            rate, channels, size = file.getframerate(), file.getnchannels(), file.getsampwidth()
            count, content = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends early"
        raise ValueError(f"{name}: found audio that can't be read ({reason}), expected a WAV file of PCM") from None
    if count * channels * size > UNKNOWN:
        count = len(content) // (channels * size)
    if len(content) < count * channels * size:
        found = len(content) // (channels * size)
        raise ValueError(
            f"{name}: found {found:,} samples, expected {count:,} as its header says: is the file complete?"
        )
    if size == 1:
        samples = np.frombuffer(content, np.uint8) / np.float32(128) - np.float32(1)
    else:
        # The bytes of a sample are the upper ones of 32 bits.
        wide = np.zeros((count * channels, 4), np.uint8)
        wide[:, 4 - size :] = np.frombuffer(content, np.uint8, len(wide) * size).reshape(-1, size)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    return samples.reshape(-1, channels), rate


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (n,) at `rate` brought to `RATE`, (ceil(n * `RATE` / `rate`),) float32.

    The filter is the default of `scipy.signal.resample_poly`: a sinc that reaches 10 samples of the slower rate to
    either side, under a Kaiser window.
    """
    common = math.gcd(RATE, rate)
    up, down = RATE // common, rate // common
    if up == down:
        return samples
    slower = max(up, down)
    reach = 10 * slower
    kernel = np.sinc(np.arange(-reach, reach + 1) / slower) * np.kaiser(2 * reach + 1, 5.0)
    kernel = (kernel / kernel.sum()).astype(np.float32) * np.float32(up)
    # Each output is a sum over consecutive samples with every up-th weight, in scipy's order: it's rounded alike.
    taps = -(-len(kernel) // up)
    phases = np.pad(kernel, (0, taps * up - len(kernel))).reshape(taps, up)[::-1]
    padded = np.pad(samples, (taps - 1, reach // up + 1))
    found = np.zeros(-(-len(samples) * up // down), np.float32)
    for start in range(0, len(found), BLOCK):
        part = found[start : start + BLOCK]
        first, phase = np.divmod(np.arange(start, start + len(part)) * down + reach, up)
        for tap in range(taps):
            part += padded[first + tap] * phases[tap, phase]
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected one WAV file")
    try:
        answer = Model(Path(__file__).parent).answers([sys.argv[1]])[0]
    except ValueError as error:
        sys.exit(str(error))
    for segment in answer["segments"]:
        print(f"{segment['start']:.4f} {segment['end']:.4f} {segment['phone']}")

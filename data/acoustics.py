"""Audio features: log mel spectra, resampling, noise, frame labels and normalisation by speaker.

Samples are (n,) float32 in -1..1 at `RATE`, unless a function says otherwise. A frame is a window of `WINDOW` samples;
the next begins `STEP` samples later. The functions named `stream_...` process long recordings in blocks.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.signal

RATE = 16_000  # samples per second
WINDOW = 400  # 25 ms
STEP = 160  # 10 ms
BANDS = 40
LOWEST, HIGHEST = 60, 7_600  # Hz, the outer edges of the mel bands
FLOOR = 1e-8  # about the power of 16-bit rounding noise in the lowest band, so digital silence is no quieter

_TRANSFORM = 512
_BLOCK = 1_024  # frames transformed at once
_SMALLEST_DEVIATION = 1e-3  # for a band that never changes


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Turn samples into (frames, `BANDS`) float32, with 1 + (n - `WINDOW`) // `STEP` frames, none if n < `WINDOW`.

    Values are the natural logarithm of the power, at least `FLOOR`, in triangular bands of equal width on HTK's mel
    scale between `LOWEST` and `HIGHEST` Hz; the power spectrum has 512 points and a periodic Hann window.

    Paper: Davis and Mermelstein, *Comparison of Parametric Representations for Monosyllabic Word Recognition in
    Continuously Spoken Sentences*, IEEE Transactions on Acoustics, Speech, and Signal Processing 28 (4), 1980, without
    the cosine transform. The mel scale is that of Young et al., *The HTK Book*, section 5.4.
    """
    return np.concatenate([np.empty((0, BANDS), np.float32), *stream_log_mel(iter([samples]))])


def stream_log_mel(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """`log_mel` of samples that come in blocks of any length: yields (frames, `BANDS`) float32, in bounded memory."""
    rest = np.empty(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= WINDOW:
            frames = min(1 + (len(rest) - WINDOW) // STEP, _BLOCK)
            yield _log_mel(rest[: (frames - 1) * STEP + WINDOW])
            rest = rest[frames * STEP :]


def _log_mel(samples: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)  # periodic
    spectrum = np.fft.rfft(frames * window, _TRANSFORM)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.log(np.maximum(power @ _mel_bands(), FLOOR))


@functools.cache
def _mel_bands() -> np.ndarray:
    """The weights of a power spectrum in the bands, (`_TRANSFORM` // 2 + 1, `BANDS`) float32."""
    bins = _mel(np.arange(_TRANSFORM // 2 + 1) * RATE / _TRANSFORM)[:, None]
    edges = _band_edges()
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def _band_edges() -> np.ndarray:
    """The edges and centres of the bands on the mel scale, (`BANDS` + 2,): a band's centre is its neighbours' edge."""
    return np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2)


def _mel(hertz: float | np.ndarray) -> Any:
    return 1_127 * np.log1p(hertz / 700)


def description() -> dict[str, float]:
    """The parameters of `log_mel`: frequencies in hertz, lengths in samples, number of bands, least power."""
    return {
        "rate": RATE,
        "window": WINDOW,
        "step": STEP,
        "transform": _TRANSFORM,
        "bands": BANDS,
        "lowest": LOWEST,
        "highest": HIGHEST,
        "floor": FLOOR,
    }


def band_centres() -> np.ndarray:
    """The centre frequencies of the bands of `log_mel`, (`BANDS`,) in hertz, ascending."""
    return 700 * np.expm1(_band_edges()[1:-1] / 1_127)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample (n,) samples from `rate`, 8,000 to 192,000 Hz, to `RATE`: (ceil(n * `RATE` / `rate`),) float32.

    The anti-aliasing filter is the linear-phase one of `scipy.signal.resample_poly`.
    """
    return np.concatenate([np.empty(0, np.float32), *stream_resample(iter([samples]), rate)])


def stream_resample(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """`resample` of samples that come in blocks, in bounded memory."""
    common = math.gcd(RATE, rate)
    up, down = RATE // common, rate // common
    # The filter reaches 10 samples of the slower rate to either side. Blocks begin at multiples of `down`, where the
    # samples of both rates coincide.
    reach = down * math.ceil((10 * max(up, down) / up + 1) / down)
    rest = np.empty(0, np.float32)
    before = 0  # samples of `rest` that were already resampled and are kept for the filter
    for block in blocks:
        rest = np.concatenate([rest, block])
        ready = (len(rest) - before - reach) // down * down
        if ready > 0:
            yield _resample(rest, up, down)[before * up // down : (before + ready) * up // down]
            kept = min(reach, before + ready)
            rest = rest[before + ready - kept :]
            before = kept
    if len(rest) > before:
        yield _resample(rest, up, down)[before * up // down :]


def _resample(samples: np.ndarray, up: int, down: int) -> np.ndarray:
    return scipy.signal.resample_poly(samples, up, down).astype(np.float32)


def add_noise(samples: np.ndarray, snr_db: float, generator: np.random.Generator) -> np.ndarray:
    """Add pink noise, `snr_db` decibels below the mean power of all the samples; silence stays as it is.

    Its power density is 1/f above `LOWEST` Hz and 0 below, where there is no band. Otherwise the noise in the bands
    would depend on the length of the recording.

    Returns:
        (n,) float32, not clipped to -1..1.
    """
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    spectrum = np.fft.rfft(generator.standard_normal(len(samples)))
    audible = frequencies >= LOWEST
    noise = np.fft.irfft(np.where(audible, spectrum / np.sqrt(np.where(audible, frequencies, 1)), 0), len(samples))
    power = np.mean(np.square(samples, dtype=np.float64)) / 10 ** (snr_db / 10)
    return (samples + noise * np.sqrt(power / np.mean(np.square(noise)))).astype(np.float32)


def telephone_band(samples: np.ndarray) -> np.ndarray:
    """Keep 300 to 3,400 Hz, the band of a telephone line (ITU-T G.712): (n,) float32.

    A Butterworth filter of order 4 runs forward and backward, so nothing is delayed; the edges are at -6 dB.
    """
    filter_ = scipy.signal.butter(4, (300, 3_400), "bandpass", fs=RATE, output="sos")
    return scipy.signal.sosfiltfilt(filter_, samples).astype(np.float32)


def frame_labels(segments: Sequence[tuple[float, float, int]], frames: int, silence: int) -> np.ndarray:
    """Label each frame with the class of the segment at the centre of its window.

    Args:
        segments: start and end in seconds, and class, in order, without overlap. The end is exclusive.
        frames: number of frames.
        silence: class of frames whose centre is in no segment.

    Returns:
        (frames,) int32.
    """
    if not segments:
        return np.full(frames, silence, np.int32)
    starts, ends, classes = (np.array(column) for column in zip(*segments, strict=True))
    centres = (np.arange(frames) * STEP + WINDOW // 2) / RATE
    index = np.searchsorted(starts, centres, "right") - 1
    return np.where((index >= 0) & (centres < ends[index]), classes[index], silence).astype(np.int32)


def moments(features: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of frames of (frames, bands), and the sums of frames and of their squares, both (bands,) float64."""
    wide = features.astype(np.float64)
    return len(wide), wide.sum(axis=0), np.square(wide).sum(axis=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalizer:
    """Brings each speaker's features to mean 0 and deviation 1, band by band.

    The statistics of a speaker are shrunk towards those of the training speakers, as if `prior_frames` of their frames
    had been added: the maximum a posteriori estimate of Gauvain and Lee, *Maximum a Posteriori Estimation for
    Multivariate Gaussian Mixture Observations of Markov Chains*, IEEE Transactions on Speech and Audio Processing
    2 (2), 1994, with one Gaussian.

    `mean` and `deviation` are (bands,) float64, over all frames of the training speakers.
    """

    mean: np.ndarray
    deviation: np.ndarray
    prior_frames: int

    @classmethod
    def fit(cls, speakers: Sequence[np.ndarray], prior_frames: int = 300) -> "Normalizer":
        """Fit the mean and deviation of all frames, (frames, bands) for each training speaker.

        The default of `prior_frames` is 3 s, a short sentence.
        """
        counts, totals, squares = zip(*map(moments, speakers), strict=True)
        mean = np.sum(totals, axis=0) / sum(counts)
        variance = np.sum(squares, axis=0) / sum(counts) - mean**2
        return cls(mean, np.sqrt(np.maximum(variance, _SMALLEST_DEVIATION**2)), prior_frames)

    def statistics(self, count: int, total: np.ndarray, total_of_squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate one speaker's mean and deviation, each (bands,) float64, from the `moments` of all their frames."""
        frames = count + self.prior_frames
        mean = (total + self.prior_frames * self.mean) / frames
        squares = (total_of_squares + self.prior_frames * (self.deviation**2 + self.mean**2)) / frames
        return mean, np.sqrt(np.maximum(squares - mean**2, _SMALLEST_DEVIATION**2))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Normalise (frames, bands) of one speaker with that speaker's own statistics: float32."""
        mean, deviation = self.statistics(*moments(features))
        return ((features - mean) / deviation).astype(np.float32)

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist(), "prior_frames": self.prior_frames}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Normalizer":
        """Rebuild the normaliser that gave this config."""
        return cls(np.array(config["mean"]), np.array(config["deviation"]), config["prior_frames"])

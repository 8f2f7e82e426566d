import json
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from data.acoustics import (
    BANDS,
    FLOOR,
    HIGHEST,
    LOWEST,
    RATE,
    STEP,
    WINDOW,
    Normalizer,
    add_noise,
    band_centres,
    frame_labels,
    log_mel,
    moments,
    resample,
    stream_log_mel,
    stream_resample,
    telephone_band,
)


def mel(hertz):
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def tone(hertz: float, seconds: float = 1, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def cut(samples: np.ndarray, *lengths: int) -> Iterator[np.ndarray]:
    """Blocks of these lengths in turn, up to the end."""
    start = 0
    while start < len(samples):
        for length in lengths:
            yield samples[start : start + length]
            start += length


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


# Spectra


def reference(samples: np.ndarray) -> np.ndarray:
    """The features as their docstring has them, one frame and one band at a time, in float64."""
    window = scipy.signal.get_window("hann", WINDOW)
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    bins = mel(np.arange(1, 257) * RATE / 512)
    rows = []
    for start in range(0, len(samples) - WINDOW + 1, STEP):
        spectrum = np.abs(np.fft.rfft(samples[start : start + WINDOW].astype(np.float64) * window, 512)) ** 2
        bands = [
            spectrum[1:] @ np.clip(np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)), 0, None)
            for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        rows.append(np.log(np.maximum(bands, FLOOR)))
    return np.array(rows)


@pytest.mark.parametrize("scale", [1, 1e-3])
def test_log_mel_is_that_of_an_independent_implementation(scale):
    samples = scale * (tone(440) + tone(3000) * np.linspace(0, 1, RATE, dtype=np.float32) + noise(RATE))
    features = log_mel(samples)
    assert features.dtype == np.float32
    assert features.shape == (98, BANDS)
    np.testing.assert_allclose(features, reference(samples), atol=2e-4)


def test_each_band_is_loudest_for_the_tone_at_its_centre():
    centres = 700 * (10 ** (np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)[1:-1] / 2595) - 1)
    loudest = [log_mel(tone(hertz, 0.1)).mean(axis=0).argmax() for hertz in centres]
    assert loudest == list(range(BANDS))


def test_band_centres_are_the_peaks_of_the_mel_matrix():
    # So fine that a bin is 1 Hz.
    matrix = tf.signal.linear_to_mel_weight_matrix(BANDS, RATE // 2 + 1, RATE, LOWEST, HIGHEST, tf.float64).numpy()
    centres = band_centres()
    assert centres.shape == (BANDS,)
    assert (np.diff(centres) > 0).all()
    np.testing.assert_allclose(centres, matrix.argmax(axis=0), atol=1)


def test_silence_is_the_floor_and_rounding_to_16_bits_is_above():
    np.testing.assert_allclose(log_mel(np.zeros(RATE, np.float32)), np.log(FLOOR), rtol=1e-6)
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32) / 2**15
    power = np.exp(log_mel(rounding)).mean(axis=0) / FLOOR
    assert 1 < power[0] < 3
    assert power.min() > 1


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_number_of_frames(samples, frames):
    assert log_mel(noise(samples)).shape == (frames, BANDS)
    assert log_mel(noise(samples)).dtype == np.float32


@pytest.mark.parametrize("lengths", [(1, 399, 161), (160,), (0, 5000), (16_000, 1)])
def test_streamed_frames_are_those_of_the_whole(lengths):
    samples = noise(3 * RATE + 77)
    blocks = list(stream_log_mel(cut(samples, *lengths)))
    assert all(len(block) for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks), log_mel(samples), rtol=0, atol=1e-5)


def test_a_long_recording_needs_little_memory():
    # The samples are made on the way: six minutes are 23 MB.
    blocks = (noise(RATE * 30, seed) for seed in range(12))
    tracemalloc.start()
    frames = sum(len(block) for block in stream_log_mel(blocks))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frames == 1 + (RATE * 360 - WINDOW) // STEP
    assert peak < 16e6


def test_log_mel_takes_a_three_hundredth_of_the_time():
    samples = noise(60 * RATE)
    log_mel(samples[:RATE])
    best = np.inf
    for _ in range(5):
        start = time.process_time()  # of all threads: what one core would take
        log_mel(samples)
        best = min(best, time.process_time() - start)
    assert 60 / best > 300


# Resampling


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 16_000])
def test_a_tone_keeps_its_frequency_and_level(rate):
    out = resample(tone(1000, rate=rate), rate)
    assert out.dtype == np.float32
    assert len(out) == RATE
    np.testing.assert_allclose(out[1000:-1000], tone(1000)[1000:-1000], atol=2e-3)


def test_what_the_new_rate_cannot_hold_is_gone():
    assert power(resample(tone(10_000, rate=48_000), 48_000)[1000:-1000]) < 1e-5 * power(tone(10_000, rate=48_000))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 44_101])
@pytest.mark.parametrize("seconds", [0.001, 0.7, 3.21])
def test_streamed_samples_are_those_of_the_whole_file(rate, seconds):
    samples = noise(round(rate * seconds))
    common = np.gcd(RATE, rate)
    expected = scipy.signal.resample_poly(samples.astype(np.float64), RATE // common, rate // common)
    assert len(expected) == int(np.ceil(len(samples) * RATE / rate))
    np.testing.assert_allclose(resample(samples, rate), expected, atol=1e-6)
    for lengths in [(rate,), (10_000, 1, 77)]:
        streamed = np.concatenate(list(stream_resample(cut(samples, *lengths), rate)))
        assert streamed.dtype == np.float32
        np.testing.assert_allclose(streamed, expected, atol=1e-6)


# Noise and telephone


@pytest.mark.parametrize("snr", [-5, 0, 20])
@pytest.mark.parametrize("samples", [RATE // 2, 3 * RATE + 1])
def test_noise_has_the_level_that_was_asked_for(snr, samples):
    speech = tone(440, 4)[:samples]
    noisy = add_noise(speech, snr, np.random.default_rng(0))
    assert noisy.dtype == np.float32
    assert 10 * np.log10(power(speech) / power(noisy - speech)) == pytest.approx(snr, abs=1e-3)


def test_noise_is_pink_from_the_lowest_band_up():
    speech = tone(440, 60)
    added = add_noise(speech, 0, np.random.default_rng(0)) - speech
    frequencies, density = scipy.signal.welch(added, RATE, nperseg=8192)

    def band(low, high):
        return density[(frequencies >= low) & (frequencies < high)].sum()

    octaves = [band(low, 2 * low) for low in (125, 250, 500, 1000, 2000, 4000)]
    np.testing.assert_allclose(octaves, np.mean(octaves), rtol=0.05)
    assert band(0, LOWEST - 5) < 1e-3 * band(LOWEST, 125)


def test_noise_comes_from_the_generator_and_leaves_silence():
    speech = tone(440)
    once, again, other = (add_noise(speech, 10, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01
    np.testing.assert_array_equal(add_noise(np.zeros(RATE, np.float32), 0, np.random.default_rng(0)), 0)


@pytest.mark.parametrize(
    ("hertz", "decibels", "within"),
    [(100, -60, 40), (300, -6, 0.3), (1000, 0, 0.1), (2000, 0, 0.1), (3400, -6, 0.3), (7000, -60, 40)],
)
def test_telephone_band(hertz, decibels, within):
    out = telephone_band(tone(hertz))
    assert out.dtype == np.float32
    gain = 10 * np.log10(power(out[4000:-4000]) / power(tone(hertz)[4000:-4000]))
    if decibels < -10:
        assert gain < -30
    else:
        assert gain == pytest.approx(decibels, abs=within)


def test_the_telephone_delays_nothing():
    samples = noise(RATE)
    lags = scipy.signal.correlate(telephone_band(samples), samples, "same")
    assert lags.argmax() == RATE // 2


# Labels


def test_a_frame_has_the_label_at_the_centre_of_its_window():
    # The centres are at 12.5, 22.5, 32.5, ... ms.
    segments = [(0.0, 0.02, 5), (0.02, 0.0325, 7), (0.0325, 0.045, 3), (0.06, 0.08, 9)]
    labels = frame_labels(segments, 9, silence=38)
    assert labels.dtype == np.int32
    assert labels.tolist() == [5, 7, 3, 3, 38, 9, 9, 38, 38]


def test_labels_where_the_annotation_begins_late():
    assert frame_labels([(0.02, 0.03, 4)], 3, 38).tolist() == [38, 4, 38]
    # A segment has its start, not its end.
    assert frame_labels([(0.0125, 0.0225, 4)], 2, 38).tolist() == [4, 38]
    assert frame_labels([], 3, 38).tolist() == [38, 38, 38]
    assert frame_labels([(0.0, 1.0, 4)], 0, 38).shape == (0,)


def test_labels_agree_with_a_count_in_samples():
    edges = np.unique(np.random.default_rng(0).integers(0, 3 * RATE, 60))
    by_sample = np.full(3 * RATE, 38)
    segments = []
    for number, (start, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        by_sample[start:end] = number % 38
        segments.append((start / RATE, end / RATE, number % 38))
    frames = 1 + (3 * RATE - WINDOW) // STEP
    np.testing.assert_array_equal(frame_labels(segments, frames, 38), by_sample[np.arange(frames) * STEP + WINDOW // 2])


# Normalisation


@pytest.fixture
def speakers() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((n, BANDS)) * 2 + shift).astype(np.float32) for n, shift in ((500, -8), (300, -5))]


def test_fit_is_over_all_frames(speakers):
    normalizer = Normalizer.fit(speakers)
    np.testing.assert_allclose(normalizer.mean, np.concatenate(speakers).mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(normalizer.deviation, np.concatenate(speakers).std(axis=0, dtype=np.float64))


def test_a_speaker_is_normalised_as_if_training_frames_had_been_seen(speakers):
    normalizer = Normalizer.fit(speakers, prior_frames=len(speakers[0]))
    unit = np.repeat([-1.0, 1.0], len(speakers[0]) // 2)[:, None]
    imagined = normalizer.mean + normalizer.deviation * unit  # with just the mean and deviation of training
    own = np.random.default_rng(1).standard_normal((40, BANDS)) * 3 + 1
    together = np.concatenate([own, imagined])
    mean, deviation = normalizer.statistics(*moments(own))
    np.testing.assert_allclose(mean, together.mean(axis=0))
    np.testing.assert_allclose(deviation, together.std(axis=0))
    out = normalizer.apply(own.astype(np.float32))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (own - together.mean(axis=0)) / together.std(axis=0), atol=1e-5)


def test_many_frames_outweigh_the_training_speakers_and_few_do_not(speakers):
    normalizer = Normalizer.fit(speakers)
    long = np.random.default_rng(1).standard_normal((60_000, BANDS)).astype(np.float32) * 5 + 20
    out = normalizer.apply(long)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=0.1)
    mean, deviation = normalizer.statistics(*moments(long[:1]))
    assert np.all(np.abs(mean - normalizer.mean) < 0.2)
    assert np.all(np.abs(deviation / normalizer.deviation - 1) < 0.6)


def test_moments_of_blocks_add_up(speakers):
    whole = moments(speakers[0])
    parts = [moments(block) for block in np.array_split(speakers[0], 7)]
    for index, value in enumerate(whole):
        np.testing.assert_allclose(sum(part[index] for part in parts), value)


def test_a_band_that_never_changes_stays_finite():
    normalizer = Normalizer.fit([np.full((50, BANDS), np.log(FLOOR), np.float32)])
    out = normalizer.apply(np.full((50, BANDS), np.log(FLOOR), np.float32))
    np.testing.assert_allclose(out, 0, atol=1e-2)


def test_normalizer_survives_json(speakers):
    normalizer = Normalizer.fit(speakers, prior_frames=123)
    again = Normalizer.from_config(json.loads(json.dumps(normalizer.to_config())))
    assert again.prior_frames == 123
    np.testing.assert_array_equal(again.apply(speakers[0]), normalizer.apply(speakers[0]))

"""The code that travels with an exported tagger prepares sound as the program does."""

import io
import wave

import numpy as np
import pytest
import soundfile

from applications.speech.preprocess import resampled, samples_of
from applications.speech.windows import described, segments
from data import acoustics, recordings


def noise(samples, channels=1):
    return np.random.default_rng(samples).uniform(-0.9, 0.9, (samples, channels)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000, 44_101, 15_999])
def test_resampled_as_by_the_program(rate):
    for count in (1, 17, rate // 40, rate // 3 + 1):
        samples = noise(count)[:, 0]
        found = resampled(samples, rate)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, acoustics.resample(samples, rate), atol=1e-7)


def test_a_long_recording_is_resampled_in_parts(monkeypatch):
    monkeypatch.setattr("applications.speech.preprocess.BLOCK", 100)
    samples = noise(9_001)[:, 0]
    for rate in (44_100, 32_000, 11_025):
        np.testing.assert_allclose(resampled(samples, rate), acoustics.resample(samples, rate), atol=1e-7)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 3)])
def test_a_file_becomes_the_same_samples(tmp_path, subtype, rate, channels):
    path = tmp_path / "sound.wav"
    samples = noise(rate // 10, channels)
    soundfile.write(path, samples, rate, subtype, format="WAV")
    expected, seconds = recordings.read_audio(path)
    for sound in (path, str(path), path.read_bytes()):
        found, found_rate = samples_of(sound)
        assert (found.dtype, found_rate, len(found) / rate) == (np.float32, rate, seconds)
        np.testing.assert_allclose(resampled(found, rate), expected, atol=1e-7)
        np.testing.assert_allclose(acoustics.log_mel(resampled(found, rate)), acoustics.log_mel(expected), atol=1e-3)


def test_a_header_written_before_the_length_was_known(tmp_path):
    path = tmp_path / "stream.wav"
    soundfile.write(path, noise(4_000)[:, 0], 16_000, "PCM_16")
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[:place] + b"\xff" * 4 + content[place + 4 :])
    np.testing.assert_array_equal(samples_of(path)[0], recordings.read_audio(path)[0])


def test_samples_with_their_rate():
    samples = noise(800)[:, 0]
    np.testing.assert_array_equal(samples_of((samples, 16_000))[0], samples)
    np.testing.assert_array_equal(samples_of((samples.astype(np.float64), 16_000))[0], samples)
    np.testing.assert_allclose(samples_of((np.stack([samples, 0 * samples], 1), 8_000))[0], samples / 2)
    whole = np.round(samples * 2**15).astype(np.int16)
    np.testing.assert_array_equal(samples_of((whole, 16_000))[0], whole / np.float32(2**15))


def wav(samples, rate=16_000, size=2):
    with io.BytesIO() as file:
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(size)
            writer.setframerate(rate)
            writer.writeframes(bytes(samples * size))
        return file.getvalue()


def float_wav():
    with io.BytesIO() as file:
        soundfile.write(file, noise(800), 16_000, "FLOAT", format="WAV")
        return file.getvalue()


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (wav(800)[:-2], "sound: found 799 samples, expected 800 as its header says: is the file complete?"),
        (wav(399), "sound: found 24.9 ms of audio, expected at least 25 ms, one window"),
        (wav(0), "sound: found 0 ms of audio"),
        (wav(800, rate=7_999), "sound: found 7,999 Hz, expected 8,000 to 192,000"),
        (wav(800)[:30], "sound: found audio that can't be read"),
        (b"", "sound: found audio that can't be read (it ends early)"),
        (b"fLaC" + bytes(99), "sound: found audio that can't be read"),
        (float_wav(), "sound: found audio that can't be read (unknown format: 3), expected a WAV file of PCM"),
        ("missing.wav", "missing.wav: found audio that can't be read (No such file or directory)"),
        ((np.zeros(399), 16_000), "samples: found 24.9 ms of audio"),
        ((np.array([*[0.5] * 1_000, np.nan]), 16_000), "samples: at 0.062 s: found a sample of nan, expected it in -1"),
        ((np.full(800, 1.3), 16_000), "samples: at 0.000 s: found a sample of 1.3"),
        ((np.zeros((2, 2, 400)), 16_000), "samples: found float64 (2, 2, 400), expected one row per time"),
        ((np.zeros(800, complex), 16_000), "samples: found complex128 (800,)"),
        ((np.zeros((800, 0)), 16_000), "samples: found 0 ms of audio"),
        ((np.zeros(800), 16_000.5), "samples: found 16,000.5 Hz, expected"),
    ],
)
def test_what_can_not_be_read_is_said_in_one_line(sound, said):
    with pytest.raises(ValueError, match="found") as raised:
        samples_of(sound)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_segments_have_the_mean_probability_of_their_phone():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    found = described(probabilities, ["a", "b"], 0.1)
    assert found["seconds"] == 0.1
    times = [(part["start"], part["end"]) for part in found["segments"]]
    assert times == [part[:2] for part in segments(np.array([0, 0, 1]), 0.1)]
    assert [part["phone"] for part in found["segments"]] == ["a", "b"]
    assert [part["probability"] for part in found["segments"]] == pytest.approx([0.8, 0.8])

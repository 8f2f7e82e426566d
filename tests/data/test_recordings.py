import dataclasses
import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from data.acoustics import RATE
from data.phones import IGNORED, PHONES
from data.recordings import (
    CORE_TEST_SPEAKERS,
    Noticed,
    Recording,
    duration,
    find_recordings,
    notes_on,
    read,
    read_audio,
    read_phn,
    read_textgrid,
    split_recordings,
    stream_audio,
    write_textgrid,
)
from tests.bad_input import refusal, write

PHN = "0 3050 h#\n3050 4559 sh\n4559 5723 ix\n5723 6642 hv\n6642 8772 eh\n8772 9190 dcl\n9190 16000 h#\n"


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def wav(path: Path, samples: np.ndarray | None = None, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(RATE) if samples is None else samples, rate, format="WAV", subtype=subtype)
    return path


def sphere(samples: np.ndarray, **changes: str | int) -> bytes:
    """A NIST SPHERE file as the LDC writes TIMIT, of (n,) int16."""
    fields = {"sample_count": len(samples), "sample_rate": RATE, "channel_count": 1, "sample_n_bytes": 2}
    fields |= {"sample_byte_format": "01", "sample_sig_bits": 16, **changes}
    lines = [f"{k} -i {v}" if isinstance(v, int) else f"{k} -s{len(v)} {v}" for k, v in fields.items()]
    header = "\n".join(["NIST_1A", "   1024", "database_id -s5 TIMIT", *lines, "end_head", ""])
    return header.encode().ljust(1024) + samples.astype("<i2").tobytes()


def integers(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-(2**15), 2**15, count, dtype=np.int16)


def names(segments: list) -> list[tuple[float, float, str]]:
    return [(start, end, PHONES[phone]) for start, end, phone in segments]


# Audio


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 1e-7), ("FLOAT", 0)])
def test_wav_as_it_was_written(tmp_path, subtype, step):
    samples = noise(12_345)
    read_samples, seconds = read_audio(wav(tmp_path / "a.WAV", samples, subtype=subtype))
    assert seconds == 12_345 / RATE
    assert read_samples.dtype == np.float32
    np.testing.assert_allclose(read_samples, samples, rtol=0, atol=step)


@pytest.mark.parametrize(("samples", "rate"), [(RATE, RATE), (400, RATE), (12_345, 8_000), (44_100 * 31 + 7, 44_100)])
def test_duration_is_that_of_the_header(tmp_path, samples, rate):
    path = wav(tmp_path / "a.wav", noise(samples), rate)
    assert duration(path) == samples / rate
    assert sum(map(len, stream_audio(path))) == int(np.ceil(samples * RATE / rate))


def test_sphere(tmp_path):
    samples = integers(5000)
    read_samples, seconds = read_audio(write(tmp_path / "SX1.WAV", sphere(samples)))
    assert seconds == 5000 / RATE
    np.testing.assert_array_equal(read_samples, samples / np.float32(2**15))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path, rate):
    samples = noise(2 * rate + 11)
    read_samples, seconds = read_audio(wav(tmp_path / "a.wav", samples, rate, "FLOAT"))
    assert seconds == len(samples) / rate
    common = np.gcd(RATE, rate)
    expected = scipy.signal.resample_poly(samples, RATE // common, rate // common)
    np.testing.assert_allclose(read_samples, expected, atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_streamed_audio_is_that_of_the_whole(tmp_path, rate):
    path = wav(tmp_path / "a.wav", noise(5 * rate + 3), rate)
    blocks = list(stream_audio(path, seconds=1))
    assert max(map(len, blocks)) <= RATE
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path)[0], atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_long_recording_needs_little_memory(tmp_path, rate):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", rate, 1, "PCM_16") as file:
        for seed in range(6):
            file.write(noise(rate * 60, seed))
    tracemalloc.start()
    samples = sum(len(block) for block in stream_audio(tmp_path / "a.wav", seconds=10))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples == 360 * RATE
    assert peak < 12e6 * rate / RATE


def test_samples_a_little_beyond_full_scale_are_kept(tmp_path):
    samples = np.float32([0, 1.2, -1.2, 0.5] * 200)
    np.testing.assert_array_equal(read_audio(wav(tmp_path / "a.wav", samples, subtype="FLOAT"))[0], samples)


@pytest.mark.parametrize("keep", [30, 60, 0.5, 0.99])
def test_cut_wav(tmp_path, keep):
    content = wav(tmp_path / "a.wav").read_bytes()
    path = write(tmp_path / "b.wav", content[: keep if keep > 1 else int(keep * len(content))])
    text = refusal(read_audio, path)
    if keep == 30:
        assert text == f"{path}: found no audio after the header, expected a complete WAV file: is the file truncated?"
    else:
        held = path.stat().st_size - 44
        expected = "expected 32,000 as its header says: is the file complete?"
        assert text == f"{path}: found {held:,} bytes of audio, {expected}"


@pytest.mark.parametrize(
    ("content", "found", "end"),
    [
        *[
            (sphere(integers(n), sample_count=5000), f"{n:,} samples of", "is the file complete?")
            for n in (2500, 6000, 0)
        ],
        *[(sphere(integers(500))[:size], "", "is the file") for size in (10, 200, 1000)],
        (sphere(integers(5000), sample_rate=4000), "4,000 samples per second", ""),
        (
            sphere(integers(500), sample_coding="pcm,embedded-shorten-v2.00"),
            "SPHERE compressed by emb",
            ": sph2pipe -p",
        ),
    ],
)
def test_bad_sphere(tmp_path, content, found, end):
    path = write(tmp_path / "a.wav", content)
    text = refusal(read_audio, path)
    assert text.startswith(f"{path}: found {found}")
    assert end in text


@pytest.mark.parametrize(
    ("samples", "rate", "subtype", "found", "expected"),
    [
        (noise(0), RATE, "PCM_16", "0 ms of audio", "at least 25 ms, one window"),
        (noise(399), RATE, "PCM_16", "24.9 ms of audio", "at least 25 ms, one window"),
        (noise(1000), 44_100, "PCM_16", "22.7 ms of audio", "at least 25 ms, one window"),
        (noise(RATE), 7_999, "PCM_16", "7,999 samples per second", "8,000 to 192,000"),
        (noise(RATE), 384_000, "PCM_16", "384,000 samples per second", "8,000 to 192,000"),
    ],
)
def test_unusable_audio(tmp_path, samples, rate, subtype, found, expected):
    path = wav(tmp_path / "a.wav", samples, rate, subtype)
    assert refusal(read_audio, path) == f"{path}: found {found}, expected {expected}"


def test_the_shortest_recording_that_can_be_used(tmp_path):
    assert read_audio(wav(tmp_path / "a.wav", noise(400)))[0].shape == (400,)
    assert len(read_audio(wav(tmp_path / "b.wav", noise(1103), 44_100))[0]) >= 400


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"not audio at all", "a file that begins with b'not audi'"),
        (b"RIFF\x10\0\0\0AVI LIST", "a file that begins with b'RIFF"),
        (b"RIFF\x10\0\0\0WAVEdata\x04\0\0\0abcd", "audio that can't be read ("),
        (b"NIST_1A\n   1024\nend_head\n" + bytes(2000), "a broken SPHERE header"),
        (b"NIST_1A", "a broken SPHERE header"),
    ],
)
def test_not_audio(tmp_path, content, found):
    path = write(tmp_path / "a.wav", content)
    assert refusal(read_audio, path).startswith(f"{path}: found {found}")


def test_missing_files(tmp_path):
    for path in (tmp_path / "a.wav", tmp_path):
        expected = f"{path}: found no such file, expected audio such as WAV, FLAC or NIST SPHERE"
        assert refusal(read_audio, path) == expected
    for read_annotation in (lambda path: read_phn(path, RATE, RATE), lambda path: read_textgrid(path, 1.0)):
        text = refusal(read_annotation, tmp_path / "a")
        assert text == f"{tmp_path / 'a'}: found no such file, expected a .PHN or .TextGrid file"


@pytest.mark.parametrize(
    ("value", "found"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1.3, "1.3"), (-2000, "-2000")]
)
def test_samples_that_are_no_audio(tmp_path, value, found):
    samples = noise(40 * RATE)
    samples[36 * RATE] = value
    path = wav(tmp_path / "a.wav", samples, subtype="FLOAT")
    expected = f"{path}: at 36.000 s: found a sample of {found}, expected a number in -1..1"
    assert refusal(read_audio, path) == expected


def header(content: bytes, size: int | None, riff: int | None = None) -> bytes:
    """A WAV file whose header says another size of its audio, and of the file."""
    head = bytearray(content[:44])
    if size is not None:
        head[40:44] = struct.pack("<I", size)
    if riff is not None:
        head[4:8] = struct.pack("<I", riff)
    return bytes(head) + content[44:]


WRONG = "a header of unknown or wrong length, read to the end of the file"
AFTER = "bytes after the audio that the header doesn't mention, left out"
LIST = b"LIST\x04\0\0\0abcd"


@pytest.mark.parametrize(
    ("size", "riff", "note"),
    [
        *[
            (size, riff, WRONG)
            for size in (2**32 - 1, 2**31 - 4096, 2**31, 2**31 - 37)
            for riff in (None, 0, 2**32 - 1)
        ],
        *[(0, riff, WRONG) for riff in (0, 2**32 - 1, None, 36)],
        *[(32_016, None, WRONG), (32_044, 32_080, WRONG), (10**6, None, WRONG)],
        *[(4_096, 0, WRONG), (4_096, None, WRONG), (4_095, 2**32 - 1, WRONG)],
        *[(None, 0, ""), (None, 10, ""), (None, 2**32 - 1, "")],
    ],
)
def test_headers_of_unknown_or_wrong_length(tmp_path, size, riff, note):
    content = wav(tmp_path / "a.wav").read_bytes()
    path = write(tmp_path / "b.wav", header(content, size, riff))
    found = read_audio(path)
    assert found[1] == 1
    np.testing.assert_array_equal(found[0], read_audio(tmp_path / "a.wav")[0])
    assert notes_on(path) == ([note] if note else [])


@pytest.mark.parametrize(
    ("content", "samples", "note"),
    [
        (lambda wav: header(wav, 31_984), 16_000, WRONG),
        (lambda wav: header(wav, 31_984, 32_020), 15_992, AFTER),
        (lambda wav: header(wav, 31_999), 15_999, ""),
        (lambda wav: header(wav, 16_000, 16_036), 8_000, AFTER),
        (lambda wav: wav + LIST, 16_000, ""),
        (lambda wav: header(wav[:-1], 31_999) + LIST, 15_999, ""),  # not filled up to an even size
        (lambda wav: header(wav[:-1], 31_999) + b"\0" + LIST, 15_999, ""),
        (lambda wav: wav[:36] + b"LIST\x05\0\0\0note!\0" + wav[36:], 16_000, ""),
        (lambda wav: wav[:12] + b"JUNK\x08\0\0\0" + bytes(8) + header(wav, 2**32 - 1)[12:], 16_000, WRONG),
    ],
)
def test_wav_with_other_bytes_after_or_before_the_audio(tmp_path, content, samples, note):
    whole = wav(tmp_path / "a.wav").read_bytes()
    path = write(tmp_path / "b.wav", content(whole))
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(tmp_path / "a.wav")[0][:samples])
    assert notes_on(path) == ([note] if note else [])


def test_an_empty_recording_of_a_known_length(tmp_path):
    path = write(tmp_path / "a.wav", header(wav(tmp_path / "b.wav").read_bytes()[:44], 0, 48) + LIST)
    assert refusal(read_audio, path) == f"{path}: found 0 ms of audio, expected at least 25 ms, one window"


@pytest.mark.parametrize(
    ("form", "subtype", "step"),
    [
        *[("FLAC", "PCM_16", 2**-15), ("FLAC", "PCM_24", 2**-23)],
        *[("RF64", "PCM_16", 2**-15), ("W64", "PCM_24", 2**-23)],
        *[("AIFF", "PCM_16", 2**-15), ("WAVEX", "PCM_24", 2**-23), ("WAVEX", "FLOAT", 0), ("WAV", "DOUBLE", 1e-7)],
        *[("WAV", "PCM_U8", 2**-7), ("WAV", "ULAW", 0.02), ("WAV", "ALAW", 0.02)],
        *[("AU", "PCM_16", 2**-15), ("CAF", "PCM_16", 2**-15), ("NIST", "PCM_16", 2**-15), ("OGG", "VORBIS", 0.2)],
    ],
)
def test_other_formats(tmp_path, form, subtype, step):
    samples = noise(12_345)
    path = tmp_path / "a"
    soundfile.write(path, samples, RATE, format=form, subtype=subtype)
    found, seconds = read_audio(path)
    assert seconds == 12_345 / RATE
    np.testing.assert_allclose(found, samples, rtol=0, atol=step)
    notes = notes_on(path)
    assert len(notes) == (step >= 2**-7)
    assert all(note.startswith("lossy or 8-bit samples (") for note in notes)
    content = path.read_bytes()
    if form != "OGG":  # whose header knows no length
        for keep in (0.3, 0.9):
            assert refusal(read_audio, write(tmp_path / "b", content[: int(keep * len(content))])).startswith(
                f"{tmp_path}/b: "
            )


@pytest.mark.parametrize("sizes", [bytes(24), b"\xff" * 24])
def test_rf64_of_unknown_length(tmp_path, sizes):
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE, format="RF64", subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    path = write(tmp_path / "b.wav", content[:20] + sizes + content[44:])
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(tmp_path / "a.wav")[0])
    assert notes_on(path) == [WRONG]


def test_flac_of_unknown_length(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(RATE), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = write(tmp_path / "b.flac", bytes(content))
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(tmp_path / "a.flac")[0])
    assert duration(path) == 1


@pytest.mark.parametrize("channels", [2, 5])
def test_the_mean_of_several_channels_is_taken(tmp_path, channels):
    samples = noise(RATE * channels).reshape(-1, channels)
    path = wav(tmp_path / "a.wav", samples, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path)[0], samples.mean(axis=1), atol=1e-7)
    assert notes_on(path) == [f"{channels} channels, which were averaged"]
    assert duration(path) == 1


# TIMIT's annotation


def test_phn(tmp_path):
    segments = read_phn(write(tmp_path / "a.PHN", PHN), RATE, RATE)
    assert names(segments) == [
        (0, 3050 / RATE, "sil"),
        (3050 / RATE, 4559 / RATE, "sh"),
        (4559 / RATE, 5723 / RATE, "ih"),
        (5723 / RATE, 6642 / RATE, "hh"),
        (6642 / RATE, 8772 / RATE, "eh"),
        (8772 / RATE, 9190 / RATE, "sil"),
        (9190 / RATE, 1, "sil"),
    ]


@pytest.mark.parametrize(
    ("content", "rate", "expected"),
    [
        ("0 4410 sil\n4410 44100 iy\n", 44_100, [(0, 0.1, "sil"), (0.1, 1, "iy")]),
        ("\ufeff0 8000 AA1\r\n\r\n8000 16000 h#\r\n", RATE, [(0, 0.5, "aa"), (0.5, 1, "sil")]),
        *[
            ("\n  0\t8000\tAA1  \r\n\t8000   16000 h#".encode(encoding), RATE, [(0, 0.5, "aa"), (0.5, 1, "sil")])
            for encoding in ("utf-8-sig", "utf-16")
        ],
        (  # a glottal stop belongs to the segment before
            "0 1600 q\n1600 3200 iy\n3200 4800 q\n4800 5600 q\n5600 6400 aa\n8000 9600 q\n9600 11200 q\n"
            "11200 16000 h#\n",
            RATE,
            [(0.1, 0.35, "iy"), (0.35, 0.4, "aa"), (0.7, 1, "sil")],
        ),
    ],
)
def test_forms_of_phn(tmp_path, content, rate, expected):
    assert names(read_phn(write(tmp_path / "a.PHN", content), rate, rate)) == expected


def test_an_annotation_may_go_on_a_little_after_the_audio(tmp_path):
    path = write(tmp_path / "a.PHN", "0 15900 iy\n15900 16100 aa\n16100 16800 h#\n")
    assert names(read_phn(path, RATE, RATE)) == [(0, 15_900 / RATE, "iy"), (15_900 / RATE, 1, "aa")]
    path = write(tmp_path / "a.PHN", "0 16801 h#\n")
    expected = "found an end at 16801, expected the audio's end, 16000, or earlier"
    assert refusal(read_phn, path, RATE, RATE) == f"{path}: line 1: {expected}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "found no segment, expected some"),
        (" \n\n", "found no segment, expected some"),
        ("0 10 h#\n\n10 20\n", "line 3: found '10 20', expected a start, an end (in samples) and a label"),
        ("0 10 h#\n10 20 iy aa\n", "line 2: found '10 20 iy aa', expected a start,"),
        ("0 10.5 h#\n", "line 1: found '0 10.5 h#', expected a start,"),
        ("-5 10 h#\n", "line 1: found '-5 10 h#', expected a start,"),
        ("0 10 h#\n10 10 iy\n", "line 2: found 10 to 10, expected an end after the start"),
        ("0 10 h#\n20 10 iy\n", "line 2: found 20 to 10, expected an end after the start"),
        ("0 10 h#\n9 20 iy\n", "line 2: found a start at 9, expected 10 or later, where the segment before ends"),
        ("10 20 h#\n0 10 iy\n", "line 2: found a start at 0, expected 20 or later, where the segment before ends"),
        ("0 10 h#\n10 20 iyy\n", "line 2: found the label 'iyy', expected one of TIMIT or ARPAbet"),
        (f"0 10 h#\n10 {'9' * 400} iy\n", "line 2: found '10 99999"),
        ("0 nan h#\n", "line 1: found '0 nan h#', expected a start,"),
        ("0 10 iy\n10 20 ɹ\n20 30 ə\n", "line 2: found the label 'ɹ', expected one of TIMIT or ARPAbet"),
        (b"0 10 h#\n10 20 i\xff\n", "line 2: found the byte 0xff, which isn't UTF-8, expected text in UTF-8"),
    ],
)
def test_bad_phn(tmp_path, content, expected):
    path = write(tmp_path / "a.PHN", content)
    assert refusal(read_phn, path, RATE, RATE).startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    ("label", "found"),
    [
        *[("spn", None), ("noise", None), ("<eps>", None), ("AA1,AH0,s", None), ("SPN_S", None), ("[laugh]", None)],
        *[("foo", None), ("ɹ", None), ("AH7", None)],
        *[("ah_B", "ah"), ("AH0_I", "ah"), ("S_S", "s"), ("SIL_S", "sil"), ("<p:>", "sil"), ("AX-H", "ah")],
    ],
)
def test_labels_without_a_phone_leave_their_frames_out(tmp_path, label, found):
    noticed = Noticed()
    path = write(tmp_path / "a.PHN", f"0 8000 iy\n8000 12000 {label}\n12000 16000 k\n")
    segments = read_phn(path, RATE, RATE, noticed)
    assert [segment[:2] for segment in segments] == [(0, 0.5), (0.5, 0.75), (0.75, 1)]
    assert segments[1][2] == (IGNORED if found is None else PHONES.index(found))
    assert noticed.ignored_labels == ({label: 1} if found is None else {})
    assert noticed.phones == 3 - (found in (None, "sil"))
    assert noticed.foreign() == ({label: 1} if label in ("foo", "ɹ", "AH7") else {})


# TextGrid

INTERVALS = [(0.0, 0.25, "sil"), (0.25, 0.5, "HH"), (0.5, 0.75, "AH0"), (0.75, 1.0, "")]


def long_textgrid(tiers: dict[str, list], end: float = 1) -> str:
    """The long text format as Praat writes it."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {end:g} "]
    lines += ["tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", f"        xmax = {end:g} ", f"        intervals: size = {len(intervals)} "]
        for index, (start, stop, label) in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start:g} "]
            lines += [f"            xmax = {stop:g} ", f'            text = "{label}" ']
    return "\n".join([*lines, ""])


def short_textgrid(tiers: dict[str, list], end: float = 1) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", f"{end:g}", "<exists>", f"{len(tiers)}"]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", f"{end:g}", f"{len(intervals)}"]
        lines += [line for start, stop, label in intervals for line in (f"{start:g}", f"{stop:g}", f'"{label}"')]
    return "\n".join([*lines, ""])


FORMATS = pytest.mark.parametrize("form", [long_textgrid, short_textgrid])
EXPECTED = [(0, 0.25, "sil"), (0.25, 0.5, "hh"), (0.5, 0.75, "ah"), (0.75, 1, "sil")]


@FORMATS
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_textgrid(tmp_path, form, encoding):
    text = form({"words": [(0, 1, "hé")], "Phones": INTERVALS})
    path = write(tmp_path / "a.TextGrid", text.encode(encoding))
    assert names(read_textgrid(path, 1.0)) == EXPECTED
    write(path, ("\n " + text.replace("\n", "\r\n")).encode(encoding))
    assert names(read_textgrid(path, 1.0)) == EXPECTED


@FORMATS
def test_the_only_tier_may_have_any_name(tmp_path, form):
    assert names(read_textgrid(write(tmp_path / "a.TextGrid", form({"mine": INTERVALS})), 1.0)) == EXPECTED


@FORMATS
@pytest.mark.parametrize(
    ("tiers", "asked"),
    [
        (["words", "PHONE"], ""),
        (["Anna - words", "Anna - phones"], ""),
        (["words - phones?", "phones"], ""),
        (["ORT", "KAN", "MAU"], ""),
        (["words", "My Tier"], "my tier"),
        (["phones", "phones-corrected"], "phones-corrected"),
        (["sentence phones", "phone marks"], ""),
    ],
)
def test_the_tier_of_the_phones(tmp_path, form, tiers, asked):
    intervals = {name: [(0, 1, "k")] for name in tiers}
    chosen = next((name for name in tiers if name.lower() == asked), None)
    chosen = chosen or next(
        name for name in tiers if name in ("PHONE", "Anna - phones", "phones", "MAU", "sentence phones")
    )
    intervals[chosen] = INTERVALS
    noticed = Noticed()
    path = write(tmp_path / "a.TextGrid", form(intervals))
    assert names(read_textgrid(path, 1.0, asked, noticed)) == EXPECTED
    assert noticed.tiers == {chosen: 1}
    expected = f"found the interval tiers {', '.join(map(repr, tiers))}, expected 'x' once among them, as set by --tier"
    assert refusal(read_textgrid, path, 1.0, "x") == f"{path}: {expected}"


def test_intervals_that_rounding_made_overlap(tmp_path):
    path = write(tmp_path / "a.TextGrid", long_textgrid({"phones": [(0, 0.50001, "k"), (0.5, 1, "iy")]}))
    assert names(read_textgrid(path, 1.0)) == [(0, 0.50001, "k"), (0.50001, 1, "iy")]


@FORMATS
@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        ({}, "found "),
        ({"words": [], "mine": INTERVALS}, "found the interval tiers 'words', 'mine', expected one that is named"),
        ({"phone": INTERVALS, "Phones": INTERVALS}, "found the interval tiers 'phone', 'Phones', expected one"),
        ({"A - phones": INTERVALS, "B - phones": INTERVALS}, "found the interval tiers 'A - phones', 'B - phones'"),
        ({"phones": []}, "found no segment, expected some"),
        ({"phones": [(0, 0.5, "sil"), (0.4, 1, "iy")]}, "interval 2 of tier 'phones': found a start at 0.4, expected"),
        ({"phones": [(0, 0.5, "sil"), (0.5, 0.4, "iy")]}, "interval 2 of tier 'phones': found 0.5 to 0.4, expected"),
        ({"phones": [(0, 0.5, "sil"), (0.5, 1, "ɹ")]}, "interval 2 of tier 'phones': found the label 'ɹ', expected"),
        (
            {"phones": [(0, 0.5, "sil"), (0.5, 1.1, "iy")]},
            "interval 2 of tier 'phones': found an end at 1.1, expected the audio's end, 1, or earlier",
        ),
        ({"phones": [(0, 0.5, "sil")]}, "found intervals up to 0.5 s in tier 'phones', expected 1 s as its header"),
    ],
)
def test_bad_textgrid(tmp_path, form, tiers, expected):
    path = write(tmp_path / "a.TextGrid", form(tiers))
    assert refusal(read_textgrid, path, 1.0).startswith(f"{path}: {expected}")


@FORMATS
def test_textgrid_cut_anywhere(tmp_path, form):
    text = form({"phones": INTERVALS})
    # But for white space and the last quotation mark, each character matters.
    for length in range(len(text.rstrip()) - len('""')):
        path = write(tmp_path / "a.TextGrid", text[:length])
        assert refusal(read_textgrid, path, 1.0).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1: found '', expected 'File type = "),
        ('{"start": 0}', "line 1: found '{\"start\": 0}', expected 'File type = "),
        (PHN, "line 1: found '0 3050 h#', expected 'File type = "),
        (b"ooBinaryFile\x08TextGrid\xff\xfe", "found a binary TextGrid, expected one as text"),
        (
            short_textgrid({"phones": INTERVALS}).replace("0.75", "nan"),
            "interval 3 of tier 'phones': found 0.5 to nan, expected an end after the start",
        ),
    ],
)
def test_no_textgrid(tmp_path, content, expected):
    path = write(tmp_path / "a.TextGrid", content)
    assert refusal(read_textgrid, path, 1.0).startswith(f"{path}: {expected}")


def test_a_written_textgrid_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    edges = np.cumsum(rng.integers(1, 30, 50)) / 100 + 0.0125
    labels = rng.choice([phone for phone in PHONES if phone != "sil"], 49)
    segments = [(float(a), float(b), str(c)) for a, b, c in zip(edges[:-1], edges[1:], labels, strict=True)]
    del segments[20]
    path = tmp_path / "a.TextGrid"
    write_textgrid(path, segments, float(edges[-1]) + 0.3)
    again = [segment for segment in names(read_textgrid(path, float(edges[-1]) + 0.3)) if segment[2] != "sil"]
    assert [label for *_, label in again] == [label for *_, label in segments]
    np.testing.assert_allclose([s[:2] for s in again], [s[:2] for s in segments], atol=1e-6)


def test_a_written_textgrid_is_as_praat_writes_it(tmp_path):
    write_textgrid(tmp_path / "a.TextGrid", [(0, 0.25, 'h"e'), (0.5, 1, "ə")], 1.0, tier="mine")
    written = (tmp_path / "a.TextGrid").read_text(encoding="utf-8").split()
    expected = [(0, 0.25, 'h""e'), (0.25, 0.5, ""), (0.5, 1, "ə")]
    assert written == long_textgrid({"mine": expected}).split()


# Folders


def corpus(folder: Path, *places: str, phn: str = PHN) -> Path:
    for seed, place in enumerate(places):
        wav(folder / f"{place}.WAV", noise(RATE, seed))
        write(folder / f"{place}.PHN", phn)
    return folder


def test_find_recordings_in_a_folder_like_timit(tmp_path):
    corpus(tmp_path, *[f"TRAIN/DR1/FCJF0/{name}" for name in ("SA1", "SX37", "SI648")], "TEST/DR4/MLLL0/SX13", "me/a")
    write(tmp_path / "TRAIN/DR1/FCJF0/SX37.TXT", "0 46797 She had your \n dark suit.\n")
    write(tmp_path / "me/a.txt", "12 monkeys")
    write(tmp_path / "me/notes.txt", "nothing to find")
    found = find_recordings(tmp_path, skip_bad=False)
    assert [(r.audio.relative_to(tmp_path).as_posix(), r.speaker, r.part, r.text) for r in found.recordings] == [
        ("TEST/DR4/MLLL0/SX13.WAV", "MLLL0", "test", ""),
        ("TRAIN/DR1/FCJF0/SI648.WAV", "FCJF0", "train", ""),
        ("TRAIN/DR1/FCJF0/SX37.WAV", "FCJF0", "train", "She had your dark suit."),
        ("me/a.WAV", "me", "", "12 monkeys"),
    ]
    assert all(r.annotation == r.audio.with_suffix(".PHN") for r in found.recordings)
    assert found.ignored == ["notes.txt"]
    assert found.skipped == [f"{tmp_path}: left out: 1 recording of SA1 or SA2, which every speaker of TIMIT reads"]


def test_the_folder_itself_makes_no_part(tmp_path):
    recordings = find_recordings(corpus(tmp_path / "test", "anna/1"), skip_bad=False).recordings
    assert [r.part for r in recordings] == [""]


def test_names_in_either_case_copies_and_hidden_files(tmp_path):
    folder = corpus(tmp_path, "dr1/a/SX1", "dr1/a/SX2", "dr1/a/SX4")
    wav(folder / "dr1/a/SX1.WAV.wav")
    (folder / "dr1/a/SX2.WAV").rename(folder / "dr1/a/SX2.WAV.wav")
    wav(folder / "dr1/a/sx3.wav")
    write(folder / "dr1/a/sx3.TextGrid", long_textgrid({"phones": INTERVALS}))
    write(folder / "dr1/a/SX4.textgrid", "not read, as there is SX4.PHN")
    write(folder / "dr1/a/._SX1.WAV", "of another system")
    write(folder / ".git/SX1.WAV", "hidden")
    found = find_recordings(folder, skip_bad=False)
    assert not found.skipped
    assert found.ignored == ["SX1.WAV.wav", "SX4.textgrid"]
    assert [(r.audio.name, r.annotation.name) for r in found.recordings] == [
        ("SX1.WAV", "SX1.PHN"),
        ("SX2.WAV.wav", "SX2.PHN"),
        ("SX4.WAV", "SX4.PHN"),
        ("sx3.wav", "sx3.TextGrid"),
    ]


def spoil(folder: Path) -> dict[str, str]:
    """Make each recording of a folder but the first bad in another way, and say how, in order."""
    corpus(folder, *[f"s/{number}" for number in range(8)])
    (folder / "s/1.PHN").unlink()
    (folder / "s/2.WAV").unlink()
    write(folder / "s/3.WAV", (folder / "s/3.WAV").read_bytes()[:16_000])
    wav(folder / "s/4.WAV", noise(RATE), 7_999)
    write(folder / "s/5.PHN", "0 99999 h#\n")
    samples = noise(RATE)
    samples[-1] = np.nan
    wav(folder / "s/6.WAV", samples, subtype="FLOAT")
    write(folder / "s/7.PHN", "")
    return {
        "1.WAV": "found no annotation, expected 1.PHN or .TextGrid beside it",
        "2.PHN": "found no recording, expected 2.WAV beside it",
        "3.WAV": "found 15,956 bytes of audio, expected 32,000",
        "4.WAV": "found 7,999 samples per second, expected 8,000",
        "5.PHN": "line 1: found an end at 99999, expected the audio's end, 16000",
        "6.WAV": "at 1.000 s: found a sample of nan, expected",
        "7.PHN": "found no segment, expected",
    }


def test_bad_recordings_are_skipped_with_a_reason(tmp_path):
    reasons = spoil(tmp_path)
    found = find_recordings(tmp_path, skip_bad=True)
    assert [r.audio.name for r in found.recordings] == ["0.WAV"]
    assert len(found.skipped) == len(reasons)
    for line, (name, reason) in zip(found.skipped, reasons.items(), strict=True):
        assert line.startswith(f"{tmp_path / 's' / name}: {reason}")


def test_the_first_bad_recording_raises(tmp_path):
    for name, reason in spoil(tmp_path).items():
        text = refusal(find_recordings, tmp_path, False)
        assert text.startswith(f"{tmp_path / 's' / name}: {reason}")
        for path in (tmp_path / "s").glob(f"{name[0]}.*"):
            path.unlink()
    assert len(find_recordings(tmp_path, skip_bad=False).recordings) == 1


def test_stems_in_another_case(tmp_path):
    for audio, annotation, text in [
        ("sx1.wav", "SX1.PHN", "Sx1.txt"),
        ("A.WAV", "a.TextGrid", ""),
        ("b.flac", "B.phn", ""),
        *[("c.wav", "c.phn", ""), ("C.wav", "C.phn", "C.TXT")],
        ("cafe\u0301.wav", "caf\u00e9.PHN", ""),
    ]:
        soundfile.write(tmp_path / audio, noise(RATE), RATE)
        write(tmp_path / annotation, PHN if "phn" in annotation.lower() else long_textgrid({"phones": INTERVALS}))
        if text:
            write(tmp_path / text, text)
    found = find_recordings(tmp_path, skip_bad=False)
    assert not found.ignored
    assert [(r.audio.name, r.annotation.name, r.text) for r in found.recordings] == [
        ("A.WAV", "a.TextGrid", ""),
        ("C.wav", "C.phn", "C.TXT"),
        ("b.flac", "B.phn", ""),
        ("c.wav", "c.phn", ""),
        ("cafe\u0301.wav", "caf\u00e9.PHN", ""),
        ("sx1.wav", "SX1.PHN", "Sx1.txt"),
    ]


def test_what_was_understood_is_said(tmp_path):
    corpus(tmp_path, *[f"speaker {number}/a" for number in range(10)])
    write(tmp_path / "speaker 0/a.PHN", PHN.replace("ix", "spn").replace("9190 16000 h#\n", ""))
    write(tmp_path / "speaker 1/a.WAV", header((tmp_path / "speaker 1/a.WAV").read_bytes(), 2**32 - 1))
    (tmp_path / "speaker 2/a.PHN").unlink()
    write(tmp_path / "speaker 2/a.TextGrid", long_textgrid({"MAU": INTERVALS}))
    write(tmp_path / "speaker 3/a.WRD", "0 1 word")
    speakers = ", ".join(f"speaker {number}" for number in range(8))
    assert find_recordings(tmp_path, skip_bad=False).understood() == [
        f"10 recordings of 10 speakers, by the name of the folder: {speakers} and 2 more",
        f"1 recording: {WRONG}",
        "phones of TextGrids are those of the tier 'MAU' (once)",
        "labels that aren't phones, 1 of 38, are left out of training and scoring: 'spn' (once)",
        "ignored: 1 file, a.WRD",
    ]


def test_labels_of_another_list_of_phones_are_refused(tmp_path):
    corpus(tmp_path, "s/1", "s/2", phn="0 4000 k\n4000 8000 iy\n8000 12000 ɹ\n12000 16000 spn\n")
    expected = "found 2 of 6 labels that aren't phones: 'ɹ' (2 times), expected labels of TIMIT or ARPAbet"
    assert refusal(find_recordings, tmp_path, True) == f"{tmp_path}: {expected}"
    corpus(tmp_path, "s/1", "s/2", phn="0 16000 spn\n")
    assert "found no label that is a phone, expected some" in refusal(find_recordings, tmp_path, True)


def test_folders_without_recordings(tmp_path):
    missing = tmp_path / "none"
    assert refusal(find_recordings, missing, True) == f"{missing}: found no such folder, expected one of recordings"
    expected = "found no recording, expected NAME.WAV with NAME.PHN or NAME.TextGrid in it, or in folders in it"
    assert refusal(find_recordings, tmp_path, True) == f"{tmp_path}: {expected}"
    path = wav(tmp_path / "s/1.WAV")
    expected = f"found 1 recordings, all of them bad; the first is {path}: found no annotation, expected"
    assert refusal(find_recordings, tmp_path, True).startswith(f"{tmp_path}: {expected}")


def test_read_gives_samples_and_segments(tmp_path):
    folder = corpus(tmp_path, "s/1")
    wav(folder / "s/2.wav", noise(2 * 8000), 8000)
    write(folder / "s/2.TextGrid", long_textgrid({"phones": [(0, 1, "K"), (1, 2, "sp")]}, 2))
    wav(folder / "s/3.wav", noise(2 * 8000), 8000)
    write(folder / "s/3.phn", "0 8000 k\n8000 16000 h#\n")
    first, *others = find_recordings(folder, skip_bad=False).recordings
    samples, segments = read(first)
    np.testing.assert_array_equal(samples, read_audio(first.audio)[0])
    assert segments == read_phn(first.annotation, RATE, RATE)
    for recording in others:
        samples, segments = read(recording)
        assert samples.shape == (2 * RATE,)
        assert names(segments) == [(0, 1, "k"), (1, 2, "sil")]


def test_read_checks_audio_and_annotation_together(tmp_path):
    recording = find_recordings(corpus(tmp_path, "s/1"), skip_bad=False).recordings[0]
    wav(recording.audio, noise(RATE // 2))
    assert refusal(read, recording).startswith(
        f"{recording.annotation}: line 6: found an end at 9190, expected the audio's"
    )


# Splits


def recordings_of(speakers: dict[str, str], sentences: int = 8) -> list[Recording]:
    """Recordings of speakers, by name and part, that needn't exist."""
    return [
        Recording(Path(f"/c/{part}/{speaker}/{n}.wav"), Path(f"/c/{part}/{speaker}/{n}.phn"), speaker, part)
        for speaker, part in speakers.items()
        for n in range(sentences)
    ]


def speakers_of(splits: Mapping[str, list[Recording]]) -> dict[str, set[str]]:
    return {split: {r.speaker for r in recordings} for split, recordings in splits.items()}


def split(recordings: list[Recording], seed: int) -> tuple[Mapping[str, list[Recording]], str]:
    splits = split_recordings(recordings, seed)
    assert not splits.shared_speakers()
    return splits.parts, splits.note


TRAINING = {f"M{number:03}": "train" for number in range(40)}
CORE = dict.fromkeys(CORE_TEST_SPEAKERS, "test")


def test_the_core_test_set_is_balanced_over_sexes_as_timit_says():
    assert len(CORE_TEST_SPEAKERS) == 24
    assert sum(name.startswith("M") for name in CORE_TEST_SPEAKERS) == 16


@pytest.mark.parametrize("lower", [False, True])
def test_split_of_timit(lower):
    names = {**TRAINING, **CORE, "MXYZ0": "test"}
    recordings = recordings_of({name.lower() if lower else name: part for name, part in names.items()})
    splits, said = split(recordings, 0)
    speakers = speakers_of(splits)
    assert {name.upper() for name in speakers["test"]} == CORE_TEST_SPEAKERS
    assert len(splits["test"]) == 192
    assert len(speakers["validation"]) == 4
    assert len(speakers["train"]) == 36
    assert {name.upper() for name in speakers["train"] | speakers["validation"]} == set(TRAINING)
    assert said == "tested on the 24 speakers of TIMIT's core test set"


@pytest.mark.parametrize("sentence", [None, 3])
def test_split_of_timit_without_its_whole_core(sentence):
    recordings = recordings_of({**TRAINING, **CORE, "MXYZ0": "test"})
    # The whole of one core speaker, or a sentence of one, is missing.
    gone = [r for r in recordings if r.speaker == "MDAB0" and sentence in (None, int(r.audio.stem))]
    splits, said = split([r for r in recordings if r not in gone], 0)
    assert len(splits["test"]) == 200 - len(gone)
    assert "MXYZ0" in speakers_of(splits)["test"]
    speakers = 24 if sentence is None else 25
    assert said == (
        f"tested on all {speakers} speakers of TEST, as TIMIT's core test set of 24 is missing or incomplete"
    )


@pytest.mark.parametrize(("speakers", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (7, 1, 2)), (100, (70, 10, 20))])
def test_split_at_random_by_speaker(speakers, sizes):
    recordings = recordings_of({f"s{number}": "" for number in range(speakers)}, sentences=3)
    splits, said = split(recordings, 1)
    found = speakers_of(splits)
    assert tuple(len(found[split]) for split in ("train", "validation", "test")) == sizes
    assert sorted(r.audio for part in splits.values() for r in part) == sorted(r.audio for r in recordings)
    assert len(set.union(*found.values())) == speakers
    assert splits["train"] == [r for r in recordings if r.speaker in found["train"]]
    assert said == f"speakers drawn at random, {sizes[2]} of them for test"


def test_the_seed_draws_the_speakers_and_the_order_of_files_does_not():
    for names in ({f"s{number}": "" for number in range(30)}, {**TRAINING, **CORE}):
        recordings = recordings_of(names)
        found = speakers_of(split(recordings, 1)[0])
        assert speakers_of(split(recordings[::-1], 1)[0]) == found
        assert speakers_of(split(recordings, 2)[0]) != found


def test_one_part_alone_is_split_at_random():
    for part in ("train", "test"):
        splits, said = split(recordings_of({f"s{number}": part for number in range(10)}), 0)
        assert len(speakers_of(splits)["test"]) == 2
        assert said == "speakers drawn at random, 2 of them for test"


@pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (20, (14, 2, 4))])
@pytest.mark.parametrize("speakers", [["anna"], ["anna", "ben"]])
def test_one_or_two_speakers_are_split_by_sentence(count, sizes, speakers):
    recordings = recordings_of(dict.fromkeys(speakers, ""), sentences=count)
    recordings = [r for r in recordings if len(speakers) == 1 or int(r.audio.stem) % 2 == speakers.index(r.speaker)]
    splits = split_recordings(recordings, seed=0)
    assert tuple(len(splits.parts[part]) for part in ("train", "validation", "test")) == sizes
    assert sorted(r.audio for part in splits.parts.values() for r in part) == sorted(r.audio for r in recordings)
    there = "is 1 speaker" if len(speakers) == 1 else "are 2 speakers"
    assert splits.note == f"sentences drawn at random, as there {there}; {sizes[2]} of them for test"
    assert splits.shared_speakers() == speakers or count < 20


def test_equal_sentences_stay_together():
    recordings = [
        dataclasses.replace(r, text=f"Sentence {int(r.audio.stem) % 7}!")
        for r in recordings_of({"anna": "", "ben": ""}, sentences=14)
    ]
    splits = split_recordings(recordings, seed=0)
    texts = [{r.text for r in part} for part in splits.parts.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 7


@pytest.mark.parametrize(
    ("speakers", "heard", "said"),
    [
        ({"anna": "train", "ben": "test"}, [], "tested on all 8 recordings of TEST, validated on sentences of TRAIN"),
        ({**TRAINING, "M007 ": "test"}, [], "tested on all 1 speakers of TEST, as TIMIT's core"),
    ],
)
def test_both_parts_with_few_speakers(speakers, heard, said):
    splits = split_recordings(recordings_of(speakers), seed=0)
    assert splits.shared_speakers() == heard
    assert splits.note.startswith(said)
    assert {r.part for r in splits.parts["test"]} == {"test"}
    assert {r.part for r in splits.parts["validation"]} == {"train"}


def test_a_speaker_in_both_parts_is_said():
    recordings = [*recordings_of({**TRAINING, **CORE}), *recordings_of({"M007": "test"})]
    splits = split_recordings(recordings, seed=0)
    assert splits.shared_speakers() == ["M007"]
    assert splits.parts["test"] == [r for r in recordings if r.part == "test"]
    assert len(splits.parts["validation"]) == 32
    assert splits.note == "tested on all 200 recordings of TEST, validated on sentences of TRAIN drawn at random"
    alone = [*recordings_of({"eve": "train"}, 3), *recordings_of({"eve": "test"}, 1)]
    parts = split_recordings(alone, seed=0).parts
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [2, 1, 1]


@pytest.mark.parametrize(
    ("recordings", "expected"),
    [
        (recordings_of({"anna": ""}, 2), "/c/anna: found 2 sentences, expected at least 3, one each for training"),
        (recordings_of({"anna": ""}, 1), "/c/anna: found 1 sentence, expected at least 3, one each for training"),
        (recordings_of({"anna": "", "ben": ""}, 1), "/c: found 2 sentences, expected at least 3"),
        (recordings_of({"anna": "train", "ben": "test"}, 1), "/c: found 1 sentence in TRAIN, expected at least 2"),
        (recordings_of({**TRAINING, **CORE, "eve": ""}), "/c/eve/0.wav: found in neither TRAIN nor TEST, expected it"),
    ],
)
def test_too_few_sentences(recordings, expected):
    assert refusal(split_recordings, recordings, 0).startswith(expected)

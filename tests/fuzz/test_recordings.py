"""Recordings and their annotations, whole and spoilt: read, or refused in one line."""

import io
import itertools
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from data.recordings import duration, find_recordings, notes_on, read, split_recordings, stream_audio

pytestmark = pytest.mark.slow

FORMATS = [
    *[("WAV", subtype) for subtype in ("PCM_16", "PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")],
    *[(form, "PCM_16") for form in ("WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "CAF", "FLAC")],
    ("OGG", "VORBIS"),
]
SIZES = [0, 1, 2, 15, 16, 255, 2**15, 2**16 - 1, 2**31 - 4096, 2**31 - 1, 2**31, 2**32 - 37, 2**32 - 2, 2**32 - 1]
LABELS = "iy|m|AA1|t|dcl|h#|q|AH0|ah_B|sil||K|s|spn|<eps>|AA1,AH0,s|ɹ|\x1b[31m|a b".split("|")  # noqa: SIM905
LABELS.append("x" * 300)
TIERS = 'phones|Phones|words|MAU|Anna - phones|Anna - words||\n|a "quoted" name|\ud83d\ude00'.split("|")  # noqa: SIM905


def sound(form: str, subtype: str, rate: int, channels: int, frames: int) -> bytes:
    samples = 0.1 * np.random.default_rng(0).standard_normal((frames, channels))
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=form, subtype=subtype)
    return stream.getvalue()


@st.composite
def spoilt(draw, content: bytes, head: int = 120) -> bytes:
    """The content with some faults of those that files have: sizes, cuts, chunks, flipped and further bytes."""
    changed = bytearray(content)
    faults = st.lists(st.sampled_from(["size", "cut", "flip", "more", "chunk", "zeros"]), min_size=1, max_size=3)
    for fault in draw(st.one_of(st.just([]), st.just([]), faults)):
        place = draw(st.integers(0, min(head, len(changed))))
        if fault == "size":
            form = draw(st.sampled_from("<>"))
            changed[place : place + 4] = struct.pack(f"{form}I", draw(st.sampled_from(SIZES)))
        elif fault == "cut":
            del changed[draw(st.integers(0, len(changed))) :]
        elif fault == "flip" and place < len(changed):
            changed[place] ^= draw(st.integers(1, 255))
        elif fault == "more":
            changed += draw(st.binary(max_size=200))
        elif fault == "zeros":
            changed += bytes(draw(st.integers(1, 5_000)))
        elif fault == "chunk":
            chunk = draw(st.sampled_from([b"LIST", b"fact", b"data", b"id3 ", b"\0\0\0\0"]))
            changed[place:place] = chunk + struct.pack("<I", draw(st.sampled_from([0, 1, 4, 5, *SIZES]))) + b"12345"
    return bytes(changed)


@st.composite
def sounds(draw) -> bytes:
    form, subtype = draw(st.sampled_from(FORMATS))
    rate = draw(st.sampled_from([16_000, 16_000, 8_000, 44_100, 192_000, 100]))
    frames = draw(st.sampled_from([16_000, 9_600, 5_001, 400, 399, 0]))
    content = sound(form, subtype, rate, draw(st.sampled_from([1, 1, 2])), frames)
    if content.startswith(b"RIFF") and draw(st.booleans()):
        place = content.index(b"data") + 4
        size = draw(st.one_of(st.sampled_from(SIZES), st.integers(0, len(content) + 200)))
        content = content[:place] + struct.pack("<I", size) + content[place + 4 :]
    return draw(spoilt(content))


numbers = st.one_of(
    st.integers(0, 20_000).map(str),
    st.sampled_from(
        ["9" * 400, "9" * 5_000, "-1", "nan", "NaN", "inf", "1e3", "1e400", "0.5", "1,5", "٣", "0x10", "1_0", ""]
    ),
)


@st.composite
def phones(draw) -> bytes:
    """A .PHN file; most begin well, where one segment follows the other."""
    edges = np.cumsum(draw(st.lists(st.integers(1, 2_700), min_size=2, max_size=7))).tolist()
    lines = [[str(start), str(end), draw(st.sampled_from(LABELS))] for start, end in itertools.pairwise(edges)]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        if lines:
            draw(st.sampled_from(lines))[draw(st.integers(0, 2))] = draw(numbers)
    blank = st.sampled_from([" ", " ", "\t", "  ", "\u00a0"])
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n  ", "\u2028"]))
    text = end.join(draw(blank).join(line) for line in lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32"]))
    return draw(spoilt(text.encode(encoding, "replace"), head=400))


@st.composite
def textgrids(draw) -> bytes:
    """A Praat TextGrid, long or short."""
    short, end = draw(st.booleans()), draw(st.sampled_from(["1", "1", "1.0", "0.98", "2", "nan", "1e400"]))
    tiers = draw(st.lists(st.sampled_from(TIERS), min_size=1, max_size=3))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]

    def add(name: str, value: str) -> None:
        lines.append(value if short else f"    {name} = {value} ")

    add("xmin", "0")
    add("xmax", end)
    lines.append("<exists>" if short else "tiers? <exists> ")
    add("size", str(len(tiers)))
    for number, tier in enumerate(tiers, start=1):
        lines += [] if short else ["item []: "] * (number == 1) + [f"    item [{number}]:"]
        kind = draw(st.sampled_from(["IntervalTier", "IntervalTier", "IntervalTier", "TextTier"]))
        add("class", f'"{kind}"')
        add("name", f'"{tier.replace(chr(34), chr(34) * 2)}"')
        add("xmin", "0")
        add("xmax", end)
        edges = np.linspace(0, 1, draw(st.integers(1, 6)))
        count = str(len(edges) - 1)
        lines.append(
            count if short else f"        intervals: size = {draw(st.sampled_from([count] * 9 + ['99', 'x']))} "
        )
        for index, (start, stop) in enumerate(itertools.pairwise(edges), start=1):
            lines += [] if short else [f"        intervals [{index}]:"]
            add(
                "xmin",
                draw(st.one_of(st.just(f"{start:g}"), numbers)) if draw(st.integers(0, 9)) == 0 else f"{start:g}",
            )
            add("xmax", f"{stop:g}")
            add("text", f'"{draw(st.sampled_from(LABELS))}"')
    for _ in range(draw(st.sampled_from([0, 0, 1]))):
        del lines[draw(st.integers(0, len(lines) - 1))]
    text = draw(st.sampled_from(["", "\n", "  "])) + draw(st.sampled_from(["\n", "\r\n", "\n  "])).join(lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]))
    return draw(spoilt(text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace"), head=2_000))


SECOND = sound("WAV", "PCM_16", 16_000, 1, 16_000)
GOOD = {"eve/1.flac": sound("FLAC", "PCM_16", 16_000, 1, 9_000), "eve/1.phn": b"0 9000 iy\n"}
GOOD |= {f"eve/{number}.{suffix}": GOOD[f"eve/1.{suffix}"] for number in (2, 3) for suffix in ("flac", "phn")}


def load_sound(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        path.write_bytes(content)
        samples = sum(map(len, stream_audio(path)))
        assert abs(samples / 16_000 - duration(path)) < 0.06
        assert len(notes_on(path)) <= 3


def load_folder(files: dict[str, bytes], tier: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (files | GOOD).items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        found = find_recordings(Path(folder), True, tier)
        assert all("\n" not in line for line in [*found.understood(), *found.skipped])
        for recording in found.recordings:
            read(recording)
        split_recordings(found.recordings, 0)


@given(content=sounds())
def test_sounds(judge, content):
    judge(load_sound, content)


names = st.sampled_from(["a", "A", "é", "e\u0301", "SA1", "x\n", "\udcff"])
folders = st.sampled_from(["", "anna/", "TRAIN/anna/", "test/anna/", "TRAIN/ben/", "\x1b[31m/"])


@given(
    files=st.dictionaries(
        st.builds("{}{}.PHN".format, folders, names), st.one_of(phones(), phones(), st.just(b"0 9000 iy\n")), min_size=1
    ),
    text=st.binary(max_size=20),
)
def test_phones_of_timit(judge, files, text):
    audio = {name[:-4] + ".wav": SECOND for name in files}
    judge(load_folder, files | audio | {next(iter(files))[:-4].lower() + ".txt": text}, "")


@given(content=textgrids(), tier=st.sampled_from(["", "", "words", "\n"]))
def test_textgrids(judge, content, tier):
    judge(load_folder, {"a.TextGrid": content, "a.wav": SECOND}, tier)

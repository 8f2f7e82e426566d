import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import espeak, speech
from data.acoustics import BANDS, RATE, STEP, WINDOW, frame_labels, log_mel
from data.dataset import BadInput
from data.phones import IGNORED, PHONES, SILENCE
from data.speech import Speech, Synthesis, draw_speakers, load_recordings, load_synthetic, read_labelled

needs_espeak = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="needs espeakng-loader")
SMALL = Synthesis(minutes=1.5, speakers=6, seed=3)
CLEAN = dataclasses.replace(SMALL, snr=())
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv(speech.CACHE_VARIABLE, str(cache))


def corpus(settings: Synthesis) -> list[speech._Sound]:
    return speech._corpus(settings, draw_speakers(settings))


# The synthetic corpus


@needs_espeak
def test_rows_labels_and_names_agree():
    found = load_synthetic(SMALL)
    dataset = found.dataset
    assert dataset.classes == PHONES
    assert dataset.feature_names[0] == "band 1"
    assert len(dataset.feature_names) == BANDS
    for split in SPLITS:
        data, utterances = dataset.splits[split], found.utterances[split]
        assert data.inputs.shape == (len(data), BANDS)
        assert data.inputs.dtype == np.float32
        assert data.labels.dtype == np.int32
        assert [u.start for u in utterances] == [0, *(u.end for u in utterances[:-1])]
        assert utterances[-1].end == len(data)
    provenance = dataset.provenance
    assert provenance.rows == sum(len(dataset.splits[split]) for split in SPLITS)
    assert provenance.rows / 6_000 == pytest.approx(1.5, rel=0.25)  # the last sentences run over
    assert provenance.seed == 3
    assert any("6 speakers" in note for note in provenance.notes)
    assert any("pink noise at 10, 5, 0, -5 dB" in note for note in provenance.notes)


@needs_espeak
def test_speakers_and_sentences_are_in_one_split_alone():
    found = load_synthetic(SMALL)
    for part in ("speaker", "text"):
        seen = [getattr(u, part) for split in SPLITS for u in found.utterances[split]]
        by_split = [{getattr(u, part) for u in found.utterances[split]} for split in SPLITS]
        assert len(set(seen)) == sum(map(len, by_split))
    texts = [u.text for split in SPLITS for u in found.utterances[split]]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("count", [6, 7, 24, 26, 48, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_variants_are_held_out_and_women_and_men_in_every_split(count, seed):
    splits = draw_speakers(Synthesis(speakers=count, seed=seed))
    speakers = [speaker for chosen in splits.values() for speaker in chosen]
    assert len({speaker.name for speaker in speakers}) == len(speakers) == count
    variants = [{speaker.variant for speaker in chosen} for chosen in splits.values()]
    assert len(set.union(*variants)) == sum(map(len, variants))
    if count <= 24:
        assert len(set.union(*variants)) == count
    for chosen in splits.values():
        assert {speaker.variant for speaker in chosen} & set(speech.FEMALE)
        assert {speaker.variant for speaker in chosen} & set(speech.MALE)
        assert len({speaker.voice for speaker in chosen}) >= 2
    if count == 24:
        assert {split: len(chosen) for split, chosen in splits.items()} == {"test": 6, "validation": 4, "train": 14}
        assert {speaker.voice for speaker in splits["train"]} == set(espeak.ACCENTS)


@needs_espeak
def test_seeds_reproduce_and_differ():
    first, again = load_synthetic(SMALL), load_synthetic(SMALL)
    assert first.dataset.provenance == again.dataset.provenance
    for split in SPLITS:
        np.testing.assert_array_equal(first.dataset.splits[split].inputs, again.dataset.splits[split].inputs)
    other = load_synthetic(dataclasses.replace(SMALL, seed=4))
    assert other.dataset.provenance.sha256 != first.dataset.provenance.sha256
    assert {u.speaker for u in other.utterances["test"]} != {u.speaker for u in first.utterances["test"]}


@needs_espeak
def test_each_speaker_has_mean_0_and_deviation_1():
    found = load_synthetic(SMALL)
    for split in SPLITS:
        for speaker in {u.speaker for u in found.utterances[split]}:
            rows = [found.dataset.splits[split].inputs[u.start : u.end] for u in found.utterances[split]]
            own = np.concatenate(
                [r for r, u in zip(rows, found.utterances[split], strict=True) if u.speaker == speaker]
            )
            # A prior of 3 s of the training speakers is mixed in.
            assert np.abs(own.mean(axis=0)).max() < 0.5
            assert np.abs(own.std(axis=0) - 1).max() < 0.5


@needs_espeak
def test_noise_is_as_loud_as_asked():
    clean = corpus(SMALL)
    speakers = {sound.speaker for sound in clean}
    heard = set()
    for before, after in zip(clean, speech._noisy(clean, SMALL, speakers), strict=True):
        signal = before.samples / 2**15
        noise = after.samples - signal
        measured = 10 * np.log10(np.mean(signal**2) / np.mean(noise**2))
        assert f"{round(measured)} dB" == after.noise
        assert measured == pytest.approx(round(measured), abs=0.05)
        heard.add(after.noise)
    assert heard == {"10 dB", "5 dB", "0 dB", "-5 dB"}
    assert {sound.noise for sound in speech._noisy(clean, CLEAN, speakers)} == {"clean"}


@needs_espeak
def test_a_telephone_has_no_high_bands():
    plain, telephone = (
        list(speech._noisy(corpus(CLEAN), settings, {draw_speakers(CLEAN)["test"][0].name}))
        for settings in (CLEAN, dataclasses.replace(CLEAN, telephone=True))
    )
    spectra = [np.mean([log_mel(s.samples).mean(axis=0) for s in sounds], axis=0) for sounds in (plain, telephone)]
    loss = spectra[0] - spectra[1]
    assert np.abs(loss[8:22]).max() < 1  # about 450 to 2,200 Hz
    assert loss[-5:].min() > 3


@needs_espeak
@pytest.mark.slow
def test_all_phones_are_in_every_split_of_the_default_corpus():
    found = load_synthetic(Synthesis())
    for split in SPLITS:
        labels = found.dataset.splits[split].labels
        share = np.bincount(labels, minlength=len(PHONES)) / len(labels)
        assert share.min() > 0.002, PHONES[int(np.argmin(share))]
        assert 0.15 < share[SILENCE] < 0.3
    frames = [len(found.dataset.splits[split]) for split in SPLITS]
    assert sum(frames) / 6_000 == pytest.approx(30, rel=0.05)
    np.testing.assert_allclose(np.array(frames) / sum(frames), [14 / 24, 4 / 24, 6 / 24], atol=0.02)


# Labels and audio


@needs_espeak
def test_labels_fit_the_audio():
    frames, labels = [], []
    for sound in speech._noisy(corpus(CLEAN), CLEAN, {sound.speaker for sound in corpus(CLEAN)}):
        count = 1 + (len(sound.samples) - WINDOW) // STEP
        windows = np.lib.stride_tricks.sliding_window_view(sound.samples, WINDOW)[::STEP]
        frames.append(np.square(np.abs(np.fft.rfft(windows * np.hanning(WINDOW)))))
        labels.append(frame_labels(sound.segments, count, SILENCE))
    power, label = np.concatenate(frames), np.concatenate(labels)
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    level = 10 * np.log10(power.sum(axis=1) + 1e-9)
    high = power[:, hertz > 3_000].sum(axis=1) / (power.sum(axis=1) + 1e-9)

    def of(phones: str) -> np.ndarray:
        return np.isin(label, [PHONES.index(phone) for phone in phones.split()])

    vowels = of("iy ih eh ae ah uh aa er ey ay oy aw ow")
    assert np.median(high[of("s")]) > 0.8
    assert np.median(high[vowels]) < 0.1
    assert (high[vowels] > 0.5).mean() < 0.05
    assert np.median(level[vowels]) - np.median(level[of("sil")]) > 30
    assert np.median(level[vowels]) > np.median(level[of("s f th sh")])
    assert (level[of("sil")] > np.median(level[vowels])).mean() < 0.02


@needs_espeak
def test_labels_are_neither_early_nor_late():
    """The labels explain the spectra best where they are, not 10 ms to either side, for every speaker."""
    found = load_synthetic(CLEAN)
    for split in SPLITS:
        data = found.dataset.splits[split]
        for speaker in {u.speaker for u in found.utterances[split]}:
            own = [u for u in found.utterances[split] if u.speaker == speaker]
            labels = np.concatenate([data.labels[u.start + 3 : u.end - 3] for u in own])
            unexplained = []
            for shift in range(-3, 4):
                rows = np.concatenate([data.inputs[u.start + 3 + shift : u.end - 3 + shift] for u in own])
                sums = np.zeros((len(PHONES), BANDS))
                np.add.at(sums, labels, rows)
                means = sums / np.maximum(np.bincount(labels, minlength=len(PHONES)), 1)[:, None]
                unexplained.append(np.square(rows - means[labels]).mean())
            assert np.argmin(unexplained) == 3, speaker
            # The best place between the frames, of the parabola through the three, is within 3 ms.
            before, here, after = unexplained[2:5]
            assert abs(10 * 0.5 * (before - after) / (before - 2 * here + after)) < 3, speaker


@needs_espeak
def test_speech_begins_where_its_first_label_does():
    late = []
    for sound in corpus(CLEAN):
        loud = np.abs(sound.samples.astype(float)) > 0.01 * np.abs(sound.samples.astype(float)).max()
        first = next(start for start, _, phone in sound.segments if phone != SILENCE)
        late.append(np.argmax(loud) / RATE - first)
    # A stop or a fricative may begin softly.
    assert -0.002 < np.median(late) < 0.010
    assert np.percentile(np.abs(late), 90) < 0.03


# The cache


@needs_espeak
def test_the_cache_is_hit_whatever_the_noise(monkeypatch):
    first = load_synthetic(SMALL)

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(espeak, "synthesize", fail)
    assert load_synthetic(SMALL).dataset.provenance == first.dataset.provenance
    load_synthetic(dataclasses.replace(SMALL, snr=(30.0,), telephone=True))
    with pytest.raises(AssertionError):
        load_synthetic(dataclasses.replace(SMALL, seed=5))
    with pytest.raises(AssertionError):
        load_synthetic(dataclasses.replace(SMALL, minutes=1.0))
    monkeypatch.setattr(speech, "FORMAT", speech.FORMAT + 1)
    with pytest.raises(AssertionError):
        load_synthetic(SMALL)


@needs_espeak
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "other"])
def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setenv(speech.CACHE_VARIABLE, str(tmp_path))
    tiny = Synthesis(minutes=0.1, speakers=6)
    first = load_synthetic(tiny).dataset.provenance
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    if damage == "other":
        np.savez(path, samples=np.zeros(3))
    else:
        changed = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        path.write_bytes({"cut": whole[:middle], "empty": b"", "changed": changed}[damage])
    assert load_synthetic(tiny).dataset.provenance == first
    assert path.read_bytes()[: middle // 2] == whole[: middle // 2]
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert not list(tmp_path.glob("*.tmp"))


@needs_espeak
def test_a_cache_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(speech.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"file: found a folder that can't be used"):
        load_synthetic(SMALL)


@needs_espeak
@pytest.mark.slow
def test_two_processes_at_once_find_the_same(tmp_path):
    code = (
        "from data.speech import *; print(load_synthetic(Synthesis(minutes=0.5, speakers=6)).dataset.provenance.sha256)"
    )
    environment = {**os.environ, speech.CACHE_VARIABLE: str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    found = [process.communicate()[0] for process in processes]
    assert found[0] == found[1]
    assert len(found[0].strip()) == 64
    assert len(list(tmp_path.glob("*.npz"))) == 1


# Settings


def test_settings_out_of_their_range_are_refused():
    with pytest.raises(BadInput, match=r"^--synthesis\.minutes: found nan, expected above 0, at most 600$"):
        load_synthetic(Synthesis(minutes=float("nan")))
    with pytest.raises(BadInput, match=r"^--synthesis\.snr: found 200\.0, expected -20 to 100$"):
        load_synthetic(Synthesis(snr=(10.0, 200.0)))


# The user's own recordings


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five speakers with four recordings each in TIMIT's layout: hisses, hums and silence of known length."""
    root = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(0)
    time = np.arange(4_800) / RATE
    for speaker in range(5):
        place = root / "DR1" / f"FAB{speaker}"
        place.mkdir(parents=True)
        for number in range(4):
            hiss = np.diff(random.normal(0, 0.05, 4_801))
            hum = 0.2 * np.sin(2 * np.pi * (150 + 20 * speaker) * time) + random.normal(0, 1e-3, 4_800)
            quiet = random.normal(0, 1e-4, 4_800)
            soundfile.write(place / f"SX{number}.WAV", np.concatenate([quiet, hiss, hum, quiet]), RATE, "PCM_16")
            (place / f"SX{number}.PHN").write_text("0 4800 h#\n4800 9600 s\n9600 14400 iy\n14400 19200 h#\n")
            (place / f"SX{number}.TXT").write_text("0 19200 See.\n")
    return root


def test_own_recordings_are_split_by_speaker(folder):
    found = load_recordings(folder, skip_bad=False, seed=0)
    dataset = found.dataset
    speakers = {split: {u.speaker for u in found.utterances[split]} for split in SPLITS}
    assert sum(map(len, speakers.values())) == len(set.union(*speakers.values())) == 5
    frames = 1 + (19_200 - WINDOW) // STEP
    assert dataset.provenance.rows == 20 * frames
    assert dataset.provenance.licence == "the user's own data"
    assert dataset.provenance.size_bytes == sum(path.stat().st_size for path in folder.rglob("*.WAV"))
    expected = np.full(frames, SILENCE)
    centres = np.arange(frames) * STEP + WINDOW // 2
    expected[(centres >= 4_800) & (centres < 9_600)] = PHONES.index("s")
    expected[(centres >= 9_600) & (centres < 14_400)] = PHONES.index("iy")
    for split in SPLITS:
        for utterance in found.utterances[split]:
            assert utterance.text == "See."
            assert utterance.noise == ""
            assert utterance.name.startswith(f"DR1/{utterance.speaker}/SX")
            data = dataset.splits[split]
            np.testing.assert_array_equal(data.labels[utterance.start : utterance.end], expected)
            hiss, hum = (
                data.inputs[utterance.start : utterance.end][expected == PHONES.index(p)].mean(0) for p in ("s", "iy")
            )
            assert hiss[-10:].mean() > hum[-10:].mean() + 0.5
            assert hum[:3].mean() > hiss[:3].mean()


def test_a_labelled_folder_is_normalised_with_what_training_found(folder):
    trained = load_recordings(folder, skip_bad=False, seed=0)
    split, utterances, said = read_labelled(folder, trained.normalizer, skip_bad=False)
    assert said == ["20 recordings of 5 speakers, by the name of the folder: FAB0, FAB1, FAB2, FAB3, FAB4"]
    assert len(utterances) == 20
    by_name = {utterance.name: utterance for utterance in utterances}
    for name in SPLITS:
        for utterance in trained.utterances[name]:
            other = by_name[utterance.name]
            np.testing.assert_allclose(
                split.inputs[other.start : other.end],
                trained.dataset.splits[name].inputs[utterance.start : utterance.end],
                atol=1e-5,
            )


def test_bad_recordings_are_refused_or_counted(folder, tmp_path):
    for path in folder.rglob("*.*"):
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    bad = tmp_path / "DR1" / "FAB2" / "SX1.PHN"
    bad.write_text("0 4800 nonsense\n")
    with pytest.raises(BadInput, match=r"SX1\.PHN: line 1: found the label 'nonsense'"):
        load_recordings(tmp_path, skip_bad=False, seed=0)
    with pytest.raises(BadInput, match="nonsense"):
        read_labelled(tmp_path, load_recordings(folder, skip_bad=False, seed=0).normalizer, skip_bad=False)
    found = load_recordings(tmp_path, skip_bad=True, seed=0)
    assert sum(len(found.utterances[split]) for split in SPLITS) == 19
    (note,) = (note for note in found.dataset.provenance.understood if "skipped" in note)
    assert note.startswith("1 bad recordings skipped, the first: ")
    assert "line 1: found the label 'nonsense'" in note
    assert isinstance(found, Speech)


def test_labels_that_are_no_phone_are_left_out(folder, tmp_path):
    for path in (folder / "DR1" / "FAB0").iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content.replace(b"9600 14400 iy", b"9600 14400 spn"))
    found = load_recordings(tmp_path, skip_bad=False, seed=0)
    for split in found.dataset.splits.values():
        labels = split.labels.reshape(-1, 1 + (19_200 - WINDOW) // STEP)
        np.testing.assert_array_equal(labels, np.tile(labels[0], (len(labels), 1)))
        centres = np.arange(labels.shape[1]) * STEP + WINDOW // 2
        np.testing.assert_array_equal(labels[0] == IGNORED, (centres >= 9_600) & (centres < 14_400))
    assert found.dataset.provenance.understood == (
        f"4 recordings of 1 speaker, by the name of the folder: {tmp_path.name}",
        "labels that aren't phones, 4 of 8, are left out of training and scoring: 'spn' (4 times)",
        "sentences drawn at random, as there is 1 speaker; 1 of them for test",
        f"120 of {4 * labels.shape[1]} frames are left out of training and scoring",
        f"1 test speaker is also in training: {tmp_path.name}",
    )

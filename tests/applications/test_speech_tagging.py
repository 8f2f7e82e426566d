import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from praatio import textgrid
from rapidfuzz.distance import Levenshtein
from sklearn.metrics import accuracy_score, confusion_matrix

from applications import run, speech_tagging
from applications.speech import evaluation as speech_evaluation
from applications.speech.windows import FRAMES, MARGIN, WINDOWS, frame_segments, segments, tag_windows
from applications.speech_tagging import Train, main
from data import speech
from data.acoustics import BANDS, RATE, STEP, WINDOW, Normalizer, log_mel
from data.dataset import BadInput, Split
from data.phones import PHONES
from data.recordings import read_audio
from templates import recurrent

ROOT = Path(__file__).parents[2]
SOUNDS = {"s": 2, "iy": 220, "m": 700, "h#": 0}  # hisses and hums of so many hertz
TINY = ("--layers", "1", "--units", "8", "--batch-size", "4", "--seeds", "1")


def sound(phone, samples, random):
    if phone == "s":
        return np.diff(random.normal(0, 0.05, samples + 1))
    hum = 0.2 * np.sin(2 * np.pi * SOUNDS[phone] * np.arange(samples) / RATE) if SOUNDS[phone] else 0
    return hum + random.normal(0, 1e-3 if SOUNDS[phone] else 1e-4, samples)


def recordings(folder, *, speakers=5, sentences=4, label=lambda phone, random: phone):
    """Speakers in TIMIT's layout who hiss and hum; `label` may lie about what is heard."""
    random = np.random.default_rng(0)
    for speaker in range(speakers):
        place = folder / "DR1" / f"FAB{speaker}"
        place.mkdir(parents=True)
        for number in range(sentences):
            phones = ["h#", *random.choice(["s", "iy", "m"], 4 + number), "h#"]
            edges = np.concatenate([[0], np.cumsum(random.integers(1_500, 4_000, len(phones)))]).tolist()
            spans = list(zip(edges, edges[1:], phones, strict=False))
            samples = np.concatenate([sound(phone, end - start, random) for start, end, phone in spans])
            soundfile.write(place / f"SX{number}.WAV", samples, RATE, "PCM_16")
            lines = [f"{start} {end} {label(phone, random)}\n" for start, end, phone in spans]
            (place / f"SX{number}.PHN").write_text("".join(lines))
    return folder


def network(**given):
    return speech_tagging.Network(speech_tagging.with_recipe(Train(**given)))


def make_lean(patch):
    """No pictures, no report, and the majority in place of the perceptron: for runs whose network alone matters."""
    patch.setattr(speech_evaluation, "draw", lambda *_: {"figures": {}})
    patch.setattr("reports.report.typeset", lambda *_: b"")
    constant = speech_evaluation.majority
    patch.setattr(speech_evaluation, "CONTEXTS", (0, 2))
    patch.setattr(speech_evaluation, "BASELINES", {"majority phone": constant, "perceptron": constant})


@pytest.fixture
def lean(monkeypatch):
    make_lean(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def own(folder, tmp_path_factory):
    """A run on recordings that are easy to tag, long enough to learn them."""
    out = tmp_path_factory.mktemp("own") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_lean(patch)
        words = ["--timit", str(folder), *TINY, "--epochs", "20", "--learning-rate", "0.05", "--out", str(out)]
        return out, main(words)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run on synthetic speech."""
    pytest.importorskip("espeakng_loader")
    cache, out = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("quick") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(speech.CACHE_VARIABLE, str(cache))
        words = ["--synthesis.minutes", "1", "--synthesis.speakers", "6", "--no-bidirectional"]
        metrics = main([*TINY, "--quick", *words, "--out", str(out)])
        corpus = speech.load_synthetic(speech.Synthesis(minutes=1, speakers=6))
    return out, metrics, corpus


def program(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "applications" / "speech_tagging.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def tags_of(model_path, inputs):
    """The saved model's tags of one sentence (time, bands), unpadded and alone."""
    return np.asarray(keras.models.load_model(model_path).predict_on_batch(inputs[None])["tag"])[0]


def collapsed(labels):
    return labels[np.append(True, np.diff(labels) != 0)].tolist()


# --- A run ---


def test_run_leaves_what_it_promises(quick):
    folder, metrics, _ = quick
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "figures", "history.csv", "metrics.json", "model.keras", "report.pdf")
    ]
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    history = pd.read_csv(folder / "history.csv")
    expected = {"LSTM 1": 2, "logistic regression 1": 2, "perceptron 1": 2}
    assert history.groupby("stage")["epoch"].max().to_dict() == expected
    drawn = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert {"models", "learning", "confusion", "context", "network", "by_noise", "example_worst"} <= drawn


def test_metrics_follow_the_schema_of_all_applications(quick, assert_schema):
    _, metrics, _ = quick
    assert_schema(metrics, speech_evaluation.Metrics)
    models = ["LSTM", "majority phone", "logistic regression", "perceptron"]
    assert [result["model"] for result in metrics["results"]] == models
    assert [result["baseline"] for result in metrics["results"]] == [False, True, True, True]
    for result in metrics["results"]:
        assert list(result["metrics"]) == list(metrics["evaluation"]["measures"])
        for value in result["metrics"].values():
            assert 0 <= value["low"] <= value["high"]
            assert value["value"] == pytest.approx(np.mean(value["seeds"]))
    assert metrics["results"][0]["metrics"]["frame_accuracy"]["value"] == metrics["headline"]["value"]
    for difference in metrics["differences"]:
        better, worse = (
            next(r["metrics"]["frame_accuracy"]["value"] for r in metrics["results"] if r["model"] == difference[which])
            for which in ("better", "worse")
        )
        assert difference["value"] == pytest.approx(better - worse)


def test_numbers_are_those_of_the_saved_model_on_the_test_split(quick):
    folder, metrics, corpus = quick
    assert metrics["data"]["sha256"] == corpus.dataset.provenance.sha256
    test, train = corpus.dataset.splits["test"], corpus.dataset.splits["train"]
    sentences = [slice(u.start, u.end) for u in corpus.utterances["test"]]
    model = keras.models.load_model(folder / "model.keras")
    found = [np.asarray(model.predict_on_batch(test.inputs[s][None])["tag"])[0] for s in sentences]
    measured = {
        result["model"]: {name: value["seeds"][0] for name, value in result["metrics"].items()}
        for result in metrics["results"]
    }
    # Padding and batches round otherwise, so a tie may fall otherwise.
    assert measured["LSTM"]["frame_accuracy"] == pytest.approx(
        accuracy_score(test.labels, np.concatenate(found)), abs=2e-3
    )
    edits = sum(
        Levenshtein.distance(collapsed(test.labels[s]), collapsed(f)) for s, f in zip(sentences, found, strict=True)
    )
    phones = sum(len(collapsed(test.labels[s])) for s in sentences)
    assert measured["LSTM"]["phone_error_rate"] == pytest.approx(edits / phones, abs=2e-2)
    counts = np.array(metrics["confusion_matrix"])
    expected = confusion_matrix(test.labels, np.concatenate(found), labels=range(len(PHONES)))
    assert np.abs(counts - expected).sum() <= 2 * 2e-3 * len(test)
    assert np.trace(counts) / counts.sum() == pytest.approx(measured["LSTM"]["frame_accuracy"])
    majority = np.mean(test.labels == np.bincount(train.labels).argmax())
    assert measured["majority phone"]["frame_accuracy"] == pytest.approx(majority)
    assert measured["majority phone"]["boundary_f1"] == 0
    for example in metrics["examples"]:
        own = sentences[example["sentence"]]
        assert example["frame_accuracy"] == pytest.approx(
            np.mean(found[example["sentence"]] == test.labels[own]), abs=0.02
        )


def test_report_says_the_headline_and_is_typeset_again_the_same(quick, assert_pdf):
    folder, metrics, _ = quick
    headings = ("Results", "Effect of context", "Errors", "Sentences", "Data", "Model and training")
    text = assert_pdf(folder / "report.pdf", [*headings, "Limitations", "Reproducing this run"], pages=(4, 8))
    for value in metrics["results"][0]["metrics"].values():
        assert f"{100 * value['value']:.1f} % ({100 * value['low']:.1f} to {100 * value['high']:.1f} %)" in text
    before = (folder / "report.pdf").read_bytes()
    main(["report", "--run", str(folder)])
    assert (folder / "report.pdf").read_bytes() == before


@pytest.mark.slow
def test_same_seed_gives_the_same_numbers_and_another_seed_other_models(folder, tmp_path, lean):
    words = ["--timit", str(folder), *TINY, "--epochs", "2", "--no-bidirectional"]
    first, both = (main([*words, "--seeds", seeds, "--out", str(tmp_path / seeds)]) for seeds in ("1", "2"))
    for name in ("data", "confusion_matrix", "confusions", "context", "examples", "model"):
        assert both[name] == first[name]
    one, other = both["results"][0]["metrics"]["phone_error_rate"]["seeds"]
    assert [one] == first["results"][0]["metrics"]["phone_error_rate"]["seeds"]
    assert both["results"][0]["metrics"]["phone_error_rate"]["deviation"] == pytest.approx(abs(one - other) / 2**0.5)
    histories = [pd.read_csv(tmp_path / seeds / "history.csv").drop(columns="stage") for seeds in ("1", "2")]
    pd.testing.assert_frame_equal(histories[1][:2], histories[0])
    assert not np.isclose(histories[1][:2]["loss"], histories[1][2:]["loss"]).any()


def test_easy_recordings_are_learnt(own, report_text):
    out, metrics = own
    assert metrics["headline"]["value"] > 0.9
    assert metrics["results"][0]["metrics"]["phone_error_rate"]["value"] < 0.4
    assert "has not learned to tag" not in report_text(speech_tagging.REPORT, metrics)
    layer = keras.models.load_model(out / "model.keras").get_layer("tags")
    assert tuple(layer.names) == PHONES


def test_shuffled_labels_are_told_from_speech(tmp_path, lean, report_text):
    liars = recordings(tmp_path / "liars", sentences=6, label=lambda phone, random: random.choice(PHONES))
    metrics = main(["--timit", str(liars), *TINY, "--no-bidirectional", "--epochs", "4", "--out", str(tmp_path / "a")])
    assert "has not learned to tag phones" in report_text(speech_tagging.REPORT, metrics)


# --- Windows, context and times, by hand ---


@pytest.fixture(scope="module")
def sentences():
    """Sentences of 1 to 100 random frames."""
    random = np.random.default_rng(0)
    ends = np.cumsum([1, 3, 11, 60, 100, 2, 37]).tolist()
    utterances = [
        speech.Utterance(str(end), "s", "", "", start, end) for start, end in zip([0, *ends], ends, strict=False)
    ]
    inputs = random.normal(size=(ends[-1], BANDS)).astype(np.float32)
    return speech_evaluation.Sentences(Split(inputs, random.integers(0, len(PHONES), ends[-1])), utterances)


def test_windows_repeat_the_ends_of_their_own_sentence(sentences):
    frames = np.random.default_rng(1).permutation(len(sentences.split))
    found = sentences.windows(frames).reshape(len(frames), 2 * speech_evaluation.REACH + 1, BANDS)
    for frame, window in zip(frames, found, strict=True):
        (own,) = (u for u in sentences.utterances if u.start <= frame < u.end)
        for place, row in enumerate(window):
            neighbour = frame + place - speech_evaluation.REACH
            expected = min(max(neighbour, own.start), own.end - 1)
            np.testing.assert_array_equal(row, sentences.split.inputs[expected])


@pytest.mark.parametrize("side", ["past", "future", "both"])
def test_context_shows_so_many_frames_of_the_sentence_and_no_more(sentences, side):
    shown = []

    def probabilities(inputs):
        """Right at no frame; remembers what it was shown."""
        shown.append(inputs)
        return np.zeros((*inputs.shape[:2], len(PHONES)))

    found = speech_evaluation.context(probabilities, sentences, seed=3)
    assert found[side].shape == (len(speech_evaluation.CONTEXTS), len(sentences.split))
    np.testing.assert_array_equal(found["frames"], np.arange(len(sentences.split)))  # all, as there are few
    np.testing.assert_array_equal(found[side], np.tile(sentences.split.labels == 0, (len(found[side]), 1)))
    first = ("past", "future", "both").index(side) * len(speech_evaluation.CONTEXTS)
    for reach, inputs in zip(speech_evaluation.CONTEXTS, shown[first:], strict=False):
        for frame, row in enumerate(inputs):
            (own,) = (u for u in sentences.utterances if u.start <= frame < u.end)
            start = max(own.start, frame - reach) if side != "future" else frame
            end = min(own.end, frame + reach + 1) if side != "past" else frame + 1
            np.testing.assert_array_equal(row[: end - start], sentences.split.inputs[start:end])
            assert not row[end - start :].any()


def test_context_of_the_whole_sentence_gives_its_tags(sentences):
    assert speech_evaluation.CONTEXTS[-1] >= max(map(len, sentences.labels))
    for bidirectional in (True, False):
        keras.utils.set_random_seed(0)
        model = recurrent.lstm(features=BANDS, outputs=len(PHONES), units=(8,), bidirectional=bidirectional)
        whole = [np.asarray(model.predict_on_batch(rows[None]))[0].argmax(-1) for rows in sentences.inputs]
        batched = speech_evaluation.tags(lambda x, model=model: model.predict_on_batch(x).argmax(-1), sentences)
        for one, other in zip(whole, batched, strict=True):
            np.testing.assert_array_equal(one, other)
        single = np.asarray(model.predict_on_batch(sentences.split.inputs[:, None]))[:, 0].argmax(-1)
        # Labels that are the network's own tags, but for every third frame.
        tags = np.concatenate(whole)
        labels = np.where(np.arange(len(tags)) % 3, tags, (tags + 1) % len(PHONES))
        own = speech_evaluation.Sentences(Split(sentences.split.inputs, labels), sentences.utterances)
        found = speech_evaluation.context(model.predict_on_batch, own, seed=0)
        np.testing.assert_array_equal(found["both"][-1], tags == labels)
        for side in ("past", "future", "both"):
            np.testing.assert_array_equal(found[side][0], single == labels)
        if bidirectional:
            assert (found["past"][-1] != found["both"][-1]).any()
        else:
            np.testing.assert_array_equal(found["past"], found["both"])
            np.testing.assert_array_equal(found["future"][-1], found["future"][0])


def test_segments_change_half_way_between_the_centres_of_frames():
    labels = np.array([4, 4, 4, 7, 2, 2])
    assert [(round(a, 9), round(b, 9), c) for a, b, c in frame_segments(labels)] == [
        (0, 0.03, 4),
        (0.03, 0.04, 7),
        (0.04, 0.06, 2),
    ]
    seconds = (5 * STEP + WINDOW + 33) / RATE
    found = segments(labels, seconds)
    centres = (np.arange(6) * STEP + WINDOW / 2) / RATE
    assert [label for *_, label in found] == [4, 7, 2]
    np.testing.assert_allclose(
        [time for start, end, _ in found for time in (start, end)],
        [0, *[centres[2:4].mean()] * 2, *[centres[3:5].mean()] * 2, seconds],
    )
    assert segments(np.array([5]), 0.03) == [(0, 0.03, 5)]


# --- Tagging in windows ---

KEPT = FRAMES - 2 * MARGIN
LENGTHS = sorted(
    {
        *(1, 2, MARGIN, FRAMES - MARGIN),
        *(whole + more for whole in (FRAMES, FRAMES + KEPT, FRAMES + (WINDOWS - 1) * KEPT) for more in (-1, 0, 1)),
        *(FRAMES + WINDOWS * KEPT + more for more in (-1, 0, 1)),
        *(2 * WINDOWS * FRAMES, 40_321),
    }
)


def blocks_of(frames, size=4_096):
    return (frames[start : start + size] for start in range(0, len(frames), size))


@pytest.mark.parametrize("size", [77, 4_096])
@pytest.mark.parametrize("length", LENGTHS)
def test_windows_give_each_frame_its_tag_once_in_order(length, size):
    numbers = np.arange(1, length + 1, dtype=np.float32)[:, None]
    context = []

    def predict(windows):
        assert windows.shape == (WINDOWS, FRAMES, 1)
        held = (windows != 0).sum(axis=1)  # frames of each window, the rest is padding
        place = np.arange(FRAMES)
        context.append(
            np.stack([windows[:, :, 0], np.broadcast_to(place, (WINDOWS, FRAMES)), held - 1 - place], axis=-1)
        )
        return windows[:, :, 0].astype(np.int64)

    found = np.concatenate(list(tag_windows(predict, blocks_of(numbers, size))))
    np.testing.assert_array_equal(found, np.arange(1, length + 1))
    # Some window shows each frame with at least `MARGIN` frames to either side, or as many as there are.
    rows = np.concatenate(context).reshape(-1, 3)
    rows = rows[rows[:, 0] > 0]
    before, after = rows[:, 0] - 1, length - rows[:, 0]
    enough = (rows[:, 1] >= np.minimum(before, MARGIN)) & (rows[:, 2] >= np.minimum(after, MARGIN))
    assert set(rows[enough, 0]) == set(range(1, length + 1))


def test_the_tags_that_are_kept_had_context_to_both_sides():
    length = 20_000
    numbers = np.arange(1, length + 1, dtype=np.float32)[:, None]

    def predict(windows):
        held = (windows != 0).sum(axis=1)
        return np.minimum(np.arange(FRAMES), held - 1 - np.arange(FRAMES))

    nearest = np.concatenate(list(tag_windows(predict, blocks_of(numbers))))
    ends = np.minimum(np.arange(length), np.arange(length)[::-1])
    assert (nearest >= np.minimum(ends, MARGIN)).all()


def test_windows_hold_no_more_than_a_batch():
    taken = given = most = 0

    def blocks():
        nonlocal taken
        for _ in range(400):
            taken += 500
            yield np.ones((500, 1), np.float32)

    for tags in tag_windows(lambda windows: windows[:, :, 0], blocks()):
        most = max(most, taken - given)
        given += len(tags)
    assert taken == given == 200_000
    assert most <= WINDOWS * FRAMES + 500


def test_tags_of_windows_are_those_of_the_whole():
    keras.utils.set_random_seed(0)
    model = recurrent.lstm(features=BANDS, outputs=len(PHONES), units=(16,), bidirectional=True)
    frames = np.random.default_rng(0).normal(size=(5_000, BANDS)).astype(np.float32)
    whole = np.asarray(model.predict_on_batch(frames[None]))[0].argmax(-1)
    assert len(np.unique(whole)) > 10
    found = np.concatenate(list(tag_windows(lambda x: model.predict_on_batch(x).argmax(-1), blocks_of(frames))))
    assert np.mean(found == whole) > 0.99


def test_windows_of_a_context_give_each_frame_its_tag_once_in_order():
    numbers = np.arange(1, 3_001, dtype=np.float32)[:, None]

    def predict(windows):
        assert windows.shape == (WINDOWS, 128, 1)
        return windows[:, :, 0].astype(np.int64)

    found = np.concatenate(list(tag_windows(predict, blocks_of(numbers, 500), 128)))
    np.testing.assert_array_equal(found, np.arange(1, 3_001))


@pytest.mark.parametrize(("context", "margin"), [(16, 4), (16, 0), (7, 3), (1, 0)])
def test_sentences_are_cut_into_few_windows_of_which_the_middle_is_kept(context, margin):
    for length in range(1, 100):
        windows = speech_evaluation.cut(length, context, margin)
        kept = [frame for _, _, first, last in windows for frame in range(first, last)]
        assert kept == list(range(length))
        for start, end, first, last in windows:
            assert 0 <= start <= first < last <= end <= length
            assert end - start == min(length, context)
            assert first - start >= min(margin, first)
            assert end - last >= min(margin, length - last)
        # With one window fewer, the windows would not reach that far.
        assert len(windows) == 1 or (len(windows) - 1) * (context - 2 * margin) + 2 * margin < length
    assert speech_evaluation.cut(99, None, margin) == [(0, 99, 0, 99)]


def test_long_sentences_are_tagged_in_windows(sentences):
    context = 64

    def predict(windows):
        """Of each frame its first band, the number of its place in the corpus."""
        assert windows.shape[1] <= context
        return windows[:, :, 0].astype(np.int64)

    numbers = np.zeros((len(sentences.split), BANDS), np.float32)
    numbers[:, 0] = np.arange(1, len(numbers) + 1)
    numbered = speech_evaluation.Sentences(Split(numbers, sentences.split.labels), sentences.utterances)
    found = speech_evaluation.tags(predict, numbered, context)
    np.testing.assert_array_equal(np.concatenate(found), np.arange(1, len(numbers) + 1))
    inputs, labels = numbered.pieces(context)
    assert [len(piece) for piece in inputs] == [1, 3, 11, 60, 64, 64, 2, 37]
    for piece, of_piece in zip(inputs, labels, strict=True):
        np.testing.assert_array_equal(of_piece, sentences.split.labels[piece[:, 0].astype(int) - 1])
    assert set(np.concatenate(inputs)[:, 0]) == set(numbers[:, 0])
    drawn = [numbered.pieces(context, np.random.default_rng(seed))[0] for seed in range(20)]
    for pieces in drawn:
        assert len(pieces) == len(inputs) + 1  # of the only long sentence one more
        assert set(np.concatenate(pieces)[:, 0]) == set(numbers[:, 0])
        assert all(np.ptp(piece[:, 0]) == len(piece) - 1 <= context - 1 for piece in pieces)
    assert len({piece[0, 0] for pieces in drawn for piece in pieces}) > len(inputs) + 10


def test_context_that_a_network_cannot_see_is_not_shown(sentences):
    shown = {}

    def probabilities(inputs):
        shown.setdefault(limit, []).append(inputs)
        return np.zeros((*inputs.shape[:2], len(PHONES)))

    for limit in (None, 8):
        speech_evaluation.context(probabilities, sentences, 3, limit)
    assert [inputs.shape[1] for inputs in shown[8]] == [*2 * [1, 2, 3, 4, 6], 1, 3, 5, 7]
    short = [inputs for inputs in shown[None] if inputs.shape[1] <= 8]
    for limited, whole in zip(shown[8], short, strict=True):
        np.testing.assert_array_equal(limited, whole)


def test_places_begin_as_waves_whose_likeness_depends_on_the_distance():
    waves = speech_tagging.sinusoids(64, 12)
    np.testing.assert_allclose(waves[:, 0], np.sin(np.arange(64)))
    np.testing.assert_allclose(waves[:, 11], np.cos(np.arange(64) * 10_000 ** (-10 / 12)))
    likeness = waves @ waves.T
    np.testing.assert_allclose(likeness[1:, 1:], likeness[:-1, :-1])
    model = network(template="transformer_encoder", layers=1, units=12).build()
    np.testing.assert_allclose(model.get_layer("positions").get_weights()[0], waves, atol=1e-6)


# --- The commands after training ---


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    """Twelve seconds of known sounds, more than a window."""
    random = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("wav") / "speech.wav"
    phones = ["h#", *random.choice(["s", "iy", "m"], 58), "h#"]
    samples = np.concatenate([sound(phone, 3_210, random) for phone in phones])
    soundfile.write(path, samples, RATE, "PCM_16")
    return path


def test_tag_writes_the_models_tags(own, wav, tmp_path, capsys):
    folder, _ = own
    model = folder / "model.keras"
    said = main(["tag", "--model", str(model), "--wav", str(wav), "--out", str(tmp_path), "--start", "7"])
    samples, seconds = read_audio(wav)
    normalizer = Normalizer.from_config(keras.models.load_model(model).get_layer("tags").metadata["normalizer"])
    expected = tags_of(model, normalizer.apply(log_mel(samples)))
    assert len(said["labels"]) == len(expected) > FRAMES
    assert np.mean(said["labels"] == expected) > 0.99
    heard = np.repeat(["sil", "", "sil"], [20, len(expected) - 40, 20])
    assert np.mean([PHONES[tag] == name for tag, name in zip(expected, heard, strict=True) if name]) > 0.8

    (tier,) = textgrid.openTextgrid(str(tmp_path / "speech.TextGrid"), includeEmptyIntervals=True).tiers
    starts, ends, labels = (list(column) for column in zip(*tier.entries, strict=True))
    assert (starts[0], ends[-1]) == (0, pytest.approx(seconds, abs=1e-6))
    assert starts[1:] == ends[:-1]
    assert all(one != other for one, other in itertools.pairwise(labels))
    centres = (np.arange(len(expected)) * STEP + WINDOW / 2) / RATE
    assert [labels[i] for i in np.searchsorted(starts, centres) - 1] == [PHONES[tag] for tag in said["labels"]]
    picture = (tmp_path / "speech.svg").read_text()
    assert picture.startswith(("<svg", "<?xml"))
    assert "found" in picture
    assert f"{len(labels)} segments in {seconds:.1f} s" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speech.TextGrid", "speech.svg"]


@pytest.mark.parametrize("start", ["0", "5.97", "12.03"])
def test_the_picture_may_begin_anywhere(own, wav, tmp_path, start):
    words = ["tag", "--model", str(own[0] / "model.keras"), "--wav", str(wav), "--out", str(tmp_path)]
    main([*words, "--start", start])
    assert (tmp_path / "speech.svg").stat().st_size > 0


@pytest.mark.parametrize(("samples", "rate"), [(400, RATE), (1_700, 22_050)])
def test_a_short_recording_of_any_rate_is_tagged(own, tmp_path, samples, rate):
    soundfile.write(tmp_path / "short.wav", np.random.default_rng(0).normal(0, 0.1, samples), rate, "PCM_16")
    words = ["tag", "--model", str(own[0] / "model.keras"), "--wav", str(tmp_path / "short.wav")]
    said = main([*words, "--out", str(tmp_path)])
    assert said["segments"][0][0] == 0
    assert said["segments"][-1][1] == said["seconds"] == samples / rate
    assert len(said["labels"]) == 1 + (int(np.ceil(samples * RATE / rate)) - WINDOW) // STEP


def test_tag_refuses_what_it_cannot_do_and_loses_nothing(own, wav, tmp_path):
    model, out = own[0] / "model.keras", tmp_path / "out"
    soundfile.write(tmp_path / "slow.wav", np.zeros(RATE), 7_999)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    (tmp_path / "cut.keras").write_bytes(model.read_bytes()[:-50])

    def refused(said, *, model=model, wav=wav, more=()):
        with pytest.raises(BadInput, match=said) as raised:
            main(["tag", "--model", str(model), "--wav", str(wav), "--out", str(out), *more])
        assert "\n" not in str(raised.value)

    refused(r"--start: found 12\.5, expected a second of the recording", more=["--start", "12.5"])
    refused(r"--start: found -1", more=["--start", "-1"])
    refused(r"--start: found nan", more=["--start", "nan"])
    refused(r"other\.keras: found another model .*expected the model\.keras", model=tmp_path / "other.keras")
    refused(r"cut\.keras: found .*expected the model\.keras", model=tmp_path / "cut.keras")
    refused(r"config\.json: found another kind of file", model=own[0] / "config.json")
    refused(r"none\.keras: found no such file", model=tmp_path / "none.keras")
    refused(r"slow\.wav: found 7,999 samples per second", wav=tmp_path / "slow.wav")
    assert not out.exists()
    out.mkdir()
    for suffix in (".TextGrid", ".svg"):
        (out / f"speech{suffix}").write_text("mine")
        refused(rf"speech\{suffix}: found an existing file")
        assert [path.read_text() for path in out.iterdir()] == ["mine"]
        (out / f"speech{suffix}").unlink()


def test_unusable_input_leaves_with_code_2_and_one_line(own, tmp_path):
    soundfile.write(tmp_path / "slow.wav", np.zeros(RATE), 7_999)
    words = ["--model", str(own[0] / "model.keras"), "--wav", "slow.wav", "--out", "out"]
    done = program("tag", *words, cwd=tmp_path)
    _, errors = done.communicate()
    assert done.returncode == 2
    assert len(errors.splitlines()) == 1
    assert "slow.wav: found 7,999 samples per second" in errors
    assert [path.name for path in tmp_path.rglob("*")] == ["slow.wav"]


def test_evaluate_measures_without_training(own, folder, capsys):
    out, metrics = own
    found = main(["evaluate", "--model", str(out / "model.keras"), "--timit", str(folder)])["metrics"]
    corpus = speech.load_recordings(folder, skip_bad=False, seed=0)
    truth, tags = [], []
    for name, utterances in corpus.utterances.items():
        for u in utterances:
            truth.append(corpus.dataset.splits[name].labels[u.start : u.end])
            tags.append(corpus.dataset.splits[name].inputs[u.start : u.end])
    model = keras.models.load_model(out / "model.keras")
    tags = [np.asarray(model.predict_on_batch(rows[None])["tag"])[0] for rows in tags]
    expected = accuracy_score(np.concatenate(truth), np.concatenate(tags))
    assert found["frame_accuracy"]["value"] == pytest.approx(expected, abs=2e-3)
    assert found["frame_accuracy"]["low"] <= expected <= found["frame_accuracy"]["high"]
    printed = capsys.readouterr().out
    assert f"20 recordings, {metrics['data']['rows']:,} frames, 5 speakers" in printed
    assert f"{found['phone_error_rate']['value']:.3f}" in printed


# --- Choices ---


def test_init_from_goes_on_with_the_weights(own, folder, tmp_path, lean):
    out, metrics = own
    words = ["--timit", str(folder), *TINY, "--epochs", "1", "--init-from", str(out / "model.keras")]
    onward = main([*words, "--learning-rate", "1e-12", "--out", str(tmp_path / "a")])
    for name, value in metrics["results"][0]["metrics"].items():
        assert onward["results"][0]["metrics"][name]["value"] == pytest.approx(value["value"])
    assert onward["confusion_matrix"] == metrics["confusion_matrix"]
    before, after = (keras.models.load_model(p / "model.keras").get_weights() for p in (out, tmp_path / "a"))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    with pytest.raises(BadInput, match=r"--init-from .*model\.keras: found weights of .*, expected .* --units"):
        main([*words, "--units", "9", "--out", str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


def test_bad_recordings_stop_a_run_or_are_counted(folder, tmp_path, lean):
    shutil.copytree(folder, tmp_path / "folder")
    (tmp_path / "folder" / "DR1" / "FAB0" / "SX1.PHN").write_text("0 4800 nonsense\n")
    words = ["--timit", str(tmp_path / "folder"), *TINY, "--epochs", "1", "--template", "simple_rnn"]
    with pytest.raises(BadInput, match=r"SX1\.PHN: line 1: found the label 'nonsense'"):
        main([*words, "--out", str(tmp_path / "a")])
    assert not (tmp_path / "a").exists()
    metrics = main([*words, "--skip-bad", "--out", str(tmp_path / "b")])
    assert sum(metrics["data"]["sentences"].values()) == 19
    assert any(note.startswith("1 bad recordings skipped") for note in metrics["data"]["understood"])
    assert metrics["headline"]["model"] == "BRNN"


@pytest.mark.slow
def test_one_speaker_and_labels_that_are_no_phone(folder, tmp_path, lean, report_text, capsys):
    shutil.copytree(folder / "DR1" / "FAB0", tmp_path / "anna")
    for path in (tmp_path / "anna").glob("*.PHN"):
        path.write_text(path.read_text().replace(" iy", " spn"))
    words = ["--timit", str(tmp_path / "anna"), *TINY, "--epochs", "60", "--patience", "60", "--learning-rate", "0.05"]
    metrics = main([*words, "--out", str(tmp_path / "run")])
    data = metrics["data"]
    assert data["sentences"] == {"train": 2, "validation": 1, "test": 1}
    assert data["heard"] == 1
    assert data["scored"]["test"] < data["test"]
    assert np.sum(metrics["confusion_matrix"]) == data["scored"]["test"]
    assert [example["kind"] for example in metrics["examples"]] == ["only"]
    assert "1 test speaker is also in training: anna" in capsys.readouterr().out
    text = report_text(speech_tagging.REPORT, metrics)
    assert "unseen speakers" not in text
    assert "The test speaker is also in the training data" in text
    assert "The split is by sentence." in text
    model = str(tmp_path / "run" / "model.keras")
    again = main(["evaluate", "--model", model, "--timit", str(tmp_path / "anna")])["metrics"]
    assert again["frame_accuracy"]["value"] > 0.5
    assert "'spn' (9 times)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        (Train(compare=True, layers=1, units=60), "BLSTM"),
        (Train(compare=True, layers=2, units=30), "deep BLSTM"),
        (Train(compare=True, layers=3, units=20, layer_normalization=True), "3-layer BLSTM"),
        (Train(compare=True, template="gru", bidirectional=False, layers=1, units=70), "GRU"),
        (Train(compare=True, template="transformer_encoder"), "transformer encoder"),
    ],
)
def test_the_family_has_as_many_parameters_and_each_kind_once(settings, own):
    networks = speech_tagging._networks(settings)
    names = [network.name for network in networks]
    assert names[0] == own
    assert len(set(names)) == len(names)
    family = {"RNN", "BRNN", "LSTM", "BLSTM", "GRU", "BGRU", "deep BLSTM", "transformer encoder"}
    assert set(names) == {own} | family
    budget, *others = (network.build().count_params() for network in networks)
    for other, parameters in zip(networks[1:], others, strict=True):
        # The heads divide the transformer's width, so that its sizes are further apart.
        encoder = other.settings.template == "transformer_encoder"
        assert parameters == pytest.approx(budget, rel=0.15 if encoder else 0.05)
    assert settings.units in (None, networks[0].settings.units)


@pytest.mark.slow
def test_a_compared_family_is_in_every_table_and_the_transformer_tags_in_windows(
    folder, wav, tmp_path, monkeypatch, pdf_text, assert_schema
):
    smaller = {"layers": 1, "batch_size": 4, "seeds": 2, "epochs": 3, "learning_rate": 0.03}
    kinds = [
        network(template="transformer_encoder", units=8, **smaller),
        network(template="gru", bidirectional=False, units=6, **smaller),
    ]
    monkeypatch.setattr(speech_tagging, "_networks", lambda settings: kinds)
    draw, typeset = speech_evaluation.draw, run.pdf.typeset
    make_lean(monkeypatch)
    monkeypatch.setattr(speech_evaluation, "draw", draw)
    monkeypatch.setattr("reports.report.typeset", typeset)
    out = tmp_path / "run"
    words = ["--timit", str(folder), *TINY, "--template", "transformer_encoder", "--epochs", "3", "--seeds", "2"]
    words += ["--learning-rate", "0.03"]
    metrics = main([*words, "--out", str(out)])
    assert_schema(metrics, speech_evaluation.Metrics)
    assert [result["model"] for result in metrics["results"]][:2] == ["transformer encoder", "GRU"]
    assert [result.get("units") for result in metrics["results"]] == [8, 6, None, None]
    assert list(metrics["context"]) == ["transformer encoder", "GRU"]
    assert [len(r["metrics"]["frame_accuracy"]["seeds"]) for r in metrics["results"]] == [2, 2, 1, 1]
    assert [(d["better"], d["worse"]) for d in metrics["differences"]].count(("transformer encoder", "GRU")) == 1
    drawn = {path.stem for path in (out / "figures").iterdir()}
    assert {"context_past", "context_future"} <= drawn
    assert "by_noise" not in drawn  # of own recordings no level of noise is known
    stages = {f"{name} {seed}" for name in ("transformer encoder", "GRU") for seed in (1, 2)}
    assert set(pd.read_csv(out / "history.csv")["stage"]) == stages
    model = keras.models.load_model(out / "model.keras")
    assert any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in model.layers)
    assert "64 frames; longer sentences" in pdf_text(out / "report.pdf")

    # Its tags of a long sound are those of the middles of windows of 64 frames.
    said = main(["tag", "--model", str(out / "model.keras"), "--wav", str(wav), "--out", str(tmp_path)])
    normalizer = Normalizer.from_config(model.get_layer("tags").metadata["normalizer"])
    frames = normalizer.apply(log_mel(read_audio(wav)[0]))
    for start in range(0, len(frames) - 64, 32):
        window = np.asarray(model.predict_on_batch(frames[None, start : start + 64])["tag"])[0]
        np.testing.assert_array_equal(said["labels"][start + 16 : start + 48], window[16:48])
    found = main(["evaluate", "--model", str(out / "model.keras"), "--timit", str(folder)])["metrics"]
    assert found["frame_accuracy"]["value"] > 0.5


# --- Stops and bad input ---


def test_a_run_is_not_resumed_on_other_data(folder, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    shutil.copytree(folder, tmp_path / "folder")
    words = ["--timit", str(tmp_path / "folder"), *TINY, "--template", "simple_rnn", "--epochs", "1"]
    words += ["--out", str(tmp_path / "run")]
    monkeypatch.setitem(speech_evaluation.BASELINES, "majority phone", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    (tmp_path / "folder" / "DR1" / "FAB0" / "SX1.PHN").write_text("0 4800 h#\n")
    with pytest.raises(BadInput, match="data that differ from those it was started with"):
        main([*words, "--resume"])
    assert (tmp_path / "run" / "checkpoints" / "BRNN-0.npz").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--timit", "none"], "none: found no such folder"),
        (["--timit", "."], "found no recording"),
        (["--skip-bad"], "found --skip-bad without --timit"),
        (["--template", "transformer_encoder", "--no-bidirectional"], "found --no-bidirectional with --template"),
        (["--template", "transformer_encoder", "--recurrent-dropout", "0.1"], "found --recurrent-dropout with"),
        (["--template", "transformer_encoder", "--units", "30"], "--units: found 30, expected a multiple of 4"),
        (["--compare", "--init-from", "a.keras"], "found --compare and --init-from"),
        (["--init-from", "missing.keras"], "missing.keras: found no such file"),
        (["--resume"], "no unfinished run"),
        (["report", "--run", "."], "metrics.json: found no readable JSON"),
        (["evaluate", "--model", "missing.keras", "--timit", "."], "missing.keras: found no such file"),
    ],
)
def test_unusable_input_is_said(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(speech.CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(BadInput, match=re.escape(said)) as raised:
        main(words)
    assert "\n" not in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

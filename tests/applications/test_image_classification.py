import gzip
import itertools
import json
import math
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.optimize import minimize_scalar
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from applications import classifiers as models
from applications import run
from applications.image_classification import Train, main
from applications.images import evaluation as image_evaluation
from data import cifar, images
from data.dataset import BadInput, Dataset, Provenance, Split

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--cnn.filters", "4", "6", "--cnn.convolutions", "1", "--cnn.dense", "8"),
    *("--dbn.widths", "16", "12", "--dsn.hidden-units", "20", "--dsn.ridge", "1", "--dsn.kernel-deviation", "0.1"),
)
TINY = (*SMALL, "--quick", "--seeds", "1")
DIGITS = images.load("digits")
TEST = DIGITS.splits["test"]
FIGURES = {
    *("models", "sizes", "confusion", "by_class", "answered", "errors", "reliability", "network", "learning"),
    *("cnn_filters", "cnn_grad_cam", "dbn_fields", "dbn_samples", "dbn_training", "dsn_modules"),
}
HEADINGS = (
    *("Results", "Number of labels", "Errors", "Convolutional network"),
    *("Deep belief network", "Deep stacking network", "Data"),
    *("Model and training", "Limitations", "Reproducing this run"),
)
# The program as `make_lean` makes it.
LEAN = """
from applications import image_classification, run
from applications.images import evaluation as image_evaluation
image_evaluation.SHARES, image_evaluation.LIKELIHOOD_STEPS = (1.0,), 20
image_evaluation.draw = lambda *_: {"figures": {}, "losses": {}}
image_evaluation.BASELINES = {"k-NN": image_evaluation.BASELINES["k-NN"]}
run.execute(image_classification.main)
"""


def small(template, **given):
    """Settings of which none is open, for small pictures."""
    return models.with_recipe(Train(preset="small", **given), 8, 8, 900, template)


def make_lean(patch, shares=(1.0,)):
    """No pictures, fewer shares of the labels and one baseline, for runs whose network alone matters."""
    patch.setattr(image_evaluation, "BASELINES", {"k-NN": image_evaluation.BASELINES["k-NN"]})
    patch.setattr(image_evaluation, "draw", lambda *_: {"figures": {}, "losses": {}})
    patch.setattr(image_evaluation, "SHARES", shares)
    patch.setattr(image_evaluation, "LIKELIHOOD_STEPS", 20)


@pytest.fixture
def lean(monkeypatch):
    make_lean(monkeypatch)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """All that a run of all three networks leaves."""
    out = tmp_path_factory.mktemp("quick") / "run"
    return out, main(["--compare", *TINY, "--out", str(out)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small photographs of three classes, in a folder with train, val and test."""
    place = tmp_path_factory.mktemp("photographs")
    for part, number in (("train", 24), ("val", 6), ("test", 12)):
        for index, (picture, label) in enumerate(zip(*pictures(3, number, (12, 10, 3), part), strict=True)):
            path = place / part / ("cat", "dog", "owl")[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return place


@pytest.fixture(scope="module")
def own(folder, tmp_path_factory):
    """A run on photographs."""
    out = tmp_path_factory.mktemp("own") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_lean(patch)
        return out, main(["--template", "dsn", *TINY, "--images", str(folder), "--out", str(out)])


def pictures(classes, number, shape, part="train"):
    """Pictures (number, *shape) that are easy to tell apart, and labels; other ones for each part."""
    patterns = np.random.default_rng(0).integers(0, 256, (classes, *shape))
    labels = np.arange(number) % classes
    noise = np.random.default_rng(sum(map(ord, part))).normal(0, 30, (number, *shape))
    return np.clip(0.7 * patterns[labels] + 40 + noise, 0, 255).astype(np.uint8), labels


def save_npz(path, classes=3, shape=(9, 8), tested=None):
    """An archive like mnist.npz; test pictures are only of the first classes if `tested` says how many."""
    x_train, y_train = pictures(classes, 20 * classes, shape)
    x_test, y_test = pictures(classes, 10 * classes, shape, "test")
    kept = y_test < (tested or classes)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test[kept], y_test=y_test[kept])
    return path


def save_idx(place):
    place.mkdir()
    for prefix, part, number in (("train", "train", 60), ("t10k", "test", 30)):
        x, y = pictures(3, number, (9, 8), part)
        for kind, array in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = header + array.tobytes()
            name = f"{prefix}-{kind}-ubyte"
            if prefix == "train":
                (place / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (place / name).write_bytes(content)
    return place


def save_cifar(place):
    place.mkdir()
    for name in cifar.BATCHES:
        x, y = pictures(10, 20, (32, 32, 3), name)
        batch = {b"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), b"labels": y.tolist()}
        (place / name).write_bytes(pickle.dumps(batch))
    return place


def without_time(metrics):
    """The metrics without what depends on the clock."""
    results = [{k: v for k, v in result.items() if k != "fit_seconds"} for result in metrics["results"]]
    return {k: v for k, v in metrics.items() if k != "timing"} | {"results": results}


def program(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def by_name(metrics):
    return {result["model"]: result for result in metrics["results"]}


def flat(inputs):
    return inputs.reshape(len(inputs), -1) / 255


def pool_of(dataset):
    parts = [dataset.splits[name] for name in ("train", "validation")]
    return np.concatenate([part.inputs for part in parts]), np.concatenate([part.labels for part in parts])


def check_against_model(metrics, probabilities, labels):
    """The figures of a run's own network, of one seed, against scikit-learn's of its model's answers."""
    measured = metrics["results"][0]["metrics"]
    found, confidence = probabilities.argmax(1), probabilities.max(1)
    assert measured["accuracy"]["value"] == pytest.approx(accuracy_score(labels, found))
    expected = -np.log(probabilities.astype(np.float64)[np.arange(len(labels)), labels]).mean()
    assert measured["log_loss"]["value"] == pytest.approx(expected, rel=1e-4)
    error = 0
    for low, high in itertools.pairwise(np.linspace(0, 1, image_evaluation.BINS + 1)):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(np.mean(found[inside] == labels[inside]) - confidence[inside].mean())
    assert measured["calibration_error"]["value"] == pytest.approx(error, abs=1e-5)
    expected = confusion_matrix(labels, found, labels=range(probabilities.shape[1]))
    np.testing.assert_array_equal(metrics["confusion_matrix"], expected)
    right = (found == labels)[np.argsort(-confidence, kind="stable")]
    counted = np.append(0, np.cumsum(right))  # right answers among the most confident ones
    for point in metrics["answered"]:
        pictures = point["share"] * len(labels)
        expected = np.interp(pictures, range(len(counted)), counted) / pictures
        # Equal confidences may be in another order in another batch.
        assert point["value"] == pytest.approx(expected, abs=1.01 / pictures)
    assert metrics["answered"][-1]["value"] == pytest.approx(right.mean())


# --- A run ---


@pytest.mark.slow
def test_run_leaves_what_it_promises(quick):
    out, metrics = quick
    assert sorted(path.name for path in out.iterdir()) == [
        *("config.json", "figures", "history.csv", "metrics.json", "model.keras", "report.pdf")
    ]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert {path.stem for path in (out / "figures").iterdir()} == set(metrics["figures"]) == FIGURES
    layers = keras.models.load_model(out / "model.keras").layers[-1].layers
    drawn = [name for name, *_ in metrics["model"]["layers"]]
    assert [layer.name for layer in layers if layer.name in drawn] == drawn
    assert run.model_notes(out / "model.keras") == {"classes": list("0123456789"), "template": "cnn", "levels": {}}


@pytest.mark.slow
def test_metrics_follow_the_schema_of_all_applications(quick, assert_schema):
    _, metrics = quick
    assert_schema(metrics, image_evaluation.Metrics)
    data = metrics["data"]
    assert data["sha256"] == DIGITS.provenance.sha256
    assert [data[name] for name in ("train", "validation", "test", "rows")] == [718, 180, 899, 1_797]
    for name, split in DIGITS.splits.items():
        assert data["counts"][name] == np.bincount(split.labels).tolist()
    assert (data["shape"], data["labelled"], data["classes"]) == ([8, 8, 1], 898, list("0123456789"))
    names = ["CNN", "DBN", "DSN", "logistic regression", "RBF-SVM", "k-NN"]
    assert [result["model"] for result in metrics["results"]] == names
    assert [result["baseline"] for result in metrics["results"]] == [False] * 3 + [True] * 3
    for result in metrics["results"]:
        assert set(result["metrics"]) == set(image_evaluation.MEASURES)
        for name, value in result["metrics"].items():
            assert 0 <= value["low"] <= value["high"]
            assert value["seeds"] == [value["value"]]
            if name != "calibration_error":  # whose draws are above it
                assert value["low"] <= value["value"] <= value["high"]
    assert metrics["headline"]["model"] == "CNN"
    assert metrics["headline"]["value"] == metrics["results"][0]["metrics"]["accuracy"]["value"]


@pytest.mark.slow
def test_every_comparison_is_that_of_the_results(quick):
    _, metrics = quick
    accuracy = {name: result["metrics"]["accuracy"]["value"] for name, result in by_name(metrics).items()}
    networks, names = ("CNN", "DBN", "DSN"), list(accuracy)
    pairs = [(entry["better"], entry["worse"]) for entry in metrics["differences"]]
    assert pairs == [*(("CNN", name) for name in names[1:]), ("DBN", "DSN")]
    for entry, (better, worse) in zip(metrics["differences"], pairs, strict=True):
        assert entry["value"] == pytest.approx(accuracy[better] - accuracy[worse])
        assert entry["low"] <= entry["value"] <= entry["high"]
    sizes = metrics["sizes"]
    counts = np.bincount(pool_of(DIGITS)[1])
    assert sizes["shares"] == [0.1, 0.3, 1]
    assert sizes["pictures"] == [sum(round(share * n) for n in counts.tolist()) for share in (0.1, 0.3, 1)]
    assert list(sizes["models"]) == ["CNN", "DBN", "DBN without pretraining", "DSN", *names[3:]]
    for name, points in sizes["models"].items():
        assert [point["pictures"] for point in points] == sizes["pictures"]
        assert all(point["low"] <= point["value"] <= point["high"] for point in points)
        if name in accuracy:
            assert points[-1]["value"] == pytest.approx(accuracy[name])
    pretrained, plain = (sizes["models"][name] for name in ("DBN", "DBN without pretraining"))
    for gain, one, other in zip(sizes["pretraining"], pretrained, plain, strict=True):
        assert gain["value"] == pytest.approx(one["value"] - other["value"])
        assert gain["low"] <= gain["value"] <= gain["high"]
    best = max(names[3:], key=accuracy.get)
    assert list(metrics["reliability"]) == [*networks, best]
    for name, points in metrics["reliability"].items():
        assert sum(point["count"] for point in points) == len(TEST)
        right = sum(point["count"] * point["accuracy"] for point in points)
        assert right / len(TEST) == pytest.approx(accuracy[name])


@pytest.mark.slow
def test_numbers_are_those_of_the_saved_model_on_the_test_pictures(quick):
    out, metrics = quick
    model = keras.models.load_model(out / "model.keras")
    probabilities = model.predict(TEST.inputs, verbose=0)
    check_against_model(metrics, probabilities, TEST.labels)
    assert metrics["results"][0]["parameters"] == model.layers[-1].count_params()
    found, confidence = probabilities.argmax(1), probabilities.max(1)
    for label in range(10):
        rows = TEST.labels == label
        expected = np.mean(found[rows] == label)
        assert metrics["accuracy_by_class"][str(label)]["value"] == pytest.approx(expected)
    assert metrics["evaluation"]["majority"] == pytest.approx(np.bincount(TEST.labels).max() / len(TEST))
    errors = metrics["errors"]
    assert len(errors) == image_evaluation.MOST_ERRORS
    for entry in errors:
        index = entry["index"]
        assert entry["row"] == 898 + index  # the test pictures are the second half
        assert (entry["true"], entry["found"]) == (str(TEST.labels[index]), str(found[index]))
        assert entry["true"] != entry["found"]
        assert entry["confidence"] == pytest.approx(float(confidence[index]), rel=1e-4)
    assert min(entry["confidence"] for entry in errors) >= np.sort(confidence[found != TEST.labels])[-24] * (1 - 1e-4)
    counts = np.array(metrics["confusion_matrix"]) * ~np.eye(10, dtype=bool)
    assert metrics["confusions"][0]["pictures"] == counts.max()


@pytest.mark.slow
def test_baselines_are_scikit_learns_with_the_settings_that_are_told(quick):
    _, metrics = quick
    inputs, labels = pool_of(DIGITS)
    results = by_name(metrics)
    values = {name: [float(v) for v in re.findall(r" ([\d.]+)", results[name]["settings"])] for name in results}
    (strength,), (c, width), (neighbours,) = (values[name] for name in ("logistic regression", "RBF-SVM", "k-NN"))
    made = {
        "logistic regression": LogisticRegression(C=strength, max_iter=300),
        "RBF-SVM": SVC(C=c, gamma=width / 64, break_ties=True),
        "k-NN": KNeighborsClassifier(int(neighbours)),
    }
    for name, model in made.items():
        expected = model.fit(flat(inputs), labels).score(flat(TEST.inputs), TEST.labels)
        assert results[name]["metrics"]["accuracy"]["value"] == pytest.approx(expected)
        assert results[name]["metrics"]["log_loss"]["value"] < 1  # their temperature makes sense


def test_baselines_are_fitted_on_every_drawing_that_the_networks_had(tmp_path):
    settings = Train(seed=3, seeds=2, out=tmp_path / "run")
    task = image_evaluation.Task.of(DIGITS, None)
    with run.Run("image_classification", settings) as this_run:
        found = image_evaluation.fit_baselines(this_run, task, settings)["k-NN"]
        assert this_run.limits == [
            "C of the logistic regression and of the RBF-SVM is 10, the largest value tried; larger values may be "
            "better"
        ]
    assert [len(answers) for answers in found.probabilities] == [2, 2, 1]
    neighbours = int(found.settings.removeprefix("k "))
    for seed, answer in zip((3, 4), found.probabilities[0], strict=True):
        drawn = task.labelled(seed, 0.1)
        model = KNeighborsClassifier(neighbours).fit(flat(drawn.inputs), drawn.labels)
        assert np.mean(answer.argmax(1) == TEST.labels) == pytest.approx(model.score(flat(TEST.inputs), TEST.labels))
    assert np.any(found.probabilities[0][0] != found.probabilities[0][1])


@pytest.mark.slow
def test_history_has_each_training_with_its_epochs(quick):
    out, metrics = quick
    history = pd.read_csv(out / "history.csv")
    recipes = metrics["model"]["recipe"]
    expected = {"rbm-1-of-898-0": 2, "rbm-2-of-898-0": 2, "cnn-choice": 2, "dbn-choice": 2}
    for template in ("cnn", "dbn"):
        epochs = recipes[template.upper()]["epochs"]
        assert epochs in (1, 2)
        # With fewer pictures there are more epochs, up to a limit.
        for share, times in (("0.1", models.LONGEST_STRETCH), ("0.3", models.LONGEST_STRETCH), ("1", 1)):
            expected[f"{template}-0-{share}"] = round(epochs * times)
            if template == "dbn":
                expected[f"{template}-0-{share}-plain"] = round(epochs * times)
    for number, share in itertools.product(range(1, recipes["DSN"]["modules"] + 1), ("0.1", "0.3", "1")):
        expected[f"dsn-0-{share}-module-{number}"] = 2
    expected |= {f"dsn-choice-module-{number}": 2 for number in (1, 2)}
    assert history.groupby("stage")["epoch"].max().to_dict() == expected
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
def test_each_network_shows_what_it_has_learnt(quick):
    out, metrics = quick
    cnn, dbn, dsn = (metrics[name] for name in ("cnn", "dbn", "dsn"))
    assert (cnn["filters"], cnn["kernel_size"]) == (4, 3)
    history = pd.read_csv(out / "history.csv")
    errors = history[history["stage"] == "rbm-1-of-898-0"]["reconstruction_error"]
    assert [entry["reconstruction_error"] for entry in dbn["epochs"]] == pytest.approx(errors.tolist())
    assert errors.is_monotonic_decreasing
    likelihood = dbn["log_likelihood"]
    assert dbn["epochs"][-1]["log_likelihood"] == pytest.approx(likelihood["value"])
    assert likelihood["low"] <= likelihood["value"] <= likelihood["high"] < 0
    # The independent pixels' likelihood is about that of fractional pixels.
    share, pixels = flat(pool_of(DIGITS)[0]).mean(0).clip(5e-4, 1 - 5e-4), flat(TEST.inputs)
    expected = (pixels @ np.log(share) + (1 - pixels) @ np.log1p(-share)).mean()
    assert likelihood["independent"] == pytest.approx(expected, rel=0.02)
    assert dsn["chosen"] == len(dsn["modules"]) == metrics["model"]["recipe"]["DSN"]["modules"]
    assert dsn["modules"][-1]["validation_accuracy"] == max(entry["validation_accuracy"] for entry in dsn["modules"])
    assert dsn["modules"][0]["train_accuracy"] > 0.7
    assert 0 < dsn["modules"][0]["train_error"] < 1
    assert dsn["temperature"] > 0


@pytest.mark.slow
def test_alternative_texts_carry_the_numbers(quick):
    _, metrics = quick
    said = {name: figure["alt"].replace("\u00a0", " ") for name, figure in metrics["figures"].items()}
    for result in metrics["results"]:
        accuracy, loss, calibration = (result["metrics"][name]["value"] for name in image_evaluation.MEASURES)
        assert f"{result['model']} {100 * accuracy:.1f} %, {loss:.3f} nats, {100 * calibration:.1f} %" in said["models"]
    least, *_ = metrics["sizes"]["models"]["DSN"]
    assert f"with {least['pictures']}:" in said["sizes"]
    assert f"DSN {100 * least['value']:.1f} %" in said["sizes"]
    first = metrics["confusions"][0]
    assert f"in images: {first['true']} as {first['found']} {first['pictures']}" in said["confusion"]
    accuracy = metrics["accuracy_by_class"]["3"]["value"]
    shown = 1 - accuracy if metrics["evaluation"]["by_class"] == "error" else accuracy
    assert f", 3 {100 * shown:.1f} %, 4 " in said["by_class"]
    for name, entries in (("errors", metrics["errors"][:5]), ("cnn_grad_cam", metrics["cnn"]["grad_cam"])):
        answers = [f"{entry['true']} → {entry['found']}, {entry['confidence']:.2f}" for entry in entries]
        assert said[name].endswith(": " + "; ".join(answers))
    last = metrics["reliability"]["CNN"][-1]
    assert f"CNN, confidence of at least {100 * last['low']:.0f} %: {last['count']} images" in said["reliability"]
    start, end = (metrics["dbn"]["epochs"][place]["reconstruction_error"] for place in (0, -1))
    assert f"from {start:.3g} in epoch 1 to {end:.3g} in epoch 2" in said["dbn_training"]
    assert f"module 1 {100 * metrics['dsn']['modules'][0]['test_accuracy']:.1f} %" in said["dsn_modules"]


def test_what_is_drawn_and_how_follows_from_the_numbers():
    assert [image_evaluation.shown_digits(*case) for case in ((0.991, 1_000), (0.99, 1_000), (0.991, 999))] == [2, 1, 1]
    assert image_evaluation.shown_by_class([0.9, 0.3, 0.4]) == "error"
    assert image_evaluation.shown_by_class([0.7, 0.3, 0.4]) == "accuracy"
    layers = [["stage_1_convolution_1", [8, 8, 4], 36], ["stage_1_normalization_1", [8, 8, 4], 16]]
    layers += [["stage_1_activation_1", [8, 8, 4], 0], ["stage_1_pooling", [4, 4, 4], 0]]
    assert image_evaluation.blocks(layers) == [
        ("stage_1_convolution_1", [8, 8, 4], 52),
        ("stage_1_pooling", [4, 4, 4], 0),
    ]


@pytest.mark.slow
def test_report_says_the_headline_and_is_typeset_again_the_same(quick, assert_pdf):
    out, metrics = quick
    before = (out / "report.pdf").read_bytes()
    text = assert_pdf(out / "report.pdf", HEADINGS, pages=(6, 9))
    for result in metrics["results"]:
        assert f"{100 * result['metrics']['accuracy']['value']:.1f} %" in text
    assert "This was a quick run" in text
    time.sleep(1.1)  # the clock of the second rendering must not show
    main(["report", "--run", str(out)])
    assert (out / "report.pdf").read_bytes() == before


def test_another_seed_gives_another_model_and_the_mean_is_told(tmp_path, lean):
    words = ["--template", "dsn", *TINY]
    first, both = (main([*words, "--seeds", seeds, "--out", str(tmp_path / seeds)]) for seeds in ("1", "2"))
    for name in ("data", "confusion_matrix", "errors", "dsn", "reliability"):
        assert both[name] == first[name]
    for name, value in both["results"][0]["metrics"].items():
        one, other = value["seeds"]
        assert [one] == first["results"][0]["metrics"][name]["seeds"]
        assert one != other
        assert value["value"] == pytest.approx((one + other) / 2)
        assert value["deviation"] == pytest.approx(abs(one - other) / math.sqrt(2))
    probabilities = [keras.models.load_model(tmp_path / seeds / "model.keras").predict(TEST.inputs) for seeds in "12"]
    np.testing.assert_array_equal(*probabilities)


def test_shuffled_labels_are_told_from_pictures(tmp_path, lean, pdf_text):
    digits = load_digits()
    half = len(digits.target) // 2
    labels = np.random.default_rng(0).permutation(digits.target)
    x = (15 * digits.images).astype(np.uint8)
    path = tmp_path / "shuffled.npz"
    np.savez(path, x_train=x[:half], y_train=labels[:half], x_test=x[half:], y_test=labels[half:])
    shuffled = main(["--template", "dsn", *TINY, "--npz", str(path), "--out", str(tmp_path / "a")])
    assert shuffled["headline"]["low"] < 0.1 < shuffled["headline"]["high"] + 0.03
    assert shuffled["headline"]["value"] < 0.15
    assert "has not learned the classes" in pdf_text(tmp_path / "a" / "report.pdf")
    main(["--template", "dsn", *TINY, "--out", str(tmp_path / "b")])
    assert "has not learned the classes" not in pdf_text(tmp_path / "b" / "report.pdf")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "least", "words"),
    [
        ("cnn", 0.9, ["--cnn.filters", "16", "32", "--learning-rate", "3e-3", "--batch-size", "32", "--epochs", "10"]),
        ("dbn", 0.85, ["--dbn.widths", "100", "--dbn.rbm-epochs", "5", "--learning-rate", "3e-3", "--epochs", "15"]),
        ("dsn", 0.92, ["--dsn.hidden-units", "100", "--dsn.modules", "2", "--learning-rate", "1e-2", "--epochs", "20"]),
    ],
)
def test_a_short_run_recognises_digits(template, least, words, tmp_path, lean):
    metrics = main(["--template", template, *words, "--seeds", "1", "--out", str(tmp_path / "run")])
    assert metrics["headline"]["value"] > least


# --- Own pictures ---


@pytest.mark.parametrize("kind", ["npz", "idx", "cifar"])
def test_own_files_are_trained_on_and_evaluated(kind, tmp_path, lean):
    save = {"npz": lambda place: save_npz(place / "own.npz"), "idx": lambda p: save_idx(p / "idx")}
    path = save.get(kind, lambda place: save_cifar(place / "cifar"))(tmp_path)
    out = tmp_path / "run"
    words = ["--template", "dsn", *TINY, "--preset", "small", "--learning-rate", "3e-3", f"--{kind}", str(path)]
    metrics = main([*words, "--out", str(out)])
    data = metrics["data"]
    if kind == "cifar":
        assert data["shape"] == [32, 32, 3]
        assert data["classes"] == list(cifar.CLASSES)
        assert [data[part] for part in ("train", "validation", "test")] == [80, 20, 20]
        x, y = pictures(10, 20, (32, 32, 3), "test_batch")
    else:
        assert data["shape"] == [9, 8, 1]
        assert data["classes"] == ["0", "1", "2"]
        assert [data[part] for part in ("train", "validation", "test")] == [51, 9, 30]
        x, y = pictures(3, 30, (9, 8), "test")
    assert metrics["headline"]["value"] > 0.8
    probabilities = keras.models.load_model(out / "model.keras").predict(x.reshape(len(x), *data["shape"]))
    check_against_model(metrics, probabilities, y)
    found = main(["evaluate", "--model", str(out / "model.keras"), f"--{kind}", str(path)])["metrics"]
    for name, value in found.items():
        assert value["value"] == pytest.approx(metrics["results"][0]["metrics"][name]["value"], abs=1e-6)
        assert value["low"] <= value["value"] + 0.1
        assert value["low"] <= value["high"]


def test_a_folder_is_trained_on(own, folder):
    out, metrics = own
    assert metrics["data"]["shape"] == [12, 10, 3]
    assert metrics["data"]["classes"] == ["cat", "dog", "owl"]
    assert [metrics["data"][part] for part in ("train", "validation", "test")] == [24, 6, 12]
    split = images.load_folder(folder, size=None, skip_bad=False, seed=0).splits["test"]
    probabilities = keras.models.load_model(out / "model.keras").predict(split.inputs, verbose=0)
    check_against_model(metrics, probabilities, split.labels)
    assert metrics["headline"]["value"] > 0.8
    for entry in metrics["errors"]:
        assert (folder / entry["file"]).is_file()


def test_bad_pictures_stop_a_run_or_are_counted(folder, own, tmp_path, lean):
    place = tmp_path / "photographs"
    shutil.copytree(folder, place)
    (place / "train" / "cat" / "words.png").write_text("not a picture")
    whole = (place / "train" / "dog" / "1.png").read_bytes()
    (place / "train" / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    words = ["--template", "dsn", *TINY, "--images", str(place)]
    with pytest.raises(BadInput, match=r"words\.png: found a file that begins with b'not a pi'"):
        main([*words, "--out", str(tmp_path / "a")])
    assert not (tmp_path / "a").exists()
    metrics = main([*words, "--skip-bad", "--size", "9", "--out", str(tmp_path / "b")])
    assert [metrics["data"][part] for part in ("train", "validation", "test")] == [24, 6, 12]
    assert any(text.startswith("2 bad images left out") for text in metrics["data"]["understood"])
    assert metrics["data"]["shape"] == [9, 9, 3]


def test_classes_of_a_few_pictures_run_to_the_end(tmp_path, lean):
    for label, picture in enumerate(pictures(8, 8, (9, 8))[0]):
        path = tmp_path / "few" / "ab"[label % 2] / f"{label}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    metrics = main(
        ["--template", "dsn", *TINY, "--images", str(tmp_path / "few"), "--out", str(tmp_path / "run")]
    )  # nearest neighbours: fewer than k
    assert [metrics["data"][part] for part in ("train", "validation", "test")] == [4, 2, 2]


def test_a_class_without_test_pictures_is_left_out_of_those_by_class(tmp_path, lean):
    path = save_npz(tmp_path / "own.npz", tested=2)
    metrics = main(["--template", "dsn", *TINY, "--npz", str(path), "--out", str(tmp_path / "run")])
    assert list(metrics["accuracy_by_class"]) == ["0", "1"]
    assert metrics["data"]["counts"]["test"] == [10, 10, 0]
    assert np.shape(metrics["confusion_matrix"]) == (3, 3)


@pytest.mark.slow
def test_gaussian_units_are_drawn_as_pixels(tmp_path, monkeypatch):
    """Colours, which a Gaussian machine sees standardised; the report has samples, and no likelihood."""
    draw, drawn = image_evaluation.figures.pictures, []
    monkeypatch.setattr(image_evaluation, "SHARES", (1.0,))
    monkeypatch.setattr(image_evaluation, "GIBBS_STEPS", 3)
    monkeypatch.setattr(
        image_evaluation.figures, "pictures", lambda shown, *a, **k: drawn.append(shown) or draw(shown, *a, **k)
    )
    path, out = save_npz(tmp_path / "own.npz", shape=(9, 8, 3)), tmp_path / "run"
    words = ["--template", "dbn", *TINY, "--dbn.visible", "gaussian", "--npz", str(path)]
    metrics = main([*words, "--out", str(out)])
    assert metrics["dbn"]["log_likelihood"] is None
    assert (out / "figures" / "dbn_samples.svg").exists()
    (samples,) = (shown for shown in drawn if len(shown) == image_evaluation.SAMPLES)
    assert samples.shape == (image_evaluation.SAMPLES, 9, 8, 3)
    with np.load(path) as arrays:
        mean = arrays["x_train"].mean((0, 1, 2)) / 255
        np.testing.assert_allclose(samples.mean((0, 1, 2)), mean, atol=0.1)  # the network has hardly learnt
        model = keras.models.load_model(out / "model.keras")
        rows = keras.Model(model.input, model.get_layer("standardise").output).predict(arrays["x_train"], verbose=0)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.std(0), 1, atol=1e-3)
    check_against_model(metrics, model.predict(arrays_of(path)[0], verbose=0), arrays_of(path)[1])


def arrays_of(path):
    """The test pictures and labels of an archive."""
    with np.load(path) as arrays:
        return arrays["x_test"], arrays["y_test"]


# --- The commands after training ---


def test_classify_writes_the_models_probabilities(own, folder, tmp_path, capsys):
    model = own[0] / "model.keras"
    paths = [folder / "test" / "owl" / "2.png", tmp_path / "large.jpg", tmp_path / "grey.bmp", tmp_path / "seen.webp"]
    colours = Image.open(paths[0])
    colours.resize((60, 70), Image.Resampling.NEAREST).save(paths[1], quality=95)
    colours.convert("L").save(paths[2])
    colours.save(paths[3], lossless=True)
    out = tmp_path / "answers.csv"
    said = main(["classify", "--model", str(model), "--files", *map(str, paths), "--out", str(out)])
    assert said["classes"] == ["cat", "dog", "owl"]
    network = keras.models.load_model(model)
    for place in (0, 2, 3):
        shown = np.asarray(Image.open(paths[place]).convert("RGB"))[None]
        np.testing.assert_allclose(said["probabilities"][place], network.predict(shown, verbose=0)[0], atol=1e-6)
    np.testing.assert_allclose(said["probabilities"][1], said["probabilities"][0], atol=0.1)
    table = pd.read_csv(out)
    assert list(table) == ["file", "class", "cat", "dog", "owl"]
    assert table["file"].tolist() == list(map(str, paths))
    np.testing.assert_allclose(table[["cat", "dog", "owl"]], said["probabilities"], atol=1e-6)
    best = said["probabilities"].argmax(1)
    assert table["class"].tolist() == [said["classes"][index] for index in best]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5
    for line, path, row in zip(printed, paths, said["probabilities"], strict=False):
        first, *others = line.removeprefix(f"{path}: ").split(", ")
        assert first == f"{said['classes'][row.argmax()]} {row.max():.3f}"
        assert len(others) == 2
    with pytest.raises(BadInput, match=r"answers\.csv: found an existing file"):
        main(["classify", "--model", str(model), "--files", str(paths[0]), "--out", str(out)])
    assert pd.read_csv(out).equals(table)


def test_evaluate_measures_a_folder_without_training(own, folder, tmp_path, capsys):
    out, metrics = own
    words = ["evaluate", "--model", str(out / "model.keras"), "--images"]
    found = main([*words, str(folder)])["metrics"]
    for name, value in found.items():
        assert value["value"] == pytest.approx(metrics["results"][0]["metrics"][name]["value"], abs=1e-6)
    printed = capsys.readouterr().out
    assert "12 images, 3 classes" in printed
    assert f"{found['log_loss']['value']:.4f}" in printed
    # Some of the classes, whose order is another, and a bad picture.
    shutil.copytree(folder / "test" / "owl", tmp_path / "some" / "owl")
    shutil.copytree(folder / "test" / "dog", tmp_path / "some" / "dog")
    (tmp_path / "some" / "dog" / "bad.png").write_text("not a picture")
    found = main([*words, str(tmp_path / "some"), "--skip-bad"])["metrics"]
    split = images.load_folder(folder, size=None, skip_bad=False, seed=0).splits["test"]
    rows = split.labels > 0
    probabilities = keras.models.load_model(out / "model.keras").predict(split.inputs[rows], verbose=0)
    expected = -np.log(probabilities.astype(np.float64)[np.arange(8), split.labels[rows]]).mean()
    assert found["log_loss"]["value"] == pytest.approx(expected, rel=1e-4)


def test_evaluate_and_classify_refuse_what_they_cannot_judge(own, folder, tmp_path):
    model = own[0] / "model.keras"
    shutil.copytree(folder / "test" / "owl", tmp_path / "birds" / "rook")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    for path, name in ((model, "cut.keras"), (folder / "test" / "owl" / "2.png", "cut.png")):
        (tmp_path / name).write_bytes(path.read_bytes()[:-60])
    keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(1.0, name="scale")]).save(tmp_path / "scaled.keras")

    def refused(said, *words):
        with pytest.raises(BadInput, match=said) as raised:
            main(list(map(str, words)))
        assert "\n" not in str(raised.value)

    before = sorted(tmp_path.rglob("*"))
    evaluate, classify = ("evaluate", "--model", model), ("classify", "--out", tmp_path / "a.csv", "--model", model)
    refused("--images: found the class 'rook', expected .*: cat, dog, owl", *evaluate, "--images", tmp_path / "birds")
    refused("found no images, expected --images", *evaluate)
    refused("found --images and --npz", *evaluate, "--images", folder, "--npz", "a.npz")
    path = save_npz(tmp_path / "own.npz")
    refused("--npz: found images of 9 × 8 × 1, expected 12 × 10 × 3", *evaluate, "--npz", path)
    path.unlink()
    refused(r"cut\.png: found an image that can't be read", *classify, "--files", tmp_path / "cut.png")
    refused("none.png: found no such file", *classify, "--files", tmp_path / "none.png")
    refused("--files: found none", *classify, "--files")
    files = ("--files", folder / "test" / "owl" / "2.png")
    refused("none.keras: found no such file", "classify", "--model", "none.keras", *files)
    refused(r"other\.keras: found another model", "classify", "--model", tmp_path / "other.keras", *files)
    refused(r"cut\.keras: found another kind of file", "classify", "--model", tmp_path / "cut.keras", *files)
    refused("without the names of its classes", "classify", "--model", tmp_path / "scaled.keras", *files)
    assert sorted(tmp_path.rglob("*")) == before


# --- Choices ---


# Every choice of the machines.
DBN = (
    *("--template", "dbn", *TINY, "--dbn.chains", "4", "--dbn.sparsity-target", "0.1", "--dbn.sparsity-cost", "0.01"),
    *("--dbn.weight-decay", "1e-4", "--dbn.input-dropout", "0.1"),
)


@pytest.fixture(scope="module")
def small_dbn(tmp_path_factory):
    """A deep belief network of one final training."""
    out = tmp_path_factory.mktemp("dbn") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_lean(patch)
        return out, main([*DBN, "--out", str(out)])


@pytest.mark.slow
def test_the_same_command_gives_the_same_numbers(small_dbn, tmp_path, lean):
    out, metrics = small_dbn
    again = main([*DBN, "--out", str(tmp_path / "again")])
    assert without_time(again) == without_time(metrics)
    assert again["timing"] != metrics["timing"]
    assert (tmp_path / "again" / "history.csv").read_bytes() == (out / "history.csv").read_bytes()


@pytest.mark.slow
def test_init_from_goes_on_with_a_dbns_weights_instead_of_pretraining(small_dbn, tmp_path, lean):
    out, metrics = small_dbn
    assert metrics["dbn"]["log_likelihood"]["value"] < 0
    assert metrics["sizes"]["pretraining"][0]["pictures"] == 898
    assert metrics["model"]["recipe"]["DBN"]["rbm_epochs"] == 2
    words = ["--template", "dbn", *TINY, "--init-from", str(out / "model.keras"), "--learning-rate", "1e-12"]
    onward = main([*words, "--out", str(tmp_path / "a")])
    assert onward["confusion_matrix"] == metrics["confusion_matrix"]
    before, after = (keras.models.load_model(p / "model.keras").get_weights() for p in (out, tmp_path / "a"))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)
    stages = set(pd.read_csv(tmp_path / "a" / "history.csv")["stage"])
    assert stages == {"dbn-choice", "dbn-0-1"}
    assert onward["dbn"] is None
    assert onward["sizes"]["pretraining"] is None
    assert "rbm_epochs" not in onward["model"]["recipe"]["DBN"]
    with pytest.raises(BadInput, match=r"--init-from .*: found weights of .*, expected .* --dbn\.widths"):
        main([*words, "--dbn.widths", "15", "--out", str(tmp_path / "b")])
    with pytest.raises(BadInput, match=r"--init-from .*: found weights of .*, expected .* --cnn settings"):
        main([*words, "--template", "cnn", "--out", str(tmp_path / "b")])
    with pytest.raises(BadInput, match="--init-from for a deep stacking network"):
        main([*words, "--template", "dsn", "--out", str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_init_from_goes_on_with_a_cnns_weights(quick, tmp_path, lean):
    model = quick[0] / "model.keras"
    words = ["--template", "cnn", *TINY, "--init-from", str(model), "--learning-rate", "1e-12"]
    onward = main([*words, "--out", str(tmp_path / "run")])
    assert onward["settings"]["init_from"] == str(model)
    before, after = (keras.models.load_model(path) for path in (model, tmp_path / "run" / "model.keras"))
    assert len(before.trainable_weights) == 10
    for one, other in zip(before.trainable_weights, after.trainable_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_without_pretraining_there_is_no_machine(tmp_path, lean, pdf_text):
    out = tmp_path / "run"
    metrics = main(["--template", "dbn", *TINY, "--dbn.no-pretrain", "--out", str(out)])
    assert set(pd.read_csv(out / "history.csv")["stage"]) == {"dbn-choice", "dbn-0-1"}
    assert metrics["dbn"] is None
    assert metrics["sizes"]["pretraining"] is None
    assert "DBN without pretraining" not in metrics["sizes"]["models"]
    assert "rbm_epochs" not in metrics["model"]["recipe"]["DBN"]
    assert "RBM by gradient descent" not in pdf_text(out / "report.pdf")


def test_labels_are_all_that_is_known(tmp_path, monkeypatch):
    make_lean(monkeypatch, shares=(0.3, 1.0))
    seen, train = {}, models.DsnTrainer.train

    def spy(self, stage, labelled, **options):
        seen[stage] = [len(part) if part is not None else 0 for part in (labelled, options.get("validation"))]
        assert len(options["unlabelled"]) == 898
        return train(self, stage, labelled, **options)

    monkeypatch.setattr(models.DsnTrainer, "train", spy)
    words = ["--template", "dsn", *TINY, "--seed", "3", "--labels"]
    metrics = main([*words, "100", "--out", str(tmp_path / "a")])
    assert seen == {"dsn-choice": [80, 20], "dsn-3-0.3": [30, 0], "dsn-3-1": [100, 0]}
    assert metrics["sizes"]["pictures"] == [30, 100]
    assert metrics["data"]["labelled"] == 100
    with pytest.raises(BadInput, match="--labels: found 899, expected at most the 898 training images"):
        main([*words, "899", "--out", str(tmp_path / "b")])
    with pytest.raises(BadInput, match="--labels: found 20, expected enough for 3 or more per class"):
        main([*words, "20", "--out", str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("height", "width", "number", "preset", "filters"),
    [
        (8, 8, 898, "small", (32, 64)),
        (15, 40, 20_000, "small", (32, 64)),
        (28, 28, 40, "medium", (32, 64, 128)),
        (64, 64, 20_000, "medium", (32, 64, 128)),
        (28, 28, 60_000, "mnist", (24, 48, 96)),
        (32, 32, 50_000, "mnist", (24, 48, 96)),
        (8, 8, 60_000, "mnist", (24, 48, 96)),
        (5, 9, 60_000, "mnist", (24, 48)),
        (2, 2, 30, "small", (32,)),
    ],
)
def test_the_preset_follows_size_and_number_whatever_the_source(height, width, number, preset, filters):
    for source in (Train(), Train(npz=Path("a.npz")), Train(images=Path("b"))):
        found = models.with_recipe(source, height, width, number)
        assert (found.preset, found.cnn.filters, found.seeds) == (preset, filters, models.PRESETS[preset]["seeds"])
    assert models.with_recipe(Train(preset="medium"), height, width, number).preset == "medium"


@pytest.mark.parametrize("template", list(models.TRAINERS))
def test_the_users_recipe_goes_before_the_templates(template):
    recipe = models.RECIPES[f"small {template}"] | {"learning_rate": 0.5, "epochs": 3}
    found = small(template, learning_rate=0.5, epochs=3)
    assert {name: getattr(found, name) for name in recipe} == recipe


def test_fewer_pictures_have_more_epochs_and_smaller_batches(monkeypatch):
    monkeypatch.setattr(models, "LONGEST_STRETCH", 4)
    trainer = models.Trainer("cnn", small("cnn"), None, 10)  # pyright: ignore[reportArgumentType]
    assert [trainer.stretched(10, share) for share in (1, 0.3, 0.25, 0.1, 0.01)] == [10, 33, 40, 40, 40]
    assert [trainer.batch_size(rows, 32) for rows in (1_000, 128, 100, 3)] == [32, 32, 25, 1]
    assert trainer.batch_size(100, None) == 100


# --- Which pictures ---


def numbered(counts):
    """A dataset whose pictures hold their own number, and its labels, unevenly many of each class."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    numbers = np.arange(len(labels))
    pixels = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)
    ends = np.cumsum([round(0.5 * len(labels)), round(0.1 * len(labels))])
    parts = zip(("train", "validation", "test"), np.split(numbers, ends), strict=True)
    splits = {name: Split(pixels[rows], labels[rows], {"row": rows}) for name, rows in parts}
    provenance = Provenance("numbers", "", "", len(labels), 0, "", "")
    return Dataset(splits, (), tuple(map(str, range(len(counts)))), provenance), labels


def numbers_of(pictures):
    values = pictures.inputs[:, 0, :, 0].astype(int)
    return values[:, 0] * 256 + values[:, 1]


@pytest.mark.parametrize("labels", [None, 200, 60])
def test_validation_never_teaches_and_test_pictures_are_never_known(labels):
    dataset, truth = numbered([500, 150, 50])
    task = image_evaluation.Task.of(dataset, labels)
    held = {name: set(split.extra["row"]) for name, split in dataset.splits.items()}
    assert set(numbers_of(task.pool)) == held["train"] | held["validation"]
    assert set(numbers_of(task.test)) == held["test"]
    known = []
    for seed in (0, 1):
        train, validation = task.choosing(seed)
        nested = [task.labelled(seed, share) for share in (0.1, 0.3, 1.0)]
        for part in (train, validation, *nested):
            assert len(set(numbers_of(part))) == len(part)
            assert not set(numbers_of(part)) & held["test"]
            np.testing.assert_array_equal(part.labels, truth[numbers_of(part)])
            assert set(part.labels) == {0, 1, 2}
        few, some, all_of = (set(numbers_of(part)) for part in nested)
        assert few < some < all_of
        assert set(numbers_of(train)) | set(numbers_of(validation)) == all_of
        assert not set(numbers_of(train)) & set(numbers_of(validation))
        if labels is None:
            assert set(numbers_of(train)) == held["train"]
            assert all_of == held["train"] | held["validation"]
        else:
            assert len(all_of) == pytest.approx(labels, abs=2)
            assert len(validation) == pytest.approx(labels / 5, abs=2)
        known.append(some)
    assert known[0] != known[1]


def test_shares_of_as_many_pictures_are_one():
    def shares(number, labels=None):
        pool = models.Pictures(np.zeros((number, 8, 8, 1), np.uint8), np.arange(number) % 3)
        return image_evaluation.Task(pool, number, pool, TEST, 3, labels).shares

    assert shares(300) == (0.1, 0.3, 1.0)
    assert shares(9) == (0.3, 1.0)  # three pictures, of either of the smaller ones
    assert shares(3) == (1.0,)
    assert shares(300, labels=9) == (0.3, 1.0)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 0.7, 1.0])
def test_stratified_rows_are_balanced_in_order_and_nested(share):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 4], [400, 90, 3]))
    rows = image_evaluation.stratified(labels, share, seed=5)
    assert np.all(np.diff(rows) > 0)
    counts = np.bincount(labels[rows], minlength=5)
    assert counts.tolist() == [max(1, round(share * n)) if n else 0 for n in (400, 90, 0, 0, 3)]
    assert set(rows) <= set(image_evaluation.stratified(labels, min(1, 1.5 * share), seed=5))
    np.testing.assert_array_equal(image_evaluation.stratified(labels, share, seed=5), rows)
    if share in (0.1, 0.25, 0.7):
        assert set(image_evaluation.stratified(labels, share, seed=6)) != set(rows)


# --- Baselines ---

MADE = {
    "logistic regression": lambda features, c: LogisticRegression(C=c, max_iter=300),
    "RBF-SVM": lambda features, c, width: SVC(C=c, gamma=width / features, break_ties=True),
    "k-NN": lambda features, k: KNeighborsClassifier(k),
}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", list(image_evaluation.BASELINES))
def test_baselines_answer_as_scikit_learn_with_the_best_settings(name, classes):
    random = np.random.default_rng(classes)
    centres = random.random((classes, 6))

    def rows(number, known=classes):
        labels = random.integers(0, known, number)
        return (centres[labels] + random.normal(0, 0.3, (number, 6))).clip(0, 1), labels

    make, choices = image_evaluation.BASELINES[name]
    train, validation, test = rows(60), rows(80), rows(50)
    fewer = rows(30, known=classes - 1) if classes > 2 else rows(30)  # of one class nothing is known
    sets = [lambda: fewer, lambda: train]
    found = image_evaluation._fit_baseline(make, choices, train, validation, sets, test[0], classes, len(train[0]))
    scores = {
        values: np.mean(MADE[name](6, *values).fit(*train).predict(validation[0]) == validation[1])
        for values in itertools.product(*choices.values())
    }
    assert len(set(scores.values())) > 1
    best = max(scores, key=scores.get)
    assert tuple(found["chosen"]) == best
    # A setting has ended if it is the first or last of its values, and each other one is worse.
    for place, (grid, ended) in enumerate(zip(choices.values(), found["ended"], strict=True)):
        others = [scores[values] for values in scores if values[place] != best[place] and _but(values, best, place)]
        assert ended == (best[place] in (grid[0], grid[-1]) and max(others) < scores[best])
    for probabilities, known in zip(found["probabilities"], (fewer, train), strict=True):
        np.testing.assert_allclose(probabilities.sum(1), 1)
        assert probabilities.min() >= 0
        expected = MADE[name](6, *map(_number, found["chosen"])).fit(*known).predict(test[0])
        np.testing.assert_array_equal(probabilities.argmax(1), expected)
    # A temperature that validation decides makes probabilities of the scores.
    model = MADE[name](6, *map(_number, found["chosen"])).fit(*train)

    def softmax(rows, log_temperature):
        if name == "k-NN":  # one neighbour more is shared by all classes
            neighbours = model.n_neighbors
            scores = np.log((neighbours * model.predict_proba(rows) + 1 / classes) / (neighbours + 1))
        else:
            scores = model.decision_function(rows)
            scores = np.stack([-scores, scores], axis=1) if classes == 2 else scores
        powers = np.exp((scores - scores.max(1, keepdims=True)) / np.exp(log_temperature))
        return powers / powers.sum(1, keepdims=True)

    def loss(log_temperature):
        return log_loss(validation[1], softmax(validation[0], log_temperature), labels=range(classes))

    best = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-8}).x
    np.testing.assert_allclose(found["probabilities"][1], softmax(test[0], best), atol=1e-4)


def test_a_machine_for_too_many_pictures_is_fitted_to_all_of_them_by_least_squares(monkeypatch):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    # Classes by the distance from the middle: nothing for a linear machine without features.
    inputs = random.normal(size=(900, 2))
    inputs *= (labels + 1)[:, None] / np.linalg.norm(inputs, axis=1, keepdims=True)
    train, few = (inputs[:300], labels[:300]), (inputs[300:360], labels[300:360])
    make, choices = image_evaluation.BASELINES["RBF-SVM"]
    monkeypatch.setattr(image_evaluation, "LANDMARKS", 100)
    arguments = (make, choices, train, few, [lambda: few, lambda: (inputs[300:], labels[300:])], inputs[:300], 3)
    exact = image_evaluation._fit_baseline(*arguments, 600)
    monkeypatch.setattr(image_evaluation, "EXACT_WORK", 10)
    bounded = image_evaluation._fit_baseline(*arguments, 600)
    assert (exact["landmarks"], bounded["landmarks"]) == (0, 100)
    assert tuple(exact["chosen"]) == tuple(bounded["chosen"])
    # Landmarks of 2 numbers each, their whitening, and a row of weights and a bias for each class.
    assert bounded["parameters"] == 100 * 2 + 100 * 100 + 3 * 101
    for probabilities in bounded["probabilities"]:
        assert (probabilities.argmax(1) == labels[:300]).mean() > 0.97
        assert (labels[:300] == 0).mean() < 0.4


def test_settings_are_chosen_on_a_bounded_number_of_pictures_of_each_class():
    assert [image_evaluation.choice_pictures(features) for features in (64, 784, 3_072)] == [10_000, 10_000, 5_705]
    labels = np.arange(5_000) % 5
    some = image_evaluation._some(models.Pictures(np.zeros((5_000, 64, 64, 3), np.uint8), labels), seed=0)
    assert np.bincount(some.labels).tolist() == [570] * 5
    few = models.Pictures(np.zeros((50, 8, 8, 1), np.uint8), labels[:50])
    assert image_evaluation._some(few, seed=0) is few


def _but(one, other, place):
    """Whether two settings are equal but for one place."""
    return one[:place] + one[place + 1 :] == other[:place] + other[place + 1 :]


def _number(value):
    return int(value) if value == int(value) else float(value)


# --- The trainers ---


@pytest.fixture
def this_run(tmp_path):
    with run.Run("image_classification", Train(out=tmp_path / "trainer")) as opened:
        yield opened


def easy(number, part):
    return models.Pictures(*pictures_of(number, part))


def pictures_of(number, part):
    inputs, labels = pictures(3, number, (5, 4), part)
    return inputs[..., None], labels


def test_the_machines_are_trained_once_a_seed_and_start_the_classifier(this_run, monkeypatch):
    trained, pretrain = [], models.DbnTrainer._pretrain
    monkeypatch.setattr(
        models.DbnTrainer,
        "_pretrain",
        lambda self, shown, seed: trained.append((len(shown), seed)) or pretrain(self, shown, seed),
    )
    fit = run.Fit({"loss": [1.0]}, 1, 0.0)
    monkeypatch.setattr(models.DbnTrainer, "_fit_classifier", lambda *_: fit)
    monkeypatch.setattr(models, "LEAST_HELD_OUT", 61)
    settings = small("dbn", dbn=models.Dbn(widths=(6, 4), rbm_epochs=6, rbm_batch_size=10))
    trainer = models.DbnTrainer("dbn", settings, this_run, 3)
    whole = easy(60, "train")
    options = {"unlabelled": whole.inputs}
    first = trainer.train("a", whole, seed=0, **options)
    fewer = trainer.train("b", whole[np.arange(20)], seed=0, share=1 / 3, **options)
    plain = trainer.train("c", whole, seed=0, pretrain=False, **options)
    assert trained == [(60, 0)]
    other = trainer.train("d", whole, seed=1, **options)
    assert trained == [(60, 0), (60, 1)]
    assert first.parts is fewer.parts
    assert plain.parts is None
    assert set(first.fits) == {"a", "rbm-1-of-60-0", "rbm-2-of-60-0"}
    assert set(plain.fits) == {"c"}

    def hidden(of):
        return [of.model.layers[-1].get_layer(f"hidden_{number}").get_weights()[0] for number in (1, 2)]

    for one, same, different, random, rbm in zip(*map(hidden, (first, fewer, other, plain)), first.parts, strict=True):
        np.testing.assert_array_equal(one, rbm.get_weights()[0])
        np.testing.assert_array_equal(same, one)
        assert not np.allclose(different, one)
        assert not np.allclose(random, one)
    # The likelihood is looked at on the way, which changes nothing.
    ends, weights = zip(*trainer.monitored["rbm-1-of-60-0"], strict=True)
    assert ends == tuple(sorted({max(1, round(part * 6)) for part in models.MONITORED}))
    assert len(first.fits["rbm-1-of-60-0"].history["loss"]) == 6
    np.testing.assert_array_equal(weights[-1][0], first.parts[0].get_weights()[0])
    monkeypatch.setattr(models, "MONITORED", (1.0,))
    with run.Run("image_classification", Train(out=this_run.folder / "other")) as again:
        straight = models.DbnTrainer("dbn", settings, again, 3).train("a", whole, seed=0, **options)
    for one, same in zip(hidden(straight), hidden(first), strict=True):
        np.testing.assert_array_equal(one, same)


def test_machines_are_trained_up_to_where_held_out_pictures_become_less_probable(this_run, monkeypatch, capsys):
    seen, judged = [], {1: [-9.0, -8.0, -7.5, -9.5], 2: [-5.0, -4.0, -4.01, -3.0, -2.9, -2.8]}

    def likelihood(rbm, data, rows):
        seen.append((data.shape, rows.shape))
        assert set(np.unique(rows)) == {0, 1}
        return {"likelihoods": np.linspace(-0.1, 0.1, len(rows)) + judged[number()].pop(0), "error": np.array(0.01)}

    def number():
        return 1 if judged[1] else 2

    monkeypatch.setattr(models, "_likelihood", likelihood)
    fit = run.Fit({"loss": [1.0], "val_accuracy": [0.5]}, 1, 0.0)
    monkeypatch.setattr(models.DbnTrainer, "_fit_classifier", lambda *_: fit)
    settings = small("dbn", dbn=models.Dbn(widths=(6, 4), rbm_epochs=20, rbm_batch_size=10))
    trainer = models.DbnTrainer("dbn", settings, this_run, 3)
    whole = easy(60, "train")
    found = trainer.train("a", whole, seed=0, unlabelled=whole.inputs, validation=easy(9, "test"))
    ends = [1, 2, 4, 8, 14, 20]
    assert trainer.lengths == [4, 20]
    assert [[point["epoch"] for point in of["points"]] for of in trainer.held_out] == [ends[:4], ends]
    assert seen[0] == ((48, 20), (12, 20))
    assert seen[-1] == ((48, 6), (12, 6))
    epochs = {name: len(fit.history["loss"]) for name, fit in found.fits.items() if name != "a"}
    assert epochs == {"rbm-1-of-60-0": 4, "rbm-2-of-60-0": 20, "held-out-1-of-60-0": 8, "held-out-2-of-60-0": 20}
    said = capsys.readouterr().out
    assert "RBM 1 of the DBN: the likelihood of held-out images fell after 4 of 20 epochs" in said
    assert "the best epoch of RBM 2 of the DBN is at its limit, 20; a larger --dbn.rbm-epochs may be better" in said
    # The final machines are those of so many epochs on all the pictures.
    few = small("dbn", dbn=models.Dbn(widths=(6,), rbm_epochs=4, rbm_batch_size=10))
    monkeypatch.setattr(models, "LEAST_HELD_OUT", 13)
    with run.Run("image_classification", Train(out=this_run.folder / "other")) as again:
        straight = models.DbnTrainer("dbn", few, again, 3)
        machine = straight.train("a", whole, seed=0, unlabelled=whole.inputs).parts[0]
    assert straight.held_out == []
    for one, same in zip(found.parts[0].get_weights()[:3], machine.get_weights()[:3], strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_likelihood_falls_if_it_is_clearly_lower_than_the_best():
    random = np.random.default_rng(0)
    rows = random.normal(-50, 10, 400)

    def fell(*steps, error=0.0):
        watch = models.HeldOut()
        told = [
            watch.fell(place, rows + step + random.normal(0, 1, 400), error, place) for place, step in enumerate(steps)
        ]
        return told, watch.kept, watch.weights, watch.rose

    # A difference of 400 rows that differ by 1.4 each has a standard error of 0.07.
    assert fell(0, 1, 2) == ([False, False, False], 2, 2, True)
    assert fell(0, 1, 0.98) == ([False, False, False], 2, 2, False)
    assert fell(0, 1, 0.5) == ([False, False, True], 1, 1, True)
    assert fell(0, 1, 0.5, error=1.0) == ([False, False, False], 2, 2, False)
    # What falls little by little is compared with the best, not with what was before.
    assert fell(0, -0.06, -0.12, -0.18, -0.24, -0.3)[0][-1]


def test_validation_chooses_the_modules_and_the_temperature(this_run):
    random, parts = np.random.default_rng(0), []
    for part in (easy(90, "train"), easy(60, "validation")):
        blurred = (part.inputs + random.normal(0, 60, part.inputs.shape)).clip(0, 255).astype(np.uint8)
        drawn = random.integers(0, 3, len(part))
        parts.append(models.Pictures(blurred, np.where(random.random(len(part)) < 0.2, drawn, part.labels)))
    train, validation = parts
    most = 6
    choices = models.Dsn(modules=most, hidden_units=30, ridge=0.1, kernel_deviation=0.1, shift=0)
    settings = small("dsn", dsn=choices, epochs=5, learning_rate=0.01)
    trainer = models.DsnTrainer("dsn", settings, this_run, 3)
    chosen = trainer.train("choice", train, seed=0, validation=validation)
    temperature = trainer.temperature
    every = trainer.train("every", train, seed=0, length=most)
    assert trainer.temperature == temperature
    rows = (validation.inputs / 255).astype(np.float32).reshape(60, -1)
    scores = every.parts.predict(rows, verbose=0)
    accuracies = [np.mean(scores[f"module_{n}"].argmax(1) == validation.labels) for n in range(1, most + 1)]
    # The highest accuracy, the last of several, until so many modules were not better.
    best = seen = 1
    while seen < most and seen - best < models.MODULE_PATIENCE:
        seen += 1
        best = seen if accuracies[seen - 1] >= accuracies[best - 1] else best
    assert chosen.length == best
    assert len(chosen.fits) == seen
    assert chosen.length < seen  # or nothing was to choose
    for name in [f"module_{n}" for n in range(1, chosen.length + 1)]:
        np.testing.assert_allclose(chosen.parts.predict(rows, verbose=0)[name], scores[name], atol=1e-5)

    logits = scores[f"module_{chosen.length}"].astype(np.float64)

    def loss(log_temperature):
        sharpened = logits / np.exp(log_temperature)
        sharpened -= sharpened.max(1, keepdims=True)
        own = sharpened[np.arange(60), validation.labels]
        return np.mean(np.log(np.exp(sharpened).sum(1)) - own)

    expected = minimize_scalar(loss, bounds=(-6, 6), method="bounded").fun
    assert loss(np.log(temperature)) == pytest.approx(expected, rel=1e-6)
    probabilities = chosen.probabilities(validation.inputs)
    expected = np.exp(logits / temperature)
    np.testing.assert_allclose(probabilities, expected / expected.sum(1, keepdims=True), atol=1e-5)


def test_the_most_epochs_that_are_as_good_as_the_best_are_enough():
    fit = run.Fit({"loss": [1.0] * 5, "val_accuracy": [0.5, 0.9, 0.95, 0.94, 0.8]}, 5, 0.0)
    held_out = easy(100, "validation")
    assert models._enough(fit, held_out) == 4  # a standard error is 0.022
    assert models._enough(fit, held_out[np.arange(1)]) == 5  # 0.22
    assert models._enough(fit, models.Pictures(*(np.repeat(part, 100, 0) for part in pictures_of(100, "a")))) == 3
    assert models._enough(fit, None) == 5


def test_shifted_copies_are_interpolated_between_pixels():
    whole = models.Pictures(np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8), np.array([4, 7]))
    found, labels = models.with_copies(whole, 0.25)
    assert labels.tolist() == [4, 7] * 5
    scaled = whole.inputs / 255
    np.testing.assert_allclose(found[:2], scaled, rtol=1e-6)
    edged = np.pad(scaled, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for number, (down, right) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)], 1):  # where a pixel takes a share from
        moved = edged[:, 1 + down : 5 + down, 1 + right : 6 + right]
        np.testing.assert_allclose(found[2 * number : 2 * number + 2], 0.75 * scaled + 0.25 * moved, atol=1e-6)
    np.testing.assert_array_equal(models.with_copies(whole, 0)[0], found[:2])


# --- Stops and bad input ---


@pytest.mark.slow
def test_a_run_killed_twice_goes_on_to_the_same_weights(tmp_path, kill_in, assert_same_run, lean):
    words = ["--template", "dbn", "--compare", *SMALL, "--seeds", "1", "--epochs", "8"]
    words += ["--dbn.rbm-epochs", "12", "--dsn.modules", "2"]
    out = tmp_path / "killed"
    kill_in(program("-c", LEAN, *words, "--out", str(out)), out / "checkpoints" / "rbm-2-of-898-0.npz")
    again = [*words, "--out", str(out), "--resume"]
    kill_in(program("-c", LEAN, *again), out / "checkpoints" / "cnn-choice.npz")
    main([*words, "--out", str(tmp_path / "whole")])
    main(again)
    assert_same_run(tmp_path / "whole", out, without_time)


def test_a_run_is_not_resumed_on_other_data(tmp_path, monkeypatch, lean):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = save_npz(tmp_path / "own.npz")
    words = ["--template", "dsn", *TINY, "--npz", str(path), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(image_evaluation, "fit_baselines", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    save_npz(path, classes=4)
    with pytest.raises(BadInput, match="data that differ from those it was started with"):
        main([*words, "--resume"])
    assert (tmp_path / "run" / "checkpoints" / "dsn-0-1-module-1.npz").exists()


def test_unusable_input_leaves_with_code_2_and_one_line(tmp_path):
    for label in "ab":
        (tmp_path / "photographs" / label).mkdir(parents=True)
    (tmp_path / "photographs" / "a" / "0.png").write_text("not a picture")
    (tmp_path / "photographs" / "b" / "1.png").write_text("nor this")
    before = sorted(tmp_path.rglob("*"))
    script = str(ROOT / "applications" / "image_classification.py")
    done = program(script, "--images", "photographs", "--out", "run", cwd=tmp_path)
    _, errors = done.communicate()
    assert done.returncode == 2
    assert len(errors.splitlines()) == 1
    assert re.search(r"error: photographs/a/0\.png: found .*expected PNG, JPEG, BMP, WebP, GIF", errors)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "none"], "none: found no such folder"),
        (["--npz", "none.npz"], "none.npz: found no such file"),
        (["--idx", "none"], "none: found no such folder"),
        (["--cifar", "none"], "none: found no such folder"),
        (["--npz", "a.npz", "--idx", "b"], "found --npz and --idx, expected one source"),
        (["--size", "16"], "found --size or --skip-bad without --images"),
        (["--skip-bad"], "found --size or --skip-bad without --images"),
        (["--labels", "10"], "--labels: found 10, expected enough for 3"),
        (["--cnn.filters", "4", "4", "4", "4"], "--cnn.filters: found 4 stages, expected at most 3 for images of 8"),
        (["--cnn.convolutions", "3", "--cnn.residual"], "--cnn.convolutions: found 3, expected an even number"),
        (["--compare", "--init-from", "a.keras"], "found --compare and --init-from"),
        (["--init-from", "missing.keras"], "missing.keras: found no such file"),
        (["--template", "dsn", "--init-from", "missing.keras"], "found --init-from for a deep stacking network"),
        (["--resume"], "no unfinished run"),
        (["report", "--run", "."], "metrics.json: found no readable JSON"),
        (["evaluate", "--model", "missing.keras", "--images", "."], "missing.keras: found no such file"),
    ],
)
def test_unusable_input_is_said(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=re.escape(said)) as raised:
        main(words)
    assert "\n" not in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

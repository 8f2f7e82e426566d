from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

import applications
from applications.synthesis import evaluation

DOCUMENT = Path(applications.__file__).parent / "synthesis" / "report.typ"
GAN, KERNELS, MIXTURE, NETWORK = "conditional GAN", "kernel density", "Gaussian mixture", "deep belief network"
# What those of the quick run are replaced with; two seeds at a distance of 0.02 give an interval of 0.13 to each side.
GOOD = {"precision": 0.913, "recall": 0.624, "copied": 0.012, "conditional_accuracy": 0.981}
READINGS = (
    "closer to real images",
    "not the best choice",
    "not significantly",
    "not enough to compare",
    "too few to compare",
)


@pytest.fixture
def measured(metrics, changed):
    """Metrics with other measures of the GAN and distances of models, and other values at paths."""

    def change(values=None, distances=None, *, seeds=2, **measures):
        found = changed(metrics, {("training", 1, "collapsed"): False, ("settings", "quick"): False})
        own, *others = found["results"]
        distances = {GAN: 4.21, KERNELS: 17.64, MIXTURE: 6.38, NETWORK: 21.9} | (distances or {})
        for result in found["results"]:
            result["metrics"]["frechet_distance"] = spread(distances[result["model"]], seeds)
        own["metrics"] |= {name: spread(value, seeds, 1.0) for name, value in (GOOD | measures).items()}
        found["by_class"]["share"] = found["by_class"]["real_share"]
        found["training"] = found["training"][:seeds]
        found["differences"] = [evaluation.nearer(own, other) for other in others]
        return changed(found, values or {})

    return change


def spread(value, seeds, most=np.inf):
    return evaluation.over_seeds([value - 0.01, value + 0.01] if seeds > 1 else [value], most)


@pytest.fixture
def said(measured, report_text):
    """The text of the report on such metrics."""
    return lambda *values, **measures: report_text(DOCUMENT, measured(*values, **measures))


def test_the_real_run_has_the_schema(metrics, assert_schema):
    assert_schema(metrics, evaluation.Metrics)


def test_every_number_of_the_report_is_measured(metrics, report_text, assert_numbers_are_measured):
    settings, own = metrics["settings"], metrics["results"][0]["metrics"]["frechet_distance"]["value"]
    rate = settings["learning_rate"] * settings["discriminator_learning_rate_ratio"]
    text = report_text(DOCUMENT, metrics)
    assert_numbers_are_measured(text, metrics, derived=[rate, own / metrics["real"]["frechet_distance"]])
    for result in metrics["results"]:
        distance = result["metrics"]["frechet_distance"]
        assert f"{distance['value']:.2f} {distance['low']:.2f} to {distance['high']:.2f}" in text
    real = metrics["real"]
    shares = " ".join(f"{100 * real[name]:.1f} %" for name in ("precision", "recall"))
    assert f"training images – {real['frechet_distance']:.2f} {shares} – {100 * real['rarest']:.1f} %" in text


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (4.21, [READINGS[0], "4.21 (4.08 to 4.34)", MIXTURE, "6.38 (6.25 to 6.51)", "2.17 (2.11 to 2.23)"]),
        (6.36, [READINGS[2], "6.36 (6.23 to 6.49)", "6.38 (6.25 to 6.51)"]),
        (9.87, [READINGS[1], "9.87 (9.74 to 10.00)"]),
    ],
    ids=["ahead", "overlap", "behind"],
)
def test_the_verdict_follows_the_intervals(measured, report_text, distance, words):
    metrics = measured({("real", "frechet_distance"): 1.42}, {GAN: distance})
    text = report_text(DOCUMENT, metrics)
    judge = 100 * metrics["evaluation"]["judge_accuracy"]
    words = [*words, "distance of 1.42", f"{distance / 1.42:.1f} times", f"accuracy of {judge:.1f} % on real images"]
    words += ["generates the requested class", "98.1 % (85.4 to 100.0 %)", "Precision is 91.3 %, recall 62.4 %"]
    assert [word for word in words if word not in text] == []
    assert sum(reading in text for reading in READINGS) == 1
    for word in ("quick run", "memorised some", "rarely", "verged", "collapsed", "mostly noise"):
        assert word not in text


def test_one_training_decides_nothing(said):
    text = said(seeds=1)
    assert "One training is not enough to compare" in text
    assert f"is 4.21, that of the {MIXTURE}, the closest baseline, 6.38." in text
    assert f"{GAN} 62" not in text
    assert "Student" not in text


def test_the_difference_has_welchs_interval():
    own, other = (
        {"model": name, "metrics": {"frechet_distance": evaluation.over_seeds(seeds)}}
        for name, seeds in (("a", [3.0, 4.0, 5.0]), ("b", [6.0, 6.0, 9.0]))
    )
    found = evaluation.nearer(own, other)
    # Variances of the means 1/3 and 1, degrees of freedom (4/3)² / ((1/3)² / 2 + 1² / 2) = 3.2.
    reach = 3.0727 * (4 / 3) ** 0.5
    assert found["value"] == pytest.approx(3)
    assert (found["low"], found["high"]) == (pytest.approx(3 - reach, abs=1e-3), pytest.approx(3 + reach, abs=1e-3))


def test_a_class_that_is_ignored_comes_first(said):
    text = said(conditional_accuracy=0.12)
    assert text.index(f"The {GAN} does not generate the requested class") < text.index(READINGS[0])
    assert "It generates the requested" not in text


def test_of_a_judge_that_knows_nothing_nothing_follows(said):
    judge, majority = ("evaluation", "judge_accuracy"), ("evaluation", "majority")
    text = said({judge: 0.11, majority: 0.103})
    for word in (f"The images of the {GAN} cannot be evaluated", "only 11.0 %", "has 10.3 %", "Check the labels"):
        assert word in text
    assert not any(reading in text for reading in READINGS)
    assert READINGS[0] in said({judge: 0.2, majority: 0.103})


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({3: 0.0099}, "rarely generated: class “3”."),
        ({3: 0.0099, 7: 0.0}, "rarely generated: classes “3” and “7”."),
        ({3: 0.0101, 7: 0.0}, "rarely generated: class “7”."),
    ],
)
def test_classes_that_are_hardly_drawn_are_named(said, shares, words):
    values = {("by_class", "real_share"): [0.1] * 10, ("by_class", "share"): [shares.get(c, 0.11) for c in range(10)]}
    assert words in said(values)


@pytest.mark.parametrize(
    ("copied", "low", "precision", "memorised"),
    [
        (0.04, 0.015, 0.91, True),
        (0.04, 0.009, 0.91, False),  # may be less than of real images
        (0.019, 0.014, 0.91, False),
        (0.04, 0.015, 0.49, False),  # unlike anything real
    ],
)
def test_copies_are_told_from_chance_and_from_grey_images(said, copied, low, precision, memorised):
    own = ("results", 0, "metrics")
    estimate = {"value": copied, "low": low, "high": 0.065, "seeds": [copied, copied], "deviation": 0.0}
    text = said({(*own, "copied"): estimate, (*own, "precision", "value"): precision})
    words = "memorised some images: 4.0 % (1.5 to 6.5 %)"
    assert (words in text) == ("has memorised" in text) == memorised


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({1: "diverged"}, "Training with seed 1 diverged (non-finite loss)."),
        ({0: "collapsed", 1: "collapsed"}, "Training with seed 0 and 1 collapsed (almost no variety in the images)."),
    ],
)
def test_trainings_that_failed_are_told(said, flags, words):
    text = said({("training", seed, flag): True for seed, flag in flags.items()} | {("settings", "quick"): True})
    assert words in text
    assert text.index("best weights up to then") < text.index("This was a quick run")


def test_measures_of_few_images_are_said_to_be_chance(said):
    pictures = ("evaluation", "pictures")
    text = said({pictures: 49})
    assert f"49 test images are too few to compare the {GAN}" in text
    assert "only 49 test images, these measures are mostly noise" in text
    assert READINGS[0] not in text
    text = said({pictures: 50})
    assert READINGS[0] in text
    assert "mostly noise" not in text


@pytest.mark.parametrize("with_classes", [True, False])
def test_without_classes_nothing_is_said_of_them(measured, report_text, changed, assert_schema, with_classes):
    values = {("settings", "template"): "gan", ("by_class", "recognised"): []}
    if not with_classes:
        known = {"judge_accuracy": None, "majority": None, "judge_seconds": None, "features": 64, "variance": 0.8613}
        values = {("evaluation", name): value for name, value in known.items()} | {("by_class",): None}
    metrics = changed(measured(), values)
    for measures in (metrics["evaluation"]["measures"], *(result["metrics"] for result in metrics["results"])):
        for name in ["conditional_accuracy", "classification_accuracy"] + ["rarest"] * (not with_classes):
            measures.pop(name, None)
    assert_schema(metrics, evaluation.Metrics)
    text = report_text(DOCUMENT, metrics)
    assert READINGS[0] in text
    gone = ["requested", "Conditional accuracy", "Recognised"]
    if not with_classes:
        gone += ["Predicted classes", "judge that", "arest class", "recognises", "convolutional network"]
        assert "first 64 principal components of 898 training images, which explain 86.1 %" in text
        assert "898 test images, without classes" in text
    assert [word for word in gone if word in text] == []


def test_the_worst_class_comes_first_and_one_that_no_test_image_has_last(said):
    values = {
        ("by_class", "recognised"): [0.99, None, *(0.97 - place / 100 for place in range(8))],
        ("by_class", "real_share"): [0.125, 0.0, *[0.125] * 7, 0.0],
        ("by_class", "share"): [0.1] * 10,
    }
    rows = [f"{c} 10.0 % {100 * s:.1f} % {r}" for c, s, r in [(9, 0, "90.0 %"), (8, 0.125, "91.0 %")]]
    text = said(values)
    assert " ".join(rows) in text
    assert "0 10.0 % 12.5 % 99.0 % 1 10.0 % 0.0 % –" in text


def test_a_class_that_no_test_image_has_is_not_measured():
    judge = Mock(return_value=(None, np.eye(3)[[0, 1, 1, 0]]), knows_classes=True)
    judge.net.output_shape = (None, 3)
    labels = np.array([0, 0, 1, 1])
    task = SimpleNamespace(judge=judge, test=SimpleNamespace(labels=labels))
    assert evaluation.by_class(task, [np.zeros(4)] * 2, labels) == {  # pyright: ignore[reportArgumentType]
        "recognised": [0.5, 0.5, None],
        "share": [0.5, 0.5, 0.0],
        "real_share": [0.5, 0.5, 0.0],
    }


def test_what_the_data_do_not_have_is_left_out(said):
    names = ["# *a* $b$ @c <d>", "line one\nline two \x1b", "漢字 \U0001f600", *map(str, range(40))]
    gan = ("settings", "gan")
    none = {"augmentation": [], "spectral_normalization": False, "dropout": 0.0, "label_smoothing": 0.0}
    text = said(
        {(*gan, name): value for name, value in none.items()}
        | {("data", "shape"): [8, 8, 3], ("data", "size_bytes"): 12_345, ("data", "classes"): names}
        | {("by_class", key): [1 / 43] * 43 for key in ("recognised", "share", "real_share")}
        | {("figures",): {}, ("timing", "resumed"): True, ("limits",): ["the best epoch is the last one"]}
        | {("settings", "epochs"): 1_200, ("training", 1, "best"): 1, ("real", "frechet_distance"): 0.0}
    )
    for word in ("12.3 kB", "pixels, RGB", "43: #", "36, …", "the minimum", "The best epoch is the last"):
        assert word in text
    assert "after 1,200, 600 of 1,200 epochs, in the order" in text
    assert "# *a* $b$ @c <d>" in text  # plain text
    assert "‹U+001B›" in text
    for word in ("Figure", "Regularisation", "37 2.3 %"):
        assert word not in text
    regularised = {"spectral_normalization": True, "dropout": 0.15, "label_smoothing": 0.1}
    text = said({(*gan, name): value for name, value in regularised.items()})
    assert "discriminator; dropout 0.15 in the discriminator; label smoothing 0.1" in text

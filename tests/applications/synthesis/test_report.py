import copy
import json
import re
from pathlib import Path

import pytest

from applications.synthesis import evaluation as synthesis_evaluation
from applications.synthesis import report as synthesis_report

PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
FIGURES = ("samples", "interpolations", "copies", "moments", "training", "measures", "network")
MEASURES = {"precision": 0.913, "recall": 0.624, "copied": 0.012, "rarest": 0.871}
OWN = {"conditional GAN": 4.21, "kernel density": 17.64, "Gaussian mixture": 6.38, "deep belief network": 21.9}


def span(value, reach, seeds=3):
    values = [value - reach / 4, value, value + reach / 4][:seeds]
    return {"value": value, "low": value - reach, "high": value + reach, "seeds": values, "deviation": reach / 4}


def made_up(distances=None, *, conditional=True, accuracy=0.981, judge=0.987, seeds=3, quick=False, **changed):
    """The metrics of a run, made up."""
    distances = distances or OWN
    own = {"classification_accuracy": span(0.953, 0.011, seeds), "conditional_accuracy": span(accuracy, 0.007, seeds)}
    results = []
    for place, (model, distance) in enumerate(distances.items()):
        measured = {"frechet_distance": span(distance, 0.5, seeds)}
        measured |= {name: span(value - place / 100, 0.021, seeds) for name, value in MEASURES.items()}
        results.append(
            {
                **{"model": model, "baseline": place > 0, "uses_labels": not place and conditional},
                **{"parameters": 278_275 * (place != 1), "fit_seconds": 83.4 + place},
                "settings": f"{place}7 components" * (place > 0),
                "metrics": measured | (own if conditional and not place else {}),
            }
        )
    training = [
        {"seed": seed, "rounds": 12, "done": 12, "best": 10 + seed % 3, "diverged": False, "collapsed": False}
        | {"seconds": 83.4}
        for seed in range(seeds)
    ]
    metrics = {
        **{"application": "image_synthesis", "backend": "tensorflow", "seed": 0},
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "settings": {
            **{"template": "conditional_gan" if conditional else "gan", "optimizer": "adam", "learning_rate": 0.0005},
            **{"discriminator_learning_rate_ratio": 4.0, "batch_size": 32, "epochs": 120, "quick": quick},
            "gan": {
                **{"loss": "non_saturating", "label_input": "projection", "augmentation": ["translation", "cutout"]},
                **{"spectral_normalization": True, "dropout": 0.15, "label_smoothing": 0.1},
            },
        },
        "command": "python applications/image_synthesis.py",
        "data": {
            **{"name": "digits", "source": "scikit-learn", "licence": "CC BY 4.0", "size_bytes": 115_008},
            **{"sha256": "ab" * 32, "units": "brightness, 0 to 255", "seed": None, "notes": ["first half"]},
            **{"classes": list("0123456789"), "shape": [8, 8, 1], "train": 718, "validation": 180, "test": 899},
        },
        "evaluation": {
            **{"pictures": 898, "learnt_from": 897, "judge_accuracy": judge, "majority": 0.103, "judge_seconds": 12.3},
            **{"judge_pictures": 898, "features": 128, "variance": None, "copied": 0.01, "threshold": 0.71},
        },
        "headline": {"model": next(iter(distances)), "metric": "frechet_distance", "value": 4.21},
        "results": results,
        "differences": [synthesis_evaluation.nearer(results[0], baseline) for baseline in results[1:]],
        "real": {"frechet_distance": 1.42, "precision": 0.914, "recall": 0.909, "copied": 1.0, "rarest": 0.932},
        "training": training,
        "by_class": {
            "recognised": [0.99 - place / 100 for place in range(10)] if conditional else [],
            "share": [0.1] * 10,
            "real_share": [0.1] * 10,
        },
        "model": {
            "layers": [["seed", [256], 32_768], ["up_1_convolution", [8, 8, 64], 36_864]],
            "discriminator_layers": [["down_1_convolution_1", [8, 8, 64], 704]],
        },
        "timing": {
            **{"started": "2026-03-04T05:06:07+00:00", "machine": "x86_64, 2 cores, Linux", "resumed": False},
            **{"fit_seconds": 250.24, "examples_per_second": 8_237, "total_seconds": 391.55, "peak_memory_mb": 1_951},
        },
    }
    metrics.update(changed)
    return metrics


def nameless():
    """The metrics of a run on pictures without classes."""
    metrics = made_up(conditional=False, by_class=None)
    metrics["evaluation"] |= {"judge_accuracy": None, "majority": None, "judge_seconds": None}
    metrics["evaluation"] |= {"features": 64, "variance": 0.8613}
    metrics["data"]["classes"] = ["all"]
    for measured in (*(result["metrics"] for result in metrics["results"]), metrics["real"]):
        del measured["rarest"]
    return metrics


def failing(**flags):
    metrics = made_up()
    metrics["training"][1].update(flags, done=8)
    return metrics


RUNS = {
    "conditional": made_up(),
    "without classes": made_up(conditional=False),
    "of pictures without classes": nameless(),
    "one seed": made_up(seeds=1),
    "a quick run": made_up(quick=True, seeds=2),
    "diverged": failing(diverged=True),
    "collapsed": failing(collapsed=True),
    "labels that mean nothing": made_up(judge=0.11),
}
every_run = pytest.mark.parametrize("metrics", RUNS.values(), ids=RUNS)


def words(metrics):
    """All that the report says, as one text with plain spaces."""
    return json.dumps(synthesis_report.document(metrics), ensure_ascii=False).replace("\u00a0", " ")


def spoken(metrics):
    return [sentence.replace("\u00a0", " ") for sentence in synthesis_report.verdict(metrics)]


def test_verdict_follows_the_intervals():
    ahead, told_apart, behind = (spoken(made_up(OWN | {"conditional GAN": distance})) for distance in (4.21, 6.1, 9.87))
    assert ahead[0] == (
        "The conditional GAN draws pictures that are more like real ones than those of any baseline: its Fréchet "
        "distance from the test pictures is 4.21 (3.71 to 4.71), that of the Gaussian mixture, the nearest of the "
        "baselines, 6.38 (5.88 to 6.88), more by 2.17 (1.89 to 2.45)."
    )
    assert told_apart[0].startswith("Whether the conditional GAN draws better than the baselines can't be told: its")
    assert behind[0].startswith("The conditional GAN is not the model to take for these pictures: its Fréchet")
    assert (
        ahead[1] == "Real training pictures are at 1.42 from the test pictures, so that its own are 3.0 times as far."
    )
    assert ahead[2] == (
        "Asked for a class it draws it: a judge that recognises 98.7 % of the real pictures sees the right one in "
        "98.1 % (97.4 to 98.8 %) of its own."
    )
    assert ahead[3] == (
        "91.3 % of its pictures lie where real ones do (precision), and 62.4 % of the real ones where its own do "
        "(recall)."
    )
    assert len(ahead) == 4


def test_one_training_decides_nothing():
    first = spoken(RUNS["one seed"])[0]
    assert first.startswith("One training can't tell whether the conditional GAN draws better")
    assert first.endswith("is 4.21, that of the Gaussian mixture, the nearest of the baselines, 6.38.")
    blocks = synthesis_report.document(RUNS["one seed"])["sections"][0]["blocks"]
    results, labels = (block["table"] for block in blocks if "table" in block)
    for row in (*results["rows"], *labels["rows"]):
        assert all(isinstance(cell, str) for cell in row[1:])


def test_the_difference_has_welchs_interval():
    own, other = (
        {"model": name, "metrics": {"frechet_distance": synthesis_evaluation.over_seeds(seeds)}}
        for name, seeds in (("a", [3.0, 4.0, 5.0]), ("b", [6.0, 6.0, 9.0]))
    )
    found = synthesis_evaluation.nearer(own, other)
    # Variances of the means 1/3 and 1, degrees of freedom (4/3)² / ((1/3)² / 2 + 1² / 2) = 3.2.
    reach = 3.0727 * (4 / 3) ** 0.5
    assert found["value"] == pytest.approx(3)
    assert (found["low"], found["high"]) == (pytest.approx(3 - reach, abs=1e-3), pytest.approx(3 + reach, abs=1e-3))


def test_a_class_that_is_ignored_comes_first():
    found = spoken(made_up(accuracy=0.12))
    assert found[0].startswith("The conditional GAN does not draw the class that it is asked for: a judge that")
    assert found[1].startswith("The conditional GAN draws pictures that are more like")
    assert not any(sentence.startswith("Asked for") for sentence in found)


def test_of_a_judge_that_knows_nothing_nothing_follows():
    found = spoken(made_up(judge=0.11))
    assert found[0].startswith("Nothing can be said of what the conditional GAN draws: the judge")
    assert "only 11.0 % of the real ones, where the most frequent class has 10.3 %." in found[0]
    assert len(found) == 2
    assert spoken(made_up(judge=0.2))[0].startswith("The conditional GAN draws")


def test_missing_classes_and_copies_are_told():
    metrics = copy.deepcopy(RUNS["conditional"])
    metrics["by_class"]["share"][3] = 0.0099
    assert "; a class it hardly draws: “3”." in spoken(metrics)[3]
    metrics["by_class"]["share"][7] = 0.0
    assert "; classes it hardly draws: “3”, “7”." in spoken(metrics)[3]
    metrics["by_class"]["share"][3] = 0.0101
    assert "; a class it hardly draws: “7”." in spoken(metrics)[3]
    assert "by heart" not in words(metrics)
    metrics["results"][0]["metrics"]["copied"] = span(0.04, 0.031)  # may be 0.9 %
    assert "by heart" not in words(metrics)
    metrics["results"][0]["metrics"]["copied"] = span(0.019, 0.005)
    assert "by heart" not in words(metrics)
    metrics["results"][0]["metrics"]["copied"] = span(0.04, 0.025)
    metrics["results"][0]["metrics"]["precision"] = span(0.49, 0.02)  # unlike anything real
    assert "by heart" not in words(metrics)
    metrics["results"][0]["metrics"]["precision"] = span(0.91, 0.02)
    assert spoken(metrics)[4] == (
        "It has learnt some pictures by heart: 4.0 % (1.5 to 6.5 %) of its own are as near to a training picture as "
        "only 1.0 % of the real test pictures are."
    )


@pytest.mark.parametrize(("flag", "what"), [("diverged", "no longer a number"), ("collapsed", "hardly any kind")])
def test_trainings_that_failed_are_told(flag, what):
    said = spoken(RUNS[flag])[-1]
    assert said.startswith(f"The training of seed 1 {flag}: ")
    assert what in said
    assert "the weights that were best before" in said
    assert flag not in " ".join(spoken(RUNS["conditional"]))


def test_a_quick_run_says_so_last():
    assert "quick run" in spoken(RUNS["a quick run"])[-1]


def test_pictures_without_classes_are_compared_in_components():
    text = words(RUNS["of pictures without classes"])
    assert (
        "compared in the first 64 principal components of 898 training pictures, which hold 86.1 % of their variance "
        "and need no classes." in text
    )
    for word in ("Class by class", "judge that", "Rarest", "rarest", "recognises", "convolutional"):
        assert word not in text
    assert "898 real pictures, without classes" in text
    assert spoken(RUNS["of pictures without classes"])[0] == spoken(RUNS["without classes"])[0]


def test_all_models_are_said_to_have_learnt_from_the_same_pictures():
    assert "All models learnt from the same 897 pictures." in words(RUNS["conditional"])


def test_measures_of_few_pictures_are_said_to_be_chance():
    few, more = made_up(), made_up()
    few["evaluation"]["pictures"], more["evaluation"]["pictures"] = 49, 50
    said = "With only 49 pictures to compare with, these measures are little more than chance."
    assert said in spoken(few)
    assert spoken(few)[0].startswith("Only 49 test pictures can't tell whether the conditional GAN draws better than")
    assert spoken(more)[0].startswith("The conditional GAN draws pictures that are more like real ones")
    assert not [sentence for sentence in spoken(more) if "chance" in sentence]


def test_without_classes_nothing_is_said_of_those_asked_for():
    said = words(RUNS["without classes"])
    assert "asked" not in said
    assert "Conditional accuracy" not in said
    assert "Recognised" not in said


def test_tables_name_all_models_and_real_pictures():
    sections = synthesis_report.document(RUNS["conditional"])["sections"]
    first, second = (block["table"] for block in sections[0]["blocks"] if "table" in block)
    assert [row[0] if isinstance(row[0], str) else row[0]["value"] for row in first["rows"]] == [
        *OWN,
        "training pictures",
    ]
    assert first["rows"][0][2] == {"value": "4.21", "detail": "3.71 to 4.71"}
    assert first["rows"][-1][1:] == ["–", "1.42", "91.4\u00a0%", "90.9\u00a0%", "–", "93.2\u00a0%"]
    assert [row[0] for row in second["rows"]] == ["Conditional accuracy", "Classification accuracy"]
    assert [row[1]["value"] for row in second["rows"]] == ["98.1\u00a0%", "95.3\u00a0%"]
    assert {row[2] for row in second["rows"]} == {"98.7\u00a0%"}


def test_the_worst_class_comes_first():
    table = synthesis_report.document(RUNS["conditional"])["sections"][2]["blocks"][0]["table"]
    assert [row[0] for row in table["rows"]] == list("9876543210")
    assert table["rows"][0] == ["9", "10.0\u00a0%", "10.0\u00a0%", "90.0\u00a0%"]


@every_run
def test_every_number_of_the_report_stands_in_metrics(metrics, assert_numbers_stand_in):
    own, real = metrics["results"][0]["metrics"]["frechet_distance"]["value"], metrics["real"]["frechet_distance"]
    settings = metrics["settings"]
    derived = [
        [len(metrics["training"]), len(metrics["data"]["classes"])],
        [own / real, settings["learning_rate"] * settings["discriminator_learning_rate_ratio"]],
        [training["best"] * settings["epochs"] / training["rounds"] for training in metrics["training"]],
    ]
    words = ("95", "0", "1")  # the level of the intervals, the end of the learning rate, the limit of recall
    forms = (",.0f", ",.1f", ",.2f", "g")
    assert_numbers_stand_in(synthesis_report.document(metrics), metrics, derived, words, forms=forms, least=40)


@every_run
def test_every_run_is_typeset_the_same_each_time(metrics, tmp_path):
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / "figures" / f"{name}.svg").write_bytes(PICTURE)
    pdf = synthesis_report.typeset(metrics, tmp_path)
    assert pdf.startswith(b"%PDF")
    assert synthesis_report.typeset(metrics, tmp_path) == pdf
    shown = set(re.findall(r"figures/(\w+)\.svg", words(metrics)))
    assert {Path(name).stem for name in shown} == set(FIGURES)

import json
from pathlib import Path

import pytest

from applications.images import report as image_report

HEADINGS = {
    "all": [
        *("Results", "How many labels", "Where it goes wrong", "What the convolutional network looks at"),
        *("What the deep belief network has learnt", "The deep stacking network, module by module", "Data"),
        *("Model and training", "Limits", "How to repeat"),
    ],
    "cnn": [
        *("Results", "How many labels", "Where it goes wrong", "What the convolutional network looks at", "Data"),
        *("Model and training", "Limits", "How to repeat"),
    ],
}
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
BASELINES = {"logistic regression": "C 0.1", "RBF-SVM": "C 10, gamma 16", "k-NN": "neighbours 3"}
FAMILY = ("CNN", "DBN", "DSN")
FIGURES = {
    *("models", "sizes", "confusion", "by_class", "errors", "reliability", "network", "learning"),
    *("cnn_filters", "cnn_grad_cam", "dbn_fields", "dbn_samples", "dbn_training", "dsn_modules"),
}
GAINS = (0.047, 0.013, 0.004)  # of pretraining


def span(value, width=0.012):
    return {"value": value, "low": value - width, "high": value + width}


def made_up(
    *,
    networks=("CNN",),
    accuracy=None,
    width=0.012,
    seeds=3,
    quick=False,
    classes=10,
    labels=None,
    gains=GAINS,
    sizes=True,
    likelihood=True,
    errors=True,
    files=False,
    source=None,
    dataset="digits",
):
    """The metrics of a run that never was; `accuracy` changes that of some models, `width` is half of an interval."""
    accuracy = {
        **{"CNN": 0.986, "DBN": 0.957, "DSN": 0.964},
        **{"logistic regression": 0.913, "RBF-SVM": 0.969, "k-NN": 0.953},
        **(accuracy or {}),
    }
    models = [*networks, *BASELINES]
    results = []
    for place, model in enumerate(models):
        number = seeds if model in networks else 1
        measured = {
            "accuracy": span(accuracy[model], width),
            "log_loss": span(1.173 - accuracy[model], width),
            "calibration_error": span(0.0173 + place / 1000, 0.0049),
        }
        for value in measured.values():
            value |= {"seeds": [value["value"]] * number, "deviation": 0.0023 * (number > 1)}
        results.append(
            {
                "model": model,
                "baseline": model in BASELINES,
                "uses_labels": True,
                "parameters": 0 if model == "k-NN" else 63_210 + place,
                "fit_seconds": 11.37 + place,
                "settings": BASELINES.get(model, ""),
                "metrics": measured,
            }
        )
    pairs = [(networks[0], model) for model in models[1:]]
    pairs += [(a, b) for i, a in enumerate(networks) for b in networks[i + 1 :] if (a, b) not in pairs]
    headline = results[0]["metrics"]["accuracy"]
    pictures = [90, 269, 897]
    curves = [*networks, *(["DBN without pretraining"] if "DBN" in networks and gains else []), "RBF-SVM"]
    names = [str(index) for index in range(classes)]
    details = {
        "cnn": {
            **{"filters": 32, "kernel_size": 3},
            "grad_cam": [
                {"true": "4", "found": "4", "confidence": 0.994, "row": 17},
                {"true": "8", "found": "1", "confidence": 0.731, "row": 31},
            ],
        },
        "dbn": {
            **{"widths": [500, 400], "fields": 64, "samples": 40, "gibbs_steps": 1_000, "visible": "bernoulli"},
            "log_likelihood": {
                **span(-18.342, 0.271),
                **{"log_partition": 214.573, "standard_error": 0.0381, "chains": 100, "steps": 1_001},
                "independent": -27.413,
            }
            if likelihood
            else None,
            "epochs": [
                {
                    "epoch": epoch,
                    "reconstruction_error": 3.713 / epoch,
                    "log_likelihood": -24.31 + epoch / 10 if likelihood and epoch in (2, 30) else None,
                }
                for epoch in range(1, 31)
            ],
        },
        "dsn": {
            "modules": [
                {
                    **{"train_error": 0.0213 / number, "train_accuracy": 0.971 + number / 300},
                    **{"validation_accuracy": 0.951 + number / 400, "test_accuracy": 0.947 + number / 500},
                }
                for number in (1, 2, 3)
            ],
            **{"chosen": 2, "hidden_units": 300, "ridge": 0.7, "temperature": 0.0871},
        },
    }
    recipes = {
        "CNN": {"batch_size": 32, "epochs": 37, "most_epochs": 60, "steps_per_epoch": 28, "varied": ""},
        "DBN": {
            **{"varied": "", "batch_size": 33, "epochs": 29, "most_epochs": 61, "steps_per_epoch": 27},
            **{"rbm_epochs": 30, "rbm_learning_rate": 0.05, "rbm_momentum": 0.5, "rbm_batch_size": 20},
        },
        "DSN": {"epochs": 41, "modules": 2, "varied": "each picture also shifted by 0.5 pixels"},
    }
    return {
        "application": "image_classification",
        "backend": "tensorflow",
        "seed": 0,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "settings": {
            **{"template": networks[0].lower(), "compare": len(networks) > 1, "preset": "small", "seeds": seeds},
            **{"quick": quick, "labels": labels, "dataset": dataset, "init_from": None},
            **{"npz": None, "idx": None, "cifar": None, "images": None, **(source or {})},
        },
        "command": "python applications/image_classification.py",
        "data": {
            **{"name": dataset, "source": "scikit-learn's load_digits", "licence": "CC BY", "units": "0 to 255"},
            **{"rows": 1_796, "size_bytes": 116_805, "sha256": "8b57" * 16, "seed": None, "notes": ["unshuffled"]},
            **{"train": 718, "validation": 179, "test": 899, "shape": [8, 8, 1], "classes": names},
            "labelled": labels or 897,
            "counts": {key: [low, *[high] * (classes - 1)] for key, low, high in COUNTS},
        },
        "evaluation": {"resamples": 500, "unit": "pictures", "bins": 15, "majority": 0.1023},
        "headline": {
            "model": networks[0],
            "metric": "accuracy",
            **{key: headline[key] for key in ("value", "low", "high")},
        },
        "results": results,
        "differences": [{"better": a, "worse": b, **span(accuracy[a] - accuracy[b], width)} for a, b in pairs],
        "sizes": {
            "shares": [0.1, 0.3, 1.0],
            "pictures": pictures,
            "models": {
                name: [
                    {"pictures": number, **span(0.863 + step / 20 - place / 70)} for step, number in enumerate(pictures)
                ]
                for place, name in enumerate(curves)
            },
            "pretraining": [
                {"pictures": number, **span(gain)} for number, gain in zip(pictures, gains or (), strict=True)
            ]
            if "DBN" in networks and gains
            else None,
        }
        if sizes
        else None,
        "confusion_matrix": [[84, 2, 1], [3, 79, 0], [7, 0, 80]],
        "confusions": [
            {"true": "2", "found": "0", "pictures": 7, "share": 0.0805},
            {"true": "1", "found": "0", "pictures": 3, "share": 0.0366},
        ]
        if errors
        else [],
        "accuracy_by_class": {name: span(0.993 - index / 200) for index, name in enumerate(names)},
        "reliability": {
            model: [
                {"low": 0.4, "high": 7 / 15, "count": 13, "confidence": 0.441, "accuracy": 0.613},
                {"low": 14 / 15, "high": 1.0, "count": 847, "confidence": 0.988, "accuracy": 0.991},
            ]
            for model in (networks[0], "RBF-SVM")
        },
        "errors": [
            {
                **{"row": 900 + index, "file": f"seven/{index}.png" if files else None},
                **{"true": "7", "found": "9", "confidence": 0.973 - index / 25},
            }
            for index in range(12 if errors else 0)
        ],
        **{name: details[name] if name.upper() in networks else None for name in details},
        "model": {
            "layers": [["stage_1_convolution_1", [8, 8, 32], 320], ["output", [10], 1_290]],
            "recipe": {
                name: {"optimizer": "adam", "learning_rate": 0.003, **recipes[name]}
                for name in FAMILY
                if name in networks
            },
        },
        "timing": {
            **{"started": "2026-03-04T05:06:07+00:00", "machine": "x86_64, 2 cores, Linux", "resumed": False},
            **{"fit_seconds": 250.24, "examples_per_second": 8_237, "total_seconds": 391.55, "peak_memory_mb": 1_951},
        },
    }


COUNTS = (("train", 68, 74), ("validation", 15, 19), ("test", 86, 92))
RUNS = {
    "one network": made_up(),
    "a deep belief network": made_up(networks=("DBN",)),
    "a deep stacking network": made_up(networks=("DSN",)),
    "all three": made_up(networks=FAMILY),
    "one seed": made_up(seeds=1),
    "a quick run": made_up(networks=FAMILY, quick=True, seeds=2),
    "few labels": made_up(networks=("DBN", "CNN", "DSN"), labels=500),
    "many classes": made_up(classes=60, files=True, source={"images": "photographs"}, dataset="photographs"),
    "no optional part": made_up(networks=("DBN",), sizes=False, likelihood=False, errors=False, gains=None),
    "not above the most frequent class": made_up(accuracy={"CNN": 0.107}),
}
every_run = pytest.mark.parametrize("metrics", RUNS.values(), ids=RUNS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / "figures" / f"{name}.svg").write_bytes(PICTURE)
    return tmp_path


def words(metrics):
    """All that the report says, as one text with plain spaces."""
    return json.dumps(image_report.document(metrics), ensure_ascii=False).replace("\u00a0", " ")


def spoken(metrics):
    return [sentence.replace("\u00a0", " ") for sentence in image_report.verdict(metrics)]


def blocks(metrics, kind):
    sections = image_report.document(metrics)["sections"]
    return [block[kind] for section in sections for block in section["blocks"] if kind in block]


def figures(metrics):
    return {Path(figure["file"]).stem: figure for pair in blocks(metrics, "figures") for figure in pair}


def tables(metrics):
    return {table["caption"]: table for table in blocks(metrics, "table")}


def section(metrics, heading):
    """The text of a section."""
    found = next(part for part in image_report.document(metrics)["sections"] if part["heading"] == heading)
    return json.dumps(found, ensure_ascii=False).replace("\u00a0", " ")


# --- The verdict ---


def test_verdict_follows_the_numbers():
    ahead, behind, equal, useless = (
        spoken(made_up(accuracy=changes)) for changes in ({}, {"k-NN": 0.999}, {"RBF-SVM": 0.979}, {"CNN": 0.107})
    )
    assert ahead[0] == (
        "The CNN recognises the pictures better than the RBF-SVM, the most accurate of the baselines, "
        "trained on the same 897 labelled pictures: ahead by 1.7 percentage points of accuracy (0.5 to 2.9)."
    )
    assert ahead[1] == (
        "It gives 98.6 % of the pictures the right class (97.4 to 99.8 %), an error of 1.4 %. Its log-loss is 0.187 "
        "nats (0.175 to 0.199), its calibration error 1.7 % (1.2 to 2.2 %)."
    )
    assert ahead[2] == (
        "Trained on 90 labelled pictures instead of 897, it's right for 86.3 % (85.1 to 87.5 %) of the pictures "
        "instead of 96.3 %."
    )
    assert ahead[3] == (
        "It's right least often for pictures of “9”, 94.8 % (93.6 to 96.0 %); most often it takes “2” for “0” (8.1 % "
        "of the pictures of “2”)."
    )
    assert behind[0] == (
        "The CNN is not the classifier to take for these pictures: it is behind the k-NN, the most accurate of the "
        "baselines, trained on the same 897 labelled pictures, by 1.3 percentage points of accuracy (0.1 to 2.5)."
    )
    assert equal[0] == (
        "The CNN cannot be told from the RBF-SVM, the most accurate of the baselines, trained on the same 897 labelled "
        "pictures: the difference in accuracy, +0.7 (-0.5 to +1.9) percentage points, may be chance."
    )
    assert useless[0] == (
        "The CNN does not recognise the pictures: its accuracy of 10.7 % (9.5 to 11.9 %) is not above the 10.2 % of "
        "giving every picture the most frequent class."
    )
    assert "check the labels" in useless[2]
    assert len({ahead[0], behind[0], equal[0], useless[0]}) == 4


def test_what_is_right_for_almost_all_has_two_digits():
    def said(tested, accuracy=0.9972):
        metrics = made_up(accuracy={"CNN": accuracy, "RBF-SVM": 0.9851}, width=0.0011)
        metrics["data"]["test"] = tested
        table = tables(metrics)["All models on the same test pictures"]
        return spoken(metrics), [cell["value"] for cell in table["rows"][0][3:5]]

    sentences, cells = said(10_000)
    assert "ahead by 1.21 percentage points of accuracy (1.10 to 1.32)" in sentences[0]
    assert "99.72 % of the pictures the right class (99.61 to 99.83 %), an error of 0.28 %" in sentences[1]
    assert cells == ["99.72\u00a0%", "0.28\u00a0%"]
    assert said(999)[1] == ["99.7\u00a0%", "0.3\u00a0%"]  # a picture is a tenth of a per cent
    assert said(10_000, accuracy=0.9899)[1] == ["99.0\u00a0%", "1.0\u00a0%"]


def perfect(tested, baseline=1.0):
    metrics = made_up(accuracy={"CNN": 1.0, "RBF-SVM": baseline}, width=0.0)
    metrics["data"]["test"] = tested
    metrics["accuracy_by_class"] = {name: span(1.0, 0.0) for name in metrics["accuracy_by_class"]}
    return metrics


def test_perfect_models_are_not_told_apart_and_no_error_is_no_proof():
    assert spoken(perfect(900))[0] == (
        "The CNN gives every test picture the right class, and so does the RBF-SVM, the most accurate of the "
        "baselines, trained on the same 897 labelled pictures: these pictures can't tell the two apart."
    )
    # 0.997^900 and 0.741^10 are a twentieth.
    assert spoken(perfect(900))[2] == "No error among 900 pictures leaves an error of up to 0.3 % possible."
    assert spoken(perfect(10))[2] == (
        "Few pictures were tested, 10: the intervals of so few are too narrow; no error among 10 pictures leaves an "
        "error of up to 25.9 % possible."
    )
    assert not [sentence for sentence in spoken(perfect(900)) if "right least often" in sentence]
    assert not [sentence for sentence in spoken(made_up()) if "tested" in sentence]


def test_a_lead_of_a_few_pictures_is_none():
    def said(pictures):
        metrics = made_up(accuracy={"CNN": 0.993, "RBF-SVM": 0.961})
        for entry in metrics["differences"]:
            entry["pictures"] = pictures
        table = tables(metrics)["Differences in accuracy, in percentage points"]
        return spoken(metrics)[0], [row[-1] for row in table["rows"] if row[1] == "RBF-SVM"], table["note"]

    assert "better than the RBF-SVM" in said(6.0)[0]
    assert "cannot be told from the RBF-SVM" in said(5.9)[0]
    assert (said(6.0)[1], said(5.9)[1]) == (["ahead"], ["not told apart"])
    assert "excludes 0 and the two differ by 6 pictures or more" in said(6.0)[2]


def test_a_class_of_few_test_pictures_is_told():
    metrics = made_up()
    metrics["data"]["counts"]["test"][9] = 4
    (said,) = [sentence for sentence in spoken(metrics) if "right least often" in sentence]
    assert "“9”, 94.8 % (93.6 to 96.0 %), of which only 4 were tested; most often it takes" in said


def test_the_classes_are_drawn_by_the_smaller_of_accuracy_and_error():
    low = made_up()
    low["accuracy_by_class"] = {name: span(0.3) for name in low["accuracy_by_class"]}
    assert image_report.shows_errors(made_up())
    assert not image_report.shows_errors(low)
    assert figures(low)["by_class"]["caption"].startswith("Accuracy by true class")


def test_the_interval_decides_not_the_value():
    narrow, wide = (spoken(made_up(accuracy={"RBF-SVM": 0.979}, width=width))[0] for width in (0.006, 0.008))
    assert "ahead by 0.7 percentage points of accuracy (0.1 to 1.3)" in narrow
    assert "cannot be told" in wide
    below, above = (spoken(made_up(accuracy={"CNN": 0.12}, width=width))[0] for width in (0.02, 0.01))
    assert "does not recognise" in below
    assert "is behind the RBF-SVM" in above


def test_verdict_compares_the_networks():
    assert not [sentence for sentence in spoken(made_up()) if "networks" in sentence]
    assert spoken(made_up(networks=FAMILY))[2] == (
        "Of the 3 networks the CNN has the highest accuracy, 98.6 %: the CNN is ahead of the DBN by 2.9 points (1.7 to "
        "4.1); the CNN is ahead of the DSN by 2.2 points (1.0 to 3.4)."
    )
    other = spoken(made_up(networks=FAMILY, accuracy={"DSN": 0.992, "CNN": 0.961}))[2]
    assert "the DSN has the highest accuracy, 99.2 %: the CNN is behind the DSN by 3.1 points (1.9 to 4.3)" in other
    assert "the DBN is behind the DSN by 3.5 points" in other
    assert "from the DBN" not in other


def test_verdict_says_what_pretraining_buys():
    pays, costs, unclear = (
        spoken(made_up(networks=("DBN",), gains=gains))[2]
        for gains in (GAINS, (-0.031, 0.0, 0.002), (0.011, 0.014, -0.003))
    )
    assert pays == (
        "Pretraining pays where labels are few: with 90 labelled pictures the DBN is ahead of the same network trained "
        "from random weights by 4.7 percentage points (3.5 to 5.9); with 897 by +0.4 (-0.8 to +1.6)."
    )
    assert "Pretraining does not pay: with 90 labelled pictures the DBN is behind" in costs
    assert "by 3.1 percentage points (1.9 to 4.3)" in costs
    assert "Whether pretraining pays where labels are few can't be told" in unclear
    assert "by +1.1 (-0.1 to +2.3) percentage points" in unclear
    assert "Pretraining" not in " ".join(spoken(made_up(networks=("DBN",), gains=None)))


def test_verdict_is_short_and_says_what_there_is_alone():
    assert all(len(spoken(metrics)) <= 5 for metrics in RUNS.values())
    assert "quick run" in spoken(RUNS["a quick run"])[-1]
    assert "quick run" in spoken(made_up(quick=True, accuracy={"CNN": 0.107}))[-1]
    assert "quick run" not in " ".join(spoken(RUNS["all three"]))
    least = spoken(RUNS["no optional part"])
    assert len(least) == 3
    assert least[2] == "It's right least often for pictures of “9”, 94.8 % (93.6 to 96.0 %)."


# --- The document ---


@every_run
def test_every_number_of_the_report_stands_in_metrics(metrics, assert_numbers_stand_in):
    accuracies = [result["metrics"]["accuracy"] for result in metrics["results"]]
    matrix = metrics["confusion_matrix"]
    derived = [
        [1 - accuracy[key] for accuracy in accuracies for key in ("value", "low", "high")],
        [1 - value["value"] for value in metrics["accuracy_by_class"].values()],
        [len(accuracy["seeds"]) for accuracy in accuracies],
        [len(metrics[name]) for name in ("errors", "results")],
        [len(metrics["data"]["classes"]), sum(not result["baseline"] for result in metrics["results"])],
        [number + 1 for number in range(len((metrics["dsn"] or {"modules": []})["modules"]))],
        [min(of_split) for of_split in metrics["data"]["counts"].values()],
        sum(map(sum, matrix)) - sum(row[place] for place, row in enumerate(matrix)),
        320 // 40 * 8 * 32,  # what the first layer gives out
    ]
    words = ("95", "0", "2017", "2008")  # the level of the intervals, where a difference is none, the years of papers
    forms = (",.0f", ",.1f", ".2f", ".3f", ".4f", "g", ".2g", ".3g")
    assert_numbers_stand_in(image_report.document(metrics), metrics, derived, words, forms=forms, least=60)


@every_run
def test_every_run_is_typeset_the_same_each_time(metrics, folder):
    pdf = image_report.typeset(metrics, folder)
    assert pdf.startswith(b"%PDF")
    assert image_report.typeset(metrics, folder) == pdf


def test_sections_are_those_of_the_networks_in_order():
    def headings(metrics):
        return [part["heading"] for part in image_report.document(metrics)["sections"]]

    assert headings(RUNS["all three"]) == HEADINGS["all"]
    assert headings(RUNS["few labels"]) == HEADINGS["all"]
    assert headings(RUNS["one network"]) == HEADINGS["cnn"]
    assert "How many labels" not in headings(RUNS["no optional part"])


def test_figures_are_those_that_say_something():
    def of(kinds):
        return {name for name in FIGURES if name.partition("_")[0] not in {"cnn", "dbn", "dsn"} - kinds}

    assert set(figures(RUNS["all three"])) == FIGURES
    assert set(figures(RUNS["one network"])) == of({"cnn"})
    assert set(figures(RUNS["a deep belief network"])) == of({"dbn"})
    assert set(figures(RUNS["a deep stacking network"])) == of({"dsn"})
    assert set(figures(RUNS["many classes"])) == of({"cnn"}) - {"by_class"}
    assert set(figures(RUNS["no optional part"])) == of({"dbn"}) - {"sizes", "errors"}


def test_alternative_texts_carry_the_numbers():
    said = {name: figure["alt"].replace("\u00a0", " ") for name, figure in figures(RUNS["all three"]).items()}
    assert "CNN 98.6 %, 0.187 nats, 1.7 %; DBN 95.7 %" in said["models"]
    assert "with 90: CNN 86.3 %, DBN 84.9 %" in said["sizes"]
    assert "2 as 0 7, 1 as 0 3" in said["confusion"]
    assert "Error of each class; CNN: 0 0.7 %, 1 1.2 %" in said["by_class"]
    assert "7 → 9, 0.97; 7 → 9, 0.93" in said["errors"]
    assert "CNN, surest 93 % and more: 847 pictures, 99.1 % right" in said["reliability"]
    assert "4 → 4, 0.99; 8 → 1, 0.73" in said["cnn_grad_cam"]
    assert "from 3.71 in epoch 1 to 0.124 in epoch 30" in said["dbn_training"]
    assert "module 1 94.9 %; module 2 95.1 %; module 3 95.3 %" in said["dsn_modules"]


def test_table_names_all_models_with_error_and_settings():
    table = tables(RUNS["all three"])["All models on the same test pictures"]
    names = [row[0] for row in table["rows"]]
    assert names == [*FAMILY, *({"value": name, "detail": chosen} for name, chosen in BASELINES.items())]
    assert table["rules"] == [2]
    assert table["rows"][0][3:5] == [
        {"value": "98.6\u00a0%", "detail": "97.4 to 99.8\u00a0%"},
        {"value": "1.4\u00a0%", "detail": "0.2 to 2.6\u00a0%"},
    ]
    assert table["rows"][5][1] == "–"
    assert "seeds" in table["note"]
    assert "seeds" not in tables(RUNS["one seed"])["All models on the same test pictures"]["note"]


def test_all_models_have_the_same_pictures_and_those_of_the_choices_are_told():
    def note(most):
        metrics = made_up()
        metrics["evaluation"]["choice_pictures"] = most
        return tables(metrics)["All models on the same test pictures"]["note"]

    assert "All were trained on the same 897 labelled pictures" in note(897)
    assert "settings were chosen by training on 896 of them at most" in note(896)
    assert note(897) == note(None) == tables(made_up())["All models on the same test pictures"]["note"]


def test_differences_are_told_once_and_read():
    metrics = made_up(networks=FAMILY, accuracy={"DBN": 0.983, "RBF-SVM": 0.999})
    metrics["differences"].append({"better": "DBN", "worse": "CNN", **span(-0.003)})
    rows = tables(metrics)["Differences in accuracy, in percentage points"]["rows"]
    read = {(row[0], row[1]): row[-1] for row in rows}
    assert len(rows) == len(read) == 6
    assert read["CNN", "DBN"] == "not told apart"
    assert read["CNN", "DSN"] == "ahead"
    assert read["CNN", "RBF-SVM"] == "behind"


def test_gains_of_pretraining_stand_below_the_models():
    table = tables(RUNS["all three"])["Accuracy by the number of labelled training pictures"]
    assert [column["name"] for column in table["columns"]] == ["Model", "90 pictures", "269 pictures", "897 pictures"]
    assert [row[0] for row in table["rows"][:-1]] == [*FAMILY, "DBN without pretraining", "RBF-SVM"]
    assert table["rules"] == [4]
    assert table["rows"][-1][1:3] == [
        {"value": "+4.7", "detail": "+3.5 to +5.9"},
        {"value": "+1.3", "detail": "+0.1 to +2.5"},
    ]
    alone = tables(RUNS["one network"])["Accuracy by the number of labelled training pictures"]
    assert [row[0] for row in alone["rows"]] == ["CNN", "RBF-SVM"]


def test_many_classes_have_a_table_of_confusions_and_files_are_named():
    metrics = RUNS["many classes"]
    confusions = tables(metrics)["The most frequent confusions of the CNN (seed 0)"]
    assert confusions["rows"][0] == ["2", "0", "7", "8.1\u00a0%"]
    files = tables(metrics)["The files of the first of these pictures: is the label right?"]
    assert [row[0] for row in files["rows"]] == [f"seven/{index}.png" for index in range(10)]
    assert "38, 39, …" in section(metrics, "Data")
    assert len(tables(RUNS["one network"])) == len(tables(metrics)) - 2


def test_likelihood_is_compared_with_independent_pixels():
    def said(low, high):
        metrics = made_up(networks=("DBN",))
        metrics["dbn"]["log_likelihood"] |= {"low": low, "high": high}
        return section(metrics, "What the deep belief network has learnt")

    assert "ln Z is 214.57 nats with a standard error of 0.038, from 100 chains of 1,001 steps" in said(-19, -18)
    assert "has on average −18.34 nats (−19.00 to −18.00, a bootstrap over the pictures" in said(-19, -18)
    assert "more than the −27.41" in said(-19, -18)
    assert "less than the −27.41" in said(-29, -28)
    assert "not told apart from the −27.41" in said(-28, -27)
    assert "from −24.1 nats in epoch 2 to −21.3 in epoch 30" in said(-19, -18)
    least = section(RUNS["no optional part"], "What the deep belief network has learnt")
    assert "ln Z" not in least
    assert "log-likelihood" not in least


def test_modules_that_are_kept_are_marked():
    table = tables(RUNS["all three"])["The network's answer after each module"]
    assert table["emphasis"] == [1]
    assert table["rows"][0] == ["1", "0.0213", "97.4\u00a0%", "95.3\u00a0%", "94.9\u00a0%"]


def test_limits_and_labels_are_those_of_the_run():
    digits, own = (section(RUNS[name], "Limits") for name in ("all three", "many classes"))
    assert "same writers" in digits
    assert "Annealed importance sampling" in digits
    assert "same writers" not in own
    assert "labels are taken for the truth" in own
    assert "Annealed" not in own
    assert "Annealed" not in section(RUNS["no optional part"], "Limits")
    assert "500 training pictures" in section(RUNS["few labels"], "Data")
    assert "all 897 training pictures" in section(RUNS["one network"], "Data")


def test_recipes_tell_each_training():
    said = section(RUNS["all three"], "Model and training")
    assert (
        "cross-entropy; adam, learning rate 0.003 falling along a cosine; 32 pictures a step, 28 steps an epoch; 37 "
        "epochs, chosen on validation among 60 at most" in said
    )
    assert (
        "each Boltzmann machine by gradient descent, learning rate 0.05, momentum 0.5, 20 pictures a step, 30 epochs; "
        "then cross-entropy; adam" in said
    )
    assert "squared error of the closed form; adam, learning rate 0.003 falling along a cosine; 41 epochs for" in said
    assert "each of 2 modules" in said
    assert "shifted by 0.5 pixels" in said

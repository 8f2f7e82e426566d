from pathlib import Path

import pytest

import applications
from applications.images import evaluation

DOCUMENT = Path(applications.__file__).parent / "images" / "report.typ"
ACCURACY = {
    **{"CNN": 0.986, "DBN": 0.957, "DSN": 0.964},
    **{"logistic regression": 0.913, "RBF-SVM": 0.969, "k-NN": 0.953},
}
HEADINGS = {
    "cnn": "Convolutional network",
    "dbn": "Deep belief network",
    "dsn": "Deep stacking network",
}


def span(value, width=0.012):
    return {"value": value, "low": value - width, "high": value + width}


@pytest.fixture
def made(metrics, changed):
    """The metrics with other accuracies, `width` half of their intervals; of one network alone, if it is named."""

    def make(values=None, *, alone=None, width=0.012, accuracy=None):
        found = changed(metrics, {("settings", "quick"): False})
        if alone:
            others = {"CNN", "DBN", "DSN"} - {alone}
            pairs = (("better", "worse"), ("model",))
            for key, names in zip(("differences", "results"), pairs, strict=True):
                found[key] = [entry for entry in found[key] if not others & {entry[name] for name in names}]
            for name in others:
                found["sizes"]["models"].pop(name)
                found[name.lower()] = None
                found["model"]["recipe"].pop(name)
            if alone != "DBN":
                found["sizes"]["pretraining"] = None
                found["sizes"]["models"].pop("DBN without pretraining")
            found["headline"]["model"] = alone
            prefixes = tuple(f"{name.lower()}_" for name in others)
            found["figures"] = {k: v for k, v in found["figures"].items() if not k.startswith(prefixes)}
            # The differences of a network from the baselines are those of the first one.
            baselines = [result["model"] for result in found["results"] if result["baseline"]]
            entry = metrics["differences"][0]
            found["differences"] = [{**entry, "better": alone, "worse": name} for name in baselines]
        values_of = ACCURACY | (accuracy or {})
        for result in found["results"]:
            result["metrics"]["accuracy"] |= span(values_of[result["model"]], width)
        for entry in found["differences"]:
            entry |= span(values_of[entry["better"]] - values_of[entry["worse"]], width) | {"pictures": 20.0}
        found["headline"] |= span(values_of[found["headline"]["model"]], width)
        return changed(found, values or {})

    return make


@pytest.fixture
def said(made, report_text):
    """The text of the report on such metrics."""
    return lambda values=None, **options: report_text(DOCUMENT, made(values, **options))


def missing(words, text):
    return [word for word in words if word not in text]


def test_the_real_run_has_the_schema(metrics, assert_schema):
    assert_schema(metrics, evaluation.Metrics)


def test_every_number_of_the_report_is_measured(metrics, report_text, assert_numbers_are_measured):
    accuracies = [result["metrics"]["accuracy"] for result in metrics["results"]]
    derived = [
        *([1 - accuracy[key] for key in ("value", "low", "high")] for accuracy in accuracies),
        *([1 - value["value"]] for value in metrics["accuracy_by_class"].values()),
        *([min(of_split), max(of_split)] for of_split in metrics["data"]["counts"].values()),
        metrics["data"]["test"] - sum(row[place] for place, row in enumerate(metrics["confusion_matrix"])),
    ]
    text = report_text(DOCUMENT, metrics)
    assert_numbers_are_measured(text, metrics, derived=derived, known=("0", "0.1", "2008", "2017"))


# --- The verdict ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["more accurate than the RBF-SVM", "by 1.7 percentage points in accuracy (0.5 to 2.9)"]),
        ({"accuracy": {"k-NN": 0.999}}, ["not the best choice", "behind the k-NN", "by 1.3", "(0.1 to 2.5)"]),
        (
            {"accuracy": {"RBF-SVM": 0.979}},
            ["not significantly different from the RBF-SVM", "+0.7 (-0.5 to +1.9) percentage"],
        ),
        (
            {"accuracy": {"RBF-SVM": 0.979}, "width": 0.006},
            ["more accurate than the RBF-SVM", "by 0.7", "(0.1 to 1.3)"],
        ),
        ({"accuracy": {"CNN": 0.12}, "width": 0.01}, ["not the best choice", "behind the RBF-SVM"]),
        (
            {"accuracy": {"CNN": 0.12}, "width": 0.02},
            ["has not learned the classes", "10.0 to 14.0 %", "check the labels"],
        ),
        ({"accuracy": {"CNN": 1, "RBF-SVM": 1}, "width": 0}, ["every test image correctly", "so does the RBF"]),
    ],
    ids=["ahead", "behind", "overlap", "narrow interval", "above chance", "chance", "perfect"],
)
def test_the_verdict_follows_the_numbers(said, options, words):
    text = said({("evaluation", "majority"): 0.1023, ("data", "labelled"): 897}, **options)
    assert missing([*words, "trained on the same 897 labelled images"], text) == []
    readings = {"CNN is more accurate", "not the best choice", "these images cannot separate"}
    readings |= {"The CNN is not significantly different", "has not learned the classes"}
    assert sum(reading in text for reading in readings) == 1


@pytest.mark.parametrize(
    ("pictures", "read", "reading"),
    [
        (6.0, "more accurate than the RBF-SVM", "ahead"),
        (5.9, "is not significantly different from the RBF-SVM", "not significant"),
    ],
)
def test_a_lead_of_a_few_pictures_is_none(said, metrics, pictures, read, reading):
    pairs = [(entry["better"], entry["worse"]) for entry in metrics["differences"]]
    text = said({("differences", pairs.index(("CNN", "RBF-SVM")), "pictures"): pictures})
    assert read in text
    assert f"CNN RBF-SVM +1.7 +0.5 to +2.9 {reading}" in text
    assert "excludes 0 and the models differ by 6 images or more" in text


def test_numbers_of_the_verdict_have_the_digits_of_the_measures(said):
    values = {("evaluation", "digits"): 2}
    text = said(values, accuracy={"CNN": 0.9972, "RBF-SVM": 0.9851}, width=0.0011)
    assert "by 1.21 percentage points in accuracy (1.10 to 1.32)" in text
    assert "Its accuracy is 99.72 % (99.61 to 99.83 %), an error rate of 0.28 %" in text
    assert "99.72 % 99.61 to 99.83 % 0.28 % 0.17 to 0.39 %" in text


@pytest.mark.parametrize(
    ("tested", "words"),
    [  # 0.997^900 and 0.741^10 are a twentieth
        (900, ["No error in 900 images is still consistent with an error rate of up to 0.3 %"]),
        (10, ["only 10 test images", "; no error in 10 images is still consistent with an error rate of up to 25.9 %"]),
    ],
)
def test_no_error_is_no_proof(said, metrics, tested, words):
    values = {("accuracy_by_class",): {name: span(1, 0) for name in metrics["accuracy_by_class"]}}
    text = said(values | {("data", "test"): tested}, accuracy={"CNN": 1}, width=0)
    assert missing(words, text) == []
    assert "lowest accuracy is" not in text


def test_the_weakest_class_is_told(said, metrics):
    of_classes = {name: span(0.993 - index / 200) for index, name in enumerate(metrics["accuracy_by_class"])}
    confusion = {"true": "2", "found": "0", "pictures": 7, "share": 0.0805}
    values = {("accuracy_by_class",): of_classes, ("confusions",): [confusion]}
    text = said(values, alone="CNN")
    assert (
        "is “9”, 94.8 % (93.6 to 96.0 %); the most frequent confusion is “2” classified as “0” (8.1 % of “2”)" in text
    )
    few = said(values | {("data", "counts", "test", 9): 1, ("confusions",): []})
    assert "“9”, 94.8 % (93.6 to 96.0 %), with only 1 test image." in few
    assert "lowest accuracy is" not in said(values | {("settings", "quick"): True})


def test_the_networks_are_compared(said):
    assert (
        "Of the 3 networks the CNN has the highest accuracy, 98.6 %: the CNN is ahead of the DBN by 2.9 points (1.7 to "
        "4.1); the CNN is ahead of the DSN by 2.2 points (1.0 to 3.4)." in said()
    )
    other = said(accuracy={"DSN": 0.992, "CNN": 0.961})
    assert "the DSN has the highest accuracy, 99.2 %: the CNN is behind the DSN by 3.1 points (1.9 to 4.3);" in other
    assert "the DBN is behind the DSN by 3.5 points" in other
    assert "networks the" not in said(alone="CNN")


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        (
            (0.047, 0.013, 0.004),
            ["Pretraining helps", "ahead of", "by 4.7 percentage points (3.5 to 5.9)", "+0.4 (-0.8 to"],
        ),
        (
            (-0.031, 0, 0.002),
            ["Pretraining hurts", "the DBN is behind", "by 3.1 percentage points (1.9 to 4.3)"],
        ),
        (
            (0.011, 0.014, -0.003),
            ["few labels is not significant", "is +1.1 (-0.1 to +2.3) percentage points; with", "-0.3 (-1.5 to"],
        ),
    ],
    ids=["pays", "costs", "unclear"],
)
def test_the_verdict_says_what_pretraining_buys(said, metrics, gains, words):
    pictures = metrics["sizes"]["pictures"]
    points = [{"pictures": number, **span(gain)} for number, gain in zip(pictures, gains, strict=True)]
    text = said({("sizes", "pretraining"): points}, alone="DBN")
    assert missing([f"with {pictures[0]} labelled images", "without pretraining", *words], text) == []
    cells = (f"{100 * gain:+.1f} {100 * gain - 1.2:+.1f} to {100 * gain + 1.2:+.1f}" for gain in gains if gain)
    assert missing(cells, text) == []


def test_without_pretraining_the_verdict_says_what_few_labels_cost(said, metrics):
    least, *_, most = metrics["sizes"]["models"]["CNN"]
    text = said(alone="CNN")
    share, low, high, whole = (f"{100 * x:.1f}" for x in (least["value"], least["low"], least["high"], most["value"]))
    assert f"on {least['pictures']} labelled images instead of {most['pictures']}, its accuracy is {share} %" in text
    assert f"({low} to {high} %) instead of {whole} %" in text
    assert "pretraining" not in text.casefold()
    assert "quick run" not in text


# --- The sections ---


@pytest.mark.parametrize("alone", ["CNN", "DBN", "DSN"])
def test_a_network_alone_has_its_section(said, alone):
    text = said(alone=alone)
    assert [name for name, heading in HEADINGS.items() if heading in text] == [alone.lower()]
    assert ("Grad-CAM" in text, "Annealed importance" in text) == (alone == "CNN", alone == "DBN")
    assert ("the DSN and of the baselines" in text) == (alone == "DSN")
    assert (f"those of the {alone} are not calibrated" in text) == (alone != "DSN")


def test_the_table_names_all_models_with_error_and_settings(said, metrics):
    values = {("results", index, "metrics", "accuracy", "deviation"): 0.0023 for index in range(3)}
    values |= {("results", index, "metrics", "accuracy", "seeds"): [0.9, 0.8, 0.7] for index in range(3)}
    values |= {("results", 5, "parameters"): 0, ("results", 5, "fit_seconds"): 0.01}
    values |= {("evaluation", "choice_pictures"): metrics["data"]["labelled"] - 1}
    text = said(values)
    assert "98.6 % 97.4 to 99.8 % 1.4 % 0.2 to 2.6 %" in text
    assert f"k-NN {metrics['results'][5]['settings']} – < 0.1" in text
    assert "Means of 3 seeds" in text
    assert "0.23 (CNN), 0.23 (DBN), 0.23 (DSN)" in text
    assert f"chosen by training on at most {metrics['data']['labelled'] - 1} of them" in text
    for word in ("Means of", "by training on at most"):
        assert word not in said()


def test_differences_are_told_once(said, made):
    twice = made(accuracy={"DBN": 0.983})["differences"]
    text = said({("differences",): [*twice, {**twice[0], "better": "DBN", "worse": "CNN", **span(-0.003)}]})
    assert "CNN DBN +0.3 -0.9 to +1.5 not significant" in text
    assert "DBN CNN" not in text


def test_many_classes_have_a_table_of_confusions_and_files_are_named(said, metrics):
    names = [str(index) for index in range(60)]
    files = [{**metrics["errors"][0], "file": f"seven/{index}.png", "confidence": 0.987} for index in range(12)]
    text = said(
        {("data", "classes"): names, ("data", "counts", "test"): [20] * 60, ("errors",): files}
        | {("confusions",): [{"true": "2", "found": "0", "pictures": 7, "share": 0.0805}]}
        | {("figures",): {name: metrics["figures"][name] for name in ("confusion", "errors", "network")}}
        | {("settings", "images"): "photographs", ("settings", "labels"): 500, ("data", "labelled"): 500},
        alone="CNN",
    )
    words = ["2 0 7 8.1 %", "The 12 errors", "seven/9.png", "60: 0, 1, 2", "38, 39, …"]
    words += ["labels are assumed to be correct", "500 training images", "four fifths", "validation images are few"]
    words += ["Loss after one epoch"]  # for want of learning curves
    assert missing(words, text) == []
    for word in ("seven/10.png", "40, 41", "same writers", "numbers: images", "by true class", "all 500"):
        assert word not in text


def test_classes_without_error_and_models_of_one_bin_are_named(said, metrics):
    values = {("accuracy_by_class", "3"): span(1, 0), ("accuracy_by_class", "7"): span(1, 0)}
    bins = metrics["reliability"]
    of_one = {"CNN": bins["CNN"], "k-NN": [bins["CNN"][-1]]}
    text = said(values | {("evaluation", "by_class"): "error", ("reliability",): of_one})
    perfect = [name for name, value in metrics["accuracy_by_class"].items() if value["value"] == 1]
    assert "Error rate by true class" in text
    assert ", ".join([*sorted({*perfect, "3", "7"})]).rpartition(", ")[0] in text
    assert "All predictions are in one bin: k-NN." in text
    assert "Accuracy by true class" in said({("evaluation", "by_class"): "accuracy"})


def test_of_few_bins_the_mean_confidence_is_told(said, metrics):
    keys = ("low", "high", "count", "confidence", "accuracy")
    bins = [dict(zip(keys, numbers, strict=True)) for numbers in ((0.5, 0.9, 100, 0.8, 0.7), (0.9, 1, 300, 1, 0.95))]
    kept = {name: figure for name, figure in metrics["figures"].items() if name != "reliability"}
    text = said({("figures",): kept, ("reliability",): {"CNN": bins}})
    assert "the CNN has a mean confidence of 95.0 % and an accuracy of 88.8 %" in text
    assert "below the diagonal" not in text


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-19, -18, ["higher than the -27.41 nats", "-18.34 nats (-19.00 to -18.00, bootstrap over the images"]),
        (-29, -28, ["lower than the -27.41 nats"]),
        (-28, -27, ["not significantly different from the -27.41 nats"]),
    ],
)
def test_the_likelihood_is_compared_with_independent_pixels(said, metrics, low, high, words):
    numbers = {"log_partition": 214.573, "standard_error": 0.0381, "chains": 100, "steps": 1_001}
    likelihood = metrics["dbn"]["log_likelihood"] | {"value": -18.342, "low": low, "high": high}
    values = {("dbn", "log_likelihood"): likelihood | {"independent": -27.413} | numbers}
    epochs = [{"epoch": 1, "reconstruction_error": 3.713, "log_likelihood": None}]
    epochs += [{"epoch": n, "reconstruction_error": 3.713 / n, "log_likelihood": -24.31 + n / 10} for n in (2, 30)]
    values |= {("dbn", "epochs"): epochs, ("dbn", "held_out"): [{"kept": n, "most": 100, "points": []} for n in (9, 5)]}
    text = said(values, alone="DBN")
    words = [*words, "ln Z is 214.57 nats with a standard error of 0.038, from 100 chains of 1,001 steps"]
    words += ["from 3.71 in epoch 1 to 0.124 in epoch 30", "from -24.1 nats in epoch 2 to -21.3 in epoch 30"]
    words += ["at most 100 epochs, fewer", "Chosen: 9 and 5 epochs."]
    assert missing(words, text) == []


def test_without_likelihood_nothing_is_said_of_it(said, metrics):
    epochs = [{**epoch, "log_likelihood": None} for epoch in metrics["dbn"]["epochs"]]
    values = {("dbn", "log_likelihood"): None, ("dbn", "epochs"): epochs, ("dbn", "visible"): "gaussian"}
    text = said(values | {("dbn", "held_out"): []}, alone="DBN")
    for word in ("ln Z", "log-likelihood", "Annealed", "Chosen: "):
        assert word not in text
    assert "(pixel means)" in text


def test_modules_and_recipes_are_told(said):
    module = {"train_error": 0.0213, "train_accuracy": 0.974, "validation_accuracy": 0.953, "test_accuracy": 0.949}
    recipe = {"optimizer": "adam", "learning_rate": 0.003, "batch_size": 32, "epochs": 37, "most_epochs": 60}
    machines = {"rbm_learning_rate": 0.05, "rbm_momentum": 0.5, "rbm_batch_size": 20, "rbm_epochs": 30}
    recipes = {
        "CNN": recipe | {"steps_per_epoch": 28, "varied": ""},
        "DBN": recipe | machines | {"steps_per_epoch": 27, "rbm_epochs_trained": [30, 30], "varied": ""},
        "DSN": recipe | {"modules": 2, "varied": "each image also shifted by 0.5 pixels"},
    }
    text = said({("dsn", "modules"): [module] * 3, ("dsn", "chosen"): 2, ("model", "recipe"): recipes})
    cosine = "adam, learning rate 0.003 with cosine decay; batch size 32"
    words = [
        f"cross-entropy; {cosine}, 28 steps per epoch; 37 epochs, chosen on validation (at most 60)",
        "each RBM by gradient descent, learning rate 0.05, momentum 0.5, batch size 20, 30 epochs; then cross-entropy",
        f"squared error of the closed-form solution; {cosine}; 37 epochs for each of 2 modules; augmentation: each",
        *("chosen on validation: 2.", "1 0.0213 97.4 % 95.3 % 94.9 %"),
    ]
    assert missing(words, text) == []


def test_what_the_run_does_not_have_is_left_out(said, metrics):
    names = ["# *a* $b$ @c <d>", "line one\nline two \x1b", "漢字 \U0001f600"]
    text = said(
        {("data", "classes", index): name for index, name in enumerate(names)}
        | {("sizes", "shares"): [1.0], ("confusions",): [], ("errors",): []}
        | {("figures",): {name: metrics["figures"][name] for name in ("models", "network", "learning")}}
        | {("limits",): ["the best epoch is the last one"], ("settings", "init_from"): "runs/a/model.keras"}
        | {("accuracy_by_class",): {names[0]: span(0.9)}},
        alone="CNN",
    )
    words = ["“# *a* $b$ @c <d>”", "‹U+001B›", "The best epoch is the last one.", "runs/a/model.keras"]
    assert missing(words, text) == []
    for word in (
        "labelled training images (log",
        "most frequent confusion",
        "highest confidence",
        "Figure 4",
        "Loss after",
    ):
        assert word not in text

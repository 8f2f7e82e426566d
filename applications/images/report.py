"""The image report: from the numbers of metrics.json to a document, so that no figure is in one and not the other."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import wording
from reports.classification import CASES
from reports.wording import (
    counted,
    difference_of,
    distinct,
    extremes,
    percent,
    percent_interval,
    percent_span,
    points,
    points_interval,
    relation,
    result_of,
    signed_points,
)

METRICS = {"accuracy": "Accuracy", "log_loss": "Log-loss [nats]", "calibration_error": "Calibration error"}
MOST_CLASSES = 20  # that have a bar each; of more the report lists the confusions
FEW_TESTED, FEW_OF_CLASS = 100, 20  # test pictures, in all and of a class, from which little follows
PRECISE = 1_000  # test pictures, from which a tenth of a per cent is more than one of them
LISTED_FILES = 10  # of the pictures that were taken for others
LISTED_CLASSES = 40  # by name
NAMES = {
    "CNN": "convolutional network",
    "DBN": "deep belief network",
    "DSN": "deep stacking network",
}


def typeset(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The report as PDF, with the figures in `folder`; its date is the run's own."""
    return wording.typeset(document(metrics), metrics, folder)


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what the numbers support, and no more.

    The network is compared with the best baseline by the difference of their accuracies and its interval. Where it is
    not even above the share of the most frequent class, that comes first.
    """
    own, digits = _own(metrics), _digits(metrics)
    accuracy = result_of(metrics, own)["metrics"]["accuracy"]
    if accuracy["low"] <= metrics["evaluation"]["majority"]:
        return [
            f"The {own} does not recognise the pictures: its accuracy of {percent_span(accuracy, digits)} is not above "
            f"the {percent(metrics['evaluation']['majority'], digits)} of giving every picture the most frequent "
            "class.",
            f"{_measured(metrics, own)}.",
            "Before it is used, check the labels, and whether the learning curves had levelled out.",
            *_few_tested(metrics),
            *wording.quick(metrics),
        ]
    rival = max((result for result in metrics["results"] if result["baseline"]), key=_accuracy)["model"]
    difference = difference_of(metrics, own, rival)
    pictures = counted(metrics["data"]["labelled"], "labelled picture")
    against = f"the {rival}, the most accurate of the baselines, trained on the same {pictures}"
    gap = f"by {points(abs(difference['value']), digits)} percentage points of accuracy"
    gap += f" ({points_interval(difference, digits, absolute=True)})"
    read = wording.reading(difference)
    if read == "ahead":
        first = f"The {own} recognises the pictures better than {against}: ahead {gap}."
    elif read == "behind":
        first = f"The {own} is not the classifier to take for these pictures: it is behind {against}, {gap}."
    elif accuracy["value"] == 1 and difference["value"] == 0:
        first = (
            f"The {own} gives every test picture the right class, and so does {against}: these pictures can't tell "
            "the two apart."
        )
    else:
        first = f"The {own} cannot be told from {against}: {wording.chance('accuracy', difference, digits)}."
    return [
        first,
        f"It gives {percent(accuracy['value'], digits)} of the pictures the right class "
        f"({percent_interval(accuracy, digits)}), an error of {percent(1 - accuracy['value'], digits)}. "
        f"{_measured(metrics, own)}.",
        *_few_tested(metrics),
        *_order(metrics),
        *_few_labels(metrics),
        *([] if metrics["settings"]["quick"] else _weakest(metrics)),
        *wording.quick(metrics),
    ]


def document(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report as `reports.report.render` takes it."""
    data = metrics["data"]
    sections = {
        "Results": _results(metrics),
        "How many labels": _labels(metrics),
        "Where it goes wrong": _errors(metrics),
        "What the convolutional network looks at": _cnn(metrics),
        "What the deep belief network has learnt": _dbn(metrics),
        "The deep stacking network, module by module": _dsn(metrics),
        "Data": _data(metrics),
        "Model and training": _model(metrics),
        "Limits": _limits(metrics),
        "How to repeat": wording.repeat(metrics),
    }
    return {
        "title": "Classifying pictures",
        "subtitle": f"{data['name']}: {counted(data['test'], 'picture')} of {len(data['classes'])} classes tested",
        "language": "en",
        "verdict": verdict(metrics),
        "sections": [{"heading": heading, "blocks": blocks} for heading, blocks in sections.items() if blocks],
    }


# --- The verdict's further sentences ---


def _measured(metrics: Mapping[str, Any], model: str) -> str:
    values = result_of(metrics, model)["metrics"]
    loss, calibration = values["log_loss"], values["calibration_error"]
    digits = _digits(metrics)
    return f"Its log-loss is {_nats_span(loss)}, its calibration error {percent_span(calibration, digits)}"


def _few_tested(metrics: Mapping[str, Any]) -> list[str]:
    """How little follows from few test pictures, or from no error."""
    tested, perfect = metrics["data"]["test"], metrics["headline"]["value"] == 1
    if tested >= FEW_TESTED and not perfect:
        return []
    said = f"Few pictures were tested, {tested:,}: the intervals of so few are too narrow" * (tested < FEW_TESTED)
    if perfect:
        # With this error all of the pictures are right in one of twenty tests.
        said += "; n" if said else "N"
        said += f"o error among {tested:,} pictures leaves an error of up to {percent(1 - 0.05 ** (1 / tested))} "
        said += "possible"
    return [f"{said}."]


def _order(metrics: Mapping[str, Any]) -> list[str]:
    """Which of several networks is best, and by how much."""
    networks = _networks(metrics)
    if len(networks) == 1:
        return []
    digits = _digits(metrics)
    best = max(networks, key=_accuracy)
    names = {network["model"] for network in networks}
    told = [
        relation(entry, digits)
        for entry in distinct(metrics["differences"])
        if best["model"] in (pair := {entry["better"], entry["worse"]}) and pair <= names
    ]
    return [
        f"Of the {len(networks)} networks the {best['model']} has the highest accuracy, "
        f"{percent(_accuracy(best), digits)}: {'; '.join(told)}."
    ]


def _few_labels(metrics: Mapping[str, Any]) -> list[str]:
    """What pretraining buys where labels are few, or, without any, what few labels cost."""
    sizes, digits = metrics["sizes"], _digits(metrics)
    if sizes is None or len(sizes["shares"]) < 2:
        return []
    if sizes["pretraining"]:
        few, all_of = sizes["pretraining"][0], sizes["pretraining"][-1]
        shown = f"with {counted(few['pictures'], 'labelled picture')}"
        same = "the same network trained from random weights"
        gap = f"by {points(abs(few['value']), digits)} percentage points "
        gap += f"({points_interval(few, digits, absolute=True)})"
        if few["low"] > 0:
            said = f"Pretraining pays where labels are few: {shown} the DBN is ahead of {same} {gap}"
        elif few["high"] < 0:
            said = f"Pretraining does not pay: {shown} the DBN is behind {same} {gap}"
        else:
            said = (
                f"Whether pretraining pays where labels are few can't be told: {shown} the DBN differs from {same} by "
                f"{signed_points(few, digits)} percentage points"
            )
        return [f"{said}; with {all_of['pictures']:,} by {signed_points(all_of, digits)}."]
    curve = sizes["models"].get(_own(metrics))
    if not curve:
        return []
    few, all_of = curve[0], curve[-1]
    return [
        f"Trained on {few['pictures']:,} labelled pictures instead of {all_of['pictures']:,}, it's right for "
        f"{percent_span(few, digits)} of the pictures instead of {percent(all_of['value'], digits)}."
    ]


def _weakest(metrics: Mapping[str, Any]) -> list[str]:
    """The class that it finds least often, and the confusion that costs most."""
    classes, confusions, data = metrics["accuracy_by_class"], metrics["confusions"], metrics["data"]
    worst, _ = extremes(classes)
    if classes[worst]["value"] == 1:
        return []
    said = f"It's right least often for pictures of {_quoted(worst)}, {percent_span(classes[worst])}"
    of_worst = data["counts"]["test"][data["classes"].index(worst)]
    if of_worst < FEW_OF_CLASS:
        said += f", of which only {of_worst:,} {'were' if of_worst != 1 else 'was'} tested"
    if confusions:
        entry = confusions[0]
        said += f"; most often it takes {_quoted(entry['true'])} for {_quoted(entry['found'])}"
        said += f" ({percent(entry['share'])} of the pictures of {_quoted(entry['true'])})"
    return [f"{said}."]


# --- The sections ---


def _results(metrics: Mapping[str, Any]) -> list[dict]:
    evaluation, digits = metrics["evaluation"], _digits(metrics)
    columns = [("Model", "left"), ("Parameters", "right"), ("Training [s]", "right"), (METRICS["accuracy"], "right")]
    columns += [("Error", "right"), *((METRICS[name], "right") for name in ("log_loss", "calibration_error"))]
    rows = []
    for result in metrics["results"]:
        accuracy, loss, calibration = (result["metrics"][name] for name in METRICS)
        name = {"value": result["model"], "detail": result["settings"]} if result["settings"] else result["model"]
        error = {"value": 1 - accuracy["value"], "low": 1 - accuracy["high"], "high": 1 - accuracy["low"]}
        rows.append(
            [
                name,
                f"{result['parameters']:,}" if result["parameters"] else "–",
                f"{result['fit_seconds']:,.1f}",
                *(_cell(value, digits) for value in (accuracy, error)),
                {"value": _nats(loss["value"]), "detail": f"{_nats(loss['low'])} to {_nats(loss['high'])}"},
                _cell(calibration, digits),
            ]
        )
    note = (
        f"Below each figure its 95\u00a0% bootstrap interval ({evaluation['resamples']} draws of "
        f"{evaluation['unit']}, the same for all models). Below the rule the baselines, with their settings, which "
        "were chosen on the same validation pictures as the networks' length of training. Giving every picture the "
        f"most frequent class is right for {percent(evaluation['majority'])}. Training: seconds, the mean of the "
        "trainings."
    )
    note += f" All were trained on the same {counted(metrics['data']['labelled'], 'labelled picture')}."
    most = evaluation.get("choice_pictures")
    if most is not None and most < metrics["data"]["labelled"]:
        note += f" The baselines' settings were chosen by training on {most:,} of them at most."
    repeated = [result for result in metrics["results"] if len(result["metrics"]["accuracy"]["seeds"]) > 1]
    if repeated:
        spread = ", ".join(
            f"{points(result['metrics']['accuracy']['deviation'], 2)} ({result['model']})" for result in repeated
        )
        note += (
            f" Means of {len(repeated[0]['metrics']['accuracy']['seeds'])} seeds, between which the "
            f"accuracy has a standard deviation, in percentage points, of {spread}."
        )
    return [
        {
            "text": "Accuracy is the share of the pictures that are given the right class, error the rest. The "
            "log-loss is the mean of −ln\u00a0p, p the probability that was given to the true class, or 10⁻¹² where "
            "it was less: it is lower the surer a model is of what is right, and punishes being sure of what is "
            "wrong. The expected calibration error says how far a model is from being right as often as it is sure: "
            f"pictures are put into {evaluation['bins']} bins by the probability of the class found, and the "
            "distances between that probability and the accuracy are averaged. Less is better of log-loss and errors."
        },
        {
            "table": {
                "caption": "All models on the same test pictures",
                "columns": wording.columns(columns),
                "rows": rows,
                "emphasis": [0],
                "rules": [len(_networks(metrics)) - 1],
                "note": note,
            }
        },
        _figure(
            "models",
            "Accuracy, log-loss and calibration error of all models with their intervals: "
            + "; ".join(
                f"{result['model']} {percent(_accuracy(result), digits)}, "
                f"{_nats(result['metrics']['log_loss']['value'])} nats, "
                f"{percent(result['metrics']['calibration_error']['value'], digits)}"
                for result in metrics["results"]
            ),
            "The same figures with their 95\u00a0% intervals.",
        ),
        wording.differences_table(metrics, "accuracy", metrics["evaluation"]["unit"], digits),
    ]


def _labels(metrics: Mapping[str, Any]) -> list[dict]:
    sizes, digits = metrics["sizes"], _digits(metrics)
    if sizes is None or len(sizes["shares"]) < 2:
        return []
    *smaller, whole = (percent(share, 0) for share in sizes["shares"])
    text = (
        f"All models were trained on {', '.join(smaller)} and {whole} of the labelled training pictures, the same "
        "share of each class, drawn anew for each seed. The settings are those of the full set, but that the fewer the "
        "pictures are, the more epochs the CNN and the DBN have."
    )
    rows, rules = [], []
    for name, curve in sizes["models"].items():
        rows.append([name, *(_cell(point, digits) for point in curve)])
    if sizes["pretraining"]:
        text += (
            " The DBN learns without labels first, from all training pictures, labelled or not; the same network "
            "without pretraining starts from random weights. What is gained is what pretraining buys."
        )
        rules = [len(rows) - 1]
        gains = (
            {"value": points(p["value"], digits, signed=True), "detail": points_interval(p, digits, signed=True)}
            for p in sizes["pretraining"]
        )
        rows.append(["DBN: gained by pretraining [points]", *gains])
    few = [f"{name} {percent(curve[0]['value'], digits)}" for name, curve in sizes["models"].items()]
    columns = [("Model", "left"), *((counted(number, "picture"), "right") for number in sizes["pictures"])]
    return [
        {"text": text},
        _figure(
            "sizes",
            "Accuracy of each model over the number of labelled training pictures; with "
            f"{sizes['pictures'][0]:,}: {', '.join(few)}",
            "Accuracy on the test pictures by the number of labelled training pictures, on a logarithmic axis.",
        ),
        {
            "table": {
                "caption": "Accuracy by the number of labelled training pictures",
                "columns": wording.columns(columns),
                "rows": rows,
                "rules": rules,
                "note": "Below each figure its 95\u00a0% bootstrap interval. The intervals cover the choice of the "
                "test pictures, not that of the labelled ones.",
            }
        },
    ]


def _errors(metrics: Mapping[str, Any]) -> list[dict]:
    own, data, confusions, errors = _own(metrics), metrics["data"], metrics["confusions"], metrics["errors"]
    seed = f"seed {metrics['seed']}"
    leading = ", ".join(f"{e['true']} as {e['found']} {e['pictures']:,}" for e in confusions[:3])
    matrix = metrics["confusion_matrix"]
    wrong = sum(map(sum, matrix)) - sum(row[place] for place, row in enumerate(matrix))
    blocks = [
        _figure(
            "confusion",
            f"Confusion matrix of the {len(data['classes'])} classes; the most frequent confusions, in pictures: "
            f"{leading or 'none'}",
            f"True classes against those that the {own} found ({seed}): colours are shares of the true class"
            + (", numbers are pictures" if len(data["classes"]) <= MOST_CLASSES else "")
            + f". {wrong:,} of the {data['test']:,} test pictures are given a wrong class.",
        ),
    ]
    if len(data["classes"]) <= MOST_CLASSES:
        classes = metrics["accuracy_by_class"]
        worst, best = extremes(classes)
        what, digits = "Accuracy", _digits(metrics)
        if shows_errors(metrics):
            what = "Error"
            classes = {name: {"value": 1 - value["value"]} for name, value in classes.items()}
        blocks.append(
            _figure(
                "by_class",
                f"{what} of each class; {own}: {wording.all_of(classes, digits)}",
                f"{what} by true class, the mean of the seeds, with 95\u00a0% intervals. {own}: from "
                f"{percent(classes[worst]['value'], digits)} ({worst}) to {percent(classes[best]['value'], digits)} "
                f"({best}).",
            )
        )
    elif confusions:
        columns = [("True class", "left"), ("Found", "left"), ("Pictures", "right"), ("Share of the true", "right")]
        blocks.append(
            {
                "table": {
                    "caption": f"The most frequent confusions of the {own} ({seed})",
                    "columns": wording.columns(columns),
                    "rows": [[e["true"], e["found"], f"{e['pictures']:,}", percent(e["share"])] for e in confusions],
                    "note": "Share of the true: of all test pictures of the true class.",
                }
            }
        )
    if errors:
        blocks.append(
            _figure(
                "errors",
                f"The {counted(len(errors), 'wrong answer')} that the {own} was surest of; true class, class found "
                "and confidence of the first ones: " + "; ".join(_answer(error) for error in errors[:5]),
                f"The {counted(len(errors), 'wrong answer')} that the {own} ({seed}) was surest of: true class → "
                "class found, and the probability that it gave this class.",
            )
        )
    if files := [error for error in errors if error["file"]][:LISTED_FILES]:
        columns = [("File", "left"), ("True class", "left"), ("Found", "left"), ("Confidence", "right")]
        blocks.append(
            {
                "table": {
                    "caption": "The files of the first of these pictures: is the label right?",
                    "columns": wording.columns(columns),
                    "rows": [[e["file"], e["true"], e["found"], f"{e['confidence']:.2f}"] for e in files],
                }
            }
        )
    sure = {model: bins[-1] for model, bins in metrics["reliability"].items()}
    said = "; ".join(
        f"{model}, surest {percent(last['low'], 0)} and more: {last['count']:,} pictures, "
        f"{percent(last['accuracy'])} right"
        for model, last in sure.items()
    )
    blocks.append(
        _figure(
            "reliability",
            f"Accuracy over confidence in bins. {said}",
            "Can its confidence be believed? Left, how often each model is right over how sure it is; below the "
            f"diagonal it is too sure. Right, how many pictures each bin of the {own} has ({seed}). Bins of fewer than "
            f"{CASES} pictures are merged with their neighbours.",
        )
    )
    return blocks


def _cnn(metrics: Mapping[str, Any]) -> list[dict]:
    cnn = metrics["cnn"]
    if cnn is None:
        return []
    size = f"{cnn['kernel_size']} × {cnn['kernel_size']}"
    shown = cnn["grad_cam"]
    return [
        {
            "text": f"The first layer has filters of {size} pixels: what a filter responds to is all that the layers "
            "after it know of a place. Grad-CAM (Selvaraju et al. 2017) weighs the maps of the last convolution by "
            "how much each raises the score of the class found, which shows where in the picture that class was seen."
        },
        _figure(
            "cnn_filters",
            f"{counted(cnn['filters'], 'filter')} of the first layer, {size} pixels each",
            f"The {counted(cnn['filters'], 'filter')} of the first layer, {size} pixels each, on one scale around 0.",
        ),
        _figure(
            "cnn_grad_cam",
            "Test pictures, each beside its Grad-CAM map; true class, class found, confidence: "
            + "; ".join(_answer(entry) for entry in shown),
            "Where the class found was seen: each picture, and beside it the map of Grad-CAM over the picture. "
            "True class → class found, and its probability; wrong ones bold.",
        ),
    ]


def _dbn(metrics: Mapping[str, Any]) -> list[dict]:
    dbn = metrics["dbn"]
    if dbn is None:
        return []
    likelihood, epochs = dbn["log_likelihood"], dbn["epochs"]
    widths = ", ".join(f"{width:,}" for width in dbn["widths"])
    text = (
        f"Restricted Boltzmann machines of {widths} hidden units were trained one on the other, without labels "
        f"(visible units: {dbn['visible']}). A receptive field is what a hidden unit of the first one adds to the "
        f"pixels. The samples are what the whole stack generates: {dbn['gibbs_steps']:,} steps of Gibbs sampling in "
        "the top machine, then one pass down. A classifier is made of it by fine-tuning; both figures show the stack "
        "before that."
    )
    if found := dbn.get("held_out"):
        text += (
            f" How long each of them is trained was found on four fifths of the pictures: {found[0]['most']} epochs, "
            "or fewer if the likelihood of the other pictures clearly fell before. It came to "
            f"{_epochs([machine['kept'] for machine in found])}."
        )
    blocks: list[dict] = [{"text": text}]
    if likelihood is not None:
        blocks.append({"text": _likelihood(likelihood)})
    blocks += [
        _figure(
            "dbn_fields",
            f"Weights of {counted(dbn['fields'], 'hidden unit')} of the first machine, as pictures",
            f"Receptive fields of {counted(dbn['fields'], 'hidden unit')} of the first machine, on one scale around 0.",
        ),
        _figure(
            "dbn_samples",
            f"{counted(dbn['samples'], 'picture')} that the stack generates",
            f"{counted(dbn['samples'], 'picture')} from the stack, after {dbn['gibbs_steps']:,} steps of Gibbs "
            f"sampling each; shown are {'probabilities' if dbn['visible'] == 'bernoulli' else 'means'} of the pixels.",
        ),
    ]
    if epochs:
        first, last = epochs[0], epochs[-1]
        measured = [entry for entry in epochs if entry["log_likelihood"] is not None]
        said = (
            f"the reconstruction error from {first['reconstruction_error']:.3g} in epoch {first['epoch']} to "
            f"{last['reconstruction_error']:.3g} in epoch {last['epoch']}"
        )
        caption = f"Training of the first machine: {said}"
        if measured:
            start, end = measured[0], measured[-1]
            caption += (
                f"; the log-likelihood of test pictures from {_nats(start['log_likelihood'], 1)} nats in epoch "
                f"{start['epoch']} to {_nats(end['log_likelihood'], 1)} in epoch {end['epoch']}"
            )
        caption += ". The reconstruction error is easy to follow, but it is the likelihood that says how "
        caption += "good a model of the pictures it is; contrastive divergence maximises neither exactly."
        blocks.append(_figure("dbn_training", f"Over the epochs of the first machine: {said}", caption))
    return blocks


def _likelihood(likelihood: Mapping[str, Any]) -> str:
    """How well the first machine models the test pictures."""
    low, high, independent = (likelihood[key] for key in ("low", "high", "independent"))
    relation = "more than" if low > independent else "less than" if high < independent else "not told apart from"
    return (
        "How well the first machine models the pictures is its log-likelihood. It needs the partition function Z, "
        "which annealed importance sampling (Salakhutdinov and Murray 2008) estimates: ln Z is "
        f"{_nats(likelihood['log_partition'], 2)} nats with a standard error of {likelihood['standard_error']:.2g}, "
        f"from {counted(likelihood['chains'], 'chain')} of {counted(likelihood['steps'], 'step')}. With it a test "
        f"picture, its pixels made black or white, has on average {_nats(likelihood['value'], 2)} nats "
        f"({_nats(low, 2)} to {_nats(high, 2)}, a bootstrap over the pictures, to which the error of ln Z comes): "
        f"{relation} the {_nats(independent, 2)} nats of a model that takes the pixels for independent of one another."
    )


def _dsn(metrics: Mapping[str, Any]) -> list[dict]:
    dsn = metrics["dsn"]
    if dsn is None:
        return []
    modules, chosen = dsn["modules"], dsn["chosen"]
    columns = [("Module", "left"), ("Squared error, training", "right")]
    columns += [(f"Accuracy, {part}", "right") for part in ("training", "validation", "test")]
    keys = ("train_accuracy", "validation_accuracy", "test_accuracy")
    rows = [
        [f"{number}", f"{module['train_error']:.4f}", *(percent(module[key]) for key in keys)]
        for number, module in enumerate(modules, 1)
    ]
    said = "; ".join(f"module {number} {percent(m['test_accuracy'])}" for number, m in enumerate(modules, 1))
    return [
        {
            "text": f"Each module has {counted(dsn['hidden_units'], 'hidden unit')} and an output that is solved for "
            "in closed form, by regression on the classes; it sees the picture and the outputs of all modules before "
            "it. Validation decides how many modules are kept: "
            f"{chosen}. Its scores become probabilities by a softmax, divided by a temperature "
            f"({dsn['temperature']:.3g}) that was fitted on validation. "
            "The numbers below are those of the network that was trained for this choice, without the validation "
            "pictures."
        },
        {
            "table": {
                "caption": "The network's answer after each module",
                "columns": wording.columns(columns),
                "rows": rows,
                "emphasis": [chosen - 1],
                "note": "Squared error: mean over the training pictures, summed over the classes. Bold: the last "
                "module that is kept. The test accuracy is given to be read; nothing was chosen by it.",
            }
        },
        _figure(
            "dsn_modules",
            f"Training error and accuracy after each module; test accuracy: {said}",
            "Training error, and accuracy on training, validation and test pictures, after each module.",
        ),
    ]


def _data(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    names = {"train": "training", "validation": "validation (choices)", "test": "test (result)"}
    columns = [("Split", "left"), ("Pictures", "right"), ("Fewest of a class", "right"), ("Most of a class", "right")]
    height, width, channels = data["shape"]
    kept = data["classes"][:LISTED_CLASSES]
    classes = ", ".join(kept) + ", …" * (len(kept) < len(data["classes"]))
    labelled = f"{data['labelled']:,} training pictures, those to validate on among them"
    return [
        {
            "table": {
                "caption": "The split",
                "columns": wording.columns(columns),
                "rows": [
                    [name, f"{data[key]:,}", *(f"{end(data['counts'][key]):,}" for end in (min, max))]
                    for key, name in names.items()
                ],
                "note": f"{_choices(metrics)} The test pictures were read once, for this report.",
            }
        },
        {
            "facts": [
                *wording.provenance(data, f"{data['rows']:,} pictures, {data['size_bytes'] / 1e6:,.1f} MB"),
                ["Pictures", f"{height} × {width} pixels, {'grey' if channels == 1 else 'red, green and blue'}"],
                ["Values", data["units"]],
                ["Classes", f"{len(data['classes'])}: {classes}"],
                ["Labels used", f"{labelled}" if metrics["settings"]["labels"] else f"all {labelled}"],
            ]
        },
    ]


def _choices(metrics: Mapping[str, Any]) -> str:
    """What choices were made on, and the final models trained on."""
    if not metrics["settings"]["labels"]:
        return (
            "Choices were made by training on the first and looking at the second; then the final models were trained "
            "on both."
        )
    return (
        f"Of the first two together {metrics['data']['labelled']:,} pictures were used with their labels. Choices were "
        "made by training on four fifths of these and looking at the others; then the final models were trained on all "
        "of them."
    )


def _model(metrics: Mapping[str, Any]) -> list[dict]:
    own, settings, model = _own(metrics), metrics["settings"], metrics["model"]
    result = result_of(metrics, own)
    facts = [
        ["Model", f"{own}, a {NAMES[own]}: {result['parameters']:,} parameters"],
        *([["Started from", settings["init_from"]]] if settings["init_from"] else []),
        *([f"{name}, training", _recipe(recipe)] for name, recipe in model["recipe"].items()),
        *wording.cost(metrics["timing"], "pictures", "all networks" if len(_networks(metrics)) > 1 else "the network"),
    ]
    layers = ", ".join(f"{name} {_units(shape)}" for name, shape, _ in model["layers"])
    return [
        {"facts": facts},
        _figure(
            "network",
            f"The {own}, numbers that each layer gives out: {layers}",
            f"The {own}: what each layer gives out, and its parameters.",
        ),
        _figure(
            "learning",
            f"Learning curves of the {own}, of the training on which choices were made and of the final ones",
            f"Learning curves of the {own}. The training without the validation pictures decides how long the final "
            "models, which have them too, are trained: "
            + (
                "as many modules as are best on validation."
                if own == "DSN"
                else "to the last epoch that is within a standard error of the best on validation."
            ),
        ),
    ]


def _epochs(numbers: Sequence[int]) -> str:
    """Epochs of each of several trainings."""
    if len(set(numbers)) == 1:
        return counted(numbers[0], "epoch")
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]} epochs"


def _recipe(recipe: Mapping[str, Any]) -> str:
    """How a network was trained, in the order of the training."""
    parts = []
    if "rbm_epochs" in recipe:
        parts.append(
            f"each Boltzmann machine by gradient descent, learning rate {recipe['rbm_learning_rate']:g}, momentum "
            f"{recipe['rbm_momentum']:g}, {counted(recipe['rbm_batch_size'], 'picture')} a step, "
            f"{_epochs(recipe.get('rbm_epochs_trained') or [recipe['rbm_epochs']])}"
        )
    loss = "squared error of the closed form" if "modules" in recipe else "cross-entropy"
    fit = f"{loss}; {recipe['optimizer']}, learning rate {recipe['learning_rate']:g} falling along a cosine"
    if recipe.get("batch_size"):
        fit += f"; {counted(recipe['batch_size'], 'picture')} a step"
    if recipe.get("steps_per_epoch"):
        fit += f", {counted(recipe['steps_per_epoch'], 'step')} an epoch"
    fit += f"; {counted(recipe['epochs'], 'epoch')}"
    if "modules" in recipe:
        fit += f" for each of {counted(recipe['modules'], 'module')}"
    elif "most_epochs" in recipe:
        fit += f", chosen on validation among {recipe['most_epochs']} at most"
    if recipe["varied"]:
        fit += f"; while training, {recipe['varied']}"
    return "; then ".join([*parts, fit])


def _limits(metrics: Mapping[str, Any]) -> list[dict]:
    settings, data = metrics["settings"], metrics["data"]
    embedded = not any(settings[source] for source in ("images", "npz", "idx", "cifar"))
    limits = [
        "The figures hold for pictures like those tested. Others, of another camera, another hand or another way of "
        "cutting them out, may be recognised much less often: measure on labelled pictures of your own (the evaluate "
        "command). A picture of none of the classes is given one of them all the same.",
        "The intervals cover the choice of the test pictures, not that of the training pictures. They take the "
        "pictures for independent, which several of one writer, object or scene are not.",
        "The probabilities of the DSN and of the baselines were calibrated by one temperature that was fitted on "
        "validation, those of the CNN and the DBN are as trained. With few pictures in a bin chance alone makes a "
        "distance, so that the calibration error of a perfect model is above 0 too.",
    ]
    if embedded and data["name"].startswith("digits"):
        limits.append(
            "These digits were cut out, centred and brought to one size by others; digits as a camera sees them are "
            "harder. Training and test digits may be by the same writers."
        )
    if not embedded:
        limits.append(
            "The labels are taken for the truth: where they err, the model is charged with the error. Pictures that "
            "are in training and in test, or nearly so, were not looked for."
        )
    if settings["labels"]:
        limits.append(
            "With few labels, those that choices were made on are few too, and the choice itself is uncertain."
        )
    if metrics["cnn"]:
        limits.append(
            "Grad-CAM is coarse: its maps have the size of the last convolution's and are enlarged. They show what "
            "raised a score, not why."
        )
    if metrics["dbn"] and metrics["dbn"]["log_likelihood"]:
        limits.append(
            "Annealed importance sampling gives too low a partition function, and so too high a likelihood, where "
            "its chains miss a part of what the machine models; its standard error does not show that. It is the "
            "likelihood of the first machine, which that of the whole stack may exceed."
        )
    if len(_networks(metrics)) > 1:
        limits.append(
            "The networks differ in size and in time of training, each with settings of its own. This is a comparison "
            "of the three as they are set up here, not of what each can be brought to."
        )
    return [{"list": [*limits, *wording.limits(metrics)]}]


# --- Words ---


def _figure(name: str, alt: str, caption: str) -> dict:
    """A block of one figure."""
    return {"figures": [{"file": f"figures/{name}.svg", "alt": alt, "caption": caption}]}


def _own(metrics: Mapping[str, Any]) -> str:
    return metrics["headline"]["model"]


def _networks(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [result for result in metrics["results"] if not result["baseline"]]


def shows_errors(metrics: Mapping[str, Any]) -> bool:
    """Whether the figure of the classes shows errors instead of accuracies, which are then nearly equal bars."""
    classes = metrics["accuracy_by_class"].values()
    return sum(value["value"] for value in classes) > len(classes) / 2


def _digits(metrics: Mapping[str, Any]) -> int:
    """Digits of accuracies and errors in per cent: two where less than 1 % is wrong, if there are so many pictures."""
    error = 1 - max(map(_accuracy, metrics["results"]))
    return 2 if error < 0.01 and metrics["data"]["test"] >= PRECISE else 1


def _cell(value: Mapping[str, float], digits: int) -> dict[str, str]:
    """A share with its interval."""
    return {"value": percent(value["value"], digits), "detail": percent_interval(value, digits)}


def _accuracy(result: Mapping[str, Any]) -> float:
    return result["metrics"]["accuracy"]["value"]


def _quoted(name: str) -> str:
    """The name of a class, which may be a number or a word of the sentence."""
    return f"“{name}”"


def _answer(entry: Mapping[str, Any]) -> str:
    return f"{entry['true']} → {entry['found']}, {entry['confidence']:.2f}"


def _units(shape: Sequence[int | None]) -> str:
    """How many numbers a layer gives out."""
    return f"{math.prod(size or 1 for size in shape):,}"


def _nats(value: float, digits: int = 3) -> str:
    """A number of nats, with a true minus sign."""
    return f"{value:,.{digits}f}".replace("-", "−")


def _nats_span(value: Mapping[str, float]) -> str:
    return f"{_nats(value['value'])} nats ({_nats(value['low'])} to {_nats(value['high'])})"

"""The synthesis report: from the numbers of metrics.json to a document, so that neither has a figure of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import wording
from reports.wording import counted, percent, percent_interval, percent_span

METRICS = {
    "frechet_distance": "Fréchet distance",
    "precision": "Precision",
    "recall": "Recall",
    "conditional_accuracy": "Conditional accuracy",
    "classification_accuracy": "Classification accuracy",
    "copied": "As near as copies",
    "rarest": "Rarest class",
}
IGNORED = 0.5  # of the judge's accuracy; with less the class that was asked for is not what is drawn
FEW_COMPARED = 50  # pictures
LIKE_REAL = 0.5  # precision below which pictures are too unlike real ones to be copies
MISSING = 0.1  # of its share among real pictures; with less a class is missing
LISTED_CLASSES = 40


def typeset(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The report as PDF, with the figures in `folder`; its date is the run's own."""
    return wording.typeset(document(metrics), metrics, folder)


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what the numbers support, and no more.

    The network's distance from real pictures is compared with that of the nearest baseline by the interval of their
    difference. Where it doesn't draw the classes that it is asked for, that comes first.
    """
    own, evaluation = metrics["results"][0], metrics["evaluation"]
    judge: Any = evaluation["judge_accuracy"]  # none without classes
    majority = evaluation["majority"]
    if (
        metrics["by_class"] is not None
        and judge - 2 * (judge * (1 - judge) / evaluation["pictures"]) ** 0.5 <= majority
    ):
        return [
            f"Nothing can be said of what the {own['model']} draws: the judge, in whose features it is compared, "
            f"recognises only {percent(judge)} of the real ones, where the most frequent class has "
            f"{percent(majority)}.",
            "Before anything else, check the labels.",
            *_failures(metrics),
            *wording.quick(metrics),
        ]
    measures, others = own["metrics"], [result for result in metrics["results"] if result["baseline"]]
    rival = min(others, key=lambda result: result["metrics"]["frechet_distance"]["value"])
    distance, other = measures["frechet_distance"], rival["metrics"]["frechet_distance"]
    gap = (
        f"its Fréchet distance from the test pictures is {_span(distance)}, that of the {rival['model']}, the nearest "
        f"of the baselines, {_span(other)}"
    )
    difference = wording.difference_of(metrics, own["model"], rival["model"])
    if evaluation["pictures"] < FEW_COMPARED:
        few = counted(evaluation["pictures"], "test picture")
        compared = f"Only {few} can't tell whether the {own['model']} draws better than the baselines: {gap}."
    elif difference["low"] is None:
        compared = f"One training can't tell whether the {own['model']} draws better than the baselines: {gap}."
    elif difference["low"] > 0:
        compared = (
            f"The {own['model']} draws pictures that are more like real ones than those of any baseline: {gap}, more "
            f"by {_number(difference['value'])} ({_interval(difference)})."
        )
    elif difference["high"] < 0:
        compared = f"The {own['model']} is not the model to take for these pictures: {gap}."
    else:
        compared = f"Whether the {own['model']} draws better than the baselines can't be told: {gap}."
    floor, accuracy = metrics["real"]["frechet_distance"], measures.get("conditional_accuracy")
    ignored = accuracy is not None and accuracy["value"] < IGNORED * judge
    asked = []
    if accuracy:
        wayward = f"The {own['model']} does not draw the class that it is asked for"
        asked = [
            f"{wayward if ignored else 'Asked for a class it draws it'}: a judge that recognises {percent(judge)} of "
            f"the real pictures sees the right one in {_share(accuracy)} of its own."
        ]
    return [
        *(asked if ignored else []),
        compared,
        f"Real training pictures are at {_number(floor)} from the test pictures, {_times(distance['value'], floor)}.",
        *([] if ignored else asked),
        *_variety(metrics),
        *_few_compared(metrics),
        *_failures(metrics),
        *wording.quick(metrics),
    ]


def epochs(number: float) -> str:
    """Epochs, of which a few may be a fraction."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def document(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report as `reports.report.render` takes it."""
    data = metrics["data"]
    sections = {
        "Results": _results(metrics),
        "What it draws": _samples(metrics),
        "Class by class": _classes(metrics),
        "How it learnt": _training(metrics),
        "Data": _data(metrics),
        "Model": _model(metrics),
        "Limits": _limits(metrics),
        "How to repeat": wording.repeat(metrics),
    }
    return {
        "title": "Drawing pictures",
        "subtitle": f"{data['name']}: compared with {counted(metrics['evaluation']['pictures'], 'real picture')}"
        + (f" of {len(data['classes'])} classes" if metrics["by_class"] else ", without classes"),
        "language": "en",
        "verdict": verdict(metrics),
        "sections": [{"heading": heading, "blocks": blocks} for heading, blocks in sections.items() if blocks],
    }


# --- The verdict's further sentences ---


def _variety(metrics: Mapping[str, Any]) -> list[str]:
    own = metrics["results"][0]["metrics"]
    said = (
        f"{percent(own['precision']['value'])} of its pictures lie where real ones do (precision), and "
        f"{percent(own['recall']['value'])} of the real ones where its own do (recall)"
    )
    missing = _missing(metrics)
    if missing:
        said += f"; {'classes' if len(missing) > 1 else 'a class'} it hardly draws: {', '.join(missing)}"
    sentences = [f"{said}."]
    copied, expected = own["copied"], metrics["evaluation"]["copied"]
    # Grey pictures are near to everything, and of few test pictures there is no nearest hundredth.
    meant = own["precision"]["value"] >= LIKE_REAL and metrics["evaluation"]["pictures"] >= FEW_COMPARED
    if meant and copied["low"] > expected and copied["value"] > 2 * expected:  # of one training, low is the value
        sentences.append(
            f"It has learnt some pictures by heart: {_share(copied)} of its own are as near to a training "
            f"picture as only {percent(expected)} of the real test pictures are."
        )
    return sentences


def _few_compared(metrics: Mapping[str, Any]) -> list[str]:
    """That measures of few pictures say little."""
    compared = metrics["evaluation"]["pictures"]
    if compared >= FEW_COMPARED:
        return []
    return [f"With only {counted(compared, 'picture')} to compare with, these measures are little more than chance."]


def _missing(metrics: Mapping[str, Any]) -> list[str]:
    if metrics["by_class"] is None:
        return []
    groups, names = metrics["by_class"], metrics["data"]["classes"]
    shares = zip(names, groups["share"], groups["real_share"], strict=True)
    return [f"“{name}”" for name, share, real in shares if real and share < MISSING * real]


def _failures(metrics: Mapping[str, Any]) -> list[str]:
    said = []
    for what, text in (
        ("diverged", "diverged: its loss was no longer a number"),
        ("collapsed", "collapsed: in the end it drew hardly any kind of picture"),
    ):
        seeds = [str(training["seed"]) for training in metrics["training"] if training[what]]
        if seeds:
            said.append(
                f"The training of seed {', '.join(seeds)} {text}; it was stopped, and the weights that were best "
                "before are what is measured here."
            )
    return said


# --- The sections ---


def _results(metrics: Mapping[str, Any]) -> list[dict]:
    real, evaluation, seeds = metrics["real"], metrics["evaluation"], len(metrics["training"])
    shown = ["frechet_distance", "precision", "recall", "copied", *(["rarest"] if metrics["by_class"] else [])]
    columns = [("Model", "left"), ("Training [s]", "right"), *((METRICS[name], "right") for name in shown)]
    rows = []
    for result in metrics["results"]:
        name = {"value": result["model"], "detail": result["settings"]} if result["settings"] else result["model"]
        cells = [_cell(measure, result["metrics"][measure]) for measure in shown]
        rows.append([name, f"{result['fit_seconds']:,.1f}", *cells])
    # Whether a training picture is near to a training picture tells nothing.
    ends = ["–" if name == "copied" else _figures_of(name, real[name]) for name in shown]
    note = (
        f"Means of {counted(seeds, 'seed')}, below them Student's 95\u00a0% intervals; the baselines are fitted once "
        "and drawn from with each seed."
        if seeds > 1
        else "One seed, without intervals."
    )
    return [
        {
            "text": f"As many generated pictures as test pictures, {evaluation['pictures']:,}, are compared in "
            f"{_features(metrics)}. The Fréchet distance is "
            "that of the two normal distributions with the means and covariances of the two sets: less is better. "
            "Precision is the share of generated pictures that lie where real ones do, recall that of real pictures "
            "that lie where generated ones do, within reach of a third neighbour."
        },
        {
            "table": {
                "caption": "Generated pictures against the same test pictures",
                "columns": wording.columns(columns),
                "rows": [*rows, ["training pictures", "–", *ends]],
                "emphasis": [0],
                "rules": [0, len(rows) - 1],
                "note": f"{note} All models learnt from the same {evaluation['learnt_from']:,} pictures. Last, what "
                "real training pictures come to: as good as it can be without copying. As "
                "near as copies: the share that is as near to a training picture, in pixels, as the nearest "
                f"{percent(evaluation['copied'], 0)} of the test pictures are."
                + (
                    " Rarest class: how often the judge sees the class that it sees the least, as a share of how often "
                    "that class is among test pictures."
                    if metrics["by_class"]
                    else ""
                ),
            }
        },
        *_labels(metrics),
        _figure(
            "measures",
            "Fréchet distance, precision and recall of all models: "
            + "; ".join(
                f"{r['model']} {_number(r['metrics']['frechet_distance']['value'])}, "
                f"{percent(r['metrics']['precision']['value'])}, {percent(r['metrics']['recall']['value'])}"
                for r in metrics["results"]
            ),
            "The same figures; lines are the intervals.",
        ),
    ]


def _features(metrics: Mapping[str, Any]) -> str:
    """The features in which pictures are compared."""
    evaluation = metrics["evaluation"]
    pictures = f"{counted(evaluation['judge_pictures'], 'training picture')}"
    if metrics["by_class"] is None:
        return (
            f"the first {evaluation['features']} principal components of {pictures}, which hold "
            f"{percent(evaluation['variance'])} of their variance and need no classes"
        )
    return (
        f"{evaluation['features']} features: the last hidden layer of a convolutional network, the judge, that was "
        f"trained to classify {pictures}"
    )


def _labels(metrics: Mapping[str, Any]) -> list[dict]:
    """Whether pictures show the class that was asked for, if one was."""
    own = metrics["results"][0]["metrics"]
    if "conditional_accuracy" not in own:
        return []
    judge = percent(metrics["evaluation"]["judge_accuracy"])
    columns = [("Measure", "left"), (metrics["results"][0]["model"], "right"), ("Real pictures", "right")]
    return [
        {
            "table": {
                "caption": "Whether generated pictures show what was asked for",
                "columns": wording.columns(columns),
                "rows": [
                    [METRICS[name], _cell(name, own[name]), judge]
                    for name in ("conditional_accuracy", "classification_accuracy")
                ],
                "note": "Conditional accuracy: how often the judge sees the class that was asked for. Classification "
                "accuracy: how often a classifier like the judge that was trained on generated pictures alone is right "
                "about the real test pictures. Of real pictures both are the accuracy of the judge.",
            }
        }
    ]


def _samples(metrics: Mapping[str, Any]) -> list[dict]:
    own, seed = metrics["results"][0], f"seed {metrics['seed']}"
    of_class = "A row a class, drawn" if metrics["settings"]["template"] == "conditional_gan" else "Drawn"
    return [
        _figure(
            "samples",
            f"Pictures that the {own['model']} drew, in rows of ten",
            f"{of_class} by chance and not chosen ({seed}).",
        ),
        _figure(
            "interpolations",
            "Rows of pictures in which one turns step by step into another",
            "From one noise to another, on the arc between them: where the steps are small and every picture is one, "
            "the network has not just learnt a list of pictures.",
        ),
        _figure(
            "copies",
            "Samples, and below each the training picture that is nearest to it",
            "Samples and the training picture that is nearest to each in pixels, with their distance; "
            f"{percent(metrics['evaluation']['copied'], 0)} of the real test pictures are nearer than "
            f"{_number(metrics['evaluation']['threshold'])} to one.",
        ),
    ]


def _classes(metrics: Mapping[str, Any]) -> list[dict]:
    if metrics["by_class"] is None:
        return []
    groups, names = metrics["by_class"], metrics["data"]["classes"]
    recognised = groups["recognised"]
    worst = recognised or groups["share"]
    order = sorted(range(len(names)), key=lambda row: worst[row])[:LISTED_CLASSES]
    columns = [("Class", "left"), ("Share drawn", "right"), ("Share of real", "right")]
    rows = [[names[row], percent(groups["share"][row]), percent(groups["real_share"][row])] for row in order]
    note = "Share drawn: of all generated pictures those that the judge takes for the class."
    if recognised:
        columns.append(("Recognised", "right"))
        rows = [[*cells, percent(recognised[row])] for cells, row in zip(rows, order, strict=True)]
        note += " Recognised: of those that were asked to show it."
    return [
        {
            "table": {
                "caption": "What the judge sees in the generated pictures of all seeds, the worst first",
                "columns": wording.columns(columns),
                "rows": rows,
                "note": note,
            }
        }
    ]


def _training(metrics: Mapping[str, Any]) -> list[dict]:
    training, settings = metrics["training"], metrics["settings"]
    of_round = settings["epochs"] / training[0]["rounds"]
    best = ", ".join(epochs(each["best"] * of_round) for each in training)
    return [
        {
            "text": f"After each of {training[0]['rounds']} parts of the training samples were compared with training "
            f"pictures, and the weights with the least Fréchet distance from these kept: after {best} of "
            f"{settings['epochs']} epochs. Test pictures had no part in it. Losses say little: each network's depends "
            "on how good the other is. A recall that falls towards 0 is the sign of a collapse, where the generator "
            "draws ever fewer kinds of pictures; below 1\u00a0% after half of the training it is stopped."
        },
        _figure(
            "training",
            "Fréchet distance from the training pictures, recall and both losses over the epochs; least distance "
            f"after epochs {best}",
            "Samples of the averaged generator against training pictures, and the losses of both networks.",
        ),
        _figure(
            "moments",
            "What the same noise gave at several moments of the training, a row each",
            "The same noise at several moments of the training, the last of them the one whose weights were kept.",
        ),
    ]


def _data(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    height, width, channels = data["shape"]
    kept = data["classes"][:LISTED_CLASSES]
    names = {"train": "training", "validation": "validation, trained on too", "test": "test (result)"}
    columns = [("Split", "left"), ("Pictures", "right")]
    return [
        {
            "table": {
                "caption": "The split",
                "columns": wording.columns(columns),
                "rows": [[name, f"{data[key]:,}"] for key, name in names.items()],
                "note": "Nothing of this run was chosen on validation pictures.",
            }
        },
        {
            "facts": [
                *wording.provenance(data, f"{data['size_bytes'] / 1e6:,.1f} MB"),
                ["Pictures", f"{height} × {width} pixels, {'grey' if channels == 1 else 'red, green and blue'}"],
                ["Values", data["units"]],
                [
                    "Classes",
                    f"{len(data['classes'])}: {', '.join(kept)}" + ", …" * (len(kept) < len(data["classes"]))
                    if metrics["by_class"]
                    else "none",
                ],
            ]
        },
    ]


def _model(metrics: Mapping[str, Any]) -> list[dict]:
    settings, evaluation = metrics["settings"], metrics["evaluation"]
    choices = settings["gan"]
    rate, ratio = settings["learning_rate"], settings["discriminator_learning_rate_ratio"]
    layers = metrics["model"]["discriminator_layers"]
    trained = f"in {counted(len(metrics['training']), 'training')}"
    return [
        _figure(
            "network",
            "The layers of the generator: "
            + ", ".join(f"{name} {size:,}" for name, _, size in metrics["model"]["layers"]),
            "The generator's layers with parameters.",
        ),
        {
            "facts": [
                ["Discriminator", ", ".join(f"{name} {size:,}" for name, _, size in layers) + " parameters"],
                [
                    "Loss",
                    f"{choices['loss'].replace('_', ' ')}; classes enter the discriminator by {choices['label_input']}"
                    if settings["template"] == "conditional_gan"
                    else choices["loss"].replace("_", " "),
                ],
                ["Augmented", ", ".join(choices["augmentation"]) or "no"],
                [
                    "Optimizer",
                    f"{settings['optimizer']}, learning rate {rate:g} of the generator and {rate * ratio:g} of the "
                    f"discriminator at the start, falling to 0 along a cosine; batches of {settings['batch_size']}, "
                    f"{settings['epochs']} epochs",
                ],
                *wording.regularisation(
                    [
                        (choices["spectral_normalization"], "spectral normalisation of the discriminator"),
                        (choices["dropout"], f"dropout {choices['dropout']:g} in the discriminator"),
                        (choices["label_smoothing"], f"labels smoothed by {choices['label_smoothing']:g}"),
                    ]
                ),
                [
                    "Judge",
                    f"convolutional network trained for {evaluation['judge_seconds']:,.1f} s, right for "
                    f"{percent(evaluation['judge_accuracy'])} of the test pictures; saved beside the model"
                    if metrics["by_class"]
                    else f"{evaluation['features']} principal components; saved beside the model",
                ],
                *wording.cost(metrics["timing"], "pictures", trained),
            ]
        },
    ]


def _limits(metrics: Mapping[str, Any]) -> list[dict]:
    unseen = (
        "The distances are in features of a judge that was trained on these classes: what does not help to tell them "
        "apart, such as fine texture, may be drawn badly unnoticed."
    )
    if metrics["by_class"] is None:
        unseen = (
            "The distances are in principal components, the broad brightness of the pictures: fine detail may be drawn "
            "badly unnoticed, and what a picture shows has no part in it. Pictures with classes are compared in what "
            "tells these apart."
        )
    limits = [
        f"{unseen} They can't be compared with distances of other judges, data or numbers of pictures, nor with those "
        "in Inception's features.",
        "The intervals cover the trainings' seeds, not the choice of the pictures or the judge; the measures of few "
        "pictures are too high even for real ones, so look at the row of the training pictures.",
        "Nearest neighbours in pixels find plain copies, not those that are shifted or turned.",
        "Generated pictures can give away what is in training pictures: don't share a model of pictures that you "
        "wouldn't share.",
    ]
    return [{"list": [*limits, *wording.limits(metrics)]}]


# --- Parts ---


def _figure(name: str, alt: str, caption: str) -> dict:
    """A block of one figure."""
    return {"figures": [{"file": f"figures/{name}.svg", "alt": alt, "caption": caption}]}


def _alone(value: Mapping[str, Any]) -> bool:
    """Whether a measure is that of one training, which has no interval."""
    return len(value["seeds"]) < 2


def _share(value: Mapping[str, Any]) -> str:
    """A share, with its interval if it has one."""
    return percent(value["value"]) if _alone(value) else percent_span(value)


def _cell(measure: str, value: Mapping[str, Any]) -> dict[str, str] | str:
    """A measure, with its interval if it has one."""
    if _alone(value):
        return _figures_of(measure, value["value"])
    interval = _interval(value) if measure == "frechet_distance" else percent_interval(value)
    return {"value": _figures_of(measure, value["value"]), "detail": interval}


def _figures_of(measure: str, value: float) -> str:
    return _number(value) if measure == "frechet_distance" else percent(value)


def _number(value: float) -> str:
    return f"{value:,.2f}"


def _interval(value: Mapping[str, float]) -> str:
    return f"{_number(value['low'])} to {_number(value['high'])}"


def _span(value: Mapping[str, Any]) -> str:
    return _number(value["value"]) if _alone(value) else f"{_number(value['value'])} ({_interval(value)})"


def _times(value: float, floor: float) -> str:
    return f"so that its own are {value / floor:.1f} times as far" if floor > 0 else "as near as can be"

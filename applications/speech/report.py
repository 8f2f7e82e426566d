"""The speech report: from the numbers of metrics.json to a document, so that no figure is in one and not the other."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import wording
from reports.wording import (
    all_of,
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
)

METRICS = {
    "frame_accuracy": "Frame accuracy",
    "phone_error_rate": "Phone error rate",
    "boundary_f1": "Boundary F1",
}
ENCODER = "transformer encoder"
CONSTANT = "majority phone"  # the baseline that gives every frame the same phone
# The differences that the verdict speaks of when the whole family was trained.
QUESTIONS = (("BLSTM", "LSTM"), ("LSTM", "RNN"))
FEW_SENTENCES = 10  # with fewer a bootstrap understates what chance does
LONGEST_TEXT = 240  # characters of a sentence that are printed


def typeset(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The report as PDF, with the figures in `folder`; its date is the run's own."""
    return wording.typeset(document(metrics), metrics, folder)


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what the numbers support, and no more.

    The network is compared with the best baseline by the difference of their frame accuracies and its interval. Where
    it is not even above the most frequent phone, that comes first.
    """
    own = _own(metrics)
    values = result_of(metrics, own)["metrics"]
    accuracy = values["frame_accuracy"]
    others = (
        f"its phone error rate is {percent_span(values['phone_error_rate'])}, its boundary F1 "
        f"{percent_span(values['boundary_f1'])} at {metrics['evaluation']['tolerance_ms']}\u00a0ms"
    )
    last = [*wording.one_unit(metrics["data"]["sentences"]["test"], "sentence"), *wording.quick(metrics)]
    if difference_of(metrics, own, CONSTANT)["low"] <= 0:
        constant = result_of(metrics, CONSTANT)["metrics"]["frame_accuracy"]
        return [
            f"The {own} does not tag phones: its frame accuracy of {percent_span(accuracy)} is not above the "
            f"{percent(constant['value'])} of giving every frame the most frequent phone.",
            f"{others[0].upper()}{others[1:]}.",
            *_known_speakers(metrics),
            "Before it is used, check the labels, and whether the learning curves had levelled out.",
            *last,
        ]
    heard = _heard(metrics)
    whom = "speakers whom it heard in training, too" if heard else "speakers it never heard"
    if heard and heard < metrics["data"]["speakers"]["test"]:
        whom = "speakers of whom it heard some in training"
    rival = max((result for result in metrics["results"] if result["baseline"]), key=_accuracy)["model"]
    difference = difference_of(metrics, own, rival)
    against = f"the {rival}, the best of the baselines"
    if rival != CONSTANT:
        against += f", which sees {metrics['evaluation']['reach']} frames to either side"
    gap = f"by {points(abs(difference['value']))} percentage points of frame accuracy"
    gap += f" ({points_interval(difference, absolute=True)})"
    if difference["low"] > 0:
        first = f"The {own} tags the phones of {whom} better than {against}: ahead {gap}."
    elif difference["high"] < 0:
        first = f"The {own} is not the tagger to take for {whom}: it is behind {against}, {gap}."
    else:
        on = "sentences that neither saw" if heard else "speakers that neither heard"
        first = f"On {on}, the {own} cannot be told from {against}: {wording.chance('frame accuracy', difference)}."
    return [
        first,
        f"It gives {percent(accuracy['value'])} of the frames the right phone ({percent_interval(accuracy)}); "
        f"{others}.",
        *_known_speakers(metrics),
        _what_context_buys(metrics),
        *_weakest(metrics),
        *_order(metrics),
        *last,
    ]


def document(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report as `reports.report.render` takes it."""
    data = metrics["data"]
    return {
        "title": "Tagging speech with phones, frame by frame",
        "subtitle": f"{data['name']}: {counted(data['sentences']['test'], 'sentence')} of "
        f"{counted(data['speakers']['test'], 'speaker')} tested, {_scored(metrics, 'test'):,} frames",
        "language": "en",
        "verdict": verdict(metrics),
        "sections": [
            {"heading": "Results", "blocks": _results(metrics)},
            {"heading": "What context buys", "blocks": _context(metrics)},
            {"heading": "Where it goes wrong", "blocks": _errors(metrics)},
            {"heading": "Sentences", "blocks": _sentences(metrics)},
            {"heading": "Data", "blocks": _data(metrics)},
            {"heading": "Model and training", "blocks": _model(metrics)},
            {"heading": "Limits", "blocks": _limits(metrics)},
            {"heading": "How to repeat", "blocks": wording.repeat(metrics)},
        ],
    }


# --- The verdict's further sentences ---


def _known_speakers(metrics: Mapping[str, Any]) -> list[str]:
    """That test speakers were heard in training, if they were."""
    heard, tested = _heard(metrics), metrics["data"]["speakers"]["test"]
    if not heard:
        return []
    who = f"{heard} of the {tested} test speakers were" if tested > 1 else "The test speaker was"
    return [f"{who} heard in training: on speakers whom it does not know it will be right less often."]


def _what_context_buys(metrics: Mapping[str, Any]) -> str:
    curves = metrics["context"][_own(metrics)]
    alone = curves["both"][0]
    past, future, both = (curves[side][-1] for side in ("past", "future", "both"))
    said = (
        f"Shown single frames and nothing else, it is right for {percent(alone['value'])} of them; with the "
        f"{past['frames']} frames before each for {percent(past['value'])}"
    )
    if not metrics["settings"]["bidirectional"]:
        return f"{said}; it cannot use what comes after, since it reads forward alone."
    together = "both" if both["frames"] == past["frames"] else f"{both['frames']} on either side"
    return (
        f"{said}, with the {future['frames']} after each for {percent(future['value'])}, with {together} for "
        f"{percent(both['value'])}."
    )


def _weakest(metrics: Mapping[str, Any]) -> list[str]:
    """Where the network is right least often, of the noise levels and the speakers, if there are several."""
    noise, speakers = (metrics["accuracy_by"][kind][_own(metrics)] for kind in ("noise", "speaker"))
    parts = []
    if len(noise) > 1:
        worst, best = extremes(noise)
        parts.append(
            f"lowest at a signal-to-noise ratio of {worst} ({percent(noise[worst]['value'])}) and highest at {best} "
            f"({percent(noise[best]['value'])})"
        )
    if len(speakers) > 1:
        worst, best = (percent(speakers[name]["value"]) for name in extremes(speakers))
        parts.append(f"between {worst} and {best} for each of the {len(speakers)} speakers tested")
    return [f"Its frame accuracy is {', and '.join(parts)}."] if parts else []


def _order(metrics: Mapping[str, Any]) -> list[str]:
    """Which of several networks is best, and the differences that the comparison is for."""
    own = _own(metrics)
    networks = _networks(metrics)
    if len(networks) == 1:
        return []
    best = max(networks, key=_accuracy)
    rival = max((network for network in networks if network["model"] != own), key=_accuracy)["model"]
    pairs = {frozenset(pair) for pair in ((own, rival), *QUESTIONS)}
    found = [entry for entry in distinct(metrics["differences"]) if {entry["better"], entry["worse"]} in pairs]
    return [
        f"Of the {len(networks)} networks of about as many parameters the {best['model']} has the highest frame "
        f"accuracy, {percent(_accuracy(best))}: {'; '.join(relation(entry) for entry in found)}."
    ]


# --- The sections ---


def _results(metrics: Mapping[str, Any]) -> list[dict]:
    evaluation = metrics["evaluation"]
    columns = [("Model", "left"), ("Parameters", "right"), ("Training [s]", "right")]
    columns += [(label, "right") for label in METRICS.values()]
    rows = []
    for result in metrics["results"]:
        trained = f"{result['fit_seconds']:.1f}" if result["best_epochs"] else "–"
        cells: list[Any] = [result["model"], f"{result['parameters']:,}", trained]
        for name in METRICS:
            value = result["metrics"][name]
            cells.append({"value": percent(value["value"]), "detail": percent_interval(value)})
        rows.append(cells)
    note = (
        f"Below each figure its 95\u00a0% bootstrap interval ({evaluation['resamples']} draws of "
        f"{evaluation['unit']}, the same for all models). Below the rule the baselines: the most frequent phone of the "
        "training data for every frame; logistic regression and a perceptron with one hidden layer, which see a frame "
        f"and {evaluation['reach']} frames to either side. Training: seconds, the mean of the trainings."
    )
    repeated = [result for result in metrics["results"] if len(result["metrics"]["frame_accuracy"]["seeds"]) > 1]
    if repeated:
        spread = ", ".join(
            f"{points(result['metrics']['frame_accuracy']['deviation'])} ({result['model']})" for result in repeated
        )
        own = repeated[0]["metrics"]
        note += (
            f" Means of {metrics['settings']['seeds']} seeds; between these the frame accuracy has a standard "
            f"deviation, in percentage points, of {spread}; the {repeated[0]['model']}'s phone error rate one of "
            f"{points(own['phone_error_rate']['deviation'])}, its boundary F1 one of "
            f"{points(own['boundary_f1']['deviation'])}."
        )
    blocks: list[dict] = [
        {
            "text": "Frame accuracy is the share of the frames that are given the right phone. The phone error rate "
            "takes the sequence of phones, each run of equal frames for one, and counts the substitutions, insertions "
            "and deletions that would mend it, per true phone: lower is better, and it may exceed 100\u00a0%. "
            "Boundary F1 is the harmonic mean of the share of the true boundaries that were found and the share of the "
            f"found ones that are true, {evaluation['tolerance_ms']}\u00a0ms early or late at most."
        },
        {
            "table": {
                "caption": "All models on the same test sentences",
                "columns": wording.columns(columns),
                "rows": rows,
                "emphasis": [0],
                "rules": [len(_networks(metrics)) - 1],
                "note": note,
            }
        },
        {
            "figures": [
                {
                    "file": "figures/models.svg",
                    "alt": "Frame accuracy, phone error rate and boundary F1 of all models with their intervals: "
                    + "; ".join(
                        f"{result['model']} " + ", ".join(percent(result["metrics"][name]["value"]) for name in METRICS)
                        for result in metrics["results"]
                    ),
                    "caption": "The same figures with their 95\u00a0% intervals.",
                }
            ]
        },
    ]
    if len(_networks(metrics)) > 1:
        blocks.append(wording.differences_table(metrics, "frame accuracy", "sentences"))
    return blocks


def _context(metrics: Mapping[str, Any]) -> list[dict]:
    own = _own(metrics)
    curves, reach = metrics["context"][own], metrics["evaluation"]["reach"]
    distance = list(metrics["accuracy_by"]["distance"][own].items())
    alone, most = curves["both"][0], curves["both"][-1]
    limit = metrics["model"]["context"]
    pieces = "whole sentences" if limit is None else f"pieces of {limit} frames and sees no more at once"
    enough = next((point for point in curves["both"] if point["value"] >= most["low"]), most)
    text = (
        f"The {own} was trained on {pieces}. Here it is shown a frame with so many frames before it, after it or on "
        f"both sides, and nothing else ({metrics['evaluation']['context_frames']:,} test frames drawn at random, the "
        f"network of seed {metrics['seed']}). "
        f"With {most['frames']} frames on both sides it is right for {percent_span(most)} of them; as few as "
        f"{enough['frames']} give an accuracy within this interval."
    )
    beside = next((point for point in curves["both"] if point["frames"] == reach), None)
    if beside is not None:
        perceptron = result_of(metrics, "perceptron")["metrics"]["frame_accuracy"]
        compared = (
            f"ith {reach} frames on both sides it is right for {percent(beside['value'])}, where the perceptron, "
            f"trained to see no more than these, reaches {percent(perceptron['value'])} on all test frames."
        )
        if beside["high"] < perceptron["value"]:
            text += f" It has not learnt to do with little: w{compared}"
        else:
            text += f" W{compared}"
        text += (
            " The left of the curves says what this network needs, not what so much context is worth to a model made "
            "for it."
        )
    if not metrics["settings"]["bidirectional"]:
        text += " It reads forward alone, so that frames after the tagged one change nothing."
    past, future = curves["past"][-1], curves["future"][-1]
    blocks: list[dict] = [
        {"text": text},
        {
            "figures": [
                {
                    "file": "figures/context.svg",
                    "alt": f"Frame accuracy over the frames of context shown: {percent(alone['value'])} with none; "
                    f"with {most['frames']} before {percent(past['value'])}, after {percent(future['value'])}, "
                    f"on both sides {percent(most['value'])}",
                    "caption": f"Frame accuracy of the {own} by the context that it is shown, with 95\u00a0% "
                    "intervals.",
                },
                _bars(
                    metrics,
                    "distance",
                    "by the number of frames that lie between a frame and the nearest true boundary",
                    ", ".join(f"{percent(value['value'])} at {name}" for name, value in (distance[0], distance[-1])),
                ),
            ]
        },
    ]
    if len(metrics["context"]) > 1:
        blocks.append({"figures": [_context_of_all(metrics, "past"), _context_of_all(metrics, "future")]})
    return blocks


def _context_of_all(metrics: Mapping[str, Any], side: str) -> dict[str, str]:
    where = {"past": "before", "future": "after"}[side]
    last = {name: curves[side][-1] for name, curves in metrics["context"].items()}
    most = next(iter(last.values()))["frames"]
    return {
        "file": f"figures/context_{side}.svg",
        "alt": f"Frame accuracy of all networks over the frames shown {where} the tagged one; with {most}: "
        + ", ".join(
            f"{name} {percent(point['value'])}" + f" (with {point['frames']})" * (point["frames"] != most)
            for name, point in last.items()
        ),
        "caption": f"All networks, shown frames {where} the tagged one alone"
        + ("; those of one direction cannot use them." if side == "future" else "."),
    }


def _errors(metrics: Mapping[str, Any]) -> list[dict]:
    own, confusions = _own(metrics), metrics["confusions"]
    classes, speakers, noise = (metrics["accuracy_by"][kind][own] for kind in ("phone class", "speaker", "noise"))
    leading = ", ".join(f"{entry['true']} as {entry['found']} {percent(entry['share'])}" for entry in confusions[:3])
    blocks: list[dict] = [{"figures": [_bars(metrics, "phone class", "by class of the true phone", all_of(classes))]}]
    if len(speakers) > 1:
        worst, best = extremes(speakers)
        said = f"from {percent(speakers[worst]['value'])} ({worst}) to {percent(speakers[best]['value'])} ({best})"
        blocks.append({"figures": [_bars(metrics, "speaker", "by test speaker", said)]})
    if len(noise) > 1:
        blocks.append({"figures": [_bars(metrics, "noise", "by signal-to-noise ratio", all_of(noise))]})
    blocks.append(
        {
            "figures": [
                {
                    "file": "figures/confusion.svg",
                    "alt": f"Confusion matrix of the {len(metrics['data']['classes'])} phones; the confusions that "
                    f"cost most, as shares of the true phone's frames: {leading or 'none'}",
                    "caption": f"True phones against those that the {own} found (seed {metrics['seed']}), as shares of "
                    "the true phone's frames.",
                }
            ]
        }
    )
    if confusions:
        matrix = metrics["confusion_matrix"]
        wrong = sum(map(sum, matrix)) - sum(row[i] for i, row in enumerate(matrix))
        columns = [("True phone", "left"), ("Found", "left"), ("Frames", "right"), ("Share of the true", "right")]
        blocks.append(
            {
                "table": {
                    "caption": f"The {len(confusions)} confusions that cost most frames",
                    "columns": wording.columns(columns),
                    "rows": [
                        [entry["true"], entry["found"], f"{entry['frames']:,}", percent(entry["share"])]
                        for entry in confusions
                    ],
                    "note": f"Together {percent(sum(entry['frames'] for entry in confusions) / wrong)} of the frames "
                    f"that are wrong. Share of the true: of all frames of the true phone.",
                }
            }
        )
    return blocks


def _bars(metrics: Mapping[str, Any], kind: str, how: str, said: str) -> dict[str, str]:
    """The figure of the frame accuracy in groups of the frames."""
    models = " and the ".join(metrics["accuracy_by"][kind])
    return {
        "file": f"figures/by_{kind.replace(' ', '_')}.svg",
        "alt": f"Frame accuracy {how} of the {models}; {_own(metrics)}: {said}",
        "caption": f"Frame accuracy {how}, the mean of the seeds, with 95\u00a0% intervals. {_own(metrics)}: {said}.",
    }


def _sentences(metrics: Mapping[str, Any]) -> list[dict]:
    own, number = _own(metrics), metrics["data"]["sentences"]["test"]
    names = {"good": "A good sentence", "typical": "A typical sentence", "worst": "The worst sentence"}
    names["only"] = "The test sentence"
    which = (
        "Three of the test sentences: one that a tenth of them surpass, the one in the middle and the last"
        if len(metrics["examples"]) == 3
        else "All of the test sentences"
    )
    blocks: list[dict] = [
        {
            "text": f"{which}, ranked by the frame accuracy of the {own} (seed {metrics['seed']}). Under the spectrum "
            f"stand the true phones, those of the {own} and those of the perceptron; one is coloured where half of its "
            "frames or more are wrong."
        }
    ]
    for example in metrics["examples"]:
        text = textwrap.shorten(example["text"], LONGEST_TEXT, placeholder=" …")
        said = f"“{text}”" if text else example["name"]
        spoken = f"{said}, speaker {example['speaker']}"
        if example["noise"]:
            spoken += (
                ", without noise" if example["noise"] == "clean" else f", signal-to-noise ratio {example['noise']}"
            )
        measured = (
            f"frame accuracy {percent(example['frame_accuracy'])}, phone error rate "
            f"{percent(example['phone_error_rate'])}"
        )
        caption = f"{names[example['kind']]}, rank {example['rank']:,} of {number:,}: {spoken}; {measured}."
        if example["seconds"] > example["seconds_shown"]:
            caption += f" The first {example['seconds_shown']:g} of {example['seconds']:.1f} seconds."
        blocks.append(
            {
                "figures": [
                    {
                        "file": f"figures/example_{example['kind']}.svg",
                        "alt": f"Spectrum, true phones and found phones of {said}; {own}: {measured}",
                        "caption": caption,
                    }
                ]
            }
        )
    return blocks


def _data(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    names = {"train": "training", "validation": "validation (choice of the epoch)", "test": "test (result)"}
    columns = [("Split", "left"), ("Speakers", "right"), ("Sentences", "right"), ("Minutes", "right")]
    left_out = sum(data[key] - _scored(metrics, key) for key in names)
    note = f"{left_out:,} of the frames have a label that is no phone, and count neither in training nor in any figure."
    return [
        {
            "table": {
                "caption": f"The split, by {'sentence' if _heard(metrics) else 'speaker'}",
                **({"note": note} if left_out else {}),
                "columns": wording.columns([*columns, ("Frames", "right")]),
                "rows": [
                    [
                        name,
                        f"{data['speakers'][key]:,}",
                        f"{data['sentences'][key]:,}",
                        f"{data['minutes'][key]:,.1f}",
                        f"{data[key]:,}",
                    ]
                    for key, name in names.items()
                ],
            }
        },
        {
            "facts": [
                *wording.provenance(data, f"{data['rows']:,} frames, {data['size_bytes'] / 1e6:,.1f} MB of sound"),
                ["Inputs", data["units"]],
                ["Phones", f"{len(data['classes'])}: {' '.join(data['classes'])}"],
            ]
        },
    ]


def _model(metrics: Mapping[str, Any]) -> list[dict]:
    own, settings, model, timing = (
        _own(metrics),
        metrics["settings"],
        metrics["model"],
        metrics["timing"],
    )
    networks = _networks(metrics)
    result = networks[0]
    if model["context"] is None:
        size = f"{counted(result['layers'], 'recurrent layer')} of {counted(result['units'], 'unit')}"
        size += " in each direction" * settings["bidirectional"]
        dropped, piece = "each layer's input", "sentence"
    else:
        size = f"{counted(result['layers'], 'block')} of width {result['units']}"
        dropped, piece = "attention and on what each part of a block adds", "piece"
    of_rates: dict[float, list[str]] = {}
    for network in networks:
        of_rates.setdefault(network["learning_rate"], []).append(network["model"])
    rates = ", ".join(
        f"{rate:g}" + f" ({', '.join(models)})" * (len(of_rates) > 1) for rate, models in of_rates.items()
    )
    for network in networks:
        if network["warm_up"]:
            rates += f", the {network['model']}'s after a rise in the first {percent(network['warm_up'])} of the steps"
    best = "; ".join(f"{n['model']} {', '.join(map(str, n['best_epochs']))}" for n in networks)
    extras = [
        (result["dropout"], f"dropout {result['dropout']:g} on {dropped}"),
        (settings["recurrent_dropout"], f"dropout {settings['recurrent_dropout']:g} on the state"),
        (settings["layer_normalization"], "layer normalisation"),
    ]
    facts = [
        [
            "Model",
            f"{own}: {size}, {result['activation']}, {result['parameters']:,} parameters",
        ],
        *(
            []
            if model["context"] is None
            else [
                [
                    "Context",
                    f"{model['context']} frames at once; longer sentences are cut for the training, and tagged in "
                    "windows that overlap by half of this or more",
                ]
            ]
        ),
        *([["Started from", settings["init_from"]]] if settings["init_from"] else []),
        *wording.regularisation(extras),
        [
            "Loss, optimizer",
            f"cross-entropy of each frame; {settings['optimizer']}, learning rate {rates}, falling along a cosine; "
            f"{counted(model['batch_size'], piece)} a step, {counted(model['steps_per_epoch'], 'step')} an epoch",
        ],
        [
            "Epochs",
            f"{settings['epochs']} at most, fewer after {settings['patience']} without a lower validation loss",
        ],
        ["Best epoch by seed", best],
        *wording.cost(timing, "frames", "all networks" if len(networks) > 1 else "the network"),
    ]
    layers = ", ".join(f"{name} {shape[-1]}" for name, shape, _ in model["layers"])
    return [
        {
            "figures": [
                {
                    "file": "figures/network.svg",
                    "alt": f"The {own}, units of each layer: {layers}",
                    "caption": "The model: units and parameters of each layer, for every frame of a sentence.",
                }
            ]
        },
        {
            "figures": [
                {
                    "file": "figures/learning.svg",
                    "alt": f"Training and validation loss of the {own} over the epochs; lowest validation loss in "
                    f"epoch {', '.join(map(str, networks[0]['best_epochs']))}",
                    "caption": f"Learning curves of the {own}, one for each seed. The weights of the epoch with the "
                    "lowest validation loss are kept.",
                }
            ]
        },
        {"facts": facts},
    ]


def _limits(metrics: Mapping[str, Any]) -> list[dict]:
    data, settings = metrics["data"], metrics["settings"]
    unit = "sentences" if _heard(metrics) else "speakers"
    tested = data["sentences"]["test"]
    limits = []
    if settings["timit"]:
        limits += [
            "The labels are taken for the truth: where the person or the program that made them erred, the model is "
            "charged with the error.",
        ]
        if _heard(metrics):
            limits.append(
                "The split is by sentence. The network has heard the voices that it is tested on, the room and the "
                "microphone: take these figures for more recordings of the same speakers, not for those of others."
            )
        else:
            limits.append(
                "A speaker is in one split alone. Whether the same sentence is said in two splits was not checked, but "
                "for TIMIT's SA1 and SA2, which are left out."
            )
    else:
        limits += [
            "The voices are synthetic: formants that a program moves by rules, with labels of the program's own. They "
            "vary less than people do, and a phone sounds more alike each time. Take these figures as a comparison of "
            "models, not as what they would reach on people.",
            "No sentence is in two splits, but words are, so that a network may profit from words that it has heard "
            "in training.",
        ]
    if _heard(metrics):
        heard = "On speakers whom it does not know the figures will be lower."
    elif data["speakers"]["test"] == 1:
        heard = "There was one test speaker; on others the figures may be quite different."
    else:
        heard = f"There were {data['speakers']['test']} test speakers; on others the figures may be different."
    limits += [
        f"The intervals cover the choice of the sentences, not that of the speakers or of the training data. {heard}",
        *(
            [f"With {counted(tested, 'test sentence')} the intervals are narrower than they should be."]
            if tested < FEW_SENTENCES
            else []
        ),
        "The phone error rate takes equal frames that follow one another for one phone. Two equal phones in a row "
        "count as one, in the truth as in what was found. Nothing is smoothed, and no language model is used.",
        "A frame is labelled with the phone at the centre of its window of 25\u00a0ms. Next to a boundary it holds two "
        "phones, and a part of those errors can't be avoided.",
        f"The epoch was chosen on the validation {unit}, so that the lowest validation loss is lower than it would "
        f"be on others. This run chose nothing on the test {unit}.",
        "Each speaker's bands are normalised with the mean and the deviation of all that the speaker says"
        + (", and the network sees what follows a frame too" if settings["bidirectional"] else "")
        + ": it tags recordings, not someone who is still speaking.",
    ]
    networks = [network["model"] for network in _networks(metrics)]
    if ENCODER in networks:
        limits.append(
            "A transformer encoder has to learn from the data which of its places are neighbours, on which recurrent "
            "networks are built. It needs more data and more training than they do, and is at a disadvantage in a "
            "comparison at equal numbers of parameters and epochs on little speech."
        )
    if len(networks) > 1:
        limits.append(
            "All networks were trained with the same settings but for the learning rate, and none was tuned further. "
            "One that is behind here may gain more than others from settings of its own."
        )
    return [{"list": [*limits, *wording.limits(metrics)]}]


def _heard(metrics: Mapping[str, Any]) -> int:
    """How many of the test speakers were heard in training."""
    return metrics["data"].get("heard", 0)


def _scored(metrics: Mapping[str, Any], split: str) -> int:
    """The frames of a split that have a phone."""
    return metrics["data"].get("scored", metrics["data"])[split]


def _own(metrics: Mapping[str, Any]) -> str:
    return metrics["headline"]["model"]


def _networks(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [result for result in metrics["results"] if not result["baseline"]]


def _accuracy(result: Mapping[str, Any]) -> float:
    return result["metrics"]["frame_accuracy"]["value"]

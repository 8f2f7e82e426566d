"""The pronunciation report: from the numbers of metrics.json to a document, so that no figure is in one only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import wording
from reports.wording import counted, difference_of, percent, percent_interval, percent_span, result_of

METRICS = {"word_error_rate": "Words wrong", "phone_error_rate": "Phone errors"}
BASELINE = "letters in context"
FREQUENT = 30  # times that a letter occurs in the test words, without which its error rate says little
MANY_WRONG = 0.9  # a network that gets more words wrong has not learnt to read


def typeset(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The report as PDF, with the figures in `folder`; its date is the run's own."""
    return wording.typeset(document(metrics), metrics, folder)


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what the numbers support, and no more.

    The network is compared with the classical baseline by the difference of their word error rates and its interval.
    """
    own = _own(metrics)
    values = result_of(metrics, own)["metrics"]
    last = [*_others(metrics), *_weakest(metrics), *wording.quick(metrics)]
    if values["word_error_rate"]["low"] > MANY_WRONG:
        return [
            f"The {own} has not learnt to pronounce: {percent_span(values['word_error_rate'])} of words that it never "
            "saw are wrong.",
            "Before it is used, check whether the learning curves had levelled out, and whether spelling and phones of "
            "this dictionary belong together.",
            *wording.quick(metrics),
        ]
    difference = difference_of(metrics, own, BASELINE)
    gap = f"{wording.points(abs(difference['value']))} points ({wording.points_interval(difference, absolute=True)})"
    if difference["low"] > 0:
        first = f"The {own} pronounces words that it never saw better than {BASELINE}: fewer are wrong by {gap}."
    elif difference["high"] < 0:
        first = f"The {own} is not the model to take for these words: {BASELINE} gets fewer wrong, by {gap}."
    else:
        first = (
            f"On words that neither saw, the {own} cannot be told from {BASELINE}: "
            f"{wording.chance('words that are right', difference, unit='points')}."
        )
    return [
        first,
        f"Of {metrics['data']['test']:,} words {percent_span(values['word_error_rate'])} are pronounced in a way that "
        f"the dictionary does not list; {percent_span(values['phone_error_rate'])} of the phones are in error.",
        *last,
    ]


def document(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report as `reports.report.render` takes it."""
    data = metrics["data"]
    return {
        "title": "From spelling to pronunciation",
        "subtitle": f"{data['name']}: {data['train']:,} words to train on, {data['test']:,} tested",
        "language": "en",
        "verdict": verdict(metrics),
        "sections": [
            {"heading": "Results", "blocks": _results(metrics)},
            {"heading": "Where the errors are", "blocks": _errors(metrics)},
            {"heading": "Examples", "blocks": _examples(metrics)},
            *([{"heading": "Where it looks", "blocks": _attention(metrics)}] if metrics["attention"] else []),
            {"heading": "How many words it takes", "blocks": _sizes(metrics)},
            {"heading": "Data", "blocks": _data(metrics)},
            {"heading": "Model and training", "blocks": _model(metrics)},
            {"heading": "Limits", "blocks": _limits(metrics)},
            {"heading": "How to repeat", "blocks": wording.repeat(metrics)},
        ],
    }


# --- The verdict's further sentences ---


def _others(metrics: Mapping[str, Any]) -> list[str]:
    """What the differences from the other networks, and from greedy search, say."""
    own = _own(metrics)
    sentences = []
    for entry in metrics["differences"]:
        other = entry["worse"]
        if entry["better"] != own or other == BASELINE or entry["measure"] != "word_error_rate":
            continue
        gap = f"{wording.signed_points(entry)} points"
        if other == f"{own}, greedy":
            beams = metrics["evaluation"]["beams"]
            reading = (
                f"makes no clear difference ({gap})"
                if entry["low"] <= 0 <= entry["high"]
                else f"{'saves' if entry['low'] > 0 else 'costs'} {wording.points(abs(entry['value']))} points of them "
                f"({wording.points_interval(entry, absolute=True)})"
            )
            sentences.append(f"Following {beams} pronunciations at once instead of the likeliest phone {reading}.")
        elif not other.endswith(", greedy"):
            sentences.append(f"In words that are right, {wording.relation(entry)}.")
    return sentences


def _weakest(metrics: Mapping[str, Any]) -> list[str]:
    groups = metrics["by_spelling"]
    if len(groups) < 5:  # so few words
        return []
    *_, last = groups.values()
    first = next(iter(groups.values()))
    return [
        f"Of the fifth of the words that is spelt most usually {percent(first['word_error_rate']['value'])} are wrong, "
        f"of the fifth that is spelt most unusually {percent(last['word_error_rate']['value'])}."
    ]


# --- The sections ---


def _results(metrics: Mapping[str, Any]) -> list[dict]:
    columns = [("Model", "left"), ("Search", "left"), ("Parameters", "right"), ("Training [s]", "right")]
    columns += [(label, "right") for label in METRICS.values()]
    columns += [("Words a second", "right")]
    rows, networks = [], 0
    for result in metrics["results"]:
        search, name = result["search"], result["model"].removesuffix(", greedy")
        networks += not result["baseline"]
        rows.append(
            [
                name,
                "–" if search is None else "greedy" if search == 1 else f"{search} beams",
                f"{result['parameters']:,}",
                f"{result['fit_seconds']:.0f}",
                *(
                    {"value": percent(value["value"]), "detail": percent_interval(value)}
                    for value in (result["metrics"][measure] for measure in METRICS)
                ),
                "–" if search is None else f"{metrics['speed'][name][str(search)]:,.0f}",
            ]
        )
    own = _own(metrics)
    seeds = result_of(metrics, own)["metrics"]["word_error_rate"]
    baseline = result_of(metrics, BASELINE)
    note = (
        f"Below each figure its 95\u00a0% bootstrap interval ({metrics['evaluation']['resamples']} draws of the test "
        f"words, the same for all models). Below the rule the classical baseline: {baseline['settings']}."
    )
    if len(seeds["seeds"]) > 1:
        note += (
            f" The networks: means of {counted(len(seeds['seeds']), 'training')}; words wrong of the {own} "
            f"{', '.join(map(percent, seeds['seeds']))}, standard deviation {percent(seeds['deviation'])}."
        )
    return [
        {
            "text": "A word is right if the phones found are one of the pronunciations that the dictionary lists for "
            "it. Phone errors are the substitutions, omissions and insertions that make the nearest listed "
            "pronunciation of what was found, for each phone of that pronunciation."
        },
        {
            "table": {
                "caption": "All models on the same test words",
                "columns": wording.columns(columns),
                "rows": rows,
                "emphasis": [0],
                "rules": [networks - 1],
                "note": note,
            }
        },
        wording.differences_table(metrics, "words that are right", "test words"),
        _figure(
            "learning",
            f"Loss of the {own} on training and validation words over the epochs; kept: epoch "
            f"{', '.join(map(str, result_of(metrics, own)['best_epochs']))}",
            "Learning curves: cross-entropy of a phone, given the letters and the phones before it. The "
            "weights of the epoch with the lowest validation loss are kept.",
        ),
    ]


def _errors(metrics: Mapping[str, Any]) -> list[dict]:
    own, found = _own(metrics), metrics["confusions"]
    columns = wording.columns([("Listed", "left"), ("Found", "left"), ("Times", "right")])
    letters = list(frequent(metrics["by_letter"]).items())
    worst = ", ".join(f"{letter} {percent(value['value'])}" for letter, value in letters[:3])
    by_length = {name: value["word_error_rate"] for name, value in metrics["by_length"].items()}
    by_spelling = {name: value["word_error_rate"] for name, value in metrics["by_spelling"].items()}
    return [
        _figure(
            "length",
            f"Words wrong by their number of letters: {wording.all_of(by_length)}",
            f"Words that the {own} gets wrong by their number of letters, with 95\u00a0% intervals; n is the "
            "number of words.",
        ),
        _figure(
            "spelling",
            f"Words wrong by how unusual they are spelt: {wording.all_of(by_spelling)}",
            "The same by how unusual the spelling is: fifths of the test words by the mean bits of their letters under "
            "a letter model (3-grams) of the training words. Foreign words and names are often among the unusual, but "
            "this figure knows nothing of where a word comes from.",
        ),
        *(
            [
                _figure(
                    "letter",
                    f"Share of each letter's occurrences that are read wrongly; most often {worst}",
                    "Share of each letter's occurrences that are read wrongly: an alignment of letters and phones "
                    f"gives the letter other phones in what was found than in what is listed. Letters that occur "
                    f"{FREQUENT} times or more; n is how often.",
                )
            ]
            if letters
            else []
        ),
        {
            "text": f"Of the phones in error {found['substituted']:,} are other ones, {found['left_out']:,} were left "
            f"out and {found['put_in']:,} put in."
        },
        {
            "table": {
                "caption": "The most frequent confusions of phones",
                "columns": columns,
                "rows": [[true, said, f"{times:,}"] for true, said, times in found["most"]],
                "note": "A dash stands for no phone: put in where nothing is listed, or left out.",
            }
        },
    ]


def frequent(letters: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The letters that occur often enough."""
    return {letter: value for letter, value in letters.items() if value["letters"] >= FREQUENT}


def _examples(metrics: Mapping[str, Any]) -> list[dict]:
    columns = wording.columns([("Word", "left"), ("Found", "left"), ("Probability", "right"), ("Listed", "left")])
    captions = {
        "right": "Words that were right, drawn by chance",
        "wrong": "Words that were wrong, drawn by chance",
        "sure": "Wrong, though the network was sure: the most probable of its errors",
    }
    blocks: list[dict] = []
    for kind, caption in captions.items():
        rows = [
            [one["word"], one["said"] or "nothing", percent(one["probability"]), " / ".join(one["listed"])]
            for one in metrics["examples"][kind]
        ]
        if rows:
            blocks.append({"table": {"caption": caption, "columns": columns, "rows": rows}})
    blocks.append(
        {
            "text": "The probability is what the network gives to just these phones. Some of the errors of which it is "
            "sure may be pronunciations that the dictionary could list."
        }
    )
    return blocks


def _attention(metrics: Mapping[str, Any]) -> list[dict]:
    shown = metrics["attention"]
    return [
        _figure(
            "attention",
            f"Cross-attention of {counted(shown['heads'], 'head')} in each of {counted(shown['layers'], 'block')} for "
            f"the word {shown['word']}, pronounced {shown['said']}",
            f"How much the {_own(metrics)} looks at each letter (column) as it says each phone (row) of "
            f"“{shown['word']}”, in each block and head of the decoder. Where a dark line runs from corner to corner "
            "it has learnt on its own which letters make which phones.",
        )
    ]


def _sizes(metrics: Mapping[str, Any]) -> list[dict]:
    sizes = metrics["sizes"]
    text = "; ".join(
        f"{name}: " + ", ".join(f"{percent(p['word_error_rate']['value'])} after {p['words']:,}" for p in points)
        for name, points in sizes.items()
    )
    caption = (
        "Words wrong by the number of words trained on, with 95\u00a0% intervals. One training each; the settings are "
        "those of all the words."
    )
    if not metrics["settings"]["compare"]:
        caption += " With --compare the networks are trained on the smaller parts, too."
    return [_figure("sizes", f"Words wrong by training words. {text}", caption)]


def _data(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    names = {"train": "training", "validation": "validation (choice of the epoch)", "test": "test (result)"}
    columns = [("Split", "left"), ("Words", "right"), ("Pronunciations", "right")]
    decomposed = " (of Unicode's decomposed form)" if data.get("form") == "NFD" else ""
    return [
        {
            "table": {
                "caption": "The split, by word",
                "columns": wording.columns(columns),
                "rows": [[name, f"{data[key]:,}", f"{data['entries'][key]:,}"] for key, name in names.items()],
                "note": "All pronunciations of a word are on one side.",
            }
        },
        {
            "facts": [
                *wording.provenance(data, f"{data['rows']:,} {data['units']}, {data['size_bytes'] / 1e6:,.2f} MB"),
                ["Letters, phones", f"{data['letters']:,}{decomposed} and {data['phones']:,}"],
            ]
        },
    ]


def _model(metrics: Mapping[str, Any]) -> list[dict]:
    own, settings, model = _own(metrics), metrics["settings"], metrics["model"]
    facts = [
        *(
            [
                name,
                f"{counted(of['layers'], 'block' if of['template'] == 'transformer' else 'layer')} each of encoder and "
                f"decoder, {of['units']} wide"
                + (f", {counted(settings['heads'], 'head')}" if of["template"] == "transformer" else "")
                + f", {result_of(metrics, name)['parameters']:,} parameters; dropout {of['dropout']:g}; learning rate "
                f"{of['learning_rate']:g}, {counted(of['batch_size'], 'word')} a step, {of['epochs']} epochs at most, "
                f"best {', '.join(map(str, result_of(metrics, name)['best_epochs']))}",
            ]
            for name, of in model["settings"].items()
        ),
        *([["Started from", settings["init_from"]]] if settings["init_from"] else []),
        [
            "Loss, optimizer",
            f"cross-entropy of each phone; {settings['optimizer']}, the learning rate after a short rise falling along "
            f"a cosine; stopped after {settings['patience']} epochs without a lower validation loss",
        ],
        *([["Precision", settings["precision"]]] if settings["precision"] != "float32" else []),
        ["Longest word", f"{model['longest'] - 1} letters or phones"],
        *wording.cost(metrics["timing"], "pronunciations"),
    ]
    layers = ", ".join(f"{name} {parameters:,}" for name, _, parameters in model["layers"])
    return [
        _figure(
            "network",
            f"The {own}, parameters of each layer: {layers}",
            "The model: numbers that stand for a letter or a phone after each layer, and its parameters.",
        ),
        {"facts": facts},
    ]


def _limits(metrics: Mapping[str, Any]) -> list[dict]:
    settings = metrics["settings"]
    is_cmudict = settings["dictionary"] is None
    drawn = "are listed apart" if settings["test_words"] else "are drawn from the same dictionary"
    limits = [
        "A dictionary lists what its makers heard, and one accent: a pronunciation that it does not list counts as "
        "wrong, also where people use it.",
        f"Test words {drawn}, and many may be relatives of training words, as “reader” is one of “read”: words of "
        "another kind will be harder.",
        "The model sees no sentence: of words whose pronunciation their sense decides, as that of “read” or “lead” in "
        "English, it can only offer the alternatives.",
        f"Each word counts once, however rare{': most are names' * is_cmudict}. The error in running text, whose words "
        "are mostly in the dictionary, is another figure.",
        "The intervals cover the choice of the test words, not that of the training words or, with one seed, the luck "
        "of the training.",
        "The epoch was chosen on the validation words; this run chose nothing on the test words.",
    ]
    if settings["init_from"]:
        limits.append(
            "The training began with the weights of another model (--init-from): whether that one saw the test words, "
            "this run cannot know."
        )
    if not settings["stress"] and is_cmudict:
        limits.append("Stress is left out, as in most published results; --stress keeps it.")
    return [{"list": [*limits, *wording.limits(metrics)]}]


def _figure(name: str, alt: str, caption: str) -> dict:
    return {"figures": [{"file": f"figures/{name}.svg", "alt": alt, "caption": caption}]}


def _own(metrics: Mapping[str, Any]) -> str:
    return metrics["headline"]["model"]

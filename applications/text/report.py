"""The text report: from the numbers of metrics.json to a document, so that no figure is in one and not the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import wording
from reports.wording import counted, difference_of, percent, percent_span, result_of

METRICS = {
    "bits_per_character": "Bits a character",
    "bits_per_byte": "Bits a byte",
    "perplexity": "Perplexity",
    "accuracy": "Next token right",
}
N_GRAM, LONG, UNIGRAM = "5-gram", "16-gram", "unigram"
SHOWN_TEXT = 600  # characters of a sample that are printed
MANY_UNKNOWN = 0.01  # of the characters of the test text
FEW_BLOCKS = 10  # with fewer a bootstrap understates what chance does
# Of what is counted in samples: its name, and how it is written.
QUALITY = {
    "known_words": ("Known words", percent),
    "distinct_2": ("Distinct pairs", percent),
    "distinct_4": ("Distinct fours", percent),
    "mean_copy": ("Mean copy", "{:.1f}".format),
    "longest_copy": ("Longest copy", "{:.0f}".format),
    "balanced_brackets": ("Brackets closed", percent),
    "balanced_quotes": ("Quotes closed", percent),
}


def typeset(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The report as PDF, with the figures in `folder`; its date is the run's own."""
    return wording.typeset(document(metrics), metrics, folder)


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what the numbers support, and no more.

    The network is compared with the better of the n-gram models by the difference of their bits per character and its
    interval. Where it is not even better than the frequencies of the tokens, that comes first.
    """
    own = _own(metrics)
    values = result_of(metrics, own)["metrics"]
    bits = values["bits_per_character"]
    last = [
        *_writes(metrics),
        *wording.one_unit(metrics["data"]["measured"]["blocks"], "block"),
        *wording.quick(metrics),
    ]
    if difference_of(metrics, own, UNIGRAM)["low"] <= 0:
        unigram = result_of(metrics, UNIGRAM)["metrics"]["bits_per_character"]
        return [
            f"The {own} has not learnt this text: its {_bits_span(bits)} bits a character are no fewer than the "
            f"{_bits(unigram['value'])} that the frequencies of the tokens alone would need.",
            "Before it is used, check whether the learning curves had levelled out, and whether the text has any order "
            "that could be learnt.",
            *last,
        ]
    rival = min((N_GRAM, LONG), key=lambda model: result_of(metrics, model)["metrics"]["bits_per_character"]["value"])
    difference = difference_of(metrics, own, rival)
    gap = f"{_bits(abs(difference['value']))} bits a character ({_bits_interval(difference, absolute=True)})"
    if difference["low"] > 0:
        first = f"The {own} predicts text that it never saw better than the {rival} model: it needs fewer by {gap}."
    elif difference["high"] < 0:
        first = f"The {own} is not the model to take for this text: it needs more than the {rival} model, by {gap}."
    else:
        first = (
            f"On text that neither saw, the {own} cannot be told from the {rival} model: the difference, "
            f"{difference['value']:+.3f} bits a character ({difference['low']:+.3f} to {difference['high']:+.3f}), may "
            "be chance."
        )
    token = "character" if metrics["data"]["tokenizer"] == "char" else "token"
    return [
        first,
        f"It needs {_bits_span(bits)} bits a character, and the {token} that it holds most probable is the right one "
        f"{percent_span(values['accuracy'])} of the time; its perplexity per {token} is "
        f"{values['perplexity']['value']:.2f}.",
        *_fitted_on_less(metrics, rival),
        *_together(metrics),
        _as_compressor(metrics),
        *_unknown(metrics),
        *last,
    ]


def document(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report as `reports.report.render` takes it."""
    data = metrics["data"]
    return {
        "title": "A language model: predicting and writing text",
        "subtitle": f"{data['name']}: {data['measured']['characters']:,} characters in "
        f"{counted(data['measured']['blocks'], 'block')} tested",
        "language": "en",
        "verdict": verdict(metrics),
        "sections": [
            {"heading": "Results", "blocks": _results(metrics)},
            {"heading": "What it writes", "blocks": _samples(metrics)},
            {"heading": "Where it is surprised", "blocks": _surprise(metrics)},
            *([{"heading": "Where it looks", "blocks": _attention(metrics)}] if metrics["attention"] else []),
            {"heading": "Data", "blocks": _data(metrics)},
            {"heading": "Model and training", "blocks": _model(metrics)},
            {"heading": "Limits", "blocks": _limits(metrics)},
            {"heading": "How to repeat", "blocks": wording.repeat(metrics)},
        ],
    }


# --- The verdict's further sentences ---


def _fitted_on_less(metrics: Mapping[str, Any], rival: str) -> list[str]:
    """That the rival had less of the training text than the network, if it had."""
    fitted, all_ = metrics["evaluation"]["training_characters"][rival], metrics["data"]["characters"]["train"]
    if fitted >= all_:
        return []
    return [
        f"The terms are not equal: the {rival} model was fitted on {fitted:,} of the {all_:,} characters of training "
        "text, in blocks that are evenly spread over it, and with all of them it may need fewer bits."
    ]


def _unknown(metrics: Mapping[str, Any]) -> list[str]:
    """That the figures flatter, where more than a few characters of the test text are unknown."""
    share = metrics["data"]["unknown"]["test"] / metrics["data"]["characters"]["test"]
    if share <= MANY_UNKNOWN:
        return []
    return [
        f"Of the test text, {percent(share)} are characters that the model does not know. They count as one, so that "
        "all bits here but those of the compressors are too few; bytes as tokens (--tokenizer byte) know them all."
    ]


def _together(metrics: Mapping[str, Any]) -> list[str]:
    own, mixture = _own(metrics), metrics["mixture"]
    alone, grams = mixture["gains"]
    if min(alone["low"], grams["low"]) <= 0:
        return []
    shares, many = ", ".join(percent(share) for share in mixture["shares"]), len(mixture["shares"]) > 1
    return [
        f"Together with the {LONG} model, which knows the phrases of the training text by heart, it needs "
        f"{_bits_span(mixture['metrics']['bits_per_character'])}, fewer than either alone: by {_bits(alone['value'])} "
        f"({_bits_interval(alone)}) than the {own}, by {_bits(grams['value'])} ({_bits_interval(grams)}) than the "
        f"{LONG} model. The {own}'s share{'s' * many} in the mixture, {shares}, {'were' if many else 'was'} chosen on "
        "validation."
    ]


def _as_compressor(metrics: Mapping[str, Any]) -> str:
    bits = result_of(metrics, _own(metrics))["metrics"]["bits_per_character"]["value"]
    ranked = sorted(metrics["compressors"], key=lambda one: one["bits_per_character"])
    below = [one for one in ranked if one["bits_per_character"] > bits]
    above = [one for one in ranked if one["bits_per_character"] <= bits]

    def named(some: list[Mapping[str, Any]]) -> str:
        words = [f"{one['name']} ({_bits(one['bits_per_character'])})" for one in some]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

    parts = [f"{word} {named(some)}" for word, some in (("fewer bits than", below), ("more than", above)) if some]
    return f"As a compressor of the same text, after the same training text, it needs {', but '.join(parts)}."


def _writes(metrics: Mapping[str, Any]) -> list[str]:
    quality = metrics["sample_quality"]
    real, own = quality[0], next(row for row in quality if row["name"] == "temperature\u00a00.8")
    if own["known_words"] is None or real["known_words"] is None or own["longest_copy"] is None:
        return []
    return [
        f"Of the words that it writes at temperature 0.8, {percent(own['known_words'])} are words of the training text "
        f"(of real text {percent(real['known_words'])}); the longest run that a sample of "
        f"{metrics['sample_length']:,} characters copies from it has {own['longest_copy']:.0f} characters on average, "
        f"where real text has {real['longest_copy']:.0f}."
    ]


# --- The sections ---


def _results(metrics: Mapping[str, Any]) -> list[dict]:
    columns = [("Model", "left"), ("Parameters", "right"), ("Training [s]", "right")]
    columns += [(label, "right") for label in METRICS.values()]
    rows = []
    own, mixture = _own(metrics), metrics["mixture"]
    together = {
        "model": f"mixed with {LONG}",
        "parameters": mixture["parameters"],
        "best_epochs": [],
        "metrics": mixture["metrics"],
    }
    for result in (metrics["results"][0], together, *metrics["results"][1:]):
        cells: list[Any] = [
            result["model"],
            f"{result['parameters']:,}",
            f"{result['fit_seconds']:.0f}" if result["best_epochs"] else "–",
        ]
        for name in METRICS:
            value = result["metrics"].get(name)
            if value is None:
                cells.append("–")
            elif name == "accuracy":
                cells.append({"value": percent(value["value"]), "detail": wording.percent_interval(value)})
            else:
                digits = 2 if name == "perplexity" else 3
                interval = f"{value['low']:.{digits}f} to {value['high']:.{digits}f}"
                cells.append({"value": f"{value['value']:.{digits}f}", "detail": interval})
        rows.append(cells)
    for one in sorted(metrics["compressors"], key=lambda one: one["bits_per_character"]):
        rows.append([one["name"], "–", "–", _bits(one["bits_per_character"]), _bits(one["bits_per_byte"]), "–", "–"])
    seeds = result_of(metrics, own)["metrics"]["bits_per_character"]
    characters = metrics["evaluation"]["training_characters"]
    fitted = f"{max(characters.values()):,} characters"
    if len(set(characters.values())) > 1:
        fitted = ", ".join(f"{count:,} characters ({model})" for model, count in characters.items())
    sampled, all_ = _sampled(metrics), metrics["data"]["characters"]["train"]
    whole = "the" if sampled == all_ else f"{sampled:,} of the {all_:,} characters of the"
    note = (
        f"Below each figure its 95\u00a0% bootstrap interval ({metrics['evaluation']['resamples']} draws of blocks of "
        "the test text, the same for all models). In the second row the mean of the probabilities of the network and "
        f"of the {LONG} model, whose weight was chosen on validation. Below the first rule the baselines: interpolated "
        "modified Kneser–Ney over the same tokens, their parameters the n-grams that they hold, fitted on "
        f"{fitted}; below the second compressors, whose bits are "
        f"those of {whole} training text and the test text together less those of the former."
    )
    if len(seeds["seeds"]) > 1:
        note += (
            f" The {own}: mean of {counted(len(seeds['seeds']), 'training')} "
            f"({', '.join(_bits(value) for value in seeds['seeds'])}; standard deviation {_bits(seeds['deviation'])})."
        )
    return [
        {
            "text": "A language model gives each token a probability from those before it. Bits a character is what a "
            "perfect arithmetic coder would need to write the test text down with these probabilities: lower is "
            "better, and it compares models whose tokens differ, and compressors. The perplexity is 2 to the power of "
            "the mean bits of a token."
        },
        {
            "table": {
                "caption": "All models on the same blocks of test text",
                "columns": wording.columns(columns),
                "rows": rows,
                "emphasis": [0],
                "rules": [1, len(metrics["results"])],
                "note": note,
            }
        },
        {
            "figures": [
                {
                    "file": "figures/learning.svg",
                    "alt": f"Bits a character of the {own} on training and validation text over the epochs, with the "
                    f"{N_GRAM} model's on validation as a line; kept: epoch "
                    f"{', '.join(map(str, result_of(metrics, own)['best_epochs']))}",
                    "caption": f"Learning curves of the {own}, one for each seed, on training and validation text; the "
                    "lines are the baselines on the validation text. The weights of the epoch with the lowest "
                    "validation loss are kept.",
                }
            ]
        },
    ]


def _samples(metrics: Mapping[str, Any]) -> list[dict]:
    own, moments = _own(metrics), metrics["moments"]
    sampled, all_ = _sampled(metrics), metrics["data"]["characters"]["train"]
    searched = f" Words and copies were looked for in {sampled:,} of the {all_:,} characters of training text."
    searched *= sampled < all_
    columns = [("Text", "left"), *((label, "right") for label, _ in QUALITY.values())]
    rows = [
        [row["name"], *("–" if row[key] is None else form(row[key]) for key, (_, form) in QUALITY.items())]
        for row in metrics["sample_quality"]
    ]
    blocks: list[dict] = [
        {
            "table": {
                "caption": f"What can be counted of samples of {metrics['sample_length']:,} characters",
                "columns": wording.columns(columns),
                "rows": rows,
                "rules": [0],
                "note": f"Means over {metrics['sample_quality'][0]['samples']} texts each. First row: real text from "
                "the test blocks, the mark that samples should reach. Known words: share of the words that the "
                "training text has. Distinct: share of different ones among all runs of two and of four words. Copy: "
                "characters of the run that the training text has too, from each character on and at its longest; far "
                "above the real text's it is recitation. Closed: share of brackets and of quotation marks with a "
                "partner." + searched,
            }
        }
    ]
    prompt = metrics["samples"][0]["prompt"]
    blocks.append(
        {
            "text": f"The {own} was given the beginnings of test blocks, {len(prompt)} characters, marked ▸ ◂; what "
            "follows is its own."
        }
    )
    shown: set[float] = set()
    for sample in metrics["samples"]:
        if sample["temperature"] not in shown:
            shown.add(sample["temperature"])
            text = f"At temperature {sample['temperature']:g}; it copies {sample['longest_copy']} characters at most."
            blocks += [{"text": text}, {"code": _sample(sample["prompt"], sample["text"])}]
    blocks.append({"text": "The same prompt at three moments of the training, at temperature 0.8."})
    for moment in moments:
        blocks += [
            {
                "text": f"After epoch {moment['epoch']}"
                + (", whose weights were kept:" * (moment is moments[-1]) or ":")
            },
            {"code": _sample(prompt, moment["text"])},
        ]
    return blocks


def _sample(prompt: str, text: str) -> str:
    end = "" if len(text) <= SHOWN_TEXT else " …"
    return f"▸{prompt}◂{text[:SHOWN_TEXT]}{end}"


def _surprise(metrics: Mapping[str, Any]) -> list[dict]:
    own = _own(metrics)
    curve, grams = metrics["by_position"][own], metrics["by_position"][N_GRAM]
    passages = metrics["hardest"]
    first, last = curve[0], curve[-1]
    text = (
        f"With {counted(first['position'], 'token')} before it a token costs the {own} {first['value']:.2f} bits, with "
        f"{last['position']:,} or more {last['value']:.2f} ({last['low']:.2f} to {last['high']:.2f}); the {N_GRAM} "
        f"model, which looks at four, is at {grams[-1]['value']:.2f} there."
    )
    blocks: list[dict] = [
        {"text": text},
        {
            "figures": [
                {
                    "file": "figures/position.svg",
                    "alt": f"Bits of a token over the tokens before it: {own} from {first['value']:.2f} to "
                    f"{last['value']:.2f}, {N_GRAM} from {grams[0]['value']:.2f} to {grams[-1]['value']:.2f}",
                    "caption": f"Bits of a token by how many tokens were shown before it, with 95\u00a0% intervals "
                    f"(seed {metrics['seed']}). Both models are shown the same tokens, but those of one place are not "
                    "those of another: what more context is worth is how far the curves part.",
                }
            ]
        },
    ]
    if passages:
        blocks.append(
            {
                "figures": [
                    {
                        "file": "figures/surprise.svg",
                        "alt": f"The {counted(len(passages), 'passage')} of test text that surprise the {own} most, "
                        "each character coloured by its bits: "
                        + ", ".join(f"{passage['bits_per_token']:.2f} bits a token" for passage in passages),
                        "caption": f"The passages of test text that surprise the {own} most, by the mean bits of their "
                        "tokens; the darker the ground, the more bits.",
                    }
                ]
            }
        )
    return blocks


def _attention(metrics: Mapping[str, Any]) -> list[dict]:
    shown = metrics["attention"]
    return [
        {
            "figures": [
                {
                    "file": "figures/attention.svg",
                    "alt": f"Attention of {counted(shown['heads'], 'head')} in each of "
                    f"{counted(shown['layers'], 'layer')} for the text {shown['text']!r}",
                    "caption": "How much each token (row) looks at itself and those before it (columns), in each layer "
                    "and head, at the beginning of a test block.",
                }
            ]
        }
    ]


def _data(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    names = {"train": "training", "validation": "validation (choices)", "test": "test (result)"}
    columns = [("Split", "left"), ("Blocks", "right"), ("Characters", "right"), ("Bytes", "right")]
    columns += [("Tokens", "right"), ("Unknown", "right")]
    kinds = {"char": "characters", "byte": "bytes", "bpe": "pieces found by byte-pair encoding"}
    started = metrics["settings"]["init_from"]
    fitted = f"those of {started}" if started else "fitted on the training text"
    measured = data["measured"]
    rows = [
        [
            name,
            *(f"{data[key][split]:,}" for key in ("blocks", "characters", "bytes")),
            f"{data[split]:,}",
            f"{data['unknown'][split]:,}",
        ]
        for split, name in names.items()
    ]
    note = (
        "Of every ten blocks, some paragraphs long, one is to validate and one to test on. Unknown: characters that "
        f"the {'tokens lack' if started else 'training text lacks'}, which all count as one."
    )
    if measured["blocks"] < data["blocks"]["test"]:
        note += f" Measured: {measured['blocks']:,} test blocks, evenly spread, {measured['characters']:,} characters."
    return [
        {
            "table": {
                "caption": "The split, by interleaved blocks",
                "columns": wording.columns(columns),
                "rows": rows,
                "note": note,
            }
        },
        {
            "facts": [
                *wording.provenance(data, f"{data['rows']:,} characters, {data['size_bytes'] / 1e6:,.2f} MB"),
                ["Tokens", f"{data['vocabulary']:,} {kinds[data['tokenizer']]}, {fitted}"],
            ]
        },
    ]


def _model(metrics: Mapping[str, Any]) -> list[dict]:
    own, settings, model = _own(metrics), metrics["settings"], metrics["model"]
    result = result_of(metrics, own)
    what = (
        f"{counted(settings['layers'], 'block')} of width {settings['units']}, {counted(settings['heads'], 'head')}"
        if settings["template"] == "transformer"
        else f"{counted(settings['layers'], 'layer')} of {counted(settings['units'], 'unit')}"
    )
    facts = [
        ["Model", f"{own}: {what}, {settings['activation']}, {result['parameters']:,} parameters"],
        [
            "Context",
            f"trained on pieces of {settings['context']:,} tokens; measured with up to {model['look_back']:,} before "
            "each token, at least half of them but at the beginning of a block",
        ],
        *([["Started from", settings["init_from"]]] if settings["init_from"] else []),
        *wording.regularisation([(settings["dropout"], f"dropout {settings['dropout']:g}")]),
        [
            "Loss, optimizer",
            f"cross-entropy of each token; {settings['optimizer']}, learning rate {settings['learning_rate']:g} after "
            f"a short rise, falling along a cosine; {counted(model['batch_size'], 'piece')} of text a step, "
            f"{counted(model['steps_per_epoch'], 'step')} an epoch",
        ],
        *([["Precision", settings["precision"]]] if settings["precision"] != "float32" else []),
        [
            "Epochs",
            f"{settings['epochs']} at most, fewer after {settings['patience']} without a lower validation loss; best "
            f"by seed {', '.join(map(str, result['best_epochs']))}",
        ],
        ["Writing", f"{metrics['generated_tokens_per_second']:,} tokens a second, {_batch(metrics)} texts at once"],
        *wording.cost(metrics["timing"], "tokens"),
    ]
    layers = ", ".join(f"{name} {parameters:,}" for name, _, parameters in model["layers"])
    return [
        {
            "figures": [
                {
                    "file": "figures/network.svg",
                    "alt": f"The {own}, parameters of each layer: {layers}",
                    "caption": "The model: numbers that stand for a token after each layer, and its parameters.",
                }
            ]
        },
        {"facts": facts},
    ]


def _batch(metrics: Mapping[str, Any]) -> int:
    return metrics["sample_quality"][0]["samples"]


def _limits(metrics: Mapping[str, Any]) -> list[dict]:
    data = metrics["data"]
    limits = [
        "Test blocks lie between training blocks of the same text: the figures are for more of the same text, by the "
        "same hands. On another text all models here would need more bits.",
        "Paragraphs that occur twice are left out, but phrases that come again are not: a model that remembers them "
        "does well here, as a compressor does.",
        "The intervals cover the choice of the test blocks, not that of the training text.",
        "The epoch and the network's share in the mixture were chosen on the validation blocks; this run chose nothing "
        "on the test blocks.",
        "The compressors go on learning from the test text as they read it, which the other models do not.",
        "What is counted of samples says whether they look like the text, not whether they are true: the model knows "
        "which words follow each other, and no more.",
    ]
    if data["measured"]["blocks"] < FEW_BLOCKS:
        limits.append(
            f"With {counted(data['measured']['blocks'], 'test block')} the intervals are narrower than they should be."
        )
    if not metrics["settings"]["text"]:
        limits.append(
            "The embedded text comes with Python and differs between its versions: compare figures of the same SHA-256 "
            "only."
        )
    if data["unknown"]["test"]:
        limits.append(
            f"{data['unknown']['test']:,} characters of the test text are unknown to the model and count as one kind, "
            "which makes the bits too few for all models but the compressors."
        )
    return [{"list": [*limits, *wording.limits(metrics)]}]


def _sampled(metrics: Mapping[str, Any]) -> int:
    """Characters of the training text that were compressed, and in which copies were looked for."""
    return metrics["evaluation"].get("sampled_characters", metrics["data"]["characters"]["train"])


def _own(metrics: Mapping[str, Any]) -> str:
    return metrics["headline"]["model"]


def _bits(value: float) -> str:
    return f"{value:.3f}"


def _bits_interval(value: Mapping[str, float], absolute: bool = False) -> str:
    ends = value["low"], value["high"]
    if absolute:
        ends = sorted(map(abs, ends))
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _bits_span(value: Mapping[str, float]) -> str:
    return f"{_bits(value['value'])} ({_bits_interval(value)})"

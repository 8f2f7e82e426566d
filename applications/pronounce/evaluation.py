"""The evaluation of the pronunciation application: measures, groups of errors, examples and figures."""

import collections
import dataclasses
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from applications import run
from applications.n_grams import NGram
from applications.pronounce import models
from applications.pronounce.baselines import LetterContext
from data.dataset import BadInput
from data.dictionary import named
from data.pronunciation import Lexicon, Words, letter_name
from reports import figures
from reports import metrics as schema
from reports import pronunciation as measured
from reports.metrics import Estimate, Measure, headline, percent, span
from reports.pronunciation import Pronunciation
from templates import decoding

BASELINE = "letters in context"
MEASURES = {"word_error_rate": "Word error rate", "phone_error_rate": "Phone error rate"}
FREQUENT = 30  # occurrences of a letter in the test words for its error rate to be meaningful
SHARES = (0.25, 0.5, 1.0)  # of the training words
CHOOSING, LEAST_GAIN = 5_000, 0.01  # words for choosing the form of the letters, and the least gain for NFD
TIMED = 1_024  # words whose pronunciation is timed
EXAMPLES = 12  # of each kind
CONFUSIONS = 12
LETTER_ORDER = 3  # of the letter model that measures how unusual a spelling is
SHOWN_LETTERS = (8, 11)  # range of the length of the word whose attention is drawn

Phones = tuple[str, ...]


# --- The schema of this application's metrics.json ---


class Data(schema.Data):
    """Words and pronunciations in each split, and the number of letters and their form of Unicode."""

    train: int
    validation: int
    test: int
    entries: dict[str, int]
    letters: int
    form: str
    phones: int


class Evaluation(schema.Evaluation):
    """The titles of the measures, the beams of the search, and the occurrences of a letter to be shown."""

    measures: dict[str, str]
    beams: int
    frequent: int


class Result(schema.Result):
    """A model with its beams, None for the baseline, and its training; losses are means over the kept epochs."""

    search: int | None
    fit_seconds: float
    best_epochs: list[int]
    losses: dict[str, float] | None
    settings: str


class Size(TypedDict):
    """Error rates by number of training words."""

    words: int
    word_error_rate: Measure
    phone_error_rate: Measure


class Group(TypedDict):
    """The error rates of a group of words."""

    words: int
    word_error_rate: Estimate
    phone_error_rate: Estimate


class Letter(Estimate):
    """How often a letter occurs and is mispronounced, and the share."""

    letters: float
    wrong: float


class Confusions(TypedDict):
    """Counts of phone errors, and the most frequent ones: listed, predicted, count."""

    substituted: int
    left_out: int
    put_in: int
    most: list[list[str | int]]


class Example(TypedDict):
    """A word, the prediction with its probability, and the listed pronunciations."""

    word: str
    said: str
    listed: list[str]
    probability: float


class Attention(TypedDict):
    """The content of the figure of the attention."""

    word: str
    said: str
    layers: int
    heads: int


class NetworkSettings(TypedDict):
    """The settings that may differ between the networks."""

    template: str
    layers: int
    units: int
    dropout: float
    learning_rate: float
    batch_size: int
    epochs: int


class Model(TypedDict):
    """The layers of the network as name, shape and parameters, and how the networks were trained."""

    layers: list[list[Any]]
    longest: int
    batch_size: int
    steps_per_epoch: int
    settings: dict[str, NetworkSettings]


class Metrics(schema.Metrics):
    """metrics.json of this application."""

    data: Data
    evaluation: Evaluation
    results: Sequence[Result]
    sizes: dict[str, list[Size]]
    speed: dict[str, dict[str, float]]
    by_length: dict[str, Group]
    by_spelling: dict[str, Group]
    by_letter: dict[str, Letter]
    confusions: Confusions
    examples: dict[str, list[Example]]
    attention: Attention | None
    model: Model


# --- Models and predictions ---


def some_of(words: Words, share: float) -> Words:
    """A random share of words; a smaller share is a subset of a larger one."""
    if share == 1:
        return words
    chosen = np.sort(np.random.default_rng(0).permutation(len(words))[: round(share * len(words))])
    return Words(tuple(words.spellings[i] for i in chosen), tuple(words.pronunciations[i] for i in chosen))


@dataclasses.dataclass
class Network:
    """The trainings of one network, and their predictions for the test words.

    Attributes:
        found: predictions by beam search for each training on all words.
        greedy: predictions by greedy search for each training on all words.
        by_size: predictions by beam search for one training for each number of words.
        predictions: all pronunciations by beam search, with probabilities, for the first training.
        speed: words per second for the first training, by number of beams.
    """

    name: str
    settings: Any
    model: Any = None
    parameters: int = 0
    steps: int = 0
    batch_size: int = 0
    fits: dict[str, run.Fit] = dataclasses.field(default_factory=dict)
    full: list[run.Fit] = dataclasses.field(default_factory=list)
    found: list[list[Phones]] = dataclasses.field(default_factory=list)
    greedy: list[list[Phones]] = dataclasses.field(default_factory=list)
    by_size: dict[int, list[Phones]] = dataclasses.field(default_factory=dict)
    predictions: list[list[models.Prediction]] = dataclasses.field(default_factory=list)
    speed: dict[int, float] = dataclasses.field(default_factory=dict)

    def add(self, trainer: models.Trainer, fit: run.Fit, words: int, full: bool, test: Sequence[str]) -> None:
        """Predict the test words with a trained network; `full` says whether it saw all training words."""
        self.fits[trainer.stage] = fit
        pronounced = trainer.model.say(test, self.settings.beams)
        found = [of_word[0].phones for of_word in pronounced]
        self.by_size.setdefault(words, found)
        if not full:
            return
        greedy = found if self.settings.beams == 1 else [of_word[0].phones for of_word in trainer.model.say(test)]
        if self.model is None:
            self.model, self.predictions = trainer.model, pronounced
            self.parameters = trainer.model.model.count_params()
            self.steps, self.batch_size = trainer.steps, trainer.batch_size
            self.speed = {beams: _speed(trainer.model, test[:TIMED], beams) for beams in {1, self.settings.beams}}
        self.full.append(fit)
        self.found.append(found)
        self.greedy.append(greedy)


def _speed(model: models.Pronouncer, words: Sequence[str], beams: int) -> float:
    """Words per second, after compilation."""
    model.say(words, beams)
    began = time.perf_counter()
    model.say(words, beams)
    return len(words) / (time.perf_counter() - began)


@dataclasses.dataclass
class Baseline:
    """The baseline: `full` is fitted on all training words, `by_size` has predictions by number of words."""

    full: LetterContext
    by_size: dict[int, list[Phones]]


def fit_baseline(lexicon: Lexicon, seed: int) -> Baseline:
    """Fit the baseline on shares of the training words."""
    by_size, fitted = {}, None
    for share in SHARES:
        words = some_of(lexicon.splits["train"], share)
        fitted = LetterContext(words, seed)
        by_size[len(words)] = fitted.predict(lexicon.splits["test"].spellings)
    assert fitted
    return Baseline(fitted, by_size)


def easier(composed: Lexicon, decomposed: Lexicon, seed: int) -> Lexicon:
    """Choose the lexicon with whose letters the baseline gets fewer validation words wrong.

    The decomposed one must be better by at least a percentage point.
    """
    if composed.coder.letters == decomposed.coder.letters:
        return composed
    wrong = []
    for lexicon in (composed, decomposed):
        train, validation = lexicon.splits["train"], lexicon.splits["validation"]
        words = some_of(train, min(1.0, CHOOSING / len(train)))
        found = LetterContext(words, seed).predict(validation.spellings[:CHOOSING])
        wrong.append(Pronunciation(found, validation.pronunciations[:CHOOSING]).word_error_rate())
    better = decomposed if wrong[0] - wrong[1] >= LEAST_GAIN else composed
    shares = [
        f"{percent(share)} with the {len(lexicon.coder.letters):,} {name} ones"
        for share, lexicon, name in zip(wrong, (composed, decomposed), ("composed", "decomposed"), strict=True)
    ]
    reason = (
        f"letters are those of Unicode's {'composed' if better is composed else 'decomposed'} form "
        f"({better.coder.form}): the baseline's word error rate on validation is {' and '.join(shares)} (--letters)"
    )
    provenance = dataclasses.replace(better.provenance, understood=(*better.provenance.understood, reason))
    return dataclasses.replace(better, provenance=provenance)


def measures(found: Sequence[Phones], words: Words) -> dict[str, Measure]:
    """Both error rates of one network with their intervals."""
    return measured.compare({"model": [Pronunciation(found, words.pronunciations)]}, [])[0]["model"]


def unknown(model: models.Pronouncer, words: Words, name: str) -> list[str]:
    """Sentences on the phones and letters of a dictionary that a trained model doesn't know.

    Raises:
        BadInput: The model can't get any word right.
    """
    known, letters = set(model.coder.phone_set), collections.Counter()
    strange = {
        phone for of_word in words.pronunciations for phones in of_word for phone in phones if phone not in known
    }
    lost = sum(all(not known.issuperset(phones) for phones in of_word) for of_word in words.pronunciations)
    if lost == len(words):
        raise BadInput(
            f"{name}: found the phones {named(sorted(strange))}, and one that the model doesn't know in each "
            f"pronunciation, expected its phones: {named(model.coder.phone_set)}"
        )
    sentences = []
    if strange:
        sentences.append(
            f"the model doesn't know {len(strange):,} of the phones ({named(sorted(strange))}): {lost:,} of "
            f"{len(words):,} words have one in each pronunciation and count as wrong"
        )
    for word in words.spellings:
        letters.update(model.coder.strange(word))
    if letters:
        found = named([letter_name(letter) for letter, _ in letters.most_common()])
        count = sum(bool(model.coder.strange(word)) for word in words.spellings)
        sentences.append(f"the model doesn't know {len(letters):,} of the letters ({found}), in {count:,} words")
    long = sum(len(model.coder.spelt(word)) > model.longest for word in words.spellings)
    if long:
        sentences.append(
            f"{long:,} of {len(words):,} words have more letters than the model's limit, {model.longest}, and count as "
            "wrong"
        )
    return sentences


def describe(lexicon: Lexicon) -> dict[str, Any]:
    """The data for metrics.json."""
    provenance = lexicon.provenance
    return (
        provenance.to_dict()
        | {name: len(part) for name, part in lexicon.splits.items()}
        | {
            "entries": {name: sum(map(len, part.pronunciations)) for name, part in lexicon.splits.items()},
            "letters": len(lexicon.coder.letters),
            "form": lexicon.coder.form,
            "phones": len(lexicon.coder.phone_set),
        }
    )


def compare(networks: Sequence[Network], baseline: Baseline, lexicon: Lexicon, settings: Any) -> dict[str, Any]:
    """Comparable results of all models, with intervals from one bootstrap over the test words."""
    test = lexicon.splits["test"]
    resamples = 100 if settings.quick else 500

    def judged(found: Sequence[Phones]) -> Pronunciation:
        return Pronunciation(found, test.pronunciations)

    own = networks[0].name
    trainings = {network.name: [judged(found) for found in network.found] for network in networks}
    if settings.beams > 1:
        trainings |= {greedy_of(network.name): [judged(found) for found in network.greedy] for network in networks}
    trainings[BASELINE] = [judged(next(reversed(baseline.by_size.values())))]
    pairs = [(own, model) for model in trainings if model != own]
    pairs += [(network.name, BASELINE) for network in networks[1:]]
    measures_of, differences = measured.compare(trainings, pairs, resamples=resamples)
    by_name = {name: network for network in networks for name in (network.name, greedy_of(network.name))}
    results: list[Result] = [
        {
            "model": model,
            "baseline": model == BASELINE,
            "uses_labels": True,
            "parameters": by_name[model].parameters if model in by_name else baseline.full.parameters,
            "metrics": of_model,
            "search": None if model == BASELINE else 1 if "greedy" in model else settings.beams,
            "fit_seconds": float(np.mean([fit.seconds for fit in by_name[model].full]))
            if model in by_name
            else baseline.full.seconds,
            "best_epochs": [fit.best_epoch for fit in by_name[model].full] if model in by_name else [],
            "losses": _losses(by_name[model].full) if model in by_name else None,
            "settings": "" if model in by_name else baseline.full.settings,
        }
        for model, of_model in measures_of.items()
    ]
    sizes = {network.name: network.by_size for network in networks} | {BASELINE: baseline.by_size}
    mine = trainings[own]
    return {
        "evaluation": {
            "resamples": resamples,
            "unit": "words",
            "measures": MEASURES,
            "beams": settings.beams,
            "frequent": FREQUENT,
        },
        "headline": headline(results[0], "word_error_rate"),
        "results": results,
        "differences": differences,
        "sizes": {
            model: [
                {"words": words} | measured.compare({"": [judged(found)]}, [], resamples=resamples)[0][""]
                for words, found in sorted(of_model.items())
            ]
            for model, of_model in sizes.items()
        },
        "speed": {network.name: {str(beams): speed for beams, speed in network.speed.items()} for network in networks},
        "by_length": measured.by_group(mine, measured.lengths(test.spellings), resamples=resamples),
        "by_spelling": measured.by_group(mine, measured.fifths(surprise(lexicon)), resamples=resamples),
        "by_letter": _by_letter(networks[0], baseline.full, test, mine, resamples),
        "confusions": _confusions(networks[0].found, mine),
        "examples": _examples(networks[0], mine[0], test),
        "model": {
            "layers": run.layers(networks[0].model.model),
            "longest": networks[0].model.longest,
            "batch_size": networks[0].batch_size,
            "steps_per_epoch": networks[0].steps,
            "settings": {
                network.name: {
                    key: getattr(network.settings, key)
                    for key in ("template", "layers", "units", "dropout", "learning_rate", "batch_size", "epochs")
                }
                for network in networks
            },
        },
    }


def _losses(fits: Sequence[run.Fit]) -> dict[str, float]:
    """Mean training and validation loss in the epochs whose weights were kept."""
    keys = {"training": "loss", "validation": "val_loss"}
    return {name: float(np.mean([fit.history[key][fit.best_epoch - 1] for fit in fits])) for name, key in keys.items()}


def greedy_of(name: str) -> str:
    """The name of a network with greedy search."""
    return f"{name}, greedy"


def surprise(lexicon: Lexicon) -> np.ndarray:
    """Mean bits per letter of each test word, (words,), under a letter model of the training spellings."""
    tokens, starts = {}, {}
    for part in ("train", "test"):
        spelt = lexicon.coder.spellings(lexicon.splits[part].spellings)
        tokens[part] = np.concatenate([np.append(word, 0) for word in spelt])  # 0 ends a word
        lengths = np.array([len(word) + 1 for word in spelt])
        starts[part] = np.cumsum(lengths) - lengths
    letters = NGram(LETTER_ORDER).fit(tokens["train"], starts["train"], lexicon.coder.source_vocabulary)
    bits, _ = letters.evaluate(tokens["test"], starts["test"])
    return np.add.reduceat(bits, starts["test"]) / np.diff(np.append(starts["test"], len(bits)))


def _by_letter(
    network: Network, baseline: LetterContext, test: Words, trainings: Sequence[Pronunciation], resamples: int
) -> dict[str, dict[str, Any]]:
    """How often each letter is mispronounced, by the baseline's alignment; {} if nothing can be aligned."""
    aligned = [
        (baseline.align(test.spellings, found), baseline.align(test.spellings, judged.nearest))
        for found, judged in zip(network.found, trainings, strict=True)
    ]
    if not any(own and listed for of_words in aligned for own, listed in zip(*of_words, strict=True)):
        return {}  # a network that never ends
    return measured.by_letter(test.spellings, aligned, resamples=resamples)


def _confusions(found: Sequence[Sequence[Phones]], trainings: Sequence[Pronunciation]) -> dict[str, Any]:
    """The most frequent confusions of phones over all trainings: listed, predicted, count."""
    phones = sorted({p for one in trainings for of_word in (*one.nearest, *one.found) for p in of_word})
    counts = sum(measured.confusions(one.found, one.nearest, phones) for one in trainings)
    assert isinstance(counts, np.ndarray)
    names = [*phones, "–"]
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    largest = [divmod(int(i), len(counts)) for i in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]]
    return {
        "substituted": int(wrong[:-1, :-1].sum()),
        "left_out": int(wrong[:-1, -1].sum()),
        "put_in": int(wrong[-1, :-1].sum()),
        "most": [[names[true], names[other], int(wrong[true, other])] for true, other in largest if wrong[true, other]],
    }


def _examples(network: Network, judged: Pronunciation, test: Words) -> dict[str, list[dict[str, Any]]]:
    """Words that were right, wrong, and confidently wrong."""
    random = np.random.default_rng(0)
    probability = np.array([of_word[0].probability for of_word in network.predictions])
    kinds = {
        "right": random.permutation(np.flatnonzero(~judged.wrong))[:EXAMPLES],
        "wrong": random.permutation(np.flatnonzero(judged.wrong))[:EXAMPLES],
        "sure": measured.most_confident_errors(judged.wrong, np.log(np.maximum(probability, 1e-30)), EXAMPLES),
    }
    return {
        kind: [
            {
                "word": unicodedata.normalize("NFC", test.spellings[row]),
                "said": " ".join(judged.found[row]),
                "listed": [" ".join(phones) for phones in test.pronunciations[row]],
                "probability": float(probability[row]),
            }
            for row in rows
        ]
        for kind, rows in kinds.items()
    }


def draw(
    this_run: run.Run, metrics: Mapping[str, Any], networks: Sequence[Network], lexicon: Lexicon
) -> dict[str, Any]:
    """Write the figures; returns their entries in metrics.json, and that of the attention, if any."""
    own = networks[0]

    def bars(groups: Mapping[str, Group], x_label: str) -> bytes:
        return figures.grouped_bars(
            {own.name: {group: span(value["word_error_rate"], 100) for group, value in groups.items()}},
            x_label=x_label,
            y_label="word error rate [%]",
            counts={group: value["words"] for group, value in groups.items()},
        )

    def rates(groups: Mapping[str, Group]) -> str:
        return ", ".join(f"{group} {percent(value['word_error_rate']['value'])}" for group, value in groups.items())

    drawn = {
        "sizes": (
            figures.interval_curves(
                {
                    model: [(point["words"], *span(point["word_error_rate"], 100)) for point in points]
                    for model, points in metrics["sizes"].items()
                },
                x_label="training words",
                y_label="word error rate [%]",
                logarithmic=True,
                wide=True,
            ),
            "Word error rate by number of training words. "
            + "; ".join(
                f"{model}: "
                + ", ".join(f"{percent(p['word_error_rate']['value'])} after {p['words']:,}" for p in points)
                for model, points in metrics["sizes"].items()
            ),
        ),
        "network": (
            figures.network(metrics["model"]["layers"]),
            f"The {own.name}, parameters of each layer: "
            + ", ".join(f"{name} {parameters:,}" for name, _, parameters in metrics["model"]["layers"]),
        ),
    }
    if max(len(fit.history["loss"]) for network in networks for fit in network.full) > 1:
        drawn["learning"] = (
            figures.learning_curves(
                {
                    (f"{network.name}, seed {network.settings.seed + index}" if index else network.name): {
                        name: np.array(fit.history[key])
                        for key, name in (("loss", "training"), ("val_loss", "validation"))
                    }
                    for network in networks
                    for index, fit in enumerate(network.full)
                },
                y_label="cross-entropy per phone [nats]",
                best_epoch=own.full[0].best_epoch,
            ),
            f"Loss of the {own.name} on training and validation words by epoch; best epoch "
            + ", ".join(str(fit.best_epoch) for fit in own.full),
        )
    titles = {
        "length": ("letters per word", "Word error rate by word length"),
        "spelling": ("spelling", "Word error rate by regularity of the spelling"),
    }
    for name, (x_label, title) in titles.items():
        groups = metrics[f"by_{name}"]
        if len(groups) > 1:
            drawn[name] = (bars(groups, x_label), f"{title}: {rates(groups)}")
    letters = {name: value for name, value in metrics["by_letter"].items() if value["letters"] >= FREQUENT}
    if len(letters) > 1:
        most = ", ".join(f"{name} {percent(value['value'])}" for name, value in list(letters.items())[:3])
        drawn["letter"] = (
            figures.grouped_bars(
                {own.name: {letter: span(value, 100) for letter, value in letters.items()}},
                x_label="letter",
                y_label="error rate [%]",
                counts={letter: value["letters"] for letter, value in letters.items()},
            ),
            f"Error rate by letter; highest for {most}",
        )
    shown: Attention | None = None
    if own.model.template == "transformer" and (row := _shown(lexicon.splits["test"], own.found[0])) is not None:
        word, phones = lexicon.splits["test"].spellings[row], own.found[0][row]
        coder = own.model.coder
        source, target = coder.spellings([word])[0], coder.pronunciations([phones])[0][:-1]
        maps = decoding.cross_attention_maps(own.model.model, source, target)
        shown = {
            "word": unicodedata.normalize("NFC", word),
            "said": " ".join(phones),
            "layers": len(maps),
            "heads": len(maps[0]),
        }
        drawn["attention"] = (
            figures.attention(maps, [*phones, "end"], list(word)),
            f"Cross-attention of {len(maps)} blocks with {len(maps[0])} heads each for the word {shown['word']}, "
            f"pronounced {shown['said']}",
        )
    return {"attention": shown, "figures": this_run.draw(drawn)}


def _shown(test: Words, found: Sequence[Phones]) -> int | None:
    """The first correct word of medium length with silent letters."""
    for row, (word, phones) in enumerate(zip(test.spellings, found, strict=True)):
        silent = SHOWN_LETTERS[0] <= len(word) <= SHOWN_LETTERS[1] and len(phones) < len(word) - 1
        if silent and phones in test.pronunciations[row]:
            return row
    return None

"""Learn to translate spellings into pronunciations, and report how well it works.

Reads a pronouncing dictionary (by default a part of CMUdict), trains a transformer or an LSTM encoder–decoder to
translate letters into phones, compares it with a classical baseline on the same words and writes a PDF report, the
model and all results to a run's folder.

    python applications/pronunciation.py
    python applications/pronunciation.py --compare
    python applications/pronunciation.py --dictionary mine.tsv
    python applications/pronunciation.py say --model runs/.../model.keras --words keras tensor
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # data/, reports/ and templates/ are those beside applications/

from applications import exporting, lazy, run
from applications.pronounce import models
from data.dataset import BadInput, escaped
from data.ranges import Count, Range, Share, at_least

with lazy.imports():
    from applications.pronounce import evaluation
    from data import dictionary, pronunciation

APPLICATION = "pronunciation"
REPORT = Path(__file__).parent / "pronounce" / "report.typ"
SHOWN_LETTERS = 40
EXAMPLES = 16  # words that an exported model is compared on


@dataclasses.dataclass(frozen=True)
class Translator:
    """Which dictionary, and which network."""

    dictionary: Path | None = None
    """Your own: a word and its phones per line, like CMUdict, Kaldi, HTK, the MFA or Phonetisaurus; also .gz."""
    encoding: str | None = None
    """Encoding of the dictionary and of the list of test words, such as cp1252; by default UTF-8 or UTF-16."""
    skip_bad: bool = False
    """Skip and count lines that are not entries."""
    letters: Literal["auto", "nfc", "nfd"] = "auto"
    """Unicode form of letters: nfc (composed), nfd (decomposed), or auto, the better one for the classical baseline."""
    stress: bool = False
    """Keep the stress digits of CMUdict's vowels: 69 phones instead of 39."""
    test_words: Path | None = None
    """A file of test words, one per line, instead of randomly drawn ones."""
    share: Annotated[float, Range(0, 1, above=True)] | None = None
    """Share of the training words to use, for a quicker run."""

    template: Literal["transformer", "lstm"] = "transformer"
    """The encoder–decoder: templates/transformer.py or templates/recurrent.py."""
    compare: bool = False
    """Train the other architecture as well, and both on parts of the training words."""
    preset: Literal["short", "full"] = "short"
    """Settings for minutes on two cores, or for all of CMUdict: hours, or minutes on a GPU."""
    layers: Count | None = None
    """Blocks or recurrent layers, of the encoder and of the decoder."""
    units: Count | None = None
    """Width of the transformer, or units of each recurrent layer."""
    heads: Count = 4
    """Attention heads of the transformer."""
    activation: Literal["gelu", "relu", "silu", "tanh", "sigmoid", "elu"] = "gelu"
    """Activation of the transformer's feed-forward layers."""
    dropout: Share | None = None
    """Dropout rate."""
    beams: Count = 4
    """Width of the beam search; 1 takes the most probable phone at each step."""

    patience: Count = 6
    """Epochs without a lower validation loss after which training stops."""


@dataclasses.dataclass(frozen=True)
class Train(run.Training, Translator):
    """Train on CMUdict or on your own dictionary, compare with classical models, and write the report."""


@dataclasses.dataclass(frozen=True)
class Say(run.Trained):
    """Print the most probable pronunciations of words, with their probabilities.

    Words that the model can't read are listed at the end, with exit code 2; the others are pronounced.
    """

    words: Annotated[tuple[Annotated[str, at_least(1)], ...], at_least(1)]
    """Words to pronounce."""
    best: Count = 3
    """Number of pronunciations to print for each word."""
    beams: Count = 8
    """Width of the beam search, at least --best."""


@dataclasses.dataclass(frozen=True)
class Evaluate(run.Trained):
    """Measure how well a trained model pronounces the words of a dictionary, without training."""

    dictionary: Path
    """Dictionary in any format that training accepts; also .gz."""
    encoding: str | None = None
    """Encoding of the dictionary, such as cp1252; by default UTF-8, or UTF-16 with its mark."""
    skip_bad: bool = False
    """Skip and count lines that are not entries."""
    beams: Count = 4
    """Width of the beam search."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """What an exported model is compared on."""

    words: tuple[Annotated[str, at_least(1)], ...] = ()
    """Words to compare on. Without it, some of CMUdict."""


@dataclasses.dataclass(frozen=True)
class Export(exporting.Export, Examples):
    """Export a trained model to run without Keras, with the code that pronounces words, and compare its answers."""


@dataclasses.dataclass(frozen=True)
class Serve(exporting.Serve, Examples):
    """Serve a trained model over HTTP, after it was exported to ONNX and its answers were compared."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {Train: train, Say: say, Evaluate: evaluate, Export: export, Serve: export, run.Report: report}
    recipes = {"--dictionary": models.OWN_DICTIONARY, "--quick": models.QUICK, **models.RECIPES}
    return run.dispatch(
        commands,
        arguments,
        program="pronunciation.py",
        description=__doc__ or "",
        recipes={**recipes, "always": models.ALWAYS},
    )


# --- Train ---


def train(settings: Train) -> dict[str, Any]:
    """Data, models, fit, evaluation, report."""
    others = [t for t in models.NAMES if settings.compare and t != settings.template]
    settings, *others = [models.with_recipe(settings, template) for template in (settings.template, *others)]
    for of_network in (settings, *others):
        _check(of_network)
    start = models.load(settings.init_from) if settings.init_from else None
    if start and start.stress != settings.stress:
        raise BadInput(f"--stress: found {settings.stress}, expected {start.stress}, as in the model of --init-from")
    if start and settings.letters not in ("auto", start.coder.form.lower()):
        expected = start.coder.form.lower()
        raise BadInput(f"--letters: found {settings.letters}, expected {expected}, as in the model of --init-from")
    with run.Run(APPLICATION, settings) as this_run:
        return _train(settings, others, start, this_run)


def _train(settings: Any, others: Sequence[Any], start: models.Pronouncer | None, this_run: run.Run) -> dict[str, Any]:
    lexicon = _load(settings, start)
    if start:
        name = str(settings.dictionary or lexicon.provenance.name)
        unknown = [f"in the test words {one}" for one in evaluation.unknown(start, lexicon.splits["test"], name)]
        provenance = dataclasses.replace(lexicon.provenance, understood=(*lexicon.provenance.understood, *unknown))
        lexicon = dataclasses.replace(lexicon, provenance=provenance)
    this_run.check_data(lexicon.provenance)
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in lexicon.splits.items())
    this_run.say(f"words: {sizes}; {len(lexicon.coder.letters)} letters, {len(lexicon.coder.phone_set)} phones")
    networks = [_network(of_network, lexicon, start, this_run) for of_network in (settings, *others)]
    baseline = evaluation.fit_baseline(lexicon, settings.seed)
    this_run.say(f"{evaluation.BASELINE}: fitted in {baseline.full.seconds:.0f} s")
    metrics = {
        **this_run.header(settings, "numpy", "scikit-learn"),
        "data": evaluation.describe(lexicon),
        **evaluation.compare(networks, baseline, lexicon, settings),
    }
    fits = {stage: fit for network in networks for stage, fit in network.fits.items()}
    this_run.write("history.csv", run.history(fits))
    this_run.save_model(networks[0].model.model, networks[0].model.notes)
    this_run.say("drawing and writing the report")
    metrics |= evaluation.draw(this_run, metrics, networks, lexicon)
    this_run.finish(metrics, REPORT, fits.values())
    headline = metrics["headline"]
    this_run.say(
        f"{this_run.folder / 'report.pdf'}: {headline['model']}, word error rate {100 * headline['value']:.1f} % "
        f"({100 * headline['low']:.1f} to {100 * headline['high']:.1f})"
    )
    return metrics


def _network(
    settings: Any, lexicon: pronunciation.Lexicon, start: models.Pronouncer | None, this_run: run.Run
) -> evaluation.Network:
    """Train a network with each seed, with --compare also on parts of the words, and pronounce the test words."""
    test = lexicon.splits["test"].spellings
    network = evaluation.Network(models.NAMES[settings.template], settings)
    trainings = [(seed, 1.0) for seed in range(settings.seed, settings.seed + settings.seeds)]
    trainings += [(settings.seed, share) for share in evaluation.SHARES if settings.compare and share < 1]
    for seed, share in trainings:
        words = evaluation.some_of(lexicon.splits["train"], share)
        stage = f"{settings.template}-{seed}" + f"-{share:g}" * (share < 1)
        trainer = models.Trainer(settings, seed, lexicon, words, start, stage)
        fit = trainer.fit(this_run)
        network.add(trainer, fit, len(words), share == 1, test)
        this_run.say(
            f"{network.name}, seed {seed}, {len(words):,} words: trained in {fit.seconds:.0f} s, weights of epoch "
            f"{fit.best_epoch}"
        )
        this_run.at_limit(f"the best epoch of the {network.name}", fit.best_epoch, settings.epochs, "--epochs")
    return network


def _load(settings: Any, start: models.Pronouncer | None) -> pronunciation.Lexicon:
    choices: dict[str, Any] = {"stress": settings.stress, "test_words": settings.test_words, "share": settings.share}

    def load(form: pronunciation.Form) -> pronunciation.Lexicon:
        if settings.dictionary is None:
            return pronunciation.load_embedded(**choices, form=form)
        more = {"encoding": settings.encoding, "skip_bad": settings.skip_bad}
        return pronunciation.load_dictionary(settings.dictionary, **choices, **more, form=form)

    if start:
        return load(start.coder.form)
    if settings.letters != "auto":
        return load("NFC" if settings.letters == "nfc" else "NFD")
    composed = load("NFC")
    if all(word.isascii() for part in composed.splits.values() for word in part.spellings):
        return composed  # both forms are the same
    return evaluation.easier(composed, load("NFD"), settings.seed)


def _check(settings: Any) -> None:
    if settings.template == "transformer" and settings.units % settings.heads:
        raise BadInput(
            f"--heads: found {settings.heads}, expected a divisor of --units, {settings.units}, which they share"
        )
    if settings.template == "lstm" and settings.units % 2:
        raise BadInput(f"--units: found {settings.units}, expected an even number, half for each direction")
    if settings.dictionary is None:
        for name in ("encoding", "skip_bad"):
            if getattr(settings, name):
                raise BadInput(f"found --{name.replace('_', '-')} without --dictionary, expected a file to go with it")
    if settings.compare and settings.init_from:
        raise BadInput("found --compare and --init-from, expected one: the weights fit one network only")


# --- After training ---


def say(settings: Say) -> dict[str, Any]:
    """Print the most probable pronunciations of each word."""
    if settings.beams < settings.best:
        raise BadInput(f"--beams: found {settings.beams}, expected at least the {settings.best} of --best")
    model = models.load(settings.model)
    unread = {word: problem for word in settings.words if (problem := model.problem(word))}
    words = [word for word in settings.words if word not in unread]
    pronounced = model.say(words, settings.beams)
    for word, pronunciations in zip(words, pronounced, strict=True):
        for rank, one in enumerate(pronunciations[: settings.best]):
            print(f"{'' if rank else word:<20} {100 * one.probability:5.1f} %  {' '.join(one.phones)}")
    if unread:
        sys.stdout.flush()
        raise BadInput(
            f"--words: {len(unread)} of {len(settings.words)} could not be pronounced: "
            + "; ".join(f"{word}: {problem}" for word, problem in unread.items())
            + f"; expected the model's letters: {dictionary.named(model.coder.letters, SHOWN_LETTERS)}"
        )
    return {"words": settings.words, "said": pronounced}


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model on the words of a dictionary and print the results with their intervals."""
    model = models.load(settings.model)
    words, provenance = pronunciation.load_words(
        settings.dictionary, stress=model.stress, encoding=settings.encoding, skip_bad=settings.skip_bad
    )
    unknown = evaluation.unknown(model, words, str(settings.dictionary))
    for sentence in (*provenance.understood, *unknown):
        print(escaped(sentence))
    readable = [word for word in words.spellings if len(model.coder.spelt(word)) <= model.longest]
    pronounced = dict(zip(readable, model.say(readable, settings.beams), strict=True))
    predicted = [pronounced[word][0].phones if word in pronounced else () for word in words.spellings]
    values = evaluation.measures(predicted, words)
    print(f"{len(words):,} words")
    for name, value in values.items():
        label = evaluation.MEASURES[name]
        print(f"{label:<20} {value['value']:.4f}  ({value['low']:.4f} to {value['high']:.4f})")
    return {"metrics": values, "unknown": unknown}


def export(settings: Export | Serve) -> dict[str, Any]:
    """Export a saved model with preprocess.py, whose answers to words equal those of `say`."""
    model = models.load(settings.model)
    words = settings.words
    if not words:
        known = pronunciation.load_embedded(share=0.01).splits["test"].spellings
        words = [word for word in known if not model.problem(word)]
        words = words[:: max(1, len(words) // EXAMPLES)][:EXAMPLES]
    for word in words:
        if problem := model.problem(word):
            raise BadInput(f"--words {word[:SHOWN_LETTERS]}: {problem}")
    if not words:
        letters = dictionary.named(model.coder.letters, SHOWN_LETTERS)
        raise BadInput(f"--words: found none, and no word of CMUdict in the model's letters, expected some: {letters}")
    return exporting.export(
        settings,
        model.exported(),
        Path(__file__).parent / "pronounce" / "preprocess.py",
        about={
            "source": {"values": "tokens of letters, padded at the end"},
            "target": {"values": "tokens of the start and of the phones so far, padded at the end"},
            "log_probability": {"unit": "natural logarithm of the probability of each token after these phones"},
        },
        preparation=model.preparation | {"best": Say.best, "beams": Say.beams},
        examples=words,
        answers=[
            [{"phones": list(one.phones), "probability": one.probability} for one in said[: Say.best]]
            for said in model.say(words, Say.beams)
        ],
        static=True,
    )


def report(settings: run.Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    return run.typeset_again(settings.run, APPLICATION, REPORT)


if __name__ == "__main__":
    run.execute(main)

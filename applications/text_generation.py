"""Train a language model on text, report how well it predicts and what it generates, and generate text.

Reads a text (by default Python's own language reference), trains a transformer, an LSTM or a GRU to predict each token
from those before it, compares it with n-grams and compressors on the same text and writes a PDF report, the model and
all results to a run's folder.

    python applications/text_generation.py
    python applications/text_generation.py --template gru
    python applications/text_generation.py --text novel.txt notes/
    python applications/text_generation.py generate --model runs/.../model.keras --prompt "The statement"
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
from applications.text import models
from data.dataset import BadInput, escaped, require
from data.ranges import Count, NotNegative, Range, Seed, Share, at_least

with lazy.imports():
    from applications.text import evaluation
    from data import text

APPLICATION = "text_generation"
REPORT = Path(__file__).parent / "text" / "report.typ"
EXAMPLE_TOKENS = 40  # of each prompt's continuation that an exported model is compared on


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Which text, and which network."""

    text: tuple[Path, ...] = ()
    """Your own text: files or folders of them, UTF-8, also .gz. Without it, Python's language reference."""
    encoding: str | None = None
    """Encoding of --text, if it is not UTF-8 and has no byte order mark."""
    tokenizer: Literal["char", "byte", "bpe"] | None = None
    """Kind of token: a character, a byte, or a piece learned by byte-pair encoding from the training text."""
    vocabulary: Annotated[int, at_least(257)] = 2_000
    """Vocabulary size of byte-pair encoding, more than the 256 bytes."""

    template: Literal["transformer", "lstm", "gru"] = "transformer"
    """The architecture: templates/transformer.py or templates/recurrent.py."""
    preset: Literal["short", "long"] = "short"
    """Settings for minutes or, with a larger network, for three quarters of an hour on two cores."""
    layers: Count | None = None
    """Blocks of the transformer, or recurrent layers."""
    units: Count | None = None
    """Width of the transformer, or units of each recurrent layer."""
    heads: Count = 4
    """Attention heads of the transformer."""
    context: Count | None = None
    """Context length in tokens."""
    activation: Literal["gelu", "relu", "silu", "tanh", "sigmoid", "elu"] | None = None
    """Activation of the transformer's feed-forward layers or of the recurrent cells."""
    dropout: Share | None = None
    """Dropout rate."""

    patience: Count = 6
    """Epochs without a lower validation loss after which training stops."""


@dataclasses.dataclass(frozen=True)
class Train(run.Training, LanguageModel):
    """Train on the embedded text or on your own, compare with n-grams and compressors, and write the report."""


@dataclasses.dataclass(frozen=True)
class Generate(run.Trained):
    """Generate text with a trained model, printed as it is generated."""

    prompt: Annotated[str, at_least(1)] = "\n"
    """Beginning of the text."""
    tokens: Count = 500
    """Maximum number of tokens to generate."""
    temperature: NotNegative = 0.8
    """Below 1 favours probable tokens, above 1 evens them out; 0 always takes the most probable token."""
    top_k: Count | None = None
    """Sample from this many of the most probable tokens only."""
    top_p: Annotated[float, Range(0, 1, above=True)] | None = None
    """Sample from the smallest set of tokens whose total probability reaches this value."""
    stop: tuple[Annotated[str, at_least(1)], ...] = ()
    """Stop before any of these strings."""
    seed: Seed = 0
    """Seed of the sampling."""


@dataclasses.dataclass(frozen=True)
class Evaluate(run.Trained):
    """Measure how well a trained model predicts other text, without training."""

    text: tuple[Path, ...]
    """Files or folders of them."""
    encoding: str | None = None
    """Encoding, if it is not UTF-8 and has no byte order mark."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts:
    """What an exported model is compared on."""

    prompt: tuple[Annotated[str, at_least(1)], ...] = ("\n",)
    """Prompts whose continuations are compared."""


@dataclasses.dataclass(frozen=True)
class Export(exporting.Export, Prompts):
    """Export a trained model to run without Keras, with the code that generates text, and compare the texts."""


@dataclasses.dataclass(frozen=True)
class Serve(exporting.Serve, Prompts):
    """Serve a trained model over HTTP, after it was exported to ONNX and its texts were compared."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {Train: train, Generate: generate, Evaluate: evaluate, Export: export, Serve: export, run.Report: report}
    return run.dispatch(
        commands,
        arguments,
        program="text_generation.py",
        description=__doc__ or "",
        recipes={"--quick": models.QUICK, **models.RECIPES, "always": models.ALWAYS},
    )


# --- Train ---


def train(settings: Train) -> dict[str, Any]:
    """Data, model, fit, evaluation, report."""
    start = models.load(settings.init_from) if settings.init_from else None
    if start:
        if settings.tokenizer not in (None, start.tokenizer.kind):
            raise BadInput(
                f"--tokenizer: found {settings.tokenizer}, expected {start.tokenizer.kind} as in --init-from"
            )
        settings = dataclasses.replace(settings, tokenizer=start.tokenizer.kind)
    settings = models.with_recipe(settings)
    _check(settings)
    with run.Run(APPLICATION, settings) as this_run:
        return _train(settings, start, this_run)


def _train(settings: Any, start: models.LanguageModel | None, this_run: run.Run) -> dict[str, Any]:
    corpus = _load(settings, start, this_run)
    this_run.check_data(corpus.provenance)
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in corpus.splits.items())
    this_run.say(f"data: {sizes} tokens of {corpus.tokenizer.vocabulary:,} kinds")
    test = evaluation.some_blocks(corpus.splits["test"], evaluation.TEST_TOKENS)
    validation = evaluation.some_blocks(corpus.splits["validation"], models.VALIDATION_TOKENS)

    name = models.NAMES[settings.template]
    first: models.Trainer | None = None
    fits, on_test, on_validation, written = [], [], [], []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        trainer = models.Trainer(settings, seed, corpus, start)
        first = first or trainer
        moments = evaluation.Moments(this_run, trainer, evaluation.prompts(test)[0])
        fits.append(fit := trainer.fit(this_run, moments.watch if trainer is first else None))
        if trainer is first:
            written = moments.found(fit)
        on_test.append(evaluation.scores(trainer.model, test))
        on_validation.append(evaluation.scores(trainer.model, validation))
        this_run.say(
            f"{name}, seed {seed}: {evaluation.bits_per_character(on_test[-1], test):.3f} bits per character on test "
            f"with the weights of epoch {fit.best_epoch}, trained in {fit.seconds:.0f} s"
        )
        this_run.at_limit("the best epoch", fit.best_epoch, settings.epochs, "--epochs")
    assert first
    train = evaluation.some_blocks(corpus.splits["train"], evaluation.TRAINING_TOKENS)
    resamples = 100 if settings.quick else 500
    parameters = first.model.model.count_params()
    compared = evaluation.compare(name, on_test, on_validation, fits, parameters, train, validation, test, resamples)
    this_run.say("n-grams and compressors")
    sampled = evaluation.samples(
        first.model, test, train.text(), evaluation.SAMPLE_TOKENS // (10 if settings.quick else 1)
    )
    this_run.say("drawing and writing the report")
    metrics = {
        **this_run.header(settings, "numpy", *(["tokenizers"] if corpus.tokenizer.kind == "bpe" else [])),
        "data": evaluation.describe(corpus, test),
        **compared,
        **sampled,
        "moments": written,
        "model": {
            "layers": run.layers(first.model.model),
            "look_back": first.model.look_back,
            "batch_size": first.batch_size,
            "steps_per_epoch": first.steps,
        },
    }
    this_run.write("history.csv", run.history({f"{name} {index}": fit for index, fit in enumerate(fits, 1)}))
    this_run.save_model(first.model.model, first.model.notes)
    metrics |= evaluation.draw(this_run, metrics, fits, corpus, first.model, test)
    this_run.finish(metrics, REPORT, fits)
    headline = metrics["headline"]
    this_run.say(
        f"{this_run.folder / 'report.pdf'}: {name}, {headline['value']:.3f} bits per character "
        f"({headline['low']:.3f} to {headline['high']:.3f})"
    )
    return metrics


def _load(settings: Any, start: models.LanguageModel | None, this_run: run.Run) -> text.Corpus:
    tokenizer = start.tokenizer if start else settings.tokenizer
    choices: dict[str, Any] = {"vocabulary": settings.vocabulary, "context": settings.context}
    if not settings.text:
        return text.load_embedded(tokenizer, **choices)
    # The tokens of a large text are stored beside the checkpoints until the run ends.
    folder = this_run.scratch("tokens", text.KEPT)
    return text.load_files(settings.text, tokenizer, encoding=settings.encoding, folder=folder, **choices)


def _check(settings: Any) -> None:
    require("text", "zstandard", "pyppmd", *(["tokenizers"] if settings.tokenizer == "bpe" else []))
    if settings.template == "transformer" and settings.units % settings.heads:
        raise BadInput(
            f"--heads: found {settings.heads}, expected a divisor of --units, {settings.units}, which they share"
        )
    if settings.encoding and not settings.text:
        raise BadInput("found --encoding without --text, expected files to go with it")


# --- After training ---


def generate(settings: Generate) -> dict[str, Any]:
    """Print the prompt and the text that the model generates after it."""
    model = models.load(settings.model)
    prompt = text.as_in_text(settings.prompt)
    if not prompt:
        raise BadInput(f"--prompt: found {settings.prompt!r}, expected at least one character")
    model.tokenizer.encode(prompt)  # raises for unknown characters before anything is printed
    pieces = model.write(
        prompt,
        settings.tokens,
        [short for string in settings.stop if (short := text.as_in_text(string))],
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        seed=settings.seed,
    )
    written = []
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
        written.append(piece)
    print()
    return {"prompt": prompt, "text": "".join(written)}


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model on text and print the results with their intervals."""
    require("text", "zstandard", "pyppmd")
    model = models.load(settings.model)
    part = text.load_for(settings.text, model.tokenizer, encoding=settings.encoding)
    for sentence in text.describe_files(settings.text, settings.encoding):
        print(escaped(sentence))
    measured = evaluation.some_blocks(part, evaluation.TEST_TOKENS)
    values = evaluation.measures(evaluation.scores(model, measured), measured)
    print(
        f"{int(measured.characters.sum()):,} of {int(part.characters.sum()):,} characters, "
        f"{len(measured.starts):,} blocks, {part.unknown:,} characters that the model does not know"
        + (f": {escaped(text.name_characters(part.missing))}" if part.missing else "")
    )
    for name, value in values.items():
        print(f"{evaluation.MEASURES[name]:<24} {value['value']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")
    return {"metrics": values}


def export(settings: Export | Serve) -> dict[str, Any]:
    """Export a saved model with preprocess.py, which continues a prompt as `generate` does."""
    model = models.load(settings.model)
    prompts = [text.as_in_text(prompt) for prompt in settings.prompt]
    examples = [{"prompt": prompt, "tokens": EXAMPLE_TOKENS, "temperature": 0.0} for prompt in prompts]
    return exporting.export(
        settings,
        model.exported(),
        Path(__file__).parent / "text" / "preprocess.py",
        about={
            "tokens": {"unit": "numbers of tokens, any number after the last one"},
            "step": {"unit": "number of a token"},
            "logits": {"unit": "logits of the next token"},
        },
        preparation=model.preparation,
        examples=examples,
        answers=[
            {"text": model.tokenizer.decode(tokens), "log_probability": score}
            for prompt in prompts
            for tokens, score in [model.most_probable(prompt, EXAMPLE_TOKENS)]
        ],
        static=True,
    )


def report(settings: run.Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    return run.typeset_again(settings.run, APPLICATION, REPORT)


if __name__ == "__main__":
    run.execute(main)

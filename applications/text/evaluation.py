"""The evaluation of the text application: bits of each token, baselines, quality of samples, and figures."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from applications import run
from applications.n_grams import MOST_GRAMS, NGram
from applications.text import models as text_models
from applications.text.baselines import compressed_bits
from applications.text.models import LanguageModel
from data.text import Corpus, Part
from reports import figures, language
from reports import metrics as schema
from reports.metrics import Measure, headline
from templates import decoding

TEST_TOKENS = 500_000  # in evenly spread blocks, if there are more
TRAINING_TOKENS = 5_000_000  # for the baselines and the search for copies, in evenly spread blocks if there are more
LOGITS = 2**23  # in memory at once
PROMPT = 40  # characters
SAMPLES, SAMPLE_TOKENS = 8, 600  # at each temperature
TEMPERATURES = (0.5, 0.8, 1.0)
TEMPERATURE = 0.8  # of samples during training
MOMENT_TOKENS = 200
POSITIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # least numbers of tokens before a token
PASSAGE, PASSAGES = 240, 3  # tokens of a passage whose surprise is shown, and the number of passages
ATTENDED = 24  # tokens whose attention is shown
N_GRAM, LONG, UNIGRAM = "5-gram", "16-gram", "unigram"
ORDERS = {N_GRAM: 5, LONG: 16, UNIGRAM: 1}
MIXTURE = "mixture"  # of the network and the long n-grams
SHARES = np.arange(1, 20) / 20  # of the network in the mixture
# Titles of the measures.
MEASURES = {
    "bits_per_character": "Bits per character",
    "bits_per_byte": "Bits per byte",
    "perplexity": "Perplexity",
    "accuracy": "Next-token accuracy",
}


# --- The schema of this application's metrics.json ---


class Measured(TypedDict):
    """Size of the measured part of the test text."""

    blocks: int
    characters: int
    tokens: int


class Data(schema.Data):
    """Tokens of each split and their kind; characters, bytes, blocks and unknown characters by split."""

    train: int
    validation: int
    test: int
    tokenizer: str
    vocabulary: int
    characters: dict[str, int]
    bytes: dict[str, int]
    blocks: dict[str, int]
    unknown: dict[str, int]
    measured: Measured


class Evaluation(schema.Evaluation):
    """The titles of the measures, and the characters of training text of each model."""

    measures: dict[str, str]
    training_characters: dict[str, int]
    sampled_characters: int


class Result(schema.Result):
    """A model with the mean time of a training, and the epoch of each training whose weights were kept."""

    fit_seconds: float
    best_epochs: list[int]


class Compressor(TypedDict):
    """The bits that a compressor needs for the test text after the training text."""

    name: str
    bits_per_character: float
    bits_per_byte: float


class Gain(schema.Estimate):
    """The bits per character that the mixture saves compared with one of its parts."""

    worse: str


class Mixture(TypedDict):
    """The network mixed with the long n-grams: its share by training, and the gains over both."""

    shares: list[float]
    parameters: int
    metrics: dict[str, Measure]
    gains: list[Gain]


class Position(schema.Estimate):
    """Mean bits of a token by the number of tokens before it."""

    position: float


class Passage(TypedDict):
    """A passage of a test block with the bits of each piece of its text."""

    block: int
    first_token: int
    bits_per_token: float
    pieces: list[list[Any]]


class Sample(TypedDict):
    """Generated text after a prompt, and the length in characters of its longest copy."""

    temperature: float
    prompt: str
    text: str
    longest_copy: int


class Quality(TypedDict):
    """Mean measures of samples; see `reports.language.measure_samples`."""

    name: str
    samples: int
    known_words: float | None
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    distinct_4: float | None
    longest_copy: float | None
    mean_copy: float | None
    balanced_brackets: float | None
    balanced_quotes: float | None


class Moment(TypedDict):
    """Generated text after an epoch."""

    epoch: int
    text: str


class Attention(TypedDict):
    """The content of the figure of the attention."""

    text: str
    layers: int
    heads: int


class Model(TypedDict):
    """The network's layers as name, shape and parameters, its context in evaluation, and its training."""

    layers: list[list[Any]]
    look_back: int
    batch_size: int
    steps_per_epoch: int


class Metrics(schema.Metrics):
    """metrics.json of this application; `losses` are bits per character at the epoch whose weights were kept."""

    data: Data
    evaluation: Evaluation
    results: list[Result]
    compressors: list[Compressor]
    mixture: Mixture
    levels: dict[str, float]
    by_position: dict[str, list[Position]]
    hardest: list[Passage]
    samples: list[Sample]
    sample_length: int
    sample_quality: list[Quality]
    generated_tokens_per_second: int
    moments: list[Moment]
    losses: dict[str, float]
    attention: Attention | None
    model: Model


def some_blocks(part: Part, tokens: int) -> Part:
    """Evenly spread blocks of a part with about `tokens` tokens; all blocks of a smaller part."""
    if len(part) <= tokens:
        return part
    count = max(1, len(part.starts) * tokens // len(part))
    chosen = np.linspace(0, len(part.starts) - 1, count).astype(int)
    ends = np.append(part.starts[1:], len(part))
    pieces = [part.tokens[part.starts[block] : ends[block]] for block in chosen]
    lengths = np.array([len(piece) for piece in pieces])
    return dataclasses.replace(
        part,
        tokens=np.concatenate(pieces),
        starts=np.cumsum(lengths) - lengths,
        characters=part.characters[chosen],
        bytes=part.bytes[chosen],
    )


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well a network predicts the tokens of a part.

    Attributes:
        bits: -log2 of the probability of each token given those before it in its block, (tokens,). The first token of a
            block has the bits of a uniform draw from the vocabulary.
        hits: whether each token is the most probable one, (tokens,) bool.
        window_bits: bits in windows without earlier context, (windows, positions), NaN after the end of a block.
        window_blocks: (windows,) the block of each window.
        window_starts: (windows,) the first token of each window.
    """

    bits: np.ndarray
    hits: np.ndarray
    window_bits: np.ndarray
    window_blocks: np.ndarray
    window_starts: np.ndarray


def scores(model: LanguageModel, part: Part) -> Scores:
    """Measure a network on a part.

    It reads each block in windows of its maximum context. Each window begins in the middle of the one before, and only
    its new tokens count, so that every token has at least half a window, or the beginning of its block, before it.
    """
    ends = np.append(part.starts[1:], len(part))
    longest = int((ends - part.starts).max()) - 1
    size = max(1, min(model.look_back, longest))
    step = max(1, size // 2)
    # For each window: its block, the index of its first token, and the number of targets that are already measured.
    windows = [
        (block, first, size - step if first > start else 0)
        for block, (start, end) in enumerate(zip(part.starts, ends, strict=True))
        for first in range(int(start), int(end) - 1, step)
        if first == start or first + size - step < end - 1
    ]
    bits = np.full(len(part), np.log2(model.tokenizer.vocabulary))
    hits = np.zeros(len(part), bool)
    window_bits = np.full((len(windows), size), np.nan, np.float32)
    tokens = np.asarray(part.tokens, np.int32)
    batch = max(1, min(32, len(windows), LOGITS // (size * model.tokenizer.vocabulary)))
    for begin in range(0, len(windows), batch):
        members = windows[begin : begin + batch]
        inputs = np.zeros((batch, size), np.int32)  # all of one shape, as each shape is compiled separately
        for row, (block, first, _) in enumerate(members):
            stop = min(first + size, ends[block] - 1)
            inputs[row, : stop - first] = tokens[first:stop]
        logits = np.asarray(model.model.predict_on_batch(inputs), np.float32)
        for row, (block, first, known) in enumerate(members):
            stop = min(first + size, ends[block] - 1)
            of_window, targets = logits[row, : stop - first], tokens[first + 1 : stop + 1]
            shifted = of_window - of_window.max(-1, keepdims=True)
            own = shifted[np.arange(len(targets)), targets]
            target_bits = (np.log(np.exp(shifted).sum(-1)) - own) / np.log(2)
            window_bits[begin + row, : len(targets)] = target_bits
            bits[first + known + 1 : stop + 1] = target_bits[known:]
            hits[first + known + 1 : stop + 1] = own[known:] >= 0
    return Scores(bits, hits, window_bits, *np.array([(block, first) for block, first, _ in windows]).T)


def bits_per_character(found: Scores, part: Part) -> float:
    """Mean bits per character."""
    return float(found.bits.sum() / part.characters.sum())


def prediction(found: Scores, part: Part) -> language.Prediction:
    """The measures of a network on a part."""
    return language.Prediction(found.bits, found.hits, blocks_of(part), part.characters, part.bytes)


def blocks_of(part: Part) -> np.ndarray:
    """The block of each token, (tokens,)."""
    return np.repeat(np.arange(len(part.starts)), np.diff(np.append(part.starts, len(part))))


def measures(found: Scores, part: Part, resamples: int = 500) -> dict[str, Measure]:
    """All measures of one network with intervals from a bootstrap over blocks."""
    return language.compare({"model": [prediction(found, part)]}, [], resamples=resamples)[0]["model"]


# --- Samples ---


def prompts(part: Part) -> list[str]:
    """The beginnings of evenly spread blocks."""
    chosen = np.linspace(0, len(part.starts) - 1, SAMPLES).astype(int)
    ends = np.append(part.starts[1:], len(part))
    stops = np.minimum(ends, part.starts + 4 * PROMPT)  # a character has at most 4 tokens, its bytes
    return [part.tokenizer.decode(part.tokens[part.starts[b] : stops[b]])[:PROMPT] for b in chosen]


class Moments:
    """Samples at three moments of a training: after the first epoch, a quarter of the epochs, and the best epoch."""

    def __init__(self, this_run: run.Run, trainer: text_models.Trainer, prompt: str):
        self.run, self.trainer, self.prompt = this_run, trainer, prompt
        self.epochs = sorted({1, max(1, trainer.settings.epochs // 4)})

    def watch(self, epoch: int) -> None:
        """Store a sample if this is one of the epochs."""
        if epoch in self.epochs:
            self._sample(epoch)

    def _sample(self, epoch: int) -> str:
        def write() -> dict[str, np.ndarray]:
            text = self.trainer.model.samples([self.prompt], MOMENT_TOKENS, temperature=TEMPERATURE, seed=0)[0]
            return {"text": np.array(text.encode())}

        return bytes(self.run.stage(f"sample-{epoch}", write)["text"]).decode()

    def found(self, fit: run.Fit) -> list[dict[str, Any]]:
        """The samples; the last one is from the kept weights."""
        on_the_way = [epoch for epoch in self.epochs if epoch < fit.best_epoch]
        return [{"epoch": epoch, "text": self._sample(epoch)} for epoch in on_the_way] + [
            {"epoch": fit.best_epoch, "text": self._sample(-fit.best_epoch)}
        ]


def samples(model: LanguageModel, test: Part, training: str, tokens: int) -> dict[str, Any]:
    """Samples at several temperatures, and measures of them and of an equal amount of real text.

    Args:
        model: the network.
        test: the source of prompts and real text.
        training: the text to search for copies.
        tokens: number of tokens of each sample.
    """
    began = time.perf_counter()
    openings = prompts(test)
    written = {t: model.samples(openings, tokens, temperature=t, seed=0) for t in TEMPERATURES}
    seconds = time.perf_counter() - began
    length = int(np.mean([len(text) for texts in written.values() for text in texts]))
    real = language.excerpts(test.text(), max(1, length), SAMPLES)
    groups = {"held-out text": real} | {f"temperature\u00a0{t:g}": texts for t, texts in written.items()}
    counted = iter(language.measure_samples([text for texts in groups.values() for text in texts], training))
    rows = {name: [next(counted) for _ in texts] for name, texts in groups.items()}
    return {
        "samples": [
            {"temperature": t, "prompt": prompt, "text": text, "longest_copy": row["longest_copy"]}
            for t, texts in written.items()
            for prompt, text, row in zip(openings, texts, rows[f"temperature\u00a0{t:g}"], strict=True)
        ],
        "sample_length": length,
        "sample_quality": [
            {"name": name, "samples": len(of_name)}
            | {measure: _mean([row[measure] for row in of_name]) for measure in language.SAMPLE_MEASURES}
            for name, of_name in rows.items()
        ],
        "generated_tokens_per_second": round(tokens * SAMPLES * len(TEMPERATURES) / seconds),
    }


def _mean(values: Sequence[float]) -> float | None:
    """The mean of finite values; None if there are none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


# --- Comparison ---


def describe(corpus: Corpus, test: Part) -> dict[str, Any]:
    """The data for metrics.json: provenance, the size of each split, and of the measured part of the test text."""
    splits = corpus.splits
    return (
        corpus.provenance.to_dict()
        | {name: len(part) for name, part in splits.items()}
        | {
            "tokenizer": corpus.tokenizer.kind,
            "vocabulary": corpus.tokenizer.vocabulary,
            "characters": {name: int(part.characters.sum()) for name, part in splits.items()},
            "bytes": {name: int(part.bytes.sum()) for name, part in splits.items()},
            "blocks": {name: len(part.starts) for name, part in splits.items()},
            "unknown": {name: part.unknown for name, part in splits.items()},
            "measured": {"blocks": len(test.starts), "characters": int(test.characters.sum()), "tokens": len(test)},
        }
    )


def compare(
    name: str,
    found: Sequence[Scores],
    on_validation: Sequence[Scores],
    fits: Sequence[run.Fit],
    parameters: int,
    train: Part,
    validation: Part,
    test: Part,
    resamples: int,
) -> dict[str, Any]:
    """Comparable results of the network and the baselines, with intervals from one bootstrap over blocks.

    Args:
        name: name of the network.
        found: scores on the test part for each of its trainings.
        on_validation: scores on the validation part for each of its trainings.
        fits: its trainings.
        parameters: number of parameters of the network.
        train: the training part for the baselines.
        validation: for the levels of learning curves, and for choosing the shares of the mixture.
        test: the test part.
        resamples: draws of the bootstrap.
    """
    block = blocks_of(test)
    predictions = {name: [prediction(one, test) for one in found]}
    grams, predicted, characters = {}, {}, {}
    for baseline, order in ORDERS.items():
        known = some_blocks(train, MOST_GRAMS // order)
        characters[baseline] = int(known.characters.sum())
        grams[baseline] = NGram(order).fit(known.tokens, known.starts, train.tokenizer.vocabulary)
        predicted[baseline], hits = grams[baseline].evaluate(test.tokens, test.starts)
        predictions[baseline] = [language.Prediction(predicted[baseline], hits, block, test.characters, test.bytes)]
    pairs = [(name, baseline) for baseline in ORDERS]
    measures_of, differences = language.compare(predictions, pairs, resamples=resamples)
    to_choose = grams[LONG].evaluate(validation.tokens, validation.starts)[0]
    shares = [_share(one.bits, to_choose) for one in on_validation]
    mixed = [
        # The mixture's accuracy isn't computed.
        language.Prediction(
            _mixed(one.bits, predicted[LONG], share), one.hits & False, block, test.characters, test.bytes
        )
        for one, share in zip(found, shares, strict=True)
    ]
    together = {MIXTURE: mixed, name: predictions[name], LONG: predictions[LONG]}
    of_mixture, gains = language.compare(together, [(MIXTURE, name), (MIXTURE, LONG)], resamples=resamples)
    packed = compressed_bits(train.text().encode(), [test.text().encode()])
    levels = _levels(grams[N_GRAM], train, validation)
    results: list[Result] = [
        {
            "model": model,
            "baseline": model != name,
            "uses_labels": False,
            "parameters": grams[model].parameters if model in grams else parameters,
            "fit_seconds": 0.0 if model in grams else float(np.mean([fit.seconds for fit in fits])),
            "best_epochs": [] if model in grams else [fit.best_epoch for fit in fits],
            "metrics": metrics,
        }
        for model, metrics in measures_of.items()
    ]
    return {
        "evaluation": {
            "resamples": resamples,
            "unit": "blocks",
            "measures": MEASURES,
            "training_characters": characters,
            "sampled_characters": int(train.characters.sum()),  # for the compressors and the search for copies
        },
        "headline": headline(results[0], "bits_per_character"),
        "results": results,
        "compressors": [
            {
                "name": compressor,
                "bits_per_character": bits / int(test.characters.sum()),
                "bits_per_byte": bits / int(test.bytes.sum()),
            }
            for compressor, bits in packed.items()
        ],
        "mixture": {
            "shares": shares,
            "parameters": parameters + grams[LONG].parameters,
            "metrics": {key: value for key, value in of_mixture[MIXTURE].items() if key != "accuracy"},
            "gains": [{key: gain[key] for key in ("worse", "value", "low", "high")} for gain in gains],
        },
        "levels": levels,
        "differences": differences,
        "by_position": _by_position(name, found[0], grams[N_GRAM], test, resamples),
        "hardest": _hardest(found[0], test),
    }


def _share(bits: np.ndarray, others: np.ndarray) -> float:
    """The network's share in the mixture with the long n-grams for which it needs the fewest bits.

    The n-grams memorise phrases of the training text, which the network does not (T. Mikolov et al., "Empirical
    evaluation and combination of advanced language modeling techniques", Interspeech 2011).
    """
    return float(SHARES[np.argmin([_mixed(bits, others, share).sum() for share in SHARES])])


def _mixed(bits: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """Bits of tokens under the weighted mean of two probabilities, of which the first has this share."""
    return np.maximum(-np.logaddexp2(np.log2(share) - bits, np.log2(1 - share) - others), 0)  # rounding errors


def _levels(grams: NGram, train: Part, validation: Part) -> dict[str, float]:
    """Bits per character of baselines on the validation text, as levels for learning curves."""
    packed = compressed_bits(train.text().encode(), [validation.text().encode()])
    bits = {N_GRAM: float(grams.evaluate(validation.tokens, validation.starts)[0].sum())}
    bits |= {compressor: packed[compressor] for compressor in ("PPMd", "xz")}
    return {name: value / int(validation.characters.sum()) for name, value in bits.items()}


def _by_position(
    name: str, found: Scores, grams: NGram, test: Part, resamples: int
) -> dict[str, list[dict[str, float]]]:
    """Bits of a token by the number of tokens before it, for the network and the n-grams in the same windows."""
    window, place = np.nonzero(np.isfinite(found.window_bits))
    lengths = np.isfinite(found.window_bits).sum(1) + 1  # with the first token, which is not predicted
    starts = np.cumsum(lengths) - lengths
    within = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    tokens = np.asarray(test.tokens)[np.repeat(found.window_starts, lengths) + within]
    curves = {name: found.window_bits[window, place], N_GRAM: grams.evaluate(tokens, starts)[0][within > 0]}
    edges = [edge for edge in POSITIONS if edge <= place.max() + 1]
    return {
        model: [
            {"position": edge, **dict(zip(("value", "low", "high"), point[1:], strict=True))}
            for edge, point in zip(
                edges,
                language.bits_by_position(bits, place + 1, found.window_blocks[window], edges, resamples=resamples),
                strict=True,
            )
        ]
        for model, bits in curves.items()
    }


def _hardest(found: Scores, test: Part) -> list[dict[str, Any]]:
    """The passages with the most bits per token, with the bits of each piece."""
    passages = []
    for first, end, mean in language.hardest(found.bits, test.starts, PASSAGE, PASSAGES):
        pieces = [test.tokenizer.pieces[token] for token in test.tokens[first:end]]
        passages.append(
            {
                "block": int(np.searchsorted(test.starts, first, side="right")) - 1,
                "first_token": int(first),
                "bits_per_token": mean,
                "pieces": [[text, round(bits, 3)] for text, bits in language.readable(pieces, found.bits[first:end])],
            }
        )
    return passages


def tokens_a_character(part: Part, most: int | None = None) -> float:
    """Mean number of tokens per character in a part, or in its first `most` tokens."""
    if most is None or len(part) <= most:
        return float(len(part) / part.characters.sum())
    return most / len(part.tokenizer.decode(part.tokens[:most]))


def draw(
    this_run: run.Run,
    metrics: dict[str, Any],
    fits: Sequence[run.Fit],
    corpus: Corpus,
    model: LanguageModel,
    test: Part,
) -> dict[str, Any]:
    """Write the figures; returns their entries in metrics.json, the losses, and that of the attention."""
    own, curves, layers = metrics["headline"]["model"], metrics["by_position"], metrics["model"]["layers"]
    splits = {"loss": ("training", corpus.splits["train"]), "val_loss": ("validation", corpus.splits["validation"])}
    # From nats per token to bits per character.
    factors = {key: tokens_a_character(part) / np.log(2) for key, (_, part) in splits.items()}
    factors["val_loss"] = tokens_a_character(corpus.splits["validation"], text_models.VALIDATION_TOKENS) / np.log(2)
    losses = [{name: np.array(fit.history[key]) * factors[key] for key, (name, _) in splits.items()} for fit in fits]
    drawn = {}
    if any(len(of_fit["training"]) > 1 for of_fit in losses):
        drawn["learning"] = (
            figures.learning_curves(
                {
                    f"{own}, seed {metrics['seed'] + index}" if index else own: of_fit
                    for index, of_fit in enumerate(losses)
                },
                y_label="bits per character",
                best_epoch=fits[0].best_epoch,
                levels=metrics["levels"],
            ),
            f"Bits per character of the {own} on training and validation text by epoch, with the {N_GRAM} model's "
            f"on validation as a line; best epoch {', '.join(str(fit.best_epoch) for fit in fits)}",
        )
    drawn["position"] = (
        figures.interval_curves(
            {
                name: [tuple(point[key] for key in ("position", "value", "low", "high")) for point in curve]
                for name, curve in curves.items()
            },
            x_label="context tokens, at least",
            y_label="bits per token",
            logarithmic=True,
            wide=True,
        ),
        "Bits per token by number of context tokens: "
        + ", ".join(f"{name} from {of[0]['value']:.2f} to {of[-1]['value']:.2f}" for name, of in curves.items()),
    )
    drawn["network"] = (
        figures.network(layers),
        f"The {own}, parameters of each layer: " + ", ".join(f"{name} {count:,}" for name, _, count in layers),
    )
    if passages := metrics["hardest"]:
        costs = [
            sum(bits for _, bits in one["pieces"]) / sum(len(text) for text, _ in one["pieces"]) for one in passages
        ]
        drawn["surprise"] = (
            figures.surprise(
                {
                    f"{rank}: block {passage['block'] + 1}, {cost:.2f} bits per character": passage["pieces"]
                    for rank, (passage, cost) in enumerate(zip(passages, costs, strict=True), 1)
                }
            ),
            f"Test passages with the most bits under the {own}, each character coloured by its bits: "
            f"{', '.join(f'{cost:.2f}' for cost in costs)} bits per character",
        )
    shown: Attention | None = None
    if model.template == "transformer":
        tokens = test.tokens[: min(ATTENDED, model.context)]
        maps = decoding.attention_maps(model.model, tokens)
        labels = [test.tokenizer.pieces[token].decode(errors="replace") for token in tokens]
        shown = {"text": "".join(labels), "layers": len(maps), "heads": len(maps[0])}
        drawn["attention"] = (
            figures.attention(maps, labels),
            f"Attention of {shown['heads']} head{'s' * (shown['heads'] > 1)} in each of {shown['layers']} "
            f"layer{'s' * (shown['layers'] > 1)} for the text {shown['text']!r}",
        )
    return {
        "figures": this_run.draw(drawn),
        "losses": {name: float(values[fits[0].best_epoch - 1]) for name, values in losses[0].items()},
        "attention": shown,
    }

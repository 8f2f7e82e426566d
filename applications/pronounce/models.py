"""The networks of the pronunciation application: recipes, training and prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from applications import lazy, run
from data.dataset import BadInput

with lazy.imports():
    import keras
    import numpy as np

    from data import batches as batching
    from data import dictionary, pronunciation
    from templates import decoding, recurrent, transformer

NAMES = {"transformer": "transformer", "lstm": "LSTM encoder–decoder"}
WARM_UP = 0.05  # share of the training in which the learning rate rises
SPARE = 1.5  # the longest possible word, relative to the training words
BATCH = 256  # words pronounced at once
LENGTHS = 8  # lengths of batches are multiples of this, as each is compiled separately


# Defaults of the settings, by preset and template; chosen on the validation words of CMUdict.
_SHORT = dict(share=0.2, learning_rate=2e-3, batch_size=64)
_FULL = dict(share=1.0, learning_rate=1e-3, batch_size=256)
RECIPES = {
    "short transformer": dict(_SHORT, layers=2, units=128, dropout=0.0, epochs=10),
    "short lstm": dict(_SHORT, layers=1, units=256, dropout=0.2, epochs=12),
    "full transformer": dict(_FULL, layers=4, units=256, dropout=0.1, epochs=60),
    "full lstm": dict(_FULL, layers=2, units=512, dropout=0.3, epochs=40),
}
ALWAYS = {"optimizer": "adamw", "seeds": 1}
OWN_DICTIONARY = {"share": 1.0}
QUICK = {"share": 0.02, "layers": 1, "units": 32, "epochs": 1}


def with_recipe(settings: Any, template: str | None = None) -> Any:
    """The settings with defaults filled in, optionally for another template."""
    settings = dataclasses.replace(settings, template=template or settings.template)
    own = OWN_DICTIONARY if settings.dictionary is not None else {}
    quick = QUICK if settings.quick else {}
    return run.filled(settings, own, quick, RECIPES[f"{settings.preset} {settings.template}"], ALWAYS)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A predicted pronunciation: phones and their probability."""

    phones: tuple[str, ...]
    probability: float


@dataclasses.dataclass
class Pronouncer:
    """A network with its letters and phones.

    Attributes:
        model: from letters (batch, source_time) and the phones so far (batch, time) to logits (batch, time, phones).
        coder: from words to tokens and from tokens to phones.
        template: its architecture.
        longest: maximum number of letters of a word, and of phones with the end token.
        stress: whether the phones have stress marks.
    """

    model: Any
    coder: pronunciation.Coder
    template: str
    longest: int
    stress: bool

    def __post_init__(self) -> None:
        reader = decoding.Reader if self.template == "transformer" else decoding.LSTMReader
        self.translator = decoding.Translator(reader(self.model), longest=self.longest - 1)

    @property
    def notes(self) -> dict[str, Any]:
        """What is saved with the network, as JSON."""
        return {
            "coder": self.coder.to_config(),
            "template": self.template,
            "longest": self.longest,
            "stress": self.stress,
        }

    @property
    def preparation(self) -> dict[str, Any]:
        """What preprocess.py needs besides the exported network, as JSON."""
        return self.coder.preparation() | {"longest": self.longest}

    def exported(self) -> keras.Model:
        """The network to export: from letters and phones so far, of a fixed length, to those that may follow.

        The inputs are "source" and "target", (batch, `longest`) int32, the output is "log_probability", (batch,
        `longest`, tokens) float32. A place of the output depends only on the phones up to there.
        """
        inputs = {name: keras.Input((self.longest,), dtype="int32", name=name) for name in ("source", "target")}
        logits = keras.ops.cast(self.model([inputs["source"], inputs["target"]]), "float32")
        return keras.Model(inputs, {"log_probability": keras.ops.log_softmax(logits)})

    def problem(self, word: str) -> str:
        """Why the network can't read a word, or ""."""
        if not word.strip():
            return "found no letter, expected some"
        if strange := self.coder.strange(word):
            found = dictionary.named([pronunciation.letter_name(letter) for letter in strange])
            return f"found {found}, which the model doesn't know"
        if (letters := len(self.coder.spelt(word))) > self.longest:
            return f"found {letters} letters, expected at most {self.longest}, the model's limit"
        return ""

    def say(self, spellings: Sequence[str], beams: int = 1) -> list[list[Prediction]]:
        """The pronunciations of each word by beam search, best first.

        Raises:
            BadInput: A word is too long.
        """
        sources = self.coder.spellings(spellings)
        for word, source in zip(spellings, sources, strict=True):
            if len(source) > self.longest:
                raise BadInput(
                    f"{word[:40]}: found {len(source)} letters, expected at most {self.longest}, the model's limit"
                )
        order = np.argsort([len(source) for source in sources], kind="stable")
        pronounced: list[list[Prediction]] = [[] for _ in spellings]
        for first in range(0, len(order), BATCH):
            members = order[first : first + BATCH]
            length = -(-len(sources[members[-1]]) // LENGTHS) * LENGTHS
            batch = np.zeros((BATCH if len(order) > LENGTHS else LENGTHS, min(length, self.longest)), np.int32)
            for row, member in enumerate(members):
                batch[row, : len(sources[member])] = sources[member]
            tokens, scores = self.translator(batch, beams=beams)
            for row, member in enumerate(members):
                pronounced[member] = [
                    Prediction(self.coder.phones(of_beam), float(np.exp(score)))
                    for of_beam, score in zip(tokens[row], scores[row], strict=True)
                ]
        return pronounced


def load(path: Path) -> Pronouncer:
    """Load a network that a run saved.

    Raises:
        BadInput: There is none.
    """
    model = run.load_model(path, lambda model: model.get_layer("source"))
    notes = run.model_notes(path)
    if "coder" not in notes:
        raise BadInput(f"{path}: found a model without phones, expected the model.keras of a run of this program")
    return Pronouncer(
        model, pronunciation.Coder.from_config(notes["coder"]), notes["template"], notes["longest"], notes["stress"]
    )


def build(settings: Any, coder: pronunciation.Coder, longest: int) -> Any:
    """Build the network of the settings."""
    tokens: dict[str, Any] = {
        "source_vocabulary": coder.source_vocabulary,
        "target_vocabulary": coder.target_vocabulary,
    }
    if settings.template == "transformer":
        return transformer.encoder_decoder(
            **tokens,
            source_context=longest,
            target_context=longest,
            width=settings.units,
            depth=settings.layers,
            heads=settings.heads,
            activation=settings.activation,
            dropout=settings.dropout,
        )
    return recurrent.lstm_encoder_decoder(
        **tokens, units=settings.units, depth=settings.layers, dropout=settings.dropout
    )


def longest_of(lexicon: pronunciation.Lexicon) -> int:
    """The maximum number of letters or phones for a network with this lexicon."""
    lengths = [len(word) for part in lexicon.splits.values() for word in part.spellings]
    lengths += [len(p) + 1 for part in lexicon.splits.values() for of_word in part.pronunciations for p in of_word]
    return round(max(lengths) * SPARE)


def _pairs(
    coder: pronunciation.Coder, words: pronunciation.Words, longest: int, use: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Letters and phones of all pronunciations whose phones the coder knows.

    Raises:
        BadInput: There is none, or one is too long for the network.
    """
    sources, targets = coder.pairs(words)
    if not sources:
        raise BadInput(
            f"found no word to {use} on whose phones the network knows, expected some; it knows "
            f"{' '.join(coder.phone_set)[:80]}"
        )
    most = max(max(len(source), len(target) - 1) for source, target in zip(sources, targets, strict=True))
    if most > longest:
        raise BadInput(f"found a word of {most} letters or phones, expected at most {longest}, the network's limit")
    return sources, targets


class Trainer:
    """A network that is trained on the words of a lexicon."""

    def __init__(
        self,
        settings: Any,
        seed: int,
        lexicon: pronunciation.Lexicon,
        words: pronunciation.Words,
        start: Pronouncer | None,
        stage: str,
    ):
        self.settings, self.seed, self.stage = settings, seed, stage
        coder = start.coder if start else lexicon.coder
        longest = start.longest if start else longest_of(lexicon)
        self.train = _pairs(coder, words, longest, "train")
        self.validation = _pairs(coder, lexicon.splits["validation"], longest, "validate")
        self.batch_size = min(settings.batch_size, len(self.train[0]))
        longest_execution = 1 if keras.backend.backend() == "torch" else 16
        self.steps, execution = batching.steps_of(len(self.train[0]), self.batch_size, longest_execution)
        keras.utils.set_random_seed(seed)
        model = build(settings, coder, longest)
        weights = start.model.get_weights() if start else None
        run.start_from(model, weights, settings, "these --template, --layers, --units and phones")
        model.compile(
            run.optimizer(
                settings.optimizer, settings.learning_rate, settings.epochs * self.steps, warm_up=WARM_UP, clipnorm=1.0
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=execution,
            jit_compile="auto" if settings.template == "transformer" else run.jit_compile(),
        )
        self.model = Pronouncer(model, coder, settings.template, longest, settings.stress)

    def fit(self, this_run: run.Run) -> run.Fit:
        """Train to the epoch with the lowest validation loss."""
        options = {"batch_size": self.batch_size, "steps": self.steps, "seed": self.seed}
        return this_run.fit(
            self.stage,
            self.model.model,
            batching.shuffled_pairs(*self.train, **options),
            epochs=self.settings.epochs,
            steps=self.steps,
            validation=batching.sorted_pairs(*self.validation, self.batch_size),
            patience=self.settings.patience,
            lengths_vary=True,
        )

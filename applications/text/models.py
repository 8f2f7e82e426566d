"""The language models of the text application: recipes, training and generation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from applications import lazy, run
from data.dataset import BadInput

with lazy.imports():
    import keras
    import numpy as np

    from data import batches as batching
    from data import text
    from templates import decoding, recurrent, transformer

NAMES = {"transformer": "transformer", "lstm": "LSTM", "gru": "GRU"}
LONGEST_EPOCH = 10_000_000  # tokens; an epoch is only a part of a longer text
VALIDATION_TOKENS = 200_000  # more would not change which epoch is best
WARM_UP = 0.03  # share of the training in which the learning rate rises
LOOK_BACK = 1_024  # tokens; recurrent networks use more context than they were trained on


# Defaults of the settings, by preset and template; chosen on the validation blocks of the embedded text.
_SHORT = {"layers": 1, "units": 384, "context": 128, "activation": "tanh", "dropout": 0.0, "batch_size": 32}
_LONG = {"layers": 2, "units": 512, "context": 256, "activation": "tanh", "dropout": 0.3, "batch_size": 32}
_TRANSFORMER = {"layers": 4, "context": 128, "activation": "gelu", "learning_rate": 3e-3, "batch_size": 16}
RECIPES = {
    "short transformer": _TRANSFORMER | {"units": 128, "dropout": 0.0, "epochs": 12},
    "short lstm": _SHORT | {"learning_rate": 5e-3, "epochs": 10},
    "short gru": _SHORT | {"learning_rate": 5e-3, "epochs": 12},
    "long transformer": _TRANSFORMER | {"units": 192, "dropout": 0.2, "epochs": 48},
    "long lstm": _LONG | {"learning_rate": 3e-3, "epochs": 24},
    "long gru": _LONG | {"learning_rate": 3e-3, "epochs": 24},
}
ALWAYS = {"tokenizer": "char", "optimizer": "adamw", "seeds": 1}
QUICK = {"layers": 1, "units": 64, "epochs": 1}


def with_recipe(settings: Any) -> Any:
    """The settings with defaults filled in."""
    recipe = RECIPES[f"{settings.preset} {settings.template}"]
    return run.filled(settings, QUICK if settings.quick else {}, recipe, ALWAYS)


def build(settings: Any, vocabulary: int) -> Any:
    """Build the network of the settings, with logits (batch, time, vocabulary)."""
    if settings.template == "transformer":
        return transformer.decoder(
            vocabulary=vocabulary,
            context=settings.context,
            width=settings.units,
            depth=settings.layers,
            heads=settings.heads,
            activation=settings.activation,
            dropout=settings.dropout,
        )
    return getattr(recurrent, settings.template)(
        vocabulary=vocabulary,
        embedding_size=min(settings.units, 128),
        head="next_token",
        units=(settings.units,) * settings.layers,
        activation=settings.activation,
        dropout=settings.dropout,
        output_activation=None,
        mask_value=None,
    )


@dataclasses.dataclass
class LanguageModel:
    """A network with its tokenizer.

    Attributes:
        model: from tokens (batch, time) to logits (batch, time, vocabulary).
        tokenizer: from text to tokens and back.
        template: its architecture.
        context: tokens of context in training.
    """

    model: Any
    tokenizer: text.Tokenizer
    template: str
    context: int

    @property
    def look_back(self) -> int:
        """Tokens of context in evaluation."""
        return self.context if self.template == "transformer" else max(LOOK_BACK, self.context)

    @property
    def notes(self) -> dict[str, Any]:
        """What is saved with the network, as JSON."""
        return {"tokenizer": self.tokenizer.to_config(), "template": self.template, "context": self.context}

    def continuations(
        self, prompts: Sequence[str], tokens: int, *, temperature: float, seed: int, **choice: Any
    ) -> Iterator[np.ndarray]:
        """Generate tokens (prompts,) that continue the prompts, one by one; `choice` is top_k or top_p."""
        encoded: list[Any] = [self.tokenizer.encode(prompt) for prompt in prompts]
        return decoding.generate(self._stream(), encoded, tokens, temperature=temperature, seed=seed, **choice)

    def samples(self, prompts: Sequence[str], tokens: int, *, temperature: float, seed: int) -> list[str]:
        """The generated text after each prompt, without the prompt."""
        generated = np.stack(list(self.continuations(prompts, tokens, temperature=temperature, seed=seed)))
        return [self.tokenizer.decode(of_prompt) for of_prompt in generated.T]

    def write(self, prompt: str, tokens: int, stop: Sequence[str] = (), **choice: Any) -> Iterator[str]:
        """Generate pieces of text that continue the prompt, up to one of the strings in `stop`."""
        tokens_of_prompt = (int(token[0]) for token in self.continuations([prompt], tokens, **choice))
        return text.decoded(tokens_of_prompt, self.tokenizer.pieces, stop)

    def most_probable(self, prompt: str, tokens: int) -> tuple[np.ndarray, float]:
        """The continuation of most probable tokens, and its log-probability in nats."""
        found = np.stack(list(self.continuations([prompt], tokens, temperature=0, seed=0)))[:, 0]
        stream = self._stream()
        read, score = self.tokenizer.encode(prompt), 0.0
        for token in found:
            logits = stream(read[None])[0].astype(np.float64)
            score += float(logits[token] - np.logaddexp.reduce(logits))
            read = token[None]
        return found, score

    def exported(self) -> Any:
        """The network with named inputs and outputs that `preparation` belongs to.

        A transformer reads its whole context, "tokens" (batch, context), and gives "logits" (batch, context,
        vocabulary); a recurrent network reads a "step" (batch,) and its states, and gives "logits" (batch, vocabulary)
        and the states of the next step, "next_" with the name of the state.
        """
        if self.template == "transformer":
            tokens = keras.Input((self.context,), dtype="int32", name="tokens")
            return keras.Model(tokens, {"logits": self.model(tokens)})
        stepped = recurrent.streaming(self.model)
        logits, *states = stepped.outputs
        names = [f"next_{state.name}" for state in stepped.inputs[1:]]
        return keras.Model(stepped.inputs, {"logits": logits, **dict(zip(names, states, strict=True))})

    @property
    def preparation(self) -> dict[str, Any]:
        """What code without this project needs to continue text with the exported network, as plain JSON."""
        context = self.context if self.template == "transformer" else None
        return {"tokenizer": self.tokenizer.preparation(), "context": context}

    def _stream(self) -> Any:
        return (decoding if self.template == "transformer" else recurrent).Stream(self.model)


def load(path: Path) -> LanguageModel:
    """Load a language model that a run saved.

    Raises:
        BadInput: There is none.
    """
    model = run.load_model(path, lambda model: model.get_layer("embedding"))
    notes = run.model_notes(path)
    if "tokenizer" not in notes:
        raise BadInput(f"{path}: found a model without tokens, expected the model.keras of a run of this program")
    return LanguageModel(model, text.Tokenizer.from_config(notes["tokenizer"]), notes["template"], notes["context"])


class Trainer:
    """A language model that is trained on a corpus."""

    def __init__(self, settings: Any, seed: int, corpus: text.Corpus, start: LanguageModel | None):
        train = corpus.splits["train"]
        self.settings, self.seed, self.corpus = settings, seed, corpus
        self.stage = f"{settings.template}-{seed}"
        pieces = min(len(train), LONGEST_EPOCH) // settings.context
        self.batch_size = min(settings.batch_size, pieces)
        self.steps, execution = batching.steps_of(
            pieces, self.batch_size, 1 if keras.backend.backend() == "torch" else 16
        )
        keras.utils.set_random_seed(seed)
        model = build(settings, corpus.tokenizer.vocabulary)
        weights = start.model.get_weights() if start else None
        run.start_from(model, weights, settings, "these --template, --layers, --units, --context and tokens")
        model.compile(
            run.optimizer(
                settings.optimizer, settings.learning_rate, settings.epochs * self.steps, warm_up=WARM_UP, clipnorm=1.0
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=execution,
            # Measured on a CPU: XLA doubles the speed of the transformer, and slows recurrent networks on TensorFlow.
            jit_compile="auto" if settings.template == "transformer" else run.jit_compile(),
        )
        self.model = LanguageModel(model, corpus.tokenizer, settings.template, settings.context)

    def fit(self, this_run: run.Run, after_epoch: Callable[[int], None] | None = None) -> run.Fit:
        """Train to the epoch with the lowest validation loss."""
        train, validation = (self.corpus.splits[name] for name in ("train", "validation"))
        settings = {"context": self.settings.context, "batch_size": self.batch_size}

        return this_run.fit(
            self.stage,
            self.model.model,
            batching.windows(train.tokens, **settings, steps=self.steps, seed=self.seed),
            epochs=self.settings.epochs,
            steps=self.steps,
            validation=batching.consecutive_windows(validation.tokens[:VALIDATION_TOKENS], **settings),
            patience=self.settings.patience,
            after_epoch=after_epoch,
            count=lambda batch: batch[1].size,  # tokens
        )

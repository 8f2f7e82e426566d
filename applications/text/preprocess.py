"""Continue text with an exported language model; needs only numpy and the runtime of the export.

    model = Model(Path("exported"))
    for piece in model.write("The statement", tokens=200, temperature=0.8):
        print(piece, end="", flush=True)

or from a terminal: python exported/preprocess.py "The statement"
"""

import itertools
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.runtime import Network
from data.text import as_in_text, decoded

EXAMPLE = "prompt"  # what `Model.answers` takes a list of


class Model:
    """The language model: a prompt in, its continuation out."""

    def __init__(self, folder: Path):
        self.network = Network(folder)
        self.tokenizer = Tokenizer(self.network.preparation["tokenizer"])
        self.stream = Window if self.network.preparation["context"] else Steps

    def answers(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Continue prompts.

        Args:
            requests: each with "prompt" and any of the options of `write`.

        Returns:
            For each: "text", what follows the prompt, and "log_probability" of its tokens after the prompt, in nats,
            at a temperature of 1.
        """
        answers = []
        for request in requests:
            log_probabilities: list[float] = []
            text = "".join(self.write(**request, log_probabilities=log_probabilities))
            answers.append({"text": text, "log_probability": sum(log_probabilities)})
        return answers

    def write(
        self,
        prompt: str,
        tokens: int = 500,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
        log_probabilities: list[float] | None = None,
    ) -> Iterator[str]:
        """Yield pieces of text that continue a prompt.

        Args:
            prompt: must consist of characters of the training text.
            tokens: maximum number to generate.
            temperature: below 1 favours probable tokens; 0 always takes the most probable one.
            top_k: how many of the most probable tokens to sample from.
            top_p: sample from the fewest tokens that together have this probability.
            stop: stop before any of these strings.
            seed: seed of the sampling.
            log_probabilities: takes the log-probability of each token, in nats.

        Raises:
            ValueError: if the prompt is empty or has a character that the model doesn't know.
        """
        continuation = self._tokens(as_in_text(prompt), tokens, temperature, top_k, top_p, seed, log_probabilities)
        return decoded(continuation, self.tokenizer.pieces, [short for one in stop if (short := as_in_text(one))])

    def _tokens(
        self,
        prompt: str,
        tokens: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        seed: int,
        log_probabilities: list[float] | None,
    ) -> Iterator[int]:
        random = np.random.default_rng([seed, 0])
        stream = self.stream(self.network)
        read = self.tokenizer.encode(prompt)
        if not read:
            raise ValueError("prompt: found no character, expected at least one")
        for _ in range(tokens):
            logits = stream(read)
            token = draw(logits, random.random(), temperature, top_k, top_p)
            if log_probabilities is not None:
                exact = logits.astype(np.float64) - logits.max()
                log_probabilities.append(float(exact[token] - np.log(np.exp(exact).sum())))
            yield token
            read = [token]


class Window:
    """Runs a network that reads all tokens of its context at once: returns the logits of the next token."""

    def __init__(self, network: Network):
        self.network, self.context = network, network.preparation["context"]
        self.read: list[int] = []

    def __call__(self, tokens: list[int]) -> np.ndarray:
        """Read further tokens; when the context is full, continue with its second half."""
        self.read += tokens
        if (excess := len(self.read) - self.context) > 0:
            hop = self.context - self.context // 2
            self.read = self.read[-(-excess // hop) * hop :]
        padded = np.zeros((1, self.context), np.int32)
        padded[0, : len(self.read)] = self.read
        return self.network(tokens=padded)["logits"][0, len(self.read) - 1]


class Steps:
    """Runs a network that reads one token after another and passes on its states: returns the logits of the next."""

    def __init__(self, network: Network):
        self.network = network
        shapes = {name: described["shape"] for name, described in network.signature["inputs"].items()}
        self.states = {name: np.zeros((1, *shape[1:]), np.float32) for name, shape in shapes.items() if name != "step"}

    def __call__(self, tokens: list[int]) -> np.ndarray:
        """Read further tokens."""
        outputs: dict[str, np.ndarray] = {}
        for token in tokens:
            outputs = self.network(step=np.array([token]), **self.states)
            self.states = {name: outputs[f"next_{name}"] for name in self.states}
        return outputs["logits"][0]


def draw(logits: np.ndarray, chance: float, temperature: float, top_k: int | None, top_p: float | None) -> int:
    """Draw a token from logits (vocabulary,) with a random number in [0, 1)."""
    order = np.argsort(-logits)
    logits = logits[order]
    shares = np.exp((logits - logits[0]) / (temperature or 1))
    shares[1 if temperature == 0 else top_k or len(shares) :] = 0
    shares /= shares.sum()
    before = np.cumsum(shares) - shares  # total probability of all more probable tokens
    shares = np.where(before < (1 if top_p is None else top_p), shares, 0)
    sums = np.cumsum(shares)
    passed = int((sums <= chance * sums[-1]).sum())
    return int(order[min(passed, int((shares > 0).sum()) - 1)])


class Tokenizer:
    """Text to tokens: characters, bytes, or byte pairs merged as in training."""

    def __init__(self, tokenizer: Mapping[str, Any]):
        self.kind = tokenizer["kind"]
        self.pieces = [bytes.fromhex(piece) for piece in tokenizer["pieces"]]
        self.numbers = {piece: number for number, piece in enumerate(self.pieces)}
        merges = [tuple(bytes.fromhex(part) for part in pair) for pair in tokenizer["merges"]]
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}

    def encode(self, text: str) -> list[int]:
        """Turn text into tokens."""
        if self.kind == "char":
            for place, character in enumerate(text, start=1):
                if character.encode(errors="replace") not in self.numbers:
                    code = f"U+{ord(character):04X}"
                    raise ValueError(
                        f"prompt: character {place}: found {character!r} ({code}), expected one of the "
                        f"{len(self.pieces) - 1:,} characters of the training text"
                    )
            return [self.numbers[character.encode()] for character in text]
        if self.kind == "byte":
            return list(text.encode())
        words = [word for line in re.split(r"(\n+)", text) for word in split_words(line)]
        return [self.numbers[piece] for word in words for piece in self._merged(word)]

    def _merged(self, word: str) -> list[bytes]:
        """Merge the bytes of a word, the pair that training merged first before all others."""
        parts = [bytes([byte]) for byte in word.encode()]
        while len(parts) > 1:
            pairs = enumerate(itertools.pairwise(parts))
            rank, place = min((self.ranks.get(pair, len(self.ranks)), place) for place, pair in pairs)
            if rank == len(self.ranks):
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return parts


_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Over the kind of each character: a letter, a number, a blank (" "), other white space (w), something else (o).
_WORD = re.compile(r" ?L+| ?N+| ?o+|[ w]+(?![LNo])|[ w]+")


def split_words(text: str) -> list[str]:
    """Split text into words with the blank before them, numbers, signs and white space, as GPT-2 does."""
    kinds = "".join(
        " " if c == " " else "w" if c in _BLANKS else k if (k := unicodedata.category(c)[0]) in "LN" else "o"
        for c in text
    )
    words, place = [], 0
    while place < len(text):
        match = re.compile("'(?:[stmd]|re|ve|ll)").match(text, place) or _WORD.match(kinds, place)
        assert match
        words.append(text[place : match.end()])
        place = match.end()
    return words


def _kind(character: str) -> str:
    if character in _BLANKS:
        return " " if character == " " else "w"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "o"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected a prompt")
    print(sys.argv[1], end="", flush=True)
    for piece in Model(Path(__file__).parent).write(sys.argv[1]):
        print(piece, end="", flush=True)
    print()

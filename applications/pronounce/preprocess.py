"""Pronounce a word with an exported network; needs only numpy and the runtime of the export.

    model = Model(Path("exported"))
    model.answers(["keras"])  # [[{"phones": ["K", "EH", "R", "AH", "S"], "probability": 0.4}, ...]]

or from a terminal: python exported/preprocess.py keras tensor
"""

import itertools
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.runtime import Network

EXAMPLE = "word"  # what `Model.answers` takes a list of


class Model:
    """The network: words in, pronunciations out."""

    def __init__(self, folder: Path):
        self.network = Network(folder)
        self.preparation = self.network.preparation
        self.letters = self.preparation["letters"]
        self.longest = self.preparation["longest"]
        self.phones = {token: phone for phone, token in self.preparation["phones"].items()}

    def answers(
        self, words: Sequence[str], *, best: int | None = None, beams: int | None = None
    ) -> list[list[dict[str, Any]]]:
        """Pronounce words.

        Args:
            words: in any case and any normal form of Unicode.
            best: number of pronunciations of each word; by default as in the program.
            beams: width of the beam search, at least `best`; by default as in the program.

        Returns:
            For each word, its pronunciations, the most probable first: phones, and their probability.

        Raises:
            ValueError: if the network can't read a word.
        """
        best = int(self.preparation["best"] if best is None else best)
        beams = int(max(best, self.preparation["beams"]) if beams is None else beams)
        if beams < best:
            raise ValueError(f"beams: found {beams}, expected at least the {best} of best")
        for word in words:
            if problem := self.problem(word):
                raise ValueError(f"{word[:40]}: {problem}")
        found = []
        for word in words:
            targets, scores = self._search(self.inputs(word), beams)
            found.append(
                [
                    {"phones": self._phones(target), "probability": float(np.exp(score))}
                    for target, score in zip(targets[:best], scores[:best], strict=True)
                ]
            )
        return found

    def spelt(self, word: str) -> str:
        """A word in the letters that have tokens: in lower case and the model's normal form."""
        word = unicodedata.normalize(self.preparation["form"], unicodedata.normalize("NFC", word.lower()))
        return word.translate(str.maketrans(self.preparation["variants"]))

    def problem(self, word: str) -> str:
        """Why the network can't read a word, or nothing."""
        if not word.strip():
            return "found no letter, expected some"
        letters = self.spelt(word)
        if strange := dict.fromkeys(letter for letter in letters if letter not in self.letters):
            names = [f"U+{ord(x):04X}" if unicodedata.category(x)[0] in "MZC" else x for x in strange]
            more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
            return f"found {', '.join(names[:8])}{more}, which the model doesn't know"
        if len(letters) > self.longest:
            return f"found {len(letters)} letters, expected at most {self.longest}, the model's limit"
        return ""

    def inputs(self, word: str) -> np.ndarray:
        """The tokens of a word's letters, (1, longest), padded at the end."""
        tokens = np.full((1, self.longest), self.preparation["padding"], np.int32)
        letters = self.spelt(word)
        tokens[0, : len(letters)] = [self.letters[letter] for letter in letters]
        return tokens

    def _search(self, source: np.ndarray, beams: int) -> tuple[np.ndarray, np.ndarray]:
        """The best targets that beam search finds (beams, longest), after their start, and their log probabilities."""
        padding, start, end = (self.preparation[name] for name in ("padding", "start", "end"))
        targets = np.full((beams, self.longest + 1), padding, np.int32)
        targets[:, 0] = start
        scores = np.array([0.0] + [-np.inf] * (beams - 1), np.float32)
        ended = scores == -np.inf
        for place in range(self.longest):
            if ended.all():
                break
            going = np.flatnonzero(~ended)
            found = self.network(source=np.repeat(source, len(going), 0), target=targets[going, : self.longest])
            following = found["log_probability"][:, place]  # (going, tokens)
            following[:, [padding, start]] = -np.inf
            if place == self.longest - 1:  # a target of the maximum length must end
                following[:, np.arange(following.shape[1]) != end] = -np.inf
            chances = np.full((beams, following.shape[1]), -np.inf, np.float32)
            chances[ended, padding] = 0.0  # padding is free
            chances[going] = following
            chances = (scores[:, None] + chances).ravel()
            kept = np.argsort(-chances, kind="stable")[:beams]
            parents, tokens = np.divmod(kept, following.shape[1])
            scores = chances[kept]
            ended = ended[parents] | (tokens == end) | (scores == -np.inf)
            targets = targets[parents]
            targets[:, place + 1] = np.where(ended, padding, tokens)
        targets[scores == -np.inf] = padding
        return targets[:, 1:], scores

    def _phones(self, target: np.ndarray) -> list[str]:
        return [
            self.phones[token] for token in itertools.takewhile(lambda token: token in self.phones, target.tolist())
        ]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("expected words to pronounce")
    model = Model(Path(__file__).parent)
    unread = {word: problem for word in sys.argv[1:] if (problem := model.problem(word))}
    for word in sys.argv[1:]:
        if word not in unread:
            for rank, said in enumerate(model.answers([word])[0]):
                print(f"{'' if rank else word:<20} {100 * said['probability']:5.1f} %  {' '.join(said['phones'])}")
    sys.stdout.flush()
    sys.exit("; ".join(f"{word}: {problem}" for word, problem in unread.items()) or 0)

"""What pronunciation models are compared with: each letter's phones, told from the letters around it.

The classical way to letter-to-sound rules (Black, Lenzo and Pagel 1998, Issues in Building General Letter to Sound
Rules): the letters and the phones of the training words are aligned, so that each letter has no phone, one or two, as
the silent e, the k and the x of English have; then a decision tree for each letter tells these phones from the letters
around it. Of the paper's two ways to align, by a list of the phones that each letter may have or by counts over all
alignments ("epsilon scattering"), this is the second, as expectation-maximisation.
"""

import collections
import itertools
import time
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from data.pronunciation import Words

CONTEXT = 4  # letters on each side of the one whose phones are told; 5 do worse on validation words
ROUNDS = 5  # of expectation-maximisation; more help no more
FEWEST_PHONES, MOST_PHONES = 2, 5  # what most phones of a letter may be at least and at most
ALIGNED = 0.99  # of the words can be aligned with as many phones to a letter as are allowed
_FIRST = (0.2, 0.75, 0.05)  # probabilities of no phone, one and more that expectation-maximisation starts from
_UNSEEN = 1e-9  # probability, for each phone, of phones that a letter never had
_LATER = 1e-7  # how much less a phone scores for each letter before its own

Phones = tuple[str, ...]


class Alignment:
    """Which letter of a word says which of its phones, found by expectation-maximisation (Dempster et al. 1977).

    The phones of a word are those of its letters one after the other. What a letter says depends on nothing but the
    letter. Expectation-maximisation starts from letters that say all phones alike.

    Args:
        spellings: of each word its letters.
        pronunciations: of each word its phones.

    Attributes:
        most: phones that a letter may have: 2, or more where 99 % of the words can't be aligned with 2, but not more
            than 5.
        letters: all that occur, in order.
    """

    def __init__(self, spellings: Sequence[str], pronunciations: Sequence[Phones]):
        ratios = [-(-len(phones) // len(word)) for word, phones in zip(spellings, pronunciations, strict=True) if word]
        needed = int(np.quantile(ratios, ALIGNED, method="higher")) if ratios else 0
        self.most = min(max(needed, FEWEST_PHONES), MOST_PHONES)
        self.letters = sorted(set("".join(spellings)))
        self._letter = {letter: code for code, letter in enumerate(self.letters)}
        self._phone = {phone: code for code, phone in enumerate(sorted({p for of in pronunciations for p in of}))}
        # The keys of letters with no phone, one, two …: how many there are of each letter, and where each kind begins.
        base = len(self._phone) + 1  # with the unknown phone
        self._first = np.concatenate([[0], np.cumsum([base**size for size in range(self.most + 1)])])
        blocks = [self._keys(*codes) for _, *codes in self._blocks(spellings, pronunciations)]
        self._known = np.unique(np.concatenate([np.zeros(1, int), *(np.unique(k) for of in blocks for k in of)]))
        self._probability = self._maximised([[np.searchsorted(self._known, k) for k in of] for of in blocks])

    def _blocks(
        self, spellings: Sequence[str], pronunciations: Sequence[Phones]
    ) -> list[tuple[list[int], np.ndarray, np.ndarray]]:
        """The words that can be aligned, those of equally many letters and phones together.

        Returns:
            The indices of the words, their letters (words, letters) and their phones (words, phones) as codes.
        """
        rows = collections.defaultdict(list)
        for row, (word, phones) in enumerate(zip(spellings, pronunciations, strict=True)):
            if word and len(phones) <= self.most * len(word):
                rows[len(word), len(phones)].append(row)
        found = []
        for (letters, phones), members in sorted(rows.items()):
            spelt = [self._letter.get(letter, len(self._letter)) for row in members for letter in spellings[row]]
            said = [self._phone.get(phone, len(self._phone)) for row in members for phone in pronunciations[row]]
            shapes = (len(members), letters), (len(members), phones)
            found.append((members, np.reshape(spelt, shapes[0]), np.array(said, int).reshape(shapes[1])))
        return found

    def _keys(self, letters: np.ndarray, phones: np.ndarray) -> list[np.ndarray]:
        """For no phone, one, two … the keys of each letter with each run of so many phones, (words, letters, runs)."""
        base = len(self._phone) + 1
        runs = np.zeros((len(phones), phones.shape[1] + 1), int)
        found = []
        for size in range(self.most + 1):
            if size:
                ends = phones[:, size - 1 :]
                runs = runs[:, : ends.shape[1]] * base + ends
            found.append(letters[:, :, None] * self._first[-1] + self._first[size] + runs[:, None, :])
        return found

    def _maximised(self, blocks: list[list[np.ndarray]]) -> np.ndarray:
        """The probability of each of the known keys given its letter, from blocks of the places of their keys."""
        letter, within = np.divmod(self._known, self._first[-1])
        size = np.searchsorted(self._first, within, side="right") - 1
        probability = np.array(_FIRST)[np.minimum(size, 2)] / np.diff(self._first)[size]
        for _ in range(ROUNDS):
            with np.errstate(divide="ignore"):
                scores = np.log(probability)
            counts = np.zeros(len(self._known))
            for places in blocks:
                for place, expected in zip(places, _expected([scores[place] for place in places]), strict=True):
                    counts += np.bincount(place.ravel(), expected.ravel(), len(counts))
            # A letter may be in no word that can be aligned.
            probability = counts / np.maximum(np.bincount(letter, counts), 1e-9)[letter]
        return probability

    def align(self, spellings: Sequence[str], pronunciations: Sequence[Phones]) -> list[tuple[Phones, ...] | None]:
        """Find the most probable phones of each letter.

        Args:
            spellings: of each word its letters; others than those known are aligned, too.
            pronunciations: of each word its phones, possibly none.

        Returns:
            Of each word the phones of each of its letters; None where it has no letter, or more phones than its letters
            may have.
        """
        found: list[tuple[Phones, ...] | None] = [None] * len(spellings)
        for rows, letters, phones in self._blocks(spellings, pronunciations):
            scores = []
            for size, keys in enumerate(self._keys(letters, phones)):
                place = np.searchsorted(self._known[:-1], keys)
                seen = np.where(self._known[place] == keys, self._probability[place], 0)
                # Either l of "ll" may say the phone: then it's the first that does, in all words.
                later = _LATER * size * np.arange(letters.shape[1])
                scores.append(np.log(np.maximum(seen, _UNSEEN ** max(size, 1))) - later[:, None])
            ends = np.cumsum(_best(scores), axis=1)
            for row, of_word in zip(rows, ends.tolist(), strict=True):
                said = pronunciations[row]
                found[row] = tuple(tuple(said[a:b]) for a, b in itertools.pairwise([0, *of_word]))
        return found


def _expected(scores: list[np.ndarray]) -> list[np.ndarray]:
    """How often each letter is expected to say each run of phones, by the forward-backward algorithm.

    Args:
        scores: for no phone, one, two … (words, letters, runs), the logarithm of the probability that the letter says
            the run.

    Returns:
        For no phone, one, two … (words, letters, runs), given that the letters of a word say all of its phones. Of each
        letter they sum to 1.
    """
    words, letters, phones = *scores[0].shape[:2], scores[0].shape[2] - 1
    # Logarithms of the probabilities that the letters before each one say so many phones, and that the others say the
    # rest of them.
    forward = np.full((letters + 1, words, phones + 1), -np.inf)
    forward[0, :, 0] = 0
    for letter in range(letters):
        for score in scores:
            runs = score.shape[2]
            after = forward[letter + 1, :, phones + 1 - runs :]
            np.logaddexp(after, forward[letter, :, :runs] + score[:, letter], out=after)
    backward = np.full((words, phones + 1), -np.inf)
    backward[:, phones] = 0
    expected = [np.empty_like(score) for score in scores]
    for letter in reversed(range(letters)):
        before = np.full_like(backward, -np.inf)
        for score, found in zip(scores, expected, strict=True):
            runs = score.shape[2]
            rest = backward[:, phones + 1 - runs :] + score[:, letter]
            np.logaddexp(before[:, :runs], rest, out=before[:, :runs])
            found[:, letter] = np.exp(forward[letter, :, :runs] + rest - forward[-1, :, -1:])
        backward = before
    return expected


def _best(scores: list[np.ndarray]) -> np.ndarray:
    """How many phones each letter says, (words, letters), in the alignment of the highest sum of scores (Viterbi 1967).

    Args:
        scores: for no phone, one, two … (words, letters, runs), of a letter that says the run.
    """
    words, letters, phones = *scores[0].shape[:2], scores[0].shape[2] - 1
    best = np.full((words, phones + 1), -np.inf)
    best[:, 0] = 0
    sizes = np.zeros((letters, words, phones + 1), np.int8)
    for letter in range(letters):
        of_size = np.full((len(scores), words, phones + 1), -np.inf)
        for size, score in enumerate(scores):
            runs = score.shape[2]
            of_size[size, :, phones + 1 - runs :] = best[:, :runs] + score[:, letter]
        sizes[letter], best = of_size.argmax(axis=0), of_size.max(axis=0)
    found = np.zeros((words, letters), int)
    end = np.full(words, phones)
    for letter in reversed(range(letters)):
        found[:, letter] = sizes[letter, np.arange(words), end]
        end -= found[:, letter]
    return found


class LetterContext:
    """Tells the phones of each letter from the letters around it, by a decision tree (CART) for each letter.

    A tree asks which letter stands at which place, and grows until its leaves are pure. Of a word's pronunciations the
    first is learnt; words that can't be aligned are left out. On validation words of CMUdict leaves of two words, all
    pronunciations instead of the first and logistic regression instead of trees did worse.

    Args:
        words: to learn from.
        seed: of the choice among questions that are equally good.

    Attributes:
        align: `Alignment.align` of the words.
        parameters: nodes of all trees.
        settings: in words.
        seconds: that the fit took.
    """

    def __init__(self, words: Words, seed: int):
        began = time.perf_counter()
        pronunciations = [alternates[0] for alternates in words.pronunciations]
        alignment = Alignment(words.spellings, pronunciations)
        self.align = alignment.align
        found = zip(words.spellings, self.align(words.spellings, pronunciations), strict=True)
        aligned = [(word, chunks) for word, chunks in found if chunks is not None]
        self._code = {letter: code for code, letter in enumerate(alignment.letters, 1)}
        self._chunks = sorted({chunk for _, chunks in aligned for chunk in chunks})
        number = {chunk: index for index, chunk in enumerate(self._chunks)}
        said = np.array([number[chunk] for _, chunks in aligned for chunk in chunks], int)
        windows = self._windows([word for word, _ in aligned])
        self._trees: dict[int, Pipeline] = {}
        for letter in np.unique(windows[:, CONTEXT]).tolist():
            rows = windows[:, CONTEXT] == letter
            # Yes or no for each letter at each place: of numbers, a tree would ask which is the larger.
            places = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)  # pyright: ignore[reportArgumentType]
            tree = make_pipeline(places, DecisionTreeClassifier(random_state=seed))
            with warnings.catch_warnings():
                # A rare letter may have as many ways to be said as occurrences.
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
                self._trees[letter] = tree.fit(windows[rows], said[rows])
        self.parameters = sum(int(tree[-1].tree_.node_count) for tree in self._trees.values())
        self.settings = f"trees over ±{CONTEXT} letters"
        self.seconds = time.perf_counter() - began

    def _windows(self, spellings: Sequence[str]) -> np.ndarray:
        """Codes of each letter and those around it, (letters, 2 CONTEXT + 1); 0 is outside, -1 an unknown letter."""
        codes = [0] * CONTEXT
        places = []
        for word in spellings:
            places += range(len(codes), len(codes) + len(word))
            codes += [self._code.get(letter, -1) for letter in word] + [0] * CONTEXT
        return np.array(codes)[np.array(places, int)[:, None] + np.arange(-CONTEXT, CONTEXT + 1)]

    def predict(self, spellings: Sequence[str]) -> list[Phones]:
        """Tell the phones of words; a letter that was in no word to learn from has none."""
        windows = self._windows(spellings)
        said = np.full(len(windows), -1)
        for letter in np.unique(windows[:, CONTEXT]).tolist():
            rows = windows[:, CONTEXT] == letter
            if letter in self._trees:
                said[rows] = self._trees[letter].predict(windows[rows])
        chunks = iter([self._chunks[index] if index >= 0 else () for index in said.tolist()])
        return [tuple(phone for _ in word for phone in next(chunks)) for word in spellings]

"""The baseline of pronunciation models: each letter's phones, predicted from the letters around it.

Classical letter-to-sound rules (Black, Lenzo and Pagel 1998, Issues in Building General Letter to Sound Rules): the
letters and phones of the training words are aligned, so that each letter has no, one or two phones, like the silent e,
the k and the x in English; then a decision tree for each letter predicts these phones from the letters around it. Of
the paper's two alignment methods, this is the one with counts over all alignments ("epsilon scattering"), as
expectation-maximisation, instead of a list of the possible phones of each letter.
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

CONTEXT = 4  # letters on each side; 5 are worse on validation words
ROUNDS = 5  # of expectation-maximisation; more don't help
FEWEST_PHONES, MOST_PHONES = 2, 5  # range of the maximum number of phones per letter
ALIGNED = 0.99  # share of the words that must be alignable with this maximum
_FIRST = (0.2, 0.75, 0.05)  # initial probabilities of no, one and more phones
_UNSEEN = 1e-9  # probability, per phone, of phones that a letter never had
_LATER = 1e-7  # penalty of a phone for each letter before its own

Phones = tuple[str, ...]


class Alignment:
    """Assigns the phones of a word to its letters, by expectation-maximisation (Dempster et al. 1977).

    The phones of a word are those of its letters in order. The phones of a letter depend only on the letter. Initially,
    all phones are equally probable.

    Args:
        spellings: the letters of each word.
        pronunciations: the phones of each word.

    Attributes:
        most: maximum number of phones of a letter: 2, or up to 5 if fewer than 99 % of the words can be aligned.
        letters: all letters that occur, sorted.
    """

    def __init__(self, spellings: Sequence[str], pronunciations: Sequence[Phones]):
        ratios = [-(-len(phones) // len(word)) for word, phones in zip(spellings, pronunciations, strict=True) if word]
        needed = int(np.quantile(ratios, ALIGNED, method="higher")) if ratios else 0
        self.most = min(max(needed, FEWEST_PHONES), MOST_PHONES)
        self.letters = sorted(set("".join(spellings)))
        self._letter = {letter: code for code, letter in enumerate(self.letters)}
        self._phone = {phone: code for code, phone in enumerate(sorted({p for of in pronunciations for p in of}))}
        # Where the keys of a letter with no phone, one, two … begin, and at the end their number per letter.
        base = len(self._phone) + 1  # with the unknown phone
        self._first = np.concatenate([[0], np.cumsum([base**size for size in range(self.most + 1)])])
        blocks = [self._keys(*codes) for _, *codes in self._blocks(spellings, pronunciations)]
        self._known = np.unique(np.concatenate([np.zeros(1, int), *(np.unique(k) for of in blocks for k in of)]))
        self._probability = self._maximised([[np.searchsorted(self._known, k) for k in of] for of in blocks])

    def _blocks(
        self, spellings: Sequence[str], pronunciations: Sequence[Phones]
    ) -> list[tuple[list[int], np.ndarray, np.ndarray]]:
        """The words that can be aligned, grouped by their numbers of letters and phones.

        Returns:
            The indices of the words, their letters (words, letters) and their phones (words, phones) as codes.
        """
        rows = collections.defaultdict(list)
        for row, (word, phones) in enumerate(zip(spellings, pronunciations, strict=True)):
            if word and len(phones) <= self.most * len(word):
                rows[len(word), len(phones)].append(row)
        blocks = []
        for (letters, phones), members in sorted(rows.items()):
            letter_codes = [self._letter.get(letter, len(self._letter)) for row in members for letter in spellings[row]]
            phone_codes = [self._phone.get(phone, len(self._phone)) for row in members for phone in pronunciations[row]]
            shapes = (len(members), letters), (len(members), phones)
            blocks.append((members, np.reshape(letter_codes, shapes[0]), np.array(phone_codes, int).reshape(shapes[1])))
        return blocks

    def _keys(self, letters: np.ndarray, phones: np.ndarray) -> list[np.ndarray]:
        """For no phone, one, two …, the keys of each letter with each run of phones, (words, letters, runs)."""
        base = len(self._phone) + 1
        runs = np.zeros((len(phones), phones.shape[1] + 1), int)
        keys = []
        for size in range(self.most + 1):
            if size:
                ends = phones[:, size - 1 :]
                runs = runs[:, : ends.shape[1]] * base + ends
            keys.append(letters[:, :, None] * self._first[-1] + self._first[size] + runs[:, None, :])
        return keys

    def _maximised(self, blocks: list[list[np.ndarray]]) -> np.ndarray:
        """The probability of each known key given its letter, from blocks of indices of keys."""
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
            # A letter may occur in no word that can be aligned.
            probability = counts / np.maximum(np.bincount(letter, counts), 1e-9)[letter]
        return probability

    def align(self, spellings: Sequence[str], pronunciations: Sequence[Phones]) -> list[tuple[Phones, ...] | None]:
        """Assign phones to letters in the most probable way.

        Args:
            spellings: the letters of each word; they may include unknown ones.
            pronunciations: the phones of each word, possibly none.

        Returns:
            For each word, the phones of each of its letters; None if it has no letter, or more phones than its letters
            may have.
        """
        aligned: list[tuple[Phones, ...] | None] = [None] * len(spellings)
        for rows, letters, phones in self._blocks(spellings, pronunciations):
            scores = []
            for size, keys in enumerate(self._keys(letters, phones)):
                place = np.searchsorted(self._known[:-1], keys)
                seen = np.where(self._known[place] == keys, self._probability[place], 0)
                # If either l of "ll" may have the phone, it's always the first one.
                later = _LATER * size * np.arange(letters.shape[1])
                scores.append(np.log(np.maximum(seen, _UNSEEN ** max(size, 1))) - later[:, None])
            ends = np.cumsum(_best(scores), axis=1)
            for row, of_word in zip(rows, ends.tolist(), strict=True):
                of_row = pronunciations[row]
                aligned[row] = tuple(tuple(of_row[a:b]) for a, b in itertools.pairwise([0, *of_word]))
        return aligned


def _expected(scores: list[np.ndarray]) -> list[np.ndarray]:
    """The posterior probability that each letter has each run of phones, by the forward-backward algorithm.

    Args:
        scores: for no phone, one, two …, the log probabilities that the letter has the run, (words, letters, runs).

    Returns:
        For no phone, one, two …, (words, letters, runs), given all phones of the word; they sum to 1 for each letter.
    """
    words, letters, phones = *scores[0].shape[:2], scores[0].shape[2] - 1
    # Log probabilities that the letters before each one have the first phones, and that the others have the rest.
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
        for score, posterior in zip(scores, expected, strict=True):
            runs = score.shape[2]
            rest = backward[:, phones + 1 - runs :] + score[:, letter]
            np.logaddexp(before[:, :runs], rest, out=before[:, :runs])
            posterior[:, letter] = np.exp(forward[letter, :, :runs] + rest - forward[-1, :, -1:])
        backward = before
    return expected


def _best(scores: list[np.ndarray]) -> np.ndarray:
    """The number of phones of each letter, (words, letters), in the alignment with the highest score (Viterbi 1967).

    Args:
        scores: for no phone, one, two …, of a letter with the run, (words, letters, runs).
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
    counts = np.zeros((words, letters), int)
    end = np.full(words, phones)
    for letter in reversed(range(letters)):
        counts[:, letter] = sizes[letter, np.arange(words), end]
        end -= counts[:, letter]
    return counts


class LetterContext:
    """Predicts the phones of each letter from the letters around it, with a decision tree (CART) for each letter.

    Splits test for a letter at a position, and trees grow until their leaves are pure. Only the first pronunciation of
    a word is learnt; words that can't be aligned are left out. On validation words of CMUdict, leaves of two words, all
    pronunciations, and logistic regression instead of trees were worse.

    Args:
        words: to learn from.
        seed: chooses among equally good splits.

    Attributes:
        align: `Alignment.align` of the words.
        parameters: nodes of all trees.
        settings: in words.
        seconds: time of the fit.
    """

    def __init__(self, words: Words, seed: int):
        began = time.perf_counter()
        pronunciations = [alternates[0] for alternates in words.pronunciations]
        alignment = Alignment(words.spellings, pronunciations)
        self.align = alignment.align
        pairs = zip(words.spellings, self.align(words.spellings, pronunciations), strict=True)
        aligned = [(word, chunks) for word, chunks in pairs if chunks is not None]
        self._code = {letter: code for code, letter in enumerate(alignment.letters, 1)}
        self._chunks = sorted({chunk for _, chunks in aligned for chunk in chunks})
        number = {chunk: index for index, chunk in enumerate(self._chunks)}
        targets = np.array([number[chunk] for _, chunks in aligned for chunk in chunks], int)
        windows = self._windows([word for word, _ in aligned])
        self._trees: dict[int, Pipeline] = {}
        for letter in np.unique(windows[:, CONTEXT]).tolist():
            rows = windows[:, CONTEXT] == letter
            # One-hot, as a tree would compare codes by size.
            places = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)  # pyright: ignore[reportArgumentType]
            tree = make_pipeline(places, DecisionTreeClassifier(random_state=seed))
            with warnings.catch_warnings():
                # A rare letter may have different phones at each occurrence.
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
                self._trees[letter] = tree.fit(windows[rows], targets[rows])
        self.parameters = sum(int(tree[-1].tree_.node_count) for tree in self._trees.values())
        self.settings = f"trees over ±{CONTEXT} letters"
        self.seconds = time.perf_counter() - began

    def _windows(self, spellings: Sequence[str]) -> np.ndarray:
        """Codes of each letter and its neighbours, (letters, 2 CONTEXT + 1); 0 is outside, -1 an unknown letter."""
        codes = [0] * CONTEXT
        places = []
        for word in spellings:
            places += range(len(codes), len(codes) + len(word))
            codes += [self._code.get(letter, -1) for letter in word] + [0] * CONTEXT
        return np.array(codes)[np.array(places, int)[:, None] + np.arange(-CONTEXT, CONTEXT + 1)]

    def predict(self, spellings: Sequence[str]) -> list[Phones]:
        """Predict the phones of words; an unknown letter has none."""
        windows = self._windows(spellings)
        predicted = np.full(len(windows), -1)
        for letter in np.unique(windows[:, CONTEXT]).tolist():
            rows = windows[:, CONTEXT] == letter
            if letter in self._trees:
                predicted[rows] = self._trees[letter].predict(windows[rows])
        chunks = iter([self._chunks[index] if index >= 0 else () for index in predicted.tolist()])
        return [tuple(phone for _ in word for phone in next(chunks)) for word in spellings]

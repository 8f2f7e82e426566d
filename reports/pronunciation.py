"""Measures of predicted pronunciations, for a bootstrap over words.

If a dictionary lists several pronunciations of a word, any of them is right, and a wrong prediction is compared with
the nearest of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from reports.metrics import Difference, Measure, bootstrap, differences, mean, over_seeds

MEASURES = ("word_error_rate", "phone_error_rate")
FIFTHS = ("most usual", "usual", "middle", "unusual", "most unusual")  # of words by their spelling

Phones = Sequence[str]
Chunks = Sequence[Phones]  # the phones of each letter of a word


class Pronunciation:
    """Predicted and listed pronunciations of words, whose measures can be computed for many weights.

    In all measures, `weights` (words,), not all 0, say how often each word counts, by default once.

    Args:
        found: the predicted phones of each word, possibly none.
        alternates: the listed pronunciations of each word, one or more, in the order of the dictionary.

    Attributes:
        found: (words,), as given.
        nearest: (words,), the listed pronunciation with the fewest edits, the first of several.
        wrong: (words,) bool, whether the prediction is not a listed pronunciation.
        edits: (words,), substitutions, insertions and deletions (Levenshtein 1966) from the prediction to the nearest.

    Raises:
        ValueError: There is no word, the numbers differ, or a word has no listed pronunciation or an empty one.
    """

    def __init__(self, found: Sequence[Phones], alternates: Sequence[Sequence[Phones]]):
        if len(found) != len(alternates) or not len(found):
            raise ValueError(f"{len(found)} found pronunciations for {len(alternates)} words")
        self.found = [tuple(phones) for phones in found]
        self.nearest: list[tuple[str, ...]] = []
        self.edits = np.zeros(len(found), int)
        for index, (predicted, listed) in enumerate(zip(self.found, alternates, strict=True)):
            if not listed or not all(listed):
                raise ValueError(f"word {index}: no listed pronunciation, or one without phones")
            distances = [Levenshtein.distance(predicted, phones) for phones in listed]
            self.edits[index] = min(distances)
            self.nearest.append(tuple(listed[distances.index(min(distances))]))
        self.wrong = self.edits > 0
        self.lengths = np.array([len(phones) for phones in self.nearest])
        self._sums = np.stack([self.wrong, np.ones(len(found)), self.edits, self.lengths]).astype(np.float64)

    def __len__(self) -> int:
        return len(self.found)

    def word_error_rate(self, weights: np.ndarray | None = None) -> float:
        """Share of the words whose prediction is not a listed pronunciation."""
        return self.measures(weights)["word_error_rate"]

    def phone_error_rate(self, weights: np.ndarray | None = None) -> float:
        """Edits to the nearest listed pronunciations, per phone of these; may exceed 1."""
        return self.measures(weights)["phone_error_rate"]

    def measures(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Both measures by name."""
        wrong, words, edits, phones = self._sums.sum(axis=1) if weights is None else self._sums @ weights
        return {"word_error_rate": float(wrong / words), "phone_error_rate": float(edits / phones)}


def compare(
    models: Mapping[str, Sequence[Pronunciation]], pairs: Iterable[tuple[str, str]], *, resamples: int = 500
) -> tuple[dict[str, dict[str, Measure]], list[Difference]]:
    """Both measures of models and differences between models, with intervals from one bootstrap over the same words.

    Args:
        models: the trainings of each model, all on the same words.
        pairs: models to compare, the one expected to be better first.
        resamples: draws of the bootstrap.

    Returns:
        The measures of each model, means over its trainings, see `reports.metrics.over_seeds`; and for each pair, by
        how much the word and the phone error rates of the first are lower.

    Raises:
        ValueError: There is no model, one has no training, or they differ in their number of words.
    """
    pairs = list(pairs)
    numbers = {len(one) for of_model in models.values() for one in of_model}
    if len(numbers) != 1 or not all(models.values()):
        raise ValueError(f"words of the models: {sorted(numbers)}, expected the same of each")

    def statistic(weights: np.ndarray) -> dict[str, Any]:
        means = {model: mean([one.measures(weights) for one in of_model]) for model, of_model in models.items()}
        return {
            "metrics": means,
            "differences": {
                measure: [means[worse][measure] - means[better][measure] for better, worse in pairs]
                for measure in MEASURES
            },
        }

    estimates = bootstrap(statistic, numbers.pop(), resamples=resamples)
    results = {
        model: over_seeds([one.measures() for one in of_model], estimates["metrics"][model])
        for model, of_model in models.items()
    }
    return results, [
        difference
        for measure, gaps in estimates["differences"].items()
        for difference in differences(pairs, measure, gaps)
    ]


# --- Where the errors are ---


def _ratios(names: Sequence[str], above: np.ndarray, below: np.ndarray) -> Callable[[np.ndarray], dict[str, float]]:
    """Ratios of weighted sums, both (names, words), as a statistic for `bootstrap`; NaN without weight."""
    sums = np.concatenate([above, below]).astype(np.float64)

    def statistic(weights: np.ndarray) -> dict[str, float]:
        upper, lower = np.split(sums @ weights, 2)
        ratios = np.divide(upper, lower, out=np.full(len(upper), np.nan), where=lower > 0)
        return dict(zip(names, ratios.tolist(), strict=True))

    return statistic


def by_group(
    trainings: Sequence[Pronunciation], groups: Mapping[str, np.ndarray], *, resamples: int = 500
) -> dict[str, dict[str, Any]]:
    """Error rates of groups of words, such as those of a length, with intervals from a bootstrap over words.

    Args:
        trainings: one or more of one model on the same words. Their errors are added.
        groups: the words of each group, (words,) bool. Groups may overlap.
        resamples: draws of the bootstrap.

    Returns:
        For each group, its number of "words", and both measures with their intervals.

    Raises:
        ValueError: There is no training or group, numbers of words differ, or a group has no word.
    """
    members = np.array(list(groups.values()), bool)
    if not trainings or members.ndim != 2 or any(len(one) != members.shape[1] for one in trainings):
        raise ValueError(f"trainings of {[len(one) for one in trainings]} words, groups of shape {members.shape}")
    if not members.any(axis=1).all():
        raise ValueError(f"groups: no word in {list(groups)[int(np.argmin(members.any(axis=1)))]!r}")
    wrong, edits, phones = (
        np.sum([getattr(one, name) for one in trainings], axis=0) for name in ("wrong", "edits", "lengths")
    )
    statistics = {
        "word_error_rate": _ratios(list(groups), members * wrong, members * len(trainings)),
        "phone_error_rate": _ratios(list(groups), members * edits, members * phones),
    }
    estimates = bootstrap(
        lambda weights: {measure: statistic(weights) for measure, statistic in statistics.items()},
        members.shape[1],
        resamples=resamples,
    )
    return {
        group: {"words": int(of_group.sum())} | {measure: estimates[measure][group] for measure in MEASURES}
        for group, of_group in zip(groups, members, strict=True)
    }


def lengths(spellings: Sequence[str], *, fewest: int = 30) -> dict[str, np.ndarray]:
    """Words grouped by their number of letters, for `by_group`.

    Args:
        spellings: (words,), one or more.
        fewest: minimum number of words in the first and the last group, which combine the shortest and longest words.

    Returns:
        The words, (words,) bool, of the two ends, such as "3 or fewer" and "14 or more", and of each length in between.
    """
    letters = np.array([len(spelling) for spelling in spellings])
    ordered = np.sort(letters)
    shortest, longest = ordered[min(fewest, len(letters)) - 1], ordered[-min(fewest, len(letters))]
    if shortest >= longest:
        return {" to ".join(map(str, np.unique(ordered[[0, -1]]))): np.ones(len(letters), bool)}
    clipped = letters.clip(shortest, longest)
    fewer, more = (" or fewer" if ordered[0] < shortest else ""), (" or more" if ordered[-1] > longest else "")
    names = {shortest: f"{shortest}{fewer}", longest: f"{longest}{more}"}
    return {names.get(length, f"{length}"): clipped == length for length in np.unique(clipped)}


def fifths(surprise: np.ndarray) -> dict[str, np.ndarray]:
    """Words in five equally large groups by how unusual their spelling is, for `by_group`.

    Args:
        surprise: (words,), such as the mean bits of a word's letters under a letter model of the training words.

    Returns:
        The words, (words,) bool, of each of `FIFTHS` that isn't empty, from low to high surprise; ties in order.
    """
    rank = np.empty(len(surprise), int)
    rank[np.argsort(surprise, kind="stable")] = np.arange(len(surprise))
    group = rank * len(FIFTHS) // max(len(rank), 1)
    return {name: group == index for index, name in enumerate(FIFTHS) if (group == index).any()}


def by_letter(
    spellings: Sequence[str],
    trainings: Sequence[tuple[Sequence[Chunks | None], Sequence[Chunks | None]]],
    *,
    resamples: int = 500,
) -> dict[str, dict[str, Any]]:
    """How often each letter was mispronounced, with intervals from a bootstrap over words.

    A letter is mispronounced if its phones in the prediction differ from those in the nearest listed pronunciation. The
    same alignment assigns phones to letters in both; a silent letter has none.

    Args:
        spellings: (words,).
        trainings: for each training of one model, the letters' phones in predicted and in listed pronunciations of each
            word; None for words that can't be aligned, which are left out.
        resamples: draws of the bootstrap.

    Returns:
        For each letter, in descending order of the error rate: "letters", how often it occurs in aligned words;
        "wrong", how often it was mispronounced there; the error rate as "value", with "low" and "high". Both counts are
        means over the trainings.

    Raises:
        ValueError: There is no training, no word is aligned, or an alignment has other words or letters.
    """
    letters = {letter: index for index, letter in enumerate(sorted(set("".join(spellings))))}
    total, wrong = np.zeros((2, len(letters), len(spellings)))
    for number, (found, listed) in enumerate(trainings):
        if not len(found) == len(listed) == len(spellings):
            raise ValueError(f"training {number}: {len(found)} and {len(listed)} aligned words of {len(spellings)}")
        for word, (spelling, predicted, target) in enumerate(zip(spellings, found, listed, strict=True)):
            if predicted is None or target is None:
                continue
            if not len(predicted) == len(target) == len(spelling):
                sizes = f"{len(predicted)} and {len(target)}"
                raise ValueError(f"word {word}: phones of {sizes} letters, found {spelling!r}")
            for letter, own, true in zip(spelling, predicted, target, strict=True):
                total[letters[letter], word] += 1
                wrong[letters[letter], word] += tuple(own) != tuple(true)
    if not total.any():
        raise ValueError(f"no aligned word in {len(trainings)} trainings")
    seen = np.flatnonzero(total.any(axis=1))
    total, wrong = total[seen], wrong[seen]
    names = np.array(list(letters))[seen].tolist()
    estimates = bootstrap(_ratios(names, wrong, total), len(spellings), resamples=resamples)
    counts = {
        name: {"letters": float(total[row].sum() / len(trainings)), "wrong": float(wrong[row].sum() / len(trainings))}
        for row, name in enumerate(names)
    }
    return {name: counts[name] | estimates[name] for name in sorted(names, key=lambda name: -estimates[name]["value"])}


def confusions(found: Sequence[Phones], listed: Sequence[Phones], phones: Sequence[str]) -> np.ndarray:
    """Counts of phone confusions, deletions and insertions.

    They are those of an alignment with the fewest edits (Levenshtein 1966); if there are several, of one of them.

    Args:
        found: (words,), predicted pronunciations.
        listed: (words,), such as `Pronunciation.nearest`.
        phones: (phones,), all that occur.

    Returns:
        (phones + 1, phones + 1), integers. Rows are listed phones, columns predicted ones; the last row counts
        insertions, the last column deletions.

    Raises:
        ValueError: The numbers of words differ, or a phone is not one of `phones`.
    """
    if len(found) != len(listed):
        raise ValueError(f"{len(found)} found and {len(listed)} listed pronunciations")
    code = {phone: index for index, phone in enumerate(phones)}
    unknown = {phone for of_word in (*found, *listed) for phone in of_word} - set(code)
    if unknown:
        raise ValueError(f"phones: {sorted(unknown)} are not among the {len(code)} given")
    nothing = len(code)
    rows: list[int] = []
    columns: list[int] = []
    for predicted, target in zip(found, listed, strict=True):
        own, true = [code[phone] for phone in predicted], [code[phone] for phone in target]
        for part in Levenshtein.opcodes(true, own):
            before, after = true[part.src_start : part.src_end], own[part.dest_start : part.dest_end]
            rows += before or [nothing] * len(after)
            columns += after or [nothing] * len(before)
    counts = np.zeros((nothing + 1, nothing + 1), int)
    np.add.at(counts, (rows, columns), 1)
    return counts


def most_confident_errors(wrong: np.ndarray, log_probability: np.ndarray, most: int = 10) -> list[int]:
    """Indices of the most confident errors, at most `most`, in descending order of confidence.

    Args:
        wrong: (words,) bool.
        log_probability: (words,), of the predictions.
        most: maximum number of errors.

    Raises:
        ValueError: The lengths differ.
    """
    wrong, log_probability = np.asarray(wrong, bool), np.asarray(log_probability)
    if wrong.shape != log_probability.shape:
        raise ValueError(f"{wrong.shape} words with {log_probability.shape} log probabilities")
    order = np.argsort(-log_probability, kind="stable")
    return order[wrong[order]][:most].tolist()

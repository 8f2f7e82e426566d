"""Measures of the pronunciations that a model finds for words, and their bootstrap.

What a bootstrap draws are whole words. A dictionary may list several pronunciations of a word: any of them is right,
and a wrong one is compared with the nearest of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from reports.metrics import Difference, Measure, bootstrap, differences, mean, over_seeds

MEASURES = ("word_error_rate", "phone_error_rate")
FIFTHS = ("most usual", "usual", "middle", "unusual", "most unusual")  # of words by their spelling

Phones = Sequence[str]
Chunks = Sequence[Phones]  # of one word: the phones of each of its letters


class Pronunciation:
    """Words with the phones that a model found, compared with the dictionary once and weighted again and again.

    In all measures `weights` (words,) say how often each word counts, by default once; some are above 0.

    Args:
        found: of each word the phones that the model said, possibly none.
        alternates: of each word its listed pronunciations, one or more, in the order of the dictionary.

    Attributes:
        found: (words,), as it was given.
        nearest: (words,), of each word the listed pronunciation that takes the fewest edits, the first listed of
            several.
        wrong: (words,) bool, whether the answer is not a listed pronunciation.
        edits: (words,), substitutions, insertions and deletions (Levenshtein 1966) that make the nearest of what was
            found.

    Raises:
        ValueError: if there is no word, the numbers differ, or a word has no listed pronunciation or an empty one.
    """

    def __init__(self, found: Sequence[Phones], alternates: Sequence[Sequence[Phones]]):
        if len(found) != len(alternates) or not len(found):
            raise ValueError(f"{len(found)} found pronunciations for {len(alternates)} words")
        self.found = [tuple(phones) for phones in found]
        self.nearest: list[tuple[str, ...]] = []
        self.edits = np.zeros(len(found), int)
        for index, (said, listed) in enumerate(zip(self.found, alternates, strict=True)):
            if not listed or not all(listed):
                raise ValueError(f"word {index}: no listed pronunciation, or one without phones")
            distances = [Levenshtein.distance(said, phones) for phones in listed]
            self.edits[index] = min(distances)
            self.nearest.append(tuple(listed[distances.index(min(distances))]))
        self.wrong = self.edits > 0
        self.lengths = np.array([len(phones) for phones in self.nearest])
        self._sums = np.stack([self.wrong, np.ones(len(found)), self.edits, self.lengths]).astype(np.float64)

    def __len__(self) -> int:
        return len(self.found)

    def word_error_rate(self, weights: np.ndarray | None = None) -> float:
        """Share of the words for which none of their listed pronunciations was found."""
        return self.measures(weights)["word_error_rate"]

    def phone_error_rate(self, weights: np.ndarray | None = None) -> float:
        """Edits to the nearest listed pronunciations per phone of these; may exceed 1."""
        return self.measures(weights)["phone_error_rate"]

    def measures(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Both of them by name."""
        wrong, words, edits, phones = self._sums.sum(axis=1) if weights is None else self._sums @ weights
        return {"word_error_rate": float(wrong / words), "phone_error_rate": float(edits / phones)}


def compare(
    models: Mapping[str, Sequence[Pronunciation]], pairs: Iterable[tuple[str, str]], *, resamples: int = 500
) -> tuple[dict[str, dict[str, Measure]], list[Difference]]:
    """Both measures of each model and differences of models, with intervals from one bootstrap over the same words.

    Args:
        models: of each model its trainings, all on the same words.
        pairs: models to compare, the one that is expected to be better first.
        resamples: draws of the bootstrap.

    Returns:
        Of each model its metrics as `reports.metrics.over_seeds` gives them, means over the trainings; of each pair
        by how much the first's word and phone error rates are lower, a `reports.metrics.Difference` each.

    Raises:
        ValueError: if there is no model, one has no training, or they differ in their number of words.
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
    """Ratios of weighted sums, both (names, words), as a statistic of `bootstrap`; NaN where nothing has weight."""
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
        trainings: of one model, one or more on the same words. Their errors are counted together.
        groups: of each group its words, (words,) bool. Groups may overlap.
        resamples: draws of the bootstrap.

    Returns:
        Of each group "words", how many there are, and both measures with the ends of their intervals.

    Raises:
        ValueError: if there is no training or group, numbers of words differ, or a group has no word.
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
        fewest: words of the first and the last group, which take in the shortest and the longest words until they have
            so many.

    Returns:
        Of each length in between that occurs, and of the two ends, as "3 or fewer" and "14 or more", its words,
        (words,) bool.
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
            Foreign names are spelled unusually, but unusual is all that this says.

    Returns:
        Of each of `FIFTHS`, from low to high surprise, its words, (words,) bool. Of equally surprising words the first
        come first. A group that no word is left for is not among them.
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
    """How often each letter was read wrongly, with intervals from a bootstrap over words.

    A letter was read wrongly where the phones that it has in what was found are not those that it has in the nearest
    listed pronunciation. Which phones a letter has, an alignment of letters and phones says, made of both in the same
    way; a silent letter has none.

    Args:
        spellings: (words,).
        trainings: of each training of one model the letters' phones, of each word found and of each word listed; None
            where letters and phones can't be aligned: such a word is left out.
        resamples: draws of the bootstrap.

    Returns:
        Of each letter, in order of the error rate from the highest: "letters", how often it occurs in the words that
        were not left out; "wrong", how often of these it was read wrongly; the error rate as "value", with "low" and
        "high". Both counts are means over the trainings.

    Raises:
        ValueError: if there is no training, no word is aligned, or an alignment has other words or letters.
    """
    letters = {letter: index for index, letter in enumerate(sorted(set("".join(spellings))))}
    total, wrong = np.zeros((2, len(letters), len(spellings)))
    for number, (found, listed) in enumerate(trainings):
        if not len(found) == len(listed) == len(spellings):
            raise ValueError(f"training {number}: {len(found)} and {len(listed)} aligned words of {len(spellings)}")
        for word, (spelling, said, meant) in enumerate(zip(spellings, found, listed, strict=True)):
            if said is None or meant is None:
                continue
            if not len(said) == len(meant) == len(spelling):
                raise ValueError(f"word {word}: phones of {len(said)} and {len(meant)} letters, found {spelling!r}")
            for letter, own, true in zip(spelling, said, meant, strict=True):
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
    """How often each phone was found as each phone, was left out or was put in.

    Counts are those of an alignment with the fewest edits (Levenshtein 1966); where a word has several, of one of them.

    Args:
        found: (words,).
        listed: (words,), such as `Pronunciation.nearest`.
        phones: (phones,), all that occur.

    Returns:
        (phones + 1, phones + 1), integers. Rows are the listed phones, columns those found; the last row counts what
        was put in, the last column what was left out. `reports.tagging.most_confused` finds the largest.

    Raises:
        ValueError: if the numbers of words differ, or a phone is not one of `phones`.
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
    for said, meant in zip(found, listed, strict=True):
        own, true = [code[phone] for phone in said], [code[phone] for phone in meant]
        for part in Levenshtein.opcodes(true, own):
            before, after = true[part.src_start : part.src_end], own[part.dest_start : part.dest_end]
            rows += before or [nothing] * len(after)
            columns += after or [nothing] * len(before)
    counts = np.zeros((nothing + 1, nothing + 1), int)
    np.add.at(counts, (rows, columns), 1)
    return counts


def most_confident_errors(wrong: np.ndarray, log_probability: np.ndarray, most: int = 10) -> list[int]:
    """Wrong answers in which the model was most confident, at most `most`, the most confident first.

    Args:
        wrong: (words,) bool.
        log_probability: (words,), of what was found.
        most: how many.

    Raises:
        ValueError: if the lengths differ.
    """
    wrong, log_probability = np.asarray(wrong, bool), np.asarray(log_probability)
    if wrong.shape != log_probability.shape:
        raise ValueError(f"{wrong.shape} words with {log_probability.shape} log probabilities")
    order = np.argsort(-log_probability, kind="stable")
    return order[wrong[order]][:most].tolist()

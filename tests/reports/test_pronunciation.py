import collections

import numpy as np
import pytest

from reports.metrics import bootstrap
from reports.pronunciation import (
    FIFTHS,
    MEASURES,
    Pronunciation,
    by_group,
    by_letter,
    compare,
    confusions,
    fifths,
    lengths,
    most_confident_errors,
)
from reports.tagging import most_confused

PHONES = ("AA", "B", "K", "S", "T")


def words(seed: int, number: int = 60) -> tuple[list[tuple[str, ...]], list[tuple[tuple[str, ...], ...]]]:
    """What was found, and one to three listed pronunciations, one of which it often is or is near to."""
    random = np.random.default_rng(seed)
    found, listed = [], []
    for _ in range(number):
        alternates = []
        for _ in range(random.integers(1, 4)):
            alternates.append(tuple(random.choice(PHONES, random.integers(1, 7)).tolist()))
        said = [phone for phone in alternates[random.integers(len(alternates))] if random.random() < 0.9]
        if random.random() < 0.3:
            said.insert(random.integers(len(said) + 1), str(random.choice(PHONES)))
        found.append(tuple(said))
        listed.append(tuple(alternates))
    return found, listed


def edits(true: tuple[str, ...], found: tuple[str, ...]) -> int:
    """The edit distance by its recurrence, all three operations at cost one."""
    table = np.zeros((len(true) + 1, len(found) + 1), int)
    table[:, 0], table[0] = np.arange(len(true) + 1), np.arange(len(found) + 1)
    for i, a in enumerate(true, 1):
        for j, b in enumerate(found, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
    return int(table[-1, -1])


def test_measures_by_hand():
    found = [("K", "AA", "T"), ("B", "AA"), (), ("S", "T")]
    listed = [
        [("K", "AA", "S"), ("K", "AA", "T")],  # the second is right
        [("B", "AA", "T", "S"), ("B", "AA", "K")],  # 2 edits and 1
        [("K", "T"), ("S",)],  # 2 edits and 1
        [("S", "K", "T"), ("T",), ("S", "T", "AA", "B")],  # 1 edit each of the first two: the first counts
    ]
    one = Pronunciation(found, listed)
    assert one.wrong.tolist() == [False, True, True, True]
    assert one.edits.tolist() == [0, 1, 1, 1]
    assert one.nearest == [("K", "AA", "T"), ("B", "AA", "K"), ("S",), ("S", "K", "T")]
    assert one.word_error_rate() == 3 / 4
    assert one.phone_error_rate() == pytest.approx(3 / (3 + 3 + 1 + 3))
    weights = np.array([4.0, 0, 0, 1])
    assert one.measures(weights) == pytest.approx({"word_error_rate": 1 / 5, "phone_error_rate": 1 / 15})
    assert Pronunciation([("K", "S", "T")], [[("AA",)]]).phone_error_rate() == 3


@pytest.mark.parametrize("seed", range(4))
def test_errors_agree_with_the_recurrence(seed):
    found, listed = words(seed)
    one = Pronunciation(found, listed)
    distances = [[edits(alternate, said) for alternate in of_word] for said, of_word in zip(found, listed, strict=True)]
    assert one.edits.tolist() == [min(of_word) for of_word in distances]
    nearest = [of_word[np.argmin(d)] for of_word, d in zip(listed, distances, strict=True)]
    assert one.nearest == nearest
    assert one.word_error_rate() == np.mean([said not in of_word for said, of_word in zip(found, listed, strict=True)])
    assert one.phone_error_rate() == pytest.approx(one.edits.sum() / sum(map(len, nearest)))
    assert 0.2 < one.word_error_rate() < 0.9


def test_whole_weights_are_repeated_words():
    found, listed = words(5)
    weights = np.random.default_rng(6).integers(0, 4, len(found))
    rows = np.repeat(np.arange(len(found)), weights)
    repeated = Pronunciation([found[row] for row in rows], [listed[row] for row in rows])
    assert Pronunciation(found, listed).measures(weights) == pytest.approx(repeated.measures())


def trainings(seeds: list[int]) -> list[Pronunciation]:
    """Trainings that were measured on the same words."""
    listed = words(7)[1]
    return [Pronunciation([of_word[seed % len(of_word)][seed % 2 :] for of_word in listed], listed) for seed in seeds]


def test_models_are_compared_on_the_same_draws():
    models = {"good": trainings([0, 1, 2]), "bad": trainings([3])}
    results, differences = compare(models, [("good", "bad"), ("bad", "good")], resamples=100)
    assert list(results["good"]) == list(MEASURES)
    for measure in MEASURES:
        entry = results["good"][measure]
        assert entry["seeds"] == [getattr(one, measure)() for one in models["good"]]
        assert entry["value"] == pytest.approx(np.mean(entry["seeds"]))
        assert entry["low"] < entry["value"] < entry["high"]
    for measure in MEASURES:
        one, other = (difference for difference in differences if difference["measure"] == measure)
        assert [(one["better"], one["worse"]), (other["better"], other["worse"])] == [("good", "bad"), ("bad", "good")]
        assert one["value"] == pytest.approx(results["bad"][measure]["value"] - results["good"][measure]["value"])
        assert (other["low"], other["high"]) == pytest.approx((-one["high"], -one["low"]))
    # What both models have wrong is no difference in any draw.
    _, (same, _) = compare({"a": models["good"], "b": models["good"][::-1]}, [("a", "b")], resamples=20)
    assert (same["low"], same["high"]) == pytest.approx((0, 0), abs=1e-12)


def test_unusable_pronunciations_are_refused():
    for found, listed, message in (
        ([], [], "0 found"),
        ([("K",)], [], "1 found pronunciations for 0 words"),
        ([("K",)], [[]], "word 0: no listed"),
        ([("K",), ("K",)], [[("K",)], [("K",), ()]], "word 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Pronunciation(found, listed)


def test_models_on_other_words_are_refused():
    one, other = trainings([0])[0], Pronunciation([("K",)], [[("K",)]])
    for models in ({}, {"a": [one], "b": [other]}, {"a": [one], "b": []}):
        with pytest.raises(ValueError, match="words of the models"):
            compare(models, [])


# Groups


def test_groups_have_the_error_rates_of_their_words():
    of_seeds, listed = trainings([0, 3]), words(7)[1]
    random = np.random.default_rng(8)
    groups = {"some": random.random(len(listed)) < 0.5, "all": np.ones(len(listed), bool)}
    result = by_group(of_seeds, groups, resamples=50)
    rows = np.flatnonzero(groups["some"])
    parts = [Pronunciation([one.found[row] for row in rows], [listed[row] for row in rows]) for one in of_seeds]
    assert result["some"]["words"] == len(rows) < len(listed)
    wrong = np.mean([part.word_error_rate() for part in parts])
    assert result["some"]["word_error_rate"]["value"] == pytest.approx(wrong)
    made, phones = (sum(getattr(part, name).sum() for part in parts) for name in ("edits", "lengths"))
    assert result["some"]["phone_error_rate"]["value"] == pytest.approx(made / phones)
    # The interval is that of all words, drawn in the same way.
    alone = bootstrap(lambda w: float(np.mean([one.word_error_rate(w) for one in of_seeds])), 60, resamples=50)
    assert result["all"]["word_error_rate"] == pytest.approx(alone)


def test_unusable_groups_are_refused():
    of_seeds = trainings([0])
    everyone = np.ones(60, bool)
    for given, groups, message in (
        (of_seeds, {}, "groups of shape"),
        ([], {"a": everyone}, "trainings of"),
        (of_seeds, {"a": everyone[1:]}, "groups of shape"),
        (of_seeds, {"a": everyone, "b": ~everyone}, "no word in 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            by_group(given, groups)


def test_lengths_are_pooled_at_the_ends():
    spellings = [
        "a" * length for length, number in ((1, 2), (2, 1), (3, 9), (5, 8), (6, 4), (9, 1)) for _ in range(number)
    ]
    counts = {name: int(group.sum()) for name, group in lengths(spellings, fewest=4).items()}
    assert counts == {"3 or fewer": 12, "5": 8, "6 or more": 5}
    counts = {name: int(group.sum()) for name, group in lengths(spellings, fewest=1).items()}
    assert counts == {"1": 2, "2": 1, "3": 9, "5": 8, "6": 4, "9": 1}
    assert {name: group.tolist() for name, group in lengths(["ab", "c"]).items()} == {"1 to 2": [True, True]}
    assert list(lengths(["ab", "cd"])) == ["2"]


def test_fifths_are_equally_large_and_in_order():
    surprise = np.random.default_rng(9).permutation(23) / 4
    groups = fifths(surprise)
    assert tuple(groups) == FIFTHS
    assert sum(groups.values()).tolist() == [1] * 23  # each word in one
    assert {int(group.sum()) for group in groups.values()} == {4, 5}
    ends = [(surprise[group].min(), surprise[group].max()) for group in groups.values()]
    assert ends == sorted(ends)
    assert np.diff(np.ravel(ends)).min() > 0
    tied = fifths(np.repeat([3.0, 1.0, 2.0], 50))
    assert [np.flatnonzero(group)[0] for group in tied.values()] == [50, 80, 110, 0, 20]
    assert list(fifths(np.array([2.0, 1.0]))) == [FIFTHS[0], FIFTHS[2]]


def test_letters_by_hand():
    spellings = ["abba", "ac", "cab", "x"]
    listed = [(("AA",), ("B",), (), ()), (("AA",), ("K",)), (("K",), ("AA",), ("B",)), None]
    first = [(("AA",), ("B",), (), ("AA",)), (("AA",), ("S",)), (("K", "S"), ("AA",), ("B",)), (("K",),)]
    second = [None, (("AA",), ("K",)), (("K",), (), ("B",)), None]
    result = by_letter(spellings, [(first, listed), (second, listed)], resamples=40)
    assert {letter: (entry["letters"], entry["wrong"]) for letter, entry in result.items()} == {
        "c": (2, 1),
        "a": (3, 1),
        "b": (2, 0),
    }
    assert list(result) == ["c", "a", "b"]  # x was never aligned
    assert result["a"]["value"] == pytest.approx(2 / 6)
    assert result["a"]["low"] <= 2 / 6 <= result["a"]["high"]
    assert (result["b"]["low"], result["b"]["high"]) == (0, 0)


def test_the_interval_of_a_letter_is_that_of_drawing_words():
    random = np.random.default_rng(10)
    spellings = ["".join(random.choice(list("aab"), random.integers(1, 6))) for _ in range(40)]
    listed = [tuple((letter,) for letter in spelling) for spelling in spellings]
    found = [tuple(chunk if random.random() < 0.7 else () for chunk in of_word) for of_word in listed]
    lost = [
        [letter for letter, own in zip(*of_word, strict=True) if not own]
        for of_word in zip(spellings, found, strict=True)
    ]
    wrong = [of_word.count("a") for of_word in lost]
    total = [spelling.count("a") for spelling in spellings]
    expected = bootstrap(lambda w: float(w @ wrong / (w @ total)), 40, resamples=60)
    result = by_letter(spellings, [(found, listed)], resamples=60)["a"]
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert (result["letters"], result["wrong"]) == (sum(total), sum(wrong))


def test_unusable_alignments_are_refused():
    aligned = [(("K",), ("AA",))]
    for pairs, message in (
        ([], "no aligned word in 0"),
        ([([None], aligned)], "no aligned word in 1"),
        ([(aligned, [*aligned, None])], "1 and 2 aligned words of 1"),
        ([(aligned, [(("K", "AA"),)])], "word 0: phones of 2 and 1 letters, found 'ka'"),
    ):
        with pytest.raises(ValueError, match=message):
            by_letter(["ka"], pairs)


# Confusions


def test_confusions_by_hand():
    found = [("K", "AA", "T"), ("B", "T"), ("S", "AA", "T", "S"), ("B", "K", "K", "T"), ("T",)]
    listed = [("K", "AA", "S"), ("B", "AA", "T"), ("AA", "T", "S"), ("B", "T"), ("B", "B", "T")]
    counts = confusions(found, listed, PHONES)
    # Rows and columns are AA, B, K, S, T, nothing: S for T, AA left out, S put in, two K put in, two B left out.
    assert most_confused(counts) == [(1, 5, 2), (5, 2, 2), (0, 5, 1), (3, 4, 1), (5, 3, 1)]
    assert counts.diagonal().tolist() == [2, 2, 1, 1, 4, 0]


@pytest.mark.parametrize("seed", range(4))
def test_confusions_add_up_to_the_phones_and_the_edits(seed):
    one = Pronunciation(*words(seed))
    counts = confusions(one.found, one.nearest, PHONES)
    for axis, sequences in ((1, one.nearest), (0, one.found)):
        number = collections.Counter(phone for of_word in sequences for phone in of_word)
        assert counts.sum(axis=axis)[:-1].tolist() == [number[phone] for phone in PHONES]
    assert counts.sum() - counts.trace() == one.edits.sum() > 0


def test_unusable_confusions_are_refused():
    with pytest.raises(ValueError, match=r"phones: \['D'\] are not among the 5"):
        confusions([("D",)], [("K",)], PHONES)
    with pytest.raises(ValueError, match="0 found and 1 listed"):
        confusions([], [("K",)], PHONES)


def test_the_surest_errors_come_first():
    wrong = np.array([True, False, True, True, False])
    log_probability = np.array([-2.0, -0.1, -0.5, -0.5, -3.0])
    assert most_confident_errors(wrong, log_probability) == [2, 3, 0]
    assert most_confident_errors(wrong, log_probability, 1) == [2]
    assert most_confident_errors(np.ones(150, bool), np.repeat([-3.0, -1.0, -2.0], 50), 60) == list(range(50, 110))
    with pytest.raises(ValueError, match="log probabilities"):
        most_confident_errors(wrong, log_probability[1:])

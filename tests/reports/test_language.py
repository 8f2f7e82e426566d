import itertools
import math

import numpy as np
import pytest

from reports import language
from reports.language import Prediction, bits_by_position, compare, copied_runs, excerpts, hardest, measure_samples

RANDOM = np.random.default_rng(7)
BLOCK = np.repeat(np.arange(6), [40, 10, 25, 30, 5, 40])
CHARACTERS = 2 * np.bincount(BLOCK)
SIZE = 3 * CHARACTERS


def prediction(seed: int, scale: float) -> Prediction:
    random = np.random.default_rng(seed)
    return Prediction(random.exponential(scale, len(BLOCK)), random.random(len(BLOCK)) < 0.6, BLOCK, CHARACTERS, SIZE)


def test_measures_by_hand():
    one = Prediction(
        np.array([1.0, 3.0, 2.0]),
        np.array([True, False, True]),
        np.array([0, 0, 1]),
        np.array([4, 1]),
        np.array([4, 3]),
    )
    assert one.bits_per_character() == pytest.approx(6 / 5)
    assert one.bits_per_byte() == pytest.approx(6 / 7)
    assert one.perplexity() == pytest.approx(4)
    assert one.accuracy() == pytest.approx(2 / 3)
    assert one.block_bits.tolist() == [1, 2]
    weights = np.array([1, 3])
    assert list(one.measures(weights).values()) == pytest.approx([10 / 7, 10 / 13, 2.0 ** (10 / 5), 4 / 5])


def test_weights_are_as_good_as_repeated_blocks():
    bits, hits, weights = (
        RANDOM.exponential(2, len(BLOCK)),
        RANDOM.random(len(BLOCK)) < 0.5,
        np.array([2, 0, 1, 3, 0, 1]),
    )
    found = Prediction(bits, hits, BLOCK, CHARACTERS, SIZE).measures(weights)
    drawn = np.repeat(np.arange(6), weights)
    rows = [np.flatnonzero(block == BLOCK) for block in drawn]
    block = np.repeat(np.arange(len(drawn)), [len(row) for row in rows])
    rows = np.concatenate(rows)
    repeated = Prediction(bits[rows], hits[rows], block, CHARACTERS[drawn], SIZE[drawn])
    assert found == pytest.approx(repeated.measures())


def test_models_are_compared_on_the_same_draws():
    predictions = {"good": [prediction(0, 1.0), prediction(1, 1.0)], "bad": [prediction(2, 1.5)]}
    results, differences = compare(predictions, [("good", "bad"), ("bad", "good")], resamples=100)
    assert list(results["good"]) == list(language.MEASURES)
    entry = results["good"]["bits_per_character"]
    assert entry["seeds"] == [one.bits_per_character() for one in predictions["good"]]
    assert entry["value"] == pytest.approx(np.mean(entry["seeds"]))
    assert entry["low"] < entry["value"] < entry["high"]
    first, second = differences
    assert (first["better"], first["worse"]) == ("good", "bad")
    assert first["value"] == pytest.approx(results["bad"]["bits_per_character"]["value"] - entry["value"])
    assert first["value"] > 0
    assert (second["low"], second["high"]) == pytest.approx((-first["high"], -first["low"]))


@pytest.mark.parametrize(
    ("bits", "hits", "block", "characters", "message"),
    [
        ([1.0], [True, False], [0], [1], "bits"),
        ([np.nan], [True], [0], [1], "negative or not finite"),
        ([-1.0], [True], [0], [1], "negative or not finite"),
        ([1.0], [True], [1], [1], "block: expected codes from 0 to 0"),
        ([1.0], [True], [-1], [1], "block"),
        ([1.0], [True], [1], [1, 1], "block"),
        ([1.0], [True], [0], [0], "block"),
        ([], [], np.zeros(0, int), [], "block"),
    ],
)
def test_unusable_predictions_are_refused(bits, hits, block, characters, message):
    with pytest.raises(ValueError, match=message):
        Prediction(np.array(bits), np.array(hits), np.array(block), np.array(characters), np.array(characters))


def test_models_on_other_blocks_are_refused():
    other = Prediction(np.ones(1), np.ones(1, bool), np.zeros(1, int), np.ones(1), np.ones(1))
    for predictions in ({}, {"a": [prediction(0, 1)], "b": [other]}, {"a": [prediction(0, 1)], "b": []}):
        with pytest.raises(ValueError, match="blocks of the models"):
            compare(predictions, [])


def test_bits_are_averaged_by_position():
    position = np.concatenate([np.arange(count) for count in np.bincount(BLOCK)])
    bits = 10.0 / (1 + position) + RANDOM.random(len(BLOCK))
    points = bits_by_position(bits, position, BLOCK, [0, 1, 4, 16, 100], resamples=50)
    assert len(points) == 4  # nothing is that far in
    groups = [position < 1, (position >= 1) & (position < 4), (position >= 4) & (position < 16), position >= 16]
    for (place, value, low, high), group in zip(points, groups, strict=True):
        assert place == pytest.approx(position[group].mean())
        assert value == pytest.approx(bits[group].mean())
        assert low < value < high
    for edges in ([], [1, 5], [0, 5, 5]):
        with pytest.raises(ValueError, match="edges"):
            bits_by_position(bits, position, BLOCK, edges)


def test_hardest_passages_are_those_of_a_search_through_all():
    bits, starts, length = RANDOM.exponential(1, 200), np.array([0, 30, 37, 90]), 10
    found = hardest(bits, starts, length, 100)
    ends = [*starts[1:], 200]
    free = [first for start, end in zip(starts, ends, strict=True) for first in range(start, end - length + 1)]
    for first, end, mean in found:
        means = {one: bits[one : one + length].mean() for one in free}
        assert first == max(means, key=means.__getitem__)
        assert (end, mean) == (first + length, pytest.approx(means[first]))
        free = [one for one in free if abs(one - first) >= length]
    assert not free
    assert hardest(bits, starts, length, 3) == found[:3]
    assert hardest(bits[:5], np.array([0]), length, 3) == []


def test_parts_of_a_character_are_joined():
    pieces = [b"a", "é".encode()[:1], "é".encode()[1:] + b"b", "€".encode()[:2], "€".encode()[2:]]
    assert language.readable(pieces, [1, 2, 3, 4, 5]) == [("a", 1), ("éb", 5), ("€", 9)]
    assert language.readable([b"\xff", b"a", b"\xe2\x82"], [1, 2, 3]) == [("\ufffd", 1), ("a", 2), ("\ufffd", 3)]


def test_excerpts_lie_apart():
    text = "".join(map(chr, range(1000)))
    found = excerpts(text, 100, 4)
    assert [ord(one[0]) for one in found] == [0, 300, 600, 900]
    assert {len(one) for one in found} == {100}
    assert len(excerpts(text, 300, 9)) == 3
    assert excerpts(text, 1001, 2) == []


def longest_runs(sample: str, training: str) -> list[int]:
    return [
        max(size for size in range(len(sample) - first + 1) if sample[first : first + size] in training)
        for first in range(len(sample))
    ]


@pytest.mark.parametrize("chunk", [7, 1 << 20])
@pytest.mark.parametrize("short", [2, 24])
@pytest.mark.parametrize("letters", ["ab", "abcdef", "aé€𝄞è"])
def test_copied_runs_are_those_of_a_search_for_every_substring(monkeypatch, letters, short, chunk):
    monkeypatch.setattr(language, "_CHUNK", chunk)
    monkeypatch.setattr(language, "_SHORT", short)
    random = np.random.default_rng(len(letters))
    training, *samples = ("".join(random.choice(list(letters), size)) for size in (60, 20, 1, 30))
    samples += [training[10:50] + "#" + training[:30], "", "###", training, "#" + training[-8:]]
    found = copied_runs(samples, training)
    assert [runs.tolist() for runs in found] == [longest_runs(sample, training) for sample in samples]
    assert found[-2][0] == 60


def test_nothing_is_copied_from_nothing():
    assert [runs.tolist() for runs in copied_runs(["ab"], "")] == [[0, 0]]
    assert copied_runs([], "ab") == []


def test_long_copies_are_found_in_a_long_text():
    training = "".join(RANDOM.choice(list("abcd "), 300_000))
    runs = copied_runs(["zz" + training[200_000:202_000] + "z", training[-500:]], training)
    assert runs[0][2:].tolist() == [*range(2000, 0, -1), 0]
    assert runs[1].tolist() == list(range(500, 0, -1))


def test_words_and_what_is_known_of_them():
    training = "The model's weights aren't many: 12 of __init__ in 3.8, over."
    (found,) = measure_samples(["ver the WEIGHTS model's 12 99 foo aren’t __init__ ove"], training)
    # The ends may be cut, numbers are no words, ’ isn't '.
    assert found["known_words"] == pytest.approx(4 / 6)
    (nothing,) = measure_samples(["99 ("], training)
    assert math.isnan(nothing["known_words"])
    assert math.isnan(nothing["distinct_1"])


def test_distinct_counts_runs_of_words():
    (found,) = measure_samples(["a b a b a c"], "")
    assert [found[f"distinct_{number}"] for number in (1, 2, 3, 4)] == pytest.approx([3 / 6, 3 / 5, 3 / 4, 3 / 3])
    assert math.isnan(language.distinct(["a"], 2))


@pytest.mark.parametrize(
    ("text", "partners", "number"),
    [
        ("f(a[0], {1: (2)})", 8, 8),
        ("(a", 0, 1),
        ("a) (b)", 2, 3),
        ("([)]", 2, 4),  # the square one was left open
        ("(a\n\nb)", 0, 2),
        ("(a\n  \nb)", 0, 2),
        ("(a\nb)", 2, 2),
        ("no brackets", 0, 0),
    ],
)
def test_brackets(text, partners, number):
    assert language._brackets(text) == (partners, number)


@pytest.mark.parametrize(
    ("text", "partners", "number"),
    [
        ('say "yes" or "no".', 4, 4),
        ('"yes', 0, 1),
        ('yes" or', 0, 1),
        ('"yes "no"', 2, 3),
        ("don't, the users' own, 'quoted'", 2, 2),
        ("x = f('a', \"b\")", 4, 4),
        ("``code`` here", 4, 4),
        ('"open\n\nclosed"', 0, 2),
        ("print('')", 2, 2),
        ("'it's'", 2, 2),
        ("nothing", 0, 0),
    ],
)
def test_quotes(text, partners, number):
    assert language._quotes(text) == (partners, number)


def test_samples_are_measured_in_order():
    training = "the cat sat on the (soft) mat. " * 20
    samples = ["the cat sat on the (soft) mat. the cat", "qq the zz (uu vv the qq"]
    copy, noise = measure_samples(samples, training)
    assert list(copy) == list(language.SAMPLE_MEASURES)
    assert (copy["known_words"], copy["longest_copy"], copy["balanced_brackets"]) == (1, len(samples[0]), 1)
    assert copy["mean_copy"] == pytest.approx(np.mean(np.arange(len(samples[0])) + 1))
    assert (noise["known_words"], noise["longest_copy"], noise["balanced_brackets"]) == (2 / 5, 5, 0)
    assert math.isnan(noise["balanced_quotes"])
    alone = [measure_samples([sample], training)[0] for sample in samples]
    for one, other in zip(
        itertools.chain(*(each.items() for each in alone)), itertools.chain(copy.items(), noise.items()), strict=True
    ):
        np.testing.assert_equal(one, other)

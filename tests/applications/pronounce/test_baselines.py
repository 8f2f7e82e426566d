import itertools

import numpy as np
import pytest

from applications.pronounce import baselines as pronunciation_baselines
from applications.pronounce.baselines import Alignment, LetterContext
from data.pronunciation import Words, load_embedded
from reports.pronunciation import Pronunciation

SOUNDS = {"a": ("AE",), "b": ("B",), "h": (), "i": ("AY",), "s": ("S",), "t": ("T",), "x": ("K", "S")}


def spelt(rule, number: int, seed: int, letters: str = "abchistx") -> tuple[list[str], list[tuple[str, ...]]]:
    """Random words, and phones as a rule says them for a letter at a place of a word."""
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list(letters), random.integers(3, 9))) for _ in range(number)]
    return words, [tuple(phone for place in range(len(word)) for phone in rule(word, place)) for word in words]


def sound(word: str, place: int) -> tuple[str, ...]:
    """C is soft before i, and all other letters have one sound."""
    return (("S",) if word[place + 1 : place + 2] == "i" else ("K",)) if word[place] == "c" else SOUNDS[word[place]]


def words_of(spellings: list[str], pronunciations: list[tuple[str, ...]]) -> Words:
    return Words(tuple(spellings), tuple((phones,) for phones in pronunciations))


def alignments(letters: int, phones: int, most: int) -> list[tuple[int, ...]]:
    """How many phones each letter says, in all alignments."""
    return [sizes for sizes in itertools.product(range(most + 1), repeat=letters) if sum(sizes) == phones]


def cut(phones: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    ends = np.cumsum([0, *sizes])
    return tuple(tuple(phones[a:b]) for a, b in itertools.pairwise(ends))


def maximised(words: list[str], pronunciations: list[tuple[str, ...]], rounds: int) -> dict:
    """Probabilities of a letter's phones by expectation-maximisation as it is defined, over all alignments."""
    phones = 1 + len({phone for of_word in pronunciations for phone in of_word})
    paths = [
        [tuple(zip(word, cut(said, sizes), strict=True)) for sizes in alignments(len(word), len(said), 2)]
        for word, said in zip(words, pronunciations, strict=True)
    ]
    table = {
        pair: (0.2, 0.75, 0.05)[len(pair[1])] / phones ** len(pair[1]) for of in paths for path in of for pair in path
    }
    for _ in range(rounds):
        counts = dict.fromkeys(table, 0.0)
        for of_word in paths:
            weights = np.array([np.prod([table[pair] for pair in path]) for path in of_word])
            for path, weight in zip(of_word, weights / weights.sum(), strict=True):
                for pair in path:
                    counts[pair] += weight
        totals = {letter: sum(counts[pair] for pair in counts if pair[0] == letter) for letter, _ in counts}
        table = {pair: count / totals[pair[0]] for pair, count in counts.items()}
    return table


@pytest.mark.parametrize("rounds", [1, 4])
def test_alignments_are_those_of_the_definition(monkeypatch, rounds):
    monkeypatch.setattr(pronunciation_baselines, "ROUNDS", rounds)
    random = np.random.default_rng(1)
    words = ["".join(random.choice(list("abc"), random.integers(1, 6))) for _ in range(40)]
    said = [tuple(random.choice(["K", "S", "T"], random.integers(1, 2 * len(word) + 1)).tolist()) for word in words]
    table = maximised(words, said, rounds)
    found = Alignment(words, said).align(words, said)
    for word, phones, chunks in zip(words, said, found, strict=True):
        assert chunks is not None
        chances = {
            cut(phones, sizes): np.prod([table[pair] for pair in zip(word, cut(phones, sizes), strict=True)])
            for sizes in alignments(len(word), len(phones), 2)
        }
        assert chances[chunks] == pytest.approx(max(chances.values()), rel=1e-9)


def test_the_sounds_of_letters_are_found():
    words, said = spelt(sound, 300, seed=2)
    alignment = Alignment(words, said)
    assert alignment.most == 2
    right = [tuple(sound(word, place) for place in range(len(word))) for word in words]
    assert alignment.align(words, said) == right
    # Phones that no letter has, even where one could be silent, letters that were never seen, and silence.
    strange = [("B", "NG", "B"), ("AE", "B", "NG"), ("B", "AE", "B"), ()]
    assert alignment.align(["bab", "abh", "böb", "bxb"], strange) == [
        (("B",), ("NG",), ("B",)),
        (("AE",), ("B",), ("NG",)),
        (("B",), ("AE",), ("B",)),
        ((), (), ()),
    ]


def test_the_first_of_equal_letters_speaks():
    random = np.random.default_rng(11)
    words, said, right = [], [], []
    for _ in range(200):
        letters = [str(random.choice(list("bst" if place % 2 else "ai"))) for place in range(random.integers(2, 6))]
        twice = [letter in "bst" and bool(random.random() < 0.5) for letter in letters]
        words.append("".join(letter * (1 + double) for letter, double in zip(letters, twice, strict=True)))
        said.append(tuple(SOUNDS[letter][0] for letter in letters))
        pairs = zip(letters, twice, strict=True)
        right.append(
            tuple(itertools.chain(*((SOUNDS[letter], ()) if two else (SOUNDS[letter],) for letter, two in pairs)))
        )
    assert Alignment(words, said).align(words, said) == right


def test_what_cannot_be_aligned_is_left_out():
    words, said = spelt(sound, 400, seed=3)
    long = Alignment([*words, "b", ""], [*said, ("D", "AH", "B"), ("B",)])
    assert long.most == 2
    assert long.align(["b", "", "", "b"], [("D", "AH", "B"), ("B",), (), ("B",)]) == [None, None, None, (("B",),)]
    # A script of syllables, in which a letter has three phones.
    names, syllables = "かさた", {"か": ("K", "A", "N"), "さ": ("S", "A", "N"), "た": ("T", "A", "N")}
    words, said = spelt(lambda word, place: syllables[word[place]], 50, seed=4, letters=names)
    script = Alignment(words, said)
    assert script.most == 3
    assert script.align(["さか"], [("S", "A", "N", "K", "A", "N")]) == [(("S", "A", "N"), ("K", "A", "N"))]


def test_what_is_expected_of_a_long_word_adds_up():
    # So long that the probability of all its phones is no number but 0.
    letters, phones, random = 500, 600, np.random.default_rng(12)
    chances = [random.random((2, letters, phones + 1 - size)) / 10 ** (1 + size) for size in range(3)]
    expected = pronunciation_baselines._expected(chances)
    of_size = np.stack([of.sum(axis=2) for of in expected])
    np.testing.assert_allclose(of_size.sum(axis=0), 1)  # each letter says something, if only nothing
    np.testing.assert_allclose((np.arange(3) @ of_size.transpose(1, 0, 2)).sum(axis=1), phones)


# The letters around


def test_new_words_are_told_by_their_rules():
    words, said = spelt(sound, 600, seed=6)
    model = LetterContext(words_of(words[:300], said[:300]), 0)
    assert model.predict(words[300:]) == said[300:]
    assert model.align(["tax"], [("T", "AE", "K", "S")]) == [(("T",), ("AE",), ("K", "S"))]
    assert model.predict(["caci"]) == [("K", "AE", "S", "AY")]
    # A letter that was never seen is silent, and changes nothing around it.
    assert model.predict(["ca?ci", "?", ""]) == [("K", "AE", "S", "AY"), (), ()]
    assert model.predict([]) == []
    assert model.seconds > 0
    assert model.settings == "trees over ±4 letters"


@pytest.mark.parametrize(("distance", "known"), [(-5, False), (-4, True), (4, True), (5, False)])
def test_four_letters_on_each_side_are_seen(distance, known):
    def rule(word: str, place: int) -> tuple[str, ...]:
        near = 0 <= place + distance < len(word) and word[place + distance] == "b"
        return ("AE",) if word[place] == "a" and near else (word[place].upper(),)

    words, said = spelt(rule, 900, seed=7, letters="abcd")
    model = LetterContext(words_of(words[:600], said[:600]), 0)
    found, true = model.predict(words[600:]), said[600:]
    assert (found == true) == known
    # Where it can't be seen, the phone of an a is a guess: more than a third of the words have one.
    assert (np.mean([own != phones for own, phones in zip(found, true, strict=True)]) > 0.05) != known


def test_the_nodes_of_trees_are_counted():
    spellings, said = ["ca", "ci", "ta", "ti"] * 5, [("K", "AE"), ("S", "AY"), ("T", "AE"), ("T", "AY")] * 5
    model = LetterContext(words_of(spellings, said), 0)
    assert model.predict(["ca", "ci", "tica"]) == [("K", "AE"), ("S", "AY"), ("T", "AY", "K", "AE")]
    assert model.parameters == 1 + 1 + 1 + 3  # a question and two answers for c


def test_the_first_pronunciation_is_learnt():
    words, said = spelt(sound, 200, seed=8)
    others = Words(tuple(words), tuple((phones, ("B",), ("S", "T")) for phones in said))
    unseen = spelt(sound, 200, seed=9)[0]
    both = [LetterContext(of, 1) for of in (words_of(words, said), others)]
    assert both[0].predict(unseen) == both[1].predict(unseen)
    assert both[0].parameters == both[1].parameters


def test_english_words_are_told_by_their_spelling():
    splits = load_embedded(share=0.04).splits
    model = LetterContext(splits["train"], 0)
    judged = Pronunciation(model.predict(splits["test"].spellings), splits["test"].pronunciations)
    assert judged.word_error_rate() < 0.66
    assert judged.phone_error_rate() < 0.18
    assert model.align(["box", "make"], [("B", "AA", "K", "S"), ("M", "EY", "K")]) == [
        (("B",), ("AA",), ("K", "S")),
        (("M",), ("EY",), ("K",), ()),
    ]

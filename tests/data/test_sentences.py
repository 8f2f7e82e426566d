import re

import pytest

from data import sentences as module
from data.dataset import BadInput
from data.sentences import plural, progressive, sentences, third_person, vocabulary


def test_sentences_are_different_and_of_four_to_twelve_words():
    found = sentences(5_000, seed=0)
    assert len(set(found)) == len(found) == 5_000
    lengths = [len(text.split()) for text in found]
    assert min(lengths) == 4
    assert max(lengths) == 12
    assert all(re.fullmatch(r"[A-Z][A-Za-z]*(,? [A-Za-z]+)*[.?]", text) for text in found)
    assert sum(text.endswith("?") for text in found) > 500
    assert sum("," in text for text in found) > 500
    assert not any(re.search(r"\ba [aeio]|\ban [^aeiouh]", text) for text in found)


def test_seeds_reproduce_and_differ_and_a_longer_list_begins_the_same():
    assert sentences(200, seed=3) == sentences(300, seed=3)[:200]
    assert len(set(sentences(200, seed=3)) & set(sentences(200, seed=4))) < 20


def test_there_are_words_enough_and_all_are_used():
    words = vocabulary()
    assert len(words) == len(set(words)) >= 400
    said = {word.strip(".,?").lower() for text in sentences(20_000, seed=0) for word in text.split()}
    assert {word.lower() for word in words} <= said


def test_words_are_listed_once():
    for name in ("NAMES", "PEOPLE", "THINGS", "PLACES", "ADJECTIVES", "TRANSITIVE", "INTRANSITIVE", "ADVERBS", "TIMES"):
        group = getattr(module, name)
        assert len(group) == len(set(group)), name


@pytest.mark.parametrize(
    ("verb", "third", "ing"),
    [
        ("go", "goes", "going"),
        ("carry", "carries", "carrying"),
        ("play", "plays", "playing"),
        ("buy", "buys", "buying"),
        ("watch", "watches", "watching"),
        ("fix", "fixes", "fixing"),
        ("lose", "loses", "losing"),
        ("see", "sees", "seeing"),
        ("lie", "lies", "lying"),
        ("sit", "sits", "sitting"),
        ("drop", "drops", "dropping"),
        ("forget", "forgets", "forgetting"),
        ("visit", "visits", "visiting"),
        ("boil", "boils", "boiling"),
        ("draw", "draws", "drawing"),
        ("dream", "dreams", "dreaming"),
    ],
)
def test_forms_of_verbs(verb, third, ing):
    assert third_person(verb) == third
    assert progressive(verb) == ing


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("lady", "ladies"),
        ("boy", "boys"),
        ("box", "boxes"),
        ("page", "pages"),
        ("thief", "thieves"),
        ("tooth", "teeth"),
    ],
)
def test_plurals(noun, expected):
    assert plural(noun) == expected


@pytest.mark.parametrize("count", [0, -1, 1_000_001])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(BadInput, match=f"found a count of {count}, expected 1 to 1,000,000"):
        sentences(count, seed=0)

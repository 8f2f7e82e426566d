import bz2
import collections
import itertools
import lzma
import math
import pydoc_data.topics

import numpy as np
import pytest
import zstandard

from applications import n_grams
from applications.n_grams import NGram
from applications.text import baselines
from applications.text.baselines import compressed_bits

VOCABULARY = 7


def random_blocks(seed: int, blocks: int, longest: int) -> list[list[int]]:
    """Tokens that follow one another with preference, so that contexts help; the last token of all never occurs."""
    random = np.random.default_rng(seed)
    table = np.random.default_rng(0).dirichlet(np.full(VOCABULARY - 1, 0.3), (VOCABULARY, VOCABULARY))
    found = []
    for _ in range(blocks):
        block = [0, 1]
        for _ in range(random.integers(0, longest)):
            block.append(int(random.choice(VOCABULARY - 1, p=table[block[-2], block[-1]])))
        found.append(block[2:] or [3])
    return found


def joined(blocks: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(blocks), np.cumsum([0, *map(len, blocks[:-1])])


class Reference:
    """Interpolated modified Kneser-Ney as the paper writes it, by dictionaries; `None` stands before a block."""

    def __init__(self, order: int, blocks: list[list[int]]):
        self.order = order
        self.counts = []
        for length in range(1, order + 1):
            if length == order:
                grams = [tuple(block[end - length : end]) for block in blocks for end in range(length, len(block) + 1)]
            else:
                longer = {
                    (None, *block)[end - length : end + 1]
                    for block in map(tuple, blocks)
                    for end in range(length, len(block) + 1)
                }
                grams = [gram[1:] for gram in longer]
            self.counts.append(collections.Counter(grams))
        self.discounts = []
        for counts in self.counts:
            number = collections.Counter(counts.values())
            taken = [0, 0.5, 1.0, 1.5]
            if number[1] and number[2] and number[3]:
                share = number[1] / (number[1] + 2 * number[2])
                own = [count - (count + 1) * share * number[count + 1] / number[count] for count in (1, 2, 3)]
                if 0 < own[0] < 1 and 0 < own[1] < 2 and 0 < own[2] < 3:
                    taken = [0, *own]
            self.discounts.append(taken)

    def probability(self, context: tuple, token: int) -> float:
        context = context[len(context) - min(self.order - 1, len(context)) :]
        below = self.probability(context[1:], token) if context else 1 / VOCABULARY
        counts, discounts = self.counts[len(context)], self.discounts[len(context)]
        followers = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
        if not followers:
            return below
        total = sum(followers.values())
        count = followers.get(token, 0)
        weight = sum(discounts[min(value, 3)] for value in followers.values()) / total
        return (count - discounts[min(count, 3)]) / total + weight * below


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_bits_and_hits_are_those_of_the_definition(order):
    training, test = random_blocks(1, 40, 20), random_blocks(2, 6, 12)
    test[0][-1] = VOCABULARY - 1  # never seen
    reference = Reference(order, training)
    expected, lead = [], []
    for block in test:
        for place, token in enumerate(block):
            of_all = [reference.probability(tuple(block[:place]), other) for other in range(VOCABULARY)]
            assert sum(of_all) == pytest.approx(1)
            expected.append(-math.log2(of_all[token]))
            lead.append(of_all[token] / max(of_all[:token] + of_all[token + 1 :]) - 1)
    bits, hits = NGram(order).fit(*joined(training), VOCABULARY).evaluate(*joined(test))
    np.testing.assert_allclose(bits, expected, rtol=1e-9)
    assert min(np.array(lead)[hits]) > -1e-9  # one of several that are equally probable may be taken
    assert max(np.array(lead)[~hits]) < 1e-9
    assert 0 < hits.sum() < len(hits)


def test_bigrams_of_a_few_letters_by_hand():
    # abab|b, where | is a block's start. Bigrams: ab 2, ba 1. Before a: b, a start. Before b: a, a start.
    model = NGram(2).fit(np.array([0, 1, 0, 1, 1]), np.array([0, 4]), 3)
    assert model.parameters == 4
    # Unigrams count 2 and 2, each less 1; the 2 of 4 taken go to three tokens alike.
    unigram = np.array([1 / 4 + 1 / 6, 1 / 4 + 1 / 6, 1 / 6])
    # After a: b counts 2, less 1. After b: a counts 1, less 0.5. c was never seen: the unigrams alone.
    bigrams = np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]) + np.array([[0.5], [0.5], [1]]) * unigram
    pairs = list(itertools.product(range(3), repeat=2))
    bits, hits = model.evaluate(np.ravel(pairs), np.arange(0, 18, 2))
    np.testing.assert_allclose(bits[::2], -np.log2(np.repeat(unigram, 3)))
    np.testing.assert_allclose(bits[1::2], -np.log2(bigrams.ravel()))
    assert hits[1:12:2].tolist() == [False, True, False, True, False, False]


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 20_000])
def test_probabilities_of_any_context_sum_to_one(vocabulary):
    random = np.random.default_rng(5)
    tokens = random.zipf(1.5, 3000) % VOCABULARY
    model = NGram(6).fit(tokens, np.arange(0, 3000, 100), vocabulary)
    seen = [tokens[100 * block + 3 : 100 * block + 8] for block in range(3)]
    unseen = [random.integers(0, vocabulary, length) for length in (0, 1, 5)]
    for context in (*seen, *unseen):
        size = len(context) + 1
        questions = np.column_stack([np.tile(context, (vocabulary, 1)), np.arange(vocabulary)])
        bits, hits = model.evaluate(questions.ravel(), np.arange(0, size * vocabulary, size))
        assert (2.0 ** -bits[size - 1 :: size]).sum() == pytest.approx(1)
        assert hits[size - 1 :: size].sum() == 1
        assert bits[size - 1 :: size][hits[size - 1 :: size]] == bits[size - 1 :: size].min()


def topic_blocks() -> tuple[list[str], list[str]]:
    """Paragraphs of the language reference without repeats, a part of them to train on and a part to test."""
    text = "\n\n".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
    paragraphs = list(dict.fromkeys(text.split("\n\n")))
    blocks = ["\n\n".join(paragraphs[first : first + 10]) for first in range(0, 1000, 10)]
    return [block for index, block in enumerate(blocks) if index % 10 != 4], blocks[4::10]


def test_longer_contexts_foretell_real_text_better():
    training, test = topic_blocks()
    letters = {letter: index for index, letter in enumerate(sorted(set("".join(training + test))))}
    (tokens, starts), unseen = (joined([[letters[c] for c in block] for block in part]) for part in (training, test))
    means = []
    for order in (1, 2, 3, 4, 5, 6):
        bits, hits = NGram(order).fit(tokens, starts, len(letters)).evaluate(*unseen)
        means.append((bits.mean(), -hits.mean()))
    assert (np.diff(means, axis=0) < 0).all()
    assert 4 < means[0][0] < 5.5
    assert means[4][0] < 2.4


def test_of_much_text_the_last_part_counts(monkeypatch):
    blocks = random_blocks(3, 40, 20)
    tokens, starts = joined(blocks)
    monkeypatch.setattr(n_grams, "MOST_GRAMS", 3 * (len(tokens) - starts[10]) + 2)
    limited = NGram(3).fit(tokens, starts, VOCABULARY).evaluate(tokens, starts)[0]
    assert limited.tolist() == NGram(3).fit(*joined(blocks[10:]), VOCABULARY).evaluate(tokens, starts)[0].tolist()


@pytest.mark.parametrize(
    ("tokens", "starts", "message"),
    [
        ([], [0], "tokens: found none"),
        ([0, 3], [0], "tokens: found 0 to 3, expected integers from 0 to 2"),
        ([-1, 0], [0], "found -1 to 0"),
        ([0, 1], [], "starts"),
        ([0, 1], [1], "starts"),
        ([0, 1], [0, 0], "starts"),
        ([0, 1], [0, 2], "ascending positions from 0 to below 2"),
    ],
)
def test_unusable_tokens_are_refused(tokens, starts, message):
    with pytest.raises(ValueError, match=message):
        NGram(2).fit(np.array(tokens, int), np.array(starts, int), 3)
    with pytest.raises(ValueError, match=message):
        NGram(2).fit(np.array([0, 1, 2]), np.array([0]), 3).evaluate(np.array(tokens, int), np.array(starts, int))


def test_an_order_below_one_is_refused():
    with pytest.raises(ValueError, match="order: 0"):
        NGram(0)


def test_compressors_profit_from_the_training_text():
    training, test = ([block.encode() for block in part] for part in (topic_blocks()[0][:30], topic_blocks()[1][:4]))
    known, size = compressed_bits(b"".join(training), test), 8 * sum(map(len, test))
    alone = compressed_bits(b"", test)
    assert set(known) == set(alone) == {"xz", "bz2", "zstd", "PPMd"}
    assert all(0.1 * size < known[name] < 0.95 * alone[name] < 0.7 * size for name in known)
    assert known["PPMd"] == min(known.values())
    assert all(bits % 8 == 0 for bits in known.values())


def test_a_block_out_of_the_training_text_costs_next_to_nothing():
    training = np.random.default_rng(0).integers(0, 256, 30_000, np.uint8).tobytes()
    bits = compressed_bits(training, [training[5_000:7_000], training[20_000:21_000]])
    assert max(bits["zstd"], bits["PPMd"], bits["xz"] / 4) < 0.05 * 8 * 3_000


def test_sizes_are_those_of_the_compressors():
    training, test = (" ".join(map(str, range(start, start + 3000))).encode() for start in (0, 2500))
    bits = compressed_bits(training, [test[:100], test[100:]])
    assert bits["bz2"] == 8 * (len(bz2.compress(training + test)) - len(bz2.compress(training)))
    preset = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    sizes = [len(lzma.compress(text, lzma.FORMAT_RAW, filters=[preset])) for text in (training, training + test)]
    assert bits["xz"] == 8 * (sizes[1] - sizes[0])
    sizes = [len(zstandard.compress(text, 22)) for text in (training, training + test)]
    assert bits["zstd"] / 8 == pytest.approx(sizes[1] - sizes[0], rel=0.02)


def test_training_text_is_limited(monkeypatch):
    first, last, test = (" ".join(map(str, range(start, start + 300))).encode() for start in (0, 500, 100))
    monkeypatch.setattr(baselines, "MOST_BYTES", len(last))
    assert compressed_bits(first + last, [test]) == compressed_bits(last, [test])
    monkeypatch.undo()
    monkeypatch.setattr(baselines, "BZ2_BLOCK", len(last) + len(test))
    limited = compressed_bits(first + last, [test])
    assert limited["bz2"] == compressed_bits(last, [test])["bz2"]
    assert limited["xz"] == compressed_bits(first + last, [test])["xz"] < compressed_bits(last, [test])["xz"]


def test_nothing_to_compress_is_refused():
    with pytest.raises(ValueError, match="blocks"):
        compressed_bits(b"text", [b""])

import functools
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data import batches as module
from data.batches import (
    consecutive_windows,
    shuffled_batches,
    shuffled_pairs,
    shuffled_sequences,
    sorted_pairs,
    sorted_sequences,
    steps_of,
    windows,
)
from data.feeding import fed


def take_numbers(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32)


def batches(
    rows: int = 1000, *, batch_size: int = 7, steps: int = 69, seed: int = 3, epochs=range(1), take=take_numbers
) -> list[np.ndarray]:
    return all_of(shuffled_batches(take, rows, batch_size=batch_size, steps=steps, seed=seed), epochs)


def all_of(batches, epochs) -> list:
    """The batches of these epochs, one after the other."""
    return [batch for epoch in epochs for batch in batches(epoch)]


@pytest.mark.parametrize("steps", [1, 31, 32, 33, 64, 69, 142])
def test_every_row_comes_once_at_most_in_an_epoch(steps):
    found = batches(steps=steps, epochs=range(3))
    assert [len(batch) for batch in found] == [7] * (3 * steps)
    epochs = np.reshape(found, (3, steps * 7))
    for epoch in epochs:
        assert len(set(epoch)) == steps * 7
        assert set(epoch) <= set(range(1000))
        assert np.any(np.diff(epoch) < 0)
    for one, other in itertools.combinations(epochs, 2):
        assert not np.array_equal(one, other)


def test_every_row_comes_in_an_epoch_that_batches_fill():
    for epoch in np.reshape(batches(rows=700, steps=100, epochs=range(4)), (4, 700)):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(700))


def test_few_rows_come_several_times_in_an_epoch_in_another_order_each_time():
    epoch = np.ravel(batches(rows=100, batch_size=7, steps=35))
    first, second, rest = epoch[:100], epoch[100:200], epoch[200:]
    for once in (first, second):
        np.testing.assert_array_equal(np.sort(once), np.arange(100))
    assert len(set(rest)) == len(rest) == 45
    assert not np.array_equal(first, second)


def test_other_rows_are_left_out_of_each_epoch():
    epochs = np.reshape(batches(rows=100, batch_size=9, steps=11, epochs=range(20)), (20, 99))
    left_out = {(set(range(100)) - set(epoch)).pop() for epoch in epochs}
    assert len(left_out) > 10


def test_an_epoch_is_the_same_whichever_came_before():
    whole = batches(epochs=range(5))
    for epochs in ([3], [4, 1], [0, 0], range(2, 5)):
        expected = np.concatenate([whole[epoch * 69 : (epoch + 1) * 69] for epoch in epochs])
        np.testing.assert_array_equal(batches(epochs=epochs), expected)


def test_seeds_reproduce_and_differ():
    np.testing.assert_array_equal(batches(epochs=range(2)), batches(epochs=range(2)))
    assert not np.array_equal(batches(seed=3), batches(seed=4))
    # The next seed isn't the next epoch of this one.
    assert not np.array_equal(batches(seed=4), batches(seed=3, epochs=[1]))


def test_the_order_is_that_of_seed_and_epoch_whatever_the_batches():
    orders = [
        np.concatenate(batches(batch_size=batch_size, steps=steps, epochs=[2]))
        for batch_size, steps in ((7, 142), (7, 33), (1, 200), (50, 20), (994, 1))
    ]
    longest = max(orders, key=len)
    for order in orders:
        np.testing.assert_array_equal(order, longest[: len(order)])


def test_the_order_is_uniform():
    firsts = np.reshape(batches(rows=10, batch_size=2, steps=5, epochs=range(1000)), (1000, 10))
    # How often each row comes at each place: 100 times on average, deviation 9.5.
    counts = np.array([np.bincount(column.astype(int), minlength=10) for column in firsts.T])
    assert np.abs(counts - 100).max() < 4.5 * 9.5


def test_rows_are_gathered_from_the_table(tmp_path):
    shape = (500, 3, 2)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    values.tofile(tmp_path / "table")
    mapped = np.memmap(tmp_path / "table", np.float32, "r", shape=shape)
    found = batches(500, take=lambda rows: mapped[rows])
    order = np.array(batches(500)).astype(int)
    assert order.shape == (69, 7)
    np.testing.assert_array_equal(found, values[order])


def test_rows_are_taken_a_batch_at_a_time():
    taken = []

    def take(rows: np.ndarray) -> np.ndarray:
        taken.append(len(rows))
        return take_numbers(rows)

    found = shuffled_batches(take, 100_000, batch_size=10, steps=5000, seed=0)(0)
    next(found)
    assert taken == [10]
    assert len(list(found)) == 4999
    assert set(taken) == {10}


@pytest.mark.parametrize(
    ("rows", "batch_size", "longest", "expected"),
    [
        (1000, 10, 100, (100, 100)),
        (1000, 10, 1000, (100, 100)),
        (1009, 10, 30, (100, 25)),  # four executions of at most 30
        (1030, 10, 30, (100, 25)),  # 103 = 4 × 25 + 3
        (1000, 10, 1, (100, 1)),
        (10, 10, 30, (1, 1)),
        (970, 10, 50, (96, 48)),
    ],
)
def test_steps_by_hand(rows, batch_size, longest, expected):
    assert steps_of(rows, batch_size, longest) == expected


def test_steps_fill_whole_executions_and_lose_few_batches():
    for whole, batch_size, longest in itertools.product(range(1, 200), (1, 8), (1, 2, 7, 16, 50, 1000)):
        for rows in (whole * batch_size, (whole + 1) * batch_size - 1):
            steps, execution = steps_of(rows, batch_size, longest)
            assert 1 <= execution <= longest
            assert steps % execution == 0
            assert 0 <= whole - steps < steps // execution
            assert steps // execution == -(-whole // longest)  # and there are as few executions as can be


# Sequences


def sequences(count: int = 203) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sequences of 1 to 400 steps whose labels are their number, from 1, and whose features count the steps."""
    lengths = np.random.default_rng(0).integers(1, 401, count)
    inputs = [np.stack([np.arange(1, n + 1), -np.arange(1, n + 1)], axis=1).astype(np.float32) for n in lengths]
    return inputs, [np.full(n, number, np.int32) for number, n in enumerate(lengths, 1)]


def sequence_batches(batch_size: int = 5, *, seed: int = 3, epochs=range(1)) -> list[tuple]:
    return all_of(shuffled_sequences(*sequences(), batch_size=batch_size, seed=seed), epochs)


def members(batch: tuple) -> list[int]:
    return batch[1][:, 0].tolist()


def check_padding(batch: tuple) -> None:
    """Each row is the sequence that its labels name, and zeros to a length that few batches have."""
    inputs, labels = sequences()
    x, y = batch
    assert x.dtype == np.float32
    assert y.dtype == np.int32
    longest = max(len(labels[number - 1]) for number in members(batch))
    assert x.shape == (*y.shape, 2)
    assert longest <= y.shape[1] < longest + 64
    assert y.shape[1] % 64 == 0
    for row, number in enumerate(members(batch)):
        length = len(labels[number - 1])
        np.testing.assert_array_equal(x[row, :length], inputs[number - 1])
        np.testing.assert_array_equal(y[row, :length], number)
        assert not x[row, length:].any()
        assert not y[row, length:].any()


@pytest.mark.parametrize("batch_size", [1, 5, 40, 203])
def test_sequences_come_whole_and_once_at_most_in_an_epoch(batch_size):
    found = sequence_batches(batch_size, epochs=range(3))
    steps = 203 // batch_size
    assert len(found) == 3 * steps
    for batch in found:
        check_padding(batch)
        assert len(batch[0]) == batch_size
    epochs = [[n for batch in found[i * steps : (i + 1) * steps] for n in members(batch)] for i in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == steps * batch_size
    if batch_size < 203:  # the one batch of all is in order of length
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_other_sequences_are_left_out_of_each_epoch():
    found = sequence_batches(epochs=range(20))
    epochs = [{n for batch in found[i * 40 : i * 40 + 40] for n in members(batch)} for i in range(20)]
    assert len(set.union(*(set(range(1, 204)) - epoch for epoch in epochs))) > 30


def test_epochs_of_sequences_are_the_same_whichever_came_before_and_seeds_differ():
    whole = [members(batch) for batch in sequence_batches(epochs=range(4))]
    for epoch in (3, 1, 0):
        found = sequence_batches(epochs=[epoch])
        assert [members(batch) for batch in found] == whole[epoch * 40 : (epoch + 1) * 40]
    assert [members(batch) for batch in sequence_batches(epochs=range(4))] == whole
    assert [members(batch) for batch in sequence_batches(seed=4, epochs=range(4))] != whole


def test_batches_hold_similar_lengths_in_an_order_that_does_not_rise():
    found = sequence_batches()
    lengths = [[int((y > 0).sum()) for y in batch[1]] for batch in found]
    spread = np.mean([max(batch) - min(batch) for batch in lengths])
    assert spread < 60  # of 400; at random it would be 267
    middle = [np.median(batch) for batch in lengths]
    assert 0.3 < np.mean(np.diff(middle) > 0) < 0.7  # in the order of their making it would be 0.9


def test_sorted_sequences_are_all_there_and_named():
    inputs, labels = sequences()
    found, named = sorted_sequences(inputs, labels, 32)
    found = list(found)
    assert [len(indices) for indices in named] == [32] * 6 + [11]
    for batch, indices in zip(found, named, strict=True):
        check_padding(batch)
        assert members(batch) == [index + 1 for index in indices]
    order = np.concatenate(named)
    np.testing.assert_array_equal(np.sort(order), np.arange(203))
    assert (np.diff([len(labels[index]) for index in order]) >= 0).all()


# Pairs of sequences


@functools.cache
def pairs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """203 sources and targets that are made of the pair's number, from 1; few are long, and targets start and end."""
    sizes = np.random.default_rng(0).integers(1, 41, (203, 2, 3)).min(axis=2)
    sources = [10 * number + np.arange(size, dtype=np.int32) % 10 for number, (size, _) in enumerate(sizes, 1)]
    inner = [7 * number + np.arange(size, dtype=np.int32) % 7 for number, (_, size) in enumerate(sizes, 1)]
    return sources, [np.concatenate([[-1], tokens, [-2]]).astype(np.int32) for tokens in inner]


def pair_batches(batch_size: int = 5, *, steps: int | None = None, seed: int = 3, epochs=range(1)) -> list[tuple]:
    steps = 203 // batch_size if steps is None else steps
    return all_of(shuffled_pairs(*pairs(), batch_size=batch_size, steps=steps, seed=seed), epochs)


def numbers(batch: tuple) -> list[int]:
    return (batch[0][0][:, 0] // 10).tolist()


def longest(number: int) -> int:
    sources, targets = pairs()
    return max(len(sources[number - 1]), len(targets[number - 1]) - 1)


def check_pairs(batch: tuple) -> None:
    """Each row is the pair that its source names, and zeros."""
    sources, targets = pairs()
    (source, target_input), target_output = batch
    assert source.shape == target_input.shape == target_output.shape
    assert source.dtype == target_input.dtype == target_output.dtype == np.int32
    for row, number in enumerate(numbers(batch)):
        for found, expected in (
            (source, sources[number - 1]),
            (target_input, targets[number - 1][:-1]),
            (target_output, targets[number - 1][1:]),
        ):
            np.testing.assert_array_equal(found[row, : len(expected)], expected)
            assert not found[row, len(expected) :].any()


@functools.cache
def few_lengths() -> list[int]:
    """The lengths that 40, 75, 95 and 100 % of the 203 pairs don't exceed."""
    lengths = sorted(map(longest, range(1, 204)))
    return [
        next(n for n in lengths if sum(m <= n for m in lengths) >= share * 202 + 1) for share in (0.4, 0.75, 0.95, 1)
    ]


@pytest.mark.parametrize("batch_size", [1, 5, 40, 203])
def test_pairs_come_whole_and_once_at_most_in_an_epoch(batch_size):
    found = pair_batches(batch_size, epochs=range(3))
    steps = 203 // batch_size
    assert len(found) == 3 * steps
    for batch in found:
        check_pairs(batch)
        assert len(batch[1]) == batch_size
    epochs = [[n for batch in found[i * steps : (i + 1) * steps] for n in numbers(batch)] for i in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == steps * batch_size
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_other_pairs_are_left_out_of_each_epoch():
    found = pair_batches(steps=36, epochs=range(20))
    epochs = [{n for batch in found[i * 36 : i * 36 + 36] for n in numbers(batch)} for i in range(20)]
    assert all(len(epoch) == 180 for epoch in epochs)
    assert len(set.union(*(set(range(1, 204)) - epoch for epoch in epochs))) > 150


def test_pairs_are_padded_to_few_lengths():
    lengths = few_lengths()
    assert len(set(lengths)) == 4
    assert max(lengths) == max(map(longest, range(1, 204)))
    straddling = 0
    for batch in pair_batches():
        padded = [next(n for n in lengths if n >= longest(number)) for number in numbers(batch)]
        assert batch[1].shape[1] == max(padded)
        straddling += len(set(padded)) > 1
    assert straddling <= 3


def test_pairs_of_an_epoch_are_in_random_order():
    found = pair_batches()
    widths = [batch[1].shape[1] for batch in found]
    assert 0.2 < np.mean(np.diff(widths) > 0) < 0.6
    # Within the pairs of a padded length, too: which are in a batch together differs between epochs.
    together = [{frozenset(numbers(batch)) for batch in pair_batches(epochs=[e])} for e in (0, 1)]
    assert len(together[0] & together[1]) == 0
    assert np.mean([np.mean(np.diff(numbers(batch)) > 0) for batch in found]) < 0.7


def test_epochs_of_pairs_are_the_same_whichever_came_before_and_seeds_differ():
    whole = [numbers(batch) for batch in pair_batches(epochs=range(4))]
    for epoch in (3, 1, 0):
        found = pair_batches(epochs=[epoch])
        assert [numbers(batch) for batch in found] == whole[epoch * 40 : (epoch + 1) * 40]
    assert [numbers(batch) for batch in pair_batches(epochs=range(4))] == whole
    assert [numbers(batch) for batch in pair_batches(seed=4, epochs=range(4))] != whole
    assert [numbers(batch) for batch in pair_batches(seed=4)] != whole[40:80]


def test_too_few_pairs():
    with pytest.raises(ValueError, match="found 203 pairs, expected at least 41 batches of 5"):
        pair_batches(steps=41)


def test_sorted_pairs_are_all_there():
    found = sorted_pairs(*pairs(), 32)
    assert [len(batch[1]) for batch in found] == [32] * 6 + [11]
    order = [number for batch in found for number in numbers(batch)]
    assert sorted(order) == list(range(1, 204))
    assert (np.diff([longest(number) for number in order]) >= 0).all()
    for batch in found:
        check_pairs(batch)
        assert batch[1].shape[1] == next(n for n in few_lengths() if n >= max(map(longest, numbers(batch))))


# Windows of one text


def window_pairs(
    tokens: np.ndarray | int = 1000,
    *,
    context: int = 8,
    batch_size: int = 5,
    steps: int = 24,
    seed: int = 3,
    epochs=range(1),
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of a text whose tokens are their places."""
    tokens = np.arange(tokens, dtype=np.uint16) if isinstance(tokens, int) else tokens
    return all_of(windows(tokens, context=context, batch_size=batch_size, steps=steps, seed=seed), epochs)


def window_starts(*arguments, **changes) -> np.ndarray:
    return np.concatenate([inputs[:, 0] for inputs, _ in window_pairs(*arguments, **changes)])


@pytest.mark.parametrize("steps", [1, 31, 32, 33, 70])
def test_windows_are_the_text_and_its_next_tokens(steps):
    found = window_pairs(3000, steps=steps, epochs=range(2))
    assert len(found) == 2 * steps
    for inputs, targets in found:
        assert inputs.dtype == targets.dtype == np.int32
        assert inputs.shape == targets.shape == (5, 8)
        np.testing.assert_array_equal(inputs, inputs[:, :1] + np.arange(8))
        np.testing.assert_array_equal(targets, inputs + 1)


def test_an_epoch_takes_each_window_once_and_the_next_has_another_offset():
    # With 1,000 tokens, the last target is token 999 at most: 124 windows of 8, or 123 if the offset is 8 - 1.
    offsets = set()
    for epoch in range(20):
        starts = window_starts(steps=24, epochs=[epoch])
        assert len(set(starts)) == 120
        assert len(set(starts % 8)) == 1
        assert np.any(np.diff(starts) < 0)
        offsets.add(starts[0] % 8)
    assert len(offsets) > 5
    # An epoch of all windows of one pass, and the first of the pass after it.
    starts = window_starts(batch_size=1, steps=200)
    count = (999 - starts[0] % 8) // 8
    np.testing.assert_array_equal(np.sort(starts[:count]), starts[0] % 8 + 8 * np.arange(count))
    assert len(set(starts[count:])) == 200 - count


@pytest.mark.parametrize("length", [9, 10, 17, 24])
def test_short_texts_are_taken_again_and_again(length):
    starts = window_starts(length, batch_size=10, steps=40)
    assert set(starts) == set(range(min(length - 8, 16)))


def test_a_text_of_one_context_is_too_short():
    with pytest.raises(ValueError, match="the text has 8 tokens, expected more than the context, 8"):
        window_pairs(8)


def test_epochs_of_windows_are_the_same_whichever_came_before_and_whatever_the_batches():
    whole = window_starts(epochs=range(5))
    for epoch in (4, 1, 0):
        np.testing.assert_array_equal(window_starts(epochs=[epoch]), whole[epoch * 120 : (epoch + 1) * 120])
    np.testing.assert_array_equal(window_starts(batch_size=12, steps=10), whole[:120])
    assert not np.array_equal(window_starts(seed=4), whole[:120])
    assert not np.array_equal(window_starts(seed=4), window_starts(seed=3, epochs=[1]))


def test_windows_of_a_long_text_are_drawn_anywhere(monkeypatch):
    monkeypatch.setattr(module, "_LISTED", 100)
    starts = window_starts(batch_size=50, steps=2000)  # 992 places, each 101 times on average, deviation 10
    counts = np.bincount(starts, minlength=992)
    assert len(counts) == 992
    assert np.abs(counts - 101).max() < 5 * 10
    np.testing.assert_array_equal(window_starts(batch_size=10, steps=300), starts[:3000])
    monkeypatch.setattr(module, "_LISTED", 124)
    assert len(set(window_starts() % 8)) == 1


def resident(name: str) -> int:
    """Bytes of a file that this process has mapped into memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(name)
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.parametrize(("length", "sizes"), [(61, [4, 2]), (60, [4, 1]), (41, [4]), (11, [1])])
def test_consecutive_windows_are_the_text_once(length, sizes):
    text = np.random.default_rng(0).integers(0, 9, length).astype(np.uint8)
    pairs = consecutive_windows(text, context=10, batch_size=4)
    assert [len(inputs) for inputs, _ in pairs] == sizes
    windows_in_all = sum(sizes)
    inputs, targets = (np.concatenate(part).ravel() for part in zip(*pairs, strict=True))
    np.testing.assert_array_equal(inputs, text[: 10 * windows_in_all])
    np.testing.assert_array_equal(targets, text[1 : 10 * windows_in_all + 1])


def test_windows_of_a_file_stay_out_of_memory(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 60_000, 2_000_000, np.uint16)
    np.save(tmp_path / "tokens.npy", tokens)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    settings = {"context": 16, "batch_size": 8, "steps": 300, "seed": 0}
    tracemalloc.start()
    found = list(windows(mapped, **settings)(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6 + 300 * 8 * 17 * 4  # the order of 125,000 windows, and what is found
    if Path("/proc/self/smaps").exists():
        assert resident("tokens.npy") == 0
    np.testing.assert_array_equal(found, list(windows(tokens, **settings)(0)))
    # A part of the file is no whole mapping, and its own tokens come all the same.
    part = slice(1_000, 9_000)
    expected = list(windows(tokens[part], **settings)(0))
    np.testing.assert_array_equal(list(windows(mapped[part], **settings)(0)), expected)
    if Path("/proc/self/smaps").exists():
        assert resident("tokens.npy") > 0  # so that the 0 before means something


# What Keras takes

SHAPES = ((4, 3), (4, 3), (4, 5), (2, 5))  # of batches that grow longer, the last of fewer rows


def shaped():
    for number, shape in enumerate(SHAPES * 20):
        yield (np.full((*shape, 2), number, np.float32), np.full(shape[0], number, np.uint8)), np.full(shape, -number)


def test_batches_reach_keras_in_order_with_their_shapes_and_types():
    for _ in range(2):  # begun again, they come from the first on
        given = fed(shaped, 80, lengths_vary=True, repeated=True)
        passed = (
            list(given.as_numpy_iterator()) if hasattr(given, "as_numpy_iterator") else [given[i] for i in range(80)]
        )
        assert len(passed) == 80
        for batch, expected in zip(map(flat, passed), map(flat, shaped()), strict=True):
            for array, other in zip(batch, expected, strict=True):
                assert array.dtype == other.dtype
                np.testing.assert_array_equal(array, other, strict=True)


def flat(batch) -> list[np.ndarray]:
    (x, more), y = batch
    return [x, more, y]


@pytest.mark.parametrize(("size", "most"), [(2_000_000, 8), (10, 200)])
def test_large_batches_are_not_taken_far_ahead(size, most):
    taken = []

    def start():
        for number in range(1000):
            taken.append(number)
            yield (np.full((1, size), number, np.float32),)

    given = fed(start, 1000, lengths_vary=False)
    passed = iter(given) if hasattr(given, "as_numpy_iterator") else map(given.__getitem__, range(3))
    assert [float(batch[0][0, 0]) for batch in itertools.islice(passed, 3)] == [0, 1, 2]
    assert 3 <= len(taken) <= most

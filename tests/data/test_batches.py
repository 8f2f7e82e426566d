import itertools

import numpy as np
import pytest

from data.batches import shuffled_arrays, shuffled_batches, steps_of


def take_numbers(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32)


def batches(
    rows: int = 1000,
    *,
    batch_size: int = 7,
    steps: int = 69,
    seed: int = 3,
    first_epoch: int = 0,
    last_epoch: int = 1,
    take=take_numbers,
) -> list[np.ndarray]:
    dataset = shuffled_batches(
        take,
        rows,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        first_epoch=first_epoch,
        last_epoch=last_epoch,
    )
    return list(dataset.as_numpy_iterator())


# 69 batches are two blocks of 32 and a part; 32 and 64 end with a block; 1 and 31 fill none.
@pytest.mark.parametrize("steps", [1, 31, 32, 33, 64, 69, 142])
def test_every_row_comes_once_at_most_in_an_epoch(steps):
    found = batches(steps=steps, last_epoch=3)
    assert [len(batch) for batch in found] == [7] * (3 * steps)
    epochs = np.reshape(found, (3, steps * 7))
    for epoch in epochs:
        assert len(set(epoch)) == steps * 7
        assert set(epoch) <= set(range(1000))
        assert np.any(np.diff(epoch) < 0)
    for one, other in itertools.combinations(epochs, 2):
        assert not np.array_equal(one, other)


def test_every_row_comes_in_an_epoch_that_batches_fill():
    for epoch in np.reshape(batches(rows=700, steps=100, last_epoch=4), (4, 700)):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(700))


def test_other_rows_are_left_out_of_each_epoch():
    epochs = np.reshape(batches(rows=100, batch_size=9, steps=11, last_epoch=20), (20, 99))
    left_out = {(set(range(100)) - set(epoch)).pop() for epoch in epochs}
    assert len(left_out) > 10


def test_starting_later_gives_the_tail():
    whole = batches(last_epoch=5)
    for first_epoch in range(5):
        np.testing.assert_array_equal(batches(first_epoch=first_epoch, last_epoch=5), whole[first_epoch * 69 :])
    assert batches(first_epoch=5, last_epoch=5) == []


def test_seeds_reproduce_and_differ():
    np.testing.assert_array_equal(batches(last_epoch=2), batches(last_epoch=2))
    assert not np.array_equal(batches(seed=3), batches(seed=4))
    # The next seed isn't the next epoch of this one.
    assert not np.array_equal(batches(seed=4), batches(seed=3, first_epoch=1, last_epoch=2))


def test_the_order_is_that_of_seed_and_epoch_whatever_the_batches():
    orders = [
        np.concatenate(batches(batch_size=batch_size, steps=steps, first_epoch=2, last_epoch=3))
        for batch_size, steps in ((7, 142), (7, 33), (1, 200), (50, 20), (994, 1))
    ]
    longest = max(orders, key=len)
    for order in orders:
        np.testing.assert_array_equal(order, longest[: len(order)])


def test_the_order_is_uniform():
    firsts = np.reshape(batches(rows=10, batch_size=2, steps=5, last_epoch=1000), (1000, 10))
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


def test_few_rows_are_taken_at_once():
    taken = []

    def take(rows: np.ndarray) -> np.ndarray:
        taken.append(len(rows))
        return take_numbers(rows)

    assert len(batches(100_000, batch_size=10, steps=5000, take=take)) == 5000
    assert 0 < min(taken) <= max(taken) < 1000
    assert len(taken) < 5000 / 10  # but more than a batch, for Python is slow


def test_the_dataset_says_what_it_holds():
    dataset = shuffled_batches(
        lambda rows: np.zeros((len(rows), 4), np.float32),
        20,
        batch_size=5,
        steps=4,
        seed=0,
        first_epoch=0,
        last_epoch=1,
    )
    assert dataset.element_spec.shape.as_list() == [5, 4]
    assert dataset.element_spec.dtype.as_numpy_dtype == np.float32


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


def test_arrays_are_the_same_batches():
    rows = np.arange(230, dtype=np.float32)[:, None]
    settings = {"batch_size": 3, "steps": 70, "seed": 5, "first_epoch": 1, "last_epoch": 3}
    one = [batch.numpy() for batch in shuffled_batches(lambda order: rows[order], 230, **settings)]
    other = list(shuffled_arrays(lambda order: rows[order], 230, **settings))
    assert len(one) == len(other) == 140
    np.testing.assert_array_equal(one, other)

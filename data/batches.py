"""Shuffled training batches whose order is a function of (seed, epoch) alone."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

_BLOCK = 32  # batches that are gathered at once, so that Python is called rarely


def steps_of(rows: int, batch_size: int, longest_execution: int) -> tuple[int, int]:
    """Steps in an epoch of at least one batch of rows, and steps in one execution, which divide those of the epoch.

    Keras runs whole executions: one that does not divide the epoch would take batches of the next epoch. The few
    batches that do not fill an execution are left out of the epoch instead, other rows each time.
    """
    steps = rows // batch_size
    executions = math.ceil(steps / longest_execution)
    return steps // executions * executions, steps // executions


def shuffled_batches(
    take: Callable[[np.ndarray], np.ndarray],
    rows: int,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> tf.data.Dataset:
    """Batches of every epoch from `first_epoch` up to, not including, `last_epoch`, one epoch after the other.

    Training that was interrupted after an epoch goes on with just the batches that it would have seen.

    Args:
        take: from row numbers (n,) to the rows (n, ...) float32, in memory or read from a memory-mapped file.
        rows: number of rows, at least `steps` times `batch_size`.
        batch_size: rows in a batch.
        steps: batches in an epoch; what remains of the epoch's order is left out.
        seed: of the order.
        first_epoch: counted from 0.
        last_epoch: the epoch after the last one.
    """
    settings = {"batch_size": batch_size, "steps": steps, "seed": seed}
    settings |= {"first_epoch": first_epoch, "last_epoch": last_epoch}
    shape = take(np.arange(1)).shape[1:]
    dataset = tf.data.Dataset.from_generator(
        lambda: _blocks(take, rows, **settings), output_signature=tf.TensorSpec((None, *shape), tf.float32)
    )
    return dataset.rebatch(batch_size, drop_remainder=True).prefetch(2 * _BLOCK)


def shuffled_arrays(
    take: Callable[[np.ndarray], np.ndarray], rows: int, *, batch_size: int, **settings: int
) -> Iterator[np.ndarray]:
    """The batches of `shuffled_batches` as arrays, which JAX takes three times as fast as those of tf.data."""
    for block in _blocks(take, rows, batch_size=batch_size, **settings):
        for start in range(0, len(block), batch_size):
            yield block[start : start + batch_size]


def _blocks(
    take: Callable[[np.ndarray], np.ndarray],
    rows: int,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> Iterator[np.ndarray]:
    used, block = steps * batch_size, _BLOCK * batch_size
    for epoch in range(first_epoch, last_epoch):
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        for start in range(0, used, block):
            yield take(order[start : min(start + block, used)])

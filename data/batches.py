"""Training batches whose order is a function of (seed, epoch) alone: rows, sequences, pairs, windows of one text."""

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

_BLOCK = 32  # batches that are gathered at once, so that Python is called rarely
_POOL = 8  # batches of sequences among which those of similar length are put together
_MULTIPLE = 64  # to which sequences are padded, so that a backend compiles for few lengths
_SHARES = (0.4, 0.75, 0.95, 1.0)  # of the pairs; padded to the length that so many of them don't exceed
_LISTED = 1_000_000  # windows that are listed in an order; of a longer text, they are drawn


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


def shuffled_sequences(
    inputs: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> tf.data.Dataset:
    """Padded batches of sequences of similar length, for every epoch from `first_epoch` up to, not with, `last_epoch`.

    An epoch has len(inputs) // batch_size batches; the few sequences that remain are others each time.

    Args:
        inputs: sequences (time, features) float32.
        labels: of each sequence (time,); those below 0 are left out of the loss.
        batch_size: sequences in a batch, at most as many as there are.
        seed: of the order.
        first_epoch: counted from 0.
        last_epoch: the epoch after the last one.

    Returns:
        Pairs (batch, time, features) float32 and (batch, time) int32, filled up with zeros at the end; where any label
        is below 0, also the weights (batch, time) float32, which are 0 there.
    """
    lengths = np.array([len(sequence) for sequence in inputs])

    def orders() -> Iterator[np.ndarray]:
        for epoch in range(first_epoch, last_epoch):
            random = np.random.default_rng([seed, epoch])
            order = random.permutation(len(inputs))[: len(inputs) // batch_size * batch_size]
            pools = [order[start : start + _POOL * batch_size] for start in range(0, len(order), _POOL * batch_size)]
            by_length = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
            batches = np.concatenate(by_length).reshape(-1, batch_size)
            yield from batches[random.permutation(len(batches))]

    return _padded(inputs, labels, orders, len(inputs) // batch_size * (last_epoch - first_epoch))


def sorted_sequences(
    inputs: Sequence[np.ndarray], labels: Sequence[np.ndarray], batch_size: int
) -> tuple[tf.data.Dataset, list[np.ndarray]]:
    """All sequences once, the shortest first, as the batches of `shuffled_sequences`, and which are in each batch."""
    order = np.argsort([len(sequence) for sequence in inputs], kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return _padded(inputs, labels, lambda: batches, len(batches)), batches


def _padded(
    inputs: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    orders: Callable[[], Iterable[np.ndarray]],
    count: int,
) -> tf.data.Dataset:
    weighted = any((of_sequence < 0).any() for of_sequence in labels)

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for order in orders():
            longest = -(-max(len(labels[i]) for i in order) // _MULTIPLE) * _MULTIPLE
            x = np.zeros((len(order), longest, inputs[0].shape[1]), np.float32)
            y = np.zeros((len(order), longest), np.int32)
            for row, i in enumerate(order):
                x[row, : len(inputs[i])], y[row, : len(labels[i])] = inputs[i], labels[i]
            yield (x, np.maximum(y, 0), (y >= 0).astype(np.float32)) if weighted else (x, y)

    signature = (
        tf.TensorSpec((None, None, inputs[0].shape[1]), tf.float32),
        tf.TensorSpec((None, None), tf.int32),
        *([tf.TensorSpec((None, None), tf.float32)] if weighted else []),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)


def shuffled_pairs(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    batch_size: int,
    steps: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> tf.data.Dataset:
    """Padded batches of pairs of sequences, for every epoch from `first_epoch` up to, not with, `last_epoch`.

    Pairs are padded to one of at most four lengths, which 40, 75, 95 and 100 % of them don't exceed, so that a backend
    compiles for few. The pairs of a batch have the same padded length, but for at most three batches of an epoch.

    Args:
        sources: of each pair (time,) int32.
        targets: of each pair (time,) int32, from the start token to the end token.
        batch_size: pairs in a batch.
        steps: batches in an epoch; what remains of the epoch's order is left out.
        seed: of the order.
        first_epoch: counted from 0.
        last_epoch: the epoch after the last one.

    Returns:
        Pairs of (sources, target inputs) and target outputs, (batch, time) int32 each and of the same time, filled up
        with zeros at the end. Target inputs lack the end token, target outputs the start token.

    Raises:
        ValueError: There are fewer pairs than an epoch takes.
    """
    pairs = _Pairs(sources, targets)
    if len(sources) < steps * batch_size:
        raise ValueError(f"found {len(sources):,} pairs, expected at least {steps:,} batches of {batch_size:,}")

    def orders() -> Iterator[np.ndarray]:
        for epoch in range(first_epoch, last_epoch):
            random = np.random.default_rng([seed, epoch])
            order = random.permutation(len(sources))[: steps * batch_size]
            batches = order[np.argsort(pairs.padded[order], kind="stable")].reshape(steps, batch_size)
            yield from batches[random.permutation(steps)]

    return pairs.dataset(orders, steps * (last_epoch - first_epoch), batch_size)


def sorted_pairs(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], batch_size: int) -> tf.data.Dataset:
    """All pairs once, the shortest first, as the batches of `shuffled_pairs`; the last one may be smaller."""
    pairs = _Pairs(sources, targets)
    order = np.argsort(pairs.lengths, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return pairs.dataset(lambda: batches, len(batches), None)


class _Pairs:
    """Sequences end to end, so that a batch is gathered without a loop in Python."""

    def __init__(self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
        self.sources, self.source_sizes = np.concatenate(sources), np.array([len(source) for source in sources])
        self.targets, self.target_sizes = np.concatenate(targets), np.array([len(target) for target in targets])
        self.source_starts = np.cumsum(self.source_sizes) - self.source_sizes
        self.target_starts = np.cumsum(self.target_sizes) - self.target_sizes
        self.lengths = np.maximum(self.source_sizes, self.target_sizes - 1)
        few = np.quantile(self.lengths, _SHARES, method="higher")
        self.padded = few[np.searchsorted(few, self.lengths)]

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        length, starts, sizes = self.padded[rows].max(), self.target_starts[rows], self.target_sizes[rows] - 1
        source = _gather(self.sources, self.source_starts[rows], self.source_sizes[rows], length)
        return (source, _gather(self.targets, starts, sizes, length)), _gather(self.targets, starts + 1, sizes, length)

    def dataset(
        self, orders: Callable[[], Iterable[np.ndarray]], count: int, batch_size: int | None
    ) -> tf.data.Dataset:
        spec = tf.TensorSpec((batch_size, None), tf.int32)
        dataset = tf.data.Dataset.from_generator(
            lambda: map(self.take, orders()), output_signature=((spec, spec), spec)
        )
        return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(_BLOCK)


def _gather(tokens: np.ndarray, starts: np.ndarray, sizes: np.ndarray, length: int) -> np.ndarray:
    """Take the sequences that begin at `starts`, each filled up with zeros, (len(starts), length) int32."""
    places = np.arange(length)
    found = tokens.take(starts[:, None] + places, mode="clip")
    return np.where(places < sizes[:, None], found, 0).astype(np.int32)


def windows(
    tokens: np.ndarray,
    *,
    context: int,
    batch_size: int,
    steps: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> tf.data.Dataset:
    """Batches of windows of one text, for every epoch from `first_epoch` up to, not with, `last_epoch`.

    An epoch cuts the text into windows that don't overlap, from a place below `context` that is drawn, and takes them
    in random order; an epoch of more windows than that goes on in the same way, from another place. Of a text of
    more than a million windows, each window is drawn anywhere.

    Args:
        tokens: the text, (n,) integers, more than `context`; the file of a whole memory-mapped array stays out of
            memory.
        context: tokens of an input.
        batch_size: windows in a batch.
        steps: batches in an epoch.
        seed: of the order.
        first_epoch: counted from 0.
        last_epoch: the epoch after the last one.

    Returns:
        Pairs (batch, context) int32 of inputs and of targets: the token that follows each input token.
    """
    settings = {"context": context, "batch_size": batch_size, "steps": steps, "seed": seed}
    settings |= {"first_epoch": first_epoch, "last_epoch": last_epoch}
    dataset = tf.data.Dataset.from_generator(
        lambda: _window_blocks(tokens, **settings), output_signature=tf.TensorSpec((None, context + 1), tf.int32)
    )
    dataset = dataset.rebatch(batch_size, drop_remainder=True).map(lambda batch: (batch[:, :-1], batch[:, 1:]))
    return dataset.prefetch(2 * _BLOCK)


def window_arrays(tokens: np.ndarray, *, batch_size: int, **settings: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of `windows` as arrays, which JAX takes faster than those of tf.data."""
    for block in _window_blocks(tokens, batch_size=batch_size, **settings):
        for start in range(0, len(block), batch_size):
            batch = block[start : start + batch_size]
            yield batch[:, :-1], batch[:, 1:]


def consecutive_windows(tokens: np.ndarray, *, context: int, batch_size: int) -> tf.data.Dataset:
    """Pairs as those of `windows`, of the text from its beginning on, each window once.

    What is left at the end is shorter than a window; batches are of one size but for the last, and for a text shorter
    than one batch.
    """
    starts = np.arange(0, len(tokens) - context, context)
    batch = np.asarray(tokens)[starts[:, None] + np.arange(context + 1)].astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((batch[:, :-1], batch[:, 1:])).batch(batch_size)


def _window_blocks(
    tokens: np.ndarray,
    *,
    context: int,
    batch_size: int,
    steps: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> Iterator[np.ndarray]:
    used, block = steps * batch_size, _BLOCK * batch_size
    for epoch in range(first_epoch, last_epoch):
        starts = _window_starts(len(tokens), context, block, np.random.default_rng([seed, epoch]))
        ready = np.empty(0, np.int64)
        for first in range(0, used, block):
            count = min(block, used - first)
            while len(ready) < count:
                ready = np.concatenate([ready, next(starts)])
            yield _take_windows(tokens, ready[:count], context + 1)
            ready = ready[count:]


def _window_starts(length: int, context: int, block: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Places where windows start, without end, many at once."""
    if length <= context:
        raise ValueError(f"the text has {length:,} tokens, expected more than the context, {context:,}")
    while True:
        if (length - 1) // context > _LISTED:
            yield random.integers(length - context, size=block)
        else:
            offset = random.integers(min(context, length - context))
            yield offset + context * random.permutation((length - 1 - offset) // context)


def _take_windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Gather windows, (len(starts), length) int32."""
    if isinstance(tokens, np.memmap) and isinstance(tokens.base, mmap.mmap) and tokens.filename is not None:
        # Read, not mapped: of a mapped file, up to 2 MB around each window would come and stay in memory.
        found = np.empty((len(starts), length), tokens.dtype)
        with Path(tokens.filename).open("rb", buffering=0) as file:
            for window, start in zip(found, starts.tolist(), strict=True):
                file.seek(tokens.offset + start * tokens.itemsize)
                file.readinto(window.data)
        return found.astype(np.int32)
    return np.lib.stride_tricks.sliding_window_view(tokens, length)[starts].astype(np.int32)

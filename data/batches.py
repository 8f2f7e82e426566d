"""Batches whose order depends on (seed, epoch) alone: rows, sequences, pairs, windows of one text.

Each function here returns a function of an epoch's number, from 0, that yields the batches of that epoch: tuples of
arrays for `model.fit`, (inputs,), (inputs, targets) or (inputs, targets, weights). Training that was stopped after an
epoch therefore resumes with exactly the batches that it would have seen.
"""

import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_POOL = 8  # batches within which sequences are sorted by length
_MULTIPLE = 64  # sequences are padded to multiples of this, so that a backend compiles for few lengths
_SHARES = (0.4, 0.75, 0.95, 1.0)  # batches of pairs are padded to these quantiles of the length
_LISTED = 1_000_000  # up to this many windows are permuted; those of a longer text are drawn
_DRAWN = 1_024  # windows drawn at once

Epochs = Callable[[int], Iterator[Any]]


def steps_of(rows: int, batch_size: int, longest_execution: int) -> tuple[int, int]:
    """Steps per epoch and steps per execution, where the first is a multiple of the second.

    Keras runs complete executions: otherwise the last one would take batches of the next epoch. The few batches that
    do not fill an execution are left out of the epoch, different rows each time.
    """
    steps = rows // batch_size
    executions = math.ceil(steps / longest_execution)
    return steps // executions * executions, steps // executions


def shuffled_batches(take: Callable[[np.ndarray], Any], rows: int, *, batch_size: int, steps: int, seed: int) -> Epochs:
    """Batches of rows in random order.

    Args:
        take: returns the batch of some row numbers, (batch_size,).
        rows: number of rows.
        batch_size: rows in a batch.
        steps: batches in an epoch. The remaining rows of the epoch's order are left out; if there are too few rows,
            they are passed through again, in another order.
        seed: determines the order.
    """
    passes = math.ceil(steps * batch_size / rows)

    def batches(epoch: int) -> Iterator[Any]:
        random = np.random.default_rng([seed, epoch])
        order = np.concatenate([random.permutation(rows) for _ in range(passes)])
        return map(take, order[: steps * batch_size].reshape(steps, batch_size))

    return batches


def shuffled_sequences(
    inputs: Sequence[np.ndarray], labels: Sequence[np.ndarray], *, batch_size: int, seed: int
) -> Epochs:
    """Padded batches of sequences of similar length.

    An epoch has len(inputs) // batch_size batches; the few sequences left over differ between epochs.

    Args:
        inputs: sequences (time, features) float32.
        labels: (time,) for each sequence; those below 0 are left out of the loss.
        batch_size: sequences in a batch, at most the number of sequences.
        seed: determines the order.

    Returns:
        Batches of (batch, time, features) float32 and (batch, time) int32, padded with zeros at the end; if any label
        is below 0, also the weights (batch, time) float32, which are 0 there.
    """
    lengths, padded = np.array([len(sequence) for sequence in inputs]), _padding(inputs, labels)

    def batches(epoch: int) -> Iterator[Any]:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(inputs))[: len(inputs) // batch_size * batch_size]
        pools = [order[start : start + _POOL * batch_size] for start in range(0, len(order), _POOL * batch_size)]
        by_length = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
        members = np.concatenate(by_length).reshape(-1, batch_size)
        return map(padded, members[random.permutation(len(members))])

    return batches


def sorted_sequences(
    inputs: Sequence[np.ndarray], labels: Sequence[np.ndarray], batch_size: int
) -> tuple[Iterator[Any], list[np.ndarray]]:
    """All sequences once, shortest first, in batches like those of `shuffled_sequences`; and each batch's indices."""
    order = np.argsort([len(sequence) for sequence in inputs], kind="stable")
    members = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return map(_padding(inputs, labels), members), members


def _padding(inputs: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Callable[[np.ndarray], Any]:
    """A function from indices of sequences to a padded batch."""
    weighted = any((of_sequence < 0).any() for of_sequence in labels)

    def padded(members: np.ndarray) -> tuple[np.ndarray, ...]:
        longest = -(-max(len(labels[i]) for i in members) // _MULTIPLE) * _MULTIPLE
        x = np.zeros((len(members), longest, inputs[0].shape[1]), np.float32)
        y = np.zeros((len(members), longest), np.int32)
        for row, i in enumerate(members):
            x[row, : len(inputs[i])], y[row, : len(labels[i])] = inputs[i], labels[i]
        return (x, np.maximum(y, 0), (y >= 0).astype(np.float32)) if weighted else (x, y)

    return padded


def shuffled_pairs(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], *, batch_size: int, steps: int, seed: int
) -> Epochs:
    """Padded batches of pairs of sequences.

    Pairs are padded to one of at most four lengths, the 40, 75, 95 and 100 % quantiles of their lengths, so that a
    backend compiles for few. The pairs of a batch have the same padded length, except in at most three batches of an
    epoch.

    Args:
        sources: (time,) int32 for each pair.
        targets: (time,) int32 for each pair, from the start token to the end token.
        batch_size: pairs in a batch.
        steps: batches in an epoch; the remaining pairs of the epoch's order are left out.
        seed: determines the order.

    Returns:
        Batches of (sources, target inputs) and target outputs, (batch, time) int32 each with the same time, padded with
        zeros at the end. Target inputs lack the end token, target outputs the start token.

    Raises:
        ValueError: There are fewer pairs than an epoch needs.
    """
    pairs = _Pairs(sources, targets)
    if len(sources) < steps * batch_size:
        raise ValueError(f"found {len(sources):,} pairs, expected at least {steps:,} batches of {batch_size:,}")

    def batches(epoch: int) -> Iterator[Any]:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(sources))[: steps * batch_size]
        members = order[np.argsort(pairs.padded[order], kind="stable")].reshape(steps, batch_size)
        return map(pairs.take, members[random.permutation(steps)])

    return batches


def sorted_pairs(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], batch_size: int) -> list[Any]:
    """All pairs once, shortest first, in batches like those of `shuffled_pairs`; the last one may be smaller."""
    pairs = _Pairs(sources, targets)
    order = np.argsort(pairs.lengths, kind="stable")
    return [pairs.take(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


class _Pairs:
    """Concatenated sequences, from which batches are gathered without a loop in Python."""

    def __init__(self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
        self.sources, self.source_sizes = np.concatenate(sources), np.array([len(source) for source in sources])
        self.targets, self.target_sizes = np.concatenate(targets), np.array([len(target) for target in targets])
        self.source_starts = np.cumsum(self.source_sizes) - self.source_sizes
        self.target_starts = np.cumsum(self.target_sizes) - self.target_sizes
        self.lengths = np.maximum(self.source_sizes, self.target_sizes - 1)
        buckets = np.quantile(self.lengths, _SHARES, method="higher")
        self.padded = buckets[np.searchsorted(buckets, self.lengths)]

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        length, starts, sizes = self.padded[rows].max(), self.target_starts[rows], self.target_sizes[rows] - 1
        source = _gather(self.sources, self.source_starts[rows], self.source_sizes[rows], length)
        return (source, _gather(self.targets, starts, sizes, length)), _gather(self.targets, starts + 1, sizes, length)


def _gather(tokens: np.ndarray, starts: np.ndarray, sizes: np.ndarray, length: int) -> np.ndarray:
    """Take the sequences that begin at `starts`, each padded with zeros, (len(starts), length) int32."""
    offsets = np.arange(length)
    gathered = tokens.take(starts[:, None] + offsets, mode="clip")
    return np.where(offsets < sizes[:, None], gathered, 0).astype(np.int32)


def windows(tokens: np.ndarray, *, context: int, batch_size: int, steps: int, seed: int) -> Epochs:
    """Batches of windows of one text.

    An epoch cuts the text into windows that don't overlap, from a random offset below `context`, and takes them in
    random order. If that isn't enough windows, it starts again from another offset. In a text of more than a million
    windows, each window starts at a random position.

    Args:
        tokens: the text, (n,) integers, more than `context`; a memory-mapped file isn't loaded into memory.
        context: tokens of an input.
        batch_size: windows in a batch.
        steps: batches in an epoch.
        seed: determines the order.

    Returns:
        Batches (batch, context) int32 of inputs and of targets: the token that follows each input token.

    Raises:
        ValueError: The text is too short.
    """
    if len(tokens) <= context:
        raise ValueError(f"the text has {len(tokens):,} tokens, expected more than the context, {context:,}")

    def batches(epoch: int) -> Iterator[Any]:
        starts = _window_starts(len(tokens), context, np.random.default_rng([seed, epoch]))
        ready = np.empty(0, np.int64)
        for _ in range(steps):
            while len(ready) < batch_size:
                ready = np.concatenate([ready, next(starts)])
            batch = _take_windows(tokens, ready[:batch_size], context + 1)
            yield batch[:, :-1], batch[:, 1:]
            ready = ready[batch_size:]

    return batches


def consecutive_windows(tokens: np.ndarray, *, context: int, batch_size: int) -> list[Any]:
    """Batches like those of `windows`, from the beginning of the text, each window once.

    The rest of the text, shorter than a window, is left out; the last batch may be smaller.
    """
    starts = np.arange(0, len(tokens) - context, context)
    gathered = np.asarray(tokens)[starts[:, None] + np.arange(context + 1)].astype(np.int32)
    parts = [gathered[first : first + batch_size] for first in range(0, len(gathered), batch_size)]
    return [(part[:, :-1], part[:, 1:]) for part in parts]


def _window_starts(length: int, context: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """An endless iterator over positions where windows start, many at once."""
    while True:
        if (length - 1) // context > _LISTED:
            yield random.integers(length - context, size=_DRAWN)
        else:
            offset = random.integers(min(context, length - context))
            yield offset + context * random.permutation((length - 1 - offset) // context)


def _take_windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Gather windows, (len(starts), length) int32."""
    if isinstance(tokens, np.memmap) and isinstance(tokens.base, mmap.mmap) and tokens.filename is not None:
        # Read, not mapped: mapping would keep up to 2 MB around each window in memory.
        gathered = np.empty((len(starts), length), tokens.dtype)
        with Path(tokens.filename).open("rb", buffering=0) as file:
            for window, start in zip(gathered, starts.tolist(), strict=True):
                file.seek(tokens.offset + start * tokens.itemsize)
                file.readinto(window.data)
        return gathered.astype(np.int32)
    return np.lib.stride_tricks.sliding_window_view(tokens, length)[starts].astype(np.int32)

"""Batches as Keras takes them, on each backend in the way that is fastest there."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

_BLOCK, _BLOCK_BYTES = 8, 2**22  # batches, and bytes of them, that TensorFlow takes from Python at once


class _Batches(keras.utils.PyDataset):
    """Batches in order, restarted whenever Keras begins again with the first, as it does to build a model."""

    def __init__(self, start: Callable[[], Iterable[Any]], count: int):
        super().__init__()
        self._start, self._count = start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        if index == 0:
            self._left = iter(self._start())
        return next(self._left)


def fed(start: Callable[[], Iterable[Any]], count: int, *, lengths_vary: bool, repeated: bool = False) -> Any:
    """Input for a Keras model's `fit` and `evaluate`: on TensorFlow a dataset, else arrays, which are faster on JAX.

    TensorFlow gets several batches of equal shape at once, so that Python is called rarely.

    Args:
        start: returns the batches from the first on, each a tuple of arrays, or of tuples of them.
        count: number of batches.
        lengths_vary: whether the second axis, time, varies between batches.
        repeated: whether Keras iterates over them several times, as for validation; the last may then be smaller.
    """
    if keras.backend.backend() != "tensorflow":
        return _Batches(start, count)
    import tensorflow as tf  # here, as it takes memory that other backends don't need

    first = next(iter(start()))
    size = sum(array.nbytes for array in keras.tree.flatten(first))
    at_once = max(1, min(_BLOCK, _BLOCK_BYTES // size))

    def spec(array: np.ndarray) -> Any:
        rows, *axes = array.shape
        if lengths_vary and axes:
            axes[0] = None
        return tf.TensorSpec((None, None if repeated else rows, *axes), array.dtype)

    def blocks() -> Iterator[Any]:
        for _, group in itertools.groupby(start(), lambda batch: [array.shape for array in keras.tree.flatten(batch)]):
            while block := list(itertools.islice(group, at_once)):
                yield keras.tree.map_structure(lambda *arrays: np.stack(arrays), *block)

    dataset = tf.data.Dataset.from_generator(blocks, output_signature=keras.tree.map_structure(spec, first))
    dataset = dataset.unbatch()
    if repeated:  # Keras needs the cardinality to restart the dataset without a warning
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.prefetch(2 * at_once)

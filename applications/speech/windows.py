"""A long recording is tagged in overlapping windows, and its tags become segments."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data.acoustics import RATE, STEP, WINDOW

FRAMES, MARGIN, WINDOWS = 1_000, 100, 16  # frames of a window, frames at either end as context, windows at once


def margin_of(context: int) -> int:
    """Frames at each end of a window that are only context."""
    return context // 4


def tag_windows(
    predict: Any, blocks: Iterator[np.ndarray], context: int | None = None, windows: int = WINDOWS
) -> Iterator[np.ndarray]:
    """Tag a stream of frames in overlapping windows, whose middle is kept: yields the tags of all frames, in order.

    Args:
        predict: from windows (`windows`, frames, bands), padded with zeros, to tags (`windows`, frames), or to
            something else of each frame, (`windows`, frames, ...).
        blocks: of frames, (n, bands).
        context: frames of a window, by default `FRAMES`.
        windows: number of windows at once.
    """
    size, margin = (FRAMES, MARGIN) if context is None else (context, margin_of(context))
    rest: np.ndarray | None = None
    before = 0  # frames of `rest` that are already tagged and only context
    waiting: list[tuple[np.ndarray, int, int]] = []  # windows, and the range of frames to keep

    def flush() -> Iterator[np.ndarray]:
        batch = np.zeros((windows, size, waiting[0][0].shape[1]), np.float32)
        for row, (window, _, _) in enumerate(waiting):
            batch[row, : len(window)] = window
        for tags, (_, start, stop) in zip(predict(batch), waiting, strict=False):
            yield tags[start:stop]
        waiting.clear()

    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block])
        while len(rest) > size:
            waiting.append((rest[:size], before, size - margin))
            rest, before = rest[size - 2 * margin :], margin
            if len(waiting) == windows:
                yield from flush()
    if rest is not None:
        waiting.append((rest, before, len(rest)))
        yield from flush()


def runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First frame of each run of equal labels, and the frame after its last."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    return starts, np.append(starts[1:], len(labels))


def frame_segments(labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Runs of equal labels: start and end in seconds, one step per frame, and the label."""
    step = STEP / RATE
    return [(start * step, end * step, int(labels[start])) for start, end in zip(*runs(labels), strict=True)]


def segments(labels: np.ndarray, seconds: float) -> list[tuple[float, float, int]]:
    """Runs of equal labels in a recording, with boundaries half-way between the centres of two windows."""
    lead = (WINDOW - STEP) / 2 / RATE
    found = [(start + lead, end + lead, label) for start, end, label in frame_segments(labels)]
    found[0] = (0.0, *found[0][1:])
    found[-1] = (found[-1][0], seconds, found[-1][2])
    return found


def described(probabilities: np.ndarray, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """The answer to a recording: its length, and segments with the mean probability of their phone.

    Args:
        probabilities: of each phone in each frame, (frames, phones).
        names: names of the phones.
        seconds: length of the recording.
    """
    labels = probabilities.argmax(axis=-1)
    means = [probabilities[start:end, labels[start]].mean() for start, end in zip(*runs(labels), strict=True)]
    return {
        "seconds": float(seconds),
        "segments": [
            {"start": float(start), "end": float(end), "phone": names[label], "probability": float(mean)}
            for (start, end, label), mean in zip(segments(labels, seconds), means, strict=True)
        ],
    }

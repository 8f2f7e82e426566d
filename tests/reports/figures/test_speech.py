import itertools

import numpy as np
import pytest

from tests.reports.figures.drawing import (
    FREQUENCIES,
    RANDOM,
    TRACKS,
    assert_apart,
    boxes_of,
    brightness_of,
    figure_of,
    legend_of,
    strings,
)


def test_spectrogram_is_an_image_of_seconds_and_kilohertz():
    frames = RANDOM.normal(size=(120, 6))
    above, below = figure_of("spectrogram", frames, step=0.01, centres=FREQUENCIES, tracks=TRACKS).axes
    (image,) = above.images
    np.testing.assert_array_equal(image.get_array(), frames.T)
    assert image.origin == "lower"
    assert image.get_extent() == pytest.approx([0, 1.2, -0.5, 5.5])
    ticks = {text.get_text(): place for text, place in zip(above.get_yticklabels(), above.get_yticks(), strict=True)}
    # 500 Hz lies two thirds of the way from the centre of band 1 to that of band 2.
    assert ticks == pytest.approx(
        {"0.25": 13 / 18, "0.5": 5 / 3, "1": 2 + 4 / 9, "2": 3 + 1 / 3, "4": 4 + 1 / 3},
    )
    assert above.get_ylabel() == "frequency [kHz]"
    assert below.get_xlabel() == "time [s]"
    assert below.get_xlim() == above.get_xlim()


def test_wrong_segments_are_dark_and_their_labels_bold():
    figure = figure_of("spectrogram")
    axes = figure.axes[1]
    assert legend_of(figure) == ["wrong"]
    boxes = [patch.get_bbox() for patch in axes.patches]
    spans = [(start, end) for segments in TRACKS.values() for start, end, _, _ in segments]
    np.testing.assert_allclose([(box.x0, box.x1) for box in boxes], spans)
    brightness = brightness_of([patch.get_facecolor() for patch in axes.patches])
    right = np.array([right for segments in TRACKS.values() for *_, right in segments])
    assert brightness[right].min() > 0.85
    assert brightness[~right].max() < 0.5
    assert strings(axes.texts) == ["sil", "b", "iy", "sil", "d", "ih"]
    assert [text.get_weight() for text in axes.texts] == [*["normal"] * 4, "bold", "bold"]


def test_no_legend_where_nothing_is_wrong():
    options = {"step": 0.01, "centres": FREQUENCIES, "tracks": {"true": TRACKS["true"]}}
    assert legend_of(figure_of("spectrogram", RANDOM.normal(size=(120, 6)), **options)) == []


def random_track(seed: int, frames: int, segments: int) -> list[tuple[float, float, str, bool]]:
    random = np.random.default_rng(seed)
    cuts = [0, *np.sort(random.choice(np.arange(1, frames), segments - 1, replace=False)), frames]
    labels = random.choice(["sil", "w", "iy", "ch", "ih", "uh"], segments)
    return [
        (start * 0.01, end * 0.01, str(label), bool(random.random() < 0.7))
        for (start, end), label in zip(itertools.pairwise(cuts), labels, strict=True)
    ]


@pytest.mark.parametrize(("frames", "segments"), [(1, 1), (300, 40), (450, 60), (600, 60), (100, 100)])
def test_labels_of_segments_do_not_overlap_and_fit_their_boxes(frames, segments):
    tracks = {f"model {seed}": random_track(seed, frames, segments) for seed in range(2)}
    energy = np.random.default_rng(1).normal(size=(frames, 6))
    options = {"step": 0.01, "centres": FREQUENCIES, "tracks": tracks}
    figure = figure_of("spectrogram", energy, dpi=400, **options)  # widths of letters are hardly rounded
    axes = figure.axes[1]
    assert len(axes.texts) > (1.7 if segments <= 60 else 1) * segments  # of two tracks
    boxes = boxes_of(axes.texts)
    assert_apart([box.padded(-0.3) for box in boxes])
    outlines = boxes_of(axes.patches)
    for box in boxes:
        for outline in outlines:
            if outline.y0 < (box.y0 + box.y1) / 2 < outline.y1 and box.overlaps(outline):
                assert outline.x0 < box.x0 < box.x1 < outline.x1
        assert box.x0 > axes.bbox.x0 - 6  # about a point
        assert box.x1 < axes.bbox.x1 + 6

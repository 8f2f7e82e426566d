"""What the tests of all figures share: an example of each, and ways to look at what is drawn."""

import base64
import io
import itertools
import re

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

from reports import figures
from reports.figures import look

RANDOM = np.random.default_rng(3)
LABELS = (np.arange(2000) % 50 == 0).astype(int)
SCORES = {
    "autoencoder": np.exp(RANDOM.normal(size=2000) + 2 * LABELS),
    "isolation forest": RANDOM.normal(size=2000) + LABELS,
    "a $model$ with a name of some length": RANDOM.normal(size=2000),
}
POINTS = RANDOM.normal(size=(2000, 2))
BUDGETS = np.array([1.0, 3.0, 10.0, 30.0])
LONG = "a label that goes on for longer than its axis is wide, with a unit at its end [m/s]"
FREQUENCIES = [120.0, 300.0, 600.0, 1500.0, 3000.0, 6000.0]
TRACKS = {
    "true": [(0.0, 0.5, "sil", True), (0.5, 0.52, "b", True), (0.52, 1.2, "iy", True)],
    "a network of a name that is wrapped": [(0.0, 0.4, "sil", True), (0.4, 0.42, "d", False), (0.42, 1.2, "ih", False)],
}
BINS = [
    {"low": 0.4, "high": 0.6, "count": 10, "confidence": 0.55, "accuracy": 0.6},
    {"low": 0.8, "high": 1.0, "count": 30, "confidence": 0.97, "accuracy": 0.9},
]
ACCURACY, ERROR = "accuracy [%]", "error rate [%]"
CALLS: dict[str, tuple[tuple, dict]] = {  # an example of each figure
    "roc_curves": ((LABELS, SCORES), {"emphasis": "autoencoder"}),
    "precision_recall_curves": ((LABELS, SCORES), {"emphasis": "autoencoder"}),
    "score_histogram": (
        (SCORES["autoencoder"], LABELS, 4.2),
        {"class_names": ("genuine", "fraud"), "score_name": LONG},
    ),
    "budget_calibration": (
        (BUDGETS, [0.0, 4.0, 9.0, 33.0]),
        {
            "validation": {"recall": BUDGETS / 40, "precision": 1 / BUDGETS},
            "test": {"recall": BUDGETS / 50, "precision": 0.9 / BUDGETS},
            "chosen": 2,
            "unit": "day",
        },
    ),
    "grouped_bars": (
        ({"one": {"a": (0.5, 0.4, 0.7), "b": (0.2, 0.1, 0.3)}, "two": {"a": (0.6, 0.5, 0.7), "b": (0.1, 0.0, 0.3)}},),
        {"x_label": "scenario", "y_label": LONG},
    ),
    "interval_dots": (
        (
            {
                "one": {ACCURACY: (70.0, 69.0, 71.0), ERROR: (30.0, 29.0, 31.5)},
                "a model with a name of some length": {ACCURACY: (75.0, 74.0, 76.0), ERROR: (26.0, 25.0, 27.0)},
            },
        ),
        {"higher_is_better": {ACCURACY: True, ERROR: False}},
    ),
    "share_bars": (
        (["1", "2"], RANDOM.dirichlet(np.ones(12), 2), [f"feature of index {index}" for index in range(12)]),
        {"x_label": "share of the error", "y_label": "alert"},
    ),
    "interval_curves": (
        (
            {
                "past only": [(4, 0.6, 0.5, 0.7), (0, 0.4, 0.3, 0.5), (1, 0.5, 0.4, 0.6)],
                "past and future": [(0, 0.4, 0.3, 0.5), (4, 0.8, 0.7, 0.9)],
            },
        ),
        {"x_label": LONG, "y_label": LONG},
    ),
    "learning_curves": (
        (
            {
                "seed 0": {"training": [3.0, 2.0, 1.0], "validation": [3.1, 2.2, 2.3]},
                "seed 1": {"training": [3.2, 2.1, 0.9]},
                "seed 2": {"training": [3.3, 2.4]},
            },
        ),
        {"y_label": LONG, "best_epoch": 2},
    ),
    "series": (
        (
            {
                "squared error": {"training": [(1, 0.3), (2, 0.2), (3, 0.1)]},
                LONG: {"training": [(1, 90.0), (2, 95.0), (3, 99.0)], "validation": [(3, 93.0), (1, 91.0), (2, 94.0)]},
            },
        ),
        {"x_label": "module", "mark": (2, "chosen")},
    ),
    "scatter": ((POINTS, LABELS), {"class_names": ("genuine", "fraud"), "axis_names": (LONG, LONG)}),
    "confusion_matrix": (
        ([[8, 1, 1], [0, 0, 0], [1, 0, 3]], ["iy", "ih", LONG]),
        {"groups": {"vowels": 2, "a group with a long name": 1}},
    ),
    "reliability_diagram": (({"a network": BINS, "RBF-SVM": BINS[1:]},), {}),
    "network": (
        ([("features", (15,), 0), ("encoder", (16,), 256), ("code", (2,), 34), ("reconstruction", (15,), 45)],),
        {},
    ),
    "pictures": (
        (RANDOM.random((5, 8, 6, 1)), ["7 → 9, 0.98", "T-shirt/top → Ankle boot, 0.71", "", "2 → 3, 0.51", "4 → 4, 1"]),
        {
            "columns": 3,
            "overlays": RANDOM.random((5, 8, 6)),
            "marks": [True, True, True, True, False],
            "row_names": ["wrong", "right but a little unsure"],
        },
    ),
    "spectrogram": ((RANDOM.normal(size=(120, 6)),), {"step": 0.01, "centres": FREQUENCIES, "tracks": TRACKS}),
    "surprise": (
        (
            {
                "block 3, 2.1 bits per character": [("a", 1.0), ("\n", 4.0), ("bcd", 9.0), ("⚡", 2.0)],
                LONG: [(letter, float(index)) for index, letter in enumerate("fi $x_1$ \t~ A\u030a שלום")],
            },
        ),
        {"columns": 12},
    ),
    "attention": (([np.eye(5)[None].repeat(3, axis=0)] * 2, ["The", " while", " state", "ment", "\n"]), {}),
}


def figure_of(name: str, *arguments: object, dpi: float | None = None, **options: object) -> Figure:
    """The matplotlib figure behind a function that returns SVG, by default of its example, drawn once to lay it out."""
    if not arguments:
        arguments, options = CALLS[name]
    with matplotlib.style.context(["default", look._LOOK]):
        figure = getattr(figures, name).__wrapped__(*arguments, **options)
        if dpi:
            figure.set_dpi(dpi)
        FigureCanvasAgg(figure).draw()
    return figure


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


def texts_of(figure: Figure) -> list[Text]:
    """All texts but those at the ticks."""
    legends = [text for legend in figure.findobj(Legend) for text in (legend.get_title(), *legend.get_texts())]
    parts = [
        text for axes in figure.findobj(Axes) for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
    ]
    return [text for text in legends + parts if text.get_text().strip()]


def strings(texts) -> list[str]:
    return [text.get_text() for text in texts]


def boxes_of(artists, padding: float = 0) -> list:
    """Where artists are drawn, those of texts that say something alone."""
    drawn = [one for one in artists if not isinstance(one, Text) or one.get_text()]
    return [one.get_window_extent().padded(padding) for one in drawn]


def assert_apart(boxes) -> None:
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def brightness_of(colors) -> np.ndarray:
    return np.asarray(colors)[..., :3] @ (0.3, 0.59, 0.11)


def pixels_of(svg: bytes) -> list[np.ndarray]:
    """The pictures that an SVG holds, as pixels."""
    found = re.findall(rb"data:image/png;base64,\s*([^\"]+)", svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB")) for code in found]

"""Figures of a report: one style, drawn with matplotlib, returned as SVG bytes.

Every function returns the same bytes for the same arguments and doesn't change matplotlib's settings. Figures have the
width of the report's full line (17 cm) or half line (8.3 cm), so that they are not scaled. Colours follow the order of
the arguments: the same models in the same order look alike in all figures.

Values that are not finite leave a gap; arguments whose sizes don't match raise NumPy's or matplotlib's own errors.
"""

from reports.figures.bars import grouped_bars, interval_dots, share_bars
from reports.figures.classes import confusion_matrix, reliability_diagram, scatter
from reports.figures.curves import interval_curves, learning_curves, series
from reports.figures.detection import budget_calibration, precision_recall_curves, roc_curves, score_histogram
from reports.figures.images import pictures
from reports.figures.layers import network
from reports.figures.speech import spectrogram
from reports.figures.text import attention, surprise

__all__ = [
    "attention",
    "budget_calibration",
    "confusion_matrix",
    "grouped_bars",
    "interval_curves",
    "interval_dots",
    "learning_curves",
    "network",
    "pictures",
    "precision_recall_curves",
    "reliability_diagram",
    "roc_curves",
    "scatter",
    "score_histogram",
    "series",
    "share_bars",
    "spectrogram",
    "surprise",
]

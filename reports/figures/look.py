"""The common style of all figures: colours, sizes, fonts, legends, axes, and conversion to SVG."""

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, ParamSpec

import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports import fonts
from reports.characters import shown, used

FULL, HALF = 17.0, 8.3  # centimetres
POINTS = 72 / 2.54  # in a centimetre
PAGE = FULL * POINTS  # the width of a full line in points
INK = "#33404b"
QUIET = "#8a949d"
DASHED = (0, (4, 3))
SANS, MONOSPACED = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib
# Okabe and Ito: distinguishable with any kind of colour vision. The faintest one and black come last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "o^s"  # for each repetition of the colours
STEPS = [1, 2, 5, 10]  # between the ticks of an axis
_LOOK = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.formatter.use_mathtext": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "font.family": SANS,
    "font.size": 7.5,
    "grid.color": "#e4e8eb",
    "grid.linewidth": 0.5,
    "image.composite_image": False,  # each picture keeps its own pixels
    "legend.columnspacing": 1.2,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.title_fontsize": 7,
    "lines.linewidth": 1.0,
    "savefig.dpi": 200,  # of rasterised parts
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
    "text.color": INK,
    "text.parse_math": False,  # names come from data and may hold a dollar sign
    "xtick.color": INK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.color": INK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
}
_Arguments = ParamSpec("_Arguments")


def svg(draw: Callable[_Arguments, Figure], *, naming: bool = True) -> Callable[_Arguments, bytes]:
    """Decorate a function that draws a figure to return SVG bytes; `__wrapped__` returns the figure.

    With `naming`, characters that no font has are replaced by their code points.
    """

    @functools.wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> bytes:
        families, missing = fonts_for((args, kwargs))
        missing = missing if naming else ()
        # "default" first, to ignore the user's matplotlibrc.
        with matplotlib.style.context(["default", _LOOK, {"font.family": [SANS, *families]}]):
            buffer = io.BytesIO()
            figure = draw(*shown(args, missing), **shown(kwargs, missing))  # pyright: ignore[reportCallIssue]
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    return drawn


def fonts_for(value: object) -> tuple[list[str], set[str]]:
    """Families for the characters of a value that the figures' own font lacks, and the characters that none has."""
    own = get_font(findfont(SANS))
    return fonts.choose(
        {c for c in used(shown(value)) if c not in "\n\t" and not own.get_char_index(ord(c))}, as_outlines=True
    )


def monospaced(size: float) -> FontProperties:
    """The monospaced font, with those of the figure as fallbacks."""
    return FontProperties(family=[MONOSPACED, *matplotlib.rcParams["font.family"]], size=size)


def laid_out(width: float, height: float) -> Figure:
    """A figure of a size in centimetres with constrained layout."""
    return Figure(figsize=(width / 2.54, height / 2.54), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))


def in_points(height: float) -> tuple[Figure, Axes]:
    """A figure of a full line whose axes, without ticks, are in points from the lower left corner."""
    figure = Figure(figsize=(FULL / 2.54, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, PAGE), ylim=(0, height))
    return figure, axes


def width_of(text: str) -> float:
    """The width in points of a text at 7 points, the size of a legend."""
    return max(0.0, TextPath((0, 0), text, size=7).get_extents().width)


def widest(texts: Iterable[str]) -> float:
    """The width in points of the widest line of texts, 0 if there are none."""
    return max((width_of(line) for text in texts for line in text.splitlines()), default=0.0)


def legend(figure: Figure, place: Literal["outside upper left", "outside lower left"], title: str = "") -> None:
    """Add a legend outside the axes in as many columns as fit, and enlarge the figure by its height."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    widths = [width_of(label) + 16 for label in labels]  # 16: the handle and padding

    def taken(columns: int) -> float:
        return sum(part.max() for part in np.array_split(widths, columns)) + 9 * (columns - 1) + 8

    fitting = [columns for columns in range(2, len(labels) + 1) if taken(columns) <= figure.get_figwidth() * 72]
    columns = max(fitting, default=1)
    figure.legend(handles, labels, loc=place, ncols=columns, title=title, alignment="left")
    lines = math.ceil(len(labels) / columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + lines * 0.165)


def wrapped(label: str, length: float) -> str:
    """An axis label in lines that fit an axis of this length in centimetres."""
    return textwrap.fill(label, int(length * POINTS / 4.7))


def short(text: str) -> str:
    """A name, shortened to 24 characters."""
    return text if len(text) <= 24 else f"{text[:23]}…"


def ranges_widely(values: np.ndarray, ratio: float = 100) -> bool:
    """Whether values need a logarithmic axis: above 0, with the largest more than `ratio` times the smallest."""
    return values.min() > 0 and values.max() / values.min() > ratio


def make_logarithmic(axes: Axes, *directions: Literal["x", "y"]) -> None:
    """Make axes logarithmic, with few ticks and plain numbers."""
    for direction in directions:
        getattr(axes, f"set_{direction}scale")("log")
        low, high = getattr(axes, f"get_{direction}lim")()
        axis = getattr(axes, f"{direction}axis")
        axis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5), numticks=7))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def colour_scale(axes: Axes, left: float, bottom: float, colors: np.ndarray, ends: Sequence[str]) -> None:
    """A colour bar (n, 3) with labels at its two ends, in axes of points."""
    low, high = ends
    axes.text(left, bottom + 3.5, low, fontsize=7, va="center_baseline")
    start = left + width_of(low) + 4
    axes.imshow(colors[None], extent=(start, start + 80, bottom, bottom + 7), interpolation="none", aspect="auto")
    axes.text(start + 84, bottom + 3.5, high, fontsize=7, va="center_baseline")

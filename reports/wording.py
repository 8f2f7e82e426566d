"""Numbers in words, and the parts that every report has, from the numbers of metrics.json."""

import datetime
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reports.report import render

LEAST_UNITS = 6  # by which two models differ at least, for one to be called better: what a sign test needs


def typeset(document: Mapping[str, Any], metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The document as PDF, with the figures in `folder`; its date is the run's own."""
    return render(document, folder, datetime.datetime.fromisoformat(metrics["timing"]["started"]))


# --- Parts ---


def columns(names: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Columns of a table from their names and alignments."""
    return [{"name": name, "align": align} for name, align in names]


def provenance(data: Mapping[str, Any], size: str) -> list[list[str]]:
    """Where the data come from, as facts; `size` says what the size in bytes is of."""
    return [
        ["Source", data["source"]],
        ["Licence", data["licence"]],
        ["Size", size],
        ["SHA-256", data["sha256"]],
        *([] if data["seed"] is None else [["Seed", f"{data['seed']}"]]),
        *([["Notes", "; ".join(data["notes"])]] if data["notes"] else []),
        *([["Understood", "; ".join(data["understood"])]] if data.get("understood") else []),
    ]


def cost(timing: Mapping[str, Any], examples: str, trained: str = "") -> list[list[str]]:
    """Time and memory of a run, as facts; `examples` are what it trains on, `trained` says what was trained."""
    return [
        [
            "Time",
            f"{timing['fit_seconds']:,.1f} s of training{' ' * bool(trained)}{trained}, "
            f"{timing['examples_per_second']:,} {examples} a second; {timing['total_seconds']:,.1f} s in "
            + ("the process that ended the run after a stop" if timing["resumed"] else "all"),
        ],
        ["Memory", f"{timing['peak_memory_mb']:,} MB at most"],
    ]


def regularisation(parts: Iterable[tuple[Any, str]]) -> list[list[str]]:
    """What a model was regularised by, as a fact: of pairs of a setting and its description those that are set."""
    used = "; ".join(text for setting, text in parts if setting)
    return [["Regularised by", used]] if used else []


def repeat(metrics: Mapping[str, Any]) -> list[dict]:
    """The command, the seed, the versions and the machine, as blocks."""
    versions = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    return [
        {"code": metrics["command"]},
        {
            "facts": [
                ["Seed", f"{metrics['seed']}"],
                ["Backend", metrics["backend"]],
                ["Versions", versions],
                ["Machine", metrics["timing"]["machine"]],
            ]
        },
    ]


def result_of(metrics: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The results of a model."""
    return next(result for result in metrics["results"] if result["model"] == model)


def limits(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on the choices of a run that fell on the end of what was allowed."""
    return [f"{limit[0].upper()}{limit[1:]}." for limit in metrics.get("limits", [])]


def one_unit(number: int, unit: str) -> list[str]:
    """What a verdict ends with where the bootstrap has one test unit alone to draw, if it has."""
    few = f"There is one test {unit}, beside which a bootstrap draws no other: how much of this is chance is not known."
    return [few] if number == 1 else []


def quick(metrics: Mapping[str, Any]) -> list[str]:
    """What a verdict ends with after a quick run, if it was one."""
    smoke = "This was a quick run, of little training: it shows that the program works, not what the network can do."
    return [smoke] if metrics["settings"]["quick"] else []


# --- Differences of two models ---


def difference_of(metrics: Mapping[str, Any], better: str, worse: str) -> dict[str, Any]:
    """The difference of two models, in this order."""
    return next(entry for entry in metrics["differences"] if (entry["better"], entry["worse"]) == (better, worse))


def distinct(differences: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each pair of models once, whichever of the two was expected to be better."""
    pairs: dict[frozenset[str], Mapping[str, Any]] = {}
    for entry in differences:
        pairs.setdefault(frozenset((entry["better"], entry["worse"])), entry)
    return list(pairs.values())


def is_none(difference: Mapping[str, Any]) -> bool:
    """Whether two models are as good as each other in every draw, as two that make no error are."""
    return difference["low"] == difference["value"] == difference["high"] == 0


def chance(measure: str, difference: Mapping[str, Any], digits: int = 1, *, unit: str = "percentage points") -> str:
    """What can be said of a difference of shares that is not told from 0."""
    if is_none(difference):
        return f"they are equal in {measure}, in each draw of the bootstrap too"
    return f"the difference in {measure}, {signed_points(difference, digits)} {unit}, may be chance"


def reading(difference: Mapping[str, Any]) -> str:
    """What a difference of shares and its interval say: "ahead", "behind", "not told apart" or "equal".

    Where `pictures` (or other units) says how many more the better one is right for, fewer than `LEAST_UNITS` tell
    nothing: the interval of a bootstrap is too narrow for so few.
    """
    if is_none(difference):
        return "equal"
    few = abs(difference.get("pictures", LEAST_UNITS)) < LEAST_UNITS
    if few or difference["low"] <= 0 <= difference["high"]:
        return "not told apart"
    return "ahead" if difference["low"] > 0 else "behind"


def relation(difference: Mapping[str, Any], digits: int = 1) -> str:
    """What a difference of shares and its interval say of two models."""
    better, worse, read = difference["better"], difference["worse"], reading(difference)
    if read == "equal":
        return f"the {better} is exactly as good as the {worse}"
    if read == "not told apart":
        gap = f"{points(difference['value'], digits, signed=True)} points, "
        return f"the {better} cannot be told from the {worse} ({gap}{points_interval(difference, digits, signed=True)})"
    gap = f"{points(abs(difference['value']), digits)} points ({points_interval(difference, digits, absolute=True)})"
    return f"the {better} is {read}{' of' * (read == 'ahead')} the {worse} by {gap}"


def differences_table(metrics: Mapping[str, Any], measure: str, drawn: str, digits: int = 1) -> dict:
    """The table of all differences in a measure that is a share, as a block; `drawn` is what the bootstrap draws."""
    rows = []
    for entry in distinct(metrics["differences"]):
        value = points(entry["value"], digits, signed=True)
        interval = points_interval(entry, digits, signed=True)
        rows.append([entry["better"], entry["worse"], value, interval, reading(entry)])
    names = [
        *(("Model", "left"), ("Against", "left"), ("Difference", "right"), ("95\u00a0% interval", "right")),
        ("Reading", "left"),
    ]
    few = any("pictures" in entry for entry in metrics["differences"])
    return {
        "table": {
            "caption": f"Differences in {measure}, in percentage points",
            "columns": columns(names),
            "rows": rows,
            "note": "Ahead or behind is said where the interval excludes 0"
            + f" and the two differ by {LEAST_UNITS} {drawn} or more" * few
            + f". Both models are measured on the same draws of {drawn}, so that a difference may be clear though the "
            "intervals of the two overlap.",
        }
    }


# --- Numbers ---


def points(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """A share in percentage points."""
    return with_sign(100 * value, digits) if signed else f"{100 * value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """A share in per cent."""
    return f"{points(value, digits)}\u00a0%"


def percent_interval(value: Mapping[str, float], digits: int = 1) -> str:
    """The interval of a share."""
    return f"{points(value['low'], digits)} to {percent(value['high'], digits)}"


def percent_span(value: Mapping[str, float], digits: int = 1) -> str:
    """A share and its interval."""
    return f"{percent(value['value'], digits)} ({percent_interval(value, digits)})"


def digits(spans: Iterable[Mapping[str, float]], least: int, most: int = 5) -> int:
    """Digits after the point that show the width of a typical interval, two units of the last one or more."""
    widths = [span["high"] - span["low"] for span in spans if span["high"] > span["low"]]
    return min(most, max(least, math.ceil(-math.log10(statistics.median(widths) / 2)))) if widths else least


def digits_of_difference(difference: Mapping[str, float], least: int, most: int = 5) -> int:
    """Digits that show the width of its interval and, where this excludes 0, that it does."""
    found, nearest = digits([difference], least, most), min(abs(difference["low"]), abs(difference["high"]))
    clear = difference["low"] > 0 or difference["high"] < 0
    while clear and found < most and not round(nearest, found):
        found += 1
    return found


def with_sign(value: float, digits: int) -> str:
    """A number with its sign, but for 0."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def points_interval(
    value: Mapping[str, float], digits: int = 1, *, absolute: bool = False, signed: bool = False
) -> str:
    """The interval of a difference of shares, in percentage points."""
    low, high = sorted(abs(value[key]) if absolute else value[key] for key in ("low", "high"))
    return f"{points(low, digits, signed=signed)} to {points(high, digits, signed=signed)}"


def signed_points(value: Mapping[str, float], digits: int = 1) -> str:
    """A difference of shares and its interval, in percentage points."""
    return f"{points(value['value'], digits, signed=True)} ({points_interval(value, digits, signed=True)})"


def counted(number: int, name: str) -> str:
    """How many of something."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def all_of(groups: Mapping[str, Mapping[str, float]], digits: int = 1) -> str:
    """Every group and its share."""
    return ", ".join(f"{name} {percent(value['value'], digits)}" for name, value in groups.items())


def extremes(groups: Mapping[str, Mapping[str, float]]) -> tuple[str, str]:
    """The names of the groups with the lowest and the highest figure."""
    order = sorted(groups, key=lambda name: groups[name]["value"])
    return order[0], order[-1]

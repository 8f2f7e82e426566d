"""Ranges of settings, as annotations: `epochs: Annotated[int, at_least(1)] = 12`."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Annotated, Any

from data.dataset import BadInput


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`, exclusive with `above` and `below`; for strings and tuples, the length."""

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        number = len(value) if isinstance(value, str | tuple) else value
        enough = number > self.least if self.above else number >= self.least
        return enough and (number < self.most if self.below or self.most == math.inf else number <= self.most)

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"above {self.least:,}" if self.above else f"{self.least:,} or more"
        if not self.above and not self.below:
            return f"{self.least:,} to {self.most:,}"
        least = f"above {self.least:,}" if self.above else f"{self.least:,} or more"
        return f"{least}, {'below' if self.below else 'at most'} {self.most:,}"


def at_least(least: float) -> Range:
    """Finite numbers from `least`; strings and tuples of at least this length."""
    return Range(least)


def above(least: float) -> Range:
    """Finite numbers above `least`."""
    return Range(least, above=True)


def between(least: float, most: float) -> Range:
    """Numbers from `least` to `most`, both included."""
    return Range(least, most)


Count = Annotated[int, at_least(1)]
Positive = Annotated[float, above(0)]
NotNegative = Annotated[float, at_least(0)]
Share = Annotated[float, Range(0, 1, below=True)]
Seed = Annotated[int, between(0, 2**31 - 1)]


def check(settings: Any, prefix: str = "--") -> None:
    """Check the values of a settings dataclass against its ranges, including nested dataclasses and tuples.

    None is in every range. A path must not contain a null character. `prefix` is that of the flags.

    Raises:
        BadInput: A value is out of its range.
    """
    for name, hint in typing.get_type_hints(type(settings), include_extras=True).items():
        value, flag = getattr(settings, name), f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            check(value, f"{flag}.")
        else:
            _check(value, hint, flag)


def _check(value: Any, hint: Any, flag: str) -> None:
    if value is None:
        return
    if isinstance(value, Path) and "\0" in str(value):
        raise BadInput(f"{flag} {value}: found a null character, expected a path")
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        for limits in parts[1:]:
            if isinstance(limits, Range) and value not in limits:
                unit = {str: " characters", tuple: " values"}.get(type(value), "")
                found = repr(value) if value != () else "none"
                raise BadInput(f"{flag}: found {found}, expected {limits}{unit}")
        _check(value, parts[0], flag)
    elif kind in (typing.Union, types.UnionType):
        for part in parts:
            _check(value, part, flag)
    elif isinstance(value, tuple) and parts:
        for one in value:
            _check(one, parts[0], flag)

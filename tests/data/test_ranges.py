import dataclasses
import math
from pathlib import Path
from typing import Annotated

import pytest

from data import ranges
from data.dataset import BadInput, escaped
from data.ranges import Count, Range, Share, above, at_least, between


@dataclasses.dataclass(frozen=True)
class Part:
    share: Share | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    count: Count = 1
    widths: Annotated[tuple[Count, ...], at_least(1)] | None = (1,)
    word: Annotated[str, at_least(1)] = "a"
    path: Path | None = None
    part_of_it: Part = dataclasses.field(default_factory=Part)


@pytest.mark.parametrize(
    ("range_", "said", "inside", "outside"),
    [
        (at_least(1), "1 or more", [1, 1e300], [0.999, -1, math.inf, math.nan]),
        (above(0), "above 0", [1e-300, 5], [0, -1, math.inf, math.nan]),
        (between(-20, 1_000), "-20 to 1,000", [-20, 0, 1_000], [-20.5, 1_001, math.inf, -math.inf, math.nan]),
        (Range(0, 1, below=True), "0 or more, below 1", [0, 0.999], [-0.001, 1, math.nan]),
        (Range(0, 1, above=True), "above 0, at most 1", [0.001, 1], [0, 1.001, math.nan]),
        (at_least(1), "1 or more", ["a", (0,)], ["", ()]),
    ],
)
def test_ranges_know_what_is_inside_and_say_it(range_, said, inside, outside):
    assert str(range_) == said
    assert all(value in range_ for value in inside)
    assert not any(value in range_ for value in outside)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(count=0), "--count: found 0, expected 1 or more"),
        (Settings(widths=()), "--widths: found none, expected 1 or more values"),
        (Settings(widths=(3, 0)), "--widths: found 0, expected 1 or more"),
        (Settings(word=""), "--word: found '', expected 1 or more characters"),
        (Settings(part_of_it=Part(share=1.0)), "--part-of-it.share: found 1.0, expected 0 or more, below 1"),
        (Settings(path=Path("a\0b")), "--path a\0b: found a null character, expected a path"),
    ],
)
def test_settings_out_of_their_range_are_named(settings, said):
    with pytest.raises(BadInput) as raised:
        ranges.check(settings)
    assert str(raised.value) == escaped(said)


def test_settings_in_their_range_and_open_ones_pass():
    ranges.check(Settings())
    ranges.check(Settings(widths=None, part_of_it=Part(0.0), path=Path("a")))

import re
from pathlib import Path

import pytest

from reports import wording

ROOT = Path(__file__).parents[2]


def difference(value, low, high):
    return {"better": "net", "worse": "tree", "value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.02, 0.01, 0.03), "the net is ahead of the tree by 2.0 points (1.0 to 3.0)"),
        ((-0.02, -0.03, -0.01), "the net is behind the tree by 2.0 points (1.0 to 3.0)"),
        ((0.01, -0.01, 0.03), "the net cannot be told from the tree (+1.0 points, -1.0 to +3.0)"),
        ((0.0, 0.0, 0.0), "the net is exactly as good as the tree"),
        ((0.0, -0.01, 0.01), "the net cannot be told from the tree (0.0 points, -1.0 to +1.0)"),
        ((-0.0001, -0.01, 0.0), "the net cannot be told from the tree (0.0 points, -1.0 to 0.0)"),
    ],
)
def test_a_difference_reads_sensibly(numbers, said):
    assert wording.relation(difference(*numbers)) == said


def test_models_without_errors_are_equal_not_apart_by_chance():
    assert (
        wording.chance("accuracy", difference(0, 0, 0))
        == "they are equal in accuracy, in each draw of the bootstrap too"
    )
    assert "+1.0 (-1.0 to +3.0) percentage points, may be chance" in wording.chance(
        "accuracy", difference(0.01, -0.01, 0.03)
    )
    table = wording.differences_table({"differences": [difference(0, 0, 0)]}, "accuracy", "pictures")
    assert table["table"]["rows"] == [["net", "tree", "0.0", "0.0 to 0.0", "equal"]]


@pytest.mark.parametrize(
    ("spans", "digits"),
    [
        ([(0.84, 0.90)], 3),
        ([(0.998, 1.0)], 3),
        ([(0.9990, 0.9995)], 4),
        ([(0.99990, 0.99995)], 5),
        ([(0, 1e-9)], 5),
        ([(1, 1)], 3),
        ([], 3),
        ([(0.8, 0.9), (0.8, 0.9), (0.9999999, 1.0)], 3),  # one that is nearly perfect doesn't make all long
    ],
)
def test_digits_show_the_width_of_intervals(spans, digits):
    assert wording.digits([{"low": low, "high": high} for low, high in spans], 3) == digits


def test_digits_of_a_difference_show_that_it_is_not_0():
    assert wording.digits_of_difference(difference(0.002, 0.0002, 0.004), 3) == 4
    assert wording.digits_of_difference(difference(0.001, -0.0002, 0.004), 3) == 3
    assert wording.digits_of_difference(difference(0.001, 1e-9, 0.004), 3) == 5


def test_per_cent_is_spelled_in_one_way():
    # A format of "%" leaves out the space before the sign.
    for path in [*ROOT.glob("applications/*.py"), *ROOT.glob("reports/*.py"), *ROOT.glob("data/*.py")]:
        found = re.findall(r".*\{[^{}]*:[.\d]*%\}.*|.*\}%.*", path.read_text())
        assert not found, f"{path.name}: {found}"

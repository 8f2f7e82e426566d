"""What all tests share."""

import gc
import os
from pathlib import Path

import pytest

# A process that a test starts with `python -c` finds the rooms, whatever its folder is.
_PATHS = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))

gc.set_threshold(50_000)


@pytest.fixture(autouse=True, scope="module")
def frozen() -> None:
    """Exclude what earlier modules left, millions of TensorFlow's objects, from garbage collection."""
    gc.collect()
    gc.freeze()

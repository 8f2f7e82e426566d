"""What all tests share."""

import os
from pathlib import Path

# A process that a test starts with `python -c` finds the rooms, whatever its folder is.
_PATHS = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))

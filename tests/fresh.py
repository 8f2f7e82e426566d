"""Models in a fresh process, which loads each of them with the import of its templates alone."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

ROOT = Path(__file__).parents[1]
RELOAD = """
import importlib, json, sys
import keras, numpy as np

registry = keras.saving.get_custom_objects()
own = dict(registry)
for number, (path, templates, part) in enumerate(json.loads(sys.argv[1])):
    registry.clear()
    registry.update(own)
    for template in templates:
        sys.modules.pop(f"templates.{template}", None)  # imported again, it registers its layers again
        importlib.import_module(f"templates.{template}")
    model = keras.saving.load_model(path)
    kept = np.load(f"{number}.npz")
    flat = [kept[name] for name in kept.files]
    found = getattr(model, part or "__call__")(flat[0] if len(flat) == 1 else flat)
    np.savez(f"{number}.found.npz", *map(keras.ops.convert_to_numpy, keras.tree.flatten(found)))
assert "applications" not in sys.modules
"""


def answers(models: Iterable[tuple[Path, Sequence[str], str, Any]], folder: Path) -> list[list[np.ndarray]]:
    """What models answer there.

    Args:
        models: of each the file, the names of its templates, the attribute that answers, "" for itself, and the inputs.
        folder: for inputs and answers.
    """
    files = []
    for number, (path, templates, part, inputs) in enumerate(models):
        np.savez(folder / f"{number}.npz", *keras.tree.flatten(inputs))
        files.append([str(path), list(templates), part])
    subprocess.run([sys.executable, "-c", RELOAD, json.dumps(files)], cwd=folder, check=True)
    found = []
    for number in range(len(files)):
        with np.load(folder / f"{number}.found.npz") as kept:
            found.append([kept[name] for name in kept.files])
    return found


def draw(batch: int, time: int, tensor: Any) -> np.ndarray:
    """Random rows for an input of a model, of so many steps if their number is free; tokens below 3."""
    random = np.random.default_rng(batch)
    shape = (batch, *(time if size is None else size for size in tensor.shape[1:]))
    if keras.backend.is_float_dtype(tensor.dtype):
        return random.random(shape).astype("float32")
    return random.integers(0, 3, shape).astype("int32")


def arrays(outputs: Any) -> list[np.ndarray]:
    """The outputs of a model, in order."""
    return [np.asarray(keras.ops.convert_to_numpy(x)) for x in keras.tree.flatten(outputs)]

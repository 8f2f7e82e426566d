"""Runs an exported network in ONNX Runtime, LiteRT or TensorFlow; becomes a part of every exported preprocess.py."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Network:
    """An exported network.

    Attributes:
        signature: the contents of signature.json.
        preparation: what turns raw data into inputs and outputs into answers, from signature.json.
    """

    def __init__(self, folder: Path):
        self.signature = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
        self.preparation = self.signature["preparation"]
        self._run = RUNTIMES[self.signature["format"]](str(folder / self.signature["file"]))

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name; inputs and outputs have a row per example."""
        return self._run(
            {name: values.astype(self.signature["inputs"][name]["dtype"]) for name, values in inputs.items()}
        )


def _onnx(path: str) -> Callable[[Arrays], dict[str, np.ndarray]]:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _litert(path: str) -> Callable[[Arrays], dict[str, np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path).get_signature_runner()

    def rows(inputs: Arrays) -> dict[str, np.ndarray]:
        number = len(next(iter(inputs.values())))
        found = [run(**{name: values[row : row + 1] for name, values in inputs.items()}) for row in range(number)]
        return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}

    return rows


def _saved_model(path: str) -> Callable[[Arrays], dict[str, np.ndarray]]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]  # type: ignore
    return lambda inputs: {
        name: value.numpy() for name, value in serve(**{n: tf.constant(v) for n, v in inputs.items()}).items()
    }


RUNTIMES: dict[str, Any] = {"onnx": _onnx, "litert": _litert, "saved_model": _saved_model}

"""Speed of exported models in ONNX Runtime compared with Keras, in examples per second, for each application.

    pip install -e ".[speech,text,pronunciation,export]" -c constraints.txt
    python benchmarks/exports.py
    python benchmarks/exports.py --quick

Each application's network has its default size and random weights, and is exported to ONNX by the application's
`export`. Keras, on the backend that is configured, runs the network that was exported: by `predict`, by
`predict_on_batch`, both as loaded, and by `predict_on_batch` without XLA. ONNX Runtime runs it as the exported
preprocess.py does, and in a bare session. An example is what the network takes: a row, a picture, noise, a context of
tokens, a word with its phones, a window of frames. Both take the same random batches of 1 and of 256 (speech: 16).

Each side of each application runs in a fresh process; they take turns over several rounds. A figure is the median of
the rounds; the ratio is that of preprocess.py to the fastest of Keras' three. Measure on an idle machine.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import untrained
from rounds import turns

BATCHES = {name: (1, 16 if name == "speech_tagging" else 256) for name in untrained.PROGRAMS}
KERAS, RUNTIME = "Keras", "ONNX Runtime"
WAYS = {KERAS: ("predict", "on_batch", "no XLA"), RUNTIME: ("preprocess", "session")}
SECONDS = 0.5  # of calls, after one that compiles


def random_inputs(inputs: dict[str, Any], batch: int) -> dict[str, np.ndarray]:
    """Return a batch of random inputs by name, as signature.json describes them."""
    random = np.random.default_rng(0)
    shapes = {name: (batch, *of_one["shape"][1:]) for name, of_one in inputs.items()}
    return {
        name: (random.random(shape) if "float" in inputs[name]["dtype"] else random.integers(1, 9, shape)).astype(
            inputs[name]["dtype"]
        )
        for name, shape in shapes.items()
    }


def keras_ways(folder: Path) -> list[Callable[[dict[str, np.ndarray]], Any]]:
    """Return Keras' ways to run the network of an exported folder."""
    import keras

    import templates

    for name in templates.names():
        importlib.import_module(f"templates.{name}")  # which makes its layers known to Keras
    loaded, plain = (cast(Any, keras.saving.load_model(folder / "network.keras")) for _ in range(2))
    plain.compile(jit_compile=False)
    names = [tensor.name for tensor in loaded.inputs]

    def fed(inputs: dict[str, np.ndarray]) -> Any:
        flat = [inputs[name] for name in names]
        return keras.tree.pack_sequence_as(loaded.input, flat)

    return [
        lambda inputs: loaded.predict(fed(inputs), batch_size=len(next(iter(inputs.values()))), verbose=0),
        lambda inputs: loaded.predict_on_batch(fed(inputs)),
        lambda inputs: plain.predict_on_batch(fed(inputs)),
    ]


def runtime_ways(folder: Path) -> list[Callable[[dict[str, np.ndarray]], Any]]:
    """Return ONNX Runtime's ways to run the network of an exported folder."""
    import onnxruntime

    from applications.exporting import _module

    network = _module(folder / "preprocess.py").Model(folder).network
    session: Any = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return [lambda inputs: network(**inputs), lambda inputs: session.run(None, inputs)]


def contend(contender: str, folder: Path, quick: bool) -> None:
    """Time one side of one application in this process; print examples per second by batch and way."""
    name, side = contender.split(", ")
    ways = (keras_ways if side == KERAS else runtime_ways)(folder / name)
    described = json.loads((folder / name / "signature.json").read_text())["inputs"]
    for batch in BATCHES[name]:
        inputs = random_inputs(described, batch)
        for way in ways:
            way(inputs)
            calls, since = 0, time.perf_counter()
            while not calls or (not quick and time.perf_counter() - since < SECONDS):
                way(inputs)
                calls += 1
            print(batch * calls / (time.perf_counter() - since))


def main() -> None:
    """Export all models, run all contenders in turn and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which every contender runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of single calls, to check that it works")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        contend(chosen.contender, chosen.folder, chosen.quick)
        return
    figures: dict[tuple[str, int, str], list[float]] = {}
    contenders = [f"{name}, {side}" for name in untrained.PROGRAMS for side in WAYS]
    with tempfile.TemporaryDirectory() as folder:
        for name in untrained.PROGRAMS:
            untrained.export(name, Path(folder))
        flags = ["--folder", folder, *(["--quick"] if chosen.quick else [])]
        for number, contender, words in turns(__file__, contenders, 1 if chosen.quick else chosen.rounds, flags):
            name, side = contender.split(", ")
            places = [(name, batch, way) for batch in BATCHES[name] for way in WAYS[side]]
            for place, figure in zip(places, map(float, words), strict=True):
                figures.setdefault(place, []).append(figure)
            print(f"round {number}  {contender}: {' '.join(f'{float(word):,.0f}' for word in words)}", flush=True)
    ways = [*WAYS[KERAS], *WAYS[RUNTIME]]
    print(f"\nexamples/s{'':<14}batch {''.join(f'{way:>11}' for way in ways)}  ratio")
    for name, batches in BATCHES.items():
        for batch in batches:
            speeds = {way: median(figures[name, batch, way]) for way in ways}
            ratio = speeds["preprocess"] / max(speeds[way] for way in WAYS[KERAS])
            print(f"{name:<24}{batch:>5} {''.join(f'{speed:>11,.0f}' for speed in speeds.values())} {ratio:>6.2f}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for applications/ and templates/
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()

"""Training speed of the recurrent template compared with PyTorch's nn.LSTM and nn.GRU, in frames per second.

    pip install -e ".[bench]" -c constraints.txt
    python benchmarks/recurrent.py
    python benchmarks/recurrent.py --quick

All contenders run on the CPU, so PyTorch's CPU build is enough. A contender whose package is missing is reported and
skipped. Measure on an idle machine.

All contenders train two bidirectional layers of 128 units and a softmax over 39 classes on the same batch of 32
sequences of 200 frames of 40 numbers, with Adam. No sequence is padded, so there is no mask. The template is compiled
as in the speech application: without XLA on TensorFlow, with it on JAX. Each contender runs in a fresh process; the
contenders take turns over several rounds. A round's figure is the median step after the first three; the result is the
median of the rounds.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BATCH, FRAMES, FEATURES, CLASSES, UNITS = 32, 200, 40, 39, (128, 128)
KINDS = ("lstm", "gru")
CONTENDERS = ("template on TensorFlow", "template on JAX", "PyTorch")
MISSING = 3  # exit code of a contender without its package


def template_step(kind: str, backend: str, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Return a function that runs one training step of the template."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    import keras

    from templates import recurrent

    model: Any = getattr(recurrent, kind)(
        features=FEATURES, outputs=CLASSES, units=UNITS, bidirectional=True, mask_value=None
    )
    compiled = False if backend == "tensorflow" else "auto"
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=compiled)
    keras.utils.set_random_seed(0)
    return lambda: float(model.train_on_batch(x, y))


def torch_step(kind: str, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Return a function that runs one eager training step of PyTorch's own layers."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
    network = layer(FEATURES, UNITS[0], len(UNITS), bidirectional=True, batch_first=True)
    head = torch.nn.Linear(2 * UNITS[0], CLASSES)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()])
    inputs, labels = torch.tensor(x), torch.tensor(y).reshape(-1)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(network(inputs)[0]).reshape(-1, CLASSES), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def contend(contender: str, kind: str, steps: int) -> None:
    """Time one contender in this process and print its frames per second."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((BATCH, FRAMES, FEATURES)).astype(np.float32)
    y = generator.integers(0, CLASSES, (BATCH, FRAMES))
    try:
        if contender == "PyTorch":
            step = torch_step(kind, x, y)
        else:
            step = template_step(kind, contender.removeprefix("template on ").lower(), x, y)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    times = []
    for _ in range(3 + steps):
        since = time.perf_counter()
        step()
        times.append(time.perf_counter() - since)
    print(BATCH * FRAMES / median(times[3:]))


def main() -> None:
    """Run all contenders in turn and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which every contender runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of a few steps, to check that it works")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    steps = 5 if chosen.quick else 40
    if chosen.contender:
        contend(chosen.contender, chosen.kind, steps)
        return
    figures: dict[tuple[str, str], list[float]] = {}
    for number in range(1 if chosen.quick else chosen.rounds):
        for kind in KINDS:
            for contender in CONTENDERS:
                command = [sys.executable, __file__, "--contender", contender, "--kind", kind]
                result = subprocess.run(
                    [*command, *(["--quick"] if chosen.quick else [])], capture_output=True, text=True, check=False
                )
                if result.returncode == MISSING:
                    print(f"{contender}: skipped, {result.stderr.strip().splitlines()[-1]}")
                    continue
                if result.returncode:
                    sys.exit(f"{contender}, {kind}: {result.stderr}")
                frames = float(result.stdout.split()[-1])
                figures.setdefault((kind, contender), []).append(frames)
                print(f"round {number + 1}  {kind:<5} {contender:<24} {frames:>9,.0f} frames/s", flush=True)
    for kind in KINDS:
        print(f"\n{kind}, {len(UNITS)} bidirectional layers of {UNITS[0]} units: median of the rounds (range)")
        rival = figures.get((kind, "PyTorch"))
        for contender in CONTENDERS:
            if rates := figures.get((kind, contender)):
                ratio = f"{median(rates) / median(rival):6.2f} × PyTorch" if rival else ""
                spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
                print(f"  {contender:<24} {median(rates):>9,.0f} frames/s {spread:<22} {ratio}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for templates/ and data/
    main()

"""Training speed of the convolutional template beside a plain PyTorch loop of the same network, in pictures a second.

    pip install -e ".[bench]" -c constraints.txt
    python benchmarks/cnn.py
    python benchmarks/cnn.py --quick

PyTorch's CPU build suffices: everything is kept off the GPU. A contender whose package is missing is named and left
out. Measure on an idle machine.

All train the template's default network without its augmentation on the same pictures of 28 × 28 in float32, in
shuffled batches of 64, with Adam: the template by `model.fit`, compiled as in the image application (without XLA on
TensorFlow, with it on JAX), PyTorch by the usual eager loop, with its tensors in either order of memory. Each contender
runs in a fresh process, all in turn and that several times; a round's figure is the median epoch after the first, and
the result the median of the rounds. The template's ratio is to the faster order of PyTorch.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

BATCH, STEPS, SIZE, CLASSES, FILTERS, CONVOLUTIONS, UNITS, DROPOUT = 64, 20, 28, 10, (32, 64), 2, 128, 0.3
RIVALS = ("PyTorch, channels first", "PyTorch, channels last")
CONTENDERS = ("template on TensorFlow", "template on JAX", *RIVALS)
MISSING = 3  # exit code of a contender without its package


def template_epoch(backend: str, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], int]:
    """One epoch of the template, and its number of trained parameters."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    import keras

    from templates.cnn import cnn

    keras.utils.set_random_seed(0)
    sizes: Any = {"filters": FILTERS, "convolutions": CONVOLUTIONS, "dense": (UNITS,), "dropout": DROPOUT}
    model: Any = cnn(height=SIZE, width=SIZE, outputs=CLASSES, rotation=0, translation=0, zoom=0, **sizes)
    compiled = False if backend == "tensorflow" else "auto"
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=compiled)
    count = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return lambda: model.fit(x, y, batch_size=BATCH, verbose=0), count


def torch_epoch(last: bool, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], int]:
    """One epoch of the same network in PyTorch, and its number of trained parameters."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    layers, channels = [], 1
    for filters in FILTERS:
        for _ in range(CONVOLUTIONS):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters, 1e-3), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(channels, UNITS), nn.ReLU()]
    layers += [nn.Dropout(DROPOUT), nn.Linear(UNITS, CLASSES)]
    order = torch.channels_last if last else torch.contiguous_format
    network = nn.Sequential(*layers).to(memory_format=order)
    optimizer = torch.optim.Adam(network.parameters())
    pictures = torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=order)
    labels = torch.tensor(y)

    def epoch() -> None:
        for rows in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            batch = pictures[rows].contiguous(memory_format=order)
            nn.functional.cross_entropy(network(batch), labels[rows]).backward()
            optimizer.step()

    return epoch, sum(weight.numel() for weight in network.parameters())


def contend(contender: str, epochs: int) -> None:
    """Time one contender in this process and print its parameters and pictures a second."""
    generator = np.random.default_rng(0)
    x = generator.random((BATCH * STEPS, SIZE, SIZE, 1)).astype(np.float32)
    y = generator.integers(0, CLASSES, BATCH * STEPS)
    try:
        if contender in RIVALS:
            epoch, count = torch_epoch(contender.endswith("last"), x, y)
        else:
            epoch, count = template_epoch(contender.removeprefix("template on ").lower(), x, y)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    times = []
    for _ in range(1 + epochs):
        since = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - since)
    print(count, BATCH * STEPS / median(times[1:]))


def main() -> None:
    """Run all contenders in turn and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times that every contender runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of one epoch: shows that it works")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        contend(chosen.contender, 1 if chosen.quick else 8)
        return
    figures: dict[str, list[float]] = {}
    counts: set[str] = set()
    for number in range(1 if chosen.quick else chosen.rounds):
        for contender in CONTENDERS:
            command = [sys.executable, __file__, "--contender", contender, *(["--quick"] if chosen.quick else [])]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == MISSING:
                print(f"{contender}: left out, {result.stderr.strip().splitlines()[-1]}")
                continue
            if result.returncode:
                sys.exit(f"{contender}: {result.stderr}")
            count, pictures = result.stdout.split()[-2:]
            counts.add(count)
            if len(counts) > 1:
                sys.exit(f"{contender} trains {count} parameters, others {', '.join(counts - {count})}")
            figures.setdefault(contender, []).append(float(pictures))
            print(f"round {number + 1}  {contender:<24} {float(pictures):>7,.0f} pictures/s", flush=True)
    rivals = [median(figures[rival]) for rival in RIVALS if rival in figures]
    print("\nmedian of the rounds (range)")
    for contender, found in figures.items():
        ratio = f"{median(found) / max(rivals):6.2f} × PyTorch" if rivals else ""
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        print(f"  {contender:<24} {median(found):>7,.0f} pictures/s {spread:<18} {ratio}")


if __name__ == "__main__":
    main()

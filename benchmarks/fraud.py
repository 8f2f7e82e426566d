"""Training speed of the autoencoder template compared with PyOD, an eager PyTorch loop and a bare JAX loop.

    pip install -e ".[bench]" -c constraints.txt
    python benchmarks/fraud.py
    python benchmarks/fraud.py --quick

All contenders run on the CPU, so PyTorch's CPU build is enough. A contender whose package is missing is reported and
skipped. Measure on an idle machine: PyTorch's threads wait for each other, so a busy core slows
PyTorch more than the others.

All contenders train the same network, 30-64-16-64-30 with ReLU, on the same rows in batches of 256, with Adam at a
learning rate of 1e-3 and mean squared error, from their package's default initial weights. The template is compiled and
fed as in the fraud application, which standardises each batch. PyOD either standardises too or gets standardised rows;
its batch normalisation, dropout and weight decay are off, and its scoring is not timed. The two loops get standardised
rows; the JAX loop is one compiled scan per epoch.

Each contender runs in a fresh process. The contenders take turns over several rounds, so that a slow phase of the
machine affects all of them. The first epoch, which compiles, is not timed; a round's result is the median of the next
epochs, at least four. The loss is that of all rows after the same number of epochs: contenders that do the same work
reach similar losses.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SIZES = (30, 64, 16, 64, 30)
BATCH_SIZE = 256
LEARNING_RATE = 1e-3
SEED = 0
COMPARED = 5  # epochs after which the losses are compared; the first is not timed
ENDLESS = 1_000_000  # epochs
MISSING = 3  # exit code of a contender without its package


class Enough(Exception):  # noqa: N818 - nothing went wrong
    """Enough epochs are timed."""


class Meter:
    """Times epochs and computes the loss after `COMPARED` of them."""

    def __init__(self, rows: np.ndarray, seconds: float):
        self.rows = rows
        self.seconds = seconds
        self.epochs: list[float] = []
        self.loss = float("nan")
        self.since = time.perf_counter()

    def __call__(self, weights: Callable[[], Sequence[np.ndarray]]) -> None:
        """Record the end of an epoch; `weights` returns kernel (inputs, units) and bias (units,) of each layer."""
        self.epochs.append(time.perf_counter() - self.since)
        if len(self.epochs) == COMPARED:
            *hidden, kernel, bias = weights()
            x = self.rows
            for hidden_kernel, hidden_bias in zip(hidden[::2], hidden[1::2], strict=True):
                x = np.maximum(x @ hidden_kernel + hidden_bias, 0)
            self.loss = float(np.square(x @ kernel + bias - self.rows).mean())
        if len(self.epochs) >= COMPARED and sum(self.epochs[1:]) >= self.seconds:
            raise Enough
        self.since = time.perf_counter()


def simulated_rows(steps: int) -> np.ndarray:
    """Return standardised rows (steps * batch, features) float32: non-linear functions of factors, with noise."""
    generator = np.random.default_rng(SEED)
    factors = np.tanh(generator.standard_normal((steps * BATCH_SIZE, 8)) @ generator.standard_normal((8, 24)))
    rows = factors @ generator.standard_normal((24, SIZES[0])) + generator.standard_normal((len(factors), SIZES[0]))
    return ((rows - rows.mean(0)) / rows.std(0)).astype(np.float32)


def order_of(epoch: int, rows: int) -> np.ndarray:
    """Return the row indices of an epoch in random order, (steps, batch)."""
    return np.random.default_rng([SEED, epoch]).permutation(rows).reshape(-1, BATCH_SIZE)


# --- Contenders: each trains until the meter stops it, and imports its own packages, which may not be installed -------


def train_template(rows: np.ndarray, meter: Meter, execution: int) -> None:
    """Train the template, compiled and fed as in the fraud application, with `execution` steps per execution."""
    import keras

    from data.batches import shuffled_batches
    from data.feeding import fed
    from templates.autoencoder import autoencoder

    mean, scale = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    steps = len(rows) // BATCH_SIZE
    features, *widths, code = SIZES[: len(SIZES) // 2 + 1]
    keras.utils.set_random_seed(SEED)
    model = autoencoder(features=features, widths=widths, code_size=code, activation="relu", code_activation="relu")
    jit: Any = False if keras.backend.backend() == "tensorflow" else "auto"
    adam = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(adam, loss="mean_squared_error", steps_per_execution=execution, jit_compile=jit)

    def pairs(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = ((rows[order] - mean) / scale).astype(np.float32)
        return batch, batch

    epoch = shuffled_batches(pairs, len(rows), batch_size=BATCH_SIZE, steps=steps, seed=SEED)
    batches = fed(
        lambda: itertools.chain.from_iterable(map(epoch, range(ENDLESS))), ENDLESS * steps, lengths_vary=False
    )
    clock: Any = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: meter(model.get_weights))
    quiet: Any = 0  # the annotation of `verbose` lacks int
    model.fit(batches, epochs=ENDLESS, steps_per_epoch=steps, shuffle=False, callbacks=[clock], verbose=quiet)


def train_pyod(rows: np.ndarray, meter: Meter, standardise: bool, threads: int | None = None) -> None:
    """Train PyOD's AutoEncoder, which calls `epoch_update` after each epoch."""
    import torch
    from pyod.models.auto_encoder import AutoEncoder

    class Timed(AutoEncoder):
        def epoch_update(self):
            meter(lambda: [p.detach().numpy().T for p in self.model.parameters()])

    torch.set_num_threads(threads or torch.get_num_threads())
    Timed(
        preprocessing=standardise,
        hidden_neuron_list=list(SIZES[1 : len(SIZES) // 2 + 1]),
        batch_norm=False,
        dropout_rate=0,
        lr=LEARNING_RATE,
        optimizer_params={"weight_decay": 0},
        batch_size=BATCH_SIZE,
        epoch_num=ENDLESS,
        verbose=0,
    ).fit(rows)


def train_torch(rows: np.ndarray, meter: Meter) -> None:
    """Train with an eager PyTorch loop on one thread."""
    import torch

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    layers: list[torch.nn.Module] = []
    for inputs, units in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss_of = torch.nn.MSELoss()
    for epoch in range(ENDLESS):
        for batch in torch.from_numpy(rows[order_of(epoch, len(rows))]):
            optimizer.zero_grad()
            loss_of(model(batch), batch).backward()
            optimizer.step()
        meter(lambda: [p.detach().numpy().T for p in model.parameters()])


def train_jax(rows: np.ndarray, meter: Meter) -> None:
    """Train with a bare JAX loop: an epoch is one compiled scan, with Adam written out."""
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
    start = jax.nn.initializers.glorot_uniform()
    weights = [(start(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, itertools.pairwise(SIZES), strict=True)]
    state = (weights, jax.tree.map(jnp.zeros_like, weights), jax.tree.map(jnp.zeros_like, weights), jnp.zeros(()))
    data = jnp.asarray(rows)
    for epoch in range(ENDLESS):
        state = jax.block_until_ready(train_epoch(state, data, order_of(epoch, len(rows))))
        meter(lambda weights=state[0]: [np.asarray(w) for w in jax.tree.leaves(weights)])


CONTENDERS: dict[str, Callable[[np.ndarray, Meter], None]] = {
    "template, tensorflow, 32 steps an execution": partial(train_template, execution=32),
    "template, tensorflow, 1 step an execution": partial(train_template, execution=1),
    "template, jax, 32 steps an execution": partial(train_template, execution=32),
    "template, jax, 1 step an execution": partial(train_template, execution=1),
    "PyOD": partial(train_pyod, standardise=True),
    "PyOD, 1 thread": partial(train_pyod, standardise=True, threads=1),
    "PyOD, standardised rows, 1 thread": partial(train_pyod, standardise=False, threads=1),
    "eager PyTorch loop, 1 thread": train_torch,
    "bare JAX loop": train_jax,
}


# --- Running them -----------------------------------------------------------------------------------------------------


def measure(name: str, steps: int, seconds: float) -> None:
    """Train a contender in this process and print the rows/s of its epochs and its loss as JSON."""
    meter = Meter(simulated_rows(steps), seconds)
    try:
        CONTENDERS[name](meter.rows, meter)
    except ModuleNotFoundError as problem:
        print(problem)
        sys.exit(MISSING)
    except Enough:
        rates = [len(meter.rows) / seconds for seconds in meter.epochs[1:]]
        print(json.dumps({"rates": rates, "loss": meter.loss}))


def measure_apart(name: str, steps: int, seconds: float) -> dict[str, Any] | None:
    """Run `measure` in a separate process and return its result; if a package is missing, say so and return None."""
    backend = name.split(", ")[1] if name.startswith("template") else "tensorflow"
    process = subprocess.run(
        [sys.executable, __file__, "measure", name, str(steps), str(seconds)],
        env=os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,  # TensorFlow and JAX write start-up lines
        text=True,
    )
    last = (process.stdout.splitlines() or [""])[-1]
    if process.returncode == MISSING:
        print(f"{name}: skipped, {last}", flush=True)
        return None
    if process.returncode:
        sys.exit(f"{name} failed with exit code {process.returncode}:\n{process.stderr}")
    return json.loads(last)


def compare(steps: int, seconds: float, rounds: int) -> None:
    """Run all contenders in turn, `rounds` times, and print results and ratios."""
    installed = {package.name.lower(): package.version for package in importlib.metadata.distributions()}
    versions = [f"{name} {installed.get(name, 'missing')}" for name in ("keras", "tensorflow", "jax", "torch", "pyod")]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.system()}"
    print(machine, f"Python {platform.python_version()}", *versions, sep=", ")
    print(f"{steps * BATCH_SIZE:,} rows of {SIZES[0]}, batches of {BATCH_SIZE}, {rounds} rounds of {seconds:g} s")

    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for number, name in itertools.product(range(1, rounds + 1), CONTENDERS):
        if name in measured:
            if result := measure_apart(name, steps, seconds):
                measured[name].append(result)
                print(f"round {number}  {name:44}{median(result['rates']):>11,.0f} rows/s", flush=True)
            else:
                del measured[name]

    print(f"\n{'rows/s':44}{'median':>11}{'slowest epoch':>15}{'fastest':>11}{f'loss, {COMPARED} epochs':>16}")
    rates = {name: [median(result["rates"]) for result in results] for name, results in measured.items()}
    middle = {name: median(values) for name, values in rates.items()}
    for name, results in measured.items():
        epochs = [rate for result in results for rate in result["rates"]]
        loss = median(result["loss"] for result in results)
        print(f"{name:44}{middle[name]:>11,.0f}{min(epochs):>15,.0f}{max(epochs):>11,.0f}{loss:>16.4f}")

    for backend in ("tensorflow", "jax"):
        ours = [name for name in rates if backend in name]
        if not ours:
            continue
        best = max(ours, key=lambda name: middle[name])
        print(f"\n{best:44}{'ratio':>11}{'lowest round':>15}{'highest':>11}")
        for other in [name for name in rates if not name.startswith("template")]:
            each = [a / b for a, b in zip(rates[best], rates[other], strict=True)]
            print(f"/ {other:42}{middle[best] / middle[other]:>11.2f}{min(each):>15.2f}{max(each):>11.2f}")


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["measure"]:
        return measure(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, to check that every contender works")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which every contender runs (default: 3)")
    options = parser.parse_args()
    if options.quick:
        return compare(steps=32, seconds=0.1, rounds=1)
    return compare(steps=768, seconds=3, rounds=options.rounds)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for templates/ and data/
    main()

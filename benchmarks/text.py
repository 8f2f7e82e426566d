"""Speed of the decoder template: training compared with an eager PyTorch loop, generation with and without cache.

    pip install -e ".[bench]" -c constraints.txt
    python benchmarks/text.py
    KERAS_BACKEND=jax python benchmarks/text.py
    python benchmarks/text.py --quick

All contenders run on the CPU, so PyTorch's CPU build is enough. A contender whose package is missing is reported and
skipped. Measure on an idle machine.

Training follows nanoGPT's public recipe for a CPU: 4 blocks, 4 heads, width 128, context 64, batches of 12, no dropout,
AdamW with a learning rate of 1e-3 (constant here), on characters of the Python language reference in the standard
library; the last tenth of the text is for validation. The PyTorch model is nanoGPT's, with one matrix product for
query, key and value and `scaled_dot_product_attention`. Both train on the same batches. Each runs in its own process
over all rounds; the rounds alternate, and the first, which compiles, is not counted. The validation loss is that after
all steps.

Generation uses a decoder of that size with a context of 256: the template's `Stream`, which generates token by token
with a cache, is compared with calls of the compiled model on the last 256 tokens for each new token.
"""

import argparse
import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CONTEXT, BATCH, WIDTH, DEPTH, HEADS, RATE, DECAY, BETAS = 64, 12, 128, 4, 4, 1e-3, 0.1, (0.9, 0.99)
LENGTH = 256  # of the context in generation
CONTENDERS = ("template", "PyTorch")
MISSING = 3  # exit code of a contender without its package


def text() -> tuple[np.ndarray, np.ndarray, int]:
    """Return the tokens of the training and the validation part, and the size of the vocabulary."""
    from pydoc_data.topics import topics

    characters, tokens = np.unique(list("".join(topics.values())), return_inverse=True)
    split = len(tokens) * 9 // 10
    return tokens[:split].astype(np.int32), tokens[split:].astype(np.int32), len(characters)


def windows(tokens: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets, both (starts, CONTEXT)."""
    positions = starts[:, None] + np.arange(CONTEXT)
    return tokens[positions], tokens[positions + 1]


def use_cpu() -> None:
    """Choose the backend, before Keras is imported, and disable the GPU."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


class Template:
    """The template, trained with `fit`."""

    def __init__(self, vocabulary: int, steps: int):
        use_cpu()
        import keras

        from templates.transformer import decoder

        keras.utils.set_random_seed(0)
        self.model: Any = decoder(vocabulary=vocabulary, context=CONTEXT, width=WIDTH, depth=DEPTH, heads=HEADS)
        on_torch = keras.backend.backend() == "torch"
        self.model.compile(
            keras.optimizers.AdamW(RATE, weight_decay=DECAY, beta_1=BETAS[0], beta_2=BETAS[1]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=not on_torch,
            steps_per_execution=1 if on_torch else steps,
        )

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train one step per `BATCH` rows, in order."""
        self.model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the mean loss over all tokens in nats."""
        return float(self.model.evaluate(x, y, batch_size=len(x) // 10, verbose=0))


class PyTorch:
    """The same decoder as implemented by nanoGPT, in the usual eager loop."""

    def __init__(self, vocabulary: int, steps: int):
        import torch  # pyright: ignore[reportMissingImports]

        nn = torch.nn
        torch.manual_seed(0)

        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
                self.attention, self.projection = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
                self.expand, self.contract = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

            def forward(self, x):
                heads = [
                    part.view(*x.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)
                    for part in self.attention(self.norms[0](x)).split(WIDTH, dim=2)
                ]
                y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
                x = x + self.projection(y.transpose(1, 2).reshape(x.shape))
                return x + self.contract(nn.functional.gelu(self.expand(self.norms[1](x))))

        class Decoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
                self.blocks, self.norm = nn.ModuleList(Block() for _ in range(DEPTH)), nn.LayerNorm(WIDTH)
                for name, weight in self.named_parameters():
                    if weight.dim() == 2:
                        added = name.endswith(("projection.weight", "contract.weight"))
                        nn.init.normal_(weight, std=0.02 / ((2 * DEPTH) ** 0.5 if added else 1))
                    elif name.endswith("bias"):
                        nn.init.zeros_(weight)

            def forward(self, x, y):
                x = self.tokens(x) + self.positions.weight[: x.shape[1]]
                for block in self.blocks:
                    x = block(x)
                logits = self.norm(x) @ self.tokens.weight.T
                return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

        self.torch, self.model = torch, Decoder()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), RATE, betas=BETAS, weight_decay=DECAY)

    def tensors(self, x: np.ndarray, y: np.ndarray) -> Iterator[Any]:
        """Return pairs of tensors of `BATCH` rows each."""
        pair = (self.torch.from_numpy(part.astype(np.int64)).split(BATCH) for part in (x, y))
        return zip(*pair, strict=True)

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train one step per `BATCH` rows, in order."""
        for batch in self.tensors(x, y):
            self.optimizer.zero_grad(set_to_none=True)
            self.model(*batch).backward()
            self.optimizer.step()

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the mean loss over all tokens in nats."""
        with self.torch.no_grad():
            losses = [(len(batch[0]), self.model(*batch).item()) for batch in self.tensors(x, y)]
        return sum(n * loss for n, loss in losses) / sum(n for n, _ in losses)


def contend(contender: str, steps: int, rounds: int) -> None:
    """Train one round per line of input and print its tokens per second; at the end, print the validation loss."""
    train, validation, vocabulary = text()
    steps //= rounds
    try:
        trained = {"template": Template, "PyTorch": PyTorch}[contender](vocabulary, steps)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    print("ready", flush=True)
    random = np.random.default_rng(0)
    for _ in range(rounds):
        input()
        x, y = windows(train, random.integers(0, len(train) - CONTEXT, BATCH * steps))
        since = time.perf_counter()
        trained.train(x, y)
        print(x.size / (time.perf_counter() - since), flush=True)
    input()
    starts = np.arange(0, len(validation) - CONTEXT, CONTEXT)
    print(trained.loss(*windows(validation, starts[: len(starts) // 10 * 10])), flush=True)


def compare_training(steps: int, rounds: int) -> None:
    """Train the contenders in turns and print the results."""
    running: dict[str, subprocess.Popen[str]] = {}
    figures: dict[str, list[float]] = {}
    for contender in CONTENDERS:
        command = [sys.executable, __file__, "--contender", contender, "--steps", str(steps), "--rounds", str(rounds)]
        running[contender] = process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if answer(process, contender, "") != "ready":
            print(f"{contender}: skipped")
            del running[contender]
    for number in range(rounds):
        for contender, process in running.items():
            figures.setdefault(contender, []).append(float(answer(process, contender)))
            print(f"round {number + 1:>2}  {contender:<9} {figures[contender][-1]:>9,.0f} tokens/s", flush=True)
    print(f"\ntraining, {steps:,} steps: median of the rounds after the first (range), validation loss")
    medians = {contender: median(rates[1:]) for contender, rates in figures.items()}
    for contender, process in running.items():
        rates, loss = figures[contender][1:], float(answer(process, contender))
        ratio = f"{medians[contender] / medians['PyTorch']:6.2f} × PyTorch" if "PyTorch" in medians else ""
        spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
        print(f"  {contender:<9} {median(rates):>9,.0f} tokens/s {spread:<20} {ratio}   {loss:.3f} nats", flush=True)


def answer(process: subprocess.Popen[str], contender: str, question: str = "\n") -> str:
    """Return the next line that a contender prints, or "" if its package is missing."""
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(question)
    process.stdin.flush()
    line = process.stdout.readline().strip()
    if not line and process.wait() != MISSING:
        sys.exit(f"{contender}: {process.stderr.read()}")
    return line


def compare_generation(tokens: int, rounds: int) -> None:
    """Generate with and without the cache in turns, and measure memory use."""
    use_cpu()
    import keras

    from templates.decoding import Stream, generate
    from templates.transformer import decoder

    class Recomputing:
        """A stream that runs the whole context for each token."""

        def __init__(self, model: Any):
            self.model = model
            model.compile(jit_compile=keras.backend.backend() != "torch")

        def reset(self):
            self.tokens = np.zeros((1, 0), np.int32)

        def __call__(self, tokens: np.ndarray) -> np.ndarray:
            self.tokens = np.concatenate([self.tokens, tokens.reshape(1, -1)], axis=1)[:, -LENGTH:]
            return self.model.predict_on_batch(self.tokens)[:, -1]

    keras.utils.set_random_seed(0)
    model: Any = decoder(vocabulary=96, context=LENGTH, width=WIDTH, depth=DEPTH, heads=HEADS)
    contenders = {"cache": Stream(model), "whole context": Recomputing(model)}
    counts = {"cache": tokens, "whole context": tokens // 10}  # these take a similar time
    running = {}
    for name, stream in contenders.items():
        running[name] = generate(stream, [[0] * LENGTH], 10**9)
        for _ in itertools.islice(running[name], 2 * LENGTH if name == "cache" else 2):
            pass  # compiles
    before, figures = peak_megabytes(), {name: [] for name in contenders}
    for number in range(rounds):
        for name in contenders:
            since = time.perf_counter()
            for _ in itertools.islice(running[name], counts[name]):
                pass
            figures[name].append(counts[name] / (time.perf_counter() - since))
            print(f"round {number + 1:>2}  {name:<14} {figures[name][-1]:>7,.0f} tokens/s", flush=True)
    print(f"\ngeneration at a context of {LENGTH} on {keras.backend.backend()}: median of the rounds (range)")
    for name, rates in figures.items():
        ratio = median(rates) / median(figures["whole context"])
        print(f"  {name:<14} {median(rates):>7,.0f} tokens/s ({min(rates):,.0f} to {max(rates):,.0f})  {ratio:6.1f} ×")
    generated = rounds * sum(counts.values())
    print(f"  peak memory grew by {peak_megabytes() - before:.1f} MB in {generated:,} tokens, from {before:,.0f} MB")


def peak_megabytes() -> float:
    """Return the peak memory use of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Compare training, then generation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="training steps (default: 2000)")
    parser.add_argument("--rounds", type=int, help="rounds of training (default: 20)")
    parser.add_argument("--part", choices=("training", "generation"), help="run only one of the two comparisons")
    parser.add_argument("--quick", action="store_true", help="100 steps in 5 rounds, to check that it works")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    steps = chosen.steps or (100 if chosen.quick else 2000)
    rounds = chosen.rounds or (5 if chosen.quick else 20)
    if rounds < 2 or steps < rounds:
        parser.error("needs at least 2 rounds and at least one step per round")
    if chosen.contender:
        contend(chosen.contender, steps, rounds)
        return
    if chosen.part != "generation":
        compare_training(steps, rounds)
    if chosen.part != "training":
        compare_generation(100 if chosen.quick else 1000, 3 if chosen.quick else 7)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for templates/ and data/
    main()

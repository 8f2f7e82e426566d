"""Time contenders in turn, each in a fresh process: code shared by the benchmarks that compare a single figure."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

MISSING = 3  # exit code of a contender without its package


def turns(
    script: str, contenders: Sequence[str], rounds: int, flags: Sequence[str] = ()
) -> Iterator[tuple[int, str, list[str]]]:
    """Run `script --contender NAME` for all contenders in turn, several times.

    Yields:
        The round, from 1; the contender; the words that it printed. One without its package is reported and skipped.
    """
    for number in range(1, 1 + rounds):
        for contender in contenders:
            command = [sys.executable, script, "--contender", contender, *flags]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == MISSING:
                print(f"{contender}: skipped, {result.stderr.strip().splitlines()[-1]}")
                continue
            if result.returncode:
                sys.exit(f"{contender}: {result.stderr}")
            yield number, contender, result.stdout.split()


def compete(
    script: str,
    description: str | None,
    contenders: Sequence[str],
    contend: Callable[[str, bool], tuple[int, float]],
    *,
    unit: str,
    rivals: Sequence[str],
    rival: str,
) -> None:
    """Run all contenders in turn and print their figures and ratios; or time the one named by --contender.

    Args:
        script: file of the benchmark.
        description: text of --help.
        contenders: names of the contenders.
        contend: function of a contender's name and whether to be quick; returns its number of trained parameters, which
            must be the same for all, and its figure (higher is better).
        unit: unit of the figure.
        rivals: contenders that the others are compared with; ratios are to the best of them.
        rival: name for the rivals in the ratios.
    """
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for templates/ and data/
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which every contender runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of a few steps, to check that it works")
    parser.add_argument("--contender", choices=contenders, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        try:
            print(*contend(chosen.contender, chosen.quick))
        except ModuleNotFoundError as error:
            print(error, file=sys.stderr)
            sys.exit(MISSING)
        return
    figures: dict[str, list[float]] = {}
    counts: set[str] = set()
    width = max(map(len, contenders))
    quick = ["--quick"] if chosen.quick else []
    for number, contender, words in turns(script, contenders, 1 if chosen.quick else chosen.rounds, quick):
        count, figure = words[-2:]
        counts.add(count)
        if len(counts) > 1:
            sys.exit(f"{contender} trains {count} parameters, others {', '.join(counts - {count})}")
        figures.setdefault(contender, []).append(float(figure))
        print(f"round {number}  {contender:<{width}} {float(figure):>7,.0f} {unit}", flush=True)
    rival_medians = [median(figures[name]) for name in rivals if name in figures]
    print("\nmedian of the rounds (range)")
    for contender, values in figures.items():
        ratio = f"{median(values) / max(rival_medians):6.2f} × {rival}" if rival_medians else ""
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"  {contender:<{width}} {median(values):>7,.0f} {unit} {spread:<18} {ratio}")

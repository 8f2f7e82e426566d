"""Generate images with an exported generator; needs only NumPy, Pillow and the runtime of the export.

    model = Model(Path("exported"))
    model.answers([{"class": "7", "count": 64, "seed": 0}])  # [{"classes": [...], "pictures": [PNG files]}]

or from a terminal: python exported/preprocess.py --class 7 --count 64 --seed 0 --out sevens.png
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.pictures import png
from applications.runtime import Network
from applications.synthesis.models import unscaled

EXAMPLE = "drawing"  # what `Model.answers` takes a list of
MOST = 1_024  # pictures of a request
SPACE = 2  # pixels between the pictures of a grid


class Model:
    """The generator: classes and seeds in, pictures out."""

    def __init__(self, folder: Path):
        self.network = Network(folder)
        self.classes = self.network.preparation["classes"]  # none if the model isn't conditional

    def answers(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Draw pictures.

        Args:
            requests: each may have a class by its name, for a conditional model, by default all in turn; the count of
                the pictures; and the seed of the noise.

        Returns:
            For each request: pictures, a PNG file each; and classes, the class name of each picture, empty if the model
            isn't conditional.

        Raises:
            ValueError: for a class that the model doesn't know, or a count or a seed out of range.
        """
        return [
            {
                "classes": [self.classes[label] for label in self.inputs(request).get("label", ())],
                "pictures": [png(picture) for picture in unscaled(pictures)],
            }
            for request, pictures in zip(requests, self.drawn(requests), strict=True)
        ]

    def drawn(self, requests: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """The pictures of each request, (count, height, width, channels) float32, 0 (black) to 1 (white)."""
        return [self.network(**self.inputs(request))["picture"] for request in requests]

    def inputs(self, request: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The noise (count, latent) of a request, and for a conditional model the numbers of classes (count,)."""
        given = {name: value for name, value in request.items() if value is not None}
        filled = self.network.preparation["defaults"] | given
        count, seed, name = _whole(filled, "count", 1, MOST), _whole(filled, "seed", 0), filled["class"]
        if name is not None and name not in self.classes:
            known = f"one of {', '.join(self.classes)}" if self.classes else "none, since the model isn't conditional"
            raise ValueError(f"class: found {name!r}, expected {known}")
        _, latent = self.network.signature["inputs"]["noise"]["shape"]
        noise = np.random.default_rng(seed).normal(size=(count, latent))
        if not self.classes:
            return {"noise": noise}
        labels = np.arange(count) % len(self.classes)
        return {"noise": noise, "label": labels if name is None else np.full(count, self.classes.index(name))}


def _whole(request: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int:
    value = request[name]
    if not isinstance(value, int) or value < least or (most is not None and value > most):
        expected = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
        raise ValueError(f"{name}: found {value!r}, expected a whole number of {expected}")
    return value


def grid(shown: np.ndarray) -> np.ndarray:
    """One picture (height, width, channels) of many (n, height, width, channels) uint8, about as wide as high."""
    columns = int(np.ceil(np.sqrt(len(shown))))
    rows = -(-len(shown) // columns)
    _, height, width, channels = shown.shape
    whole = np.full((rows * (height + SPACE) - SPACE, columns * (width + SPACE) - SPACE, channels), 255, np.uint8)
    for place, picture in enumerate(shown):
        top, left = place // columns * (height + SPACE), place % columns * (width + SPACE)
        whole[top : top + height, left : left + width] = picture
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Generate images and write them as one grid.")
    parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    parser.add_argument("--class", default=argparse.SUPPRESS, help="class to generate; by default all in turn")
    parser.add_argument("--count", type=int, default=argparse.SUPPRESS, help="number of images")
    parser.add_argument("--seed", type=int, default=argparse.SUPPRESS, help="seed of the noise")
    request = vars(parser.parse_args())
    out = request.pop("out")
    try:
        (pictures,) = Model(Path(__file__).parent).drawn([request])
    except ValueError as error:
        sys.exit(str(error))
    out.write_bytes(png(grid(unscaled(pictures))))

"""The code that travels with an exported generator draws as the program does."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from applications import exporting
from applications.synthesis import models
from applications.synthesis import preprocess as source
from templates import gan as template

SMALL = {"height": 5, "width": 4, "latent": 3, "generator_filters": (4,), "discriminator_filters": (4,), "seed": 0}
CLASSES = ("a", "b", "c")
DEFAULTS = {"class": None, "count": 5, "seed": 2}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The exported file, as a module."""
    path = tmp_path_factory.mktemp("exported") / "preprocess.py"
    path.write_text(exporting.single_file(Path(source.__file__)), encoding="utf-8")
    return exporting._module(path)


def both(module, conditional):
    """A program's generator, and the exported code around the same network."""
    gan = template.conditional_gan(**SMALL, classes=len(CLASSES)) if conditional else template.gan(**SMALL)

    class Network:
        def __init__(self, folder):
            self.signature = {"inputs": {"noise": {"shape": [None, 3]}}}
            self.preparation = {"classes": list(CLASSES) if conditional else [], "defaults": DEFAULTS}

        def __call__(self, **inputs):
            return {"picture": gan.average.predict_on_batch(list(inputs.values()))}

    module.Network = Network
    return models.Artist(gan, CLASSES), module.Model(Path())


def opened(answer):
    return [np.asarray(Image.open(io.BytesIO(file)), int) for file in answer["pictures"]]


def test_pictures_of_classes_are_those_of_the_program(single):
    artist, own = both(single, conditional=True)
    requests = [{}, {"class": "b", "count": 2}, {"seed": 7, "count": 1, "class": None}, {"class": None, "count": 4}]
    drawn = [([0, 1, 2, 0, 1], 2), ([1, 1], 2), ([0], 7), ([0, 1, 2, 0], 2)]
    for answer, (labels, seed) in zip(own.answers(requests), drawn, strict=True):
        expected = artist.draw(np.array(labels), seed=seed)
        assert answer["classes"] == [CLASSES[label] for label in labels]
        np.testing.assert_allclose(opened(answer), models.unscaled(expected)[..., 0], atol=1)


def test_pictures_without_classes_are_those_of_the_program(single):
    artist, own = both(single, conditional=False)
    (answer,) = own.answers([{"count": 3, "seed": 1}])
    assert answer["classes"] == []
    expected = artist.draw(np.zeros(3, int), seed=1)
    np.testing.assert_allclose(opened(answer), models.unscaled(expected)[..., 0], atol=1)
    np.testing.assert_allclose(own.drawn([{"count": 3, "seed": 1}])[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match="class: found 'a', expected none, since the model isn't conditional"):
        own.answers([{"class": "a"}])


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"class": "z"}, "class: found 'z', expected one of a, b, c"),
        ({"count": 0}, "count: found 0, expected a whole number of 1 to 1,024"),
        ({"count": 2_000}, "count: found 2000, expected a whole number of 1 to 1,024"),
        ({"count": 2.5}, "count: found 2.5, expected a whole number"),
        ({"seed": -1}, "seed: found -1, expected a whole number of 0 or more"),
    ],
)
def test_what_cannot_be_drawn(single, request_, said):
    with pytest.raises(ValueError, match=said):
        both(single, conditional=True)[1].answers([request_])

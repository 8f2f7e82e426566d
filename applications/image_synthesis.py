"""Train a generative adversarial network on images, report how realistic its images are, and generate new ones.

Takes scikit-learn's digits (or your own images), trains a generator and a discriminator, compares generated images
with real ones and with samples of classical models and writes a PDF report, the model and all results to a run's
folder.

    python applications/image_synthesis.py
    python applications/image_synthesis.py --template gan
    python applications/image_synthesis.py --images photographs/ --preset long
    python applications/image_synthesis.py generate --model runs/.../model.keras --class 7 --count 64 --out sevens.png
    python applications/image_synthesis.py export --model runs/.../model.keras --format onnx --out exported
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # data/, reports/ and templates/ are those beside applications/

import tyro

from applications import exporting, lazy, pictures, run
from applications.classifiers import Pictures
from applications.synthesis import models
from data.dataset import BadInput
from data.ranges import Count, Positive, Seed

with lazy.imports():
    import keras
    import numpy as np

    from applications.synthesis import evaluation, preprocess
    from reports import metrics as schema

APPLICATION = "image_synthesis"
REPORT = Path(__file__).parent / "synthesis" / "report.typ"
JUDGE = "judge.keras"
EXAMPLES = 10  # pictures of a class, and classes at most, that an exported model is compared on


@dataclasses.dataclass(frozen=True)
class Networks(pictures.Source):
    """Which images, and which networks."""

    template: Literal["conditional_gan", "gan"] = "conditional_gan"
    """Whether the networks use the classes, so that images of a class can be generated; gan needs no classes."""
    preset: Literal["short", "long"] = "short"
    """A training sees 90,000 (short) or 539,000 images (long): minutes or half an hour for digits on two cores."""
    gan: models.Gan = dataclasses.field(default_factory=models.Gan)
    """Settings of the two networks."""
    discriminator_learning_rate_ratio: Positive | None = None
    """Ratio of the discriminator's learning rate to the generator's."""


@dataclasses.dataclass(frozen=True)
class Train(run.Training, Networks):
    """Train on embedded images or on your own, compare with classical models, and write the report."""


@dataclasses.dataclass(frozen=True)
class Generate(run.Trained):
    """Generate images with a trained model and write them as one grid."""

    out: Path
    """A new PNG file."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class to generate with a conditional model; by default all in turn."""
    count: Count = 64
    """Number of images."""
    seed: Seed = 0
    """Seed of the noise."""


@dataclasses.dataclass(frozen=True)
class Evaluate(pictures.Labelled):
    """Measure how realistic the images of a trained model are, without training."""

    model: Path
    """The model.keras of a run, next to its judge.keras."""
    seed: Seed = 0
    """Seed of the noise."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {
        Train: train,
        Generate: generate,
        Evaluate: evaluate,
        exporting.Export: export,
        exporting.Serve: export,
        run.Report: report,
    }
    return run.dispatch(
        commands,
        arguments,
        program="image_synthesis.py",
        description=__doc__ or "",
        recipes={"--quick": models.QUICK, **models.RECIPES, "always": models.ALWAYS},
    )


# --- Train ---


def train(settings: Train) -> dict[str, Any]:
    """Data, models, fit, evaluation, report."""
    _check(settings)
    start = models.load(settings.init_from).model if settings.init_from else None
    with run.Run(APPLICATION, settings) as this_run:
        return _train(settings, start, this_run)


def _train(settings: Any, start: Any, this_run: run.Run) -> dict[str, Any]:
    dataset = pictures.load(settings, without_classes=True)
    has_classes = len(dataset.classes) > 1
    if settings.template == "conditional_gan" and not has_classes:
        source = f"--{pictures.own_source(settings) or 'dataset'}"
        raise BadInput(
            f"{source}: found images without classes, or of one class, expected two or more, with a folder each, or "
            "--template gan, which needs none"
        )
    this_run.check_data(dataset.provenance)
    this_run.say("data: " + ", ".join(f"{name} {len(part):,}" for name, part in dataset.splits.items()))
    parts = {name: Pictures(part.inputs, part.labels) for name, part in dataset.splits.items()}
    # Nothing is chosen on validation pictures, so they are used for training, too.
    pool, test = parts["train"] + parts["validation"], parts["test"]
    settings = models.with_recipe(settings, len(pool))
    models.check_pictures(pool, len(test), dataset.classes, settings)
    classes = len(dataset.classes)

    fits: dict[str, run.Fit] = {}
    held: Any = None
    skill: Any = None
    if has_classes:
        net, fits["judge"] = models.train_classifier(this_run, "judge", pool, settings, classes, seed=0)
    else:
        net, held = models.components(pool)
    judge = models.Judge(net)
    task = evaluation.Task.of(judge, pool, test)
    if has_classes:
        skill = judge.accuracy(test)
        compared = f"in {task.features.shape[1]} features of a classifier with a test accuracy of {skill:.4f}"
    else:
        compared = (
            f"in the first {task.features.shape[1]} principal components of the training images, "
            f"{100 * held:.1f}\u00a0% of their variance, which need no classes"
        )
    real = task.measures(models.scaled(task.known.inputs))
    this_run.say(f"generated images are compared with {len(task.test):,} test images {compared}")
    this_run.say(f"Fréchet distance of training to test images: {real['frechet_distance']:.2f}")

    name = models.NAMES[settings.template]
    conditional = settings.template == "conditional_gan"
    labels = task.test.labels if conditional else None
    noise = np.random.default_rng(3).normal(size=(models.SHOWN, settings.gan.latent))
    trainings: dict[str, run.Fit] = {}
    measured, drawn, training = [], [], []
    first: models.Trainer | None = None
    moments = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        trainer = models.Trainer(settings, seed, pool, dataset.classes, judge, start)
        trainings[trainer.stage] = fit = trainer.fit(this_run, None if first else noise)
        if first is None:
            first = trainer
            of_round = settings.epochs / trainer.rounds
            known = [number for number in models.MOMENTS if number <= len(fit.history["loss"])]
            epochs = evaluation.epochs_in_words
            names = [f"{(number := epochs(n * of_round))} epoch{'s' * (number != '1')}" for n in known]
            moments = {name: trainer.moment(this_run, n, noise) for name, n in zip(names, known, strict=True)}
            moments[f"kept, {epochs(fit.best_epoch * of_round)}"] = trainer.moment(this_run, -fit.best_epoch, noise)
        sample = trainer.artist.draw(task.test.labels, seed=seed)
        drawn.append(sample)
        measured.append(task.measures(sample, labels))
        if conditional:
            measured[-1]["classification_accuracy"] = _classification(this_run, settings, sample, task, classes, seed)
        rounds = len(fit.history["loss"])
        if fit.best_epoch == trainer.rounds:
            this_run.at_limit("the best epoch", settings.epochs, settings.epochs, "--epochs")
        training.append(
            {
                "seed": seed,
                "rounds": trainer.rounds,
                "done": rounds,
                "best": fit.best_epoch,
                "diverged": fit.diverged,
                "collapsed": rounds > trainer.rounds // 2 and fit.history["recall"][-1] < models.COLLAPSED,
                "seconds": fit.seconds,
            }
        )
        this_run.say(
            f"{name}, seed {seed}: Fréchet distance {measured[-1]['frechet_distance']:.2f}, "
            f"recall {measured[-1]['recall']:.2f}, trained in {fit.seconds:.0f} s"
            + ", diverged" * training[-1]["diverged"]
            + ", collapsed" * training[-1]["collapsed"]
        )
    assert first is not None
    model = first.artist.model
    results = [
        evaluation.result(
            name,
            measured,
            baseline=False,
            uses_labels=conditional,
            parameters=int(model.generator.count_params() + model.discriminator.count_params()),
            fit_seconds=float(np.mean([fit.seconds for fit in trainings.values()])),
            settings="",
        )
    ]
    for baseline, (samples, seconds, chosen, parameters) in evaluation.baselines(
        this_run, task, settings, dataset
    ).items():
        results.append(
            evaluation.result(
                baseline,
                [task.measures(sample) for sample in samples],
                baseline=True,
                uses_labels=False,
                parameters=parameters,
                fit_seconds=seconds,
                settings=chosen,
            )
        )
        distance = results[-1]["metrics"]["frechet_distance"]["value"]
        this_run.say(f"{baseline}: Fréchet distance {distance:.2f}")

    headline = schema.headline(results[0], "frechet_distance")
    metrics = {
        **this_run.header(settings, "numpy", "scikit-learn"),
        "data": {
            **dataset.provenance.to_dict(),
            "classes": list(dataset.classes),
            "shape": list(pool.inputs.shape[1:]),
            **{part: len(split) for part, split in dataset.splits.items()},
        },
        "evaluation": {
            "measures": {key: title for key, title in evaluation.MEASURES.items() if key in results[0]["metrics"]},
            "resamples": 0,
            "unit": "trainings",
            "pictures": len(task.test),
            "learnt_from": len(pool),
            "judge_accuracy": skill,  # None without classes, as are the next two
            "majority": float(np.bincount(test.labels).max() / len(test)) if has_classes else None,
            "judge_seconds": fits["judge"].seconds if has_classes else None,
            "judge_pictures": min(len(pool), models.JUDGES_PICTURES),
            "features": task.features.shape[1],
            "variance": held,  # of the training pictures, in principal components
            "copied": evaluation.COPIED,
            "threshold": task.threshold,
        },
        "headline": headline,
        "results": results,
        "differences": [evaluation.nearer(results[0], baseline) for baseline in results[1:]],
        "real": real,
        "training": training,
        "by_class": evaluation.by_class(task, drawn, labels),
        "model": {
            "layers": run.layers(model.generator),
            "discriminator_layers": run.layers(model.discriminator),
        },
    }
    this_run.write("history.csv", run.history(fits | trainings))
    this_run.save_model(model, {"classes": list(dataset.classes), "levels": dict(dataset.levels)})
    this_run.save_model(net, name=JUDGE)
    this_run.say("drawing and writing the report")
    metrics |= evaluation.draw(this_run, task, metrics, first.artist, moments, trainings)
    this_run.finish(metrics, REPORT, trainings.values())
    this_run.say(
        f"{this_run.folder / 'report.pdf'}: {name}, Fréchet distance {headline['value']:.2f}"
        + f" ({headline['low']:.2f} to {headline['high']:.2f})" * (settings.seeds > 1)
        + f"; real images {real['frechet_distance']:.2f}"
    )
    return metrics


def _classification(
    this_run: run.Run, settings: Any, sample: np.ndarray, task: evaluation.Task, classes: int, seed: int
) -> float:
    """The accuracy on real pictures of a classifier that was trained on generated ones."""
    generated = Pictures(models.unscaled(sample), task.test.labels)
    net, _ = models.train_classifier(this_run, f"pupil-{seed}", generated, settings, classes, seed)
    return models.Judge(net).accuracy(task.test)


def _check(settings: Train) -> None:
    if settings.gan.label_smoothing and settings.gan.loss in ("hinge", "wasserstein"):
        raise BadInput(
            f"--gan.label-smoothing: found it with the loss {settings.gan.loss}, expected non_saturating or "
            "least_squares, whose targets can be smoothed"
        )
    pictures.check(settings)


# --- After training ---


def generate(settings: Generate) -> dict[str, Any]:
    """Write a grid of images to a PNG file."""
    artist = models.load(settings.model)
    if settings.out.exists():
        raise BadInput(f"--out {settings.out}: found an existing file, expected a new name")
    if settings.out.suffix.lower() != ".png":
        raise BadInput(f"--out {settings.out}: found no .png at its end, expected the name of a PNG file")
    labels = np.arange(settings.count) % len(artist.classes)
    if settings.label is not None:
        known = artist.classes if artist.conditional else ()
        if settings.label not in known:
            expected = f"one of {', '.join(known)}" if known else "none, since the model isn't conditional"
            raise BadInput(f"--class: found {settings.label!r}, expected {expected}")
        labels[:] = artist.classes.index(settings.label)
    generated = artist.draw(labels, seed=settings.seed)
    run.write(settings.out, pictures.png(preprocess.grid(models.unscaled(generated))))
    print(settings.out)
    return {"pictures": generated, "labels": labels}


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model against real pictures and print the results."""
    artist = models.load(settings.model)
    net: Any = run.load_model(settings.model.with_name(JUDGE), models.check_judge)
    judge = models.Judge(net)
    shape = artist.model.generator.output_shape[1:]
    test = pictures.load_labelled(settings, shape, artist.classes, pictures.levels(settings.model))
    if len(test) < models.LEAST_TESTED:
        raise BadInput(f"found {len(test)} image to compare with, expected {models.LEAST_TESTED} or more")
    features, recognised = judge(models.scaled(test.inputs))
    own, shown = judge(artist.draw(test.labels, seed=settings.seed))
    values = evaluation.likeness(features, own)
    if artist.conditional:
        values["conditional_accuracy"] = float((shown.argmax(1) == test.labels).mean())
    measured_in = f"compared in {features.shape[1]} principal components"
    if judge.knows_classes:
        measured_in = (
            f"on which the evaluation classifier has accuracy {(recognised.argmax(1) == test.labels).mean():.4f}"
        )
    print(f"{len(test):,} real images, {measured_in}, and the same number of generated images")
    for name, value in values.items():
        print(f"{evaluation.MEASURES[name]:<26} {value:.4f}")
    return {"metrics": values}


def export(settings: exporting.Export | exporting.Serve) -> dict[str, Any]:
    """Export a saved generator with preprocess.py, whose pictures equal those of `generate`."""
    artist = models.load(settings.model)
    network = artist.model.average
    classes = list(artist.classes) if artist.conditional else []
    seeds = dict(enumerate([None, *classes[:EXAMPLES]]))
    everything = np.arange(EXAMPLES) % len(artist.classes)
    return exporting.export(
        settings,
        keras.Model(network.inputs, {"picture": network.output}),
        Path(__file__).parent / "synthesis" / "preprocess.py",
        about={
            "noise": {"unit": "numbers of the standard normal distribution"},
            "label": {"unit": "number of the class, in the order of the preparation's classes"},
            "picture": {"unit": "brightness, 0 (black) to 1 (white)"},
        },
        preparation={
            "classes": classes,
            "defaults": {"class": Generate.label, "count": Generate.count, "seed": Generate.seed},
        },
        examples=[{"class": name, "count": EXAMPLES, "seed": seed} for seed, name in seeds.items()],
        answers=[
            artist.draw(everything if name is None else np.full(EXAMPLES, classes.index(name)), seed=seed)
            for seed, name in seeds.items()
        ],
        method="drawn",
        static=True,
    )


def report(settings: run.Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    return run.typeset_again(settings.run, APPLICATION, REPORT)


if __name__ == "__main__":
    run.execute(main)

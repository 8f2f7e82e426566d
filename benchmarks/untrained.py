"""Untrained models of the applications at their default sizes, exported: for benchmarks of what speed depends on."""

import contextlib
import importlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

PROGRAMS = (
    "fraud_autoencoder",
    "image_classification",
    "image_synthesis",
    "text_generation",
    "pronunciation",
    "speech_tagging",
)


def export(name: str, folder: Path) -> Path:
    """Export a program's model to `folder`/name, and save there as network.keras what was exported."""
    import keras

    from applications import exporting, run

    keras.utils.set_random_seed(0)
    program: Any = importlib.import_module(f"applications.{name}")
    model, notes = globals()[f"_{name}"](program, program.Train())
    path, out = folder / f"{name}.keras", folder / name
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(run._NOTES, json.dumps(notes))
    write = exporting._write_model

    def keep(form: str, network: Any, file: Path, static: bool) -> None:
        network.save(file.with_name("network.keras"))
        write(form, network, file, static)

    exporting._write_model = keep
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            program.main(["export", "--model", str(path), "--out", str(out)])
    finally:
        exporting._write_model = write
    return out


def _fraud_autoencoder(program: Any, settings: Any) -> tuple[Any, dict]:
    from data import embedded, fraud

    dataset, encoder = fraud.load_simulated(embedded.Simulation(customers=200, terminals=200), settings.protocol)
    detector = program.Detector(program.completed(settings), dataset.splits["train"], 0, None)
    return detector.scorer(1.0, {"encoder": encoder.to_config()}), {}


def _speech_tagging(program: Any, settings: Any) -> tuple[Any, dict]:
    import numpy as np

    from data import acoustics, phones
    from templates import recurrent

    frames = np.random.default_rng(0).normal(-6, 2, (500, acoustics.BANDS))
    network = program.Network(program.with_recipe(settings)).build()
    normalizer = acoustics.Normalizer.fit([frames]).to_config()
    return recurrent.tagger(network, names=phones.PHONES, metadata={"normalizer": normalizer}), {}


def _image_classification(program: Any, settings: Any) -> tuple[Any, dict]:
    from applications import classifiers, run
    from data import images
    from templates import cnn

    data = images.load("digits")
    shape = data.splits["train"].inputs.shape[1:]
    sizes: dict[str, Any] = dict(zip(("height", "width", "channels"), shape, strict=True))
    settings = classifiers.with_recipe(settings, sizes["height"], sizes["width"], len(data.splits["train"]))
    net = cnn.cnn(**sizes, outputs=len(data.classes), **run.arguments(cnn.cnn, settings.cnn))
    return classifiers._packaged(shape, net, flat=False), {"classes": data.classes, "levels": dict(data.levels)}


def _text_generation(program: Any, settings: Any) -> tuple[Any, dict]:
    from data import text

    settings = program.models.with_recipe(settings)
    tokenizer = text.load_embedded(settings.tokenizer).tokenizer
    model = program.models.build(settings, tokenizer.vocabulary)
    return model, program.models.LanguageModel(model, tokenizer, settings.template, settings.context).notes


def _pronunciation(program: Any, settings: Any) -> tuple[Any, dict]:
    from data import pronunciation

    settings = program.models.with_recipe(settings)
    lexicon = pronunciation.load_embedded(share=settings.share)
    longest = program.models.longest_of(lexicon)
    model = program.models.build(settings, lexicon.coder, longest)
    made = program.models.Pronouncer(model, lexicon.coder, settings.template, longest, settings.stress)
    return model, made.notes


def _image_synthesis(program: Any, settings: Any) -> tuple[Any, dict]:
    from applications import run
    from data import images
    from templates import gan

    data = images.load("digits")
    shape = data.splits["train"].inputs.shape[1:]
    sizes: dict[str, Any] = dict(zip(("height", "width", "channels"), shape, strict=True), classes=len(data.classes))
    parts: Any = [made(**sizes, **run.arguments(made, settings.gan)) for made in (gan.generator, gan.discriminator)]
    model = gan.GAN(*parts, **run.arguments(gan.GAN, settings.gan), seed=0)
    return model, {"classes": data.classes, "levels": dict(data.levels)}

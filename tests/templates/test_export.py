"""Every architecture leaves Keras: the `.keras` file in a fresh process, SavedModel, ONNX and LiteRT in their runtimes.

The answers on random rows are compared with the model's own. `docs/export.md` is the table of what came of it;
WRITE_EXPORT_TABLE=1 writes it, without it a cell that differs fails. Under KERAS_BACKEND=torch its last column is
measured.
"""

import functools
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from templates import architectures, autoencoder, cnn, dbn, dsn, gan, names, recurrent, transformer
from tests.templates.test_policies import SIZES

BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BACKEND == "jax", reason="what leaves Keras, leaves it from TensorFlow; ONNX from torch, too"),
]
TABLE = Path(__file__).parents[2] / "docs" / "export.md"
EQUAL, FIXED, EXACTNESS = "equal", "equal, of a fixed shape", 1e-4
COLUMNS = ["keras reload", "SavedModel", "ONNX", "LiteRT", "ONNX from torch"]
FORMATS = COLUMNS[4:] if BACKEND == "torch" else COLUMNS[:4]
PACKAGES = ["keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "torch"]

# Loads each template's models with that template's import alone.
RELOAD = """
import importlib, json, sys
import keras, numpy as np

folder = sys.argv[1]
registry = keras.saving.get_custom_objects()
own = dict(registry)
for template, files in json.loads(sys.argv[2]).items():
    registry.clear()
    registry.update(own)
    importlib.import_module(template)
    for file in files:
        model = keras.saving.load_model(f"{folder}/{file}.keras")
        kept = np.load(f"{folder}/{file}.npz")
        flat = [kept[f"input_{i}"] for i in range(sum(name.startswith("input_") for name in kept))]
        inputs = flat[0] if len(flat) == 1 else flat
        found = [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(model(inputs))]
        np.savez(f"{folder}/{file}.found.npz", *found)
"""

LSTM = {"features": 4, "outputs": 3, "units": (5,)}
# What the templates build besides their architectures, and variants that compute otherwise.
MORE = {
    "autoencoder: anomaly_scorer, gelu": lambda: autoencoder.anomaly_scorer(
        autoencoder.autoencoder(features=6, code_size=3, activation="gelu"),
        mean=[1] * 6,
        deviation=[2] * 6,
        threshold=1,
    ),
    "cnn: layer normalisation, average, gelu": lambda: cnn.cnn(
        height=8, width=8, filters=(4,), normalization="layer", pooling="average", dense=(), activation="gelu"
    ),
    "dbn: RBM": lambda: dbn.RBM(visible_units=6, hidden_units=4),
    "dsn: module": lambda: dsn.module(features=6, outputs=3, hidden_units=8),
    "dsn: classifier": lambda: dsn.classifier(dsn.dsn(features=6, outputs=3, hidden_units=8), temperature=0.5),
    "gan: generator, classes, gelu": lambda: gan.generator(
        height=6, width=6, classes=3, latent=4, filters=(4,), activation="gelu"
    ),
    "gan: discriminator, projection, gelu": lambda: gan.discriminator(
        height=6, width=6, classes=3, filters=(4,), activation="gelu"
    ),
    "recurrent: tagger": lambda: recurrent.tagger(recurrent.lstm(**LSTM, bidirectional=True), names=("a", "b", "c")),
    "recurrent: gru, tokens, gelu": lambda: recurrent.gru(
        vocabulary=6, head="next_token", units=(5,), activation="gelu", output_activation=None
    ),
    "recurrent: streaming": lambda: recurrent.streaming(recurrent.lstm(**LSTM)),
    "transformer: encoder, tokens": lambda: transformer.encoder(vocabulary=6, width=8, depth=1, heads=2, outputs=3),
}
MODELS = {
    f"{name}: {architecture}": functools.partial(
        getattr(importlib.import_module(f"templates.{name}"), architecture), **SIZES.get(architecture, {})
    )
    for name in names()
    for architecture in architectures(name)
} | MORE


@functools.cache
def of(row: str):
    """A model of random weights, its inputs, and rows and answers: of two batches and, if free, lengths."""
    model = MODELS[row]()
    random = np.random.default_rng(0)
    model.set_weights(
        [
            np.asarray(
                0.1 + random.random(weight.shape) if "variance" in weight.path else random.normal(0, 0.5, weight.shape)
            )
            for weight in model.weights
        ]
    )
    inputs = model.input if not isinstance(model, dbn.RBM) else keras.KerasTensor((None, 6), name="row")
    rows = [keras.tree.map_structure(functools.partial(draw, *size), inputs) for size in ((4, 6), (3, 5))]
    return model, inputs, rows, [arrays(model(of_batch)) for of_batch in rows]


def draw(batch: int, time: int, tensor) -> np.ndarray:
    random = np.random.default_rng(batch)
    shape = (batch, *(time if size is None else size for size in tensor.shape[1:]))
    if keras.backend.is_float_dtype(tensor.dtype):
        return random.random(shape).astype("float32")
    return random.integers(0, 3, shape).astype("int32")


def arrays(outputs) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(x)) for x in keras.tree.flatten(outputs)]


def verdict(found, expected, of_a_fixed_shape: bool = False) -> str:
    """The cell of the table for the answers to each batch."""
    for answers, own in zip(found, expected, strict=True):
        for one, other in zip(answers, own, strict=True):
            if one.shape != other.shape:
                return f"wrong: a shape of {one.shape}, not {other.shape}"
            if not np.allclose(one, other, rtol=EXACTNESS, atol=EXACTNESS):
                return "wrong: other numbers"
    return FIXED if of_a_fixed_shape else EQUAL


def said(problem: Exception) -> str:
    """The beginning of an error, without what differs from run to run."""
    text = re.sub(r"\S*/\S*|\x1b\[\d*m", "…", str(problem))
    return f"{type(problem).__name__}: {' '.join(text.replace('|', '/').split())[:120]}"


@pytest.fixture(scope="module")
def cells():
    """The cells measured so far, which the last test compares with the table."""
    return {}


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """The folder of what all models answer in a process that has loaded them."""
    folder = tmp_path_factory.mktemp("reloaded")
    files: dict[str, list[str]] = {}
    for number, row in enumerate(MODELS):
        model, _, rows, _ = of(row)
        model.save(folder / f"{number}.keras")
        flat = {f"input_{i}": array for i, array in enumerate(keras.tree.flatten(rows[0]))}
        np.savez(folder / f"{number}.npz", **flat)
        files.setdefault(f"templates.{row.split(':')[0]}", []).append(str(number))
    subprocess.run([sys.executable, "-c", RELOAD, str(folder), json.dumps(files)], cwd=TABLE.parents[1], check=True)
    return folder


def keras_reload(row, path, request):
    with np.load(request.getfixturevalue("reloaded") / f"{list(MODELS).index(row)}.found.npz") as kept:
        return verdict([[kept[name] for name in kept.files]], of(row)[3][:1])


def saved_model(row, path, request):
    import tensorflow as tf

    model, inputs, rows, expected = of(row)
    model.export(path, verbose=False, input_signature=[keras.tree.map_structure(free, inputs)])
    again = tf.saved_model.load(path)
    return verdict([arrays(again.serve(of_batch)) for of_batch in rows], expected)


def onnx(row, path, request):
    import onnxruntime

    model, inputs, rows, expected = of(row)
    signature = [keras.tree.map_structure(free, inputs)]
    model.export(path, format="onnx", verbose=False, input_signature=signature)
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    found = [session.run(None, dict(zip(names, keras.tree.flatten(of_batch), strict=True))) for of_batch in rows]
    return verdict(found, expected)


def litert(row, path, request):
    from ai_edge_litert.interpreter import Interpreter

    model, inputs, rows, expected = of(row)
    # A recurrent network needs a fixed shape; see the test below.
    loops = row.startswith("recurrent") and any(None in x.shape[1:] for x in keras.tree.flatten(inputs))
    shaped = functools.partial(fixed, 4, 6) if loops else free
    signature = [keras.tree.map_structure(shaped, inputs)]
    model.export(f"{path}.tflite", format="litert", verbose=False, input_signature=signature)
    answer = Interpreter(f"{path}.tflite").get_signature_runner()
    names = [x.name for x in keras.tree.flatten(inputs)]
    found = []
    for of_batch in rows[:1] if loops else rows:
        outputs = answer(**dict(zip(names, keras.tree.flatten(of_batch), strict=True)))
        found.append([outputs[name] for name in sorted(outputs)])
    return verdict(found, expected[: len(found)], loops)


def free(tensor) -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)


def fixed(batch: int, time: int, tensor) -> keras.InputSpec:
    shape = (batch, *(time if size is None else size for size in tensor.shape[1:]))
    return keras.InputSpec(shape=shape, dtype=tensor.dtype, name=tensor.name)


MEASURES = dict(zip(COLUMNS, (keras_reload, saved_model, onnx, litert, onnx), strict=True))


@pytest.mark.parametrize("column", FORMATS)
@pytest.mark.parametrize("row", MODELS)
def test_what_leaves_answers_as_the_model(row, column, tmp_path, request, cells):
    try:
        cell = MEASURES[column](row, str(tmp_path / "model"), request)
    except Exception as problem:
        cell = said(problem)
    cells[row, column] = cell
    if column != COLUMNS[4]:
        assert cell in (EQUAL, FIXED)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="LiteRT leaves from TensorFlow")
def test_a_recurrent_network_of_any_length_is_not_for_litert(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model = recurrent.simple_rnn(**LSTM)
    model(np.zeros((1, 2, 4), "float32"))
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    answer = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    with pytest.raises(RuntimeError, match="Select TensorFlow op"):
        answer(sequence=np.zeros((1, 2, 4), "float32"))


HEAD = """\
# What a model of each architecture can leave as

Written by `WRITE_EXPORT_TABLE=1 pytest -m "" tests/templates/test_export.py`; the same tests without it fail if a cell
differs from this table.

- *equal*: in its own runtime, the artefact answers random rows as the model does, to 1e-4, at two batch sizes and,
  where the length of a sequence is free, at two lengths.
- *equal, of a fixed shape*: the same at the one shape that `input_signature` gave; at any shape LiteRT refuses
  recurrent networks ("Select TensorFlow op(s)").
- Any other cell is the error.

Call a loaded model once before `model.export`, or give it an `input_signature`. Whatever leaves, compare its answers
with the model's on your own rows.
"""


def test_the_table_is_what_was_measured(cells):
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.is_file() else []
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    kept = {(row, column): cell for row, *rest in table[2:] for column, cell in zip(table[0][1:], rest, strict=True)}
    if not os.environ.get("WRITE_EXPORT_TABLE"):
        assert {place: kept.get(place) for place in cells} == cells
        if len(cells) == len(MODELS) * len(FORMATS):
            assert {row for row, _ in kept} == set(MODELS)
        return
    cells = kept | cells
    rows = [["", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    rows += [[row, *(cells.get((row, column), "not measured") for column in COLUMNS)] for row in MODELS]
    versions = dict(re.findall(r"^- (\S+) ([\d.]+)$", "\n".join(lines), re.MULTILINE))
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    text = HEAD + "\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\nMeasured with:\n\n"
    text += "".join(f"- {package} {versions[package]}\n" for package in PACKAGES if package in versions)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text, encoding="utf-8")

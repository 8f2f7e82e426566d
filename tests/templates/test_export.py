"""Every architecture leaves Keras: the `.keras` file in a fresh process, SavedModel, ONNX and LiteRT in their runtimes.

The answers on random rows are compared with the model's own. `docs/export.md` is the table of what came of it;
WRITE_EXPORT_TABLE=1 writes it, without it a cell that differs fails. Under KERAS_BACKEND=torch its last column is
measured.
"""

import functools
import importlib
import re

import keras
import numpy as np
import pytest

from templates import architectures, autoencoder, cnn, dbn, dsn, gan, names, recurrent, transformer
from tests import fresh, tables
from tests.fresh import arrays, draw
from tests.templates.test_policies import SIZES

BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BACKEND == "jax", reason="what leaves Keras, leaves it from TensorFlow; ONNX from torch, too"),
]
EQUAL, FIXED, EXACTNESS = "equal", "equal, of a fixed shape", 1e-4
COLUMNS = ["keras reload", "SavedModel", "ONNX", "LiteRT", "ONNX from torch"]
FORMATS = COLUMNS[4:] if BACKEND == "torch" else COLUMNS[:4]

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
TABLE = tables.Table("export.md", "template", list(MODELS), COLUMNS, "WRITE_EXPORT_TABLE")


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
    """The beginning of an error, up to what differs from run to run: a quotation, a path or the next sentence."""
    text = re.split(r" '|\. |\S*/|\n", re.sub(r"\x1b\[\d*m", "", str(problem)))[0]
    return f"{type(problem).__name__}: {text.replace('|', '/').strip()[:120]}"


@pytest.fixture(scope="module")
def cells():
    """The cells measured so far, which the last test compares with the table."""
    return {}


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """What all models answer in a process that has loaded them, by row."""
    folder = tmp_path_factory.mktemp("reloaded")
    models = []
    for number, row in enumerate(MODELS):
        model, _, rows, _ = of(row)
        path = folder / f"{number}.keras"
        model.save(path)
        models.append((path, [row.split(":")[0]], "", rows[0]))
    return dict(zip(MODELS, fresh.answers(models, folder), strict=True))


def keras_reload(row, path, request):
    return verdict([request.getfixturevalue("reloaded")[row]], of(row)[3][:1])


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


def test_the_table_is_what_was_measured(cells):
    TABLE.settle(cells)

"""Exported models give the program's answers in their own runtime, without TensorFlow, Keras or this project.

`docs/export.md` has the table of what came of it, by application; WRITE_EXPORT_TABLE=1 writes it, without it a cell
that differs fails.
"""

import ast
import builtins
import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
import soundfile
from PIL import Image

from applications import (
    classifiers,
    exporting,
    fraud_autoencoder,
    image_classification,
    image_synthesis,
    pronunciation,
    run,
    speech_tagging,
    text_generation,
)
from applications.images import evaluation as image_evaluation
from applications.pronounce import evaluation as pronounce_evaluation
from applications.synthesis import evaluation as synthesis_evaluation
from data import acoustics
from data.dataset import BadInput
from data.phones import PHONES
from templates import recurrent
from tests import fresh, own_files, tables
from tests.applications.test_image_synthesis import noise

# What an exported model may use, and what its runtimes use in turn.
ALLOWED = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime", "ai_edge_litert", "google", "flatbuffers")

# The rows of the table, and the templates whose import loads the model of each.
TEMPLATES = {
    "fraud_autoencoder": ["autoencoder"],
    "speech_tagging: lstm": ["recurrent"],
    "speech_tagging: transformer_encoder": ["recurrent", "transformer"],
    "image_classification: cnn": ["cnn"],
    "text_generation: transformer": ["transformer"],
    "text_generation: gru": ["recurrent"],
    "pronunciation: transformer": ["transformer"],
    "pronunciation: lstm": ["recurrent"],
    "image_synthesis: conditional_gan": ["gan"],
}
FORMATS = {"saved_model": "SavedModel", "onnx": "ONNX", "litert": "LiteRT"}
TABLE = tables.Table(
    "export.md", "application", list(TEMPLATES), ["keras reload", *FORMATS.values()], "WRITE_EXPORT_TABLE"
)


@pytest.fixture(scope="module")
def cells():
    """The cells measured so far, which the last test compares with the table."""
    return {}


@pytest.fixture(scope="module")
def models():
    """The model.keras of each row of the table that was trained so far."""
    return {}


@pytest.fixture(scope="module")
def isolated(tmp_path_factory):
    """Run Python code in which nothing is installed but numpy, Pillow and the runtimes; returns what it prints."""
    site = tmp_path_factory.mktemp("site")
    for name in (*ALLOWED, "packaging", "backports", "typing_extensions.py", "tqdm"):
        for folder in map(Path, sys.path):
            if (folder / name).exists() and folder.name == "site-packages":
                (site / name).symlink_to(folder / name)
                break

    def run(code: str, folder: Path):
        setup = f"import sys; sys.path[1:1] = [{str(folder)!r}, {str(site)!r}]\n"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", setup + code], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_difference():
    assert exporting.difference({"a": 1.0, "b": "x"}, {"a": 1.5, "b": "x"}) == 0.5
    assert exporting.difference([100.0], [101.0]) == pytest.approx(0.01)
    assert exporting.difference(np.array([1.0, 2.0]), np.array([1.0, 2.25])) == 0.125
    assert exporting.difference({"a": "x"}, {"a": "y"}) == np.inf
    assert exporting.difference({"a": 1}, {"a": 2}) == np.inf
    assert exporting.difference({"a": 1.0}, {"b": 1.0}) == np.inf
    assert np.isnan(exporting.difference([1.0], [np.nan]))


def test_only_tensorflow_exports(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    settings = exporting.Export(model=tmp_path / "model.keras", out=tmp_path / "exported")
    nothing = {"about": {}, "preparation": {}, "examples": [], "answers": []}
    with pytest.raises(BadInput, match=r"^KERAS_BACKEND: found jax, expected tensorflow"):
        exporting.export(settings, keras.Sequential(), tmp_path, **nothing)
    assert not settings.out.exists()


@pytest.mark.parametrize("code", sorted(Path(exporting.__file__).parent.glob("*/preprocess.py")), ids=str)
def test_the_single_file_has_everything_once_and_imports_nothing_of_ours(code):
    tree = ast.parse(exporting.single_file(code))
    known, used, modules = set(vars(builtins)) | {"__file__", "__name__"}, set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else known).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules |= {getattr(node, "module", None) or alias.name for alias in node.names}
            known |= {alias.asname or alias.name for alias in node.names}
    assert used - known == set()
    runtimes = {"onnxruntime", "ai_edge_litert", "tensorflow"}
    assert {name.partition(".")[0] for name in modules} <= {"numpy", "PIL", *runtimes, *sys.stdlib_module_names}
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(set(defined)) == len(defined)
    assert {"Network", "Model"} <= set(defined)


def test_the_single_file_takes_along_what_is_used_of_other_modules(tmp_path, monkeypatch):
    for name, text in {
        "preprocess": "from applications.one import Shape, area\n\n# --- Own ---\n\nprint(area(Shape(2)))\n",
        "one": "import dataclasses\nimport math\nfrom data.two import POWER, left\n\n"
        "# Twice as long.\nSIDE = 2\nOTHER = left(math.pi)\n\n\n"
        "@dataclasses.dataclass\nclass Shape:\n    side: int\n\n\n"
        "def area(shape):\n    return factor() * shape.side**POWER\n\n\ndef unused():\n    return OTHER\n\n\n"
        "def factor():\n    return SIDE\n",
        "two": "import sys\n\nPOWER = 2\n\n\ndef left(x):\n    return sys\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(f'"""Test."""\n\n{text}')
    for name in ("data.two", "applications.one"):
        path = tmp_path / f"{name.partition('.')[2]}.py"
        monkeypatch.setitem(sys.modules, name, exporting._module(path))
    assert exporting.single_file(tmp_path / "preprocess.py") == (
        '"""Test."""\n\nimport dataclasses\n\nPOWER = 2\n\n\n# Twice as long.\nSIDE = 2\n\n\n@dataclasses.dataclass\n'
        "class Shape:\n    side: int\n\n\ndef area(shape):\n    return factor() * shape.side**POWER\n\n\n"
        "def factor():\n    return SIDE\n\n\n# --- Own ---\n\nprint(area(Shape(2)))\n"
    )


def test_a_model_that_answers_otherwise_is_not_exported(tmp_path):
    inputs = keras.Input((2,), name="raw")
    network = keras.Model(inputs, {"score": keras.layers.Dense(1, name="dense")(inputs)})
    code = tmp_path / "preprocess.py"
    code.write_text(
        '"""Test."""\nimport numpy as np\nfrom pathlib import Path\nfrom applications.runtime import Network\n'
        'EXAMPLE = "row"\n'
        "class Model:\n"
        "    def __init__(self, folder: Path):\n        self.network = Network(folder)\n"
        "    def answers(self, rows):\n        return self.network(raw=np.array(rows))['score'].tolist()\n"
    )
    rows = [[1.0, 2.0], [3.0, 4.0]]
    answers = network.predict(np.array(rows), verbose=0)["score"].tolist()
    settings = exporting.Export(model=Path("x"), out=tmp_path / "out")
    options = {"about": {}, "preparation": {}, "examples": rows}
    wrong = [answers[0], [answers[1][0] + 1e-2]]
    with pytest.raises(BadInput, match=r"example 2: found .*, expected .*nothing was written"):
        exporting.export(settings, network, code, **options, answers=wrong)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preprocess.py"]
    assert exporting.export(settings, network, code, **options, answers=answers)["difference"] < 1e-6
    with pytest.raises(BadInput, match="out"):
        exporting.export(settings, network, code, **options, answers=answers)


def test_constants_of_a_normalization_are_in_the_onnx_graph(tmp_path):
    inputs = keras.Input((2,), name="raw")
    x = keras.layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0], name="standardise")(inputs)
    exporting._write_model("onnx", keras.Model(inputs, {"x": x}), tmp_path / "model.onnx", static=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [tensor.name for tensor in session.get_inputs()] == ["raw"]
    (found,) = session.run(None, {"raw": np.array([[3.0, -1.0]], np.float32)})
    np.testing.assert_allclose(found, [[1.0, -1.0]], rtol=1e-6)


@pytest.mark.slow
def test_an_exported_detector_scores_as_the_program_does(tmp_path, isolated, cells, models):
    fraud_autoencoder.main(["--quick", "--seeds", "1", "--out", str(tmp_path / "run")])
    models[row := "fraud_autoencoder"] = tmp_path / "run" / "model.keras"
    model = ["--model", str(models[row])]
    payments = tmp_path / "payments.csv"
    fraud_autoencoder.main(
        ["simulate", "--out", str(payments), "--simulation.customers", "40", "--simulation.days", "30"]
    )
    scored = tmp_path / "scored.csv"
    fraud_autoencoder.main(["score", *model, "--csv", str(payments), "--out", str(scored)])
    code = f"""
import csv, json, pathlib
from preprocess import Model
rows = list(csv.DictReader(open({str(payments)!r})))[:200]
answers = Model(pathlib.Path(sys.path[1])).answers(rows)
print(json.dumps([[answer["score"], answer["alert"]] for answer in answers]))
"""
    expected = np.genfromtxt(scored, delimiter=",", skip_header=1, usecols=(0, 1), max_rows=200)
    for form in FORMATS:
        out = tmp_path / form
        found = fraud_autoencoder.main(["export", *model, "--out", str(out), "--format", form])
        assert found["difference"] < 1e-4
        if form != "saved_model":
            np.testing.assert_allclose(np.array(isolated(code, out), float), expected, rtol=1e-4)
        cells[row, FORMATS[form]] = "equal"


@pytest.mark.slow
@pytest.mark.parametrize("template", ["transformer", "gru"])
def test_an_exported_language_model_writes_as_the_program_does(tmp_path, isolated, template, cells, models):
    words = tmp_path / "words.txt"
    words.write_text("".join(f"{number} times {number % 7} is {number * (number % 7)}.\n\n" for number in range(600)))
    choices = ["--template", template, "--tokenizer", "bpe", "--vocabulary", "300", "--context", "16"]
    text_generation.main(["--quick", *choices, "--text", str(words), "--out", str(tmp_path / "run")])
    models[row := f"text_generation: {template}"] = tmp_path / "run" / "model.keras"
    model = ["--model", str(models[row])]
    sampling = {"tokens": 30, "temperature": 0.9, "seed": 5, "top_p": 0.8}
    flags = [part for name, value in sampling.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    expected = text_generation.main(["generate", *model, "--prompt", "12 times", *flags])["text"]
    code = f"""
import json, pathlib
from preprocess import Model
model = Model(pathlib.Path(sys.path[1]))
print(json.dumps("".join(model.write("12 times", **{sampling}))))
"""
    for form in FORMATS:
        out = tmp_path / form
        assert text_generation.main(["export", *model, "--out", str(out), "--format", form])["difference"] < 1e-4
        if form != "saved_model":
            assert isolated(code, out) == expected
        cells[row, FORMATS[form]] = "equal"


@pytest.mark.slow
def test_an_exported_classifier_answers_as_the_program_does(tmp_path, isolated, monkeypatch, cells, models):
    monkeypatch.setattr(image_evaluation, "BASELINES", {"k-NN": image_evaluation.BASELINES["k-NN"]})
    monkeypatch.setattr(image_evaluation, "draw", lambda *_: {"figures": {}, "losses": {}})
    monkeypatch.setattr(image_evaluation, "SHARES", (1.0,))
    own_files.photographs(tmp_path / "photographs")
    small = ["--quick", "--seeds", "1", "--cnn.filters", "4", "6", "--cnn.convolutions", "1", "--cnn.dense", "8"]
    folder = tmp_path / "run"
    image_classification.main([*small, "--images", str(tmp_path / "photographs"), "--out", str(folder)])
    models[row := "image_classification: cnn"] = folder / "model.keras"
    model = ["--model", str(models[row])]
    files = [str(path) for path in sorted((tmp_path / "photographs").rglob("*.png"))[::9]]
    expected = image_classification.main(["classify", *model, "--files", *files])
    with pytest.raises(BadInput, match="found no --files, expected some to compare on"):
        image_classification.main(["export", *model, "--out", str(tmp_path / "none")])
    code = f"""
import json, pathlib
from preprocess import Model
model = Model(pathlib.Path(sys.path[1]))
files = [pathlib.Path(file) for file in {files!r}]
answers = model.answers([files[0].read_bytes(), *files[1:]])
print(json.dumps([[answer["class"], list(answer["probabilities"].items())] for answer in answers]))
"""
    for form in FORMATS:
        out = tmp_path / form
        found = image_classification.main(["export", *model, "--files", *files, "--out", str(out), "--format", form])
        assert found["examples"] == len(files)
        if form != "saved_model":
            for (name, probabilities), own in zip(isolated(code, out), expected["probabilities"], strict=True):
                assert name == expected["classes"][own.argmax()]
                assert [known for known, _ in probabilities] == expected["classes"]
                np.testing.assert_allclose([probability for _, probability in probabilities], own, atol=1e-5)
        cells[row, FORMATS[form]] = "equal"


@pytest.mark.slow
def test_an_exported_generator_draws_as_the_program_does(tmp_path, isolated, monkeypatch, cells, models):
    monkeypatch.setitem(classifiers.RECIPES["small cnn"], "epochs", 1)
    monkeypatch.setattr(synthesis_evaluation, "baselines", noise)
    monkeypatch.setattr(synthesis_evaluation, "draw", lambda *_: {"figures": {}})
    monkeypatch.setattr(image_synthesis, "_classification", lambda *_: 0.5)
    small = ["--gan.generator-filters", "8", "8", "--gan.discriminator-filters", "8", "8", "--gan.latent", "6"]
    image_synthesis.main(["--quick", "--seeds", "1", "--epochs", "1", *small, "--out", str(tmp_path / "run")])
    models[row := "image_synthesis: conditional_gan"] = tmp_path / "run" / "model.keras"
    model = ["--model", str(models[row])]
    flags = ["--count", "5", "--seed", "3"]
    image_synthesis.main(["generate", *model, *flags, "--class", "7", "--out", str(tmp_path / "sevens.png")])
    expected = image_synthesis.main(["generate", *model, *flags, "--out", str(tmp_path / "all.png")])["pictures"]
    code = """
import io, json, pathlib
import numpy as np
from PIL import Image
import preprocess
model = preprocess.Model(pathlib.Path(sys.path[1]))
everything, sevens = model.answers([{"count": 5, "seed": 3}, {"count": 5, "seed": 3, "class": "7"}])
pictures = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in sevens["pictures"]])
grid = preprocess.grid(pictures[..., None])[..., 0]
drawn = model.drawn([{"count": 5, "seed": 3}])[0]
print(json.dumps([everything["classes"], drawn.tolist(), grid.tolist()]))
"""
    for form in FORMATS:
        out = tmp_path / form
        assert image_synthesis.main(["export", *model, "--out", str(out), "--format", form])["difference"] < 1e-4
        if form != "saved_model":
            classes, drawn, sevens = isolated(code, out)
            assert classes == list("01234")
            np.testing.assert_allclose(drawn, expected, atol=1e-4)
            with Image.open(tmp_path / "sevens.png") as grid:
                np.testing.assert_allclose(sevens, np.asarray(grid, int), atol=1)
        cells[row, FORMATS[form]] = "equal"


@pytest.mark.parametrize("template", ["transformer", "lstm"])
def test_an_exported_network_pronounces_as_the_program_does(
    tmp_path, isolated, template, monkeypatch, capsys, cells, models
):
    monkeypatch.setattr(pronounce_evaluation, "draw", lambda *_: {"attention": None, "figures": {}})
    monkeypatch.setattr("reports.report.typeset", lambda *_: b"")
    dictionary = tmp_path / "own.txt"
    words = ["".join(letters) for letters in itertools.product("abdeé", repeat=4)]
    dictionary.write_text("".join(f"{word}\t{' '.join(word.upper())}\n" for word in words), encoding="utf-8")
    sizes = ["--template", template, "--units", "16", "--heads", "2", "--optimizer", "adam", "--learning-rate", "0.02"]
    pronunciation.main(
        ["--quick", "--dictionary", str(dictionary), *sizes, "--epochs", "4", "--out", str(tmp_path / "run")]
    )
    models[row := f"pronunciation: {template}"] = tmp_path / "run" / "model.keras"
    model = ["--model", str(models[row])]
    examples = ["ABBA", "de\u0301bade\u0301", "e"]
    capsys.readouterr()
    said = pronunciation.main(["say", *model, "--words", *examples])["said"]
    printed = capsys.readouterr().out
    code = f"""
import json, pathlib
from preprocess import Model
print(json.dumps(Model(pathlib.Path(sys.path[1])).answers({examples})))
"""
    for form in FORMATS:
        out = tmp_path / form
        words = [] if form == "onnx" else ["--words", *examples]
        assert pronunciation.main(["export", *model, "--out", str(out), "--format", form, *words])["difference"] < 1e-4
        if form != "saved_model":
            for found, expected in zip(isolated(code, out), said, strict=True):
                assert [tuple(one["phones"]) for one in found] == [one.phones for one in expected[:3]]
                chances = [[one["probability"] for one in found], [one.probability for one in expected[:3]]]
                np.testing.assert_allclose(*chances, atol=1e-4)
        cells[row, FORMATS[form]] = "equal"
    command = [sys.executable, str(tmp_path / "onnx" / "preprocess.py"), *examples, "x"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (printed, 1)
    assert done.stderr == "x: found x, which the model doesn't know\n"
    with pytest.raises(BadInput, match="--words x: found x, which the model doesn't know"):
        pronunciation.main(["export", *model, "--out", str(tmp_path / "more"), "--words", "abba", "x"])


@pytest.mark.slow
@pytest.mark.parametrize("template", ["lstm", "transformer_encoder"])
def test_an_exported_tagger_tags_as_the_program_does(tmp_path, isolated, template, cells, models):
    keras.utils.set_random_seed(0)
    settings = speech_tagging.with_recipe(speech_tagging.Train(template=template, layers=1, units=8))
    network = speech_tagging.Network(settings).build()
    for weight in network.trainable_variables:
        weight.assign(3 * weight.value)  # surer than an untrained network
    random = np.random.default_rng(0)
    normalizer = acoustics.Normalizer.fit([random.normal(-6, 2, (500, acoustics.BANDS))]).to_config()
    tagger = recurrent.tagger(network, names=PHONES, metadata={"normalizer": normalizer})
    models[row := f"speech_tagging: {template}"] = tmp_path / "model.keras"
    tagger.save(models[row])
    hisses = [random.normal(0, 10 ** random.uniform(-4, -1), 22_050 // 4) for _ in range(48)]  # 12 s, two windows
    wav = tmp_path / "sound.wav"
    soundfile.write(wav, np.concatenate(hisses), 22_050, "PCM_16")
    model = ["--model", str(models[row])]
    expected = speech_tagging.main(["tag", *model, "--wav", str(wav), "--out", str(tmp_path)])
    assert len(expected["segments"]) > 10
    code = f"""
import json, pathlib
from preprocess import Model
sound = pathlib.Path({str(wav)!r})
print(json.dumps(Model(pathlib.Path(sys.path[1])).answers([sound, sound.read_bytes()])))
"""
    for form in FORMATS:
        out = tmp_path / form
        wavs = [] if form == "onnx" else ["--wav", str(wav)]
        found = speech_tagging.main(["export", *model, "--out", str(out), "--format", form, *wavs])
        assert found["examples"] == (1 if wavs else 2)
        if form != "saved_model":
            answer, again = isolated(code, out)
            assert answer == again
            assert answer["seconds"] == expected["seconds"]
            for segment, (start, end, phone) in zip(answer["segments"], expected["segments"], strict=True):
                assert (segment["start"], segment["end"], segment["phone"]) == (start, end, phone)
        cells[row, FORMATS[form]] = "equal"
    command = [sys.executable, str(tmp_path / "onnx" / "preprocess.py"), str(wav)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "".join(f"{start:.4f} {end:.4f} {phone}\n" for start, end, phone in expected["segments"])
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(BadInput, match=r"--wav .*bad.wav: found audio that can't be read .*, expected a WAV file"):
        speech_tagging.main(["export", *model, "--out", str(tmp_path / "no"), "--wav", str(tmp_path / "bad.wav")])


@pytest.mark.slow
def test_model_files_are_loaded_with_the_import_of_their_templates_alone(tmp_path, cells, models):
    networks = {row: run.load_model(path, lambda model: None) for row, path in models.items()}
    part = {"image_synthesis: conditional_gan": "average"}  # what generates; the whole judges
    networks |= {row: getattr(networks[row], name) for row, name in part.items() if row in networks}
    draw = functools.partial(fresh.draw, 4, 6)
    inputs = {row: keras.tree.map_structure(draw, network.input) for row, network in networks.items()}
    files = [(path, TEMPLATES[row], part.get(row, ""), inputs[row]) for row, path in models.items()]
    for row, answers in zip(models, fresh.answers(files, tmp_path), strict=True):
        for found, own in zip(answers, fresh.arrays(networks[row](inputs[row])), strict=True):
            np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-4)
        cells[row, "keras reload"] = "equal"


@pytest.mark.slow
def test_the_table_is_what_was_measured(cells):
    TABLE.settle(cells)

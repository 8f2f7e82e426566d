"""Exported models give the program's answers in their own runtime, without TensorFlow, Keras or this project."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from applications import exporting, fraud_autoencoder, text_generation
from data.dataset import BadInput

# What an exported model may use, and what its runtimes use in turn.
ALLOWED = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime", "ai_edge_litert", "google", "flatbuffers")


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


def test_the_single_file_has_everything_and_imports_nothing_of_ours(tmp_path):
    code = Path(fraud_autoencoder.__file__).parent / "fraud" / "preprocess.py"
    single = exporting.single_file(code)
    assert "applications" not in single
    for name in ("class Network", "class Model", "def amount", '"__main__"'):
        assert single.count(name) == 1


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


@pytest.mark.slow
def test_an_exported_detector_scores_as_the_program_does(tmp_path, isolated):
    fraud_autoencoder.main(["--quick", "--seeds", "1", "--out", str(tmp_path / "run")])
    model = ["--model", str(tmp_path / "run" / "model.keras")]
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
    for form in ("onnx", "litert"):
        out = tmp_path / form
        found = fraud_autoencoder.main(["export", *model, "--out", str(out), "--format", form])
        assert found["difference"] < 1e-4
        np.testing.assert_allclose(np.array(isolated(code, out), float), expected, rtol=1e-4)
    assert fraud_autoencoder.main(["export", *model, "--out", str(tmp_path / "saved"), "--format", "saved_model"])


@pytest.mark.slow
@pytest.mark.parametrize("template", ["transformer", "gru"])
def test_an_exported_language_model_writes_as_the_program_does(tmp_path, isolated, template):
    words = tmp_path / "words.txt"
    words.write_text("".join(f"{number} times {number % 7} is {number * (number % 7)}.\n\n" for number in range(600)))
    choices = ["--template", template, "--tokenizer", "bpe", "--vocabulary", "300", "--context", "16"]
    text_generation.main(["--quick", *choices, "--text", str(words), "--out", str(tmp_path / "run")])
    model = ["--model", str(tmp_path / "run" / "model.keras")]
    sampling = {"tokens": 30, "temperature": 0.9, "seed": 5, "top_p": 0.8}
    flags = [part for name, value in sampling.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    expected = text_generation.main(["generate", *model, "--prompt", "12 times", *flags])["text"]
    code = f"""
import json, pathlib
from preprocess import Model
model = Model(pathlib.Path(sys.path[1]))
print(json.dumps("".join(model.write("12 times", **{sampling}))))
"""
    for form in ("onnx", "litert"):
        out = tmp_path / form
        assert text_generation.main(["export", *model, "--out", str(out), "--format", form])["difference"] < 1e-4
        assert isolated(code, out) == expected
    assert text_generation.main(["export", *model, "--out", str(tmp_path / "saved"), "--format", "saved_model"])

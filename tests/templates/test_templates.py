import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

from templates import FOLDER, architectures, beside, definitions, description, names
from templates.__main__ import build, main

# Runs in a project of somebody else, where a template is one file: ours can't be imported, however it's installed.
ALONE = """
import importlib.util, json, sys

sys.modules.update(dict.fromkeys(["templates", "applications", "data", "reports"]))
assert importlib.util.find_spec("templates") is None
try:
    import templates
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("this project can be imported")

import keras
import numpy as np

work, copies = sys.argv[1], json.loads(sys.argv[2])
random = np.random.default_rng(0)


def draw(tensor):
    # A batch of 4, and of 8 along each further axis of free length.
    shape = (4, *(8 if size is None else size for size in tensor.shape[1:]))
    if keras.backend.is_float_dtype(tensor.dtype):
        return random.normal(size=shape).astype(tensor.dtype)
    return random.integers(0, 2, shape).astype(tensor.dtype)


def call(model, inputs):
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(model(inputs))]


def train(template, folder, architecture):
    model = getattr(template, architecture)()
    inputs = keras.tree.map_structure(draw, model.input)
    outputs = model(inputs)
    target = keras.tree.map_structure(lambda output: random.normal(size=output.shape).astype("float32"), outputs)
    own_loss = type(model).compute_loss is not keras.Model.compute_loss  # which takes no targets
    model.compile(optimizer="sgd", loss=None if own_loss else keras.tree.map_structure(lambda output: "mse", outputs))
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(inputs, None if own_loss else target)).all()
    after = model.get_weights()
    assert any((old != new).any() for old, new in zip(before, after)), "no weight was trained"
    assert all(np.isfinite(weight).all() for weight in after)
    model.save(f"{folder}/{architecture}.keras")
    arrays = keras.tree.flatten(inputs)
    np.savez(f"{folder}/{architecture}.npz", *arrays, **{f"out_{i}": x for i, x in enumerate(call(model, inputs))})


def decode(template, folder, architecture):
    # The same tokens are given by all of a transformer or recurrent network, with decoding.py copied beside it.
    decoding = importlib.import_module("decoding")
    assert decoding.__file__.startswith(folder)
    model = keras.saving.load_model(f"{folder}/{architecture}.keras")
    if len(model.inputs) == 2:
        reader = getattr(decoding, "LSTMReader" if architecture.startswith("lstm") else "Reader")(model)
        tokens, scores = decoding.Translator(reader, longest=3)(np.array([[3, 4, 5]]), beams=2)
        assert tokens.shape == (1, 2, 3) and (np.diff(scores) <= 0).all()
        return
    stream = decoding.Stream(model)
    tokens = [token[0] for token in decoding.generate(stream, [[1, 2, 3]], 3, temperature=0)]
    read = [1, 2, 3]
    for token in tokens:
        assert token == call(model, np.array([read]))[0][0, -1].argmax()
        read.append(token)
    assert all(np.allclose(of_block.sum(axis=-1), 1) for of_block in decoding.attention_maps(model, read))


def load(template, folder, architecture):
    model = keras.saving.load_model(f"{folder}/{architecture}.keras")
    kept = np.load(f"{folder}/{architecture}.npz")
    arrays = [kept[key] for key in sorted(kept.files, key=len) if key.startswith("arr_")]
    outputs = call(model, keras.tree.pack_sequence_as(model.input, arrays))
    assert len(outputs) == sum(key.startswith("out_") for key in kept.files)
    for i, output in enumerate(outputs):
        np.testing.assert_allclose(output, kept[f"out_{i}"], rtol=1e-5, atol=1e-6)
        assert output.std() > 0


for folder, name, architectures in copies:
    sys.path.insert(0, folder)
    sys.modules.pop("decoding", None)
    template = importlib.import_module(name)
    assert template.__file__.startswith(folder)
    for architecture in architectures:
        try:
            {"train": train, "load": load, "decode": decode}[work](template, folder, architecture)
        except Exception as problem:
            print(work, name, architecture, "failed", repr(problem).replace("\\n", " "))
        else:
            print(work, name, architecture)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What fresh processes print that train copies of all templates, each in a folder of its own, load and decode."""
    copies = []
    for name in names():
        folder = tmp_path_factory.mktemp(name)
        assert main(["copy", name, str(folder)]) == 0
        (folder / "decoding.py").unlink(missing_ok=True)
        assert [path.name for path in folder.iterdir()] == [f"{name}.py"]
        copies.append([str(folder), name, sorted(architectures(name))])
    printed = {}
    for work in ("train", "load", "decode"):
        if work == "decode":
            copies = [[folder, name, sorted(DECODED & set(of))] for folder, name, of in copies if beside(name)]
            for folder, name, _ in copies:
                assert main(["copy", name, folder, "--force"]) == 0
        done = subprocess.run(
            [sys.executable, "-I", "-c", ALONE, work, json.dumps(copies)],
            cwd=tmp_path_factory.mktemp("project"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed[work] = done.stdout.splitlines()
    return printed


# Each template, whatever they are


DECODED = {"decoder", "encoder_decoder", "lstm_encoder_decoder"}


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_copy_works_in_a_project_without_this_one(name, alone):
    found = sorted(architectures(name))
    assert found
    for work, printed in alone.items():
        of_template = [line for line in printed if line.startswith(f"{work} {name} ")]
        expected = [one for one in found if work != "decode" or one in DECODED]
        assert of_template == [f"{work} {name} {architecture}" for architecture in expected]


@pytest.mark.parametrize("name", [*names(), "decoding"])
def test_a_docstring_names_paper_input_and_output(name):
    text = description(name)
    assert list(text)[:3] == ["Paper", "Input", "Output"]
    assert re.search(r"\b(19|20)\d\d\b", text["Paper"])
    assert all(re.match(r"\(batch\b.*\)", text[key]) for key in ("Input", "Output"))


@pytest.mark.parametrize("name", names())
def test_a_docstring_names_the_import_that_loading_needs(name):
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    expected = f'Loading: `import {name}` (this module), then `keras.saving.load_model("model.keras")`'
    assert expected in docstring.splitlines()


def test_names_are_the_modules_of_the_folder():
    assert "autoencoder" in names()
    files = {path.name for path in (Path(__file__).parents[2] / "templates").glob("*.py")}
    assert {f"{name}.py" for name in names()} == files - {"__init__.py", "__main__.py", "decoding.py"}
    assert {name: beside(name) for name in names() if beside(name)} == dict.fromkeys(
        ("recurrent", "transformer"), "decoding"
    )


# list and summary


def test_list_shows_every_architecture(capsys):
    assert main(["list"]) == 0
    expected = []
    for name in names():
        docstring = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        lines = {key: re.search(rf"^{key}: (.+)$", docstring, re.MULTILINE)[1] for key in ("Paper", "Input", "Output")}
        for architecture, model in zip(architectures(name), build(name), strict=True):
            expected += [
                architecture if architecture == name else f"{name}: {architecture}",
                f"  paper:      {lines['Paper']}",
                f"  input:      {lines['Input']}",
                f"  output:     {lines['Output']}",
                *(f"  beside:     {line}" for line in re.findall("^Beside: (.+)$", docstring, re.MULTILINE)),
                f"  parameters: {model.count_params():,}",
            ]
    assert capsys.readouterr().out.splitlines() == expected
    assert "autoencoder" in expected
    assert "  parameters: 5,030" in expected  # of the autoencoder, 30 → 64 → 8 → 64 → 30


def test_only_public_builders_that_need_no_argument_are_architectures():
    # anomaly_scorer returns a model as well, but needs a trained autoencoder.
    assert architectures("autoencoder") == ["autoencoder"]


@pytest.mark.parametrize("name", names())
def test_what_is_read_of_a_file_is_what_importing_it_gives(name):
    module = importlib.import_module(f"templates.{name}")
    for definition in definitions(name).values():
        real = getattr(module, definition.name)
        assert definition.docstring == inspect.getdoc(real)
        if definition.arguments:
            named = [p for p in inspect.signature(real).parameters.values() if p.kind is not p.VAR_KEYWORD]
            assert definition.arguments == {parameter.name: parameter.default for parameter in named}
    builders = {
        architecture
        for architecture, function in inspect.getmembers(module, inspect.isfunction)
        if (function.__module__ == module.__name__ and not architecture.startswith("_"))
        and inspect.signature(function).return_annotation is keras.Model
        and all(p.default is not p.empty for p in inspect.signature(function).parameters.values())
    }
    assert set(architectures(name)) == builders


@pytest.mark.parametrize("name", names())
def test_summary_shows_layers_and_parameters(name, capsys):
    assert main(["summary", name]) == 0
    text = capsys.readouterr().out
    for model in build(name):
        assert f'Model: "{model.name}"' in text
        assert f"{model.count_params():,}" in text
        for layer in model.layers:
            assert layer.name[:12] in text


def test_summary_shows_the_layers_of_nested_models(capsys):
    assert main(["summary", "autoencoder"]) == 0
    text = capsys.readouterr().out
    assert all(layer in text for layer in ("encoder_1", "code", "decoder_1", "reconstruction"))


# copy


VERSION = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def original(name: str) -> bytes:
    """What a copy is: the file after its name, version and licence."""
    origin = f"# {name}.py of Keras application templates {VERSION}, licence: Apache-2.0\n"
    return origin.encode() + (FOLDER / f"{name}.py").read_bytes()


def test_copy_to_a_folder(tmp_path, capsys):
    folder = tmp_path / "new" / "project"
    assert main(["copy", "autoencoder", str(folder)]) == 0
    assert (folder / "autoencoder.py").read_bytes() == original("autoencoder")
    assert [path.name for path in folder.iterdir()] == ["autoencoder.py"]
    assert capsys.readouterr().out == f"wrote {folder / 'autoencoder.py'}\n"


def test_copy_to_a_file(tmp_path, capsys):
    target = tmp_path / "new" / "model.py"
    assert main(["copy", "autoencoder", str(target)]) == 0
    assert target.read_bytes() == original("autoencoder")
    assert [path.name for path in target.parent.iterdir()] == ["model.py"]
    assert capsys.readouterr().out == f"wrote {target}\n"


@pytest.mark.parametrize("destination", ["", "autoencoder.py"])
def test_copy_overwrites_with_force_alone(destination, tmp_path, capsys):
    target = tmp_path / "autoencoder.py"
    target.write_text("mine\n")
    assert main(["copy", "autoencoder", str(tmp_path / destination)]) == 2
    assert target.read_text() == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.py"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: {target} exists; --force overwrites it\n"

    assert main(["copy", "autoencoder", str(tmp_path / destination), "--force"]) == 0
    assert target.read_bytes() == original("autoencoder")
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.py"]


@pytest.mark.parametrize("target", ["transformer.py", "model.py"])
def test_what_a_template_works_with_is_copied_beside_it(target, tmp_path, capsys):
    destination = tmp_path if target == "transformer.py" else tmp_path / target
    assert main(["copy", "transformer", str(destination)]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / target}\nwrote {tmp_path / 'decoding.py'}\n"
    assert (tmp_path / target).read_bytes() == original("transformer")
    assert (tmp_path / "decoding.py").read_bytes() == original("decoding")

    assert main(["copy", "recurrent", str(tmp_path)]) == 0  # whose companion is there already
    assert capsys.readouterr().out == f"wrote {tmp_path / 'recurrent.py'}\n"
    (tmp_path / "recurrent.py").unlink()
    (tmp_path / "decoding.py").write_text("mine\n")
    assert main(["copy", "recurrent", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'decoding.py'} exists; --force overwrites it\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["decoding.py", target])
    assert (tmp_path / "decoding.py").read_text() == "mine\n"
    assert main(["copy", "recurrent", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "decoding.py").read_bytes() == original("decoding")


def test_copy_to_an_impossible_place(tmp_path, capsys):
    (tmp_path / "file").write_text("mine\n")
    assert main(["copy", "autoencoder", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "file").read_text() == "mine\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["unknown"], ["copy", "no_such_template", "."], ["summary", "no_such_template"], ["copy", "autoencoder"]],
)
def test_unusable_arguments(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_name_is_told_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["copy", "no_such_template", "."])
    message = capsys.readouterr().err
    assert all(name in message for name in ("no_such_template", *names()))


def test_the_command_line_exits_with_the_code(tmp_path):
    command = [sys.executable, "-m", "templates", "copy", "autoencoder", str(tmp_path)]
    first, second = (
        subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False) for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 2)
    assert first.stdout == f"wrote {tmp_path / 'autoencoder.py'}\n"
    assert second.stderr == f"error: {tmp_path / 'autoencoder.py'} exists; --force overwrites it\n"
    assert (tmp_path / "autoencoder.py").read_bytes() == original("autoencoder")


def test_a_reader_that_ends_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "templates", "list"]
    done = subprocess.run(command, cwd=FOLDER.parent, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")

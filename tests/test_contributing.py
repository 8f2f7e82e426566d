"""The files that CONTRIBUTING tells to write make a template and an application that work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = re.compile(r"^```(?:python|typst) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = dict(FILE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with the files of the pages."""
    folder = tmp_path_factory.mktemp("project")
    for room in ("applications", "data", "reports", "templates", "tests"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def python(folder, *words):
    """What Python prints in the project, and nowhere else."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_template_is_listed(project):
    assert "softmax: softmax_regression\n  paper:      Cox 1958" in python(project, "-m", "templates", "list")


@pytest.mark.slow
def test_the_application_runs_and_typesets_its_report_again(project):
    program = "applications/iris_species.py"
    assert "accuracy" in python(project, program, "--quick", "--out", "run")
    report = (project / "run/report.pdf").read_bytes()
    (project / "run/report.pdf").unlink()
    python(project, program, "report", "--run", "run")
    assert (project / "run/report.pdf").read_bytes() == report


@pytest.mark.slow
def test_its_tests_and_those_of_the_rooms_pass(project):
    tests = [name for name in FILES if name.startswith("tests/")]
    passed = python(project, "-m", "pytest", "-n", "0", "-q", "tests/test_rooms.py", *tests)
    assert re.search(r"\b\d+ passed", passed), passed


def test_the_files_are_in_order(project):
    python(project, "-m", "ruff", "check", *(name for name in FILES if name.endswith(".py")))
    python(project, "-m", "ruff", "format", "--check", *(name for name in FILES if name.endswith(".py")))

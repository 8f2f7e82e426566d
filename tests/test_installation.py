"""Folders and packages of others that are named as the rooms of this project: neither disturbs the other."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from setuptools import __version__ as setuptools_version

ROOT = Path(__file__).parents[1]
ROOMS = ("applications", "data", "reports", "templates")
PROGRAMS = sorted(
    path.stem for path in (ROOT / "applications").glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")
)
can_build = pytest.mark.skipif(int(setuptools_version.split(".")[0]) < 77, reason="builds with setuptools 77 or later")


def run(*command, cwd, **variables):
    """What a command prints in an environment that knows nothing of this project."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of somebody's with folders of these names, whose import ends a program."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise SystemExit('not the room of this project')\n")
    return tmp_path


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_takes_its_own_rooms(program, elsewhere):
    words = [ROOT / "applications" / f"{program}.py", "--help"]
    assert program in run(sys.executable, *words, cwd=elsewhere)
    assert program in run(sys.executable, *words, cwd=elsewhere, PYTHONPATH=str(elsewhere))


def test_importing_a_program_changes_no_path(elsewhere):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = list(sys.path)\n"
    code += "from applications import fraud_autoencoder; assert sys.path == before"
    run(sys.executable, "-c", code, cwd=elsewhere)


# --- Without a backend ---


MISSING = """
import os, sys

class Missing:
    def find_spec(name, *_):
        if name.split(".")[0] == os.environ["KERAS_BACKEND"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing)
"""


def told(code, backend):
    """What lines of Python tell on stderr where the backend is not installed."""
    environment = os.environ | {"KERAS_BACKEND": backend}
    command = [sys.executable, "-c", MISSING + code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch", "none"])
def test_a_missing_backend_is_told_in_one_line(backend):
    code = "sys.argv[1:] = ['--quick']\nfrom applications import image_classification as program, run\n"
    error = told(code + "run.execute(program.main)", backend)
    (line,) = error.splitlines()
    if backend == "none":
        assert line == "error: KERAS_BACKEND: Unable to import backend : none, expected tensorflow, jax or torch"
    else:
        assert line.startswith(f'error: {backend}: found no such backend, expected it installed: pip install -e ".[')
        assert f'".[{backend}]"' in line


def test_a_summary_tells_a_missing_backend_in_one_line():
    error = told("from templates.__main__ import main\nsys.exit(main(['summary', 'cnn']))", "jax")
    (line,) = error.splitlines()
    assert line.startswith("error: jax is not installed")


def test_tensorflow_comes_with_one_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert not [one for one in project["dependencies"] if re.match("tensorflow|jax|torch", one)]
    assert all(any(one.startswith(name) for one in extras[name]) for name in ("tensorflow", "jax", "torch"))
    commands = re.findall(r"^pip install -e (.*) -c", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert all("tensorflow" in one or one in ('".[test]"', '".[bench]"') for one in commands)
    assert all("[tensorflow," in extras[name][0] for name in ("test", "bench"))


# --- As a wheel ---


def wheel(folder, source):
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-w",
        folder,
        source,
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def own_wheel(tmp_path_factory):
    """The project's wheel, built from a copy, as a build leaves files beside its source."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", *ROOMS):
        (source / name).symlink_to(ROOT / name)
    return wheel(tmp_path_factory.mktemp("wheel"), source)


@pytest.fixture(scope="module")
def other_wheel(tmp_path_factory):
    """One of somebody else, with packages of the rooms' names."""
    source = tmp_path_factory.mktemp("other")
    (source / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "1"\n')
    for room in ROOMS:
        (source / room).mkdir()
        (source / room / "__init__.py").write_text("")
    packages = ", ".join(f'"{room}"' for room in ROOMS)
    with (source / "pyproject.toml").open("a") as settings:
        settings.write(f"[tool.setuptools]\npackages = [{packages}]\n")
    return wheel(tmp_path_factory.mktemp("wheel"), source)


@can_build
@pytest.mark.slow
def test_a_wheel_has_one_package(own_wheel):
    with zipfile.ZipFile(own_wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"keras_application_templates"}
    files = {f"keras_application_templates/{path.name}" for path in (ROOT / "templates").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == files


@can_build
@pytest.mark.slow
@pytest.mark.parametrize("own_first", [True, False])
def test_installed_beside_another_wheel_both_stay_whole(own_first, own_wheel, other_wheel, elsewhere):
    venv.create(elsewhere / "venv", with_pip=False)
    python = elsewhere / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    for one in (own_wheel, other_wheel) if own_first else (other_wheel, own_wheel):
        run(*pip, "install", "--no-index", "--no-deps", one, cwd=elsewhere)
    (packages,) = (elsewhere / "venv").glob("lib/python*/site-packages")
    others = [packages / room / "__init__.py" for room in ROOMS]
    assert all(path.read_text() == "" for path in others)

    for command in (
        [elsewhere / "venv/bin/keras-application-templates"],
        [python, "-m", "keras_application_templates"],
    ):
        assert "autoencoder" in run(*command, "list", cwd=elsewhere)
        run(*command, "copy", "transformer", elsewhere / "own", "--force", cwd=elsewhere)
        assert (elsewhere / "own/decoding.py").read_bytes().endswith((ROOT / "templates/decoding.py").read_bytes())

    run(*pip, "uninstall", "--yes", "keras-application-templates", cwd=elsewhere)
    assert all(path.exists() for path in others)
    assert not (packages / "keras_application_templates").exists()

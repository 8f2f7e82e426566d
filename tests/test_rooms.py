import ast
import functools
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
NOT_PACKAGED = {"tests", "benchmarks"}
ROOMS = sorted({path.parent.name for path in PROJECT.glob("[!.]*/*.py")} - NOT_PACKAGED)
FILES = [path for room in ROOMS for path in sorted((PROJECT / room).rglob("*.py"))]


@functools.cache
def modules(path: Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it, such as applications.fraud.evaluation."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in ROOMS}


@functools.cache
def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it; a relative import counts as its own folder."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0] if node.level == 0 else ".")
    return found


def files(room: str) -> list:
    chosen = [path for path in FILES if path.relative_to(PROJECT).parts[0] == room]
    return [pytest.param(path, id=str(path.relative_to(PROJECT))) for path in chosen]


def test_the_rooms_are_these():
    assert ROOMS == ["applications", "data", "reports", "templates"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for(room):
    docstring = ast.get_docstring(ast.parse((PROJECT / room / "__init__.py").read_text(encoding="utf-8")))
    assert docstring
    assert docstring.endswith(".")


@pytest.mark.parametrize(
    "path", [parameter for parameter in files("templates") if parameter.values[0].stem not in ("__init__", "__main__")]
)
def test_a_template_needs_keras_and_numpy_alone(path):
    found = imported(path)
    assert "keras" in found
    assert found - sys.stdlib_module_names <= {"keras", "numpy"}


@pytest.mark.parametrize("room", ["templates", "data", "reports"])
def test_only_applications_join_rooms(room):
    chosen = [parameter.values[0] for parameter in files(room)]
    assert chosen
    found = {str(path.relative_to(PROJECT)): imported(path) & ({*ROOMS, *NOT_PACKAGED} - {room}) for path in chosen}
    assert not {path: rooms for path, rooms in found.items() if rooms}


PROGRAMS = {
    path.stem: path for path in sorted((PROJECT / "applications").glob("*.py")) if "\ndef main(" in path.read_text()
}
FOLDERS = sorted(path.parent.name for path in (PROJECT / "applications").glob("*/__init__.py"))


def test_every_application_is_a_program_with_a_folder_of_its_own():
    used = [
        {
            folder
            for folder in FOLDERS
            if any(f"{name}.".startswith(f"applications.{folder}.") for name in modules(path))
        }
        for path in PROGRAMS.values()
        if modules(path)
    ]
    assert sorted(used, key=sorted) == [{folder} for folder in FOLDERS]


def test_nothing_imports_a_program():
    programs = {f"applications.{name}" for name in PROGRAMS}
    found = {str(path.relative_to(PROJECT)): modules(path) & programs for path in FILES}
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_application_imports_no_other_one(folder):
    others = {f"applications.{other}" for other in FOLDERS if other != folder}
    for path in (PROJECT / "applications" / folder).glob("*.py"):
        assert not {name for name in modules(path) if any(f"{name}.".startswith(f"{other}.") for other in others)}


def test_a_baseline_imports_no_template():
    for path in [*(PROJECT / "applications").glob("*/baselines.py"), PROJECT / "applications" / "n_grams.py"]:
        assert not {name for name in modules(path) if name.startswith("templates")}


def test_no_room_imports_tests_or_benchmarks():
    assert not [path for path in FILES if imported(path) & NOT_PACKAGED]

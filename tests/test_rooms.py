import ast
import functools
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
NOT_PACKAGED = {"tests", "benchmarks"}
ROOMS = sorted({path.parent.name for path in PROJECT.glob("[!.]*/*.py")} - NOT_PACKAGED)
FILES = [path for room in ROOMS for path in sorted((PROJECT / room).rglob("*.py"))]


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


def test_the_rooms_are_the_packages():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(settings["tool"]["setuptools"]["packages"]) == ROOMS
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


def test_no_room_imports_tests_or_benchmarks():
    assert not [path for path in FILES if imported(path) & NOT_PACKAGED]

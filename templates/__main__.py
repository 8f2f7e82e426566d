"""List the templates, summarise one, or copy one into a project."""

import argparse
import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
VERSION = "0.1.0"  # that of pyproject.toml


def names() -> list[str]:
    """The names of all templates: the modules of this folder except companion modules."""
    modules = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")}
    return sorted(modules - {companion for name in modules if (companion := beside(name))})


def description(name: str) -> dict[str, str]:
    """The `Paper:`, `Input:`, `Output:` and optional `Beside:` lines of a template's docstring."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return dict(re.findall(r"^(Paper|Input|Output|Beside): (.+)$", docstring, flags=re.MULTILINE))


def beside(name: str) -> str | None:
    """The companion module of a template, from the line `Beside: module.py, ...` of its docstring, or None."""
    line = description(name).get("Beside")
    return line.split(".py")[0] if line else None


def architectures(name: str) -> dict:
    """The public functions of a template that build a model without arguments, by name."""
    module = importlib.import_module(f"templates.{name}")
    builders = {}
    for function_name, function in inspect.getmembers(module, inspect.isfunction):
        signature = inspect.signature(function)
        if (
            function.__module__ == module.__name__
            and not function_name.startswith("_")
            and getattr(signature.return_annotation, "__name__", "") in ("Model", "Functional")
            and all(p.default is not p.empty for p in signature.parameters.values())
        ):
            builders[function_name] = function
    return builders


def list_templates() -> None:
    """Print each architecture's name, docstring lines and number of parameters with default arguments."""
    for name in names():
        text = description(name)
        for architecture, build in architectures(name).items():
            label = architecture if architecture == name else f"{name}: {architecture}"
            print(label)
            for key, line in text.items():
                print(f"  {key.lower() + ':':<12}{line}")
            print(f"  {'parameters:':<12}{build().count_params():,}")


def copy(name: str, destination: Path, *, force: bool) -> list[Path]:
    """Copy a template to a folder or to a file name that ends in .py, and its companion module to the same folder.

    A copy begins with a line of its name, version and licence. A companion that already exists there with the same
    content is not written again.

    Returns:
        The paths of the copies.

    Raises:
        FileExistsError: if a target exists and `force` is not set; nothing is written then.
    """
    target = destination if destination.suffix == ".py" else destination / f"{name}.py"
    texts = {target: _with_origin(name)}
    if companion := beside(name):
        text, path = _with_origin(companion), target.with_name(f"{companion}.py")
        if not path.is_file() or path.read_bytes() != text:
            texts[path] = text
    for path in texts:
        if path.exists() and not force:
            raise FileExistsError(f"{path} exists; --force overwrites it")
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(text)
        partial.replace(path)
    return list(texts)


def _with_origin(module: str) -> bytes:
    """The text of a module after a line that says where it comes from."""
    origin = f"# {module}.py of Keras application templates {VERSION}, licence: Apache-2.0\n"
    return origin.encode() + (FOLDER / f"{module}.py").read_bytes()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, 2 for an invalid argument."""
    parser = argparse.ArgumentParser(prog="python -m templates", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | summary | copy")
    commands.add_parser("list", help="list the templates with paper, input, output and parameters")
    summary_parser = commands.add_parser("summary", help="layers, shapes and parameters of a template's default model")
    copy_parser = commands.add_parser("copy", help="copy a template into your project")
    for sub_parser in (summary_parser, copy_parser):
        sub_parser.add_argument("name", choices=names(), metavar="NAME", help=", ".join(names()))
    copy_parser.add_argument("destination", type=Path, metavar="DEST", help="folder, or file name ending in .py")
    copy_parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    try:
        if chosen.command == "list":
            list_templates()
        elif chosen.command == "summary":
            for build in architectures(chosen.name).values():
                build().summary(expand_nested=True)
        else:
            for path in copy(chosen.name, chosen.destination, force=chosen.force):
                print(f"wrote {path}")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""List the templates, summarise one, or copy one into a project."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import FOLDER, architectures, beside, description, names

BACKENDS = ("tensorflow", "jax", "torch")
VERSION = "0.1.0"  # that of pyproject.toml


def build(name: str) -> list[Any]:
    """The models of all architectures of a template, with their default arguments."""
    module = importlib.import_module(f".{name}", __package__)
    return [getattr(module, architecture)() for architecture in architectures(name)]


def list_templates() -> None:
    """Print each architecture's name, docstring lines and number of parameters with default arguments."""
    for name in names():
        text = description(name)
        parameters = dict(one.split(" ") for one in text.pop("Parameters", "").split("; ") if one)
        for architecture in architectures(name):
            print(architecture if architecture == name else f"{name}: {architecture}")
            for key, line in (text | {"Parameters": parameters.get(architecture, "not stated")}).items():
                print(f"  {key.lower() + ':':<12}{line}")


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
            for model in build(chosen.name):
                model.summary(expand_nested=True)
        else:
            for path in copy(chosen.name, chosen.destination, force=chosen.force):
                print(f"wrote {path}")
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in BACKENDS:
            raise
        others = " or ".join(name for name in BACKENDS if name != missing)
        print(f"error: {missing} is not installed, nor KERAS_BACKEND={others} selected", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

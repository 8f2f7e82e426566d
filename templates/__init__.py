"""Model templates: each file holds one family of architectures and can be copied into another project.

What a template's file says of itself is read here without importing it, since Keras takes seconds to import.
"""

import ast
import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Definition:
    """A public function or class of a template.

    Attributes:
        name: its own.
        docstring: of the function or class.
        arguments: defaults by the names of the arguments, of a class those of its constructor;
            `inspect.Parameter.empty` for an argument without a default.
        returns: the return annotation, as it is written.
    """

    name: str
    docstring: str
    arguments: Mapping[str, Any]
    returns: str


@functools.cache
def _read(template: str) -> ast.Module:
    return ast.parse((FOLDER / f"{template}.py").read_text(encoding="utf-8"))


def names() -> list[str]:
    """The names of all templates: the modules of this folder except companion modules."""
    modules = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")}
    return sorted(modules - {companion for name in modules if (companion := beside(name))})


def description(template: str) -> dict[str, str]:
    """The `Paper:`, `Input:`, `Output:`, `Parameters:` and optional `Beside:` lines of a template's docstring."""
    docstring = ast.get_docstring(_read(template)) or ""
    return dict(re.findall(r"^(Paper|Input|Output|Parameters|Beside): (.+)$", docstring, flags=re.MULTILINE))


def beside(template: str) -> str | None:
    """The companion module of a template, from the line `Beside: module.py, ...` of its docstring, or None."""
    line = description(template).get("Beside")
    return line.split(".py")[0] if line else None


@functools.cache
def definitions(template: str) -> dict[str, Definition]:
    """The public functions and classes of a template by name, in the order of its file."""
    found = {}
    for node in _read(template).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        methods = {method.name: method for method in node.body if isinstance(method, ast.FunctionDef)}
        signature = node if isinstance(node, ast.FunctionDef) else methods.get("__init__")
        returns = "" if isinstance(node, ast.ClassDef) or node.returns is None else ast.unparse(node.returns)
        arguments = {} if signature is None else _arguments(signature.args, skip_self=signature is not node)
        found[node.name] = Definition(node.name, ast.get_docstring(node) or "", arguments, returns)
    return found


def _arguments(signature: ast.arguments, *, skip_self: bool) -> dict[str, Any]:
    positional = [*signature.posonlyargs, *signature.args]
    defaults = [None] * (len(positional) - len(signature.defaults)) + signature.defaults
    pairs = [*zip(positional, defaults, strict=True), *zip(signature.kwonlyargs, signature.kw_defaults, strict=True)]
    return {
        argument.arg: inspect.Parameter.empty if default is None else ast.literal_eval(default)
        for argument, default in pairs[skip_self:]
    }


def architectures(template: str) -> list[str]:
    """The names of the functions of a template that build a model without arguments."""
    return [
        one.name
        for one in definitions(template).values()
        if one.returns == "keras.Model" and inspect.Parameter.empty not in one.arguments.values()
    ]

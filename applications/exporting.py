"""Exports a trained model to ONNX, LiteRT or a SavedModel, with the code around it, and compares the answers."""

from __future__ import annotations

import ast
import base64
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import inspect
import itertools
import json
import math
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from applications import lazy, run
from data.dataset import BadInput
from data.ranges import Range

with lazy.imports():
    import keras
    import numpy as np
    import optree

TOLERANCE = 1e-4
PACKAGES = {"onnx": "onnxruntime", "litert": "ai-edge-litert", "saved_model": "tensorflow"}
MODULES = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",), "saved_model": ("tensorflow",)}
FILES = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "model"}
DOCKERFILE = """\
FROM python:3.12-slim
WORKDIR /model
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
# The user nobody; by number, so that a host can tell that it is not root.
USER 65534
EXPOSE 8000
CMD ["python", "serve.py", "--host", "0.0.0.0"]
"""
OWN = ("applications", "data")  # packages whose code is copied into an exported preprocess.py
_KERAS_FORMATS = {"onnx": "onnx", "litert": "litert", "saved_model": "tf_saved_model"}


@dataclasses.dataclass(frozen=True)
class Export(run.Trained):
    """Export a trained model to run without Keras, compare it with the original, and write how to use it.

    The folder holds the model, signature.json (inputs, outputs, and all that prepares them), preprocess.py, which
    goes from raw data to answers with only numpy and the model's runtime, and serve.py with a Dockerfile.
    """

    out: Path
    """The folder to write."""
    format: Literal["onnx", "litert", "saved_model"] = "onnx"
    """For ONNX Runtime, LiteRT or TensorFlow Serving."""


@dataclasses.dataclass(frozen=True)
class Serve(run.Trained):
    """Serve a trained model over HTTP, after it was exported to ONNX and compared with the original."""

    host: str = "127.0.0.1"
    """Address to listen on; by default from this machine only."""
    port: Annotated[int, Range(0, 65_535)] = 8_000
    """Port to listen on."""


def export(
    settings: Export | Serve,
    network: keras.Model,
    code: Path,
    *,
    about: Mapping[str, Mapping[str, Any]],
    preparation: Mapping[str, Any],
    examples: Sequence[Any],
    answers: Sequence[Any],
    method: str = "answers",
    static: bool = False,
) -> dict[str, Any]:
    """Write an exported network, its signature and its code, if its answers match the program's; or serve it.

    Args:
        settings: where and in which format, or where to serve.
        network: with named inputs and a dictionary of outputs.
        code: the application's preprocess.py, whose `Model(folder).answers(examples)` is what users call, and whose
            `EXAMPLE` says what an example is: a "row", "picture", "sound", "word", "prompt" or "drawing".
        about: by name of input or output, what signature.json says besides shape and type, such as units.
        preparation: all that `code` needs, as JSON.
        examples: raw data to compare on.
        answers: the program's own answers to the examples: trees of numbers and strings.
        method: of `Model`, whose results are compared with these if what users call returns files, such as images.
        static: whether LiteRT needs one example at a time, with fixed shapes.

    Returns:
        The largest difference between the numbers of the answers, relative to those above 1, as "difference".

    Raises:
        BadInput: if the folder exists, the backend is not TensorFlow, the format's packages are missing, or the
            answers differ.
    """
    if isinstance(settings, Serve):
        with tempfile.TemporaryDirectory() as folder:
            exported = Export(model=settings.model, out=Path(folder) / "exported")
            _require("serve", "serve", ("fastapi", "uvicorn"))
            found = export(
                exported,
                network,
                code,
                about=about,
                preparation=preparation,
                examples=examples,
                answers=answers,
                method=method,
                static=static,
            )
            from applications import service

            service.serve(exported.out, settings.host, settings.port)
            return found
    run.check_new(settings.out)
    form = settings.format
    if (backend := keras.backend.backend()) != "tensorflow":
        raise BadInput(f"KERAS_BACKEND: found {backend}, expected tensorflow, from which models are exported")
    _require(f"--format {form}", "export", MODULES[form])
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    partial = settings.out.with_name(f".partial-{secrets.token_hex(4)}-{settings.out.name}")
    partial.mkdir()
    try:
        _write_model(form, network, partial / FILES[form], static)
        source = single_file(code)
        (partial / "preprocess.py").write_text(source, encoding="utf-8")
        module = _module(partial / "preprocess.py")
        signature = {
            "title": (module.__doc__ or "").split(";")[0],
            "format": form,
            "file": FILES[form],
            "inputs": {tensor.name: _described(tensor, about) for tensor in network.inputs},
            "outputs": {name: _described(tensor, about, name) for name, tensor in network.output.items()},
            "example": {"kind": module.EXAMPLE, "request": _as_json(examples[0])},
            "preparation": preparation,
        }
        _write_json(partial / "signature.json", signature)
        service_code = Path(run.__file__).with_name("service.py")
        shutil.copyfile(service_code, partial / "serve.py")
        shutil.copyfile(service_code.with_suffix(".html"), partial / "serve.html")
        packages = ["fastapi", "uvicorn", "numpy", PACKAGES[form], *(["pillow"] if "from PIL" in source else [])]
        (partial / "requirements.txt").write_text("".join(f"{_pinned(name)}\n" for name in packages))
        (partial / "Dockerfile").write_text(DOCKERFILE)
        try:
            model = module.Model(partial)
            found = getattr(model, method)(examples)
            example = found if method == "answers" else model.answers(examples[:1])
        except Exception as error:  # anything that a runtime raises for a graph that it can't run
            raise BadInput(
                f"--format {form}: found a model that {PACKAGES[form]} can't run "
                f"({str(error).splitlines()[0][:200]}), expected another format; nothing was written"
            ) from None
        differences = [difference(own, other) for own, other in zip(answers, found, strict=True)]
        worst = int(np.argmax(differences))  # the first NaN, if there is one
        if not differences[worst] <= TOLERANCE:
            raise BadInput(
                f"{settings.out}: example {worst + 1}: found {str(found[worst])[:200]}, expected "
                f"{str(answers[worst])[:200]}, the model's own answer; nothing was written"
            )
        signature["example"]["answer"] = _as_json(example[0])
        _write_json(partial / "signature.json", signature)
        partial.replace(settings.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(
        f"{settings.out}: the answers to {len(answers):,} examples in {PACKAGES[form]} differ by at most "
        f"{differences[worst]:.0e} from the model's"
    )
    return {"difference": differences[worst], "examples": len(answers)}


def _require(wanted: str, extra: str, modules: Sequence[str]) -> None:
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise BadInput(f'{wanted}: {missing[0]} is not installed, expected it from pip install -e ".[{extra}]"')


def _pinned(package: str) -> str:
    try:
        return f"{package}=={importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:  # what serves is not needed to export
        return package


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_json(value: Any) -> Any:
    """A value as signature.json and requests hold it: bytes in base 64, times in ISO 8601."""
    if isinstance(value, Path):
        value = value.read_bytes()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _as_json(of_name) for name, of_name in value.items()}
    return [_as_json(one) for one in value] if isinstance(value, list | tuple) else value


def _write_model(form: str, network: keras.Model, path: Path, static: bool) -> None:
    options: dict[str, Any] = {}
    if form == "litert" and static:
        specification = keras.tree.map_structure(
            lambda tensor: keras.InputSpec(shape=(1, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name),
            network.input,
        )
        options["input_signature"] = [specification]
    for layer in network._flatten_layers():
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = _exact_gelu  # Keras' own has the operation Erfc on TensorFlow, which ONNX lacks
        if isinstance(layer, keras.layers.Normalization):  # tensors outside the graph would be inputs in ONNX
            layer.mean, layer.variance = map(keras.ops.convert_to_numpy, (layer.mean, layer.variance))

    def zeros(tensor: Any) -> np.ndarray:
        return np.zeros((1, *(size or 1 for size in tensor.shape[1:])), tensor.dtype)

    network(keras.tree.map_structure(zeros, network.input))  # Keras exports no model that was never called
    with warnings.catch_warnings(action="ignore"):  # of tf2onnx and Keras, about each other
        network.export(path, format=_KERAS_FORMATS[form], verbose=False, **options)


def _exact_gelu(x: Any) -> Any:
    erf: Any = keras.ops.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


def _described(tensor: Any, about: Mapping[str, Mapping[str, Any]], name: str | None = None) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype), **about.get(name or tensor.name, {})}


def single_file(code: Path) -> str:
    """An application's preprocess.py with all the code that it needs from this project, so that it imports none of it.

    What it imports from a module of this project, by `from module import name`, comes before it, with what that uses.
    """
    source = code.read_text(encoding="utf-8")
    docstring, *_ = ast.parse(source).body
    imports: dict[str, set[str]] = {}
    parts: dict[str, None] = {}  # in order, each once
    _take(source, None, imports, parts)
    said = [f"import {name}" for name in sorted(imports.pop("", ()))]
    said += [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(imports.items())]
    text = "".join(source.splitlines(keepends=True)[: docstring.end_lineno]) + "\n" + "\n".join(said) + "\n\n"
    for before, part in itertools.pairwise(["", *parts]):
        text += part if "\n" not in before + part else f"\n\n{part}"
        text += "\n"
    return text


def _take(source: str, names: set[str] | None, imports: dict[str, set[str]], parts: dict[str, None]) -> None:
    """Add the statements of a module that define some names, or all of it, with what they use of other modules."""
    _, *nodes = ast.parse(source).body
    nodes = [inner for node in nodes for inner in (node.body if isinstance(node, ast.With) else [node])]  # lazy imports
    defined = {node: _defined(node) for node in nodes}
    used = {node: {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} for node in nodes}
    # A statement that defines nothing does something that others rely on.
    taken = [node for node in nodes if names is None or isinstance(node, ast.Expr) or defined[node] & names]
    for node in taken:  # grows in this loop
        taken += [other for other in nodes if defined[other] & used[node] and other not in taken]
    needed = set(names or ()).union(*(used[node] for node in taken))
    lines = source.splitlines()
    own, last = [], 0
    for node in sorted(taken, key=lambda node: node.lineno):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            chosen = [alias for alias in node.names if _bound(alias) in needed]
            if module.partition(".")[0] in OWN:
                other = inspect.getsource(importlib.import_module(module))
                _take(other, {alias.name for alias in chosen}, imports, parts)
            else:
                imports.setdefault(module, set()).update(ast.unparse(alias) for alias in chosen)
            last = node.end_lineno or 0
        elif names is not None:
            first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))]) - 1
            while lines[first - 1].startswith("#"):  # a comment on it
                first -= 1
            own.append("\n".join(lines[first : node.end_lineno]))
    parts.update(dict.fromkeys(own if names is not None else ["\n".join(lines[last:]).strip()]))


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement of a module gives a value."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {_bound(alias) for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"exported_{secrets.token_hex(4)}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def difference(own: Any, other: Any) -> float:
    """The largest difference between two trees of numbers, relative to those above 1; infinite if all else differs."""
    leaves, structure = optree.tree_flatten(own)
    others, other_structure = optree.tree_flatten(other)
    if structure != other_structure:
        return np.inf
    largest = 0.0
    for one, two in zip(leaves, others, strict=True):
        if isinstance(one, float | np.floating | np.ndarray):
            one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
            if one.shape != two.shape:
                return np.inf
            relative = np.abs(one - two) / np.maximum(1, np.abs(one))
            largest = np.maximum(largest, np.max(relative, initial=0))  # NaN, if one is
        elif one != two:
            return np.inf
    return float(largest)

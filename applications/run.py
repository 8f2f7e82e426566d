"""The common parts of all programs: the command line, a run's folder, resumable stages, exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import importlib
import inspect
import io
import itertools
import json
import os
import platform
import re
import resource
import secrets
import shlex
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import tyro

import templates
from applications import lazy
from data import ranges
from data.dataset import BadInput, Provenance, escaped
from data.ranges import Count, Positive, Seed

with lazy.imports():
    from importlib import metadata

    import filelock
    import keras
    import numpy as np
    import pandas as pd

    from data import feeding
    from reports import metrics as schema
    from reports import report as pdf

RUNS = Path("runs")
# Settings that don't change a run's results.
_PLACES = ("out", "resume", "command")
_NOTES = "notes.json"  # in a model's archive, where Keras ignores it
# Unique file names; the first marks a run's folder.
_LOCK = ".keras-application-run"
_PARTIAL = ".keras-application-partial-"


class Stopped(BaseException):
    """A signal asked the process to end, for example from a scheduler, or because the terminal was closed."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


# --- Settings ---

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings for training that all programs share. None means not given: a recipe fills it, see `filled`.

    A program's own settings are in another base: `class Train(run.Training, Own)`. Dataclasses collect the fields of
    the last base first, so that the help begins with them.
    """

    optimizer: Optimizer | None = None
    """The optimizer."""
    learning_rate: Positive | None = None
    """Peak learning rate; it falls to 0 along a cosine over --epochs."""
    batch_size: Count | None = None
    """Examples in a training step."""
    epochs: Count | None = None
    """Maximum number of epochs: passes over the training data, or several passes if the data are few."""
    seed: Seed = 0
    """Seed of the first training; the others use the seeds that follow."""
    seeds: Count | None = None
    """Number of trainings; the report gives their mean and spread."""
    precision: Precision = "float32"
    """Numeric precision of the networks; the mixed ones are for GPUs."""
    init_from: Path | None = None
    """Start from the weights of this model.keras of an earlier run."""

    quick: bool = False
    """A smoke test of seconds: smaller values for settings that are not given, and fewer bootstrap draws."""
    out: Path | None = None
    """The run's folder; by default runs/<program>/<time>."""
    resume: bool = False
    """Continue an interrupted run: the one in --out, or else the newest with the same settings."""
    command: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = dataclasses.field(default="", compare=False)
    """The command line that gives these settings, without --out and --resume; set by `dispatch`."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """The settings of a command that uses a trained model."""

    model: Path
    """The model.keras of a run."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Typeset the report of a finished run again, from its files."""

    run: Path
    """The run's folder."""


def filled(settings: Any, *recipes: Mapping[str, Any]) -> Any:
    """The settings, with a recipe's value in place of each None; the first recipe with a value wins.

    A recipe maps names to values, and the name of a nested dataclass to such a mapping. Unknown names raise
    AttributeError.
    """
    for recipe in recipes:
        values = {name: (getattr(settings, name), value) for name, value in recipe.items()}
        changed = {
            name: filled(own, value) if isinstance(value, Mapping) else value
            for name, (own, value) in values.items()
            if own is None or isinstance(value, Mapping)
        }
        settings = dataclasses.replace(settings, **changed)
    return settings


def choices(template: str, *names: str) -> Callable[[type], type]:
    """Make a class the frozen dataclass of a template's choices: the class gives types, the template everything else.

    A name that is an argument of one of the template's functions or classes of these names, the first that has it, gets
    its help from the docstring there and, unless the class sets one, its default. A name may have the function's as a
    prefix, as in `generator_filters`.
    """
    functions = [templates.definitions(template)[name] for name in names]
    documented = {
        function.name: {p.arg_name: p.description or "" for p in docstring_parser.parse(function.docstring).params}
        for function in functions
    }

    def decorate(cls: type) -> type:
        for name, hint in inspect.get_annotations(cls, eval_str=True).items():
            cls.__annotations__[name] = hint
            for function in functions:
                argument = _argument(function.name, function.arguments, name)
                if argument is None:
                    continue
                default = function.arguments[argument]
                if not hasattr(cls, name):
                    setattr(cls, name, tuple(default) if isinstance(default, list) else default)
                help_ = " ".join(documented[function.name][argument].split())
                cls.__annotations__[name] = Annotated[hint, tyro.conf.arg(help=help_[:1].upper() + help_[1:])]
                break
        return dataclasses.dataclass(frozen=True)(cls)

    return decorate


def arguments(function: Callable[..., Any], settings: Any) -> dict[str, Any]:
    """The settings that are arguments of a template's function, by the names of the arguments."""
    names = sorted((field.name for field in dataclasses.fields(settings)), key=len)  # prefixed ones overwrite others
    known = inspect.signature(function).parameters
    values = {_argument(function.__name__, known, name): getattr(settings, name) for name in names}
    return {argument: value for argument, value in values.items() if argument is not None}


def _argument(function: str, known: Container[str], setting: str) -> str | None:
    """The argument of a function, of those known, for a setting of this name, if there is one."""
    argument = setting.removeprefix(f"{function}_")
    return argument if argument in known else None


def dispatch(
    commands: Mapping[type, Callable[[Any], Any]],
    arguments: Sequence[str] | None,
    *,
    program: str,
    description: str,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Run the command that the first argument names, by default the first command, and return its result.

    Args:
        commands: by the dataclass of their settings, which gives the command's name and help.
        arguments: of the command line, by default `sys.argv`.
        program: its name in the help.
        description: of the program, for the help.
        recipes: defaults of the first command's settings, by the condition in which they apply, for the help.

    Raises:
        BadInput: A setting is out of its range.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    repeated = shlex.join(["python", f"applications/{program}", *_without_places(words)])
    default, *others = commands
    named = {settings.__name__.lower(): settings for settings in others}
    settings = named.get(words[0]) if words else None
    if settings:
        program, description, words = f"{program} {words[0]}", settings.__doc__ or "", words[1:]
    else:
        settings = default
        words = words[words[:1] == [default.__name__.lower()] :]
        if recipes:
            lines = [f"  {when}: {' '.join(_flags(recipe))}" for when, recipe in recipes.items()]
            description += "\n\nDefaults of settings that are None below:\n" + "\n".join(lines)
        description += "\n\nOther commands:\n" + "\n".join(f"  {program} {name} --help" for name in named)
    config = (tyro.conf.HelptextFromCommentsOff,)  # the help is in docstrings; looking for comments takes time
    chosen = tyro.cli(settings, args=words, prog=program, description=description, config=config)
    ranges.check(chosen)
    if settings is not Report:  # which needs no backend
        import_backend_quietly()
    if isinstance(chosen, Training):
        chosen = dataclasses.replace(chosen, command=repeated)
    return commands[settings](chosen)


@functools.cache
def import_backend_quietly() -> None:
    """Import the backend without its start-up messages, which ignore the log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        try:
            import keras
        except (ModuleNotFoundError, ValueError) as problem:  # ValueError: a name that Keras doesn't know
            raise _no_backend(problem) from None
        if keras.backend.backend() == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices()  # the first call prints warnings
            tensorflow.get_logger().setLevel("ERROR")  # no warnings about retracing, which several models cause
    finally:
        os.dup2(stderr, 2)
        os.close(null)
        os.close(stderr)
    # Results don't depend on this machine's keras.json, except for the backend.
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def _no_backend(problem: ModuleNotFoundError | ValueError) -> Exception:
    """The exception for a failed import of Keras: BadInput if the chosen backend is missing."""
    backends = ("tensorflow", "jax", "torch")  # each the name of its package and of the extra that brings it
    if isinstance(problem, ValueError):
        return BadInput(f"KERAS_BACKEND: {problem}, expected {', '.join(backends[:-1])} or {backends[-1]}")
    missing = (problem.name or "").split(".")[0]
    if missing not in backends:
        return problem
    others = " or ".join(name for name in backends if name != missing)
    return BadInput(
        f'{missing}: found no such backend, expected it installed: pip install -e ".[{missing}]"; or another one, '
        f"selected with KERAS_BACKEND={others}"
    )


def _without_places(words: Sequence[str]) -> list[str]:
    """The command-line arguments that repeat a run, without --out and --resume."""
    places = ("--out", "--resume", "--no-resume")
    pairs = zip(words, ["", *words], strict=False)
    return [word for word, before in pairs if word.split("=")[0] not in places and before != "--out"]


def _flags(recipe: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """The command-line arguments that give a recipe's settings."""
    for name, value in recipe.items():
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            yield from _flags(value, f"{flag}.")
        elif value is not None:
            yield " ".join([flag, *map(str, value if isinstance(value, tuple) else [value])])


def execute(main: Callable[[Sequence[str]], Any]) -> None:
    """Run a program and exit with its code.

    0: done; 1: system error, or, without a message, the reader of a pipe ended; 2: unusable input; 130: interrupted;
    143, 129: ended by SIGTERM or SIGHUP. Characters that the console can't print are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def stop(number: int, _) -> None:
        raise Stopped(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # keeps nohup's SIG_IGN
            signal.signal(number, stop)
    try:
        try:
            main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BadInput as problem:
        code, message = 2, f"error: {problem}"
    except KeyboardInterrupt:
        code, message = 130, "stopped"
    except Stopped as signalled:
        code, message = signalled.code, f"stopped by {signalled}"
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as problem:
        code, message = 1, f"error: {escaped(str(problem))}"
    else:
        return
    _tell(message)
    sys.exit(code)


def _tell(message: str) -> None:
    """Print to stderr, unless the terminal is closed."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def load_model(path: Path, inspect: Callable[[Any], Any]) -> Any:
    """Load a model that a run saved.

    Args:
        path: of its model.keras.
        inspect: raises an error if the model is not of this program.

    Raises:
        BadInput: There is no such model.
    """
    expected = "expected the model.keras of a run of this program"
    if path.is_dir() or not zipfile.is_zipfile(path):
        kind = "a folder" if path.is_dir() else "another kind of file" if path.exists() else "no such file"
        raise BadInput(f"{path}: found {kind}, {expected}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # Keras doesn't verify the checksums of weights
        if damaged is not None:
            raise BadInput(f"{path}: found a damaged file ({damaged}), {expected}")
        for template in templates.names():
            importlib.import_module(f"templates.{template}")  # which makes its layers and models known to Keras
        model = keras.models.load_model(path)
        inspect(model)
    except BadInput:
        raise
    except Exception as error:  # a damaged or foreign archive makes Keras, h5py or zipfile raise almost anything
        raise BadInput(f"{path}: found another model ({_reason(error)}), {expected}") from None
    return model


def model_notes(path: Path) -> dict[str, Any]:
    """The notes that a model was saved with, or {}.

    Raises:
        BadInput: They can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            notes = json.loads(archive.read(_NOTES)) if _NOTES in archive.namelist() else {}
            if isinstance(notes, dict):
                return notes
            error = TypeError(f"a {type(notes).__name__}")
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as problem:
        error = problem
    raise BadInput(f"{path}: found unreadable notes ({_reason(error)}), expected those of a run of this program")


def _reason(error: BaseException) -> str:
    """The start of an error's message, for a message of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"


def _read_json(path: Path, expected: str) -> dict[str, Any]:
    """Read a JSON object that a run wrote.

    Raises:
        BadInput: There is none that can be read; `expected` describes it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
        reason = f"found a JSON {type(value).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        reason = f"found no readable JSON ({_reason(error)})"
    raise BadInput(f"{path}: {reason}, expected {expected}")


def start_from(model: keras.Model, weights: Sequence[np.ndarray] | None, settings: Any, flags: str) -> None:
    """Give a model the weights of --init-from, if any; `flags` names the settings that must agree.

    Raises:
        BadInput: They are weights of a different model.
    """
    if weights is None:
        return
    found, expected = ([array.shape for array in arrays] for arrays in (weights, model.get_weights()))
    for place, (one, other) in enumerate(itertools.zip_longest(found, expected, fillvalue="none"), 1):
        if one != other:
            raise BadInput(
                f"--init-from {settings.init_from}: found weights of {one} as array {place}, expected {other} "
                f"for {flags}"
            )
    model.set_weights(weights)


def optimizer(
    name: str, learning_rate: float, steps: int, *, warm_up: float = 0.0, **options: Any
) -> keras.optimizers.Optimizer:
    """An optimizer whose learning rate falls to 0 along a cosine over the steps of the training.

    During the first share `warm_up` of the steps, it rises from 0.
    """
    rise = int(warm_up * steps)
    rising: dict[str, Any] = {"warmup_target": learning_rate, "warmup_steps": rise} if rise else {}
    schedule = keras.optimizers.schedules.CosineDecay(0.0 if rise else learning_rate, steps - rise, **rising)
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": schedule, **options}})


def jit_compile() -> Any:
    """For `compile`: XLA slows down small, convolutional and recurrent nets on TensorFlow (measured); JAX needs it."""
    return False if keras.backend.backend() == "tensorflow" else "auto"


def check_new(out: Path) -> None:
    """Raise BadInput if --out exists or can't be the name of a file."""
    try:
        out.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        found = (isinstance(problem, OSError) and problem.strerror) or problem
        raise BadInput(f"--out {out}: found a name that can't be used ({found}), expected a new name") from None
    raise BadInput(f"--out {out}: found an existing file, expected a new name")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: yields a temporary file that becomes `path` if the block succeeds, else is removed.

    Raises:
        BadInput: There is a folder of this name.
        OSError: The file can't be written; the error names it.
    """
    if path.is_dir():
        raise BadInput(f"{path}: found a folder, expected a file to write to")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(4)}-{path.name}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as problem:  # on a full disk, the error doesn't name the file
        if problem.filename not in (None, str(partial), os.fsencode(partial)):
            raise
        raise OSError(problem.errno, problem.strerror or _reason(problem), str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def plain(settings: Any) -> dict[str, Any]:
    """A settings dataclass as JSON."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))


def lasting(settings: Any) -> dict[str, Any]:
    """The settings that a run's results depend on."""
    return {name: value for name, value in plain(settings).items() if name not in _PLACES}


def machine() -> str:
    """The processor architecture, the cores available to this process, and the operating system."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )  # macOS has no affinity
    return f"{platform.machine()}, {cores} core{'s' * (cores != 1)}, {platform.system()}"


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def peak_memory_mb() -> float:
    """The peak memory of this process in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss includes that of the parent process
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3  # kilobytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on macOS bytes
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


@dataclasses.dataclass
class Fit:
    """The result of a training: the history of each measure, the best epoch (from 1), and seconds and examples.

    `diverged` says that the loss was not finite in an epoch after those of the history.
    """

    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
    diverged: bool = False
    examples: int = 0


class Run:
    """A run's folder, locked by one process, with checkpoints of finished stages until the run is complete.

    Use it in a `with` statement, in which Keras has the precision of the settings. When the run ends, its checkpoints
    are removed; if it is stopped, they stay for --resume; if the input is unusable and nothing is trained yet,
    everything that the run wrote is removed. Files and folders that the run did not make are never touched.

    Args:
        application: its name; without `out` the folder is runs/<application>/<time>.
        settings: a `Training`.

    Raises:
        BadInput: The folder is in use or not empty, or there is nothing to resume.
    """

    def __init__(self, application: str, settings: Any):
        self.application = application
        self.settings = lasting(settings)
        self.began = time.perf_counter()
        self.started = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.resumed = settings.resume
        self._trained = False
        self._written: list[Path] = []  # files and folders that this process made
        self._checkpointed: set[Path] = set()  # files and folders among the checkpoints, new or from before
        self.folder = self._choose(settings.out, settings.resume)
        self.checkpoints = self.folder / "checkpoints"
        self.limits: list[str] = []
        if settings.resume:
            self.started = datetime.datetime.fromisoformat(self._config(self.folder)["started"])
        self._lock = filelock.FileLock(self.folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise BadInput(f"{self.folder}: found it in use by another process, expected a free folder") from None
        for leftover in self.folder.rglob(f"{_PARTIAL}*"):
            leftover.unlink()
        self._make(self.checkpoints)
        self._make(self.folder / "figures")
        self.write_json("config.json", self._identity() | {"started": self.started.isoformat()})

    def _make(self, folder: Path) -> bool:
        """Make a folder of the run; False if it exists already."""
        try:
            folder.mkdir()
        except FileExistsError:
            return False
        self._written.append(folder)
        return True

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a process to resume a run."""
        return {
            "application": self.application,
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
            "settings": self.settings,
        }

    def _choose(self, out: Path | None, resume: bool) -> Path:
        if resume:
            return self._unfinished(out)
        if out is None:
            return self._new_folder()
        if out.exists() and not out.is_dir():
            raise BadInput(f"--out {out}: found a file, expected a folder to write to")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._make(out)
        names = {path.name for path in out.iterdir()}
        # A process that was killed at its very start leaves its lock and at most these.
        leftover = {name for name in names if name == _LOCK or name.startswith(_PARTIAL)}
        if _LOCK in names:
            leftover |= {name for name in ("checkpoints", "figures") if not any((out / name).glob("*"))}
        if names - leftover:
            raise BadInput(f"--out {out}: found files in it, expected a new or empty folder, or --resume")
        return out

    def _new_folder(self) -> Path:
        """Make the folder runs/<application>/<time>, or the next one if another run began in this second."""
        first = RUNS / self.application / self.started.strftime("%Y-%m-%d-%H%M%S")
        first.parent.mkdir(parents=True, exist_ok=True)
        folder, number = first, 1
        while not self._make(folder):
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        return folder

    def _unfinished(self, out: Path | None) -> Path:
        """The folder to resume: `out`, else the newest run of the same identity without a report."""
        if out is None:
            for folder in sorted((RUNS / self.application).glob("*"), reverse=True):
                if not (folder / "report.pdf").exists() and not self._differing(folder):
                    return folder
            raise BadInput(
                f"--resume: found no unfinished run with these settings in {RUNS / self.application}, "
                "expected one that was stopped"
            )
        if (out / "report.pdf").exists():
            raise BadInput(f"--resume {out}: found a finished run, expected one that was stopped")
        if differing := self._differing(out):
            name, found, expected = differing[0]
            raise BadInput(f"--resume {out}: found {name} {found}, expected {expected} as in this command")
        return out

    def _differing(self, folder: Path) -> list[tuple[str, Any, Any]]:
        """Name, found value and expected value of everything that differs between a folder's run and this one."""
        try:
            found, own = ({**known, **known["settings"]} for known in (self._config(folder), self._identity()))
        except BadInput as problem:
            return [("no readable config.json", f"({problem})", "the folder of a run")]
        names = sorted({*found, *own} - {"settings", "started"})
        return [(name, found.get(name), own.get(name)) for name in names if found.get(name) != own.get(name)]

    @staticmethod
    def _config(folder: Path) -> dict[str, Any]:
        """The config.json of a folder's run."""
        path, expected = folder / "config.json", "what a run was started with"
        config = _read_json(path, expected)
        try:
            datetime.datetime.fromisoformat(config["started"])
            dict(config["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: found other contents ({_reason(error)}), expected {expected}") from None
        return config

    def check_data(self, provenance: Provenance) -> None:
        """Print how the data were read, and raise BadInput if they differ from those of the resumed run."""
        for sentence in provenance.understood:
            self.say(sentence)
        known = str(self.stage("data", lambda: {"sha256": np.array(provenance.sha256)})["sha256"])
        if known != provenance.sha256:
            raise BadInput(
                f"--resume {self.folder}: found data that differ from those it was started with, expected the same"
            )

    def write(self, name: str, content: bytes) -> None:
        """Write one file of the run's folder."""
        with self.writing(name) as partial:
            partial.write_bytes(content)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Write one file of the run's folder with `replacing`."""
        path = self.folder / name
        with replacing(path) as partial:
            yield partial
        self._written.append(path)

    def scratch(self, name: str, files: Sequence[str]) -> Path:
        """A folder for these temporary files, which are kept for --resume and removed at the end of the run."""
        folder = self.checkpoints / name
        self._make(folder)
        self._checkpointed |= {folder, *(folder / file for file in files)}
        return folder

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file of the run's folder."""
        self.write(name, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())

    def say(self, text: str) -> None:
        """Print a line with the seconds since the run began."""
        print(f"{time.perf_counter() - self.began:6.1f} s  {escaped(text)}".replace("\u00a0", " "), flush=True)

    def at_limit(self, choice: str, found: float, most: float, flag: str) -> None:
        """Warn, here and in the report, if a choice is at the limit of its range, except in a quick run.

        Args:
            choice: what was chosen, such as "the best epoch".
            found: the chosen value.
            most: the limit.
            flag: that raises the limit.
        """
        if found >= most:
            self._limit(f"{choice} is at its limit, {most:,}; a larger {flag} may be better")

    def at_end(self, choice: str, found: float, tried: Sequence[float]) -> None:
        """The same for a choice among values that no flag sets, such as a baseline's."""
        for end, name, beyond in ((max(tried), "largest", "larger"), (min(tried), "smallest", "smaller")):
            if len(tried) > 1 and found == end:
                self._limit(f"{choice} is {end:g}, the {name} value tried; {beyond} values may be better")

    def _limit(self, limit: str) -> None:
        if limit not in self.limits and not self.settings.get("quick"):
            self.limits.append(limit)
            self.say(limit)

    def header(self, settings: Any, *packages: str) -> dict[str, Any]:
        """The beginning of metrics.json: the effective settings; versions of Keras, its backend and `packages`."""
        backend = keras.backend.backend()
        return {
            "schema": schema.SCHEMA,
            "application": self.application,
            "backend": backend,
            "seed": settings.seed,
            "versions": versions("keras", backend, *packages),
            "settings": lasting(settings),
            "command": settings.command,
        }

    def finish(
        self,
        metrics: dict[str, Any],
        document: Path,
        fits: Iterable[Fit],
    ) -> None:
        """Add the timing and the limits reached by choices to the metrics; write metrics.json and the report.

        Args:
            metrics: all others.
            document: the report's Typst file.
            fits: the trainings whose time and speed are reported.
        """
        seconds, examples = map(sum, zip(*((fit.seconds, fit.examples) for fit in fits), strict=True))
        metrics["limits"] = self.limits
        metrics["timing"] = {
            "started": self.started.isoformat(),
            "machine": machine(),
            "resumed": self.resumed,
            "fit_seconds": round(seconds, 2),
            "examples_per_second": round(examples / seconds),
            "total_seconds": round(time.perf_counter() - self.began, 2),
            "peak_memory_mb": round(peak_memory_mb()),
        }
        self.write_json("metrics.json", metrics)
        self.write("report.pdf", pdf.typeset(document, metrics, self.folder))

    def draw(self, drawn: Mapping[str, tuple[bytes, str]]) -> dict[str, schema.Figure]:
        """Write figures, each an SVG file with its alternative text, and return their entries in metrics.json."""
        for name, (svg, _) in drawn.items():
            self.write(f"figures/{name}.svg", svg)
        return {name: {"file": f"figures/{name}.svg", "alt": alt} for name, (_, alt) in drawn.items()}

    def save_model(self, model: keras.Model, notes: Mapping[str, Any] | None = None, name: str = "model.keras") -> None:
        """Save a model, for any backend; `notes` are stored in the same archive, for `model_notes`."""
        with self.writing(name) as partial:
            model.save(partial)
            _for_any_backend(partial)
            if notes is not None:
                with zipfile.ZipFile(partial, "a") as archive:
                    archive.writestr(_NOTES, json.dumps(notes))

    def __enter__(self) -> Run:
        keras.config.set_dtype_policy(self.settings.get("precision", "float32"))
        return self

    def __exit__(self, kind, problem, traceback) -> None:
        keras.config.set_dtype_policy("float32")
        if kind is None:
            _remove([self.checkpoints, *self._checkpointed])
        elif isinstance(problem, BadInput) and not self.resumed and not self._trained:
            _remove([*self._written, *self._checkpointed])  # there is nothing to resume
        elif self._trained or not isinstance(problem, BadInput):
            _tell(f"the same command with --resume continues the run in {escaped(str(self.folder))}")
        _remove([self.folder / _LOCK])
        self._lock.release()  # only after the folder is cleaned up
        if isinstance(problem, BadInput) and self.folder in self._written:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it's empty

    def stage(self, name: str, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays that `compute` returns, from the checkpoint if an earlier process wrote it."""
        path = self._checkpoint(name)
        if not path.exists():
            _save_arrays(path, compute())
        return _load_arrays(path)

    def _checkpoint(self, name: str) -> Path:
        path = self.checkpoints / f"{name}.npz"
        self._checkpointed.add(path)
        return path

    def fit(
        self,
        name: str,
        model: keras.Model,
        batches: Callable[[int], Iterable[Any]],
        *,
        epochs: int,
        steps: int,
        validation: Any = None,
        patience: int | None = None,
        after_epoch: Callable[[int], Mapping[str, float] | None] | None = None,
        lengths_vary: bool = False,
        count: Callable[[Any], int] = lambda batch: len(keras.tree.flatten(batch)[0]),
    ) -> Fit:
        """Train a compiled model with a checkpoint after each epoch; a resumed run ends with the same weights.

        With validation, the weights of the epoch with the lowest validation loss are kept.

        Args:
            name: name of the stage.
            model: compiled and built.
            batches: from the number of an epoch, from 0, to its batches, tuples of arrays as `model.fit` takes them.
            epochs: at most.
            steps: in an epoch.
            validation: arrays (inputs, targets), or a list of batches.
            patience: epochs without a lower validation loss after which training stops.
            after_epoch: called with the number of finished epochs, before their checkpoint is written. Measures that it
                returns are added to the history, and the first of them is minimised instead of the validation loss.
                Then a loss that is not finite ends the training with the best weights, instead of raising.
            lengths_vary: whether the second axis of the arrays, time, varies between batches.
            count: the examples in a batch; by default its rows.
        """
        progress = _Progress(self._checkpoint(name), steps, patience, after_epoch)
        progress.restore(model)
        first = progress.epochs

        def chained() -> Iterator[Any]:
            for epoch in range(first, epochs):
                progress.seen[epoch] = 0  # by epoch, as TensorFlow prefetches batches of the next one
                for batch in batches(epoch):
                    progress.seen[epoch] += count(batch)
                    yield batch

        if not progress.finished and first < epochs:
            if isinstance(validation, list):
                validation = feeding.fed(
                    lambda known=validation: known, len(validation), lengths_vary=lengths_vary, repeated=True
                )
            model.fit(
                feeding.fed(chained, steps * (epochs - first), lengths_vary=lengths_vary),
                initial_epoch=first,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                validation_batch_size=4_096,
                callbacks=[progress.callback()],
                shuffle=False,  # the batches are shuffled
                verbose=0,  # pyright: ignore[reportArgumentType] - the annotation omits int
            )
        progress.end(model)
        self._trained = True
        return Fit(progress.history, progress.best_epoch, progress.seconds, progress.diverged, progress.examples)


def _for_any_backend(path: Path) -> None:
    """Change how a saved model is compiled to what every backend can load and run at its own speed.

    On PyTorch, Keras writes the names of its own optimizers, which can't be imported where PyTorch isn't installed.
    There a model with several steps per execution refuses to predict, and with jit_compile the first prediction takes
    half a minute; on JAX every prediction is slow without it.
    """

    def changed(config: dict[str, Any]) -> dict[str, Any]:
        if str(config.get("module")).startswith("keras.src.backend.torch.optimizers."):
            config |= {"module": "keras.optimizers", "registered_name": None}
        if {"optimizer", "steps_per_execution"} <= config.keys():
            config |= {"steps_per_execution": 1, "jit_compile": "auto"}
        return config

    with zipfile.ZipFile(path) as archive:
        files = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in files.items():
            if info.filename == "config.json":
                content = json.dumps(json.loads(content, object_hook=changed)).encode()
            archive.writestr(info, content)


def layers(model: keras.Model) -> list[list[Any]]:
    """Name, output shape and parameters of each layer that has any; a transformer's block counts as one layer."""
    rows: dict[str, list[Any]] = {}
    for layer in model.layers:
        block = re.match(r"(source_)?block_\d+", layer.name)
        name = block[0] if block else layer.name
        before = rows.get(name, [name, None, 0])
        if layer.count_params():
            output = keras.tree.flatten(layer.output)[0]
            rows[name] = [name, list(output.shape[1:]), before[2] + layer.count_params()]
    return list(rows.values())


def history(fits: Mapping[str, Fit]) -> bytes:
    """The history of all trainings as a CSV file."""
    parts = [pd.DataFrame(fit.history).rename_axis("epoch").assign(stage=stage) for stage, fit in fits.items()]
    frame = pd.concat(parts).reset_index()
    frame["epoch"] += 1
    return frame[["stage", "epoch", *(c for c in frame if c not in ("stage", "epoch"))]].to_csv(index=False).encode()


def typeset_again(folder: Path, application: str, document: Path) -> dict[str, Any]:
    """Write the report of a finished run again from its files: the same files give the same bytes.

    Raises:
        BadInput: The folder's files are not those of a finished run of this application and version.
    """
    metrics = finished_metrics(folder, application)
    try:
        report = pdf.typeset(document, metrics, folder)
    except Exception as error:  # values of another shape can raise almost anything
        raise BadInput(
            f"{folder / 'metrics.json'}: found other contents ({_reason(error)}), "
            "expected those of a finished run of this version"
        ) from error
    write(folder / "report.pdf", report)
    print(escaped(str(folder / "report.pdf")))
    return metrics


def finished_metrics(folder: Path, application: str) -> dict[str, Any]:
    """The metrics.json of a finished run.

    Raises:
        BadInput: There is none that can be read, or it is another application's.
    """
    path, expected = folder / "metrics.json", f"that of a finished run of {application}"
    metrics = _read_json(path, expected)
    if metrics.get("application") != application:
        raise BadInput(f"{path}: found that of {metrics.get('application')!r}, expected {expected}")
    if metrics.get("schema") != schema.SCHEMA:
        raise BadInput(
            f"{path}: found schema {metrics.get('schema', 'none')}, expected {schema.SCHEMA}: the report of an older "
            "run is typeset by the version that wrote it"
        )
    return metrics


def _remove(paths: Iterable[Path]) -> None:
    """Remove files, then empty folders, and ignore errors."""
    folders = []
    for path in paths:
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                folders.append(path)
            else:
                path.unlink()
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()


class _Progress:
    """Saves the complete state of the training after each epoch, and the weights of the best epoch.

    `.keras` files and `save_weights` lose the states of random generators, and Keras's early stopping loses its
    counter, so they can't resume a training exactly.
    """

    _RECORDED = ("history", "monitor", "best_epoch", "seconds", "examples", "finished", "diverged", "steps")

    def __init__(
        self,
        path: Path,
        steps: int,
        patience: int | None,
        after_epoch: Callable[[int], Mapping[str, float] | None] | None,
    ):
        self.path = path
        self.steps = steps
        self.patience = patience
        self.after_epoch = after_epoch
        self.monitor: str | None = None  # the measure of `after_epoch` that is minimised
        self.seen: dict[int, int] = {}  # examples in the batches of each epoch
        self.history: dict[str, list[float]] = {}
        self.best: list[np.ndarray] | None = None
        self.best_epoch = 0
        self.seconds = 0.0
        self.examples = 0
        self.finished = False
        self.diverged = False

    @property
    def epochs(self) -> int:
        return len(next(iter(self.history.values()), []))

    def callback(self) -> keras.callbacks.Callback:
        """The callback that reports each epoch."""
        # On JAX, asking a callback for its model brings the weights back from the device.
        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self._epoch_begin(),
            on_epoch_end=lambda epoch, logs: self._epoch_end(callback.model, epoch, logs),
        )
        return callback

    def _epoch_begin(self) -> None:
        self.since = time.perf_counter()

    def _epoch_end(self, model: Any, epoch: int, logs: Mapping[str, float]) -> None:
        if not np.isfinite(logs["loss"]):
            if self.monitor and self.best is not None:
                self.diverged = model.stop_training = True
                return
            raise BadInput(
                f"{self.path.stem}: found a loss of {logs['loss']} in epoch {self.epochs + 1}, expected a finite one; "
                "a smaller --learning-rate may help"
            )
        self.seconds += time.perf_counter() - self.since
        self.examples += self.seen.pop(epoch)
        measures = (self.after_epoch and self.after_epoch(self.epochs + 1)) or {}
        self.monitor = next(iter(measures), self.monitor)
        for key, value in {**logs, **measures}.items():
            self.history.setdefault(key, []).append(float(value))
        loss = self.history.get(self.monitor or "val_loss")
        if loss and loss[-1] <= min(loss):
            self.best, self.best_epoch = [np.array(w) for w in model.get_weights()], len(loss)
        if loss and self.patience is not None and len(loss) - self.best_epoch >= self.patience:
            model.stop_training = True
        self._save(model, finished=False)

    def end(self, model: keras.Model) -> None:
        if self.best is not None:
            model.set_weights(self.best)
        else:
            self.best_epoch = self.epochs
        if not self.finished:
            self._save(model, finished=True)

    def _save(self, model: keras.Model, finished: bool) -> None:
        self.finished = finished or bool(model.stop_training)
        record = {name: getattr(self, name) for name in self._RECORDED}
        arrays = {"record": np.array(json.dumps(record))}
        arrays |= {f"state_{i}": np.asarray(v) for i, v in enumerate(_state(model))}
        arrays |= {f"best_{i}": w for i, w in enumerate(self.best or [])}
        _save_arrays(self.path, arrays)

    def restore(self, model: keras.Model) -> None:
        model.optimizer.build(model.trainable_variables)
        if not self.path.exists():
            return
        arrays = _load_arrays(self.path)
        try:
            for index, variable in enumerate(_state(model)):
                variable.assign(arrays[f"state_{index}"])
            record = json.loads(str(arrays["record"]))
            if record["steps"] != self.steps:
                raise ValueError(f"{record['steps']:,} steps per epoch instead of {self.steps:,}")
            for name in self._RECORDED:
                setattr(self, name, record[name])
            if "best_0" in arrays:
                self.best = [arrays[f"best_{i}"] for i in range(len(model.get_weights()))]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.path, error) from None


def _state(model: keras.Model) -> list[Any]:
    """All variables of the training: weights, random generators, the optimizer's moments and step count."""
    return [*model.variables, *model.optimizer.variables]


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write(path, buffer.getvalue())


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive makes numpy and zipfile raise almost anything
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(
        f"{path}: found a damaged checkpoint ({_reason(error)}), expected one that this run wrote; "
        "without the file, --resume computes it again"
    )

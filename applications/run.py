"""What every program needs around its story: the command line, a run's folder, stages that resume, exit codes."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import filelock
import keras
import numpy as np
import pandas as pd
import tyro

from data import ranges
from data.batches import fed
from data.dataset import BadInput, Provenance, escaped
from data.ranges import Count, Positive, Seed
from reports.metrics import SCHEMA, Figure
from reports.report import typeset

RUNS = Path("runs")
# Where a run is written, whether it goes on with an earlier one and how it was asked for don't change what it computes.
_PLACES = ("out", "resume", "command")
_NOTES = "notes.json"  # in a model's archive, where Keras ignores it
# Names that nobody else gives to a file: by the first a folder is known as a run's, whatever else may be in it.
_LOCK = ".keras-application-run"
_PARTIAL = ".keras-application-partial-"


class Stopped(BaseException):
    """The process was asked to end by a signal, as a closed terminal or a scheduler sends it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


# --- Settings ---

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings for training that all programs share. None means not given: a recipe fills it, see `filled`.

    A program's `Train` has its own settings in a base of its own: `class Train(run.Training, Own)`. Dataclasses collect
    the fields of the last base first, so that the help begins with what is particular.
    """

    optimizer: Optimizer | None = None
    """The optimizer."""
    learning_rate: Positive | None = None
    """Peak learning rate; it falls to 0 along a cosine over --epochs."""
    batch_size: Count | None = None
    """Examples in a training step."""
    epochs: Count | None = None
    """Maximum number of passes over the training data."""
    seed: Seed = 0
    """Seed of the first training; the others use the seeds that follow."""
    seeds: Count | None = None
    """Number of trainings; the report gives their mean and spread."""
    init_from: Path | None = None
    """Start from the weights of this model.keras of an earlier run."""

    quick: bool = False
    """A smoke test of seconds: smaller values for settings that are not given, and fewer bootstrap draws."""
    out: Path | None = None
    """The run's folder; by default runs/<program>/<time>."""
    resume: bool = False
    """Continue an interrupted run: the one in --out, or else the newest with the same settings."""
    command: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = dataclasses.field(default="", compare=False)
    """The command line that gives these settings, without where the run is written; `dispatch` knows it."""


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
    """The settings, with a recipe's value in place of each None; the first recipe that has a value wins.

    A recipe maps names to values, and the name of a nested dataclass to such a mapping. Names that the settings don't
    have raise AttributeError.
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


def choices(*functions: Callable[..., Any]) -> Callable[[type], type]:
    """Make a class the frozen dataclass of a template's choices: the class gives types, the template all else.

    An annotated name that is an argument of one of the functions or classes takes its help from the docstring there
    and, unless the class sets one, its default. The first that has such an argument counts. A name may be prefixed by
    the function's, as in `generator_filters`.
    """

    def decorate(cls: type) -> type:
        for name, hint in inspect.get_annotations(cls).items():
            for function in functions:
                argument = _argument(function, name)
                if argument is None:
                    continue
                default = inspect.signature(function).parameters[argument].default
                if not hasattr(cls, name):
                    setattr(cls, name, tuple(default) if isinstance(default, list) else default)
                documented = docstring_parser.parse(inspect.getdoc(function) or "").params
                help_ = next(" ".join((p.description or "").split()) for p in documented if p.arg_name == argument)
                cls.__annotations__[name] = Annotated[hint, tyro.conf.arg(help=help_[:1].upper() + help_[1:])]
                break
        return dataclasses.dataclass(frozen=True)(cls)

    return decorate


def arguments(function: Callable[..., Any], settings: Any) -> dict[str, Any]:
    """The arguments of a template's function that the settings have, by the names there."""
    names = sorted((field.name for field in dataclasses.fields(settings)), key=len)  # prefixed ones overwrite others
    found = {_argument(function, name): getattr(settings, name) for name in names}
    return {argument: value for argument, value in found.items() if argument is not None}


def _argument(function: Callable[..., Any], name: str) -> str | None:
    """The argument of a function that a setting of this name is, if it is one."""
    prefix = f"{function.__name__}_"
    candidates = [name.removeprefix(prefix)] if name.startswith(prefix) else [name]
    return next((one for one in candidates if one in inspect.signature(function).parameters), None)


def dispatch(
    commands: Mapping[type, Callable[[Any], Any]],
    arguments: Sequence[str] | None,
    *,
    program: str,
    description: str,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Run the command that the first word names; without such a word, the first one. Returns what it computed.

    Args:
        commands: by the dataclass of its settings, which has its name and whose docstring is its help.
        arguments: the words of the command line; None takes those that Python was started with.
        program: its name in the help.
        description: of the program, for the help.
        recipes: what fills the first command's open settings, by when it does, for the help.

    Raises:
        BadInput: if a setting is out of its range.
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
            description += "\n\nWhere these are None below, their default is:\n" + "\n".join(lines)
        description += "\n\nOther commands:\n" + "\n".join(f"  {program} {name} --help" for name in named)
    chosen = tyro.cli(settings, args=words, prog=program, description=description)
    ranges.check(chosen)
    if isinstance(chosen, Training):
        chosen = dataclasses.replace(chosen, command=repeated)
    return commands[settings](chosen)


def _without_places(words: Sequence[str]) -> list[str]:
    """Words of a command line but for where the run is written and that it goes on: they give the same run anew."""
    places = ("--out", "--resume", "--no-resume")
    pairs = zip(words, ["", *words], strict=False)
    return [word for word, before in pairs if word.split("=")[0] not in places and before != "--out"]


def _flags(recipe: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """The words of a command line that give a recipe's settings."""
    for name, value in recipe.items():
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            yield from _flags(value, f"{flag}.")
        elif value is not None:
            yield " ".join([flag, *map(str, value if isinstance(value, tuple) else [value])])


def execute(main: Callable[[Sequence[str]], Any]) -> None:
    """Run a program and leave with its exit code.

    0: done; 1: the machine failed; 2: unusable input; 130: interrupted; 143, 129: ended by SIGTERM or SIGHUP.
    Characters that the console lacks are printed as their code points.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def stop(number: int, _) -> None:
        raise Stopped(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and that holds
            signal.signal(number, stop)
    try:
        main(sys.argv[1:])
    except BadInput as problem:
        code, message = 2, f"error: {problem}"
    except KeyboardInterrupt:
        code, message = 130, "stopped"
    except Stopped as signalled:
        code, message = signalled.code, f"stopped by {signalled}"
    except OSError as problem:
        code, message = 1, f"error: {escaped(str(problem))}"
    else:
        return
    _tell(message)
    sys.exit(code)


def _tell(message: str) -> None:
    """Print on the standard error, if there is still a terminal to read it."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def load_model(path: Path, inspect: Callable[[Any], Any]) -> Any:
    """A model that a run saved.

    Args:
        path: of its model.keras.
        inspect: raises an error if the model is not of this program.

    Raises:
        BadInput: if there is no such model.
    """
    expected = "expected the model.keras of a run of this program"
    if path.is_dir() or not zipfile.is_zipfile(path):
        kind = "a folder" if path.is_dir() else "another kind of file" if path.exists() else "no such file"
        raise BadInput(f"{path}: found {kind}, {expected}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # Keras reads weights without a look at their check sums
        if damaged is not None:
            raise BadInput(f"{path}: found a damaged file ({damaged}), {expected}")
        model = keras.models.load_model(path)
        inspect(model)
    except BadInput:
        raise
    except Exception as error:  # whatever a damaged or foreign archive makes Keras, h5py or zipfile raise
        raise BadInput(f"{path}: found another model ({_reason(error)}), {expected}") from None
    return model


def model_notes(path: Path) -> dict[str, Any]:
    """The notes that a model was saved with, or none.

    Raises:
        BadInput: if they can't be read.
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
    """An object that a run wrote as JSON.

    Raises:
        BadInput: if there is none that can be read; `expected` says what should have been there.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = f"found a JSON {type(found).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        reason = f"found no readable JSON ({_reason(error)})"
    raise BadInput(f"{path}: {reason}, expected {expected}")


def start_from(model: keras.Model, weights: Sequence[np.ndarray] | None, settings: Any, flags: str) -> None:
    """Give a model the weights of --init-from, if there are any; `flags` are the settings that must agree.

    Raises:
        BadInput: if they are another model's.
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
    """The optimizer of this name, its learning rate falling to 0 along a cosine over the steps of the training.

    Over the share `warm_up` of the steps it rises from 0 before.
    """
    rise = int(warm_up * steps)
    rising: dict[str, Any] = {"warmup_target": learning_rate, "warmup_steps": rise} if rise else {}
    schedule = keras.optimizers.schedules.CosineDecay(0.0 if rise else learning_rate, steps - rise, **rising)
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": schedule, **options}})


def jit_compile() -> Any:
    """For `compile`: measured, XLA makes small, convolutional and recurrent nets slower on TensorFlow; JAX needs it."""
    return False if keras.backend.backend() == "tensorflow" else "auto"


def check_new(out: Path) -> None:
    """Refuse an --out that is there already, or that no file can have for a name.

    Raises:
        BadInput: naming it.
    """
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
    """A file to write to that becomes `path` when the block ends well, and is gone when it does not.

    So a file appears whole or not at all, also when the machine stops.

    Raises:
        BadInput: if there is a folder of this name.
        OSError: naming the file, if it can't be written.
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
    except OSError as problem:  # what a write raises on a full disk names no file
        if problem.filename not in (None, str(partial), os.fsencode(partial)):
            raise
        raise OSError(problem.errno, problem.strerror or _reason(problem), str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def plain(settings: Any) -> dict[str, Any]:
    """A settings dataclass as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))


def lasting(settings: Any) -> dict[str, Any]:
    """What a run's result depends on."""
    return {name: value for name, value in plain(settings).items() if name not in _PLACES}


def machine() -> str:
    """The processor's architecture, its cores that this process may use, and the operating system."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )  # macOS has no affinity
    return f"{platform.machine()}, {cores} core{'s' * (cores != 1)}, {platform.system()}"


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def peak_memory_mb() -> float:
    """The most memory that this process has held, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins with that of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3  # kilobytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on macOS bytes
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


@dataclasses.dataclass
class Fit:
    """What came of a training: the figures of each epoch, the best epoch (from 1), the seconds and examples trained.

    `diverged` says that it ended for a loss that was not finite, in an epoch that is not in the history.
    """

    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
    diverged: bool = False
    examples: int = 0


class Run:
    """A run's folder, held by one process at a time, whose finished stages are kept until the run is complete.

    Use it in a `with` statement: at its end the checkpoints are removed; when the run was stopped they stay for
    --resume; when the input was unusable, and nothing is trained yet, all that the run wrote is removed. Files and
    folders that the run did not make are left alone, whatever their names.

    Args:
        application: its name; without `out` the folder is runs/<application>/<time>.
        settings: a `Training`.

    Raises:
        BadInput: if the folder is in use or not empty, or there is nothing to resume.
    """

    def __init__(self, application: str, settings: Any):
        self.application = application
        self.settings = lasting(settings)
        self.began = time.perf_counter()
        self.started = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.resumed = settings.resume
        self._trained = False
        self._written: list[Path] = []  # files and folders that this process made
        self._checkpointed: set[Path] = set()  # and those that it keeps or finds among the checkpoints
        self.folder = self._choose(settings.out, settings.resume)
        self.checkpoints = self.folder / "checkpoints"
        self.limits: list[str] = []
        if settings.resume:
            self.started = datetime.datetime.fromisoformat(self._config(self.folder)["started"])
        self._lock = filelock.FileLock(self.folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise BadInput(f"{self.folder}: found another process at work in it, expected a free folder") from None
        for leftover in self.folder.rglob(f"{_PARTIAL}*"):
            leftover.unlink()
        self._make(self.checkpoints)
        self._make(self.folder / "figures")
        self.write_json("config.json", self._identity() | {"started": self.started.isoformat()})

    def _make(self, folder: Path) -> bool:
        """Make a folder of the run; False if there is one."""
        try:
            folder.mkdir()
        except FileExistsError:
            return False
        self._written.append(folder)
        return True

    def _identity(self) -> dict[str, Any]:
        """What two processes must have in common to work on the same run."""
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
        found = {path.name for path in out.iterdir()}
        # A process that was killed at its very start leaves its lock, and besides no more than these.
        begun = {name for name in found if name == _LOCK or name.startswith(_PARTIAL)}
        if _LOCK in found:
            begun |= {name for name in ("checkpoints", "figures") if not any((out / name).glob("*"))}
        if found - begun:
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
        """The folder to go on in: `out`, else the newest run of the same identity without a report."""
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
        """Name, value found and value expected of all in which a folder's run is another than this."""
        try:
            found, own = ({**known, **known["settings"]} for known in (self._config(folder), self._identity()))
        except BadInput as problem:
            return [("no readable config.json", f"({problem})", "the folder of a run")]
        names = sorted({*found, *own} - {"settings", "started"})
        return [(name, found.get(name), own.get(name)) for name in names if found.get(name) != own.get(name)]

    @staticmethod
    def _config(folder: Path) -> dict[str, Any]:
        """What the run of a folder was started with."""
        path, expected = folder / "config.json", "what a run was started with"
        config = _read_json(path, expected)
        try:
            datetime.datetime.fromisoformat(config["started"])
            dict(config["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: found other contents ({_reason(error)}), expected {expected}") from None
        return config

    def check_data(self, provenance: Provenance) -> None:
        """Say what was understood of the data, and refuse to go on with others than the run was started with."""
        for sentence in provenance.understood:
            self.say(sentence)
        known = str(self.stage("data", lambda: {"sha256": np.array(provenance.sha256)})["sha256"])
        if known != provenance.sha256:
            raise BadInput(f"--resume {self.folder}: found other data than it was started with, expected the same")

    def write(self, name: str, content: bytes) -> None:
        """Write one file of the run's folder."""
        with self.writing(name) as partial:
            partial.write_bytes(content)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A file to write to that becomes this one of the run's folder when the block ends well."""
        path = self.folder / name
        with replacing(path) as partial:
            yield partial
        self._written.append(path)

    def scratch(self, name: str, files: Sequence[str]) -> Path:
        """A folder for such files, which last as long as the run and are taken up again by --resume."""
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
        """Say, here and in the report, that a choice fell on the end of what was allowed, if it did.

        A quick run, whose ends are set low, says nothing.

        Args:
            choice: what was chosen, such as "the best epoch".
            found: the value that was chosen.
            most: the last that was allowed.
            flag: that allows more.
        """
        if found >= most:
            self._limit(f"{choice} is the last of those allowed, {most:,}: more may do better ({flag})")

    def at_end(self, choice: str, found: float, tried: Sequence[float]) -> None:
        """The same of a choice among values that no flag sets, such as a baseline's."""
        for end, name in ((max(tried), "largest"), (min(tried), "smallest")):
            if len(tried) > 1 and found == end:
                self._limit(f"{choice} is the {name} of those tried, {end:g}: beyond it may lie a better one")

    def _limit(self, limit: str) -> None:
        if limit not in self.limits and not self.settings.get("quick"):
            self.limits.append(limit)
            self.say(limit)

    def header(self, settings: Any, *packages: str) -> dict[str, Any]:
        """What metrics.json begins with: settings as they took effect; versions of Keras, its backend, `packages`."""
        backend = keras.backend.backend()
        return {
            "schema": SCHEMA,
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
        """Add the timing and the limits that choices fell on to the metrics; write metrics.json and the report.

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
        self.write("report.pdf", typeset(document, metrics, self.folder))

    def draw(self, drawn: Mapping[str, tuple[bytes, str]]) -> dict[str, Figure]:
        """Write figures by name, each an SVG file with what it shows to a reader who can't see it, for metrics.json."""
        for name, (svg, _) in drawn.items():
            self.write(f"figures/{name}.svg", svg)
        return {name: {"file": f"figures/{name}.svg", "alt": alt} for name, (_, alt) in drawn.items()}

    def save_model(self, model: keras.Model, notes: Mapping[str, Any] | None = None) -> None:
        """Save a model whole as model.keras; `notes` travel in the archive beside it, for `model_notes`."""
        with self.writing("model.keras") as partial:
            model.save(partial)
            if notes is not None:
                with zipfile.ZipFile(partial, "a") as archive:
                    archive.writestr(_NOTES, json.dumps(notes))

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind, problem, traceback) -> None:
        if kind is None:
            _remove([self.checkpoints, *self._checkpointed])
        elif isinstance(problem, BadInput) and not self.resumed and not self._trained:
            _remove([*self._written, *self._checkpointed])  # no later try can go on from here
        elif self._trained or not isinstance(problem, BadInput):
            _tell(f"the same command with --resume goes on from here; what is done is in {escaped(str(self.folder))}")
        _remove([self.folder / _LOCK])
        self._lock.release()  # nobody else may enter before the folder is in order
        if isinstance(problem, BadInput) and self.folder in self._written:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if nothing is left in it

    def stage(self, name: str, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays that `compute` returns, from the checkpoint if an earlier process got as far."""
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
        """Train a compiled model with a checkpoint after each epoch; a resumed run goes on to the same weights.

        The weights of the epoch with the lowest validation loss are the ones kept, if there is a validation.

        Args:
            name: of the stage.
            model: compiled and built.
            batches: from the number of an epoch, from 0, to its batches, tuples of arrays as `model.fit` takes them.
            epochs: at most.
            steps: in an epoch.
            validation: arrays (inputs, targets), or a list of batches.
            patience: epochs without a lower validation loss after which training stops.
            after_epoch: called with the number of epochs done, before their checkpoint is written. Figures that it
                returns join the history, and the first of them is minimised in place of the validation loss. A loss
                that is not finite then ends the training with the weights kept, instead of raising.
            lengths_vary: whether the second axis of the arrays, time, is not the same in all batches.
            count: the examples in a batch; by default its rows.
        """
        progress = _Progress(self._checkpoint(name), patience, after_epoch)
        progress.restore(model)
        first = progress.epochs

        def chained() -> Iterator[Any]:
            for epoch in range(first, epochs):
                progress.seen[epoch] = 0  # TensorFlow takes batches of the next epoch before this one ends
                for batch in batches(epoch):
                    progress.seen[epoch] += count(batch)
                    yield batch

        if not progress.finished and first < epochs:
            if isinstance(validation, list):
                validation = fed(
                    lambda known=validation: known, len(validation), lengths_vary=lengths_vary, repeated=True
                )
            model.fit(
                fed(chained, steps * (epochs - first), lengths_vary=lengths_vary),
                initial_epoch=first,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                validation_batch_size=4_096,
                callbacks=[progress],
                shuffle=False,  # the batches come shuffled
                verbose=0,  # pyright: ignore[reportArgumentType] - the annotation forgets the number
            )
        progress.end(model)
        self._trained = True
        return Fit(progress.history, progress.best_epoch, progress.seconds, progress.diverged, progress.examples)


def layers(model: keras.Model) -> list[list[Any]]:
    """Name, output shape and parameters of each layer that has any, the layers of a transformer's block together."""
    found: dict[str, list[Any]] = {}
    for layer in model.layers:
        block = re.match(r"(source_)?block_\d+", layer.name)
        name = block[0] if block else layer.name
        known = found.get(name, [name, None, 0])
        if layer.count_params():
            output = keras.tree.flatten(layer.output)[0]
            found[name] = [name, list(output.shape[1:]), known[2] + layer.count_params()]
    return list(found.values())


def history(fits: Mapping[str, Fit]) -> bytes:
    """The figures of each epoch of each training, by its name, as a CSV file."""
    parts = [pd.DataFrame(fit.history).rename_axis("epoch").assign(stage=stage) for stage, fit in fits.items()]
    frame = pd.concat(parts).reset_index()
    frame["epoch"] += 1
    return frame[["stage", "epoch", *(c for c in frame if c not in ("stage", "epoch"))]].to_csv(index=False).encode()


def typeset_again(folder: Path, application: str, document: Path) -> dict[str, Any]:
    """Write the report of a finished run again from its files: the same files give the same bytes.

    Raises:
        BadInput: if the folder's files are not those of a finished run of this application and version.
    """
    metrics = finished_metrics(folder, application)
    try:
        report = typeset(document, metrics, folder)
    except Exception as error:  # whatever numbers of another shape make of the sentences
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
        BadInput: if there is none that can be read, or it is another application's.
    """
    path, expected = folder / "metrics.json", f"that of a finished run of {application}"
    metrics = _read_json(path, expected)
    if metrics.get("application") != application:
        raise BadInput(f"{path}: found that of {metrics.get('application')!r}, expected {expected}")
    if metrics.get("schema") != SCHEMA:
        raise BadInput(
            f"{path}: found schema {metrics.get('schema', 'none')}, expected {SCHEMA}: the report of an older run is "
            "typeset by the version that wrote it"
        )
    return metrics


def _remove(paths: Iterable[Path]) -> None:
    """Remove files, then folders that are empty; what can't be removed stays."""
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


class _Progress(keras.callbacks.Callback):
    """Saves all that training depends on after each epoch, and remembers the best epoch.

    `.keras` files and `save_weights` lose the states of the random generators, and Keras' own early stopping forgets
    its counter, so neither is enough to go on as if nothing had happened.
    """

    _RECORDED = ("history", "monitor", "best_epoch", "seconds", "examples", "finished", "diverged")

    def __init__(
        self,
        path: Path,
        patience: int | None,
        after_epoch: Callable[[int], Mapping[str, float] | None] | None,
    ):
        super().__init__()
        self.path = path
        self.patience = patience
        self.after_epoch = after_epoch
        self.monitor: str | None = None  # the figure of `after_epoch` that is minimised
        self.seen: dict[int, int] = {}  # examples in the batches that were taken, by epoch
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

    def on_epoch_begin(self, epoch, logs=None):
        self.since = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        model: Any = self.model  # on JAX, asking for it brings the weights back from the device
        logs = logs or {}
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
        figures = (self.after_epoch and self.after_epoch(self.epochs + 1)) or {}
        self.monitor = next(iter(figures), self.monitor)
        for key, value in {**logs, **figures}.items():
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
            for name in self._RECORDED:
                setattr(self, name, record[name])
            if "best_0" in arrays:
                self.best = [arrays[f"best_{i}"] for i in range(len(model.get_weights()))]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.path, error) from None


def _state(model: keras.Model) -> list[Any]:
    """Every variable that training depends on: weights, random generators, the optimizer's moments and count."""
    return [*model.variables, *model.optimizer.variables]


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write(path, buffer.getvalue())


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # whatever a damaged archive makes numpy and zipfile raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(
        f"{path}: found a damaged checkpoint ({_reason(error)}), expected one that this run wrote; "
        "without the file, --resume computes it again"
    )

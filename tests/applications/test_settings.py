"""What holds for the settings of all programs: what is given takes effect, what is out of its range is refused."""

import dataclasses
import importlib
import itertools
import math
import sys
import types
import typing
from typing import Annotated

import pytest

from applications import classifiers, run
from applications.pronounce import models as pronunciation_models
from applications.synthesis import models as synthesis_models
from applications.text import models as text_models
from data.ranges import Range

COMPLETED = {
    "fraud_autoencoder": lambda settings: program("fraud_autoencoder").sized(
        program("fraud_autoencoder").completed(settings), 43_000
    ),
    "speech_tagging": lambda settings: program("speech_tagging").with_recipe(settings),
    "image_classification": lambda settings: classifiers.with_recipe(settings, 28, 28, 500),
    "text_generation": text_models.with_recipe,
    "pronunciation": pronunciation_models.with_recipe,
    "image_synthesis": lambda settings: synthesis_models.with_recipe(settings, 900),
}


def program(name):
    return importlib.import_module(f"applications.{name}")


def commands(name):
    """The dataclasses of a program's commands, the one that trains first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "dispatch", lambda commands, *_, **__: list(commands))
        return program(name).main([])


def leaves(settings, prefix=()):
    """The path and the value of each setting, of nested dataclasses too."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*prefix, field.name))
        else:
            yield (*prefix, field.name), value


def given(settings, path, value):
    """The settings with another value at a path."""
    name, *rest = path
    return dataclasses.replace(settings, **{name: given(getattr(settings, name), rest, value) if rest else value})


def beside(settings):
    """The settings with every preset, template and size that a program has."""
    hints = typing.get_type_hints(type(settings))
    choices = {
        name: [choice for part in typing.get_args(hints[name]) for choice in (typing.get_args(part) or [part])]
        for name in ("preset", "template")
        if name in hints
    }
    for values in itertools.product([False, True], *choices.values()):
        chosen = {k: None if v is type(None) else v for k, v in zip(["quick", *choices], values, strict=True)}
        yield dataclasses.replace(settings, **chosen)


@pytest.mark.parametrize("name", COMPLETED)
def test_a_setting_that_is_given_is_never_overridden(name):
    train = commands(name)[0]
    default = dict(leaves(COMPLETED[name](train())))
    filled = {path for path, value in leaves(train()) if value is None and default[path] is not None}
    assert {("epochs",), ("learning_rate",), ("batch_size",), ("optimizer",), ("seeds",)} <= filled
    for settings in beside(train()):
        for path, value in default.items():
            if value is not None and path not in {("quick",), ("preset",), ("template",)}:
                assert dict(leaves(COMPLETED[name](given(settings, path, value))))[path] == value


@pytest.mark.parametrize("name", COMPLETED)
def test_what_a_preset_fills_is_open_and_in_the_help(name, capsys):
    train = commands(name)[0]
    fixed = {path: value for path, value in leaves(train()) if value is not None}
    for settings in beside(train()):
        completed = dict(leaves(COMPLETED[name](settings)))
        assert {p: completed[p] for p in fixed if p[0] not in ("quick", "preset", "template")}.items() <= fixed.items()
    with pytest.raises(SystemExit) as left:
        program(name).main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    for path, value in leaves(COMPLETED[name](train())):
        if path not in fixed and value is not None and path not in {("preset",), ("epochs",)}:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            assert f"--{'.'.join(path).replace('_', '-')} {shown}" in said


def ranges(hint, kind=None):
    """Each range of an annotation, with whether it is of whole numbers, of numbers or of a length."""
    if typing.get_origin(hint) is Annotated:
        inner, *metadata = typing.get_args(hint)
        of = inner if inner in (int, float, str) else tuple
        yield from ((own, of) for own in metadata if isinstance(own, Range))
        yield from ranges(inner)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        for part in typing.get_args(hint):
            yield from ranges(part)


def outside(own, kind):
    """Words of a command line that are just out of a range."""
    if kind in (str, tuple):
        return [[""] if kind is str else []]
    step = 1 if kind is int else 0.001
    words = [own.least if own.above else own.least - step]
    if own.most < math.inf:
        words.append(own.most if own.below else own.most + step)
    return [[str(word)] for word in [*words, *([math.nan, math.inf] if kind is float else [])]]


def flags(settings, prefix="--"):
    """The flag, the range and its kind of each annotated setting."""
    for name, hint in typing.get_type_hints(settings, include_extras=True).items():
        flag = f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(hint):
            yield from flags(hint, f"{flag}.")
        else:
            yield from ((flag, own, kind) for own, kind in ranges(hint))


@pytest.mark.parametrize("name", COMPLETED)
def test_a_value_out_of_its_range_is_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused = 0
    for settings in commands(name):
        needed = [
            f"--{field.name}"
            for field in dataclasses.fields(settings)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        for flag, own, kind in flags(settings):
            for words in outside(own, kind):
                others = [word for other in needed if other != flag for word in (other, "x")]
                line = [settings.__name__.lower(), *others, flag, *words]
                monkeypatch.setattr(sys, "argv", [name, *line])
                with pytest.raises(SystemExit) as left:
                    run.execute(program(name).main)
                said = capsys.readouterr().err
                assert left.value.code == 2, line
                assert said.startswith(f"error: {flag}: found "), line
                assert f"expected {own}" in said
                assert said.count("\n") == 1
                refused += 1
    assert refused > 10
    assert not list(tmp_path.iterdir())

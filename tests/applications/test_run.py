import contextlib
import dataclasses
import importlib
import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import templates
from applications import run
from data.dataset import BadInput, Provenance


@dataclasses.dataclass(frozen=True)
class Train(run.Training):
    """Train something."""

    widths: tuple[int, ...] = (8, 4)


@dataclasses.dataclass(frozen=True)
class Score:
    """Score something."""

    model: Path


def parse(*words):
    commands = {Train: lambda settings: settings, Score: lambda settings: settings}
    return run.dispatch(commands, words, program="program.py", description="What it does.")


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_first_word_chooses_the_command_and_the_first_command_is_the_default():
    assert parse("--seed", "3", "--widths", "5") == Train(seed=3, widths=(5,))
    assert parse("train", "--quick") == Train(quick=True)
    assert parse("score", "--model", "a.keras") == Score(Path("a.keras"))


def test_help_names_the_other_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse("--help")
    assert exit_.value.code == 0
    assert "program.py score --help" in capsys.readouterr().out


def test_unknown_flag_leaves_with_code_2():
    with pytest.raises(SystemExit) as exit_:
        parse("--sead", "3")
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("BadInput('a.csv: line 3')", 2, "error: a.csv: line 3"),
        ("OSError(28, 'No space left on device')", 1, "No space left on device"),
        ("KeyboardInterrupt()", 130, "stopped"),
    ],
)
def test_exit_codes_come_with_one_line(raised, code, said):
    program = (
        "from applications import run\nfrom data.dataset import BadInput\n"
        f"def main(arguments): raise {raised}\nrun.execute(main)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("more", ["", "; raise SystemExit(0)"])
@pytest.mark.parametrize("characters", [10, 100_000])  # some that only the end flushes; more than a pipe takes
def test_a_reader_that_ends_early_is_no_error(characters, more):
    program = (
        "import sys; from applications import run\n"
        f"def main(arguments): sys.stdin.read(); print('x' * {characters}){more}\nrun.execute(main)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    _, said = process.communicate()
    assert (process.returncode, said) == (1, b"")


def test_the_command_is_the_words_that_were_given_without_their_place(monkeypatch):
    words = ["--seed", "4", "--widths", "3", "2", "--quick", "--out", "a b", "--resume", "--init-from", "c d.keras"]
    expected = "python applications/program.py --seed 4 --widths 3 2 --quick --init-from 'c d.keras'"
    assert parse(*words).command == expected
    assert parse("train", "--out=a", "--no-resume").command == "python applications/program.py train"
    monkeypatch.setattr(sys, "argv", ["/somewhere/program.py", *words])
    found = run.dispatch({Train: lambda settings: settings}, None, program="program.py", description="")
    assert found.command == expected
    again = parse(*shlex.split(expected)[2:])
    assert again == dataclasses.replace(found, out=None, resume=False)


# --- Settings ---


def template(*, size: int, widths=[8, 4], rate: float = 0.5, name: str = "net"):  # noqa: B006
    """Build it.

    Args:
        size: of a row.
        widths: units of each layer,
            the lowest first.
        rate: share that is left out.
        name: of the model.
    """
    return size, widths, rate, name


def other(*, widths: tuple = (1,), depth: int = 2):
    """Build another.

    Args:
        widths: of the other.
        depth: how deep it is.
    """


def test_choices_take_defaults_and_help_from_the_template(tmp_path, monkeypatch):
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    (tmp_path / "some.py").write_text("\n".join(inspect.getsource(function) for function in (template, other)))

    @run.choices("some", "template", "other")
    class Choices:
        widths: tuple[int, ...]
        rate: float = 0.25
        depth: int
        other_widths: tuple[int, ...]
        own: int = 3

    settings = Choices(own=4)  # pyright: ignore[reportCallIssue]
    assert dataclasses.asdict(settings) == {
        **{"widths": (8, 4), "rate": 0.25, "depth": 2},
        **{"other_widths": (1,), "own": 4},
    }
    helps = {name: hint.__metadata__[0].help for name, hint in list(Choices.__annotations__.items())[:4]}
    assert helps["widths"] == "Units of each layer, the lowest first."
    assert (helps["rate"], helps["other_widths"]) == ("Share that is left out.", "Of the other.")
    assert run.arguments(template, settings) == {"widths": (8, 4), "rate": 0.25}
    assert run.arguments(other, settings) == {"widths": (1,), "depth": 2}


def test_recipes_fill_what_is_open_the_first_one_first():
    @dataclasses.dataclass(frozen=True)
    class Part:
        size: int | None = None
        kept: int | None = 5

    @dataclasses.dataclass(frozen=True)
    class Settings:
        rate: float | None = None
        zero: int | None = 0
        part: Part = dataclasses.field(default_factory=Part)

    first, second = {"rate": 0.5, "part": {"size": 3}}, {"rate": 0.7, "zero": 7, "part": {"size": 4, "kept": 6}}
    assert run.filled(Settings(), first, second) == Settings(0.5, 0, Part(3, 5))
    assert run.filled(Settings(part=Part(9)), second, first) == Settings(0.7, 0, Part(9, 5))
    with pytest.raises(AttributeError):
        run.filled(Settings(), {"rat": 0.5})


def test_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    run.write(path, b"old")
    with pytest.raises(RuntimeError), run.replacing(path) as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_run_takes_a_new_or_empty_folder_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("dear")
    with pytest.raises(BadInput, match="found files in it"):
        run.Run("test", Train(out=tmp_path / "full"))
    assert (tmp_path / "full" / "thesis.txt").read_text() == "dear"
    with pytest.raises(BadInput, match="found a file"):
        run.Run("test", Train(out=tmp_path / "full" / "thesis.txt"))


def test_one_process_at_a_time(tmp_path):
    out = tmp_path / "run"
    with run.Run("test", Train(out=out)), pytest.raises(BadInput, match="another process"):
        run.Run("test", Train(out=out, resume=True))


def test_unusable_input_leaves_no_folder_and_a_stop_leaves_it(tmp_path, capsys):
    with pytest.raises(BadInput), run.Run("test", Train(out=tmp_path / "bad")):
        raise BadInput("no")
    assert not (tmp_path / "bad").exists()
    with pytest.raises(KeyboardInterrupt), run.Run("test", Train(out=tmp_path / "stopped")) as this_run:
        this_run.stage("a", lambda: {"x": np.arange(3)})
        raise KeyboardInterrupt
    assert (tmp_path / "stopped" / "checkpoints" / "a.npz").exists()
    assert "--resume continues the run" in capsys.readouterr().err


def test_resume_takes_the_newest_unfinished_run_with_equal_settings():
    folders = []
    for seed, finished in ((0, False), (0, False), (1, False), (0, True)):
        with run.Run("test", Train(seed=seed)) as this_run:
            folders.append(this_run.folder)
        if finished:
            (this_run.folder / "report.pdf").touch()
    assert len(set(folders)) == 4
    with run.Run("test", Train(resume=True)) as resumed:
        assert resumed.folder == folders[1]
        assert resumed.started.isoformat() == json.loads((folders[1] / "config.json").read_text())["started"]
    with pytest.raises(BadInput, match="no unfinished run"):
        run.Run("test", Train(seed=9, resume=True))


def test_resume_in_a_named_folder_says_which_setting_differs(tmp_path):
    out = tmp_path / "run"
    with run.Run("test", Train(out=out)):
        pass
    with pytest.raises(BadInput, match="seed 0, expected 1"):
        run.Run("test", Train(seed=1, out=out, resume=True))
    with pytest.raises(BadInput, match="no readable config"):
        run.Run("test", Train(out=tmp_path / "never", resume=True))


def test_a_finished_run_and_another_backend_are_not_resumed(tmp_path):
    out = tmp_path / "run"
    with run.Run("test", Train(out=out)):
        pass
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"backend": "numpy"}))
    with pytest.raises(BadInput, match="found backend numpy, expected"):
        run.Run("test", Train(out=out, resume=True))
    (out / "report.pdf").touch()
    with pytest.raises(BadInput, match="found a finished run"):
        run.Run("test", Train(out=out, resume=True))


def test_a_folder_of_a_process_killed_at_its_start_is_as_good_as_empty(tmp_path):
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / run._LOCK).touch()
    partial = out / f"{run._PARTIAL}1-config.json"
    partial.touch()
    with run.Run("test", Train(out=out)):
        assert not partial.exists()


def test_machine_is_described_where_there_is_no_affinity(monkeypatch):
    known = run.machine()
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert run.machine().split(", ")[::2] == known.split(", ")[::2]
    assert "cores" in run.machine()


def test_finished_stage_is_not_repeated(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), run.Run("test", Train(out=out)) as this_run:
        assert this_run.stage("a", lambda: {"x": np.arange(3), "n": np.array(7)})["x"].tolist() == [0, 1, 2]
        raise KeyboardInterrupt
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        again = this_run.stage("a", lambda: pytest.fail("computed twice"))
        assert again["x"].tolist() == [0, 1, 2]
        assert int(again["n"]) == 7


def data(sha256, *understood):
    numbers = {"rows": 1, "size_bytes": 1, "sha256": sha256, "understood": understood}
    return Provenance(name="x", source="x", licence="x", units="x", **numbers)


def test_what_was_understood_of_the_data_is_said(tmp_path, capsys):
    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        this_run.check_data(data("abc", "label 'class': 'yes' is fraud", "left out: a\nb\x1b[31m.csv"))
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("s  label 'class': 'yes' is fraud")
    assert second.endswith("s  left out: a\\nb\\x1b[31m.csv")


def test_a_run_goes_on_with_the_same_data_alone(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), run.Run("test", Train(out=out)) as this_run:
        this_run.check_data(data("abc"))
        raise KeyboardInterrupt
    with (
        pytest.raises(BadInput, match=r"run: found data that differ from those it was started with, expected the same"),
        run.Run("test", Train(out=out, resume=True)) as this_run,
    ):
        this_run.check_data(data("abd"))
    assert (out / "checkpoints").exists()
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        this_run.check_data(data("abc"))


def test_history_has_a_row_for_each_epoch():
    fits = {
        "seed 0": run.Fit({"loss": [0.5, 0.25], "val_loss": [0.75, 0.125]}, 2, 1.0),
        "a, b": run.Fit({"loss": [2.0]}, 1, 1.0),
    }
    assert run.history(fits).decode().splitlines() == [
        "stage,epoch,loss,val_loss",
        "seed 0,1,0.5,0.75",
        "seed 0,2,0.25,0.125",
        '"a, b",1,2.0,',
    ]


def test_metrics_of_a_finished_run(tmp_path):
    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        this_run.write_json("metrics.json", {"application": "test", "schema": run.schema.SCHEMA, "value": 0.1})
    assert run.finished_metrics(tmp_path / "run", "test")["value"] == 0.1
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match=r"expected that of a finished run of test$") as raised:
            run.finished_metrics(folder, "test")
        assert str(raised.value).startswith(f"{folder / 'metrics.json'}: found no readable JSON (FileNotFoundError")


# --- fit ---

ROWS = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)


def compiled():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dropout(0.3), keras.layers.Dense(4, "tanh"), keras.layers.Dense(6)]
    )
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 24)), "mse")
    return model


def batches(epoch, stop_at=None):
    if epoch == stop_at:
        raise RuntimeError("power cut")
    for rows in np.random.default_rng([0, epoch]).permutation(64).reshape(4, 16):
        yield ROWS[rows], ROWS[rows]


def fit(this_run, model, stop_at=None, **kwargs):
    return this_run.fit("net", model, lambda epoch: batches(epoch, stop_at), epochs=6, steps=4, **kwargs)


VALIDATIONS = {
    "to the end": None,
    "best epoch": (ROWS, ROWS),
    "of batches": [(ROWS[:40], ROWS[:40]), (ROWS[40:], ROWS[40:])],
}


@pytest.mark.parametrize("validation", VALIDATIONS.values(), ids=VALIDATIONS)
@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_interrupted_fit_goes_on_to_the_same_weights(tmp_path, validation, stop_at):
    whole = compiled()
    with run.Run("test", Train(out=tmp_path / "whole")) as this_run:
        expected = fit(this_run, whole, validation=validation)
    out = tmp_path / "stopped"
    with pytest.raises(Exception, match="power cut"), run.Run("test", Train(out=out)) as this_run:
        fit(this_run, compiled(), stop_at, validation=validation)
    resumed = compiled()
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        found = fit(this_run, resumed, validation=validation)
    assert found.history == expected.history
    assert found.best_epoch == expected.best_epoch
    assert found.examples == expected.examples == 6 * 64
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    generators = [v for v in whole.variables if "seed" in v.path]
    assert generators
    for one, other in zip(generators, [v for v in resumed.variables if "seed" in v.path], strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_finished_fit_is_kept(tmp_path):
    out = tmp_path / "run"
    model = compiled()
    with pytest.raises(KeyboardInterrupt), run.Run("test", Train(out=out)) as this_run:
        expected = fit(this_run, model)
        raise KeyboardInterrupt
    again = compiled()
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        found = this_run.fit("net", again, lambda epoch: pytest.fail("trained twice"), epochs=6, steps=4)
    assert found.history == expected.history
    assert (found.examples, found.seconds) == (expected.examples, expected.seconds)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_follows_an_epoch_decides_which_is_kept_and_what_the_history_tells(tmp_path):
    model, weights = compiled(), []

    def judge(epochs):
        weights.append(model.get_weights())
        return {"distance": [5.0, 3.0, 4.0, 2.0, 2.5, 6.0][epochs - 1], "epochs": epochs}

    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        found = fit(this_run, model, after_epoch=judge)
    assert found.history["epochs"] == [1, 2, 3, 4, 5, 6]
    assert (found.best_epoch, found.diverged) == (4, False)
    for one, other in zip(model.get_weights(), weights[3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_that_diverges_ends_with_the_weights_that_were_judged_best(tmp_path):
    model, weights = compiled(), []

    def judge(epochs):
        weights.append(model.get_weights())
        return {"val_loss": -epochs}

    def poisoned(epoch):
        for rows, targets in batches(epoch):
            yield rows, targets * (np.nan if epoch == 3 else 1)

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), run.Run("test", Train(out=out)) as this_run:
        found = this_run.fit("net", model, poisoned, epochs=6, steps=4, after_epoch=judge)
        raise KeyboardInterrupt
    assert (found.best_epoch, found.diverged, len(found.history["loss"])) == (3, True, 3)
    assert np.isfinite(found.history["loss"]).all()
    for one, other in zip(model.get_weights(), weights[2], strict=True):
        np.testing.assert_array_equal(one, other)
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        again = this_run.fit("net", compiled(), lambda epoch: pytest.fail("trained twice"), epochs=6, steps=4)
    assert again.diverged
    assert again.examples == found.examples == 3 * 64


def test_a_training_goes_on_after_a_stop_to_the_same_epoch_by_what_follows_each(tmp_path):
    def judge(epochs):
        return {"distance": [5.0, 3.0, 4.0, 2.0, 2.5, 6.0][epochs - 1]}

    whole, resumed = compiled(), compiled()
    with run.Run("test", Train(out=tmp_path / "whole")) as this_run:
        expected = fit(this_run, whole, after_epoch=judge)
    out = tmp_path / "stopped"
    with pytest.raises(Exception, match="power cut"), run.Run("test", Train(out=out)) as this_run:
        fit(this_run, compiled(), 5, after_epoch=judge)
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        found = fit(this_run, resumed, after_epoch=judge)
    assert (found.history, found.best_epoch) == (expected.history, expected.best_epoch)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_examples_than_rows_are_counted_and_what_follows_an_epoch_takes_no_training_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(run.time, "perf_counter", lambda: clock[0])

    def slow(epoch):
        clock[0] += 2
        yield from batches(epoch)

    def follow(epochs):
        clock[0] += 100

    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        count = lambda batch: batch[1].size  # noqa: E731
        found = this_run.fit("net", compiled(), slow, epochs=1, steps=4, after_epoch=follow, count=count)
    assert found.examples == 64 * 6
    assert found.best_epoch == 1
    assert found.seconds == 2


@pytest.mark.parametrize("execution", [1, 2, 4])
def test_executions_of_several_steps_see_the_same_batches(tmp_path, execution):
    """Keras looks at the first batches to build what is not built yet, and must not lose them."""
    weights = []
    for number, steps in enumerate((1, execution)):
        model = compiled()
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"], steps_per_execution=steps)
        with run.Run("test", Train(out=tmp_path / str(number))) as this_run:
            found = fit(this_run, model, validation=VALIDATIONS["of batches"])
        assert len(found.history["loss"]) == 6
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_batches_of_other_lengths_are_trained_on(tmp_path):
    model = keras.Sequential([keras.Input((None, 6)), keras.layers.Dense(6)])
    model.compile("sgd", "mse")

    def of_lengths(epoch):
        return ((x := ROWS[: 4 * length].reshape(4, length, 6), x) for length in (2, 2, 5, epoch + 3))

    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        found = this_run.fit(
            "net",
            model,
            of_lengths,
            epochs=3,
            steps=4,
            validation=list(of_lengths(9)),
            lengths_vary=True,
            count=lambda batch: batch[0].shape[1],
        )
    assert found.examples == 3 * 9 + 3 + 4 + 5
    assert np.isfinite(found.history["val_loss"]).all()


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path):
    # Validation rows that training moves away from: their loss is lowest in the first epoch.
    away = (ROWS, -3 * ROWS)
    model = compiled()
    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        found = fit(this_run, model, validation=away, patience=2)
    losses = found.history["val_loss"]
    assert found.best_epoch == 1 + int(np.argmin(losses))
    assert len(losses) == found.best_epoch + 2 < 6
    np.testing.assert_allclose(model.evaluate(*away, verbose=0), min(losses), rtol=1e-6)


def test_a_loss_that_is_not_finite_is_said(tmp_path):
    model = compiled()
    model.compile(keras.optimizers.SGD(1e30), "mse")
    with (
        pytest.raises(BadInput, match=r"loss of (nan|inf) in epoch 1"),
        run.Run("t", Train(out=tmp_path / "run")) as r,
    ):
        fit(r, model)


def test_peak_memory_is_of_the_process_alone():
    large = np.ones(40_000_000)  # 320 MB
    lines = ["import resource, sys", "from pathlib import Path", inspect.getsource(run.peak_memory_mb)]
    code = "\n".join([*lines, "print(peak_memory_mb())"])
    small = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1 < small < 100 < large.nbytes / 1e6 < run.peak_memory_mb()


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([3], r"found weights of \(2, 3\) as array 1, expected \(2, 4\) for --units"),
        ([4, 1], r"found weights of \(4, 1\) as array 3, expected none for --units"),
        ([], r"found weights of none as array 1, expected \(2, 4\) for --units"),
    ],
)
def test_weights_of_another_model_are_refused_at_the_first_difference(layers, said):
    def model(units):
        return keras.Sequential([keras.Input((2,)), *map(keras.layers.Dense, units)])

    settings = types.SimpleNamespace(init_from="a.keras")
    with pytest.raises(BadInput, match=f"--init-from a.keras: {said}"):
        run.start_from(model([4]), model(layers).get_weights(), settings, "--units")


def test_a_choice_at_the_end_of_what_was_allowed_is_said_once_and_kept(capsys, monkeypatch):
    monkeypatch.setattr("reports.report.typeset", lambda *_: b"")
    for settings, said in (
        (Train(), ["the best epoch is at its limit, 12; a larger --epochs may be better"]),
        (Train(quick=True), []),
    ):
        with run.Run("program", settings) as this_run:
            for found in (12, 11, 12):
                this_run.at_limit("the best epoch", found, 12, "--epochs")
            metrics = {}
            this_run.finish(
                metrics,
                Path("report.typ"),
                [run.Fit({}, 1, 1.5, examples=30), run.Fit({}, 1, 0.5, examples=4)],
            )
        assert metrics["timing"]["fit_seconds"] == 2
        assert metrics["timing"]["examples_per_second"] == 17
        assert metrics["limits"] == said
        assert [line.split("s  ")[1] for line in capsys.readouterr().out.splitlines()] == said


# --- Files that a run did not make ---

FOREIGN = (
    "checkpoints/mine.npz",
    "figures/mine.svg",
    ".lock",
    ".partial-1-mine",
    "notes.txt",
    "checkpoints",
    "figures",
)


def put(folder, name):
    path = folder / name
    if "." in name:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    else:
        path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_files_of_somebody_else_is_refused_and_left_alone(tmp_path, name):
    path = put(tmp_path / "full", name)
    with pytest.raises(BadInput, match="found files in it, expected a new or empty folder"):
        run.Run("test", Train(out=tmp_path / "full"))
    assert [found for found in (tmp_path / "full").rglob("*") if found.name != path.parent.name] == [path]
    assert path.is_dir() or path.read_text() == "mine"


@pytest.mark.parametrize("end", [None, BadInput("no"), KeyboardInterrupt()], ids=["good", "bad input", "stopped"])
@pytest.mark.parametrize("name", FOREIGN[:5])
@pytest.mark.parametrize("resumed", [False, True])
def test_files_put_into_a_run_stay_however_it_ends(tmp_path, name, end, resumed):
    out = tmp_path / "run"
    if resumed:
        with contextlib.suppress(KeyboardInterrupt), run.Run("test", Train(out=out)) as this_run:
            this_run.stage("a", lambda: {"x": np.arange(3)})
            raise KeyboardInterrupt
        put(out, name)
    with contextlib.suppress(BadInput, KeyboardInterrupt), run.Run("test", Train(out=out, resume=resumed)) as this_run:
        put(out, name)
        this_run.stage("a", lambda: {"x": np.arange(3)})
        this_run.write("figures/own.svg", b"<svg/>")
        this_run.scratch("tokens", ("train.npy",)).joinpath("train.npy").touch()
        if end:
            raise end
    assert (out / name).read_text() == "mine"
    kept = isinstance(end, KeyboardInterrupt) or (resumed and end)
    assert (out / "checkpoints" / "a.npz").exists() == bool(kept)
    assert (out / "checkpoints" / "tokens").exists() == bool(kept)
    assert (out / "figures" / "own.svg").exists() == (end is None or bool(kept))
    assert not (out / run._LOCK).exists()


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_that_was_there_before_stays(tmp_path, linked):
    out = real = tmp_path / "empty"
    real.mkdir()
    if linked:
        out = tmp_path / "link"
        out.symlink_to(real)
    with pytest.raises(BadInput, match=r"^no$"), run.Run("test", Train(out=out)):
        raise BadInput("no")
    assert list(real.iterdir()) == []
    assert out.is_symlink() == linked


def test_input_that_turns_out_bad_after_training_does_not_cost_the_training(tmp_path, capsys):
    out = tmp_path / "run"
    with pytest.raises(BadInput), run.Run("test", Train(out=out)) as this_run:
        fit(this_run, compiled())
        raise BadInput("a name that can't be drawn")
    assert f"--resume continues the run in {out}" in capsys.readouterr().err
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        this_run.fit("net", compiled(), lambda epoch: pytest.fail("trained twice"), epochs=6, steps=4)


def test_runs_begun_in_the_same_second_have_folders_of_their_own():
    folders = [run.Run("test", Train()).folder for _ in range(3)]
    assert len(set(folders)) == 3


# --- Damaged files ---

DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "null": lambda content: b"null",
    "a list": lambda content: b"[1]",
    "deep": lambda content: b"[" * 100_000,
    "not UTF-8": lambda content: b"\xff" + content,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "metrics.json", "checkpoints/a.npz", "checkpoints/net.npz"])
def test_damaged_files_of_a_run_are_named(tmp_path, name, damage):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), run.Run("test", Train(out=out)) as this_run:
        this_run.stage("a", lambda: {"x": np.arange(3)})
        fit(this_run, compiled())
        this_run.write_json("metrics.json", {"application": "test"})
        raise KeyboardInterrupt
    (out / name).write_bytes(DAMAGES[damage]((out / name).read_bytes()))
    before = sorted(out.rglob("*"))
    with pytest.raises(
        BadInput, match=f"^(--resume {out}: found no readable config.json \\()?{out / name}: "
    ) as raised:
        run.finished_metrics(out, "test") if name == "metrics.json" else resume(out)
    assert len(str(raised.value)) < 600
    assert sorted(out.rglob("*")) == before


def resume(out):
    with run.Run("test", Train(out=out, resume=True)) as this_run:
        this_run.stage("a", lambda: {})
        fit(this_run, compiled())


@pytest.mark.parametrize("field", ["started", "settings"])
@pytest.mark.parametrize("value", [None, "yesterday", 3])
def test_a_config_of_other_contents_is_named(tmp_path, field, value):
    out = tmp_path / "run"
    with run.Run("test", Train(out=out)):
        pass
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(BadInput, match=r"config\.json: found other contents"):
        run.Run("test", Train(out=out, resume=True))


def test_a_model_of_every_template_is_loaded_in_a_new_process(tmp_path):
    code = (
        "import pathlib, sys; from applications import run; [run.load_model(pathlib.Path(p), id) for p in sys.argv[1:]]"
    )
    paths = []
    for template in templates.names():
        module = importlib.import_module(f"templates.{template}")
        for name in templates.architectures(template):
            paths.append(str(tmp_path / f"{name}.keras"))
            getattr(module, name)().save(paths[-1])
    assert len(paths) >= len(templates.names())
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_saved_model_is_compiled_for_any_backend(tmp_path):
    model = compiled()
    model.compile(model.optimizer, "mse", steps_per_execution=4, jit_compile=False)
    model.train_on_batch(ROWS, ROWS)
    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        this_run.save_model(model, {"module": "keras.src.backend.torch.optimizers.torch_adam"}, name="other.keras")
    path = tmp_path / "run" / "other.keras"
    assert run.model_notes(path) == {"module": "keras.src.backend.torch.optimizers.torch_adam"}
    again = run.load_model(path, lambda model: None)
    found, expected = again.get_compile_config(), model.get_compile_config()
    assert (found.pop("steps_per_execution"), expected.pop("steps_per_execution")) == (1, 4)
    del found["jit_compile"], expected["jit_compile"]  # as the backend chooses
    assert found == expected
    for one, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0))
    with zipfile.ZipFile(path) as archive:
        assert '"jit_compile": "auto"' in archive.read("config.json").decode()


def test_any_flipped_byte_of_a_model_is_noticed_or_harmless(tmp_path):
    model, path = compiled(), tmp_path / "model.keras"
    with run.Run("test", Train(out=tmp_path / "run")) as this_run:
        this_run.save_model(model, {"classes": ["a"]})
    content = (tmp_path / "run" / "model.keras").read_bytes()
    expected = model.predict(ROWS, verbose=0)
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(content), 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            found = run.load_model(path, lambda model: None)
            run.model_notes(path)
        except BadInput as problem:
            refused += 1
            assert str(problem).startswith(f"{path}: found ")
            assert len(str(problem)) < 400
        else:
            np.testing.assert_array_equal(found.predict(ROWS, verbose=0), expected)
    assert refused > 40


def test_the_report_of_another_program_or_of_other_numbers_is_refused(tmp_path):
    document = tmp_path / "report.typ"
    document.write_text('#import "page.typ": *\n#metrics.results.first().name')
    known = {"application": "test", "schema": run.schema.SCHEMA, "timing": {"started": "2026-03-02T14:05:00+00:00"}}
    for metrics, said in (
        ({"application": "other"}, r"found that of 'other', expected that of a finished run of test"),
        ({"application": "test"}, r"found schema none, expected 2: the report of an older run"),
        (known, r"found other contents \(.*results.*\), expected those of a finished run"),
        (known | {"results": []}, r"found other contents \(.*array is empty"),
    ):
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(BadInput, match=said):
            run.typeset_again(tmp_path, "test", document)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "report.typ"}


# --- The machine ---


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_that_says_how_to_go_on(tmp_path, sent, code):
    program = (
        "import signal, time; from pathlib import Path; from applications import run\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup, if the tests run in it, ignores it
        "import dataclasses\n"
        "@dataclasses.dataclass\n"
        "class Train: out: Path = Path('run'); resume: bool = False\n"
        "def main(arguments):\n"
        "    with run.Run('test', Train()): print('begun', flush=True); time.sleep(60)\n"
        "run.execute(main)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(sent)
    assert "--resume continues the run in run" in process.communicate()[1]
    assert process.returncode == code
    assert not (tmp_path / "run" / run._LOCK).exists()


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"), run.replacing(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"a\.bin"), run.replacing(path):
        raise OSError("Can't write data\n(errno = 28)")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file_to_write_to(tmp_path):
    with pytest.raises(BadInput, match="found a folder, expected a file to write to"):
        run.write(tmp_path, b"")


def test_paths_that_no_file_can_have_are_refused():
    with pytest.raises(BadInput, match=r"--out a\\x00b: found a null character"):
        parse("--out", "a\0b")


def test_a_choice_at_an_end_of_what_was_tried_is_said():
    with run.Run("program", Train()) as this_run:
        for found, tried in ((10, (1, 10)), (1, (1, 10)), (5, (1, 5, 10)), (3, (3,))):
            this_run.at_end("C of the machine", found, tried)
    assert this_run.limits == [
        "C of the machine is 10, the largest value tried; larger values may be better",
        "C of the machine is 1, the smallest value tried; smaller values may be better",
    ]

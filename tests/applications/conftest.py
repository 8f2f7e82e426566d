import json
import re
import signal
import time

import keras
import numpy as np
import pytest


@pytest.fixture
def kill_in():
    """Kills a program, as a power cut would, amid the training of a stage."""

    def kill(process, checkpoint, *, seconds=240):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            if checkpoint.exists() and len(_record(checkpoint)["history"]["loss"]) >= 2:
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert checkpoint.exists(), process.stderr.read()
        assert not _record(checkpoint)["finished"], "the stage was over before the kill"
        assert not (checkpoint.parents[1] / "metrics.json").exists()

    return kill


def _record(checkpoint):
    with np.load(checkpoint) as arrays:
        return json.loads(str(arrays["record"]))


@pytest.fixture
def assert_same_run():
    """Asserts that a run which was stopped and resumed has come to the weights and numbers of one that was not."""

    def check(whole, resumed, without_time):
        expected, found = (keras.models.load_model(folder / "model.keras").get_weights() for folder in (whole, resumed))
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
        expected, found = (json.loads((folder / "metrics.json").read_text()) for folder in (whole, resumed))
        assert without_time(found) == without_time(expected)
        assert found["timing"]["resumed"]
        assert (resumed / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
        assert not (resumed / "checkpoints").exists()

    return check


@pytest.fixture
def assert_numbers_stand_in():
    """Asserts that all numbers of a report stand in the metrics that it was made of, or follow from these."""

    def check(document, metrics, derived, words, *, forms, least):
        known = set(words)

        def collect(value):
            if isinstance(value, dict):
                collect(list(value))
                collect(list(value.values()))
            elif isinstance(value, list):
                for inner in value:
                    collect(inner)
            elif isinstance(value, str):
                known.update(re.findall(r"\d+(?:[.,]\d+)*", _plain(value)))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                for scaled in (abs(value), 100 * abs(value), abs(value) / 1e6):
                    known.update(format(scaled, form) for form in forms)

        collect([metrics, derived])
        said = _plain(document).replace(metrics["data"]["sha256"], "")
        found = set(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*", said))
        assert len(found) > least
        assert found - known == set()

    return check


def _plain(value):
    return json.dumps(value, ensure_ascii=False).replace("\u00a0", " ").replace("-", " ")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--kills", type=int, default=2, help="moments at which each program is killed and resumed")

"""Runs a loader on generated input in a process of its own, with limits of time and memory."""

import multiprocessing
import resource
import signal
import time
import traceback
from pathlib import Path

import hypothesis
import pytest

from data.dataset import BadInput

SECONDS = 10
MEGABYTES = 1_000
# Imported once, with the loaders and Hypothesis, by the server that each process is forked from.
MODULES = [f"tests.fuzz.{path.stem}" for path in Path(__file__).parent.glob("test_*.py")]

hypothesis.settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "long", hypothesis.settings.get_profile("ci"), max_examples=5_000, derandomize=False
)


def pytest_configure(config: pytest.Config) -> None:
    """Take the profile of CI, unless --hypothesis-profile names another."""
    hypothesis.settings.load_profile(config.getoption("--hypothesis-profile") or "ci")


def _peak_megabytes() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3


def _child(pipe, load, arguments) -> None:
    # Twice the allowance: what goes past it ends in a MemoryError here, not in a machine without memory.
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1_024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 2 * MEGABYTES * 1_000_000,) * 2)
    signal.alarm(SECONDS + 1)
    before = _peak_megabytes()
    began = time.perf_counter()
    try:
        load(*arguments)
        outcome = ("accepted", "")
    except BadInput as problem:
        outcome = ("refused", str(problem))
    except BaseException:
        outcome = ("raised", traceback.format_exc())
    pipe.send((*outcome, time.perf_counter() - began, _peak_megabytes() - before))


@pytest.fixture(scope="session")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    return context


@pytest.fixture
def judge(server):
    """Calls `load(*arguments)`, a function of a module, apart; asserts that it is accepted or refused in one line.

    Returns the message, "" where the input was accepted.
    """

    def run(load, *arguments):
        ours, theirs = server.Pipe()
        process = server.Process(target=_child, args=(theirs, load, arguments))
        process.start()
        theirs.close()
        try:
            outcome, message, seconds, megabytes = ours.recv()
        except EOFError:
            process.join()
            pytest.fail(f"the process ended with code {process.exitcode}")
        process.join()
        assert outcome != "raised", message
        assert "\n" not in message
        assert outcome == "accepted" or message
        assert seconds < SECONDS
        assert megabytes < MEGABYTES
        return message

    return run

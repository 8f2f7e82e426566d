"""Runs a loader on generated input in another process, with limits of time and memory."""

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
# Imported once, with the loaders and Hypothesis, by the server that the processes are forked from.
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


def _serve(pipe) -> None:
    """Load what comes through the pipe, one after another; whatever kills this process ends the pipe."""
    # Twice the allowance: what goes past it ends in a MemoryError here, not in a machine without memory.
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1_024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 2 * MEGABYTES * 1_000_000,) * 2)
    before = _peak_megabytes()
    while True:
        try:
            load, arguments = pipe.recv()
        except EOFError:
            return
        signal.alarm(SECONDS + 1)
        Path("/proc/self/clear_refs").write_text("5")  # the peak falls to what is in use now
        began = time.perf_counter()
        try:
            load(*arguments)
            outcome = ("accepted", "")
        except BadInput as problem:
            outcome = ("refused", str(problem))
        except BaseException:
            outcome = ("raised", traceback.format_exc())
        signal.alarm(0)
        pipe.send((*outcome, time.perf_counter() - began, _peak_megabytes() - before))


@pytest.fixture(scope="session")
def judge():
    """Calls `load(*arguments)`, a function of a module, apart; asserts that it is accepted or refused in one line.

    Returns the message, "" where the input was accepted.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    pipe, process = None, None

    def end():
        nonlocal process
        pipe.close()
        process.join()
        code, process = process.exitcode, None
        return code

    def run(load, *arguments):
        nonlocal pipe, process
        if process is None:
            pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,))
            process.start()
            theirs.close()
        try:
            pipe.send((load, arguments))
            outcome, message, seconds, megabytes = pipe.recv()
        except (EOFError, ConnectionError):
            pytest.fail(f"the process ended with code {end()}")
        assert outcome != "raised", message
        assert "\n" not in message
        assert outcome == "accepted" or message
        assert seconds < SECONDS
        assert megabytes < MEGABYTES
        return message

    yield run
    if process is not None:
        end()

import copy
import functools
import io
import json
import operator
import re
import signal
import time

import keras
import numpy as np
import pytest
from pypdf import PdfReader
from typeguard import CollectionCheckStrategy, check_type

from reports.report import typeset


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
def assert_schema():
    """Asserts that metrics have the keys and types of a typed dictionary, no more and no less, and are JSON."""

    def check(metrics, schema):
        json.dumps(metrics, allow_nan=False)
        check_type(metrics, schema, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)

    return check


@pytest.fixture
def metrics(request):
    """Those of a real quick run, in a file beside the tests."""
    return json.loads(request.path.with_name("metrics.json").read_text())


@pytest.fixture
def changed():
    """Copies metrics with other values at some paths of keys: `changed(metrics, {("data", "test"): 3})`."""

    def change(metrics, values):
        copied = copy.deepcopy(metrics)
        for (*way, last), value in values.items():
            functools.reduce(operator.getitem, way, copied)[last] = value
        return copied

    return change


@pytest.fixture
def report_text(tmp_path):
    """The text of the report on metrics, its spaces and minus signs made plain; all its figures are a square."""

    def text(document, metrics):
        for figure in metrics["figures"].values():
            (tmp_path / figure["file"]).parent.mkdir(exist_ok=True)
            (tmp_path / figure["file"]).write_text(SQUARE)
        return text_of(typeset(document, metrics, tmp_path))

    return text


SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


def text_of(pdf: bytes) -> str:
    pages = (page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    text = " ".join(re.sub(r"\n[^\n]*\d+ / \d+\s*$", "", page) for page in pages)  # without the footers
    return " ".join(text.replace("\u2212", "-").split())


@pytest.fixture
def pdf_text():
    """The text of a PDF file, its spaces and minus signs made plain."""
    return lambda path: text_of(path.read_bytes())


@pytest.fixture
def assert_pdf():
    """Asserts that a run's report is a tagged PDF of so many pages with these headings, and returns its text."""

    def check(path, headings, *, pages):
        reader = PdfReader(path)
        assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
        assert "/StructTreeRoot" in reader.trailer["/Root"]
        assert pages[0] <= len(reader.pages) <= pages[1]
        text = text_of(path.read_bytes())
        assert [heading for heading in headings if heading not in text] == []
        return text

    return check


@pytest.fixture
def assert_numbers_are_measured():
    """Asserts that all numbers in a report's text stand in its metrics, are `derived` from these, or `known`."""

    def check(text, metrics, *, derived=(), known=(), least=100):
        numbers = {*known, "95", *map(str, range(1, 31))}  # the level of intervals; ranks, figures, tables and pages

        def collect(value):
            if isinstance(value, dict):
                collect([*value, *value.values()])
            elif isinstance(value, list | tuple):
                for inner in value:
                    collect(inner)
            elif isinstance(value, str):
                numbers.update(re.findall(r"\d+(?:[.,]\d+)*", value.replace("-", " ")))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                for scaled in (abs(value), 100 * abs(value), abs(value) / 1e3, abs(value) / 1e6):
                    numbers.update(f"{scaled:,.{digits}f}" for digits in range(6))
                    numbers.update(f"{scaled:.{digits}g}" for digits in (3, 4))

        collect([metrics, list(derived)])
        said = text.replace(metrics["data"]["sha256"], "").replace("-", " ")
        found = set(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*", said))
        assert len(found) > least
        assert found - numbers == set()

    return check


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--kills", type=int, default=2, help="moments at which each program is killed and resumed")

"""The service of an exported model, as programs and people use it."""

import concurrent.futures
import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import keras
import pytest

from applications import exporting

CODE = '''
"""Add two numbers; a small model for tests."""
import time
import numpy as np
from collections.abc import Iterator
from pathlib import Path
from applications.runtime import Network

EXAMPLE = "KIND"

class Model:
    def __init__(self, folder: Path):
        self.network = Network(folder)

    def answers(self, rows):
        for row in rows:
            if row.get("wait"):
                time.sleep(row["wait"])
            if not isinstance(row.get("a"), (int, float)):
                raise ValueError(f"column 'a': found {row.get('a')!r}, expected a number")
        values = np.array([[row["a"], row["b"]] for row in rows])
        sums = self.network(raw=values)["sum"][:, 0].tolist()
        return [{"sum": value, "together": len(rows), "parts": {"a": 1.0, "b": 2.0}} for value in sums]

    def write(self, a, b=0, wait=0, tokens=3) -> Iterator[str]:
        for word in ("one ", "two ", "three"):
            time.sleep(wait)
            yield word
'''


@pytest.fixture(scope="module", params=["row"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("service")
    code = place / "code.py"
    code.write_text(CODE.lstrip().replace("KIND", request.param))
    inputs = keras.Input((2,), name="raw")
    network = keras.Model(inputs, {"sum": keras.layers.Dense(1, kernel_initializer="ones", name="dense")(inputs)})
    exporting.export(
        exporting.Export(model=place / "model.keras", out=place / "exported"),
        network,
        code,
        about={},
        preparation={},
        examples=[{"a": 1.5, "b": 2.0, "wait": 0} | ({"tokens": 1} if request.param == "prompt" else {})],
        answers=[{"sum": 3.5, "together": 1, "parts": {"a": 1.0, "b": 2.0}}],
    )
    return place / "exported"


@contextlib.contextmanager
def served(folder):
    """The process of a service that listens, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "serve.py", "--port", str(port)], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(f"{address}/health")
                break
            time.sleep(0.1)
        yield process, address
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as (_, address):
        yield address


def post(address, body, path="/answers"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_rows_are_answered_in_their_order(address):
    rows = [{"a": number, "b": 0.5} for number in range(20)]
    status, body = post(address, {"examples": rows})
    assert status == 200
    assert [answer["sum"] for answer in json.loads(body)["answers"]] == [number + 0.5 for number in range(20)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"examples": [{"a": "x", "b": 1}]}, 422, "column 'a': found 'x', expected a number"),
        ({"examples": [{"b": 1}]}, 422, "column 'a': found None"),
        ({"examples": [{"a": [1], "b": 1}]}, 422, '"examples",0,"a"'),
        ({"examples": []}, 422, "at least 1 item"),
        ({"examples": [{"a": 1, "b": 1}] * 257}, 422, "at most 256 items"),
        ({"rows": []}, 422, "Field required"),
        (b"{", 422, "JSON decode error"),
        (b" " * (16 * 2**20 + 1), 413, "16,777,216 bytes"),
    ],
)
def test_bad_requests_are_told_what_is_expected(address, body, status, words):
    found, said = post(address, body)
    assert found == status
    assert words in said


def test_requests_that_wait_are_answered_together_and_a_bad_one_alone_fails(address):
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        slow = pool.submit(post, address, {"examples": [{"a": 0, "b": 0, "wait": 1}]})
        time.sleep(0.5)
        others = [pool.submit(post, address, {"examples": [{"a": number, "b": 1}]}) for number in range(7)]
        bad = pool.submit(post, address, {"examples": [{"a": "x", "b": 1}]})
    assert slow.result()[0] == 200
    assert bad.result()[0] == 422
    answers = [json.loads(other.result()[1])["answers"][0] for other in others]
    assert [answer["sum"] for answer in answers] == list(range(1, 8))


def test_the_interface_is_typed_by_the_example(address):
    with urllib.request.urlopen(f"{address}/openapi.json") as response:
        schemas = json.load(response)["components"]["schemas"]
    assert set(schemas["Example"]["properties"]) == {"a", "b", "wait"}
    answer = schemas["Answer"]["properties"]
    assert (answer["sum"]["type"], answer["together"]["type"]) == ("number", "integer")
    assert answer["parts"]["additionalProperties"] == {"type": "number"}


def test_requests_in_progress_are_answered_after_sigterm(folder):
    with served(folder) as (process, address), concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(post, address, {"examples": [{"a": n, "b": 0, "wait": 0.3}]}) for n in range(8)]
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        answers = [json.loads(future.result()[1])["answers"][0]["sum"] for future in waiting]
        assert answers == list(range(8))
        process.wait(30)


def test_no_request_on_an_open_connection_is_lost_after_sigterm(folder):
    def ask(port):
        connection, answered = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
        body = json.dumps({"examples": [{"a": 1, "b": 2}]})
        with pytest.raises(ConnectionRefusedError):  # and no other error, such as of a connection closed too early
            while True:
                connection.request("POST", "/answers", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                assert json.loads(response.read())["answers"][0]["sum"] == 3.0
                answered += 1
        return answered

    with served(folder) as (process, address), concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask, int(address.rpartition(":")[2])) for _ in range(8)]
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert min(client.result() for client in clients) > 0
        process.wait(30)


@pytest.mark.parametrize("folder", ["prompt"], indirect=True)
def test_a_prompt_is_streamed(folder):
    with served(folder) as (_, address):
        assert post(address, {"a": 1}, "/stream") == (200, "one two three")
        assert post(address, {"a": 1, "b": None}, "/stream") == (200, "one two three")
        assert post(address, {"c": 1}, "/stream")[0] == 422
        assert post(address, {"a": 1, "wait": "long"}, "/stream")[0] == 422
        assert "expected 4,096 at most" in post(address, {"a": 1, "tokens": 5_000}, "/stream")[1]


def test_a_folder_has_what_a_container_needs(folder):
    packages = (folder / "requirements.txt").read_text().split()
    assert [package.split("==")[0] for package in packages] == ["fastapi", "uvicorn", "numpy", "onnxruntime"]
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert lines[0].startswith("FROM python:")
    assert lines[-1] == 'CMD ["python", "serve.py", "--host", "0.0.0.0"]'


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromedriver"), reason="Chromium's driver isn't installed")
def test_the_page_in_a_browser(address):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.implicitly_wait(10)
        browser.get(address)
        (field,) = browser.find_elements("css selector", "input[name=a]")
        assert field.get_attribute("value") == "1.5"
        field.clear()
        field.send_keys("4")
        browser.find_element("css selector", "button").click()
        answer = browser.find_element("id", "answer")
        for _ in range(100):
            if "sum" in answer.text:
                break
            time.sleep(0.1)
        assert json.loads(answer.text)["sum"] == 6.0
        field.clear()
        field.send_keys("x")
        browser.find_element("css selector", "button").click()
        for _ in range(100):
            if "column" in answer.text:
                break
            time.sleep(0.1)
        assert answer.text == "column 'a': found 'x', expected a number"
        assert answer.get_attribute("class") == "bad"

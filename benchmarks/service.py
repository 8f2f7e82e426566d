"""Load test of exported models that serve by themselves, on this machine: speed, memory, and what a SIGTERM loses.

    pip install -e ".[serve]" -c constraints.txt
    python benchmarks/service.py
    python benchmarks/service.py --quick

The fraud and the image model have their default sizes and random weights. `python serve.py` of the exported folder
answers requests of one example each, from clients in threads of this process that keep their connections open: the
figures are of both sides together. Memory is the resident memory of the service. At the end it gets SIGTERM while all
clients send requests, each until one is not answered: refused, if the service accepts no connection any more, or lost,
if the connection was closed after the request was sent.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import untrained

MODELS = ("fraud_autoencoder", "image_classification")
CLIENTS = 8


def ask(port: int, body: bytes, requests: int) -> tuple[list[float], str]:
    """Send requests over one connection; return the seconds of each, and whether one more was "refused" or "lost"."""
    connection, seconds = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
    while len(seconds) < requests:
        since = time.perf_counter()
        try:
            connection.request("POST", "/answers", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        except ConnectionRefusedError:
            return seconds, "refused"
        except (OSError, http.client.HTTPException):
            return seconds, "lost"
        if response.status != 200:
            raise RuntimeError(f"found status {response.status}, expected 200")
        seconds.append(time.perf_counter() - since)
    return seconds, ""


def load(port: int, body: bytes, requests: int) -> list[float]:
    """Send requests from all clients at once; return the seconds of each."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(lambda _: ask(port, body, requests // CLIENTS), range(CLIENTS)))
    if any(end for _, end in found):
        raise RuntimeError("found a request without an answer, expected all answered")
    return [second for seconds, _ in found for second in seconds]


def memory(process: subprocess.Popen) -> float:
    """Return the resident memory of a process in MB."""
    found = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, text=True, check=True)
    return int(found.stdout) / 1e3


def measure(folder: Path, requests: int) -> None:
    """Serve an exported folder, and print the figures."""
    request = json.loads((folder / "signature.json").read_text(encoding="utf-8"))["example"]["request"]
    body = json.dumps({"examples": [request]}).encode()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        command = [sys.executable, "serve.py", "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            load(port, body, requests // 10)
            early = memory(process)
            since = time.perf_counter()
            seconds = load(port, body, requests - requests // 10)
            passed = time.perf_counter() - since
            late = memory(process)
            with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
                running = [pool.submit(ask, port, body, requests) for _ in range(CLIENTS)]
                time.sleep(1)
                process.send_signal(signal.SIGTERM)
                last = [future.result() for future in running]
            code = process.wait(60)
        finally:
            process.kill()
    answered = sum(len(found) for found, _ in last)
    ends = [end for _, end in last]
    median, slow = np.percentile(seconds, [50, 99]) * 1e3
    print(f"{folder.name}: {len(seconds) / passed:,.0f} requests/s of {CLIENTS} clients")
    print(f"  latency {median:.1f} ms (median), {slow:.1f} ms (99th percentile)")
    print(f"  memory {early:.0f} MB after {requests // 10:,} requests, {late:.0f} MB after {requests:,}")
    counts = f"{answered:,} answered, {ends.count('refused')} refused, {ends.count('lost')} lost"
    print(f"  SIGTERM (exit code {code}): {counts}", flush=True)


def main() -> None:
    """Export and measure each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="800 requests, to check that it works")
    requests = 800 if parser.parse_args().quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            measure(untrained.export(name, Path(folder)), requests)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for applications/ and templates/
    main()

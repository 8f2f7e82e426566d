"""All six programs killed at any moment, by kill -9, go on to the same weights, numbers and figures.

Each is killed in the middle of its first fit, and at a random moment; `--kills 8` adds seven of these.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from templates import autoencoder, cnn, gan, recurrent, transformer  # noqa: F401 - their layers are in the models
from tests import own_files

ROOT = Path(__file__).parents[2]
# Sample programs take long to judge many samples or compile a search; these are parts of what is computed anyway.
LESS = {
    "text_generation": "from applications.text import evaluation as e\n"
    "e.SAMPLES, e.SAMPLE_TOKENS, e.MOMENT_TOKENS, e.PASSAGE = 3, 40, 20, 60\n",
    "image_classification": "from applications.images import evaluation as e\ne.SHARES = (1.0,)\n",
}
CLOCK = ("timing", "fit_seconds", "seconds", "judge_seconds", "speed", "generated_tokens_per_second")


def table(folder):
    own_files.table(folder / "own.csv")
    return [
        *("--csv", "own.csv", "--label", "fraud", "--epochs", "6", "--seeds", "2", "--widths", "8"),
        *("--code-size", "2"),
    ]


def classification(folder):
    own_files.photographs(folder / "own")
    words = ["--images", "own", "--template", "cnn", "--cnn.filters", "4", "--cnn.convolutions", "1"]
    return [*words, "--cnn.dense", "8", "--quick", "--seeds", "1", "--epochs", "2"]


def synthesis(folder):
    own_files.photographs(folder / "own")
    words = ["--images", "own", "--gan.generator-filters", "8", "8", "--gan.discriminator-filters", "8", "8"]
    return [*words, "--gan.latent", "6", "--quick", "--seeds", "1", "--batch-size", "16", "--epochs", "2"]


def recordings(folder):
    own_files.recordings(folder / "own")
    return [
        *("--timit", "own", "--layers", "1", "--units", "8", "--batch-size", "4", "--seeds", "1"),
        *("--epochs", "6", "--patience", "6", "--no-bidirectional"),
    ]


def dictionary(folder):
    own_files.dictionary(folder / "own.tsv")
    return [
        *("--dictionary", "own.tsv", "--units", "8", "--heads", "2", "--layers", "1", "--dropout", "0"),
        *("--epochs", "6", "--beams", "2", "--batch-size", "32"),
    ]


def text(folder):
    own_files.text(folder / "own.txt")
    return [
        *("--text", "own.txt", "--template", "gru", "--layers", "1", "--units", "16", "--context", "16"),
        *("--batch-size", "8", "--epochs", "6", "--patience", "6"),
    ]


PROGRAMS = {
    "fraud_autoencoder": table,
    "image_classification": classification,
    "image_synthesis": synthesis,
    "speech_tagging": recordings,
    "pronunciation": dictionary,
    "text_generation": text,
}


def start(name, folder, *words):
    code = f"{LESS.get(name, '')}from applications import run, {name}\nrun.execute({name}.main)"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def processor_seconds(process):
    """What a process has used: other than the clock, it doesn't depend on what else the machine does."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return np.inf  # it is over
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(process, fits):
    """The processor time that a process has used when `fits` holds, or when it ends."""
    while True:
        used = processor_seconds(process)
        if process.poll() is not None or fits(used):
            return used
        time.sleep(0.005)


def finish(process):
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said


def left(out):
    """What a run comes to: numbers without the clock's, weights, and the files that have no time in them."""

    def without_clock(value):
        if isinstance(value, dict):
            return {name: without_clock(inner) for name, inner in value.items() if name not in CLOCK}
        return list(map(without_clock, value)) if isinstance(value, list) else value

    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    same = {name: path.read_bytes() for name, path in files.items() if name.startswith(("figures/", "history"))}
    weights = keras.models.load_model(files["model.keras"]).get_weights()
    return sorted(files), same, without_clock(json.loads(files["metrics.json"].read_text())), weights


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor times from /proc")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same(name, tmp_path, request):
    kills = request.config.getoption("--kills")
    words = PROGRAMS[name](tmp_path)
    process, out = start(name, tmp_path, *words, "--out", "whole"), tmp_path / "whole"
    first = wait_for(process, lambda _: (out / "config.json").exists())
    last = wait_for(process, lambda _: (out / "report.pdf").exists())
    finish(process)
    expected = left(tmp_path / "whole")
    moments = np.random.default_rng(sum(map(ord, name))).random(kills - 1)
    # In the first fit; then one moment in each of as many equal parts of the run.
    for number, within in enumerate([None, *moments]):
        out = tmp_path / f"killed-{number}"
        process = start(name, tmp_path, *words, "--out", out.name)
        if within is None:
            moment = wait_for(process, lambda _, out=out: any(out.glob("checkpoints/*.npz")))
        else:
            moment = first + (last - first) * (number - 1 + within) / len(moments)
            wait_for(process, lambda used, moment=moment: used >= moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = {path.name for path in out.rglob("*")}
        print(f"{name}: killed after {moment:.1f} of {last:.1f} s of processor time, when there was {sorted(done)}")
        if "report.pdf" not in done:
            # Killed before it began, a run is begun again.
            resume = ["--resume"] if "config.json" in done else []
            finish(start(name, tmp_path, *words, "--out", out.name, *resume))
            found = left(out)
            assert found[:3] == expected[:3]
            for one, other in zip(found[3], expected[3], strict=True):
                np.testing.assert_array_equal(one, other)

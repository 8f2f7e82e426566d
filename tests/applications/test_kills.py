"""All six programs killed at any moment, by kill -9, go on to the same weights, numbers and figures.

Two moments of each program by default; `pytest tests/applications/test_kills.py --kills 8` for a longer look.
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
import soundfile
from PIL import Image

from templates import autoencoder, cnn, gan, recurrent, transformer  # noqa: F401 - their layers are in the models

ROOT = Path(__file__).parents[2]
# Sample programs take long to judge many samples or compile a search; these are parts of what is computed anyway.
LESS = {
    "text_generation": "from applications.text import evaluation as e\n"
    "e.SAMPLES, e.SAMPLE_TOKENS, e.MOMENT_TOKENS, e.PASSAGE = 3, 40, 20, 60\n",
    "image_classification": "from applications.images import evaluation as e\ne.SHARES = (1.0,)\n",
}
CLOCK = ("timing", "fit_seconds", "seconds", "judge_seconds", "speed", "generated_tokens_per_second")


def table(folder):
    random = np.random.default_rng(0)
    fraud = np.arange(600) % 12 == 0
    amounts = random.normal(size=(600, 3)) + 3 * fraud[:, None]
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{int(y)}" for (a, b, c), y in zip(amounts, fraud, strict=True)]
    (folder / "own.csv").write_text("\n".join(["a,b,c,fraud", *rows]))
    return [
        *("--csv", "own.csv", "--label", "fraud", "--epochs", "6", "--seeds", "2", "--widths", "8"),
        *("--code-size", "2"),
    ]


def photographs(folder):
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (3, 8, 8))
    for index in range(72):
        path = folder / "own" / "abc"[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = 0.7 * patterns[index % 3] + 40 + random.normal(0, 30, (8, 8))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
    return ["--images", "own"]


def classification(folder):
    words = [*photographs(folder), "--template", "cnn", "--cnn.filters", "4", "--cnn.convolutions", "1"]
    return [*words, "--cnn.dense", "8", "--quick", "--seeds", "1", "--epochs", "4"]


def synthesis(folder):
    words = [*photographs(folder), "--gan.generator-filters", "8", "8", "--gan.discriminator-filters", "8", "8"]
    return [*words, "--gan.latent", "6", "--quick", "--seeds", "1", "--batch-size", "16", "--epochs", "6"]


def recordings(folder):
    random = np.random.default_rng(0)
    for speaker in range(6):
        for sentence in range(2):
            path = folder / "own" / ("TEST" if speaker > 3 else "TRAIN") / f"S{speaker}" / f"SX{sentence}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            parts, lines = [], []
            for place in range(6):
                phone, hertz = (("aa", 300), ("iy", 900), ("h#", 0))[random.integers(3)]
                parts.append(
                    0.2 * np.sin(2 * np.pi * hertz * np.arange(2_400) / 16_000) + random.normal(0, 1e-3, 2_400)
                )
                lines.append(f"{2_400 * place} {2_400 * (place + 1)} {phone}\n")
            soundfile.write(path, np.concatenate(parts), 16_000, subtype="PCM_16")
            path.with_suffix(".PHN").write_text("".join(lines))
    return [
        *("--timit", "own", "--layers", "1", "--units", "8", "--batch-size", "4", "--seeds", "1"),
        *("--epochs", "6", "--patience", "6", "--no-bidirectional"),
    ]


def dictionary(folder):
    random = np.random.default_rng(0)
    words = {"".join(random.choice(list("abdeiknost"), random.integers(3, 7))) for _ in range(240)}
    lines = [f"{word}\t{' '.join(letter.upper() for letter in word)}\n" for word in sorted(words)]
    (folder / "own.tsv").write_text("".join(lines))
    return [
        *("--dictionary", "own.tsv", "--units", "8", "--heads", "2", "--layers", "1", "--dropout", "0"),
        *("--epochs", "6", "--beams", "2", "--batch-size", "32"),
    ]


def text(folder):
    random = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "ran"]
    paragraphs = [" ".join(random.choice(words, 40)) + f" {number}.\n\n" for number in range(60)]
    (folder / "own.txt").write_text("".join(paragraphs))
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
    for number, within in enumerate(np.random.default_rng(sum(map(ord, name))).random(kills)):
        # One moment in each of as many equal parts of the run.
        moment = first + (last - first) * (number + within) / kills
        out = tmp_path / f"killed-{number}"
        process = start(name, tmp_path, *words, "--out", out.name)
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

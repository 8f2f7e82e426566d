"""Every command of README runs: with its own words, on small files of the names that it gives."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import pronunciation
from tests import own_files

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(part) for line in "".join(BLOCKS).splitlines() for part in line.split(" && ")]
SMALL = {  # beside --quick, what makes a run of seconds of a command
    "fraud_autoencoder": ["--seeds", "1"],
    "speech_tagging": ["--units", "8", "--epochs", "1"],
    "image_classification": [
        *("--seeds", "1", "--epochs", "1", "--cnn.filters", "4", "--dbn.widths", "16", "--dsn.hidden-units", "20"),
    ],
    "text_generation": ["--units", "16", "--context", "16", "--epochs", "1"],
    "pronunciation": ["--units", "16", "--epochs", "1", "--beams", "2"],
    "image_synthesis": ["--seeds", "1", "--epochs", "1"],
}
PROGRAMS = tuple(SMALL)
SIMULATED = ["--simulation.customers", "400", "--simulation.terminals", "800", "--simulation.radius", "20"]
# What makes the program's own data small, where the user's are not given by a flag.
OWN_DATA = {
    "fraud_autoencoder": ("--csv", SIMULATED),
    "speech_tagging": ("--timit", ["--synthesis.minutes", "3"]),
    "pronunciation": ("--dictionary", ["--share", "0.02", "--test-words", "words.txt"]),
}


def payments(folder):
    own_files.table(
        folder / "creditcard.csv",
        columns=("V1", "V2", "Amount"),
        label="Class",
        extra={"Time": range(0, 600_000, 1_000)},
    )
    days = [f"2024-01-{1 + row // 40:02} 10:00:{row % 60:02}" for row in range(600)]
    cards, notes = [f"c{row % 50}" for row in range(600)], [f"free text {row}" for row in range(600)]
    extra = {"paid_at": days, "card": cards, "note": notes}
    own_files.table(folder / "payments/january.csv", label="is_fraud", extra=extra)
    own_files.table(folder / "paysim.csv", label="isFraud", extra={"step": [row // 2 for row in range(600)]})


def speech(folder):
    own_files.recordings(folder / "TIMIT")
    own_files.recordings(folder / "recordings")
    (folder / "TIMIT/TRAIN/S0/SX0.wav").rename(folder / "talk.wav")
    (folder / "TIMIT/TRAIN/S0/SX0.PHN").unlink()


def digits(folder):
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (10, 8, 8))
    labels = np.arange(200) % 10
    pictures = (0.7 * patterns[labels] + random.integers(0, 60, (200, 8, 8))).astype(np.uint8)
    np.savez(
        folder / "mnist.npz", x_train=pictures[:100], y_train=labels[:100], x_test=pictures[100:], y_test=labels[100:]
    )
    own_files.photographs(folder / "photographs", classes=("cat", "dog", "owl"))


def pictures(folder):
    digits(folder)
    own_files.photographs(folder / "labelled", classes=("cat", "dog", "owl"))
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.full((9, 12), 90, np.uint8)).save(folder / name)


def texts(folder):
    for name in ("novel.txt", "letters/first.txt", "other.txt"):
        own_files.text(folder / name)


def dictionaries(folder):
    for name in ("mine.tsv", "other.dict"):
        own_files.dictionary(folder / name)
    words = pronunciation.load_embedded(share=0.01).splits["test"].spellings[:100]
    (folder / "words.txt").write_text("\n".join(words), encoding="utf-8")


FILES = dict(zip(PROGRAMS, (payments, speech, pictures, texts, dictionaries, digits), strict=True))
# Commands whose model is that of the run that the last of these words began; the others take the first run's.
OF_RUN = {
    ("speech_tagging", "evaluate"): "--timit",
    ("speech_tagging", "tag"): "--timit",
    ("image_classification", "classify"): "--images",
    ("image_classification", "evaluate"): "--images",
    ("text_generation", "evaluate"): "--text",
    ("pronunciation", "evaluate"): "--dictionary",
}


def test_every_command_is_known():
    known = {f"applications/{program}.py" for program in PROGRAMS}
    others = [words for words in COMMANDS if not (words[0] == "python" and words[1] in known)]
    assert {tuple(words[:3]) for words in others} == {
        ("pip", "install", "-e"),
        ("pytest",),
        ("python", "-m", "templates"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_commands_of_a_program_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    served = []
    monkeypatch.setattr("applications.service.serve", lambda folder, *_: served.append(sorted(folder.iterdir())))
    FILES[program](tmp_path)
    module = importlib.import_module(f"applications.{program}")
    commands = [words[2:] for words in COMMANDS if words[:2] == ["python", f"applications/{program}.py"]]
    trainings = [words for words in commands if not words or words[0].startswith("--")]
    runs = []
    for number, words in enumerate(trainings):
        out = f"runs/{program}/{number}"
        flag, smaller = OWN_DATA.get(program, ("", []))
        given = [*SMALL[program], "--quick", "--out", out, *(smaller if flag not in words else [])]
        metrics = module.main([*words, *given])
        assert metrics["application"] == program
        assert Path(out, "report.pdf").read_bytes().startswith(b"%PDF")
        runs.append((words, out))
    for words in commands:
        if words in trainings:
            continue
        flag = OF_RUN.get((program, words[0]))
        run = next(out for given, out in runs if flag is None or flag in given)
        model = [re.sub(rf"^runs/{program}/\.\.\./", f"{run}/", word) for word in words]
        more = SIMULATED if words[0] == "simulate" else []
        module.main([*model, *more])
        if "--out" in words:
            assert Path(words[words.index("--out") + 1]).exists()
    assert len(served) == sum(words[:1] == ["serve"] for words in commands)


@pytest.mark.slow
def test_commands_of_the_templates_run(tmp_path):
    for words in COMMANDS:
        if words[1:3] == ["-m", "templates"]:
            subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.rglob("*.py"))

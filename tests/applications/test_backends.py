"""All six programs on each backend, without the other two; and a model trained on one answers the same on the others.

`docs/backends.md` is the table of what came of it; WRITE_BACKENDS_TABLE=1 writes it, without it a cell that differs
fails.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from applications import exporting
from tests import tables
from tests.applications.test_kills import LESS, PROGRAMS

pytestmark = pytest.mark.slow
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
EXACTNESS = 1e-5
PASSES, SAME = "passes", "within 1e-5"
TABLE = tables.Table(
    "backends.md",
    "program",
    list(PROGRAMS),
    [*(f"on {name}" for name in BACKENDS.values()), *(f"trained on {name}" for name in BACKENDS.values())],
    "WRITE_BACKENDS_TABLE",
)
# The labelled data that each program's `evaluate` measures a model on.
LABELLED = {
    "fraud_autoencoder": ["--csv", "own.csv", "--label", "fraud"],
    "image_classification": ["--images", "own"],
    "image_synthesis": ["--images", "own"],
    "speech_tagging": ["--timit", "own"],
    "pronunciation": ["--dictionary", "own.tsv", "--beams", "2"],
    "text_generation": ["--text", "own.txt"],
}

# No package of another backend is installed, as far as a process of this beginning can tell.
ALONE = """
import importlib, json, os, sys, traceback
from importlib.machinery import PathFinder
from pathlib import Path

backend, others, work = os.environ["KERAS_BACKEND"], json.loads(sys.argv[1]), json.loads(sys.argv[2])

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in others else find(name, *more)
"""
# Trains and evaluates each program in the folder of its data, and leaves there what came of it. And saves a template
# that was trained without a program.
TRAIN = """
for program, (less, words, labelled) in work.items():
    os.chdir(program)
    said = "passes"
    try:
        exec(less)
        main = importlib.import_module(f"applications.{program}").main
        metrics = main([*words, "--quick", "--seeds", "1", "--epochs", "1", "--out", backend])
        assert metrics["backend"] == backend
        measured = main(["evaluate", "--model", f"{backend}/model.keras", *labelled])["metrics"]
        Path(f"{backend}.json").write_text(json.dumps(measured))
    except BaseException as problem:
        traceback.print_exc()
        said = f"{type(problem).__name__}: {' '.join(str(problem).split())[:120]}"
    Path(f"{backend}.txt").write_text(said)
    os.chdir("..")

import numpy as np
from templates import autoencoder

plain = autoencoder.autoencoder(features=3, widths=(), code_size=2)
plain.compile("adam", "mse", jit_compile=False)
plain.train_on_batch(*2 * [np.ones((4, 3), np.float32)])
plain.save(f"{backend}.keras")
plain.compiled = False
scorer = autoencoder.anomaly_scorer(plain, mean=[0] * 3, deviation=[1] * 3, threshold=1)
scorer.save(f"scorer-{backend}.keras")
assert not set(others) & {name.partition(".")[0] for name in sys.modules}
"""
# Answers the same rows with the models that each backend trained; and loads the templates.
ANSWER = """
import keras, numpy as np
from applications import run
from templates import autoencoder
from tests.fresh import draw

def rows(tensor):
    return (255 if tensor.name == "pictures" else 1) * draw(4, 6, tensor)

for program in work:
    for origin in {backend, *others}:
        model = run.load_model(Path(program, origin, "model.keras"), lambda model: None)
        network = getattr(model, "average", model)  # of a GAN, the generator
        answers = network.predict_on_batch(keras.tree.map_structure(rows, network.input))
        np.savez(f"{program}/{origin}-on-{backend}.npz", *keras.tree.flatten(answers))

loadable = {}
for origin in {backend, *others}:
    keras.saving.load_model(f"scorer-{origin}.keras")
    keras.saving.load_model(f"{origin}.keras", compile=False)
    try:
        keras.saving.load_model(f"{origin}.keras")
        loadable[origin] = True
    except TypeError:
        loadable[origin] = False
Path(f"{backend}.json").write_text(json.dumps(loadable))
"""


def alone(backend, code, work, folder):
    """Run code in a process that has one backend alone."""
    others = json.dumps([name for name in BACKENDS if name != backend])
    command = [sys.executable, "-c", ALONE + code, others, json.dumps(work)]
    # One thread: those of PyTorch stall when others share the cores.
    environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder for each program, with its data and the run of each backend, named as the backend."""
    folder = tmp_path_factory.mktemp("backends")
    work = {}
    for program, words in PROGRAMS.items():
        (folder / program).mkdir()
        work[program] = LESS.get(program, ""), words(folder / program), LABELLED[program]
    for backend in BACKENDS:
        alone(backend, TRAIN, work, folder)
    return folder


@pytest.fixture(scope="module")
def answered(trained):
    """The same folder, once each backend has answered with the models of all of them."""
    for backend in BACKENDS:
        alone(backend, ANSWER, list(PROGRAMS), trained)
    return trained


@pytest.fixture(scope="module")
def cells():
    """The cells measured so far, which the last test compares with the table."""
    return {}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_trains_and_evaluates(program, backend, trained, cells):
    cell = cells[program, f"on {BACKENDS[backend]}"] = (trained / program / f"{backend}.txt").read_text()
    assert cell == PASSES
    measured = json.loads((trained / program / f"{backend}.json").read_text())
    numbers = [value["value"] if isinstance(value, dict) else value for value in measured.values()]
    assert numbers and np.isfinite(numbers).all()


@pytest.mark.parametrize("origin", BACKENDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_model_answers_the_same_on_each_backend(program, origin, answered, cells):
    def answers(backend):
        with np.load(answered / program / f"{origin}-on-{backend}.npz") as kept:
            return dict(kept)

    own = answers(origin)
    largest = max(exporting.difference(own, answers(backend)) for backend in BACKENDS if backend != origin)
    print(f"{program}, trained on {origin}: {largest:.1e}")
    cells[program, f"trained on {BACKENDS[origin]}"] = SAME if largest <= EXACTNESS else "differs"
    assert largest <= EXACTNESS


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_keras_saves_on_torch_needs_torch_unless_it_is_not_compiled(backend, answered):
    # Where this fails, Keras no longer writes the names of its own classes: README and applications/run.py mend that.
    loadable = json.loads((answered / f"{backend}.json").read_text())
    assert loadable == {origin: origin != "torch" or backend == "torch" for origin in BACKENDS}


def test_the_table_is_what_was_measured(cells):
    TABLE.settle(cells)

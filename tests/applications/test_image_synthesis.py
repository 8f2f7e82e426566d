import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from scipy import linalg, ndimage
from sklearn.decomposition import PCA

from applications import classifiers, image_synthesis, run
from applications.classifiers import Pictures
from applications.image_synthesis import Train, main
from applications.synthesis import evaluation as synthesis_evaluation
from applications.synthesis import models, preprocess
from data.dataset import BadInput
from data.images import load as image_load
from reports.synthesis import nearest, within
from templates import gan as template

CLASSES = 3
SMALL = ("--gan.generator-filters", "8", "8", "--gan.discriminator-filters", "8", "8", "--gan.latent", "6")
TINY = (*SMALL, "--quick", "--seeds", "1", "--batch-size", "20")
FIGURES = {"samples", "interpolations", "copies", "moments", "training", "measures", "network"}


def noise(this_run, task, settings, dataset):
    """The only baseline of lean runs."""
    pictures = np.random.default_rng(0).random((len(task.test), 8, 8, 1), np.float32)
    return {"noise": ([pictures] * settings.seeds, 1.0, "", 0)}


@pytest.fixture
def lean(monkeypatch):
    """A judge of one epoch, one baseline, no classifier of generated pictures, no figures."""
    monkeypatch.setitem(classifiers.RECIPES["small cnn"], "epochs", 1)
    monkeypatch.setattr(synthesis_evaluation, "baselines", noise)
    monkeypatch.setattr(synthesis_evaluation, "draw", lambda *_: {"figures": {}})
    monkeypatch.setattr(image_synthesis, "_classification", lambda *_: 0.5)


def pictures(number, part):
    """Pictures (number, 8, 8) of three classes, bright in another third each, and labels."""
    random = np.random.default_rng(sum(map(ord, part)))
    labels = np.arange(number) % CLASSES
    found = random.normal(60, 25, (number, 8, 8))
    for label in range(CLASSES):
        found[labels == label, :, 3 * label : 3 * label + 2] += 120
    return np.clip(found, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "own.npz"
    x_train, y_train = pictures(120, "train")
    x_test, y_test = pictures(60, "test")
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="module")
def own(npz, tmp_path_factory):
    """A whole run."""
    out = tmp_path_factory.mktemp("own") / "run"
    return out, main(["--npz", str(npz), *TINY, "--epochs", "2", "--out", str(out)])


# --- The run ---


@pytest.mark.slow
def test_run_leaves_what_it_promises(own, assert_schema, assert_pdf):
    out, metrics = own
    assert {path.name for path in out.iterdir()} == {
        *("report.pdf", "metrics.json", "history.csv", "model.keras", "judge.keras", "config.json", "figures")
    }
    assert {path.stem for path in (out / "figures").iterdir()} == FIGURES
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert_schema(metrics, synthesis_evaluation.Metrics)
    assert set(metrics["figures"]) == FIGURES
    assert metrics["application"] == "image_synthesis"
    assert metrics["headline"]["model"] == "conditional GAN"
    assert [(result["model"], result["baseline"]) for result in metrics["results"]] == [
        *(("conditional GAN", False), ("kernel density", True), ("Gaussian mixture", True)),
        ("deep belief network", True),
    ]
    assert metrics["data"]["train"] + metrics["data"]["validation"] == 120
    assert metrics["timing"]["total_seconds"] > metrics["timing"]["fit_seconds"] > 0
    headings = (
        "Results",
        "Generated images",
        "Classes",
        "Training",
        "Data",
        "Model",
        "Limitations",
        "Reproducing this run",
    )
    said = assert_pdf(out / "report.pdf", headings, pages=(3, 6))
    assert f"{metrics['headline']['value']:.2f}" in said
    assert "python applications/image_synthesis.py --npz" in said
    history = (out / "history.csv").read_text().splitlines()
    assert "frechet_distance" in history[0]
    assert [line.split(",")[0] for line in history[1:]] == ["judge", "judge", *["conditional_gan-0"] * 2]


@pytest.mark.slow
def test_measures_follow_from_the_saved_models(own, npz):
    out, metrics = own
    with np.load(npz) as arrays:
        known, real, labels = arrays["x_train"] / 255, arrays["x_test"] / 255, arrays["y_test"]
    judge: Any = keras.models.load_model(out / "judge.keras")
    features = keras.Model(judge.input, [judge.get_layer("dense_1").output, judge.output])
    drawn = template.generate(keras.models.load_model(out / "model.keras"), 60, labels=labels, seed=0)
    (of_real, said_real), (of_drawn, said) = (
        map(np.asarray, features(part.reshape(-1, 8, 8, 1).astype("float32"), training=False)) for part in (real, drawn)
    )
    means = of_real.mean(0) - of_drawn.mean(0)
    first, second = (np.cov(part.astype(np.float64), rowvar=False) for part in (of_real, of_drawn))
    common = np.sqrt(linalg.eigvals(first @ second).real.clip(0)).sum()
    expected = {
        "frechet_distance": means @ means + np.trace(first + second) - 2 * common,
        "precision": within(of_drawn, of_real).mean(),
        "recall": within(of_real, of_drawn).mean(),
        "conditional_accuracy": (said.argmax(1) == labels).mean(),
        "rarest": np.bincount(said.argmax(1), minlength=3).min() / 20,
        "copied": (nearest(drawn, known)[0] <= np.quantile(nearest(real, known)[0], 0.01)).mean(),
    }
    found = metrics["results"][0]["metrics"]
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert metrics["evaluation"]["judge_accuracy"] == pytest.approx((said_real.argmax(1) == labels).mean())
    groups = metrics["by_class"]
    assert groups["share"] == pytest.approx((np.bincount(said.argmax(1), minlength=3) / 60).tolist())
    assert np.mean(groups["recognised"]) == pytest.approx(expected["conditional_accuracy"])


@pytest.mark.slow
def test_evaluate_measures_the_same_again(own, npz, capsys):
    out, metrics = own
    found = main(["evaluate", "--model", str(out / "model.keras"), "--npz", str(npz)])["metrics"]
    for name, value in found.items():
        assert value == pytest.approx(metrics["results"][0]["metrics"][name]["value"], rel=1e-5)
    printed = capsys.readouterr().out
    assert "60 real images" in printed
    assert f"{found['frechet_distance']:.4f}" in printed


@pytest.mark.slow
def test_generate_writes_a_grid_of_what_was_asked_for(own, tmp_path):
    model = str(own[0] / "model.keras")
    found = main(["generate", "--model", model, "--class", "1", "--count", "5", "--out", str(tmp_path / "a.png")])
    assert set(found["labels"]) == {1}
    with Image.open(tmp_path / "a.png") as image:
        grid = np.asarray(image)
    assert grid.shape == (2 * 10 - 2, 3 * 10 - 2)
    np.testing.assert_array_equal(grid[10:, 10:18], models.unscaled(found["pictures"])[4, ..., 0])
    assert (grid[10:, 20:] == 255).all()  # no sixth
    again = main(["generate", "--model", model, "--count", "5", "--seed", "3", "--out", str(tmp_path / "b.png")])
    np.testing.assert_array_equal(again["labels"], [0, 1, 2, 0, 1])
    assert (again["pictures"] != found["pictures"]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "7", "--out", "a.png"], "--class: found '7', expected one of 0, 1, 2"),
        (["--out", "a.jpg"], "--out a.jpg: found no .png at its end"),
        (["--seed", "-1", "--out", "a.png"], "--seed: found -1"),
        (["--out", "."], "--out .: found an existing file"),
    ],
)
def test_what_cannot_be_generated(own, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as raised:
        main(["generate", "--model", str(own[0] / "model.keras"), *words])
    assert said in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_report_again_gives_the_same_bytes(own):
    out, _ = own
    before = (out / "report.pdf").read_bytes()
    main(["report", "--run", str(out)])
    assert (out / "report.pdf").read_bytes() == before


@pytest.mark.slow
def test_without_classes_pictures_alone_are_learnt(npz, tmp_path, lean):
    out = tmp_path / "run"
    metrics = main(["--npz", str(npz), "--template", "gan", *TINY, "--epochs", "1", "--out", str(out)])
    assert metrics["headline"]["model"] == "GAN"
    assert not metrics["results"][0]["uses_labels"]
    assert "conditional_accuracy" not in metrics["results"][0]["metrics"]
    assert metrics["by_class"]["recognised"] == []
    with pytest.raises(BadInput, match="--class: found '1', expected none, since the model isn't conditional"):
        main(["generate", "--model", str(out / "model.keras"), "--class", "1", "--out", str(tmp_path / "a.png")])


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A folder of pictures without classes."""
    folder = tmp_path_factory.mktemp("flat")
    for number, picture in enumerate(pictures(30, "train")[0]):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_pictures_without_classes_are_learnt_compared_and_drawn(
    flat, tmp_path, monkeypatch, capsys, assert_schema, pdf_text
):
    monkeypatch.setattr(synthesis_evaluation, "GIBBS_STEPS", 20)
    out = tmp_path / "run"
    # The batches of the recipe are larger than the 24 pictures that are trained on.
    metrics = main(["--images", str(flat), "--template", "gan", *SMALL, "--quick", "--seeds", "2", "--out", str(out)])
    assert "principal components of the training images" in capsys.readouterr().out
    assert (metrics["by_class"], metrics["evaluation"]["judge_accuracy"]) == (None, None)
    assert metrics["settings"]["batch_size"] == 24
    assert set(metrics["results"][0]["metrics"]) == {"frechet_distance", "precision", "recall", "copied"}
    assert {path.stem for path in (out / "figures").iterdir()} == FIGURES
    assert_schema(metrics, synthesis_evaluation.Metrics)
    said = pdf_text(out / "report.pdf")
    assert "principal components" in said
    assert "need no classes" in said
    # The same network measures the saved model, whatever folders the pictures lie in.
    kept = keras.models.load_model(out / "judge.keras")
    assert kept.output_shape == (None, metrics["evaluation"]["features"])
    found = main(["evaluate", "--model", str(out / "model.keras"), "--images", str(flat)])["metrics"]
    assert set(found) == {"frechet_distance", "precision", "recall"}
    drawn = main(["generate", "--model", str(out / "model.keras"), "--out", str(tmp_path / "a.png"), "--count", "5"])
    assert drawn["pictures"].shape == (5, 8, 8, 1)


@pytest.mark.parametrize("inside", ["", "one class"])
def test_a_conditional_model_of_pictures_without_classes_names_the_other(inside, tmp_path):
    folder = tmp_path / "own" / inside
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(30, "train")[0]):
        Image.fromarray(picture).save(folder / f"{number}.png")
    with pytest.raises(BadInput, match=r"found images without classes, .* or --template gan, which needs none"):
        main(["--images", str(tmp_path / "own"), *TINY, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_distances_in_components_rank_what_is_done_to_pictures():
    digits = image_load("digits").splits
    pool = Pictures(digits["train"].inputs, digits["train"].labels)
    net, variance = models.components(pool)
    judge = models.Judge(net)
    flat = models.scaled(pool.inputs).reshape(len(pool), -1)
    expected = PCA(64, svd_solver="full").fit(flat)
    features, probabilities = judge(models.scaled(pool.inputs))
    np.testing.assert_allclose(np.abs(features), np.abs(expected.transform(flat)), atol=1e-4)
    assert variance == pytest.approx(1)
    assert probabilities.shape == (718, 1)
    random, real = np.random.default_rng(0), models.scaled(pool.inputs)
    test = judge(models.scaled(digits["test"].inputs))[0]

    def distance(pictures):
        return synthesis_evaluation.likeness(test, judge(pictures.astype(np.float32))[0])["frechet_distance"]

    def blurred(width):
        return ndimage.gaussian_filter(real, (0, width, width, 0))

    def noisy(size):
        return np.clip(real + random.normal(0, size, real.shape), 0, 1)

    mixed = [share * real + (1 - share) * real[::-1] for share in (0.9, 0.7)]
    other = (1 - real, random.permuted(real.reshape(718, -1), axis=1).reshape(real.shape), real[pool.labels == 3])
    for done in ([blurred(0.5), blurred(1)], [noisy(0.1), noisy(0.3)], mixed):
        found = [distance(pictures) for pictures in (real, *done, *other)]
        assert found[:3] == sorted(found[:3])
        assert max(found[:3]) < min(found[3:])


@pytest.mark.slow
def test_a_collapse_ends_the_training(npz, tmp_path, lean, monkeypatch):
    monkeypatch.setattr(models, "COLLAPSED", 2.0)  # every recall is below
    monkeypatch.setattr(models, "ROUNDS", 4)
    words = ["--npz", str(npz), *SMALL, "--batch-size", "20", "--epochs", "4", "--seeds", "1"]
    metrics = main([*words, "--out", str(tmp_path / "run")])
    of_seed = metrics["training"][0]
    assert (of_seed["rounds"], of_seed["done"], of_seed["collapsed"], of_seed["diverged"]) == (4, 3, True, False)
    assert of_seed["best"] <= 3


# --- Parts ---


def test_a_round_goes_on_in_an_order_of_all_pictures():
    batches_of = models._rounds(lambda rows: rows, 10, batch_size=3, steps=7, seed=5)
    rounds = [list(batches_of(number)) for number in range(3)]
    assert [len(batches) for batches in rounds] == [7, 7, 7]
    for batches in rounds:
        for start in (0, 3):  # three batches are a pass, of which one picture is left out
            assert len(set(np.concatenate(batches[start : start + 3]))) == 9
    assert not np.array_equal(rounds[0], rounds[1])
    for number in (2, 0):  # whichever came before
        np.testing.assert_array_equal(list(batches_of(number)), rounds[number])


def test_means_over_seeds_have_students_interval_within_bounds():
    found = synthesis_evaluation.over_seeds([1.0, 2.0, 6.0])
    # Of two degrees of freedom the quantile is 4.303.
    reach = 4.302653 * np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert found["value"] == pytest.approx(3)
    assert (found["low"], found["high"]) == (0.0, pytest.approx(3 + reach))
    assert found["seeds"] == [1.0, 2.0, 6.0]
    assert synthesis_evaluation.over_seeds([0.7, 0.9], 1.0)["high"] == 1.0
    alone = synthesis_evaluation.over_seeds([0.7])
    assert alone == {"value": 0.7, "low": 0.7, "high": 0.7, "seeds": [0.7], "deviation": 0.0}


def test_pictures_keep_their_values():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(models.unscaled(models.scaled(values)), values)
    np.testing.assert_array_equal(models.unscaled(np.array([-0.1, 1.2])), [0, 255])


def test_colours_and_grey_make_a_grid():
    shown = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    grid = preprocess.grid(shown)
    assert grid.shape == (10, 12, 3)
    np.testing.assert_array_equal(grid[:4, 7:], shown[1])
    np.testing.assert_array_equal(preprocess.grid(shown[:1, ..., :1]), shown[0, ..., :1])


# --- Bad input ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--npz", "none.npz"], "none.npz: found no such file"),
        (["--npz", "a.npz", "--idx", "b"], "found --npz and --idx, expected one source of images"),
        (["--size", "8"], "found --size or --skip-bad without --images"),
        (["--gan.label-smoothing", "0.1"], "--gan.label-smoothing: found it with the loss hinge"),
        (["--batch-size", "899"], "--batch-size: found 899 with 898 training images, expected at most as many"),
        (["--init-from", "none.keras"], "none.keras: found no such file"),
    ],
)
def test_bad_words_are_named(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as raised:
        main([*words, "--out", "run"])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_class_without_training_pictures_is_named():
    pool = Pictures(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2)
    settings = image_synthesis.Train(batch_size=20)
    models.check_pictures(pool, 2, ("cat", "dog"), settings)
    with pytest.raises(BadInput, match="found no training image of the class 'owl', expected one or more of each"):
        models.check_pictures(pool, 2, ("cat", "dog", "owl"), settings)
    with pytest.raises(BadInput, match="found 40 training images and 1 to compare with, expected 2 or more"):
        models.check_pictures(pool, 1, ("cat", "dog"), settings)


@pytest.mark.slow
def test_other_models_are_refused(own, tmp_path):
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    net.save(tmp_path / "net.keras")
    with pytest.raises(BadInput, match=r"net\.keras: found another model"):
        main(["generate", "--model", str(tmp_path / "net.keras"), "--out", str(tmp_path / "a.png")])
    model = own[0] / "model.keras"
    (tmp_path / "alone.keras").write_bytes(model.read_bytes())
    with pytest.raises(BadInput, match=r"judge\.keras: found no such file"):
        main(["evaluate", "--model", str(tmp_path / "alone.keras"), "--npz", "own.npz"])
    assert run.model_notes(Path(model))["classes"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("pictures", "asked", "epochs"), [(898, None, 100), (50_000, None, 2), (10**6, None, 1), (898, 7, 7), (9, 7, 7)]
)
def test_recipe_shows_a_number_of_pictures(pictures, asked, epochs):
    settings = models.with_recipe(Train(epochs=asked, learning_rate=0.5), pictures)
    assert (settings.epochs, settings.learning_rate, settings.batch_size) == (epochs, 0.5, min(pictures, 32))


@pytest.mark.parametrize(
    ("pictures", "epochs", "quick", "rounds"), [(40, 1, False, 5), (40, 9, False, 12), (40, 9, True, 2)]
)
def test_a_training_has_parts_of_equal_size_however_few_its_epochs(pictures, epochs, quick, rounds):
    pool = Pictures(np.zeros((pictures, 8, 8, 1), np.uint8), np.arange(pictures) % CLASSES)
    choices = models.Gan(generator_filters=(4,), discriminator_filters=(4,), latent=2)
    settings = models.with_recipe(Train(epochs=epochs, batch_size=8, quick=quick, gan=choices), len(pool))
    judge: Any = None
    trainer = models.Trainer(settings, 0, pool, ("a", "b", "c"), judge, None)
    assert trainer.rounds == rounds
    assert trainer.steps == pictures * epochs // rounds // 8

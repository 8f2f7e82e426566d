import json
import re
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

from applications.fraud import evaluation as fraud_evaluation
from applications.fraud_autoencoder import Detector, TimeUnit, Train, alert_rate, completed, main, sized
from data import table
from data.dataset import BadInput, Split
from data.values import UNITS
from templates import autoencoder as template

ROOT = Path(__file__).parents[2]
# The smallest world in which each week has frauds.
SMALL = (
    *("--simulation.customers", "400", "--simulation.terminals", "400", "--simulation.radius", "10"),
    *("--epochs", "3", "--seeds", "2", "--widths", "16", "--code-size", "4", "--alerts-per-day", "20"),
)


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fraud") / "run"
    return folder, main([*SMALL, "--out", str(folder)])


@pytest.fixture(scope="session")
def own_table(tmp_path_factory):
    """A table in the form of the public creditcard.csv, small."""
    path = tmp_path_factory.mktemp("own") / "creditcard.csv"
    creditcard(rows=3_000, frauds=60).to_csv(path, index=False)
    return path


def creditcard(rows, frauds):
    random = np.random.default_rng(0)
    fraud = np.zeros(rows, int)
    fraud[random.choice(rows, frauds, replace=False)] = 1
    spread = np.linspace(2, 0.3, 28)
    values = random.normal(size=(rows, 28)) * spread
    values[fraud == 1] += random.normal(size=28) * 3 * spread
    frame = pd.DataFrame(values, columns=[f"V{i}" for i in range(1, 29)])
    frame.insert(0, "Time", np.sort(random.integers(0, 172_793, rows)).astype(float))
    frame["Amount"] = np.round(np.exp(random.normal(3, 1.2, rows)), 2)
    frame["Class"] = fraud
    return frame


def without_time(metrics):
    return {name: value for name, value in metrics.items() if name != "timing"}


def program(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "applications" / "fraud_autoencoder.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


# --- A run ---


def test_run_leaves_what_it_promises(quick):
    folder, metrics = quick
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "figures", "history.csv", "metrics.json", "model.keras", "report.pdf")
    ]
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    history = pd.read_csv(folder / "history.csv")
    assert history.groupby("stage")["epoch"].max().to_dict() == {
        "selection": 3,
        "seed 0": metrics["model"]["epochs"],
        "seed 1": metrics["model"]["epochs"],
    }


def test_metrics_have_their_schema(quick, assert_schema):
    _, metrics = quick
    assert_schema(metrics, fraud_evaluation.Metrics)
    assert [result["model"] for result in metrics["results"]] == [
        *("autoencoder", "isolation forest", "PCA reconstruction", "logistic regression", "random forest")
    ]
    for result in metrics["results"]:
        assert list(result["metrics"]) == [
            *("auc_roc", "average_precision", "recall_at_budget", "card_precision_at_100")
        ]
        for value in result["metrics"].values():
            assert 0 <= value["low"] <= value["high"] <= 1
            assert value["value"] == pytest.approx(np.mean(value["seeds"]))
    assert len(metrics["results"][0]["metrics"]["auc_roc"]["seeds"]) == 2


def test_the_report_of_an_older_run_is_refused_in_one_line(quick, tmp_path):
    _, metrics = quick
    older = {key: value for key, value in metrics.items() if key not in ("schema", "figures")}
    for found, said in ((older, "found schema none, expected 2"), (older | {"schema": 2}, "found other contents")):
        (tmp_path / "metrics.json").write_text(json.dumps(found))
        with pytest.raises(BadInput, match=said) as refusal:
            main(["report", "--run", str(tmp_path)])
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "report.pdf").exists()


def test_same_seed_gives_the_same_numbers(quick, tmp_path):
    _, metrics = quick
    again = main([*SMALL, "--out", str(tmp_path / "again")])
    assert without_time(again) == without_time(metrics)
    assert again["timing"] != metrics["timing"]


def test_another_seed_gives_other_models_on_the_same_data(quick, tmp_path):
    _, metrics = quick
    other = main([*SMALL, "--seed", "7", "--out", str(tmp_path / "other")])
    assert other["data"] == metrics["data"]
    assert other["headline"] != metrics["headline"]


def test_saved_model_holds_scaling_threshold_and_columns(quick):
    folder, metrics = quick
    scorer = keras.models.load_model(folder / "model.keras")
    layer = scorer.get_layer("anomaly_score")
    assert layer.threshold == metrics["threshold"]["value"]
    assert table.Encoder.from_config(layer.metadata["encoder"]).feature_names == tuple(metrics["data"]["features"])
    for entry in metrics["alerts"]["highest"]:
        found = fraud_evaluation.outputs(scorer, np.array([list(entry["values"].values())], np.float32))
        assert found["score"][0] == pytest.approx(entry["score"], rel=1e-5)
        assert found["alert"][0] == 1
        np.testing.assert_allclose(found["share"][0], list(entry["shares"].values()), atol=1e-5)


def test_scaling_is_fitted_on_the_genuine_training_rows_alone():
    random = np.random.default_rng(0)
    inputs = random.normal(3, 2, (500, 4)).astype(np.float32)
    labels = (np.arange(500) % 10 == 0).astype(np.int8)
    inputs[labels == 1] += 100
    genuine = Detector(sized(completed(Train()), 450), Split(inputs, labels), 0, None)
    np.testing.assert_allclose(genuine.mean, inputs[labels == 0].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(genuine.scale, inputs[labels == 0].std(axis=0), rtol=1e-5)
    everything = Detector(sized(completed(Train(unlabelled=True)), 500), Split(inputs, labels), 0, None)
    np.testing.assert_allclose(everything.mean, inputs.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(9, 20), (25_855, 20), (25_856, 20), (42_600, 13), (43_000, 12), (10**6, 12)]
)
def test_a_small_table_gets_as_many_steps_as_a_larger_one(rows, epochs):
    settings = sized(completed(Train()), rows)
    assert (settings.batch_size, settings.epochs) == (256, epochs)
    assert settings.epochs * max(rows // 256, 100) >= 2_000
    assert sized(completed(Train(epochs=3)), rows).epochs == 3
    assert sized(completed(Train(quick=True)), rows).epochs == 2
    split = Split(np.zeros((min(rows, 500), 2), np.float32), np.zeros(min(rows, 500), np.int8))
    assert Detector(settings, split, 0, None).steps == 100
    assert Detector(sized(completed(Train(quick=True)), rows), split, 0, None).steps == 1


def test_the_codes_drawn_are_those_of_the_network(tmp_path, monkeypatch):
    # Far from 0 beside their spread, so that rows that are not centred have other codes.
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal((50, -300, 7), (1, 20, 3), (400, 3)), columns=["a", "b", "c"])
    frame["y"] = (np.arange(400) % 10 == 0).astype(int)
    frame.to_csv(tmp_path / "far.csv", index=False)
    drawn = []
    scatter = fraud_evaluation.figures.scatter
    monkeypatch.setattr(
        fraud_evaluation.figures, "scatter", lambda points, *a, **k: drawn.append(points) or scatter(points, *a, **k)
    )
    words = ["--csv", str(tmp_path / "far.csv"), "--label", "y", "--epochs", "1", "--seeds", "1"]
    main([*words, "--code-size", "2", "--out", str(tmp_path / "run")])
    splits = table.load([tmp_path / "far.csv"], label="y")[0].splits
    genuine = splits["train"].inputs[splits["train"].labels == 0].astype(np.float64)
    encoder = keras.models.load_model(tmp_path / "run" / "model.keras").get_layer("autoencoder").get_layer("encoder")
    rows = (splits["test"].inputs - genuine.mean(axis=0)) / genuine.std(axis=0)
    np.testing.assert_allclose(drawn[0], encoder(rows.astype(np.float32)), atol=1e-3)


# --- The report ---


def test_report_says_every_result(quick, assert_pdf):
    folder, metrics = quick
    headings = ("Results", "Scores and the alert budget", "Alerts and missed frauds", "Data", "Model and training")
    text = assert_pdf(folder / "report.pdf", [*headings, "Limitations", "Reproducing this run"], pages=(4, 8))
    for result in metrics["results"]:
        for value in result["metrics"].values():
            assert f"{value['value']:.3f}" in text
            assert f"{value['low']:.3f} to {value['high']:.3f}" in text


def test_report_typeset_again_has_the_same_bytes(quick):
    folder, _ = quick
    before = (folder / "report.pdf").read_bytes()
    time.sleep(1.1)  # the clock of the second rendering must not show
    main(["report", "--run", str(folder)])
    assert (folder / "report.pdf").read_bytes() == before


def test_shuffled_labels_are_told_from_a_find(own_table, tmp_path, pdf_text):
    frame = pd.read_csv(own_table)
    frame["Class"] = np.random.default_rng(1).permutation(frame["Class"])
    frame.to_csv(tmp_path / "shuffled.csv", index=False)
    words = ["--label", "Class", "--time", "Time", "--epochs", "2", "--seeds", "1"]
    shuffled = main(["--csv", str(tmp_path / "shuffled.csv"), *words, "--out", str(tmp_path / "a")])
    assert shuffled["results"][0]["metrics"]["auc_roc"]["low"] <= 0.5
    assert "does not detect fraud" in pdf_text(tmp_path / "a" / "report.pdf")
    true = main(["--csv", str(own_table), *words, "--out", str(tmp_path / "b")])
    assert "does not detect fraud" not in pdf_text(tmp_path / "b" / "report.pdf")
    assert true["results"][0]["metrics"]["auc_roc"]["value"] > 0.9
    assert "card_precision_at_100" not in true["results"][0]["metrics"]


# --- Choices ---


def test_each_rule_sets_the_rate_of_alerts():
    # Ten payments a day for two days; frauds have the scores 20, 19, 15 and 3 of 20.
    scores = np.arange(1.0, 21)
    labels = np.isin(scores, [20, 19, 15, 3]).astype(np.int8)
    split = Split(np.zeros((20, 1), np.float32), labels, {"time": np.linspace(0, 2 * 86_400, 20)})

    def rate(**rules):
        return alert_rate(Train(**rules), split, scores)[0]

    assert rate(alerts_per_day=3) == pytest.approx(6 / 20)
    # A quarter of the 16 genuine payments, those with 18, 17, 16 and 14, lie above the threshold, with three frauds.
    assert rate(false_positive_rate=0.25) == pytest.approx(7 / 20)
    # Cost with k alerts: ratio × missed + false. At 1 two alerts cost 2; at 4 the third fraud is worth 3 false alerts;
    # at 20 the last is worth all that lies between.
    assert rate(cost_ratio=1) == pytest.approx(2 / 20)
    assert rate(cost_ratio=4) == pytest.approx(6 / 20)
    assert rate(cost_ratio=20) == pytest.approx(18 / 20)


def few_payments(path, per_day, rows=300):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"when": np.arange(rows) * 86_400 // per_day, "x": random.normal(size=rows)})
    frame["y"] = (np.arange(rows) % 15 == 0).astype(int)
    frame.to_csv(path, index=False)
    return ["--csv", str(path), "--label", "y", "--time", "when", "--epochs", "1", "--seeds", "1"]


def test_the_default_budget_gives_way_where_there_are_few_payments_a_day(tmp_path, capsys, pdf_text):
    words = few_payments(tmp_path / "few.csv", per_day=65)
    metrics = main([*words, "--out", str(tmp_path / "run")])
    rule = "1\u00a0% of the genuine payments may raise an alert, since 100 alerts per day, the default of "
    assert metrics["threshold"]["rule"].startswith(f"{rule}--alerts-per-day, are too many for 66 payments per day")
    printed = capsys.readouterr().out
    assert printed.index(rule.replace("\u00a0", " ")) < printed.index("seed 0")
    assert rule.replace("\u00a0", " ") in pdf_text(tmp_path / "run" / "report.pdf")


def test_a_budget_that_cannot_be_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(Detector, "fit", interrupt)
    words = few_payments(tmp_path / "few.csv", per_day=65)
    with pytest.raises(BadInput, match="--alerts-per-day: found 100, expected fewer than the 66 payments per day"):
        main([*words, "--alerts-per-day", "100", "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "days", "rules", "expected"),
    [
        (1_000, 2, {}, 0.2),  # 500 payments a day
        (1_000, 2, {"alerts_per_day": 450}, 0.9),  # asked for, it may be many
        (1_000, 8, {}, 0.01),  # 125 a day, of which 100 are most
        (1_000, 0, {}, 0.01),  # all at once, in which time there's no alert
        (1_000, 8, {"false_positive_rate": 0.05}, 0.05),
    ],
)
def test_the_share_of_alerts_follows_the_payments_a_day(rows, days, rules, expected):
    split = Split(
        np.zeros((rows, 1), np.float32), np.zeros(rows, np.int8), {"time": np.linspace(0, days * 86_400, rows)}
    )
    assert alert_rate(Train(**rules), split, np.arange(float(rows)))[0] == pytest.approx(expected)


def test_equal_scores_that_break_the_rule_are_said():
    split = Split(np.zeros((100, 1), np.float32), np.zeros(100, np.int8))
    rate, rule = alert_rate(Train(), split, np.ones(100))
    assert (rate, rule) == (
        1,
        "1\u00a0% of the genuine payments may raise an alert; 100\u00a0% do, since their scores are equal",
    )


def test_alerts_a_day_count_the_hours_that_the_data_cover():
    # Nine hours across midnight are three eighths of a day, not two days.
    time = 86_400 + np.linspace(-4.5, 4.5, 1_000) * 3_600
    labels = np.zeros(1_000, np.int8)
    split = Split(np.zeros((1_000, 1), np.float32), labels, {"time": time, "day": (time // 86_400).astype(np.int32)})
    assert alert_rate(Train(alerts_per_day=80), split, np.arange(1_000.0))[0] == pytest.approx(80 * 9 / 24 / 1_000)


def test_threshold_lets_ties_alert_together():
    scores = np.array([1, 2, 2, 2, 1], np.float32)
    assert (scores > fraud_evaluation.threshold_of(scores, 0.2)).tolist() == [False, True, True, True, False]
    assert (scores > fraud_evaluation.threshold_of(scores, 1e-9)).sum() == 3
    distinct = np.random.default_rng(0).random(1_000).astype(np.float32)
    assert (distinct > fraud_evaluation.threshold_of(distinct, 0.123)).sum() == 123


@pytest.mark.parametrize(
    "inputs",
    [
        lambda random, fraud: {"only": random.normal(size=600) + 3 * fraud},
        lambda random, fraud: {"kind": np.where(fraud, "c", np.array(["a", "b"])[random.integers(0, 2, 600)])},
        lambda random, fraud: {"tiny": 1e-9 * (random.normal(size=600) + 5 * fraud), "other": random.normal(size=600)},
    ],
    ids=["one feature", "ties", "tiny numbers"],
)
def test_odd_tables_run_to_the_end(inputs, tmp_path):
    random = np.random.default_rng(0)
    fraud = np.arange(600) % 12 == 0
    pd.DataFrame({**inputs(random, fraud), "y": fraud.astype(int)}).to_csv(tmp_path / "odd.csv", index=False)
    words = ["--csv", str(tmp_path / "odd.csv"), "--label", "y", "--epochs", "1", "--seeds", "1", "--code-size", "1"]
    metrics = main([*words, "--out", str(tmp_path / "run")])
    assert metrics["threshold"]["budgets"][0]["validation"]["alerts"] > 0
    assert all(0 <= result["metrics"]["auc_roc"]["value"] <= 1 for result in metrics["results"])


def test_a_collapsed_code_is_reported(own_table, tmp_path):
    words = ["--csv", str(own_table), "--label", "Class", "--epochs", "1", "--seeds", "1", "--code-size", "3"]
    words += [
        "--code-activation",
        "relu",
        "--code-penalty",
        "1e4",
        "--learning-rate",
        "5",
        "--out",
        str(tmp_path / "a"),
    ]
    assert 0 <= main(words)["code"]["variance_shown"] <= 1


def test_unlabelled_training_init_from_and_other_choices_run(own_table, tmp_path, quick):
    words = ["--csv", str(own_table), "--label", "Class", "--epochs", "2", "--seeds", "1"]
    first = main([*words, "--unlabelled", "--optimizer", "adamw", "--loss", "huber", "--out", str(tmp_path / "a")])
    assert first["threshold"]["unit"] == "1,000 payments"
    model = str(tmp_path / "a" / "model.keras")
    onward = main([*words, "--unlabelled", "--loss", "huber", "--init-from", model, "--out", str(tmp_path / "b")])
    start = pd.read_csv(tmp_path / "a" / "history.csv").query("stage == 'seed 0'")["loss"].iloc[0]
    warm = pd.read_csv(tmp_path / "b" / "history.csv").query("stage == 'seed 0'")["loss"].iloc[0]
    assert warm < start
    assert onward["settings"]["init_from"] == model
    with pytest.raises(BadInput, match="--init-from"):
        main([*words, "--init-from", str(quick[0] / "model.keras"), "--out", str(tmp_path / "c")])
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("rows", [260, 30_000])
def test_baselines_learn_from_all_rows_in_parts(rows, monkeypatch):
    monkeypatch.setattr(fraud_evaluation, "SAMPLE_ROWS", 200)
    genuine = np.arange(0, 2 * rows, 2)
    parts = fraud_evaluation.parts_of(genuine, seed=0)
    assert max(map(len, parts)) <= 200
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), genuine)
    assert all((np.diff(part) > 0).all() for part in parts)
    seen = []
    forest = types.SimpleNamespace(set_params=lambda n_estimators: seen.append(n_estimators))
    fraud_evaluation._grow(forest, parts, lambda part: None)
    assert seen[-1] == fraud_evaluation.TREES
    assert len(seen) == min(fraud_evaluation.TREES, len(parts))


def test_baselines_of_parts_are_nearly_those_of_the_whole(monkeypatch):
    random = np.random.default_rng(0)
    labels = (np.arange(3_000) % 20 == 0).astype(np.int8)
    inputs = (random.normal(size=(3_000, 5)) @ random.normal(size=(5, 5)) + 2 * labels[:, None]).astype(np.float32)
    split = Split(inputs, labels)
    splits = {"validation_train": split, "validation": split, "train": split, "test": split}
    for name, baseline in fraud_evaluation.BASELINES.items():
        found = {}
        for most in (100_000, 1_000):
            monkeypatch.setattr(fraud_evaluation, "SAMPLE_ROWS", most)
            found[most] = baseline(splits, False, 0)
        whole, in_parts = (roc_auc_score(labels, of["scores"]) for of in found.values())
        assert in_parts == pytest.approx(whole, abs=0.03), name
        if name == "PCA reconstruction":
            genuine = inputs[labels == 0].astype(np.float64)
            kept = int(found[1_000]["parameters"]) // 5 - 1
            scaled = (inputs - genuine.mean(axis=0)) / genuine.std(axis=0)
            pca = PCA(kept).fit((genuine - genuine.mean(axis=0)) / genuine.std(axis=0))
            left = np.square(scaled - pca.inverse_transform(pca.transform(scaled))).sum(axis=1)
            np.testing.assert_allclose(found[1_000]["scores"], left, atol=1e-6)


# --- After training ---


@pytest.fixture(scope="session")
def payments(tmp_path_factory):
    path = tmp_path_factory.mktemp("payments") / "payments.csv"
    main(["simulate", *SMALL[:6], "--simulation.seed", "3", "--out", str(path)])
    return path


def test_scores_keep_the_order_and_equal_the_model(quick, payments, tmp_path):
    folder, metrics = quick
    out = tmp_path / "scored.csv"
    said = main(["score", "--model", str(folder / "model.keras"), "--csv", str(payments), "--out", str(out)])
    scored, raw = pd.read_csv(out), pd.read_csv(payments)
    features = metrics["data"]["features"]
    assert len(scored) == len(raw) == said["rows"] > 65_536  # more than one batch
    assert list(scored) == ["score", "alert", *(f"share of {name}" for name in features)]
    scorer = keras.models.load_model(folder / "model.keras")
    found = fraud_evaluation.outputs(scorer, raw[features].to_numpy(np.float32))
    np.testing.assert_allclose(scored["score"], found["score"], rtol=1e-4)
    np.testing.assert_array_equal(scored["alert"], scored["score"] > metrics["threshold"]["value"])
    np.testing.assert_allclose(scored.iloc[:, 2:].sum(axis=1), 1, atol=1e-4)
    assert said["alerts"] == scored["alert"].sum()


def test_score_loses_nothing(quick, payments, tmp_path):
    folder, _ = quick
    out = tmp_path / "scored.csv"
    out.write_text("mine")
    words = ["score", "--model", str(folder / "model.keras"), "--out", str(out)]
    with pytest.raises(BadInput, match="existing file"):
        main([*words, "--csv", str(payments)])
    assert out.read_text() == "mine"
    out.unlink()
    bad = tmp_path / "bad.csv"
    text = payments.read_text().splitlines()[:100]
    bad.write_text("\n".join([*text, text[-1].replace("0.0", "many")]) + "\n")
    with pytest.raises(BadInput, match=r"bad\.csv: line 101.*'many'"):
        main([*words, "--csv", str(payments), str(bad)])
    assert list(tmp_path.iterdir()) == [bad]
    pd.read_csv(payments, nrows=10).drop(columns="TX_AMOUNT").to_csv(bad, index=False)
    with pytest.raises(BadInput, match="no column 'TX_AMOUNT'"):
        main([*words, "--csv", str(bad)])
    with pytest.raises(BadInput, match=r"config\.json: found .*expected the model\.keras"):
        main(["score", "--model", str(folder / "config.json"), "--csv", str(payments), "--out", str(out)])


def test_a_row_too_far_out_for_a_score_or_without_a_value_is_an_alert(own_table, tmp_path, capsys):
    words = ["--csv", str(own_table), "--label", "Class", "--epochs", "1", "--seeds", "1", "--activation", "relu"]
    main([*words, "--drop", "Time", "--out", str(tmp_path / "run")])
    new = pd.read_csv(own_table, nrows=5)
    new["V28"], new["V27"] = new["V28"].astype(float), new["V27"].astype(float)
    new.loc[1, ["V27", "V28"]] = 1e15, -1e15
    new.loc[3, "V28"] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    model = str(tmp_path / "run" / "model.keras")
    main(["score", "--model", model, "--csv", str(tmp_path / "new.csv"), "--out", str(tmp_path / "scored.csv")])
    scored = pd.read_csv(tmp_path / "scored.csv")
    assert np.isfinite(scored.to_numpy()).all()
    assert scored["score"].argmax() == 1
    assert scored["alert"].tolist() == [0, 1, 0, 1, 0]
    assert "alerts regardless of score, 1 payment: no value in V28, which" in capsys.readouterr().out

    def broken(inputs):
        score = np.array([0.5, np.nan, np.inf], np.float32)
        return {"score": score, "alert": np.zeros(3, np.int32), "share": np.full((3, 2), np.nan, np.float32)}

    found = fraud_evaluation.outputs(broken, np.zeros((3, 2)))
    assert found["alert"].tolist() == [0, 1, 1]
    assert np.isfinite(found["score"]).all()
    assert (found["share"] == 0).all()


def test_bad_rows_keep_their_place_in_the_scores(quick, payments, tmp_path, capsys):
    folder, _ = quick
    model = str(folder / "model.keras")
    lines = payments.read_text().splitlines()[:41]
    whole, damaged = tmp_path / "whole.csv", tmp_path / "damaged.CSV"
    whole.write_text("\n".join(lines))
    amount = lines[0].split(",").index("TX_AMOUNT")
    for row, value in {3: "inf", 10: "much"}.items():
        fields = lines[row].split(",")
        fields[amount] = value
        lines[row] = ",".join(fields)
    lines[20] += ",more"
    lines[40] = "1,2"
    damaged.write_text("\n".join(lines).replace(",", ";"))
    main(["score", "--model", model, "--csv", str(whole), "--out", str(tmp_path / "a.csv")])
    with pytest.raises(BadInput, match="--skip-bad"):
        main(["score", "--model", model, "--csv", str(damaged), "--out", str(tmp_path / "b.csv")])
    assert not (tmp_path / "b.csv").exists()
    capsys.readouterr()
    words = ["score", "--model", model, "--csv", str(damaged), "--out", str(tmp_path / "b.csv"), "--skip-bad"]
    assert main(words)["bad_rows"] == 4
    said = capsys.readouterr().out
    assert "';' separates the fields of damaged.CSV\n" in said
    assert "4 of 40 rows can't be used and are left out: damaged.CSV: line 21 has " in said
    assert "36 payments scored" in said
    expected = pd.read_csv(tmp_path / "a.csv")
    expected.iloc[[2, 9, 19, 39]] = np.nan
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "b.csv"), expected, check_dtype=False)


@pytest.mark.parametrize("name", ["a" * 300 + ".csv", "."])
def test_names_that_no_file_can_have(quick, payments, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["score", "--model", str(quick[0] / "model.keras"), "--csv", str(payments), "--out", name]
    with pytest.raises(BadInput, match=r"--out .*expected a new name"):
        main(words)


def test_evaluate_measures_without_training(quick, payments, capsys):
    folder, _ = quick
    words = ["evaluate", "--model", str(folder / "model.keras"), "--csv", str(payments), "--label", "TX_FRAUD"]
    found = main([*words, "--time", "TX_DATETIME", "--customer", "CUSTOMER_ID"])["metrics"]
    raw = pd.read_csv(payments)
    scorer = keras.models.load_model(folder / "model.keras")
    features = table.Encoder.from_config(scorer.get_layer("anomaly_score").metadata["encoder"]).feature_names
    scores = fraud_evaluation.outputs(scorer, raw[list(features)].to_numpy(np.float32))["score"]
    assert found["auc_roc"]["value"] == pytest.approx(roc_auc_score(raw["TX_FRAUD"], scores), abs=1e-6)
    assert found["average_precision"]["value"] == pytest.approx(
        average_precision_score(raw["TX_FRAUD"], scores), abs=1e-4
    )
    assert "card_precision_at_100" in found
    printed = capsys.readouterr().out
    assert f"{found['auc_roc']['value']:.3f}" in printed
    assert f"{int(raw['TX_FRAUD'].sum()):,} of them fraud" in printed


def test_evaluate_spells_the_classes_as_training_did(tmp_path, capsys):
    random = np.random.default_rng(0)
    fraud = np.arange(1_000) % 10 == 0
    frame = pd.DataFrame({"x": random.normal(size=1_000) + 4 * fraud, "z": random.normal(size=1_000)})
    frame["y"] = np.where(fraud, "bad", "good")
    frame.to_csv(tmp_path / "a.csv", index=False)
    words = ["--csv", str(tmp_path / "a.csv"), "--label", "y", "--epochs", "2", "--seeds", "1"]
    main([*words, "--out", str(tmp_path / "run")])
    mostly = pd.concat([frame[fraud], frame[~fraud].head(30)])
    mostly.to_csv(tmp_path / "mostly.csv", index=False)
    words = ["evaluate", "--model", str(tmp_path / "run" / "model.keras"), "--label", "y", "--csv"]
    assert main([*words, str(tmp_path / "mostly.csv")])["metrics"]["auc_roc"]["value"] > 0.5
    assert "130 payments, 100 of them fraud (y = bad)" in capsys.readouterr().out
    mostly.replace({"bad": "terrible"}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(BadInput, match="holds 'terrible', expected one of two classes, as 'good' and 'bad'"):
        main([*words, str(tmp_path / "other.csv")])
    main([*words, str(tmp_path / "other.csv"), "--fraud-value", "Terrible"])
    assert "130 payments, 100 of them fraud (y = Terrible)" in capsys.readouterr().out
    assert get_args(TimeUnit) == tuple(UNITS)


def test_the_handbooks_layout_is_known_with_its_label_too(payments, tmp_path):
    words = ["--csv", str(payments), "--label", "TX_FRAUD"]
    metrics = main([*words, "--epochs", "1", "--seeds", "1", "--alerts-per-day", "20", "--out", str(tmp_path / "run")])
    assert "TX_FRAUD_SCENARIO" not in metrics["data"]["features"]
    assert len(metrics["data"]["features"]) == 15
    with pytest.raises(BadInput, match="handbook's layout, expected no --time"):
        main([*words, "--drop", "TX_AMOUNT"])


def test_own_tables_in_the_handbooks_layout_give_what_the_simulator_gives(quick, tmp_path):
    _, metrics = quick
    path = tmp_path / "payments.parquet"
    main(["simulate", *SMALL[:6], "--out", str(path)])
    days = tmp_path / "days"
    days.mkdir()
    frame = pd.read_parquet(path)
    for day, part in frame.groupby(frame["TX_DATETIME"].dt.month):
        part.to_csv(days / f"{day:02}.csv", index=False)
    again = main([*SMALL, "--csv", str(days), "--out", str(tmp_path / "run")])
    assert again["results"] == metrics["results"]


# --- Stops and bad input ---


def test_a_run_is_not_resumed_on_other_data(own_table, tmp_path, monkeypatch):
    path = tmp_path / "own.csv"
    frame = pd.read_csv(own_table)
    frame.to_csv(path, index=False)
    words = ["--csv", str(path), "--label", "Class", "--epochs", "1", "--seeds", "1", "--out", str(tmp_path / "run")]
    monkeypatch.setitem(fraud_evaluation.BASELINES, "isolation forest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    frame.iloc[:-1].to_csv(path, index=False)
    with pytest.raises(BadInput, match="data that differ from those it was started with"):
        main([*words, "--resume"])
    assert (tmp_path / "run" / "checkpoints" / "seed-0.npz").exists()


def interrupt(*_):
    raise KeyboardInterrupt


def test_bad_input_leaves_with_code_2_one_line_and_no_folder(tmp_path):
    (tmp_path / "bad.csv").write_text("amount,fraud\n" + "1.0,0\n3.0,1\n" * 50 + "many,1\n")
    done = program("--csv", "bad.csv", "--label", "fraud", cwd=tmp_path)
    _, errors = done.communicate()
    assert done.returncode == 2
    assert len(errors.splitlines()) == 1
    assert re.search(r"bad\.csv: line 102, column 'amount' holds 'many', expected a finite number", errors)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["bad.csv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--csv", "missing.csv", "--label", "Class"], "missing.csv: no such file"),
        (["--csv", "own.csv"], "own.csv: found no --label, expected the name of the column of labels"),
        (["--csv", "own.csv", "--label", "class"], "is it 'Class'"),
        (["--label", "Class"], "without --csv"),
        (["--alerts-per-day", "5", "--cost-ratio", "2"], "several of --alerts-per-day"),
        (["--csv", "own.csv", "--label", "Class", "--alerts-per-day", "5"], "--alerts-per-day: found no --time"),
        (["--alerts-per-day", "1e9"], "--alerts-per-day: found 1e+09, expected fewer than"),
        (["--protocol.train-start", "2018-09-28"], "expected payments with some fraud"),
        (["--init-from", "missing.keras"], "missing.keras: found no such file"),
        (["--resume"], "no unfinished run"),
        (["report", "--run", "."], "metrics.json: found no readable JSON"),
        (["simulate", "--out", "payments.xlsx"], "expected a name in .csv or .parquet"),
    ],
)
def test_unusable_input_is_said(words, said, own_table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.csv").symlink_to(own_table)
    with pytest.raises(BadInput, match=re.escape(said)):
        main(words if words[0] in ("report", "simulate") else [*SMALL[:-2], *words])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["own.csv"]


@pytest.mark.slow
def test_public_file_at_its_public_size(tmp_path):
    path = tmp_path / "creditcard.csv"
    creditcard(rows=284_807, frauds=492).to_csv(path, index=False)
    words = ["--csv", str(path), "--label", "Class", "--time", "Time", "--epochs", "1", "--seeds", "1"]
    done = program(*words, "--out", str(tmp_path / "run"))
    _, errors = done.communicate()
    assert done.returncode == 0, errors
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data"]["rows"] == 284_807
    assert len(metrics["data"]["features"]) == 29
    assert metrics["timing"]["peak_memory_mb"] < 2_500
    assert metrics["timing"]["total_seconds"] > 0


def test_of_thousands_of_columns_the_alerts_keep_those_that_explain_them():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(30, 2_000)).astype(np.float32)
    labels = (np.arange(30) % 5 == 0).astype(int)
    scores = random.random(30)
    names = [f"c{index}" for index in range(2_000)]
    scorer = template.anomaly_scorer(
        template.autoencoder(features=2_000, widths=(4,), code_size=2),
        mean=[0.0] * 2_000,
        deviation=[1.0] * 2_000,
        threshold=1.0,
    )
    split = Split(inputs, labels, {"row": np.arange(30)})
    found = fraud_evaluation.extremes(split, scores, scorer, names)
    assert len(found["highest"]) == 10
    assert len(found["missed"]) == 5
    for entry in [*found["highest"], *found["missed"]]:
        assert len(entry["shares"]) == len(entry["values"]) == fraud_evaluation.KEPT
        row = inputs[entry["row"]]
        share = fraud_evaluation.outputs(scorer, row[None])["share"][0]
        assert entry["shares"] == pytest.approx({name: share[int(name[1:])] for name in entry["shares"]}, abs=1e-6)
        assert entry["values"] == pytest.approx({name: row[int(name[1:])] for name in entry["values"]})
        largest = np.argsort(-share)[:6]
        assert {names[index] for index in largest} <= set(entry["shares"])

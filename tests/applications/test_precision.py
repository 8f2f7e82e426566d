"""In mixed precision all six programs come to the figure of float32, to within its interval."""

import importlib

import keras
import pytest

from tests.applications.test_kills import PROGRAMS


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_mixed_precision_comes_to_the_figure_of_float32(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"applications.{name}").main
    words = [*PROGRAMS[name](tmp_path), "--quick"]
    if name == "image_synthesis":  # its interval is one over seeds, and its judge is trained in this precision too
        words += ["--seeds", "2", "--epochs", "1"]
    exact = main([*words, "--out", "exact"])["headline"]
    mixed = main([*words, "--precision", "mixed_bfloat16", "--out", "mixed"])["headline"]
    assert keras.config.dtype_policy().name == "float32"
    if name == "image_synthesis":
        assert exact["low"] <= mixed["high"]
        assert mixed["low"] <= exact["high"]
    else:
        assert exact["low"] <= mixed["value"] <= exact["high"]
    saved = keras.models.load_model("mixed/model.keras")
    policies = {layer.dtype_policy.name for layer in saved._flatten_layers()}
    assert "mixed_bfloat16" in policies

import io
import itertools
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from pypdf import PdfReader

from applications import run
from applications.n_grams import NGram
from applications.text import evaluation, models
from applications.text.baselines import compressed_bits
from applications.text_generation import Train, main
from data import text
from data.dataset import BadInput
from data.text import Part, Tokenizer
from templates import recurrent

ROOT = Path(__file__).parents[2]
SMALL = {"SAMPLES": 3, "SAMPLE_TOKENS": 60, "MOMENT_TOKENS": 30, "PASSAGE": 60}
TINY = ("--template", "gru", "--layers", "1", "--units", "16", "--context", "16", "--batch-size", "8")
LEARNING = (*TINY, "--epochs", "8", "--patience", "8", "--learning-rate", "0.02")
IN_MEMORY = 3_000  # characters: less than the text has
# The program with `SMALL` samples, for which the text is larger than memory.
PROGRAM = f"""
from applications import run, text_generation
from applications.text import evaluation as text_evaluation
from data import text
for name, value in {SMALL}.items():
    setattr(text_evaluation, name, value)
text.IN_MEMORY = {IN_MEMORY}
run.execute(text_generation.main)
"""
# Of each ten paragraphs, the places of those to test on and to validate on.
TEST, VALIDATION = 4, 9


def paragraphs(count=39, seed=0, words=("the", "of", "object", "statement", "naïve", "value", "(a list)", "'x'")):
    """Paragraphs of such a length that each is a block, if there are 20 to 39 of them."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        paragraph = ""
        while len(paragraph) < 180:
            paragraph += draw.choice(words) + draw.choice([" ", " ", ", ", ".\n"])
        found.append(f"{paragraph}end.")
    return found


def write(path, parts):
    path.write_text("".join(f"{part}\n\n" for part in parts), "utf-8")
    return path


def make_lean(patch):
    """No pictures and no report, for runs whose network alone matters."""
    patch.setattr(evaluation, "draw", lambda *_: {"figures": {}, "losses": {}, "attention": None})
    patch.setattr("reports.report.typeset", lambda *_: b"")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(evaluation, name, value)


@pytest.fixture
def lean(monkeypatch):
    make_lean(monkeypatch)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("text") / "own.txt", paragraphs())


@pytest.fixture(scope="module")
def own(file, tmp_path_factory):
    """All that a run leaves that learns a little."""
    out = tmp_path_factory.mktemp("own") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(evaluation, name, value)
        return out, main(["--text", str(file), *LEARNING, "--out", str(out)])


@pytest.fixture
def model(own):
    return str(own[0] / "model.keras")


@pytest.fixture(scope="module")
def blocks():
    """The blocks of the text, by part."""
    found = {"train": [], "validation": [], "test": []}
    for place, part in enumerate(paragraphs()):
        name = {TEST: "test", VALIDATION: "validation"}.get(place % 10, "train")
        found[name].append(f"{part}\n\n")
    return found


@pytest.fixture(scope="module")
def reloaded(own):
    """What a stranger makes of model.keras: the network, and the tokens of a text."""
    network = keras.models.load_model(own[0] / "model.keras")
    characters = run.model_notes(own[0] / "model.keras")["tokenizer"]["characters"]
    return SimpleNamespace(
        network=network,
        vocabulary=len(characters),
        encode=lambda content: np.array([characters.index(character) for character in content]),
        decode=lambda tokens: "".join(characters[token] for token in tokens),
    )


@pytest.fixture(scope="module")
def expected(reloaded, blocks):
    """Bits and hits of the tokens of each test block."""
    return foretold(reloaded, blocks["test"])


def foretold(model, passages):
    """Bits and hits of the tokens of each passage, step by step: the network remembers what it read."""
    stream = recurrent.Stream(model.network)
    bits, hits = [], []
    for passage in passages:
        tokens = model.encode(passage)
        stream.reset()
        logits = np.concatenate([stream(token[None]) for token in tokens[:-1]]).astype(np.float64)
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        own = -np.log2(chances[np.arange(len(tokens) - 1), tokens[1:]])
        bits.append(np.array([np.log2(model.vocabulary), *own]))
        hits.append(np.array([False, *(chances.argmax(-1) == tokens[1:])]))
    return bits, hits


def without_time(metrics):
    """The metrics without what depends on the clock."""
    results = [{k: v for k, v in result.items() if k != "fit_seconds"} for result in metrics["results"]]
    left = {k: v for k, v in metrics.items() if k not in ("timing", "generated_tokens_per_second")}
    return left | {"results": results}


def values(metrics, name="bits_per_character"):
    return {result["model"]: result["metrics"][name]["value"] for result in metrics["results"]}


def words_of(metrics):
    """The arguments of the command that the report says."""
    python, program, *words = shlex.split(metrics["command"])
    assert (python, program) == ("python", "applications/text_generation.py")
    return words


def left(monkeypatch, capsys, *words):
    """What the program leaves with: its exit code, and the only line that it says."""
    monkeypatch.setattr(sys, "argv", ["text_generation.py", *map(str, words)])
    with pytest.raises(SystemExit) as raised:
        run.execute(main)
    said, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert not [one for one in said.splitlines() if " s  data: " not in one]
    return raised.value.code, line


# --- A run ---


def test_run_leaves_what_it_promises(own):
    folder, metrics = own
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "figures", "history.csv", "metrics.json", "model.keras", "report.pdf")
    ]
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    history = pd.read_csv(folder / "history.csv")
    assert set(history["stage"]) == {"GRU 1"}
    assert history["epoch"].tolist() == list(range(1, 9))
    assert {path.name for path in (folder / "figures").iterdir()} == {
        *("learning.svg", "position.svg", "network.svg", "surprise.svg")
    }


def test_metrics_have_their_schema(own, assert_schema):
    _, metrics = own
    assert_schema(metrics, evaluation.Metrics)
    assert [result["model"] for result in metrics["results"]] == ["GRU", "5-gram", "16-gram", "unigram"]
    assert [result["baseline"] for result in metrics["results"]] == [False, True, True, True]
    for result in metrics["results"]:
        assert set(result["metrics"]) == set(evaluation.MEASURES)
        for value in result["metrics"].values():
            assert 0 < value["low"] <= value["value"] <= value["high"]
            assert value["value"] == pytest.approx(np.mean(value["seeds"]))
    bits = values(metrics)
    assert bits["GRU"] == metrics["headline"]["value"]
    for difference in metrics["differences"]:
        assert difference["value"] == pytest.approx(bits[difference["worse"]] - bits[difference["better"]])


def test_numbers_are_those_of_the_saved_model_on_the_test_blocks(own, blocks, expected):
    _, metrics = own
    bits, hits = (np.concatenate(part) for part in expected)
    content = "".join(blocks["test"])
    measured = {name: value["seeds"][0] for name, value in metrics["results"][0]["metrics"].items()}
    assert len(bits) == len(content) == metrics["data"]["measured"]["characters"]
    assert measured["bits_per_character"] == pytest.approx(bits.sum() / len(content), abs=1e-5)
    assert measured["bits_per_byte"] == pytest.approx(bits.sum() / len(content.encode()), abs=1e-5)
    assert measured["perplexity"] == pytest.approx(2 ** bits.mean(), abs=1e-4)
    assert measured["accuracy"] == pytest.approx(hits.mean(), abs=1.5 / len(bits))  # a tie may fall otherwise
    low, value, high = (metrics["headline"][key] for key in ("low", "value", "high"))
    each = [block.mean() for block in expected[0]]
    assert min(each) <= low < value < high <= max(each)  # no draw of blocks lies outside


def test_bits_by_position_and_hardest_passages_are_those_of_the_saved_model(own, blocks, expected):
    _, metrics = own
    bits, _ = expected
    edges = [point["position"] for point in metrics["by_position"]["GRU"]]
    assert edges == [1, 2, 4, 8, 16, 32, 64, 128]  # the blocks are shorter than 256
    for point, end in zip(metrics["by_position"]["GRU"], [*edges[1:], 256], strict=True):
        within = np.concatenate([block[point["position"] : end] for block in bits])
        assert point["value"] == pytest.approx(within.mean(), abs=1e-4)
    assert [point["position"] for point in metrics["by_position"]["5-gram"]] == edges
    assert len(metrics["hardest"]) == evaluation.PASSAGES
    for passage in metrics["hardest"]:
        block, start = passage["block"], passage["first_token"] - sum(map(len, bits[: passage["block"]]))
        shown = slice(start, start + SMALL["PASSAGE"])
        assert "".join(piece for piece, _ in passage["pieces"]) == blocks["test"][block][shown]
        np.testing.assert_allclose([cost for _, cost in passage["pieces"]], bits[block][shown], atol=1e-3)
        assert passage["bits_per_token"] == pytest.approx(bits[block][shown].mean(), abs=1e-4)
    highest = max(block[start : start + SMALL["PASSAGE"]].mean() for block in bits for start in range(len(block) - 59))
    assert metrics["hardest"][0]["bits_per_token"] == pytest.approx(highest, abs=1e-4)


def test_baselines_had_the_same_split(own, blocks, reloaded):
    _, metrics = own
    tokens, starts = {}, {}
    for name, of_part in blocks.items():
        tokens[name] = reloaded.encode("".join(of_part))
        starts[name] = np.cumsum([0, *map(len, of_part)])[:-1]
        assert metrics["data"][name] == len(tokens[name])
        assert metrics["data"]["blocks"][name] == len(of_part)
        assert metrics["data"]["bytes"][name] == len("".join(of_part).encode())
        assert metrics["data"]["unknown"][name] == 0
    for model, order in (("5-gram", 5), ("16-gram", 16), ("unigram", 1)):
        grams = NGram(order).fit(tokens["train"], starts["train"], reloaded.vocabulary)
        bits, hits = grams.evaluate(tokens["test"], starts["test"])
        assert values(metrics)[model] == pytest.approx(bits.mean())
        assert values(metrics, "accuracy")[model] == pytest.approx(hits.mean())
    train, validation, test = ("".join(of_part).encode() for of_part in blocks.values())
    packed = compressed_bits(train, [test])
    assert {one["name"]: one["bits_per_byte"] for one in metrics["compressors"]} == pytest.approx(
        {name: bits / len(test) for name, bits in packed.items()}
    )
    for one in metrics["compressors"]:
        assert one["bits_per_character"] * metrics["data"]["characters"]["test"] == pytest.approx(packed[one["name"]])
    levels = compressed_bits(train, [validation])
    assert metrics["levels"]["xz"] == pytest.approx(levels["xz"] / len(validation.decode()))
    assert metrics["levels"]["PPMd"] == pytest.approx(levels["PPMd"] / len(validation.decode()))
    grams = NGram(5).fit(tokens["train"], starts["train"], reloaded.vocabulary)
    bits, _ = grams.evaluate(tokens["validation"], starts["validation"])
    assert metrics["levels"]["5-gram"] == pytest.approx(bits.mean())


def test_mixture_takes_the_share_that_is_best_on_validation(own, blocks, reloaded):
    _, metrics = own
    joined = {name: reloaded.encode("".join(of_part)) for name, of_part in blocks.items()}
    starts = {name: np.cumsum([0, *map(len, of_part)])[:-1] for name, of_part in blocks.items()}
    grams = NGram(16).fit(joined["train"], starts["train"], reloaded.vocabulary)
    mixed = {}
    for part in ("validation", "test"):
        own_chance = 2.0 ** -np.concatenate(foretold(reloaded, blocks[part])[0])
        other = 2.0 ** -grams.evaluate(joined[part], starts[part])[0]
        mixed[part] = [-np.log2(tenth * own_chance + (1 - tenth) * other).mean() for tenth in np.arange(1, 20) / 20]
    best = int(np.argmin(mixed["validation"]))
    mixture = metrics["mixture"]
    assert mixture["shares"] == pytest.approx([(best + 1) / 20])
    assert mixture["metrics"]["bits_per_character"]["value"] == pytest.approx(mixed["test"][best], abs=1e-5)
    assert [gain["worse"] for gain in mixture["gains"]] == ["GRU", "16-gram"]
    for gain in mixture["gains"]:
        assert gain["value"] == pytest.approx(values(metrics)[gain["worse"]] - mixed["test"][best], abs=1e-5)
        assert gain["low"] < gain["value"] < gain["high"]
    assert set(mixture["metrics"]) == set(evaluation.MEASURES) - {"accuracy"}


def test_weights_of_the_epoch_with_the_lowest_validation_loss_are_kept(own, blocks, reloaded):
    folder, metrics = own
    losses = pd.read_csv(folder / "history.csv")["val_loss"]
    assert metrics["results"][0]["best_epochs"] == [1 + losses.argmin()]
    tokens = reloaded.encode("".join(blocks["validation"]))
    starts = np.arange(0, len(tokens) - 16, 16)
    windows = tokens[starts[:, None] + np.arange(17)]
    logits = np.asarray(reloaded.network.predict_on_batch(windows[:, :-1].astype(np.int32)), np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    loss = -np.log(np.take_along_axis(chances, windows[:, 1:, None], -1)).mean()
    assert losses.min() == pytest.approx(loss, rel=1e-4)
    assert values(metrics)["GRU"] < values(metrics)["unigram"] - 1  # it learnt


def test_samples_are_counted_and_begin_as_the_test_blocks(own, blocks):
    _, metrics = own
    train = "".join(blocks["train"])
    assert [sample["temperature"] for sample in metrics["samples"]] == [0.5] * 3 + [0.8] * 3 + [1.0] * 3
    for place, sample in enumerate(metrics["samples"]):
        assert sample["prompt"] == blocks["test"][(0, 1, 3)[place % 3]][:40]
        assert len(sample["text"]) == 60
        longest = max(b - a for a in range(61) for b in range(a, 61) if sample["text"][a:b] in train)
        assert sample["longest_copy"] == longest
    assert len({sample["text"] for sample in metrics["samples"][6:]}) == 3
    assert [row["name"] for row in metrics["sample_quality"]] == [
        *("held-out text", "temperature\u00a00.5", "temperature\u00a00.8", "temperature\u00a01")
    ]
    for place, row in enumerate(metrics["sample_quality"][1:]):
        own_samples = metrics["samples"][3 * place : 3 * place + 3]
        assert row["longest_copy"] == pytest.approx(np.mean([sample["longest_copy"] for sample in own_samples]))
    assert metrics["sample_quality"][0]["known_words"] == 1  # the text has so few different ones
    moments = metrics["moments"]
    assert [moment["epoch"] for moment in moments] == [1, 2, metrics["results"][0]["best_epochs"][0]]
    assert moments[-1]["text"] == metrics["samples"][3]["text"][:30]
    assert len({moment["text"] for moment in moments}) == 3


def elements(node):
    """The elements of a PDF's structure."""
    node = node.get_object()
    if isinstance(node, list):
        for child in node:
            yield from elements(child)
    elif isinstance(node, dict):
        if "/S" in node:
            yield node
        if "/K" in node:
            yield from elements(node["/K"])


def test_report_has_all_figures_and_is_typeset_again_the_same(own, assert_pdf):
    folder, metrics = own
    before = (folder / "report.pdf").read_bytes()
    figures = metrics["figures"]
    assert {figure["file"] for figure in figures.values()} == {
        f"figures/{path.name}" for path in (folder / "figures").iterdir()
    }
    structure = PdfReader(folder / "report.pdf").root_object["/StructTreeRoot"]
    found = [e["/Alt"] for e in elements(structure["/K"]) if e["/S"] == "/Figure"]
    assert found == [figures[name]["alt"] for name in ("learning", "position", "surprise", "network")]
    assert figures["learning"]["alt"].endswith(f"best epoch {metrics['results'][0]['best_epochs'][0]}")
    for model, curve in metrics["by_position"].items():
        assert f"{model} from {curve[0]['value']:.2f} to {curve[-1]['value']:.2f}" in figures["position"]["alt"]
    costs = (f"{passage['bits_per_token']:.2f}" for passage in metrics["hardest"])  # a token is a character
    assert f"{', '.join(costs)} bits per character" in figures["surprise"]["alt"]
    headings = ("Results", "Generated text", "Loss by context and passage", "Data", "Model and training", "Limitations")
    said = assert_pdf(folder / "report.pdf", [*headings, "Reproducing this run"], pages=(4, 8))
    assert "Attention" not in said
    for result in metrics["results"]:
        assert f"{result['metrics']['bits_per_character']['value']:.3f}" in said
    main(["report", "--run", str(folder)])
    assert (folder / "report.pdf").read_bytes() == before


def test_losses_are_those_of_the_epoch_whose_weights_were_kept(own):
    folder, metrics = own
    history = pd.read_csv(folder / "history.csv").set_index("epoch").loc[metrics["results"][0]["best_epochs"][0]]
    assert metrics["losses"]["training"] == pytest.approx(history["loss"] / np.log(2))
    assert metrics["losses"]["validation"] == pytest.approx(history["val_loss"] / np.log(2))


def test_command_of_the_report_gives_the_same_settings(own, file):
    _, metrics = own
    words = words_of(metrics)
    settings = run.dispatch({Train: lambda settings: settings}, words, program="", description="")
    assert run.lasting(models.with_recipe(settings)) == metrics["settings"]
    assert words == ["--text", str(file), *LEARNING]


def weights(folder):
    return keras.models.load_model(folder / "model.keras").get_weights()


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_weights_and_samples(own, tmp_path, kill_in, assert_same_run, monkeypatch):
    whole, metrics = own
    out = tmp_path / "killed"
    words = [*words_of(metrics), "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    killed = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], **pipes)
    kill_in(killed, out / "checkpoints" / "gru-0.npz")
    assert (out / "checkpoints" / "tokens" / "train.npy").exists()
    monkeypatch.setattr(text, "IN_MEMORY", IN_MEMORY)
    main([*words, "--resume"])
    assert_same_run(whole, out, without_time)


def test_a_run_is_not_resumed_on_other_data(file, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    other = tmp_path / "own.txt"
    other.write_bytes(file.read_bytes())
    words = ["--text", str(other), *TINY, "--out", str(tmp_path / "run")]
    monkeypatch.setattr(models, "Trainer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    other.write_bytes(file.read_bytes().replace(b"end", b"END"))
    with pytest.raises(BadInput, match="data that differ from those it was started with"):
        main([*words, "--resume"])
    assert (tmp_path / "run" / "checkpoints").exists()


# --- Windows ---


def part_of(lengths):
    """Blocks of these lengths, whose tokens are counted from 1."""
    tokens = np.arange(1, sum(lengths) + 1)
    sizes = np.array(lengths)
    tokenizer = SimpleNamespace(vocabulary=len(tokens) + 2, decode=lambda tokens: f"{list(tokens)}")
    return Part(tokens, np.cumsum(sizes) - sizes, sizes, sizes, 0, tokenizer)


class Counter:
    """Says of the token that follows by how many tokens of the window are before it, of others nothing.

    Where that is odd, another token is more probable.
    """

    def __init__(self, part, size):
        self.part, self.size = part, size
        self.block = evaluation.blocks_of(part)

    def logit(self, before):
        return before / 8 * np.where(np.asarray(before) % 2, -1, 1)

    def bits(self, before):
        logit = self.logit(np.asarray(before, np.float64))
        return np.log2(np.exp(logit) + self.part.tokenizer.vocabulary - 1) - logit / np.log(2)

    def predict_on_batch(self, inputs):
        assert inputs.shape[1] <= self.size
        logits = np.zeros((*inputs.shape, self.part.tokenizer.vocabulary), np.float32)
        for row, tokens in enumerate(inputs):
            shown = tokens[tokens > 0]
            np.testing.assert_array_equal(tokens[len(shown) :], 0)
            if not len(shown):
                continue  # there are fewer windows than a batch takes
            np.testing.assert_array_equal(shown, np.arange(shown[0], shown[-1] + 1))
            assert len(set(self.block[[shown[0] - 1, shown[-1] - 1]])) == 1
            logits[row, np.arange(len(shown)), shown + 1] = self.logit(np.arange(1, len(shown) + 1))
        return logits


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16, 100])
@pytest.mark.parametrize("logits", [2**23, 1_000])
def test_each_token_is_counted_once_with_enough_before_it(size, logits, monkeypatch):
    monkeypatch.setattr(evaluation, "LOGITS", logits)
    part = part_of((7, 1, 2, 8, 9, 40, 16, 17, 1, 31))
    counter = Counter(part, size)
    model = models.LanguageModel(counter, part.tokenizer, "transformer", size)
    found = evaluation.scores(model, part)
    size = min(size, 39)
    known = counter.bits(np.arange(size + 1))
    bits_of_none = np.log2(part.tokenizer.vocabulary)
    assert len(set(known.round(6))) == size + 1  # each place can be told by its bits
    counted = np.zeros(len(part), int)
    for start, end in itertools.pairwise([*part.starts, len(part)]):
        assert found.bits[start] == bits_of_none
        assert not found.hits[start]
        for token in range(start + 1, end):
            before = int(np.abs(known - found.bits[token]).argmin())
            assert found.bits[token] == pytest.approx(known[before], abs=1e-5)
            # All of its block, as far as a window reaches, else half a window.
            assert before == token - start if token - start <= size else before >= size / 2
            assert found.hits[token] == (before % 2 == 0)
    for bits, block, first in zip(found.window_bits, found.window_blocks, found.window_starts, strict=True):
        end = [*part.starts, len(part)][block + 1]
        shown = min(size, end - 1 - first)
        assert part.starts[block] <= first
        np.testing.assert_allclose(bits[:shown], known[1 : shown + 1], atol=1e-5)
        assert np.isnan(bits[shown:]).all()
        counted[first + 1 : first + shown + 1] += 1
    inside = np.delete(np.arange(len(part)), part.starts)
    assert counted[inside].min() == 1
    assert counted.max() <= 2 + size % 2  # windows overlap by half: none is read for nothing
    assert (counted[part.starts] == 0).all()


def test_a_recurrent_network_is_measured_beyond_its_context(own):
    loaded = models.load(own[0] / "model.keras")
    assert (loaded.context, loaded.look_back, loaded.template) == (16, models.LOOK_BACK, "gru")
    assert models.LanguageModel(None, loaded.tokenizer, "transformer", 16).look_back == 16
    assert own[1]["model"]["look_back"] == models.LOOK_BACK


def test_windows_that_overlap_come_near_to_the_whole_pass(own, blocks, expected, monkeypatch):
    monkeypatch.setattr(models, "LOOK_BACK", 64)
    loaded = models.load(own[0] / "model.keras")
    tokens = loaded.tokenizer.encode("".join(blocks["test"]))
    sizes = np.array([len(block) for block in blocks["test"]])
    part = Part(tokens, np.cumsum(sizes) - sizes, sizes, sizes, 0, loaded.tokenizer)
    found = np.split(evaluation.scores(loaded, part).bits, part.starts[1:])
    for ours, theirs in zip(found, expected[0], strict=True):
        np.testing.assert_allclose(ours[:65], theirs[:65], atol=1e-4)
        assert np.abs(ours[65:] - theirs[65:]).mean() < 0.05


@pytest.mark.parametrize("tokens", [1, 40, 100, 131, 1_000])
def test_some_blocks_are_whole_and_evenly_spread(tokens):
    lengths = [10] * 12 + [11]
    part = part_of(lengths)
    found = evaluation.some_blocks(part, tokens)
    count = 13 if tokens >= 131 else max(1, 13 * tokens // 131)
    places = np.linspace(0, 12, count).astype(int)
    expected = [np.arange(10 * place + 1, 10 * place + lengths[place] + 1) for place in places]
    assert len(found) <= max(tokens, 10)
    np.testing.assert_array_equal(found.tokens, np.concatenate(expected))
    np.testing.assert_array_equal(found.starts, np.cumsum([0, *map(len, expected[:-1])]))
    np.testing.assert_array_equal(found.characters, [lengths[place] for place in places])
    np.testing.assert_array_equal(evaluation.blocks_of(found), np.repeat(np.arange(count), list(map(len, expected))))


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_prompts_are_whole_characters(kind, tmp_path):
    content = [f"{'漢字🎉é' * (30 + place)}{place}" for place in range(30)]
    part = text.load_files([write(tmp_path / "a.txt", content)], kind, vocabulary=257).splits["test"]
    found = evaluation.prompts(part)
    assert len(found) == SMALL["SAMPLES"]
    assert found == ["漢字🎉é" * 10] * 3


# --- Writing ---


class Reciter(models.LanguageModel):
    """A language model that knows one text by heart."""

    def recite(self, tokens):
        self.tokens, self.asked = tokens, 0

    def continuations(self, prompts, tokens, **choice):
        for token in self.tokens[:tokens]:
            self.asked += 1
            yield np.array([token])


def reciter(pieces, kind="bpe"):
    model = Reciter(None, Tokenizer(kind, list(dict.fromkeys(pieces))), "gru", 16)
    model.recite([model.tokenizer.pieces.index(piece) for piece in pieces])
    return model


@pytest.mark.parametrize(
    ("pieces", "stop", "expected"),
    [
        (["ab", "cd", "ef"], [], "abcdef"),
        (["ab", "cd", "ef"], ["cd"], "ab"),
        (["ab", "cd", "ef"], ["bc"], "a"),  # across tokens
        (["ab", "cd", "ef"], ["bcde"], "a"),
        (["ab", "cd", "ef"], ["ab"], ""),
        (["ab", "cd", "ef"], ["ef"], "abcd"),
        (["ab", "cd", "ef"], ["fg"], "abcdef"),  # its beginning alone
        (["a", "a", "a", "b"], ["aab"], "a"),
        (["ab", "cd", "ef"], ["x", "de", "cdef"], "ab"),  # before the first, if a token completes two
        (["abcdef"], ["e", "b"], "a"),
        (["one\n", "\n", "two"], ["\n\n"], "one"),
        (["é", "ü"], ["ü"], "é"),
    ],
)
def test_writing_ends_before_a_stop_string(pieces, stop, expected):
    model = reciter([piece.encode() for piece in pieces])
    assert "".join(model.write("a prompt", 10, stop, temperature=1, seed=0)) == expected
    assert model.asked <= len(pieces)
    if stop == ["bc"]:
        assert model.asked == 2  # no token is drawn after the end


def test_any_cut_into_tokens_gives_the_same_text():
    draw = random.Random(0)
    content = "naïve 漢字 🎉🎊 end. ﷽ ʘ\n\nlast"
    raw = content.encode()
    for stop in ([], ["🎊"], ["字 🎉"], ["\n\nl", "zzz"]):
        expected = min((content.partition(one)[0] for one in stop), key=len, default=content)
        for _ in range(40):
            places = sorted(draw.sample(range(1, len(raw)), draw.randrange(len(raw) - 1)))
            pieces = [raw[a:b] for a, b in itertools.pairwise([0, *places, len(raw)])]
            model = reciter(pieces)
            found = "".join(model.write("p", 100, stop, temperature=1, seed=0))
            assert found == expected
            assert "\ufffd" not in found


def test_text_appears_as_soon_as_it_is_known():
    raw = "né 漢 ab".encode()
    model = reciter([bytes([byte]) for byte in raw], "byte")
    written = ""
    for piece in model.write("p", 100, temperature=1, seed=0):
        written += piece
        whole = raw[: model.asked].decode("utf-8", "ignore")
        assert written == whole  # all whole characters so far
    assert written == "né 漢 ab"
    model.recite(model.tokens)
    written = ""
    for piece in model.write("p", 100, ["zzz"], temperature=1, seed=0):
        written += piece
        whole = raw[: model.asked].decode("utf-8", "ignore")
        assert written in (whole[:-2], whole)  # two characters may begin a stop string
    assert written == "né 漢 ab"


def test_what_is_no_text_is_one_sign():
    model = reciter([b"a", b"\xe6\xbc", b"b", b"\xff", b"\xe6"])
    assert "".join(model.write("p", 100, temperature=1, seed=0)) == "a\ufffdb\ufffd\ufffd"
    assert model.tokenizer.decode(model.tokens) == "a\ufffdb\ufffd\ufffd"


def test_generate_writes_the_samples_of_the_run_again(own, model, capsys):
    sample = own[1]["samples"][3]
    words = ["generate", "--model", model, "--prompt", sample["prompt"], "--tokens", "60", "--temperature", "0.8"]
    assert main(words) == {"prompt": sample["prompt"], "text": sample["text"]}
    assert capsys.readouterr().out == f"{sample['prompt']}{sample['text']}\n"
    other = main([*words, "--seed", "1"])["text"]
    assert other != sample["text"]
    stop = sample["text"][20:23]
    assert main([*words, "--stop", stop])["text"] == sample["text"].partition(stop)[0]


@pytest.mark.slow
def test_a_fresh_process_writes_the_same(own, model):
    sample = own[1]["samples"][3]
    words = ["generate", "--model", model, "--prompt", sample["prompt"], "--tokens", "60"]
    program = [sys.executable, str(ROOT / "applications" / "text_generation.py")]
    done = subprocess.run([*program, *words], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{sample['prompt']}{sample['text']}\n"


def test_generate_chooses_the_most_probable(model, reloaded):
    words = ["generate", "--model", model, "--prompt", "the ", "--tokens", "12"]
    tokens = reloaded.encode("the ").tolist()
    for _ in range(12):
        logits = np.asarray(reloaded.network.predict_on_batch(np.array([tokens[-16:]], np.int32)))[0, -1]
        if len(tokens) > 16:  # the state reaches further than a window
            logits = np.asarray(reloaded.network(np.array([tokens], np.int32)))[0, -1]
        tokens.append(int(logits.argmax()))
    expected = reloaded.decode(tokens[4:])
    for choice in (["--temperature", "0"], ["--top-k", "1"], ["--top-p", "1e-9"]):
        for seed in ("0", "7"):
            assert main([*words, *choice, "--seed", seed])["text"] == expected


def test_a_prompt_that_the_model_cannot_read(model, tmp_path, monkeypatch, capsys):
    words = ["generate", "--model", model, "--prompt"]
    code, line = left(monkeypatch, capsys, *words, "the 漢")
    assert code == 2
    assert line.startswith("error: prompt: character 5: found '漢' (U+6F22), expected one of the ")
    code, line = left(monkeypatch, capsys, *words, "")
    assert (code, line) == (2, "error: --prompt: found '', expected 1 or more characters")


def test_prompts_have_the_form_of_texts(model):
    words = ["generate", "--model", model, "--tokens", "3", "--seed", "1", "--prompt"]
    assert main([*words, "\ufeffa\r\nnai\u0308ve"]) == main([*words, "a\nnaïve"])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_that_lacks_characters(encoding, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    run.execute(lambda _: [print(character, end="", flush=True) for character in "naïve 한\udcff"])
    assert console.buffer.getvalue() == "naïve 한\udcff".encode(encoding, "backslashreplace")


# --- Other text ---


def test_evaluate_gives_the_figures_of_the_run(own, model, blocks, tmp_path, monkeypatch, capsys):
    _, metrics = own
    monkeypatch.setattr(text, "FEWEST_BLOCKS", 3)  # alone, so few paragraphs would be cut into twenty blocks
    file = tmp_path / "test.txt"
    file.write_text("".join(blocks["test"]), "utf-8")
    found = main(["evaluate", "--model", model, "--text", str(file)])["metrics"]
    for name, value in metrics["results"][0]["metrics"].items():
        for key in ("value", "low", "high"):
            assert found[name][key] == pytest.approx(value[key], abs=1e-6)
    said = capsys.readouterr().out
    size = sum(map(len, blocks["test"]))
    assert f"{size} of {size} characters, 4 blocks, 0 characters that the model does not know" in said
    headline = metrics["headline"]
    span = f"{headline['value']:.3f}  ({headline['low']:.3f} to {headline['high']:.3f})"
    assert any(line.split(maxsplit=3)[-1] == span for line in said.splitlines() if "Bits per character" in line)


def test_evaluate_counts_what_the_model_does_not_know(model, tmp_path, capsys):
    file = tmp_path / "other.txt"
    file.write_bytes(("the object of 漢字 and Ω, " + "the value of the object, " * 10).encode("utf-16"))
    found = main(["evaluate", "--model", model, "--text", str(file)])["metrics"]
    assert all(np.isfinite(value["value"]) for value in found.values())
    said = "3 characters that the model does not know: '漢' (U+6F22), '字' (U+5B57), 'Ω' (U+03A9)\n"
    assert said in capsys.readouterr().out
    file.write_text("the 漢字 and Ω, ", "utf-8")
    with pytest.raises(BadInput, match="found 3 of 15 characters that the model does not know, '漢'"):
        main(["evaluate", "--model", model, "--text", str(file)])


@pytest.mark.parametrize(
    ("kind", "words"), [("byte", []), ("bpe", ["--vocabulary", "300", "--quick", "--units", "16"])]
)
def test_other_tokens_compare_by_byte(kind, words, own, file, tmp_path, lean, reloaded):
    _, metrics = own
    other = main(
        ["--text", str(file), *TINY, "--epochs", "1", "--tokenizer", kind, *words, "--out", str(tmp_path / "run")]
    )
    assert other["data"]["tokenizer"] == kind
    assert other["data"]["vocabulary"] == {"byte": 256, "bpe": 300}[kind]
    assert ("tokenizers" in other["versions"]) == (kind == "bpe")
    for key in ("characters", "bytes", "blocks"):
        assert other["data"][key] == metrics["data"][key]  # of the same text
    assert other["compressors"] == metrics["compressors"]
    share = other["data"]["characters"]["test"] / other["data"]["bytes"]["test"]
    assert share < 1
    for model, bits in values(other).items():
        assert values(other, "bits_per_byte")[model] == pytest.approx(bits * share)
        perplexity = values(other, "perplexity")[model]
        assert np.log2(perplexity) * other["data"]["test"] == pytest.approx(bits * other["data"]["characters"]["test"])
        assert 0 < values(other, "bits_per_byte")[model] < 8
    loaded = models.load(tmp_path / "run" / "model.keras")
    assert loaded.tokenizer.kind == kind
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("new: 漢字")) == "new: 漢字"
    assert len("".join(loaded.write("漢", 20, temperature=1, seed=0))) >= 5


UNUSUAL = (
    "Ελληνικά",
    "漢字かな",
    "שלום עולם",
    "اَلْعَرَبِيَّةُ",
    "🎉👩‍👩‍👧",
    "e\u0301\u0327",
    "\u202eabc\u202c",
    "#let x = $1$",
    "<&>",
    "\\u",
    "\ta",
)


def test_unusual_text_is_typeset(tmp_path, assert_pdf):
    content = paragraphs(30, words=UNUSUAL)
    content[TEST] = f"\x07\x1b[0m\x7f{content[TEST]}"
    file, out = write(tmp_path / "unusual [1].txt", content), tmp_path / "run"
    metrics = main(["--text", str(file), *TINY, "--epochs", "1", "--out", str(out)])
    assert sum(metrics["data"]["blocks"].values()) == 30  # each paragraph is one
    known = set("".join(part for place, part in enumerate(content) if place % 10 not in (TEST, VALIDATION)))
    unknown = [character for part in content[TEST::10] for character in part if character not in known]
    assert {"\x07", "\x1b", "\x7f"} <= set(unknown)
    assert metrics["data"]["unknown"]["test"] == len(unknown)
    assert "漢" in json.dumps(metrics["hardest"], ensure_ascii=False)
    said = assert_pdf(out / "report.pdf", ["Limitations"], pages=(4, 9))
    assert f"{len(unknown)} characters of the test text are unknown" in said


def test_of_random_characters_nothing_is_learnt(tmp_path, pdf_text):
    draw = random.Random(0)
    content = ["".join(draw.choices("abcdefghijklmnop", k=200)) for _ in range(39)]
    file = write(tmp_path / "random.txt", content)
    words = ["--text", str(file), *TINY, "--epochs", "1", "--seeds", "2", "--seed", "5"]
    metrics = main([*words, "--out", str(tmp_path / "run")])
    assert "The GRU has not learned this text: its " in pdf_text(tmp_path / "run" / "report.pdf")
    value = metrics["results"][0]["metrics"]["bits_per_character"]
    assert min(value["seeds"]) > 4  # of 16 characters
    # And another seed is another model.
    one, other = value["seeds"]
    assert abs(one - other) > 1e-4
    assert value["deviation"] == pytest.approx(abs(one - other) / 2**0.5)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["stage"].tolist() == ["GRU 1", "GRU 2"]
    assert history["loss"].nunique() == 2


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no attention in float16 on a CPU")
def test_half_precision_trains_without_nan(file, tmp_path):
    words = ["--text", str(file), "--units", "8", "--layers", "1", "--heads", "2", "--context", "16", "--epochs", "2"]
    out = tmp_path / "run"
    metrics = main([*words, "--precision", "mixed_float16", "--out", str(out)])
    assert keras.mixed_precision.global_policy().name == "float32"
    history = pd.read_csv(out / "history.csv")
    assert np.isfinite(history[["loss", "val_loss"]]).all(axis=None)
    assert history["loss"][1] < history["loss"][0]
    assert values(metrics)["transformer"] < np.log2(metrics["data"]["vocabulary"])
    assert metrics["attention"] | {"text": ""} == {"text": "", "layers": 1, "heads": 2}
    assert (out / "figures" / "attention.svg").exists()
    assert metrics["figures"]["attention"]["alt"].startswith("Attention of 2 heads in each of 1 layer for the text '")
    loaded = models.load(out / "model.keras")
    assert loaded.model.get_layer("block_1_attention").compute_dtype == "float16"
    assert all(weight.dtype == np.float32 for weight in loaded.model.get_weights())
    sample = metrics["samples"][3]
    assert loaded.samples([sample["prompt"]], 60, temperature=0.8, seed=0) == [sample["text"]]


# --- Going on ---


def test_init_from_starts_with_the_weights_and_the_tokens(own, model, tmp_path, pdf_text):
    out, before = own
    content = [f"{part} {'züq'[place % 3]}" for place, part in enumerate(paragraphs(30, seed=1))]
    words = ["--text", str(write(tmp_path / "other.txt", content)), *TINY, "--epochs", "1", "--init-from", model]
    metrics = main([*words, "--learning-rate", "1e-12", "--out", str(tmp_path / "a")])
    for one, other in zip(weights(out), weights(tmp_path / "a"), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    notes = [run.model_notes(folder / "model.keras") for folder in (out, tmp_path / "a")]
    assert notes[0] == notes[1]
    known = set(notes[0]["tokenizer"]["characters"])
    assert {"z", "ü", "q"} - known
    for name, place in (("test", TEST), ("validation", VALIDATION)):
        unknown = [character for part in content[place::10] for character in part if character not in known]
        assert metrics["data"]["unknown"][name] == len(unknown) > 0
    assert metrics["data"]["vocabulary"] == before["data"]["vocabulary"]
    readable = [f"{part}\n\n".translate(dict.fromkeys(map(ord, set(part) - known), "\ufffd")) for part in content]
    start = models.load(out / "model.keras")
    bits = []
    for block in readable[TEST::10]:
        encoded = start.tokenizer.encode(block)
        logits = np.asarray(start.model.predict_on_batch(encoded[None, :-1]), np.float64)[0]
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        bits.append(np.log2(start.tokenizer.vocabulary))
        bits.extend(-np.log2(chances[np.arange(len(encoded) - 1), encoded[1:]]))
    assert values(metrics)["GRU"] == pytest.approx(np.mean(bits), abs=1e-5)
    said = pdf_text(tmp_path / "a" / "report.pdf")
    assert "fitted on the training text" not in said
    assert "Started from" in said


def test_init_from_with_other_tokens(model, file, tmp_path):
    words = ["--text", str(file), *TINY, "--tokenizer", "bpe", "--init-from", model, "--out", str(tmp_path / "a")]
    with pytest.raises(BadInput, match="--tokenizer: found bpe, expected char as in --init-from"):
        main(words)
    assert not (tmp_path / "a").exists()


def test_init_from_another_architecture(model, file, tmp_path):
    words = ["--text", str(file), *TINY, "--units", "9", "--init-from", model, "--out", str(tmp_path / "a")]
    with pytest.raises(BadInput, match=r"--init-from .*model\.keras: found weights of .*, expected .* --units"):
        main(words)
    assert not (tmp_path / "a").exists()


# --- Bad input ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found an empty file, expected text"),
        (b" \n\t\n", "found nothing but white space, expected text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "byte 8: found a NUL byte, expected text"),
        (b"\x01\x02\x03\x04\x05\x06" * 10, "found 60 control characters in the first 60 bytes"),
        (b"the value " * 50 + b"\xff\xfe", "byte 500: found 0xff, which isn't UTF-8, expected UTF-8"),
        (b"too short", "found 11 tokens, only "),
        (b"a" * 5_000, "found only the character 'a', 5,000 times, expected several different characters"),
        (None, "found no such file, expected a text file or a folder of them"),
    ],
)
def test_unusable_text_leaves_nothing_behind(content, said, tmp_path, monkeypatch, capsys):
    file = tmp_path / "a.txt"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    code, line = left(monkeypatch, capsys, "--text", "a.txt", *TINY)
    assert code == 2
    assert line.startswith(f"error: a.txt: {said}")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file] * (content is not None)
    assert not list(tmp_path.glob("runs/text_generation/*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--heads", "3"], "--heads: found 3, expected a divisor of --units, 128, which they share"),
        (["--quick", "--heads", "3"], "--heads: found 3, expected a divisor of --units, 64, "),
        (["--encoding", "utf-8"], "found --encoding without --text, expected files to go with it"),
        (["--text", "own.txt", "--encoding", "klingon"], "--encoding: found 'klingon', expected one that Python knows"),
        (["--text", "own.txt", "own.txt"], "own.txt: found it twice among the files, expected each once"),
        (["--text", "own.txt", "--context", "5000"], "own.txt: found 7,"),
        (["--text", "empty"], "empty: found no text in this folder"),
        (["--init-from", "none.keras"], "none.keras: found no such file, expected the model.keras of a run"),
        (["--init-from", "other.keras"], "other.keras: found another model ("),
        (["--resume"], "--resume: found no unfinished run with these settings"),
        (["generate", "--model", "none.keras"], "none.keras: found no such file"),
        (["generate", "--model", "own.txt"], "own.txt: found another kind of file"),
        (["generate", "--model", "other.keras"], "other.keras: found another model ("),
        (["generate", "--model", "embedding.keras"], "embedding.keras: found a model without tokens, expected the "),
        (["evaluate", "--model", "none.keras", "--text", "own.txt"], "none.keras: found no such file"),
        (["report", "--run", "."], "metrics.json: found no readable JSON"),
    ],
)
def test_unusable_settings_are_said_in_one_line(words, said, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_bytes(file.read_bytes())
    (tmp_path / "empty").mkdir()
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save("other.keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Embedding(2, 2, name="embedding")]).save("embedding.keras")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, line = left(monkeypatch, capsys, *words)
    assert code == 2
    assert line.startswith(f"error: {said}")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert not list(tmp_path.glob("runs/text_generation/*"))


def test_evaluate_says_what_is_wrong_with_the_text(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_bytes(b"the value\xff")
    code, line = left(monkeypatch, capsys, "evaluate", "--model", model, "--text", tmp_path / "a.txt")
    assert code == 2
    assert "a.txt: byte 9: found 0xff, which isn't UTF-8" in line


def test_train_is_the_default_and_the_others_are_named(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    said = capsys.readouterr().out
    for command in ("generate", "evaluate", "report"):
        assert f"text_generation.py {command} --help" in said
    assert Train() == run.dispatch({Train: lambda settings: settings}, [], program="", description="")


def test_learning_curves_are_in_bits_of_the_characters_that_were_judged():
    # The first 90 tokens are a character each, the other 90 only a third of one.
    tokenizer = SimpleNamespace(decode=lambda tokens: "a" * int((tokens < 90).sum() + (tokens >= 90).sum() // 3))
    numbers = np.array([180])
    part = Part(np.arange(180), np.array([0]), np.array([120]), numbers, 0, tokenizer)
    assert evaluation.tokens_a_character(part) == 180 / 120
    assert evaluation.tokens_a_character(part, 90) == 1
    assert evaluation.tokens_a_character(part, 500) == 180 / 120

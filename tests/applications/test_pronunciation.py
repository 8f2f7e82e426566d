import hashlib
import json
import random
import shlex
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from pypdf import PdfReader

from applications import pronunciation, run
from applications.n_grams import NGram
from applications.pronounce import evaluation, models
from applications.pronounce.baselines import LetterContext
from applications.pronunciation import Train, main
from data import pronunciation as dictionaries
from data.dataset import BadInput
from data.pronunciation import Words
from templates import decoding

HEADINGS = [
    *("Results", "Errors", "Examples", "Training set size", "Data", "Model and training"),
    *("Limitations", "Reproducing this run"),
]
READ = {"a": "AH0", "b": "B", "c": "K", "d": "D", "e": "EH1", "h": ""}  # the h is silent
IPA = {"AH0": "ə", "B": "b", "K": "k", "D": "d", "EH1": "ɛː", "S": "s"}
SMALL = ("--units", "32", "--heads", "2", "--layers", "1", "--dropout", "0", "--beams", "3")
LEARNING = (*SMALL, "--optimizer", "sgd", "--learning-rate", "0.3", "--batch-size", "20", "--epochs", "11")
LSTM = ("--template", "lstm", *SMALL, "--optimizer", "adam", "--learning-rate", "0.02", "--batch-size", "16")
TINY = ("--units", "8", "--heads", "2", "--layers", "1", "--epochs", "1", "--optimizer", "sgd", "--dropout", "0")


COMPILED = decoding._Compiled


class Uncompiled:
    """The search of `decoding.Translator`, step by step: for so few words that is quicker than to compile it."""

    def __init__(self, function):
        self.function = function

    def predict_on_batch(self, inputs):
        return tuple(keras.ops.convert_to_numpy(part) for part in self.function(*inputs))


def make_small(patch):
    patch.setattr(decoding, "_Compiled", Uncompiled)
    patch.setattr(models, "BATCH", 64)
    patch.setattr(evaluation, "TIMED", 8)
    patch.setattr(evaluation, "SHOWN_LETTERS", (4, 4))
    patch.setattr(evaluation, "FREQUENT", 10)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    make_small(monkeypatch)


@pytest.fixture
def lean(monkeypatch):
    """No pictures and no report, for runs whose numbers alone matter."""
    monkeypatch.setattr(evaluation, "draw", lambda *_: {"attention": None, "figures": {}})
    monkeypatch.setattr("reports.report.typeset", lambda *_: b"")
    monkeypatch.setattr(evaluation, "_speed", lambda *_: 1.0)


@pytest.fixture
def untrained(monkeypatch):
    """Nothing is trained, but a list says on how many pairs each network would have been, by its stage."""
    pairs = {}

    def fit(trainer, _):
        pairs[trainer.stage] = len(trainer.train[0])
        weights = float(sum(np.abs(weight).sum() for weight in trainer.model.model.get_weights()))
        return run.Fit({"loss": [weights], "val_loss": [1.0]}, 1, 1.0)

    monkeypatch.setattr(models.Trainer, "fit", fit)
    return pairs


def part_of(word):
    place = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") / 2**64
    return "test" if place < 0.1 else "validation" if place < 0.15 else "train"


def made_up(count=400, seed=0):
    """Words of four letters, each with a phone of its own, but the silent h.

    Of an initial d two phones are listed. An initial c has another phone in words to test on: they all are errors.
    """
    draw = random.Random(seed)
    found = {}
    while len(found) < count:
        word = "".join([draw.choice("abcdeh"), *draw.choices("abcdehh", k=3)])
        said = tuple(READ[letter] for letter in word if READ[letter])
        other = ("S", *said[1:])
        if said:
            is_exception = word[0] == "c" and part_of(word) == "test"
            found[word] = (said, other) if word[0] == "d" else (other,) if is_exception else (said,)
    return found


def cmu(entries):
    """As CMUdict writes it."""
    lines = [";;; a comment\n"]
    for word, alternates in entries.items():
        for number, phones in enumerate(alternates, 1):
            lines.append(f"{word.upper()}{f'({number})' * (number > 1)}  {' '.join(phones)}\n")
    return "".join(lines)


def ipa(entries):
    """As many write IPA: no space between the phones, a mark of stress, pronunciations between slashes."""
    return "".join(
        f"{word}\t{', '.join('/ˈ' + ''.join(IPA[phone] for phone in phones) + '/' for phones in alternates)}\n"
        for word, alternates in entries.items()
    )


def write(path, content):
    path.write_text(content, "utf-8")
    return path


def split(entries):
    parts = {"train": {}, "validation": {}, "test": {}}
    for word, alternates in entries.items():
        parts[part_of(word)][word] = alternates
    return parts


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("dictionary") / "own.dict", cmu(made_up()))


@pytest.fixture(scope="module")
def parts():
    return split(made_up())


@pytest.fixture(scope="module")
def own(file, tmp_path_factory):
    """All that a run leaves that learns a little."""
    out = tmp_path_factory.mktemp("own") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return out, main(["--dictionary", str(file), "--stress", *LEARNING, "--out", str(out)])


@pytest.fixture
def model(own):
    return str(own[0] / "model.keras")


class Stranger:
    """What somebody makes of model.keras who knows nothing of this program: the network and the tokens."""

    def __init__(self, path):
        self.network = keras.models.load_model(path)
        self.notes = run.model_notes(path)
        self.letters, self.phones = self.notes["coder"]["letters"], self.notes["coder"]["phones"]

    def log_probabilities(self, words, so_far):
        """Of the token that comes next, (words, tokens), after the phones so far."""
        time = 1 + max(map(len, so_far))
        sources = np.zeros((len(words), max(map(len, words))), np.int32)
        targets = np.zeros((len(words), time), np.int32)
        for row, (word, phones) in enumerate(zip(words, so_far, strict=True)):
            sources[row, : len(word)] = [2 + self.letters.index(x) if x in self.letters else 1 for x in word]
            targets[row, : 1 + len(phones)] = [1, *(3 + self.phones.index(x) for x in phones)]
        logits = np.asarray(self.network([sources, targets]), np.float64)
        logits = logits[np.arange(len(words)), [len(phones) for phones in so_far]]
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def all_log_probabilities(self, word, phones):
        """Of the phones and the end of a word, (phones + 1,)."""
        so_far = [phones[:place] for place in range(len(phones) + 1)]
        chances = self.log_probabilities([word] * len(so_far), so_far)
        return chances[np.arange(len(so_far)), [*(3 + self.phones.index(x) for x in phones), 2]]

    def search(self, words, beams):
        """Of each word the best beginnings, followed until they end: their phones and log probabilities."""
        longest = self.notes["longest"] - 1
        found = [[(0.0, (), False)] for _ in words]
        while not all(ended for of_word in found for *_, ended in of_word):
            alive = [(n, score, said) for n, one in enumerate(found) for score, said, ended in one if not ended]
            after = [[one for one in of_word if one[2]] for of_word in found]
            chances = self.log_probabilities([words[n] for n, *_ in alive], [said for *_, said in alive])
            for (n, score, said), of_row in zip(alive, chances, strict=True):
                after[n].append((score + of_row[2], said, True))
                if len(said) < longest:
                    more = zip(self.phones, of_row[3:], strict=True)
                    after[n] += [(score + chance, (*said, phone), False) for phone, chance in more]
            found = [sorted(of_word, key=lambda one: -one[0])[:beams] for of_word in after]
        return [[(said, score) for score, said, _ in of_word] for of_word in found]


@pytest.fixture(scope="module")
def stranger(own):
    return Stranger(own[0] / "model.keras")


@pytest.fixture(scope="module")
def expected(stranger, parts):
    """What the two searches find for the test words, by beams."""
    words = list(parts["test"])
    return {beams: stranger.search(words, beams) for beams in (1, 3)}


def distance(one, other):
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def nearest(said, alternates):
    return min(alternates, key=lambda phones: distance(said, phones))


def rates(found, alternates):
    """Word and phone error rate."""
    alternates = list(alternates)
    wrong = [said not in listed for said, listed in zip(found, alternates, strict=True)]
    edits = [distance(said, nearest(said, listed)) for said, listed in zip(found, alternates, strict=True)]
    phones = [len(nearest(said, listed)) for said, listed in zip(found, alternates, strict=True)]
    return {"word_error_rate": np.mean(wrong), "phone_error_rate": sum(edits) / sum(phones)}


def said_first(found):
    return [of_word[0][0] for of_word in found]


def values(metrics, name="word_error_rate"):
    return {result["model"]: result["metrics"][name]["value"] for result in metrics["results"]}


def words_of(metrics):
    """The arguments of the command that the report says."""
    python, program, *words = shlex.split(metrics["command"])
    assert (python, program) == ("python", "applications/pronunciation.py")
    return words


def finite(value):
    """All numbers of nested metrics are."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or np.isfinite(value)


def left(monkeypatch, capsys, *words):
    """What the program leaves with: its exit code, and the only line that it says."""
    monkeypatch.setattr(sys, "argv", ["pronunciation.py", *map(str, words)])
    with pytest.raises(SystemExit) as raised:
        run.execute(main)
    said, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert not [one for one in said.splitlines() if " s  words: " not in one]
    return raised.value.code, line


# --- A run ---


def test_run_leaves_what_it_promises(own):
    folder, metrics = own
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "figures", "history.csv", "metrics.json", "model.keras", "report.pdf")
    ]
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert finite(metrics)
    history = pd.read_csv(folder / "history.csv")
    assert set(history["stage"]) == {"transformer-0"}
    assert history["epoch"].tolist() == list(range(1, 12))
    assert np.isfinite(history[["loss", "val_loss"]]).all(axis=None)
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        *("learning", "spelling", "letter", "sizes", "network", "attention")  # all words are of one group of lengths
    }


def test_metrics_have_the_schema_and_are_of_the_data(own, parts, assert_schema):
    folder, metrics = own
    assert_schema(json.loads((folder / "metrics.json").read_text()), evaluation.Metrics)
    assert metrics["application"] == "pronunciation"
    for name, words in parts.items():
        assert metrics["data"][name] == len(words)
        assert metrics["data"]["entries"][name] == sum(map(len, words.values()))
    assert (metrics["data"]["letters"], metrics["data"]["phones"]) == (6, 6)
    names = ["transformer", "transformer, greedy", evaluation.BASELINE]
    assert [result["model"] for result in metrics["results"]] == names
    assert [result["baseline"] for result in metrics["results"]] == [False, False, True]
    assert [result["search"] for result in metrics["results"]] == [3, 1, None]
    for result in metrics["results"]:
        assert result["parameters"] > 0
        assert set(result["metrics"]) == set(evaluation.MEASURES)
        for value in result["metrics"].values():
            assert 0 <= value["low"] <= value["value"] <= value["high"]
            assert value["value"] == pytest.approx(np.mean(value["seeds"]))
    errors = values(metrics)
    assert metrics["headline"]["value"] == errors["transformer"]
    assert {key: metrics["headline"][key] for key in ("model", "metric")} == {
        **{"model": "transformer", "metric": "word_error_rate"}
    }
    assert {(one["better"], one["worse"]) for one in metrics["differences"]} == {
        (names[0], names[1]),
        (names[0], names[2]),
    }
    for one in metrics["differences"]:
        of_measure = values(metrics, one["measure"])
        assert one["value"] == pytest.approx(of_measure[one["worse"]] - of_measure[one["better"]])
    assert set(metrics["speed"]["transformer"]) == {"1", "3"}
    assert min(metrics["speed"]["transformer"].values()) > 0


def test_numbers_are_those_of_the_saved_model_on_the_test_words(own, parts, expected):
    _, metrics = own
    for name, beams in (("transformer", 3), ("transformer, greedy", 1)):
        found = rates(said_first(expected[beams]), parts["test"].values())
        for measure, value in found.items():
            assert values(metrics, measure)[name] == pytest.approx(value)
    assert 0 < metrics["headline"]["low"] < metrics["headline"]["value"] < metrics["headline"]["high"] < 1


def test_errors_are_where_they_are_said_to_be(own, parts, expected):
    _, metrics = own
    words, alternates = list(parts["test"]), list(parts["test"].values())
    found = said_first(expected[3])
    wrong = [said not in listed for said, listed in zip(found, alternates, strict=True)]
    (of_length,) = metrics["by_length"].values()  # all words have four letters
    assert of_length["words"] == len(words)
    assert of_length["word_error_rate"]["value"] == pytest.approx(np.mean(wrong))
    spelling = metrics["by_spelling"].values()
    assert [group["words"] for group in spelling] == [
        len(words) * (n + 1) // 5 - len(words) * n // 5 for n in range(5)
    ] or sum(group["words"] for group in spelling) == len(words)
    assert sum(group["words"] * group["word_error_rate"]["value"] for group in spelling) == pytest.approx(sum(wrong))
    listed = [nearest(said, of_word) for said, of_word in zip(found, alternates, strict=True)]
    edits = sum(map(distance, found, listed))
    confused = metrics["confusions"]
    assert confused["substituted"] + confused["left_out"] + confused["put_in"] == edits
    assert confused["put_in"] - confused["left_out"] == sum(map(len, found)) - sum(map(len, listed))
    assert all(a != b and n > 0 for a, b, n in confused["most"])
    assert [n for *_, n in confused["most"]] == sorted([n for *_, n in confused["most"]], reverse=True)
    letters = metrics["by_letter"]
    for letter, value in letters.items():
        assert value["letters"] == "".join(words).count(letter)  # all can be aligned
        assert value["value"] == pytest.approx(value["wrong"] / value["letters"])
    assert set(letters) == set("".join(words))
    # The alignment finds out that the h is silent and all others have one phone: a letter read wrongly is an edit.
    assert sum(wrong) <= sum(value["wrong"] for value in letters.values()) <= 2 * edits


def test_examples_are_of_the_saved_model(own, parts, expected):
    _, metrics = own
    for row, (word, listed) in enumerate(parts["test"].items()):
        said, score = expected[3][row][0]
        kinds = [kind for kind in ("right", "wrong") for one in metrics["examples"][kind] if one["word"] == word]
        assert kinds in ([], ["right" if said in listed else "wrong"])
        for one in (one for kind in metrics["examples"].values() for one in kind if one["word"] == word):
            assert one["said"] == " ".join(said)
            assert one["listed"] == [" ".join(phones) for phones in listed]
            assert one["probability"] == pytest.approx(np.exp(score), rel=1e-3)
    assert {len(metrics["examples"][kind]) for kind in ("right", "wrong")} <= set(range(1, evaluation.EXAMPLES + 1))
    sure = [one["probability"] for one in metrics["examples"]["sure"]]
    wrong = [np.exp(of_word[0][1]) for of_word, listed in zip(expected[3], parts["test"].values(), strict=True)
             if of_word[0][0] not in listed]  # fmt: skip
    np.testing.assert_allclose(sure, sorted(wrong, reverse=True)[: evaluation.EXAMPLES], rtol=1e-3)


def test_attention_is_of_a_right_word_with_silent_letters(own, parts, expected):
    shown = own[1]["attention"]
    assert (shown["layers"], shown["heads"]) == (1, 2)
    assert tuple(shown["said"].split()) in parts["test"][shown["word"]]
    assert shown["said"] == " ".join(said_first(expected[3])[list(parts["test"]).index(shown["word"])])
    assert len(shown["said"].split()) < len(shown["word"]) - 1


def test_baseline_had_the_same_split(own, parts):
    _, metrics = own
    train = Words(tuple(parts["train"]), tuple(parts["train"].values()))
    baseline = LetterContext(train, 0)
    found = rates(baseline.predict(list(parts["test"])), parts["test"].values())
    for measure, value in found.items():
        assert values(metrics, measure)[evaluation.BASELINE] == pytest.approx(value)
    sizes = metrics["sizes"]
    assert [one["words"] for one in sizes[evaluation.BASELINE]] == [
        round(share * len(train)) for share in evaluation.SHARES
    ]
    assert [one["words"] for one in sizes["transformer"]] == [len(train)]
    for name in ("transformer", evaluation.BASELINE):
        assert sizes[name][-1]["word_error_rate"]["value"] == values(metrics)[name]
    part = evaluation.some_of(train, 0.5)
    found = rates(LetterContext(part, 0).predict(list(parts["test"])), parts["test"].values())
    assert sizes[evaluation.BASELINE][1]["word_error_rate"]["value"] == pytest.approx(found["word_error_rate"])


def test_weights_of_the_epoch_with_the_lowest_validation_loss_are_kept(own, parts, stranger):
    folder, metrics = own
    losses = pd.read_csv(folder / "history.csv")["val_loss"]
    assert metrics["results"][0]["best_epochs"] == [1 + losses.argmin()]
    pairs = [(word, phones) for word, alternates in parts["validation"].items() for phones in alternates]
    pairs.sort(key=lambda pair: max(len(pair[0]), len(pair[1]) + 1))
    total = 0
    for start in range(0, len(pairs), 20):  # as Keras does it: the mean over the phones of a batch, of all its words
        batch = pairs[start : start + 20]
        total -= len(batch) * np.concatenate([stranger.all_log_probabilities(*pair) for pair in batch]).mean()
    assert losses.min() == pytest.approx(total / len(pairs), rel=1e-4)


def test_letters_with_a_phone_each_are_learnt(own, parts, expected):
    _, metrics = own
    wrong = {
        word: said not in listed
        for (word, listed), said in zip(parts["test"].items(), said_first(expected[3]), strict=True)
    }
    exceptions = [word for word in wrong if word[0] == "c"]
    assert all(wrong[word] for word in exceptions)
    assert sum(wrong.values()) - len(exceptions) <= 0.08 * (len(wrong) - len(exceptions))
    assert next(iter(metrics["by_letter"])) == "c"
    assert ["S", "K", len(exceptions)] in metrics["confusions"]["most"]
    assert metrics["headline"]["high"] < 0.5


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


@pytest.fixture
def assert_typeset(assert_pdf):
    """The report holds the numbers and all figures, and is typeset again the same; returns its text."""

    def check(folder, metrics):
        before = (folder / "report.pdf").read_bytes()
        text = assert_pdf(folder / "report.pdf", HEADINGS, pages=(4, 8))
        for result in metrics["results"]:
            assert f"{100 * result['metrics']['word_error_rate']['value']:.1f} %" in text
        drawn = metrics["figures"].values()
        assert {figure["file"] for figure in drawn} == {f"figures/{one.name}" for one in (folder / "figures").iterdir()}
        structure = PdfReader(folder / "report.pdf").root_object["/StructTreeRoot"]["/K"]
        found = [element["/Alt"] for element in elements(structure) if element["/S"] == "/Figure"]
        assert sorted(found) == sorted(figure["alt"] for figure in drawn)
        main(["report", "--run", str(folder)])
        assert (folder / "report.pdf").read_bytes() == before
        return text

    return check


def test_report_has_all_figures_and_is_typeset_again_the_same(own, assert_typeset):
    assert "Cross-attention" in assert_typeset(*own)


def test_alternative_texts_carry_the_numbers(own):
    _, metrics = own
    alt = {name: figure["alt"].replace("\u00a0", " ") for name, figure in metrics["figures"].items()}
    assert alt["learning"].endswith(f"epoch {metrics['results'][0]['best_epochs'][0]}")
    for name in ("length", "spelling"):
        groups = metrics[f"by_{name}"]
        assert (name in alt) == (len(groups) > 1)  # a single bar is no comparison
        for group, value in groups.items() if name in alt else ():
            assert f"{group} {100 * value['word_error_rate']['value']:.1f} %" in alt[name]
    often = [(name, one) for name, one in metrics["by_letter"].items() if one["letters"] >= evaluation.FREQUENT]
    assert alt["letter"].endswith(", ".join(f"{name} {100 * one['value']:.1f} %" for name, one in often[:3]))
    for model, points in metrics["sizes"].items():
        rates = [f"{100 * one['word_error_rate']['value']:.1f} % after {one['words']:,}" for one in points]
        assert f"{model}: {', '.join(rates)}" in alt["sizes"]
    for name, _, parameters in metrics["model"]["layers"]:
        assert f"{name} {parameters:,}" in alt["network"]
    for word in (metrics["attention"]["word"], metrics["attention"]["said"]):
        assert word in alt["attention"]


def test_command_of_the_report_gives_the_same_settings(own, file):
    _, metrics = own
    words = words_of(metrics)
    settings = run.dispatch({Train: lambda settings: settings}, words, program="", description="")
    assert run.lasting(models.with_recipe(settings)) == metrics["settings"]
    assert words[:3] == ["--dictionary", str(file), "--stress"]


def test_a_run_is_not_resumed_on_other_data(file, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    other = write(tmp_path / "own.dict", file.read_text())
    words = ["--dictionary", str(other), *TINY, "--out", str(tmp_path / "run")]
    monkeypatch.setattr(models, "Trainer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    write(other, file.read_text().replace("AH0", "AA0"))
    with pytest.raises(BadInput, match="data that differ from those it was started with"):
        main([*words, "--resume"])
    assert (tmp_path / "run" / "checkpoints").exists()


# --- Learning ---


@pytest.mark.slow
def test_of_pronunciations_of_other_words_nothing_is_learnt(tmp_path, assert_typeset):
    entries = made_up(seed=1)
    spoken = list(entries.values())
    random.Random(0).shuffle(spoken)
    entries = dict(zip(entries, spoken, strict=True))
    file, out = write(tmp_path / "own.tsv", ipa(entries)), tmp_path / "run"
    metrics = main(["--dictionary", str(file), *LSTM, "--epochs", "5", "--quick", "--out", str(out)])
    assert metrics["headline"]["low"] > 0.9
    assert metrics["evaluation"]["resamples"] < 500
    assert finite(metrics)
    # An LSTM's attention isn't drawn.
    assert metrics["attention"] is None
    assert not (out / "figures" / "attention.svg").exists()
    text = assert_typeset(out, metrics)
    for word, is_there in (("not learned", True), ("quick run", True), ("Cross-attention", False)):
        assert (word in text) == is_there
    # The marks of length are part of their phones, those of stress were dropped.
    loaded = models.load(out / "model.keras")
    assert loaded.coder.phone_set == tuple(sorted(IPA.values()))
    assert not loaded.stress
    test = split(entries)["test"]
    found = [of_word[0].phones for of_word in loaded.say(list(test), 3)]
    listed = [tuple(tuple(IPA[phone] for phone in phones) for phones in of_word) for of_word in test.values()]
    for measure, value in rates(found, listed).items():
        assert values(metrics, measure)["LSTM encoder–decoder"] == pytest.approx(value)


def test_compare_trains_both_with_each_seed_and_on_parts(file, parts, tmp_path, lean, untrained, monkeypatch):
    monkeypatch.setattr(evaluation, "SHARES", (0.5, 1.0))
    out = tmp_path / "run"
    choice = ["--template", "lstm", "--compare", "--beams", "1", "--seeds", "2", "--seed", "5"]
    metrics = main(["--dictionary", str(file), *TINY, *choice, "--out", str(out)])
    lstm, former = "LSTM encoder–decoder", "transformer"
    assert [result["model"] for result in metrics["results"]] == [lstm, former, evaluation.BASELINE]
    assert [result["search"] for result in metrics["results"]] == [1, 1, None]
    assert {(one["better"], one["worse"]) for one in metrics["differences"]} == {
        (lstm, former),
        (lstm, evaluation.BASELINE),
        (former, evaluation.BASELINE),
    }
    words = Words(tuple(parts["train"]), tuple(parts["train"].values()))
    for name in (lstm, former, evaluation.BASELINE):
        assert [one["words"] for one in metrics["sizes"][name]] == [
            round(share * len(words)) for share in evaluation.SHARES
        ]
    assert list(untrained) == [
        f"{template}-{name}" for template in ("lstm", "transformer") for name in ("5", "6", "5-0.5")
    ]
    for stage, pairs in untrained.items():
        _, _, share = stage.partition("-5-")
        assert pairs == sum(map(len, evaluation.some_of(words, float(share or 1)).pronunciations))
    history = pd.read_csv(out / "history.csv")
    assert history["stage"].tolist() == list(untrained)
    # Another seed is another network, other data alone are not.
    of_stage = history.set_index("stage")["loss"]
    for template in ("lstm", "transformer"):
        assert of_stage[f"{template}-5"] == of_stage[f"{template}-5-0.5"] != of_stage[f"{template}-6"]
    for result in metrics["results"][:2]:
        assert result["best_epochs"] == [1, 1]
        for value in result["metrics"].values():
            one, other = value["seeds"]
            assert value["value"] == pytest.approx((one + other) / 2)
            assert value["deviation"] == pytest.approx(abs(one - other) / 2**0.5)
        first = result["metrics"]["word_error_rate"]["seeds"][0]
        assert metrics["sizes"][result["model"]][-1]["word_error_rate"]["value"] == first
    assert {name: of["template"] for name, of in metrics["model"]["settings"].items()} == {
        **{lstm: "lstm", former: "transformer"}
    }
    assert set(metrics["speed"]) == {lstm, former}
    assert models.load(out / "model.keras").template == "lstm"


def test_cmudict_is_what_is_learnt_unless_another_is_named(tmp_path, lean, untrained, monkeypatch):
    monkeypatch.setattr(dictionaries, "FLOORS", {"train": 0, "validation": 20, "test": 60})
    monkeypatch.setattr(models, "LENGTHS", 32)
    monkeypatch.setattr(decoding, "_Compiled", COMPILED)
    out = tmp_path / "run"
    metrics = main(["--quick", "--template", "lstm", "--share", "0.002", "--beams", "1", "--out", str(out)])
    assert metrics["data"]["name"] == "CMUdict"
    assert (metrics["data"]["train"], metrics["data"]["test"]) == (214, 60)
    assert 30 < metrics["data"]["phones"] <= 39
    assert (metrics["settings"]["epochs"], metrics["settings"]["units"]) == (1, 32)
    assert 0.9 < metrics["headline"]["value"] <= 1
    assert finite(metrics)


def test_order_of_the_words_is_the_seeds(file):
    lexicon = dictionaries.load_dictionary(file)
    settings = models.with_recipe(Train(dictionary=file, template="lstm", units=2, layers=1, epochs=4, batch_size=64))
    seen = {}

    def fit(stage, network, batches, *, epochs, steps, **_):
        assert epochs == 4
        for name, choice in (("two", range(2, 4)), ("all", range(4))):
            seen[stage, name] = [target for epoch in choice for _, target in batches(epoch)]
            assert len(seen[stage, name]) == steps * len(choice)

    for stage, seed in (("a", 0), ("b", 0), ("c", 1)):
        models.Trainer(settings, seed, lexicon, lexicon.splits["train"], None, stage).fit(SimpleNamespace(fit=fit))

    def same(one, other):
        return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))

    assert same(seen["a", "all"], seen["b", "all"])
    assert same(seen["a", "all"][len(seen["a", "two"]) :], seen["a", "two"])  # as a run goes on that was stopped
    assert not same(seen["a", "all"], seen["c", "all"])


# --- Saying ---


@pytest.fixture(scope="module")
def loaded(own):
    return models.load(own[0] / "model.keras")


@pytest.fixture
def at_once(loaded, monkeypatch):
    """The model needn't be loaded again."""
    monkeypatch.setattr(models, "load", lambda _: loaded)


def test_say_gives_the_best_pronunciations(model, at_once, stranger, capsys):
    words = ["beda", "CEBH", "b"]
    said = main(["say", "--model", model, "--words", *words, "--best", "3", "--beams", "4"])["said"]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 * len(words)
    for row, (word, of_word) in enumerate(zip(words, said, strict=True)):
        phones = [one.phones for one in of_word[:3]]
        chances = [one.probability for one in of_word]
        assert len(set(phones)) == 3
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1
        found = stranger.search([word.lower()], 4)[0]
        assert [one[0] for one in found[:3]] == phones
        for one, chance in zip(phones, chances, strict=False):
            assert chance == pytest.approx(np.exp(stranger.all_log_probabilities(word.lower(), one).sum()), rel=1e-3)
        lines = printed[3 * row : 3 * row + 3]
        assert lines[0].startswith(f"{word} ")
        for line, one in zip(lines, of_word[:3], strict=True):
            assert line.split("%")[1].split() == list(one.phones)
            assert f" {100 * one.probability:.1f} %" in line


def test_company_changes_no_pronunciation(loaded, parts):
    words = ["bedabe", *list(parts["test"])[:9], "a"]  # more than eight are another batch
    together = loaded.say(words, 2)
    for word, of_word in ((words[at], together[at]) for at in (0, 3, -1)):
        (alone,) = loaded.say([word], 2)
        assert [one.phones for one in alone] == [one.phones for one in of_word]
        np.testing.assert_allclose(
            [one.probability for one in alone], [one.probability for one in of_word], rtol=1e-3, atol=1e-6
        )
    assert loaded.say(words[::-1], 2)[::-1] == together


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best", "9"], "--beams: found 8, expected at least the 9 of --best"),
        (["--beams", "2"], "--beams: found 2, expected at least the 3 of --best"),
    ],
)
def test_say_refuses_what_it_cannot_read(words, said, model, at_once, monkeypatch, capsys):
    code, line = left(monkeypatch, capsys, "say", "--model", model, "--words", "beda", *words)
    assert code == 2
    assert line.startswith("error: ")
    assert said in line


def test_say_says_what_it_can_and_names_the_rest(model, at_once, monkeypatch, capsys):
    words = ["beda", "Bez", "HEAD", "b\x1ba", "beda" * 5, " ", "fügt"]
    monkeypatch.setattr(sys, "argv", ["pronunciation.py", "say", "--model", model, "--words", *words])
    with pytest.raises(SystemExit) as raised:
        run.execute(main)
    assert raised.value.code == 2
    said, errors = capsys.readouterr()
    assert [line.split()[0] for line in said.splitlines() if line[0] != " "] == ["beda", "HEAD"]
    longest = models.load(Path(model)).longest
    assert errors == (
        "error: --words: 5 of 7 could not be pronounced: Bez: found z, which the model doesn't know; b\\x1ba: found "
        f"U+001B, which the model doesn't know; {'beda' * 5}: found 20 letters, expected at most {longest}, the "
        "model's limit;  : found no letter, expected some; fügt: found f, ü, g, t, which the model doesn't know; "
        "expected the model's letters: a, b, c, d, e, h\n"
    )


def test_the_longest_word_that_may_be_said_is_said(loaded):
    (said,) = loaded.say(["b" * loaded.longest], 2)
    assert len(said) == 2
    assert all(len(one.phones) < loaded.longest for one in said)
    with pytest.raises(BadInput, match=f"found {loaded.longest + 1} letters, expected at most {loaded.longest}"):
        loaded.say(["a", "b" * (loaded.longest + 1)])


# --- Other dictionaries ---


def test_evaluate_gives_the_figures_of_the_run(own, model, parts, tmp_path, capsys):
    file = write(tmp_path / "test.dict", cmu(parts["test"]))
    found = main(["evaluate", "--model", model, "--dictionary", str(file), "--beams", "3"])["metrics"]
    for name, value in own[1]["results"][0]["metrics"].items():
        for key in ("value", "low", "high"):
            assert found[name][key] == pytest.approx(value[key])
    printed = capsys.readouterr().out
    assert f"{len(parts['test'])} words" in printed
    headline = own[1]["headline"]
    assert f"{headline['value']:.4f}  ({headline['low']:.4f} to {headline['high']:.4f})" in printed


def test_evaluate_measures_what_the_model_does_not_know(model, at_once, stranger, tmp_path, monkeypatch, capsys):
    entries = {"zeda": (("Z", "EH1", "D"), ("EH1", "D", "AH0")), "beda": (("B", "EH1", "D", "AH0"),), "ça": (("S",),)}
    file = write(tmp_path / "test.dict", cmu(entries))
    found = main(["evaluate", "--model", model, "--dictionary", str(file), "--beams", "1"])["metrics"]
    expected = rates(said_first(stranger.search(list(entries), 1)), entries.values())
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value)
    printed = capsys.readouterr().out
    assert "the model doesn't know 1 of the phones (Z): 0 of 3 words have one in each pronunciation" in printed
    assert "the model doesn't know 2 of the letters (z, ç), in 2 words" in printed
    longest = run.model_notes(Path(model))["longest"]
    write(file, cmu({"beda" * 5: (("B", "D"),), "beda": (("B", "Z"),), "head": (("B", "D"),)}))
    assert main(["evaluate", "--model", model, "--dictionary", str(file)])["unknown"] == [
        "the model doesn't know 1 of the phones (Z): 1 of 3 words have one in each pronunciation and count as wrong",
        f"1 of 3 words have more letters than the model's limit, {longest}, and count as wrong",
    ]
    capsys.readouterr()
    write(file, "".join(f"{word}\tʒ x\n" for word in entries))
    code, line = left(monkeypatch, capsys, "evaluate", "--model", model, "--dictionary", file)
    assert (code, line) == (
        2,
        f"error: {file}: found the phones x, ʒ, and one that the model doesn't know in each pronunciation, expected "
        "its phones: AH0, B, D, EH1, K, S",
    )


def korean(count):
    """Syllables of which few are frequent, and a phone for each of their parts."""
    draw, found = random.Random(0), {}
    while len(found) < count:
        parts = [(draw.randrange(19), draw.randrange(21)) for _ in range(2)]
        word = "".join(chr(0xAC00 + 588 * onset + 28 * vowel) for onset, vowel in parts)
        found[word] = (tuple(sound for onset, vowel in parts for sound in (f"K{onset}x", f"A{vowel}x")),)
    return found


def test_letters_are_chosen_on_validation_words(tmp_path):
    file = write(tmp_path / "korean.tsv", cmu(korean(400)).replace("  ", "\t"))
    composed, decomposed = (dictionaries.load_dictionary(file, form=form) for form in ("NFC", "NFD"))
    chosen = evaluation.easier(composed, decomposed, 0)
    assert chosen.coder == decomposed.coder
    assert chosen.provenance.understood[-1] == (
        "letters are those of Unicode's decomposed form (NFD): the baseline's word error rate on validation is "
        "11.8\u00a0% with the 335 composed ones and 0.0\u00a0% with the 40 decomposed ones (--letters)"
    )
    # Nothing is gained by an accent apart from its letter.
    file = write(tmp_path / "accents.dict", cmu({f"{word}é": one for word, one in made_up().items()}))
    composed, decomposed = (dictionaries.load_dictionary(file, form=form) for form in ("NFC", "NFD"))
    assert evaluation.easier(composed, decomposed, 0).coder == composed.coder
    plain = dictionaries.load_dictionary(write(tmp_path / "plain.dict", cmu(made_up())))
    assert evaluation.easier(plain, plain, 0) == plain


@pytest.mark.slow
def test_a_run_with_decomposed_letters(tmp_path, lean, untrained):
    file = write(tmp_path / "korean.tsv", cmu(korean(400)).replace("  ", "\t"))
    tiny = ["--dictionary", str(file), *TINY, "--beams", "1"]
    metrics = main([*tiny, "--out", str(tmp_path / "run")])
    assert (metrics["data"]["form"], metrics["data"]["letters"]) == ("NFD", 40)
    for example in metrics["examples"]["wrong"]:
        assert unicodedata.is_normalized("NFC", example["word"])  # as it is read
    model = str(tmp_path / "run" / "model.keras")
    with pytest.raises(BadInput, match="--letters: found nfc, expected nfd, as in the model of --init-from"):
        main([*tiny, "--init-from", model, "--letters", "nfc", "--out", str(tmp_path / "other")])
    assert main([*tiny, "--init-from", model, "--out", str(tmp_path / "other")])["data"]["form"] == "NFD"
    assert len(main(["say", "--model", model, "--words", "가나", "--best", "1"])["said"]) == 1


def test_files_that_need_more_said(tmp_path, lean, untrained, file):
    content = file.read_text() + "broken\n" + "é B D\n"
    own = tmp_path / "own.dict"
    own.write_bytes(content.encode("cp1252").replace(b"\xe9", b"\x8a"))
    words = ["--dictionary", str(own), *TINY, "--beams", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(BadInput, match=r"found the byte 0x8a.*--encoding names another"):
        main(words)
    with pytest.raises(BadInput, match="found 'broken' without phones"):
        main([*words, "--encoding", "cp1252"])
    metrics = main([*words, "--skip-bad", "--encoding", "cp1252"])
    understood = metrics["data"]["understood"]
    assert "read as cp1252, as set by --encoding" in understood
    assert "left out: 1 line without an entry, the first: line 478: found 'broken' without phones, " in "".join(
        understood
    )
    for flag, value in (("--encoding", "cp1252"), ("--skip-bad", "")):
        with pytest.raises(BadInput, match=f"found {flag} without --dictionary"):
            main([flag, *[value] * bool(value), "--out", str(tmp_path / "none")])


def test_init_from_starts_with_the_weights_letters_and_phones(model, stranger, tmp_path, lean, untrained):
    entries = made_up(300, seed=2)
    draw = random.Random(0)
    for word in list(entries)[::3]:  # letters and phones that the model lacks
        said = entries.pop(word)
        entries[f"{word[:3]}z"] = said if draw.random() < 0.5 else (("Z", "AH0"),)
    file, out = write(tmp_path / "other.dict", cmu(entries)), tmp_path / "run"
    words = ["--dictionary", str(file), "--stress", *LEARNING, "--beams", "1", "--init-from", model]
    metrics = main([*words, "--out", str(out)])
    after = keras.models.load_model(out / "model.keras").get_weights()
    for one, other in zip(stranger.network.get_weights(), after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.model_notes(out / "model.keras") == stranger.notes
    train, _, test = split(entries).values()
    known = [phones for alternates in train.values() for phones in alternates if "Z" not in phones]
    assert untrained == {"transformer-0": len(known)}
    assert any("z" in word for word in test)
    found = rates(said_first(stranger.search(list(test), 1)), test.values())
    for measure, value in found.items():
        assert values(metrics, measure)["transformer"] == pytest.approx(value)
    assert finite(metrics)


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({}, ["--stress", "--units", "16"], "--init-from .*model.keras: found weights of .*, expected .* --units"),
        ({}, ["--stress", "--template", "lstm"], "--init-from .*model.keras: found weights of "),
        ({}, [], "--stress: found False, expected "),
        (
            {"B": "P0", "AH0": "AA", "EH1": "OW0", "D": "T", "K": "G", "S": "Z"},
            ["--stress"],
            "one that the model doesn.t know in each pronunciation",
        ),
    ],
)
def test_init_from_what_does_not_fit(changes, words, said, model, at_once, tmp_path):
    entries = {
        word: tuple(tuple(changes.get(phone, phone) for phone in phones) for phones in alternates)
        for word, alternates in made_up().items()
    }
    file, out = write(tmp_path / "other.dict", cmu(entries)), tmp_path / "a"
    with pytest.raises(BadInput, match=said):
        main(["--dictionary", str(file), *LEARNING, "--init-from", model, *words, "--out", str(out)])
    assert not out.exists()


def test_init_from_a_network_that_is_too_short(model, at_once, tmp_path):
    entries = {f"{word}{'b' * (len(word) * 3)}": said for word, said in made_up().items()}
    file, out = write(tmp_path / "other.dict", cmu(entries)), tmp_path / "a"
    with pytest.raises(BadInput, match="found a word of 16 letters or phones, expected at most "):
        main(["--dictionary", str(file), "--stress", *LEARNING, "--init-from", model, "--out", str(out)])
    assert not out.exists()


def test_test_words_are_those_of_the_list(file, tmp_path, monkeypatch):
    listed = list(made_up())[:30]
    seen = []

    def stop(settings, lexicon, *_):
        seen.append(lexicon)
        raise BadInput("enough")

    monkeypatch.setattr(pronunciation, "_network", stop)
    words = write(tmp_path / "list.txt", "\n".join(listed).upper())
    with pytest.raises(BadInput, match="enough"):
        main(["--dictionary", str(file), "--test-words", str(words), *TINY, "--out", str(tmp_path / "a")])
    (lexicon,) = seen
    assert sorted(lexicon.splits["test"].spellings) == sorted(listed)
    assert not set(lexicon.splits["train"].spellings) & set(listed)
    # Without --stress its digits are dropped; a run of one's own words takes them all.
    assert set(lexicon.coder.phone_set) == {"AH", "B", "K", "D", "EH", "S"}
    assert sum(map(len, lexicon.splits.values())) == 400


# --- Parts of the evaluation ---


@pytest.mark.parametrize("share", [0.25, 0.5, 1])
def test_some_words_are_part_of_more(parts, share):
    train = Words(tuple(parts["train"]), tuple(parts["train"].values()))
    some = evaluation.some_of(train, share)
    assert len(some) == round(share * len(train))
    assert all(parts["train"][word] == said for word, said in zip(some.spellings, some.pronunciations, strict=True))
    more = evaluation.some_of(train, min(1, 2 * share))
    assert set(some.spellings) <= set(more.spellings)
    assert list(some.spellings) == sorted(some.spellings, key=train.spellings.index)


def test_surprise_is_of_each_word_alone(file):
    lexicon = dictionaries.load_dictionary(file)
    found = evaluation.surprise(lexicon)
    train = [np.append(word, 0) for word in lexicon.coder.spellings(lexicon.splits["train"].spellings)]
    starts = np.cumsum([0, *map(len, train)])[:-1]
    letters = NGram(3).fit(np.concatenate(train), starts, lexicon.coder.source_vocabulary)
    for word, value in zip(lexicon.splits["test"].spellings, found, strict=True):
        (spelt,) = lexicon.coder.spellings([word])
        bits, _ = letters.evaluate(np.append(spelt, 0), np.zeros(1, int))
        assert value == pytest.approx(bits.mean())


def test_letters_are_left_out_where_nothing_can_be_aligned(parts):
    train, test = (Words(tuple(parts[name]), tuple(parts[name].values())) for name in ("train", "test"))
    found = [("B",) * 50 for _ in test.spellings]  # of a network that never ends
    network = SimpleNamespace(found=[found])
    judged = [evaluation.Pronunciation(found, test.pronunciations)]
    assert evaluation._by_letter(network, LetterContext(train, 0), test, judged, 10) == {}


def test_shown_word_is_right_and_has_silent_letters():
    alternates = ((("A", "B", "C"),), (("A", "B"), ("B", "A")), (("A", "B"),), (("A",),))
    words = Words(("abch", "habh", "ahbh", "aa"), alternates)
    assert evaluation._shown(words, [("A", "B", "C"), ("A",), ("A", "B"), ("A",)]) == 2
    assert evaluation._shown(words, [("A", "B", "C"), ("B", "A"), ("A", "B"), ("A",)]) == 1
    assert evaluation._shown(words, [("A", "B", "C"), ("C",), ("B", "A"), ("A",)]) is None


def test_room_is_left_for_longer_words():
    words = Words(("abcd", "ab"), ((("A",), ("A", "B", "C", "D", "E")), (("A",),)))
    empty = Words((), ())
    lexicon = SimpleNamespace(splits={"train": words, "validation": empty, "test": empty})
    assert models.longest_of(lexicon) == 9  # half as many again as five phones and their end


# --- Bad input ---


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    """Files that are of no use."""
    path = tmp_path_factory.mktemp("useless")
    write(path / "own.dict", file.read_text())
    write(path / "short.dict", cmu(made_up(30)))
    write(path / "strange.txt", "xylophone\n")
    (path / "empty.dict").write_bytes(b"")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path / "other.keras")
    source = keras.Input((4,), name="source")
    keras.Model(source, keras.layers.Dense(2)(source)).save(path / "source.keras")
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--heads", "3"], "--heads: found 3, expected a divisor of --units, 128, which they share"),
        (["--quick", "--heads", "3"], "--heads: found 3, expected a divisor of --units, 32, "),
        (["--template", "lstm", "--compare", "--heads", "3"], "--heads: found 3, expected a divisor of --units, 128, "),
        (["--template", "lstm", "--units", "33"], "--units: found 33, expected an even number"),
        (["--compare", "--units", "33", "--heads", "3"], "--units: found 33, expected an even number"),
        (["--compare", "--init-from", "own.dict"], "found --compare and --init-from, expected one"),
        (["--dictionary", "none.dict"], "none.dict: found no such file"),
        (["--dictionary", "empty.dict"], "empty.dict: found an empty file"),
        (["--dictionary", "short.dict"], "short.dict: found 30 different words, expected at least 200"),
        (["--dictionary", "own.dict", "--share", "0.1"], "own.dict, share 0.1: found "),
        (
            ["--dictionary", "own.dict", "--test-words", "strange.txt"],
            "strange.txt: line 1: found 1 words that the dictionary lacks ('xylophone'",
        ),
        (["--init-from", "none.keras"], "none.keras: found no such file, expected the model.keras of a run"),
        (["--init-from", "other.keras"], "other.keras: found another model ("),
        (["--resume"], "--resume: found no unfinished run with these settings"),
        (["say", "--model", "none.keras", "--words", "a"], "none.keras: found no such file"),
        (["say", "--model", "own.dict", "--words", "a"], "own.dict: found another kind of file"),
        (["say", "--model", "other.keras", "--words", "a"], "other.keras: found another model ("),
        (["say", "--model", "source.keras", "--words", "a"], "source.keras: found a model without phones"),
        (["evaluate", "--model", "none.keras", "--dictionary", "own.dict"], "none.keras: found no such file"),
        (["report", "--run", "."], "metrics.json: found no readable JSON"),
    ],
)
def test_unusable_settings_are_said_in_one_line(words, said, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    code, line = left(monkeypatch, capsys, *words)
    assert code == 2
    assert line.startswith(f"error: {said}")
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before
    assert not list(folder.glob("runs/pronunciation/*"))


def test_train_is_the_default_and_the_others_are_named(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    said = capsys.readouterr().out
    for command in ("say", "evaluate", "report"):
        assert f"pronunciation.py {command} --help" in said
    assert Train() == run.dispatch({Train: lambda settings: settings}, [], program="", description="")
    chosen = models.with_recipe(Train())
    assert (chosen.share, chosen.units) == (0.2, 128)
    assert models.with_recipe(Train(dictionary=Path("mine.tsv"))).share == 1
    assert models.with_recipe(Train(dictionary=Path("mine.tsv"), share=0.5)).share == 0.5
    assert models.with_recipe(Train(preset="full", units=64), "lstm").units == 64

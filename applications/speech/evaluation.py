"""The evaluation of the speech application: baselines, measures with intervals, and figures."""

import dataclasses
import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import keras
import numpy as np

from applications import run
from applications.speech.windows import frame_segments, margin_of
from data import acoustics, speech
from data.batches import shuffled_batches, sorted_sequences, steps_of
from data.dataset import Split
from data.phones import IGNORED, PHONE_CLASSES
from reports import figures
from reports import metrics as schema
from reports.metrics import Estimate, bootstrap, differences, headline, mean, over_seeds, percent, span
from reports.tagging import Tagging, accuracy_by, boundary_distance, confusion, most_confused

BATCH = 32  # sentences tagged at once
TOLERANCE = 2  # frames, 20 ms, for a boundary to count as found
REACH = 5  # frames on each side that the baselines see
PERCEPTRON_WIDTH = 256
PERCEPTRON_DROPOUT = 0.1
WINDOW_EPOCHS, WINDOW_BATCH, WINDOW_RATE = 10, 256, 2e-3
VALIDATION_ROWS = 100_000  # more frames would not change which epoch is best
CONTEXTS = (0, 1, 2, 3, 5, 10, 20, 50, 100)  # frames
CONTEXT_FRAMES = 1_000  # test frames for measuring the use of context
# Groups of distances from the nearest true boundary, with their first frame.
DISTANCES = {"0": 0, "1": 1, "2": 2, "3": 3, "4–5": 4, "6–9": 6, "10 or more": 10}
SHOWN_FRAMES = 600  # of an example, 6 s
MOST_SPEAKERS = 16  # in a figure
LONGEST_TEXT = 240  # characters of a printed sentence
MEASURES = {
    "frame_accuracy": "Frame accuracy",
    "phone_error_rate": "Phone error rate",
    "boundary_f1": "Boundary F1",
}
# Questions about the family of networks: (expected to be better, than).
QUESTIONS = (
    ("BLSTM", "LSTM"),
    ("LSTM", "RNN"),
    ("BLSTM", "BRNN"),
    ("BLSTM", "BGRU"),
    ("BGRU", "GRU"),
    ("BRNN", "RNN"),
    ("deep BLSTM", "BLSTM"),
    ("deep BLSTM", "transformer encoder"),
)


class Data(schema.Data):
    """The size of each split, the phones, and the test speakers in the order of their numbers.

    `scored` are the frames with a phone; `heard` is the number of test speakers who are also in the training data.
    """

    train: int
    validation: int
    test: int
    classes: list[str]
    sentences: dict[str, int]
    speakers: dict[str, int]
    minutes: dict[str, float]
    scored: dict[str, int]
    heard: int
    test_speakers: list[str]


class Evaluation(schema.Evaluation):
    """The titles of the measures, and their settings."""

    measures: dict[str, str]
    tolerance_ms: int
    reach: int
    context_frames: int


class Result(schema.Result):
    """A model, its trainings and, for a network, its size and settings."""

    fit_seconds: float
    best_epochs: list[int]
    layers: NotRequired[int]
    units: NotRequired[int]
    activation: NotRequired[str]
    dropout: NotRequired[float]
    learning_rate: NotRequired[float]
    warm_up: NotRequired[float]


class Point(schema.Estimate):
    """Accuracy by number of context frames."""

    frames: int


class Example(TypedDict):
    """A sentence to show, its rank by frame accuracy, and its index in the test data."""

    kind: str
    sentence: int
    rank: int
    name: str
    speaker: str
    text: str
    noise: str
    seconds: float
    seconds_shown: float
    frame_accuracy: float
    phone_error_rate: float


class Confusion(TypedDict):
    """A true phone, a wrong prediction for it, and how often, also as a share of the true phone's frames."""

    true: str
    found: str
    frames: int
    share: float


class Model(TypedDict):
    """The first network's layers as name, shape and parameters, its training, and the losses of its best epoch."""

    layers: list[list[Any]]
    context: int | None
    batch_size: int
    steps_per_epoch: int
    losses: dict[str, float]


class Metrics(schema.Metrics):
    """metrics.json of this application; `context` is by network and side, `accuracy_by` by kind of group."""

    data: Data
    evaluation: Evaluation
    results: Sequence[Result]
    accuracy_by: dict[str, dict[str, dict[str, Estimate]]]
    hardest_speakers: list[str]
    confusions: list[Confusion]
    confusion_matrix: list[list[int]]
    context: dict[str, dict[str, list[Point]]]
    examples: list[Example]
    model: Model


class Sentences:
    """The sentences of a split with their frames (time, bands), labels (time,) and descriptions.

    Frames without a phone have the label `IGNORED`. `scored` are the indices of the others, (n,).
    """

    def __init__(self, split: Split, utterances: Sequence[speech.Utterance]):
        self.split = split
        self.utterances = utterances
        self.inputs = [split.inputs[utterance.start : utterance.end] for utterance in utterances]
        self.labels = [split.labels[utterance.start : utterance.end] for utterance in utterances]
        # The sentence of each frame, (frames,).
        self.number = np.repeat(np.arange(len(utterances)), [len(labels) for labels in self.labels])
        self.scored = np.flatnonzero(split.labels != IGNORED)

    @classmethod
    def of(cls, corpus: speech.Speech, name: str) -> "Sentences":
        """The sentences of a split."""
        return cls(corpus.dataset.splits[name], corpus.utterances[name])

    def __len__(self) -> int:
        return len(self.utterances)

    def pieces(
        self, context: int | None, random: np.random.Generator | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Inputs and labels of all sentences, cut into pieces of at most `context` frames.

        With `random`, the position of the first cut is random.
        """
        places: list[tuple[int, int, int]] = []
        for number, labels in enumerate(self.labels):
            length = len(labels)
            if random is None or context is None or length <= context:
                places += [(number, start, end) for start, end, _, _ in cut(length, context, 0)]
            else:
                # One more than is needed without the random shift, so that the number is constant.
                starts = np.arange(0, length + context, context) - random.integers(context)
                places += [(number, start, start + context) for start in np.clip(starts, 0, length - context)]
        return (
            [self.inputs[number][start:end] for number, start, end in places],
            [self.labels[number][start:end] for number, start, end in places],
        )

    def windows(self, frames: np.ndarray) -> np.ndarray:
        """The frames (n,) with `REACH` neighbours on each side, repeated at the ends of a sentence, (n, …)."""
        ends = np.array([(utterance.start, utterance.end - 1) for utterance in self.utterances])[self.number[frames]]
        reach = np.arange(-REACH, REACH + 1)
        rows = np.clip(frames[:, None] + reach, ends[:, :1], ends[:, 1:])  # (n, 2 * REACH + 1)
        return self.split.inputs[rows].reshape(len(frames), -1)


def cut(length: int, context: int | None, margin: int) -> list[tuple[int, int, int, int]]:
    """Cut a longer sentence into the fewest windows of `context` frames that overlap by at least two margins.

    Returns:
        For each window, its first frame and the one after its last, and the same for the part to keep: the frames that
        are nearer to its middle than to that of any other window.
    """
    if context is None or length <= context:
        return [(0, length, 0, length)]
    count = -(-(length - 2 * margin) // (context - 2 * margin))
    starts = [number * (length - context) // (count - 1) for number in range(count)]
    changes = [(start + context + after) // 2 for start, after in itertools.pairwise(starts)]
    windows = zip(starts, [0, *changes], [*changes, length], strict=True)
    return [(start, start + context, first, last) for start, first, last in windows]


def tags(
    predict: Callable[[np.ndarray], np.ndarray], sentences: Sentences, context: int | None = None
) -> list[np.ndarray]:
    """The tags of each sentence (time,).

    Args:
        predict: from padded sentences (batch, time, bands) to their tags (batch, time).
        sentences: to be tagged.
        context: maximum number of frames for `predict`; longer sentences are tagged in windows.
    """
    margin = margin_of(context) if context else 0
    windows = [
        (number, *window)
        for number, labels in enumerate(sentences.labels)
        for window in cut(len(labels), context, margin)
    ]
    inputs = [sentences.inputs[number][start:end] for number, start, end, _, _ in windows]
    labels = [np.zeros(end - start, np.int32) for _, start, end, _, _ in windows]  # unused
    found = [np.empty(len(labels), np.int32) for labels in sentences.labels]
    batches, members = sorted_sequences(inputs, labels, BATCH)
    for (frames, _), indices in zip(batches, members, strict=True):
        for answer, index in zip(predict(frames), indices, strict=True):
            number, start, _, first, last = windows[index]
            found[number][first:last] = answer[first - start : last - start]
    return found


# --- Baselines, on the same frames ---


@dataclasses.dataclass
class Answers:
    """A baseline's predictions for the test sentences, for each of its trainings."""

    tags: list[list[np.ndarray]]
    parameters: int
    fits: list[run.Fit]


def majority(this_run: run.Run, sentences: Mapping[str, Sentences], settings: Any) -> Answers:
    """The most frequent phone of training, for every frame."""
    train = sentences["train"]
    phone = np.bincount(train.split.labels[train.scored]).argmax()
    return Answers([[np.full(len(labels), phone, np.int32) for labels in sentences["test"].labels]], 0, [])


def logistic_regression(this_run: run.Run, sentences: Mapping[str, Sentences], settings: Any) -> Answers:
    """Multinomial logistic regression on a frame and its neighbours, trained by Adam."""
    return _window_model(this_run, "logistic-regression", sentences, settings.seed, 1, ())


def perceptron(this_run: run.Run, sentences: Mapping[str, Sentences], settings: Any) -> Answers:
    """A perceptron with one hidden layer on a frame and its neighbours."""
    return _window_model(this_run, "perceptron", sentences, settings.seed, settings.seeds, (PERCEPTRON_WIDTH,))


BASELINES = {
    "majority phone": majority,
    "logistic regression": logistic_regression,
    "perceptron": perceptron,
}


def _window_model(
    this_run: run.Run,
    stage: str,
    sentences: Mapping[str, Sentences],
    seed: int,
    seeds: int,
    widths: Sequence[int],
) -> Answers:
    train, validation, test = (sentences[name] for name in ("train", "validation", "test"))
    rows = len(train.scored)
    batch_size = min(WINDOW_BATCH, rows)
    steps, execution = steps_of(rows, batch_size, 1 if keras.backend.backend() == "torch" else 32)
    held_out = validation.scored
    if len(held_out) > VALIDATION_ROWS:
        held_out = np.random.default_rng(seed).choice(held_out, VALIDATION_ROWS, replace=False)

    def read(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frames = train.scored[order]
        return train.windows(frames), train.split.labels[frames]

    found, fits = [], []
    parameters = 0
    for own_seed in range(seed, seed + seeds):
        keras.utils.set_random_seed(own_seed)
        window = x = keras.Input(((2 * REACH + 1) * acoustics.BANDS,))
        for units in widths:
            x = keras.layers.Dropout(PERCEPTRON_DROPOUT)(x)
            x = keras.layers.Dense(units, "relu")(x)
        if widths:
            x = keras.layers.Dropout(PERCEPTRON_DROPOUT)(x)
        model: Any = keras.Model(window, keras.layers.Dense(len(speech.PHONES), "softmax")(x))
        epochs = min(WINDOW_EPOCHS, this_run.settings["epochs"])
        schedule: Any = keras.optimizers.schedules.CosineDecay(WINDOW_RATE, epochs * steps)
        model.compile(
            keras.optimizers.Adam(schedule),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=execution,
            jit_compile=run.jit_compile(),
        )

        fits.append(
            this_run.fit(
                f"{stage}-{own_seed}",
                model,
                shuffled_batches(read, rows, batch_size=batch_size, steps=steps, seed=own_seed),
                epochs=epochs,
                steps=steps,
                validation=(validation.windows(held_out), validation.split.labels[held_out]),
            )
        )
        chosen = [
            np.asarray(model.predict_on_batch(test.windows(np.arange(u.start, u.end)))).argmax(-1).astype(np.int32)
            for u in test.utterances
        ]
        found.append(chosen)
        parameters = model.count_params()
    return Answers(found, parameters, fits)


# --- Evaluation ---


def describe(corpus: speech.Speech) -> dict[str, Any]:
    """The data for metrics.json: provenance, and the size of each split."""
    provenance = corpus.dataset.provenance.to_dict()
    splits = corpus.dataset.splits
    return (
        provenance
        | {name: len(part) for name, part in splits.items()}
        | {
            "classes": list(corpus.dataset.classes),
            "sentences": {name: len(corpus.utterances[name]) for name in splits},
            "speakers": {name: len({u.speaker for u in corpus.utterances[name]}) for name in splits},
            "minutes": {name: len(part) * acoustics.STEP / acoustics.RATE / 60 for name, part in splits.items()},
            "scored": {name: int(np.sum(part.labels != IGNORED)) for name, part in splits.items()},
            "heard": len(
                {u.speaker for u in corpus.utterances["test"]} & {u.speaker for u in corpus.utterances["train"]}
            ),
            "test_speakers": sorted({u.speaker for u in corpus.utterances["test"]}),
        }
    )


def _all_measures(tagging: Tagging, weights: np.ndarray) -> dict[str, float]:
    return {name: getattr(tagging, name)(weights) for name in MEASURES}


def measures(sentences: Sentences, found: Sequence[np.ndarray]) -> dict[str, Estimate]:
    """All measures of one model with intervals from a bootstrap over sentences."""
    tagging = Tagging(sentences.labels, found, tolerance=TOLERANCE)
    return bootstrap(lambda weights: _all_measures(tagging, weights), len(sentences))


def compare(
    test: Sentences,
    found: Mapping[str, Sequence[Sequence[np.ndarray]]],
    parameters: Mapping[str, int],
    fits: Mapping[str, Sequence[run.Fit]],
    resamples: int,
) -> dict[str, Any]:
    """Comparable results of all models, with intervals from one bootstrap over sentences.

    Args:
        test: the sentences.
        found: by model, for each of its trainings, the tags of each sentence; the first model is the headline.
        parameters: by model.
        fits: by model.
        resamples: draws of the bootstrap.
    """
    own = next(iter(found))
    taggings = {model: [Tagging(test.labels, f, tolerance=TOLERANCE) for f in found[model]] for model in found}
    pairs = [(own, model) for model in found if model != own]
    pairs += [pair for pair in QUESTIONS if pair[0] in found and pair[1] in found and not {pair, pair[::-1]} & {*pairs}]
    groups = _groups(test)
    shown = (own, "perceptron")
    by_group = {
        kind: {
            model: accuracy_by(_correct(test, found[model]), codes, test.number[test.scored], len(names), len(test))
            for model in shown
        }
        for kind, (names, codes) in groups.items()
    }

    def of_seeds(model: str, weights: np.ndarray) -> list[dict[str, float]]:
        return [_all_measures(tagging, weights) for tagging in taggings[model]]

    def statistic(weights: np.ndarray) -> dict[str, Any]:
        means = {model: mean(of_seeds(model, weights)) for model in taggings}
        return {
            "metrics": means,
            "differences": [means[a]["frame_accuracy"] - means[b]["frame_accuracy"] for a, b in pairs],
            "accuracy_by": {
                kind: {
                    model: dict(zip(groups[kind][0], accuracy(weights).tolist(), strict=True))
                    for model, accuracy in of_models.items()
                }
                for kind, of_models in by_group.items()
            },
        }

    estimates = bootstrap(statistic, len(test), resamples=resamples)
    results = []
    for model in found:
        results.append(
            {
                "model": model,
                "baseline": model in BASELINES,
                "uses_labels": True,
                "parameters": parameters[model],
                "fit_seconds": float(np.mean([fit.seconds for fit in fits[model]])) if fits[model] else 0.0,
                "best_epochs": [fit.best_epoch for fit in fits[model]],
                "metrics": over_seeds(of_seeds(model, np.ones(len(test))), estimates["metrics"][model]),
            }
        )
    truth, guess = test.split.labels[test.scored], np.concatenate(list(found[own][0]))[test.scored]
    counts = confusion(truth, guess, len(speech.PHONES))
    by_speaker = estimates["accuracy_by"]["speaker"][own]
    return {
        "evaluation": {
            "resamples": resamples,
            "unit": "sentences",
            "measures": MEASURES,
            "tolerance_ms": 10 * TOLERANCE,
            "reach": REACH,
            "context_frames": min(CONTEXT_FRAMES, len(test.scored)),
        },
        "headline": headline(results[0], "frame_accuracy"),
        "results": results,
        "differences": differences(pairs, "frame_accuracy", estimates["differences"]),
        "accuracy_by": estimates["accuracy_by"],
        "hardest_speakers": sorted(by_speaker, key=lambda name: by_speaker[name]["value"])[:MOST_SPEAKERS],
        "confusions": _confusions(counts),
        "confusion_matrix": counts.tolist(),
    }


def _correct(test: Sentences, found: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The share of trainings in which each scored frame is right, (frames,)."""
    truth = test.split.labels
    return np.mean([np.concatenate(list(of_seed)) == truth for of_seed in found], axis=0)[test.scored]


def _groups(test: Sentences) -> dict[str, tuple[list[str], np.ndarray]]:
    """For each way to group the scored frames: the names of the groups that occur, and the group of each frame."""
    labels = test.split.labels
    class_of = np.repeat(np.arange(len(PHONE_CLASSES)), [len(phones) for phones in PHONE_CLASSES.values()])
    distance = np.concatenate([boundary_distance(of_sentence) for of_sentence in test.labels])

    def named(of_sentence: Sequence[str], order: Callable[[str], Any]) -> tuple[list[str], np.ndarray]:
        names = sorted(set(of_sentence), key=order)
        return names, np.array([names.index(name) for name in of_sentence])[test.number]

    divided = {
        "phone class": (list(PHONE_CLASSES), class_of[labels]),
        "distance": (list(DISTANCES), np.searchsorted(list(DISTANCES.values()), distance, side="right") - 1),
        "speaker": named([u.speaker for u in test.utterances], str),
        # From the least to the most noise: "clean" first, then descending decibels.
        "noise": named(
            [u.noise for u in test.utterances],
            lambda name: -float(name.removesuffix(" dB") or 0) if name.endswith("dB") else -np.inf,
        ),
    }
    kept = {}
    for kind, (names, codes) in divided.items():
        codes = codes[test.scored]
        present = np.unique(codes)
        kept[kind] = ([names[code] for code in present], np.searchsorted(present, codes))
    return kept


def _confusions(counts: np.ndarray) -> list[dict[str, Any]]:
    """The ten confusions with the most frames."""
    return [
        {
            "true": speech.PHONES[true],
            "found": speech.PHONES[guess],
            "frames": frames,
            "share": frames / int(counts[true].sum()),
        }
        for true, guess, frames in most_confused(counts)
    ]


# --- Context ---


def context(
    probabilities: Callable[[np.ndarray], np.ndarray], test: Sentences, seed: int, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Whether a network is right about test frames when it sees only a limited number of frames before or after them.

    Args:
        probabilities: from padded frames (batch, time, bands) to probabilities of phones (batch, time, phones).
        test: the sentences.
        seed: chooses the frames.
        limit: maximum number of frames for `probabilities`; longer contexts are left out.

    Returns:
        "frames": the drawn test frames (n,); "past", "future", "both": (contexts, n) of bool.
    """
    random = np.random.default_rng(seed)
    total = len(test.scored)
    frames = test.scored[np.sort(random.choice(total, min(CONTEXT_FRAMES, total), replace=False))]
    ends = np.array([(u.start, u.end) for u in test.utterances])[test.number[frames]]
    truth = test.split.labels[frames]
    right = {}
    for side, (past, future) in {"past": (1, 0), "future": (0, 1), "both": (1, 1)}.items():
        rows = []
        for reach in CONTEXTS:
            if limit is not None and (past + future) * reach + 1 > limit:
                break
            first = np.maximum(frames - past * reach, ends[:, 0])
            last = np.minimum(frames + future * reach, ends[:, 1] - 1)
            inputs = np.zeros((len(frames), (past + future) * reach + 1, test.split.inputs.shape[1]), np.float32)
            for row, (start, stop) in enumerate(zip(first, last, strict=True)):
                inputs[row, : stop - start + 1] = test.split.inputs[start : stop + 1]
            answers = probabilities(inputs)[np.arange(len(frames)), frames - first]
            rows.append(answers.argmax(-1) == truth)
        right[side] = np.array(rows)
    return {"frames": frames, **right}


def context_accuracy(
    contexts: Mapping[str, Mapping[str, np.ndarray]], test: Sentences, resamples: int
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By network and side, the accuracy for each number of frames, with its interval."""
    curves: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, found in contexts.items():
        curves[name] = {}
        for side in ("past", "future", "both"):
            right = found[side].ravel()
            shape = found[side].shape
            codes, sentence = np.repeat(np.arange(shape[0]), shape[1]), np.tile(test.number[found["frames"]], shape[0])
            accuracy = accuracy_by(right, codes, sentence, shape[0], len(test))
            estimates = bootstrap(
                lambda weights, accuracy=accuracy: accuracy(weights).tolist(), len(test), resamples=resamples
            )
            curves[name][side] = [
                {"frames": reach, **estimate} for reach, estimate in zip(CONTEXTS, estimates, strict=False)
            ]
    return curves


# --- Examples and figures ---


def examples(test: Sentences, found: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """A good, a typical and the worst sentence of the first training, by frame accuracy; fewer if there are fewer."""
    tagging = Tagging(test.labels, found, tolerance=TOLERANCE)
    order = np.argsort(-tagging.sentence_accuracy, kind="stable")
    places = {"good": len(order) // 10, "typical": len(order) // 2, "worst": len(order) - 1}
    if len(order) < 3:
        places = {"good": 0, "worst": 1} if len(order) == 2 else {"only": 0}
    return [
        {
            "kind": kind,
            "sentence": int(order[place]),
            "rank": place + 1,
            **{key: getattr(test.utterances[order[place]], key) for key in ("name", "speaker", "noise")},
            "text": textwrap.shorten(test.utterances[order[place]].text, LONGEST_TEXT, placeholder=" …"),
            "seconds": len(test.labels[order[place]]) * acoustics.STEP / acoustics.RATE,
            "seconds_shown": SHOWN_FRAMES * acoustics.STEP / acoustics.RATE,
            "frame_accuracy": float(tagging.sentence_accuracy[order[place]]),
            "phone_error_rate": float(tagging.sentence_error[order[place]]),
        }
        for kind, place in places.items()
    ]


def _track(labels: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, str, bool]]:
    """Segments to draw; a segment is right if most of its scored frames are."""
    step = acoustics.STEP / acoustics.RATE
    track = []
    for start, end, label in frame_segments(labels):
        known = truth[round(start / step) : round(end / step)]
        known = known[known != IGNORED]
        is_right = not len(known) or bool(np.mean(known == label) > 0.5)
        track.append((start, end, "–" if label == IGNORED else speech.PHONES[label], is_right))
    return track


def _in_words(values: Mapping[str, Mapping[str, float]]) -> str:
    """The groups and their shares, in words."""
    return ", ".join(f"{name} {percent(value['value'])}" for name, value in values.items())


def draw(
    this_run: run.Run,
    test: Sentences,
    found: Mapping[str, Sequence[Sequence[np.ndarray]]],
    metrics: Mapping[str, Any],
    fits: Mapping[str, Sequence[run.Fit]],
) -> dict[str, Any]:
    """Write the figures; returns their entries in metrics.json."""
    own = metrics["headline"]["model"]
    classes = metrics["data"]["classes"]
    titles = {
        "frame_accuracy": "frame accuracy [%]",
        "phone_error_rate": "phone error rate [%]",
        "boundary_f1": f"boundary F1 at {metrics['evaluation']['tolerance_ms']} ms [%]",
    }
    by_measure = {
        result["model"]: {titles[name]: value for name, value in result["metrics"].items()}
        for result in metrics["results"]
    }
    # Phones that are neither said nor predicted would only be empty rows.
    counts = np.array(metrics["confusion_matrix"])
    seen = np.flatnonzero(counts.sum(0) + counts.sum(1))
    numbers = {name: sum(classes[index] in phones for index in seen) for name, phones in PHONE_CLASSES.items()}
    groups = {name: number for name, number in numbers.items() if number}
    leading = ", ".join(
        f"{entry['true']} as {entry['found']} {percent(entry['share'])}" for entry in metrics["confusions"][:3]
    )
    drawn = {
        "models": (
            figures.interval_dots(
                _spans(by_measure),
                higher_is_better={title: name != "phone_error_rate" for name, title in titles.items()},
            ),
            "Frame accuracy, phone error rate and boundary F1 of all models with their intervals: "
            + "; ".join(
                f"{model} " + ", ".join(percent(value["value"]) for value in values.values())
                for model, values in by_measure.items()
            ),
        ),
        "confusion": (
            figures.confusion_matrix(counts[np.ix_(seen, seen)], [classes[index] for index in seen], groups=groups),
            f"Confusion matrix of {len(seen)} phones; the confusions with the most frames, as shares of the "
            f"true phone's frames: {leading or 'none'}",
        ),
        "network": (
            figures.network(metrics["model"]["layers"]),
            f"The {own}, units of each layer: "
            + ", ".join(f"{name} {shape[-1]}" for name, shape, _ in metrics["model"]["layers"]),
        ),
    }
    if max(len(fit.history["loss"]) for fit in fits[own]) > 1:  # one epoch isn't a curve
        drawn["learning"] = (
            figures.learning_curves(
                {
                    (f"{own}, seed {metrics['seed'] + index}" if index else own): {
                        "training": fit.history["loss"],
                        "validation": fit.history["val_loss"],
                    }
                    for index, fit in enumerate(fits[own])
                },
                y_label="cross-entropy [nats per frame]",
                best_epoch=fits[own][0].best_epoch,
            ),
            f"Training and validation loss of the {own} over the epochs; lowest validation loss in epoch "
            + ", ".join(str(fit.best_epoch) for fit in fits[own]),
        )
    drawn |= _draw_groups(metrics) | _draw_contexts(metrics)
    for example in metrics["examples"]:
        number = example["sentence"]
        sentence = f"“{example['text']}”" if example["text"] else example["name"]
        truth = test.labels[number][:SHOWN_FRAMES]
        tracks = {"true": _track(truth, truth)}
        tracks |= {m: _track(found[m][0][number][:SHOWN_FRAMES], truth) for m in (own, "perceptron")}
        drawn[f"example_{example['kind']}"] = (
            figures.spectrogram(
                test.inputs[number][:SHOWN_FRAMES],
                step=acoustics.STEP / acoustics.RATE,
                centres=acoustics.band_centres(),
                tracks=tracks,
            ),
            f"Spectrogram, true phones and predicted phones of {sentence}; {own}: frame accuracy "
            f"{percent(example['frame_accuracy'])}, phone error rate "
            f"{percent(example['phone_error_rate'])}",
        )
    return {"figures": this_run.draw(drawn)}


def _spans(of_models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, tuple]]:
    """By model and group, the share and its interval in per cent."""
    return {model: {name: span(v, 100) for name, v in groups.items()} for model, groups in of_models.items()}


def _draw_groups(metrics: Mapping[str, Any]) -> dict[str, tuple[bytes, str]]:
    """Figures of the frame accuracy in groups of frames; by speaker and noise if there are several."""
    own, of = metrics["headline"]["model"], metrics["accuracy_by"]
    numbers = {name: str(number) for number, name in enumerate(metrics["data"]["test_speakers"], 1)}
    hardest = metrics["hardest_speakers"]
    title = "test speaker" if len(hardest) == len(of["speaker"][own]) else f"the {len(hardest)} hardest test speakers"
    bars = {
        "phone_class": (of["phone class"], "phone class", "class of the true phone"),
        "speaker": (
            {model: {numbers[name]: values[name] for name in hardest} for model, values in of["speaker"].items()},
            title,
            "test speaker",
        ),
        "noise": (
            {
                model: {level.replace("-", "−"): value for level, value in values.items()}
                for model, values in of["noise"].items()
            },
            "signal-to-noise ratio",
            "signal-to-noise ratio",
        ),
    }
    drawn = {}
    for name, (values, x_label, by) in bars.items():
        if name == "phone_class" or len(values[own]) > 1:
            named = {f"speaker {n}": v for n, v in values[own].items()} if name == "speaker" else values[own]
            drawn[f"by_{name}"] = (
                figures.grouped_bars(_spans(values), x_label=x_label, y_label="frame accuracy [%]"),
                f"Frame accuracy by {by} of the {' and the '.join(values)}; {own}: {_in_words(named)}",
            )
    drawn["by_distance"] = (
        figures.interval_curves(
            {
                model: [(DISTANCES[name], *span) for name, span in groups.items()]
                for model, groups in _spans(of["distance"]).items()
            },
            x_label="frames to the nearest boundary, at least",
            y_label="frame accuracy [%]",
            logarithmic=True,
        ),
        "Frame accuracy by the number of frames between a frame and the nearest true boundary of the "
        f"{' and the '.join(of['distance'])}; {own}: {_in_words(of['distance'][own])}",
    )
    return drawn


def _draw_contexts(metrics: Mapping[str, Any]) -> dict[str, tuple[bytes, str]]:
    """Figures of the frame accuracy over the visible context: of the first network, and of all if there are more."""
    networks = metrics["context"]
    own = metrics["headline"]["model"]

    def curve(points: Sequence[Mapping[str, float]]) -> list[tuple[float, float, float, float]]:
        return [(p["frames"], *span(p, 100)) for p in points]

    def last(points: Sequence[Mapping[str, float]]) -> str:
        return f"{percent(points[-1]['value'])} with {points[-1]['frames']}"

    sides = {"past": "past only", "future": "future only", "both": "past and future"}
    drawn = {
        "context": (
            figures.interval_curves(
                {label: curve(networks[own][side]) for side, label in sides.items()},
                x_label="frames of context on each side",
                y_label="frame accuracy [%]",
                logarithmic=True,
            ),
            "Frame accuracy by frames of context: "
            f"{percent(networks[own]['both'][0]['value'])} with none; "
            + ", ".join(f"{label} {last(networks[own][side])}" for side, label in sides.items()),
        )
    }
    for side, where in {"past": "before", "future": "after"}.items() if len(networks) > 1 else ():
        drawn[f"context_{side}"] = (
            figures.interval_curves(
                {name: curve(curves[side]) for name, curves in networks.items()},
                x_label=f"frames of {side} context",
                y_label="frame accuracy [%]",
                logarithmic=True,
            ),
            f"Frame accuracy of all networks by frames of context {where} the tagged one: "
            + ", ".join(f"{name} {last(curves[side])}" for name, curves in networks.items()),
        )
    return drawn

"""Tag each frame of speech with its phone, using a neural network, and report how well it works.

Synthesises speech with phone labels (or reads yours, laid out like TIMIT), trains the network, compares it with
classical taggers on the same frames and writes a PDF report, the model and all results to a run's folder.

    python applications/speech_tagging.py
    python applications/speech_tagging.py --compare
    python applications/speech_tagging.py --timit TIMIT/
    python applications/speech_tagging.py tag --model runs/.../model.keras --wav speech.wav --out tagged/
    python applications/speech_tagging.py export --model runs/.../model.keras --format onnx --out exported
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # data/, reports/ and templates/ are those beside applications/


from applications import exporting, lazy, run
from data import embedded
from data.dataset import BadInput, escaped, require
from data.ranges import Count, NotNegative, Range, Share, between

with lazy.imports():
    import keras
    import numpy as np

    from applications.speech import evaluation, preprocess, windows
    from data import acoustics, recordings, speech
    from data import batches as batching
    from reports import figures
    from templates import recurrent, transformer

APPLICATION = "speech_tagging"
PACKAGES = ("soundfile", "praatio")  # of the extra "speech"
REPORT = Path(__file__).parent / "speech" / "report.typ"
ENCODER = "transformer_encoder"
NAMES = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU", ENCODER: "transformer encoder"}


# Defaults of the settings, by template; chosen on the validation speakers.
RECIPES = {
    "simple_rnn": dict(layers=2, units=64, activation="tanh", dropout=0.1, learning_rate=3e-3),
    "lstm": dict(layers=2, units=64, activation="tanh", dropout=0.1, learning_rate=1e-2),  # stable thanks to the gates
    "gru": dict(layers=2, units=64, activation="tanh", dropout=0.1, learning_rate=1e-2),
    ENCODER: dict(layers=3, units=64, activation="gelu", dropout=0.2, learning_rate=6e-3),
}
ALWAYS = {
    **{"optimizer": "adam", "batch_size": 16, "epochs": 20, "seeds": 1},
    "synthesis": {"minutes": 30.0, "speakers": 48},
}
QUICK = {"epochs": 2, "synthesis": {"minutes": 3.0, "speakers": 8}}
WARM_UP = {ENCODER: 0.1}  # share of the training in which the learning rate rises
HEADS = 4  # of the transformer encoder's attention
CONTEXT = 64  # frames that it sees at once, a multiple of the padding of batches
PICTURE_SECONDS = 6


@dataclasses.dataclass(frozen=True)
class Synthesis(embedded.Synthesis):
    """Settings of the synthetic speech, used without --timit."""

    minutes: Annotated[float, Range(0, 600, above=True)] | None = None
    """Total length of all sentences, shared equally among the speakers."""
    speakers: Annotated[int, between(6, 600)] | None = None
    """Number of speakers, half of them women; about 60 % for training, 15 % for validation and 25 % for test."""


@dataclasses.dataclass(frozen=True)
class Taggers:
    """Which speech, and which networks."""

    timit: Path | None = None
    """Your own recordings: a folder like TIMIT, WAV or FLAC with PHN or TextGrid. Without it, speech is synthetic."""
    tier: str = ""
    """Name of the phone tier in TextGrids, if it is not "phones" or similar."""
    skip_bad: bool = False
    """Skip and count unusable recordings instead of stopping at the first."""
    synthesis: Synthesis = dataclasses.field(default_factory=Synthesis)
    """Settings of the synthetic speech, used without --timit."""

    template: Literal["simple_rnn", "lstm", "gru", "transformer_encoder"] = "lstm"
    """The architecture: templates/recurrent.py or templates/transformer.py."""
    bidirectional: bool = True
    """Let each layer read the sentence in both directions; the transformer encoder always does."""
    layers: Count | None = None
    """Recurrent layers, or the transformer's blocks."""
    units: Count | None = None
    """Units of each layer and direction, or the transformer's width."""
    compare: bool = False
    """Train other networks of the same size, too: RNN, LSTM and GRU in one or both directions, and a transformer."""

    activation: Literal["tanh", "relu", "sigmoid", "elu", "selu", "gelu", "silu"] | None = None
    """Activation of the cells, or of the transformer's feed-forward layers."""
    dropout: Share | None = None
    """Dropout rate of each layer's input, with one mask per sentence; in the transformer, of each sublayer."""
    recurrent_dropout: Share = 0.0
    """Dropout rate of the recurrent layers' states."""
    layer_normalization: bool = False
    """Normalise the output of each recurrent layer; the transformer always does."""
    patience: Count = 6
    """Epochs without a lower validation loss after which training stops."""


@dataclasses.dataclass(frozen=True)
class Train(run.Training, Taggers):
    """Train on synthetic speech or on your own, compare with classical taggers, and write the report."""


def with_recipe(settings: Any) -> Any:
    """The settings with defaults filled in."""
    return run.filled(settings, QUICK if settings.quick else {}, RECIPES[settings.template], ALWAYS)


@dataclasses.dataclass(frozen=True)
class Tag(run.Trained):
    """Tag a recording of any length with a trained model: a Praat TextGrid and a figure."""

    wav: Path
    """The recording: WAV, FLAC, NIST SPHERE or another audio format."""
    out: Path
    """The folder to write <name>.TextGrid and <name>.svg to."""
    start: NotNegative = 0.0
    """Start of the figure in seconds; it shows six."""


@dataclasses.dataclass(frozen=True)
class Evaluate(run.Trained):
    """Measure a trained model on labelled recordings, without training."""

    timit: Path
    """A folder of WAV or FLAC with PHN or TextGrid files."""
    tier: str = ""
    """Name of the phone tier in TextGrids, if it is not "phones" or similar."""
    skip_bad: bool = False
    """Skip unusable recordings instead of stopping at the first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recordings:
    """What an exported model is compared on."""

    wav: tuple[Path, ...] = ()
    """Recordings to compare on, WAV files of PCM. Without them, two synthetic sentences."""


@dataclasses.dataclass(frozen=True)
class Export(exporting.Export, Recordings):
    """Export a trained model to run without Keras, with the code that tags a recording, and compare its tags."""


@dataclasses.dataclass(frozen=True)
class Serve(exporting.Serve, Recordings):
    """Serve a trained model over HTTP, after it was exported to ONNX and its tags were compared."""


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture of the templates with complete settings."""

    settings: Any

    @property
    def name(self) -> str:
        """The usual name in the literature."""
        template, layers = self.settings.template, self.settings.layers
        if template == ENCODER:
            return NAMES[ENCODER]
        name = ("B" if self.settings.bidirectional else "") + NAMES[template]
        return {1: name, 2: f"deep {name}"}.get(layers, f"{layers}-layer {name}")

    @property
    def context(self) -> int | None:
        """Frames that it can see at once, if there is a limit."""
        return CONTEXT if self.settings.template == ENCODER else None

    @property
    def choices(self) -> dict[str, Any]:
        """The settings that differ between the networks of a run."""
        return {
            **{name: getattr(self.settings, name) for name in RECIPES[self.settings.template]},
            "warm_up": WARM_UP.get(self.settings.template, 0.0),
        }

    def build(self) -> keras.Model:
        """Build the network."""
        settings = self.settings
        options: dict[str, Any] = {"features": acoustics.BANDS, "outputs": len(speech.PHONES)}
        options |= {"activation": settings.activation, "dropout": settings.dropout}
        if settings.template == ENCODER:
            width = settings.units
            model = transformer.encoder(**options, context=CONTEXT, width=width, depth=settings.layers, heads=HEADS)
            model.get_layer("positions").table.assign(sinusoids(CONTEXT, width))
            return model
        return getattr(recurrent, settings.template)(
            **options,
            units=(settings.units,) * settings.layers,
            bidirectional=settings.bidirectional,
            recurrent_dropout=settings.recurrent_dropout,
            layer_normalization=settings.layer_normalization,
        )


def sinusoids(positions: int, width: int) -> np.ndarray:
    """The sinusoidal position embeddings of Vaswani et al. 2017, (positions, width), as initial values."""
    angles = np.arange(positions)[:, None] * 10_000 ** (-np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the program as from the command line and return what it computed."""
    commands = {Train: train, Tag: tag, Evaluate: evaluate, Export: export, Serve: export, run.Report: report}
    return run.dispatch(
        commands,
        arguments,
        program="speech_tagging.py",
        description=__doc__ or "",
        recipes={"--quick": QUICK, **RECIPES, "always": ALWAYS},
    )


# --- Train ---


def train(settings: Train) -> dict[str, Any]:
    """Data, model, fit, evaluation, report."""
    given, settings = settings, with_recipe(settings)
    _check(settings)
    start_weights = _load_tagger(settings.init_from).get_weights() if settings.init_from else None
    with run.Run(APPLICATION, settings) as this_run:
        return _train(settings, _networks(given), start_weights, this_run)


def _train(
    settings: Any, networks: Sequence[Network], start_weights: list[np.ndarray] | None, this_run: run.Run
) -> dict[str, Any]:
    corpus = (
        speech.load_recordings(settings.timit, skip_bad=settings.skip_bad, seed=settings.seed, tier=settings.tier)
        if settings.timit
        else speech.load_synthetic(settings.synthesis)
    )
    dataset = corpus.dataset
    this_run.check_data(dataset.provenance)
    sentences = {name: evaluation.Sentences.of(corpus, name) for name in dataset.splits}
    this_run.say("data: " + ", ".join(f"{name} {len(part):,} frames" for name, part in dataset.splits.items()))

    predictions: dict[str, list[list[np.ndarray]]] = {}
    parameters: dict[str, int] = {}
    fits: dict[str, list[run.Fit]] = {}
    contexts: dict[str, Any] = {}
    for network in networks:
        name = network.name
        predictions[name], fits[name] = [], []
        for seed in range(settings.seed, settings.seed + settings.seeds):
            tagger = Tagger(network, seed, sentences["train"], start_weights)
            fits[name].append(fit := tagger.fit(this_run, sentences))
            predictions[name].append(tagger.tags(sentences["test"]))
            this_run.say(
                f"{name}, seed {seed}: validation accuracy {fit.history['val_accuracy'][fit.best_epoch - 1]:.3f} "
                f"in epoch {fit.best_epoch}, trained in {fit.seconds:.0f} s"
            )
            this_run.at_limit(f"the best epoch of the {name}", fit.best_epoch, settings.epochs, "--epochs")
            if seed == settings.seed:
                parameters[name] = tagger.model.count_params()
                contexts[name] = this_run.stage(
                    f"context-{tagger.stage}",
                    lambda tagger=tagger: evaluation.context(
                        tagger.probabilities, sentences["test"], settings.seed, tagger.context
                    ),
                )
                if network == networks[0]:
                    first = tagger
    for name, fit_baseline in evaluation.BASELINES.items():
        answers = fit_baseline(this_run, sentences, settings)
        predictions[name], parameters[name], fits[name] = answers.tags, answers.parameters, answers.fits
        this_run.say(name)

    resamples = 100 if settings.quick else 500
    own_fit = fits[networks[0].name][0]
    metrics = {
        **this_run.header(settings, "numpy", "scipy", "soundfile"),
        "data": evaluation.describe(corpus),
        **evaluation.compare(sentences["test"], predictions, parameters, fits, resamples),
        "context": evaluation.context_accuracy(contexts, sentences["test"], resamples),
        "examples": evaluation.examples(sentences["test"], predictions[networks[0].name][0]),
        "model": {
            "layers": run.layers(first.model),
            "context": first.context,
            "batch_size": first.batch_size,
            "steps_per_epoch": first.steps,
            "losses": {
                name: own_fit.history[key][own_fit.best_epoch - 1]
                for name, key in (("training", "loss"), ("validation", "val_loss"))
            },
        },
    }
    for result, network in zip(metrics["results"], networks, strict=False):  # the networks come first
        result |= network.choices
    own_fits = [fit for network in networks for fit in fits[network.name]]
    stages = {f"{name} {index}": fit for name, of_seeds in fits.items() for index, fit in enumerate(of_seeds, 1)}
    this_run.write("history.csv", run.history(stages))
    this_run.save_model(
        recurrent.tagger(first.model, names=dataset.classes, metadata={"normalizer": corpus.normalizer.to_config()})
    )
    this_run.say("drawing and writing the report")
    metrics |= evaluation.draw(this_run, sentences["test"], predictions, metrics, fits)
    this_run.finish(metrics, REPORT, own_fits)
    headline = metrics["headline"]
    this_run.say(
        f"{this_run.folder / 'report.pdf'}: {headline['model']}, frame accuracy {headline['value']:.3f} "
        f"({headline['low']:.3f} to {headline['high']:.3f})"
    )
    return metrics


class Tagger:
    """A compiled network that is trained on sentences, or on windows of them if its context is limited."""

    def __init__(
        self,
        network: Network,
        seed: int,
        train: evaluation.Sentences,
        start_weights: list[np.ndarray] | None,
    ):
        self.settings = settings = network.settings
        self.seed = seed
        self.stage = f"{network.name.replace(' ', '-')}-{seed}"
        self.context = network.context
        pieces = len(train.pieces(self.context, np.random.default_rng(0))[0])
        self.batch_size = min(settings.batch_size, pieces)
        self.steps = pieces // self.batch_size
        keras.utils.set_random_seed(seed)
        self.model: Any = network.build()
        run.start_from(self.model, start_weights, settings, "these --template, --bidirectional, --layers and --units")
        self.model.compile(
            run.optimizer(
                settings.optimizer,
                settings.learning_rate,
                settings.epochs * self.steps,
                warm_up=network.choices["warm_up"],
                clipnorm=1.0,  # against exploding gradients through time
            ),
            loss="sparse_categorical_crossentropy",
            weighted_metrics=["accuracy"],  # frames without a phone have no weight
            jit_compile=run.jit_compile(),
        )

    def fit(self, this_run: run.Run, sentences: dict[str, evaluation.Sentences]) -> run.Fit:
        """Train to the epoch with the lowest validation loss."""

        def batches(epoch: int) -> Iterator[Any]:
            pieces = sentences["train"].pieces(self.context, np.random.default_rng([self.seed, epoch]))
            return batching.shuffled_sequences(*pieces, batch_size=self.batch_size, seed=self.seed)(epoch)

        validation = sentences["validation"].pieces(self.context)
        return this_run.fit(
            self.stage,
            self.model,
            batches,
            epochs=self.settings.epochs,
            steps=self.steps,
            validation=list(batching.sorted_sequences(*validation, evaluation.BATCH)[0]),
            patience=self.settings.patience,
            lengths_vary=True,
            count=lambda batch: int(batch[0].any(axis=-1).sum()),  # frames without padding
        )

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """The probabilities of phones, (batch, time, phones), from padded sentences (batch, time, bands)."""
        return self.model.predict_on_batch(inputs)

    def tags(self, sentences: evaluation.Sentences) -> list[np.ndarray]:
        """The most probable phone at each frame of each sentence."""
        return evaluation.tags(lambda inputs: self.probabilities(inputs).argmax(-1), sentences, self.context)


def _networks(settings: Train) -> list[Network]:
    """The network of the settings and, with --compare, other networks with about as many parameters."""
    own = Network(with_recipe(settings))
    if not settings.compare:
        return [own]
    kinds = [(template, both, 1) for template in ("simple_rnn", "lstm", "gru") for both in (False, True)]
    kinds += [("lstm", True, 2), (ENCODER, True, RECIPES[ENCODER]["layers"])]
    names = ("template", "bidirectional", "layers")
    others = [dataclasses.replace(settings, **dict(zip(names, kind, strict=True))) for kind in kinds]
    rest = [Network(with_recipe(of_kind)) for of_kind in others]
    parameters = own.build().count_params()
    return [own, *(_of_size(network, parameters) for network in rest if network.name != own.name)]


def _of_size(network: Network, parameters: int) -> Network:
    """The network with the units for which it is closest to a number of parameters."""
    multiple = HEADS if network.settings.template == ENCODER else 1

    def of_units(units: int) -> Network:
        return Network(dataclasses.replace(network.settings, units=multiple * units))

    tried = [1, 2, 3]
    sizes = [of_units(units).build().count_params() for units in tried]
    polynomial = np.polyfit(tried, sizes, 2)  # exact, as weight matrices have the units on one or both axes
    units = np.arange(1, parameters + 1)
    return of_units(int(units[np.abs(np.polyval(polynomial, units) - parameters).argmin()]))


def _check(settings: Any) -> None:
    require("speech", *PACKAGES)
    if settings.template == ENCODER:
        for name, plain in (("bidirectional", True), ("recurrent_dropout", 0), ("layer_normalization", False)):
            if getattr(settings, name) != plain:
                flag = f"--{'no-' * (name == 'bidirectional')}{name.replace('_', '-')}"
                raise BadInput(f"found {flag} with --template {ENCODER}, expected it with a recurrent network")
        if settings.units % HEADS:
            raise BadInput(f"--units: found {settings.units}, expected a multiple of {HEADS}, the heads of {ENCODER}")
    if settings.compare and settings.init_from:
        raise BadInput("found --compare and --init-from, expected one: the weights fit one network only")
    if settings.skip_bad and not settings.timit:
        raise BadInput("found --skip-bad without --timit, expected recordings to skip")
    if settings.tier and not settings.timit:
        raise BadInput("found --tier without --timit, expected recordings with TextGrids")


def _load_tagger(path: Path) -> Any:
    return run.load_model(path, lambda model: _normalizer(model.get_layer("tags")))


def _context(tagger: Any) -> int | None:
    """Frames that a saved tagger can see at once, if there is a limit."""
    limits = [layer.context for layer in tagger.layers if isinstance(layer, transformer.Positions)]
    return limits[0] if limits else None


def _normalizer(tags: Any) -> acoustics.Normalizer:
    """The normaliser stored in a saved tagger's layer of names."""
    return acoustics.Normalizer.from_config(tags.metadata["normalizer"])


# --- After training ---


def tag(settings: Tag) -> dict[str, Any]:
    """Tag a recording in windows, in bounded memory except for one number per frame."""
    require("speech", *PACKAGES)
    tagger = _load_tagger(settings.model)
    tags = tagger.get_layer("tags")
    normalizer = _normalizer(tags)
    targets = {suffix: settings.out / f"{settings.wav.stem}{suffix}" for suffix in (".TextGrid", ".svg")}
    for target in targets.values():
        if target.exists():
            raise BadInput(f"{target}: found an existing file, expected a new name or another --out")

    for note in recordings.notes_on(settings.wav):
        print(escaped(f"{settings.wav}: {note}"))
    # Two passes: first the speaker's mean and deviation, then the tags.
    count, total, squares = 0, np.zeros(acoustics.BANDS), np.zeros(acoustics.BANDS)
    for frames in acoustics.stream_log_mel(recordings.stream_audio(settings.wav)):
        part = acoustics.moments(frames)
        count, total, squares = count + part[0], total + part[1], squares + part[2]
    seconds = recordings.duration(settings.wav)
    if not 0 <= settings.start < seconds:
        raise BadInput(f"--start: found {settings.start:g}, expected a second of the recording, 0 to {seconds:.1f}")
    mean, deviation = normalizer.statistics(count, total, squares)
    shown: list[np.ndarray] = []
    begin = min(int(settings.start * acoustics.RATE / acoustics.STEP), count - 1)
    end = begin + PICTURE_SECONDS * acoustics.RATE // acoustics.STEP

    def normalised() -> Iterator[np.ndarray]:
        position = 0
        for frames in acoustics.stream_log_mel(recordings.stream_audio(settings.wav)):
            frames = ((frames - mean) / deviation).astype(np.float32)
            shown.append(frames[max(begin - position, 0) : max(end - position, 0)])
            position += len(frames)
            yield frames

    def predict(frames: np.ndarray) -> np.ndarray:
        return tagger.predict_on_batch(frames)["tag"]

    labels = np.concatenate(list(windows.tag_windows(predict, normalised(), _context(tagger)))).astype(np.int16)
    segments = windows.segments(labels, seconds)
    named = [(start, stop, tags.names[label]) for start, stop, label in segments]
    with run.replacing(targets[".TextGrid"]) as partial:
        recordings.write_textgrid(partial, named, seconds)
    picture = np.concatenate(shown)
    drawn = [(a, b, tags.names[c], True) for a, b, c in windows.frame_segments(labels[begin:end])]
    step = acoustics.STEP / acoustics.RATE
    run.write(
        targets[".svg"],
        figures.spectrogram(picture, step=step, centres=acoustics.band_centres(), tracks={"found": drawn}),
    )
    print(f"{targets['.TextGrid']}: {len(named):,} segments in {seconds:,.1f} s of sound; figure: {targets['.svg']}")
    return {"segments": named, "seconds": seconds, "labels": labels}


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Measure a saved model on labelled recordings and print the results with their intervals."""
    require("speech", *PACKAGES)
    tagger = _load_tagger(settings.model)
    tags = tagger.get_layer("tags")
    normalizer = _normalizer(tags)
    split, utterances, understood = speech.read_labelled(
        settings.timit, normalizer, skip_bad=settings.skip_bad, tier=settings.tier
    )
    for sentence in understood:
        print(escaped(sentence))
    sentences = evaluation.Sentences(split, utterances)
    predictions = evaluation.tags(lambda inputs: tagger.predict_on_batch(inputs)["tag"], sentences, _context(tagger))
    values = evaluation.measures(sentences, predictions)
    print(f"{len(sentences):,} recordings, {len(split):,} frames, {len({u.speaker for u in utterances}):,} speakers")
    for name, value in values.items():
        print(f"{evaluation.MEASURES[name]:<24} {value['value']:.3f}  ({value['low']:.3f} to {value['high']:.3f})")
    return {"metrics": values}


def export(settings: Export | Serve) -> dict[str, Any]:
    """Export a saved model with preprocess.py, whose segments of a recording equal those of `tag`."""
    require("speech", *PACKAGES)
    tagger = _load_tagger(settings.model)
    context, normalizer = _context(tagger), _normalizer(tagger.get_layer("tags"))
    phones = tagger.get_layer("tags").names
    for file in settings.wav:
        try:
            preprocess.samples_of(file)
        except ValueError as error:
            raise BadInput(f"--wav {error}") from None
    sounds = [file.read_bytes() for file in settings.wav] or speech.examples()
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for sound in sounds:
            path = Path(folder) / "sound.wav"
            path.write_bytes(sound)
            samples, seconds = recordings.read_audio(path)
            frames = normalizer.apply(acoustics.log_mel(samples))
            found = windows.tag_windows(
                lambda batch: tagger.predict_on_batch(batch)["probability"], iter([frames]), context
            )
            answers.append(windows.described(np.concatenate(list(found)), phones, seconds))
    sequence = keras.Input((context or windows.FRAMES, acoustics.BANDS), name="sequence")
    return exporting.export(
        settings,
        keras.Model(sequence, tagger(sequence)),
        Path(__file__).parent / "speech" / "preprocess.py",
        about={
            "sequence": {"unit": speech.UNITS, "padding": "zeros at the end", **acoustics.description()},
            "probability": {
                "unit": "probability of each phone in each frame, in the order of the preparation's phones"
            },
            "tag": {"values": "index of the most probable phone in the preparation's phones"},
        },
        preparation={"phones": phones, "context": context, "normalizer": normalizer.to_config()},
        examples=sounds,
        answers=answers,
        static=True,
    )


def report(settings: run.Report) -> dict[str, Any]:
    """Typeset a run's report again; the same files give the same bytes."""
    return run.typeset_again(settings.run, APPLICATION, REPORT)


if __name__ == "__main__":
    run.execute(main)

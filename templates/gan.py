"""Generative adversarial network: a generator learns to draw pictures that a discriminator takes for real ones.

Paper: Goodfellow et al. 2014; Mirza and Osindero 2014 (conditional); Miyato and Koyama 2018 (projection)
Input: (batch, height, width, channels) float in 0..1, real pictures, and if conditional their classes (batch,) int
Output: (batch, 1) float, how real each picture looks to the discriminator, unbounded; `generate` gives pictures

The discriminator learns to tell the pictures of the data from those of the generator, which never sees the data and
learns from the discriminator's judgement alone. Both are functional models; `gan` and `conditional_gan` join them into
one that learns by a plain `fit` and can be saved and trained further. Pictures come from a running average of the
generator's weights, which is better than any of them.

Sources: I. Goodfellow et al., "Generative adversarial nets", NIPS 2014. M. Mirza and S. Osindero, "Conditional
generative adversarial nets", 2014. A. Radford, L. Metz and S. Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016. X. Mao et al., "Least squares generative adversarial
networks", ICCV 2017. M. Arjovsky, S. Chintala and L. Bottou, "Wasserstein generative adversarial networks", ICML 2017.
A. Odena, V. Dumoulin and C. Olah, "Deconvolution and checkerboard artifacts", Distill 2016: the upsampling. T. Miyato
et al., "Spectral normalization for generative adversarial networks", ICLR 2018, with the hinge loss. T. Miyato and
M. Koyama, "cGANs with projection discriminator", ICLR 2018. T. Salimans et al., "Improved techniques for training
GANs", NIPS 2016: one-sided label smoothing. T. Karras et al., "Progressive growing of GANs", ICLR 2018: the average.
S. Zhao et al., "Differentiable augmentation for data-efficient GAN training", NeurIPS 2020.

Deviations: the discriminator's features are a multiple of their mean over all places, not their sum, so that they
don't depend on the size of the pictures. Both networks take their step at once, from the same weights, where
Goodfellow et al. take turns; each has one step in a batch. The Wasserstein loss is kept Lipschitz by spectral
normalisation, without the gradient penalty, for which Keras has no gradient that is the same on all backends.

    model = conditional_gan(height=28, width=28, channels=1, classes=10)
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.0))
    model.fit([pictures, labels], epochs=50)            # (batch, 28, 28, 1) in 0..1, (batch,)
    sevens = generate(model, 16, labels=[7] * 16)       # (16, 28, 28, 1) in 0..1
"""

import math
import operator
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

Loss = Literal["hinge", "non_saturating", "least_squares", "wasserstein"]
Upsampling = Literal["resize", "transposed"]
Normalization = Literal["batch", "layer"]
LabelInput = Literal["projection", "plane"]
Augmentation = Literal["translation", "cutout", "color"]

_GAIN = 32  # of the features of a normalised discriminator
_LARGEST_SHIFT = 1 / 8  # of height and width, in the augmentation; a cut-out square has half of each
_BATCH = 256  # pictures that are generated at once


def generator(
    *,
    height: int = 28,
    width: int = 28,
    channels: int = 1,
    classes: int | None = None,
    latent: int = 64,
    filters: Sequence[int] = (128, 64),
    upsampling: Upsampling = "resize",
    activation: str = "relu",
    normalization: Normalization | None = "batch",
    output_activation: str = "sigmoid",
    name: str = "generator",
) -> keras.Model:
    """Build a generator: from noise, and a class if there are classes, to a picture.

    A dense layer makes a small picture of many channels; each stage doubles its height and width and convolves. What
    is then more than the picture's size is cut off.

    Args:
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.
        channels: of the pictures: 1 for grey, 3 for colour.
        classes: how many there are; each is embedded in as many numbers as the noise has, which join the noise. None
            for pictures without classes.
        latent: numbers of the noise, drawn from a standard normal distribution.
        filters: of the stages, each of which doubles height and width, the first one first.
        upsampling: "resize" repeats each pixel and convolves, "transposed" is a transposed convolution.
        activation: after each normalisation.
        normalization: after each convolution: "batch", "layer" or None.
        output_activation: of the pictures; "sigmoid" gives 0..1, as the data should have.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1 or a kind unknown.
    """
    height, width, channels = _size("height", height), _size("width", width), _size("channels", channels)
    latent, filters = _size("latent", latent), _sizes("filters", filters)
    classes = None if classes is None else _size("classes", classes)
    _check("upsampling", upsampling, Upsampling)
    if normalization is not None:
        _check("normalization", normalization, Normalization)

    def normalize(x: Any, stage: int) -> Any:
        if normalization == "batch":
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"up_{stage}_normalization")(x)
        elif normalization == "layer":
            x = keras.layers.LayerNormalization(name=f"up_{stage}_normalization")(x)
        return keras.layers.Activation(activation, name=f"up_{stage}_activation")(x)

    last: Any = {"data_format": "channels_last"}  # whatever Keras is told of the order of a picture's axes
    noise = keras.Input((latent,), name="noise")
    inputs, x = noise, noise
    if classes is not None:
        label = keras.Input((), dtype="int32", name="label")
        of_class = keras.layers.Embedding(classes, latent, name="label_embedding")(label)  # (batch, latent)
        inputs, x = [noise, label], keras.layers.Concatenate(name="noise_and_label")([noise, of_class])
    small = math.ceil(height / 2 ** len(filters)), math.ceil(width / 2 ** len(filters))
    x = keras.layers.Dense(math.prod(small) * filters[0], use_bias=normalization is None, name="seed")(x)
    x = keras.layers.Reshape((*small, filters[0]), name="small")(x)  # (batch, small height, small width, filters)
    x = normalize(x, 0)
    for stage, size in enumerate(filters, 1):
        settings: Any = {"padding": "same", "use_bias": normalization is None, "name": f"up_{stage}_convolution"} | last
        if upsampling == "resize":
            doubled = keras.layers.UpSampling2D(name=f"up_{stage}", **last)
            x = doubled(x)  # (batch, 2 × height, 2 × width, filters before)
            x = keras.layers.Conv2D(size, 3, **settings)(x)  # (batch, 2 × height, 2 × width, filters)
        else:
            # The kernel is a multiple of the stride, so that each pixel has the same number of terms.
            x = keras.layers.Conv2DTranspose(size, 4, strides=2, **settings)(x)
        x = normalize(x, stage)
    x = keras.layers.Conv2D(channels, 3, padding="same", name="picture_convolution", **last)(x)
    spare = [side * 2 ** len(filters) - wanted for side, wanted in zip(small, (height, width), strict=True)]
    x = keras.layers.Cropping2D([(over // 2, over - over // 2) for over in spare], name="cropping", **last)(x)
    picture = keras.layers.Activation(output_activation, dtype=_exact(), name="picture")(x)
    return keras.Model(inputs, picture, name=name)  # (batch, height, width, channels)


def discriminator(
    *,
    height: int = 28,
    width: int = 28,
    channels: int = 1,
    classes: int | None = None,
    filters: Sequence[int] = (64, 128),
    activation: str = "leaky_relu",
    spectral_normalization: bool = True,
    dropout: float = 0.0,
    label_input: LabelInput = "projection",
    name: str = "discriminator",
) -> keras.Model:
    """Build a discriminator: from a picture, and its class if there are classes, to how real it looks.

    Args:
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.
        channels: of the pictures.
        classes: how many there are, or None for pictures without classes.
        filters: of the stages; each halves height and width, rounded up, by a convolution of stride 2 after one of
            stride 1.
        activation: after each convolution.
        spectral_normalization: whether each layer is divided by the largest singular value of its weights.
        dropout: share of each stage's output that is set to zero while training.
        label_input: how classes enter: "projection" adds the inner product of the class's embedding and the picture's
            features to the score, "plane" gives the picture a further channel for each class, which is 1 all over the
            picture in that of its own class and 0 in the others.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1 or a kind unknown.
    """
    height, width, channels = _size("height", height), _size("width", width), _size("channels", channels)
    filters, classes = _sizes("filters", filters), None if classes is None else _size("classes", classes)
    _check("label_input", label_input, LabelInput)

    def normalized(kind: Any, *sizes: Any, name: str, use_bias: bool = True, **settings: Any) -> Any:
        if not spectral_normalization:
            return kind(*sizes, use_bias=use_bias, name=name, **settings)
        layer = kind(*sizes, use_bias=False, name=f"{name}_kernel", **settings)
        return SpectralNormalization(layer, use_bias, name=name)

    last: Any = {"data_format": "channels_last"}
    picture = keras.Input((height, width, channels), name="picture")
    inputs, x, one_hot = picture, picture, None
    if classes is not None:
        label = keras.Input((), dtype="int32", name="label")
        inputs, one_hot = [picture, label], OneHot(classes, name="one_hot")(label)  # (batch, classes)
        if label_input == "plane":
            plane = keras.layers.Reshape((1, 1, classes), name="label_point")(one_hot)
            everywhere = keras.layers.UpSampling2D((height, width), name="label_plane", **last)
            plane = everywhere(plane)  # (batch, height, width, classes)
            x = keras.layers.Concatenate(name="picture_and_label")([picture, plane])
    for stage, size in enumerate(filters, 1):
        for number, (kernel, strides) in enumerate(((3, 1), (4, 2)), 1):
            name_of_layer = f"down_{stage}_convolution_{number}"
            sizes = size, kernel, strides
            convolution = normalized(keras.layers.Conv2D, *sizes, padding="same", name=name_of_layer, **last)
            x = convolution(x)  # (batch, height, width, filters), height and width halved by the second
            x = keras.layers.Activation(activation, name=f"down_{stage}_activation_{number}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"down_{stage}_dropout")(x)
    # Normalised layers leave numbers too small to tell pictures apart by; Miyato and Koyama take the sum over all
    # places, but small pictures have few.
    mean = keras.layers.GlobalAveragePooling2D(name="mean", **last)(x)  # (batch, filters)
    features = keras.layers.Rescaling(_GAIN if spectral_normalization else 1, name="features")(mean)  # (batch, filters)
    score = normalized(keras.layers.Dense, 1, name="score_of_picture")(features)  # (batch, 1)
    if one_hot is not None and label_input == "projection":
        embedding = normalized(keras.layers.Dense, filters[-1], use_bias=False, name="label_embedding")
        of_class = embedding(one_hot)  # (batch, filters)
        match = keras.layers.Dot(1, name="score_of_label")([features, of_class])  # (batch, 1)
        score = keras.layers.Add(name="score_of_both")([score, match])
    score = keras.layers.Activation("linear", dtype=_exact(), name="score")(score)
    return keras.Model(inputs, score, name=name)


def gan(
    *,
    height: int = 28,
    width: int = 28,
    channels: int = 1,
    latent: int = 64,
    generator_filters: Sequence[int] = (128, 64),
    discriminator_filters: Sequence[int] = (64, 128),
    loss: Loss = "hinge",
    augmentation: Sequence[Augmentation] = ("translation",),
    seed: int | None = None,
    name: str = "gan",
) -> keras.Model:
    """Build a generator and a discriminator of these sizes, joined by `GAN`; compile it with an optimizer alone.

    For other choices build the two yourself and join them by `GAN`.
    """
    size = {"height": height, "width": width, "channels": channels}
    options: Any = {"loss": loss, "augmentation": augmentation, "seed": seed, "name": name}
    return _joined(size, latent, generator_filters, discriminator_filters, options)


def conditional_gan(
    *,
    height: int = 28,
    width: int = 28,
    channels: int = 1,
    classes: int = 10,
    latent: int = 64,
    generator_filters: Sequence[int] = (128, 64),
    discriminator_filters: Sequence[int] = (64, 128),
    loss: Loss = "hinge",
    augmentation: Sequence[Augmentation] = ("translation",),
    seed: int | None = None,
    name: str = "conditional_gan",
) -> keras.Model:
    """As `gan`, with classes: pictures are learnt with their class, and generated of a class that is asked for."""
    size = {"height": height, "width": width, "channels": channels, "classes": classes}
    options: Any = {"loss": loss, "augmentation": augmentation, "seed": seed, "name": name}
    return _joined(size, latent, generator_filters, discriminator_filters, options)


@keras.saving.register_keras_serializable(package="templates")
class GAN(keras.Model):
    """A generator and a discriminator that learn from each other; `compile(optimizer)`, `fit(pictures)`.

    Conditional ones take `fit([pictures, labels])`. Called on the same, the model returns the discriminator's scores.
    `history` has "discriminator_loss" and "generator_loss", and their sum as "loss", which measures nothing.

    Attributes:
        average: the generator whose weights are the running average, which `generate` uses.
        latent: numbers of the noise.

    Args:
        generator: from noise (batch, latent), or that and labels (batch,), to pictures; built by `generator`.
        discriminator: from pictures, or pictures and labels, to scores (batch, 1); built by `discriminator`.
        loss: "hinge"; "non_saturating", Goodfellow et al.'s; "least_squares"; "wasserstein", which wants spectral
            normalisation in the discriminator.
        label_smoothing: by how much less than 1 the discriminator's aim for real pictures is, of the losses
            "non_saturating" and "least_squares".
        average_decay: share of the average that a step leaves; in the first steps it is less.
        augmentation: what happens at random to real and generated pictures alike before the discriminator sees them:
            "translation" by up to an eighth, a square "cutout" of half the height and width, "color" for brightness,
            contrast and, where there are three channels, saturation.
        seed: of the noise and of the augmentation; None draws one.

    Raises:
        ValueError: if one of the two takes labels and the other doesn't, sizes or numbers of classes differ, a kind is
            unknown, or a number is not in 0..1 or has no meaning for the loss.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        *,
        loss: Loss = "hinge",
        label_smoothing: float = 0.0,
        average_decay: float = 0.999,
        augmentation: Sequence[Augmentation] = ("translation",),
        seed: int | None = None,
        **kwargs,
    ):
        _check("loss", loss, Loss)
        for kind in [augmentation] if isinstance(augmentation, str) else augmentation:
            _check("augmentation", kind, Augmentation)
        if isinstance(augmentation, str):
            raise ValueError(f"augmentation {augmentation!r} must be a list, such as [{augmentation!r}]")
        if not 0 <= average_decay < 1 or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"average_decay {average_decay} and label_smoothing {label_smoothing} must be in 0..1, below 1"
            )
        if label_smoothing and loss in ("hinge", "wasserstein"):
            raise ValueError(f"label_smoothing {label_smoothing}: the loss {loss!r} has no labels to smooth")
        if len(generator.inputs) != len(discriminator.inputs):
            raise ValueError("one of generator and discriminator takes labels, the other doesn't")
        if generator.outputs[0].shape != discriminator.inputs[0].shape:
            raise ValueError(
                f"generated pictures are {generator.outputs[0].shape[1:]}, the discriminator takes "
                f"{discriminator.inputs[0].shape[1:]}"
            )
        if len(generator.inputs) > 1:
            known = generator.get_layer("label_embedding").input_dim, discriminator.get_layer("one_hot").classes
            if known[0] != known[1]:
                raise ValueError(f"the generator knows {known[0]} classes, the discriminator {known[1]}")
        super().__init__(autocast=False, **kwargs)  # pictures stay as exact as they are until the networks read them
        self.generator = generator
        self.discriminator = discriminator
        self.average = keras.models.clone_model(generator)
        self.average.trainable = False
        self.average.set_weights(generator.get_weights())
        noise: Any = generator.inputs[0]
        self.latent = noise.shape[-1]
        self.adversarial_loss = loss
        self.label_smoothing = label_smoothing
        self.average_decay = average_decay
        self.augmentation = tuple(augmentation)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")
        self.generator_loss = keras.metrics.Mean(name="generator_loss")
        self.steps = self.add_weight((), "zeros", trainable=False, name="steps")
        self(discriminator.input)  # gives the model its input and output

    def call(self, inputs, training=False):
        """Scores (batch, 1) of pictures, or of pictures and labels; augmented while training."""
        pictures, *labels = self._tensors(inputs)
        if 1 + len(labels) != len(self.discriminator.inputs):
            expected = "pictures and labels, fit([pictures, labels])" if not labels else "pictures alone, fit(pictures)"
            raise ValueError(f"{self.name} takes {expected}")
        return self.discriminator(self._inputs(pictures, labels, training), training=training)

    def fit(self, x=None, y=None, *args, **options):
        """`keras.Model.fit`, which without targets leaves out weights in silence: here they are refused."""
        for name in ("sample_weight", "class_weight"):
            if options.get(name) is not None:
                raise ValueError(f"{self.name} takes no weights of pictures or classes: {name} would count for nothing")
        return super().fit(x, y, *args, **options)

    def compute_loss(self, x: Any = None, y=None, y_pred: Any = None, sample_weight=None, training=True):
        """Both losses; neither has a gradient by the weights of the other's network. `y_pred` are the real scores."""
        pictures, *labels = self._tensors(x)
        if sample_weight is not None:
            raise ValueError(f"{self.name} takes no weights of pictures or classes")
        if y is not None:
            remedy = "fit([pictures, labels])" if labels else "fit(pictures); a conditional_gan takes both in a list"
            raise ValueError(f"{self.name} has no targets: {remedy}")
        shape: Any = keras.ops.shape(pictures)
        noise = keras.random.normal((shape[0], self.latent), dtype=pictures.dtype, seed=self.seed_generator)
        fakes = self.generator([noise, *labels] if labels else noise, training=training)
        # The same augmented pictures go to both losses.
        inputs = self._inputs(fakes, labels, training)
        of_fakes = self.discriminator(keras.tree.map_structure(keras.ops.stop_gradient, inputs), training=training)
        fixed = [keras.ops.stop_gradient(weight.value) for weight in self.discriminator.trainable_variables]
        others = [weight.value for weight in self.discriminator.non_trainable_variables]
        judged = self.discriminator.stateless_call(fixed, others, inputs, training=training)[0]
        of_discriminator, of_generator = self._both_losses(y_pred, of_fakes, judged)
        self.discriminator_loss.update_state(of_discriminator, sample_weight=shape[0])  # as Keras weights the sum
        self.generator_loss.update_state(of_generator, sample_weight=shape[0])
        if training:
            self._average_weights()
        return of_discriminator + of_generator

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "loss": self.adversarial_loss,
            "label_smoothing": self.label_smoothing,
            "average_decay": self.average_decay,
            "augmentation": self.augmentation,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of such a configuration."""
        networks = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("generator", "discriminator")
        }
        return cls(**config | networks)

    def _tensors(self, inputs: Any) -> list[Any]:
        """Pictures, or pictures and labels, as tensors; run eagerly, Keras passes arrays on as they are."""
        pictures, *labels = map(keras.ops.convert_to_tensor, inputs if isinstance(inputs, list | tuple) else [inputs])
        return [keras.ops.cast(pictures, "float64" if self.variable_dtype == "float64" else "float32"), *labels]

    def _inputs(self, pictures: Any, labels: Sequence[Any], training: bool) -> Any:
        """What the discriminator takes."""
        if training and self.augmentation:
            pictures = augmented(pictures, self.augmentation, self.seed_generator)
        return [pictures, *labels] if labels else pictures

    def _both_losses(self, of_real: Any, of_fakes: Any, judged: Any) -> tuple[Any, Any]:
        """Of discriminator and generator, from scores (batch, 1); `judged` are of a discriminator that is fixed."""
        ops, aim = keras.ops, 1 - self.label_smoothing
        if self.adversarial_loss == "hinge":
            return ops.mean(ops.relu(1 - of_real)) + ops.mean(ops.relu(1 + of_fakes)), -ops.mean(judged)
        if self.adversarial_loss == "wasserstein":
            return ops.mean(of_fakes) - ops.mean(of_real), -ops.mean(judged)
        if self.adversarial_loss == "least_squares":
            real, fake = ops.mean(ops.square(of_real - aim)), ops.mean(ops.square(of_fakes))
            return (real + fake) / 2, ops.mean(ops.square(judged - 1)) / 2
        real = aim * ops.softplus(-of_real) + (1 - aim) * ops.softplus(of_real)
        return ops.mean(real) + ops.mean(ops.softplus(of_fakes)), ops.mean(ops.softplus(-judged))

    def _average_weights(self) -> None:
        """Move the average towards the generator: by much in the first steps, when the generator knows little."""
        decay: Any = keras.ops.minimum(self.average_decay, (1 + self.steps.value) / (10 + self.steps.value))
        self.steps.assign_add(1)
        for mean, weight in zip(self.average.weights, self.generator.weights, strict=True):
            new = keras.ops.stop_gradient(weight.value)
            mean.assign(decay * mean.value + (1 - decay) * new)


def separate_optimizers(
    model: keras.Model, *, generator: keras.optimizers.Optimizer, discriminator: keras.optimizers.Optimizer
) -> keras.optimizers.Optimizer:
    """One optimizer to compile a GAN with, which trains its two networks by one each, such as at different rates."""
    # Saving keeps an optimizer for one pattern alone, and just the paths of the generator's weights.
    paths = "|".join(re.escape(weight.path) for weight in model.generator.trainable_variables)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(discriminator, {paths: generator}))


def generate(
    model: keras.Model,
    count: int,
    *,
    labels: Any = None,
    noise: Any = None,
    seed: int | None = None,
    averaged: bool = True,
) -> np.ndarray:
    """Draw pictures.

    Args:
        model: a GAN.
        count: how many.
        labels: the class of each, (count,), for a conditional one.
        noise: that the pictures come from, (count, latent); without it, it is drawn.
        seed: of the noise.
        averaged: whether by the generator's running average or as it is.

    Returns:
        Pictures (count, height, width, channels) float32.

    Raises:
        ValueError: if labels are missing, needless, not `count` or none of the classes, or the noise is of another
            shape.
    """
    count = _size("count", count) if count else 0
    network = model.average if averaged else model.generator
    if noise is None:
        noise = np.random.default_rng(seed).normal(size=(count, model.latent))
    noise = np.asarray(noise, "float32")
    if noise.shape != (count, model.latent):
        raise ValueError(f"noise of shape {noise.shape} must be of ({count}, {model.latent})")
    inputs = [noise]
    if len(network.inputs) > 1:
        classes = network.get_layer("label_embedding").input_dim
        labels = np.asarray(() if labels is None else labels)
        whole = labels.dtype.kind in "iu" or not labels.size
        if labels.shape != (count,) or not whole or np.any((labels < 0) | (labels >= classes)):
            raise ValueError(f"labels must be {count} numbers from 0 to {classes - 1}")
        inputs.append(labels.astype("int32"))
    elif labels is not None:
        raise ValueError("labels are given, but the model is not conditional")
    found = [np.empty((0, *network.output_shape[1:]), np.float32)]
    for start in range(0, count, _BATCH):
        batch = [np.resize(array[start : start + _BATCH], (min(count, _BATCH), *array.shape[1:])) for array in inputs]
        found.append(network.predict_on_batch(batch if len(batch) > 1 else batch[0])[: count - start])
    return np.concatenate(found).astype(np.float32, copy=False)


def augmented(pictures: Any, kinds: Sequence[Augmentation], seed: Any) -> Any:
    """Vary pictures at random so that gradients pass through, as Zhao et al. 2020 do.

    Args:
        pictures: (batch, height, width, channels).
        kinds: as of `GAN`.
        seed: a `keras.random.SeedGenerator`.
    """
    ops: Any = keras.ops
    height, width, channels = pictures.shape[1:]
    shape, dtype = (ops.shape(pictures)[0], 1, 1, 1), pictures.dtype

    def places(size: int, largest: int, smallest: int) -> Any:
        """For each picture a whole number from `smallest` to `largest`, (batch, 1), and the numbers below `size`."""
        number = ops.floor(keras.random.uniform(shape[:2], smallest, largest + 1, dtype=dtype, seed=seed))
        return number, ops.arange(size, dtype=number.dtype)

    if "color" in kinds:
        pictures = pictures + keras.random.uniform(shape, -0.5, 0.5, dtype=dtype, seed=seed)
        if channels == 3:
            grey = ops.mean(pictures, axis=3, keepdims=True)
            pictures = grey + (pictures - grey) * keras.random.uniform(shape, 0, 2, dtype=dtype, seed=seed)
        mean = ops.mean(pictures, axis=(1, 2, 3), keepdims=True)
        pictures = mean + (pictures - mean) * keras.random.uniform(shape, 0.5, 1.5, dtype=dtype, seed=seed)
    if "translation" in kinds:
        # By a product with a shifted identity, which every compiler takes.
        shifts = []
        for size in (height, width):
            most = max(1, round(size * _LARGEST_SHIFT))
            shift, numbers = places(size, most, -most)
            shifts.append(ops.cast(numbers[None, None] == numbers[None, :, None] - shift[..., None], pictures.dtype))
        pictures = ops.einsum("brh,bhwc,bsw->brsc", shifts[0], pictures, shifts[1])
    if "cutout" in kinds:
        inside = []
        for size in (height, width):
            side = size // 2
            first, numbers = places(size, size - 1 - side // 2, -(side // 2))
            inside.append(ops.logical_and(numbers >= first, numbers < first + side))  # (batch, size)
        cut = ops.logical_and(inside[0][:, :, None, None], inside[1][:, None, :, None])
        pictures = ops.where(cut, ops.zeros_like(pictures), pictures)
    return pictures


@keras.saving.register_keras_serializable(package="templates")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides the kernel of a dense layer or a convolution by its largest singular value, as Miyato et al. 2018 do.

    One step of the power iteration in each training step follows the singular value; outside of training nothing
    changes. The kernel counts as a matrix from all that goes into an output to the outputs.

    Args:
        layer: a `keras.layers.Dense` or `Conv2D` without bias or activation.
        use_bias: whether a bias is added, which is not divided.
    """

    def __init__(self, layer, use_bias: bool = True, **kwargs):
        super().__init__(layer, **kwargs)
        self.use_bias = use_bias

    def build(self, input_shape):
        """Create the weights and the vector of the power iteration."""
        super().build(input_shape)
        outputs = self.layer.kernel.shape[-1]
        self.u = self.add_weight(
            (outputs,), keras.initializers.RandomNormal(), trainable=False, autocast=False, name="u"
        )
        self.bias = self.add_weight((outputs,), "zeros", name="bias") if self.use_bias else None

    def call(self, inputs, training=False):
        """The outputs of the layer with the normalised kernel, to which they are proportional."""
        sigma, u = self._largest_singular_value()
        if training:
            self.u.assign(u)
        sigma = keras.ops.maximum(sigma, keras.config.epsilon())  # of a kernel of zeros
        outputs = self.layer(inputs) / keras.ops.cast(sigma, self.compute_dtype)
        return outputs if self.bias is None else outputs + keras.ops.cast(self.bias, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """That of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"use_bias": self.use_bias}

    def _largest_singular_value(self) -> tuple[Any, Any]:
        """It, and the vector of the power iteration after a step; only the value has a gradient, by the kernel."""
        ops: Any = keras.ops
        kernel = ops.reshape(self.layer.kernel, (-1, self.layer.kernel.shape[-1]))  # (inputs, outputs)
        kernel = ops.cast(kernel, self.variable_dtype)  # the sums below need float32
        fixed = ops.stop_gradient(kernel)
        v = ops.normalize(ops.matmul(fixed, self.u.value), axis=-1)
        u = ops.normalize(ops.matmul(v, fixed), axis=-1)
        return ops.dot(ops.matmul(v, kernel), u), u


@keras.saving.register_keras_serializable(package="templates")
class OneHot(keras.layers.Layer):
    """Classes as rows of zeros with a one.

    Args:
        classes: how many there are.
    """

    def __init__(self, classes: int, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes

    def call(self, inputs):
        """From (batch,) to (batch, classes)."""
        return keras.ops.one_hot(inputs, self.classes, dtype=self.compute_dtype)

    def get_config(self):
        """What saving needs."""
        return super().get_config() | {"classes": self.classes}


def _joined(
    size: Any, latent: int, generator_filters: Sequence[int], discriminator_filters: Sequence[int], options: Any
) -> keras.Model:
    artist = generator(**size, latent=latent, filters=generator_filters)
    return GAN(artist, discriminator(**size, filters=discriminator_filters), **options)


def _size(name: str, size: Any) -> int:
    """A size as Python's own whole number, of NumPy's too; refused if it is none of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """One or several sizes, of a list or an array too."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    if not len(sizes):
        raise ValueError(f"{name} () must not be empty, and all of them must be at least 1")
    return tuple(_size(name, size) for size in sizes)


def _exact() -> str:
    """What pictures and scores are computed in: float32 in mixed precision too, or float64 if that is the policy."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


def _check(what: str, kind: Any, kinds: Any) -> None:
    if kind not in get_args(kinds):
        raise ValueError(f"{what} {kind!r} is none of {', '.join(get_args(kinds))}")

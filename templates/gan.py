"""Generative adversarial network: a generator learns to produce images that a discriminator mistakes for real ones.

Paper: Goodfellow et al. 2014; Mirza and Osindero 2014 (conditional); Miyato and Koyama 2018 (projection)
Input: (batch, height, width, channels) float in 0..1, real images; if conditional, also their classes (batch,) int
Output: (batch, 1) float, the discriminator's unbounded score of how real each image is; `generate` returns images
Parameters: generator 624,449; discriminator 402,882; gan 1,651,781; conditional_gan 2,457,285
Loading: `import gan` (this module), then `keras.saving.load_model("model.keras")`

The discriminator learns to distinguish real images from those of the generator. The generator never sees the data; it
learns only from the discriminator's scores. Both are functional models. `gan` and `conditional_gan` join them in one
model that trains with a plain `fit` and can be saved and trained further. Images are generated with a running average
of the generator's weights, which gives better images than the weights of any single step.

Sources: I. Goodfellow et al., "Generative adversarial nets", NIPS 2014. M. Mirza and S. Osindero, "Conditional
generative adversarial nets", 2014. A. Radford, L. Metz and S. Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016. X. Mao et al., "Least squares generative adversarial
networks", ICCV 2017. M. Arjovsky, S. Chintala and L. Bottou, "Wasserstein generative adversarial networks", ICML 2017.
A. Odena, V. Dumoulin and C. Olah, "Deconvolution and checkerboard artifacts", Distill 2016: upsampling. T. Miyato
et al., "Spectral normalization for generative adversarial networks", ICLR 2018, with the hinge loss. T. Miyato and
M. Koyama, "cGANs with projection discriminator", ICLR 2018. T. Salimans et al., "Improved techniques for training
GANs", NIPS 2016: one-sided label smoothing. T. Karras et al., "Progressive growing of GANs", ICLR 2018: weight
averaging. S. Zhao et al., "Differentiable augmentation for data-efficient GAN training", NeurIPS 2020.

Deviations: the discriminator's features are a multiple of their mean over all positions, not their sum, so that they
do not depend on the image size. Both networks take one step per batch, simultaneously and from the same weights;
Goodfellow et al. alternate. With the Wasserstein loss, spectral normalisation keeps the discriminator Lipschitz; there
is no gradient penalty, because Keras has no gradient function that works on all backends.

    model = conditional_gan(height=28, width=28, channels=1, classes=10)
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.0))
    model.fit([images, labels], epochs=50)              # (n, 28, 28, 1) in 0..1, (n,)
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

_GAIN = 32  # factor on the features of a discriminator with spectral normalisation
_LARGEST_SHIFT = 1 / 8  # of height and width, in the augmentation
_BATCH = 256  # images per batch in `generate`


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
    """Build a generator that maps noise, and a class if there are classes, to an image.

    A dense layer produces a small feature map with many channels. Each stage doubles its height and width and applies a
    convolution. The result is cropped to the image size.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        channels: channels of the images: 1 for grey, 3 for colour.
        classes: number of classes, or None for images without classes. The embedding of a class has `latent` numbers
            and is concatenated with the noise.
        latent: size of the noise vector, which is drawn from a standard normal distribution.
        filters: filters of the stages, from the first to the last; each stage doubles height and width.
        upsampling: "resize" repeats each pixel and then convolves; "transposed" is a transposed convolution.
        activation: activation after each normalisation.
        normalization: normalisation after each convolution: "batch", "layer" or None.
        output_activation: activation of the output; "sigmoid" gives 0..1, the range of the data.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, or `upsampling` or `normalization` is unknown.
    """
    height, width, channels = _size("height", height), _size("width", width), _size("channels", channels)
    latent, filters = _size("latent", latent), _sizes("filters", filters)
    classes = None if classes is None else _size("classes", classes)
    _check("upsampling", upsampling, Upsampling)
    if normalization is not None:
        _check("normalization", normalization, Normalization)

    nonlinearity: Any = gelu if activation == "gelu" else activation

    def normalize(x: Any, stage: int) -> Any:
        if normalization == "batch":
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"up_{stage}_normalization")(x)
        elif normalization == "layer":
            x = keras.layers.LayerNormalization(name=f"up_{stage}_normalization")(x)
        return keras.layers.Activation(nonlinearity, name=f"up_{stage}_activation")(x)

    last: Any = {"data_format": "channels_last"}  # whatever Keras' default image data format is
    noise = keras.Input((latent,), name="noise")
    inputs, x = noise, noise
    if classes is not None:
        label = keras.Input((), dtype="int32", name="label")
        embedding = keras.layers.Embedding(classes, latent, name="label_embedding")(label)  # (batch, latent)
        inputs, x = [noise, label], keras.layers.Concatenate(name="noise_and_label")([noise, embedding])
    small = math.ceil(height / 2 ** len(filters)), math.ceil(width / 2 ** len(filters))
    x = keras.layers.Dense(math.prod(small) * filters[0], use_bias=normalization is None, name="seed")(x)
    x = keras.layers.Reshape((*small, filters[0]), name="small")(x)  # (batch, small height, small width, filters)
    x = normalize(x, 0)
    for stage, size in enumerate(filters, 1):
        settings: Any = {"padding": "same", "use_bias": normalization is None, "name": f"up_{stage}_convolution"} | last
        if upsampling == "resize":
            doubled = keras.layers.UpSampling2D(name=f"up_{stage}", **last)
            x = doubled(x)  # (batch, 2 × height, 2 × width, filters of the previous stage)
            x = keras.layers.Conv2D(size, 3, **settings)(x)  # (batch, 2 × height, 2 × width, filters)
        else:
            # The kernel size is a multiple of the stride, so that each output pixel sums the same number of terms.
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
    """Build a discriminator that maps an image, and its class if there are classes, to a score of how real it is.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        channels: channels of the images.
        classes: number of classes, or None for images without classes.
        filters: filters of the stages. Each stage has a convolution of stride 1 and one of stride 2, which halves
            height and width, rounded up.
        activation: activation after each convolution.
        spectral_normalization: whether to divide the weights of each layer by their largest singular value.
        dropout: dropout rate at the end of each stage.
        label_input: how the class enters. "projection" adds the inner product of the class's embedding and the image's
            features to the score; "plane" adds one channel per class to the image, filled with 1 for the image's own
            class and with 0 for the others.
        name: model name.

    Raises:
        ValueError: if a size is less than 1 or `label_input` is unknown.
    """
    height, width, channels = _size("height", height), _size("width", width), _size("channels", channels)
    filters, classes = _sizes("filters", filters), None if classes is None else _size("classes", classes)
    _check("label_input", label_input, LabelInput)

    nonlinearity: Any = gelu if activation == "gelu" else activation

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
            x = keras.layers.Activation(nonlinearity, name=f"down_{stage}_activation_{number}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"down_{stage}_dropout")(x)
    # After spectral normalisation the features are too small to discriminate. Miyato and Koyama sum them over all
    # positions, but small images have few positions; a constant factor does not depend on the image size.
    mean = keras.layers.GlobalAveragePooling2D(name="mean", **last)(x)  # (batch, filters)
    features = keras.layers.Rescaling(_GAIN if spectral_normalization else 1, name="features")(mean)  # (batch, filters)
    score = normalized(keras.layers.Dense, 1, name="score_of_picture")(features)  # (batch, 1)
    if one_hot is not None and label_input == "projection":
        embedding = normalized(keras.layers.Dense, filters[-1], use_bias=False, name="label_embedding")
        class_features = embedding(one_hot)  # (batch, filters)
        match = keras.layers.Dot(1, name="score_of_label")([features, class_features])  # (batch, 1)
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
    """Build a generator and a discriminator, joined in a `GAN`. Compile it with an optimizer and no loss.

    For settings that are not listed here, build the two networks yourself and join them with `GAN`.
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
    """As `gan`, with classes: train on images and their classes, then generate images of a chosen class."""
    size = {"height": height, "width": width, "channels": channels, "classes": classes}
    options: Any = {"loss": loss, "augmentation": augmentation, "seed": seed, "name": name}
    return _joined(size, latent, generator_filters, discriminator_filters, options)


@keras.saving.register_keras_serializable(package="templates")
class GAN(keras.Model):
    """Trains a generator and a discriminator against each other: `compile(optimizer)`, then `fit(images)`.

    A conditional model needs `fit([images, labels])`. Calling the model on the same inputs returns the discriminator's
    scores. `history` has "discriminator_loss" and "generator_loss"; "loss" is their sum, which measures nothing.

    Attributes:
        average: generator with the running average of the weights, used by `generate`.
        latent: size of the noise vector.

    Args:
        generator: model from noise (batch, latent), or noise and labels (batch,), to images; see `generator`.
        discriminator: model from images, or images and labels, to scores (batch, 1); see `discriminator`.
        loss: "hinge"; "non_saturating" (Goodfellow et al.); "least_squares"; or "wasserstein", which requires spectral
            normalisation in the discriminator.
        label_smoothing: the discriminator's target for real images is 1 minus this number, in [0, 1). Only for the
            losses "non_saturating" and "least_squares".
        average_decay: decay of the running average of the generator's weights per step, in [0, 1); smaller in the first
            steps.
        augmentation: random augmentations of both real and generated images before the discriminator sees them:
            "translation" by up to an eighth of the size; "cutout" of a rectangle of half the height and width; "color",
            which changes brightness, contrast and, for three channels, saturation.
        seed: seed of the noise and the augmentation; None draws one.

    Raises:
        ValueError: if only one of the networks takes labels, their image sizes or numbers of classes differ, `loss` or
            an augmentation is unknown, `label_smoothing` or `average_decay` is outside [0, 1), or `label_smoothing` is
            given with a loss that has no labels.
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
            raise ValueError("only one of generator and discriminator takes labels")
        if generator.outputs[0].shape != discriminator.inputs[0].shape:
            raise ValueError(
                f"generated images have shape {generator.outputs[0].shape[1:]}, the discriminator expects "
                f"{discriminator.inputs[0].shape[1:]}"
            )
        if len(generator.inputs) > 1:
            known = generator.get_layer("label_embedding").input_dim, discriminator.get_layer("one_hot").classes
            if known[0] != known[1]:
                raise ValueError(f"the generator has {known[0]} classes, the discriminator {known[1]}")
        super().__init__(autocast=False, **kwargs)  # the networks themselves cast their inputs
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
        self(discriminator.input)  # defines the input and output of the model

    def call(self, inputs, training=False):
        """Return scores (batch, 1) of images, or images and labels; the images are augmented if `training`."""
        pictures, *labels = self._tensors(inputs)
        if 1 + len(labels) != len(self.discriminator.inputs):
            expected = "images alone, fit(images)" if labels else "images and labels, fit([images, labels])"
            raise ValueError(f"{self.name} expects {expected}")
        return self.discriminator(self._inputs(pictures, labels, training), training=training)

    def fit(self, x=None, y=None, *args, **options):
        """As `keras.Model.fit`, but rejects weights, which Keras silently ignores when there are no targets."""
        for name in ("sample_weight", "class_weight"):
            if options.get(name) is not None:
                raise ValueError(f"{self.name} accepts no sample or class weights: {name} would have no effect")
        return super().fit(x, y, *args, **options)

    def compute_loss(self, x: Any = None, y=None, y_pred: Any = None, sample_weight=None, training=True):
        """Return the sum of both losses; each has gradients for its own network alone. `y_pred` are the real scores."""
        pictures, *labels = self._tensors(x)
        if sample_weight is not None:
            raise ValueError(f"{self.name} accepts no sample or class weights")
        if y is not None:
            remedy = "fit([images, labels])" if labels else "fit(images); a conditional_gan reads both in a list"
            raise ValueError(f"{self.name} has no targets: use {remedy}")
        shape: Any = keras.ops.shape(pictures)
        noise = keras.random.normal((shape[0], self.latent), dtype=pictures.dtype, seed=self.seed_generator)
        fakes = self.generator([noise, *labels] if labels else noise, training=training)
        # Both losses use the same augmented images.
        inputs = self._inputs(fakes, labels, training)
        fake_scores = self.discriminator(keras.tree.map_structure(keras.ops.stop_gradient, inputs), training=training)
        fixed = [keras.ops.stop_gradient(weight.value) for weight in self.discriminator.trainable_variables]
        others = [weight.value for weight in self.discriminator.non_trainable_variables]
        generator_scores = self.discriminator.stateless_call(fixed, others, inputs, training=training)[0]
        discriminator_loss, generator_loss = self._both_losses(y_pred, fake_scores, generator_scores)
        self.discriminator_loss.update_state(discriminator_loss, sample_weight=shape[0])  # as Keras weights "loss"
        self.generator_loss.update_state(generator_loss, sample_weight=shape[0])
        if training:
            self._average_weights()
        return discriminator_loss + generator_loss

    def get_config(self):
        """Return the configuration for saving."""
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
        """Build the model from its configuration."""
        networks = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("generator", "discriminator")
        }
        return cls(**config | networks)

    def _tensors(self, inputs: Any) -> list[Any]:
        """Return images, or images and labels, as tensors; in eager mode Keras passes arrays through unchanged."""
        pictures, *labels = map(keras.ops.convert_to_tensor, inputs if isinstance(inputs, list | tuple) else [inputs])
        return [keras.ops.cast(pictures, "float64" if self.variable_dtype == "float64" else "float32"), *labels]

    def _inputs(self, pictures: Any, labels: Sequence[Any], training: bool) -> Any:
        """Return the inputs of the discriminator, augmented if `training`."""
        if training and self.augmentation:
            pictures = augmented(pictures, self.augmentation, self.seed_generator)
        return [pictures, *labels] if labels else pictures

    def _both_losses(self, real: Any, fake: Any, generated: Any) -> tuple[Any, Any]:
        """Return the discriminator's and the generator's loss from scores (batch, 1) of real and generated images.

        `fake` has gradients for the discriminator, `generated` for the generator.
        """
        ops, target = keras.ops, 1 - self.label_smoothing
        if self.adversarial_loss == "hinge":
            return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake)), -ops.mean(generated)
        if self.adversarial_loss == "wasserstein":
            return ops.mean(fake) - ops.mean(real), -ops.mean(generated)
        if self.adversarial_loss == "least_squares":
            discriminator_loss = (ops.mean(ops.square(real - target)) + ops.mean(ops.square(fake))) / 2
            return discriminator_loss, ops.mean(ops.square(generated - 1)) / 2
        real_loss = target * ops.softplus(-real) + (1 - target) * ops.softplus(real)
        return ops.mean(real_loss) + ops.mean(ops.softplus(fake)), ops.mean(ops.softplus(-generated))

    def _average_weights(self) -> None:
        """Update the running average; the decay is smaller in the first steps, when the weights change quickly."""
        decay: Any = keras.ops.minimum(self.average_decay, (1 + self.steps.value) / (10 + self.steps.value))
        self.steps.assign_add(1)
        for mean, weight in zip(self.average.weights, self.generator.weights, strict=True):
            new = keras.ops.stop_gradient(weight.value)
            mean.assign(decay * mean.value + (1 - decay) * new)


def separate_optimizers(
    model: keras.Model, *, generator: keras.optimizers.Optimizer, discriminator: keras.optimizers.Optimizer
) -> keras.optimizers.Optimizer:
    """Combine one optimizer per network, for example with different learning rates, into one to compile a GAN with."""
    # A saved OptimizerMap keeps only one pattern, so a single pattern matches all of the generator's weights.
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
    """Generate images.

    Args:
        model: a `GAN`.
        count: number of images.
        labels: class of each image, (count,), for a conditional model.
        noise: noise vectors, (count, latent); None draws them.
        seed: seed of the noise.
        averaged: whether to use the running average of the generator's weights or its current weights.

    Returns:
        Images (count, height, width, channels) float32.

    Raises:
        ValueError: if a conditional model does not get `count` valid labels, a model without classes gets labels, or
            `noise` has the wrong shape.
    """
    count = _size("count", count) if count else 0
    network = model.average if averaged else model.generator
    if noise is None:
        noise = np.random.default_rng(seed).normal(size=(count, model.latent))
    noise = np.asarray(noise, "float32")
    if noise.shape != (count, model.latent):
        raise ValueError(f"noise has the shape {noise.shape}, expected ({count}, {model.latent})")
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
    images = [np.empty((0, *network.output_shape[1:]), np.float32)]
    for start in range(0, count, _BATCH):
        batch = [np.resize(array[start : start + _BATCH], (min(count, _BATCH), *array.shape[1:])) for array in inputs]
        images.append(network.predict_on_batch(batch if len(batch) > 1 else batch[0])[: count - start])
    return np.concatenate(images).astype(np.float32, copy=False)


def augmented(pictures: Any, kinds: Sequence[Augmentation], seed: Any) -> Any:
    """Augment images at random with differentiable operations (Zhao et al. 2020).

    Args:
        pictures: images (batch, height, width, channels).
        kinds: augmentations, as in `GAN`.
        seed: a `keras.random.SeedGenerator`.
    """
    ops: Any = keras.ops
    height, width, channels = pictures.shape[1:]
    shape, dtype = (ops.shape(pictures)[0], 1, 1, 1), pictures.dtype

    def offsets(size: int, largest: int, smallest: int) -> Any:
        """Return a random integer from `smallest` to `largest` per image, (batch, 1), and the integers below `size`."""
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
        # A product with shifted identity matrices, which every compiler supports.
        shifts = []
        for size in (height, width):
            most = max(1, round(size * _LARGEST_SHIFT))
            shift, numbers = offsets(size, most, -most)
            shifts.append(ops.cast(numbers[None, None] == numbers[None, :, None] - shift[..., None], pictures.dtype))
        pictures = ops.einsum("brh,bhwc,bsw->brsc", shifts[0], pictures, shifts[1])
    if "cutout" in kinds:
        inside = []
        for size in (height, width):
            side = size // 2
            first, numbers = offsets(size, size - 1 - side // 2, -(side // 2))
            inside.append(ops.logical_and(numbers >= first, numbers < first + side))  # (batch, size)
        cut = ops.logical_and(inside[0][:, :, None, None], inside[1][:, None, :, None])
        pictures = ops.where(cut, ops.zeros_like(pictures), pictures)
    return pictures


@keras.saving.register_keras_serializable(package="templates")
def gelu(x):
    """Exact GELU, x Φ(x), by erf: on TensorFlow, Keras computes it by erfc, which ONNX does not have."""
    erf: Any = keras.ops.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


@keras.saving.register_keras_serializable(package="templates")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides the kernel of a dense or convolutional layer by its largest singular value (Miyato et al. 2018).

    `keras.layers.SpectralNormalization` overwrites the kernel in training, which on JAX leaves it at twice the norm.
    Here, each training step runs one step of the power iteration; outside training nothing changes. A convolution's
    kernel is treated as a matrix (all inputs of an output, outputs).

    Args:
        layer: a `keras.layers.Dense` or `Conv2D` without bias or activation.
        use_bias: whether to add a bias, which is not normalised.
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
        """Return the layer's outputs divided by the singular value, which equals dividing the kernel."""
        sigma, u = self._largest_singular_value()
        if training:
            self.u.assign(u)
        sigma = keras.ops.maximum(sigma, keras.config.epsilon())  # for a kernel of zeros
        outputs = self.layer(inputs) / keras.ops.cast(sigma, self.compute_dtype)
        return outputs if self.bias is None else outputs + keras.ops.cast(self.bias, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the output shape of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"use_bias": self.use_bias}

    def _largest_singular_value(self) -> tuple[Any, Any]:
        """Return the singular value and the next vector of the power iteration; only the value has a gradient."""
        ops: Any = keras.ops
        kernel = ops.reshape(self.layer.kernel, (-1, self.layer.kernel.shape[-1]))  # (inputs, outputs)
        kernel = ops.cast(kernel, self.variable_dtype)  # the sums below need float32
        fixed = ops.stop_gradient(kernel)
        v = ops.normalize(ops.matmul(fixed, self.u.value), axis=-1)
        u = ops.normalize(ops.matmul(v, fixed), axis=-1)
        return ops.dot(ops.matmul(v, kernel), u), u


@keras.saving.register_keras_serializable(package="templates")
class OneHot(keras.layers.Layer):
    """One-hot encodes class indices.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes

    def call(self, inputs):
        """Return the encoding (batch, classes) of class indices (batch,)."""
        return keras.ops.one_hot(inputs, self.classes, dtype=self.compute_dtype)

    def get_config(self):
        """Return the configuration for saving."""
        return super().get_config() | {"classes": self.classes}


def _joined(
    size: Any, latent: int, generator_filters: Sequence[int], discriminator_filters: Sequence[int], options: Any
) -> keras.Model:
    artist = generator(**size, latent=latent, filters=generator_filters)
    return GAN(artist, discriminator(**size, filters=discriminator_filters), **options)


def _size(name: str, size: Any) -> int:
    """Return a size, such as a NumPy integer, as an int; raise ValueError if it is not an integer of at least 1."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} {size!r} must be a whole number") from None
    if whole < 1:
        raise ValueError(f"{name} {whole} must be at least 1")
    return whole


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """Return a non-empty sequence or array of sizes as a tuple of ints."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    if not len(sizes):
        raise ValueError(f"{name} () must not be empty, and each must be at least 1")
    return tuple(_size(name, size) for size in sizes)


def _exact() -> str:
    """The dtype of images and scores: float64 if the policy is float64, else float32, also in mixed precision."""
    return "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"


def _check(what: str, kind: Any, kinds: Any) -> None:
    if kind not in get_args(kinds):
        raise ValueError(f"{what} {kind!r} must be one of {', '.join(get_args(kinds))}")

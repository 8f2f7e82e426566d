"""Convolutional network: classifies pictures by small filters that are the same everywhere in a picture.

Paper: LeCun et al. 1998; He et al. 2016 (residual); Selvaraju et al. 2017 (Grad-CAM)
Input: (batch, height, width, channels) float, in 0..1
Output: (batch, outputs) float, probabilities

Stages of convolution, normalisation and activation, each ended by pooling that halves height and width; then the mean
over all places, dense layers and a softmax. The pictures are varied at random while the network trains, by a layer of
its own; in use they are left as they are.

Sources: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86, 1998. K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image
recognition", ICLR 2015: stages of several 3 × 3 convolutions. S. Ioffe and C. Szegedy, "Batch normalization", ICML
2015. M. Lin, Q. Chen and S. Yan, "Network in network", ICLR 2014: the mean over all places. K. He, X. Zhang, S. Ren and
J. Sun, "Deep residual learning for image recognition", CVPR 2016. R. Selvaraju et al., "Grad-CAM: visual explanations
from deep networks via gradient-based localization", ICCV 2017.

Deviations: the residual stages halve height and width by pooling at their end where He et al. use a stride at their
beginning, and their shortcut is a 1 × 1 convolution with normalisation wherever the number of filters changes.

    model = cnn(height=28, width=28, channels=1, outputs=10)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(pictures, labels)               # pictures (batch, 28, 28, 1)
    maps = grad_cam(model, pictures[:8])      # (8, 28, 28): where the network saw the predicted class
    filters = model.get_layer("stage_1_convolution_1").kernel  # (kernel_size, kernel_size, channels, filters)
"""

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

Normalization = Literal["batch", "layer"]
Pooling = Literal["max", "average"]

_BATCH = 64  # pictures that Grad-CAM takes at once


def cnn(
    *,
    height: int = 28,
    width: int = 28,
    channels: int = 1,
    outputs: int = 10,
    filters: Sequence[int] = (32, 64),
    convolutions: int = 2,
    kernel_size: int = 3,
    activation: str = "relu",
    normalization: Normalization | None = "batch",
    pooling: Pooling = "max",
    residual: bool = False,
    dense: Sequence[int] = (128,),
    dropout: float = 0.3,
    rotation: float = 0.03,
    translation: float = 0.1,
    zoom: float = 0.1,
    flip: bool = False,
    name: str = "cnn",
) -> keras.Model:
    """Build a convolutional classifier; compile it with a classification loss.

    Its layers are `augmentation`; for stage n and convolution m from 1 `stage_n_convolution_m`,
    `stage_n_normalization_m`, `stage_n_activation_m` and `stage_n_pooling`; then `global_pooling`, `dense_k`,
    `dropout_k`, `logits` and `output`. A residual stage also has `stage_n_sum_m`, `stage_n_shortcut_m` and
    `stage_n_shortcut_normalization_m`, m the convolution before the sum.

    Args:
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.
        channels: of the pictures: 1 for grey, 3 for colour, or any other number.
        outputs: classes; 1 for yes or no, of which the output is the probability of yes, for a binary cross-entropy.
        filters: of each stage's convolutions, the first stage first; each stage halves height and width.
        convolutions: in each stage.
        kernel_size: height and width of a filter, in pixels.
        activation: after each convolution and of the dense layers.
        normalization: "batch" normalises each filter's output over the batch and all places, "layer" all filters'
            outputs at each place.
        pooling: what stands for four neighbouring pixels: the largest or the mean.
        residual: whether each two convolutions in a row have a shortcut around them.
        dense: units of the layers between the mean over all places and the output. May be empty.
        dropout: share of the input of each dense layer and of the output that is set to zero while training.
        rotation: pictures are turned by up to this share of a full turn either way while training.
        translation: pictures are shifted by up to this share of their height and width while training.
        zoom: pictures grow or shrink by up to this share while training, height and width alike.
        flip: whether half of the pictures are mirrored, left to right, while training.
        name: of the model.

    Raises:
        ValueError: if a size is smaller than 1, a share not from 0, below 1, the picture too small for the stages,
            `normalization` or `pooling` unknown, or residual stages have an odd number of convolutions.
    """
    height, width, channels = _size("height", height), _size("width", width), _size("channels", channels)
    outputs, convolutions = _size("outputs", outputs), _size("convolutions", convolutions)
    kernel_size, dense, filters = _size("kernel_size", kernel_size), _sizes("dense", dense), _sizes("filters", filters)
    if not filters:
        raise ValueError("filters () must not be empty")
    _share("dropout", dropout)
    _share("zoom", zoom)
    smallest = 2 ** len(filters)
    if min(height, width) < smallest:
        raise ValueError(
            f"pictures of {height} × {width} pixels are too small for {len(filters)} stages, which need at least "
            f"{smallest} × {smallest}"
        )
    if normalization not in (None, *get_args(Normalization)):
        raise ValueError(f"normalization {normalization!r} is none of {', '.join(get_args(Normalization))} and None")
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling {pooling!r} is none of {', '.join(get_args(Pooling))}")
    if residual and convolutions % 2:
        raise ValueError(f"residual stages need an even number of convolutions, not {convolutions}")

    def convolve(x: Any, size: int, kernel_size: int, stage: int, kind: str, normalization_kind: str) -> Any:
        # A batch normalisation has a bias of its own.
        convolution = keras.layers.Conv2D(
            size,
            kernel_size,
            padding="same",
            data_format="channels_last",
            use_bias=normalization != "batch",
            name=f"stage_{stage}_{kind}",
        )
        x = convolution(x)  # (batch, height, width, filters), height and width halved by each stage before
        if normalization == "batch":
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"stage_{stage}_{normalization_kind}")(x)
        elif normalization == "layer":
            x = keras.layers.LayerNormalization(name=f"stage_{stage}_{normalization_kind}")(x)
        return x

    # In mixed precision too, float32 for what half precision is too coarse for: places, sums over places, logits.
    exact = "float64" if keras.config.dtype_policy().variable_dtype == "float64" else "float32"
    pictures = keras.Input((height, width, channels), name="pictures")
    x = pictures
    if rotation or translation or zoom or flip:
        augmentation = RandomAffine(rotation, translation, zoom, flip, dtype=exact, name="augmentation")
        x = augmentation(x)  # (batch, height, width, channels)
    for stage, size in enumerate(filters, 1):
        shortcut = x
        for number in range(1, convolutions + 1):
            x = convolve(x, size, kernel_size, stage, f"convolution_{number}", f"normalization_{number}")
            if residual and number % 2 == 0:
                if shortcut.shape[-1] != size:
                    names = f"shortcut_{number}", f"shortcut_normalization_{number}"
                    shortcut = convolve(shortcut, size, 1, stage, *names)
                x = keras.layers.Add(name=f"stage_{stage}_sum_{number}")([x, shortcut])
            x = keras.layers.Activation(activation, name=f"stage_{stage}_activation_{number}")(x)
            if number % 2 == 0:
                shortcut = x
        pool = keras.layers.MaxPooling2D if pooling == "max" else keras.layers.AveragePooling2D
        pooled = pool(2, data_format="channels_last", name=f"stage_{stage}_pooling")
        x = pooled(x)  # (batch, height / 2, width / 2, filters), rounded down
    x = keras.layers.GlobalAveragePooling2D("channels_last", dtype=exact, name="global_pooling")(x)  # (batch, filters)
    for number, units in enumerate(dense, 1):
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        x = keras.layers.Dense(units, activation, name=f"dense_{number}")(x)  # (batch, units)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"dropout_{len(dense) + 1}")(x)
    logits = keras.layers.Dense(outputs, dtype=exact, name="logits")(x)  # (batch, outputs)
    output: Any = keras.layers.Softmax(dtype=exact, name="output")
    if outputs == 1:  # whose softmax is always 1
        output = keras.layers.Activation("sigmoid", dtype=exact, name="output")
    return keras.Model(pictures, output(logits), name=name)


@keras.saving.register_keras_serializable(package="templates")
class RandomAffine(keras.layers.Layer):
    """Turns, shifts, zooms and mirrors each picture at random while training; what comes in from outside is black.

    It is a single resampling, where `keras.layers.RandomRotation` and its like in a row blur a picture each time;
    besides, these also vary the pictures of a plain `model(x)`, outside of training.

    Args:
        rotation: the largest turn either way, as a share of a full one.
        translation: the largest shift, as a share of height and of width.
        zoom: the largest share by which a picture grows or shrinks.
        flip: whether half of the pictures are mirrored, left to right.
    """

    def __init__(
        self, rotation: float = 0.0, translation: float = 0.0, zoom: float = 0.0, flip: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.rotation, self.translation, self.zoom, self.flip = rotation, translation, zoom, flip
        self.seed_generator = keras.random.SeedGenerator()
        self.supports_jit = keras.backend.backend() != "tensorflow"  # whose XLA lacks the resampling

    def call(self, inputs, training=False):
        """The pictures (batch, height, width, channels), varied if `training`."""
        if not training:
            return inputs
        height, width = inputs.shape[1:3]
        shape: Any = keras.ops.shape(inputs)
        draws: Any = keras.random.uniform((5, shape[0]), -1, 1, seed=self.seed_generator)
        angle = 2 * math.pi * self.rotation * draws[0]  # (batch,), as all that follows
        shrinking = 1 / (1 + self.zoom * draws[1])
        x, y = (width - 1) / 2, (height - 1) / 2
        new_x, new_y = x + self.translation * width * draws[2], y + self.translation * height * draws[3]
        mirror = keras.ops.sign(draws[4]) if self.flip else 1.0
        # The place in the picture that each pixel is taken from is a linear function of the pixel's place.
        x_by_x, x_by_y = mirror * shrinking * keras.ops.cos(angle), mirror * shrinking * keras.ops.sin(angle)
        y_by_x, y_by_y = -shrinking * keras.ops.sin(angle), shrinking * keras.ops.cos(angle)
        none = keras.ops.zeros_like(angle)
        transform = [x_by_x, x_by_y, x - x_by_x * new_x - x_by_y * new_y]
        transform += [y_by_x, y_by_y, y - y_by_x * new_x - y_by_y * new_y, none, none]
        return keras.ops.image.affine_transform(
            inputs, keras.ops.stack(transform, axis=1), "bilinear", "constant", data_format="channels_last"
        )

    def get_config(self):
        """What saving needs."""
        config = {"rotation": self.rotation, "translation": self.translation, "zoom": self.zoom, "flip": self.flip}
        return super().get_config() | config


def grad_cam(model: keras.Model, images: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Show where in each picture the network saw a class: the map of Selvaraju et al. 2017.

    The outputs of the last stage before its pooling are added up, each filter's with a weight: the mean over all places
    of the gradient of the class's logit by them. What speaks against the class is left out.

    Args:
        model: of this file.
        images: pictures (n, height, width, channels), as the model takes them.
        classes: of each picture, (n,), an index of the output; None is the one predicted for it. Of a single output 1
            is yes and 0 no.

    Returns:
        Maps (n, height, width) float32 in 0..1, 1 where a picture speaks for the class the most; all zero if nothing
        in it does.

    Raises:
        ValueError: if the model is none of this file, the pictures aren't of its size, or there isn't a class of it for
            each.
    """
    layers = [layer.name for layer in model.layers]
    if "global_pooling" not in layers or "logits" not in layers:
        inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
        remedy = f", such as model.get_layer({inner[0]!r}), and pictures as that one takes them" if inner else ""
        raise ValueError(f"{model.name} is not the network that `cnn` builds: give that itself{remedy}")
    images = np.asarray(images, "float32")
    if images.shape[1:] != model.input_shape[1:]:
        raise ValueError(f"pictures are {images.shape[1:]}, the model takes {model.input_shape[1:]}")
    given: Any = None if classes is None else np.asarray(classes)
    outputs = model.output_shape[-1]
    known = max(outputs, 2)
    if given is not None and (
        given.shape != (len(images),) or given.dtype.kind not in "iu" or np.any((given < 0) | (given >= known))
    ):
        raise ValueError(f"classes must be {len(images)} numbers from 0 to {known - 1}")

    global_pooling = layers.index("global_pooling")
    features = model.layers[global_pooling - 1].input  # (batch, height, width, filters), before the last pooling
    stages = keras.Model(model.input, [features, model.output])
    head = keras.Model(features, model.get_layer("logits").output)
    # A layer's copy, in float32 whatever its own precision is.
    copy = keras.models.clone_model(
        head, clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": "float32"})
    )
    copy.set_weights(head.get_weights())
    maps = np.zeros(images.shape[:3], np.float32)
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        values, probabilities = stages(batch, training=False)
        values: Any = keras.ops.cast(values, "float32")
        if outputs == 1:  # what speaks for no is what speaks against yes
            probabilities = keras.ops.concatenate([1 - probabilities, probabilities], axis=-1)
        chosen = keras.ops.argmax(probabilities, axis=-1) if given is None else given[start : start + _BATCH]
        one_hot: Any = keras.ops.one_hot(chosen, known, dtype="float32")
        signs = one_hot[:, 1:] - one_hot[:, :1] if outputs == 1 else one_hot
        ascent = _Ascent(copy, values.shape)
        ascent.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
        ascent.train_on_batch(values, signs)
        weights: Any = keras.ops.mean(ascent.shift, axis=(1, 2), keepdims=True)  # (batch, 1, 1, filters)
        found = keras.ops.relu(keras.ops.sum(values * weights, axis=-1, keepdims=True))  # (batch, height, width, 1)
        found = keras.ops.image.resize(found, images.shape[1:3], "bilinear", data_format="channels_last")
        largest = keras.ops.max(found, axis=(1, 2), keepdims=True)
        found = keras.ops.squeeze(keras.ops.divide_no_nan(found, largest), axis=-1)  # (batch, height, width)
        maps[start : start + _BATCH] = keras.ops.convert_to_numpy(found)
    return maps


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
    """Several sizes, of a list or an array too."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    return tuple(_size(name, size) for size in sizes)


def _share(name: str, share: Any) -> None:
    """Refuse what is no number from 0, below 1."""
    if not isinstance(share, numbers.Real) or not 0 <= float(share) < 1:
        raise ValueError(f"{name} {share!r} must be at least 0 and below 1")


class _Ascent(keras.Model):
    """Adds a shift of zero to the input of a model; one training step at rate 1 makes it the logits' gradient.

    `keras.ops` has no gradient of its own; the optimizer has, on each backend.
    """

    def __init__(self, head: keras.Model, shape: Sequence[int]):
        super().__init__(dtype="float32")
        self.head = head
        self.head.trainable = False
        self.shift = self.add_weight(shape=shape, initializer="zeros", name="shift")

    def call(self, inputs):
        """The logits (batch, outputs)."""
        return self.head(inputs + self.shift, training=False)

    def compute_loss(self, x=None, y: Any = None, y_pred: Any = None, sample_weight=None, training=True):
        """The chosen logits' sum with the other sign; each picture has one of them and its own part of the shift."""
        return keras.ops.negative(keras.ops.sum(y * y_pred))

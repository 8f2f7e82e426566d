"""Convolutional network: classifies images with small filters shared across all positions.

Paper: LeCun et al. 1998; He et al. 2016 (residual); Selvaraju et al. 2017 (Grad-CAM)
Input: (batch, height, width, channels) float, in 0..1
Output: (batch, outputs) float, probabilities
Parameters: cnn 75,178
Loading: `import cnn` (this module), then `keras.saving.load_model("model.keras")`

The network is a sequence of stages of convolution, normalisation and activation. Each stage ends with a pooling layer
that halves height and width. Global average pooling, dense layers and a softmax follow. A layer of the model augments
the images at random during training and leaves them unchanged in use.

Sources: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86, 1998. K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image
recognition", ICLR 2015: stages of several 3 × 3 convolutions. S. Ioffe and C. Szegedy, "Batch normalization", ICML
2015. M. Lin, Q. Chen and S. Yan, "Network in network", ICLR 2014: global average pooling. K. He, X. Zhang, S. Ren and
J. Sun, "Deep residual learning for image recognition", CVPR 2016. R. Selvaraju et al., "Grad-CAM: visual explanations
from deep networks via gradient-based localization", ICCV 2017.

Deviations: residual stages halve height and width by pooling at their end; He et al. use a stride at the beginning.
Where the number of filters changes, the shortcut is a 1 × 1 convolution with normalisation.

    model = cnn(height=28, width=28, channels=1, outputs=10)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(images, labels)               # images (n, 28, 28, 1), labels (n,)
    maps = grad_cam(model, images[:8])      # (8, 28, 28): evidence for the predicted class
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

_BATCH = 64  # images per batch in Grad-CAM


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
    """Build a convolutional classifier. Compile it with a classification loss.

    Layer names: `augmentation`; then, for stage n and convolution m, both counted from 1, `stage_n_convolution_m`,
    `stage_n_normalization_m`, `stage_n_activation_m` and `stage_n_pooling`; then `global_pooling`, `dense_k`,
    `dropout_k`, `logits` and `output`. A residual stage also has `stage_n_sum_m`, `stage_n_shortcut_m` and
    `stage_n_shortcut_normalization_m`, where m is the convolution before the sum.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        channels: channels of the images: 1 for grey, 3 for colour, or any other number.
        outputs: number of classes. With 1, the output is the probability of the positive class, for binary
            cross-entropy.
        filters: filters of each stage's convolutions, from the first stage to the last.
        convolutions: convolutions per stage.
        kernel_size: height and width of a filter in pixels.
        activation: activation after each convolution and of the dense layers.
        normalization: "batch" normalises each filter's output over the batch and all positions; "layer" normalises over
            the filters at each position; None does not normalise.
        pooling: "max" or "average" pooling over 2 × 2 pixels at the end of each stage.
        residual: whether to add a shortcut around each pair of convolutions.
        dense: units of the dense layers between the global pooling and the output. May be empty.
        dropout: dropout rate before each dense layer and before the output, in [0, 1).
        rotation: largest random rotation in either direction during training, as a fraction of a full turn.
        translation: largest random shift during training, as a fraction of height and width.
        zoom: largest random change of scale during training, as a fraction in [0, 1); height and width scale alike.
        flip: whether to mirror half of the images left to right during training.
        name: model name.

    Raises:
        ValueError: if a size is less than 1, `dropout` or `zoom` is outside [0, 1), the images are too small for the
            number of stages, `normalization` or `pooling` is unknown, or residual stages have an odd number of
            convolutions.
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
            f"images of {height} × {width} pixels are too small for {len(filters)} stages, which need at least "
            f"{smallest} × {smallest}"
        )
    if normalization not in (None, *get_args(Normalization)):
        raise ValueError(f"normalization {normalization!r} must be one of {', '.join(get_args(Normalization))}, None")
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling {pooling!r} must be one of {', '.join(get_args(Pooling))}")
    if residual and convolutions % 2:
        raise ValueError(f"residual stages need an even number of convolutions, not {convolutions}")

    def convolve(x: Any, size: int, kernel_size: int, stage: int, kind: str, normalization_kind: str) -> Any:
        # Batch normalisation adds a bias itself.
        convolution = keras.layers.Conv2D(
            size,
            kernel_size,
            padding="same",
            data_format="channels_last",
            use_bias=normalization != "batch",
            name=f"stage_{stage}_{kind}",
        )
        x = convolution(x)  # (batch, height, width, filters), height and width halved by each earlier stage
        if normalization == "batch":
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"stage_{stage}_{normalization_kind}")(x)
        elif normalization == "layer":
            x = keras.layers.LayerNormalization(name=f"stage_{stage}_{normalization_kind}")(x)
        return x

    nonlinearity: Any = gelu if activation == "gelu" else activation
    # Half precision is too coarse for pixel coordinates, sums over positions and logits: at least float32 for these.
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
            x = keras.layers.Activation(nonlinearity, name=f"stage_{stage}_activation_{number}")(x)
            if number % 2 == 0:
                shortcut = x
        pool = keras.layers.MaxPooling2D if pooling == "max" else keras.layers.AveragePooling2D
        pooled = pool(2, data_format="channels_last", name=f"stage_{stage}_pooling")
        x = pooled(x)  # (batch, height / 2, width / 2, filters), rounded down
    x = keras.layers.GlobalAveragePooling2D("channels_last", dtype=exact, name="global_pooling")(x)  # (batch, filters)
    for number, units in enumerate(dense, 1):
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        x = keras.layers.Dense(units, nonlinearity, name=f"dense_{number}")(x)  # (batch, units)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"dropout_{len(dense) + 1}")(x)
    logits = keras.layers.Dense(outputs, dtype=exact, name="logits")(x)  # (batch, outputs)
    output: Any = keras.layers.Softmax(dtype=exact, name="output")
    if outputs == 1:  # a softmax of one number is always 1
        output = keras.layers.Activation("sigmoid", dtype=exact, name="output")
    return keras.Model(pictures, output(logits), name=name)


@keras.saving.register_keras_serializable(package="templates")
def gelu(x):
    """Exact GELU, x Φ(x), by erf: on TensorFlow, Keras computes it by erfc, which ONNX does not have."""
    erf: Any = keras.ops.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


@keras.saving.register_keras_serializable(package="templates")
class RandomAffine(keras.layers.Layer):
    """Rotates, shifts, zooms and mirrors each image at random during training; pixels from outside the image are black.

    It resamples each image once. A chain of `keras.layers.RandomRotation`, `RandomZoom` and so on resamples, and so
    blurs, an image once per layer; those layers also augment in a plain call `model(x)` outside training.

    Args:
        rotation: largest rotation in either direction, as a fraction of a full turn.
        translation: largest shift, as a fraction of height and width.
        zoom: largest change of scale, as a fraction.
        flip: whether to mirror half of the images left to right.
    """

    def __init__(
        self, rotation: float = 0.0, translation: float = 0.0, zoom: float = 0.0, flip: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.rotation, self.translation, self.zoom, self.flip = rotation, translation, zoom, flip
        self.seed_generator = keras.random.SeedGenerator()
        self.supports_jit = keras.backend.backend() != "tensorflow"  # XLA in TensorFlow lacks the resampling op

    def call(self, inputs, training=False):
        """Return the images (batch, height, width, channels), augmented if `training`."""
        if not training:
            return inputs
        height, width = inputs.shape[1:3]
        shape: Any = keras.ops.shape(inputs)
        draws: Any = keras.random.uniform((5, shape[0]), -1, 1, seed=self.seed_generator)
        angle = 2 * math.pi * self.rotation * draws[0]  # (batch,), like all of the following
        shrinking = 1 / (1 + self.zoom * draws[1])
        x, y = (width - 1) / 2, (height - 1) / 2
        new_x, new_y = x + self.translation * width * draws[2], y + self.translation * height * draws[3]
        mirror = keras.ops.sign(draws[4]) if self.flip else 1.0
        # The source coordinates of each output pixel are an affine function of its own coordinates.
        x_by_x, x_by_y = mirror * shrinking * keras.ops.cos(angle), mirror * shrinking * keras.ops.sin(angle)
        y_by_x, y_by_y = -shrinking * keras.ops.sin(angle), shrinking * keras.ops.cos(angle)
        zero = keras.ops.zeros_like(angle)
        transform = [x_by_x, x_by_y, x - x_by_x * new_x - x_by_y * new_y]
        transform += [y_by_x, y_by_y, y - y_by_x * new_x - y_by_y * new_y, zero, zero]
        return keras.ops.image.affine_transform(
            inputs, keras.ops.stack(transform, axis=1), "bilinear", "constant", data_format="channels_last"
        )

    def get_config(self):
        """Return the configuration for saving."""
        config = {"rotation": self.rotation, "translation": self.translation, "zoom": self.zoom, "flip": self.flip}
        return super().get_config() | config


def grad_cam(model: keras.Model, images: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Compute Grad-CAM maps (Selvaraju et al. 2017): where in each image the network sees evidence for a class.

    A map is the weighted sum of the last stage's filter outputs before pooling. A filter's weight is the gradient of
    the class's logit with respect to its output, averaged over all positions. Negative values are set to zero.

    Args:
        model: a model built by `cnn`.
        images: images (n, height, width, channels), as the model expects them.
        classes: class index of each image, (n,); None uses the predicted class. For a model with a single output, 1 is
            the positive class and 0 the negative one.

    Returns:
        Maps (n, height, width) float32 in 0..1. The strongest evidence in an image is 1; a map is all zero if the image
        has no evidence for the class.

    Raises:
        ValueError: if the model was not built by `cnn`, the images have another shape than its input, or `classes` is
            not one valid class index per image.
    """
    layers = [layer.name for layer in model.layers]
    if "global_pooling" not in layers or "logits" not in layers:
        inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
        remedy = f", such as model.get_layer({inner[0]!r}), with images as that model expects them" if inner else ""
        raise ValueError(f"{model.name} was not built by `cnn`: pass the network itself{remedy}")
    images = np.asarray(images, "float32")
    if images.shape[1:] != model.input_shape[1:]:
        raise ValueError(f"images have shape {images.shape[1:]}, the model expects {model.input_shape[1:]}")
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
    # A copy of the layers in float32, whatever the precision of the model.
    copy = keras.models.clone_model(
        head, clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": "float32"})
    )
    copy.set_weights(head.get_weights())
    maps = np.zeros(images.shape[:3], np.float32)
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        values, probabilities = stages(batch, training=False)
        values: Any = keras.ops.cast(values, "float32")
        if outputs == 1:  # evidence for the negative class is evidence against the positive one
            probabilities = keras.ops.concatenate([1 - probabilities, probabilities], axis=-1)
        chosen = keras.ops.argmax(probabilities, axis=-1) if given is None else given[start : start + _BATCH]
        one_hot: Any = keras.ops.one_hot(chosen, known, dtype="float32")
        signs = one_hot[:, 1:] - one_hot[:, :1] if outputs == 1 else one_hot
        ascent = _Ascent(copy, values.shape)
        ascent.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
        ascent.train_on_batch(values, signs)
        weights: Any = keras.ops.mean(ascent.shift, axis=(1, 2), keepdims=True)  # (batch, 1, 1, filters)
        cams = keras.ops.relu(keras.ops.sum(values * weights, axis=-1, keepdims=True))  # (batch, height, width, 1)
        cams = keras.ops.image.resize(cams, images.shape[1:3], "bilinear", data_format="channels_last")
        largest = keras.ops.max(cams, axis=(1, 2), keepdims=True)
        cams = keras.ops.squeeze(keras.ops.divide_no_nan(cams, largest), axis=-1)  # (batch, height, width)
        maps[start : start + _BATCH] = keras.ops.convert_to_numpy(cams)
    return maps


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
    """Return a sequence or array of sizes as a tuple of ints."""
    if np.ndim(sizes) != 1:
        raise ValueError(f"{name} {sizes!r} must be a list of whole numbers")
    return tuple(_size(name, size) for size in sizes)


def _share(name: str, share: Any) -> None:
    """Raise ValueError unless `share` is a number in [0, 1)."""
    if not isinstance(share, numbers.Real) or not 0 <= float(share) < 1:
        raise ValueError(f"{name} {share!r} must be at least 0 and below 1")


class _Ascent(keras.Model):
    """Computes the gradient of the logits with respect to a model's input, on every backend.

    `keras.ops` has no gradient function, but an optimizer computes gradients. The model adds a shift of zero to its
    input; one training step at learning rate 1 turns the shift into the gradient.
    """

    def __init__(self, head: keras.Model, shape: Sequence[int]):
        super().__init__(dtype="float32")
        self.head = head
        self.head.trainable = False
        self.shift = self.add_weight(shape=shape, initializer="zeros", name="shift")

    def call(self, inputs):
        """Return the logits (batch, outputs)."""
        return self.head(inputs + self.shift, training=False)

    def compute_loss(self, x=None, y: Any = None, y_pred: Any = None, sample_weight=None, training=True):
        """Return minus the sum of the chosen logits; each image has one logit and its own part of the shift."""
        return keras.ops.negative(keras.ops.sum(y * y_pred))

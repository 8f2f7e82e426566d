import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from templates.cnn import cnn, grad_cam

EAGERLY = keras.backend.backend() != "jax"  # the quickest for a single step
STILL = {"rotation": 0.0, "translation": 0.0, "zoom": 0.0}
SIZES = {"height": 9, "width": 8, "channels": 2, "outputs": 3, "filters": (4, 5), "dense": (6,)} | STILL
CASES = {
    "defaults": {},
    "layer": {"normalization": "layer", "pooling": "average", "kernel_size": 5},
    "bare": {"normalization": None, "dense": (), "convolutions": 1, "kernel_size": 2, "activation": "tanh"},
    "deep": {"filters": (4, 5, 6), "dense": (6, 5), "convolutions": 3, "channels": 1, "pooling": "average"},
    "residual": {"residual": True, "filters": (2, 3), "convolutions": 4},
    "residual layer": {"residual": True, "normalization": "layer", "filters": (3, 3)},
    "residual bare": {"residual": True, "normalization": None, "filters": (2,), "kernel_size": 1},
}


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def build(*, seed: int = 0, **options) -> keras.Model:
    """A small network of random weights; variances are positive."""
    model = cnn(**SIZES | options)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        positive = variable.name == "moving_variance"
        variable.assign(random.uniform(0.5, 1.5, variable.shape) if positive else random.normal(0, 0.6, variable.shape))
    return model


def pictures(model: keras.Model, count: int = 4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *model.input_shape[1:])).astype(np.float32)


# The definition, in float64


def convolution(x, kernel, bias=0.0):
    size = kernel.shape[0]
    before = (size - 1) // 2
    margin = (before, size - 1 - before)
    x = np.pad(x, ((0, 0), margin, margin, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel, optimize=True) + bias


def normalised(x, gamma, beta, mean=None, variance=None, axes=(0, 1, 2)):
    """By the moving mean and variance, or without them by those over the axes."""
    if mean is None:
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta  # Keras's epsilon


def pooled(x, pooling):
    n, height, width, filters = x.shape
    blocks = x[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, filters)
    return blocks.max((2, 4)) if pooling == "max" else blocks.mean((2, 4))


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}


def reference(weights: dict, x: np.ndarray, *, training: bool = False, **options) -> np.ndarray:
    """The network's output by its definition and its weights, by layer; in training, batch normalisation differs."""
    choice = {"convolutions": 2, "activation": "relu", "normalization": "batch", "pooling": "max", "residual": False}
    choice |= SIZES | options
    left = {name: [np.asarray(weight, np.float64) for weight in arrays] for name, arrays in weights.items()}
    activate = ACTIVATIONS[choice["activation"]]

    def convolve(x, convolution_name, normalization_name):
        x = convolution(x, *left.pop(convolution_name))
        if choice["normalization"] == "batch":
            found = left.pop(normalization_name)
            x = normalised(x, *(found[:2] if training else found))
        if choice["normalization"] == "layer":
            x = normalised(x, *left.pop(normalization_name), axes=-1)
        return x

    x = x.astype(np.float64)
    for stage in range(1, len(choice["filters"]) + 1):
        shortcut = x
        for number in range(1, choice["convolutions"] + 1):
            x = convolve(x, f"stage_{stage}_convolution_{number}", f"stage_{stage}_normalization_{number}")
            if choice["residual"] and number in (2, 4):
                if f"stage_{stage}_shortcut_{number}" in left:
                    names = f"stage_{stage}_shortcut_{number}", f"stage_{stage}_shortcut_normalization_{number}"
                    shortcut = convolve(shortcut, *names)
                x = x + shortcut
            x = activate(x)
            if number in (2, 4):
                shortcut = x
        x = pooled(x, choice["pooling"])
    x = x.mean((1, 2))
    for number in range(1, len(choice["dense"]) + 1):
        kernel, bias = left.pop(f"dense_{number}")
        x = activate(x @ kernel + bias)
    kernel, bias = left.pop("logits")
    assert not left
    return softmax(x @ kernel + bias)


def by_layer(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


@pytest.mark.parametrize("case", CASES)
def test_outputs_follow_the_definition_and_sizes_the_formula(case):
    options = CASES[case]
    model = build(**options)
    x = pictures(model)
    outputs = model.predict(x, verbose=0)
    np.testing.assert_allclose(outputs, reference(by_layer(model), x, **options), rtol=0, atol=2e-5)
    assert outputs.std(axis=0).min() > 1e-4  # the pictures matter
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)

    choice = {"convolutions": 2, "kernel_size": 3, "normalization": "batch", "residual": False} | SIZES | options
    extra = {"batch": 4, "layer": 3, None: 1}[choice["normalization"]]  # numbers a filter beside its kernel
    expected, inputs = 0, choice["channels"]
    for filters in choice["filters"]:
        if choice["residual"] and inputs != filters:
            expected += (inputs + extra) * filters
        for _ in range(choice["convolutions"]):
            expected += (choice["kernel_size"] ** 2 * inputs + extra) * filters
            inputs = filters
    for units in (*choice["dense"], choice["outputs"]):
        expected += (inputs + 1) * units
        inputs = units
    assert model.count_params() == expected


@pytest.mark.parametrize("case", ["defaults", "layer", "bare", "residual"])
def test_a_training_step_goes_down_the_slope_of_the_loss(case):
    # No kinks, where finite differences fail; few filters, for speed.
    options = CASES[case] | {"filters": (2, 2), "dense": (3,), "activation": "tanh", "pooling": "average"}
    options |= {"channels": 1, "height": 4, "width": 4, "convolutions": min(CASES[case].get("convolutions", 2), 2)}
    model = build(dropout=0.0, **options)
    x, labels = pictures(model, 6), np.array([0, 1, 2, 1, 0, 1])
    weights = by_layer(model)
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    loss = float(model.train_on_batch(x, labels))

    def by_definition():
        outputs = reference(weights, x, training=True, **options)
        return -np.log(outputs[np.arange(6), labels]).mean()

    assert loss == pytest.approx(by_definition(), rel=1e-4)
    for layer, arrays in weights.items():
        trained = model.get_layer(layer).get_weights()
        kinds = [weight.name for weight in model.get_layer(layer).weights]
        for kind, before, after in zip(kinds, arrays, trained, strict=True):
            if kind.startswith("moving"):
                continue
            place = tuple(size // 2 for size in before.shape)
            weights[layer] = [array.astype(np.float64) for array in arrays]
            array = weights[layer][kinds.index(kind)]
            slope = 0.0
            for sign in (1, -1):
                array[place] = before[place] + sign * 1e-4
                slope += sign * by_definition() / 2e-4
            array[place] = before[place]
            assert before[place] - after[place] == pytest.approx(slope, rel=1e-2, abs=3e-5), (layer, kind)


def test_batch_normalisation_keeps_a_moving_mean_and_variance():
    model = build(dropout=0.0)
    x = pictures(model, 16)
    kernel = model.get_layer("stage_1_convolution_1").get_weights()[0]
    _, _, mean, variance = model.get_layer("stage_1_normalization_1").get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    model.train_on_batch(x, np.arange(16) % 3)
    found = convolution(x.astype(np.float64), kernel.astype(np.float64))
    _, _, new_mean, new_variance = model.get_layer("stage_1_normalization_1").get_weights()
    np.testing.assert_allclose(new_mean, 0.9 * mean + 0.1 * found.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    # Backends differ in dividing by n or n - 1.
    np.testing.assert_allclose(new_variance, 0.9 * variance + 0.1 * found.var((0, 1, 2)), rtol=1e-3)


# Augmentation

MOVES = {"rotation": 0.1, "translation": 0.2, "zoom": 0.3, "flip": True}


@pytest.mark.parametrize("move", MOVES)
def test_pictures_are_varied_in_training_alone(move):
    options = {"dropout": 0.0, "normalization": None}
    still = build(**options)
    moving = build(**options | {move: MOVES[move]})
    moving.set_weights(still.get_weights())
    x = pictures(still, 32)
    np.testing.assert_array_equal(values(moving(x)), values(still(x)))
    np.testing.assert_array_equal(moving.predict(x, verbose=0), still.predict(x, verbose=0))
    np.testing.assert_allclose(values(still(x, training=True)), values(still(x)), atol=1e-6)
    one, two = values(moving(x, training=True)), values(moving(x, training=True))
    assert np.abs(one - values(still(x))).max() > 1e-3
    assert np.abs(one - two).max() > 1e-3  # other pictures each time
    names = {layer.name for layer in moving.layers} - {layer.name for layer in still.layers}
    assert names == {"augmentation"}


def test_no_layer_for_what_is_not_asked_for():
    model = cnn(**SIZES, dropout=0.0)
    assert not any("augmentation" in layer.name or "dropout" in layer.name for layer in model.layers)


def lone_pixels(place, size: int = 21, count: int = 200) -> np.ndarray:
    x = np.zeros((count, size, size, 1), np.float32)
    x[:, place[0], place[1]] = 1
    return x


def centres(x) -> np.ndarray:
    """The centre of mass of each picture, (n, 2), in pixels from its middle; NaN where it is black."""
    x = values(x)[..., 0].astype(np.float64)
    places = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2
    with np.errstate(invalid="ignore"):
        return np.stack([x.sum(2) @ places, x.sum(1) @ places], axis=1) / x.sum((1, 2))[:, None]


def varied(move: str, amount, x: np.ndarray) -> np.ndarray:
    keras.utils.set_random_seed(4)
    model = cnn(**STILL | {"height": x.shape[1], "width": x.shape[2], move: amount})
    return centres(model.get_layer("augmentation")(x, training=True))


def test_a_turn_is_up_to_the_share_of_a_full_one_either_way():
    found = varied("rotation", 0.1, lone_pixels((10, 17)))  # 7 to the right of the middle
    angles = np.arctan2(found[:, 0], found[:, 1])
    np.testing.assert_allclose(np.hypot(*found.T), 7, atol=0.3)
    assert np.abs(angles).max() <= 0.1 * 2 * np.pi + 0.03
    assert angles.min() < -0.08 * 2 * np.pi < 0.08 * 2 * np.pi < angles.max()


def test_a_shift_is_up_to_the_share_of_height_and_width():
    found = varied("translation", 0.2, lone_pixels((10, 10)))
    assert np.abs(found).max() <= 0.2 * 21 + 1e-3
    assert np.all(found.min(axis=0) < -0.17 * 21)
    assert np.all(found.max(axis=0) > 0.17 * 21)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.3  # each direction for itself
    edge = varied("translation", 0.2, lone_pixels((10, 20)))
    assert np.isnan(edge).any()  # black comes in, the edge is not repeated


def test_a_zoom_keeps_the_shape_and_the_middle():
    found = varied("zoom", 0.3, lone_pixels((10, 15)))  # 5 to the right of the middle
    assert np.abs(found[:, 0]).max() < 0.01
    scales = found[:, 1] / 5
    assert 0.7 - 0.02 <= scales.min() < 0.75
    assert 1.25 < scales.max() <= 1.3 + 0.02


def test_half_of_the_pictures_are_mirrored_left_to_right():
    found = varied("flip", True, lone_pixels((12, 17)))
    np.testing.assert_array_equal(np.abs(found), [[2, 7]] * 200)
    assert np.all(found[:, 0] == 2)
    assert 70 < (found[:, 1] < 0).sum() < 130


# Building, saving, refusing


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (28, 28, 1), (32, 32, 3), (8, 33, 3), (9, 11, 5)])
def test_any_size_from_8_by_8_and_any_channels(height, width, channels):
    model = cnn(height=height, width=width, channels=channels, outputs=7)
    assert model.input_shape == (None, height, width, channels)
    outputs = model.predict(pictures(model, 2), verbose=0)
    assert outputs.shape == (2, 7)
    assert np.isfinite(outputs).all()
    assert model.name == "cnn"
    assert cnn(name="other").name == "other"


@pytest.mark.parametrize("case", ["defaults", "bare", "residual layer"])
def test_a_saved_model_answers_as_before(case, tmp_path):
    model = build(**CASES[case] | MOVES)
    x = pictures(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.to_json() == model.to_json()
    np.testing.assert_allclose(values(again(x)), values(model(x)), rtol=1e-6, atol=1e-7)


def test_a_saved_model_goes_on_training(tmp_path):
    model = build(**MOVES)
    x, labels = pictures(model), np.array([0, 1, 2, 0])
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    model.train_on_batch(x, labels)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.run_eagerly = EAGERLY
    assert np.isfinite(again.train_on_batch(x, labels))
    assert all(np.any(old != new) for old, new in zip(model.get_weights(), again.get_weights(), strict=True))
    assert again.optimizer.iterations == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"height": 8, "width": 8, "filters": (8,) * 4},
            "images of 8 × 8 pixels are too small for 4 stages.* 16 × 16",
        ),
        ({"height": 3, "width": 28}, "images of 3 × 28 pixels are too small for 2 stages.* 4 × 4"),
        ({"filters": ()}, r"filters \(\) must not be empty"),
        ({"filters": (8, 0)}, "must be at least 1"),
        ({"dense": (0,)}, "must be at least 1"),
        ({"convolutions": 0}, "must be at least 1"),
        ({"kernel_size": 0}, "must be at least 1"),
        ({"channels": 0}, "must be at least 1"),
        ({"outputs": 0}, "must be at least 1"),
        ({"normalization": "group"}, "normalization 'group' must be one of batch, layer, None"),
        ({"pooling": "mean"}, "pooling 'mean' must be one of max, average"),
        ({"residual": True, "convolutions": 3}, "an even number of convolutions, not 3"),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        cnn(**options)
    assert "\n" not in str(caught.value)


def test_three_stages_take_pictures_of_8_by_8():
    model = build(height=8, filters=(3, 3, 3))
    x = pictures(model)
    expected = reference(by_layer(model), x, filters=(3, 3, 3))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=0, atol=2e-5)


# Grad-CAM


def gradient(model: keras.Model, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The gradient of the classes' logits by the outputs of the last stage, by the backend itself."""
    layers = [layer for layer in model.layers if "dropout" not in layer.name]
    first = next(i for i, layer in enumerate(layers) if layer.name == "global_pooling") - 1
    rows = np.arange(len(features))

    def logits(x):
        for layer in layers[first:-1]:
            x = layer(x)
        return x

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(features)
        with tf.GradientTape() as tape:
            tape.watch(x)
            chosen = tf.gather(logits(x), classes, batch_dims=1)
        return np.asarray(tape.gradient(chosen, x))
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: logits(x)[rows, classes].sum())(features))
    import torch

    x = torch.tensor(features, requires_grad=True)
    logits(x)[rows, torch.tensor(classes)].sum().backward()
    return x.grad.numpy()


def enlarged(found: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between the centres of the pixels, the same beyond the outermost."""

    def between(size, new):
        places = np.clip((np.arange(new) + 0.5) * size / new - 0.5, 0, size - 1)
        return np.stack([np.interp(places, np.arange(size), row) for row in np.eye(size)], axis=1)

    return between(found.shape[0], height) @ found @ between(found.shape[1], width).T


def reference_maps(model: keras.Model, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    last = next(i for i, layer in enumerate(model.layers) if layer.name == "global_pooling") - 1
    features = values(keras.Model(model.input, model.layers[last].input)(x))
    weights = gradient(model, features, classes).mean((1, 2))
    found = np.maximum(np.einsum("nhwf,nf->nhw", features.astype(np.float64), weights), 0)
    found = np.array([enlarged(one, *x.shape[1:3]) for one in found])
    largest = found.max((1, 2), keepdims=True)
    return np.divide(found, largest, out=np.zeros_like(found), where=largest > 0)


@pytest.mark.parametrize("case", ["defaults", "bare", "residual layer"])
def test_grad_cam_is_the_gradient_weighted_sum_of_the_last_stage(case):
    model = build(**CASES[case] | {"height": 17, "width": 12})
    x = pictures(model, 6)
    classes = np.array([0, 1, 2, 2, 1, 0])
    maps = grad_cam(model, x, classes)
    assert maps.shape == (6, 17, 12)
    assert maps.dtype == np.float32
    expected = reference_maps(model, x, classes)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=2e-4)
    assert set(maps.max((1, 2)).round(5)) <= {0.0, 1.0}
    assert maps.min() >= 0
    assert maps.max() == pytest.approx(1)


def test_grad_cam_without_dense_layers_is_the_class_activation_map():
    # Selvaraju et al., section 3.1: with the mean and a linear layer alone, it is the map of Zhou et al. 2016.
    model = build(pooling="average", dense=(), height=16, width=16)
    x = pictures(model, 5)
    features = values(keras.Model(model.input, model.get_layer("stage_2_activation_2").output)(x))
    kernel, _ = model.get_layer("logits").get_weights()
    for classes in ([0] * 5, [2] * 5):
        found = np.maximum(features.astype(np.float64) @ kernel[:, classes[0]], 0)
        expected = np.array([enlarged(one / max(one.max(), 1e-9), 16, 16) for one in found])
        expected = np.array([one / max(one.max(), 1e-9) for one in expected])
        np.testing.assert_allclose(grad_cam(model, x, classes), expected, atol=1e-5)


def test_grad_cam_takes_the_predicted_class_and_any_number_of_pictures():
    model = build(height=12)
    x = pictures(model, 70)
    # Biases that make the three logits level, so that each class is predicted for some pictures.
    kernel, bias = model.get_layer("logits").get_weights()
    logits = keras.Model(model.input, model.get_layer("logits").output)
    model.get_layer("logits").set_weights([kernel, bias - values(logits(x)).mean(axis=0)])
    maps = grad_cam(model, x)
    predicted = values(model(x)).argmax(axis=1)
    assert len(set(predicted)) == 3
    np.testing.assert_allclose(maps, grad_cam(model, x, predicted), atol=1e-6)
    np.testing.assert_allclose(maps[66], grad_cam(model, x[64:])[2], atol=1e-5)
    assert np.abs(maps - grad_cam(model, x, (predicted + 1) % 3)).max() > 0.1
    assert grad_cam(model, x[:0]).shape == (0, 12, 8)


def test_grad_cam_leaves_the_model_as_it_is():
    model = build(**MOVES)
    x, labels = pictures(model), np.array([0, 1, 2, 0])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    weights, trainable = model.get_weights(), len(model.trainable_weights)
    first = grad_cam(model, x)
    np.testing.assert_array_equal(grad_cam(model, x), first)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(model.trainable_weights) == trainable
    model.train_on_batch(x, labels)
    assert all(np.any(old != new) for old, new in zip(weights, model.get_weights(), strict=True))


def test_grad_cam_of_a_class_that_nothing_speaks_for_is_zero():
    model = build(dense=())
    kernel, bias = model.get_layer("logits").get_weights()
    kernel[:, 1] = -1  # of outputs that are never negative
    model.get_layer("logits").set_weights([kernel, bias])
    assert not grad_cam(model, pictures(model), [1] * 4).any()


def test_grad_cam_refuses_other_pictures_and_classes():
    model = build()
    x = pictures(model)
    with pytest.raises(ValueError, match=r"images have shape \(8, 9, 2\), the model expects \(9, 8, 2\)"):
        grad_cam(model, x.swapaxes(1, 2))
    for classes in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, -1]):
        with pytest.raises(ValueError, match="classes must be 4 numbers from 0 to 2"):
            grad_cam(model, x, classes)


# Learning


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with stripes, lying (class 0) or standing (1), in 6 × 6 pixels of it: pictures, classes, corners."""
    random = np.random.default_rng(seed)
    x = random.random((count, 20, 20, 1)).astype(np.float32) * 0.3
    labels, corners = random.integers(0, 2, count), random.integers(0, 15, (count, 2))
    patch = np.tile([[1.0], [0.0]], (3, 6))
    for picture, label, (top, left) in zip(x, labels, corners, strict=True):
        picture[top : top + 6, left : left + 6, 0] = patch.T if label else patch
    return x, labels, corners


@pytest.mark.slow
def test_it_learns_patterns_anywhere_and_grad_cam_finds_them():
    keras.utils.set_random_seed(6)
    sizes = {"height": 20, "width": 20, "outputs": 2, "filters": (6, 8), "convolutions": 1, "dense": ()}
    model = cnn(**sizes, dropout=0.0, **STILL)
    x, labels, _ = stripes(400, 0)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(x, labels, batch_size=20, epochs=5, verbose=0)
    x, labels, corners = stripes(100, 1)
    assert np.mean(model.predict(x, verbose=0).argmax(axis=1) == labels) >= 0.98
    maps = grad_cam(model, x)
    inside = 0.0
    for one, (top, left) in zip(maps, corners, strict=True):
        inside += one[max(top - 2, 0) : top + 8, max(left - 2, 0) : left + 8].sum() / one.sum() / 100
    assert inside > 0.7  # in at most a quarter of the picture


@pytest.mark.slow
def test_it_learns_the_digits_of_scikit_learn():
    keras.utils.set_random_seed(7)
    digits = load_digits()
    x, labels = (digits.images[:898, :, :, None] / 16).astype(np.float32), digits.target[:898]
    model = cnn(height=8, width=8, filters=(16, 32))
    rate = keras.optimizers.schedules.CosineDecay(0.005, 12 * 23)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x[:718], labels[:718], batch_size=32, epochs=12, verbose=0)
    accuracy = np.mean(model.predict(x[718:], verbose=0).argmax(axis=1) == labels[718:])
    assert accuracy > 0.93

import itertools
import math

import keras
import numpy as np
import pytest

from templates.gan import (
    GAN,
    SpectralNormalization,
    augmented,
    conditional_gan,
    discriminator,
    gan,
    generate,
    generator,
    separate_optimizers,
)

EAGERLY = keras.backend.backend() != "jax"  # the quickest for a few steps
GENERATORS = {
    "resize batch": {"height": 7, "width": 10, "channels": 3, "classes": 4, "filters": (5, 4)},
    "transposed layer": {"upsampling": "transposed", "normalization": "layer", "height": 7, "width": 10, "channels": 3}
    | {"classes": 4, "filters": (3, 4)},
    "transposed batch": {"upsampling": "transposed", "height": 9, "width": 5, "filters": (3,)},
    "resize bare": {"normalization": None, "height": 28, "width": 28, "channels": 3, "filters": (2, 3, 4)}
    | {"activation": "tanh", "output_activation": "linear"},
}
DISCRIMINATORS = {
    "projection": {"height": 7, "width": 10, "channels": 3, "classes": 4, "filters": (5, 4)},
    "plane": {"height": 9, "width": 5, "classes": 4, "filters": (3,), "label_input": "plane"},
    "projection not normalised": {"height": 5, "width": 6, "classes": 2, "filters": (4,)}
    | {"spectral_normalization": False, "activation": "tanh"},
    "no label": {"height": 28, "width": 28, "channels": 3, "filters": (2, 3, 4)},
}
# Loss, label smoothing, classes, how these enter the discriminator
STEPS = [
    ("hinge", 0.0, 3, "projection"),
    ("non_saturating", 0.2, None, "projection"),
    ("least_squares", 0.1, 3, "plane"),
    ("wasserstein", 0.0, None, "projection"),
]


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def follow(model: keras.Model) -> keras.Model:
    """Put each power iteration of spectral normalisation to where it ends."""
    for layer in model.layers:
        if isinstance(layer, SpectralNormalization):
            layer.u.assign(np.linalg.svd(as_matrix(layer.layer.kernel))[2][0])
    return model


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """Random weights, biases included; variances are positive, power iterations at their end."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        positive = weight.name == "moving_variance"
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.5, weight.shape))
    return follow(model)


def build(classes: int | None = 3, *, label_input="projection", dropout=0.0, spectral_normalization=True, **options):
    """A small GAN of 4 × 4 pictures in two channels, of random weights."""
    size = {"height": 4, "width": 4, "channels": 2, "classes": classes}
    drawing = generator(**size, latent=3, filters=(4,), activation="tanh")
    judging = discriminator(
        **size,
        filters=(4,),
        label_input=label_input,
        dropout=dropout,
        spectral_normalization=spectral_normalization,
        activation="tanh",
    )
    options = {"augmentation": (), "seed": 5} | options
    return GAN(randomised(drawing, 1), randomised(judging, 2), **options)


def real(model: keras.Model, count: int = 6, seed: int = 3):
    """Random pictures, with labels for a conditional model."""
    random = np.random.default_rng(seed)
    pictures = keras.ops.array(random.random((count, *model.discriminator.inputs[0].shape[1:])), "float32")
    labels = keras.ops.array(np.arange(count) % 3, "int32")
    return [pictures, labels] if len(model.discriminator.inputs) > 1 else pictures


def gradients(function, variables) -> list[np.ndarray]:
    """Of a scalar by variables, by the backend itself; zeros where there is none."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            result = function()
        found = tape.gradient(result, [variable.value for variable in variables])
    elif keras.backend.backend() == "torch":
        import torch

        found = torch.autograd.grad(function(), [variable.value for variable in variables], allow_unused=True)
    else:
        import jax

        def of_values(arrays):
            with keras.StatelessScope(state_mapping=list(zip(variables, arrays, strict=True))):
                return function()

        found = jax.grad(of_values)([variable.value for variable in variables])
    return [
        np.zeros(variable.shape, np.float32) if gradient is None else values(gradient)
        for gradient, variable in zip(found, variables, strict=True)
    ]


# The definitions


def losses(kind: str, of_real, of_fakes, smoothing: float = 0.0, ops=np):
    """Of discriminator and generator, as their papers have them; `ops` is numpy or keras.ops."""

    def chance(score):
        return 1 / (1 + ops.exp(-score))

    aim = 1 - smoothing
    if kind == "hinge":
        real = ops.mean(ops.maximum(0.0, 1 - of_real))
        return real + ops.mean(ops.maximum(0.0, 1 + of_fakes)), -ops.mean(of_fakes)
    if kind == "non_saturating":
        real = aim * ops.log(chance(of_real)) + smoothing * ops.log(1 - chance(of_real))
        return -ops.mean(real) - ops.mean(ops.log(1 - chance(of_fakes))), -ops.mean(ops.log(chance(of_fakes)))
    if kind == "least_squares":
        real, fake = ops.mean((of_real - aim) ** 2), ops.mean(of_fakes**2)
        return 0.5 * real + 0.5 * fake, 0.5 * ops.mean((of_fakes - 1) ** 2)
    return ops.mean(of_fakes) - ops.mean(of_real), -ops.mean(of_fakes)


def as_matrix(kernel) -> np.ndarray:
    kernel = values(kernel).astype(np.float64)
    return kernel.reshape(-1, kernel.shape[-1])


def convolution(x, kernel, stride: int = 1):
    """Of so many outputs as strides begun, the padding divided evenly, the odd one after."""
    size, margins = kernel.shape[0], []
    for length in x.shape[1:3]:
        total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
        margins.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *margins, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel, optimize=True)


def transposed_convolution(x, kernel):
    """Stride 2, kernel 4: each pixel adds its multiple of the kernel, two places after the pixel before."""
    count, height, width, _ = x.shape
    whole = np.zeros((count, 2 * height + 2, 2 * width + 2, kernel.shape[2]))
    for row, column, down, right in itertools.product(range(height), range(width), range(4), range(4)):
        whole[:, 2 * row + down, 2 * column + right] += x[:, row, column] @ kernel[down, right].T
    return whole[:, 1:-1, 1:-1]


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
}


def reference_pictures(model, noise, labels, **options) -> np.ndarray:
    """What a generator of these options draws."""
    weights = {layer.name: [w.astype(np.float64) for w in layer.get_weights()] for layer in model.layers}
    filters, normalization = options["filters"], options.get("normalization", "batch")
    height, width = options["height"], options["width"]
    activation = ACTIVATIONS[options.get("activation", "relu")]

    def normalised(x, stage):
        if normalization is not None:
            gamma, beta, *moving = weights[f"up_{stage}_normalization"]
            mean, variance = moving or (x.mean(-1, keepdims=True), x.var(-1, keepdims=True))
            x = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta  # Keras's epsilon
        return activation(x)

    x = noise if labels is None else np.concatenate([noise, weights["label_embedding"][0][labels]], axis=1)
    kernel, *bias = weights["seed"]
    scale = 2 ** len(filters)
    small = -(-height // scale), -(-width // scale)
    x = normalised((x @ kernel + sum(bias)).reshape(-1, *small, filters[0]), 0)
    for stage in range(1, len(filters) + 1):
        kernel, *bias = weights[f"up_{stage}_convolution"]
        if options.get("upsampling") == "transposed":
            x = transposed_convolution(x, kernel)
        else:
            x = convolution(x.repeat(2, axis=1).repeat(2, axis=2), kernel)
        x = normalised(x + sum(bias), stage)
    kernel, bias = weights["picture_convolution"]
    x = convolution(x, kernel) + bias
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    x = x[:, top : top + height, left : left + width]
    return ACTIVATIONS[options.get("output_activation", "sigmoid")](x)


def kernel_and_bias(layer):
    """Of a layer; the kernel divided by its largest singular value if it is normalised."""
    if not isinstance(layer, SpectralNormalization):
        return layer.kernel, 0.0 if layer.bias is None else values(layer.bias)
    kernel = values(layer.layer.kernel) / np.linalg.norm(as_matrix(layer.layer.kernel), 2)
    return kernel, 0.0 if layer.bias is None else values(layer.bias)


def reference_scores(model, x, labels, **options) -> np.ndarray:
    """What a discriminator of these options says."""
    activation = ACTIVATIONS[options.get("activation", "leaky_relu")]
    label_input = options.get("label_input", "projection")
    if labels is not None and label_input == "plane":
        planes = np.zeros((*x.shape[:3], options["classes"]))
        for picture, label in zip(planes, labels, strict=True):
            picture[..., label] = 1
        x = np.concatenate([x, planes], axis=3)
    for stage in range(1, len(options["filters"]) + 1):
        for number, size in ((1, 3), (2, 4)):
            kernel, bias = kernel_and_bias(model.get_layer(f"down_{stage}_convolution_{number}"))
            assert kernel.shape[:2] == (size, size)
            x = activation(convolution(x, values(kernel), number) + bias)
    features = x.mean(axis=(1, 2)) * (32 if options.get("spectral_normalization", True) else 1)
    kernel, bias = kernel_and_bias(model.get_layer("score_of_picture"))
    scores = features @ values(kernel) + bias
    if labels is not None and label_input == "projection":
        kernel, bias = kernel_and_bias(model.get_layer("label_embedding"))
        scores[:, 0] += [one @ values(kernel)[label] for one, label in zip(features, labels, strict=True)]
    return scores


# One step of training


@pytest.mark.parametrize(("kind", "smoothing", "classes", "label_input"), STEPS, ids=[step[0] for step in STEPS])
def test_a_step_is_two_steps_of_an_own_gradient_each(kind, smoothing, classes, label_input):
    model = build(classes, label_input=label_input, loss=kind, label_smoothing=smoothing)
    x = real(model)
    labels = x[1:] if classes else []
    noise = keras.random.normal((6, 3), seed=keras.random.SeedGenerator(5))
    weights, of_generator, of_discriminator = (
        model.get_weights(),
        model.generator.trainable_variables,
        model.discriminator.trainable_variables,
    )
    assert len(model.trainable_variables) == len(of_generator) + len(of_discriminator)

    def scores():
        fakes = model.generator([noise, *labels] if labels else noise, training=True)
        return [model.discriminator(pictures, training=True) for pictures in (x, [fakes, *labels] if labels else fakes)]

    ops = keras.ops
    both = [
        gradients(lambda: losses(kind, *scores(), smoothing, ops)[0], of_discriminator),
        gradients(lambda: losses(kind, *scores(), smoothing, ops)[1], of_generator),
    ]
    expected = losses(kind, *(values(score).astype(np.float64) for score in scores()), smoothing)
    model.set_weights(weights)

    before = [values(variable).copy() for variable in of_discriminator + of_generator]
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=EAGERLY)
    found = model.train_on_batch(x, return_dict=True)
    for variable, old, gradient in zip(of_discriminator + of_generator, before, both[0] + both[1], strict=True):
        np.testing.assert_allclose(values(variable), old - 0.5 * gradient, rtol=0, atol=1e-5, err_msg=variable.path)
        # The scores' own constant cancels out where both halves of the loss are straight.
        assert np.abs(gradient).max() > 1e-3 or variable.path == "score_of_picture/bias", variable.path
    assert found == pytest.approx(
        {"discriminator_loss": expected[0], "generator_loss": expected[1], "loss": sum(expected)}, rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
def test_no_network_learns_from_the_loss_of_the_other(kind, monkeypatch):
    model = build(loss=kind, dropout=0.3, augmentation=("translation", "cutout", "color"))
    x = real(model)
    networks = model.discriminator, model.generator
    whole = model._both_losses
    for own in (0, 1):
        # The other loss counts nothing.
        monkeypatch.setattr(model, "_both_losses", lambda *scores, own=own: (whole(*scores)[own], 0.0))
        for number, network in enumerate(networks):
            found = gradients(
                lambda: model.compute_loss(x=x, y_pred=model(x, training=True), training=True),
                network.trainable_variables,
            )
            for gradient, variable in zip(found, network.trainable_variables, strict=True):
                if number != own:
                    np.testing.assert_array_equal(gradient, 0, err_msg=variable.path)
                elif variable.path != "score_of_picture/bias":  # which may cancel out
                    assert np.any(gradient != 0), variable.path


@pytest.mark.parametrize(
    ("kind", "smoothing"),
    [("hinge", 0), ("non_saturating", 0), ("non_saturating", 0.3), ("least_squares", 0.3), ("wasserstein", 0)],
)
def test_losses_follow_their_formulas(kind, smoothing):
    # Pictures are the noise itself, and scores far on either side of every bend.
    noise = keras.Input((2,))
    drawing = keras.Model(noise, keras.layers.Reshape((1, 1, 2))(noise))
    picture = keras.Input((1, 1, 2))
    score = keras.layers.Dense(1)
    judging = keras.Model(picture, score(keras.layers.Flatten()(picture)))
    score.set_weights([np.array([[3.0], [-2.0]]), np.array([-0.5])])
    model = GAN(drawing, judging, loss=kind, label_smoothing=smoothing, augmentation=(), seed=4)
    of_real = np.linspace(-4, 4, 40, dtype=np.float32)[:, None]
    whole = model.compute_loss(x=np.zeros((40, 1, 1, 2), np.float32), y_pred=keras.ops.array(of_real))
    drawn = values(keras.random.normal((40, 2), seed=keras.random.SeedGenerator(4))).astype(np.float64)
    of_fakes = drawn @ [[3.0], [-2.0]] - 0.5
    assert of_fakes.min() < -1 < 1 < of_fakes.max()
    expected = losses(kind, of_real.astype(np.float64), of_fakes, smoothing)
    assert float(model.discriminator_loss.result()) == pytest.approx(expected[0], rel=1e-5)
    assert float(model.generator_loss.result()) == pytest.approx(expected[1], rel=1e-5)
    assert float(whole) == pytest.approx(sum(expected), rel=1e-5)


def test_each_network_has_its_own_optimizer():
    together, apart, start = (build(loss="least_squares") for _ in range(3))
    together.compile(keras.optimizers.SGD(1.0), run_eagerly=EAGERLY)
    rates = {"generator": keras.optimizers.SGD(0.5), "discriminator": keras.optimizers.SGD(0.125)}
    apart.compile(separate_optimizers(apart, **rates), run_eagerly=EAGERLY)
    for model in (together, apart):
        model.train_on_batch(real(model))
    for network, rate in (("generator", 0.5), ("discriminator", 0.125)):
        ways = [getattr(model, network).trainable_variables for model in (start, together, apart)]
        for old, whole, part in zip(*ways, strict=True):
            step = values(whole) - values(old)
            np.testing.assert_allclose(values(part) - values(old), rate * step, rtol=0, atol=1e-6, err_msg=old.path)
            assert np.abs(step).max() > 1e-3, old.path


@pytest.mark.parametrize("apart", [True, False])
def test_a_saved_model_goes_on_training_as_the_one_that_was_not_saved(apart, tmp_path):
    model = build(augmentation=("translation", "cutout", "color"), loss="non_saturating", label_smoothing=0.1)
    optimizer = keras.optimizers.Adam(0.01, beta_1=0.5)
    if apart:
        slower = keras.optimizers.Adam(0.002, beta_1=0.5)
        optimizer = separate_optimizers(model, generator=slower, discriminator=optimizer)
    model.compile(optimizer, run_eagerly=EAGERLY)
    x = real(model)
    for _ in range(2):
        model.train_on_batch(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.run_eagerly = EAGERLY
    # Keras saves no state of random numbers.
    again.seed_generator.state.assign(values(model.seed_generator.state).copy())
    for name in ("loss", "label_smoothing", "augmentation", "average_decay", "seed"):
        assert again.get_config()[name] == model.get_config()[name]
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    for old, new in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(values(old), values(new))
    before = model.get_weights()
    for one in (model, again):
        one.train_on_batch(x)
    for start, old, new, weight in zip(before, model.get_weights(), again.get_weights(), model.weights, strict=True):
        np.testing.assert_allclose(old, new, rtol=0, atol=1e-6, err_msg=weight.path)
        assert np.any(start != old) or weight.path == "score_of_picture/u", weight.path  # a sign alone


# Networks


@pytest.mark.parametrize("case", GENERATORS)
def test_generators_follow_the_definition_and_sizes_the_formula(case):
    options = {"channels": 1, "classes": None} | GENERATORS[case]
    height, width, channels, classes, filters = (
        options[name] for name in ("height", "width", "channels", "classes", "filters")
    )
    model = randomised(generator(**options, latent=3, name="drawing"))
    random = np.random.default_rng(1)
    noise = random.normal(size=(4, 3)).astype(np.float32)
    labels = None if classes is None else np.array([0, 3, 1, 3], np.int32)
    found = values(model(noise if labels is None else [noise, labels]))
    assert found.shape == (4, height, width, channels)
    assert model.name == "drawing"
    expected = reference_pictures(model, noise, labels, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if labels is not None:
        assert not np.allclose(values(model([noise, (labels + 1) % 4])), found, atol=0.01)

    of_each = {"batch": 4, "layer": 2, None: 1}[options.get("normalization", "batch")]
    area = 16 if options.get("upsampling") == "transposed" else 9
    small = math.ceil(height / 2 ** len(filters)) * math.ceil(width / 2 ** len(filters))
    size = 3 * small * filters[0] if classes is None else 3 * (classes + 2 * small * filters[0])
    size += of_each * filters[0] if of_each > 1 else small * filters[0]  # normalisation or bias
    for before, after in zip((filters[0], *filters), filters, strict=False):
        size += area * before * after + of_each * after
    assert model.count_params() == size + (9 * filters[-1] + 1) * channels


@pytest.mark.parametrize("case", DISCRIMINATORS)
def test_discriminators_follow_the_definition_and_sizes_the_formula(case):
    options = {"channels": 1, "classes": None} | DISCRIMINATORS[case]
    classes, filters = options["classes"], options["filters"]
    model = randomised(discriminator(**options, name="judging"))
    x = np.random.default_rng(1).random((4, options["height"], options["width"], options["channels"]))
    x = x.astype(np.float32)
    labels = None if classes is None else np.array([0, 1, 1, classes - 1], np.int32)
    found = values(model(x if labels is None else [x, labels]))
    assert model.name == "judging"
    np.testing.assert_allclose(found, reference_scores(model, x, labels, **options), rtol=1e-4, atol=1e-5)
    if labels is not None:
        assert np.all(found != values(model([x, (labels + 1) % classes])))

    vector = options.get("spectral_normalization", True)
    plane, projection = (options.get("label_input", "projection") == kind for kind in ("plane", "projection"))
    before, size = options["channels"] + (classes if classes and plane else 0), 0
    for after in filters:
        size += (9 * before + 16 * after + 2 + 2 * vector) * after
        before = after
    size += before + 1 + vector
    if classes and projection:
        size += (classes + vector) * before
    assert model.count_params() == size


def test_a_label_plane_is_the_same_all_over_the_picture():
    model = discriminator(height=5, width=6, channels=2, classes=3, filters=(2,), label_input="plane")
    x = np.random.default_rng(1).random((4, 5, 6, 2)).astype(np.float32)
    labels = [2, 0, 1, 2]
    found = values(keras.Model(model.inputs, model.get_layer("picture_and_label").output)([x, np.array(labels)]))
    assert found.shape == (4, 5, 6, 2 + 3)
    np.testing.assert_array_equal(found[..., :2], x)
    for picture, label in zip(found, labels, strict=True):
        for kind in range(3):
            assert np.all(picture[..., 2 + kind] == (kind == label))


def test_default_sizes_of_the_joined_models():
    size = 64 * 49 * 128 + 4 * 128 + 9 * 128 * 128 + 4 * 128 + 9 * 128 * 64 + 4 * 64 + 9 * 64 + 1
    judging = (9 * 1 + 16 * 64 + 4) * 64 + (9 * 64 + 16 * 128 + 4) * 128 + 128 + 2
    model = gan()
    assert model.count_params() == 2 * size + judging + 1  # the average is as large; the number of steps
    assert (model.name, model.latent, model.augmentation) == ("gan", 64, ("translation",))
    model = conditional_gan(name="other")
    size += 10 * 64 + 64 * 49 * 128
    assert model.count_params() == 2 * size + judging + (10 + 1) * 128 + 1
    assert model.name == "other"


def effective(layer, size: tuple[int, ...]) -> np.ndarray:
    """The matrix that a layer multiplies by, found by unit inputs; also takes what it adds."""
    inputs = math.prod(size)
    bias = values(layer(np.zeros((1, *size), np.float32))).reshape(1, -1)
    return values(layer(np.eye(inputs, dtype=np.float32).reshape(inputs, *size))).reshape(inputs, -1) - bias


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (lambda: keras.layers.Conv2D(4, 3, use_bias=False), (3, 3, 2)),
        (lambda: keras.layers.Dense(5, use_bias=False), (7,)),
    ],
    ids=["convolution", "dense"],
)
def test_spectral_normalisation_makes_the_largest_singular_value_1(layer, size, tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(size), SpectralNormalization(layer(), name="normalised")])
    wrapped = model.layers[-1]
    random = np.random.default_rng(0)
    kernel = random.normal(size=wrapped.layer.kernel.shape)
    bias = random.normal(size=wrapped.bias.shape)
    wrapped.layer.kernel.assign(kernel)
    wrapped.bias.assign(bias)
    kernel = as_matrix(wrapped.layer.kernel)

    def step(u):
        v = kernel @ u / np.linalg.norm(kernel @ u)
        return float(np.linalg.norm(v @ kernel)), v @ kernel / np.linalg.norm(v @ kernel)

    start = values(wrapped.u).copy()
    sigma, after = step(start)
    x = random.normal(size=(2, *size)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(effective(model, size), kernel / sigma, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(values(wrapped.u), start)  # nothing changes outside of training
    found = values(model(x, training=True)).reshape(2, -1)
    np.testing.assert_allclose(found, x.reshape(2, -1) @ kernel / sigma + bias, rtol=0, atol=1e-4)
    np.testing.assert_allclose(values(wrapped.u), after, rtol=0, atol=1e-5)
    np.testing.assert_allclose(values(model(0 * x)).reshape(2, -1), [bias, bias], rtol=0, atol=1e-6)  # not divided

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(values(again.layers[-1].u), values(wrapped.u))
    np.testing.assert_array_equal(values(again(x)), values(model(x)))

    for _ in range(60):
        again(x, training=True)
    assert np.linalg.norm(effective(again, size), 2) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(effective(again, size), kernel / np.linalg.norm(kernel, 2), rtol=0, atol=1e-5)


def test_gradient_through_spectral_normalisation_is_that_of_the_quotient():
    layer = SpectralNormalization(keras.layers.Dense(4, use_bias=False))
    layer.build((None, 5))
    random = np.random.default_rng(0)
    x, factor = random.normal(size=(3, 5)).astype(np.float32), random.normal(size=(3, 4)).astype(np.float32)
    layer.layer.kernel.assign(random.normal(size=(5, 4)))
    kernel = as_matrix(layer.layer.kernel)
    left, singular, right = np.linalg.svd(kernel)
    layer.u.assign(right[0])
    weighted = keras.ops.array(factor)
    found = gradients(lambda: keras.ops.sum(layer(x, training=True) * weighted), [layer.layer.kernel])[0]
    through = x.T @ factor
    # Miyato et al. 2018, equation 12
    expected = through - np.sum(through * kernel / singular[0]) * np.outer(left[:, 0], right[0])
    np.testing.assert_allclose(found, expected / singular[0], rtol=0, atol=1e-5)


# The average, and pictures


def test_the_average_follows_the_recursion_and_generates():
    model = build(average_decay=0.29)
    model.compile(keras.optimizers.SGD(0.3), run_eagerly=EAGERLY)
    x = real(model)
    kept = [weight.astype(np.float64) for weight in model.generator.get_weights()]
    for old, mean in zip(kept, model.average.get_weights(), strict=True):
        np.testing.assert_array_equal(mean, old)
    trained = [weight.trainable for weight in model.generator.weights]
    for step in range(6):
        before = model.generator.get_weights()
        model.train_on_batch(x)
        # A step averages the weights that it starts from, with its own batch's mean and variance.
        now = [
            old if learnt else new
            for old, new, learnt in zip(before, model.generator.get_weights(), trained, strict=True)
        ]
        decay = min(0.29, (1 + step) / (10 + step))
        kept = [decay * mean + (1 - decay) * new for mean, new in zip(kept, now, strict=True)]
    assert (5 - 1) / (10 + 5 - 2) > 0.29 > 2 / 11  # both sides of the least are met
    for found, mean, weight in zip(model.average.get_weights(), kept, model.average.weights, strict=True):
        np.testing.assert_allclose(found, mean, rtol=0, atol=1e-5, err_msg=weight.path)
    weights = model.get_weights()
    model.evaluate(x, verbose=0)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)

    noise = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    labels = np.arange(300) % 3
    ways = []
    for averaged, network in ((True, model.average), (False, model.generator)):
        found = generate(model, 300, labels=labels, noise=noise, averaged=averaged)
        expected = reference_pictures(network, noise, labels, height=4, width=4, filters=(4,), activation="tanh")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert found.dtype == np.float32
        ways.append(found)
    assert np.abs(ways[0] - ways[1]).max() > 1e-3


def test_the_same_seed_draws_the_same_pictures():
    model = build(None)
    first = generate(model, 5, seed=1)
    assert first.shape == (5, 4, 4, 2)
    np.testing.assert_array_equal(generate(model, 5, seed=1), first)
    assert np.all(np.abs(generate(model, 5, seed=2) - first).max(axis=(1, 2, 3)) > 1e-3)
    assert np.abs(generate(model, 5) - generate(model, 5)).max() > 1e-3
    assert generate(model, 0).shape == (0, 4, 4, 2)


def test_noise_is_standard_normal():
    noise = keras.Input((2,))
    drawing = keras.Model(noise, keras.layers.Reshape((1, 1, 2))(noise))
    model = GAN(drawing, discriminator(height=1, width=1, channels=2, filters=(1,)))
    found = generate(model, 4_000, seed=1).reshape(-1, 2)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(found.T), np.eye(2), atol=0.1)


# Augmentation


def draws(pictures, *kinds, seed: int = 1) -> np.ndarray:
    return values(augmented(keras.ops.array(pictures), kinds, keras.random.SeedGenerator(seed)))


def moved(picture, down: int, right: int) -> np.ndarray:
    """Zeros come in."""
    height, width, _ = picture.shape
    whole = np.pad(picture, ((height, height), (width, width), (0, 0)))
    return whole[height - down : 2 * height - down, width - right : 2 * width - right]


def test_translation_shifts_by_whole_pixels_up_to_an_eighth():
    picture = np.random.default_rng(0).uniform(0.1, 1, (16, 8, 2)).astype(np.float32)
    ways = list(itertools.product(range(-2, 3), range(-1, 2)))
    possible = np.stack([moved(picture, *way) for way in ways])
    found = draws(np.repeat(picture[None], 900, axis=0), "translation")
    which = np.abs(found[:, None] - possible[None]).max(axis=(2, 3, 4)) < 1e-6
    assert np.all(which.sum(axis=1) == 1)
    counts = which.sum(axis=0)
    assert counts.min() > 60 * 0.6 and counts.max() < 60 * 1.5  # 900 / 15 each, and four standard deviations


def test_cutout_is_a_rectangle_of_half_the_size_about_any_pixel():
    picture = np.random.default_rng(0).uniform(0.1, 1, (8, 6, 3)).astype(np.float32)
    possible = []
    for row, column in itertools.product(range(8), range(6)):
        whole = picture.copy()
        whole[max(row - 2, 0) : row + 2, max(column - 1, 0) : column + 2] = 0
        possible.append(whole)
    found = draws(np.repeat(picture[None], 2_400, axis=0), "cutout")
    which = (found[:, None] == np.stack(possible)[None]).all(axis=(2, 3, 4))
    assert np.all(which.sum(axis=1) == 1)
    counts = which.sum(axis=0)
    assert counts.min() > 50 * 0.4 and counts.max() < 50 * 1.7  # 2400 / 48 each


@pytest.mark.parametrize("channels", [1, 3])
def test_color_moves_the_mean_and_stretches_about_it(channels):
    x = np.random.default_rng(0).random((500, 4, 5, channels)).astype(np.float32)
    found = draws(x, "color").astype(np.float64)
    amounts = []
    for picture, output in zip(x.astype(np.float64), found, strict=True):
        grey = picture.mean(axis=2, keepdims=True)
        parts = [np.ones_like(picture), grey - picture.mean() + 0 * picture, picture - grey][: 2 + (channels == 3)]
        parts = np.stack([part.ravel() for part in parts], axis=1)
        amount, *_ = np.linalg.lstsq(parts, output.ravel(), rcond=None)
        np.testing.assert_allclose(parts @ amount, output.ravel(), rtol=0, atol=1e-5)
        amounts.append([amount[0] - picture.mean(), amount[1], *(amount[2:] / amount[1])])
    amounts = np.array(amounts)
    bounds = np.array([(-0.5, 0.5), (0.5, 1.5), (0.0, 2.0)])[: amounts.shape[1]]  # brightness, contrast, saturation
    assert np.all((amounts > bounds[:, 0] - 1e-4) & (amounts < bounds[:, 1] + 1e-4))
    middle, width = bounds.mean(axis=1), bounds[:, 1] - bounds[:, 0]
    np.testing.assert_allclose(amounts.mean(axis=0), middle, atol=0.06 * 2)
    np.testing.assert_allclose(amounts.std(axis=0) / width, 1 / np.sqrt(12), atol=0.03)
    assert np.all(np.abs(np.corrcoef(amounts.T) - np.eye(len(bounds))) < 0.2)  # drawn each on its own


def test_gradients_pass_through_augmentation():
    # Each draw is linear but for a constant: the gradient of a weighted sum is the transpose of that map.
    random = np.random.default_rng(0)
    x, factor = (random.normal(size=(20, 8, 9, 3)).astype(np.float32) for _ in range(2))
    pictures, seed = keras.Variable(x), keras.random.SeedGenerator(1)
    kinds = ("translation", "cutout", "color")
    weighted = keras.ops.array(factor)
    found = gradients(lambda: keras.ops.sum(augmented(pictures.value, kinds, seed) * weighted), [pictures])[0]
    linear = draws(x, *kinds) - draws(0 * x, *kinds)
    sums = np.sum(found * x, axis=(1, 2, 3))
    np.testing.assert_allclose(sums, np.sum(linear * factor, axis=(1, 2, 3)), rtol=1e-3, atol=1e-3)
    assert np.all(np.abs(sums) > 1e-3)


def test_pictures_are_augmented_in_training_alone_and_for_both_losses_alike():
    kinds = ("translation", "cutout", "color")
    model = build(spectral_normalization=False, loss="wasserstein", augmentation=kinds)
    x, labels = (values(array) for array in real(model))
    for inputs in ([x, labels], (x, labels)):
        np.testing.assert_array_equal(values(model(inputs)), values(model.discriminator([x, labels])))
    expected = values(model.discriminator([draws(x, *kinds, seed=5), labels]))
    x, labels = real(model)
    np.testing.assert_allclose(values(model([x, labels], training=True)), expected, rtol=0, atol=1e-6)
    assert np.abs(expected - values(model([x, labels]))).max() > 1e-3
    # With scores of 0 for real pictures both losses are the mean score of the fakes, with either sign.
    model.compute_loss(x=[x, labels], y_pred=keras.ops.zeros((6, 1)), training=True)
    found = float(model.discriminator_loss.result())
    assert found == pytest.approx(-float(model.generator_loss.result()), abs=1e-6)
    fakes = model.generator([keras.random.normal((6, 3), seed=model.seed_generator), labels], training=True)
    assert abs(found - float(keras.ops.mean(model.discriminator([fakes, labels])))) > 1e-3


# What can't be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "logistic"}, "loss 'logistic' must be one of hinge, non_saturating, least_squares, wasserstein"),
        ({"augmentation": ("flip",)}, "augmentation 'flip' must be one of translation, cutout, color"),
        ({"average_decay": 1.0}, "average_decay 1.0 and label_smoothing 0.0 must be in 0..1, below 1"),
        ({"average_decay": -0.1}, "average_decay -0.1 and"),
        ({"label_smoothing": 1.0, "loss": "least_squares"}, "label_smoothing 1.0 must be in 0..1, below 1"),
        ({"label_smoothing": -0.1, "loss": "least_squares"}, "label_smoothing -0.1 must be in 0..1, below 1"),
        ({"label_smoothing": 0.1}, "label_smoothing 0.1: the loss 'hinge' has no labels to smooth"),
        ({"label_smoothing": 0.1, "loss": "wasserstein"}, "the loss 'wasserstein' has no labels to smooth"),
    ],
)
def test_impossible_gans_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(None, **options)


def test_networks_that_do_not_fit_are_refused():
    drawing = generator(height=4, width=4, latent=2, filters=(1,))
    with pytest.raises(ValueError, match="only one of generator and discriminator takes labels"):
        GAN(drawing, discriminator(height=4, width=4, classes=2, filters=(1,)))
    with pytest.raises(ValueError, match=r"images have shape \(4, 4, 1\), the discriminator expects \(4, 5, 1\)"):
        GAN(drawing, discriminator(height=4, width=5, filters=(1,)))
    of_classes = generator(height=4, width=4, classes=3, latent=2, filters=(1,))
    with pytest.raises(ValueError, match="the generator has 3 classes, the discriminator 2"):
        GAN(of_classes, discriminator(height=4, width=4, classes=2, filters=(1,)))


@pytest.mark.parametrize("build_network", [generator, discriminator])
@pytest.mark.parametrize(
    "options", [{"height": 0}, {"width": 0}, {"channels": 0}, {"classes": 0}, {"filters": ()}, {"filters": (2, 0)}]
)
def test_impossible_sizes_are_refused(build_network, options):
    with pytest.raises(ValueError, match="must be at least 1"):
        build_network(**options)


@pytest.mark.parametrize(
    ("build_network", "options", "message"),
    [
        (generator, {"latent": 0}, "latent 0 must be at least 1"),
        (generator, {"upsampling": "shuffle"}, "upsampling 'shuffle' must be one of resize, transposed"),
        (generator, {"normalization": "group"}, "normalization 'group' must be one of batch, layer"),
        (discriminator, {"label_input": "both"}, "label_input 'both' must be one of projection, plane"),
    ],
)
def test_unknown_kinds_are_refused(build_network, options, message):
    with pytest.raises(ValueError, match=message):
        build_network(**options)


def test_impossible_pictures_are_refused():
    conditional, plain = build(3), build(None)
    for labels in (None, [0, 1], [0, 1, 3], [0, -1, 2], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="labels must be 3 numbers from 0 to 2"):
            generate(conditional, 3, labels=labels)
    with pytest.raises(ValueError, match="labels are given, but the model is not conditional"):
        generate(plain, 3, labels=[0, 1, 2])
    with pytest.raises(ValueError, match=r"noise has the shape \(3, 2\), expected \(3, 3\)"):
        generate(plain, 3, noise=np.zeros((3, 2)))


# Learning


@pytest.mark.slow
def test_it_learns_what_each_class_looks_like():
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 136).astype(np.int32)  # the last batch is a smaller one
    light = np.where(labels == 0, 0.25, 0.75)[:, None, None, None] + random.normal(0, 0.03, (136, 1, 1, 1))
    x = np.broadcast_to(light, (136, 4, 4, 1)).astype(np.float32)
    model = conditional_gan(
        height=4, width=4, classes=2, latent=4, generator_filters=(16,), discriminator_filters=(16,), seed=3
    )
    model.compile(keras.optimizers.Adam(5e-3, beta_1=0.0), jit_compile=not EAGERLY)
    history = model.fit([x, labels], batch_size=32, epochs=20, verbose=0).history
    assert set(history) == {"loss", "discriminator_loss", "generator_loss"}
    assert int(model.steps) == 20 * 5
    found = generate(model, 200, labels=np.arange(200) % 2, seed=1).reshape(100, 2, 16)
    np.testing.assert_allclose(found.mean(axis=(0, 2)), [0.25, 0.75], atol=0.1)
    assert found.std(axis=2).mean() < 0.1  # constant pictures

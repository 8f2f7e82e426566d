"""Training speed of the GAN template compared with TensorFlow's usual loop with two tapes, in images per second.

    python benchmarks/gan.py
    python benchmarks/gan.py --quick

All contenders run on the CPU. A contender whose package is missing is reported and skipped. Measure on an idle machine.

All contenders train the template's conditional generator and discriminator on the same 28 × 28 images in float32, in
batches of 32, with the hinge loss, without augmentation, with one Adam optimizer per network. The template runs
`model.fit`, compiled as in the application (without XLA on TensorFlow, with it on JAX). The loops follow TensorFlow's
GAN tutorial: a compiled step with one gradient tape per network, called for each batch. The template and the second
loop also maintain the running average of the generator's weights; the first loop does not. Each contender runs in a
fresh process; the contenders take turns over several rounds. A round's figure is the median epoch after the first; the
result is the median of the rounds. The template's ratio is to the faster loop.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from rounds import compete

BATCH, STEPS, SIZE, CLASSES, FILTERS, RATES = 32, 16, 28, 10, (64, 64), (2e-4, 8e-4)
RIVALS = ("two tapes", "two tapes and average")
CONTENDERS = ("template on TensorFlow", "template on JAX", *RIVALS)


def template_epoch(backend: str, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], int]:
    """Return a function that trains the template for one epoch, and its number of trained parameters."""
    os.environ |= {"KERAS_BACKEND": backend}
    import keras

    from templates.gan import conditional_gan, separate_optimizers

    model: Any = conditional_gan(**networks(), augmentation=(), seed=0)
    of_generator, of_discriminator = (keras.optimizers.Adam(rate, beta_1=0.0) for rate in RATES)
    model.compile(
        separate_optimizers(model, generator=of_generator, discriminator=of_discriminator),
        steps_per_execution=STEPS,
        jit_compile=False if backend == "tensorflow" else "auto",
    )
    return lambda: model.fit([x, y], batch_size=BATCH, verbose=0), parameters(model)


def tapes_epoch(average: bool, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], int]:
    """Return a function that trains the same networks for one epoch in a loop, and their number of parameters."""
    os.environ |= {"KERAS_BACKEND": "tensorflow"}
    import keras
    import tensorflow as tf

    from templates.gan import conditional_gan

    model: Any = conditional_gan(**networks(), seed=0)
    generator, discriminator, mean = model.generator, model.discriminator, model.average
    of_generator, of_discriminator = (keras.optimizers.Adam(rate, beta_1=0.0) for rate in RATES)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH, drop_remainder=True).prefetch(2)

    @tf.function
    def step(pictures: Any, labels: Any) -> None:
        noise = tf.random.normal((BATCH, model.latent))
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fakes = generator([noise, labels], training=True)
            of_real = discriminator([pictures, labels], training=True)
            of_fakes = discriminator([fakes, labels], training=True)
            generator_loss = -tf.reduce_mean(of_fakes)
            loss = tf.reduce_mean(tf.nn.relu(1 - of_real)) + tf.reduce_mean(tf.nn.relu(1 + of_fakes))
        weights = generator.trainable_variables
        of_generator.apply(generator_tape.gradient(generator_loss, weights), weights)
        weights = discriminator.trainable_variables
        of_discriminator.apply(discriminator_tape.gradient(loss, weights), weights)
        if average:
            for kept, weight in zip(mean.weights, generator.weights, strict=True):
                kept.assign(0.999 * kept + 0.001 * weight)

    def epoch() -> None:
        for batch in data:
            step(*batch)

    return epoch, parameters(model)


def networks() -> dict[str, Any]:
    """Return the sizes of both networks."""
    sizes = {"height": SIZE, "width": SIZE, "channels": 1, "classes": CLASSES}
    return sizes | {"generator_filters": FILTERS, "discriminator_filters": FILTERS}


def parameters(model: Any) -> int:
    """Return the number of trained parameters."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def contend(contender: str, quick: bool) -> tuple[int, float]:
    """Return a contender's number of parameters and its images per second."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    random = np.random.default_rng(0)
    x = random.random((BATCH * STEPS, SIZE, SIZE, 1)).astype(np.float32)
    y = random.integers(0, CLASSES, BATCH * STEPS).astype(np.int32)
    if contender in RIVALS:
        epoch, count = tapes_epoch(contender.endswith("average"), x, y)
    else:
        epoch, count = template_epoch(contender.removeprefix("template on ").lower(), x, y)
    times = []
    for _ in range(2 if quick else 6):
        since = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - since)
    return count, BATCH * STEPS / median(times[1:])


if __name__ == "__main__":
    compete(__file__, __doc__, CONTENDERS, contend, unit="images/s", rivals=RIVALS, rival="the faster loop")

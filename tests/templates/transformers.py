"""The transformer by its definition in NumPy, and small models to compare with it."""

import functools
import itertools
import math

import keras
import numpy as np

from templates.transformer import decoder, encoder, encoder_decoder

EAGERLY = keras.backend.backend() != "jax"  # the quickest for a single step
SIZES = {"vocabulary": 7, "context": 6, "width": 8, "depth": 2, "heads": 2}
BLOCKS = {"width": 8, "depth": 2, "heads": 2}
SIZES_OF = {
    decoder: SIZES,
    encoder: BLOCKS | {"features": 3, "outputs": 4, "context": 6},
    encoder_decoder: BLOCKS
    | {"source_vocabulary": 6, "target_vocabulary": 7, "source_context": 6, "target_context": 5},
}
ACTIVATIONS = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


def values(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def build(builder=decoder, *, seed: int = 0, **options) -> keras.Model:
    """A small model of random weights, biases included."""
    model = builder(**SIZES_OF[builder] | options)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    return model


@functools.cache
def constant(builder) -> keras.Model:
    """A small model that no test changes."""
    return build(builder, dropout=0.3)


def draw(rows: int, time: int, *, seed: int = 1, vocabulary: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocabulary, (rows, time)).astype(np.int32)


def named(model: keras.Model) -> dict[str, np.ndarray]:
    """Each weight in float64, by its layer's name and its own."""
    return {variable.path: np.asarray(values(variable), np.float64) for variable in model.weights}


def loss_function():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# The definition, for one sequence without padding


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def normalise(x, gamma, beta):
    return gamma * (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) + beta


def attend(weights, name, x, memory, *, causal=False) -> tuple[np.ndarray, np.ndarray]:
    """What attention adds to x, (time, width), and how much each token looks at each of the memory, by head."""
    added = weights[f"{name}/attention_output/bias"].copy()
    looks = np.zeros((weights[f"{name}/query/bias"].shape[0], len(x), len(memory)))
    for head in range(len(looks)):
        query, key, value = (
            y @ weights[f"{name}/{kind}/kernel"][:, head] + weights[f"{name}/{kind}/bias"][head]
            for kind, y in (("query", x), ("key", memory), ("value", memory))
        )
        scores = query @ key.T / math.sqrt(query.shape[1])
        looks[head] = softmax(np.where(np.tri(len(x)), scores, -np.inf) if causal else scores)
        added = added + looks[head] @ value @ weights[f"{name}/attention_output/kernel"][head]
    return added, looks


def blocks(weights, x, *, prefix="", memory=None, causal=False, activation="gelu"):
    """All blocks on what is embedded, (time, width): the output, and the maps of both kinds of attention."""

    def norm(name, x):
        return normalise(x, weights[f"{name}/gamma"], weights[f"{name}/beta"])

    x = x + weights[f"{prefix}positions/table"][: len(x)]
    maps, cross_maps = [], []
    for block in (f"{prefix}block_{number}" for number in itertools.count(1)):
        if f"{block}_expand/kernel" not in weights:
            return norm(f"{prefix}normalization", x), maps, cross_maps
        y = norm(f"{block}_attention_normalization", x)
        added, looks = attend(weights, f"{block}_attention", y, y, causal=causal)
        x = x + added
        maps.append(looks)
        if memory is not None:
            y = norm(f"{block}_cross_attention_normalization", x)
            added, looks = attend(weights, f"{block}_cross_attention", y, memory)
            x = x + added
            cross_maps.append(looks)
        y = norm(f"{block}_feed_forward_normalization", x)
        y = ACTIVATIONS[activation](y @ weights[f"{block}_expand/kernel"] + weights[f"{block}_expand/bias"])
        x = x + y @ weights[f"{block}_contract/kernel"] + weights[f"{block}_contract/bias"]


def reference(weights, tokens, *, activation="gelu", **_) -> tuple[np.ndarray, list[np.ndarray]]:
    """Of a decoder: logits (time, vocabulary), and of each block how much each token looks at each, by head."""
    embedding = weights["embedding/embeddings"]
    x, maps, _ = blocks(weights, embedding[tokens], causal=True, activation=activation)
    return x @ embedding.T, maps


def reference_encoder(weights, sequence, *, head="tagging", activation="gelu", output_activation="softmax", **_):
    """Of an encoder: the output (time, outputs) or (outputs,)."""
    if sequence.ndim == 1:
        x = weights["embedding/embeddings"][sequence]
    else:
        x = sequence @ weights["projection/kernel"] + weights["projection/bias"]
    x, _, _ = blocks(weights, x, activation=activation)
    x = x.mean(axis=0) if head == "classification" else x
    logits = x @ weights["output/kernel"] + weights["output/bias"]
    return softmax(logits) if output_activation else logits


def reference_of_both(weights, source, target, *, activation="gelu", mask_value=0, **_):
    """Of an encoder with a decoder: logits (time, vocabulary), and the maps of the cross-attention."""
    source = source if len(source) else [mask_value]
    x = weights["source_embedding/embeddings"][source]
    memory, _, _ = blocks(weights, x, prefix="source_", activation=activation)
    embedding = weights["embedding/embeddings"]
    x, _, maps = blocks(weights, embedding[target], memory=memory, causal=True, activation=activation)
    return x @ embedding.T, maps


def reference_loss(logits, labels) -> float:
    """Cross-entropy, the mean over the real tokens of all sequences; there may be labels of padding as well."""
    chances = [
        softmax(rows)[np.arange(len(rows)), label[: len(rows)]] for rows, label in zip(logits, labels, strict=True)
    ]
    return float(-np.log(np.concatenate(chances)).mean())


def slope(function, array: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> float:
    """Central finite difference of a function along a direction of an array that it reads."""
    kept = array.copy()
    array[...] = kept + step * direction
    above = function()
    array[...] = kept - step * direction
    below = function()
    array[...] = kept
    return (above - below) / (2 * step)


def padded(sequences, time: int, mask_value=0) -> np.ndarray:
    """All in one array, filled up at the end."""
    first = np.asarray(sequences[0])
    filled = np.full((len(sequences), time, *first.shape[1:]), mask_value, first.dtype)
    for row, sequence in zip(filled, sequences, strict=True):
        row[: len(sequence)] = sequence
    return filled


def pairs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sources and targets of all lengths, also none, without padding, which is 0; a target begins with a 1."""
    random = np.random.default_rng(5)
    sources = [random.integers(1, 6, length).astype(np.int32) for length in (4, 1, 6, 0, 2, 3)]
    targets = [np.append(1, random.integers(1, 7, length - 1)).astype(np.int32) for length in (5, 3, 4, 2, 1, 5)]
    return sources, targets


def example(builder):
    """Inputs of a model, padded with 0, and a function of its weights: the logits of each of the sequences alone."""
    if builder is encoder_decoder:
        sources, targets = pairs()
        inputs = [padded(sources, 6), padded(targets, 5)]
        return inputs, lambda weights: [
            reference_of_both(weights, *pair)[0] for pair in zip(sources, targets, strict=True)
        ]
    random = np.random.default_rng(5)
    if builder is encoder:
        # What float16 takes for zeros is no padding.
        sequences = [random.normal(size=(6, 3)), np.full((4, 3), 1e-30), random.normal(size=(1, 3))]
        sequences = [sequence.astype(np.float32) for sequence in sequences]
        return padded(sequences, 6), lambda weights: [
            reference_encoder(weights, sequence, output_activation=None) for sequence in sequences
        ]
    sequences = [random.integers(1, 7, length).astype(np.int32) for length in (6, 3, 0, 1)]
    return padded(sequences, 6), lambda weights: [reference(weights, sequence)[0] for sequence in sequences]


def cut(inputs, places):
    """Some or other rows, or a part of them, of each input."""
    return keras.tree.map_structure(lambda array: array[places], inputs)

"""How realistic generated pictures are, from features (pictures, features) of a network trained on real ones.

Features are, for example, the activations of a classifier's last hidden layer. All measures compare two samples and
depend on their sizes and on the network: compare only values with the same sizes and network.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors

_NEIGHBOURS = 3  # of Kynkäänniemi et al. 2019
_DISTANCES = 2**24  # in memory at once


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """The Fréchet distance of two samples' normal distributions (Heusel et al. 2017, with other features).

    d² = |m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½), with means m and covariances C.

    Args:
        real: features (n, features).
        generated: features (m, features).

    Returns:
        d², as usual; 0 for equal samples. It is also above 0 for two samples of one distribution, the more so the
        smaller they are.

    Raises:
        ValueError: The features differ in number or aren't finite, or there are fewer than two pictures.
    """
    first, second = _checked(real, generated)
    difference = first.mean(0) - second.mean(0)
    one, other = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second))
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # The eigenvalues of C₁ C₂ are those of this symmetric matrix.
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    return max(0.0, float(difference @ difference + np.trace(one) + np.trace(other) - 2 * common))


def within(pictures: np.ndarray, sample: np.ndarray, neighbours: int | None = None) -> np.ndarray:
    """Whether pictures are within the estimated manifold of a sample (Kynkäänniemi et al. 2019).

    A picture is if it is nearer to any picture of the sample than that picture's k-th neighbour in the sample.
    Precision is the share of generated pictures within the real ones, recall that of real pictures within the generated
    ones.

    Args:
        pictures: features (n, features).
        sample: features (m, features).
        neighbours: k; by default 3, or fewer if the sample has fewer others.

    Returns:
        (n,) bool.

    Raises:
        ValueError: The features differ in number or aren't finite, or the sample has no k-th neighbours.
    """
    features, others = _checked(pictures, sample)
    if neighbours is None:
        neighbours = min(_NEIGHBOURS, len(others) - 1)
    if len(others) <= neighbours:
        raise ValueError(f"{len(others)} pictures have no {neighbours} neighbours each")
    radii = NearestNeighbors(n_neighbors=neighbours + 1).fit(others).kneighbors(others)[0][:, -1]  # the first: itself
    norms = (others**2).sum(1)
    is_within = np.zeros(len(features), bool)
    rows = max(1, _DISTANCES // len(others))
    for start in range(0, len(features), rows):
        part = features[start : start + rows]
        squares = (part**2).sum(1)[:, None] + norms - 2 * part @ others.T
        is_within[start : start + rows] = (squares <= radii**2).any(1)
    return is_within


def nearest(pictures: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each picture, the distance to the nearest picture of a sample, and that picture's index, (n,) each.

    Args:
        pictures: (n, ...) pixels or features.
        sample: (m, ...).
    """
    flat, others = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (pictures, sample))
    distances, numbers = NearestNeighbors(n_neighbors=1).fit(others).kneighbors(flat)
    return distances[:, 0], numbers[:, 0]


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arrays = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if any(array.ndim != 2 for array in arrays) or arrays[0].shape[1] != arrays[1].shape[1]:
        raise ValueError(f"features of shapes {arrays[0].shape} and {arrays[1].shape} can't be compared")
    if not all(np.isfinite(array).all() for array in arrays) or min(map(len, arrays)) < 2:
        raise ValueError("features must be finite, and of two pictures or more")
    return arrays

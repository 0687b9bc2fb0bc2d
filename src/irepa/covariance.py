"""How the numbers of tokens vary over images and positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irepa.progress import track
from irepa.stored import Indices
from irepa.tokens import TokenSource, in_batches

BATCH = 256  # images at a time


def mean_and_covariance(source: TokenSource, images: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (dim,) and covariance (dim, dim) of these images' tokens, over images and positions."""
    total, products, count = np.zeros(source.dim), np.zeros((source.dim, source.dim)), 0
    parts = in_batches(images, BATCH)
    for part in track(parts, "covariance", len(parts)):
        rows = source[part].double().flatten(0, 1).numpy()
        total, products, count = total + rows.sum(axis=0), products + rows.T @ rows, count + len(rows)
    mean = total / count
    return mean, products / count - np.outer(mean, mean)

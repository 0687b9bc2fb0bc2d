"""Linear-probe accuracy of one encoder, wrapped or not, on mean-pooled patch tokens of the held-out images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irepa.compute import setup
from irepa.files import Json
from irepa.grid import split_encoder
from irepa.probe import linear_probe
from irepa.runner import Context
from irepa.tokens import TokenCache, spread

BATCH = 256


def pooled(cache: TokenCache) -> NDArray[np.float64]:
    """Mean over positions of every image's tokens: (images, dim)."""
    starts = range(0, len(cache), BATCH)
    batches = [np.arange(start, min(start + BATCH, len(cache)), dtype=np.int64) for start in starts]
    return np.concatenate([cache[indices].mean(dim=1).double().numpy() for indices in batches])


def run(context: Context) -> Json:
    setup(context.resources.threads)
    base, transforms = split_encoder(context.key)
    record, data = context.input("features", base), context.input("data")
    train, test = (TokenCache.open(record, split, context.tier.grid, transforms) for split in ("train", "test"))
    test_labels = data.array("test.labels.npy")
    chosen = test_labels[spread(len(test_labels), context.tier.spatial.images)]
    settings = context.tier.probe
    accuracy, converged = linear_probe(
        pooled(train), data.array("train.labels.npy"), pooled(test), chosen, settings.c, settings.max_iter
    )
    return {"accuracy": accuracy, "converged": converged, "test_images": len(chosen)}

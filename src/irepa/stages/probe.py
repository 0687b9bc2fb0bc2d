"""Linear-probe accuracy of one encoder, wrapped or not, on mean-pooled patch tokens of the held-out images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irepa.compute import setup
from irepa.encode import token_source
from irepa.files import Json
from irepa.probe import linear_probe
from irepa.progress import track
from irepa.runner import Context
from irepa.tokens import TokenSource, spread

BATCH = 256


def pooled(source: TokenSource, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over positions of these images' tokens: (images, dim)."""
    batches = [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
    return np.concatenate(
        [source[batch].mean(dim=1).double().numpy() for batch in track(batches, "pool", len(batches))]
    )


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    data, settings = context.input("data"), context.tier.probe
    train, test = (token_source(context, context.key, split, device) for split in ("train", "test"))
    train_labels, test_labels = data.array("train.labels.npy"), data.array("test.labels.npy")
    fitted = spread(len(train_labels), settings.train_images or len(train_labels))
    held_out = spread(len(test_labels), context.tier.spatial.images)
    accuracy, converged = linear_probe(
        pooled(train, fitted),
        train_labels[fitted],
        pooled(test, np.arange(len(held_out), dtype=np.int64)),
        test_labels[held_out],
        settings.c,
        settings.max_iter,
    )
    return {
        "accuracy": accuracy,
        "converged": converged,
        "train_images": len(fitted),
        "test_images": len(held_out),
    }

"""Linear-probe accuracy of one encoder, with its transforms, on mean-pooled patch tokens of the held-out images."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from irepa.engine.device import setup
from irepa.engine.targets import token_source
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.tokens import TokenSource, spread

BATCH = 256


def pooled(source: TokenSource, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over positions of these images' tokens: (images, dim)."""
    batches = [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
    return np.concatenate(
        [source[batch].mean(dim=1).double().numpy() for batch in track(batches, "pool", len(batches))]
    )


def linear_probe(
    train: NDArray[np.float64],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float64],
    test_labels: NDArray[np.int64],
    c: float,
    max_iter: int,
) -> tuple[float, bool]:
    """Multinomial logistic regression on standardised features (images, dim), with labels (images,).

    Returns held-out accuracy in [0, 1] and whether the optimiser converged within ``max_iter`` steps. ``c`` is the inverse of
    the L2 penalty.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=max_iter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, train_labels)
    converged = bool(model[-1].n_iter_.max() < max_iter)
    return float(model.score(test, test_labels)), converged


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

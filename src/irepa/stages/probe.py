"""Linear-probe accuracy of one encoder, with its transforms, on the held-out images: of mean tokens, and by position.

The mean over positions is blind to their order: it cannot tell tokens that have changed places. A second probe, where the tier
asks for it, is given every position's token, cut to its first principal components so that it stays small.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from irepa.covariance import mean_and_covariance
from irepa.engine.device import setup
from irepa.engine.targets import token_source
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.tokens import TokenSource, in_batches, spread

BATCH = 256
COMPONENT_IMAGES = 2000  # images whose tokens give the principal components


def pooled(source: TokenSource, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over positions of these images' tokens: (images, dim).

    Sums are float64, in which those of float16 tokens are exact: the same whatever the order of the tokens.
    """
    return np.concatenate([tokens.double().mean(dim=1).numpy() for tokens in batches(source, indices, "pool")])


def batches(source: TokenSource, indices: NDArray[np.int64], what: str) -> Iterator[Tensor]:
    """Tokens (batch, T, dim) of these images; ``what`` is done with them, for the progress bar."""
    parts = in_batches(indices, BATCH)
    return (source[part] for part in track(parts, what, len(parts)))


def principal_axes(source: TokenSource, indices: NDArray[np.int64], channels: int) -> NDArray[np.float64]:
    """The directions along which tokens of these images vary most, over images and positions: (dim, channels), orthonormal.

    At most dim of them.
    """
    _, covariance = mean_and_covariance(source, indices)
    axes: NDArray[np.float64] = np.linalg.eigh(covariance).eigenvectors[:, ::-1]
    return axes[:, :channels]


def by_position(source: TokenSource, indices: NDArray[np.int64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every position's token of these images along axes (dim, channels): (images, T * channels)."""
    return np.concatenate(
        [(tokens.double().numpy() @ axes).reshape(len(tokens), -1) for tokens in batches(source, indices, "places")]
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
    shown = np.arange(len(held_out), dtype=np.int64)  # tokens of the held-out images alone are stored

    def probed(of_train: NDArray[np.float64], of_test: NDArray[np.float64]) -> tuple[float, bool]:
        labels = train_labels[fitted], test_labels[held_out]
        return linear_probe(of_train, labels[0], of_test, labels[1], settings.c, settings.max_iter)

    accuracy, converged = probed(pooled(train, fitted), pooled(test, shown))
    metrics: Json = {
        "accuracy": accuracy,
        "converged": converged,
        "train_images": len(fitted),
        "test_images": len(held_out),
    }
    if settings.position_channels is not None:
        some = fitted[spread(len(fitted), COMPONENT_IMAGES)]
        axes = principal_axes(train, some, settings.position_channels)
        accuracy, converged = probed(by_position(train, fitted, axes), by_position(test, shown, axes))
        metrics |= {"accuracy_by_position": accuracy, "converged_by_position": converged}
    return metrics

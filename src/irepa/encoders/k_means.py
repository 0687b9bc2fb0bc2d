"""K-means features of patches (Coates, Lee and Ng, 2011), by scikit-learn: a target that is learned without gradients.

The row's ``base`` gives windows of pixels (library ``rgb``), and every patch inside a window has its say in the token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Seed, Strict
from irepa.encoders import Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, TokenSource

BATCH = 64  # images at a time
LEVEL = 127.5  # levels of a byte in a unit of the base's pixels
CONTRAST, WHITENING = (
    10.0,
    0.1,
)  # the paper's, for bytes: what is added to the variances of patches, and of their components


class Options(Strict):
    centroids: Positive = Field(128, description="Width of a token.")
    patch: Positive = Field(6, description="Side of the patches, pixels; at most the window of the base.")
    patches: Positive = Field(
        50000, description="That centroids are fitted to, at random places of the training images."
    )
    iterations: int = Field(
        100, ge=0, description="Of Lloyd's algorithm, at most; 0: centroids are patches themselves."
    )
    seed: Seed = Field(0, description="Of the places, and of the first centroids.")


@dataclass(frozen=True)
class Dictionary:
    """Windows of pixels (batch, h*w, 3 * side * side) to the mean, over their patches, of max(0, mean(z) - z).

    z (centroids,) are the distances of a patch, once it is normalised and whitened, (x - mean) @ whiten, to the ``centroids``
    (centroids, 3 * patch * patch).
    """

    patch: int
    mean: Tensor
    whiten: Tensor
    centroids: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        import torch

        found = windows_to_patches(tokens, self.patch)  # (batch, h*w, patches, dim)
        whitened = (normalised(found) - self.mean) @ self.whiten
        distances = torch.cdist(whitened.flatten(0, 2), self.centroids).unflatten(0, found.shape[:3])
        token: Tensor = (distances.mean(-1, keepdim=True) - distances).clamp_min(0).mean(dim=2)
        return token


def windows_to_patches(tokens: Tensor, patch: int) -> Tensor:
    """(batch, h*w, 3 * side * side) to all patches of each window, (batch, h*w, patches, 3 * patch * patch), channel by channel.

    Raises ConfigError where the tokens are no windows of pixels as large as a patch.
    """
    side = math.isqrt(tokens.shape[2] // 3)
    if 3 * side * side != tokens.shape[2] or side < patch:
        raise ConfigError(f"tokens of width {tokens.shape[2]} are no colour windows with patches of {patch} pixels")
    square: Tensor = tokens.unflatten(2, (3, side, side))
    found: Tensor = square.unfold(3, patch, 1).unfold(4, patch, 1)  # (batch, h*w, 3, down, right, patch, patch)
    return found.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(2, 3)


def normalised(patches: Tensor) -> Tensor:
    """Each patch (..., dim), of pixels in [-1, 1], less its mean and by its standard deviation."""
    levels = patches * LEVEL
    centred = levels - levels.mean(-1, keepdim=True)
    found: Tensor = centred / (centred.square().mean(-1, keepdim=True) + CONTRAST).sqrt()
    return found


def sample(options: Options, source: TokenSource) -> Tensor:
    """Patches at random places of random training images: (patches, dim), none of them twice unless all are asked for."""
    import torch

    from irepa.progress import track
    from irepa.tokens import in_batches

    generator = np.random.Generator(np.random.Philox(options.seed))
    order = generator.permutation(len(source))
    each = -(-options.patches // len(source))  # of an image
    parts, kept = in_batches(order[: -(-options.patches // each)], BATCH), []
    for part in track(parts, "patches", len(parts)):
        found = windows_to_patches(source[np.sort(part)], options.patch).flatten(1, 2)
        for image in found:
            kept.append(image[generator.choice(len(image), min(each, len(image)), replace=False)])
    return torch.cat(kept)[: options.patches]


def fit(options: Options, source: TokenSource, grid: Grid, device: torch.device) -> Dictionary:
    """Whiten patches of the training images, then find their centroids."""
    import torch
    from sklearn.cluster import KMeans

    patches = normalised(sample(options, source)).double().numpy()
    mean = patches.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(patches - mean, rowvar=False, bias=True))
    whiten = (axes / np.sqrt(np.maximum(variances, 0) + WHITENING)) @ axes.T
    whitened = (patches - mean) @ whiten
    first = np.random.Generator(np.random.Philox(options.seed)).permutation(len(whitened))[: options.centroids]
    centroids = whitened[first]
    if options.iterations:
        lloyd = KMeans(options.centroids, init=centroids, n_init=1, max_iter=options.iterations)
        centroids = lloyd.fit(whitened).cluster_centers_
    return Dictionary(options.patch, *(torch.from_numpy(part).float().to(device) for part in (mean, whiten, centroids)))


LIBRARY = Library(fit=fit, fitted_dim=lambda options, dim: options.centroids)

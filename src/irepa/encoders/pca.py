"""Principal components of another encoder's tokens, which of raw patches are the classical target that is learned (E3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Library

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.stored import Indices
    from irepa.tokens import Grid, TokenSource


class Options(Strict):
    components: Positive = Field(
        64, description="Width of a token: the directions in which tokens vary most, in order."
    )
    images: Positive = Field(5000, description="Training images that they are fitted to, the first so many.")
    whiten: bool = Field(True, description="Whether each component is brought to variance 1.")


@dataclass(frozen=True)
class Components:
    """Tokens (batch, h*w, dim) less ``mean`` (dim,), along ``axes`` (dim, components)."""

    mean: Tensor
    axes: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) @ self.axes


def first(source: TokenSource, images: int) -> Indices:
    """The numbers of the first so many images, or of all."""
    return np.arange(min(images, len(source)), dtype=np.int64)


def fit(options: Options, source: TokenSource, grid: Grid, device: torch.device) -> Components:
    """Eigenvectors of the tokens' covariance, the largest entry of each positive."""
    import torch

    from irepa.covariance import mean_and_covariance

    mean, covariance = mean_and_covariance(source, first(source, options.images))
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1][: options.components], axes[:, ::-1][:, : options.components]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    if options.whiten:
        # A direction without variance has nothing to be scaled by.
        axes = axes / np.sqrt(np.maximum(variances, variances[0] * np.finfo(np.float32).eps))
    return Components(*(torch.from_numpy(np.ascontiguousarray(part)).float().to(device) for part in (mean, axes)))


LIBRARY = Library(fit=fit, fitted_dim=lambda options, dim: min(options.components, dim))

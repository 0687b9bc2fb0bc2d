"""Another encoder's tokens, each number less its mean and by its standard deviation over training images and positions.

The same content with another LDS: what all tokens share, such as the mean of numbers that are never negative, makes them alike
wherever they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Library
from irepa.encoders.pca import first

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, TokenSource


class Options(Strict):
    images: Positive = Field(5000, description="Training images that give means and deviations, the first so many.")


@dataclass(frozen=True)
class Standardised:
    """Tokens (batch, h*w, dim) less ``mean`` by ``deviation``, (dim,) each."""

    mean: Tensor
    deviation: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) / self.deviation


def fit(options: Options, source: TokenSource, grid: Grid, device: torch.device) -> Standardised:
    """A number that is the same everywhere becomes 0."""
    import torch

    from irepa.covariance import mean_and_covariance

    mean, covariance = mean_and_covariance(source, first(source, options.images))
    deviation = np.sqrt(np.diag(covariance).clip(min=0))  # of a constant, rounding may leave less than 0
    deviation[deviation <= np.finfo(np.float32).eps * np.abs(mean)] = 1
    return Standardised(*(torch.from_numpy(part).float().to(device) for part in (mean, deviation)))


LIBRARY = Library(fit=fit)

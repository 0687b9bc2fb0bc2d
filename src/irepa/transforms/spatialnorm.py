"""Spatial normalisation of the encoder's tokens themselves, (x - gamma * mean) / std over positions.

It is the paper's step (section 4) as a change of the encoder, so that its metrics are measured with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.transforms import check_strength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check(gamma: float | None, where: str) -> None:
    """Raises ConfigError unless gamma is absent (1) or in [0, 1]."""
    check_strength(gamma, where, "spatialnorm", "gamma", required=False)


def apply(
    tokens: Tensor, global_token: Tensor | None, gamma: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Normalise tokens (batch, h*w, dim) over positions."""
    from irepa.alignment import spatial_normalize

    return spatial_normalize(tokens, 1.0 if gamma is None else gamma)

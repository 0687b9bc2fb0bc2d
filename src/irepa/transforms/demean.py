"""Mean removal, x <- x - gamma * mean over positions: takes the image's global component out of its tokens, at any strength."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.transforms import check_strength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check(gamma: float | None, where: str) -> None:
    """Raises ConfigError unless gamma is absent (1) or in [0, 1]."""
    check_strength(gamma, where, "demean", "gamma", required=False)


def apply(
    tokens: Tensor, global_token: Tensor | None, gamma: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Tokens (batch, h*w, dim) less gamma times their mean over positions."""
    return tokens - (1.0 if gamma is None else gamma) * tokens.mean(dim=1, keepdim=True)

"""Mean mixing, x <- (1 - alpha) x + alpha mean over positions: CLS mixing without a class token; the mean stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.transforms import check_strength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check(alpha: float | None, where: str) -> None:
    """Raises ConfigError unless alpha is a number in [0, 1]."""
    check_strength(alpha, where, "meanmix", "alpha", required=True)


def apply(
    tokens: Tensor, global_token: Tensor | None, alpha: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Mix tokens (batch, h*w, dim) with their mean over positions."""
    assert alpha is not None
    return (1 - alpha) * tokens + alpha * tokens.mean(dim=1, keepdim=True)

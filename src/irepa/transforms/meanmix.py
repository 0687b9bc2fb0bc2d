"""Mean mixing, x <- (1 - alpha) x + alpha mean over positions: CLS mixing without a class token; the mean stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from irepa.transforms import check_strength


def check(alpha: float | None, where: str) -> None:
    """Raises ConfigError unless alpha is a number in [0, 1]."""
    check_strength(alpha, where, "meanmix", "alpha", required=True)


def apply(
    tokens: Tensor, global_token: Tensor | None, alpha: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Mix tokens (batch, T, D) with their mean over T."""
    assert alpha is not None
    return (1 - alpha) * tokens + alpha * tokens.mean(dim=1, keepdim=True)

"""CLS mixing, x <- (1 - alpha) x + alpha cls: adds global information to every token (paper section 5, E2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.errors import CacheError
from irepa.transforms import check_strength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


NEEDS_GLOBAL_TOKEN = True


def check(alpha: float | None, where: str) -> None:
    """Raises ConfigError unless alpha is a number in [0, 1]."""
    check_strength(alpha, where, "clsmix", "alpha", required=True)


def apply(
    tokens: Tensor, global_token: Tensor | None, alpha: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Mix tokens (batch, h*w, dim) with the global token (batch, dim). Raises CacheError where the encoder has none."""
    if global_token is None:
        raise CacheError("clsmix: this encoder has no global token to mix in")
    assert alpha is not None
    return (1 - alpha) * tokens + alpha * global_token[:, None]

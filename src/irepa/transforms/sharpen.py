"""Sharpen, x <- x + amount * (x - blurred x): the opposite of a blur. Neighbours grow unlike; the mean nearly stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

WIDTH = 1.0  # of the blur, grid steps


def check(amount: float | None, where: str) -> None:
    """Raises ConfigError unless the amount is a positive number."""
    if amount is None or amount <= 0:
        raise ConfigError(f"{where}: sharpen needs a positive amount, as in sharpen0.5, not {amount}")


def apply(
    tokens: Tensor, global_token: Tensor | None, amount: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Add to tokens (batch, h*w, dim) ``amount`` times what a blur of one grid step takes from them."""
    from irepa.transforms import blur

    assert amount is not None
    return tokens + amount * (tokens - blur.apply(tokens, global_token, WIDTH, grid, indices))

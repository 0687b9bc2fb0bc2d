"""Permute: tokens change places by one permutation, the same for every image. Structure is lost; each position stays predictable.

:mod:`irepa.transforms.shuffle` draws another permutation for each image, after which nothing at a position can be predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check(seed: float | None, where: str) -> None:
    """Raises ConfigError unless the seed of the permutation is absent (0) or a whole number."""
    if seed is not None and not seed.is_integer():
        raise ConfigError(
            f"{where}: permute takes the seed of its permutation, a whole number as in permute1, not {seed}"
        )


def apply(
    tokens: Tensor, global_token: Tensor | None, seed: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Permute tokens (batch, h*w, dim) by the permutation that belongs to the seed."""
    import torch

    from irepa.random import place_permutation

    order = place_permutation(int(seed or 0), tokens.shape[1])
    return tokens[:, torch.from_numpy(order).to(tokens.device)]

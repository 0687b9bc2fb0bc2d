"""Shuffle: each image's tokens change places at random. Their set, and so their mean, stays; spatial structure is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irepa.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def check(share: float | None, where: str) -> None:
    """Raises ConfigError unless the share of moved tokens is absent (all) or in (0, 1]."""
    if share is not None and not 0 < share <= 1:
        raise ConfigError(f"{where}: shuffle takes the share of tokens that move, in (0, 1], not {share}")


def apply(
    tokens: Tensor, global_token: Tensor | None, share: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Permute tokens (batch, h*w, dim), by a permutation that depends on the image's number alone."""
    import torch

    from irepa.random import image_permutation

    count = tokens.shape[1]
    order = np.stack([partly(image_permutation(int(index), count), share) for index in indices])
    places = torch.from_numpy(order).to(tokens.device)
    return tokens.gather(1, places[:, :, None].expand_as(tokens))


def partly(order: NDArray[np.int64], share: float | None) -> NDArray[np.int64]:
    """A permutation of (T,) that moves a share of the places among themselves: those that ``order`` names first."""
    if share is None:
        return order
    moved = order[: round(share * len(order))]
    places = np.arange(len(order))
    places[np.sort(moved)] = moved
    return places

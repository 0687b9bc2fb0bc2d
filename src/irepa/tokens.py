"""Patch tokens on a grid: what encoders give, how they are resampled, and what training and the metrics read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from irepa.errors import DivergedError, WeightsError
from irepa.stored import Indices, Stored

Grid = tuple[int, int]


@dataclass(frozen=True)
class Tokens:
    """What an encoder says of a batch of images.

    Attributes:
        patch: (batch, h*w, dim) float32, row by row.
        grid: (h, w), the grid that these tokens lie on: an encoder's own, which need not be the tier's.
        global_token: (batch, dim) float32, or None where the encoder has none.
    """

    patch: Tensor
    grid: tuple[int, int]
    global_token: Tensor | None = None


def spread(total: int, count: int) -> NDArray[np.int64]:
    """``count`` indices spread evenly over ``0..total-1`` (all of them where ``count`` is larger): (m,) int64."""
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // count


def in_batches(indices: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """The indices, ``size`` at a time; the last batch has what is left."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def resample(tokens: Tensor, grid: Grid, to: Grid) -> Tensor:
    """Tokens (batch, h*w, dim) to another grid (batch, H*W, dim): average pooling down, bilinear up.

    Raises ValueError where the number of tokens does not fit the grid.
    """
    if tokens.shape[1] != math.prod(grid):
        raise ValueError(f"{tokens.shape[1]} tokens do not lie on a {grid[0]}x{grid[1]} grid")
    if grid == to:
        return tokens
    planes = tokens.transpose(1, 2).unflatten(2, grid)
    if to[0] <= grid[0] and to[1] <= grid[1]:
        planes = F.adaptive_avg_pool2d(planes, to)
    else:
        planes = F.interpolate(planes, to, mode="bilinear", align_corners=False)
    return planes.flatten(2).transpose(1, 2)


def storage_grid(native: Grid, wanted: Grid) -> Grid:
    """The smaller of the encoder's own grid and the tier's: a coarse map is enlarged on reading, not on disk."""
    return wanted if native[0] * native[1] > wanted[0] * wanted[1] else native


def cache_bytes(images: int, tokens: int, dim: int, dtype: np.dtype) -> int:
    """What a cache of ``images`` times ``tokens`` tokens of width ``dim`` takes on disk, bytes."""
    return images * tokens * dim * dtype.itemsize


def check_finite(array: Tensor, what: str) -> None:
    """Raises DivergedError naming ``what`` where a value is NaN or infinite."""
    if not bool(torch.isfinite(array).all()):
        bad = int((~torch.isfinite(array)).sum())
        raise DivergedError(f"{what}: {bad} of {array.numel()} values are NaN or infinite")


def check_images_finite(values: Tensor, what: str, images: Iterable[int], cure: str) -> None:
    """Of what a frozen network makes of images, (batch, ...); ``what`` names both, ``images`` are their numbers.

    Raises WeightsError, with the numbers and the ``cure``, where one is NaN or infinite: nothing was trained that could diverge.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        wrong = [number for number, good in zip(images, finite.flatten(1).all(dim=1).tolist(), strict=True) if not good]
        rows = ", ".join(map(str, wrong[:5])) + (
            f", ... ({len(wrong)} of these {len(values)})" if len(wrong) > 5 else ""
        )
        raise WeightsError(f"{what} {rows}: NaN or infinite; {cure}")


class TokenSource(ABC):
    """Tokens of one encoder and one split, on the tier's grid, with the transforms that follow the encoder's name applied.

    Attributes:
        dim: width of a token.
        stored: what is on disk, by name: :meth:`tokens` makes tokens of its rows.
    """

    dim: int
    stored: Mapping[str, Stored]

    def __len__(self) -> int:
        """Number of images."""
        return len(next(iter(self.stored.values())))

    @abstractmethod
    def tokens(self, rows: Mapping[str, Tensor], indices: Indices) -> Tensor:
        """Tokens (batch, H*W, dim), float32, where the ``rows`` are: those of ``stored`` of the images ``indices`` (batch,)."""

    def __getitem__(self, indices: Indices) -> Tensor:
        """Tokens (batch, H*W, dim), float32, of these images, on the CPU. Raises DivergedError where one is not finite."""
        rows = {name: torch.from_numpy(stored[indices]) for name, stored in self.stored.items()}
        tokens = self.tokens(rows, indices).cpu()
        check_finite(tokens, "tokens")
        return tokens

"""Cosine transforms of overlapping blocks, weighted as JPEG weights them (ITU-T T.81, Annex K): a classical target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irepa.config.options import Strict
from irepa.encoders import Encoder, Library
from irepa.encoders.rgb import halo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens

SIDE = 8  # of a block, pixels
# Steps of quantisation: what the eye hardly sees counts for little. Tables K.1 and K.2.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)  # fmt: skip


class Options(Strict):
    """Nothing to choose."""


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where a block does not lie around a token's patch."""
    for side in grid:
        halo(SIDE, image_size // side, image_size)


def basis() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """DCT-II of a block as an orthonormal matrix: (64 frequencies, 64 pixels), both row by row."""
    from scipy.fft import dctn

    blocks = np.eye(SIDE * SIDE).reshape(-1, SIDE, SIDE)
    transformed = dctn(blocks, axes=(1, 2), norm="ortho").reshape(SIDE * SIDE, -1)
    return np.asarray(transformed.T)


class Dct(Encoder):
    """dim = 192: coefficients of the 8 x 8 pixels around each token, of Y, Cb and Cr about their middle, in steps of quantisation."""

    options: Options

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        import torch

        super().__init__(options, grid, device)
        steps = torch.tensor((LUMINANCE, CHROMINANCE, CHROMINANCE), dtype=torch.float64).flatten(1)
        self.weighted = (torch.from_numpy(basis()) / steps[:, :, None]).float().to(device)  # (3, 64, 64)

    def forward(self, images: Tensor) -> Tokens:
        import torch
        import torch.nn.functional as F
        from kornia.color import rgb_to_ycbcr

        from irepa.tokens import Tokens

        patch = (images.shape[2] // self.grid[0], images.shape[3] // self.grid[1])
        rows, columns = (halo(SIDE, side, whole) for side, whole in zip(patch, images.shape[2:], strict=True))
        levels = 255 * (rgb_to_ycbcr(images.float() / 255) - 0.5)
        around = F.pad(levels, (columns, columns, rows, rows), mode="reflect")
        blocks = F.unfold(around, SIDE, stride=patch).unflatten(1, (3, SIDE * SIDE))
        coefficients = torch.einsum("cfp,bcpt->btcf", self.weighted, blocks)
        return Tokens(coefficients.flatten(2), self.grid)


LIBRARY = Library(encoder=Dct, check_grid=check_grid)

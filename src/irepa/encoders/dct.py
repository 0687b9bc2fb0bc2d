"""Cosine transforms of overlapping blocks, weighted as JPEG weights them (ITU-T T.81, Annex K): a classical target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irepa.config.options import Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens

SIDE, STEP = 8, 4  # of a block, and from one to the next, pixels
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


def basis() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """DCT-II of a block as an orthonormal matrix: (64 frequencies, 64 pixels), both row by row."""
    from scipy.fft import dctn

    blocks = np.eye(SIDE * SIDE).reshape(-1, SIDE, SIDE)
    transformed = dctn(blocks, axes=(1, 2), norm="ortho").reshape(SIDE * SIDE, -1)
    return np.asarray(transformed.T)


class Dct(Encoder):
    """dim = 192: coefficients of the block around each token, of Y, Cb and Cr about their middle, in steps of quantisation.

    Images are resized to 4 pixels a token, so that blocks of 8 overlap by half; they go on by reflection.
    """

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

        from irepa.images import resize
        from irepa.tokens import Tokens

        small = resize(images.float() / 255, (STEP * self.grid[0], STEP * self.grid[1]))
        levels = 255 * (rgb_to_ycbcr(small) - 0.5)
        around = F.pad(levels, ((SIDE - STEP) // 2,) * 4, mode="reflect")
        blocks = F.unfold(around, SIDE, stride=STEP).unflatten(1, (3, SIDE * SIDE))
        coefficients = torch.einsum("cfp,bcpt->btcf", self.weighted, blocks)
        return Tokens(coefficients.flatten(2), self.grid)


LIBRARY = Library(encoder=Dct)

"""Random Fourier features of patches (Rahimi and Recht, 2007): a Gaussian kernel of raw pixels, as tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Seed, Strict
from irepa.encoders import Encoder, Library
from irepa.encoders.rgb import Options as PatchOptions
from irepa.encoders.rgb import RgbPatches

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(Strict):
    features: Positive = Field(128, description="Width of a token.")
    width: float = Field(
        0.5, gt=0, description="Of the kernel: root mean square difference of pixels, in [-1, 1], at which it is 0.6."
    )
    seed: Seed = Field(0, description="Of the frequencies and phases.")


class RandomFourier(Encoder):
    """cos(<w, x> + b) * sqrt(2 / dim) of the pixels x of a patch, so that <token, token'> is near exp(-|x - x'|^2 / 2s^2)."""

    options: Options

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        super().__init__(options, grid, device)
        self.patches = RgbPatches(PatchOptions(), grid, device)

    def forward(self, images: Tensor) -> Tokens:
        import torch

        from irepa.tokens import Tokens

        pixels = self.patches(images).patch
        dim, wide = pixels.shape[2], self.options.features
        generator = torch.Generator().manual_seed(self.options.seed)
        frequencies = torch.randn(dim, wide, generator=generator) / (self.options.width * math.sqrt(dim))
        phases = 2 * math.pi * torch.rand(wide, generator=generator)
        waves = torch.cos(pixels @ frequencies.to(pixels) + phases.to(pixels))
        return Tokens(math.sqrt(2 / wide) * waves, self.grid)


LIBRARY = Library(encoder=RandomFourier)

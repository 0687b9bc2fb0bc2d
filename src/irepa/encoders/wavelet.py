"""Energies of Haar wavelet frames (Unser, 1995): a classical target (E3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(Strict):
    levels: Positive = Field(3, description="Levels of the decomposition, of details of 2, 4, 8 pixels and so on.")


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where the coarsest filter is wider than an image."""
    if 2 ** (options.levels - 1) >= image_size:
        raise ConfigError(f"levels = {options.levels} of wavelets do not fit dataset.image_size = {image_size}")


def frames(images: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """The undecimated Haar transform: details (batch, 3 * channels, H, W) of each level, then what is left of the image.

    The frame is tight: |image|^2 is the sum of |detail|^2 and |rest|^2. Images go on as a torus.
    """
    import torch

    details, rest = [], images
    for level in range(levels):
        step = 2**level
        low, high = [(rest + sign * rest.roll(-step, 2)) / 2 for sign in (1, -1)]
        across = [[(band + sign * band.roll(-step, 3)) / 2 for sign in (1, -1)] for band in (low, high)]
        details.append(torch.cat((across[0][1], across[1][0], across[1][1]), dim=1))
        rest = across[0][0]
    return details, rest


class Wavelet(Encoder):
    """dim = 9 * levels: mean lengths, over each token's area, of red, green and blue in three directions at each level."""

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from torch.nn.functional import adaptive_avg_pool2d, pad

        from irepa.tokens import Tokens

        height, width = images.shape[2:]
        # An image beside its mirror image is a torus without seams.
        unit = pad(images.float() / 255, (0, width - 1, 0, height - 1), mode="reflect")
        details, _ = frames(unit, self.options.levels)
        maps = torch.cat(details, dim=1).abs()[:, :, :height, :width]
        return Tokens(adaptive_avg_pool2d(maps, self.grid).flatten(2).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=Wavelet, check_grid=check_grid)

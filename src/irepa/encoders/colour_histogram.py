"""Local colour histograms (Swain and Ballard, 1991), each pixel shared among the nearest bins: a classical target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Tokens


class Options(Strict):
    bins: int = Field(4, ge=2, description="Along each of red, green and blue; their centres are evenly from 0 to 255.")


def shares(images: Tensor, bins: int) -> Tensor:
    """Of each pixel, what every bin has of it, in [0, 1] and 1 in all: (batch, 3, H, W) uint8 to (batch, bins^3, H, W)."""
    import torch

    level = images.float() / 255 * (bins - 1)
    centres = torch.arange(bins, device=images.device)[:, None, None]
    red, green, blue = ((1 - (level[:, c, None] - centres).abs()).clamp_min(0) for c in range(3))
    return torch.einsum("brhw,bghw,bthw->brgthw", red, green, blue).flatten(1, 3)


class ColourHistogram(Encoder):
    """dim = bins ^ 3: shares of the colours in each token's area."""

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        from torch.nn.functional import adaptive_avg_pool2d

        from irepa.tokens import Tokens

        maps = adaptive_avg_pool2d(shares(images, self.options.bins), self.grid)
        return Tokens(maps.flatten(2).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=ColourHistogram)

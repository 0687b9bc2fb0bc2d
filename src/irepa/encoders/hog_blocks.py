"""Histograms of oriented gradients (Dalal and Triggs, 2005) in overlapping blocks, as the released code takes them (E3).

The same numbers as scikit-image's ``hog``, which visits block after block and takes days for ImageNet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens

GREY = (0.2126, 0.7152, 0.0722)  # weights of red, green and blue (ITU-R BT.709)
CLIP, EPS = 0.2, 1e-5  # of L2-Hys: largest share of one bin, and what is added to a block's length


class Options(Strict):
    orientations: Positive = Field(8, description="Bins of each histogram.")
    cell: Positive = Field(2, description="Side of the cell of one histogram, pixels.")
    block: Positive = Field(4, description="Side of the block that is normalised as one, cells.")


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where an image has no whole block."""
    least = options.cell * options.block
    if image_size < least:
        raise ConfigError(
            f"a block of {options.block} cells of {options.cell} pixels does not fit dataset.image_size = {image_size}"
        )


class HogBlocks(Encoder):
    """dim = block * block * orientations numbers, the block around each token's centre, of the grey image.

    There is a block at every cell; each is normalised by L2-Hys and to length 1. Tokens lie between the four nearest of them.
    """

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from torch.nn.functional import interpolate

        from irepa.tokens import Tokens

        # Angles of 45 and 90 degrees are frequent and lie on bounds of bins: in float64, summed in this order on every device.
        red, green, blue = (images.double() / 255).unbind(1)
        grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
        # Image by image: the blocks of one take 8 MB at 256 pixels.
        planes = [interpolate(self.blocks(one), self.grid, mode="bilinear", align_corners=False) for one in grey]
        return Tokens(torch.cat(planes).flatten(2).transpose(1, 2).float(), self.grid)

    def blocks(self, grey: Tensor) -> Tensor:
        """A grey image (H, W) to the descriptors of its blocks (1, dim, rows, columns), each of length 1 or 0."""
        import torch
        from torch.nn.functional import avg_pool2d, normalize

        cell, block, bins = self.options.cell, self.options.block, self.options.orientations
        down, right = torch.zeros_like(grey), torch.zeros_like(grey)
        down[1:-1] = grey[2:] - grey[:-2]
        right[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
        angle = torch.rad2deg(torch.atan2(down, right)) % 180
        bounds = torch.arange(bins + 1, dtype=grey.dtype, device=grey.device) * (180 / bins)
        inside = (angle >= bounds[:-1, None, None]) & (angle < bounds[1:, None, None])
        histograms = avg_pool2d((torch.hypot(down, right) * inside).float(), cell)  # (bins, H / cell, W / cell)
        found = histograms.unfold(1, block, 1).unfold(2, block, 1).permute(1, 2, 3, 4, 0).flatten(2)
        # L2-Hys clips between two normalisations; the second is of length 1 here.
        found = (found / (found.square().sum(-1, keepdim=True) + EPS**2).sqrt()).clamp(max=CLIP)
        return normalize(found, dim=-1).permute(2, 0, 1)[None]


LIBRARY = Library(encoder=HogBlocks, check_grid=check_grid)

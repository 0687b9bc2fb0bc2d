"""Histograms of oriented gradients (Dalal and Triggs, 2005) in overlapping blocks, as the released code takes them (E3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens

GREY = np.array([0.2126, 0.7152, 0.0722])  # weights of red, green and blue (ITU-R BT.709)


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
        from skimage.feature import hog
        from torch.nn.functional import interpolate, normalize

        from irepa.tokens import Tokens

        options = self.options
        maps = []
        for image in images.permute(0, 2, 3, 1).cpu().numpy():
            blocks = hog(
                image / 255 @ GREY,
                orientations=options.orientations,
                pixels_per_cell=(options.cell, options.cell),
                cells_per_block=(options.block, options.block),
                block_norm="L2-Hys",
                feature_vector=False,
            )
            maps.append(blocks.reshape(*blocks.shape[:2], -1))
        planes = normalize(torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2), dim=1)
        tokens = interpolate(planes, self.grid, mode="bilinear", align_corners=False)
        return Tokens(tokens.flatten(2).transpose(1, 2).float(), self.grid)


LIBRARY = Library(encoder=HogBlocks, check_grid=check_grid)

"""A convolutional U-Net, aligned at its bottleneck: does alignment help outside transformers?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from irepa.autoencoders import Shape
from irepa.config.options import Strict
from irepa.config.tier import Scale
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from irepa.models.unet import UNet


class Options(Strict):
    """Nothing beyond the shared sizes: ``depth`` is layers per level, ``width`` channels at the bottleneck."""


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> UNet:
    """Raises ConfigError where halving the image does not lead to the grid."""
    from irepa.models.unet import UNet

    levels = [round(math.log2(size / side)) for size, side in zip(shape[1:], grid, strict=True)]
    halved = all(size == side << levels[0] for size, side in zip(shape[1:], grid, strict=True))
    if levels[0] != levels[1] or levels[0] < 1 or not halved:
        raise ConfigError(
            f"unet: {shape[1]}x{shape[2]} does not come to the tier's grid of {grid[0]}x{grid[1]} by halving at least once"
        )
    return UNet(shape, classes, levels[0], depth=scale.depth, width=scale.width, heads=scale.heads)

"""A convolutional U-Net, aligned at its bottleneck: does alignment help outside transformers?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from irepa.config.options import Shape, Strict
from irepa.config.tier import Scale
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from irepa.models.unet import UNet


class Options(Strict):
    """Nothing beyond the shared sizes: ``depth`` is layers per level, ``width`` channels at the bottleneck."""


def levels_of(shape: Shape, grid: tuple[int, int]) -> int:
    """How often the input (channels, H, W) is halved to come to the grid. Raises ConfigError where it cannot."""
    levels = [round(math.log2(size / side)) for size, side in zip(shape[1:], grid, strict=True)]
    halved = all(size == side << max(0, levels[0]) for size, side in zip(shape[1:], grid, strict=True))
    if levels[0] != levels[1] or levels[0] < 1 or not halved:
        raise ConfigError(
            f"unet: {shape[1]}x{shape[2]} does not come to the tier's grid of {grid[0]}x{grid[1]} by halving at least once"
        )
    return levels[0]


def check(options: Options, scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where the sizes do not fit each other, the input (channels, H, W) or the grid."""
    levels_of(shape, grid)
    if scale.width % scale.heads:
        raise ConfigError(f"heads {scale.heads} does not divide width {scale.width}")
    if scale.width < 8:
        raise ConfigError(f"width must be at least 8 for a unet, not {scale.width}")


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> UNet:
    """Raises ConfigError as :func:`check` does."""
    from irepa.models.unet import UNet

    check(options, scale, shape, grid)
    return UNet(shape, classes, levels_of(shape, grid), depth=scale.depth, width=scale.width, heads=scale.heads)

"""Architectures: one module per kind of network that a recipe can train. The networks themselves are in :mod:`irepa.models`.

To add one, write a file here with

- ``Options(Strict)``: what this architecture has beyond the sizes that all share (:class:`irepa.config.tier.Scale`). A tier sets
  them under ``scales.NAME.options.ARCHITECTURE``;
- ``build(options, scale, shape, classes, grid)``: the network for latents or images of ``shape`` (channels, H, W). It maps
  (x, t, labels) to (prediction, hidden tokens on the grid). Raises ConfigError where its tokens do not lie on the grid.

Heavy libraries are imported inside ``build``, so that a configuration is checked without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from irepa.autoencoders import Shape
from irepa.config.tier import Scale
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


class Architecture(Protocol):
    """A module of this folder."""

    Options: Any

    def build(self, options: Any, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> nn.Module: ...


def check_grid(scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where patches of what the network sees, (channels, H, W), do not lie on the grid."""
    _, height, width = shape
    if (height // scale.patch, width // scale.patch) != tuple(grid):
        raise ConfigError(
            f"scale with patch {scale.patch} gives {height // scale.patch}x{width // scale.patch} tokens on "
            f"{height}x{width} latents, the tier's grid is {grid[0]}x{grid[1]}"
        )

"""Architectures: one module per kind of network that a recipe can train. The networks are in :mod:`irepa.models`.

To add one, write a file in this folder. It holds ``Options``, what the architecture has beyond the sizes that all share
(:class:`irepa.config.tier.Scale`), and ``build``, which returns the network. A whole one is a SiT whose blocks have
another width inside::

    from __future__ import annotations

    from pydantic import Field

    from irepa.architectures import check_grid
    from irepa.config.options import Strict


    class Options(Strict):
        mlp_ratio: float = Field(4.0, gt=0, description="Hidden width of a block's MLP, in widths of the network.")


    def build(options, scale, shape, classes, grid):
        from irepa.models.sit import SiT

        check_grid(scale, shape, grid)
        return SiT(shape[1:], shape[0], classes, **scale.transformer(), mlp_ratio=options.mlp_ratio)

Saved as ``thin_sit.py`` it is at once known as ``thin-sit``. A recipe of a tier asks for it with
``architecture: thin-sit``, and a scale sets its options:
``scales: {small: {depth: 4, ..., options: {thin-sit: {mlp_ratio: 2.0}}}}``.

What is optional: ``check(options, scale, shape, grid)`` raises ConfigError for sizes that do not fit, without torch, so
that `irepa check` refuses them before anything runs; :func:`check_transformer` has what transformers ask for.
``TAKES_SPAN = True`` says that the network is told two times, and ``ADOPTS_PUBLISHED = True`` that it takes the weights
of published SiT and REPA checkpoints.

A network is an ``nn.Module`` that maps x (batch, channels, H, W), times (batch,) and labels (batch,) to its prediction,
shaped as x, and hidden tokens (batch, T, width) on the tier's grid, row by row. Its attribute ``classes`` is the null
class of guidance. Recipes may ask for more, as MeanFlow's does for the span of time. A new network, with torch at the
top, is a file in :mod:`irepa.models`. It is imported inside ``build``: a configuration is checked without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from irepa.config.options import Shape, Strict
from irepa.config.tier import Scale
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


class Architecture(Protocol):
    """The contract of a module of this folder."""

    Options: type[Strict]

    def build(self, options: Any, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> nn.Module:
        """The network, initialised from torch's random state.

        Args:
            options: validated ``Options``.
            shape: (channels, H, W) of the latents or images that it sees.
            classes: number of classes; label ``classes`` is the null class.
            grid: (rows, columns) on which its hidden tokens have to lie.

        Raises ConfigError where they do not.
        """


def check_transformer(scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where a transformer's sizes do not fit each other, or as :func:`check_grid` does."""
    check_grid(scale, shape, grid)
    if scale.width % scale.heads:
        raise ConfigError(f"heads {scale.heads} does not divide width {scale.width}")
    if scale.width % 4:
        raise ConfigError(f"width must be a multiple of 4 for 2-D positions, not {scale.width}")
    if scale.align_depth > scale.depth:
        raise ConfigError(f"align_depth must be in 1..{scale.depth}, not {scale.align_depth}")


def check_grid(scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where patches of ``shape``, (channels, H, W), do not lie on the grid (rows, columns)."""
    _, height, width = shape
    if height % scale.patch or width % scale.patch:
        raise ConfigError(f"patch {scale.patch} does not divide the input {height}x{width}")
    if (height // scale.patch, width // scale.patch) != tuple(grid):
        raise ConfigError(
            f"scale with patch {scale.patch} gives {height // scale.patch}x{width // scale.patch} tokens on "
            f"{height}x{width} latents, the tier's grid is {grid[0]}x{grid[1]}"
        )

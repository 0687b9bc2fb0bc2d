"""Projectors from hidden tokens to the encoder's width (paper sections 3 and 4): mlp, linear, conv.

In the released code they are part of the network, whose linear layers all start with Xavier-uniform weights and zero biases. So
do those of mlp and linear; the convolution starts as torch has it.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


def initialise_linear(network: nn.Module) -> None:
    """Xavier-uniform weights and zero biases in every linear layer, as DiT and SiT start."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


class MlpProjector(nn.Sequential):
    """REPA's projector: three linear layers with SiLU between; (batch, T, width) -> (batch, T, dim).

    ``hidden``: width between the layers, 2048 in the paper.
    """

    def __init__(self, width: int, dim: int, hidden: int = 2048) -> None:
        super().__init__(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, dim)
        )
        initialise_linear(self)


class LinearProjector(nn.Linear):
    """One linear layer, (batch, T, width) -> (batch, T, dim)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(width, dim)
        initialise_linear(self)


class ConvProjector(nn.Module):
    """iREPA's projector: one convolution over the token grid, padded to keep it; (batch, T, width) -> (batch, T, dim).

    Args:
        kernel: odd; 3 in the paper's text, 1 where the released latent training code is left at its default (D1).
        grid: (H, W); None takes a square grid.

    Raises ValueError for an even kernel, or, in forward, for tokens that do not lie on the grid.
    """

    def __init__(self, width: int, dim: int, kernel: int = 3, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}")
        self.grid = grid
        self.conv = nn.Conv2d(width, dim, kernel, padding=kernel // 2)

    def forward(self, hidden: Tensor) -> Tensor:
        count = hidden.shape[1]
        height, width = self.grid or (math.isqrt(count), math.isqrt(count))
        if height * width != count:
            raise ValueError(f"{count} tokens do not lie on a {height}x{width} grid")
        planes = hidden.transpose(1, 2).unflatten(2, (height, width))
        projected: Tensor = self.conv(planes).flatten(2).transpose(1, 2)
        return projected


def build_projector(
    kind: str, width: int, dim: int, *, kernel: int = 3, hidden: int = 2048, grid: tuple[int, int] | None = None
) -> nn.Module:
    """``mlp``, ``linear`` or ``conv``. Raises ValueError for another kind."""
    if kind == "mlp":
        return MlpProjector(width, dim, hidden)
    if kind == "linear":
        return LinearProjector(width, dim)
    if kind == "conv":
        return ConvProjector(width, dim, kernel, grid)
    raise ValueError(f"projector must be mlp, linear or conv, not {kind!r}")

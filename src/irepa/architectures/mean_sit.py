"""A SiT that is told two times, for MeanFlow (paper section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.architectures import check_transformer
from irepa.config.options import Shape, Strict
from irepa.config.tier import Scale

if TYPE_CHECKING:
    from irepa.models.mean_sit import MeanSiT


TAKES_SPAN = True  # the network is told the span between two times


class Options(Strict):
    """Nothing beyond the shared sizes."""


def check(options: Options, scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where the sizes do not fit each other, the input (channels, H, W) or the grid."""
    check_transformer(scale, shape, grid)


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> MeanSiT:
    """Raises ConfigError where its tokens do not lie on the grid."""
    from irepa.models.mean_sit import MeanSiT

    check(options, scale, shape, grid)
    return MeanSiT(shape[1:], shape[0], classes, **scale.transformer())

"""A SiT that is told two times, for MeanFlow (paper section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.architectures import check_grid
from irepa.autoencoders import Shape
from irepa.config.options import Strict
from irepa.config.tier import Scale

if TYPE_CHECKING:
    from irepa.models.mean_sit import MeanSiT


class Options(Strict):
    """Nothing beyond the shared sizes."""


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> MeanSiT:
    """Raises ConfigError where its tokens do not lie on the grid."""
    from irepa.models.mean_sit import MeanSiT

    check_grid(scale, shape, grid)
    return MeanSiT(shape[1:], shape[0], classes, **scale.transformer())

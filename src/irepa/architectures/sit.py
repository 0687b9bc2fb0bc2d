"""SiT: a diffusion transformer with adaLN-Zero (paper section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.architectures import check_grid
from irepa.autoencoders import Shape
from irepa.config.options import Strict
from irepa.config.tier import Scale

if TYPE_CHECKING:
    from irepa.models.sit import SiT


class Options(Strict):
    """Nothing beyond the shared sizes."""


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> SiT:
    """Raises ConfigError where its tokens do not lie on the grid."""
    from irepa.models.sit import SiT

    check_grid(scale, shape, grid)
    return SiT(shape[1:], shape[0], classes, **scale.transformer())

"""SiT: a diffusion transformer with adaLN-Zero (paper section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.architectures import check_transformer
from irepa.config.options import Shape, Strict
from irepa.config.tier import Scale

if TYPE_CHECKING:
    from irepa.models.sit import SiT


ADOPTS_PUBLISHED = True  # checkpoints of SiT and REPA have its names and shapes


class Options(Strict):
    """Nothing beyond the shared sizes."""


def check(options: Options, scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where the sizes do not fit each other, the input (channels, H, W) or the grid."""
    check_transformer(scale, shape, grid)


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> SiT:
    """Raises ConfigError where its tokens do not lie on the grid."""
    from irepa.models.sit import SiT

    check(options, scale, shape, grid)
    return SiT(shape[1:], shape[0], classes, **scale.transformer())

"""JiT: a plain transformer on pixel patches (paper section 5; Li and He, 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from irepa.architectures import check_grid
from irepa.autoencoders import Shape
from irepa.config.options import Positive, Strict
from irepa.config.tier import Scale

if TYPE_CHECKING:
    from irepa.models.jit import JiT


class Options(Strict):
    """JiT-B/16 has 128, 32 and 4; L/16 has 128, 32 and 8; H/16 has 256, 32 and 10."""

    bottleneck: Annotated[
        Positive | None, Field(description="Width between the two patch projections; null: the network's width.")
    ] = None
    context: Annotated[int, Field(ge=0, description="Class tokens among the patch tokens; 0: none.")] = 0
    context_start: Annotated[int, Field(ge=0, description="Blocks before the class tokens come in.")] = 0


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> JiT:
    """Raises ConfigError where its tokens do not lie on the grid."""
    from irepa.models.jit import JiT

    check_grid(scale, shape, grid)
    return JiT(shape[1:], shape[0], classes, **scale.transformer(), **options.model_dump())

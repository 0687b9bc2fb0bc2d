"""JiT: a plain transformer on pixel patches (paper section 5; Li and He, 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from irepa.architectures import check_transformer
from irepa.config.options import Positive, Shape, Strict
from irepa.config.tier import Scale
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from irepa.models.jit import JiT


class Options(Strict):
    """JiT-B/16 has 128, 32 and 4; L/16 has 128, 32 and 8; H/16 has 256, 32 and 10."""

    bottleneck: Annotated[
        Positive | None, Field(description="Width between the two patch projections; null: the network's width.")
    ] = None
    context: Annotated[int, Field(ge=0, description="Class tokens among the patch tokens; 0: none.")] = 0
    context_start: Annotated[int, Field(ge=0, description="Blocks before the class tokens come in.")] = 0


def check(options: Options, scale: Scale, shape: Shape, grid: tuple[int, int]) -> None:
    """Raises ConfigError where the sizes do not fit each other, the input (channels, H, W) or the grid."""
    check_transformer(scale, shape, grid)
    if scale.width // scale.heads % 4:
        raise ConfigError(
            f"the width of a head must be a multiple of 4, not {scale.width // scale.heads} (width / heads)"
        )
    if options.context and options.context_start >= scale.depth:
        raise ConfigError(f"context_start must be smaller than depth = {scale.depth}, not {options.context_start}")


def build(options: Options, scale: Scale, shape: Shape, classes: int, grid: tuple[int, int]) -> JiT:
    """Raises ConfigError where its tokens do not lie on the grid."""
    from irepa.models.jit import JiT

    check(options, scale, shape, grid)
    return JiT(shape[1:], shape[0], classes, **scale.transformer(), **options.model_dump())

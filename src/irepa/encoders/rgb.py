"""Raw RGB patches: the target with spatial structure and no semantics at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(Strict):
    margin: int = Field(0, ge=0, description="Pixels around its patch that a token holds too, each way.")


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where the margin is longer than the image that goes on by reflection."""
    if options.margin >= image_size:
        raise ConfigError(f"margin = {options.margin} does not fit dataset.image_size = {image_size}")


class RgbPatches(Encoder):
    """Each token holds the pixels in [-1, 1] of its patch and the margin around it, channel by channel.

    dim = 3 * (patch height + 2 * margin) * (patch width + 2 * margin). Images go on by reflection.
    """

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch.nn.functional as F

        from irepa.images import to_unit
        from irepa.tokens import Tokens

        patch, margin = (images.shape[2] // self.grid[0], images.shape[3] // self.grid[1]), self.options.margin
        pixels = F.pad(to_unit(images), (margin,) * 4, mode="reflect")
        window = (patch[0] + 2 * margin, patch[1] + 2 * margin)
        return Tokens(F.unfold(pixels, window, stride=patch).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=RgbPatches, check_grid=check_grid)

"""Raw RGB patches: the target with spatial structure and no semantics at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(Strict):
    window: Positive | None = Field(
        None,
        description="Side of the square, centred on a token's patch, that the token holds, pixels; null: the patch.",
    )


def halo(window: int, patch: int, side: int) -> int:
    """Pixels of a window on either side of its patch. Raises ConfigError where it is not centred or larger than the image."""
    around = window - patch
    if around < 0 or around % 2 or around // 2 >= side:
        raise ConfigError(f"a window of {window} pixels has no whole margin around patches of {patch} in {side} pixels")
    return around // 2


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where a window does not lie around its patch."""
    for side in grid if options.window else ():
        halo(options.window or 0, image_size // side, image_size)


class RgbPatches(Encoder):
    """Each token holds its patch's pixels in [-1, 1]: dim = 3 * patch height * patch width, channel by channel.

    With a ``window`` it holds the pixels around the patch too, dim = 3 * window * window; images go on by reflection.
    """

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch.nn.functional as F

        from irepa.images import to_unit
        from irepa.tokens import Tokens

        patch = (images.shape[2] // self.grid[0], images.shape[3] // self.grid[1])
        pixels, window = to_unit(images), self.options.window
        if window is None:
            return Tokens(F.unfold(pixels, patch, stride=patch).transpose(1, 2), self.grid)
        rows, columns = (halo(window, side, whole) for side, whole in zip(patch, images.shape[2:], strict=True))
        around = F.pad(pixels, (columns, columns, rows, rows), mode="reflect")
        return Tokens(F.unfold(around, window, stride=patch).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=RgbPatches, check_grid=check_grid)

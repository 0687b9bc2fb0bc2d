"""Dense SIFT descriptors (Lowe, 2004), by kornia: a classical target (E3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(Strict):
    input_size: Positive = Field(64, description="Side to which images are resized, pixels.")
    bin_size: Positive = Field(4, description="Side of each of a descriptor's 4 x 4 bins, pixels of the resized image.")
    stride: Positive = Field(4, description="Distance between descriptors, pixels of the resized image.")


class DenseSift(Encoder):
    """A 128-dimensional descriptor every ``stride`` pixels of the resized grey image, averaged over each token's area."""

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        from kornia.feature import DenseSIFTDescriptor

        super().__init__(options, grid, device)
        self.size = (options.input_size, options.input_size)
        self.describe = DenseSIFTDescriptor(
            spatial_bin_size=options.bin_size, stride=options.stride, padding=2 * options.bin_size
        ).to(device)

    def forward(self, images: Tensor) -> Tokens:
        from kornia.color import rgb_to_grayscale

        from irepa.images import resize
        from irepa.tokens import Tokens, resample

        maps = self.describe(rgb_to_grayscale(resize(images.float() / 255, self.size)))
        tokens = maps.flatten(2).transpose(1, 2)
        return Tokens(resample(tokens, (maps.shape[2], maps.shape[3]), self.grid), self.grid)


LIBRARY = Library(encoder=DenseSift)

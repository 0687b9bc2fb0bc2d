"""Raw RGB patches: the target with spatial structure and no semantics at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.config.options import Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Tokens


class Options(Strict):
    """Nothing to choose."""


class RgbPatches(Encoder):
    """Each token holds its patch's pixels in [-1, 1]: dim = 3 * patch height * patch width, channel by channel."""

    def forward(self, images: Tensor) -> Tokens:
        import torch.nn.functional as F

        from irepa.images import to_unit
        from irepa.tokens import Tokens

        patch = (images.shape[2] // self.grid[0], images.shape[3] // self.grid[1])
        return Tokens(F.unfold(to_unit(images), patch, stride=patch).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=RgbPatches)

"""SIFT descriptors (Lowe, 2004) of one oriented key point per token, by kornia, as the released code takes them (E3)."""

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
    patch: Positive = Field(41, description="Side of the patch that is described, samples.")
    orienting_patch: Positive = Field(20, description="Side of the patch whose dominant gradient turns it, samples.")
    angles: Positive = Field(8, description="Bins of each histogram.")
    bins: Positive = Field(4, description="Histograms along each side of the patch.")
    clip: float = Field(0.2, gt=0, description="Largest share of one bin before the last normalisation.")


class SiftKeypoints(Encoder):
    """dim = angles * bins * bins numbers of length 1, around the centre of each token, of the grey image.

    A key point reaches as far from its centre as the next one lies: 16 pixels on a 16x16 grid at 256 px.
    """

    options: Options

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        from kornia.feature import LAFDescriptor, LAFOrienter, SIFTDescriptor

        super().__init__(options, grid, device)
        sift = SIFTDescriptor(options.patch, options.angles, options.bins, rootsift=False, clipval=options.clip)
        self.orient = LAFOrienter(options.orienting_patch).to(device).requires_grad_(False)
        self.describe = LAFDescriptor(sift, options.patch).to(device).requires_grad_(False)

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from kornia.color import rgb_to_grayscale
        from kornia.feature import laf_from_center_scale_ori
        from torch.nn.functional import normalize

        from irepa.tokens import Tokens

        grey = rgb_to_grayscale(images.float() / 255)
        height, width = images.shape[2] / self.grid[0], images.shape[3] / self.grid[1]
        y, x = (
            (torch.arange(n, device=images.device) + 0.5) * side
            for n, side in zip(self.grid, (height, width), strict=True)
        )
        centres = torch.cartesian_prod(y, x).flip(1).expand(len(images), -1, 2)
        reach = torch.full((*centres.shape[:2], 1, 1), (height * width) ** 0.5, device=images.device)
        frames = self.orient(laf_from_center_scale_ori(centres, reach), grey)
        return Tokens(normalize(self.describe(grey, frames), dim=-1), self.grid)


LIBRARY = Library(encoder=SiftKeypoints)

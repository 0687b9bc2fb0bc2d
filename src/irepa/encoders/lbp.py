"""Histograms of local binary patterns (Ojala et al., 2002), by scikit-image: a classical target (E3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Tokens

NEIGHBOURS = 8
CODES = NEIGHBOURS * (NEIGHBOURS - 1) + 3  # uniform patterns, each by its direction, and one code for all others


class Options(Strict):
    radii: tuple[Positive, ...] = Field((1, 2), min_length=1, description="Of the circles of 8 neighbours, pixels.")
    spread: int = Field(2, ge=0, description="Pixels by which a histogram reaches beyond its pixel, each way.")


class Lbp(Encoder):
    """dim = radii * 59: shares of the uniform patterns among the pixels in and around each token, of the grey image."""

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from skimage.color import rgb2gray
        from skimage.feature import local_binary_pattern
        from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, one_hot

        from irepa.tokens import Tokens

        reach, furthest = self.options.spread, max(self.options.radii)
        codes = []
        for image in images.permute(0, 2, 3, 1).cpu().numpy():
            # As bytes: what is equal in the image stays equal, whatever rounds.
            grey = np.pad(np.round(255 * rgb2gray(image)).astype(np.uint8), furthest, mode="reflect")
            found = [local_binary_pattern(grey, NEIGHBOURS, radius, "nri_uniform") for radius in self.options.radii]
            codes.append(np.stack(found)[:, furthest:-furthest, furthest:-furthest])
        planes = one_hot(torch.from_numpy(np.stack(codes)).long(), CODES).permute(0, 1, 4, 2, 3).flatten(1, 2).float()
        near = avg_pool2d(planes, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
        return Tokens(adaptive_avg_pool2d(near, self.grid).flatten(2).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=Lbp)

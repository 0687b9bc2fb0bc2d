"""Intensities, edges and curvature at several scales, scikit-image's features of pixels: a classical target.

What interactive segmentation is fed with (ilastik: Sommer et al., 2011; Arganda-Carreras et al., 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Tokens


class Options(Strict):
    finest: float = Field(0.5, gt=0, description="Standard deviation of the narrowest Gaussian, pixels.")
    coarsest: float = Field(4.0, gt=0, description="Of the widest, pixels; each between them is twice the one before.")
    intensity: bool = Field(True, description="Whether blurred colours are among the features.")


class Multiscale(Encoder):
    """At each scale and colour the blurred value, the length of its gradient and the two curvatures, averaged over a token."""

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from skimage.feature import multiscale_basic_features
        from torch.nn.functional import adaptive_avg_pool2d

        from irepa.tokens import Tokens

        options = self.options
        maps = [
            multiscale_basic_features(image, channel_axis=-1, sigma_min=options.finest, sigma_max=options.coarsest,
                                      intensity=options.intensity)
            for image in images.permute(0, 2, 3, 1).cpu().numpy()
        ]  # fmt: skip
        planes = torch.from_numpy(np.stack(maps)).float().permute(0, 3, 1, 2)
        return Tokens(adaptive_avg_pool2d(planes, self.grid).flatten(2).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=Multiscale)

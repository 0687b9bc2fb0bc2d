"""Dense DAISY descriptors (Tola et al., 2010), by scikit-image: a classical target (E3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Tokens


class Options(Strict):
    input_size: Positive = Field(64, description="Side to which images are resized, pixels.")
    step: Positive = Field(4, description="Distance between descriptors, pixels of the resized image.")
    radius: Positive = Field(8, description="Of the outermost ring, pixels of the resized image.")
    rings: Positive = Field(2, description="Rings of histograms around each descriptor's centre.")
    histograms: Positive = Field(6, description="Histograms on each ring.")
    orientations: Positive = Field(8, description="Bins of each histogram.")


class Daisy(Encoder):
    """dim = (rings * histograms + 1) * orientations numbers per place of the grey image, averaged over each token's area."""

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from skimage.color import rgb2gray
        from skimage.feature import daisy

        from irepa.images import resize
        from irepa.tokens import Tokens, resample

        options = self.options
        size = (options.input_size, options.input_size)
        maps = []
        for image in resize(images.float() / 255, size).permute(0, 2, 3, 1).cpu().numpy():
            # Descriptors are centred at least a radius from the border; the image goes on by reflection.
            padded = np.pad(rgb2gray(image), options.radius, mode="reflect")
            maps.append(
                daisy(padded, step=options.step, radius=options.radius, rings=options.rings,
                      histograms=options.histograms, orientations=options.orientations)
            )  # fmt: skip
        descriptors = torch.from_numpy(np.stack(maps)).float()
        rows, columns = descriptors.shape[1:3]
        return Tokens(resample(descriptors.flatten(1, 2), (rows, columns), self.grid), self.grid)


LIBRARY = Library(encoder=Daisy)

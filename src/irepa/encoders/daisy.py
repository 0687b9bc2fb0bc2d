"""Dense DAISY descriptors (Tola et al., 2010), by scikit-image: a classical target (E3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from irepa.config.options import Positive, Strict
from irepa.images import resize
from irepa.tokens import Tokens, resample


class Options(Strict):
    """Pixels of the resized image: a descriptor every ``step``, over rings out to ``radius``."""

    input_size: Positive = 64
    step: Positive = 4
    radius: Positive = 8
    rings: Positive = 2
    histograms: Positive = 6
    orientations: Positive = 8


def check(name: str, options: Options) -> None:
    """Nothing to find."""


class Daisy:
    """(rings * histograms + 1) * orientations numbers per place of the grey image, averaged over each token's area."""

    def __init__(self, options: Options, grid: tuple[int, int]) -> None:
        self.options, self.grid = options, grid

    def __call__(self, images: Tensor) -> Tokens:
        from skimage.color import rgb2gray
        from skimage.feature import daisy

        chosen = self.options
        size = (chosen.input_size, chosen.input_size)
        maps = []
        for image in resize(images.float() / 255, size).permute(0, 2, 3, 1).cpu().numpy():
            # Descriptors are centred at least a radius from the border; the image goes on by reflection.
            padded = np.pad(rgb2gray(image), chosen.radius, mode="reflect")
            maps.append(
                daisy(padded, step=chosen.step, radius=chosen.radius, rings=chosen.rings,
                      histograms=chosen.histograms, orientations=chosen.orientations)
            )  # fmt: skip
        found = torch.from_numpy(np.stack(maps)).float()
        rows, columns = found.shape[1:3]
        return Tokens(resample(found.flatten(1, 2), (rows, columns), self.grid), self.grid)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> Daisy:
    return Daisy(options, grid)

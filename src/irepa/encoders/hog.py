"""Histograms of oriented gradients (Dalal and Triggs, 2005), by scikit-image: a classical target (E3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(Strict):
    orientations: Positive = Field(9, description="Bins of each histogram.")
    cells_per_token: Positive = Field(1, description="Histograms inside a token, along each side.")


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where an image has not as many histograms along a side as its tokens hold."""
    for side in grid:
        cells = side * options.cells_per_token
        if image_size < cells or image_size // (image_size // cells) != cells:
            raise ConfigError(
                f"{cells} histograms along a side (grid x cells_per_token = {side} x {options.cells_per_token}) do not fit "
                f"dataset.image_size = {image_size}"
            )


class Hog(Encoder):
    """Each token holds the normalised histograms of the n x n cells inside it, of the grey image: dim = n * n * orientations."""

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from skimage.color import rgb2gray
        from skimage.feature import hog

        from irepa.tokens import Tokens

        grid, n = self.grid, self.options.cells_per_token
        cell = (images.shape[2] // (grid[0] * n), images.shape[3] // (grid[1] * n))
        rows = []
        for image in images.permute(0, 2, 3, 1).cpu().numpy():
            histograms = hog(
                rgb2gray(image),
                orientations=self.options.orientations,
                pixels_per_cell=cell,
                cells_per_block=(1, 1),
                feature_vector=False,
            )[:, :, 0, 0]
            tokens = histograms.reshape(grid[0], n, grid[1], n, -1).transpose(0, 2, 1, 3, 4)
            rows.append(tokens.reshape(grid[0] * grid[1], -1))
        return Tokens(torch.from_numpy(np.stack(rows)).float(), grid)


LIBRARY = Library(encoder=Hog, check_grid=check_grid)

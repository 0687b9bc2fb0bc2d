"""Gabor energies (Manjunath and Ma, 1996), with the kernels of scikit-image: a classical target (E3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens

DEVIATIONS = 3.0  # of the Gaussian envelope, at which a kernel ends


class Options(Strict):
    highest: float = Field(0.36, gt=0, le=0.5, description="Highest frequency, cycles per pixel.")
    scales: Positive = Field(3, description="Frequencies, each half of the one before.")
    orientations: Positive = Field(8, description="Directions, evenly over half a turn.")


def envelope(frequency: float) -> float:
    """Standard deviation, pixels, of the Gaussian that gives a bandwidth of one octave."""
    return math.sqrt(math.log(2) / 2) / math.pi * 3 / frequency


def half_width(frequency: float) -> int:
    """Pixels of a kernel on either side of its centre."""
    return math.ceil(DEVIATIONS * envelope(frequency))


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where the widest kernel does not fit an image that goes on by reflection."""
    widest = half_width(options.highest / 2 ** (options.scales - 1))
    if widest >= image_size:
        raise ConfigError(f"a Gabor kernel of {2 * widest + 1} pixels does not fit dataset.image_size = {image_size}")


def kernels(frequency: float, orientations: int) -> Tensor:
    """Complex kernels (orientations, side, side) whose real and imaginary parts each sum to nought."""
    import numpy as np
    import torch
    from skimage.filters import gabor_kernel

    sigma, half = envelope(frequency), half_width(frequency)
    place = np.arange(-half, half + 1)
    gaussian = np.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))
    bank = []
    for number in range(orientations):
        # Wide enough in every direction; cut to the same side.
        wide = gabor_kernel(
            frequency, math.pi * number / orientations, sigma_x=sigma, sigma_y=sigma, n_stds=2 * DEVIATIONS
        )
        row, column = (side // 2 for side in wide.shape)
        kernel = wide[row - half : row + half + 1, column - half : column + half + 1]
        bank.append(kernel - gaussian * kernel.sum() / gaussian.sum())
    return torch.from_numpy(np.stack(bank))


class Gabor(Encoder):
    """dim = scales * orientations: the mean length of the complex response over each token's area of the grey image."""

    options: Options

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        super().__init__(options, grid, device)
        self.banks = [
            kernels(options.highest / 2**scale, options.orientations).to(device) for scale in range(options.scales)
        ]

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from kornia.color import rgb_to_grayscale
        from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad

        from irepa.tokens import Tokens

        grey = rgb_to_grayscale(images.float() / 255)
        maps = []
        for bank in self.banks:
            half = bank.shape[-1] // 2
            around = pad(grey, (half, half, half, half), mode="reflect")
            real, imaginary = (conv2d(around, part[:, None].float()) for part in (bank.real, bank.imag))
            maps.append(adaptive_avg_pool2d(torch.hypot(real, imaginary), self.grid))
        return Tokens(torch.cat(maps, dim=1).flatten(2).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=Gabor, check_grid=check_grid)

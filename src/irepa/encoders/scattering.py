"""Wavelet scattering of two orders (Bruna and Mallat, 2013; of CIFAR: Oyallon and Mallat, 2015): a classical target.

Morlet wavelets as in Kymatio (Andreux et al., 2020), which does not import beside SciPy 1.17.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.encoders import Encoder, Library
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.tokens import Grid, Tokens

SIGMA, XI = (
    0.8,
    3 / 4 * math.pi,
)  # of the finest wavelet: width of its envelope, pixels, and frequency, radians per pixel


class Options(Strict):
    scales: Positive = Field(2, description="Wavelets are 1, 2, 4 and so on times the finest.")
    orientations: Positive = Field(8, description="Directions, evenly over half a turn.")


def margin(options: Options) -> int:
    """Pixels by which an image is continued on each side."""
    return int(2**options.scales)


def check_grid(options: Options, grid: Grid, image_size: int) -> None:
    """Raises ConfigError where the continuation by reflection is longer than the image."""
    if margin(options) >= image_size:
        raise ConfigError(f"scales = {options.scales} of scattering do not fit dataset.image_size = {image_size}")


def gabor(size: Grid, sigma: float, angle: float, xi: float, slant: float) -> Tensor:
    """A Gabor function of integral 1 at frequency 0, on a torus (H, W), centred at its first pixel: complex128."""
    import torch

    def coordinates(length: int) -> Tensor:
        place = torch.arange(length, dtype=torch.float64)
        return place + length * torch.arange(-2, 3, dtype=torch.float64)[:, None]  # (turns, length)

    rows, columns = (coordinates(length) for length in size)
    down, right = rows[:, None, :, None], columns[None, :, None, :]
    along = down * math.cos(angle) + right * math.sin(angle)
    across = down * math.sin(angle) - right * math.cos(angle)
    envelope = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2))
    waves = torch.polar(envelope, xi * along)
    turned: Tensor = waves.sum(dim=(0, 1)) * slant / (2 * math.pi * sigma**2)
    return turned


def morlet(size: Grid, scale: int, angle: float, orientations: int) -> Tensor:
    """A wavelet on a torus (H, W), whose sum is nought: complex128."""
    slant, sigma = 4 / orientations, SIGMA * 2**scale
    wave = gabor(size, sigma, angle, XI / 2**scale, slant)
    envelope = gabor(size, sigma, angle, 0.0, slant)
    return wave - envelope * wave.sum() / envelope.sum()


@functools.cache
def spectra(size: Grid, scales: int, orientations: int) -> Tensor:
    """Fourier transforms of all wavelets on a torus: (scales, orientations, H, W) complex64."""
    import torch

    angles = [math.pi * number / orientations for number in range(orientations)]
    bank = [torch.stack([morlet(size, scale, angle, orientations) for angle in angles]) for scale in range(scales)]
    found: Tensor = torch.fft.fft2(torch.stack(bank)).to(torch.complex64)
    return found


def averages(length: int, around: int, tokens: int, sigma: float) -> Tensor:
    """Gaussian averages about each token along one side: (tokens, length + 2 * around), rows of sum 1."""
    import torch

    place = torch.arange(length + 2 * around, dtype=torch.float64) - around
    weight = torch.exp(-((place - torch.arange(length)[:, None]) ** 2) / (2 * sigma**2))
    weight /= weight.sum(dim=1, keepdim=True)
    return torch.nn.functional.adaptive_avg_pool1d(weight.T[None], tokens)[0].T


class Scattering(Encoder):
    """Averages of x, of |x * w| and of ||x * w| * w'|, where w' is coarser than w, for red, green and blue.

    dim = 3 * (1 + J L + L^2 J (J - 1) / 2) for J scales and L directions: 243.
    """

    options: Options

    def forward(self, images: Tensor) -> Tokens:
        import torch
        from torch.nn.functional import pad

        from irepa.tokens import Tokens

        scales, around, sides = self.options.scales, margin(self.options), images.shape[2:]
        size = (sides[0] + 2 * around, sides[1] + 2 * around)
        unit = pad(images.float() / 255, (around,) * 4, mode="reflect")
        bank = spectra(size, scales, self.options.orientations).to(unit.device)
        sigma = SIGMA * 2 ** (scales - 1)
        rows, columns = (
            averages(side, around, tokens, sigma).to(unit) for side, tokens in zip(sides, self.grid, strict=True)
        )

        def lengths(planes: Tensor, scale: int) -> Tensor:
            """(batch, n, H, W) to (batch, n * L, H, W)."""
            waves: Tensor = torch.fft.ifft2(torch.fft.fft2(planes)[:, :, None] * bank[scale])
            return waves.abs().flatten(1, 2)

        planes = [unit]
        for first in range(scales):
            found = lengths(unit, first)
            planes += [found, *(lengths(found, second) for second in range(first + 1, scales))]
        maps = rows @ torch.cat(planes, dim=1) @ columns.T
        return Tokens(maps.flatten(2).transpose(1, 2), self.grid)


LIBRARY = Library(encoder=Scattering, check_grid=check_grid)

"""From images to what the diffusion model sees, and back. One module per autoencoder.

Each has ``Options``, ``build(options, image_size, device)`` and ``describe(options, image_size)``, which needs no weights.
Those with a posterior have ``PRECOMPUTABLE = True`` and build a :class:`LatentAutoencoder`, whose moments can be computed once
and sampled anew at each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class AutoencoderFacts:
    """``shape``: (channels, H, W) of what the model sees; flops per image, a multiply-add counted as two."""

    shape: tuple[int, int, int]
    encode_flops: int
    decode_flops: int


class Autoencoder(Protocol):
    shape: tuple[int, int, int]

    def encode(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) uint8 -> latents (batch, *shape) float32; the posterior's mean where there is one."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, *shape) -> images (batch, 3, H, W) uint8."""


class LatentAutoencoder(Autoencoder, Protocol):
    def moments(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) uint8 -> mean and standard deviation of the posterior (batch, 2 * channels, h, w)."""

    def sample(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Moments and standard normal noise (batch, *shape) -> scaled latents (batch, *shape)."""

"""From images to what the diffusion model sees, and back. One module per autoencoder.

Each has ``Options`` and ``build(options, image_size)``, whose result has ``shape`` (channels, H, W), ``encode`` and ``decode``.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Autoencoder(Protocol):
    shape: tuple[int, int, int]

    def encode(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) uint8 -> latents (batch, *shape) float32."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, *shape) -> images (batch, 3, H, W) uint8."""

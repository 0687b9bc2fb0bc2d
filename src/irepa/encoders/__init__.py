"""Vision encoders as frozen feature extractors: one module per library.

Each module has ``Options`` (the encoder's row in ``workflow/encoders.yaml``), ``check(name, options)``, which refuses what
this machine lacks, and ``build(options, grid, device)`` and/or ``build_extractor(options, device)``, for alignment targets and
for judges of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What an encoder says of a batch of images.

    Attributes:
        patch: (batch, h*w, dim) float32, row by row.
        grid: (h, w), the encoder's own grid.
        global_token: (batch, dim) float32, or None where the encoder has none.
    """

    patch: Tensor
    grid: tuple[int, int]
    global_token: Tensor | None = None


class Encoder(Protocol):
    def __call__(self, images: Tensor) -> Tokens:
        """Images (batch, 3, H, W) uint8, on the encoder's device, to tokens."""


class Extractor(Protocol):
    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (batch, 3, H, W) uint8 to (pooled feature (batch, dim),), or with class logits as a second element."""


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, antialiased when shrinking; float images (batch, 3, H, W) in [0, 1] to (batch, 3, *size)."""
    import torch.nn.functional as F

    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def standardise(images: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 images (batch, 3, H, W) to what a network was trained on: (batch, 3, *size) float32."""
    x = resize(images.float() / 255, size)
    centre, spread = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (mean, std))
    return (x - centre) / spread

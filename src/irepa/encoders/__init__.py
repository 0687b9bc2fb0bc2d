"""Vision encoders as frozen feature extractors: one module per library.

Each module has ``Options`` (the encoder's row in ``workflow/encoders.yaml``), ``check(name, options)``, which refuses what
this machine lacks, and ``build(options)`` and/or ``build_extractor(name, options)``, for alignment targets and for judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tokens:
        """Images (batch, 3, H, W) uint8 to tokens. ``grid`` is the tier's, for encoders that can choose theirs."""


class Extractor(Protocol):
    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (batch, 3, H, W) uint8 to one pooled feature (batch, dim), for Frechet and kernel distances."""


def resize(images: Tensor, size: int) -> Tensor:
    """Bicubic, antialiased when shrinking; float images (batch, 3, H, W) to (batch, 3, size, size)."""
    import torch.nn.functional as F

    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)

"""Vision encoders as frozen feature extractors: one module per library.

Each module has ``Options`` (the encoder's row in ``workflow/encoders.yaml``), ``check(name, options)``, which refuses what
this machine lacks, and ``build(options, grid, device)`` and/or ``build_extractor(options, device)``, for alignment targets and
for judges of samples.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from irepa.tokens import Tokens


class Encoder(Protocol):
    def __call__(self, images: Tensor) -> Tokens:
        """Images (batch, 3, H, W) uint8, on the encoder's device, to tokens."""


class Extractor(Protocol):
    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (batch, 3, H, W) uint8 to (pooled feature (batch, dim),), or with class logits as a second element."""

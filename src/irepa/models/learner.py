"""A vision transformer while it is trained as an encoder: what :mod:`irepa.objectives` equip and call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Learner(nn.Module):
    """A transformer of timm's with the heads of one objective.

    Args:
        vit: with a class token.
        mean, std: of its input, per channel, for images in [0, 1].
    """

    def __init__(self, vit: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.vit = vit
        self.head: Any = nn.Identity()
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def standardised(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in [0, 1] -> what the transformer takes, same shape."""
        return (images - self.mean) / self.std

    def class_token(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in [0, 1] -> (batch, width)."""
        token: Tensor = self.vit.forward_features(self.standardised(images))[:, 0]
        return token

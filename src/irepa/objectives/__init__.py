"""What the pipeline's own encoders are trained for: one module per objective.

Each has ``Options`` and ``build(options)``. An objective adds the heads that it needs to a vision transformer, and has a
loss on images in [0, 1], in the shape that :func:`irepa.engine.trainer.train` asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from irepa.random import StepRandom
from irepa.recipes import Align


class Learner(nn.Module):
    """A transformer of timm's with the heads of one objective.

    Args:
        vit: with a class token.
        mean, std: of its input, for images in [0, 1].
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
        return (images - self.mean) / self.std

    def class_token(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in [0, 1] -> (batch, width)."""
        found: Tensor = self.vit.forward_features(self.standardised(images))[:, 0]
        return found


class Objective(Protocol):
    def equip(self, learner: Learner, classes: int) -> None:
        """Give the learner the heads of this objective, initialised from torch's random state."""

    def loss(self, network: Any, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        """Terms of the loss: network a :class:`Learner`, x (batch, 3, H, W) in [0, 1], labels (batch,); ``align`` is unused."""

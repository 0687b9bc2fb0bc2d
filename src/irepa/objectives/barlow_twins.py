"""Barlow Twins (Zbontar et al., 2021; by lightly): each number that describes a view is that of the other view, and no other.

    loss = sum over k of (1 - C_kk)^2 + redundancy * sum over k != l of C_kl^2

C_kl is the correlation over the batch of number k of one view with number l of the other, both of projected vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive
from irepa.objectives import Objective
from irepa.objectives._views import ViewOptions, two_views

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(ViewOptions):
    hidden: Positive = Field(256, description="Width of the projection head's hidden layers.")
    output: Positive = Field(256, description="Width of what is compared.")
    redundancy: float = Field(0.005, ge=0, description="Weight of correlations between different numbers.")


class BarlowTwins(Objective):
    def __init__(self, options: Options) -> None:
        from lightly.loss import BarlowTwinsLoss

        self.options = options
        self.compare = BarlowTwinsLoss(options.redundancy)

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import BarlowTwinsProjectionHead

        learner.head = BarlowTwinsProjectionHead(learner.width, self.options.hidden, self.options.output)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        import torch

        projected = learner.head(learner.pooled(two_views(images, rng, self.options)))
        with torch.autocast(projected.device.type, enabled=False):  # correlations of many numbers add up their rounding
            return {"correlation": self.compare(*projected.float().chunk(2))}


def build(options: Options) -> BarlowTwins:
    return BarlowTwins(options)

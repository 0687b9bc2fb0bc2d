"""VICReg (Bardes et al., 2022; by lightly): views of an image are alike, and the numbers that describe them vary and differ.

    loss = invariance * mean (z_i - z_j)^2 + variance * mean over numbers of max(0, 1 - std) + covariance * sum of C_kl^2 / dim

z are projected vectors of two views; std and C, the covariances of pairs k != l of numbers, are those over the batch.
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
    invariance: float = Field(25.0, ge=0, description="Weight of how views of one image differ.")
    variance: float = Field(25.0, ge=0, description="Weight of numbers that vary too little.")
    covariance: float = Field(1.0, ge=0, description="Weight of numbers that vary together.")


class Vicreg(Objective):
    def __init__(self, options: Options) -> None:
        from lightly.loss import VICRegLoss

        self.options = options
        self.compare = VICRegLoss(options.invariance, options.variance, options.covariance)

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules.heads import VICRegProjectionHead

        learner.head = VICRegProjectionHead(learner.width, self.options.hidden, self.options.output)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        one, other = learner.head(learner.pooled(two_views(images, rng, self.options))).float().chunk(2)
        return {"vicreg": self.compare(one, other)}


def build(options: Options) -> Vicreg:
    return Vicreg(options)

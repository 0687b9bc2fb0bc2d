"""SimCLR (Chen et al., 2020; by lightly): views of one image are alike, views of two images are not.

    loss = mean over views i of -log(exp(s_ij / temperature) / sum over k != i of exp(s_ik / temperature))

j is the other view of the same image, s the cosine similarity of the projected vectors of views.
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
    temperature: float = Field(0.2, gt=0, description="Temperature of the softmax over similarities.")
    hidden: Positive = Field(256, description="Width of the projection head's hidden layer.")
    output: Positive = Field(64, description="Width of what is compared.")


class Contrastive(Objective):
    def __init__(self, options: Options) -> None:
        from lightly.loss import NTXentLoss

        self.options = options
        self.contrast = NTXentLoss(temperature=options.temperature)

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import SimCLRProjectionHead

        learner.head = SimCLRProjectionHead(learner.width, self.options.hidden, self.options.output)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        one, other = learner.head(learner.pooled(two_views(images, rng, self.options))).float().chunk(2)
        return {"contrast": self.contrast(one, other)}


def build(options: Options) -> Contrastive:
    return Contrastive(options)

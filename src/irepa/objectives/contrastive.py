"""SimCLR (Chen et al., 2020; by lightly): views of one image have like class tokens, views of two images have not.

    loss = mean over views i of -log(exp(s_ij / temperature) / sum over k != i of exp(s_ik / temperature))

j is the other view of the same image, s the cosine similarity of projected class tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Fraction, Positive, Strict
from irepa.objectives import Objective
from irepa.objectives._views import crop_and_flip, jitter

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(Strict):
    smallest: float = Field(0.2, gt=0, le=1, description="Share of the image's area that a view has at least.")
    jitter: Fraction = Field(
        0.4, description="Strength of a view's changes of brightness, contrast, saturation and hue."
    )
    grey: Fraction = Field(0.2, description="Share of the views without colour.")
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

        learner.head = SimCLRProjectionHead(learner.vit.embed_dim, self.options.hidden, self.options.output)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        import torch

        o = self.options
        views = [jitter(crop_and_flip(images, rng, o.smallest), rng, o.jitter, o.grey) for _ in range(2)]
        one, other = learner.head(learner.class_token(torch.cat(views))).float().chunk(2)
        return {"contrast": self.contrast(one, other)}


def build(options: Options) -> Contrastive:
    return Contrastive(options)

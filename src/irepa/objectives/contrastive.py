"""SimCLR (Chen et al., 2020): two views of an image have the same class token, views of different images do not; by lightly."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from irepa.config.options import Fraction, Positive, Strict
from irepa.objectives import Learner
from irepa.objectives._augment import crop_and_flip, jitter
from irepa.random import StepRandom
from irepa.recipes import Align


class Options(Strict):
    """``smallest``: share of the image's area in a view; ``jitter``, ``grey``: changes of its colours."""

    smallest: Annotated[float, Field(gt=0, le=1)] = 0.2
    jitter: Fraction = 0.4
    grey: Fraction = 0.2
    temperature: Annotated[float, Field(gt=0)] = 0.2
    hidden: Positive = 256
    output: Positive = 64


class Contrastive:
    def __init__(self, options: Options) -> None:
        from lightly.loss import NTXentLoss

        self.options = options
        self.contrast = NTXentLoss(temperature=options.temperature)

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import SimCLRProjectionHead

        learner.head = SimCLRProjectionHead(learner.vit.embed_dim, self.options.hidden, self.options.output)

    def loss(self, network: Learner, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        options = self.options
        views = [jitter(crop_and_flip(x, rng, options.smallest), rng, options.jitter, options.grey) for _ in range(2)]
        one, other = network.head(network.class_token(torch.cat(views))).float().chunk(2)
        return {"contrast": self.contrast(one, other)}


def build(options: Options) -> Contrastive:
    return Contrastive(options)

"""Classification from the class token: the kind of encoder that knows what is in an image, and little of where.

The loss is the cross-entropy of the labels, smoothed, and a linear layer on the class token of a random crop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Fraction, Strict
from irepa.objectives import Objective
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(Strict):
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")
    label_smoothing: Fraction = Field(0.1, description="Share of each label that is spread over all classes.")


class Supervised(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from torch import nn

        learner.head = nn.Linear(learner.vit.embed_dim, classes)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        from torch.nn.functional import cross_entropy

        logits = learner.head(learner.class_token(crop_and_flip(images, rng, self.options.smallest)))
        return {"cross_entropy": cross_entropy(logits.float(), labels, label_smoothing=self.options.label_smoothing)}


def build(options: Options) -> Supervised:
    return Supervised(options)

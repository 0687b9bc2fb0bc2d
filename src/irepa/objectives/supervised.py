"""Classification from the class token: the kind of encoder that knows what is in an image, and little of where."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from irepa.config.options import Fraction, Strict
from irepa.objectives import Learner
from irepa.objectives._augment import crop_and_flip
from irepa.random import StepRandom
from irepa.recipes import Align


class Options(Strict):
    """``smallest``: share of the image's area that a random crop has at least."""

    smallest: Annotated[float, Field(gt=0, le=1)] = 0.5
    label_smoothing: Fraction = 0.1


class Supervised:
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        learner.head = nn.Linear(learner.vit.embed_dim, classes)

    def loss(self, network: Learner, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        logits = network.head(network.class_token(crop_and_flip(x, rng, self.options.smallest)))
        return {"cross_entropy": cross_entropy(logits.float(), labels, label_smoothing=self.options.label_smoothing)}


def build(options: Options) -> Supervised:
    return Supervised(options)

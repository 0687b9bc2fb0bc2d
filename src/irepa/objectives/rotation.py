"""Rotation (Gidaris et al., 2018): by how many quarters an image is turned.

    loss = -log softmax(W v(turned by q quarters))_q

v is the vector of a random crop. The paper shows all four turns of an image in each step; here each image has one, drawn anew
each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Strict
from irepa.errors import ConfigError
from irepa.objectives import Objective
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(Strict):
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")


def turned(images: Tensor, quarters: Tensor) -> Tensor:
    """Square images (batch, 3, H, H), each turned counter-clockwise by its quarters, (batch,) int64 in 0..3."""
    import torch

    turns = torch.stack([torch.rot90(images, turn, dims=(2, 3)) for turn in range(4)])
    return turns[quarters, torch.arange(len(images), device=images.device)]


class Rotation(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from torch import nn

        if learner.size[0] != learner.size[1]:
            raise ConfigError(
                f"objective rotation: images of {learner.size[0]}x{learner.size[1]} pixels cannot be turned by a quarter; "
                "choose an encoder that is given square ones"
            )
        learner.head = nn.Linear(learner.width, 4)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        from torch.nn.functional import cross_entropy

        quarters = (4 * rng.uniform()).long()
        views = turned(crop_and_flip(images, rng, self.options.smallest), quarters)
        return {"cross_entropy": cross_entropy(learner.head(learner.pooled(views)).float(), quarters)}


def build(options: Options) -> Rotation:
    return Rotation(options)

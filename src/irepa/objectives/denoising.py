"""Denoising (Vincent et al., 2010): the pixels of an image from a noisy copy.

    loss = mean squared error of D(tokens(x + sigma e)) against x,  e normal

x is a standardised random crop. D is one linear layer, from a token to the pixels of its place: what is known of them stands in
the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Strict
from irepa.objectives import Objective
from irepa.objectives._pixels import check_places, of_places
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(Strict):
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")
    sigma: float = Field(
        1.0, ge=0, description="Standard deviation of the noise, of standardised pixels; 0: none, a plain autoencoder."
    )


class Denoising(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from torch import nn

        learner.head = nn.Linear(learner.width, 3 * check_places(learner, "denoising") ** 2)

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        from irepa.models.learner import read

        clean = learner.standardised(crop_and_flip(images, rng, self.options.smallest))
        noisy = clean + self.options.sigma * rng.normal(*clean.shape[1:])
        pixels = learner.head(read(learner.network, noisy)[0]).float()
        return {"reconstruction": (pixels - of_places(clean, learner)).square().mean()}


def build(options: Options) -> Denoising:
    return Denoising(options)

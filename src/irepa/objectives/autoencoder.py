"""A variational autoencoder (Kingma and Welling, 2014): the whole image through a few numbers.

    loss = mean squared error of D(z) against x + beta / pixels * KL(N(mu, s^2), N(0, 1)),  z = mu + s e,  e normal
    KL = sum over numbers of (mu^2 + s^2 - 1) / 2 - log s

x is a standardised random crop with so many pixels; mu and log s are linear in the image's vector. Without beta nothing is
drawn, z = mu: a plain autoencoder with a bottleneck.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.objectives import Objective
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(Strict):
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")
    latent: Positive = Field(32, description="Numbers that describe an image.")
    hidden: Positive = Field(256, description="Width of the decoder's hidden layer.")
    beta: float = Field(0.5, ge=0, description="Weight of the divergence; 0: a plain autoencoder.")


def divergence(mu: Tensor, log_s: Tensor) -> Tensor:
    """KL(N(mu, s^2), N(0, 1)) of each image, (batch,), for (batch, latent)."""
    return ((mu.square() + (2 * log_s).exp() - 1) / 2 - log_s).sum(dim=1)


class Autoencoder(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from torch import nn

        o = self.options
        narrow = nn.Linear(learner.width, 2 * o.latent)
        pixels = nn.Linear(o.hidden, 3 * learner.size[0] * learner.size[1])
        decode = nn.Sequential(nn.Linear(o.latent, o.hidden), nn.GELU(), pixels)
        learner.head = nn.ModuleDict({"narrow": narrow, "decode": decode})

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        o = self.options
        images = crop_and_flip(images, rng, o.smallest)
        mu, log_s = learner.head["narrow"](learner.pooled(images)).float().chunk(2, dim=1)
        drawn = mu + log_s.exp() * rng.normal(o.latent) if o.beta else mu
        target = learner.standardised(images).flatten(1)
        terms = {"reconstruction": (learner.head["decode"](drawn).float() - target).square().mean()}
        if o.beta:
            terms["divergence"] = o.beta / target.shape[1] * divergence(mu, log_s).mean()
        return terms


def build(options: Options) -> Autoencoder:
    return Autoencoder(options)

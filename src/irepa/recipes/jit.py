"""JiT: the network predicts the clean image, the loss is on the velocity (paper section 5; Li and He, 2025).

z_t = t x + (1 - t) eps, where t = 1 is data; t = sigmoid(N(mean, spread^2)). With x' = network(z, t): v' = (x' - z)
/ max(1 - t, floor),
v = (x - z) / max(1 - t, floor), loss = mean |v' - v|^2. Samplers here run from time 1 (noise) to 0 (data), so they
are given -v' at t = 1 - time.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from irepa.config.options import Strict
from irepa.random import StepRandom
from irepa.recipes import Align, Velocity
from irepa.recipes.sit import interpolate


class Options(Strict):
    """``mean``, ``spread``: of the normal whose sigmoid t is. ``floor``: 1 - t is taken for no less."""

    mean: float = -0.8
    spread: Annotated[float, Field(gt=0)] = 0.8
    floor: Annotated[float, Field(gt=0, lt=1)] = 0.05


class JiTRecipe:
    def __init__(self, options: Options) -> None:
        self.options = options

    def velocity_of(self, predicted: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """(x - z) / max(1 - t, floor) for a clean image x, exact or predicted: x, z (batch, C, H, W), t (batch,)."""
        return (predicted - z) / (1 - t).clamp_min(self.options.floor).view(-1, 1, 1, 1)

    def loss(self, network: nn.Module, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        t = torch.sigmoid(self.options.mean + self.options.spread * rng.normal())
        z = interpolate(x, rng.normal(*x.shape[1:]), 1 - t)
        predicted, hidden = network(z, t, labels)
        error = self.velocity_of(predicted.float(), z, t) - self.velocity_of(x, z, t)
        return {"denoise": error.square().mean(), "align": align(hidden)}

    def noised(self, x: Tensor, noise: Tensor, t: float) -> tuple[Tensor, Tensor]:
        times = torch.full((len(x),), t, device=x.device)
        return interpolate(x, noise, times), 1 - times

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def v(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            predicted: Tensor = network(x.float(), (1 - t).float(), labels)[0]
            return -self.velocity_of(predicted.to(x.dtype), x, (1 - t).to(x.dtype))

        return v


def build(options: Options) -> JiTRecipe:
    return JiTRecipe(options)

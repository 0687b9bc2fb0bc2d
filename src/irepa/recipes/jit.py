"""JiT: the network predicts the clean image, the loss is on the velocity (paper section 5; Li and He, 2025).

    (1) z_t = t x + (1 - t) eps, t = sigmoid(N(mean, spread^2))     interpolant: noise at t = 0, data at t = 1
    (2) x' = network(z_t, t, y)                                     the clean image
    (3) v' = (x' - z_t) / max(1 - t, floor)                         its velocity; v in the same way from x
    (4) loss = mean |v' - v|^2

Its time runs the other way round than everywhere else here. Samplers, which go from time 1 (noise) to time 0 (data),
are given -v' at t = 1 - time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Strict
from irepa.recipes import Align, Recipe, Velocity, interpolate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irepa.random import StepRandom


class Options(Strict):
    mean: float = Field(-0.8, description="Mean of the normal whose sigmoid t is.")
    spread: float = Field(0.8, gt=0, description="Standard deviation of that normal.")
    floor: float = Field(0.05, gt=0, lt=1, description="1 - t is taken for no less where velocities are divided by it.")


class JiTRecipe(Recipe):
    def __init__(self, options: Options) -> None:
        self.options = options

    def network_time(self, t: Tensor) -> Tensor:
        return 1 - t

    def velocity_of(self, image: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Of a clean image, exact or predicted: image, z (batch, C, H, W), JiT's t (batch,)."""
        return (image - z) / (1 - t).clamp_min(self.options.floor).view(-1, 1, 1, 1)  # (3)

    def loss(self, network: nn.Module, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        t = (self.options.mean + self.options.spread * rng.normal()).sigmoid()
        z = interpolate(x, rng.normal(*x.shape[1:]), 1 - t)  # (1)
        predicted, hidden = network(z, t, labels)  # (2)
        error = self.velocity_of(predicted.float(), z, t) - self.velocity_of(x, z, t)  # (3)
        return {"denoise": error.square().mean(), "align": align(hidden)}  # (4)

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def v(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            predicted: Tensor = network(x.float(), (1 - t).float(), labels)[0]
            return -self.velocity_of(predicted.to(x.dtype), x, (1 - t).to(x.dtype))

        return v


def build(options: Options) -> JiTRecipe:
    return JiTRecipe(options)

"""SiT: linear interpolant, velocity prediction (paper section 3).

x_t = (1 - t) x + t eps, t ~ U(0, 1); target v = eps - x; loss = mean |u(x_t, t, y) - v|^2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irepa.random import StepRandom
from irepa.recipes import Align, Velocity
from irepa.settings import Strict


class Options(Strict):
    pass


class SiTRecipe:
    def loss(self, network: nn.Module, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        t = rng.uniform()
        noise = rng.normal(*x.shape[1:])
        predicted, hidden = network(_interpolate(x, noise, t), t, labels)
        return {"denoise": (predicted.float() - (noise - x)).square().mean(), "align": align(hidden)}

    def noised(self, x: Tensor, noise: Tensor, t: float) -> tuple[Tensor, Tensor]:
        times = torch.full((len(x),), t, device=x.device)
        return _interpolate(x, noise, times), times

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def v(x: Tensor, t: Tensor) -> Tensor:
            predicted: Tensor = network(x.float(), t.float(), labels)[0]
            return predicted.to(x.dtype)

        return v


def _interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * x + t * noise


def build(options: Options) -> SiTRecipe:
    return SiTRecipe()

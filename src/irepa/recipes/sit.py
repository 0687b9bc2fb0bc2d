"""SiT: linear interpolant, velocity prediction (paper section 3).

x_t = (1 - t) x + t eps, t ~ U(0, 1); target v = eps - x; loss = mean |u(x_t, t, y) - v|^2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from irepa.config.options import Strict
from irepa.random import StepRandom
from irepa.recipes import Align, Velocity


class Options(Strict):
    """``data_at``: the time at which the network is given data. REPA's checkpoints have it at 0, the original SiT's at 1; with
    1 the network is asked for -v at 1 - t."""

    data_at: Literal[0, 1] = 0


class SiTRecipe:
    def __init__(self, data_at: int) -> None:
        self.data_at = data_at

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity at time t, 0 being data, and the hidden tokens."""
        if self.data_at == 0:
            predicted, hidden = network(x, t, labels)
            return predicted, hidden
        backwards, hidden = network(x, 1 - t, labels)
        return -backwards, hidden

    def loss(self, network: nn.Module, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        t = rng.uniform()
        noise = rng.normal(*x.shape[1:])
        predicted, hidden = self.predict(network, interpolate(x, noise, t), t, labels)
        return {"denoise": (predicted.float() - (noise - x)).square().mean(), "align": align(hidden)}

    def noised(self, x: Tensor, noise: Tensor, t: float) -> tuple[Tensor, Tensor]:
        times = torch.full((len(x),), t, device=x.device)
        return interpolate(x, noise, times), times if self.data_at == 0 else 1 - times

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def v(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            return self.predict(network, x.float(), t.float(), labels)[0].to(x.dtype)

        return v


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """(1 - t) x + t noise, for x and noise (batch, C, H, W) and t (batch,)."""
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * x + t * noise


def build(options: Options) -> SiTRecipe:
    return SiTRecipe(options.data_at)

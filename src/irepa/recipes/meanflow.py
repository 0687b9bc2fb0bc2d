"""MeanFlow: the network learns the mean velocity between two times, and one step of it is a sample (paper section 5;
Geng et al., 2025).

z_t = (1 - t) x + t eps, v = eps - x. The mean velocity u(z_t, r, t) = 1 / (t - r) * (integral of v from r to t) satisfies
u = v - (t - r) du/dt along the trajectory, where du/dt is the derivative of u in direction (v, 0, 1) of (z, r, t).
That right-hand side, without gradient, is the target. A sample is x = z_1 - u(z_1, 0, 1).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from irepa.config.options import Fraction, Strict
from irepa.random import StepRandom
from irepa.recipes import Align, Velocity
from irepa.recipes.sit import SiTRecipe, interpolate


class Options(Strict):
    """``mean``, ``spread``: of the normal whose sigmoid the times are. ``apart``: share of pairs with r != t.

    ``power``, ``floor``: the loss of an image is divided by (|error|^2 + floor)^power, without gradient.
    ``omega``, ``kappa``: guidance built into the target, v <- omega v + kappa u(z, t, t | class) + (1 - omega -
    kappa) u(z, t, t);
    1 and 0 are none. The effective scale is omega / (1 - kappa).
    """

    mean: float = -0.4
    spread: Annotated[float, Field(gt=0)] = 1.0
    apart: Fraction = 0.25
    power: Annotated[float, Field(ge=0)] = 1.0
    floor: Annotated[float, Field(gt=0)] = 1e-3
    omega: Annotated[float, Field(ge=1)] = 1.0
    kappa: Annotated[float, Field(ge=0, lt=1)] = 0.0


class MeanFlow(SiTRecipe):
    def __init__(self, options: Options) -> None:
        super().__init__(data_at=0)
        self.options = options

    def times(self, rng: StepRandom) -> tuple[Tensor, Tensor]:
        """(r, t), each (batch,), 0 <= r <= t <= 1."""
        o = self.options
        one, other = (torch.sigmoid(o.mean + o.spread * rng.normal()) for _ in range(2))
        r, t = torch.minimum(one, other), torch.maximum(one, other)
        return torch.where(rng.uniform() < o.apart, r, t), t

    def loss(self, network: nn.Module, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        r, t = self.times(rng)
        noise = rng.normal(*x.shape[1:])
        z = interpolate(x, noise, t)
        v = self.guided(network, z, noise - x, t, labels)
        predicted, change, hidden = derivative(network, z, r, t, labels, v)
        target = (v - (t - r).view(-1, 1, 1, 1) * change).detach()
        error = (predicted.float() - target).square().flatten(1).sum(1)
        weight = (error.detach() + self.options.floor).pow(-self.options.power)
        return {"denoise": (weight * error).mean(), "align": align(hidden)}

    @torch.no_grad()
    def guided(self, network: nn.Module, z: Tensor, v: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The velocity (batch, C, H, W) with the built-in guidance; as it is for images whose label was dropped."""
        omega, kappa = self.options.omega, self.options.kappa
        if omega == 1 and kappa == 0:
            return v
        null = torch.full_like(labels, int(network.classes))  # type: ignore[arg-type]
        of_class = network(z, t, labels)[0].float() if kappa else torch.zeros_like(v)
        mixed = omega * v + kappa * of_class + (1 - omega - kappa) * network(z, t, null)[0].float()
        return torch.where((labels == null).view(-1, 1, 1, 1), v, mixed)

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            predicted: Tensor = network(x.float(), t.float(), labels, (t - r).float())[0]
            return predicted.to(x.dtype)

        return u


def derivative(
    network: nn.Module, z: Tensor, r: Tensor, t: Tensor, labels: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """u(z, r, t), its derivative along the trajectory, and the hidden tokens, in one forward-mode pass.

    z, v: (batch, C, H, W); r, t: (batch,). The derivative carries no gradient.
    """

    def u(z: Tensor, r: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        predicted: Tensor
        hidden: Tensor
        predicted, hidden = network(z, t, labels, t - r)
        return predicted, hidden

    # Fused attention has no forward-mode derivative.
    with sdpa_kernel(SDPBackend.MATH):
        found: Any = torch.func.jvp(u, (z, r, t), (v, torch.zeros_like(r), torch.ones_like(t)))
    values, changes = found
    return values[0], changes[0].detach(), values[1]


def build(options: Options) -> MeanFlow:
    return MeanFlow(options)

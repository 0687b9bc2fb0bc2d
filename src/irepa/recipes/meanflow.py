"""MeanFlow: the network learns the mean velocity between two times, and one step of it is a sample (paper section 5;
Geng et al., 2025).

    (1) z_t = (1 - t) x + t eps, v = eps - x                interpolant and velocity, as SiT's
    (2) u(z_t, r, t) = 1 / (t - r) * integral_r^t v dtau    mean velocity from r to t, r <= t; v itself for r = t
    (3) u = v - (t - r) du/dt                               the MeanFlow identity, along the trajectory
    (4) du/dt = (v, 0, 1) . grad u                          gradient with respect to (z, r, t)
    (5) loss = mean w |u - target|^2                        target: right-hand side of (3), without gradient
    (6) w = 1 / (|u - target|^2 + floor)^power              per image, without gradient
    (6') loss = mean (w |u - target|^2)^2                    one public code; with power 1 about twice the gradient
    (7) v <- omega v + kappa u(z, t, t | y) + (1 - omega - kappa) u(z, t, t)
    (8) x = z_1 - u(z_1, 0, 1)                              a sample in one step

(7) builds guidance into the target. Its effective scale is omega / (1 - kappa); omega = 1 and kappa = 0 are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from irepa.config.options import Fraction, Strict
from irepa.recipes import Align, Recipe, Velocity, interpolate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irepa.models.mean_sit import MeanSiT
    from irepa.random import StepRandom


class Options(Strict):
    mean: float = Field(-0.4, description="Mean of the normal whose sigmoid the times are.")
    spread: float = Field(1.0, gt=0, description="Standard deviation of that normal.")
    apart: Fraction = Field(0.25, description="Share of the pairs of times with r != t.")
    power: float = Field(
        1.0, ge=0, description="Power of an image's squared error that its loss is divided by; 0: none."
    )
    floor: float = Field(1e-3, gt=0, description="Added to that squared error.")
    squared: bool = Field(
        False,
        description="True: the loss of each image is squared, as in one public code. With `power` 1 it is close to 1 before, so "
        "that the gradient is about doubled. The authors' own code does not.",
    )
    omega: float = Field(
        1.0, gt=0, description="Weight of the velocity in the guided target; omega + kappa must be at least 1."
    )
    kappa: float = Field(
        0.0, ge=0, lt=1, description="Weight of the network's velocity of the class in the guided target; 0: none."
    )

    @model_validator(mode="after")
    def _follows_the_class(self) -> Options:
        if self.omega + self.kappa < 1:
            raise ValueError(
                f"omega ({self.omega}) + kappa ({self.kappa}) must be at least 1: the guided target would follow the class by "
                f"omega / (1 - kappa) = {self.omega / (1 - self.kappa):.3g}, less than without guidance"
            )
        return self


class MeanFlow(Recipe):
    """For a network that is told the span t - r too, as :class:`irepa.models.mean_sit.MeanSiT`."""

    needs_span: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def uses_null_class(self) -> bool:
        return self.options.omega != 1 or self.options.kappa != 0

    def times(self, rng: StepRandom) -> tuple[Tensor, Tensor]:
        """(r, t), each (batch,), 0 <= r <= t <= 1."""
        o = self.options
        one, other = ((o.mean + o.spread * rng.normal()).sigmoid() for _ in range(2))
        r, t = one.minimum(other), one.maximum(other)
        return r.where(rng.uniform() < o.apart, t), t

    def loss(self, network: MeanSiT, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        r, t = self.times(rng)
        noise = rng.normal(*x.shape[1:])
        z = interpolate(x, noise, t)  # (1)
        v = self.guided(network, z, noise - x, t, labels)  # (7)
        predicted, du_dt, hidden = derivative(network, z, r, t, labels, v)  # (4)
        target = (v - (t - r).view(-1, 1, 1, 1) * du_dt).detach()  # (3)
        error = (predicted.float() - target).square().flatten(1).sum(1)
        weight = (error.detach() + self.options.floor).pow(-self.options.power)  # (6)
        loss = weight * error
        return {"denoise": (loss.square() if self.options.squared else loss).mean(), "align": align(hidden)}  # (5)

    def guided(self, network: MeanSiT, z: Tensor, v: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The velocity (batch, C, H, W) with the built-in guidance; as it is for images whose label was dropped.

        Args:
            z, v: (batch, C, H, W); t, labels: (batch,).
        """
        import torch

        omega, kappa = self.options.omega, self.options.kappa
        if omega == 1 and kappa == 0:
            return v
        null = torch.full_like(labels, network.classes)
        with torch.no_grad():
            of_class = network(z, t, labels)[0].float() if kappa else torch.zeros_like(v)
            mixed = omega * v + kappa * of_class + (1 - omega - kappa) * network(z, t, null)[0].float()  # (7)
            return torch.where((labels == null).view(-1, 1, 1, 1), v, mixed)

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            predicted: Tensor = network(x.float(), t.float(), labels, (t - r).float())[0]
            return predicted.to(x.dtype)

        return u


def derivative(
    network: nn.Module, z: Tensor, r: Tensor, t: Tensor, labels: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """u(z, r, t), its derivative du/dt along the trajectory, and the hidden tokens, in one forward-mode pass.

    Args:
        z, v: (batch, C, H, W); r, t, labels: (batch,).

    The first two are shaped as z, the third is (batch, T, width). The derivative carries no gradient.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def u(z: Tensor, r: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        predicted: Tensor
        hidden: Tensor
        predicted, hidden = network(z, t, labels, t - r)
        return predicted, hidden

    # Fused attention has no forward-mode derivative.
    with sdpa_kernel(SDPBackend.MATH):
        both: Any = torch.func.jvp(u, (z, r, t), (v, torch.zeros_like(r), torch.ones_like(t)))
    (predicted, hidden), (du_dt, _) = both
    return predicted, du_dt.detach(), hidden


def build(options: Options) -> MeanFlow:
    return MeanFlow(options)

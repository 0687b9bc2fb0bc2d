"""SiT: linear interpolant, velocity prediction (paper section 3; Ma et al., 2024).

    (1) x_t = (1 - t) x + t eps, t ~ U(0, 1)        interpolant: data at t = 0, noise at t = 1
    (2) v = eps - x                                 velocity, d x_t / dt
    (3) loss = mean |u(x_t, t, y) - v|^2            u: the network, y: the label

Samples follow u from t = 1 to t = 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from irepa.config.options import Strict
from irepa.recipes import Align, Recipe, Velocity, interpolate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irepa.random import StepRandom


class Options(Strict):
    data_at: Literal[0, 1] = Field(
        0,
        description="The time at which the network is given data: 0 as in REPA's checkpoints, 1 as in the original "
        "SiT's. With 1 the network is asked for -v at 1 - t.",
    )


class SiTRecipe(Recipe):
    """``data_at``: the time, 0 or 1, at which the network is given data."""

    adopts_published: ClassVar[bool] = True

    def __init__(self, data_at: int) -> None:
        self.data_at = data_at

    def network_time(self, t: Tensor) -> Tensor:
        return t if self.data_at == 0 else 1 - t

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity u(x, t, y), shaped as x (batch, C, H, W), and the hidden tokens (batch, T, width)."""
        predicted, hidden = network(x, self.network_time(t), labels)
        return predicted if self.data_at == 0 else -predicted, hidden

    def loss(self, network: Any, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        t = rng.uniform()
        noise = rng.normal(*x.shape[1:])
        x_t = interpolate(x, noise, t)  # (1)
        v = noise - x  # (2)
        predicted, hidden = self.predict(network, x_t, t, labels)
        return {"denoise": (predicted.float() - v).square().mean(), "align": align(hidden)}  # (3)

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        def v(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            return self.predict(network, x.float(), t.float(), labels)[0].to(x.dtype)

        return v


def build(options: Options) -> SiTRecipe:
    return SiTRecipe(options.data_at)

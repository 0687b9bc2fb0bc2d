"""Samplers: from noise at t = 1 to data at t = 0, given a velocity of the linear interpolant. One module per sampler.

To add one, write a file in this folder. It holds ``Options``, what a tier may set, and ``build``, which returns a
:class:`Sampler`. A whole one takes midpoint steps along the probability-flow ODE::

    from __future__ import annotations

    import itertools

    from pydantic import Field

    from irepa.config.options import Positive, Strict
    from irepa.samplers import Sampler, at, times


    class Options(Strict):
        steps: Positive = Field(description="Steps, with two evaluations of the network each.")


    class Midpoint(Sampler):
        def __init__(self, steps):
            self.steps = steps

        @property
        def evaluations(self):
            return 2 * self.steps

        def sample(self, velocity, x, noise):
            for now, after in itertools.pairwise(times(self.steps)):
                middle = (now + after) / 2
                halfway = x + (middle - now) * velocity(x, at(now, x), at(now, x))
                x = x + (after - now) * velocity(halfway, at(middle, x), at(middle, x))
            return x


    def build(options):
        return Midpoint(options.steps)

Saved as ``ode_midpoint.py`` it is at once known as ``ode-midpoint``: a recipe of a tier asks for it with
``sampler: {name: ode-midpoint, steps: 50}``. The configuration is read without torch, so torch is imported inside the
functions that use it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from irepa.config.tier import Guidance
from irepa.recipes import Velocity

if TYPE_CHECKING:
    from torch import Tensor


class Sampler(ABC):
    """The contract of a sampler: both members have to be written."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Times at which the velocity is evaluated for one sample (NFE), guidance not counted twice."""

    @abstractmethod
    def sample(self, velocity: Velocity, x: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        """Noise -> data, both (batch, C, H, W) float64: with hundreds of steps, float32 rounding would add up.

        Args:
            velocity: v(x, t, r), see :meth:`irepa.recipes.Recipe.velocity`.
            noise: fresh standard normal noise of a step, counted from 1, shaped as x.
        """


def times(steps: int, end: float = 0.0) -> list[float]:
    """``steps + 1`` equally spaced times from 1 down to ``end``."""
    import torch

    return [float(t) for t in torch.linspace(1.0, end, steps + 1, dtype=torch.float64)]


def at(t: float, x: Tensor) -> Tensor:
    """The time t for each image of x: (batch,) float64."""
    import torch

    return torch.full((len(x),), t, dtype=torch.float64, device=x.device)


def guided(velocity: Velocity, unconditional: Velocity, guidance: Guidance) -> Velocity:
    """Classifier-free guidance (Ho and Salimans, 2022) inside an interval of times (Kynkaanniemi et al., 2024)."""

    def v(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        with_class = velocity(x, t, r)
        if not guidance.applies(float(t[0])):
            return with_class
        without = unconditional(x, t, r)
        return without + guidance.scale * (with_class - without)

    return v

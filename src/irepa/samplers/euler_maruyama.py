"""Reverse-time SDE of the linear interpolant, Euler-Maruyama steps: the paper's sampler (section 3; Ma et al., 2024).

    x_t = (1 - t) x + t eps
    s = -((1 - t) v + x_t) / t                          score of x_t, from its velocity v
    w_t = 2 t                                           diffusion
    dx = (v - w_t s / 2) dt + sqrt(w_t) dW              from t = 1 down to ``last``

One step of the drift alone leads from ``last`` to t = 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.recipes import Velocity
from irepa.samplers import Sampler, at, times

if TYPE_CHECKING:
    from torch import Tensor


class Options(Strict):
    steps: Positive = Field(250, description="Evaluations of the network: steps - 1 with noise, and the last without.")
    last: float = Field(0.04, gt=0, lt=1, description="Time at which the noise stops.")


def score(velocity: Tensor, x: Tensor, t: float) -> Tensor:
    """grad log p_t(x) from the velocity: with eps = x + (1 - t) v, s = -eps / t. All (batch, C, H, W)."""
    return -(x + (1 - t) * velocity) / t


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    options: Options

    @property
    def evaluations(self) -> int:
        return self.options.steps

    def sample(self, velocity: Velocity, x: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        grid = [*times(self.options.steps - 1, self.options.last), 0.0]
        for step, (now, after) in enumerate(itertools.pairwise(grid), start=1):
            diffusion = 2 * now
            v = velocity(x, at(now, x), at(now, x))
            drift = v - 0.5 * diffusion * score(v, x, now)
            x = x + (after - now) * drift
            if after > 0:
                x = x + math.sqrt(diffusion * (now - after)) * noise(step)
        return x


def build(options: Options) -> EulerMaruyama:
    return EulerMaruyama(options)

"""Reverse-time SDE of the linear interpolant, Euler-Maruyama steps: the paper's sampler (section 3).

For x_t = (1 - t) x + t eps with velocity v, the score is s = -((1 - t) v + x_t) / t. With diffusion w_t = 2t,
dx = (v - w_t s / 2) dt + sqrt(w_t) dW, run from t = 1 down to ``last``, then one step of the drift alone to t = 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from pydantic import Field
from torch import Tensor

from irepa.config.options import Positive, Strict
from irepa.recipes import Velocity
from irepa.samplers import at, times


class Options(Strict):
    steps: Positive = Field(250, description="Evaluations of the network: steps - 1 with noise, and the last without.")
    last: float = Field(0.04, gt=0, lt=1, description="Time at which the noise stops.")


def evaluations(options: Options) -> int:
    return options.steps


def score(velocity: Tensor, x: Tensor, t: float) -> Tensor:
    """grad log p_t(x) from the velocity: with eps = x + (1 - t) v, s = -eps / t."""
    return -(x + (1 - t) * velocity) / t


def sample(velocity: Velocity, x: Tensor, options: Options, noise: Callable[[int], Tensor]) -> Tensor:
    """x: noise (batch, C, H, W), float64 -> data, same shape."""
    grid = [*times(options.steps - 1, options.last), 0.0]
    for step, (now, after) in enumerate(itertools.pairwise(grid), start=1):
        diffusion = 2 * now
        v = velocity(x, at(now, x), at(now, x))
        drift = v - 0.5 * diffusion * score(v, x, now)
        x = x + (after - now) * drift
        if after > 0:
            x = x + math.sqrt(diffusion * (now - after)) * noise(step)
    return x

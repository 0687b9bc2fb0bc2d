"""Probability-flow ODE, Euler steps: first order, one evaluation per step; exact in one step with a mean velocity (MeanFlow)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor

from irepa.config.options import Positive, Strict
from irepa.recipes import Velocity
from irepa.samplers import at, times


class Options(Strict):
    steps: Positive


def evaluations(options: Options) -> int:
    return options.steps


def sample(velocity: Velocity, x: Tensor, options: Options, noise: Callable[[int], Tensor]) -> Tensor:
    """x: noise (batch, C, H, W), float64 -> data, same shape."""
    grid = times(options.steps)
    for now, after in itertools.pairwise(grid):
        x = x + (after - now) * velocity(x, at(now, x), at(after, x))
    return x

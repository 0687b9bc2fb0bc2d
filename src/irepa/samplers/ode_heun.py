"""Probability-flow ODE, Heun steps: second order, two evaluations per step."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor

from irepa.config.options import Positive, Strict
from irepa.recipes import Velocity
from irepa.samplers import at, times


class Options(Strict):
    """``last_euler``: the last step is an Euler step, for a velocity that is not to be asked at t = 0 (JiT)."""

    steps: Positive
    last_euler: bool = False


def evaluations(options: Options) -> int:
    return 2 * options.steps - options.last_euler


def sample(velocity: Velocity, x: Tensor, options: Options, noise: Callable[[int], Tensor]) -> Tensor:
    """x: noise (batch, C, H, W), float64 -> data, same shape."""
    grid = times(options.steps)
    for now, after in itertools.pairwise(grid):
        slope = velocity(x, at(now, x), at(now, x))
        guess = x + (after - now) * slope
        if options.last_euler and after == 0:
            return guess
        x = x + (after - now) * 0.5 * (slope + velocity(guess, at(after, x), at(after, x)))
    return x

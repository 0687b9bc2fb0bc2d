"""Probability-flow ODE, Heun steps: second order (Karras et al., 2022)."""

from __future__ import annotations

import itertools
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
    steps: Positive = Field(description="Steps, with two evaluations of the network each.")
    last_euler: bool = Field(
        False,
        description="True: the last step is an Euler step, for a velocity that is not to be asked at t = 0 (JiT's).",
    )


@dataclass(frozen=True)
class OdeHeun(Sampler):
    options: Options

    @property
    def evaluations(self) -> int:
        return 2 * self.options.steps - self.options.last_euler

    def sample(self, velocity: Velocity, x: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        for now, after in itertools.pairwise(times(self.options.steps)):
            slope = velocity(x, at(now, x), at(now, x))
            guess = x + (after - now) * slope
            if self.options.last_euler and after == 0:
                return guess
            x = x + (after - now) * 0.5 * (slope + velocity(guess, at(after, x), at(after, x)))
        return x


def build(options: Options) -> OdeHeun:
    return OdeHeun(options)

"""Probability-flow ODE, Euler steps: first order. With a mean velocity (MeanFlow) it is exact in one step."""

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
    steps: Positive = Field(description="Steps, with one evaluation of the network each.")


@dataclass(frozen=True)
class OdeEuler(Sampler):
    options: Options

    @property
    def evaluations(self) -> int:
        return self.options.steps

    def sample(self, velocity: Velocity, x: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        for now, after in itertools.pairwise(times(self.options.steps)):
            x = x + (after - now) * velocity(x, at(now, x), at(after, x))
        return x


def build(options: Options) -> OdeEuler:
    return OdeEuler(options)

"""From noise at t = 1 to data at t = 0, given a velocity v(x, t, r) of the linear interpolant. One module per sampler.

Each has ``Options`` and ``sample(velocity, x, options, noise)``; ``noise(step)`` gives fresh standard normal noise shaped as x.
The state is float64: with hundreds of steps, float32 rounding would add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irepa.config.tier import Guidance
from irepa.recipes import Velocity


def times(steps: int, end: float = 0.0) -> list[float]:
    """``steps + 1`` equally spaced times from 1 down to ``end``."""
    return [float(t) for t in torch.linspace(1.0, end, steps + 1, dtype=torch.float64)]


def guided(velocity: Velocity, unconditional: Velocity, guidance: Guidance) -> Velocity:
    """Classifier-free guidance (Ho and Salimans, 2022) inside an interval of times (Kynkaanniemi et al., 2024)."""

    def v(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        with_class = velocity(x, t, r)
        if not guidance.low <= float(t[0]) <= guidance.high:
            return with_class
        without = unconditional(x, t, r)
        return without + guidance.scale * (with_class - without)

    return v


def at(t: float, x: Tensor) -> Tensor:
    """The time t for each image of x: (batch,) float64."""
    return torch.full((len(x),), t, dtype=torch.float64, device=x.device)

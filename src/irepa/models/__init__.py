"""Networks that predict a velocity and expose hidden tokens. One module per architecture.

Each has ``build(scale, shape, classes, grid)``; the network maps (x, t, labels) to (prediction, hidden tokens on the grid).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from irepa.settings import Scale

Architecture = Callable[[Scale, tuple[int, int, int], int, tuple[int, int]], nn.Module]

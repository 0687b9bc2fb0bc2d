"""Blur: a Gaussian over the token grid, of a width in grid steps. Neighbours grow alike; the mean nearly stays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from irepa.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check(width: float | None, where: str) -> None:
    """Raises ConfigError unless the width is a positive number."""
    if width is None or width <= 0:
        raise ConfigError(f"{where}: blur needs a width in grid steps, as in blur1, not {width}")


def apply(
    tokens: Tensor, global_token: Tensor | None, width: float | None, grid: tuple[int, int], indices: NDArray[np.int64]
) -> Tensor:
    """Blur tokens (batch, h*w, dim) as planes (h, w), going on by reflection at the border."""
    from kornia.filters import gaussian_blur2d

    assert width is not None
    reach = 2 * min(math.ceil(3 * width), min(grid) - 1) + 1  # reflection goes no further than the grid
    planes = tokens.transpose(1, 2).unflatten(2, grid)
    blurred: Tensor = gaussian_blur2d(planes, (reach, reach), (width, width), border_type="reflect")
    return blurred.flatten(2).transpose(1, 2)

"""The pixels at the place of each token, as targets of a reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner


def check_places(learner: Learner, objective: str) -> int:
    """Side in pixels of the square that a token of the learner stands for. Raises ConfigError where there is none."""
    (height, width), (rows, columns) = learner.size, learner.grid
    if height % rows or width % columns or height // rows != width // columns:
        raise ConfigError(
            f"objective {objective}: a grid of {rows}x{columns} tokens does not cut images of {height}x{width} pixels into "
            "squares; choose another encoder, or another input size of it"
        )
    return height // rows


def of_places(images: Tensor, learner: Learner) -> Tensor:
    """Images (batch, 3, H, W) -> (batch, h*w, side * side * 3): the pixels at the place of each token."""
    from lightly.models.utils import patchify

    pixels: Tensor = patchify(images, learner.size[0] // learner.grid[0])
    return pixels

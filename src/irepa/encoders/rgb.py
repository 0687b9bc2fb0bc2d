"""Raw RGB patches: the target with spatial structure and no semantics at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from irepa.config.options import Strict
from irepa.tokens import Tokens


class Options(Strict):
    pass


def check(name: str, options: Options) -> None:
    """Nothing to find."""


class RgbPatches:
    def __init__(self, grid: tuple[int, int]) -> None:
        self.grid = grid

    def __call__(self, images: Tensor) -> Tokens:
        patch = (images.shape[2] // self.grid[0], images.shape[3] // self.grid[1])
        pixels = images.float() / 127.5 - 1
        return Tokens(F.unfold(pixels, patch, stride=patch).transpose(1, 2), self.grid)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> RgbPatches:
    return RgbPatches(grid)

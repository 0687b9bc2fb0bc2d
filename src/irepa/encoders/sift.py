"""Dense SIFT descriptors (Lowe, 2004), by kornia: a classical target (E3)."""

from __future__ import annotations

import torch
from torch import Tensor

from irepa.config.options import Positive, Strict
from irepa.images import resize
from irepa.tokens import Tokens, resample


class Options(Strict):
    input_size: Positive = 64
    bin_size: Positive = 4
    stride: Positive = 4


def check(name: str, options: Options) -> None:
    """Nothing to find."""


class DenseSift:
    """A 128-dimensional descriptor every ``stride`` pixels of the resized grey image, averaged over each token's area."""

    def __init__(self, options: Options, grid: tuple[int, int], device: torch.device) -> None:
        from kornia.feature import DenseSIFTDescriptor

        self.grid = grid
        self.size = (options.input_size, options.input_size)
        self.describe = DenseSIFTDescriptor(
            spatial_bin_size=options.bin_size, stride=options.stride, padding=2 * options.bin_size
        ).to(device)

    def __call__(self, images: Tensor) -> Tokens:
        from kornia.color import rgb_to_grayscale

        maps = self.describe(rgb_to_grayscale(resize(images.float() / 255, self.size)))
        tokens = maps.flatten(2).transpose(1, 2)
        return Tokens(resample(tokens, (maps.shape[2], maps.shape[3]), self.grid), self.grid)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> DenseSift:
    return DenseSift(options, grid, device)

"""Dense SIFT descriptors (Lowe, 2004), by kornia: a classical target (E3)."""

from __future__ import annotations

from torch import Tensor

from irepa.encoders import Tokens, resize
from irepa.settings import Positive, Strict
from irepa.tokens import resample


class Options(Strict):
    input_size: Positive = 64
    bin_size: Positive = 4
    stride: Positive = 4


def check(name: str, options: Options) -> None:
    """Nothing to find."""


class DenseSift:
    """A 128-dimensional descriptor every ``stride`` pixels of the resized grey image, averaged over each token's area."""

    def __init__(self, options: Options) -> None:
        from kornia.feature import DenseSIFTDescriptor

        self.size = options.input_size
        self.describe = DenseSIFTDescriptor(
            spatial_bin_size=options.bin_size, stride=options.stride, padding=2 * options.bin_size
        )

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tokens:
        from kornia.color import rgb_to_grayscale

        maps = self.describe(rgb_to_grayscale(resize(images.float() / 255, self.size)))
        tokens = maps.flatten(2).transpose(1, 2)
        return Tokens(resample(tokens, (maps.shape[2], maps.shape[3]), grid), grid)


def build(options: Options) -> DenseSift:
    return DenseSift(options)

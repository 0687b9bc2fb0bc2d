"""Random views of images, as functions of the step's draws: an interrupted training goes on with the same views."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Fraction, Strict

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.random import StepRandom


class ViewOptions(Strict):
    """How two views of an image differ."""

    smallest: float = Field(0.2, gt=0, le=1, description="Share of the image's area that a view has at least.")
    jitter: Fraction = Field(
        0.4, description="Strength of a view's changes of brightness, contrast, saturation and hue."
    )
    grey: Fraction = Field(0.2, description="Share of the views without colour.")


def two_views(images: Tensor, rng: StepRandom, options: ViewOptions) -> Tensor:
    """Images (batch, 3, H, W) in [0, 1] -> (2 * batch, 3, H, W): one view of each, then another of each."""
    import torch

    o = options
    return torch.cat([jitter(crop_and_flip(images, rng, o.smallest), rng, o.jitter, o.grey) for _ in range(2)])


def crop_and_flip(images: Tensor, rng: StepRandom, smallest: float) -> Tensor:
    """A random square of ``smallest`` to all of each image's area, enlarged to the whole, mirrored half of the time.

    images: (batch, 3, H, W), any range; ``smallest``: share of the area, in (0, 1].
    """
    import torch
    import torch.nn.functional as F

    side = (smallest + (1 - smallest) * rng.uniform()).sqrt()
    x, y = ((2 * rng.uniform() - 1) * (1 - side) for _ in range(2))
    mirror = torch.where(rng.uniform() < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(side)
    rows = [torch.stack([side * mirror, zero, x], dim=1), torch.stack([zero, side, y], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def jitter(images: Tensor, rng: StepRandom, strength: float, grey: float) -> Tensor:
    """Brightness, contrast, saturation and hue changed at random, and a share ``grey`` of the images without colour.

    images: (batch, 3, H, W) in [0, 1]; factors lie in 1 -+ ``strength``, hue turns by at most a quarter of it.
    """
    import torch
    from kornia.color import rgb_to_grayscale
    from kornia.enhance import adjust_brightness_accumulative, adjust_contrast, adjust_hue, adjust_saturation

    def factor() -> Tensor:
        return 1 + strength * (2 * rng.uniform() - 1)

    changed: Tensor = adjust_brightness_accumulative(images, factor())
    changed = adjust_saturation(adjust_contrast(changed, factor()), factor())
    changed = adjust_hue(changed, (factor() - 1) * math.pi / 2).clamp(0, 1)
    without = (rng.uniform() < grey).view(-1, 1, 1, 1)
    return torch.where(without, rgb_to_grayscale(changed).expand_as(changed), changed)

"""Foreground masks without labels, for datasets that have none (SRSS needs them)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def boundary_contrast_mask(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Foreground of one image (H, W, 3): pixels whose colour differs from the colours at the image border.

    The border of a photograph is mostly background (the boundary prior of Wei et al., "Geodesic saliency using background
    priors", 2012). Saliency is the CIELAB distance to the nearest of four border means (top, bottom, left, right), smoothed;
    Otsu's threshold splits it. Returns (H, W) bool; all False where the image is one colour.
    """
    from skimage.color import rgb2lab
    from skimage.filters import gaussian, threshold_otsu

    lab = rgb2lab(image)
    rim = max(1, min(image.shape[:2]) // 16)
    borders = (lab[:rim], lab[-rim:], lab[:, :rim], lab[:, -rim:])
    means = np.stack([border.reshape(-1, 3).mean(axis=0) for border in borders])
    distance = np.linalg.norm(lab[:, :, None] - means, axis=-1).min(axis=-1)
    saliency = gaussian(distance, sigma=min(image.shape[:2]) / 32)
    if np.ptp(saliency) < 1e-6:
        return np.zeros(image.shape[:2], bool)
    mask: NDArray[np.bool_] = saliency > threshold_otsu(saliency)
    return mask


def token_masks(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks (images, H, W) to the token grid (images, tokens), bool: a token is foreground if any of its pixels is.

    Max-pooling with kernel = stride, as the released code does. Raises ValueError where the grid does not divide H x W.
    """
    height, width = masks.shape[1:]
    if height % grid[0] or width % grid[1]:
        raise ValueError(f"masks of {height}x{width} pixels cannot be pooled to a {grid[0]}x{grid[1]} grid")
    kernel = (height // grid[0], width // grid[1])
    return F.max_pool2d(masks[:, None].float(), kernel, kernel).flatten(1) > 0


def usable(masks: Tensor, share: float = 0.25) -> Tensor:
    """Which token masks (images, tokens) have at least this share of foreground and of background: (images,) bool.

    The paper keeps images with at least 64 of 256 patches of each; other grids keep the same share.
    """
    least = share * masks.shape[1]
    foreground = masks.sum(dim=1)
    return torch.logical_and(foreground >= least, masks.shape[1] - foreground >= least)

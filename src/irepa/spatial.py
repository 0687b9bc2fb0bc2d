"""Spatial-structure metrics of patch tokens: LDS, CDS, SRSS, RMSC (paper section 2), as the released code computes them.

Tokens of one image: X in R^(T x D), T = H*W grid positions. K(t, t') = cosine(x_t, x_t'), with |x| floored at 1e-8, in
float32. d(t, t') = Manhattan distance on the grid. Each metric is a value per image; its mean over images is what the
paper correlates with FID.

All four come from one pass over K, in blocks of rows, so that memory stays bounded for any number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

EPS = 1e-8
PAPER_SIDE = 16  # the paper's thresholds are for a 16x16 grid
BLOCK_ELEMENTS = 1 << 22  # similarities held at a time: 16 MiB in float32


@dataclass(frozen=True)
class Thresholds:
    """Distances in grid steps. ``near``: SRSS pairs of one region have 1 <= d <= near, and LDS local pairs d <= near.
    ``far``: distant pairs have d >= far. ``slope``: CDS fits the line over d = 1..slope."""

    near: int = 1
    far: int = 6
    slope: int = 8

    @classmethod
    def for_grid(cls, height: int, width: int) -> Thresholds:
        """The paper's (1, 6, 8) on 16x16. On another grid, far and slope scale with (H + W) / 32 and are rounded, but
        far is at least 2 and slope at least 2; near stays 1, because the nearest neighbour is one step on any grid."""
        scale = (height + width) / (2 * PAPER_SIDE)
        return cls(near=1, far=max(2, round(6 * scale)), slope=max(2, round(8 * scale)))


@dataclass(frozen=True)
class SpatialMetrics:
    """Values per image, each (images,) float32. SRSS is NaN where an image has too little fore- or background.

    ``lds_text`` is the text's variant: mean K over 0 < d < r_near minus mean K over d >= r_far, both over ordered pairs,
    with r_near = r_far = ``far``.
    """

    lds: Tensor
    cds: Tensor
    srss: Tensor
    rmsc: Tensor
    lds_text: Tensor

    def named(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def manhattan(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Distances (T, T), int64, T = height * width, positions counted row by row."""
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    return (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs()


def spatial_metrics(
    tokens: Tensor, grid: tuple[int, int], masks: Tensor | None = None, thresholds: Thresholds | None = None
) -> SpatialMetrics:
    """All metrics of a batch of images.

    Args:
        tokens: (images, H*W, dim), any float type. A zero token has cosine 0 with every token.
        grid: (H, W).
        masks: (images, H*W) bool, True for foreground; without them SRSS is NaN.
        thresholds: None is :meth:`Thresholds.for_grid`.

    Raises ValueError for tokens that do not fit the grid, for NaN or infinite tokens, and for thresholds without pairs.
    """
    height, width = grid
    images, count, _ = tokens.shape
    if count != height * width:
        raise ValueError(f"{count} tokens do not lie on a {height}x{width} grid")
    if not bool(torch.isfinite(tokens).all()):
        raise ValueError("tokens hold NaN or infinite values")
    limits = thresholds or Thresholds.for_grid(height, width)
    longest = height + width - 2
    if limits.far > longest or limits.slope > longest or limits.slope < 2 or limits.near < 1:
        raise ValueError(f"{limits} do not fit a {height}x{width} grid, whose longest distance is {longest}")

    x = tokens.float()
    # Rows of unit length: RMSC divides by the length itself, the cosine floors it at EPS; they differ for |x| < EPS only.
    x = x / x.norm(dim=-1, keepdim=True).clamp_min(EPS)
    # Every metric made from K is a difference of means of K: taking off its overall mean, |mean_t x|^2, changes none of them
    # and keeps float32 sums of thousands of nearly equal similarities exact enough.
    level = x.mean(dim=1, keepdim=True).square().sum(-1, keepdim=True)
    # sum_d[i, d] = sum of K - level over ordered pairs of image i at distance d.
    sum_d = x.new_zeros(images, longest + 1)
    srss_sum = x.new_zeros(images)
    anchors = x.new_zeros(images)
    distance = manhattan(height, width, x.device)
    foreground = None if masks is None else masks.to(x.device, x.dtype)

    rows = max(1, min(count, BLOCK_ELEMENTS // (count * (longest + 1))))
    chunk = max(1, BLOCK_ELEMENTS // (rows * count))
    for top in range(0, count, rows):
        d = distance[top : top + rows]
        at_distance = torch.nn.functional.one_hot(d.flatten(), longest + 1).to(x.dtype)
        near, far = ((d >= 1) & (d <= limits.near)).to(x.dtype), (d >= limits.far).to(x.dtype)
        for start in range(0, images, chunk):
            part = slice(start, start + chunk)
            k = torch.baddbmm(-level[part], x[part, top : top + rows], x[part].transpose(1, 2))
            sum_d[part] += k.flatten(1) @ at_distance
            if foreground is not None:
                total, number = _srss_rows(k, foreground[part], top, near, far)
                srss_sum[part] += total
                anchors[part] += number

    pairs = torch.bincount(distance.flatten(), minlength=longest + 1).to(x.dtype)
    mean_d = sum_d / pairs
    near_d, far_d = slice(1, limits.near + 1), slice(limits.far, None)
    local = sum_d[:, near_d].sum(1) / pairs[near_d].sum()
    distant = sum_d[:, far_d].sum(1) / pairs[far_d].sum()
    text_local = sum_d[:, 1 : limits.far].sum(1) / pairs[1 : limits.far].sum()
    if foreground is None:
        srss = x.new_full((images,), torch.nan)
    else:
        size = foreground.sum(1)
        enough = (size >= 2) & (count - size >= 1) & (anchors > 0)
        srss = torch.where(enough, srss_sum / anchors.clamp_min(1), torch.nan)
    return SpatialMetrics(
        lds=local - distant,
        cds=-_slope(mean_d[:, 1 : limits.slope + 1]),
        srss=srss,
        rmsc=(x - x.mean(dim=1, keepdim=True)).square().sum(-1).mean(-1).sqrt(),
        lds_text=text_local - distant,
    )


def _slope(values: Tensor) -> Tensor:
    """Least-squares slope of values (images, n) on 1..n: (images,)."""
    d = torch.arange(1, values.shape[1] + 1, dtype=values.dtype, device=values.device)
    centred = d - d.mean()
    return (values @ centred) / centred.square().sum()


def _srss_rows(k: Tensor, foreground: Tensor, top: int, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """SRSS of the anchors in rows top..: the sum over anchors that have both kinds of pairs, and how many do.

    k: (images, rows, T) similarities; foreground: (images, T) in {0, 1}; near, far: (rows, T) in {0, 1}.
    """
    background = 1 - foreground
    near_count, far_count = foreground @ near.T, background @ far.T
    valid = foreground[:, top : top + k.shape[1]] * (near_count > 0) * (far_count > 0)
    near_sum = torch.einsum("irt,rt,it->ir", k, near, foreground)
    far_sum = torch.einsum("irt,rt,it->ir", k, far, background)
    contrast = near_sum / near_count.clamp_min(1) - far_sum / far_count.clamp_min(1)
    return (contrast * valid).sum(1), valid.sum(1)

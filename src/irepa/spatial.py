"""Spatial-structure metrics of patch tokens: LDS, CDS, SRSS, RMSC (paper section 2), as the released code computes them.

Tokens of one image: X in R^(T x D), T = H*W grid positions. K(t, t') = cosine(x_t, x_t'), with |x| floored at 1e-8, in float32.
d(t, t') = Manhattan distance on the grid. Each metric is a value per image; its mean over images is what the paper correlates
with FID.

All four come from one pass over K, in blocks of rows, so that memory stays bounded for any number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from irepa.masks import usable
from irepa.thresholds import Thresholds

EPS = 1e-8
ROUNDING = 1e-12  # cosines that differ by no more are the same
BLOCK_ELEMENTS = 1 << 22  # similarities held at a time: 16 MiB in float32


@dataclass(frozen=True)
class SpatialMetrics:
    """Values per image, each (images,) float32.

    Attributes:
        lds: mean K over pairs at 1 <= d <= near, minus mean K over pairs at d >= far.
        cds: minus the least-squares slope, over d = 1..slope, of the mean K at distance d.
        srss: mean over foreground tokens of mean K to foreground at 1 <= d <= near, minus mean K to background at d >= far; NaN
            for an image that has no token with both.
        rmsc: root mean square, over positions, of the distance of x / |x| from its mean.
        lds_text: LDS as the paper's text has it: mean K over 0 < d < r_near minus mean K over d >= r_far, both over ordered
            pairs, with r_near = r_far = far.
    """

    lds: Tensor
    cds: Tensor
    srss: Tensor
    rmsc: Tensor
    lds_text: Tensor

    def named(self) -> dict[str, Tensor]:
        """The same by name."""
        return dict(vars(self))


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
    limits = thresholds or Thresholds.for_grid(height, width)
    longest = height + width - 2
    if limits.far > longest or limits.slope > longest or limits.slope < 2 or limits.near < 1:
        raise ValueError(f"{limits} do not fit a {height}x{width} grid, whose longest distance is {longest}")

    x = tokens.float()
    norm = x.norm(dim=-1)
    if not bool(torch.isfinite(norm).all()):
        raise ValueError("tokens hold NaN or infinite values")
    inverse = norm.clamp_min(EPS).reciprocal()
    # RMSC divides by the length itself, the cosine floors it at EPS: they differ for |x| < EPS only.
    mean = torch.bmm(inverse[:, None], x) / count
    # Every metric made from K is a difference of means of K: taking off its overall mean, |mean_t u|^2, changes none of them and
    # keeps float32 sums of thousands of nearly equal similarities exact enough.
    level = mean.square().sum(-1, keepdim=True)

    distance = manhattan(height, width, x.device)
    last = max(limits.slope, limits.far - 1, limits.near) + 1  # distances from here on are never told apart
    sums = x.new_zeros(images, last + 1)  # of K - level over pairs at distance d; the last: at d >= last
    regions = None if masks is None else _Regions.of(masks.to(x.device), distance, limits)
    contrast = x.new_zeros(images)
    rows = max(1, min(-(-count // 4), BLOCK_ELEMENTS // count))
    chunk = max(1, BLOCK_ELEMENTS // (rows * count))
    for top in range(0, count, rows):
        block = slice(top, min(top + rows, count))
        before = slice(0, block.stop)
        # K is symmetric: each pair once, with the later token in the row.
        later = torch.ones_like(distance[block, before], dtype=torch.bool).tril(top - 1)
        group = distance[block, before].clamp(max=last).masked_fill(~later, 0).flatten()
        at_distance = torch.nn.functional.one_hot(group, last + 1).to(x.dtype)
        for start in range(0, images, chunk):
            part = slice(start, start + chunk)
            k = torch.bmm(x[part, block], x[part, before].transpose(1, 2))
            k.mul_(inverse[part, block, None]).mul_(inverse[part, None, before]).sub_(level[part])
            sums[part] += k.flatten(1) @ at_distance
            if regions is not None:
                contrast[part] += regions.contrast(k, part, block, later)

    pairs = torch.bincount(distance.clamp(max=last).flatten(), minlength=last + 1).to(x.dtype) / 2
    near_d, text_d, far_d = slice(1, limits.near + 1), slice(1, limits.far), slice(limits.far, None)
    local, text_local, distant = (sums[:, d].sum(1) / pairs[d].sum() for d in (near_d, text_d, far_d))
    return SpatialMetrics(
        lds=local - distant,
        cds=-_slope(sums[:, 1 : limits.slope + 1] / pairs[1 : limits.slope + 1]),
        srss=x.new_full((images,), torch.nan) if regions is None else regions.mean(contrast),
        rmsc=_rms_contrast(x, norm, inverse, mean),
        lds_text=text_local - distant,
    )


def similarity_agreement(one: Tensor, other: Tensor) -> Tensor:
    """How far two kinds of tokens of the same images agree on which positions are alike: (images,) in [-1, 1].

    Pearson correlation, over pairs of different positions, of the cosines within ``one`` and within ``other``: (images, T, dim)
    each, T >= 3, of any two widths. NaN where all cosines of one kind are the same.
    """
    row, column = torch.triu_indices(one.shape[1], one.shape[1], offset=1).to(one.device)
    centred = []
    for tokens in (one, other):
        unit = tokens.double() / tokens.double().norm(dim=-1, keepdim=True).clamp_min(EPS)
        cosine = torch.bmm(unit, unit.transpose(1, 2))[:, row, column]
        centred.append(cosine - cosine.mean(dim=1, keepdim=True))
    x, y = centred
    spread = x.norm(dim=1), y.norm(dim=1)
    alike = torch.minimum(*spread) < ROUNDING * math.sqrt(len(row))
    agreement: Tensor = ((x * y).sum(dim=1) / (spread[0] * spread[1])).masked_fill(alike, torch.nan)
    return agreement


def metrics_by_image(
    batches: Iterable[tuple[Tensor, Tensor | None]], grid: tuple[int, int], thresholds: Thresholds | None = None
) -> dict[str, Tensor]:
    """Metrics of many images that come in batches: by name, each (images,) float32 on the CPU.

    SRSS is NaN for images with less than a quarter of either fore- or background, which the paper leaves out of its mean
    (:func:`irepa.masks.usable`). Raises ValueError as :func:`spatial_metrics` does.

    Args:
        batches: tokens (batch, H*W, dim), and foreground masks (batch, H*W) bool of the same images (D9) or None.
        grid: (H, W).
        thresholds: None is :meth:`Thresholds.for_grid`.
    """
    columns: dict[str, list[Tensor]] = {field.name: [] for field in fields(SpatialMetrics)}
    for tokens, masks in batches:
        metrics = spatial_metrics(tokens, grid, masks, thresholds).named()
        values = {name: value.cpu() for name, value in metrics.items()}
        if masks is not None:
            values["srss"] = torch.where(usable(masks).cpu(), values["srss"], torch.nan)
        for name, value in values.items():
            columns[name].append(value)
    return {name: torch.cat(parts) for name, parts in columns.items()}


def _rms_contrast(x: Tensor, norm: Tensor, inverse: Tensor, mean: Tensor) -> Tensor:
    """sqrt(mean_t |u_t - mean u|^2) of u = x / |x|: x (images, T, dim), mean (images, 1, dim) that of u.

    As mean |u|^2 - |mean u|^2, except for images whose tokens are so alike that float32 would lose the difference.
    """
    square = (norm * inverse).square().mean(1) - mean.square().sum(dim=(1, 2))
    (alike,) = (square < 0.05).nonzero(as_tuple=True)
    for some in alike.split(max(1, BLOCK_ELEMENTS // (x.shape[1] * x.shape[2]))):
        u = x[some] * inverse[some, :, None]
        square[some] = (u - mean[some]).square().sum(-1).mean(-1)
    return square.sqrt()


def _slope(values: Tensor) -> Tensor:
    """Least-squares slope of values (images, n) on 1..n: (images,)."""
    d = torch.arange(1, values.shape[1] + 1, dtype=values.dtype, device=values.device)
    centred = d - d.mean()
    return (values @ centred) / centred.square().sum()


@dataclass(frozen=True)
class _Regions:
    """SRSS as a weighted sum over pairs, with weights of every token as an anchor and as a member of its region.

    For an anchor i in the foreground with n_i foreground tokens near and m_i background tokens far, the contrast is
    sum_j K_ij near_ij fg_j / n_i - sum_j K_ij far_ij bg_j / m_i. Anchors that lack either kind are left out.

    Attributes:
        foreground, background: (images, T) float, 1 where a token is of the region.
        near_anchor, far_anchor: (images, T), fg_i / n_i and fg_i / m_i; both 0 for anchors that are left out.
        near, far: (T, T) bool, which pairs count.
        anchors: (images,), how many anchors count.
    """

    foreground: Tensor
    background: Tensor
    near_anchor: Tensor
    far_anchor: Tensor
    near: Tensor
    far: Tensor
    anchors: Tensor

    @classmethod
    def of(cls, masks: Tensor, distance: Tensor, limits: Thresholds) -> _Regions:
        """Of masks (images, T) bool and distances (T, T)."""
        near, far = (distance >= 1) & (distance <= limits.near), distance >= limits.far
        foreground, background = masks.float(), 1 - masks.float()
        near_count, far_count = foreground @ near.float(), background @ far.float()
        valid = foreground * (near_count > 0) * (far_count > 0)
        near_anchor, far_anchor = valid / near_count.clamp_min(1), valid / far_count.clamp_min(1)
        return cls(foreground, background, near_anchor, far_anchor, near, far, valid.sum(1))

    def contrast(self, k: Tensor, part: slice, block: slice, later: Tensor) -> Tensor:
        """The part of the sum over anchors, (images,), that comes from one block of K, pairs in both directions.

        ``k``: (images in ``part``, rows in ``block``, columns before ``block.stop``); ``later``: (rows, columns) bool, which of
        its places hold a pair that counts.
        """
        before = slice(0, block.stop)
        row, column = (self.near[block, before] & later).nonzero(as_tuple=True)
        close = k[:, row, column]
        anchor, member = self.near_anchor[part], self.foreground[part]
        i, j = row + block.start, column
        same = close * (anchor[:, i] * member[:, j] + member[:, i] * anchor[:, j])
        distant = k * (self.far[block, before] & later)
        anchor, member = self.far_anchor[part], self.background[part]
        to = torch.stack([member[:, before], anchor[:, before]], dim=2)
        at = torch.stack([anchor[:, block], member[:, block]], dim=2)
        return same.sum(1) - (torch.bmm(distant, to) * at).sum(dim=(1, 2))

    def mean(self, contrast: Tensor) -> Tensor:
        """Mean over anchors; NaN for an image without an anchor that has both kinds of pairs."""
        return torch.where(self.anchors > 0, contrast / self.anchors.clamp_min(1), torch.nan)

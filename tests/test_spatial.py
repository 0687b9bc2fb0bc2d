"""Spatial metrics against loops in float64, closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irepa import spatial
from irepa.spatial import Thresholds, manhattan, metrics_by_image, spatial_metrics


def brute_force(x: np.ndarray, grid: tuple[int, int], mask: np.ndarray, limits: Thresholds) -> dict[str, float]:
    """The definitions of the paper's code, one pair at a time, in float64."""
    height, width = grid
    x = x.astype(np.float64)
    unit = [row / max(math.sqrt(float(row @ row)), 1e-8) for row in x]
    place = [(t // width, t % width) for t in range(height * width)]
    by_distance: dict[int, list[float]] = {}
    near_edges, far_pairs, text_near = [], [], []
    for a in range(len(unit)):
        for b in range(len(unit)):
            d = abs(place[a][0] - place[b][0]) + abs(place[a][1] - place[b][1])
            k = float(unit[a] @ unit[b])
            by_distance.setdefault(d, []).append(k)
            if d == 1 and a < b:
                near_edges.append(k)
            if d >= limits.far:
                far_pairs.append(k)
            if 0 < d < limits.far:
                text_near.append(k)
    means = [float(np.mean(by_distance[d])) for d in range(1, limits.slope + 1)]
    slope = np.polyfit(np.arange(1, limits.slope + 1), means, 1)[0]
    anchors = []
    for a in range(len(unit)):
        if not mask[a]:
            continue
        same, other = [], []
        for b in range(len(unit)):
            d = abs(place[a][0] - place[b][0]) + abs(place[a][1] - place[b][1])
            if mask[b] and 1 <= d <= limits.near:
                same.append(float(unit[a] @ unit[b]))
            if not mask[b] and d >= limits.far:
                other.append(float(unit[a] @ unit[b]))
        if same and other:
            anchors.append(np.mean(same) - np.mean(other))
    enough = mask.sum() >= 2 and (~mask).sum() >= 1 and anchors
    centre = np.mean(unit, axis=0)
    return {
        "lds": float(np.mean(near_edges) - np.mean(far_pairs)),
        "cds": float(-slope),
        "srss": float(np.mean(anchors)) if enough else math.nan,
        "rmsc": math.sqrt(float(np.mean([np.sum((u - centre) ** 2) for u in unit]))),
        "lds_text": float(np.mean(text_near) - np.mean(far_pairs)),
    }


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (6, 11), (5, 9)])
@pytest.mark.parametrize("block", [spatial.BLOCK_ELEMENTS, 700])
def test_all_metrics_agree_with_loops_in_float64(
    grid: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spatial, "BLOCK_ELEMENTS", block)  # small blocks: many rows and batches per pass
    rng = np.random.default_rng(1)
    count = grid[0] * grid[1]
    smooth = rng.normal(size=(3, count, 6)).cumsum(axis=1)
    tokens = np.concatenate([smooth, 2 + rng.normal(size=(3, count, 6))], axis=2).astype(np.float32)
    masks = rng.random((3, count)) < 0.4
    limits = Thresholds.for_grid(*grid)
    found = spatial_metrics(torch.from_numpy(tokens), grid, torch.from_numpy(masks)).named()
    for image in range(3):
        for name, expected in brute_force(tokens[image], grid, masks[image], limits).items():
            assert float(found[name][image]) == pytest.approx(expected, rel=1e-5, abs=1e-6), name


def test_the_rule_for_grids_gives_the_papers_thresholds_on_16x16() -> None:
    assert Thresholds.for_grid(16, 16) == Thresholds(1, 6, 8)
    assert Thresholds.for_grid(8, 8) == Thresholds(1, 3, 4)
    assert Thresholds.for_grid(32, 32) == Thresholds(1, 12, 16)
    assert Thresholds.for_grid(3, 3) == Thresholds(1, 2, 2)


def test_distances_are_those_of_the_grid() -> None:
    d = manhattan(3, 4)
    assert d[0].tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5]
    assert torch.equal(d, d.T)


seeds = st.integers(0, 2**31)


@given(seeds, st.integers(4, 9), st.integers(4, 9))
def test_rotation_of_feature_space_and_scale_of_tokens_change_nothing(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, height * width, 8)) + rng.normal(size=8)
    masks = torch.from_numpy(rng.random((2, height * width)) < 0.5)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    changed = (x @ rotation) * np.exp(rng.normal(size=(2, height * width, 1)))
    before = spatial_metrics(torch.from_numpy(x), (height, width), masks).named()
    after = spatial_metrics(torch.from_numpy(changed), (height, width), masks).named()
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=1e-4, atol=2e-5, equal_nan=True)


@given(seeds)
def test_rmsc_lies_between_0_and_1_and_constant_tokens_have_no_structure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(4, 36, 5)) + rng.normal(scale=3, size=(4, 1, 5)))
    rmsc = spatial_metrics(x, (6, 6)).rmsc
    assert bool(((rmsc >= 0) & (rmsc <= 1)).all())
    flat = spatial_metrics(x[:, :1].expand(-1, 36, -1), (6, 6))
    for values in (flat.lds, flat.cds, flat.rmsc, flat.lds_text):
        assert values.abs().max() < 1e-3


def test_tokens_on_a_circle_along_one_axis_have_the_closed_form() -> None:
    """x(r, c) = (cos wc, sin wc): K = cos(w dc), so S_d and the far mean follow from counting column offsets."""
    side, w = 10, 0.13
    column = torch.arange(side).repeat(side).double()
    x = torch.stack([torch.cos(w * column), torch.sin(w * column)], dim=-1)[None]
    found = spatial_metrics(x, (side, side))
    limits = Thresholds.for_grid(side, side)

    def mean_at(distances: range) -> float:
        total = pairs = 0.0
        for d in distances:
            for dc in range(min(d, side - 1) + 1):
                dr = d - dc
                if dr >= side:
                    continue
                number = (side - dr) * (side - dc) * (2 if dr else 1) * (2 if dc else 1)
                total, pairs = total + number * math.cos(w * dc), pairs + number
        return total / pairs

    far = mean_at(range(limits.far, 2 * side - 1))
    assert float(found.lds) == pytest.approx(mean_at(range(1, 2)) - far, abs=1e-6)
    assert float(found.lds_text) == pytest.approx(mean_at(range(1, limits.far)) - far, abs=1e-6)
    ds = np.arange(1, limits.slope + 1)
    slope = np.polyfit(ds, [mean_at(range(d, d + 1)) for d in ds], 1)[0]
    assert float(found.cds) == pytest.approx(-slope, abs=1e-6)


def test_srss_of_two_flat_regions_is_their_contrast_and_nan_without_regions() -> None:
    masks = torch.zeros(3, 64, dtype=torch.bool)
    masks[0, :32] = True  # upper half
    masks[1] = True  # no background
    masks[2, 5] = True  # one foreground token
    x = torch.zeros(3, 64, 2)
    x[..., 0] = 1
    x[0, :32] = torch.tensor([0.0, 1.0])
    srss = spatial_metrics(x, (8, 8), masks).srss
    assert float(srss[0]) == pytest.approx(1.0)
    assert bool(torch.isnan(srss[1:]).all())
    assert bool(torch.isnan(spatial_metrics(x, (8, 8)).srss).all())


def test_metrics_of_batches_leave_srss_out_where_a_region_is_small() -> None:
    """A quarter of each region is needed (paper: 64 of 256 patches); everything else is as without batches."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 64, 4, generator=generator)
    masks = torch.arange(64)[None] < torch.tensor([16, 15, 32, 48, 49])[:, None]
    whole = spatial_metrics(x, (8, 8), masks).named()
    assert bool(torch.isfinite(whole["srss"]).all())
    by_image = metrics_by_image(((x[part], masks[part]) for part in (slice(0, 3), slice(3, 5))), (8, 8))
    assert torch.isnan(by_image["srss"]).tolist() == [False, True, False, False, True]
    kept = ~torch.isnan(by_image["srss"])
    for name, values in whole.items():
        torch.testing.assert_close(by_image[name][kept], values[kept])
    without = metrics_by_image([(x, None)], (8, 8), Thresholds(1, 2, 3))
    assert bool(torch.isnan(without["srss"]).all())
    torch.testing.assert_close(without["lds"], spatial_metrics(x, (8, 8), None, Thresholds(1, 2, 3)).lds)


def test_zero_tokens_have_cosine_0_and_bad_tokens_are_refused() -> None:
    x = torch.ones(1, 16, 3)
    x[0, 0] = 0
    expected = brute_force(x[0].numpy(), (4, 4), np.zeros(16, bool), Thresholds.for_grid(4, 4))
    assert float(spatial_metrics(x, (4, 4)).lds) == pytest.approx(expected["lds"], abs=1e-6)
    x[0, 3, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        spatial_metrics(x, (4, 4))
    with pytest.raises(ValueError, match="do not lie on a 4x5 grid"):
        spatial_metrics(torch.ones(1, 16, 3), (4, 5))
    with pytest.raises(ValueError, match="longest distance is 6"):
        spatial_metrics(torch.ones(1, 16, 3), (4, 4), thresholds=Thresholds(1, 9, 3))

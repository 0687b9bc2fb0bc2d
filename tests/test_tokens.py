"""Tokens on a grid, and the transforms of wrapped encoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irepa.engine.targets import TokenCache
from irepa.errors import CacheError, DivergedError
from irepa.stored import InMemory
from irepa.tokens import check_finite, resample, spread, storage_grid


def cache(transforms: tuple[tuple[str, float | None], ...] = (), global_dim: int = 3) -> TokenCache:
    rng = np.random.default_rng(0)
    stored = InMemory(rng.normal(size=(5, 4, 3)).astype(np.float16))
    pooled = InMemory(rng.normal(size=(5, global_dim)).astype(np.float16))
    return TokenCache(stored, pooled, (2, 2), (4, 4), transforms)


@given(st.integers(1, 50), st.integers(1, 80))
def test_a_spread_subset_is_sorted_distinct_and_even(total: int, count: int) -> None:
    chosen = spread(total, count)
    assert len(chosen) == min(total, count)
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen[-1] < total
    if len(chosen) > 1:
        gaps = np.diff(chosen)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


@given(st.sampled_from([(4, 4), (6, 6), (8, 4)]), st.sampled_from([(2, 2), (4, 4), (8, 8)]))
def test_resampling_keeps_constants_and_pooling_keeps_the_mean(grid: tuple[int, int], to: tuple[int, int]) -> None:
    constant = torch.full((2, grid[0] * grid[1], 3), 1.5)
    assert torch.allclose(resample(constant, grid, to), torch.full((2, to[0] * to[1], 3), 1.5))
    if grid[0] % to[0] == 0 and grid[1] % to[1] == 0:
        x = torch.randn(2, grid[0] * grid[1], 3)
        assert torch.allclose(resample(x, grid, to).mean(dim=1), x.mean(dim=1), atol=1e-6)


def test_resampling_keeps_places() -> None:
    x = torch.zeros(1, 16, 1)
    x[0, 3] = 1  # upper right corner of 4x4
    assert resample(x, (4, 4), (2, 2))[0, :, 0].tolist() == [0, 0.25, 0, 0]
    with pytest.raises(ValueError, match="do not lie on a 3x4 grid"):
        resample(x, (3, 4), (2, 2))


def test_the_coarser_grid_is_stored() -> None:
    assert storage_grid((16, 16), (8, 8)) == (8, 8)
    assert storage_grid((3, 3), (8, 8)) == (3, 3)


def test_rows_do_not_depend_on_what_is_asked_for_with_them() -> None:
    tokens = cache()
    every = tokens[np.arange(5)]
    assert every.shape == (5, 16, 3)
    assert torch.equal(tokens[np.array([3])], every[3:4])
    assert torch.equal(tokens[np.array([4, 1])], every[[4, 1]])


def test_cls_mixing_is_the_formula_and_zero_is_the_encoder_itself() -> None:
    plain = cache()
    indices = np.array([0, 2])
    mixed = cache((("clsmix", 0.25),))[indices]
    global_token = torch.from_numpy(plain.stored["global"][indices]).float()
    torch.testing.assert_close(mixed, 0.75 * plain[indices] + 0.25 * global_token[:, None])
    assert torch.equal(cache((("clsmix", 0.0),))[indices], plain[indices])
    assert cache((("clsmix", 1.0),))[indices].std(dim=1).max() < 1e-6
    with pytest.raises(CacheError, match="no global token"):
        cache((("clsmix", 0.5),), global_dim=0)[indices]


def test_tokens_that_are_not_finite_are_named() -> None:
    with pytest.raises(DivergedError, match="tokens of sift: 2 of 4 values are NaN or infinite"):
        check_finite(torch.tensor([1.0, torch.nan, torch.inf, 0.0]), "tokens of sift")

"""Changes of an encoder's tokens: what each keeps and what it moves; and the map that is trained to raise LDS."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from irepa.encoders import lds_tuned
from irepa.engine.targets import TokenCache, transformed
from irepa.errors import ConfigError
from irepa.spatial import spatial_metrics
from irepa.stored import InMemory
from irepa.transforms import blur, demean, meanmix, permute, sharpen, shuffle, spatialnorm

GRID = (8, 8)
IMAGES = np.arange(3)


def tokens(seed: int = 0, dim: int = 5) -> Tensor:
    """Smooth over the grid, with noise: a field that has spatial structure."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.linspace(0, math.pi, side) for side in GRID), indexing="ij")
    waves = torch.stack([torch.cos(k * rows) + torch.cos(k * columns) for k in range(1, dim + 1)], dim=-1).flatten(0, 1)
    return waves + 1 + 0.3 * torch.randn(len(IMAGES), GRID[0] * GRID[1], dim, generator=generator)


def lds(x: Tensor) -> float:
    return float(spatial_metrics(x, GRID).lds.mean())


def change(x: Tensor, name: str, argument: float | None) -> Tensor:
    return transformed(x, None, ((name, argument),), GRID, IMAGES)


@given(st.integers(0, 20))
def test_a_shuffle_keeps_every_token_and_loses_their_order(seed: int) -> None:
    x = tokens(seed)
    moved = change(x, "shuffle", None)
    assert torch.equal(moved.flatten(1).sort(dim=1).values, x.flatten(1).sort(dim=1).values)
    assert torch.allclose(moved.mean(dim=1), x.mean(dim=1), atol=1e-5)
    assert lds(x) > 0.1
    assert abs(lds(moved)) < 0.1
    assert torch.equal(moved, change(x, "shuffle", None))


def test_a_shuffle_belongs_to_the_image_and_not_to_its_batch() -> None:
    x = tokens()
    alone = transformed(x[2:], None, (("shuffle", None),), GRID, IMAGES[2:])
    assert torch.equal(alone[0], change(x, "shuffle", None)[2])
    same = change(x[:1].expand(3, -1, -1), "shuffle", None)
    assert not torch.equal(same[0], same[1])


def test_a_partial_shuffle_leaves_the_rest_where_it_was() -> None:
    x = tokens()
    kept = (change(x, "shuffle", 0.5) == x).all(dim=-1).float().mean()
    assert 0.5 <= float(kept) < 0.6
    assert lds(change(x, "shuffle", None)) < lds(change(x, "shuffle", 0.5)) < lds(x)


@given(st.integers(0, 20))
def test_one_permutation_of_all_images_loses_structure_and_keeps_what_is_where(seed: int) -> None:
    x = tokens(seed)
    moved = change(x, "permute", None)
    assert abs(lds(moved)) < 0.1 < lds(x)
    order = change(torch.arange(64.0).expand(3, 64)[..., None], "permute", None)[..., 0].long()
    assert torch.equal(order[0], order[1]), "the same for every image"
    assert torch.equal(order[0].sort().values, torch.arange(64))
    assert torch.equal(moved, x[:, order[0]])
    assert torch.equal(transformed(x[2:], None, (("permute", None),), GRID, IMAGES[2:])[0], moved[2])
    assert torch.equal(moved, change(x, "permute", 0.0))
    assert not torch.equal(moved, change(x, "permute", 1.0))


@given(st.sampled_from([0.25, 0.5, 1.0]), st.integers(0, 20))
def test_sharpening_undoes_a_little_blur(amount: float, seed: int) -> None:
    """Without their mean, which it leaves alone, tokens grow less like their neighbours."""
    x = change(tokens(seed), "demean", None)
    assert lds(change(x, "sharpen", amount)) < lds(x) < lds(change(x, "blur", 1.0))
    blurred = change(x, "blur", 1.0)
    torch.testing.assert_close(change(x, "sharpen", amount), x + amount * (x - blurred))
    assert (change(blurred, "sharpen", amount) - x).square().mean() < (blurred - x).square().mean()


@given(st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_a_blur_is_a_mean_of_neighbours(width: float) -> None:
    constant = torch.full((3, 64, 2), 1.5)
    assert torch.allclose(change(constant, "blur", width), constant, atol=1e-5)
    noise = torch.randn(3, 64, 6, generator=torch.Generator().manual_seed(0))
    blurred = change(noise, "blur", width)
    assert lds(blurred) > lds(noise)
    assert float(blurred.std()) < float(noise.std())


def test_a_blur_is_scipys() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = tokens()
    reach = math.ceil(3 * 0.8)
    expected = ndimage.gaussian_filter(
        x.view(3, 8, 8, 5).double().numpy(), 0.8, axes=(1, 2), mode="mirror", radius=reach
    )
    np.testing.assert_allclose(change(x, "blur", 0.8).view(3, 8, 8, 5).numpy(), expected, atol=1e-5)


def test_mean_removal_mean_mixing_and_spatial_normalisation() -> None:
    x = tokens()
    mean = x.mean(dim=1, keepdim=True)
    assert torch.allclose(change(x, "demean", None).mean(dim=1), torch.zeros(3, 5), atol=1e-5)
    assert torch.allclose(change(x, "demean", 0.25), x - 0.25 * mean)
    mixed = change(x, "meanmix", 0.6)
    assert torch.allclose(mixed.mean(dim=1, keepdim=True), mean, atol=1e-5)
    assert torch.allclose(mixed - mean, 0.4 * (x - mean), atol=1e-5)
    assert lds(mixed) < lds(x) < lds(change(x, "demean", None))
    normed = change(x, "spatialnorm", 1.0)
    assert torch.allclose(normed.std(dim=1), torch.ones(3, 5), atol=1e-4)


REFUSED = [
    (shuffle, 1.5),
    (shuffle, 0.0),
    (blur, None),
    (blur, 0.0),
    (permute, 0.5),
    (sharpen, None),
    (sharpen, 0.0),
    (demean, 2.0),
    (meanmix, None),
    (spatialnorm, 1.2),
]


@pytest.mark.parametrize(("module", "argument"), REFUSED)
def test_a_wrong_argument_is_refused(module: object, argument: float | None) -> None:
    with pytest.raises(ConfigError, match="encoder x"):
        module.check(argument, "encoder x")  # type: ignore[attr-defined]


def test_the_adapters_lds_is_the_metrics() -> None:
    x = tokens()
    torch.testing.assert_close(lds_tuned.lds(x, GRID), spatial_metrics(x, GRID).lds, atol=1e-5, rtol=1e-4)


def test_the_adapter_raises_lds_and_a_penalty_holds_it() -> None:
    x = tokens(dim=12)
    stored = TokenCache(InMemory(x.numpy()), InMemory(np.zeros((3, 0), np.float32)), GRID, GRID, ())
    found = {}
    for keep in (0.0, 1.0, 100.0):
        options = lds_tuned.Options(steps=60, batch=3, lr=1e-2, keep=keep)
        y = lds_tuned.fit(options, stored, GRID, torch.device("cpu"))(x)
        found[keep] = lds(y), float((y - x).square().mean())
    assert found[0.0][0] > found[1.0][0] > found[100.0][0] - 1e-3 > lds(x) - 1e-2
    assert found[0.0][1] > found[1.0][1] > found[100.0][1]

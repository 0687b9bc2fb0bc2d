"""The linear probe reads what is there and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from irepa.engine.targets import TokenCache, Transforms
from irepa.stages.probe import by_position, linear_probe, pooled, principal_axes

GRID = (4, 4)


def test_separable_classes_are_read_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels, test_labels = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    centres = rng.normal(size=(4, 10)) * 5
    train, test = centres[labels] + rng.normal(size=(400, 10)), centres[test_labels] + rng.normal(size=(400, 10))
    accuracy, converged = linear_probe(train, labels, test, test_labels, 1.0, 500)
    assert accuracy > 0.98
    assert converged
    noise, _ = linear_probe(rng.normal(size=(400, 10)), labels, rng.normal(size=(400, 10)), test_labels, 1.0, 500)
    assert abs(noise - 0.25) < 0.1


def test_accuracy_does_not_depend_on_the_scale_of_a_feature() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 5)), rng.integers(0, 3, 200)
    scale = np.array([1e-4, 1, 10, 1e3, 1e5])
    assert linear_probe(x, y, x, y, 1.0, 500)[0] == linear_probe(x * scale, y, x * scale, y, 1.0, 500)[0]


def stored(tokens: np.ndarray, *transforms: tuple[str, float | None]) -> TokenCache:
    """Tokens as a cache on disk has them, with the transforms that follow an encoder's name."""
    changes: Transforms = transforms
    return TokenCache(tokens.astype(np.float16), np.zeros((len(tokens), 0), np.float16), GRID, GRID, changes)


def structured(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (images, 16, 6) whose class is told by where the bright token lies alone: their mean says nothing. And labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, images)
    tokens = rng.normal(size=(images, 16, 6))
    tokens[np.arange(images), 4 * labels + 1] += 4
    return tokens, labels


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_mean_is_blind_to_places_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(40, 16, 6)) * 10.0 ** rng.integers(-3, 3, 6)
    every = np.arange(40, dtype=np.int64)
    plain = pooled(stored(tokens), every)
    np.testing.assert_allclose(plain, tokens.astype(np.float16).mean(axis=1, dtype=np.float64), rtol=1e-12)
    for change in (("permute", None), ("permute", 3.0), ("shuffle", None), ("shuffle", 0.5)):
        np.testing.assert_array_equal(pooled(stored(tokens, change), every), plain)


def test_a_probe_by_position_sees_what_the_mean_cannot_and_only_a_new_order_per_image_takes_it_away() -> None:
    (train, labels), (test, test_labels) = structured(600, 0), structured(400, 1)
    found: dict[str, tuple[float, float]] = {}
    for name in ("", "permute", "shuffle"):
        changes = [(name, None)] if name else []
        sources = stored(train, *changes), stored(test, *changes)
        every = [np.arange(len(source), dtype=np.int64) for source in sources]
        axes = principal_axes(sources[0], every[0], 6)
        np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-10)
        views = [[pooled(s, i) for s, i in zip(sources, every, strict=True)],
                 [by_position(s, i, axes) for s, i in zip(sources, every, strict=True)]]  # fmt: skip
        blind, seeing = (linear_probe(a, labels, b, test_labels, 0.1, 300)[0] for a, b in views)
        found[name] = blind, seeing
    assert found[""][0] == found["permute"][0] == found["shuffle"][0] < 0.4
    assert found[""][1] > 0.9
    assert abs(found["permute"][1] - found[""][1]) < 0.01
    assert found["shuffle"][1] < 0.4


def test_principal_axes_are_those_of_the_covariance_over_images_and_positions() -> None:
    tokens = np.random.default_rng(2).normal(size=(50, 16, 5)).astype(np.float16) * np.float16([1, 5, 2, 3, 4])
    axes = principal_axes(stored(tokens), np.arange(50, dtype=np.int64), 2)
    expected = np.linalg.svd(tokens.reshape(-1, 5).astype(float) - tokens.reshape(-1, 5).astype(float).mean(0))[2][:2].T
    np.testing.assert_allclose(np.abs(axes.T @ expected), np.eye(2), atol=1e-9)

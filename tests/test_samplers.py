"""Samplers where the exact velocity is known: they reach the data distribution, with the order that theory gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from irepa.config.tier import Guidance
from irepa.engine.sampling import labels_of
from irepa.samplers import euler_maruyama, guided, ode_euler, ode_heun

MEAN, SD = 1.5, 0.5


def gaussian_velocity(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """E[eps - x0 | x_t] for x0 ~ N(MEAN, SD^2): the exact velocity."""
    t = t.view(-1, 1, 1, 1)
    variance = (1 - t) ** 2 * SD**2 + t**2
    residual = x - (1 - t) * MEAN
    return t / variance * residual - (MEAN + (1 - t) * SD**2 / variance * residual)


def exact_flow(noise: Tensor) -> Tensor:
    """Where the probability-flow ODE takes a noise value: the monotone map between the two Gaussians."""
    return MEAN + SD * noise


def start(count: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal((count, 1, 1, 1)))


def no_noise(step: int) -> Tensor:
    raise AssertionError("an ODE asks for no noise")


@pytest.mark.parametrize(("module", "order"), [(ode_euler, 1), (ode_heun, 2)])
def test_ode_samplers_converge_with_their_order(module: ModuleType, order: int) -> None:
    noise = start(200)

    def error(steps: int) -> float:
        samples = module.build(module.Options(steps=steps)).sample(gaussian_velocity, noise, no_noise)
        return float((samples - exact_flow(noise)).abs().max())

    errors = [error(steps) for steps in (20, 40, 80, 160)]
    measured = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert measured[-1] == pytest.approx(order, abs=0.15), errors


def seeded_noise(count: int) -> Callable[[int], Tensor]:
    return lambda step: torch.from_numpy(np.random.default_rng([7, step]).standard_normal((count, 1, 1, 1)))


def test_the_sde_reaches_the_data_distribution_and_more_steps_bring_it_closer() -> None:
    count = 40_000

    def moments(steps: int, last: float) -> tuple[float, float]:
        sampler = euler_maruyama.build(euler_maruyama.Options(steps=steps, last=last))
        samples = sampler.sample(gaussian_velocity, start(count), seeded_noise(count))
        return float(samples.mean()), float(samples.std())

    mean, sd = moments(250, 0.04)  # the paper's setting
    assert mean == pytest.approx(MEAN, abs=4 * SD / math.sqrt(count) + 2e-3)
    # One Euler step of the drift from t = 0.04 takes away variance of that order.
    assert sd == pytest.approx(SD, rel=0.02)
    errors = [abs(moments(steps, 1 / steps)[1] - SD) for steps in (6, 25, 400)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors


def test_the_sde_converges_with_weak_order_1() -> None:
    """The scheme is linear in its noises here, so the variance of its samples is a sum of squared responses: no sampling."""

    def variance(steps: int) -> float:
        # Image j feels a unit of noise at step j alone; the last image feels none.
        def noise(step: int) -> Tensor:
            unit = torch.zeros(steps + 1, 1, 1, 1, dtype=torch.float64)
            unit[step] = 1
            return unit

        sampler = euler_maruyama.build(euler_maruyama.Options(steps=steps, last=1 / steps))
        samples = sampler.sample(gaussian_velocity, noise(0), noise).flatten()
        return float((samples[:-1] - samples[-1]).square().sum())

    errors = [abs(variance(steps) - SD**2) for steps in (50, 100, 200, 400)]
    assert errors[-1] < 0.01
    measured = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert measured[-1] == pytest.approx(1, abs=0.15), errors


def test_guidance_of_equal_gaussians_is_a_gaussian_further_out() -> None:
    """Two Gaussians of one variance: guided velocity is exactly that of the mean m_null + scale (m_class - m_null)."""

    def of_mean(mean: float) -> Callable[[Tensor, Tensor], Tensor]:
        def velocity(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            offset = mean - MEAN
            return gaussian_velocity(x - (1 - t.view(-1, 1, 1, 1)) * offset, t, r) - offset

        return velocity

    x, t = start(20), torch.full((20,), 0.4, dtype=torch.float64)
    guided_velocity = guided(of_mean(2.0), of_mean(1.0), Guidance(scale=3.0))
    torch.testing.assert_close(guided_velocity(x, t, t), of_mean(4.0)(x, t, t))
    samples = ode_heun.build(ode_heun.Options(steps=60)).sample(guided_velocity, start(2000), no_noise)
    assert float(samples.mean()) == pytest.approx(4.0, abs=0.05)
    assert float(samples.std()) == pytest.approx(SD, rel=0.05)


def test_guidance_acts_inside_its_interval_only() -> None:
    calls: list[float] = []

    def unconditional(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        calls.append(float(t[0]))
        return torch.zeros_like(x)

    velocity = guided(lambda x, t, r: torch.ones_like(x), unconditional, Guidance(scale=2.0, low=0.25, high=0.75))
    x = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    values = [
        float(velocity(x, torch.full((3,), t), torch.full((3,), t))[0]) for t in (0.0, 0.2, 0.25, 0.5, 0.75, 0.8, 1.0)
    ]
    assert values == [1, 1, 2, 2, 2, 1, 1]
    assert calls == [0.25, 0.5, 0.75]


def test_the_score_is_that_of_the_gaussian() -> None:
    x, t = start(50), 0.3
    variance = (1 - t) ** 2 * SD**2 + t**2
    exact = -(x - (1 - t) * MEAN) / variance
    times = torch.full((50,), t, dtype=torch.float64)
    velocity = gaussian_velocity(x, times, times)
    torch.testing.assert_close(euler_maruyama.score(velocity, x, t), exact)


def test_two_modes_are_both_reached_in_their_share() -> None:
    """Data at -1 (30%) and 2 (70%), each with sd 0.1: a velocity that is far from linear in x."""
    weights, centres, sd = (0.3, 0.7), (-1.0, 2.0), 0.1

    def velocity(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        variance = (1 - t) ** 2 * sd**2 + t**2
        logits = torch.stack(
            [math.log(w) - (x - (1 - t) * c) ** 2 / (2 * variance) for w, c in zip(weights, centres, strict=True)]
        )
        share = torch.softmax(logits, dim=0)
        per_mode = torch.stack(
            [t / variance * (x - (1 - t) * c) - (c + (1 - t) * sd**2 / variance * (x - (1 - t) * c)) for c in centres]
        )
        return (share * per_mode).sum(dim=0)

    count = 4000
    for samples in (
        ode_heun.build(ode_heun.Options(steps=100)).sample(velocity, start(count), no_noise),
        euler_maruyama.build(euler_maruyama.Options()).sample(velocity, start(count), seeded_noise(count)),
    ):
        upper = samples > 0.5
        assert float(upper.double().mean()) == pytest.approx(0.7, abs=0.03)
        assert float(samples[upper].mean()) == pytest.approx(2, abs=0.02)
        assert float(samples[~upper].mean()) == pytest.approx(-1, abs=0.03)
        assert float(samples[upper].std()) == pytest.approx(sd, abs=0.03)


def test_an_interval_in_the_other_direction_of_time_leaves_its_ends_out() -> None:
    """JiT's code: guidance where low < 1 - t < high, and from the first step on for a low of 0."""
    for low, high in ((0.1, 1.0), (0.0, 0.5), (0.25, 0.75)):
        inside = Guidance(scale=2.0, low=low, high=high, time="1 - t")
        for step in range(51):
            data = step / 50  # JiT's time, 1 at data
            assert inside.applies(1 - data) == ((data > low or low == 0) and data < high), (low, high, data)


def test_samples_of_equal_classes_have_each_as_often() -> None:
    labels = labels_of(0, range(500), 10, equal=True)
    assert torch.bincount(labels).tolist() == [50] * 10
    assert torch.equal(labels[130:140], labels_of(0, range(130, 140), 10, equal=True))  # whatever is drawn beside them
    assert len(set(torch.bincount(labels_of(0, range(500), 10)).tolist())) > 1

"""Random numbers are a function of what they are for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from irepa import random
from irepa.random import StepRandom, batch_indices, image_label, image_noise, philox

CPU = torch.device("cpu")
# Counter, key and answer: the three lines for philox4x32-10 of the known answers that its authors publish (Random123).
ALL = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL,) * 4, (ALL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI[:4], PI[4:], (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers_as_numbers_arrays_and_tensors(
    counter: tuple[int, int, int, int], key: tuple[int, int], answer: tuple[int, int, int, int]
) -> None:
    assert philox(counter, key) == answer
    a, b, c, d = (np.full(5, word) for word in counter)
    assert [word.tolist() for word in philox((a, b, c, d), key)] == [[word] * 5 for word in answer]
    e, f, g, h = (torch.full((5,), word) for word in counter)
    assert [word.tolist() for word in philox((e, f, g, h), key)] == [[word] * 5 for word in answer]


def numbers(rows: slice, seed: int = 3, step: int = 7) -> tuple[torch.Tensor, ...]:
    draws = StepRandom(seed, step, 8, rows, CPU)
    return draws.uniform(), draws.normal(2, 3), draws.normal(), draws.uniform(), draws.normal(70, 70)


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
@pytest.mark.parametrize("on_device", [False, True])
def test_a_process_draws_its_rows_of_the_global_batch(
    processes: int, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and as a GPU draws them: tensors stand for its memory."""
    whole = numbers(slice(None))
    if on_device:
        monkeypatch.setattr(random, "_by_numpy", lambda device: False)
        monkeypatch.setattr(random, "DEVICE_CHUNK", 1000)
    share = 8 // processes
    parts = [numbers(slice(first, first + share)) for first in range(0, 8, share)]
    for together, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(shares), together)
    for other in (numbers(slice(None), step=8), numbers(slice(None), seed=4)):
        assert all(not torch.isin(a, b).any() for a, b in zip(whole[:4], other[:4], strict=True))


@pytest.mark.parametrize("fault", ["breaks", "lies", None])
def test_a_compiled_kernel_is_held_to_the_same_numbers(
    fault: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kernel(counter: tuple[Any, ...], key: tuple[int, int]) -> tuple[Any, ...]:
        if fault == "breaks":
            raise RuntimeError("no compiler\nand a long story")
        return philox((counter[0] + (fault == "lies"), *counter[1:]), key)

    monkeypatch.setattr(random, "_device_philox", philox)
    monkeypatch.setattr(random.torch, "compile", lambda function, dynamic: kernel)
    random.compile_draws(CPU)
    assert random._device_philox is (philox if fault else kernel)
    assert ("drawn without compilation" in caplog.text) is (fault is not None)


def test_a_number_is_the_word_of_its_counter() -> None:
    """The definition, number by number: row 5 of a batch at step 11 of seed 2, in the second use."""
    draws = StepRandom(2, 11, 6, slice(5, 6), CPU)
    uniform, normal = draws.uniform(), draws.normal(6)[0].tolist()
    assert uniform.item() == (philox((0, 5, 1, 1), (2, 11))[0] >> 8) / 2**24
    words = [word for block in (0, 1) for word in philox((block, 5, 2, 1), (2, 11))]
    for k in (0, 2, 4):
        length = math.sqrt(-2 * math.log((words[k] + 0.5) / 2**32))
        angle = 2 * math.pi * words[k + 1] / 2**32
        assert normal[k : k + 2] == pytest.approx([length * math.cos(angle), length * math.sin(angle)], abs=3e-6)


def test_the_numbers_are_distributed_as_they_say() -> None:
    draws = StepRandom(0, 0, 100_000, slice(None), CPU)
    uniform, normal = draws.uniform().double().numpy(), draws.normal(4).double().numpy()
    assert 0 <= uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    assert kstest(uniform, "uniform").pvalue > 0.01
    for column in normal.T:
        assert kstest(column, "norm").pvalue > 0.01
    # Moments of 400,000 numbers, within four standard errors; numbers of a row, and of neighbours, have nothing in common.
    values, error = normal.ravel(), 4 / math.sqrt(normal.size)
    for power, (moment, spread) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert abs((values**power).mean() - moment) < error * math.sqrt(spread), power
    correlations = [*np.corrcoef(normal.T)[np.triu_indices(4, 1)], np.corrcoef(normal[1:, 0], normal[:-1, 0])[0, 1]]
    assert max(map(abs, correlations)) < 4 / math.sqrt(len(normal))
    beyond = (abs(values) > 4).sum()
    expected = 2 * norm.sf(4) * len(values)
    assert abs(beyond - expected) < 4 * math.sqrt(expected)


def test_the_largest_normal_number_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [torch.tensor([word]) for word in (0, 0, ALL, ALL)]
    assert random._normal(*words).tolist()[0] == pytest.approx([math.sqrt(66 * math.log(2)), 0, 0, 0], abs=1e-6)
    assert max(random._uniform(*words)[0].tolist()) == 1 - 2**-24


@settings(max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 60))
def test_every_epoch_sees_every_image_once(seed: int, batch: int, total: int) -> None:
    steps = -(-3 * total // batch)
    order = np.concatenate([batch_indices(seed, step, batch, total) for step in range(steps)])
    for epoch in range(3):
        assert sorted(order[epoch * total : (epoch + 1) * total]) == list(range(total))


def test_an_epoch_is_shuffled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled: list[int] = []
    generator = random._generator
    monkeypatch.setattr(random, "_generator", lambda *key: shuffled.append(key[-1]) or generator(*key))
    random._epoch_order.cache_clear()
    for step in range(25):  # 2.5 epochs; two of its steps lie in two of them
        batch_indices(5, step, 10, 105)
    assert shuffled == [0, 1, 2]


def test_image_noise_and_labels_depend_on_seed_image_and_step_only() -> None:
    together = image_noise(1, range(3, 8), 2, (3, 2), CPU)
    alone = [image_noise(1, range(image, image + 1), 2, (3, 2), CPU) for image in range(3, 8)]
    assert torch.equal(together, torch.cat(alone))
    different = [image_noise(seed, range(image, image + 1), step, (3, 2), CPU).sum().item()
                 for seed, image, step in ((1, 5, 0), (1, 5, 1), (1, 6, 0), (2, 5, 0))]  # fmt: skip
    assert len(set(different)) == 4
    labels = [image_label(0, i, 10) for i in range(2000)]
    assert set(labels) == set(range(10))
    assert np.bincount(labels).min() > 140

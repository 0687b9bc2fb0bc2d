"""Random numbers are a function of what they are for."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from irepa.random import StepRandom, batch_indices, image_label, image_noise

CPU = torch.device("cpu")


def test_a_process_draws_its_rows_of_the_global_batch() -> None:
    whole = StepRandom(3, 7, 8, slice(None), CPU)
    t, noise = whole.uniform(), whole.normal(2, 3)
    parts = [StepRandom(3, 7, 8, rows, CPU) for rows in (slice(0, 5), slice(5, 8))]
    assert torch.equal(torch.cat([part.uniform() for part in parts]), t)
    assert torch.equal(torch.cat([part.normal(2, 3) for part in parts]), noise)
    assert not torch.equal(StepRandom(3, 8, 8, slice(None), CPU).uniform(), t)
    assert not torch.equal(StepRandom(4, 7, 8, slice(None), CPU).uniform(), t)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 60))
def test_every_epoch_sees_every_image_once(seed: int, batch: int, total: int) -> None:
    steps = -(-3 * total // batch)
    order = np.concatenate([batch_indices(seed, step, batch, total) for step in range(steps)])
    for epoch in range(3):
        assert sorted(order[epoch * total : (epoch + 1) * total]) == list(range(total))


def test_image_noise_and_labels_depend_on_seed_image_and_step_only() -> None:
    assert np.array_equal(image_noise(1, 5, 0, (3, 2)), image_noise(1, 5, 0, (3, 2)))
    different = [image_noise(*key, (3, 2)).sum() for key in ((1, 5, 0), (1, 5, 1), (1, 6, 0), (2, 5, 0))]
    assert len(set(different)) == 4
    labels = [image_label(0, i, 10) for i in range(2000)]
    assert set(labels) == set(range(10))
    assert np.bincount(labels).min() > 140

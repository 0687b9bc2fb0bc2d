"""The linear probe reads what is there and nothing else."""

from __future__ import annotations

import numpy as np

from irepa.stages.probe import linear_probe


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

"""Random numbers that depend on what they are for alone: not on batch size, processes or interruptions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class StepRandom:
    """The draws of one training step, for the images ``rows`` of its global batch.

    The same calls in the same order draw the same numbers for image i of step k, whichever process computes it.
    """

    def __init__(self, seed: int, step: int, batch: int, rows: slice, device: torch.device) -> None:
        self._rng = _generator(seed, 1, step)
        self._batch, self._rows, self._device = batch, rows, device

    def _local(self, drawn: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(drawn[self._rows]).to(self._device)

    def uniform(self) -> Tensor:
        """(rows,) float32 in [0, 1)."""
        return self._local(self._rng.random(self._batch, np.float32))

    def normal(self, *shape: int) -> Tensor:
        """(rows, *shape) standard normal, float32."""
        return self._local(self._rng.standard_normal((self._batch, *shape), np.float32))


def batch_indices(seed: int, step: int, batch: int, total: int) -> NDArray[np.int64]:
    """The training images that step ``step`` (from 0) sees, (batch,): each once per epoch, shuffled anew each epoch."""
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    indices = np.empty(batch, np.int64)
    for epoch in np.unique(positions // total):
        here = positions // total == epoch
        indices[here] = _generator(seed, 2, int(epoch)).permutation(total)[positions[here] % total]
    return indices


def mirrored(seed: int, step: int, images: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Half of the training images (batch,) of a step, at random, in a mirror: of ``total``, image i becomes i + total."""
    return images + total * _generator(seed, 7, step).integers(2, size=len(images))


def image_noise(seed: int, image: int, step: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal noise of one generated image at one sampling step (0: the start), shaped ``shape``."""
    return _generator(seed, 3, image, step).standard_normal(shape)


def image_permutation(image: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``count`` places that belongs to one image, (count,); the same in every run."""
    return _generator(5, image).permutation(count)


def place_permutation(seed: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``count`` places that belongs to a seed, (count,); the same for every image."""
    return _generator(6, seed).permutation(count)


def image_label(seed: int, image: int, classes: int) -> int:
    """Class of one generated image, in 0..classes-1, uniform over the classes."""
    return int(_generator(seed, 4, image).integers(classes))

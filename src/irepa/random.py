"""Random numbers that depend on what they are for alone: not on batch size, processes, interruptions or the device.

Noise and times are made by Philox4x32-10 (Salmon et al., 2011), a function from a counter of four 32-bit words and a key of two
to four random words. Number k of row i of a batch is word k % 4 of

    counter (k // 4, i, use, purpose), key (seed, step)

so that a process draws its own rows and nothing else, and a GPU draws on itself what a CPU draws, bit for bit as integers; the
logarithms and cosines that make normal numbers of them are rounded by each device in its own way.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irepa.errors import first_line

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # what the key grows by in each round
WORD = 0xFFFFFFFF
TRAINING, SAMPLING = 1, 3  # purposes

log = logging.getLogger("irepa")

# Counters worked on at a time: on a CPU they stay in the cache of a core, on a GPU they take less than 1 GB.
CPU_CHUNK, DEVICE_CHUNK = 2**13, 2**22


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10: four random words of each counter, in 0..2^32-1.

    The words of ``counter`` are whole numbers, int64 arrays of NumPy or int64 tensors, broadcast together. A product of two
    words may overflow into the sign; its bits are those of the unsigned product all the same.
    """
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        one, other = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = ((other >> 32) & WORD) ^ b ^ left, other & WORD
        c, d = ((one >> 32) & WORD) ^ d ^ right, one & WORD
        left, right = (left + WEYL[0]) & WORD, (right + WEYL[1]) & WORD
    return a, b, c, d


_device_philox: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = philox


def compile_draws(device: torch.device) -> None:
    """From here on the device runs Philox as one kernel and not as some hundred: integers, so the same numbers.

    Where the compiler fails, or its kernel gives other numbers, the log says so and nothing changes.
    """
    global _device_philox
    compiled, counter = torch.compile(philox, dynamic=True), torch.arange(1000, device=device)
    wanted = philox((counter, counter + WORD - 999, 1, TRAINING), (WORD, 5))
    try:
        got = compiled((counter, counter + WORD - 999, 1, TRAINING), (WORD, 5))
        if not all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True)):
            raise ValueError("the compiled kernel gives other numbers")
    except Exception as error:
        log.warning("random numbers are drawn without compilation: %s", first_line(error))
        return
    _device_philox = compiled


def _uniform(*words: Tensor) -> Tensor:
    """Four words to four numbers of 24 bits in [0, 1)."""
    return (torch.stack(words, -1) >> 8).float() * 2.0**-24


def _normal(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Four words to four standard normal numbers, at most 6.8 from 0 (Box and Muller, 1958)."""
    lengths = torch.stack((a, c), -1).float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angles = torch.stack((b, d), -1).float().mul_(math.tau * 2.0**-32)
    return torch.stack((lengths * angles.cos(), lengths * angles.sin()), -1).flatten(-2)


def _by_numpy(device: torch.device) -> bool:
    """Whether the integers are worked out by NumPy, which takes half the time that torch takes for them on a CPU."""
    return device.type == "cpu"


def _draw(
    made_of: Callable[..., Tensor], key: tuple[int, int], use: int, purpose: int, rows: range, count: int,
    device: torch.device,
) -> Tensor:  # fmt: skip
    """(len(rows), count) float32 on the device; ``made_of`` makes four numbers of four words."""
    blocks = -(-count // 4)
    total = len(rows) * blocks
    drawn = torch.empty(total, 4, device=device)
    by_numpy = _by_numpy(device)
    step = CPU_CHUNK if by_numpy else DEVICE_CHUNK
    for start in range(0, total, step):
        stop = min(start + step, total)
        places: Any = np.arange(start, stop) if by_numpy else torch.arange(start, stop, device=device)
        counter = (places % blocks, places // blocks + rows.start, use, purpose)
        words = (philox if by_numpy else _device_philox)(counter, key)
        drawn[start:stop] = made_of(*(torch.as_tensor(word) for word in words))
    return drawn.view(len(rows), 4 * blocks)[:, :count]


class StepRandom:
    """The draws of one training step, for the images ``rows`` of its global batch.

    The same calls in the same order draw the same numbers for image i of step k, whichever process computes it.
    """

    def __init__(self, seed: int, step: int, batch: int, rows: slice, device: torch.device) -> None:
        self.step = step
        self._key, self._rows, self._device = (seed, step), range(batch)[rows], device
        self._uses = 0

    def _next(self, made_of: Callable[..., Tensor], count: int) -> Tensor:
        self._uses += 1
        return _draw(made_of, self._key, self._uses, TRAINING, self._rows, count, self._device)

    def uniform(self) -> Tensor:
        """(rows,) float32 in [0, 1)."""
        return self._next(_uniform, 1).flatten()

    def normal(self, *shape: int) -> Tensor:
        """(rows, *shape) standard normal, float32."""
        return self._next(_normal, math.prod(shape)).reshape(len(self._rows), *shape)


def image_noise(seed: int, images: range, step: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard normal noise of generated images at one sampling step (0: the start), (images, *shape) float64."""
    drawn = _draw(_normal, (seed, step), 0, SAMPLING, images, math.prod(shape), device)
    return drawn.reshape(len(images), *shape).double()


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@functools.lru_cache(maxsize=2)  # the epoch at hand, and the next one where a batch lies in both
def _epoch_order(seed: int, epoch: int, total: int) -> NDArray[np.int64]:
    return _generator(seed, 2, epoch).permutation(total)


def batch_indices(seed: int, step: int, batch: int, total: int) -> NDArray[np.int64]:
    """The training images that step ``step`` (from 0) sees, (batch,): each once per epoch, shuffled anew each epoch."""
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    indices = np.empty(batch, np.int64)
    for epoch in np.unique(positions // total):
        here = positions // total == epoch
        indices[here] = _epoch_order(seed, int(epoch), total)[positions[here] % total]
    return indices


def mirrored(seed: int, step: int, images: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Rows (batch,) of the images of a step, half of them, at random, as a mirror shows them: row i + ``total`` is image i."""
    return images + total * _generator(seed, 7, step).integers(2, size=len(images))


def image_permutation(image: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``count`` places that belongs to one image, (count,); the same in every run."""
    return _generator(5, image).permutation(count)


def place_permutation(seed: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``count`` places that belongs to a seed, (count,); the same for every image."""
    return _generator(6, seed).permutation(count)


def replaced_labels(seed: int, labels: NDArray[np.int64], share: float, classes: int) -> NDArray[np.int64]:
    """Labels (n,) in 0..classes-1, a share of which, at random, are another class, each other class as likely."""
    generator = _generator(seed, 8)
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    replaced = labels.copy()
    replaced[chosen] = (labels[chosen] + generator.integers(1, classes, size=len(chosen))) % classes
    return replaced


def image_label(seed: int, image: int, classes: int) -> int:
    """Class of one generated image, in 0..classes-1, uniform over the classes."""
    return int(_generator(seed, 4, image).integers(classes))

"""Datasets: one module per source, each with ``Options``, ``check(options)`` and ``load(options, image_size)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Split:
    """Images of one split, decoded as they are asked for.

    Attributes:
        labels: (n,) int64, in 0..classes-1.
        batches: makes an iterator over uint8 arrays (m, image_size, image_size, 3) whose lengths add up to n.
        masks: (n, image_size, image_size) bool foreground masks where the dataset has them, else None.
    """

    labels: NDArray[np.int64]
    batches: Callable[[], Iterator[Images]]
    masks: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Dataset:
    train: Split
    test: Split
    class_names: list[str]

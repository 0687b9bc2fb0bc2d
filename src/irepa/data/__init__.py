"""Datasets: one module per source.

Each has ``Options`` (the tier's ``dataset`` beyond ``name`` and ``image_size``), ``check(options)``, which refuses what this
machine lacks without loading anything, and ``load(options, image_size)``, which gives its :class:`Splits`. One that reads files
of the user's also has ``paths(options)``, the list of those files and folders: when what lies there changes, the images are
decoded anew. Hidden folders are not looked at, and must not be read. Importing a module must stay light: libraries
that decode images are imported inside the functions that use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from irepa.images import Images


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
class Splits:
    """The training and held-out images of a dataset; ``class_names`` in the order of their labels."""

    train: Split
    test: Split
    class_names: list[str]

"""Datasets: one module per source.

Each has ``Options`` (the tier's ``dataset`` beyond ``name`` and ``image_size``), ``check(options)``, which refuses what this
machine lacks and what can be seen to be wrong without decoding an image, and ``load(options, image_size)``, which gives its
:class:`Splits`. One that reads files of the user's also has ``paths(options)``, the list of those files and folders: when what
lies there changes, the images are decoded anew. It may have ``at_most(options)``, the most training and held-out images that the
options allow, None where they set no limit. Hidden folders are not looked at, and must not be read. Importing a module must stay
light: libraries that decode images are imported inside the functions that use them.

A reader refuses what it cannot read with file, row, value and cure. Whatever a reader gives, the stage holds it to
:func:`check_splits` and :func:`checked_batches`, so that no label and no pixel enters that does not mean what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from irepa.errors import DataError
from irepa.stored import Mirrored, OnDisk, Packed, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from irepa.images import Images
    from irepa.pipeline.files import Record


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


def check_splits(splits: Splits) -> None:
    """Raises DataError where a label is none of the classes, or a class has no training image."""
    count = len(splits.class_names)
    for key, split in (("train", splits.train), ("test", splits.test)):
        labels = split.labels
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"dataset: labels of {key} are {labels.dtype} {labels.shape}; (n,) whole numbers are needed"
            )
        if not len(labels):
            raise DataError(f"dataset.{key}: no images")
        wrong = np.flatnonzero((labels < 0) | (labels >= count))
        if len(wrong):
            raise DataError(
                f"dataset.{key}: image {wrong[0]} has the label {labels[wrong[0]]}; allowed are 0 to {count - 1}, for {count} "
                "classes: mend the label, or leave the image out"
            )
    missing = np.setdiff1d(np.arange(count), splits.train.labels)
    if len(missing):
        named = ", ".join(f"{splits.class_names[label]} ({label})" for label in missing[:5])
        named += ", ..." if len(missing) > 5 else ""
        raise DataError(
            f"dataset.train: {len(missing)} of {count} classes have no training image: {named}; "
            "number the labels from 0 without a gap, or raise dataset.train_images where it leaves classes out"
        )


def set_aside(splits: Splits, count: int) -> tuple[Splits, Split]:
    """The same with ``count`` training images fewer, spread evenly over all; and those. Raises DataError where none is left.

    Batches of both parts decode all training images.
    """
    from irepa.tokens import spread

    total = len(splits.train.labels)
    if count >= total:
        raise DataError(
            f"dataset.judge_images = {count}: there are {total} training images; some of them must be left to train on"
        )
    aside = np.zeros(total, bool)
    aside[spread(total, count)] = True
    return replace(splits, train=_part(splits.train, ~aside)), _part(splits.train, aside)


def _part(split: Split, chosen: NDArray[np.bool_]) -> Split:
    """The images of a split where ``chosen`` (n,) is True."""

    def batches() -> Iterator[Images]:
        done = 0
        for images in split.batches():
            yield images[chosen[done : done + len(images)]]
            done += len(images)

    return Split(split.labels[chosen], batches)


def checked_batches(split: Split, key: str, size: int) -> Iterator[Images]:
    """The images of a split, batch by batch. Raises DataError for what is not (m, size, size, 3) uint8."""
    for images in split.batches():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise DataError(
                f"dataset.{key}: images of {images.dtype} {images.shape}; (m, {size}, {size}, 3) uint8 is needed"
            )
        yield images


def images_of(content: OnDisk, index: NDArray[np.uint64]) -> Stored:
    """The images (n, height, width, 3) uint8 of a file of pixels, or of packed ones where ``index`` says where each is."""
    from irepa.images import unpack

    return Packed(content, index, unpack) if len(index) else content


def stored_images(data: Record, split: str, flips: bool = False) -> Stored:
    """The images of a split, (n, height, width, 3) uint8, of the record of the stage ``data``.

    ``flips``: each of them twice, as :class:`irepa.stored.Mirrored`. Raises CacheError where they are not what was written.
    """
    images = images_of(data.rows(f"{split}.images.npy"), data.array(f"{split}.index.npy"))
    return Mirrored(images) if flips else images

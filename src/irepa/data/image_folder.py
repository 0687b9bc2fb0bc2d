"""A folder per split, a folder per class inside it, image files inside those: ImageNet as it is usually unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.data import Split, Splits
from irepa.errors import DataError

if TYPE_CHECKING:
    from irepa.images import Images

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
BATCH = 256


class Options(Strict):
    train: Path = Field(description="Folder of the training images.")
    test: Path = Field(description="Folder of the held-out images, with the same class folders.")
    train_images: Positive | None = Field(None, description="Use only so many, spread over the classes; null: all.")
    test_images: Positive | None = Field(None, description="Use only so many, spread over the classes; null: all.")


def paths(options: Options) -> list[Path]:
    """What is read: both splits."""
    return [options.train, options.test]


def check(options: Options) -> None:
    """Raises DataError where a path is missing or has no class folder with images."""
    classes(options.train, "train")
    classes(options.test, "test")


def classes(folder: Path, key: str) -> list[str]:
    """Names of the class folders, in order. Raises DataError, naming the option ``key``, where there is none."""
    if not folder.is_dir():
        raise DataError(
            f"dataset.{key} = {folder}: there is no such folder; set dataset.{key} under overrides in params.yaml"
        )
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise DataError(f"dataset.{key} = {folder}: the folder is empty of class folders; it must hold one per class")
    return names


def _split(folder: Path, key: str, names: list[str], limit: int | None, size: int) -> Split:
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(f"dataset.{key} = {folder}: no images ({', '.join(sorted(SUFFIXES))}) in its class folders")
    if limit is not None and limit < len(files):
        # Spread over the classes, which lie one after another.
        files = [files[index * len(files) // limit] for index in range(limit)]

    def batches() -> Iterator[Images]:
        from irepa.images import decode_all

        for start in range(0, len(files), BATCH):
            yield decode_all([(path, str(path)) for path, _ in files[start : start + BATCH]], size)

    return Split(np.array([label for _, label in files], np.int64), batches)


def load(options: Options, image_size: int) -> Splits:
    """Both splits, centre-cropped to ``image_size`` pixels.

    Raises DataError for an image that cannot be decoded, or where the splits have different classes.
    """
    names = classes(options.train, "train")
    if classes(options.test, "test") != names:
        raise DataError(f"dataset: {options.train} and {options.test} have different class folders")
    train = _split(options.train, "train", names, options.train_images, image_size)
    return Splits(train, _split(options.test, "test", names, options.test_images, image_size), names)

"""A folder per split, a folder per class inside it, image files inside those: ImageNet as it is usually unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from irepa.config.options import Positive, Strict
from irepa.data import Dataset, Images, Split
from irepa.errors import DataError
from irepa.images import decode_all

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
BATCH = 256


class Options(Strict):
    train: Path
    test: Path
    train_images: Positive | None = None
    test_images: Positive | None = None


def check(options: Options) -> None:
    """Raises DataError where a path is missing or has no class folder with images."""
    for key in ("train", "test"):
        classes(getattr(options, key), key)


def classes(folder: Path, key: str) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"dataset.{key} = {folder}: there is no such folder; set dataset.{key} under overrides in params.yaml"
        )
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not found:
        raise DataError(f"dataset.{key} = {folder}: the folder is empty; it must hold one folder per class")
    return found


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
        for start in range(0, len(files), BATCH):
            chosen = files[start : start + BATCH]
            yield decode_all([(path, str(path)) for path, _ in chosen], size)

    return Split(np.array([label for _, label in files], np.int64), batches)


def load(options: Options, image_size: int) -> Dataset:
    """Raises DataError for an image that cannot be decoded, or where the splits have different classes."""
    names = classes(options.train, "train")
    if classes(options.test, "test") != names:
        raise DataError(f"dataset: {options.train} and {options.test} have different class folders")
    train = _split(options.train, "train", names, options.train_images, image_size)
    return Dataset(train, _split(options.test, "test", names, options.test_images, image_size), names)

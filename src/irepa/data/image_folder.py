"""A folder per split, a folder per class inside it, image files inside those: ImageNet as it is usually unpacked."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.data import Split, Splits
from irepa.errors import DataError, gather, refuse, translated
from irepa.pipeline.outside import below

if TYPE_CHECKING:
    from irepa.images import Images

SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
BATCH = 256


class Options(Strict):
    train: Path = Field(description="Folder of the training images.")
    test: Path = Field(description="Folder of the held-out images, with the same class folders.")
    train_images: Positive | None = Field(None, description="Use only so many, spread over the classes; null: all.")
    test_images: Positive | None = Field(None, description="Use only so many, spread over the classes; null: all.")


def at_most(options: Options) -> tuple[int | None, int | None]:
    """The most training and held-out images; None where there is no limit."""
    return options.train_images, options.test_images


def paths(options: Options) -> list[Path]:
    """What is read: both splits."""
    return [options.train, options.test]


def check(options: Options) -> None:
    """Raises DataError where a path is missing, a class folder has no image, or the splits differ in their classes."""
    splits = {"train": options.train, "test": options.test}
    refuse(gather(functools.partial(_have_images, folder, key) for key, folder in splits.items()))
    same_classes(options)


def _have_images(folder: Path, key: str) -> None:
    for name in classes(folder, key):
        if next(walk(folder / name), None) is None:
            raise without_images(folder / name, key)


def hidden(name: str) -> bool:
    """What programs leave beside one's files: ``.ipynb_checkpoints``, ``._photo.jpg``, ``.DS_Store``."""
    return name.startswith(".")


def classes(folder: Path, key: str) -> list[str]:
    """Names of the class folders, in order, hidden ones left out. Raises DataError, naming the option ``key``, without any."""
    with translated(DataError, f"dataset.{key} = {folder} cannot be read"):
        if not folder.is_dir():
            raise DataError(
                f"dataset.{key} = {folder}: there is no such folder; set dataset.{key} under overrides in params.yaml"
            )
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not hidden(entry.name))
    if not names:
        raise DataError(f"dataset.{key} = {folder}: the folder is empty of class folders; it must hold one per class")
    return names


def same_classes(options: Options) -> list[str]:
    """The class folders that both splits have. Raises DataError, naming those that one alone has."""
    names, held_out = classes(options.train, "train"), classes(options.test, "test")
    if names != held_out:
        only = [
            f"{folder} alone has {', '.join(sorted(some)[:5])}{', ...' if len(some) > 5 else ''}"
            for folder, some in ((options.train, {*names} - {*held_out}), (options.test, {*held_out} - {*names}))
            if some
        ]
        raise DataError(
            f"dataset: {options.train} and {options.test} have different class folders: {'; '.join(only)}; "
            "move away or add what is not in both"
        )
    return names


def walk(folder: Path, images: bool = True) -> Iterator[Path]:
    """The image files below a folder, or all its files; links are followed, what is hidden is passed over. Raises DataError."""
    with translated(DataError, f"{folder} cannot be read", "see that it is there and may be read"):
        beside = folder.parent.stat()  # a link to the folders of other classes would give their images this label
        for entry in below(str(folder), frozenset({(beside.st_dev, beside.st_ino)})):
            path = Path(entry.path)
            if not hidden(entry.name) and (not images or path.suffix.lower() in SUFFIXES):
                yield path


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, in order of name. Raises DataError where it cannot be read."""
    return sorted(walk(folder))


def without_images(folder: Path, key: str) -> DataError:
    """The refusal of a folder that has no image that can be read: it says what it has instead."""
    suffixes = sorted({path.suffix or path.name for path in walk(folder, images=False)})
    seen = f"files of {', '.join(suffixes[:8])}" if suffixes else "no files"
    return DataError(
        f"dataset.{key}: the class folder {folder} has no image: {seen}, none of {', '.join(sorted(SUFFIXES))}; "
        "convert its images, or move the folder away"
    )


def _split(folder: Path, key: str, names: list[str], limit: int | None, size: int) -> Split:
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(names):
        paths = image_files(folder / name)
        if not paths:
            raise without_images(folder / name, key)
        files += [(path, label) for path in paths]
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
    names = same_classes(options)
    train = _split(options.train, "train", names, options.train_images, image_size)
    return Splits(train, _split(options.test, "test", names, options.test_images, image_size), names)

"""Decode the dataset once into arrays; foreground masks of the held-out images where it has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import features

from irepa.config import plugins
from irepa.config.consistency import images_that_do_not_fit
from irepa.config.plugins import plugin_options
from irepa.data import check_splits, checked_batches, images_of, set_aside
from irepa.errors import ConfigError, DataError, refuse
from irepa.images import Images, pack_all
from irepa.masks import boundary_contrast_mask
from irepa.pipeline.files import Json, write_array, write_array_in_parts, write_bytes_as_array
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.stored import OnDisk, row_sums
from irepa.tokens import spread


def run(context: Context) -> Json:
    settings = context.tier.dataset
    options = plugin_options("data", settings, "dataset")
    source = plugins.load("data", settings.name, "dataset")
    source.check(options)
    splits = source.load(options, settings.image_size)
    check_splits(splits)
    splits, aside = set_aside(splits, settings.judge_images)
    check_splits(splits)
    labels, test = splits.train.labels, len(splits.test.labels)
    fitted = labels[spread(len(labels), context.tier.probe.train_images or len(labels))]
    wrong = images_that_do_not_fit(context.settings, len(labels), fitted.tolist(), test)
    refuse([DataError(message) for message in wrong])
    size, packed = settings.image_size, settings.storage == "webp"
    if packed and not features.check("webp"):
        raise ConfigError("dataset.storage = webp: Pillow was built without WebP here; install its wheel, or set raw")
    for name, split in (("train", splits.train), ("judge", aside), ("test", splits.test)):
        count, path = len(split.labels), context.output(f"{name}.images.npy")
        batches = checked_batches(split, name, size) if count else iter(())
        parts = track(batches, f"{name} images", total=-(-count // 256))
        index = np.zeros((0, 3), np.uint64)
        if packed and count:
            index = write_packed(path, count, parts)
        else:
            write_array_in_parts(path, (count, size, size, 3), np.uint8, parts)
        write_array(context.output(f"{name}.index.npy"), index)
        write_array(context.output(f"{name}.labels.npy"), split.labels)
    if splits.test.masks is not None:
        masks = splits.test.masks[spread(len(splits.test.labels), context.tier.spatial.images)]
    else:
        images = images_of(OnDisk(context.output("test.images.npy"), "run again"), index)
        wanted = images[spread(len(images), context.tier.spatial.images)]
        masks = np.stack([boundary_contrast_mask(image) for image in track(wanted, "masks", len(wanted))])
    write_array(context.output("test.masks.npy"), masks)
    return {
        "train_images": len(splits.train.labels),
        "judge_images": len(aside.labels),
        "test_images": len(splits.test.labels),
        "classes": len(splits.class_names),
        "class_names": splits.class_names,
        "foreground_share": float(masks.mean()),
    }


def write_packed(path: Path, count: int, parts: Iterable[Images]) -> NDArray[np.uint64]:
    """Write ``count`` images one after another, compressed without loss; returns the index of :class:`irepa.stored.Packed`."""
    index = np.zeros((count, 3), np.uint64)

    def contents() -> Iterator[bytes]:
        number = start = 0
        for images in parts:
            for content, total in zip(pack_all(images), row_sums(np.ascontiguousarray(images)), strict=True):
                index[number] = start, len(content), total
                number, start = number + 1, start + len(content)
                yield content
        if number != count:
            raise DataError(f"{path}: expected {count} images, got {number}")

    write_bytes_as_array(path, contents())
    return index

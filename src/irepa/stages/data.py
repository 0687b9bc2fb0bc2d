"""Decode the dataset once into arrays; foreground masks of the held-out images where it has none."""

from __future__ import annotations

import numpy as np

from irepa.config import plugins
from irepa.config.consistency import images_that_do_not_fit
from irepa.config.plugins import plugin_options
from irepa.data import check_splits, checked_batches, set_aside
from irepa.errors import DataError, refuse
from irepa.masks import boundary_contrast_mask
from irepa.pipeline.files import Json, write_array, write_array_in_parts
from irepa.pipeline.runner import Context
from irepa.progress import track
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
    size = settings.image_size
    for name, split in (("train", splits.train), ("judge", aside), ("test", splits.test)):
        count = len(split.labels)
        batches = checked_batches(split, name, size) if count else iter(())
        parts = track(batches, f"{name} images", total=-(-count // 256))
        write_array_in_parts(context.output(f"{name}.images.npy"), (count, size, size, 3), np.uint8, parts)
        write_array(context.output(f"{name}.labels.npy"), split.labels)
    if splits.test.masks is not None:
        masks = splits.test.masks[spread(len(splits.test.labels), context.tier.spatial.images)]
    else:
        images = np.load(context.output("test.images.npy"), mmap_mode="r")
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

"""Statistics of the data under one judge, and features of some of it: computed once, read by every evaluation."""

from __future__ import annotations

import numpy as np
import torch

from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.distances import Reference, statistics
from irepa.engine.judges import extract, gathered, judging, spatial_width, width
from irepa.engine.sharing import Work, compute, fill, forget
from irepa.engine.targets import trained_entry
from irepa.pipeline.files import Json, write_array
from irepa.pipeline.runner import Context
from irepa.references import read_spatial, read_statistics
from irepa.tokens import spread


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    given = context.key in context.tier.evaluation.references
    reference, count = of_statistics(context, device) if given else of_images(context, device)
    moments = {"": reference.moments, "spatial.": reference.spatial or {"mu": np.zeros(0), "sigma": np.zeros((0, 0))}}
    write_array(context.output("/features.npy"), reference.features)
    for kind, statistic in moments.items():
        for name in ("mu", "sigma"):
            write_array(context.output(f"/{kind}{name}.npy"), statistic[name])
    return {"images": count, "kept": len(reference.features), "dim": len(reference.moments["mu"])}


def of_statistics(context: Context, device: torch.device) -> tuple[Reference, int | None]:
    """From a file of moments, and of images where it has some; and how many those are."""
    settings, entry = context.tier.evaluation, trained_entry(context, context.key)
    path = settings.references[context.key]
    # Before the judge sees an image: statistics of another network would come out as a distance all the same.
    moments, images = read_statistics(path, width(context.key, entry, settings))
    wide = spatial_width(context.key, entry, settings)
    spatial = None if wide is None else read_spatial(path, wide)
    features = np.zeros((0, len(moments["mu"])), np.float32)
    if images is not None:
        kept = images[spread(len(images), settings.reference_features)]
        features = extract(context.key, entry, kept, settings, device).pooled
    return Reference(moments, spatial, features), None if images is None else len(images)


def of_images(context: Context, device: torch.device) -> tuple[Reference, int]:
    """From the training images; and how many those are."""
    work = work_of(context, device)
    found = gathered(compute(context, context.key, work))
    forget(context, context.key)
    spatial = None if found.spatial is None else statistics(found.spatial)
    kept = found.pooled[spread(work.count, context.tier.evaluation.reference_features)]
    return Reference(statistics(found.pooled), spatial, kept), work.count


def work_of(context: Context, device: torch.device) -> Work:
    """The judge's features of the training images."""
    return judging(context, context.key, stored_images(context.input("data"), "train"), device)


def share(context: Context) -> Json:
    """One of several processes: its share of the features."""
    fill(context, {context.key: work_of(context, setup(context.resources.threads))})
    return {}

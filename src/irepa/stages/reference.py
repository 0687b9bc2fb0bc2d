"""Statistics of the data under one judge, and features of some of it: computed once, read by every evaluation."""

from __future__ import annotations

import numpy as np

from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.judges import extract, judged, judging, statistics, width
from irepa.engine.sharing import Work, compute, fill, forget
from irepa.pipeline.files import Json, write_array
from irepa.pipeline.runner import Context
from irepa.references import read_statistics
from irepa.tokens import spread


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    settings, entry = context.tier.evaluation, context.settings.catalogue[context.key]
    if context.key in settings.references:
        # Before the judge sees an image: statistics of another network would come out as a distance all the same.
        dim = width(context.key, entry, settings)
        moments, images = read_statistics(settings.references[context.key], dim)
        features = np.zeros((0, len(moments["mu"])), np.float32)
        if images is not None:
            kept = images[spread(len(images), settings.reference_features)]
            features = extract(context.key, entry, kept, settings, device).pooled
        count = None if images is None else len(images)
    else:
        work = works(context)[context.key]
        features = judged(context.key, compute(context, context.key, work)).pooled
        forget(context, context.key)
        moments, count = statistics(features), work.count
        features = features[spread(count, settings.reference_features)]
    write_array(context.output("features.npy"), features)
    write_array(context.output("mu.npy"), moments["mu"])
    write_array(context.output("sigma.npy"), moments["sigma"])
    return {"images": count, "kept": len(features), "dim": len(moments["mu"])}


def works(context: Context) -> dict[str, Work]:
    """The judge's features of the training images."""
    device, resources = setup(context.resources.threads), context.resources
    images, entry = stored_images(context.input("data"), "train"), context.settings.catalogue[context.key]
    several = resources.processes > 1
    return {
        context.key: judging(context.key, entry, images, context.tier.evaluation, device, resources.workers, several)
    }


def share(context: Context) -> Json:
    """One of several processes: its share of the features."""
    fill(context, works(context))
    return {}

"""Statistics of the data under one judge, and features of some of it: computed once, read by every evaluation."""

from __future__ import annotations

import numpy as np

from irepa.engine.device import setup
from irepa.engine.judges import extract, statistics, width
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
        images = context.input("data").array("train.images.npy")
        features = extract(context.key, entry, images, settings, device).pooled
        moments, count = statistics(features), len(images)
        features = features[spread(count, settings.reference_features)]
    write_array(context.output("features.npy"), features)
    write_array(context.output("mu.npy"), moments["mu"])
    write_array(context.output("sigma.npy"), moments["sigma"])
    return {"images": count, "kept": len(features), "dim": len(moments["mu"])}

"""Features and statistics of the training images under one judge: computed once, read by every evaluation."""

from __future__ import annotations

from irepa.compute import setup
from irepa.evaluation import extract, statistics
from irepa.files import Json, write_array
from irepa.runner import Context


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    images = context.input("data").array("train.images.npy")
    entry = context.settings.catalogue[context.key]
    features = extract(context.key, entry, images, context.tier.evaluation, device)
    found = statistics(features)
    write_array(context.output("features.npy"), features)
    write_array(context.output("mu.npy"), found["mu"])
    write_array(context.output("sigma.npy"), found["sigma"])
    return {"images": len(features), "dim": features.shape[1]}

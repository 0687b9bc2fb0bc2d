"""Metrics of held-out images under one judge, as many as there are samples, or all if they are fewer: what the data gets."""

from __future__ import annotations

from irepa.engine.device import setup
from irepa.engine.distances import measured
from irepa.engine.judges import extract
from irepa.engine.targets import trained_entry
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context
from irepa.stages.evaluate import reference_of
from irepa.tokens import spread


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    settings, entry = context.tier.evaluation, trained_entry(context, context.key)
    held_out = context.input("data").array("test.images.npy")
    images = held_out[spread(len(held_out), context.tier.sampling.samples)]
    found = extract(context.key, entry, images, settings, device)
    reference = reference_of(context.input("reference", context.key))
    return {"samples": len(images)} | measured(context.key, entry, found, reference, settings)

"""Metrics of held-out images under one judge, as many as there are samples, or all if they are fewer: what the data gets."""

from __future__ import annotations

from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.distances import measured
from irepa.engine.judges import gathered, judging
from irepa.engine.sharing import Work, compute, fill, forget
from irepa.engine.targets import trained_entry
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context
from irepa.stages.evaluate import reference_of
from irepa.stored import Some
from irepa.tokens import spread


def run(context: Context) -> Json:
    settings, entry, work = context.tier.evaluation, trained_entry(context, context.key), work_of(context)
    found = gathered(compute(context, context.key, work))
    forget(context, context.key)
    reference = reference_of(context.input("reference", context.key))
    return {"samples": work.count} | measured(context.key, entry, found, reference, settings)


def work_of(context: Context) -> Work:
    """The judge's features of the held-out images."""
    held_out = stored_images(context.input("data"), "test")
    chosen = spread(len(held_out), context.tier.sampling.samples)
    return judging(context, context.key, Some(held_out, chosen), setup(context.resources.threads))


def share(context: Context) -> Json:
    """One of several processes: its share of the features."""
    fill(context, {context.key: work_of(context)})
    return {}

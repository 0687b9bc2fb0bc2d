"""Distances of one cell's samples to the data, under every judge of the tier."""

from __future__ import annotations

from irepa.engine.device import setup
from irepa.engine.distances import Reference, measured
from irepa.engine.judges import gathered, judging
from irepa.engine.sharing import Work, compute, fill, forget
from irepa.engine.targets import trained_entry
from irepa.pipeline.files import Json, Record
from irepa.pipeline.runner import Context


def run(context: Context) -> Json:
    """Kernel distance, precision and recall need features of the data: a reference of statistics alone gives none."""
    sampled, settings, works = context.input("sample", context.key), context.tier.evaluation, works_of(context)
    metrics: Json = {"samples": sampled.metrics["samples"], "nfe": sampled.metrics["nfe"]}
    for name, work in works.items():
        found = gathered(compute(context, name, work))
        reference = reference_of(context.input("reference", name))
        metrics |= measured(name, trained_entry(context, name), found, reference, settings)
    for name in works:
        forget(context, name)
    return metrics


def works_of(context: Context) -> dict[str, Work]:
    """By judge, its features of the samples."""
    device = setup(context.resources.threads)
    samples = context.input("sample", context.key).compressed("samples.npz")
    return {name: judging(context, name, samples, device) for name in context.tier.evaluation.extractors}


def share(context: Context) -> Json:
    """One of several processes: its share of the features."""
    fill(context, works_of(context))
    return {}


def reference_of(record: Record) -> Reference:
    """What the stage ``reference`` has written. Raises CacheError where a file is missing or damaged."""
    moments, spatial = (
        {name: record.array(f"{kind}{name}.npy") for name in ("mu", "sigma")} for kind in ("", "spatial.")
    )
    return Reference(moments, spatial if len(spatial["mu"]) else None, record.array("features.npy").copy())

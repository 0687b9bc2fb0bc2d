"""Distances of one cell's samples to the data, under every judge of the tier."""

from __future__ import annotations

from irepa.engine.device import setup
from irepa.engine.distances import Reference, measured
from irepa.engine.judges import extract
from irepa.engine.targets import trained_entry
from irepa.pipeline.files import Json, Record
from irepa.pipeline.runner import Context


def run(context: Context) -> Json:
    """Kernel distance, precision and recall need features of the data: a reference of statistics alone gives none."""
    device = setup(context.resources.threads)
    sampled = context.input("sample", context.key)
    samples = sampled.compressed("samples.npz")
    settings = context.tier.evaluation
    metrics: Json = {"samples": len(samples), "nfe": sampled.metrics["nfe"]}
    for name in settings.extractors:
        entry = trained_entry(context, name)
        found = extract(name, entry, samples, settings, device)
        metrics |= measured(name, entry, found, reference_of(context.input("reference", name)), settings)
    return metrics


def reference_of(record: Record) -> Reference:
    """What the stage ``reference`` has written. Raises CacheError where a file is missing or damaged."""
    moments, spatial = (
        {name: record.array(f"{kind}{name}.npy") for name in ("mu", "sigma")} for kind in ("", "spatial.")
    )
    return Reference(moments, spatial if len(spatial["mu"]) else None, record.array("features.npy").copy())

"""Frechet and kernel distance of one cell's samples to the training images, under every judge of the tier."""

from __future__ import annotations

from irepa.compute import setup
from irepa.evaluation import extract, frechet_distance, kernel_distance, statistics
from irepa.files import Json
from irepa.runner import Context


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    sampled = context.input("sample", context.key)
    samples = sampled.array("samples.npy")
    settings = context.tier.evaluation
    metrics: Json = {"samples": len(samples), "nfe": sampled.metrics["nfe"]}
    for name in settings.extractors:
        entry = context.settings.catalogue[name]
        features = extract(name, entry, samples, settings, device)
        reference = context.input("reference", name)
        known = {key: reference.array(f"{key}.npy") for key in ("mu", "sigma")}
        frechet, kernel = entry.metric_names()
        metrics[frechet] = frechet_distance(statistics(features), known)
        metrics[kernel], metrics[f"{kernel}-sd"] = kernel_distance(
            features, reference.array("features.npy").copy(), settings.kid_subsets, settings.kid_subset_size
        )
    return metrics

"""Distances of one cell's samples to the data, under every judge of the tier."""

from __future__ import annotations

from irepa.engine.device import setup
from irepa.engine.judges import (
    extract,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    statistics,
)
from irepa.errors import ConfigError
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context


def run(context: Context) -> Json:
    """Kernel distance, precision and recall need features of the data: a reference of statistics alone gives none."""
    device = setup(context.resources.threads)
    sampled = context.input("sample", context.key)
    samples = sampled.array("samples.npy")
    settings = context.tier.evaluation
    metrics: Json = {"samples": len(samples), "nfe": sampled.metrics["nfe"]}
    for name in settings.extractors:
        entry = context.settings.catalogue[name]
        features = extract(name, entry, samples, settings, device)
        reference = context.input("reference", name)
        moments = {key: reference.array(f"{key}.npy") for key in ("mu", "sigma")}
        if moments["mu"].shape != features.pooled.shape[1:]:
            width = features.pooled.shape[1]
            raise ConfigError(
                f"evaluation.references: {name}: statistics of {len(moments['mu'])} dimensions, the judge's features have {width}"
            )
        metrics[entry.metric_name("FID")] = frechet_distance(statistics(features.pooled), moments)
        data = reference.array("features.npy").copy()
        if len(data):
            kernel = entry.metric_name("KID")
            metrics[kernel], metrics[f"{kernel}-sd"] = kernel_distance(
                features.pooled, data, settings.kid_subsets, min(settings.kid_subset_size, len(data))
            )
            precision, recall = precision_recall(features.pooled, data, settings.neighbours)
            metrics |= {entry.metric_name("precision"): precision, entry.metric_name("recall"): recall}
        if features.logits is not None:
            metrics[entry.metric_name("IS")] = inception_score(features.logits)
    return metrics

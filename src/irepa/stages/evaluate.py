"""Distances of one cell's samples to the data, under every judge of the tier."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from irepa.config.tier import Evaluation
from irepa.engine.device import setup
from irepa.engine.judges import (
    JudgeFeatures,
    frechet_distance,
    inception_score,
    judged,
    judging,
    kernel_distance,
    precision_recall,
    statistics,
)
from irepa.engine.sharing import Work, compute, fill, forget
from irepa.errors import ConfigError, DataError, DivergedError, translated
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context
from irepa.references import Statistics


def run(context: Context) -> Json:
    """Kernel distance, precision and recall need features of the data: a reference of statistics alone gives none."""
    sampled = context.input("sample", context.key)
    settings = context.tier.evaluation
    metrics: Json = {"samples": sampled.metrics["samples"], "nfe": sampled.metrics["nfe"]}
    for name, work in works(context).items():
        entry = context.settings.catalogue[name]
        features = judged(name, compute(context, name, work))
        reference = context.input("reference", name)
        moments = {key: reference.array(f"{key}.npy") for key in ("mu", "sigma")}
        if moments["mu"].shape != features.pooled.shape[1:]:
            width = features.pooled.shape[1]
            raise ConfigError(
                f"evaluation.references: {name}: statistics of {len(moments['mu'])} dimensions, the judge's features have {width}"
            )
        data = reference.array("features.npy").copy()
        failed = f"{name}: {work.count} samples cannot be compared with {len(data)} images"
        with translated(DataError, failed, "see that sampling.samples is large enough for every metric"):
            measured = distances(features, moments, data, settings)
        for metric, value in measured.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name}: {''.join(metric)} of {work.count} samples is {value}")
        metrics |= {entry.metric_name(metric) + ending: value for (metric, ending), value in measured.items()}
    for name in settings.extractors:
        forget(context, name)
    return metrics


def works(context: Context) -> dict[str, Work]:
    """By judge, its features of the samples."""
    device, resources, settings = setup(context.resources.threads), context.resources, context.tier.evaluation
    samples, catalogue = context.input("sample", context.key).rows("samples.npy"), context.settings.catalogue
    several = resources.processes > 1
    return {
        name: judging(name, catalogue[name], samples, settings, device, resources.workers, several)
        for name in settings.extractors
    }


def share(context: Context) -> Json:
    """One of several processes: its share of the features."""
    fill(context, works(context))
    return {}


def distances(
    features: JudgeFeatures, moments: Statistics, data: NDArray[np.float32], settings: Evaluation
) -> dict[tuple[str, str], float]:
    """Every metric of samples by their features, by its name and what follows the judge's in it.

    ``moments`` and ``data``: statistics of the reference, and features (n, dim) of some of its images, n = 0 for none.
    """
    metrics = {("FID", ""): frechet_distance(statistics(features.pooled), moments)}
    if len(data):
        metrics[("KID", "")], metrics[("KID", "-sd")] = kernel_distance(
            features.pooled, data, settings.kid_subsets, min(settings.kid_subset_size, len(data))
        )
        metrics[("precision", "")], metrics[("recall", "")] = precision_recall(
            features.pooled, data, settings.neighbours
        )
    if features.logits is not None:
        metrics[("IS", "")] = inception_score(features.logits)
    return metrics

"""The pipeline's own results at one tier, from its table."""

from __future__ import annotations

import pandas as pd

from irepa.audit.evidence import Evidence, empty_runs
from irepa.config.cells import split_encoder
from irepa.pipeline.runner import Context
from irepa.table import distance_name, distances, encoder_metrics, steps_of


def read(context: Context) -> Evidence:
    """Raises CacheError where the tier's table is missing or out of date."""
    tier = context.tier
    frames = [
        distances(context, name).assign(experiments=" ".join(experiment.paper))
        for name, experiment in tier.experiments.items()
        if experiment.paper
    ]
    cell = ["recipe", "scale", "encoder", "method", "seed"]
    runs = pd.concat(frames, ignore_index=True) if frames else empty_runs()
    if len(runs):  # a run of two experiments stands once, and serves both
        serves = runs.groupby(cell)["experiments"].agg(lambda names: " ".join(sorted(set(" ".join(names).split()))))
        runs = runs.drop_duplicates(cell).drop(columns=["experiments", "distance"]).join(serves, on=cell)
        early = runs["recipe"].map(lambda recipe: tier.recipes[recipe].at is not None)
        runs = runs.assign(
            setting="",
            steps=runs["recipe"].map(lambda recipe: steps_of(tier, recipe)),
            final=~early,
            # Samples of early weights are another point on the curve of the same training.
            recipe=runs["recipe"].where(~early, runs["recipe"].map(lambda recipe: tier.recipes[recipe].trained_as)),
        )
    metrics = encoder_metrics(context)
    rows = [context.settings.catalogue[split_encoder(name)[0]] for name in metrics.index]
    records = [f"spatial/{name}.json probe/{name}.json" for name in metrics.index]
    return Evidence(
        name=context.settings.params.tier,
        title=tier.title,
        distance=distance_name(context),
        runs=runs,
        encoders=metrics.assign(
            family=[row.family for row in rows], base=[row.base or "" for row in rows], records=records
        ),
        scales=list(tier.scales),
    )

"""The pipeline's own results at one tier, from its table."""

from __future__ import annotations

import pandas as pd

from irepa.audit.evidence import Evidence, empty_runs
from irepa.config.cells import network_of, split_encoder
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context
from irepa.table import CELL, distance_name, distances, encoder_metrics, steps_of


def read(context: Context) -> Evidence:
    """Raises CacheError where the tier's table is missing or out of date."""
    tier = context.tier
    metrics = encoder_metrics(context)
    entries = [context.settings.catalogue[split_encoder(name)[0]] for name in metrics.index]
    records = [
        " ".join(context.plan.record_name(Job(stage, name)) for stage in ("spatial", "probe")) for name in metrics.index
    ]
    return Evidence(
        name=context.settings.params.tier,
        title=tier.title,
        distance=distance_name(context),
        runs=runs_of(context),
        encoders=metrics.assign(
            family=[entry.family for entry in entries],
            network=[network_of(name, context.settings.catalogue) for name in metrics.index],
            base=[entry.base or "" for entry in entries],
            records=records,
        ),
        scales=list(tier.scales),
    )


def runs_of(context: Context) -> pd.DataFrame:
    """The runs of every experiment that serves one of the paper's: columns ``RUNS``."""
    tier = context.tier
    frames = [
        runs.assign(experiments=" ".join(experiment.paper), held=runs["seed"] >= context.settings.params.seed + fixed)
        for name, experiment in tier.experiments.items()
        if experiment.paper
        for runs, fixed in [(distances(context, name), (experiment.seeds or tier.seeds) - experiment.holdout)]
    ]
    runs = pd.concat(frames, ignore_index=True) if frames else empty_runs()
    if runs.empty:
        return runs
    # A run of two experiments stands once, and serves both; it is held out where each of them holds it out.
    serves = runs.groupby(CELL)["experiments"].agg(lambda names: " ".join(sorted(set(" ".join(names).split()))))
    held = runs.groupby(CELL)["held"].all()
    runs = (
        runs.drop_duplicates(CELL)
        .drop(columns=["experiments", "held", "distance"])
        .join(serves, on=CELL)
        .join(held, on=CELL)
    )
    # A recipe that is trained as another is that one's training: sampled early, another point on its curve, or otherwise.
    trained = runs["recipe"].map(lambda recipe: tier.recipes[recipe].trained_as)
    early = runs["recipe"].map(lambda recipe: tier.recipes[recipe].at is not None)
    return runs.assign(
        setting=runs["recipe"].where(trained.notna() & ~early, ""),
        steps=runs["recipe"].map(lambda recipe: steps_of(tier, recipe)),
        final=~early,
        recipe=trained.fillna(runs["recipe"]),
    )

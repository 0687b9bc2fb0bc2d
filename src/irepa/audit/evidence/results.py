"""The pipeline's own results at one tier, from its table."""

from __future__ import annotations

import pandas as pd

from irepa.audit.evidence import INSIDE, QUANTITIES, Evidence, empty_runs
from irepa.config.cells import Cell, changed_by, network_of, split_encoder
from irepa.config.tier import Tier
from irepa.pipeline.graph import Job, inspected_encoder
from irepa.pipeline.runner import Context
from irepa.table import CELL, distance_name, distances, encoder_metrics, read_table, steps_of


def read(context: Context, experiment: str = "") -> Evidence:
    """Raises CacheError where the tier's table is missing or out of date.

    experiment: one of the tier's that is read too where it serves none of the paper's (:func:`serving`).
    """
    tier, runs = context.tier, runs_of(context, experiment)
    metrics = encoder_metrics(context).join(_normalised(context))
    catalogue = context.settings.catalogue
    rows = [split_encoder(name)[0] for name in metrics.index]
    records = [
        " ".join(context.plan.record_name(Job(stage, name)) for stage in ("spatial", "probe")) for name in metrics.index
    ]
    return Evidence(
        name=context.settings.params.tier,
        title=tier.title,
        distance=distance_name(context),
        runs=runs,
        encoders=metrics.assign(
            family=[catalogue[row].family for row in rows],
            network=[network_of(row, catalogue) for row in rows],
            base=[changed_by(row, catalogue) or "" for row in rows],
            records=records,
        ),
        scales=list(tier.scales),
        quantities={name: _named(context, name) for name in QUANTITIES if name in runs},
    )


def _named(context: Context, quantity: str) -> str:
    """How the tier's first judge calls one of the paper's quantities: ``precision-EffLite2``."""
    return context.settings.catalogue[context.tier.evaluation.extractors[0]].metric_name(QUANTITIES[quantity])


def _normalised(context: Context) -> pd.DataFrame:
    """Spatial metrics after spatial normalisation, a row per encoder."""
    table = read_table(context)
    rows = table[(table["stage"] == "spatial") & table["metric"].str.endswith("_normalised")]
    return rows.pivot(index="encoder", columns="metric", values="value")


def _further(context: Context) -> pd.DataFrame:
    """What is known of cells beside their distance, a row per cell with ``CELL`` as its index."""
    table = read_table(context)
    table = table[table["stage"].isin(["evaluate", "inspect"])].astype({"seed": int})
    samples = {_named(context, name): name for name in QUANTITIES}
    rows = table[(table["stage"] == "evaluate") & table["metric"].isin(samples)]
    found = rows.assign(metric=rows["metric"].map(samples)).pivot(index=CELL, columns="metric", values="value")
    rows = table[(table["stage"] == "inspect") & table["metric"].isin(INSIDE)]
    if rows.empty:
        return found
    inside = rows.pivot(index=CELL, columns="metric", values="value").join(rows.groupby(CELL)["record"].first())
    names = [str(Cell(*cell)) for cell in inside.index]
    compared = pd.Series([inspected_encoder(context.settings, name) for name in names], inside.index)
    return found.join(inside.rename(columns={"record": "record_inside"}).assign(compared=compared), how="outer")


def serving(tier: Tier, name: str) -> str:
    """The paper's experiments that one of the tier's serves, by which its runs are found; its own name where it serves none."""
    return " ".join(tier.experiments[name].paper) or name


def runs_of(context: Context, also: str = "") -> pd.DataFrame:
    """The runs of every experiment that serves one of the paper's: columns ``RUNS``, and what else is known of them.

    also: another experiment.
    """
    tier = context.tier
    frames = [
        runs.assign(experiments=serving(tier, name), held=runs["seed"] >= context.settings.params.seed + fixed)
        for name, experiment in tier.experiments.items()
        if experiment.paper or name == also
        for runs, fixed in [(distances(context, name), (experiment.seeds or tier.seeds) - experiment.holdout)]
    ]
    runs = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if runs.empty:  # none served the paper, or every one has failed
        return empty_runs()
    # A run of two experiments stands once, and serves both; it is held out where each of them holds it out.
    serves = runs.groupby(CELL)["experiments"].agg(lambda names: " ".join(sorted(set(" ".join(names).split()))))
    held = runs.groupby(CELL)["held"].all()
    runs = (
        runs.drop_duplicates(CELL)
        .drop(columns=["experiments", "held", "distance"])
        .join(serves, on=CELL)
        .join(held, on=CELL)
        .join(_further(context), on=CELL)
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

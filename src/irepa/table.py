"""The tier's own numbers, read from its table: what figures and the audit start from."""

from __future__ import annotations

import pandas as pd

from irepa.config.cells import experiment_cells
from irepa.config.tier import Tier
from irepa.pipeline.runner import Context

SPATIAL_NAMES = {"lds": "LDS", "cds": "CDS", "srss": "SRSS", "rmsc": "RMSC"}
PROPERTIES = ("accuracy", *SPATIAL_NAMES, "lds_text")


def distance_name(context: Context) -> str:
    """The name of the Frechet distance that the tier's first judge gives."""
    return context.settings.catalogue[context.tier.evaluation.extractors[0]].metric_name("FID")


def steps_of(tier: Tier, recipe: str) -> int:
    """Training steps behind a recipe's samples."""
    return tier.recipes[recipe].at or tier.training.steps


def images_seen(tier: Tier, recipe: str) -> int:
    """Training images, counted each time they are shown, behind a recipe's samples."""
    return steps_of(tier, recipe) * tier.training.batch


def read_table(context: Context) -> pd.DataFrame:
    path = context.input("table").file("table.csv")
    return pd.read_csv(path, keep_default_na=False, na_values={"value": [""], "seed": [""]})


def distances(context: Context, experiment: str) -> pd.DataFrame:
    """Every cell of an experiment with its distance: recipe, scale, encoder, method, seed, ``fd``, ``distance``, ``record``."""
    name = distance_name(context)
    table = read_table(context)
    rows = table[(table["stage"] == "evaluate") & (table["metric"] == name)].set_index("record")
    chosen = experiment_cells(context.settings, context.tier.experiments[experiment])
    # A run that has failed has no distance, and is left out.
    wanted = [f"evaluation/{cell}.json" for cell in chosen]
    found = rows.loc[[record for record in wanted if record in rows.index]].reset_index()
    found = found[["recipe", "scale", "encoder", "method", "seed", "value", "record"]].rename(columns={"value": "fd"})
    return found.assign(distance=name, seed=found["seed"].astype(int))


def encoder_metrics(context: Context) -> pd.DataFrame:
    """``PROPERTIES`` of every encoder, one row each, indexed by its name; accuracy (of the probe) in percent."""
    table = read_table(context)
    wanted = table[table["stage"].isin(["spatial", "probe"]) & table["metric"].isin(PROPERTIES)]
    found = wanted.pivot(index="encoder", columns="metric", values="value")
    return found.assign(accuracy=100 * found["accuracy"])

"""Training recipes: this tier's distances with and without iREPA beside those of the paper's Tables 2a and 2b."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from irepa.audit import paper
from irepa.audit.pairs import ALONE, REPA
from irepa.report.markdown import grid
from irepa.report.tier import FinishedTier

EXPERIMENT = "E6"  # the paper's, on training recipes
IREPA = "irepa"
RUN = ["recipe", "scale", "encoder", "method", "distance"]


def recipe_table(finished: FinishedTier) -> str:
    """A row per recipe, scale and encoder that was trained with REPA and with iREPA: mean distances over seeds, and how many."""
    rows = [*_pairs("here", measured(finished)), *_pairs("published", printed())]
    return grid(rows, 1) or "No pair of REPA and iREPA has been run."


def measured(finished: FinishedTier) -> pd.DataFrame:
    """Runs of this tier that serve the paper's experiment on recipes: columns ``RUN`` and ``value``."""
    serving = {name for name, experiment in finished.tier.experiments.items() if EXPERIMENT in experiment.paper}
    table = finished.table
    serves = table["experiments"].map(lambda names: not serving.isdisjoint(str(names).split())).astype(bool)
    runs = table[(table["metric"] == finished.distance) & serves]
    return runs.assign(distance=finished.distance)[[*RUN, "value"]]


def printed() -> pd.DataFrame:
    """Tables 2a and 2b, in the same columns; evaluations and guidance stand with the recipe where a table varies them."""
    rows = paper.recipes()
    recipe = (rows["recipe"] + ", " + rows["setting"]).str.removesuffix(", ")
    return rows.assign(distance="FID", scale=rows["model"], recipe=recipe)[[*RUN, "value"]]


def _pairs(source: str, runs: pd.DataFrame) -> Iterator[dict[str, object]]:
    alone = runs[runs["method"] == ALONE].groupby(["recipe", "scale"])["value"].mean()
    grouped = runs[runs["method"] != ALONE].groupby(RUN, sort=False)["value"]
    means, counts = (
        frame.unstack("method").reindex(columns=[REPA, IREPA]).dropna() for frame in (grouped.mean(), grouped.size())
    )
    rows = means.assign(seeds=counts.min(axis="columns").astype(int)).reset_index()
    for row in rows.to_dict("records"):
        yield {
            "source": source,
            **{name: row[name] for name in RUN if name != "method"},
            "none": alone.get((row["recipe"], row["scale"]), float("nan")),
            "REPA": row[REPA],
            "iREPA": row[IREPA],
            "seeds": row["seeds"],
            "change": f"{row[IREPA] / row[REPA] - 1:+.1%}",
        }

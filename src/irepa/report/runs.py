"""What was measured of every encoder and of every training run."""

from __future__ import annotations

from dataclasses import fields

from irepa.config.cells import Cell
from irepa.recipes import build_recipe, reported_metrics
from irepa.report.markdown import bullets, grid
from irepa.report.tier import FinishedTier
from irepa.table import SPATIAL_NAMES

CELL = [column.name for column in fields(Cell)]
FAILED = "failed"


def failures(finished: FinishedTier) -> str:
    """Which training runs failed, and why; empty where none did."""
    rows = finished.table
    rows = rows[(rows["stage"] == "train") & (rows["metric"] == FAILED)]
    if rows.empty:
        return ""
    lines = (f"`{row['record']}`: {row['failed']}" for row in rows.to_dict("records"))
    return f"**{len(rows)} of the training runs failed and are left out below**\n\n{bullets(lines)}"


def encoder_table(finished: FinishedTier) -> str:
    """A row per encoder: accuracy of its linear probe and its spatial metrics."""
    columns = {
        "accuracy": "accuracy (%)",
        **SPATIAL_NAMES,
        "lds_text": "LDS (text)",
        "images_without_srss": "images without SRSS",
    }
    table = finished.table
    rows = table[table["stage"].isin(["spatial", "probe"]) & table["metric"].isin(list(columns))]
    encoders = rows.pivot(index="encoder", columns="metric", values="value")[list(columns)]
    encoders["accuracy"] *= 100
    encoders["images_without_srss"] = encoders["images_without_srss"].astype("Int64")
    return grid(encoders.rename(columns=columns).reset_index())


def run_table(finished: FinishedTier) -> str:
    """A row per training run that has not failed: distances of its samples, last losses, parameters, images seen."""
    columns = {
        finished.distance: finished.distance,
        finished.kernel_distance: finished.kernel_distance,
        f"{finished.kernel_distance}-sd": f"{finished.kernel_distance} s.d.",
        **reported_metrics(build_recipe(finished.tier, name) for name in finished.tier.recipes),
        "parameters": "parameters",
        "images_seen": "images seen",
    }
    table = finished.table
    rows = table[table["stage"].isin(["train", "evaluate"]) & table["metric"].isin(list(columns))]
    runs = rows.pivot(index=CELL, columns="metric", values="value")
    runs = runs.reindex(columns=list(columns)).dropna(axis="columns", how="all").reset_index()
    runs = runs.sort_values(["recipe", "scale", "method", "encoder"], kind="stable")
    for column in {"seed", "parameters", "images_seen"} & set(
        runs
    ):  # a published checkpoint does not say what it has seen
        runs[column] = runs[column].astype("Int64")
    return grid(runs.rename(columns=columns))

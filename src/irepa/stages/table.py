"""One tidy table of the tier: a row per metric of every encoder and every cell."""

from __future__ import annotations

import pandas as pd

from irepa.config.cells import Cell, cells, targets, trained_cell
from irepa.pipeline.files import Json, Record, whole
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context

COLUMNS = [
    "tier",
    "stage",
    "experiments",
    "recipe",
    "scale",
    "encoder",
    "method",
    "seed",
    "metric",
    "value",
    "record",
    "failed",
]


def _numbers(record: Record) -> dict[str, float]:
    values = record.metrics.items()
    return {name: value for name, value in values if isinstance(value, int | float) and not isinstance(value, bool)}


def run(context: Context) -> Json:
    rows: list[dict[str, object]] = []

    def add(job: Job, columns: dict[str, object]) -> None:
        record = context.plan.record(job)
        path = str(record.path.relative_to(context.plan.results))
        for metric, value in sorted(_numbers(record).items()):
            rows.append(
                {"tier": context.settings.params.tier, "stage": job.stage, "record": path, **columns}
                | {"metric": metric, "value": value}
            )
        if record.failed is not None:
            failure = {"metric": "failed", "value": 1, "failed": record.failed}
            rows.append(
                {"tier": context.settings.params.tier, "stage": job.stage, "record": path, **columns, **failure}
            )

    for name in targets(context.settings):
        for stage in ("spatial", "probe"):
            add(Job(stage, name), {"encoder": name})
    for cell, serves in cells(context.settings).items():
        columns: dict[str, object] = {"experiments": " ".join(serves), **_columns(cell)}
        # A recipe that draws from another's networks has no training of its own.
        if trained_cell(context.settings, str(cell)) == str(cell):
            add(Job("train", str(cell)), columns)
        add(Job("evaluate", str(cell)), columns)
    table = pd.DataFrame(rows, columns=COLUMNS)
    with whole(context.output("table.csv")) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    return {"rows": len(table), "cells": len(cells(context.settings)), "encoders": len(targets(context.settings))}


def _columns(cell: Cell) -> dict[str, object]:
    return {
        "recipe": cell.recipe, "scale": cell.scale, "encoder": cell.encoder, "method": cell.method, "seed": cell.seed,
    }  # fmt: skip

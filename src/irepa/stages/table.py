"""One tidy table of the tier: a row per metric of every encoder and every cell; and its mean distances, for DVC's views."""

from __future__ import annotations

from irepa.config.cells import cells, targets
from irepa.pipeline.files import Json, whole, write_json
from irepa.pipeline.runner import Context
from irepa.table import collect, distance_name, mean_distances


def run(context: Context) -> Json:
    table = collect(context)
    with whole(context.output("table.csv")) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    means = mean_distances(context, table)
    with whole(context.output("means.csv")) as temporary:
        means.to_csv(temporary, index=False, float_format="%.7g")
    by_case = dict(zip(means["case"], means["distance"].round(3), strict=True))
    write_json(context.output("metrics.json"), {distance_name(context): by_case})
    return {"rows": len(table), "cells": len(cells(context.settings)), "encoders": len(targets(context.settings))}

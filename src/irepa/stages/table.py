"""One tidy table of the tier: a row per metric of every encoder and every cell."""

from __future__ import annotations

from irepa.config.cells import cells, targets
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context
from irepa.table import collect


def run(context: Context) -> Json:
    table = collect(context)
    with whole(context.output("table.csv")) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    return {"rows": len(table), "cells": len(cells(context.settings)), "encoders": len(targets(context.settings))}

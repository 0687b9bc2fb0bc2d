"""One figure: collect what it plots into a CSV, then draw from that CSV alone."""

from __future__ import annotations

from types import ModuleType

import pandas as pd

from irepa.config import plugins
from irepa.errors import DivergedError
from irepa.figures._drawing import save
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context


def run(context: Context) -> Json:
    experiment = context.tier.figures[context.key].experiment
    collected = module_of(context).collect(context, experiment)
    if collected.empty:
        raise DivergedError(f"every run of experiment {experiment} has failed: there is nothing to draw")
    with whole(context.output(".csv")) as temporary:
        collected.to_csv(temporary, index=False, float_format="%.7g")
    return draw_collected(context)


def draw_collected(context: Context) -> Json:
    """Draw from the figure's own CSV, and caption it: what the CSV says is what the picture shows."""
    module = module_of(context)
    frame = pd.read_csv(context.output(".csv"), keep_default_na=False, na_values=[""])
    save(module.draw(frame), context.output(".png"), context.output(".svg"))
    return {"rows": len(frame), "caption": module.caption(frame)}


def module_of(context: Context) -> ModuleType:
    """The figure's kind."""
    return plugins.load("figures", context.tier.figures[context.key].kind, f"figures.{context.key}")

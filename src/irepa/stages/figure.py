"""One figure: collect what it plots into a CSV, then draw from that CSV alone."""

from __future__ import annotations

import pandas as pd

from irepa.config import plugins
from irepa.errors import DivergedError
from irepa.figures import save
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context


def run(context: Context) -> Json:
    figure = context.tier.figures[context.key]
    module = plugins.load("figures", figure.kind, f"figures.{context.key}")
    path = context.output(".csv")
    collected = module.collect(context, figure.experiment)
    if collected.empty:
        raise DivergedError(f"every run of experiment {figure.experiment} has failed: there is nothing to draw")
    with whole(path) as temporary:
        collected.to_csv(temporary, index=False, float_format="%.7g")
    return draw_collected(context)


def draw_collected(context: Context) -> Json:
    """Draw from the figure's own CSV, and caption it: what the CSV says is what the picture shows."""
    figure = context.tier.figures[context.key]
    module = plugins.load("figures", figure.kind, f"figures.{context.key}")
    frame = pd.read_csv(context.output(".csv"), keep_default_na=False, na_values=[""])
    save(module.draw(frame), context.output(".png"), context.output(".svg"))
    return {"rows": len(frame), "caption": module.caption(frame)}

"""The tier's encoders as a picture that the reader works: distance against a property of the encoder, as chosen.

Its numbers are those of two figures of one experiment, of the kinds ``judges`` (the points) and ``robustness`` (r); nothing is
computed in the page. Vega's scripts are inside it, so that it works offline.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from irepa.figures._choices import ALONE, EVERY, WITHOUT
from irepa.figures.correlation import AXES
from irepa.pipeline.graph import Job
from irepa.report.tier import FinishedTier

if TYPE_CHECKING:
    import altair as alt

KINDS = ("judges", "robustness")
PLACE = "explorer"  # id of the element that holds it
WIDTH, HEIGHT = 640, 380


def show_explorer(finished: FinishedTier) -> None:
    """Show it in the notebook; nothing where the tier has not both figures, or one of them has nothing to draw."""
    from IPython.display import HTML, display

    figures = finished.tier.figures
    for experiment in dict.fromkeys(figure.experiment for figure in figures.values()):
        frames = [_drawn(finished, kind, experiment) for kind in KINDS]
        if all(frame is not None for frame in frames):
            display(HTML(page_of(explorer(*frames))))  # type: ignore[arg-type, no-untyped-call]
            return


def _drawn(finished: FinishedTier, kind: str, experiment: str) -> pd.DataFrame | None:
    for name, figure in finished.tier.figures.items():
        job = Job("figure", name)
        if (figure.kind, figure.experiment) == (kind, experiment) and finished.plan.record(job).failed is None:
            return pd.read_csv(finished.file(job, ".csv"), dtype={"seeds": str})
    return None


def explorer(points: pd.DataFrame, correlations: pd.DataFrame) -> alt.LayerChart:
    """The chart. points: as :mod:`irepa.figures.judges` collects them; correlations: as :mod:`irepa.figures.robustness`."""
    import altair as alt

    names = {key: label for key, label in AXES.items() if key in points}
    correlations = correlations[(correlations["seeds"] == "all") & correlations["metric"].isin(names)]
    offered: dict[str, tuple[str, Iterable[str]]] = {
        "property": ("property of the encoder ", names.values()),
        "distance": ("measured by ", points["distance"]),
        "training": ("training ", points["training"]),
        "networks": ("networks ", [EVERY, *correlations["networks"]]),
    }
    chosen = []
    for name, (label, options) in offered.items():
        each = list(dict.fromkeys(options))
        chosen.append(alt.param(name=name, value=each[0], bind=alt.binding_select(options=each, name=label)))
    same = " && ".join(f"datum.{name} == {name}" for name in ("property", "distance", "training"))
    stays = " || ".join(
        (
            f"networks == '{EVERY}'",
            f"networks == datum.origin + '{ALONE}'",
            f"(slice(networks, 0, {len(WITHOUT)}) == '{WITHOUT}' && slice(networks, {len(WITHOUT)}) != datum.origin)",
        )
    )
    others = [name for name in points if name not in names]
    long = points.melt(others, list(names), var_name="metric").dropna(subset="value")
    base = (
        alt.Chart(long.assign(property=long["metric"].map(names)).drop(columns="metric"))
        .transform_filter(f"{same} && ({stays})")
        .encode(x=alt.X("value:Q", title=None).scale(zero=False, nice=False, padding=12))
    )
    hover = [
        *(alt.Tooltip(f"{name}:N") for name in ("network", "family", "origin", "property")),
        alt.Tooltip("value:Q", format=".3f"),
        alt.Tooltip("distance:N", title="measured by"),
        alt.Tooltip("fd:Q", title="distance", format=".4~r"),
        alt.Tooltip("low:Q", title="95% interval from", format=".4~r"),
        alt.Tooltip("high:Q", title="to", format=".4~r"),
    ]
    distance = alt.Y("low:Q", title="distance (lower is better)").scale(zero=False, nice=False, padding=8)
    bars = base.mark_rule(color="#aaa").encode(y=distance, y2="high:Q")
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=alt.Y("fd:Q"),
        color=alt.Color("origin:N", title="networks").scale(scheme="tableau10"),
        shape=alt.Shape("origin:N", title="networks"),
        tooltip=hover,
    )
    told = correlations.assign(
        property=correlations["metric"].map(names), told=[_told(row) for row in correlations.to_dict("records")]
    )
    above = (
        alt.Chart(told[["property", "distance", "training", "networks", "told"]])
        .transform_filter(f"{same} && datum.networks == networks")
        .mark_text(align="left", baseline="bottom", fontSize=13, fontWeight="bold")
        .encode(text="told:N", x=alt.value(0), y=alt.value(-6))
    )
    below = (
        alt.Chart(pd.DataFrame({"property": list(names.values())}))
        .transform_filter("datum.property == property")
        .mark_text(baseline="top", fontSize=12)
        .encode(text="property:N", x=alt.value(WIDTH / 2), y=alt.value(HEIGHT + 24))
    )
    room = {"top": 10, "bottom": 28, "left": 5, "right": 5}
    layers = alt.layer(bars, dots, above, below, width=WIDTH, height=HEIGHT, padding=room)
    return cast("alt.LayerChart", layers.add_params(*chosen))


def _told(row: dict[Any, Any]) -> str:
    from irepa.figures._units import reliability, said

    return f"{said(row)} over {int(row['units'])} networks; {reliability(row)}"


def page_of(chart: alt.LayerChart) -> str:
    """The chart as a piece of a page, with the scripts that draw it and its choices above it."""
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    how = f"{{actions: false, renderer: 'svg', bind: '#{PLACE}-choices'}}"
    drawn = f"vegaEmbed('#{PLACE}', {chart.to_json(indent=None)}, {how});"
    places = f'<form id="{PLACE}-choices"></form>\n<div id="{PLACE}"></div>'
    return f'{places}\n<script type="module">\n{script}\n{drawn}\n</script>'

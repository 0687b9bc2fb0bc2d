"""REPA and iREPA under other training recipes (E6), beside the published pairs of Tables 2a and 2b."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.audit.statistics import Estimate
from irepa.figures import cells_of, table_only
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only

OURS, THEIRS = "here", "published"
SHOWN = ["source", "recipe", "method", "fd", "mean", "low", "high", "seeds", "distance", "encoder", "seed"]
NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """Rows of ``source``, ``recipe``, ``method``, ``fd``, ``distance``, ``encoder``, ``seed``, with means and intervals.

    ``change``, with ``change_low`` and ``change_high``: what iREPA changes against REPA in its recipe, in percent. Ours are of
    the experiment's cells, and of its methods in every other experiment that serves the paper's E6.
    """
    import pandas as pd

    from irepa.audit import paper
    from irepa.figures._units import audited_runs, change_of, with_levels

    others = [name for name, other in context.tier.experiments.items() if "E6" in other.paper and name != experiment]
    ours = audited_runs(context, experiment, *others)
    methods = {cell.method for cell in cells_of(context.settings, experiment)}
    # Of a recipe run at several scales, the experiment's own.
    first = ours.groupby("recipe")["scale"].transform("first")
    ours = ours[ours["method"].isin(methods) & (ours["scale"] == first)]
    if ours.empty:
        return pd.DataFrame()
    changes = {
        (OURS, str(recipe)): change_of(part, "irepa", "repa") or NOTHING for recipe, part in ours.groupby("recipe")
    }
    ours = with_levels(ours, ["recipe", "method"]).assign(source=OURS)
    rows = paper.recipes()
    named = (rows["recipe"] + "\n" + rows["setting"]).str.rstrip()
    theirs = pd.DataFrame(
        {"recipe": named, "encoder": rows["encoder"], "method": rows["method"], "seed": 0, "fd": rows["value"],
         "distance": "FID", "source": THEIRS}
    )  # fmt: skip
    theirs["mean"] = theirs.groupby(["recipe", "method"])["fd"].transform("mean")
    printed = theirs.pivot_table(index="recipe", columns="method", values="fd")
    for recipe, ratio in (printed["irepa"] / printed["repa"]).items():
        changes[THEIRS, str(recipe)] = Estimate(100 * (float(ratio) - 1), math.nan, math.nan, 1)
    both = pd.concat([ours, theirs], ignore_index=True)
    told = [changes[place] for place in zip(both["source"], both["recipe"], strict=True)]
    return both[SHOWN].assign(
        change=[change.value for change in told],
        change_low=[change.low for change in told],
        change_high=[change.high for change in told],
    )


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import bars, distance_label, highest, panels

    figure, axes = panels(2, 1, 1, 6.2)
    for axis, source in zip(axes, (OURS, THEIRS), strict=True):
        rows = frame[frame["source"] == source]
        bars(rows, axis, "recipe", "%.0f", turned=True)
        axis.set(ylabel=distance_label(rows))
        axis.set_title("here" if source == OURS else "published, ImageNet 256x256, mean over encoders (dots)")
        axis.set_ylim(0, highest(rows) * 1.3)
        axis.tick_params(axis="x", labelsize=8)
    axes[0].legend(title="", fontsize=8, loc="upper center", ncols=len(set(frame["method"])))
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import bars_told

    parts = []
    for row in frame.dropna(subset="change").drop_duplicates(["source", "recipe"]).to_dict("records"):
        name = row["recipe"].replace("\n", " ")
        change = Estimate(row["change"], row["change_low"], row["change_high"], 1)
        parts.append(f"{name} ({row['source']}) {words.percentages(change)}")
    told = bars_told(frame[frame["source"] == OURS])
    return f"Distance of iREPA against REPA: {'; '.join(parts)}. Here: {told[0].lower()}{told[1:]} Dots: the runs."

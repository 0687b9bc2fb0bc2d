"""REPA and iREPA under other training recipes (E6), beside the published pairs of Tables 2a and 2b."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.figures import table_only
from irepa.pipeline.runner import Context
from irepa.table import distances

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only

OURS, THEIRS = "here", "published"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """Rows of ``source``, ``recipe``, ``method``, ``fd``, ``distance``, ``encoder``, ``seed``.

    Ours are those of the experiment, and of its methods in every other experiment that serves the paper's E6.
    """
    import pandas as pd

    from irepa.audit import paper

    others = [name for name, other in context.tier.experiments.items() if "E6" in other.paper and name != experiment]
    of_experiment, *of_others = (distances(context, name) for name in (experiment, *others))
    ours = pd.concat([of_experiment, *of_others], ignore_index=True).drop_duplicates("record")
    ours = ours[ours["method"].isin(of_experiment["method"])]
    first = ours.groupby("recipe")["scale"].transform(
        "first"
    )  # of a recipe run at several scales, the experiment's own
    ours = ours[ours["scale"] == first].drop(columns=["record", "scale"]).assign(source=OURS)
    rows = paper.recipes()
    named = (rows["recipe"] + "\n" + rows["setting"]).str.rstrip()
    theirs = pd.DataFrame(
        {"recipe": named, "encoder": rows["encoder"], "method": rows["method"], "seed": 0, "fd": rows["value"],
         "distance": "FID", "source": THEIRS}
    )  # fmt: skip
    return pd.concat([ours, theirs], ignore_index=True) if len(ours) else ours


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import METHOD_ORDER, distance_label, methods_in, numbers, panels

    figure, axes = panels(2, 1, 1, 6.2)
    order = methods_in(frame)
    colours = dict(zip(METHOD_ORDER, sns.color_palette(n_colors=len(METHOD_ORDER)), strict=True))
    for axis, source in zip(axes, (OURS, THEIRS), strict=True):
        rows = frame[frame["source"] == source]
        sns.barplot(rows, x="recipe", y="fd", hue="method", hue_order=order, palette=colours, ax=axis,
                    errorbar="sd" if source == OURS else None, legend=source == OURS)  # fmt: skip
        numbers(axis, "%.0f")
        axis.set(xlabel="", ylabel=distance_label(rows))
        axis.set_title("here" if source == OURS else "published, ImageNet 256x256, mean over encoders")
        axis.set_ylim(0, rows["fd"].max() * 1.3)
        axis.tick_params(axis="x", labelsize=8)
    axes[0].legend(title="", fontsize=8, loc="upper center", ncols=len(order))
    return figure


def caption(frame: pd.DataFrame) -> str:
    parts = []
    for (source, recipe), rows in frame.groupby(["source", "recipe"], sort=False):
        mean = rows.groupby("method")["fd"].mean()
        if {"repa", "irepa"} <= set(mean.index):
            name = str(recipe).replace("\n", " ")
            parts.append(f"{name} ({source}) {words.percent(100 * (mean['irepa'] / mean['repa'] - 1))}")
    return "Distance of iREPA against REPA: " + "; ".join(parts) + "."

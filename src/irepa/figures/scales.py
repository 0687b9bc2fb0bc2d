"""Distance by scale of the network and by method; by encoder where the experiment has one scale."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from irepa.figures import WIDTH, bars, methods_in, style, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances

needs = table_only
LABELS = {"scale": "scale of the network", "encoder": "encoder"}


def unit(frame: pd.DataFrame) -> str:
    return "scale" if frame["scale"].nunique() > 1 or frame["encoder"].nunique() < 3 else "encoder"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    return distances(context, experiment).drop(columns="record")


def draw(frame: pd.DataFrame) -> Figure:
    style()
    figure, axis = plt.subplots(figsize=(WIDTH * 0.75, 4))
    order = methods_in(frame)
    units = unit(frame)
    bars(frame, axis, "%.0f", x=units, y="fd", hue="method", hue_order=order)
    axis.set(xlabel=LABELS[units], ylabel=f"{frame['distance'].iloc[0]} (lower is better)")
    axis.set_ylim(0, frame["fd"].max() * 1.12)
    axis.tick_params(axis="x", labelrotation=0 if units == "scale" else 20)
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def caption(frame: pd.DataFrame) -> str:
    wide = frame.groupby([unit(frame), "method"])["fd"].mean().unstack()
    best = ", ".join(f"{name}: {row.idxmin()}" for name, row in wide.iterrows())
    return (
        f"Lowest {frame['distance'].iloc[0]} per {unit(frame)}: {best}. {frame['seed'].nunique()} seed(s), a dot each."
    )

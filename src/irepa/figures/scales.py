"""Distance by scale of the network and by method."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from irepa.figures import WIDTH, methods_in, style, table_only
from irepa.results import distances
from irepa.runner import Context

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    return distances(context, experiment).drop(columns="record")


def draw(frame: pd.DataFrame) -> Figure:
    style()
    figure, axis = plt.subplots(figsize=(WIDTH * 0.75, 4))
    order = methods_in(frame)
    sns.barplot(frame, x="scale", y="fd", hue="method", hue_order=order, ax=axis, errorbar="sd")
    for bars in axis.containers:
        if isinstance(bars, BarContainer):
            axis.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    axis.set(xlabel="scale of the network", ylabel=f"{frame['distance'].iloc[0]} (lower is better)")
    axis.set_ylim(0, frame["fd"].max() * 1.12)
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def caption(frame: pd.DataFrame) -> str:
    wide = frame.groupby(["scale", "method"])["fd"].mean().unstack()
    best = ", ".join(f"{scale}: {row.idxmin()}" for scale, row in wide.iterrows())
    return f"Lowest {frame['distance'].iloc[0]} per scale: {best}. {frame['seed'].nunique()} seed(s)."

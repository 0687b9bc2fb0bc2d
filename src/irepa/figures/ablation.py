"""Which part of iREPA does what: distance of each method for one encoder and scale."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from irepa.figures import WIDTH, bars, methods_in, style, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    return distances(context, experiment).drop(columns="record")


def draw(frame: pd.DataFrame) -> Figure:
    style()
    order = methods_in(frame)
    figure, axis = plt.subplots(figsize=(WIDTH * 0.75, 0.5 * len(order) + 1.2))
    bars(frame, axis, "%.0f", y="method", x="fd", order=order, hue="method", hue_order=order, legend=False)
    axis.set(xlabel=f"{frame['distance'].iloc[0]} (lower is better)", ylabel="method")
    axis.set_xlim(0, frame["fd"].max() * 1.12)
    return figure


def caption(frame: pd.DataFrame) -> str:
    mean = frame.groupby("method")["fd"].mean().sort_values()
    ranking = " < ".join(f"{method} ({value:.1f})" for method, value in mean.items())
    return f"{frame['distance'].iloc[0]}: {ranking}. {frame['seed'].nunique()} seed(s), a dot each."

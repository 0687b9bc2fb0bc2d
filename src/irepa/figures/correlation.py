"""What predicts generation quality: accuracy and each spatial metric against the Frechet distance, one point per encoder."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irepa.audit.statistics import Estimate, correlation
from irepa.figures import MARKERS, WIDTH, style, table_only
from irepa.pipeline.runner import Context
from irepa.table import SPATIAL_NAMES, distances, encoder_metrics

needs = table_only

AXES = {"accuracy": "linear-probe accuracy (%)", **{key: f"{name} (cosine)" for key, name in SPATIAL_NAMES.items()}}
AXES["cds"] = "CDS (cosine per step)"
AXES["rmsc"] = "RMSC"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    runs = distances(context, experiment)
    mean = runs.groupby(["encoder", "distance"], as_index=False).agg(
        fd=("fd", "mean"), lowest=("fd", "min"), highest=("fd", "max"), seeds=("seed", "nunique")
    )
    long = encoder_metrics(context).melt(ignore_index=False, var_name="metric", value_name="value").reset_index()
    frame = mean.merge(long, on="encoder")
    return frame.sort_values(["metric", "encoder"])


def of_metric(frame: pd.DataFrame, metric: str) -> Estimate:
    """Pearson r of a metric with the distance over encoders, and its 95% bootstrap interval."""
    points = frame[frame["metric"] == metric]
    return correlation(points["value"].to_numpy(float), points["fd"].to_numpy(float))


def draw(frame: pd.DataFrame) -> Figure:
    style()
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 6.2), sharey=True)
    encoders = sorted(frame["encoder"].unique())
    colours = dict(zip(encoders, sns.color_palette("husl", len(encoders)), strict=True))
    markers = {name: MARKERS[k % 7] for k, name in enumerate(encoders)}  # neighbours in colour differ in shape
    distance = frame["distance"].iloc[0]
    for axis, (metric, label) in zip(axes.flat, AXES.items(), strict=False):
        points = frame[frame["metric"] == metric]
        axis.vlines(points["value"], points["lowest"], points["highest"],
                    colors=[colours[name] for name in points["encoder"]], linewidth=0.8, alpha=0.6, zorder=1)  # fmt: skip
        sns.scatterplot(points, x="value", y="fd", hue="encoder", hue_order=encoders, palette=colours, style="encoder",
                        markers=markers, style_order=encoders, ax=axis, s=45, legend=False)  # fmt: skip
        sns.regplot(points, x="value", y="fd", ax=axis, scatter=False, ci=None, truncate=True,
                    line_kws={"color": "0.6", "linewidth": 1, "zorder": 0})  # fmt: skip
        r = of_metric(frame, metric)
        axis.set(
            xlabel=label, ylabel=f"{distance} (lower is better)", title=f"r = {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]"
        )
    last = axes.flat[-1]
    last.axis("off")
    handles = [Line2D([], [], marker=markers[name], linestyle="", color=colours[name]) for name in encoders]
    many = len(encoders) > 12
    last.legend(handles, encoders, title=f"encoder (n = {len(encoders)})", loc="center", frameon=False,
                ncols=2 if many else 1, fontsize=6.5 if many else 9, columnspacing=0.8, handletextpad=0.2)  # fmt: skip
    return figure


def caption(frame: pd.DataFrame) -> str:
    found = {metric: of_metric(frame, metric) for metric in AXES}
    parts = [f"{SPATIAL_NAMES.get(m, m)} r = {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for m, r in found.items()]
    distance, n = frame["distance"].iloc[0], frame["encoder"].nunique()
    repeats = frame["seeds"].max()
    lines = f". Points: means over {repeats} seeds, lines: their range" if repeats > 1 else ""
    wide = frame.pivot_table(index="encoder", columns="metric", values="value")
    between = correlation(wide["accuracy"].to_numpy(float), wide["lds"].to_numpy(float))
    return (
        f"Pearson r with {distance} and 95% bootstrap interval over {n} encoders: {'; '.join(parts)}. "
        f"Among these encoders accuracy and LDS have r = {between.value:.2f} [{between.low:.2f}, {between.high:.2f}]{lines}."
    )

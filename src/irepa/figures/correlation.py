"""What predicts generation quality: accuracy and each spatial metric against the Frechet distance, one point per encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.audit.statistics import Estimate, correlation
from irepa.figures import check_aligned, table_only
from irepa.pipeline.runner import Context
from irepa.table import SPATIAL_NAMES, distances, encoder_metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned

AXES = {"accuracy": "linear-probe accuracy (%)", **{key: f"{name} (cosine)" for key, name in SPATIAL_NAMES.items()}}
AXES["cds"] = "CDS (cosine per step)"
AXES["rmsc"] = "RMSC"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per encoder and metric: its ``value``, the mean distance ``fd`` and its range over seeds."""
    runs = distances(context, experiment)
    mean = runs.groupby(["encoder", "distance"], as_index=False).agg(
        fd=("fd", "mean"), lowest=("fd", "min"), highest=("fd", "max"), seeds=("seed", "nunique")
    )
    long = encoder_metrics(context).melt(ignore_index=False, var_name="metric", value_name="value").reset_index()
    return mean.merge(long, on="encoder").sort_values(["metric", "encoder"])


def of_metric(frame: pd.DataFrame, metric: str) -> Estimate:
    """Pearson r of a metric with the distance over encoders, and its 95% interval."""
    points = frame[frame["metric"] == metric]
    return correlation(points["value"].to_numpy(float), points["fd"].to_numpy(float))


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns
    from matplotlib.lines import Line2D

    from irepa.figures._drawing import MARKERS, distance_label, panels

    figure, axes = panels(2, 3, 1, 6.2, sharey=True)
    encoders = sorted(frame["encoder"].unique())
    colours = dict(zip(encoders, sns.color_palette("husl", len(encoders)), strict=True))
    markers = {name: MARKERS[k % 7] for k, name in enumerate(encoders)}  # neighbours in colour differ in shape
    for axis, (metric, label) in zip(axes.flat, AXES.items(), strict=False):
        points = frame[frame["metric"] == metric]
        axis.vlines(points["value"], points["lowest"], points["highest"],
                    colors=[colours[name] for name in points["encoder"]], linewidth=0.8, alpha=0.6, zorder=1)  # fmt: skip
        sns.scatterplot(points, x="value", y="fd", hue="encoder", hue_order=encoders, palette=colours, style="encoder",
                        markers=markers, style_order=encoders, ax=axis, s=45, legend=False)  # fmt: skip
        sns.regplot(points, x="value", y="fd", ax=axis, scatter=False, ci=None, truncate=True,
                    line_kws={"color": "0.6", "linewidth": 1, "zorder": 0})  # fmt: skip
        axis.set(xlabel=label, ylabel=distance_label(frame), title=words.correlation(of_metric(frame, metric)))
    last = axes.flat[-1]
    last.axis("off")
    handles = [Line2D([], [], marker=markers[name], linestyle="", color=colours[name]) for name in encoders]
    many = len(encoders) > 12
    last.legend(handles, encoders, title=f"encoder (n = {len(encoders)})", loc="center", frameon=False,
                ncols=2 if many else 1, fontsize=6.5 if many else 9, columnspacing=0.8, handletextpad=0.2)  # fmt: skip
    return figure


def caption(frame: pd.DataFrame) -> str:
    parts = [f"{SPATIAL_NAMES.get(name, name)} {words.correlation(of_metric(frame, name))}" for name in AXES]
    distance, n = frame["distance"].iloc[0], frame["encoder"].nunique()
    repeats = frame["seeds"].max()
    lines = f". Points: means over {repeats} seeds, lines: their range" if repeats > 1 else ""
    wide = frame.pivot_table(index="encoder", columns="metric", values="value")
    between = correlation(wide["accuracy"].to_numpy(float), wide["lds"].to_numpy(float))
    return (
        f"Pearson r with {distance} and 95% interval over {n} encoders: {'; '.join(parts)}. "
        f"Among these encoders accuracy and LDS have {words.correlation(between)}{lines}."
    )

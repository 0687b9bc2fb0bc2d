"""What predicts generation quality: accuracy and each spatial metric against the Frechet distance, one point per encoder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from irepa.figures import SPATIAL_NAMES, WIDTH, distances, encoder_metrics, style, table_only
from irepa.runner import Context

needs = table_only

AXES = {"accuracy": "linear-probe accuracy (%)", **{key: f"{name} (cosine)" for key, name in SPATIAL_NAMES.items()}}
AXES["cds"] = "CDS (cosine per step)"
AXES["rmsc"] = "RMSC"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    runs = distances(context, experiment)
    mean = runs.groupby(["encoder", "distance"], as_index=False).agg(fd=("fd", "mean"), seeds=("seed", "nunique"))
    long = encoder_metrics(context).melt(ignore_index=False, var_name="metric", value_name="value").reset_index()
    frame = mean.merge(long, on="encoder")
    frame["value"] = frame["value"].where(frame["metric"] != "accuracy", 100 * frame["value"])
    return frame.sort_values(["metric", "encoder"])


def correlation(frame: pd.DataFrame, metric: str) -> tuple[float, float, float, int]:
    """Pearson r of a metric with the distance, its 95% bootstrap interval (BCa, over encoders), and n."""
    points = frame[frame["metric"] == metric].dropna(subset=["value", "fd"])
    x, y = points["value"].to_numpy(float), points["fd"].to_numpy(float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan, len(x)
    r = float(stats.pearsonr(x, y).statistic)

    def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
        scale = np.sqrt((a**2).sum(axis) * (b**2).sum(axis))
        # A resample of one encoder repeated has no correlation; it counts as 0.
        r: np.ndarray = np.divide((a * b).sum(axis), scale, out=np.zeros_like(scale), where=scale > 1e-12)
        return r

    interval = stats.bootstrap(
        (x, y), statistic, paired=True, vectorized=True, n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    return r, float(interval.low), float(interval.high), len(x)


def draw(frame: pd.DataFrame) -> Figure:
    style()
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 6.2), sharey=True)
    encoders = sorted(frame["encoder"].unique())
    colours = dict(zip(encoders, sns.color_palette("husl", len(encoders)), strict=True))
    distance = frame["distance"].iloc[0]
    for axis, (metric, label) in zip(axes.flat, AXES.items(), strict=False):
        points = frame[frame["metric"] == metric]
        sns.scatterplot(points, x="value", y="fd", hue="encoder", hue_order=encoders, palette=colours, ax=axis, s=45,
                        legend=False)  # fmt: skip
        sns.regplot(points, x="value", y="fd", ax=axis, scatter=False, ci=None, truncate=True,
                    line_kws={"color": "0.6", "linewidth": 1, "zorder": 0})  # fmt: skip
        r, low, high, _ = correlation(frame, metric)
        axis.set(xlabel=label, ylabel=f"{distance} (lower is better)", title=f"r = {r:.2f} [{low:.2f}, {high:.2f}]")
    last = axes.flat[-1]
    last.axis("off")
    handles = [Line2D([], [], marker="o", linestyle="", color=colours[name]) for name in encoders]
    many = len(encoders) > 12
    last.legend(handles, encoders, title=f"encoder (n = {len(encoders)})", loc="center", frameon=False,
                ncols=2 if many else 1, fontsize=6.5 if many else 9, columnspacing=0.8, handletextpad=0.2)  # fmt: skip
    return figure


def caption(frame: pd.DataFrame) -> str:
    parts = []
    for metric in AXES:
        r, low, high, n = correlation(frame, metric)
        parts.append(f"{SPATIAL_NAMES.get(metric, metric)} r = {r:.2f} [{low:.2f}, {high:.2f}]")
    return f"Pearson r with {frame['distance'].iloc[0]} and 95% bootstrap interval over {n} encoders: " + "; ".join(
        parts
    )

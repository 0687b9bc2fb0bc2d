"""One encoder with its tokens changed, everything else held: does the distance follow LDS where LDS is moved, or accuracy?"""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from irepa.audit.statistics import Estimate, correlation
from irepa.figures import MARKERS, WIDTH, style, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances, encoder_metrics

needs = table_only

AXES = {"lds": "LDS (cosine)", "accuracy": "linear-probe accuracy (%)"}


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per cell; ``change`` is what stands after the base encoder's name, or ``unchanged``."""
    runs = distances(context, experiment).drop(columns="record")
    metrics = encoder_metrics(context).loc[runs["encoder"], [*AXES]].reset_index(drop=True)
    base = min(runs["encoder"], key=len)
    change = [name.removeprefix(base).lstrip("+-") or "unchanged" for name in runs["encoder"]]
    return pd.concat([runs, metrics], axis=1).assign(change=change).sort_values(["change", "seed"])


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per change: mean distance, its standard deviation over seeds, and the encoder's metrics."""
    grouped = frame.groupby("change", sort=False)
    return grouped.agg(fd=("fd", "mean"), sd=("fd", "std"), lds=("lds", "first"), accuracy=("accuracy", "first"))


def draw(frame: pd.DataFrame) -> Figure:
    style()
    points = means(frame)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.2), sharey=True)
    colours = sns.color_palette("husl", len(points) - 1)
    for axis, (metric, label) in zip(axes, AXES.items(), strict=True):
        centre = points.loc["unchanged"]
        axis.axhline(centre["fd"], color="0.7", linewidth=0.8, zorder=0)
        changed = iter(colours)
        for (name, row), marker in zip(points.iterrows(), MARKERS * len(points), strict=False):
            same = name == "unchanged"
            colour = "black" if same else next(changed)
            if not same:
                axis.plot(
                    [centre[metric], row[metric]], [centre["fd"], row["fd"]], color=colour, linewidth=0.7, alpha=0.6
                )
            axis.errorbar(row[metric], row["fd"], yerr=row["sd"], color=colour, marker="*" if same else marker,
                          markersize=12 if same else 6, linestyle="", capsize=2, label=str(name))  # fmt: skip
        r = of_metric(frame, metric)
        axis.set(xlabel=label, ylabel=f"{frame['distance'].iloc[0]} (lower is better)",
                 title=f"r = {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]")  # fmt: skip
    axes[1].set_ylabel("")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, title="tokens", fontsize=8)
    return figure


def of_metric(frame: pd.DataFrame, metric: str) -> Estimate:
    """Pearson r of a metric with the mean distance over the changes, and its 95% bootstrap interval."""
    points = means(frame)
    return correlation(points[metric].to_numpy(float), points["fd"].to_numpy(float))


def caption(frame: pd.DataFrame) -> str:
    points = means(frame)
    base = points.loc["unchanged"]
    found = {AXES[metric].split(" (")[0]: of_metric(frame, metric) for metric in AXES}
    parts = [f"{name} r = {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for name, r in found.items()]
    moved = [
        f"{name}: LDS {row['lds'] - base['lds']:+.2f}, distance {100 * (row['fd'] / base['fd'] - 1):+.1f}%"
        for name, row in points.drop("unchanged").iterrows()
    ]
    return (
        f"Correlation with {frame['distance'].iloc[0]} over {len(points)} versions of one encoder: {'; '.join(parts)}. "
        f"Against the unchanged tokens: {'; '.join(moved)}. Bars: standard deviation over {frame['seed'].nunique()} seed(s)."
    )

"""One encoder with its tokens changed, everything else held: does the distance follow LDS where LDS is moved, or accuracy?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.audit.statistics import Estimate, correlation
from irepa.figures import check_aligned, runs_of, table_only
from irepa.pipeline.runner import Context
from irepa.table import with_metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned

AXES = {"lds": "LDS (cosine)", "accuracy": "linear-probe accuracy (%)"}
UNCHANGED = "unchanged"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per cell; ``change`` is what stands after the base encoder's name, or ``unchanged``."""
    runs = with_metrics(context, runs_of(context, experiment), [*AXES])
    base = min(runs["encoder"], key=len)
    change = [name.removeprefix(base).lstrip("+-") or UNCHANGED for name in runs["encoder"]]
    return runs.assign(change=change).sort_values(["change", "seed"])


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per change: mean distance, its standard deviation over seeds, and the encoder's metrics."""
    grouped = frame.groupby("change", sort=False)
    return grouped.agg(fd=("fd", "mean"), sd=("fd", "std"), lds=("lds", "first"), accuracy=("accuracy", "first"))


def of_metric(points: pd.DataFrame, metric: str) -> Estimate:
    """Pearson r of a metric with the mean distance over the changes, and its 95% bootstrap interval."""
    return correlation(points[metric].to_numpy(float), points["fd"].to_numpy(float))


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import MARKERS, distance_label, panels

    figure, axes = panels(1, 2, 1, 4.2, sharey=True)
    points = means(frame)
    centre = points.loc[UNCHANGED]
    colours = sns.color_palette("husl", len(points) - 1)
    for axis, (metric, label) in zip(axes, AXES.items(), strict=True):
        axis.axhline(centre["fd"], color="0.7", linewidth=0.8, zorder=0)
        left = iter(colours)
        for (name, row), marker in zip(points.iterrows(), MARKERS * len(points), strict=False):
            same = name == UNCHANGED
            colour = "black" if same else next(left)
            if not same:
                x, y = [centre[metric], row[metric]], [centre["fd"], row["fd"]]
                axis.plot(x, y, color=colour, linewidth=0.7, alpha=0.6)
            axis.errorbar(row[metric], row["fd"], yerr=row["sd"], color=colour, marker="*" if same else marker,
                          markersize=12 if same else 6, linestyle="", capsize=2, label=str(name))  # fmt: skip
        axis.set(xlabel=label, ylabel=distance_label(frame), title=words.correlation(of_metric(points, metric)))
    axes[1].set_ylabel("")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, title="tokens", fontsize=8)
    return figure


def caption(frame: pd.DataFrame) -> str:
    points = means(frame)
    base = points.loc[UNCHANGED]
    parts = [f"{label.split(' (')[0]} {words.correlation(of_metric(points, name))}" for name, label in AXES.items()]
    changes = [
        f"{name}: LDS {row['lds'] - base['lds']:+.2f}, distance {words.percent(100 * (row['fd'] / base['fd'] - 1))}"
        for name, row in points.drop(UNCHANGED).iterrows()
    ]
    return (
        f"Correlation with {frame['distance'].iloc[0]} over {len(points)} versions of one encoder: {'; '.join(parts)}. "
        f"Against the unchanged tokens: {'; '.join(changes)}. Bars: standard deviation over {frame['seed'].nunique()} seed(s)."
    )

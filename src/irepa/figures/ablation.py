"""Which part of iREPA does what: distance of each method for one encoder and scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.figures import table_only
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per run, with the mean of its method and the interval."""
    from irepa.figures._units import audited_runs, with_levels

    return with_levels(audited_runs(context, experiment), ["method"])


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import bars, distance_label, highest, methods_in, panel

    figure, axis = panel(width=0.75, height=0.5 * len(methods_in(frame)) + 1.2)
    bars(frame, axis, "method", "%.0f", flat=True)
    axis.set(xlabel=distance_label(frame), ylabel="method")
    axis.set_xlim(0, highest(frame) * 1.08)
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import bars_told

    mean = frame.groupby("method")["mean"].first().sort_values()
    ranking = " < ".join(f"{method} ({value:.1f})" for method, value in mean.items())
    return f"{frame['distance'].iloc[0]}: {ranking}. {bars_told(frame)} Dots: the runs."

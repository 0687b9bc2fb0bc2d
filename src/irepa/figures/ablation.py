"""Which part of iREPA does what: distance of each method for one encoder and scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.figures import runs_of, table_only

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
collect = runs_of


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import bars, distance_label, methods_in, panel

    order = methods_in(frame)
    figure, axis = panel(0.75, 0.5 * len(order) + 1.2)
    bars(frame, axis, "%.0f", y="method", x="fd", order=order, hue="method", hue_order=order, legend=False)
    axis.set(xlabel=distance_label(frame), ylabel="method")
    axis.set_xlim(0, frame["fd"].max() * 1.12)
    return figure


def caption(frame: pd.DataFrame) -> str:
    mean = frame.groupby("method")["fd"].mean().sort_values()
    ranking = " < ".join(f"{method} ({value:.1f})" for method, value in mean.items())
    return f"{frame['distance'].iloc[0]}: {ranking}. {frame['seed'].nunique()} seed(s), a dot each."

"""Distance against training steps, by method: who gets there first?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irepa.figures import table_only
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per run, with the mean and the interval of the runs of its method after as many ``steps`` and ``images``."""
    from irepa.figures._units import audited_runs, with_levels

    return with_levels(audited_runs(context, experiment), ["method", "steps", "images"])


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import MARKERS, colours_of, distance_label, interval, methods_in, panel

    figure, axis = panel(0.75, 3.8)
    methods = methods_in(frame)
    aside = 0.014 * float(np.ptp(frame["images"]))  # so that lines of one place stand beside each other
    for k, (method, colour) in enumerate(colours_of(methods).items()):
        means = frame[frame["method"] == method].drop_duplicates("images").sort_values("images")
        places = means["images"] + (k - (len(methods) - 1) / 2) * aside
        interval(axis, places, means, color=colour, marker=MARKERS[k], markersize=6, linestyle="-", label=method)
    axis.set(xlabel="training images seen", ylabel=distance_label(frame))
    axis.set_xticks(sorted(set(frame["images"])))
    axis.legend(title="method", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import BY_STEPS, bars_told

    mean = frame.groupby(["steps", "method"])["mean"].first().unstack()
    parts = [f"{step} steps: " + ", ".join(f"{m} {v:.0f}" for m, v in row.items()) for step, row in mean.iterrows()]
    told = bars_told(frame, mark="bars")
    return f"{frame['distance'].iloc[0]} after {'; '.join(parts)}. {told} {BY_STEPS}"

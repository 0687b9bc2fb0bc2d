"""Distance by scale of the network and by method; by encoder where the experiment has one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.figures import table_only
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
LABELS = {"scale": "scale of the network", "encoder": "encoder"}


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per run, with the mean and the interval of the runs that share its bar."""
    from irepa.figures._units import audited_runs, with_levels

    runs = audited_runs(context, experiment)
    return with_levels(runs, [unit(runs), "method"])


def unit(frame: pd.DataFrame) -> str:
    """What the groups of bars are: scales or encoders."""
    return "scale" if frame["scale"].nunique() > 1 or frame["encoder"].nunique() < 3 else "encoder"


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import bars, distance_label, highest, panel, slanted

    figure, axis = panel(0.75, 4)
    units = unit(frame)
    bars(frame, axis, units, "%.0f")
    axis.set(xlabel=LABELS[units], ylabel=distance_label(frame))
    axis.set_ylim(0, highest(frame) * 1.08)
    if units == "encoder":
        slanted(axis, 20)
    axis.legend(title="method", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import bars_told

    wide = frame.groupby([unit(frame), "method"])["mean"].first().unstack()
    best = ", ".join(f"{name}: {row.idxmin()}" for name, row in wide.iterrows())
    return f"Lowest {frame['distance'].iloc[0]} per {unit(frame)}: {best}. {bars_told(frame)} Dots: the runs."

"""Distance by scale of the network and by method; by encoder where the experiment has one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.figures import runs_of, table_only

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
collect = runs_of
LABELS = {"scale": "scale of the network", "encoder": "encoder"}


def unit(frame: pd.DataFrame) -> str:
    """What the groups of bars are: scales or encoders."""
    return "scale" if frame["scale"].nunique() > 1 or frame["encoder"].nunique() < 3 else "encoder"


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import bars, distance_label, methods_in, panel

    figure, axis = panel(0.75, 4)
    units = unit(frame)
    bars(frame, axis, "%.0f", x=units, y="fd", hue="method", hue_order=methods_in(frame))
    axis.set(xlabel=LABELS[units], ylabel=distance_label(frame))
    axis.set_ylim(0, frame["fd"].max() * 1.12)
    axis.tick_params(axis="x", labelrotation=0 if units == "scale" else 20)
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def caption(frame: pd.DataFrame) -> str:
    wide = frame.groupby([unit(frame), "method"])["fd"].mean().unstack()
    best = ", ".join(f"{name}: {row.idxmin()}" for name, row in wide.iterrows())
    return (
        f"Lowest {frame['distance'].iloc[0]} per {unit(frame)}: {best}. {frame['seed'].nunique()} seed(s), a dot each."
    )

"""Distance against training steps, by method: who gets there first?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.figures import runs_of, table_only
from irepa.pipeline.runner import Context
from irepa.table import images_seen, steps_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per cell: its distance, and the training ``steps`` and ``images`` behind it."""
    runs = runs_of(context, experiment)
    steps = [steps_of(context.tier, recipe) for recipe in runs["recipe"]]
    return runs.assign(steps=steps, images=[images_seen(context.tier, recipe) for recipe in runs["recipe"]])


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import distance_label, methods_in, panel

    figure, axis = panel(0.75, 3.8)
    sns.lineplot(frame, x="images", y="fd", hue="method", hue_order=methods_in(frame), style="method", markers=True,
                 dashes=False, errorbar="sd", ax=axis)  # fmt: skip
    axis.set(xlabel="training images seen", ylabel=distance_label(frame))
    return figure


def caption(frame: pd.DataFrame) -> str:
    mean = frame.groupby(["steps", "method"])["fd"].mean().unstack()
    parts = [f"{step} steps: " + ", ".join(f"{m} {v:.0f}" for m, v in row.items()) for step, row in mean.iterrows()]
    return f"{frame['distance'].iloc[0]} after {'; '.join(parts)}. {frame['seed'].nunique()} seed(s)."

"""Distance against training steps, by method: who gets there first?"""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from irepa.figures import WIDTH, methods_in, style, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances, images_seen, steps_of

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    runs = distances(context, experiment).drop(columns="record")
    steps = [steps_of(context.tier, recipe) for recipe in runs["recipe"]]
    return runs.assign(steps=steps, images=[images_seen(context.tier, recipe) for recipe in runs["recipe"]])


def draw(frame: pd.DataFrame) -> Figure:
    style()
    order = methods_in(frame)
    figure, axis = plt.subplots(figsize=(WIDTH * 0.75, 3.8))
    sns.lineplot(frame, x="images", y="fd", hue="method", hue_order=order, style="method", markers=True, dashes=False,
                 errorbar="sd", ax=axis)  # fmt: skip
    axis.set(xlabel="training images seen", ylabel=f"{frame['distance'].iloc[0]} (lower is better)")
    return figure


def caption(frame: pd.DataFrame) -> str:
    mean = frame.groupby(["steps", "method"])["fd"].mean().unstack()
    rows = [", ".join(f"{m} {v:.0f}" for m, v in row.items()) for _, row in mean.iterrows()]
    parts = [f"{step} steps: {row}" for step, row in zip(mean.index, rows, strict=True)]
    return f"{frame['distance'].iloc[0]} after {'; '.join(parts)}. {frame['seed'].nunique()} seed(s)."

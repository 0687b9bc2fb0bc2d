"""Mixing the global token into the patch tokens (E2): what it does to accuracy, spatial structure and distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit.rules.trend import mixing_weight
from irepa.figures import check_aligned, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances, with_metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per cell and quantity, accuracy, LDS and distance: its ``value`` at the mixing weight ``alpha``."""
    runs = with_metrics(context, distances(context, experiment), ["accuracy", "lds"])
    runs = runs.assign(alpha=[mixing_weight(name, "clsmix") for name in runs["encoder"]])
    long = runs.melt(["encoder", "alpha", "seed", "distance"], ["accuracy", "lds", "fd"], "quantity", "value")
    return long.sort_values(["quantity", "alpha", "seed"])


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import distance_label, panels

    figure, axes = panels(1, 3, 1, 3.2)
    labels = {"accuracy": "linear-probe accuracy (%)", "lds": "LDS (cosine)", "fd": distance_label(frame)}
    for axis, colour, (quantity, label) in zip(axes, sns.color_palette(n_colors=3), labels.items(), strict=True):
        points = frame[frame["quantity"] == quantity]
        sns.lineplot(points, x="alpha", y="value", marker="o", ax=axis, color=colour, errorbar="sd")
        axis.set(xlabel="alpha, weight of\nthe global token", ylabel=label)
    return figure


def caption(frame: pd.DataFrame) -> str:
    mean = frame.groupby(["quantity", "alpha"])["value"].mean()
    parts = []
    for quantity, name, digits in (
        ("accuracy", "accuracy", 1),
        ("lds", "LDS", 2),
        ("fd", frame["distance"].iloc[0], 0),
    ):
        values = mean[quantity]
        parts.append(f"{name} {values.iloc[0]:.{digits}f} to {values.iloc[-1]:.{digits}f}")
    alphas = mean["fd"].index
    return f"From alpha = {alphas.min():g} to {alphas.max():g}: {'; '.join(parts)}."

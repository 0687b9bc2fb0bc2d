"""Mixing the global token into the patch tokens (E2): what it does to accuracy, spatial structure and distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit.rules.trend import mixing_weight
from irepa.figures import check_aligned, table_only
from irepa.pipeline.runner import Context
from irepa.table import with_metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per mixing weight ``alpha`` and quantity, accuracy, LDS and distance: its ``mean``, and a distance's interval."""
    import pandas as pd

    from irepa.figures._units import audited_runs, with_levels

    runs = audited_runs(context, experiment)
    if runs.empty:
        return runs
    runs = with_metrics(context, runs, ["accuracy", "lds"])
    runs = runs.assign(alpha=[mixing_weight(name, "clsmix") for name in runs["encoder"]])
    levels = with_levels(runs, ["alpha"]).drop_duplicates("alpha").set_index("alpha")
    told = levels[["distance", "seeds"]]
    # The encoders' own numbers have no seed.
    of_encoders = [told.assign(quantity=name, mean=runs.groupby("alpha")[name].mean()) for name in ("accuracy", "lds")]
    distances = told.assign(quantity="fd").join(levels[["mean", "low", "high"]])
    return pd.concat([*of_encoders, distances]).sort_values(["quantity", "alpha"]).reset_index()


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import distance_label, interval, panels

    figure, axes = panels(1, 3, 1, 3.2)
    labels = {"accuracy": "linear-probe accuracy (%)", "lds": "LDS (cosine)", "fd": distance_label(frame)}
    for axis, colour, (quantity, label) in zip(axes, sns.color_palette(n_colors=3), labels.items(), strict=True):
        points = frame[frame["quantity"] == quantity]
        interval(axis, points["alpha"], points, color=colour, marker="o", linestyle="-")
        axis.set(xlabel="alpha, weight of\nthe global token", ylabel=label, xticks=points["alpha"])
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import bars_told

    mean = frame.set_index(["quantity", "alpha"])["mean"]
    parts = []
    for quantity, name, digits in (
        ("accuracy", "accuracy", 1),
        ("lds", "LDS", 2),
        ("fd", frame["distance"].iloc[0], 0),
    ):
        values = mean[quantity]
        parts.append(f"{name} {values.iloc[0]:.{digits}f} to {values.iloc[-1]:.{digits}f}")
    alphas = mean["fd"].index
    told = bars_told(frame[frame["quantity"] == "fd"], mark="bars")
    return (
        f"From alpha = {alphas.min():g} to {alphas.max():g}: {'; '.join(parts)}. Distances: {told[0].lower()}{told[1:]}"
    )

"""Mixing the global token into the patch tokens (E2): what it does to accuracy, spatial structure and distance."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from irepa.audit.rules.trend import alpha
from irepa.figures import WIDTH, style, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances, encoder_metrics

needs = table_only


def collect(context: Context, experiment: str) -> pd.DataFrame:
    runs = distances(context, experiment)
    metrics = encoder_metrics(context).loc[runs["encoder"], ["accuracy", "lds"]].reset_index(drop=True)
    frame = pd.concat([runs, metrics], axis=1).assign(alpha=[alpha(name, "clsmix") for name in runs["encoder"]])
    long = frame.melt(["encoder", "alpha", "seed", "distance"], ["accuracy", "lds", "fd"], "quantity", "value")
    return long.sort_values(["quantity", "alpha", "seed"])


def draw(frame: pd.DataFrame) -> Figure:
    style()
    labels = {"accuracy": "linear-probe accuracy (%)", "lds": "LDS (cosine)",
              "fd": f"{frame['distance'].iloc[0]} (lower is better)"}  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.2))
    for axis, colour, (quantity, label) in zip(axes, sns.color_palette(n_colors=3), labels.items(), strict=True):
        points = frame[frame["quantity"] == quantity]
        sns.lineplot(points, x="alpha", y="value", marker="o", ax=axis, color=colour, errorbar="sd")
        axis.set(xlabel="alpha, weight of\nthe global token", ylabel=label)
    return figure


def caption(frame: pd.DataFrame) -> str:
    mean = frame.groupby(["quantity", "alpha"])["value"].mean()
    parts = []
    for quantity in ("accuracy", "lds", "fd"):
        values = mean[quantity]
        name = frame["distance"].iloc[0] if quantity == "fd" else {"lds": "LDS"}.get(quantity, quantity)
        digits = {"lds": 2, "accuracy": 1}.get(quantity, 0)
        parts.append(f"{name} {values.iloc[0]:.{digits}f} to {values.iloc[-1]:.{digits}f}")
    alphas = mean["fd"].index
    return f"From alpha = {alphas.min():g} to {alphas.max():g}: {'; '.join(parts)}."

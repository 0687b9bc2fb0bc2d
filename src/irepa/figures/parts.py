"""What each part of iREPA changes, by images seen, training recipe or scale of the network: when does the convolution help?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irepa.audit import words
from irepa.config.tier import Settings
from irepa.errors import ConfigError
from irepa.figures import cells_of, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances, images_seen

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only

# What a part changes: the distance of the first method against the second, same seed.
PARTS = {
    "alignment (repa against none)": ("repa", "none"),
    "convolution (conv-only against repa)": ("conv-only", "repa"),
    "normalisation (norm-only against repa)": ("norm-only", "repa"),
    "convolution beside normalisation (irepa against norm-only)": ("irepa", "norm-only"),
    "both (irepa against repa)": ("irepa", "repa"),
}

AXES = {"images": "training images seen", "recipe": "training recipe", "scale": "scale of the network"}


def check(settings: Settings, experiment: str) -> None:
    """Raises ConfigError where the experiment has not both methods of any part."""
    methods = {cell.method for cell in cells_of(settings, experiment)}
    if not any(set(pair) <= methods for pair in PARTS.values()):
        pairs = ", ".join(" with ".join(pair) for pair in PARTS.values())
        raise ConfigError(
            f"experiment {experiment} has the methods {', '.join(sorted(methods))}; a part needs one of {pairs}"
        )


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per part, scale, recipe, images seen and seed: ``change``, percent of the distance without the part."""
    import pandas as pd

    runs = distances(context, experiment)
    seen = [images_seen(context.tier, recipe) for recipe in runs["recipe"]]
    wide = runs.assign(images=seen).pivot_table(
        index=["distance", "scale", "recipe", "images", "seed"], columns="method", values="fd"
    )
    frames = [
        (100 * (wide[one] / wide[other] - 1)).rename("change").reset_index().assign(part=part)
        for part, (one, other) in PARTS.items()
        if {one, other} <= {*wide.columns}
    ]
    changes = pd.concat(frames, ignore_index=True).dropna()
    scales, recipes = list(context.tier.scales), list(context.tier.recipes)
    order = np.lexsort((changes["recipe"].map(recipes.index), changes["images"], changes["scale"].map(scales.index)))
    return changes.iloc[order]  # in the tier's order, which is that of the axis


def axis_of(frame: pd.DataFrame) -> str:
    """Which of ``AXES`` differs."""
    return next((name for name in AXES if frame[name].nunique() > 1), "scale")


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import panel

    figure, axis = panel(1, 3.8)
    x = axis_of(frame)
    line = "none" if x == "recipe" else "-"  # recipes have no order
    colours = dict(zip(PARTS, sns.color_palette(), strict=False))
    order = [part for part in PARTS if part in set(frame["part"])]
    sns.pointplot(frame, x=x, y="change", hue="part", hue_order=order, palette=colours, dodge=0.35, errorbar=("pi", 100),
                  markersize=5, linewidth=1, linestyle=line, capsize=0.03, ax=axis)  # fmt: skip
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set(xlabel=AXES[x], ylabel=f"change of {frame['distance'].iloc[0]} (%)")
    sns.move_legend(axis, "lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, title="", fontsize=8)
    return figure


def caption(frame: pd.DataFrame) -> str:
    x = axis_of(frame)
    mean = frame.groupby(["part", x], sort=False)["change"].mean().unstack()[list(dict.fromkeys(frame[x]))]
    rows = [
        f"{str(part).split(' (')[0]}: " + ", ".join(f"{place} {words.percent(v)}" for place, v in row.items())
        for part, row in mean.iterrows()
    ]
    return f"{'; '.join(rows)}. Bars: the range over {frame['seed'].nunique()} seed(s)."

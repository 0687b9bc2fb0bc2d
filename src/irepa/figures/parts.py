"""What each part of iREPA changes, by images seen, training recipe or scale of the network: when does the convolution help?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.audit.changes import estimate_of
from irepa.config.tier import Settings
from irepa.errors import ConfigError
from irepa.figures import cells_of, table_only
from irepa.pipeline.runner import Context

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
    """A row per part and ``place`` on the ``axis``: the ``change`` of the distance that the part makes, in percent.

    ``low`` and ``high`` are the ends of its 95% interval, and ``n`` its seeds, all as the audit has them.
    """
    import pandas as pd

    from irepa.figures._units import audited_runs, change_of

    tier = context.tier
    runs = audited_runs(context, experiment)
    axis = axis_of(runs)
    order = {"images": sorted(set(runs["images"])), "recipe": [*tier.recipes], "scale": [*tier.scales]}[axis]
    rows = []
    for place in order:  # in the tier's order
        here = runs[runs[axis] == place]
        for part, (one, other) in PARTS.items():
            change = change_of(here, one, other)
            if change is not None:
                ends = {"change": change.value, "low": change.low, "high": change.high, "n": change.n}
                rows.append({"axis": axis, "place": place, "part": part} | ends)
    return pd.DataFrame(rows).assign(distance=runs["distance"].iloc[0]) if rows else pd.DataFrame()


def axis_of(runs: pd.DataFrame) -> str:
    """Which of ``AXES`` differs."""
    return next((name for name in AXES if runs[name].nunique() > 1), "scale")


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import interval, panel

    figure, axis = panel(1, 3.8)
    x = frame["axis"].iloc[0]
    line = "" if x == "recipe" else "-"  # recipes have no order
    colours = dict(zip(PARTS, sns.color_palette(), strict=False))
    parts = [part for part in PARTS if part in set(frame["part"])]
    places = list(dict.fromkeys(frame["place"]))
    for k, part in enumerate(parts):
        means = frame[frame["part"] == part].rename(columns={"change": "mean"})
        at = [places.index(place) + 0.35 * ((k + 0.5) / len(parts) - 0.5) for place in means["place"]]
        interval(axis, at, means, color=colours[part], marker="o", markersize=5, linestyle=line, label=part)
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set_xticks(range(len(places)), places)
    axis.grid(False, axis="x")
    axis.set(xlabel=AXES[x], ylabel=f"change of {frame['distance'].iloc[0]} (%)", xlim=(-0.5, len(places) - 0.5))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=8)
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import BY_STEPS, bars_told

    parts = []
    for part, rows in frame.groupby("part", sort=False):
        told = [f"{row['place']} {words.percentages(estimate_of(row))}" for row in rows.to_dict("records")]
        parts.append(f"{str(part).split(' (')[0]}: {', '.join(told)}")
    anew = f" {BY_STEPS}" if frame["axis"].iloc[0] == "images" else ""
    return f"{'; '.join(parts)}. {bars_told(frame, 'n', 'bars')}{anew}"

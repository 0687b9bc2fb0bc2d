"""Seed noise against effects: every run of the tier that differs in one thing from the reference, seed by seed.

The reference is the method ``repa`` of the figure's experiment, with its first encoder.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from irepa.audit import words
from irepa.audit.noise import by_t
from irepa.audit.pairs import to_percent
from irepa.config.cells import NO_ENCODER
from irepa.config.tier import Settings
from irepa.errors import ConfigError
from irepa.figures import cells_of, table_only
from irepa.pipeline.runner import Context
from irepa.table import CELL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
REFERENCE = "repa"


def check(settings: Settings, experiment: str) -> None:
    """Raises ConfigError where no run of the experiment has the reference's method."""
    if all(cell.method != REFERENCE for cell in cells_of(settings, experiment)):
        raise ConfigError(f"experiment {experiment} has no run of method {REFERENCE}, to which the others are compared")


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per run and seed: ``change`` in percent of the reference's distance with the same seed; ``kind`` of difference.

    Runs and their ``noise`` are those of the audit: seeds that were added after a look at the others have no part.
    """
    from irepa.audit.evidence import results
    from irepa.figures._units import of_recipe, spread_of

    reference = next(cell for cell in cells_of(context.settings, experiment) if cell.method == REFERENCE)
    evidence = results.read(context, experiment)
    every = evidence.fixed
    alike = of_recipe(every, context.tier, reference.recipe) & (every["scale"] == reference.scale)
    here = every[alike]
    is_reference = (here["encoder"] == reference.encoder) & (here["method"] == REFERENCE)
    base = here[is_reference].set_index("seed")["fd"]
    other_method = here["encoder"].isin([reference.encoder, NO_ENCODER]) & ~is_reference
    other_encoder = (here["method"] == REFERENCE) & ~is_reference
    runs = here[other_method | other_encoder | is_reference]
    runs = runs[runs["seed"].isin(base.index)]
    kind = np.where(is_reference[runs.index], "reference", np.where(other_method[runs.index], "method", "encoder"))
    name = [e if k == "encoder" else m for k, e, m in zip(kind, runs["encoder"], runs["method"], strict=True)]
    change = 100 * (runs["fd"].to_numpy() / base.loc[runs["seed"]].to_numpy() - 1)
    spread = spread_of(evidence, context.tier, reference.recipe)
    sd = 100 * math.sqrt(spread.variance)
    frame = runs[[*CELL, "fd"]].assign(distance=evidence.distance, kind=kind, name=name, change=change)
    frame = frame.assign(noise=sd, freedom=spread.freedom)
    return frame.sort_values(["kind", "name", "seed"])


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import panel

    others = frame[frame["kind"] != "reference"]
    means = effects(frame).sort_values("mean")
    order = means.index
    figure, axis = panel(0.85, 0.24 * len(order) + 1.4)
    sd = frame["noise"].iloc[0]
    if np.isfinite(sd):
        label = f"2 standard deviations of one run: {2 * sd:.1f}%"
        axis.axvspan(-2 * sd, 2 * sd, color="0.88", zorder=0, label=label)
    axis.axvline(0, color="0.5", linewidth=0.8)
    sns.stripplot(others, y="name", x="change", hue="kind", order=order, ax=axis, size=4, alpha=0.7, jitter=False)
    ends = [means["mean"] - means["low"], means["high"] - means["mean"]]
    axis.errorbar(means["mean"], range(len(order)), xerr=ends, fmt="|", markersize=11, color="black", linewidth=0.8,
                  label="mean, 95% interval (the recipe's spread)")  # fmt: skip
    reference = frame.loc[frame["kind"] == "reference", "encoder"].iloc[0]
    axis.set(xlabel=f"change of {frame['distance'].iloc[0]} against repa with {reference}, same seed (%)", ylabel="")
    axis.tick_params(axis="y", labelsize=7.5)
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False, fontsize=8)
    return figure


def effects(frame: pd.DataFrame) -> pd.DataFrame:
    """``mean`` change by name in percent, by its logarithm, and the ends ``low`` and ``high`` of its 95% interval."""
    import pandas as pd

    others = frame[frame["kind"] != "reference"]
    sd, freedom = (float(frame[name].iloc[0]) for name in ("noise", "freedom"))
    rows = {}
    for name, changes in others.groupby("name")["change"]:
        ratios = np.log1p(changes.to_numpy(float) / 100)
        # Two runs differ by twice the variance of one.
        estimate, _ = by_t(float(ratios.mean()), 2 * (sd / 100) ** 2 / len(ratios), freedom, 0.0, len(ratios))
        change = estimate.map(to_percent)
        rows[name] = {"mean": change.value, "low": change.low, "high": change.high}
    return pd.DataFrame.from_dict(rows, orient="index")


def caption(frame: pd.DataFrame) -> str:
    sd, changes = frame["noise"].iloc[0], effects(frame)
    means, beyond = changes["mean"], int(((changes["low"] > 0) | (changes["high"] < 0)).sum())
    return (
        f"Standard deviation of one run's own noise: {sd:.1f}% of the distance; dots are differences at the same seed, and what "
        f"the seed gives to all runs cancels. {beyond} of {len(means)} changes have an interval without 0; largest: "
        f"{means.idxmin()} ({words.percent(means.min())}) and {means.idxmax()} ({words.percent(means.max())})."
    )

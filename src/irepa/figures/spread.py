"""How far distances, and differences of methods at the same seed, differ between seeds: by recipe and by judge."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from irepa.audit import words
from irepa.audit.noise import Spread, by_t, deviation, names_of, noise_of
from irepa.audit.pairs import pair_methods, to_percent
from irepa.config.tier import Settings
from irepa.errors import ConfigError
from irepa.figures import cells_of, table_only
from irepa.pipeline.runner import Context
from irepa.table import distances, images_seen, judged_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only

VALUES = ("sd", "sd_low", "sd_high", "freedom", "n", "change", "change_low", "change_high", "level")
COLUMNS = ["recipe", "distance", "images", "what", *VALUES]
ALL = "one run, without what its seed gives to every method"


def check(settings: Settings, experiment: str) -> None:
    """Raises ConfigError where the experiment has one seed, or one method."""
    cells = cells_of(settings, experiment)
    for what, found in (("seed", {c.seed for c in cells}), ("method", {c.method for c in cells})):
        if len(found) < 2:
            raise ConfigError(f"experiment {experiment} has one {what}; a spread between seeds needs two of each")


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per ``recipe``, judge (``distance``) and ``what`` differs; all in percent of the distance.

    ``what`` is a difference of two methods that follow each other in the experiment, at the same seed, or the noise of one run.
    ``sd``: its standard deviation over ``n`` seeds, ``sd_low`` and ``sd_high`` the ends of its 95% interval by chi-square.
    ``change``: the mean difference, with the ends of its t interval. ``level``: the geometric mean distance of the first method.
    """
    import pandas as pd

    rows: list[dict[str, object]] = []
    cells = cells_of(context.settings, experiment)
    pairs = list(pairwise(dict.fromkeys(cell.method for cell in cells)))
    for name in judged_names(context):
        runs = distances(context, experiment, name).assign(steps=0, setting="")
        runs = runs.assign(run=names_of(runs))
        for recipe in dict.fromkeys(cell.recipe for cell in cells):
            here = runs[runs["recipe"] == recipe]
            told = {"recipe": recipe, "distance": name, "images": images_seen(context.tier, recipe)}
            spread = noise_of(here).get(recipe)
            if spread is not None and spread.freedom > 0:
                rows.append(told | {"what": ALL} | _deviation(spread))
            for than, method in pairs:
                beside = pair_methods(here, method, than)
                if not beside.empty:
                    rows.append(told | {"what": f"{method} against {than}"} | _difference(beside))
    return pd.DataFrame(rows, columns=COLUMNS)


def _difference(pairs: pd.DataFrame) -> dict[str, float]:
    """Of runs side by side (:func:`irepa.audit.pairs.pair_methods`), by seed: a mean over what else differs."""
    values = pairs.groupby("seed")["ratio"].mean().to_numpy(float)
    n, mean = len(values), float(values.mean())
    told = {"n": n, "change": to_percent(mean), "level": float(np.exp(np.log(pairs["fd_than"]).mean()))}
    if n < 2:
        return told
    spread = Spread(float(values.var(ddof=1)), n - 1)
    change, _ = by_t(mean, spread.variance / n, spread.freedom, 0, n)
    return told | {"change_low": to_percent(change.low), "change_high": to_percent(change.high)} | _deviation(spread)


def _deviation(spread: Spread) -> dict[str, float]:
    """In percent."""
    values = zip(("sd", "sd_low", "sd_high"), deviation(spread), strict=True)
    return {name: 100 * value for name, value in values} | {"freedom": spread.freedom}


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import interval, panels

    judges, recipes, kinds = (list(dict.fromkeys(frame[name])) for name in ("distance", "recipe", "what"))
    height = 0.33 * len(recipes) + 0.9
    figure, axes = panels(2, len(judges), 1, 2 * height + 0.6, sharey=True, squeeze=False)
    colours = dict(zip(kinds, ["0.55", *sns.color_palette()] if ALL in kinds else sns.color_palette(), strict=False))
    for column, judge in enumerate(judges):
        for kind, rows in frame[frame["distance"] == judge].groupby("what", sort=False):
            shift = 0.7 * ((kinds.index(str(kind)) + 0.5) / len(kinds) - 0.5)
            at = [recipes.index(name) + shift for name in rows["recipe"]]
            look = {"color": colours[str(kind)], "marker": "o", "markersize": 5, "label": kind, "flat": True}
            deviations = rows.rename(columns={"sd": "mean", "sd_low": "low", "sd_high": "high"})
            interval(axes[0, column], at, deviations, **look)
            if kind != ALL:
                changes = rows.rename(columns={"change": "mean", "change_low": "low", "change_high": "high"})
                interval(axes[1, column], at, changes, **look)
        axes[0, column].set(title=judge, xlabel="standard deviation over seeds (%)")
        axes[0, column].set_xlim(left=0)
        axes[1, column].set(xlabel="mean change at the same seed (%)")
        axes[1, column].axvline(0, color="0.5", linewidth=0.8)
    for axis in axes.flat:
        axis.set_yticks(range(len(recipes)), recipes)
        axis.set_ylim(len(recipes) - 0.5, -0.5)
        axis.grid(False, axis="y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(kinds), frameon=False, fontsize=8)
    return figure


def caption(frame: pd.DataFrame) -> str:
    first = frame[(frame["distance"] == frame["distance"].iloc[0]) & (frame["what"] != ALL)]
    if first.empty:
        return f"By {frame['distance'].iloc[0]}. No two methods were run with the same seed."
    parts = []
    for recipe, rows in first.groupby("recipe", sort=False):
        told = [
            f"{row['what']} {words.percent(row['change'])}" + (f", s.d. {row['sd']:.1f}%" if row["n"] > 1 else "")
            for row in rows.to_dict("records")
        ]
        parts.append(f"{recipe}: {'; '.join(told)}")
    few, most = int(first["n"].min()), int(first["n"].max())
    over = str(most) if few == most else f"{few} to {most}"
    return (
        f"By {first['distance'].iloc[0]}, differences at the same seed, over {over} {words.plural('seed', most)}. "
        f"{'. '.join(parts)}. Lines: 95% intervals, of a standard deviation by chi-square."
    )

"""Runs, and encoders as targets, as the audit takes them: its units, correlations and intervals, in columns of a figure's CSV.

So a figure shows the number on which the verdict rests: the seeds that were fixed in advance; intervals by the noise of
the recipe; networks, whose layers are averaged; the log distance behind the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, results
from irepa.audit.noise import Spread, by_t, effects_of, names_of, noise_of
from irepa.audit.pairs import ALONE, REPA, pair_methods, to_percent
from irepa.audit.statistics import Estimate
from irepa.audit.targets import Targets, Unit, targets
from irepa.config.tier import Tier
from irepa.figures import cells_of
from irepa.pipeline.runner import Context
from irepa.table import CELL, distances, images_seen, steps_of

if TYPE_CHECKING:
    import pandas as pd

SAME = [name for name in CELL if name != "seed"]  # runs that are repeats of one another
BY_STEPS = "The noise is estimated anew for each number of steps."
NO_R = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Source:
    """Where a figure's units are.

    Attributes:
        evidence: the tier's, with the figure's experiment in it.
        experiment: by what name the evidence has it.
        scale: the largest at which it was run.
        method: REPA, or what else aligns where the experiment has no REPA.
    """

    evidence: Evidence
    experiment: str
    scale: str
    method: str

    @property
    def runs(self) -> pd.DataFrame:
        """The runs that the units rest on; none where all have failed."""
        try:
            runs = self.evidence.of(self.experiment)
        except NotTestable:
            return self.evidence.final.iloc[:0]
        return runs[(runs["scale"] == self.scale) & (runs["method"] == self.method)]

    def units(self, properties: Sequence[str], unit: Unit = "network") -> Targets:
        """The units that have these properties. Raises NotTestable where there is none."""
        return targets(self.evidence, self.experiment, self.scale, self.method, properties, unit)


def source_of(context: Context, experiment: str) -> Source:
    """The units of one of the tier's experiments. Raises CacheError where the table is missing or out of date."""
    aligned = [cell for cell in cells_of(context.settings, experiment) if cell.method != ALONE]
    methods, scales = {cell.method: None for cell in aligned}, {cell.scale for cell in aligned}
    return Source(
        results.read(context, experiment),
        results.serving(context.tier, experiment),
        [scale for scale in context.tier.scales if scale in scales][-1],
        REPA if REPA in methods else next(iter(methods)),
    )


def levels_of(of: Targets) -> dict[str, list[float]]:
    """The geometric mean distance ``fd`` of each unit, and the ends ``low`` and ``high`` of its 95% interval by the noise."""
    levels = [
        by_t(level, variance, of.noise.freedom, 0.0, 0)[0].map(math.exp)
        for level, variance in zip(of.column("level"), of.column("variance"), strict=True)
    ]
    return {
        "fd": [level.value for level in levels],
        "low": [level.low for level in levels],
        "high": [level.high for level in levels],
    }


def correlated(of: Targets, name: str) -> dict[str, float]:
    """The correlation of a property with the log distance of the units, and how reliable that is; NaN for too few units."""
    independent = of.effective([name])
    try:
        found = of.correlate([name])
    except NotTestable:
        r = reliability = NO_R
    else:
        r, reliability = found.estimate([1.0], len(of.units)), of.reliability(found)
    ends = {f"r{end}": value for end, value in _ends(r)} | {
        f"reliability{end}": value for end, value in _ends(reliability)
    }
    return {**ends, "units": len(of.units), "independent": independent}


def _ends(of: Estimate) -> list[tuple[str, float]]:
    return [("", of.value), ("_low", of.low), ("_high", of.high)]


def said(row: Any) -> str:
    """A correlation that :func:`correlated` gave, in words: ``r = 0.69 [-0.05, 1.00]``."""
    r = Estimate(row["r"], row["r_low"], row["r_high"], int(row["units"]))
    return words.correlation(r) if math.isfinite(r.value) else f"no r ({int(row['units'])} are too few)"


def reliability(row: Any) -> str:
    """How reliable the distances behind it are, in words."""
    ends = (row["reliability"], row["reliability_low"], row["reliability_high"])
    known = math.isfinite(ends[0])
    return f"reliability {words.estimate(Estimate(*ends, int(row['units'])), '.2f') if known else 'unknown'}"


def audited_runs(context: Context, *experiments: str) -> pd.DataFrame:
    """The runs that the audit reads of the experiments' cells, a row each; the first may serve none of the paper's.

    Columns ``CELL``, ``fd``, ``distance``, ``record``; ``steps`` and ``images`` behind it; ``noise`` in percent of the
    distance and its ``freedom``, of the recipe (NaN and 0: unknown). A cell's seeds are those that any experiment has
    fixed in advance. Raises CacheError where the table is missing or out of date.
    """
    import pandas as pd

    tier, evidence = context.tier, results.read(context, experiments[0])
    names = [name for name, experiment in tier.experiments.items() if experiment.paper or name in experiments]
    runs = pd.concat([distances(context, name) for name in names], ignore_index=True).drop_duplicates("record")
    runs = runs[runs["record"].isin(evidence.fixed["record"])]
    asked = [
        [getattr(cell, part) for part in SAME] for name in experiments for cell in cells_of(context.settings, name)
    ]
    runs = pd.DataFrame(asked, columns=SAME).drop_duplicates().merge(runs, on=SAME)
    spreads = {recipe: spread_of(evidence, tier, recipe) for recipe in dict.fromkeys(runs["recipe"])}
    return runs.assign(
        steps=[steps_of(tier, recipe) for recipe in runs["recipe"]],
        images=[images_seen(tier, recipe) for recipe in runs["recipe"]],
        noise=[100 * math.sqrt(spreads[recipe].variance) for recipe in runs["recipe"]],
        freedom=[spreads[recipe].freedom for recipe in runs["recipe"]],
    )


def of_recipe(runs: pd.DataFrame, tier: Tier, recipe: str) -> pd.Series:
    """Which of the audit's runs are of one of the tier's recipes, which it may know by the recipe that this is trained as."""
    settings = tier.recipes[recipe]
    setting = recipe if settings.trained_as and settings.at is None else ""
    named = (runs["recipe"] == (settings.trained_as or recipe)) & (runs["setting"] == setting)
    return named & (runs["steps"] == steps_of(tier, recipe))


def spread_of(evidence: Evidence, tier: Tier, recipe: str) -> Spread:
    """The noise of one of the tier's recipes.

    A recipe that is another one sampled early has the noise at its own number of steps, which is not that at the end.
    """
    settings = tier.recipes[recipe]
    trained, noise = settings.trained_as or recipe, evidence.noise
    if settings.at is not None:
        runs = evidence.fixed
        noise = noise_of(runs[(runs["recipe"] == trained) & (runs["steps"] == settings.at)])
    return noise.get(trained, Spread())


def with_levels(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Runs with the geometric ``mean`` distance of their group, the ends ``low`` and ``high`` of its 95% interval, ``seeds``.

    runs: as :func:`audited_runs` gives them. by: the columns that make a group. The interval is that of the runs' own noise;
    what a seed gives to all runs alike is not in it.
    """
    import pandas as pd

    if runs.empty:
        return runs
    rows = []
    for key, part in runs.groupby([*by], sort=False):
        logs, n = np.log(part["fd"].to_numpy(float)), len(part)
        variance = float(((part["noise"].to_numpy(float) / 100) ** 2).sum()) / n**2
        level = by_t(float(logs.mean()), variance, float(part["freedom"].min()), 0.0, n)[0].map(math.exp)
        ends = {"mean": level.value, "low": level.low, "high": level.high, "seeds": part["seed"].nunique()}
        rows.append(dict(zip(by, key, strict=True)) | ends)
    return runs.merge(pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"]), on=[*by])


def change_of(runs: pd.DataFrame, method: str, than: str) -> Estimate | None:
    """What one method changes against another at the same seed, in percent, over these very runs; None without a pair.

    Of runs of one encoder, scale and recipe it is the audit's change (:func:`irepa.audit.changes.measure_changes`).
    """
    named = runs.assign(setting="")  # recipes have the tier's names here, so that one is not a setting of another
    pairs = pair_methods(named.assign(run=names_of(named)), method, than)
    if pairs.empty:
        return None
    variance = (runs["noise"] / 100) ** 2
    spreads = zip(runs["recipe"], variance, runs["freedom"], strict=True)
    noise = {str(recipe): Spread(*spread) for recipe, *spread in spreads}
    units = pairs["recipe"] + "/" + pairs["scale"] + "/" + pairs["encoder"]
    return effects_of(pairs.assign(unit=units), noise).mean_of_these()[0].map(to_percent)


def bars_told(frame: pd.DataFrame, seeds: str = "seeds", mark: str = "lines") -> str:
    """What means and intervals are, in a sentence: ``Means over 3 seeds; lines: 95% interval by the noise of the recipe.``

    frame: with ``low`` and a column of numbers of seeds. mark: what the intervals are drawn as.
    """
    fewest, most = int(frame[seeds].min()), int(frame[seeds].max())
    over = f"Means over {fewest if fewest == most else f'{fewest} to {most}'} {words.plural('seed', most)}"
    if frame["low"].isna().all():
        return f"{over}, without an interval: no recipe has a cell with several seeds."
    some = "; a recipe whose cells all have one seed has none" if frame["low"].isna().any() else ""
    return f"{over}; {mark}: 95% interval by the noise of the recipe{some}."

"""Encoders as targets, for rules and for figures: units, each with its properties and the distance behind the noise of seeds.

A unit is a network: layers of one network are repeats of it, and their properties and distances are averaged. Networks
of one family count for fewer than they are (:func:`irepa.audit.statistics.effective_units`). Distances enter by their
logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from irepa.audit.evidence import Evidence, NotTestable
from irepa.audit.noise import Spread
from irepa.audit.statistics import Array, Correlations, Estimate, correlations, effective_units, pearson
from irepa.table import SPATIAL_NAMES

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "accuracy": "linear-probe accuracy",
    **SPATIAL_NAMES,
    "agreement_hidden_target": "agreement of the hidden tokens' self-similarity with the target's",
}
Property = Literal["accuracy", "lds", "cds", "srss", "rmsc", "agreement_hidden_target"]
Unit = Literal["network", "encoder"]
ONE = 0.95  # |r| between two properties above which they are one predictor


@dataclass(frozen=True)
class Targets:
    """Units of one experiment at one scale.

    Attributes:
        units: a row per unit, by name: ``level`` (mean log distance), the properties, ``family``, ``encoders`` (how many),
            ``variance`` (of the noise in the level, NaN where it is not known).
        points: a row per encoder, as :meth:`irepa.audit.evidence.Evidence.points` gives it.
        noise: of a unit's level, on average; NaN and 0 where it is not known.
    """

    units: pd.DataFrame
    points: pd.DataFrame
    noise: Spread

    def column(self, name: str) -> Array:
        return self.units[name].to_numpy(float)

    def effective(self, properties: Sequence[str]) -> float:
        """How many independent units they count for, by the property for which these are fewest."""
        families = self.units["family"].tolist()
        return min(effective_units(self.column(name), self.column("level"), families) for name in properties)

    def correlate(self, properties: Sequence[str]) -> Correlations:
        """Correlations of properties with the log distance behind the noise. Raises NotTestable for too few units."""
        known = self.noise.freedom > 0
        try:
            return correlations(
                np.stack([self.column(name) for name in properties]),
                self.column("level"),
                self.noise.variance if known else 0.0,
                self.noise.freedom if known else 1.0,
                self.effective(properties),
            )
        except ValueError as error:
            raise NotTestable(f"{len(self.units)} units with these properties and a distance: {error}") from None

    def reliability(self, found: Correlations) -> Estimate:
        """Of the units' distances; NaN where no seed says how noisy they are."""
        return found.reliability if self.noise.freedom > 0 else Estimate(math.nan, math.nan, math.nan, len(self.units))

    def told(self, properties: Sequence[str]) -> str:
        """How many independent units these are, in a sentence."""
        encoders, families = int(self.units["encoders"].sum()), self.units["family"].nunique()
        return (
            f"{encoders} encoders are {len(self.units)} units of {families} families, and count for "
            f"{self.effective(properties):.1f} independent ones."
        )


def targets(
    evidence: Evidence, experiment: str, scale: str, method: str, properties: Sequence[str], unit: Unit = "network"
) -> Targets:
    """The units that have every one of the properties and a distance. Raises NotTestable where there is none."""
    points = evidence.points(experiment, scale, method)
    if not set(properties) <= set(points):
        raise NotTestable(f"no encoder with {', '.join(NAMES.get(name, name) for name in properties)} and a distance")
    points = points.dropna(subset=[*properties, "level"])
    if points.empty:
        raise NotTestable("no encoder with these properties and a distance")
    points = points.assign(
        unit=[evidence.network_of(name) if unit == "network" else name for name in points.index],
        family=[evidence.family_of(name) if unit == "network" else name for name in points.index],
    )
    grouped = points.groupby("unit")
    units = grouped[["level", *properties]].mean().assign(family=grouped["family"].first(), encoders=grouped.size())
    variance, noise = _noise(evidence, experiment, scale, method, points)
    return Targets(units.assign(variance=variance), points, noise)


def _noise(
    evidence: Evidence, experiment: str, scale: str, method: str, points: pd.DataFrame
) -> tuple[pd.Series, Spread]:
    """Variance of the noise in each unit's level, which is the mean over its encoders of their means over runs; its mean."""
    runs = evidence.of(experiment)
    runs = runs[(runs["method"] == method) & (runs["scale"] == scale) & runs["encoder"].isin(points.index)]
    spreads = [evidence.noise.get(recipe, Spread()) for recipe in runs["recipe"]]
    unit = runs["encoder"].map(points["unit"])
    each = runs.groupby("encoder")["fd"].transform("size") * unit.map(points.groupby("unit").size())
    variance = np.array([spread.variance for spread in spreads]) / each.to_numpy(float) ** 2
    of_unit = runs.assign(variance=variance).groupby(unit)["variance"].sum(min_count=1)
    return of_unit, Spread(float(variance.sum()) / unit.nunique(), min(spread.freedom for spread in spreads))


def one_predictor(evidence: Evidence, experiment: str, properties: Sequence[str]) -> dict[str, str]:
    """Which of the properties are one predictor, |r| > 0.95 between them: the first of its like for each of them."""
    try:
        scale = evidence.scales_of(experiment)[-1]
    except (NotTestable, IndexError):
        return {name: name for name in properties}
    first: dict[str, str] = {}
    for name in properties:
        alike = (other for other in first if _alike(evidence, experiment, scale, other, name))
        first[name] = next((first[other] for other in alike), name)
    return first


def _alike(evidence: Evidence, experiment: str, scale: str, one: str, other: str) -> bool:
    try:
        both = targets(evidence, experiment, scale, "repa", [one, other])
    except NotTestable:
        return False
    return len(both.units) > 3 and abs(float(pearson(both.column(one), both.column(other)))) > ONE

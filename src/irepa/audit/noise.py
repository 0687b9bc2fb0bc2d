"""How noisy a distance is between seeds, and what that leaves of a difference: the one model of variance of the project.

Within a recipe, the logarithm of a run's distance is what its configuration gives, plus what its seed gives to every run
of the same network, plus noise of its own::

    log fd[cell, seed] = cell + seed(network) + noise,    noise ~ N(0, variance of the recipe)

The variance is estimated by least squares from all cells of the recipe that have several seeds. Recipes differ in it, so
that none lends it to another: where all cells of a recipe have one seed, nothing of that recipe has an interval. A
difference of runs with the same seed is a weighted sum of runs in which the seed's own part cancels. Its variance is the
sum of squared weights times that of the noise, also where several differences share a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from irepa.audit.statistics import Array, Estimate

if TYPE_CHECKING:
    import pandas as pd

NETWORK = ["recipe", "scale", "setting", "steps"]  # runs of one network share what a seed gives
RUN = [*NETWORK, "encoder", "method", "seed"]


@dataclass(frozen=True)
class Spread:
    """Variance of the noise of one run's log distance, and the degrees of freedom of its estimate; NaN and 0: unknown."""

    variance: float = math.nan
    freedom: float = 0.0


Noise = Mapping[str, Spread]  # by recipe


def names_of(runs: pd.DataFrame) -> pd.Series:
    """A name for each run, by which a difference says what it is made of: its recipe, a slash, and what else it is."""
    rest = runs[RUN[1:]].astype(str).agg("/".join, axis=1) if len(runs) else runs["recipe"].astype(str)
    return runs["recipe"].astype(str) + "/" + rest


def noise_of(runs: pd.DataFrame) -> dict[str, Spread]:
    """The noise of every recipe among runs (columns ``RUN`` and ``fd``), each of which was made once."""
    return {str(recipe): _fitted(part)[1] for recipe, part in runs.groupby("recipe")}


def pooled(values: Array, units: NDArray[np.integer[Any]]) -> Spread:
    """Spread of values (n,) about the mean of their unit, units (n,) numbered from 0: of differences, which have no seed's part.

    Both numbers of a difference may come from one run, and then their noise is not that of two runs: so it is estimated
    from the differences themselves.
    """
    counts = np.bincount(units)
    freedom = len(values) - np.count_nonzero(counts)
    means = np.bincount(units, values) / np.maximum(counts, 1)
    return Spread(float(((values - means[units]) ** 2).sum()) / freedom, float(freedom)) if freedom else Spread()


def without_seeds(runs: pd.DataFrame) -> Array:
    """Log distances (runs,) without what the seed gives to every run of the same network, so that cells compare."""
    values = np.empty(len(runs))
    for _, places in runs.groupby("recipe").indices.items():
        values[places] = _fitted(runs.iloc[places])[0]
    return values


def _fitted(runs: pd.DataFrame) -> tuple[Array, Spread]:
    """Log distances of one recipe without the part of the seed, and their spread, by least squares."""
    y = np.log(runs["fd"].to_numpy(float))
    network = runs.groupby(NETWORK, dropna=False).ngroup()
    cell = runs.groupby([*NETWORK, "encoder", "method"], dropna=False).ngroup().to_numpy()
    seed = runs.assign(network=network).groupby(["network", "seed"]).ngroup().to_numpy()
    cells, seeds = np.eye(cell.max() + 1)[cell], np.eye(seed.max() + 1)[seed]
    # Within cells, so that the seeds' parts are those that their shared cells show; their mean over a cell is not theirs.
    counts = cells.sum(axis=0)
    left = seeds - cells @ ((cells.T @ seeds) / counts[:, None])
    centred = y - cells @ (cells.T @ y / counts)
    part, _, rank, _ = np.linalg.lstsq(left, centred, rcond=None)
    freedom = len(y) - len(counts) - int(rank)
    squares = float(((centred - left @ part) ** 2).sum())
    return y - seeds @ part, Spread(squares / freedom, float(freedom)) if freedom > 0 else Spread()


@dataclass(frozen=True)
class Amount:
    """One number with what is known of its error; NaN and 0: nothing. n: the units or seeds that it rests on."""

    value: float
    variance: float
    freedom: float
    n: int

    def test(self, null: float = 0.0) -> tuple[Estimate, float]:
        """The number with its t interval, and the two-sided p of its being ``null``."""
        return by_t(self.value, self.variance, self.freedom, null, self.n)

    def times(self, share: float) -> Amount:
        return Amount(share * self.value, share**2 * self.variance, self.freedom, self.n)


@dataclass(frozen=True)
class Effects:
    """Log ratios of distances by unit, with what noise does to them.

    Attributes:
        units: their names.
        values: (units,), the mean log ratio of each.
        covariance: (units, units), of the noise in them; NaN where the noise is unknown, 0 where two share no run.
        freedom: (units,), degrees of freedom of each one's own variance.
        seeds: (units,), how many seeds each rests on at least.
    """

    units: list[str]
    values: Array
    covariance: Array
    freedom: Array
    seeds: Array

    def each(self, null: float = 0.0) -> list[tuple[Estimate, float]]:
        """Every unit's effect with its t interval, and the two-sided p of its being ``null``."""
        return [
            by_t(float(value), float(variance), float(freedom), null, int(n))
            for value, variance, freedom, n in zip(
                self.values, np.diag(self.covariance), self.freedom, self.seeds, strict=True
            )
        ]

    def less(self, amount: Amount) -> Effects:
        """What each is beyond an amount that is itself estimated, the same for all: they share its error.

        The amount must share no run with them that does not cancel within each.
        """
        known = self.freedom > 0
        return Effects(
            self.units,
            self.values - amount.value,
            self.covariance + amount.variance,
            np.where(known, np.minimum(self.freedom, amount.freedom), amount.freedom),
            self.seeds,
        )

    def mean_of_these(self, null: float = 0.0) -> tuple[Estimate, float]:
        """The mean over these very units: noise between seeds is all that it has. n: the seeds of the fewest."""
        weights = np.full(len(self.values), 1 / len(self.values))
        freedom = float(np.min(self.freedom))
        variance = float(weights @ self.covariance @ weights)
        return by_t(float(self.values.mean()), variance, freedom, null, int(self.seeds.min()))

    def mean_of_their_kind(self, null: float = 0.0) -> tuple[Estimate, float]:
        """The mean over all units of which these are a sample (:meth:`kind`), and the two-sided p of its being ``null``."""
        return self.kind().test(null)

    def kind(self) -> Amount:
        """The mean over all units of which these are a sample: they differ, and noise that several share does not average out.

        The variance is that of the units over their number, plus the mean covariance between two of them, with freedom
        by Satterthwaite.
        """
        k, mean = len(self.values), float(self.values.mean())
        if k < 2:
            return Amount(mean, float(self.covariance[0, 0]), float(self.freedom[0]), int(self.seeds[0]))
        between = float(self.values.var(ddof=1)) / k
        apart = ~np.eye(k, dtype=bool)
        common = float(self.covariance[apart].mean())
        freedom = float(np.min(self.freedom))
        total = between + common
        if not total > 0:  # unknown, or every unit the same
            return Amount(mean, total, k - 1, k)
        rest = common**2 / freedom if common > 0 else 0.0
        return Amount(mean, total, total**2 / (between**2 / (k - 1) + rest), k)


def by_t(value: float, variance: float, freedom: float, null: float, n: int) -> tuple[Estimate, float]:
    """An estimate with the t interval of its variance, and the two-sided p of ``null``; NaN ends and 1 where it is unknown."""
    from scipy import stats

    if not math.isfinite(variance) or freedom <= 0:
        return Estimate(value, math.nan, math.nan, n), 1.0
    error = math.sqrt(variance)
    half = float(stats.t.ppf(0.975, freedom)) * error
    if error == 0:
        return Estimate(value, value, value, n), float(value == null)
    p = float(2 * stats.t.sf(abs(value - null) / error, freedom))
    return Estimate(value, value - half, value + half, n), p


def deviation(spread: Spread) -> tuple[float, float, float]:
    """The standard deviation of a known spread, with the ends of its 95% interval by chi-square."""
    from scipy import stats

    sd = math.sqrt(spread.variance)
    low, high = (sd * math.sqrt(spread.freedom / float(stats.chi2.ppf(at, spread.freedom))) for at in (0.975, 0.025))
    return sd, low, high


def effects_of(pairs: pd.DataFrame, noise: Noise) -> Effects:
    """The effect of every unit in pairs of runs.

    pairs: rows of ``unit``, ``seed``, ``ratio`` (the log ratio) and of ``run`` and ``run_than``, the names of both runs
    (:func:`names_of`).
    """
    import pandas as pd

    size = pairs.groupby("unit")["ratio"].transform("size")
    parts = [
        pd.DataFrame({"unit": pairs["unit"], "run": pairs[name], "weight": sign / size})
        for name, sign in (("run", 1.0), ("run_than", -1.0))
    ]
    weights = pd.concat(parts).pivot_table(index="unit", columns="run", values="weight", aggfunc="sum", fill_value=0.0)
    spreads = [noise.get(str(run).split("/", 1)[0], Spread()) for run in weights.columns]
    w = weights.to_numpy(float)
    variance, freedom = (np.array([getattr(s, name) for s in spreads]) for name in ("variance", "freedom"))
    # A run of unknown noise spoils those units alone that it is part of.
    covariance = (w * np.nan_to_num(variance)) @ w.T
    unknown = (np.abs(w) * np.isnan(variance)) @ np.abs(w).T > 0
    covariance[unknown] = np.nan
    by_unit = pairs.groupby("unit")
    return Effects(
        [str(name) for name in weights.index],
        by_unit["ratio"].mean().to_numpy(float),
        covariance,
        np.array([_freedom(row, variance, freedom, spreads) for row in w]),
        by_unit["seed"].nunique().to_numpy().astype(float),
    )


def _freedom(weights: Array, variance: Array, freedom: Array, spreads: list[Spread]) -> float:
    """Freedom of the variance of one weighted sum, by Satterthwaite over the recipes that it is made of."""
    parts: dict[Spread, float] = {}
    for weight, value, spread in zip(weights, variance, spreads, strict=True):
        if weight:
            parts[spread] = parts.get(spread, 0.0) + weight**2 * value
    if any(spread.freedom <= 0 for spread in parts):
        return 0.0
    total = sum(parts.values())
    return total**2 / sum(part**2 / spread.freedom for spread, part in parts.items()) if total > 0 else math.inf

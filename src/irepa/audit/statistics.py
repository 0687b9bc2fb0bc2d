"""What can be concluded from a few dozen encoders: correlations, paired differences, their intervals and their power.

Intervals are 95% unless said otherwise. Everything random is drawn from a fixed seed, so that the same numbers give the
same interval. SciPy and statsmodels take a second to import and are imported by the functions that use them: a rule of
the audit can then be read without them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[..., Array]
RESAMPLES = 4000
PERMUTATIONS = 9999


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval.

    Attributes:
        value: the estimate; NaN where nothing can be said.
        low, high: ends of the interval; NaN where there is none, both equal to the value where it is exact.
        n: how many units (encoders, pairs, seeds, images) it rests on.
    """

    value: float
    low: float
    high: float
    n: int

    def map(self, function: Callable[[float], float]) -> Estimate:
        """The estimate of an increasing function of the value: its ends are those of the interval, mapped."""
        return Estimate(function(self.value), function(self.low), function(self.high), self.n)


def pearson(x: Array, y: Array, axis: int = -1) -> Array:
    """Pearson correlation of x and y (..., n) along an axis, -1 to 1.

    0 where x or y is constant: a resample of one unit repeated correlates with nothing.
    """
    x, y = x - x.mean(axis, keepdims=True), y - y.mean(axis, keepdims=True)
    scale = np.sqrt((x**2).sum(axis) * (y**2).sum(axis))
    r: Array = np.divide((x * y).sum(axis), scale, out=np.zeros_like(scale), where=scale > 1e-12)
    return r


def spearman(x: Array, y: Array, axis: int = -1) -> Array:
    """Spearman rank correlation along an axis, ties at their mean rank."""
    from scipy import stats

    return pearson(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis), axis)


def complete(*columns: Sequence[float] | Array) -> tuple[Array, ...]:
    """The columns (n,) as floats, without the rows where one of them is missing (NaN)."""
    values = np.stack([np.asarray(column, float) for column in columns])
    kept = values[:, np.isfinite(values).all(axis=0)]
    return tuple(kept)


def correlation(x: Array, y: Array, rank: bool = False) -> Estimate:
    """Pearson's r, or Spearman's rho, with its BCa bootstrap interval over units; NaN for fewer than 3 or a constant."""
    x, y = complete(x, y)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(np.nan, np.nan, np.nan, len(x))
    statistic = spearman if rank else pearson
    low, high = _bca((x, y), statistic)
    return Estimate(float(statistic(x, y)), low, high, len(x))


def _bca(columns: Sequence[Array], statistic: Statistic) -> tuple[float, float]:
    """BCa interval of a statistic of paired columns; NaN where resamples hardly differ."""
    from scipy import stats

    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # NaN says it
        interval = stats.bootstrap(
            tuple(columns), statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, rng=np.random.default_rng(0)
        ).confidence_interval
    return float(interval.low), float(interval.high)


def permutation_p(x: Array, y: Array, rank: bool = False) -> float:
    """Two-sided p of no association: the share of pairings at random whose |r| is at least the one seen."""
    from scipy import stats

    x, y = complete(x, y)
    statistic = spearman if rank else pearson
    test = stats.permutation_test(
        (x,),
        lambda a, axis: np.abs(statistic(a, np.broadcast_to(y, a.shape), axis)),
        permutation_type="pairings",
        alternative="greater",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def correlation_p(r: float, null: float, n: int) -> float:
    """Two-sided p of a true correlation ``null``, by Fisher's z. 1 for fewer than 4 units."""
    from scipy import stats

    if n < 4 or not math.isfinite(r):
        return 1.0
    z = (math.atanh(_inside(r)) - math.atanh(_inside(null))) * math.sqrt(n - 3)
    return float(2 * stats.norm.sf(abs(z)))


def correlation_power(r: float, n: int, alpha: float = 0.05, null: float = 0.0) -> float:
    """Power of that test among n units where the true correlation is r."""
    from scipy import stats

    if n < 4:
        return 0.0
    shift = abs(math.atanh(_inside(r)) - math.atanh(_inside(null))) * math.sqrt(n - 3)
    limit = stats.norm.ppf(1 - alpha / 2)
    return float(stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))


def units_for_correlation(r: float, null: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """The fewest units that give the test this power; None where r is the null."""
    return next((n for n in range(4, 1000) if correlation_power(r, n, alpha, null) >= power), None)


def _inside(r: float) -> float:
    return min(max(r, -1 + 1e-9), 1 - 1e-9)


def bootstrap_p(columns: Sequence[Array], statistic: Statistic, null: float) -> float:
    """Two-sided p of a statistic of paired columns being ``null``: twice the smaller share of resamples beyond it."""
    from scipy import stats

    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = stats.bootstrap(
            tuple(columns), statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution  # fmt: skip
    below, above = np.count_nonzero(drawn <= null), np.count_nonzero(drawn >= null)
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1)))


def strength_difference(better: Array, worse: Array, target: Array) -> tuple[Estimate, float]:
    """|r(better, target)| - |r(worse, target)| over the same units: two dependent correlations, by paired bootstrap.

    Returns the estimate and its two-sided p.
    """
    columns = complete(better, worse, target)

    def statistic(a: Array, b: Array, y: Array, axis: int = -1) -> Array:
        return np.abs(pearson(a, y, axis)) - np.abs(pearson(b, y, axis))

    value = float(statistic(columns[0], columns[1], columns[2]))
    low, high = _bca(columns, statistic)
    return Estimate(value, low, high, len(columns[0])), bootstrap_p(columns, statistic, 0.0)


def weakest_strength(x: Sequence[Array], y: Sequence[Array]) -> tuple[Estimate, Statistic]:
    """The smallest |r| of several pairs of columns (n,) over the same units, with its interval; and the statistic."""
    half = len(x)

    def statistic(*values: Array, axis: int = -1) -> Array:
        strengths = [np.abs(pearson(a, b, axis)) for a, b in zip(values[:half], values[half:], strict=True)]
        smallest: Array = np.min(strengths, axis=0)
        return smallest

    low, high = _bca([*x, *y], statistic)
    return Estimate(float(statistic(*x, *y)), low, high, len(x[0])), statistic


def partial_correlation(x: Array, y: Array, given: Array) -> float:
    """Correlation of x and y once what ``given`` predicts linearly of each is taken off."""
    x, y, given = complete(x, y, given)
    if len(x) < 5:
        return float("nan")
    design = np.column_stack([np.ones_like(given), given])
    rest = [column - design @ np.linalg.lstsq(design, column, rcond=None)[0] for column in (x, y)]
    return float(pearson(rest[0], rest[1]))


def leave_out(x: Array, y: Array, groups: Sequence[str]) -> dict[str, float]:
    """Pearson's r without each group in turn."""
    x, y, labels = np.asarray(x, float), np.asarray(y, float), np.asarray(groups)
    rest = {str(group): complete(x[labels != group], y[labels != group]) for group in dict.fromkeys(groups)}
    return {group: float(pearson(columns[0], columns[1])) for group, columns in rest.items()}


def mean_effect(values: Array) -> tuple[Estimate, float]:
    """Mean of paired differences (n,) with its t interval, and the two-sided p of a mean of 0.

    NaN ends and 1 for fewer than 2.
    """
    from scipy import stats

    (values,) = complete(values)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else np.nan, np.nan, np.nan, len(values)), 1.0
    if np.ptp(values) == 0:
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values)), float(values[0] == 0)
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval()
    return Estimate(float(values.mean()), float(interval.low), float(interval.high), len(values)), float(test.pvalue)


def slope(x: Array, y: Array) -> tuple[Estimate, float]:
    """Least-squares slope of y on x (n,) with its t interval, and the two-sided p of a slope of 0.

    NaN ends and 1 for fewer than 3.
    """
    from scipy import stats

    fit = stats.linregress(x, y)
    if len(x) < 3:
        return Estimate(float(fit.slope), np.nan, np.nan, len(x)), 1.0
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    return Estimate(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half, len(x)), float(fit.pvalue)


def pooled_spread(groups: Sequence[Array]) -> tuple[float, int]:
    """Standard deviation within groups, pooled over them, and its degrees of freedom.

    NaN and 0 where no group has two values.
    """
    freedom = sum(len(values) - 1 for values in groups)
    if freedom < 1:
        return math.nan, 0
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in groups)
    return math.sqrt(squares / freedom), freedom


def mean_by_pooled(values: Array, spread: float, freedom: int) -> Estimate:
    """Mean of a group with the t interval that a pooled standard deviation gives; NaN ends where there is none."""
    from scipy import stats

    half = float(stats.t.ppf(0.975, freedom)) * spread / math.sqrt(len(values)) if freedom else math.nan
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, len(values))


def reliability(values: Array) -> float:
    """How much of the variance of units' means is the units' and not their repeats': Cronbach's alpha, 0 to 1.

    values: (units, repeats), NaN where one was not measured; units without every repeat are left out. What a repeat
    adds to all units alike does not count against it. A correlation with the means is at most its square root
    (Spearman). NaN for fewer than 3 units or 2 repeats, or where all means are one.
    """
    values = values[np.isfinite(values).all(axis=1)]
    units, repeats = values.shape
    if units < 3 or repeats < 2:
        return math.nan
    means = values.mean(axis=1)
    left = values - means[:, None] - values.mean(axis=0) + values.mean()
    noise = float((left**2).sum()) / ((units - 1) * (repeats - 1))
    between = repeats * float(means.var(ddof=1))
    return max(0.0, 1 - noise / between) if between > 0 else math.nan


def standardised(values: Array) -> float:
    """Mean over standard deviation of paired differences (Cohen's d_z)."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return float(np.mean(values)) / spread if spread > 0 else math.copysign(math.inf, float(np.mean(values)))


def signed_rank_p(values: Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact for small n. 1 for fewer than 2 or if all are 0."""
    from scipy import stats

    (values,) = complete(values)
    return float(stats.wilcoxon(values).pvalue) if len(values) > 1 and np.any(values != 0) else 1.0


def effect_seen(n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The mean, in standard deviations, that a two-sided t test among n >= 2 units tells from 0 with this power."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(effect_size=None, nobs=n, alpha=alpha, power=power))


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p of several tests, by name."""
    from statsmodels.stats.multitest import multipletests

    if not p:
        return {}
    adjusted = multipletests(list(p.values()), method="holm")[1]
    return {name: float(value) for name, value in zip(p, adjusted, strict=True)}

"""What can be concluded from a few dozen encoders: correlations, means and slopes, their intervals and their power.

Intervals are 95% unless said otherwise. Everything random is drawn from a fixed seed, so that the same numbers give the
same interval. SciPy and statsmodels take a second to import and are imported by the functions that use them: a rule of
the audit can then be read without them. How noisy a distance is, is in :mod:`irepa.audit.noise`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DRAWS = 20_000
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


@dataclass(frozen=True)
class Correlations:
    """True correlations of several properties with one noisy quantity, and how reliable that quantity is.

    Attributes:
        values: (properties,), the estimates; a correlation that noise has weakened is strengthened by as much.
        draws: (draws, properties), from their joint fiducial distribution; of reliabilities above 0 alone.
        reliability: share of the variance between units that is not noise, with its interval; exactly 1 without noise.
    """

    values: Array
    draws: Array
    reliability: Estimate

    def estimate(self, weights: Sequence[float], n: int) -> Estimate:
        """A weighted sum of the correlations with its interval; n: the units that it rests on."""
        drawn = self.draws @ np.asarray(weights, float)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Estimate(float(self.values @ np.asarray(weights, float)), float(low), float(high), n)

    def p(self, weights: Sequence[float], null: float) -> float:
        """Two-sided p of that sum being ``null``: twice the smaller share of draws beyond it."""
        drawn = self.draws @ np.asarray(weights, float)
        beyond = min(np.count_nonzero(drawn <= null), np.count_nonzero(drawn >= null))
        return float(min(1.0, 2 * (beyond + 1) / (len(drawn) + 1)))


def correlations(
    x: Array, y: Array, noise: float = 0.0, freedom: float = math.inf, effective: float | None = None
) -> Correlations:
    """Correlations of properties with the true values behind a noisy quantity, by a generalised pivot.

    y is the truth plus normal noise of known freedom; x and the truth are normal together. A fiducial draw of their
    covariance is T A^-1 (T A^-1)^T, with T the Cholesky factor of the sums of squares and A Bartlett's triangle of a
    Wishart matrix (the pivot of Krishnamoorthy and Xia, 2007, for one correlation without noise, where it is exact); a draw of
    the noise is its estimate over chi2 / freedom. The draw of the truth's variance is the difference of the two, and
    draws in which it is not positive are left out. ``benchmarks/audit_simulation.py`` shows the coverage.

    Args:
        x: (properties, units).
        y: (units,).
        noise: variance of the noise in y; 0 where there is none or it is not known.
        freedom: degrees of freedom with which that variance was estimated.
        effective: how many independent units these count for; None: all.

    Raises ValueError for fewer than 4 effective units, or where one of the columns is constant.
    """
    properties, n = x.shape
    units = float(n) if effective is None else effective
    columns = np.vstack([y, x])
    columns = columns - columns.mean(axis=1, keepdims=True)
    if units - properties <= 2 or np.any(np.ptp(columns, axis=1) == 0):
        raise ValueError("too few units, or one value for all of them")
    scale = np.sqrt((columns**2).sum(axis=1) / (n - 1))
    columns = columns / scale[:, None]
    noise = noise / float(scale[0]) ** 2
    # A whisker on the diagonal, so that a property given twice has a factor.
    squares = (columns @ columns.T + 1e-9 * np.eye(properties + 1)) * (units - 1) / (n - 1)
    generator = np.random.default_rng(0)
    total = np.concatenate(
        [_covariances(squares, units - 1, start, DRAWS // properties, generator) for start in range(properties)]
    )
    noises = noise * freedom / generator.chisquare(freedom, len(total)) if noise > 0 else np.zeros(len(total))
    share = 1 - noises / total[:, 0, 0]
    kept = total[share > 0]
    spreads = np.sqrt(kept[:, 0, 0, None] * share[share > 0, None] * np.diagonal(kept, axis1=1, axis2=2)[:, 1:])
    draws = np.clip(kept[:, 0, 1:] / spreads, -1, 1)
    if len(draws) < 0.01 * len(total):  # noise alone explains what is seen: every correlation is possible
        draws = np.repeat(np.array(list(itertools.product((-1.0, 1.0), repeat=properties))), 100, axis=0)
    reliable = max(1 - noise, 0.0)
    r = columns[0] @ columns[1:].T / (n - 1)
    values = np.clip(r / math.sqrt(reliable), -1, 1) if reliable > 0 else np.sign(r)
    low, high = np.quantile(share, [0.025, 0.975])
    return Correlations(values, draws, Estimate(1 - noise, float(low), float(high), n))


def _covariances(squares: Array, freedom: float, start: int, draws: int, generator: np.random.Generator) -> Array:
    """Fiducial draws (draws, k, k) of the covariance behind sums of squares (k, k), the first of which is the noisy quantity.

    They depend a little on the order in which the others are factored. So :func:`correlations` starts with each in turn.
    """
    k = len(squares)
    order = [0, *(1 + (start + place) % (k - 1) for place in range(k - 1))]
    bartlett = np.tril(generator.standard_normal((draws, k, k)), -1)
    for place in range(k):
        bartlett[:, place, place] = np.sqrt(generator.chisquare(freedom - place, draws))
    factor = np.linalg.cholesky(squares[np.ix_(order, order)]) @ np.linalg.inv(bartlett)
    back = np.argsort(order)
    drawn: Array = (factor @ factor.transpose(0, 2, 1))[:, back][:, :, back]
    return drawn


def correlation(x: Array, y: Array, rank: bool = False) -> Estimate:
    """Pearson's r, or Spearman's rho, with the interval of Fisher's z; NaN for fewer than 3 or a constant, no interval for 3.

    The variance of z is 1 / (n - 3), and 1.06 times that for ranks (Fieller, Hartley and Pearson, 1957).
    """
    x, y = complete(x, y)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(np.nan, np.nan, np.nan, len(x))
    value = float((spearman if rank else pearson)(x, y))
    half = 1.959964 * math.sqrt((1.06 if rank else 1.0) / (len(x) - 3)) if len(x) > 3 else math.nan
    low, high = (math.tanh(math.atanh(_inside(value)) + side * half) for side in (-1, 1))
    return Estimate(value, low, high, len(x))


def effective_units(x: Array, y: Array, families: Sequence[str]) -> float:
    """How many independent units clustered ones count for when x and y (units,) are correlated.

    A family of k units counts for k / (1 + (k - 1) c), where c is the product of what the members of a family share in x
    and in y (:func:`shared_within`): two variables that are each alike within families correlate by chance as if there
    were fewer units (Kish's design effect, for a product). Without a family of two, the units themselves.
    """
    labels = np.asarray(families)
    both = shared_within(x, labels) * shared_within(y, labels)
    return float(sum(k / (1 + (k - 1) * both) for k in np.unique(labels, return_counts=True)[1]))


def shared_within(values: Array, labels: NDArray[np.str_]) -> float:
    """Intraclass correlation of values (units,) within groups, by one-way analysis of variance; 0 to 1."""
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    n, groups = len(values), len(names)
    if groups < 2 or n == groups:
        return 0.0
    means = np.bincount(place, values) / counts
    within = float(((values - means[place]) ** 2).sum()) / (n - groups)
    between = float((counts * (means - values.mean()) ** 2).sum()) / (groups - 1)
    size = (n - float((counts**2).sum()) / n) / (groups - 1)
    total = between + (size - 1) * within
    return max(0.0, (between - within) / total) if total > 0 else 0.0


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


def weakest(tests: Sequence[tuple[Estimate, float]], holds: Callable[[float], bool]) -> tuple[Estimate, float]:
    """The unit that decides whether something holds of every one of several units, and the p of the claim about all.

    An intersection-union test: where every unit is on the claimed side, the claim is as strong as the unit with the largest
    p. Where some are not, it is contradicted by the one with the smallest p, times the number of units (Bonferroni),
    because each of them had its chance to.

    tests: estimates of the units with the two-sided p of each being at the threshold. holds: whether a value is on the
    claimed side.
    """
    wrong = [test for test in tests if not holds(test[0].value)]
    if not wrong:
        return max(tests, key=lambda test: (test[1], abs(test[0].high - test[0].low)))
    estimate, p = min(wrong, key=lambda test: test[1])
    return estimate, min(1.0, len(tests) * p)


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

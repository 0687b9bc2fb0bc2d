"""Statistics against libraries, closed forms, enumeration and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from irepa.audit import statistics as s

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def columns() -> Columns:
    rng = np.random.default_rng(1)
    x = rng.normal(size=25)
    return x, 0.8 * x + 0.6 * rng.normal(size=25), 0.3 * x + rng.normal(size=25)


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=3, max_size=20))
def test_correlations_are_scipys_and_stay_within_one(rows: list[tuple[int, int]]) -> None:
    x, y = np.array(rows, float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert s.pearson(x, y) == 0
        return
    assert s.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert s.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert abs(s.pearson(x, y)) <= 1 + 1e-12


def test_a_correlation_without_noise_has_the_interval_of_the_textbook(columns: Columns) -> None:
    """The pivot's is that of Fisher's z but for its approximation, and a true value at its end has p = 0.05."""
    x, y, _ = columns
    found = s.correlations(x[None], y)
    mine, fisher = found.estimate([1.0], 25), stats.pearsonr(x, y).confidence_interval()
    assert mine.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert (mine.low, mine.high) == pytest.approx((fisher.low, fisher.high), abs=0.02)
    assert found.p([1.0], mine.high) == pytest.approx(0.05, abs=0.001)
    assert found.reliability == s.Estimate(1.0, 1.0, 1.0, 25)
    simple = s.correlation(x, y)
    assert (simple.low, simple.high) == pytest.approx((fisher.low, fisher.high), abs=1e-6)


@pytest.mark.parametrize(
    ("units", "share", "seeds", "rho"), [(12, 0.3, 2, 0.0), (20, 0.6, 3, -0.5), (36, 0.9, 2, -0.8)]
)
def test_the_interval_behind_the_noise_covers_the_truth(
    monkeypatch: pytest.MonkeyPatch, units: int, share: float, seeds: int, rho: float
) -> None:
    """Three corners of the table in docs/audit.md, with fewer draws: 95% of 400, give or take four standard errors."""
    monkeypatch.setattr(s, "DRAWS", 1000)
    rng = np.random.default_rng(3)
    noise, freedom, covered = (1 - share) / share, (units - 1) * (seeds - 1), 0
    for _ in range(400):
        x = rng.normal(size=units)
        truth = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=units)
        seen = truth + rng.normal(scale=np.sqrt(noise), size=units)
        found = s.correlations(x[None], seen, noise * rng.chisquare(freedom) / freedom, freedom).estimate([1.0], units)
        covered += found.low <= rho <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.045)


def test_where_noise_explains_everything_nothing_is_said_of_a_correlation(columns: Columns) -> None:
    x, y, _ = columns
    found = s.correlations(x[None], y, 50 * y.var(), 100)
    interval = found.estimate([1.0], 25)
    assert (interval.low, interval.high) == (-1, 1)
    assert found.p([1.0], -0.5) == 1
    assert found.reliability.high < 0


def test_reliability_is_that_of_analysis_of_variance() -> None:
    """The interval from the F distribution of mean squares, in closed form."""
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 20))
    noise, freedom = 0.4 * y.var(ddof=1), 38
    found = s.correlations(x[None], y, noise, freedom).reliability
    assert found.value == pytest.approx(0.6)
    ends = [1 - 0.4 * float(stats.f.ppf(q, 19, freedom)) for q in (0.975, 0.025)]
    assert (found.low, found.high) == pytest.approx(ends, abs=0.03)


def test_clustered_units_count_for_fewer() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([f"f{k}" for k in range(10)], 4)
    shared = np.repeat(rng.normal(size=10), 4)
    alone = rng.normal(size=40)
    assert s.effective_units(shared, shared, list(labels)) == pytest.approx(10)
    assert s.effective_units(alone, alone, [str(k) for k in range(40)]) == 40
    assert 10 < s.effective_units(alone, shared, list(labels)) <= 40
    # One-way analysis of variance by hand: balanced groups, (MSB - MSW) / (MSB + 3 MSW).
    mixed = shared + alone
    table = mixed.reshape(10, 4)
    between, within = 4 * table.mean(axis=1).var(ddof=1), table.var(axis=1, ddof=1).mean()
    assert s.shared_within(mixed, labels) == pytest.approx((between - within) / (between + 3 * within))


def test_the_weakest_unit_decides_what_holds_of_every_one() -> None:
    def test(value: float, p: float) -> tuple[s.Estimate, float]:
        return s.Estimate(value, value - 1, value + 1, 3), p

    def below(value: float) -> bool:
        return value < 0

    assert s.weakest([test(-3, 0.001), test(-1, 0.03)], below) == test(-1, 0.03)
    estimate, p = s.weakest([test(-3, 0.001), test(1, 0.3), test(2, 0.01)], below)
    assert (estimate.value, p) == (2, pytest.approx(0.03))


def test_permutation_p_is_that_of_all_orders() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5, 7]), np.array([2.0, 1, 4, 3, 7, 5])
    seen = abs(s.pearson(x, y))
    every = [abs(s.pearson(x, np.array(order))) >= seen - 1e-12 for order in itertools.permutations(y)]
    assert s.permutation_p(x, y) == pytest.approx(np.mean(every), abs=1e-9)


def test_threshold_test_has_its_level_and_its_power() -> None:
    """p below 0.05 in 5% of samples from the null r = -0.5, and as often as the power says under r = -0.85."""
    rng = np.random.default_rng(2)

    def share(r: float) -> float:
        x = rng.normal(size=(4000, 20))
        y = r * x + np.sqrt(1 - r**2) * rng.normal(size=x.shape)
        return float(np.mean([s.correlation_p(float(v), -0.5, 20) < 0.05 for v in s.pearson(x, y)]))

    assert share(-0.5) == pytest.approx(0.05, abs=0.015)
    assert share(-0.85) == pytest.approx(s.correlation_power(-0.85, 20, null=-0.5), abs=0.03)
    needed = s.units_for_correlation(-0.85, -0.5)
    assert needed is not None
    powers = [s.correlation_power(-0.85, n, null=-0.5) for n in (needed - 1, needed)]
    assert powers[0] < 0.8 <= powers[1]


def test_partial_correlation_is_the_textbook_formula(columns: Columns) -> None:
    x, y, z = columns
    rxy, rxz, ryz = (np.corrcoef(a, b)[0, 1] for a, b in ((x, y), (x, z), (y, z)))
    expected = (rxy - rxz * ryz) / np.sqrt((1 - rxz**2) * (1 - ryz**2))
    assert s.partial_correlation(x, y, z) == pytest.approx(expected)


def test_dependent_correlations_are_compared_over_the_same_units(columns: Columns) -> None:
    x, y, z = columns
    found = s.correlations(np.stack([y, z]), x)
    difference = found.estimate([1.0, -1.0], 25)
    assert difference.value == pytest.approx(np.corrcoef(y, x)[0, 1] - np.corrcoef(z, x)[0, 1])
    assert difference.low > 0
    assert found.p([1.0, -1.0], 0.0) < 0.05
    mirrored = s.correlations(np.stack([z, y]), x)
    assert mirrored.estimate([1.0, -1.0], 25).value == pytest.approx(-difference.value)
    assert mirrored.p([1.0, -1.0], 0.0) == pytest.approx(found.p([1.0, -1.0], 0.0), abs=0.01)
    twice = s.correlations(np.stack([y, y]), x)
    assert twice.estimate([1.0, -1.0], 25).low == pytest.approx(0, abs=1e-3)
    assert twice.p([1.0, -1.0], 0.0) > 0.9


def test_leaving_out_is_computing_again(columns: Columns) -> None:
    x, y, _ = columns
    groups = [f"family-{k % 4}" for k in range(len(x))]
    for name, r in s.leave_out(x, y, groups).items():
        kept = np.array(groups) != name
        assert r == pytest.approx(np.corrcoef(x[kept], y[kept])[0, 1])


def test_paired_effects_are_students_and_holm_is_holms() -> None:
    values = np.array([-0.117, -0.278, -0.449, -0.576])
    mean, p = s.mean_effect(values)
    t = values.mean() / (values.std(ddof=1) / 2)
    assert p == pytest.approx(2 * stats.t.sf(abs(t), 3))
    assert mean.value - mean.low == pytest.approx(stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2)
    assert s.signed_rank_p(values) == pytest.approx(2 / 2**4)  # all of one sign: the most extreme of 16
    assert s.standardised(values) == pytest.approx(t / 2)
    # By hand: 0.01 * 3, max(0.03, 0.02 * 2), max(0.04, 0.4).
    assert s.holm({"a": 0.02, "b": 0.01, "c": 0.4}) == pytest.approx({"a": 0.04, "b": 0.03, "c": 0.4})
    rng = np.random.default_rng(0)
    drawn = rng.normal(s.effect_seen(8), 1, size=(3000, 8))
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)


def test_too_little_to_say_is_said() -> None:
    few = np.array([1.0, 2.0])
    assert np.isnan(s.correlation(few, few).value)
    with pytest.raises(ValueError, match="too few units"):
        s.correlations(few[None], few)
    assert s.correlation_p(0.9, 0.0, 3) == 1.0
    estimate, p = s.mean_effect(np.array([0.3]))
    assert (estimate.value, p) == (0.3, 1.0)
    assert np.isnan(estimate.low)


def test_a_slope_is_scipys_with_its_t_interval() -> None:
    x = np.array([0.0, 0.1, 0.2, 0.3, 0.5])
    y = 3 * x + np.array([0.1, -0.2, 0.05, 0.1, -0.05])
    estimate, p = s.slope(x, y)
    design = np.stack([np.ones_like(x), x], axis=1)
    beta, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(squares[0] / 3 * np.linalg.inv(design.T @ design)[1, 1])
    assert estimate.value == pytest.approx(beta[1])
    assert estimate.high - estimate.value == pytest.approx(stats.t.ppf(0.975, 3) * error)
    assert p == pytest.approx(2 * stats.t.sf(abs(beta[1] / error), 3))
    two, undecided = s.slope(x[:2], y[:2])
    assert np.isnan(two.low)
    assert undecided == 1.0

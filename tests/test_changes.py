"""Changes: pairs of runs that differ in one thing, against the same numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from irepa.audit.changes import measure_changes, reading
from irepa.audit.evidence import RUNS, Evidence, published
from irepa.audit.noise import effects_of
from irepa.audit.pairs import pair_encoders, pair_methods
from irepa.audit.statistics import Estimate
from irepa.audit.summary import changes_table

MARGIN = 0.05  # a log ratio
DEFAULTS = {
    "experiments": "E5",
    "recipe": "sit",
    "scale": "b",
    "setting": "",
    "steps": 100,
    "final": True,
    "record": "",
}


def evidence(rows: list[tuple[str, str, int, float]], **other: object) -> Evidence:
    """Runs of (encoder, method, seed, fd)."""
    named = [dict(zip(("encoder", "method", "seed", "fd"), row, strict=True)) for row in rows]
    runs = pd.DataFrame([DEFAULTS | other | row for row in named], columns=list(RUNS))
    encoders = pd.DataFrame({"base": ["", "e"]}, index=["e", "e-lds"])
    return Evidence("tier", "tier", "FD", runs, encoders, scales=["b"])


RUN = evidence(
    [
        *[("none", "none", seed, fd) for seed, fd in enumerate((100.0, 110.0, 105.0))],
        *[("e", "repa", seed, fd) for seed, fd in enumerate((90.0, 101.0, 94.0))],
        *[("e", "irepa", seed, fd) for seed, fd in enumerate((80.0, 88.0, 85.0))],
        *[("f", "repa", seed, fd) for seed, fd in enumerate((99.0, 111.0, 104.0))],
        *[("e+shuffle", "repa", seed, fd) for seed, fd in enumerate((101.0, 109.0, 106.0))],
        ("e-lds", "repa", 0, 93.0),
    ]
)


def row(changes: pd.DataFrame, first: str, second: str, encoder: str) -> pd.Series:
    named = changes[(changes["first"] == first) & (changes["second"] == second) & (changes["encoder"] == encoder)]
    assert len(named) == 1
    return named.iloc[0]


def test_every_pair_that_differs_in_one_thing_and_no_other() -> None:
    changes = measure_changes(RUN, [("irepa", "none")])
    pairs = {(r["first"], r["second"], r["encoder"]) for r in changes.to_dict("records")}
    assert pairs == {
        ("repa", "none", "e"), ("repa", "none", "f"), ("repa", "none", "e+shuffle"), ("repa", "none", "e-lds"),
        ("irepa", "repa", "e"), ("irepa", "none", "e"), ("e+shuffle", "e", "e+shuffle"), ("e-lds", "e", "e-lds"),
    }  # fmt: skip
    assert len(changes) == len(pairs)


def test_interval_is_that_of_the_recipes_spread_by_hand() -> None:
    """Log distances of five cells with three seeds, less the means of cells and of seeds: 4 * 2 degrees of freedom."""
    changes = measure_changes(RUN)
    mine = row(changes, "irepa", "repa", "e")
    table = np.log([[100.0, 110, 105], [90, 101, 94], [80, 88, 85], [99, 111, 104], [101, 109, 106]])
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    variance = (left**2).sum() / 8
    mean = (table[2] - table[1]).mean()
    half = stats.t.ppf(0.975, 8) * math.sqrt(2 * variance / 3)
    assert mine["change"] == pytest.approx(100 * math.expm1(mean))
    assert mine["low"] == pytest.approx(100 * math.expm1(mean - half))
    assert mine["high"] == pytest.approx(100 * math.expm1(mean + half))
    assert (mine["n"], mine["verdict"]) == (3, "lower")
    one = row(changes, "e-lds", "e", "e-lds")
    assert one["n"] == 1
    assert np.log1p(one["high"] / 100) - np.log1p(one["low"] / 100) == pytest.approx(2 * half * math.sqrt(3))
    assert one["verdict"] == "inconclusive", "one seed decides nothing"


def test_what_several_share_does_not_average_out() -> None:
    """Two encoders against the same runs without alignment: the covariance is the variance of those runs' mean."""
    pairs = pair_methods(RUN.final, "repa", "none")
    effects = effects_of(pairs.assign(unit=pairs["encoder"])[pairs["encoder"].isin(["e", "f"])], RUN.noise)
    variance = RUN.noise["sit"].variance
    assert effects.covariance == pytest.approx(variance / 3 * np.array([[2, 1], [1, 2]]))
    both, _ = effects.mean_of_these()
    half = stats.t.ppf(0.975, 8) * math.sqrt(variance / 3 * 1.5)
    assert both.high - both.value == pytest.approx(half)
    kind, _ = effects.mean_of_their_kind()
    between, common = effects.values.var(ddof=1) / 2, variance / 3
    freedom = (between + common) ** 2 / (between**2 / 1 + common**2 / 8)
    assert kind.high - kind.value == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(between + common))


def test_what_a_seed_gives_to_all_runs_is_no_noise() -> None:
    """The same runs with every seed shifted: the spread and the changes stay, and levels without seeds are the truth's."""
    factor = RUN.runs["seed"].map({0: 1.0, 1: 3.0, 2: 0.2})
    shifted = replace(RUN, runs=RUN.runs.assign(fd=RUN.runs["fd"] * factor))
    assert shifted.noise["sit"].variance == pytest.approx(RUN.noise["sit"].variance)
    assert shifted.noise["sit"].freedom == RUN.noise["sit"].freedom == 8
    both = [measure_changes(source)[["change", "low", "high"]].to_numpy(float) for source in (RUN, shifted)]
    assert both[0] == pytest.approx(both[1])
    levels = [source.final.groupby("encoder")["level"].mean() for source in (RUN, shifted)]
    assert np.ptp((levels[0] - levels[1]).to_numpy()) == pytest.approx(0, abs=1e-9)


def test_one_run_under_two_names_is_one_change() -> None:
    """Tokens normalised by a transform, and by the method: the same distances at the same seeds."""
    rows = [("none", "none", k, 100.0 + k) for k in range(3)] + [("e", "repa", k, 90.0 + k) for k in range(3)]
    twice = [(e, m, k, 85.0 + 2 * k) for e, m in (("e", "norm-only"), ("e+spatialnorm", "repa")) for k in range(3)]
    named = measure_changes(evidence(rows + twice))
    assert set(named["first"]) == {"repa", "norm-only"}
    other = [*twice[:-1], (*twice[-1][:3], 90.0)]
    assert "e+spatialnorm" in set(measure_changes(evidence(rows + other))["first"])


def test_without_a_second_seed_there_is_no_interval() -> None:
    (change,) = measure_changes(evidence([("none", "none", 0, 10.0), ("e", "repa", 0, 9.0)])).to_dict("records")
    assert change["change"] == pytest.approx(-10)
    assert math.isnan(change["low"])
    assert change["verdict"] == "inconclusive"


def test_seeds_without_a_counterpart_are_left_out() -> None:
    some = evidence([("none", "none", 0, 10.0), ("e", "repa", 0, 9.0), ("e", "repa", 1, 1.0)])
    assert pair_methods(some.final, "repa", "none")["seed"].tolist() == [0]
    assert pair_encoders(some.final, "e", "f").empty


@given(
    st.floats(-0.5, 0.5).filter(lambda v: abs(v) > 1e-6),
    st.floats(1e-6, 0.5),
)
def test_readings_partition_the_intervals(value: float, half: float) -> None:
    words = reading(Estimate(value, value - half, value + half, 3), MARGIN)
    mirrored = reading(Estimate(-value, -value - half, -value + half, 3), MARGIN)
    assert reading(Estimate(value, value - half, value + half, 3)) != "small", "there is no margin"
    assert {words, mirrored} in ({"lower", "higher"}, {"small"}, {"inconclusive"}), "a gain and a loss read alike"
    if words == "small":
        assert abs(value) + half < MARGIN + 1e-9
    if abs(value) > half:
        assert words == ("lower" if value < 0 else "higher")


def test_published_pairs_are_changes_too() -> None:
    """The paper's tables hold one run of each: 26.1 to 16.66 in Table 3, 19.2 to 25.4 in the text."""
    changes = measure_changes(published.read())
    assert set(changes["n"]) == {1}
    mine = row(changes[changes["recipe"] == "sit"], "irepa", "repa", "webssl-1b")
    assert mine["change"] == pytest.approx(100 * (16.66 / 26.1 - 1))
    mixed = row(changes, "dinov2-b+clsmix0.5", "dinov2-b", "dinov2-b+clsmix0.5")
    assert mixed["change"] == pytest.approx(100 * (25.4 / 19.2 - 1))


def test_the_table_leaves_out_encoders_that_were_used_with_repa_alone() -> None:
    text = changes_table(measure_changes(RUN), "tier")
    assert "| repa against none | b, sit, e |" in text
    assert "b, sit, f" not in text
    assert "| e+shuffle against e | b, sit | +" in text

"""Changes: pairs of runs that differ in one thing, against the same numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from irepa.audit.changes import SMALL, measure_changes, pair_encoders, pair_methods, reading
from irepa.audit.evidence import RUNS, Evidence, published
from irepa.audit.statistics import Estimate
from irepa.audit.summary import changes_table

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


def test_interval_is_that_of_the_pooled_log_ratios_by_hand() -> None:
    mine = row(measure_changes(RUN), "irepa", "repa", "e")
    logs = np.log(np.array([80 / 90, 88 / 101, 85 / 94]))
    none, repa = np.array([100.0, 110, 105]), np.array([90.0, 101, 94])
    changed = [
        (repa, none),
        ([99, 111, 104], none),
        ([101, 109, 106], none),
        ([80, 88, 85], repa),
        ([101, 109, 106], repa),
    ]
    variances = [np.var(np.log(np.array(a) / b), ddof=1) for a, b in changed]
    half = stats.t.ppf(0.975, 2 * 5) * math.sqrt(np.mean(variances)) / math.sqrt(3)
    assert mine["change"] == pytest.approx(100 * (math.exp(logs.mean()) - 1))
    assert mine["low"] == pytest.approx(100 * (math.exp(logs.mean() - half) - 1))
    assert mine["high"] == pytest.approx(100 * (math.exp(logs.mean() + half) - 1))
    assert (mine["n"], mine["verdict"]) == (3, "lower")
    one = row(measure_changes(RUN), "e-lds", "e", "e-lds")
    assert one["n"] == 1
    assert np.log1p(one["high"] / 100) - np.log1p(one["low"] / 100) == pytest.approx(2 * half * math.sqrt(3))
    assert one["verdict"] == "inconclusive", "one seed decides nothing"


def test_without_a_second_seed_there_is_no_interval() -> None:
    (change,) = measure_changes(evidence([("none", "none", 0, 10.0), ("e", "repa", 0, 9.0)])).to_dict("records")
    assert change["change"] == pytest.approx(-10)
    assert math.isnan(change["low"])
    assert change["verdict"] == "inconclusive"


def test_seeds_without_a_counterpart_are_left_out() -> None:
    some = evidence([("none", "none", 0, 10.0), ("e", "repa", 0, 9.0), ("e", "repa", 1, 1.0)])
    assert pair_methods(some.runs, "repa", "none")["seed"].tolist() == [0]
    assert pair_encoders(some.runs, "e", "f").empty


@given(
    st.floats(-0.5, 0.5).filter(lambda v: abs(v) > 1e-6),
    st.floats(1e-6, 0.5),
)
def test_readings_partition_the_intervals(value: float, half: float) -> None:
    words = reading(Estimate(value, value - half, value + half, 3))
    mirrored = reading(Estimate(-value, -value - half, -value + half, 3))
    assert {words, mirrored} in ({"lower", "higher"}, {"small"}, {"inconclusive"}), "a gain and a loss read alike"
    if words == "small":
        assert math.expm1(abs(value) + half) < SMALL + 1e-9
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

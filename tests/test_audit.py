"""The audit: published numbers recomputed, planted evidence judged, and results of a tier edited until a verdict flips."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from irepa.audit import paper
from irepa.audit.changes import measure_changes
from irepa.audit.claims import read_claims, read_discrepancies, rule_of
from irepa.audit.discrepancies import compared, effects
from irepa.audit.evidence import RUNS, Evidence, published, released
from irepa.audit.noise import Amount, Effects
from irepa.audit.rules import convergence
from irepa.audit.verdicts import Judged, judge
from irepa.config.load import load_settings
from irepa.config.read import read_yaml
from irepa.errors import ConfigError, DataError
from irepa.pipeline.files import write_json
from irepa.pipeline.graph import STAGES, Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.spatial import spatial_metrics
from irepa.stages.audit import DIGITS, changes_of, document, others
from tests.conftest import REPOSITORY, WORKFLOW, call, copy_project

CLAIMS = read_claims(WORKFLOW)


@pytest.fixture(scope="module")
def printed() -> Evidence:
    return published.read()


def verdict(name: str, evidence: Evidence) -> Judged:
    (judged,) = judge({name: CLAIMS[name]}, evidence)
    return judged


def check(judged: Judged, what: str) -> str:
    assert judged.finding is not None
    return next(value for name, value, _ in judged.finding.checks if name.startswith(what))


def tier(rows: list[dict[str, Any]], encoders: pd.DataFrame | None = None, name: str = "imagenet256") -> Evidence:
    """Evidence as a tier's results would be."""
    defaults = {"experiments": "E1 E2 E4 E5 E6 D", "recipe": "sit", "scale": "xl", "method": "repa", "setting": "", "seed": 0,
                "steps": 100, "final": True, "record": ""}  # fmt: skip
    runs = pd.DataFrame([defaults | row for row in rows], columns=list(RUNS))
    metrics = pd.DataFrame({"family": [], "records": []}) if encoders is None else encoders
    return Evidence(name, name, "FD", runs, metrics, scales=["b", "xl"])


def cloud(r: float, n: int = 20, noise: float = 0.001, gain: float = 0.5, seeds: int = 3) -> Evidence:
    """n networks whose LDS has exactly this correlation with the log distance, and whose accuracy has none.

    noise: standard deviation between seeds, as a share of that between networks, cancelling in each one's mean; gain: of
    REPA's mean distance on that of no alignment, by its logarithm.
    """
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, 3))]))
    basis = basis[:, 1:] / basis[:, 1:].std(axis=0, ddof=1) * np.sign(basis[0, 0])
    level = 3 + 0.2 * (r * basis[:, 0] + math.sqrt(1 - r**2) * basis[:, 1])
    own = 0.2 * noise * np.outer(rng.normal(size=n), np.linspace(-1, 1, seeds))
    names = [f"e{k}" for k in range(n)]
    rows = [
        {"encoder": name, "seed": seed, "fd": math.exp(level[k] + own[k, seed])}
        for k, name in enumerate(names)
        for seed in range(seeds)
    ]
    rows += [{"encoder": "none", "method": "none", "seed": seed, "fd": math.exp(3 + gain)} for seed in range(seeds)]
    metrics = {"lds": basis[:, 0], "srss": basis[:, 0] + 0.01 * basis[:, 1], "accuracy": basis[:, 2]}
    return tier(rows, pd.DataFrame({**metrics, "family": names, "records": ""}, index=names))


def test_a_correlation_is_that_behind_the_noise_between_seeds() -> None:
    """Noise that leaves every network's mean where it was: the estimate grows with it, and so does the interval."""
    clear, noisy = (verdict("lds-predicts", cloud(-0.6, noise=noise)).finding for noise in (0.001, 0.8))
    assert clear is not None
    assert noisy is not None
    assert clear.estimate.value == pytest.approx(-0.6, abs=1e-3)
    assert noisy.reliability is not None
    assert 0.3 < noisy.reliability.value < 0.95
    assert noisy.estimate.value == pytest.approx(-0.6 / math.sqrt(noisy.reliability.value), abs=1e-3)
    assert noisy.estimate.high - noisy.estimate.low > clear.estimate.high - clear.estimate.low


def test_nothing_is_decided_about_targets_where_repa_does_not_help_or_distances_do_not_repeat() -> None:
    """The gate shuts, and opens again, for the same correlation."""
    for evidence, why in (
        (cloud(-0.95, gain=-0.5), "REPA against no alignment: +64.9% ["),
        (cloud(-0.95, gain=0.0), "REPA against no alignment: -0.0% ["),
        (cloud(-0.95, gain=2.0, noise=1.0), "of which the lower end must exceed 0.5"),
        (cloud(-0.95, seeds=1), "unknown, for want of seeds"),
    ):
        judged = verdict("lds-predicts", evidence)
        assert (judged.verdict, judged.adjusted) == ("cannot tell", None)
        assert why in judged.reason
    assert verdict("lds-predicts", cloud(-0.95)).verdict == "supported"


def test_printed_numbers_pass_the_gate_without_seeds() -> None:
    evidence = replace(cloud(-0.95, seeds=1), printed=True)
    assert verdict("lds-predicts", evidence).verdict == "supported"


def test_layers_are_repeats_of_their_network_and_families_count_for_less() -> None:
    """The same encoders are fewer units where they are layers of one network, and count for less in one family."""
    evidence = cloud(-0.95, n=24)
    names = list(evidence.encoders.index)
    layers = replace(evidence, encoders=evidence.encoders.assign(network=[f"net{k // 2}" for k in range(24)]))
    apart, one = verdict("lds-predicts", evidence).finding, verdict("lds-predicts", layers).finding
    assert apart is not None
    assert one is not None
    assert (apart.estimate.n, one.estimate.n) == (24, 12)
    assert "24 encoders are 12 units of 24 families" not in apart.notes[0]
    few = replace(evidence, encoders=evidence.encoders.assign(network=[f"net{k // 4}" for k in range(24)]))
    assert verdict("lds-predicts", few).reason == "6 networks, the rule asks for 12"
    # Networks in order of LDS, four of a kind: alike in LDS and in distance.
    order = evidence.encoders["lds"].rank().sub(1).floordiv(4).astype(int).astype(str)
    alike = verdict(
        "lds-predicts", replace(evidence, encoders=evidence.encoders.assign(family=order.loc[names]))
    ).finding
    assert alike is not None
    assert alike.estimate.high - alike.estimate.low > 1.2 * (apart.estimate.high - apart.estimate.low)


def test_one_threshold_serves_accuracy_and_lds_with_its_sign() -> None:
    """The same numbers as accuracy and as LDS: never is the one told to predict and the other not to."""
    seen = set()
    for r in (-0.98, -0.45, 0.0):
        evidence = cloud(r, n=60)
        swapped = replace(evidence, encoders=evidence.encoders.assign(accuracy=evidence.encoders["lds"]))
        lds, accuracy = verdict("lds-predicts", swapped).verdict, verdict("accuracy-does-not-predict", swapped).verdict
        opposite = {"supported": "contradicted", "contradicted": "supported", "inconclusive": "inconclusive"}
        assert accuracy == opposite[lds]
        seen.add((r, lds))
    assert seen == {(-0.98, "supported"), (-0.45, "inconclusive"), (0.0, "contradicted")}


def test_a_property_that_goes_the_wrong_way_beats_none() -> None:
    assert verdict("lds-beats-accuracy", cloud(-0.9)).verdict == "supported"
    assert verdict("lds-beats-accuracy", cloud(0.9)).verdict == "contradicted"


def test_two_names_for_one_predictor_are_one_test() -> None:
    evidence = cloud(-0.9, n=20)
    names = ["lds-predicts", "srss-predicts", "accuracy-does-not-predict"]
    judged = {item.claim: item for item in judge({name: CLAIMS[name] for name in names}, evidence)}
    lds, srss = judged["lds-predicts"], judged["srss-predicts"]
    assert lds.adjusted == srss.adjusted
    assert lds.finding is not None
    assert srss.finding is not None
    assert lds.adjusted == pytest.approx(2 * max(lds.finding.p or 0, srss.finding.p or 0)), "two tests, not three"
    assert "LDS and SRSS are one predictor" in " ".join(lds.finding.notes)


@pytest.mark.parametrize("metric", list(paper.PANELS))
def test_published_correlations_are_found_again(printed: Evidence, metric: str) -> None:
    """Within 0.005 of what the figure prints, from each panel alone and from the joined points."""
    table = paper.correlations()
    row = table[(table["model"] == "SiT-XL/2") & (table["metric"] == paper.PANELS[metric])]
    alone = paper.scatter(paper.PANELS[metric])
    points = printed.points("E1", "SiT-XL/2").dropna(subset=[metric])
    for x, y in ((alone["value"], alone["fid"]), (points[metric], points["fd"])):
        assert np.corrcoef(x, y)[0, 1] == pytest.approx(float(row["pearson_r"].iloc[0]), abs=0.005)
    assert len(points) == len(alone)


def test_what_reanalysis_of_the_published_points_shows(printed: Evidence) -> None:
    accuracy, lds = verdict("accuracy-does-not-predict", printed), verdict("lds-predicts", printed)
    assert check(accuracy, "Spearman rho").startswith("0.02")
    assert float(check(accuracy, "r with the distance, not its logarithm")) == pytest.approx(-0.26, abs=0.005)
    assert float(check(lds, "r with the distance, not its logarithm")) == pytest.approx(-0.852, abs=0.005)
    assert float(check(accuracy, "r without the 2 worst")) > 0.2
    assert verdict("lds-beats-accuracy", printed).verdict == "supported"
    stated = verdict("all-metrics-above-0.85", printed)
    assert (stated.verdict, stated.finding.estimate.value) == ("contradicted", -0.847)  # type: ignore[union-attr]
    assert verdict("lds-at-every-scale", printed).verdict == "not testable"


def test_points_are_joined_one_to_one_with_equal_fids() -> None:
    joined = paper.encoder_points()
    for metric, panel in paper.PANELS.items():
        points = paper.scatter(panel)
        assert sorted(joined[metric].dropna()) == sorted(points["value"])
        by_value = points.drop_duplicates("value", keep=False).set_index("value")["fid"]
        rows = joined[joined[metric].isin(by_value.index)]
        assert np.abs(rows["fid"].to_numpy() - by_value.loc[rows[metric]].to_numpy()).max() < 0.1


def test_published_pairs_are_the_tables(printed: Evidence) -> None:
    per_encoder = verdict("irepa-per-encoder", printed)
    assert per_encoder.verdict == "supported", "lower by 11% to 44%, each of them"
    assert per_encoder.finding is not None
    table_3 = {19.06: 16.96, 21.47: 16.26, 26.1: 16.66, 32.35: 18.19}
    assert per_encoder.finding.estimate.value == pytest.approx(max(math.log(b / a) for a, b in table_3.items()))
    overall = verdict("irepa-overall", printed)
    assert overall.verdict == "supported"
    assert check(overall, "pairs in which it is lower") == "9 of 9"
    assert verdict("irepa-per-scale", printed).verdict == "inconclusive", "one scale is not every scale"
    assert verdict("mixing-worsens-fid", printed).verdict == "supported"
    assert "fixed margin" in " ".join(verdict("trend-spatial-over-accurate", printed).finding.notes)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("r", "n", "expected"),
    [(-0.9, 20, "supported"), (0.6, 20, "contradicted"), (-0.6, 20, "inconclusive"), (-0.99, 8, "inconclusive")],
)
def test_a_correlation_is_judged_by_its_rule(r: float, n: int, expected: str) -> None:
    judged = verdict("lds-predicts", cloud(r, n))
    assert judged.verdict == expected
    assert judged.finding is not None
    assert judged.finding.estimate.value == pytest.approx(r, abs=1e-3)
    assert "power" in judged.finding.power
    if n < 12:
        assert judged.reason == f"{n} networks, the rule asks for 12"


def test_a_small_tier_decides_nothing_however_clear_it_looks() -> None:
    evidence = cloud(-0.95)
    small = replace(evidence, name="demo")
    assert verdict("lds-predicts", evidence).verdict == "supported"
    assert verdict("lds-predicts", small).verdict == "inconclusive"
    assert "too small" in verdict("lds-predicts", small).reason


def test_asking_many_questions_costs_significance() -> None:
    """The same evidence decides one claim alone, and not the same claim among twenty copies of it."""
    rng = np.random.default_rng(3)
    rows = []
    for k, ratio in enumerate(0.9 * np.exp(rng.normal(0, 0.07, 8))):
        rows += [{"encoder": f"e{k}", "fd": 30.0}, {"encoder": f"e{k}", "method": "irepa", "fd": 30 * ratio}]
    claim = CLAIMS["irepa-overall"]
    (alone,) = judge({"one": claim}, tier(rows))
    among = judge({f"c{k}": claim for k in range(20)}, tier(rows))
    assert alone.verdict == "supported"
    assert {item.verdict for item in among} == {"inconclusive"}


def gains(by_unit: dict[tuple[str, str], float], seeds: int = 3, noise: float = 0.01) -> Evidence:
    """iREPA against REPA with this log ratio for (encoder, scale), each with its seeds."""
    rng = np.random.default_rng(0)
    rows = []
    for (encoder, scale), gain in by_unit.items():
        for seed in range(seeds):
            base = {"encoder": encoder, "scale": scale, "seed": seed}
            for method, ratio in (("repa", 0.0), ("irepa", gain)):
                rows.append(base | {"method": method, "fd": 30 * math.exp(ratio + 0.1 * seed + rng.normal(0, noise))})
    return tier(rows)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ([-0.1, -0.3, -0.6, -0.2], "supported"),  # however much they differ
        ([-0.1, -0.3, -0.6, 0.1], "contradicted"),  # one is not all
        ([-0.1, -0.3, -0.6, 0.001], "inconclusive"),
        ([0.1, 0.3, 0.6, 0.2], "contradicted"),
        ([-0.1, -0.3, -0.6], "inconclusive"),  # fewer than the rule asks for
    ],
)
def test_every_is_as_strong_as_the_weakest(gain: list[float], expected: str) -> None:
    evidence = gains({(f"e{k}", "xl"): value for k, value in enumerate(gain)})
    judged = verdict("irepa-per-encoder", evidence)
    assert judged.verdict == expected
    assert judged.finding is not None
    assert judged.finding.estimate.value == pytest.approx(max(gain), abs=0.03)
    assert (
        verdict("irepa-per-encoder", gains({(f"e{k}", "xl"): -0.3 for k in range(4)}, seeds=1)).verdict
        == "inconclusive"
    )


def test_scales_are_compared_with_the_same_encoders() -> None:
    """An encoder that was run at one scale alone does not count, however bad it is there."""
    same: dict[tuple[str, str], float] = {("e0", scale): -0.2 for scale in ("b", "l", "xl")}
    assert verdict("irepa-per-scale", gains(same)).verdict == "supported"
    assert verdict("irepa-per-scale", gains(same | {("odd", "xl"): 0.9})).verdict == "supported"
    assert verdict("irepa-per-scale", gains(same | {("e0", "l"): 0.2})).verdict == "contradicted"
    assert verdict("irepa-per-scale", gains({("e0", "b"): -0.2, ("e1", "xl"): -0.2})).verdict == "not testable"


def test_few_units_are_judged_over_their_seeds() -> None:
    one = {("e0", "xl"): -0.2}
    assert verdict("convolution-alone-helps", renamed(gains(one))).verdict == "supported"
    assert verdict("convolution-alone-helps", renamed(gains({("e0", "xl"): 0.2}))).verdict == "contradicted"
    assert verdict("convolution-alone-helps", renamed(gains({("e0", "xl"): 0.002}))).verdict == "inconclusive"
    few = verdict("convolution-alone-helps", renamed(gains(one, seeds=2)))
    assert few.reason == "1 case, the fewest seeds of one are 2, the rule asks for 3, or for 4 cases"


def renamed(evidence: Evidence) -> Evidence:
    return replace(evidence, runs=evidence.runs.replace({"method": {"irepa": "conv-only"}}))


def test_a_recipe_lends_its_spread_to_no_other() -> None:
    """One recipe with seeds, another with one seed: the second has no interval."""
    with_seeds = gains({("e0", "xl"): -0.2, ("e1", "xl"): -0.2})
    one = gains({("e0", "xl"): -0.2}, seeds=1).runs.assign(recipe="jit")
    evidence = replace(with_seeds, runs=pd.concat([with_seeds.runs, one], ignore_index=True))
    assert evidence.noise["sit"].freedom > 0
    assert evidence.noise["jit"].freedom == 0
    changes = measure_changes(evidence).set_index("recipe")
    assert changes.loc["jit", "low"] != changes.loc["jit", "low"], "NaN"
    assert np.isfinite(changes.loc["sit", "low"].to_numpy(float)).all()


def test_seeds_that_were_added_after_a_look_are_told_and_not_tested() -> None:
    evidence = gains({(f"e{k}", "xl"): -0.2 for k in range(4)}, seeds=5)
    late = evidence.runs["seed"] >= 3
    runs = evidence.runs.assign(held=late)
    worse = runs["fd"].where(~(late & (runs["method"] == "irepa")), runs["fd"] * 2)
    before, after = (verdict("irepa-per-encoder", replace(evidence, runs=r)) for r in (runs, runs.assign(fd=worse)))
    assert before.finding is not None
    assert after.finding is not None
    assert (after.verdict, after.finding.estimate) == ("supported", before.finding.estimate)
    assert check(before, "hold-out").startswith("-1")
    assert check(after, "hold-out").startswith("+")
    alone = verdict("irepa-per-encoder", replace(evidence, runs=evidence.runs[~late]))
    assert alone.finding is not None
    assert alone.finding.estimate == before.finding.estimate


def test_larger_is_no_better_by_half_of_repas_own_effect() -> None:
    """Three families of two networks; REPA gains 0.2, so that the margin is 0.1."""

    def families(larger: float, gain: float = 0.2, count: int = 3) -> Evidence:
        rng = np.random.default_rng(0)
        pairs = [("dinov2-l", "dinov2-b"), ("dinov3-l", "dinov3-b"), ("webssl-2b", "webssl-1b")][:count]
        rows = [
            {"encoder": name, "seed": seed, "fd": math.exp(3 + larger * (name == pair[0]) + rng.normal(0, 0.005))}
            for pair in pairs for name in pair for seed in range(3)
        ]  # fmt: skip
        rows += [{"encoder": "none", "method": "none", "seed": seed, "fd": math.exp(3 + gain)} for seed in range(3)]
        names = [name for pair in pairs for name in pair]
        return tier(rows, pd.DataFrame({"family": [name[:6] for name in names], "records": ""}, index=names))

    name = "trend-larger-is-no-better"
    assert verdict(name, families(0.0)).verdict == "supported"
    assert verdict(name, families(-0.3)).verdict == "contradicted"
    assert verdict(name, families(-0.1, gain=0.15)).verdict == "inconclusive", "about the margin"
    assert verdict(name, families(0.0, gain=-0.2)).verdict == "cannot tell", "no effect, no margin"
    assert verdict(name, families(0.0, count=2)).reason == "2 families of at least two networks, the rule asks for 3"


def test_the_margin_brings_its_own_error() -> None:
    """Independent sums: an amount that is taken off all adds its variance to each, and to what they share."""
    effects = Effects(
        ["a", "b"], np.array([0.1, 0.3]), np.diag([0.01, 0.03]), np.array([9.0, 9.0]), np.array([3.0, 3.0])
    )
    less = effects.less(Amount(0.05, 0.02, 4.0, 5))
    assert list(less.values) == pytest.approx([0.05, 0.25])
    assert less.covariance == pytest.approx(np.array([[0.03, 0.02], [0.02, 0.05]]))
    drawn = np.random.default_rng(0).normal([0.1, 0.3, 0.05], np.sqrt([0.01, 0.03, 0.02]), (200_000, 3))
    assert np.cov((drawn[:, :2] - drawn[:, 2:]).T) == pytest.approx(less.covariance, abs=1e-3)
    assert less.kind().variance == pytest.approx(np.var([0.1, 0.3], ddof=1) / 2 + 0.02)


def test_a_method_without_alignment_is_the_baseline_of_every_encoder() -> None:
    rows = [{"experiments": "E3", "encoder": "none", "method": "none", "seed": seed, "fd": 40.0} for seed in range(3)]
    for name, fd in (("sift", 36.0), ("hog", 38.0), ("other", 99.0)):
        rows += [{"experiments": "E3", "encoder": name, "seed": seed, "fd": fd - seed} for seed in range(3)]
    judged = verdict("classical-features-help", tier(rows))
    assert judged.verdict == "supported"
    assert judged.finding is not None
    expected = np.mean([math.log((fd - seed) / 40) for fd in (36.0, 38.0) for seed in range(3)])
    assert judged.finding.estimate.value == pytest.approx(expected)


def test_mixing_is_judged_by_its_slope() -> None:
    alphas = np.linspace(0, 0.5, 6)
    names = ["v" if a == 0 else f"v+clsmix{a:g}" for a in alphas]
    encoders = pd.DataFrame(
        {"accuracy": 70 + 12 * alphas + [0.1, -0.1, 0, 0.1, -0.1, 0], "family": "v", "records": ""}, index=names
    )
    rng = np.random.default_rng(0)
    rows = [
        {"encoder": n, "seed": seed, "fd": 20 * math.exp(-0.4 * a + rng.normal(0, 0.001))}
        for n, a in zip(names, alphas, strict=True)
        for seed in range(3)
    ]
    rows += [{"encoder": "none", "method": "none", "seed": seed, "fd": 30.0} for seed in range(3)]
    evidence = tier(rows, encoders)
    accuracy, distance = verdict("mixing-raises-accuracy", evidence), verdict("mixing-worsens-fid", evidence)
    assert accuracy.verdict == "supported"
    assert distance.verdict == "contradicted"
    assert accuracy.finding is not None
    assert distance.finding is not None
    assert accuracy.finding.estimate.value == pytest.approx(12, abs=0.5)
    assert distance.finding.estimate.value == pytest.approx(-0.4, abs=0.01)


def test_convergence_is_read_between_measured_steps() -> None:
    steps, fd = np.array([100.0, 200, 400]), np.array([50.0, 30, 20])
    assert convergence.steps_to_reach(steps, fd, 25) == 300
    assert convergence.steps_to_reach(steps, fd, 60) == 100
    assert convergence.steps_to_reach(steps, fd, 10) is None
    rows = []
    for k in range(5):
        slow, fast = 60 / (1 + steps / 100), 60 / (1 + steps / (50 + k))
        for method, curve in (("repa", slow), ("irepa", fast)):
            rows += [
                {"encoder": f"e{k}", "method": method, "steps": t, "fd": v, "final": t == 400}
                for t, v in zip(steps, curve, strict=True)
            ]
    judged = verdict("converges-faster", tier(rows))
    assert judged.verdict == "supported"
    assert judged.finding is not None
    assert judged.finding.estimate.value == pytest.approx(math.log(0.52), abs=0.1)


def test_who_ends_lower_by_chance_decides_nothing_of_convergence() -> None:
    """Turned round, every ratio of steps turns round; and three runs that end a little higher contradict nothing."""
    rng = np.random.default_rng(0)

    def ends(irepa: list[float]) -> Evidence:
        return tier([
            {"encoder": "e0", "method": method, "seed": seed, "steps": steps, "final": steps == 400,
             "fd": 100 / steps * math.exp(rng.normal(0, 0.01) + (part if steps == 400 and method == "irepa" else 0.0))}
            for seed, part in enumerate(irepa) for method in ("repa", "irepa") for steps in (100, 200, 400)
        ])  # fmt: skip

    higher = ends([0.05, 0.1, 0.02])
    swapped = replace(
        higher, runs=higher.runs.assign(method=higher.runs["method"].map({"repa": "irepa", "irepa": "repa"}))
    )
    one, other = verdict("converges-faster", higher), verdict("converges-faster", swapped)
    assert one.verdict == "inconclusive"
    assert one.finding is not None
    assert other.finding is not None
    assert one.finding.estimate.value == pytest.approx(-other.finding.estimate.value) != 0
    assert "3 runs of irepa ended higher: there its own last distance counts." in one.finding.notes
    assert verdict("converges-faster", ends([0.5, 0.55, 0.45])).verdict == "contradicted", "far higher, each time"


def test_lines_are_counted_in_code_that_gives_the_projects_loss(printed: Evidence) -> None:
    judged = verdict("fewer-than-4-lines", printed)
    assert judged.verdict == "supported"
    assert judged.finding is not None
    assert judged.finding.estimate.value == 3


def test_discrepancies_are_measured_against_their_base() -> None:
    rows = []
    for seed, (one, other) in enumerate([(33.0, 30.0), (36.0, 32.0), (31.0, 30.0)]):
        rows += [
            {"encoder": "e", "method": "irepa-k1", "seed": seed, "fd": one},
            {"encoder": "e", "method": "irepa", "seed": seed, "fd": other},
        ]
    source = tier(rows)
    (change,) = compared(source, measure_changes(source, [("irepa-k1", "irepa")]), "irepa-k1", "irepa")
    assert change["value"].startswith(f"{math.expm1(np.mean(np.log([1.1, 1.125, 31 / 30]))):+.1%} [")
    assert change["verdict"] == "inconclusive", "three seeds of 3%, 10% and 12%: the interval reaches below 0"
    assert not compared(source, measure_changes(source, [("irepa-w1", "irepa")]), "irepa-w1", "irepa")
    rows = [row | {"encoder": name, "method": "repa"} for row, name in zip(rows, ["hog-9", "hog"] * 3, strict=True)]
    source = tier(rows, pd.DataFrame({"lds": [0.3, 0.1]}, index=["hog-9", "hog"]))
    d17 = read_discrepancies(WORKFLOW)["D17"]
    distance, metric = effects(d17, [source], measure_changes(source, (), d17.encoders))
    assert distance["value"] == change["value"]
    assert (metric["what"], metric["value"]) == ("LDS of hog-9 against hog", "0.300, 0.100")
    printed = published.read()
    d10 = effects(read_discrepancies(WORKFLOW)["D10"], [printed], measure_changes(printed))
    assert d10[0]["value"] == "19.06, 19.20, 19.34"
    assert d10[1]["value"].startswith(f"{np.std([19.06, 19.2, 19.34], ddof=1):.2f}")


def test_claims_are_complete_and_their_rules_are_sentences() -> None:
    rows = read_discrepancies(WORKFLOW)
    assert {f"D{k}" for k in range(1, 19)} <= set(rows)
    encoders = read_yaml(WORKFLOW / "encoders.yaml")
    assert {name for row in rows.values() for pair in row.encoders for name in pair} <= set(encoders)
    for claim in CLAIMS.values():
        assert re.fullmatch(r"[A-Z|].*\.", rule_of(claim), flags=re.DOTALL)
        assert set(claim.experiment.split()) <= {"any", "E1", "E2", "E3", "E4", "E5", "E6", "E7", "H", "I", "L"}
        assert claim.experiment not in {"H", "I", "L"} or claim.asked == "here"
        tiers = set(CLAIMS["lds-predicts"].decided_at)
        assert claim.decided_at == "any" or set(claim.decided_at) <= tiers


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"metric": "ldss"}, r"lds-predicts: decision: metric = \"ldss\": Input should be 'accuracy', 'lds'"),
        ({"treshold": -0.5}, "unknown key treshold .did you mean threshold"),
        ({"name": "correlate"}, "unknown value 'correlate'; allowed are .*correlation"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(tmp_path: Path, edit: dict[str, object], message: str) -> None:
    import yaml

    rows = yaml.safe_load((WORKFLOW / "claims.yaml").read_text())
    rows["lds-predicts"]["decision"] |= edit
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(ConfigError, match=message):
        read_claims(tmp_path)


def test_a_measure_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    text = (WORKFLOW / "discrepancies.yaml").read_text()
    (tmp_path / "discrepancies.yaml").write_text(text.replace("measure: shared-fid", "measure: shared"))
    with pytest.raises(ConfigError, match=r"D6: measure: unknown value 'shared'; allowed are lds-variants"):
        read_discrepancies(tmp_path)


# The authors' released statistics.

ENCODERS = pd.read_csv(Path(released.__file__).with_name("released.csv"))


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """A small tree of the released layout: every encoder at XL, 6 images, masks, probes."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    folder = tmp_path / "spatial-metrics-data"
    for part in ("stats/fid", "features", "masks"):
        (folder / part).mkdir(parents=True)
    for k, row in enumerate(ENCODERS.itertuples()):
        steps = [50_000, 100_000]
        table = pd.DataFrame({"Steps": steps, "IS": 1.0, "FID": [60.0, 20.0 + k]})
        table.to_csv(folder / "stats/fid" / f"{row.xl_file}_cfg1.0-seed0-modesde-steps250.csv", index=False)
        (folder / "stats/lp" / f"{row.feature}-none-mean").mkdir(parents=True)
        (folder / "stats/lp" / f"{row.feature}-none-mean" / "metrics.json").write_text(
            json.dumps({"best_val_acc": 50.0 + k})
        )
        smooth = torch.randn(6, 1, 4, generator=generator) * k / 10
        torch.save(torch.randn(6, 256, 4, generator=generator) + smooth, folder / "features" / f"{row.feature}.pt")
    for k in range(6):
        mask = np.zeros((256, 256), np.uint8)
        mask[: 64 + 20 * k] = 255
        Image.fromarray(mask[:, rng.permutation(256)]).save(folder / "masks" / f"{k}.png")
    return folder


def test_released_statistics_are_evidence_like_any_other(download: Path) -> None:
    evidence = released.read(download)
    points = evidence.points("E1", "SiT-XL/2")
    assert len(points) == 27
    assert points.loc["dinov2-b", "fd"] == 20.0
    assert points.loc["pe-spatial-l", "fd"] != points.loc["pe-lang-l", "fd"], "each encoder's own file (D6)"
    assert points.loc["mae-l", "accuracy"] == 76.0
    tokens = torch.load(download / "features" / "mae-vit-l.pt", weights_only=True)
    assert points.loc["mae-l", "lds"] == pytest.approx(float(spatial_metrics(tokens, (16, 16)).lds.mean()), abs=1e-6)
    assert points["srss"].notna().all()
    assert verdict("lds-predicts", evidence).finding is not None
    assert verdict("converges-faster", evidence).verdict == "not testable"
    assert "of which the margin is a share" in verdict("trend-larger-is-no-better", evidence).reason


def test_released_files_that_are_missing_or_damaged_are_named(download: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hf download REPA-E/iREPA-collections"):
        released.read(tmp_path / "nowhere")
    (download / "masks" / "5.png").unlink()
    evidence = released.read(download)
    assert evidence.encoders["srss"].isna().all() if "srss" in evidence.encoders else True
    assert "which mask is which image's cannot be told" in evidence.notes[0]
    (download / "features" / "mae-vit-l.pt").write_bytes(b"PK\x03\x04 no file of torch")
    with pytest.raises(DataError, match=r"mae-vit-l\.pt cannot be read"):
        released.read(download)


# A whole tier, its results fabricated and then edited.


def project_for_audit(root: Path) -> None:
    """What an audit reads of the repository."""
    shutil.copytree(WORKFLOW, root / "workflow")
    for name in STAGES["audit"].sources:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, root / name)


def fabricate(root: Path, encoders: list[str]) -> Plan:
    """A finished cifar10 tier as far as its numbers go: the distance falls with LDS."""
    plan = Plan(load_settings({"tier": "cifar10", "encoders": encoders}, root / "workflow"), root)
    noise = np.random.default_rng(0)
    lds = {name: float(v) for name, v in zip(encoders, np.linspace(0.05, 0.5, len(encoders)), strict=True)}
    for job in plan.needs(Job("audit")):
        if job.stage == "table":
            continue
        name = job.key.split("/")[2] if "/" in job.key else job.key
        value = lds.get(name, 0.3)
        metrics: dict[str, float] = {
            "spatial": {"lds": value, "cds": value / 10, "srss": value, "rmsc": value, "lds_text": value},
            "probe": {"accuracy": noise.uniform(0.3, 0.9)},
            "train": {"parameters": 1},
            "floor": {"FD-EffLite2": 50},
            "inspect": {},
            "evaluate": {"FD-EffLite2": 1000 if name == "none" else 900 - 1000 * value + noise.normal(0, 10)},
        }[job.stage]  # type: ignore[assignment]
        path = plan.record_path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        provenance = {"git_revision": "0" * 40, "git_dirty": False, "started": "2026-01-01T00:00:00+00:00"}
        path.write_text(json.dumps({"stage": job.stage, "key": job.key, "fingerprint": plan.fingerprint(job), "inputs": {},
                                    "settings": {}, "metrics": metrics, "files": {}, "provenance": provenance}))  # fmt: skip
    return plan


def verdicts(plan: Plan) -> dict[str, dict[str, Any]]:
    execute(plan, Job("table"))
    execute(plan, Job("audit"))
    audit = json.loads(plan.outputs(Job("audit"))[1].read_text())
    own = {claim["id"]: claim["sources"]["cifar10"] for claim in audit["claims"]}
    for name in own["lds-predicts"]["records"]:
        assert audit["records"][name]["fingerprint"]
        assert audit["records"][name]["git_revision"] == "0" * 40
    return own


# Thirteen encoders, twelve networks, seven families.
THIRTEEN = ["rgb", "vit-random", "effnet-lite0-s8", "hog", "vit-mae", "sift", "random-cnn", "effnet-lite1-s8", "daisy",
            "vit-supervised", "hog-fine", "vit-contrastive", "vit-contrastive-mid"]  # fmt: skip


def test_a_planted_contradiction_flips_a_verdict_and_few_encoders_give_none(tmp_path: Path) -> None:
    project_for_audit(tmp_path)
    plan = fabricate(tmp_path, THIRTEEN)
    before = verdicts(plan)
    assert before["lds-predicts"]["verdict"] == "supported"
    for job in plan.needs(Job("audit")):
        if job.stage == "evaluate" and "/none/" not in job.key:  # the opposite order, as far from no alignment
            record = json.loads(plan.record_path(job).read_text())
            record["metrics"]["FD-EffLite2"] = 600**2 / record["metrics"]["FD-EffLite2"]
            plan.record_path(job).write_text(json.dumps(record))
    after = verdicts(plan)
    assert after["lds-predicts"]["verdict"] == "contradicted"
    assert after["lds-predicts"]["estimate"] == pytest.approx(-before["lds-predicts"]["estimate"], abs=0.01)
    few = verdicts(fabricate(tmp_path, THIRTEEN[:8]))
    assert few["lds-predicts"]["verdict"] == "inconclusive"
    assert few["lds-predicts"]["reason"] == "8 networks, the rule asks for 12"
    assert "power 0.8 takes" in few["lds-predicts"]["power"]


def test_make_audit_needs_no_results(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    done = call(folder, "python", "-m", "irepa", "audit", "--published", "--json", "audit.json")
    assert done.returncode == 0, done.stderr
    assert "lds-beats-accuracy" in done.stdout
    assert "r among the best two thirds" in done.stdout
    sources = others(None)
    audit = document(WORKFLOW, sources, changes_of(WORKFLOW, sources))
    write_json(tmp_path / "expected.json", audit, DIGITS)
    assert (folder / "audit.json").read_text() == (tmp_path / "expected.json").read_text()
    assert not (folder / "results").exists()
    done = call(folder, "python", "-m", "irepa", "audit", "--tier", "smoke")
    assert done.returncode != 0
    assert "is missing: run `irepa" in done.stderr


def test_a_source_without_runs_is_silent_on_every_claim_but_that_about_code() -> None:
    silent = tier([])
    assert {item.claim for item in judge(CLAIMS, silent) if item.verdict != "not testable"} == {"fewer-than-4-lines"}
    assert len(CLAIMS) >= 20

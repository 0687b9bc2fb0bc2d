"""Claims about more than a distance: other columns of the tables, what is inside networks, normalised tokens, new encoders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from irepa.alignment import spatial_normalize
from irepa.audit.evidence import Evidence, published, released, results
from irepa.audit.rules import line
from irepa.audit.verdicts import judge
from irepa.config.cells import Cell
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context, execute
from irepa.spatial import spatial_metrics
from tests.test_audit import CLAIMS, THIRTEEN, check, cloud, fabricate, gains, project_for_audit, tier, verdict

SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "inconclusive"


# Other columns of the tables.


@pytest.fixture(scope="module")
def printed() -> Evidence:
    return published.read()


def moved(evidence: Evidence, quantity: str, where: dict[str, Any], value: float) -> Evidence:
    """The same with one printed number replaced."""
    hit = (evidence.runs[list(where)] == pd.Series(where)).all(axis=1)
    assert hit.sum() == 1
    return replace(evidence, runs=evidence.runs.assign(**{quantity: evidence.runs[quantity].mask(hit, value)}))


def test_inception_score_is_higher_in_15_of_15_and_one_lower_pair_contradicts(printed: Evidence) -> None:
    judged = verdict("irepa-raises-is", printed)
    assert (judged.verdict, check(judged, "runs in which it is lower")) == (SUPPORTED, "0 of 15")
    assert judged.finding is not None
    assert judged.finding.parameter == "mean log ratio of IS, irepa / repa"
    one = {"recipe": "repa-e", "encoder": "pe-core-g", "method": "irepa"}
    assert verdict("irepa-raises-is", moved(printed, "is", one, 40.0)).verdict == CONTRADICTED
    assert verdict("irepa-raises-is", moved(printed, "is", one, 51.0)).verdict == OPEN, "inside the margin"


def test_sfid_is_higher_in_2_of_7(printed: Evidence) -> None:
    judged = verdict("irepa-lowers-sfid", printed)
    assert (judged.verdict, check(judged, "runs in which it is lower")) == (CONTRADICTED, "5 of 7")
    assert check(judged, "change for dinov2-b") == "+7.4%", "5.83 to 6.26"
    assert check(judged, "change for webssl-1b, SiT-XL/2, repa-e") == "+1.5%", "5.20 to 5.28"
    mended = printed
    for row in printed.runs[printed.runs["sfid"].notna() & (printed.runs["method"] == "irepa")].itertuples():
        where = {"recipe": row.recipe, "encoder": row.encoder, "method": "irepa"}
        mended = moved(mended, "sfid", where, 4.0)
    assert verdict("irepa-lowers-sfid", mended).verdict == SUPPORTED


@pytest.mark.parametrize("name", ["precision", "recall"])
def test_precision_and_recall_differ_too_little_in_one_row_at_least(printed: Evidence, name: str) -> None:
    judged = verdict(f"irepa-raises-{name}", printed)
    assert (judged.verdict, check(judged, "runs in which it is lower")) == (OPEN, "0 of 3")
    assert "within 5%: dinov3-b" in judged.reason
    rows = printed.runs.assign(**{name: np.where(printed.runs["method"] == "irepa", 0.9, 0.5)})
    assert verdict(f"irepa-raises-{name}", replace(printed, runs=rows)).verdict == SUPPORTED
    zero = moved(printed, name, {"recipe": "repa-e", "encoder": "pe-core-g", "method": "irepa"}, 0.0)
    assert verdict(f"irepa-raises-{name}", zero).verdict == "not testable"


def test_a_quantity_has_a_noise_of_its_own() -> None:
    """The same gains in precision with seeds that scatter or do not, whatever the distance does."""
    for noise, expected in ((0.01, SUPPORTED), (0.5, OPEN)):
        told = gains({(f"e{k}", "xl"): 0.2 for k in range(4)}, noise=noise)
        runs = told.runs.assign(precision=told.runs["fd"], fd=1.0)
        evidence = replace(told, runs=runs, quantities={"precision": "precision-EffLite2"})
        judged = verdict("irepa-raises-precision", evidence)
        assert judged.verdict == expected
        assert judged.finding is not None
        assert "precision-EffLite2" in judged.finding.parameter


# Methods, scales and steps.


def parts(both: float, conv: float = -0.1, norm: float = -0.05) -> Evidence:
    """One encoder, four methods with these log ratios to REPA, three seeds."""
    rng = np.random.default_rng(0)
    of = {"repa": 0.0, "conv-only": conv, "norm-only": norm, "irepa": both}
    return tier(
        [
            {"encoder": "e0", "method": method, "seed": seed, "fd": 30 * math.exp(level + rng.normal(0, 0.004))}
            for method, level in of.items()
            for seed in range(3)
        ]
    )


def test_both_parts_together_must_beat_each_alone(printed: Evidence) -> None:
    assert verdict("both-parts-beat-either", parts(-0.2)).verdict == SUPPORTED
    assert verdict("both-parts-beat-either", parts(-0.07)).verdict == CONTRADICTED, "worse than the convolution alone"
    assert verdict("both-parts-beat-either", parts(-0.1)).verdict == OPEN
    judged = verdict("both-parts-beat-either", printed)
    assert (judged.verdict, check(judged, "pairs in which it is lower")) == (OPEN, "8 of 8")
    assert judged.reason.endswith("within 5%: dinov2-b against norm-only"), "17.66 to 16.96"


@pytest.mark.parametrize(("gain", "expected"), [(-0.2, SUPPORTED), (0.2, CONTRADICTED), (0.0, OPEN)])
def test_the_premise_is_a_claim_over_networks(gain: float, expected: str) -> None:
    networks = cloud(0.0, gain=-gain, noise=0.1)
    assert verdict("repa-helps", networks).verdict == expected
    layers = replace(networks, encoders=networks.encoders.assign(network=[f"n{k // 10}" for k in range(20)]))
    assert check(verdict("repa-helps", layers), "pairs in which it is lower").endswith("of 2")


def curves(sooner: dict[tuple[str, str, str], float]) -> Evidence:
    """Distances that fall as 100 / steps, iREPA's ``sooner`` times as fast, for (encoder, scale, recipe), three seeds."""
    rng, rows = np.random.default_rng(0), []
    for (encoder, scale, recipe), speed in sooner.items():
        for seed in range(3):
            for method, factor in (("repa", 1.0), ("irepa", speed * math.exp(rng.normal(0, 0.01)))):
                rows += [
                    {"encoder": encoder, "scale": scale, "recipe": recipe, "method": method, "seed": seed, "steps": steps,
                     "final": steps == 400, "fd": 100 / (steps * factor)}
                    for steps in range(50, 401, 10)
                ]  # fmt: skip
    return tier(rows)


@pytest.mark.parametrize("unit", ["encoder", "scale", "recipe"])
def test_fewer_steps_are_asked_of_each_encoder_scale_and_recipe(unit: str) -> None:
    def of(speeds: list[float]) -> Evidence:
        place = {"encoder": "e0", "scale": "xl", "recipe": "sit"}
        places = [place | {unit: f"{unit}{k}"} for k in range(len(speeds))]
        return curves({(p["encoder"], p["scale"], p["recipe"]): v for p, v in zip(places, speeds, strict=True)})

    claim = f"converges-faster-per-{unit}"
    judged = verdict(claim, of([1.5, 2.0, 1.5, 1.2]))
    assert judged.verdict == SUPPORTED
    assert judged.finding is not None
    assert judged.finding.estimate.value == pytest.approx(math.log(1 / 1.2), abs=0.02), "the slowest"
    assert verdict(claim, of([1.5, 2.0, 1.5, 0.7])).verdict == CONTRADICTED
    assert verdict(claim, of([1.5, 2.0])).verdict == OPEN


def test_a_small_correlation_is_small_with_either_sign_at_every_scale() -> None:
    def accuracy(r: float, scales: int = 3) -> Evidence:
        one = cloud(r, n=150)
        runs = [one.runs.assign(scale=name) for name in ("s", "m", "l")[:scales]]
        encoders = one.encoders.assign(accuracy=one.encoders["lds"])
        return replace(one, runs=pd.concat(runs, ignore_index=True), encoders=encoders, scales=["s", "m", "l"])

    assert verdict("accuracy-at-every-scale", accuracy(0.0)).verdict == SUPPORTED
    assert verdict("accuracy-at-every-scale", accuracy(-0.6)).verdict == CONTRADICTED
    assert verdict("accuracy-at-every-scale", accuracy(0.6)).verdict == CONTRADICTED
    assert verdict("accuracy-at-every-scale", accuracy(0.25)).verdict == OPEN
    assert verdict("accuracy-at-every-scale", accuracy(0.0, scales=2)).verdict == "not testable"


# Inside networks.

Numbers = dict[str, float]


def inside(of: dict[str, Numbers], encoders: int = 2, seeds: int = 3, noise: float = 0.01) -> Evidence:
    """Runs of these methods, each with these numbers from inside and a seed's scatter in them."""
    rng = np.random.default_rng(0)
    rows, extra = [], []
    for k in range(encoders if "none" not in of else 1):
        for method, numbers in of.items():
            for seed in range(seeds):
                encoder = "none" if method == "none" else f"e{k}"
                rows.append({"encoder": encoder, "method": method, "seed": seed, "fd": 30.0, "experiments": "E1 E5 E7"})
                extra.append({name: value + rng.normal(0, noise) for name, value in numbers.items()}
                             | {"compared": f"e{k}", "record_inside": f"{method}-{seed}"})  # fmt: skip
    evidence = tier(rows)
    return replace(evidence, runs=evidence.runs.join(pd.DataFrame(extra)))


def structure(target: float, other: float = 0.1, alone: float = 0.3) -> Evidence:
    return inside(
        {
            "repa": {"agreement_hidden_target": target, "agreement_hidden_other": other},
            "none": {"agreement_hidden_target": alone, "agreement_hidden_other": other},
        }
    )


def locality(projected: float, conv: float, one: float) -> Evidence:
    before = 0.5
    return inside(
        {
            "repa": {"lds_hidden": before, "lds_projected": projected},
            "conv-only": {"lds_hidden": before + 0.2, "lds_projected": conv + 0.2},
            "conv-k1": {"lds_hidden": before - 0.1, "lds_projected": one - 0.1},
        }
    )


def signature(less: str, more: str) -> Callable[[float, float], Evidence]:
    def of(accuracy: float, lds: float) -> Evidence:
        return inside(
            {
                less: {"accuracy_hidden": 0.5, "lds_hidden": 0.4},
                more: {"accuracy_hidden": 0.5 + accuracy, "lds_hidden": 0.4 + lds},
            }
        )

    return of


@pytest.mark.parametrize(
    ("claim", "evidence", "expected"),
    [
        ("hidden-structure-follows-target", structure(0.6), SUPPORTED),
        ("hidden-structure-follows-target", structure(0.2), CONTRADICTED),  # above another image's, below no alignment
        ("hidden-structure-follows-target", structure(0.6, other=0.8), CONTRADICTED),
        ("hidden-structure-follows-target", structure(0.3), OPEN),
        ("convolution-keeps-locality", locality(0.3, 0.45, 0.3), SUPPORTED),
        ("convolution-keeps-locality", locality(0.6, 0.7, 0.3), CONTRADICTED),  # the MLP gains
        ("convolution-keeps-locality", locality(0.3, 0.45, 0.55), CONTRADICTED),  # kernel 1 keeps more
        ("convolution-keeps-locality", locality(0.3, 0.3, 0.2), OPEN),
        ("more-kernel-loses-semantics", signature("irepa", "irepa-k7")(-0.1, 0.2), SUPPORTED),
        ("more-kernel-loses-semantics", signature("irepa", "irepa-k7")(0.1, 0.2), CONTRADICTED),
        ("more-kernel-loses-semantics", signature("irepa", "irepa-k7")(-0.1, -0.2), CONTRADICTED),
        ("more-gamma-loses-semantics", signature("irepa-g0.6", "irepa")(-0.1, 0.2), SUPPORTED),
        ("more-gamma-loses-semantics", signature("irepa-g0.6", "irepa")(0.0, 0.2), OPEN),
    ],
)
def test_contrasts_inside_networks_are_judged_by_their_weakest(claim: str, evidence: Evidence, expected: str) -> None:
    judged = verdict(claim, evidence)
    assert judged.verdict == expected
    assert judged.finding is not None
    assert judged.finding.records


def test_contrasts_without_their_runs_or_seeds_decide_nothing() -> None:
    whole = structure(0.6)
    assert verdict(
        "hidden-structure-follows-target", replace(whole, runs=whole.runs[whole.runs["seed"] < 2])
    ).reason == ("the fewest seeds of one unit are 2, the rule asks for 3")
    repa = replace(whole, runs=whole.runs[whole.runs["method"] == "repa"])
    judged = verdict("hidden-structure-follows-target", repa)
    assert judged.verdict == OPEN
    assert judged.reason.startswith("no run has more than without alignment, agreement_hidden_target of repa minus")
    assert verdict("convolution-keeps-locality", whole).verdict == "not testable"
    never = verdict("hidden-structure-follows-target", tier([{"encoder": "e0", "fd": 30.0, "experiments": "E5"}]))
    assert never.verdict == "not testable"


@pytest.mark.parametrize(("r", "expected"), [(-0.95, SUPPORTED), (0.6, CONTRADICTED), (-0.45, OPEN)])
def test_agreement_inside_is_a_property_like_any_other(r: float, expected: str) -> None:
    """As LDS is, and one predictor with it where both are the same numbers."""
    evidence = cloud(r, n=40)
    agreement = evidence.runs["encoder"].map(evidence.encoders["lds"])
    known = replace(evidence, runs=evidence.runs.assign(agreement_hidden_target=agreement))
    assert verdict("structure-inside-predicts", known).verdict == expected
    assert verdict("structure-inside-predicts", evidence).verdict == "not testable"


# Tokens after normalisation.


def encoders(change: list[float]) -> Evidence:
    n = len(change)
    table = {"family": "f", "records": "", "lds": 0.2, "rmsc": 0.5, "rmsc_normalised": 0.7}
    names = [f"e{k}" for k in range(n)]
    return tier([], pd.DataFrame(table, index=names).assign(lds_normalised=0.2 + np.array(change)))


def test_normalisation_must_raise_contrast_of_every_encoder() -> None:
    claim = "normalisation-raises-contrast"
    judged = verdict(claim, encoders([0.1, 0.2, 0.05, 0.3]))
    assert judged.verdict == SUPPORTED
    assert judged.finding is not None
    assert judged.finding.estimate.value == pytest.approx(0.05)
    assert verdict(claim, encoders([0.1, 0.2, -0.01, 0.3])).verdict == CONTRADICTED
    assert verdict(claim, encoders([0.1, 0.2])).verdict == OPEN
    changed = encoders([0.1, 0.2, 0.1, 0.3, -0.5])
    table = changed.encoders.rename(index={"e4": "e3+demean"})
    assert verdict(claim, replace(changed, encoders=table)).verdict == SUPPORTED, "its tokens are no encoder's own"


def test_released_tokens_are_measured_after_normalisation_too() -> None:
    tokens = torch.randn(5, 256, 6, generator=torch.Generator().manual_seed(0)) + 2.0
    found = released._metrics(tokens.half(), None)
    after = spatial_metrics(spatial_normalize(tokens.half().float()), (16, 16))
    assert found["rmsc_normalised"] == pytest.approx(float(after.rmsc.mean()), abs=1e-5)
    assert found["rmsc_normalised"] > 2 * found["rmsc"], "a common offset is contrast's loss"


# Encoders that the paper did not look at.


def new_encoders(slope: float, n: int = 12) -> Evidence:
    """Forty old networks on a falling line, and new ones on another of this slope through its centre."""
    rng = np.random.default_rng(0)
    rows, lds = [], {}
    for kind, count, gradient in (("E1", 40, -1.0), ("H", n, slope)):
        for k, x in enumerate(np.linspace(-1, 1, count)):
            name = f"{kind}-{k}"
            lds[name] = x
            for seed in range(3):
                fd = math.exp(3 + gradient * x + rng.normal(0, 0.05))
                rows.append({"encoder": name, "experiments": kind, "seed": seed, "fd": fd})
    rows += [{"encoder": "none", "method": "none", "experiments": "E4", "seed": seed, "fd": 500.0} for seed in range(3)]
    return tier(rows, pd.DataFrame({"lds": lds, "records": ""}).assign(family=list(lds)))


@pytest.mark.parametrize(("slope", "expected"), [(-1.0, SUPPORTED), (1.0, CONTRADICTED), (-0.5, OPEN)])
def test_a_line_is_held_against_new_encoders(slope: float, expected: str) -> None:
    """At half the slope the line and the mean are as far off; beyond, the one or the other is nearer."""
    judged = verdict("line-holds-for-new-encoders", new_encoders(slope))
    assert judged.verdict == expected
    few = verdict("line-holds-for-new-encoders", new_encoders(slope, n=4))
    assert few.reason == "4 new networks, the rule asks for 6"


def test_the_error_of_the_old_line_is_in_the_test_of_new_encoders() -> None:
    """The jackknife's variance is that of lines drawn anew, for the same new encoders."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.normal(size=12)

    def old() -> tuple[np.ndarray, np.ndarray]:
        places = rng.normal(size=30)
        return places, -0.8 * places + 0.5 * rng.normal(size=30)

    means = [line.how_much_closer(*old(), x, y).mean() for _ in range(2000)]
    closer = [
        (line.mean_closer(*places, x, y), line.how_much_closer(*places, x, y)) for places in (old() for _ in range(200))
    ]
    extra = [amount.variance - values.var(ddof=1) / 12 for amount, values in closer]
    assert np.mean(extra) == pytest.approx(np.var(means), rel=0.25)
    whole = new_encoders(-1.0)
    old_ones = [f"E1-{k}" for k in range(11)]
    few = whole.runs[~whole.runs["encoder"].str.startswith("E1") | whole.runs["encoder"].isin(old_ones)]
    assert (
        verdict("line-holds-for-new-encoders", replace(whole, runs=few)).reason
        == "11 old networks, the rule asks for 12"
    )


# From a tier's records to verdicts.


def test_what_stages_measure_reaches_the_rules(tmp_path: Path) -> None:
    project_for_audit(tmp_path)
    plan = fabricate(tmp_path, THIRTEEN)

    def plant(job: Job, numbers: dict[str, float]) -> None:
        record = json.loads(plan.record_path(job).read_text())
        record["metrics"] |= numbers
        plan.record_path(job).write_text(json.dumps(record))

    for job in plan.needs(Job("audit")):
        if job.stage == "spatial":
            plant(job, {"lds_normalised": 0.9, "rmsc_normalised": 0.9})
        elif job.stage == "evaluate":
            plant(job, {"precision-EffLite2": (0.5 if "/irepa/" in job.key else 0.4) + len(job.key) / 1e4})
        elif job.stage == "inspect":
            aligned = Cell.parse(job.key).method != "none"
            plant(job, {"agreement_hidden_target": 0.6 if aligned else 0.2, "agreement_hidden_other": 0.1})
    execute(plan, Job("table"))
    evidence = results.read(Context(plan, Job("audit")))
    assert dict(evidence.quantities) == {"precision": "precision-EffLite2"}
    names = ["hidden-structure-follows-target", "normalisation-raises-contrast", "structure-inside-predicts"]
    judged = {item.claim: item for item in judge({name: CLAIMS[name] for name in names}, evidence)}
    assert judged[names[0]].verdict == SUPPORTED
    assert judged[names[1]].verdict == SUPPORTED
    assert judged[names[2]].verdict == "not testable", "one value for all of them"
    assert "one value for all" in judged[names[2]].reason
    found = judged[names[0]].finding
    assert found is not None
    assert any("/none/" in name for name in found.records)
    assert check(verdict("irepa-raises-precision", evidence), "runs in which it is lower").startswith("0 of")

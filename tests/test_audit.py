"""The audit: published numbers recomputed, planted evidence judged, and results of a tier edited until a verdict flips."""

from __future__ import annotations

import json
import math
import re
import shutil
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
from irepa.audit.rules import convergence
from irepa.audit.verdicts import Judged, judge
from irepa.config.load import load_settings
from irepa.config.read import read_yaml
from irepa.errors import ConfigError, DataError
from irepa.pipeline.graph import STAGES, Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.spatial import spatial_metrics
from irepa.stages.audit import changes_of, document, others
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


def cloud(r: float, n: int = 20) -> Evidence:
    """n encoders whose LDS has exactly this correlation with the distance, and whose accuracy has none."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, 3))]))
    fd = 30 + 20 * (r * basis[:, 1] + math.sqrt(1 - r**2) * basis[:, 2])
    names = [f"e{k}" for k in range(n)]
    encoders = pd.DataFrame({"lds": basis[:, 1], "accuracy": basis[:, 3], "family": names, "records": ""}, index=names)
    return tier([{"encoder": e, "fd": v} for e, v in zip(names, fd, strict=True)], encoders)


def repeated(evidence: Evidence, noise: np.ndarray) -> Evidence:
    """Each run with several seeds, ``noise`` (seeds, runs) added to its distance."""
    rows = evidence.runs.to_dict("records")
    seeds = [
        row | {"seed": k, "fd": row["fd"] + added[i]} for k, added in enumerate(noise) for i, row in enumerate(rows)
    ]
    return tier(seeds, evidence.encoders)


def test_a_correlation_comes_with_what_the_noise_between_seeds_leaves_of_one() -> None:
    one = cloud(-0.9)
    judged = verdict("lds-predicts", repeated(one, np.random.default_rng(1).normal(scale=5, size=(3, len(one.runs)))))
    share = float(check(judged, "share of the distances' variance that 3 seeds agree on").split(";")[0])
    between = np.var(one.runs["fd"], ddof=1)
    assert share == pytest.approx(between / (between + 25 / 3), abs=0.15)
    with pytest.raises(StopIteration):
        check(verdict("lds-predicts", one), "share of the distances' variance")


def test_a_weak_correlation_that_noise_may_have_hidden_contradicts_nothing() -> None:
    """Noise that leaves every encoder's mean where it was: r is the same, what it can be held against is not."""
    strong, absent = cloud(-0.95), cloud(0.0)

    def noisy(evidence: Evidence, scale: float) -> Evidence:
        return repeated(
            evidence, scale * np.outer([1, -1, 0], np.random.default_rng(2).normal(size=len(evidence.runs)))
        )

    assert verdict("lds-predicts", absent).verdict == "contradicted"
    assert verdict("lds-predicts", noisy(absent, 0.5)).verdict == "contradicted"
    hidden = verdict("lds-predicts", noisy(absent, 8.0))
    assert hidden.verdict == "inconclusive"
    assert hidden.finding is not None
    assert hidden.finding.estimate.value == pytest.approx(0, abs=1e-9)
    assert verdict("lds-predicts", noisy(strong, 8.0)).verdict == "supported"


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
    assert float(check(accuracy, "permutation p, Pearson")) == pytest.approx(0.19, abs=0.015)
    assert check(accuracy, "r without the 2 worst") == "0.29"
    assert check(lds, "r without the 2 worst") == "-0.87"
    assert check(lds, "r among the best two thirds").startswith("-0.57")
    assert verdict("lds-beats-accuracy", printed).verdict == "supported"
    assert verdict("all-metrics-above-0.85", printed).verdict == "inconclusive"
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
    per_encoder = verdict("irepa-per-encoder", printed).finding
    assert per_encoder is not None
    table_3 = {19.06: 16.96, 21.47: 16.26, 26.1: 16.66, 32.35: 18.19}
    assert per_encoder.estimate.value == pytest.approx(np.mean([math.log(b / a) for a, b in table_3.items()]))
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
    assert judged.finding.estimate.value == pytest.approx(r)
    assert "power" in judged.finding.power
    if n < 12:
        assert judged.reason == f"{n} encoders, the rule asks for 12"


def test_a_small_tier_decides_nothing_however_clear_it_looks() -> None:
    evidence = cloud(-0.95)
    small = Evidence("demo", "Demo", "FD", evidence.runs, evidence.encoders, evidence.scales)
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


def test_pairs_are_judged_over_units_over_seeds_or_not_at_all() -> None:
    def runs(encoders: int, seeds: int, ratio: float) -> Evidence:
        noise = np.random.default_rng(0)
        rows = []
        for k, seed in np.ndindex(encoders, seeds):
            base = {"encoder": f"e{k}", "seed": seed}
            rows += [
                base | {"fd": 30.0},
                base | {"method": "irepa", "fd": 30 * ratio * math.exp(noise.normal(0, 0.01))},
            ]
        return tier(rows)

    assert verdict("irepa-per-encoder", runs(6, 1, 0.8)).verdict == "supported"
    assert verdict("irepa-per-encoder", runs(6, 1, 1.3)).verdict == "contradicted"
    over_seeds = verdict("irepa-per-encoder", runs(1, 4, 0.8))
    assert over_seeds.verdict == "supported"
    assert "4 seeds" in " ".join(over_seeds.finding.notes)  # type: ignore[union-attr]
    assert verdict("irepa-per-encoder", runs(1, 1, 0.8)).verdict == "inconclusive"
    mixed = pd.concat([runs(6, 1, 0.7).runs, tier([{"encoder": "odd", "fd": 30.0},
                       {"encoder": "odd", "method": "irepa", "fd": 33.0}]).runs])  # fmt: skip
    judged = verdict("irepa-per-encoder", Evidence("imagenet256", "", "FD", mixed, pd.DataFrame(), ["xl"]))
    assert (judged.verdict, judged.reason) == ("inconclusive", "it goes the other way for odd")


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
    evidence = tier(
        [{"encoder": n, "fd": 20 * math.exp(-0.4 * a)} for n, a in zip(names, alphas, strict=True)], encoders
    )
    accuracy, distance = verdict("mixing-raises-accuracy", evidence), verdict("mixing-worsens-fid", evidence)
    assert accuracy.verdict == "supported"
    assert distance.verdict == "contradicted"
    assert accuracy.finding is not None
    assert distance.finding is not None
    assert accuracy.finding.estimate.value == pytest.approx(12, abs=0.5)
    assert distance.finding.estimate.value == pytest.approx(-0.4)


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
        assert claim.experiment in {"any", "E1", "E2", "E3", "E4", "E5", "E6", "I"}
        assert (claim.experiment == "I") == (claim.asked == "here")
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
    assert len(verdict("trend-larger-is-no-better", evidence).finding.checks) > 10  # type: ignore[union-attr]


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
            "evaluate": {"FD-EffLite2": 900 - 1000 * value + noise.normal(0, 20)},
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


FOURTEEN = ["rgb", "hog", "hog-fine", "sift", "random-cnn", *(f"effnet-lite{k}-s{s}" for k in (0, 1) for s in (8, 16, 32)),
            *(f"effnet-lite1-s{s}+clsmix0.1" for s in (8, 16, 32))]  # fmt: skip


def test_a_planted_contradiction_flips_a_verdict_and_few_encoders_give_none(tmp_path: Path) -> None:
    project_for_audit(tmp_path)
    plan = fabricate(tmp_path, FOURTEEN)
    before = verdicts(plan)
    assert before["lds-predicts"]["verdict"] == "supported"
    for job in plan.needs(Job("audit")):
        if job.stage == "evaluate":  # the same distances, to the encoders in the opposite order
            record = json.loads(plan.record_path(job).read_text())
            record["metrics"]["FD-EffLite2"] = 1800 - record["metrics"]["FD-EffLite2"]
            plan.record_path(job).write_text(json.dumps(record))
    after = verdicts(plan)
    assert after["lds-predicts"]["verdict"] == "contradicted"
    assert after["lds-predicts"]["estimate"] == pytest.approx(-before["lds-predicts"]["estimate"], abs=1e-4)
    few = verdicts(fabricate(tmp_path, FOURTEEN[:8]))
    assert few["lds-predicts"]["verdict"] == "inconclusive"
    assert few["lds-predicts"]["reason"] == "8 encoders, the rule asks for 12"
    assert "power 0.8 takes" in few["lds-predicts"]["power"]


def test_make_audit_needs_no_results(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    done = call(folder, "python", "-m", "irepa", "audit", "--published", "--json", "audit.json")
    assert done.returncode == 0, done.stderr
    assert "lds-beats-accuracy" in done.stdout
    assert "r among the best two thirds" in done.stdout
    sources = others(None)
    audit = document(WORKFLOW, sources, changes_of(WORKFLOW, sources))
    assert json.loads((folder / "audit.json").read_text()) == json.loads(json.dumps(audit))
    assert not (folder / "results").exists()
    done = call(folder, "python", "-m", "irepa", "audit", "--tier", "smoke")
    assert done.returncode != 0
    assert "is missing: run `irepa" in done.stderr


def test_a_source_without_runs_is_silent_on_every_claim_but_that_about_code() -> None:
    silent = tier([])
    assert {item.claim for item in judge(CLAIMS, silent) if item.verdict != "not testable"} == {"fewer-than-4-lines"}
    assert len(CLAIMS) >= 20

"""Results kept in the repository: what is in an archive, and that its tables and figures can be made again from its numbers."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from irepa.commands.archive import redraw, restore, save
from irepa.config.load import load_settings
from irepa.errors import CacheError, ConfigError
from irepa.pipeline.files import describe_file, write_json, write_text
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import provenance
from tests.conftest import WORKFLOW, call, copy_project, snakemake, succeed
from tests.test_pipeline import jobs


def plan_of(folder: Path) -> Plan:
    return Plan(load_settings(folder / "params.yaml", folder / "workflow"), folder)


@pytest.fixture(scope="module")
def archived(finished: Path) -> Path:
    done = call(finished, "irepa", "archive", "reports/smoke")
    assert done.returncode == 0, done.stderr
    return finished / "reports" / "smoke"


def test_an_archive_holds_numbers_and_no_weights_features_or_images(archived: Path) -> None:
    kinds = {path.suffix for path in archived.rglob("*") if path.is_file()}
    assert kinds == {".json", ".csv", ".png", ".svg", ".html", ".md", ".yaml"}
    assert sum(path.stat().st_size for path in archived.rglob("*.json")) < 2e6
    environment = json.loads((archived / "environment.json").read_text())
    assert environment["trainings"] == 6
    assert environment["images_seen"] == 6 * 6 * 16
    assert environment["core_hours"]["train"] >= 0
    assert environment["processor"]


def test_everything_is_made_again_from_the_numbers_alone(archived: Path, tmp_path: Path, finished: Path) -> None:
    """Tables, figures' data, pictures and verdicts deleted: they come back byte by byte."""
    copy = tmp_path / "smoke"
    shutil.copytree(archived, copy)
    tables = [
        "table.csv",
        "audit/verdicts.csv",
        "audit/verdicts.json",
        "figures/correlation.csv",
        "figures/ablation.png",
    ]
    before = {name: (copy / name).read_bytes() for name in tables}
    for name in tables[1:]:
        (copy / name).write_bytes(b"")
    done = call(finished, "irepa", "redraw", str(copy))
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert {name: (copy / name).read_bytes() for name in tables} == before
    assert redraw(copy, finished) == [], "the report's page is the same bytes as well"
    (copy / "figures" / "samples.csv").unlink()  # holds images, which are nowhere else in an archive
    with pytest.raises(CacheError, match=r"samples\.csv is missing"):
        redraw(copy, finished)


def test_a_number_that_was_edited_shows_in_the_table(archived: Path, tmp_path: Path, finished: Path) -> None:
    copy = tmp_path / "smoke"
    shutil.copytree(archived, copy)
    record = next(copy.glob("evaluation/**/*.json"))
    content = json.loads(record.read_text())
    content["metrics"]["FD-EffLite2"] = 1234.5
    record.write_text(json.dumps(content))
    changed = redraw(copy, finished)
    assert "table.csv" in changed
    assert "1234.5" in (copy / "table.csv").read_text()


def test_dvc_makes_it_again_in_a_fresh_clone_without_training(archived: Path, tmp_path: Path) -> None:
    clone = copy_project(tmp_path / "clone")
    copy = clone / "reports" / "smoke"
    shutil.copytree(archived, copy)
    kept = {path: path.read_bytes() for path in copy.rglob("*") if path.suffix in {".csv", ".png", ".svg"}}
    for path in (copy / "audit" / "verdicts.csv", copy / "figures" / "ablation.csv", copy / "figures" / "ablation.svg"):
        path.unlink()

    succeed(clone, "git", "init", "--quiet")
    assert "Running stage 'reports/smoke/dvc.yaml:redraw'" in succeed(clone, "dvc", "repro", "reports/smoke/dvc.yaml")
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (clone / "results").exists(), "nothing was trained"
    assert "up to date" in succeed(clone, "dvc", "repro", "reports/smoke/dvc.yaml")
    number = next(copy.glob("evaluation/**/*.json"))
    number.write_text(number.read_text() + "\n")
    assert "Running stage" in succeed(clone, "dvc", "repro", "reports/smoke/dvc.yaml"), "an edited record is noticed"


def test_a_tier_goes_on_from_its_archive(archived: Path, tmp_path: Path) -> None:
    """In a fresh clone what the archive says is not computed again, but for the runs whose pictures the report shows; what is
    added is made beside it."""
    clone = copy_project(tmp_path / "clone")
    shutil.copytree(archived, clone / "reports" / "smoke")
    assert "taken over" in succeed(clone, "irepa", "restore", "reports/smoke", "--tier", "smoke")
    table, more = "results/smoke/table.csv", "overrides={seeds: 2}"
    assert jobs(snakemake(clone, "--config", "tier=smoke", "--", table)) == {"table": 1}
    assert (clone / table).read_bytes() == (archived / "table.csv").read_bytes()
    planned = snakemake(clone, "-n", "--config", "tier=smoke", more, "--", table)
    again = {line.split()[-1] for line in planned.splitlines() if line.startswith("Job ") and line.endswith("seed0")}
    shown = {f"sit/nano-32/{of}/seed0" for of in ("none/none", "effnet-lite0-s16/repa", "effnet-lite0-s16/irepa")}
    assert again == shown
    assert jobs(planned)["train"] == 6 + len(shown)
    assert jobs(planned)["evaluate"] == 6
    assert jobs(planned)["spatial"] == 3, "a figure reads their values by distance"

    one = clone / "results/smoke/evaluation/sit/nano-32/none/none/seed1.json"
    kept = {path: path.read_bytes() for path in (clone / "results/smoke").rglob("*seed0*.json")}
    assert jobs(snakemake(clone, "--config", "tier=smoke", more, "--", str(one.relative_to(clone))))["train"] == 1
    assert "Nothing to be done" in snakemake(clone, "--config", "tier=smoke", more, "--", str(one.relative_to(clone)))
    assert {path: path.read_bytes() for path in kept} == kept


def test_records_of_other_settings_are_not_taken_over(archived: Path, tmp_path: Path) -> None:
    clone = copy_project(tmp_path / "clone")
    tier = clone / "workflow" / "tiers" / "smoke.yaml"
    tier.write_text(tier.read_text().replace("steps: 6", "steps: 7"))
    said = succeed(clone, "irepa", "restore", str(archived), "--tier", "smoke")
    assert "made from other settings or code" in said
    assert not list((clone / "results").rglob("train.json"))
    assert list((clone / "results").rglob("features.json"))


def test_an_unfinished_tier_is_not_archived(finished: Path, tmp_path: Path) -> None:
    plan = plan_of(finished)
    plan.results = tmp_path / "empty"
    kept = tmp_path / "archive" / "settings.json"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(CacheError, match="is missing"):
        save(plan, tmp_path / "archive")
    assert kept.exists(), "the archive of before"


def test_the_numbers_of_an_unfinished_tier_are_kept_and_gone_on_from(finished: Path, tmp_path: Path) -> None:
    plan, folder, clone = plan_of(finished), tmp_path / "part", copy_project(tmp_path / "clone")
    plan.results = tmp_path / "results"
    with pytest.raises(CacheError, match="tier smoke has no result yet"):
        save(plan, folder, unfinished=True)
    shutil.copytree(finished / "results" / "smoke", plan.results)
    for name in ("evaluation", "spatial"):
        shutil.rmtree(plan.results / name)
    save(plan, folder, unfinished=True)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    assert {"settings.json", "environment.json", "probe/rgb.json"} <= there
    assert not any(name.startswith(("evaluation", "spatial", "figures", "audit")) for name in there)
    with pytest.raises(CacheError, match="is of an unfinished tier: go on from it with `irepa restore"):
        redraw(folder, finished)
    said = succeed(clone, "irepa", "restore", str(folder), "--tier", "smoke")
    assert f"{len(there) - 2} records taken over" in said
    shutil.rmtree(plan.results / "probe")
    with pytest.raises(ConfigError, match=r"has probe/.*, which would be lost; `irepa restore"):
        save(plan, folder, unfinished=True)
    (folder / "dvc.yaml").touch()
    with pytest.raises(ConfigError, match=r"has dvc\.yaml, which would be lost"):
        save(plan, folder, unfinished=True)


def test_nothing_but_an_archive_is_replaced(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not to be lost")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ConfigError, match="it is there and is no archive"):
            save(plan_of(finished), place)
    assert (tmp_path / "mine.txt").read_text() == "not to be lost"


def test_distances_are_taken_over_with_the_judge_that_measured_them(tmp_path: Path) -> None:
    """The weights of a judge that the tier trains are kept. Where they are lost, its distances wait for the same network."""
    plan = Plan(load_settings({"tier": "cifar10"}, WORKFLOW), tmp_path)
    judge, measured = Job("pretrain", "judge"), Job("evaluate", "jit/medium/none/none/seed0")
    archive, weights = tmp_path / "archive", plan.outputs(judge)[1]

    def trained(network: bytes) -> None:
        for path in plan.outputs(judge)[1:]:
            write_text(path, network.decode())
        files = {path.name: describe_file(path) for path in plan.outputs(judge)[1:]}
        write_json(plan.record_path(judge), record_of(judge) | {"files": files})

    def record_of(job: Job) -> dict[str, object]:
        made = provenance(tmp_path, datetime.now(UTC), 1.0)
        said = {"stage": job.stage, "key": job.key, "fingerprint": plan.fingerprint(job)}
        return said | {"metrics": {}, "files": {}, "failed": None, "provenance": made}

    def restored() -> tuple[int, int]:
        plan.restored_path.unlink(missing_ok=True)
        plan.record_path(measured).unlink(missing_ok=True)
        found = restore(plan, archive)
        assert plan.record_path(measured).exists() == (found.unjudged == 0)
        cures[:] = found.cures
        return found.taken, found.unjudged

    cures: list[str] = []
    trained(b"one network")
    write_json(plan.record_path(measured), record_of(measured))
    save(plan, archive, unfinished=True)
    kept = archive / weights.relative_to(plan.results)
    assert kept.read_bytes() == b"one network"
    weights.unlink()
    with pytest.raises(CacheError, match=r"model\.safetensors is missing .*; run `irepa pretrain judge` again"):
        save(plan, archive, unfinished=True)
    assert kept.read_bytes() == b"one network"

    shutil.rmtree(plan.results)
    assert restored() == (2, 0)
    assert weights.read_bytes() == b"one network"

    trained(b"another one")
    assert restored() == (0, 1)
    assert cures == [f"delete {plan.record_path(judge)}, which is of another one, and restore again"]
    plan.record_path(judge).unlink()
    assert restored() == (2, 0)

    kept.unlink()
    shutil.rmtree(plan.results)
    assert restored() == (0, 1)
    asked = weights.relative_to(tmp_path).as_posix()
    assert f"train it with `snakemake --cores all {asked}` and restore again" in cures[0]
    trained(b"another one")
    assert restored() == (0, 1)
    assert "the judge that is here is another network: their runs are made again" in cures[0]
    trained(b"one network")
    assert restored() == (1, 0)

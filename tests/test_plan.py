"""Fingerprints: a job is stale exactly if its settings, its code or its inputs changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from irepa.config.load import load_settings
from irepa.config.tier import Settings
from irepa.errors import CacheError, ConfigError
from irepa.pipeline.graph import STAGES, Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.sources import installed
from tests.conftest import REPOSITORY, copy_project

Load = Callable[..., Settings]


def stages_that_differ(one: Plan, other: Plan) -> set[str]:
    shared = set(one.jobs()) & set(other.jobs())
    return {job.stage for job in shared if one.fingerprint(job) != other.fingerprint(job)}


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        ({"training.steps": 7}, {"train", "inspect", "sample", "evaluate", "table", "figure", "audit", "report"}),
        ({"sampling.samples": 40}, {"sample", "evaluate", "table", "figure", "audit", "report"}),
        ({"evaluation.kid_subsets": 5}, {"evaluate", "table", "figure", "audit", "report"}),
        ({"probe.c": 0.5}, {"probe", "table", "figure", "audit", "report"}),
        ({"title": "Another"}, {"audit", "report"}),
        ({"resources": {"train": {"mem_mb": 9}}}, set()),
        ({"sampling.batch": 3}, {"report"}),  # which lists what was changed
    ],
)
def test_a_change_of_settings_reaches_what_depends_on_it(
    settings: Load, overrides: dict[str, object], stages: set[str]
) -> None:
    assert stages_that_differ(Plan(settings(), REPOSITORY), Plan(settings(overrides=overrides), REPOSITORY)) == stages


def test_another_encoder_changes_nothing_but_adds_its_jobs(settings: Load) -> None:
    one = Plan(settings(encoders=["rgb", "hog"]), REPOSITORY)
    two = Plan(settings(encoders=["rgb", "hog", "effnet-lite0-s8"]), REPOSITORY)
    assert stages_that_differ(one, two) == {"table", "figure", "audit", "report"}
    added = {str(job) for job in set(two.jobs()) - set(one.jobs())}
    cell = "sit/nano-32/effnet-lite0-s8/repa/seed0"
    encoder = {f"{stage} effnet-lite0-s8" for stage in ("features", "spatial", "probe")}
    assert added == encoder | {f"{stage} {cell}" for stage in ("train", "sample", "evaluate")}


EDITED = r"""
import sys
from pathlib import Path
from irepa.config.load import load_settings
from irepa.pipeline.plan import Plan
root = Path(sys.argv[1])
plan = Plan(load_settings({"tier": "smoke"}, root / "workflow"), root)
for job in plan.jobs():
    print(plan.fingerprint(job), job)
"""


def fingerprints(folder: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", EDITED, str(folder)], env={"PYTHONPATH": str(folder / "src")}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return {job: value for value, job in (line.split(" ", 1) for line in done.stdout.splitlines())}


def test_an_edit_of_the_code_reaches_the_jobs_that_run_it(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    before = fingerprints(folder)
    source = folder / "src" / "irepa"
    for file, expected in (
        ("figures/ablation.py", {"figure ablation", "report"}),
        ("encoders/hog.py", None),
        ("cli.py", set()),
        ("spatial.py", None),
    ):
        path = source / file
        text = path.read_text()
        path.write_text(text + "\n# edited\n")
        assert fingerprints(folder) == before
        path.write_text(text + "\n[].append('edited')\n")
        after = fingerprints(folder)
        changed = {job for job in before if before[job] != after[job]}
        if file == "encoders/hog.py":
            assert "features hog" in changed
            assert not {"features rgb", "data", "train sit/nano-32/rgb/repa/seed0"} & changed
        elif file == "spatial.py":
            assert "spatial rgb" in changed
            assert not {job for job in changed if job.split()[0] in ("train", "features", "sample", "evaluate")}
        else:
            assert changed == expected
        before = after


def test_every_stage_is_run_by_a_module_of_its_name() -> None:
    folder = REPOSITORY / "src" / "irepa" / "stages"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(STAGES)


def test_a_stages_code_is_what_it_imports_and_no_plumbing() -> None:
    reached = {target.module for target in installed().reached(["irepa.stages.spatial"])}
    assert {"irepa.spatial", "irepa.masks", "irepa.engine.targets"} <= reached
    assert not {name for name in reached if name.startswith(("irepa.pipeline", "irepa.config", "irepa.cli"))}


def test_jobs_come_after_what_they_need(settings: Load) -> None:
    plan = Plan(settings(), REPOSITORY)
    order = plan.jobs()
    assert order[-1] == Job("report")
    for place, job in enumerate(order):
        assert all(order.index(needed) < place for needed in plan.needs(job))


def test_a_missing_or_stale_input_is_named_with_the_command(settings: Load, tmp_path: Path) -> None:
    plan = Plan(settings(results=str(tmp_path)), REPOSITORY)
    with pytest.raises(CacheError, match="run `irepa features rgb` first"):
        plan.record(Job("features", "rgb"))
    path = plan.record_path(Job("data"))
    path.parent.mkdir(parents=True)
    path.write_text('{"fingerprint": "old", "metrics": {}, "files": {}}')
    assert not plan.is_current(Job("data"))
    with pytest.raises(CacheError, match=r"data\.json was made from other settings or code: run `irepa data` again"):
        plan.record(Job("data"))


def test_a_recipe_may_draw_from_the_networks_of_another(settings: Load) -> None:
    one = {"name": "sit", "trained_as": "sit", "sampler": {"name": "ode-euler", "steps": 1}}
    changed = {"recipes.sit-1": one, "experiments.methods.recipes": ["sit", "sit-1"]}
    plan = Plan(settings(overrides=changed), REPOSITORY)
    jobs = plan.jobs()
    cell = "{}/nano-32/effnet-lite0-s16/irepa/seed0"
    assert Job("evaluate", cell.format("sit-1")) in jobs
    assert Job("train", cell.format("sit-1")) not in jobs
    assert plan.needs(Job("sample", cell.format("sit-1"))) == [Job("train", cell.format("sit"))]
    other = Plan(settings(), REPOSITORY)
    trained = Job("train", cell.format("sit"))
    assert plan.fingerprint(trained) == other.fingerprint(trained)
    with pytest.raises(ConfigError, match="name, architecture and autoencoder must be the same"):
        settings(overrides=changed | {"recipes.sit-1": one | {"architecture": "unet"}})
    with pytest.raises(ConfigError, match="trained_as: unknown value 'sitt'"):
        settings(overrides=changed | {"recipes.sit-1": one | {"trained_as": "sitt"}})


def test_the_papers_recipes_are_declared_at_its_scale() -> None:
    plan = Plan(load_settings({"tier": "imagenet256"}, REPOSITORY / "workflow", check_options=False), REPOSITORY)
    found = {(cell.split("/")[0], cell.split("/")[1]) for cell in plan.keys("train")}
    assert {
        ("repa-e", "sit-xl-2"),
        ("meanflow-4", "sit-b-2"),
        ("meanflow-cfg-4", "sit-b-2"),
        ("jit", "jit-b-16"),
        ("unet", "unet-b"),
    } <= found
    assert not any(recipe.endswith("-1") for recipe, _ in found)


def test_the_code_that_the_reports_notebook_imports_is_the_reports_code() -> None:
    reached = {target.module for target in installed().reached([str(REPOSITORY / "reports" / "report.py")])}
    assert {"irepa.audit.summary", "irepa.audit.paper"} <= reached

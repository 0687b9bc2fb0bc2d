"""Fingerprints: a job is stale exactly if its settings, its code or its inputs changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from irepa.config import plugins
from irepa.config.load import load_settings
from irepa.config.tier import EncoderEntry, Settings
from irepa.errors import CacheError, ConfigError, DataError
from irepa.pipeline import outside
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
        ("encoders/hog_blocks.py", None),
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
        if file == "encoders/hog_blocks.py":
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
    with pytest.raises(
        CacheError, match=r"data\.json was made from other settings, code or data: run `irepa data` again"
    ):
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
    with pytest.raises(ConfigError, match="name, architecture, autoencoder and training must be the same"):
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


# --- What lies outside the repository.


def folder_of(path: Path, **contents: bytes) -> Path:
    for name, content in contents.items():
        file = path / "one" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


@pytest.mark.parametrize("limit", [outside.HASHED_BYTES, 0], ids=["hashed", "listed"])
def test_files_outside_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(outside, "HASHED_BYTES", limit)
    folder = folder_of(tmp_path / "images", a=b"1234", b=b"5678")
    before = outside.identity(folder)
    assert before == outside.identity(folder)
    assert before is not None
    assert before.startswith("content 2" if limit else "listing 2")
    seen = {before}
    file = folder / "one" / "a.png"

    def changed() -> bool:
        now = outside.identity(folder)
        known = now in seen
        seen.add(now)
        return not known

    file.write_bytes(b"4321")  # of the same size
    assert changed()
    shutil.copy(file, folder / "one" / "c.png")
    assert changed()
    (folder / "one" / "c.png").rename(folder / "one" / "d.png")
    assert changed()
    (folder / "one" / "d.png").unlink()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "a.png").write_bytes(b"0")
    assert not changed()
    os.utime(file, (2e9, 2e9))
    assert changed() == (limit == 0), "what is hashed may be touched, what is listed may not"


def test_a_path_outside_may_be_a_file_a_link_or_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", a=b"1", b=b"2")
    (tmp_path / "link").symlink_to(folder)
    (folder / "one" / "again").symlink_to(folder)  # a circle
    assert outside.identity(tmp_path / "link") == outside.identity(folder)
    file = folder / "one" / "a.png"
    digest = outside.identity(file)
    shutil.copy(file, tmp_path / "elsewhere.png")
    assert outside.identity(tmp_path / "elsewhere.png") == digest
    assert outside.identity(tmp_path / "missing") is None
    (tmp_path / "empty").mkdir()
    assert outside.identity(tmp_path / "empty") is None


def image_folder(folder: Path) -> dict[str, object]:
    return {"dataset": {"name": "image-folder", "image_size": 32, "train": str(folder), "test": str(folder)}}


USED = set(STAGES) - {"latents", "autoencoder", "pretrain", "floor"}  # by the smoke tier
DOWNSTREAM = {"train", "sample", "evaluate", "table", "figure", "audit", "report"}


def test_files_outside_reach_the_jobs_that_read_them(settings: Load, tmp_path: Path) -> None:
    """Each replaced by another of the same size: checkpoint, dataset, statistics, released files, weights of an autoencoder."""
    cell = "sit/nano-32/rgb/repa/seed0"
    vae = {"name": "autoencoder-kl", "model": "own", "weights": str(tmp_path / "vae"), "precompute": True}
    network = {"name": "sit", "architecture": "sit", "sampler": {"name": "ode-heun", "steps": 2}}
    cases: list[tuple[Path, dict[str, object], set[str]]] = [
        (tmp_path / "model.pt", {"overrides": {"checkpoints": {cell: str(tmp_path / "model.pt")}}}, DOWNSTREAM),
        (tmp_path / "images", {"overrides": image_folder(tmp_path / "images")}, USED),
        (
            tmp_path / "mu.npz",
            {"overrides": {"evaluation.references": {"effnet-lite2": str(tmp_path / "mu.npz")}}},
            {"reference", "evaluate", "table", "figure", "audit", "report"},
        ),
        (tmp_path / "released", {"released": str(tmp_path / "released")}, {"audit", "report"}),
        (
            tmp_path / "vae",
            {"overrides": {"autoencoder": vae, "recipes.sit": network}},
            {"latents", "inspect", *DOWNSTREAM},
        ),
    ]  # fmt: skip
    for path, params, stages in cases:
        missing = Plan(settings(**params), REPOSITORY)
        fingerprints = {job: missing.fingerprint(job) for job in missing.jobs()}  # no refusal
        folder_of(path, a=b"1234") if path.suffix == "" else path.write_bytes(b"1234")
        one = Plan(settings(**params), REPOSITORY)
        assert fingerprints != {job: one.fingerprint(job) for job in one.jobs()}
        (path / "one" / "a.png" if path.is_dir() else path).write_bytes(b"4321")
        other = Plan(settings(**params), REPOSITORY)
        assert stages_that_differ(one, other) == stages, path.name


def test_local_weights_of_encoders_count(settings: Load, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    row = {"family": "own", "weights": str(weights)}
    for entry in (
        {"library": "timm", "model": "resnet18", **row},
        {"library": "timm-vit", "model": "vit_small_patch16_224", **row},
        {"library": "transformers", "model": "own", **row},
        {"library": "open-clip", "model": "ViT-B-16", "pretrained": "own", **row},
        {"library": "torch-fidelity", "judge": "FID", "evaluation_only": True, **row},
    ):
        assert plugins.encoder_paths(EncoderEntry(**entry), "row") == [weights]
    for name, entry in settings().catalogue.items():
        written = [Path("data/hed/vgg16.safetensors")] if entry.library == "hed" else []
        assert plugins.encoder_paths(entry, name) == written, "no other row of ours is a file"


def test_deleted_data_leaves_results_current_and_other_data_does_not(settings: Load, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", a=b"1234")
    job = Job("data")

    def plan() -> Plan:
        return Plan(settings(results=str(tmp_path / "results"), overrides=image_folder(folder)), REPOSITORY)

    first = plan()
    record = {"fingerprint": first.fingerprint(job), "metrics": {}, "files": {}, "outside": first.read_outside(job)}
    first.record_path(job).parent.mkdir(parents=True)
    first.record_path(job).write_text(json.dumps(record))
    assert plan().is_current(job)
    shutil.rmtree(folder)
    assert plan().is_current(job)
    folder_of(tmp_path / "images", a=b"4321")
    assert not plan().is_current(job)


def test_jobs_take_over_what_the_run_knows_and_look_again_at_what_they_read(
    settings: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "images", a=b"1234")
    params = {"overrides": image_folder(folder)}
    run = Plan(settings(**params), REPOSITORY)
    expected = run.fingerprint(Job("probe", "rgb"))
    run.outside.hand_over(tmp_path / "outside.json")
    monkeypatch.setenv(outside.IDENTITIES, str(tmp_path / "outside.json"))
    folder_of(folder, a=b"4321")
    job = Plan(settings(**params), REPOSITORY)
    assert job.fingerprint(Job("probe", "rgb")) == expected, "one run, one identity"
    job.check_outside(Job("probe", "rgb"))  # which reads none of it
    with pytest.raises(DataError, match="images has changed since the run started"):
        job.check_outside(Job("data"))


def test_a_recipe_sets_its_own_training(settings: Load) -> None:
    own = {"steps": 7, "betas": [0.9, 0.95], "grad_clip": None}
    tier, plain = settings(overrides={"recipes.sit.training": own}).tier, settings().tier
    changed = {"steps": 7, "betas": (0.9, 0.95), "grad_clip": None}
    assert tier.training_of("sit") == plain.training.model_copy(update=changed)
    assert tier.training == plain.training == plain.training_of("sit")
    with pytest.raises(ConfigError, match=r"recipes\.sit\.training: unknown key betaz \(did you mean betas\?\)"):
        settings(overrides={"recipes.sit.training": {"betaz": 1}})

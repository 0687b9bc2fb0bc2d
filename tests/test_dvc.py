"""dvc.yaml is what the plan says, and covers the code that computes each phase."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from irepa.commands.archive import PIPELINE, archives
from irepa.commands.archive import dvc_yaml as archive_yaml
from irepa.pipeline.dvc import dvc_yaml
from irepa.pipeline.graph import PHASES, STAGES
from tests.conftest import REPOSITORY


def test_dvc_yaml_is_generated() -> None:
    assert (REPOSITORY / "dvc.yaml").read_text() == dvc_yaml(REPOSITORY), "run `irepa dvc`"
    for folder in archives(REPOSITORY):
        assert (folder / PIPELINE).read_text() == archive_yaml(folder, REPOSITORY), "run `irepa dvc`"


def test_every_stage_is_in_one_phase() -> None:
    assert sorted(stage for members in PHASES.values() for stage in members) == sorted(STAGES)


def test_dependencies_exist_and_outputs_are_kept() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    produced = {path for stage in stages.values() for out in stage["outs"] + stage.get("metrics", []) for path in out}
    assert stages.pop("outside")["always_changed"], "it looks outside the repository, where DVC does not"
    for name, stage in stages.items():
        assert stage["cmd"].endswith(f" snakemake phase_{name} --cores all")
        for path in stage["deps"]:
            known = path in produced or (REPOSITORY / path.replace("${tier}", "demo")).exists()
            assert known, path
        assert all(options == {"persist": True} for out in stage["outs"] for options in out.values())


def test_phases_that_read_files_outside_depend_on_what_those_are() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    reading = [name for name, stage in stages.items() if "${results}/${tier}/outside.json" in stage.get("deps", [])]
    assert reading == ["data", "features", "train", "audit"]


def test_figure_code_is_a_dependency_of_the_figures_alone() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert [name for name, stage in stages.items() if "src/irepa/figures" in stage.get("deps", [])] == ["figures"]
    assert "src/irepa/engine/trainer.py" in stages["train"]["deps"]
    assert "src/irepa/encoders" in stages["features"]["deps"]


def test_the_commands_find_the_environment_that_is_not_activated(tmp_path: Path) -> None:
    """With nothing of it on the PATH, and with another one on it, which goes first."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    redraw = yaml.safe_load(archive_yaml(REPOSITORY / "reports" / "cifar10", REPOSITORY))["stages"]["redraw"]
    for command in (stages["data"]["cmd"], redraw["cmd"]):
        for folder, says in ((programs, "of .venv"), (tmp_path, "activated")):
            for name in ("snakemake", "irepa"):
                (folder / name).write_text(f"#!/bin/sh\necho {says}\n")
                (folder / name).chmod(0o755)
            path = "/usr/bin:/bin" if folder == programs else f"{tmp_path}:/usr/bin:/bin"
            done = subprocess.run(
                ["sh", "-c", command], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=True
            )
            assert done.stdout == f"{says}\n", done.stderr

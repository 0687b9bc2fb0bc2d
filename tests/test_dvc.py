"""dvc.yaml is what the plan says, and covers the code that computes each phase."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
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


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder of programs that say where they are from; its `dvc` runs a command as DVC does, in a shell."""
    (tmp_path / "workflow").mkdir()
    shutil.copy(REPOSITORY / "workflow" / "environment.sh", tmp_path / "workflow")

    def make(name: str) -> Path:
        folder = tmp_path / name / "bin"
        folder.mkdir(parents=True)
        (folder / "python3").symlink_to(sys.executable)
        run = f"#!{folder}/python3\nimport subprocess, sys\nsys.exit(subprocess.call(sys.argv[1], shell=True))\n"
        for program, text in {"dvc": run, **dict.fromkeys(("snakemake", "irepa"), f"#!/bin/sh\necho {name}\n")}.items():
            (folder / program).write_text(text)
            (folder / program).chmod(0o755)
        return folder

    return make


def test_the_commands_find_the_environment_that_is_not_activated(
    tmp_path: Path, installed: Callable[[str], Path]
) -> None:
    """That of the dvc which is called by its path, else one on the PATH, else .venv; without any the message says what to do."""
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    redraw = yaml.safe_load(archive_yaml(REPOSITORY / "reports" / "cifar10", REPOSITORY))["stages"]["redraw"]
    commands = stages["data"]["cmd"], redraw["cmd"], stages["outside"]["cmd"]

    def run(*program: object, path: str = "") -> list[str]:
        environment = {"PATH": f"{path}:/usr/bin:/bin"}
        told = [
            subprocess.run([*map(str, program), command], cwd=tmp_path, env=environment, capture_output=True, text=True)
            for command in commands
        ]
        return [done.stdout.strip() or done.stderr.strip() for done in told]

    for message in run("sh", "-c"):
        assert message.startswith(("error: there is no `snakemake` beside", "error: there is no `irepa` beside"))
    installed(".venv")
    assert run("sh", "-c") == [".venv"] * 3
    other, active = installed("other"), installed("active")
    assert run("sh", "-c", path=str(active)) == ["active"] * 3
    assert run(other / "dvc") == ["other"] * 3
    assert run(other / "python3", other / "dvc") == ["other"] * 3
    assert run(other / "dvc", path=str(active)) == ["other"] * 3
    (other / "snakemake").unlink()  # as where pipx has installed dvc alone
    (other / "irepa").unlink()
    assert run(other / "dvc", path=str(active)) == ["active"] * 3

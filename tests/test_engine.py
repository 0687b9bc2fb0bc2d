"""Runs that die: killed, preempted, diverged, out of disk; and runs of several processes. All through the command line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.conftest import BIN, call, copy_project, snakemake

CELL = "sit/nano-32/effnet-lite0-s16/irepa/seed0"
STEPS = 60


def configure(folder: Path, **training: object) -> None:
    overrides = {f"training.{key}": value for key, value in {"steps": STEPS, "log_every": 1, **training}.items()}
    (folder / "params.yaml").write_text(yaml.safe_dump({"tier": "smoke", "overrides": overrides}))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke tier up to its features, and the weights of an uninterrupted run."""
    folder = copy_project(tmp_path_factory.mktemp("engine") / "project")
    configure(folder)
    for command in (("data",), ("features", "effnet-lite0-s16"), ("train", CELL)):
        done = call(folder, "irepa", *command)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    """A copy in which the run has not been made yet."""
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    shutil.rmtree(run_folder(folder))
    return folder


def run_folder(folder: Path) -> Path:
    return folder / "results" / "smoke" / "runs" / CELL


def weights(folder: Path) -> str:
    return hashlib.sha256((run_folder(folder) / "model.safetensors").read_bytes()).hexdigest()


def curve(folder: Path) -> str:
    return (run_folder(folder) / "loss.jsonl").read_text()


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in curve(folder).splitlines()]


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "irepa", "train", CELL]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def steps_saved(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run_folder(folder) / "checkpoints").glob("step-*"))


def wait_for(folder: Path, job: subprocess.Popen[str], step: int) -> None:
    """Until a checkpoint of at least this step is there."""
    deadline = time.monotonic() + 120
    while not any(saved >= step for saved in steps_saved(folder)):
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_run_killed_three_times_ends_with_the_same_bytes(prepared: Path, project: Path) -> None:
    configure(project, checkpoint_every=3)
    reached: list[int] = []
    for step in (3, 20, 41):
        job = start(project)
        wait_for(project, job, step)
        job.send_signal(signal.SIGKILL)
        job.communicate()
        reached.append(steps_saved(project)[-1])
    assert reached == sorted(set(reached))
    assert reached[-1] < STEPS
    assert not (run_folder(project) / "train.json").exists()
    job = start(project)
    _, said = job.communicate()
    assert job.returncode == 0, said
    assert weights(project) == weights(prepared)
    assert curve(project) == curve(prepared)
    assert not (run_folder(project) / "checkpoints").exists()


def test_sigterm_saves_and_exits_as_a_temporary_failure(prepared: Path, project: Path) -> None:
    configure(project, checkpoint_every=5)
    job = start(project)
    wait_for(project, job, 5)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate()
    assert job.returncode == 75, said
    last = steps_saved(project)[-1]
    assert f"SIGTERM at step {last} of {STEPS}: the last checkpoint is" in said
    job = start(project)
    job.communicate()
    assert job.returncode == 0
    assert weights(project) == weights(prepared)


def test_checkpoints_of_other_settings_are_not_resumed_and_damaged_ones_are_named(project: Path) -> None:
    configure(project, checkpoint_every=5)
    job = start(project)
    wait_for(project, job, 5)
    job.kill()
    job.communicate()
    last = run_folder(project) / "checkpoints" / f"step-{steps_saved(project)[-1]:09d}"
    content = (last / "optimizer.bin").read_bytes()
    (last / "optimizer.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = call(project, "irepa", "train", CELL)
    assert done.returncode == 1
    assert f"{last.relative_to(project)}/optimizer.bin is damaged: its content is not what was written" in done.stderr
    configure(project, checkpoint_every=5, lr=2e-3, steps=10)
    done = call(project, "irepa", "train", CELL)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in losses(project)] == list(range(1, 11))


def test_two_processes_have_the_losses_of_one(prepared: Path, project: Path) -> None:
    configure(project, processes=2, accumulation=2)
    done = call(project, "irepa", "train", CELL)
    assert done.returncode == 0, done.stderr
    one, two = losses(prepared)[:20], losses(project)[:20]
    assert [row["step"] for row in two] == list(range(1, 21))
    for name in ("loss", "denoise", "align", "grad_norm"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=2e-4), name
    assert not (run_folder(project).parent / "seed0" / "processes").exists()


def test_a_precision_that_the_machine_lacks_is_refused_before_any_job(project: Path) -> None:
    configure(project, precision="fp16")
    done = call(project, "irepa", "check")
    assert done.returncode == 1
    assert "training.precision = fp16 needs a CUDA device; allowed here are fp32, bf16" in done.stderr


def test_a_diverged_run_is_marked_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    overrides: dict[str, Any] = {
        "training": {"steps": 40, "batch": 8, "lr": 1e30, "grad_clip": 1e30, "log_every": 1, "checkpoint_every": 1},
        "encoders": ["rgb"],
        "experiments": {"methods": {"question": "?", "methods": ["none", "repa"], "encoders": ["rgb"]}},
        "figures": {"ablation": {"kind": "ablation", "experiment": "methods"}},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump({"tier": "smoke", "overrides": overrides}))
    snakemake(folder)
    results = folder / "results" / "smoke"
    table = pd.read_csv(results / "table.csv")
    failed = table[table["metric"] == "failed"]
    assert set(failed["stage"]) == {"train", "evaluate"}
    message = r"at step \d+ of 40 with lr = 1e\+30: training diverged; lower training\.lr; (?:the last|no) checkpoint"
    assert failed["failed"].str.contains(message).all()
    figure = json.loads((results / "figures" / "ablation.json").read_text())
    assert "every run of experiment methods has failed" in figure["failed"]
    assert "training runs failed" in (results / "report.html").read_text()
    assert (table[table["stage"] == "probe"]["metric"] == "accuracy").any()
    status = call(folder, "irepa", "status").stdout
    assert "train         2 of    2 up to date, 2 of them failed" in status


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Skipped where it cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_is_intact(
    prepared: Path, project: Path, small_disk: Path
) -> None:
    configure(project, checkpoint_every=1)
    run_folder(project).parent.mkdir(parents=True, exist_ok=True)
    (run_folder(project)).symlink_to(small_disk)
    (small_disk / "filler").write_bytes(b"x" * 2_300_000)
    done = call(project, "irepa", "train", CELL)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr, done.stderr
    assert "MiB were free); the last checkpoint is" in done.stderr, done.stderr
    (small_disk / "filler").unlink()
    kept = steps_saved(project)
    assert len(kept) == 1
    done = call(project, "irepa", "train", CELL)
    assert done.returncode == 0, done.stderr
    assert weights(project) == weights(prepared)


def test_a_disk_that_becomes_read_only_is_a_clear_error(prepared: Path, project: Path, small_disk: Path) -> None:
    configure(project, checkpoint_every=1, steps=400)
    run_folder(project).symlink_to(small_disk)
    job = start(project)
    wait_for(project, job, 1)
    for _ in range(1000):  # the mount is refused as busy at the moments when a file is open for writing
        if subprocess.run(["mount", "-o", "remount,ro", small_disk], capture_output=True).returncode == 0:
            break
        time.sleep(0.003)
    _, said = job.communicate()
    assert job.returncode == 1
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: checkpoint at step") or last.startswith("error: cannot write"), said
    assert "Read-only file system" in last
    done = call(project, "irepa", "train", CELL)  # from the start on a disk that cannot be written
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr

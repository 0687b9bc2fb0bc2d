"""The profiles: what they ask of a cluster. Slurm itself is tried by `make test-slurm`."""

from __future__ import annotations

from dataclasses import fields

import yaml

from tests.conftest import REPOSITORY

PROFILES = REPOSITORY / "workflow" / "profiles"


def test_slurm_takes_back_what_it_preempted_and_snakemake_goes_on_past_failures() -> None:
    from snakemake_executor_plugin_slurm import ExecutorSettings

    profile = yaml.safe_load((PROFILES / "slurm" / "config.yaml").read_text())
    settings = {key.removeprefix("slurm-").replace("-", "_") for key in profile if key.startswith("slurm-")}
    assert settings <= {field.name for field in fields(ExecutorSettings)}
    # Without it, Snakemake waits forever for a job whose last state is PREEMPTED, and submits again what Slurm itself requeued.
    assert profile["slurm-requeue"] is True
    assert profile["retries"] > 0
    assert profile["keep-going"] is True
    assert profile["rerun-incomplete"] is True

"""The profiles: what they ask of a cluster. Slurm itself is tried by `make test-slurm`."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml

from tests.conftest import REPOSITORY

PROFILES = REPOSITORY / "workflow" / "profiles"


def test_clusters_retry_what_was_preempted_and_go_on_past_failures() -> None:
    for name in ("slurm", "kubernetes"):
        profile = yaml.safe_load((PROFILES / name / "config.yaml").read_text())
        assert profile["retries"] > 0
        assert profile["keep-going"] is True
        assert profile["rerun-incomplete"] is True


def submit(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROFILES / "kubernetes" / "job.py"), "submit", "--print"]
    sizes = ["--cpus", "16", "--memory", "64000", "--minutes", "90", "--gpus", "2"]
    return subprocess.run(
        [*command, *sizes, *arguments], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )


def test_a_kubernetes_job_asks_for_the_resources_of_its_stage() -> None:
    done = submit({"IREPA_IMAGE": "irepa:1", "IREPA_CLAIM": "claim", "IREPA_MOUNT": "/work"}, "script.sh")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["spec"]["activeDeadlineSeconds"] == 90 * 60
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": 16, "memory": "64000Mi", "nvidia.com/gpu": 2}
    assert container["command"] == ["bash", str(REPOSITORY / "script.sh")]
    assert container["workingDir"] == str(REPOSITORY)
    assert container["volumeMounts"][0]["mountPath"] == "/work"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "claim"


def test_a_missing_image_is_named() -> None:
    done = submit({"IREPA_CLAIM": "claim"}, "script.sh")
    assert done.returncode == 1
    assert "IREPA_IMAGE is not set" in done.stderr

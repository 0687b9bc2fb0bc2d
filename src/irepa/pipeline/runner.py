"""Run one job: hand its inputs to the stage, then write its record with fingerprint, checksums and provenance."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
import os
import platform
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from irepa.config.tier import JobResources, Settings, Tier
from irepa.errors import FailedRunError
from irepa.pipeline.files import (
    UNWRITABLE,
    Json,
    Record,
    describe_file,
    remove_orphans,
    unwritable,
    write_json,
    write_text,
)
from irepa.pipeline.graph import STAGES, Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.processor import bf16_products, prepare

log = logging.getLogger("irepa")

RECORDED_PACKAGES = (
    "irepa",
    "torch",
    "torchvision",
    "accelerate",
    "diffusers",
    "open-clip-torch",
    "transformers",
    "timm",
    "torch-fidelity",
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
    "kornia",
    "pandas",
)
WORKFLOW_PACKAGES = ("snakemake", "dvc")  # which no job imports: the workflow tells their versions
WORKFLOW_VERSIONS = "IREPA_WORKFLOW_VERSIONS"  # the environment variable by which it does


@dataclass(frozen=True)
class Context:
    """What a stage's ``run`` is given: the settings, the records of its inputs and the names of its outputs."""

    plan: Plan
    job: Job

    @property
    def key(self) -> str:
        return self.job.key

    @property
    def settings(self) -> Settings:
        return self.plan.settings

    @property
    def tier(self) -> Tier:
        return self.plan.settings.tier

    @property
    def resources(self) -> JobResources:
        return self.tier.resources.get(self.job.stage, JobResources())

    @property
    def fingerprint(self) -> str:
        return self.plan.fingerprint(self.job)

    def input(self, stage: str, key: str = "") -> Record:
        """The record of a job that this one needs. Raises CacheError where it is missing, stale or damaged."""
        return self.plan.record(Job(stage, key))

    def output(self, ending: str) -> Path:
        """The declared output with this ending, its folder made."""
        matching = [path for path in self.plan.outputs(self.job) if str(path).endswith(ending)]
        if len(matching) != 1:
            raise KeyError(f"stage {self.job.stage} declares {len(matching)} outputs ending in {ending!r}")
        matching[0].parent.mkdir(parents=True, exist_ok=True)
        return matching[0]


def execute(plan: Plan, job: Job) -> Record:
    """Run a job whether or not it is up to date. Raises IrepaError; nothing of it is left behind then.

    Without a record the files of a failed job do not count, and the next run replaces them. Where a failure is itself a finding,
    a training that diverged, the record says so instead of naming files, and so do those of the jobs that need it.
    """
    started = datetime.now(UTC)
    clock = time.perf_counter()
    stage = STAGES[job.stage]
    needed = {str(other): plan.record(other) for other in plan.needs(job)}
    record_path = plan.record_path(job)
    lost = {} if stage.tolerates_failure else {name: record.failed for name, record in needed.items() if record.failed}
    plan.check_outside(job)
    log.info("%s: started", job)
    for folder in {path.parent for path in plan.outputs(job)}:
        for orphan in remove_orphans(folder):
            log.info("removed %s, which a job that was killed has left", orphan)
    metrics: Json = {}
    failed: str | None = next(iter(lost.values()), None)
    try:
        record_path.unlink(missing_ok=True)
        if failed is None:
            try:
                module = importlib.import_module(f"irepa.stages.{job.stage}")
                prepare()
                metrics = module.run(Context(plan, job))
            except FailedRunError as error:
                if not stage.may_fail:
                    raise
                failed = f"{job}: {error}"
        plan.check_outside(job)
        files = [path for path in plan.outputs(job) if path != record_path]
        if failed is not None:
            log.error("%s", failed)
            for path in files:  # Snakemake asks for every output; the record lists none
                write_text(path, "")
        write_json(
            record_path,
            {
                "stage": job.stage,
                "key": job.key,
                "fingerprint": plan.fingerprint(job),
                "inputs": {name: record.fingerprint for name, record in needed.items()},
                "settings": plan.slice(job),
                "outside": plan.read_outside(job),
                "metrics": metrics,
                "failed": failed,
                "files": {
                    str(path.relative_to(record_path.parent)): describe_file(path) for path in files if failed is None
                },
                "provenance": provenance(plan.root, started, time.perf_counter() - clock),
            },
        )
    except BaseException as error:
        for path in plan.outputs(job):
            with suppress(OSError):  # what cannot be written cannot be removed either; the reason is the error itself
                path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise unwritable(Path(error.filename or plan.results), error) from error
        raise
    log.info("%s: finished in %.1f s", job, time.perf_counter() - clock)
    return Record(record_path)


@functools.cache
def git_state(root: Path) -> tuple[str | None, bool | None]:
    """(revision, whether tracked files differ from it), or (None, None) outside a checkout."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(root), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    revision = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return revision, bool(changed) if revision is not None else None


def version(package: str) -> str | None:
    """Of an installed package; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def workflow_versions() -> str:
    """The versions of what runs the workflow, as its jobs are told them: ``snakemake=9.1 dvc=3.6``."""
    return " ".join(f"{package}={version(package)}" for package in WORKFLOW_PACKAGES if version(package))


def versions() -> dict[str, str | None]:
    """Of the packages that numbers depend on, here, and of the workflow that has started this job, if one has."""
    told = dict(item.split("=", 1) for item in os.environ.get(WORKFLOW_VERSIONS, workflow_versions()).split())
    here = {package: version(package) for package in RECORDED_PACKAGES}
    return here | {package: told.get(package) for package in WORKFLOW_PACKAGES}


def provenance(root: Path, started: datetime, seconds: float) -> dict[str, Any]:
    """Where, when and with what a number was made. Everything that may differ between two equal runs is in here."""
    revision, dirty = git_state(root)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "git_revision": revision,
        "git_dirty": dirty,
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "bf16_products": bf16_products(),
        "gpu": torch.cuda.get_device_name() if torch is not None and cuda else None,
        "threads": torch.get_num_threads() if torch is not None else None,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }

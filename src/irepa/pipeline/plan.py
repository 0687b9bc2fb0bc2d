"""The jobs of one tier: their files, their fingerprints, and which of them are up to date.

A job's fingerprint is a hash of its settings, of what its code means (:mod:`irepa.pipeline.sources`), of the files outside the
repository that it reads (:mod:`irepa.pipeline.outside`) and of the fingerprints of the jobs that it needs. It stands in the
record that the job writes. A result is up to date if the fingerprint in its record is the expected one: modification times of
results say nothing, so that they may be copied, pulled or touched at will.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from irepa.config import plugins
from irepa.config.read import read_yaml
from irepa.config.tier import Settings
from irepa.errors import CacheError, ConfigError, DataError
from irepa.pipeline.files import Record, read_json, sha256
from irepa.pipeline.graph import STAGES, Job, Slice
from irepa.pipeline.outside import Outside, identity
from irepa.pipeline.sources import code_digest


class Plan:
    """The jobs of one tier, their files below ``root`` and their fingerprints."""

    def __init__(self, settings: Settings, root: Path) -> None:
        """Raises ConfigError where the tier has resources for a stage that does not exist."""
        for stage in settings.tier.resources:
            if stage not in STAGES:
                raise ConfigError.unknown(f"tier {settings.params.tier}: resources", stage, STAGES)
        self.settings = settings
        self.root = root
        self.results = root / settings.params.results / settings.params.tier
        self.outside = Outside.handed_over()
        self.remembered_in = [self.results]  # where to look for records of what has been deleted since
        self._fingerprints: dict[Job, str] = {}

    def needs(self, job: Job) -> list[Job]:
        return STAGES[job.stage].needs(self.settings, job.key)

    def jobs(self, goal: Iterable[Job] = (Job("report"),)) -> list[Job]:
        """Every job that the goal needs, needed ones first."""
        order: dict[Job, None] = {}

        def visit(job: Job) -> None:
            if job not in order:
                for needed in self.needs(job):
                    visit(needed)
                order[job] = None

        for job in goal:
            visit(job)
        return list(order)

    def keys(self, stage: str) -> list[str]:
        """The keys of a stage's jobs in this tier."""
        return [job.key for job in self.jobs() if job.stage == stage]

    def knows(self, job: Job) -> bool:
        """Whether the job is one of this tier's."""
        return job in self.jobs()

    def outputs(self, job: Job) -> list[Path]:
        return [self.results / pattern.format(key=job.key) for pattern in STAGES[job.stage].outputs]

    def scratch(self, job: Job) -> list[Path]:
        """The outputs that are deleted once they have been read; none where the tier keeps its samples."""
        patterns = () if self.settings.tier.sampling.keep else STAGES[job.stage].scratch
        return [self.results / pattern.format(key=job.key) for pattern in patterns]

    def inputs(self, job: Job) -> list[Path]:
        """Every file that the job reads."""
        return [path for needed in self.needs(job) for path in self._read(job, needed)]

    def _read(self, job: Job, needed: Job) -> list[Path]:
        """The files of a job that another one reads."""
        stage = STAGES[job.stage]
        if needed.stage in stage.reads_record_of:
            return [self.record_path(needed)]
        return [path for path in self.outputs(needed) if stage.reads_scratch or path not in self.scratch(needed)]

    def record_path(self, job: Job) -> Path:
        return self.outputs(job)[0]

    def record_name(self, job: Job) -> str:
        """The record's path below the tier's results: how tables and verdicts name it."""
        return STAGES[job.stage].outputs[0].format(key=job.key)

    def slice(self, job: Job) -> Slice:
        """The settings that the job's result depends on."""
        return STAGES[job.stage].settings(self.settings, job.key)

    def read_outside(self, job: Job) -> dict[str, str | None]:
        """The files and folders outside the repository that the job's result depends on, by path: which they are.

        Of a path where nothing is any more the job's record says which it was: that a dataset has been deleted makes no result
        wrong. It is None where the record does not say. Raises DataError where a path cannot be read.
        """
        read = {str(path): self.outside[path] for path in STAGES[job.stage].outside(self.settings, job.key)}
        if None in read.values():
            recorded = self._recorded_outside(job)
            read = {path: recorded.get(path) if found is None else found for path, found in read.items()}
        return read

    def _recorded_outside(self, job: Job) -> dict[str, str | None]:
        recorded: dict[str, str | None] = {}
        for folder in self.remembered_in:
            with suppress(CacheError):
                recorded |= Record(folder / self.record_name(job)).content.get("outside") or {}
        return recorded

    def all_outside(self) -> dict[str, str | None]:
        """:meth:`read_outside` of all jobs."""
        return {path: which for job in self.jobs() for path, which in self.read_outside(job).items()}

    def check_outside(self, job: Job) -> None:
        """Raises DataError where a file outside the repository that the job reads is not what it was when the run started."""
        for path in STAGES[job.stage].outside(self.settings, job.key):
            if identity(path) != self.outside[path]:
                raise DataError(f"{path} has changed since the run started: run again when nothing writes to it")

    def fingerprint(self, job: Job) -> str:
        if job not in self._fingerprints:
            stage = STAGES[job.stage]
            chosen = [plugins.module_name(kind, name) for kind, name in stage.plugins(self.settings, job.key)]
            modules = [*own_modules(job.stage, self.root), *chosen]
            parts = {
                "job": str(job),
                "settings": self.slice(job),
                "code": code_digest(frozenset(modules)),
                "sources": {name: content_digest(self.root / name) for name in stage.sources},
                "inputs": {str(needed): self.fingerprint(needed) for needed in self.needs(job)},
            }
            if outside := self.read_outside(job):
                parts["outside"] = outside
            text = json.dumps(parts, sort_keys=True).encode()
            self._fingerprints[job] = hashlib.sha256(text).hexdigest()
        return self._fingerprints[job]

    def is_current(self, job: Job) -> bool:
        """Whether the job's record is there and was made from the present settings, code, inputs and files outside."""
        try:
            return Record(self.record_path(job)).fingerprint == self.fingerprint(job)
        except CacheError:
            return False

    @property
    def restored_path(self) -> Path:
        """Which records were taken over from an archive: their checksums by path below the tier's results."""
        return self.results / "restored.json"

    def spared(self) -> set[Job]:
        """Jobs whose records were taken over from an archive, and of which nothing else is read by a job that has to run.

        What they need does not have to be made again.
        """
        if not self.restored_path.exists():
            return set()
        restored = read_json(self.restored_path)
        run: set[Job] = set()

        def visit(job: Job, wanted: list[Path]) -> None:
            if job in run or (self.is_current(job) and all(path.exists() for path in wanted)):
                return
            run.add(job)
            for needed in self.needs(job):
                visit(needed, self._read(job, needed))

        visit(Job("report"), self.outputs(Job("report")))
        return {job for job in self.jobs() if job not in run and self._is_restored(job, restored)}

    def _is_restored(self, job: Job, restored: dict[str, str]) -> bool:
        path = self.record_path(job)
        known = restored.get(path.relative_to(self.results).as_posix())
        return known is not None and path.exists() and sha256(path) == known

    def record(self, job: Job) -> Record:
        """The record of a finished job. Raises CacheError where it is missing or was made from something else."""
        path = self.record_path(job)
        if not path.exists():
            raise CacheError(f"{path} is missing: run `irepa {job}` first, or let snakemake do it")
        record = Record(path)
        if record.fingerprint != self.fingerprint(job):
            raise CacheError(
                f"{path} was made from other settings, code or data: run `irepa {job}` again, or snakemake"
            )
        return record


def own_modules(stage: str, root: Path) -> list[str]:
    """The module of a stage, and those of its sources that are Python, such as the report's notebook."""
    scripts = [str(root / name) for name in STAGES[stage].sources if name.endswith(".py")]
    return [f"irepa.stages.{stage}", *scripts]


@functools.cache
def content_digest(path: Path) -> str:
    """Hash of a file that a job reads from the repository; of YAML, what it says counts and not how."""
    if path.suffix in (".yaml", ".yml"):
        return hashlib.sha256(json.dumps(read_yaml(path), sort_keys=True, default=str).encode()).hexdigest()
    return sha256(path)

"""A tier that has run to its end, as one object that the report reads everything from."""

from __future__ import annotations

import json
import os
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from irepa.audit.changes import read_changes
from irepa.config.load import load_settings
from irepa.config.tier import Settings, Tier
from irepa.errors import CacheError, ConfigError
from irepa.pipeline.files import Json, Record, read_json, write_text
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.table import distance_name, read_table

REPORT = Job("report")
HANDED_OVER = "IREPA_REPORT"  # environment variable: the file in which the stage says what the notebook is to show


class AsIs(Plan):
    """A plan whose results are taken as they are, whatever settings and code they were made from."""

    def __init__(self, settings: Settings, root: Path, results: Path) -> None:
        super().__init__(settings, root)
        self.results = results

    def record(self, job: Job) -> Record:
        return Record(self.record_path(job))

    def is_current(self, job: Job) -> bool:
        return self.record_path(job).exists()


@dataclass(frozen=True)
class FinishedTier:
    """Settings and results of one tier.

    Attributes:
        plan: where its results are.
        base: what links put before a path below the results; empty where the page lies among them.
        outdated: jobs behind the report that were made from other settings or code than the present ones.
    """

    plan: AsIs
    base: str = ""
    outdated: tuple[Job, ...] = ()

    @property
    def settings(self) -> Settings:
        return self.plan.settings

    @property
    def tier(self) -> Tier:
        return self.settings.tier

    @property
    def name(self) -> str:
        return self.settings.params.tier

    @property
    def _context(self) -> Context:
        return Context(self.plan, REPORT)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every number of the tier, a row each (:mod:`irepa.table`)."""
        return read_table(self._context)

    @cached_property
    def audit(self) -> Json:
        """The audit: ``sources``, ``claims``, ``discrepancies``, and ``records``, the files behind them."""
        return read_json(self.file(Job("audit"), "verdicts.json"))

    @property
    def claims(self) -> list[Json]:
        return list(self.audit["claims"])

    @property
    def sources(self) -> list[str]:
        """Where evidence comes from: the published numbers, and this tier last."""
        return [source["name"] for source in self.audit["sources"]]

    @cached_property
    def changes(self) -> pd.DataFrame:
        """Every change that a source measured (:func:`irepa.audit.changes.measure_changes`)."""
        return read_changes(self.file(Job("audit"), "changes.csv"))

    @cached_property
    def records(self) -> list[Record]:
        """The records behind the report, in the order in which jobs need each other; an archive keeps most of them."""
        jobs = self.plan.jobs(self.plan.needs(REPORT))
        return [self.plan.record(job) for job in jobs if self.plan.record_path(job).exists()]

    @property
    def distance(self) -> str:
        """The name of the Frechet distance under the first judge."""
        return distance_name(self._context)

    @property
    def kernel_distance(self) -> str:
        """The name of the kernel distance under the first judge."""
        return self.settings.catalogue[self.tier.evaluation.extractors[0]].metric_name("KID")

    def file(self, job: Job, ending: str) -> Path:
        """The output of a job that has this ending, verified. Raises CacheError where it is missing or damaged."""
        return self.plan.record(job).file(self._output(job, ending).name)

    def link(self, name: str, text: str = "") -> str:
        """A Markdown link to a file, by its path below the results; its text is the path where none is given."""
        return f"[{text or f'`{name}`'}]({self.base}{name})"

    def link_to(self, job: Job, ending: str, text: str = "") -> str:
        """A Markdown link to the output of a job that has this ending."""
        return self.link(self.below(job, ending), text)

    def below(self, job: Job, ending: str) -> str:
        """Path below the results of the output of a job that has this ending."""
        return self._output(job, ending).relative_to(self.plan.results).as_posix()

    def _output(self, job: Job, ending: str) -> Path:
        return Context(self.plan, job).output(ending)


def open_tier() -> FinishedTier:
    """The tier that the stage has handed over or, in a notebook opened by hand, the one that ``params.yaml`` names.

    Raises ConfigError outside the repository, and CacheError where the tier has not run to its end.
    """
    if HANDED_OVER in os.environ:
        told = read_json(Path(os.environ[HANDED_OVER]))
        settings = Settings.model_validate(told["settings"])
        return FinishedTier(AsIs(settings, Path(told["root"]), Path(told["results"])))
    root = repository(Path.cwd())
    plan = Plan(load_settings(root / "params.yaml", root / "workflow", check_options=False), root)
    behind = plan.needs(REPORT)
    for job in behind:
        if not plan.record_path(job).exists():
            raise CacheError(
                f"{plan.record_path(job)} is missing: {root / 'params.yaml'} names the tier {plan.settings.params.tier}, which "
                f"has not run to its end; run `snakemake --cores all` first, or name a tier that has"
            )
    with chdir(root):  # files outside the repository may be named relative to it
        outdated = tuple(job for job in behind if not plan.is_current(job))
    base = Path(os.path.relpath(plan.results, root / "reports")).as_posix()
    return FinishedTier(AsIs(plan.settings, root, plan.results), f"{base}/", outdated)


def hand_over(plan: Plan, file: Path) -> dict[str, str]:
    """Write down for :func:`open_tier` which tier to show; returns the environment variables that name the file."""
    told = {
        "settings": plan.settings.model_dump(mode="json"),
        "root": str(plan.root.resolve()),
        "results": str(plan.results.resolve()),
    }
    write_text(file, json.dumps(told))
    return {HANDED_OVER: str(file)}


def repository(folder: Path) -> Path:
    """The copy of the repository that a folder is in. Raises ConfigError where it is in none."""
    for place in (folder, *folder.parents):
        if (place / "params.yaml").is_file() and (place / "workflow").is_dir():
            return place
    raise ConfigError(f"{folder} is in no copy of the repository: no params.yaml and workflow/ there or above it")

"""Results kept in the repository: every number of a finished tier, without weights, features and images.

The weights of a judge that the tier trains are kept, a few MB: trained again on another processor it is another network.

An archive has the layout of ``results/<tier>``. From its records the table, figures, verdicts and report are made again, by the
present code, without training anything: ``irepa redraw``, or ``dvc repro`` of the archive's own ``dvc.yaml``. What the records
were made from stands in them; it need not be what the code would make today, so their fingerprints are not compared, while
damage to a file is noticed as ever.

A tier is also continued from its archive (``irepa restore``): what the records say need not be computed again, where the present
settings and code would compute the same.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from irepa.config.tier import Settings
from irepa.errors import CacheError, ConfigError
from irepa.pipeline.dvc import WITH_ENVIRONMENT, code
from irepa.pipeline.files import Json, Record, describe_file, read_json, sha256, whole, write_json, write_text
from irepa.pipeline.graph import Job, kept, trained_judges, written
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context, versions
from irepa.report.cost import costs
from irepa.report.tier import AsIs

SETTINGS, ENVIRONMENT, PIPELINE = "settings.json", "environment.json", "dvc.yaml"
RECORDS, WHOLE = kept("record"), kept("everything")  # what is whole can be made again from the records


class Archive(AsIs):
    """A plan whose results lie in a folder of the repository and are taken as they are."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Raises CacheError where the folder is no archive."""
        super().__init__(Settings.model_validate(read_json(folder / SETTINGS)), root, folder)


def save(plan: Plan, folder: Path, unfinished: bool = False) -> int:
    """Copy a finished tier's numbers, table, figures, verdicts and report; returns how many files.

    An archive that is there is replaced, once everything has been found. Raises CacheError where a result is missing or out of
    date, and ConfigError for a folder, or a file, that is something else.

    unfinished: copy the numbers that are there, and nothing that is made of all of them. Nothing can be done with it but go on.
    It replaces no archive of a finished tier, and none that has a number that is not there now: ConfigError.
    """
    if folder.exists() and not (folder / SETTINGS).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: it is there and is no archive; give a new folder, or an archive, which is replaced"
        )
    jobs = _done(plan) if unfinished else plan.jobs()
    paths: list[Path] = []
    judges = trained_judges(plan.settings)
    for job in jobs:
        if job.stage in (*RECORDS, *WHOLE):
            record = plan.record(job)
            if job.stage in WHOLE or job in judges:
                record.files()  # refuses what is missing or damaged, before anything is replaced
                paths += plan.outputs(job)
            else:
                paths.append(record.path)
    if unfinished and (lost := _lost(folder, {path.relative_to(plan.results) for path in paths})):
        raise ConfigError(
            f"{folder} has {lost}, which would be lost; `irepa restore {folder}` first, or give another folder"
        )
    made_with = environment([plan.record(job) for job in jobs if plan.is_current(job)])
    if folder.exists():
        shutil.rmtree(folder)
    for path in paths:
        target = folder / path.relative_to(plan.results)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    write_text(folder / SETTINGS, plan.settings.model_dump_json(indent=2) + "\n")
    write_json(folder / ENVIRONMENT, made_with)
    if unfinished:
        return len(paths) + 2
    write_text(folder / PIPELINE, dvc_yaml(folder, plan.root))
    return len(paths) + 3


def _lost(folder: Path, kept: set[Path]) -> Path | None:
    """A file of an archive that an unfinished one in its place would not have; None where there is none."""
    there = sorted(path.relative_to(folder) for path in folder.rglob("*.json")) if folder.exists() else []
    made = [Path(PIPELINE)] if (folder / PIPELINE).exists() else []
    return next(
        (path for path in (*made, *there) if path not in kept and path.name not in (SETTINGS, ENVIRONMENT)), None
    )


def _done(plan: Plan) -> list[Job]:
    """The jobs whose records are there and up to date. Raises CacheError where there is none."""
    jobs = [job for job in plan.jobs() if job.stage in RECORDS and plan.is_current(job)]
    if not jobs:
        raise CacheError(f"tier {plan.settings.params.tier} has no result yet that an archive could keep")
    return jobs


@dataclass(frozen=True)
class Restored:
    """How many records were taken over from an archive, and how many were not.

    Attributes:
        taken: they are here now.
        other: made from other settings or code.
        unjudged: measured by another network than the judge that is here, or by one whose weights are nowhere.
        cures: what to do about each such judge.
    """

    taken: int
    other: int
    unjudged: int
    cures: list[str]


def restore(plan: Plan, folder: Path) -> Restored:
    """Take over the records of an archive that are what the plan would make.

    The rest of a tier is then made beside them: more seeds, encoders or experiments. A distance is taken over where further ones
    will be measured by the same network. Raises CacheError where there is no archive, or where a judge's weights are damaged.
    """
    archive, taken, other, unjudged = Archive(folder, plan.root), {}, 0, 0
    lacking: dict[Job, None] = {}
    judges = trained_judges(plan.settings)
    # A judge is hashed once, and asked about after its own turn.
    same = functools.cache(functools.partial(_is_same, plan, archive))
    plan.remembered_in.append(folder)  # a dataset that is not on this machine is taken to be that of the archive
    for job in plan.jobs():
        source, target = archive.record_path(job), plan.record_path(job)
        if job.stage not in RECORDS or not source.exists() or plan.is_current(job):
            continue
        if Record(source).fingerprint != plan.fingerprint(job):
            other += 1
            continue
        if job in judges and not _has_files(archive, job):  # without its weights it can measure nothing
            continue
        others = [of for of in plan.needs(job) if of in judges and not same(of)]
        if others:
            lacking |= dict.fromkeys(others)
            unjudged += 1
            continue
        for path in archive.outputs(job) if job in judges else [source]:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole(target.parent / path.name) as temporary:
                shutil.copyfile(path, temporary)
        taken[plan.record_name(job)] = sha256(target)
    before = read_json(plan.restored_path) if plan.restored_path.exists() else {}
    write_json(plan.restored_path, before | taken)
    return Restored(len(taken), other, unjudged, [_cure(plan, archive, judge) for judge in lacking])


def _has_files(plan: Plan, job: Job) -> bool:
    """Whether the files that a job's record lists are there. Raises CacheError where one is damaged."""
    record = Record(plan.record_path(job))
    if not all((record.path.parent / name).exists() for name in record.content["files"]):
        return False
    record.files()
    return True


def _is_same(plan: Plan, archive: Archive, judge: Job) -> bool:
    """Whether the weights of a judge are here, and those that measured what is in the archive."""
    if not (plan.is_current(judge) and archive.is_current(judge) and _has_files(plan, judge)):
        return False
    here, there = (Record(of.record_path(judge)).content["files"] for of in (plan, archive))
    return bool(here == there)


def _cure(plan: Plan, archive: Archive, judge: Job) -> str:
    if archive.is_current(judge) and _has_files(archive, judge):
        return f"delete {plan.record_path(judge)}, which is of another one, and restore again"
    if plan.is_current(judge) and _has_files(plan, judge):
        return "its weights are not in the archive, and the judge that is here is another network: their runs are made again"
    return (
        f"its weights are not in the archive: train it with `snakemake --cores all {_weights(plan, judge)}` and restore again, "
        "which takes them over if it comes out the same, as it does on a processor with the same instructions"
    )


def _weights(plan: Plan, judge: Job) -> str:
    """The path of a judge's weights, as Snakemake is asked for it."""
    return Path(os.path.relpath(plan.outputs(judge)[1], plan.root)).as_posix()


def archives(root: Path) -> list[Path]:
    """The archives of finished tiers in the repository's ``reports`` folder."""
    return sorted(path.parent for path in (root / "reports").glob(f"*/{PIPELINE}"))


def dvc_yaml(folder: Path, root: Path) -> str:
    """The text of an archive's ``dvc.yaml``: one stage that makes again what follows from the records, kept in Git."""
    here = Path(os.path.relpath(folder, root)).as_posix()

    def below(stages: Iterable[str]) -> list[str]:
        return [f"{here}/{out}" for out in written(stages) if (folder / out).exists()]

    made = below(WHOLE)
    read = [path for path in below(RECORDS) if path not in made]
    stage = {
        "wdir": Path(os.path.relpath(root, folder)).as_posix(),
        "cmd": f"{WITH_ENVIRONMENT} irepa redraw {here}",
        "deps": [f"{here}/{SETTINGS}", *read, *code(WHOLE, root)],
        "outs": [{path: {"cache": False, "persist": True}} for path in made],
    }
    head = "# Generated by `irepa archive` and `irepa dvc`; a test compares. Nothing is trained.\n"
    return head + yaml.safe_dump({"stages": {"redraw": stage}}, sort_keys=False, width=120)


def environment(records: list[Record]) -> Json:
    """What the numbers were made with and what they cost, from the records' own provenance."""
    made = [record.content["provenance"] for record in records]
    seen = [record.metrics.get("images_seen") or 0 for record in records]
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platforms": sorted({where["platform"] for where in made}),
        "processor": processor(),
        "processors": os.cpu_count(),
        "gpus": sorted({where["gpu"] for where in made if where["gpu"]}),
        "git_revisions": sorted({str(where["git_revision"]) for where in made}),
        "jobs": len(records),
        "trainings": sum(record.content["stage"] == "train" for record in records),
        "images_seen": sum(seen),
        "core_hours": {stage: round(cost.core_hours, 2) for stage, cost in sorted(costs(records).items())},
        "first": min(where["started"] for where in made),
        "last": max(where["started"] for where in made),
    }


def processor() -> str:
    """The processor's name, as the kernel tells it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def redraw(folder: Path, root: Path) -> list[str]:
    """Make table, figures, verdicts and report of an archive again, in place; returns the files that came out different.

    A figure of images, which are not kept, is drawn again from its own data. Raises CacheError where a file that cannot be
    made again is missing, and for the archive of an unfinished tier.
    """
    from irepa.stages.figure import draw_collected

    plan = Archive(folder, root)
    if not (folder / PIPELINE).exists():
        raise CacheError(
            f"{folder} is of an unfinished tier: go on from it with `irepa restore {folder}`, and archive what comes of it"
        )
    jobs = [job for job in plan.jobs() if job.stage in WHOLE]
    files = [path for job in jobs for path in plan.outputs(job) if path != plan.record_path(job)]
    before = {path: path.read_bytes() for path in files if path.exists()}
    for job in jobs:
        context = Context(plan, job)
        if plan.record(job).failed is not None:
            continue
        if job.stage == "figure" and not _collectable(plan, job):
            if not (data := context.output(".csv")).exists():
                raise CacheError(f"{data} is missing, and what it was collected from is not kept: take it from Git")
            metrics = draw_collected(context)
        else:
            metrics = importlib.import_module(f"irepa.stages.{job.stage}").run(context)
        _note(plan, job, metrics)
    return [str(path.relative_to(folder)) for path in files if before.get(path) != path.read_bytes()]


def _note(plan: Archive, job: Job, metrics: Json) -> None:
    """The record keeps what it says of the job's making, and says what its metrics, a figure's caption, and files are now."""
    content, path = plan.record(job).content, plan.record_path(job)
    files = {str(file.relative_to(path.parent)): describe_file(file) for file in plan.outputs(job) if file != path}
    write_json(path, content | {"metrics": metrics, "files": files})


def _collectable(plan: Archive, job: Job) -> bool:
    """Whether every file that the figure reads is in the archive."""
    try:
        for needed in plan.needs(job):
            plan.record(needed).files()
    except CacheError:
        return False
    return True

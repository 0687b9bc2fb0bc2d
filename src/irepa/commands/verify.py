"""Hash every file of a tier's results and compare it with what its record says was written."""

from __future__ import annotations

import functools

from irepa.errors import CacheError, IrepaError, gather
from irepa.pipeline.files import Record
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan


def verify(plan: Plan) -> tuple[int, int, list[IrepaError]]:
    """(files hashed, bytes, what is damaged or missing). Jobs without a record have no files; samples may have been deleted."""
    spared = plan.spared()
    files = [named for job in plan.jobs() if job not in spared for named in _files(plan, job)]
    errors = gather(functools.partial(record.file, name, anew=True) for record, name in files)
    total = sum(record.content["files"][name]["bytes"] for record, name in files)
    return len(files), total, errors


def _files(plan: Plan, job: Job) -> list[tuple[Record, str]]:
    path = plan.record_path(job)
    if not path.exists():
        return []
    record, scratch = Record(path), plan.scratch(job)
    names = [name for name in record.content["files"] if path.parent / name not in scratch]
    if not all(isinstance(record.content["files"][name], dict) for name in names):
        raise CacheError(f"{path} is damaged, it does not say what its files are; {record.cure}")
    return [(record, name) for name in names]

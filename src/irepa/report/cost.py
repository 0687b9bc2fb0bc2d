"""What jobs took, from the provenance in their records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from irepa.pipeline.files import Record


@dataclass(frozen=True)
class Cost:
    """What the jobs of one stage took together.

    Attributes:
        seconds: wall-clock seconds, summed.
        core_hours: seconds times threads, summed, in hours.
        peak_memory_mib: the largest peak of a job's memory, MiB.
    """

    jobs: int
    seconds: float
    core_hours: float
    peak_memory_mib: float


def costs(records: Iterable[Record]) -> dict[str, Cost]:
    """Costs by stage, in the order in which the stages come first."""
    provenances: dict[str, list[dict[str, float | None]]] = {}
    for record in records:
        provenances.setdefault(record.content["stage"], []).append(record.content["provenance"])
    return {stage: _sum(jobs) for stage, jobs in provenances.items()}


def _sum(jobs: list[dict[str, float | None]]) -> Cost:
    seconds = [job["seconds"] or 0.0 for job in jobs]
    threads = [job.get("threads") or 1 for job in jobs]  # none is told where torch was not loaded
    return Cost(
        jobs=len(jobs),
        seconds=sum(seconds),
        core_hours=sum(each * count for each, count in zip(seconds, threads, strict=True)) / 3600,
        peak_memory_mib=max(job["peak_memory_mib"] or 0.0 for job in jobs),
    )

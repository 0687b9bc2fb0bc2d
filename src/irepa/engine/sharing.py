"""One job in several processes, one per GPU, by torch's launcher: a training, or rows that are computed one by one."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irepa import errors
from irepa.config.load import load_settings
from irepa.engine.device import LOCAL_RANK
from irepa.engine.trainer import termination
from irepa.errors import DivergedError, IrepaError, PreemptedError
from irepa.pipeline.files import Json, Shards, read_json, write_json
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.stored import Indices

Arrays = dict[str, NDArray[Any]]  # by name, of one row each per image


@dataclass(frozen=True)
class Work:
    """Rows that a stage computes, each by itself: the same whoever computes it.

    Attributes:
        count: rows in all.
        size: rows that one process computes before another may; what is lost by an interruption.
        compute: the arrays of each of some ranges of rows, in order.
        kept: whether finished parts outlast an interruption where one process does it all; those of several always do.
    """

    count: int
    size: int
    compute: Callable[[list[range]], Iterator[Arrays]]
    kept: bool = False

    def parts(self) -> list[range]:
        """The ranges of rows, in order."""
        return [range(start, min(start + self.size, self.count)) for start in range(0, self.count, self.size)]


def is_one_of_several() -> bool:
    """Whether torch's launcher has started this process."""
    return LOCAL_RANK in os.environ


def how_many() -> int:
    """The number of processes that share the job."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    """Whether this is the process that writes what all have made."""
    return int(os.environ.get("RANK", 0)) == 0


def compute(context: Context, name: str, work: Work) -> Iterator[Arrays]:
    """The arrays of all rows, part by part, in order; other processes have made them where ``processes`` says so.

    ``name``: what the stage's ``works`` calls this work.
    """
    several, parts = context.resources.processes > 1, work.parts()
    if not several and not work.kept:
        yield from work.compute(parts)
        return
    shards = _shards(context, name)
    if several and shards.missing(parts):
        spread(context, context.resources.processes)
    missing = shards.missing(parts)
    made = work.compute(missing) if missing else iter(())
    for rows in parts:
        if rows in missing:
            arrays = next(made)
            shards.write(rows, arrays)
        else:
            arrays = shards.read(rows)
        yield arrays


def grouped(batches: Iterable[Arrays], parts: list[range]) -> Iterator[Arrays]:
    """The arrays of each part, of batches that follow each other and end where parts end."""
    source = iter(batches)
    for rows in parts:
        collected: list[Arrays] = []
        while sum(len(next(iter(arrays.values()))) for arrays in collected) < len(rows):
            collected.append(next(source))
        yield {name: np.concatenate([arrays[name] for arrays in collected]) for name in collected[0]}


def indices_of(parts: list[range]) -> Indices:
    """All rows of the parts, (n,)."""
    return np.concatenate([np.arange(rows.start, rows.stop) for rows in parts])


def forget(context: Context, name: str) -> None:
    """Delete the parts of a work whose rows are where they should be."""
    shutil.rmtree(_folder(context, name), ignore_errors=True)


def _folder(context: Context, name: str) -> Path:
    record = context.plan.record_path(context.job)
    return record.with_name(f".{record.stem}.{name}.shards")


def _shards(context: Context, name: str) -> Shards:
    return Shards(_folder(context, name), context.fingerprint)


def fill(context: Context, works: dict[str, Work]) -> None:
    """Do the share of this process: every so many of the parts that are missing."""
    rank, world = int(os.environ["RANK"]), how_many()
    for name, work in works.items():
        shards = _shards(context, name)
        missing = shards.missing(work.parts()[rank::world])
        for rows, arrays in zip(missing, work.compute(missing) if missing else (), strict=True):
            shards.write(rows, arrays)


def spread(context: Context, processes: int) -> Json:
    """Run ``share(context)`` of the job's stage in so many processes under torch's launcher, and return what the first one gave.

    Raises the error that one of them reported.
    """
    record = context.plan.record_path(context.job)
    folder = record.with_name(f".{record.stem}.processes")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "params.json", context.settings.params.model_dump(mode="json"))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "irepa.engine.sharing",
    ]
    child = subprocess.Popen([*command, context.job.stage, context.key, str(folder), str(context.plan.root)])
    try:
        with termination() as asked:
            while child.poll() is None:
                if asked.is_set():
                    child.terminate()
                    asked.clear()
                time.sleep(0.2)
        return read_outcome(folder, child.returncode)
    finally:
        child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def read_outcome(folder: Path, code: int) -> Json:
    """What the first process found; raises the error that one of them reported."""
    outcomes = [read_json(path) for path in sorted(folder.glob("outcome-*.json"))]
    for outcome in outcomes:
        if "error" in outcome:
            raise getattr(errors, outcome["kind"])(outcome["error"])
    if code or not outcomes:
        raise IrepaError(f"processes that share a job ended with code {code} and said nothing; see the log")
    return dict(outcomes[0]["result"])


def worker(stage: str, key: str, folder: Path, root: Path) -> None:
    """One of several processes: its share of the job, and what came of it."""
    settings = load_settings(read_json(folder / "params.json"), root / "workflow", check_options=False)
    context = Context(Plan(settings, root), Job(stage, key))
    outcome: Json
    try:
        outcome = {"result": importlib.import_module(f"irepa.stages.{stage}").share(context)}
    except IrepaError as error:
        outcome = {"error": str(error), "kind": type(error).__name__}
    write_json(folder / f"outcome-{int(os.environ['RANK']):04d}.json", outcome)
    if outcome.get("kind") not in (None, DivergedError.__name__, PreemptedError.__name__):
        sys.exit(
            1
        )  # the others may be waiting for this one: the launcher ends them. Those two errors come to all at once


if __name__ == "__main__":
    worker(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))

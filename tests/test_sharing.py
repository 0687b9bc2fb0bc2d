"""Several processes make the files that one makes, byte for byte, and what one of them reports is told."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irepa.config.load import load_settings
from irepa.engine import sharing
from irepa.engine.sharing import Work, indices_of, read_outcome
from irepa.errors import CacheError, IrepaError, PreemptedError
from irepa.pipeline.files import write_json
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context, execute
from tests.conftest import WORKFLOW, copy_project

CELL = "sit/nano-32/none/none/seed0"
SHARED = {
    "features": "effnet-lite0-s16", "reference": "effnet-lite2", "floor": "effnet-lite2", "sample": CELL, "evaluate": CELL,
}  # fmt: skip


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    root = copy_project(tmp_path_factory.mktemp("sharing") / "project")

    def plan(processes: int, workers: int) -> Plan:
        how = {stage: {"processes": processes, "workers": workers} for stage in SHARED}
        overrides = {
            "sampling.samples": 18, "sampling.batch": 4, "sampling.shard": 1, "sampling.preview": 5, "evaluation.batch": 3,
            "evaluation.kid_subset_size": 8, "features.batch": 2, "resources": how,
        }  # fmt: skip
        return Plan(load_settings({"tier": "smoke", "overrides": overrides}, WORKFLOW), root)

    one = plan(1, 0)
    for job in (Job("data"), Job("train", CELL), *(Job(stage, key) for stage, key in SHARED.items())):
        execute(one, job)
    return plan


@pytest.mark.parametrize("stage", SHARED)
def test_processes_and_workers_change_no_byte(
    plan_of: Callable[..., Plan], stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here three processes do their shares one after another; a training in two real ones is tested with the engine."""
    job = Job(stage, SHARED[stage])
    alone = plan_of(1, 0).record(job)
    shares: list[list[range]] = []

    def spread(context: Context, processes: int) -> dict[str, Any]:
        for rank in range(processes):
            with monkeypatch.context() as environment:
                environment.setenv("RANK", str(rank))
                environment.setenv("WORLD_SIZE", str(processes))
                importlib.import_module(f"irepa.stages.{stage}").share(context)
            shares.append(sorted((context.plan.record_path(job).parent).rglob(".*.shards/*.npz")))
        return {}

    monkeypatch.setattr(sharing, "spread", spread)
    if stage == "features":
        monkeypatch.setattr(f"irepa.stages.{stage}.PART", 3)
    if stage in ("reference", "floor", "evaluate"):
        monkeypatch.setattr("irepa.engine.judges.PART", 2)
    plan = plan_of(3, 1)
    shared = execute(plan, job)
    made = [len(files) for files in shares]
    assert 0 < made[0] < made[1] < made[2]
    assert shared.content["files"] == alone.content["files"]
    assert shared.metrics == alone.metrics
    assert shared.fingerprint == alone.fingerprint
    assert not list(plan.record_path(job).parent.rglob(".*.shards"))


def test_a_share_that_was_interrupted_goes_on(plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    context, asked = Context(plan_of(1, 0), Job("sample", CELL)), []

    def compute(parts: list[range]) -> Any:
        for rows in parts:
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked.append(rows)
            yield {"x": indices_of([rows])}

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    work = Work(23, 3, compute)
    with pytest.raises(KeyboardInterrupt):
        sharing.fill(context, {"toy": work})
    asked.append(range(0))  # goes on to the end
    sharing.fill(context, {"toy": work})
    assert asked == [range(3, 6), range(9, 12), range(0), range(15, 18), range(21, 23)]
    sharing.forget(context, "toy")


def test_the_error_of_any_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(IrepaError, match="ended with code 9 and said nothing"):
        read_outcome(tmp_path, 9)
    write_json(tmp_path / "outcome-0000.json", {"result": {"x": 1}})
    assert read_outcome(tmp_path, 0) == {"x": 1}
    write_json(tmp_path / "outcome-0001.json", {"error": "a.npy is damaged", "kind": "CacheError"})
    with pytest.raises(CacheError, match=r"a\.npy is damaged"):
        read_outcome(tmp_path, 1)
    write_json(tmp_path / "outcome-0000.json", {"error": "SIGTERM", "kind": "PreemptedError"})
    with pytest.raises(PreemptedError):
        read_outcome(tmp_path, 0)

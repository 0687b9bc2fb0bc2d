"""Batches read ahead are those read at once; what goes wrong in a worker is told as if it had gone wrong here."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from irepa.config.load import load_settings
from irepa.data import stored_images
from irepa.engine.loading import fetched, read_ahead
from irepa.errors import CacheError, IrepaError
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.stored import InMemory, Packed, Stored
from irepa.tokens import in_batches
from tests.conftest import REPOSITORY, WORKFLOW
from tests.test_files import damage, sealed

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_read_ahead_are_the_rows_asked_for_in_order(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = sealed(tmp_path, monkeypatch).rows("a.npy")
    labels = InMemory(np.arange(50) * 3)
    asked = in_batches(np.random.default_rng(1).permutation(50), 8)
    before = torch.random.get_rng_state()
    batches = list(read_ahead({"x": on_disk, "labels": labels}, iter(asked), 8, workers, CPU))
    assert [len(batch.indices) for batch in batches] == [8] * 6 + [2]
    for batch, indices in zip(batches, asked, strict=True):
        np.testing.assert_array_equal(batch.indices, indices)
        np.testing.assert_array_equal(batch.rows["x"].numpy(), on_disk.array[indices])
        np.testing.assert_array_equal(batch.rows["labels"].numpy(), 3 * indices)
    assert torch.equal(torch.random.get_rng_state(), before)  # it is part of checkpoints


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_row_is_told_in_the_projects_words(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = sealed(tmp_path, monkeypatch)
    damage(tmp_path / "a.npy", 1000, keep_time=True)
    with pytest.raises(CacheError, match=r"^\S*a\.npy is damaged: row \d+ is not what was written; delete"):
        list(read_ahead({"x": record.rows("a.npy")}, in_batches(np.arange(50), 5), 5, workers, CPU))


class Dying(Stored):
    """Reading its 20th row ends the process; ``slow``: seconds that a batch takes."""

    shape, dtype = (40, 2), np.dtype(np.float32)

    def __init__(self, slow: float = 0) -> None:
        self.slow = slow

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        time.sleep(self.slow)
        if not self.slow and 20 in indices:
            os._exit(3)
        out[...] = os.getpid()


def test_a_worker_that_dies_is_an_error_with_a_cure() -> None:
    with pytest.raises(IrepaError, match=r"a process that reads ahead has died .*lower `workers` of its stage"):
        list(read_ahead({"x": Dying()}, in_batches(np.arange(40), 4), 4, 1, CPU))


def test_workers_outlive_the_signal_by_which_a_cluster_asks_all_processes_to_end() -> None:
    batches = read_ahead({"x": Dying(slow=0.02)}, in_batches(np.arange(40), 4), 4, 1, CPU)
    worker = int(next(batches).rows["x"][0, 0])
    assert worker != os.getpid()
    subprocess.run(["kill", str(worker)], check=True)
    assert {int(batch.rows["x"][0, 0]) for batch in batches} == {worker}


def test_a_process_that_ends_in_the_middle_takes_its_workers_along() -> None:
    code = """
import numpy as np, torch
from irepa.engine.loading import read_ahead
from irepa.stored import InMemory
from irepa.tokens import in_batches
kept = read_ahead({"x": InMemory(np.zeros((40, 2)))}, in_batches(np.arange(40), 4), 4, 2, torch.device("cpu"))
next(kept)
print("ends", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


def test_a_map_of_a_file_is_not_sent_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sealed(tmp_path, monkeypatch, (50_000, 10)).rows("a.npy")
    rows.array.sum()
    rows.sums = None
    sent = pickle.dumps(rows)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent)[np.array([7])], rows.array[[7]])


def test_images_packed_without_loss_give_the_same_batches_and_damage_is_noticed(tmp_path: Path) -> None:
    records = {}
    for storage in ("raw", "webp"):
        overrides = {"dataset.storage": storage, "spatial.images": 10}
        settings = load_settings(
            {"tier": "smoke", "overrides": overrides, "results": str(tmp_path / storage)}, WORKFLOW
        )
        records[storage] = execute(Plan(settings, REPOSITORY), Job("data"))
    for split, total in (("train", 128), ("test", 64)):
        raw, packed = (stored_images(records[storage], split) for storage in ("raw", "webp"))
        assert (packed.shape, packed.dtype) == (raw.shape, raw.dtype) == ((total, 32, 32, 3), np.uint8)
        asked = in_batches(np.random.default_rng(0).permutation(total), 10)
        one, other = (
            [batch.rows["x"] for batch in read_ahead({"x": stored}, asked, 10, 1, CPU)] for stored in (raw, packed)
        )
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    for name in ("train.labels.npy", "test.masks.npy"):
        assert records["raw"].content["files"][name] == records["webp"].content["files"][name]
    sizes = {storage: record.content["files"]["train.images.npy"]["bytes"] for storage, record in records.items()}
    assert sizes["webp"] < 0.8 * sizes["raw"]  # photographs of 32 pixels, hard to compress
    # Decay that the file's time does not show: some damage is no WebP any more, some is an image of other pixels.
    assert isinstance(packed, Packed)
    for row in range(total):
        start, length = packed.index[row, :2].tolist()
        damage(packed.content.path, packed.content.array.offset + start + length // 2, keep_time=True)
        with pytest.raises(
            CacheError, match=rf"test\.images\.npy is damaged: (image|row) {row} .*; delete .*data\.json"
        ):
            packed[np.array([row])]


def test_what_is_fetched_comes_one_behind_and_in_order() -> None:
    made: list[int] = []

    def computed() -> Any:
        for k in range(4):
            made.append(k)
            yield torch.tensor(k), "beside", None

    for k, (number, beside, nothing) in enumerate(fetched(computed())):
        assert (int(number), beside, nothing) == (k, "beside", None)
        assert made == list(range(min(k + 2, 4)))
    assert list(fetched(iter(()))) == []

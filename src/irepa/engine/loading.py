"""Rows of stored arrays, read ahead by worker processes and handed over on the device, batch by batch.

Workers gather, check and decode rows into shared memory; this process pins what comes and copies it without waiting. Nothing
random happens here: which rows a batch has is said by who asks, so the number of workers changes nothing.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from irepa.errors import IrepaError
from irepa.pipeline.files import Record
from irepa.stored import Indices, Stored

Rows = dict[str, Tensor]  # (batch, ...) by the name of what they are


class Batch(NamedTuple):
    """Rows of the images ``indices`` (batch,), on the device."""

    indices: Indices
    rows: Rows


class _Reading(Dataset[Rows | IrepaError]):
    """Rows of all arrays by indices, for torch's DataLoader. A refusal is handed over as it is, not as a worker's traceback."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored = dict(stored)

    def __getitem__(self, indices: Indices) -> Rows | IrepaError:
        try:
            return {name: _gather(stored, indices) for name, stored in self.stored.items()} | {
                "": torch.from_numpy(indices)
            }
        except IrepaError as error:
            return error


def _gather(stored: Stored, indices: Indices) -> Tensor:
    """The rows in memory that a worker shares with the process that asked: they are not copied to get there."""
    shape = (len(indices), *stored.shape[1:])
    kind = torch.from_numpy(np.empty(0, stored.dtype)).dtype
    if get_worker_info() is None:
        rows = torch.empty(shape, dtype=kind)
    else:
        storage: Any = torch.UntypedStorage
        shared: Any = storage._new_shared(math.prod(shape) * stored.dtype.itemsize)
        rows = torch.empty(0, dtype=kind).set_(shared).view(shape)
    stored.read(indices, rows.numpy())
    return rows


def _start(worker: int) -> None:
    """A cluster that takes a machine away asks every process to end; this one ends when the one that it reads for has saved."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def read_ahead(
    stored: Mapping[str, Stored], batches: Iterable[Indices], workers: int, device: torch.device
) -> Iterator[Batch]:
    """The rows of each of the batches, in order, on the device.

    Args:
        stored: by name, what is read.
        workers: processes that read ahead, two batches each; 0: this one reads what is asked for, when it is.

    Raises what reading raises, and IrepaError where a worker dies.
    """
    loader = DataLoader(
        _Reading(stored),
        sampler=batches,
        batch_size=None,  # a batch is one item here, read as a whole
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start,
        generator=torch.Generator(),  # it draws a number that nobody uses, and not from the one that checkpoints hold
    )
    try:
        for rows in loader:
            if isinstance(rows, IrepaError):
                raise rows
            indices = rows.pop("").numpy()
            yield Batch(indices, {name: some.to(device, non_blocking=True) for name, some in rows.items()})
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise IrepaError(
            f"a process that reads ahead has died ({str(error).splitlines()[0]}): give the job more memory, and more shared "
            "memory (/dev/shm) in a container, or lower `workers` of its stage under `resources`"
        ) from error


def fetched(computed: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The same, with tensors on the CPU; one behind, so that the device is at the next while one is copied and worked on."""
    waiting: tuple[tuple[Any, ...], torch.cuda.Event | None] | None = None

    def arrived() -> Iterator[tuple[Any, ...]]:
        if waiting is not None:
            if waiting[1] is not None:
                waiting[1].synchronize()
            yield waiting[0]

    for parts in computed:
        copied = tuple(p.to("cpu", non_blocking=True) if isinstance(p, Tensor) else p for p in parts)
        event = torch.cuda.Event() if any(isinstance(p, Tensor) and p.is_cuda for p in parts) else None
        if event is not None:
            event.record()
        yield from arrived()
        waiting = copied, event
    yield from arrived()


def in_batches(indices: Indices, batch: int) -> list[Indices]:
    """The indices, so many at a time."""
    return [indices[start : start + batch] for start in range(0, len(indices), batch)]


def stored_images(data: Record, split: str) -> Stored:
    """The images of a split, (n, height, width, 3) uint8. Raises CacheError where they are not what was written."""
    return data.rows(f"{split}.images.npy")

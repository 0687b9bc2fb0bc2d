"""Rows of stored arrays, read ahead by worker processes and handed over on the device, batch by batch.

Workers gather, check and decode rows into slots of one shared memory, which is used again from batch to batch: fresh memory
costs more than filling it. A GPU copies from the slots by itself, without the host waiting. Nothing random happens here: which
rows a batch has is said by who asks, so the number of workers changes nothing.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from irepa.errors import IrepaError
from irepa.pipeline.files import size_of
from irepa.stored import Indices, Stored

log = logging.getLogger("irepa")

Rows = dict[str, Tensor]  # (batch, ...) by the name of what they are
Task = tuple[int, Indices]  # the slot to fill, and with the rows of which images
SHARED = Path("/dev/shm")  # the file system that Linux takes shared memory from
ALIGNED = 64  # bytes
END = object()


class Batch(NamedTuple):
    """Rows of the images ``indices`` (batch,), on the device."""

    indices: Indices
    rows: Rows


class _Slots:
    """Memory for the rows of several batches.

    Args:
        stored: by name, what a batch has rows of.
        batch: rows of the largest batch.
        count: how many batches there is room for.
        shared: whether other processes fill it.

    Raises IrepaError where the machine has too little shared memory.
    """

    def __init__(self, stored: Mapping[str, Stored], batch: int, count: int, shared: bool, pinned: bool) -> None:
        self.places: dict[str, tuple[int, int, torch.dtype, tuple[int, ...]]] = {}
        size = 0
        for name, rows in stored.items():
            width = math.prod(rows.shape[1:]) * rows.dtype.itemsize
            kind = torch.from_numpy(np.empty(0, rows.dtype)).dtype
            self.places[name] = (size, width, kind, rows.shape[1:])
            size += -(-batch * width // ALIGNED) * ALIGNED
        if shared:
            _check_shared(count * size)
            storage: Any = torch.UntypedStorage
            memory: Any = storage._new_shared(count * size)
            self.memory = torch.empty(0, dtype=torch.uint8).set_(memory).view(count, size)
        else:
            self.memory = torch.empty(count, size, dtype=torch.uint8, pin_memory=pinned)

    def rows(self, slot: int, count: int) -> Rows:
        """The first ``count`` rows of each kind in a slot."""
        memory = self.memory[slot]
        return {
            name: memory[start : start + count * width].view(kind).view(count, *shape)
            for name, (start, width, kind, shape) in self.places.items()
        }


def _check_shared(needed: int) -> None:
    free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else needed
    if free < needed:
        raise IrepaError(
            f"reading ahead needs {size_of(needed)} of shared memory, and {SHARED} has {size_of(free)}: give the container more "
            "(docker run --shm-size), or lower `workers` of the stage under `resources`"
        )


class _Reading(Dataset[IrepaError | None]):
    """Fills slots, for torch's DataLoader. A refusal is handed over as it is, not as a worker's traceback."""

    def __init__(self, stored: Mapping[str, Stored], slots: _Slots) -> None:
        self.stored, self.slots = dict(stored), slots

    def __getitem__(self, task: Task) -> IrepaError | None:
        slot, indices = task
        try:
            for name, rows in self.slots.rows(slot, len(indices)).items():
                self.stored[name].read(indices, rows.numpy())
        except IrepaError as error:
            return error
        return None


def _start(worker: int) -> None:
    """A cluster that takes a machine away asks every process to end; this one ends when the one that it reads for asks."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def read_ahead(
    stored: Mapping[str, Stored], batches: Iterable[Indices], largest: int, workers: int, device: torch.device
) -> Generator[Batch, None, None]:
    """The rows of each of the batches, in order, on the device.

    Args:
        stored: by name, what is read.
        batches: indices (batch,) of at most ``largest`` images.
        workers: processes that read ahead, two batches each; 0: this one reads what is asked for, when it is.

    Raises what reading raises, and IrepaError where a worker dies or there is too little shared memory.
    """
    on_gpu = device.type == "cuda"
    # Two batches wait for each worker, one is being handed over, and one may still be on its way to the device.
    count = 2 * workers + 2
    slots = _Slots(stored, largest, count, shared=workers > 0, pinned=on_gpu)
    asked: deque[Task] = deque()

    def tasks() -> Iterator[Task]:
        for number, indices in enumerate(batches):
            asked.append((number % count, indices))
            yield asked[-1]

    loader = DataLoader(
        _Reading(stored, slots),
        sampler=tasks(),
        batch_size=None,  # a batch is one item here, read as a whole
        num_workers=workers,
        worker_init_fn=_start,
        generator=torch.Generator(),  # it draws a number that nobody uses, and not from the one that checkpoints hold
    )
    copies: deque[torch.cuda.Event] = deque()
    reading, registered = iter(loader), on_gpu and workers > 0 and _register(slots.memory)
    try:
        while True:
            if len(copies) == 2:  # the slot of the last batch but one is filled again when the next one comes
                copies.popleft().synchronize()
            if (refused := next(reading, END)) is END:
                return
            if isinstance(refused, IrepaError):
                raise refused
            slot, indices = asked.popleft()
            found = slots.rows(slot, len(indices))
            copied = {name: some.to(device, non_blocking=True, copy=True) for name, some in found.items()}
            if on_gpu:
                copies.append(torch.cuda.Event())
                copies[-1].record()
            yield Batch(indices, copied)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise IrepaError(
            f"a process that reads ahead has died ({str(error).splitlines()[0]}): give the job more memory, or lower `workers` "
            "of its stage under `resources`"
        ) from error
    finally:
        if workers:
            # Torch leaves it to the garbage collector, which may come to it in another process that was forked meanwhile.
            end: Any = reading
            end._shutdown_workers()
        if registered:
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaHostUnregister(slots.memory.data_ptr())


def _register(memory: Tensor) -> bool:
    """Lock memory into place for a GPU, which can copy from it by itself then; the log says where that cannot be."""
    failed = int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 0))
    if failed:
        log.warning("%s of memory cannot be locked (CUDA %d): copies to the GPU wait", size_of(memory.numel()), failed)
    return not failed


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

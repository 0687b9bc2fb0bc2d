"""How long a training step waits for its images, at ImageNet's size.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --case jit-256 --consumer 100 --workers 0 1 2 8 --steps 100

Reads through the trainer's own sampler and workers, from sparse files in the shapes of ImageNet's 1,281,167 training images, with
the sums of their rows checked. What stands for the GPU takes a batch and sleeps for `--consumer` milliseconds; torch's meta
device stands for its memory, so nothing is copied by this process, as where a GPU copies by itself. In place of the conversion
to float and of the draws, which a GPU does in some milliseconds at most, nothing is done.

wait, p95       median and 95th percentile of the time from asking for a batch to having it; `of step`: its share of the step
work here       CPU time per step of the process that trains; `workers`: of all that read ahead
MB/step         what a step reads. The system makes a page of zeros for each hole in a sparse file; a disk adds its own time

`before` is how a step read until 2026-11: one after another, a permutation of the whole dataset, noise and times of the whole
batch by NumPy, the rows through a memory map, and the conversion to float.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from irepa.engine.loading import read_ahead
from irepa.random import batch_indices
from irepa.stored import InMemory, OnDisk, Stored

DEVICE = torch.device("meta")


class Case(NamedTuple):
    """By name of the file, the shape and type of a row; and the shape of the noise of an image."""

    rows: dict[str, tuple[tuple[int, ...], str]]
    noise: list[tuple[int, ...]]


LATENT = (4, 32, 32)
CASES = {
    "latents, encoder online": Case(
        {"moments": ((8, 32, 32), "float32"), "images": ((256, 256, 3), "uint8")}, [LATENT, LATENT]
    ),
    "jit-256": Case({"images": ((256, 256, 3), "uint8")}, [(3, 256, 256)]),
    "jit-512": Case({"images": ((512, 512, 3), "uint8")}, [(3, 512, 512)]),
}


def sparse(path: Path, images: int, shape: tuple[int, ...], dtype: str) -> OnDisk:
    """A file of zeros that takes no room, and the sums of its rows."""
    with path.open("wb") as stream:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": (images, *shape),
        }
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + images * math.prod(shape) * np.dtype(dtype).itemsize)
    return OnDisk(path, "run again", np.zeros(images, np.uint64))


def before(case: Case, stored: dict[str, Stored], images: int, batch: int, steps: int) -> Iterator[None]:
    """As it was, one thing after another."""
    arrays = {name: rows.array for name, rows in stored.items() if isinstance(rows, OnDisk)}
    for step in range(steps):
        order = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, 2, 0)))).permutation(images)
        indices = order[step * batch : (step + 1) * batch]
        draws = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, 1, step))))
        for _ in range(2):
            draws.random(batch, np.float32)
        for shape in case.noise:
            draws.standard_normal((batch, *shape), np.float32)
        for array in arrays.values():
            rows = torch.from_numpy(array[indices])
            if rows.dtype == torch.uint8:
                rows.permute(0, 3, 1, 2).float() / 127.5 - 1
        yield


def after(stored: dict[str, Stored], images: int, batch: int, steps: int, workers: int) -> Iterator[None]:
    """As the trainer reads."""
    asked = (batch_indices(0, step, batch, images) for step in range(steps))
    for _ in read_ahead(stored, asked, batch, workers, DEVICE):
        yield


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of the workers that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, ended.ru_utime + ended.ru_stime


def timed(batches: Iterator[None], consumer: float, warmup: int) -> tuple[list[float], tuple[float, float], int]:
    """Seconds that each step after the warm-up waits; CPU seconds of all steps, here and in workers; how many steps."""
    start, waits = cpu_seconds(), []
    while True:
        asked = time.perf_counter()
        if next(batches, batches) is batches:
            break
        waits.append(time.perf_counter() - asked)
        time.sleep(consumer)
    used = tuple(end - begun for end, begun in zip(cpu_seconds(), start, strict=True))
    return waits[warmup:], (used[0], used[1]), len(waits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--consumer", nargs="*", type=float, default=[50, 100, 400], help="milliseconds a step")
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--before-steps", type=int, default=4, help="steps of `before`, which are slow; 0: without it")
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--folder", type=Path, help="where the sparse files lie")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch, images = arguments.batch, arguments.images
    print(f"{images:,} images, batches of {batch}, times in ms, torch {torch.__version__}")
    print(f"{'case':<24} {'MB/step':>7} {'workers':>7} {'step':>5} {'wait':>7} {'p95':>7} {'of step':>7} "
          f"{'work here':>9} {'workers':>8}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        for name in arguments.case:
            case = CASES[name]
            stored: dict[str, Stored] = {
                key: sparse(Path(place) / f"{name}.{key}.npy", images, *row) for key, row in case.rows.items()
            }
            labelled = stored | {"labels": InMemory(np.zeros(images, np.int64))}
            size = sum(batch * math.prod(rows.shape[1:]) * rows.dtype.itemsize for rows in stored.values()) / 1e6

            runs = [(str(workers), consumer, after(labelled, images, batch, arguments.steps, workers), arguments.warmup)
                    for workers, consumer in itertools.product(arguments.workers, arguments.consumer)]  # fmt: skip
            if arguments.before_steps:
                runs.insert(0, ("before", 100, before(case, stored, images, batch, arguments.before_steps), 1))
            for kind, consumer, batches, warmup in runs:
                waits, (here, elsewhere), steps = timed(batches, consumer / 1000, warmup)
                wait, late = (1000 * float(np.percentile(waits, q)) for q in (50, 95))
                print(f"{name:<24} {size:7.0f} {kind:>7} {consumer:5.0f} {wait:7.1f} {late:7.1f} {wait / consumer:7.1%} "
                      f"{1000 * here / steps:9.1f} {1000 * elsewhere / steps:8.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

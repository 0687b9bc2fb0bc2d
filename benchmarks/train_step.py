"""Images per second of training steps, and the share of the machine's own matrix-product rate that they reach.

    python benchmarks/train_step.py --tier imagenet256 --scale sit-b-2 sit-xl-2 --batch 256
    python benchmarks/train_step.py --tier cifar10 --steps 30 --precision fp32 bf16 --compile off on

Times the project's own trainer from files to the optimiser's step: rows of random numbers, in the shapes of the tier's latents or
images and of target tokens, are written to `--folder` and read ahead by `--workers`. The table gives the median step after the
warm-up. Model FLOPs are three forward passes of network and projector (a multiply-add counts as two), whatever is computed on
top; the matrix-product rate is measured here, in the same precision.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from irepa.autoencoders.identity import Identity
from irepa.commands.describe import network_facts, projector_facts
from irepa.config.load import load_settings
from irepa.config.options import Shape
from irepa.config.tier import Settings, Tier
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.device import setup
from irepa.engine.loading import Rows
from irepa.engine.network import build_network, describe_autoencoder
from irepa.engine.targets import TokenCache
from irepa.engine.trainer import TrainingData, build_alignment, train
from irepa.pipeline.files import write_array_in_parts
from irepa.pipeline.processor import bf16_products, prepare
from irepa.random import StepRandom
from irepa.recipes import build_recipe
from irepa.stored import InMemory, OnDisk

WORKFLOW = Path(__file__).resolve().parent.parent / "workflow"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def matrix_rate(device: torch.device, precision: str, size: int) -> float:
    """FLOP/s of a product of two square matrices: the best of five."""
    a, b = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(4):
            a @ b
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / 4)
    return 2 * size**3 / best


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def first_recipe(tier: Tier) -> str:
    return next(iter(tier.recipes))


def seen_shape(tier: Tier) -> Shape:
    """(channels, H, W) of what the network of the tier's first recipe sees."""
    return describe_autoencoder(tier.autoencoder, tier.dataset.image_size).shape


def write_files(folder: Path, tier: Tier, dim: int, images: int) -> None:
    """Rows in the shapes of what a training of the tier's first recipe reads: moments or images, and tokens."""
    rng = np.random.default_rng(0)
    channels, height, width = seen_shape(tier)
    kinds = {"tokens": ((tier.grid[0] * tier.grid[1], dim), "float16")}
    if tier.autoencoder.precompute:
        kinds["moments"] = ((2 * channels, height, width), "float32")
    else:
        kinds["images"] = ((tier.dataset.image_size, tier.dataset.image_size, 3), "uint8")
    for name, (shape, dtype) in kinds.items():
        row = 100 * rng.random(shape, np.float32)
        parts = (np.roll(row, index)[None].astype(dtype) for index in range(images))
        write_array_in_parts(folder / f"{name}.npy", (images, *shape), dtype, parts)


def training_data(folder: Path, tier: Tier, dim: int, classes: int, aligned: bool) -> TrainingData:
    """What :func:`write_files` wrote, as the stage would hand it to the trainer."""
    shape, recipe = seen_shape(tier), build_recipe(tier, first_recipe(tier))
    files = {path.stem: OnDisk(path, "run again") for path in folder.glob("*.npy")}
    tokens = files.pop("tokens")

    def inputs(rows: Rows, draws: StepRandom) -> Tensor:
        if "moments" in rows:
            mean, std = rows["moments"].chunk(2, dim=1)
            return (mean + std * draws.normal(*shape)) / 100
        return recipe.data(rows["images"].permute(0, 3, 1, 2), Identity(tier.dataset.image_size))

    none = InMemory(np.zeros((len(tokens), 0), np.float16))
    target = TokenCache(tokens, none, tier.grid, tier.grid, ()) if aligned else None
    return TrainingData(files, inputs, np.zeros(len(tokens), np.int64), classes, target)


def step_seconds(
    settings: Settings, scale: str, method: str, dim: int, changes: dict[str, object], device: torch.device, warmup: int,
    folder: Path, workers: int,
) -> float:  # fmt: skip
    """Median seconds of a training step after the warm-up."""
    tier = settings.tier
    name = first_recipe(tier)
    training = tier.training.model_copy(update=changes)
    classes = 10 if tier.expected is None else tier.expected.classes
    network, recipe = build_network(tier, name, scale, seen_shape(tier), classes), build_recipe(tier, name)
    aligned = settings.methods[method].aligned
    alignment = build_alignment(settings.methods[method], tier.scales[scale], dim, tier.grid, 0) if aligned else None
    AcceleratorState._reset_state(reset_partial_state=True)  # one process, several precisions
    data = training_data(folder, tier, dim, classes, aligned)
    clock: list[float] = []

    def inputs(rows: Rows, draws: StepRandom) -> Tensor:
        synchronize(device)
        clock.append(time.perf_counter())
        return data.inputs(rows, draws)

    with tempfile.TemporaryDirectory() as place:
        checkpoints = Checkpoints(Path(place), "benchmark")
        timed = replace(data, inputs=inputs)
        train(network, alignment, recipe.loss, timed, training, 0, device, checkpoints, workers=workers)
    parts = training.accumulation
    steps = [b - a for a, b in zip(clock[::parts], clock[parts::parts], strict=False)]
    return statistics.median(steps[warmup:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="demo")
    parser.add_argument("--scale", nargs="*", help="default: every scale of the tier")
    parser.add_argument("--method", default="irepa")
    parser.add_argument("--dim", type=int, default=768, help="width of the target tokens")
    parser.add_argument("--batch", type=int, help="default: the tier's")
    parser.add_argument("--precision", nargs="*", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--compile", nargs="*", default=["off"], choices=["off", "on"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that read ahead")
    parser.add_argument("--images", type=int, help="rows in the files (default: four batches)")
    parser.add_argument("--folder", type=Path, help="where the files are written, and deleted at the end")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument(
        "--matrix", type=int, help="side of the measured product (default 8192 on a GPU, 1024 on a CPU)"
    )
    arguments = parser.parse_args()
    settings = load_settings({"tier": arguments.tier}, WORKFLOW, check_options=False)
    tier, device = settings.tier, setup(arguments.threads)
    prepare()
    batch = arguments.batch or tier.training.batch
    side = arguments.matrix or (8192 if device.type == "cuda" else 1024)
    rates = {precision: matrix_rate(device, precision, side) for precision in arguments.precision}
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {arguments.threads} threads"
    print(f"{name}; torch {torch.__version__}; tier {arguments.tier}, {arguments.method}, batch {batch}, "
          f"target width {arguments.dim}, median of {arguments.steps - arguments.warmup} steps; bf16 products on a CPU: "
          f"{bf16_products()}")  # fmt: skip
    for precision, rate in rates.items():
        print(f"matrix product {side}x{side} in {precision}: {rate / 1e12:.3f} TFLOP/s")
    print(f"{'scale':<12} {'precision':<9} {'compile':<7} {'images/s':>9} {'ms/step':>8} {'of the product rate':>19}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        write_files(folder, tier, arguments.dim, arguments.images or 4 * batch)
        for scale in arguments.scale or tier.scales:
            _, forward = network_facts(tier, first_recipe(tier), scale, seen_shape(tier), 10)
            _, extra = projector_facts(settings.methods[arguments.method], tier.scales[scale], arguments.dim, tier.grid)
            for precision in arguments.precision:
                for compiled in arguments.compile:
                    changes = {"batch": batch, "steps": arguments.steps, "precision": precision,
                               "compile": compiled == "on", "checkpoint_every": None}  # fmt: skip
                    seconds = step_seconds(
                        settings, scale, arguments.method, arguments.dim, changes, device, arguments.warmup, folder,
                        arguments.workers,
                    )  # fmt: skip
                    share = 3 * (forward + extra) * batch / seconds / rates[precision]
                    print(f"{scale:<12} {precision:<9} {compiled:<7} {batch / seconds:9.1f} {1000 * seconds:8.1f} "
                          f"{share:19.1%}")  # fmt: skip


if __name__ == "__main__":
    main()

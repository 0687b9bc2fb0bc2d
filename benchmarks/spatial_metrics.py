"""Time the four spatial metrics against a direct transcription of their definitions, on the same inputs.

    python benchmarks/spatial_metrics.py --images 256 --dim 768

The transcription builds one Gram matrix per metric, as one would write the definitions down; ours makes one pass. Each runs
in a process of its own, so that peak memory is its own; the table gives the median of the repetitions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from irepa.spatial import Thresholds, manhattan, spatial_metrics


def gram(tokens: Tensor) -> Tensor:
    """(images, T, T) cosine similarities."""
    unit = F.normalize(tokens, dim=-1, eps=1e-8)
    return unit @ unit.transpose(1, 2)


def direct_lds(tokens: Tensor, d: Tensor, limits: Thresholds) -> Tensor:
    k = gram(tokens)
    return k[:, d == 1].mean(1) - k[:, d >= limits.far].mean(1)


def direct_cds(tokens: Tensor, d: Tensor, limits: Thresholds) -> Tensor:
    k = gram(tokens)
    steps = torch.arange(1, limits.slope + 1)
    means = torch.stack([k[:, d == int(step)].mean(1) for step in steps], dim=1)
    centred = steps.float() - steps.float().mean()
    return -(means @ centred) / centred.square().sum()


def direct_srss(tokens: Tensor, d: Tensor, limits: Thresholds, masks: Tensor) -> Tensor:
    k = gram(tokens)
    near, far = (d >= 1) & (d <= limits.near), d >= limits.far
    same, other = near & masks[:, None, :], far & ~masks[:, None, :]
    valid = masks & same.any(-1) & other.any(-1)
    contrast = (k * same).sum(-1) / same.sum(-1).clamp_min(1) - (k * other).sum(-1) / other.sum(-1).clamp_min(1)
    return (contrast * valid).sum(-1) / valid.sum(-1)


def direct_rmsc(tokens: Tensor) -> Tensor:
    """From the Gram matrix too: mean |u - mean u|^2 = 1 - mean K."""
    return (1 - gram(tokens).mean(dim=(1, 2))).clamp_min(0).sqrt()


def direct(tokens: Tensor, grid: tuple[int, int], masks: Tensor) -> dict[str, Tensor]:
    d, limits = manhattan(*grid), Thresholds.for_grid(*grid)
    return {
        "lds": direct_lds(tokens, d, limits),
        "cds": direct_cds(tokens, d, limits),
        "srss": direct_srss(tokens, d, limits, masks),
        "rmsc": direct_rmsc(tokens),
    }


def one_pass(tokens: Tensor, grid: tuple[int, int], masks: Tensor) -> dict[str, Tensor]:
    found = spatial_metrics(tokens, grid, masks).named()
    return {name: found[name] for name in ("lds", "cds", "srss", "rmsc")}


def inputs(images: int, side: int, dim: int) -> tuple[Tensor, Tensor]:
    """Smooth random tokens, so that near ones are alike, and random masks."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(images, dim, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bilinear").flatten(2).transpose(1, 2)
    noise = torch.randn(images, side * side, dim, generator=generator)
    return smooth + 0.3 * noise, torch.rand(images, side * side, generator=generator) < 0.5


def peak_mib() -> float:
    """Largest resident memory of this process, from Linux's own accounting."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def measure(which: str, arguments: argparse.Namespace) -> tuple[list[float], float, dict[str, Tensor]]:
    """Seconds of each repetition, peak memory above the inputs in MiB, and the values."""
    torch.set_num_threads(arguments.threads)
    tokens, masks = inputs(arguments.images, arguments.side, arguments.dim)
    function = {"direct": direct, "one pass": one_pass}[which]
    grid = (arguments.side, arguments.side)
    function(tokens[:2], grid, masks[:2])
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is in use now
    before = peak_mib()
    seconds, values = [], {}
    for _ in range(arguments.repetitions):
        start = time.perf_counter()
        values = function(tokens, grid, masks)
        seconds.append(time.perf_counter() - start)
    return seconds, peak_mib() - before, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=16, help="the grid is side x side tokens")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = {}
    for which in ("direct", "one pass"):
        with context.Pool(1) as pool:
            results[which] = pool.apply(measure, (which, arguments))
    print(f"{arguments.images} images, {arguments.side}x{arguments.side} tokens, dim {arguments.dim}, float32, "
          f"{arguments.threads} threads, median of {arguments.repetitions}")  # fmt: skip
    medians = {}
    for which, (seconds, memory, _) in results.items():
        medians[which] = sorted(seconds)[len(seconds) // 2]
        print(f"{which:<10} {medians[which]:8.3f} s   {memory:8.0f} MiB above the inputs")
    print(f"one pass is {medians['direct'] / medians['one pass']:.1f} times as fast")
    for name, value in results["direct"][2].items():
        error = (value - results["one pass"][2][name]).abs().max()
        print(f"largest difference in {name}: {float(error):.1e}")


if __name__ == "__main__":
    main()

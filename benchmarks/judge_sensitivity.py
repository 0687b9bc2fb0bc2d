"""What each judge of a tier takes for a worse image: distances of altered held-out images to the training images.

    snakemake --cores all --config tier=cifar10 results/cifar10/reference/{effnet-lite2,vit-judge}/reference.json
    python benchmarks/judge_sensitivity.py --tier cifar10 --images 2500

The alterations are of known size and say nothing of any model: blur, noise, the image's pieces in another order, and, what a
viewer hardly sees, a tint and a little less contrast. `times` is the distance over that of the same images unaltered. A judge is
of use where blur and broken order weigh more than a shade of colour.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from irepa.config.load import load_settings
from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.distances import frechet_distance, statistics
from irepa.engine.judges import extract
from irepa.engine.targets import trained_entry
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.stages.evaluate import reference_of
from irepa.tokens import spread

ROOT = Path(__file__).resolve().parent.parent
Images = NDArray[np.uint8]


def rounded(values: NDArray[np.floating]) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def blurred(images: Images, sigma: float) -> Images:
    return rounded(gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0)))


def noisy(images: Images, deviation: float) -> Images:
    return rounded(images + np.random.default_rng(0).normal(0, deviation, images.shape))


def in_pieces(images: Images, parts: int) -> Images:
    """Each image's ``parts`` x ``parts`` squares in an order of its own."""
    rng, (count, height, width, _) = np.random.default_rng(0), images.shape
    grid = images.reshape(count, parts, height // parts, parts, width // parts, 3).swapaxes(2, 3)
    pieces = grid.reshape(count, parts * parts, height // parts, width // parts, 3)
    moved = np.stack([image[rng.permutation(parts * parts)] for image in pieces])
    return moved.reshape(grid.shape).swapaxes(2, 3).reshape(images.shape)


def tinted(images: Images, share: float) -> Images:
    return rounded(images * np.array([1 + share, 1, 1 - share]))


def paler(images: Images, share: float) -> Images:
    return rounded((images - 127.0) * (1 - share) + 127.0)


ALTERED: dict[str, Callable[[Images], Images]] = {
    "none": lambda images: images,
    "blur of 0.6 pixels": lambda images: blurred(images, 0.6),
    "blur of 1 pixel": lambda images: blurred(images, 1.0),
    "noise of 8 of 255": lambda images: noisy(images, 8),
    "noise of 16 of 255": lambda images: noisy(images, 16),
    "2x2 pieces in another order": lambda images: in_pieces(images, 2),
    "4x4 pieces in another order": lambda images: in_pieces(images, 4),
    "5% more red, 5% less blue": lambda images: tinted(images, 0.05),
    "10% less contrast": lambda images: paler(images, 0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tier", default="cifar10")
    parser.add_argument("--images", type=int, default=2500, help="held-out images, spread evenly over all")
    arguments = parser.parse_args()
    device = setup(1)
    plan = Plan(load_settings({"tier": arguments.tier}, ROOT / "workflow"), ROOT)
    held_out = stored_images(plan.record(Job("data")), "test")
    images = held_out[spread(len(held_out), arguments.images)]
    print(f"{'judge':<14}{'alteration':<30}{'distance':>10}{'times':>9}")
    for name in plan.settings.tier.evaluation.extractors:
        context = Context(plan, Job("floor", name))
        entry, settings = trained_entry(context, name), plan.settings.tier.evaluation
        data = reference_of(context.input("reference", name)).moments
        plain = 0.0
        for alteration, altered in ALTERED.items():
            found = extract(name, entry, altered(images), settings, device).pooled
            distance = frechet_distance(statistics(found), data)
            plain = plain or distance
            print(f"{name:<14}{alteration:<30}{distance:>10.4g}{distance / plain:>9.2f}", flush=True)


if __name__ == "__main__":
    main()

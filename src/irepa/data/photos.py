"""Crops of photographs that ship inside scikit-image and scikit-learn: a real dataset without a download.

The class of a crop is its photograph. Each photograph is cut in two along its longer side; training crops come from the
first part, held-out crops from the second, so that the two share no pixel. Crops have several sizes and are
flipped at random; everything follows from ``seed``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.data import Dataset, Images, Split

# Name of the class and function of skimage.data. Drawings, test patterns and scanned text are left out.
SKIMAGE_PHOTOGRAPHS = {
    "astronaut": "astronaut",
    "brick": "brick",
    "camera": "camera",
    "cat": "cat",
    "coffee": "coffee",
    "coins": "coins",
    "grass": "grass",
    "gravel": "gravel",
    "hubble": "hubble_deep_field",
    "tissue": "immunohistochemistry",
    "moon": "moon",
    "retina": "retina",
    "rocket": "rocket",
    "motorcycle": "stereo_motorcycle",
}
SKLEARN_PHOTOGRAPHS = ("china.jpg", "flower.jpg")


class Options(Strict):
    """Crops per photograph, share of the longer side for training, and crop sizes relative to the region."""

    train_per_class: Positive = 250
    test_per_class: Positive = 125
    train_share: float = Field(0.65, gt=0.1, lt=0.9)
    smallest_crop: float = Field(0.3, gt=0, le=1, description="Side, as a share of the region's shorter side.")
    seed: int = 0


def check(options: Options) -> None:
    """Nothing to find: the photographs come with the dependencies."""


def photographs() -> dict[str, Images]:
    """Every photograph as (H, W, 3) uint8, by name."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    found: dict[str, Images] = {}
    for name, function in SKIMAGE_PHOTOGRAPHS.items():
        loaded = getattr(skimage.data, function)()
        image = loaded[0] if isinstance(loaded, tuple) else loaded
        found[name] = np.stack([image] * 3, axis=-1) if image.ndim == 2 else image[..., :3]
    for name in SKLEARN_PHOTOGRAPHS:
        found[name.removesuffix(".jpg")] = load_sample_image(name)
    return {name: np.ascontiguousarray(image, dtype=np.uint8) for name, image in found.items()}


def regions(shape: tuple[int, ...], train_share: float) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Training and held-out region of an image of this shape: disjoint, cut across the longer side."""
    height, width = shape[:2]
    if width >= height:
        cut = round(width * train_share)
        return (slice(0, height), slice(0, cut)), (slice(0, height), slice(cut, width))
    cut = round(height * train_share)
    return (slice(0, cut), slice(0, width)), (slice(cut, height), slice(0, width))


def random_crops(region: Images, count: int, size: int, smallest: float, rng: np.random.Generator) -> Images:
    """(count, size, size, 3): square crops of random side and place, flipped half the time, resized with antialiasing."""
    height, width = region.shape[:2]
    short = min(height, width)
    image = Image.fromarray(region)
    crops = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        side = max(size, round(short * float(np.exp(rng.uniform(np.log(smallest), 0)))))
        side = min(side, short)
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        crop = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        crops[index] = np.asarray(crop)[:, ::-1] if rng.random() < 0.5 else np.asarray(crop)
    return crops


def load(options: Options, image_size: int) -> Dataset:
    """Raises ValueError where a region is smaller than ``image_size``."""
    pictures = photographs()

    def split(which: int, count: int) -> Split:
        def batches() -> Iterator[Images]:
            for number, picture in enumerate(pictures.values()):
                region = picture[regions(picture.shape, options.train_share)[which]]
                if min(region.shape[:2]) < image_size:
                    raise ValueError(f"a region of {region.shape} is smaller than {image_size} px")
                rng = np.random.default_rng([options.seed, number, which])
                yield random_crops(region, count, image_size, options.smallest_crop, rng)

        labels: NDArray[np.int64] = np.repeat(np.arange(len(pictures), dtype=np.int64), count)
        return Split(labels, batches)

    return Dataset(split(0, options.train_per_class), split(1, options.test_per_class), list(pictures))

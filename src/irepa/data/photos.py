"""Crops of photographs that ship inside scikit-image and scikit-learn: a real dataset without a download.

The class of a crop is its photograph. Each photograph is cut in two along its longer side; training crops come from the first
part, held-out crops from the second, so that the two share no pixel. Crops have several sizes and are flipped at random;
everything follows from ``seed``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Seed, Strict
from irepa.data import Split, Splits
from irepa.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from irepa.images import Images

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
    train_per_class: Positive = Field(250, description="Training crops of each photograph.")
    test_per_class: Positive = Field(125, description="Held-out crops of each photograph.")
    train_share: float = Field(
        0.65, gt=0.1, lt=0.9, description="Share of a photograph's longer side that training crops come from."
    )
    smallest_crop: float = Field(
        0.3, gt=0, le=1, description="Side of the smallest crop, as a share of its region's shorter side."
    )
    seed: Seed = Field(0, description="Seed of the crops and flips.")


def at_most(options: Options) -> tuple[int | None, int | None]:
    """The numbers of training and held-out images."""
    count = len(SKIMAGE_PHOTOGRAPHS) + len(SKLEARN_PHOTOGRAPHS)
    return count * options.train_per_class, count * options.test_per_class


def check(options: Options) -> None:
    """Nothing to find: the photographs come with the dependencies."""


def photographs() -> dict[str, Images]:
    """Every photograph as (H, W, 3) uint8, by name."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    pictures: dict[str, Images] = {}
    for name, function in SKIMAGE_PHOTOGRAPHS.items():
        loaded = getattr(skimage.data, function)()
        image = loaded[0] if isinstance(loaded, tuple) else loaded
        pictures[name] = np.stack([image] * 3, axis=-1) if image.ndim == 2 else image[..., :3]
    for name in SKLEARN_PHOTOGRAPHS:
        pictures[name.removesuffix(".jpg")] = load_sample_image(name)
    return {name: np.ascontiguousarray(image, dtype=np.uint8) for name, image in pictures.items()}


def regions(shape: tuple[int, ...], train_share: float) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Training and held-out region of an image of this shape: disjoint, cut across the longer side."""
    height, width = shape[:2]
    if width >= height:
        cut = round(width * train_share)
        return (slice(0, height), slice(0, cut)), (slice(0, height), slice(cut, width))
    cut = round(height * train_share)
    return (slice(0, cut), slice(0, width)), (slice(cut, height), slice(0, width))


def random_crops(region: Images, count: int, size: int, smallest: float, rng: np.random.Generator) -> Images:
    """(count, size, size, 3): square crops of random side and place, flipped half the time, resized with antialiasing.

    Sides are log-uniform between ``smallest`` and 1 times the shorter side of ``region`` (H, W, 3), but at least ``size``.
    """
    from PIL import Image

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


def load(options: Options, image_size: int) -> Splits:
    """Both splits, at ``image_size`` pixels. Raises DataError where a region is smaller than ``image_size``."""
    pictures = photographs()

    def split(which: int, count: int) -> Split:
        def batches() -> Iterator[Images]:
            for number, picture in enumerate(pictures.values()):
                region = picture[regions(picture.shape, options.train_share)[which]]
                if min(region.shape[:2]) < image_size:
                    raise DataError(
                        f"dataset.image_size = {image_size}: a photograph's region of {region.shape[0]}x{region.shape[1]} pixels "
                        "is smaller; choose a smaller size or another dataset.train_share"
                    )
                rng = np.random.default_rng([options.seed, number, which])
                yield random_crops(region, count, image_size, options.smallest_crop, rng)

        labels: NDArray[np.int64] = np.repeat(np.arange(len(pictures), dtype=np.int64), count)
        return Split(labels, batches)

    return Splits(split(0, options.train_per_class), split(1, options.test_per_class), list(pictures))

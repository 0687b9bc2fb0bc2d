"""Images: decode and crop files, and bring pixels to the range and size that a network is given."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from irepa.errors import DataError

Images = NDArray[np.uint8]  # (n, height, width, 3), or one image (height, width, 3)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop (paper section 3): halve with a box filter while twice too large, then bicubic, then crop."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    top, left = (image.height - size) // 2, (image.width - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode(content: bytes, size: int, where: str) -> Images:
    """The content of an image file, centre-cropped: (size, size, 3). Raises DataError, naming ``where``, for what is no image."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: cannot be decoded as an image ({error})") from None
    return np.asarray(center_crop(image.convert("RGB"), size))


def decode_all(sources: Sequence[tuple[bytes | Path, str]], size: int) -> Images:
    """Files or their contents, each with the name that an error gives it, on all cores: (n, size, size, 3), in order.

    Raises DataError as :func:`decode` does.
    """

    def one(source: tuple[bytes | Path, str]) -> Images:
        content, where = source
        return decode(content if isinstance(content, bytes) else content.read_bytes(), size, where)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        return np.stack(list(pool.map(one, sources)))


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Float images (batch, 3, H, W) in [0, 1] to (batch, 3, *size), in [0, 1]: bicubic, antialiased when shrinking."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def standardise(images: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """What a network was trained on, (batch, 3, *size) float32, of images (batch, 3, H, W) uint8.

    They are resized in [0, 1]; then ``mean`` is taken off each colour channel, and what is left is divided by ``std``.
    """
    x = resize(images.float() / 255, size)
    centre, spread = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (mean, std))
    return (x - centre) / spread


def to_unit(images: Tensor) -> Tensor:
    """Images (batch, 3, H, W) uint8 to pixels in [-1, 1], float32."""
    return images.float() / 127.5 - 1


def to_images(pixels: Tensor) -> Tensor:
    """Pixels (batch, 3, H, W), clamped to [-1, 1], to uint8."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

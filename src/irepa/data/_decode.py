"""Decode and crop images, with an error that names the one that cannot be."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from irepa.data import Images
from irepa.errors import DataError


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop (paper section 3): halve with a box filter while twice too large, then bicubic, then crop."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    top, left = (image.height - size) // 2, (image.width - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode(content: bytes, size: int, where: str) -> Images:
    """(size, size, 3) uint8. Raises DataError, naming ``where``, for what is no readable image."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: cannot be decoded as an image ({error})") from None
    return np.asarray(center_crop(image.convert("RGB"), size))


def decode_all(sources: Sequence[tuple[bytes | Path, str]], size: int) -> Images:
    """Files or their contents, each with the name that an error gives it, on all cores: (n, size, size, 3), in order."""

    def one(source: tuple[bytes | Path, str]) -> Images:
        content, where = source
        return decode(content if isinstance(content, bytes) else content.read_bytes(), size, where)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        return np.stack(list(pool.map(one, sources)))

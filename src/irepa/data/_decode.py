"""Decode and crop one image, with an error that names it."""

from __future__ import annotations

import io

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

"""Images: decode and crop files, and bring pixels to the range and size that a network is given."""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from irepa.errors import DataError, translated
from irepa.tokens import check_finite

Images = NDArray[np.uint8]  # (n, height, width, 3), or one image (height, width, 3)
Mode = Literal["bicubic", "bilinear"]  # of resizing
Grey = Literal["nearest", "below"]  # the level that a pixel becomes


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop (paper section 3): halve with a box filter while twice too large, then bicubic, then crop."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    top, left = (image.height - size) // 2, (image.width - size) // 2
    return image.crop((left, top, left + size, top + size))


# Values of EXIF's Orientation, and what brings the pixels upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST = 100  # times the shorter side: a longer strip would take gigabytes when its shorter side is enlarged
BITS_PER_SAMPLE = 258  # the TIFF tag
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
SIXTEEN_BIT_IN_32 = ("PNG", "PPM")  # formats whose 16-bit grey Pillow may hand over as 32-bit integers in 0..65535
OPAQUE = ("1", "L", "RGB", "CMYK", "YCbCr", "P")
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def orientation(image: Image.Image) -> int:
    """How the camera was held, by EXIF: 1 to 8, 1 where nothing is said. A damaged EXIF block says nothing."""
    value: object = None
    with suppress(Exception):  # published datasets have damaged blocks beside good pixels
        value = image.getexif().get(ORIENTATION)
    return value if isinstance(value, int) and value in UPRIGHT else 1


def eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey to 8-bit grey: v * 255 / 65535, rounded; white where it is transparent. Raises DataError for other ranges."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(BITS_PER_SAMPLE) != (16,):
        raise DataError(f"grey of {image.tag_v2.get(BITS_PER_SAMPLE)} bits has no known white")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"grey values from {values.min()} to {values.max()} are not those of 16 bits")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return Image.fromarray(np.where(values == image.info.get("transparency", -1), np.uint8(255), grey))


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode that has a meaning as colours, as 8-bit RGB; the rules stand at :func:`decode`. Raises DataError."""
    if image.mode in SIXTEEN_BIT or (image.mode == "I" and image.format in SIXTEEN_BIT_IN_32):
        return eight_bit(image).convert("RGB")
    if image.mode in WITH_ALPHA or (image.mode in OPAQUE and image.has_transparency_data):
        # Premultiplied and palette modes reach RGBA in one step or two.
        straight = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", straight.size, "white"), straight).convert("RGB")
    if image.mode in OPAQUE:
        return image.convert("RGB")
    raise DataError(f"pixels of mode {image.mode} have no known white")


def decode(content: bytes, size: int, where: str) -> Images:
    """The content of an image file, centre-cropped: (size, size, 3) uint8.

    What is not 8-bit RGB or grey becomes so by these rules, of which docs/tiers.md tells the user:

    - An EXIF orientation is applied. A damaged EXIF block is passed over.
    - Transparent pixels are laid on white, be it by an alpha channel, a palette or a transparent colour.
    - 16-bit grey is scaled to 8 bits by its full range, 0..65535; 16-bit colour keeps its upper 8 bits.
    - CMYK and YCbCr are converted by Pillow's formulas; embedded colour profiles are not applied.
    - Of several frames the first is taken.
    - 32-bit integers and floating-point pixels, whose white nobody knows, are refused, and so are strips whose longer side
      is more than 100 times the shorter.

    Raises DataError, naming ``where``, for what is refused or is no image.
    """
    cure = "replace the file, or save it anew as 8-bit RGB, or leave it out"
    with translated(DataError, f"{where}: cannot be decoded as an image", cure):
        try:
            image = Image.open(io.BytesIO(content))
            image.load()
        except UnidentifiedImageError:  # its own words name an object in memory
            raise DataError(
                f"{where}: cannot be decoded as an image (no format that Pillow knows, {len(content)} bytes); {cure}"
            ) from None
        if max(image.size) > LONGEST * min(image.size):
            raise DataError(f"{where}: {image.width}x{image.height} pixels are a strip, no photograph; {cure}")
        try:
            colours = to_rgb(image)
        except DataError as error:
            raise DataError(f"{where}: {error}; {cure}") from None
        turn = UPRIGHT.get(orientation(image))
        return np.asarray(center_crop(colours if turn is None else colours.transpose(turn), size))


def cores() -> int | None:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def decode_all(sources: Sequence[tuple[bytes | Path, str]], size: int) -> Images:
    """Files or their contents, each with the name that an error gives it, on all cores: (n, size, size, 3), in order.

    Raises DataError as :func:`decode` does, and for a file that cannot be read.
    """

    def one(source: tuple[bytes | Path, str]) -> Images:
        content, where = source
        if isinstance(content, Path):
            with translated(DataError, f"{where}: cannot be read", "see that it is there and may be read"):
                if not stat.S_ISREG(content.stat().st_mode):  # reading a pipe would wait for ever
                    raise DataError(f"{where}: it is a folder, a pipe or a device and no file; move it away")
                content = content.read_bytes()
        return decode(content, size, where)

    with ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(one, sources)))


def pack(image: Images) -> bytes:
    """One image (height, width, 3) as WebP without loss, at a size near the smallest and in some milliseconds."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "WEBP", lossless=True, method=0)
    return content.getvalue()


def unpack(content: bytes) -> Images:
    """What :func:`pack` was given."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def pack_all(images: Images) -> list[bytes]:
    """:func:`pack` of each image (n, height, width, 3), on all cores."""
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(pack, images))


def resize(
    images: Tensor, size: tuple[int, int], mode: Mode = "bicubic", antialias: bool = True, clamp: bool = True
) -> Tensor:
    """Float images (batch, 3, H, W) to (batch, 3, *size), with half-pixel centres; as they are where they have that size.

    Bicubic weights overshoot at edges: ``clamp`` brings values back to [0, 1]. ``antialias`` widens the filter where images
    shrink; with it, torch's bicubic has a = -0.5 (as Pillow), without it a = -0.75.
    """
    if images.shape[-2:] == size:
        return images
    resized = F.interpolate(images, size, mode=mode, antialias=antialias, align_corners=False)
    return resized.clamp(0, 1) if clamp else resized


@functools.cache
def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, channels, 1, 1) on the device; made once, because making it waits for a GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(1, -1, 1, 1)


def standardise(
    images: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], *,
    mode: Mode = "bicubic", antialias: bool = True, clamp: bool = True,
    order: Literal["resize-first", "normalise-first"] = "resize-first",
) -> Tensor:  # fmt: skip
    """What a network is given, (batch, 3, *size) float32, of images (batch, 3, H, W) uint8: the one way in for every encoder.

    Values in [0, 1] are resized (:func:`resize`) and normalised, (x - mean) / std per colour channel, in this order or the other.
    """
    centre, spread = (per_channel(tuple(values), images.device) for values in (mean, std))
    x = images.float() / 255
    if order == "normalise-first":
        return resize((x - centre) / spread, size, mode, antialias, clamp)
    return (resize(x, size, mode, antialias, clamp) - centre) / spread


def to_unit(images: Tensor) -> Tensor:
    """Images (batch, 3, H, W) uint8 to pixels in [-1, 1], float32."""
    return images.float() / 127.5 - 1


def to_images(pixels: Tensor, grey: Grey = "nearest") -> Tensor:
    """Pixels (batch, 3, H, W), clamped to [-1, 1], to the nearest level of uint8, or to the next one below.

    Raises DivergedError for NaN, which would become black.
    """
    check_finite(pixels, "decoded pixels")
    levels = (pixels.clamp(-1, 1) + 1) * 127.5
    return (levels.round() if grey == "nearest" else levels.floor()).to(torch.uint8)

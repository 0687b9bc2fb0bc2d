"""Run judges over images: the features in which samples are compared with data (:mod:`irepa.engine.distances`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from irepa.config.tier import EncoderEntry, Evaluation
from irepa.encoders import Declared
from irepa.errors import DataError, DivergedError
from irepa.pipeline.files import Compressed
from irepa.progress import track


@dataclass(frozen=True)
class JudgeFeatures:
    """What a judge says of images, as :class:`irepa.encoders.Judged` says it of a batch: (images, ...) float32."""

    pooled: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None
    spatial: NDArray[np.float32] | None = None


def extract(
    name: str, entry: EncoderEntry, images: NDArray[np.uint8] | Compressed, settings: Evaluation, device: torch.device
) -> JudgeFeatures:
    """A judge's features of images (n, H, W, 3).

    Raises ConfigError where the row's library is no judge, WeightsError where its weights cannot be had, DataError for what are
    no images, and DivergedError for NaN features.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise DataError(f"{name}: {images.dtype} {images.shape} are no images; (n, H, W, 3) uint8 are needed")
    judge = Declared.of(name, entry, settings.input_size).judge(device)
    parts: dict[str, list[NDArray[np.float32]]] = {}
    starts = range(0, len(images), settings.batch)
    for start in track(starts, name, len(starts)):
        batch = torch.from_numpy(np.array(images[start : start + settings.batch])).permute(0, 3, 1, 2)
        for kind, values in vars(judge(batch.to(device))).items():
            if values is not None:
                parts.setdefault(kind, []).append(values.float().cpu().numpy())
    together = {kind: np.concatenate(arrays) for kind, arrays in parts.items()}
    if not all(np.isfinite(array).all() for array in together.values()):
        raise DivergedError(f"{name}: features of the images hold NaN or infinite values")
    return JudgeFeatures(**together)


def spatial_width(name: str, entry: EncoderEntry, settings: Evaluation) -> int | None:
    """Width of a judge's spatial features; None where it has none. Raises ConfigError as :func:`width`."""
    return Declared.of(name, entry, settings.input_size).library.judge_spatial_dim


def width(name: str, entry: EncoderEntry, settings: Evaluation) -> int:
    """Width of a judge's features, without its weights. Raises ConfigError where the row's library is no judge."""
    declared, device = Declared.of(name, entry, settings.input_size).without_weights()
    if declared.library.judge_dim is not None:
        return declared.library.judge_dim
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device)
    return int(declared.judge(torch.device(device))(blank).pooled.shape[1])

"""Run judges over images: the features in which samples are compared with data (:mod:`irepa.engine.distances`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irepa.config.tier import EncoderEntry, Evaluation
from irepa.encoders import Declared
from irepa.engine.loading import fetched, read_ahead
from irepa.engine.sharing import Arrays, Work, grouped, indices_of
from irepa.engine.targets import trained_entry
from irepa.errors import DataError
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.stored import Indices, InMemory, Stored
from irepa.tokens import check_images_finite, in_batches

PART = 64  # batches that one of several processes computes before another one may


@dataclass(frozen=True)
class JudgeFeatures:
    """What a judge says of images, as :class:`irepa.encoders.Judged` says it of a batch: (images, ...) float32."""

    pooled: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None
    spatial: NDArray[np.float32] | None = None


def judging(context: Context, name: str, images: Stored, device: torch.device) -> Work:
    """What a judge of the tier says of images (n, H, W, 3), as work that the job's processes can share.

    Raises as :func:`work_of`, and CacheError where the weights that the pipeline trains are missing.
    """
    resources, entry = context.resources, trained_entry(context, name)
    several = resources.processes > 1
    return work_of(name, entry, images, context.tier.evaluation, device, resources.workers, PART if several else 1)


def work_of(
    name: str, entry: EncoderEntry, images: Stored, settings: Evaluation, device: torch.device, workers: int = 0,
    batches: int = 1,
) -> Work:  # fmt: skip
    """A judge's features of images (n, H, W, 3), so many batches a part; the judge is built when the work is begun.

    Raises DataError for what are no images; the work raises WeightsError where a feature is NaN or infinite.
    """
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3 or not len(images):
        raise DataError(f"{name}: {images.dtype} {images.shape} are no images; (n, H, W, 3) uint8 are needed")

    def judged(indices: Indices) -> Iterator[tuple[Indices, tuple[str, ...], *tuple[Tensor, ...]]]:
        judge = Declared.of(name, entry, settings.input_size).judge(device)
        asked = in_batches(indices, settings.batch)
        with closing(read_ahead({"images": images}, asked, settings.batch, workers, device)) as read:
            for batch in track(read, name, len(asked)):
                said = vars(judge(batch.rows["images"].permute(0, 3, 1, 2)))
                found = {kind: values.float() for kind, values in said.items() if values is not None}
                yield batch.indices, tuple(found), *found.values()

    def computed(parts: list[range]) -> Iterator[Arrays]:
        for rows, kinds, *values in fetched(judged(indices_of(parts))):
            for kind, array in zip(kinds, values, strict=True):
                what = f"judge {name}: {kind} features of images"
                check_images_finite(array, what, rows, "give the judge other weights")
            yield {kind: array.numpy() for kind, array in zip(kinds, values, strict=True)}

    return Work(len(images), settings.batch * batches, lambda parts: grouped(computed(parts), parts))


def gathered(parts: Iterable[Arrays]) -> JudgeFeatures:
    """What a judge said, of the parts of its work."""
    collected = list(parts)
    return JudgeFeatures(**{kind: np.concatenate([arrays[kind] for arrays in collected]) for kind in collected[0]})


def extract(
    name: str, entry: EncoderEntry, images: NDArray[np.uint8] | Stored, settings: Evaluation, device: torch.device
) -> JudgeFeatures:
    """A judge's features of images (n, H, W, 3), by this process alone.

    Raises ConfigError where the row's library is no judge, WeightsError where its weights cannot be had, and as :func:`work_of`.
    """
    stored = images if isinstance(images, Stored) else InMemory(images)
    work = work_of(name, entry, stored, settings, device)
    return gathered(work.compute(work.parts()))


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

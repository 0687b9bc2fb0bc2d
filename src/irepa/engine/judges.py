"""Distances between samples and data in the feature space of a judge, by torch-fidelity.

Sums are float32 inside torch-fidelity's statistics of float32 features, as in its own FID. At fewer samples than feature
dimensions the Frechet distance is biased upwards, equally for all cells of a tier, while KID stays unbiased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from irepa.config.tier import EncoderEntry, Evaluation
from irepa.encoders import Declared
from irepa.engine.loading import fetched, in_batches, read_ahead
from irepa.engine.sharing import Arrays, Work, grouped, indices_of
from irepa.errors import DataError, DivergedError
from irepa.progress import track
from irepa.references import Statistics
from irepa.stored import Indices, InMemory, Stored

PART = 64  # batches that one of several processes computes before another one may


@dataclass(frozen=True)
class JudgeFeatures:
    """What a judge says of images: ``pooled`` (images, dim) float32, and class ``logits`` (images, classes) or None."""

    pooled: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None


def judging(
    name: str, entry: EncoderEntry, images: Stored, settings: Evaluation, device: torch.device, workers: int = 0,
    several: bool = False,
) -> Work:  # fmt: skip
    """A judge's ``pooled`` features, and ``logits`` where it gives them, of images (n, H, W, 3): work that processes can share.

    ``several``: whether they do. The judge is built when the work is begun. Raises DataError for what are no images.
    """
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3 or not len(images):
        raise DataError(f"{name}: {images.dtype} {images.shape} are no images; (n, H, W, 3) uint8 are needed")

    def scored(indices: Indices) -> Iterator[tuple[Tensor | None, ...]]:
        judge = Declared.of(name, entry, settings.input_size).judge(device)
        asked = in_batches(indices, settings.batch)
        with closing(read_ahead({"images": images}, asked, settings.batch, workers, device)) as batches:
            for batch in track(batches, name, len(asked)):
                features, logits = judge(batch.rows["images"].permute(0, 3, 1, 2))
                yield features.float(), None if logits is None else logits.float()

    def batches(parts: list[range]) -> Iterator[Arrays]:
        for found in fetched(scored(indices_of(parts))):
            named = zip(("pooled", "logits"), found, strict=True)
            yield {what: scores.numpy() for what, scores in named if scores is not None}

    size = settings.batch * (PART if several else 1)
    return Work(len(images), size, lambda parts: grouped(batches(parts), parts))


def judged(name: str, parts: Iterable[Arrays]) -> JudgeFeatures:
    """What a judge said, of the parts of its work. Raises DivergedError for NaN features."""
    collected = list(parts)
    together = {what: np.concatenate([arrays[what] for arrays in collected]) for what in collected[0]}
    if not all(np.isfinite(scores).all() for scores in together.values()):
        raise DivergedError(f"{name}: features of the images hold NaN or infinite values")
    return JudgeFeatures(together["pooled"], together.get("logits"))


def extract(
    name: str, entry: EncoderEntry, images: NDArray[np.uint8], settings: Evaluation, device: torch.device
) -> JudgeFeatures:
    """A judge's features of images (n, H, W, 3) in memory, by this process.

    Raises ConfigError where the row's library is no judge, WeightsError where its weights cannot be had, and as :func:`judging`
    and :func:`judged`.
    """
    work = judging(name, entry, InMemory(images), settings, device)
    return judged(name, work.compute(work.parts()))


def width(name: str, entry: EncoderEntry, settings: Evaluation) -> int:
    """Width of a judge's features, without its weights. Raises ConfigError where the row's library is no judge."""
    declared, device = Declared.of(name, entry, settings.input_size).without_weights()
    if declared.library.judge_dim is not None:
        return declared.library.judge_dim
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device)
    return int(declared.judge(torch.device(device))(blank)[0].shape[1])


def statistics(features: NDArray[np.float32]) -> Statistics:
    """``mu`` (dim,) and ``sigma`` (dim, dim) of features (n, dim)."""
    moments: Statistics = fid_features_to_statistics(torch.from_numpy(features))
    return moments


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) between two Gaussians given by ``statistics``."""
    same = {key: np.asarray(value, np.float64) for key, value in one.items()}
    others = {key: np.asarray(value, np.float64) for key, value in other.items()}
    return float(fid_statistics_to_metric(same, others, False)[KEY_METRIC_FID])


def kernel_distance(
    one: NDArray[np.float32], other: NDArray[np.float32], subsets: int, subset_size: int, seed: int = 0
) -> tuple[float, float]:
    """KID of features (n, dim), the unbiased squared MMD with a cubic kernel: mean and standard deviation over random subsets."""
    distance = kid_features_to_metric(
        torch.from_numpy(one),
        torch.from_numpy(other),
        kid_subsets=subsets,
        kid_subset_size=subset_size,
        rng_seed=seed,
        verbose=False,
    )
    return distance[KEY_METRIC_KID_MEAN], distance[KEY_METRIC_KID_STD]


def precision_recall(samples: NDArray[np.float32], data: NDArray[np.float32], neighbours: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019) of features (n, dim): shares in [0, 1]."""
    shares = prc_features_to_metric(
        torch.from_numpy(samples),
        torch.from_numpy(data),
        prc_neighborhood=neighbours,
        prc_batch_size=10_000,
        save_cpu_ram=True,
        verbose=False,
    )
    return float(shares[KEY_METRIC_PRECISION]), float(shares[KEY_METRIC_RECALL])


def inception_score(logits: NDArray[np.float32]) -> float:
    """exp of the mean KL divergence of class probabilities from their mean, over 10 splits of logits (n, classes)."""
    return float(isc_features_to_metric(torch.from_numpy(logits))[KEY_METRIC_ISC_MEAN])

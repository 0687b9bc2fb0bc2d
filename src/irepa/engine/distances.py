"""How far samples are from data in the feature space of a judge: Frechet and kernel distance, precision and recall.

The formulas are torch-fidelity's. A Frechet distance of few samples is biased upwards, and by how much depends on the samples
themselves: a model whose features spread wider has more bias. Differences between models at one number of samples hold this
too. The kernel distance is unbiased. The Frechet distance at several numbers of samples, extrapolated (Chong & Forsyth, 2020),
says how much of a difference is bias; see :func:`extrapolate` for when it can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from irepa.config.tier import EncoderEntry, Evaluation
from irepa.engine.judges import JudgeFeatures
from irepa.errors import ConfigError, DataError, DivergedError, translated
from irepa.references import Statistics

GROUPS = 8  # of samples, left out in turn for the error of the extrapolation


@dataclass(frozen=True)
class Reference:
    """What samples are compared with, under one judge.

    Attributes:
        moments: of the data's pooled features.
        spatial: of its spatial features; None where the judge has none or the reference has not their moments.
        features: pooled features (n, dim) of some of the data; n = 0 where there are moments alone.
    """

    moments: Statistics
    spatial: Statistics | None
    features: NDArray[np.float32]


def measured(
    name: str, entry: EncoderEntry, found: JudgeFeatures, reference: Reference, settings: Evaluation
) -> dict[str, float]:
    """Every metric of images by their features, under the names that the judge ``name`` gives them.

    Raises ConfigError for a reference of another width, DataError for too few images, and DivergedError for NaN or infinity.
    """
    width, count = found.pooled.shape[1], len(found.pooled)
    if reference.moments["mu"].shape != (width,):
        dim = len(reference.moments["mu"])
        raise ConfigError(
            f"evaluation.references: {name}: statistics of {dim} dimensions, the judge's features have {width}"
        )
    failed = f"{name}: {count} samples cannot be compared with {len(reference.features)} images"
    with translated(DataError, failed, "see that sampling.samples is large enough for every metric"):
        values = distances(found, reference, settings)
    for (metric, ending), value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name}: {metric}{ending} of {count} samples is {value}")
    return {entry.metric_name(metric) + ending: value for (metric, ending), value in values.items()}


def distances(found: JudgeFeatures, reference: Reference, settings: Evaluation) -> dict[tuple[str, str], float]:
    """Every metric that features and reference allow, by its name and by what follows the judge's in it."""
    data = reference.features
    metrics = {("FID", ""): frechet_distance(statistics(found.pooled), reference.moments)}
    if settings.parts:
        limit = extrapolate(found.pooled, reference.moments, settings.parts)
        metrics |= {("FID", f"-at-{count}"): value for count, value in limit.at.items() if count < len(found.pooled)}
        metrics |= {("FID", "-infinity"): limit.value, ("FID", "-infinity-se"): limit.error}
        metrics |= {} if limit.bend is None else {("FID", "-infinity-bend"): limit.bend}
    if found.spatial is not None and reference.spatial is not None:
        metrics[("sFID", "")] = frechet_distance(statistics(found.spatial), reference.spatial)
    if len(data):
        size = min(settings.kid_subset_size, len(data), len(found.pooled))
        metrics[("KID", "")], metrics[("KID", "-sd")] = kernel_distance(found.pooled, data, settings.kid_subsets, size)
        metrics[("precision", "")], metrics[("recall", "")] = precision_recall(found.pooled, data, settings.neighbours)
    if found.logits is not None:
        metrics[("IS", "")] = inception_score(found.logits)
    return metrics


def statistics(features: NDArray[np.float32]) -> Statistics:
    """``mu`` (dim,) and ``sigma`` (dim, dim) of features (n, dim). Means are sums in float32, as in torch-fidelity's own FID."""
    moments: Statistics = fid_features_to_statistics(torch.from_numpy(features))
    return moments


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) between two Gaussians given by ``statistics``."""
    same = {key: np.asarray(value, np.float64) for key, value in one.items()}
    others = {key: np.asarray(value, np.float64) for key, value in other.items()}
    return float(fid_statistics_to_metric(same, others, False)[KEY_METRIC_FID])


@dataclass(frozen=True)
class Extrapolation:
    """The Frechet distance of endlessly many samples, from that of fewer.

    Attributes:
        value: where the line meets 1/n = 0.
        error: its standard error, from leaving out groups of the samples in turn (jackknife); the reference is held.
        bend: by how much ``value`` would change if the smallest number were left out. Far beyond ``error``, the distance is no
            line in 1/n at these numbers. None where the line rests on two numbers alone.
        at: by number of samples, the mean distance of parts of that size.
    """

    value: float
    error: float
    bend: float | None
    at: dict[int, float]


def extrapolate(features: NDArray[np.float32], moments: Statistics, parts: Sequence[int]) -> Extrapolation:
    """Fit distance = value + slope / n for n = len / k, k in ``parts`` (FD-infinity; Chong & Forsyth, 2020).

    For each k the samples are cut into k parts, whose mean distance counts: every sample is used as often as any other. The
    bias is a line in 1/n where n is well beyond the number of directions in which features vary. With fewer samples, what they
    cannot see of the covariance makes a curve of it.

    Args:
        features: (n, dim), in an order that means nothing.
        moments: of the reference.
        parts: at least two different numbers; the largest leaves two samples in every part.
    """
    levels, every = sorted(set(parts)), np.arange(len(features))
    distance = _ToReference(features, moments)

    def at(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """1/n and the mean distance of each level, (levels, 2), from these samples."""
        cut = [np.array_split(rows, k) for k in levels]
        return np.array(
            [(k / len(rows), np.mean([distance(part) for part in some])) for k, some in zip(levels, cut, strict=True)]
        )

    points = at(every)
    value = _intercept(points)
    without = np.array([_intercept(at(every[every % GROUPS != group])) for group in range(GROUPS)])
    error = math.sqrt((GROUPS - 1) / GROUPS * float(np.square(without - without.mean()).sum()))
    bend = _intercept(points[:-1]) - value if len(levels) > 2 else None
    means = {len(features) // k: float(mean) for k, (_, mean) in zip(levels, points, strict=True)}
    return Extrapolation(value, error, bend, means)


def _intercept(points: NDArray[np.float64]) -> float:
    """Where the least-squares line through points (n, 2) of x and y meets x = 0."""
    return float(np.polynomial.Polynomial.fit(points[:, 0], points[:, 1], 1)(0))


class _ToReference:
    """Frechet distances of subsets of features (n, dim) to one reference, whose square root is taken once.

    tr sqrt(S R) is the sum of the singular values of X sqrt(R) / sqrt(n - 1), X (n, dim) the centred features.
    """

    def __init__(self, features: NDArray[np.float32], moments: Statistics) -> None:
        values, vectors = np.linalg.eigh(np.asarray(moments["sigma"], np.float64))
        self.mean, self.trace = np.asarray(moments["mu"], np.float64), float(values.sum())
        self.features = features.astype(np.float64)
        self.turned = self.features @ (vectors * np.sqrt(values.clip(min=0)))

    def __call__(self, rows: NDArray[np.int64]) -> float:
        """That of the samples ``rows``, at least two."""
        x, y = (of[rows] - of[rows].mean(axis=0) for of in (self.features, self.turned))
        gram = y @ y.T if len(y) < y.shape[1] else y.T @ y
        shared = np.sqrt(np.linalg.eigvalsh(gram).clip(min=0)).sum() / math.sqrt(len(rows) - 1)
        shift = np.square(self.features[rows].mean(axis=0) - self.mean).sum()
        return float(shift + np.square(x).sum() / (len(rows) - 1) + self.trace - 2 * shared)


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

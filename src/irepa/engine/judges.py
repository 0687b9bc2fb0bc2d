"""Distances between samples and data in the feature space of a judge, by torch-fidelity.

Sums are float32 inside torch-fidelity's statistics of float32 features, as in its own FID; at fewer samples than feature
dimensions the Frechet distance is biased upwards, equally for all cells of a tier, while KID stays unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from irepa.config import plugins
from irepa.config.plugins import encoder_options
from irepa.config.tier import EncoderEntry, Evaluation
from irepa.errors import ConfigError, DivergedError, WeightsError
from irepa.progress import track

LAYER = "pooled"
Statistics = dict[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Features:
    """What a judge says of images: ``pooled`` (images, dim) float32, and class ``logits`` (images, classes) or None."""

    pooled: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None


def register(name: str, entry: EncoderEntry, input_size: int | None = None) -> None:
    """Make a judge of ``workflow/encoders.yaml`` known to torch-fidelity under its own name.

    Raises ConfigError where its library has no pooled feature to judge by.
    """
    module = plugins.load("encoders", entry.library, name)
    if not hasattr(module, "build_extractor"):
        raise ConfigError(f"evaluation.extractors: {name}: library {entry.library} gives no pooled feature")
    options = encoder_options(entry, input_size, f"encoders.yaml: {name}")

    class Registered(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.inner: nn.Module = module.build_extractor(options)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (LAYER,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LAYER

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            features: tuple[Tensor, ...] = self.inner(images)
            return features

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(name, Registered)


def extract(
    name: str, entry: EncoderEntry, images: NDArray[np.uint8], settings: Evaluation, device: torch.device
) -> Features:
    """A judge's features of images (n, H, W, 3) uint8. Raises DivergedError for NaN features."""
    register(name, entry, settings.input_size)
    batch = settings.batch
    judge = create_feature_extractor(name, [LAYER], cuda=device.type == "cuda", verbose=False)

    def features() -> Iterator[tuple[NDArray[np.float32], ...]]:
        for start in track(range(0, len(images), batch), name, -(-len(images) // batch)):
            chosen = torch.from_numpy(np.array(images[start : start + batch])).permute(0, 3, 1, 2)
            yield tuple(found.float().cpu().numpy() for found in judge(chosen.to(device)))

    pooled, *logits = (np.concatenate(parts) for parts in zip(*features(), strict=True))
    if not np.isfinite(pooled).all():
        raise DivergedError(f"{name}: features of the images hold NaN or infinite values")
    return Features(pooled, logits[0] if logits else None)


def read_statistics(path: Path) -> tuple[Statistics, NDArray[np.uint8] | None]:
    """Reference statistics as the ADM suite distributes them: an .npz with ``mu`` and ``sigma``, and images as ``arr_0``.

    Raises WeightsError where the file cannot be read or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found: Statistics = {key: np.asarray(stored[key], np.float64) for key in ("mu", "sigma")}
            images = stored["arr_0"] if "arr_0" in stored.files else None
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"evaluation.references: {path} cannot be read as statistics: {error}") from None
    dim = found["mu"].size
    if found["mu"].shape != (dim,) or found["sigma"].shape != (dim, dim):
        raise WeightsError(f"evaluation.references: {path}: mu {found['mu'].shape} and sigma {found['sigma'].shape}")
    return found, images


def statistics(features: NDArray[np.float32]) -> Statistics:
    """``mu`` (dim,) and ``sigma`` (dim, dim) of features (n, dim)."""
    found: Statistics = fid_features_to_statistics(torch.from_numpy(features))
    return found


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """|mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) between two Gaussians given by ``statistics``."""
    same = {key: np.asarray(value, np.float64) for key, value in one.items()}
    others = {key: np.asarray(value, np.float64) for key, value in other.items()}
    return float(fid_statistics_to_metric(same, others, False)[KEY_METRIC_FID])


def kernel_distance(
    one: NDArray[np.float32], other: NDArray[np.float32], subsets: int, subset_size: int, seed: int = 0
) -> tuple[float, float]:
    """KID, the unbiased squared MMD with a cubic kernel: mean and standard deviation over random subsets."""
    found = kid_features_to_metric(
        torch.from_numpy(one),
        torch.from_numpy(other),
        kid_subsets=subsets,
        kid_subset_size=subset_size,
        rng_seed=seed,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def precision_recall(samples: NDArray[np.float32], data: NDArray[np.float32], neighbours: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019) of features (n, dim): shares in [0, 1]."""
    found = prc_features_to_metric(
        torch.from_numpy(samples),
        torch.from_numpy(data),
        prc_neighborhood=neighbours,
        prc_batch_size=10_000,
        save_cpu_ram=True,
        verbose=False,
    )
    return float(found[KEY_METRIC_PRECISION]), float(found[KEY_METRIC_RECALL])


def inception_score(logits: NDArray[np.float32]) -> float:
    """exp of the mean KL divergence of class probabilities from their mean, over 10 splits of logits (n, classes)."""
    return float(isc_features_to_metric(torch.from_numpy(logits))[KEY_METRIC_ISC_MEAN])

"""Distances between samples and data in the feature space of a judge, by torch-fidelity.

Sums are float32 inside torch-fidelity's statistics of float32 features, as in its own FID; at fewer samples than feature
dimensions the Frechet distance is biased upwards, equally for all cells of a tier, while KID stays unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from irepa import plugins
from irepa.errors import ConfigError, DivergedError
from irepa.progress import track
from irepa.settings import EncoderEntry, Evaluation, encoder_options

LAYER = "pooled"


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
            self.inner: nn.Module = module.build_extractor(name, options)

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
) -> NDArray[np.float32]:
    """Pooled features (images, dim) of images (n, H, W, 3) uint8. Raises DivergedError for NaN features."""
    register(name, entry, settings.input_size)
    batch = settings.batch
    judge = create_feature_extractor(name, [LAYER], cuda=device.type == "cuda", verbose=False)

    def features() -> Iterator[NDArray[np.float32]]:
        for start in track(range(0, len(images), batch), name, -(-len(images) // batch)):
            chosen = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).permute(0, 3, 1, 2)
            yield judge(chosen.to(device))[0].float().cpu().numpy()

    found = np.concatenate(list(features()))
    if not np.isfinite(found).all():
        raise DivergedError(f"{name}: features of the images hold NaN or infinite values")
    return found


def statistics(features: NDArray[np.float32]) -> dict[str, NDArray[np.floating]]:
    """``mu`` (dim,) and ``sigma`` (dim, dim) of features (n, dim)."""
    found: dict[str, NDArray[np.floating]] = fid_features_to_statistics(torch.from_numpy(features))
    return found


def frechet_distance(one: dict[str, NDArray[np.floating]], other: dict[str, NDArray[np.floating]]) -> float:
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

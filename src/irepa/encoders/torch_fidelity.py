"""Feature extractors that torch-fidelity brings along: judges only, never alignment targets.

Only its Inception-v3 gives numbers that are called FID.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from irepa.errors import WeightsError
from irepa.settings import Strict

# The pooled feature of FID, and the class logits of the Inception Score.
LAYERS = ("2048", "logits_unbiased")


class Options(Strict):
    """``weights``: path of the converted weights; null lets torch-fidelity download them."""

    extractor: Literal["inception-v3-compat"] = "inception-v3-compat"
    weights: Path | None = None


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    if options.weights is not None and not options.weights.is_file():
        raise WeightsError(f"extractor {name}: weights = {options.weights}: there is no such file")


class Inception(nn.Module):
    def __init__(self, options: Options) -> None:
        super().__init__()
        from torch_fidelity.utils import create_feature_extractor

        path = None if options.weights is None else str(options.weights)
        self.inner = create_feature_extractor(
            options.extractor, list(LAYERS), cuda=False, feature_extractor_weights_path=path, verbose=False
        )

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.inner(images)
        return features


def build_extractor(options: Options) -> Inception:
    return Inception(options)

"""Feature extractors that torch-fidelity brings along: judges only, never alignment targets.

Only its Inception-v3 gives numbers that are called FID.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from irepa.config.options import Strict
from irepa.errors import WeightsError

# The pooled feature of FID, and the class logits of the Inception Score.
LAYERS = ("2048", "logits_unbiased")
FLOPS = (
    11.4e9  # per image of 299x299, a multiply-add counted as two (Szegedy et al., 2016): its weights come with the code
)


class Options(Strict):
    """``weights``: path of the converted weights; null lets torch-fidelity download them."""

    extractor: Literal["inception-v3-compat"] = "inception-v3-compat"
    weights: Path | None = None


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    if options.weights is not None and not options.weights.is_file():
        raise WeightsError(f"extractor {name}: weights = {options.weights}: there is no such file")


class Inception(nn.Module):
    def __init__(self, options: Options, device: torch.device | str = "cpu") -> None:
        super().__init__()
        from torch_fidelity.utils import create_feature_extractor

        path = None if options.weights is None else str(options.weights)
        self.inner = create_feature_extractor(
            options.extractor, list(LAYERS), cuda=False, feature_extractor_weights_path=path, verbose=False
        ).to(device)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.inner(images)
        return features


def build_extractor(options: Options, device: torch.device | str = "cpu") -> Inception:
    return Inception(options, device)

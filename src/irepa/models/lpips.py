"""LPIPS: how different two images look, by the features of VGG-16 (paper section 5, REPA-E; Zhang et al., 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

from irepa.errors import WeightsError, first_line


class Lpips:
    """LPIPS by torch-fidelity. Not a module, so that its frozen weights are in no checkpoint.

    Raises WeightsError where its weights are neither in torch's hub folder nor to be downloaded.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            self.model: Any = SampleSimilarityLPIPS("lpips-vgg16").to(device)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"lpips: torch-fidelity's VGG-16 cannot be had ({first_line(error)}); put weights-vgg16-lpips.pth and "
                "vgg16-397923af.pth into $TORCH_HOME/hub/checkpoints, or set lpips: 0"
            ) from error

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Pixels (batch, 3, H, W) in [-1, 1] -> mean distance, a scalar >= 0."""
        distance: Tensor = self.model((images + 1) * 127.5, (others + 1) * 127.5)
        return distance.mean()

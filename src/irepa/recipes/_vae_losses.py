"""What makes a VAE's reconstructions look right rather than blurred: LPIPS and a PatchGAN (paper section 5, REPA-E)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu

from irepa.errors import WeightsError, first_line


class Lpips:
    """LPIPS with VGG-16 by torch-fidelity. Not a module, so that its frozen weights are in no checkpoint.

    Raises WeightsError where its weights are neither in torch's hub folder nor to be downloaded.
    """

    def __init__(self, device: torch.device) -> None:
        from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

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


class PatchGan(nn.Module):
    """Pixels (batch, 3, H, W), H and W >= 32 -> logits of "real", one per patch (Isola et al., 2017)."""

    def __init__(self, channels: int = 64, levels: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(levels + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level, (before, after) in enumerate(pairwise(widths), 1):
            stride = 1 if level == levels else 2
            # Group norm, where the original has batch norm: real and decoded images do not share statistics.
            blocks += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.GroupNorm(32, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layers(pixels)
        return logits


def adversarial_terms(discriminator: nn.Module, real: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Hinge losses of pixels (batch, 3, H, W): the autoencoder's, which leaves the discriminator's weights alone, and the
    discriminator's, which leaves the autoencoder alone. So both can be part of one backward pass."""
    fixed = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    fooling = -functional_call(discriminator, fixed, (decoded,)).float().mean()
    of_real, of_decoded = discriminator(real).float(), discriminator(decoded.detach()).float()
    telling = 0.5 * (relu(1 - of_real).mean() + relu(1 + of_decoded).mean())
    return fooling, telling

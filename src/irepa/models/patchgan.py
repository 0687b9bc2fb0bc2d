"""PatchGAN: tells real patches of an image from decoded ones, so that reconstructions look right rather than blurred
(paper section 5, REPA-E; Isola et al., 2017)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu


class PatchGan(nn.Module):
    """Pixels (batch, 3, H, W), H and W >= 32 -> logits of "real", one per patch."""

    def __init__(self, channels: int = 64, levels: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(levels + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level, (before, after) in enumerate(pairwise(widths), 1):
            stride = 1 if level == levels else 2
            blocks += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, mean=1, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layers(pixels)
        return logits


def adversarial_terms(discriminator: nn.Module, real: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Hinge losses of real and decoded pixels (batch, 3, H, W): (the autoencoder's, the discriminator's), scalars.

    The autoencoder's leaves the discriminator's weights alone, and the discriminator's leaves the autoencoder alone. So
    both can be part of one backward pass.
    """
    fixed = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    fooling = -functional_call(discriminator, fixed, (decoded,)).float().mean()
    of_real, of_decoded = discriminator(real).float(), discriminator(decoded.detach()).float()
    telling = 0.5 * (relu(1 - of_real).mean() + relu(1 + of_decoded).mean())
    return fooling, telling

"""Denoiser and autoencoder as one network, as REPA-E trains them (paper section 5; Leng et al., 2025)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from irepa.config.options import Shape


class Joint(nn.Module):
    """Denoiser, autoencoder and the norm between them; called as the denoiser, on normalised latents.

    Args:
        vae: in diffusers' form: ``encode(pixels).latent_dist`` and ``decode(latents).sample``.
        shape: (channels, h, w) of its latents.
        discriminator: of the adversarial loss, or None.
    """

    def __init__(self, denoiser: nn.Module, vae: nn.Module, shape: Shape, discriminator: nn.Module | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.vae: Any = vae.requires_grad_(True)
        self.discriminator, self.shape = discriminator, shape
        self.norm = nn.BatchNorm2d(shape[0], affine=False, momentum=0.1, eps=1e-4)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised latents (batch, *shape), times and labels (batch,) -> prediction and hidden tokens."""
        velocity: Tensor
        hidden: Tensor
        velocity, hidden = self.denoiser(x, t, labels)
        return velocity, hidden

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance of the norm, each (channels,)."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        return self.norm.running_mean, self.norm.running_var

    def preset(self, shift: Tensor, scale: Tensor) -> None:
        """Start from statistics, each (channels,), by which latents z are normalised to (z - shift) * scale."""
        mean, var = self.statistics()
        mean.copy_(shift)
        var.copy_(1 / scale.square())

    def normalised(self, latents: Tensor) -> Tensor:
        """The norm by its running statistics, which it leaves as they are: latents (batch, *shape) -> same shape."""
        mean, var = (statistic.view(1, -1, 1, 1) for statistic in self.statistics())
        return (latents - mean) * (var + self.norm.eps).rsqrt()

    def raw(self, latents: Tensor) -> Tensor:
        """Undo the norm by its running statistics: latents (batch, *shape) -> same shape."""
        mean, var = (statistic.view(1, -1, 1, 1) for statistic in self.statistics())
        return latents * (var + self.norm.eps).sqrt() + mean

    def save_autoencoder(self, folder: Path) -> None:
        """Save the autoencoder in the hub's format; its scale and shift are the norm's, averaged over channels."""
        mean, var = self.statistics()
        self.vae.register_to_config(scaling_factor=1 / float(var.mean().sqrt()), shift_factor=float(mean.mean()))
        self.vae.save_pretrained(folder)

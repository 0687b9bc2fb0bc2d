"""REPA-E: the autoencoder is trained along with the network (paper section 5; Leng et al., 2025).

Latents pass a batch norm without parameters. The diffusion loss does not reach the autoencoder; the alignment loss does,
with a weight of its own, besides the autoencoder's reconstruction, KL, LPIPS and adversarial losses. One optimizer and
one gradient norm serve all of it, the discriminator too, where the original has a second optimizer for that.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from irepa.autoencoders import Autoencoder
from irepa.autoencoders.autoencoder_kl import posterior_sample
from irepa.config.options import Strict
from irepa.images import to_images, to_unit
from irepa.random import StepRandom
from irepa.recipes import Align
from irepa.recipes._vae_losses import Lpips, PatchGan, adversarial_terms
from irepa.recipes.sit import SiTRecipe, interpolate

Weight = Annotated[float, Field(ge=0)]


class Options(Strict):
    """Weights. ``vae_align``: of the alignment loss at the autoencoder, as a multiple of the method's own (1.5 against 0.5).

    ``reconstruction``: of mean |x' - x|; ``kl``: of the KL per latent; ``lpips`` and ``adversarial``: of those losses, 0
    for without.
    """

    vae_align: Weight = 3.0
    reconstruction: Weight = 1.0
    kl: Weight = 1e-3
    lpips: Weight = 0.0
    adversarial: Weight = 0.0


class Joint(nn.Module):
    """Denoiser, autoencoder and the norm between them; called as the denoiser, on normalised latents.

    ``discriminator``: of the adversarial loss, or None.
    """

    def __init__(self, denoiser: nn.Module, vae: nn.Module, channels: int, discriminator: nn.Module | None) -> None:
        super().__init__()
        self.denoiser, self.vae, self.discriminator = denoiser, vae.requires_grad_(True), discriminator
        self.norm = nn.BatchNorm2d(channels, affine=False, momentum=0.1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        velocity: Tensor
        hidden: Tensor
        velocity, hidden = self.denoiser(x, t, labels)
        return velocity, hidden

    def raw(self, latents: Tensor) -> Tensor:
        """Undo the norm by its running statistics."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        mean, var = (statistic.view(1, -1, 1, 1) for statistic in (self.norm.running_mean, self.norm.running_var))
        return latents * (var + self.norm.eps).sqrt() + mean


class Codec:
    """The autoencoder inside a joined network, in evaluation."""

    def __init__(self, joint: Joint, shape: tuple[int, int, int]) -> None:
        self.joint, self.shape = joint, shape

    def encode(self, images: Tensor) -> Tensor:
        vae: Any = self.joint.vae
        normalised: Tensor = self.joint.norm(vae.encode(to_unit(images)).latent_dist.mean)
        return normalised

    def decode(self, latents: Tensor) -> Tensor:
        vae: Any = self.joint.vae
        return to_images(vae.decode(self.joint.raw(latents.float())).sample)


class RepaE(SiTRecipe):
    def __init__(self, options: Options) -> None:
        super().__init__(data_at=0)
        self.options = options
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self._lpips: Lpips | None = None

    def lpips(self, device: torch.device) -> Lpips:
        """Loaded when the first step asks for it: only training needs it."""
        if self._lpips is None:
            self._lpips = Lpips(device)
        return self._lpips

    def join(self, network: nn.Module, autoencoder: Autoencoder) -> nn.Module:
        self.shape = autoencoder.shape
        inside: Any = autoencoder
        discriminator = PatchGan() if self.options.adversarial else None
        return Joint(network, inside.model, autoencoder.shape[0], discriminator)

    def codec(self, network: nn.Module, autoencoder: Autoencoder) -> Autoencoder:
        assert isinstance(network, Joint)
        return Codec(network, autoencoder.shape)

    def loss(self, network: nn.Module, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        """x: pixels (batch, 3, H, W) in [-1, 1]."""
        assert isinstance(network, Joint)
        drawn, decoded, kl = posterior_sample(network.vae, x, rng.normal(*self.shape))
        latents = network.norm(drawn.float())
        # A leaf: the diffusion loss ends here, and the alignment's gradient is handed on below.
        z = latents.detach().requires_grad_()
        t, noise = rng.uniform(), rng.normal(*self.shape)
        predicted, hidden = network.denoiser(interpolate(z, noise, t), t, labels)
        aligned = align(hidden)
        terms = {
            "denoise": (predicted.float() - (noise - z.detach())).square().mean(),
            "align": aligned,
            "vae_align": self.options.vae_align * handed_on(aligned, z, latents),
            "reconstruction": self.options.reconstruction * l1_loss(decoded.float(), x),
            "kl": self.options.kl * kl,
        }
        if self.options.lpips:
            terms["lpips"] = self.options.lpips * self.lpips(x.device)(decoded.float(), x)
        if network.discriminator is not None:
            fooling, telling = adversarial_terms(network.discriminator, x, decoded)
            terms |= {"adversarial": self.options.adversarial * fooling, "discriminator": telling}
        return terms


def handed_on(loss: Tensor, leaf: Tensor, source: Tensor) -> Tensor:
    """A term of value 0 whose gradient with respect to ``source`` is that of ``loss`` with respect to ``leaf``, and
    nothing else's."""
    if not loss.requires_grad:
        return loss.new_zeros(())
    (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    term = (source * gradient).sum()
    return term - term.detach()


def build(options: Options) -> RepaE:
    return RepaE(options)

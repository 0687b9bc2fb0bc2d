"""REPA-E: the autoencoder is trained along with the network (paper section 5; Leng et al., 2025).

    (1) z = norm(E(x))                                  E: a draw of the autoencoder's posterior; norm: batch norm
    (2) z_t = (1 - t) sg(z) + t eps, v = eps - sg(z)    as SiT, in normalised latents; sg: without gradient
    (3) loss = mean |u(z_t, t, y) - v|^2                reaches the network alone
    (4)        + alignment loss                         reaches network and projector
    (5)        + vae_align * alignment loss             reaches the autoencoder alone; norm by its running statistics
    (6)        + reconstruction * mean |x' - x| + kl * KL + lpips * LPIPS
    (7)        + adversarial * fooling + telling        hinge losses of autoencoder and discriminator

The norm is batch norm without parameters, which starts from the autoencoder's own scale and shift. The gradients of network,
autoencoder and discriminator are clipped each by its own norm, as by three optimizers. Samples are drawn with the EMA of the
network and of the norm's statistics, and the autoencoder as it is. As released, but that here a dropped label (2) is dropped for
the autoencoder (5) as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from irepa.autoencoders import Autoencoder, posterior_sample
from irepa.config.options import Strict
from irepa.recipes import Align, interpolate
from irepa.recipes.sit import SiTRecipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from irepa.images import Grey
    from irepa.models.joint import Joint
    from irepa.models.lpips import Lpips
    from irepa.random import StepRandom
    from irepa.weights import Download

# What LPIPS is made of, as torch-fidelity fetches it.
LPIPS_WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-vgg16-lpips.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
)
Weight = Annotated[float, Field(ge=0)]


class Options(Strict):
    vae_align: Weight = Field(
        3.0,
        description="Weight of the alignment loss at the autoencoder, in multiples of the method's own (1.5 to 0.5).",
    )
    reconstruction: Weight = Field(1.0, description="Weight of mean |x' - x|, pixels in [-1, 1].")
    kl: Weight = Field(1e-6, description="Weight of the KL divergence to N(0, 1) of an image, summed over its latent.")
    lpips: Weight = Field(0.0, description="Weight of LPIPS with VGG-16; 0: without, and its weights are not needed.")
    adversarial: Weight = Field(0.0, description="Weight of the adversarial loss; 0: without a discriminator.")


class RepaE(SiTRecipe):
    """For an autoencoder in diffusers' form. It learns from pixels (batch, 3, H, W) in [-1, 1]."""

    tunes_autoencoder: ClassVar[bool] = True
    adopts_published: ClassVar[bool] = False  # the autoencoder's weights would be missing

    def __init__(self, options: Options) -> None:
        super().__init__(data_at=0)
        self.options = options
        self._lpips: Lpips | None = None

    def downloads(self) -> list[Download]:
        from irepa.weights import file_download

        return [file_download(address) for address in LPIPS_WEIGHTS] if self.options.lpips else []

    def lpips(self, device: torch.device) -> Lpips:
        """Loaded when the first step asks for it, for only training needs it. Raises WeightsError."""
        from irepa.models.lpips import Lpips

        if self._lpips is None:
            self._lpips = Lpips(device)
        return self._lpips

    def loss(self, network: Joint, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        from torch.nn.functional import l1_loss

        from irepa.models.patchgan import adversarial_terms

        drawn, decoded, kl = posterior_sample(network.vae, x, rng.normal(*network.shape))
        t, noise = rng.uniform(), rng.normal(*network.shape)
        steered = network.normalised(drawn.float())
        leaf = steered.detach().requires_grad_()  # the alignment's gradient is handed on from here
        seen = align(network.denoiser(interpolate(leaf, noise, t), t, labels)[1])
        z = network.norm(drawn.detach().float())  # (1)
        predicted, hidden = network.denoiser(interpolate(z, noise, t), t, labels)  # (2)
        terms = {
            "denoise": (predicted.float() - (noise - z)).square().mean(),  # (3)
            "align": align(hidden),  # (4)
            "vae_align": self.options.vae_align * handed_on(seen, leaf, steered),  # (5)
            "reconstruction": self.options.reconstruction * l1_loss(decoded.float(), x),  # (6)
            "kl": self.options.kl * kl,
        }
        if self.options.lpips:
            terms["lpips"] = self.options.lpips * self.lpips(x.device)(decoded.float(), x)
        if network.discriminator is not None:
            fooling, telling = adversarial_terms(network.discriminator, x, decoded)  # (7)
            terms |= {"adversarial": self.options.adversarial * fooling, "discriminator": telling}
        return terms

    def data(self, images: Tensor, autoencoder: Autoencoder) -> Tensor:
        from irepa.images import to_unit

        return to_unit(images)

    def join(self, network: nn.Module, autoencoder: Autoencoder) -> Joint:
        """Raises ConfigError where the autoencoder has no weights to train."""
        from irepa.models.joint import Joint
        from irepa.models.patchgan import PatchGan

        discriminator = PatchGan() if self.options.adversarial else None
        joint = Joint(network, autoencoder.trainable(), autoencoder.shape, discriminator)
        joint.preset(*autoencoder.statistics())
        return joint

    def averages(self, name: str, is_buffer: bool) -> bool:
        return name.startswith(("denoiser.", "norm."))

    def clipped_apart(self, network: Joint) -> list[nn.Module]:
        return [network.vae] if network.discriminator is None else [network.vae, network.discriminator]

    def codec(self, network: Joint, autoencoder: Autoencoder) -> JointCodec:
        return JointCodec(network, autoencoder.grey)

    def save_autoencoder(self, network: Joint, folder: Path) -> None:
        network.save_autoencoder(folder)


class JointCodec(Autoencoder):
    """The autoencoder inside a joined network, which has to be in evaluation; latents are normalised."""

    def __init__(self, joint: Joint, grey: Grey) -> None:
        self.joint, self.shape, self.grey = joint, joint.shape, grey

    def encode(self, images: Tensor) -> Tensor:
        from irepa.images import to_unit

        normalised: Tensor = self.joint.norm(self.joint.vae.encode(to_unit(images)).latent_dist.mean)
        return normalised

    def decode(self, latents: Tensor) -> Tensor:
        from irepa.images import to_images

        return to_images(self.joint.vae.decode(self.joint.raw(latents.float())).sample, self.grey)


def handed_on(loss: Tensor, leaf: Tensor, source: Tensor) -> Tensor:
    """A term of value 0 whose gradient with respect to ``source`` is that of ``loss`` with respect to ``leaf``.

    It has a gradient with respect to nothing else. ``source`` and ``leaf`` have one shape; the losses are scalars.
    """
    import torch

    if not loss.requires_grad:
        return loss.new_zeros(())
    (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    term = (source * gradient).sum()
    return term - term.detach()


def build(options: Options) -> RepaE:
    return RepaE(options)

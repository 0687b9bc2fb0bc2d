"""Latents of a diffusers AutoencoderKL: the paper's SD-VAE ft-MSE, f8 d4 (paper section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from irepa.autoencoders import AutoencoderFacts
from irepa.config.options import Positive, Strict
from irepa.errors import ConfigError, WeightsError, first_line
from irepa.images import to_images, to_unit
from irepa.weights import download_command

PRECOMPUTABLE = True


TRAINED = "trained"  # weights: the pipeline trains it itself, as a stage


class VaeTraining(Strict):
    """How the ``autoencoder`` stage trains one: AdamW on mean |x' - x| + ``kl`` * KL, per pixel and per latent."""

    steps: Positive
    batch: Positive = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    kl: Annotated[float, Field(ge=0)] = 1e-3


class Options(Strict):
    """``model``: id on the hub, pinned by ``revision``. ``weights``: ``hub``, a folder in the hub's format, or
    ``trained``: by the
    pipeline, as ``training`` says.

    ``architecture``: diffusers' configuration, checked against what is loaded and used for planning; null takes any.
    """

    model: str
    revision: str | None = None
    weights: str = "hub"
    architecture: dict[str, Any] | None = None
    batch: Positive = Field(32, description="Images encoded or decoded at a time.")
    training: VaeTraining | None = None

    @model_validator(mode="after")
    def _can_be_trained(self) -> Options:
        if self.weights == TRAINED and (self.training is None or self.architecture is None):
            raise ValueError("weights: trained needs `training` and `architecture`")
        return self


def posterior_sample(model: Any, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (batch, 3, H, W) in [-1, 1] -> a draw of the posterior (batch, *shape), its decoding, and its KL to
    N(0, 1) per latent."""
    posterior = model.encode(pixels).latent_dist
    z = posterior.mean + posterior.std * noise
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return z, model.decode(z).sample, kl


class Kl:
    """Latents are (z - shift) * scale with the model's own ``scaling_factor`` and ``shift_factor``.

    ``shape``: (latent channels, H / f, W / f).
    """

    def __init__(self, options: Options, image_size: int, device: torch.device) -> None:
        from diffusers import AutoencoderKL

        if options.weights == TRAINED:
            raise WeightsError(f"autoencoder {options.model} is trained by the pipeline: its stage has to run first")
        at_hub = options.weights == "hub"
        source = options.model if at_hub else str(Path(options.weights))
        try:
            model = AutoencoderKL.from_pretrained(source, revision=options.revision if at_hub else None)
        except (OSError, RuntimeError, ValueError) as error:
            fetch = download_command(options.model, options.revision)
            raise WeightsError(
                f"autoencoder {source} cannot be had ({first_line(error)}); `{fetch}` fetches it, "
                "`autoencoder.weights: <folder>` uses a copy"
            ) from error
        for key, value in (options.architecture or {}).items():
            found = model.config[key]
            if (list(found) if isinstance(found, tuple) else found) != value:
                raise WeightsError(f"autoencoder {source}: {key} is {found}, declared as {value}")
        self.model = model.eval().requires_grad_(False).to(device)
        self.device, self.batch = device, options.batch
        config = self.model.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        if image_size % factor:
            raise ConfigError(f"dataset.image_size = {image_size}: {source} needs a multiple of {factor}")
        self.scale, self.shift = float(config.scaling_factor), float(config.shift_factor or 0.0)
        self.shape = (int(config.latent_channels), image_size // factor, image_size // factor)

    @torch.inference_mode()
    def moments(self, images: Tensor) -> Tensor:
        parts = []
        for some in images.split(self.batch):
            posterior = self.model.encode(to_unit(some.to(self.device))).latent_dist
            parts.append(torch.cat([posterior.mean, posterior.std], dim=1))
        return torch.cat(parts)

    def sample(self, moments: Tensor, noise: Tensor) -> Tensor:
        mean, std = moments.chunk(2, dim=1)
        return (mean + std * noise - self.shift) * self.scale

    def encode(self, images: Tensor) -> Tensor:
        mean, _ = self.moments(images).chunk(2, dim=1)
        return (mean - self.shift) * self.scale

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        z = latents.float() / self.scale + self.shift
        pixels = torch.cat([self.model.decode(some).sample for some in z.split(self.batch)])
        return to_images(pixels)


def describe(options: Options, image_size: int) -> AutoencoderFacts:
    """From the declared architecture. Raises ConfigError where none is declared."""
    from diffusers import AutoencoderKL

    if options.architecture is None:
        raise ConfigError("autoencoder.architecture is needed to plan without the autoencoder's weights")
    with torch.device("meta"):
        model: Any = AutoencoderKL(**options.architecture)
        image = torch.zeros(1, 3, image_size, image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as encoding:
        latent = model.encode(image).latent_dist.mode()
    with torch.no_grad(), FlopCounterMode(display=False) as decoding:
        model.decode(latent)
    _, channels, height, width = latent.shape
    return AutoencoderFacts((channels, height, width), encoding.get_total_flops(), decoding.get_total_flops())


def build(options: Options, image_size: int, device: torch.device) -> Kl:
    return Kl(options, image_size, device)

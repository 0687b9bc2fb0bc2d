"""Latents of a diffusers AutoencoderKL: the paper's SD-VAE ft-MSE, f8 d4 (paper section 3).

z = (mean + std * noise - shift) * scale        scale and shift: the model's scaling_factor and shift_factor, or one per channel
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from irepa.autoencoders import Autoencoder, AutoencoderFacts
from irepa.config.options import Positive, Shape, Strict
from irepa.config.tier import TRAINED_HERE
from irepa.errors import ConfigError, WeightsError, translated
from irepa.weights import HUB, Download, download_command, hub_download, is_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PRECOMPUTABLE = True


class VaeTraining(Strict):
    """How the ``autoencoder`` stage trains one: AdamW on mean |x' - x| + ``kl`` * KL, pixels in [-1, 1]."""

    steps: Positive = Field(description="Training steps.")
    batch: Positive = Field(64, description="Images per step.")
    lr: float = Field(1e-3, gt=0, description="Learning rate.")
    kl: float = Field(1e-3, ge=0, description="Weight of the KL divergence to N(0, 1), mean over latents.")


class Options(Strict):
    model: str = Field(description="Its id on the hub, or a name of one's own where `weights` is not `hub`.")
    revision: str | None = Field(None, description="Revision on the hub; null: the newest.")
    weights: str = Field(
        "hub",
        description="`hub`, a folder in the hub's format, or `trained`: by the pipeline, as `training` says.",
    )
    architecture: dict[str, Any] | None = Field(
        None,
        description="Diffusers' configuration: what is loaded must have it, and planning uses it; null: any.",
    )
    batch: Positive = Field(32, description="Images encoded or decoded at a time.")
    training: VaeTraining | None = Field(None, description="How the pipeline trains it; null: it does not.")

    @model_validator(mode="after")
    def _can_be_trained(self) -> Options:
        if self.weights == TRAINED_HERE and (self.training is None or self.architecture is None):
            raise ValueError("weights: trained needs `training` and `architecture`")
        return self


class Kl(Autoencoder):
    """``shape`` is (latent channels, H / f, W / f).

    Raises WeightsError where its weights cannot be had or are not those declared, and ConfigError where f does not
    divide the image's size.
    """

    def __init__(self, options: Options, image_size: int, device: torch.device) -> None:
        import torch

        self.model: Any = load_model(options).eval().requires_grad_(False).to(device)
        self.device, self.batch = device, options.batch
        config = self.model.config
        side = latent_side(options, len(config.block_out_channels), image_size)
        self.shape = (int(config.latent_channels), side, side)
        each = torch.ones(self.shape[0])
        self.normalise(float(config.shift_factor or 0.0) * each, float(config.scaling_factor) * each)

    def normalise(self, shift: Tensor, scale: Tensor) -> None:
        self.shift, self.scale = (numbers.to(self.device).view(1, -1, 1, 1) for numbers in (shift, scale))

    def statistics(self) -> tuple[Tensor, Tensor]:
        return self.shift.flatten(), self.scale.flatten()

    def moments(self, images: Tensor) -> Tensor:
        import torch

        from irepa.images import to_unit

        parts = []
        with torch.inference_mode():
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

    def decode(self, latents: Tensor) -> Tensor:
        import torch

        from irepa.images import to_images

        with torch.inference_mode():
            z = latents.float() / self.scale + self.shift
            pixels = torch.cat([self.model.decode(some).sample for some in z.split(self.batch)])
            return to_images(pixels, self.grey)

    def trainable(self) -> nn.Module:
        module: nn.Module = self.model
        return module


def paths(options: Options) -> list[Path]:
    """The folder of weights, if one is named."""
    return [] if options.weights in ("hub", TRAINED_HERE) else [Path(options.weights)]


def load_model(options: Options) -> Any:
    """The AutoencoderKL of these options. Raises WeightsError where it cannot be had or is not the one declared."""
    from diffusers import AutoencoderKL

    if options.weights == TRAINED_HERE:
        raise WeightsError(f"autoencoder {options.model} is trained by the pipeline: its stage has to run first")
    at_hub = options.weights == "hub"
    source = options.model if at_hub else str(Path(options.weights))
    fetch = download_command(options.model, options.revision)
    with translated(
        WeightsError,
        f"autoencoder {source} cannot be had",
        f"`{fetch}` fetches it, `autoencoder.weights: <folder>` uses a copy",
    ):
        model = AutoencoderKL.from_pretrained(source, revision=options.revision if at_hub else None)
    for key, declared in (options.architecture or {}).items():
        value = model.config.get(key)
        if (list(value) if isinstance(value, tuple) else value) != declared:
            raise WeightsError(f"autoencoder {source}: {key} is {value}, declared as {declared}")
    return model


def check(name: str, options: Options) -> None:
    """Raises WeightsError, naming the setting ``name``, where a folder of weights is named and not there."""
    if is_path(options.weights) and options.weights != TRAINED_HERE and not Path(options.weights).is_dir():
        fetch = download_command(options.model, options.revision)
        raise WeightsError(
            f"{name}.weights = {options.weights}: there is no such folder; `{fetch} --local-dir {options.weights}` fetches it"
        )


def download(options: Options) -> Download | None:
    """What diffusers fetches where the weights are neither trained here nor on this machine."""
    return hub_download(options.model, options.revision) if options.weights == HUB else None


def shape_of(options: Options, image_size: int) -> Shape | None:
    """(channels, H, W) of the latents, as the declared architecture gives them; None where it does not say.

    Raises ConfigError where it does not divide the image's size.
    """
    declared = options.architecture or {}
    if not {"block_out_channels", "latent_channels"} <= declared.keys():
        return None
    side = latent_side(options, len(declared["block_out_channels"]), image_size)
    return (int(declared["latent_channels"]), side, side)


def latent_side(options: Options, blocks: int, image_size: int) -> int:
    """Height and width of the latents: each block but the last halves the image. Raises ConfigError where that leaves a rest."""
    factor: int = 2 ** (blocks - 1)
    if image_size % factor:
        raise ConfigError(f"dataset.image_size = {image_size}: {options.model} needs a multiple of {factor}")
    return image_size // factor


def describe(options: Options, image_size: int) -> AutoencoderFacts:
    """From the declared architecture. Raises ConfigError where none is declared."""
    import torch
    from diffusers import AutoencoderKL
    from torch.utils.flop_counter import FlopCounterMode

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

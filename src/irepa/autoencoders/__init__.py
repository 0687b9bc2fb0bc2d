"""Autoencoders: from images to what the network sees, and back. One module per autoencoder.

To add one, write a file in this folder with

- ``Options``, what a tier may set;
- ``PRECOMPUTABLE``, whether it has a posterior whose moments can be computed once, by the ``latents`` stage, and
  sampled anew at each training step;
- ``paths(options)``, where it reads files or folders of the user's: the list of them, a change of which is noticed;
- ``describe(options, image_size)``, its :class:`AutoencoderFacts` without its weights, for planning;
- ``build(options, image_size, device)``, an :class:`Autoencoder`.

What is optional: ``check(name, options)``, which raises WeightsError where this machine lacks something;
``download(options)``, the :class:`irepa.weights.Download` that its library fetches by itself; ``shape_of(options, image_size)``,
the shape (channels, h, w) of what the network sees, without torch, or None where its weights would have to be loaded to know.
With them `irepa check` refuses what cannot work before anything runs.

A whole one shows the network a grey image::

    from __future__ import annotations

    from irepa.autoencoders import Autoencoder, AutoencoderFacts
    from irepa.config.options import Strict

    PRECOMPUTABLE = False


    class Options(Strict):
        pass


    class Grey(Autoencoder):
        def __init__(self, image_size):
            self.shape = (1, image_size, image_size)

        def encode(self, images):
            return images.float().mean(dim=1, keepdim=True) / 127.5 - 1

        def decode(self, latents):
            return ((latents.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1)


    def describe(options, image_size):
        return AutoencoderFacts((1, image_size, image_size), encode_flops=0, decode_flops=0)


    def build(options, image_size, device):
        return Grey(image_size)

Saved as ``grey.py`` it is at once known by that name: ``autoencoder: {name: grey}`` in a tier asks for it. The
configuration is read without torch, so torch, and what imports it, is imported inside the functions that use it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irepa.config.options import Shape
from irepa.errors import ConfigError, WeightsError, translated

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irepa.images import Grey


@dataclass(frozen=True)
class AutoencoderFacts:
    """``shape``: of what the network sees; flops per image, a multiply-add counted as two."""

    shape: Shape
    encode_flops: int
    decode_flops: int


class Autoencoder(ABC):
    """The contract of an autoencoder. ``shape``, :meth:`encode` and :meth:`decode` are needed, the rest where it has a
    posterior or weights.

    Attributes:
        shape: (channels, h, w) of what the network sees.
        grey: how :meth:`decode` makes levels of pixels.
    """

    shape: Shape
    grey: Grey = "nearest"

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) uint8 -> latents (batch, *shape) float32; the posterior's mean where there is one."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, *shape) -> images (batch, 3, H, W) uint8."""

    def moments(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) uint8 -> mean and standard deviation of the posterior, (batch, 2 * channels, h, w).

        Raises ConfigError where there is no posterior.
        """
        raise ConfigError(f"{type(self).__name__} has no posterior: `precompute: false`")

    def sample(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Moments and standard normal noise (batch, *shape) -> scaled latents (batch, *shape). Raises ConfigError."""
        raise ConfigError(f"{type(self).__name__} has no posterior: `precompute: false`")

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Shift and scale (channels,) by which latents are normalised, z -> (z - shift) * scale; without any, 0 and 1."""
        import torch

        return torch.zeros(self.shape[0]), torch.ones(self.shape[0])

    def normalise(self, shift: Tensor, scale: Tensor) -> None:
        """From now on give latents z as (z - shift) * scale, each (channels,), and take them so. Raises ConfigError.

        Before, they are scaled as the model says of itself.
        """
        raise ConfigError(f"{type(self).__name__} has no posterior: no latents to normalise")

    def trainable(self) -> nn.Module:
        """The module whose weights are trained where a recipe trains the autoencoder along.

        It has diffusers' form: ``encode(pixels).latent_dist``, ``decode(latents).sample`` and ``save_pretrained``.
        Raises ConfigError where there is none.
        """
        raise ConfigError(f"{type(self).__name__} has no weights: the recipe needs an autoencoder that can be trained")


# Names under which statistics of latents are published, and whether the second is 1 / scale.
STATISTICS = {("latents_bias", "latents_scale"): False, ("mean", "std"): True}


def read_latent_statistics(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Shift and scale (channels,) of a statistics file of latents as the hub has them: z -> (z - shift) * scale.

    It holds ``latents_bias`` and ``latents_scale`` (REPA-E and the paper's code) or ``mean`` and ``std`` (LightningDiT), saved by
    torch or as safetensors, each with one number per channel in any shape. Raises WeightsError for anything else, with what
    was found.
    """
    import torch

    with translated(WeightsError, f"{path} cannot be read as statistics of latents", "fetch it again"):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    entries = content if isinstance(content, Mapping) else {}
    pairs = [names for names in STATISTICS if set(names) <= entries.keys()]
    wanted = " or ".join(" and ".join(names) for names in STATISTICS)
    shapes = {str(name): _told(value) for name, value in entries.items()}
    found = ", ".join(f"{name} {told}" for name, told in shapes.items()) or _told(content)
    if len(pairs) != 1:
        raise WeightsError(f"{path} holds {found}; statistics of latents are {wanted}, and one of the two pairs")
    shift, spread = (entries[name] for name in pairs[0])
    for name, value in zip(pairs[0], (shift, spread), strict=True):
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() != channels:
            raise WeightsError(
                f"{path}: {name} is {_told(value)}; one number for each of {channels} channels is needed ({found})"
            )
        if not bool(torch.isfinite(value).all()) or (name == pairs[0][1] and not bool((value > 0).all())):
            raise WeightsError(
                f"{path}: {name} = {value.flatten().tolist()}: numbers must be finite, and spreads above 0"
            )
    shift, spread = shift.flatten().float(), spread.flatten().float()
    return shift, 1 / spread if STATISTICS[pairs[0]] else spread


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{str(value.dtype).removeprefix('torch.')} {tuple(shape)}"


def posterior_sample(model: Any, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A draw of the posterior, its decoding, and its KL divergence to N(0, 1) of an image, mean over images.

    Args:
        model: in diffusers' form, see :meth:`Autoencoder.trainable`.
        pixels: (batch, 3, H, W) in [-1, 1].
        noise: standard normal, (batch, *shape).

    Returns (batch, *shape), (batch, 3, H, W) and a scalar.
    """
    posterior = model.encode(pixels).latent_dist
    z = posterior.mean + posterior.std * noise
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).flatten(1).sum(1).mean()
    return z, model.decode(z).sample, kl

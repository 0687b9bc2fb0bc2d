"""Pixel space: the network sees the image itself, scaled to [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.autoencoders import Autoencoder, AutoencoderFacts
from irepa.config.options import Shape, Strict

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PRECOMPUTABLE = False


class Options(Strict):
    pass


class Identity(Autoencoder):
    def __init__(self, image_size: int) -> None:
        self.shape = (3, image_size, image_size)

    def encode(self, images: Tensor) -> Tensor:
        from irepa.images import to_unit

        return to_unit(images)

    def decode(self, latents: Tensor) -> Tensor:
        from irepa.images import to_images

        return to_images(latents, self.grey)


def shape_of(options: Options, image_size: int) -> Shape:
    """(channels, H, W) of what the network sees."""
    return (3, image_size, image_size)


def describe(options: Options, image_size: int) -> AutoencoderFacts:
    return AutoencoderFacts((3, image_size, image_size), encode_flops=0, decode_flops=0)


def build(options: Options, image_size: int, device: torch.device) -> Identity:
    return Identity(image_size)

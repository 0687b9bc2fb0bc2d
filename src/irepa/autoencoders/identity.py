"""Pixel space: the model sees the image itself, scaled to [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from irepa.autoencoders import AutoencoderFacts
from irepa.config.options import Strict
from irepa.images import to_images, to_unit

PRECOMPUTABLE = False


class Options(Strict):
    pass


class Identity:
    def __init__(self, image_size: int) -> None:
        self.shape = (3, image_size, image_size)

    def encode(self, images: Tensor) -> Tensor:
        return to_unit(images)

    def decode(self, latents: Tensor) -> Tensor:
        return to_images(latents)


def describe(options: Options, image_size: int) -> AutoencoderFacts:
    return AutoencoderFacts((3, image_size, image_size), 0, 0)


def build(options: Options, image_size: int, device: torch.device) -> Identity:
    return Identity(image_size)

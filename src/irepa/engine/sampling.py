"""Draw images from a network. Image i depends on (seed, i) only, not on the batch it is drawn in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from irepa.config import plugins
from irepa.config.cells import Cell, seed_of
from irepa.config.plugins import plugin_options
from irepa.config.tier import Settings
from irepa.engine.network import Parts
from irepa.random import image_label, image_noise
from irepa.recipes import Velocity
from irepa.samplers import Sampler, guided
from irepa.tokens import check_finite


def labels_of(seed: int, indices: range, classes: int, equal: bool = False) -> torch.Tensor:
    """Classes (n,) of the generated images ``indices``: uniform at random, or ``equal`` in number, 0 to classes - 1 in turn."""
    return torch.tensor([index % classes if equal else image_label(seed, index, classes) for index in indices])


def in_bf16(velocity: Velocity, device: torch.device) -> Velocity:
    """The network in mixed precision; the sampler's own arithmetic stays as it is."""

    def mixed(x: torch.Tensor, t: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return velocity(x, t, r).to(x.dtype)

    return mixed


class ImageSampler:
    """Images from one network, by its recipe's sampler and guidance.

    Args:
        classes: number of classes; label ``classes`` is the null class.

    Raises ConfigError.
    """

    def __init__(self, settings: Settings, cell: Cell, parts: Parts, classes: int, device: torch.device) -> None:
        recipe, where = settings.tier.recipes[cell.recipe], f"recipes.{cell.recipe}.sampler"
        options = plugin_options("samplers", recipe.sampler, where)
        self.sampler: Sampler = plugins.load("samplers", recipe.sampler.name, where).build(options)
        self.guidance, self.parts = recipe.guidance, parts
        self.seed = seed_of(settings, cell, "sampling")
        self.classes, self.device, self.cell = classes, device, cell
        self.equal = recipe.labels == "equal"
        self.mixed = settings.tier.sampling.precision == "bf16"

    @property
    def evaluations(self) -> int:
        """Times at which the velocity is evaluated (NFE), guidance not counted twice."""
        return self.sampler.evaluations

    def labels(self, indices: range) -> torch.Tensor:
        """Classes (n,) of the images of these indices."""
        return labels_of(self.seed, indices, self.classes, self.equal)

    @torch.inference_mode()
    def draw(self, indices: range) -> NDArray[np.uint8]:
        """Images (n, H, W, 3) of these indices. Raises DivergedError where the network gives NaN, which would become black."""
        codec, recipe, network = self.parts.codec, self.parts.recipe, self.parts.network

        def noise(step: int) -> torch.Tensor:
            return image_noise(self.seed, indices, step, codec.shape, self.device)

        labels = self.labels(indices).to(self.device)
        velocity = recipe.velocity(network, labels)
        if self.guidance is not None:
            unconditional = recipe.velocity(network, torch.full_like(labels, self.classes))
            velocity = guided(velocity, unconditional, self.guidance)
        latents = self.sampler.sample(in_bf16(velocity, self.device) if self.mixed else velocity, noise(0), noise)
        check_finite(latents, f"samples {indices.start} to {indices.stop - 1} of {self.cell}")
        return codec.decode(latents).permute(0, 2, 3, 1).contiguous().cpu().numpy()

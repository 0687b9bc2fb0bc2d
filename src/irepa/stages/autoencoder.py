"""Train one autoencoder on the training images and save it in the hub's format, for recipes that name it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import l1_loss

from irepa.autoencoders import posterior_sample
from irepa.autoencoders.autoencoder_kl import Options
from irepa.config.plugins import plugin_options
from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.errors import DivergedError
from irepa.images import to_unit
from irepa.pipeline.files import Json
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.random import StepRandom, batch_indices
from irepa.stored import Indices, Stored

SCALED_ON = 512  # images whose latents set the scale


def run(context: Context) -> Json:
    """Raises DivergedError, naming the step, where the gradient stops being finite."""
    from diffusers import AutoencoderKL

    device = setup(context.resources.threads)
    where = f"autoencoders.{context.key}"
    options: Options = plugin_options("autoencoders", context.tier.autoencoders[context.key], where)
    settings, seed = options.training, context.settings.params.seed
    assert settings is not None
    assert options.architecture is not None
    images = stored_images(context.input("data"), "train")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = AutoencoderKL(**options.architecture)
    model.to(device).train()
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    side = context.tier.dataset.image_size // factor
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.0)
    loss, kl = torch.tensor(math.nan), torch.tensor(math.nan)
    for step in track(range(settings.steps), "autoencoder", settings.steps):
        indices = batch_indices(seed, step, settings.batch, len(images))
        draws = StepRandom(seed, step, settings.batch, slice(0, settings.batch), device)
        pixels = pixels_of(images, indices).to(device)
        noise = draws.normal(model.config.latent_channels, side, side)
        _, decoded, kl = posterior_sample(model, pixels, noise)
        loss, kl = l1_loss(decoded, pixels), kl / math.prod(noise.shape[1:])  # a mean, whatever the size of latents
        optimizer.zero_grad()
        (loss + settings.kl * kl).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not bool(torch.isfinite(norm)):
            raise DivergedError(
                f"the autoencoder's gradient is {float(norm)} at step {step + 1} of {settings.steps} with lr = {settings.lr}: "
                f"lower {where}.training.lr"
            )
        optimizer.step()
    model.eval()
    with torch.no_grad():
        latents = model.encode(pixels_of(images, np.arange(min(SCALED_ON, len(images)))).to(device)).latent_dist.mean
    model.register_to_config(scaling_factor=1 / float(latents.std()), shift_factor=float(latents.mean()))
    target = context.output("diffusion_pytorch_model.safetensors")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:  # moved when complete
        model.save_pretrained(folder)
        for name in ("config.json", target.name):
            (Path(folder) / name).replace(target.parent / name)
    return {"l1": float(loss.detach()), "kl": float(kl.detach()), "scaling_factor": model.config.scaling_factor}


def pixels_of(images: Stored, indices: Indices) -> torch.Tensor:
    """Of images (total, H, W, 3): (n, 3, H, W) in [-1, 1]."""
    return to_unit(torch.from_numpy(images[indices]).permute(0, 3, 1, 2))

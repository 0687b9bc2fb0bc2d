"""Moments of an autoencoder's posterior for every training image, once, in shards that outlast an interruption.

Where a recipe flips images, those of every image in a mirror follow. The mean and standard deviation of each channel are
measured too, for a normalisation that is per channel.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from irepa.config.cells import mirrored_latents
from irepa.engine.device import setup
from irepa.engine.network import build_autoencoder
from irepa.images import BothViews
from irepa.pipeline.files import Json, write_array_in_shards
from irepa.pipeline.runner import Context

SHARD = 4096  # images


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    images = context.input("data").array("train.images.npy")
    if context.key in mirrored_latents(context.settings):
        images = BothViews(images)
    autoencoder = build_autoencoder(context.settings, context.settings.precomputed(context.key), device)
    channels, height, width = autoencoder.shape

    def moments(rows: range) -> NDArray[np.float32]:
        part = torch.from_numpy(images[np.arange(rows.start, rows.stop)]).permute(0, 3, 1, 2)
        return autoencoder.moments(part).float().cpu().numpy()

    path, shape = context.output("train.moments.npy"), (len(images), 2 * channels, height, width)
    write_array_in_shards(path, shape, np.float32, context.fingerprint, SHARD, moments)
    mean, std = channel_statistics(np.load(path, mmap_mode="r"))
    return {"images": len(images), "shape": list(autoencoder.shape), "mean": mean.tolist(), "std": std.tolist()}


def channel_statistics(moments: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (channels,) of latents drawn from moments (n, 2 * channels, h, w), over images and positions.

    A draw is mean + std * noise, so that its mean square is mean^2 + std^2.
    """
    first, second = (np.zeros(moments.shape[1] // 2) for _ in range(2))
    for start in range(0, len(moments), SHARD):
        mean, std = np.split(moments[start : start + SHARD].astype(np.float64), 2, axis=1)
        first += mean.sum(axis=(0, 2, 3))
        second += (mean**2 + std**2).sum(axis=(0, 2, 3))
    count = len(moments) * math.prod(moments.shape[2:])
    centre = first / count
    return centre, np.sqrt(second / count - centre**2)

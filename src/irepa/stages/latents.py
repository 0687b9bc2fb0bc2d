"""Moments of an autoencoder's posterior for every training image, once, in parts that outlast an interruption.

Where a recipe flips images, those of every image in a mirror follow. The mean and standard deviation of each channel are
measured too, for a normalisation that is per channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from irepa.config.cells import mirrored_latents
from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.loading import read_ahead
from irepa.engine.network import build_autoencoder, check_latents
from irepa.engine.sharing import Arrays, Work, compute, fill, forget, grouped, indices_of
from irepa.pipeline.files import Json, write_array_in_parts
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.tokens import in_batches

PART = 4096  # images
BATCH = 256  # images read at a time; the autoencoder works on fewer


def run(context: Context) -> Json:
    work, shape = moments_of(context)
    parts = track(compute(context, "moments", work), "latents", len(work.parts()))
    channels, height, width = shape
    whole = (work.count, 2 * channels, height, width)
    measured = ChannelStatistics(channels)
    moments = (measured.add(arrays["moments"]) for arrays in parts)
    write_array_in_parts(context.output("train.moments.npy"), whole, np.float32, moments)
    forget(context, "moments")
    return {"images": work.count, "shape": list(shape), **measured.told()}


def share(context: Context) -> Json:
    """One of several processes: its share of the moments."""
    fill(context, {"moments": moments_of(context)[0]})
    return {}


def moments_of(context: Context) -> tuple[Work, tuple[int, int, int]]:
    """What is computed, and the shape of a latent."""
    device = setup(context.resources.threads)
    named = context.settings.precomputed(context.key)
    images = stored_images(context.input("data"), "train", context.key in mirrored_latents(context.settings))
    autoencoder = build_autoencoder(context.settings, named, device)

    def batches(parts: list[range]) -> Iterator[Arrays]:
        asked = in_batches(indices_of(parts), BATCH)
        with closing(read_ahead({"images": images}, asked, BATCH, context.resources.workers, device)) as read:
            for batch in read:
                moments = autoencoder.moments(batch.rows["images"].permute(0, 3, 1, 2)).float().cpu()
                check_latents(moments, batch.indices, named)
                yield {"moments": moments.numpy()}

    return Work(len(images), PART, lambda parts: grouped(batches(parts), parts), kept=True), autoencoder.shape


class ChannelStatistics:
    """Mean and standard deviation of each channel of latents that are drawn from moments, over images and positions.

    A draw is mean + std * noise, so that its mean square is mean^2 + std^2. Sums are float64.
    """

    def __init__(self, channels: int) -> None:
        self.count, self.first, self.second = 0, np.zeros(channels), np.zeros(channels)

    def add(self, moments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in moments (n, 2 * channels, h, w), and hand them on."""
        mean, std = np.split(moments.astype(np.float64), 2, axis=1)
        self.first += mean.sum(axis=(0, 2, 3))
        self.second += (mean**2 + std**2).sum(axis=(0, 2, 3))
        self.count += len(moments) * math.prod(moments.shape[2:])
        return moments

    def told(self) -> Json:
        """``mean`` and ``std``, a number per channel."""
        mean = self.first / self.count
        return {"mean": mean.tolist(), "std": np.sqrt(self.second / self.count - mean**2).tolist()}

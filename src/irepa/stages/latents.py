"""Moments of the autoencoder's posterior for every training image, once, in parts that outlast an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.loading import read_ahead
from irepa.engine.network import build_autoencoder, check_latents
from irepa.engine.sharing import Arrays, Work, compute, fill, forget, grouped, indices_of
from irepa.pipeline.files import Json, write_array_in_parts
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.stored import Stored
from irepa.tokens import in_batches

PART = 4096  # images
BATCH = 256  # images read at a time; the autoencoder works on fewer


def run(context: Context) -> Json:
    work, shape = moments_of(context)
    parts = track(compute(context, "moments", work), "latents", len(work.parts()))
    channels, height, width = shape
    whole = (work.count, 2 * channels, height, width)
    write_array_in_parts(
        context.output("train.moments.npy"), whole, np.float32, (arrays["moments"] for arrays in parts)
    )
    forget(context, "moments")
    return {"images": work.count, "shape": list(shape)}


def share(context: Context) -> Json:
    """One of several processes: its share of the moments."""
    fill(context, {"moments": moments_of(context)[0]})
    return {}


def moments_of(context: Context) -> tuple[Work, tuple[int, int, int]]:
    """What is computed, and the shape of a latent."""
    device = setup(context.resources.threads)
    images: Stored = stored_images(context.input("data"), "train")
    autoencoder = build_autoencoder(context.settings, device)

    def batches(parts: list[range]) -> Iterator[Arrays]:
        asked = in_batches(indices_of(parts), BATCH)
        with closing(read_ahead({"images": images}, asked, BATCH, context.resources.workers, device)) as read:
            for batch in read:
                moments = autoencoder.moments(batch.rows["images"].permute(0, 3, 1, 2)).float().cpu()
                check_latents(moments, batch.indices, context.tier.autoencoder)
                yield {"moments": moments.numpy()}

    return Work(len(images), PART, lambda parts: grouped(batches(parts), parts), kept=True), autoencoder.shape

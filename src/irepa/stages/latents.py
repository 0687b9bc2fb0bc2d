"""Moments of the autoencoder's posterior for every training image, once, in shards that outlast an interruption."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from irepa.engine.device import setup
from irepa.engine.network import build_autoencoder, check_latents
from irepa.pipeline.files import Json, write_array_in_shards
from irepa.pipeline.runner import Context

SHARD = 4096  # images


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    images = context.input("data").array("train.images.npy")
    autoencoder = build_autoencoder(context.settings, device)
    channels, height, width = autoencoder.shape

    def moments(rows: range) -> NDArray[np.float32]:
        part = torch.from_numpy(images[rows.start : rows.stop].copy()).permute(0, 3, 1, 2)
        found = autoencoder.moments(part).float().cpu()
        check_latents(found, rows, context.tier.autoencoder)
        return found.numpy()

    path, shape = context.output("train.moments.npy"), (len(images), 2 * channels, height, width)
    write_array_in_shards(path, shape, np.float32, context.fingerprint, SHARD, moments)
    return {"images": len(images), "shape": list(autoencoder.shape)}

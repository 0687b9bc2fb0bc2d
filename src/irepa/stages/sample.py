"""Draw samples from one trained cell. Image i depends on (seed, i) only, not on the batch it is drawn in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from irepa import plugins
from irepa.cell import build_parts, load_trained
from irepa.compute import setup
from irepa.files import Json, write_array, write_array_in_shards
from irepa.grid import Cell
from irepa.progress import track
from irepa.random import image_label, image_noise
from irepa.runner import Context
from irepa.samplers import guided
from irepa.settings import plugin_options


def labels_of(seed: int, indices: range, classes: int) -> torch.Tensor:
    return torch.tensor([image_label(seed, index, classes) for index in indices])


@torch.inference_mode()
def run(context: Context) -> Json:
    cell, tier = Cell.parse(context.key), context.tier
    device = setup(context.resources.threads)
    # The number of classes is the size of the label embedding: asked of the run, which was given it by the data.
    trained = context.input("train", context.key)
    classes = trained.metrics["classes"]
    parts = build_parts(context.settings, cell, classes, device)
    load_trained(parts, trained, context.settings, cell, device)
    chosen = tier.recipes[cell.recipe].sampler
    options = plugin_options("samplers", chosen, f"recipes.{cell.recipe}.sampler")
    sampler = plugins.load("samplers", chosen.name, cell.recipe)
    guidance = tier.recipes[cell.recipe].guidance
    shape, count, batch = parts.autoencoder.shape, tier.sampling.samples, tier.sampling.batch

    def draw(indices: range) -> NDArray[np.uint8]:
        def noise(step: int) -> torch.Tensor:
            return torch.from_numpy(np.stack([image_noise(cell.seed, i, step, shape) for i in indices])).to(device)

        labels = labels_of(cell.seed, indices, classes).to(device)
        velocity = parts.recipe.velocity(parts.network, labels)
        if guidance is not None:
            velocity = guided(
                velocity, parts.recipe.velocity(parts.network, torch.full_like(labels, classes)), guidance
            )
        images = parts.autoencoder.decode(sampler.sample(velocity, noise(0), options, noise))
        return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def shard(rows: range) -> NDArray[np.uint8]:
        starts = track(range(rows.start, rows.stop, batch), f"sample {rows.start}", -(-len(rows) // batch))
        return np.concatenate([draw(range(start, min(start + batch, rows.stop))) for start in starts])

    path = context.output("samples.npy")
    size = tier.dataset.image_size
    stamp, together = context.fingerprint, tier.sampling.shard * batch
    write_array_in_shards(path, (count, size, size, 3), np.uint8, stamp, together, shard)
    write_array(context.output("preview.npy"), np.load(path, mmap_mode="r")[: tier.sampling.preview])
    preview = range(min(tier.sampling.preview, count))
    return {
        "samples": count,
        "nfe": sampler.evaluations(options),
        "preview_labels": labels_of(cell.seed, preview, classes).tolist(),
    }

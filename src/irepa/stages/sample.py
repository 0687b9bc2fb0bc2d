"""Draw samples from one trained cell, in shards that outlast an interruption."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irepa.config.cells import Cell, trained_cell
from irepa.engine.device import setup
from irepa.engine.network import load_trained, parts_of
from irepa.engine.sampling import ImageSampler
from irepa.pipeline.files import Compressed, Json, write_array, write_array_in_shards
from irepa.pipeline.runner import Context
from irepa.progress import track


def run(context: Context) -> Json:
    cell, tier = Cell.parse(context.key), context.tier
    device = setup(context.resources.threads)
    # The number of classes is the size of the label embedding: asked of the run, which was given it by the data.
    trained = context.input("train", trained_cell(context.settings, context.key))
    classes = trained.metrics["classes"]
    parts = parts_of(context, cell, classes, device)
    load_trained(parts, trained, context.settings, cell, device)
    if tier.sampling.compile:
        parts.network.compile()
    sampler = ImageSampler(context.settings, cell, parts, classes, device)
    count, batch = tier.sampling.samples, tier.sampling.batch

    def shard(rows: range) -> NDArray[np.uint8]:
        starts = track(range(rows.start, rows.stop, batch), f"sample {rows.start}", -(-len(rows) // batch))
        return np.concatenate([sampler.draw(range(start, min(start + batch, rows.stop))) for start in starts])

    path, size = context.output("samples.npz"), tier.dataset.image_size
    together = tier.sampling.shard * batch
    write_array_in_shards(path, (count, size, size, 3), np.uint8, context.fingerprint, together, shard)
    write_array(context.output("preview.npy"), Compressed(path)[: tier.sampling.preview])
    preview = range(min(tier.sampling.preview, count))
    return {
        "samples": count,
        "nfe": sampler.evaluations,
        "preview_labels": sampler.labels(preview).tolist(),
    }

"""Draw samples from one trained cell, in shards that outlast an interruption."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from irepa.config.cells import Cell, trained_cell
from irepa.engine.device import setup
from irepa.engine.network import load_trained, parts_of
from irepa.engine.sampling import ImageSampler
from irepa.engine.sharing import Arrays, Work, compute, fill, forget
from irepa.pipeline.files import Compressed, Json, write_array, write_compressed
from irepa.pipeline.runner import Context
from irepa.progress import track


def run(context: Context) -> Json:
    tier = context.tier
    sampler, work = samples_of(context)
    parts = track(compute(context, "samples", work), "sample", len(work.parts()))
    path, side = context.output("samples.npz"), tier.dataset.image_size
    write_compressed(path, (work.count, side, side, 3), np.uint8, (arrays["samples"] for arrays in parts))
    forget(context, "samples")
    preview = range(min(tier.sampling.preview, work.count))
    write_array(context.output("preview.npy"), Compressed(path)[: tier.sampling.preview])
    return {
        "samples": work.count,
        "nfe": sampler.evaluations,
        "preview_labels": sampler.labels(preview).tolist(),
    }


def share(context: Context) -> Json:
    """One of several processes: its share of the samples."""
    fill(context, {"samples": samples_of(context)[1]})
    return {}


def samples_of(context: Context) -> tuple[ImageSampler, Work]:
    """The sampler, and what is drawn by it."""
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
    batch = tier.sampling.batch

    def drawn(parts: list[range]) -> Iterator[Arrays]:
        for rows in parts:
            starts = range(rows.start, rows.stop, batch)
            images = [sampler.draw(range(start, min(start + batch, rows.stop))) for start in starts]
            yield {"samples": np.concatenate(images)}

    return sampler, Work(tier.sampling.samples, tier.sampling.shard * batch, drawn, kept=True)

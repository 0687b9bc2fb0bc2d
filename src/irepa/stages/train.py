"""Train one cell and keep its EMA weights, its projector and its loss curve."""

from __future__ import annotations

from safetensors.torch import save_file

from irepa.alignment import Alignment
from irepa.cell import build_parts
from irepa.compute import setup
from irepa.files import Json, whole
from irepa.grid import NO_ENCODER, Cell, split_encoder
from irepa.runner import Context
from irepa.tokens import TokenCache
from irepa.training import TrainingData, build_alignment, train


def run(context: Context) -> Json:
    cell, tier = Cell.parse(context.key), context.tier
    device = setup(context.resources.threads)
    data = context.input("data")
    cache: TokenCache | None = None
    alignment: Alignment | None = None
    if cell.encoder != NO_ENCODER:
        base, transforms = split_encoder(cell.encoder)
        cache = TokenCache.open(context.input("features", base), "train", tier.grid, transforms)
        method = context.settings.methods[cell.method]
        alignment = build_alignment(method, tier.scales[cell.scale], cache.dim, tier.grid, cell.seed)
    classes = data.metrics["classes"]
    parts = build_parts(context.settings, cell, classes)
    weights, losses = train(
        parts.network,
        alignment,
        parts.recipe,
        parts.autoencoder,
        TrainingData(
            data.array("train.images.npy"),
            data.array("train.labels.npy"),
            classes,
            None if cache is None else cache.__getitem__,
        ),
        tier.training,
        cell.seed,
        device,
        context.output("loss.jsonl"),
    )
    with whole(context.output("model.safetensors")) as temporary:
        save_file(weights, temporary)
    return {
        **{f"final_{name}": value for name, value in losses.items()},
        "parameters": sum(p.numel() for p in parts.network.parameters() if p.requires_grad),
        "projector_parameters": 0 if alignment is None else sum(p.numel() for p in alignment.parameters()),
        "classes": classes,
        "token_dim": None if cache is None else cache.dim,
        "images_seen": tier.training.steps * tier.training.batch,
    }

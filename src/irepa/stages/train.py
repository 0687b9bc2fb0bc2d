"""Train one cell and keep its EMA weights, its projector and its loss curve; or take over a published checkpoint."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from irepa.alignment import Alignment
from irepa.autoencoders import LatentAutoencoder
from irepa.cell import build_parts
from irepa.compute import setup
from irepa.encode import token_source
from irepa.errors import WeightsError
from irepa.files import Json, sha256, whole, write_text
from irepa.grid import NO_ENCODER, Cell
from irepa.models.sit import SiT, load_public_state_dict, public_state_dict
from irepa.random import StepRandom
from irepa.runner import Context
from irepa.tokens import TokenSource
from irepa.training import TrainingData, build_alignment, train


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    return adopt(context, device) if context.key in context.tier.checkpoints else learn(context, device)


def learn(context: Context, device: torch.device) -> Json:
    """Train from scratch."""
    cell, tier = Cell.parse(context.key), context.tier
    data = context.input("data")
    source: TokenSource | None = None
    alignment: Alignment | None = None
    if cell.encoder != NO_ENCODER:
        source = token_source(context, cell.encoder, "train", device)
        method = context.settings.methods[cell.method]
        alignment = build_alignment(method, tier.scales[cell.scale], source.dim, tier.grid, cell.seed)
    classes = data.metrics["classes"]
    parts = build_parts(context.settings, cell, classes, device)
    if tier.autoencoder.precompute:
        moments = context.input("latents").array("train.moments.npy")
    else:
        images = data.array("train.images.npy")

    def inputs(indices: NDArray[np.int64], draws: StepRandom) -> Tensor:
        if tier.autoencoder.precompute:
            chosen = torch.from_numpy(moments[indices]).to(device)
            latent = cast(LatentAutoencoder, parts.autoencoder)
            return latent.sample(chosen, draws.normal(*latent.shape))
        return parts.autoencoder.encode(torch.from_numpy(images[indices]).permute(0, 3, 1, 2).to(device))

    weights, losses = train(
        parts.network,
        alignment,
        parts.recipe,
        TrainingData(inputs, data.array("train.labels.npy"), classes, None if source is None else source.__getitem__),
        tier.training,
        cell.seed,
        device,
        context.output("loss.jsonl"),
    )
    with whole(context.output("model.safetensors")) as temporary:
        save_file(weights, temporary)
    return {
        **{f"final_{name}": value for name, value in losses.items()},
        "parameters": count(parts.network),
        "projector_parameters": 0 if alignment is None else count(alignment),
        "classes": classes,
        "token_dim": None if source is None else source.dim,
        "images_seen": tier.training.steps * tier.training.batch,
    }


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def adopt(context: Context, device: torch.device) -> Json:
    """Take over a published SiT or REPA checkpoint; its projectors are dropped."""
    cell, path = Cell.parse(context.key), context.tier.checkpoints[context.key]
    if not path.is_file():
        raise WeightsError(f"checkpoints: {context.key} = {path}: there is no such file")
    state = public_state_dict(path)
    classes = len(state["y_embedder.embedding_table.weight"]) - 1
    network = build_parts(context.settings, cell, classes, device).network
    assert isinstance(network, SiT)
    try:
        load_public_state_dict(network, state)
    except RuntimeError as error:
        raise WeightsError(f"checkpoints: {context.key} = {path} does not fit scale {cell.scale}: {error}") from None
    with whole(context.output("model.safetensors")) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, temporary)
    write_text(context.output("loss.jsonl"), "")
    return {
        "parameters": count(network),
        "projector_parameters": 0,
        "classes": classes,
        "token_dim": None,
        "images_seen": None,
        "checkpoint_sha256": sha256(path),
    }

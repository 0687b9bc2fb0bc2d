"""Train one of the pipeline's own encoders on the training images; its EMA weights are kept under timm's names."""

from __future__ import annotations

import json

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from irepa.config import plugins
from irepa.config.plugins import plugin_options
from irepa.encoders import Declared, NetworkEncoder
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.device import setup
from irepa.engine.trainer import TrainingData, train
from irepa.errors import ConfigError
from irepa.images import resize
from irepa.objectives import Learner, Objective
from irepa.pipeline.files import Json, whole, write_text
from irepa.pipeline.runner import Context
from irepa.random import StepRandom
from irepa.weights import RANDOM

VIT = "vit."


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    chosen, seed = context.tier.pretraining[context.key], context.settings.params.seed
    entry = context.settings.catalogue[chosen.encoder]
    where = f"pretraining.{context.key}"
    declared = Declared.of(chosen.encoder, entry, context.tier.features.input_size)
    objective: Objective = plugins.load("objectives", chosen.name, where).build(
        plugin_options("objectives", chosen, where)
    )
    data = context.input("data")
    images, labels = data.array("train.images.npy"), data.array("train.labels.npy")
    untrained = declared.changed(weights=RANDOM, seed=seed, layer=None)
    encoder = untrained.encoder(context.tier.grid, torch.device("cpu"))
    if not isinstance(encoder, NetworkEncoder):
        raise ConfigError(f"{where}.encoder = {chosen.encoder} is no network: nothing can be trained")
    learner = Learner(encoder.network.requires_grad_(True), encoder.mean, encoder.std)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        objective.equip(learner, data.metrics["classes"])

    def inputs(indices: NDArray[np.int64], draws: StepRandom) -> Tensor:
        pixels = torch.from_numpy(images[indices]).permute(0, 3, 1, 2).to(device)
        return resize(pixels.float() / 255, encoder.input_size)

    folder = context.output("pretrain.json").parent / "checkpoints"
    checkpoints = Checkpoints(folder, context.fingerprint)
    learned = TrainingData(inputs, labels, data.metrics["classes"])
    weights, curve = train(learner, None, objective, learned, chosen.training, seed, device, checkpoints)
    kept = {name.removeprefix(VIT): tensor for name, tensor in weights.items() if name.startswith(VIT)}
    with whole(context.output("model.safetensors")) as temporary:
        save_file(kept, temporary)
    write_text(context.output("loss.jsonl"), "".join(json.dumps(row) + "\n" for row in curve))
    checkpoints.clear()
    final = {f"final_{name}": value for name, value in curve[-1].items() if name not in ("step", "grad_norm")}
    return final | {
        "parameters": sum(tensor.numel() for tensor in kept.values()),
        "images_seen": chosen.training.steps * chosen.training.batch,
    }

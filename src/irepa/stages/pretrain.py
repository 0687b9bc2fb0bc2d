"""Train one of the pipeline's own encoders on the training images; its EMA weights are kept under timm's names."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from irepa.config import plugins
from irepa.config.consistency import check_classes
from irepa.config.plugins import plugin_options
from irepa.data import stored_images
from irepa.encoders import Declared, NetworkEncoder
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.device import setup
from irepa.engine.loading import Rows
from irepa.engine.network import check_weights_finite
from irepa.engine.trainer import TrainingData, last_values, train, write_curve
from irepa.errors import ConfigError
from irepa.images import resize
from irepa.models.learner import Learner
from irepa.objectives import Objective
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context
from irepa.random import StepRandom
from irepa.recipes import Align
from irepa.weights import RANDOM

NETWORK = "network."


def run(context: Context) -> Json:
    """Raises ConfigError for settings that cannot be, DivergedError where a weight that would be kept is NaN or infinite, and
    otherwise as :func:`irepa.engine.trainer.train`.
    """
    device = setup(context.resources.threads)
    settings, seed = context.tier.pretraining[context.key], context.settings.params.seed
    entry = context.settings.catalogue[settings.encoder]
    where = f"pretraining.{context.key}"
    if settings.training.label_dropout:
        value = settings.training.label_dropout
        raise ConfigError(f"{where}.training.label_dropout = {value}: an encoder has no null class; it must be 0")
    declared = Declared.of(settings.encoder, entry, context.tier.features.input_size)
    objective_module = plugins.load("objectives", settings.name, where)
    objective: Objective = objective_module.build(plugin_options("objectives", settings, where))
    data = context.input("data")
    classes = data.metrics["classes"]
    check_classes(settings, classes, where)
    labels = objective.relabelled(np.array(data.array(f"{settings.images}.labels.npy")), classes, seed)
    whole_network = {"layer": None} if "layer" in type(declared.options).model_fields else {}
    untrained = declared.changed(weights=RANDOM, seed=seed, **whole_network)
    grid = declared.options.judge_grid if settings.images == "judge" else context.tier.grid
    encoder = untrained.encoder(grid, torch.device("cpu"))
    if not isinstance(encoder, NetworkEncoder):
        raise ConfigError(f"{where}.encoder = {settings.encoder} is no network: nothing can be trained")
    learner = Learner(encoder.network.requires_grad_(True), encoder.mean, encoder.std, encoder.input_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        objective.equip(learner, classes)

    def inputs(rows: Rows, draws: StepRandom) -> Tensor:
        pixels, given = rows["images"].permute(0, 3, 1, 2).float() / 255, encoder.options.resize
        return resize(pixels, encoder.input_size, given.mode, given.antialias, given.clamp)

    def loss(network: Learner, x: Tensor, labels: Tensor, align: Align, draws: StepRandom) -> dict[str, Tensor]:
        return objective.loss(network, x, labels, draws)  # nothing is aligned

    folder = context.output("pretrain.json").parent / "checkpoints"
    checkpoints = Checkpoints(folder, context.fingerprint)
    learned = TrainingData({"images": stored_images(data, settings.images)}, inputs, labels, classes)
    weights, curve = train(
        learner, None, loss, learned, settings.training, seed, device, checkpoints,
        workers=context.resources.workers, averages=lambda name, is_buffer: True,
    )  # fmt: skip
    check_weights_finite(
        weights, f"{where}: EMA weights after {settings.training.steps} steps with lr = {settings.training.lr}"
    )
    kept = {name.removeprefix(NETWORK): tensor for name, tensor in weights.items() if name.startswith(NETWORK)}
    with whole(context.output("model.safetensors")) as temporary:
        save_file(kept, temporary)
    write_curve(context.output("loss.jsonl"), curve)
    checkpoints.clear()
    return last_values(curve) | {
        "parameters": sum(tensor.numel() for tensor in kept.values()),
        "images_seen": settings.training.steps * settings.training.batch,
    }

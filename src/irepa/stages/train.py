"""Train one cell and keep its EMA weights, its projector and its loss curve; or take over a published checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from irepa.alignment import Alignment
from irepa.config.cells import NO_ENCODER, Cell, early_steps, seed_of
from irepa.config.released import no_folder
from irepa.config.tier import Method
from irepa.data import stored_images
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.device import setup
from irepa.engine.loading import Rows
from irepa.engine.network import build_parts, check_weights_finite, parts_of
from irepa.engine.sampling import ImageSampler
from irepa.engine.sharing import how_many, is_first, is_one_of_several, spread
from irepa.engine.targets import token_source
from irepa.engine.trainer import TrainingData, build_alignment, last_values, steps_taken, train, write_curve
from irepa.errors import ConfigError, FailedRunError, WeightsError
from irepa.models.sit import SiT, load_public_state_dict, public_state_dict
from irepa.pipeline.files import Json, sha256, whole
from irepa.pipeline.runner import Context
from irepa.random import StepRandom
from irepa.stored import Stored
from irepa.tokens import TokenSource


def run(context: Context) -> Json:
    """Raises as :func:`learn` and :func:`adopt`; of a tier of released checkpoints FailedRunError for one that cannot be had."""
    device = setup(context.resources.threads)
    if not context.tier.adopts(context.key):
        return learn(context, device)
    if context.tier.released is None:
        return adopt(context, device)
    try:
        return adopt(context, device)
    except WeightsError as error:  # one of many that others have made: a finding
        raise FailedRunError(str(error)) from error


def learn(context: Context, device: torch.device) -> Json:
    """Train from scratch, or from the run's last checkpoint; in several processes where the tier asks for them.

    Raises as :func:`irepa.engine.trainer.train`, and DivergedError where a weight that would be kept is NaN or infinite.
    """
    cell, tier = Cell.parse(context.key), context.tier
    settings = tier.training_of(cell.recipe)
    if settings.processes > 1 and not is_one_of_several():
        return spread(context, settings.processes)
    data = context.input("data")
    source: TokenSource | None = None
    alignment: Alignment | None = None
    if cell.encoder != NO_ENCODER:
        source = token_source(context, cell.encoder, "train", device, settings.flips)
        method = context.settings.methods[cell.method]
        first = seed_of(context.settings, cell, "initialisation")
        alignment = build_alignment(method, tier.scales[cell.scale], source.dim, tier.grid, first)
    classes = data.metrics["classes"]
    parts = parts_of(context, cell, classes, device)
    latents = context.settings.latents_of(cell.recipe)
    stored: dict[str, Stored] = (
        {"images": stored_images(data, "train", settings.flips)}
        if latents is None
        else {"moments": context.input("latents", latents).rows("train.moments.npy")}
    )

    def inputs(rows: Rows, draws: StepRandom) -> Tensor:
        if latents is not None:
            return parts.autoencoder.sample(rows["moments"], draws.normal(*parts.autoencoder.shape))
        return parts.recipe.data(rows["images"].permute(0, 3, 1, 2), parts.autoencoder)

    def preview(averaged: torch.nn.Module) -> Tensor:
        sampler = ImageSampler(context.settings, cell, replace(parts, network=averaged), classes, device)
        return torch.from_numpy(sampler.draw(range(min(16, tier.sampling.samples))))

    checkpoints = Checkpoints(checkpoint_folder(context), context.fingerprint, settings.keep_checkpoints)
    early = {
        step: checkpoints.folder / f"snapshot-{step}.safetensors" for step in early_steps(context.settings, context.key)
    }
    weights, curve = train(
        parts.network,
        alignment,
        parts.recipe.loss,
        TrainingData(stored, inputs, data.array("train.labels.npy"), classes, source),
        settings,
        seed_of(context.settings, cell, "order"),
        device,
        checkpoints,
        preview,
        early,
        context.resources.workers,
        parts.recipe.averages,
        parts.recipe.clipped_apart(parts.network),
    )
    check_weights_finite(weights, f"EMA weights after {settings.steps} steps with lr = {settings.lr}")
    metrics = {
        **last_values(curve),
        "parameters": count(parts.network),
        "projector_parameters": 0 if alignment is None else count(alignment),
        "classes": classes,
        "token_dim": None if source is None else source.dim,
        "images_seen": steps_taken(settings, early) * settings.batch,
    }
    if is_first():
        with whole(context.output("model.safetensors")) as temporary:
            save_file(weights, temporary)
        write_snapshots(context, early)
        write_curve(context.output("loss.jsonl"), curve)
        checkpoints.clear()
    return metrics


def write_snapshots(context: Context, early: Mapping[int, Path]) -> None:
    """Gather the weights after earlier steps, by step, into one file, where they are named ``<step>/<name>``."""
    gathered = {f"{step}/{name}": tensor for step, path in early.items() for name, tensor in load_file(path).items()}
    with whole(context.output("snapshots.safetensors")) as temporary:
        save_file(gathered, temporary)


def checkpoint_folder(context: Context) -> Path:
    """Beside the run's outputs, and none of them: it outlasts a job that fails."""
    return context.output("train.json").parent / "checkpoints"


def share(context: Context) -> Json:
    """One of several processes: its share of the training."""
    return learn(context, setup(max(1, context.resources.threads // how_many())))


def count(module: torch.nn.Module) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def adopt(context: Context, device: torch.device) -> Json:
    """Take over a published SiT or REPA checkpoint; its projectors are dropped.

    Which entry of the file was taken is recorded. Raises WeightsError where the file is missing or does not fit, DivergedError
    where a weight is NaN or infinite, and ConfigError where the recipe trains no SiT, or the tier's checkpoints are nowhere.
    """
    cell, path = Cell.parse(context.key), context.tier.checkpoints.get(context.key)
    if path is None:
        raise ConfigError(no_folder(context.tier))
    if not path.is_file():
        raise WeightsError(f"checkpoints: {context.key} = {path}: there is no such file")
    public = public_state_dict(path)
    classes = public.classes
    network = build_parts(context.settings, cell, classes, device).network
    if not isinstance(network, SiT):
        architecture = context.tier.recipes[cell.recipe].architecture
        raise ConfigError(f"checkpoints: {context.key}: published checkpoints are of a sit, not of {architecture}")
    try:
        load_public_state_dict(network, public.state)
    except WeightsError as error:
        raise WeightsError(
            f"checkpoints: {context.key} = {path}, {public.entry}: {error}; scale {cell.scale} of the tier must have the sizes "
            "of the published network"
        ) from error
    check_projector(public.state, context.settings.methods[cell.method], f"checkpoints: {context.key} = {path}")
    check_weights_finite(network.state_dict(), f"checkpoints: {path}, {public.entry}")
    with whole(context.output("model.safetensors")) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, temporary)
    write_snapshots(context, {})
    write_curve(context.output("loss.jsonl"), [])
    return {
        "parameters": count(network),
        "projector_parameters": 0,
        "classes": classes,
        "token_dim": None,
        "images_seen": None,
        "checkpoint_sha256": sha256(path),
        "checkpoint_entry": public.entry,
        "normalisation": context.settings.autoencoder(cell.recipe).normalisation,
    }


def check_projector(state: Mapping[str, Tensor], method: Method, where: str) -> None:
    """Raises WeightsError where the projector that a file holds is of another kind than the method's.

    Names of runs say which method trained them. Of that the weights can say so much: REPA's are matrices, iREPA's a convolution.
    """
    shapes = [tensor.ndim for name, tensor in state.items() if name.startswith("projectors.") and tensor.ndim > 1]
    kind = "conv" if 4 in shapes else "mlp"
    if shapes and method.projector != kind:
        raise WeightsError(
            f"{where}: the projector in it is of the kind {kind}, the method's is {method.projector or 'none'}: it is "
            "another method's checkpoint"
        )

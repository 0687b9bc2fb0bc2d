"""Train one cell: the recipe's loss plus the method's alignment, with an exponential moving average of the weights.

Everything random at step k is a function of (seed, k), so cells with the same seed see the same images, times and noise in
the same order whatever their method: differences between methods are paired.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irepa.alignment import Alignment
from irepa.errors import DivergedError
from irepa.files import whole
from irepa.progress import track
from irepa.random import StepRandom, batch_indices
from irepa.recipes import Recipe
from irepa.settings import Method, Scale, Training

PROJECTOR = "projectors.0."  # the name under which REPA's public checkpoints hold the projector


@dataclass(frozen=True)
class TrainingData:
    """What a batch is made of, by image index.

    Attributes:
        inputs: (indices, draws) -> what the diffusion model learns, (batch, C, H, W) float32: pixels, or latents drawn anew.
        labels: (n,) in 0..classes-1.
        tokens: tokens of the target encoder (batch, T, dim), or None.
    """

    inputs: Callable[[NDArray[np.int64], StepRandom], Tensor]
    labels: NDArray[np.int64]
    classes: int
    tokens: Callable[[NDArray[np.int64]], Tensor] | None = None


def build_alignment(method: Method, scale: Scale, dim: int, grid: tuple[int, int], seed: int) -> Alignment:
    """The method's projector for an encoder of width ``dim``, initialised from the seed."""
    assert method.projector is not None
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        return Alignment(
            scale.width,
            dim,
            method.projector,
            kernel=method.kernel,
            hidden=scale.projector_hidden,
            grid=grid,
            gamma=None if method.spatial_norm is None else method.spatial_norm.gamma,
            normaliser="std" if method.spatial_norm is None else method.spatial_norm.normaliser,
            weight=method.weight,
        )


def drop_labels(labels: Tensor, draws: Tensor, rate: float, null: int) -> Tensor:
    """Replace labels (batch,) by the null class where draws (batch,) in [0, 1) fall below ``rate``."""
    return torch.where(draws < rate, torch.full_like(labels, null), labels)


def train(
    network: nn.Module,
    alignment: Alignment | None,
    recipe: Recipe,
    data: TrainingData,
    settings: Training,
    seed: int,
    device: torch.device,
    log_path: Path,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train and return (EMA weights with the projector's, last losses); writes the loss curve as JSON lines.

    Raises DivergedError, naming the step and the learning rate, where the loss stops being finite.
    """
    network.to(device).train()
    averaged = copy.deepcopy(network).requires_grad_(False)
    modules = nn.ModuleList([network] if alignment is None else [network, alignment.to(device).train()])
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.lr, betas=settings.betas, eps=1e-8, weight_decay=settings.weight_decay, fused=True
    )
    average, current = ([p.detach() for p in module.parameters()] for module in (averaged, network))
    mixed = settings.precision == "bf16"
    losses: dict[str, float] = {}
    with whole(log_path) as temporary, temporary.open("w", encoding="utf-8") as log:
        for step in track(range(settings.steps), "train", settings.steps):
            indices = batch_indices(seed, step, settings.batch, len(data.labels))
            rng = StepRandom(seed, step, settings.batch, slice(None), device)
            labels = torch.from_numpy(data.labels[indices]).to(device)
            labels = drop_labels(labels, rng.uniform(), settings.label_dropout, data.classes)
            x = data.inputs(indices, rng).to(device)
            tokens = None if data.tokens is None else data.tokens(indices).to(device)

            def align(hidden: Tensor, tokens: Tensor | None = tokens) -> Tensor:
                if alignment is None or tokens is None:
                    return hidden.new_zeros(())
                weighted: Tensor = alignment(hidden, tokens)
                return weighted

            with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
                terms = recipe.loss(network, x, labels, align, rng)
            loss = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trained, settings.grad_clip)
            losses = {"loss": loss.item()} | {name: term.item() for name, term in terms.items()}
            if not math.isfinite(losses["loss"]) or not bool(torch.isfinite(norm)):
                raise DivergedError(
                    f"loss = {losses['loss']} and gradient norm = {norm.item()} at step {step + 1} of {settings.steps} "
                    f"with lr = {settings.lr}: training diverged; lower training.lr"
                )
            optimizer.step()
            torch._foreach_lerp_(average, current, 1 - settings.ema)
            if (step + 1) % settings.log_every == 0 or step + 1 == settings.steps:
                log.write(json.dumps({"step": step + 1, **losses, "grad_norm": norm.item()}) + "\n")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in averaged.state_dict().items()}
    if alignment is not None:
        projector = alignment.projector.state_dict()
        weights |= {PROJECTOR + name: tensor.detach().cpu().contiguous() for name, tensor in projector.items()}
    return weights, losses

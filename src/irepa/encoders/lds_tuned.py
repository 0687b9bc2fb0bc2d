"""Another encoder's tokens behind a linear map that is trained, without labels, to raise LDS.

Does spatial structure help alignment when it is made to order, or is that Goodhart's law? (the paper's second open question)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Seed, Strict
from irepa.encoders import Library

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from irepa.tokens import Grid, TokenSource


class Options(Strict):
    """Adam on -LDS + ``keep`` * |y - x|^2 / |x - mean|^2, for tokens x of the base and y of the map."""

    steps: Positive = Field(300, description="Steps of Adam.")
    batch: Positive = Field(64, description="Images per step.")
    images: Positive = Field(5000, description="Training images, the first so many.")
    lr: float = Field(3e-3, gt=0, description="Learning rate of Adam.")
    keep: float = Field(0.0, ge=0, description="Weight of the term that holds the map near the identity; 0: freely.")
    seed: Seed = Field(0, description="Seed of the order of the images.")


def lds(tokens: Tensor, grid: Grid) -> Tensor:
    """LDS of tokens (batch, h*w, dim), (batch,), as :func:`irepa.spatial.spatial_metrics` has it, with a gradient."""
    from torch.nn.functional import normalize

    from irepa.spatial import manhattan
    from irepa.thresholds import Thresholds

    limits, distance = Thresholds.for_grid(*grid), manhattan(*grid, device=tokens.device)
    unit = normalize(tokens.float(), dim=-1, eps=1e-8)
    similar = unit @ unit.transpose(1, 2)
    near, far = ((distance >= 1) & (distance <= limits.near)), distance >= limits.far
    return similar[:, near].mean(1) - similar[:, far].mean(1)


def identity(dim: int) -> nn.Linear:
    """The map before training: tokens (batch, h*w, dim) to themselves."""
    from torch import nn

    linear = nn.Linear(dim, dim)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def fit(options: Options, source: TokenSource, grid: Grid, device: torch.device) -> nn.Linear:
    """Train the map on an encoder's training tokens; it takes tokens (batch, h*w, dim) to the same shape."""
    import torch

    from irepa.progress import track
    from irepa.random import batch_indices

    adapter = identity(source.dim).to(device)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=options.lr)
    images = np.arange(min(options.images, len(source)))
    for step in track(range(options.steps), "adapter", options.steps):
        tokens = source[images[batch_indices(options.seed, step, options.batch, len(images))]].to(device)
        changed = adapter(tokens)
        moved = (changed - tokens).square().sum() / (tokens - tokens.mean(dim=(0, 1))).square().sum()
        optimizer.zero_grad()
        (options.keep * moved - lds(changed, grid).mean()).backward()
        optimizer.step()
    return adapter.eval().requires_grad_(False)


LIBRARY = Library(fit=fit)

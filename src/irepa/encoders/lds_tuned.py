"""Another encoder's tokens behind a linear map that is trained, without labels, to raise LDS.

Does spatial structure help alignment when it is made to order, or is that Goodhart's law? (the paper's second open question)
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from irepa.config.options import Positive, Strict
from irepa.progress import track
from irepa.random import batch_indices
from irepa.spatial import Thresholds, manhattan
from irepa.tokens import Grid, TokenSource


class Options(Strict):
    """Adam on -LDS + ``keep`` * |y - x|^2 / |x - mean|^2, over ``images`` training images.

    ``keep`` holds the map near the identity.
    """

    steps: Positive = 300
    batch: Positive = 64
    images: Positive = 5000
    lr: Annotated[float, Field(gt=0)] = 3e-3
    keep: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 0


def check(name: str, options: Options) -> None:
    """Nothing to find: the tokens come from the base encoder."""


class Adapter(nn.Module):
    """Tokens (batch, T, dim) -> (batch, T, dim): y = W x + b, the identity before training."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, dim)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        changed: Tensor = self.map(tokens)
        return changed


def lds(tokens: Tensor, grid: Grid) -> Tensor:
    """LDS of tokens (batch, T, dim), (batch,), as :func:`irepa.spatial.spatial_metrics` has it, with a gradient."""
    limits, distance = Thresholds.for_grid(*grid), manhattan(*grid, device=tokens.device)
    unit = normalize(tokens.float(), dim=-1, eps=1e-8)
    similar = unit @ unit.transpose(1, 2)
    near, far = ((distance >= 1) & (distance <= limits.near)), distance >= limits.far
    return similar[:, near].mean(1) - similar[:, far].mean(1)


def fit(options: Options, source: TokenSource, grid: Grid, device: torch.device) -> Adapter:
    """Train the map on an encoder's training tokens."""
    adapter = Adapter(source.dim).to(device)
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

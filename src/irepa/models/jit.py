"""JiT: a plain transformer on pixel patches (paper section 5; Li and He, 2025).

Against SiT: patches pass a bottleneck, norms are RMS, queries and keys are normalised and rotated, the feed-forward is
SwiGLU, and copies of the class embedding join the tokens as context from some block on.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irepa.models.sit import (
    LabelEmbedder,
    TimestepEmbedder,
    initialise_embedders,
    modulate,
    sincos_positions,
    token_grid,
)
from irepa.projectors import initialise_linear

THETA = 10_000.0


def at_least_float32(x: Tensor) -> Tensor:
    """float32 for what is narrower, as it is else."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rotary_table(grid: tuple[int, int], dim: int, context: int = 0) -> Tensor:
    """Angles (context + H*W, dim / 2) by which channel pairs of each token are turned.

    Half of the pairs turn with the row, half with the column; context tokens do not turn.

    Raises ValueError where ``dim``, the width of a head, is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"the width of a head must be a multiple of 4 for 2-D rotary positions, not {dim}")
    frequency = THETA ** (-torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    angles = torch.cat([rows.reshape(-1, 1) * frequency, columns.reshape(-1, 1) * frequency], dim=1)
    return torch.cat([torch.zeros(context, dim // 2), angles])


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn channels i and i + dim / 2 as a complex number: x (batch, heads, tokens, dim), angles (tokens, dim / 2)."""
    x = at_least_float32(x)
    sine = angles.sin()
    turned = x.roll(x.shape[-1] // 2, dims=-1) * torch.cat([-sine, sine], dim=-1)
    return torch.addcmul(turned, x, angles.cos().repeat(1, 2))


class RMSNorm(nn.RMSNorm):
    """Not below the weight's precision: torch has no fused norm where input and weight differ."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(at_least_float32(x))


class Attention(nn.Module):
    """Self-attention with RMS-normalised, rotated queries and keys; (batch, tokens, width) -> same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = RMSNorm(width // heads, eps=1e-6), RMSNorm(width // heads, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), angles), rotate(self.k_norm(k), angles)
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(mixed)
        return out


class SwiGLU(nn.Module):
    """Gated feed-forward layer with two thirds of ``hidden`` units."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * (hidden * 2 // 3))
        self.w3 = nn.Linear(hidden * 2 // 3, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class JiTBlock(nn.Module):
    """One block; its gates start at 0."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width, eps=1e-6), RMSNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp = SwiGLU(width, 4 * width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, angles: Tensor) -> Tensor:
        six: tuple[Tensor, ...] = self.adaLN_modulation(condition).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = six
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1), angles)
        mixed: Tensor = self.mlp(modulate(self.norm2(x), shift2, scale2))
        return x + gate2.unsqueeze(1) * mixed


class JiT(nn.Module):
    """The clean image x(z, t, y).

    Args:
        input_size, channels, classes, depth, width, heads, patch, align_depth: as of :class:`irepa.models.sit.SiT`.
        bottleneck: width between the two patch projections; None is ``width``.
        context: class tokens among the patch tokens, from block ``context_start`` (counted from 0) on.

    Raises ValueError where the sizes do not fit together.
    """

    angles: Tensor
    angles_with_context: Tensor

    def __init__(
        self,
        input_size: tuple[int, int],
        channels: int,
        classes: int,
        *,
        depth: int,
        width: int,
        heads: int,
        patch: int,
        align_depth: int,
        bottleneck: int | None = None,
        context: int = 0,
        context_start: int = 0,
    ) -> None:
        super().__init__()
        grid = token_grid(input_size, depth=depth, width=width, heads=heads, patch=patch, align_depth=align_depth)
        self.channels, self.classes, self.patch, self.grid = channels, classes, patch, grid
        self.align_depth, self.context_start, self.context = align_depth, context_start, context
        self.proj1 = nn.Conv2d(channels, bottleneck or width, patch, patch, bias=False)
        self.proj2 = nn.Conv2d(bottleneck or width, width, 1)
        self.t_embedder, self.y_embedder = TimestepEmbedder(width), LabelEmbedder(classes, width)
        self.register_parameter("pos_embed", nn.Parameter(sincos_positions(width, grid), requires_grad=False))
        self.context_positions = nn.Parameter(0.02 * torch.randn(1, context, width))
        self.blocks = nn.ModuleList([JiTBlock(width, heads) for _ in range(depth)])
        self.norm = RMSNorm(width, eps=1e-6)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, patch**2 * channels)
        head = width // heads
        self.register_buffer("angles", rotary_table(grid, head), persistent=False)
        self.register_buffer("angles_with_context", rotary_table(grid, head, context), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As SiT: Xavier linear layers, N(0, 0.02) embeddings of classes and times, zero gates and zero output."""
        initialise_linear(self)
        for convolution in (self.proj1, self.proj2):
            nn.init.xavier_uniform_(convolution.weight.view(convolution.out_channels, -1))
        assert self.proj2.bias is not None
        nn.init.zeros_(self.proj2.bias)
        initialise_embedders(self.y_embedder, self.t_embedder)
        zero: list[Any] = [self.adaLN_modulation[1], self.linear]
        blocks: list[Any] = list(self.blocks)
        zero += [block.adaLN_modulation[1] for block in blocks]
        for layer in zero:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The image, shaped as x, and the hidden patch tokens after block ``align_depth``, (batch, T, width).

        Args:
            x: (batch, channels, H, W).
            t: (batch,) in [0, 1], 1 at data.
            labels: (batch,) in 0..classes.
        """
        of_class = self.y_embedder(labels)
        condition = self.t_embedder(t) + of_class
        tokens = self.proj2(self.proj1(x)).flatten(2).transpose(1, 2) + self.pos_embed
        hidden, ahead = tokens, 0
        for index, block in enumerate(self.blocks):
            if index == self.context_start and self.context:
                ahead = self.context
                tokens = torch.cat([of_class[:, None] + self.context_positions, tokens], dim=1)
            tokens = block(tokens, condition, self.angles_with_context if ahead else self.angles)
            if index + 1 == self.align_depth:
                hidden = tokens[:, ahead:]
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        patches = self.linear(modulate(self.norm(tokens[:, ahead:]), shift, scale))
        image = F.fold(
            patches.unflatten(2, (-1, self.channels)).permute(0, 3, 2, 1).flatten(1, 2),
            (self.grid[0] * self.patch, self.grid[1] * self.patch),
            kernel_size=self.patch,
            stride=self.patch,
        )
        return image, hidden

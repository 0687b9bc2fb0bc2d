"""SiT: a diffusion transformer with adaLN-Zero, for latents or pixels (paper section 3, DiT blocks).

Parameter names and shapes are those of the public SiT and REPA checkpoints, so that a published file loads into this
class as it is (see :func:`load_public_state_dict`).
"""

from __future__ import annotations

import argparse
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irepa.errors import WeightsError, translated
from irepa.projectors import initialise_linear


def sincos_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Fixed 2-D sine-cosine position embedding, (1, H*W, width), as in MAE and DiT: columns first, then rows.

    Raises ValueError where ``width`` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width must be a multiple of 4 for 2-D sin-cos positions, not {width}")
    rows, columns = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    frequency = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4.0))

    def one_axis(position: np.ndarray) -> np.ndarray:
        angle = position.reshape(-1, 1).astype(np.float64) * frequency
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    table = np.concatenate([one_axis(columns), one_axis(rows)], axis=1)
    return torch.from_numpy(table).float().unsqueeze(0)


class PatchEmbed(nn.Module):
    """Image (batch, channels, H, W) -> tokens (batch, H/p * W/p, width)."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class TimestepEmbedder(nn.Module):
    """Times (batch,) in [0, 1] -> (batch, width): sinusoids of 256 frequencies, then a 2-layer MLP."""

    frequencies = 256

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        half = self.frequencies // 2
        frequency = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
        angle = t.float()[:, None] * frequency
        embedded: Tensor = self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1))
        return embedded


class LabelEmbedder(nn.Module):
    """Class labels (batch,) -> (batch, width); row ``classes`` is the null class of classifier-free guidance."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        embedded: Tensor = self.embedding_table(labels)
        return embedded


class Attention(nn.Module):
    """Multi-head self-attention, tokens (batch, tokens, width) -> same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        out: Tensor = self.proj(mixed)
        return out


class Mlp(nn.Module):
    """Two linear layers with GELU between, tokens (batch, tokens, width) -> same shape."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: x (batch, tokens, width) scaled and shifted per image by (batch, width)."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class SiTBlock(nn.Module):
    """One transformer block; adaLN-Zero gates start at 0, so that the block starts as the identity."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        six: tuple[Tensor, ...] = self.adaLN_modulation(condition).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = six
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1))
        mixed: Tensor = self.mlp(modulate(self.norm2(x), shift2, scale2))
        return x + gate2.unsqueeze(1) * mixed


class FinalLayer(nn.Module):
    """Tokens (batch, tokens, width) and condition (batch, width) -> (batch, tokens, outputs)."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        out: Tensor = self.linear(modulate(self.norm_final(x), shift, scale))
        return out


def initialise_embedders(labels: LabelEmbedder, times: TimestepEmbedder) -> None:
    """Weights N(0, 0.02^2) of both embeddings, as DiT and JiT start."""
    nn.init.normal_(labels.embedding_table.weight, std=0.02)
    for layer in (times.mlp[0], times.mlp[2]):
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=0.02)


def token_grid(
    input_size: tuple[int, int], *, depth: int, width: int, heads: int, patch: int, align_depth: int
) -> tuple[int, int]:
    """Rows and columns of the tokens of an input (H, W), for a transformer of these sizes.

    Raises ValueError where the sizes do not fit together.
    """
    if input_size[0] % patch or input_size[1] % patch:
        raise ValueError(f"patch {patch} does not divide the input {input_size[0]}x{input_size[1]}")
    if width % heads:
        raise ValueError(f"heads {heads} does not divide width {width}")
    if not 1 <= align_depth <= depth:
        raise ValueError(f"align_depth must be in 1..{depth}, not {align_depth}")
    return input_size[0] // patch, input_size[1] // patch


class SiT(nn.Module):
    """Velocity network u(x, t, y).

    Args:
        input_size: (H, W) of the latent or image.
        channels: its channels.
        classes: number of classes; label ``classes`` is the null class.
        depth, width, heads, patch, mlp_ratio: the transformer (paper section 3 has the named scales).
        align_depth: number of blocks after which the hidden tokens are read for the alignment (REPA depth).

    Raises ValueError where the sizes do not fit together.
    """

    pos_embed: Tensor

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
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.grid = token_grid(input_size, depth=depth, width=width, heads=heads, patch=patch, align_depth=align_depth)
        self.channels, self.classes, self.patch, self.width = channels, classes, patch, width
        self.align_depth = align_depth
        self.x_embedder = PatchEmbed(channels, patch, width)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(classes, width)
        # A parameter without gradient, not a buffer: the public checkpoints list it among their parameters.
        self.register_parameter("pos_embed", nn.Parameter(sincos_positions(width, self.grid), requires_grad=False))
        self.blocks = nn.ModuleList([SiTBlock(width, heads, mlp_ratio) for _ in range(depth)])
        self.final_layer = FinalLayer(width, patch * patch * channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """DiT's initialisation: Xavier linear layers, N(0, 0.02) embeddings, zero gates and zero output."""
        initialise_linear(self)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.view(self.width, -1))
        assert self.x_embedder.proj.bias is not None
        nn.init.zeros_(self.x_embedder.proj.bias)
        initialise_embedders(self.y_embedder, self.t_embedder)
        zero: list[nn.Module] = [self.final_layer.adaLN_modulation[1], self.final_layer.linear]
        for block in self.blocks:
            assert isinstance(block, SiTBlock)
            zero.append(block.adaLN_modulation[1])
        for layer in zero:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def unpatchify(self, tokens: Tensor) -> Tensor:
        """(batch, T, p*p*channels) -> (batch, channels, H, W)."""
        height, width = self.grid
        x = tokens.view(-1, height, width, self.patch, self.patch, self.channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.channels, height * self.patch, width * self.patch)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity, shaped as x, and the hidden tokens after block ``align_depth``, (batch, tokens, width).

        Args:
            x: (batch, channels, H, W).
            t: (batch,) in [0, 1].
            labels: (batch,) in 0..classes.
        """
        return self.transform(x, self.t_embedder(t) + self.y_embedder(labels))

    def transform(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, given what the blocks are conditioned on, (batch, width)."""
        tokens = self.x_embedder(x) + self.pos_embed
        hidden = tokens
        for index, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, condition)
            if index == self.align_depth:
                hidden = tokens
        return self.unpatchify(self.final_layer(tokens, condition)), hidden


PREFIXES = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before a name
TABLE = "y_embedder.embedding_table.weight"  # by which a SiT is known
AVERAGED = "n_averaged"  # the counter of torch's AveragedModel, no weight
WHOLE = "(the whole file)"


@dataclass(frozen=True)
class PublicWeights:
    """The weights in a checkpoint file, under the names of :class:`SiT`, and the ``entry`` of the file that they were."""

    state: dict[str, Tensor]
    entry: str

    @property
    def classes(self) -> int:
        """Number of classes, the null class not counted."""
        return len(self.state[TABLE]) - 1


def public_state_dict(path: Path) -> PublicWeights:
    """The weights in a public SiT or REPA checkpoint file: the file itself, or its one entry that is a SiT; its EMA of several.

    Raises WeightsError where the file cannot be read, holds no SiT, or leaves open which of several is meant.
    """
    cure = "fetch it again, or save its tensors anew, by name: torch.save({'ema': model.state_dict()}, file)"
    with translated(WeightsError, f"{path} cannot be read as a checkpoint", cure):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with path.open("rb") as stream:
                if not zipfile.is_zipfile(stream):  # torch would speak of mapping into memory
                    raise WeightsError(
                        f"{path} is no file of torch.save, or is cut off, or of before torch 1.6; {cure}"
                    )
            # The training scripts store their command line beside the weights.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, no weights by name: it is no checkpoint of a SiT")
    entries = {WHOLE: content} | {str(name): value for name, value in content.items() if isinstance(value, Mapping)}
    candidates = {
        name: state for name, entry in entries.items() if (state := _bare(entry, f"{path}: {name}")) is not None
    }
    averaged = [name for name in candidates if "ema" in re.split(r"[^a-z]+", name.lower())]
    chosen = averaged or list(candidates)
    if not chosen:
        raise WeightsError(f"{path} holds no SiT: no entry has {TABLE}; its entries are {_listed(content)}")
    if len(chosen) > 1:
        raise WeightsError(
            f"{path} holds several SiT, {', '.join(chosen)}, and which is meant is not sure; its entries are {_listed(content)}: "
            "save the one to sample from in a file of its own"
        )
    return PublicWeights(candidates[chosen[0]], chosen[0])


def _listed(content: Mapping[Any, Any]) -> str:
    names = [str(name) for name in content]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"


def bare_name(name: str) -> str:
    """A tensor's name without the prefixes of wrappers, however many there are and in whichever order."""
    while any(name.startswith(prefix) for prefix in PREFIXES):
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
    return name


def _bare(entry: Mapping[Any, Any], where: str) -> dict[str, Tensor] | None:
    """The weights of a SiT under their bare names, None where the entry is none. Raises WeightsError for one that is damaged."""
    names = {name: bare_name(name) for name in entry if isinstance(name, str) and name != AVERAGED}
    if TABLE not in names.values():
        return None
    if len(set(names.values())) != len(names):
        twice = next(bare for bare in names.values() if list(names.values()).count(bare) > 1)
        raise WeightsError(
            f"{where}: {twice} stands there twice, under names with and without prefixes: which is meant is not sure"
        )
    for name in entry:
        tensor = entry[name]
        if name != AVERAGED and not (
            isinstance(name, str) and isinstance(tensor, Tensor) and tensor.is_floating_point()
        ):
            raise WeightsError(f"{where}: {name!s:.80} is no tensor of floating-point numbers")
    if entry[next(name for name, bare in names.items() if bare == TABLE)].ndim != 2:
        raise WeightsError(f"{where}: {TABLE} must be (classes + 1, width)")
    return {bare: entry[name] for name, bare in names.items()}


def load_public_state_dict(model: SiT, state: Mapping[str, Tensor]) -> None:
    """Load a public SiT or REPA state dict.

    Projector weights are dropped. A final layer that also predicts a variance (DiT's learn_sigma, twice the output
    channels) keeps its first half, the velocity.

    Raises WeightsError where a name or a shape does not fit.
    """
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("projectors.")}
    outputs = model.patch * model.patch * model.channels
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        if name in kept and kept[name].shape[:1] == (2 * outputs,):
            # Rows are ordered (row, column, channel) inside a patch, channel fastest.
            folded = kept[name].unflatten(0, (model.patch * model.patch, 2 * model.channels))
            kept[name] = folded[:, : model.channels].flatten(0, 1)
    with translated(WeightsError, "the weights do not fit"):
        model.load_state_dict(kept)

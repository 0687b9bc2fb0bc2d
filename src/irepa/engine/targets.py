"""Run frozen encoders over images: once, into a cache, or online, batch by batch as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irepa.config import plugins
from irepa.config.cells import split_encoder
from irepa.config.plugins import encoder_options
from irepa.config.tier import Features
from irepa.encoders import Encoder
from irepa.errors import ConfigError
from irepa.pipeline.files import Record
from irepa.pipeline.runner import Context
from irepa.tokens import Grid, Tokens, TokenSource, resample, storage_grid

Transforms = tuple[tuple[str, float | None], ...]


def transformed(
    tokens: Tensor, global_token: Tensor | None, transforms: Transforms, grid: Grid, indices: NDArray[np.int64]
) -> Tensor:
    """Tokens (batch, H*W, dim) after the transforms in a wrapped encoder's name."""
    for name, argument in transforms:
        module = plugins.load("transforms", name, "encoder")
        tokens = module.apply(tokens, global_token, argument, grid, indices)
    return tokens


@dataclass(frozen=True)
class TokenCache:
    """Tokens read from disk. Row i is the same whatever else is asked for with it."""

    stored: NDArray[np.generic]
    globals_: NDArray[np.generic]
    stored_grid: Grid
    grid: Grid
    transforms: Transforms

    @classmethod
    def open(cls, record: Record, split: str, grid: Grid, transforms: Transforms) -> TokenCache:
        """Raises CacheError where a file of the cache is missing, truncated or edited."""
        height, width = record.metrics["grid"]
        return cls(
            record.array(f"{split}.tokens.npy"),
            record.array(f"{split}.global.npy"),
            (height, width),
            grid,
            transforms,
        )

    def __len__(self) -> int:
        return int(self.stored.shape[0])

    @property
    def dim(self) -> int:
        return int(self.stored.shape[2])

    def __getitem__(self, indices: NDArray[np.int64]) -> Tensor:
        tokens = resample(torch.from_numpy(self.stored[indices]).float(), self.stored_grid, self.grid)
        rows = self.globals_[indices]
        global_token = torch.from_numpy(rows).float() if rows.shape[1] else None
        return transformed(tokens, global_token, self.transforms, self.grid, indices)


def build_encoder(context: Context, name: str, device: torch.device) -> Encoder:
    """The encoder of a row of ``workflow/encoders.yaml``, for the tier's grid, with the weights that the pipeline has trained
    where the row asks for them. Raises ConfigError, WeightsError and CacheError."""
    settings = context.settings
    entry = settings.catalogue[name]
    options = encoder_options(entry, settings.tier.features.input_size, f"encoders.yaml: {name}")
    if entry.trained_by is not None:
        weights = context.input("pretrain", entry.trained_by).file("model.safetensors")
        options = options.model_copy(update={"weights": str(weights)})
    library = plugins.load("encoders", entry.library, name)
    library.check(name, options)
    encoder: Encoder = library.build(options, settings.tier.grid, device)
    return encoder


def fit_encoder(context: Context, name: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The change of tokens (batch, T, dim), on the tier's grid, that a row with a ``base`` stands for, fitted to that one's.

    Raises ConfigError where the base's tokens are not stored.
    """
    settings = context.settings
    entry = settings.catalogue[name]
    assert entry.base is not None
    options = encoder_options(entry, settings.tier.features.input_size, f"encoders.yaml: {name}")
    if context.input("features", entry.base).metrics["online"]:
        raise ConfigError(f"encoder {name}: {entry.base} is too large to be stored (features.disk_limit_gib)")
    source = token_source(context, entry.base, "train", device)
    fitted: Callable[[Tensor], Tensor] = plugins.load("encoders", entry.library, name).fit(
        options, source, settings.tier.grid, device
    )
    return fitted


@torch.inference_mode()
def encode(
    encoder: Encoder, images: NDArray[np.uint8], indices: NDArray[np.int64], settings: Features, grid: Grid,
    device: torch.device,
) -> Iterator[Tokens]:  # fmt: skip
    """Tokens of ``images[indices]``, batch by batch, on the grid that is stored, on the CPU."""
    mixed = settings.precision == "bf16"
    for start in range(0, len(indices), settings.batch):
        chosen = torch.from_numpy(images[indices[start : start + settings.batch]]).permute(0, 3, 1, 2).to(device)
        with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
            tokens = encoder(chosen)
        stored = storage_grid(tokens.grid, grid)
        patch = resample(tokens.patch.float(), tokens.grid, stored).cpu()
        yield Tokens(patch, stored, None if tokens.global_token is None else tokens.global_token.float().cpu())


@dataclass(frozen=True)
class OnlineTokens:
    """Tokens computed when they are asked for, rounded as a cache would round them."""

    encoder: Encoder
    images: NDArray[np.uint8]
    settings: Features
    grid: Grid
    transforms: Transforms
    dim: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: NDArray[np.int64]) -> Tensor:
        dtype = getattr(torch, self.settings.dtype)
        parts: list[Tensor] = []
        done = 0
        for found in encode(self.encoder, self.images, indices, self.settings, self.grid, self.device):
            tokens = resample(found.patch.to(dtype).float(), found.grid, self.grid)
            global_token = None if found.global_token is None else found.global_token.to(dtype).float()
            here = indices[done : done + len(tokens)]
            parts.append(transformed(tokens, global_token, self.transforms, self.grid, here))
            done += len(tokens)
        return torch.cat(parts)


def token_source(context: Context, name: str, split: str, device: torch.device) -> TokenSource:
    """Tokens of an encoder, wrapped or not: from its cache, or online where the cache would have been too large.

    Raises CacheError where a file of the cache is missing, truncated or edited.
    """
    base, transforms = split_encoder(name)
    record: Record = context.input("features", base)
    if split == "train" and record.metrics["online"]:
        settings = context.settings
        images = context.input("data").array("train.images.npy")
        encoder = build_encoder(context, base, device)
        dim = record.metrics["dim"]
        return OnlineTokens(encoder, images, settings.tier.features, settings.tier.grid, transforms, dim, device)
    return TokenCache.open(record, split, context.tier.grid, transforms)

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
from irepa.config.tier import EncoderEntry, Features
from irepa.encoders import Declared, Encoder
from irepa.errors import ConfigError
from irepa.pipeline.files import Record
from irepa.pipeline.runner import Context
from irepa.tokens import Grid, Tokens, TokenSource, check_finite, resample, storage_grid

Transforms = tuple[tuple[str, float | None], ...]  # names and arguments, as they follow the name of an encoder
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def transformed(
    tokens: Tensor, global_token: Tensor | None, transforms: Transforms, grid: Grid, indices: NDArray[np.int64]
) -> Tensor:
    """Tokens (batch, H*W, dim) after the transforms that follow an encoder's name.

    ``global_token``: (batch, dim) or None; ``indices``: (batch,), the numbers of the images. Raises CacheError where a transform
    needs a global token and there is none.
    """
    for name, argument in transforms:
        transform = plugins.load("transforms", name, "encoder")
        tokens = transform.apply(tokens, global_token, argument, grid, indices)
    return tokens


@dataclass(frozen=True)
class TokenCache:
    """Tokens read from disk. Row i is the same whatever else is asked for with it.

    Attributes:
        stored: (images, h*w, dim) on ``stored_grid``.
        global_tokens: (images, dim), or (images, 0) where the encoder has none.
        grid: the grid that tokens are given on.
        transforms: what is applied to them on the way.
    """

    stored: NDArray[np.generic]
    global_tokens: NDArray[np.generic]
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
        rows = self.global_tokens[indices]
        global_token = torch.from_numpy(rows).float() if rows.shape[1] else None
        return transformed(tokens, global_token, self.transforms, self.grid, indices)


def build_encoder(context: Context, name: str, device: torch.device) -> Encoder:
    """The encoder of a row of ``workflow/encoders.yaml``, for the tier's grid.

    It has the weights that the pipeline has trained where the row asks for them. Raises ConfigError where the row is no
    alignment target, WeightsError where its weights cannot be had, and CacheError where those of the pipeline are missing.
    """
    tier = context.tier
    declared = Declared.of(name, trained_entry(context, name), tier.features.input_size)
    declared.check()
    return declared.encoder(tier.grid, device)


def trained_entry(context: Context, name: str) -> EncoderEntry:
    """The row of an encoder or a judge, with the weights that the pipeline has trained where it asks for them.

    Raises CacheError where those are missing.
    """
    entry = context.settings.catalogue[name]
    if entry.trained_by is None:
        return entry
    weights = context.input("pretrain", entry.trained_by).file("model.safetensors")
    return EncoderEntry.model_validate(entry.model_dump() | {"weights": str(weights)})


def fit_encoder(context: Context, name: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What a row with a ``base`` stands for: a change of tokens (batch, H*W, dim), on the tier's grid, fitted to that encoder's.

    Raises ConfigError where the row's library fits nothing, or where the base's tokens are not stored.
    """
    settings = context.settings
    entry = settings.catalogue[name]
    assert entry.base is not None
    declared = Declared.of(name, entry, settings.tier.features.input_size)
    if context.input("features", entry.base).metrics["online"]:
        raise ConfigError(f"encoder {name}: {entry.base} is too large to be stored (features.disk_limit_gib)")
    return declared.fit(token_source(context, entry.base, "train", device), settings.tier.grid, device)


@torch.inference_mode()
def encode(
    encoder: Encoder, images: NDArray[np.uint8], indices: NDArray[np.int64], settings: Features, grid: Grid,
    device: torch.device,
) -> Iterator[Tokens]:  # fmt: skip
    """Tokens of ``images[indices]``, batch by batch, on the grid that is stored (:func:`irepa.tokens.storage_grid`), on the CPU.

    ``images``: (n, height, width, 3); ``grid``: the tier's.
    """
    mixed = settings.precision == "bf16"
    for start in range(0, len(indices), settings.batch):
        batch = torch.from_numpy(images[indices[start : start + settings.batch]]).permute(0, 3, 1, 2).to(device)
        with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
            tokens = encoder(batch)
        stored = storage_grid(tokens.grid, grid)
        patch = resample(tokens.patch.float(), tokens.grid, stored).cpu()
        check_finite(patch, f"tokens of the encoder class {type(encoder).__name__}")
        yield Tokens(patch, stored, None if tokens.global_token is None else tokens.global_token.float().cpu())


@dataclass(frozen=True)
class OnlineTokens:
    """Tokens computed when they are asked for, rounded as a cache would round them.

    Attributes:
        images: (n, height, width, 3).
        grid: the grid that tokens are given on.
        transforms: what is applied to them.
        dim: their width.
    """

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
        dtype = DTYPES[self.settings.dtype]
        parts: list[Tensor] = []
        done = 0
        for tokens in encode(self.encoder, self.images, indices, self.settings, self.grid, self.device):
            rounded = tokens.patch.to(dtype).float()
            check_finite(rounded, f"tokens as {self.settings.dtype}")
            patch = resample(rounded, tokens.grid, self.grid)
            global_token = None if tokens.global_token is None else tokens.global_token.to(dtype).float()
            here = indices[done : done + len(patch)]
            parts.append(transformed(patch, global_token, self.transforms, self.grid, here))
            done += len(patch)
        return torch.cat(parts)


def token_source(context: Context, name: str, split: str, device: torch.device) -> TokenSource:
    """Tokens of an encoder, with its transforms: from its cache, or online where the cache would have been too large.

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

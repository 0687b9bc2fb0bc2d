"""Run one frozen encoder over the training images and the metric subset of the held-out images, once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irepa import plugins
from irepa.compute import setup
from irepa.encoders import Encoder, Tokens
from irepa.files import Json, write_array, write_array_in_parts
from irepa.progress import track
from irepa.runner import Context
from irepa.settings import encoder_options
from irepa.tokens import check_finite, resample, spread, storage_grid


def encode(
    encoder: Encoder, images: NDArray[np.uint8], indices: NDArray[np.int64], batch: int, grid: tuple[int, int],
    device: torch.device,
) -> Iterator[Tokens]:  # fmt: skip
    """Tokens of ``images[indices]``, batch by batch, on the grid that is stored."""
    for start in track(range(0, len(indices), batch), "encode", -(-len(indices) // batch)):
        chosen = images[indices[start : start + batch]]
        with torch.inference_mode():
            tokens = encoder(torch.from_numpy(chosen).permute(0, 3, 1, 2).to(device), grid)
            stored = storage_grid(tokens.grid, grid)
            patch = resample(tokens.patch.float(), tokens.grid, stored).cpu()
        yield Tokens(patch, stored, None if tokens.global_token is None else tokens.global_token.float().cpu())


def run(context: Context) -> Json:
    entry = context.settings.catalogue[context.key]
    options = encoder_options(entry, context.tier.features.input_size, f"encoders.yaml: {context.key}")
    library = plugins.load("encoders", entry.library, context.key)
    library.check(context.key, options)
    device = setup(context.resources.threads)
    encoder: Encoder = library.build(options)
    data = context.input("data")
    dtype = np.dtype(context.tier.features.dtype)
    shape: tuple[int, int, int] = (0, 0, 0)
    for split in ("train", "test"):
        images = data.array(f"{split}.images.npy")
        every = np.arange(len(images), dtype=np.int64)
        indices = every if split == "train" else spread(len(images), context.tier.spatial.images)
        batches = encode(encoder, images, indices, context.tier.features.batch, context.tier.grid, device)
        first = next(batches)
        shape = (first.grid[0], first.grid[1], first.patch.shape[2])
        _write(context.output(f"{split}.tokens.npy"), context.output(f"{split}.global.npy"), len(indices), first,
               batches, dtype)  # fmt: skip
    return {"grid": list(shape[:2]), "dim": shape[2], "global_token": first.global_token is not None}


def _write(
    tokens_path: Path, global_path: Path, count: int, first: Tokens, rest: Iterator[Tokens], dtype: np.dtype
) -> None:
    """Stream the tokens to disk; raises DivergedError where one is NaN or too large for ``dtype``.

    The global tokens, one per image, are few enough to be collected on the way.
    """
    global_tokens: list[Tensor] = []

    def parts() -> Iterator[NDArray[np.generic]]:
        for tokens in itertools.chain([first], rest):
            if tokens.global_token is not None:
                global_tokens.append(tokens.global_token)
            stored = tokens.patch.numpy().astype(dtype)
            check_finite(torch.from_numpy(stored), f"{tokens_path} as {dtype}")
            yield stored

    write_array_in_parts(tokens_path, (count, *first.patch.shape[1:]), dtype, parts())
    empty = np.zeros((count, 0), dtype)
    write_array(global_path, torch.cat(global_tokens).numpy().astype(dtype) if global_tokens else empty)

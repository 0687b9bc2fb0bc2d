"""Run one frozen encoder over the metric subset of the held-out images and over the training images, once.

Training tokens that would take more disk than ``features.disk_limit_gib`` are not stored: the encoder runs online then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irepa.engine.device import setup
from irepa.engine.targets import build_encoder, called, checked, encode, fit_encoder, rounded, token_source
from irepa.pipeline.files import Json, write_array, write_array_in_parts
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.tokens import Tokens, cache_bytes, spread


def run(context: Context) -> Json:
    settings = context.tier.features
    device = setup(context.resources.threads)
    data = context.input("data")
    tokens_of, weights_sha256 = source(context, device)
    dtype = np.dtype(settings.dtype)
    metrics: Json = {}

    def stored(split: str, indices: NDArray[np.int64]) -> Iterator[Tokens]:
        start = 0
        for tokens in tokens_of(split, indices):
            end = start + len(tokens.patch)
            yield rounded(tokens, settings.dtype, called(context.key, split), indices[start:end])
            start = end

    for split in ("test", "train"):
        total = len(data.array(f"{split}.labels.npy"))
        indices = spread(total, context.tier.spatial.images if split == "test" else total)
        batches = track(stored(split, indices), f"{split} tokens", -(-len(indices) // settings.batch))
        first = next(batches)
        shape = first.patch.shape[1:]
        online = (
            split == "train" and cache_bytes(len(indices), shape[0], shape[1], dtype) > settings.disk_limit_gib * 2**30
        )
        if online:
            write_array(context.output("train.tokens.npy"), np.zeros((0, *shape), dtype))
            write_array(context.output("train.global.npy"), np.zeros((0, 0), dtype))
        else:
            paths = context.output(f"{split}.tokens.npy"), context.output(f"{split}.global.npy")
            _write(*paths, len(indices), first, batches, dtype)
        metrics = {
            "grid": list(first.grid),
            "dim": shape[1],
            "global_token": first.global_token is not None,
            "online": online,
        }
    return metrics | {"weights_sha256": weights_sha256()}


def source(
    context: Context, device: torch.device
) -> tuple[Callable[[str, NDArray[np.int64]], Iterator[Tokens]], Callable[[], str | None]]:
    """Tokens of images (split, indices), batch by batch, and the SHA-256 of the weights that give them, None without weights.

    They are computed by the encoder from the images or, where the row has a ``base``, from that encoder's stored tokens.
    """
    settings, grid, base = context.tier.features, context.tier.grid, context.settings.catalogue[context.key].base
    if base is None:
        encoder = build_encoder(context, context.key, device)

        def encoded(split: str, indices: NDArray[np.int64]) -> Iterator[Tokens]:
            images = context.input("data").array(f"{split}.images.npy")
            return encode(encoder, images, indices, settings, grid, device, called(context.key, split))

        return encoded, encoder.weights_sha256
    change = fit_encoder(context, context.key, device)

    def changed(split: str, indices: NDArray[np.int64]) -> Iterator[Tokens]:
        stored = token_source(context, base, split, device)  # its rows are those that `indices` names
        for start in range(0, len(indices), settings.batch):
            rows = np.arange(start, min(start + settings.batch, len(indices)), dtype=np.int64)
            tokens = change(stored[rows].to(device)).cpu()
            made, cure = (
                Tokens(tokens, grid, tokens.mean(dim=1)),
                f"what is fitted to {base} does not hold: leave it out",
            )
            yield checked(made, called(context.key, split), indices[rows], cure)

    return changed, lambda: None


def _write(
    tokens_path: Path, global_path: Path, count: int, first: Tokens, rest: Iterator[Tokens], dtype: np.dtype
) -> None:
    """Stream the tokens to disk; the global tokens, one per image, are few enough to be collected on the way."""
    global_tokens: list[Tensor] = []

    def parts() -> Iterator[NDArray[np.generic]]:
        for tokens in itertools.chain([first], rest):
            if tokens.global_token is not None:
                global_tokens.append(tokens.global_token)
            yield tokens.patch.numpy()

    write_array_in_parts(tokens_path, (count, *first.patch.shape[1:]), dtype, parts())
    write_array(global_path, torch.cat(global_tokens).numpy() if global_tokens else np.zeros((count, 0), dtype))

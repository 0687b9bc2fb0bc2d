"""Run one frozen encoder over the metric subset of the held-out images and over the training images, once.

Training tokens that would take more disk than ``features.disk_limit_gib`` are not stored: the encoder runs online then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.sharing import Arrays, Work, compute, fill, forget, grouped, indices_of
from irepa.engine.targets import build_encoder, called, checked, encode, fit_encoder, rounded, token_source
from irepa.pipeline.files import Json, write_array, write_array_in_parts
from irepa.pipeline.runner import Context
from irepa.progress import track
from irepa.stored import Indices
from irepa.tokens import Tokens, cache_bytes, in_batches, spread

PART = 16  # batches that one of several processes computes before another one may


def run(context: Context) -> Json:
    dtype = np.dtype(context.tier.features.dtype)
    splits, weights_sha256 = splits_of(context)
    for split in splits:
        if split.work is None:
            write_array(context.output("train.tokens.npy"), np.zeros((0, *split.shape), dtype))
            write_array(context.output("train.global.npy"), np.zeros((0, 0), dtype))
        else:
            parts = track(compute(context, split.name, split.work), f"{split.name} tokens", len(split.work.parts()))
            paths = context.output(f"{split.name}.tokens.npy"), context.output(f"{split.name}.global.npy")
            _write(*paths, (split.work.count, *split.shape), parts, dtype)
            forget(context, split.name)
    train = splits[-1]
    return {
        "grid": list(train.one.grid),
        "dim": train.shape[1],
        "global_token": train.one.global_token is not None,
        "online": train.work is None,
        "weights_sha256": weights_sha256(),
    }


def share(context: Context) -> Json:
    """One of several processes: its share of the tokens."""
    splits, _ = splits_of(context)
    fill(context, {split.name: split.work for split in splits if split.work is not None})
    return {}


class Split(NamedTuple):
    """Images of which tokens are computed; ``one``: those of the first image; ``work``: None where none are stored."""

    name: str
    one: Tokens
    work: Work | None

    @property
    def shape(self) -> torch.Size:
        """(T, dim), of the tokens of an image."""
        return self.one.patch.shape[1:]


def splits_of(context: Context) -> tuple[list[Split], Callable[[], str | None]]:
    """The held-out images that the metrics ask for, then the training images; and as of :func:`source`."""
    settings, data = context.tier.features, context.input("data")
    tokens_of, weights_sha256 = source(context, setup(context.resources.threads))
    dtype = np.dtype(settings.dtype)
    several = context.resources.processes > 1

    def split(name: str, indices: Indices) -> Split:
        one = next(tokens_of(name, indices, np.arange(1)))
        count, (tokens, dim) = len(indices), one.patch.shape[1:]

        def computed(parts: list[range]) -> Iterator[Arrays]:
            asked = in_batches(indices[indices_of(parts)], settings.batch)
            return grouped(map(stored, tokens_of(name, indices, indices_of(parts)), asked), parts)

        def stored(tokens: Tokens, images: Indices) -> Arrays:
            kept = rounded(tokens, settings.dtype, called(context.key, name), images)
            pooled = kept.patch.new_zeros(len(kept.patch), 0) if kept.global_token is None else kept.global_token
            return {"tokens": kept.patch.numpy(), "global": pooled.numpy()}

        if name == "train" and cache_bytes(count, tokens, dim, dtype) > settings.disk_limit_gib * 2**30:
            return Split(name, one, None)
        return Split(name, one, Work(count, settings.batch * (PART if several else 1), computed))

    totals = {name: len(data.array(f"{name}.labels.npy")) for name in ("test", "train")}
    chosen = {"test": spread(totals["test"], context.tier.spatial.images), "train": np.arange(totals["train"])}
    return [split(name, indices) for name, indices in chosen.items()], weights_sha256


def source(
    context: Context, device: torch.device
) -> tuple[Callable[[str, Indices, Indices], Iterator[Tokens]], Callable[[], str | None]]:
    """Tokens of images (split, indices, which of the indices), batch by batch, and the SHA-256 of the weights, None without any.

    They are computed by the encoder from the images or, where the row has a ``base``, from that encoder's stored tokens.
    """
    settings, grid, base = context.tier.features, context.tier.grid, context.settings.catalogue[context.key].base
    if base is None:
        encoder = build_encoder(context, context.key, device)

        def encoded(split: str, indices: Indices, chosen: Indices) -> Iterator[Tokens]:
            images, what = stored_images(context.input("data"), split), called(context.key, split)
            return encode(encoder, images, indices[chosen], settings, grid, device, what, context.resources.workers)

        return encoded, encoder.weights_sha256
    change = fit_encoder(context, context.key, device)

    def changed(split: str, indices: Indices, chosen: Indices) -> Iterator[Tokens]:
        stored = token_source(context, base, split, device)  # its rows are those that `indices` names
        for rows in in_batches(chosen, settings.batch):
            tokens = change(stored[rows].to(device)).cpu()
            made, cure = (
                Tokens(tokens, grid, tokens.mean(dim=1)),
                f"what is fitted to {base} does not hold: leave it out",
            )
            yield checked(made, called(context.key, split), indices[rows], cure)

    return changed, lambda: None


def _write(
    tokens_path: Path, global_path: Path, shape: tuple[int, ...], parts: Iterable[Arrays], dtype: np.dtype
) -> None:
    """Stream the tokens to disk; the global tokens, one per image, are few enough to be collected on the way."""
    global_tokens: list[NDArray[np.generic]] = []

    def tokens() -> Iterator[NDArray[np.generic]]:
        for arrays in parts:
            global_tokens.append(arrays["global"])
            yield arrays["tokens"]

    write_array_in_parts(tokens_path, shape, dtype, tokens())
    write_array(global_path, np.concatenate(global_tokens))

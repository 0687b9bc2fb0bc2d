"""Run frozen encoders over images: once, into a cache, or online, batch by batch as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext

import torch
from torch import Tensor

from irepa.config import plugins
from irepa.config.cells import split_encoder
from irepa.config.tier import EncoderEntry, Features
from irepa.data import stored_images
from irepa.encoders import Declared, Encoder
from irepa.engine.loading import fetched, read_ahead
from irepa.errors import ConfigError
from irepa.pipeline.files import Record
from irepa.pipeline.runner import Context
from irepa.stored import Indices, Stored
from irepa.tokens import Grid, Tokens, TokenSource, check_images_finite, in_batches, resample, storage_grid

Transforms = tuple[tuple[str, float | None], ...]  # names and arguments, as they follow the name of an encoder
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def transformed(
    tokens: Tensor, global_token: Tensor | None, transforms: Transforms, grid: Grid, indices: Indices
) -> Tensor:
    """Tokens (batch, H*W, dim) after the transforms that follow an encoder's name.

    ``global_token``: (batch, dim) or None; ``indices``: (batch,), the numbers of the images. Raises CacheError where a transform
    needs a global token and there is none.
    """
    for name, argument in transforms:
        transform = plugins.load("transforms", name, "encoder")
        tokens = transform.apply(tokens, global_token, argument, grid, indices)
    return tokens


class TokenCache(TokenSource):
    """Tokens read from disk. Row i is the same whatever else is asked for with it.

    Args:
        tokens: (images, h*w, dim) on ``stored_grid``.
        global_tokens: (images, dim), or (images, 0) where the encoder has none.
        grid: the grid that tokens are given on.
        transforms: what is applied to them on the way.
    """

    def __init__(
        self, tokens: Stored, global_tokens: Stored, stored_grid: Grid, grid: Grid, transforms: Transforms
    ) -> None:
        self.stored = {"tokens": tokens, "global": global_tokens}
        self.dim = tokens.shape[2]
        self.stored_grid, self.grid, self.transforms = stored_grid, grid, transforms

    @classmethod
    def open(cls, record: Record, split: str, grid: Grid, transforms: Transforms) -> TokenCache:
        """Raises CacheError where a file of the cache is missing, truncated or edited."""
        height, width = record.metrics["grid"]
        tokens, global_tokens = (record.rows(f"{split}.{what}.npy") for what in ("tokens", "global"))
        return cls(tokens, global_tokens, (height, width), grid, transforms)

    def tokens(self, rows: Mapping[str, Tensor], indices: Indices) -> Tensor:
        tokens = resample(rows["tokens"].float(), self.stored_grid, self.grid)
        global_token = rows["global"].float() if rows["global"].shape[1] else None
        return transformed(tokens, global_token, self.transforms, self.grid, indices)


def called(encoder: str, split: str) -> str:
    """An encoder and the images that it is given, as a refusal names them."""
    return f"encoder {encoder}: tokens of {split} images"


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


@torch.no_grad()
def encode_batch(encoder: Encoder, images: Tensor, settings: Features, grid: Grid) -> Tokens:
    """Tokens of images (batch, height, width, 3) uint8, on the grid that is stored (:func:`irepa.tokens.storage_grid`).

    ``grid``: the tier's. Nothing here waits for the device.
    """
    mixed = settings.precision == "bf16"
    with torch.autocast(images.device.type, torch.bfloat16) if mixed else nullcontext():
        tokens = encoder(images.permute(0, 3, 1, 2))
    stored = storage_grid(tokens.grid, grid)
    patch = resample(tokens.patch.float(), tokens.grid, stored)
    return Tokens(patch, stored, None if tokens.global_token is None else tokens.global_token.float())


def encode(
    encoder: Encoder, images: Stored, indices: Indices, settings: Features, grid: Grid, device: torch.device, what: str,
    workers: int = 0,
) -> Iterator[Tokens]:  # fmt: skip
    """Tokens of ``images[indices]``, batch by batch, as :func:`encode_batch` gives them, on the CPU.

    ``images``: (n, height, width, 3); ``what``: encoder and images, as a refusal names them; ``workers``: as of
    :func:`irepa.engine.loading.read_ahead`. Raises WeightsError where one is NaN or infinite.
    """
    cure = f"give the encoder other weights, or leave the images out (they were encoded in {settings.precision})"

    def computed() -> Iterator[tuple[Indices, Tensor, Grid, Tensor | None]]:
        asked = in_batches(indices, settings.batch)
        with closing(read_ahead({"images": images}, asked, settings.batch, workers, device)) as batches:
            for batch in batches:
                tokens = encode_batch(encoder, batch.rows["images"], settings, grid)
                yield batch.indices, tokens.patch, tokens.grid, tokens.global_token

    for rows, patch, on, global_token in fetched(computed()):
        yield checked(Tokens(patch, on, global_token), what, rows, cure)


def checked(tokens: Tokens, what: str, images: Indices, cure: str) -> Tokens:
    """The tokens. Raises WeightsError, with the numbers of the ``images``, where one is NaN or infinite."""
    check_images_finite(tokens.patch, what, images, cure)
    if tokens.global_token is not None:
        check_images_finite(tokens.global_token, what, images, cure)
    return tokens


def rounded(tokens: Tokens, dtype: str, what: str, images: Indices) -> Tokens:
    """As a cache keeps them. Raises WeightsError where one is too large for ``features.dtype``."""
    kind, whole = DTYPES[dtype], tokens.global_token
    kept = Tokens(tokens.patch.to(kind), tokens.grid, None if whole is None else whole.to(kind))
    return checked(kept, f"{what} as {dtype}", images, "features.dtype: float32 holds larger numbers")


class OnlineTokens(TokenSource):
    """Tokens computed when they are asked for, rounded as a cache would round them.

    Args:
        images: n of them, (n, height, width, 3), or each twice (:class:`irepa.stored.Mirrored`).
        grid: the grid that tokens are given on.
        transforms: what is applied to them.
        dim: their width.
        device: where the encoder is.
    """

    def __init__(
        self, encoder: Encoder, images: Stored, settings: Features, grid: Grid, transforms: Transforms, dim: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.stored, self.dim = {"images": images}, dim
        self.encoder, self.settings, self.device = encoder, settings, device
        self.grid, self.transforms = grid, transforms

    @torch.no_grad()
    def tokens(self, rows: Mapping[str, Tensor], indices: Indices) -> Tensor:
        dtype = DTYPES[self.settings.dtype]
        parts: list[Tensor] = []
        for start in range(0, len(indices), self.settings.batch):
            some = slice(start, start + self.settings.batch)
            tokens = encode_batch(self.encoder, rows["images"][some].to(self.device), self.settings, self.grid)
            patch = resample(tokens.patch.to(dtype).float(), tokens.grid, self.grid)
            global_token = None if tokens.global_token is None else tokens.global_token.to(dtype).float()
            parts.append(transformed(patch, global_token, self.transforms, self.grid, indices[some]))
        return torch.cat(parts)


def token_source(context: Context, name: str, split: str, device: torch.device, flips: bool = False) -> TokenSource:
    """Tokens of an encoder, with its transforms: from its cache, or online where the cache would have been too large.

    ``flips``: the rows of training images are those of :class:`irepa.stored.Mirrored`; online then, for a cache has one view of
    each. Raises CacheError where a file of the cache is missing, truncated or edited.
    """
    base, transforms = split_encoder(name)
    tier, record = context.tier, context.input("features", base)
    if split == "train" and (flips or record.metrics["online"]):
        images = stored_images(context.input("data"), "train", flips)
        encoder = build_encoder(context, base, device)
        return OnlineTokens(encoder, images, tier.features, tier.grid, transforms, record.metrics["dim"], device)
    return TokenCache.open(record, split, tier.grid, transforms)

"""What encoders and networks are, without their weights: shapes, parameters and arithmetic, from the meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irepa import plugins
from irepa.encoders._weights import RANDOM
from irepa.settings import EncoderEntry, encoder_options
from irepa.tokens import Grid


@dataclass(frozen=True)
class EncoderFacts:
    """One encoder on one grid.

    Attributes:
        grid: its own tokens, (h, w), before they are resampled to the tier's grid.
        dim: width of a patch token; ``global_dim`` that of the global token, None where there is none.
        prefix: tokens before the patch tokens (class and register tokens).
        input_size: pixels that the network sees, (H, W); None for what reads the image as it is.
        mean, std: of its input, for images in [0, 1]; None where pixels are not standardised.
        parameters: number of weights; flops: per image, a multiply-add counted as two.
    """

    name: str
    library: str
    model: str
    grid: Grid
    dim: int
    global_dim: int | None
    prefix: int
    input_size: Grid | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    parameters: int
    flops: int


def describe_encoder(
    name: str, entry: EncoderEntry, grid: Grid, image_size: int, input_size: int | None
) -> EncoderFacts:
    """Build an encoder without weights and show it one image. Raises ConfigError and WeightsError."""
    options = encoder_options(entry, input_size, f"encoders.yaml: {name}")
    device = torch.device("cpu")
    if hasattr(options, "weights"):
        options = options.model_copy(
            update={"weights": RANDOM, "revision": None} if hasattr(options, "revision") else {"weights": RANDOM}
        )
        device = torch.device("meta")
    encoder = plugins.load("encoders", entry.library, name).build(options, grid, device)
    image = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tokens = encoder(image)
    mean, std, size = (getattr(encoder, key, None) for key in ("mean", "std", "input_size"))
    return EncoderFacts(
        name=name,
        library=entry.library,
        model=getattr(options, "model", ""),
        grid=tokens.grid,
        dim=tokens.patch.shape[2],
        global_dim=None if tokens.global_token is None else tokens.global_token.shape[1],
        prefix=getattr(encoder, "prefix", 0),
        input_size=size,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        parameters=sum(p.numel() for p in encoder.parameters()) if isinstance(encoder, nn.Module) else 0,
        flops=counter.get_total_flops(),
    )

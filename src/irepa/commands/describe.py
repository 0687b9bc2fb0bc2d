"""What encoders and networks are, without their weights: shapes, parameters and arithmetic, from the meta device."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irepa.config import plugins
from irepa.config.plugins import encoder_options
from irepa.config.tier import EncoderEntry, Method, Scale, Tier
from irepa.engine.network import build_network
from irepa.projectors import build_projector
from irepa.tokens import Grid
from irepa.weights import RANDOM


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


def _without_weights(name: str, entry: EncoderEntry, input_size: int | None) -> tuple[Any, torch.device]:
    """Options that ask for no weights, and the device without storage; handcrafted features are computed for real."""
    options = encoder_options(entry, input_size, f"encoders.yaml: {name}")
    if not hasattr(options, "weights"):
        return options, torch.device("cpu")
    changes = {"weights": RANDOM} | ({"revision": None} if hasattr(options, "revision") else {})
    return options.model_copy(update=changes), torch.device("meta")


def describe_encoder(
    name: str, catalogue: Mapping[str, EncoderEntry], grid: Grid, image_size: int, input_size: int | None
) -> EncoderFacts:
    """Build an encoder without weights and show it one image; one with a ``base`` has that one's facts.

    Raises ConfigError and WeightsError.
    """
    entry = catalogue[name]
    if entry.base is not None:
        base = describe_encoder(entry.base, catalogue, grid, image_size, input_size)
        return replace(base, name=name, library=entry.library, grid=grid, global_dim=base.dim)
    options, device = _without_weights(name, entry, input_size)
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    try:
        encoder = plugins.load("encoders", entry.library, name).build(options, grid, device)
    finally:
        logging.disable(logging.NOTSET)
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


def judge_flops(name: str, entry: EncoderEntry, image_size: int, input_size: int | None) -> float:
    """Per image that a judge sees, a multiply-add counted as two."""
    module = plugins.load("encoders", entry.library, name)
    if hasattr(module, "FLOPS"):
        return float(module.FLOPS)
    options, device = _without_weights(name, entry, input_size)
    judge = module.build_extractor(options, device)
    image = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        judge(image)
    return float(counter.get_total_flops())


def network_facts(tier: Tier, recipe: str, scale: str, shape: tuple[int, int, int], classes: int) -> tuple[int, int]:
    """Parameters that are trained, and flops of one forward pass of one image, a multiply-add counted as two."""
    with torch.device("meta"):
        network = build_network(tier, recipe, scale, shape, classes)
        image, time, label = torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    network.to("meta")  # tables made from numpy are not there yet
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, time, label)
    return sum(p.numel() for p in network.parameters() if p.requires_grad), counter.get_total_flops()


def projector_facts(method: Method, scale: Scale, dim: int, grid: Grid) -> tuple[int, int]:
    """Parameters and flops of one forward pass of one image through a method's projector; (0, 0) without one."""
    if method.projector is None:
        return 0, 0
    with torch.device("meta"):
        module = build_projector(
            method.projector, scale.width, dim, kernel=method.kernel, hidden=scale.projector_hidden, grid=grid
        )
        hidden = torch.zeros(1, grid[0] * grid[1], scale.width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(hidden)
    return sum(p.numel() for p in module.parameters()), counter.get_total_flops()

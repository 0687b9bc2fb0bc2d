"""What encoders and networks are, without their weights: shapes, parameters and arithmetic, from the meta device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from irepa.config.tier import EncoderEntry, Method, Scale, Settings, Tier
from irepa.encoders import Declared, NetworkOptions
from irepa.engine.network import build_network
from irepa.projectors import build_projector
from irepa.tokens import Grid

# Of what torch.nn.init and the libraries call, what changes numbers and no shape.
INITIALISING = {"normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "sub_", "div_", "clamp_", "copy_"}
# Of what a forward pass calls, the same; the counter counts none of it.
POINTWISE = {"layer_norm", "group_norm", "batch_norm", "gelu", "silu", "relu", "softmax", "dropout", "clamp"}


@dataclass(frozen=True)
class EncoderFacts:
    """One encoder on one grid.

    Attributes:
        library: the module of :mod:`irepa.encoders`.
        model: what the library calls it; empty for handcrafted features.
        grid: its own tokens, (h, w), before they are resampled to the tier's grid.
        dim: width of a patch token.
        global_dim: width of the global token; None where there is none.
        prefix: tokens before the patch tokens (class and register tokens).
        input_size: pixels that the network sees, (H, W); None for what reads the image as it is.
        mean, std: of its input, for images in [0, 1]; None where pixels are not standardised.
        parameters: number of weights.
        flops: per image, a multiply-add counted as two.
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


class ShapesAlone(TorchFunctionMode):
    """Passes over what changes the numbers of tensors that have none, half of the time that building and counting takes."""

    PASSED_OVER = INITIALISING | POINTWISE

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if name in self.PASSED_OVER:
                return args[0]
            if name == "linear":
                # A bias is not counted, and adding it takes most of the time.
                return func(*args[:2], **{key: value for key, value in (kwargs or {}).items() if key != "bias"})
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts the arithmetic of forward passes on a device without storage."""
    with torch.no_grad(), ShapesAlone(), FlopCounterMode(display=False) as counter:
        yield counter


def describe_encoder(
    name: str, catalogue: Mapping[str, EncoderEntry], grid: Grid, image_size: int, input_size: int | None
) -> EncoderFacts:
    """Build an encoder without weights and show it one image; one with a ``base`` has that one's facts, and its own width.

    Raises ConfigError and WeightsError.
    """
    entry = catalogue[name]
    if entry.base is not None:
        base = describe_encoder(entry.base, catalogue, grid, image_size, input_size)
        fitted = Declared.of(name, entry, input_size)
        wide = fitted.library.fitted_dim
        dim = base.dim if wide is None else wide(fitted.options, base.dim)
        return replace(base, name=name, library=entry.library, grid=grid, dim=dim, global_dim=dim)
    declared, device = Declared.of(name, entry, input_size).without_weights()
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    try:
        with ShapesAlone():
            encoder = declared.encoder(grid, torch.device(device))
    finally:
        logging.disable(logging.NOTSET)
    with counting() as counter:
        tokens = encoder(_blank(image_size, device))
    return EncoderFacts(
        name=name,
        library=entry.library,
        model=declared.options.model if isinstance(declared.options, NetworkOptions) else "",
        grid=tokens.grid,
        dim=tokens.patch.shape[2],
        global_dim=None if tokens.global_token is None else tokens.global_token.shape[1],
        prefix=encoder.prefix,
        input_size=encoder.input_size,
        mean=None if encoder.mean is None else tuple(encoder.mean),
        std=None if encoder.std is None else tuple(encoder.std),
        parameters=encoder.parameters,
        flops=counter.get_total_flops(),
    )


def judge_flops(name: str, entry: EncoderEntry, image_size: int, input_size: int | None) -> float:
    """Per image that a judge sees, a multiply-add counted as two. Raises ConfigError where the row's library is no judge."""
    declared, device = Declared.of(name, entry, input_size).without_weights()
    if declared.library.judge_flops is not None:
        return declared.library.judge_flops
    judge = declared.judge(torch.device(device))
    with counting() as counter:
        judge(_blank(image_size, device))
    return float(counter.get_total_flops())


def _blank(image_size: int, device: str) -> Tensor:
    """One black image (1, 3, image_size, image_size) uint8."""
    return torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device)


def show_encoders(settings: Settings) -> None:
    """Print every declared alignment target as the tier would see it, built without weights."""
    from rich.table import Table

    from irepa.commands.screen import screen

    tier = settings.tier
    table = Table(
        "encoder", "library", "model", "own grid", "width", "global", "prefix", "input", "mean", "std", "params"
    )
    for name, entry in settings.catalogue.items():
        if entry.evaluation_only:
            continue
        facts = describe_encoder(name, settings.catalogue, tier.grid, tier.dataset.image_size, tier.features.input_size)
        table.add_row(
            name,
            facts.library,
            facts.model,
            _sides(facts.grid),
            str(facts.dim),
            str(facts.global_dim or "-"),
            str(facts.prefix),
            "as it is" if facts.input_size is None else _sides(facts.input_size),
            _channels(facts.mean),
            _channels(facts.std),
            f"{facts.parameters / 1e6:.1f} M",
        )
    screen(170).print(table)


def _sides(size: Grid) -> str:
    return "x".join(map(str, size))


def _channels(values: tuple[float, ...] | None) -> str:
    return "-" if values is None else " ".join(f"{value:.3f}" for value in values)


def network_facts(tier: Tier, recipe: str, scale: str, shape: tuple[int, int, int], classes: int) -> tuple[int, int]:
    """Parameters that are trained, and flops of one forward pass of one image, a multiply-add counted as two."""
    with ShapesAlone(), torch.device("meta"):
        network = build_network(tier, recipe, scale, shape, classes)
        image, time, label = torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    network.to("meta")  # tables made from numpy are not there yet
    with counting() as counter:
        network(image, time, label)
    return sum(p.numel() for p in network.parameters() if p.requires_grad), counter.get_total_flops()


def projector_facts(method: Method, scale: Scale, dim: int, grid: Grid) -> tuple[int, int]:
    """Parameters and flops of one forward pass of one image through a method's projector; (0, 0) without one."""
    if method.projector is None:
        return 0, 0
    with ShapesAlone(), torch.device("meta"):
        module = build_projector(
            method.projector, scale.width, dim, kernel=method.kernel, hidden=scale.projector_hidden, grid=grid
        )
        hidden = torch.zeros(1, grid[0] * grid[1], scale.width)
    with counting() as counter:
        module(hidden)
    return sum(p.numel() for p in module.parameters()), counter.get_total_flops()

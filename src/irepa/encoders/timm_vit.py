"""Vision transformers from timm: patch tokens of the last block, and the class or pooled token.

The input is chosen so that tokens lie on the tier's grid: patch-14 models see 224 px for a 16x16 grid, patch-16 models 256 px
(paper section 6). Learned position embeddings are resampled to that grid when the network is loaded.
"""

from __future__ import annotations

import importlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from irepa.config.options import Grid, Positive, Strict
from irepa.encoders import Judge, Judged, Library, NetworkEncoder, NetworkOptions
from irepa.errors import WeightsError, translated
from irepa.weights import (
    HUB,
    PRETRAINED,
    RANDOM,
    URL,
    Download,
    check_weights,
    download_command,
    file_download,
    hub_download,
    initial,
    obtaining,
    read_state,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Tokens


class Positions(Strict):
    """How position embeddings are resampled, with half-pixel centres."""

    interpolation: Literal["bicubic", "bilinear"] = Field(
        "bicubic", description="Between the positions of the weights."
    )
    antialias: bool = Field(True, description="Whether the filter is widened where the grid shrinks.")


class Options(NetworkOptions):
    model: str = Field(description="timm's name, with its weight tag.")
    revision: str | None = Field(None, description="Commit of the hub's copy of the weights; null: its newest.")
    checkpoint: Literal["timm", "moco-v3"] = Field("timm", description="Whose names the tensors of the weights have.")
    url: str | None = Field(
        None,
        description="Address of a checkpoint that the hub does not have: `weights: hub` means this; null: the hub's.",
    )
    layer: Positive | None = Field(
        None, description="The block whose tokens are taken, counted from 1; null: the last."
    )
    final_norm: bool = Field(True, description="Whether the tokens go through the network's last norm.")
    positions: Positions | None = Field(
        None,
        description="How learned position embeddings are resampled to the token grid when weights are loaded; null: as timm does "
        "it for this model, for most of them bicubic and antialiased.",
    )
    judge_grid: Grid = Field(
        (16, 16), description="As a judge of samples: the token grid for which images are resized."
    )
    rotary: Literal["rescaled", "counted"] = Field(
        "rescaled",
        description="Rotary positions of networks that have them relative to a grid. rescaled: to the grid of their training, as "
        "timm does; counted: one after the other on any grid.",
    )
    architecture: dict[str, float] = Field(
        {}, description="What timm's constructor is given besides, such as depth and embed_dim of a smaller network."
    )


@runtime_checkable
class TokenNetwork(Protocol):
    """What timm's networks of this kind have in common, and by which they are known."""

    num_prefix_tokens: int
    patch_embed: Any


def patch_size(network: Any) -> Grid:
    """(h, w) of the patches of a plain vision transformer, pixels. Raises WeightsError where the network is none."""
    if isinstance(network, TokenNetwork):
        declared = vars(network.patch_embed)
        size, image = declared.get("patch_size"), declared.get("img_size")
        hybrid = "backbone" in dict(
            network.patch_embed.named_children()
        )  # its patches are those of a map, not of pixels
        if isinstance(size, tuple) and isinstance(image, tuple) and not hybrid:
            return size[0], size[1]
    raise WeightsError(
        f"timm's {type(network).__name__} is no plain vision transformer: `library: timm`, with a stride, takes its map"
    )


def fetch_command(options: Options) -> str:
    """What downloads the weights."""
    if options.url is not None:
        return f"curl -LO {options.url}"
    return download_command(f"timm/{options.model}", options.revision)


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    check_weights(name, options.weights, fetch_command(options))


def download(options: Options) -> Download | None:
    """What timm fetches where the weights are neither random nor on this machine."""
    if options.weights == HUB and options.url is not None:
        return file_download(options.url)
    if options.weights.startswith(URL):
        return file_download(options.weights)
    return hub_download(f"timm/{options.model}", options.revision) if options.weights == HUB else None


def moco_v3_state(state: dict[str, Any]) -> dict[str, Tensor]:
    """The backbone of an official MoCo v3 checkpoint under timm's names.

    The ViT-L file was written after a search-and-replace: block 13 has ``norm13`` and ``mlp.fc13`` for ``norm1`` and
    ``mlp.fc1``, block 14 has ``norm14`` and ``mlp.fc14`` for ``norm2`` and ``mlp.fc2``.
    """
    kept: dict[str, Tensor] = {}
    for key, tensor in state.get("state_dict", state).items():
        name = key.removeprefix("module.").removeprefix("base_encoder.")
        if name == key or "momentum_encoder" in key or "predictor" in key or name.startswith(("head.", "fc.")):
            continue
        name = re.sub(r"^blocks\.13\.(norm|mlp\.fc)13\.", r"blocks.13.\g<1>1.", name)
        name = re.sub(r"^blocks\.14\.(norm|mlp\.fc)14\.", r"blocks.14.\g<1>2.", name)
        kept[name] = tensor
    return kept


def create(options: Options, grid: Grid, device: torch.device | str) -> Any:
    """The frozen network, for inputs that give this grid. Raises WeightsError where its weights cannot be had."""
    import timm
    import torch
    from timm.models import load_pretrained

    if options.weights.startswith(PRETRAINED):
        raise WeightsError(f"{options.model}, {options.weights}: the pipeline trains it, in a tier that says how")
    changed: dict[str, Any] = {key: int(v) if v.is_integer() else v for key, v in options.architecture.items()}
    if options.rotary == "counted":
        changed["ref_feat_shape"] = grid
    if not timm.is_model(options.model):
        raise WeightsError(f"timm knows no model {options.model}; `timm.list_models()` lists them")
    plain = translated(
        WeightsError,
        f"timm model {options.model} is no plain vision transformer",
        "declare it with `library: timm` and a stride",
    )
    with plain, torch.device("meta"):
        bare: Any = timm.create_model(options.model, **changed | {"depth": 1})
        patch = patch_size(bare)
    sized: dict[str, Any] = {"img_size": (grid[0] * patch[0], grid[1] * patch[1]), "num_classes": 0, **changed}
    overlay: dict[str, Any] = {}
    if options.weights not in (HUB, RANDOM) and options.checkpoint == "timm":
        overlay["file"] = options.weights
    elif options.weights == HUB and options.revision is not None:
        overlay["hf_hub_id"] = f"timm/{options.model}@{options.revision}"
    pretrained = options.weights != RANDOM and options.checkpoint == "timm"
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(options.seed)
        with obtaining(options.model, fetch_command(options)):
            model: Any = timm.create_model(
                options.model,
                pretrained=pretrained and options.positions is None,
                pretrained_cfg_overlay=overlay,
                **sized,
            )
            if pretrained and options.positions is not None:
                # Each of timm's families of networks has a function that fits weights to a network.
                fit = importlib.import_module(type(model).__module__).checkpoint_filter_fn
                fitted = partial(fit, **options.positions.model_dump())
                load_pretrained(model, model.pretrained_cfg, num_classes=0, filter_fn=fitted)
    if options.checkpoint == "moco-v3" and options.weights != RANDOM:
        source = options.url if options.weights == HUB else options.weights
        if source is None:
            raise WeightsError(f"{options.model}: a moco-v3 checkpoint needs a url, or a file as weights")
        state = moco_v3_state(read_state(source, options.model, fetch_command(options)))
        with translated(WeightsError, f"{source} does not fit {options.model}"):
            model.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(state, model))
    return model.eval().requires_grad_(False)


class TimmViT(NetworkEncoder):
    """Tokens on the grid for which it was built, because position embeddings are resampled to it.

    The global token is the class token; without one, the network's pooled feature, or the mean of the tokens where a ``layer``
    is named or the last norm is left out.
    """

    options: Options
    has_global_token = True

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        super().__init__(options, grid, device)
        self.network = create(options, grid, initial(device)).to(device)
        self.prefix = int(self.network.num_prefix_tokens)
        self.input_size = tuple(self.network.patch_embed.img_size)
        config: dict[str, Any] = self.network.pretrained_cfg
        self.mean, self.std = options.mean or config["mean"], options.std or config["std"]
        self.has_class_token = self.prefix > 0 and "cls_token" in dict(self.network.named_parameters(recurse=False))

    def forward(self, images: Tensor) -> Tokens:
        from irepa.tokens import Tokens

        whole = self.options.layer is None and self.options.final_norm
        patch, pooled = self._output(images) if whole else self._block(images)
        return Tokens(patch.float(), self.grid, pooled.float())

    def _output(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens (batch, h*w, dim) and the global token (batch, dim) as the network gives them."""
        features = self.network.forward_features(self.pixels(images))
        prefix, patch = features[:, : self.prefix], features[:, self.prefix :]
        return patch, prefix[:, 0] if self.has_class_token else self.network.forward_head(features, pre_logits=True)

    def _block(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same after one block, with the network's last norm or without it."""
        (output,) = self.network.forward_intermediates(
            self.pixels(images), indices=[(self.options.layer or len(self.network.blocks)) - 1],
            return_prefix_tokens=self.has_class_token, norm=self.options.final_norm,
            stop_early=True, output_fmt="NLC", intermediates_only=True,
        )  # fmt: skip
        return (output[0], output[1][:, 0]) if self.has_class_token else (output, output.mean(dim=1))


class GlobalToken(Judge):
    """The class or pooled token as a judge's feature."""

    def __init__(self, options: Options, device: torch.device) -> None:
        super().__init__(options, device)
        self.encoder = TimmViT(options, options.judge_grid, device)

    def forward(self, images: Tensor) -> Judged:
        pooled = self.encoder(images).global_token
        assert pooled is not None
        return Judged(pooled)


LIBRARY = Library(encoder=TimmViT, judge=GlobalToken, check=check, download=download, trains="patches")

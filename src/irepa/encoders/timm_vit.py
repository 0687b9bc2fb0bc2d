"""Vision transformers from timm: patch tokens after the last norm, and the class or pooled token.

timm itself resamples position embeddings to the input, which is chosen so that tokens lie on the tier's grid: patch-14
models see 224 px for a 16x16 grid, patch-16 models 256 px (paper section 6). Normalisation is the model's own (D7).
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from irepa.config.options import Positive, Strict
from irepa.errors import WeightsError
from irepa.images import standardise
from irepa.tokens import Tokens
from irepa.weights import (
    HUB,
    RANDOM,
    TRAINED,
    check_weights,
    download_command,
    fingerprint,
    initial,
    read_state,
    unavailable,
)


class Options(Strict):
    """``model``: timm's name with its weight tag. ``layer``: the block whose tokens are taken (null: the last).

    ``url``: where a checkpoint lies that the hub does not have; ``weights: hub`` then means this address.

    ``mean``, ``std``: for checkpoints whose architecture carries another model's normalisation in timm.
    ``architecture``: what timm's constructor is given besides, such as depth and embed_dim of a smaller network.
    """

    model: str
    weights: str = HUB
    revision: str | None = None
    checkpoint: Literal["timm", "moco-v3"] = "timm"
    url: str | None = None
    layer: Positive | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    architecture: dict[str, float] = Field({})
    seed: int = 0


def fetch_command(options: Options) -> str:
    if options.url is not None:
        return f"curl -LO {options.url}"
    return download_command(f"timm/{options.model}", options.revision)


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    check_weights(name, options.weights, fetch_command(options))


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


def create(options: Options, grid: tuple[int, int], device: torch.device | str = "cpu") -> Any:
    """The frozen network, for inputs that give this grid. Raises WeightsError where its weights cannot be had."""
    import timm

    if options.weights.startswith(TRAINED):
        raise WeightsError(f"{options.model}, {options.weights}: the pipeline trains it, in a tier that says how")
    changed: dict[str, Any] = {key: int(v) if v.is_integer() else v for key, v in options.architecture.items()}
    with torch.device("meta"):
        bare: Any = timm.create_model(options.model, **changed | {"depth": 1})
    patch = bare.patch_embed.patch_size
    sized: dict[str, Any] = {"img_size": (grid[0] * patch[0], grid[1] * patch[1]), "num_classes": 0, **changed}
    overlay: dict[str, Any] = {}
    if options.weights not in (HUB, RANDOM) and options.checkpoint == "timm":
        overlay["file"] = options.weights
    elif options.revision is not None:
        overlay["hf_hub_id"] = f"timm/{options.model}@{options.revision}"
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(options.seed)
        try:
            model: Any = timm.create_model(
                options.model,
                pretrained=options.weights != RANDOM and options.checkpoint == "timm",
                pretrained_cfg_overlay=overlay,
                **sized,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise unavailable(options.model, error, fetch_command(options)) from error
    if options.checkpoint == "moco-v3" and options.weights != RANDOM:
        source = options.url if options.weights == HUB else options.weights
        if source is None:
            raise WeightsError(f"{options.model}: a moco-v3 checkpoint needs a url, or a file as weights")
        state = moco_v3_state(read_state(source, options.model, fetch_command(options)))
        try:
            model.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(state, model))
        except RuntimeError as error:
            raise WeightsError(f"{source} does not fit {options.model}: {error}") from None
    return model.eval().requires_grad_(False)


class TimmViT(nn.Module):
    """Tokens on ``grid``, which is fixed here, because position embeddings are resampled to it."""

    def __init__(self, options: Options, grid: tuple[int, int], device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.options, self.grid = options, grid
        self.model = create(options, grid, device)
        self.prefix = int(self.model.num_prefix_tokens)
        self.input_size: tuple[int, int] = tuple(self.model.patch_embed.img_size)
        config: dict[str, Any] = self.model.pretrained_cfg
        self.mean, self.std = options.mean or config["mean"], options.std or config["std"]
        self.has_class_token = self.prefix > 0 and getattr(self.model, "cls_token", None) is not None

    def forward(self, images: Tensor) -> Tokens:
        x = standardise(images, self.input_size, self.mean, self.std)
        if self.options.layer is None:
            features = self.model.forward_features(x)
            prefix, patch = features[:, : self.prefix], features[:, self.prefix :]
            pooled = prefix[:, 0] if self.has_class_token else self.model.forward_head(features, pre_logits=True)
        else:
            (found,) = self.model.forward_intermediates(
                x, indices=[self.options.layer - 1], return_prefix_tokens=self.has_class_token, norm=True, stop_early=True,
                output_fmt="NLC", intermediates_only=True,
            )  # fmt: skip
            patch, pooled = (found[0], found[1][:, 0]) if self.has_class_token else (found, found.mean(dim=1))
        if patch.shape[1] != math.prod(self.grid):
            raise ValueError(f"{self.options.model} gave {patch.shape[1]} tokens for a grid of {self.grid}")
        return Tokens(patch.float(), self.grid, pooled.float())

    def weights_sha256(self) -> str:
        return fingerprint(self.model)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> TimmViT:
    return TimmViT(options, grid, initial(device)).to(device)


class GlobalToken(nn.Module):
    """The class or pooled token as a judge's feature, at 16x16 tokens: uint8 (batch, 3, H, W) -> ((batch, dim),)."""

    def __init__(self, options: Options, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.encoder = TimmViT(options, (16, 16), device)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pooled = self.encoder(images).global_token
        assert pooled is not None
        return (pooled,)


def build_extractor(options: Options, device: torch.device | str = "cpu") -> GlobalToken:
    return GlobalToken(options, device)

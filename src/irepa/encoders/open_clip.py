"""Image towers of open_clip: patch tokens of the last block, before the projection, and the class token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from irepa.encoders import Library, NetworkEncoder, NetworkOptions
from irepa.errors import WeightsError
from irepa.weights import HUB, HUB_HOST, RANDOM, Download, check_weights, initial, obtaining

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irepa.tokens import Grid, Tokens


TIMM_TOWERS = "`timm:vit_base_patch16_siglip_256.webli` is the one of ViT-B-16-SigLIP-256, for example"


class Options(NetworkOptions):
    pretrained: str = Field(description="The weights of `weights: hub`, as open_clip names them.")
    final_norm: bool = Field(True, description="Whether the tokens go through the tower's last norm (`ln_post`).")


def fetch_command(options: Options) -> str:
    """What downloads the weights."""
    names = f"'{options.model}', '{options.pretrained}'"
    return f'python -c "import open_clip; open_clip.create_model({names})"'


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    check_weights(name, options.weights, fetch_command(options))


def download(options: Options) -> Download | None:
    """What open_clip fetches; which repository or file it is, and whether it is here, open_clip alone knows."""
    return Download(f"https://{HUB_HOST}", fetch_command(options), None) if options.weights == HUB else None


def create(options: Options, grid: Grid, device: torch.device | str) -> Any:
    """The frozen image tower for inputs that give this grid: open_clip resamples its position embedding. Raises WeightsError."""
    import open_clip
    import torch

    settings = open_clip.get_model_config(options.model)
    if settings is None:
        raise WeightsError(f"open_clip knows no model {options.model}; `open_clip.list_models()` lists them")
    tower = settings["vision_cfg"]
    if "timm_model_name" in tower:
        raise WeightsError(
            f"open_clip {options.model}: its image tower is timm's {tower['timm_model_name']}, whose patch tokens open_clip does "
            f"not give; take that from timm: {TIMM_TOWERS}"
        )
    if tower.get("patch_size") is None:
        raise WeightsError(
            f"open_clip {options.model}: its image tower is a ResNet without patch tokens; take a ViT, such as ViT-B-16, or a "
            "ResNet of timm"
        )
    if options.weights == HUB and not options.pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(options.model))
        raise WeightsError(
            f"open_clip {options.model}: which weights is not said; it has {tags or 'none: weights: random'}"
        )
    patch = tower["patch_size"]
    source = {HUB: options.pretrained, RANDOM: None}.get(options.weights, options.weights)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        with (
            torch.device(device),
            obtaining(f"open_clip {options.model} {options.pretrained}".rstrip(), fetch_command(options)),
        ):
            model = open_clip.create_model(
                options.model,
                pretrained=source,
                load_weights=source is not None,
                force_image_size=(grid[0] * patch, grid[1] * patch),
                device=device,
            )
    return model.visual.eval().requires_grad_(False)


class OpenClip(NetworkEncoder):
    """The class token is the one before the projection, so that it has the width of the patch tokens."""

    options: Options
    prefix = 1
    has_global_token = True

    def __init__(self, options: Options, grid: Grid, device: torch.device) -> None:
        import open_clip

        super().__init__(options, grid, device)
        self.network = tower = create(options, grid, initial(device)).to(device)
        self.input_size = tuple(tower.image_size)
        config = open_clip.get_pretrained_cfg(options.model, options.pretrained)
        self.mean = options.mean or config.get("mean") or open_clip.OPENAI_DATASET_MEAN
        self.std = options.std or config.get("std") or open_clip.OPENAI_DATASET_STD

    def forward(self, images: Tensor) -> Tokens:
        from irepa.tokens import Tokens

        output = self.network.forward_intermediates(
            self.pixels(images),
            indices=1,
            normalize_intermediates=self.options.final_norm,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        (patch,), (prefix,) = output["image_intermediates"], output["image_intermediates_prefix"]
        return Tokens(patch.float(), self.grid, prefix[:, 0].float())


LIBRARY = Library(encoder=OpenClip, check=check, download=download)

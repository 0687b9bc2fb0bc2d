"""Image towers of open_clip: patch tokens after the last norm, before the projection, and the class token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from irepa.config.options import Strict
from irepa.images import standardise
from irepa.tokens import Tokens
from irepa.weights import HUB, RANDOM, check_weights, fingerprint, initial, unavailable


class Options(Strict):
    """``model`` and ``pretrained`` as open_clip names them."""

    model: str
    pretrained: str
    weights: str = HUB
    seed: int = 0


def fetch_command(options: Options) -> str:
    names = f"'{options.model}', '{options.pretrained}'"
    return f'python -c "import open_clip; open_clip.create_model({names})"'


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    check_weights(name, options.weights, fetch_command(options))


def create(options: Options, grid: tuple[int, int], device: torch.device | str = "cpu") -> Any:
    """The frozen image tower, its position embedding resampled by open_clip. Raises WeightsError."""
    import open_clip

    settings = open_clip.get_model_config(options.model)
    patch = settings["vision_cfg"]["patch_size"]
    source = {HUB: options.pretrained, RANDOM: None}.get(options.weights, options.weights)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        try:
            model = open_clip.create_model(
                options.model,
                pretrained=source,
                load_weights=source is not None,
                force_image_size=(grid[0] * patch, grid[1] * patch),
                device=device,
            )
        except (OSError, RuntimeError, ValueError) as error:
            what = f"open_clip {options.model} {options.pretrained}"
            raise unavailable(what, error, fetch_command(options)) from error
    return model.visual.eval().requires_grad_(False)


class OpenClip(nn.Module):
    def __init__(self, options: Options, grid: tuple[int, int], device: torch.device | str = "cpu") -> None:
        super().__init__()
        import open_clip

        self.grid, self.prefix = grid, 1
        self.visual = create(options, grid, device)
        self.input_size: tuple[int, int] = tuple(self.visual.image_size)
        known = open_clip.get_pretrained_cfg(options.model, options.pretrained)
        self.mean = known.get("mean") or open_clip.OPENAI_DATASET_MEAN
        self.std = known.get("std") or open_clip.OPENAI_DATASET_STD

    def forward(self, images: Tensor) -> Tokens:
        found = self.visual.forward_intermediates(
            standardise(images, self.input_size, self.mean, self.std),
            indices=1,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        (patch,), (prefix,) = found["image_intermediates"], found["image_intermediates_prefix"]
        return Tokens(patch.float(), self.grid, prefix[:, 0].float())

    def weights_sha256(self) -> str:
        return fingerprint(self.visual)


def build(options: Options, grid: tuple[int, int], device: torch.device) -> OpenClip:
    return OpenClip(options, grid, initial(device)).to(device)

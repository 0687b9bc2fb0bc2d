"""Feature extractors that torch-fidelity brings along: judges only, never alignment targets.

Only its Inception-v3 gives numbers that are called FID.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from irepa.config.options import Strict
from irepa.encoders import Judge, Judged, Library
from irepa.errors import WeightsError
from irepa.weights import Download, file_download, obtaining

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The pooled feature of FID, and the class logits of the Inception Score.
LAYERS = ("2048", "logits_unbiased")
# sFID is of the first 7 channels of a layer of 17x17 places (Nash et al., 2021; the ADM suite): TensorFlow's `mixed_6/conv`, the
# first branch of the block that is Mixed_6d here. torch-fidelity has the layer, and no name for it.
SPATIAL_LAYER, SPATIAL_CHANNELS, SPATIAL_PLACES = "Mixed_6d", 7, 17 * 17
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
# Per image of 299x299, a multiply-add counted as two (Szegedy et al., 2016): the network cannot be built without its weights.
FLOPS = 11.4e9


class Options(Strict):
    extractor: Literal["inception-v3-compat"] = Field(
        "inception-v3-compat", description="The network, as torch-fidelity names it."
    )
    weights: Path | None = Field(
        None, description="File of the converted weights; null: torch-fidelity downloads them."
    )


def fetch_command(options: Options) -> str:
    """What downloads the weights."""
    create = "from torch_fidelity.utils import create_feature_extractor as create"
    return f"python -c \"{create}; create('{options.extractor}', {list(LAYERS)}, cuda=False)\""


def paths(options: Options) -> list[Path]:
    """The file of weights, if one is named."""
    return [] if options.weights is None else [options.weights]


def check(name: str, options: Options) -> None:
    """Raises WeightsError where a file of weights is named and not there."""
    if options.weights is not None and not options.weights.is_file():
        raise WeightsError(
            f"encoder {name}: weights = {options.weights}: there is no such file; without `weights` torch-fidelity downloads "
            f"it, as `{fetch_command(options)}` does"
        )


def download(options: Options) -> Download | None:
    """What torch-fidelity fetches where no file is named."""
    return file_download(INCEPTION, fetch_command(options)) if options.weights is None else None


class Inception(Judge):
    """The pooled feature of 2048 numbers, the logits of ImageNet's 1008 classes, and the spatial feature of 2023."""

    def __init__(self, options: Options, device: torch.device) -> None:
        from torch_fidelity.utils import create_feature_extractor

        super().__init__(options, device)
        path = None if options.weights is None else str(options.weights)
        with obtaining(options.extractor, fetch_command(options)):
            self.extractor = create_feature_extractor(
                options.extractor, list(LAYERS), cuda=False, feature_extractor_weights_path=path, verbose=False
            ).to(device)
        self.spatial: Tensor | None = None
        self.extractor.get_submodule(SPATIAL_LAYER).register_forward_hook(self._keep)

    def _keep(self, module: Any, given: Any, planes: Tensor) -> None:
        """``planes`` (batch, 768, 17, 17): their first channels are those of the block's first branch."""
        self.spatial = planes[:, :SPATIAL_CHANNELS].flatten(1)

    def forward(self, images: Tensor) -> Judged:
        pooled, logits = self.extractor(images)
        return Judged(pooled, logits, self.spatial)


LIBRARY = Library(
    judge=Inception,
    paths=paths,
    check=check,
    download=download,
    judge_flops=FLOPS,
    judge_dim=int(LAYERS[0]),
    judge_spatial_dim=SPATIAL_CHANNELS * SPATIAL_PLACES,
)

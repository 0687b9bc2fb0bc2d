"""A network while it is trained as an encoder: what :mod:`irepa.objectives` equip and call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def read(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a network of timm's makes of standardised images (batch, 3, H, W), whatever its kind.

    Returns patch tokens (batch, h*w, width), row by row, of its output, and a vector of each image (batch, width): the class
    token where there is one, else the mean of the patch tokens.
    """
    features: Tensor = network.forward_features(x)
    if features.ndim == 4:  # the map of a convolutional network
        features = features.flatten(2).transpose(1, 2)
    patch = features[:, int(vars(network).get("num_prefix_tokens", 0)) :]
    has_class_token = "cls_token" in dict(network.named_parameters(recurse=False))
    return patch, features[:, 0] if has_class_token else patch.mean(dim=1)


class Learner(nn.Module):
    """A network of timm's with the heads of one objective.

    Args:
        network: a vision transformer, or one that keeps or makes a map of tokens, such as a mixer or a ResNet.
        mean, std: of its input, per channel, for images in [0, 1].
        size: (H, W), pixels of its input.

    Attributes:
        grid: (h, w) of its patch tokens.
        width: of a token.
        head: what the objective adds, which is not kept.
    """

    def __init__(self, network: Any, mean: Sequence[float], std: Sequence[float], size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.head: Any = nn.Identity()
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.size = size
        with torch.no_grad():
            tokens, pooled = read(network.eval(), torch.zeros(1, 3, *size))
        rows = math.isqrt(tokens.shape[1] * size[0] // size[1])
        self.grid, self.width = (rows, tokens.shape[1] // rows), pooled.shape[1]

    def standardised(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in [0, 1] -> what the network takes, same shape."""
        return (images - self.mean) / self.std

    def tokens(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in [0, 1] -> patch tokens (batch, h*w, width)."""
        return read(self.network, self.standardised(images))[0]

    def pooled(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in [0, 1] -> (batch, width): class tokens, or the mean of the patch tokens."""
        return read(self.network, self.standardised(images))[1]

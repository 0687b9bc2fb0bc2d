"""Representation alignment: REPA's loss and iREPA's two changes (paper sections 3 and 4). Usable on its own.

REPA adds to the diffusion loss: minus the mean cosine between projected hidden tokens and a frozen encoder's patch
tokens. iREPA projects with a 3x3 convolution and spatially normalises the encoder's tokens first.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from irepa.projectors import build_projector


def spatial_normalize(
    tokens: Tensor, gamma: float = 1.0, eps: float = 1e-6, normaliser: Literal["std", "var"] = "std"
) -> Tensor:
    """y = (x - gamma * mean_t x) / (std_t x + eps), over the T positions of each image, per channel (section 4).

    Args:
        tokens: (batch, T, dim), T >= 2.
        gamma: 1 in the text, 0.6 or 0.8 in the released code (D3).
        normaliser: ``std`` is the released code's (unbiased) std + eps, ``var`` the text's sqrt(var + eps) (D4).

    Raises ValueError for fewer than two positions, where no spread is defined.
    """
    if tokens.shape[1] < 2:
        raise ValueError("spatial normalisation needs at least two positions")
    centred = tokens - gamma * tokens.mean(dim=1, keepdim=True)
    if normaliser == "std":
        return centred / (tokens.std(dim=1, keepdim=True) + eps)
    return centred / (tokens.var(dim=1, keepdim=True) + eps).sqrt()


def alignment_loss(projected: Tensor, target: Tensor) -> Tensor:
    """Minus the mean cosine similarity of (batch, T, dim) and (batch, T, dim): a scalar in [-1, 1] (section 3)."""
    return -F.cosine_similarity(projected.float(), target.float(), dim=-1).mean()


class Alignment(nn.Module):
    """A projector and what the method does to the target: attach to any model that yields hidden tokens.

    ``alignment(hidden, target)`` is the weighted loss, a scalar; ``weight`` is 0.5 in the paper.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        projector: str = "mlp",
        *,
        kernel: int = 3,
        hidden: int = 2048,
        grid: tuple[int, int] | None = None,
        gamma: float | None = None,
        normaliser: Literal["std", "var"] = "std",
        weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.projector = build_projector(projector, width, dim, kernel=kernel, hidden=hidden, grid=grid)
        self.gamma, self.normaliser, self.weight = gamma, normaliser, weight

    def target(self, tokens: Tensor) -> Tensor:
        """What the projected tokens are aligned to: the encoder's tokens, normalised if the method says so."""
        return tokens if self.gamma is None else spatial_normalize(tokens, self.gamma, normaliser=self.normaliser)

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return self.weight * alignment_loss(self.projector(hidden), self.target(tokens))


def irepa(width: int, dim: int, *, kernel: int = 3, gamma: float = 1.0, weight: float = 0.5) -> Alignment:
    """iREPA with the paper's settings: convolutional projector and spatially normalised targets."""
    return Alignment(width, dim, "conv", kernel=kernel, gamma=gamma, weight=weight)

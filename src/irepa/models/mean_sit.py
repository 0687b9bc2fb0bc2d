"""A SiT that is told two times, for MeanFlow: u(x, r, t), the mean velocity between r and t (paper section 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from irepa.models.sit import SiT, TimestepEmbedder


class MeanSiT(SiT):
    """As :class:`SiT`, with the span t - r embedded beside t. Span 0 is the velocity at t itself."""

    def __init__(self, *args: Any, **sizes: Any) -> None:
        super().__init__(*args, **sizes)
        self.span_embedder = TimestepEmbedder(self.width)
        for layer in (self.span_embedder.mlp[0], self.span_embedder.mlp[2]):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor, span: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``span``: t - r, (batch,) in [0, t]; None is 0. The rest as in :class:`SiT`."""
        span = torch.zeros_like(t) if span is None else span
        return self.transform(x, self.t_embedder(t) + self.span_embedder(span) + self.y_embedder(labels))

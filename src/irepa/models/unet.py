"""A convolutional U-Net from diffusers, aligned at its bottleneck: does alignment help outside transformers?

Levels halve the resolution until the bottleneck lies on the tier's token grid; its features are the hidden tokens.
"""

from __future__ import annotations

import math
from typing import Any

from diffusers import UNet2DModel
from torch import Tensor, nn

TIMES = 1000.0  # diffusers embeds times of 0..1000


class UNet(nn.Module):
    """Velocity network u(x, t, y).

    Args:
        shape: (channels, H, W) of the latent or image.
        classes: number of classes; label ``classes`` is the null class.
        levels: how often the resolution is halved.
        depth: layers per level.
        width: channels at the bottleneck; they double from level to level until there.
        heads: of the attention at the bottleneck.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, levels: int, *, depth: int, width: int, heads: int
    ) -> None:
        super().__init__()
        channels = [max(8, width // 2 ** (levels - level)) for level in range(levels + 1)]
        self.classes = classes
        self.model: Any = UNet2DModel(
            sample_size=shape[1:],
            in_channels=shape[0],
            out_channels=shape[0],
            down_block_types=("DownBlock2D",) * (levels + 1),
            up_block_types=("UpBlock2D",) * (levels + 1),
            block_out_channels=tuple(channels),
            layers_per_block=depth,
            attention_head_dim=width // heads,
            norm_num_groups=math.gcd(8, *channels),
            num_class_embeds=classes + 1,
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity, shaped as x (batch, channels, H, W), and the bottleneck's tokens (batch, T, width).

        ``t``: (batch,) in [0, 1]; ``labels``: (batch,) in 0..classes.
        """
        bottom: list[Tensor] = []
        handle = self.model.mid_block.register_forward_hook(lambda module, inputs, output: bottom.append(output))
        try:
            velocity: Tensor = self.model(x, t * TIMES, class_labels=labels).sample
        finally:
            handle.remove()
        return velocity, bottom[0].flatten(2).transpose(1, 2)

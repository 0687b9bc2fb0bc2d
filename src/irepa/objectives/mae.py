"""Masked autoencoding (He et al., 2022): pixels of hidden patches from the patches that are seen; by lightly.

The loss is the mean squared error of hidden patches, whose pixels are normalised by mean and spread of each patch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.objectives import Objective
from irepa.objectives._decoder import DecoderOptions
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


HIDES_PATCHES = True


class Options(DecoderOptions):
    masked: float = Field(0.75, gt=0, lt=1, description="Share of the patches that are hidden.")
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")


class Mae(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
        from torch import nn

        patches, size = learner.network.patch_embed.num_patches, learner.network.patch_embed.patch_size[0]
        decoder = MAEDecoderTIMM(
            num_patches=patches, patch_size=size, embed_dim=learner.network.embed_dim, decoder_embed_dim=self.options.width,
            decoder_depth=self.options.depth, decoder_num_heads=self.options.heads,
        )  # fmt: skip
        learner.head = nn.ModuleDict({"encoder": MaskedVisionTransformerTIMM(learner.network), "decoder": decoder})

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        import torch
        from lightly.models import utils

        encoder, decoder = learner.head["encoder"], learner.head["decoder"]
        images = learner.standardised(crop_and_flip(images, rng, self.options.smallest))
        patches = learner.network.patch_embed.num_patches
        seen = patches - math.floor(self.options.masked * patches)
        order = 1 + rng.normal(patches).argsort(dim=1)  # 0 is the class token, which is always seen
        first = torch.zeros_like(order[:, :1])
        kept, hidden = torch.cat([first, order[:, :seen]], dim=1), order[:, seen:]
        encoded = decoder.embed(encoder.encode(images=images, idx_keep=kept))
        tokens = utils.repeat_token(decoder.mask_token, (len(images), patches + 1)).to(encoded.dtype)
        decoded = decoder.decode(utils.set_at_index(tokens, kept, encoded))
        predicted = decoder.predict(utils.get_at_index(decoded, hidden))
        target = utils.get_at_index(utils.patchify(images, learner.network.patch_embed.patch_size[0]), hidden - 1)
        mean, spread = target.mean(-1, keepdim=True), target.std(-1, keepdim=True)
        return {"reconstruction": (predicted.float() - (target - mean) / (spread + 1e-3)).square().mean()}


def build(options: Options) -> Mae:
    return Mae(options)

"""Masked autoencoding (He et al., 2022): pixels of hidden patches from the patches that are seen; by lightly."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from irepa.config.options import Positive, Strict
from irepa.objectives import Learner
from irepa.objectives._augment import crop_and_flip
from irepa.random import StepRandom
from irepa.recipes import Align


class Options(Strict):
    """``masked``: share of the patches that are hidden; ``width``, ``depth``, ``heads`` of the decoder."""

    masked: Annotated[float, Field(gt=0, lt=1)] = 0.75
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.5
    width: Positive = 64
    depth: Positive = 1
    heads: Positive = 4


class Mae:
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM

        patches, size = learner.vit.patch_embed.num_patches, learner.vit.patch_embed.patch_size[0]
        decoder = MAEDecoderTIMM(
            num_patches=patches, patch_size=size, embed_dim=learner.vit.embed_dim, decoder_embed_dim=self.options.width,
            decoder_depth=self.options.depth, decoder_num_heads=self.options.heads,
        )  # fmt: skip
        learner.head = nn.ModuleDict({"encoder": MaskedVisionTransformerTIMM(learner.vit), "decoder": decoder})

    def loss(self, network: Learner, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        from lightly.models import utils

        encoder, decoder = network.head["encoder"], network.head["decoder"]
        images = network.standardised(crop_and_flip(x, rng, self.options.smallest))
        patches = network.vit.patch_embed.num_patches
        seen = patches - math.floor(self.options.masked * patches)
        order = 1 + rng.normal(patches).argsort(dim=1)  # 0 is the class token, which is always seen
        first = torch.zeros_like(order[:, :1])
        kept, hidden = torch.cat([first, order[:, :seen]], dim=1), order[:, seen:]
        encoded = decoder.embed(encoder.encode(images=images, idx_keep=kept))
        tokens = utils.repeat_token(decoder.mask_token, (len(x), patches + 1)).to(encoded.dtype)
        decoded = decoder.decode(utils.set_at_index(tokens, kept, encoded))
        predicted = decoder.predict(utils.get_at_index(decoded, hidden))
        target = utils.get_at_index(utils.patchify(images, network.vit.patch_embed.patch_size[0]), hidden - 1)
        mean, spread = target.mean(-1, keepdim=True), target.std(-1, keepdim=True)
        return {"reconstruction": (predicted.float() - (target - mean) / (spread + 1e-3)).square().mean()}


def build(options: Options) -> Mae:
    return Mae(options)

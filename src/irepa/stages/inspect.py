"""Self-similarity maps of one cell (E7): the cosine of an anchor token to all tokens of a held-out image.

For the encoder's tokens, the network's hidden tokens, and their projection.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from irepa.config.cells import NO_ENCODER, Cell, trained_cell
from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.network import load_trained, parts_of
from irepa.engine.targets import token_source
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context
from irepa.random import image_noise
from irepa.tokens import spread


def anchor_similarity(tokens: Tensor, anchor: int) -> Tensor:
    """Cosine of token ``anchor`` to every token: tokens (T, dim) -> (T,) in [-1, 1]."""
    return F.cosine_similarity(tokens[anchor : anchor + 1].float(), tokens.float(), dim=-1)


@torch.inference_mode()
def run(context: Context) -> Json:
    cell, tier = Cell.parse(context.key), context.tier
    device = setup(context.resources.threads)
    data, trained = context.input("data"), context.input("train", trained_cell(context.settings, context.key))
    parts = parts_of(context, cell, trained.metrics["classes"], device)
    alignment = load_trained(parts, trained, context.settings, cell, device)
    settings = tier.inspection
    _height, width = tier.grid
    row, column = (min(int(share * side), side - 1) for share, side in zip(settings.anchor, tier.grid, strict=True))
    anchor = row * width + column
    shown = np.array(settings.images, np.int64)
    held_out = stored_images(data, "test")
    subset = spread(len(held_out), tier.spatial.images)
    images = torch.from_numpy(held_out[subset[shown]]).permute(0, 3, 1, 2).to(device)
    labels = torch.from_numpy(data.array("test.labels.npy")[subset[shown]]).to(device)
    x = parts.codec.encode(images).to(device)
    noise = [
        image_noise(cell.seed, range(image, image + 1), 0, tuple(x.shape[1:]), device) for image in settings.images
    ]
    noised, times = parts.recipe.noised(x, torch.cat(noise).to(x), settings.time)
    hidden = parts.network(noised, times, labels)[1]
    sources = {"hidden": hidden}
    if alignment is not None:
        sources["projected"] = alignment.projector(hidden)
    if cell.encoder != NO_ENCODER:
        sources["encoder"] = token_source(context, cell.encoder, "test", device)[shown]
    rows = [
        {"image": int(image), "source": source, "row": t // width, "column": t % width, "similarity": float(value)}
        for source, tokens in sources.items()
        for image, one in zip(shown, tokens, strict=True)
        for t, value in enumerate(anchor_similarity(one, anchor))
    ]
    with whole(context.output(".csv")) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6f")
    return {"anchor": [row, column], "time": settings.time, "images": subset[shown].tolist()}

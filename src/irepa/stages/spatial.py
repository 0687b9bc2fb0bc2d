"""Spatial metrics of one encoder, wrapped or not, on the held-out images: per image (CSV) and their means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from irepa.compute import setup
from irepa.files import Json, whole
from irepa.grid import split_encoder
from irepa.masks import token_masks, usable
from irepa.runner import Context
from irepa.spatial import Thresholds, spatial_metrics
from irepa.tokens import TokenCache

BATCH = 64


def thresholds(context: Context) -> Thresholds:
    chosen = context.tier.spatial
    rule = Thresholds.for_grid(*context.tier.grid)
    return Thresholds(chosen.near or rule.near, chosen.far or rule.far, chosen.slope or rule.slope)


def run(context: Context) -> Json:
    setup(context.resources.threads)
    grid = context.tier.grid
    base, transforms = split_encoder(context.key)
    cache = TokenCache.open(context.input("features", base), "test", grid, transforms)
    masks = token_masks(torch.from_numpy(np.array(context.input("data").array("test.masks.npy"))), grid)
    kept = usable(masks)
    columns: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(cache), BATCH):
        indices = np.arange(start, min(start + BATCH, len(cache)), dtype=np.int64)
        values = spatial_metrics(cache[indices], grid, masks[indices], thresholds(context)).named()
        # As the paper: SRSS only over images with enough of both regions (D9: masks and tokens of the same images).
        values["srss"] = torch.where(kept[indices], values["srss"], torch.nan)
        for name, column in values.items():
            columns.setdefault(name, []).append(column)
    table = pd.DataFrame({name: torch.cat(column).double().numpy() for name, column in columns.items()})
    table.index.name = "image"
    with whole(context.output(".csv")) as temporary:
        table.to_csv(temporary, float_format="%.7g")
    means = {str(name): float(value) for name, value in table.mean(skipna=True).items()}
    return means | {"images": len(table), "images_without_srss": int(table["srss"].isna().sum())}

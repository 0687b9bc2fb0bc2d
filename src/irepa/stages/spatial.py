"""Spatial metrics of one encoder, wrapped or not, on the held-out images: per image (CSV), their means, and correlograms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from irepa.correlogram import Correlogram
from irepa.engine.device import setup
from irepa.engine.targets import token_source
from irepa.masks import token_masks, usable
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context
from irepa.spatial import Thresholds, spatial_metrics

BATCH = 64


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    grid = context.tier.grid
    source = token_source(context, context.key, "test", device)
    masks = token_masks(torch.from_numpy(np.array(context.input("data").array("test.masks.npy"))), grid)
    kept = usable(masks)
    columns: dict[str, list[torch.Tensor]] = {}
    correlogram = Correlogram(grid, device)
    chosen = context.tier.spatial
    limits = Thresholds.for_grid(*grid, near=chosen.near, far=chosen.far, slope=chosen.slope)
    for start in range(0, len(source), BATCH):
        indices = np.arange(start, min(start + BATCH, len(source)), dtype=np.int64)
        tokens = source[indices].to(device)
        correlogram.add(tokens)
        found = spatial_metrics(tokens, grid, masks[indices], limits)
        values = {name: value.cpu() for name, value in found.named().items()}
        # As the paper: SRSS only over images with enough of both regions (D9: masks and tokens of the same images).
        values["srss"] = torch.where(kept[indices], values["srss"], torch.nan)
        for name, column in values.items():
            columns.setdefault(name, []).append(column)
    table = pd.DataFrame({name: torch.cat(column).double().numpy() for name, column in columns.items()})
    table.index.name = "image"
    with whole(context.output(".images.csv")) as temporary:
        table.to_csv(temporary, float_format="%.7g")
    with whole(context.output(".correlogram.csv")) as temporary:
        correlogram.table().to_csv(temporary, index=False, float_format="%.7g")
    means = {str(name): float(value) for name, value in table.mean(skipna=True).items()}
    return means | {"images": len(table), "images_without_srss": int(table["srss"].isna().sum())}

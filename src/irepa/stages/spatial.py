"""Spatial metrics of one encoder, with its transforms, on the held-out images: per image (CSV), their means, and correlograms.

The means are also measured of the tokens after spatial normalisation (paper section 4), under names that end in ``_normalised``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from irepa.alignment import spatial_normalize
from irepa.correlogram import Correlogram
from irepa.engine.device import setup
from irepa.engine.targets import token_source
from irepa.masks import token_masks
from irepa.pipeline.files import Json, whole
from irepa.pipeline.runner import Context
from irepa.spatial import metrics_by_image
from irepa.thresholds import Thresholds
from irepa.tokens import in_batches

BATCH = 64


def run(context: Context) -> Json:
    device = setup(context.resources.threads)
    grid = context.tier.grid
    source = token_source(context, context.key, "test", device)
    masks = token_masks(torch.from_numpy(np.array(context.input("data").array("test.masks.npy"))), grid)
    correlogram = Correlogram(grid, device)
    settings = context.tier.spatial
    thresholds = Thresholds.for_grid(*grid, near=settings.near, far=settings.far, slope=settings.slope)

    plain: list[dict[str, Tensor]] = []
    normalised: list[dict[str, Tensor]] = []
    for indices in in_batches(np.arange(len(source), dtype=np.int64), BATCH):
        tokens, mask = source[indices].to(device), masks[indices]
        correlogram.add(tokens)
        plain.append(metrics_by_image([(tokens, mask)], grid, thresholds))
        normalised.append(metrics_by_image([(spatial_normalize(tokens), mask)], grid, thresholds))
    table = pd.DataFrame({name: values.double().numpy() for name, values in _joined(plain).items()})
    table.index.name = "image"
    with whole(context.output(".images.csv")) as temporary:
        table.to_csv(temporary, float_format="%.7g")
    with whole(context.output(".correlogram.csv")) as temporary:
        correlogram.table().to_csv(temporary, index=False, float_format="%.7g")
    means = {str(name): float(value) for name, value in table.mean(skipna=True).items()}
    means |= {f"{name}_normalised": float(values.double().nanmean()) for name, values in _joined(normalised).items()}
    return means | {"images": len(table), "images_without_srss": int(table["srss"].isna().sum())}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

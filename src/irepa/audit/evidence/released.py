"""The authors' released statistics, where a user has downloaded them: FIDs over steps, probe accuracies, features and masks.

    hf download REPA-E/iREPA-collections --include "spatial-metrics-data/**" --local-dir DIR    (about 20 GB)

Layout below ``spatial-metrics-data`` (or whatever it was renamed to)::

    stats/fid/<run>_cfg1.0-seed0-modesde-steps250.csv   columns Steps and FID among others
    stats/lp/<encoder>-none-mean/metrics.json           best_val_acc, percent
    features/<encoder>.pt                               tokens (images, 256, dim)
    masks/*.png                                         foreground masks, in order of name

``released.csv`` says which file is which encoder's. For PE-Spatial-L it names PE-Spatial-L's own file, where the released
plotting code reads PE-Lang-L's (D6), and masks stay with their own images (D9).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from irepa.alignment import spatial_normalize
from irepa.audit.evidence import RUNS, Evidence
from irepa.errors import DataError, first_line
from irepa.masks import token_masks, usable
from irepa.progress import track
from irepa.spatial import metrics_by_image

COMMAND = 'hf download REPA-E/iREPA-collections --include "spatial-metrics-data/**" --local-dir DIR'
SCALES = {"sit-b-2": "SiT-B/2", "sit-l-2": "SiT-L/2", "sit-xl-2": "SiT-XL/2"}
ENDING = "_cfg1.0-seed0-modesde-steps250.csv"
STEPS = 100_000  # at which the paper compares runs
GRID = (16, 16)
MASK = (256, 256)  # pixels
BATCH = 64


def read(folder: Path) -> Evidence:
    """Raises DataError, with the command that fetches the files, where the folder is not of this layout."""
    if not (folder / "stats" / "fid").is_dir():
        raise DataError(f"released = {folder}: there is no folder stats/fid in it; fetch the files with: {COMMAND}")
    names = pd.read_csv(Path(__file__).with_name("released.csv"))
    runs = [frame for row in names.itertuples(index=False) for frame in _runs(folder, row)]
    if not runs:
        raise DataError(
            f"released = {folder}: stats/fid holds no file of an encoder in released.csv; fetch the files with: {COMMAND}"
        )
    masks = _masks(folder / "masks")
    rows, notes = [], []
    for row in track(list(names.itertuples(index=False)), "released features", len(names)):
        facts, note = _encoder(folder, str(row.feature), masks)
        rows.append({"encoder": row.encoder, **facts})
        notes += [note] if note else []
    return Evidence(
        name="released-statistics",
        title="The authors' released statistics (REPA-E/iREPA-collections)",
        distance="FID",
        runs=pd.concat(runs, ignore_index=True),
        encoders=pd.DataFrame(rows).set_index("encoder"),
        scales=list(SCALES.values()),
        notes=notes,
        printed=True,
    )


def _runs(folder: Path, row: object) -> list[pd.DataFrame]:
    """FIDs over steps of one encoder at each scale that is there."""
    encoder, feature, xl_file = (str(getattr(row, name)) for name in ("encoder", "feature", "xl_file"))
    curves = []
    for key, scale in SCALES.items():
        others = f"{key}-sdvae-{feature}-enc8-coeff0.5-loss-cosine-projlayer-mlp-100000-v1"
        path = folder / "stats" / "fid" / f"{xl_file if key == 'sit-xl-2' else others}{ENDING}"
        if not path.is_file():
            continue
        table = pd.read_csv(path)
        if not {"Steps", "FID"} <= set(table):
            raise DataError(f"{path}: columns are {', '.join(map(str, table.columns))}; Steps and FID are needed")
        table = table.drop_duplicates("Steps")
        same = {"experiments": "E1 E2 E4", "recipe": "sit", "scale": scale, "encoder": encoder, "method": "repa", "setting": "",
                "seed": 0, "held": False, "record": f"stats/fid/{path.name}"}  # fmt: skip
        steps = table["Steps"]
        curves.append(pd.DataFrame(same | {"steps": steps, "final": steps == STEPS, "fd": table["FID"]})[list(RUNS)])
    return curves


def _masks(folder: Path) -> torch.Tensor | None:
    """Foreground on the token grid (images, 256), bool, in order of name; None where there is none."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        return None
    images = [Image.open(path).convert("L").resize(MASK, Image.Resampling.NEAREST) for path in paths]
    return token_masks(torch.from_numpy(np.stack([np.asarray(image) > 0 for image in images])), GRID)


def _encoder(folder: Path, feature: str, masks: torch.Tensor | None) -> tuple[dict[str, object], str]:
    """Accuracy and spatial metrics of one encoder, as far as its files are there, and what a reader must know."""
    facts: dict[str, object] = {"family": feature.split("-")[0]}
    records = []
    probe = folder / "stats" / "lp" / f"{feature}-none-mean" / "metrics.json"
    if probe.is_file():
        facts["accuracy"] = float(json.loads(probe.read_text(encoding="utf-8"))["best_val_acc"])
        records.append(str(probe.relative_to(folder)))
    path = folder / "features" / f"{feature}.pt"
    note = ""
    if path.is_file():
        try:
            tokens = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {first_line(error)}") from None
        if tokens.ndim != 3 or tokens.shape[1] != GRID[0] * GRID[1]:
            raise DataError(f"{path} holds {tuple(tokens.shape)}; (images, {GRID[0] * GRID[1]}, dim) is needed")
        own, note = _own_masks(masks, len(tokens), feature)
        facts |= _metrics(tokens, own)
        records.append(str(path.relative_to(folder)))
    return facts | {"records": " ".join(records)}, note


def _own_masks(masks: torch.Tensor | None, count: int, feature: str) -> tuple[torch.Tensor | None, str]:
    """The masks of a file's ``count`` images: all, or the usable ones; None and why where neither are as many."""
    if masks is None:
        return None, ""
    kept = masks[usable(masks)]
    for candidate in (masks, kept):
        if len(candidate) == count:
            return candidate, ""
    return None, (
        f"{feature}: {count} images for {len(masks)} masks, {len(kept)} of them usable: which mask is which "
        f"image's cannot be told, so no SRSS (D9)."
    )


def _metrics(tokens: torch.Tensor, masks: torch.Tensor | None) -> dict[str, float]:
    """Means over images of the spatial metrics of tokens (images, 256, dim) with masks (images, 256) bool.

    Those after spatial normalisation have names that end in ``_normalised``.
    """
    parts = [slice(start, start + BATCH) for start in range(0, len(tokens), BATCH)]
    means: dict[str, float] = {}
    for ending, change in (("", torch.Tensor.float), ("_normalised", lambda some: spatial_normalize(some.float()))):
        batches = ((change(tokens[rows]), None if masks is None else masks[rows]) for rows in parts)
        means |= {name + ending: float(values.nanmean()) for name, values in metrics_by_image(batches, GRID).items()}
    return means

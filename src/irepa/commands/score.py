"""Spatial metrics of any encoder on any folder of images, and where that falls on the published LDS-FID line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from irepa.audit.paper import Line
from irepa.config import plugins
from irepa.config.plugins import encoder_options
from irepa.config.read import validated
from irepa.config.tier import EncoderEntry, Features
from irepa.data.image_folder import SUFFIXES
from irepa.engine.targets import encode
from irepa.errors import ConfigError, DataError
from irepa.images import decode_all
from irepa.masks import boundary_contrast_mask, token_masks, usable
from irepa.progress import track
from irepa.spatial import spatial_metrics
from irepa.tokens import Grid, resample

LIBRARIES = ("timm", "open_clip", "transformers")


@dataclass(frozen=True)
class Estimate:
    """Mean over images, and its 95% bootstrap interval; ``images``: how many have a value."""

    mean: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class Score:
    """``metrics`` by name; ``fid``: prediction and 95% prediction interval from the published points; ``line``: their line."""

    metrics: dict[str, Estimate]
    fid: tuple[float, float, float]
    line: Line


def parse_encoder(text: str, catalogue: dict[str, EncoderEntry], weights: str | None) -> EncoderEntry:
    """A name in the catalogue, or ``timm:MODEL``, ``open_clip:MODEL/PRETRAINED``, ``transformers:ID``. Raises ConfigError."""
    if text in catalogue:
        row = catalogue[text].model_dump()
    else:
        library, _, model = text.partition(":")
        if library not in LIBRARIES or not model:
            forms = ", ".join(f"{name}:MODEL" for name in LIBRARIES)
            raise ConfigError(f"--encoder {text}: give a name of workflow/encoders.yaml or one of {forms}")
        if library == "timm":
            row = _timm_row(model)
        elif library == "open_clip":
            model, _, pretrained = model.partition("/")
            row = {"library": "open-clip", "model": model, "pretrained": pretrained}
        else:
            row = {"library": "transformers", "model": model}
        row["family"] = text
    return validated(EncoderEntry, row | ({} if weights is None else {"weights": weights}), f"--encoder {text}")


def _timm_row(model: str) -> dict[str, Any]:
    """Token models by their tokens, others by their map at stride 16."""
    import timm

    if not timm.is_model(model):
        raise ConfigError(f"--encoder timm:{model}: timm knows no such model; `timm.list_pretrained()` lists them")
    with torch.device("meta"):
        network = timm.create_model(model)
    if getattr(network, "num_prefix_tokens", None) is not None and hasattr(network, "patch_embed"):
        return {"library": "timm-vit", "model": model}
    return {"library": "timm", "model": model, "stride": 16}


def read_images(folder: Path, size: int, limit: int) -> np.ndarray:
    """Up to ``limit`` images below a folder, spread over them in order of name: (n, size, size, 3) uint8. Raises DataError."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if len(files) < 2:
        raise DataError(
            f"--images {folder}: {len(files)} images; at least 2 are needed ({', '.join(sorted(SUFFIXES))})"
        )
    chosen = [files[index * len(files) // min(limit, len(files))] for index in range(min(limit, len(files)))]
    return decode_all([(path, str(path)) for path in chosen], size)


def score(entry: EncoderEntry, images: np.ndarray, grid: Grid, device: torch.device, batch: int = 16) -> Score:
    """Metrics of images (n, H, W, 3) uint8. SRSS takes its foreground from colour contrast to the image border.

    Raises WeightsError where the encoder's weights cannot be had.
    """
    library = plugins.load("encoders", entry.library, "--encoder")
    options = encoder_options(entry, images.shape[1], "--encoder")
    library.check(getattr(options, "model", entry.library), options)
    encoder = library.build(options, grid, device)
    masks = token_masks(torch.from_numpy(np.stack([boundary_contrast_mask(image) for image in images])), grid)
    kept = usable(masks)
    every = np.arange(len(images), dtype=np.int64)
    values: dict[str, list[torch.Tensor]] = {}
    done = 0
    encoded = encode(encoder, images, every, Features(batch=batch), grid, device)
    for tokens in track(encoded, "encode", -(-len(images) // batch)):
        here = slice(done, done + len(tokens.patch))
        found = spatial_metrics(resample(tokens.patch, tokens.grid, grid), grid, masks[here]).named()
        found["srss"] = torch.where(kept[here], found["srss"], torch.nan)
        for name, value in found.items():
            values.setdefault(name, []).append(value)
        done = here.stop
    metrics = {name: estimate(torch.cat(parts).double().numpy()) for name, parts in values.items()}
    line = Line.of("lds")
    return Score(metrics, line.predict(metrics["lds"].mean), line)


def estimate(values: np.ndarray) -> Estimate:
    """Mean and BCa bootstrap interval over images; NaN where fewer than two images have a value."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or np.ptp(known) == 0:
        mean = float(known.mean()) if len(known) else np.nan
        return Estimate(mean, mean, mean, len(known)) if len(known) > 1 else Estimate(mean, np.nan, np.nan, len(known))
    interval = stats.bootstrap((known,), np.mean, n_resamples=2000, rng=np.random.default_rng(0)).confidence_interval
    return Estimate(float(known.mean()), float(interval.low), float(interval.high), len(known))

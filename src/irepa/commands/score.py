"""Spatial metrics of any encoder on any folder of images, and where that falls on the published LDS-FID line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from irepa.audit.paper import Line
from irepa.audit.statistics import Estimate
from irepa.config.read import read_yaml, validated
from irepa.config.tier import EncoderEntry, Features
from irepa.data.image_folder import SUFFIXES, image_files
from irepa.encoders import Declared
from irepa.encoders.timm_vit import patch_size
from irepa.engine.targets import encode
from irepa.errors import ConfigError, DataError, WeightsError, translated
from irepa.images import Images, decode_all
from irepa.masks import boundary_contrast_mask, token_masks
from irepa.progress import track
from irepa.spatial import metrics_by_image
from irepa.stored import InMemory
from irepa.tokens import Grid, resample, spread

LIBRARIES = ("timm", "open_clip", "transformers")
TITLES = {"lds": "LDS", "cds": "CDS", "srss": "SRSS", "rmsc": "RMSC", "lds_text": "LDS (text)"}


@dataclass(frozen=True)
class Score:
    """What is known of an encoder from images alone.

    Attributes:
        metrics: by name, the mean over images and its 95% bootstrap interval; ``n`` images have a value.
        fid: what the published points give at this LDS: the FID, and the ends of its 95% prediction interval.
        line: the line through those points.
    """

    metrics: dict[str, Estimate]
    fid: tuple[float, float, float]
    line: Line


def parse_encoder(text: str, catalogue: Mapping[str, EncoderEntry], weights: str | None) -> EncoderEntry:
    """The row that a name stands for; ``weights`` replaces the row's, None leaves them.

    ``text`` is a name in the catalogue, or ``timm:MODEL``, ``open_clip:MODEL/PRETRAINED`` or ``transformers:ID``. Raises
    ConfigError for anything else.
    """
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
    """The row of a network of timm: token models by their tokens, others by their map at stride 16. Raises ConfigError."""
    import timm

    if not timm.is_model(model):
        raise ConfigError(f"--encoder timm:{model}: timm knows no such model; `timm.list_pretrained()` lists them")
    with torch.device("meta"), translated(ConfigError, f"--encoder timm:{model} cannot be built"):
        network = timm.create_model(model)
    with suppress(WeightsError):
        patch_size(network)
        return {"library": "timm-vit", "model": model}
    return {"library": "timm", "model": model, "stride": 16}


def read_images(folder: Path, size: int, limit: int) -> Images:
    """Up to ``limit`` images below a folder, spread over them in order of name: (n, size, size, 3) uint8. Raises DataError."""
    with translated(DataError, f"--images {folder} cannot be read", "see that it may be read"):
        is_there = folder.is_dir()
    if not is_there:
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise DataError(f"--images {folder}: {what}; give a folder of images ({', '.join(sorted(SUFFIXES))})")
    files = image_files(folder)
    if not files:
        raise DataError(f"--images {folder}: no image in this folder or below it ({', '.join(sorted(SUFFIXES))})")
    if len(files) < 2:
        raise DataError(
            f"--images {folder}: {len(files)} images; at least 2 are needed ({', '.join(sorted(SUFFIXES))})"
        )
    paths = [files[index] for index in spread(len(files), limit)]
    return decode_all([(path, str(path)) for path in paths], size)


def score(
    entry: EncoderEntry, images: Images, grid: Grid, device: torch.device, batch: int = 16, name: str | None = None
) -> Score:
    """Metrics of images (n, H, W, 3) on a token grid (h, w). SRSS takes its foreground from colour contrast to the image border.

    ``name``: what a refusal calls the encoder; None: its model.

    Raises ConfigError where the encoder gives no patch tokens, and WeightsError where its weights cannot be had.
    """
    sides = [side for side in range(4, images.shape[1] + 1) if images.shape[1] % side == 0]
    if not {*grid} <= {*sides}:
        raise ConfigError(
            f"--side {grid[0]}: a grid of {grid[0]}x{grid[1]} does not divide --image-size {images.shape[1]}; allowed are "
            f"{', '.join(map(str, sides))}"
        )
    declared = Declared.of(name or entry.options().get("model", entry.library), entry, images.shape[1])
    declared.check()
    encoder = declared.encoder(grid, device)
    masks = token_masks(torch.from_numpy(np.stack([boundary_contrast_mask(image) for image in images])), grid)
    every = np.arange(len(images), dtype=np.int64)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        done = 0
        what = f"encoder {declared.name}: tokens of images, from 0 in order of name,"
        encoded = encode(encoder, InMemory(images), every, Features(batch=batch), grid, device, what)
        for tokens in track(encoded, "encode", -(-len(images) // batch)):
            here = slice(done, done + len(tokens.patch))
            yield resample(tokens.patch, tokens.grid, grid), masks[here]
            done = here.stop

    values = metrics_by_image(batches(), grid)
    metrics = {name: mean_over_images(column.double().numpy()) for name, column in values.items()}
    line = Line.of("lds")
    return Score(metrics, line.predict(metrics["lds"].value), line)


def mean_over_images(values: NDArray[np.float64]) -> Estimate:
    """Mean of values (images,), and its 95% BCa bootstrap interval; NaN where fewer than two images have a value."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return Estimate(float(finite.mean()) if len(finite) else np.nan, np.nan, np.nan, len(finite))
    mean = float(finite.mean())
    if np.ptp(finite) == 0:
        return Estimate(mean, mean, mean, len(finite))
    interval = stats.bootstrap((finite,), np.mean, n_resamples=2000, rng=np.random.default_rng(0)).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high), len(finite))


def show_score(score: Score, title: str) -> None:
    """Print the metrics as a table, and what the published line says of them."""
    from rich.table import Table

    from irepa.commands.screen import screen

    table = Table("metric", "mean", "95% interval", "images", title=title)
    for name, mean in score.metrics.items():
        table.add_row(TITLES[name], f"{mean.value:.4f}", f"[{mean.low:.4f}, {mean.high:.4f}]", str(mean.n))
    console = screen(100)
    console.print(table)
    centre, low, high = score.fid
    line, lds = score.line, score.metrics["lds"].value
    inside = "inside" if line.low <= lds <= line.high else "OUTSIDE"
    console.print(  # no markup: rich would take [nan, nan] for a style
        f"Published line (SiT-XL/2, REPA, 100K steps, ImageNet 256x256): FID = {line.intercept:.1f} {line.slope:+.1f} LDS, "
        f"r = {line.r:.2f} over {line.n} encoders. At LDS = {lds:.3f} it gives FID {centre:.1f}, 95% prediction interval "
        f"[{low:.1f}, {high:.1f}].\nThis is an extrapolation, not a measurement: nothing was trained; the points were read off "
        f"a plot; your images are not the paper's; and this LDS is {inside} the published range "
        f"[{line.low:.3f}, {line.high:.3f}].",
        markup=False,
    )


def declared_encoders(root: Path) -> dict[str, EncoderEntry]:
    """The catalogue of encoders of the repository ``root``; empty where the command is used elsewhere. Raises ConfigError."""
    path = root / "workflow" / "encoders.yaml"
    rows = read_yaml(path) if path.exists() else {}
    return {name: validated(EncoderEntry, row, f"{path}: {name}") for name, row in rows.items()}

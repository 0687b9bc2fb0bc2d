"""Figures: one module per kind.

Each has ``needs(settings, experiment)``, the jobs whose files it reads; ``collect(context, experiment)``, the data
frame of exactly what is drawn; ``draw(frame)``, the figure from that frame alone; and ``caption(frame)``, what to see in it.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from irepa.files import whole
from irepa.grid import experiment_cells
from irepa.plan import Job
from irepa.runner import Context

matplotlib.use("Agg")

METHOD_ORDER = ("none", "repa", "conv-only", "norm-only", "irepa")
SPATIAL_NAMES = {"lds": "LDS", "cds": "CDS", "srss": "SRSS", "rmsc": "RMSC"}
WIDTH = 9.0  # inches: readable at the width of a README


def style() -> None:
    """One look for every figure."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font="DejaVu Sans")
    matplotlib.rcParams.update(
        {"figure.constrained_layout.use": True, "axes.titlesize": 11, "axes.labelsize": 11, "legend.fontsize": 9,
         "xtick.labelsize": 9, "ytick.labelsize": 9, "svg.hashsalt": "irepa", "grid.linewidth": 0.5}
    )  # fmt: skip


def save(figure: Figure, *paths: Path) -> None:
    """Write the figure in each format, without dates, so that equal figures are equal files."""
    for path in paths:
        kind = path.suffix.removeprefix(".")
        with whole(path) as temporary:
            metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def distance_name(context: Context) -> str:
    """The name of the Frechet distance that the tier's first judge gives."""
    return context.settings.catalogue[context.tier.evaluation.extractors[0]].metric_name("FID")


def read_table(context: Context) -> pd.DataFrame:
    path = context.input("table").file("table.csv")
    return pd.read_csv(path, keep_default_na=False, na_values={"value": [""], "seed": [""]})


def distances(context: Context, experiment: str) -> pd.DataFrame:
    """Every cell of an experiment with its distance: recipe, scale, encoder, method, seed, ``fd``, ``distance``."""
    name = distance_name(context)
    table = read_table(context)
    rows = table[(table["stage"] == "evaluate") & (table["metric"] == name)].set_index("record")
    chosen = experiment_cells(context.settings, context.tier.experiments[experiment])
    # A run that has failed has no distance, and is left out.
    wanted = [f"evaluation/{cell}.json" for cell in chosen]
    found = rows.loc[[record for record in wanted if record in rows.index]].reset_index()
    found = found[["recipe", "scale", "encoder", "method", "seed", "value"]].rename(columns={"value": "fd"})
    return found.assign(distance=name, seed=found["seed"].astype(int))


def encoder_metrics(context: Context) -> pd.DataFrame:
    """Accuracy (probe) and spatial metrics of every encoder, one row each, indexed by its name."""
    table = read_table(context)
    wanted = table[table["stage"].isin(["spatial", "probe"]) & table["metric"].isin([*SPATIAL_NAMES, "accuracy"])]
    return wanted.pivot(index="encoder", columns="metric", values="value")


def table_only(settings: Any, experiment: str) -> list[Job]:
    """``needs`` of a figure that reads the table and nothing else."""
    return [Job("table")]


def methods_in(frame: pd.DataFrame) -> list[str]:
    """The methods of a frame, the paper's first and in its order."""
    present = list(dict.fromkeys(frame["method"]))
    return [m for m in METHOD_ORDER if m in present] + [m for m in present if m not in METHOD_ORDER]


def to_text(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as base64 PNG: a picture that fits in a CSV cell."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def from_text(text: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))

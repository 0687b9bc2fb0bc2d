"""What figures share when they draw: one look, one way to write files, bars with their numbers, small images."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from irepa.pipeline.files import whole

matplotlib.use("Agg")

METHOD_ORDER = ("none", "repa", "conv-only", "norm-only", "irepa")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p", "d")
WIDTH = 9.0  # inches: readable at the width of a README


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    """An empty figure in the look of all figures, and its axes.

    width: share of a page's width. height: inches. options: as pyplot's ``subplots`` takes them.
    """
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font="DejaVu Sans")
    matplotlib.rcParams.update(
        {"figure.constrained_layout.use": True, "axes.titlesize": 11, "axes.labelsize": 11, "legend.fontsize": 9,
         "xtick.labelsize": 9, "ytick.labelsize": 9, "svg.hashsalt": "irepa", "grid.linewidth": 0.5}
    )  # fmt: skip
    return plt.subplots(rows, columns, figsize=(WIDTH * width, height), **options)


def panel(width: float, height: float) -> tuple[Figure, Axes]:
    """The same with one pair of axes."""
    return panels(1, 1, width, height)


def save(figure: Figure, *paths: Path) -> None:
    """Write the figure in each format, without dates, so that equal figures are equal files."""
    for path in paths:
        kind = path.suffix.removeprefix(".")
        with whole(path) as temporary:
            metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def distance_label(frame: pd.DataFrame) -> str:
    """The label of an axis of distances."""
    return f"{frame['distance'].iloc[0]} (lower is better)"


def log_distances(axis: Axes) -> None:
    """A logarithmic axis of distances, on which equal ratios are equal lengths, with plain numbers."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(MaxNLocator(7))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())


def methods_in(frame: pd.DataFrame) -> list[str]:
    """The methods of a frame, the paper's first and in its order."""
    present = list(dict.fromkeys(frame["method"]))
    return [m for m in METHOD_ORDER if m in present] + [m for m in present if m not in METHOD_ORDER]


def bars(frame: pd.DataFrame, axis: Axes, fmt: str, **roles: Any) -> None:
    """Mean distances as bars with their values inside, every seed as a dot.

    fmt: how the values are written. roles: seaborn's x, y, hue and their orders.
    """
    sns.barplot(frame, ax=axis, errorbar=None, **roles)
    numbers(axis, fmt)
    dots = {role: value for role, value in roles.items() if role != "legend"}
    sns.stripplot(frame, ax=axis, dodge="order" not in roles, palette=["black"] * len(roles["hue_order"]), size=3.5, jitter=False,
                  legend=False, **dots)  # fmt: skip


def numbers(axis: Axes, fmt: str) -> None:
    """The numbers in the bars, out of the way of what is drawn at their ends."""
    for container in axis.containers:
        if isinstance(container, BarContainer):
            axis.bar_label(container, fmt=fmt, fontsize=8, label_type="center", color="white")


def image_to_text(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as base64 PNG: a picture that fits in a CSV cell."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def show_image(axis: Axes, text: str) -> None:
    """Draw an image that :func:`image_to_text` wrote."""
    axis.imshow(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), interpolation="nearest")


def bare(axis: Axes) -> None:
    """Take the ticks off axes that show a picture."""
    axis.set(xticks=[], yticks=[])

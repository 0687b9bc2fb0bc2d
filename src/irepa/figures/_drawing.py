"""What figures share when they draw: one look, one way to write files, bars with their numbers and intervals, small images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
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
    """Write the figure in each format, without dates, so that equal figures are equal files, and let go of it."""
    for path in paths:
        kind = path.suffix.removeprefix(".")
        with whole(path) as temporary:
            metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
    plt.close(figure)


def distance_label(frame: pd.DataFrame) -> str:
    """The label of an axis of distances."""
    return f"{frame['distance'].iloc[0]} (lower is better)"


def log_distances(axis: Axes, *which: Literal["x", "y"]) -> None:
    """A logarithmic axis of distances, on which equal ratios are equal lengths, with plain numbers; both, or that of y."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

    for name in which or ("y",):
        axis.set(**{f"{name}scale": "log"})
        of = axis.xaxis if name == "x" else axis.yaxis
        of.set_major_locator(MaxNLocator(7))
        of.set_major_formatter(ScalarFormatter())
        of.set_minor_locator(NullLocator())
        of.set_minor_formatter(NullFormatter())


def methods_in(frame: pd.DataFrame) -> list[str]:
    """The methods of a frame, the paper's first and in its order."""
    present = list(dict.fromkeys(frame["method"]))
    return [m for m in METHOD_ORDER if m in present] + [m for m in present if m not in METHOD_ORDER]


def colours_of(methods: Sequence[str]) -> dict[str, Any]:
    """A colour for each method; the paper's have the same in every figure."""
    known = [*METHOD_ORDER, *(name for name in methods if name not in METHOD_ORDER)]
    palette = sns.color_palette(n_colors=len(known))
    return {name: sns.desaturate(colour, 0.75) for name, colour in zip(known, palette, strict=True) if name in methods}


def bars(frame: pd.DataFrame, axis: Axes, by: str, fmt: str, flat: bool = False, turned: bool = False) -> None:
    """Mean distances as bars with their values inside and their intervals as lines, every run as a dot beside the line.

    frame: a row per run, with ``by`` (what groups of bars are), ``method``, ``fd``, ``mean``, ``low`` and ``high``. fmt: how
    the values are written; turned: from bottom to top. flat: bars lie, and ``by`` is the method.
    """
    methods = methods_in(frame)
    groups = methods if flat else list(dict.fromkeys(frame[by]))
    width = 0.8 if flat else 0.8 / len(methods)
    for k, (method, colour) in enumerate(colours_of(methods).items()):
        shift = 0.0 if flat else (k - (len(methods) - 1) / 2) * width
        runs = frame[frame["method"] == method]
        runs = runs.assign(place=[groups.index(name) + shift for name in runs[by]])
        means = runs.drop_duplicates("place")
        draw = axis.barh if flat else axis.bar
        drawn = draw(means["place"], means["mean"], width, color=colour, label=method, linewidth=0.8)
        axis.bar_label(drawn, fmt=fmt, fontsize=8, label_type="center", color=_readable(colour), rotation=90 * turned)
        interval(axis, means["place"], means, flat=flat, color="black")
        dots = runs["place"] + 0.3 * width, runs["fd"]
        axis.plot(*(dots[::-1] if flat else dots), "o", color="0.15", markersize=2.5)
    if flat:
        axis.set_yticks(range(len(groups)), groups)
        axis.invert_yaxis()
        axis.grid(False, axis="y")
    else:
        axis.set_xticks(range(len(groups)), groups)
        axis.grid(False, axis="x")


def highest(frame: pd.DataFrame) -> float:
    """The highest of what :func:`bars` draws, so that the axis has room for it."""
    return float(np.nanmax(frame[["fd", "high"]].to_numpy(float)))


def interval(axis: Axes, places: Any, means: pd.DataFrame, flat: bool = False, **look: Any) -> None:
    """The intervals of ``means`` (columns ``mean``, ``low``, ``high``) as lines with caps; none where they are not known."""
    ends = np.stack([means["mean"] - means["low"], means["high"] - means["mean"]])
    plain: dict[str, Any] = {"linestyle": "", "linewidth": 1, "elinewidth": 1, "capsize": 2.5, "capthick": 1}
    look = plain | look
    if flat:
        axis.errorbar(means["mean"], places, xerr=ends, **look)
    else:
        axis.errorbar(places, means["mean"], yerr=ends, **look)


def _readable(colour: Any) -> str:
    """White or black, whichever reads better on a colour."""
    return "white" if float(np.dot(colour, (0.299, 0.587, 0.114))) < 0.62 else "black"


def image_to_text(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as base64 PNG: a picture that fits in a CSV cell."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def show_image(axis: Axes, text: str) -> None:
    """Draw an image that :func:`image_to_text` wrote."""
    axis.imshow(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), interpolation="nearest")


def slanted(axis: Axes, degrees: float, **look: Any) -> None:
    """Turn the names below an axis, each of them ending at its tick, so that long ones do not run into one another."""
    for name in axis.get_xticklabels():
        name.set(rotation=degrees, ha="right", rotation_mode="anchor", **look)


def bare(axis: Axes) -> None:
    """Take the ticks off axes that show a picture."""
    axis.set(xticks=[], yticks=[])

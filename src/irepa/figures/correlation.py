"""What predicts generation quality: accuracy and each spatial metric against the Frechet distance, one point per network.

Points, r and intervals are those of the audit.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from irepa.audit import words
from irepa.audit.evidence import NotTestable
from irepa.audit.statistics import Array
from irepa.figures import check_aligned, table_only
from irepa.pipeline.runner import Context
from irepa.table import SPATIAL_NAMES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned

AXES = {"accuracy": "linear-probe accuracy (%)", **{key: f"{name} (cosine)" for key, name in SPATIAL_NAMES.items()}}
AXES["cds"] = "CDS (cosine per step)"
AXES["rmsc"] = "RMSC"


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per network and metric: its ``value``, the distance ``fd``, the ends ``low`` and ``high`` of its 95% interval,
    the distance on the ``line`` of least squares, and what the audit says of the metric: ``r``, ``reliability``, and how
    many ``independent`` units there are.

    A network's value is the mean over its layers, and its distance the geometric mean over layers and seeds.
    """
    import pandas as pd

    from irepa.figures._units import correlated, levels_of, source_of

    source = source_of(context, experiment)
    frames = []
    for metric in AXES:
        try:
            of = source.units([metric])
        except NotTestable:
            continue
        units = of.units.rename_axis("network").reset_index()
        layers = {str(name): part.index.tolist() for name, part in of.points.groupby("unit")}
        points = units[["family", "encoders"]].assign(
            network=units["network"].map(short_names(layers)),
            metric=metric,
            value=units[metric],
            **levels_of(of),
            line=line(of.column(metric), of.column("level")),
            distance=source.evidence.distance,
            seeds=int(source.runs.groupby("encoder")["seed"].nunique().max()),
            **correlated(of, metric),
        )
        frames.append(points.sort_values(["family", "network"]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def short_names(encoders: Mapping[str, list[str]]) -> dict[str, str]:
    """A name for each network that encoders are layers of: the parts with which all their names begin, if no other has it."""
    names = {}
    for network, layers in encoders.items():
        parts = zip(*(name.split("-") for name in layers), strict=False)
        alike = itertools.takewhile(lambda found: len(set(found)) == 1, parts)
        names[network] = "-".join(found[0] for found in alike) or layers[0]
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    return {network: encoders[network][0] if name in twice else name for network, name in names.items()}


def line(x: Array, level: Array) -> Array:
    """Distances on the least-squares line of the log distances at x (units,); NaN where x is the same for all."""
    if np.ptp(x) == 0:
        return np.full(len(x), np.nan)
    slope, start = np.polyfit(x, level, 1)
    on: Array = np.exp(start + slope * x)
    return on


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns
    from matplotlib.lines import Line2D

    from irepa.figures._drawing import MARKERS, distance_label, log_distances, panels
    from irepa.figures._units import reliability, said

    figure, axes = panels(2, 3, 1, 6.6, sharey=True)
    networks = frame.drop_duplicates("network").sort_values(["family", "network"])
    families = list(dict.fromkeys(networks["family"]))
    palette = dict(zip(families, sns.color_palette("husl", len(families)), strict=True))
    looks = {  # a family has one colour, and its networks differ in shape
        network: (palette[family], MARKERS[k % 7])
        for k, (network, family) in enumerate(zip(networks["network"], networks["family"], strict=True))
    }
    for axis, (metric, label) in zip(axes.flat, AXES.items(), strict=False):
        points = frame[frame["metric"] == metric]
        axis.set(xlabel=label)
        if points.empty:
            axis.set_title("not measured")
            continue
        for row in points.itertuples():
            colour, marker = looks[row.network]
            axis.plot([row.value] * 2, [row.low, row.high], color=colour, linewidth=1, alpha=0.6, zorder=1)
            axis.plot(row.value, row.fd, marker, color=colour, markersize=7, markeredgecolor="white", zorder=2)
        fit = points.sort_values("value")
        axis.plot(fit["value"], fit["line"], color="0.6", linewidth=1, zorder=0)
        axis.set_title(f"{said(points.iloc[0])}\n{reliability(points.iloc[0])}")
    log_distances(axes.flat[0])
    for axis in axes[:, 0]:
        axis.set_ylabel(distance_label(frame))
    last = axes.flat[-1]
    last.axis("off")
    handles = [Line2D([], [], marker=marker, linestyle="", color=colour) for colour, marker in looks.values()]
    listed = zip(networks["network"], networks["family"], strict=True)
    names = [name if family in name else f"{family}: {name}" for name, family in listed]
    many = len(names) > 16
    last.legend(handles, names, title="network (a colour per family)", title_fontsize=10, loc="center", frameon=False,
                fontsize=6.5 if many else 9, handletextpad=0.2)  # fmt: skip
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import reliability, said

    first = frame.drop_duplicates("metric").set_index("metric")
    parts = [f"{SPATIAL_NAMES.get(str(name), name)} {said(row)}" for name, row in first.to_dict("index").items()]
    networks = frame.drop_duplicates("network")
    n, seeds = len(networks), int(frame["seeds"].max())
    told = reliability(first.iloc[0])
    bars = "; lines: 95% interval of a network by the noise of its recipe" if frame["low"].notna().any() else ""
    return (
        f"Pearson r with log {frame['distance'].iloc[0]} behind the noise between seeds, and 95% interval, over {n} networks "
        f"({int(networks['encoders'].sum())} encoders) of {networks['family'].nunique()} families: "
        f"{'; '.join(parts)}. Distances: {told}. Points: means over layers and {seeds} "
        f"{words.plural('seed', seeds)}{bars}."
    )

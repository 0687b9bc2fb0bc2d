"""What predicts generation quality: accuracy and each spatial metric against the Frechet distance, one point per network.

Points, r and intervals are those of the audit.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from irepa.audit import words
from irepa.audit.evidence import NotTestable
from irepa.audit.statistics import Array
from irepa.figures import check_aligned, table_only
from irepa.pipeline.runner import Context
from irepa.table import SPATIAL_NAMES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned

AXES = {"accuracy": "linear-probe accuracy (%)", **{key: f"{name} (cosine)" for key, name in SPATIAL_NAMES.items()}}
AXES["cds"] = "CDS (cosine per step)"
AXES["rmsc"] = "RMSC"
FEW = 16  # networks that a legend beside the panels has room for
COLOURS = 12  # that can be told apart


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per network and metric: its ``value``, the distance ``fd``, the ends ``low`` and ``high`` of its 95% interval,
    the distance on the ``line`` of least squares, and what the audit says of the metric: ``r``, ``reliability``, and how
    many ``independent`` units there are.

    A network's value is the mean over its layers, and its distance the geometric mean over layers and seeds.
    """
    import pandas as pd

    from irepa.figures._choices import origins
    from irepa.figures._units import correlated, levels_of, source_of

    origin = origins(context)
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
            origin=units["network"].map({name: origin[encoders[0]] for name, encoders in layers.items()}),
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
    from matplotlib.lines import Line2D

    from irepa.figures._drawing import distance_label, log_distances, panels
    from irepa.figures._units import reliability, said

    many, columns = frame["network"].nunique() > FEW, 4
    group = group_of(frame)
    networks = frame.drop_duplicates("network").sort_values([group, "network"])
    below = 0.15 * math.ceil(len(networks) / columns) + 0.3 if many else 0
    figure, axes = panels(2, 3, 1, 6.6 + below, sharey=True)
    looks = _looks(networks, group)
    for axis, (metric, label) in zip(axes.flat, AXES.items(), strict=False):
        points = frame[frame["metric"] == metric]
        axis.set(xlabel=label)
        if points.empty:
            axis.set_title("not measured")
            continue
        for row in points.itertuples():
            _point(axis, row.value, row, looks[str(row.network)])
        fit = points.sort_values("value")
        axis.plot(fit["value"], fit["line"], color="0.6", linewidth=1, zorder=0)
        axis.set_title(f"{said(points.iloc[0])}\n{reliability(points.iloc[0])}")
    log_distances(axes.flat[0])
    for axis in axes[:, 0]:
        axis.set_ylabel(distance_label(frame))
    handles = [Line2D([], [], **look) for look in looks.values()]
    listed = zip(networks["network"], networks["family"], strict=True)
    names = [name if many or family in name else f"{family}: {name}" for name, family in listed]
    last, text = axes.flat[-1], {"title": f"network (a colour per {group})", "title_fontsize": 10, "frameon": False}
    if many:
        _by_group(last, networks, group, looks)
        figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8, handletextpad=0.1, **text)
    else:
        last.axis("off")
        last.legend(handles, names, loc="center", fontsize=9, handletextpad=0.2, **text)
    return figure


def group_of(frame: pd.DataFrame) -> str:
    """What networks share a colour by: their family, or where there are too many of these, their origin."""
    return "origin" if frame["family"].nunique() > COLOURS else "family"


def _looks(networks: pd.DataFrame, group: str) -> dict[str, dict[str, Any]]:
    """A group has one colour, and its networks differ in shape: filled ones, then hollow ones."""
    import seaborn as sns

    from irepa.figures._drawing import MARKERS

    groups = list(dict.fromkeys(networks[group]))
    palette = dict(zip(groups, sns.color_palette("husl" if group == "family" else None, len(groups)), strict=True))
    return {
        network: _look(palette[of], MARKERS[k % len(MARKERS)], hollow=k // len(MARKERS) % 2 == 1)
        for k, (network, of) in enumerate(zip(networks["network"], networks[group], strict=True))
    }


def _look(colour: Any, marker: str, hollow: bool) -> dict[str, Any]:
    face, edge, width = ("white", colour, 1.2) if hollow else (colour, "white", 0.4)
    return {"linestyle": "", "marker": marker, "color": colour, "markerfacecolor": face, "markeredgecolor": edge,
            "markeredgewidth": width}  # fmt: skip


def _point(axis: Axes, x: Any, row: Any, look: Mapping[str, Any]) -> None:
    """A network's distance, with its interval."""
    axis.plot([x] * 2, [row.low, row.high], color=look["color"], linewidth=1, alpha=0.6, zorder=1)
    axis.plot(x, row.fd, markersize=7, zorder=2, **look)


def _by_group(axis: Axes, networks: pd.DataFrame, group: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """The distances of each group beside those of the others."""
    from irepa.figures._drawing import slanted

    parts = list(networks.groupby(group, sort=False))
    for place, (_, part) in enumerate(parts):
        aside = np.linspace(-0.35, 0.35, len(part)) if len(part) > 1 else [0]
        for x, row in zip(aside, part.itertuples(), strict=True):
            _point(axis, place + x, row, looks[str(row.network)])
    axis.set_xticks(range(len(parts)), [str(name) for name, _ in parts])
    slanted(axis, 40, fontsize=8)
    axis.set(xlim=(-0.5, len(parts) - 0.5), xlabel=f"{group} of the network")
    axis.grid(False, axis="x")


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import reliability, said

    first = frame.drop_duplicates("metric").set_index("metric")
    parts = [f"{SPATIAL_NAMES.get(str(name), name)} {said(row)}" for name, row in first.to_dict("index").items()]
    networks = frame.drop_duplicates("network")
    n, seeds = len(networks), int(frame["seeds"].max())
    told = reliability(first.iloc[0])
    bars = "; lines: 95% interval of a network by the noise of its recipe" if frame["low"].notna().any() else ""
    last = f" Last panel: the same distances by {group_of(frame)}." if n > FEW else ""
    return (
        f"Pearson r with log {frame['distance'].iloc[0]} behind the noise between seeds, and 95% interval, over {n} networks "
        f"({int(networks['encoders'].sum())} encoders) of {networks['family'].nunique()} families: "
        f"{'; '.join(parts)}. Distances: {told}. Points: means over layers and {seeds} "
        f"{words.plural('seed', seeds)}{bars}.{last}"
    )

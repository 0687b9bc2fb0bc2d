"""Whether a correlation rests on a choice: r of each property by judge, by training, by seed and over some of the networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from irepa.audit import words
from irepa.audit.evidence import NotTestable
from irepa.figures import check_aligned, table_only
from irepa.figures.correlation import AXES
from irepa.pipeline.runner import Context
from irepa.table import SPATIAL_NAMES, distance_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned

CHOICE = ["distance", "training", "networks", "seeds"]


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per choice (columns ``CHOICE``) and ``metric``: ``r`` with its interval and what else the audit says of it.

    ``seeds``: all, or the number of the one that was taken. Choices under which too few networks are left have no row.
    ``like``: 0 where the choice is the audit's, else which one thing differs, from 1; empty where several do.
    """
    import pandas as pd

    from irepa.figures._choices import EVERY, choices, of_seed, origins, part_of, subsets, training_of
    from irepa.figures._units import correlated

    rows: list[dict[str, object]] = []
    kept = subsets(origins(context))
    for choice in choices(context, experiment):
        source = choice.source
        parts = {(name, EVERY): part_of(source, keep) for name, keep in kept.items()}
        seeds = sorted(set(source.evidence.fixed["seed"]))
        if len(seeds) > 1:
            parts |= {(EVERY, str(seed)): of_seed(source, seed) for seed in seeds}
        for (networks, seed), part in parts.items():
            for metric in AXES:
                try:
                    found = correlated(part.units([metric]), metric)
                except NotTestable:
                    continue
                if math.isfinite(found["r"]):
                    chosen = (choice.distance, choice.training, networks, seed)
                    rows.append({**dict(zip(CHOICE, chosen, strict=True)), "metric": metric, **found})
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    first = {
        "distance": distance_name(context),
        "training": training_of(context, experiment),
        "networks": EVERY,
        "seeds": EVERY,
    }
    differs = np.stack([frame[name] != first[name] for name in CHOICE], axis=1)
    which = (differs @ np.arange(1, len(CHOICE) + 1)).astype(float)
    return frame.assign(like=np.where(differs.sum(axis=1) <= 1, which, np.nan))


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import interval, panels

    shown = frame.dropna(subset="like").sort_values("like", kind="stable")
    labels = list(dict.fromkeys(label(row) for row in shown.to_dict("records")))
    metrics = [name for name in AXES if name in set(shown["metric"])]
    figure, axes = panels(1, len(metrics), 1, 0.21 * len(labels) + 1.3, sharey=True, squeeze=False)
    for axis, metric in zip(axes.flat, metrics, strict=True):
        rows = shown[shown["metric"] == metric]
        rows = rows.assign(mean=rows["r"], low=rows["r_low"], high=rows["r_high"])
        for first, part in rows.groupby(rows["like"] == 0):
            at = [labels.index(label(row)) for row in part.to_dict("records")]
            interval(axis, at, part, flat=True, color="black" if first else "C0", marker="o", markersize=4)
        axis.axvline(0, color="0.5", linewidth=0.8)
        axis.set(title=SPATIAL_NAMES.get(metric, metric), xlabel="r", xlim=(-1.05, 1.05))
        axis.grid(False, axis="y")
    axes[0, 0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0, 0].set_ylim(len(labels) - 0.5, -0.5)
    return figure


def label(row: Mapping[Any, Any]) -> str:
    """What is chosen otherwise than by the audit, in a few words."""
    if row["like"] == 0:
        return f"{row['distance']}, {row['training']}"
    name = CHOICE[int(row["like"]) - 1]
    return f"seed {row[name]} alone" if name == "seeds" else str(row[name])


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import said

    first, others = frame[frame["like"] == 0], frame[frame["like"] > 0]
    told = [f"{SPATIAL_NAMES.get(row['metric'], row['metric'])} {said(row)}" for row in first.to_dict("records")]
    parts = ["Pearson r with the log distance behind the noise between seeds, and 95% interval."]
    parts.append(
        f"As the audit takes it (black, top): {'; '.join(told)}." if told else "The audit's own choice has no r."
    )
    if len(others):
        r = others.groupby("metric", sort=False)["r"]
        ranges = [f"{SPATIAL_NAMES.get(str(name), name)} {words.span(values)}" for name, values in r]
        count = len(others[CHOICE].drop_duplicates())
        parts.append(
            f"Over {count} {words.plural('choice', count)} that differ from it in one thing: {'; '.join(ranges)}. "
            "One seed alone does not say how noisy it is, and its r is as it is seen."
        )
    return " ".join(parts)

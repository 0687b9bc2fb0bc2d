"""Samples of each method, same labels and same noise in a column."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from irepa.config.cells import experiment_cells
from irepa.config.tier import Settings
from irepa.figures import WIDTH, from_text, style, to_text
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context

COLUMNS = 12


def _cells(settings: Settings, experiment: str) -> list[Any]:
    return [
        c for c in experiment_cells(settings, settings.tier.experiments[experiment]) if c.seed == settings.params.seed
    ]


def needs(settings: Settings, experiment: str) -> list[Job]:
    return [Job("data"), *(Job("sample", str(cell)) for cell in _cells(settings, experiment))]


def collect(context: Context, experiment: str) -> pd.DataFrame:
    names = context.input("data").metrics["class_names"]
    rows = []
    for cell in _cells(context.settings, experiment):
        record = context.input("sample", str(cell))
        if record.failed:
            continue
        images = record.array("preview.npy")
        for column, label in enumerate(record.metrics["preview_labels"][:COLUMNS]):
            place = {"method": cell.method, "scale": cell.scale, "recipe": cell.recipe, "encoder": cell.encoder}
            rows.append({**place, "column": column, "label": names[label], "png": to_text(images[column])})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    style()
    keys = ["recipe", "scale", "method", "encoder"]
    groups = [group for _, group in frame.groupby(keys, sort=False)]
    columns = int(frame["column"].max()) + 1
    size = (WIDTH - 1.6) / columns
    figure, axes = plt.subplots(
        len(groups), columns, figsize=(WIDTH, size * len(groups) + 0.6), squeeze=False,
        gridspec_kw={"wspace": 0.03, "hspace": 0.03},
    )  # fmt: skip
    varying = [k for k in keys[:3] if frame[k].nunique() > 1] or ["method"]
    for row, group in zip(axes, groups, strict=True):
        for axis, (_, cell) in zip(row, group.iterrows(), strict=False):
            axis.imshow(from_text(cell["png"]), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
        row[0].set_ylabel(
            "\n".join(str(group[k].iloc[0]) for k in varying), rotation=0, ha="right", va="center", fontsize=9
        )
    for axis, (_, cell) in zip(axes[0], groups[0].iterrows(), strict=False):
        axis.set_title(str(cell["label"])[:10], fontsize=7)
    return figure


def caption(frame: pd.DataFrame) -> str:
    rows = frame.groupby(["scale", "method"], sort=False).ngroups
    return f"{rows} rows of samples; a column shares label and starting noise. Column titles are the class asked for."

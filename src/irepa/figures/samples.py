"""Samples of each method, same labels and same noise in a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.config.tier import Settings
from irepa.figures import first_seed
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = 12


def needs(settings: Settings, experiment: str) -> list[Job]:
    return [Job("data"), *(Job("sample", str(cell)) for cell in first_seed(settings, experiment))]


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per cell and column: the class asked for, ``label``, and the picture, ``png``."""
    import pandas as pd

    from irepa.figures._drawing import image_to_text

    names = context.input("data").metrics["class_names"]
    rows = []
    for cell in first_seed(context.settings, experiment):
        record = context.input("sample", str(cell))
        if record.failed:
            continue
        images = record.array("preview.npy")
        for column, label in enumerate(record.metrics["preview_labels"][:COLUMNS]):
            place = {"method": cell.method, "scale": cell.scale, "recipe": cell.recipe, "encoder": cell.encoder}
            rows.append({**place, "column": column, "label": names[label], "png": image_to_text(images[column])})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import WIDTH, bare, panels, show_image

    keys = ["recipe", "scale", "method", "encoder"]
    groups = [group for _, group in frame.groupby(keys, sort=False)]
    columns = int(frame["column"].max()) + 1
    size = (WIDTH - 1.6) / columns
    gaps = {"wspace": 0.03, "hspace": 0.03}
    figure, axes = panels(len(groups), columns, 1, size * len(groups) + 0.6, squeeze=False, gridspec_kw=gaps)
    varying = [key for key in keys[:3] if frame[key].nunique() > 1] or ["method"]
    for row, group in zip(axes, groups, strict=True):
        for axis, (_, cell) in zip(row, group.iterrows(), strict=False):
            show_image(axis, cell["png"])
            bare(axis)
            for spine in axis.spines.values():
                spine.set_visible(False)
        label = "\n".join(str(group[key].iloc[0]) for key in varying)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    for axis, (_, cell) in zip(axes[0], groups[0].iterrows(), strict=False):
        axis.set_title(str(cell["label"])[:10], fontsize=7)
    return figure


def caption(frame: pd.DataFrame) -> str:
    rows = frame.groupby(["scale", "method"], sort=False).ngroups
    return f"{rows} rows of samples; a column shares label and starting noise. Column titles are the class asked for."

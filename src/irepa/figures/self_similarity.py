"""Self-similarity of one anchor token (E7): encoder, and what REPA and iREPA make of it inside the network."""

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


def _cells(settings: Settings, experiment: str) -> list[Any]:
    cells = experiment_cells(settings, settings.tier.experiments[experiment])
    aligned = [c for c in cells if settings.methods[c.method].aligned and c.seed == settings.params.seed]
    return [cell for cell in aligned if cell.scale == aligned[0].scale]


def needs(settings: Settings, experiment: str) -> list[Job]:
    return [Job("data"), *(Job("inspect", str(cell)) for cell in _cells(settings, experiment))]


def collect(context: Context, experiment: str) -> pd.DataFrame:
    images = context.input("data").array("test.images.npy")
    frames = []
    for cell in _cells(context.settings, experiment):
        record = context.input("inspect", str(cell))
        if record.failed:
            continue
        maps = pd.read_csv(record.file(record.path.with_suffix(".csv").name))
        pictures = dict(zip(context.tier.inspection.images, record.metrics["images"], strict=True))
        row, column = record.metrics["anchor"]
        frame = maps.assign(method=cell.method, encoder=cell.encoder, anchor_row=row, anchor_column=column)
        first = ~frame.duplicated("image")
        frame["png"] = [to_text(images[pictures[i]]) if f else "" for i, f in zip(frame["image"], first, strict=True)]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def draw(frame: pd.DataFrame) -> Figure:
    style()
    images, methods = sorted(frame["image"].unique()), list(dict.fromkeys(frame["method"]))
    panels = [("encoder", methods[0])] + [(source, m) for m in methods for source in ("projected", "hidden")]
    columns = 1 + len(panels)
    side = WIDTH / (columns + 0.4)
    figure, axes = plt.subplots(len(images), columns, figsize=(WIDTH, side * len(images) + 0.7), squeeze=False)
    drawn = None
    for line, image in zip(axes, images, strict=True):
        here = frame[frame["image"] == image]
        line[0].imshow(from_text(here["png"].dropna().loc[lambda s: s != ""].iloc[0]), interpolation="nearest")
        for axis, (source, method) in zip(line[1:], panels, strict=True):
            values = here[(here["source"] == source) & (here["method"] == method)]
            grid = values.pivot(index="row", columns="column", values="similarity").to_numpy(float)
            drawn = axis.imshow(grid, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
            axis.plot(here["anchor_column"].iloc[0], here["anchor_row"].iloc[0], marker="+", color="black", ms=9)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    titles = ["image", "encoder"] + [f"{source}\n({method})" for source, method in panels[1:]]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes, fraction=0.02, pad=0.01, label="cosine to the anchor (+)")
    return figure


def caption(frame: pd.DataFrame) -> str:
    groups = frame.groupby(["method", "source"])["similarity"]
    text = ", ".join(f"{' '.join(map(str, name))} {values.std():.2f}" for name, values in groups)
    encoder = frame["encoder"].iloc[0]
    return f"Encoder {encoder}. Standard deviation of the cosine to the anchor, over positions: {text}"

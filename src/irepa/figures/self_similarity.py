"""Self-similarity of one anchor token (E7): encoder, and what REPA and iREPA make of it inside the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.config.cells import Cell
from irepa.config.tier import Settings
from irepa.figures import check_aligned, first_seed
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context
from irepa.table import read_csv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def shown(settings: Settings, experiment: str) -> list[Cell]:
    """The experiment's cells with alignment, with the first seed and at the first scale."""
    aligned = [cell for cell in first_seed(settings, experiment) if settings.methods[cell.method].aligned]
    return [cell for cell in aligned if (cell.recipe, cell.scale) == (aligned[0].recipe, aligned[0].scale)]


def needs(settings: Settings, experiment: str) -> list[Job]:
    return [Job("data"), *(Job("inspect", str(cell)) for cell in shown(settings, experiment))]


check = check_aligned


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per method, image, source of tokens and position: cosine to the anchor; ``png`` on an image's first row."""
    import numpy as np
    import pandas as pd

    from irepa.data import stored_images
    from irepa.figures._drawing import image_to_text

    images = stored_images(context.input("data"), "test")
    frames = []
    for cell in shown(context.settings, experiment):
        record = context.input("inspect", str(cell))
        if record.failed:
            continue
        maps = read_csv(record)
        pictures = dict(zip(context.tier.inspection.images, record.metrics["images"], strict=True))
        row, column = record.metrics["anchor"]
        frame = maps.assign(method=cell.method, encoder=cell.encoder, anchor_row=row, anchor_column=column)
        first = ~frame.duplicated("image")
        frame["png"] = [
            image_to_text(images[np.array([pictures[image]])][0]) if is_first else ""
            for image, is_first in zip(frame["image"], first, strict=True)
        ]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def draw(frame: pd.DataFrame) -> Figure:
    from irepa.figures._drawing import WIDTH, bare, panels, show_image

    # What is known inside: no projector is of a published checkpoint.
    maps = list(frame.loc[frame["source"] != "encoder", ["source", "method"]].drop_duplicates().itertuples(index=False))
    maps.sort(key=lambda one: (list(frame["method"]).index(one.method), one.source == "hidden"))
    lines = sorted(frame[["encoder", "image"]].drop_duplicates().itertuples(index=False))
    columns = 2 + len(maps)
    side = WIDTH / (columns + 0.4)
    figure, axes = panels(len(lines), columns, 1, side * len(lines) + 0.7, squeeze=False)
    drawn, told = None, ""
    for line, (encoder, image) in zip(axes, lines, strict=True):
        here = frame[(frame["encoder"] == encoder) & (frame["image"] == image)]
        show_image(line[0], here["png"].dropna().loc[lambda text: text != ""].iloc[0])
        if encoder != told:  # once for all its images: a row is lower than a name is long
            line[0].set_ylabel(encoder, fontsize=8)
        told = encoder
        for axis, (source, method) in zip(line[1:], [("encoder", here["method"].iloc[0]), *maps], strict=True):
            values = here[(here["source"] == source) & (here["method"] == method)]
            if values.empty:  # a run that failed, or that nobody has released
                axis.set_axis_off()
                continue
            grid = values.pivot(index="row", columns="column", values="similarity").to_numpy(float)
            drawn = axis.imshow(grid, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
            axis.plot(here["anchor_column"].iloc[0], here["anchor_row"].iloc[0], marker="+", color="black", ms=9)
        for axis in line:
            bare(axis)
    titles = ["image", "encoder"] + [f"{source}\n({method})" for source, method in maps]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes, fraction=0.02, pad=0.01, label="cosine to the anchor (+)")
    return figure


def caption(frame: pd.DataFrame) -> str:
    groups = frame.groupby(["method", "source"])["similarity"]
    text = ", ".join(f"{' '.join(map(str, name))} {values.std():.2f}" for name, values in groups)
    encoders = list(dict.fromkeys(frame["encoder"]))
    named = f"Encoder{'s' * (len(encoders) > 1)} {', '.join(encoders)}"
    return f"{named}. Standard deviation of the cosine to the anchor, over positions: {text}"

"""The published numbers: tables, text, and the points read off the released scatter plot (``irepa.audit.paper``)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from irepa.audit import paper, words
from irepa.audit.evidence import QUANTITIES, Evidence
from irepa.audit.statistics import partial_correlation

# Which of the paper's experiments a source of numbers serves.
SERVES = {
    "table-2a": "E6",
    "table-2b": "E6",
    "table-3": "E4 E5 E6",
    "text-trend-1": "E2",
    "text-trend-2": "E2",
    "text-trend-4": "E2",
}
SCALES = ["SiT-B/2", "SiT-L/2", "SiT-XL/2"]
TABLES, SCATTER = "published/tables.csv", "published/figure-correlation-sit-xl-2.csv"
READING_ERROR = 0.03  # FID; panels of the plot differ by as much for one encoder


def read() -> Evidence:
    """Every published run and every encoder of the scatter plot, named as the catalogue names them."""
    points = paper.encoder_points()
    table = paper.tables()
    named = table[table["metric"] == "linear_probe_accuracy"].assign(encoder=lambda t: t["encoder"].map(encoder_name))
    accuracy = named.groupby("encoder")["value"].first().to_frame("accuracy").assign(records=TABLES)
    encoders = pd.concat([points.drop(columns="fid").assign(records=SCATTER), accuracy])
    return Evidence(
        name="published",
        title="Published numbers: Tables 2a, 2b and 3, the text, and the points of the released scatter plot",
        distance="FID",
        runs=pd.concat([_plotted(points), _tabulated(table)], ignore_index=True),
        encoders=encoders.assign(family=""),
        scales=SCALES,
        notes=[joining_note(), "Which family an encoder of the plot is of cannot be told: each counts for itself."],
        printed=True,
        stated=_stated(),
        quantities=QUANTITIES,
    )


def _stated() -> dict[str, tuple[float, int]]:
    """The correlations that the figure prints, by property."""
    table = paper.correlations()
    rows = table[(table["model"] == SCALES[-1]) & (table["relation"] == "equal")].set_index("metric")
    r, n = rows["pearson_r"], rows["n_encoders"]
    return {name: (float(r[panel]), int(n[panel])) for name, panel in paper.PANELS.items()}


def encoder_name(text: str) -> str:
    """``DINOv2-B cls-mix alpha=0.5`` -> ``dinov2-b+clsmix0.5``: the paper's names as the catalogue writes them."""
    base, _, alpha = text.lower().partition(" cls-mix alpha=")
    return f"{base}+clsmix{float(alpha):g}" if alpha and float(alpha) else base


def _plotted(points: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"experiments": "E1", "recipe": "sit", "scale": "SiT-XL/2", "encoder": points.index, "method": "repa", "setting": "",
         "seed": 0, "steps": 100_000, "final": True, "fd": points["fid"].to_numpy(), "record": SCATTER}
    )  # fmt: skip


def _tabulated(table: pd.DataFrame) -> pd.DataFrame:
    run = [name for name in table.columns if name not in ("metric", "value")]
    # A row per run: what a table does not print is NaN.
    rows = table.pivot(index=run, columns="metric", values="value").reset_index().dropna(subset=["fid"])
    nfe = rows["nfe"].map(lambda n: f"NFE {n:g}, " if n == n else "")  # NaN where a table does not vary it
    setting = nfe + "CFG " + rows["cfg_scale"].map("{:g}".format)
    return pd.DataFrame(
        {"experiments": rows["source"].map(SERVES), "recipe": rows["recipe"], "scale": rows["model"],
         "encoder": rows["encoder"].map(encoder_name), "method": rows["method"], "setting": setting, "seed": 0,
         "steps": rows["steps"], "final": True, "fd": rows["fid"], "record": TABLES}
    ).join(rows[list(QUANTITIES)])  # fmt: skip


def joining_note(draws: int = 200) -> str:
    """How much it matters that points of different panels were joined by their FID alone."""
    rng = np.random.default_rng(0)
    joins = [paper.encoder_points(rng.normal(0, READING_ERROR, 1000)) for _ in range(draws)]
    partial = [partial_correlation(*(points[c].to_numpy() for c in ("lds", "fid", "accuracy"))) for points in joins]
    return (
        "The plot does not say which point is which encoder: points of its panels were joined by FID. Over "
        f"{draws} joins with FIDs shifted by the reading error ({READING_ERROR}), the partial r of LDS given accuracy is "
        f"{words.span(partial)}."
    )

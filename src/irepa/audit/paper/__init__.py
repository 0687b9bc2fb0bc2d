"""Numbers that the paper published (arXiv 2512.10794), as data. Facts only; none is computed here.

- ``tables.csv``: Tables 2a, 2b, 3 and numbers in the text, one row each: source, model, steps, recipe, encoder, method,
  nfe (the number of function evaluations), cfg_scale, metric, value.
- ``correlations.csv``: the Pearson correlations that the figures print: model, metric, n_encoders, pearson_r, relation.
- ``figure-correlation-sit-xl-2.csv``: (metric, value, fid) of every point that can be told apart in the released
  scatter plot for SiT-XL/2 at 100K steps, read off the image by circle detection: 27 points for accuracy and CDS, 26
  for LDS, 25 for SRSS, 24 for RMSC. Which point is which encoder is not marked in the plot. Accuracy in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

FOLDER = Path(__file__).parent


def tables() -> pd.DataFrame:
    """``tables.csv``."""
    return pd.read_csv(FOLDER / "tables.csv")


def correlations() -> pd.DataFrame:
    """``correlations.csv``."""
    return pd.read_csv(FOLDER / "correlations.csv")


def recipes() -> pd.DataFrame:
    """FIDs of Tables 2a and 2b; ``setting``: evaluations and guidance where a table varies them, else empty."""
    table = tables()
    rows = table[(table["metric"] == "fid") & table["source"].isin(["table-2a", "table-2b"])]
    varied = rows["nfe"].notna()
    setting = rows["nfe"].map("{:g} NFE, CFG ".format) + rows["cfg_scale"].map("{:g}".format)
    return rows.assign(setting=setting.where(varied, ""))


def scatter(metric: str) -> pd.DataFrame:
    """Points (value, fid) of one metric. Raises KeyError for a metric that the plot does not have."""
    points = pd.read_csv(FOLDER / "figure-correlation-sit-xl-2.csv")
    panel = points[points["metric"] == metric]
    if panel.empty:
        raise KeyError(metric)
    return panel[["value", "fid"]].reset_index(drop=True)


@dataclass(frozen=True)
class Line:
    """Least-squares line of FID on a metric over the published points.

    Attributes:
        r, n: Pearson correlation and number of points; ``low``, ``high``: range of the metric among them.
        mean, spread: of the metric: its mean and sum of squared deviations; ``residual``: standard error of the
            regression.
    """

    slope: float
    intercept: float
    r: float
    n: int
    low: float
    high: float
    mean: float
    spread: float
    residual: float

    @classmethod
    def of(cls, metric: str) -> Line:
        x, y = scatter(metric).to_numpy().T
        fit = stats.linregress(x, y)
        errors = y - fit.intercept - fit.slope * x
        return cls(
            slope=float(fit.slope),
            intercept=float(fit.intercept),
            r=float(fit.rvalue),
            n=len(x),
            low=float(x.min()),
            high=float(x.max()),
            mean=float(x.mean()),
            spread=float(np.sum((x - x.mean()) ** 2)),
            residual=float(np.sqrt(np.sum(errors**2) / (len(x) - 2))),
        )

    def predict(self, value: float, confidence: float = 0.95) -> tuple[float, float, float]:
        """FID of a new encoder with this value of the metric: (prediction, lower, upper) of its prediction interval."""
        centre = self.intercept + self.slope * value
        error = self.residual * np.sqrt(1 + 1 / self.n + (value - self.mean) ** 2 / self.spread)
        half = float(stats.t.ppf(0.5 + confidence / 2, self.n - 2) * error)
        return centre, centre - half, centre + half


PANELS = {"accuracy": "linear_probe_accuracy", "lds": "lds", "cds": "cds", "srss": "srss", "rmsc": "rmsc"}


def encoder_points(shifts: NDArray[np.float64] | None = None) -> pd.DataFrame:
    """The scatter's points joined over its panels: an encoder per row, ``fid`` and what is known of its metrics.

    The plot names no encoder, but each has the same FID in every panel: points are joined one to one so that the sum of
    |difference of FID| is smallest, starting from the accuracy panel, which shows all 27. Metrics of hidden points are
    NaN.

    shifts: (at least the number of points,), added to the FIDs of the points in turn before they are joined, to see
    what an error of reading would change.
    """
    base = scatter(PANELS["accuracy"])
    shifts = np.zeros(5 * len(base)) if shifts is None else shifts
    joined = pd.DataFrame({"fid": base["fid"], "accuracy": base["value"]})
    used = len(base)
    for name, panel in list(PANELS.items())[1:]:
        points = scatter(panel)
        moved = points["fid"].to_numpy() + shifts[used : used + len(points)]
        used += len(points)
        here = (base["fid"].to_numpy() + shifts[: len(base)])[:, None]
        rows, columns = optimize.linear_sum_assignment(np.abs(here - moved))
        joined[name] = pd.Series(points["value"].to_numpy()[columns], index=rows)
    return joined.set_axis([f"point-{k + 1:02d}" for k in range(len(joined))])

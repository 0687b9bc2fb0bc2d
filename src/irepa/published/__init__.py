"""Numbers that the paper published (arXiv 2512.10794), as data. Facts only; none is computed here.

- ``tables.csv``: Tables 2a, 2b, 3 and numbers in the text, one row each: source, model, steps, recipe, encoder, method, nfe,
  cfg_scale, metric, value.
- ``correlations.csv``: the Pearson correlations that the figures print: model, metric, n_encoders, pearson_r, relation.
- ``figure-correlation-sit-xl-2.csv``: (metric, value, fid) of every point that can be told apart in the released scatter plot for
  SiT-XL/2 at 100K steps, read off the image by circle detection: 27 points for accuracy and CDS, 26 for LDS, 25 for SRSS,
  24 for RMSC. Which point is which encoder is not marked in the plot. Accuracy in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

FOLDER = Path(__file__).parent


def tables() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "tables.csv")


def correlations() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "correlations.csv")


def scatter(metric: str) -> pd.DataFrame:
    """Points (value, fid) of one metric. Raises KeyError for a metric that the plot does not have."""
    points = pd.read_csv(FOLDER / "figure-correlation-sit-xl-2.csv")
    chosen = points[points["metric"] == metric]
    if chosen.empty:
        raise KeyError(metric)
    return chosen[["value", "fid"]].reset_index(drop=True)


@dataclass(frozen=True)
class Line:
    """Least-squares line of FID on a metric over the published points.

    Attributes:
        r, n: Pearson correlation and number of points; ``low``, ``high``: range of the metric among them.
        mean, spread: of the metric: its mean and sum of squared deviations; ``residual``: standard error of the regression.
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

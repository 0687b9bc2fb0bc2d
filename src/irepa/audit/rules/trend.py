"""Does mixing a global token into the patch tokens move a quantity? Its slope over alpha."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, needed, side
from irepa.audit.rules._ratios import Ratios
from irepa.audit.statistics import Estimate
from irepa.config.cells import split_encoder

NAMES = {"accuracy": "linear-probe accuracy (points)", "fd": "log distance"}


class Options(Ratios):
    """``quantity``: accuracy in percentage points, or the logarithm of the distance; its slope per unit of alpha."""

    quantity: Literal["accuracy", "fd"]
    transform: str = "clsmix"
    method: str = "repa"


def rule(options: Options) -> str:
    return (
        f"The slope of {NAMES[options.quantity]} over alpha, by least squares, is {side(options)}. "
        + needed(options, "values of alpha")
        + f" Two printed numbers decide only where they differ by more than {options.margin:.0%}."
    )


def alpha(encoder: str, transform: str) -> float:
    return sum(argument or 0.0 for name, argument in split_encoder(encoder)[1] if name == transform)


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    runs = evidence.of(experiment)
    runs = runs[runs["method"] == options.method]
    mixed = {split_encoder(name)[0] for name in runs["encoder"] if options.transform in name}
    points = runs[runs["encoder"].map(lambda name: split_encoder(name)[0] in mixed)]
    points = points.join(evidence.encoders.rename(columns={"records": "encoder_records"}), on="encoder")
    points = points.assign(alpha=points["encoder"].map(lambda name: alpha(name, options.transform)))
    value = np.log(points["fd"]) if options.quantity == "fd" else points["accuracy"]
    points = points.assign(value=value).dropna(subset=["value"])
    # Points of several scales or base encoders share a slope but not a level.
    level = points.groupby([points["scale"], points["encoder"].map(lambda name: split_encoder(name)[0])])["value"]
    y = (points["value"] - level.transform("mean")).to_numpy(float)
    if points["alpha"].nunique() < 2:
        raise NotTestable(f"no encoder with {options.transform} at two or more values of alpha")
    mean = pd.Series(y, index=points["alpha"].to_numpy()).groupby(level=0).mean()
    estimate, p = _slope(mean.index.to_numpy(float), mean.to_numpy(float))
    enough = len(mean) >= options.minimum
    first, last = (points.loc[points["alpha"] == a, "value"].mean() for a in (mean.index.min(), mean.index.max()))
    moved = last - first
    amount = f"distance {np.expm1(moved):+.1%}" if options.quantity == "fd" else f"accuracy {first:.1f}% {moved:+.1f}"
    shown = f"From alpha = {mean.index.min():g} to {mean.index.max():g}: {amount}."
    share = abs(np.expm1(moved)) if options.quantity == "fd" else abs(moved) / first
    by_margin = evidence.printed and not enough and share > options.margin
    return Finding(
        parameter=f"slope of {NAMES[options.quantity]} per unit of alpha",
        estimate=estimate,
        p=None if by_margin else p,
        sufficient=enough or by_margin,
        lacking="" if enough or by_margin else f"{len(mean)} values of alpha, the rule asks for {options.minimum}",
        decided=options.holds(estimate.value) if by_margin else None,
        power=f"{len(mean)} values of alpha, {points['seed'].nunique()} seed(s) each.",
        notes=[shown] + ([f"Two printed runs: decided by the fixed margin of {options.margin:.0%}, without a test."]
        if by_margin else []),
        checks=[(f"alpha = {a:g}, relative to the mean", f"{v:+.4g}", None) for a, v in mean.items()],
        records=records_of(points),
    )  # fmt: skip


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[Estimate, float]:
    fit = stats.linregress(x, y)
    if len(x) < 3:
        return Estimate(float(fit.slope), np.nan, np.nan, len(x)), 1.0
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    return Estimate(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half, len(x)), float(fit.pvalue)

"""Does mixing a global token into the patch tokens move a quantity? Its slope over the mixing weight alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.noise import Spread, by_t
from irepa.audit.rules import Finding, needed, shortage, side
from irepa.audit.rules._ratios import Ratios
from irepa.audit.statistics import Array, slope
from irepa.config.cells import split_encoder

if TYPE_CHECKING:
    import pandas as pd

NAMES = {"accuracy": "linear-probe accuracy (points)", "fd": "log distance"}


class Options(Ratios):
    """The claim is about the slope of a quantity per unit of alpha."""

    quantity: Literal["accuracy", "fd"] = Field(
        description="`accuracy`: of the linear probe, in percentage points; `fd`: the logarithm of the distance."
    )
    transform: str = Field("clsmix", description="The transform of tokens whose argument is alpha.")
    method: str = Field("repa", description="The method whose distances count.")


def rule(options: Options) -> str:
    return (
        f"The slope of {NAMES[options.quantity]} over alpha, by least squares, is {side(options)}"
        + (", with the noise between seeds. " if options.quantity == "fd" else ". ")
        + needed(options, "values of alpha")
        + f" Two printed numbers decide only where they differ by more than {options.margin:.0%}."
    )


def mixing_weight(encoder: str, transform: str) -> float:
    """Alpha of an encoder's name: 0.5 of ``dinov2-b+clsmix0.5``, 0 of ``dinov2-b``."""
    return sum(argument or 0.0 for name, argument in split_encoder(encoder)[1] if name == transform)


def base_name(encoder: str) -> str:
    """An encoder's name without its transforms."""
    return split_encoder(encoder)[0]


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    import pandas as pd

    runs = evidence.of(experiment)
    runs = runs[runs["method"] == options.method]
    mixed = {base_name(encoder) for encoder in runs["encoder"] if options.transform in encoder}
    points = runs[runs["encoder"].map(lambda encoder: base_name(encoder) in mixed)]
    points = points.join(evidence.encoders.rename(columns={"records": "encoder_records"}), on="encoder")
    points = points.assign(alpha=points["encoder"].map(lambda encoder: mixing_weight(encoder, options.transform)))
    value = points["level"] if options.quantity == "fd" else points["accuracy"]
    points = points.assign(value=value).dropna(subset=["value"])
    # Points of several scales or base encoders share a slope but not a level.
    level = points.groupby([points["scale"], points["encoder"].map(base_name)])["value"]
    y = (points["value"] - level.transform("mean")).to_numpy(float)
    if points["alpha"].nunique() < 2:
        raise NotTestable(f"no encoder with {options.transform} at two or more values of alpha")
    mean = pd.Series(y, index=points["alpha"].to_numpy()).groupby(level=0).mean()
    alphas, means = mean.index.to_numpy(float), mean.to_numpy(float)
    estimate, p = slope(alphas, means)[0], slope(alphas, means - options.threshold * alphas)[1]
    if options.quantity == "fd" and not evidence.printed:
        variance, freedom = _noise(evidence, points, alphas)
        estimate, p = by_t(estimate.value, variance, freedom, options.threshold, len(mean))
    lacking = shortage(len(mean), "value", options, " of alpha")
    first, last = (points.loc[points["alpha"] == a, "value"].mean() for a in (mean.index.min(), mean.index.max()))
    difference = last - first
    if options.quantity == "fd":
        share, amount = abs(np.expm1(difference)), f"distance {words.percent_of_log(difference)}"
    else:
        share, amount = abs(difference) / first, f"accuracy {first:.1f}% {difference:+.1f}"
    notes = [f"From alpha = {mean.index.min():g} to {mean.index.max():g}: {amount}."]
    by_margin = evidence.printed and bool(lacking) and share > options.margin
    if by_margin:
        notes.append(f"Two printed runs: decided by the fixed margin of {options.margin:.0%}, without a test.")
    return Finding(
        parameter=f"slope of {NAMES[options.quantity]} per unit of alpha",
        estimate=estimate,
        p=None if by_margin else p,
        lacking="" if by_margin else lacking,
        decided=options.holds(estimate.value) if by_margin else None,
        power=f"{len(mean)} values of alpha, {points['seed'].nunique()} seed(s) each.",
        notes=notes,
        checks=[(f"alpha = {a:g}, relative to the mean", f"{v:+.4g}", None) for a, v in mean.items()],
        premised=options.quantity == "fd",
        records=records_of(points),
    )


def _noise(evidence: Evidence, points: pd.DataFrame, alphas: Array) -> tuple[float, float]:
    """Variance of the slope over the values of alpha, by the noise between seeds, and its degrees of freedom."""
    centred = alphas - alphas.mean()
    pull = dict(zip(alphas, centred / (centred**2).sum(), strict=True))
    size = points.groupby("alpha")["fd"].transform("size")
    spreads = [evidence.noise.get(recipe, Spread()) for recipe in points["recipe"]]
    weights = points["alpha"].map(pull).to_numpy(float) / size.to_numpy(float)
    variance = float((weights**2 * [spread.variance for spread in spreads]).sum())
    return variance, min(spread.freedom for spread in spreads)

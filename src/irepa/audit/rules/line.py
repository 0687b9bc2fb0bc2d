"""Does the line through the paper's encoders say where encoders fall that the paper did not look at?

The line is that of the log distance on a property, through the networks of one experiment at the scale at which the new ones
were run, in the same source: the paper's own line is of one scale and one evaluation suite, whose levels hold nowhere
else. Its error for a new network is compared with that of the mean of the old ones, which knows nothing of the property.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.noise import Amount
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.statistics import Array
from irepa.audit.targets import NAMES, Property, targets
from irepa.config.options import Positive


class Options(Rule):
    """The claim is about how much closer the line comes than the mean does."""

    metric: Property = Field(description="The property that the line is drawn over.")
    fitted: str = Field("E1", description="The experiment through whose networks the line is drawn.")
    method: str = Field("repa", description="The method whose distances count.")
    minimum: Positive = Field(6, description="Fewest new networks that a verdict may rest on.")
    old: Positive = Field(12, description="Fewest networks that the line may be drawn through.")


def rule(options: Options) -> str:
    return (
        "For each new network: the error of the mean log distance of the old ones less the error of their line over "
        f"{NAMES[options.metric]}, without sign. The mean of these, by a t test with the error of the line in it, is "
        f"{side(options)}, with at least {options.old} old networks. " + needed(options, "new networks")
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = [scale for scale in evidence.scales_of(experiment, options.method)
              if scale in evidence.scales_of(options.fitted, options.method)]  # fmt: skip
    if not scales:
        raise NotTestable("the old and the new encoders were run at no scale together")
    old, new = (
        targets(evidence, name, scales[-1], options.method, [options.metric]) for name in (options.fitted, experiment)
    )
    old_x, old_y = old.column(options.metric), old.column("level")
    units = new.units[~new.units.index.isin(old.units.index)]
    if np.ptp(old_x) == 0 or units.empty:
        raise NotTestable("no line through the old networks, or no new network")
    x, y = (units[name].to_numpy(float) for name in (options.metric, "level"))
    closer = how_much_closer(old_x, old_y, x, y)
    found = mean_closer(old_x, old_y, x, y)
    estimate, p = found.test(options.threshold)
    return Finding(
        parameter=f"error of the mean less error of the line of log {evidence.distance} ({scales[-1]})",
        estimate=estimate,
        p=p,
        premised=True,
        lacking=shortage(len(units), "new network", options)
        or ("" if len(old_x) >= options.old else f"{len(old_x)} old networks, the rule asks for {options.old}"),
        notes=[
            f"The line is nearer for {int((closer > 0).sum())} of {len(closer)} new networks; {len(old_x)} old ones."
        ],
        checks=[
            (f"line less measured log distance of {name}", f"{value:+.3f}", None)
            for name, value in zip(units.index, line(old_x, old_y, x) - y, strict=True)
        ],
        records=records_of(old.points, new.points),
    )


def how_much_closer(old_x: Array, old_y: Array, x: Array, y: Array) -> Array:
    """Of every new place (m,): the error of the old mean less the error of the old line, without sign."""
    found: Array = np.abs(y - old_y.mean()) - np.abs(y - line(old_x, old_y, x))
    return found


def mean_closer(old_x: Array, old_y: Array, x: Array, y: Array) -> Amount:
    """The mean of these. New networks differ, and all are held against one line, whose error is that of a jackknife."""
    closer, k, m = how_much_closer(old_x, old_y, x, y), len(x), len(old_x)
    if k < 2 or m < 3:
        return Amount(float(closer.mean()), math.nan, 0.0, k)
    rest = [np.delete(np.arange(m), place) for place in range(m)]
    without = np.array([how_much_closer(old_x[kept], old_y[kept], x, y).mean() for kept in rest])
    new, old = float(closer.var(ddof=1)) / k, float(without.var()) * (m - 1)
    if new + old == 0:
        return Amount(float(closer.mean()), 0.0, k - 1, k)
    return Amount(float(closer.mean()), new + old, (new + old) ** 2 / (new**2 / (k - 1) + old**2 / (m - 1)), k)


def line(x: Array, y: Array, at: Array) -> Array:
    """The least-squares line through x and y (n,), at other places (m,)."""
    slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
    found: Array = y.mean() + slope * (at - x.mean())
    return found

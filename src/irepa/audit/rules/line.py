"""Does the line through the paper's encoders say where encoders fall that the paper did not look at?

The line is that of the log distance on a property, through the networks of one experiment at the scale at which the new ones
were run, in the same source: the paper's own line is of one scale and one evaluation suite, whose levels hold nowhere
else. Its error for a new network is compared with that of the mean of the old ones, which knows nothing of the property.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.statistics import Array, mean_effect
from irepa.audit.targets import NAMES, Property, targets
from irepa.config.options import Positive


class Options(Rule):
    """The claim is about how much closer the line comes than the mean does."""

    metric: Property = Field(description="The property that the line is drawn over.")
    fitted: str = Field("E1", description="The experiment through whose networks the line is drawn.")
    method: str = Field("repa", description="The method whose distances count.")
    minimum: Positive = Field(6, description="Fewest new networks that a verdict may rest on.")


def rule(options: Options) -> str:
    return (
        "For each new network: the error of the mean log distance of the old ones less the error of their line over "
        f"{NAMES[options.metric]}, without sign. The mean of these, by a t test, is {side(options)}. "
        + needed(options, "new networks")
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
    closer = np.abs(y - old_y.mean()) - np.abs(y - line(old_x, old_y, x))
    estimate, p = mean_effect(closer)[0], mean_effect(closer - options.threshold)[1]
    return Finding(
        parameter=f"error of the mean less error of the line of log {evidence.distance} ({scales[-1]})",
        estimate=estimate,
        p=p,
        premised=True,
        lacking=shortage(len(units), "new networks", options),
        notes=[
            f"The line is nearer for {int((closer > 0).sum())} of {len(closer)} new networks; {len(old_x)} old ones."
        ],
        checks=[
            (f"line less measured log distance of {name}", f"{value:+.3f}", None)
            for name, value in zip(units.index, line(old_x, old_y, x) - y, strict=True)
        ],
        records=records_of(old.points, new.points),
    )


def line(x: Array, y: Array, at: Array) -> Array:
    """The least-squares line through x and y (n,), at other places (m,)."""
    slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
    found: Array = y.mean() + slope * (at - x.mean())
    return found

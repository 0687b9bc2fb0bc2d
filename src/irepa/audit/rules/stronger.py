"""Does one property of the encoder go with the distance more closely than another? Two dependent correlations."""

from __future__ import annotations

import math

from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.rules.correlation import NAMES, Property, without_each
from irepa.audit.statistics import partial_correlation, pearson, strength_difference
from irepa.config.options import Positive


class Options(Rule):
    """The claim is that one property of the encoder goes with the distance more closely than another."""

    metric: Property = Field(description="The property that is claimed to be the closer one.")
    other: Property = Field(description="The property that it is compared with.")
    method: str = Field("repa", description="The method whose distances count.")
    minimum: Positive = Field(12, description="Fewest encoders that a verdict may rest on.")


def rule(options: Options) -> str:
    return (
        f"|r| of {NAMES[options.metric]} minus |r| of {NAMES[options.other]}, with the distance and over the same encoders, is "
        f"{side(options)} (paired bootstrap). " + needed(options, "encoders")
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if not scales or not {options.metric, options.other} <= set(evidence.encoders):
        raise NotTestable("no encoder with both properties and a distance")
    points = evidence.points(experiment, scales[-1], options.method)
    points = points.dropna(subset=[options.metric, options.other, "fd"])
    n = len(points)
    if n < 4:
        raise NotTestable(f"{n} encoders with both properties and a distance")
    first, second, y = (points[name].to_numpy(float) for name in (options.metric, options.other, "fd"))
    difference, p = strength_difference(first, second, y)
    name, other = NAMES[options.metric], NAMES[options.other]
    alone, beside = without_each(first, y), without_each(second, y)
    apart = [abs(r) - abs(beside[left_out]) for left_out, r in alone.items()]
    return Finding(
        parameter=f"|r| of {name} minus |r| of {other} with {evidence.distance} ({scales[-1]})",
        estimate=difference,
        p=p,
        lacking=shortage(n, "encoders", options),
        power=(
            f"Half the interval is {(difference.high - difference.low) / 2:.2f}: smaller differences than that "
            f"cannot be told from {options.threshold:g} with {n} encoders."
        ),
        notes=list(evidence.notes),
        checks=[
            (f"r of {name} with {other}", f"{float(pearson(first, second)):.2f}", n),
            (f"partial r of {name} with the distance, given {other}", _text(partial_correlation(first, y, second)), n),
            (f"partial r of {other} with the distance, given {name}", _text(partial_correlation(second, y, first)), n),
            ("difference without one encoder, range", words.span(apart), n - 1),
        ],
        records=records_of(points),
    )


def _text(r: float) -> str:
    return "undefined" if math.isnan(r) else f"{r:.2f}"

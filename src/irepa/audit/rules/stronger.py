"""Does one property of the encoder go with a lower distance more closely than another? Two dependent correlations."""

from __future__ import annotations

import math

from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.rules.correlation import without_each
from irepa.audit.statistics import partial_correlation, pearson
from irepa.audit.targets import NAMES, Property, targets
from irepa.config.options import Positive


class Options(Rule):
    """The claim is that one property of the encoder goes with a lower distance more closely than another."""

    metric: Property = Field(description="The property that is claimed to be the closer one.")
    other: Property = Field(description="The property that it is compared with.")
    method: str = Field("repa", description="The method whose distances count.")
    minimum: Positive = Field(12, description="Fewest networks that a verdict may rest on.")


def rule(options: Options) -> str:
    return (
        f"Pearson r of {NAMES[options.other]} minus r of {NAMES[options.metric]}, with the log distance behind the noise between "
        f"seeds and over the same networks, is {side(options)}: a higher value should go with a lower distance, so that signs "
        "count. " + needed(options, "networks")
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if not scales:
        raise NotTestable("no encoder with both properties and a distance")
    both = [options.metric, options.other]
    of = targets(evidence, experiment, scales[-1], options.method, both)
    found = of.correlate(both)
    n = len(of.units)
    difference = found.estimate([-1.0, 1.0], n)
    first, second, y = of.column(options.metric), of.column(options.other), of.column("level")
    name, other = NAMES[options.metric], NAMES[options.other]
    alone, beside = without_each(first, y), without_each(second, y)
    apart = [beside[left_out] - r for left_out, r in alone.items()]
    return Finding(
        parameter=f"r of {other} minus r of {name} with log {evidence.distance} ({scales[-1]})",
        estimate=difference,
        p=found.p([-1.0, 1.0], options.threshold),
        premised=True,
        reliability=of.reliability(found),
        lacking=shortage(n, "network", options),
        power=(
            f"Half the interval is {(difference.high - difference.low) / 2:.2f}: smaller differences than that "
            f"cannot be told from {options.threshold:g} with {n} networks."
        ),
        notes=[of.told(both), *evidence.notes],
        checks=[
            (f"r of {name} with {other}", f"{float(pearson(first, second)):.2f}", n),
            (f"partial r of {name} with the distance, given {other}", _text(partial_correlation(first, y, second)), n),
            (f"partial r of {other} with the distance, given {name}", _text(partial_correlation(second, y, first)), n),
            ("difference of r as they are seen, without one unit, range", words.span(apart), n - 1),
        ],
        records=records_of(of.points),
    )


def _text(r: float) -> str:
    return "undefined" if math.isnan(r) else f"{r:.2f}"
